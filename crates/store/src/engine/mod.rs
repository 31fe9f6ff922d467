//! Engines behind the three verbs. All keep the promises that `conformance` lists.

mod folder;
pub mod lsm;
pub mod mem;
mod recovery;
mod space;

use bytes::Bytes;

use crate::{Batch, Key, Page, Result, Scan};

/// An engine that lives in this process and answers without waiting for a network. Calls may block on the disk, so
/// they are made from the store's own threads, never from an async worker.
pub trait Local: Send + Sync {
    /// The value at each key, in the order asked. An engine may, but need not, read them all at one moment.
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>>;
    /// One value, for the writer: the same as a `get` of one key while nothing is being applied.
    fn get_one(&self, key: &Key) -> Result<Option<Bytes>>;
    /// One partition, in order, as it was at one moment: no batch is seen in part.
    fn scan(&self, scan: &Scan) -> Result<Page>;
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
    /// All keys of a table in order, for copies, audits and comparisons. Calls back with each row until it says stop.
    /// The callback must not call the engine.
    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()>;
    /// The same, from the first key after `after`: a whole key, the number of its table included.
    fn each_from(&self, table_id: u8, after: &[u8], visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        self.each(table_id, &mut |key, value| key <= after || visit(key, value))
    }
    /// What the engine can say about itself.
    fn vitals(&self) -> Vitals {
        Vitals { bytes_used: self.bytes_used(), ..Vitals::default() }
    }
    /// Changes how many bytes of the disk must stay free for changes to be taken. Engines without a disk ignore it.
    fn set_disk_reserve(&self, _bytes: u64) {}
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
}
