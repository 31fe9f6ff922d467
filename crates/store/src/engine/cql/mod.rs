//! The engine of networks that outgrow one machine: a cluster of Apache Cassandra or ScyllaDB, over CQL.
//!
//! ```text
//! read   get, scan -> one prepared statement for each partition, a bounded number in flight -> nodes
//! write  batch -> journal -> lease row (compare and set) -> partitions, each atomic by itself -> feed row -> next batch
//! other processes   feed row -> journal -> what they keep in memory is forgotten
//! ```
//!
//! A cluster promises less than a folder: a write is atomic inside one partition only, two processes may believe that
//! they are the writer, and a write that was not answered may come later. `journal` and `lease` make the writer's
//! batches whole again, and `docs/decisions/0003-cql-engine.md` says why that is enough.
//!
//! The driver runs on threads of its own, so that a caller who blocks, whatever it is, cannot hold up an answer, and a
//! caller who goes away leaves no request half sent.

mod address;
mod buckets;
mod cut;
mod each;
mod feed;
mod journal;
mod lease;
mod open;
mod read;
mod rows;
mod spare;
mod tls;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use parking_lot::Mutex;
use scylla::{
    client::session::Session,
    statement::{
        Consistency, SerialConsistency,
        batch::{Batch as CqlBatch, BatchType},
    },
};
use tokio::{
    runtime::{Handle, Runtime},
    sync::Semaphore,
};

pub use self::{
    address::{Address, Agreement},
    tls::{Names, Tls},
};
use self::{
    buckets::{Bucket, CUTS, DIRECTORY_AT},
    cut::Cuts,
    feed::{Feed, Follower},
    lease::{Lease, Taken},
    rows::{Cell, Rows},
    spare::Spare,
};
use super::{Follow, Local, Remote, Vitals};
use crate::{Batch, Change, Error, Key, Page, Result, Scan, Table};

/// The format of keys, rows and journal in the keyspace. A newer one is refused.
///
/// 2: tables with `bucket_rows` are kept in buckets (`buckets`).
pub const FORMAT: u32 = 2;

/// Threads of the driver. It does little more than to move bytes.
const DRIVER_THREADS: usize = 2;

/// Statements in flight to the cluster, all callers together. Beyond it they wait, first come first served.
const STATEMENTS_IN_FLIGHT_MAX: usize = 512;

/// Statements of one caller in flight, so that a large batch leaves places for small ones.
const STATEMENTS_PER_CALLER_MAX: usize = 64;

/// Statements of the writer in flight: what it reads ahead for a group, everybody waits for.
const STATEMENTS_OF_THE_WRITER_MAX: usize = 128;

/// Partitions written side by side. One batch of the writer changes some thousands.
const PARTITIONS_WRITTEN_TOGETHER: usize = 128;

/// Changes and bytes of one CQL batch. All changes of a partition are one batch unless they are more than this:
/// Cassandra takes 65,535 statements and, as set by default, frames and mutations of 16 MiB.
const CHANGES_PER_BATCH_MAX: usize = 16_000;
const BYTES_PER_BATCH_MAX: usize = 9 << 20;

/// Longest time for one attempt to write.
const WRITE_ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// A batch of the writer that could not be written for so long ends the writer. What is in the journal is written by
/// whoever opens the store next.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// First and longest pause between attempts.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Longest time for the last words to the cluster when the store closes.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// How a cluster is opened.
#[derive(Clone)]
pub struct CqlConfig {
    /// Where it is.
    pub address: Address,
    /// Name and password, for a cluster that asks for them.
    pub login: Option<(String, String)>,
    /// For a cluster that speaks TLS.
    pub tls: Option<Tls>,
    /// How long to try again while no node answers.
    pub wait: Duration,
    /// Whether this process may write. Exactly one of those that may does: see [`Local::lead`].
    pub writes: bool,
}

impl std::fmt::Debug for CqlConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let login = self.login.as_ref().map(|(name, _)| name);
        f.debug_struct("CqlConfig")
            .field("address", &self.address)
            .field("login", &login)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Agreement {
    fn consistency(self) -> Consistency {
        match self {
            Self::LocalQuorum => Consistency::LocalQuorum,
            Self::Quorum => Consistency::Quorum,
            Self::LocalOne => Consistency::LocalOne,
        }
    }

    fn serial(self) -> SerialConsistency {
        match self {
            Self::Quorum => SerialConsistency::Serial,
            Self::LocalQuorum | Self::LocalOne => SerialConsistency::LocalSerial,
        }
    }
}

/// A cluster as an engine. Dropping it gives the lease back and lets its threads end.
pub struct Cql {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    writes: bool,
}

/// What tasks of the driver's threads share.
struct Shared {
    session: Session,
    address: Address,
    rows: HashMap<u8, Rows>,
    lease: Lease,
    feed: Feed,
    statements: Arc<Semaphore>,
    /// What second tries of reads may cost.
    spare: Arc<Spare>,
    /// Partitions that are cut, as the writer knows them.
    cuts: Cuts,
    /// Decides which puts are a reason to look at the size of a bucket.
    seed: u64,
    /// Why nothing more may be written, once that is so.
    ended: Mutex<Option<Error>>,
}

impl Cql {
    /// Connects, makes what is missing, and refuses a keyspace whose format it does not know. While no node answers it
    /// tries again as long as the configuration says.
    pub fn open(config: &CqlConfig, tables: &[&'static Table]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(DRIVER_THREADS)
            .thread_name("cql")
            .enable_all()
            .build()
            .map_err(|e| Error::Engine(format!("threads for the cluster cannot be started: {e}")))?;
        let (config, tables) = (config.clone(), tables.to_vec());
        let writes = config.writes;
        let opened = wait(runtime.handle(), async move { open::open(&config, &tables).await });
        match opened {
            Ok(shared) => Ok(Self { shared: Arc::new(shared), runtime: Some(runtime), writes }),
            Err(e) => {
                runtime.shutdown_background();
                Err(e)
            }
        }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("is taken only when the engine goes")
    }

    /// Runs something on the driver's threads and blocks until it is done.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        wait(self.runtime().handle(), work)
    }
}

/// Blocks this thread, also where it is one that must not: callers are the writer, tools, and start and end.
fn wait<T: Send + 'static>(runtime: &Handle, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (tell, told) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        let _ = tell.send(work.await);
    });
    told.recv().unwrap_or_else(|_| Err(Error::Closed))
}

/// What the driver says, as the store says it.
fn failed(e: impl std::fmt::Display) -> Error {
    Error::Engine(format!("the cluster did not do it: {e}"))
}

impl Drop for Cql {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let shared = Arc::clone(&self.shared);
        let (tell, told) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            shared.lease.release(&shared.session).await;
            let _ = tell.send(());
        });
        let _ = told.recv_timeout(CLOSE_MAX);
        runtime.shutdown_background();
    }
}

impl Shared {
    fn rows(&self, table_id: u8) -> Result<&Rows> {
        self.rows.get(&table_id).ok_or_else(|| Error::Engine(format!("table number {table_id} is not declared")))
    }

    /// Applies a batch, and cuts partitions that have become too wide by it.
    async fn apply(&self, changes: Vec<Change>) -> Result<()> {
        self.apply_one(&changes).await?;
        if let Err(e) = self.cut_where_due(&changes).await {
            // The batch stands. Whether more can be written shows with the next one.
            tracing::warn!(error = %e, "a wide partition could not be cut; it is tried again later");
        }
        Ok(())
    }

    /// Applies a batch: see the module's head.
    async fn apply_one(&self, changes: &[Change]) -> Result<()> {
        if let Some(e) = self.ended.lock().clone() {
            return Err(e);
        }
        let applied = async {
            let entry = self.lease.next(&self.session, changes).await?;
            self.write(changes, entry.at_us).await?;
            self.feed.tell(&self.session, entry).await
        }
        .await;
        if let Err(e) = &applied {
            // Whether the batch stands is for the next writer to settle, from the journal.
            self.ended.lock().get_or_insert_with(|| e.clone());
        }
        applied
    }

    /// Writes the partitions of a batch, each whole, as of one time. To do it again changes nothing.
    async fn write(&self, changes: &[Change], at_us: i64) -> Result<()> {
        self.cuts.learn(changes)?;
        // Puts and deletes of one time do not follow one another: for each key only the last change may be sent.
        let mut partitions: HashMap<(Bytes, Bucket), BTreeMap<Bytes, Option<Bytes>>> = HashMap::new();
        for Change { key, value } in changes {
            let (prefix, position) = rows::parts(key);
            let rows = self.rows(prefix[0])?;
            let bucket = if rows.cutting.is_some() { self.cuts.of(&prefix, &position) } else { Bucket::BASE };
            partitions.entry((prefix, bucket)).or_default().insert(rows.kept(&position), value.clone());
            if key.table_id() == CUTS.id {
                let cut = (Bytes::copy_from_slice(key.partition()), Bucket::BASE);
                partitions.entry(cut).or_default().insert(Bytes::from_static(DIRECTORY_AT), value.clone());
            }
        }
        stream::iter(partitions)
            .map(|((prefix, bucket), changes)| self.write_bucket(prefix, bucket, changes, at_us))
            .buffer_unordered(PARTITIONS_WRITTEN_TOGETHER)
            .try_collect::<()>()
            .await?;
        self.cuts.stand(changes, at_us);
        Ok(())
    }

    /// Writes changes of one bucket, their positions as they are kept.
    async fn write_bucket(
        &self,
        prefix: Bytes,
        bucket: Bucket,
        changes: BTreeMap<Bytes, Option<Bytes>>,
        at_us: i64,
    ) -> Result<()> {
        let rows = self.rows(prefix[0])?;
        for part in bounded(changes) {
            let mut batch = CqlBatch::new(BatchType::Unlogged);
            let mut values: Vec<Vec<Cell<'_>>> = Vec::with_capacity(part.len());
            for (position, value) in &part {
                let statement = if value.is_some() { &rows.put } else { &rows.delete };
                batch.append_statement(statement.clone());
                let mut row = rows.place(&prefix, &bucket);
                row.push(Cell::Bytes(position));
                row.extend(value.as_deref().map(Cell::Bytes));
                values.push(row);
            }
            batch.set_is_idempotent(true);
            batch.set_timestamp(Some(at_us));
            batch.set_consistency(self.address.writes.consistency());
            batch.set_request_timeout(Some(WRITE_ATTEMPT_MAX));
            let mut patience = Patience::new();
            while let Err(e) = self.session.batch(&batch, &values).await {
                patience.rest(failed(e)).await?;
            }
        }
        Ok(())
    }
}

/// The changes of one partition as batches: one, unless they are very many.
fn bounded(changes: BTreeMap<Bytes, Option<Bytes>>) -> Vec<Vec<(Bytes, Option<Bytes>)>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for (position, value) in changes {
        let more = position.len() + value.as_ref().map_or(0, Bytes::len);
        let full = parts.last().is_some_and(|part: &Vec<_>| {
            !part.is_empty() && (part.len() >= CHANGES_PER_BATCH_MAX || bytes + more > BYTES_PER_BATCH_MAX)
        });
        if full {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.push((position, value));
        }
    }
    parts
}

/// How long something is tried again that may be done twice.
struct Patience {
    begun: Instant,
    pause: Duration,
    told: bool,
}

impl Patience {
    fn new() -> Self {
        Self { begun: Instant::now(), pause: PAUSE_FIRST, told: false }
    }

    /// Waits a little after a failure; answers with an error once patience ends.
    async fn rest(&mut self, e: Error) -> Result<()> {
        if self.begun.elapsed() >= WRITE_PATIENCE {
            return Err(Error::Engine(format!(
                "the cluster took no writes for {} s: {e}. Look at its nodes; nothing acknowledged is lost",
                WRITE_PATIENCE.as_secs()
            )));
        }
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(error = %e, "a write is tried again");
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

impl Local for Cql {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let (shared, keys) = (Arc::clone(&self.shared), keys.to_vec());
        self.wait(async move { shared.get(&keys, true).await })
    }

    fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(Local::get(self, std::slice::from_ref(key))?.pop().flatten())
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        let (shared, scan) = (Arc::clone(&self.shared), scan.clone());
        self.wait(async move { shared.scan(scan, true).await })
    }

    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Page>> {
        let (shared, scans) = (Arc::clone(&self.shared), scans.to_vec());
        self.wait(async move { shared.scan_many(&scans).await })
    }

    fn apply(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.lead()?;
        // Once named it must be written, so what cannot be is refused before.
        batch.changes().iter().try_for_each(|change| self.shared.rows(change.key.table_id()).map(drop))?;
        let (shared, changes) = (Arc::clone(&self.shared), batch.changes().to_vec());
        self.wait(async move { shared.apply(changes).await })
    }

    fn sync(&self) -> Result<()> {
        // The nodes see to it: what a majority has taken survives the end of a minority.
        Ok(())
    }

    fn bytes_used(&self) -> u64 {
        0
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        self.each_from(table_id, &[], visit)
    }

    fn each_from(&self, table_id: u8, after: &[u8], visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        let mut place = each::Place::after(after);
        loop {
            let (shared, from) = (Arc::clone(&self.shared), place);
            let (rows, next) = self.wait(async move { shared.page(table_id, from).await })?;
            for row in rows {
                if !visit(row.key.bytes(), &row.value) {
                    return Ok(());
                }
            }
            match next {
                Some(next) => place = next,
                None => return Ok(()),
            }
        }
    }

    fn lead(&self) -> Result<()> {
        if !self.writes {
            return Err(Error::ReadOnly);
        }
        // Who lost the lease has read what may not stand any more, and must not come back to it.
        if let Some(e) = self.ended() {
            return Err(e);
        }
        if self.shared.lease.is_held() {
            return Ok(());
        }
        let (shared, runtime) = (Arc::clone(&self.shared), self.runtime().handle().clone());
        self.wait(async move {
            let Taken { changes, last, begins } = shared.lease.take(&shared).await?;
            let finished = async {
                shared.learn_cuts().await?;
                // The writer before us may have ended in the middle of its last batch.
                shared.write(&changes, last.at_us).await?;
                shared.cuts.all_stand(last.at_us);
                shared.feed.tell(&shared.session, begins).await
            }
            .await;
            if let Err(e) = finished {
                // Nothing may come after a batch that is not whole.
                shared.ended.lock().get_or_insert_with(|| e.clone());
                return Err(e);
            }
            Lease::keep(&shared);
            runtime.spawn(cut::keep_clear(Arc::downgrade(&shared)));
            Ok(())
        })
    }

    fn vitals(&self) -> Vitals {
        let (hedges, retries) = self.shared.spare.counts();
        Vitals { hedges, retries, ..Vitals::default() }
    }

    fn ended(&self) -> Option<Error> {
        self.shared.ended.lock().clone()
    }

    fn remote(&self) -> Option<&dyn Remote> {
        Some(self)
    }

    fn follow(&self) -> Option<Box<dyn Follow>> {
        // Who writes knows what changes.
        let follower = || Follower::new(Arc::clone(&self.shared), self.runtime().handle().clone());
        (!self.writes).then(|| Box::new(follower()) as _)
    }
}

impl Remote for Cql {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>>> {
        let shared = Arc::clone(&self.shared);
        read::while_wanted(self.runtime(), |wanted| async move { shared.get_while(&keys, false, &wanted).await })
    }

    fn scan(&self, scans: Vec<Scan>) -> BoxFuture<'static, Result<Vec<Page>>> {
        let shared = Arc::clone(&self.shared);
        read::while_wanted(self.runtime(), |wanted| async move { shared.scan_while(&scans, &wanted).await })
    }
}
