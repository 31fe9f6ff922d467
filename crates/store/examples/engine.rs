//! Measures the embedded engine's settings: write rate, point reads that hit and that miss, and scans.
//!
//! `cargo run --release -p groundplane-store --example engine -- rows=4000000 threads=3 block=8 lz4=2 memtable=32`
//!
//! Each argument is `name=value`; what is not named has the value that the store uses. One line of figures comes out.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use fjall::{
    CompressionType, Database, KeyspaceCreateOptions, PersistMode,
    compaction::Leveled,
    config::{
        BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
        PartitioningPolicy, PinningPolicy,
    },
};

/// Ticks a second of the processor times in `/proc/self/stat`.
const TICKS: f64 = 100.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arg = |name: &str, default: f64| {
        std::env::args()
            .find_map(|a| a.strip_prefix(name).and_then(|a| a.strip_prefix('=')).and_then(|v| v.parse().ok()))
            .unwrap_or(default)
    };
    let rows = arg("rows", 4e6) as u64;
    let threads = arg("threads", 3.0) as usize;
    let memtable = arg("memtable", 32.0) as u64;
    let target = arg("target", 32.0) as u64;
    let block = arg("block", 4.0) as u32;
    let lz4_from = arg("lz4", 1.0) as usize;
    let bits = arg("bits", 10.0) as f32;
    let pinned_below = arg("pin", 3.0) as usize;
    let parts_from = arg("parts", 3.0) as usize;
    let cache = arg("cache", 128.0) as u64;
    let l0 = arg("l0", 4.0) as u8;
    let hash = arg("hash", 0.0) as f32;

    let dir = tempfile::tempdir_in(std::env::temp_dir())?;
    let db = Database::builder(dir.path().join("rows"))
        .cache_size(cache << 20)
        .max_journaling_size(256 << 20)
        .max_cached_files(Some(400))
        .worker_threads(threads)
        .open()?;
    let keyspace = db.keyspace("rows", || {
        let levels = |from: usize| -> Vec<bool> { (0..7).map(|l| l >= from).collect() };
        let mut options = KeyspaceCreateOptions::default()
            .max_memtable_size(memtable << 20)
            .data_block_size_policy(BlockSizePolicy::all(block << 10))
            .data_block_compression_policy(CompressionPolicy::new(
                (0..7)
                    .map(|l| if l >= lz4_from { CompressionType::Lz4 } else { CompressionType::None })
                    .collect::<Vec<_>>(),
            ))
            .filter_policy(FilterPolicy::new([
                FilterPolicyEntry::Bloom(BloomConstructionPolicy::FalsePositiveRate(0.0001)),
                FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(bits)),
            ]))
            .filter_block_partitioning_policy(PartitioningPolicy::new(levels(parts_from)))
            .index_block_partitioning_policy(PartitioningPolicy::new(levels(parts_from)))
            .compaction_strategy(std::sync::Arc::new(
                Leveled::default().with_table_target_size(target << 20).with_l0_threshold(l0),
            ));
        let pinned: Vec<bool> = (0..7).map(|l| l < pinned_below).collect();
        options = options
            .filter_block_pinning_policy(PinningPolicy::new(pinned.clone()))
            .index_block_pinning_policy(PinningPolicy::new(pinned));
        if hash > 0.0 {
            options = options.data_block_hash_ratio_policy(fjall::config::HashRatioPolicy::all(hash));
        }
        options
    })?;

    // Writing: 2,000 rows a batch, partitions drawn with a skew, a sync each second, as the writer does.
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let mut synced = Instant::now();
    let mut waits = Vec::new();
    let mut n = 0;
    while n < rows {
        let mut batch = db.batch().durability(Some(PersistMode::Buffer));
        for _ in 0..2000 {
            batch.insert(&keyspace, key(n), value(n));
            n += 1;
        }
        let start = Instant::now();
        batch.commit()?;
        if synced.elapsed() > Duration::from_secs(1) {
            db.persist(PersistMode::SyncData)?;
            synced = Instant::now();
        }
        waits.push(start.elapsed());
    }
    let loaded = began.elapsed();
    let l0_at_end = keyspace.l0_table_count();
    // Let the compactions that are due come to an end, so that reads see the tree at rest.
    while db.outstanding_flushes() > 0 || db.active_compactions() > 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut calm = 0;
    let mut completed = db.compactions_completed();
    while calm < 10 {
        std::thread::sleep(Duration::from_millis(50));
        let now = db.compactions_completed();
        calm = if now == completed && db.active_compactions() == 0 { calm + 1 } else { 0 };
        completed = now;
    }
    let load_cpu = cpu_seconds() - cpu;
    waits.sort();
    let pick = |q: f64| waits[((waits.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!(
        "load {:.0}k rows/s, cpu {:.1} s, batch p50 {:.2} p99 {:.1} max {:.0} ms, disk {:.2} GB (folder {:.2}), written {:.2} GB, tables {}, l0 {}, settled in {:.1} s",
        rows as f64 / loaded.as_secs_f64() / 1e3,
        load_cpu,
        pick(0.5),
        pick(0.99),
        pick(1.0),
        db.disk_space()? as f64 / 1e9,
        folder_bytes(dir.path()) as f64 / 1e9,
        written() / 1e9,
        keyspace.table_count(),
        l0_at_end,
        (began.elapsed() - loaded).as_secs_f64(),
    );

    // Reads, one thread. A warm-up round first.
    let probes = arg("probes", 100_000.0) as u64;
    for round in 0..2 {
        let per = |what: &str, f: &mut dyn FnMut(u64) -> Result<u64, fjall::Error>| -> Result<(), fjall::Error> {
            let (cpu, began) = (cpu_seconds(), Instant::now());
            let mut got = 0;
            for i in 0..probes {
                got += f(mix(i ^ (round << 40)))?;
            }
            if round > 0 {
                print!(
                    "{what} {:.2}/{:.2} us ({got}), ",
                    began.elapsed().as_secs_f64() / probes as f64 * 1e6,
                    (cpu_seconds() - cpu) / probes as f64 * 1e6
                );
            }
            Ok(())
        };
        per("hit", &mut |r| Ok(u64::from(keyspace.get(key(r % rows))?.is_some())))?;
        per("miss", &mut |r| {
            let mut k = key(r % rows);
            k.push(7);
            Ok(u64::from(keyspace.get(k)?.is_some()))
        })?;
        per("hot", &mut |r| Ok(u64::from(keyspace.get(key(r % 1000))?.is_some())))?;
        per("scan50", &mut |r| {
            if r % 10 != 0 {
                return Ok(0);
            }
            let start = key(r % rows);
            let mut seen = 0;
            for guard in keyspace.range(start[..21].to_vec()..).take(50) {
                guard.into_inner()?;
                seen += 1;
            }
            Ok(seen)
        })?;
    }
    println!();
    Ok(())
}

/// A number's well-mixed relative (splitmix64).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A key as the index makes them: table, a partition of 20 bytes, a position of 25 bytes.
fn key(n: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    key.push((n % 5) as u8 + 1);
    // Skewed: the square of a uniform number.
    let u = mix(n) as f64 / u64::MAX as f64;
    let partition = (u * u * 1e6) as u64;
    key.extend_from_slice(&mix(partition).to_be_bytes());
    key.extend_from_slice(&mix(partition + 1).to_be_bytes());
    key.extend_from_slice(&[1, 2, 3, 4]);
    key.extend_from_slice(&(u64::MAX - n).to_be_bytes());
    key.extend_from_slice(&mix(n + 5).to_be_bytes());
    key.extend_from_slice(&mix(n + 6).to_be_bytes());
    key.push(1);
    key
}

/// 155 bytes, about half of it compressible: with the key, a row of 200 bytes.
fn value(n: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(160);
    for i in 0..9 {
        value.extend_from_slice(&mix(n + i).to_be_bytes());
    }
    value.extend_from_slice(
        b"app.bsky.feed.post createdAt 2024-01-01T00:00:00.000Z langs en text embed reply via $type",
    );
    value.truncate(155);
    value
}

/// Processor seconds of this process, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)) / TICKS
}

/// Bytes of all files below a folder, as the disk has them.
fn folder_bytes(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|e| if e.path().is_dir() { folder_bytes(&e.path()) } else { e.metadata().map_or(0, |m| m.blocks() * 512) })
        .sum()
}

/// Bytes this process has had written to the disk.
fn written() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).and_then(|v| v.parse().ok()).unwrap_or(0.0)
}
