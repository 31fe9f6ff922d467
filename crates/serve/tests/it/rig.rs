//! A server on ports of its own, and clients that say exactly what a test wants said.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use gp_index::{Cx, search::NoSearch, system_now_us};
use gp_serve::{Config, NoOperator, Operator, Rpcs, Server};
use gp_store::{Store, Writer, WriterConfig};
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, so that a test that waits for nothing fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What calls are given, over an empty store in memory.
pub(crate) fn cx() -> Cx {
    let store = Store::mem(&[]);
    let (writer, _thread) = Writer::start(store.clone(), WriterConfig::default()).unwrap();
    let names = gp_index::names::Names::new(1 << 20);
    Cx {
        window: gp_index::window::Window::over_empty(&store, &names, 1 << 20),
        graph: gp_index::graph::Graph::over_empty(&store, &names, 1 << 20),
        store,
        writer,
        identity: Arc::new(gp_index::NoIdentities),
        search: Arc::new(NoSearch),
        sitemap_url: "https://plane.test".into(),
        damage: Arc::default(),
        now_us: system_now_us,
    }
}

pub(crate) struct Rig {
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<()>,
}

impl Rig {
    pub(crate) async fn start(rpcs: Rpcs) -> Self {
        Self::start_with(rpcs, Config::default(), Arc::new(NoOperator)).await
    }

    pub(crate) async fn start_with(rpcs: Rpcs, config: Config, operator: Arc<dyn Operator>) -> Self {
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc_at, admin_at) = (grpc.local_addr().unwrap(), admin.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let server = Server::with_rpcs(cx(), operator, config, rpcs).unwrap();
        let served = tokio::spawn(server.serve(grpc, Some(admin), shutdown.clone()));
        Self { grpc: grpc_at, admin: admin_at, shutdown, served }
    }

    pub(crate) async fn h2(&self) -> Client {
        Client::h2(self.grpc).await
    }

    pub(crate) async fn h1(&self) -> Client {
        Client::h1(self.grpc).await
    }

    /// A connection of each kind.
    pub(crate) async fn both(&self) -> [Client; 2] {
        [self.h1().await, self.h2().await]
    }

    /// A request to the admin port.
    pub(crate) async fn admin(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> (u16, HeaderMap, String) {
        let mut client = Client::h1(self.admin).await;
        let mut request = Request::builder().method(method).uri(path).header("host", self.admin.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = client.send(request.body(whole(body)).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.admin(Method::GET, path, &[], "").await;
        (status, body)
    }

    /// The value of a series in `/metrics`.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let (status, page) = self.get("/metrics").await;
        assert_eq!(status, 200);
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a series has a value.
    pub(crate) async fn until_metric(&self, series: &str, value: f64) {
        let reached = timeout(PATIENCE, async {
            while self.metric(series).await != Some(value) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if reached.await.is_err() {
            panic!("{series} is {:?} and not {value}", self.metric(series).await);
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.served).await.unwrap().unwrap();
    }
}

pub(crate) type Sent = BoxBody<Bytes, std::io::Error>;

/// A body of one piece, or none.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Sent {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// One connection.
pub(crate) struct Client {
    pub(crate) version: Version,
    sender: Sender,
    pub(crate) connection: JoinHandle<()>,
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    // Headers and body are two writes; the second must not wait until the first is acknowledged.
    stream.set_nodelay(true).unwrap();
    stream
}

enum Sender {
    H1(conn::http1::SendRequest<Sent>),
    H2(conn::http2::SendRequest<Sent>),
}

impl Client {
    pub(crate) async fn h1(address: SocketAddr) -> Self {
        let stream = connect(address).await;
        let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async { drop(connection.await) });
        Self { version: Version::HTTP_11, sender: Sender::H1(sender), connection }
    }

    pub(crate) async fn h2(address: SocketAddr) -> Self {
        let stream = connect(address).await;
        let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async { drop(connection.await) });
        Self { version: Version::HTTP_2, sender: Sender::H2(sender), connection }
    }

    pub(crate) async fn send(&mut self, request: Request<Sent>) -> Result<Response<Incoming>, hyper::Error> {
        let sent = async {
            match &mut self.sender {
                Sender::H1(sender) => sender.send_request(request).await,
                Sender::H2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        timeout(PATIENCE, sent).await.expect("the server answers")
    }

    /// A request for a method, with any bytes as its body.
    pub(crate) fn request(&self, method: &str, headers: &[(&str, &str)], body: Sent) -> Request<Sent> {
        let path = format!("/bsky.Service/{method}");
        let uri = if self.version == Version::HTTP_2 { format!("http://plane{path}") } else { path };
        let mut request = Request::builder().method(Method::POST).uri(uri).header("te", "trailers");
        if self.version != Version::HTTP_2 {
            request = request.header("host", "plane");
        }
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc+proto");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).unwrap()
    }

    /// A call with any bytes as its body.
    pub(crate) async fn raw(&mut self, method: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let request = self.request(method, headers, whole(body));
        Reply::of(self.send(request).await.unwrap()).await
    }

    /// A call as a well-behaved client makes it.
    pub(crate) async fn call(&mut self, method: &str, message: &impl Message) -> Reply {
        self.raw(method, &[], framed(message)).await
    }

    /// A call whose body comes in pieces.
    pub(crate) async fn in_pieces(&mut self, method: &str, pieces: Vec<Bytes>) -> Reply {
        let stream = futures::stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(piece))));
        let request = self.request(method, &[], StreamBody::new(stream).boxed());
        Reply::of(self.send(request).await.unwrap()).await
    }
}

/// A message behind its prefix.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) http: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Reply {
    pub(crate) async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let collected = timeout(PATIENCE, body.collect()).await.expect("the answer ends").expect("the answer is whole");
        let trailers = collected.trailers().cloned();
        Self { http: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers }
    }

    /// A header of the status, from the trailers or, where there is no body, the headers.
    pub(crate) fn status(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref().unwrap_or(&self.headers).get(name).map(|value| value.to_str().unwrap())
    }

    /// The status, as gRPC says a client has to find it.
    pub(crate) fn code(&self) -> u32 {
        assert_eq!(self.http, 200, "{self:?}");
        self.status("grpc-status").unwrap_or_else(|| panic!("no status in {self:?}")).parse().unwrap()
    }

    /// The message of a success.
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.code(), 0, "{:?}", self.status("grpc-message"));
        assert_eq!(self.body[0], 0);
        assert_eq!(u32::from_be_bytes(self.body[1..5].try_into().unwrap()) as usize, self.body.len() - 5);
        M::decode(self.body.slice(5..)).unwrap()
    }
}

/// Tells when it is dropped.
pub(crate) struct TellDrop(pub tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for TellDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// A future that never ends.
pub(crate) struct Never;

impl Future for Never {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
