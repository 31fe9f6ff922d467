//! Reading: one statement for each partition that is asked, a bounded number of them in flight.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use scylla::{
    response::{PagingState, query_result::QueryResult},
    statement::prepared::PreparedStatement,
};
use tokio::runtime::Runtime;

use super::{STATEMENTS_PER_CALLER_MAX, Shared, failed, rows};
use crate::{Cache, Error, Key, Page, Result, Row, Scan};

/// Positions of one partition that one statement asks for. A value is a megabyte at most, most are far smaller.
const POSITIONS_PER_STATEMENT_MAX: usize = 32;

/// Whether anybody still waits for an answer.
#[derive(Clone)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    fn new() -> Self {
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

/// Where a walk over a whole table has come to.
pub(super) struct Place {
    /// The partition after which it began; empty for the beginning.
    after: Vec<u8>,
    paging: PagingState,
}

impl Place {
    pub(super) fn after(partition: &[u8]) -> Self {
        Self { after: partition.to_vec(), paging: PagingState::start() }
    }
}

impl Shared {
    pub(super) async fn get(&self, keys: &[Key], fresh: bool) -> Result<Vec<Option<Bytes>>> {
        self.get_while(keys, fresh, &Wanted::new()).await
    }

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
            .buffer_unordered(STATEMENTS_PER_CALLER_MAX);
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
        if let [place] = places[..] {
            let result = self.ask(&reads.get, (&prefix[..], keys[place].clustering()), wanted).await?;
            let row = result.into_rows_result().map_err(failed)?.maybe_first_row::<(Bytes,)>().map_err(failed)?;
            return Ok(row.map(|(value,)| (place, value)).into_iter().collect());
        }
        let mut by_position: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for place in places {
            by_position.entry(keys[place].clustering()).or_default().push(place);
        }
        let positions: Vec<&[u8]> = by_position.keys().copied().collect();
        let result = self.ask(&reads.get_some, (&prefix[..], positions), wanted).await?;
        let result = result.into_rows_result().map_err(failed)?;
        let mut found = Vec::new();
        for row in result.rows::<(Bytes, Bytes)>().map_err(failed)? {
            let (position, value) = row.map_err(failed)?;
            // Copied: it may be kept for long, and is a view of the whole answer.
            let value = Bytes::copy_from_slice(&value);
            for place in by_position.get(&position[..]).into_iter().flatten() {
                found.push((*place, value.clone()));
            }
        }
        Ok(found)
    }

    pub(super) async fn scan(&self, scan: Scan, fresh: bool) -> Result<Page> {
        self.scan_one(scan, fresh, &Wanted::new()).await
    }

    pub(super) async fn scan_while(&self, scans: &[Scan], wanted: &Wanted) -> Result<Vec<Page>> {
        stream::iter(scans.to_vec())
            .map(|scan| self.scan_one(scan, false, wanted))
            .buffered(STATEMENTS_PER_CALLER_MAX)
            .try_collect()
            .await
    }

    /// One range. It is one answer of the cluster whatever its length, so that it shows the partition at one moment.
    async fn scan_one(&self, scan: Scan, fresh: bool, wanted: &Wanted) -> Result<Page> {
        if scan.is_empty_range() {
            return Ok(Page::default());
        }
        let prefix = scan.partition().prefix();
        let rows = self.rows(prefix[0])?;
        let range = rows::Range::of(&scan);
        let statement = if fresh { &rows.fresh } else { &rows.relaxed }.scan(&range);
        let result = match &range.to {
            Some(to) => self.ask(statement, (&prefix[..], &range.from[..], &to[..], range.limit), wanted).await?,
            None => self.ask(statement, (&prefix[..], &range.from[..], range.limit), wanted).await?,
        };
        let result = result.into_rows_result().map_err(failed)?;
        let mut found = Vec::with_capacity(result.rows_num());
        for row in result.rows::<(&[u8], Bytes)>().map_err(failed)? {
            let (position, value) = row.map_err(failed)?;
            found.push(Row { key: rows::key(prefix, position), value });
        }
        Ok(Page::bounded(found, scan.limit))
    }

    /// Some rows of a whole table, and the place after them if there are more.
    pub(super) async fn page(&self, table_id: u8, place: Place) -> Result<(Vec<Row>, Option<Place>)> {
        let _permit = self.statements.acquire().await.map_err(|_| Error::Closed)?;
        let reads = &self.rows(table_id)?.fresh;
        let Place { after, paging } = place;
        let (result, paging) = match after.is_empty() {
            true => self.session.execute_single_page(&reads.each, (), paging).await,
            false => self.session.execute_single_page(&reads.each_from, (&after[..],), paging).await,
        }
        .map_err(failed)?;
        let result = result.into_rows_result().map_err(failed)?;
        let mut found = Vec::with_capacity(result.rows_num());
        for row in result.rows::<(&[u8], &[u8], Bytes)>().map_err(failed)? {
            let (prefix, position, value) = row.map_err(failed)?;
            if prefix != after {
                found.push(Row { key: rows::key(prefix, position), value });
            }
        }
        let next = match paging.into_paging_control_flow() {
            ControlFlow::Continue(paging) => Some(Place { after, paging }),
            ControlFlow::Break(()) => None,
        };
        Ok((found, next))
    }

    async fn ask(
        &self,
        statement: &PreparedStatement,
        values: impl scylla::serialize::row::SerializeRow,
        wanted: &Wanted,
    ) -> Result<QueryResult> {
        let _permit = self.statements.acquire().await.map_err(|_| Error::Closed)?;
        wanted.check()?;
        self.session.execute_unpaged(statement, values).await.map_err(failed)
    }
}
