//! The body of a response: one message behind its prefix, and the trailers that say how the call ended.
//!
//! A small answer is one frame of data. A large one is handed over piece by piece, as its caller reads it, and what is
//! left of it is dropped when its time is over: an answer that nobody reads must not stay in memory.

use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{budget::Held, call::Answered, metrics::Calls};

/// Bytes in front of a message: whether it is compressed, and its length.
pub(crate) const PREFIX_BYTES: usize = 5;
/// Bytes handed over at a time.
const PIECE_BYTES: usize = 128 << 10;

/// A piece of data, with the prefix in front of the first one.
#[derive(Debug)]
pub(crate) struct Piece {
    prefix: [u8; PREFIX_BYTES],
    /// Where in the prefix it begins; [`PREFIX_BYTES`] where there is none.
    at: usize,
    bytes: Bytes,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        PREFIX_BYTES - self.at + self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.at < PREFIX_BYTES { &self.prefix[self.at..] } else { &self.bytes }
    }

    fn advance(&mut self, count: usize) {
        let of_prefix = count.min(PREFIX_BYTES - self.at);
        self.at += of_prefix;
        self.bytes.advance(count - of_prefix);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for chunk in [&self.prefix[self.at..], &self.bytes] {
            if !chunk.is_empty() && filled < slices.len() {
                slices[filled] = IoSlice::new(chunk);
                filled += 1;
            }
        }
        filled
    }
}

/// The body of a response.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    prefix: Option<[u8; PREFIX_BYTES]>,
    rest: Rest,
    trailers: Option<HeaderMap>,
}

#[derive(Debug)]
enum Rest {
    None,
    /// All of it at once.
    Small(Bytes, #[allow(dead_code, reason = "given back when dropped")] Held),
    /// Piece by piece, while its time lasts. The sender, dropped, tells that the body is gone.
    Large(Arc<Mutex<Option<Large>>>, #[allow(dead_code, reason = "tells by being dropped")] oneshot::Sender<()>),
}

#[derive(Debug)]
struct Large {
    parts: VecDeque<Bytes>,
    #[allow(dead_code, reason = "given back when dropped")]
    held: Held,
}

/// The caller has not read its answer in time.
#[derive(Debug)]
pub(crate) struct NotRead;

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer was not read in time")
    }
}

impl std::error::Error for NotRead {}

impl AnswerBody {
    /// No body: the headers say it all.
    pub(crate) fn empty() -> Self {
        Self { prefix: None, rest: Rest::None, trailers: None }
    }

    /// A message and the trailers behind it. What is not read of a large one within `read_within` is dropped.
    pub(crate) fn message(answered: Answered, trailers: HeaderMap, read_within: Duration, calls: &Arc<Calls>) -> Self {
        let Answered { mut parts, bytes, held } = answered;
        let mut prefix = [0; PREFIX_BYTES];
        // A message that does not fit its prefix would need a budget of four gigabytes.
        prefix[1..].copy_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
        let rest = match parts.pop() {
            Some(only) if parts.is_empty() && only.len() <= PIECE_BYTES => Rest::Small(only, held),
            last => {
                let large = Large { parts: parts.into_iter().chain(last).collect(), held };
                let large = Arc::new(Mutex::new(Some(large)));
                let (gone, is_gone) = oneshot::channel();
                tokio::spawn(drop_if_not_read(Arc::downgrade(&large), is_gone, read_within, Arc::clone(calls)));
                Rest::Large(large, gone)
            }
        };
        Self { prefix: Some(prefix), rest, trailers: Some(trailers) }
    }

    /// The next bytes of the message.
    fn next(&mut self) -> Result<Option<Bytes>, NotRead> {
        match &self.rest {
            Rest::None => Ok(None),
            Rest::Small(..) => match std::mem::replace(&mut self.rest, Rest::None) {
                Rest::Small(bytes, _) => Ok(Some(bytes)),
                _ => Ok(None),
            },
            Rest::Large(large, _) => {
                let mut large = large.lock();
                let parts = &mut large.as_mut().ok_or(NotRead)?.parts;
                let piece = loop {
                    match parts.front_mut() {
                        None => break None,
                        Some(part) if part.len() > PIECE_BYTES => break Some(part.split_to(PIECE_BYTES)),
                        Some(part) if part.is_empty() => {
                            parts.pop_front();
                        }
                        Some(_) => break parts.pop_front(),
                    }
                };
                drop(large);
                if piece.is_none() {
                    self.rest = Rest::None;
                }
                Ok(piece)
            }
        }
    }
}

/// Waits until the body is gone or its time is over, and drops what is left of it.
async fn drop_if_not_read(
    large: Weak<Mutex<Option<Large>>>,
    gone: oneshot::Receiver<()>,
    read_within: Duration,
    calls: Arc<Calls>,
) {
    if tokio::time::timeout(read_within, gone).await.is_err()
        && let Some(large) = large.upgrade()
        && large.lock().take().is_some()
    {
        calls.answer_dropped();
    }
}

impl Body for AnswerBody {
    type Data = Piece;
    type Error = NotRead;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, NotRead>>> {
        let bytes = match self.next() {
            Err(not_read) => return Poll::Ready(Some(Err(not_read))),
            Ok(bytes) => bytes,
        };
        let prefix = self.prefix.take();
        Poll::Ready(match (prefix, bytes) {
            (None, None) => self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            (prefix, bytes) => {
                let at = if prefix.is_some() { 0 } else { PREFIX_BYTES };
                Some(Ok(Frame::data(Piece {
                    prefix: prefix.unwrap_or_default(),
                    at,
                    bytes: bytes.unwrap_or_default(),
                })))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_none() && matches!(self.rest, Rest::None) && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // A length would be sent as a header, and over HTTP/1.1 a body with a length has no trailers.
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use smallvec::smallvec;

    use super::*;
    use crate::{Rpcs, budget::Budget};

    fn calls() -> Arc<Calls> {
        Arc::new(Calls::new(&Rpcs::contract(), &["unknown".into(), "other".into()], || 0))
    }

    fn answered(budget: &Arc<Budget>, parts: smallvec::SmallVec<[Bytes; 1]>) -> Answered {
        let bytes = parts.iter().map(Bytes::len).sum();
        Answered { parts, bytes, held: budget.hold(bytes).unwrap() }
    }

    async fn read(body: AnswerBody) -> (Vec<u8>, Vec<usize>) {
        let (mut all, mut sizes) = (Vec::new(), Vec::new());
        let mut body = body;
        while let Some(frame) = body.frame().await {
            if let Ok(mut piece) = frame.unwrap().into_data() {
                sizes.push(piece.remaining());
                // As a writer does that takes a few bytes of several slices at a time.
                while piece.has_remaining() {
                    let mut slices = [IoSlice::new(&[]); 4];
                    let filled = piece.chunks_vectored(&mut slices);
                    let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
                    assert_eq!(bytes.len(), piece.remaining());
                    let taken = bytes.len().min(3_001);
                    all.extend_from_slice(&bytes[..taken]);
                    piece.advance(taken);
                }
            }
        }
        assert!(body.is_end_stream());
        (all, sizes)
    }

    #[tokio::test]
    async fn a_message_comes_behind_its_prefix_and_in_pieces_if_it_is_large() {
        let budget = Budget::new(100 << 20);
        let calls = calls();
        let body =
            |parts| AnswerBody::message(answered(&budget, parts), HeaderMap::new(), Duration::from_secs(60), &calls);

        assert_eq!(read(body(smallvec![Bytes::new()])).await.0, [0; 5]);
        assert_eq!(read(body(smallvec![])).await.0, [0; 5]);
        let (bytes, sizes) = read(body(smallvec![Bytes::from_static(b"hello")])).await;
        assert_eq!((&bytes[..], sizes), (&b"\0\0\0\0\x05hello"[..], vec![10]));

        let whole: Vec<u8> = (0..600_000u32).map(|n| n as u8).collect();
        let (a, b) = whole.split_at(10);
        for parts in [
            smallvec![Bytes::from(whole.clone())],
            smallvec![Bytes::copy_from_slice(a), Bytes::new(), Bytes::copy_from_slice(b)],
        ] {
            let (bytes, sizes) = read(body(parts)).await;
            assert_eq!(bytes[..5], [0, 0, 9, 0x27, 0xc0]);
            assert!(bytes[5..] == whole);
            assert!(sizes.iter().all(|size| *size <= PIECE_BYTES + PREFIX_BYTES), "{sizes:?}");
        }
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_read_in_time_leaves_the_memory() {
        let budget = Budget::new(100 << 20);
        let parts = smallvec![Bytes::from(vec![1; 1 << 20])];
        let mut body =
            AnswerBody::message(answered(&budget, parts), HeaderMap::new(), Duration::from_secs(20), &calls());
        assert!(body.frame().await.unwrap().is_ok());
        tokio::time::sleep(Duration::from_secs(19)).await;
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(budget.held(), 1 << 20);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(budget.held(), 0, "the body still exists, its bytes do not");
        assert!(body.frame().await.unwrap().is_err());
    }
}
