//! Accounts as they are read.

use serde_json::json;

use super::*;
use crate::testing::{World, at, did, iso};

async fn infos(world: &World, dids: &[&str], aged: &[&str]) -> Vec<proto::ActorInfo> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let ask =
        proto::GetActorsRequest { dids: owned(dids), return_age_assurance_for_dids: owned(aged), ..Default::default() };
    get_actors(&world.cx, ask).await.unwrap().actors
}

async fn verify(world: &World, issuer: &str, subject: &str, name: &str, time_us: i64) {
    let record = json!({"subject": subject, "handle": "a.test", "displayName": name, "createdAt": iso(time_us)});
    world.create(issuer, verifications::SHAPE.collection, "v", record, time_us).await;
}

#[tokio::test]
async fn the_words_of_trusted_issuers_come_oldest_first_however_many_others_speak() {
    let world = World::new();
    let (subject, late, early, doubtful) = (did("subject"), did("late"), did("early"), did("doubtful"));
    world.actor(&subject).await;
    verify(&world, &late, &subject, "late", at(-5)).await;
    verify(&world, &early, &subject, "early", at(-10)).await;
    verify(&world, &doubtful, &subject, "doubtful", at(-20)).await;
    let shown = async || {
        let info = infos(&world, &[&subject], &[]).await.remove(0);
        let said = |it: proto::VerifiedByEntry| (it.key, it.value.unwrap());
        let said = info.verified_by.into_iter().map(said);
        said.map(|(issuer, it)| (issuer, it.rkey, it.handle, it.display_name, it.sorted_at)).collect::<Vec<_>>()
    };
    assert!(shown().await.is_empty());
    let trusted = [late.clone(), early.clone()];
    world
        .write(move |view| {
            for issuer in &trusted {
                set_trusted_verifier(view, issuer, true)?;
            }
            Ok(())
        })
        .await;
    let said = |issuer: &str, name: &str, seconds| {
        let at = Some(records::timestamp(at(seconds)));
        (issuer.to_owned(), "v".to_owned(), "a.test".to_owned(), name.to_owned(), at)
    };
    let expected = [said(&early, "early", -10), said(&late, "late", -5)];
    assert_eq!(shown().await, expected);
    // Anybody can claim to have verified somebody, and to have done so long ago.
    for i in 0..=VERIFICATIONS_READ_MAX {
        verify(&world, &format!("did:web:crowd{i}.test"), &subject, "crowd", at(-1_000)).await;
    }
    assert_eq!(shown().await, expected);
    let doubted = late.clone();
    world.write(move |view| set_trusted_verifier(view, &doubted, false)).await;
    assert_eq!(shown().await, expected[..1]);
    world.delete(&early, verifications::SHAPE.collection, "v", at(0)).await;
    assert!(shown().await.is_empty());
}

#[tokio::test]
async fn age_assurance_is_told_only_of_those_it_was_asked_for() {
    let world = World::new();
    let (ann, ben, nobody) = (did("ann"), did("ben"), did("nobody"));
    for one in [&ann, &ben] {
        world.actor(one).await;
    }
    let event = |status: &str, access: &str| json!({"status": status, "access": access, "createdAt": iso(at(-7))});
    let apply = async |actor: &str, event: serde_json::Value| {
        let (actor, payload) = (actor.to_owned(), event.to_string());
        world
            .write(move |view| {
                let op = private::Operation {
                    method: private::Method::Create,
                    actor: &actor,
                    namespace: "app.bsky.ageassurance.defs#event",
                    key: "3jzfcijpj2z2a",
                    payload: &payload,
                };
                private::apply(view, &op, at(0))
            })
            .await;
    };
    let state = async |did: &str| {
        let age = infos(&world, &[did], &[did]).await.remove(0).age_assurance_status.unwrap();
        (age.status, age.access, age.last_initiated_at)
    };
    let told = |status: &str, access: &str, at| (status.to_owned(), access.to_owned(), at);
    let begun = Some(records::timestamp(at(-7)));
    assert_eq!(state(&ann).await, told("unknown", "unknown", None));
    apply(&ann, event("pending", "unknown")).await;
    assert_eq!(state(&ann).await, told("pending", "unknown", begun));
    // The access follows from the status where it is not told.
    apply(&ann, event("assured", "unknown")).await;
    assert_eq!(state(&ann).await, told("assured", "full", begun));
    apply(&ann, event("blocked", "unknown")).await;
    assert_eq!(state(&ann).await, told("blocked", "none", begun));
    apply(&ann, event("assured", "safe")).await;
    assert_eq!(state(&ann).await, told("assured", "safe", begun));
    // Also of an account that was never seen, which stays unknown.
    apply(&nobody, event("assured", "full")).await;
    assert_eq!(state(&nobody).await, told("assured", "full", None));
    let found = infos(&world, &[&ann, &ben, &nobody, &ann], &[&ben]).await;
    let has_age: Vec<bool> = found.iter().map(|it| it.age_assurance_status.is_some()).collect();
    assert_eq!(has_age, [false, true, false, false]);
    assert_eq!(found.iter().map(|it| it.exists).collect::<Vec<_>>(), [true, true, false, true]);
}

#[tokio::test]
async fn with_an_account_go_its_bookmarks_from_the_counts_of_others() {
    let world = World::new();
    let (ann, ben) = (did("ann"), did("ben"));
    let post = world.post(&ben, "p", at(0)).await;
    world.actor(&ann).await;
    let bookmark = json!({"subject": {"uri": post, "cid": crate::testing::ANY_CID}}).to_string();
    let subscription = json!({"subject": ben, "activitySubscription": {"post": true, "reply": false}}).to_string();
    let (actor, key) = (ann.clone(), "3jzfcijpj2z2a");
    world
        .write(move |view| {
            for (namespace, payload) in [
                ("app.bsky.bookmark.defs#bookmark", &bookmark),
                ("app.bsky.notification.defs#subjectActivitySubscription", &subscription),
            ] {
                let method = private::Method::Create;
                private::apply(view, &private::Operation { method, actor: &actor, namespace, key, payload }, at(0))?;
            }
            Ok(())
        })
        .await;
    let head =
        async |subject: &str| Head::read(world.cx.store.get_one(&tables::on_head(subject)).await.unwrap().as_ref());
    assert_eq!(head(&post).await.on(OnCount::Bookmarks), 1);
    assert_eq!(head(&ben).await.on(OnCount::Subscribers), 1);
    let deleted = ann.clone();
    assert!(world.write(move |view| delete_page(view, &deleted, at(9), 100)).await);
    assert_eq!(head(&post).await.on(OnCount::Bookmarks), 0);
    assert_eq!(head(&ben).await.on(OnCount::Subscribers), 0);
    let scan = Scan::of(Key::of(&PRIVATE).atom(&atom::did(&ann)).partition());
    // The head stays: it says when the account went.
    let left = world.cx.store.scan(scan).await.unwrap().rows;
    assert!(left.iter().all(|row| row.clustering().is_empty()), "{left:?}");
}
