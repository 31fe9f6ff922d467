//! Likes: of posts, feed generators, labelers, anything with an address.

use std::collections::HashSet;

use gp_proto as proto;

use crate::{
    Cx, Error, Result, atom,
    atom::Parts,
    counts::{ByCount, OnCount},
    follows, listing,
    listing::Walk,
    notifications::{Notice, Reason},
    page,
    placed::{Placed, did_of, uri_of},
    relation::{Relation, Shape},
    relationships::{Ask, standing},
    rows::{Rows, timed_by, timed_on},
    tables::{self, BY, ON, by, on},
};

/// Likes as a relation between an account and a subject.
pub static SHAPE: Shape = Shape {
    relation: Relation::Like,
    collection: "app.bsky.feed.like",
    subject: |it| it.reference("subject").map(atom::uri),
    rows,
    promotes: true,
    asked: None,
};

/// The rows of one standing like. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.reference("subject") else { return };
    out.put_on(subject, timed_on(subject, on::LIKE, it), "", OnCount::Likes);
    out.put_by(it.did, timed_by(it, by::LIKE), atom::uri(subject).to_vec(), ByCount::Likes);
    notify_subject(it, subject, Reason::Like, Reason::LikeViaRepost, out);
}

/// Tells the owner of a subject, and the owner of the repost through which it was seen. A like or repost of one's own
/// tells nobody (ingest 8.1).
pub(crate) fn notify_subject(it: &Placed<'_>, subject: &str, direct: Reason, via: Reason, out: &mut Rows) {
    let owner = did_of(subject);
    if owner == Some(it.did) {
        return;
    }
    let mut tell = |recipient: &str, reason, about: &str| {
        out.notify(Notice {
            recipient: recipient.to_owned(),
            reason,
            uri: it.uri(),
            subject: Some(about.to_owned()),
            sort_at_us: it.sort_at_us,
            nonce: String::new(),
        });
    };
    if let Some(owner) = owner {
        tell(owner, direct, subject);
    }
    if let Some(through) = it.reference("via")
        && let Some(reposter) = did_of(through)
        && reposter != it.did
    {
        tell(reposter, via, through);
    }
}

/// The likes of one account of many subjects.
pub async fn get_likes_by_actor_and_subjects(
    cx: &Cx,
    req: proto::GetLikesByActorAndSubjectsRequest,
) -> Result<proto::GetLikesByActorAndSubjectsResponse> {
    let subjects: Vec<_> = req.refs.iter().map(|r| atom::uri(&r.uri)).collect();
    let asks: Vec<_> = subjects.iter().map(|s| Ask { shape: &SHAPE, did: &req.actor_did, subject: s }).collect();
    Ok(proto::GetLikesByActorAndSubjectsResponse { uris: standing(cx, &asks).await? })
}

/// The likes of a subject, newest first. The older name of [`get_likes_by_subject_sorted`].
pub async fn get_likes_by_subject(
    cx: &Cx,
    req: proto::GetLikesBySubjectRequest,
) -> Result<proto::GetLikesBySubjectResponse> {
    let (uris, cursor) = page_on(cx, req.subject, req.limit, &req.cursor).await?;
    Ok(proto::GetLikesBySubjectResponse { uris, cursor })
}

/// The likes of a subject, newest first.
pub async fn get_likes_by_subject_sorted(
    cx: &Cx,
    req: proto::GetLikesBySubjectSortedRequest,
) -> Result<proto::GetLikesBySubjectSortedResponse> {
    let (uris, cursor) = page_on(cx, req.subject, req.limit, &req.cursor).await?;
    Ok(proto::GetLikesBySubjectSortedResponse { uris, cursor })
}

async fn page_on(
    cx: &Cx,
    subject: Option<proto::RecordRef>,
    limit: i32,
    cursor: &str,
) -> Result<(Vec<String>, String)> {
    let subject = subject.unwrap_or_default();
    listing::on_page(cx, &subject.uri, on::LIKE, SHAPE.collection, limit, cursor).await
}

/// What an account likes, newest like first. Subjects that are not addressed by DID are left out, because the AppView
/// fails the whole page for one of them (since-0.0.275 4.5).
pub async fn get_actor_likes(cx: &Cx, req: proto::GetActorLikesRequest) -> Result<proto::GetActorLikesResponse> {
    let actor = req.actor_did.as_str();
    let uri = |row: &gp_store::Row| Ok::<_, Error>(uri_of(actor, SHAPE.collection, &listing::by_row(row)?));
    let mut walk = Walk::new(tables::scan_by(actor, by::LIKE), by::LIKE, req.limit, &req.cursor)?;
    while let Some(rows) = walk.rows(cx).await? {
        for row in rows {
            let subject = Parts::of(BY.name, &row.value).uri()?;
            if did_of(&subject).is_some() {
                let info = proto::LikeInfo { uri: uri(&row)?, subject };
                walk.keep(row, info);
            }
        }
    }
    let (likes, cursor) = walk.finish(cx, uri).await?;
    Ok(proto::GetActorLikesResponse { likes, cursor })
}

/// Newest likes of a subject among which known likers are looked for. The contract's number (read-rpcs 5.8).
const LIKES_LOOKED_AT: usize = 500;

/// Subjects whose likes are held in memory at once.
const SUBJECTS_PER_ROUND: usize = 100;

/// Which of the newest likers of each subject an account follows, newest like first, and how many they are.
pub async fn get_known_likers(cx: &Cx, req: proto::GetKnownLikersRequest) -> Result<proto::GetKnownLikersResponse> {
    let limit = page::limit(req.limit);
    let mut results: Vec<proto::KnownLikersResult> = req
        .subject_uris
        .iter()
        .map(|uri| proto::KnownLikersResult { subject_uri: uri.clone(), ..Default::default() })
        .collect();
    if limit == 0 {
        return Ok(proto::GetKnownLikersResponse { results });
    }
    for round in results.chunks_mut(SUBJECTS_PER_ROUND) {
        let scans = round.iter().map(|r| tables::scan_on(&r.subject_uri, on::LIKE).limit(LIKES_LOOKED_AT)).collect();
        let pages = cx.store.scan_many(scans).await?;
        let mut likers: Vec<Vec<&[u8]>> = Vec::with_capacity(pages.len());
        for page in &pages {
            likers.push(page.rows.iter().map(|row| follows::account(row.clustering())).collect::<Result<_>>()?);
        }
        let distinct: HashSet<&[u8]> = likers.iter().flatten().copied().collect();
        let followed = follows::followed_among(cx, &req.actor_did, distinct.into_iter().collect()).await?;
        for (result, likers) in round.iter_mut().zip(&likers) {
            let mut known = likers.iter().filter(|liker| followed.contains(**liker));
            for liker in known.by_ref().take(limit) {
                result.dids.push(Parts::of(ON.name, liker).did()?);
            }
            result.count = i32::try_from(result.dids.len() + known.count()).unwrap_or(i32::MAX);
        }
    }
    Ok(proto::GetKnownLikersResponse { results })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apply::Action,
        interactions::get_interaction_counts,
        testing::{World, at, did, reference, walk},
    };

    const LIKE: &str = "app.bsky.feed.like";

    fn refs(uris: &[&str]) -> Vec<proto::RecordRef> {
        uris.iter().map(|uri| proto::RecordRef { uri: (*uri).to_owned(), cid: String::new() }).collect()
    }

    fn of(subject: &str, limit: i32, cursor: &str) -> proto::GetLikesBySubjectSortedRequest {
        let subject = refs(&[subject]).pop();
        proto::GetLikesBySubjectSortedRequest { subject, limit, cursor: cursor.to_owned() }
    }

    async fn all_likes(world: &World, subject: &str) -> Vec<String> {
        walk!(|limit, cursor| {
            let found = get_likes_by_subject_sorted(&world.cx, of(subject, limit, &cursor)).await.unwrap();
            (found.uris, found.cursor)
        })
    }

    async fn all_by(world: &World, actor: &str) -> Vec<(String, String)> {
        walk!(|limit, cursor| {
            let ask = proto::GetActorLikesRequest { actor_did: actor.to_owned(), limit, cursor };
            let found = get_actor_likes(&world.cx, ask).await.unwrap();
            (found.likes.into_iter().map(|l| (l.uri, l.subject)).collect(), found.cursor)
        })
    }

    async fn count(world: &World, subject: &str) -> i32 {
        let ask = proto::GetInteractionCountsRequest { refs: refs(&[subject]), skip_cache_for_dids: vec![] };
        get_interaction_counts(&world.cx, ask).await.unwrap().likes[0]
    }

    #[tokio::test]
    async fn subjects_are_answered_in_place() {
        let world = World::new();
        let (alice, bob) = (did("alice"), did("bob"));
        let post = world.post(&bob, "p", at(0)).await;
        let feed = format!("at://{bob}/app.bsky.feed.generator/never-seen");
        let (liked, liked_feed) =
            (world.like(&alice, &post, "one", at(1)).await, world.like(&alice, &feed, "two", at(1)).await);
        world.like(&bob, &post, "one", at(1)).await;
        let long = format!("at://{bob}/app.bsky.feed.post/{}", "x".repeat(3000));
        let asked = refs(&[&post, "", "junk", &feed, &post, &long, "at://bob.test/app.bsky.feed.post/p", &bob]);
        let ask = |actor: &str, refs| proto::GetLikesByActorAndSubjectsRequest { actor_did: actor.to_owned(), refs };
        let uris = get_likes_by_actor_and_subjects(&world.cx, ask(&alice, asked.clone())).await.unwrap().uris;
        assert_eq!(uris, [&liked, "", "", &liked_feed, &liked, "", "", ""]);
        let uris = get_likes_by_actor_and_subjects(&world.cx, ask("alice.test", asked.clone())).await.unwrap().uris;
        assert_eq!(uris, vec![""; asked.len()]);
        assert!(get_likes_by_actor_and_subjects(&world.cx, ask(&alice, vec![])).await.unwrap().uris.is_empty());
    }

    #[tokio::test]
    async fn likes_of_a_subject_are_paged_newest_first_twins_included() {
        let world = World::new();
        let post = world.post(&did("bob"), "p", at(-100)).await;
        let mut expected = Vec::new();
        for i in 0..13u8 {
            let fan = did(&format!("fan{}", (b'a' + i) as char));
            expected.push(world.like(&fan, &post, "l", at(i64::from(i / 5))).await);
        }
        let mut found = all_likes(&world, &post).await;
        let times: Vec<usize> = found.iter().map(|f| expected.iter().position(|e| e == f).unwrap() / 5).collect();
        assert_eq!(times, [2, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
        found.sort();
        assert_eq!(found, expected);
        // The older name gives the same.
        let ask = proto::GetLikesBySubjectRequest { subject: refs(&[&post]).pop(), limit: 13, cursor: String::new() };
        let exact = get_likes_by_subject(&world.cx, ask).await.unwrap();
        assert_eq!((exact.uris.len(), exact.cursor.as_str()), (13, ""));
        for limit in [0, -1, -100] {
            let none = get_likes_by_subject_sorted(&world.cx, of(&post, limit, "")).await.unwrap();
            assert_eq!(none, proto::GetLikesBySubjectSortedResponse::default());
        }
        for nothing in ["", "junk", "at://did:plc:x/app.bsky.feed.post/unknown"] {
            let none = get_likes_by_subject_sorted(&world.cx, of(nothing, 10, "")).await.unwrap();
            assert_eq!(none, proto::GetLikesBySubjectSortedResponse::default());
        }
        let unset = proto::GetLikesBySubjectSortedRequest { subject: None, limit: 10, cursor: String::new() };
        assert!(get_likes_by_subject_sorted(&world.cx, unset).await.unwrap().uris.is_empty());
    }

    #[tokio::test]
    async fn a_token_of_the_reference_is_accepted() {
        let world = World::new();
        let post = world.post(&did("bob"), "p", at(-100)).await;
        let (a, b) = (world.like(&did("x"), &post, "l", at(2)).await, world.like(&did("y"), &post, "l", at(1)).await);
        let served = crate::records::look_up(&world.cx, &[a], LIKE).await.unwrap();
        let token = format!("{}__{}", at(2) / 1000, served[0].record.cid);
        let found = get_likes_by_subject_sorted(&world.cx, of(&post, 10, &token)).await.unwrap();
        assert_eq!(found.uris, [b]);
    }

    #[tokio::test]
    async fn a_walk_survives_the_end_of_the_like_it_stopped_at() {
        let world = World::new();
        let post = world.post(&did("bob"), "p", at(-100)).await;
        let mut uris = Vec::new();
        for name in ["a", "b", "c"] {
            uris.push(world.like(&did(name), &post, "l", at(uris.len() as i64)).await);
        }
        let first = get_likes_by_subject_sorted(&world.cx, of(&post, 1, "")).await.unwrap();
        assert_eq!(first.uris, [uris[2].clone()]);
        world.delete(&did("c"), LIKE, "l", at(9)).await;
        let rest = get_likes_by_subject_sorted(&world.cx, of(&post, 5, &first.cursor)).await.unwrap();
        assert_eq!(rest.uris, [uris[1].clone(), uris[0].clone()]);
    }

    #[tokio::test]
    async fn a_waiting_duplicate_takes_the_place_of_the_like_that_goes() {
        let world = World::new();
        let alice = did("alice");
        let post = world.post(&did("bob"), "p", at(-100)).await;
        let mut uris = Vec::new();
        for (i, rkey) in ["one", "two", "three"].iter().enumerate() {
            uris.push(world.like(&alice, &post, rkey, at(i as i64)).await);
            assert_eq!(count(&world, &post).await, 1);
        }
        let stands = async || {
            let ask =
                proto::GetLikesByActorAndSubjectsRequest { actor_did: alice.clone(), refs: refs(&[&post, &post]) };
            let found = get_likes_by_actor_and_subjects(&world.cx, ask).await.unwrap().uris;
            assert_eq!(found[0], found[1]);
            let expected: Vec<String> = found[..1].iter().filter(|uri| !uri.is_empty()).cloned().collect();
            assert_eq!(all_likes(&world, &post).await, expected);
            let by: Vec<_> = all_by(&world, &alice).await.into_iter().map(|(uri, _)| uri).collect();
            assert_eq!(by, expected);
            assert_eq!(count(&world, &post).await, expected.len() as i32);
            found[0].clone()
        };
        assert_eq!(stands().await, uris[0]);
        // A duplicate that goes changes nothing.
        world.delete(&alice, LIKE, "two", at(3)).await;
        assert_eq!(stands().await, uris[0]);
        world.delete(&alice, LIKE, "one", at(4)).await;
        assert_eq!(stands().await, uris[2]);
        world.delete(&alice, LIKE, "three", at(5)).await;
        assert_eq!(stands().await, "");
    }

    #[tokio::test]
    async fn a_like_that_moves_leaves_one_subject_and_reaches_the_other() {
        let world = World::new();
        let (alice, bob) = (did("alice"), did("bob"));
        let (p, q) = (world.post(&bob, "p", at(-100)).await, world.post(&bob, "q", at(-100)).await);
        let moved = world.like(&alice, &p, "one", at(0)).await;
        let waiting = world.like(&alice, &p, "two", at(1)).await;
        world.update(&alice, LIKE, "one", reference(&q, at(0)), at(2)).await;
        assert_eq!(all_likes(&world, &p).await, std::slice::from_ref(&waiting));
        assert_eq!(all_likes(&world, &q).await, std::slice::from_ref(&moved));
        assert_eq!((count(&world, &p).await, count(&world, &q).await), (1, 1));
        assert_eq!(all_by(&world, &alice).await, [(waiting, p.clone()), (moved, q.clone())]);
    }

    #[tokio::test]
    async fn replays_add_nothing() {
        let world = World::new();
        let (alice, bob) = (did("alice"), did("bob"));
        let post = world.post(&bob, "p", at(-100)).await;
        for _ in 0..3 {
            world.like(&alice, &post, "one", at(0)).await;
            let again = Some(reference(&post, at(0)));
            assert_eq!(world.op(Action::Update, &alice, LIKE, "one", again, at(7)).await.unchanged, 1);
            assert_eq!((count(&world, &post).await, all_likes(&world, &post).await.len()), (1, 1));
        }
        world.delete(&alice, LIKE, "one", at(1)).await;
        world.delete(&alice, LIKE, "one", at(1)).await;
        assert_eq!((count(&world, &post).await, all_likes(&world, &post).await.len()), (0, 0));
    }

    #[tokio::test]
    async fn own_likes_leave_out_subjects_that_are_named_by_handle() {
        let world = World::new();
        let alice = did("alice");
        let mut expected = Vec::new();
        for i in 0..10i64 {
            let by_did = i % 4 == 0;
            let owner = if by_did { did("bob") } else { "bob.test".to_owned() };
            let subject = format!("at://{owner}/app.bsky.feed.post/{i}");
            let uri = world.like(&alice, &subject, &format!("l{i}"), at(i)).await;
            if by_did {
                expected.insert(0, (uri, subject));
            }
        }
        assert_eq!(all_by(&world, &alice).await, expected);
        let ask = proto::GetActorLikesRequest { actor_did: alice, limit: 3, cursor: String::new() };
        let exact = get_actor_likes(&world.cx, ask).await.unwrap();
        assert_eq!((exact.likes.len(), exact.cursor.as_str()), (3, ""));
    }

    #[tokio::test]
    async fn known_likers_are_counted_before_they_are_cut() {
        let world = World::new();
        let (viewer, bob) = (did("viewer"), did("bob"));
        let (post, quiet) = (world.post(&bob, "p", at(-100)).await, world.post(&bob, "q", at(-100)).await);
        let fans: Vec<String> = (0..8u8).map(|i| did(&format!("fan{}", (b'a' + i) as char))).collect();
        for (i, fan) in fans.iter().enumerate() {
            world.like(fan, &post, "l", at(i as i64)).await;
            if i % 2 == 0 {
                world.follow(&viewer, fan, &format!("f{i}"), at(0)).await;
            }
        }
        world.like(&viewer, &post, "own", at(50)).await;
        let ask = |limit, subjects: &[&str]| proto::GetKnownLikersRequest {
            actor_did: viewer.clone(),
            subject_uris: subjects.iter().map(|s| (*s).to_owned()).collect(),
            limit,
        };
        let subjects = [post.as_str(), &quiet, "junk", &post, ""];
        let results = get_known_likers(&world.cx, ask(3, &subjects)).await.unwrap().results;
        assert_eq!(results.iter().map(|r| r.subject_uri.as_str()).collect::<Vec<_>>(), subjects);
        for known in [&results[0], &results[3]] {
            assert_eq!(known.count, 4);
            assert_eq!(known.dids, [fans[6].clone(), fans[4].clone(), fans[2].clone()]);
        }
        for nothing in [&results[1], &results[2], &results[4]] {
            assert_eq!((nothing.count, nothing.dids.len()), (0, 0));
        }
        for limit in [0, -3] {
            let results = get_known_likers(&world.cx, ask(limit, &subjects)).await.unwrap().results;
            assert_eq!(results.len(), 5);
            assert!(results.iter().all(|r| r.count == 0 && r.dids.is_empty()));
        }
        assert!(get_known_likers(&world.cx, ask(3, &[])).await.unwrap().results.is_empty());
    }
}
