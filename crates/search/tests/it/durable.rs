//! The index follows the store whatever happens to the process, and can be built again from it.
//!
//! The child is this test binary again: with `GP_SEARCH_CHILD` set, the test `child_main` does what it says, and nothing
//! otherwise.

use std::{
    fs::OpenOptions,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use gp_index::{apply::Action, tables};
use gp_store::{Config, Store};
use serde_json::json;

use crate::rig::{Held, World, at, did, held, iso};

const CHILD: &str = "GP_SEARCH_CHILD";

pub(crate) fn store(dir: &Path) -> Store {
    let all: Vec<_> = tables::ALL.iter().chain(gp_search::TABLES).copied().collect();
    Store::lsm(dir, &all, &Config::default()).unwrap()
}

/// Opens what a process left, waits until search has caught up, and closes it again.
pub(crate) async fn caught_up(dir: &Path, root: &Path) -> Held {
    let world = World::over(store(dir), root, None).await;
    world.settle().await;
    world.close();
    held(root)
}

/// A life in which everything happens: posts come, change and go, are liked; names and handles change.
pub(crate) async fn live(world: &World, rounds: std::ops::Range<i64>) {
    for n in rounds {
        let name = format!("u{}", (b'a' + (n % 5) as u8) as char);
        let who = world.actor(&name, &format!("{name}-{}.test", n % 3)).await;
        let uri = world.post(&who, &format!("r{n}"), &format!("word{} and the number {n} 東京", n % 7), at(n)).await;
        if n % 3 == 0 {
            world.profile(&who, &format!("Name {n}"), "a description").await;
        }
        if n % 4 == 1 {
            let edited = json!({"text": format!("edited {n}"), "createdAt": iso(at(n))});
            world.op(Action::Update, &who, crate::rig::POST, &format!("r{}", n - 1), Some(edited), at(n)).await;
        }
        if n % 5 == 4 {
            world
                .op(
                    Action::Delete,
                    &did(&format!("u{}", (b'a' + ((n - 2) % 5) as u8) as char)),
                    crate::rig::POST,
                    &format!("r{}", n - 2),
                    None,
                    at(n),
                )
                .await;
        }
        for liker in 0..(n % 4) {
            let liker = did(&format!("l{}", (b'a' + liker as u8) as char));
            world.like(&liker, &uri, &format!("k{n}")).await;
            world.follow(&liker, &who, &format!("f{n}")).await;
        }
        if n % 6 == 0 {
            let feed = json!({"did": "did:web:x.test", "displayName": format!("Feed {n}"), "createdAt": iso(at(n))});
            world.create(&who, "app.bsky.feed.generator", &format!("g{n}"), feed, at(n)).await;
            let list = format!("at://{who}/app.bsky.graph.list/l");
            let pack = json!({"name": format!("Pack {n}"), "list": list, "createdAt": iso(at(n))});
            world.create(&who, "app.bsky.graph.starterpack", &format!("s{n}"), pack, at(n)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_grew_and_one_that_was_built_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, grown, built) = (dir.path().join("rows"), dir.path().join("grown"), dir.path().join("built"));
    let world = World::over(store(&rows), &grown, None).await;
    live(&world, 0..60).await;
    world.settle().await;
    world.close();
    let grown_holds = held(&grown);
    assert!(grown_holds.numbers.len() > 60, "{}", grown_holds.numbers.len());
    assert_eq!(caught_up(&rows, &built).await, grown_holds);

    // What was written while this index was not followed is not lost either: the list of changes is in the store.
    let world = World::over(store(&rows), &grown, None).await;
    live(&world, 60..70).await;
    world.search.stop(Duration::from_secs(20));
    live(&world, 70..80).await;
    world.close();
    let followed = caught_up(&rows, &grown).await;
    assert_eq!(caught_up(&rows, &dir.path().join("again")).await, followed);
    assert!(followed.numbers.len() > grown_holds.numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_cut_short_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, root) = (dir.path().join("rows"), dir.path().join("search"));
    let world = World::over(store(&rows), &root, None).await;
    live(&world, 0..40).await;
    // More accounts than a build takes at a time.
    for n in 0..300u32 {
        let name: String = n.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        world.actor(&format!("x{name}"), &format!("x{n}.test")).await;
    }
    world.settle().await;
    world.close();
    let whole = held(&root);
    std::fs::remove_dir_all(&root).unwrap();
    for cut in 0..8u64 {
        let world = World::over(store(&rows), &root, None).await;
        // Something happens meanwhile, too.
        let who = world.actor("ua", "ua-0.test").await;
        let again = json!({"text": format!("cut {cut}"), "createdAt": iso(at(0))});
        world.op(Action::Update, &who, crate::rig::POST, "cut", Some(again), at(0)).await;
        world.op(Action::Delete, &who, crate::rig::POST, "cut", None, at(0)).await;
        tokio::time::sleep(Duration::from_millis(5 * cut)).await;
        world.close();
    }
    let mut built = caught_up(&rows, &root).await;
    // The handle of this account was checked anew, and given to it again.
    let mut whole = whole;
    for held in [&mut built, &mut whole] {
        held.numbers.retain(|address, _| *address != did("ua"));
        held.terms.retain(|(field, _), _| field == "text" || field == "author");
    }
    assert_eq!(built, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_built_again_and_one_of_another_format_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, root) = (dir.path().join("rows"), dir.path().join("search"));
    let world = World::over(store(&rows), &root, None).await;
    live(&world, 0..20).await;
    world.settle().await;
    world.close();
    let whole = held(&root);
    let format = std::fs::read_dir(&root).unwrap().next().unwrap().unwrap().path();
    let files = || -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(&format)
            .unwrap()
            .map(|it| it.unwrap().path())
            .filter(|it| it.metadata().unwrap().len() > 100 && it.extension().is_some())
            .collect();
        all.sort();
        all
    };
    std::fs::create_dir_all(root.join("0")).unwrap();
    assert!(!files().is_empty());
    for turn in 0..4 {
        let all = files();
        let file = &all[turn * all.len() / 4];
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        match turn {
            0 => bytes[middle] ^= 0xff,
            1 => bytes.truncate(middle),
            2 => bytes.clear(),
            _ => bytes.iter_mut().for_each(|byte| *byte = !*byte),
        }
        std::fs::write(file, bytes).unwrap();
        assert_eq!(caught_up(&rows, &root).await, whole, "{}", file.display());
    }
    assert!(!root.join("0").exists());
    // An index of another store is no index of this one.
    let (elsewhere, other_root) = (dir.path().join("elsewhere"), dir.path().join("other"));
    let world = World::over(store(&elsewhere), &other_root, None).await;
    live(&world, 3..9).await;
    world.settle().await;
    world.close();
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::rename(&other_root, &root).unwrap();
    assert_eq!(caught_up(&rows, &root).await, whole);
    // Its head, too.
    std::fs::write(format.join("meta.json"), "{").unwrap();
    assert_eq!(caught_up(&rows, &root).await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_index_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, root) = (dir.path().join("rows"), dir.path().join("search"));
    let rounds = dir.path().join("rounds");
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
    for kill in 0..6u64 {
        let before = length(&rounds);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["durable::child_main", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            // It ends when this end closes, so that a failing test leaves nobody behind.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while length(&rounds) == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "the child does not get anywhere");
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Wherever it is by then: the outcome must be the same.
        tokio::time::sleep(Duration::from_millis(37 * kill)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let followed = caught_up(&rows, &root).await;
    assert!(!followed.numbers.is_empty());
    assert_eq!(caught_up(&rows, &dir.path().join("built")).await, followed);
}

/// Writes until it is killed.
#[test]
fn child_main() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut rounds = OpenOptions::new().create(true).append(true).open(dir.join("rounds")).unwrap();
        let world = World::over(store(&dir.join("rows")), &dir.join("search"), None).await;
        for round in 0..1_000_000 {
            live(&world, round * 40..round * 40 + 40).await;
            rounds.write_all(b".").unwrap();
        }
    });
}
