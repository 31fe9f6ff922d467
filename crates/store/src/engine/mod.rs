//! Engines behind the three verbs. All keep the promises that `conformance` lists.

pub mod lsm;
pub mod mem;

use bytes::Bytes;

use crate::{Batch, Key, Page, Result, Scan};

/// An engine that lives in this process and answers without waiting for a network. Calls may block on the disk, so
/// they are made from the store's own threads, never from an async worker.
pub trait Local: Send + Sync {
    /// The value at each key, in the order asked.
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>>;
    /// One value. The same as a `get` of one key, without its vectors.
    fn get_one(&self, key: &Key) -> Result<Option<Bytes>>;
    /// One partition, in order.
    fn scan(&self, scan: &Scan) -> Result<Page>;
    /// All changes or none. Survives the death of the process; survives a power cut after the next `sync`.
    fn apply(&self, batch: &Batch) -> Result<()>;
    /// Makes everything applied so far survive a power cut.
    fn sync(&self) -> Result<()>;
    /// Bytes on disk, or in memory for an engine without one.
    fn bytes_used(&self) -> u64;
    /// All keys of a table in order, for copies, audits and comparisons. Calls back with each row until it says stop.
    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()>;
}
