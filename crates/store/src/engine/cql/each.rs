//! Walking over a whole table, in the order of tokens, page by page.
//!
//! Buckets of a partition that is cut lie anywhere in that order. The walk goes by the bases: behind the rows of a base it
//! reads the other buckets of its directory, so that rows of one partition come together and in order.

use std::{collections::VecDeque, ops::ControlFlow};

use bytes::Bytes;
use scylla::response::PagingState;

use super::{
    Shared,
    buckets::{Bucket, Directory, Part},
    failed,
    read::Wanted,
    rows::{self, Cell, Range, Rows},
};
use crate::{Error, Result, Row};

/// Rows of a bucket that are read at a time.
const ROWS_PER_BUCKET_PAGE: i32 = 2_000;

/// Where a walk over a whole table has come to.
pub(super) struct Place {
    /// The partition after which it began; empty for the beginning.
    after: Vec<u8>,
    /// Where the next page is; nothing behind the last one.
    paging: Option<PagingState>,
    /// Rows of the last page that were not given yet, as they came.
    rest: VecDeque<Kept>,
    /// The directory of the partition that is being given, if it has one, and the partition.
    cut: Option<(Bytes, Directory)>,
    /// Buckets of it that are still to be read, and how far the first of them has been.
    buckets: VecDeque<(Part, Vec<u8>)>,
}

/// A row as the cluster has it.
struct Kept {
    prefix: Bytes,
    bucket: Bucket,
    kept: Bytes,
    value: Bytes,
}

impl Place {
    pub(super) fn after(partition: &[u8]) -> Self {
        Self {
            after: partition.to_vec(),
            paging: Some(PagingState::start()),
            rest: VecDeque::new(),
            cut: None,
            buckets: VecDeque::new(),
        }
    }
}

impl Shared {
    /// Some rows of a whole table, and the place after them if there may be more.
    pub(super) async fn page(&self, table_id: u8, mut place: Place) -> Result<(Vec<Row>, Option<Place>)> {
        let rows = self.rows(table_id)?;
        if let Some((part, from)) = place.buckets.pop_front() {
            return self.page_of_bucket(rows, part, from, place).await;
        }
        if place.rest.is_empty()
            && let Some(paging) = place.paging.take()
        {
            self.fetch(rows, &mut place, paging).await?;
        }
        let mut found = Vec::new();
        while let Some(kept) = place.rest.pop_front() {
            if place.cut.as_ref().is_some_and(|(prefix, _)| *prefix != kept.prefix) {
                place.rest.push_front(kept);
                break;
            }
            match rows.position(&kept.kept) {
                Some(position) => {
                    let is_elsewhere = place.cut.as_ref().is_some_and(|(_, it)| it.of(position).bucket != kept.bucket);
                    if !is_elsewhere {
                        found.push(Row { key: rows::key(&kept.prefix, position), value: kept.value });
                    }
                }
                // It comes before all rows of its base.
                None => place.cut = Some((kept.prefix, Directory::read(&kept.value)?)),
            }
        }
        let is_base_over = !place.rest.is_empty() || place.paging.is_none();
        if is_base_over && let Some((_, directory)) = &place.cut {
            let others = directory.parts().filter(|part| part.bucket != Bucket::BASE);
            place.buckets = others.map(|part| (part.clone(), part.from.to_vec())).collect();
            if place.buckets.is_empty() {
                place.cut = None;
            }
        }
        let is_over = place.rest.is_empty() && place.paging.is_none() && place.buckets.is_empty();
        Ok((found, (!is_over).then_some(place)))
    }

    async fn page_of_bucket(
        &self,
        rows: &Rows,
        part: Part,
        from: Vec<u8>,
        mut place: Place,
    ) -> Result<(Vec<Row>, Option<Place>)> {
        let Some((prefix, _)) = &place.cut else { return Ok((Vec::new(), Some(place))) };
        let to = part.to.as_ref().map(|to| to.to_vec());
        let range = Range { from, to, reverse: false, limit: ROWS_PER_BUCKET_PAGE };
        let found = self.scan_bucket(rows, &rows.fresh, prefix, part.bucket, &range, &Wanted::new()).await?;
        match found.last().filter(|_| found.len() == ROWS_PER_BUCKET_PAGE as usize) {
            Some(last) => place.buckets.push_front((part, [last.clustering(), &[0]].concat())),
            None if place.buckets.is_empty() => place.cut = None,
            None => {}
        }
        let is_over = place.buckets.is_empty() && place.rest.is_empty() && place.paging.is_none();
        Ok((found, (!is_over).then_some(place)))
    }

    /// The next page as it comes.
    async fn fetch(&self, rows: &Rows, place: &mut Place, paging: PagingState) -> Result<()> {
        let _permit = self.statements.acquire().await.map_err(|_| Error::Closed)?;
        let (reads, after) = (&rows.fresh, &place.after);
        let (result, paging) = match after.is_empty() {
            true => self.session.execute_single_page(&reads.each, Vec::<Cell<'_>>::new(), paging).await,
            false => self.session.execute_single_page(&reads.each_from, rows.place(after, &Bucket::BASE), paging).await,
        }
        .map_err(failed)?;
        let result = result.into_rows_result().map_err(failed)?;
        let mut keep = |prefix: &[u8], bucket: Bucket, kept: &[u8], value: &[u8]| {
            if prefix != after && bucket == Bucket::BASE {
                let copy = Bytes::copy_from_slice;
                place.rest.push_back(Kept { prefix: copy(prefix), bucket, kept: copy(kept), value: copy(value) });
            }
        };
        if rows.cutting.is_some() {
            for row in result.rows::<(&[u8], &[u8], &[u8], &[u8])>().map_err(failed)? {
                let (prefix, bucket, kept, value) = row.map_err(failed)?;
                let bucket = bucket.try_into().map_err(|_| failed("the name of a bucket is not eight bytes"))?;
                keep(prefix, Bucket(bucket), kept, value);
            }
        } else {
            for row in result.rows::<(&[u8], &[u8], &[u8])>().map_err(failed)? {
                let (prefix, kept, value) = row.map_err(failed)?;
                keep(prefix, Bucket::BASE, kept, value);
            }
        }
        place.paging = match paging.into_paging_control_flow() {
            ControlFlow::Continue(paging) => Some(paging),
            ControlFlow::Break(()) => None,
        };
        Ok(())
    }
}
