//! The twin: a server that does for `GetPostRecords` what the program of the outage did. Every one of its choices looks
//! harmless while calls are small.
//!
//! - It starts a task for each key, without a bound.
//! - It keeps a few idle connections to memcached and opens a fresh one when there is none; what is too many afterwards
//!   is closed, and its port waits in TIME_WAIT.
//! - What goes wrong with one key fails the call, and writes a line of log, and waits until the line is written.
//! - It asks nobody for leave to begin, and nothing has a deadline.
//!
//! It is here to fail. A check that it passes shows nothing.

use std::{convert::Infallible, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use gp_proto as proto;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::wire;

/// What the twin is told.
#[derive(Clone, Debug)]
pub struct Twin {
    /// Where it serves.
    pub listen: SocketAddr,
    /// Where it says that it is ready.
    pub admin: SocketAddr,
    /// Its memcached.
    pub memcached: SocketAddr,
    /// Idle connections that it keeps. The program of the outage kept 1,000 of 28,232 ports.
    pub idle_max: usize,
    /// How long it takes to read what memcached does not have.
    pub store_ms: u64,
}

/// The name under which a value is in memcached.
pub fn key_of(uri: &str) -> String {
    uri.trim_start_matches("at://").to_owned()
}

/// Serves until the process is killed.
///
/// # Errors
///
/// It cannot listen.
pub async fn serve(twin: Twin) -> Result<()> {
    let listener = TcpListener::bind(twin.listen).await.context("--listen")?;
    let admin = TcpListener::bind(twin.admin).await.context("--admin-listen")?;
    tokio::spawn(say_ready(admin));
    let shared = Arc::new(Shared { twin, idle: Mutex::default() });
    let builder = Arc::new(builder());
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let (shared, builder) = (Arc::clone(&shared), Arc::clone(&builder));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(shared, request).await) }
            });
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// What speaks HTTP.
pub(crate) fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(100_000).initial_stream_window_size(4 << 20);
    builder
}

/// Answers every request with 200.
pub(crate) async fn say_ready(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        });
    }
}

struct Shared {
    twin: Twin,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

/// The body of an answer.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let asked = match request.into_body().collect().await {
        Ok(body) => proto::GetPostRecordsRequest::decode(body.to_bytes().get(5..).unwrap_or_default()),
        Err(_) => return ended("13", None),
    };
    let Ok(asked) = asked else { return ended("3", None) };
    // A task for each key: what all of this is about.
    let tasks: Vec<_> = asked.uris.into_iter().map(|uri| tokio::spawn(look_up(Arc::clone(&shared), uri))).collect();
    let mut response = proto::GetPostRecordsResponse::default();
    let mut failed = false;
    for task in tasks {
        match task.await {
            Ok(Ok(record)) => response.records.push(record),
            _ => failed = true,
        }
    }
    if failed { ended("13", None) } else { ended("0", Some(wire::framed(&response))) }
}

async fn look_up(shared: Arc<Shared>, uri: String) -> Result<proto::Record> {
    let key = key_of(&uri);
    let found = shared.get(&key).await.inspect_err(|e| complain(&key, e))?;
    if let Some(value) = found {
        return Ok(proto::Record { record: value.into(), cid: "c".into(), ..Default::default() });
    }
    tokio::time::sleep(Duration::from_millis(shared.twin.store_ms)).await;
    let value = format!("{{\"text\":\"{uri}\"}}").into_bytes();
    shared.set(&key, &value).await.inspect_err(|e| complain(&key, e))?;
    Ok(proto::Record { record: value.into(), cid: "c".into(), ..Default::default() })
}

/// A line of log, written before anything goes on.
fn complain(key: &str, why: &anyhow::Error) {
    let _ = writeln!(std::io::stderr().lock(), "level=error msg=\"cache request failed\" key={key} err=\"{why:#}\"");
}

impl Shared {
    async fn connection(&self) -> Result<BufReader<TcpStream>> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(BufReader::new(TcpStream::connect(self.twin.memcached).await?)),
        }
    }

    fn put_back(&self, connection: BufReader<TcpStream>) {
        let mut idle = self.idle.lock();
        if idle.len() < self.twin.idle_max {
            idle.push(connection);
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let mut connection = self.connection().await?;
        connection.get_mut().write_all(format!("get {key}\r\n").as_bytes()).await?;
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let value = match line.trim_end().rsplit_once(' ') {
            None if line.starts_with("END") => None,
            Some((head, bytes)) if head.starts_with("VALUE") => {
                let mut value = vec![0; bytes.parse::<usize>()? + "\r\nEND\r\n".len()];
                connection.read_exact(&mut value).await?;
                value.truncate(value.len() - "\r\nEND\r\n".len());
                Some(value)
            }
            _ => anyhow::bail!("memcached says {line:?}"),
        };
        self.put_back(connection);
        Ok(value)
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut connection = self.connection().await?;
        let mut out = format!("set {key} 0 0 {}\r\n", value.len()).into_bytes();
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
        connection.get_mut().write_all(&out).await?;
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        anyhow::ensure!(line.starts_with("STORED"), "memcached says {line:?}");
        self.put_back(connection);
        Ok(())
    }
}

/// An answer with a status and perhaps a framed message.
pub(crate) fn ended(status: &'static str, message: Option<Bytes>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body: Body = match message {
        None => Full::default().boxed(),
        Some(message) => {
            let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers.clone()))];
            StreamBody::new(futures::stream::iter(frames)).boxed()
        }
    };
    let mut response = Response::new(body);
    if status != "0" {
        *response.headers_mut() = trailers;
    }
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
