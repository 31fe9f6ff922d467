//! Whose visit to the engine is next.
//!
//! A few visits run at the same time. While all of them run, others wait here, and callers take turns: the next turn is
//! the one's who has had the least since it began to wait. So one that asks for everything cannot make another one wait
//! for more than the visits that run already. Within a caller, visits for long lists get a quarter of the turns while
//! there are others. Whoever can wait comes after everybody who cannot. A visit for a long list ends early, at its next
//! look, when somebody else has come to wait ([`Turn::ends_early`]), and counts for as much as it read.
//!
//! Who asks is said once, around the work of a whole call ([`on_behalf`]); nothing below that needs to know it. What is
//! not said to be for anybody is the plane's own work, which is never refused.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use crate::{Error, Pace, Result};

/// A small call whose visit would have to wait longer than this, by the pace at which turns come, is refused at once.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How many turns other visits of a caller have for one of its long lists, when both wait.
const TURNS_OF_SMALL: u64 = 3;
/// What a visit costs beside its keys, in keys.
const KEYS_OF_A_VISIT: u64 = 16;
/// A caller's two lanes: that of its long lists, and that of everything else.
const SMALL: usize = 0;
const BULK: usize = 1;

/// How much a key counts in a lane of a caller.
fn weight(lane: usize) -> u64 {
    if lane == BULK { TURNS_OF_SMALL } else { 1 }
}

/// On whose behalf something is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behalf {
    /// The number of the caller, from 1; 0 is the plane itself.
    pub caller: u8,
    /// Whether it is a part of a long list.
    pub bulk: bool,
    /// Whether it comes after all that cannot wait.
    pub can_wait: bool,
}

/// A bound on the bytes that are read on somebody's behalf and kept until they are answered.
pub trait Purse: Send + Sync {
    /// Takes as many bytes, or says that there are not as many left; then what is being read is refused.
    fn take(&self, bytes: usize) -> bool;
}

/// For whom a task reads, and who pays.
struct Errand {
    behalf: Behalf,
    purse: Option<Arc<dyn Purse>>,
}

tokio::task_local! {
    static ERRAND: Errand;
}

/// On whose behalf this task reads.
fn behalf() -> Behalf {
    ERRAND.try_with(|it| it.behalf).unwrap_or_default()
}

/// Runs a future whose reads are on somebody's behalf, and pays for what is read out of a purse.
pub fn on_behalf<F: Future>(of: Behalf, purse: Arc<dyn Purse>, work: F) -> impl Future<Output = F::Output> {
    ERRAND.scope(Errand { behalf: of, purse: Some(purse) }, work)
}

/// Runs work that others may come to wait for, in the turns of whoever began it. A task of its own would otherwise count
/// as the plane's, which is never refused. It pays nothing: each reader pays for what it takes.
pub(crate) fn for_caller<F: Future>(work: F) -> impl Future<Output = F::Output> {
    ERRAND.scope(Errand { behalf: behalf(), purse: None }, work)
}

/// Takes bytes out of the purse of whoever is read for.
///
/// # Errors
///
/// There are not as many left in it: [`Error::Busy`]. What was read is to be dropped.
pub fn pay(bytes: usize) -> Result<()> {
    // What the plane reads for itself has bounds of its own.
    let takes = |errand: &Errand| errand.purse.as_ref().is_none_or(|purse| purse.take(bytes));
    if ERRAND.try_with(takes).unwrap_or(true) { Ok(()) } else { Err(Error::Busy) }
}

/// The bound on visits to the engine, and who waits for one.
#[derive(Debug)]
pub(crate) struct Turns {
    at_once_max: usize,
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    arrivals: u64,
    shares: Vec<Share>,
    /// Where the last turn began, on the scale of [`Share::had`].
    now: u64,
    /// Visits for long lists that end early and have not ended yet.
    ending: usize,
}

#[derive(Debug, Default)]
struct Share {
    can_wait: bool,
    waiting: usize,
    /// Keys had so far, or as many as the others had while it was away: being away earns no credit.
    had: u64,
    lanes: [Lane; 2],
    lane_now: u64,
}

#[derive(Debug, Default)]
struct Lane {
    had: u64,
    queue: VecDeque<Waiter>,
    pace: Pace,
}

#[derive(Debug)]
struct Waiter {
    arrival: u64,
    keys: u64,
    tell: oneshot::Sender<()>,
}

impl Turns {
    /// As many visits at once, and as many that wait on behalf of callers.
    pub(crate) fn new(at_once_max: usize, waiting_max: usize) -> Arc<Self> {
        Arc::new(Self { at_once_max, waiting_max, state: Mutex::default() })
    }

    /// Visits that run.
    pub(crate) fn running(&self) -> usize {
        self.state.lock().running
    }

    /// Visits that may run at once.
    pub(crate) fn at_once_max(&self) -> usize {
        self.at_once_max
    }

    /// Waits for a turn to read so many keys. Refused at once where too many wait.
    pub(crate) async fn turn(self: &Arc<Self>, keys: usize) -> Result<Turn> {
        let behalf = behalf();
        let charged = KEYS_OF_A_VISIT + keys as u64;
        let turn = |charged| Turn {
            turns: Arc::clone(self),
            caller: usize::from(behalf.caller),
            lane: usize::from(behalf.bulk),
            charged,
            is_ending: false,
        };
        // Who begins at once has taken nothing from anybody.
        let Some(mut place) = self.enter(behalf, charged)? else { return Ok(turn(0)) };
        // The other end lives in the queue until it is used.
        let told = (&mut place.told).await;
        debug_assert!(told.is_ok(), "a waiter was forgotten");
        place.left = true;
        Ok(turn(charged))
    }

    /// Whether a visit on behalf of whoever is read for would be refused if it came now.
    ///
    /// # Errors
    ///
    /// It would: [`Error::Busy`].
    pub(crate) fn may_come(&self) -> Result<()> {
        let behalf = behalf();
        let state = self.state.lock();
        if state.waiting > 0 && state.refuses(behalf, self.waiting_max) { Err(Error::Busy) } else { Ok(()) }
    }

    /// Begins at once, or takes a place in the queue.
    fn enter(self: &Arc<Self>, behalf: Behalf, keys: u64) -> Result<Option<Place>> {
        let mut state = self.state.lock();
        if state.waiting == 0 && state.running < self.at_once_max {
            state.running += 1;
            return Ok(None);
        }
        let caller = usize::from(behalf.caller);
        if state.shares.len() <= caller {
            state.shares.resize_with(caller + 1, Share::default);
        }
        if state.refuses(behalf, self.waiting_max) {
            return Err(Error::Busy);
        }
        let (tell, told) = oneshot::channel();
        state.arrivals += 1;
        let arrival = state.arrivals;
        let now = state.now;
        let share = &mut state.shares[caller];
        share.can_wait = behalf.can_wait;
        if share.waiting == 0 {
            share.had = share.had.max(now);
        }
        let lane = usize::from(behalf.bulk);
        let of_lane = &mut share.lanes[lane];
        if of_lane.queue.is_empty() {
            of_lane.had = of_lane.had.max(share.lane_now);
            of_lane.pace.begin(Instant::now());
        }
        of_lane.queue.push_back(Waiter { arrival, keys, tell });
        share.waiting += 1;
        state.waiting += 1;
        Ok(Some(Place { turns: Arc::clone(self), caller, lane, arrival, told, left: false }))
    }
}

impl State {
    /// Whether somebody is turned away who would have to wait.
    fn refuses(&self, behalf: Behalf, waiting_max: usize) -> bool {
        // The plane itself is never refused.
        let caller = usize::from(behalf.caller);
        let Some(share) = self.shares.get(caller).filter(|_| caller > 0) else { return false };
        // Those who can wait leave half of the places to the others, and one caller leaves a quarter.
        let own_max = if behalf.can_wait { waiting_max / 2 } else { waiting_max / 4 * 3 };
        if self.waiting >= waiting_max || share.waiting >= own_max {
            return true;
        }
        // Parts of a long list have until the deadline of their call, and are few.
        let of_lane = &share.lanes[usize::from(behalf.bulk)];
        !behalf.bulk && of_lane.pace.is_too_late(of_lane.queue.len(), WAIT_MAX)
    }

    fn give_turns(&mut self, at_once_max: usize) {
        while self.waiting > 0 && self.running < at_once_max {
            let waiting = self.shares.iter_mut().filter(|share| share.waiting > 0);
            let Some(share) = waiting.min_by_key(|share| (share.can_wait, share.had)) else { return };
            let Some((keys, waiter)) = share.next() else { return };
            if !share.can_wait {
                self.now = share.had;
            }
            share.had += keys;
            share.waiting -= 1;
            self.waiting -= 1;
            self.running += 1;
            // Whoever stops waiting leaves the queue first, so there is somebody to tell.
            let told = waiter.tell.send(());
            debug_assert!(told.is_ok(), "a place in the queue outlived the one who waits");
        }
    }
}

impl Share {
    fn next(&mut self) -> Option<(u64, Waiter)> {
        let [small, bulk] = &self.lanes;
        let lane = match (small.queue.is_empty(), bulk.queue.is_empty()) {
            (false, false) if small.had > bulk.had => BULK,
            (false, _) => SMALL,
            (true, _) => BULK,
        };
        let of_lane = &mut self.lanes[lane];
        let waiter = of_lane.queue.pop_front()?;
        of_lane.pace.turn(Instant::now());
        self.lane_now = of_lane.had;
        of_lane.had += waiter.keys * weight(lane);
        Some((waiter.keys, waiter))
    }
}

/// A place in the queue; leaves it when dropped.
struct Place {
    turns: Arc<Turns>,
    caller: usize,
    lane: usize,
    arrival: u64,
    told: oneshot::Receiver<()>,
    left: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut state = self.turns.state.lock();
        let share = &mut state.shares[self.caller];
        let queue = &mut share.lanes[self.lane].queue;
        match queue.binary_search_by_key(&self.arrival, |waiter| waiter.arrival) {
            Ok(at) => {
                queue.remove(at);
                share.waiting -= 1;
                state.waiting -= 1;
            }
            // Its turn came, and it was gone before it could begin.
            Err(_) => {
                state.running -= 1;
                state.give_turns(self.turns.at_once_max);
            }
        }
    }
}

/// A visit under way; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    caller: usize,
    lane: usize,
    /// What its caller was charged for it, in keys.
    charged: u64,
    is_ending: bool,
}

impl Turn {
    /// Whether this is for a long list and somebody waits whose own visit is not, more of them than other visits end for.
    /// Then it is to end: with so many keys read, which is all that its caller is charged for.
    pub(crate) fn ends_early(&mut self, keys: usize) -> bool {
        if self.lane != BULK {
            return false;
        }
        let mut state = self.turns.state.lock();
        let small: usize = state.shares.iter().map(|share| share.lanes[SMALL].queue.len()).sum();
        if small <= state.ending {
            return false;
        }
        state.ending += 1;
        self.is_ending = true;
        let unused = self.charged.saturating_sub(KEYS_OF_A_VISIT + keys as u64);
        self.charged -= unused;
        // Who began at once was charged nothing, and gets nothing back.
        if let Some(share) = state.shares.get_mut(self.caller).filter(|_| unused > 0) {
            share.had = share.had.saturating_sub(unused);
            let of_lane = &mut share.lanes[BULK];
            of_lane.had = of_lane.had.saturating_sub(unused * weight(BULK));
        }
        true
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        state.running -= 1;
        state.ending -= usize::from(self.is_ending);
        state.give_turns(self.turns.at_once_max);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc, task::yield_now};

    use super::*;

    struct Endless;

    impl Purse for Endless {
        fn take(&self, _: usize) -> bool {
            true
        }
    }

    fn of(caller: u8) -> Behalf {
        Behalf { caller, ..Behalf::default() }
    }

    /// Puts visits into the queue in an order, lets them run one at a time, and says in which order they ran.
    async fn order(asked: &[(Behalf, usize)]) -> Vec<Behalf> {
        let turns = Turns::new(1, 1_000);
        let first = turns.turn(1).await.unwrap();
        let (tell, mut ran) = mpsc::channel(asked.len());
        for (behalf, keys) in asked {
            let (turns, tell, behalf, keys) = (Arc::clone(&turns), tell.clone(), *behalf, *keys);
            tokio::spawn(on_behalf(behalf, Arc::new(Endless), async move {
                let turn = turns.turn(keys).await.unwrap();
                tell.send(behalf).await.unwrap();
                drop(turn);
            }));
            yield_now().await;
        }
        assert_eq!(turns.state.lock().waiting, asked.len());
        drop((first, tell));
        let mut order = Vec::new();
        while let Some(behalf) = ran.recv().await {
            order.push(behalf);
        }
        let state = turns.state.lock();
        assert_eq!((state.running, state.waiting), (0, 0));
        order
    }

    #[tokio::test]
    async fn a_task_that_others_wait_for_takes_the_turns_of_whoever_began_it() {
        let behalf = Behalf { caller: 3, bulk: true, can_wait: true };
        let seen = on_behalf(behalf, Arc::new(Empty), async {
            let seen = async { (super::behalf(), pay(1).is_ok()) };
            tokio::spawn(for_caller(seen)).await.unwrap()
        });
        assert_eq!(seen.await, (behalf, true));
    }

    struct Empty;

    impl Purse for Empty {
        fn take(&self, _: usize) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn callers_take_turns_however_much_one_of_them_asks_for() {
        let mut asked = vec![(of(1), 256); 50];
        asked.extend([(of(2), 10), (of(3), 10), (of(2), 10), (of(3), 10)]);
        let order = order(&asked).await;
        let last = order.iter().rposition(|it| it.caller != 1).unwrap();
        assert!(last <= 5, "{order:?}");
    }

    #[tokio::test]
    async fn long_lists_let_other_visits_of_their_caller_pass_and_are_not_starved() {
        let bulk = Behalf { bulk: true, ..of(1) };
        let mut asked = vec![(bulk, 16); 20];
        asked.extend(vec![(of(1), 16); 20]);
        let order = order(&asked).await;
        let small = order[..16].iter().filter(|it| !it.bulk).count();
        assert!((10..=14).contains(&small), "{small} of the first 16: {order:?}");
    }

    #[tokio::test]
    async fn a_visit_for_a_long_list_knows_when_a_small_one_waits_and_is_charged_for_what_it_read() {
        let turns = Turns::new(1, 1_000);
        let bulk = Behalf { bulk: true, ..of(1) };
        let first = turns.turn(1).await.unwrap();
        let place = turns.enter(bulk, KEYS_OF_A_VISIT + 256).unwrap();
        drop(first);
        let mut place = place.unwrap();
        (&mut place.told).await.unwrap();
        place.left = true;
        let charged = KEYS_OF_A_VISIT + 256;
        let mut visit = Turn { turns: Arc::clone(&turns), caller: 1, lane: BULK, charged, is_ending: false };
        let mut other = Turn { turns: Arc::clone(&turns), caller: 2, lane: BULK, charged: 0, is_ending: false };
        turns.state.lock().running += 1;
        let other_list = turns.enter(Behalf { bulk: true, ..of(2) }, 256).unwrap();
        assert!(!visit.ends_early(32), "another long list can wait as long as this one");
        let mut small = turns.enter(of(3), 10).unwrap().unwrap();
        assert!(visit.ends_early(32));
        assert_eq!(turns.state.lock().shares[1].had, KEYS_OF_A_VISIT + 32);
        assert!(!other.ends_early(32), "one end is enough for one who waits");
        let second = turns.enter(of(3), 10).unwrap();
        assert!(other.ends_early(32));
        drop((visit, second, other_list));
        drop(other);
        assert!(small.told.try_recv().is_ok());
        let state = turns.state.lock();
        assert_eq!((state.running, state.waiting, state.ending), (1, 0, 0));
        small.left = true;
    }

    #[tokio::test]
    async fn whoever_can_wait_comes_last_and_leaves_places_to_the_others() {
        let later = Behalf { can_wait: true, ..of(1) };
        let order = order(&[(later, 1), (later, 1), (of(2), 256), (of(2), 256)]).await;
        assert_eq!(order.iter().map(|it| it.caller).collect::<Vec<_>>(), [2, 2, 1, 1]);

        let turns = Turns::new(1, 8);
        let _running = turns.turn(1).await.unwrap();
        let wait = |behalf: Behalf| turns.enter(behalf, 1);
        let mut places: Vec<_> = (0..4).map(|_| wait(later).unwrap()).collect();
        assert!(matches!(wait(later), Err(Error::Busy)));
        places.extend((0..4).map(|_| wait(of(2)).unwrap()));
        assert!(matches!(wait(of(2)), Err(Error::Busy)));
        places.push(wait(Behalf::default()).unwrap());
        drop(places);
        assert_eq!(turns.state.lock().waiting, 0);
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_and_gives_back_what_came_too_late() {
        let turns = Turns::new(1, 8);
        let running = turns.turn(1).await.unwrap();
        let first = turns.enter(of(1), 1).unwrap();
        let second = turns.enter(of(2), 1).unwrap();
        let third = turns.enter(of(3), 1).unwrap();
        drop(second);
        drop(running);
        // The turn is the first one's, who does not come.
        drop(first);
        let mut third = third.unwrap();
        (&mut third.told).await.unwrap();
        third.left = true;
        drop((third, Turn { turns: Arc::clone(&turns), caller: 3, lane: SMALL, charged: 0, is_ending: false }));
        let state = turns.state.lock();
        assert_eq!((state.running, state.waiting), (0, 0));
    }
}
