//! `cargo xtask bench`: our figures beside the reference's, on the same data in the same run.

pub(crate) mod all;
mod cache;
mod catch_up;
pub(crate) mod ceiling;
mod filled;
mod footprint;
pub(crate) mod instructions;
pub(crate) mod load;
mod overhead;
pub(crate) mod scaling;
mod scenarios;
pub(crate) mod search;
mod site;
mod turns;
mod world;

pub(crate) use scenarios::{PAGE, Scenario};
pub(crate) use site::Site;
pub(crate) use world::{Size, World, did};

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use gp_atproto::frame::{Action, Message};
use gp_synth::{Network, Spec};

use crate::{node::Node, postgres::Postgres, shell};

/// Longest time to wait for one of the planes to come up.
const START_MAX: Duration = Duration::from_secs(60);

/// Longest time to fill the reference's tables.
const FILL_MAX: Duration = Duration::from_secs(300);

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Everything that this project holds itself to: work, ours, the reference's, ratio, bar, pass or fail.
    All(all::Args),
    /// What calls cost as the network grows from 10,000 accounts to a million, and the exponent that fits.
    Scaling(scaling::Args),
    /// Where the time of a batch of 50 posts goes, beside a server that answers from a constant.
    Ceiling(ceiling::Args),
    /// Verified operations a second into the embedded store, and the reference's over PostgreSQL.
    Ingest(Args),
    /// Calls a second and latency of GetPostRecords with 1, 50 and 20,000 keys, ours and the reference's.
    GetPostRecords(Args),
    /// Events a second while a gap is made good, and what readers feel meanwhile.
    CatchUp(catch_up::Args),
    /// Bytes on disk by kind of record, and the reference's for the same records.
    Footprint(footprint::Args),
    /// Instructions of the hot functions, counted by valgrind, beside those that are kept in this repository.
    Instructions(instructions::Args),
    /// What admission, metrics, deadlines and traces cost together, beside a server without any of them.
    Overhead(overhead::Args),
    /// Batches of 20,000 keys from memcached, beside what one connection carries.
    Cache(Args),
    /// Latency of post search and typeahead over a million posts, size and rate of the index, and the reference's.
    Search(search::Args),
}

/// What a bench can be told.
#[derive(ClapArgs, Clone)]
pub(crate) struct Args {
    /// Accounts of the synthetic network; 3,000 for ingest, 10,500 for batches unless said.
    #[arg(long)]
    accounts: Option<u32>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Seconds that the reference may read before its rate is taken.
    #[arg(long, default_value_t = 40)]
    reference_seconds: u64,
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Leave the reference out.
    #[arg(long)]
    alone: bool,
}

/// Runs a bench and prints its table.
pub(crate) fn run(bench: Bench) -> Result<()> {
    // It has a runtime of its own: what is counted must not hang on other threads.
    if let Bench::Instructions(args) = &bench {
        return instructions::run(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match bench {
            Bench::Ingest(args) => ingest(&args).await.map(drop),
            Bench::GetPostRecords(args) => get_post_records(&args).await,
            Bench::CatchUp(args) => catch_up::run(&args).await,
            Bench::Footprint(args) => footprint::run(&args).await,
            Bench::Instructions(args) => instructions::run(&args),
            Bench::Overhead(args) => overhead::run(&args).await,
            Bench::Cache(args) => cache::run(&args).await,
            Bench::Search(args) => search::run(&args).await.map(drop),
            Bench::All(args) => all::run(&args).await,
            Bench::Scaling(args) => scaling::run(&args).await,
            Bench::Ceiling(args) => ceiling::run(&args).await,
        }
    })
}

/// A network whose history is written and served.
async fn network(accounts: u32) -> Result<Network> {
    let records = u64::from(accounts) * 30;
    let mut spec = Spec::new(gp_synth::Size::Custom { accounts, records }, 1, gp_index::system_now_us());
    spec.keep_model = false;
    Ok(Network::start(spec).await?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A plane as a child process that goes when we go.
pub(crate) struct Plane {
    child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) url: String,
    admin: String,
}

impl Plane {
    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(12) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ours(bin: &Path, dir: &Path, network: &Network) -> Result<Plane> {
    let (port, admin) = (free_port()?, free_port()?);
    let mut child = Command::new(bin)
        .args(["serve", "--relay-start", "oldest", "--allow-private-networks", "--exit-on-stdin-eof", "--log", "warn"])
        .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin}")])
        .args(["--relay-url", &network.relay_url(), "--plc-url", &network.plc_url()])
        .args(["--did-resolver-url", &network.plc_url(), "--handle-resolver-url", &network.handle_resolver_url()])
        .arg("--data-dir")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", bin.display()))?;
    let stdin = child.stdin.take();
    Ok(Plane { child, stdin, url: format!("127.0.0.1:{port}"), admin: format!("127.0.0.1:{admin}") })
}

/// Progress of the reference, as it says itself.
#[derive(Default)]
struct Told {
    seq: AtomicI64,
    records: AtomicU64,
}

/// Starts the reference: it reads the network, or is filled with posts from a file and reads nothing.
fn reference(node: &Node, postgres: &Postgres, network: &Network, posts: Option<&Path>) -> Result<(Plane, Arc<Told>)> {
    let port = free_port()?;
    let mut child = Command::new(&node.bin)
        .current_dir(&node.home)
        .arg("bench-reference.mjs")
        .args(["--postgres", &postgres.url(), "--relay", &network.relay_url(), "--plc", &network.plc_url()])
        .args(["--handles", &network.handle_resolver_url(), "--port", &port.to_string()])
        .args(posts.iter().flat_map(|posts| [OsStr::new("--posts"), posts.as_os_str()]))
        .env("NODE_ENV", "production")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the reference")?;
    let told = Arc::new(Told::default());
    let out = child.stdout.take().context("the reference has no output")?;
    let shared = Arc::clone(&told);
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(|line| line.ok()) {
            if let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) {
                shared.seq.store(said["seq"].as_i64().unwrap_or(0), Relaxed);
                shared.records.store(said["records"].as_u64().unwrap_or(0), Relaxed);
            }
        }
    });
    let stdin = child.stdin.take();
    Ok((Plane { child, stdin, url: format!("127.0.0.1:{port}"), admin: String::new() }, told))
}

/// `firehose.seq` and `pending` of our plane.
async fn status(admin: &str) -> Result<(i64, u64)> {
    let body = load::get(admin, "/status").await?;
    let status: serde_json::Value = serde_json::from_slice(&body)?;
    Ok((status["firehose"]["seq"].as_i64().unwrap_or(0), status["pending"].as_u64().unwrap_or(u64::MAX)))
}

/// Reads the whole history into a fresh plane, and says how many events a second that was.
async fn read_all(plane: &mut Plane, head: i64) -> Result<f64> {
    let begun = Instant::now();
    loop {
        if let Ok((seq, pending)) = status(&plane.admin).await
            && seq >= head
            && pending == 0
        {
            return Ok(head as f64 / begun.elapsed().as_secs_f64());
        }
        if let Some(ended) = plane.child.try_wait()? {
            bail!("groundplane ended with {ended}");
        }
        if begun.elapsed() > Duration::from_secs(900) {
            bail!("the history was not read within 15 minutes");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Addresses of posts that the network has made and not deleted, as many as there are up to `max`.
fn post_uris(network: &Network, max: usize) -> Vec<String> {
    let mut uris = std::collections::BTreeSet::new();
    for (_, frame) in network.frames() {
        let Ok(Message::Commit(commit)) = Message::decode(&frame) else { continue };
        for op in commit.ops.iter().filter(|op| op.path.starts_with("app.bsky.feed.post/")) {
            let uri = format!("at://{}/{}", commit.repo, op.path);
            match op.action {
                Action::Delete => uris.remove(&uri),
                _ => uris.len() < max && uris.insert(uri),
            };
        }
    }
    uris.into_iter().collect()
}

/// Posts in one look-up while they are written down.
const POSTS_PER_LOOK: usize = 1_000;

/// Writes down what our plane says of some posts, a line of JSON each, for the tables of the reference. Answers those
/// that stand: the history has some that break the rules, and some of accounts that are gone.
async fn dump_posts(host: &str, uris: &[String], file: &Path) -> Result<Vec<String>> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let mut standing = Vec::with_capacity(uris.len());
    for uris in uris.chunks(POSTS_PER_LOOK) {
        for (uri, record) in uris.iter().zip(load::posts(host, uris).await?) {
            let json = std::str::from_utf8(&record.record).context("a record that is no text")?;
            if json.is_empty() {
                continue;
            }
            serde_json::to_writer(&mut out, &serde_json::json!({"uri": uri, "cid": record.cid, "json": json}))?;
            out.write_all(b"\n")?;
            standing.push(uri.clone());
        }
    }
    out.flush().context("the posts cannot be written down")?;
    Ok(standing)
}

/// Measures reading. Answers ours and the reference's operations a second.
async fn ingest(args: &Args) -> Result<(f64, Option<f64>)> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let accounts = args.accounts.unwrap_or(3_000);
    println!("writing the history of {accounts} accounts ...");
    let network = network(accounts).await?;
    let head = network.head_seq();
    let records = network.stats().written.records as f64;
    let ops_per_event = records / head as f64;
    println!("{head} events, {records:.0} records");
    let dir = tempfile::tempdir()?;
    let mut plane = ours(&bin, dir.path(), &network)?;
    let rate = read_all(&mut plane, head).await?;
    let disk = folder_bytes(dir.path());
    let peak = peak_rss(plane.child.id());
    let cpu_us = cpu_seconds(plane.child.id()) * 1e6 / records;
    drop(plane);
    println!(
        "groundplane  {:>9.0} ops/s verified  {rate:>9.0} events/s  {cpu_us:>5.0} us of processor time each  \
         {:>6.1} MB on disk  {:>6.1} MB peak memory",
        rate * ops_per_event,
        mb(disk),
        mb(peak)
    );
    if args.alone {
        return Ok((rate * ops_per_event, None));
    }
    let node = Node::install()?;
    let postgres = Postgres::start()?;
    let (plane, told) = reference(&node, &postgres, &network, None)?;
    let begun = Instant::now();
    while told.seq.load(Relaxed) == 0 && begun.elapsed() < START_MAX {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (begun, first) = (Instant::now(), told.records.load(Relaxed));
    while begun.elapsed() < Duration::from_secs(args.reference_seconds) && told.seq.load(Relaxed) < head {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let theirs = (told.records.load(Relaxed) - first) as f64 / begun.elapsed().as_secs_f64();
    drop(plane);
    println!("reference    {theirs:>9.0} ops/s (records are not verified)");
    println!("ratio        {:>9.1}", rate * ops_per_event / theirs.max(1.0));
    Ok((rate * ops_per_event, Some(theirs)))
}

/// Measures batch look-ups.
async fn get_post_records(args: &Args) -> Result<()> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let accounts = args.accounts.unwrap_or(10_500);
    println!("writing the history of {accounts} accounts ...");
    let network = network(accounts).await?;
    let head = network.head_seq();
    let written = post_uris(&network, 20_500);
    let dir = tempfile::tempdir()?;
    let mut plane = ours(&bin, dir.path(), &network)?;
    read_all(&mut plane, head).await?;
    let dump = dir.path().join("posts.ndjson");
    let posts = Arc::new(dump_posts(&plane.url, &written, &dump).await?);
    println!("{head} events, {} posts to ask for", posts.len());
    println!("\n{:<12} {:>7} {:>12} {:>10} {:>10} {:>10}", "plane", "keys", "calls/s", "p50 ms", "p99 ms", "errors");
    let seconds = Duration::from_secs(args.seconds);
    let mut ours_at = Vec::new();
    for (keys, at_once) in SHAPES {
        let found = load::run(&plane.url, true, &posts, *keys, *at_once, seconds).await?;
        found.print("groundplane", *keys);
        ours_at.push(found);
    }
    println!("groundplane  peak memory {:.1} MB", mb(peak_rss(plane.child.id())));
    drop(plane);
    if args.alone {
        return Ok(());
    }
    let node = Node::install()?;
    let postgres = Postgres::start()?;
    // Its own ingest would take hours: its tables are filled with the very records that we answered.
    let (plane, told) = reference(&node, &postgres, &network, Some(&dump))?;
    let begun = Instant::now();
    while told.records.load(Relaxed) < posts.len() as u64 {
        if begun.elapsed() > FILL_MAX {
            bail!("the reference has only {} of {} posts", told.records.load(Relaxed), posts.len());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for ((keys, at_once), ours) in SHAPES.iter().zip(ours_at) {
        let found = load::run(&plane.url, false, &posts, *keys, *at_once, seconds).await?;
        found.print("reference", *keys);
        println!("ratio        {keys:>7} {:>12.1}", ours.per_second() / found.per_second().max(0.001));
    }
    let _ = std::io::stdout().flush();
    Ok(())
}

/// Keys of a call, and calls at the same time.
const SHAPES: &[(usize, usize)] = &[(1, 32), (50, 32), (20_000, 2)];

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The most memory a process has held, in bytes; 0 if it cannot be told.
fn peak_rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Processor time that a process has had, all threads, in seconds: what noise on the machine changes least.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    /// Clock ticks in a second, as Linux has shown them to programs since ever.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program may have spaces; what follows its bracket has none. User and system time come 12th.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn folder_bytes(dir: &Path) -> u64 {
    let mut total = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => total += meta.len(),
                Err(_) => {}
            }
        }
    }
    total
}
