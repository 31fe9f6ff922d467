//! `cargo xtask bench search`: posts and typeahead over a large made-up network, beside the reference on the same data.

mod corpus;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use clap::Args as ClapArgs;
use gp_index::{
    actors,
    counts::{Deltas, OnCount},
    tables,
};
use gp_proto as proto;
use gp_store::{Store, Writer, WriterConfig};
use prost::Message;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;

use self::corpus::Corpus;
use super::{
    filled::{AT, CID, Measured, Reference, create, measure, serve, submit},
    folder_bytes, load, mb, peak_rss,
};
use crate::shell;

/// Records written in one job of the writer.
const RECORDS_PER_JOB: usize = 200;

/// Longest time for the index to be built.
const BUILD_MAX: Duration = Duration::from_secs(3_600);

/// A page, as the AppView asks for it.
const PAGE: i32 = 25;

/// What the bench can be told.
#[derive(ClapArgs, Clone)]
pub(crate) struct Args {
    /// Posts.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) posts: usize,
    /// Accounts.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) actors: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 15)]
    pub(crate) seconds: u64,
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    pub(crate) bin: Option<PathBuf>,
    /// Leave the reference out.
    #[arg(long)]
    pub(crate) alone: bool,
}

/// Measures, prints the table, and answers ours.
pub(crate) async fn run(args: &Args) -> Result<Vec<Measured>> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let corpus = Arc::new(Corpus::new(args.actors, args.posts));
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let csv = dir.path().join("csv");
    std::fs::create_dir_all(&csv)?;
    println!("writing {} accounts and {} posts ...", args.actors, args.posts);
    fill(&data, &csv, &corpus, args).await?;

    let plane = serve(&bin, &data)?;
    let begun = Instant::now();
    let documents = loop {
        if let Ok(body) = load::get(&plane.admin, "/status").await {
            let status: serde_json::Value = serde_json::from_slice(&body)?;
            let search = &status["search"];
            if search["ready"] == true && search["pending"] == 0 {
                break search["documents"].as_u64().unwrap_or(0);
            }
        }
        ensure!(begun.elapsed() < BUILD_MAX, "the index was not built within an hour");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let took = begun.elapsed().as_secs_f64();
    ensure!(documents as usize >= args.posts, "the index has {documents} documents");
    println!(
        "built        {documents} documents in {took:.1} s: {:.0} a second; {:.1} MB on disk, {:.1} MB peak memory",
        documents as f64 / took,
        mb(folder_bytes(&data.join("search"))),
        mb(peak_rss(plane.child.id())),
    );

    println!("\n{:<12} {:<22} {:>8} {:>10} {:>10}", "plane", "call", "calls", "p50 ms", "p99 ms");
    let time = Duration::from_secs(args.seconds);
    let mut out = Vec::new();
    for (what, method, requests) in questions(&corpus, true) {
        let measured = measure(&plane.url, true, what, method, &requests, time).await?;
        measured.print("groundplane");
        out.push(measured);
    }
    println!("groundplane  peak memory {:.1} MB", mb(peak_rss(plane.child.id())));
    drop(plane);
    if !args.alone {
        reference(&csv, &corpus, time).await?;
    }
    Ok(out)
}

/// Writes the network into a store, as live events would, and into files for the reference.
async fn fill(data: &Path, csv: &Path, corpus: &Arc<Corpus>, args: &Args) -> Result<()> {
    let all: Vec<_> = tables::ALL.iter().chain(gp_ingest::TABLES).chain(gp_search::TABLES).copied().collect();
    let store = Store::lsm(data, &all, &gp_store::Config::default())?;
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default())?;
    let file = |name: &str| Ok::<_, anyhow::Error>(BufWriter::new(File::create(csv.join(name))?));
    let (mut actor, mut profile, mut post) = (file("actor.csv")?, file("profile.csv")?, file("post.csv")?);
    let begun = Instant::now();
    for first in (0..args.actors).step_by(RECORDS_PER_JOB) {
        let numbers = first..(first + RECORDS_PER_JOB).min(args.actors);
        for number in numbers.clone() {
            let it = corpus.person(number);
            writeln!(actor, "{},{},{}", it.did, it.handle, AT)?;
            let uri = format!("at://{}/app.bsky.actor.profile/self", it.did);
            writeln!(profile, "{uri},{CID},{},{},{},{AT},{AT}", it.did, it.name, it.bio)?;
        }
        let corpus = Arc::clone(corpus);
        submit(&writer, move |view| {
            for number in numbers {
                let it = corpus.person(number);
                actors::set_handle(view, &it.did, Some(&it.handle), 1)?;
                let record = json!({"$type": "app.bsky.actor.profile", "displayName": it.name, "description": it.bio});
                create(view, &it.did, "app.bsky.actor.profile", "self", &record, 1_000_000)?;
                let mut deltas = Deltas::default();
                deltas.add(tables::on_head(&it.did), OnCount::Followers as u8, it.followers as i64);
                deltas.apply(view)?;
            }
            Ok(())
        })
        .await?;
    }
    for first in (0..args.posts).step_by(RECORDS_PER_JOB) {
        let numbers = first..(first + RECORDS_PER_JOB).min(args.posts);
        for number in numbers.clone() {
            let it = corpus.post(number);
            let author = corpus.person(it.author).did;
            let at = gp_atproto::datetime::format_ms(it.at_us);
            writeln!(
                post,
                "at://{author}/app.bsky.feed.post/{},{CID}{number},{author},{},{at},{at}",
                it.rkey, it.text
            )?;
        }
        let corpus = Arc::clone(corpus);
        submit(&writer, move |view| {
            for number in numbers {
                let it = corpus.post(number);
                let author = corpus.person(it.author).did;
                let at = gp_atproto::datetime::format_ms(it.at_us);
                let record = json!({"$type": "app.bsky.feed.post", "text": it.text, "createdAt": at});
                create(view, &author, "app.bsky.feed.post", &it.rkey, &record, it.at_us)?;
                if it.likes > 0 {
                    let mut deltas = Deltas::default();
                    let uri = gp_index::placed::uri_of(&author, "app.bsky.feed.post", &it.rkey);
                    deltas.add(tables::on_head(&uri), OnCount::Likes as u8, it.likes as i64);
                    deltas.apply(view)?;
                }
            }
            Ok(())
        })
        .await?;
    }
    // What was submitted is applied in order: an empty job at the end waits for all of it.
    writer.run(|_| Ok::<_, gp_index::Error>(())).await?;
    println!("written      in {:.1} s, without search", begun.elapsed().as_secs_f64());
    drop((writer, store));
    if thread.join().is_err() {
        bail!("the writer failed");
    }
    Ok(())
}

/// Questions asked of each call, one after the other.
const QUESTIONS: usize = 2_000;

type Questions = (&'static str, &'static str, Vec<Bytes>);

/// What is asked: the same words of both planes; of the reference only what it tells apart.
fn questions(corpus: &Corpus, ours: bool) -> Vec<Questions> {
    let mut dice = StdRng::seed_from_u64(11);
    let terms: Vec<String> = (0..QUESTIONS).map(|_| corpus.question(&mut dice)).collect();
    let typed: Vec<String> = (0..QUESTIONS).map(|_| corpus.typed(&mut dice)).collect();
    let framed = |messages: Vec<Vec<u8>>| messages.into_iter().map(load::frame).collect::<Vec<_>>();
    let posts = terms.iter().map(|term| {
        proto::SearchPostsRequest { term: term.clone(), limit: PAGE, cursor: String::new() }.encode_to_vec()
    });
    let people = typed.iter().map(|term| {
        proto::SearchActorsRequest { term: term.clone(), limit: 10, cursor: String::new() }.encode_to_vec()
    });
    let mut out =
        vec![("posts", "SearchPosts", framed(posts.collect())), ("accounts", "SearchActors", framed(people.collect()))];
    if ours {
        let v2 = |sort: proto::SearchSortOrder| {
            let requests = terms.iter().map(move |term| {
                let params = proto::SearchParams { query: term.clone(), limit: PAGE, ..Default::default() };
                proto::SearchPostsV2Request {
                    params: Some(params),
                    sort: sort as i32,
                    all_time: Some(true),
                    ..Default::default()
                }
                .encode_to_vec()
            });
            framed(requests.collect())
        };
        let typeahead = typed.iter().map(|query| {
            let params = proto::SearchTypeaheadParams { query: query.clone(), limit: 10, ..Default::default() };
            proto::SearchActorsTypeaheadRequest { params: Some(params) }.encode_to_vec()
        });
        out.push(("posts, counted", "SearchPostsV2", v2(proto::SearchSortOrder::Recent)));
        out.push(("posts, best first", "SearchPostsV2", v2(proto::SearchSortOrder::Top)));
        out.push(("typeahead", "SearchActorsTypeahead", framed(typeahead.collect())));
    }
    out
}

/// The reference over PostgreSQL with the same documents.
async fn reference(csv: &Path, corpus: &Corpus, time: Duration) -> Result<()> {
    let reference = Reference::start()?;
    let begun = Instant::now();
    reference.copy(csv, "actor", "did,handle,\"indexedAt\"")?;
    reference.copy(csv, "profile", "uri,cid,creator,\"displayName\",description,\"createdAt\",\"indexedAt\"")?;
    reference.copy(csv, "post", "uri,cid,creator,text,\"createdAt\",\"indexedAt\"")?;
    reference.sql("analyze bench.actor; analyze bench.post;")?;
    println!("reference    filled in {:.1} s", begun.elapsed().as_secs_f64());
    for (what, method, requests) in questions(corpus, false) {
        measure(&reference.plane.url, false, what, method, &requests, time).await?.print("reference");
    }
    Ok(())
}

/// A short run for the tests: small, alone, and only what cannot depend on how busy the machine is. Answers how many
/// checks passed and failed.
pub(crate) fn short() -> Result<(u64, u64)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bin = shell::build_groundplane(false)?;
    let args = Args { posts: 5_000, actors: 1_000, seconds: 2, bin: Some(bin), alone: true };
    let measured = runtime.block_on(run(&args))?;
    let answered = measured.iter().filter(|it| it.calls >= 20).count() as u64;
    Ok((answered, measured.len() as u64 - answered))
}
