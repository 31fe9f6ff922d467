//! Single calls that pages of an app make, over a network of [`World`], and whether two planes answer them alike.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use gp_proto as proto;
use prost::Message;

use super::{load, world::World};

/// A page, as the AppView asks for it.
pub(crate) const PAGE: i32 = 50;

/// Hubs that one call of followers-you-know asks about.
const TARGETS: usize = 30;

/// Different requests of a scenario that can have any number of them.
const REQUESTS: usize = 256;

/// Answers of each scenario that are compared with the reference's.
const COMPARED: usize = 8;

/// One kind of call.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) method: &'static str,
    pub(crate) requests: Vec<Bytes>,
}

/// All of them. The names of those that have a bar are constants.
pub(crate) fn all(world: &World) -> Vec<Scenario> {
    let scenario = |name: &str, method, requests: Vec<Vec<u8>>| Scenario {
        name: name.to_owned(),
        method,
        requests: requests.into_iter().map(load::frame).collect(),
    };
    let (viewers, hubs) = (world.viewers(), world.hubs(TARGETS));
    let timeline = |did: &String| {
        proto::GetTimelineRequest { actor_did: did.clone(), limit: PAGE, ..Default::default() }.encode_to_vec()
    };
    let relationships = |viewer: &String, target_dids: Vec<String>| {
        proto::GetRelationshipsRequest { actor_did: viewer.clone(), target_dids }.encode_to_vec()
    };
    let accounts =
        |seed: usize| -> Vec<String> { world.somebody(seed).take(PAGE as usize).map(super::world::did).collect() };
    let posts = |seed: usize| -> Vec<String> {
        world.somebody(seed).take(PAGE as usize).map(|it| world.first_post(it)).collect()
    };
    let refs = |uris: Vec<String>| -> Vec<proto::RecordRef> {
        uris.into_iter().map(|uri| proto::RecordRef { uri, ..Default::default() }).collect()
    };
    let known = |viewer: &String| {
        proto::GetFollowsFollowingRequest { actor_did: viewer.clone(), target_dids: hubs.clone() }.encode_to_vec()
    };
    let followers = |did: &String| {
        proto::GetFollowersRequest { actor_did: did.clone(), limit: PAGE, ..Default::default() }.encode_to_vec()
    };
    let feed = |did: &String| {
        proto::GetAuthorFeedRequest { actor_did: did.clone(), limit: PAGE, ..Default::default() }.encode_to_vec()
    };
    let listed = |viewer: &String| relationships(viewer, vec![world.listed()]);
    let liked = proto::RecordRef { uri: world.liked(), ..Default::default() };
    let likers = proto::GetLikesBySubjectSortedRequest { subject: Some(liked), limit: PAGE, ..Default::default() }
        .encode_to_vec();
    let thread = proto::GetThreadRequest { post_uri: world.root(), above: 80, below: 6 }.encode_to_vec();
    vec![
        scenario(TIMELINE, "GetTimeline", viewers.iter().map(timeline).collect()),
        scenario(QUIET, "GetTimeline", world.quiet_viewers().iter().map(timeline).collect()),
        scenario("timeline of one who follows most", "GetTimeline", vec![timeline(&world.reader())]),
        scenario("timeline of one who follows few", "GetTimeline", world.ordinary().iter().map(timeline).collect()),
        scenario(KNOWN, "GetFollowsFollowing", viewers.iter().map(known).collect()),
        scenario(FOLLOWERS, "GetFollowers", hubs.iter().map(followers).collect()),
        scenario(
            "relationships with 50",
            "GetRelationships",
            (0..REQUESTS).map(|n| relationships(&viewers[n % viewers.len()], accounts(n))).collect(),
        ),
        scenario("relationship with one on most lists", "GetRelationships", viewers.iter().map(listed).collect()),
        scenario(THREAD, "GetThread", vec![thread]),
        scenario(
            COUNTS,
            "GetInteractionCounts",
            (0..REQUESTS)
                .map(|n| {
                    proto::GetInteractionCountsRequest { refs: refs(posts(n)), ..Default::default() }.encode_to_vec()
                })
                .collect(),
        ),
        scenario(
            "counts of 50 accounts",
            "GetCountsForUsers",
            (0..REQUESTS).map(|n| proto::GetCountsForUsersRequest { dids: accounts(n) }.encode_to_vec()).collect(),
        ),
        scenario(
            POSTS,
            "GetPostRecords",
            (0..REQUESTS)
                .map(|n| proto::GetPostRecordsRequest { uris: posts(n), ..Default::default() }.encode_to_vec())
                .collect(),
        ),
        scenario("likers of the post liked most", "GetLikesBySubjectSorted", vec![likers]),
        scenario("feed of an author", "GetAuthorFeed", hubs.iter().map(feed).collect()),
    ]
}

pub(crate) const TIMELINE: &str = "timeline";
pub(crate) const QUIET: &str = "timeline, nobody popular";
pub(crate) const KNOWN: &str = "followers you know, 30 hubs";
pub(crate) const FOLLOWERS: &str = "followers of a hub";
pub(crate) const THREAD: &str = "thread of 1,000 replies";
pub(crate) const COUNTS: &str = "counts of 50 posts";
pub(crate) const POSTS: &str = "50 posts";

/// Some answers to every scenario must be the same on both sides: figures of different answers say nothing. Answers how
/// many were compared.
pub(crate) async fn compare(ours: &str, theirs: &str, scenarios: &[Scenario]) -> Result<usize> {
    let mut compared = 0;
    for scenario in scenarios {
        let method = scenario.method;
        let (own, other) = (load::Caller::new(ours, true, method), load::Caller::new(theirs, false, method));
        let step = scenario.requests.len().div_ceil(COMPARED);
        for request in scenario.requests.iter().step_by(step) {
            let own = said(method, &own.answer(request.clone()).await?)?;
            let other = said(method, &other.answer(request.clone()).await?)?;
            let differs = own.iter().zip(&other).find(|(a, b)| a != b);
            ensure!(
                own == other,
                "{}: {} things and the reference's {} differ, first {differs:?}",
                scenario.name,
                own.len(),
                other.len()
            );
            compared += 1;
        }
    }
    Ok(compared)
}

/// What an answer says, without cursors and versions, which are a plane's own business.
fn said(method: &str, body: &Bytes) -> Result<Vec<String>> {
    fn read<T: Message + Default>(body: &Bytes) -> Result<T> {
        T::decode(&body[5..]).context("an answer that cannot be read")
    }
    Ok(match method {
        "GetTimeline" => read::<proto::GetTimelineResponse>(body)?
            .items
            .into_iter()
            .map(|it| format!("{} {}", it.uri, it.repost))
            .collect(),
        "GetAuthorFeed" => read::<proto::GetAuthorFeedResponse>(body)?
            .items
            .into_iter()
            .map(|it| format!("{} {}", it.uri, it.repost))
            .collect(),
        "GetFollowsFollowing" => read::<proto::GetFollowsFollowingResponse>(body)?
            .results
            .into_iter()
            .map(|mut it| {
                // The reference has no order.
                it.dids.sort_unstable();
                format!("{it:?}")
            })
            .collect(),
        "GetFollowers" => {
            read::<proto::GetFollowersResponse>(body)?.followers.iter().map(|it| format!("{it:?}")).collect()
        }
        "GetRelationships" => {
            read::<proto::GetRelationshipsResponse>(body)?.relationships.iter().map(|it| format!("{it:?}")).collect()
        }
        "GetThread" => {
            let mut uris = read::<proto::GetThreadResponse>(body)?.uris;
            uris.sort_unstable();
            uris
        }
        "GetInteractionCounts" => {
            let it = read::<proto::GetInteractionCountsResponse>(body)?;
            [it.likes, it.reposts, it.replies, it.quotes].iter().map(|it| format!("{it:?}")).collect()
        }
        "GetCountsForUsers" => {
            let it = read::<proto::GetCountsForUsersResponse>(body)?;
            [it.posts, it.following, it.followers, it.lists].iter().map(|it| format!("{it:?}")).collect()
        }
        "GetPostRecords" => {
            let of = |it: &proto::Record| -> Result<String> {
                let record: serde_json::Value =
                    serde_json::from_slice(&it.record).context("a record that is no JSON")?;
                Ok(format!("{} {record}", it.cid))
            };
            read::<proto::GetPostRecordsResponse>(body)?.records.iter().map(of).collect::<Result<_>>()?
        }
        "GetLikesBySubjectSorted" => read::<proto::GetLikesBySubjectSortedResponse>(body)?.uris,
        other => anyhow::bail!("{other} is not compared"),
    })
}
