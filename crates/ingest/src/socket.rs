//! One websocket to an upstream stream: dialling, patience between attempts, and telling a quiet peer from a dead one.
//!
//! Used for repos and for labels alike. What the frames mean is not known here.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

/// A peer that has said nothing for this long is asked whether it is there.
const ASK_AFTER: Duration = Duration::from_secs(10);

/// A peer that has said nothing for this long, not even that it is there, is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Longest time for making a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Largest message that is read at all. Those above the bound on frames are read and thrown away, so that the stream
/// goes on behind them.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Attempts during which the delay stays short: an upstream that is just starting is found at once.
const QUICK_ATTEMPTS: u32 = 10;
const QUICK_DELAY: Duration = Duration::from_millis(80);
const DELAY_MAX: Duration = Duration::from_secs(30);

/// An open connection.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    frame_bytes_max: usize,
}

/// What came over the connection.
#[derive(Debug)]
pub(crate) enum Read {
    /// A binary message.
    Frame(Bytes),
    /// A binary message above the bound, thrown away.
    TooLarge(usize),
    /// A message above all bounds. The connection is of no use any more, and the same message would come again.
    FarTooLarge,
    /// The connection is over, for this reason.
    Closed(String),
}

impl Socket {
    /// Dials. The reason of a failure is for a person.
    pub(crate) async fn open(url: &str, frame_bytes_max: usize) -> Result<Self, String> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .read_buffer_size(256 << 10);
        match timeout(CONNECT_MAX, connect_async_with_config(url, Some(config), true)).await {
            Ok(Ok((stream, _))) => Ok(Self { stream, frame_bytes_max }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".into()),
        }
    }

    /// Waits for the next message. Time spent elsewhere between two calls does not count as the peer's silence.
    pub(crate) async fn next(&mut self) -> Read {
        let mut heard = Instant::now();
        let mut asked = false;
        loop {
            let deadline = heard + if asked { SILENCE_MAX } else { ASK_AFTER };
            let message = match timeout_at(deadline, self.stream.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(Error::Capacity(_)))) => return Read::FarTooLarge,
                Ok(Some(Err(error))) => return Read::Closed(error.to_string()),
                Ok(None) => return Read::Closed("connection closed".into()),
                Err(_) if asked => return Read::Closed("nothing heard in 30 s".into()),
                Err(_) => {
                    asked = true;
                    match timeout(ASK_AFTER, self.stream.send(Message::Ping(Bytes::new()))).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => return Read::Closed(error.to_string()),
                        Err(_) => return Read::Closed("the peer takes nothing".into()),
                    }
                }
            };
            (heard, asked) = (Instant::now(), false);
            match message {
                Message::Binary(frame) if frame.len() > self.frame_bytes_max => return Read::TooLarge(frame.len()),
                Message::Binary(frame) => return Read::Frame(frame),
                Message::Text(_) => return Read::Closed("a text frame, which the protocol does not have".into()),
                Message::Close(Some(close)) => {
                    return Read::Closed(format!("closed with code {}: {}", close.code, close.reason));
                }
                Message::Close(None) => return Read::Closed("closed".into()),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Says goodbye, without waiting long for an answer.
    pub(crate) async fn close(mut self) {
        let _ = timeout(Duration::from_millis(200), self.stream.close(None)).await;
    }
}

/// Patience between attempts: short at first, growing only while they keep failing.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// An attempt has led to something.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// An attempt has failed: how long to wait before the next one.
    pub(crate) fn delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let grown = self.failures.saturating_sub(QUICK_ATTEMPTS).min(20);
        QUICK_DELAY.mul_f64(1.5f64.powi(grown as i32)).min(DELAY_MAX).mul_f64(jitter())
    }

    /// Attempts failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// A factor of 0.75 to 1.25, so that many clients do not come back at the same moment.
pub(crate) fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    0.75 + (random >> 11) as f64 / (1u64 << 53) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempts_follow_within_100_ms_and_later_ones_within_40_s() {
        let mut backoff = Backoff::default();
        for _ in 0..QUICK_ATTEMPTS {
            assert!(backoff.delay() <= Duration::from_millis(100));
        }
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            last = backoff.delay();
        }
        assert!(last > Duration::from_secs(20) && last < Duration::from_secs(40), "{last:?}");
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(100));
    }

    #[test]
    fn jitter_stays_in_its_range_and_varies() {
        let all: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(all.iter().all(|j| (0.75..1.25).contains(j)));
        assert!(all.iter().any(|j| *j < 0.95) && all.iter().any(|j| *j > 1.05));
    }
}
