//! What stands in memcached under a key, and how it proves that it belongs there.
//!
//! ```text
//! 0   1    2      3         4..8         8..16                                16..
//! G   kind table  reserved  schema, LE   xxh3 of bytes 0..8, key and value    value
//! ```
//!
//! The sum covers the key, because keys are sent as hashes: what was put under another key, came back on a confused
//! connection, or was spoiled on its way, is nobody's value.

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3Default;

use crate::Key;

/// Begins everything we put. Another one in another format.
const MAGIC: u8 = b'G';

/// Form of the rows themselves; another number makes all values of before a miss.
const SCHEMA: u32 = 1;

/// Bytes before the value.
pub(crate) const HEADER_BYTES: usize = 16;

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// The row, as it is stored.
    Row(Bytes),
    /// There is no row.
    Absent,
    /// Ask the store, and do not fill: the row is being changed, is too large, or what stood here was spoiled.
    Bypass,
}

/// Why something that stands under a key says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// Another format, another schema, or another table.
    Foreign,
    /// The sum does not hold.
    Sum,
}

impl Content {
    fn kind(&self) -> u8 {
        match self {
            Self::Row(_) => 1,
            Self::Absent => 2,
            Self::Bypass => 3,
        }
    }

    /// As it is put.
    pub(crate) fn encode(&self, key: &Key) -> Bytes {
        let value: &[u8] = match self {
            Self::Row(row) => row,
            Self::Absent | Self::Bypass => &[],
        };
        let mut out = BytesMut::with_capacity(HEADER_BYTES + value.len());
        out.extend_from_slice(&[MAGIC, self.kind(), key.table_id(), 0]);
        out.put_u32_le(SCHEMA);
        let sum = sum(&out, key, value);
        out.put_u64_le(sum);
        out.extend_from_slice(value);
        out.freeze()
    }

    /// What was put, if it was put under this key.
    pub(crate) fn decode(bytes: &Bytes, key: &Key) -> Result<Self, Spoiled> {
        let (head, value) = bytes.split_at_checked(HEADER_BYTES).ok_or(Spoiled::Foreign)?;
        let (front, said) = head.split_at(8);
        if front[0] != MAGIC || front[2] != key.table_id() || front[4..] != SCHEMA.to_le_bytes() {
            return Err(Spoiled::Foreign);
        }
        if said != sum(front, key, value).to_le_bytes() {
            return Err(Spoiled::Sum);
        }
        match (front[1], value.is_empty()) {
            (1, _) => Ok(Self::Row(bytes.slice(HEADER_BYTES..))),
            (2, true) => Ok(Self::Absent),
            (3, true) => Ok(Self::Bypass),
            _ => Err(Spoiled::Foreign),
        }
    }
}

fn sum(front: &[u8], key: &Key, value: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(front);
    hash.update(key.bytes());
    hash.update(value);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Table};

    static T: Table =
        Table { id: 9, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Near, bucket_rows: None };

    #[test]
    fn what_is_put_comes_back_and_nothing_else_does() {
        let (key, other) = (Key::of(&T).atom(b"k").key(), Key::of(&T).atom(b"l").key());
        for content in
            [Content::Row(Bytes::from_static(b"row")), Content::Row(Bytes::new()), Content::Absent, Content::Bypass]
        {
            let bytes = content.encode(&key);
            assert!(!bytes.is_empty(), "a stub is empty, and no value of ours is");
            assert_eq!(Content::decode(&bytes, &key), Ok(content.clone()));
            assert_eq!(Content::decode(&bytes, &other), Err(Spoiled::Sum));
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut spoiled = bytes.to_vec();
                    spoiled[at] ^= 1 << bit;
                    assert!(Content::decode(&spoiled.into(), &key).is_err(), "byte {at}, bit {bit}");
                }
                assert!(Content::decode(&bytes.slice(..at), &key).is_err(), "cut at {at}");
            }
            let longer: Bytes = [&bytes[..], b"x"].concat().into();
            assert!(Content::decode(&longer, &key).is_err());
        }
    }
}
