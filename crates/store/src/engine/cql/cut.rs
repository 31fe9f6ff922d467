//! Cutting partitions that have become too wide. Only the process that writes does it, between two of its batches.
//!
//! Nobody counts rows: of the positions that are put, one in so many is a reason to look how large its bucket is. That
//! needs no memory, and the chance that a bucket grows to twice its bound unseen is one in millions.
//!
//! ```text
//! copy the upper half to a new bucket -> directory, as a batch like any other -> later: clear the old place
//! ```
//!
//! A process that ends in between leaves a bucket that no directory names, which is nothing but bytes. Copies are put with
//! the time of the batch before, so whatever is put later wins over them.
//!
//! What is left in the old place is cleared by the clock and not by what is put: a partition that grew fast may never be
//! written to again. Whoever becomes the writer clears what the one before may not have come to: the name of a bucket
//! says when it was made.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Weak,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use scylla::{response::PagingState, statement::prepared::PreparedStatement};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Patience, Shared,
    buckets::{BEHIND_ROWS, Bucket, CUTS, Directory, Part},
    failed,
    read::{DIRECTORY_HOLDS, Wanted},
    rows::{self, Cell, Range, Rows},
};
use crate::{Change, Key, Result};

/// A bucket is looked at once for so many parts of its bound that are put into it.
const LOOKS_PER_BOUND: u32 = 16;

/// Rows that are copied to another bucket at a time.
const ROWS_PER_COPY: i32 = 1_000;

/// Buckets looked at after one batch. Others come to it with what is put next.
const LOOKS_PER_BATCH_MAX: usize = 8;

/// How often it is looked whether something is to be cleared.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Buckets made so long before the last batch of the writer before, in microseconds, were cut by somebody who has lived
/// long enough since to clear up.
const LEFT_BEHIND_MAX_US: i64 = 3_600_000_000;

/// Old places that wait to be cleared. What does not fit is cleared when its bucket is looked at again.
const LEFT_MAX: usize = 100_000;

/// Old places that are remembered as cleared.
const CLEARED_MAX: usize = 10_000;

/// What was copied away is cleared after so long: whoever goes by an old directory has given up long before.
const CLEAR_AFTER: Duration = Duration::from_secs(2 * DIRECTORY_HOLDS.as_secs());

/// What the writer knows of partitions that are cut.
#[derive(Default)]
pub(super) struct Cuts {
    directories: Mutex<HashMap<Bytes, Directory>>,
    /// Since when each bucket is named by a directory that is written, as far as this process knows.
    since: Mutex<HashMap<Bucket, Instant>>,
    cleared: Mutex<HashSet<(Bytes, Bucket, Bytes)>>,
    left: Mutex<VecDeque<Left>>,
}

/// A bucket that still holds what was copied away from it.
struct Left {
    prefix: Bytes,
    bucket: Bucket,
    since: Instant,
}

impl Cuts {
    /// Where a position of a partition is.
    pub(super) fn of(&self, prefix: &[u8], position: &[u8]) -> Bucket {
        self.directories.lock().get(prefix).map_or(Bucket::BASE, |it| it.of(position).bucket)
    }

    fn directory(&self, prefix: &[u8]) -> Directory {
        self.directories.lock().get(prefix).cloned().unwrap_or_else(Directory::whole)
    }

    /// Takes note of directories among changes, for where the changes belong.
    pub(super) fn learn(&self, changes: &[Change]) -> Result<()> {
        for change in changes.iter().filter(|change| change.key.table_id() == CUTS.id) {
            if let Some(value) = &change.value {
                let prefix = Bytes::copy_from_slice(change.key.partition());
                self.directories.lock().insert(prefix, Directory::read(value)?);
            }
        }
        Ok(())
    }

    /// The directories among changes are written, in a batch of this time: from now on nobody learns of those before.
    pub(super) fn stand(&self, changes: &[Change], at_us: i64) {
        for change in changes.iter().filter(|change| change.key.table_id() == CUTS.id) {
            self.stands(change.key.partition(), at_us);
        }
    }

    /// All directories are written, those of the last batch, of this time, included.
    pub(super) fn all_stand(&self, at_us: i64) {
        let all: Vec<Bytes> = self.directories.lock().keys().cloned().collect();
        all.iter().for_each(|prefix| self.stands(prefix, at_us));
    }

    fn stands(&self, prefix: &[u8], at_us: i64) {
        let (directory, now) = (self.directory(prefix), Instant::now());
        for part in directory.parts() {
            if let Entry::Vacant(unknown) = self.since.lock().entry(part.bucket) {
                unknown.insert(now);
                if part.bucket.made_at_us() >= at_us.saturating_sub(LEFT_BEHIND_MAX_US) {
                    let (prefix, bucket) = (Bytes::copy_from_slice(prefix), directory.source(&part));
                    self.leave(Left { prefix, bucket, since: now });
                }
            }
        }
    }

    fn leave(&self, left: Left) {
        let mut all = self.left.lock();
        if all.len() >= LEFT_MAX {
            all.pop_front();
        }
        all.push_back(left);
    }

    /// The next bucket to clear, if its time has come.
    fn due(&self) -> Option<Left> {
        self.left.lock().pop_front_if(|left| left.since.elapsed() >= CLEAR_AFTER)
    }

    /// Where what a bucket holds begins to be of no use to anybody: it was copied away long ago.
    fn useless_from(&self, directory: &Directory, part: &Part) -> Option<Bytes> {
        // Whatever lies behind another bucket's beginning had left this one when that bucket was made, or before.
        let since = self.since.lock();
        let is_old = |other: &Part| since.get(&other.bucket).is_some_and(|since| since.elapsed() >= CLEAR_AFTER);
        directory.parts().skip_while(|other| other != part).skip(1).find(is_old).map(|other| other.from)
    }

    fn is_cleared(&self, place: &(Bytes, Bucket, Bytes)) -> bool {
        self.cleared.lock().contains(place)
    }

    fn clear(&self, place: (Bytes, Bucket, Bytes)) {
        let mut cleared = self.cleared.lock();
        if cleared.len() >= CLEARED_MAX {
            // To clear once more does no harm.
            cleared.clear();
        }
        cleared.insert(place);
    }
}

/// A directory as a change: the row that a writer reads when it begins. The base's own row is put beside it
/// ([`Shared::write`]).
fn change(prefix: &Bytes, directory: &Directory) -> Change {
    Change { key: Key::of(&CUTS).atom(prefix).key(), value: Some(directory.write()) }
}

impl Shared {
    /// Reads all directories. Only for whoever has just become the writer.
    pub(super) async fn learn_cuts(&self) -> Result<()> {
        let mut place = Some(super::each::Place::after(&[]));
        while let Some(from) = place {
            let (found, next) = self.page(CUTS.id, from).await?;
            let changes: Vec<Change> =
                found.into_iter().map(|row| Change { key: row.key, value: Some(row.value) }).collect();
            self.cuts.learn(&changes)?;
            place = next;
        }
        Ok(())
    }

    /// Clears one bucket whose time has come. Says whether there was one.
    async fn clear_one(&self) -> Result<bool> {
        let Some(left) = self.cuts.due() else { return Ok(false) };
        let directory = self.cuts.directory(&left.prefix);
        let Some(part) = directory.parts().find(|part| part.bucket == left.bucket) else { return Ok(true) };
        // Nobody but a newer version has tables that are not declared here.
        let Ok(rows) = self.rows(left.prefix[0]) else { return Ok(true) };
        let cleared = self.clear_behind(rows, &left.prefix, &directory, &part).await;
        if cleared.is_err() {
            self.cuts.leave(Left { since: Instant::now(), ..left });
        }
        cleared.map(|()| true)
    }

    /// Looks at some of the buckets to which a batch has added, and cuts those that are too large. What fails is tried
    /// again some batches later.
    pub(super) async fn cut_where_due(&self, changes: &[Change]) -> Result<()> {
        let mut due: Vec<(Bytes, Bucket)> = Vec::new();
        for Change { key, value } in changes {
            let Some(cutting) = self.rows(key.table_id())?.cutting.as_ref().filter(|_| value.is_some()) else {
                continue;
            };
            let looks_of = u64::from(cutting.rows_max / LOOKS_PER_BOUND).max(1);
            // The seed is this process's own, so that nobody can choose positions that are never looked at.
            if !xxh3_64_with_seed(key.clustering(), self.seed).is_multiple_of(looks_of) {
                continue;
            }
            let prefix = rows::parts(key).0;
            let bucket = self.cuts.of(&prefix, key.clustering());
            if !due.contains(&(prefix.clone(), bucket)) {
                due.push((prefix, bucket));
                if due.len() >= LOOKS_PER_BATCH_MAX {
                    break;
                }
            }
        }
        for (prefix, mut bucket) in due {
            // A large batch may have added more than one cut takes away.
            while let Some(next) = self.look(&prefix, bucket).await? {
                bucket = next;
            }
        }
        Ok(())
    }

    /// Looks how large a bucket is. Answers the bucket to look at next, if it was cut.
    async fn look(&self, prefix: &Bytes, bucket: Bucket) -> Result<Option<Bucket>> {
        let rows = self.rows(prefix[0])?;
        let directory = self.cuts.directory(prefix);
        let Some((part, rows_max)) = directory
            .parts()
            .find(|part| part.bucket == bucket)
            .zip(rows.cutting.as_ref().map(|cutting| cutting.rows_max as usize))
        else {
            return Ok(None);
        };
        self.clear_behind(rows, prefix, &directory, &part).await?;
        let positions = self.positions(rows, prefix, &part).await?;
        // The head of a partition stays where it is, so one row alone cannot be cut.
        let Some(middle) = positions.get(positions.len() / 2).filter(|_| positions.len() > rows_max.max(1)) else {
            return Ok(None);
        };
        let at_us = self.lease.time().await;
        let new = Bucket::made_at(at_us);
        let copied = self.copy_from(rows, prefix, &part, middle, new, at_us).await?;
        let cut = directory.cut(middle, new, at_us);
        self.apply_one(&[change(prefix, &cut)]).await?;
        tracing::info!(
            table = prefix[0],
            rows = positions.len(),
            copied,
            buckets = cut.parts().count(),
            "a wide partition was cut"
        );
        Ok(Some(new))
    }

    /// All positions of a bucket, in order.
    async fn positions(&self, rows: &Rows, prefix: &Bytes, part: &Part) -> Result<Vec<Bytes>> {
        let Some(cutting) = &rows.cutting else { return Ok(Vec::new()) };
        let (from, to) = (rows.kept(&part.from), end_of(rows, part));
        let (mut found, mut paging) = (Vec::new(), PagingState::start());
        loop {
            let mut values = rows.place(prefix, &part.bucket);
            values.extend([Cell::Bytes(&from), Cell::Bytes(&to)]);
            let page = self.session.execute_single_page(&cutting.positions, values, paging).await;
            let (result, next) = page.map_err(failed)?;
            let result = result.into_rows_result().map_err(failed)?;
            for row in result.rows::<(&[u8],)>().map_err(failed)? {
                found.extend(rows.position(row.map_err(failed)?.0).map(Bytes::copy_from_slice));
            }
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Continue(next) => paging = next,
                std::ops::ControlFlow::Break(()) => return Ok(found),
            }
        }
    }

    /// Copies what a bucket holds from a position on to a new one.
    async fn copy_from(
        &self,
        rows: &Rows,
        prefix: &Bytes,
        part: &Part,
        from: &Bytes,
        to: Bucket,
        at_us: i64,
    ) -> Result<usize> {
        let all = Range { from: from.to_vec(), to: part.to.as_ref().map(|to| to.to_vec()), reverse: false, limit: 0 };
        let (mut next, mut copied) = (Range { limit: ROWS_PER_COPY, ..all }, 0);
        loop {
            let found = self.scan_bucket(rows, &rows.fresh, prefix, part.bucket, &next, &Wanted::new()).await?;
            let Some(last) = found.last() else { return Ok(copied) };
            next.from = [last.clustering(), &[0]].concat();
            copied += found.len();
            let is_last = found.len() < ROWS_PER_COPY as usize;
            let changes = found.into_iter().map(|row| (rows.kept(row.clustering()), Some(row.value))).collect();
            self.write_bucket(prefix.clone(), to, changes, at_us).await?;
            if is_last {
                return Ok(copied);
            }
        }
    }

    /// Removes what was copied away from a bucket, once nobody goes by the directory of before.
    async fn clear_behind(&self, rows: &Rows, prefix: &Bytes, directory: &Directory, part: &Part) -> Result<()> {
        let Some((cutting, to)) = rows.cutting.as_ref().zip(self.cuts.useless_from(directory, part)) else {
            return Ok(());
        };
        let place = (prefix.clone(), part.bucket, to.clone());
        if self.cuts.is_cleared(&place) {
            return Ok(());
        }
        let from = rows.kept(&to);
        let mut clear: PreparedStatement = cutting.clear.clone();
        // Later than all that was ever put there.
        clear.set_timestamp(Some(self.lease.time().await));
        let mut patience = Patience::new();
        loop {
            let mut values = rows.place(prefix, &part.bucket);
            values.extend([Cell::Bytes(&from), Cell::Bytes(BEHIND_ROWS)]);
            match self.session.execute_unpaged(&clear, values).await {
                Ok(_) => break,
                Err(e) => patience.rest(failed(e)).await?,
            }
        }
        self.cuts.clear(place);
        Ok(())
    }
}

/// Clears what was copied away, as long as this process writes.
pub(super) async fn keep_clear(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        loop {
            // Held for one bucket only, so that the engine can go in between.
            let Some(shared) = shared.upgrade() else { return };
            if !shared.lease.is_held() {
                return;
            }
            match shared.clear_one().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "copies of a partition that was cut could not be cleared; it is tried again");
                    break;
                }
            }
        }
    }
}

fn end_of(rows: &Rows, part: &Part) -> Bytes {
    part.to.as_ref().map_or(Bytes::from_static(BEHIND_ROWS), |to| rows.kept(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT_US: i64 = 1_800_000_000_000_000;

    #[test]
    fn copies_wait_from_when_their_directory_is_written_and_once_only() {
        let (cuts, prefix) = (Cuts::default(), Bytes::from_static(b"\x16followers"));
        let directory = Directory::whole().cut(&Bytes::from_static(b"m"), Bucket::made_at(CUT_US), CUT_US);
        let batch = [change(&prefix, &directory)];
        cuts.learn(&batch).unwrap();
        assert_eq!(cuts.of(&prefix, b"x"), Bucket::made_at(CUT_US), "what is put belongs there at once");
        assert!(cuts.left.lock().is_empty(), "a reader may still learn of the directory before");
        cuts.stand(&batch, CUT_US + 1);
        cuts.stand(&batch, CUT_US + 2);
        let left: Vec<_> = cuts.left.lock().iter().map(|left| (left.prefix.clone(), left.bucket)).collect();
        assert_eq!(left, [(prefix, Bucket::BASE)]);
        assert!(cuts.due().is_none(), "readers go by the directory before for a while");
    }

    #[test]
    fn a_new_writer_clears_what_was_cut_lately_and_leaves_the_rest() {
        let prefix = Bytes::from_static(b"\x16followers");
        let directory = Directory::whole().cut(&Bytes::from_static(b"s"), Bucket::made_at(CUT_US), CUT_US).cut(
            &Bytes::from_static(b"m"),
            Bucket::made_at(CUT_US + LEFT_BEHIND_MAX_US),
            CUT_US + LEFT_BEHIND_MAX_US,
        );
        for (last_us, waiting) in [(CUT_US + LEFT_BEHIND_MAX_US, 2), (CUT_US + LEFT_BEHIND_MAX_US + 1, 1)] {
            let cuts = Cuts::default();
            cuts.learn(&[change(&prefix, &directory)]).unwrap();
            cuts.all_stand(last_us);
            assert_eq!(cuts.left.lock().len(), waiting, "{last_us}");
        }
    }
}
