//! What one call did, stage by stage, for whoever keeps traces.
//!
//! A call notes its stages as it goes, and only when it has ended is it decided whether anybody will want to see them:
//! what failed, what was refused, what was large, slow or new is kept, and one in a thousand of the others. Nothing is
//! noted unless somebody takes traces.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderMap;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::{Class, Code, Shed, metrics::Ended};

/// Stages and pages noted of one call; the others are counted.
pub const STAGES_MAX: usize = 31;
/// A call with more keys than this is always kept.
const KEYS_KEPT: u32 = 500;
/// One call in so many is kept although there is nothing about it.
const KEPT_OF: u64 = 1_000;

/// Takes traces of calls.
pub trait Traces: fmt::Debug + Send + Sync {
    /// Takes a trace. Never waits: what there is no room for is dropped and counted.
    fn take(&self, trace: Trace);
    /// Traces taken, those that were dropped included.
    fn taken(&self) -> u64;
    /// Traces that were taken and then dropped.
    fn dropped(&self) -> u64;
}

/// What a call did.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Which trace it belongs to, and whose child it is.
    pub context: Context,
    /// The call.
    pub rpc: &'static str,
    /// Who made it, by the name in the figures.
    pub caller: String,
    /// When it began, in microseconds since 1970.
    pub began_us: i64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub code: Code,
    /// What its caller was told, unless it was answered.
    pub message: String,
    /// Why it was refused, if it was.
    pub shed: Option<Shed>,
    /// Keys asked for.
    pub keys: u32,
    /// Distinct ones.
    pub unique: u32,
    /// Keys to be read past the caches.
    pub skip_cache: u32,
    /// Cost.
    pub units: u32,
    /// Bytes of the request message.
    pub request_bytes: usize,
    /// Bytes of the response message.
    pub response_bytes: usize,
    /// Why it was kept.
    pub kept: &'static str,
    /// Its stages.
    pub stages: Stages,
}

/// One stage of a call, or one page of a long list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What it was: `receive`, `wait`, `run`.
    pub name: &'static str,
    /// Microseconds from the beginning of the call.
    pub from_us: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Keys of the page; 0 if it is none.
    pub keys: u32,
}

/// The stages of a call.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// When the call began and when its last stage ended; none if nothing is noted.
    since: Option<(Instant, Instant)>,
    /// The first ones.
    pub noted: SmallVec<[Stage; 4]>,
    /// How many there were beyond those.
    pub folded: u32,
}

impl Stages {
    /// Of a call that began at `began`.
    pub(crate) fn noting(began: Instant) -> Self {
        Self { since: Some((began, began)), ..Self::default() }
    }

    /// Whether anything is noted.
    pub(crate) fn are_noted(&self) -> bool {
        self.since.is_some()
    }

    /// Ends a stage that began when the last one ended.
    pub(crate) fn end(&mut self, name: &'static str, now: Instant) {
        if let Some((began, last)) = self.since {
            self.note(name, last, now, 0);
            self.since = Some((began, now));
        }
    }

    /// Notes a stage, one of several at the same time.
    pub(crate) fn note(&mut self, name: &'static str, from: Instant, to: Instant, keys: u32) {
        let Some((began, _)) = self.since else { return };
        if self.noted.len() >= STAGES_MAX {
            self.folded += 1;
            return;
        }
        let (from_us, duration_us) = (micros(from - began), micros(to - from));
        self.noted.push(Stage { name, from_us, duration_us, keys });
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Where a call stands in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace, which may have begun with the caller.
    pub trace: [u8; 16],
    /// The call.
    pub span: [u8; 8],
    /// The caller's part that it belongs to.
    pub parent: Option<[u8; 8]>,
}

impl Context {
    /// Of the caller's `traceparent` header; a new trace if there is none.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let span = random().to_be_bytes();
        match parent(headers) {
            Some((trace, parent)) => Self { trace, span, parent: Some(parent) },
            None => {
                let mut trace = [0; 16];
                trace[..8].copy_from_slice(&random().to_be_bytes());
                trace[8..].copy_from_slice(&random().to_be_bytes());
                Self { trace, span, parent: None }
            }
        }
    }

    /// Whether this trace is one of those kept for nothing. All who see it decide alike.
    fn is_drawn(&self) -> bool {
        let [.., a, b, c, d, e, f, g, h] = self.trace;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]).is_multiple_of(KEPT_OF)
    }
}

/// The trace of a W3C `traceparent` header, and the part of it that calls.
pub(crate) fn parent(headers: &HeaderMap) -> Option<([u8; 16], [u8; 8])> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A later version may have more parts behind these.
    let known = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
    let (trace, span) = (hex::<16>(trace)?, hex::<8>(span)?);
    (known && flags.len() == 2 && trace != [0; 16] && span != [0; 8]).then_some((trace, span))
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A number that nobody has had before, as good as always. Never zero. Not for secrets.
fn random() -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    KEYS.hash_one(NEXT.fetch_add(1, Relaxed)).max(1)
}

/// Why a call that ended is kept, if it is. `is_new`: this call, caller and size had not been seen before.
pub(crate) fn kept(context: &Context, it: &Ended<'_>, class: Class, is_new: bool) -> Option<&'static str> {
    match it.status {
        Some(status) if status.shed.is_some() => return Some("shed"),
        // The contract says so, and nothing is wrong.
        Some(status) if status.code == Code::NotFound => {}
        Some(_) => return Some("error"),
        None => {}
    }
    if it.keys > KEYS_KEPT {
        Some("large")
    } else if is_new {
        Some("new")
    } else if it.duration > class.slow() {
        Some("slow")
    } else {
        context.is_drawn().then_some("drawn")
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::{CallerId, Status, metrics};

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("traceparent"), HeaderValue::from_static(value))])
    }

    #[test]
    fn a_call_belongs_to_the_trace_of_its_caller() {
        let context = Context::of(&headers("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert_eq!(context.trace[..2], [0x0a, 0xf7]);
        assert_eq!(context.parent.map(|it| it[0]), Some(0xb7));
        let later = Context::of(&headers("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"));
        assert_eq!((later.trace, later.parent), (context.trace, context.parent));
        assert_ne!(later.span, context.span);
    }

    #[test]
    fn what_is_no_context_begins_a_trace_of_its_own() {
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331a-01",
        ] {
            assert_eq!(Context::of(&headers(wrong)).parent, None, "{wrong}");
        }
        let (one, other) = (Context::of(&HeaderMap::new()), Context::of(&HeaderMap::new()));
        assert_ne!((one.trace, one.span), (other.trace, other.span));
    }

    #[test]
    fn stages_beyond_the_bound_are_counted() {
        let now = Instant::now();
        let mut stages = Stages::noting(now);
        for page in 0..79 {
            stages.note("run", now, now, page);
        }
        assert_eq!((stages.noted.len(), stages.folded), (STAGES_MAX, 48));
        let mut off = Stages::default();
        off.note("run", now, now, 1);
        off.end("run", now);
        assert!(off.noted.is_empty() && !off.are_noted());
    }

    #[test]
    fn what_is_worth_a_look_is_always_kept_and_little_of_the_rest() {
        let ended = |keys, ms, status| metrics::Ended {
            rpc: 0,
            caller: CallerId::UNKNOWN,
            keys,
            unique: keys,
            skip_cache: 0,
            units: keys,
            request_bytes: 0,
            response_bytes: 0,
            duration: Duration::from_millis(ms),
            status,
            stage: metrics::Stage::Run,
        };
        let plain = Context { trace: [1; 16], span: [1; 8], parent: None };
        let why = |it: &Ended<'_>, is_new| kept(&plain, it, Class::Point, is_new);
        let (shed, internal) = (Status::shed(Shed::Bytes, ""), Status::new(Code::Internal, ""));
        let absent = Status::new(Code::NotFound, "");
        assert_eq!(why(&ended(1, 1, Some(&shed)), false), Some("shed"));
        assert_eq!(why(&ended(1, 1, Some(&internal)), false), Some("error"));
        assert_eq!(why(&ended(1, 1, Some(&absent)), false), None);
        assert_eq!(why(&ended(501, 1, None), false), Some("large"));
        assert_eq!(why(&ended(500, 1, None), false), None);
        assert_eq!(why(&ended(1, 1, None), true), Some("new"));
        assert_eq!(why(&ended(1, 26, None), false), Some("slow"));
        let drawn = (0..100_000).filter(|_| Context::of(&HeaderMap::new()).is_drawn()).count();
        assert!((20..400).contains(&drawn), "{drawn} of 100,000");
    }
}
