//! kill -9 at any moment loses nothing that was acknowledged and leaves no batch half done.
//!
//! The child is this test binary again: with `GP_STORE_CHILD` set, the test `child_main` does what it says, and nothing
//! otherwise.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use gp_store::{
    Batch, Config, Key, Scan, Store, Writer, WriterConfig,
    conformance::{PLAIN, Seeded, TABLES, partition},
    engine::lsm::{Lsm, LsmConfig},
};

const ROLE: &str = "GP_STORE_CHILD";
const DIR: &str = "GP_STORE_CHILD_DIR";
const ARGS: &str = "GP_STORE_CHILD_ARGS";

/// A command that runs this binary as a child with a role.
pub(crate) fn child(role: &str, dir: &Path, args: &[u64]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["kill::child_main", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(DIR, dir);
    command.env(ARGS, args.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The child's next line that is not the test harness's own: the wanted one, or any if none is named.
pub(crate) fn wait_for_line(child: &mut Child, wanted: &str) -> String {
    // Byte by byte, so that nothing after the line is taken from the pipe.
    let mut output = child.stdout.take().unwrap();
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        if std::io::Read::read(&mut output, &mut byte).unwrap() == 0 {
            panic!("the child ended before it said {wanted:?}");
        }
        if byte[0] != b'\n' {
            line.push(byte[0]);
            continue;
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        line.clear();
        let text = text.strip_prefix("test kill::child_main ... ").unwrap_or(&text).to_owned();
        let harness = text.is_empty() || text.starts_with("running ");
        if !harness && (wanted.is_empty() || text == wanted) {
            child.stdout = Some(output);
            return text;
        }
    }
}

/// Does nothing in an ordinary test run.
#[test]
fn child_main() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = std::path::PathBuf::from(std::env::var_os(DIR).unwrap());
    let args: Vec<u64> = std::env::var(ARGS).unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    match role.as_str() {
        "hold" => crate::folder::hold(&dir),
        "try" => crate::folder::try_open(&dir),
        "write" => write(&dir, args[0], args[1]),
        "create" => drop(Store::lsm(&dir, &TABLES, &Config::default())),
        "read" => crate::damage::read_all(&dir),
        other => panic!("unknown role {other}"),
    }
}

/// Rows of one batch beside its head.
const ROWS: u64 = 6;

/// Partitions that the batches write to, in turn.
const PLACES: u64 = 7;

fn place(batch: u64) -> gp_store::Partition {
    partition(&PLAIN, &(batch % PLACES).to_be_bytes())
}

/// The rows of a batch: some new, some shared with the batches before it in the same partition.
fn rows_of(batch: u64, seed: u64) -> Vec<(Key, Vec<u8>)> {
    let mut seeded = Seeded::new(batch);
    // Mostly small; now and then one that fills the memtable.
    let size = if seeded.once_in(40) { 300_000 } else { 20 + seeded.below(200) };
    let fill = vec![u8::try_from(seed % 251).unwrap(); size];
    let place = place(batch);
    let mut rows = vec![(place.head(), batch.to_be_bytes().to_vec())];
    for row in 0..ROWS {
        let mut value = batch.to_be_bytes().to_vec();
        value.extend_from_slice(&fill);
        rows.push((place.at(&[&[1][..], &batch.to_be_bytes(), &row.to_be_bytes()].concat()), value));
    }
    rows
}

/// The child: writes batch after batch through the writer and says which were acknowledged.
fn write(dir: &Path, from: u64, seed: u64) {
    let store = Store::lsm(dir, &TABLES, &Config::default()).unwrap();
    // Syncs and memtable flushes come often, so that the killer meets them.
    let config = WriterConfig {
        sync_every: Duration::from_millis(20),
        jobs_per_group_max: 4,
        jobs_waiting_max: 16,
        ..WriterConfig::default()
    };
    let (writer, _thread) = Writer::start(store.clone(), config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    println!("writing");
    runtime.block_on(async {
        for batch in from.. {
            let rows = rows_of(batch, seed);
            writer
                .submit(move |view| {
                    let old = view.get(&rows[0].0).unwrap().map(|v| u64::from_be_bytes(v[..8].try_into().unwrap()));
                    assert_eq!(old, batch.checked_sub(PLACES), "the batch before this one in the partition");
                    for (key, value) in rows {
                        view.put(key, value);
                    }
                    Box::new(move |applied| {
                        applied.unwrap();
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "ack {batch}").and_then(|()| out.flush()).unwrap();
                    })
                })
                .await
                .unwrap();
        }
    });
}

/// Looks whether the store holds all batches up to some number at least `acknowledged`, and none in part. Gives the
/// number of the next batch.
fn audit(store: &Store, acknowledged: u64, round: u64) -> u64 {
    let mut heads = BTreeSet::new();
    let mut next = 0;
    for n in 0..PLACES {
        let place = partition(&PLAIN, &n.to_be_bytes());
        let Some(head) = store.local().get_one(&place.head()).unwrap() else { continue };
        let last = u64::from_be_bytes(head[..].try_into().unwrap());
        assert_eq!(last % PLACES, n);
        heads.insert(last);
        next = next.max(last + 1);
    }
    assert!(next >= acknowledged, "round {round}: {} acknowledged batches are lost", acknowledged - next);
    // One writer, in order: the heads are the last batches of each partition without a gap.
    assert_eq!(heads, (next.saturating_sub(PLACES)..next).collect(), "round {round}");
    for n in 0..PLACES {
        let place = partition(&PLAIN, &n.to_be_bytes());
        let (mut after, mut found) = (vec![1], Vec::new());
        loop {
            let page = store.local().scan(&Scan::of(place.clone()).after(after.clone()).limit(1000)).unwrap();
            for row in &page.rows {
                let batch = u64::from_be_bytes(row.clustering()[1..9].try_into().unwrap());
                assert_eq!(row.value[..8], batch.to_be_bytes(), "round {round}");
                found.push(batch);
            }
            match page.rows.last() {
                Some(last) if page.more => after = last.clustering().to_vec(),
                _ => break,
            }
        }
        let expected: Vec<u64> = (0..next).filter(|b| b % PLACES == n).flat_map(|b| [b; ROWS as usize]).collect();
        assert_eq!(found, expected, "round {round}: rows of partition {n}");
    }
    next
}

#[test]
fn killing_the_process_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    let rounds: u64 = std::env::var("GP_STORE_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let dir = tempfile::tempdir().unwrap();
    let mut seeded = Seeded::new(rounds);
    let (mut next, mut total) = (0, 0);
    for round in 0..rounds {
        let mut child = child("write", dir.path(), &[next, round]).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, told) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut acknowledged = None;
            for line in output.lines().map_while(Result::ok) {
                if line.trim_end().ends_with("writing") {
                    let _ = tell.send(());
                }
                if let Some(n) = line.strip_prefix("ack ").and_then(|n| n.parse::<u64>().ok()) {
                    acknowledged = acknowledged.max(Some(n));
                }
            }
            acknowledged
        });
        // One in four is killed while it opens the store, the others at some moment of their writing.
        if round % 4 == 3 {
            std::thread::sleep(Duration::from_micros(seeded.below(60_000) as u64));
        } else {
            told.recv_timeout(Duration::from_secs(60)).expect("the child writes");
            std::thread::sleep(Duration::from_micros(seeded.below(250_000) as u64));
        }
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.signal(), Some(9), "round {round}: the child failed by itself: {ended}");
        let acknowledged = reader.join().unwrap().map_or(next, |last| last + 1);
        let store = Store::lsm(dir.path(), &TABLES, &Config::default()).unwrap();
        let found = audit(&store, acknowledged, round);
        total += acknowledged - next;
        // A third of the time the store is closed without ever having been written to by this process; otherwise a
        // memtable is flushed first, so that journals and tables overlap in different ways.
        if round % 3 == 1 {
            drop(store);
            let lsm =
                Lsm::open(&LsmConfig { dir: dir.path().to_owned(), block_cache_bytes: 1 << 20, disk_reserve_bytes: 0 })
                    .unwrap();
            lsm.flush().unwrap();
        }
        next = found;
    }
    assert!(total > 100, "the children wrote: {total}");
    println!("{rounds} rounds, {total} batches acknowledged, none lost");
}

#[test]
fn killing_the_first_start_leaves_a_folder_that_opens() {
    let mut seeded = Seeded::new(99);
    for _ in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = child("create", dir.path(), &[]).stdout(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        let patience = Duration::from_micros(seeded.below(30_000) as u64);
        // Killed some time after the folder's first file appeared, or when it had time enough for that.
        while !dir.path().join("LOCK").exists() && began.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        std::thread::sleep(patience);
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::lsm(dir.path(), &TABLES, &Config::default()).unwrap();
        let mut batch = Batch::new();
        batch.put(partition(&PLAIN, b"p").head(), b"v".to_vec());
        store.apply_now(&batch).unwrap();
    }
}
