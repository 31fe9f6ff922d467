//! `cargo xtask bench pages`: what the pages of an app ask for, over a network with the shape of the real one, beside
//! the reference on the same rows.
//!
//! Few are followed by very many and most by few; some follow thousands. Both planes answer the same timelines, item for
//! item, or the bench fails: figures of different answers say nothing.

mod world;

pub(crate) use world::did;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Args as ClapArgs;
use gp_index::tables;
use gp_proto as proto;
use gp_store::{Store, Writer, WriterConfig};
use prost::Message;

use self::world::{Files, World};
use super::{
    filled::{Measured, Reference, measure, serve, submit},
    folder_bytes, load, mb, peak_rss,
};
use crate::shell;

/// Longest time for the window of timelines to be filled.
const FILL_MAX: Duration = Duration::from_secs(300);

/// Viewers whose timelines are compared item for item.
const COMPARED: usize = 20;

/// A page, as the AppView asks for it.
const PAGE: i32 = 50;

/// Hubs that one call of followers-you-know asks about.
const TARGETS: usize = 30;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What the bench can be told.
#[derive(ClapArgs, Clone)]
pub(crate) struct Args {
    /// Accounts. Each follows about twenty and has about ten items in its feed.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) accounts: usize,
    /// Accounts that each of the viewers follows.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) follows: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    pub(crate) bin: Option<PathBuf>,
    /// Leave the reference out.
    #[arg(long)]
    pub(crate) alone: bool,
}

/// Fills, measures, compares, prints the table, and answers ours.
pub(crate) async fn run(args: &Args) -> Result<Vec<Measured>> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let world = Arc::new(World::new(args.accounts, args.follows));
    let dir = tempfile::tempdir()?;
    let (data, csv) = (dir.path().join("data"), dir.path().join("csv"));
    std::fs::create_dir_all(&csv)?;
    fill(&data, &csv, &world).await?;

    let plane = serve(&bin, &data)?;
    let begun = Instant::now();
    loop {
        if let Ok(body) = load::get(&plane.admin, "/status").await {
            let status: serde_json::Value = serde_json::from_slice(&body)?;
            if status["timeline"]["ready"] == true {
                println!(
                    "served       window of {} items of {} authors, {:.1} MB, {:.1} s after the start",
                    status["timeline"]["items"],
                    status["timeline"]["authors"],
                    mb(status["timeline"]["bytes"].as_u64().unwrap_or(0)),
                    begun.elapsed().as_secs_f64()
                );
                break;
            }
        }
        ensure!(begun.elapsed() < FILL_MAX, "the window of timelines was not filled in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("\n{:<12} {:<22} {:>8} {:>10} {:>10}", "plane", "call", "calls", "p50 ms", "p99 ms");
    let time = Duration::from_secs(args.seconds);
    let questions = questions(&world);
    let mut out = Vec::new();
    for (what, method, requests) in &questions {
        let measured = measure(&plane.url, true, what, method, requests, time).await?;
        measured.print("groundplane");
        out.push(measured);
    }
    println!(
        "groundplane  peak memory {:.1} MB, disk {:.1} MB",
        mb(peak_rss(plane.child.id())),
        mb(folder_bytes(&data))
    );
    if !args.alone {
        let reference = Reference::start()?;
        let begun = Instant::now();
        Files::load(&reference, &csv)?;
        println!("reference    filled in {:.1} s", begun.elapsed().as_secs_f64());
        compare(&plane.url, &reference.plane.url, &world).await?;
        for ((what, method, requests), ours) in questions.iter().zip(&out) {
            let theirs = measure(&reference.plane.url, false, what, method, requests, time).await?;
            theirs.print("reference");
            println!(
                "{:<12} {what:<22} {:>8} {:>9.1}x {:>9.1}x",
                "ratio",
                "",
                theirs.p50_ms / ours.p50_ms,
                theirs.p99_ms / ours.p99_ms
            );
        }
    }
    Ok(out)
}

/// Writes the network into a store, as live events would, and into files for the reference.
async fn fill(data: &Path, csv: &Path, world: &Arc<World>) -> Result<()> {
    let all: Vec<_> = tables::ALL.iter().chain(gp_ingest::TABLES).chain(gp_search::TABLES).copied().collect();
    let store = Store::lsm(data, &all, &gp_store::Config::default())?;
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default())?;
    gp_index::window::begin(&store, &writer, gp_index::system_now_us()).await?;
    let mut files = Files::create(csv)?;
    let (begun, jobs) = (Instant::now(), world.jobs());
    let (mut told, mut ops) = (begun, 0);
    for job in 0..jobs {
        ops += files.write(world, job)?;
        let world = Arc::clone(world);
        submit(&writer, move |view| world.apply(view, job)).await?;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs_f64();
            let left = seconds / (job + 1) as f64 * (jobs - job - 1) as f64;
            println!("written {ops} records, {:.0} a second, {left:.0} s to go", ops as f64 / seconds);
        }
    }
    files.flush()?;
    // What was submitted is applied in order: an empty job at the end waits for all of it.
    writer.run(|_| Ok::<_, gp_index::Error>(())).await?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("written      {ops} records in {seconds:.1} s: {:.0} a second", ops as f64 / seconds);
    drop((writer, store));
    if thread.join().is_err() {
        bail!("the writer failed");
    }
    Ok(())
}

type Questions = (&'static str, &'static str, Vec<Bytes>);

/// What is asked of both.
fn questions(world: &World) -> Vec<Questions> {
    let framed = |messages: Vec<Vec<u8>>| messages.into_iter().map(load::frame).collect::<Vec<_>>();
    let viewers: Vec<String> = world.viewers().collect();
    let timelines = |limit: i32| {
        let request = |did: &String| {
            proto::GetTimelineRequest { actor_did: did.clone(), limit, ..Default::default() }.encode_to_vec()
        };
        framed(viewers.iter().cycle().take(2_000).map(request).collect())
    };
    let hubs: Vec<String> = world.hubs().take(TARGETS).collect();
    let known = viewers.iter().cycle().take(500).map(|did| {
        proto::GetFollowsFollowingRequest { actor_did: did.clone(), target_dids: hubs.clone() }.encode_to_vec()
    });
    let followers = hubs.iter().cycle().take(500).map(|did| {
        proto::GetFollowersRequest { actor_did: did.clone(), limit: PAGE, ..Default::default() }.encode_to_vec()
    });
    let relations = viewers.iter().enumerate().cycle().take(1_000).map(|(n, did)| {
        let target_dids = world.somebody(n).take(PAGE as usize).collect();
        proto::GetRelationshipsRequest { actor_did: did.clone(), target_dids }.encode_to_vec()
    });
    let thread = proto::GetThreadRequest { post_uri: world.root(), above: 80, below: 6 }.encode_to_vec();
    vec![
        ("timeline", "GetTimeline", timelines(PAGE)),
        ("followers you know", "GetFollowsFollowing", framed(known.collect())),
        ("followers of a hub", "GetFollowers", framed(followers.collect())),
        ("relationships", "GetRelationships", framed(relations.collect())),
        ("thread of 1,000", "GetThread", framed(vec![thread; 500])),
    ]
}

/// The first page of some timelines must be the same, item for item.
async fn compare(ours: &str, theirs: &str, world: &World) -> Result<()> {
    let (ours, theirs) =
        (load::Caller::new(ours, true, "GetTimeline"), load::Caller::new(theirs, false, "GetTimeline"));
    let mut items = 0;
    for viewer in world.viewers().take(COMPARED) {
        let request = proto::GetTimelineRequest { actor_did: viewer.clone(), limit: PAGE, ..Default::default() };
        let frame = load::frame(request.encode_to_vec());
        let read = |body: Bytes| -> Result<Vec<(String, String)>> {
            let answer = proto::GetTimelineResponse::decode(&body[5..]).context("an answer that cannot be read")?;
            Ok(answer.items.into_iter().map(|item| (item.uri, item.repost)).collect())
        };
        let (own, other) = (read(ours.answer(frame.clone()).await?)?, read(theirs.answer(frame).await?)?);
        ensure!(own == other, "the timeline of {viewer} differs: {own:?} and the reference's {other:?}");
        items += own.len();
    }
    println!("the first pages of {COMPARED} timelines are the same: {items} items");
    Ok(())
}

/// A short run for the tests: small, alone, and only what cannot depend on how busy the machine is. Answers how many
/// checks passed and failed.
pub(crate) fn short() -> Result<(u64, u64)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bin = shell::build_groundplane(false)?;
    let args = Args { accounts: 600, follows: 200, seconds: 1, bin: Some(bin), alone: false };
    let measured = runtime.block_on(run(&args))?;
    let answered = measured.iter().filter(|it| it.calls >= 20).count() as u64;
    Ok((answered, measured.len() as u64 - answered))
}
