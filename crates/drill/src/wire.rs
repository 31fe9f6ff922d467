//! One connection to a plane, and one call on it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, time::timeout};

/// How long one GET of the admin port may take.
const GET_MAX: Duration = Duration::from_secs(10);
/// What a client may have unread: more than the largest answer, so that its window never decides how long one takes.
const WINDOW_BYTES: u32 = 64 << 20;

/// How a call ended.
#[derive(Debug)]
pub struct Reply {
    /// The code of gRPC.
    pub code: u32,
    /// The response message; empty unless the code is 0.
    pub message: Bytes,
    /// After how many milliseconds to come back, where the server says.
    pub pushback_ms: Option<i64>,
}

/// A connection that speaks HTTP/2. Clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: conn::http2::SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens, or there is no port left.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        Self::with_window(address, WINDOW_BYTES).await
    }

    /// Connects as a client that has room for so many bytes that it has not read.
    ///
    /// # Errors
    ///
    /// As [`Connection::open`].
    pub async fn with_window(address: SocketAddr, bytes: u32) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        // Headers and body are two writes; the second must not wait until the first is acknowledged.
        stream.set_nodelay(true)?;
        let (sender, connection) = conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(bytes)
            .initial_connection_window_size(bytes)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender })
    }

    /// Whether it still stands.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits for the headers of its answer.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn begin(&mut self, call: &Call<'_>) -> Result<Response<Incoming>> {
        let mut request = Request::post(format!("http://plane{}", call.path))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if !call.caller.is_empty() {
            request = request.header("x-atlantis-caller", call.caller);
        }
        if let Some(deadline) = call.deadline {
            request = request.header("grpc-timeout", deadline);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(call.frame.clone()))?).await?)
    }

    /// Makes a call.
    ///
    /// # Errors
    ///
    /// The connection broke, or the answer is no gRPC.
    pub async fn call(&mut self, call: &Call<'_>) -> Result<Reply> {
        read(self.begin(call).await?).await
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// `/bsky.Service/` and the name of the method.
    pub path: &'a str,
    /// Who calls; empty: nobody says.
    pub caller: &'a str,
    /// The request, framed.
    pub frame: Bytes,
    /// What `grpc-timeout` says, if it does.
    pub deadline: Option<&'a str>,
}

/// Reads an answer to its end.
///
/// # Errors
///
/// It broke off, or is no gRPC.
pub async fn read(response: Response<Incoming>) -> Result<Reply> {
    let (head, mut body) = response.into_parts();
    let mut trailers = HeaderMap::new();
    let mut pieces: Vec<Bytes> = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(piece) => pieces.push(piece),
            Err(frame) => {
                if let Ok(found) = frame.into_trailers() {
                    trailers = found;
                }
            }
        }
    }
    let of = |name| trailers.get(name).or_else(|| head.headers.get(name)).and_then(|it| it.to_str().ok());
    let code = of("grpc-status").and_then(|it| it.parse().ok()).context("an answer without a status of gRPC")?;
    let pushback_ms = of("grpc-retry-pushback-ms").and_then(|it| it.parse().ok());
    let message = match <[Bytes; 1]>::try_from(pieces) {
        Ok([only]) => only,
        Err(pieces) => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    };
    let message = if message.len() >= PREFIX { message.slice(PREFIX..) } else { Bytes::new() };
    Ok(Reply { code, message, pushback_ms })
}

/// Bytes in front of a message.
const PREFIX: usize = 5;

/// A message as gRPC sends it.
pub fn framed(message: &impl Message) -> Bytes {
    frame(&message.encode_to_vec())
}

/// An encoded message as gRPC sends it.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + PREFIX);
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}

/// One GET over HTTP/1.1: status and body.
///
/// # Errors
///
/// No answer in time.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, Bytes)> {
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { drop(connection.await) });
        let request =
            Request::get(path).header("host", "plane").header("connection", "close").body(Full::<Bytes>::default())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    timeout(GET_MAX, asked).await.with_context(|| format!("no answer from http://{address}{path}"))?
}

/// What `/metrics` says, by series.
#[derive(Clone, Debug, Default)]
pub struct Metrics(std::collections::HashMap<String, f64>);

impl Metrics {
    /// Asks for them.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn of(admin: SocketAddr) -> Result<Self> {
        let (_, page) = get(admin, "/metrics").await?;
        Ok(Self::read(&String::from_utf8_lossy(&page)))
    }

    fn read(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        // An exemplar may follow the value.
        let lines = lines.map(|line| line.split(" # ").next().unwrap_or(line));
        Self(
            lines
                .filter_map(|line| line.rsplit_once(' '))
                .filter_map(|(s, v)| Some((s.to_owned(), v.parse().ok()?)))
                .collect(),
        )
    }

    /// The sum of all series whose name and labels begin so.
    pub fn sum(&self, beginning: &str) -> f64 {
        self.0.iter().filter(|(series, _)| series.starts_with(beginning)).map(|(_, value)| value).sum()
    }

    /// The sum of the series of one metric that have a label.
    pub fn with(&self, name: &str, label: &str) -> f64 {
        let of = |series: &String| {
            series.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(label))
        };
        self.0.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_by_their_beginning_and_by_a_label() {
        let page =
            "# TYPE x counter\nx_total{a=\"1\",b=\"2\"} 3\nx_total{a=\"2\",b=\"2\"} 4 # {trace_id=\"f\"} 1\nxy 7\n";
        let metrics = Metrics::read(page);
        assert_eq!((metrics.sum("x_total{"), metrics.sum("x"), metrics.len()), (7.0, 14.0, 3));
        assert_eq!(metrics.with("x_total", "a=\"2\""), 4.0);
    }

    #[test]
    fn a_frame_has_its_length_in_front() {
        assert_eq!(frame(b"abc")[..], *b"\0\0\0\0\x03abc");
    }
}
