//! Mutes of accounts, lists and threads.

use super::*;
use crate::testing::{World, at, did, walk};

async fn apply(world: &World, op: MuteOp, actor: &str, subject: &str, scope: u8, time_us: i64) {
    let (actor, subject) = (actor.to_owned(), subject.to_owned());
    world.write(move |view| apply_mute(view, op, &actor, &subject, scope, time_us)).await;
}

async fn listed(world: &World, actor: &str) -> Vec<proto::MuteInfo> {
    walk!(|limit, cursor| {
        let ask = proto::GetMutesRequest { actor_did: actor.to_owned(), limit, cursor };
        let found = get_mutes(&world.cx, ask).await.unwrap();
        assert!(found.mutes.iter().map(|it| &it.did).eq(&found.dids));
        (found.mutes, found.cursor)
    })
}

async fn muted(world: &World, actor: &str, target: &str) -> (bool, bool, bool) {
    let ask = proto::GetActorMutesActorRequest { actor_did: actor.to_owned(), target_did: target.to_owned() };
    let it = get_actor_mutes_actor(&world.cx, ask).await.unwrap();
    (it.muted, it.muted_only_reposts, it.muted_only_quoteposts)
}

async fn counts(world: &World, actor: &str) -> [i32; 3] {
    let head = world.cx.store.get_one(&tables::private_head(actor)).await.unwrap();
    let head = crate::counts::Head::read(head.as_ref());
    [PrivateCount::Mutes, PrivateCount::ListMutes, PrivateCount::ThreadMutes].map(|cell| head.private(cell))
}

#[tokio::test]
async fn a_change_of_scope_keeps_the_time_and_a_new_mute_does_not() {
    let world = World::new();
    let (me, ann, ben) = (did("me"), did("ann"), did("ben"));
    for one in [&ann, &ben] {
        world.actor(one).await;
    }
    apply(&world, MuteOp::Add, &me, &ann, 0, at(0)).await;
    apply(&world, MuteOp::Add, &me, &ben, 0, at(1)).await;
    let order = async || listed(&world, &me).await.into_iter().map(|it| it.did).collect::<Vec<_>>();
    assert_eq!(order().await, [ben.clone(), ann.clone()]);
    apply(&world, MuteOp::Add, &me, &ann, ONLY_REPOSTS | ONLY_QUOTES, at(2)).await;
    assert_eq!(muted(&world, &me, &ann).await, (false, true, true));
    let first = &listed(&world, &me).await[1];
    assert_eq!((&first.did, first.only_reposts, first.only_quoteposts), (&ann, true, true));
    apply(&world, MuteOp::Remove, &me, &ann, 0, at(3)).await;
    assert_eq!(muted(&world, &me, &ann).await, (false, false, false));
    apply(&world, MuteOp::Add, &me, &ann, 0, at(4)).await;
    assert_eq!(order().await, [ann, ben]);
    assert_eq!(counts(&world, &me).await, [2, 0, 0]);
}

#[tokio::test]
async fn accounts_never_seen_do_not_end_a_listing() {
    let world = World::new();
    let me = did("me");
    let first = did("first");
    world.actor(&first).await;
    apply(&world, MuteOp::Add, &me, &first, 0, at(-1_000)).await;
    let actor = me.clone();
    world
        .write(move |view| {
            // More than one page looks at.
            for i in 0..ROUNDS_MAX * ROUND_ROWS + 50 {
                apply_mute(view, MuteOp::Add, &actor, &format!("did:web:unknown{i}.test"), 0, at(i as i64))?;
            }
            Ok(())
        })
        .await;
    let found = listed(&world, &me).await;
    assert_eq!(found.into_iter().map(|it| it.did).collect::<Vec<_>>(), [first]);
}

#[tokio::test]
async fn clearing_forgets_every_mute_however_many_and_leaves_what_it_should() {
    let world = World::new();
    let (me, other) = (did("me"), did("other"));
    let list = format!("at://{other}/{}/l", lists::LIST);
    let thread = format!("at://{other}/app.bsky.feed.post/p");
    let many = CLEARED_PER_ROUND + 5;
    let fill = async || {
        let actor = me.clone();
        world
            .write(move |view| {
                for i in 0..many {
                    apply_mute(view, MuteOp::Add, &actor, &format!("did:web:m{i}.test"), 0, at(i as i64))?;
                }
                Ok(())
            })
            .await;
        for subject in [&list, &thread] {
            apply(&world, MuteOp::Add, &me, subject, 0, at(0)).await;
        }
        assert_eq!(counts(&world, &me).await, [many as i32, 1, 1]);
    };
    let rows = async |kind| world.cx.store.scan(tables::scan_private(&me, kind)).await.unwrap().rows.len();
    fill().await;
    clear_actor_mutes(&world.cx, proto::ClearActorMutesRequest { actor_did: me.clone() }).await.unwrap();
    assert_eq!((rows(private::MUTE).await, rows(private::MUTE_BY_TIME).await), (0, 0));
    assert_eq!(counts(&world, &me).await, [0, 1, 1], "lists and threads stay");
    fill().await;
    apply(&world, MuteOp::Clear, &me, "", 0, at(1)).await;
    assert_eq!((rows(private::MUTE).await, rows(private::MUTE_BY_TIME).await), (0, 0));
    assert_eq!(counts(&world, &me).await, [0, 0, 1], "threads stay");
    clear_thread_mutes(&world.cx, proto::ClearThreadMutesRequest { actor_did: me.clone() }).await.unwrap();
    assert_eq!(counts(&world, &me).await, [0, 0, 0]);
}

#[tokio::test]
async fn threads_and_lists_are_muted_once_and_unmuted_once() {
    let world = World::new();
    let (me, other) = (did("me"), did("other"));
    let list = world.list(&other, "modlist", "l", at(0)).await;
    let roots = ["p", "q"].map(|rkey| format!("at://{other}/app.bsky.feed.post/{rkey}"));
    let threads = async || {
        let thread_roots = vec![roots[0].clone(), "junk".into(), roots[1].clone(), roots[0].clone()];
        let ask = proto::GetThreadMutesOnSubjectsRequest { actor_did: me.clone(), thread_roots };
        get_thread_mutes_on_subjects(&world.cx, ask).await.unwrap().muted
    };
    let subscribed = async || {
        let ask = proto::GetMutelistSubscriptionRequest { actor_did: me.clone(), list_uri: list.clone() };
        get_mutelist_subscription(&world.cx, ask).await.unwrap().subscribed
    };
    assert_eq!((threads().await, subscribed().await), (vec![false; 4], false));
    for _ in 0..2 {
        let ask = proto::CreateThreadMuteRequest { actor_did: me.clone(), thread_root: roots[0].clone() };
        create_thread_mute(&world.cx, ask).await.unwrap();
        let ask = proto::CreateActorMutelistSubscriptionRequest { actor_did: me.clone(), subject_uri: list.clone() };
        create_actor_mutelist_subscription(&world.cx, ask).await.unwrap();
    }
    assert_eq!((threads().await, subscribed().await), (vec![true, false, false, true], true));
    assert_eq!(counts(&world, &me).await, [0, 1, 1]);
    for _ in 0..2 {
        let ask = proto::DeleteThreadMuteRequest { actor_did: me.clone(), thread_root: roots[0].clone() };
        delete_thread_mute(&world.cx, ask).await.unwrap();
        let ask = proto::DeleteActorMutelistSubscriptionRequest { actor_did: me.clone(), subject_uri: list.clone() };
        delete_actor_mutelist_subscription(&world.cx, ask).await.unwrap();
    }
    assert_eq!((threads().await, subscribed().await), (vec![false; 4], false));
    assert_eq!(counts(&world, &me).await, [0, 0, 0]);
}

#[tokio::test]
async fn what_cannot_be_muted_is_refused_by_name() {
    let world = World::new();
    let me = did("me");
    let refused = |error: Error| match error {
        Error::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    };
    for (actor, subject, field) in [
        (me.as_str(), me.as_str(), "subject_did"),
        (&me, "bob.test", "subject_did"),
        (&me, "", "subject_did"),
        ("", &me, "actor_did"),
    ] {
        let ask = proto::CreateActorMuteRequest {
            actor_did: actor.into(),
            subject_did: subject.into(),
            ..Default::default()
        };
        assert_eq!(refused(create_actor_mute(&world.cx, ask).await.unwrap_err()), field);
        let ask = proto::DeleteActorMuteRequest { actor_did: actor.into(), subject_did: subject.into() };
        assert_eq!(refused(delete_actor_mute(&world.cx, ask).await.unwrap_err()), field);
    }
    for root in ["", "bob.test", "https://a.test"] {
        let ask = proto::CreateThreadMuteRequest { actor_did: me.clone(), thread_root: root.into() };
        assert_eq!(refused(create_thread_mute(&world.cx, ask).await.unwrap_err()), "thread_root");
    }
    let post = format!("at://{me}/app.bsky.feed.post/p");
    let ask = proto::CreateActorMutelistSubscriptionRequest { actor_did: me.clone(), subject_uri: post };
    assert_eq!(refused(create_actor_mutelist_subscription(&world.cx, ask).await.unwrap_err()), "subject_uri");
    for cursor in ["x", "1", "__did:plc:x", "1__", "x__y", "99999999999999999999__did:plc:x"] {
        let ask = proto::GetMutesRequest { actor_did: me.clone(), limit: 1, cursor: cursor.into() };
        assert_eq!(refused(get_mutes(&world.cx, ask).await.unwrap_err()), "cursor", "{cursor}");
        let ask = proto::GetMutelistSubscriptionsRequest { actor_did: me.clone(), limit: 1, cursor: cursor.into() };
        assert_eq!(refused(get_mutelist_subscriptions(&world.cx, ask).await.unwrap_err()), "cursor", "{cursor}");
    }
}
