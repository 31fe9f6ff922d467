//! Subscriptions to activity, and what subscribers are told.

use serde_json::json;

use super::*;
use crate::{
    notifications,
    private::{self, Method, Operation},
    testing::{World, at, did, iso, walk},
};

async fn subscribe(world: &World, actor: &str, subject: &str, key: &str, flags: (bool, bool), time_us: i64) {
    let payload = json!({"subject": subject, "activitySubscription": {"post": flags.0, "reply": flags.1}}).to_string();
    let (actor, key) = (actor.to_owned(), key.to_owned());
    world
        .write(move |view| {
            let method = Method::Create;
            let op = Operation { method, actor: &actor, namespace: NAMESPACE, key: &key, payload: &payload };
            private::apply(view, &op, time_us)
        })
        .await;
}

async fn told(world: &World, actor: &str) -> Vec<(String, String)> {
    let ask = proto::GetNotificationsRequest { actor_did: actor.to_owned(), limit: 100, ..Default::default() };
    let found = notifications::get_notifications(&world.cx, ask).await.unwrap().notifications;
    let mut told: Vec<_> = found
        .into_iter()
        .filter(|it| it.reason != "follow")
        .map(|it| (it.reason, it.uri.rsplit('/').next().unwrap().to_owned()))
        .collect();
    told.sort();
    told
}

fn post(text: &str, reply_to: Option<&str>, time_us: i64) -> Value {
    let mut record = json!({"text": text, "createdAt": iso(time_us)});
    if let Some(parent) = reply_to {
        let parent = json!({"uri": parent, "cid": crate::testing::ANY_CID});
        record["reply"] = json!({"root": parent, "parent": parent});
    }
    record
}

const POST: &str = "app.bsky.feed.post";

#[tokio::test]
async fn subscribers_are_told_of_what_they_asked_for_and_of_nothing_older() {
    let world = World::new();
    let (author, posts, all, stranger) = (did("author"), did("posts"), did("all"), did("stranger"));
    for follower in [&posts, &all] {
        world.follow(follower, &author, "f", at(-10)).await;
    }
    subscribe(&world, &posts, &author, "3ksub00000001", (true, false), at(0)).await;
    subscribe(&world, &all, &author, "3ksub00000001", (true, true), at(0)).await;
    // Only followers may, unless the author says otherwise.
    subscribe(&world, &stranger, &author, "3ksub00000001", (true, true), at(0)).await;
    let hours = 3_600;
    world.create(&author, POST, "old", post("old", None, at(-2 * hours)), at(1)).await;
    world.create(&author, POST, "skewed", post("skewed", None, at(-hours / 2)), at(1)).await;
    let root = world.create(&author, POST, "new", post("new", None, at(2)), at(2)).await;
    world.create(&author, POST, "reply", post("reply", Some(&root), at(3)), at(3)).await;
    let mine = world.create(&all, POST, "mine", post("mine", None, at(4)), at(4)).await;
    world.create(&author, POST, "answer", post("answer", Some(&mine), at(5)), at(5)).await;
    world.update(&author, POST, "new", post("changed", None, at(2)), at(6)).await;
    let of = |posts: &[(&str, &str)]| posts.iter().map(|(r, p)| ((*r).into(), (*p).into())).collect::<Vec<_>>();
    assert_eq!(told(&world, &posts).await, of(&[("subscribed-post", "new"), ("subscribed-post", "skewed")]));
    // Whoever is told of a post for another reason is not told twice.
    let expected =
        [("reply", "answer"), ("subscribed-post", "new"), ("subscribed-post", "reply"), ("subscribed-post", "skewed")];
    assert_eq!(told(&world, &all).await, of(&expected));
    assert!(told(&world, &stranger).await.is_empty());
    assert!(told(&world, &author).await.is_empty());
}

#[tokio::test]
async fn nobody_is_told_across_a_block_or_against_the_authors_wish() {
    let world = World::new();
    let (author, blocks, blocked, mutual, fan) =
        (did("author"), did("blocks"), did("blocked"), did("mutual"), did("fan"));
    for follower in [&blocks, &blocked, &mutual, &fan] {
        world.follow(follower, &author, "f", at(-10)).await;
        subscribe(&world, follower, &author, "3ksub00000001", (true, true), at(-10)).await;
    }
    world.follow(&author, &mutual, "f", at(-10)).await;
    world.block(&blocks, &author, "b", at(-10)).await;
    world.block(&author, &blocked, "b", at(-10)).await;
    world.create(&author, POST, "one", post("one", None, at(1)), at(1)).await;
    let counts = async || {
        let mut counts = Vec::new();
        for one in [&blocks, &blocked, &mutual, &fan] {
            counts.push(told(&world, one).await.len());
        }
        counts
    };
    assert_eq!(counts().await, [0, 0, 1, 1]);
    const DECLARATION: &str = "app.bsky.notification.declaration";
    world.create(&author, DECLARATION, "self", json!({"allowSubscriptions": "mutuals"}), at(2)).await;
    world.create(&author, POST, "two", post("two", None, at(3)), at(3)).await;
    assert_eq!(counts().await, [0, 0, 2, 1]);
    world.update(&author, DECLARATION, "self", json!({"allowSubscriptions": "none"}), at(4)).await;
    world.create(&author, POST, "three", post("three", None, at(5)), at(5)).await;
    assert_eq!(counts().await, [0, 0, 2, 1]);
    world.delete(&author, DECLARATION, "self", at(6)).await;
    world.delete(&blocks, "app.bsky.graph.block", "b", at(6)).await;
    world.create(&author, POST, "four", post("four", None, at(7)), at(7)).await;
    assert_eq!(counts().await, [1, 0, 3, 2]);
}

#[tokio::test]
async fn subscriptions_are_paged_by_key_newest_first_and_a_foreign_token_is_refused() {
    let world = World::new();
    let me = did("me");
    let mut expected = Vec::new();
    for i in 0..9u8 {
        let subject = format!("did:web:s{i}.test");
        let key = format!("3kaaaaaaaaaa{}", (b'a' + i) as char);
        subscribe(&world, &me, &subject, &key, (true, false), at(0)).await;
        expected.insert(0, subject);
    }
    let found = walk!(|limit, cursor| {
        let ask = proto::GetActivitySubscriptionDidsRequest { actor_did: me.clone(), limit, cursor };
        let found = get_activity_subscription_dids(&world.cx, ask).await.unwrap();
        (found.dids, found.cursor)
    });
    assert_eq!(found, expected);
    let ask = proto::GetActivitySubscriptionDidsRequest { actor_did: me, limit: 1, cursor: "a b".into() };
    let refused = get_activity_subscription_dids(&world.cx, ask).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "cursor", .. })), "{refused:?}");
}
