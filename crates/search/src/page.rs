//! One page of what is found: asks the index, leaves out what does not stand, and knows where the next page begins.
//!
//! The index lags, the store does not. What is found is looked up in the store before it leaves, so a deleted record is
//! never found again, however far the index is behind.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use gp_index::{Cx, Error, Result, actors, atom::Parts, moderation, page, placed::did_of, records, tables};
use gp_store::{Key, ROWS_PER_SCAN_MAX};

use crate::{
    Search,
    find::{self, Failed, Found, Hit, Patience, Place, Plan},
    schema::author_hash,
    subject::Subject,
};

/// Documents asked of the index beyond those that the page needs, for those that no longer stand.
const SPARE: usize = 8;

/// How often the index is asked for one page. After that a short page with a token is answered, which is legal.
const ROUNDS_MAX: usize = 4;

/// Follows that the filter for a viewer's follows knows, the newest ones.
const FOLLOWS_MAX: usize = 100_000;

/// What leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// What stands, whatever moderation says of it: the AppView decides, and shows it to moderators.
    Standing,
    /// What stands and is not hidden from everybody. For callers that never ask for what is taken down.
    Shown,
}

/// Something found that stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) hit: Hit,
    /// The version of a record.
    pub(crate) cid: String,
}

/// One page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) hits: Vec<Standing>,
    /// After this the next page begins; none at the end.
    pub(crate) next: Option<Place>,
    /// How many there are in all, at least as many as on this page; not known unless counted.
    pub(crate) total: u64,
}

impl Search {
    /// One page of at most `limit`.
    pub(crate) async fn page(
        &self,
        cx: &Cx,
        plan: Plan,
        after: Option<Place>,
        limit: i32,
        keep: Keep,
        counted: bool,
    ) -> Result<Page> {
        let limit = page::limit(limit);
        let mut out = Page::default();
        if limit == 0 {
            return Ok(out);
        }
        let plan = Arc::new(plan);
        let mut from = after;
        for round in 0..ROUNDS_MAX {
            let ask = limit + 1 - out.hits.len() + SPARE;
            let found = self.ask(Arc::clone(&plan), from, ask, counted && round == 0).await?;
            if round == 0 {
                out.total = found.total;
            }
            from = found.hits.last().map(|hit| hit.place).or(from);
            let stand = standing(cx, found.hits, keep).await?;
            out.hits.extend(stand);
            if out.hits.len() > limit {
                out.hits.truncate(limit);
                out.next = out.hits.last().map(|it| it.hit.place);
                break;
            }
            if !found.more {
                break;
            }
            out.next = if round + 1 == ROUNDS_MAX { from } else { None };
        }
        out.total = out.total.max(out.hits.len() as u64);
        Ok(out)
    }

    /// Asks the index, on a thread that may block, within the bound on questions.
    async fn ask(&self, plan: Arc<Plan>, after: Option<Place>, limit: usize, counted: bool) -> Result<Found> {
        let stopped = || Error::Draining("search is stopping");
        let permit = Arc::clone(&self.questions).acquire_owned().await.map_err(|_| stopped())?;
        let (searcher, fields) = (self.shared.searcher(), self.fields.clone());
        let gone = Gone(Arc::new(AtomicBool::new(false)));
        let patience = Patience { gone: Arc::clone(&gone.0), until: Instant::now() + self.config.question_max };
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            find::run(&searcher, &fields, &plan, after, limit, counted, &patience)
        });
        match asked.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Failed::Late)) => Err(Error::Late),
            Ok(Err(Failed::Index(error))) => {
                tracing::error!(%error, "the search index could not be read; its files are looked at");
                self.shared.suspect.store(true, Relaxed);
                Err(damaged())
            }
            Err(join) if join.is_panic() => {
                tracing::error!("a search panicked; the files of the index are looked at");
                self.shared.suspect.store(true, Relaxed);
                Err(damaged())
            }
            Err(_) => Err(stopped()),
        }
    }

    /// Hashes of those whom somebody follows.
    pub(crate) async fn follows(&self, cx: &Cx, viewer: &str) -> Result<Arc<HashSet<u64>>> {
        let mut out = HashSet::new();
        let all = tables::scan_by(viewer, tables::by::FOLLOW).limit(ROWS_PER_SCAN_MAX);
        let mut rest = all.clone();
        loop {
            let page = cx.store.scan(rest).await?;
            for row in &page.rows {
                out.insert(author_hash(&Parts::of(tables::BY.name, &row.value).did()?));
            }
            match page.rows.last().filter(|_| page.more && out.len() < FOLLOWS_MAX) {
                Some(last) => rest = all.clone().after(last.clustering()),
                None => return Ok(Arc::new(out)),
            }
        }
    }
}

fn damaged() -> Error {
    Error::Corrupt { table: "search", what: "index" }
}

/// Tells the thread that nobody waits any longer.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Those that stand, in their order.
async fn standing(cx: &Cx, hits: Vec<Hit>, keep: Keep) -> Result<Vec<Standing>> {
    let subjects: Vec<Option<Subject>> = hits.iter().map(|hit| Subject::of_uri(&hit.uri)).collect();
    let keys: Vec<Key> = subjects.iter().flatten().map(Subject::key).collect();
    let mut found = cx.store.get(&keys).await?.into_iter();
    let hidden = match keep {
        Keep::Standing => HashSet::new(),
        Keep::Shown => hidden(cx, &hits).await?,
    };
    let mut out = Vec::with_capacity(hits.len());
    for (hit, subject) in hits.into_iter().zip(subjects) {
        let Some(subject) = subject else { continue };
        let Some(row) = found.next().flatten() else { continue };
        let (stands, cid) = match subject {
            Subject::Actor { .. } => (actors::read(&row)?.exists, String::new()),
            _ => {
                let served = records::decode_served(row)?;
                (keep == Keep::Standing || !served.record.taken_down, served.record.cid)
            }
        };
        if stands && !hidden.contains(subject.did()) {
            out.push(Standing { hit, cid });
        }
    }
    Ok(out)
}

/// Accounts among the authors that are taken down here or not active where they are hosted.
async fn hidden(cx: &Cx, hits: &[Hit]) -> Result<HashSet<String>> {
    let mut dids: Vec<&str> = hits.iter().map(|hit| did_of(&hit.uri).unwrap_or(&hit.uri)).collect();
    dids.sort_unstable();
    dids.dedup();
    let keys: Vec<Key> = dids.iter().flat_map(|did| [actors::key(did), moderation::key_of_subject(did)]).collect();
    let found = cx.store.get(&keys).await?;
    let mut out = HashSet::new();
    for (did, rows) in dids.into_iter().zip(found.chunks_exact(2)) {
        let inactive = match &rows[0] {
            Some(row) => !actors::read(row)?.upstream_status.is_empty(),
            None => false,
        };
        if inactive || rows[1].as_ref().is_some_and(|row| !moderation::reference(row).is_empty()) {
            out.insert(did.to_owned());
        }
    }
    Ok(out)
}

/// DIDs of names that are handles or DIDs already, in the order given; none for a handle that nobody holds.
pub(crate) async fn dids(cx: &Cx, names: &[String]) -> Result<Vec<Option<String>>> {
    let mut known: HashMap<usize, String> = HashMap::new();
    let mut keys = Vec::new();
    let mut places = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let name = name.trim().trim_start_matches('@');
        if name.starts_with("did:") {
            known.insert(place, name.to_owned());
        } else if !name.is_empty() {
            places.push(place);
            keys.push(actors::handle_key(&name.to_lowercase()));
        }
    }
    let found: Vec<Option<Bytes>> = cx.store.get(&keys).await?;
    for (place, did) in places.into_iter().zip(found) {
        if let Some(did) = did.and_then(|did| String::from_utf8(did.to_vec()).ok()) {
            known.insert(place, did);
        }
    }
    Ok((0..names.len()).map(|place| known.remove(&place)).collect())
}
