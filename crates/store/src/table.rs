//! A table is a value: its number on disk, its columns, and how it may be cached.

use bytes::Bytes;

use crate::Key;

/// The declared shape of some rows.
///
/// The number is on disk: it is never reused and never renumbered. Columns are declared for people and for the page
/// of documentation made from them; the engines see a partition, a position in it and a value, each a byte string.
#[derive(Debug)]
pub struct Table {
    /// On disk, 1..=255. Never reused, never renumbered.
    pub id: u8,
    /// Snake case, unique; the label of metrics.
    pub name: &'static str,
    /// What one scan addresses.
    pub partition: &'static [Column],
    /// Order inside a partition. A row with an empty position is the partition's head and holds its counts.
    pub clustering: &'static [Column],
    /// What the row says.
    pub value: &'static [Column],
    /// How answers may be kept.
    pub cache: Cache,
    /// After about so many rows an engine over a cluster cuts a partition into buckets, and no partition of the cluster
    /// has more than about twice as many; without it a partition is never cut. What is cut is still one partition to
    /// whoever reads it, but for this: a batch that changes rows of two buckets may be seen in part for a moment.
    pub bucket_rows: Option<u32>,
}

/// One declared column.
#[derive(Debug)]
pub struct Column {
    /// Snake case.
    pub name: &'static str,
    /// How it is written.
    pub kind: Kind,
}

/// How a column is written into a key or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Self-delimiting bytes: no encoding is a prefix of another, so atoms can be put one after the other.
    Atom,
    /// One byte that names the kind of the row among several that share a partition.
    Tag,
    /// Microseconds since 1970, newest first.
    MicrosDesc,
    /// An unsigned 32-bit number, largest first.
    U32Desc,
    /// Free bytes; last in its part.
    Bytes,
}

/// How answers of a table may be kept in memory.
#[derive(Debug, Clone, Copy)]
pub enum Cache {
    /// Always asked of the engine.
    Never,
    /// Kept as stored.
    Near,
    /// Kept as it leaves: the function makes, from a key and a stored value, the bytes that callers want.
    NearAs(fn(&Key, &Bytes) -> Bytes),
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Table {}
