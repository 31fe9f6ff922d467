//! Keys that sort as they read.

use std::fmt;

use bytes::Bytes;

use crate::Table;

/// Longest key in bytes, table number included. Callers bound their atoms so that no legal key comes near it.
pub const KEY_BYTES_MAX: usize = 16_384;

/// One row's place: the table, its partition, and the position inside the partition.
///
/// The bytes are `[table id][partition][clustering]`. Partitions of one table must be prefix-free among themselves,
/// which atoms are by construction. Comparing two keys compares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    bytes: Bytes,
    split: u16,
}

impl Key {
    /// Starts a key of `table`.
    pub fn of(table: &Table) -> KeyBuilder {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(table.id);
        KeyBuilder { bytes, split: 0 }
    }

    pub(crate) fn from_parts(bytes: Bytes, split: u16) -> Self {
        Self { bytes, split }
    }

    /// The whole key, table number first.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The number of the table.
    pub fn table_id(&self) -> u8 {
        self.bytes[0]
    }

    /// The partition, without the table number.
    pub fn partition(&self) -> &[u8] {
        &self.bytes[1..usize::from(self.split)]
    }

    /// The position inside the partition; empty for its head.
    pub fn clustering(&self) -> &[u8] {
        &self.bytes[usize::from(self.split)..]
    }

    /// The partition this key is in.
    pub fn to_partition(&self) -> Partition {
        Partition { prefix: self.bytes.slice(..usize::from(self.split)) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.table_id())?;
        for b in self.partition() {
            write!(f, "{b:02x}")?;
        }
        f.write_str("|")?;
        for b in self.clustering() {
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// Builds a key column by column: first the partition, then, after [`KeyBuilder::cluster`], the position.
#[derive(Debug, Clone)]
pub struct KeyBuilder {
    bytes: Vec<u8>,
    split: u16,
}

impl KeyBuilder {
    /// Adds a self-delimiting byte string as it is.
    #[must_use]
    pub fn atom(mut self, atom: &[u8]) -> Self {
        self.bytes.extend_from_slice(atom);
        self
    }

    /// Adds self-delimiting bytes where they are written, without a copy of them in between.
    #[must_use]
    pub fn pack(mut self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        write(&mut self.bytes);
        self
    }

    /// Adds one byte.
    #[must_use]
    pub fn tag(mut self, tag: u8) -> Self {
        self.bytes.push(tag);
        self
    }

    /// Adds a time in microseconds so that later times come first.
    #[must_use]
    pub fn micros_desc(mut self, micros: i64) -> Self {
        self.bytes.extend_from_slice(&desc_i64(micros).to_be_bytes());
        self
    }

    /// Adds a time in microseconds so that earlier times come first.
    #[must_use]
    pub fn micros_asc(mut self, micros: i64) -> Self {
        self.bytes.extend_from_slice(&(!desc_i64(micros)).to_be_bytes());
        self
    }

    /// Adds a number so that larger ones come first.
    #[must_use]
    pub fn u32_desc(mut self, n: u32) -> Self {
        self.bytes.extend_from_slice(&(!n).to_be_bytes());
        self
    }

    /// Ends the partition; what follows is the position inside it.
    #[must_use]
    pub fn cluster(mut self) -> Self {
        debug_assert!(self.split == 0, "a key has one partition");
        self.split = u16::try_from(self.bytes.len()).unwrap_or(u16::MAX);
        self
    }

    /// The finished key. Without [`KeyBuilder::cluster`] it is the head of its partition.
    pub fn key(mut self) -> Key {
        if self.split == 0 {
            self = self.cluster();
        }
        debug_assert!(self.bytes.len() <= KEY_BYTES_MAX, "atoms are bounded by their makers");
        Key { bytes: exact(self.bytes), split: self.split }
    }

    /// The partition built so far.
    pub fn partition(self) -> Partition {
        let end = if self.split == 0 { self.bytes.len() } else { usize::from(self.split) };
        let mut bytes = self.bytes;
        bytes.truncate(end);
        Partition { prefix: exact(bytes) }
    }
}

/// Bytes without room to spare: otherwise they would need a second allocation to remember how much there is.
fn exact(bytes: Vec<u8>) -> Bytes {
    bytes.into_boxed_slice().into()
}

/// One partition of one table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Table number and partition columns.
    prefix: Bytes,
}

impl Partition {
    /// Table number and partition columns, as they begin every key of the partition.
    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// The key at a position of this partition.
    pub fn at(&self, clustering: &[u8]) -> Key {
        let mut bytes = Vec::with_capacity(self.prefix.len() + clustering.len());
        bytes.extend_from_slice(&self.prefix);
        bytes.extend_from_slice(clustering);
        Key { bytes: Bytes::from(bytes), split: self.split() }
    }

    /// The head of this partition.
    pub fn head(&self) -> Key {
        Key { bytes: self.prefix.clone(), split: self.split() }
    }

    pub(crate) fn split(&self) -> u16 {
        u16::try_from(self.prefix.len()).unwrap_or(u16::MAX)
    }
}

/// Maps a signed number to an unsigned one of opposite order.
fn desc_i64(n: i64) -> u64 {
    !(n as u64 ^ (1 << 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Table};

    static T: Table =
        Table { id: 9, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

    fn at(micros: i64) -> Key {
        Key::of(&T).atom(b"p").cluster().micros_desc(micros).key()
    }

    #[test]
    fn later_times_come_first_below_and_above_1970() {
        let times = [i64::MIN, -5_000_000, -1, 0, 1, 1_700_000_000_000_000, i64::MAX];
        for pair in times.windows(2) {
            assert!(at(pair[0]) > at(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn parts_come_back() {
        let key = Key::of(&T).atom(b"part").cluster().tag(3).atom(b"pos").key();
        assert_eq!(key.table_id(), 9);
        assert_eq!(key.partition(), b"part");
        assert_eq!(key.clustering(), b"\x03pos");
        assert_eq!(key.to_partition().at(b"\x03pos"), key);
        assert_eq!(key.to_partition().head(), Key::of(&T).atom(b"part").key());
    }
}
