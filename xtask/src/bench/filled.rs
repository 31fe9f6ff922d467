//! Planes whose store is filled directly, ours through the apply path and the reference's by COPY: a network of a
//! million accounts would take the reference a day to read.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use gp_index::{
    actors,
    apply::{Action, Applied, Op, apply_op},
    tables,
};
use gp_store::{Store, Writer, WriterConfig};

use super::{
    Plane, free_port, load,
    world::{Deed, Files, World},
};
use crate::{node::Node, postgres::Postgres};

/// What every row of the reference has that nobody looks at here.
pub(crate) const AT: &str = "2025-01-01T00:00:00.000Z";
pub(crate) const CID: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";

/// Records written in one job of the writer.
const RECORDS_PER_JOB: usize = 400;

/// Jobs that wait for the writer: what is made and not yet written stays small.
const JOBS_WAITING_MAX: usize = 32;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Longest time until a plane has everything in memory that it wants there.
const SETTLE_MAX: Duration = Duration::from_secs(1_800);

/// Hands the writer a job that must apply.
pub(crate) async fn submit(
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

/// Creates a record, as a live event would.
pub(crate) fn create(
    view: &mut gp_store::View<'_>,
    did: &str,
    collection: &str,
    rkey: &str,
    record: &serde_json::Value,
    time_us: i64,
) -> gp_index::Result<()> {
    let block = gp_atproto::json::to_cbor(record)
        .map_err(|_| gp_index::Error::Corrupt { table: "bench", what: "a record that is no record" })?;
    create_block(view, did, collection, rkey, &block, time_us)
}

fn create_block(
    view: &mut gp_store::View<'_>,
    did: &str,
    collection: &str,
    rkey: &str,
    block: &[u8],
    time_us: i64,
) -> gp_index::Result<()> {
    let op = Op { action: Action::Create, collection, rkey, cid: None, record: Some(block) };
    let mut applied = Applied::default();
    apply_op(view, did, "3kaaaaaaaaaa2", &op, time_us, &mut applied)?;
    assert!(applied.dropped.is_empty(), "{applied:?}");
    Ok(())
}

/// What was written, and how long it took.
pub(crate) struct Written {
    pub(crate) records: usize,
    pub(crate) seconds: f64,
}

/// Writes a network into a folder, as live events would, and into files for the reference if there is to be one.
pub(crate) async fn fill(data: &Path, mut files: Option<&mut Files>, world: &World) -> Result<Written> {
    let all: Vec<_> = tables::ALL.iter().chain(gp_ingest::TABLES).chain(gp_search::TABLES).copied().collect();
    let store = Store::lsm(data, &all, &gp_store::Config::default())?;
    let config = WriterConfig { jobs_waiting_max: JOBS_WAITING_MAX, ..WriterConfig::default() };
    let (writer, thread) = Writer::start(store.clone(), config)?;
    gp_index::window::begin(&store, &writer, gp_index::system_now_us()).await?;
    let (begun, parts) = (Instant::now(), world.parts());
    let (mut told, mut records) = (begun, 0);
    for part in 0..parts {
        for account in world.part(part)? {
            if let Some(files) = &mut files {
                files.write(&account)?;
            }
            records += account.deeds.len();
            let (did, handle) = (account.did.clone(), account.handle);
            submit(&writer, move |view| actors::set_handle(view, &did, Some(&handle), 1).map(drop)).await?;
            let mut deeds = account.deeds.into_iter();
            loop {
                let some: Vec<Deed> = deeds.by_ref().take(RECORDS_PER_JOB).collect();
                if some.is_empty() {
                    break;
                }
                let did = account.did.clone();
                let job = move |view: &mut gp_store::View<'_>| {
                    some.iter()
                        .try_for_each(|it| create_block(view, &did, it.collection, &it.rkey, &it.block, it.at_us))
                };
                submit(&writer, job).await?;
            }
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs_f64();
            let left = seconds / (part + 1) as f64 * (parts - part - 1) as f64;
            println!("written {records} records, {:.0} a second, {left:.0} s to go", records as f64 / seconds);
        }
    }
    // What was submitted is applied in order: an empty job at the end waits for all of it.
    writer.run(|_| Ok::<_, gp_index::Error>(())).await?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("written {records} records of {} accounts in {seconds:.1} s", world.accounts());
    drop((writer, store));
    if thread.join().is_err() {
        bail!("the writer failed");
    }
    Ok(Written { records, seconds })
}

/// Waits until a plane has filled its window of timelines, built its index of words, and has nothing left to do.
pub(crate) async fn settled(plane: &Plane) -> Result<serde_json::Value> {
    let begun = Instant::now();
    loop {
        if let Ok(body) = load::get(&plane.admin, "/status").await {
            let status: serde_json::Value = serde_json::from_slice(&body)?;
            let search_waits = status["search"]["ready"] == false || status["search"]["pending"].as_u64() > Some(0);
            if status["timeline"]["ready"] == true && !search_waits && status["pending"] == 0 {
                return Ok(status);
            }
        }
        ensure!(begun.elapsed() < SETTLE_MAX, "the plane has not come to rest in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ours, over a folder that is filled.
pub(crate) fn serve(bin: &Path, data: &Path) -> Result<Plane> {
    let (port, admin) = (free_port()?, free_port()?);
    let mut child = Command::new(bin)
        .args(["serve", "--exit-on-stdin-eof", "--log", "warn", "--data-dir"])
        .arg(data)
        .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", bin.display()))?;
    let stdin = child.stdin.take();
    Ok(Plane { child, stdin, url: format!("127.0.0.1:{port}"), admin: format!("127.0.0.1:{admin}") })
}

/// One row of the table.
pub(crate) struct Measured {
    pub(crate) what: &'static str,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) calls: usize,
}

impl Measured {
    /// Prints a row of the table.
    pub(crate) fn print(&self, plane: &str) {
        println!("{plane:<12} {:<22} {:>8} {:>10.2} {:>10.2}", self.what, self.calls, self.p50_ms, self.p99_ms);
    }
}

/// Asks one question after the other, each once at most, until the time is over.
pub(crate) async fn measure(
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

/// The reference over PostgreSQL, with empty tables.
pub(crate) struct Reference {
    pub(crate) plane: Plane,
    postgres: Postgres,
}

impl Reference {
    /// Starts both. Its tables are there then.
    pub(crate) fn start() -> Result<Self> {
        let node = Node::install()?;
        let postgres = Postgres::start_tuned()?;
        let port = free_port()?;
        let mut child = Command::new(&node.bin)
            .current_dir(&node.home)
            .arg("bench-reference.mjs")
            .args(["--postgres", &postgres.url(), "--plc", "http://127.0.0.1:9", "--port", &port.to_string()])
            .env("NODE_ENV", "production")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the reference")?;
        let stdin = child.stdin.take();
        let out = child.stdout.take().context("the reference has no output")?;
        let plane = Plane { child, stdin, url: format!("127.0.0.1:{port}"), admin: String::new() };
        // Its tables are there when it says its first line.
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
        ensure!(!line.is_empty(), "the reference did not start");
        Ok(Self { plane, postgres })
    }

    /// Fills columns of a table from `<table>.csv` in a folder.
    pub(crate) fn copy(&self, csv: &Path, table: &str, columns: &str) -> Result<()> {
        let file = csv.join(format!("{table}.csv"));
        self.sql(&format!("\\copy bench.\"{table}\" ({columns}) from '{}' with (format csv)", file.display()))
    }

    /// Bytes of its database.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let done = Command::new("psql")
            .args([&self.postgres.url(), "--quiet", "-At", "-c", "select pg_database_size(current_database())"])
            .output()?;
        String::from_utf8_lossy(&done.stdout).trim().parse().context("psql said no size")
    }

    /// Runs a command of psql.
    pub(crate) fn sql(&self, sql: &str) -> Result<()> {
        let url = self.postgres.url();
        let done = Command::new("psql").args([&url, "--quiet", "--set=ON_ERROR_STOP=1", "-c", sql]).output()?;
        ensure!(done.status.success(), "psql: {}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(())
    }
}
