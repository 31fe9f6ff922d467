//! Who may work now: a bound on work in flight, shared fairly.
//!
//! Work is weighed in units (see [`crate::Price::units`]). While there is room and nobody waits, a call begins at once.
//! Otherwise it waits in the queue of its caller, and callers take turns: the next turn is the one's who has had the
//! least since it began to wait. One caller holds at most half of the room while others wait. Within a caller,
//! slices of long lists have a queue of their own that gets a quarter of the turns, so that small calls pass them and
//! they still make progress. Slices have three quarters of the room at most, all together: they are under way for long,
//! and whoever comes with a small call finds room. Callers of the background come after all others, and have half of the
//! room at most. Whose turn it is waits for room and nobody overtakes it, so that a heavy piece of work is not starved by
//! light ones.
//!
//! The queue is bounded by time (whoever enters says until when it waits) and by number. A call that stops
//! waiting leaves at once. One whose turn will not come in time, by the pace at which turns come, is told so when it
//! comes: to let it wait would cost its caller that time, and us a timer and a second look at it.

use std::{collections::BTreeMap, sync::Arc};

use gp_store::Pace;
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{CallerId, Shed};

/// The part of the room that one piece of work may take.
const SHARE_OF_ONE: u32 = 10;
/// How many turns small calls have for one of the long lists, when both wait.
const TURNS_OF_SMALL: u64 = 3;

/// Units that slices of long lists may have of all of them.
fn bulk_units_max(units_max: u32) -> u32 {
    units_max / 4 * 3
}

/// Which of a caller's two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Calls served whole.
    Small = 0,
    /// Slices of long lists.
    Bulk = 1,
}

/// Why work was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its time to wait is over.
    Waited,
    /// Its turn would come too late.
    Late,
    /// The queue is full.
    Full,
    /// The queue is full, and most of it is of this caller.
    FullOfItself,
}

impl Refused {
    pub(crate) fn reason(self) -> Shed {
        match self {
            Self::Waited | Self::Late | Self::Full => Shed::QueueTime,
            Self::FullOfItself => Shed::CallerShare,
        }
    }
}

/// What admission can say about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Units in flight.
    pub(crate) in_flight: u32,
    /// Units that may be in flight.
    pub(crate) limit: u32,
    /// Pieces of work that wait.
    pub(crate) waiting: usize,
}

/// The bound on work in flight. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    units_max: u32,
    units_of_one_max: u32,
    waiting_max: usize,
    state: Mutex<State>,
}

struct State {
    in_flight: u32,
    /// Of these, units of slices.
    bulk_in_flight: u32,
    waiting: usize,
    /// The start of the last turn given, on the scale of [`Share::had`].
    now: u64,
    arrivals: u64,
    shares: Vec<Share>,
}

/// One caller.
#[derive(Default)]
struct Share {
    in_flight: u32,
    waiting: usize,
    /// Units had so far, or, if it was away meanwhile, as many as the others had: being away earns no credit.
    had: u64,
    lanes: [Waiting; 2],
    lane_now: u64,
    /// Comes after all that cannot wait.
    background: bool,
}

#[derive(Default)]
struct Waiting {
    had: u64,
    queue: BTreeMap<u64, Waiter>,
    pace: Pace,
}

struct Waiter {
    units: u32,
    tell: oneshot::Sender<()>,
}

impl Admission {
    /// `units_max` units in flight and `waiting_max` waiting pieces of work at most, for as many callers, each of which is
    /// of the background or not.
    pub(crate) fn new(units_max: u32, waiting_max: usize, background: &[bool]) -> Self {
        let shares =
            background.iter().map(|background| Share { background: *background, ..Share::default() }).collect();
        let state = State { in_flight: 0, bulk_in_flight: 0, waiting: 0, now: 0, arrivals: 0, shares };
        Self {
            inner: Arc::new(Inner {
                units_max,
                units_of_one_max: (units_max / SHARE_OF_ONE).max(1),
                waiting_max,
                state: Mutex::new(state),
            }),
        }
    }

    /// Units that one piece of work may weigh; heavier ones are weighed as this.
    pub(crate) fn units_of_one_max(&self) -> u32 {
        self.inner.units_of_one_max
    }

    /// Begins at once if there is room and nobody waits, or takes a place in the queue, to [wait](Place::wait) there until
    /// `wait_until`.
    pub(crate) fn enter(
        &self,
        caller: CallerId,
        lane: Lane,
        units: u32,
        wait_until: Instant,
    ) -> Result<Entered, Refused> {
        let inner = &*self.inner;
        let (caller, units) = (caller.index(), units.clamp(1, inner.units_of_one_max));
        let mut state = inner.state.lock();
        if state.waiting == 0
            && state.in_flight + units <= inner.units_max
            && !(lane == Lane::Bulk && state.bulk_is_full(units, inner.units_max))
            && !state.shares[caller].is_full(units, inner.units_max)
        {
            state.take(caller, lane, units);
            return Ok(Entered::Admitted(Permit { admission: self.clone(), caller, lane, units }));
        }
        if state.waiting >= inner.waiting_max {
            let of_itself = state.shares[caller].waiting * 2 > inner.waiting_max;
            return Err(if of_itself { Refused::FullOfItself } else { Refused::Full });
        }
        let now = Instant::now();
        let queue = &state.shares[caller].lanes[lane as usize];
        let others = queue.queue.len();
        if queue.pace.is_too_late(others, wait_until.saturating_duration_since(now)) {
            return Err(Refused::Late);
        }
        let (tell, told) = oneshot::channel();
        let arrival = state.enqueue(caller, lane, Waiter { units, tell }, now);
        // There may be room for this caller, while those who wait are held back by their half.
        state.give_turns(inner.units_max);
        Ok(Entered::Waits(Place { admission: self.clone(), caller, lane, units, arrival, told, left: false }))
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.inner.state.lock();
        Figures { in_flight: state.in_flight, limit: self.inner.units_max, waiting: state.waiting }
    }
}

/// What comes of asking for room.
pub(crate) enum Entered {
    /// There was some.
    Admitted(Permit),
    /// There will be some, perhaps.
    Waits(Place),
}

impl State {
    fn take(&mut self, caller: usize, lane: Lane, units: u32) {
        self.in_flight += units;
        if lane == Lane::Bulk {
            self.bulk_in_flight += units;
        }
        self.shares[caller].in_flight += units;
    }

    fn give_back(&mut self, caller: usize, lane: Lane, units: u32) {
        self.in_flight -= units;
        if lane == Lane::Bulk {
            self.bulk_in_flight -= units;
        }
        self.shares[caller].in_flight -= units;
    }

    /// Whether slices have all that they may have.
    fn bulk_is_full(&self, units: u32, units_max: u32) -> bool {
        self.bulk_in_flight > 0 && self.bulk_in_flight + units > bulk_units_max(units_max)
    }

    fn enqueue(&mut self, caller: usize, lane: Lane, waiter: Waiter, now: Instant) -> u64 {
        self.arrivals += 1;
        let share = &mut self.shares[caller];
        if share.waiting == 0 {
            share.had = share.had.max(self.now);
        }
        let of_lane = &mut share.lanes[lane as usize];
        if of_lane.queue.is_empty() {
            of_lane.had = of_lane.had.max(share.lane_now);
            of_lane.pace.begin(now);
        }
        of_lane.queue.insert(self.arrivals, waiter);
        share.waiting += 1;
        self.waiting += 1;
        self.arrivals
    }

    /// Lets those begin for whom there is room, in the order of their turns.
    fn give_turns(&mut self, units_max: u32) {
        while self.waiting > 0 {
            let count = |background| {
                self.shares.iter().filter(|share| share.waiting > 0 && share.background == background).count()
            };
            let (first, last) = (count(false), count(true));
            let next = self
                .shares
                .iter()
                .enumerate()
                .filter_map(|(caller, share)| {
                    Some((caller, share, share.next(|units| self.bulk_is_full(units, units_max))?))
                })
                .filter(|(_, share, (_, units))| {
                    // Those who cannot wait share among themselves, whoever else waits.
                    let alone = if share.background { first + last } else { first } == 1;
                    (alone || share.in_flight + units <= units_max / 2) && !share.is_full(*units, units_max)
                })
                .min_by_key(|(_, share, _)| (share.background, share.had))
                .map(|(caller, _, next)| (caller, next));
            let Some((caller, (lane, units))) = next else { return };
            if self.in_flight + units > units_max {
                return;
            }
            let share = &mut self.shares[caller];
            let Some(waiter) = share.give_turn(lane) else { return };
            if !share.background {
                self.now = share.had;
            }
            share.had += u64::from(units);
            self.waiting -= 1;
            self.take(caller, lane, units);
            // Whoever stops waiting leaves the queue first, so there is somebody to tell.
            let told = waiter.tell.send(());
            debug_assert!(told.is_ok(), "a place in the queue outlived the one who waits");
        }
    }
}

impl Share {
    /// Whether it may not take more, although there is room: the rest is for those who cannot wait.
    fn is_full(&self, units: u32, units_max: u32) -> bool {
        self.background && self.in_flight + units > units_max / 2
    }

    /// Whose turn it is within this caller, and what it weighs.
    fn next(&self, bulk_is_full: impl Fn(u32) -> bool) -> Option<(Lane, u32)> {
        let first =
            |lane: Lane| self.lanes[lane as usize].queue.first_key_value().map(|(_, waiter)| (lane, waiter.units));
        let [small, bulk] = &self.lanes;
        match (first(Lane::Small), first(Lane::Bulk).filter(|(_, units)| !bulk_is_full(*units))) {
            (Some(of_small), Some(of_bulk)) => Some(if small.had <= bulk.had { of_small } else { of_bulk }),
            (of_small, of_bulk) => of_small.or(of_bulk),
        }
    }

    fn give_turn(&mut self, lane: Lane) -> Option<Waiter> {
        let of_lane = &mut self.lanes[lane as usize];
        let (_, waiter) = of_lane.queue.pop_first()?;
        of_lane.pace.turn(Instant::now());
        self.lane_now = of_lane.had;
        of_lane.had += u64::from(waiter.units) * if lane == Lane::Bulk { TURNS_OF_SMALL } else { 1 };
        self.waiting -= 1;
        Some(waiter)
    }
}

/// A place in the queue; leaves it when dropped.
pub(crate) struct Place {
    admission: Admission,
    caller: usize,
    lane: Lane,
    units: u32,
    arrival: u64,
    told: oneshot::Receiver<()>,
    left: bool,
}

impl Place {
    /// Waits for its turn.
    pub(crate) async fn wait(mut self, until: Instant) -> Result<Permit, Refused> {
        match timeout_at(until, &mut self.told).await {
            Ok(Ok(())) => Ok(self.into_permit()),
            // The sender lives in the queue until it is used, so only the time can have run out.
            Ok(Err(_)) | Err(_) => Err(Refused::Waited),
        }
    }

    fn into_permit(mut self) -> Permit {
        self.left = true;
        Permit { admission: self.admission.clone(), caller: self.caller, lane: self.lane, units: self.units }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut state = self.admission.inner.state.lock();
        let share = &mut state.shares[self.caller];
        if share.lanes[self.lane as usize].queue.remove(&self.arrival).is_some() {
            share.waiting -= 1;
            state.waiting -= 1;
        } else {
            // Its turn came, and it was gone before it could begin.
            state.give_back(self.caller, self.lane, self.units);
        }
        // Either way somebody else may begin: there is room, or the one whose turn it was has gone.
        state.give_turns(self.admission.inner.units_max);
    }
}

/// Leave to work; given back when dropped.
pub(crate) struct Permit {
    admission: Admission,
    caller: usize,
    lane: Lane,
    units: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.inner.state.lock();
        state.give_back(self.caller, self.lane, self.units);
        if state.waiting > 0 {
            state.give_turns(self.admission.inner.units_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::task::JoinHandle;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    impl Admission {
        async fn admit(&self, of: CallerId, lane: Lane, units: u32, until: Instant) -> Result<Permit, Refused> {
            match self.enter(of, lane, units, until)? {
                Entered::Admitted(permit) => Ok(permit),
                Entered::Waits(place) => place.wait(until).await,
            }
        }
    }

    fn caller(index: usize) -> CallerId {
        CallerId::at(index)
    }

    async fn admit(admission: &Admission, of: usize, lane: Lane, units: u32) -> Permit {
        admission.admit(caller(of), lane, units, Instant::now() + LONG).await.ok().expect("there is time")
    }

    /// Waits in the background, and has entered the queue when this returns.
    async fn wait(admission: &Admission, of: usize, lane: Lane, units: u32) -> JoinHandle<Permit> {
        let before = admission.figures().waiting;
        let handle = tokio::spawn({
            let admission = admission.clone();
            async move { admit(&admission, of, lane, units).await }
        });
        while admission.figures().waiting == before && !handle.is_finished() {
            tokio::task::yield_now().await;
        }
        handle
    }

    #[tokio::test(start_paused = true)]
    async fn work_begins_while_there_is_room_and_waits_otherwise() {
        let admission = Admission::new(100, 10, &[false; 2]);
        let mut permits = Vec::new();
        for _ in 0..10 {
            permits
                .push(admission.admit(caller(0), Lane::Small, 10, Instant::now()).await.ok().expect("there is room"));
        }
        assert_eq!(admission.figures(), Figures { in_flight: 100, limit: 100, waiting: 0 });
        let refused = admission.admit(caller(0), Lane::Small, 10, Instant::now() + Duration::from_millis(20)).await;
        assert_eq!(refused.err(), Some(Refused::Waited));
        assert_eq!(admission.figures().waiting, 0, "it has left the queue");

        let waits = wait(&admission, 0, Lane::Small, 10).await;
        assert!(!waits.is_finished());
        drop(permits.pop());
        drop(waits.await.unwrap());
        drop(permits);
        assert_eq!(admission.figures(), Figures { in_flight: 0, limit: 100, waiting: 0 });
    }

    /// Five times what can be done: who cannot have a turn in time is told at once, the room is never empty, and when the
    /// rush is over everybody has a turn again.
    #[tokio::test(start_paused = true)]
    async fn who_comes_too_late_in_the_queue_is_told_when_it_comes() {
        const WORK: Duration = Duration::from_millis(10);
        const WAIT: Duration = Duration::from_millis(400);
        let admission = Admission::new(10, 10_000, &[false]);
        let begun = Instant::now();
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let rush = async |every: Duration, count: usize| {
            for _ in 0..count {
                let (admission, outcomes) = (admission.clone(), Arc::clone(&outcomes));
                tokio::spawn(async move {
                    let came = Instant::now();
                    let admitted = admission.admit(caller(0), Lane::Small, 1, came + WAIT).await;
                    outcomes.lock().push((admitted.is_ok(), came.elapsed()));
                    if let Ok(permit) = admitted {
                        tokio::time::sleep(WORK).await;
                        drop(permit);
                    }
                });
                tokio::time::sleep(every).await;
            }
        };
        // A turn each millisecond, five calls in each.
        rush(Duration::from_micros(200), 15_000).await;
        tokio::time::sleep(WAIT).await;
        let seen = std::mem::take(&mut *outcomes.lock());
        let answered = seen.iter().filter(|(admitted, _)| *admitted).count() as f64;
        let could = (begun.elapsed() - WAIT).as_secs_f64() / (WORK.as_secs_f64() / 10.0);
        assert!(answered >= could * 0.98, "{answered} of {could}");
        let refused: Vec<Duration> = seen.iter().filter(|(admitted, _)| !admitted).map(|(_, waited)| *waited).collect();
        let at_once = refused.iter().filter(|waited| waited.is_zero()).count();
        assert!(at_once * 100 >= refused.len() * 95, "{at_once} of {} at once", refused.len());

        rush(Duration::from_millis(2), 500).await;
        tokio::time::sleep(WAIT).await;
        assert!(outcomes.lock().iter().all(|(admitted, _)| *admitted), "calm again, and somebody is refused");
    }

    #[tokio::test(start_paused = true)]
    async fn one_piece_of_work_takes_a_tenth_at_most() {
        let admission = Admission::new(100, 10, &[false; 2]);
        let permit = admit(&admission, 0, Lane::Small, 1_000_000).await;
        assert_eq!(admission.figures().in_flight, 10);
        drop(permit);
        drop(admit(&admission, 0, Lane::Small, 0).await);
        assert_eq!(admission.figures().in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_holds_at_most_half_while_others_wait() {
        let admission = Admission::new(100, 1000, &[false; 3]);
        let mut first = Vec::new();
        for _ in 0..10 {
            first.push(admit(&admission, 0, Lane::Small, 10).await);
        }
        let mut of_first = Vec::new();
        let mut of_second = Vec::new();
        for _ in 0..20 {
            of_first.push(wait(&admission, 0, Lane::Small, 10).await);
            of_second.push(wait(&admission, 1, Lane::Small, 10).await);
        }
        // Half of the room becomes free: all of it goes to the other one, although the first waited first.
        first.truncate(5);
        for handle in of_second.drain(..5) {
            let permit = handle.await.unwrap();
            std::mem::forget(permit);
        }
        assert!(of_first.iter().all(|handle| !handle.is_finished()));
        assert!(of_second.iter().all(|handle| !handle.is_finished()));
        assert_eq!(admission.figures(), Figures { in_flight: 100, limit: 100, waiting: 35 });
    }

    #[tokio::test(start_paused = true)]
    async fn background_has_half_at_most_and_comes_after_all_others() {
        let admission = Admission::new(100, 1000, &[false, true]);
        let mut of_background = Vec::new();
        for _ in 0..5 {
            of_background.push(admit(&admission, 1, Lane::Small, 10).await);
        }
        let later = wait(&admission, 1, Lane::Small, 10).await;
        assert_eq!(admission.figures(), Figures { in_flight: 50, limit: 100, waiting: 1 });
        // All of the rest is for the one that cannot wait, and what becomes free as well.
        let mut first = Vec::new();
        for _ in 0..5 {
            first.push(admit(&admission, 0, Lane::Small, 10).await);
        }
        let waits = wait(&admission, 0, Lane::Small, 10).await;
        of_background.pop();
        first.push(waits.await.unwrap());
        assert!(!later.is_finished());
        first.clear();
        drop(later.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn alone_a_caller_may_use_all_of_it() {
        let admission = Admission::new(100, 1000, &[false; 3]);
        let mut permits = Vec::new();
        for _ in 0..10 {
            permits.push(admit(&admission, 0, Lane::Small, 10).await);
        }
        let waits = wait(&admission, 0, Lane::Bulk, 10).await;
        drop(permits.pop());
        drop(waits.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn long_lists_leave_room_for_small_calls() {
        let admission = Admission::new(100, 1000, &[false; 2]);
        let mut slices = Vec::new();
        for _ in 0..7 {
            slices.push(admit(&admission, 0, Lane::Bulk, 10).await);
        }
        let waits = wait(&admission, 0, Lane::Bulk, 10).await;
        // Whoever waits for that does not stand in the way of others, of the same caller or not.
        let small = [admit(&admission, 0, Lane::Small, 10).await, admit(&admission, 1, Lane::Small, 10).await];
        drop(small);
        assert!(!waits.is_finished());
        slices.pop();
        drop(waits.await.unwrap());
        drop(slices);
        // One slice has always room, however small that is.
        let narrow = Admission::new(1, 10, &[false]);
        drop(admit(&narrow, 0, Lane::Bulk, 1).await);
    }

    /// A call of 20,000 keys is 79 slices. While they wait, a small call of the same caller is behind one of them at
    /// most, and the slices go on while small calls keep coming.
    #[tokio::test(start_paused = true)]
    async fn small_calls_pass_the_slices_of_a_long_list_and_do_not_starve_them() {
        let admission = Admission::new(256, 1000, &[false; 2]);
        let held = admit(&admission, 0, Lane::Small, 10).await;
        let mut hold = vec![held];
        while admission.figures().in_flight + 25 <= 256 {
            hold.push(admit(&admission, 0, Lane::Small, 25).await);
        }
        let mut slices = Vec::new();
        for _ in 0..79 {
            slices.push(wait(&admission, 0, Lane::Bulk, 25).await);
        }
        let (mut small_done, mut slices_done) = (0, 0);
        let mut small = Vec::new();
        for _ in 0..40 {
            small.push(wait(&admission, 0, Lane::Small, 25).await);
        }
        // One at a time begins as one at a time ends; the order of beginnings is the order of turns.
        let mut order = Vec::new();
        for _ in 0..60 {
            hold.remove(0);
            let permit = loop {
                tokio::task::yield_now().await;
                if let Some(at) = small.iter().position(JoinHandle::is_finished) {
                    small_done += 1;
                    order.push(Lane::Small);
                    break small.remove(at).await.unwrap();
                }
                if let Some(at) = slices.iter().position(JoinHandle::is_finished) {
                    slices_done += 1;
                    order.push(Lane::Bulk);
                    break slices.remove(at).await.unwrap();
                }
            };
            hold.push(permit);
        }
        assert_eq!(small_done, 40, "all small calls are through: {order:?}");
        assert_eq!(slices_done, 20, "and the slices had a turn for each three of theirs or when alone: {order:?}");
        let first_small = order.iter().position(|lane| *lane == Lane::Small).unwrap();
        assert!(first_small <= 1, "{order:?}");
        assert!(order[..40].iter().filter(|lane| **lane == Lane::Bulk).count() >= 8, "{order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_by_weight_and_not_by_number() {
        let admission = Admission::new(100, 10_000, &[false; 3]);
        let mut hold = Vec::new();
        for _ in 0..10 {
            hold.push(admit(&admission, 2, Lane::Small, 10).await);
        }
        // Five hundred light ones come first, then fifty heavy ones; each ends as soon as it has begun.
        let begun = Arc::new(Mutex::new(Vec::new()));
        let mut waits = Vec::new();
        for (of, units, count) in [(0, 1, 500), (1, 10, 50)] {
            for _ in 0..count {
                let (admission, begun) = (admission.clone(), Arc::clone(&begun));
                let before = admission.figures().waiting;
                waits.push(tokio::spawn({
                    let admission = admission.clone();
                    async move {
                        let _permit = admit(&admission, of, Lane::Small, units).await;
                        begun.lock().push((of, units));
                    }
                }));
                while admission.figures().waiting == before {
                    tokio::task::yield_now().await;
                }
            }
        }
        drop(hold);
        for wait in waits {
            wait.await.unwrap();
        }
        let mut had = [0u32; 2];
        for (of, units) in begun.lock().iter() {
            had[*of] += units;
            if had.iter().sum::<u32>() < 800 {
                assert!(had[0].abs_diff(had[1]) <= 60, "{had:?}");
            }
        }
        assert_eq!(had, [500, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_says_whose_it_is() {
        let admission = Admission::new(10, 4, &[false; 2]);
        let mut permits = Vec::new();
        for _ in 0..10 {
            permits.push(admit(&admission, 0, Lane::Small, 1).await);
        }
        let mut waits = Vec::new();
        for _ in 0..3 {
            waits.push(wait(&admission, 0, Lane::Small, 1).await);
        }
        waits.push(wait(&admission, 1, Lane::Small, 1).await);
        let refuse = |of| {
            admission.admit(caller(of), Lane::Small, 1, Instant::now() + LONG).now_or_never().expect("at once").err()
        };
        assert_eq!(refuse(0), Some(Refused::FullOfItself));
        assert_eq!(refuse(1), Some(Refused::Full));
    }

    /// Whatever comes, waits, gives up and goes, nothing is left behind.
    #[tokio::test(start_paused = true)]
    async fn nothing_leaks() {
        let admission = Admission::new(50, 64, &[false; 4]);
        let mut random = 7u64;
        let mut next = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        let mut tasks = Vec::new();
        for _ in 0..5_000 {
            let (of, units, patience, work, abort) =
                (next() as usize % 4, next() as u32 % 9, next() % 20, next() % 10, next() % 5 == 0);
            let lane = if next() % 3 == 0 { Lane::Bulk } else { Lane::Small };
            let admission = admission.clone();
            let task = tokio::spawn(async move {
                if let Ok(permit) =
                    admission.admit(caller(of), lane, units, Instant::now() + Duration::from_millis(patience)).await
                {
                    tokio::time::sleep(Duration::from_millis(work)).await;
                    drop(permit);
                }
            });
            if next() % 3 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if abort {
                task.abort();
            }
            tasks.push(task);
        }
        for task in tasks {
            let _ = task.await;
        }
        assert_eq!(admission.figures(), Figures { in_flight: 0, limit: 50, waiting: 0 });
        let state = admission.inner.state.lock();
        assert!(
            state
                .shares
                .iter()
                .all(|share| share.in_flight == 0 && share.waiting == 0 && share.next(|_| false).is_none())
        );
    }
}
