//! Reading one partition in order.

use std::ops::Bound;

use bytes::Bytes;

use crate::{Key, Partition};

/// Most rows one scan returns.
pub const ROWS_PER_SCAN_MAX: usize = 10_000;

/// A page ends behind the row with which its keys and values have so many bytes, whatever its limit: large rows are read
/// in several pages.
pub const BYTES_PER_SCAN_MAX: usize = 4 << 20;

/// A range of one partition, in one direction, at most `limit` rows and about [`BYTES_PER_SCAN_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scan {
    pub(crate) partition: Partition,
    /// Begins every position that is wanted.
    pub(crate) prefix: Vec<u8>,
    /// Lower end, relative to the partition.
    pub(crate) from: Bound<Vec<u8>>,
    /// Upper end, relative to the partition.
    pub(crate) to: Bound<Vec<u8>>,
    pub(crate) reverse: bool,
    pub(crate) limit: usize,
}

impl Scan {
    /// All rows of a partition, its head included, in order.
    ///
    /// A scan that does not want the head should begin after it, by [`Scan::prefix`] or [`Scan::after`]: a row that
    /// changes often has many versions in memory, and a scan that begins at it walks over all of them.
    pub fn of(partition: Partition) -> Self {
        Self {
            partition,
            prefix: Vec::new(),
            from: Bound::Unbounded,
            to: Bound::Unbounded,
            reverse: false,
            limit: ROWS_PER_SCAN_MAX,
        }
    }

    /// Only positions that begin with these bytes. Without it a scan includes the head.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only positions after this one (in byte order, whatever the direction).
    #[must_use]
    pub fn after(mut self, clustering: impl Into<Vec<u8>>) -> Self {
        self.from = Bound::Excluded(clustering.into());
        self
    }

    /// Only this position and those after it.
    #[must_use]
    pub fn from(mut self, clustering: impl Into<Vec<u8>>) -> Self {
        self.from = Bound::Included(clustering.into());
        self
    }

    /// Only positions before this one.
    #[must_use]
    pub fn before(mut self, clustering: impl Into<Vec<u8>>) -> Self {
        self.to = Bound::Excluded(clustering.into());
        self
    }

    /// Last position first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// At most so many rows; clamped to [`ROWS_PER_SCAN_MAX`]. With 0 nothing is read and nothing follows.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.min(ROWS_PER_SCAN_MAX);
        self
    }

    /// The partition that is read.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// The range as whole keys, end exclusive or unbounded only if no key can follow.
    pub(crate) fn bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let whole = |tail: &[u8]| {
            let mut key = Vec::with_capacity(self.partition.prefix().len() + tail.len());
            key.extend_from_slice(self.partition.prefix());
            key.extend_from_slice(tail);
            key
        };
        let lowest = whole(&self.prefix);
        let highest = successor(&lowest);
        let from = match &self.from {
            Bound::Unbounded => Bound::Included(lowest),
            Bound::Included(at) => Bound::Included(whole(at).max(lowest)),
            Bound::Excluded(at) => {
                let at = whole(at);
                if at < lowest { Bound::Included(lowest) } else { Bound::Excluded(at) }
            }
        };
        let cap = match highest {
            Some(h) => Bound::Excluded(h),
            None => Bound::Unbounded,
        };
        let to = match (&self.to, cap) {
            (Bound::Unbounded, cap) => cap,
            (Bound::Excluded(at) | Bound::Included(at), cap) => {
                let at = whole(at);
                match cap {
                    Bound::Excluded(h) if h < at => Bound::Excluded(h),
                    _ => Bound::Excluded(at),
                }
            }
        };
        (from, to)
    }

    /// Whether the range holds no position at all, so that engines need not be asked.
    pub(crate) fn is_empty_range(&self) -> bool {
        if self.limit == 0 {
            return true;
        }
        let (from, to) = self.bounds();
        match (&from, &to) {
            (Bound::Included(a), Bound::Excluded(b)) => a >= b,
            (Bound::Excluded(a), Bound::Excluded(b)) => a >= b,
            _ => false,
        }
    }
}

/// The smallest byte string greater than every string that begins with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.last_mut() {
        if *last < 0xff {
            *last += 1;
            return Some(next);
        }
        next.pop();
    }
    None
}

/// One row as a scan returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub key: Key,
    /// What it says.
    pub value: Bytes,
}

impl Row {
    /// The position inside its partition.
    pub fn clustering(&self) -> &[u8] {
        self.key.clustering()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.key.bytes().len() + self.value.len()
    }
}

/// What a scan found.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Rows in the asked direction.
    pub rows: Vec<Row>,
    /// Whether more rows of the range follow.
    pub more: bool,
}

impl Page {
    /// As many of these rows as a page may have: of a range's first rows, of which there is one more than the limit if
    /// more follow.
    pub(crate) fn bounded(rows: impl IntoIterator<Item = Row>, limit: usize) -> Self {
        let mut page = Self::default();
        let mut bytes = 0;
        for row in rows {
            if page.rows.len() == limit || bytes >= BYTES_PER_SCAN_MAX {
                page.more = true;
                break;
            }
            bytes += row.bytes();
            page.rows.push(row);
        }
        page
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.iter().map(Row::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successor_skips_full_bytes() {
        assert_eq!(successor(b"a"), Some(b"b".to_vec()));
        assert_eq!(successor(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(successor(&[0xff]), None);
    }
}
