//! Who writes: one row that is changed by compare-and-set only, and what keeps a writer out that lost it.
//!
//! The row names the holder, the number of its lease (the epoch), and the last batch that counts. A batch counts from
//! the moment this row names it, and the row takes a new name only under the epoch of its holder. So of two processes
//! that both believe to be the writer only one gets a batch to count, and partitions are written for batches that count
//! only. A process that was stopped between the two and wakes up writes what the next writer has written from the
//! journal, with the same time; what came later has a later time, and stays. The row also takes a name only after that of
//! the batch before, so that a node that hung and does late what it was asked takes nothing back.
//!
//! No clock of one process is compared with that of another: a lease has run out when the row has not changed for
//! [`LEASE`] while somebody watched it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use scylla::{
    client::session::Session,
    response::query_result::QueryResult,
    statement::prepared::PreparedStatement,
    value::{CqlValue, Row},
};

use super::{
    Address, Agreement, Patience, Shared, WRITE_ATTEMPT_MAX, failed,
    journal::{Entry, Journal},
};
use crate::{Change, Error, Result};

/// A holder that has not moved for so long has ended.
const LEASE: Duration = Duration::from_secs(5);

/// How often a holder that has nothing to write moves all the same.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How often somebody who waits for the lease looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often waiting is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// The lease as this process has it.
pub(super) struct Lease {
    name: String,
    statements: Statements,
    pub(super) journal: Journal,
    held: tokio::sync::Mutex<Held>,
    holds: AtomicBool,
}

/// The statements of the lease row.
struct Statements {
    read: PreparedStatement,
    begin: PreparedStatement,
    take: PreparedStatement,
    count: PreparedStatement,
    beat: PreparedStatement,
    release: PreparedStatement,
}

/// What the holder knows of the row. The lock is held while the row is changed: two changes at once would disturb one
/// another.
#[derive(Default)]
struct Held {
    epoch: i64,
    last: Entry,
    beat: i64,
    moved: Option<Instant>,
}

/// What the writer before has left.
pub(super) struct Taken {
    /// The last batch that counts, to be written again.
    pub(super) changes: Vec<Change>,
    /// Where it is, and with which time.
    pub(super) last: Entry,
    /// What to tell once that is done: whoever follows must not miss the batch.
    pub(super) begins: Entry,
}

/// The row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    epoch: i64,
    beat: i64,
    holder: String,
    last: Entry,
}

pub(super) fn create(keyspace: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.lease (id int PRIMARY KEY, epoch bigint, beat bigint, holder text, \
         last_epoch bigint, last_number bigint, last_at_us bigint)"
    )
}

async fn prepare(session: &Session, address: &Address, text: String) -> Result<PreparedStatement> {
    let mut statement = session.prepare(text).await.map_err(failed)?;
    statement.set_consistency(address.writes.consistency());
    statement.set_serial_consistency(Some(address.writes.serial()));
    statement.set_request_timeout(Some(WRITE_ATTEMPT_MAX));
    Ok(statement)
}

impl Lease {
    pub(super) async fn prepare(session: &Session, address: &Address) -> Result<Self> {
        let row = format!("{}.lease", address.keyspace);
        let mut read = prepare(
            session,
            address,
            format!("SELECT epoch, beat, holder, last_epoch, last_number, last_at_us FROM {row} WHERE id = 0"),
        )
        .await?;
        // Sees also what was begun and not finished.
        read.set_consistency(match address.writes {
            Agreement::Quorum => scylla::statement::Consistency::Serial,
            _ => scylla::statement::Consistency::LocalSerial,
        });
        let statements = Statements {
            read,
            begin: prepare(session, address, format!(
                "INSERT INTO {row} (id, epoch, beat, holder, last_epoch, last_number, last_at_us) \
                 VALUES (0, 0, 0, '', 0, 0, 0) IF NOT EXISTS"
            ))
            .await?,
            take: prepare(session, address, format!(
                "UPDATE {row} SET epoch = ?, beat = 0, holder = ? WHERE id = 0 IF epoch = ? AND beat = ? AND last_number = ?"
            ))
            .await?,
            count: prepare(session, address, format!(
                "UPDATE {row} SET last_epoch = ?, last_number = ?, last_at_us = ? WHERE id = 0 \
                 IF epoch = ? AND last_epoch = ? AND last_number = ?"
            ))
            .await?,
            beat: prepare(session, address, format!("UPDATE {row} SET beat = ? WHERE id = 0 IF epoch = ?")).await?,
            release: prepare(session, address, format!("UPDATE {row} SET holder = '' WHERE id = 0 IF epoch = ?")).await?,
        };
        Ok(Self {
            name: name(),
            statements,
            journal: Journal::prepare(session, address).await?,
            held: tokio::sync::Mutex::new(Held::default()),
            holds: AtomicBool::new(false),
        })
    }

    /// Whether this process was the writer when it last looked.
    pub(super) fn is_held(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }

    /// Waits until this process is the writer. Answers what has to be finished first.
    pub(super) async fn take(&self, shared: &Shared) -> Result<Taken> {
        let session = &shared.session;
        let (begun, mut told) = (Instant::now(), None::<Instant>);
        let mut watched: Option<(Seen, Instant)> = None;
        loop {
            let Some(seen) = self.look(session).await? else {
                // Whether it was us or somebody else who made the row shows in the next look.
                let mut patience = Patience::new();
                while let Err(e) = session.execute_unpaged(&self.statements.begin, ()).await {
                    patience.rest(failed(e)).await?;
                }
                continue;
            };
            let since = match &watched {
                Some((before, since)) if *before == seen => *since,
                _ => Instant::now(),
            };
            watched = Some((seen.clone(), since));
            if seen.holder.is_empty() || since.elapsed() >= LEASE {
                let epoch = seen.epoch + 1;
                let values = (epoch, self.name.as_str(), seen.epoch, seen.beat, seen.last.number);
                match session.execute_unpaged(&self.statements.take, values).await.map_err(failed).and_then(applied) {
                    Ok(true) => return self.taken(session, epoch, seen, begun).await,
                    Ok(false) => continue,
                    // Nobody knows yet: the row tells.
                    Err(e) => tracing::debug!(error = %e, "the lease was asked for and no answer came"),
                }
                if let Some(now) = self.look(session).await?
                    && now.epoch == epoch
                    && now.holder == self.name
                {
                    return self.taken(session, epoch, seen, begun).await;
                }
                continue;
            }
            if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                tracing::info!(holder = %seen.holder, lease = seen.epoch, "another process writes; standing by");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn taken(&self, session: &Session, epoch: i64, seen: Seen, begun: Instant) -> Result<Taken> {
        let last = seen.last;
        let changes = if last.number == 0 { Vec::new() } else { self.journal.read(session, last).await? };
        // The first time under this lease goes to the word that it has begun.
        let begins = Entry { epoch, number: 0, at_us: last.at_us + 1 };
        let known = Entry { at_us: begins.at_us, ..last };
        *self.held.lock().await = Held { epoch, last: known, beat: 0, moved: Some(Instant::now()) };
        self.holds.store(true, Ordering::Release);
        tracing::info!(
            lease = epoch,
            after = %seen.holder,
            waited_ms = begun.elapsed().as_millis() as u64,
            changes = changes.len(),
            "this process writes; the last batch is finished first"
        );
        Ok(Taken { changes, last, begins })
    }

    /// The time of the last batch, in microseconds: before that of every batch to come.
    pub(super) async fn time(&self) -> i64 {
        self.held.lock().await.last.at_us
    }

    /// Makes a batch the last one that counts, and answers where it is and with which time to write it.
    ///
    /// The batch before is written whole: its writer waits for that before it comes here again.
    pub(super) async fn next(&self, session: &Session, changes: &[Change]) -> Result<Entry> {
        let mut held = self.held.lock().await;
        if !self.is_held() {
            return Err(lost());
        }
        // Later than everything that counts, whatever the clock says.
        let at_us = now_us().max(held.last.at_us + 1);
        let number = if held.last.epoch == held.epoch { held.last.number + 1 } else { 1 };
        let entry = self.journal.write(session, held.epoch, number, at_us, changes).await?;
        // Only after the batch before: a node that hung may do long after what was asked of it, when later batches count.
        let values = (entry.epoch, entry.number, entry.at_us, held.epoch, held.last.epoch, held.last.number);
        let mut patience = Patience::new();
        let counts = loop {
            let named = session.execute_unpaged(&self.statements.count, values).await.map_err(failed).and_then(applied);
            if matches!(named, Ok(true)) {
                break true;
            }
            // It may have been done by an attempt whose answer was lost.
            match self.look(session).await? {
                Some(seen) if seen.epoch != held.epoch => break false,
                Some(seen) if seen.last == entry => break true,
                _ => {
                    patience.rest(named.err().unwrap_or_else(|| failed("the batch before is not the last one"))).await?
                }
            }
        };
        if !counts {
            self.holds.store(false, Ordering::Release);
            return Err(lost());
        }
        held.last = entry;
        held.moved = Some(Instant::now());
        Ok(entry)
    }

    /// Moves the row while nothing is written, so that others see that the holder lives. Ends with the lease.
    pub(super) fn keep(shared: &Arc<Shared>) {
        let shared = Arc::downgrade(shared);
        drop(tokio::spawn(async move {
            if let Some(shared) = shared.upgrade() {
                let lease = &shared.lease;
                let (now, last) = {
                    let held = lease.held.lock().await;
                    (held.epoch, held.last.epoch)
                };
                // Of the leases before, only the one of the named batch is still needed.
                for old in (now - 2).max(1)..now {
                    if old != last {
                        lease.journal.forget(&shared.session, old).await;
                    }
                }
            }
            loop {
                tokio::time::sleep(BEAT_EVERY / 4).await;
                let Some(shared) = shared.upgrade() else { return };
                let lease = &shared.lease;
                if let Err(e) = lease.beat(&shared.session).await {
                    tracing::warn!(error = %e, "the lease could not be renewed");
                }
                if !lease.is_held() {
                    shared.ended.lock().get_or_insert_with(lost);
                    return;
                }
            }
        }));
    }

    async fn beat(&self, session: &Session) -> Result<()> {
        // Whoever has it changes the row, and that is as good as a beat.
        let Ok(mut held) = self.held.try_lock() else { return Ok(()) };
        if !self.is_held() || held.moved.is_some_and(|at| at.elapsed() < BEAT_EVERY) {
            return Ok(());
        }
        let beat = held.beat + 1;
        let moved = session.execute_unpaged(&self.statements.beat, (beat, held.epoch)).await.map_err(failed);
        held.beat = beat;
        if applied(moved?)? {
            held.moved = Some(Instant::now());
        } else {
            self.holds.store(false, Ordering::Release);
            tracing::error!("another process has taken over writing");
        }
        Ok(())
    }

    /// Gives the lease back, so that the next writer need not wait for it to run out.
    pub(super) async fn release(&self, session: &Session) {
        if !self.holds.swap(false, Ordering::AcqRel) {
            return;
        }
        let held = self.held.lock().await;
        if let Err(e) = session.execute_unpaged(&self.statements.release, (held.epoch,)).await {
            tracing::warn!(error = %e, "the lease could not be given back; it runs out in a few seconds");
        }
    }

    /// Reads the row, as often as patience allows.
    async fn look(&self, session: &Session) -> Result<Option<Seen>> {
        let mut patience = Patience::new();
        loop {
            match self.read(session).await {
                Ok(seen) => return Ok(seen),
                Err(e) => patience.rest(e).await?,
            }
        }
    }

    async fn read(&self, session: &Session) -> Result<Option<Seen>> {
        let result = session.execute_unpaged(&self.statements.read, ()).await.map_err(failed)?;
        let row = result
            .into_rows_result()
            .map_err(failed)?
            .maybe_first_row::<(i64, i64, String, i64, i64, i64)>()
            .map_err(failed)?;
        Ok(row.map(|(epoch, beat, holder, last_epoch, number, at_us)| Seen {
            epoch,
            beat,
            holder,
            last: Entry { epoch: last_epoch, number, at_us },
        }))
    }
}

/// Whether a compare-and-set was done. The first column says so, whatever columns follow it.
fn applied(result: QueryResult) -> Result<bool> {
    let row: Row = result.into_rows_result().map_err(failed)?.first_row().map_err(failed)?;
    match row.columns.first() {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        _ => Err(failed("the answer to a compare-and-set does not say whether it was done")),
    }
}

fn lost() -> Error {
    Error::Engine("another process has taken over writing: restart this one, it will stand by".into())
}

/// Who we are, for people who look at the row, and to know our own lease again: host, process and moment.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}/{}", host.trim(), std::process::id(), now_us())
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
