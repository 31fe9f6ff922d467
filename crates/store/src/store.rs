//! The store: an engine, a cache in front of it, and the bounds on both.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::{
    Batch, Cache, Change, Error, Key, Page, Result, Scan, Table, View,
    cache::{FarConfig, FarFigures, Near, Ticket, audit::Audit, far::Far},
    engine::{
        Local,
        cql::{Cql, CqlConfig},
        lsm::{DISK_RESERVE_BYTES, Lsm, LsmConfig},
        mem::Mem,
    },
    feed,
    recent::Recent,
    turns::{self, Turn, Turns},
};

/// Keys that one visit to the engine may read before others get their turn.
const KEYS_PER_SLICE: usize = 256;

/// Keys that are asked of the engine at a time, and bytes after which a visit ends: values may be a mebibyte each.
const KEYS_PER_LOOK: usize = 32;
const BYTES_PER_SLICE: usize = 2 << 20;

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
    /// Visits that may wait for that on behalf of callers; beyond it a read is refused.
    pub reads_waiting_max: usize,
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
            // Less than admission lets begin, so that calls which the memory answers find room beside those that wait.
            reads_waiting_max: 512,
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
    far: OnceLock<Arc<Far>>,
    audit: Arc<Audit>,
    recent: Mutex<Recent>,
    tables: [Option<&'static Table>; 256],
    reads: Arc<Turns>,
    reads_total: AtomicU64,
    applied_total: AtomicU64,
    observers: RwLock<Vec<Observer>>,
    companions: RwLock<Vec<Companion>>,
    /// When it was last heard what another process has changed; nothing where this one writes.
    heard: Mutex<Option<Instant>>,
    /// Batches of another process that are known of and not taken note of yet.
    behind: AtomicU64,
    /// Whether another process changes rows of this store.
    follows: AtomicBool,
}

/// What an observer of the store is told, in order.
#[derive(Debug, Clone, Copy)]
pub enum Observed<'a> {
    /// A batch stands.
    Applied(&'a Batch),
    /// Batches of another process have passed unseen: what was made of those before is no longer to be relied on. What is
    /// read from the store from now on, together with the batches that are told from now on, is whole again. Never told
    /// where this process writes.
    Lost,
    /// Nothing is heard of another process, or again something: until then what was made of its batches may be old, and
    /// nobody is to be answered from it. It need not be dropped: batches go on where they ended, or are [`Self::Lost`].
    Silent(bool),
}

/// Told on the writer's thread, or on the one that follows. Must be quick and must not call the store.
type Observer = Box<dyn Fn(Observed<'_>) + Send + Sync>;

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
    /// Reads of a cluster that were sent to a second node because they were slow, since start.
    pub hedges: u64,
    /// Reads of a cluster that were sent again because they failed, since start.
    pub retries: u64,
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
        self.inner.follows.store(true, Relaxed);
        self.silent(true);
        let store = self.downgrade();
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
                far: OnceLock::new(),
                audit: Arc::default(),
                recent: Mutex::new(Recent::new(config.recent_bytes)),
                tables: by_id,
                reads: Turns::new(config.reads_in_flight_max, config.reads_waiting_max),
                reads_total: AtomicU64::new(0),
                applied_total: AtomicU64::new(0),
                observers: RwLock::new(Vec::new()),
                companions: RwLock::new(Vec::new()),
                heard: Mutex::new(None),
                behind: AtomicU64::new(0),
                follows: AtomicBool::new(false),
            }),
        }
    }

    /// Puts memcached in front of this store. Before anything is read or written; at most once.
    ///
    /// It need not be reachable: until it is, reads go to the engine. Tables whose answers may be kept in memory are kept
    /// there too, as stored.
    pub fn with_memcached(self, config: FarConfig) -> Result<Self> {
        let far = Far::start(config, &*self.inner.engine)?;
        if self.inner.far.set(far).is_err() {
            return Err(Error::Engine("memcached is in front of this store already".into()));
        }
        Ok(self)
    }

    /// What can be said about memcached, if it is in front of this store.
    pub fn far_figures(&self) -> Option<FarFigures> {
        self.inner.far.get().map(|far| far.figures())
    }

    /// Nobody writes any more: other processes may read memcached without hearing from the writer.
    pub(crate) fn seal(&self) {
        if let Some(far) = self.inner.far.get() {
            far.seal();
        }
    }

    /// The store for as long as somebody else holds it.
    pub(crate) fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.inner);
        move || weak.upgrade().map(|inner| Self { inner })
    }

    pub(crate) fn audit(&self) -> &Arc<Audit> {
        &self.inner.audit
    }

    /// What memcached keeps of keys; nothing for each where there is none.
    pub(crate) async fn look_far(&self, keys: &[Key]) -> Vec<Option<Option<Bytes>>> {
        match self.inner.far.get() {
            Some(far) => far.look(keys).await,
            None => vec![None; keys.len()],
        }
    }

    /// Takes a key out of memcached.
    pub(crate) fn forget_far(&self, key: &Key) {
        if let Some(far) = self.inner.far.get() {
            far.remove(key);
        }
    }

    pub(crate) fn near(&self) -> &Near {
        &self.inner.near
    }

    pub(crate) fn cache_of(&self, key: &Key) -> Cache {
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
        let is_local = self.inner.far.get().is_none();
        let (mut hits, mut misses) = (0, 0);
        for (place, key) in keys.iter().enumerate() {
            if place % LOOKUPS_PER_TURN == LOOKUPS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            if !matches!(self.cache_of(key), Cache::Never) {
                if let Some(kept) = self.inner.near.get(key) {
                    answers[place] = kept;
                    hits += 1;
                    continue;
                }
                misses += 1;
            }
            if missing.is_empty() && is_local {
                // What must be refused is refused before it costs anything.
                self.inner.reads.may_come()?;
            }
            let slot = *seen.entry(key).or_insert_with(|| {
                missing.push(key.clone());
                missing.len() - 1
            });
            places.push((place, slot));
        }
        self.inner.near.asked(hits, misses);
        // What is kept may be forgotten meanwhile, and stays in memory for whoever was given it.
        turns::pay(answers.iter().flatten().map(Bytes::len).sum())?;
        if missing.is_empty() {
            return Ok(answers);
        }
        let mut found: Vec<Option<Bytes>> = Vec::with_capacity(missing.len());
        if let Some(far) = self.inner.far.get() {
            found = self.get_behind_near(far, missing).await?;
            missing = Vec::new();
        }
        let missing: Arc<[Key]> = missing.into();
        let first = found.len();
        while found.len() - first < missing.len() {
            let (from, keys) = (found.len() - first, Arc::clone(&missing));
            let to = keys.len().min(from + KEYS_PER_SLICE);
            let read = self.load(keys, from..to).await?;
            turns::pay(read.iter().flatten().map(Bytes::len).sum())?;
            found.extend(read);
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

    /// With memcached: the keys of tables that are kept go through it, the others to the engine.
    async fn get_behind_near(&self, far: &Arc<Far>, keys: Vec<Key>) -> Result<Vec<Option<Bytes>>> {
        let (mut kept, mut plain) = (Vec::new(), Vec::new());
        let is_kept: Vec<bool> = keys.iter().map(|key| !matches!(self.cache_of(key), Cache::Never)).collect();
        for (key, is_kept) in keys.into_iter().zip(&is_kept) {
            if *is_kept { &mut kept } else { &mut plain }.push(key);
        }
        let mut kept = self.get_shared(far, &kept).await?.into_iter();
        let mut read = Vec::with_capacity(plain.len());
        for slice in plain.chunks(KEYS_PER_SLICE) {
            read.extend(self.read_fresh(slice.to_vec()).await?);
        }
        let mut plain = read.into_iter();
        Ok(is_kept.iter().map(|is_kept| if *is_kept { kept.next() } else { plain.next() }.flatten()).collect())
    }

    /// Keys that one visit to the engine may read.
    pub(crate) const KEYS_PER_VISIT: usize = KEYS_PER_SLICE;

    /// Rows as they are stored, of at most [`Store::KEYS_PER_VISIT`] keys, past all caches. What was written before this
    /// is asked is seen: what is kept of the answer must not be older than the last change.
    pub(crate) async fn read_fresh(&self, keys: Vec<Key>) -> Result<Vec<Option<Bytes>>> {
        self.inner.reads_total.fetch_add(keys.len() as u64, Relaxed);
        let read = match self.inner.engine.remote() {
            Some(remote) => {
                let _turn = self.inner.reads.turn(keys.len()).await?;
                remote.get(keys).await?
            }
            None => self.visit(keys.len(), move |store, _| store.inner.engine.get(&keys)).await?,
        };
        turns::pay(read.iter().flatten().map(Bytes::len).sum())?;
        Ok(read)
    }

    /// [`Store::get`] for callers who must see every change that was answered, also by another process a moment ago: past
    /// all caches where those may be behind, which they never are in the process that writes. Nothing of it is kept.
    pub async fn get_fresh(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        if !self.inner.follows.load(Relaxed) && self.inner.far.get().is_none_or(|far| far.is_at_home()) {
            return self.get(keys).await;
        }
        let mut values = Vec::with_capacity(keys.len());
        for slice in keys.chunks(KEYS_PER_SLICE) {
            let rows = self.read_fresh(slice.to_vec()).await?;
            values.extend(slice.iter().zip(rows).map(|(key, row)| self.served(key, row)));
        }
        Ok(values)
    }

    /// One key past all caches.
    pub(crate) async fn get_alone(&self, key: &Key) -> Result<Option<Bytes>> {
        let row = self.read_fresh(vec![key.clone()]).await?.pop().flatten();
        Ok(self.served(key, row))
    }

    /// A row in the form in which it leaves.
    fn served(&self, key: &Key, row: Option<Bytes>) -> Option<Bytes> {
        match self.cache_of(key) {
            Cache::NearAs(make) => row.map(|row| make(key, &row)),
            Cache::Near | Cache::Never => row,
        }
    }

    /// Asks the engine for keys that memory could not answer. It may answer fewer, the first ones, where values are large.
    async fn load(&self, keys: Arc<[Key]>, range: std::ops::Range<usize>) -> Result<Vec<Option<Bytes>>> {
        let Some(remote) = self.inner.engine.remote() else {
            return self.visit(range.len(), move |store, turn| store.read_through(&keys[range], turn)).await;
        };
        let _turn = self.inner.reads.turn(range.len()).await?;
        let keys = &keys[range];
        let tickets = self.tickets(keys);
        let mut values = remote.get(keys.to_vec()).await?;
        self.fill(keys, tickets, &mut values);
        Ok(values)
    }

    /// The value at each key as far as one visit goes: as many keys as there are, or fewer where values are large or
    /// where somebody waits who should not wait for a long list.
    fn read_through(&self, keys: &[Key], turn: &mut Turn) -> Result<Vec<Option<Bytes>>> {
        let mut answers = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for look in keys.chunks(KEYS_PER_LOOK) {
            let tickets = self.tickets(look);
            let mut values = self.inner.engine.get(look)?;
            self.fill(look, tickets, &mut values);
            bytes += values.iter().flatten().map(Bytes::len).sum::<usize>();
            answers.extend(values);
            if bytes > BYTES_PER_SLICE || (answers.len() < keys.len() && turn.ends_early(answers.len())) {
                break;
            }
        }
        Ok(answers)
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
            self.inner.audit.filled(key);
        }
    }

    /// One partition in order.
    pub async fn scan(&self, scan: Scan) -> Result<Page> {
        Ok(self.scan_slice(vec![scan]).await?.pop().unwrap_or_default())
    }

    /// [`Store::scan`] for what is kept of it: what was written before this is asked is seen, whatever callers' scans are
    /// allowed to miss.
    pub async fn scan_fresh(&self, scan: Scan) -> Result<Page> {
        self.inner.reads_total.fetch_add(1, Relaxed);
        let page = self.visit(1, move |store, _| store.inner.engine.scan(&scan)).await?;
        Ok(pay_for(vec![page])?.pop().unwrap_or_default())
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
            let keys = scans.len();
            let read = move |store: &Store, _: &mut Turn| scans.iter().map(|s| store.inner.engine.scan(s)).collect();
            return pay_for(self.visit::<Vec<Page>>(keys, read).await?);
        };
        let _turn = self.inner.reads.turn(scans.len()).await?;
        pay_for(remote.scan(scans).await?)
    }

    /// Runs a piece of engine work that reads so many keys on a thread that may block, in its turn.
    async fn visit<T: Send + 'static>(
        &self,
        keys: usize,
        work: impl FnOnce(&Store, &mut Turn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut turn = self.inner.reads.turn(keys).await?;
        let store = self.clone();
        // The turn goes along with what was read. It lasts as long as the work, also when the caller has gone meanwhile,
        // and until the caller takes what was read: finished reads that nobody has looked at yet do not pile up.
        let visit = tokio::task::spawn_blocking(move || (work(&store, &mut turn), turn));
        match visit.await {
            Ok((read, _turn)) => read,
            Err(e) => Err(Error::Engine(format!("a read stopped: {e}"))),
        }
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
        let (applied, marked) = match inner.far.get().map(|far| far.mark(cached().map(|c| &c.key), &*inner.engine)) {
            // What is known of the nodes could not be kept, so nothing may change.
            Some(Err(e)) => (Err(e), None),
            // All or none: whoever finishes or finds the batch also finds which keys may be old in memcached.
            Some(Ok((marked, remembered))) if !remembered.is_empty() => {
                let all = [batch.changes(), &remembered].concat();
                (inner.engine.apply(&Batch::from(all)), Some(marked))
            }
            marked => (inner.engine.apply(batch), marked.and_then(Result::ok).map(|(marked, _)| marked)),
        };
        match &applied {
            Ok(()) => inner.recent.lock().applied(batch),
            Err(Error::Full | Error::ReadOnly) => {}
            Err(_) => inner.recent.lock().forget(),
        }
        if let (Some(far), Some(marked)) = (inner.far.get(), marked) {
            far.unmark(marked);
        }
        cached().for_each(|c| inner.near.end(&c.key));
        inner.audit.changed(&mut cached().map(|c| &c.key), inner.far.get().is_some());
        applied?;
        inner.applied_total.fetch_add(batch.len() as u64, Relaxed);
        self.tell(Observed::Applied(batch));
        Ok(())
    }

    /// Takes note of what another process has applied.
    pub(crate) fn applied_elsewhere(&self, batch: &Batch) {
        let inner = &self.inner;
        for change in batch.changes().iter().filter(|c| !matches!(self.cache_of(&c.key), Cache::Never)) {
            inner.near.begin(&change.key);
            inner.near.end(&change.key);
            inner.audit.changed(&mut std::iter::once(&change.key), inner.far.get().is_some());
        }
        self.tell(Observed::Applied(batch));
    }

    fn tell(&self, what: Observed<'_>) {
        for observer in self.inner.observers.read().iter() {
            observer(what);
        }
    }

    /// Track of another process's changes was lost: forgets every answer that is kept, and lets observers do the same.
    pub(crate) fn lost(&self) {
        self.inner.near.forget_all();
        self.tell(Observed::Lost);
    }

    /// Nothing is heard of another process, or again something: whether answers may be kept and given from memory.
    pub(crate) fn silent(&self, silent: bool) {
        // Locked, so that who begins to observe meanwhile is told once, here or there.
        let observers = self.inner.observers.write();
        self.inner.near.set_blind(silent);
        if silent {
            self.inner.near.forget_all();
        }
        observers.iter().for_each(|observer| observer(Observed::Silent(silent)));
    }

    /// Everything that another process had applied a moment ago is known.
    pub(crate) fn heard(&self) {
        *self.inner.heard.lock() = Some(Instant::now());
    }

    /// So many batches of another process are known of and not taken note of yet.
    pub(crate) fn behind(&self, batches: u64) {
        self.inner.behind.store(batches, Relaxed);
    }

    /// Batches of another process that are known of and not taken note of yet; 0 where this one writes.
    pub fn batches_behind(&self) -> u64 {
        self.inner.behind.load(Relaxed)
    }

    /// How old the news of what another process changes is; nothing where this one writes, or before the first news.
    pub fn silence(&self) -> Option<Duration> {
        self.inner.heard.lock().map(|at| at.elapsed())
    }

    /// Whether what is changed is known within a moment: always where this process writes.
    pub fn hears(&self) -> bool {
        !self.inner.follows.load(Relaxed) || self.silence().is_some_and(|silence| silence < feed::SILENCE_MAX)
    }

    /// Whether another process changes this store, and this one only reads it.
    pub fn follows(&self) -> bool {
        self.inner.follows.load(Relaxed)
    }

    /// Adds an observer of every batch, of this process or of the one that writes. It must be quick.
    pub fn observe(&self, observer: impl Fn(Observed<'_>) + Send + Sync + 'static) {
        let mut observers = self.inner.observers.write();
        if self.inner.near.is_blind() {
            observer(Observed::Silent(true));
        }
        observers.push(Box::new(observer));
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
        self.inner.reads.running() as u64
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
            reads_in_flight_max: inner.reads.at_once_max() as u64,
            reads_total: inner.reads_total.load(Relaxed),
            applied_total: inner.applied_total.load(Relaxed),
            disk_bytes: vitals.bytes_used,
            disk_free_bytes: vitals.disk_free_bytes,
            journals: vitals.journals,
            memtable_bytes: vitals.memtable_bytes,
            tables: vitals.tables,
            young_tables: vitals.young_tables,
            hedges: vitals.hedges,
            retries: vitals.retries,
            recent_hits,
            recent_misses,
        }
    }
}

/// Pays for rows that were read.
fn pay_for(pages: Vec<Page>) -> Result<Vec<Page>> {
    turns::pay(pages.iter().map(Page::bytes).sum())?;
    Ok(pages)
}
