//! Drafts: their order, their pages, their number.

use super::*;
use crate::testing::{NOW_US, World, did, walk};

async fn change(world: &World, actor: &str, key: &str, create: bool, payload: &str, time_us: i64) {
    let (actor, key, payload) = (actor.to_owned(), key.to_owned(), payload.to_owned());
    world.write(move |view| put(view, &actor, &key, create, &payload, time_us)).await;
}

fn ask(actor: &str, limit: i32, cursor: &str) -> proto::GetActorDraftsRequest {
    proto::GetActorDraftsRequest { actor_did: actor.to_owned(), limit, cursor: cursor.to_owned() }
}

async fn keys(world: &World, actor: &str) -> Vec<String> {
    let found = walk!(|limit, cursor| {
        let found = get_actor_drafts(&world.cx, ask(actor, limit, &cursor)).await.unwrap();
        (found.drafts, found.cursor)
    });
    found.into_iter().map(|draft| draft.key).collect()
}

#[tokio::test]
async fn drafts_come_by_their_last_change_and_those_of_one_millisecond_are_not_lost() {
    let world = World::new();
    let me = did("me");
    let mut expected = Vec::new();
    for i in 0..12u8 {
        let key = format!("3kaaaaaaaaaa{}", (b'a' + i) as char);
        // Four by four they are of the same time.
        change(&world, &me, &key, true, "{}", NOW_US + i64::from(i / 4) * 1_000).await;
        expected.push(key);
    }
    let found = keys(&world, &me).await;
    let times: Vec<usize> = found.iter().map(|k| expected.iter().position(|e| e == k).unwrap() / 4).collect();
    assert_eq!(times, [2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0]);
    let mut all = found;
    all.sort();
    assert_eq!(all, expected);
    change(&world, &me, &expected[0], false, r#"{"changed":1}"#, NOW_US + 9_000).await;
    let found = get_actor_drafts(&world.cx, ask(&me, 1, "")).await.unwrap();
    let first = &found.drafts[0];
    assert_eq!((&first.key, &first.payload[..]), (&expected[0], &br#"{"changed":1}"#[..]));
    assert_eq!(first.created_at, Some(time(NOW_US)));
    assert_eq!(first.updated_at, Some(time(NOW_US + 9_000)));
    // A bare date, as clients of the reference hold it.
    let older = get_actor_drafts(&world.cx, ask(&me, 100, &datetime::format_ms(NOW_US + 2_000))).await.unwrap();
    assert_eq!((older.drafts.len(), older.cursor.as_str()), (7, ""));
    for wrong in ["x", "__", "x__y"] {
        let refused = get_actor_drafts(&world.cx, ask(&me, 1, wrong)).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "cursor", .. })), "{wrong}: {refused:?}");
    }
    assert_eq!(get_actor_drafts(&world.cx, ask(&me, 0, "")).await.unwrap(), proto::GetActorDraftsResponse::default());
}

#[tokio::test]
async fn the_number_of_drafts_is_true_and_a_change_of_what_is_not_there_makes_none() {
    let world = World::new();
    let me = did("me");
    let drafted = async || {
        let ask = proto::GetCountsForUsersRequest { dids: vec![me.clone()] };
        crate::interactions::get_counts_for_users(&world.cx, ask).await.unwrap().drafts[0]
    };
    change(&world, &me, "3kaaaaaaaaaaa", false, "{}", NOW_US).await;
    assert_eq!((drafted().await, keys(&world, &me).await.len()), (0, 0));
    for _ in 0..2 {
        change(&world, &me, "3kaaaaaaaaaaa", true, "{}", NOW_US).await;
        change(&world, &me, "3kaaaaaaaaaab", true, "{}", NOW_US).await;
        assert_eq!((drafted().await, keys(&world, &me).await.len()), (2, 2));
    }
    for _ in 0..2 {
        let actor = me.clone();
        world.write(move |view| remove(view, &actor, "3kaaaaaaaaaaa")).await;
        assert_eq!((drafted().await, keys(&world, &me).await), (1, vec!["3kaaaaaaaaaab".to_owned()]));
    }
}
