//! Counts: cells of the head of a partition, changed in the same write as the rows they count.
//!
//! A head is a list of unsigned varints; a cell that is not there is zero, so cells can be added at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use gp_store::{Key, View};

use crate::{Result, popular};

/// Cells of the head of a partition of `on`. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OnCount {
    /// Likes of the subject.
    Likes = 0,
    /// Reposts of the subject.
    Reposts = 1,
    /// Direct replies that do not break the thread's gate.
    Replies = 2,
    /// Posts that quote the subject.
    Quotes = 3,
    /// Bookmarks of the subject.
    Bookmarks = 4,
    /// Followers of the account.
    Followers = 5,
    /// Items of the list.
    Items = 6,
    /// Accounts that joined through the starter pack.
    Joined = 7,
    /// Replies that break the gate. Not served; it makes the head tell whether anything waits for the subject.
    RepliesGated = 8,
    /// Replies anywhere in the thread. Not served.
    Thread = 9,
    /// Verifications of the account.
    Verifications = 10,
    /// Subscribers of the account's activity. Not served.
    Subscribers = 11,
    /// Replies whose gate asked who follows the account or is on the list. Not served.
    Watching = 12,
    /// Direct replies that were deleted. Not served.
    RepliesGone = 13,
    /// Posts that quoted the subject before it was deleted. Not served.
    QuotesGone = 14,
    /// Replaced versions of the gates of the post that are kept. Not served.
    GateVersions = 15,
}

/// Cells of the head of a partition of `by`. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ByCount {
    /// Posts, replies included.
    Posts = 0,
    /// Accounts followed.
    Follows = 1,
    /// Lists of all purposes.
    Lists = 2,
    /// Feed generators.
    Generators = 3,
    /// Starter packs.
    Packs = 4,
    /// Reposts.
    Reposts = 5,
    /// Likes.
    Likes = 6,
}

/// Cells of the head of a partition of `private`. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PrivateCount {
    /// Threads muted.
    ThreadMutes = 0,
    /// Drafts.
    Drafts = 1,
    /// Bookmarks.
    Bookmarks = 2,
    /// Lists muted.
    ListMutes = 3,
    /// Accounts muted.
    Mutes = 4,
    /// No count: when the account was deleted for the last time, in milliseconds.
    GoneAtMs = 5,
}

/// Most cells a head may have.
const CELLS_MAX: usize = 32;

/// The cells of a head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head(Vec<u64>);

impl Head {
    /// Reads a head; an absent or damaged one is all zeros from where it cannot be read.
    pub fn read(stored: Option<&Bytes>) -> Self {
        let mut cells = Vec::new();
        let mut rest: &[u8] = stored.map_or(&[], |b| b);
        while !rest.is_empty() && cells.len() < CELLS_MAX {
            let Some((cell, after)) = varint(rest) else { break };
            cells.push(cell);
            rest = after;
        }
        Self(cells)
    }

    /// A cell.
    pub fn get(&self, cell: u8) -> u64 {
        self.0.get(usize::from(cell)).copied().unwrap_or(0)
    }

    /// A cell of `on` as the contract carries it: never below zero, never above its type.
    pub fn on(&self, cell: OnCount) -> i32 {
        i32::try_from(self.get(cell as u8)).unwrap_or(i32::MAX)
    }

    /// A cell of `by` as the contract carries it.
    pub fn by(&self, cell: ByCount) -> i32 {
        i32::try_from(self.get(cell as u8)).unwrap_or(i32::MAX)
    }

    /// A cell of `private` as the contract carries it.
    pub fn private(&self, cell: PrivateCount) -> i32 {
        i32::try_from(self.get(cell as u8)).unwrap_or(i32::MAX)
    }

    fn add(&mut self, cell: u8, delta: i64) {
        self.set(cell, self.get(cell).saturating_add_signed(delta));
    }

    fn set(&mut self, cell: u8, to: u64) {
        let at = usize::from(cell);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = to;
    }

    fn write(&self) -> Option<Vec<u8>> {
        let used = self.0.iter().rposition(|c| *c != 0)? + 1;
        let mut out = Vec::with_capacity(used + 4);
        for cell in &self.0[..used] {
            let mut n = *cell;
            while n >= 0x80 {
                out.push(n as u8 | 0x80);
                n >>= 7;
            }
            out.push(n as u8);
        }
        Some(out)
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut n = 0u64;
    for (i, b) in bytes.iter().enumerate().take(10) {
        n |= u64::from(b & 0x7f) << (7 * i);
        if b & 0x80 == 0 {
            return Some((n, &bytes[i + 1..]));
        }
    }
    None
}

/// Changes of counts that one unit of work makes, gathered so that each head is read and written once.
#[derive(Debug, Default)]
pub struct Deltas(BTreeMap<Key, Vec<(u8, i64)>>);

impl Deltas {
    /// Adds to a cell.
    pub fn add(&mut self, head: Key, cell: u8, delta: i64) {
        self.0.entry(head).or_default().push((cell, delta));
    }

    /// Writes the heads. A head whose cells are all zero is removed.
    pub fn apply(self, view: &mut View<'_>) -> Result<()> {
        for (key, deltas) in self.0 {
            if deltas.iter().all(|(_, d)| *d == 0) {
                continue;
            }
            let stored = view.get(&key)?;
            let before = Head::read(stored.as_ref());
            let mut after = before.clone();
            for (cell, delta) in deltas {
                after.add(cell, delta);
            }
            popular::follow_counts(view, &key, &before, &after);
            match after.write() {
                Some(bytes) => view.put(key, bytes),
                None => view.delete(key),
            }
        }
        Ok(())
    }
}

/// Empties a head but for one cell that is no count, and raises that to at least `to`.
pub(crate) fn keep_greatest(view: &mut View<'_>, key: Key, cell: u8, to: u64) -> Result<()> {
    let before = Head::read(view.get(&key)?.as_ref());
    let mut after = Head::default();
    after.set(cell, before.get(cell).max(to));
    match after.write() {
        Some(bytes) => view.put(key, bytes),
        None => view.delete(key),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_what_it_wrote_and_drops_trailing_zeros() {
        let mut head = Head::default();
        head.add(3, 300);
        head.add(1, 1);
        head.add(7, 2);
        head.add(7, -5);
        let bytes = Bytes::from(head.write().unwrap());
        assert_eq!(bytes.len(), 5);
        let read = Head::read(Some(&bytes));
        assert_eq!((read.get(0), read.get(1), read.get(3), read.get(7), read.get(31)), (0, 1, 300, 0, 0));
        head.add(3, -300);
        head.add(1, -1);
        assert_eq!(head.write(), None);
    }
}
