//! Blocks of accounts, and of everybody on a list.

use gp_proto as proto;

use crate::{
    Cx, Result, atom,
    atom::Parts,
    listing, mutes,
    placed::Placed,
    relation::{Relation, Shape},
    relationships::{Ask, Through, Via, standing, via_lists},
    rows::{Rows, timed_by},
    tables::{self, BY, by},
};

/// Blocks as a relation between two accounts.
pub static SHAPE: Shape = Shape {
    relation: Relation::Block,
    collection: "app.bsky.graph.block",
    subject: |it| it.text("subject").map(atom::did),
    rows,
    promotes: true,
    asked: None,
};

/// Blocks of lists as a relation between an account and a list. The claims themselves are all that reads need.
pub static LIST_SHAPE: Shape = Shape {
    relation: Relation::ListBlock,
    collection: "app.bsky.graph.listblock",
    subject: |it| it.text("subject").map(atom::uri),
    rows: |_, _| {},
    promotes: true,
    asked: None,
};

/// The rows of one standing block. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.text("subject") else { return };
    out.put(timed_by(it, by::BLOCK), atom::did(subject).to_vec());
}

/// Blocks between the two sides of many pairs. Each pair is answered as it was asked, the same two accounts the other
/// way round included.
pub async fn get_block_existence(
    cx: &Cx,
    req: proto::GetBlockExistenceRequest,
) -> Result<proto::GetBlockExistenceResponse> {
    if req.pairs.is_empty() {
        return Ok(proto::GetBlockExistenceResponse::default());
    }
    let atoms: Vec<_> = req.pairs.iter().map(|pair| (atom::did(&pair.a), atom::did(&pair.b))).collect();
    let mut asks = Vec::with_capacity(req.pairs.len() * 2);
    let mut vias = Vec::with_capacity(req.pairs.len() * 2);
    for (pair, (a, b)) in req.pairs.iter().zip(&atoms) {
        asks.push(Ask { shape: &SHAPE, did: &pair.a, subject: b });
        asks.push(Ask { shape: &SHAPE, did: &pair.b, subject: a });
        vias.push(Via { holder: &pair.a, through: Through::Block, member: &pair.b });
        vias.push(Via { holder: &pair.b, through: Through::Block, member: &pair.a });
    }
    let mut direct = standing(cx, &asks).await?.into_iter();
    let mut by_list = via_lists(cx, &vias).await?.into_iter();
    let mut next = || (direct.next().unwrap_or_default(), by_list.next().unwrap_or_default());
    let mut answer = proto::GetBlockExistenceResponse::default();
    for _ in &req.pairs {
        let (blocking, blocking_by_list) = next();
        let (blocked_by, blocked_by_list) = next();
        let exists = [&blocking, &blocked_by, &blocking_by_list, &blocked_by_list].iter().any(|uri| !uri.is_empty());
        answer.exists.push(exists);
        answer.blocks.push(proto::BlockExistence { blocked_by, blocking, blocked_by_list, blocking_by_list });
    }
    Ok(answer)
}

/// A direct block between two accounts, the first one's before the other's.
pub async fn get_bidirectional_block(
    cx: &Cx,
    req: proto::GetBidirectionalBlockRequest,
) -> Result<proto::GetBidirectionalBlockResponse> {
    let (a, b) = (atom::did(&req.actor_did), atom::did(&req.target_did));
    let asks = [
        Ask { shape: &SHAPE, did: &req.actor_did, subject: &b },
        Ask { shape: &SHAPE, did: &req.target_did, subject: &a },
    ];
    let found = standing(cx, &asks).await?;
    let block_uri = found.into_iter().find(|uri| !uri.is_empty()).unwrap_or_default();
    Ok(proto::GetBidirectionalBlockResponse { block_uri })
}

/// A list through which one of two accounts blocks the other, the first one's before the other's.
pub async fn get_bidirectional_block_via_list(
    cx: &Cx,
    req: proto::GetBidirectionalBlockViaListRequest,
) -> Result<proto::GetBidirectionalBlockViaListResponse> {
    let (a, b) = (req.actor_did.as_str(), req.target_did.as_str());
    let vias =
        [Via { holder: a, through: Through::Block, member: b }, Via { holder: b, through: Through::Block, member: a }];
    let found = via_lists(cx, &vias).await?;
    let list_uri = found.into_iter().find(|uri| !uri.is_empty()).unwrap_or_default();
    Ok(proto::GetBidirectionalBlockViaListResponse { list_uri })
}

/// The accounts that an account blocks, newest block first.
pub async fn get_blocks(cx: &Cx, req: proto::GetBlocksRequest) -> Result<proto::GetBlocksResponse> {
    let (block_uris, cursor) =
        listing::by_page(cx, &req.actor_did, by::BLOCK, SHAPE.collection, req.limit, &req.cursor).await?;
    Ok(proto::GetBlocksResponse { block_uris, cursor })
}

/// Whether an account blocks a list.
pub async fn get_blocklist_subscription(
    cx: &Cx,
    req: proto::GetBlocklistSubscriptionRequest,
) -> Result<proto::GetBlocklistSubscriptionResponse> {
    let list = atom::uri(&req.list_uri);
    let found = standing(cx, &[Ask { shape: &LIST_SHAPE, did: &req.actor_did, subject: &list }]).await?;
    Ok(proto::GetBlocklistSubscriptionResponse { listblock_uri: found.into_iter().next().unwrap_or_default() })
}

/// List blocks of one account that are listed. They are read and sorted whole for each page.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// The lists that an account blocks, as far as they are indexed; newest list first, whenever it was blocked.
pub async fn get_blocklist_subscriptions(
    cx: &Cx,
    req: proto::GetBlocklistSubscriptionsRequest,
) -> Result<proto::GetBlocklistSubscriptionsResponse> {
    let scan = tables::scan_by(&req.actor_did, by::CLAIM).prefix([by::CLAIM, Relation::ListBlock as u8]);
    let page = cx.store.scan(scan.limit(SUBSCRIPTIONS_MAX)).await?;
    let mut uris = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        uris.push(Parts::of(BY.name, row.clustering().get(2..).unwrap_or_default()).uri()?);
    }
    let (list_uris, cursor) = mutes::page_of_lists(cx, uris, req.limit, &req.cursor).await?;
    Ok(proto::GetBlocklistSubscriptionsResponse { list_uris, cursor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, at, did, walk};

    fn pair(a: &str, b: &str) -> proto::RelationshipPair {
        proto::RelationshipPair { a: a.to_owned(), b: b.to_owned() }
    }

    async fn existence(world: &World, pairs: Vec<proto::RelationshipPair>) -> proto::GetBlockExistenceResponse {
        get_block_existence(&world.cx, proto::GetBlockExistenceRequest { pairs }).await.unwrap()
    }

    #[tokio::test]
    async fn each_pair_is_answered_in_the_direction_it_was_asked() {
        let world = World::new();
        let (a, b, c) = (did("a"), did("b"), did("c"));
        let block = world.block(&a, &b, "x", at(0)).await;
        let list = world.list(&b, "modlist", "l", at(0)).await;
        world.item(&b, &list, &a, "i", at(0)).await;
        world.list_block(&b, &list, "lb", at(0)).await;
        let pairs = vec![pair(&a, &b), pair(&b, &a), pair(&a, &c), pair("", "junk"), pair(&a, &b), pair(&a, &a)];
        let found = existence(&world, pairs).await;
        assert_eq!(found.exists, [true, true, false, false, true, false]);
        let asked_by_a = proto::BlockExistence {
            blocking: block.clone(),
            blocked_by: String::new(),
            blocking_by_list: String::new(),
            blocked_by_list: list.clone(),
        };
        let asked_by_b = proto::BlockExistence {
            blocking: String::new(),
            blocked_by: block,
            blocking_by_list: list,
            blocked_by_list: String::new(),
        };
        let none = proto::BlockExistence::default();
        assert_eq!(found.blocks, [asked_by_a.clone(), asked_by_b, none.clone(), none.clone(), asked_by_a, none]);
        assert_eq!(existence(&world, vec![]).await, proto::GetBlockExistenceResponse::default());
    }

    #[tokio::test]
    async fn a_block_through_a_list_ends_with_the_membership_and_with_the_subscription() {
        let world = World::new();
        let (a, b, owner) = (did("a"), did("b"), did("owner"));
        let list = world.list(&owner, "modlist", "l", at(0)).await;
        world.item(&owner, &list, &b, "one", at(0)).await;
        world.item(&owner, &list, &b, "two", at(1)).await;
        world.list_block(&a, &list, "lb", at(0)).await;
        let by_list = async || {
            let ask = proto::GetBidirectionalBlockViaListRequest { actor_did: b.clone(), target_did: a.clone() };
            let uri = get_bidirectional_block_via_list(&world.cx, ask).await.unwrap().list_uri;
            assert_eq!(existence(&world, vec![pair(&a, &b)]).await.blocks[0].blocking_by_list, uri);
            uri
        };
        assert_eq!(by_list().await, list);
        // A second item keeps the membership.
        world.delete(&owner, "app.bsky.graph.listitem", "one", at(2)).await;
        assert_eq!(by_list().await, list);
        world.delete(&owner, "app.bsky.graph.listitem", "two", at(3)).await;
        assert_eq!(by_list().await, "");
        world.item(&owner, &list, &b, "three", at(4)).await;
        assert_eq!(by_list().await, list);
        world.delete(&a, "app.bsky.graph.listblock", "lb", at(5)).await;
        assert_eq!(by_list().await, "");
    }

    #[tokio::test]
    async fn a_block_in_either_direction_is_found() {
        let world = World::new();
        let (a, b) = (did("a"), did("b"));
        let block = world.block(&b, &a, "x", at(0)).await;
        for (actor, target) in [(&a, &b), (&b, &a)] {
            let ask = proto::GetBidirectionalBlockRequest { actor_did: actor.clone(), target_did: target.clone() };
            assert_eq!(get_bidirectional_block(&world.cx, ask).await.unwrap().block_uri, block);
        }
        let ask = proto::GetBidirectionalBlockRequest { actor_did: a, target_did: "junk".into() };
        assert_eq!(get_bidirectional_block(&world.cx, ask).await.unwrap().block_uri, "");
    }

    #[tokio::test]
    async fn blocks_are_paged_newest_first() {
        let world = World::new();
        let a = did("a");
        let mut expected = Vec::new();
        for i in 0..10i64 {
            expected.insert(0, world.block(&a, &format!("did:web:b{i}.test"), &format!("b{i}"), at(i)).await);
        }
        let found = walk!(|limit, cursor| {
            let ask = proto::GetBlocksRequest { actor_did: a.clone(), limit, cursor };
            let found = get_blocks(&world.cx, ask).await.unwrap();
            (found.block_uris, found.cursor)
        });
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn blocked_lists_are_ordered_by_their_own_age() {
        let world = World::new();
        let (a, owner) = (did("a"), did("owner"));
        let mut expected = Vec::new();
        for i in 0..7i64 {
            // Subscribed in the opposite order. Two lists are twins.
            let list = world.list(&owner, "modlist", &format!("l{i}"), at(i.min(5))).await;
            world.list_block(&a, &list, &format!("b{i}"), at(100 - i)).await;
            expected.insert(0, list);
        }
        let never_seen = format!("at://{owner}/app.bsky.graph.list/unknown");
        let gone = world.list_block(&a, &never_seen, "b9", at(100)).await;
        let all = async || {
            walk!(|limit, cursor| {
                let ask = proto::GetBlocklistSubscriptionsRequest { actor_did: a.clone(), limit, cursor };
                let found = get_blocklist_subscriptions(&world.cx, ask).await.unwrap();
                (found.list_uris, found.cursor)
            })
        };
        let mut found = all().await;
        assert_eq!(found[2..], expected[2..]);
        found[..2].sort();
        expected[..2].sort();
        assert_eq!(found[..2], expected[..2]);
        world.delete(&owner, "app.bsky.graph.list", "l3", at(200)).await;
        assert_eq!(all().await.len(), 6);
        let one = async |list: &str| {
            let ask = proto::GetBlocklistSubscriptionRequest { actor_did: a.clone(), list_uri: list.to_owned() };
            get_blocklist_subscription(&world.cx, ask).await.unwrap().listblock_uri
        };
        assert_eq!(one(&never_seen).await, gone);
        assert_eq!(one("junk").await, "");
    }
}
