//! Batches written ahead: what makes a batch of many partitions whole on a cluster that knows no such thing.
//!
//! A batch goes into the journal before it counts; it counts once the lease row names it (`lease`); only then are its
//! partitions written. Whoever takes the lease over writes the partitions of the named batch again, with the same time,
//! which changes nothing where they are written already. So a batch stands whole or not at all, wherever its writer
//! ends.
//!
//! The slots of a writer are a ring. The named batch and those before it stay for a while, and so the journal is also
//! the feed from which other processes learn what has changed (`feed`); who is away for longer than the ring is long
//! has to begin anew.

use bytes::Bytes;
use futures::{StreamExt, stream};
use scylla::{client::session::Session, statement::prepared::PreparedStatement};
use xxhash_rust::xxh3::xxh3_64;

use super::{Address, Patience, WRITE_ATTEMPT_MAX, failed};
use crate::{Change, Error, Key, Result};

/// First byte of a batch in the journal.
const LAYOUT: u8 = 1;

/// Bytes of one row of the journal.
const CHUNK_BYTES: usize = 1 << 20;

/// Batches that stay in the journal. Most are some tens of kilobytes; a writer makes tens of them a second.
pub(super) const SLOTS: i64 = 512;

/// Slots removed side by side.
const FORGOTTEN_TOGETHER: usize = 32;

/// What comes before the changes: layout, checksum of what follows it, length of all, number of the batch.
const HEADER_BYTES: usize = 1 + 8 + 8 + 8;

/// The statements of the journal.
pub(super) struct Journal {
    put: PreparedStatement,
    get: PreparedStatement,
    forget: PreparedStatement,
}

/// Where a batch is in the journal, as the lease row names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// The lease under which it was written.
    pub(super) epoch: i64,
    /// Its number under that lease, from 1 on; 0 for none.
    pub(super) number: i64,
    /// The time with which its rows are written, in microseconds.
    pub(super) at_us: i64,
}

pub(super) fn create(keyspace: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.journal \
         (epoch bigint, slot bigint, chunk int, v blob, PRIMARY KEY ((epoch, slot), chunk))"
    )
}

async fn prepare(session: &Session, address: &Address, text: String) -> Result<PreparedStatement> {
    let mut statement = session.prepare(text).await.map_err(failed)?;
    statement.set_is_idempotent(true);
    statement.set_consistency(address.writes.consistency());
    statement.set_request_timeout(Some(WRITE_ATTEMPT_MAX));
    Ok(statement)
}

impl Journal {
    pub(super) async fn prepare(session: &Session, address: &Address) -> Result<Self> {
        let keyspace = &address.keyspace;
        Ok(Self {
            put: prepare(
                session,
                address,
                format!("INSERT INTO {keyspace}.journal (epoch, slot, chunk, v) VALUES (?, ?, ?, ?)"),
            )
            .await?,
            get: prepare(session, address, format!("SELECT v FROM {keyspace}.journal WHERE epoch = ? AND slot = ?"))
                .await?,
            forget: prepare(session, address, format!("DELETE FROM {keyspace}.journal WHERE epoch = ? AND slot = ?"))
                .await?,
        })
    }

    /// Writes a batch ahead. It does not count yet.
    pub(super) async fn write(
        &self,
        session: &Session,
        epoch: i64,
        number: i64,
        at_us: i64,
        changes: &[Change],
    ) -> Result<Entry> {
        let bytes = encode(number, changes);
        let mut put = self.put.clone();
        put.set_timestamp(Some(at_us));
        for (chunk, part) in (0_i32..).zip(bytes.chunks(CHUNK_BYTES)) {
            let mut patience = Patience::new();
            while let Err(e) = session.execute_unpaged(&put, (epoch, number % SLOTS, chunk, part)).await {
                patience.rest(failed(e)).await?;
            }
        }
        Ok(Entry { epoch, number, at_us })
    }

    /// Reads the batch that the lease row names.
    pub(super) async fn read(&self, session: &Session, entry: Entry) -> Result<Vec<Change>> {
        let mut patience = Patience::new();
        loop {
            match self.find(session, entry.epoch, entry.number).await {
                Ok(Some(changes)) => return Ok(changes),
                Ok(None) => return Err(damaged(entry)),
                Err(e) => patience.rest(e).await?,
            }
        }
    }

    /// Reads a batch that may have made place for a later one; then there is none.
    pub(super) async fn find(&self, session: &Session, epoch: i64, number: i64) -> Result<Option<Vec<Change>>> {
        let result = session.execute_unpaged(&self.get, (epoch, number % SLOTS)).await.map_err(failed)?;
        let result = result.into_rows_result().map_err(failed)?;
        let mut bytes = Vec::new();
        for row in result.rows::<(&[u8],)>().map_err(failed)? {
            bytes.extend_from_slice(row.map_err(failed)?.0);
        }
        Ok(decode(number, bytes))
    }

    /// Removes what a writer before this one has left. What is not removed takes some room and does no harm.
    pub(super) async fn forget(&self, session: &Session, epoch: i64) {
        let slots: Vec<_> = (0..SLOTS).map(|slot| session.execute_unpaged(&self.forget, (epoch, slot))).collect();
        let failed =
            stream::iter(slots).buffer_unordered(FORGOTTEN_TOGETHER).filter(|it| std::future::ready(it.is_err()));
        let failed = failed.count().await;
        if failed > 0 {
            tracing::debug!(epoch, failed, "parts of an old journal were not removed");
        }
    }
}

fn damaged(entry: Entry) -> Error {
    Error::Engine(format!(
        "the last batch of the writer before (lease {}, number {}) cannot be finished: it is not in the journal as it \
         was written. Repair the keyspace (nodetool repair) if nodes were lost, or restore it from a snapshot",
        entry.epoch, entry.number
    ))
}

/// After the header, for each change: `[split: 2][key length: 4][key][0 or 1][value length: 4][value]`.
fn encode(number: i64, changes: &[Change]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    for Change { key, value } in changes {
        let split = u16::try_from(1 + key.partition().len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&split.to_be_bytes());
        bytes.extend_from_slice(&length(key.bytes()));
        bytes.extend_from_slice(key.bytes());
        bytes.push(u8::from(value.is_some()));
        let value = value.as_deref().unwrap_or_default();
        bytes.extend_from_slice(&length(value));
        bytes.extend_from_slice(value);
    }
    bytes[0] = LAYOUT;
    let all = bytes.len() as u64;
    bytes[9..17].copy_from_slice(&all.to_be_bytes());
    bytes[17..25].copy_from_slice(&number.to_be_bytes());
    let sum = xxh3_64(&bytes[9..]);
    bytes[1..9].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The changes of a batch, if it is this one and whole. What follows it is left from a longer one before it.
fn decode(wanted: i64, mut bytes: Vec<u8>) -> Option<Vec<Change>> {
    let eight = |bytes: &[u8], from: usize| bytes[from..from + 8].try_into().map(u64::from_be_bytes).ok();
    if bytes.len() < HEADER_BYTES || bytes[0] != LAYOUT || eight(&bytes, 17)? != u64::try_from(wanted).ok()? {
        return None;
    }
    let all = usize::try_from(eight(&bytes, 9)?).ok()?;
    if all < HEADER_BYTES || all > bytes.len() || eight(&bytes, 1)? != xxh3_64(&bytes[9..all]) {
        return None;
    }
    bytes.truncate(all);
    let mut rest = Bytes::from(bytes).slice(HEADER_BYTES..);
    let mut take = |length: usize| (rest.len() >= length).then(|| rest.split_to(length));
    let number = |bytes: Bytes| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let mut changes = Vec::new();
    while let Some(split) = take(2) {
        let split = number(split);
        let length = number(take(4)?);
        let key = take(length)?;
        let stands = take(1)?[0] == 1;
        let length = number(take(4)?);
        let value = take(length)?;
        if split > key.len() {
            return None;
        }
        changes.push(Change { key: Key::from_parts(key, u16::try_from(split).ok()?), value: stands.then_some(value) });
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Table};

    static T: Table =
        Table { id: 9, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

    #[test]
    fn a_batch_comes_back_as_it_was_and_no_damage_goes_unseen() {
        let key = |n: u8| Key::of(&T).atom(b"part").cluster().tag(n).key();
        let changes = vec![
            Change { key: key(1), value: Some(Bytes::from_static(b"value")) },
            Change { key: Key::of(&T).atom(b"head").key(), value: Some(Bytes::new()) },
            Change { key: key(2), value: None },
        ];
        let bytes = encode(7, &changes);
        let mut longer = bytes.clone();
        longer.extend_from_slice(b"left over");
        for bytes in [bytes.clone(), longer] {
            let back = decode(7, bytes).unwrap();
            assert_eq!(back, changes);
            assert_eq!(back[0].key.partition(), b"part");
        }
        assert_eq!(decode(8, bytes.clone()), None, "another batch is in its slot");
        assert_eq!(decode(1, encode(1, &[])), Some(vec![]));
        for n in 0..bytes.len() {
            let mut spoiled = bytes.clone();
            spoiled[n] ^= 1;
            assert_eq!(decode(7, spoiled), None, "byte {n}");
            assert_eq!(decode(7, bytes[..n].to_vec()), None, "cut at {n}");
        }
    }
}
