//! Suggestions: the operator's lists, and the graph where there are none.

use serde_json::json;

use super::*;
use crate::{
    moderation,
    testing::{World, at, did, iso},
};

async fn set(world: &World, list: Curated, entries: &[String]) {
    let entries = entries.to_vec();
    world
        .write(move |view| {
            set_list(view, list, &entries);
            Ok(())
        })
        .await;
}

fn ask(actor: &str, relative_to: &str, limit: i32, cursor: &str) -> proto::GetFollowSuggestionsRequest {
    let [actor_did, relative_to_did, cursor] = [actor, relative_to, cursor].map(str::to_owned);
    proto::GetFollowSuggestionsRequest { actor_did, relative_to_did, limit, cursor }
}

async fn follows(world: &World, actor: &str, limit: i32, cursor: &str) -> (Vec<String>, String) {
    let found = get_follow_suggestions(&world.cx, ask(actor, "", limit, cursor)).await.unwrap();
    (found.dids, found.cursor)
}

/// Walks to the empty page that ends it. Pages change their size; no token has a double colon.
async fn all_follows(world: &World, actor: &str) -> Vec<String> {
    let (mut all, mut token) = (Vec::new(), String::new());
    for round in 0..1_000 {
        let (dids, cursor) = follows(world, actor, [1, 2, 3, 7][round % 4], &token).await;
        assert!(!cursor.contains("::"), "{cursor}");
        all.extend(dids.clone());
        if cursor.is_empty() {
            assert!(dids.is_empty());
            return all;
        }
        token = cursor;
    }
    panic!("the walk does not end");
}

/// Makes an account with followers who are nobody else's.
async fn popular_account(world: &World, name: &str, followers: usize) -> String {
    let star = did(name);
    world.actor(&star).await;
    let (subject, fans) = (star.clone(), name.to_owned());
    world
        .write(move |view| {
            for i in 0..followers {
                let record = json!({"$type": "app.bsky.graph.follow", "subject": subject, "createdAt": iso(at(0))});
                let block = gp_atproto::json::to_cbor(&record).unwrap();
                let op = crate::apply::Op {
                    action: crate::apply::Action::Create,
                    collection: "app.bsky.graph.follow",
                    rkey: "f",
                    cid: None,
                    record: Some(&block),
                };
                let mut applied = crate::apply::Applied::default();
                crate::apply::apply_op(view, &format!("did:web:{fans}{i}.test"), "r", &op, at(0), &mut applied)?;
                assert_eq!(applied.created, 1);
            }
            Ok(())
        })
        .await;
    star
}

async fn take_down(world: &World, subject: &str, down: bool) {
    let subject = subject.to_owned();
    let job = move |view: &mut View<'_>| {
        let record = subject.starts_with("at:").then_some(subject.as_str());
        moderation::set(view, moderation::key_of_subject(&subject), record, down.then_some("ref"), 0)
    };
    world.write(job).await;
}

#[tokio::test]
async fn the_operators_first_two_come_first_and_a_walk_shows_each_once() {
    let world = World::new();
    let list: Vec<String> = (0..9u8).map(|i| did(&format!("s{}", (b'a' + i) as char))).collect();
    for one in &list {
        world.actor(one).await;
    }
    // Unknown accounts and repetitions are no suggestions.
    let mut given = list.clone();
    given.insert(4, did("unknown"));
    given.push(list[3].clone());
    set(&world, Curated::Follows, &given).await;
    let (first, _) = follows(&world, "", 2, "").await;
    assert_eq!(first, list[..2]);
    let mut all = all_follows(&world, "").await;
    assert_eq!(all[..2], list[..2]);
    all.sort();
    assert_eq!(all, list);
    let (everybody, _) = follows(&world, "", 0, "").await;
    assert_eq!(everybody.len(), list.len());
    // A token that clients made of ours, or of nothing.
    for token in ["1::2:x", ":::", "x"] {
        let (_, cursor) = follows(&world, "", 1, token).await;
        assert!(!cursor.is_empty() && !cursor.contains("::") && !cursor.contains('x'), "{cursor}");
    }
    assert!(!follows(&world, "", 9, "1::2:x").await.0.contains(&list[0]));
}

#[tokio::test]
async fn nobody_is_told_of_himself_of_whom_he_follows_or_of_who_is_hidden() {
    let world = World::new();
    let list: Vec<String> = ["me", "friend", "down", "away", "other"].map(did).to_vec();
    for one in &list {
        world.actor(one).await;
    }
    set(&world, Curated::Follows, &list).await;
    world.follow(&list[0], &list[1], "f", at(0)).await;
    take_down(&world, &list[2], true).await;
    let away = list[3].clone();
    world.write(move |view| actors::set_account(view, &away, false, Some("suspended"), at(0))).await;
    assert_eq!(all_follows(&world, &list[0]).await, [list[4].clone()]);
    take_down(&world, &list[2], false).await;
    let mut all = all_follows(&world, &list[0]).await;
    all.sort();
    assert_eq!(all, [list[2].clone(), list[4].clone()]);
}

#[tokio::test]
async fn a_walk_of_a_long_list_ends_before_its_token_is_too_long() {
    let world = World::new();
    let list: Vec<String> = (0..700).map(|i| format!("did:web:s{i}.test")).collect();
    let seen = list.clone();
    world
        .write(move |view| {
            for one in &seen {
                actors::touch(view, one, at(0))?;
            }
            Ok(())
        })
        .await;
    set(&world, Curated::Follows, &list).await;
    let (mut all, mut token) = (HashSet::new(), String::new());
    loop {
        let (dids, cursor) = follows(&world, "", 100, &token).await;
        assert!(cursor.len() < 5_000, "{}", cursor.len());
        assert!(dids.into_iter().all(|did| all.insert(did)), "shown twice");
        if cursor.is_empty() {
            break;
        }
        token = cursor;
    }
    assert_eq!(all.len(), SHOWN_MAX);
}

#[tokio::test]
async fn without_a_list_those_followed_most_come_first_for_everybody() {
    let world = World::new();
    let big = popular_account(&world, "big", 40).await;
    let middle = popular_account(&world, "middle", 20).await;
    let small = popular_account(&world, "small", 2).await;
    world.actor(&did("nobody")).await;
    assert_eq!(all_follows(&world, "").await, [big.clone(), middle.clone(), small.clone()]);
    assert_eq!(follows(&world, "", 2, "").await.0, [big.clone(), middle.clone()]);
    take_down(&world, &big, true).await;
    assert_eq!(all_follows(&world, "").await, [middle.clone(), small.clone()]);
    // Counts that change between pages bring nobody twice.
    let (first, token) = follows(&world, "", 1, "").await;
    assert_eq!(first, std::slice::from_ref(&middle));
    take_down(&world, &big, false).await;
    assert_eq!(follows(&world, "", 9, &token).await.0, [big.clone(), small.clone()]);
    // A list of the operator's takes their place, an empty one too, until it is forgotten.
    set(&world, Curated::Follows, &[]).await;
    assert_eq!(follows(&world, "", 9, "").await, (vec![], String::new()));
    world
        .write(|view| {
            forget_list(view, Curated::Follows);
            Ok(())
        })
        .await;
    assert_eq!(all_follows(&world, "").await, [big, middle, small]);
}

#[tokio::test]
async fn without_a_list_the_neighbourhood_comes_before_the_popular() {
    let world = World::new();
    let (me, friends) = (did("me"), [did("fa"), did("fb"), did("fc")]);
    let (often, once, author, fewer) = (did("often"), did("once"), did("author"), did("fewer"));
    let star = popular_account(&world, "star", 30).await;
    for one in [&often, &once, &author, &fewer] {
        world.actor(one).await;
    }
    for (i, friend) in friends.iter().enumerate() {
        world.follow(&me, friend, &format!("f{i}"), at(0)).await;
        world.follow(friend, &often, "often", at(0)).await;
        // Friends follow each other and me, which is no news.
        world.follow(friend, &me, "me", at(0)).await;
        world.follow(friend, &friends[(i + 1) % 3], "friend", at(0)).await;
    }
    world.follow(&friends[0], &once, "once", at(0)).await;
    world.follow(&friends[0], &fewer, "fewer", at(0)).await;
    // Met as often as `fewer`, but followed by more.
    world.follow(&did("fan"), &once, "f", at(0)).await;
    for rkey in ["p", "q"] {
        let post = world.post(&author, rkey, at(0)).await;
        world.like(&me, &post, rkey, at(0)).await;
    }
    let expected = [often.clone(), author.clone(), once.clone(), fewer.clone(), star.clone()];
    assert_eq!(follows(&world, &me, 5, "").await.0, expected);
    let all = all_follows(&world, &me).await;
    assert_eq!(all[..5], expected);
    assert!(!all.contains(&me) && friends.iter().all(|friend| !all.contains(friend)), "{all:?}");
    // Whoever is not signed in has no neighbourhood.
    assert_eq!(follows(&world, "", 1, "").await.0, [star]);
}

#[tokio::test]
async fn suggestions_relative_to_somebody_are_one_page_of_whom_that_one_likes() {
    let world = World::new();
    let (me, subject) = (did("me"), did("subject"));
    let (twice, once, mine, curated) = (did("twice"), did("once"), did("mine"), did("curated"));
    for one in [&twice, &once, &mine, &curated, &subject] {
        world.actor(one).await;
    }
    for (author, rkeys) in [(&twice, &["a", "b"][..]), (&once, &["c"]), (&mine, &["d", "e", "f"]), (&subject, &["g"])] {
        for rkey in rkeys {
            let post = world.post(author, rkey, at(0)).await;
            world.like(&subject, &post, rkey, at(0)).await;
        }
    }
    world.follow(&me, &mine, "f", at(0)).await;
    let relative = async |limit, cursor: &str| {
        let found = get_follow_suggestions(&world.cx, ask(&me, &subject, limit, cursor)).await.unwrap();
        (found.dids, found.cursor)
    };
    set(&world, Curated::Follows, &[curated.clone(), mine.clone(), twice.clone()]).await;
    assert_eq!(relative(0, "").await, (vec![twice.clone(), once.clone(), curated.clone()], String::new()));
    assert_eq!(relative(1, "").await, (vec![twice.clone()], String::new()));
    assert_eq!(relative(5, "1").await, (vec![], String::new()));
    world
        .write(|view| {
            forget_list(view, Curated::Follows);
            Ok(())
        })
        .await;
    // Without a list whom the subject follows fills the page, which has at most ten.
    for i in 0..20 {
        let friend = format!("did:web:friend{i}.test");
        world.actor(&friend).await;
        world.follow(&subject, &friend, &format!("f{i}"), at(0)).await;
    }
    let (dids, cursor) = relative(100, "").await;
    assert_eq!((dids.len(), cursor.as_str()), (10, ""));
    assert_eq!(dids[..2], [twice, once]);
    assert!(dids[2..].iter().all(|did| did.starts_with("did:web:friend")), "{dids:?}");
}

async fn feeds(world: &World, limit: i32, cursor: &str) -> Result<(Vec<String>, String)> {
    let ask = proto::GetSuggestedFeedsRequest { actor_did: String::new(), limit, cursor: cursor.to_owned() };
    get_suggested_feeds(&world.cx, ask).await.map(|found| (found.uris, found.cursor))
}

async fn all_feeds(world: &World) -> Vec<String> {
    crate::testing::walk!(|limit, cursor| feeds(world, limit, &cursor).await.unwrap())
}

async fn feed(world: &World, owner: &str, rkey: &str, likes: u32) -> String {
    let record = json!({"did": "did:web:feeds.test", "displayName": rkey, "createdAt": iso(at(0))});
    let uri = world.create(&did(owner), generators::NSID, rkey, record, at(0)).await;
    for i in 0..likes {
        world.like(&format!("did:web:fan{i}.test"), &uri, &format!("{owner}{rkey}"), at(0)).await;
    }
    uri
}

#[tokio::test]
async fn without_a_list_the_feeds_liked_most_come_first_and_hidden_ones_not_at_all() {
    let world = World::new();
    let mut expected = Vec::new();
    for (rkey, likes) in [("one", 9), ("two", 5), ("three", 4)] {
        expected.push(feed(&world, "maker", rkey, likes).await);
    }
    let mut equal = Vec::new();
    for rkey in ["a", "b", "c", "d"] {
        equal.push(feed(&world, "maker", rkey, 1).await);
    }
    feed(&world, "maker", "unliked", 0).await;
    let down = feed(&world, "maker", "down", 20).await;
    take_down(&world, &down, true).await;
    feed(&world, "banned", "f", 20).await;
    take_down(&world, &did("banned"), true).await;
    feed(&world, "maker", "gone", 20).await;
    world.delete(&did("maker"), generators::NSID, "gone", at(1)).await;
    let all = all_feeds(&world).await;
    assert_eq!(all[..3], expected);
    let mut rest = all[3..].to_vec();
    rest.sort();
    assert_eq!(rest, equal);
    assert_eq!(feeds(&world, 0, "").await.unwrap(), (all.clone(), String::new()));
    assert_eq!(feeds(&world, 7, "").await.unwrap(), (all.clone(), String::new()), "an exact fit ends");
    assert_eq!(feeds(&world, -1, "").await.unwrap(), (vec![], String::new()));
    take_down(&world, &down, false).await;
    assert_eq!(feeds(&world, 1, "").await.unwrap().0, [down]);
}

#[tokio::test]
async fn the_operators_feeds_come_in_order_and_foreign_tokens_end_or_are_refused() {
    let world = World::new();
    for rkey in ["p", "q"] {
        feed(&world, "maker", rkey, 3).await;
    }
    let (_, of_the_graph) = feeds(&world, 1, "").await.unwrap();
    assert!(!of_the_graph.is_empty());
    let list: Vec<String> = (0..120).map(|i| format!("at://did:plc:x/{}/{i}", generators::NSID)).collect();
    set(&world, Curated::Feeds, &list).await;
    assert_eq!(all_feeds(&world).await, list);
    let (page, of_the_list) = feeds(&world, 0, "").await.unwrap();
    assert_eq!((page.len(), of_the_list.as_str()), (FEEDS_DEFAULT, "50"));
    assert_eq!(feeds(&world, 5, &of_the_graph).await.unwrap(), (vec![], String::new()));
    assert_eq!(feeds(&world, 5, "99999").await.unwrap(), (vec![], String::new()));
    world
        .write(|view| {
            forget_list(view, Curated::Feeds);
            Ok(())
        })
        .await;
    assert_eq!(feeds(&world, 5, &of_the_list).await.unwrap(), (vec![], String::new()));
    for wrong in ["x", "1_", "_1", "1_x", "-1", "1_2_3"] {
        let refused = feeds(&world, 5, wrong).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "cursor", .. })), "{wrong}: {refused:?}");
    }
}

#[tokio::test]
async fn things_by_subject_are_the_operators_or_else_what_is_popular() {
    let world = World::new();
    let entities = async || {
        let ask = proto::GetSuggestedEntitiesRequest::default();
        let found = get_suggested_entities(&world.cx, ask).await.unwrap().entities;
        found.into_iter().map(|it| (it.tag, it.subject, it.subject_type)).collect::<Vec<_>>()
    };
    assert!(entities().await.is_empty());
    let star = popular_account(&world, "star", 20).await;
    let liked = feed(&world, "maker", "f", 2).await;
    let popular = |subject: &str, kind: &str| ("popular".to_owned(), subject.to_owned(), kind.to_owned());
    assert_eq!(entities().await, [popular(&star, "actor"), popular(&liked, "feed")]);
    let given = Entity { tag: "art".into(), subject: star.clone(), subject_type: "actor".into() };
    let stored = given.clone();
    world
        .write(move |view| {
            set_list(view, Curated::Entities, &[stored]);
            Ok(())
        })
        .await;
    assert_eq!(entities().await, [(given.tag, given.subject, given.subject_type)]);
    set(&world, Curated::Entities, &[]).await;
    assert!(entities().await.is_empty());
}
