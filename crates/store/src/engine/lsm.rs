//! The embedded engine: a log-structured merge tree in a folder.
//!
//! All tables share one keyspace, told apart by the first byte of the key: an idle keyspace would pin journals of the
//! busy ones, and one batch over one keyspace is atomic over all tables. Table number 0 is the engine's own: it holds
//! the number of the last batch.
//!
//! `docs/decisions/0001-embedded-engine.md` says why this engine, and where the settings below come from.

use std::{
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot,
    compaction::Leveled,
    config::{
        BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
        PartitioningPolicy, PinningPolicy,
    },
};
use parking_lot::{Mutex, RwLock};

use super::{
    Local, Vitals,
    folder::Folder,
    recovery::{self, MARK_KEY, Mark},
    space::Space,
};
use crate::{BYTES_PER_SCAN_MAX, Batch, Error, Key, Page, Result, Row, Scan};

/// The format of keys and values on disk. A folder of an older one from [`FORMAT_READ_MIN`] on is read as it is, and has
/// this one from then on: programs before it cannot read what is added.
///
/// 2: records of which only the cells are kept.
pub const FORMAT: u32 = 2;

/// The oldest format that is read.
pub(super) const FORMAT_READ_MIN: u32 = 1;

/// Free bytes of the disk below which no changes are taken, unless the configuration says otherwise.
///
/// The engine must never meet a full disk, and it goes on writing after the last change was taken: the memtables (four
/// of [`MEMTABLE_BYTES`] at most), a new journal, and merges, each of which needs the size of its inputs until it is
/// done (young tables plus the first level: 28 of [`MEMTABLE_BYTES`] and 6 of [`TABLE_BYTES`] at the worst).
pub const DISK_RESERVE_BYTES: u64 = 1 << 30;

/// Journals together may grow to this size before memtables are flushed; it bounds the time of a restart.
const JOURNALS_BYTES_MAX: u64 = 256 << 20;

/// One memtable's size. Larger ones are merged less often; smaller ones are searched faster, and every read searches one.
const MEMTABLE_BYTES: u64 = 16 << 20;

/// Size at which a merge begins the next table file.
const TABLE_BYTES: u64 = 32 << 20;

/// Young tables that make a merge due. More of them mean fewer merges, and more work for each read.
const YOUNG_TABLES_DUE: u8 = 6;

/// Size of a block before compression: what one read of a row takes from the disk.
const BLOCK_BYTES: u32 = 4 << 10;

/// Filter bits for each key. Most reads of the writer ask for rows that are not there.
const FILTER_BITS: f32 = 10.0;

/// Levels from the youngest whose filters and indexes stay in memory, whatever the block cache does. The levels below
/// hold most rows; their filters are read in parts, through the block cache, so that memory stays bounded.
const LEVELS_PINNED: usize = 3;

/// Levels the engine has.
const LEVELS: usize = 7;

/// Threads that flush and merge. With two, the one kept free for flushes spins while the other merges.
const WORKERS: usize = 3;

/// Most table files kept open.
const OPEN_FILES_MAX: usize = 400;

/// Memtables that wait to be written to table files before changes wait for them. The engine itself stops at four, in
/// a loop that does not end when the thread that writes them has died.
const MEMTABLES_WAITING_MAX: usize = 3;

/// Young tables beyond which changes wait for a merge. The engine itself stops at thirty, in such a loop.
const YOUNG_TABLES_MAX: usize = 28;

/// How often a waiting change looks again.
const WAIT_STEP: Duration = Duration::from_millis(2);

/// A change that waited so long gives up: the engine has stopped, and only a restart helps.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How the embedded engine is opened.
#[derive(Debug, Clone)]
pub struct LsmConfig {
    /// The folder; created if missing.
    pub dir: PathBuf,
    /// Bytes of the block cache.
    pub block_cache_bytes: u64,
    /// Free bytes of the disk below which changes are refused. See [`DISK_RESERVE_BYTES`].
    pub disk_reserve_bytes: u64,
}

/// The embedded engine.
pub struct Lsm {
    /// What readers see: the rows as they were when the last batch had been applied whole.
    ///
    /// The engine's own reads see a batch row by row while it is applied, and its own snapshots may, too, when one of
    /// its threads finishes a table file at that moment. So a snapshot is taken when no batch is under way, and
    /// readers use that one until the next batch is whole.
    now: RwLock<Snapshot>,
    rows: Keyspace,
    db: Database,
    /// Number of the last batch. Held while a batch is applied, so that numbers and batches have one order.
    mark: Mutex<u64>,
    space: Space,
    /// Last, so that the folder is given free after the engine has closed its files.
    folder: Folder,
}

impl Lsm {
    /// Opens or creates the folder. Touches nothing if its format is not ours, if it is in use, or if its files are
    /// damaged where that can be seen without reading all of them. Damage elsewhere shows as [`Error::Engine`] when
    /// it is read.
    pub fn open(config: &LsmConfig) -> Result<Self> {
        let began = Instant::now();
        let folder = Folder::take(&config.dir)?;
        if !folder.rows().exists() {
            folder.create_rows(|new| open_files(&config.dir, new, config.block_cache_bytes).map(drop))?;
        }
        let synced = folder.synced()?;
        recovery::check(&folder.rows(), synced).map_err(|why| Error::Open { path: config.dir.clone(), why })?;
        let (db, rows) = open_files(&config.dir, &folder.rows(), config.block_cache_bytes)?;
        let mark = match rows.get(MARK_KEY).map_err(|e| cannot_open_for(&config.dir, &e))? {
            Some(value) => {
                Mark::read(&value)
                    .ok_or_else(|| cannot_open(&config.dir, "the number of its last change is damaged"))?
                    .batch
            }
            None => 0,
        };
        if mark < synced {
            return Err(Error::Open {
                path: config.dir.clone(),
                why: format!(
                    "it holds changes up to number {mark}, but number {synced} had been synced. \
                     Restore the folder from a copy, or remove the SYNCED file to go on without the changes in between"
                ),
            });
        }
        let space = Space::new(folder.dir().to_owned(), config.disk_reserve_bytes);
        tracing::debug!(path = %config.dir.display(), mark, journals = db.journal_count(), took_ms = began.elapsed().as_millis() as u64, "opened");
        Ok(Self { now: RwLock::new(db.snapshot()), rows, db, mark: Mutex::new(mark), space, folder })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.folder.dir()
    }

    /// Journals on the disk, the one being written included.
    pub fn journals(&self) -> usize {
        self.db.journal_count()
    }

    /// Writes the memtable to a table file and waits for it. For tests that want table files of few rows.
    pub fn flush(&self) -> Result<()> {
        self.rows.rotate_memtable_and_wait().map_err(engine)
    }

    /// Merges all there is into table files without anything dead in them, and returns their bytes. For measuring what
    /// rows take: it reads and writes everything.
    pub fn merge(&self) -> Result<u64> {
        self.flush()?;
        self.let_go();
        self.rows.major_compact().map_err(engine)?;
        Ok(self.rows.disk_space())
    }

    /// Applies a batch and shows it to the readers.
    fn commit(&self, mark: &mut u64, batch: &Batch) -> Result<()> {
        let next = *mark + 1;
        let mut write = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), batch.len() + 1)
            .durability(Some(PersistMode::Buffer));
        for change in batch.changes() {
            // Copied, because the memtable keeps what it is given: a small value may be a view of a large buffer.
            let key = Slice::from(&change.key.bytes()[..]);
            match &change.value {
                Some(value) => write.insert(&self.rows, key, Slice::from(&value[..])),
                None => write.remove(&self.rows, key),
            }
        }
        write.insert(&self.rows, MARK_KEY, Mark { batch: next, seqno_least: self.db.seqno() }.to_bytes());
        write.commit().map_err(engine)?;
        *mark = next;
        *self.now.write() = self.db.snapshot();
        Ok(())
    }

    /// Lets go of the table files that merges have replaced. The engine does so only when it rotates a memtable, so
    /// without this an idle or a full store would keep on the disk, for good, what its last merges read.
    fn let_go(&self) {
        *self.now.write() = self.db.snapshot();
        if let Err(e) = self.rows.rotate_memtable() {
            tracing::warn!(error = %explain(&e), "files that are no longer needed could not be removed");
        }
    }

    /// Waits until the engine's own threads have caught up so far that it would not stop the caller inside, where
    /// nothing can be told or ended.
    fn wait_for_workers(&self) -> Result<()> {
        let began = Instant::now();
        while self.rows.sealed_memtable_count() >= MEMTABLES_WAITING_MAX
            || self.rows.tree.l0_run_count() >= YOUNG_TABLES_MAX
        {
            // Says so if one of the engine's threads has died; the loop would never end.
            self.db.persist(PersistMode::Buffer).map_err(engine)?;
            if began.elapsed() >= WAIT_MAX {
                return Err(Error::Engine(format!(
                    "memtables were not written for {} s: restart the process; nothing acknowledged is lost",
                    WAIT_MAX.as_secs()
                )));
            }
            std::thread::sleep(WAIT_STEP);
        }
        Ok(())
    }
}

/// Opens the engine's files, or makes them where there are none.
fn open_files(dir: &Path, files: &Path, block_cache_bytes: u64) -> Result<(Database, Keyspace)> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = Database::builder(files)
            .cache_size(block_cache_bytes)
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(WORKERS)
            .open()?;
        let rows = db.keyspace("rows", settings)?;
        Ok((db, rows))
    }));
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(e)) => Err(cannot_open_for(dir, &e)),
        // Some damage makes the engine panic; to the caller it is the same.
        Err(_) => Err(cannot_open(dir, "the engine panicked on its files")),
    }
}

/// The settings of a new folder. The engine stores them with the rows, so a change here concerns new folders only.
fn settings() -> KeyspaceCreateOptions {
    let pinned = PinningPolicy::new((0..LEVELS).map(|level| level < LEVELS_PINNED).collect::<Vec<_>>());
    let parted = || PartitioningPolicy::new((0..LEVELS).map(|level| level >= LEVELS_PINNED).collect::<Vec<_>>());
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .data_block_compression_policy(CompressionPolicy::new([CompressionType::None, CompressionType::Lz4]))
        .expect_point_read_hits(false)
        .filter_policy(FilterPolicy::new([
            // Young tables are many and small, and every read asks each of them.
            FilterPolicyEntry::Bloom(BloomConstructionPolicy::FalsePositiveRate(0.0001)),
            FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(FILTER_BITS)),
        ]))
        .filter_block_pinning_policy(pinned.clone())
        .index_block_pinning_policy(pinned)
        .filter_block_partitioning_policy(parted())
        .index_block_partitioning_policy(parted())
        .compaction_strategy(Arc::new(
            Leveled::default().with_table_target_size(TABLE_BYTES).with_l0_threshold(YOUNG_TABLES_DUE),
        ))
}

fn cannot_open(dir: &Path, why: &str) -> Error {
    Error::Open { path: dir.to_owned(), why: format!("{why}. Its files are damaged: restore the folder from a copy") }
}

fn cannot_open_for(dir: &Path, e: &fjall::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
    match e {
        fjall::Error::Locked => Error::InUse(dir.to_owned()),
        // The disk or the system refuses; nothing is known of the files.
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io))
            if !matches!(io.kind(), InvalidData | InvalidInput | NotFound | UnexpectedEof) =>
        {
            Error::Open { path: dir.to_owned(), why: io.to_string() }
        }
        other => cannot_open(dir, &explain(other)),
    }
}

fn explain(e: &fjall::Error) -> String {
    match e {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => io.to_string(),
        fjall::Error::Poisoned => "it stopped after an earlier failure of the disk: restart the process".into(),
        other => format!("{other:?}"),
    }
}

fn engine(e: fjall::Error) -> Error {
    Error::Engine(explain(&e))
}

impl Local for Lsm {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let now = self.now.read().clone();
        keys.iter().map(|k| Ok(now.get(&self.rows, k.bytes()).map_err(engine)?.map(Bytes::from))).collect()
    }

    // Without the snapshot, which the writer does not need: nothing is applied while it reads.
    fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.rows.get(key.bytes()).map_err(engine)?.map(Bytes::from))
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        if scan.is_empty_range() {
            return Ok(Page::default());
        }
        let split = scan.partition.split();
        let mut iter = self.now.read().range(&self.rows, scan.bounds());
        let mut rows: Vec<Row> = Vec::with_capacity(scan.limit.min(256));
        let mut bytes = 0;
        loop {
            let Some(guard) = (if scan.reverse { iter.next_back() } else { iter.next() }) else {
                return Ok(Page { rows, more: false });
            };
            let (key, value) = guard.into_inner().map_err(engine)?;
            if rows.len() == scan.limit || bytes >= BYTES_PER_SCAN_MAX {
                return Ok(Page { rows, more: true });
            }
            bytes += key.len() + value.len();
            rows.push(Row { key: Key::from_parts(key.into(), split), value: value.into() });
        }
    }

    fn apply(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut mark = self.mark.lock();
        self.space.admit(batch.bytes(), || self.let_go())?;
        self.wait_for_workers()?;
        self.commit(&mut mark, batch)
    }

    fn sync(&self) -> Result<()> {
        let mark = *self.mark.lock();
        self.db.persist(PersistMode::SyncData).map_err(engine)?;
        self.folder.note_synced(mark);
        Ok(())
    }

    fn rest(&self) -> Result<()> {
        let mut mark = self.mark.lock();
        // Without any room the dead files go all the same, as far as there is a memtable to rotate.
        if self.space.admit(0, || {}).is_ok() {
            self.wait_for_workers()?;
            self.commit(&mut mark, &Batch::new())?;
        }
        self.let_go();
        Ok(())
    }

    fn bytes_used(&self) -> u64 {
        self.db.disk_space().unwrap_or(0)
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        self.each_from(table_id, &[], visit)
    }

    fn each_from(&self, table_id: u8, after: &[u8], visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        let from = if after.is_empty() { Bound::Included(vec![table_id]) } else { Bound::Excluded(after.to_vec()) };
        let end = match table_id.checked_add(1) {
            Some(next) => Bound::Excluded(vec![next]),
            None => Bound::Unbounded,
        };
        let range = self.now.read().range(&self.rows, (from, end));
        for guard in range {
            let (key, value) = guard.into_inner().map_err(engine)?;
            if !visit(&key, &value.into()) {
                break;
            }
        }
        Ok(())
    }

    fn vitals(&self) -> Vitals {
        Vitals {
            bytes_used: self.bytes_used(),
            disk_free_bytes: self.space.free_bytes(),
            journals: self.db.journal_count() as u64,
            memtable_bytes: self.db.write_buffer_size(),
            tables: self.rows.table_count() as u64,
            young_tables: self.rows.l0_table_count() as u64,
            ..Vitals::default()
        }
    }

    fn set_disk_reserve(&self, bytes: u64) {
        self.space.set_reserve(bytes);
    }
}
