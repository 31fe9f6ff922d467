//! A small world: a store, the one writer, search beside them, and everything that the index of words holds, laid out
//! so that two of them can be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gp_atproto::{Tid, datetime, json};
use gp_index::{
    Cx, Result, actors,
    apply::{Action, Applied, Op, apply_op},
    placed::uri_of,
    tables,
};
use gp_proto as proto;
use gp_search::{Config, Search};
use gp_store::{Store, View, Writer, WriterConfig};
use serde_json::{Value as Json, json as object};
use tantivy::DocSet as _;
use tantivy::{
    Index, TERMINATED, TantivyDocument,
    postings::Postings as _,
    schema::{IndexRecordOption, Value as _},
};

pub(crate) const NOW_US: i64 = 1_748_779_200_000_000;
pub(crate) const POST: &str = "app.bsky.feed.post";
pub(crate) const PROFILE: &str = "app.bsky.actor.profile";
pub(crate) const ANY_CID: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";

/// Longest wait for the index to catch up. It does so in a fraction of a second.
const SETTLE_MAX: Duration = Duration::from_secs(60);

pub(crate) fn at(seconds: i64) -> i64 {
    NOW_US + seconds * 1_000_000
}

pub(crate) fn iso(us: i64) -> String {
    datetime::format_ms(us)
}

pub(crate) fn did(name: &str) -> String {
    assert!(name.len() <= 24 && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')), "{name}");
    format!("did:plc:{name:a<24}")
}

/// A store, its writer, and search.
pub(crate) struct World {
    pub(crate) cx: Cx,
    pub(crate) search: Arc<Search>,
    commits: AtomicU64,
    writer_thread: JoinHandle<()>,
    _dir: Option<tempfile::TempDir>,
}

/// Bounds for tests: what has changed is found soon.
pub(crate) fn quick() -> Config {
    Config { commit_every: Duration::from_millis(20), writer_bytes: 15 << 20, ..Config::default() }
}

impl World {
    /// An empty world in memory, its index in a folder that goes with it.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::mem(tables::ALL);
        Self::over(store, &dir.path().join("search"), Some(dir)).await
    }

    /// A world over a store that exists and an index that may.
    pub(crate) async fn over(store: Store, root: &Path, dir: Option<tempfile::TempDir>) -> Self {
        Self::with(store, root, dir, quick()).await
    }

    /// The same with other bounds.
    pub(crate) async fn with(store: Store, root: &Path, dir: Option<tempfile::TempDir>, config: Config) -> Self {
        let (writer, writer_thread) = Writer::start(store.clone(), WriterConfig::default()).unwrap();
        let search = Search::start(root, store.clone(), writer.clone(), config).await.unwrap();
        let names = gp_index::names::Names::new(1 << 20);
        let cx = Cx {
            window: gp_index::window::Window::over_empty(&store, &names, 1 << 20),
            graph: gp_index::graph::Graph::over_empty(&store, &names, 1 << 20),
            store,
            writer,
            identity: Arc::new(gp_index::NoIdentities),
            search: Arc::clone(&search) as _,
            sitemap_url: "https://plane.test".into(),
            damage: Arc::default(),
            now_us: || NOW_US,
        };
        Self { cx, search, commits: AtomicU64::new(1), writer_thread, _dir: dir }
    }

    /// Ends search and the writer, so that the folders may be opened again.
    pub(crate) fn close(self) {
        self.search.stop(SETTLE_MAX);
        self.cx.writer.close();
        let thread = self.writer_thread;
        drop((self.cx, self.search));
        thread.join().unwrap();
    }

    /// Waits until everything written is findable.
    pub(crate) async fn settle(&self) {
        let begun = Instant::now();
        while self.search.pending() > 0 || !self.search.ready() {
            assert!(begun.elapsed() < SETTLE_MAX, "search does not catch up: {}", self.search.status());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut View<'_>) -> Result<T> + Send + 'static,
    ) -> T {
        self.cx.writer.run(job).await.unwrap()
    }

    /// An account with a handle.
    pub(crate) async fn actor(&self, name: &str, handle: &str) -> String {
        let did = did(name);
        let (owned, handle) = (did.clone(), handle.to_owned());
        self.write(move |view| actors::set_handle(view, &owned, Some(&handle), at(-1_000_000))).await;
        did
    }

    pub(crate) async fn profile(&self, did: &str, name: &str, description: &str) {
        let record = object!({"displayName": name, "description": description, "createdAt": iso(at(0))});
        self.op(Action::Update, did, PROFILE, "self", Some(record), at(0)).await;
    }

    pub(crate) async fn create(&self, did: &str, collection: &str, rkey: &str, record: Json, time_us: i64) -> String {
        let owned = did.to_owned();
        self.write(move |view| actors::touch(view, &owned, at(-1_000_000)).map(drop)).await;
        let applied = self.op(Action::Create, did, collection, rkey, Some(record), time_us).await;
        assert!(applied.dropped.is_empty() && applied.ignored == 0, "{applied:?}");
        uri_of(did, collection, rkey)
    }

    pub(crate) async fn post(&self, did: &str, rkey: &str, text: &str, time_us: i64) -> String {
        self.create(did, POST, rkey, object!({"text": text, "createdAt": iso(time_us)}), time_us).await
    }

    pub(crate) async fn like(&self, did: &str, subject: &str, rkey: &str) {
        let record = object!({"subject": {"uri": subject, "cid": ANY_CID}, "createdAt": iso(at(0))});
        self.create(did, "app.bsky.feed.like", rkey, record, at(0)).await;
    }

    pub(crate) async fn follow(&self, did: &str, subject: &str, rkey: &str) {
        let record = object!({"subject": subject, "createdAt": iso(at(0))});
        self.create(did, "app.bsky.graph.follow", rkey, record, at(0)).await;
    }

    pub(crate) async fn op(
        &self,
        action: Action,
        did: &str,
        collection: &str,
        rkey: &str,
        record: Option<Json>,
        time_us: i64,
    ) -> Applied {
        let rev = Tid::from_parts(NOW_US as u64 + self.commits.fetch_add(1, Ordering::Relaxed), 0).to_string();
        let (did, collection, rkey) = (did.to_owned(), collection.to_owned(), rkey.to_owned());
        let record = record.map(|mut record| {
            record.as_object_mut().unwrap().entry("$type").or_insert_with(|| Json::from(collection.as_str()));
            json::to_cbor(&record).unwrap()
        });
        self.write(move |view| {
            let mut applied = Applied::default();
            let op = Op { action, collection: &collection, rkey: &rkey, cid: None, record: record.as_deref() };
            apply_op(view, &did, &rev, &op, time_us, &mut applied)?;
            Ok(applied)
        })
        .await
    }

    pub(crate) async fn delete(&self, did: &str, collection: &str, rkey: &str) {
        let applied = self.op(Action::Delete, did, collection, rkey, None, at(10)).await;
        assert_eq!(applied.deleted, 1, "{applied:?}");
    }

    /// Posts of the first generation, all at once.
    pub(crate) async fn posts(&self, term: &str) -> Vec<String> {
        let ask = proto::SearchPostsRequest { term: term.to_owned(), limit: 100, cursor: String::new() };
        let found = gp_index::search::search_posts(&self.cx, ask).await.unwrap();
        assert_eq!(found.cursor, "");
        found.uris
    }

    /// Accounts of the first generation, all at once.
    pub(crate) async fn actors(&self, term: &str) -> Vec<String> {
        let ask = proto::SearchActorsRequest { term: term.to_owned(), limit: 100, cursor: String::new() };
        gp_index::search::search_actors(&self.cx, ask).await.unwrap().dids
    }

    /// Posts of the second generation.
    pub(crate) async fn posts_v2(&self, ask: proto::SearchPostsV2Request) -> Result<proto::SearchPostsV2Response> {
        gp_index::search::search_posts_v2(&self.cx, ask).await
    }
}

/// A question of the second generation with everything in reach.
pub(crate) fn ask(query: &str) -> proto::SearchPostsV2Request {
    proto::SearchPostsV2Request {
        params: Some(params(query, 100, "")),
        sort: proto::SearchSortOrder::Recent as i32,
        all_time: Some(true),
        ..Default::default()
    }
}

pub(crate) fn params(query: &str, limit: i32, cursor: &str) -> proto::SearchParams {
    proto::SearchParams { query: query.to_owned(), viewer: String::new(), limit, cursor: cursor.to_owned() }
}

/// Everything an index holds: each term of each field with the addresses that have it, and each address with its
/// numbers. Two indexes that answer alike to everything are equal here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) terms: BTreeMap<(String, Vec<u8>), BTreeSet<(String, Vec<u32>)>>,
    pub(crate) numbers: BTreeMap<String, Vec<u64>>,
}

pub(crate) fn held(root: &Path) -> Held {
    held_now(root).unwrap()
}

/// The same of an index that may be in the making.
pub(crate) fn held_now(root: &Path) -> tantivy::Result<Held> {
    let format = std::fs::read_dir(root)?.map(|it| it.unwrap().path()).next().unwrap();
    let index = Index::open_in_dir(format)?;
    let searcher = index.reader()?.searcher();
    let schema = index.schema();
    let uri = schema.get_field("uri").unwrap();
    let mut held = Held { terms: BTreeMap::new(), numbers: BTreeMap::new() };
    for reader in searcher.segment_readers() {
        let store = reader.get_store_reader(8).unwrap();
        let address = |doc: u32| {
            let doc: TantivyDocument = store.get(doc).unwrap();
            doc.get_first(uri).unwrap().as_str().unwrap().to_owned()
        };
        let fast = reader.fast_fields();
        for doc in reader.doc_ids_alive() {
            let mut numbers = vec![fast.i64("sort_at").unwrap().first(doc).unwrap() as u64];
            numbers.extend(["tie", "level", "author_hash"].map(|name| fast.u64(name).unwrap().first(doc).unwrap()));
            assert!(held.numbers.insert(address(doc), numbers).is_none(), "{} is there twice", address(doc));
        }
        for (field, entry) in schema.fields().filter(|(_, entry)| entry.is_indexed()) {
            let inverted = reader.inverted_index(field).unwrap();
            let mut terms = inverted.terms().stream().unwrap();
            while terms.advance() {
                let mut found = BTreeSet::new();
                let mut postings = inverted
                    .read_postings_from_terminfo(terms.value(), IndexRecordOption::WithFreqsAndPositions)
                    .unwrap();
                while postings.doc() != TERMINATED {
                    let doc = postings.doc();
                    if !reader.is_deleted(doc) {
                        let mut positions = Vec::new();
                        if entry.name() == "text" || entry.name() == "about" {
                            postings.positions(&mut positions);
                        }
                        found.insert((address(doc), positions));
                    }
                    postings.advance();
                }
                if !found.is_empty() {
                    held.terms.entry((entry.name().to_owned(), terms.key().to_vec())).or_default().extend(found);
                }
            }
        }
    }
    Ok(held)
}
