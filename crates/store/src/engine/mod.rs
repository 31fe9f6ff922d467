//! Engines behind the three verbs. All keep the promises that `conformance` lists.

pub mod cql;
mod folder;
pub mod lsm;
pub mod mem;
mod recovery;
mod space;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{Batch, Key, Page, Result, Scan};

/// An engine, asked from a thread that may block: the writer's, the store's own, a tool's.
pub trait Local: Send + Sync {
    /// The value at each key, in the order asked. An engine may, but need not, read them all at one moment.
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>>;
    /// One value, for the writer: the same as a `get` of one key while nothing is being applied.
    fn get_one(&self, key: &Key) -> Result<Option<Bytes>>;
    /// One partition, in order, as it was at one moment: no batch is seen in part.
    fn scan(&self, scan: &Scan) -> Result<Page>;
    /// Several ranges, answered in the order asked, not all of them as of one moment.
    fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Page>> {
        scans.iter().map(|scan| self.scan(scan)).collect()
    }
    /// All changes or none. Survives the death of the process; survives a power cut after the next `sync`.
    ///
    /// [`crate::Error::Full`] means that nothing was applied and that the same batch may be applied later. After any
    /// other error the engine takes no more changes.
    fn apply(&self, batch: &Batch) -> Result<()>;
    /// Makes everything applied so far survive a power cut.
    fn sync(&self) -> Result<()>;
    /// Nothing was applied for a while: a good moment to tidy up.
    fn rest(&self) -> Result<()> {
        Ok(())
    }
    /// Bytes on disk, or in memory for an engine without one.
    fn bytes_used(&self) -> u64;
    /// All rows of a table, for copies, audits and comparisons, in an order that is the engine's own and always the same:
    /// that of keys in this process, that of partitions' tokens in a cluster. Calls back with each row until it says
    /// stop. The callback must not call the engine.
    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()>;
    /// The same, from the first row after `after`: the head of a partition as a whole key, the number of its table
    /// included. A cluster leaves out all rows of that partition.
    fn each_from(&self, table_id: u8, after: &[u8], visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        self.each(table_id, &mut |key, value| key <= after || visit(key, value))
    }
    /// What the engine can say about itself.
    fn vitals(&self) -> Vitals {
        Vitals { bytes_used: self.bytes_used(), ..Vitals::default() }
    }
    /// Waits until this process is the one that writes, where several could be. The writer asks before its first batch;
    /// who wants to know that it stands by asks earlier.
    fn lead(&self) -> Result<()> {
        Ok(())
    }
    /// Why no more changes are taken, once that is so for good and was not asked for: the process should end.
    fn ended(&self) -> Option<crate::Error> {
        None
    }
    /// The way to ask without blocking a thread, for an engine that waits for a network.
    fn remote(&self) -> Option<&dyn Remote> {
        None
    }
    /// The way to learn what other processes change, for an engine that several share.
    fn follow(&self) -> Option<Box<dyn Follow>> {
        None
    }
    /// Changes how many bytes of the disk must stay free for changes to be taken. Engines without a disk ignore it.
    fn set_disk_reserve(&self, _bytes: u64) {}
}

/// An engine behind a network: many questions under way, and no thread that waits for them.
///
/// Answers do not borrow the engine, which bounds by itself what is in flight. Dropping one ends what it still had to ask.
pub trait Remote: Send + Sync {
    /// The value at each key, in the order asked.
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Option<Bytes>>>>;
    /// One partition after the other in order, answered in the order asked.
    fn scan(&self, scans: Vec<Scan>) -> BoxFuture<'static, Result<Vec<Page>>>;
}

/// Learns what other processes change.
pub trait Follow: Send {
    /// What has been changed since the last call; waits a little where nothing has. After [`crate::Error::Closed`] there
    /// is nothing more to come; after any other error it goes on as if it had not been asked.
    fn next(&mut self) -> Result<Told>;
}

/// What somebody who follows is told.
#[derive(Debug)]
pub enum Told {
    /// Nothing has changed, up to now.
    Nothing,
    /// These were applied, in this order, and so many more are known of and not told yet.
    Batches(Vec<Batch>, u64),
    /// More than can be told: what was kept from before now is to be forgotten. Always the first answer.
    Gap,
}

/// What an engine can say about itself. What an engine does not have is 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vitals {
    /// Bytes on disk, or in memory for an engine without one.
    pub bytes_used: u64,
    /// Bytes free on the disk when last looked.
    pub disk_free_bytes: u64,
    /// Journals on the disk, the one being written included. A number that only grows means that they are not
    /// replaced by table files, and that the next start will take long.
    pub journals: u64,
    /// Bytes of changes that are in memory and in journals, not yet in table files.
    pub memtable_bytes: u64,
    /// Table files in use.
    pub tables: u64,
    /// Those of them that are not yet merged into the levels. Every read looks into each; from 20 on writing is slowed.
    pub young_tables: u64,
    /// Reads of a cluster that were sent to a second node because they were slow, since start.
    pub hedges: u64,
    /// Reads of a cluster that were sent again because they failed, since start.
    pub retries: u64,
}
