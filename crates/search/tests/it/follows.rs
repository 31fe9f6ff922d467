//! Several indexes of one store: of processes that only read, and of those that take turns in writing.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use gp_search::{Config, Search};

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
        assert!(begun.elapsed() < SAME_MAX, "{have:?} is not {wanted:?}");
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
