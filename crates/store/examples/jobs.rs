//! Measures the writer on work that is shaped like a stream of likes, replies and follows: each op asks for some rows,
//! most of them absent, reads a count that many share, and puts five rows.
//!
//! `cargo run --release -p groundplane-store --example jobs -- ops=500000 recent=0 recent=32 preload=2000000 power=3`
//!
//! `recent` is the writer's own memory in MiB; several may be named, and are compared. `power` says how much more often
//! the busy accounts and the latest posts are met than the others.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use gp_store::{
    Batch, Cache, Config, Error, Key, Store, Table, View, Writer, WriterConfig,
    conformance::{Seeded, partition},
};

extern crate groundplane_store as gp_store;

static RECORDS: Table = Table {
    id: 1,
    name: "records",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::Never,
    bucket_rows: None,
};
static CLAIMS: Table = Table {
    id: 2,
    name: "claims",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::Never,
    bucket_rows: None,
};
static SUBJECTS: Table = Table {
    id: 3,
    name: "subjects",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::Near,
    bucket_rows: None,
};
static ACTORS: Table =
    Table { id: 4, name: "actors", partition: &[], clustering: &[], value: &[], cache: Cache::Near, bucket_rows: None };

const ACTORS_KNOWN: u64 = 200_000;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arg = |name: &str, default: u64| {
        std::env::args()
            .find_map(|a| a.strip_prefix(name).and_then(|a| a.strip_prefix('=')).and_then(|v| v.parse().ok()))
            .unwrap_or(default)
    };
    let (ops, preload) = (arg("ops", 500_000), arg("preload", 2_000_000));
    // One store for each size of the writer's memory that is named; they take turns, so that whatever else the machine
    // does falls on all of them.
    let sizes: Vec<u64> =
        std::env::args().filter_map(|a| a.strip_prefix("recent=").and_then(|v| v.parse().ok())).collect();
    let sizes = if sizes.is_empty() { vec![32] } else { sizes };
    let mut rigs = Vec::new();
    for mib in sizes {
        rigs.push(Rig::new(mib, preload, arg("power", 3) as i32)?);
    }
    for part in 0..ops / OPS_PER_TURN {
        for rig in &mut rigs {
            rig.turn(preload + part * OPS_PER_TURN).await?;
        }
    }
    for rig in rigs {
        rig.end(ops / OPS_PER_TURN * OPS_PER_TURN)?;
    }
    Ok(())
}

/// Ops that one store gets before the next has its turn.
const OPS_PER_TURN: u64 = 5000;

struct Rig {
    mib: u64,
    power: i32,
    config: Config,
    dir: tempfile::TempDir,
    store: Store,
    writer: Writer,
    thread: std::thread::JoinHandle<()>,
    /// The writer's thread, as the system numbers it.
    tid: String,
    seeded: Seeded,
    busy: Duration,
}

static TABLES: [&Table; 4] = [&RECORDS, &CLAIMS, &SUBJECTS, &ACTORS];

impl Rig {
    fn new(mib: u64, preload: u64, power: i32) -> Result<Self, Error> {
        let config = Config { recent_bytes: mib << 20, ..Config::default() };
        let dir = tempfile::tempdir().map_err(|e| Error::Engine(e.to_string()))?;
        let store = Store::lsm(dir.path(), &TABLES, &config)?;
        let mut seeded = Seeded::new(1);
        for from in (0..preload).step_by(2000) {
            let mut batch = Batch::new();
            for n in from..from + 2000 {
                let author = skewed(&mut seeded, ACTORS_KNOWN, power);
                batch.put(record(author, n), value(n, 150));
                batch.put(claim(author, skewed(&mut seeded, n + 1, power)), value(n, 30));
            }
            store.apply_now(&batch)?;
        }
        for from in (0..ACTORS_KNOWN).step_by(2000) {
            let mut batch = Batch::new();
            (from..from + 2000).for_each(|n| batch.put(actor(n), value(n, 60)));
            store.apply_now(&batch)?;
        }
        let before = threads();
        let (writer, thread) = Writer::start(store.clone(), WriterConfig::default())?;
        let tid = loop {
            let new =
                threads().into_iter().find(|(tid, name)| name == "writer" && !before.iter().any(|(b, _)| b == tid));
            if let Some((tid, _)) = new {
                break tid;
            }
        };
        Ok(Self { mib, power, config, dir, store, writer, thread, tid, seeded, busy: Duration::ZERO })
    }

    async fn turn(&mut self, from: u64) -> Result<(), Error> {
        let began = Instant::now();
        for n in from..from + OPS_PER_TURN {
            let author = skewed(&mut self.seeded, ACTORS_KNOWN, self.power);
            // Most of what happens is about what was written lately.
            let mut recent = || n - 1 - skewed(&mut self.seeded, n.min(1_000_000), self.power);
            let (subject, parent) = (recent(), recent());
            self.writer
                .submit(move |view| {
                    op(view, author, subject, parent, n).unwrap_or_else(|e| panic!("{e}"));
                    Box::new(|applied| applied.unwrap_or_else(|e| panic!("{e}")))
                })
                .await?;
        }
        while self.writer.pending() > 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        self.busy += began.elapsed();
        Ok(())
    }

    fn end(self, ops: u64) -> Result<(), Error> {
        let (figures, store) = (self.writer.figures(), self.store.figures());
        let per_op = |us: f64| us / ops as f64;
        println!(
            "recent={} MiB: {:.0} ops/s, writer's processor time {:.1} us/op, jobs {:.1} us/op, apply {:.1} us/op (longest {:.0} ms), \
             groups of {:.0}, remembered {:.1} % of {:.2} gets/op",
            self.mib,
            ops as f64 / self.busy.as_secs_f64(),
            per_op(on_processor_us(&self.tid)),
            per_op(figures.run_us_total as f64),
            per_op(figures.apply_us_total as f64),
            figures.apply_us_max as f64 / 1e3,
            ops as f64 / figures.groups_total as f64,
            store.recent_hits as f64 / (store.recent_hits + store.recent_misses) as f64 * 100.0,
            per_op((store.recent_hits + store.recent_misses) as f64),
        );
        println!("{store:?}");
        drop((self.writer, self.store));
        self.thread.join().map_err(|_| Error::Closed)?;
        let began = Instant::now();
        let store = Store::lsm(self.dir.path(), &TABLES, &self.config)?;
        println!(
            "opened again in {:.0} ms, {} journals",
            began.elapsed().as_secs_f64() * 1e3,
            store.figures().journals
        );
        Ok(())
    }
}

/// What one event asks and changes.
fn op(view: &mut View<'_>, author: u64, subject: u64, parent: u64, n: u64) -> Result<(), Error> {
    let absent = view.get(&record(author, n))?.is_none()
        && view.get(&claim(author, subject))?.is_none()
        && view.get(&claim(n, author))?.is_none();
    let known = view.get(&actor(author))?.is_some();
    let answered = view.get(&record(skewed(&mut Seeded::new(parent), ACTORS_KNOWN, 3), parent))?.is_some();
    let head = partition(&SUBJECTS, &subject.to_be_bytes()).head();
    let count = view.get(&head)?.map_or(0, |v| u64::from_be_bytes(v[..8].try_into().unwrap_or_default()));
    view.put(record(author, n), value(n, if answered { 150 } else { 151 }));
    view.put(claim(author, subject), value(n, 30));
    view.put(head.to_partition().at(&(u64::MAX - n).to_be_bytes()), value(n, 20));
    view.put(head, (count + u64::from(absent)).to_be_bytes().to_vec());
    view.put(actor(author), value(n, if known { 60 } else { 61 }));
    Ok(())
}

fn record(author: u64, n: u64) -> Key {
    partition(&RECORDS, &Seeded::new(author).any().to_be_bytes()).at(&[&[1][..], &n.to_be_bytes()].concat())
}

fn claim(author: u64, subject: u64) -> Key {
    partition(&CLAIMS, &Seeded::new(author).any().to_be_bytes()).at(&[
        &[2][..],
        &Seeded::new(subject).any().to_be_bytes(),
        &subject.to_be_bytes(),
    ]
    .concat())
}

fn actor(n: u64) -> Key {
    partition(&ACTORS, &Seeded::new(n).any().to_be_bytes()).head()
}

/// A number below a bound, small ones much more often: a power of a uniform number.
fn skewed(seeded: &mut Seeded, bound: u64, power: i32) -> u64 {
    let u = seeded.any() as f64 / u64::MAX as f64;
    (u.powi(power) * bound as f64) as u64
}

fn value(n: u64, bytes: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes + 8);
    let mut seeded = Seeded::new(n);
    while value.len() < bytes / 2 {
        value.extend_from_slice(&seeded.any().to_be_bytes());
    }
    value.resize(bytes, b'a');
    value
}

/// Number and name of each thread of this process.
fn threads() -> Vec<(String, String)> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|t| {
            Some((
                t.file_name().into_string().ok()?,
                std::fs::read_to_string(t.path().join("comm")).ok()?.trim().to_owned(),
            ))
        })
        .collect()
}

/// Microseconds that a thread has been on a processor.
fn on_processor_us(tid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap_or_default();
    stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}
