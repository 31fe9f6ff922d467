//! Changes that are applied together.

use bytes::Bytes;

use crate::{Error, Key, Result, key::KEY_BYTES_MAX};

/// Longest value in bytes. Records are at most one megabyte; what the store keeps of them is not much more.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub key: Key,
    /// The new value, or nothing for a row that goes.
    pub value: Option<Bytes>,
}

impl Change {
    fn bytes(&self) -> u64 {
        (self.key.bytes().len() + self.value.as_ref().map_or(0, Bytes::len)) as u64
    }

    /// Refuses a key or a value that no engine has to keep.
    pub(crate) fn check(&self) -> Result<()> {
        let too_large = |what, asked, max| if asked > max { Err(Error::TooLarge { what, asked, max }) } else { Ok(()) };
        too_large("a key's length in bytes", self.key.bytes().len(), KEY_BYTES_MAX)?;
        too_large("a value's length in bytes", self.value.as_ref().map_or(0, Bytes::len), VALUE_BYTES_MAX)
    }
}

/// Changes that are applied together. Inside one partition they are atomic in every engine; across partitions the
/// embedded engine is atomic too, a cluster is not, and callers must converge when the batch is sent again.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: u64,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a row, replacing what stands at its key.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.push(Change { key, value: Some(value.into()) });
    }

    /// Removes a row if it is there.
    pub fn delete(&mut self, key: Key) {
        self.push(Change { key, value: None });
    }

    /// The changes, in the order they were added; for one key the last one holds.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push(change);
    }
}

impl From<Vec<Change>> for Batch {
    fn from(changes: Vec<Change>) -> Self {
        let bytes = changes.iter().map(Change::bytes).sum();
        Self { changes, bytes }
    }
}
