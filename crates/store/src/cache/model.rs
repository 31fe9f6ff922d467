//! Does any course of events leave a key stale for good? The protocol's own code, one step at a time, against a model of
//! memcached and of a store, in every order that two readers and a writer allow, and in many random ones with losses, late
//! messages, evictions, restarts and crashes.
//!
//! `CACHE_HISTORIES` and `CACHE_SEED` make the random part as long as wanted.

use std::{collections::BTreeSet, time::Duration};

use super::protocol::{Attempt, Ledger, Next, Reading, Said};
use crate::conformance::Seeded;

/// A version of the one row; 0: there is none.
type Version = u32;

/// The one key.
const KEY: u8 = 0;

/// What stands in memcached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Item {
    Stub,
    Row(Version),
    Mark,
}

/// How fills and changes are made: ours, and ways that must be caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Marks, leases, a ledger.
    Ours,
    /// Fills without a lease; a removal after the change.
    Blind,
    /// Leases, but nothing before the change: a removal after it.
    LeaseOnly,
    /// Marks and leases, but nobody remembers what was not confirmed.
    NoLedger,
    /// What was not confirmed is remembered, but not by whoever comes after a crash.
    NoJournal,
}

/// memcached, one key of it, as its protocol documentation has it.
#[derive(Debug, Clone, Default)]
struct Server {
    item: Option<(Item, u64)>,
    cas: u64,
    /// Which life of the server this is; connections do not outlive it.
    life: u32,
}

/// The right to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    cas: u64,
    life: u32,
}

impl Server {
    fn put(&mut self, item: Item) {
        self.cas += 1;
        self.item = Some((item, self.cas));
    }

    fn ask(&mut self) -> Said<Version, Lease> {
        match self.item {
            None => {
                self.put(Item::Stub);
                Said::Won(Lease { cas: self.cas, life: self.life })
            }
            Some((Item::Stub, _)) => Said::Taken,
            Some((Item::Mark, _)) => Said::Bypass,
            Some((Item::Row(0), _)) => Said::Absent,
            Some((Item::Row(version), _)) => Said::Row(version, None),
        }
    }

    /// A row whose time is nearly up gives one reader a lease beside the row.
    fn ask_near_the_end(&mut self) -> Said<Version, Lease> {
        let lease = self.item.map(|(_, cas)| Lease { cas, life: self.life });
        match self.ask() {
            Said::Row(version, None) => Said::Row(version, lease),
            said => said,
        }
    }
}

/// Something on its way to memcached, which may arrive late, or never.
#[derive(Debug, Clone, Copy)]
enum Message {
    Mark,
    Remove { attempt: Option<Attempt>, process: u32 },
    Fill(Version, Option<Lease>),
}

#[derive(Debug, Clone)]
enum Stage {
    Ask,
    Load(Option<Lease>),
    Fill(Version, Option<Lease>),
    Done,
}

#[derive(Debug, Clone)]
struct Reader {
    reading: Reading,
    stage: Stage,
    /// In the writer's process, whose ledger it looks at.
    at_home: bool,
    /// The newest change that had been answered when it began.
    floor: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Idle,
    Marked,
    Applied,
}

#[derive(Debug)]
struct World {
    way: Way,
    server: Server,
    row: Version,
    /// Whether the store says that the key was being changed.
    written_down: bool,
    ledger: Ledger<u8>,
    /// Which life of the writing process this is.
    process: u32,
    writing: Step,
    answered: Version,
    readers: Vec<Reader>,
    late: Vec<Message>,
    /// A reader got less than what had been answered before it began.
    went_back: bool,
}

impl World {
    fn new(way: Way, readers: &[bool]) -> Self {
        let reader =
            |at_home: &bool| Reader { reading: Reading::default(), stage: Stage::Ask, at_home: *at_home, floor: 0 };
        Self {
            way,
            server: Server::default(),
            row: 0,
            written_down: false,
            ledger: Ledger::new(8),
            process: 0,
            writing: Step::Idle,
            answered: 0,
            readers: readers.iter().map(reader).collect(),
            late: Vec::new(),
            went_back: false,
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Mark => self.server.put(Item::Mark),
            Message::Remove { attempt, process } => {
                self.server.item = None;
                if let Some(attempt) = attempt
                    && process == self.process
                {
                    self.ledger.removed(&KEY, attempt);
                }
            }
            Message::Fill(version, Some(lease)) => {
                let holds = self.server.item.is_some_and(|(_, cas)| cas == lease.cas) && lease.life == self.server.life;
                if holds {
                    self.server.put(Item::Row(version));
                }
            }
            Message::Fill(version, None) => self.server.put(Item::Row(version)),
        }
    }

    /// One step of the writer. `arrives`: what is sent arrives now, and the answer too.
    fn write(&mut self, arrives: bool) {
        match self.writing {
            Step::Idle => {
                self.ledger.begin(KEY);
                if !matches!(self.way, Way::Blind | Way::LeaseOnly) {
                    let mark = Message::Mark;
                    if arrives {
                        self.deliver(mark);
                    } else {
                        self.late.push(mark);
                        self.ledger.lose(&KEY);
                    }
                }
                self.written_down = self.ledger.all(8).is_some_and(|keys| keys.contains(&KEY));
                self.writing = Step::Marked;
            }
            Step::Marked => {
                self.row += 1;
                self.writing = Step::Applied;
            }
            Step::Applied => {
                self.ledger.changed(&KEY, Duration::ZERO);
                self.answered = self.row;
                self.writing = Step::Idle;
                self.remove(arrives);
            }
        }
    }

    fn remove(&mut self, arrives: bool) {
        let attempt = self.ledger.attempt(&KEY);
        let message = Message::Remove { attempt, process: self.process };
        if arrives {
            self.deliver(message);
        } else {
            self.late.push(message);
            self.ledger.lose(&KEY);
        }
        if matches!(self.way, Way::Blind | Way::LeaseOnly | Way::NoLedger) {
            self.ledger.begin_anew();
        }
    }

    /// One step of a reader. Says whether there was one to take.
    fn read(&mut self, n: usize, near_the_end: bool, arrives: bool) -> bool {
        let reader = &mut self.readers[n];
        match std::mem::replace(&mut reader.stage, Stage::Done) {
            Stage::Ask => {
                let said = if reader.at_home && !self.ledger.allows(&KEY) && !matches!(self.way, Way::Blind) {
                    Said::Bypass
                } else if near_the_end {
                    self.server.ask_near_the_end()
                } else {
                    self.server.ask()
                };
                reader.stage = match reader.reading.said(said) {
                    Next::Answer(version, lease) => {
                        let version = version.unwrap_or(0);
                        self.went_back |= reader.at_home && version < reader.floor;
                        lease.map_or(Stage::Done, |lease| Stage::Load(Some(lease)))
                    }
                    Next::Load(lease) => Stage::Load(lease),
                    Next::Wait(_) => Stage::Ask,
                };
            }
            Stage::Load(lease) => reader.stage = Stage::Fill(self.row, lease),
            Stage::Fill(version, lease) => {
                self.went_back |= reader.at_home && version < reader.floor;
                let message = match (lease, self.way) {
                    (_, Way::Blind) => Some(Message::Fill(version, None)),
                    (Some(lease), _) => Some(Message::Fill(version, Some(lease))),
                    (None, _) => None,
                };
                if let Some(message) = message {
                    if arrives { self.deliver(message) } else { self.late.push(message) }
                }
            }
            Stage::Done => return false,
        }
        true
    }

    /// The writing process dies, its readers with it, and starts again.
    fn crash(&mut self) {
        self.process += 1;
        self.writing = Step::Idle;
        self.ledger = Ledger::new(8);
        if self.written_down && self.way == Way::Ours {
            self.ledger.adopt(KEY);
        }
        // What was applied stands, answered or not.
        self.answered = self.row;
        for reader in self.readers.iter_mut().filter(|it| it.at_home) {
            *reader = Reader { reading: Reading::default(), stage: Stage::Ask, at_home: true, floor: self.answered };
        }
    }

    /// Everybody finishes, lost marks are made good, and marks and stubs reach their end. Rows do not.
    fn settle(&mut self) {
        while self.writing != Step::Idle {
            self.write(true);
        }
        for message in std::mem::take(&mut self.late) {
            self.deliver(message);
        }
        for n in 0..self.readers.len() {
            // A reader waits a bounded number of times.
            while self.read(n, false, true) {}
        }
        while !self.ledger.is_clean() {
            let (_, attempt) = self.ledger.due(1)[0];
            self.deliver(Message::Remove { attempt: Some(attempt), process: self.process });
        }
        if matches!(self.server.item, Some((Item::Mark | Item::Stub, _))) {
            self.server.item = None;
        }
    }

    /// Whether what stands is old, with nobody left to mend it.
    fn is_stale(&self) -> bool {
        matches!(self.server.item, Some((Item::Row(version), _)) if version != self.row)
    }
}

/// Plays one course of events: who takes the next step, and whether what it sends arrives at once.
/// With `drops` what does not arrive at once never does.
fn play(
    way: Way,
    at_home: [bool; 2],
    steps: &[(u8, bool)],
    drops: bool,
    crash_after: Option<usize>,
    evict_after: usize,
) -> World {
    let mut world = World::new(way, &at_home);
    for (n, (who, arrives)) in steps.iter().enumerate() {
        match who {
            // Nobody writes on after a crash, which could mend by accident what the crash left.
            2 if crash_after.is_some_and(|crash| crash < n) => {}
            2 => world.write(*arrives),
            reader => drop(world.read(usize::from(*reader), false, *arrives)),
        }
        if crash_after == Some(n) {
            world.crash();
        }
        if evict_after == n {
            world.server.item = None;
        }
        if drops {
            world.late.clear();
        }
    }
    world.settle();
    world
}

/// All orders of three steps each of two readers and of one writer.
fn orders() -> Vec<Vec<u8>> {
    fn go(left: [u8; 3], order: &mut Vec<u8>, all: &mut Vec<Vec<u8>>) {
        if left == [0; 3] {
            all.push(order.clone());
            return;
        }
        for who in 0..3 {
            if left[who] > 0 {
                let mut left = left;
                left[who] -= 1;
                order.push(who as u8);
                go(left, order, all);
                order.pop();
            }
        }
    }
    let mut all = Vec::new();
    go([3; 3], &mut Vec::new(), &mut all);
    all
}

/// How many courses leave the key stale, and in how many a reader went back behind what had been answered.
fn exhaust(way: Way) -> (u64, u64, u64) {
    let (mut courses, mut stale, mut back) = (0, 0, 0);
    // At most two of the nine messages do not arrive at once: each of the pairs.
    let orders = orders();
    let losses: BTreeSet<Vec<usize>> =
        (0..9).flat_map(|a| (0..9).map(move |b| if a == b { vec![a] } else { vec![a.min(b), a.max(b)] })).collect();
    let losses: Vec<Vec<usize>> = std::iter::once(Vec::new()).chain(losses).collect();
    for order in &orders {
        for lost in &losses {
            let steps: Vec<(u8, bool)> = order.iter().enumerate().map(|(n, who)| (*who, !lost.contains(&n))).collect();
            for (at_home, drops) in [(true, false), (true, true), (false, false), (false, true)] {
                // Without a loss there is nothing to drop. 9: not at all.
                if drops && lost.is_empty() {
                    continue;
                }
                let crashes = (0..9).map(|n| (Some(n), 9));
                let evictions = (0..=9).map(|n| (None, n));
                for (crash, evict) in crashes.chain(evictions) {
                    let world = play(way, [true, at_home], &steps, drops, crash, evict);
                    courses += 1;
                    stale += u64::from(world.is_stale());
                    back += u64::from(world.went_back);
                }
            }
        }
    }
    (courses, stale, back)
}

/// One random history: many reads and writes, and everything that may happen between them.
fn history(way: Way, seed: u64) -> World {
    let mut dice = Seeded::new(seed);
    let mut world = World::new(way, &[true, true, false]);
    let mut reachable = true;
    for _ in 0..40 + dice.below(60) {
        let arrives = reachable && !dice.once_in(12);
        match dice.below(100) {
            0..30 => world.write(arrives),
            30..80 => {
                let (n, near_the_end) = (dice.below(3), dice.once_in(6));
                if matches!(world.readers[n].stage, Stage::Done) {
                    world.readers[n].reading = Reading::default();
                    world.readers[n].stage = Stage::Ask;
                    world.readers[n].floor = world.answered;
                }
                // A partition cuts off the writer's process; its readers ask in vain there.
                let cut = world.readers[n].at_home && !reachable;
                if cut && matches!(world.readers[n].stage, Stage::Ask) {
                    let Next::Load(lease) = world.readers[n].reading.said(Said::<Version, Lease>::Nothing) else {
                        continue;
                    };
                    world.readers[n].stage = Stage::Load(lease);
                } else {
                    world.read(n, near_the_end, arrives || !world.readers[n].at_home);
                }
            }
            80..86 if !world.late.is_empty() => {
                let n = dice.below(world.late.len());
                let message = world.late.swap_remove(n);
                // Some never arrive.
                if !dice.once_in(3) {
                    world.deliver(message);
                }
            }
            86..89 => world.server.item = None,
            // Marks and stubs reach their end.
            89..92 => {
                if matches!(world.server.item, Some((Item::Stub, _)))
                    || (matches!(world.server.item, Some((Item::Mark, _))) && world.writing == Step::Idle)
                {
                    world.server.item = None;
                }
            }
            // The server starts again: its numbers begin anew.
            92..94 => {
                world.server = Server { life: world.server.life + 1, ..Server::default() };
                // Nothing on its way outlives a connection.
                world.late.clear();
            }
            94..96 => world.crash(),
            96..98 => reachable = !reachable,
            _ => {
                if reachable && !world.ledger.is_clean() && world.writing == Step::Idle {
                    world.remove(arrives);
                }
            }
        }
    }
    if dice.once_in(2) {
        world.late.clear();
    }
    world.settle();
    world
}

#[test]
fn no_order_of_two_readers_and_a_writer_leaves_a_key_stale() {
    let (courses, stale, back) = exhaust(Way::Ours);
    assert!(courses > 2_000_000, "{courses}");
    assert_eq!((stale, back), (0, 0), "of {courses} courses");
}

#[test]
fn the_same_orders_catch_ways_that_are_wrong() {
    for way in [Way::Blind, Way::LeaseOnly, Way::NoLedger, Way::NoJournal] {
        let (courses, stale, _) = exhaust(way);
        assert!(stale > 0, "{way:?} is wrong, and {courses} courses did not show it");
    }
}

#[test]
fn no_random_history_leaves_a_key_stale_and_wrong_ways_are_caught() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let (histories, seed) = (number("CACHE_HISTORIES", 30_000), number("CACHE_SEED", 1));
    // Each history is its seed's alone, so that threads may share them out.
    let threads = std::thread::available_parallelism().map_or(1, |it| it.get() as u64);
    let check = |first: u64| {
        for seed in (seed + first..seed + histories).step_by(threads as usize) {
            let world = history(Way::Ours, seed);
            assert!(!world.is_stale(), "stale for good: CACHE_HISTORIES=1 CACHE_SEED={seed}: {world:?}");
            assert!(!world.went_back, "a reader went back: CACHE_HISTORIES=1 CACHE_SEED={seed}: {world:?}");
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|first| drop(scope.spawn(move || check(first)))));
    for way in [Way::Blind, Way::LeaseOnly, Way::NoLedger, Way::NoJournal] {
        let stale = (0..2_000).filter(|n| history(way, seed + n).is_stale()).count();
        assert!(stale > 0, "{way:?} is wrong, and no history showed it");
    }
}
