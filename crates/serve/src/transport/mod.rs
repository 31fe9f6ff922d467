//! Connections: how they are accepted, watched, and let go. What is said on them is the codec's ([`grpc`]).
//!
//! HTTP/2 without TLS and HTTP/1.1 share a port; the first bytes of a connection tell which it is.

pub(crate) mod body;
pub(crate) mod grpc;
mod inline;
mod watched;

use std::{
    convert::Infallible,
    error::Error,
    future::{Future as _, poll_fn},
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{inline::Inline, watched::Watched};
use crate::Config;

/// How long accepting rests after the machine had no room for another connection. Without a rest it would try again
/// at once, and take a processor for it.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Bytes that a peer may send on one HTTP/2 stream, and on one connection, before we have read them.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Largest HTTP/2 frame that a peer may send.
const FRAME_BYTES_MAX: u32 = 64 << 10;
/// Bytes of answers that may wait in one HTTP/2 stream.
const STREAM_SEND_BYTES_MAX: usize = 1 << 20;
/// Streams that a peer may open and reset before we have looked at them. The AppView gives up on some calls after
/// 100 ms, and under load on many of them at once; with the usual twenty it would lose its connection for it.
const RESETS_PENDING_MAX: usize = 4_096;
/// Headers of one HTTP/1.1 request.
const HTTP1_HEADERS_MAX: usize = 100;

/// Figures about the connections of one port.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: AtomicU64,
    accepted: AtomicU64,
    errors: AtomicU64,
}

impl Connections {
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }
}

/// A connection that counts as open.
struct Open(Arc<Connections>);

impl Open {
    fn new(connections: &Arc<Connections>) -> Self {
        connections.open.fetch_add(1, Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A port.
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) connections: Arc<Connections>,
    pub(crate) connections_max: usize,
    /// When cancelled, no connection is accepted any more, and peers are told to go.
    pub(crate) drain: CancellationToken,
    /// When cancelled, what is still open is cut off.
    pub(crate) cut: CancellationToken,
}

impl Port {
    /// Serves connections until `drain` is cancelled and all of them are gone.
    pub(crate) async fn serve<S, B>(self, config: &Config, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let room = Arc::new(Semaphore::new(self.connections_max));
        // Each has room, so there are no more of them than `connections_max`.
        let mut open_ones = JoinSet::new();
        let first_byte = Duration::from_millis(config.first_byte_ms_max);
        let write_stall = Duration::from_millis(config.write_stall_ms_max);
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.drain.cancelled() => break,
                Some(_) = open_ones.join_next() => continue,
                accepted = accept(&self.listener, &room) => accepted,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    self.connections.errors.fetch_add(1, Relaxed);
                    // A peer that left before it was accepted is its own affair. Anything else is ours: no
                    // descriptors, no memory.
                    if !matches!(
                        e.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
                    ) {
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                    continue;
                }
            };
            self.connections.accepted.fetch_add(1, Relaxed);
            let open = Open::new(&self.connections);
            // Answers are written whole; waiting for more to send along only delays them.
            let _ = stream.set_nodelay(true);
            let io = TokioIo::new(Watched::new(stream, first_byte, write_stall));
            let inline = Inline::default();
            let (builder, service) = (builder(config, inline.clone()), service.clone());
            let drain = self.drain.child_token();
            open_ones.spawn(async move {
                serve_one(&builder, &inline, io, service, &drain).await;
                drop((open, permit));
            });
        }
        drop(self.listener);
        let gone = async { while open_ones.join_next().await.is_some() {} };
        // What is still open at the cut goes with the set.
        let _ = self.cut.run_until_cancelled(gone).await;
        open_ones.shutdown().await;
    }
}

/// Accepts a connection as soon as there is room for one more.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn serve_one<S, B>(
    builder: &auto::Builder<Inline>,
    inline: &Inline,
    io: TokioIo<Watched<TcpStream>>,
    service: S,
    drain: &CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let mut drained = std::pin::pin!(drain.cancelled());
    let (mut is_told, mut is_leaving) = (false, false);
    let ended = poll_fn(|cx| {
        // Asked once, it wakes this task when the time has come. To ask at each of its turns would cost every call.
        if !is_leaving && (!is_told || drain.is_cancelled()) {
            is_told = true;
            is_leaving = drained.as_mut().poll(cx).is_ready();
            if is_leaving {
                connection.as_mut().graceful_shutdown();
            }
        }
        inline.turn(connection.as_mut(), cx)
    });
    if let Err(e) = ended.await {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

fn builder(config: &Config, inline: Inline) -> auto::Builder<Inline> {
    let mut builder = auto::Builder::new(inline);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.idle_ms_max))
        .max_headers(HTTP1_HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(STREAM_SEND_BYTES_MAX)
        .max_concurrent_streams(config.streams_per_connection_max)
        .max_header_list_size(config.header_bytes_max)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .keep_alive_interval(Duration::from_millis(config.ping_ms))
        .keep_alive_timeout(Duration::from_millis(config.ping_ms))
        .auto_date_header(false);
    builder
}
