//! Bookmarks: by key, by subject, and their counts.

use serde_json::json;

use super::*;
use crate::testing::{NOW_US, World, did, walk};

async fn mark(world: &World, actor: &str, key: &str, uri: &str) {
    let payload = json!({"subject": {"uri": uri, "cid": "bafyone"}});
    let (actor, key) = (actor.to_owned(), key.to_owned());
    world.write(move |view| put(view, &actor, &key, &payload, NOW_US)).await;
}

async fn unmark(world: &World, actor: &str, key: &str) {
    let (actor, key) = (actor.to_owned(), key.to_owned());
    world.write(move |view| remove(view, &actor, &key)).await;
}

async fn count(world: &World, uri: &str) -> i32 {
    let refs = vec![proto::RecordRef { uri: uri.to_owned(), cid: String::new() }];
    let ask = proto::GetInteractionCountsRequest { refs, skip_cache_for_dids: vec![] };
    crate::interactions::get_interaction_counts(&world.cx, ask).await.unwrap().bookmarks[0]
}

#[tokio::test]
async fn both_readings_of_bookmarks_agree_by_key() {
    let world = World::new();
    let me = did("me");
    let mut expected = Vec::new();
    for i in 0..9u8 {
        let letter = (b'a' + i) as char;
        let (key, uri) = (format!("3kaaaaaaaaaa{letter}"), format!("at://did:plc:x/app.bsky.feed.post/{letter}"));
        mark(&world, &me, &key, &uri).await;
        expected.insert(0, (key, uri));
    }
    let found = walk!(|limit, cursor| {
        let ask = proto::GetActorBookmarksRequest { actor_did: me.clone(), limit, cursor };
        let found = get_actor_bookmarks(&world.cx, ask).await.unwrap();
        (found.bookmarks, found.cursor)
    });
    let listed: Vec<(String, String)> = found.into_iter().map(|it| (it.key, it.subject)).collect();
    assert_eq!(listed, expected);
    let mut uris: Vec<String> = expected.iter().map(|(_, uri)| uri.clone()).collect();
    uris.extend(["junk".to_owned(), uris[0].clone()]);
    let ask = proto::GetBookmarksByActorAndSubjectsRequest { actor_did: me.clone(), uris };
    let found = get_bookmarks_by_actor_and_subjects(&world.cx, ask).await.unwrap().bookmarks;
    assert_eq!(found.len(), 11);
    assert_eq!(found[9], proto::Bookmark::default());
    assert_eq!(found[10], found[0]);
    for (it, (key, uri)) in found.iter().zip(&expected) {
        let named = it.r#ref.as_ref().unwrap();
        assert_eq!((&named.actor_did, named.namespace.as_str(), &named.key), (&me, NAMESPACE, key));
        assert_eq!((&it.subject_uri, it.subject_cid.as_str(), it.indexed_at), (uri, "bafyone", Some(time(NOW_US))));
    }
}

#[tokio::test]
async fn a_subject_is_marked_once_by_each_and_counted_so() {
    let world = World::new();
    let (me, other, uri) = (did("me"), did("other"), "at://did:plc:x/app.bsky.feed.post/p");
    mark(&world, &me, "3kaaaaaaaaaaa", uri).await;
    // A second one of the same subject, and another subject at the same key.
    mark(&world, &me, "3kaaaaaaaaaab", uri).await;
    mark(&world, &me, "3kaaaaaaaaaaa", "at://did:plc:x/app.bsky.feed.post/q").await;
    mark(&world, &other, "3kaaaaaaaaaaa", uri).await;
    assert_eq!((count(&world, uri).await, count(&world, "at://did:plc:x/app.bsky.feed.post/q").await), (2, 0));
    unmark(&world, &me, "3kaaaaaaaaaab").await;
    assert_eq!(count(&world, uri).await, 2, "there was none at that key");
    for _ in 0..2 {
        unmark(&world, &me, "3kaaaaaaaaaaa").await;
        assert_eq!(count(&world, uri).await, 1);
    }
}
