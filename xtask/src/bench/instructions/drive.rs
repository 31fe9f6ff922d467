//! The work whose instructions are counted: always the same, in one thread as far as the work allows it.

use std::sync::{Arc, atomic::AtomicU64};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use gp_atproto::{
    Tid, compact,
    crypto::VerifyingKey,
    datetime,
    frame::Message,
    json,
    verify::{CheckedCommit, check_commit},
};
use gp_index::{
    Cx, NoIdentities, actors,
    apply::{Action, Applied, Op, apply_op},
    feeds,
    graph::Graph,
    names::Names,
    posts,
    search::NoSearch,
    tables,
    window::Window,
};
use gp_proto as proto;
use gp_store::{Store, Writer, WriterConfig};
use gp_synth::{Network, Size, Spec};
use prost::Message as _;
use serde_json::{Value, json as object};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

use crate::bench::load;

/// The last moment of everything here.
const NOW_US: i64 = 1_767_225_600_000_000;

/// Operations applied at once.
const BATCH_OPS: usize = 200;

/// Accounts that post in the little network.
const AUTHORS: usize = 100;

/// Posts of each.
const POSTS: usize = 5;

/// A piece of work.
pub(super) struct Work {
    pub(super) name: &'static str,
    /// How often it is done in the shorter run.
    pub(super) times: u64,
    run: fn(&Runtime, u64) -> Result<()>,
}

impl Work {
    pub(super) const ALL: &[Self] = &[
        // Decode a frame and verify its commit: hashes, proof, signature.
        Self { name: "verify", times: 100, run: verify },
        // A batch of likes, follows, reposts, posts and replies, into a store in memory.
        Self { name: "apply", times: 4, run: apply },
        // 50 posts that are kept in memory, looked up and encoded.
        Self { name: "read50", times: 250, run: read },
        // The first page of the timeline of somebody who follows a hundred.
        Self { name: "timeline", times: 300, run: timeline },
        // The smallest call, on the way of every call: transport, who, price, admission, figures.
        Self { name: "call", times: 600, run: call },
    ];
}

/// Does a piece of work so many times.
pub(super) fn run(name: &str, times: u64) -> Result<()> {
    let work = Work::ALL.iter().find(|work| work.name == name).with_context(|| format!("{name} is no work"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    (work.run)(&runtime, times)
}

fn verify(runtime: &Runtime, times: u64) -> Result<()> {
    let mut spec = Spec::new(Size::Custom { accounts: 24, records: 96 }, 1, NOW_US);
    (spec.keep_model, spec.threads) = (false, 1);
    let network = runtime.block_on(Network::start(spec))?;
    let mut events: Vec<(Bytes, VerifyingKey)> = Vec::new();
    for (_, frame) in network.frames() {
        let Ok(Message::Commit(commit)) = Message::decode(&frame) else { continue };
        let Some(account) = network.account(commit.repo) else { continue };
        let key = VerifyingKey::from_multikey(&account.facts.signing_key)?;
        if check_commit(&commit, &key, NOW_US.unsigned_abs()).is_ok() {
            events.push((frame.clone(), key));
        }
    }
    ensure!(events.len() > 50, "only {} commits", events.len());
    let mut ops = 0;
    for (frame, key) in events.iter().cycle().take(times as usize) {
        let Ok(Message::Commit(commit)) = Message::decode(frame) else { bail!("a frame that was one") };
        let checked: CheckedCommit<'_> = check_commit(&commit, key, NOW_US.unsigned_abs())?;
        ops += checked.ops().len();
    }
    ensure!(ops as u64 >= times, "{ops} operations of {times} commits");
    Ok(())
}

/// A store in memory, its writer, and a network of a few hundred posts.
struct World {
    cx: Cx,
    tid: AtomicU64,
}

fn uri(author: usize, post: usize) -> String {
    format!("at://{}/app.bsky.feed.post/{}", did(author), tid_at(author * POSTS + post))
}

/// The account of a number. It is what the figures that are kept were counted with.
fn did(number: usize) -> String {
    let mut text = String::from("did:plc:");
    let (mut rest, letters) = (number, b"abcdefghijklmnopqrstuvwxyz234567");
    for _ in 0..24 {
        text.push(char::from(letters[rest % 32]));
        rest /= 32;
    }
    text
}

fn tid_at(number: usize) -> String {
    Tid::from_parts(NOW_US.unsigned_abs() - 1_000_000_000 + number as u64 * 1_000, 7).to_string()
}

const CID: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";

impl World {
    fn new() -> Result<Self> {
        let store = Store::mem(tables::ALL);
        let (writer, _thread) = Writer::start(store.clone(), WriterConfig::default())?;
        let names = Names::new(16 << 20);
        let cx = Cx {
            window: Window::over_empty(&store, &names, 16 << 20),
            graph: Graph::over_empty(&store, &names, 64 << 20),
            store,
            writer,
            identity: Arc::new(NoIdentities),
            search: Arc::new(NoSearch),
            sitemap_url: "https://plane.test".into(),
            damage: Arc::default(),
            now_us: || NOW_US,
        };
        Ok(Self { cx, tid: AtomicU64::new(0) })
    }

    /// With posts of everybody, and somebody (number 0) who follows all others.
    async fn filled() -> Result<Self> {
        let world = Self::new()?;
        for author in 0..AUTHORS {
            let mut deeds: Vec<Deed> = (0..POSTS).map(|post| Deed::post(author, post)).collect();
            if author > 0 {
                deeds.push(Deed::new(0, "app.bsky.graph.follow", &format!("3k{author:0>11}"), follow(author), 0));
            }
            world.write(deeds).await?;
        }
        Ok(world)
    }

    async fn write(&self, deeds: Vec<Deed>) -> Result<()> {
        let rev = self.tid.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let rev = Tid::from_parts(NOW_US.unsigned_abs() + rev, 0).to_string();
        let done = self.cx.writer.run(move |view| -> gp_index::Result<usize> {
            let mut applied = Applied::default();
            for deed in &deeds {
                actors::touch(view, &deed.did, NOW_US - 1_000_000_000)?;
                let op = Op {
                    action: Action::Create,
                    collection: deed.collection,
                    rkey: &deed.rkey,
                    cid: None,
                    record: Some(&deed.block),
                };
                apply_op(view, &deed.did, &rev, &op, deed.at_us, &mut applied)?;
            }
            Ok(applied.dropped.len())
        });
        let dropped = done.await?;
        ensure!(dropped == 0, "{dropped} records were dropped");
        Ok(())
    }
}

/// A record that somebody writes.
struct Deed {
    did: String,
    collection: &'static str,
    rkey: String,
    block: Vec<u8>,
    at_us: i64,
}

impl Deed {
    fn new(actor: usize, collection: &'static str, rkey: &str, mut record: Value, number: usize) -> Self {
        let at_us = NOW_US - 1_000_000_000 + number as i64 * 1_000;
        record["$type"] = collection.into();
        record["createdAt"] = datetime::format_ms(at_us).into();
        let block = json::to_cbor(&record).unwrap_or_default();
        Self { did: did(actor), collection, rkey: rkey.to_owned(), block, at_us }
    }

    fn post(author: usize, post: usize) -> Self {
        let number = author * POSTS + post;
        let text = format!("Post number {number}, as long as posts are when somebody has something to say about it.");
        let record = object!({"text": text, "langs": ["en"]});
        Self::new(author, "app.bsky.feed.post", &tid_at(number), record, number)
    }
}

fn follow(of: usize) -> Value {
    object!({"subject": did(of)})
}

/// Likes, follows, reposts, posts and replies in the proportions of the network, never the same twice.
fn batch(number: usize) -> Vec<Deed> {
    let deed = |n: usize| {
        let at = number * BATCH_OPS + n;
        let (actor, rkey) = (AUTHORS + at % 5_000, tid_at(1_000_000 + at));
        let about = object!({"subject": {"uri": uri(at % AUTHORS, at % POSTS), "cid": CID}});
        let reply = || {
            let parent = object!({"uri": uri(at % AUTHORS, at % POSTS), "cid": CID});
            object!({"text": "I see it in another way.", "reply": {"root": parent, "parent": parent}})
        };
        match n % 20 {
            0..12 => Deed::new(actor, "app.bsky.feed.like", &rkey, about, at),
            12..15 => Deed::new(actor, "app.bsky.graph.follow", &rkey, follow(at % 5_000), at),
            15..17 => Deed::new(actor, "app.bsky.feed.repost", &rkey, about, at),
            17 => Deed::new(actor, "app.bsky.feed.post", &rkey, reply(), at),
            _ => Deed::new(actor, "app.bsky.feed.post", &rkey, object!({"text": "Something new."}), at),
        }
    };
    (0..BATCH_OPS).map(deed).collect()
}

fn apply(runtime: &Runtime, times: u64) -> Result<()> {
    runtime.block_on(async {
        let world = World::filled().await?;
        for number in 0..times as usize {
            world.write(batch(number)).await?;
        }
        Ok(())
    })
}

fn read(runtime: &Runtime, times: u64) -> Result<()> {
    runtime.block_on(async {
        let world = World::filled().await?;
        let uris: Vec<String> = (0..50).map(|n| uri(n * 7 % AUTHORS, n % POSTS)).collect();
        let mut bytes = 0;
        // Once for the memory: the first look-up reads the store.
        for _ in 0..=times {
            let request = proto::GetPostRecordsRequest { uris: uris.clone(), ..Default::default() };
            bytes += posts::get_post_records(&world.cx, request).await?.encode_to_vec().len() as u64;
        }
        ensure!(bytes / (times + 1) > 50 * 200, "{} bytes of an answer", bytes / (times + 1));
        Ok(())
    })
}

fn timeline(runtime: &Runtime, times: u64) -> Result<()> {
    runtime.block_on(async {
        let world = World::filled().await?;
        for _ in 0..=times {
            let request = proto::GetTimelineRequest { actor_did: did(0), limit: 30, ..Default::default() };
            let answer = feeds::get_timeline(&world.cx, request).await?;
            ensure!(answer.encode_to_vec().len() > 30 * compact::HEAD_BYTES, "{} items", answer.items.len());
        }
        Ok(())
    })
}

fn call(runtime: &Runtime, times: u64) -> Result<()> {
    runtime.block_on(async {
        let world = World::new()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let (cx, until) = (world.cx.clone(), stop.clone());
        let config = gp_serve::Config::default();
        let serving = tokio::spawn(gp_serve::serve(listener, None, cx, Arc::new(gp_serve::NoOperator), config, until));
        let caller = load::Caller::new(&address.to_string(), true, "Ping");
        let request = load::frame(Vec::new());
        for _ in 0..times {
            caller.call(request.clone()).await?;
        }
        stop.cancel();
        serving.await??;
        Ok(())
    })
}
