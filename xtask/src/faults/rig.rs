//! A store whose engine is scripted, memcached in front of it, and load on both.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use gp_store::{
    Batch, Cache, Config, FarConfig, FarFigures, Key, Page, Scan, Store, Table,
    engine::{Local, mem::Mem},
};

/// The one table: kept, so that its rows go through memcached.
pub(crate) static ROWS: Table =
    Table { id: 9, name: "rows", partition: &[], clustering: &[], value: &[], cache: Cache::Near, bucket_rows: None };

/// Visits to the engine at the same time: the ceiling that must hold whatever the cache does.
pub(crate) const CEILING: usize = 8;

/// Callers at the same time.
const CALLERS: usize = 32;

/// Keys of one read.
const KEYS_PER_READ: usize = 12;

/// How long a question to memcached may take where the time is not what is looked at: a machine with other work holds
/// threads up for longer than the deadline of production.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// An engine in memory that takes its time and counts.
#[derive(Clone)]
pub(crate) struct Double(Arc<Inner>, FarConfig);

struct Inner {
    mem: Mem,
    delay_us: AtomicU64,
    keys_read: AtomicU64,
    in_flight: AtomicUsize,
    in_flight_most: AtomicUsize,
}

impl Double {
    pub(crate) fn new(delay: Duration) -> Self {
        let inner = Inner {
            mem: Mem::new(),
            delay_us: AtomicU64::new(delay.as_micros() as u64),
            keys_read: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            in_flight_most: AtomicUsize::new(0),
        };
        Self(Arc::new(inner), FarConfig::default())
    }

    /// The same, for failures whose bars know nothing of time: its stores wait for memcached for [`PATIENCE`].
    pub(crate) fn patient(delay: Duration) -> Self {
        let Self(inner, far) = Self::new(delay);
        Self(inner, FarConfig { op_deadline: PATIENCE, ..far })
    }

    /// Keys that readers asked for; the writer's own questions are not counted.
    pub(crate) fn keys_read(&self) -> u64 {
        self.0.keys_read.load(Relaxed)
    }

    pub(crate) fn in_flight_most(&self) -> usize {
        self.0.in_flight_most.load(Relaxed)
    }

    /// A store over it, with memcached at these addresses, and almost nothing kept in the process.
    pub(crate) fn store(&self, nodes: &[SocketAddr], writes: bool, near_bytes: u64) -> Result<Store> {
        let config = Config { near_cache_bytes: near_bytes, reads_in_flight_max: CEILING, ..Config::default() };
        let store = Store::over(Box::new(self.clone()), &[&ROWS, gp_store::TABLES[0]], &config);
        if nodes.is_empty() {
            return Ok(store);
        }
        let nodes = nodes.iter().map(ToString::to_string).collect();
        Ok(store.with_memcached(FarConfig { nodes, writes, ..self.1.clone() })?)
    }
}

impl Local for Double {
    fn get(&self, keys: &[Key]) -> gp_store::Result<Vec<Option<Bytes>>> {
        let now = self.0.in_flight.fetch_add(1, Relaxed) + 1;
        self.0.in_flight_most.fetch_max(now, Relaxed);
        self.0.keys_read.fetch_add(keys.len() as u64, Relaxed);
        std::thread::sleep(Duration::from_micros(self.0.delay_us.load(Relaxed)));
        let found = self.0.mem.get(keys);
        self.0.in_flight.fetch_sub(1, Relaxed);
        found
    }

    fn get_one(&self, key: &Key) -> gp_store::Result<Option<Bytes>> {
        self.0.mem.get_one(key)
    }

    fn scan(&self, scan: &Scan) -> gp_store::Result<Page> {
        self.0.mem.scan(scan)
    }

    fn apply(&self, batch: &Batch) -> gp_store::Result<()> {
        self.0.mem.apply(batch)
    }

    fn sync(&self) -> gp_store::Result<()> {
        Ok(())
    }

    fn bytes_used(&self) -> u64 {
        0
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> gp_store::Result<()> {
        self.0.mem.each(table_id, visit)
    }
}

/// Nothing is kept in the process.
pub(crate) const NO_NEAR: u64 = 1;

pub(crate) fn key(n: usize) -> Key {
    Key::of(&ROWS).atom(&(n as u64).to_be_bytes()).key()
}

/// What stands at a key: its number, its version, and enough bytes to look like a row.
pub(crate) fn value(n: usize, version: u64) -> Vec<u8> {
    let mut value = vec![b'v'; 600];
    value[..8].copy_from_slice(&(n as u64).to_be_bytes());
    value[8..16].copy_from_slice(&version.to_be_bytes());
    value
}

/// The version of a value, if it is one of that key.
pub(crate) fn version_of(n: usize, found: Option<&Bytes>) -> Option<u64> {
    let found = found.filter(|v| v.len() == 600 && v[..8] == (n as u64).to_be_bytes())?;
    Some(u64::from_be_bytes(found[8..16].try_into().ok()?))
}

/// Puts rows of version 1, past the caches: nothing of them is kept anywhere yet.
pub(crate) fn seed(double: &Double, keys: usize) -> Result<()> {
    let mut batch = Batch::new();
    (0..keys).for_each(|n| batch.put(key(n), value(n, 1)));
    Ok(double.apply(&batch)?)
}

pub(crate) fn put(store: &Store, n: usize, version: u64) -> Result<()> {
    let mut batch = Batch::new();
    batch.put(key(n), value(n, version));
    Ok(store.apply_now(&batch)?)
}

pub(crate) fn far(store: &Store) -> FarFigures {
    store.far_figures().unwrap_or_default()
}

/// What did not go as it does on a good day, for whoever looks why a bar does not hold.
pub(crate) fn troubles(store: &Store) -> String {
    let it = far(store);
    let client = it.nodes.iter().map(|node| &node.client);
    let (late, opened, given_up) =
        client.fold((0, 0, 0), |sum, node| (sum.0 + node.late, sum.1 + node.breaker_opened, sum.2 + node.discarded));
    format!(
        "[late {late}, node unusable for {}, breaker opened {opened}, connections given up {given_up}; fills lost {}, dropped {}, failed {}; waited in vain {}]",
        it.unusable, it.fills_lost_lease, it.fills_dropped, it.fills_failed, it.lease_waits_ended
    )
}

/// Waits until every node of a store is read.
pub(crate) async fn ready(store: &Store) -> Result<()> {
    until("memcached is read", || {
        far(store).nodes.iter().all(|node| node.is_read && node.client.connections_up == node.client.connections)
    })
    .await
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut there: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !there() {
        ensure!(begun.elapsed() < Duration::from_secs(30), "waited 30 s until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// How long it took until something was so, in milliseconds.
pub(crate) async fn ms_until(what: &str, there: impl FnMut() -> bool) -> Result<u128> {
    let begun = Instant::now();
    until(what, there).await?;
    Ok(begun.elapsed().as_millis())
}

/// Fills memcached with all keys, and sees that they are there. For a store that keeps nothing in the process.
pub(crate) async fn warm(store: &Store, keys: usize) -> Result<()> {
    let all: Vec<Key> = (0..keys).map(key).collect();
    // On a busy machine some of many questions are not answered in time, and what they asked for is not filled.
    for _ in 0..20 {
        let before = far(store).hits;
        store.get(&all).await?;
        until("fills have ended", || far(store).fills_in_flight == 0).await?;
        if far(store).hits - before == keys as u64 {
            return Ok(());
        }
    }
    bail!("memcached does not hold {keys} keys after twenty attempts {}", troubles(store))
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// What a load brought.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) errors: u64,
    pub(crate) wrong: u64,
    pub(crate) reads: u64,
    pub(crate) seconds: f64,
    latencies_us: Vec<u64>,
}

impl Load {
    /// Keys a second.
    pub(crate) fn goodput(&self) -> f64 {
        (self.reads * KEYS_PER_READ as u64) as f64 / self.seconds
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.quantile_ms(0.99)
    }

    pub(crate) fn worst_ms(&self) -> f64 {
        self.quantile_ms(1.0)
    }

    fn quantile_ms(&self, q: f64) -> f64 {
        let place = ((self.latencies_us.len() as f64 - 1.0) * q).max(0.0) as usize;
        self.latencies_us.get(place).map_or(0.0, |us| *us as f64 / 1e3)
    }
}

/// A load that goes on until it is told to end.
pub(crate) struct Loading {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Load>>,
    begun: Instant,
}

/// Whoever answers reads: the store, or the twin.
pub(crate) trait Reads: Clone + Send + Sync + 'static {
    /// What stands at keys, by their numbers, in their order.
    fn read(&self, numbers: &[usize]) -> impl Future<Output = Result<Vec<Option<Bytes>>>> + Send;
}

impl Reads for Store {
    async fn read(&self, numbers: &[usize]) -> Result<Vec<Option<Bytes>>> {
        let wanted: Vec<Key> = numbers.iter().map(|n| key(*n)).collect();
        Ok(self.get(&wanted).await?)
    }
}

/// Many callers read a few keys each, skewed as traffic is, one after the other, and look at what they get.
pub(crate) fn load(reads: &impl Reads, keys: usize) -> Loading {
    let stop = Arc::new(AtomicBool::new(false));
    let task = |caller: usize| {
        let (reads, stop) = (reads.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut dice = Dice(caller as u64);
            let mut load = Load::default();
            while !stop.load(Relaxed) {
                let asked: Vec<usize> = (0..KEYS_PER_READ).map(|_| dice.skewed(keys)).collect();
                let begun = Instant::now();
                match reads.read(&asked).await {
                    Ok(found) => {
                        load.latencies_us.push(begun.elapsed().as_micros() as u64);
                        load.reads += 1;
                        let right = asked.iter().zip(&found).all(|(n, v)| version_of(*n, v.as_ref()).is_some());
                        load.wrong += u64::from(!right);
                    }
                    Err(_) => load.errors += 1,
                }
                tokio::task::yield_now().await;
            }
            load
        })
    };
    Loading { tasks: (0..CALLERS).map(task).collect(), stop, begun: Instant::now() }
}

impl Loading {
    pub(crate) async fn end(self) -> Result<Load> {
        self.stop.store(true, Relaxed);
        let mut all = Load { seconds: self.begun.elapsed().as_secs_f64(), ..Load::default() };
        for task in self.tasks {
            let one = task.await?;
            all.errors += one.errors;
            all.wrong += one.wrong;
            all.reads += one.reads;
            all.latencies_us.extend(one.latencies_us);
        }
        all.latencies_us.sort_unstable();
        Ok(all)
    }
}

/// A load of so many seconds.
pub(crate) async fn load_for(reads: &impl Reads, keys: usize, seconds: f64) -> Result<Load> {
    let loading = load(reads, keys);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    loading.end().await
}

/// Numbers that come again with their seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Few keys often, many seldom: the cube of an even number.
    fn skewed(&mut self, n: usize) -> usize {
        let even = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((even * even * even) * n as f64) as usize
    }
}
