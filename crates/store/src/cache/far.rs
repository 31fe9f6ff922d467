//! memcached in front of the engine: the protocol's rules, carried out.
//!
//! Everything that talks to memcached runs on a thread of its own, so that neither a slow node nor a busy program slows
//! the other down. Readers ask and fill from async tasks; the writer marks and waits, for a bounded time, on its thread.

use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc as std_mpsc,
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gp_memcached::{Client, Config as ClientConfig, Found, Lease, LeaseTerms, Op, Wrote};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{
    FarConfig, FarFigures, FarNode,
    envelope::{Content, HEADER_BYTES, Spoiled},
    figures::Counters,
    protocol::{
        ABSENT_SECONDS_MAX, Beat, Gate, JOURNAL_KEYS_MAX, LEDGER_KEYS_MAX, Ledger, MARK_SECONDS, REFRESH_SECONDS,
        ROW_SECONDS, SPOILED_SECONDS, STUB_SECONDS, Said, TOO_LARGE_SECONDS, jittered,
    },
};
use crate::{Batch, Change, Error, Key, Result, Table, engine::Local};

/// What the writer knows of each node, in the store itself: what begins its keys, and which were being changed.
pub(crate) static NODES: Table = Table {
    id: 254,
    name: "cache_node",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: crate::Cache::Never,
    bucket_rows: None,
};

/// Packets of fills under way; with more, what was read is not put.
const FILLS_IN_FLIGHT_MAX: usize = 256;

/// Groups of marks that wait to be removed; with more, they are removed later.
const UNMARKS_WAITING_MAX: usize = 1024;

/// Keys removed in one go, of those whose marks may not stand.
const REMOVED_AT_ONCE: usize = 2048;

/// How often lost marks are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often the writer says that it is there, and others listen.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How long a beat stands: as long as a number that is not taken for a date may be. Nobody relies on its end.
const BEAT_SECONDS: u32 = 2_500_000;

/// The writer waits so long for its marks, beyond the deadline of the client, before it takes them for lost.
const MARK_WAIT_SPARE: Duration = Duration::from_millis(250);

/// A trouble that lasts is told this often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The right to fill a key: at which node, under which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FarLease {
    node: usize,
    epoch: u64,
    lease: Lease,
}

/// A key as memcached has it.
type Hash = u128;

/// Where a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    node: usize,
    hash: Hash,
}

/// Keys that are marked while their rows change.
pub(crate) struct Marked {
    places: Vec<Place>,
    at: Instant,
}

struct Node {
    /// What begins its keys, if this process writes.
    epoch: AtomicU64,
    beats: AtomicU64,
    ledger: Mutex<Ledger<Hash>>,
    gate: Mutex<Gate>,
}

/// memcached, as the store uses it.
pub(crate) struct Far {
    client: Client,
    config: FarConfig,
    nodes: Vec<Node>,
    runtime: Handle,
    unmarks: mpsc::Sender<Vec<Place>>,
    fills: Arc<AtomicUsize>,
    pub(crate) counters: Arc<Counters>,
    /// Ends the thread when it goes.
    _alive: mpsc::Sender<()>,
}

impl Far {
    /// Begins to connect and does not wait for it. Reads from the engine, and writes there, what it knows of the nodes.
    pub(crate) fn start(config: FarConfig, engine: &dyn Local) -> Result<Arc<Self>> {
        let cannot = |e: std::io::Error| Error::Engine(format!("the thread for memcached cannot be started: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let handle = runtime.handle().clone();
        let (alive, mut ended) = mpsc::channel::<()>(1);
        std::thread::Builder::new()
            .name("memcached".into())
            .spawn(move || runtime.block_on(async move { while ended.recv().await.is_some() {} }))
            .map_err(cannot)?;
        let client = ClientConfig {
            nodes: config.nodes.clone(),
            connections_per_node: config.connections_per_node.max(1),
            op_deadline: config.op_deadline,
            value_bytes_max: config.row_bytes_max + HEADER_BYTES,
            ..ClientConfig::default()
        };
        let nodes = config.nodes.iter().map(|address| {
            let (epoch, changing) = if config.writes { adopt(engine, address)? } else { (0, Vec::new()) };
            let mut ledger = Ledger::new(LEDGER_KEYS_MAX);
            changing.into_iter().for_each(|hash| ledger.adopt(hash));
            Ok(Node {
                epoch: AtomicU64::new(epoch),
                beats: AtomicU64::new(unix_micros()),
                ledger: Mutex::new(ledger),
                gate: Mutex::default(),
            })
        });
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        let (unmarks, unmarking) = mpsc::channel(UNMARKS_WAITING_MAX);
        let far = Arc::new(Self {
            client: Client::start(client, &handle),
            nodes,
            unmarks,
            fills: Arc::default(),
            counters: Arc::default(),
            runtime: handle.clone(),
            config,
            _alive: alive,
        });
        handle.spawn(unmark(Arc::downgrade(&far), unmarking));
        handle.spawn(look_after(Arc::downgrade(&far)));
        Ok(far)
    }

    /// Whether this process is the one that changes rows.
    pub(crate) fn is_at_home(&self) -> bool {
        self.config.writes
    }

    fn place(&self, key: &Key) -> Place {
        let hash = xxh3_128(key.bytes());
        Place { node: self.client.node_of(hash as u64), hash }
    }

    /// What begins the keys of a node, if it may be read now.
    fn readable(&self, node: usize) -> Option<u64> {
        if !self.client.is_usable(node) {
            return None;
        }
        let at = &self.nodes[node];
        if self.config.writes {
            return Some(at.epoch.load(Relaxed));
        }
        at.gate.lock().epoch(self.client.newest_connection(node), Instant::now())
    }

    // ------------------------------------------------------------------------------------------- reading

    /// What memcached says about keys, in their order. All nodes are asked at the same time.
    pub(crate) async fn ask(self: &Arc<Self>, keys: &[Key]) -> Vec<Said<Bytes, FarLease>> {
        let mut said: Vec<Said<Bytes, FarLease>> = vec![Said::Nothing; keys.len()];
        let mut asked: Vec<(Vec<usize>, Vec<Bytes>)> = vec![Default::default(); self.nodes.len()];
        let epochs: Vec<Option<u64>> = (0..self.nodes.len()).map(|node| self.readable(node)).collect();
        let (mut unusable, mut bypasses) = (0, 0);
        for (n, key) in keys.iter().enumerate() {
            let place = self.place(key);
            let Some(epoch) = epochs[place.node] else {
                unusable += 1;
                continue;
            };
            if self.config.writes && !self.nodes[place.node].ledger.lock().allows(&place.hash) {
                bypasses += 1;
                said[n] = Said::Bypass;
                continue;
            }
            asked[place.node].0.push(n);
            asked[place.node].1.push(text(epoch, place.hash));
        }
        let counters = &self.counters;
        counters.unusable.fetch_add(unusable, Relaxed);
        let terms = LeaseTerms { stub_seconds: STUB_SECONDS, refresh_seconds: REFRESH_SECONDS };
        let asking: Vec<_> = asked
            .into_iter()
            .enumerate()
            .filter(|(_, (places, _))| !places.is_empty())
            .map(|(node, (places, texts))| {
                let client = self.client.clone();
                (node, places, self.runtime.spawn(async move { client.get(node, &texts, Some(terms)).await }))
            })
            .collect();
        let mut spoiled: Vec<(usize, Op)> = Vec::new();
        let (mut hits, mut negatives, mut misses, mut waits, mut unknown) = (0, 0, 0, 0, 0);
        for (node, places, asking) in asking {
            let (Ok(found), Some(epoch)) = (asking.await, epochs[node]) else { continue };
            let held = |lease| FarLease { node, epoch, lease };
            for (n, found) in places.into_iter().zip(found) {
                said[n] = match found {
                    Found::Value(bytes, lease) => match Content::decode(&bytes, &keys[n]) {
                        Ok(Content::Row(row)) => {
                            hits += 1;
                            Said::Row(row, lease.map(held))
                        }
                        Ok(Content::Absent) => {
                            negatives += 1;
                            Said::Absent
                        }
                        Ok(Content::Bypass) => {
                            bypasses += 1;
                            Said::Bypass
                        }
                        Err(Spoiled::Foreign | Spoiled::Sum) => {
                            counters.spoiled.fetch_add(1, Relaxed);
                            let key = text(epoch, xxh3_128(keys[n].bytes()));
                            // To put this is to take away what stood there: it needs no lease.
                            let value = Content::Bypass.encode(&keys[n]);
                            spoiled.push((node, Op::Set { key, value, ttl_seconds: SPOILED_SECONDS, lease: None }));
                            Said::Bypass
                        }
                    },
                    Found::Won(lease) => {
                        misses += 1;
                        Said::Won(held(lease))
                    }
                    Found::Taken => {
                        waits += 1;
                        Said::Taken
                    }
                    Found::Miss | Found::Unknown => {
                        unknown += 1;
                        Said::Nothing
                    }
                };
            }
        }
        for (counter, count) in [
            (&counters.hits, hits),
            (&counters.negatives, negatives),
            (&counters.misses, misses),
            (&counters.lease_waits, waits),
            (&counters.unknown, unknown),
            (&counters.bypasses, bypasses),
        ] {
            counter.fetch_add(count, Relaxed);
        }
        self.put(spoiled);
        said
    }

    /// What stands under keys, for somebody who only compares: rows and absences, and nothing for all else.
    pub(crate) async fn look(&self, keys: &[Key]) -> Vec<Option<Option<Bytes>>> {
        let mut said = vec![None; keys.len()];
        for node in 0..self.nodes.len() {
            let Some(epoch) = self.readable(node) else { continue };
            let places = keys.iter().map(|key| self.place(key)).enumerate().filter(|(_, place)| {
                // What is being changed, or may be old, is not answered from here either.
                place.node == node && (!self.config.writes || self.nodes[node].ledger.lock().allows(&place.hash))
            });
            let (here, texts): (Vec<usize>, Vec<Bytes>) = places.map(|(n, place)| (n, text(epoch, place.hash))).unzip();
            if here.is_empty() {
                continue;
            }
            let client = self.client.clone();
            let Ok(found) = self.runtime.spawn(async move { client.get(node, &texts, None).await }).await else {
                continue;
            };
            for (n, found) in here.into_iter().zip(found) {
                said[n] = match found {
                    Found::Value(bytes, _) => match Content::decode(&bytes, &keys[n]) {
                        Ok(Content::Row(row)) => Some(Some(row)),
                        Ok(Content::Absent) => Some(None),
                        Ok(Content::Bypass) | Err(_) => None,
                    },
                    Found::Won(_) | Found::Taken | Found::Miss | Found::Unknown => None,
                };
            }
        }
        said
    }

    /// Takes away what stands under a key.
    pub(crate) fn remove(self: &Arc<Self>, key: &Key) {
        let place = self.place(key);
        if let Some(epoch) = self.readable(place.node) {
            self.put(vec![(place.node, Op::Delete { key: text(epoch, place.hash), lease: None })]);
        }
    }

    /// Puts what the store said, each under its lease. Does not wait.
    pub(crate) fn fill<'a>(self: &Arc<Self>, rows: impl IntoIterator<Item = (&'a Key, FarLease, Option<&'a Bytes>)>) {
        let ops = rows.into_iter().map(|(key, held, row)| {
            let hash = xxh3_128(key.bytes());
            let chance = (hash >> 64) as u64 ^ unix_micros();
            let (content, seconds) = match row {
                Some(row) if row.len() > self.config.row_bytes_max => {
                    self.counters.fills_too_large.fetch_add(1, Relaxed);
                    (Content::Bypass, TOO_LARGE_SECONDS)
                }
                Some(row) => (Content::Row(row.clone()), ROW_SECONDS),
                None => (Content::Absent, ABSENT_SECONDS_MAX * 10 / 11),
            };
            let op = Op::Set {
                key: text(held.epoch, hash),
                value: content.encode(key),
                ttl_seconds: jittered(seconds, chance),
                lease: Some(held.lease),
            };
            (held.node, op)
        });
        let ops = ops.collect();
        self.put(ops);
    }

    /// Gives leases back, so that others need not wait for fills that do not come.
    pub(crate) fn release<'a>(self: &Arc<Self>, leases: impl IntoIterator<Item = (&'a Key, FarLease)>) {
        let ops = leases.into_iter().map(|(key, held)| {
            (held.node, Op::Delete { key: text(held.epoch, xxh3_128(key.bytes())), lease: Some(held.lease) })
        });
        let ops = ops.collect();
        self.put(ops);
    }

    fn put(self: &Arc<Self>, ops: Vec<(usize, Op)>) {
        if ops.is_empty() {
            return;
        }
        let mut by_node: Vec<Vec<Op>> = vec![Vec::new(); self.nodes.len()];
        ops.into_iter().for_each(|(node, op)| by_node[node].push(op));
        for (node, ops) in by_node.into_iter().enumerate().filter(|(_, ops)| !ops.is_empty()) {
            if self.fills.fetch_add(1, Relaxed) >= FILLS_IN_FLIGHT_MAX {
                self.fills.fetch_sub(1, Relaxed);
                self.counters.fills_dropped.fetch_add(ops.len() as u64, Relaxed);
                continue;
            }
            let (client, fills, counters) = (self.client.clone(), Arc::clone(&self.fills), Arc::clone(&self.counters));
            self.runtime.spawn(async move {
                let wrote = client.write(node, &ops).await;
                fills.fetch_sub(1, Relaxed);
                for (op, wrote) in ops.iter().zip(wrote) {
                    let Op::Set { lease: Some(_), .. } = op else { continue };
                    let counter = match wrote {
                        Wrote::Done => &counters.fills_stored,
                        Wrote::LostLease => &counters.fills_lost_lease,
                        Wrote::NotFound | Wrote::Refused | Wrote::Unknown => &counters.fills_failed,
                    };
                    counter.fetch_add(1, Relaxed);
                }
            });
        }
    }

    // ------------------------------------------------------------------------------------------- writing

    /// Marks keys whose rows are about to change, and waits, for a bounded time, until the marks stand. Answers as well what
    /// must be applied in one batch with the change, so that the engine remembers the keys from the moment on at which
    /// their rows may be new. On an error nothing may be changed.
    pub(crate) fn mark<'a>(
        self: &Arc<Self>,
        keys: impl IntoIterator<Item = &'a Key>,
        engine: &dyn Local,
    ) -> Result<(Marked, Vec<Change>)> {
        let at = Instant::now();
        for node in 0..self.nodes.len() {
            self.begin_anew_if_lost(node, engine)?;
        }
        let mut seen: HashSet<Place> = HashSet::new();
        let mut by_node: Vec<(Vec<Hash>, Vec<Op>)> = vec![Default::default(); self.nodes.len()];
        for key in keys {
            let place = self.place(key);
            if !seen.insert(place) {
                continue;
            }
            let op = Op::Set {
                key: text(self.nodes[place.node].epoch.load(Relaxed), place.hash),
                value: Content::Bypass.encode(key),
                ttl_seconds: MARK_SECONDS,
                lease: None,
            };
            by_node[place.node].0.push(place.hash);
            by_node[place.node].1.push(op);
        }
        let marked = Marked { places: seen.into_iter().collect(), at };
        if marked.places.is_empty() {
            return Ok((marked, Vec::new()));
        }
        let (tell, told) = std_mpsc::sync_channel::<(usize, Vec<Wrote>)>(self.nodes.len());
        let mut begun: Vec<Vec<Hash>> = Vec::with_capacity(self.nodes.len());
        let (mut waiting, mut count) = (0, 0);
        for (node, (hashes, ops)) in by_node.into_iter().enumerate() {
            count = count.max(ops.len());
            {
                let mut ledger = self.nodes[node].ledger.lock();
                hashes.iter().for_each(|hash| ledger.begin(*hash));
            }
            begun.push(hashes);
            if ops.is_empty() || !self.client.is_usable(node) {
                continue;
            }
            waiting += 1;
            let (client, tell) = (self.client.clone(), tell.clone());
            self.runtime.spawn(async move {
                let wrote = client.write(node, &ops).await;
                // Nobody may wait any more.
                let _ = tell.try_send((node, wrote));
            });
        }
        // What is remembered may say less than is so (a mark that is lost later), never more.
        let remembered = self.remembered();
        let end = at + self.config.op_deadline + Duration::from_micros(20) * count as u32 + MARK_WAIT_SPARE;
        let mut stands: Vec<Vec<Wrote>> = vec![Vec::new(); self.nodes.len()];
        while waiting > 0
            && let Ok((node, wrote)) = told.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            stands[node] = wrote;
            waiting -= 1;
        }
        let (mut stand, mut lost) = (0, 0);
        for (node, hashes) in begun.iter().enumerate() {
            let mut ledger = self.nodes[node].ledger.lock();
            for (n, hash) in hashes.iter().enumerate() {
                if stands[node].get(n) == Some(&Wrote::Done) {
                    stand += 1;
                } else {
                    lost += 1;
                    ledger.lose(hash);
                }
            }
        }
        self.counters.marks.fetch_add(stand, Relaxed);
        self.counters.marks_lost.fetch_add(lost, Relaxed);
        Ok((marked, remembered))
    }

    /// The rows have changed, or will not. Once for every [`Far::mark`].
    pub(crate) fn unmark(&self, marked: Marked) {
        let took = marked.at.elapsed();
        for (node, at) in self.nodes.iter().enumerate() {
            let mut ledger = at.ledger.lock();
            marked.places.iter().filter(|p| p.node == node).for_each(|p| ledger.changed(&p.hash, took));
        }
        if marked.places.is_empty() {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(places) | mpsc::error::TrySendError::Closed(places)) =
            self.unmarks.try_send(marked.places)
        {
            self.counters.unmarks_left.fetch_add(places.len() as u64, Relaxed);
            places.iter().for_each(|p| self.nodes[p.node].ledger.lock().lose(&p.hash));
        }
    }

    /// The ledgers as rows: a process that starts after this one died must know which keys were being changed.
    fn remembered(&self) -> Vec<Change> {
        let mut batch = Batch::new();
        for (node, at) in self.nodes.iter().enumerate() {
            let keys = {
                let ledger = at.ledger.lock();
                // Keys of a node that is away grow in number with every group: to write all of them every time would cost
                // more than to begin that node anew after a crash.
                let is_worth_it = ledger.is_clean() || self.client.is_usable(node);
                if is_worth_it { ledger.all(JOURNAL_KEYS_MAX) } else { None }
            };
            put_row(&mut batch, &self.config.nodes[node], at.epoch.load(Relaxed), keys.as_deref());
        }
        batch.changes().to_vec()
    }

    fn begin_anew_if_lost(&self, node: usize, engine: &dyn Local) -> Result<()> {
        let at = &self.nodes[node];
        if !at.ledger.lock().has_overflowed() {
            return Ok(());
        }
        let epoch = at.epoch.load(Relaxed) + 1;
        let mut batch = Batch::new();
        put_row(&mut batch, &self.config.nodes[node], epoch, Some(&[]));
        engine.apply(&batch)?;
        let mut ledger = at.ledger.lock();
        at.epoch.store(epoch, Relaxed);
        ledger.begin_anew();
        self.counters.begun_anew.fetch_add(1, Relaxed);
        Ok(())
    }

    /// The writer ends in order: others may read on without hearing it.
    pub(crate) fn seal(self: &Arc<Self>) {
        if !self.config.writes {
            return;
        }
        let (far, (tell, told)) = (Arc::clone(self), std_mpsc::sync_channel::<()>(1));
        self.runtime.spawn(async move {
            for node in 0..far.nodes.len() {
                far.beat(node, true).await;
            }
            let _ = tell.try_send(());
        });
        let _ = told.recv_timeout(MARK_WAIT_SPARE);
    }

    // ------------------------------------------------------------------------------------------- looking after

    /// Says on a node that the writer is there, if all is well there.
    async fn beat(&self, node: usize, sealed: bool) {
        let at = &self.nodes[node];
        if !self.client.is_usable(node) || !at.ledger.lock().is_clean() {
            return;
        }
        let beat = Beat { epoch: at.epoch.load(Relaxed), count: at.beats.fetch_add(1, Relaxed), sealed };
        let value = beat.encode().into();
        self.client.write(node, &[Op::Set { key: BEAT, value, ttl_seconds: BEAT_SECONDS, lease: None }]).await;
    }

    async fn listen(&self, node: usize) {
        let connection = self.client.newest_connection(node);
        if !self.client.is_usable(node) {
            return;
        }
        let found = self.client.get(node, &[BEAT], None).await;
        let beat = match found.first() {
            Some(Found::Value(bytes, _)) => Beat::decode(bytes),
            _ => None,
        };
        self.nodes[node].gate.lock().hear(beat, connection, Instant::now());
    }

    /// Removes keys whose marks may not stand.
    async fn mend(&self, node: usize) {
        let at = &self.nodes[node];
        let due = at.ledger.lock().due(REMOVED_AT_ONCE);
        if due.is_empty() || !self.client.is_usable(node) {
            return;
        }
        let epoch = at.epoch.load(Relaxed);
        let ops: Vec<Op> = due.iter().map(|(hash, _)| Op::Delete { key: text(epoch, *hash), lease: None }).collect();
        let wrote = self.client.write(node, &ops).await;
        let mut ledger = at.ledger.lock();
        let mut mended = 0;
        for ((hash, attempt), wrote) in due.into_iter().zip(wrote) {
            if matches!(wrote, Wrote::Done | Wrote::NotFound) {
                ledger.removed(&hash, attempt);
                mended += 1;
            }
        }
        self.counters.lost_mended.fetch_add(mended, Relaxed);
    }

    pub(crate) fn figures(&self) -> FarFigures {
        let nodes: Vec<FarNode> = self
            .client
            .figures()
            .into_iter()
            .enumerate()
            .map(|(n, client)| FarNode {
                client,
                is_read: self.readable(n).is_some(),
                lost_now: self.nodes[n].ledger.lock().lost() as u64,
            })
            .collect();
        FarFigures {
            lost_now: nodes.iter().map(|node| node.lost_now).sum(),
            fills_in_flight: self.fills.load(Relaxed) as u64,
            nodes,
            ..self.counters.read()
        }
    }
}

/// Where the writer says that it is there.
const BEAT: Bytes = Bytes::from_static(b"gp:beat");

/// A key on the wire: always a hash, because keys may be longer than memcached allows and hold any bytes.
fn text(epoch: u64, hash: Hash) -> Bytes {
    let mut out = Vec::with_capacity(50);
    out.push(b'g');
    hex(&mut out, epoch.into(), 16);
    out.push(b':');
    hex(&mut out, hash, 32);
    out.into()
}

fn hex(out: &mut Vec<u8>, number: u128, digits: u32) {
    out.extend((0..digits).rev().map(|n| b"0123456789abcdef"[(number >> (4 * n)) as usize & 15]));
}

/// One row a node: epoch, whether all keys that were being changed follow, and they.
fn put_row(batch: &mut Batch, address: &str, epoch: u64, changing: Option<&[Hash]>) {
    let keys = changing.unwrap_or_default();
    let mut row = Vec::with_capacity(9 + size_of_val(keys));
    row.extend_from_slice(&epoch.to_be_bytes());
    row.push(u8::from(changing.is_some()));
    keys.iter().for_each(|hash| row.extend_from_slice(&hash.to_be_bytes()));
    batch.put(node_key(address), row);
}

/// What a row says: the epoch, and the keys if they are all there.
fn read_row(row: &[u8]) -> Option<(u64, Option<Vec<Hash>>)> {
    let (epoch, rest) = row.split_first_chunk::<8>()?;
    let (complete, keys) = rest.split_first()?;
    let hashes =
        keys.chunks_exact(size_of::<Hash>()).filter_map(|chunk| chunk.try_into().ok().map(Hash::from_be_bytes));
    Some((u64::from_be_bytes(*epoch), (*complete == 1).then(|| hashes.collect())))
}

fn node_key(address: &str) -> Key {
    Key::of(&NODES).atom(&xxh3_64(address.as_bytes()).to_be_bytes()).key()
}

/// What begins the keys of a node, and which the writer before us was changing, or had not seen removed. A new epoch if the
/// node is new to this store, or if that writer had more of them than it wrote down.
fn adopt(engine: &dyn Local, address: &str) -> Result<(u64, Vec<Hash>)> {
    let epoch = match engine.get_one(&node_key(address))?.as_deref().and_then(read_row) {
        Some((epoch, Some(changing))) => return Ok((epoch, changing)),
        Some((epoch, None)) => epoch + 1,
        // Differs from store to store: what another one left on the node is not ours.
        None => xxh3_64(format!("{address} {} {}", unix_micros(), std::process::id()).as_bytes()) >> 16,
    };
    let mut batch = Batch::new();
    put_row(&mut batch, address, epoch, Some(&[]));
    engine.apply(&batch)?;
    Ok((epoch, Vec::new()))
}

fn unix_micros() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_micros() as u64)
}

/// Removes marks after their rows have changed, as they come.
async fn unmark(far: Weak<Far>, mut groups: mpsc::Receiver<Vec<Place>>) {
    while let Some(mut places) = groups.recv().await {
        let Some(far) = far.upgrade() else { return };
        while places.len() < REMOVED_AT_ONCE
            && let Ok(more) = groups.try_recv()
        {
            places.extend(more);
        }
        for (node, at) in far.nodes.iter().enumerate() {
            // A key that is changing again is the business of that change.
            let here: Vec<_> = {
                let ledger = at.ledger.lock();
                let here = places.iter().filter(|p| p.node == node);
                here.filter_map(|p| Some((p.hash, ledger.attempt(&p.hash)?))).collect()
            };
            if here.is_empty() {
                continue;
            }
            let epoch = at.epoch.load(Relaxed);
            let wrote = if far.client.is_usable(node) {
                let remove = |(hash, _): &(Hash, _)| Op::Delete { key: text(epoch, *hash), lease: None };
                far.client.write(node, &here.iter().map(remove).collect::<Vec<_>>()).await
            } else {
                vec![Wrote::Unknown; here.len()]
            };
            let mut ledger = at.ledger.lock();
            let mut done = 0;
            for ((hash, attempt), wrote) in here.iter().zip(wrote) {
                if matches!(wrote, Wrote::Done | Wrote::NotFound) {
                    done += 1;
                    ledger.removed(hash, *attempt);
                } else {
                    ledger.lose(hash);
                }
            }
            far.counters.unmarks.fetch_add(done, Relaxed);
            far.counters.unmarks_left.fetch_add(here.len() as u64 - done, Relaxed);
        }
    }
}

/// Beats or listens, mends what was lost, and tells, seldom, of nodes that are not well.
async fn look_after(far: Weak<Far>) {
    let mut beat_at = Instant::now();
    let mut told_at: Option<Instant> = None;
    // Connecting takes a moment; a node is only missed when it could have been there.
    let mut well_since = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(far) = far.upgrade() else { return };
        let now = Instant::now();
        let beats = now >= beat_at;
        if beats {
            beat_at = now + BEAT_EVERY;
        }
        for node in 0..far.nodes.len() {
            if far.config.writes {
                far.mend(node).await;
                if beats {
                    far.beat(node, false).await;
                }
            } else if beats {
                far.listen(node).await;
            }
        }
        let unwell: Vec<String> = far
            .figures()
            .nodes
            .iter()
            .filter(|node| !matches!(node.state(), "up" | "catches up"))
            .map(|node| format!("{} {}", node.client.address, node.state()))
            .collect();
        if unwell.is_empty() {
            well_since = now;
            if told_at.take().is_some() {
                tracing::info!("all nodes of memcached are in use again");
            }
        } else if now.duration_since(well_since) > BEAT_EVERY * 3 && told_at.is_none_or(|at| at.elapsed() >= TOLD_EVERY)
        {
            told_at = Some(now);
            tracing::warn!(
                nodes = unwell.join(", "),
                "memcached is not in use everywhere; reads go to the store within its bounds: look at these nodes, nothing is lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_on_the_wire_are_plain_and_differ_with_epoch_and_hash() {
        let all = [text(1, 2), text(2, 1), text(u64::MAX, u128::MAX), text(0, 0)];
        assert_eq!(&all[0][..], b"g0000000000000001:00000000000000000000000000000002");
        assert!(all.iter().all(|key| gp_memcached::codec::is_plain_key(key)));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4);
    }

    #[test]
    fn a_writer_takes_over_what_the_one_before_was_changing() {
        let engine = crate::engine::mem::Mem::new();
        let known = |changing: Option<&[Hash]>, epoch| {
            let mut batch = Batch::new();
            put_row(&mut batch, "a:1", epoch, changing);
            engine.apply(&batch).unwrap();
        };
        let (first, none) = adopt(&engine, "a:1").unwrap();
        assert!(none.is_empty() && adopt(&engine, "a:1").unwrap() == (first, vec![]));
        assert_ne!(adopt(&engine, "b:1").unwrap().0, first);
        known(Some(&[7, u128::MAX]), first);
        assert_eq!(adopt(&engine, "a:1").unwrap(), (first, vec![7, u128::MAX]));
        known(None, first);
        assert_eq!(adopt(&engine, "a:1").unwrap(), (first + 1, vec![]), "more than were written down");
        assert_eq!(adopt(&engine, "a:1").unwrap(), (first + 1, vec![]));
    }
}
