//! The statements of every table, and how its keys and ranges are put into them.
//!
//! A store's table is one CQL table: `p` is the number of the store's table and the partition, `c` the position, `v` the
//! value. Tables with buckets have `b` beside `p`, the bucket, and a byte before the position (`buckets`). Nothing else
//! of CQL is used for rows, so that Cassandra and ScyllaDB do the same with them.

use std::ops::Bound;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    client::{execution_profile::ExecutionProfileHandle, session::Session},
    frame::response::result::ColumnType,
    serialize::{
        SerializationError,
        value::SerializeValue,
        writers::{CellWriter, WrittenCellProof},
    },
    statement::prepared::PreparedStatement,
};

use super::{
    Address, Agreement, WRITE_ATTEMPT_MAX,
    buckets::{Bucket, DIRECTORY_AT, ROWS_AT},
    failed,
};
use crate::{Cache, Key, Result, Scan, Table};

/// Statements that are prepared side by side.
const PREPARED_TOGETHER: usize = 16;

/// Rows of one page where a whole table is read. Records are a kilobyte; the largest page is then about a megabyte.
const ROWS_PER_PAGE: i32 = 1_000;

/// Positions of one page where a bucket is counted.
const POSITIONS_PER_PAGE: i32 = 5_000;

/// The statements of one table.
pub(super) struct Rows {
    pub(super) cache: Cache,
    pub(super) put: PreparedStatement,
    pub(super) delete: PreparedStatement,
    /// What must see every write that was answered.
    pub(super) fresh: Reads,
    /// What need not, if the operator says so.
    pub(super) relaxed: Reads,
    /// How its partitions are cut, if they are.
    pub(super) cutting: Option<Cutting>,
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

/// What cutting a partition takes.
pub(super) struct Cutting {
    /// Rows above which a bucket is cut.
    pub(super) rows_max: u32,
    /// The positions of a bucket from one on and before another.
    pub(super) positions: PreparedStatement,
    /// Removes what a bucket holds from a position on and before another.
    pub(super) clear: PreparedStatement,
}

/// The name of a table in the cluster. A suffix keeps clear of the words of CQL (`on`, `by`).
pub(super) fn table_name(table: &Table) -> String {
    format!("{}_{}", table.name, if table.bucket_rows.is_some() { "buckets" } else { "rows" })
}

/// What makes a table. The longest rows are records of some kilobytes, most are far shorter.
pub(super) fn create(keyspace: &str, table: &Table) -> String {
    let columns = match table.bucket_rows {
        Some(_) => "p blob, b blob, c blob, v blob, PRIMARY KEY ((p, b), c)",
        None => "p blob, c blob, v blob, PRIMARY KEY (p, c)",
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.{} ({columns}) \
         WITH CLUSTERING ORDER BY (c ASC) AND compaction = {{'class': 'LeveledCompactionStrategy'}}",
        table_name(table)
    )
}

impl Rows {
    pub(super) async fn prepare(
        session: &Session,
        table: &Table,
        address: &Address,
        reading: &ExecutionProfileHandle,
    ) -> Result<Self> {
        let name = format!("{}.{}", address.keyspace, table_name(table));
        let (columns, marks, partition) = match table.bucket_rows {
            Some(_) => ("p, b", "?, ?", "p = ? AND b = ?"),
            None => ("p", "?", "p = ?"),
        };
        let texts = [
            format!("INSERT INTO {name} ({columns}, c, v) VALUES ({marks}, ?, ?)"),
            format!("DELETE FROM {name} WHERE {partition} AND c = ?"),
            format!("SELECT c, v FROM {name} WHERE {partition} AND c = ?"),
            format!("SELECT c, v FROM {name} WHERE {partition} AND c IN ?"),
            format!("SELECT c, v FROM {name} WHERE {partition} AND c >= ? ORDER BY c ASC LIMIT ?"),
            format!("SELECT c, v FROM {name} WHERE {partition} AND c >= ? ORDER BY c DESC LIMIT ?"),
            format!("SELECT c, v FROM {name} WHERE {partition} AND c >= ? AND c < ? ORDER BY c ASC LIMIT ?"),
            format!("SELECT c, v FROM {name} WHERE {partition} AND c >= ? AND c < ? ORDER BY c DESC LIMIT ?"),
            format!("SELECT {columns}, c, v FROM {name}"),
            format!("SELECT {columns}, c, v FROM {name} WHERE token({columns}) >= token({marks})"),
        ];
        let prepared: Vec<PreparedStatement> =
            stream::iter(texts).map(|text| prepared(session, text)).buffered(PREPARED_TOGETHER).try_collect().await?;
        let [put, delete, get, get_some, a, b, c, d, each, each_from] =
            <[PreparedStatement; 10]>::try_from(prepared).map_err(|_| failed("statements are missing"))?;
        let reads = Reads { get, get_some, scans: [a, b, c, d], each, each_from };
        let cutting = match table.bucket_rows {
            Some(rows_max) => Some(Cutting::prepare(session, &name, partition, rows_max, address).await?),
            None => None,
        };
        Ok(Self {
            cache: table.cache,
            put,
            delete,
            relaxed: reads.clone().asking(address.reads, address, reading),
            fresh: reads.asking(address.writes, address, reading),
            cutting,
        })
    }

    /// The values that name a partition of the cluster, as the statements begin.
    pub(super) fn place<'a>(&self, prefix: &'a [u8], bucket: &'a Bucket) -> Vec<Cell<'a>> {
        let mut values = Vec::with_capacity(5);
        values.push(Cell::Bytes(prefix));
        if self.cutting.is_some() {
            values.push(Cell::Bytes(&bucket.0));
        }
        values
    }

    /// A position as it is kept.
    pub(super) fn kept(&self, position: &[u8]) -> Bytes {
        match self.cutting {
            Some(_) => [&[ROWS_AT], position].concat().into(),
            None => Bytes::copy_from_slice(position),
        }
    }

    /// A position from what is kept; nothing for the directory.
    pub(super) fn position<'a>(&self, kept: &'a [u8]) -> Option<&'a [u8]> {
        match self.cutting {
            Some(_) => kept.strip_prefix(&[ROWS_AT]),
            None => Some(kept),
        }
    }

    /// Whether this is where the directory is.
    pub(super) fn is_directory(&self, kept: &[u8]) -> bool {
        self.cutting.is_some() && kept == DIRECTORY_AT
    }
}

impl Cutting {
    async fn prepare(session: &Session, name: &str, partition: &str, rows_max: u32, address: &Address) -> Result<Self> {
        let mut positions =
            prepared(session, format!("SELECT c FROM {name} WHERE {partition} AND c >= ? AND c < ?")).await?;
        positions.set_page_size(POSITIONS_PER_PAGE);
        let clear = prepared(session, format!("DELETE FROM {name} WHERE {partition} AND c >= ? AND c < ?")).await?;
        let mut cutting = Self { rows_max, positions, clear };
        for statement in [&mut cutting.positions, &mut cutting.clear] {
            statement.set_consistency(address.writes.consistency());
            statement.set_request_timeout(Some(WRITE_ATTEMPT_MAX));
        }
        Ok(cutting)
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
    fn asking(mut self, agreement: Agreement, address: &Address, reading: &ExecutionProfileHandle) -> Self {
        let one_row = [&mut self.get, &mut self.get_some];
        let pages = [&mut self.each, &mut self.each_from];
        for statement in one_row.into_iter().chain(&mut self.scans).chain(pages) {
            statement.set_consistency(agreement.consistency());
            statement.set_request_timeout(Some(address.read_deadline));
            statement.set_execution_profile_handle(Some(reading.clone()));
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

/// One value bound to a statement.
pub(super) enum Cell<'a> {
    Bytes(&'a [u8]),
    Number(i32),
    Several(Vec<&'a [u8]>),
}

impl SerializeValue for Cell<'_> {
    fn serialize<'b>(
        &self,
        kind: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> std::result::Result<WrittenCellProof<'b>, SerializationError> {
        match self {
            Self::Bytes(bytes) => bytes.serialize(kind, writer),
            Self::Number(number) => number.serialize(kind, writer),
            Self::Several(all) => all.serialize(kind, writer),
        }
    }
}

/// A scan as the cluster is asked for it, its positions as the store has them.
#[derive(Debug, Clone)]
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

    /// What of it lies between two positions, if anything.
    pub(super) fn within(&self, from: &[u8], to: Option<&[u8]>) -> Option<Self> {
        let from = self.from.as_slice().max(from).to_vec();
        let to = match (self.to.as_deref(), to) {
            (Some(own), Some(other)) => Some(own.min(other).to_vec()),
            (own, other) => own.or(other).map(<[u8]>::to_vec),
        };
        to.as_ref().is_none_or(|to| from < *to).then_some(Self { from, to, ..*self })
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

    static T: Table =
        Table { id: 9, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

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

    #[test]
    fn a_range_is_cut_to_a_bucket_and_there_may_be_nothing_left_of_it() {
        let range = Range::of(&Scan::of(Key::of(&T).atom(b"p").partition()).from([3]).before([7]));
        let cut = |from: &[u8], to: Option<&[u8]>| range.within(from, to).map(|it| (it.from, it.to));
        assert_eq!(cut(&[], None), Some((vec![3], Some(vec![7]))));
        assert_eq!(cut(&[5], Some(&[6])), Some((vec![5], Some(vec![6]))));
        assert_eq!(cut(&[5], Some(&[9])), Some((vec![5], Some(vec![7]))));
        assert_eq!(cut(&[7], None), None);
        assert_eq!(cut(&[], Some(&[3])), None);
        let open = Range::of(&Scan::of(Key::of(&T).atom(b"p").partition()));
        assert_eq!(open.within(&[4], None).map(|it| (it.from, it.to)), Some((vec![4], None)));
    }
}
