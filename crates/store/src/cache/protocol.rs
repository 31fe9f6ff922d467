//! Who may read, fill and remove what in memcached, and when. Sans I/O: the model of the tests runs exactly this.
//!
//! Three rules, and every key is right again by itself:
//!
//! 1. **A fill needs a lease**, and any change of the key ends it. There is no other way to put a row.
//! 2. **A key is marked before its row changes, and the mark removed after.** A mark is a change of the key, so it ends
//!    all leases; while it stands nobody fills.
//! 3. **A change is remembered**, in the engine too and before the row changes, until somebody confirms that the key was
//!    removed after it. Until then the key is not read here; and if its mark may not stand, the node not at all elsewhere.
//!
//! `docs/cache.md` says why this is enough.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// How long a mark stands if nobody removes it.
pub(crate) const MARK_SECONDS: u32 = 10;

/// A row whose change took longer than this may have outlived its mark.
const MARK_TRUSTED: Duration = Duration::from_secs(MARK_SECONDS as u64 - 2);

/// How long a key is marked as being filled: after it another reader may try.
pub(crate) const STUB_SECONDS: u32 = 3;

/// How long a row stands. Nothing outlives it, whatever happens.
pub(crate) const ROW_SECONDS: u32 = 3600;

/// A row with less than this to live is loaded again by one reader, while others go on reading it.
pub(crate) const REFRESH_SECONDS: u32 = 300;

/// How long "there is no row" stands, jitter included.
pub(crate) const ABSENT_SECONDS_MAX: u32 = 30;

/// How long "ask the store" stands for a row that is too large to be kept.
pub(crate) const TOO_LARGE_SECONDS: u32 = 60;

/// How long "ask the store" stands where something spoiled was found.
pub(crate) const SPOILED_SECONDS: u32 = 10;

/// First and longest pause before a key that somebody else fills is asked for again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(16));

/// How long a reader waits for somebody else's fill before it asks the store itself.
const FILL_WAIT_MAX: Duration = Duration::from_millis(400);

/// Keys of a node that are remembered one by one; with more the whole node begins anew.
pub(crate) const LEDGER_KEYS_MAX: usize = 100_000;

/// Keys of a node that are written to the engine one by one, with every group of changes; with more it is only written that
/// there were, and a writer that starts after this one died begins the node anew.
pub(crate) const JOURNAL_KEYS_MAX: usize = 16_384;

/// What the shared cache says about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said<V, L> {
    /// A row; with a lease for the one reader that should load it again.
    Row(V, Option<L>),
    /// There is no row.
    Absent,
    /// The store must be asked, and the answer not be kept.
    Bypass,
    /// Nothing, and we are the one to fill it.
    Won(L),
    /// Nothing, and somebody else is filling it.
    Taken,
    /// It does not say: no answer, not usable, or nothing without a right to fill.
    Nothing,
}

/// What a reader does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next<V, L> {
    /// This is the answer; with a lease, load it again when nobody waits.
    Answer(Option<V>, Option<L>),
    /// Ask the store; with a lease, fill with what it says.
    Load(Option<L>),
    /// Ask the cache again, after a pause.
    Wait(Duration),
}

/// One reader's way to one key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    waited: Duration,
    pause: Duration,
}

impl Reading {
    /// What to do after the cache has spoken.
    pub(crate) fn said<V, L>(&mut self, said: Said<V, L>) -> Next<V, L> {
        match said {
            Said::Row(row, refresh) => Next::Answer(Some(row), refresh),
            Said::Absent => Next::Answer(None, None),
            Said::Won(lease) => Next::Load(Some(lease)),
            Said::Bypass | Said::Nothing => Next::Load(None),
            Said::Taken if self.waited >= FILL_WAIT_MAX => Next::Load(None),
            Said::Taken => {
                self.pause = (self.pause * 2).clamp(PAUSES.0, PAUSES.1);
                self.waited += self.pause;
                Next::Wait(self.pause)
            }
        }
    }
}

/// How long an entry stands: one tenth more or less, by a number that differs from entry to entry, so that what was put
/// together does not go together.
pub(crate) fn jittered(seconds: u32, chance: u64) -> u32 {
    let tenth = seconds / 10;
    seconds - tenth + (chance % (2 * u64::from(tenth) + 1)) as u32
}

/// Keys of one node that are being changed, or whose removal after a change nobody has confirmed yet.
///
/// ```text
/// begun -> (row changes) -> changed -> removed, confirmed -> forgotten
///   lost: its mark may not stand, or its removal was not confirmed: removed again and again
/// ```
///
/// The engine holds a copy of it that is never behind: it is written before rows change.
#[derive(Debug)]
pub(crate) struct Ledger<K> {
    keys: HashMap<K, Entry>,
    turn: u64,
    lost: usize,
    keys_max: usize,
    overflowed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Which change it is: the answer to a removal after an earlier one says nothing about this one.
    turn: u64,
    /// Its row may still be changing: removed now, it could be filled with what was before.
    changing: bool,
    /// Other processes may read something old.
    lost: bool,
}

/// The promise of a removal: which change it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt(u64);

impl<K: Hash + Eq + Clone> Ledger<K> {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { keys: HashMap::new(), turn: 0, lost: 0, keys_max, overflowed: false }
    }

    /// A key whose row is about to change.
    pub(crate) fn begin(&mut self, key: K) {
        self.turn += 1;
        if self.overflowed || (self.keys.len() >= self.keys_max && !self.keys.contains_key(&key)) {
            self.overflowed = true;
            return;
        }
        let turn = self.turn;
        let entry = self.keys.entry(key).or_insert(Entry { turn, changing: true, lost: false });
        (entry.turn, entry.changing) = (turn, true);
    }

    /// A key that a writer before us had in its ledger.
    pub(crate) fn adopt(&mut self, key: K) {
        self.begin(key.clone());
        self.lose(&key);
        self.changed(&key, Duration::ZERO);
    }

    /// Nobody confirmed the mark of a key, or its removal.
    pub(crate) fn lose(&mut self, key: &K) {
        if let Some(entry) = self.keys.get_mut(key)
            && !std::mem::replace(&mut entry.lost, true)
        {
            self.lost += 1;
        }
    }

    /// The row of a key has changed, or will not. A mark that stood may have gone meanwhile, if it took long.
    pub(crate) fn changed(&mut self, key: &K, took: Duration) {
        if took >= MARK_TRUSTED {
            self.lose(key);
        }
        if let Some(entry) = self.keys.get_mut(key) {
            entry.changing = false;
        }
    }

    /// Before a key is removed: what the removal will end, if it is confirmed. Nothing for a key that must not be removed
    /// now, because its row is changing again.
    pub(crate) fn attempt(&self, key: &K) -> Option<Attempt> {
        self.keys.get(key).filter(|entry| !entry.changing).map(|entry| Attempt(entry.turn))
    }

    /// A removal was confirmed.
    pub(crate) fn removed(&mut self, key: &K, attempt: Attempt) {
        if self.attempt(key) == Some(attempt)
            && let Some(entry) = self.keys.remove(key)
        {
            self.lost -= usize::from(entry.lost);
        }
    }

    /// Lost keys to remove, at most so many.
    pub(crate) fn due(&self, max: usize) -> Vec<(K, Attempt)> {
        if self.lost == 0 {
            return Vec::new();
        }
        let due = self.keys.iter().filter(|(_, entry)| entry.lost && !entry.changing);
        due.take(max).map(|(key, entry)| (key.clone(), Attempt(entry.turn))).collect()
    }

    /// Whether a key may be read here.
    pub(crate) fn allows(&self, key: &K) -> bool {
        !self.overflowed && (self.keys.is_empty() || !self.keys.contains_key(key))
    }

    /// Whether other processes read nothing old.
    pub(crate) fn is_clean(&self) -> bool {
        !self.overflowed && self.lost == 0
    }

    /// All keys, for the copy in the engine; `None` if there are more than so many.
    pub(crate) fn all(&self, max: usize) -> Option<Vec<K>> {
        (!self.overflowed && self.keys.len() <= max).then(|| self.keys.keys().cloned().collect())
    }

    /// Whether there was more than it holds: the node must begin anew.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// The node begins anew, under other keys: what was lost is out of reach.
    pub(crate) fn begin_anew(&mut self) {
        self.keys.clear();
        self.lost = 0;
        self.overflowed = false;
    }

    /// Lost keys.
    pub(crate) fn lost(&self) -> usize {
        self.lost
    }
}

/// What the writer says on a node, again and again, as long as its ledger there is clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Begins the keys of the node: with another one everything of before is out of reach.
    pub(crate) epoch: u64,
    /// One more each time.
    pub(crate) count: u64,
    /// The writer has ended in order, and nobody writes.
    pub(crate) sealed: bool,
}

impl Beat {
    /// As it stands on the node.
    pub(crate) fn encode(self) -> String {
        format!("{:x} {} {}", self.epoch, self.count, u8::from(self.sealed))
    }

    /// What stands on the node.
    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let beat = Self {
            epoch: u64::from_str_radix(words.next()?, 16).ok()?,
            count: words.next()?.parse().ok()?,
            sealed: words.next()? == "1",
        };
        words.next().is_none().then_some(beat)
    }
}

/// A reader that hears no new beat for so long does not read the node.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Whether a process that does not write may read a node: as long as it hears the writer there.
///
/// A new connection closes it until the next beat. Whatever changed while this process could not ask is either marked, or
/// the writer could not reach the node either, and does not beat before it has made that good.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    heard: Option<(Beat, Instant)>,
    /// Whether the last beat was heard to follow another one, on the connections there are.
    fresh: bool,
    connection: u64,
}

impl Gate {
    /// What stands on the node, and the newest connection to it.
    pub(crate) fn hear(&mut self, beat: Option<Beat>, connection: u64, now: Instant) {
        if connection != self.connection {
            self.connection = connection;
            self.fresh = false;
            // What is heard now may have been said before; only the next one counts.
            self.heard = beat.map(|beat| (beat, now));
            self.fresh = beat.is_some_and(|beat| beat.sealed);
            return;
        }
        let Some(beat) = beat else { return };
        match self.heard {
            Some((last, _)) if last == beat && !beat.sealed => {}
            Some((last, _)) => {
                self.fresh = beat.sealed || last.epoch == beat.epoch || self.fresh;
                self.heard = Some((beat, now));
            }
            None => {
                self.fresh = beat.sealed;
                self.heard = Some((beat, now));
            }
        }
    }

    /// What begins the keys of the node, if it may be read.
    pub(crate) fn epoch(&self, connection: u64, now: Instant) -> Option<u64> {
        let (beat, at) = self.heard?;
        let in_time = now.saturating_duration_since(at) <= SILENCE_MAX;
        (self.fresh && in_time && connection == self.connection).then_some(beat.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_waits_a_bounded_time_for_somebody_elses_fill() {
        let mut reading = Reading::default();
        let mut waited = Duration::ZERO;
        loop {
            match reading.said::<(), ()>(Said::Taken) {
                Next::Wait(pause) => waited += pause,
                next => {
                    assert_eq!(next, Next::Load(None), "and does not fill");
                    break;
                }
            }
        }
        assert!(waited >= FILL_WAIT_MAX && waited < FILL_WAIT_MAX + PAUSES.1);
    }

    #[test]
    fn jitter_spreads_evenly_around_the_middle_and_absence_ends_in_time() {
        let all: Vec<u32> = (0..721).map(|n| jittered(ROW_SECONDS, n)).collect();
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&3240), Some(&3960)));
        let absent = ABSENT_SECONDS_MAX * 10 / 11;
        assert!((0..100).all(|n| jittered(absent, n) <= ABSENT_SECONDS_MAX));
    }

    #[test]
    fn a_change_is_remembered_until_a_removal_after_it_is_confirmed() {
        let mut ledger = Ledger::new(3);
        ledger.begin("a");
        assert!(!ledger.allows(&"a") && ledger.allows(&"b") && ledger.is_clean());
        ledger.lose(&"a");
        assert!(!ledger.is_clean());
        assert_eq!((ledger.attempt(&"a"), ledger.due(9)), (None, vec![]), "its row may still be changing");
        ledger.changed(&"a", Duration::ZERO);
        let first = ledger.attempt(&"a").unwrap();
        assert_eq!(ledger.due(9), [("a", first)]);
        ledger.begin("a");
        ledger.removed(&"a", first);
        ledger.changed(&"a", Duration::ZERO);
        ledger.removed(&"a", first);
        assert!(!ledger.allows(&"a"), "the first removal says nothing about the second change");
        let (key, second) = ledger.due(9)[0];
        ledger.removed(&key, second);
        assert!(ledger.is_clean() && ledger.allows(&"a"));
        ledger.begin("slow");
        ledger.changed(&"slow", Duration::from_secs(20));
        assert!(!ledger.is_clean(), "its mark may have gone before its row changed");
        ledger.adopt("old");
        assert_eq!((ledger.lost(), ledger.due(9).len(), ledger.all(2).unwrap().len()), (2, 2, 2));
        assert_eq!(ledger.all(1), None);
        ledger.begin("a");
        ledger.begin("b");
        assert!(ledger.has_overflowed() && !ledger.allows(&"never changed") && !ledger.is_clean());
        ledger.begin_anew();
        assert!(ledger.is_clean() && ledger.allows(&"a"));
    }

    #[test]
    fn a_node_is_read_while_the_writer_is_heard_on_the_connections_there_are() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let beat = |count| Some(Beat { epoch: 7, count, sealed: false });
        gate.hear(beat(1), 1, start);
        assert_eq!(gate.epoch(1, start), None, "it may have been said long ago");
        gate.hear(beat(1), 1, start);
        assert_eq!(gate.epoch(1, start), None);
        gate.hear(beat(2), 1, start);
        assert_eq!(gate.epoch(1, start), Some(7));
        assert_eq!(gate.epoch(2, start), None, "a new connection");
        gate.hear(None, 1, start);
        assert_eq!(gate.epoch(1, start + SILENCE_MAX), Some(7), "a node that lost everything has nothing wrong");
        assert_eq!(gate.epoch(1, start + SILENCE_MAX + Duration::from_millis(1)), None);
        gate.hear(beat(2), 2, start);
        gate.hear(beat(2), 2, start);
        assert_eq!(gate.epoch(2, start), None);
        gate.hear(beat(3), 2, start);
        assert_eq!(gate.epoch(2, start), Some(7));
        gate.hear(Some(Beat { epoch: 8, count: 1, sealed: true }), 3, start);
        assert_eq!(gate.epoch(3, start), Some(8), "nobody writes any more");
        let text = Beat { epoch: 255, count: 3, sealed: true }.encode();
        assert_eq!(Beat::decode(text.as_bytes()), Some(Beat { epoch: 255, count: 3, sealed: true }));
        for wrong in ["", "ff", "ff 3", "ff 3 1 x", "gg 3 1", "ff -3 1"] {
            assert_eq!(Beat::decode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
