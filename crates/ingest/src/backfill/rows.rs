//! What a backfill keeps on disk: how far the lists were read, which repos are left, and what became of the others.
//!
//! A repo has a row from the moment it is listed until it is read; one that cannot be read keeps it, with the reason. The
//! row of a page of the list and the place behind that page are written in one batch, so a list is read from where it was
//! left, whenever the process died.

use gp_index::system_now_us;
use gp_store::{Cache, Column, Key, KeyBuilder, Kind, Scan, Store, Table, View};
use prost::Message;

use crate::{Error, reading::FailReason};

/// Lists, repos that are left, and totals.
pub(crate) static BACKFILL: Table = Table {
    id: 66, // On disk. Never reused, never renumbered.
    name: "ingest_backfill",
    partition: &[Column { name: "part", kind: Kind::Tag }, Column { name: "shard", kind: Kind::Tag }],
    clustering: &[Column { name: "name", kind: Kind::Bytes }],
    value: &[Column { name: "backfill_row", kind: Kind::Bytes }],
    cache: Cache::Never,
    bucket_rows: None,
};

/// Kinds of rows. On disk: never reused, never renumbered.
mod part {
    pub(super) const TOTALS: u8 = 1;
    pub(super) const SOURCE: u8 = 2;
    pub(super) const REPO: u8 = 3;
}

/// Partitions over which the repos are spread. On disk.
pub(crate) const SHARDS: u8 = 64;

/// What became of all repos so far, of this run and, if it was interrupted, of the processes before.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Totals {
    /// When it began and when it was done, in microseconds; 0 before.
    #[prost(int64, tag = "1")]
    pub(crate) began_at_us: i64,
    #[prost(int64, tag = "2")]
    pub(crate) done_at_us: i64,
    /// Repos in the lists, those listed twice counted twice.
    #[prost(uint64, tag = "3")]
    pub(crate) listed: u64,
    /// ... of which we had all there is.
    #[prost(uint64, tag = "4")]
    pub(crate) present: u64,
    /// ... that their host does not give out, as the list says.
    #[prost(uint64, tag = "5")]
    pub(crate) inactive: u64,
    /// ... for which a row was written.
    #[prost(uint64, tag = "6")]
    pub(crate) queued: u64,
    /// Rows that are gone because the repo was read,
    #[prost(uint64, tag = "7")]
    pub(crate) read: u64,
    /// ... was there by the time, as an event or a resync had brought it,
    #[prost(uint64, tag = "8")]
    pub(crate) overtaken: u64,
    /// ... or is kept back by its host or gone.
    #[prost(uint64, tag = "9")]
    pub(crate) refused: u64,
    /// Rows of repos that were given up.
    #[prost(uint64, tag = "10")]
    pub(crate) given_up: u64,
    /// Of those that were read.
    #[prost(uint64, tag = "11")]
    pub(crate) records: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) bytes: u64,
    /// How often any of this changed: of two readings, the one that is newer. It is never set back.
    #[prost(uint64, tag = "13")]
    pub(super) changes: u64,
}

impl Totals {
    /// Takes over a reading. Jobs of the writer say what they found in the order in which they are polled, which need
    /// not be the order in which they ran, so an older one may come last: it is passed over.
    pub(crate) fn follow(&mut self, read: Self) {
        if read.changes >= self.changes {
            *self = read;
        }
    }

    /// Repos that have a row and may still be read.
    pub(crate) fn left(&self) -> u64 {
        self.queued.saturating_sub(self.read + self.overtaken + self.refused + self.given_up)
    }
}

/// How far a list was read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SourceRow {
    /// Where the next page begins; empty at the beginning.
    #[prost(string, tag = "1")]
    pub(crate) cursor: String,
    #[prost(uint64, tag = "2")]
    pub(crate) listed: u64,
    /// All pages were read.
    #[prost(bool, tag = "3")]
    pub(crate) whole: bool,
}

/// A repo that is left.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepoRow {
    /// The revision in the list.
    #[prost(string, tag = "1")]
    pub(crate) rev: String,
    /// Attempts that failed.
    #[prost(uint32, tag = "2")]
    pub(crate) attempts: u32,
    /// Not before this time, in microseconds.
    #[prost(int64, tag = "3")]
    pub(crate) next_at_us: i64,
    /// Why the last attempt failed; 0 before the first.
    #[prost(uint32, tag = "4")]
    reason: u32,
    #[prost(string, tag = "5")]
    pub(crate) error: String,
    /// The account's host, if it is known.
    #[prost(string, tag = "6")]
    pub(crate) host: String,
    /// It is not tried again until somebody asks.
    #[prost(bool, tag = "7")]
    pub(crate) given_up: bool,
}

/// Longest text of an error that is kept.
const ERROR_CHARS_MAX: usize = 400;

impl RepoRow {
    /// A repo of a list.
    pub(crate) fn listed(rev: &str) -> Self {
        Self { rev: rev.to_owned(), ..Self::default() }
    }

    /// Notes a failure.
    pub(crate) fn fail(&mut self, reason: FailReason, error: &Error) {
        self.reason = reason as u32;
        self.error = error.to_string().chars().take(ERROR_CHARS_MAX).collect();
    }

    /// Why the last attempt failed.
    pub(crate) fn reason(&self) -> Option<FailReason> {
        FailReason::of_number(self.reason)
    }
}

fn at(part: u8, shard: u8) -> KeyBuilder {
    Key::of(&BACKFILL).tag(part).tag(shard).cluster()
}

fn totals_key() -> Key {
    at(part::TOTALS, 0).tag(0).key()
}

fn source_key(url: &str) -> Key {
    at(part::SOURCE, 0).atom(url.as_bytes()).key()
}

fn repo_key(did: &str) -> Key {
    at(part::REPO, shard_of(did)).atom(did.as_bytes()).key()
}

/// FNV-1a, its bits mixed: DIDs differ in their last characters. It must say the same for ever.
fn shard_of(did: &str) -> u8 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = did.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((mixed ^ (mixed >> 33)) % u64::from(SHARDS)) as u8
}

fn read<T: Message + Default>(stored: &[u8]) -> gp_index::Result<T> {
    T::decode(stored).map_err(|_| gp_index::Error::Corrupt { table: BACKFILL.name, what: "row" })
}

/// The totals as the writer sees them.
pub(crate) fn totals(view: &View<'_>) -> gp_index::Result<Totals> {
    view.get(&totals_key())?.map_or_else(|| Ok(Totals::default()), |stored| read(&stored))
}

/// Changes the totals.
pub(crate) fn count(view: &mut View<'_>, change: impl FnOnce(&mut Totals)) -> gp_index::Result<()> {
    let mut totals = totals(view)?;
    if totals.began_at_us == 0 {
        totals.began_at_us = system_now_us();
    }
    let changes = totals.changes;
    change(&mut totals);
    totals.changes = changes + 1;
    view.put(totals_key(), totals.encode_to_vec());
    Ok(())
}

/// The totals as applied.
pub(crate) async fn totals_of(store: &Store) -> gp_index::Result<Totals> {
    store.get_one(&totals_key()).await?.map_or_else(|| Ok(Totals::default()), |stored| read(&stored))
}

/// How far a list was read.
pub(crate) async fn source_of(store: &Store, url: &str) -> gp_index::Result<SourceRow> {
    store.get_one(&source_key(url)).await?.map_or_else(|| Ok(SourceRow::default()), |stored| read(&stored))
}

/// Writes how far a list was read.
pub(crate) fn put_source(view: &mut View<'_>, url: &str, row: &SourceRow) {
    view.put(source_key(url), row.encode_to_vec());
}

/// A repo that is left, as the writer sees it.
pub(crate) fn repo(view: &View<'_>, did: &str) -> gp_index::Result<Option<RepoRow>> {
    view.get(&repo_key(did))?.map(|stored| read(&stored)).transpose()
}

/// Writes the row of a repo that is left.
pub(crate) fn put_repo(view: &mut View<'_>, did: &str, row: &RepoRow) {
    view.put(repo_key(did), row.encode_to_vec());
}

/// Removes it.
pub(crate) fn delete_repo(view: &mut View<'_>, did: &str) {
    view.delete(repo_key(did));
}

/// Some repos that are left, of one shard, in order, after one of them, and whether more follow.
pub(crate) async fn repos(
    store: &Store,
    shard: u8,
    after: Option<&str>,
    limit: usize,
) -> gp_index::Result<(Vec<(String, RepoRow)>, bool)> {
    let mut scan = Scan::of(at(part::REPO, shard).partition()).limit(limit);
    if let Some(after) = after {
        scan = scan.after(after.as_bytes());
    }
    let page = store.scan(scan).await?;
    let mut found = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        let did = std::str::from_utf8(row.clustering());
        let did = did.map_err(|_| gp_index::Error::Corrupt { table: BACKFILL.name, what: "did" })?;
        found.push((did.to_owned(), read(&row.value)?));
    }
    Ok((found, page.more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repos_are_spread_and_stay_where_they_are() {
        let mut shards = [0u32; SHARDS as usize];
        for n in 0..64_000 {
            shards[shard_of(&format!("did:plc:{n:024}")) as usize] += 1;
        }
        assert!(shards.iter().all(|n| (700..1300).contains(n)), "{shards:?}");
        assert_eq!(shard_of("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), shard_of("did:plc:ewvi7nxzyoun6zhxrhs64oiz"));
    }

    #[test]
    fn what_is_left_is_what_has_a_row_and_may_be_read() {
        let totals = Totals {
            listed: 20,
            present: 3,
            inactive: 1,
            queued: 16,
            read: 4,
            overtaken: 1,
            refused: 2,
            given_up: 3,
            ..Totals::default()
        };
        assert_eq!(totals.left(), 6);
    }

    #[test]
    fn an_older_reading_that_comes_last_is_passed_over() {
        let at = |changes, read| Totals { queued: 3, read, changes, ..Totals::default() };
        let mut totals = Totals::default();
        for reading in [at(1, 0), at(2, 1), at(4, 3), at(3, 2)] {
            totals.follow(reading);
        }
        assert_eq!((totals.left(), totals.changes), (0, 4));
        // Begun anew, everything is zero again, but newer.
        totals.follow(at(5, 0));
        assert_eq!(totals.left(), 3);
    }
}
