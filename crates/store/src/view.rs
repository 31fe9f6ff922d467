//! What a writer sees: the store as it stands, with its own unapplied changes on top.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Batch, Change, Error, Key, Page, Result, Row, Scan, engine::Local, recent::Recent};

/// Rows asked of the engine beyond those that the page still needs, for the changes that may hide some of them.
const ROWS_SPARE: usize = 16;

/// The store as it stands, with changes on top that are not applied yet.
///
/// Reads see the changes. [`View::mark`] and [`View::roll_back`] undo a unit of work that turned out to be wrong
/// without losing the units before it.
pub struct View<'a> {
    engine: &'a dyn Local,
    recent: Option<&'a Mutex<Recent>>,
    changes: BTreeMap<Key, Option<Bytes>>,
    undo: Vec<(Key, Option<Option<Bytes>>)>,
    /// Bytes put and deleted, those of undone and replaced changes included.
    bytes: u64,
    refused: Option<Error>,
}

impl<'a> View<'a> {
    pub(crate) fn new(engine: &'a dyn Local, recent: Option<&'a Mutex<Recent>>) -> Self {
        Self { engine, recent, changes: BTreeMap::new(), undo: Vec::new(), bytes: 0, refused: None }
    }

    /// The value at a key.
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.stored(key),
        }
    }

    /// The value at a key as it stands in the store, whatever is changed on top.
    pub fn stored(&self, key: &Key) -> Result<Option<Bytes>> {
        let Some(recent) = self.recent else { return self.engine.get_one(key) };
        let generation = match recent.lock().get(key) {
            Ok(value) => return Ok(Some(value)),
            Err(generation) => generation,
        };
        let value = self.engine.get_one(key)?;
        if let Some(value) = &value {
            recent.lock().fill(key, value, generation);
        }
        Ok(value)
    }

    /// A range of one partition.
    pub fn scan(&self, scan: &Scan) -> Result<Page> {
        if scan.is_empty_range() {
            return Ok(Page::default());
        }
        let split = scan.partition.split();
        let (from, to) = scan.bounds();
        let wrap = |b: Bound<Vec<u8>>| b.map(|v| Key::from_parts(Bytes::from(v), split));
        let mut range = self.changes.range((wrap(from), wrap(to)));
        let mut next_change = || if scan.reverse { range.next_back() } else { range.next() };
        let mut change = next_change();
        if change.is_none() {
            return self.engine.scan(scan);
        }
        let mut stored = Stored::open(self.engine, scan)?;
        let mut rows = Vec::with_capacity(scan.limit.min(stored.page.len() + 1));
        // One row more than asked shows whether more follow.
        while rows.len() <= scan.limit {
            let stored_first = stored.peek().is_some_and(|row| {
                change.is_none_or(|(key, _)| if scan.reverse { row.key > *key } else { row.key < *key })
            });
            if stored_first {
                rows.extend(stored.next()?);
                continue;
            }
            let Some((key, value)) = change else { break };
            if stored.peek().is_some_and(|row| row.key == *key) {
                stored.next()?;
            }
            if let Some(value) = value {
                rows.push(Row { key: key.clone(), value: value.clone() });
            }
            change = next_change();
        }
        let more = rows.len() > scan.limit;
        rows.truncate(scan.limit);
        Ok(Page { rows, more })
    }

    /// Puts a row. A key or value beyond the bounds of the store is refused when the job ends, and the job with it.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.set(key, Some(value.into()));
    }

    /// Removes a row.
    pub fn delete(&mut self, key: Key) {
        self.set(key, None);
    }

    /// Every change on top, in the order of keys: the new value, or nothing for a row that goes.
    pub fn changes(&self) -> impl Iterator<Item = (&Key, Option<&Bytes>)> {
        self.changes.iter().map(|(key, value)| (key, value.as_ref()))
    }

    /// Adds a change that belongs to no job.
    pub(crate) fn add(&mut self, change: Change) {
        self.set(change.key, change.value);
    }

    fn set(&mut self, key: Key, value: Option<Bytes>) {
        let change = Change { key, value };
        if let Err(e) = change.check() {
            self.refused.get_or_insert(e);
            return;
        }
        let Change { key, value } = change;
        self.bytes += (key.bytes().len() + value.as_ref().map_or(0, Bytes::len)) as u64;
        let before = self.changes.insert(key.clone(), value);
        self.undo.push((key, before));
    }

    /// A point to which the changes can be rolled back.
    pub fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Undoes every change made since the mark.
    pub fn roll_back(&mut self, mark: usize) {
        while self.undo.len() > mark {
            let Some((key, before)) = self.undo.pop() else { break };
            match before {
                Some(value) => self.changes.insert(key, value),
                None => self.changes.remove(&key),
            };
        }
    }

    /// How many rows are changed.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of all changes made, undone ones included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets how to undo what was done so far, when a new job begins. Marks from before it mean nothing any more.
    pub(crate) fn begin_job(&mut self) {
        self.undo.clear();
        self.refused = None;
    }

    /// Ends a job: if one of its changes was refused, none of them stands.
    pub(crate) fn end_job(&mut self) -> Result<()> {
        match self.refused.take() {
            Some(e) => {
                self.roll_back(0);
                Err(e)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in self.changes {
            batch.push(Change { key, value });
        }
        batch
    }
}

/// The stored rows of a range, taken page by page, because changes on top may hide any number of them.
struct Stored<'a> {
    engine: &'a dyn Local,
    rest: Scan,
    page: VecDeque<Row>,
    more: bool,
}

impl<'a> Stored<'a> {
    fn open(engine: &'a dyn Local, scan: &Scan) -> Result<Self> {
        let mut rest = scan.clone();
        rest.limit = scan.limit.saturating_add(ROWS_SPARE);
        let page = engine.scan(&rest)?;
        Ok(Self { engine, rest, page: page.rows.into(), more: page.more })
    }

    /// The next row; nothing at the end of the range.
    fn peek(&self) -> Option<&Row> {
        self.page.front()
    }

    fn next(&mut self) -> Result<Option<Row>> {
        let row = self.page.pop_front();
        if let Some(row) = &row
            && self.page.is_empty()
            && self.more
        {
            let last = row.clustering().to_vec();
            let rest = self.rest.clone();
            self.rest = if rest.reverse { rest.before(last) } else { rest.after(last) };
            let page = self.engine.scan(&self.rest)?;
            (self.page, self.more) = (page.rows.into(), page.more);
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Table, engine::mem::Mem};

    static T: Table =
        Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

    fn key(c: u8) -> Key {
        Key::of(&T).atom(b"p").cluster().tag(c).key()
    }

    fn shown(view: &View<'_>, scan: Scan) -> (Vec<u8>, bool) {
        let page = view.scan(&scan).unwrap();
        (page.rows.iter().map(|r| r.clustering()[0]).collect(), page.more)
    }

    #[test]
    fn a_scan_sees_puts_and_deletes_on_top_in_both_directions() {
        let mem = Mem::new();
        let mut batch = Batch::new();
        for c in [1, 3, 5, 7] {
            batch.put(key(c), vec![c]);
        }
        mem.apply(&batch).unwrap();
        let mut view = View::new(&mem, None);
        view.put(key(4), vec![4]);
        view.delete(key(5));
        view.put(key(7), vec![77]);
        let all = || Scan::of(key(0).to_partition());
        assert_eq!(shown(&view, all()), (vec![1, 3, 4, 7], false));
        assert_eq!(shown(&view, all().reverse()), (vec![7, 4, 3, 1], false));
        assert_eq!(shown(&view, all().limit(2)), (vec![1, 3], true));
        assert_eq!(shown(&view, all().limit(3)), (vec![1, 3, 4], true));
        assert_eq!(shown(&view, all().limit(4)), (vec![1, 3, 4, 7], false));
        assert_eq!(view.get(&key(7)).unwrap().as_deref(), Some(&[77][..]));
        assert_eq!(view.get(&key(5)).unwrap(), None);
    }

    #[test]
    fn rolling_back_undoes_only_what_came_after_the_mark() {
        let mem = Mem::new();
        let mut view = View::new(&mem, None);
        view.put(key(1), vec![1]);
        let mark = view.mark();
        view.put(key(1), vec![2]);
        view.put(key(2), vec![2]);
        view.delete(key(1));
        view.roll_back(mark);
        assert_eq!(view.get(&key(1)).unwrap().as_deref(), Some(&[1][..]));
        assert_eq!(view.get(&key(2)).unwrap(), None);
        assert_eq!(view.len(), 1);
    }
}
