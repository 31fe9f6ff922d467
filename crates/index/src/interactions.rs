//! Counts of what was done to subjects and by accounts.
//!
//! Every count is a cell of a head that changes in the same write as the rows it counts, so reading it is one look-up
//! of a small row that is mostly in memory. In the process that writes, what is in memory is never older than the last
//! write; elsewhere a caller may name accounts whose counts must not come from a cache.

use gp_proto as proto;
use gp_store::Key;

use crate::{
    Cx, Result,
    counts::{ByCount, Head, OnCount, PrivateCount},
    tables,
};

/// How often subjects are liked, reposted, answered, quoted and bookmarked.
pub async fn get_interaction_counts(
    cx: &Cx,
    req: proto::GetInteractionCountsRequest,
) -> Result<proto::GetInteractionCountsResponse> {
    let skips = |uri: &str| {
        let author = uri.strip_prefix("at://").and_then(|rest| rest.split('/').next());
        author.is_some_and(|author| req.skip_cache_for_dids.iter().any(|did| did == author))
    };
    let (mut kept, mut fresh, mut is_fresh) = (Vec::new(), Vec::new(), Vec::with_capacity(req.refs.len()));
    for subject in &req.refs {
        let key = tables::on_head(&subject.uri);
        is_fresh.push(!req.skip_cache_for_dids.is_empty() && skips(&subject.uri));
        if is_fresh.last() == Some(&true) { &mut fresh } else { &mut kept }.push(key);
    }
    let mut fresh = if fresh.is_empty() { Vec::new() } else { cx.store.get_fresh(&fresh).await? }.into_iter();
    let mut kept = cx.store.get(&kept).await?.into_iter();
    let found = is_fresh.iter().map(|is_fresh| if *is_fresh { fresh.next() } else { kept.next() }.flatten());
    let heads: Vec<Head> = found.map(|head| Head::read(head.as_ref())).collect();
    let all = |cell: OnCount| heads.iter().map(|head| head.on(cell)).collect();
    Ok(proto::GetInteractionCountsResponse {
        likes: all(OnCount::Likes),
        reposts: all(OnCount::Reposts),
        replies: all(OnCount::Replies),
        quotes: all(OnCount::Quotes),
        bookmarks: all(OnCount::Bookmarks),
    })
}

/// What accounts have published and drafted, whom they follow and who follows them. Reposts are not counted: callers
/// expect none there.
pub async fn get_counts_for_users(
    cx: &Cx,
    req: proto::GetCountsForUsersRequest,
) -> Result<proto::GetCountsForUsersResponse> {
    let keys: Vec<Key> = req
        .dids
        .iter()
        .flat_map(|did| [tables::by_head(did), tables::on_head(did), tables::private_head(did)])
        .collect();
    let heads: Vec<Head> = cx.store.get(&keys).await?.iter().map(|h| Head::read(h.as_ref())).collect();
    let by = |cell: ByCount| heads.iter().step_by(3).map(|head| head.by(cell)).collect();
    Ok(proto::GetCountsForUsersResponse {
        posts: by(ByCount::Posts),
        reposts: Vec::new(),
        following: by(ByCount::Follows),
        followers: heads.iter().skip(1).step_by(3).map(|head| head.on(OnCount::Followers)).collect(),
        lists: by(ByCount::Lists),
        feeds: by(ByCount::Generators),
        starter_packs: by(ByCount::Packs),
        drafts: heads.iter().skip(2).step_by(3).map(|head| head.private(PrivateCount::Drafts)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{ANY_CID, World, at, did, iso};

    #[tokio::test]
    async fn five_counts_stand_in_place() {
        let world = World::new();
        let (alice, bob) = (did("alice"), did("bob"));
        let post = world.post(&bob, "p", at(-10)).await;
        let feed = format!("at://{bob}/app.bsky.feed.generator/f");
        for name in ["x", "y", "z"] {
            world.like(&did(name), &post, "l", at(0)).await;
        }
        world.like(&alice, &feed, "l", at(0)).await;
        world.repost(&alice, &post, "r", at(0)).await;
        let strong = json!({"uri": post, "cid": ANY_CID});
        for rkey in ["a", "b"] {
            let record = json!({"text": rkey, "createdAt": iso(at(1)), "reply": {"root": strong, "parent": strong}});
            world.create(&alice, "app.bsky.feed.post", rkey, record, at(1)).await;
        }
        let embed = json!({"$type": "app.bsky.embed.record", "record": strong});
        let record = json!({"text": "q", "createdAt": iso(at(1)), "embed": embed});
        world.create(&alice, "app.bsky.feed.post", "q", record, at(1)).await;
        let ask = |uris: &[&str]| proto::GetInteractionCountsRequest {
            refs: uris.iter().map(|uri| proto::RecordRef { uri: (*uri).to_owned(), cid: "any".into() }).collect(),
            skip_cache_for_dids: vec![bob.clone()],
        };
        let found = get_interaction_counts(&world.cx, ask(&[&post, "junk", &feed, "", &post])).await.unwrap();
        assert_eq!(found.likes, [3, 0, 1, 0, 3]);
        assert_eq!(found.reposts, [1, 0, 0, 0, 1]);
        assert_eq!(found.replies, [2, 0, 0, 0, 2]);
        assert_eq!(found.quotes, [1, 0, 0, 0, 1]);
        assert_eq!(found.bookmarks, [0; 5]);
        let none = get_interaction_counts(&world.cx, ask(&[])).await.unwrap();
        assert_eq!(none, proto::GetInteractionCountsResponse::default());
    }

    #[tokio::test]
    async fn what_was_cached_is_not_served_after_a_change() {
        let world = World::new();
        let post = world.post(&did("bob"), "p", at(-10)).await;
        let likes = async || {
            let refs = vec![proto::RecordRef { uri: post.clone(), cid: String::new() }];
            let ask = proto::GetInteractionCountsRequest { refs, skip_cache_for_dids: vec![] };
            get_interaction_counts(&world.cx, ask).await.unwrap().likes[0]
        };
        for n in 0..5u8 {
            assert_eq!(likes().await, i32::from(n));
            world.like(&did(&format!("f{}", (b'a' + n) as char)), &post, "l", at(0)).await;
        }
        assert_eq!(likes().await, 5);
    }

    #[tokio::test]
    async fn counts_of_accounts_are_true_for_those_who_only_have_lists() {
        let world = World::new();
        let (alice, bob) = (did("alice"), did("bob"));
        world.list(&alice, "modlist", "m", at(0)).await;
        world.list(&alice, "curatelist", "c", at(0)).await;
        world.post(&bob, "p", at(0)).await;
        world.follow(&bob, &alice, "f", at(0)).await;
        let record = json!({"did": "did:web:f.test", "displayName": "f", "createdAt": iso(at(0))});
        world.create(&bob, "app.bsky.feed.generator", "f", record, at(0)).await;
        let list = format!("at://{bob}/app.bsky.graph.list/l");
        let record = json!({"name": "pack", "list": list, "createdAt": iso(at(0))});
        world.create(&bob, "app.bsky.graph.starterpack", "s", record, at(0)).await;
        let dids = [alice.as_str(), "junk", &bob, "", &alice].map(str::to_owned).to_vec();
        let found = get_counts_for_users(&world.cx, proto::GetCountsForUsersRequest { dids }).await.unwrap();
        assert_eq!(found.posts, [0, 0, 1, 0, 0]);
        assert_eq!(found.following, [0, 0, 1, 0, 0]);
        assert_eq!(found.followers, [1, 0, 0, 0, 1]);
        assert_eq!(found.lists, [2, 0, 0, 0, 2]);
        assert_eq!(found.feeds, [0, 0, 1, 0, 0]);
        assert_eq!(found.starter_packs, [0, 0, 1, 0, 0]);
        assert_eq!(found.drafts, [0; 5]);
    }
}
