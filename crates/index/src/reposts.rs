//! Reposts: of posts, and of anything else with an address.

use gp_proto as proto;

use crate::{
    Cx, Result, atom,
    counts::{ByCount, OnCount},
    feeds, likes, listing,
    notifications::Reason,
    placed::Placed,
    relation::{Relation, Shape},
    relationships::{Ask, standing},
    rows::{Rows, timed_by, timed_on},
    tables::{by, on},
};

/// Reposts as a relation between an account and a subject.
pub static SHAPE: Shape = Shape {
    relation: Relation::Repost,
    collection: "app.bsky.feed.repost",
    subject: |it| it.reference("subject").map(atom::uri),
    rows,
    promotes: true,
    asked: None,
};

/// The rows of one standing repost. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.reference("subject") else { return };
    out.put_on(subject, timed_on(subject, on::REPOST, it), "", OnCount::Reposts);
    out.put_by(it.did, timed_by(it, by::REPOST), atom::uri(subject).to_vec(), ByCount::Reposts);
    feeds::repost_row(it, subject, out);
    likes::notify_subject(it, subject, Reason::Repost, Reason::RepostViaRepost, out);
}

/// The reposts by one account of many subjects.
pub async fn get_reposts_by_actor_and_subjects(
    cx: &Cx,
    req: proto::GetRepostsByActorAndSubjectsRequest,
) -> Result<proto::GetRepostsByActorAndSubjectsResponse> {
    let subjects: Vec<_> = req.refs.iter().map(|r| atom::uri(&r.uri)).collect();
    let asks: Vec<_> = subjects.iter().map(|s| Ask { shape: &SHAPE, did: &req.actor_did, subject: s }).collect();
    Ok(proto::GetRepostsByActorAndSubjectsResponse { uris: standing(cx, &asks).await? })
}

/// The reposts of a subject, newest first.
pub async fn get_reposts_by_subject(
    cx: &Cx,
    req: proto::GetRepostsBySubjectRequest,
) -> Result<proto::GetRepostsBySubjectResponse> {
    let subject = req.subject.unwrap_or_default();
    let (uris, cursor) =
        listing::on_page(cx, &subject.uri, on::REPOST, SHAPE.collection, req.limit, &req.cursor).await?;
    Ok(proto::GetRepostsBySubjectResponse { uris, cursor })
}

/// The reposts by an account, newest first.
pub async fn get_actor_reposts(cx: &Cx, req: proto::GetActorRepostsRequest) -> Result<proto::GetActorRepostsResponse> {
    let (uris, cursor) =
        listing::by_page(cx, &req.actor_did, by::REPOST, SHAPE.collection, req.limit, &req.cursor).await?;
    Ok(proto::GetActorRepostsResponse { uris, cursor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, at, did, walk};

    #[tokio::test]
    async fn reposts_are_found_from_all_sides() {
        let world = World::new();
        let (alice, bob) = (did("alice"), did("bob"));
        let mut posts = Vec::new();
        for i in 0..5 {
            posts.push(world.post(&bob, &format!("p{i}"), at(-100 + i)).await);
        }
        let mut by_alice = Vec::new();
        for (i, post) in posts.iter().enumerate() {
            by_alice.insert(0, world.repost(&alice, post, &format!("r{i}"), at(i as i64)).await);
        }
        // A second repost of the same post waits.
        world.repost(&alice, &posts[0], "again", at(60)).await;
        let by_bob = world.repost(&bob, &posts[0], "own", at(70)).await;
        let refs = |uris: &[&str]| -> Vec<proto::RecordRef> {
            uris.iter().map(|uri| proto::RecordRef { uri: (*uri).to_owned(), cid: String::new() }).collect()
        };
        let ask = proto::GetRepostsByActorAndSubjectsRequest {
            actor_did: alice.clone(),
            refs: refs(&[&posts[1], "junk", &posts[1], "", &posts[0]]),
        };
        let uris = get_reposts_by_actor_and_subjects(&world.cx, ask).await.unwrap().uris;
        assert_eq!(uris, [&by_alice[3], "", &by_alice[3], "", &by_alice[4]]);
        let of_first = walk!(|limit, cursor| {
            let ask = proto::GetRepostsBySubjectRequest { subject: refs(&[&posts[0]]).pop(), limit, cursor };
            let found = get_reposts_by_subject(&world.cx, ask).await.unwrap();
            (found.uris, found.cursor)
        });
        assert_eq!(of_first, [by_bob, by_alice[4].clone()]);
        let by = walk!(|limit, cursor| {
            let ask = proto::GetActorRepostsRequest { actor_did: alice.clone(), limit, cursor };
            let found = get_actor_reposts(&world.cx, ask).await.unwrap();
            (found.uris, found.cursor)
        });
        assert_eq!(by, by_alice);
        // When the one that stands goes, the one that waits is there, in its own place.
        world.delete(&alice, SHAPE.collection, "r0", at(80)).await;
        let ask = proto::GetActorRepostsRequest { actor_did: alice.clone(), limit: 1, cursor: String::new() };
        let newest = get_actor_reposts(&world.cx, ask).await.unwrap();
        assert_eq!(newest.uris, [format!("at://{alice}/app.bsky.feed.repost/again")]);
        let ask = proto::GetRepostsBySubjectRequest { subject: None, limit: 5, cursor: String::new() };
        assert!(get_reposts_by_subject(&world.cx, ask).await.unwrap().uris.is_empty());
    }
}
