//! Pages: every match once, whatever is added meanwhile.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gp_proto as proto;
use serde_json::json;

use crate::rig::{World, ask, at, iso, params};

/// Limits of the pages of a walk, in turn.
const LIMITS: [i32; 4] = [1, 2, 3, 7];

/// Walks to the end and calls `between` after each page.
async fn walk<P, B>(page: P, between: B) -> Vec<String>
where
    P: AsyncFn(i32, String) -> (Vec<String>, String),
    B: AsyncFn(usize),
{
    let (mut all, mut cursor) = (Vec::new(), String::new());
    for round in 0.. {
        assert!(round < 1000, "the walk does not end");
        let limit = LIMITS[round % LIMITS.len()];
        let (found, next) = page(limit, cursor.clone()).await;
        assert!(found.len() <= limit as usize);
        all.extend(found);
        if next.is_empty() {
            break;
        }
        assert_ne!(next, cursor);
        assert!(!next.contains("::"), "{next}");
        cursor = next;
        between(round).await;
    }
    all
}

/// Those that stood before the walk must all be there once; the others may or may not.
fn check(found: &[String], before: &[String]) {
    let distinct: HashSet<&String> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "something is there twice");
    let kept: Vec<&String> = found.iter().filter(|uri| before.contains(uri)).collect();
    assert_eq!(kept, before.iter().collect::<Vec<_>>(), "something is missing or out of order");
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_added_while_somebody_pages_neither_shift_nor_hide_any() {
    let world = World::new().await;
    let alice = world.actor("alice", "alice.test").await;
    let bob = world.actor("bob", "bob.test").await;
    let mut before = Vec::new();
    for i in 0..20i64 {
        before.insert(0, world.post(&alice, &format!("r{i}"), &format!("okapi number {i}"), at(10 * i - 10_000)).await);
    }
    world.settle().await;
    let number = std::sync::atomic::AtomicI64::new(0);
    // Newer ones, older ones and some in between.
    let add = async |_round: usize| {
        let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        for (kind, second) in [("n", n - 1000), ("o", -20_000 - n), ("m", 10 * (n % 19) + 5 - 10_000)] {
            world.post(&bob, &format!("{kind}{n}"), &format!("okapi {kind} {n}"), at(second)).await;
        }
        world.settle().await;
    };
    let first = walk(
        async |limit, cursor| {
            let ask = proto::SearchPostsRequest { term: "okapi".into(), limit, cursor };
            let found = gp_index::search::search_posts(&world.cx, ask).await.unwrap();
            (found.uris, found.cursor)
        },
        add,
    )
    .await;
    check(&first, &before);
    for sort in [proto::SearchSortOrder::Recent, proto::SearchSortOrder::Top] {
        let found = walk(
            async |limit, cursor| {
                let request = proto::SearchPostsV2Request {
                    sort: sort as i32,
                    params: Some(params("okapi", limit, &cursor)),
                    ..ask("")
                };
                let found = world.posts_v2(request).await.unwrap();
                let info = found.page_info.unwrap();
                if !info.cursor.is_empty() {
                    let json: serde_json::Value =
                        serde_json::from_slice(&STANDARD.decode(&info.cursor).unwrap()).unwrap();
                    assert!(json.is_object());
                }
                assert!(info.hits_total >= before.len() as i64);
                (found.posts.into_iter().map(|it| it.uri).collect(), info.cursor)
            },
            add,
        )
        .await;
        check(&found, &before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_of_one_time_and_version_are_all_found() {
    let world = World::new().await;
    let mut expected = HashSet::new();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        let did = world.actor(name, &format!("{name}.test")).await;
        let record = json!({"text": "the same dodo", "createdAt": iso(at(0))});
        expected.insert(world.create(&did, crate::rig::POST, "r", record, at(0)).await);
    }
    world.settle().await;
    let found = walk(
        async |limit, cursor| {
            let ask = proto::SearchPostsRequest { term: "dodo".into(), limit, cursor };
            let found = gp_index::search::search_posts(&world.cx, ask).await.unwrap();
            (found.uris, found.cursor)
        },
        async |_| {},
    )
    .await;
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_paged_over_all_kinds_of_matches() {
    let world = World::new().await;
    let mut expected = HashSet::new();
    for name in ["a", "b", "c", "d"] {
        expected.insert(world.actor(&format!("h{name}"), &format!("lynx{name}.test")).await);
        let named = world.actor(&format!("n{name}"), &format!("{name}.test")).await;
        world.profile(&named, &format!("Lynx the {name}"), "").await;
        let about = world.actor(&format!("w{name}"), &format!("w{name}.test")).await;
        world.profile(&about, "", "a friend of every lynx").await;
        expected.extend([named, about]);
    }
    world.settle().await;
    let mut walks = Vec::new();
    walks.push(
        walk(
            async |limit, cursor| {
                let ask = proto::SearchActorsRequest { term: "lynx".into(), limit, cursor };
                let found = gp_index::search::search_actors(&world.cx, ask).await.unwrap();
                (found.dids, found.cursor)
            },
            async |_| {},
        )
        .await,
    );
    walks.push(
        walk(
            async |limit, cursor| {
                let ask = proto::SearchActorsV2Request { params: Some(params("lynx", limit, &cursor)) };
                let found = gp_index::search::search_actors_v2(&world.cx, ask).await.unwrap();
                let info = found.page_info.unwrap();
                assert_eq!(info.hits_total, 12);
                (found.actors.into_iter().map(|it| it.did).collect(), info.cursor)
            },
            async |_| {},
        )
        .await,
    );
    assert_eq!(walks[0], walks[1]);
    assert_eq!(walks[0].len(), expected.len());
    assert_eq!(walks[0].iter().cloned().collect::<HashSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_deleted_posts_is_passed_over() {
    let world = World::new().await;
    let alice = world.actor("alice", "alice.test").await;
    let mut left = Vec::new();
    for i in 0..40i64 {
        let uri = world.post(&alice, &format!("r{i}"), "tapir", at(i)).await;
        if i < 3 {
            left.insert(0, uri);
        }
    }
    world.settle().await;
    for i in 3..40 {
        world.delete(&alice, crate::rig::POST, &format!("r{i}")).await;
    }
    let found = walk(
        async |limit, cursor| {
            let ask = proto::SearchPostsRequest { term: "tapir".into(), limit, cursor };
            let found = gp_index::search::search_posts(&world.cx, ask).await.unwrap();
            (found.uris, found.cursor)
        },
        async |_| {},
    )
    .await;
    assert_eq!(found, left);
}
