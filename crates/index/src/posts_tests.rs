//! Posts, gates and notices, in order and out of order (ingest 7.1, 7.4, 7.5, 8.2).

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    feeds, gates, interactions,
    testing::{World, at, did, iso},
};

fn reply(text: &str, root: &str, parent: &str, time_us: i64) -> Json {
    let cid = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
    json!({
        "text": text, "createdAt": iso(time_us),
        "reply": { "root": { "uri": root, "cid": cid }, "parent": { "uri": parent, "cid": cid } },
    })
}

fn quote(text: &str, of: &str, time_us: i64) -> Json {
    let cid = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
    json!({
        "text": text, "createdAt": iso(time_us),
        "embed": { "$type": "app.bsky.embed.record", "record": { "uri": of, "cid": cid } },
    })
}

fn address(who: &str, rkey: &str) -> String {
    uri_of(&did(who), NSID, rkey)
}

/// Everything a recipient was told: reason, post, what of theirs; oldest first.
async fn told(world: &World, who: &str) -> Vec<(String, String, String)> {
    let req = proto::GetNotificationsRequest { actor_did: did(who), limit: 100, ..Default::default() };
    let mut found: Vec<_> = notifications::get_notifications(&world.cx, req)
        .await
        .unwrap()
        .notifications
        .into_iter()
        .map(|n| {
            let key = |uri: &str| uri.rsplit('/').next().unwrap_or_default().to_owned();
            (n.reason.clone(), key(&n.uri), key(&n.reason_subject))
        })
        .collect();
    found.reverse();
    found
}

async fn meta(world: &World, uri: &str) -> proto::PostRecordMeta {
    world.post_records(&[uri.to_owned()]).await.meta[0]
}

async fn replies(world: &World, uri: &str) -> (i32, i32) {
    let req = proto::GetInteractionCountsRequest {
        refs: vec![proto::RecordRef { uri: uri.to_owned(), cid: String::new() }],
        ..Default::default()
    };
    let counts = interactions::get_interaction_counts(&world.cx, req).await.unwrap();
    (counts.replies[0], counts.quotes[0])
}

fn t(reason: &str, uri: &str, subject: &str) -> (String, String, String) {
    (reason.to_owned(), uri.to_owned(), subject.to_owned())
}

#[tokio::test]
async fn ancestors_up_to_the_fourth_are_told_each_once() {
    let world = World::new();
    let names = ["aa", "bb", "cc", "dd", "ee", "ff"];
    let root = world.post(&did("aa"), "p0", at(0)).await;
    let mut parent = root.clone();
    for (i, name) in names.iter().enumerate().skip(1) {
        let time = at(i as i64);
        let rkey = format!("p{i}");
        parent = world.create(&did(name), NSID, &rkey, reply(&rkey, &root, &parent, time), time).await;
    }
    for name in ["aa", "bb", "cc", "dd"] {
        world.actor(&did(name)).await;
    }
    assert_eq!(told(&world, "ee").await, [t("reply", "p5", "p4")]);
    assert_eq!(
        told(&world, "bb").await,
        [t("reply", "p2", "p1"), t("reply", "p3", "p1"), t("reply", "p4", "p1"), t("reply", "p5", "p1")]
    );
    // At height five.
    assert_eq!(told(&world, "aa").await.len(), 4);
}

#[tokio::test]
async fn a_mention_comes_first_and_a_quote_before_a_reply() {
    let world = World::new();
    let root = world.post(&did("alice"), "p0", at(0)).await;
    let mut mentioning = reply("hi @alice", &root, &root, at(1));
    mentioning["facets"] = json!([{
        "index": { "byteStart": 3, "byteEnd": 9 },
        "features": [{ "$type": "app.bsky.richtext.facet#mention", "did": did("alice") }],
    }]);
    world.create(&did("bob"), NSID, "m", mentioning, at(1)).await;
    let mut quoting = reply("q", &root, &root, at(2));
    quoting["embed"] = quote("", &root, at(2))["embed"].clone();
    world.create(&did("bob"), NSID, "q", quoting, at(2)).await;
    assert_eq!(told(&world, "alice").await, [t("mention", "m", ""), t("quote", "q", "p0")]);
    assert_eq!(replies(&world, &root).await, (2, 1));
    world.delete(&did("bob"), NSID, "q", at(3)).await;
    assert_eq!(told(&world, "alice").await, [t("mention", "m", "")]);
    assert_eq!(replies(&world, &root).await, (1, 0));
}

#[tokio::test]
async fn a_reply_before_its_parent_ends_as_a_reply_after_it() {
    let early = World::new();
    let late = World::new();
    let (root, b) = (address("alice", "a0"), address("bob", "b0"));
    for (world, order) in [(&late, [0, 1, 2]), (&early, [2, 1, 0])] {
        for step in order {
            match step {
                0 => world.post(&did("alice"), "a0", at(0)).await,
                1 => world.create(&did("bob"), NSID, "b0", reply("b", &root, &root, at(1)), at(1)).await,
                _ => world.create(&did("carol"), NSID, "c0", reply("c", &root, &b, at(2)), at(2)).await,
            };
        }
        for name in ["alice", "bob", "carol"] {
            world.actor(&did(name)).await;
        }
    }
    for world in [&late, &early] {
        assert_eq!(told(world, "bob").await, [t("reply", "c0", "b0")]);
        assert_eq!(told(world, "alice").await, [t("reply", "b0", "a0"), t("reply", "c0", "a0")]);
        assert_eq!(replies(world, &root).await, (1, 0));
    }
    assert_eq!(
        gp_store::digest(&late.cx.store, &[5, 6, 12]).unwrap(),
        gp_store::digest(&early.cx.store, &[5, 6, 12]).unwrap()
    );
}

fn gate(post: &str, allow: Json, time_us: i64) -> Json {
    json!({ "post": post, "allow": allow, "createdAt": iso(time_us) })
}

#[tokio::test]
async fn a_thread_gate_holds_for_replies_made_after_it_whenever_they_arrive() {
    for gate_first in [true, false] {
        let world = World::new();
        let root = world.post(&did("alice"), "a0", at(0)).await;
        let rule = gate(&root, json!([{ "$type": "app.bsky.feed.threadgate#followingRule" }]), at(0));
        world.follow(&did("alice"), &did("bob"), "f0", at(0)).await;
        if gate_first {
            world.create(&did("alice"), gates::THREAD_GATE, "a0", rule.clone(), at(1)).await;
        }
        let good = world.create(&did("bob"), NSID, "b0", reply("b", &root, &root, at(2)), at(2)).await;
        let bad = world.create(&did("carol"), NSID, "c0", reply("c", &root, &root, at(2)), at(2)).await;
        if !gate_first {
            world.create(&did("alice"), gates::THREAD_GATE, "a0", rule, at(1)).await;
        }
        assert!(meta(&world, &root).await.has_thread_gate);
        assert!(!meta(&world, &good).await.violates_thread_gate);
        assert!(meta(&world, &bad).await.violates_thread_gate, "gate first: {gate_first}");
        assert_eq!(replies(&world, &root).await, (1, 0));
        assert_eq!(told(&world, "alice").await, [t("reply", "b0", "a0")]);
        // Taking the gate away later changes no reply.
        world.delete(&did("alice"), gates::THREAD_GATE, "a0", at(9)).await;
        assert!(!meta(&world, &root).await.has_thread_gate);
        assert!(meta(&world, &bad).await.violates_thread_gate);
        // Both are still in the thread: the AppView leaves out what it must.
        let req = proto::GetThreadRequest { post_uri: root.clone(), above: 0, below: 5 };
        assert_eq!(threads::get_thread(&world.cx, req).await.unwrap().uris.len(), 3);
    }
}

#[tokio::test]
async fn a_gate_made_later_leaves_earlier_replies_alone() {
    let world = World::new();
    let root = world.post(&did("alice"), "a0", at(0)).await;
    let bob = world.create(&did("bob"), NSID, "b0", reply("b", &root, &root, at(1)), at(1)).await;
    world.create(&did("alice"), gates::THREAD_GATE, "a0", gate(&root, json!([]), at(5)), at(5)).await;
    assert!(!meta(&world, &bob).await.violates_thread_gate);
    let carol = world.create(&did("carol"), NSID, "c0", reply("c", &root, &root, at(6)), at(6)).await;
    assert!(meta(&world, &carol).await.violates_thread_gate);
}

#[tokio::test]
async fn hidden_replies_end_the_way_up() {
    let world = World::new();
    let root = world.post(&did("alice"), "a0", at(0)).await;
    let b = world.create(&did("bob"), NSID, "b0", reply("b", &root, &root, at(1)), at(1)).await;
    let mut hiding = json!({ "post": root, "createdAt": iso(at(2)) });
    hiding["hiddenReplies"] = json!([b]);
    world.create(&did("alice"), gates::THREAD_GATE, "a0", hiding, at(2)).await;
    world.create(&did("carol"), NSID, "c0", reply("c", &root, &b, at(3)), at(3)).await;
    assert_eq!(told(&world, "bob").await, [t("reply", "c0", "b0")]);
    assert_eq!(told(&world, "alice").await, [t("reply", "b0", "a0")]);
}

#[tokio::test]
async fn a_post_gate_is_flagged_and_its_breach_tells_nobody() {
    let world = World::new();
    let root = world.post(&did("alice"), "a0", at(0)).await;
    let rules = json!({
        "post": root, "createdAt": iso(at(0)), "embeddingRules": [{ "$type": "app.bsky.feed.postgate#disableRule" }],
    });
    world.create(&did("alice"), gates::POST_GATE, "a0", rules, at(0)).await;
    let q = world.create(&did("bob"), NSID, "q0", quote("q", &root, at(1)), at(1)).await;
    assert!(meta(&world, &root).await.has_post_gate);
    assert!(meta(&world, &q).await.violates_embedding_rules);
    assert!(told(&world, "alice").await.is_empty());
    // It counts all the same.
    assert_eq!(replies(&world, &root).await, (0, 1));
}

#[tokio::test]
async fn an_edited_post_keeps_what_others_did_to_it() {
    let world = World::new();
    let root = world.post(&did("alice"), "a0", at(0)).await;
    world.create(&did("bob"), NSID, "q0", quote("q", &root, at(1)), at(1)).await;
    world.create(&did("carol"), "app.bsky.feed.repost", "r0", crate::testing::reference(&root, at(2)), at(2)).await;
    world.update(&did("alice"), NSID, "a0", json!({ "text": "edited", "createdAt": iso(at(0)) }), at(3)).await;
    assert_eq!(replies(&world, &root).await, (0, 1));
    let req = proto::GetAuthorFeedRequest { actor_did: did("carol"), limit: 10, ..Default::default() };
    assert_eq!(feeds::get_author_feed(&world.cx, req).await.unwrap().items.len(), 1);
    // Deleted, it is in nobody's feed and nobody quotes it.
    world.delete(&did("alice"), NSID, "a0", at(4)).await;
    let req = proto::GetAuthorFeedRequest { actor_did: did("carol"), limit: 10, ..Default::default() };
    assert!(feeds::get_author_feed(&world.cx, req).await.unwrap().items.is_empty());
    assert_eq!(replies(&world, &root).await, (0, 0));
}

#[tokio::test]
async fn own_items_of_a_timeline_have_a_budget() {
    let world = World::new();
    let (me, friend) = (did("viewer"), did("friend"));
    world.follow(&me, &friend, "f0", at(-9_000)).await;
    for n in 0..30 {
        world.post(&me, &format!("own{n:02}"), at(100 + n)).await;
        world.post(&friend, &format!("theirs{n:02}"), at(n)).await;
    }
    let page = |limit, cursor: String| {
        let req = proto::GetTimelineRequest { actor_did: me.clone(), limit, cursor, ..Default::default() };
        feeds::get_timeline(&world.cx, req)
    };
    let first = page(20, String::new()).await.unwrap();
    let own = first.items.iter().filter(|item| item.uri.contains("own")).count();
    assert_eq!((first.items.len(), own), (20, 10));
    assert!(!first.cursor.is_empty());
    // However small the pages, the first item is the same.
    assert_eq!(page(1, String::new()).await.unwrap().items[0].uri, first.items[0].uri);
    // The walk ends.
    let (mut cursor, mut pages) = (first.cursor, 1);
    while !cursor.is_empty() {
        let next = page(7, cursor.clone()).await.unwrap();
        assert_ne!(next.cursor, cursor);
        cursor = next.cursor;
        pages += 1;
        assert!(pages < 50);
    }
}

/// Everything there is, for comparisons.
fn whole(world: &World) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for table in tables::ALL {
        let mut visit = |key: &[u8], value: &Bytes| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        };
        world.cx.store.local().each(table.id, &mut visit).unwrap();
    }
    rows
}

#[derive(Clone, Copy)]
enum Step {
    Root,
    Reply,
    ReplyToReply,
    Quote,
    DeleteReply,
    DeleteRoot,
}

/// Carries out steps at the time of their place in `Step`, in the order given.
async fn in_order(steps: &[Step]) -> World {
    let world = World::new();
    // First sight is the same in every order.
    for who in ["aa", "bb", "cc", "dd"] {
        world.actor(&did(who)).await;
    }
    let (root, first) = (address("aa", "p0"), address("bb", "p1"));
    for step in steps {
        let time = at(*step as i64);
        match step {
            Step::Root => drop(world.post(&did("aa"), "p0", time).await),
            Step::Reply => drop(world.create(&did("bb"), NSID, "p1", reply("1", &root, &root, time), time).await),
            Step::ReplyToReply => {
                drop(world.create(&did("cc"), NSID, "p2", reply("2", &root, &first, time), time).await)
            }
            Step::Quote => drop(world.create(&did("dd"), NSID, "p3", quote("3", &root, time), time).await),
            Step::DeleteReply => world.delete(&did("bb"), NSID, "p1", time).await,
            Step::DeleteRoot => world.delete(&did("aa"), NSID, "p0", time).await,
        }
    }
    world
}

/// Only the order of one account's own steps is sure. Whatever the rest, the times of the events decide.
#[tokio::test]
async fn replies_and_quotes_that_come_after_the_deletion_end_as_if_they_had_come_before() {
    use Step::{DeleteReply, DeleteRoot, Quote, Reply, ReplyToReply, Root};
    let usual = in_order(&[Root, Reply, ReplyToReply, Quote, DeleteReply, DeleteRoot]).await;
    assert_eq!(replies(&usual, &address("aa", "p0")).await.1, 0, "the quote went with the root");
    for order in [
        [Root, DeleteRoot, Reply, ReplyToReply, Quote, DeleteReply],
        [Root, DeleteRoot, Quote, Reply, DeleteReply, ReplyToReply],
        [ReplyToReply, Root, Reply, DeleteReply, DeleteRoot, Quote],
        [Quote, Root, Reply, DeleteReply, DeleteRoot, ReplyToReply],
        [ReplyToReply, Root, DeleteRoot, Reply, Quote, DeleteReply],
    ] {
        let other = in_order(&order).await;
        assert_eq!(whole(&usual), whole(&other));
    }
}

#[tokio::test]
async fn what_was_made_after_the_deletion_of_its_subject_counts_and_tells_nobody_who_is_gone() {
    for late_first in [false, true] {
        let world = World::new();
        let root = world.post(&did("aa"), "p0", at(0)).await;
        let late = [reply("1", &root, &root, at(7)), quote("2", &root, at(7))];
        let make = async || {
            for (record, rkey) in late.iter().zip(["p1", "p2"]) {
                world.create(&did("bb"), NSID, rkey, record.clone(), at(7)).await;
            }
        };
        world.create(&did("bb"), NSID, "p3", quote("3", &root, at(2)), at(2)).await;
        if late_first {
            make().await;
        }
        world.delete(&did("aa"), NSID, "p0", at(5)).await;
        // The same event once more.
        world.delete(&did("aa"), NSID, "p0", at(5)).await;
        if !late_first {
            make().await;
        }
        // What of theirs it concerns does not stand.
        assert_eq!(told(&world, "aa").await, []);
        assert_eq!(replies(&world, &root).await, (1, 1), "late first: {late_first}");
    }
}

#[tokio::test]
async fn of_a_deleted_account_stays_where_its_posts_hung_and_no_word() {
    let world = World::new();
    let root = world.post(&did("aa"), "p0", at(0)).await;
    world.create(&did("bb"), NSID, "p1", reply("a secret", &root, &root, at(1)), at(1)).await;
    world.follow(&did("bb"), &did("cc"), "f0", at(1)).await;
    world.delete(&did("bb"), "app.bsky.graph.follow", "f0", at(2)).await;
    let gone = did("bb");
    assert!(world.write(move |view| crate::actors::delete_page(view, &gone, at(5), 100)).await);
    let rows = whole(&world);
    let of_bb = |table: &'static gp_store::Table| {
        let prefix = Key::of(table).atom(&atom::did(&did("bb"))).partition();
        rows.iter().filter(|(key, _)| key.starts_with(prefix.prefix())).count()
    };
    assert_eq!([&tables::RECORD, &tables::BY, &tables::ACTOR, &tables::POST].map(of_bb), [0, 0, 0, 1]);
    assert!(!rows.iter().any(|(_, value)| value.windows(8).any(|w| w == b"a secret")));
    // A reply that was under way is told to those above.
    let under_way = reply("2", &root, &address("bb", "p1"), at(3));
    world.create(&did("cc"), NSID, "p2", under_way, at(3)).await;
    assert_eq!(told(&world, "aa").await.len(), 1);
}

/// Follows that begin and end, gates that are replaced, and a reply between them that comes at any point.
#[tokio::test]
async fn a_gate_is_asked_as_of_the_time_of_the_reply() {
    let root = address("aa", "p0");
    let asks = |rule: &str| json!([{ "$type": format!("app.bsky.feed.threadgate#{rule}") }]);
    let follow = |of: &str, time| json!({ "subject": did(of), "createdAt": iso(time) });
    // What aa does, in its own order; then what bb does, at 30 seconds.
    let steps = async |world: &World, step: usize| match step {
        0 => drop(world.post(&did("aa"), "p0", at(0)).await),
        1 => drop(world.create(&did("aa"), "app.bsky.graph.follow", "f0", follow("bb", at(10)), at(10)).await),
        2 => drop(
            world
                .create(&did("aa"), gates::THREAD_GATE, "p0", gate(&root, asks("followingRule"), at(20)), at(20))
                .await,
        ),
        3 => world.delete(&did("aa"), "app.bsky.graph.follow", "f0", at(40)).await,
        4 => drop(world.update(&did("aa"), gates::THREAD_GATE, "p0", gate(&root, json!([]), at(20)), at(50)).await),
        5 => world.delete(&did("aa"), gates::THREAD_GATE, "p0", at(60)).await,
        _ => unreachable!("six steps"),
    };
    let mut ends = Vec::new();
    for place in 0..=6 {
        let world = World::new();
        for who in ["aa", "bb", "cc"] {
            world.actor(&did(who)).await;
        }
        for step in 0..=6 {
            if step == place {
                for (who, rkey) in [("bb", "p1"), ("cc", "p2")] {
                    world.create(&did(who), NSID, rkey, reply(rkey, &root, &root, at(30)), at(30)).await;
                }
            }
            if step < 6 {
                steps(&world, step).await;
            }
        }
        // bb was followed then, cc was not; by the end nobody is, and there is no gate.
        let broke = [("bb", "p1"), ("cc", "p2")].map(|(who, rkey)| address(who, rkey));
        assert!(!meta(&world, &broke[0]).await.violates_thread_gate, "replies before step {place}");
        assert!(meta(&world, &broke[1]).await.violates_thread_gate, "replies before step {place}");
        ends.push(whole(&world));
    }
    assert!(ends.iter().all(|end| *end == ends[0]));
}

#[tokio::test]
async fn post_records_leave_as_they_are_looked_up() {
    let world = World::new();
    let aa = did("aa");
    let uris = [
        world.post(&aa, "plain", at(0)).await,
        world.post(&aa, "down", at(1)).await,
        address("aa", "missing"),
        world.post(&aa, "tagged", at(2)).await,
        format!("at://{aa}/app.bsky.feed.like/other"),
        world.post(&aa, "both", at(3)).await,
        address("aa", "plain"),
    ];
    for uri in [&uris[1], &uris[5]] {
        let ask = proto::TakedownRecordRequest { record_uri: uri.clone(), r#ref: "why".into(), seen: None };
        crate::moderation::takedown_record(&world.cx, ask).await.unwrap();
    }
    for uri in [uris[3].clone(), uris[5].clone()] {
        world.write(move |view| records::set_tags(view, &uri, &["a-tag".into()])).await;
    }
    let answer = world.post_records(&uris).await;
    let looked_up = records::look_up(&world.cx, &uris, NSID).await.unwrap();
    let records: Vec<proto::Record> = looked_up.into_iter().map(|served| served.record).collect();
    assert_eq!(answer.records, records);
    let told = |at: usize| (records[at].taken_down, records[at].takedown_ref.as_str(), records[at].tags.len());
    assert_eq!([0, 1, 3, 5].map(told), [(false, "", 0), (true, "why", 0), (false, "", 1), (true, "why", 1)]);
    assert_eq!([2, 4].map(|at| records[at].cid.as_str()), ["", ""]);
    assert_eq!((answer.meta.len(), &records[0]), (uris.len(), &records[6]));
}
