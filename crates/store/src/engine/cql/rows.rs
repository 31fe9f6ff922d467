//! The statements of every table, and how its keys and ranges are put into them.
//!
//! A store's table is one CQL table: `p` is the number of the store's table and the partition, `c` the position, `v` the
//! value. Nothing else of CQL is used for rows, so that Cassandra and ScyllaDB do the same with them.

use std::ops::Bound;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{client::session::Session, statement::prepared::PreparedStatement};

use super::{Address, Agreement, failed};
use crate::{Cache, Key, Result, Scan, Table};

/// Statements that are prepared side by side.
const PREPARED_TOGETHER: usize = 16;

/// Rows of one page where a whole table is read. Records are a kilobyte; the largest page is then about a megabyte.
const ROWS_PER_PAGE: i32 = 1_000;

/// The statements of one table.
pub(super) struct Rows {
    pub(super) cache: Cache,
    pub(super) put: PreparedStatement,
    pub(super) delete: PreparedStatement,
    /// What must see every write that was answered.
    pub(super) fresh: Reads,
    /// What need not, if the operator says so.
    pub(super) relaxed: Reads,
}

/// The statements that read one table.
#[derive(Clone)]
pub(super) struct Reads {
    /// One row by its key.
    pub(super) get: PreparedStatement,
    /// Several rows of one partition by their positions.
    pub(super) get_some: PreparedStatement,
    /// Ranges: from a position on, without and with an end, in order and in reverse.
    scans: [PreparedStatement; 4],
    /// Whole tables, in the order of tokens.
    pub(super) each: PreparedStatement,
    pub(super) each_from: PreparedStatement,
}

/// The name of a table in the cluster. A suffix keeps clear of the words of CQL (`on`, `by`).
pub(super) fn table_name(table: &Table) -> String {
    format!("{}_rows", table.name)
}

/// What makes a table. The longest rows are records of some kilobytes, most are far shorter.
pub(super) fn create(keyspace: &str, table: &Table) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.{} (p blob, c blob, v blob, PRIMARY KEY (p, c)) \
         WITH CLUSTERING ORDER BY (c ASC) AND compaction = {{'class': 'LeveledCompactionStrategy'}}",
        table_name(table)
    )
}

impl Rows {
    pub(super) async fn prepare(session: &Session, table: &Table, address: &Address) -> Result<Self> {
        let name = format!("{}.{}", address.keyspace, table_name(table));
        let texts = [
            format!("INSERT INTO {name} (p, c, v) VALUES (?, ?, ?)"),
            format!("DELETE FROM {name} WHERE p = ? AND c = ?"),
            format!("SELECT v FROM {name} WHERE p = ? AND c = ?"),
            format!("SELECT c, v FROM {name} WHERE p = ? AND c IN ?"),
            format!("SELECT c, v FROM {name} WHERE p = ? AND c >= ? ORDER BY c ASC LIMIT ?"),
            format!("SELECT c, v FROM {name} WHERE p = ? AND c >= ? ORDER BY c DESC LIMIT ?"),
            format!("SELECT c, v FROM {name} WHERE p = ? AND c >= ? AND c < ? ORDER BY c ASC LIMIT ?"),
            format!("SELECT c, v FROM {name} WHERE p = ? AND c >= ? AND c < ? ORDER BY c DESC LIMIT ?"),
            format!("SELECT p, c, v FROM {name}"),
            format!("SELECT p, c, v FROM {name} WHERE token(p) >= token(?)"),
        ];
        let prepared: Vec<PreparedStatement> =
            stream::iter(texts).map(|text| prepared(session, text)).buffered(PREPARED_TOGETHER).try_collect().await?;
        let [put, delete, get, get_some, a, b, c, d, each, each_from] =
            <[PreparedStatement; 10]>::try_from(prepared).map_err(|_| failed("statements are missing"))?;
        let reads = Reads { get, get_some, scans: [a, b, c, d], each, each_from };
        Ok(Self {
            cache: table.cache,
            put,
            delete,
            relaxed: reads.clone().asking(address.reads, address),
            fresh: reads.asking(address.writes, address),
        })
    }
}

async fn prepared(session: &Session, text: String) -> Result<PreparedStatement> {
    let mut statement = session.prepare(text).await.map_err(failed)?;
    // Rows are put and deleted whole, with a time of ours: to do it twice is to do it once.
    statement.set_is_idempotent(true);
    statement.set_use_cached_result_metadata(true);
    Ok(statement)
}

impl Reads {
    fn asking(mut self, agreement: Agreement, address: &Address) -> Self {
        let one_row = [&mut self.get, &mut self.get_some];
        let pages = [&mut self.each, &mut self.each_from];
        for statement in one_row.into_iter().chain(&mut self.scans).chain(pages) {
            statement.set_consistency(agreement.consistency());
            statement.set_request_timeout(Some(address.read_deadline));
        }
        self.each.set_page_size(ROWS_PER_PAGE);
        self.each_from.set_page_size(ROWS_PER_PAGE);
        self
    }

    /// The statement that answers a range.
    pub(super) fn scan(&self, range: &Range) -> &PreparedStatement {
        &self.scans[usize::from(range.to.is_some()) * 2 + usize::from(range.reverse)]
    }
}

/// A scan as the cluster is asked for it.
pub(super) struct Range {
    pub(super) from: Vec<u8>,
    pub(super) to: Option<Vec<u8>>,
    pub(super) reverse: bool,
    /// One row more than the caller wants shows whether more follow.
    pub(super) limit: i32,
}

impl Range {
    pub(super) fn of(scan: &Scan) -> Self {
        let split = usize::from(scan.partition.split());
        let (from, to) = scan.bounds();
        let position = |key: &[u8]| key.get(split..).unwrap_or_default().to_vec();
        let from = match from {
            Bound::Unbounded => Vec::new(),
            Bound::Included(key) => position(&key),
            // The next position after it, so that one form of the statement serves both.
            Bound::Excluded(key) => [&position(&key)[..], &[0]].concat(),
        };
        let to = match to {
            // An end outside of the partition is none.
            Bound::Excluded(key) if key.starts_with(scan.partition.prefix()) => Some(position(&key)),
            _ => None,
        };
        Self { from, to, reverse: scan.reverse, limit: i32::try_from(scan.limit).unwrap_or(i32::MAX - 1) + 1 }
    }
}

/// A key from a row that was read.
pub(super) fn key(prefix: &[u8], position: &[u8]) -> Key {
    let mut bytes = Vec::with_capacity(prefix.len() + position.len());
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(position);
    Key::from_parts(Bytes::from(bytes), u16::try_from(prefix.len()).unwrap_or(u16::MAX))
}

/// A key as the cluster has it: `p`, which is the number of its table and its partition, and `c`.
pub(super) fn parts(key: &Key) -> (Bytes, Bytes) {
    let split = 1 + key.partition().len();
    (key.bytes().slice(..split), key.bytes().slice(split..))
}

#[cfg(test)]
mod tests {
    use super::*;

    static T: Table = Table { id: 9, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never };

    fn range(scan: Scan) -> (Vec<u8>, Option<Vec<u8>>, i32) {
        let range = Range::of(&scan);
        (range.from, range.to, range.limit)
    }

    #[test]
    fn ranges_stay_inside_their_partition() {
        let all = || Scan::of(Key::of(&T).atom(b"p").partition()).limit(5);
        assert_eq!(range(all()), (vec![], None, 6));
        assert_eq!(range(all().prefix([7])), (vec![7], Some(vec![8]), 6));
        assert_eq!(range(all().prefix([0xff])), (vec![0xff], None, 6));
        assert_eq!(range(all().after([7])), (vec![7, 0], None, 6));
        assert_eq!(range(all().from([7]).before([9])), (vec![7], Some(vec![9]), 6));
        assert_eq!(range(all().after([])), (vec![0], None, 6));
        let last = Scan::of(Key::of(&T).atom(&[0xff]).partition());
        assert_eq!(range(last), (vec![], None, 10_001));
    }
}
