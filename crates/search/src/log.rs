//! The durable list of what has changed since the index of words was last written.
//!
//! A companion of the writer looks at each group of changes and adds one row that names what of it is found by words.
//! The row stands exactly when the changes stand, so that no death of the process loses a change, and an index that
//! lags never has to look at everything. Rows go once the index has been written; where other processes keep an index of
//! the same store, they stay for some time more. Up to which number they have gone stands beside them, so that an index
//! that was away for longer knows that it has missed some.
//!
//! ```text
//! "l" | number of the group, big end first -> layout, clock in microseconds, subjects
//! "g" | -> the number up to which rows have gone, big end first
//! "i" | -> a name that tells this store from others
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use gp_index::{
    Error, Result, atom,
    atom::Parts,
    counts::{Head, OnCount},
    profiles, system_now_us,
    tables::{ACTOR, ON, RECORD},
};
use gp_store::{Cache, Change, Column, Key, Kind, Scan, Store, Table, View, Writer};

use crate::{
    schema::level,
    subject::{self, PROFILE, Subject},
};

/// What has changed since the index was last written.
pub static LOG: Table = Table {
    id: 80, // On disk. Never reused, never renumbered.
    name: "search_log",
    partition: &[Column { name: "log", kind: Kind::Tag }],
    clustering: &[Column { name: "number", kind: Kind::Bytes }],
    value: &[Column { name: "subjects", kind: Kind::Bytes }],
    cache: Cache::Never,
    bucket_rows: None,
};

const LAYOUT: u8 = 1;
const HEADER_BYTES: usize = 1 + 8;

/// Bytes of one row. A group that names more takes several.
const ROW_BYTES_MAX: usize = 256 << 10;

/// Rows read at a time, and rows removed in one job of the writer.
pub(crate) const ROWS_PER_READ: usize = 64;

/// For how long rows stay that have been worked through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// Rows named before this, in microseconds, may go.
    pub(crate) since_us: i64,
    /// Whatever their age, at most so many stay.
    pub(crate) rows_max: u64,
}

/// The list, and how far it has got.
pub(crate) struct Log {
    /// The last number given.
    last: AtomicU64,
    /// Subjects named and not yet findable.
    pending: AtomicU64,
    /// The number up to which everything is findable.
    done_to: AtomicU64,
    /// When the oldest of those that wait was named; 0 when there is none.
    oldest_us: AtomicI64,
    /// The beginnings of positions in `record` of the collections that matter.
    collections: [Vec<u8>; 3],
    profile: Vec<u8>,
}

/// One row.
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) at_us: i64,
    pub(crate) subjects: Vec<Subject>,
    /// How many the row names, those that cannot be read back included.
    pub(crate) named: u64,
}

fn partition() -> gp_store::Partition {
    Key::of(&LOG).tag(b'l').partition()
}

impl Log {
    /// Opens the list of a store for a process that does not write it.
    pub(crate) fn of_another(written: u64) -> Self {
        Self::new(written, written)
    }

    /// Opens the list of a store. `written` is the number up to which the index has been written.
    pub(crate) fn open(store: &Store, written: u64) -> Result<Self> {
        let log = Self::new(applied(store)?.max(written), written);
        // What waits from before counts from the beginning.
        let mut after = written;
        loop {
            let entries = read(store, after)?;
            let Some(end) = entries.last() else { break };
            after = end.number;
            for entry in &entries {
                log.waits(entry.named, entry.at_us);
            }
        }
        Ok(log)
    }

    fn new(last: u64, written: u64) -> Self {
        let packed = |nsid: &str| {
            let mut out = Vec::new();
            gp_atproto::compact::pack_nsid(nsid, &mut out);
            out
        };
        Self {
            last: AtomicU64::new(last),
            pending: AtomicU64::new(0),
            done_to: AtomicU64::new(written),
            oldest_us: AtomicI64::new(0),
            collections: subject::COLLECTIONS.map(packed),
            profile: atom::path(PROFILE, profiles::SELF).to_vec(),
        }
    }

    /// The last number given; its row may not stand yet.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// Subjects named and not yet findable.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Relaxed)
    }

    /// How long the oldest of them waits, in microseconds.
    pub(crate) fn lag_us(&self) -> i64 {
        match self.oldest_us.load(Relaxed) {
            0 => 0,
            since => system_now_us().saturating_sub(since).max(0),
        }
    }

    fn waits(&self, subjects: u64, at_us: i64) {
        self.pending.fetch_add(subjects, Relaxed);
        let _ = self.oldest_us.compare_exchange(0, at_us, Relaxed, Relaxed);
    }

    /// What a process that does not write the list sees of it: up to where everything is findable, how many subjects wait,
    /// and since when.
    pub(crate) fn sees(&self, done_to: u64, pending: u64, oldest_us: i64) {
        self.done_to.fetch_max(done_to, Relaxed);
        self.pending.store(pending, Relaxed);
        self.oldest_us.store(if pending > 0 { oldest_us } else { 0 }, Relaxed);
    }

    /// The number up to which everything is findable.
    pub(crate) fn done_to(&self) -> u64 {
        self.done_to.load(Relaxed)
    }

    /// Subjects have become findable, everything up to a number; `next_us` is when the oldest one that still waits was
    /// named, if known.
    pub(crate) fn done(&self, subjects: u64, to: u64, next_us: Option<i64>) {
        self.done_to.fetch_max(to, Relaxed);
        let left = self.pending.fetch_sub(subjects, Relaxed).saturating_sub(subjects);
        let oldest = if left == 0 { 0 } else { next_us.unwrap_or_else(system_now_us) };
        self.oldest_us.store(oldest, Relaxed);
        // Something may have been named since it was counted.
        if oldest == 0 && self.pending() > 0 {
            let _ = self.oldest_us.compare_exchange(0, system_now_us(), Relaxed, Relaxed);
        }
    }

    /// What must be applied together with a group of changes: the row that names them.
    pub(crate) fn rows(&self, view: &View<'_>) -> Vec<Change> {
        let mut named: Vec<Vec<u8>> = Vec::new();
        let mut count = 0;
        let mut name = |write: &dyn Fn(&mut Vec<u8>)| {
            if named.last().is_none_or(|row| row.len() >= ROW_BYTES_MAX) {
                named.push(Vec::new());
            }
            if let Some(row) = named.last_mut() {
                write(row);
                count += 1;
            }
        };
        for (key, value) in view.changes() {
            let table = key.table_id();
            if table == RECORD.id {
                let place = key.clustering();
                if self.collections.iter().any(|nsid| place.starts_with(nsid)) {
                    name(&|out| subject::write_record(key.partition(), place, out));
                } else if place == self.profile {
                    name(&|out| subject::write_account(key.partition(), out));
                }
            } else if table == ACTOR.id {
                name(&|out| subject::write_account(key.partition(), out));
            } else if table == ON.id
                && key.clustering().is_empty()
                && let Some(subject) = grown(view, key, value)
            {
                name(&|out| subject.write(out));
            }
        }
        if named.is_empty() {
            return Vec::new();
        }
        let now_us = system_now_us();
        self.waits(count, now_us);
        let first = self.last.fetch_add(named.len() as u64, Relaxed) + 1;
        (first..)
            .zip(named)
            .map(|(number, subjects)| {
                let mut row = Vec::with_capacity(HEADER_BYTES + subjects.len());
                row.push(LAYOUT);
                row.extend_from_slice(&now_us.to_be_bytes());
                row.extend_from_slice(&subjects);
                Change { key: partition().at(&number.to_be_bytes()), value: Some(row.into()) }
            })
            .collect()
    }
}

/// The subject of a head of counts if it has come to another level.
fn grown(view: &View<'_>, key: &Key, after: Option<&Bytes>) -> Option<Subject> {
    // A head that cannot be read counts as none, as it does for everybody.
    let before = view.stored(key).ok().flatten();
    let levels = |head: Option<&Bytes>| {
        let head = Head::read(head);
        let get = |cell: OnCount| head.get(cell as u8);
        let (likes, followers, joined) = (get(OnCount::Likes), get(OnCount::Followers), get(OnCount::Joined));
        let engaged = likes + get(OnCount::Reposts) + get(OnCount::Replies) + get(OnCount::Quotes);
        [level(engaged), level(likes), level(followers), level(joined)]
    };
    if levels(before.as_ref()) == levels(after) {
        return None;
    }
    Subject::of_uri(&Parts::of(ON.name, key.partition()).uri().ok()?)
}

fn number_of(clustering: &[u8]) -> Result<u64> {
    clustering.try_into().map(u64::from_be_bytes).map_err(|_| Error::Corrupt { table: LOG.name, what: "number" })
}

/// The number in the key of a row of the list; nothing for other keys.
pub(crate) fn number_in(key: &Key) -> Option<u64> {
    let is_row = key.table_id() == LOG.id && key.partition() == partition().head().partition();
    is_row.then(|| number_of(key.clustering()).ok()).flatten()
}

fn gone_key() -> Key {
    Key::of(&LOG).tag(b'g').key()
}

fn gone_in(stored: Option<Bytes>) -> Result<u64> {
    stored.map_or(Ok(0), |stored| number_of(&stored))
}

/// The number up to which rows have gone.
pub(crate) fn gone(store: &Store) -> Result<u64> {
    gone_in(store.local().get_one(&gone_key())?)
}

/// The number of the last row that stood: everything named up to it is in the store, save for what is just being
/// applied.
pub(crate) fn applied(store: &Store) -> Result<u64> {
    let page = store.local().scan(&Scan::of(partition()).reverse().limit(1))?;
    match page.rows.first() {
        Some(row) => number_of(row.clustering()),
        None => gone(store),
    }
}

/// Cuts a row into its time and its subjects.
fn head_of(value: &[u8]) -> Result<(i64, &[u8])> {
    let corrupt = |what| Error::Corrupt { table: LOG.name, what };
    let (head, subjects) = value.split_at_checked(HEADER_BYTES).ok_or(corrupt("layout"))?;
    if head[0] != LAYOUT {
        return Err(corrupt("layout"));
    }
    Ok((head[1..].try_into().map(i64::from_be_bytes).map_err(|_| corrupt("time"))?, subjects))
}

/// The next rows after a number.
pub(crate) fn read(store: &Store, after: u64) -> Result<Vec<Entry>> {
    let page = store.local().scan(&Scan::of(partition()).after(after.to_be_bytes()).limit(ROWS_PER_READ))?;
    page.rows
        .iter()
        .map(|row| {
            let (at_us, subjects) = head_of(&row.value)?;
            let (subjects, named) = Subject::read_all(LOG.name, subjects)?;
            Ok(Entry { number: number_of(row.clustering())?, at_us, subjects, named })
        })
        .collect()
}

/// Removes some rows after `from` up to `to` that need not be kept. Returns up to which number rows are gone, and whether
/// more may go.
pub(crate) fn remove(view: &mut View<'_>, from: u64, to: u64, kept: Option<Kept>) -> Result<(u64, bool)> {
    let page = view.scan(&Scan::of(partition()).after(from.to_be_bytes()).limit(ROWS_PER_READ))?;
    let (mut gone, mut more) = (if page.more { from } else { to }, page.more);
    for row in &page.rows {
        let number = number_of(row.clustering())?;
        let stays = kept.is_some_and(|kept| {
            // One that cannot be read is of no use to anybody.
            head_of(&row.value).is_ok_and(|(at_us, _)| at_us > kept.since_us)
                && to.saturating_sub(number) < kept.rows_max
        });
        if number > to || stays {
            (gone, more) = (gone.min(number - 1), false);
            break;
        }
        view.delete(row.key.clone());
        gone = gone.max(number);
    }
    if gone > gone_in(view.get(&gone_key())?)? {
        view.put(gone_key(), gone.to_be_bytes().to_vec());
    }
    Ok((gone, more))
}

/// The name of a store, if search has opened it before.
pub(crate) async fn name_of(store: &Store) -> Result<Option<String>> {
    let name = store.get_one(&name_key()).await?;
    Ok(name.map(|name| String::from_utf8_lossy(&name).into_owned()))
}

fn name_key() -> Key {
    Key::of(&LOG).tag(b'i').key()
}

/// Tells this store from others: a name made when search first opens it. An index of another store is of no use.
pub(crate) async fn identify(store: &Store, writer: &Writer) -> Result<String> {
    if let Some(name) = name_of(store).await? {
        return Ok(name);
    }
    let name = format!("{:x}-{:x}", system_now_us(), std::process::id());
    let made = name.clone();
    writer.run(move |view| Ok::<_, Error>(view.put(name_key(), made.into_bytes()))).await?;
    Ok(name)
}

/// Lets the list be written from now on.
pub(crate) fn accompany(store: &Store, log: &Arc<Log>) {
    let log = Arc::clone(log);
    store.accompany(move |view| log.rows(view));
}
