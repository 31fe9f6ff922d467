//! Full-text search over what the index keeps: posts, accounts, feed generators, starter packs.
//!
//! An index of words stands beside the store in a folder of its own. It holds nothing that the store does not: it may
//! lag, and it may be removed at any time and is built again. See `docs/search.md` for what is found by what, in which
//! order, and how far behind it may be.
//!
//! ```text
//! write  group of changes -> `log` (same batch) -> `feeder` -> `schema` (rows to document) -> commit
//! read   call -> `query` (what was typed) -> `find` (order, page) -> does it still stand? -> answer
//! ```
//!
//! What does not live here: transport, and any row that another part reads.

mod calls;
mod cursor;
mod feeder;
mod find;
mod folder;
mod follow;
mod log;
mod page;
mod query;
mod schema;
mod subject;
mod words;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gp_store::{Store, Writer};
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tantivy::{IndexReader, Searcher};
use tokio::{runtime::Handle, sync::Semaphore};

pub use log::LOG;

use crate::{feeder::Feeder, follow::Following, log::Log, schema::Fields};

/// How long a process that only reads waits for the first one that writes, and how often it looks.
const NAME_WAIT_MAX: Duration = Duration::from_secs(60);
const NAME_LOOK_EVERY: Duration = Duration::from_millis(250);

/// Tables of this crate: their numbers are on disk.
pub static TABLES: &[&gp_store::Table] = &[&LOG];

/// Bounds of search.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of documents that are kept in memory until they are written. At least 15 MB.
    pub writer_bytes: usize,
    /// What has changed is found after about this time.
    pub commit_every: Duration,
    /// Questions answered at the same time. More wait for a place.
    pub questions_in_flight_max: usize,
    /// A question that takes longer than this is given up.
    pub question_max: Duration,
    /// Another process writes what is found, and lists what has changed: this one only follows.
    pub follows: bool,
    /// For how long changes stay listed for other processes that keep an index of the same store; zero where there are
    /// none. An index that was away for longer is built again.
    pub changes_kept_for: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            writer_bytes: 32 << 20,
            commit_every: Duration::from_millis(500),
            questions_in_flight_max: 4,
            question_max: Duration::from_secs(5),
            follows: false,
            changes_kept_for: Duration::ZERO,
        }
    }
}

/// What the thread that writes and the calls that read have in common.
pub(crate) struct Shared {
    reader: RwLock<IndexReader>,
    stopping: AtomicBool,
    /// Reading has failed: the files should be looked at.
    suspect: AtomicBool,
    building: AtomicBool,
    built: AtomicU64,
}

impl Shared {
    fn open(&self, reader: IndexReader) {
        *self.reader.write() = reader;
    }

    fn searcher(&self) -> Searcher {
        self.reader.read().searcher()
    }

    fn documents(&self) -> u64 {
        self.searcher().num_docs()
    }
}

/// The name of a store that another process gives it, once it has.
async fn named(store: &Store) -> gp_index::Result<String> {
    let begun = Instant::now();
    loop {
        if let Some(name) = log::name_of(store).await? {
            return Ok(name);
        }
        if begun.elapsed() >= NAME_WAIT_MAX {
            return Err(gp_index::Error::Draining(
                "no process has opened search in this store: start one that ingests",
            ));
        }
        tokio::time::sleep(NAME_LOOK_EVERY).await;
    }
}

/// The index of words.
pub struct Search {
    config: Config,
    fields: Fields,
    shared: Arc<Shared>,
    log: Arc<Log>,
    following: Arc<Following>,
    questions: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Search {
    /// Opens the index in `root` and begins to follow the store, from where it had got. Must be called in a runtime.
    ///
    /// An index that is missing, damaged or of another format is built from the store in the background.
    pub async fn start(root: &Path, store: Store, writer: Writer, config: Config) -> gp_index::Result<Arc<Self>> {
        let fields = Fields::new();
        let store_name = match config.follows {
            false => log::identify(&store, &writer).await?,
            true => named(&store).await?,
        };
        // Before anything is read: what changes from now on is told.
        let following = Following::of(&store, config.follows);
        let open = || {
            folder::open(root, &fields, &store_name, false).map_err(|e| {
                gp_store::Error::Engine(format!("the search index in {} cannot be opened: {e}", root.display()))
            })
        };
        let mut opened = open()?;
        if feeder::has_missed(&store, opened.progress.as_ref())? {
            feeder::discard(root);
            opened = open()?;
        }
        let written = opened.progress.as_ref().map_or(0, |progress| progress.log);
        let log = Arc::new(if config.follows { Log::of_another(written) } else { Log::open(&store, written)? });
        if !config.follows {
            // Whoever wrote before has ended, or what it had begun was finished when this process took over.
            following.begin_at(log.last());
            log::accompany(&store, &log);
        }
        let shared = Arc::new(Shared {
            reader: RwLock::new(opened.reader.clone()),
            stopping: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            building: AtomicBool::new(opened.progress.as_ref().is_none_or(|progress| progress.building.is_some())),
            built: AtomicU64::new(0),
        });
        let feeder = Feeder {
            root: root.to_owned(),
            store_name,
            config: config.clone(),
            store,
            writer,
            runtime: Handle::current(),
            fields: fields.clone(),
            log: Arc::clone(&log),
            following: Arc::clone(&following),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("search".into())
            .spawn(move || feeder.run(opened))
            .map_err(|e| gp_store::Error::Engine(format!("the search thread cannot be started: {e}")))?;
        let questions = Arc::new(Semaphore::new(config.questions_in_flight_max.max(1)));
        Ok(Arc::new(Self { config, fields, shared, log, following, questions, thread: Mutex::new(Some(thread)) }))
    }

    /// Ends the thread that writes, and waits for it, at most `patience`. What it has not written is found at the next
    /// start.
    pub fn stop(&self, patience: Duration) {
        self.shared.stopping.store(true, Relaxed);
        let Some(thread) = self.thread.lock().take() else { return };
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
        if thread.is_finished() && thread.join().is_err() {
            tracing::error!("the search thread panicked; what it did not write is found at the next start");
        }
    }

    /// Subjects that have changed and are not found as they stand yet. Where another process writes: at least so many, as
    /// what has been told and not been looked at counts as one.
    pub fn pending(&self) -> u64 {
        let untaken = self.following.another && self.following.told() > self.log.done_to();
        self.log.pending().max(u64::from(untaken))
    }

    /// Whether the index holds everything that the store did when it was begun.
    pub fn ready(&self) -> bool {
        !self.shared.building.load(Relaxed)
    }

    /// What can be said of search, for `GET /status`.
    pub fn status(&self) -> Value {
        json!({
            "ready": self.ready(),
            "lag_seconds": self.log.lag_us() as f64 / 1e6,
            "pending": self.pending(),
            "documents": self.shared.documents(),
            "accounts_built": self.shared.built.load(Relaxed),
        })
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
    }
}
