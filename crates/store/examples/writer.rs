//! Measures the writer on work that is shaped like a stream of likes, replies and follows: each op asks for some rows,
//! most of them absent, reads a count that many share, and puts five rows.
//!
//! `cargo run --release -p groundplane-store --example writer -- ops=500000 recent=32 preload=2000000`
//!
//! `recent` is the writer's own memory in MiB. Figures come out for each of ten parts, then for reopening the folder.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use gp_store::{
    Batch, Cache, Config, Error, Key, Store, Table, View, Writer, WriterConfig,
    conformance::{Seeded, partition},
};

extern crate groundplane_store as gp_store;

static RECORDS: Table =
    Table { id: 1, name: "records", partition: &[], clustering: &[], value: &[], cache: Cache::Never };
static CLAIMS: Table =
    Table { id: 2, name: "claims", partition: &[], clustering: &[], value: &[], cache: Cache::Never };
static SUBJECTS: Table =
    Table { id: 3, name: "subjects", partition: &[], clustering: &[], value: &[], cache: Cache::Near };
static ACTORS: Table = Table { id: 4, name: "actors", partition: &[], clustering: &[], value: &[], cache: Cache::Near };

const ACTORS_KNOWN: u64 = 200_000;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arg = |name: &str, default: u64| {
        std::env::args()
            .find_map(|a| a.strip_prefix(name).and_then(|a| a.strip_prefix('=')).and_then(|v| v.parse().ok()))
            .unwrap_or(default)
    };
    let (ops, preload) = (arg("ops", 500_000), arg("preload", 2_000_000));
    let config = Config { recent_bytes: arg("recent", 32) << 20, ..Config::default() };
    let dir = tempfile::tempdir().map_err(|e| Error::Engine(e.to_string()))?;
    let tables = [&RECORDS, &CLAIMS, &SUBJECTS, &ACTORS];
    let store = Store::lsm(dir.path(), &tables, &config)?;

    let mut seeded = Seeded::new(1);
    for from in (0..preload).step_by(2000) {
        let mut batch = Batch::new();
        for n in from..from + 2000 {
            let author = skewed(&mut seeded, ACTORS_KNOWN);
            batch.put(record(author, n), value(n, 150));
            batch.put(claim(author, skewed(&mut seeded, n + 1)), value(n, 30));
        }
        store.apply_now(&batch)?;
    }
    for from in (0..ACTORS_KNOWN).step_by(2000) {
        let mut batch = Batch::new();
        (from..from + 2000).for_each(|n| batch.put(actor(n), value(n, 60)));
        store.apply_now(&batch)?;
    }

    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default())?;
    let mut before = (writer.figures(), store.figures(), cpu_seconds(), Instant::now());
    for part in 0..10 {
        for n in 0..ops / 10 {
            let n = preload + part * (ops / 10) + n;
            let author = skewed(&mut seeded, ACTORS_KNOWN);
            // Most of what happens is about what was written lately.
            let (subject, parent) =
                (n - 1 - skewed(&mut seeded, n.min(1_000_000)), n - 1 - skewed(&mut seeded, n.min(1_000_000)));
            writer
                .submit(move |view| {
                    op(view, author, subject, parent, n).unwrap_or_else(|e| panic!("{e}"));
                    Box::new(|applied| applied.unwrap_or_else(|e| panic!("{e}")))
                })
                .await?;
        }
        while writer.pending() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let now = (writer.figures(), store.figures(), cpu_seconds(), Instant::now());
        let per_op = |us: u64| us as f64 / (ops / 10) as f64;
        let (hits, misses) = (now.1.recent_hits - before.1.recent_hits, now.1.recent_misses - before.1.recent_misses);
        println!(
            "{:.0} ops/s, cpu {:.1} us/op, jobs {:.2} us/op, apply {:.2} us/op, groups of {:.0}, remembered {:.0} % of {:.2} gets/op",
            (ops / 10) as f64 / (now.3 - before.3).as_secs_f64(),
            (now.2 - before.2) / (ops / 10) as f64 * 1e6,
            per_op(now.0.run_us_total - before.0.run_us_total),
            per_op(now.0.apply_us_total - before.0.apply_us_total),
            (ops / 10) as f64 / (now.0.groups_total - before.0.groups_total) as f64,
            hits as f64 / (hits + misses) as f64 * 100.0,
            per_op(hits + misses),
        );
        before = now;
    }
    println!("longest batch {:.0} ms, {:?}", writer.figures().apply_us_max as f64 / 1e3, store.figures());
    drop((writer, store));
    thread.join().map_err(|_| Error::Closed)?;
    let began = Instant::now();
    let store = Store::lsm(dir.path(), &tables, &config)?;
    println!("opened again in {:.0} ms, {} journals", began.elapsed().as_secs_f64() * 1e3, store.figures().journals);
    Ok(())
}

/// What one event asks and changes.
fn op(view: &mut View<'_>, author: u64, subject: u64, parent: u64, n: u64) -> Result<(), Error> {
    let absent = view.get(&record(author, n))?.is_none()
        && view.get(&claim(author, subject))?.is_none()
        && view.get(&claim(n, author))?.is_none();
    let known = view.get(&actor(author))?.is_some();
    let answered = view.get(&record(skewed(&mut Seeded::new(parent), ACTORS_KNOWN), parent))?.is_some();
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

/// A number below a bound, small ones much more often: the cube of a uniform number.
fn skewed(seeded: &mut Seeded, bound: u64) -> u64 {
    let u = seeded.any() as f64 / u64::MAX as f64;
    ((u * u * u) * bound as f64) as u64
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

/// Processor seconds of this process, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum();
    ticks / 100.0
}
