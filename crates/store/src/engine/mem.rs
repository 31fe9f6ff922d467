//! The engine of tests: an ordered map. It keeps every promise but the one to outlive the process.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use parking_lot::RwLock;

use super::Local;
use crate::{Batch, Key, Page, Result, Row, Scan};

/// An ordered map behind a lock.
#[derive(Debug, Default)]
pub struct Mem {
    rows: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl Mem {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Local for Mem {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let rows = self.rows.read();
        Ok(keys.iter().map(|k| rows.get(k.bytes()).cloned()).collect())
    }

    fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.rows.read().get(key.bytes()).cloned())
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        if scan.is_empty_range() {
            return Ok(Page::default());
        }
        let split = scan.partition.split();
        let rows = self.rows.read();
        let (from, to) = scan.bounds();
        let range = rows.range::<[u8], _>((from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice)));
        let row = |(k, v): (&Bytes, &Bytes)| Row { key: Key::from_parts(k.clone(), split), value: v.clone() };
        Ok(if scan.reverse {
            Page::bounded(range.rev().map(row), scan.limit)
        } else {
            Page::bounded(range.map(row), scan.limit)
        })
    }

    fn apply(&self, batch: &Batch) -> Result<()> {
        let mut rows = self.rows.write();
        for change in batch.changes() {
            match &change.value {
                Some(value) => rows.insert(change.key.bytes().clone(), value.clone()),
                None => rows.remove(change.key.bytes()),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn bytes_used(&self) -> u64 {
        self.rows.read().iter().map(|(k, v)| (k.len() + v.len()) as u64).sum()
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        self.each_from(table_id, &[], visit)
    }

    fn each_from(&self, table_id: u8, after: &[u8], visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        let rows = self.rows.read();
        let first = [table_id];
        let from = if after.is_empty() { Bound::Included(first.as_slice()) } else { Bound::Excluded(after) };
        for (k, v) in rows.range::<[u8], _>((from, Bound::Unbounded)) {
            if k[0] != table_id || !visit(k, v) {
                break;
            }
        }
        Ok(())
    }
}
