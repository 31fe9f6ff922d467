//! Who follows whom, kept in memory both ways, so that a page need not read anybody's follows from the store.
//!
//! The graph is whole or it is not used: it is filled from the rows of `by`, account by account, follows what is applied
//! meanwhile and from then on, and answers only when it has everything. A follow is in it, or out of it, before the writer
//! says that it is applied. Its bytes are bounded: when there are too many it lets everything go, says so, and calls read
//! the store as they do while it is filled.

mod edges;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use gp_store::{Batch, Key, Observed, Page, Scan, Store, Table};
use parking_lot::RwLock;

use crate::{
    Result,
    atom::{self, Atom, Parts},
    follows,
    names::Names,
    page,
    tables::{ACTOR, BY, ON, REPO, by, on},
};
use edges::{Edge, Edges};

/// Accounts read one after the other while changes of their follows are remembered.
const ACCOUNTS_PER_READ: usize = 256;

/// Accounts whose first rows are asked for at once: a cluster answers them side by side.
const ACCOUNTS_PER_SCAN: usize = 32;

/// Rows of each of them at first. The few who follow more are read on one by one.
const FOLLOWS_PER_FIRST_SCAN: usize = 1_000;

/// Follows taken over at once, about: whoever applies changes waits so long.
const FOLLOWS_PER_INSTALL: usize = 2_048;

/// Follows of one account that are read from the store to put them in order. Who follows more is answered by the store.
pub(crate) const ORDERED_MAX: usize = 100_000;

/// Changes remembered of accounts that are being read. Beyond it everything begins anew.
const REMEMBERED_MAX: usize = 1 << 20;

/// What the graph can say about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whether it answers.
    pub ready: bool,
    /// Whether it let everything go for want of room, until the next start.
    pub gave_up: bool,
    /// Accounts whose follows were read since it began to be filled.
    pub accounts_read: u64,
    /// Accounts that follow somebody, or are followed, or have items in the window.
    pub accounts: u64,
    /// Follows.
    pub follows: u64,
    /// Accounts with so many followers that they are kept as a bitmap.
    pub hubs: u64,
    /// Bytes in use, names included.
    pub bytes: u64,
    /// Bytes allowed.
    pub bytes_max: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Filling,
    Ready,
    GaveUp,
}

/// A follow that was made, or one that went.
#[derive(Debug, Clone, Copy)]
struct Told {
    edge: Edge,
    /// When it was made; nothing if it went.
    made_at_us: Option<i64>,
}

#[derive(Default)]
struct State {
    edges: Edges,
    stage: Stage,
    /// How often everything was dropped. What was read from the store before such a moment is not taken after it.
    drops: u64,
    /// Nothing is heard of the process that writes: what is here may be old.
    silent: bool,
    /// How often follows were changed.
    changes: u64,
    /// Accounts that are being read, with what changed since that was begun.
    reading: HashMap<u32, Vec<Told>>,
    remembered: usize,
    /// Accounts that changed before they were read.
    touched: HashSet<u32>,
}

impl State {
    fn answers(&self) -> bool {
        self.stage == Stage::Ready && !self.silent
    }

    fn apply(&mut self, told: &[Told]) {
        let mut gone: Vec<Edge> = told.iter().filter(|told| told.made_at_us.is_none()).map(|told| told.edge).collect();
        self.edges.remove(&mut gone);
        for Told { edge, made_at_us } in told {
            if let Some(made_at_us) = made_at_us {
                self.edges.add(*edge, *made_at_us);
            }
        }
    }
}

/// The follows of an account.
pub(crate) enum Follows {
    /// The newest follow first.
    InOrder(Vec<u32>),
    /// They are known, but not their order: it is to be read from the store, and may be given [back](Graph::put_in_order).
    Unordered(Unordered),
}

/// What is to be put in order.
pub(crate) struct Unordered {
    actor: u32,
    drops: u64,
    changes: u64,
}

/// The graph.
pub struct Graph {
    names: Arc<Names>,
    state: RwLock<State>,
    accounts_read: AtomicU64,
    bytes_max: u64,
    stopped: AtomicBool,
}

impl Graph {
    /// A graph that follows a store from now on. It answers nothing until it is [filled](Graph::fill).
    pub fn over(store: &Store, names: &Arc<Names>, bytes_max: u64) -> Arc<Self> {
        let graph = Arc::new(Self {
            names: Arc::clone(names),
            state: RwLock::default(),
            accounts_read: AtomicU64::new(0),
            bytes_max,
            stopped: AtomicBool::new(false),
        });
        let following = Arc::downgrade(&graph);
        store.observe(move |what| {
            let Some(graph) = following.upgrade() else { return };
            match what {
                Observed::Applied(batch) => graph.follow(batch),
                Observed::Lost => graph.drop_all(),
                Observed::Silent(silent) => graph.state.write().silent = silent,
            }
        });
        graph
    }

    /// A graph over a store that has nothing yet: it has everything from the beginning.
    pub fn over_empty(store: &Store, names: &Arc<Names>, bytes_max: u64) -> Arc<Self> {
        let graph = Self::over(store, names, bytes_max);
        graph.state.write().stage = Stage::Ready;
        graph
    }

    /// The names of its numbers.
    pub(crate) fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Whether it answers.
    pub fn ready(&self) -> bool {
        self.state.read().stage == Stage::Ready
    }

    /// Whether it is still to be filled.
    pub fn wants_filling(&self) -> bool {
        self.state.read().stage == Stage::Filling && !self.stopped.load(Relaxed)
    }

    /// Lets filling end soon, whatever is left.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Whether [`Graph::stop`] was called.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// What it can say about itself.
    pub fn figures(&self) -> Figures {
        let state = self.state.read();
        Figures {
            ready: state.stage == Stage::Ready,
            gave_up: state.stage == Stage::GaveUp,
            accounts_read: self.accounts_read.load(Relaxed),
            accounts: self.names.count().into(),
            follows: state.edges.count(),
            hubs: state.edges.hubs(),
            bytes: state.edges.bytes() + self.names.bytes(),
            bytes_max: self.bytes_max,
        }
    }

    /// Takes over what the writer has applied.
    fn follow(&self, batch: &Batch) {
        let mut seen: HashSet<&Key> = HashSet::new();
        let mut told: Vec<Told> = Vec::new();
        // For one key the last change holds.
        for change in batch.changes().iter().rev() {
            if change.key.table_id() != ON.id || change.key.clustering().first() != Some(&on::FOLLOWER) {
                continue;
            }
            if !seen.insert(&change.key) {
                continue;
            }
            // What cannot be read is not ours; the store says so when it is read there.
            let Some((actor, subject, made_at_us)) = ends(&change.key) else { continue };
            let (Some(actor), Some(subject)) = (self.names.number(actor), self.names.number(&subject)) else {
                self.give_up(&mut self.state.write());
                return;
            };
            let made_at_us = change.value.is_some().then_some(made_at_us);
            told.push(Told { edge: Edge { actor, subject }, made_at_us });
        }
        if told.is_empty() {
            return;
        }
        // Older rows of a follow go before newer ones come, wherever they stand in the batch.
        told.sort_by_key(|told| told.made_at_us);
        let mut state = self.state.write();
        state.changes += 1;
        match state.stage {
            Stage::Ready => state.apply(&told),
            Stage::GaveUp => return,
            Stage::Filling => {
                let mut read = Vec::with_capacity(told.len());
                for told in told {
                    let actor = told.edge.actor;
                    if let Some(remembered) = state.reading.get_mut(&actor) {
                        remembered.push(told);
                        state.remembered += 1;
                    } else if state.edges.is_read(actor) {
                        read.push(told);
                    } else {
                        state.touched.insert(actor);
                    }
                }
                state.apply(&read);
                if state.remembered > REMEMBERED_MAX {
                    self.drop_from(&mut state);
                }
            }
        }
        self.keep_bound(&mut state);
    }

    /// Drops everything: batches were missed. Nobody is answered until it has been filled again.
    fn drop_all(&self) {
        let mut state = self.state.write();
        if state.stage != Stage::GaveUp {
            self.drop_from(&mut state);
        }
    }

    fn drop_from(&self, state: &mut State) {
        *state = State { drops: state.drops + 1, silent: state.silent, ..State::default() };
        self.accounts_read.store(0, Relaxed);
    }

    fn keep_bound(&self, state: &mut State) {
        if state.stage != Stage::GaveUp && state.edges.bytes() + self.names.bytes() > self.bytes_max {
            self.give_up(state);
        }
    }

    /// Lets everything go until the next start.
    fn give_up(&self, state: &mut State) {
        if state.stage == Stage::GaveUp {
            return;
        }
        tracing::warn!(
            follows = state.edges.count(),
            bytes_max = self.bytes_max,
            "the graph of follows needs more memory than it may have: follows are read from the store until the next \
             start; give it more with --graph-mib"
        );
        self.drop_from(state);
        state.stage = Stage::GaveUp;
    }

    /// Fills the graph from the rows of the store. Blocks its thread, for long where there is much. Ends when it is
    /// [ready](Graph::ready), or has to give up, or everything has been dropped meanwhile: then it has to be filled again,
    /// as after a failure. Not to be called twice at the same time.
    pub fn fill(&self, store: &Store) -> Result<()> {
        let begun = Instant::now();
        let drops = {
            let mut state = self.state.write();
            if state.stage != Stage::Filling {
                return Ok(());
            }
            // What was being read when filling failed is read again.
            let left: Vec<u32> = state.reading.drain().map(|(actor, _)| actor).collect();
            state.touched.extend(left);
            state.remembered = 0;
            state.drops
        };
        // Whoever follows somebody was seen as an account, or its repo was.
        for table in [&ACTOR, &REPO] {
            if !self.read_all(store, table, drops)? {
                return Ok(());
            }
        }
        // What came while the accounts were walked through, behind where the walk was.
        loop {
            let some: Vec<u32> = {
                let mut state = self.state.write();
                if state.drops != drops || state.stage != Stage::Filling {
                    return Ok(());
                }
                if state.touched.is_empty() {
                    state.stage = Stage::Ready;
                    break;
                }
                state.touched.iter().copied().take(ACCOUNTS_PER_READ).collect()
            };
            if !self.read(store, &some, drops)? {
                return Ok(());
            }
        }
        let (figures, took) = (self.figures(), begun.elapsed());
        let each_second = (figures.follows as f64 / took.as_secs_f64().max(1e-6)) as u64;
        tracing::info!(
            accounts = figures.accounts_read,
            follows = figures.follows,
            bytes = figures.bytes,
            ?took,
            each_second,
            "follows are read from memory"
        );
        Ok(())
    }

    /// Reads the follows of all accounts that have a row in a table. Says whether to go on.
    fn read_all(&self, store: &Store, table: &Table, drops: u64) -> Result<bool> {
        let mut after = Vec::new();
        loop {
            let mut atoms: Vec<Box<[u8]>> = Vec::with_capacity(ACCOUNTS_PER_READ);
            store.local().each_from(table.id, &after, &mut |key, _| {
                atoms.push(key[1..].into());
                atoms.len() < ACCOUNTS_PER_READ
            })?;
            let Some(last) = atoms.last() else { return Ok(true) };
            after = [&[table.id], &last[..]].concat();
            let Some(numbers) = self.names.numbers(atoms.iter().map(|atom| &atom[..])) else {
                self.give_up(&mut self.state.write());
                return Ok(false);
            };
            if !self.read(store, &numbers, drops)? {
                return Ok(false);
            }
        }
    }

    /// Reads the follows of some accounts, of those that were not read yet. Says whether to go on.
    fn read(&self, store: &Store, actors: &[u32], drops: u64) -> Result<bool> {
        let unread: Vec<u32> = {
            let mut state = self.state.write();
            if state.drops != drops || state.stage != Stage::Filling {
                return Ok(false);
            }
            // From now on changes are remembered; those of before stand in the store already.
            let unread: Vec<u32> = actors.iter().copied().filter(|actor| !state.edges.is_read(*actor)).collect();
            state.reading.extend(unread.iter().map(|actor| (*actor, Vec::new())));
            unread
        };
        let mut waiting: Vec<(u32, i64, usize)> = Vec::new();
        let mut subjects: Vec<Bytes> = Vec::new();
        for some in unread.chunks(ACCOUNTS_PER_SCAN) {
            let atoms: Vec<Atom> = some.iter().map(|actor| self.names.atom(*actor)).collect();
            let scans: Vec<Scan> = atoms.iter().map(|atom| scan_of(atom).limit(FOLLOWS_PER_FIRST_SCAN)).collect();
            let pages = store.local().scan_many(&scans)?;
            for ((actor, atom), first) in some.iter().zip(&atoms).zip(pages) {
                let before = subjects.len();
                let newest_us = read_on(store, atom, first, &mut subjects)?;
                waiting.push((*actor, newest_us, subjects.len() - before));
                if subjects.len() >= FOLLOWS_PER_INSTALL && !self.install(&mut waiting, &mut subjects, drops) {
                    return Ok(false);
                }
            }
        }
        if !self.install(&mut waiting, &mut subjects, drops) {
            return Ok(false);
        }
        Ok(!self.stopped())
    }

    /// Takes over what was read, and what was told since. Says whether to go on.
    fn install(&self, waiting: &mut Vec<(u32, i64, usize)>, subjects: &mut Vec<Bytes>, drops: u64) -> bool {
        let numbers = self.names.numbers(subjects.iter().map(|subject| &subject[..]));
        let mut state = self.state.write();
        let Some(numbers) = numbers else {
            self.give_up(&mut state);
            return false;
        };
        if state.drops != drops {
            return false;
        }
        let mut rest = &numbers[..];
        for (actor, newest_us, count) in waiting.drain(..) {
            let (theirs, others) = rest.split_at(count);
            rest = others;
            state.edges.install(actor, theirs, newest_us);
            state.touched.remove(&actor);
            let told = state.reading.remove(&actor).unwrap_or_default();
            state.remembered -= told.len();
            // One by one, as they came.
            told.chunks(1).for_each(|told| state.apply(told));
            self.accounts_read.fetch_add(1, Relaxed);
        }
        subjects.clear();
        self.keep_bound(&mut state);
        state.stage == Stage::Filling
    }

    /// The newest accounts that an account follows, at most so many, in any order. Nothing when the store must be asked.
    pub(crate) fn followed(&self, actor: &str, max: usize) -> Option<Vec<u32>> {
        let actor = self.names.known(&atom::did(actor));
        let state = self.state.read();
        if !state.answers() {
            return None;
        }
        let Some(actor) = actor else { return Some(Vec::new()) };
        let follows = state.edges.follows(actor);
        if follows.len() > max && !state.edges.in_order(actor) {
            return None;
        }
        Some(follows[follows.len().saturating_sub(max)..].to_vec())
    }

    /// The newest accounts that an account follows, at most so many, the newest follow first. Nothing when the store must
    /// be asked.
    pub(crate) fn newest(&self, actor: &str, max: usize) -> Option<Follows> {
        let actor = self.names.known(&atom::did(actor));
        let state = self.state.read();
        if !state.answers() {
            return None;
        }
        let Some(actor) = actor else { return Some(Follows::InOrder(Vec::new())) };
        if !state.edges.in_order(actor) {
            if state.edges.follows(actor).len() > ORDERED_MAX {
                return None;
            }
            return Some(Follows::Unordered(Unordered { actor, drops: state.drops, changes: state.changes }));
        }
        Some(Follows::InOrder(state.edges.follows(actor).iter().rev().take(max).copied().collect()))
    }

    /// Takes the order of all follows of an account, the newest first, as it was read from the store, unless anything has
    /// changed since the account was found out of order.
    pub(crate) fn put_in_order(&self, what: &Unordered, subjects: &[u32], newest_us: i64) {
        let mut state = self.state.write();
        if state.answers() && (state.drops, state.changes) == (what.drops, what.changes) {
            state.edges.order(what.actor, subjects, newest_us);
        }
    }

    /// The places of those of some accounts, given by number and place in order of the numbers, that follow a target,
    /// given by DID; in order of the places. Nothing when the store must be asked.
    pub(crate) fn followers_among(&self, target: &str, some: &[(u32, u32)]) -> Option<Vec<u32>> {
        let target = self.names.known(&atom::did(target));
        let mut found = Vec::new();
        {
            let state = self.state.read();
            if !state.answers() {
                return None;
            }
            let Some(target) = target else { return Some(found) };
            state.edges.followers_among(target, some, &mut found);
        }
        found.sort_unstable();
        Some(found)
    }

    /// Whether one account follows another, of many pairs of atoms. Nothing when the store must be asked.
    pub(crate) fn are<'a>(&self, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Vec<bool>> {
        let both: Vec<&[u8]> = pairs.flat_map(|(actor, subject)| [actor, subject]).collect();
        let numbers = self.names.all_known(both);
        let state = self.state.read();
        if !state.answers() {
            return None;
        }
        let is = |pair: &[Option<u32>]| match pair {
            [Some(actor), Some(subject)] => state.edges.has(Edge { actor: *actor, subject: *subject }),
            _ => false,
        };
        Some(numbers.chunks_exact(2).map(is).collect())
    }
}

/// The follows of an account, the newest first.
fn scan_of(actor: &[u8]) -> Scan {
    Scan::of(Key::of(&BY).atom(actor).partition()).prefix([by::FOLLOW])
}

/// Takes the first page of whom an account follows, and reads what is behind it. Returns when the newest follow was made.
fn read_on(store: &Store, actor: &[u8], first: Page, subjects: &mut Vec<Bytes>) -> Result<i64> {
    let mut newest_us = i64::MIN;
    let mut page = first;
    loop {
        for row in &page.rows {
            newest_us = newest_us.max(page::sort_at_of(row.clustering())?);
            subjects.push(row.value.clone());
        }
        match page.rows.last() {
            Some(last) if page.more => page = store.local().scan(&scan_of(actor).after(last.clustering().to_vec()))?,
            _ => return Ok(newest_us),
        }
    }
}

/// Actor, subject and time of a row that says to a subject that it is followed.
fn ends(key: &Key) -> Option<(&[u8], Atom, i64)> {
    let mut parts = Parts::of(ON.name, key.clustering().get(1..)?);
    let made_at_us = parts.micros_desc().ok()?;
    let actor = follows::account(key.clustering()).ok()?;
    // What is no DID is written in another way there than as somebody's name.
    let mut partition = Parts::of(ON.name, key.partition());
    let subject = match partition.did() {
        Ok(_) => Atom::from_slice(key.partition()),
        Err(_) => atom::did(&partition.uri().ok()?),
    };
    Some((actor, subject, made_at_us))
}

#[cfg(test)]
mod tests;
