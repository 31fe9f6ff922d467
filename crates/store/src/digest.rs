//! A short answer to "are these two stores the same?": rows and a hash for each table, whatever order an engine has them in.
//!
//! Tests and audits compare a store that crashed and went on with one that did not, or two engines with one another.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::{Result, Store};

/// What a table holds, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The table's number.
    pub table_id: u8,
    /// Its rows.
    pub rows: u64,
    /// Bytes of its keys and values.
    pub bytes: u64,
    /// Sum of a hash (xxh3, 128 bits) of each row, over length and bytes of its key and its value. The same rows give the
    /// same sum in every engine, version and machine, in whatever order they come.
    pub hash: u128,
}

/// Reads whole tables and sums them up, one [`Digest`] for each number asked, in the order asked.
///
/// It reads everything and blocks while it does: for tests and tools, not for a serving process's async threads. What
/// is applied meanwhile may or may not be seen, so let writing rest first.
pub fn digest(store: &Store, table_ids: &[u8]) -> Result<Vec<Digest>> {
    table_ids
        .iter()
        .map(|&table_id| {
            let mut sum = Sum::default();
            store.local().each(table_id, &mut |key, value| {
                sum.add(key, value);
                true
            })?;
            Ok(sum.of(table_id))
        })
        .collect()
}

/// A digest in the making.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    rows: u64,
    bytes: u64,
    hash: u128,
}

impl Sum {
    /// Adds a row.
    pub(crate) fn add(&mut self, key: &[u8], value: &Bytes) {
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        let mut hasher = Xxh3::new();
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value);
        self.hash = self.hash.wrapping_add(hasher.digest128());
    }

    /// All that was added, as the digest of a table.
    pub(crate) fn of(self, table_id: u8) -> Digest {
        Digest { table_id, rows: self.rows, bytes: self.bytes, hash: self.hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Cache, Key, Table};

    static A: Table =
        Table { id: 1, name: "a", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };
    static B: Table =
        Table { id: 2, name: "b", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

    type Rows<'a> = &'a [(&'static Table, &'a [u8], &'a [u8])];

    fn store(rows: Rows<'_>) -> Store {
        let store = Store::mem(&[&A, &B]);
        let mut batch = Batch::new();
        for (table, key, value) in rows {
            batch.put(Key::of(table).atom(key).key(), value.to_vec());
        }
        store.apply_now(&batch).unwrap();
        store
    }

    #[test]
    fn the_same_rows_give_the_same_digest_in_whatever_order_they_came() {
        let one = store(&[(&A, b"x", b"1"), (&A, b"y", b"2"), (&B, b"x", b"1")]);
        let two = store(&[(&B, b"x", b"1"), (&A, b"y", b"2"), (&A, b"x", b"1")]);
        assert_eq!(digest(&one, &[1, 2]).unwrap(), digest(&two, &[1, 2]).unwrap());
        assert_eq!(digest(&one, &[2, 1]).unwrap()[1].rows, 2);
        assert_eq!(digest(&one, &[3]).unwrap()[0].rows, 0);
    }

    #[test]
    fn bytes_that_move_between_key_and_value_or_between_rows_change_it() {
        let variants: [Rows<'_>; 5] = [
            &[(&A, b"xy", b"z")],
            &[(&A, b"x", b"yz")],
            &[(&A, b"x", b"y"), (&A, b"z", b"")],
            &[(&A, b"x", b""), (&A, b"y", b"z")],
            &[(&A, b"xy", b"zz")],
        ];
        let mut hashes: Vec<u128> = variants.iter().map(|rows| digest(&store(rows), &[1]).unwrap()[0].hash).collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), variants.len());
    }
}
