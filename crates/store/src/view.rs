//! What a writer sees: the store as it stands, with its own unapplied changes on top.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Batch, Change, Key, Page, Result, Row, Scan, engine::Local};

/// The store as it stands, with changes on top that are not applied yet.
///
/// Reads see the changes. [`View::mark`] and [`View::roll_back`] undo a unit of work that turned out to be wrong
/// without losing the units before it.
pub struct View<'a> {
    engine: &'a dyn Local,
    changes: BTreeMap<Key, Option<Bytes>>,
    undo: Vec<(Key, Option<Option<Bytes>>)>,
}

impl<'a> View<'a> {
    pub(crate) fn new(engine: &'a dyn Local) -> Self {
        Self { engine, changes: BTreeMap::new(), undo: Vec::new() }
    }

    /// The value at a key.
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.engine.get_one(key),
        }
    }

    /// A range of one partition.
    pub fn scan(&self, scan: &Scan) -> Result<Page> {
        if scan.is_empty_range() {
            return Ok(Page::default());
        }
        let split = scan.partition.split();
        let (from, to) = scan.bounds();
        let wrap = |b: std::ops::Bound<Vec<u8>>| b.map(|v| Key::from_parts(Bytes::from(v), split));
        let mut on_top: Vec<(&Key, &Option<Bytes>)> = self.changes.range((wrap(from), wrap(to))).collect();
        if on_top.is_empty() {
            return self.engine.scan(scan);
        }
        if scan.reverse {
            on_top.reverse();
        }
        // Every change may hide one stored row, so this many stored rows are enough for one page and a look beyond.
        let mut below = scan.clone();
        below.limit = scan.limit + on_top.len() + 1;
        let stored = self.engine.scan(&below)?;
        let stored_more = stored.more;
        let mut rows = Vec::with_capacity(scan.limit.min(stored.rows.len() + on_top.len()));
        let mut stored = stored.rows.into_iter().peekable();
        let mut on_top = on_top.into_iter().peekable();
        let comes_first = |a: &Key, b: &Key| if scan.reverse { a > b } else { a < b };
        while rows.len() <= scan.limit {
            match (stored.peek(), on_top.peek()) {
                (None, None) => break,
                (Some(s), Some((k, _))) if comes_first(&s.key, k) => rows.extend(stored.next()),
                (Some(_), None) => rows.extend(stored.next()),
                (s, Some((k, value))) => {
                    let hides = s.is_some_and(|s| s.key == **k);
                    if let Some(value) = value {
                        rows.push(Row { key: (*k).clone(), value: value.clone() });
                    }
                    if hides {
                        stored.next();
                    }
                    on_top.next();
                }
            }
        }
        let more = rows.len() > scan.limit || (stored_more && rows.len() == scan.limit);
        rows.truncate(scan.limit);
        Ok(Page { rows, more })
    }

    /// Puts a row.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.set(key, Some(value.into()));
    }

    /// Removes a row.
    pub fn delete(&mut self, key: Key) {
        self.set(key, None);
    }

    fn set(&mut self, key: Key, value: Option<Bytes>) {
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

    pub(crate) fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in self.changes {
            batch.push(Change { key, value });
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Table, engine::mem::Mem};

    static T: Table = Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never };

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
        let mut view = View::new(&mem);
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
        let mut view = View::new(&mem);
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
