//! The store: an engine, a cache in front of it, and the bounds on both.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use crate::{
    Batch, Cache, Change, Error, Key, Page, Result, Scan, Table, View,
    cache::{Near, Ticket},
    engine::{
        Local,
        cql::{Cql, CqlConfig},
        lsm::{DISK_RESERVE_BYTES, Lsm, LsmConfig},
        mem::Mem,
    },
    feed,
    recent::Recent,
};

/// Keys that one visit to the engine may read before others get their turn.
const KEYS_PER_SLICE: usize = 256;

/// Scans that one visit to the engine may make before others get their turn.
const SCANS_PER_SLICE: usize = 16;

/// Visits to an engine behind a network at the same time, unless the configuration says more.
const REMOTE_READS_IN_FLIGHT: usize = 64;

/// Keys looked up in memory before other tasks of the thread get their turn.
const LOOKUPS_PER_TURN: usize = 1024;

/// How a store is opened. Every number is a bound.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of answers kept in memory.
    pub near_cache_bytes: u64,
    /// Bytes of the engine's block cache.
    pub block_cache_bytes: u64,
    /// Visits to the engine at the same time, all callers together.
    pub reads_in_flight_max: usize,
    /// Bytes of rows that the writer found lately and keeps, so that it need not ask the engine again.
    pub recent_bytes: u64,
    /// Bytes of the disk that must stay free; changes wait while less is. The engine needs some of it to go on.
    pub disk_reserve_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            near_cache_bytes: 128 << 20,
            block_cache_bytes: 128 << 20,
            reads_in_flight_max: 8,
            recent_bytes: 32 << 20,
            disk_reserve_bytes: DISK_RESERVE_BYTES,
        }
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
    recent: Mutex<Recent>,
    tables: [Option<&'static Table>; 256],
    reads: Arc<Semaphore>,
    reads_max: usize,
    reads_total: AtomicU64,
    applied_total: AtomicU64,
    observers: RwLock<Vec<Observer>>,
    companions: RwLock<Vec<Companion>>,
    /// When it was last heard what another process has changed; nothing where this one writes.
    heard: Mutex<Option<Instant>>,
}

/// Told of every applied batch, in order, on the writer's thread. Must be quick and must not call the store.
type Observer = Box<dyn Fn(&Batch) + Send + Sync>;

/// Looks at what a group of jobs changed, before it is applied, and says what else must be applied with it. Runs on the
/// writer's thread: must be quick, may read through the view, and cannot fail a group.
type Companion = Box<dyn Fn(&View<'_>) -> Vec<Change> + Send + Sync>;

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
    /// Bytes free on the disk when last looked; 0 for an engine without one.
    pub disk_free_bytes: u64,
    /// Journals of the engine. A number that only grows means slow starts and a full disk some day.
    pub journals: u64,
    /// Bytes of changes not yet in table files.
    pub memtable_bytes: u64,
    /// Table files in use.
    pub tables: u64,
    /// Those of them that are not yet merged; from 20 on writing is slowed.
    pub young_tables: u64,
    /// Rows that the writer found among its recent ones since start.
    pub recent_hits: u64,
    /// Rows that the writer had to ask of the engine since start.
    pub recent_misses: u64,
}

impl Store {
    /// A store in memory, for tests.
    pub fn mem(tables: &[&'static Table]) -> Self {
        Self::over(Box::new(Mem::new()), tables, &Config::default())
    }

    /// The embedded engine in a folder.
    pub fn lsm(dir: &std::path::Path, tables: &[&'static Table], config: &Config) -> Result<Self> {
        let engine = Lsm::open(&LsmConfig {
            dir: dir.to_owned(),
            block_cache_bytes: config.block_cache_bytes,
            disk_reserve_bytes: config.disk_reserve_bytes,
        })?;
        Ok(Self::over(Box::new(engine), tables, config))
    }

    /// A keyspace of a cluster. Visits are cheap where no thread waits for them, so more of them are let in at once; the
    /// engine bounds what they ask.
    pub fn cql(cluster: &CqlConfig, tables: &[&'static Table], config: &Config) -> Result<Self> {
        let reads_in_flight_max = config.reads_in_flight_max.max(REMOTE_READS_IN_FLIGHT);
        let config = Config { reads_in_flight_max, ..config.clone() };
        let store = Self::over(Box::new(Cql::open(cluster, tables)?), tables, &config);
        store.follow()?;
        Ok(store)
    }

    /// Begins to follow what another process changes, if that is not this one's to do.
    fn follow(&self) -> Result<()> {
        let Some(news) = self.inner.engine.follow() else { return Ok(()) };
        self.keep_answers(false);
        let weak = Arc::downgrade(&self.inner);
        let store = move || weak.upgrade().map(|inner| Self { inner });
        let begun = std::thread::Builder::new().name("feed".into()).spawn(move || feed::run(news, &store));
        begun.map(drop).map_err(|e| Error::Engine(format!("a thread for the feed cannot be started: {e}")))
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
                recent: Mutex::new(Recent::new(config.recent_bytes)),
                tables: by_id,
                reads: Arc::new(Semaphore::new(config.reads_in_flight_max)),
                reads_max: config.reads_in_flight_max,
                reads_total: AtomicU64::new(0),
                applied_total: AtomicU64::new(0),
                observers: RwLock::new(Vec::new()),
                companions: RwLock::new(Vec::new()),
                heard: Mutex::new(None),
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
            if place % LOOKUPS_PER_TURN == LOOKUPS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
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
            found.extend(self.load(slice).await?);
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

    /// Asks the engine for keys that memory could not answer.
    async fn load(&self, keys: Vec<Key>) -> Result<Vec<Option<Bytes>>> {
        let Some(remote) = self.inner.engine.remote() else {
            return self.visit(move |store| store.read_through(&keys)).await;
        };
        let _permit = self.inner.reads.acquire().await.map_err(|_| Error::Closed)?;
        let tickets = self.tickets(&keys);
        let mut values = remote.get(keys.clone()).await?;
        self.fill(&keys, tickets, &mut values);
        Ok(values)
    }

    fn read_through(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let tickets = self.tickets(keys);
        let mut values = self.inner.engine.get(keys)?;
        self.fill(keys, tickets, &mut values);
        Ok(values)
    }

    /// Taken before the engine is asked, so that an answer older than a change is not kept.
    fn tickets(&self, keys: &[Key]) -> Vec<Option<Ticket>> {
        self.inner.reads_total.fetch_add(keys.len() as u64, Relaxed);
        keys.iter()
            .map(|key| (!matches!(self.cache_of(key), Cache::Never)).then(|| self.inner.near.ticket(key)))
            .collect()
    }

    /// Brings answers of the engine into the form in which they leave, and keeps them.
    fn fill(&self, keys: &[Key], tickets: Vec<Option<Ticket>>, values: &mut [Option<Bytes>]) {
        for ((key, ticket), value) in keys.iter().zip(tickets).zip(values) {
            let Some(ticket) = ticket else { continue };
            if let Cache::NearAs(make) = self.cache_of(key) {
                *value = value.take().map(|v| make(key, &v));
            }
            self.inner.near.fill(key, ticket, value.as_ref());
        }
    }

    /// One partition in order.
    pub async fn scan(&self, scan: Scan) -> Result<Page> {
        Ok(self.scan_slice(vec![scan]).await?.pop().unwrap_or_default())
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
            pages.extend(self.scan_slice(slice).await?);
        }
    }

    async fn scan_slice(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        self.inner.reads_total.fetch_add(scans.len() as u64, Relaxed);
        let Some(remote) = self.inner.engine.remote() else {
            let read = move |store: &Store| scans.iter().map(|s| store.inner.engine.scan(s)).collect();
            return self.visit(read).await;
        };
        let _permit = self.inner.reads.acquire().await.map_err(|_| Error::Closed)?;
        remote.scan(scans).await
    }

    /// Runs a piece of engine work on a thread that may block, within the bound on visits.
    async fn visit<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.inner.reads).acquire_owned().await.map_err(|_| Error::Closed)?;
        let store = self.clone();
        let visit = tokio::task::spawn_blocking(move || {
            // The permit lives as long as the work, also when the caller has gone meanwhile.
            let _permit = permit;
            work(&store)
        });
        visit.await.unwrap_or_else(|e| Err(Error::Engine(format!("a read stopped: {e}"))))
    }

    /// Applies a batch at once. For the writer and for tests; everything else goes through the writer, which is alone.
    pub fn apply_now(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.changes().iter().try_for_each(Change::check)?;
        let inner = &self.inner;
        let cached = || batch.changes().iter().filter(|c| !matches!(self.cache_of(&c.key), Cache::Never));
        cached().for_each(|c| inner.near.begin(&c.key));
        let applied = inner.engine.apply(batch);
        match &applied {
            Ok(()) => inner.recent.lock().applied(batch),
            Err(Error::Full | Error::ReadOnly) => {}
            Err(_) => inner.recent.lock().forget(),
        }
        cached().for_each(|c| inner.near.end(&c.key));
        applied?;
        inner.applied_total.fetch_add(batch.len() as u64, Relaxed);
        for observer in inner.observers.read().iter() {
            observer(batch);
        }
        Ok(())
    }

    /// Takes note of what another process has applied.
    pub(crate) fn applied_elsewhere(&self, batch: &Batch) {
        let inner = &self.inner;
        for change in batch.changes().iter().filter(|c| !matches!(self.cache_of(&c.key), Cache::Never)) {
            inner.near.begin(&change.key);
            inner.near.end(&change.key);
        }
        for observer in inner.observers.read().iter() {
            observer(batch);
        }
    }

    /// Forgets every answer that is kept.
    pub(crate) fn forget_all(&self) {
        self.inner.near.forget_all();
    }

    /// Whether answers may be kept and given from memory.
    pub(crate) fn keep_answers(&self, keep: bool) {
        self.inner.near.set_blind(!keep);
    }

    /// Everything that another process had applied a moment ago is known.
    pub(crate) fn heard(&self) {
        *self.inner.heard.lock() = Some(Instant::now());
    }

    /// How old the news of what another process changes is; nothing where this one writes, or before the first news.
    pub fn silence(&self) -> Option<Duration> {
        self.inner.heard.lock().map(|at| at.elapsed())
    }

    /// Adds an observer of every applied batch. It runs on the writer's thread: it must be quick.
    pub fn observe(&self, observer: impl Fn(&Batch) + Send + Sync + 'static) {
        self.inner.observers.write().push(Box::new(observer));
    }

    /// Adds a companion of every group that the writer applies: what it answers is applied in the same batch, so that it
    /// stands exactly when the changes stand. It runs on the writer's thread: it must be quick.
    pub fn accompany(&self, companion: impl Fn(&View<'_>) -> Vec<Change> + Send + Sync + 'static) {
        self.inner.companions.write().push(Box::new(companion));
    }

    /// Lets every companion add to the changes of a group.
    pub(crate) fn complete(&self, view: &mut View<'_>) {
        for companion in self.inner.companions.read().iter() {
            for change in companion(view) {
                view.add(change);
            }
        }
    }

    /// The engine, for the writer, for tools that read everything, and for tests.
    pub fn local(&self) -> &dyn Local {
        &*self.inner.engine
    }

    pub(crate) fn recent(&self) -> &Mutex<Recent> {
        &self.inner.recent
    }

    /// Changes how many bytes of the disk must stay free for changes to be taken. What waits for room is judged anew.
    pub fn set_disk_reserve(&self, bytes: u64) {
        self.inner.engine.set_disk_reserve(bytes);
    }

    /// The declared tables.
    pub fn tables(&self) -> impl Iterator<Item = &'static Table> + '_ {
        self.inner.tables.iter().filter_map(|t| *t)
    }

    /// Visits to the engine in flight, for somebody who looks often: [`Store::figures`] asks the engine for more.
    pub fn reads_in_flight(&self) -> u64 {
        (self.inner.reads_max - self.inner.reads.available_permits()) as u64
    }

    /// What the store can say about itself.
    pub fn figures(&self) -> Figures {
        let inner = &self.inner;
        let vitals = inner.engine.vitals();
        let (recent_hits, recent_misses) = inner.recent.lock().counts();
        Figures {
            near_hits: inner.near.hits(),
            near_misses: inner.near.misses(),
            near_bytes: inner.near.weight(),
            reads_in_flight: self.reads_in_flight(),
            reads_in_flight_max: inner.reads_max as u64,
            reads_total: inner.reads_total.load(Relaxed),
            applied_total: inner.applied_total.load(Relaxed),
            disk_bytes: vitals.bytes_used,
            disk_free_bytes: vitals.disk_free_bytes,
            journals: vitals.journals,
            memtable_bytes: vitals.memtable_bytes,
            tables: vitals.tables,
            young_tables: vitals.young_tables,
            recent_hits,
            recent_misses,
        }
    }
}
