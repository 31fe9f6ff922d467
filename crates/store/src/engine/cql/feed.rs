//! What has changed, told to other processes.
//!
//! One row names the last batch whose partitions are written. Whoever keeps answers in memory reads that row often, takes
//! the batches since its last look from the journal, and forgets what they changed. A batch that is named in the lease
//! row only is not told yet: an answer read between then and its being written would be kept, and be old for good.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use scylla::{client::session::Session, statement::prepared::PreparedStatement};
use tokio::runtime::Handle;

use super::{
    Address, Patience, Shared, WRITE_ATTEMPT_MAX, failed,
    journal::{Entry, SLOTS},
    wait,
};
use crate::{
    Batch, Error, Result,
    engine::{Follow, Told},
};

/// How often the row is read.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Batches of the journal that may be overwritten while they are read, and are therefore not relied on.
const SLOTS_SPARE: i64 = 64;

/// Batches told at once, and read side by side.
const BATCHES_TOLD_MAX: i64 = 64;
const BATCHES_TOGETHER: usize = 16;

/// The statements of the row.
pub(super) struct Feed {
    tell: PreparedStatement,
    look: PreparedStatement,
}

pub(super) fn create(keyspace: &str) -> String {
    format!("CREATE TABLE IF NOT EXISTS {keyspace}.feed (id int PRIMARY KEY, epoch bigint, number bigint)")
}

impl Feed {
    pub(super) async fn prepare(session: &Session, address: &Address) -> Result<Self> {
        let keyspace = &address.keyspace;
        let insert = format!("INSERT INTO {keyspace}.feed (id, epoch, number) VALUES (0, ?, ?)");
        let mut tell = session.prepare(insert).await.map_err(failed)?;
        tell.set_is_idempotent(true);
        tell.set_consistency(address.writes.consistency());
        tell.set_request_timeout(Some(WRITE_ATTEMPT_MAX));
        let select = format!("SELECT epoch, number FROM {keyspace}.feed WHERE id = 0");
        let mut look = session.prepare(select).await.map_err(failed)?;
        look.set_is_idempotent(true);
        // A majority: what was told to one look must not be hidden from the next.
        look.set_consistency(address.writes.consistency());
        Ok(Self { tell, look })
    }

    /// Says that the partitions of a batch are written.
    pub(super) async fn tell(&self, session: &Session, entry: Entry) -> Result<()> {
        let mut tell = self.tell.clone();
        // With the time of the batch, so that a writer who wakes up late says nothing that is over.
        tell.set_timestamp(Some(entry.at_us));
        let mut patience = Patience::new();
        while let Err(e) = session.execute_unpaged(&tell, (entry.epoch, entry.number)).await {
            patience.rest(failed(e)).await?;
        }
        Ok(())
    }

    async fn look(&self, session: &Session) -> Result<(i64, i64)> {
        let result = session.execute_unpaged(&self.look, ()).await.map_err(failed)?;
        let row = result.into_rows_result().map_err(failed)?.maybe_first_row::<(i64, i64)>().map_err(failed)?;
        Ok(row.unwrap_or_default())
    }
}

/// A process that only reads, and what it was told last.
pub(super) struct Follower {
    shared: Arc<Shared>,
    runtime: Handle,
    /// The lease and the number of the last batch told; nothing before the first look.
    told: Option<(i64, i64)>,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, runtime: Handle) -> Self {
        Self { shared, runtime, told: None }
    }
}

impl Follow for Follower {
    fn next(&mut self) -> Result<Told> {
        let (shared, told) = (Arc::clone(&self.shared), self.told);
        let looked = wait(&self.runtime, async move {
            let now = shared.feed.look(&shared.session).await?;
            let Some((epoch, number)) = told.filter(|told| *told != now) else {
                if told.is_some() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                return Ok((now, if told.is_some() { Told::Nothing } else { Told::Gap }));
            };
            // Another writer, or more than the journal still has for certain.
            if epoch != now.0 || now.1 - number > SLOTS - SLOTS_SPARE {
                return Ok((now, Told::Gap));
            }
            let last = now.1.min(number + BATCHES_TOLD_MAX);
            let wanted: Vec<_> =
                (number + 1..=last).map(|number| shared.lease.journal.find(&shared.session, epoch, number)).collect();
            let found: Vec<_> = stream::iter(wanted).buffered(BATCHES_TOGETHER).try_collect().await?;
            let batches: Option<Vec<Batch>> = found.into_iter().map(|changes| changes.map(Batch::from)).collect();
            Ok(match batches {
                Some(batches) => ((epoch, last), Told::Batches(batches, (now.1 - last).unsigned_abs())),
                None => (now, Told::Gap),
            })
        });
        match looked {
            Ok((now, what)) => {
                self.told = Some(now);
                Ok(what)
            }
            Err(Error::Closed) => Err(Error::Closed),
            Err(e) => {
                // Not at once again: whoever waits for us need not hurry either.
                std::thread::sleep(LOOK_EVERY);
                Err(e)
            }
        }
    }
}
