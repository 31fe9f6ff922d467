//! A small world for tests: a store in memory, the one writer, and records written on the way that live events take.
//!
//! A helper that meets a drop it did not expect panics, so that a test cannot pass because its record was refused.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gp_atproto::{Tid, datetime, json};
use gp_proto as proto;
use gp_store::{Observed, Store, View, Writer, WriterConfig};
use prost::Message as _;
use serde_json::{Value as Json, json as object};

use crate::{
    Cx, Result, actors,
    apply::{Action, Applied, Op, apply_op},
    graph::Graph,
    names::Names,
    placed::uri_of,
    posts,
    search::NoSearch,
    tables,
    window::Window,
};

/// What [`Cx::now_us`] says in the world: 2025-06-01T12:00:00Z.
pub(crate) const NOW_US: i64 = 1_748_779_200_000_000;

/// Some seconds before the world's present when they are negative, after it otherwise.
pub(crate) fn at(seconds: i64) -> i64 {
    NOW_US + seconds * 1_000_000
}

/// A time as records write it.
pub(crate) fn iso(us: i64) -> String {
    datetime::format_ms(us)
}

/// The DID of somebody with a name of at most 24 letters a to z or digits 2 to 7.
pub(crate) fn did(name: &str) -> String {
    assert!(name.len() <= 24 && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')), "{name}");
    format!("did:plc:{name:a<24}")
}

/// A store in memory and its writer.
pub(crate) struct World {
    /// What reads are given.
    pub(crate) cx: Cx,
    commits: AtomicU64,
}

impl World {
    /// An empty world.
    pub(crate) fn new() -> Self {
        let store = Store::mem(tables::ALL);
        // Whatever is written by any test: a key can be taken apart by what its table declares.
        store.observe(|what| {
            let Observed::Applied(batch) = what else { return };
            for key in batch.changes().iter().map(|change| &change.key) {
                let table = tables::ALL.iter().find(|table| table.id == key.table_id()).expect("is declared");
                let len = tables::partition_len(table, &key.bytes()[1..]);
                assert_eq!(len, Some(key.partition().len()), "{} {key:?}", table.name);
            }
        });
        let (writer, _thread) = Writer::start(store.clone(), WriterConfig::default()).unwrap();
        let names = Names::new(1 << 30);
        let cx = Cx {
            window: Window::over_empty(&store, &names, 1 << 20),
            graph: Graph::over_empty(&store, &names, 1 << 30),
            store,
            writer,
            identity: Arc::new(crate::cx::NoIdentities),
            search: Arc::new(NoSearch),
            sitemap_url: "https://plane.test".into(),
            damage: Arc::default(),
            now_us: || NOW_US,
        };
        Self { cx, commits: AtomicU64::new(1) }
    }

    /// Posts by address, as whoever asks for them reads them.
    pub(crate) async fn post_records(&self, uris: &[String]) -> proto::GetPostRecordsResponse {
        let ask = proto::GetPostRecordsRequest { uris: uris.to_vec(), ..Default::default() };
        let answer = posts::get_post_records(&self.cx, ask).await.unwrap();
        proto::GetPostRecordsResponse::decode(&answer.encode_to_vec()[..]).unwrap()
    }

    /// Runs a job of the writer.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut View<'_>) -> Result<T> + Send + 'static,
    ) -> T {
        self.cx.writer.run(job).await.unwrap()
    }

    /// First sight of an account.
    pub(crate) async fn actor(&self, did: &str) {
        let did = did.to_owned();
        self.write(move |view| actors::touch(view, &did, at(-1_000_000)).map(drop)).await;
    }

    /// Makes a record; its account is seen as well. Returns its address.
    pub(crate) async fn create(&self, did: &str, collection: &str, rkey: &str, record: Json, time_us: i64) -> String {
        self.actor(did).await;
        let applied = self.op(Action::Create, did, collection, rkey, Some(record), time_us).await;
        assert!(applied.dropped.is_empty() && applied.ignored == 0, "{applied:?}");
        uri_of(did, collection, rkey)
    }

    /// Replaces a record.
    pub(crate) async fn update(&self, did: &str, collection: &str, rkey: &str, record: Json, time_us: i64) -> String {
        let applied = self.op(Action::Update, did, collection, rkey, Some(record), time_us).await;
        assert!(applied.dropped.is_empty() && applied.ignored == 0, "{applied:?}");
        uri_of(did, collection, rkey)
    }

    /// Removes a record.
    pub(crate) async fn delete(&self, did: &str, collection: &str, rkey: &str, time_us: i64) {
        let applied = self.op(Action::Delete, did, collection, rkey, None, time_us).await;
        assert!(applied.dropped.is_empty() && applied.ignored == 0, "{applied:?}");
    }

    /// Applies one operation, whatever becomes of it. The collection is written into the record as its type if the
    /// record has none; the account is not seen by this alone.
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
            if let Some(map) = record.as_object_mut() {
                map.entry("$type").or_insert_with(|| Json::from(collection.as_str()));
            }
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

    /// A plain post.
    pub(crate) async fn post(&self, did: &str, rkey: &str, time_us: i64) -> String {
        self.create(did, "app.bsky.feed.post", rkey, object!({"text": rkey, "createdAt": iso(time_us)}), time_us).await
    }

    /// A follow.
    pub(crate) async fn follow(&self, did: &str, subject: &str, rkey: &str, time_us: i64) -> String {
        let record = object!({"subject": subject, "createdAt": iso(time_us)});
        self.create(did, "app.bsky.graph.follow", rkey, record, time_us).await
    }

    /// A like.
    pub(crate) async fn like(&self, did: &str, subject: &str, rkey: &str, time_us: i64) -> String {
        self.create(did, "app.bsky.feed.like", rkey, reference(subject, time_us), time_us).await
    }

    /// A repost.
    pub(crate) async fn repost(&self, did: &str, subject: &str, rkey: &str, time_us: i64) -> String {
        self.create(did, "app.bsky.feed.repost", rkey, reference(subject, time_us), time_us).await
    }

    /// A block.
    pub(crate) async fn block(&self, did: &str, subject: &str, rkey: &str, time_us: i64) -> String {
        let record = object!({"subject": subject, "createdAt": iso(time_us)});
        self.create(did, "app.bsky.graph.block", rkey, record, time_us).await
    }

    /// A list of a purpose: `modlist`, `curatelist` or `referencelist`.
    pub(crate) async fn list(&self, did: &str, purpose: &str, rkey: &str, time_us: i64) -> String {
        self.create(did, "app.bsky.graph.list", rkey, list(purpose, time_us), time_us).await
    }

    /// A membership in a list of one's own.
    pub(crate) async fn item(&self, did: &str, list: &str, member: &str, rkey: &str, time_us: i64) -> String {
        let record = object!({"list": list, "subject": member, "createdAt": iso(time_us)});
        self.create(did, "app.bsky.graph.listitem", rkey, record, time_us).await
    }

    /// A block of everybody on a list.
    pub(crate) async fn list_block(&self, did: &str, list: &str, rkey: &str, time_us: i64) -> String {
        let record = object!({"subject": list, "createdAt": iso(time_us)});
        self.create(did, "app.bsky.graph.listblock", rkey, record, time_us).await
    }
}

/// A version for strong references in which the version does not matter.
pub(crate) const ANY_CID: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";

/// The record of a like or a repost.
pub(crate) fn reference(subject: &str, time_us: i64) -> Json {
    object!({"subject": {"uri": subject, "cid": ANY_CID}, "createdAt": iso(time_us)})
}

/// The record of a list.
pub(crate) fn list(purpose: &str, time_us: i64) -> Json {
    let purpose = format!("app.bsky.graph.defs#{purpose}");
    object!({"purpose": purpose, "name": "a list", "createdAt": iso(time_us)})
}

/// Walks a paged list to its end with limits 1, 2, 3, 7 in turn, and checks that no page is longer than asked and that
/// the walk ends. `$page` is an async block of `limit` and `cursor` that gives `(Vec<T>, String)`.
macro_rules! walk {
    (|$limit:ident, $cursor:ident| $page:expr) => {{
        let mut all = Vec::new();
        let mut token = String::new();
        for round in 0.. {
            assert!(round < 1000, "the walk does not end");
            let $limit: i32 = [1, 2, 3, 7][round % 4];
            let $cursor: String = token.clone();
            let (items, next): (Vec<_>, String) = $page;
            assert!(items.len() <= $limit as usize, "a page is longer than asked");
            all.extend(items);
            if next.is_empty() {
                break;
            }
            assert_ne!(next, token, "a token repeats");
            assert!(!next.contains("::") && !next.starts_with("did:"), "{next}");
            token = next;
        }
        all
    }};
}
pub(crate) use walk;
