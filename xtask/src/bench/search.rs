//! `cargo xtask bench search`: posts and typeahead over a large made-up network, beside the reference on the same data.

mod corpus;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Args as ClapArgs;
use gp_index::{
    actors,
    apply::{Action, Applied, Op, apply_op},
    counts::{Deltas, OnCount},
    tables,
};
use gp_proto as proto;
use gp_store::{Store, Writer, WriterConfig};
use prost::Message;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;

use self::corpus::Corpus;
use super::{Plane, folder_bytes, free_port, load, mb, peak_rss};
use crate::{node::Node, postgres::Postgres, shell};

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

/// One row of the table.
pub(crate) struct Measured {
    pub(crate) what: &'static str,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) calls: usize,
}

/// Measures, prints the table, and answers ours.
pub(crate) async fn run(args: &Args) -> Result<Vec<Measured>> {
    let bin = match &args.bin {
        Some(bin) => bin.canonicalize().with_context(|| format!("{} is not there", bin.display()))?,
        None => shell::build_groundplane(true)?,
    };
    let corpus = Arc::new(Corpus::new(args.actors, args.posts));
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let csv = dir.path().join("csv");
    std::fs::create_dir_all(&csv)?;
    println!("writing {} accounts and {} posts ...", args.actors, args.posts);
    fill(&data, &csv, &corpus, args).await?;

    let plane = ours(&bin, &data)?;
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

impl Measured {
    fn print(&self, plane: &str) {
        println!("{plane:<12} {:<22} {:>8} {:>10.2} {:>10.2}", self.what, self.calls, self.p50_ms, self.p99_ms);
    }
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

/// What every row of the reference has that nobody looks at here.
const AT: &str = "2025-01-01T00:00:00.000Z";
const CID: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";

async fn submit(
    writer: &Writer,
    job: impl FnOnce(&mut gp_store::View<'_>) -> gp_index::Result<()> + Send + 'static,
) -> Result<()> {
    let run = move |view: &mut gp_store::View<'_>| {
        let done = job(view);
        Box::new(move |applied: gp_store::Result<()>| {
            // Our own records: they apply, or the bench is wrong.
            assert!(done.is_ok() && applied.is_ok(), "{done:?} {applied:?}");
        }) as gp_store::Done
    };
    Ok(writer.submit(run).await?)
}

fn create(
    view: &mut gp_store::View<'_>,
    did: &str,
    collection: &str,
    rkey: &str,
    record: &serde_json::Value,
    time_us: i64,
) -> gp_index::Result<()> {
    let block = gp_atproto::json::to_cbor(record)
        .map_err(|_| gp_index::Error::Corrupt { table: "bench", what: "a record that is no record" })?;
    let op = Op { action: Action::Create, collection, rkey, cid: None, record: Some(&block) };
    let mut applied = Applied::default();
    apply_op(view, did, "3kaaaaaaaaaa2", &op, time_us, &mut applied)?;
    assert!(applied.dropped.is_empty(), "{applied:?}");
    Ok(())
}

fn ours(bin: &Path, data: &Path) -> Result<Plane> {
    let (port, admin) = (free_port()?, free_port()?);
    let mut child = Command::new(bin)
        .args(["serve", "--exit-on-stdin-eof", "--log", "warn", "--data-dir"])
        .arg(data)
        .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin}")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", bin.display()))?;
    let stdin = child.stdin.take();
    Ok(Plane { child, stdin, url: format!("127.0.0.1:{port}"), admin: format!("127.0.0.1:{admin}") })
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

/// Asks one question after the other, each once at most, until the time is over.
async fn measure(
    host: &str,
    http2: bool,
    what: &'static str,
    method: &str,
    requests: &[Bytes],
    time: Duration,
) -> Result<Measured> {
    let caller = load::Caller::new(host, http2, method);
    // Connections, caches and pages of the disk are warm on both sides.
    for request in requests.iter().rev().take(20) {
        caller.call(request.clone()).await?;
    }
    let begun = Instant::now();
    let mut micros: Vec<u128> = Vec::new();
    for request in requests {
        if begun.elapsed() >= time && micros.len() >= 20 {
            break;
        }
        let sent = Instant::now();
        caller.call(request.clone()).await?;
        micros.push(sent.elapsed().as_micros());
    }
    micros.sort_unstable();
    let at = |share: f64| micros[((micros.len() as f64 * share) as usize).min(micros.len() - 1)] as f64 / 1000.0;
    Ok(Measured { what, p50_ms: at(0.5), p99_ms: at(0.99), calls: micros.len() })
}

/// The reference over PostgreSQL with the same documents.
async fn reference(csv: &Path, corpus: &Corpus, time: Duration) -> Result<()> {
    let node = Node::install()?;
    let postgres = Postgres::start()?;
    let port = free_port()?;
    let mut child = Command::new(&node.bin)
        .current_dir(&node.home)
        .arg("bench-reference.mjs")
        .args(["--postgres", &postgres.url(), "--plc", "http://127.0.0.1:9", "--port", &port.to_string()])
        .env("NODE_ENV", "production")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot start the reference")?;
    let stdin = child.stdin.take();
    let out = child.stdout.take().context("the reference has no output")?;
    let plane = Plane { child, stdin, url: format!("127.0.0.1:{port}"), admin: String::new() };
    // Its tables are there when it says its first line.
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
    ensure!(!line.is_empty(), "the reference did not start");
    let copy = |table: &str, columns: &str| -> Result<()> {
        let file = csv.join(format!("{table}.csv"));
        let sql = format!("\\copy bench.{table} ({columns}) from '{}' with (format csv)", file.display());
        run_sql(&postgres, &sql)
    };
    let begun = Instant::now();
    copy("actor", "did,handle,\"indexedAt\"")?;
    copy("profile", "uri,cid,creator,\"displayName\",description,\"createdAt\",\"indexedAt\"")?;
    copy("post", "uri,cid,creator,text,\"createdAt\",\"indexedAt\"")?;
    run_sql(&postgres, "analyze bench.actor; analyze bench.post;")?;
    println!("reference    filled in {:.1} s", begun.elapsed().as_secs_f64());
    for (what, method, requests) in questions(corpus, false) {
        measure(&plane.url, false, what, method, &requests, time).await?.print("reference");
    }
    Ok(())
}

fn run_sql(postgres: &Postgres, sql: &str) -> Result<()> {
    let done = Command::new("psql").args([&postgres.url(), "--quiet", "--set=ON_ERROR_STOP=1", "-c", sql]).output()?;
    ensure!(done.status.success(), "psql: {}", String::from_utf8_lossy(&done.stderr).trim());
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
