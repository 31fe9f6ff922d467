//! The one way of every call, from its headers to its encoded answer. Read [`answer`] from top to bottom.
//!
//! Nothing here knows a transport: what comes in is headers and a promise of bytes, what goes out is bytes or a
//! [`Status`]. Nothing that every call does is done anywhere else.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use gp_store::{Purse, on_behalf};
use http::HeaderMap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use crate::{
    CallerId, Class, Code, Price, Shed, Status,
    admission::{Entered, Lane, Permit},
    budget::Held,
    metrics::{Ended, Stage},
    rpc::{Asked, Rpc},
    server::Shared,
    trace::{self, Context, Stages, Trace},
    wire::count_fields,
};

/// Slices of one call that run at the same time, at most.
const SLICES_AT_A_TIME_MAX: u32 = 8;

/// What a decoded key takes beside its own bytes: its header, what allocation rounds up to, and its part of the list's growth.
const BYTES_BESIDE_KEY: usize = 48;

/// Fields of a request beside its keys.
const FIELDS_BESIDE_KEYS: usize = 1_024;

/// Other calls than those that take lists have small requests; theirs may have this part of what a list may have.
const SMALL_REQUEST_PART: usize = 64;

/// A call as the codec found it.
pub(crate) struct Inbound<'a> {
    pub(crate) rpc: &'a Rpc,
    pub(crate) headers: &'a HeaderMap,
    /// How long the caller gives us, if it says.
    pub(crate) timeout: Result<Option<Duration>, Status>,
}

/// A request message, received whole.
pub(crate) struct Received {
    pub(crate) message: Bytes,
    /// Its part of the memory budget.
    pub(crate) held: Held,
}

/// An encoded response message, in one piece or several.
pub(crate) struct Answered {
    pub(crate) parts: SmallVec<[Bytes; 1]>,
    pub(crate) bytes: usize,
    /// Its part of the memory budget.
    pub(crate) held: Held,
}

/// Makes a call. `receive` gets the most bytes that the request may have.
pub(crate) async fn call<F>(
    shared: &Shared,
    inbound: Inbound<'_>,
    receive: impl FnOnce(usize) -> F,
) -> Result<Answered, Status>
where
    F: Future<Output = Result<Received, Status>>,
{
    let headers = inbound.headers;
    let mut flight = Flight::begin(shared, inbound.rpc.index, inbound.rpc.class, headers);
    // A panic ends this call and no other.
    let outcome = AssertUnwindSafe(answer(shared, inbound, receive, &mut flight)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|panic| Err(panicked(shared, flight.rpc, &*panic)));
    flight.end(headers, &outcome);
    outcome
}

/// Counts a call to what is no method of the contract.
pub(crate) fn unknown(shared: &Shared, headers: &HeaderMap) -> Result<Answered, Status> {
    let flight = Flight::begin(shared, shared.metrics.calls.no_rpc(), Class::Control, headers);
    let outcome = Err(Status::new(Code::Unimplemented, "no such method"));
    flight.end(headers, &outcome);
    outcome
}

async fn answer<F>(
    shared: &Shared,
    inbound: Inbound<'_>,
    receive: impl FnOnce(usize) -> F,
    flight: &mut Flight<'_>,
) -> Result<Answered, Status>
where
    F: Future<Output = Result<Received, Status>>,
{
    let Inbound { rpc, headers, timeout } = inbound;
    let config = &shared.config;

    // Who has no right to call costs nothing more than this.
    shared.tokens.check(headers)?;
    // While draining, calls that were on their way are still answered; at the end of it they would be cut off.
    if shared.lifecycle.is_closing() {
        return Err(Status::draining());
    }
    if !rpc.built {
        return Err(Status::from(gp_index::Error::Unimplemented));
    }

    // There is always a deadline: the caller's, or ours.
    let time = timeout?.unwrap_or(rpc.deadline).min(Duration::from_millis(config.deadline_ms_max));
    let deadline = flight.started + time;

    let bytes_max =
        if rpc.class.takes_lists() { config.request_bytes_max } else { config.request_bytes_max / SMALL_REQUEST_PART };
    let mut received = within(deadline, receive(bytes_max)).await??;
    flight.request_bytes = received.message.len();
    // Looking at the clock costs as much as finding a key in memory: it is done three times for a call that waits for
    // nothing, when it begins, when it has been received, and at its end.
    let asked_at = Instant::now();
    flight.stages.end("receive", asked_at);
    if asked_at >= deadline {
        // The process stood still, or was very busy: nobody waits for this any more.
        shared.metrics.calls.expired(Stage::Receive);
        return Err(Status::late());
    }

    // Keys are counted before a list of them is built, and again by what they mean.
    let keys_max = config.keys_max as usize;
    let fields_max = keys_max + FIELDS_BESIDE_KEYS;
    // A field is two bytes at least.
    if received.message.len() / 2 > fields_max && count_fields(&received.message, fields_max) > fields_max {
        return Err(oversize(keys_max));
    }
    let asked = (rpc.decode)(received.message)
        .map_err(|e| Status::new(Code::InvalidArgument, format!("the request is not a message of this call: {e}")))?;
    let price = asked.price();
    flight.priced(price, price.units(rpc.class));
    if price.keys.max(price.skip_cache) > config.keys_max {
        return Err(oversize(keys_max));
    }

    // Decoded, a list takes more than its bytes on the wire.
    if price.keys > config.slice_keys {
        received.held.grow(price.keys as usize * BYTES_BESIDE_KEY)?;
    }

    if price.keys > config.slice_keys {
        let answered = in_slices(shared, rpc, asked, price, (asked_at, deadline), flight).await;
        drop(received.held);
        answered
    } else {
        whole(shared, rpc, asked, received.held, (asked_at, deadline), flight).await
    }
}

/// Runs a future until the deadline. What waits for nothing needs no timer.
async fn within<T>(deadline: Instant, future: impl Future<Output = T>) -> Result<T, Status> {
    let mut future = std::pin::pin!(future);
    match futures::poll!(future.as_mut()) {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => timeout_at(deadline, future).await.map_err(|_| Status::late()),
    }
}

fn oversize(keys_max: usize) -> Status {
    Status::shed(Shed::Oversize, format!("more than {keys_max} keys in one request: send several"))
}

/// Answers a request as it is. Its part of the memory budget becomes that of the answer.
async fn whole(
    shared: &Shared,
    rpc: &Rpc,
    asked: Box<dyn Asked>,
    mut held: Held,
    (asked_at, deadline): (Instant, Instant),
    flight: &mut Flight<'_>,
) -> Result<Answered, Status> {
    flight.stage = Stage::Admission;
    let turn = Turn {
        rpc,
        caller: flight.caller,
        lane: Lane::Small,
        units: flight.units,
        asked_at,
        deadline,
        wait_until: shared.wait_until(deadline, asked_at),
    };
    // Questions about the process are answered however busy it is.
    let (_permit, admitted_at) = if rpc.class == Class::Control {
        (None, asked_at)
    } else {
        let (permit, admitted_at) = turn.admit(shared).await?;
        (Some(permit), admitted_at)
    };
    flight.stages.end("wait", admitted_at);
    flight.stage = Stage::Run;
    let message = within(deadline, run(shared, rpc, flight.caller, false, asked)).await??;
    if flight.stages.are_noted() {
        flight.stages.end("run", Instant::now());
    }
    let bytes = message.len();
    held.resize(bytes)?;
    Ok(Answered { parts: SmallVec::from_buf([message]), bytes, held })
}

/// Answers a long list part by part. Each part takes its turn among the other calls, and the bytes of their answers,
/// one after the other, are the answer.
async fn in_slices(
    shared: &Shared,
    rpc: &Rpc,
    asked: Box<dyn Asked>,
    price: Price,
    (asked_at, deadline): (Instant, Instant),
    flight: &mut Flight<'_>,
) -> Result<Answered, Status> {
    // What a key costs differs between calls; what a slice costs does not.
    let (slice_keys, caller) = (price.keys_worth(shared.config.slice_keys, rpc.class), flight.caller);
    // Some of it waits for its turn most of the time; what counts is that it has begun.
    flight.stage = Stage::Run;
    let turn = |asked: &dyn Asked, wait_until: Instant| {
        let units = asked.price().units(rpc.class);
        Turn { rpc, caller, lane: Lane::Bulk, units, asked_at: Instant::now(), deadline, wait_until }
    };
    // As many slices at a time as together weigh what one call may weigh.
    let units_of_slice = (flight.units / price.keys.div_ceil(slice_keys)).max(1);
    let at_a_time = (shared.admission.units_of_one_max() / units_of_slice).clamp(1, SLICES_AT_A_TIME_MAX);
    let mut slices = asked.slices(slice_keys as usize).into_iter().peekable();
    let stages = &mut flight.stages;
    let noted = stages.are_noted();

    let work = async {
        let mut running = FuturesOrdered::new();
        // Only what has not begun may be refused for having waited too long; later slices have until the deadline.
        let mut wait_until = shared.wait_until(deadline, asked_at);
        let (mut parts, mut bytes) = (SmallVec::new(), 0);
        let mut held = shared.budget.hold(0).map_err(|status| (Stage::Run, status))?;
        loop {
            let room = running.len() < at_a_time as usize;
            let done = if let Some(slice) = slices.next_if(|_| room) {
                let turn = turn(&*slice, wait_until);
                running.push_back(answer_slice(shared, slice, turn, noted));
                wait_until = deadline;
                // One slice after the other begins, and each that memory answers is answered here: together they would
                // keep everybody else from this processor.
                let Poll::Ready(done) = futures::poll!(running.next()) else {
                    tokio::task::yield_now().await;
                    continue;
                };
                done
            } else {
                running.next().await
            };
            let Some(done) = done else { break };
            let (part, times) = done?;
            if let Some(Times { asked, admitted, answered, keys }) = times {
                stages.note("wait", asked, admitted, keys);
                stages.note("run", admitted, answered, keys);
            }
            held.grow(part.len()).map_err(|status| (Stage::Run, status))?;
            bytes += part.len();
            parts.push(part);
            // Answers that the memory gives do not wait for anything; others have their turn here.
            tokio::task::yield_now().await;
        }
        Ok(Answered { parts, bytes, held })
    };
    within(deadline, work).await?.map_err(|(stage, status)| {
        flight.stage = stage;
        status
    })
}

/// How long a slice took, if somebody wants to know.
struct Times {
    asked: Instant,
    admitted: Instant,
    answered: Instant,
    keys: u32,
}

/// Answers one slice in its turn. An error says how far it had come.
async fn answer_slice(
    shared: &Shared,
    asked: Box<dyn Asked>,
    turn: Turn<'_>,
    noted: bool,
) -> Result<(Bytes, Option<Times>), (Stage, Status)> {
    let (rpc, caller) = (turn.rpc, turn.caller);
    let begun = noted.then(|| (turn.asked_at, asked.price().keys));
    let (_permit, admitted) = turn.admit(shared).await.map_err(|status| (Stage::Admission, status))?;
    let part = run(shared, rpc, caller, true, asked).await.map_err(|status| (Stage::Run, status))?;
    let times = begun.map(|(asked, keys)| Times { asked, admitted, answered: Instant::now(), keys });
    Ok((part, times))
}

/// Runs a request or a part of one. What is read for it counts as bytes in memory from the moment it is read, so that
/// large records are refused while they are being read and not once they are all there.
async fn run(shared: &Shared, rpc: &Rpc, caller: CallerId, bulk: bool, asked: Box<dyn Asked>) -> Result<Bytes, Status> {
    let read = Arc::new(Read { held: Mutex::new(shared.budget.hold(0)?), refused: Mutex::new(None) });
    let purse: Arc<dyn Purse> = Arc::clone(&read) as _;
    let answer = on_behalf(shared.callers.behalf(caller, bulk), purse, rpc.run(asked, &shared.cx)).await;
    answer.map_err(|e| read.refused.lock().take().unwrap_or_else(|| e.into()))
}

/// What has been read for a piece of work.
struct Read {
    held: Mutex<Held>,
    /// Why the last of it was too much.
    refused: Mutex<Option<Status>>,
}

impl Purse for Read {
    fn take(&self, bytes: usize) -> bool {
        match self.held.lock().grow(bytes) {
            Ok(()) => true,
            Err(status) => {
                *self.refused.lock() = Some(status);
                false
            }
        }
    }
}

/// A piece of work that wants room.
struct Turn<'a> {
    rpc: &'a Rpc,
    caller: CallerId,
    lane: Lane,
    units: u32,
    asked_at: Instant,
    deadline: Instant,
    wait_until: Instant,
}

impl Turn<'_> {
    /// Leave to work, and since when.
    async fn admit(self, shared: &Shared) -> Result<(Permit, Instant), Status> {
        let admitted = match shared.admission.enter(self.caller, self.lane, self.units, self.wait_until) {
            Ok(Entered::Admitted(permit)) => {
                shared.metrics.calls.waited(self.rpc.class, Duration::ZERO);
                return Ok((permit, self.asked_at));
            }
            Ok(Entered::Waits(place)) => place.wait(self.wait_until).await,
            Err(refused) => Err(refused),
        };
        let now = Instant::now();
        shared.metrics.calls.waited(self.rpc.class, now - self.asked_at);
        match admitted {
            Ok(permit) if now < self.deadline => Ok((permit, now)),
            // Its turn came too late: nothing is read for an answer that nobody waits for.
            Ok(_) => {
                shared.metrics.calls.expired(Stage::Admission);
                Err(Status::late())
            }
            Err(_) if now >= self.deadline => Err(Status::late()),
            Err(refused) => Err(Status::shed(refused.reason(), "too much work at the moment: try again in a while")),
        }
    }
}

fn panicked(shared: &Shared, rpc: usize, panic: &(dyn Any + Send)) -> Status {
    let calls = &shared.metrics.calls;
    calls.panicked(rpc);
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(rpc = calls.rpc_name(rpc), panic = said, "a call ended in a panic; the process goes on");
    Status::new(Code::Internal, "the call failed in an unexpected way; the server's log says more")
}

/// A call in flight. Dropped before its end, its caller has gone away.
struct Flight<'a> {
    shared: &'a Shared,
    rpc: usize,
    class: Class,
    caller: CallerId,
    started: Instant,
    stage: Stage,
    /// Its place in a trace; none if nobody takes traces.
    context: Option<Context>,
    stages: Stages,
    price: Price,
    units: u32,
    request_bytes: usize,
    ended: bool,
}

impl<'a> Flight<'a> {
    fn begin(shared: &'a Shared, rpc: usize, class: Class, headers: &HeaderMap) -> Self {
        let caller = shared.callers.of(headers);
        shared.metrics.calls.begin(caller);
        let started = Instant::now();
        let context = shared.config.traces.is_some().then(|| Context::of(headers));
        Self {
            shared,
            rpc,
            class,
            caller,
            started,
            stage: Stage::Receive,
            stages: context.map_or_else(Stages::default, |_| Stages::noting(started)),
            context,
            price: Price::default(),
            units: 0,
            request_bytes: 0,
            ended: false,
        }
    }

    fn priced(&mut self, price: Price, units: u32) {
        self.price = price;
        self.units = units;
        self.shared.metrics.calls.priced(self.rpc, self.caller, price.keys);
    }

    fn end(mut self, headers: &HeaderMap, outcome: &Result<Answered, Status>) {
        self.ended = true;
        let shared = self.shared;
        let (response_bytes, status) = match outcome {
            Ok(answered) => (answered.bytes, None),
            Err(status) => (0, Some(status)),
        };
        let ended = Ended {
            rpc: self.rpc,
            caller: self.caller,
            keys: self.price.keys,
            unique: self.price.unique,
            skip_cache: self.price.skip_cache,
            units: self.units,
            request_bytes: self.request_bytes,
            response_bytes,
            duration: self.started.elapsed(),
            status,
            stage: self.stage,
        };
        let is_new = shared.metrics.calls.ended(&ended);
        let context = self.context;
        let trace = || context.map(|it| it.trace).or_else(|| trace::parent(headers).map(|(trace, _)| trace));
        shared.top.ended(&ended, trace, shared.cx.now_us);
        if let (Some(traces), Some(context)) = (&shared.config.traces, self.context)
            && let Some(kept) = trace::kept(&context, &ended, self.class, is_new)
        {
            traces.take(self.trace(context, kept, &ended));
        }
        if let Some(status) = status
            && status.code == Code::Internal
        {
            // A few lines a second say what failed; how often is in the metrics.
            tracing::error!(rpc = shared.metrics.calls.rpc_name(self.rpc), why = %status.message, "a call failed");
        }
    }
}

impl Flight<'_> {
    /// What there is to say of a call that ended. Its stages leave.
    fn trace(&mut self, context: Context, kept: &'static str, ended: &Ended<'_>) -> Trace {
        let calls = &self.shared.metrics.calls;
        let duration_us = u64::try_from(ended.duration.as_micros()).unwrap_or(u64::MAX);
        Trace {
            context,
            rpc: calls.rpc_name(self.rpc),
            caller: calls.caller_name(self.caller.index()).to_owned(),
            began_us: (self.shared.cx.now_us)().saturating_sub_unsigned(duration_us),
            duration_us,
            code: ended.status.map_or(Code::Ok, |status| status.code),
            message: ended.status.map(|status| status.message.to_string()).unwrap_or_default(),
            shed: ended.status.and_then(|status| status.shed),
            keys: ended.keys,
            unique: ended.unique,
            skip_cache: ended.skip_cache,
            units: ended.units,
            request_bytes: ended.request_bytes,
            response_bytes: ended.response_bytes,
            kept,
            stages: std::mem::take(&mut self.stages),
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let calls = &self.shared.metrics.calls;
        calls.gone(self.caller, self.price.keys);
        if !self.ended {
            calls.cancelled(self.rpc, self.stage);
        }
    }
}
