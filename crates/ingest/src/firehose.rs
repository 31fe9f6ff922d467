//! The stream of a relay: connect, read, reconnect, for ever.
//!
//! Every end of a connection leads to a new one, whatever the reason that is given for it. Reading stops while there is
//! no room for more events; the relay then waits, or lets us come back to where we were.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::{
    RelayStart,
    decode::{self, Envelope},
    drop::DropReason,
    flight::Flight,
    order::{Event, Lanes},
    progress::Tracker,
    shared::Shared,
    socket::{Backoff, Read, Socket},
};

/// A connection that has held this long was a success even if it brought nothing.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// One relay that is followed.
pub(crate) struct Relay {
    /// Base URL, `ws` or `wss`.
    pub(crate) url: String,
    pub(crate) tracker: Arc<Tracker>,
    connected: AtomicBool,
    state: Mutex<State>,
    frames_total: AtomicU64,
    bytes_total: AtomicU64,
    connections_total: AtomicU64,
    gaps_total: AtomicU64,
    /// The relay has said that our position is ahead of it. Nothing is read until somebody decides.
    ahead: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Why the last connection ended or could not be made.
    error: Option<String>,
    /// Positions known to be lost: after the first, before the second.
    last_gap: Option<(i64, i64)>,
    /// The relay has said that our position is older than what it retains; the next event tells how far the gap goes.
    gap_after: Option<i64>,
}

/// What to do after a connection.
enum Next {
    Reconnect,
    Stop,
}

impl Relay {
    pub(crate) fn source(url: &str) -> String {
        format!("firehose:{url}")
    }

    pub(crate) fn new(url: String, stored: Option<i64>) -> Arc<Self> {
        Arc::new(Self {
            tracker: Tracker::new(Self::source(&url), stored),
            url,
            connected: AtomicBool::new(false),
            state: Mutex::default(),
            frames_total: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            gaps_total: AtomicU64::new(0),
            ahead: AtomicBool::new(false),
        })
    }

    /// Follows the relay until stopped.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>, lanes: Arc<Lanes>) {
        let mut backoff = Backoff::default();
        while shared.may_read().await {
            let reading = shared.readers.begin();
            let url = self.address(shared.config.relay_start);
            let opened = tokio::select! {
                opened = Socket::open(&url, shared.config.frame_bytes_max) => opened,
                () = shared.must_not_read() => continue,
            };
            match opened {
                Ok(socket) => {
                    self.connections_total.fetch_add(1, Relaxed);
                    self.connected.store(true, Relaxed);
                    let since = Instant::now();
                    let read_before = self.frames_total.load(Relaxed);
                    let next = self.read(socket, &shared, &lanes).await;
                    self.connected.store(false, Relaxed);
                    if matches!(next, Next::Stop) {
                        continue;
                    }
                    if !self.ahead.load(Relaxed)
                        && (self.frames_total.load(Relaxed) > read_before || since.elapsed() >= SETTLED_AFTER)
                    {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    if backoff.failures() == 0 {
                        tracing::warn!(relay = self.url, error, "not connected");
                    }
                    self.state.lock().error = Some(error);
                }
            }
            drop(reading);
            let delay = backoff.delay();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = shared.must_not_read() => {}
            }
        }
    }

    fn address(&self, start: RelayStart) -> String {
        let base = format!("{}/xrpc/com.atproto.sync.subscribeRepos", self.url);
        match (self.tracker.read_to(), start) {
            (Some(seq), _) => format!("{base}?cursor={seq}"),
            (None, RelayStart::Oldest) => format!("{base}?cursor=0"),
            (None, RelayStart::Now) => base,
        }
    }

    async fn read(&self, mut socket: Socket, shared: &Arc<Shared>, lanes: &Lanes) -> Next {
        let stop = shared.must_not_read();
        tokio::pin!(stop);
        loop {
            let read = tokio::select! {
                read = socket.next() => read,
                () = &mut stop => {
                    socket.close().await;
                    return Next::Stop;
                }
            };
            match read {
                Read::Frame(frame) => {
                    let stopped = tokio::select! {
                        ended = self.frame(frame, shared, lanes) => match ended {
                            true => Some(Next::Reconnect),
                            false => None,
                        },
                        () = &mut stop => Some(Next::Stop),
                    };
                    if let Some(next) = stopped {
                        socket.close().await;
                        return next;
                    }
                }
                Read::TooLarge(bytes) => {
                    // Its position is inside what was thrown away; the next event moves on past it.
                    shared.drops.lost(DropReason::FrameTooLarge);
                    tracing::warn!(relay = self.url, bytes, "a frame was too large");
                }
                Read::FarTooLarge => {
                    shared.drops.lost(DropReason::FrameTooLarge);
                    self.step_over();
                    self.state.lock().error = Some("a frame far too large was stepped over".into());
                    return Next::Reconnect;
                }
                Read::Closed(why) => {
                    tracing::info!(relay = self.url, why, "connection ended");
                    self.state.lock().error = Some(why);
                    return Next::Reconnect;
                }
            }
        }
    }

    /// Takes one frame. Returns whether the connection is of no more use. Dropped half-way, the frame comes again
    /// over the next connection, because only the last step moves the position.
    async fn frame(&self, frame: Bytes, shared: &Arc<Shared>, lanes: &Lanes) -> bool {
        let place = shared.room.place(frame.len()).await;
        let Some(place) = place else { return true };
        self.frames_total.fetch_add(1, Relaxed);
        self.bytes_total.fetch_add(frame.len() as u64, Relaxed);
        match decode::envelope(&frame, (shared.cx.now_us)()) {
            Envelope::Event(head) => {
                self.close_gap(head.seq);
                self.ahead.store(false, Relaxed);
                let flight = Flight::begin(&self.tracker, head.seq, head.time_us, place, &shared.pending);
                lanes.send(Event {
                    did: head.did,
                    time_us: head.time_us,
                    body: head.body,
                    frame,
                    flight,
                    doubted: false,
                });
                false
            }
            Envelope::Drop { reason, seq, detail } => {
                shared.drops.lost(reason);
                tracing::debug!(relay = self.url, reason = reason.name(), seq, detail, "frame dropped");
                if let Some(seq) = seq {
                    self.close_gap(seq);
                    Flight::begin(&self.tracker, seq, (shared.cx.now_us)(), place, &shared.pending).done();
                }
                false
            }
            Envelope::Info(name) => {
                if name == "OutdatedCursor" {
                    let after = self.tracker.read_to();
                    // Asked for everything there is, the oldest event is no gap.
                    if let Some(after) = after.filter(|after| *after > 0) {
                        self.gaps_total.fetch_add(1, Relaxed);
                        self.state.lock().gap_after = Some(after);
                        tracing::warn!(
                            relay = self.url,
                            after,
                            "events were lost: the relay no longer has them; repos that miss one are read whole"
                        );
                    }
                }
                false
            }
            Envelope::Error { name, message } => {
                self.error_frame(&name, &message, shared);
                true
            }
        }
    }

    fn error_frame(&self, name: &str, message: &str, shared: &Shared) {
        tracing::warn!(relay = self.url, name, message, "the relay ends the stream");
        self.state.lock().error = Some(format!("{name}: {message}"));
        if name != "FutureCursor" {
            return;
        }
        if shared.config.restart_on_future_cursor {
            let after = self.tracker.read_to().unwrap_or(0);
            self.gaps_total.fetch_add(1, Relaxed);
            self.state.lock().last_gap = Some((after, 0));
            self.tracker.forget();
        } else {
            self.ahead.store(true, Relaxed);
        }
    }

    fn close_gap(&self, seq: i64) {
        let mut state = self.state.lock();
        if let Some(after) = state.gap_after.take() {
            state.last_gap = Some((after, seq));
        }
    }

    /// Moves the position by one, so that a frame that cannot be read does not come again for ever.
    fn step_over(&self) {
        if let Some(ticket) = self.tracker.read_to().and_then(|seq| self.tracker.begin(seq + 1, 0)) {
            self.tracker.end(ticket);
        }
    }

    /// Whether the relay is being read.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Time since the last applied event happened, in microseconds; none before the first.
    pub(crate) fn behind_us(&self, now_us: i64) -> Option<i64> {
        match self.tracker.time_us() {
            // Everything that was read is applied, and the relay has nothing more to say.
            _ if self.is_connected() && self.tracker.in_flight() == 0 => Some(0),
            0 => None,
            time_us => Some((now_us - time_us).max(0)),
        }
    }

    /// What can be said of this relay.
    pub(crate) fn status(&self, running: bool, now_us: i64) -> Value {
        let seq = self.tracker.seq();
        let connected = self.is_connected();
        let in_flight = self.tracker.in_flight();
        let behind_us = self.behind_us(now_us);
        let state = self.state.lock();
        let word = match () {
            () if self.ahead.load(Relaxed) => "future_cursor",
            () if connected => "connected",
            () if running => "connecting",
            () => "stopped",
        };
        json!({
            "url": self.url,
            "running": running,
            "seq": seq,
            "lag_seconds": behind_us.map(|us| us as f64 / 1e6),
            "state": word,
            "read_seq": self.tracker.read_to(),
            "in_flight": in_flight,
            "frames": self.frames_total.load(Relaxed),
            "bytes": self.bytes_total.load(Relaxed),
            "connections": self.connections_total.load(Relaxed),
            "gaps": self.gaps_total.load(Relaxed),
            "last_gap": state.last_gap.map(|(after, before)| json!({"after": after, "before": before})),
            "last_error": state.error,
        })
    }
}
