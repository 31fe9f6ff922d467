//! Takedowns and their undoing, as reads see them.

use serde_json::json;

use super::*;
use crate::{
    records::timestamp,
    testing::{NOW_US, World, at, did, iso},
};

const PROFILE: &str = "app.bsky.actor.profile";

async fn actor(world: &World, did: &str) -> proto::ActorInfo {
    let ask = proto::GetActorsRequest { dids: vec![did.to_owned()], ..Default::default() };
    actors::get_actors(&world.cx, ask).await.unwrap().actors.remove(0)
}

fn seen(us: i64) -> Option<proto::Timestamp> {
    Some(timestamp(us))
}

#[tokio::test]
async fn a_takedown_of_an_account_is_seen_at_once_and_so_is_its_end() {
    let world = World::new();
    let bob = did("bob");
    world.actor(&bob).await;
    // Answers are in memory before each change.
    assert!(!actor(&world, &bob).await.taken_down);
    let takedown = |reference: &str, us| proto::TakedownActorRequest {
        did: bob.clone(),
        r#ref: reference.to_owned(),
        seen: seen(us),
    };
    let undo = |us| proto::UntakedownActorRequest { did: bob.clone(), seen: seen(us) };
    for _ in 0..2 {
        takedown_actor(&world.cx, takedown("case-1", NOW_US)).await.unwrap();
        let info = actor(&world, &bob).await;
        assert_eq!((info.taken_down, info.takedown_ref.as_str()), (true, "case-1"));
    }
    untakedown_actor(&world.cx, undo(NOW_US + 1_000)).await.unwrap();
    let info = actor(&world, &bob).await;
    assert_eq!((info.taken_down, info.takedown_ref.as_str()), (false, ""));
    // What was seen before the undoing comes too late; without a time the latest word holds.
    takedown_actor(&world.cx, takedown("late", NOW_US)).await.unwrap();
    assert!(!actor(&world, &bob).await.taken_down);
    takedown_actor(&world.cx, proto::TakedownActorRequest { did: bob.clone(), ..Default::default() }).await.unwrap();
    assert_eq!(actor(&world, &bob).await.takedown_ref, "TAKEDOWN");
}

#[tokio::test]
async fn a_takedown_comes_before_its_subject_and_outlives_it() {
    let world = World::new();
    let bob = did("bob");
    let uri = format!("at://{bob}/app.bsky.feed.post/p");
    takedown_actor(&world.cx, proto::TakedownActorRequest { did: bob.clone(), r#ref: "a".into(), seen: seen(NOW_US) })
        .await
        .unwrap();
    let ask = proto::TakedownRecordRequest { record_uri: uri.clone(), r#ref: "r".into(), seen: seen(NOW_US) };
    takedown_record(&world.cx, ask).await.unwrap();
    let state = async || {
        let record = world.post_records(std::slice::from_ref(&uri)).await.records.remove(0);
        assert_eq!(record.taken_down, !record.takedown_ref.is_empty());
        // A record that is taken down is answered whole.
        assert_eq!(record.record.is_empty(), record.cid.is_empty());
        (!record.cid.is_empty(), record.takedown_ref, actor(&world, &bob).await.takedown_ref)
    };
    assert_eq!(state().await, (false, String::new(), String::new()), "unknown accounts are not answered for");
    for round in 0..2 {
        world.post(&bob, "p", at(round)).await;
        assert_eq!(state().await, (true, "r".into(), "a".into()));
        world.delete(&bob, "app.bsky.feed.post", "p", at(round)).await;
        assert_eq!(state().await, (false, String::new(), "a".into()));
    }
    world.post(&bob, "p", at(3)).await;
    let (deleted, other) = (bob.clone(), bob.clone());
    assert!(world.write(move |view| actors::delete_page(view, &deleted, at(3), 100)).await);
    world.write(move |view| actors::touch(view, &other, at(4)).map(drop)).await;
    world.post(&bob, "p", at(4)).await;
    assert_eq!(state().await, (true, "r".into(), "a".into()));
    let ask = proto::UntakedownRecordRequest { record_uri: uri.clone(), seen: seen(NOW_US + 1) };
    untakedown_record(&world.cx, ask).await.unwrap();
    assert_eq!(state().await, (true, String::new(), "a".into()));
}

#[tokio::test]
async fn a_takedown_of_a_profile_is_seen_in_its_account() {
    let world = World::new();
    let bob = did("bob");
    let uri = world.create(&bob, PROFILE, "self", json!({"displayName": "b", "createdAt": iso(NOW_US)}), NOW_US).await;
    let profile = async || actor(&world, &bob).await.profile.unwrap();
    assert!(!profile().await.taken_down);
    let ask = proto::TakedownRecordRequest { record_uri: uri.clone(), r#ref: "r".into(), seen: None };
    takedown_record(&world.cx, ask).await.unwrap();
    let found = profile().await;
    assert_eq!((found.taken_down, found.takedown_ref.as_str(), found.record.is_empty()), (true, "r", false));
    untakedown_record(&world.cx, proto::UntakedownRecordRequest { record_uri: uri, seen: None }).await.unwrap();
    let found = profile().await;
    assert_eq!((found.taken_down, found.takedown_ref.as_str()), (false, ""));
}

#[tokio::test]
async fn a_takedown_of_a_blob_concerns_that_blob_of_that_account() {
    let world = World::new();
    let (bob, cyd) = (did("bob"), did("cyd"));
    world.actor(&bob).await;
    let blob = async |did: &str, cid: &str| {
        let ask = proto::GetBlobTakedownRequest { did: did.to_owned(), cid: cid.to_owned() };
        get_blob_takedown(&world.cx, ask).await.unwrap().takedown_ref
    };
    assert_eq!(blob(&bob, "bafone").await, "");
    let ask = |cid: &str| proto::TakedownBlobRequest {
        did: bob.clone(),
        cid: cid.to_owned(),
        r#ref: "r".into(),
        seen: seen(NOW_US),
    };
    // Said twice it is still one takedown.
    takedown_blob(&world.cx, ask("bafone")).await.unwrap();
    takedown_blob(&world.cx, ask("bafone")).await.unwrap();
    assert_eq!(blob(&bob, "bafone").await, "r");
    assert_eq!((blob(&bob, "baftwo").await, blob(&cyd, "bafone").await), (String::new(), String::new()));
    // A blob without a CID is not the account.
    let long = "b".repeat(20_000);
    for cid in ["", &long] {
        assert!(matches!(takedown_blob(&world.cx, ask(cid)).await, Err(Error::Invalid { field: "cid", .. })));
        let undo = proto::UntakedownBlobRequest { did: bob.clone(), cid: cid.to_owned(), seen: None };
        assert!(matches!(untakedown_blob(&world.cx, undo).await, Err(Error::Invalid { field: "cid", .. })));
        assert_eq!(blob(&bob, cid).await, "");
    }
    assert!(!actor(&world, &bob).await.taken_down);
    takedown_actor(&world.cx, proto::TakedownActorRequest { did: bob.clone(), ..Default::default() }).await.unwrap();
    assert_eq!(blob(&bob, "").await, "");
    let undo = proto::UntakedownBlobRequest { did: bob.clone(), cid: "bafone".into(), seen: seen(NOW_US) };
    untakedown_blob(&world.cx, undo).await.unwrap();
    assert_eq!(blob(&bob, "bafone").await, "");
    assert!(actor(&world, &bob).await.taken_down);
}

#[tokio::test]
async fn subjects_that_are_none_are_refused_by_name() {
    let world = World::new();
    let field = |error: Error| match error {
        Error::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    };
    for wrong in ["", "bob.test", "at://did:plc:x/app.bsky.feed.post/1"] {
        let ask = proto::TakedownActorRequest { did: wrong.into(), ..Default::default() };
        assert_eq!(field(takedown_actor(&world.cx, ask).await.unwrap_err()), "did");
        let ask = proto::UntakedownActorRequest { did: wrong.into(), ..Default::default() };
        assert_eq!(field(untakedown_actor(&world.cx, ask).await.unwrap_err()), "did");
        let ask = proto::TakedownBlobRequest { did: wrong.into(), cid: "bafone".into(), ..Default::default() };
        assert_eq!(field(takedown_blob(&world.cx, ask).await.unwrap_err()), "did");
    }
    for wrong in ["", "did:plc:x", "at://did:plc:x", "at://bob.test/app.bsky.feed.post/1"] {
        let ask = proto::TakedownRecordRequest { record_uri: wrong.into(), ..Default::default() };
        assert_eq!(field(takedown_record(&world.cx, ask).await.unwrap_err()), "record_uri");
        let ask = proto::UntakedownRecordRequest { record_uri: wrong.into(), ..Default::default() };
        assert_eq!(field(untakedown_record(&world.cx, ask).await.unwrap_err()), "record_uri");
    }
}

#[tokio::test]
async fn an_account_is_as_its_host_says() {
    let world = World::new();
    let bob = did("bob");
    let tell = async |did: &str, active, status: &str| {
        let ask = proto::UpdateActorUpstreamStatusRequest {
            actor_did: did.to_owned(),
            active,
            upstream_status: status.to_owned(),
        };
        update_actor_upstream_status(&world.cx, ask).await.unwrap();
        let info = actor(&world, did).await;
        (info.exists, info.upstream_status)
    };
    assert_eq!(tell(&bob, false, "suspended").await, (false, String::new()), "nobody is made by this");
    world.actor(&bob).await;
    assert_eq!(tell(&bob, false, "suspended").await, (true, "suspended".into()));
    assert_eq!(tell(&bob, true, "suspended").await, (true, String::new()));
    assert_eq!(tell(&bob, false, "").await, (true, "deactivated".into()));
    assert_eq!(tell(&bob, true, "").await, (true, String::new()));
}
