//! Several indexes of one store: of processes that only read, and of those that take turns in writing.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gp_index::tables;
use gp_search::{Config, LOG, Search};
use gp_store::{
    Batch, Change, Key, Page, Scan, Store,
    engine::{Local, mem::Mem},
};

use crate::{
    durable::{caught_up, live, store},
    rig::{World, held, held_now, quick},
};

/// Longest wait for an index to hold what another one holds.
const SAME_MAX: Duration = Duration::from_secs(60);

/// Longer than any test.
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// The index of a process that does not write.
async fn reader(world: &World, root: &Path) -> Arc<Search> {
    let config = Config { follows: true, ..quick() };
    Search::start(root, world.cx.store.clone(), world.cx.writer.clone(), config).await.unwrap()
}

/// Waits until two indexes hold the same.
async fn until_same(world: &World, ours: &Path, theirs: &Path) {
    world.settle().await;
    let wanted = held(theirs);
    let begun = Instant::now();
    loop {
        let have = held_now(ours);
        if have.as_ref().is_ok_and(|have| *have == wanted) {
            return;
        }
        let have = have.map(|have| have.numbers.into_keys().collect::<Vec<_>>());
        assert!(begun.elapsed() < SAME_MAX, "{have:?} is held, and not {:?}", wanted.numbers.keys());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_a_process_that_only_reads_follows_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, first, second) = (dir.path().join("rows"), dir.path().join("first"), dir.path().join("second"));
    let world = World::with(store(&rows), &first, None, Config { changes_kept_for: KEPT_FOR, ..quick() }).await;
    live(&world, 0..20).await;
    let follower = reader(&world, &second).await;
    live(&world, 20..50).await;
    until_same(&world, &second, &first).await;
    let begun = Instant::now();
    while follower.pending() > 0 || !follower.ready() {
        assert!(begun.elapsed() < SAME_MAX, "{}", follower.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What it missed is still listed.
    follower.stop(SAME_MAX);
    drop(follower);
    live(&world, 50..80).await;
    let follower = reader(&world, &second).await;
    until_same(&world, &second, &first).await;
    live(&world, 80..90).await;
    until_same(&world, &second, &first).await;
    follower.stop(SAME_MAX);
    drop(follower);
    world.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_away_for_longer_than_changes_are_kept_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, first, second) = (dir.path().join("rows"), dir.path().join("first"), dir.path().join("second"));
    let world = World::over(store(&rows), &first, None).await;
    live(&world, 0..30).await;
    let follower = reader(&world, &second).await;
    until_same(&world, &second, &first).await;
    follower.stop(SAME_MAX);
    drop(follower);
    live(&world, 30..60).await;
    world.settle().await;
    let follower = reader(&world, &second).await;
    until_same(&world, &second, &first).await;
    follower.stop(SAME_MAX);
    drop(follower);
    world.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_store_another_process_wrote_to_knows_that_it_missed_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, first, second) = (dir.path().join("rows"), dir.path().join("first"), dir.path().join("second"));
    for (index, rounds) in [(&first, 0..20), (&second, 20..70), (&first, 70..75), (&second, 75..80)] {
        let world = World::over(store(&rows), index, None).await;
        live(&world, rounds).await;
        world.settle().await;
        world.close();
    }
    let built = caught_up(&rows, &dir.path().join("built")).await;
    for index in [&first, &second] {
        let grown = caught_up(&rows, index).await;
        assert!(grown == built, "{} of {}", grown.numbers.len(), built.numbers.len());
    }
}

/// An engine that writes the list of changes first, and what they are some time later: as a cluster may.
struct ListFirst(Mem);

/// Longer than it takes to look at the list.
const LATER: Duration = Duration::from_millis(60);

impl Local for ListFirst {
    fn get(&self, keys: &[Key]) -> gp_store::Result<Vec<Option<Bytes>>> {
        self.0.get(keys)
    }

    fn get_one(&self, key: &Key) -> gp_store::Result<Option<Bytes>> {
        self.0.get_one(key)
    }

    fn scan(&self, scan: &Scan) -> gp_store::Result<Page> {
        self.0.scan(scan)
    }

    fn apply(&self, batch: &Batch) -> gp_store::Result<()> {
        let is_list = |change: &Change| change.key.table_id() == LOG.id;
        let (list, others): (Vec<Change>, Vec<Change>) = batch.changes().iter().cloned().partition(is_list);
        if !list.is_empty() {
            self.0.apply(&Batch::from(list))?;
            std::thread::sleep(LATER);
        }
        self.0.apply(&Batch::from(others))
    }

    fn sync(&self) -> gp_store::Result<()> {
        self.0.sync()
    }

    fn bytes_used(&self) -> u64 {
        self.0.bytes_used()
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> gp_store::Result<()> {
        self.0.each(table_id, visit)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_listed_before_it_stands_is_found_once_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, built] = ["first", "second", "built"].map(|name| dir.path().join(name));
    let all: Vec<_> = tables::ALL.iter().chain(gp_search::TABLES).copied().collect();
    let rows = Store::over(Box::new(ListFirst(Mem::new())), &all, &gp_store::Config::default());
    let world = World::with(rows.clone(), &first, None, Config { changes_kept_for: KEPT_FOR, ..quick() }).await;
    live(&world, 0..2).await;
    let follower = reader(&world, &second).await;
    live(&world, 2..12).await;
    until_same(&world, &second, &first).await;
    follower.stop(SAME_MAX);
    drop(follower);
    world.close();
    let world = World::over(rows, &built, None).await;
    world.settle().await;
    world.close();
    let (grown, built) = (held(&first), held(&built));
    assert!(grown == built && built.numbers.len() > 12, "{} of {}", grown.numbers.len(), built.numbers.len());
}
