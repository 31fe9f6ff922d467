//! Feed generators of an account, as they are read. Their rows are made where feeds are.

use gp_proto as proto;

use crate::{Cx, Result, listing, tables::by};

/// The collection of feed generators.
pub const NSID: &str = "app.bsky.feed.generator";

/// The feed generators of an account, newest first.
pub async fn get_actor_feeds(cx: &Cx, req: proto::GetActorFeedsRequest) -> Result<proto::GetActorFeedsResponse> {
    let (uris, cursor) = listing::by_page(cx, &req.actor_did, by::GENERATOR, NSID, req.limit, &req.cursor).await?;
    Ok(proto::GetActorFeedsResponse { uris, cursor })
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
}
