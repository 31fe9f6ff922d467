//! `cargo xtask bench footprint`: bytes on disk by kind of record, beside the reference's for records of the same kind.
//!
//! Each kind is written into a fresh folder through the apply path: what its rows take, counts, notifications and all
//! that follows from the record included. The reference indexes the same records with its own indexer over PostgreSQL;
//! its tables are rewritten without dead rows before they are measured.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use gp_atproto::{Cid, Tid, compact, datetime, json};
use gp_index::{
    actors,
    apply::{Action, Applied, Op, apply_op},
    records::RecordRow,
    tables,
};
use gp_store::{
    Batch, Key, Store, View, Writer, WriterConfig,
    engine::{
        Local,
        lsm::{DISK_RESERVE_BYTES, Lsm, LsmConfig},
    },
};
use serde_json::{Value, json as object};

use super::world::{did, text};
use crate::{node::Node, postgres::Postgres};

/// Records applied in one job.
const RECORDS_PER_JOB: usize = 500;

/// Rows written in one batch where no writer is needed.
const ROWS_PER_BATCH: usize = 5_000;

/// Of a record's row, what is no part of the record, where the record is kept as it came.
const WHOLE_HEADER_BYTES: usize = 19;

/// When everything here was written.
const FROM_US: i64 = 1_767_225_600_000_000;

/// What the bench can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Records of each kind.
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// Records of each kind for the reference, which indexes some hundreds a second.
    #[arg(long, default_value_t = 5_000)]
    reference_records: usize,
    /// Leave the reference out.
    #[arg(long)]
    alone: bool,
}

/// A kind of record.
struct Kind {
    name: &'static str,
    collection: &'static str,
    record: fn(usize) -> Value,
}

const KINDS: &[Kind] = &[
    Kind { name: "like", collection: "app.bsky.feed.like", record: about_a_post },
    Kind { name: "repost", collection: "app.bsky.feed.repost", record: about_a_post },
    Kind { name: "follow", collection: "app.bsky.graph.follow", record: about_an_account },
    Kind { name: "block", collection: "app.bsky.graph.block", record: about_an_account },
    Kind { name: "post", collection: "app.bsky.feed.post", record: post },
    Kind { name: "reply", collection: "app.bsky.feed.post", record: reply },
];

/// Accounts that write, and accounts and posts that are written about: few things are very popular, most are not.
const WRITERS: usize = 2_000;
const SUBJECTS: usize = 20_000;

fn at_us(number: usize) -> i64 {
    FROM_US + number as i64 * 13_337
}

fn rkey(number: usize) -> String {
    Tid::from_parts(at_us(number).unsigned_abs(), (number % 1024) as u16).to_string()
}

/// The subject of a record: number 0 is chosen most.
fn subject(number: usize) -> usize {
    let spread = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    let share = spread as f64 / (1u64 << 53) as f64;
    ((SUBJECTS as f64).powf(share) - 1.0) as usize
}

fn post_uri(number: usize) -> String {
    format!("at://{}/app.bsky.feed.post/{}", did(WRITERS + number), rkey(number))
}

fn reference_to(post: usize) -> Value {
    let cid = Cid::for_dag_cbor(&post.to_be_bytes()).to_string();
    object!({"uri": post_uri(post), "cid": cid})
}

fn about_a_post(number: usize) -> Value {
    // A different post each time for the same writer.
    object!({"subject": reference_to((subject(number) + number / WRITERS) % SUBJECTS)})
}

fn about_an_account(number: usize) -> Value {
    object!({"subject": did(WRITERS + (subject(number) + number / WRITERS) % SUBJECTS)})
}

fn post(number: usize) -> Value {
    object!({"text": text(number), "langs": ["en"]})
}

fn reply(number: usize) -> Value {
    let parent = reference_to((subject(number) + number / WRITERS) % SUBJECTS);
    object!({"text": text(number), "langs": ["en"], "reply": {"root": parent, "parent": parent}})
}

/// One record in its place.
struct Written {
    did: String,
    rkey: String,
    record: Value,
    block: Vec<u8>,
    at_us: i64,
}

impl Written {
    fn new(kind: &Kind, number: usize) -> Result<Self> {
        let (at_us, mut record) = (at_us(number), (kind.record)(number));
        record["$type"] = kind.collection.into();
        record["createdAt"] = datetime::format_ms(at_us - 137_000).into();
        let block = json::to_cbor(&record)?;
        Ok(Self { did: did(number % WRITERS), rkey: rkey(number), record, block, at_us })
    }

    fn apply(&self, view: &mut View<'_>, collection: &str, applied: &mut Applied) -> gp_index::Result<()> {
        actors::touch(view, &self.did, FROM_US)?;
        let op = Op { action: Action::Create, collection, rkey: &self.rkey, cid: None, record: Some(&self.block) };
        apply_op(view, &self.did, "3kaaaaaaaaaa2", &op, self.at_us, applied)
    }
}

/// Bytes of one kind, each by record.
struct Footprint {
    /// The record's row: key and value.
    record: f64,
    /// The same if its block were kept.
    whole: f64,
    /// All rows that follow from it.
    rows: f64,
    /// Table files of the engine, merged, without dead rows, as the reference's tables are.
    disk: f64,
    /// The same if the records' blocks were kept.
    whole_disk: f64,
}

/// Measures, and prints the table.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let theirs = if args.alone { Vec::new() } else { reference(args.reference_records)? };
    println!(
        "{:<8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12} {:>8}",
        "bytes", "record", "as it came", "all rows", "on disk", "as it came", "reference", "ratio"
    );
    for kind in KINDS {
        let it = fill(kind, args.records).await?;
        let reference = theirs.iter().find(|(name, _)| name == kind.name).map(|(_, bytes)| *bytes);
        println!(
            "{:<8} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>12} {:>8}",
            kind.name,
            it.record,
            it.whole,
            it.rows,
            it.disk,
            it.whole_disk,
            reference.map_or_else(|| "-".into(), |bytes| format!("{bytes:.0}")),
            reference.map_or_else(|| "-".into(), |bytes| format!("{:.1}", bytes / it.disk)),
        );
    }
    Ok(())
}

/// Shares the engine with the store that is measured through it.
struct Shared(Arc<Lsm>);

impl Local for Shared {
    fn get(&self, keys: &[Key]) -> gp_store::Result<Vec<Option<bytes::Bytes>>> {
        self.0.get(keys)
    }
    fn get_one(&self, key: &Key) -> gp_store::Result<Option<bytes::Bytes>> {
        self.0.get_one(key)
    }
    fn scan(&self, scan: &gp_store::Scan) -> gp_store::Result<gp_store::Page> {
        self.0.scan(scan)
    }
    fn apply(&self, batch: &Batch) -> gp_store::Result<()> {
        self.0.apply(batch)
    }
    fn sync(&self) -> gp_store::Result<()> {
        self.0.sync()
    }
    fn bytes_used(&self) -> u64 {
        self.0.bytes_used()
    }
    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &bytes::Bytes) -> bool) -> gp_store::Result<()> {
        self.0.each(table_id, visit)
    }
}

/// Writes records of one kind into a fresh folder.
async fn fill(kind: &'static Kind, records: usize) -> Result<Footprint> {
    let dir = tempfile::tempdir()?;
    let config = gp_store::Config::default();
    let lsm = Lsm::open(&LsmConfig {
        dir: dir.path().to_owned(),
        block_cache_bytes: config.block_cache_bytes,
        disk_reserve_bytes: DISK_RESERVE_BYTES,
    })?;
    let lsm = Arc::new(lsm);
    let store = Store::over(Box::new(Shared(Arc::clone(&lsm))), tables::ALL, &config);
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default())?;
    let mut number = 0;
    while number < records {
        let job: Vec<Written> = (number..(number + RECORDS_PER_JOB).min(records))
            .map(|number| Written::new(kind, number))
            .collect::<Result<_>>()?;
        number += job.len();
        let dropped = writer.run(move |view| -> gp_index::Result<usize> {
            let mut applied = Applied::default();
            for it in &job {
                it.apply(view, kind.collection, &mut applied)?;
            }
            Ok(applied.dropped.len() + applied.unchanged as usize)
        });
        let dropped = dropped.await?;
        ensure!(dropped == 0, "{dropped} records of kind {} were not written", kind.name);
    }
    drop(writer);
    tokio::task::spawn_blocking(move || thread.join()).await?.map_err(|_| anyhow::anyhow!("the writer failed"))?;
    let measured = tokio::task::spawn_blocking(move || -> Result<Footprint> {
        let disk = lsm.merge()?;
        let (mut record, mut whole, mut rows) = (0, 0, 0);
        for table in tables::ALL {
            lsm.each(table.id, &mut |key, value| {
                rows += key.len() + value.len();
                if table == &&tables::RECORD {
                    record += key.len() + value.len();
                    whole += key.len() + RecordRow::read(value).map_or(0, |row| WHOLE_HEADER_BYTES + row.block.len());
                }
                true
            })?;
        }
        let whole_disk = as_they_came(&lsm)?;
        let by_record = |bytes: usize| bytes as f64 / records as f64;
        Ok(Footprint {
            record: by_record(record),
            whole: by_record(whole),
            rows: by_record(rows),
            disk: disk as f64 / records as f64,
            whole_disk: whole_disk as f64 / records as f64,
        })
    });
    measured.await?
}

/// Writes the rows of all records anew with their blocks, as they were before cells were kept, and returns what the
/// files take then.
fn as_they_came(lsm: &Lsm) -> Result<u64> {
    let mut batches = vec![Batch::new()];
    let mut broken = None;
    lsm.each(tables::RECORD.id, &mut |key, value| {
        let split = compact::atom_len(&key[1..]).map(|len| key[1..].split_at(len));
        let (Ok((did, place)), Ok(row)) = (split, RecordRow::read(value)) else {
            broken = Some(key.to_vec());
            return false;
        };
        let mut whole = vec![1];
        whole.extend_from_slice(&row.flags.0.to_be_bytes());
        whole.extend_from_slice(&row.indexed_at_us.to_be_bytes());
        whole.extend_from_slice(&row.first_indexed_at_us.to_be_bytes());
        whole.extend_from_slice(&row.block);
        let key = Key::of(&tables::RECORD).atom(did).cluster().atom(place).key();
        if batches.last().is_none_or(|batch| batch.len() >= ROWS_PER_BATCH) {
            batches.push(Batch::new());
        }
        if let Some(batch) = batches.last_mut() {
            batch.put(key, whole);
        }
        true
    })?;
    ensure!(broken.is_none(), "a row that cannot be read: {broken:?}");
    for batch in batches {
        lsm.apply(&batch)?;
    }
    Ok(lsm.merge()?)
}

/// Bytes that the reference keeps for a record of each kind.
fn reference(records: usize) -> Result<Vec<(String, f64)>> {
    let node = Node::install()?;
    let postgres = Postgres::start()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("records.ndjson");
    write_down(&file, records)?;
    let mut child = Command::new(&node.bin)
        .current_dir(&node.home)
        .arg("footprint-reference.mjs")
        .args(["--postgres", &postgres.url(), "--records"])
        .arg(&file)
        .env("NODE_ENV", "production")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the reference")?;
    let mut found = Vec::new();
    let out = child.stdout.take().context("the reference has no output")?;
    for line in BufReader::new(out).lines() {
        let said: Value = serde_json::from_str(&line?).context("the reference said something else than JSON")?;
        let (Some(kind), Some(records), Some(bytes)) =
            (said["kind"].as_str(), said["records"].as_f64(), said["bytes"].as_f64())
        else {
            continue;
        };
        found.push((kind.to_owned(), bytes / records));
    }
    let status = child.wait()?;
    ensure!(status.success() && found.len() == KINDS.len(), "the reference ended with {status}");
    Ok(found)
}

fn write_down(file: &PathBuf, records: usize) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    for kind in KINDS {
        for number in 0..records {
            let it = Written::new(kind, number)?;
            // Keys must differ from those of the kinds before.
            let line = object!({
                "kind": kind.name,
                "uri": format!("at://{}/{}/{}", it.did, kind.collection, unlike(kind, &it.rkey)),
                "cid": Cid::for_dag_cbor(&it.block).to_string(),
                "record": it.record,
                "at": datetime::format_ms(it.at_us),
            });
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush().with_context(|| format!("cannot write {}", Path::new(file).display()))
}

/// Posts and replies share a collection.
fn unlike(kind: &Kind, rkey: &str) -> String {
    if kind.name == "reply" { rkey.replacen('3', "4", 1) } else { rkey.to_owned() }
}
