//! Starter packs.

use std::collections::HashMap;

use gp_proto as proto;
use gp_store::Scan;

use crate::{
    Cx, Result,
    counts::{ByCount, Head, OnCount},
    listing,
    placed::Placed,
    rows::{Rows, timed_by},
    tables::{self, by, on},
};

/// The collection of starter packs.
pub const NSID: &str = "app.bsky.graph.starterpack";

/// The rows of one starter pack. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    out.put_by(it.did, timed_by(it, by::PACK), "", ByCount::Packs);
}

/// The starter packs of an account, newest first.
pub async fn get_actor_starter_packs(
    cx: &Cx,
    req: proto::GetActorStarterPacksRequest,
) -> Result<proto::GetActorStarterPacksResponse> {
    let (uris, cursor) = listing::by_page(cx, &req.actor_did, by::PACK, NSID, req.limit, &req.cursor).await?;
    Ok(proto::GetActorStarterPacksResponse { uris, cursor })
}

/// The time in which an account counts as having joined lately.
const WEEK_US: i64 = 7 * 24 * 3600 * 1_000_000;

/// Accounts counted as having joined through one pack in the last week; more are not told apart. Counting reads a row
/// each.
const JOINED_WEEK_MAX: usize = 100_000;

/// Rows of the first look at each pack, and of every further look at those that have more.
const JOINED_ROWS: (usize, usize) = (500, 10_000);

/// How many accounts joined through starter packs: in all, and since a week ago.
pub async fn get_starter_pack_counts(
    cx: &Cx,
    req: proto::GetStarterPackCountsRequest,
) -> Result<proto::GetStarterPackCountsResponse> {
    let heads: Vec<_> = req.refs.iter().map(|r| tables::on_head(&r.uri)).collect();
    let heads = cx.store.get(&heads).await?;
    let joined_all_time: Vec<i32> = heads.iter().map(|h| Head::read(h.as_ref()).on(OnCount::Joined)).collect();
    let mut joined_week = vec![0usize; req.refs.len()];
    // Later times come first, so what is wanted is a range that ends at the time a week ago.
    let mut end = vec![on::JOINED];
    end.extend_from_slice(&crate::page::timed_position((cx.now_us)().saturating_sub(WEEK_US), 0)[..8]);
    let recent = |pack: usize| tables::scan_on(&req.refs[pack].uri, on::JOINED).before(end.clone());
    let mut places: HashMap<&str, usize> = HashMap::new();
    let first: Vec<usize> =
        req.refs.iter().enumerate().map(|(place, r)| *places.entry(&r.uri).or_insert(place)).collect();
    let mut open: Vec<(usize, Scan)> = (0..req.refs.len())
        .filter(|pack| joined_all_time[*pack] > 0 && first[*pack] == *pack)
        .map(|pack| (pack, recent(pack).limit(JOINED_ROWS.0)))
        .collect();
    while !open.is_empty() {
        let (packs, scans): (Vec<usize>, Vec<Scan>) = open.drain(..).unzip();
        for (pack, page) in packs.into_iter().zip(cx.store.scan_many(scans).await?) {
            joined_week[pack] += page.rows.len();
            if let Some(last) = page.rows.last().filter(|_| page.more)
                && joined_week[pack] < JOINED_WEEK_MAX
            {
                open.push((pack, recent(pack).after(last.clustering()).limit(JOINED_ROWS.1)));
            }
        }
    }
    let joined_week = first.iter().map(|pack| i32::try_from(joined_week[*pack]).unwrap_or(i32::MAX)).collect();
    Ok(proto::GetStarterPackCountsResponse { joined_week, joined_all_time })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{ANY_CID, NOW_US, World, at, did, iso, walk};

    const PROFILE: &str = "app.bsky.actor.profile";

    async fn counts(world: &World, uris: &[&str]) -> (Vec<i32>, Vec<i32>) {
        let refs = uris.iter().map(|uri| proto::RecordRef { uri: (*uri).to_owned(), cid: String::new() }).collect();
        let found = get_starter_pack_counts(&world.cx, proto::GetStarterPackCountsRequest { refs }).await.unwrap();
        (found.joined_week, found.joined_all_time)
    }

    #[tokio::test]
    async fn packs_of_an_account_are_paged_newest_first() {
        let world = World::new();
        let alice = did("alice");
        let mut expected = Vec::new();
        for i in 0..5i64 {
            let list = format!("at://{alice}/app.bsky.graph.list/l");
            let record = json!({"name": "pack", "list": list, "createdAt": iso(at(i))});
            expected.insert(0, world.create(&alice, NSID, &format!("s{i}"), record, at(i)).await);
        }
        let found = walk!(|limit, cursor| {
            let ask = proto::GetActorStarterPacksRequest { actor_did: alice.clone(), limit, cursor };
            let found = get_actor_starter_packs(&world.cx, ask).await.unwrap();
            (found.uris, found.cursor)
        });
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_week_ago_to_the_millisecond_is_no_longer_this_week() {
        let world = World::new();
        let pack = format!("at://{}/{NSID}/s", did("owner"));
        let times = [NOW_US - WEEK_US + 1000, NOW_US - WEEK_US, NOW_US - 2 * WEEK_US, NOW_US, NOW_US + WEEK_US];
        for (i, time) in times.iter().enumerate() {
            let record = json!({"createdAt": iso(*time), "joinedViaStarterPack": {"uri": pack, "cid": ANY_CID}});
            world.create(&did(&format!("j{}", (b'a' + i as u8) as char)), PROFILE, "self", record, at(0)).await;
        }
        let asked = [pack.as_str(), "junk", "", &pack];
        assert_eq!(counts(&world, &asked).await, (vec![3, 0, 0, 3], vec![5, 0, 0, 5]));
        // The profile goes, or names no pack any longer.
        world.delete(&did("ja"), PROFILE, "self", at(1)).await;
        world.update(&did("jb"), PROFILE, "self", json!({"displayName": "b"}), at(1)).await;
        assert_eq!(counts(&world, &[&pack]).await, (vec![2], vec![3]));
        assert_eq!(counts(&world, &[]).await, (vec![], vec![]));
    }

    #[tokio::test]
    async fn a_pack_with_many_joins_is_counted_over_several_looks() {
        let world = World::new();
        let pack = format!("at://{}/{NSID}/s", did("owner"));
        let named = pack.clone();
        let joins = JOINED_ROWS.0 + 7;
        world
            .write(move |view| {
                for i in 0..joins {
                    let record = json!({"$type": PROFILE, "createdAt": iso(at(-(i as i64))),
                                        "joinedViaStarterPack": {"uri": named, "cid": ANY_CID}});
                    let block = gp_atproto::json::to_cbor(&record).unwrap();
                    let op = crate::apply::Op {
                        action: crate::apply::Action::Create,
                        collection: PROFILE,
                        rkey: "self",
                        cid: None,
                        record: Some(&block),
                    };
                    let mut applied = crate::apply::Applied::default();
                    crate::apply::apply_op(view, &format!("did:web:j{i}.test"), "r", &op, at(0), &mut applied)?;
                    assert_eq!(applied.created, 1);
                }
                Ok(())
            })
            .await;
        assert_eq!(counts(&world, &[&pack]).await, (vec![joins as i32], vec![joins as i32]));
    }
}
