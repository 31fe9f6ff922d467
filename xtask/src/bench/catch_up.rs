//! `cargo xtask bench catch-up`: how quickly a gap is made good, and what readers feel meanwhile.
//!
//! The plane reads a history, then stops reading while the network goes on. Readers ask at a steady rate, timed from when
//! each call was due: first while nothing else happens, then while everything that was missed comes in at once.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use gp_proto as proto;
use gp_synth::Network;
use prost::Message as _;
use rand::{SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use super::{Plane, load, network, ours, post_uris, read_all, status};
use crate::shell;

/// Events let happen in one go.
const EVENTS_PER_TICK: usize = 2_000;

/// Keys of a batch of posts.
const KEYS: usize = 50;

/// Posts that are asked for.
const POSTS: usize = 5_000;

/// Different batches.
const BATCHES: usize = 64;

/// Calls under way at the same time; those beyond are counted as errors.
const CALLS_MAX: usize = 512;

/// Longest time for the gap to be made good.
const CATCH_UP_MAX: Duration = Duration::from_secs(900);

/// What the bench can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Accounts of the network. Each has written about thirty records before the gap.
    #[arg(long, default_value_t = 3_000)]
    accounts: u32,
    /// Events that are missed: what an hour brings at ten or twenty a second.
    #[arg(long, default_value_t = 50_000)]
    events: usize,
    /// Calls a second of the readers: every other one a batch of 50 posts, the others a timeline.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Seconds of the quiet measurement.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    bin: Option<PathBuf>,
}

/// What readers felt.
struct Felt {
    micros: Vec<u64>,
    errors: usize,
}

impl Felt {
    fn at(&self, share: f64) -> f64 {
        let at = ((self.micros.len() as f64 * share) as usize).min(self.micros.len().saturating_sub(1));
        self.micros.get(at).map_or(f64::NAN, |us| *us as f64 / 1000.0)
    }

    fn print(&self, what: &str) {
        println!(
            "{what:<12} {:>8} {:>10.2} {:>10.2} {:>10.2} {:>8}",
            self.micros.len(),
            self.at(0.5),
            self.at(0.99),
            self.at(1.0),
            self.errors
        );
    }
}

/// Measures, and prints the table.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    println!("writing the history of {} accounts ...", args.accounts);
    let network = network(args.accounts).await?;
    let dir = tempfile::tempdir()?;
    let mut plane = ours(&bin, dir.path(), &network)?;
    read_all(&mut plane, network.head_seq()).await?;
    load::post(&plane.admin, "/admin/ingest/pause").await?;
    let (from, records) = (network.head_seq(), network.stats().written.records);
    let posts = post_uris(&network, POSTS);
    miss(&network, args.events).await?;
    let (head, missed) = (network.head_seq(), network.stats().written.records - records);
    println!("{from} events read, {} more missed, {missed} records", head - from);

    let readers = Arc::new(Readers::new(&plane, &network, &posts));
    println!("\n{:<12} {:>8} {:>10} {:>10} {:>10} {:>8}", "readers", "calls", "p50 ms", "p99 ms", "max ms", "errors");
    // Connections and memory are warm in both measurements.
    Arc::clone(&readers).ask(args.rate, Until::Time(Duration::from_secs(3))).await?;
    let quiet = Arc::clone(&readers).ask(args.rate, Until::Time(Duration::from_secs(args.seconds))).await?;
    quiet.print("quiet");
    let admin = plane.admin.clone();
    let (begun, caught_up) = (Instant::now(), tokio::sync::watch::Sender::new(false));
    load::post(&plane.admin, "/admin/ingest/resume").await?;
    let done = caught_up.subscribe();
    let (beside, took) = tokio::join!(readers.ask(args.rate, Until::Told(done)), async {
        let reached = reached(&admin, head, begun).await;
        caught_up.send_replace(true);
        reached
    });
    let (beside, took) = (beside?, took?);
    beside.print("catching up");
    let seconds = took.as_secs_f64();
    println!(
        "\ncaught up in {seconds:.1} s: {:.0} events/s, {:.0} records/s; p99 of readers {:.2} times the quiet one",
        (head - from) as f64 / seconds,
        missed as f64 / seconds,
        beside.at(0.99) / quiet.at(0.99)
    );
    ensure!(beside.errors == 0 && quiet.errors == 0, "readers were refused");
    Ok(())
}

/// Lets things happen that nobody hears of.
async fn miss(network: &Network, events: usize) -> Result<()> {
    let mut left = events;
    while left > 0 {
        let some = left.min(EVENTS_PER_TICK);
        tokio::task::block_in_place(|| network.tick(some, gp_index::system_now_us()));
        left -= some;
    }
    Ok(())
}

async fn reached(admin: &str, head: i64, begun: Instant) -> Result<Duration> {
    loop {
        if let Ok((seq, pending)) = status(admin).await
            && seq >= head
            && pending == 0
        {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < CATCH_UP_MAX, "not caught up within {} s", CATCH_UP_MAX.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until when readers ask.
enum Until {
    Time(Duration),
    Told(tokio::sync::watch::Receiver<bool>),
}

struct Readers {
    posts: load::Caller,
    timelines: load::Caller,
    batches: Vec<Bytes>,
    timeline: Bytes,
}

impl Readers {
    fn new(plane: &Plane, network: &Network, posts: &[String]) -> Self {
        let mut dice = StdRng::seed_from_u64(7);
        let batches = (0..BATCHES).map(|_| {
            let places = rand::seq::index::sample(&mut dice, posts.len(), KEYS.min(posts.len()));
            let uris = places.iter().map(|place| posts[place].clone()).collect();
            load::frame(proto::GetPostRecordsRequest { uris, ..Default::default() }.encode_to_vec())
        });
        let timeline =
            proto::GetTimelineRequest { actor_did: network.pick().reader_did, limit: 30, ..Default::default() };
        Self {
            posts: load::Caller::new(&plane.url, true, "GetPostRecords"),
            timelines: load::Caller::new(&plane.url, true, "GetTimeline"),
            batches: batches.collect(),
            timeline: load::frame(timeline.encode_to_vec()),
        }
    }

    async fn call(&self, number: usize) -> Result<()> {
        match number % 2 {
            0 => self.posts.call(self.batches[number / 2 % self.batches.len()].clone()).await,
            _ => self.timelines.call(self.timeline.clone()).await,
        }
    }

    /// Asks at a steady rate. Each call is timed from when it was due, whether or not those before it have ended.
    async fn ask(self: Arc<Self>, rate: u32, until: Until) -> Result<Felt> {
        let (begun, every) = (Instant::now(), Duration::from_secs(1) / rate.max(1));
        let mut felt = Felt { micros: Vec::new(), errors: 0 };
        let mut calls = JoinSet::new();
        let note = |felt: &mut Felt, done: Result<Option<u64>, tokio::task::JoinError>| match done {
            Ok(Some(micros)) => felt.micros.push(micros),
            Ok(None) | Err(_) => felt.errors += 1,
        };
        for number in 0.. {
            let due = begun + every * u32::try_from(number).context("too many calls")?;
            tokio::time::sleep_until(due.into()).await;
            while let Some(done) = calls.try_join_next() {
                note(&mut felt, done);
            }
            let over = match &until {
                Until::Time(time) => begun.elapsed() >= *time,
                Until::Told(told) => *told.borrow(),
            };
            if over {
                break;
            }
            if calls.len() >= CALLS_MAX {
                felt.errors += 1;
                continue;
            }
            let readers = Arc::clone(&self);
            calls.spawn(async move {
                let done = readers.call(number).await;
                done.ok().map(|()| u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX))
            });
        }
        while let Some(done) = calls.join_next().await {
            note(&mut felt, done);
        }
        felt.micros.sort_unstable();
        Ok(felt)
    }
}
