//! Reading: one statement for each partition that is asked, a bounded number of them in flight. Where partitions may be
//! cut into buckets, the base is asked first and says where else to ask.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use scylla::{response::query_result::QueryResult, statement::prepared::PreparedStatement};
use tokio::runtime::Runtime;

use super::{
    STATEMENTS_OF_THE_WRITER_MAX, STATEMENTS_PER_CALLER_MAX, Shared,
    buckets::{Bucket, DIRECTORY_AT, Directory},
    failed, rows,
    rows::{Cell, Range, Reads, Rows},
};
use crate::{Cache, Error, Key, Page, Result, Row, Scan};

/// Positions of one partition that one statement asks for. A value is a megabyte at most, most are far smaller.
const POSITIONS_PER_STATEMENT_MAX: usize = 32;

/// What a directory said is relied on for so long, the answers to what is asked because of it included. Rows that were
/// copied to another bucket stay for longer ([`super::cut`]).
pub(super) const DIRECTORY_HOLDS: Duration = Duration::from_secs(15);

/// Whether anybody still waits for an answer.
#[derive(Clone)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Nothing more is asked of the cluster for somebody who has gone.
    fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err(Error::Closed) }
    }
}

/// Says that nobody waits any more.
struct Gone(Wanted);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// Runs a read on the driver's threads. If the caller goes away, statements that were sent are answered to nobody, so
/// that the driver need not count them as lost, and no others are sent.
pub(super) fn while_wanted<T: Send + 'static, F>(
    runtime: &Runtime,
    read: impl FnOnce(Wanted) -> F,
) -> BoxFuture<'static, Result<T>>
where
    F: Future<Output = Result<T>> + Send + 'static,
{
    let wanted = Wanted::new();
    let gone = Gone(wanted.clone());
    let task = runtime.spawn(read(wanted));
    Box::pin(async move {
        let _gone = gone;
        task.await.unwrap_or(Err(Error::Closed))
    })
}

/// Rows of a partition by position; shared by all who asked for the same.
type Found = HashMap<Bytes, Bytes>;

impl Shared {
    pub(super) async fn get(&self, keys: &[Key], fresh: bool) -> Result<Vec<Option<Bytes>>> {
        self.get_while(keys, fresh, &Wanted::new()).await
    }

    /// As [`Shared::get`], of a caller who may go away.
    pub(super) async fn get_while(&self, keys: &[Key], fresh: bool, wanted: &Wanted) -> Result<Vec<Option<Bytes>>> {
        let mut partitions: HashMap<Bytes, Vec<usize>> = HashMap::new();
        for (place, key) in keys.iter().enumerate() {
            partitions.entry(rows::parts(key).0).or_default().push(place);
        }
        let asks: Vec<(Bytes, Vec<usize>)> = partitions
            .into_iter()
            .flat_map(|(prefix, places)| {
                let chunks: Vec<Vec<usize>> =
                    places.chunks(POSITIONS_PER_STATEMENT_MAX).map(<[usize]>::to_vec).collect();
                chunks.into_iter().map(move |chunk| (prefix.clone(), chunk))
            })
            .collect();
        let mut answers: Vec<Option<Bytes>> = vec![None; keys.len()];
        let mut found = stream::iter(asks)
            .map(|(prefix, places)| self.get_of(prefix, places, keys, fresh, wanted))
            .buffer_unordered(if fresh { STATEMENTS_OF_THE_WRITER_MAX } else { STATEMENTS_PER_CALLER_MAX });
        while let Some(some) = found.try_next().await? {
            for (place, value) in some {
                answers[place] = Some(value);
            }
        }
        Ok(answers)
    }

    /// The values of some keys of one partition, each with its place; none for a key whose row is not there.
    async fn get_of(
        &self,
        prefix: Bytes,
        places: Vec<usize>,
        keys: &[Key],
        fresh: bool,
        wanted: &Wanted,
    ) -> Result<Vec<(usize, Bytes)>> {
        let rows = self.rows(prefix[0])?;
        // An answer that will be kept must not be older than the last change that was told: it would stay.
        let reads = if fresh || !matches!(rows.cache, Cache::Never) { &rows.fresh } else { &rows.relaxed };
        let mut positions: Vec<&[u8]> = places.iter().map(|place| keys[*place].clustering()).collect();
        positions.sort_unstable();
        positions.dedup();
        let asked = Instant::now();
        let (mut found, directory) = self.look_up(rows, reads, &prefix, Bucket::BASE, &positions, wanted).await?;
        if let Some(directory) = directory {
            let mut elsewhere: HashMap<Bucket, Vec<&[u8]>> = HashMap::new();
            for position in positions {
                let part = directory.of(position);
                if part.bucket != Bucket::BASE {
                    // What the base still has of it may be of before it was copied away.
                    found.remove(position);
                    elsewhere.entry(part.bucket).or_default().push(position);
                }
            }
            for (bucket, positions) in elsewhere {
                found.extend(self.look_up(rows, reads, &prefix, bucket, &positions, wanted).await?.0);
            }
            still_holds(asked)?;
        }
        let values = places.into_iter().filter_map(|place| Some((place, found.get(keys[place].clustering())?.clone())));
        Ok(values.collect())
    }

    /// Rows of one bucket by their positions, and the directory if this is the base and there is one.
    async fn look_up(
        &self,
        rows: &Rows,
        reads: &Reads,
        prefix: &[u8],
        bucket: Bucket,
        positions: &[&[u8]],
        wanted: &Wanted,
    ) -> Result<(Found, Option<Directory>)> {
        let kept: Vec<Bytes> = positions.iter().map(|position| rows.kept(position)).collect();
        let mut asked: Vec<&[u8]> = kept.iter().map(|kept| &kept[..]).collect();
        if rows.cutting.is_some() && bucket == Bucket::BASE {
            asked.push(DIRECTORY_AT);
        }
        let mut values = rows.place(prefix, &bucket);
        let statement = match asked[..] {
            [one] => {
                values.push(Cell::Bytes(one));
                &reads.get
            }
            _ => {
                values.push(Cell::Several(asked));
                &reads.get_some
            }
        };
        let result = self.ask(statement, values, wanted).await?.into_rows_result().map_err(failed)?;
        let (mut found, mut directory) = (Found::with_capacity(positions.len()), None);
        for row in result.rows::<(&[u8], &[u8])>().map_err(failed)? {
            let (kept, value) = row.map_err(failed)?;
            match rows.position(kept) {
                // Copied: it may be kept for long, and is a view of the whole answer.
                Some(position) => {
                    found.insert(Bytes::copy_from_slice(position), Bytes::copy_from_slice(value));
                }
                None if rows.is_directory(kept) => directory = Some(Directory::read(value)?),
                None => {}
            }
        }
        Ok((found, directory))
    }

    pub(super) async fn scan(&self, scan: Scan, fresh: bool) -> Result<Page> {
        self.scan_one(scan, fresh, &Wanted::new()).await
    }

    pub(super) async fn scan_many(&self, scans: &[Scan]) -> Result<Vec<Page>> {
        let wanted = Wanted::new();
        stream::iter(scans.to_vec())
            .map(|scan| self.scan_one(scan, true, &wanted))
            .buffered(STATEMENTS_PER_CALLER_MAX)
            .try_collect()
            .await
    }

    pub(super) async fn scan_while(&self, scans: &[Scan], wanted: &Wanted) -> Result<Vec<Page>> {
        stream::iter(scans.to_vec())
            .map(|scan| self.scan_one(scan, false, wanted))
            .buffered(STATEMENTS_PER_CALLER_MAX)
            .try_collect()
            .await
    }

    /// One range. Within a bucket it is one answer of the cluster whatever its length, so that it shows the bucket at one
    /// moment.
    async fn scan_one(&self, scan: Scan, fresh: bool, wanted: &Wanted) -> Result<Page> {
        if scan.is_empty_range() {
            return Ok(Page::default());
        }
        let prefix = scan.partition().prefix();
        let rows = self.rows(prefix[0])?;
        let range = Range::of(&scan);
        let reads = if fresh { &rows.fresh } else { &rows.relaxed };
        let found = if rows.cutting.is_some() {
            self.scan_buckets(rows, reads, prefix, &range, wanted).await?
        } else {
            self.scan_bucket(rows, reads, prefix, Bucket::BASE, &range, wanted).await?
        };
        Ok(Page::bounded(found, scan.limit))
    }

    /// A range of a partition that may be cut: the base is read beside its directory, most often that is all.
    async fn scan_buckets(
        &self,
        rows: &Rows,
        reads: &Reads,
        prefix: &[u8],
        range: &Range,
        wanted: &Wanted,
    ) -> Result<Vec<Row>> {
        let asked = Instant::now();
        let (base, directory) = futures::try_join!(
            self.scan_bucket(rows, reads, prefix, Bucket::BASE, range, wanted),
            // A directory is never taken back, so the one that is read is right for a base that is read beside it: rows
            // that it sends elsewhere are there already.
            self.look_up(rows, reads, prefix, Bucket::BASE, &[], wanted),
        )?;
        let Some(directory) = directory.1 else { return Ok(base) };
        let mut base = Some(base);
        let mut parts: Vec<_> = directory.parts().collect();
        if range.reverse {
            parts.reverse();
        }
        let mut found = Vec::new();
        for part in parts {
            let left = range.limit - i32::try_from(found.len()).unwrap_or(i32::MAX);
            let Some(own) = range.within(&part.from, part.to.as_deref()).filter(|_| left > 0) else { continue };
            // In reverse the base may have been asked for too much of what is elsewhere now.
            let is_base = part.bucket == Bucket::BASE && !range.reverse;
            if let Some(base) = base.take().filter(|_| is_base) {
                found.extend(base.into_iter().filter(|row| part.holds(row.clustering())));
                continue;
            }
            let own = Range { limit: left, ..own };
            found.extend(self.scan_bucket(rows, reads, prefix, part.bucket, &own, wanted).await?);
        }
        still_holds(asked)?;
        Ok(found)
    }

    /// A range of one bucket.
    pub(super) async fn scan_bucket(
        &self,
        rows: &Rows,
        reads: &Reads,
        prefix: &[u8],
        bucket: Bucket,
        range: &Range,
        wanted: &Wanted,
    ) -> Result<Vec<Row>> {
        let (from, to) = (rows.kept(&range.from), range.to.as_ref().map(|to| rows.kept(to)));
        let mut values = rows.place(prefix, &bucket);
        values.push(Cell::Bytes(&from));
        values.extend(to.as_deref().map(Cell::Bytes));
        values.push(Cell::Number(range.limit));
        let result = self.ask(reads.scan(range), values, wanted).await?.into_rows_result().map_err(failed)?;
        let mut found = Vec::with_capacity(result.rows_num());
        for row in result.rows::<(&[u8], Bytes)>().map_err(failed)? {
            let (kept, value) = row.map_err(failed)?;
            if let Some(position) = rows.position(kept) {
                found.push(Row { key: rows::key(prefix, position), value });
            }
        }
        Ok(found)
    }

    pub(super) async fn ask(
        &self,
        statement: &PreparedStatement,
        values: Vec<Cell<'_>>,
        wanted: &Wanted,
    ) -> Result<QueryResult> {
        let _permit = self.statements.acquire().await.map_err(|_| Error::Closed)?;
        wanted.check()?;
        self.spare.earn();
        let (slow_after, may_hedge, begun) = (self.spare.slow_after(), self.spare.has(), Instant::now());
        let answer = self.session.execute_unpaged(statement, values).await.map_err(failed);
        self.spare.ended(begun.elapsed(), slow_after, may_hedge);
        answer
    }
}

/// Refuses answers that were had by a directory of long ago: this process slept meanwhile, and what was copied away may be
/// gone from where it was.
fn still_holds(asked: Instant) -> Result<()> {
    if asked.elapsed() < DIRECTORY_HOLDS {
        return Ok(());
    }
    Err(Error::Engine("a read was under way for too long: ask again".into()))
}
