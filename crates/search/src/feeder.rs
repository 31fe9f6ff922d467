//! The thread that writes the index: from the list of changes, and from the whole store when there is no index yet.
//!
//! ```text
//! list -> subjects -> their rows as they stand now -> documents -> commit that says how far it goes -> list forgets
//! ```
//!
//! A document is made of the rows as they stand when it is made, whatever change named it, so that doing it again, or
//! in another order, ends the same. The commit carries the number up to which the list has been worked through; after
//! a death of the process the list is worked through from there.

use std::{
    collections::BTreeSet,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gp_index::{
    actors, atom,
    atom::Parts,
    counts::Head,
    profiles,
    records::{self, RecordRow},
    system_now_us,
    tables::{ACTOR, RECORD},
};
use gp_store::{Key, Scan, Store, Writer};
use tantivy::{IndexReader, IndexWriter, indexer::IndexWriterOptions};
use tokio::runtime::Handle;

use crate::{
    Config, Shared,
    folder::{self, Opened, Progress},
    follow::{Following, ROWS_AGAIN, Seen},
    log::{self, Kept, Log},
    schema::Fields,
    subject::{COLLECTIONS, PROFILE, Subject},
};

/// While there is nothing to do, the list is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// After a failure, the next try comes after so long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Rows of one slice of keys.
const KEYS_PER_READ: usize = 128;

/// Subjects taken from the list before the time of the next commit is looked at.
const SUBJECTS_PER_ROUND: usize = 4_096;

/// Accounts, and records of one account, read at a time while an index is built.
const ACCOUNTS_PER_PAGE: usize = 64;
const RECORDS_PER_PAGE: usize = 128;

/// Progress of a build is told this often.
const BUILD_TOLD_EVERY: Duration = Duration::from_secs(10);

/// A change of the list waits at most so long for the writer to take note that it has been worked through.
const FORGET_MAX: Duration = Duration::from_secs(2);

/// A process that does not write the list looks at it this often, and at once when it is told of a change.
const LOOK_AT_LIST_EVERY: Duration = Duration::from_millis(500);

/// Where rows of the list are kept for others, it is looked this often whether some may go.
const FORGET_KEPT_EVERY: Duration = Duration::from_secs(10);

/// Rows of the list that are kept for others: some tens of megabytes, and 5 GiB if all were as long as a row may be.
const ROWS_KEPT_MAX: u64 = 20_000;

/// Threads that merge segments.
const MERGE_THREADS: usize = 1;

/// Why the feeder had to stop and begin again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The index cannot be written or read.
    #[error("the search index: {0}")]
    Index(#[from] tantivy::TantivyError),
    /// The store cannot be read.
    #[error(transparent)]
    Rows(#[from] gp_index::Error),
    /// A bug.
    #[error("the search thread panicked")]
    Panicked,
    /// Reading from the index has failed elsewhere.
    #[error("the search index may be damaged")]
    Suspect,
    /// Changes are no longer listed that this index has not taken note of.
    #[error("the search index was away for longer than changes are kept for it")]
    Missed,
}

impl From<gp_store::Error> for Trouble {
    fn from(error: gp_store::Error) -> Self {
        Self::Rows(error.into())
    }
}

/// Whether changes are no longer listed that an index has not taken note of.
pub(crate) fn has_missed(store: &Store, progress: Option<&Progress>) -> gp_index::Result<bool> {
    Ok(match progress {
        Some(progress) => progress.log < log::gone(store)?,
        None => false,
    })
}

/// Removes an index that has missed changes, and says whether that was possible. One that stays is found out again.
pub(crate) fn discard(root: &Path) -> bool {
    tracing::warn!("{}; it is built again from the store", Trouble::Missed);
    let removed = folder::discard(root);
    if let Err(error) = &removed {
        tracing::error!(%error, folder = %root.display(), "the search index cannot be removed: remove it by hand");
    }
    removed.is_ok()
}

/// What the thread needs.
pub(crate) struct Feeder {
    pub(crate) root: PathBuf,
    /// Tells the store from others.
    pub(crate) store_name: String,
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    pub(crate) runtime: Handle,
    pub(crate) fields: Fields,
    pub(crate) log: Arc<Log>,
    pub(crate) following: Arc<Following>,
    pub(crate) shared: Arc<Shared>,
}

impl Feeder {
    /// Works until told to stop. Whatever fails is tried again: searching lags meanwhile, and nothing else.
    pub(crate) fn run(self, opened: Opened) {
        let mut opened = Some(opened);
        while !self.stopping() {
            let next = match opened.take() {
                Some(opened) => Ok(opened),
                None => {
                    folder::open(&self.root, &self.fields, &self.store_name, self.shared.suspect.swap(false, Relaxed))
                }
            };
            // A panic here must not end searching for good; the index is looked at, and the work begins again.
            let worked = panic::catch_unwind(AssertUnwindSafe(|| {
                next.map_err(Trouble::from).and_then(|opened| self.work(opened))
            }));
            let trouble = match worked {
                Ok(Ok(())) => return,
                Ok(Err(trouble)) => trouble,
                Err(_) => {
                    self.shared.suspect.store(true, Relaxed);
                    Trouble::Panicked
                }
            };
            if self.stopping() {
                return;
            }
            if matches!(trouble, Trouble::Missed) {
                self.shared.building.store(true, Relaxed);
                if discard(&self.root) {
                    continue;
                }
            }
            tracing::error!(error = %trouble, "search does not take note of changes for now; trying again soon");
            self.rest(RETRY_AFTER);
        }
    }

    fn stopping(&self) -> bool {
        self.shared.stopping.load(Relaxed)
    }

    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.stopping() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn work(&self, opened: Opened) -> Result<(), Trouble> {
        if has_missed(&self.store, opened.progress.as_ref())? {
            return Err(Trouble::Missed);
        }
        let gone = log::gone(&self.store)?;
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(self.config.writer_bytes)
            .num_worker_threads(1)
            .num_merge_threads(MERGE_THREADS)
            .build();
        let writer = opened.index.writer_with_options(options)?;
        let progress = match opened.progress {
            Some(progress) => progress,
            // What was named before a build begins is in the store when the build reads it.
            None => Progress {
                log: if self.following.another {
                    // The last of them may still be on their way into the store.
                    log::applied(&self.store)?.saturating_sub(ROWS_AGAIN).max(gone)
                } else {
                    self.following.told()
                },
                store: self.store_name.clone(),
                building: Some(String::new()),
                built: 0,
            },
        };
        if let Some(from) = &progress.building {
            tracing::info!(accounts_done = progress.built, resumed = !from.is_empty(), "building the search index");
        }
        let mut round = Round {
            feeder: self,
            writer,
            reader: opened.reader.clone(),
            forgotten: gone,
            forgot: None,
            seen: Seen::default(),
            looked: None,
            lost: false,
            waits_since_us: 0,
            progress,
            since_commit: Instant::now().checked_sub(self.config.commit_every).unwrap_or_else(Instant::now),
            documents: 0,
            worked: 0,
            told: Instant::now(),
        };
        round.skip_worked()?;
        self.shared.open(opened.reader);
        round.tell();
        round.run()
    }
}

/// One stretch of work over one open index.
struct Round<'a> {
    feeder: &'a Feeder,
    writer: IndexWriter,
    reader: IndexReader,
    progress: Progress,
    /// The number up to which the list has been emptied.
    forgotten: u64,
    /// When it was looked last whether rows that are kept for others may go.
    forgot: Option<Instant>,
    /// What is known of a list that another process writes: its newest row, when it was looked at, whether the end of it
    /// may have to be worked through twice, and when the oldest change was named that is not findable yet.
    seen: Seen,
    looked: Option<(Instant, u64)>,
    lost: bool,
    waits_since_us: i64,
    since_commit: Instant,
    /// Documents written since the last commit.
    documents: u64,
    /// Subjects of the list worked through since the last commit.
    worked: u64,
    told: Instant,
}

impl Round<'_> {
    fn run(mut self) -> Result<(), Trouble> {
        while !self.feeder.stopping() {
            if self.feeder.shared.suspect.load(Relaxed) {
                return Err(Trouble::Suspect);
            }
            let busy = self.follow()?;
            let building = self.build_page()?;
            self.commit_if_due()?;
            if !busy && !building && self.worked == 0 {
                std::thread::sleep(LOOK_EVERY);
            } else if !busy && !building {
                // Only the commit is left, and its time has not come.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Takes what is in the list already and need not be worked through as done: a new build reads it from the store.
    fn skip_worked(&mut self) -> Result<(), Trouble> {
        if self.feeder.following.another {
            return Ok(());
        }
        let (to, mut after, mut skipped) = (self.progress.log, self.feeder.log.done_to(), 0);
        while after < to {
            let entries = log::read(&self.feeder.store, after)?;
            let Some(last) = entries.last() else { break };
            after = last.number;
            skipped += entries.iter().filter(|entry| entry.number <= to).map(|entry| entry.named).sum::<u64>();
        }
        if skipped > 0 {
            self.feeder.log.done(skipped, to, None);
        }
        self.forget();
        Ok(())
    }

    /// Takes some of the list. Returns whether there was anything.
    fn follow(&mut self) -> Result<bool, Trouble> {
        let following = &self.feeder.following;
        if following.another {
            return self.follow_another(following);
        }
        let told = following.told();
        if self.progress.log >= told {
            return Ok(false);
        }
        let mut subjects = BTreeSet::new();
        let mut log = self.progress.log;
        let mut named = 0;
        while subjects.len() < SUBJECTS_PER_ROUND {
            let mut entries = log::read(&self.feeder.store, log)?;
            // One behind may be read already, and the rows that it names not yet.
            entries.retain(|entry| entry.number <= told);
            let Some(last) = entries.last() else { break };
            log = last.number;
            for entry in entries {
                named += entry.named;
                subjects.extend(entry.subjects);
            }
        }
        if log == self.progress.log {
            return Ok(false);
        }
        let subjects: Vec<Subject> = subjects.into_iter().collect();
        self.write(&subjects)?;
        self.progress.log = log;
        self.worked += named;
        Ok(true)
    }

    /// Takes some of a list that another process writes. Returns whether there was anything.
    fn follow_another(&mut self, following: &Following) -> Result<bool, Trouble> {
        let told = following.told();
        if self.looked.is_some_and(|(at, before)| told == before && at.elapsed() < LOOK_AT_LIST_EVERY) {
            return Ok(false);
        }
        let store = &self.feeder.store;
        if following.take_lost() {
            self.lost = true;
            let gone = log::gone(store)?;
            if gone > self.progress.log {
                return Err(Trouble::Missed);
            }
            self.progress.log = self.progress.log.saturating_sub(ROWS_AGAIN).max(gone);
        }
        let entries = log::read(store, self.progress.log)?;
        if entries.first().is_none_or(|first| first.number > self.progress.log + 1)
            && log::gone(store)? > self.progress.log
        {
            return Err(Trouble::Missed);
        }
        let certain = following.certain(&entries, &mut self.seen);
        // What is not certain is found as it stands, and looked at again when it is.
        let taken = if self.lost { entries.len() } else { certain };
        if entries.len() < log::ROWS_PER_READ {
            self.lost = false;
            self.looked = Some((Instant::now(), told));
        }
        if self.worked == 0
            && let Some(first) = entries.first()
        {
            self.waits_since_us = first.at_us;
        }
        let subjects: BTreeSet<Subject> = entries[..taken].iter().flat_map(|it| it.subjects.iter().cloned()).collect();
        let subjects: Vec<Subject> = subjects.into_iter().collect();
        self.write(&subjects)?;
        if let Some(last) = entries[..certain].last() {
            self.progress.log = last.number;
            self.worked += entries[..certain].iter().map(|it| it.named).sum::<u64>();
        }
        let waits: u64 = entries[taken..].iter().map(|it| it.named).sum();
        self.feeder.log.sees(0, self.worked + waits, self.waits_since_us);
        Ok(taken > 0)
    }

    /// Writes the documents of subjects as they stand now.
    fn write(&mut self, subjects: &[Subject]) -> Result<(), Trouble> {
        let feeder = self.feeder;
        for slice in subjects.chunks(KEYS_PER_READ / 3) {
            let keys: Vec<Key> = slice
                .iter()
                .flat_map(|it| [it.key(), it.head(), records::key(it.did(), PROFILE, profiles::SELF)])
                .collect();
            let wanted: Vec<bool> =
                slice.iter().flat_map(|it| [true, true, matches!(it, Subject::Actor { .. })]).collect();
            let asked: Vec<Key> =
                keys.into_iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|(key, _)| key).collect();
            let mut found = feeder.store.local().get(&asked)?.into_iter();
            for subject in slice {
                let (row, head) = (found.next().flatten(), found.next().flatten());
                let profile = match subject {
                    Subject::Actor { .. } => found.next().flatten(),
                    _ => None,
                };
                self.replace(subject, row, head, profile)?;
            }
        }
        Ok(())
    }

    fn replace(
        &mut self,
        subject: &Subject,
        row: Option<Bytes>,
        head: Option<Bytes>,
        profile: Option<Bytes>,
    ) -> Result<(), Trouble> {
        let fields = &self.feeder.fields;
        self.writer.delete_term(fields.id_of(subject));
        self.documents += 1;
        let Some(row) = row else { return Ok(()) };
        let head = Head::read(head.as_ref());
        let document = match subject {
            Subject::Actor { .. } => actors::read(&row).and_then(|row| {
                let profile = profile.as_ref().map(RecordRow::read).transpose()?;
                let value = profile.as_ref().map(RecordRow::value).transpose()?;
                Ok(row.exists.then(|| fields.actor(subject, &row, value.as_ref(), &head)))
            }),
            _ => RecordRow::read(&row).and_then(|row| fields.record(subject, &row, &head)),
        };
        match document {
            Ok(Some(document)) => {
                self.writer.add_document(document)?;
            }
            Ok(None) => {}
            // One damaged row must not end searching for all; whoever reads it is told as well.
            Err(e) => tracing::warn!(error = %e, subject = subject.address(), "left out of the search index"),
        }
        Ok(())
    }

    /// Takes the next accounts of a build. Returns whether one is under way.
    fn build_page(&mut self) -> Result<bool, Trouble> {
        let Some(after) = self.progress.building.clone() else { return Ok(false) };
        let after = unhex(&after);
        let mut keys: Vec<Vec<u8>> = Vec::with_capacity(ACCOUNTS_PER_PAGE);
        self.feeder.store.local().each_from(ACTOR.id, &after, &mut |key, _| {
            keys.push(key.to_vec());
            keys.len() < ACCOUNTS_PER_PAGE
        })?;
        if keys.is_empty() {
            self.progress.building = None;
            self.commit()?;
            tracing::info!(
                accounts = self.progress.built,
                documents = self.feeder.shared.documents(),
                "the search index is built"
            );
            return Ok(true);
        }
        let mut accounts = Vec::with_capacity(keys.len());
        for key in &keys {
            let did = Parts::of(ACTOR.name, &key[1..]).did()?;
            if !did.is_empty() {
                self.build_records(&did)?;
                accounts.push(Subject::Actor { did });
            }
            if self.feeder.stopping() {
                return Ok(true);
            }
        }
        self.write(&accounts)?;
        self.progress.built += accounts.len() as u64;
        self.progress.building = keys.last().map(|key| hex(key));
        self.tell();
        if self.told.elapsed() >= BUILD_TOLD_EVERY {
            self.told = Instant::now();
            tracing::info!(accounts = self.progress.built, "building the search index");
        }
        Ok(true)
    }

    /// Writes everything of an account that is found by words.
    fn build_records(&mut self, did: &str) -> Result<(), Trouble> {
        for collection in COLLECTIONS {
            let mut prefix = Vec::new();
            gp_atproto::compact::pack_nsid(collection, &mut prefix);
            let all =
                Scan::of(Key::of(&RECORD).atom(&atom::did(did)).partition()).prefix(prefix).limit(RECORDS_PER_PAGE);
            let mut rest = all.clone();
            loop {
                let page = self.feeder.store.local().scan(&rest)?;
                let mut subjects = Vec::with_capacity(page.rows.len());
                for row in &page.rows {
                    let mut parts = Parts::of(RECORD.name, row.clustering());
                    let (nsid, rkey) = (parts.nsid()?, parts.rkey()?);
                    subjects.extend(Subject::of_record(did, &nsid, &rkey));
                }
                self.write(&subjects)?;
                let Some(last) = page.rows.last().filter(|_| page.more) else { break };
                rest = all.clone().after(last.clustering());
                // An account may be large: what the network says meanwhile goes on.
                self.follow()?;
                self.commit_if_due()?;
                if self.feeder.stopping() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn commit_if_due(&mut self) -> Result<(), Trouble> {
        let waits = self.documents > 0 || self.worked > 0;
        if waits && self.since_commit.elapsed() >= self.feeder.config.commit_every {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Trouble> {
        let payload = serde_json::to_string(&self.progress).unwrap_or_default();
        let mut prepared = self.writer.prepare_commit()?;
        prepared.set_payload(&payload);
        prepared.commit()?;
        self.reader.reload()?;
        self.since_commit = Instant::now();
        let worked = std::mem::take(&mut self.worked);
        self.documents = 0;
        if self.feeder.following.another {
            self.feeder.log.sees(self.progress.log, 0, 0);
            self.tell();
            return Ok(());
        }
        let next = if self.progress.log < self.feeder.log.last() {
            log::read(&self.feeder.store, self.progress.log)?.first().map(|entry| entry.at_us)
        } else {
            None
        };
        self.feeder.log.done(worked, self.progress.log, next);
        self.tell();
        self.forget();
        Ok(())
    }

    /// Says how far the index is.
    fn tell(&self) {
        let shared = &self.feeder.shared;
        shared.building.store(self.progress.building.is_some(), Relaxed);
        shared.built.store(self.progress.built, Relaxed);
    }

    /// Empties the list up to where the last commit goes. What is left behind is removed the next time.
    fn forget(&mut self) {
        let (to, kept_for) = (self.progress.log, self.feeder.config.changes_kept_for);
        if !kept_for.is_zero() && self.forgot.replace(Instant::now()).is_some_and(|at| at.elapsed() < FORGET_KEPT_EVERY)
        {
            return;
        }
        let since_us = system_now_us().saturating_sub_unsigned(kept_for.as_micros() as u64);
        let kept = (!kept_for.is_zero()).then_some(Kept { since_us, rows_max: ROWS_KEPT_MAX });
        let mut more = true;
        while more && self.forgotten < to && !self.feeder.stopping() {
            let from = self.forgotten;
            let job = self.feeder.writer.run(move |view| log::remove(view, from, to, kept));
            match self.feeder.runtime.block_on(async { tokio::time::timeout(FORGET_MAX, job).await }) {
                Ok(Ok((gone, may_go))) => {
                    (self.forgotten, more) = (gone, may_go || (kept.is_none() && gone > from));
                }
                Ok(Err(e)) => {
                    tracing::debug!(error = %e, "the list of changes to search is not emptied for now");
                    return;
                }
                // The writer is busy or waits for room on the disk.
                Err(_) => return,
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks_exact(2)
        .filter_map(|two| std::str::from_utf8(two).ok().and_then(|two| u8::from_str_radix(two, 16).ok()))
        .collect()
}
