//! Reading ahead: what a group of jobs will read is asked of the engine at once, before the group runs.
//!
//! To an engine in this process a job's reads cost microseconds. To a cluster each is a round trip, and a group of some
//! hundred jobs makes thousands, one after the other. So a job may bring a rehearsal: the same code as the job, run on a
//! view that has no engine. What it reads there is noted, and answered "absent" for now; then all that was noted is
//! read together, and the rehearsal is repeated with the answers, since what is read next often depends on them. When
//! nothing new is asked, or after a few rounds, the group runs for real over what was read.
//!
//! A rehearsal is a guess and nothing more: what it leaves on its view is thrown away, and a job that reads something
//! else than was foreseen asks the engine as usual. The writer is alone, so what was read before its group still stands
//! when the group runs.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Batch, Error, Key, Page, Result, Scan, View, engine::Local, recent::Recent};

/// Rounds of rehearsals. A post in a thread needs four: the post's own rows, its thread, the gates, whom they ask about.
const ROUNDS_MAX: usize = 4;

/// Keys and ranges read ahead in one round, and bytes read ahead for a group: with more, the rest is read when it is asked.
const KEYS_PER_ROUND_MAX: usize = 32_768;
const SCANS_PER_ROUND_MAX: usize = 1_024;
const BYTES_AHEAD_MAX: usize = 64 << 20;

/// Keys and ranges of one question to the engine, so that the bound on bytes is looked at in between.
const KEYS_PER_QUESTION: usize = 4_096;
const SCANS_PER_QUESTION: usize = 64;

/// A job's reads, made without an engine.
pub(crate) type Rehearsal = Box<dyn Fn(&mut View<'_>) + Send>;

/// What was read ahead for a group.
#[derive(Default)]
pub(crate) struct Known {
    rows: HashMap<Key, Option<Bytes>>,
    pages: HashMap<Scan, Page>,
    bytes: usize,
}

/// What a round of rehearsals asked for and is not known.
#[derive(Default)]
struct Asked {
    keys: HashSet<Key>,
    scans: HashSet<Scan>,
}

impl Asked {
    fn len(&self) -> usize {
        self.keys.len() + self.scans.len()
    }
}

impl Known {
    /// Whether nothing was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.pages.is_empty()
    }

    /// Rehearses jobs, and reads what they ask for. An error of the engine leaves the rest to the jobs themselves.
    pub(crate) fn of<'a>(
        rehearsals: impl Iterator<Item = &'a Rehearsal>,
        engine: &dyn Local,
        recent: &Mutex<Recent>,
    ) -> Self {
        let mut known = Self::default();
        let mut open: Vec<&Rehearsal> = rehearsals.collect();
        for _ in 0..ROUNDS_MAX {
            let asked = known.rehearse(&mut open);
            if asked.len() == 0 || known.read(asked, engine, recent).is_err() || known.bytes > BYTES_AHEAD_MAX {
                break;
            }
        }
        known
    }

    /// Runs rehearsals over what is known. Those that asked for nothing new need no other round.
    fn rehearse(&self, open: &mut Vec<&Rehearsal>) -> Asked {
        let asked = Mutex::new(Asked::default());
        let stage = Stage { known: self, asked: &asked };
        // One view for all: a job sees what the ones before it leave, as it will in earnest.
        let mut view = View::new(&stage, None);
        open.retain(|rehearsal| {
            let before = asked.lock().len();
            view.begin_job();
            // It runs on guesses, so it may meet what cannot be. That must cost the foresight, not the writer.
            if std::panic::catch_unwind(AssertUnwindSafe(|| rehearsal(&mut view))).is_err() {
                tracing::error!("the rehearsal of a job panicked; the job reads for itself");
                return false;
            }
            asked.lock().len() > before
        });
        drop(view);
        asked.into_inner()
    }

    fn read(&mut self, asked: Asked, engine: &dyn Local, recent: &Mutex<Recent>) -> Result<()> {
        let mut keys = Vec::with_capacity(asked.keys.len());
        {
            let recent = recent.lock();
            for key in asked.keys {
                match recent.peek(&key) {
                    Some(value) => drop(self.rows.insert(key, Some(value))),
                    None => keys.push(key),
                }
            }
        }
        keys.truncate(KEYS_PER_ROUND_MAX);
        for keys in keys.chunks(KEYS_PER_QUESTION) {
            let values = engine.get(keys)?;
            self.bytes += values.iter().flatten().map(Bytes::len).sum::<usize>();
            self.rows.extend(keys.iter().cloned().zip(values));
            if self.bytes > BYTES_AHEAD_MAX {
                return Ok(());
            }
        }
        let mut scans: Vec<Scan> = asked.scans.into_iter().collect();
        scans.truncate(SCANS_PER_ROUND_MAX);
        for scans in scans.chunks(SCANS_PER_QUESTION) {
            let pages = engine.scan_many(scans)?;
            self.bytes += pages.iter().flat_map(|page| &page.rows).map(|row| row.value.len()).sum::<usize>();
            self.pages.extend(scans.iter().cloned().zip(pages));
            if self.bytes > BYTES_AHEAD_MAX {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What a rehearsal has instead of an engine.
struct Stage<'a> {
    known: &'a Known,
    asked: &'a Mutex<Asked>,
}

impl Local for Stage<'_> {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().map(|key| self.get_one(key)).collect()
    }

    fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.known.rows.get(key).cloned().unwrap_or_else(|| {
            self.asked.lock().keys.insert(key.clone());
            None
        }))
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        Ok(self.known.pages.get(scan).cloned().unwrap_or_else(|| {
            self.asked.lock().scans.insert(scan.clone());
            Page::default()
        }))
    }

    fn apply(&self, _batch: &Batch) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn bytes_used(&self) -> u64 {
        0
    }

    fn each(&self, _table_id: u8, _visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        Err(Error::ReadOnly)
    }
}

/// An engine with what was read ahead before it.
pub(crate) struct Ahead<'a> {
    pub(crate) engine: &'a dyn Local,
    pub(crate) known: Known,
}

impl Local for Ahead<'_> {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().map(|key| self.get_one(key)).collect()
    }

    fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.known.rows.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.engine.get_one(key),
        }
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        match self.known.pages.get(scan) {
            Some(page) => Ok(page.clone()),
            None => self.engine.scan(scan),
        }
    }

    fn apply(&self, batch: &Batch) -> Result<()> {
        self.engine.apply(batch)
    }

    fn sync(&self) -> Result<()> {
        self.engine.sync()
    }

    fn bytes_used(&self) -> u64 {
        self.engine.bytes_used()
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        self.engine.each(table_id, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::{Cache, Table, engine::mem::Mem};

    static T: Table =
        Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

    fn key(n: u8) -> Key {
        Key::of(&T).atom(b"p").cluster().tag(n).key()
    }

    /// Counts the questions it is asked.
    #[derive(Default)]
    struct Counting {
        mem: Mem,
        gets: AtomicUsize,
        singles: AtomicUsize,
        scans: AtomicUsize,
    }

    impl Local for Counting {
        fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
            self.gets.fetch_add(1, SeqCst);
            self.mem.get(keys)
        }
        fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
            self.singles.fetch_add(1, SeqCst);
            self.mem.get_one(key)
        }
        fn scan(&self, scan: &Scan) -> Result<Page> {
            self.scans.fetch_add(1, SeqCst);
            self.mem.scan(scan)
        }
        fn apply(&self, batch: &Batch) -> Result<()> {
            self.mem.apply(batch)
        }
        fn sync(&self) -> Result<()> {
            Ok(())
        }
        fn bytes_used(&self) -> u64 {
            0
        }
        fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
            self.mem.each(table_id, visit)
        }
    }

    /// Follows numbers from key to key, and writes down where it came to.
    fn walk(view: &mut View<'_>, from: u8, to: u8) {
        let mut at = from;
        while let Some(next) = view.get(&key(at)).unwrap() {
            at = next[0];
        }
        let rows = view.scan(&Scan::of(key(0).to_partition()).limit(3)).unwrap().rows.len();
        view.put(key(to), vec![at, u8::try_from(rows).unwrap()]);
    }

    #[test]
    fn what_jobs_read_is_read_before_they_run_also_what_depends_on_what_was_read() {
        let engine = Counting::default();
        let mut batch = Batch::new();
        batch.put(key(1), vec![2]);
        batch.put(key(2), vec![3]);
        batch.put(key(11), vec![12]);
        engine.mem.apply(&batch).unwrap();
        let jobs: Vec<Rehearsal> =
            vec![Box::new(|view| walk(view, 1, 100)), Box::new(|view| walk(view, 11, 101)), Box::new(|_| {})];
        let recent = Mutex::new(Recent::new(1 << 20));
        let known = Known::of(jobs.iter(), &engine, &recent);
        // Keys 1 and 11, then 2 and 12, then 3; the range without and with the change of the first job in it.
        assert_eq!((engine.gets.load(SeqCst), engine.singles.load(SeqCst), engine.scans.load(SeqCst)), (3, 0, 2));
        let ahead = Ahead { engine: &engine, known };
        let mut view = View::new(&ahead, Some(&recent));
        jobs.iter().for_each(|job| job(&mut view));
        assert_eq!(view.get(&key(100)).unwrap().as_deref(), Some(&[3, 3][..]));
        assert_eq!(view.get(&key(101)).unwrap().as_deref(), Some(&[12, 3][..]));
        assert_eq!(engine.singles.load(SeqCst), 0, "nothing was left to ask");
        // What nobody foresaw is asked as usual.
        assert_eq!(view.get(&key(77)).unwrap(), None);
        assert_eq!(engine.singles.load(SeqCst), 1);
    }

    #[test]
    fn a_rehearsal_that_panics_or_never_ends_asking_costs_the_foresight_only() {
        let engine = Counting::default();
        let mut batch = Batch::new();
        (0..200).for_each(|n| batch.put(key(n), vec![n + 1]));
        engine.mem.apply(&batch).unwrap();
        let jobs: Vec<Rehearsal> = vec![Box::new(|_| panic!("on purpose")), Box::new(|view| walk(view, 0, 250))];
        let recent = Mutex::new(Recent::new(1 << 20));
        let known = Known::of(jobs.iter(), &engine, &recent);
        assert_eq!(engine.gets.load(SeqCst), ROUNDS_MAX);
        let ahead = Ahead { engine: &engine, known };
        let mut view = View::new(&ahead, Some(&recent));
        jobs[1](&mut view);
        assert_eq!(view.get(&key(250)).unwrap().as_deref(), Some(&[200, 3][..]));
        assert_eq!(engine.singles.load(SeqCst), 201 - ROUNDS_MAX);
    }
}
