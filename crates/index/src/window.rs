//! The newest items of everybody's feeds, kept in memory by author, so that a timeline is merged without reading the
//! feeds of all who are followed.
//!
//! The window is exact. It says how far back it holds everything ([`Found::oldest`]); what is older is read from the
//! store. It is filled from the rows of `recent`, newest first, and follows the writer from then on: an item is in it
//! before the writer says that it is applied. Its bytes are bounded: when there are too many, the oldest items of the
//! whole network go, and it holds less far back.

mod shard;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::Instant,
};

use bytes::Bytes;
use gp_atproto::compact;
use gp_store::{Batch, Key, Observed, ROWS_PER_SCAN_MAX, Scan, Store, Writer};
use parking_lot::{Mutex, RwLock};

use crate::{
    Cx, Error, Result, atom,
    atom::Parts,
    names::Names,
    newcomers,
    placed::Placed,
    tables::{META, RECENT},
};
use shard::{Newest, Shard, Slot};

/// The post that a repost shows is named by a handle, which no AppView can bear.
pub(crate) const UNBEARABLE: u8 = 32;

/// Authors are spread over so many locks.
const SHARDS: usize = 64;

/// Authors whose newest item is looked at before other tasks of the thread get their turn.
const AUTHORS_PER_TURN: usize = 16_384;

/// The same of authors whose items are looked at.
const OPENED_PER_TURN: usize = 2_048;

/// An author without items.
const NOTHING: Place = Place::MAX;

/// Items are counted by pieces of ten minutes, and go by them.
const PIECE_US: u64 = 600_000_000;

/// Of what is allowed, what is left after the oldest have gone, in percent: so that they do not go one by one.
const LEFT_PERCENT: u64 = 90;

/// Rows from before there was `recent` may be so much younger than our clock says: relays have their own.
const CLOCKS_DIFFER_US: i64 = HOUR_US;

/// How far ahead of the clock the rows are looked for: hosts' clocks may be wrong.
const LOOKED_AHEAD_HOURS: u32 = 24;

/// How far back the rows are looked for when the window is filled. What is older is read from the store.
const LOOKED_BACK_HOURS: u32 = 4 * 366 * 24;

const HOUR_US: i64 = 3_600_000_000;

/// The later a time, the smaller the number: as in the positions of timed rows.
type Place = u64;

fn place(us: i64) -> Place {
    !(us as u64 ^ (1 << 63))
}

/// The partition of an item.
fn hour_of(us: i64) -> u32 {
    u32::try_from(us.max(0) / HOUR_US).unwrap_or(u32::MAX)
}

/// The row that says to the window that an author's feed has an item. Pure.
pub(crate) fn key_of(it: &Placed<'_>, kind: u8) -> Key {
    Key::of(&RECENT)
        .atom(&hour_of(it.sort_at_us).to_be_bytes())
        .cluster()
        .micros_desc(it.sort_at_us)
        .u32_desc(it.tie())
        .atom(&atom::did(it.did))
        .tag(kind)
        .atom(&atom::rkey(it.rkey))
        .key()
}

/// The key of the time from which on all rows of `recent` are there.
fn since_key() -> Key {
    Key::of(&META).atom(&atom::did("recent-since")).key()
}

/// What is asked of feeds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// No replies.
    pub(crate) no_replies: bool,
    /// No reposts.
    pub(crate) no_reposts: bool,
    /// No posts that quote.
    pub(crate) no_quotes: bool,
}

/// Where a page goes on: after this time and tie, and, if it is known, after this item of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct After<'a> {
    /// Time and tie, as in positions.
    pub(crate) place: (Place, u32),
    /// The author and the rest of the position. Without it everything of this time and tie is over.
    pub(crate) twin: Option<(&'a str, &'a [u8])>,
}

/// Whose items are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Authors<'a> {
    /// By their numbers.
    Numbers(&'a [u32]),
    /// By their atoms.
    Atoms(&'a [Bytes]),
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Whose.
    pub(crate) author: u32,
    /// `sort_at desc, tie desc, type, rkey`: its position in the author's feed.
    pub(crate) position: Vec<u8>,
    /// Of the post.
    pub(crate) flags: u8,
}

/// What the window has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Newest first.
    pub(crate) hits: Vec<Hit>,
    /// Everything up to this time that was asked for is in `hits`, unless they are as many as were asked for. Nothing
    /// while the window holds nothing.
    pub(crate) oldest: Option<i64>,
}

/// What the window can say about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whether it has been filled.
    pub ready: bool,
    /// Items.
    pub items: u64,
    /// Authors with items.
    pub authors: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes allowed.
    pub bytes_max: u64,
    /// It holds everything from this time on, in microseconds since 1970. Nothing while it holds nothing.
    pub oldest_us: Option<i64>,
}

/// The window.
pub struct Window {
    names: Arc<Names>,
    shards: Vec<RwLock<Shard>>,
    /// The place of the newest item of each author, by number, so that who cannot be on a page is passed over in a few
    /// nanoseconds. Changed under the lock of the author's shard.
    newest: RwLock<Vec<AtomicU64>>,
    /// Everything of this place and before it is here. Zero: nothing is.
    holds_to: AtomicU64,
    /// What is after this place is not kept. Never before `holds_to`.
    keeps_to: AtomicU64,
    /// Held while the two are changed.
    bounds: Mutex<()>,
    filling: AtomicBool,
    /// How often everything was dropped. What was read from the store before such a moment is not taken after it.
    drops: AtomicU64,
    /// Held while everything is dropped: filling begins before or after.
    dropping: Mutex<()>,
    /// Nothing is heard of the process that writes: what is here may be old.
    silent: AtomicBool,
    bytes: AtomicU64,
    bytes_max: u64,
    pieces: Mutex<BTreeMap<u64, u32>>,
}

impl Window {
    /// A window that follows a store from now on. It holds nothing until it is [filled](Window::fill).
    pub fn over(store: &Store, names: &Arc<Names>, bytes_max: u64) -> Arc<Self> {
        let window = Arc::new(Self {
            names: Arc::clone(names),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            newest: RwLock::default(),
            holds_to: AtomicU64::new(0),
            keeps_to: AtomicU64::new(u64::MAX),
            bounds: Mutex::default(),
            filling: AtomicBool::new(true),
            drops: AtomicU64::new(0),
            dropping: Mutex::default(),
            silent: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            bytes_max,
            pieces: Mutex::default(),
        });
        let following = Arc::downgrade(&window);
        store.observe(move |what| {
            let Some(window) = following.upgrade() else { return };
            match what {
                Observed::Applied(batch) => window.follow(batch),
                Observed::Lost => window.drop_all(),
                Observed::Silent(silent) => window.silent.store(silent, SeqCst),
            }
        });
        window
    }

    /// A window over a store that has nothing yet: it holds everything from the beginning.
    pub fn over_empty(store: &Store, names: &Arc<Names>, bytes_max: u64) -> Arc<Self> {
        let window = Self::over(store, names, bytes_max);
        window.holds_to.store(u64::MAX, SeqCst);
        window.filling.store(false, SeqCst);
        window
    }

    /// The names of its authors.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Whether it is filled.
    pub fn ready(&self) -> bool {
        !self.filling.load(SeqCst)
    }

    /// What it can say about itself.
    pub fn figures(&self) -> Figures {
        let (mut items, mut authors) = (0, 0);
        for shard in &self.shards {
            let shard = shard.read();
            items += shard.items;
            authors += shard.authors.len() as u64;
        }
        let holds_to = self.holds_to.load(Relaxed);
        Figures {
            ready: self.ready(),
            items,
            authors,
            bytes: self.bytes.load(Relaxed),
            bytes_max: self.bytes_max,
            oldest_us: (holds_to > 0).then_some((!holds_to ^ (1 << 63)) as i64),
        }
    }

    fn shard(&self, author: u32) -> &RwLock<Shard> {
        &self.shards[author as usize % SHARDS]
    }

    /// Notes the newest item of an author, whose shard is locked.
    fn note_newest(&self, author: u32, shard: &Shard) {
        let (at, place) = (author as usize, shard.newest(author));
        if let Some(kept) = self.newest.read().get(at) {
            kept.store(place, SeqCst);
            return;
        }
        let mut newest = self.newest.write();
        if newest.len() <= at {
            let grown = (at + 1).next_multiple_of(1 << 12);
            newest.resize_with(grown, || AtomicU64::new(NOTHING));
        }
        newest[at].store(place, SeqCst);
    }

    /// Takes over what the writer has applied.
    fn follow(&self, batch: &Batch) {
        for change in batch.changes().iter().filter(|change| change.key.table_id() == RECENT.id) {
            let flags = change.value.as_ref().map(|value| value.first().copied().unwrap_or(0));
            // What cannot be read is not ours; the store says so when it is read there.
            if let Some((author, slot)) = Slot::read(change.key.clustering(), flags.unwrap_or(0)) {
                let Some(author) = self.names.number(author) else { return self.hold_nothing() };
                match flags {
                    Some(_) => drop(self.put(author, slot, None)),
                    None => self.remove(author, &slot),
                }
            }
        }
        if self.bytes.load(Relaxed) > self.bytes_max {
            self.let_go();
        }
    }

    /// Keeps an item that was applied just now, or, with the number of drops before it was read, one of the store. Says
    /// whether the latter may still be taken.
    fn put(&self, author: u32, slot: Slot<'_>, read: Option<u64>) -> bool {
        let piece = slot.time / PIECE_US;
        let mut shard = self.shard(author).write();
        // Under the lock, which whoever drops everything takes after having said so.
        if read.is_some_and(|drops| drops != self.drops.load(SeqCst)) {
            return false;
        }
        if slot.time > self.keeps_to.load(SeqCst) {
            return true;
        }
        let live = read.is_none();
        let filling = self.filling.load(SeqCst);
        let before = shard.bytes();
        if shard.put(author, slot, live, filling) {
            *self.pieces.lock().entry(piece).or_default() += 1;
            self.note_newest(author, &shard);
        }
        self.resized(before, shard.bytes());
        true
    }

    fn remove(&self, author: u32, slot: &Slot<'_>) {
        let mut shard = self.shard(author).write();
        let unread = self.filling.load(SeqCst) && slot.time > self.holds_to.load(SeqCst);
        if unread && !shard.remember_gone(author, slot) {
            // Whatever is not read yet is left to the store.
            let _bounds = self.bounds.lock();
            self.keeps_to.fetch_min(self.holds_to.load(SeqCst), SeqCst);
        }
        let before = shard.bytes();
        if shard.remove(author, slot) {
            self.uncount(slot.time / PIECE_US);
            self.note_newest(author, &shard);
        }
        self.resized(before, shard.bytes());
    }

    fn resized(&self, before: u64, after: u64) {
        self.bytes.fetch_add(after.wrapping_sub(before), Relaxed);
    }

    fn uncount(&self, piece: u64) {
        let mut pieces = self.pieces.lock();
        if let Some(count) = pieces.get_mut(&piece) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                pieces.remove(&piece);
            }
        }
    }

    /// Drops everything: batches were missed. Nobody relies on anything until it has been filled again.
    fn drop_all(&self) {
        let _dropping = self.dropping.lock();
        {
            let _bounds = self.bounds.lock();
            self.drops.fetch_add(1, SeqCst);
            self.holds_to.store(0, SeqCst);
            self.keeps_to.store(u64::MAX, SeqCst);
        }
        for shard in &self.shards {
            let mut shard = shard.write();
            self.filling.store(true, SeqCst);
            self.resized(shard.bytes(), 0);
            let authors = std::mem::take(&mut *shard).authors;
            authors.into_keys().for_each(|author| self.note_newest(author, &shard));
        }
        self.pieces.lock().clear();
    }

    /// Lets the oldest items go. First nobody may rely on them, then they go.
    fn let_go(&self) {
        let to = {
            let mut pieces = self.pieces.lock();
            let items: u64 = pieces.values().map(|count| u64::from(*count)).sum();
            // What the items are of the bytes differs little from one to the next.
            let left = (u128::from(items) * u128::from(self.bytes_max) * u128::from(LEFT_PERCENT)
                / 100
                / u128::from(self.bytes.load(Relaxed).max(1))) as u64;
            let (mut going, mut to) = (items.saturating_sub(left), None);
            while going > 0
                && let Some((piece, count)) = pieces.pop_last()
            {
                going = going.saturating_sub(u64::from(count));
                to = Some((piece * PIECE_US).saturating_sub(1));
            }
            to
        };
        let Some(to) = to else { return };
        {
            let _bounds = self.bounds.lock();
            self.keeps_to.fetch_min(to, SeqCst);
            self.holds_to.fetch_min(to, SeqCst);
        }
        for shard in &self.shards {
            let mut shard = shard.write();
            let before = shard.bytes();
            shard.keep_to(to).into_iter().for_each(|author| self.note_newest(author, &shard));
            self.resized(before, shard.bytes());
        }
    }

    /// Holds nothing until everything is dropped and filled again, or the next start: there is no room for names.
    fn hold_nothing(&self) {
        let bounds = self.bounds.lock();
        if self.keeps_to.swap(0, SeqCst) == 0 {
            return;
        }
        self.holds_to.store(0, SeqCst);
        drop(bounds);
        tracing::warn!("no room for the names of more authors: timelines are read from the store until the next start");
        for shard in &self.shards {
            let mut shard = shard.write();
            let before = shard.bytes();
            shard.keep_to(0).into_iter().for_each(|author| self.note_newest(author, &shard));
            self.resized(before, shard.bytes());
        }
        self.pieces.lock().clear();
    }

    /// Fills the window from the rows of `recent`, newest first. Timelines profit from each hour that is done. Ends when
    /// the window is full, or all rows are in it, or everything has been dropped meanwhile: then it is not
    /// [ready](Window::ready), and has to be filled again, as after a failure. Not to be called twice at the same time.
    pub async fn fill(&self, cx: &Cx) -> Result<()> {
        let begun = Instant::now();
        let drops = {
            let _dropping = self.dropping.lock();
            self.drops.load(SeqCst)
        };
        let since_us = match since(&cx.store).await? {
            Some(since_us) => since_us,
            None if cx.store.follows() => return Err(Error::Draining("no process has written to this store yet")),
            None => begin(&cx.store, &cx.writer, (cx.now_us)()).await?,
        };
        let newest = hour_of((cx.now_us)()).saturating_add(LOOKED_AHEAD_HOURS);
        let oldest = hour_of(since_us).max(newest.saturating_sub(LOOKED_BACK_HOURS));
        for hour in (oldest..=newest).rev() {
            let mut scan = Scan::of(Key::of(&RECENT).atom(&hour.to_be_bytes()).partition());
            loop {
                let page = cx.store.scan_fresh(scan.limit(ROWS_PER_SCAN_MAX)).await?;
                for row in &page.rows {
                    let (author, slot) = Slot::read(row.clustering(), row.value.first().copied().unwrap_or(0))
                        .ok_or(Error::Corrupt { table: RECENT.name, what: "position" })?;
                    let Some(author) = self.names.number(author) else {
                        self.hold_nothing();
                        break;
                    };
                    if !self.put(author, slot, Some(drops)) {
                        return Ok(());
                    }
                }
                if self.bytes.load(Relaxed) > self.bytes_max {
                    self.let_go();
                }
                match page.rows.last() {
                    Some(last) if page.more => {
                        scan = Scan::of(Key::of(&RECENT).atom(&hour.to_be_bytes()).partition())
                            .after(last.clustering().to_vec());
                    }
                    _ => break,
                }
            }
            let keeps_to = {
                let _bounds = self.bounds.lock();
                if self.drops.load(SeqCst) != drops {
                    return Ok(());
                }
                let keeps_to = self.keeps_to.load(SeqCst);
                let done = place((i64::from(hour) * HOUR_US).max(since_us)).min(keeps_to);
                self.holds_to.fetch_max(done, SeqCst);
                keeps_to
            };
            if keeps_to < u64::MAX {
                break;
            }
        }
        {
            let _bounds = self.bounds.lock();
            if self.drops.load(SeqCst) != drops {
                return Ok(());
            }
            // What is older than what was looked at is not kept from now on either.
            self.keeps_to.fetch_min(self.holds_to.load(SeqCst), SeqCst);
        }
        for shard in &self.shards {
            let mut shard = shard.write();
            if self.drops.load(SeqCst) != drops {
                return Ok(());
            }
            self.filling.store(false, SeqCst);
            shard.gone.clear();
            shard.gone.shrink_to_fit();
            let before = shard.bytes();
            shard.keep_to(self.keeps_to.load(SeqCst)).into_iter().for_each(|author| self.note_newest(author, &shard));
            self.resized(before, shard.bytes());
        }
        let figures = self.figures();
        tracing::info!(items = figures.items, bytes = figures.bytes, took = ?begun.elapsed(), "timelines are read from memory");
        Ok(())
    }

    /// The newest `want` items of some authors.
    pub(crate) async fn newest(
        &self,
        authors: Authors<'_>,
        after: Option<After<'_>>,
        want: usize,
        wanted: Wanted,
    ) -> Found {
        let drops = self.drops.load(SeqCst);
        let holds_to = self.holds_to.load(SeqCst);
        if holds_to == 0 || want == 0 || self.silent.load(SeqCst) || after.is_some_and(|after| after.place.0 > holds_to)
        {
            return Found::default();
        }
        let named: Vec<u32>;
        let authors = match authors {
            Authors::Numbers(numbers) => numbers,
            Authors::Atoms(atoms) => {
                // Whoever has no name yet has no items in what is held by now.
                named = self.names.all_known(atoms.iter().map(|atom| &atom[..])).into_iter().flatten().collect();
                &named
            }
        };
        let mut coming: Vec<Reverse<(Place, u32)>> = Vec::with_capacity(authors.len());
        for (turn, some) in authors.chunks(AUTHORS_PER_TURN).enumerate() {
            if turn > 0 {
                gp_store::give_way().await;
            }
            let newest = self.newest.read();
            coming.extend(some.iter().filter_map(|author| {
                let place = newest.get(*author as usize)?.load(SeqCst);
                (place <= holds_to).then_some(Reverse((place, *author)))
            }));
        }
        let mut newest = Newest::new(want, holds_to, after, wanted);
        // Whose newest item is newer comes first; when even that is too old for the page, so is everything of all others.
        let mut coming = BinaryHeap::from(coming);
        let mut opened = 0;
        while let Some(Reverse((place, author))) = coming.pop()
            && !newest.is_over(place)
        {
            opened += 1;
            if opened % OPENED_PER_TURN == 0 {
                gp_store::give_way().await;
            }
            self.shard(author).read().offer(author, &self.names, &mut newest);
        }
        // Items may have been let go meanwhile: of what is older than what is left, some may be missing.
        let holds_to = holds_to.min(self.holds_to.load(SeqCst));
        if self.drops.load(SeqCst) != drops {
            return Found::default();
        }
        let hits = newest.hits(holds_to);
        Found { hits, oldest: Some((!holds_to ^ (1 << 63)) as i64) }
    }
}

/// The time from which on all rows of `recent` are there, in microseconds: the beginning, unless the store was written
/// before there were any. To be called before anything is written: it tells a new store by its having no accounts.
pub async fn begin(store: &Store, writer: &Writer, now_us: i64) -> Result<i64> {
    if let Some(since_us) = since(store).await? {
        return Ok(since_us);
    }
    let is_new = newcomers::days(store, 0..u32::MAX, false, 1).await?.is_empty();
    let since_us = if is_new { 0 } else { now_us + CLOCKS_DIFFER_US };
    writer
        .run(move |view| -> Result<()> {
            view.put(since_key(), since_us.to_be_bytes().to_vec());
            Ok(())
        })
        .await?;
    Ok(since_us)
}

/// What [`begin`] has written, if it has.
async fn since(store: &Store) -> Result<Option<i64>> {
    let Some(stored) = store.get_one(&since_key()).await? else { return Ok(None) };
    let bytes = stored[..].try_into().map_err(|_| Error::Corrupt { table: META.name, what: "recent-since" })?;
    Ok(Some(i64::from_be_bytes(bytes)))
}

/// The text of a DID that is given as an atom; empty for one that cannot be read back.
pub(crate) fn did_text(atom: &[u8]) -> String {
    Parts::of(RECENT.name, atom).did().unwrap_or_default()
}

/// Cuts the position of a row of `recent` into time, tie, author, type and record key.
fn cut(clustering: &[u8]) -> Option<(Place, u32, &[u8], u8, &[u8])> {
    let (time, rest) = clustering.split_first_chunk::<8>()?;
    let (tie, rest) = rest.split_first_chunk::<4>()?;
    let (author, rest) = rest.split_at_checked(compact::atom_len(rest).ok()?)?;
    let (kind, rkey) = rest.split_first()?;
    Some((Place::from_be_bytes(*time), u32::from_be_bytes(*tie), author, *kind, rkey))
}

#[cfg(test)]
mod tests;
