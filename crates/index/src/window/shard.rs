//! Some of the authors, with their items, and the merging of many authors into one page.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::LazyLock,
};

use smallvec::SmallVec;

use super::{After, Hit, NOTHING, Place, UNBEARABLE, Wanted, cut, did_text};
use crate::{
    atom::Atom,
    feeds::{IS_QUOTE, IS_REPLY, POST_ITEM, REPOST_ITEM},
    names::Names,
};

/// The first byte of the atom of a record key that is a TID; eight bytes follow.
const TID_ATOM_BYTES: usize = 9;

/// The item is a repost.
const REPOST: u8 = 64;
/// The record key is no TID: the number is that of a key kept apart.
const ODD: u8 = 128;

/// What an author costs beside the items: place in the table, allocation.
const AUTHOR_BYTES: u64 = 72;

/// What a record key that is kept apart costs beside its bytes.
const ODD_BYTES: u64 = 64;

/// An item as it is kept: 24 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    time: Place,
    /// The TID, or the number of a record key kept apart.
    rkey: u64,
    /// As in positions: the larger, the smaller.
    tie: u32,
    flags: u8,
}

/// An item as a row says it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) time: Place,
    tie: u32,
    kind: u8,
    rkey: &'a [u8],
    flags: u8,
}

impl<'a> Slot<'a> {
    /// Reads a position of `recent`: the author's atom and the item.
    pub(super) fn read(clustering: &'a [u8], flags: u8) -> Option<(&'a [u8], Self)> {
        let (time, tie, author, kind, rkey) = cut(clustering)?;
        Some((author, Self { time, tie, kind, rkey, flags }))
    }
}

/// Items that are remembered because they went while the window was being filled.
const GONE_MAX: usize = 2_048;

/// Type and record key, as in positions.
type Tail = SmallVec<[u8; 16]>;

/// Some of the authors.
#[derive(Default)]
pub(super) struct Shard {
    /// Items by author, oldest first.
    pub(super) authors: HashMap<u32, Vec<Kept>>,
    /// Record keys that are no TIDs.
    odd: HashMap<u64, Box<[u8]>>,
    odd_made: u64,
    odd_bytes: u64,
    capacity: u64,
    pub(super) items: u64,
    /// What was removed while the window was being filled: author, time, tie and tail. It may be read late.
    pub(super) gone: HashSet<(u32, Place, u32, Tail)>,
}

/// The first byte of every TID atom.
fn tid_tag() -> u8 {
    static TAG: LazyLock<u8> = LazyLock::new(|| crate::atom::rkey("3jzfcijpj2z2a")[0]);
    *TAG
}

/// Type and record key of an item.
fn tail_of(odd: &HashMap<u64, Box<[u8]>>, kept: &Kept) -> Tail {
    let mut tail = Tail::new();
    tail.push(if kept.flags & REPOST != 0 { REPOST_ITEM } else { POST_ITEM });
    if kept.flags & ODD != 0 {
        tail.extend_from_slice(odd.get(&kept.rkey).map_or(&[], |rkey| &rkey[..]));
    } else {
        tail.push(tid_tag());
        tail.extend_from_slice(&kept.rkey.to_be_bytes());
    }
    tail
}

/// Where an item is or belongs among an author's, oldest first.
fn find(odd: &HashMap<u64, Box<[u8]>>, items: &[Kept], slot: &Slot<'_>) -> Result<usize, usize> {
    let wanted = (slot.time, slot.tie);
    let begin = items.partition_point(|kept| (kept.time, kept.tie) > wanted);
    let mut tail = Tail::from_slice(&[slot.kind]);
    tail.extend_from_slice(slot.rkey);
    for (at, kept) in items.iter().enumerate().skip(begin) {
        if (kept.time, kept.tie) != wanted {
            return Err(at);
        }
        match tail_of(odd, kept).cmp(&tail) {
            Ordering::Greater => {}
            Ordering::Equal => return Ok(at),
            Ordering::Less => return Err(at),
        }
    }
    Err(items.len())
}

impl Shard {
    pub(super) fn bytes(&self) -> u64 {
        self.capacity * size_of::<Kept>() as u64 + self.authors.len() as u64 * AUTHOR_BYTES + self.odd_bytes
    }

    fn gone_key(author: u32, slot: &Slot<'_>) -> (u32, Place, u32, Tail) {
        let mut tail = Tail::from_slice(&[slot.kind]);
        tail.extend_from_slice(slot.rkey);
        (author, slot.time, slot.tie, tail)
    }

    /// Keeps an item, and says whether it is new. One that was read from the store may be gone already.
    pub(super) fn put(&mut self, author: u32, slot: Slot<'_>, live: bool, filling: bool) -> bool {
        if filling && !self.gone.is_empty() {
            let key = Self::gone_key(author, &slot);
            if live {
                self.gone.remove(&key);
            } else if self.gone.contains(&key) {
                return false;
            }
        }
        let items = self.authors.entry(author).or_default();
        let mut flags = slot.flags & !(REPOST | ODD);
        if slot.kind == REPOST_ITEM {
            flags |= REPOST;
        }
        match find(&self.odd, items, &slot) {
            Ok(at) => {
                items[at].flags = flags | (items[at].flags & ODD);
                false
            }
            Err(at) => {
                let rkey = match slot.rkey {
                    [tag, tid @ ..] if slot.rkey.len() == TID_ATOM_BYTES && *tag == tid_tag() => {
                        u64::from_be_bytes(tid.try_into().unwrap_or_default())
                    }
                    other => {
                        self.odd_made += 1;
                        self.odd_bytes += ODD_BYTES + other.len() as u64;
                        self.odd.insert(self.odd_made, other.into());
                        flags |= ODD;
                        self.odd_made
                    }
                };
                let before = items.capacity() as u64;
                items.insert(at, Kept { time: slot.time, rkey, tie: slot.tie, flags });
                self.capacity += items.capacity() as u64 - before;
                self.items += 1;
                true
            }
        }
    }

    /// Forgets an item, and says whether it was there.
    pub(super) fn remove(&mut self, author: u32, slot: &Slot<'_>) -> bool {
        let Some(mut items) = self.authors.remove(&author) else { return false };
        let found = find(&self.odd, &items, slot);
        if let Ok(at) = found {
            let kept = items.remove(at);
            self.items -= 1;
            self.forget_odd(&kept);
        }
        self.put_back(author, items);
        found.is_ok()
    }

    /// Remembers that an item has gone whose row may be read late. Says no when there are too many to remember.
    pub(super) fn remember_gone(&mut self, author: u32, slot: &Slot<'_>) -> bool {
        if self.gone.len() >= GONE_MAX {
            return false;
        }
        self.gone.insert(Self::gone_key(author, slot));
        true
    }

    fn put_back(&mut self, author: u32, mut items: Vec<Kept>) {
        let before = items.capacity() as u64;
        if items.is_empty() {
            self.capacity -= before;
            return;
        }
        if items.capacity() > 2 * items.len() + 4 {
            items.shrink_to_fit();
            self.capacity -= before - items.capacity() as u64;
        }
        self.authors.insert(author, items);
    }

    fn forget_odd(&mut self, kept: &Kept) {
        if kept.flags & ODD != 0
            && let Some(rkey) = self.odd.remove(&kept.rkey)
        {
            self.odd_bytes -= ODD_BYTES + rkey.len() as u64;
        }
    }

    /// The place of the newest item of an author.
    pub(super) fn newest(&self, author: u32) -> Place {
        self.authors.get(&author).and_then(|items| items.last()).map_or(NOTHING, |kept| kept.time)
    }

    /// Forgets everything after a place. Returns the authors who have nothing left.
    pub(super) fn keep_to(&mut self, to: Place) -> Vec<u32> {
        let mut left_empty = Vec::new();
        for (author, mut items) in std::mem::take(&mut self.authors) {
            let going = items.partition_point(|kept| kept.time > to);
            for kept in items.drain(..going) {
                self.items -= 1;
                self.forget_odd(&kept);
            }
            if items.is_empty() {
                left_empty.push(author);
            }
            self.put_back(author, items);
        }
        left_empty
    }

    /// Offers the items of one author to a page.
    pub(super) fn offer(&self, author: u32, names: &Names, page: &mut Newest<'_>) {
        let Some(items) = self.authors.get(&author) else { return };
        let mut name: Option<Atom> = None;
        // Those before the page are at the end.
        let end = match &page.after {
            None => items.len(),
            Some(after) => items.partition_point(|kept| (kept.time, kept.tie) >= after.place),
        };
        for kept in items[..end].iter().rev() {
            if kept.time > page.holds_to || page.is_beyond(kept.time, kept.tie) {
                return;
            }
            if !page.wants(kept.flags) {
                continue;
            }
            let entry = Entry {
                time: kept.time,
                tie: kept.tie,
                author: SmallVec::from_slice(name.get_or_insert_with(|| names.atom(author))),
                number: author,
                tail: tail_of(&self.odd, kept),
                flags: kept.flags,
            };
            if page.after.is_none_or(|after| after.is_before(&entry)) {
                page.take(entry);
            }
        }
    }
}

impl After<'_> {
    /// Whether an item of this time and tie or a later place is still to come.
    fn is_before(&self, entry: &Entry) -> bool {
        if (entry.time, entry.tie) != self.place {
            return true;
        }
        self.twin.is_some_and(|(did, tail)| (did_text(&entry.author).as_str(), &entry.tail[..]) > (did, tail))
    }
}

/// An item that may be on the page.
#[derive(Debug)]
struct Entry {
    time: Place,
    tie: u32,
    author: SmallVec<[u8; 24]>,
    number: u32,
    tail: Tail,
    flags: u8,
}

impl Ord for Entry {
    /// Newest first; among twins by the author's DID as text, as pages over stored feeds are.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.time, self.tie).cmp(&(other.time, other.tie)).then_with(|| {
            if self.author == other.author {
                return self.tail.cmp(&other.tail);
            }
            did_text(&self.author).cmp(&did_text(&other.author)).then_with(|| self.tail.cmp(&other.tail))
        })
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// The page as it comes about: the newest so many of what was offered.
pub(super) struct Newest<'a> {
    /// The oldest of them on top.
    heap: BinaryHeap<Entry>,
    want: usize,
    holds_to: Place,
    after: Option<After<'a>>,
    wanted: Wanted,
}

impl<'a> Newest<'a> {
    pub(super) fn new(want: usize, holds_to: Place, after: Option<After<'a>>, wanted: Wanted) -> Self {
        Self { heap: BinaryHeap::with_capacity(want + 1), want, holds_to, after, wanted }
    }

    /// Whether the page is full without items of this place and later ones.
    fn is_beyond(&self, time: Place, tie: u32) -> bool {
        self.heap.len() >= self.want && self.heap.peek().is_some_and(|worst| (time, tie) > (worst.time, worst.tie))
    }

    /// Whether the page is full, and everything of this time and before is too old for it.
    pub(super) fn is_over(&self, time: Place) -> bool {
        self.heap.len() >= self.want && self.heap.peek().is_some_and(|worst| time > worst.time)
    }

    fn wants(&self, flags: u8) -> bool {
        let Wanted { no_replies, no_reposts, no_quotes } = self.wanted;
        !(flags & UNBEARABLE != 0
            || (no_replies && flags & IS_REPLY != 0)
            || (no_reposts && flags & REPOST != 0)
            || (no_quotes && flags & IS_QUOTE != 0))
    }

    fn take(&mut self, entry: Entry) {
        self.heap.push(entry);
        if self.heap.len() > self.want {
            self.heap.pop();
        }
    }

    /// The page, newest first, without what the window may not hold whole any more.
    pub(super) fn hits(self, holds_to: Place) -> Vec<Hit> {
        let mut hits = Vec::with_capacity(self.heap.len());
        for entry in self.heap.into_sorted_vec() {
            if entry.time > holds_to {
                break;
            }
            let mut position = Vec::with_capacity(12 + entry.tail.len());
            position.extend_from_slice(&entry.time.to_be_bytes());
            position.extend_from_slice(&entry.tie.to_be_bytes());
            position.extend_from_slice(&entry.tail);
            hits.push(Hit { author: entry.number, position, flags: entry.flags & !(REPOST | ODD) });
        }
        hits
    }
}
