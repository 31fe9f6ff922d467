//! The store: an engine, a cache in front of it, and the bounds on both.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{
    Batch, Cache, Error, Key, Page, Result, Scan, Table,
    cache::Near,
    engine::{Local, lsm::Lsm, lsm::LsmConfig, mem::Mem},
};

/// Keys that one visit to the engine may read before others get their turn.
const KEYS_PER_SLICE: usize = 256;

/// Scans that one visit to the engine may make before others get their turn.
const SCANS_PER_SLICE: usize = 16;

/// How a store is opened. Every number is a bound.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of answers kept in memory.
    pub near_cache_bytes: u64,
    /// Bytes of the engine's block cache.
    pub block_cache_bytes: u64,
    /// Visits to the engine at the same time, all callers together.
    pub reads_in_flight_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { near_cache_bytes: 128 << 20, block_cache_bytes: 128 << 20, reads_in_flight_max: 8 }
    }
}

/// The store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Box<dyn Local>,
    near: Near,
    tables: [Option<&'static Table>; 256],
    reads: Semaphore,
    reads_max: usize,
    reads_total: AtomicU64,
    applied_total: AtomicU64,
    observers: parking_lot::RwLock<Vec<Observer>>,
}

/// Told of every applied batch, in order, on the writer's thread. Must be quick and must not call the store.
type Observer = Box<dyn Fn(&Batch) + Send + Sync>;

/// What the store can say about itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Keys answered from memory since start.
    pub near_hits: u64,
    /// Keys that had to be asked of the engine since start.
    pub near_misses: u64,
    /// Bytes of answers kept.
    pub near_bytes: u64,
    /// Engine visits in flight.
    pub reads_in_flight: u64,
    /// Engine visits allowed at once.
    pub reads_in_flight_max: u64,
    /// Keys and ranges read from the engine since start.
    pub reads_total: u64,
    /// Changes applied since start.
    pub applied_total: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

impl Store {
    /// A store in memory, for tests.
    pub fn mem(tables: &[&'static Table]) -> Self {
        Self::over(Box::new(Mem::new()), tables, &Config::default())
    }

    /// The embedded engine in a folder.
    pub fn lsm(dir: &std::path::Path, tables: &[&'static Table], config: &Config) -> Result<Self> {
        let engine = Lsm::open(&LsmConfig { dir: dir.to_owned(), block_cache_bytes: config.block_cache_bytes })?;
        Ok(Self::over(Box::new(engine), tables, config))
    }

    /// A store over an engine.
    pub fn over(engine: Box<dyn Local>, tables: &[&'static Table], config: &Config) -> Self {
        let mut by_id = [None; 256];
        for table in tables {
            debug_assert!(by_id[usize::from(table.id)].is_none(), "table number {} is taken", table.id);
            by_id[usize::from(table.id)] = Some(*table);
        }
        Self {
            inner: Arc::new(Inner {
                engine,
                near: Near::new(config.near_cache_bytes),
                tables: by_id,
                reads: Semaphore::new(config.reads_in_flight_max),
                reads_max: config.reads_in_flight_max,
                reads_total: AtomicU64::new(0),
                applied_total: AtomicU64::new(0),
                observers: parking_lot::RwLock::new(Vec::new()),
            }),
        }
    }

    fn cache_of(&self, key: &Key) -> Cache {
        self.inner.tables[usize::from(key.table_id())].map_or(Cache::Never, |t| t.cache)
    }

    /// The value at each key, in the order asked, duplicates included. Absent is `None`; unknown is an error.
    ///
    /// Keys found in memory cost nothing; the others are read in slices, so that a large batch and many small ones
    /// take turns.
    pub async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let mut answers: Vec<Option<Bytes>> = vec![None; keys.len()];
        // Distinct keys the memory could not answer, each with the places that want it.
        let mut missing: Vec<Key> = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::new();
        let mut seen: HashMap<&Key, usize> = HashMap::new();
        for (place, key) in keys.iter().enumerate() {
            if !matches!(self.cache_of(key), Cache::Never)
                && let Some(kept) = self.inner.near.get(key)
            {
                answers[place] = kept;
                continue;
            }
            let slot = *seen.entry(key).or_insert_with(|| {
                missing.push(key.clone());
                missing.len() - 1
            });
            places.push((place, slot));
        }
        if missing.is_empty() {
            return Ok(answers);
        }
        let mut found: Vec<Option<Bytes>> = Vec::with_capacity(missing.len());
        let mut rest = missing.into_iter();
        loop {
            let slice: Vec<Key> = rest.by_ref().take(KEYS_PER_SLICE).collect();
            if slice.is_empty() {
                break;
            }
            found.extend(self.visit(move |store| store.read_through(&slice)).await?);
        }
        for (place, slot) in places {
            answers[place].clone_from(&found[slot]);
        }
        Ok(answers)
    }

    /// One value.
    pub async fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.get(std::slice::from_ref(key)).await?.pop().flatten())
    }

    fn read_through(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        self.inner.reads_total.fetch_add(keys.len() as u64, Relaxed);
        let mut out = Vec::with_capacity(keys.len());
        for key in keys {
            let cache = self.cache_of(key);
            if matches!(cache, Cache::Never) {
                out.push(self.inner.engine.get_one(key)?);
                continue;
            }
            let ticket = self.inner.near.ticket(key);
            let stored = self.inner.engine.get_one(key)?;
            let value = match cache {
                Cache::NearAs(make) => stored.map(|v| make(key, &v)),
                Cache::Near | Cache::Never => stored,
            };
            self.inner.near.fill(key, ticket, value.clone());
            out.push(value);
        }
        Ok(out)
    }

    /// One partition in order.
    pub async fn scan(&self, scan: Scan) -> Result<Page> {
        self.visit(move |store| {
            store.inner.reads_total.fetch_add(1, Relaxed);
            store.inner.engine.scan(&scan)
        })
        .await
    }

    /// Several partitions, each in order, answered in the order asked.
    pub async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let mut pages = Vec::with_capacity(scans.len());
        let mut rest = scans.into_iter();
        loop {
            let slice: Vec<Scan> = rest.by_ref().take(SCANS_PER_SLICE).collect();
            if slice.is_empty() {
                return Ok(pages);
            }
            let read = self.visit(move |store| {
                store.inner.reads_total.fetch_add(slice.len() as u64, Relaxed);
                slice.iter().map(|s| store.inner.engine.scan(s)).collect::<Result<Vec<_>>>()
            });
            pages.extend(read.await?);
        }
    }

    /// Runs a piece of engine work on a thread that may block, within the bound on visits.
    async fn visit<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = self.inner.reads.acquire().await.map_err(|_| Error::Closed)?;
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        drop(permit);
        done.unwrap_or_else(|e| Err(Error::Engine(format!("a read stopped: {e}"))))
    }

    /// Applies a batch at once. For the writer and for tests; everything else goes through the writer, which is alone.
    pub fn apply_now(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.inner.engine.apply(batch)?;
        for change in batch.changes() {
            if !matches!(self.cache_of(&change.key), Cache::Never) {
                self.inner.near.forget(&change.key);
            }
        }
        self.inner.applied_total.fetch_add(batch.len() as u64, Relaxed);
        for observer in self.inner.observers.read().iter() {
            observer(batch);
        }
        Ok(())
    }

    /// Adds an observer of every applied batch. It runs on the writer's thread: it must be quick.
    pub fn observe(&self, observer: impl Fn(&Batch) + Send + Sync + 'static) {
        self.inner.observers.write().push(Box::new(observer));
    }

    /// The engine, for the writer, for tools that read everything, and for tests.
    pub fn local(&self) -> &dyn Local {
        &*self.inner.engine
    }

    /// The declared tables.
    pub fn tables(&self) -> impl Iterator<Item = &'static Table> + '_ {
        self.inner.tables.iter().filter_map(|t| *t)
    }

    /// What the store can say about itself.
    pub fn figures(&self) -> Figures {
        let inner = &self.inner;
        Figures {
            near_hits: inner.near.hits(),
            near_misses: inner.near.misses(),
            near_bytes: inner.near.weight(),
            reads_in_flight: (inner.reads_max - inner.reads.available_permits()) as u64,
            reads_in_flight_max: inner.reads_max as u64,
            reads_total: inner.reads_total.load(Relaxed),
            applied_total: inner.applied_total.load(Relaxed),
            disk_bytes: inner.engine.bytes_used(),
        }
    }
}
