//! Changes that are applied together.

use bytes::Bytes;

use crate::Key;

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub key: Key,
    /// The new value, or nothing for a row that goes.
    pub value: Option<Bytes>,
}

/// Changes that are applied together. Inside one partition they are atomic in every engine; across partitions the
/// embedded engine is atomic too, a cluster is not, and callers must converge when the batch is sent again.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a row, replacing what stands at its key.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.changes.push(Change { key, value: Some(value.into()) });
    }

    /// Removes a row if it is there.
    pub fn delete(&mut self, key: Key) {
        self.changes.push(Change { key, value: None });
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

    pub(crate) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }
}

impl From<Vec<Change>> for Batch {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes }
    }
}
