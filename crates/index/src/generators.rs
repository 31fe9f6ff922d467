//! Feed generators of an account, as they are read. Their rows are made where feeds are.

use gp_proto as proto;
use gp_store::Key;

use crate::{
    Cx, Result, actors, listing, moderation,
    placed::did_of,
    records::{self, Flags},
    tables::by,
};

/// The collection of feed generators.
pub const NSID: &str = "app.bsky.feed.generator";

/// The feed generators of an account, newest first.
pub async fn get_actor_feeds(cx: &Cx, req: proto::GetActorFeedsRequest) -> Result<proto::GetActorFeedsResponse> {
    let (uris, cursor) = listing::by_page(cx, &req.actor_did, by::GENERATOR, NSID, req.limit, &req.cursor).await?;
    Ok(proto::GetActorFeedsResponse { uris, cursor })
}

/// How feed generators stand, in the order asked, as far as this service knows: it does not ask the feeds' own services.
///
/// `active`; `takendown` where the record or its account is taken down by this service; the host's word for an account
/// that is not active, as `deactivated`; empty where no such feed generator is indexed.
pub async fn get_feed_generator_status(
    cx: &Cx,
    req: proto::GetFeedGeneratorStatusRequest,
) -> Result<proto::GetFeedGeneratorStatusResponse> {
    let owner = |uri: &String| did_of(uri).unwrap_or_default().to_owned();
    let keys: Vec<Key> = req
        .uris
        .iter()
        .map(owner)
        .flat_map(|owner| [actors::key(&owner), moderation::key_of_subject(&owner)])
        .collect();
    let owners = cx.store.get(&keys).await?;
    let mut status = Vec::with_capacity(req.uris.len());
    for (served, owner) in records::look_up(cx, &req.uris, NSID).await?.iter().zip(owners.chunks_exact(2)) {
        let row = owner[0].as_deref().map(actors::read).transpose()?.unwrap_or_default();
        let taken_down = served.flags.has(Flags::TAKEN_DOWN)
            || owner[1].as_ref().is_some_and(|stored| !moderation::reference(stored).is_empty());
        status.push(if served.record.cid.is_empty() {
            String::new()
        } else if taken_down {
            "takendown".to_owned()
        } else if row.upstream_status.is_empty() {
            "active".to_owned()
        } else {
            row.upstream_status
        });
    }
    Ok(proto::GetFeedGeneratorStatusResponse { status })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{World, at, did, iso, walk};

    #[tokio::test]
    async fn feeds_of_an_account_are_paged_newest_first() {
        let world = World::new();
        let alice = did("alice");
        let mut expected = Vec::new();
        for i in 0..8i64 {
            // Pairs of twins: the same bytes under two keys.
            let record = json!({"did": "did:web:feeds.test", "displayName": "feed", "createdAt": iso(at(i / 2))});
            expected.push(world.create(&alice, NSID, &format!("f{i}"), record, at(i / 2)).await);
        }
        let mut found = walk!(|limit, cursor| {
            let ask = proto::GetActorFeedsRequest { actor_did: alice.clone(), limit, cursor };
            let found = get_actor_feeds(&world.cx, ask).await.unwrap();
            (found.uris, found.cursor)
        });
        let times: Vec<usize> = found.iter().map(|f| expected.iter().position(|e| e == f).unwrap() / 2).collect();
        assert_eq!(times, [3, 3, 2, 2, 1, 1, 0, 0]);
        found.sort();
        assert_eq!(found, expected);
        let ask = proto::GetActorFeedsRequest { actor_did: "alice.test".into(), limit: 10, cursor: String::new() };
        assert_eq!(get_actor_feeds(&world.cx, ask).await.unwrap(), proto::GetActorFeedsResponse::default());
    }

    #[tokio::test]
    async fn what_is_known_of_a_feed_stands_in_place() {
        let world = World::new();
        let record = || json!({"did": "did:web:feeds.test", "displayName": "feed", "createdAt": iso(at(0))});
        let (ann, ben, cyd, dan) = (did("ann"), did("ben"), did("cyd"), did("dan"));
        let mut uris = Vec::new();
        for owner in [&ann, &ben, &cyd, &dan] {
            uris.push(world.create(owner, NSID, "f", record(), at(0)).await);
        }
        let (banned, away, down) = (ben.clone(), cyd.clone(), uris[3].clone());
        world
            .write(move |view| {
                moderation::set(view, moderation::key_of_subject(&banned), None, Some("ref"), 0)?;
                moderation::set(view, moderation::key_of_subject(&down), Some(&down), Some("ref"), 0)?;
                actors::set_account(view, &away, false, Some("deactivated"), at(1))
            })
            .await;
        uris.extend(["junk".to_owned(), format!("at://{ann}/app.bsky.feed.post/f"), uris[0].clone()]);
        let ask = proto::GetFeedGeneratorStatusRequest { uris };
        let status = get_feed_generator_status(&world.cx, ask).await.unwrap().status;
        assert_eq!(status, ["active", "takendown", "deactivated", "takendown", "", "", "active"]);
    }
}
