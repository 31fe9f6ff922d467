//! Wide partitions: how rows of one partition of ours are spread over several of the cluster's.
//!
//! A table that declares `bucket_rows` is kept in buckets. A partition begins as one, the base. When that has more rows
//! than declared, the writer cuts it in the middle: the rows from there on are copied to a new bucket, and a row of the
//! base, the directory, says which positions are in which bucket. Buckets are cut again in the same way, so none has
//! more than about twice the rows declared.
//!
//! ```text
//! base          directory: base to m, bucket 7 to s, bucket 9    rows before m
//! bucket 7      rows from m to s
//! bucket 9      rows from s on
//! ```
//!
//! Readers know nothing beforehand: whoever reads rows of the base asks for the directory in the same statement, and so
//! learns, as of the same moment, whether the base is the right place. Most partitions have no directory, and cost one
//! statement as before. What was copied away stays where it was for half a minute, for readers who have seen an old
//! directory, and is no part of the bucket any more.

use bytes::{BufMut, Bytes};

use crate::{Cache, Error, Result, Table};

/// The name of a bucket in its partition. Zeros are the base; others are the time at which they were made, so that none
/// is used again whoever made it and whatever became of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bucket(pub(super) [u8; 8]);

impl Bucket {
    pub(super) const BASE: Self = Self([0; 8]);

    pub(super) fn made_at(at_us: i64) -> Self {
        Self(at_us.to_be_bytes())
    }

    /// When it was made, in microseconds of the writer's clock; 0 for the base.
    pub(super) fn made_at_us(self) -> i64 {
        i64::from_be_bytes(self.0)
    }
}

/// All directories of a keyspace, so that a writer need not look into every partition it writes to. The partition is the
/// number of the table and the partition that is cut.
pub(super) static CUTS: Table = Table {
    id: 252, // On disk. Never reused, never renumbered.
    name: "cut",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::Never,
    bucket_rows: None,
};

/// First byte of a directory.
const LAYOUT: u8 = 1;

/// Where the directory is in the base, and what comes before the positions of rows.
pub(super) const DIRECTORY_AT: &[u8] = &[0];
pub(super) const ROWS_AT: u8 = 1;
/// Behind all rows of a bucket.
pub(super) const BEHIND_ROWS: &[u8] = &[ROWS_AT + 1];

/// Which positions of a partition are in which bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    /// When it was made, in microseconds of the writer's clock.
    pub(super) at_us: i64,
    /// Where each bucket begins, in order; the first one is at the beginning.
    parts: Vec<(Bytes, Bucket)>,
}

/// The positions of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bucket: Bucket,
    pub(super) from: Bytes,
    /// The first position that is not in it any more; none for the last bucket.
    pub(super) to: Option<Bytes>,
}

impl Part {
    pub(super) fn holds(&self, position: &[u8]) -> bool {
        *position >= *self.from && self.to.as_ref().is_none_or(|to| position < &to[..])
    }
}

impl Directory {
    /// A partition that is not cut.
    pub(super) fn whole() -> Self {
        Self { at_us: 0, parts: vec![(Bytes::new(), Bucket::BASE)] }
    }

    /// The bucket in which a position is.
    pub(super) fn of(&self, position: &[u8]) -> Part {
        let at = self.parts.partition_point(|(from, _)| from[..] <= *position);
        // The first one begins before all positions.
        self.part(at.max(1) - 1)
    }

    fn part(&self, at: usize) -> Part {
        let (from, bucket) = &self.parts[at];
        Part { bucket: *bucket, from: from.clone(), to: self.parts.get(at + 1).map(|(from, _)| from.clone()) }
    }

    /// All buckets in order.
    pub(super) fn parts(&self) -> impl DoubleEndedIterator<Item = Part> + '_ {
        (0..self.parts.len()).map(|at| self.part(at))
    }

    /// The bucket from which another one was cut: the nearest before it that is older. Those between came later.
    pub(super) fn source(&self, cut: &Part) -> Bucket {
        let older = |(_, bucket): &&(Bytes, Bucket)| bucket.made_at_us() < cut.bucket.made_at_us();
        let before = self.parts.partition_point(|(from, _)| from < &cut.from);
        self.parts[..before].iter().rev().find(older).map_or(Bucket::BASE, |(_, bucket)| *bucket)
    }

    /// The same with a bucket of its own for what comes from `at` on in the bucket that holds it now.
    pub(super) fn cut(&self, at: &Bytes, bucket: Bucket, at_us: i64) -> Self {
        let mut parts = self.parts.clone();
        let place = parts.partition_point(|(from, _)| from <= at);
        parts.insert(place, (at.clone(), bucket));
        Self { at_us, parts }
    }

    /// `layout, time, then for each bucket: name, length of the position, position`
    pub(super) fn write(&self) -> Bytes {
        let mut out = Vec::with_capacity(9 + self.parts.len() * 40);
        out.put_u8(LAYOUT);
        out.put_i64(self.at_us);
        for (from, bucket) in &self.parts {
            out.put_slice(&bucket.0);
            out.put_u16(u16::try_from(from.len()).unwrap_or(u16::MAX));
            out.put_slice(from);
        }
        out.into()
    }

    pub(super) fn read(stored: &[u8]) -> Result<Self> {
        let read = || {
            let (layout, rest) = stored.split_first()?;
            let (at_us, mut rest) = rest.split_first_chunk::<8>()?;
            let mut parts: Vec<(Bytes, Bucket)> = Vec::new();
            while !rest.is_empty() {
                let (bucket, tail) = rest.split_first_chunk::<8>()?;
                let (length, tail) = tail.split_first_chunk::<2>()?;
                let (from, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                parts.push((Bytes::copy_from_slice(from), Bucket(*bucket)));
                rest = tail;
            }
            let is_sound = *layout == LAYOUT
                && parts.first().is_some_and(|(from, bucket)| from.is_empty() && *bucket == Bucket::BASE)
                && parts.is_sorted_by(|(a, _), (b, _)| a < b);
            is_sound.then_some(Self { at_us: i64::from_be_bytes(*at_us), parts })
        };
        read().ok_or_else(|| {
            Error::Engine(
                "a directory of buckets is damaged: repair the keyspace, or restore it from a snapshot".into(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_in_one_bucket_however_often_it_was_cut() {
        let (m, s) = (Bytes::from_static(b"m"), Bytes::from_static(b"s"));
        let (seven, nine) = (Bucket::made_at(7), Bucket::made_at(9));
        let whole = Directory::whole();
        assert_eq!(whole.of(b""), Part { bucket: Bucket::BASE, from: Bytes::new(), to: None });
        let cut = whole.cut(&m, seven, 7).cut(&s, nine, 9);
        for (position, bucket) in [
            (&b""[..], Bucket::BASE),
            (b"a", Bucket::BASE),
            (b"lzz", Bucket::BASE),
            (b"m", seven),
            (b"m\0", seven),
            (b"rzz", seven),
            (b"s", nine),
            (b"\xff\xff", nine),
        ] {
            let part = cut.of(position);
            assert!(part.bucket == bucket && part.holds(position), "{position:?} {part:?}");
            assert_eq!(cut.parts().filter(|part| part.holds(position)).count(), 1);
        }
        let again = cut.cut(&Bytes::from_static(b"c"), Bucket::made_at(11), 11);
        assert_eq!(again.of(b"b").bucket, Bucket::BASE);
        assert_eq!(again.of(b"d").bucket, Bucket::made_at(11));
        assert_eq!(again.of(b"n").bucket, seven);
        assert_eq!(again.parts().count(), 4);
    }

    #[test]
    fn a_bucket_is_known_by_the_one_that_it_was_cut_from() {
        let (seven, nine, eleven) = (Bucket::made_at(7), Bucket::made_at(9), Bucket::made_at(11));
        // Seven from the base, nine from the base before it, eleven from seven.
        let directory = Directory::whole()
            .cut(&Bytes::from_static(b"m"), seven, 7)
            .cut(&Bytes::from_static(b"c"), nine, 9)
            .cut(&Bytes::from_static(b"s"), eleven, 11);
        let sources: Vec<_> = directory.parts().map(|part| (part.bucket, directory.source(&part))).collect();
        let base = Bucket::BASE;
        assert_eq!(sources, [(base, base), (nine, base), (seven, base), (eleven, seven)]);
    }

    #[test]
    fn a_directory_comes_back_and_a_damaged_one_is_refused() {
        let cut = Directory::whole().cut(&Bytes::from_static(b"m"), Bucket::made_at(7), 7);
        let bytes = cut.write();
        assert_eq!(Directory::read(&bytes).unwrap(), cut);
        for n in 0..bytes.len() {
            // Cut behind its first bucket it is sound: a partition that is not cut.
            assert!(n == 19 || Directory::read(&bytes[..n]).is_err(), "cut at {n}");
        }
        let mut other = bytes.to_vec();
        other[0] = 2;
        assert!(Directory::read(&other).is_err());
    }
}
