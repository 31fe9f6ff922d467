//! A real cluster of three nodes that is slow, frozen, cut off or half dead: F24, F28, F31 to F36.
//!
//! Each node has a proxy in front of it, at its own address and a port that all of them share, so that the driver meets
//! proxies wherever it goes. What nodes say to one another does not pass them; for that a node is stopped as a process.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream};
use gp_sim::{Faults, Harm, Proxy};
use gp_store::{Batch, Config, FarConfig, Key, Store, engine::cql::CqlConfig};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    Outcome, Scale,
    rig::{Dice, NO_NEAR, ROWS, far, key, put, ready, runtime, until, value, version_of},
};
use crate::{cassandra::Cluster, memcached::Memcached, shell};

/// Nodes of the cluster.
const NODES: u8 = 3;

/// The longest time for one read.
const DEADLINE: Duration = Duration::from_secs(1);

/// The cluster of all rows of one run, made when the first of them needs it.
static CLUSTER: Mutex<Option<Cluster>> = Mutex::const_new(None);

/// Lets the cluster go, if one was made.
pub(super) fn end() {
    drop(CLUSTER.blocking_lock().take());
}

/// Nodes behind proxies.
struct Behind {
    held: MutexGuard<'static, Option<Cluster>>,
    proxies: Vec<Proxy>,
    keyspace: String,
}

impl Behind {
    /// Puts proxies in front of the nodes. Rows of the keyspace are kept by so many of them.
    async fn new(replicas: u8) -> Result<Self> {
        let mut held = CLUSTER.lock().await;
        if held.is_none() {
            *held = Some(Cluster::have(NODES)?);
        }
        let cluster = held.as_ref().context("there is a cluster")?;
        ensure!(cluster.nodes().len() == usize::from(NODES), "a cluster of other than {NODES} nodes runs: stop it");
        let nodes = cluster.nodes();
        let port = shell::free_port(&nodes.iter().map(SocketAddr::ip).collect::<Vec<_>>())?;
        let mut proxies = Vec::new();
        for (seed, node) in (31..).zip(&nodes) {
            proxies.push(Proxy::start_at(SocketAddr::new(node.ip(), port), *node, seed).await?);
        }
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        let keyspace = format!("faults_{now}?create={replicas}&read_deadline_ms={}", DEADLINE.as_millis());
        Ok(Self { held, proxies, keyspace })
    }

    fn cluster(&self) -> Result<&Cluster> {
        self.held.as_ref().context("there is a cluster")
    }

    /// A store over it that keeps almost nothing in the process. `options` are added to the address.
    async fn store(&self, writes: bool, options: &str) -> Result<Store> {
        self.store_with(writes, options, Config { near_cache_bytes: NO_NEAR, ..Config::default() }).await
    }

    async fn store_with(&self, writes: bool, options: &str, config: Config) -> Result<Store> {
        let hosts: Vec<String> = self.proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        let address = format!("cql://{}/{}{options}", hosts.join(","), self.keyspace);
        let cluster = CqlConfig {
            address: address.parse().map_err(anyhow::Error::msg)?,
            login: None,
            tls: None,
            wait: Duration::from_secs(30),
            writes,
        };
        let opened = tokio::task::spawn_blocking(move || {
            Store::cql(&cluster, &[&ROWS, gp_store::TABLES[0], gp_store::TABLES[1]], &config)
        });
        Ok(opened.await??)
    }

    /// A store that writes, with rows of version 1 in it.
    async fn seeded(&self, keys: usize) -> Result<Store> {
        let writer = self.store(true, "").await?;
        let store = writer.clone();
        tokio::task::spawn_blocking(move || {
            let mut batch = Batch::new();
            (0..keys).for_each(|n| batch.put(key(n), value(n, 1)));
            store.apply_now(&batch)
        })
        .await??;
        Ok(writer)
    }

    /// Stops a node as a process, until what comes back is dropped.
    fn stop(&self, node: usize) -> Result<Stopped<'_>> {
        let cluster = self.cluster()?;
        cluster.signal(node, "-STOP")?;
        Ok(Stopped { cluster, node })
    }

    fn accepted(&self) -> u64 {
        self.proxies.iter().map(|proxy| proxy.figures().accepted).sum()
    }
}

/// A node that is stopped. It goes on however the row ends, for the rows that follow.
struct Stopped<'a> {
    cluster: &'a Cluster,
    node: usize,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.cluster.signal(self.node, "-CONT") {
            eprintln!("node {} was not woken up: {e:#}", self.node + 1);
        }
    }
}

async fn write(store: &Store, n: usize, version: u64) -> Result<()> {
    let store = store.clone();
    // The writer's thread may wait.
    tokio::task::spawn_blocking(move || put(&store, n, version)).await?
}

/// Reads one key at a time from so many places for so long; how long each read took, in order of length, and how many
/// failed.
async fn read_for(store: &Store, keys: usize, span: Duration) -> Result<(Vec<Duration>, u64)> {
    let end = Instant::now() + span;
    let tasks = (0..16_u64).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut dice, mut took, mut failed) = (Dice(task), Vec::new(), 0);
            while Instant::now() < end {
                let begun = Instant::now();
                match store.get_one(&key(dice.below(keys))).await {
                    Ok(_) => took.push(begun.elapsed()),
                    Err(_) => failed += 1,
                }
                // What is in memory is answered at once, and others want the thread too.
                tokio::task::yield_now().await;
            }
            (took, failed)
        })
    });
    let (mut all, mut failed) = (Vec::new(), 0);
    for task in tasks.collect::<Vec<_>>() {
        let (took, errors) = task.await?;
        all.extend(took);
        failed += errors;
    }
    all.sort_unstable();
    Ok((all, failed))
}

fn quantile_ms(sorted: &[Duration], q: f64) -> f64 {
    let place = ((sorted.len() as f64 - 1.0) * q).max(0.0) as usize;
    sorted.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}

/// F24: a replica that hears of changes late, and readers that ask any one replica, with memcached in front.
pub(super) fn late_replica(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let keys = 200;
    runtime()?.block_on(async {
        let nodes = Behind::new(NODES).await?;
        let writer = nodes.seeded(keys).await?.with_memcached(far_config(&server, true))?;
        let reader = nodes.store(false, "&reads=local_one").await?.with_memcached(far_config(&server, false))?;
        ready(&writer).await?;
        ready(&reader).await?;
        let all: Vec<Key> = (0..keys).map(key).collect();
        let mut versions = vec![1_u64; keys];
        let mut changed_at = vec![Instant::now(); keys];
        let (mut dice, mut ages, mut looked, mut failed) = (Dice(24), Vec::new(), 0_u64, 0_u64);
        for round in 0..if scale.short { 1 } else { 4 } {
            let (begun, mut stopped) = (Instant::now(), Some(nodes.stop(2)?));
            while begun.elapsed() < Duration::from_secs(6) {
                if begun.elapsed() > Duration::from_secs(2) {
                    drop(stopped.take());
                }
                let n = dice.below(keys);
                versions[n] += 1;
                write(&writer, n, versions[n]).await.with_context(|| format!("round {round}"))?;
                changed_at[n] = Instant::now();
                let Ok(found) = reader.get(&all).await else {
                    failed += 1;
                    continue;
                };
                looked += keys as u64;
                for (n, found) in found.iter().enumerate() {
                    if version_of(n, found.as_ref()) != Some(versions[n]) {
                        ages.push(changed_at[n].elapsed());
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let found = reader.get(&all).await?;
        let for_good = found.iter().enumerate().filter(|(n, v)| version_of(*n, v.as_ref()) != Some(versions[*n])).count();
        ages.sort_unstable();
        let worst = ages.last().copied().unwrap_or_default();
        let bar = looked > 0 && for_good == 0 && worst <= Duration::from_secs(2);
        Ok(Outcome::new(
            bar,
            format!(
                "{} of {looked} reads old, oldest {:.2} s, {for_good} for good; {failed} batches of reads failed while a node was stopped",
                ages.len(),
                worst.as_secs_f64()
            ),
        ))
    })
}

fn far_config(server: &Memcached, writes: bool) -> FarConfig {
    FarConfig { nodes: vec![server.address.to_string()], writes, ..FarConfig::default() }
}

/// F28: another process asks past the caches, right after a change was answered.
pub(super) fn read_your_writes(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let (keys, rounds) = (50, scale.count(1_000, 30));
    runtime()?.block_on(async {
        let nodes = Behind::new(NODES).await?;
        let writer = nodes.seeded(keys).await?.with_memcached(far_config(&server, true))?;
        let far_reader = nodes.store(false, "&reads=local_one").await?.with_memcached(far_config(&server, false))?;
        let plain_reader = nodes.store(false, "&reads=local_one").await?;
        ready(&writer).await?;
        let (mut dice, mut old, mut asked) = (Dice(28), 0, 0);
        for version in 2..2 + rounds as u64 {
            let n = dice.below(keys);
            // What a reader keeps of it is of before.
            far_reader.get_one(&key(n)).await?;
            plain_reader.get_one(&key(n)).await?;
            write(&writer, n, version).await?;
            for reader in [&far_reader, &plain_reader] {
                let found = reader.get_fresh(&[key(n)]).await?;
                asked += 1;
                old += u64::from(version_of(n, found[0].as_ref()) != Some(version));
            }
        }
        Ok(Outcome::new(
            old == 0,
            format!(
                "{old} of {asked} old, with memcached and without, reads=local_one; what it costs: crates/serve price"
            ),
        ))
    })
}

/// F31: one node of three answers 200 ms later.
pub(super) fn slow_node(scale: Scale) -> Result<Outcome> {
    let keys = 1_000;
    runtime()?.block_on(async {
        let nodes = Behind::new(NODES).await?;
        let store = nodes.seeded(keys).await?;
        let span = Duration::from_secs_f64(scale.seconds() * 4.0);
        read_for(&store, keys, Duration::from_secs(3)).await?;
        let (quiet, _) = read_for(&store, keys, span).await?;
        nodes.proxies[1].set(Faults::slow(Duration::from_millis(200)));
        let hedges = store.figures().hedges;
        // Until it is known as slow, it is asked as often as the others.
        let (learning, learning_failed) = read_for(&store, keys, Duration::from_secs(2)).await?;
        let (slow, failed) = read_for(&store, keys, span).await?;
        let hedges = store.figures().hedges - hedges;
        let reads = (learning.len() + slow.len()) as u64 + failed + learning_failed;
        let (before, after) = (quantile_ms(&quiet, 0.99), quantile_ms(&slow, 0.99));
        let share = hedges as f64 / reads.max(1) as f64;
        Ok(Outcome::new(
            after <= before * 2.0 && share <= 0.05 && failed == 0,
            format!(
                "p99 {before:.1} ms, then {after:.1} ms ({:.1} in the first 2 s); {hedges} of {reads} reads sent twice ({:.1} %), {failed} failed",
                quantile_ms(&learning, 0.99),
                share * 100.0
            ),
        ))
    })
}

/// F32: no node answers for a while; what is in memory is read all the same.
pub(super) fn frozen(scale: Scale) -> Result<Outcome> {
    let keys = 1_000;
    runtime()?.block_on(async {
        let nodes = Behind::new(NODES).await?;
        let writer = nodes.seeded(keys).await?;
        drop(writer);
        let store = nodes.store_with(true, "", Config::default()).await?;
        let kept: Vec<Key> = (0..100).map(key).collect();
        store.get(&kept).await?;
        let hits = async |span: Duration| -> Result<Vec<Duration>> { Ok(read_for(&store, 100, span).await?.0) };
        let span = Duration::from_secs_f64(scale.seconds());
        let quiet = hits(span).await?;
        nodes.proxies.iter().for_each(|proxy| proxy.set(Faults::half_open()));
        let frozen = Instant::now();
        let misses: Vec<_> = (0..200)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let answer = store.get_one(&key(100 + task * 4)).await;
                    (begun.elapsed(), answer.is_err())
                })
            })
            .collect();
        let mut in_flight = 0;
        let during = tokio::spawn({
            let store = store.clone();
            async move { read_for(&store, 100, span).await }
        });
        while !during.is_finished() {
            in_flight = in_flight.max(store.reads_in_flight());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (during, _) = during.await??;
        let (mut longest, mut failed) = (Duration::ZERO, 0);
        for miss in misses {
            let (took, is_err) = miss.await?;
            longest = longest.max(took);
            failed += u32::from(is_err);
        }
        let away = if scale.short { Duration::from_secs(3) } else { Duration::from_secs(30) };
        tokio::time::sleep(away.saturating_sub(frozen.elapsed())).await;
        nodes.proxies.iter().for_each(Proxy::heal);
        let healed = Instant::now();
        let mut recovered = None;
        while recovered.is_none() && healed.elapsed() < Duration::from_secs(30) {
            recovered = store.get_one(&key(999)).await.is_ok().then(|| healed.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (before, after) = (quantile_ms(&quiet, 0.99), quantile_ms(&during, 0.99));
        let limit = store.figures().reads_in_flight_max;
        let recovery = recovered.context("it did not come back within 30 s")?;
        // Visits take turns, so the last of the waiting ones is answered after some deadlines.
        let waves = 200_u64.div_ceil(limit) as u32;
        let bar = failed == 200
            && longest <= DEADLINE.mul_f64(1.1) * waves
            && in_flight <= limit
            && recovery <= Duration::from_secs(5)
            && after <= (before * 1.1).max(before + 1.0);
        Ok(Outcome::new(
            bar,
            format!(
                "hits p99 {before:.2} ms, then {after:.2} ms; 200 misses, {failed} failed, the last after {:.1} s ({waves} turns); in flight at most {in_flight} of {limit}; back after {:.1} s",
                longest.as_secs_f64(),
                recovery.as_secs_f64()
            ),
        ))
    })
}

/// F32 with the twin: a task for each read, whatever is in flight already, and no deadline.
pub(super) fn frozen_without_bounds(_: Scale) -> Result<Outcome> {
    let (keys, reads) = (1_000, 200);
    runtime()?.block_on(async {
        let nodes = Behind::new(NODES).await?;
        drop(nodes.seeded(keys).await?);
        let config = Config { near_cache_bytes: NO_NEAR, reads_in_flight_max: 100_000, ..Config::default() };
        let store = nodes.store_with(false, "&read_deadline_ms=60000", config).await?;
        let ceiling = nodes.store(false, "").await?.figures().reads_in_flight_max;
        nodes.proxies.iter().for_each(|proxy| proxy.set(Faults::half_open()));
        let tasks: Vec<_> = (0..reads)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { store.get_one(&key(n)).await.is_ok() })
            })
            .collect();
        let patience = DEADLINE.mul_f64(1.1) * (reads as u64).div_ceil(ceiling) as u32;
        tokio::time::sleep(patience).await;
        let in_flight = store.reads_in_flight();
        let waiting = tasks.iter().filter(|task| !task.is_finished()).count();
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        nodes.proxies.iter().for_each(Proxy::heal);
        Ok(Outcome::new(
            waiting == 0 && in_flight <= ceiling,
            format!(
                "{waiting} of {reads} misses without an answer after {:.1} s; {in_flight} in flight of {ceiling}",
                patience.as_secs_f64()
            ),
        ))
    })
}

/// F33: one of three nodes breaks its connections again and again.
pub(super) fn errors(scale: Scale) -> Result<Outcome> {
    let keys = 1_000;
    runtime()?.block_on(async {
        let nodes = Behind::new(NODES).await?;
        let store = nodes.seeded(keys).await?;
        let before = store.figures();
        nodes.proxies[1].set(Faults::harm_down(Harm::Reset { after_bytes: 6_000 }));
        let (reads, failed) = read_for(&store, keys, Duration::from_secs_f64(scale.seconds() * 4.0)).await?;
        let (accepted, after) = (nodes.proxies[1].figures().accepted, store.figures());
        let reads = reads.len() as u64 + failed;
        let again = after.hedges - before.hedges + after.retries - before.retries;
        let ratio = (reads + again) as f64 / reads.max(1) as f64;
        Ok(Outcome::new(
            ratio <= 1.10 && after.retries > before.retries,
            format!(
                "{reads} reads, {} sent again because they failed and {} because they were slow: {ratio:.3} attempts a read; {failed} failed; {accepted} connections broken",
                after.retries - before.retries,
                after.hedges - before.hedges
            ),
        ))
    })
}

/// F34: callers that go away in the middle of their reads.
pub(super) fn abandoned(scale: Scale) -> Result<Outcome> {
    let (keys, reads) = (1_000, scale.count(100_000, 2_000));
    runtime()?.block_on(async {
        let nodes = Behind::new(NODES).await?;
        let store = nodes.seeded(keys).await?;
        read_for(&store, keys, Duration::from_secs(1)).await?;
        let (connections, begun) = (nodes.accepted(), Instant::now());
        let cancelled = stream::iter(0..reads)
            .map(|n| {
                let store = store.clone();
                async move {
                    let mut dice = Dice(n as u64);
                    let some: Vec<Key> = (0..20).map(|_| key(dice.below(keys))).collect();
                    let read = tokio::spawn(async move { store.get(&some).await });
                    tokio::time::sleep(Duration::from_micros(dice.below(3_000) as u64)).await;
                    read.abort();
                    u64::from(read.await.is_err())
                }
            })
            .buffer_unordered(64)
            .fold(0, async |sum, one| sum + one)
            .await;
        let took = begun.elapsed();
        let dialled = nodes.accepted() - connections;
        until("nothing is in flight", || store.reads_in_flight() == 0).await?;
        let (after, failed) = read_for(&store, keys, Duration::from_secs(1)).await?;
        let most = took.as_secs() * u64::from(NODES);
        Ok(Outcome::new(
            dialled <= most && failed == 0 && !after.is_empty(),
            format!(
                "{cancelled} of {reads} reads of 20 keys given up in {:.0} s; {dialled} connections dialled in that time; then {} reads, {failed} failed",
                took.as_secs_f64(),
                after.len()
            ),
        ))
    })
}

/// F35: somebody else holds most ports, and all connections break.
pub(super) fn ports(_: Scale) -> Result<Outcome> {
    let keys = 100;
    runtime()?.block_on(async {
        let nodes = Behind::new(NODES).await?;
        let store = nodes.seeded(keys).await?;
        let held: Vec<TcpListener> =
            (49_152..=65_535_u16).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).collect();
        let connections = nodes.accepted();
        nodes.proxies.iter().for_each(Proxy::cut);
        let cut = Instant::now();
        let mut back = None;
        while back.is_none() && cut.elapsed() < Duration::from_secs(30) {
            back = store.get_one(&key(7)).await.is_ok().then(|| cut.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let dialled = nodes.accepted() - connections;
        let back = back.context("no read succeeded within 30 s")?;
        Ok(Outcome::new(
            back <= Duration::from_secs(10) && dialled <= 60 && held.len() > 1_000,
            format!(
                "{} ports held; read again after {:.2} s; {dialled} connections dialled within {:.0} s",
                held.len(),
                back.as_secs_f64(),
                cut.elapsed().as_secs_f64()
            ),
        ))
    })
}

/// F36: rows that one node alone has, and that node stopped.
pub(super) fn shard(scale: Scale) -> Result<Outcome> {
    let (keys, batches) = (5_000, scale.count(400, 20));
    runtime()?.block_on(async {
        let nodes = Behind::new(1).await?;
        let store = nodes.seeded(keys).await?;
        let all: Vec<Key> = (0..keys).map(key).collect();
        ensure!(store.get(&all).await?.iter().all(Option::is_some), "all rows are there before");
        let stopped = nodes.stop(2)?;
        type Found = Result<Vec<Option<Bytes>>, String>;
        let outcomes: Vec<(usize, Found)> = stream::iter(0..batches)
            .map(|n| {
                let (store, mut dice) = (store.clone(), Dice(n as u64));
                async move {
                    // Small ones now and then, so that some do without the node.
                    let count = if n % 4 == 0 { 2 } else { keys };
                    let some: Vec<Key> = (0..count).map(|_| key(dice.below(keys))).collect();
                    (count, store.get(&some).await.map_err(|e| e.to_string()))
                }
            })
            .buffer_unordered(16)
            .collect()
            .await;
        drop(stopped);
        let (mut asked, mut absent, mut refused, mut answered) = (0, 0, 0, 0);
        let mut reasons: HashMap<String, u64> = HashMap::new();
        for (count, outcome) in outcomes {
            asked += count;
            match outcome {
                Ok(found) => {
                    answered += 1;
                    absent += found.iter().filter(|row| row.is_none()).count();
                }
                Err(why) => {
                    refused += count;
                    *reasons.entry(why.chars().take(90).collect()).or_default() += 1;
                }
            }
        }
        let reason = reasons.into_iter().max_by_key(|(_, count)| *count).map(|(why, _)| why).unwrap_or_default();
        Ok(Outcome::new(
            absent == 0 && refused > 0 && answered > 0,
            format!(
                "{asked} keys asked in {batches} batches, {answered} answered, {absent} keys said to be absent; {refused} keys refused with: {reason}"
            ),
        ))
    })
}

/// F36 with the twin: a read for each key, and what fails is taken for absent.
pub(super) fn shard_taken_for_absence(_: Scale) -> Result<Outcome> {
    let keys = 200;
    runtime()?.block_on(async {
        let nodes = Behind::new(1).await?;
        let store = nodes.seeded(keys).await?;
        let stopped = nodes.stop(2)?;
        let found: Vec<Option<Bytes>> = stream::iter(0..keys)
            .map(|n| {
                let store = store.clone();
                async move { store.get_one(&key(n)).await.unwrap_or_default() }
            })
            .buffer_unordered(keys)
            .collect()
            .await;
        drop(stopped);
        let absent = found.iter().filter(|row| row.is_none()).count();
        Ok(Outcome::new(absent == 0, format!("{absent} of {keys} keys that are there said to be absent")))
    })
}

/// F25, its second half: what is put back behind the protocol's back must be found by the auditor.
pub(super) fn audited(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let (keys, injected) = (2_000, scale.count(2_000, 20).min(200));
    runtime()?.block_on(async {
        let double = super::rig::Double::patient(Duration::ZERO);
        super::rig::seed(&double, keys)?;
        let store = double.store(&[server.address], true, NO_NEAR)?;
        ready(&store).await?;
        store.start_audit(if scale.short { 2_000 } else { 200 });
        super::rig::warm(&store, keys).await?;
        let held = server.values()?;
        // Every key changes once; of some of them the answer of before comes back, as if nobody had told memcached.
        for n in 0..keys {
            write(&store, n, 2).await?;
        }
        until("all changes are told", || far(&store).lost_now == 0).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let names: Vec<&String> = held.keys().take(injected).collect();
        ensure!(names.len() == injected, "memcached holds {} values", held.len());
        for name in &names {
            server.put(name, &held[*name])?;
        }
        let begun = Instant::now();
        let most = Duration::from_secs(300);
        while (store.audit_figures().far.stale as usize) < injected && begun.elapsed() < most {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (found, took) = (store.audit_figures().far, begun.elapsed());
        let all: Vec<Key> = (0..keys).map(key).collect();
        let read = store.get(&all).await?;
        let old = read.iter().enumerate().filter(|(n, v)| version_of(*n, v.as_ref()) != Some(2)).count();
        Ok(Outcome::new(
            found.stale as usize * 100 >= injected * 99 && found.stale as usize <= injected && old * 100 <= injected,
            format!(
                "{injected} old values put back; {} found and removed within {:.0} s at {} keys a second, {} fresh, {} inconclusive; {old} old after",
                found.stale,
                took.as_secs_f64(),
                store.audit_figures().keys_per_second,
                found.fresh,
                found.inconclusive
            ),
        ))
    })
}
