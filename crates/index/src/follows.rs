//! Follows between accounts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use gp_atproto::compact;
use gp_proto as proto;
use gp_store::{Key, Row};

use crate::{
    Cx, Error, Result, actors, atom,
    atom::Parts,
    counts::{ByCount, Head, OnCount},
    graph,
    listing::{self, Walk},
    notifications::{Notice, Reason},
    page,
    placed::{Placed, uri_of},
    relation::{Relation, Shape},
    relationships::{Ask, KEYS_PER_GET, standing},
    rows::{Rows, timed_by, timed_on},
    tables::{self, BY, ON, by, on},
};

/// Follows as a relation between two accounts.
pub static SHAPE: Shape = Shape {
    relation: Relation::Follow,
    collection: "app.bsky.graph.follow",
    subject: |it| it.text("subject").map(atom::did),
    rows,
    promotes: true,
    asked: Some(|it| Some((it.text("subject")?.to_owned(), it.did.to_owned()))),
};

/// The rows of one standing follow. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.text("subject") else { return };
    out.put_on(subject, timed_on(subject, on::FOLLOWER, it), "", OnCount::Followers);
    out.put_by(it.did, timed_by(it, by::FOLLOW), atom::did(subject).to_vec(), ByCount::Follows);
    if subject != it.did {
        out.notify(Notice {
            recipient: subject.to_owned(),
            reason: Reason::Follow,
            uri: it.uri(),
            subject: None,
            sort_at_us: it.sort_at_us,
            nonce: String::new(),
        });
    }
}

/// The follows by one account of many.
pub async fn get_actor_follows_actors(
    cx: &Cx,
    req: proto::GetActorFollowsActorsRequest,
) -> Result<proto::GetActorFollowsActorsResponse> {
    let targets: Vec<_> = req.target_dids.iter().map(|did| atom::did(did)).collect();
    let actor = atom::did(&req.actor_did);
    // Only the record of a follow that there is must be looked up.
    let is = cx.graph.are(targets.iter().map(|target| (&actor[..], &target[..])));
    let is = |i: usize| is.as_ref().is_none_or(|is| is[i]);
    let asked = targets.iter().enumerate().filter(|(i, _)| is(*i));
    let asks: Vec<_> = asked.map(|(_, t)| Ask { shape: &SHAPE, did: &req.actor_did, subject: t }).collect();
    let mut found = standing(cx, &asks).await?.into_iter();
    let uris = (0..targets.len()).map(|i| if is(i) { found.next().unwrap_or_default() } else { String::new() });
    Ok(proto::GetActorFollowsActorsResponse { uris: uris.collect() })
}

/// The followers of an account, newest follow first. Followers that were never seen as accounts are left out.
pub async fn get_followers(cx: &Cx, req: proto::GetFollowersRequest) -> Result<proto::GetFollowersResponse> {
    let subject = req.actor_did.as_str();
    let info = |row: &Row| {
        let (did, rkey) = listing::on_row(row)?;
        Ok(proto::FollowInfo {
            uri: uri_of(&did, SHAPE.collection, &rkey),
            actor_did: did,
            subject_did: subject.to_owned(),
        })
    };
    let walk = Walk::new(tables::scan_on(subject, on::FOLLOWER), on::FOLLOWER, req.limit, &req.cursor)?;
    let (followers, cursor) = known(cx, walk, info, |info| &info.actor_did).await?;
    Ok(proto::GetFollowersResponse { followers, cursor })
}

/// The accounts that an account follows, newest follow first. Accounts that were never seen are left out.
pub async fn get_follows(cx: &Cx, req: proto::GetFollowsRequest) -> Result<proto::GetFollowsResponse> {
    let actor = req.actor_did.as_str();
    let info = |row: &Row| {
        Ok(proto::FollowInfo {
            uri: uri_of(actor, SHAPE.collection, &listing::by_row(row)?),
            actor_did: actor.to_owned(),
            subject_did: Parts::of(BY.name, &row.value).did()?,
        })
    };
    let walk = Walk::new(tables::scan_by(actor, by::FOLLOW), by::FOLLOW, req.limit, &req.cursor)?;
    let (follows, cursor) = known(cx, walk, info, |info| &info.subject_did).await?;
    Ok(proto::GetFollowsResponse { follows, cursor })
}

/// A page of those follows whose other side is a known account.
async fn known(
    cx: &Cx,
    mut walk: Walk<proto::FollowInfo>,
    info: impl Fn(&Row) -> Result<proto::FollowInfo>,
    other: impl Fn(&proto::FollowInfo) -> &String,
) -> Result<(Vec<proto::FollowInfo>, String)> {
    while let Some(rows) = walk.rows(cx).await? {
        let infos = rows.iter().map(&info).collect::<Result<Vec<_>>>()?;
        let keys: Vec<Key> = infos.iter().map(|info| actors::key(other(info))).collect();
        let found = cx.store.get(&keys).await?;
        for ((row, info), stored) in rows.into_iter().zip(infos).zip(found) {
            let actor = match stored {
                Some(stored) => cx.damage.or_absent(actors::read(&stored))?,
                None => None,
            };
            if actor.is_some_and(|actor| actor.exists) {
                walk.keep(row, info);
            }
        }
    }
    walk.finish(cx, |row| Ok(info(row)?.uri)).await
}

/// Newest follows of one account that an intersection looks at.
const FOLLOWS_MAX: usize = 20_000;

/// Follows looked for among followers in memory before other tasks of the thread get their turn.
const LOOKS_PER_TURN: usize = 50_000;

/// Followers of one account that are read whole instead of being probed one by one: as many as one scan returns.
const FOLLOWERS_MAX: usize = 10_000;

/// A probe of one key costs about as much as this many rows of a scan: fifteen where the key is not in memory, which it
/// mostly is not, and one where it is.
const ROWS_PER_PROBE: usize = 8;

/// Rows of followers held in memory at once.
const ROWS_HELD_MAX: usize = 50_000;

/// Probes that one call may make. Beyond it only the newest follows of the account are probed, so the answer to a call
/// about many celebrities by somebody who follows very many is cut short; it would come too late anyway.
const PROBES_MAX: usize = 500_000;

/// For each target, the accounts that an account follows and that follow the target; newest follow of the account
/// first.
///
/// From the graph in memory, if it has everything. Otherwise either the few followers of a target are compared with the
/// follows, or each follow is asked whether it follows the target, whichever is less work.
pub async fn get_follows_following(
    cx: &Cx,
    req: proto::GetFollowsFollowingRequest,
) -> Result<proto::GetFollowsFollowingResponse> {
    let targets = &req.target_dids;
    let mut results: Vec<proto::FollowsFollowing> =
        targets.iter().map(|did| proto::FollowsFollowing { target_did: did.clone(), dids: Vec::new() }).collect();
    if targets.is_empty() {
        return Ok(proto::GetFollowsFollowingResponse { results });
    }
    // Each distinct target once.
    let mut places: HashMap<&str, usize> = HashMap::new();
    let distinct: Vec<usize> = (0..targets.len()).filter(|i| *places.entry(&targets[*i]).or_insert(*i) == *i).collect();
    if !common(cx, &req.actor_did, &distinct, &mut results).await? {
        ask_store(cx, &req.actor_did, distinct, &mut results).await?;
    }
    for (i, target) in targets.iter().enumerate() {
        let first = places[target.as_str()];
        if first != i {
            results[i].dids = results[first].dids.clone();
        }
    }
    Ok(proto::GetFollowsFollowingResponse { results })
}

/// Finds in the graph who of those that an account follows follows each of some targets. Says no, with nothing found, if
/// the store must be asked.
async fn common(cx: &Cx, actor: &str, targets: &[usize], results: &mut [proto::FollowsFollowing]) -> Result<bool> {
    let Some(follows) = in_order(cx, actor).await? else { return Ok(false) };
    let mut sorted: Vec<(u32, u32)> = (0..).zip(&follows).map(|(place, number)| (*number, place)).collect();
    sorted.sort_unstable();
    let mut all = Vec::with_capacity(targets.len());
    let mut looked = 0;
    for i in targets {
        let Some(found) = cx.graph.followers_among(&results[*i].target_did, &sorted) else { return Ok(false) };
        looked += sorted.len();
        if looked > LOOKS_PER_TURN {
            looked = 0;
            gp_store::give_way().await;
        }
        all.push(found);
    }
    for (i, found) in targets.iter().zip(all) {
        results[*i].dids = cx.graph.names().dids(found.iter().map(|place| follows[*place as usize]))?;
    }
    Ok(true)
}

/// The newest accounts that an account follows, the newest follow first, by their numbers in the graph. Nothing if the
/// store must be asked.
async fn in_order(cx: &Cx, actor: &str) -> Result<Option<Vec<u32>>> {
    match cx.graph.newest(actor, FOLLOWS_MAX) {
        None => Ok(None),
        Some(graph::Follows::InOrder(follows)) => Ok(Some(follows)),
        Some(graph::Follows::Unordered(what)) => {
            let mut atoms: Vec<Bytes> = Vec::new();
            let (mut newest_us, mut scan) = (i64::MIN, tables::scan_by(actor, by::FOLLOW));
            loop {
                let page = cx.store.scan_fresh(scan).await?;
                if let Some(first) = page.rows.first() {
                    newest_us = newest_us.max(page::sort_at_of(first.clustering())?);
                }
                atoms.extend(page.rows.iter().map(|row| row.value.clone()));
                match page.rows.last() {
                    Some(last) if page.more => scan = tables::scan_by(actor, by::FOLLOW).after(last.clustering()),
                    _ => break,
                }
                if atoms.len() > graph::ORDERED_MAX {
                    return Ok(None);
                }
            }
            // Whoever has no number was followed a moment ago.
            let numbers = cx.graph.names().all_known(atoms.iter().map(|atom| &atom[..]));
            let mut follows: Vec<u32> = numbers.into_iter().flatten().collect();
            cx.graph.put_in_order(&what, &follows, newest_us);
            follows.truncate(FOLLOWS_MAX);
            Ok(Some(follows))
        }
    }
}

/// As [`common`], from the rows of the store.
async fn ask_store(cx: &Cx, actor: &str, distinct: Vec<usize>, results: &mut [proto::FollowsFollowing]) -> Result<()> {
    let follows = newest_follows(cx, actor).await?;
    if follows.is_empty() {
        return Ok(());
    }
    let heads: Vec<Key> = distinct.iter().map(|i| tables::on_head(&results[*i].target_did)).collect();
    let mut to_scan: Vec<(usize, usize)> = Vec::new();
    let mut to_probe: Vec<usize> = Vec::new();
    for (i, head) in distinct.into_iter().zip(cx.store.get(&heads).await?) {
        let followers = Head::read(head.as_ref()).get(OnCount::Followers as u8);
        match usize::try_from(followers).unwrap_or(usize::MAX) {
            0 => {}
            n if n <= FOLLOWERS_MAX && n <= follows.len().saturating_mul(ROWS_PER_PROBE) => to_scan.push((i, n)),
            _ => to_probe.push(i),
        }
    }
    compare_followers(cx, &follows, &to_scan, results).await?;
    probe_follows(cx, &follows, &to_probe, results).await
}

/// Reads the followers of some targets and keeps those among the follows.
async fn compare_followers(
    cx: &Cx,
    follows: &[Bytes],
    targets: &[(usize, usize)],
    results: &mut [proto::FollowsFollowing],
) -> Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    let places: HashMap<&[u8], usize> = follows.iter().enumerate().map(|(i, did)| (&did[..], i)).collect();
    let mut rest = targets;
    while !rest.is_empty() {
        let mut rows = 0;
        let fits = rest.iter().take_while(|(_, n)| {
            rows += n;
            rows <= ROWS_HELD_MAX
        });
        let (group, after) = rest.split_at(fits.count().max(1));
        rest = after;
        let scans = group.iter().map(|(i, _)| tables::scan_on(&results[*i].target_did, on::FOLLOWER)).collect();
        for ((i, _), page) in group.iter().zip(cx.store.scan_many(scans).await?) {
            let mut found: Vec<usize> = Vec::new();
            for row in &page.rows {
                found.extend(places.get(account(row.clustering())?));
            }
            found.sort_unstable();
            results[*i].dids = found.into_iter().map(|i| did_of(&follows[i])).collect::<Result<_>>()?;
        }
    }
    Ok(())
}

/// Asks of each follow whether it follows each of some targets.
async fn probe_follows(
    cx: &Cx,
    follows: &[Bytes],
    targets: &[usize],
    results: &mut [proto::FollowsFollowing],
) -> Result<()> {
    let each = follows.len().min(PROBES_MAX / targets.len().max(1));
    let follows = &follows[..each];
    let mut probes: Vec<(usize, &Bytes)> = Vec::with_capacity(KEYS_PER_GET.min(each * targets.len()));
    let mut keys = Vec::with_capacity(probes.capacity());
    for (nth, i) in targets.iter().enumerate() {
        let target = atom::did(&results[*i].target_did);
        for (at, did) in follows.iter().enumerate() {
            keys.push(claim(did, &target));
            probes.push((*i, did));
            let last = nth + 1 == targets.len() && at + 1 == follows.len();
            if keys.len() < KEYS_PER_GET && !last {
                continue;
            }
            let found = cx.store.get(&keys).await?;
            for ((i, did), found) in probes.drain(..).zip(found) {
                if found.is_some() {
                    results[i].dids.push(did_of(did)?);
                }
            }
            keys.clear();
        }
    }
    Ok(())
}

/// The newest accounts that an account follows, by their numbers, in any order. Nothing if the store must be asked.
pub(crate) fn followed(cx: &Cx, actor: &str, max: usize) -> Option<Vec<u32>> {
    // They mean nothing to a window that has other names.
    Arc::ptr_eq(cx.graph.names(), cx.window.names()).then(|| cx.graph.followed(actor, max)).flatten()
}

/// The newest accounts that an account follows, as they are kept in keys.
async fn newest_follows(cx: &Cx, actor: &str) -> Result<Vec<Bytes>> {
    let mut follows: Vec<Bytes> = Vec::new();
    let mut scan = tables::scan_by(actor, by::FOLLOW).limit(FOLLOWS_MAX);
    loop {
        let page = cx.store.scan(scan).await?;
        follows.extend(page.rows.iter().map(|row| row.value.clone()));
        match page.rows.last() {
            Some(last) if page.more && follows.len() < FOLLOWS_MAX => {
                let left = FOLLOWS_MAX - follows.len();
                scan = tables::scan_by(actor, by::FOLLOW).after(last.clustering()).limit(left);
            }
            _ => return Ok(follows),
        }
    }
}

/// Which of some accounts an account follows. Accounts are given and returned as they are kept in keys.
pub(crate) async fn followed_among(cx: &Cx, actor: &str, others: Vec<&[u8]>) -> Result<HashSet<Bytes>> {
    let actor_atom = atom::did(actor);
    if let Some(is) = cx.graph.are(others.iter().map(|other| (&actor_atom[..], *other))) {
        let followed = others.iter().zip(is).filter(|(_, is)| *is);
        return Ok(followed.map(|(other, _)| Bytes::copy_from_slice(other)).collect());
    }
    let head = Head::read(cx.store.get_one(&tables::by_head(actor)).await?.as_ref());
    let follows = usize::try_from(head.get(ByCount::Follows as u8)).unwrap_or(usize::MAX);
    if follows == 0 || others.is_empty() {
        return Ok(HashSet::new());
    }
    if follows <= FOLLOWS_MAX && follows <= others.len().saturating_mul(ROWS_PER_PROBE) {
        return Ok(newest_follows(cx, actor).await?.into_iter().collect());
    }
    let actor = actor_atom;
    let mut followed = HashSet::new();
    for others in others.chunks(KEYS_PER_GET) {
        let keys: Vec<Key> = others.iter().map(|other| claim(&actor, other)).collect();
        let found = cx.store.get(&keys).await?;
        let standing = others.iter().zip(found).filter(|(_, found)| found.is_some());
        followed.extend(standing.map(|(other, _)| Bytes::copy_from_slice(other)));
    }
    Ok(followed)
}

/// The place of the follows of one account by another, both as they are kept in keys.
fn claim(actor: &[u8], subject: &[u8]) -> Key {
    Key::of(&BY).atom(actor).cluster().tag(by::CLAIM).tag(Relation::Follow as u8).atom(subject).key()
}

/// The account in the position of a timed row of `on`, as it is kept.
pub(crate) fn account(clustering: &[u8]) -> Result<&[u8]> {
    let rest = clustering.get(13..).unwrap_or_default();
    let len = compact::atom_len(rest).map_err(|_| Error::Corrupt { table: ON.name, what: "did" })?;
    Ok(&rest[..len])
}

fn did_of(account: &[u8]) -> Result<String> {
    Parts::of(BY.name, account).did()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        apply::Action,
        testing::{World, at, did, iso, walk},
    };

    const FOLLOW: &str = "app.bsky.graph.follow";

    fn page(actor: &str, limit: i32, cursor: &str) -> (proto::GetFollowersRequest, proto::GetFollowsRequest) {
        let (actor_did, cursor, sort) = (actor.to_owned(), cursor.to_owned(), String::new());
        (
            proto::GetFollowersRequest {
                actor_did: actor_did.clone(),
                limit,
                cursor: cursor.clone(),
                sort: sort.clone(),
            },
            proto::GetFollowsRequest { actor_did, limit, cursor, sort },
        )
    }

    async fn all_followers(world: &World, actor: &str) -> Vec<proto::FollowInfo> {
        walk!(|limit, cursor| {
            let found = get_followers(&world.cx, page(actor, limit, &cursor).0).await.unwrap();
            (found.followers, found.cursor)
        })
    }

    async fn all_follows(world: &World, actor: &str) -> Vec<proto::FollowInfo> {
        walk!(|limit, cursor| {
            let found = get_follows(&world.cx, page(actor, limit, &cursor).1).await.unwrap();
            (found.follows, found.cursor)
        })
    }

    #[tokio::test]
    async fn targets_are_answered_in_place() {
        let world = World::new();
        let (alice, bob, carol) = (did("alice"), did("bob"), did("carol"));
        let uri = world.follow(&alice, &bob, "f", at(0)).await;
        world.follow(&carol, &alice, "f", at(0)).await;
        let ask = |targets: Vec<&str>| proto::GetActorFollowsActorsRequest {
            actor_did: alice.clone(),
            target_dids: targets.into_iter().map(str::to_owned).collect(),
        };
        let long = "x".repeat(5000);
        let asked = ask(vec![&bob, &carol, "bob.test", "", &bob, &long, "did:plc:nobody", &alice]);
        let uris = get_actor_follows_actors(&world.cx, asked).await.unwrap().uris;
        assert_eq!(uris, [&uri, "", "", "", &uri, "", "", ""]);
        assert!(get_actor_follows_actors(&world.cx, ask(vec![])).await.unwrap().uris.is_empty());
    }

    #[tokio::test]
    async fn followers_are_paged_newest_first_twins_included() {
        let world = World::new();
        let star = did("star");
        // Everybody writes the same bytes at one of three times: within a time all share one CID.
        let mut expected = Vec::new();
        for i in 0..12 {
            let fan = did(&format!("fan{}", (b'a' + i) as char));
            world.follow(&fan, &star, "f", at(i64::from(i / 4))).await;
            expected.push(fan);
        }
        let found = all_followers(&world, &star).await;
        assert!(found.iter().all(|f| f.subject_did == star && f.uri == uri_of(&f.actor_did, FOLLOW, "f")));
        let times: Vec<usize> =
            found.iter().map(|f| expected.iter().position(|e| *e == f.actor_did).unwrap() / 4).collect();
        assert_eq!(times, [2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0]);
        let mut dids: Vec<_> = found.into_iter().map(|f| f.actor_did).collect();
        dids.sort();
        assert_eq!(dids, expected);
        // A page that the list fills exactly is the last one.
        let exact = get_followers(&world.cx, page(&star, 12, "").0).await.unwrap();
        assert_eq!((exact.followers.len(), exact.cursor.as_str()), (12, ""));
        for limit in [0, -1, i32::MIN] {
            let none = get_followers(&world.cx, page(&star, limit, "").0).await.unwrap();
            assert_eq!(none, proto::GetFollowersResponse::default());
        }
        assert!(matches!(
            get_followers(&world.cx, page(&star, 1, "nonsense").0).await,
            Err(Error::Invalid { field: "cursor", .. })
        ));
    }

    #[tokio::test]
    async fn accounts_never_seen_are_left_out_and_the_page_is_filled_up() {
        let world = World::new();
        let star = did("star");
        let mut known = Vec::new();
        for i in 0..40i64 {
            let fan = format!("did:web:fan{i:02}.test");
            let record = json!({"subject": star, "createdAt": iso(at(i))});
            if i % 10 == 3 {
                world.create(&fan, FOLLOW, "f", record, at(i)).await;
                known.insert(0, fan.clone());
            } else {
                let applied = world.op(Action::Create, &fan, FOLLOW, "f", Some(record), at(i)).await;
                assert_eq!(applied.created, 1);
            }
            world.follow(&star, &fan, &format!("f{i}"), at(i)).await;
        }
        let two = get_followers(&world.cx, page(&star, 2, "").0).await.unwrap();
        assert_eq!(two.followers.iter().map(|f| &f.actor_did).collect::<Vec<_>>(), [&known[0], &known[1]]);
        assert!(!two.cursor.is_empty());
        let four = get_followers(&world.cx, page(&star, 4, "").0).await.unwrap();
        assert_eq!((four.followers.len(), four.cursor.as_str()), (4, ""));
        let followers: Vec<_> = all_followers(&world, &star).await.into_iter().map(|f| f.actor_did).collect();
        assert_eq!(followers, known);
        let follows = all_follows(&world, &star).await;
        assert!(follows.iter().all(|f| f.actor_did == star && f.uri.starts_with(&format!("at://{star}/{FOLLOW}/f"))));
        assert_eq!(follows.into_iter().map(|f| f.subject_did).collect::<Vec<_>>(), known);
    }

    #[tokio::test]
    async fn a_page_that_ends_before_anything_was_found_says_where_to_go_on() {
        let world = World::new();
        let star = did("star");
        world.follow(&did("last"), &star, "f", at(-1000)).await;
        // More unknown followers than one page looks at.
        let unknown = 1 + 500 * 19 + 10;
        let subject = star.clone();
        world
            .write(move |view| {
                for i in 0..unknown {
                    let mut applied = crate::apply::Applied::default();
                    let record = json!({"$type": FOLLOW, "subject": subject, "createdAt": iso(at(0))});
                    let block = gp_atproto::json::to_cbor(&record).unwrap();
                    let op = crate::apply::Op {
                        action: Action::Create,
                        collection: FOLLOW,
                        rkey: "f",
                        cid: None,
                        record: Some(&block),
                    };
                    crate::apply::apply_op(view, &format!("did:web:u{i}.test"), "r", &op, at(0), &mut applied)?;
                }
                Ok(())
            })
            .await;
        let first = get_followers(&world.cx, page(&star, 1, "").0).await.unwrap();
        assert!(first.followers.is_empty() && !first.cursor.is_empty());
        let second = get_followers(&world.cx, page(&star, 1, &first.cursor).0).await.unwrap();
        assert_eq!((second.followers.len(), second.cursor.as_str()), (1, ""));
    }

    #[tokio::test]
    async fn known_followers_are_found_both_ways_in_the_order_of_the_viewers_follows() {
        let world = World::new();
        let (viewer, small, big, alone) = (did("viewer"), did("small"), did("big"), did("alone"));
        let friends: Vec<String> = ["x", "y", "z"].map(did).to_vec();
        for (i, friend) in friends.iter().enumerate() {
            // The latest follow comes first, whatever the order in which the friends followed.
            world.follow(&viewer, friend, &format!("f{i}"), at(i as i64)).await;
            world.follow(friend, &big, "b", at(-(i as i64))).await;
        }
        world.follow(&friends[0], &small, "s", at(5)).await;
        world.follow(&friends[2], &small, "s", at(4)).await;
        for i in 0..40 {
            world.follow(&format!("did:web:fan{i}.test"), &big, "b", at(0)).await;
        }
        world.follow("did:web:fan1.test", &small, "s", at(0)).await;
        world.follow(&viewer, &big, "own", at(0)).await;
        let head = world.cx.store.get_one(&tables::on_head(&big)).await.unwrap();
        let followers = Head::read(head.as_ref()).get(OnCount::Followers as u8) as usize;
        assert!(followers > 5 * ROWS_PER_PROBE, "big must be probed, not read");
        let ask = |targets: Vec<&str>| proto::GetFollowsFollowingRequest {
            actor_did: viewer.clone(),
            target_dids: targets.into_iter().map(str::to_owned).collect(),
        };
        let results = get_follows_following(&world.cx, ask(vec![&small, &big, &alone, "junk", "", &small, &big]))
            .await
            .unwrap()
            .results;
        let targets: Vec<&str> = results.iter().map(|r| r.target_did.as_str()).collect();
        assert_eq!(targets, [&small, &big, &alone, "junk", "", &small, &big]);
        let of_small = [friends[2].clone(), friends[0].clone()];
        let of_big = [friends[2].clone(), friends[1].clone(), friends[0].clone()];
        assert_eq!(results[0].dids, of_small);
        assert_eq!(results[1].dids, of_big);
        assert!(results[2..5].iter().all(|r| r.dids.is_empty()));
        assert_eq!((&results[5].dids[..], &results[6].dids[..]), (&of_small[..], &of_big[..]));
        // The viewer itself only if it follows itself.
        world.follow(&viewer, &viewer, "me", at(9)).await;
        let results = get_follows_following(&world.cx, ask(vec![&big])).await.unwrap().results;
        assert_eq!(results[0].dids[0], viewer);
        let nobody = proto::GetFollowsFollowingRequest { actor_did: "x".into(), target_dids: vec![big.clone()] };
        assert!(get_follows_following(&world.cx, nobody).await.unwrap().results[0].dids.is_empty());
    }

    #[tokio::test]
    async fn those_followed_are_found_by_reading_and_by_probing() {
        let world = World::new();
        let viewer = did("viewer");
        let followed: Vec<String> = (0..=2 * ROWS_PER_PROBE).map(|i| format!("did:web:f{i}.test")).collect();
        for (i, did) in followed.iter().enumerate() {
            world.follow(&viewer, did, &format!("f{i}"), at(0)).await;
        }
        let (one, stranger) = (atom::did(&followed[4]), atom::did("did:web:stranger.test"));
        // More than twice as many as a probe costs against two others: probed. Against three: read.
        for others in [vec![&one[..], &stranger], vec![&one, &stranger, b"junk"]] {
            let found = followed_among(&world.cx, &viewer, others).await.unwrap();
            assert!(found.contains(&one[..]) && !found.contains(&stranger[..]));
        }
        assert!(followed_among(&world.cx, "nobody", vec![&one]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_duplicate_takes_the_place_of_the_follow_that_goes() {
        let world = World::new();
        let (alice, bob) = (did("alice"), did("bob"));
        world.actor(&bob).await;
        let counts = async || {
            let dids = vec![alice.clone(), bob.clone()];
            let counts = crate::interactions::get_counts_for_users(&world.cx, proto::GetCountsForUsersRequest { dids });
            let counts = counts.await.unwrap();
            (counts.following, counts.followers)
        };
        let first = world.follow(&alice, &bob, "one", at(0)).await;
        let second = world.follow(&alice, &bob, "two", at(1)).await;
        assert_eq!(all_follows(&world, &alice).await[0].uri, first);
        assert_eq!(counts().await, (vec![1, 0], vec![0, 1]));
        world.delete(&alice, FOLLOW, "one", at(2)).await;
        let found = all_followers(&world, &bob).await;
        assert_eq!((found.len(), &found[0].uri), (1, &second));
        assert_eq!(counts().await, (vec![1, 0], vec![0, 1]));
        world.delete(&alice, FOLLOW, "two", at(3)).await;
        assert!(all_followers(&world, &bob).await.is_empty() && all_follows(&world, &alice).await.is_empty());
        assert_eq!(counts().await, (vec![0, 0], vec![0, 0]));
    }
}
