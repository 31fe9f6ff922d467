//! Writers that are killed, and writers that are stopped and wake up after another has taken over.
//!
//! The child is this test binary again: with `GP_STORE_CHILD` set, the test `child_main` writes to that address, and does
//! nothing otherwise.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use gp_store::{
    Batch, Config, Key, Store,
    conformance::{Seeded, TABLES, partition},
    engine::cql::{Address, CqlConfig},
};

use crate::ground::CqlGround;

const ADDRESS: &str = "GP_STORE_CHILD";
const FROM: &str = "GP_STORE_CHILD_FROM";

/// Partitions of one batch, in two tables. Far more than are written side by side, so that a kill falls between them.
const PLACES: u16 = 400;

/// What the second writer puts.
const SECOND: u64 = 1 << 32;

fn places() -> impl Iterator<Item = Key> {
    (0..PLACES).map(|n| partition(TABLES[usize::from(n % 2)], &n.to_be_bytes()).head())
}

/// A batch that puts one number everywhere.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    places().for_each(|key| batch.put(key, number.to_be_bytes().to_vec()));
    batch
}

/// Does nothing in an ordinary test run. As a child: writes batch after batch, and says which were acknowledged.
#[test]
fn child_main() {
    let Ok(keyspace) = std::env::var(ADDRESS) else { return };
    let from: u64 = std::env::var(FROM).unwrap().parse().unwrap();
    let address: Address = keyspace.parse().unwrap();
    let config = CqlConfig { address, login: None, tls: None, wait: Duration::from_secs(30), writes: true };
    let store = Store::cql(&config, &TABLES, &Config::default()).unwrap();
    for number in from.. {
        match store.apply_now(&batch(number)) {
            Ok(()) => println!("\nacknowledged {number}"),
            Err(e) => {
                println!("\nended {e}");
                return;
            }
        }
    }
}

struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(ground: &CqlGround, from: u64) -> Self {
        let address =
            format!("{}?create={}&read_deadline_ms=20000", ground.address, ground.address.contact_points.len());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["writers::child_main", "--exact", "--nocapture", "--test-threads=1"])
            .env(ADDRESS, address)
            .env(FROM, from.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The rest of the next line that begins so; nothing once the child has ended.
    fn next(&mut self, what: &str) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix(what).map(str::to_owned))
    }

    fn acknowledged(&mut self) -> Option<u64> {
        Some(self.next("acknowledged ")?.parse().unwrap())
    }

    fn signal(&self, which: &str) {
        assert!(Command::new("kill").args([which, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one number that stands everywhere.
async fn stands(store: &Store) -> u64 {
    let keys: Vec<Key> = places().collect();
    let found = store.get(&keys).await.unwrap();
    let mut numbers: Vec<u64> =
        found.iter().map(|v| u64::from_be_bytes(v.as_ref().expect("is there")[..].try_into().unwrap())).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 1, "half a batch stands: {numbers:?}");
    numbers[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn a_killed_writers_last_batch_is_whole_once_another_writes() {
    let ground = CqlGround::new();
    let mut seeded = Seeded::new(41);
    let mut from = 1;
    for round in 0..4 {
        let mut writer = Writer::start(&ground, from);
        let mut last = writer.acknowledged().expect("writes");
        for _ in 0..seeded.below(5) {
            last = writer.acknowledged().expect("writes");
        }
        std::thread::sleep(Duration::from_millis(seeded.below(60) as u64));
        writer.signal("-KILL");
        while let Some(number) = writer.acknowledged() {
            last = number;
        }
        let store = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
        let begun = Instant::now();
        store.local().lead().unwrap();
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(10), "took over after {waited:?}");
        let now = stands(&store).await;
        assert!(now == last || now == last + 1, "round {round}: {now} stands, {last} was acknowledged");
        from = now + 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn a_writer_that_was_paused_changes_nothing_once_another_writes() {
    let ground = CqlGround::new();
    let mut seeded = Seeded::new(43);
    for round in 0..4 {
        let mut writer = Writer::start(&ground, 1);
        writer.acknowledged().expect("writes");
        std::thread::sleep(Duration::from_millis(seeded.below(60) as u64));
        writer.signal("-STOP");
        let store = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
        store.local().lead().unwrap();
        let first = stands(&store).await;
        assert!(first < SECOND);
        store.apply_now(&batch(SECOND + round)).unwrap();
        writer.signal("-CONT");
        let said = writer.next("ended ").expect("is told that it lost the lease");
        assert!(said.contains("another process has taken over"), "{said}");
        assert_eq!(stands(&store).await, SECOND + round);
        store.apply_now(&batch(SECOND + 100 + round)).unwrap();
        assert_eq!(stands(&store).await, SECOND + 100 + round);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn a_writer_that_closes_hands_over_at_once() {
    let ground = CqlGround::new();
    let first = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    first.apply_now(&batch(1)).unwrap();
    drop(first);
    let second = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    let begun = Instant::now();
    second.apply_now(&batch(2)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(stands(&second).await, 2);
}
