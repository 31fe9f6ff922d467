//! Moving all rows from one store to another, whatever their engines, so that it can be stopped and gone on with.
//!
//! ```text
//! survey  every table of the source: rows, bytes, a sum over them
//! copy    a table after the other; with each batch goes the row that says how far it has come
//! verify  every table of the destination must give the same sum
//! ```
//!
//! Nobody may write to either store meanwhile: a folder can be opened once only, and of a cluster this process takes the
//! lease. A batch that was put twice, because the process ended between a batch and the next, changes nothing.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{Batch, Cache, Change, Column, Digest, Error, Key, Kind, Result, Store, Table, digest};

/// How far a copy into this store has come: a row for each table, and one for where it comes from.
pub(crate) static COPIES: Table = Table {
    id: 253, // On disk. Never reused, never renumbered.
    name: "copy",
    partition: &[Column { name: "table", kind: Kind::Tag }],
    clustering: &[],
    value: &[Column { name: "copy_row", kind: Kind::Bytes }],
    cache: Cache::Never,
    bucket_rows: None,
};

/// Rows and bytes of one batch.
const ROWS_PER_BATCH: usize = 4_000;
const BYTES_PER_BATCH: u64 = 4 << 20;

/// Batches read and not yet written.
const BATCHES_AHEAD_MAX: usize = 2;

/// What was copied survives a power cut after this time at the latest; what does not is copied again.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// First byte of a row of [`COPIES`].
const LAYOUT: u8 = 1;

/// How long the partition at the beginning of a key is, the number of the table not counted.
pub type PartitionLen = fn(&Table, &[u8]) -> Option<usize>;

/// Where a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyStep {
    /// The source is read whole once, to know how much there is.
    Survey,
    /// Rows are copied.
    Copy,
    /// The destination is read whole once.
    Verify,
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy)]
pub struct CopyProgress {
    /// What is being done.
    pub step: CopyStep,
    /// Rows of this step that are done, those of an earlier run included.
    pub rows: u64,
    /// Rows that it will be; 0 while nobody knows.
    pub rows_all: u64,
    /// Bytes of keys and values that this run has moved or read in this step.
    pub bytes: u64,
    /// Rows that this run has moved or read in this step, and for how long it has been at it.
    pub rows_now: u64,
    /// Time since the step began.
    pub took: Duration,
}

/// One table at the end of a copy.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// The table.
    pub table: &'static Table,
    /// What the source holds.
    pub from: Digest,
    /// What the destination holds.
    pub to: Digest,
}

impl Copied {
    /// Whether both hold the same.
    pub fn is_same(&self) -> bool {
        self.from == self.to
    }
}

/// What came of a copy.
#[derive(Debug)]
pub enum CopyEnd {
    /// It is complete; every table with what both sides hold of it.
    Done(Vec<Copied>),
    /// It was told to stop, and can be gone on with.
    Stopped,
}

/// Copies all rows of the declared tables of `from` into `to`, or goes on with it. `origin` names the source: a
/// destination that was begun from another one, or holds rows already, is refused. `go_on` is told of the progress about
/// as often as batches are written, and says whether to go on.
///
/// It blocks for as long as it takes: for tools, not for the threads of a serving process.
pub fn copy(
    from: &Store,
    to: &Store,
    origin: &str,
    partition_len: PartitionLen,
    go_on: &mut dyn FnMut(CopyProgress) -> bool,
) -> Result<CopyEnd> {
    // What a store notes of its own caches and copies is not for another one.
    let own: Vec<u8> = crate::TABLES.iter().map(|table| table.id).collect();
    let tables: Vec<&'static Table> = from.tables().filter(|table| !own.contains(&table.id)).collect();
    let mut notes = begin(to, &tables, origin)?;

    let mut steps = Steps::new(CopyStep::Survey, go_on);
    for note in &mut notes {
        if note.survey.is_none() {
            let Some(found) = survey(from, note.table.id, &mut steps)? else { return Ok(CopyEnd::Stopped) };
            note.survey = Some(found);
            to.local().apply(&Batch::from(vec![note.write()]))?;
        }
    }
    let all = notes.iter().filter_map(|note| note.survey).map(|it| it.rows).sum();

    steps.begin(CopyStep::Copy, all, notes.iter().map(|note| note.rows).sum());
    let mut synced = Instant::now();
    for note in notes.iter_mut().filter(|note| !note.is_done) {
        if !copy_table(from, to, note, partition_len, &mut steps, &mut synced)? {
            to.local().sync()?;
            return Ok(CopyEnd::Stopped);
        }
    }
    to.local().sync()?;

    steps.begin(CopyStep::Verify, all, 0);
    let mut copied = Vec::with_capacity(notes.len());
    for note in &notes {
        let Some(found) = survey(to, note.table.id, &mut steps)? else { return Ok(CopyEnd::Stopped) };
        let from = note.survey.unwrap_or(Digest { table_id: note.table.id, rows: 0, bytes: 0, hash: 0 });
        copied.push(Copied { table: note.table, from, to: found });
    }
    if copied.iter().all(Copied::is_same) {
        // The destination is a store like any other from now on.
        to.local()
            .apply(&notes.iter().map(|note| note.key()).chain([origin_key()]).map(gone).collect::<Vec<_>>().into())?;
        to.local().sync()?;
    }
    Ok(CopyEnd::Done(copied))
}

fn gone(key: Key) -> Change {
    Change { key, value: None }
}

fn origin_key() -> Key {
    Key::of(&COPIES).tag(0).key()
}

/// Reads how far an earlier run has come, or makes sure that there was none and that the destination is empty.
fn begin(to: &Store, tables: &[&'static Table], origin: &str) -> Result<Vec<Note>> {
    let fresh = |table: &&'static Table| Note { table, survey: None, rows: 0, is_done: false, after: Bytes::new() };
    match to.local().get_one(&origin_key())? {
        Some(begun) if begun == origin.as_bytes() => tables
            .iter()
            .map(|table| match to.local().get_one(&fresh(table).key())? {
                Some(row) => Note::read(table, &row),
                None => Ok(fresh(table)),
            })
            .collect(),
        Some(begun) => Err(Error::Refused(format!(
            "the destination holds part of a copy from {}: go on with that one, or begin with an empty destination",
            String::from_utf8_lossy(&begun)
        ))),
        None => {
            for table in tables {
                let mut is_empty = true;
                to.local().each(table.id, &mut |_, _| {
                    is_empty = false;
                    false
                })?;
                if !is_empty {
                    return Err(Error::Refused(format!(
                        "the destination is not empty (table {}): copy into an empty one",
                        table.name
                    )));
                }
            }
            let put = Change { key: origin_key(), value: Some(Bytes::copy_from_slice(origin.as_bytes())) };
            to.local().apply(&Batch::from(vec![put]))?;
            Ok(tables.iter().map(fresh).collect())
        }
    }
}

/// What is known of the copy of one table.
struct Note {
    table: &'static Table,
    /// What the source holds, once it was looked at.
    survey: Option<Digest>,
    /// Rows copied.
    rows: u64,
    is_done: bool,
    /// Copied up to here.
    after: Bytes,
}

impl Note {
    fn key(&self) -> Key {
        Key::of(&COPIES).tag(self.table.id).key()
    }

    /// `layout, state, rows copied, rows, bytes, hash, after`
    fn write(&self) -> Change {
        let survey = self.survey.unwrap_or(Digest { table_id: self.table.id, rows: 0, bytes: 0, hash: 0 });
        let mut row = vec![LAYOUT, u8::from(self.survey.is_some()) | u8::from(self.is_done) << 1];
        for number in [self.rows, survey.rows, survey.bytes] {
            row.extend_from_slice(&number.to_be_bytes());
        }
        row.extend_from_slice(&survey.hash.to_be_bytes());
        row.extend_from_slice(&self.after);
        Change { key: self.key(), value: Some(row.into()) }
    }

    fn read(table: &'static Table, row: &Bytes) -> Result<Self> {
        let read = || {
            let (head, rest) = row.split_first_chunk::<2>()?;
            let (rows, rest) = rest.split_first_chunk::<8>()?;
            let (all, rest) = rest.split_first_chunk::<8>()?;
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            let (hash, after) = rest.split_first_chunk::<16>()?;
            let survey = Digest {
                table_id: table.id,
                rows: u64::from_be_bytes(*all),
                bytes: u64::from_be_bytes(*bytes),
                hash: u128::from_be_bytes(*hash),
            };
            (head[0] == LAYOUT).then(|| Self {
                table,
                survey: (head[1] & 1 != 0).then_some(survey),
                rows: u64::from_be_bytes(*rows),
                is_done: head[1] & 2 != 0,
                after: Bytes::copy_from_slice(after),
            })
        };
        read().ok_or_else(|| {
            Error::Refused("how far the copy has come cannot be read: begin with an empty destination".into())
        })
    }
}

/// Sums a table up; nothing if it was told to stop.
fn survey(store: &Store, table_id: u8, steps: &mut Steps<'_>) -> Result<Option<Digest>> {
    let mut sum = digest::Sum::default();
    let mut goes_on = true;
    let (mut rows, mut bytes) = (0, 0);
    store.local().each(table_id, &mut |key, value| {
        sum.add(key, value);
        (rows, bytes) = (rows + 1, bytes + (key.len() + value.len()) as u64);
        if rows == ROWS_PER_BATCH as u64 {
            goes_on = steps.done(std::mem::take(&mut rows), std::mem::take(&mut bytes));
        }
        goes_on
    })?;
    steps.done(rows, bytes);
    Ok(goes_on.then(|| sum.of(table_id)))
}

/// Copies what is left of a table. Answers whether it is complete.
fn copy_table(
    from: &Store,
    to: &Store,
    note: &mut Note,
    partition_len: PartitionLen,
    steps: &mut Steps<'_>,
    synced: &mut Instant,
) -> Result<bool> {
    let (table, after) = (note.table, note.after.clone());
    // An engine on a network walks partitions in an order of its own and can go on after a whole one only.
    let by_partition = from.local().remote().is_some();
    std::thread::scope(|scope| {
        let (send, batches) = mpsc::sync_channel::<(Batch, Bytes)>(BATCHES_AHEAD_MAX);
        // The source is read while the destination is written.
        let reading = scope.spawn(move || read(from, table, &after, by_partition, partition_len, &send));
        for (mut batch, reached) in batches {
            let (rows, bytes) = (batch.len() as u64, batch.bytes());
            note.rows += rows;
            note.after = reached;
            batch.push(note.write());
            to.local().apply(&batch)?;
            if synced.elapsed() >= SYNC_EVERY {
                to.local().sync()?;
                *synced = Instant::now();
            }
            // Who reads finds nobody listening any more, and ends.
            if !steps.done(rows, bytes) {
                return Ok(false);
            }
        }
        reading.join().unwrap_or_else(|_| Err(Error::Engine("reading the source panicked".into())))?;
        note.is_done = true;
        to.local().apply(&Batch::from(vec![note.write()]))?;
        Ok(true)
    })
}

/// Reads a table in batches, each with the place it has reached, until nobody wants more.
fn read(
    from: &Store,
    table: &'static Table,
    after: &Bytes,
    by_partition: bool,
    partition_len: PartitionLen,
    send: &mpsc::SyncSender<(Batch, Bytes)>,
) -> Result<()> {
    let (mut batch, mut reached) = (Batch::new(), after.clone());
    let mut partition = Bytes::new();
    let mut wrong: Option<Error> = None;
    let mut wanted = true;
    from.local().each_from(table.id, after, &mut |key, value| {
        let Some(split) = partition_len(table, &key[1..]).map(|len| 1 + len).filter(|split| *split <= key.len()) else {
            let shown: String = key.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
            wrong = Some(Error::Engine(format!("a key of table {} cannot be taken apart: {shown}", table.name)));
            return false;
        };
        if by_partition && partition != key[..split] {
            // The one before is complete.
            reached = std::mem::replace(&mut partition, Bytes::copy_from_slice(&key[..split]));
            if reached.is_empty() {
                reached = after.clone();
            }
        }
        if batch.len() >= ROWS_PER_BATCH || batch.bytes() >= BYTES_PER_BATCH {
            wanted = send.send((std::mem::take(&mut batch), reached.clone())).is_ok();
            if !wanted {
                return false;
            }
        }
        let key = Key::from_parts(Bytes::copy_from_slice(key), u16::try_from(split).unwrap_or(u16::MAX));
        if !by_partition {
            reached = key.bytes().clone();
        }
        batch.push(Change { key, value: Some(value.clone()) });
        true
    })?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if wanted && !batch.is_empty() {
        // Nobody listens: then it was stopped.
        let _ = send.send((batch, reached));
    }
    Ok(())
}

/// Tells how far a step has come.
struct Steps<'a> {
    go_on: &'a mut dyn FnMut(CopyProgress) -> bool,
    now: CopyProgress,
    begun: Instant,
}

impl<'a> Steps<'a> {
    fn new(step: CopyStep, go_on: &'a mut dyn FnMut(CopyProgress) -> bool) -> Self {
        let now = CopyProgress { step, rows: 0, rows_all: 0, bytes: 0, rows_now: 0, took: Duration::ZERO };
        Self { go_on, now, begun: Instant::now() }
    }

    fn begin(&mut self, step: CopyStep, rows_all: u64, rows: u64) {
        self.now = CopyProgress { step, rows, rows_all, bytes: 0, rows_now: 0, took: Duration::ZERO };
        self.begun = Instant::now();
    }

    fn done(&mut self, rows: u64, bytes: u64) -> bool {
        self.now.rows += rows;
        self.now.rows_now += rows;
        self.now.bytes += bytes;
        self.now.took = self.begun.elapsed();
        (self.go_on)(self.now)
    }
}
