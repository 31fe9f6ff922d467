//! The embedded engine: a log-structured merge tree in a folder.
//!
//! All tables share one keyspace, told apart by the first byte of the key: an idle keyspace would pin journals of the
//! busy ones, and one batch over one keyspace is atomic over all tables.

use std::{
    fs,
    ops::Bound,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::Local;
use crate::{Batch, Error, Key, Page, Result, Row, Scan};

/// The format of keys and values on disk. A change of it needs a migration or a fresh folder.
pub const FORMAT: u32 = 1;

/// Name of the file that holds the format number.
const FORMAT_FILE: &str = "FORMAT";

/// Journals together may grow to this size before memtables are flushed; it bounds the time of a restart.
const JOURNALS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One memtable's size. Larger ones write less often, smaller ones restart faster.
const MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;

/// Most table files kept open.
const OPEN_FILES_MAX: usize = 400;

/// How the embedded engine is opened.
#[derive(Debug, Clone)]
pub struct LsmConfig {
    /// The folder; created if missing.
    pub dir: PathBuf,
    /// Bytes of the block cache.
    pub block_cache_bytes: u64,
}

/// The embedded engine.
pub struct Lsm {
    db: Database,
    rows: Keyspace,
    dir: PathBuf,
}

impl Lsm {
    /// Opens or creates the folder. Touches nothing if its format is not ours or another process holds it.
    pub fn open(config: &LsmConfig) -> Result<Self> {
        let dir = &config.dir;
        check_format(dir)?;
        let open = |why: String| Error::Open { path: dir.clone(), why };
        let db = Database::builder(dir.join("rows"))
            .cache_size(config.block_cache_bytes)
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(2)
            .open()
            .map_err(|e| match e {
                fjall::Error::Locked => Error::InUse(dir.clone()),
                other => open(explain(&other)),
            })?;
        let rows = db
            .keyspace("rows", || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES))
            .map_err(|e| open(explain(&e)))?;
        write_format(dir)?;
        Ok(Self { db, rows, dir: dir.clone() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Journals not yet replaced by table files.
    pub fn journals(&self) -> usize {
        self.db.journal_count()
    }
}

fn check_format(dir: &Path) -> Result<()> {
    let file = dir.join(FORMAT_FILE);
    match fs::read_to_string(&file) {
        Ok(text) if text.trim() == FORMAT.to_string() => Ok(()),
        Ok(text) => Err(Error::Format { path: dir.to_owned(), found: text.trim().chars().take(40).collect(), known: FORMAT }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if dir.join("rows").exists() {
                return Err(Error::Open {
                    path: dir.to_owned(),
                    why: format!("its {FORMAT_FILE} file is missing, so it is not certain what the files hold"),
                });
            }
            fs::create_dir_all(dir).map_err(|e| Error::Open { path: dir.to_owned(), why: e.to_string() })
        }
        Err(e) => Err(Error::Open { path: dir.to_owned(), why: e.to_string() }),
    }
}

fn write_format(dir: &Path) -> Result<()> {
    let file = dir.join(FORMAT_FILE);
    if file.exists() {
        return Ok(());
    }
    let new = dir.join("FORMAT.new");
    fs::write(&new, format!("{FORMAT}\n"))
        .and_then(|()| fs::rename(&new, &file))
        .map_err(|e| Error::Open { path: dir.to_owned(), why: e.to_string() })
}

fn explain(e: &fjall::Error) -> String {
    match e {
        fjall::Error::Io(io) => io.to_string(),
        other => format!("{other:?}"),
    }
}

fn engine(e: fjall::Error) -> Error {
    if let fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) = &e
        && io.kind() == std::io::ErrorKind::StorageFull
    {
        return Error::Full;
    }
    Error::Engine(explain(&e))
}

impl Local for Lsm {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().map(|k| self.get_one(k)).collect()
    }

    fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.rows.get(key.bytes()).map_err(engine)?.map(Bytes::from))
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        if scan.is_empty_range() {
            return Ok(Page::default());
        }
        let split = scan.partition.split();
        let mut iter = self.rows.range(scan.bounds());
        let mut rows = Vec::with_capacity(scan.limit.min(256));
        loop {
            let Some(guard) = (if scan.reverse { iter.next_back() } else { iter.next() }) else {
                return Ok(Page { rows, more: false });
            };
            if rows.len() == scan.limit {
                return Ok(Page { rows, more: true });
            }
            let (key, value) = guard.into_inner().map_err(engine)?;
            rows.push(Row { key: Key::from_parts(key.into(), split), value: value.into() });
        }
    }

    fn apply(&self, batch: &Batch) -> Result<()> {
        let mut write = self.db.batch().durability(Some(PersistMode::Buffer));
        for change in batch.changes() {
            match &change.value {
                Some(value) => write.insert(&self.rows, change.key.bytes().clone(), value.clone()),
                None => write.remove(&self.rows, change.key.bytes().clone()),
            }
        }
        write.commit().map_err(engine)
    }

    fn sync(&self) -> Result<()> {
        self.db.persist(PersistMode::SyncData).map_err(engine)
    }

    fn bytes_used(&self) -> u64 {
        self.db.disk_space().unwrap_or(0)
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        let end = match table_id.checked_add(1) {
            Some(next) => Bound::Excluded(vec![next]),
            None => Bound::Unbounded,
        };
        for guard in self.rows.range((Bound::Included(vec![table_id]), end)) {
            let (key, value) = guard.into_inner().map_err(engine)?;
            if !visit(&key, &value.into()) {
                break;
            }
        }
        Ok(())
    }
}
