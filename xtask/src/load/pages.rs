//! Whole pages: the calls that an AppView makes for one view of an app, each after those whose answers it needs.

use anyhow::Result;
use gp_proto as proto;
use tokio::try_join;

use crate::bench::{PAGE, World, did, load::Api};

/// Posts of a thread that a page shows.
const THREAD_POSTS_MAX: usize = 100;

/// Connections to a plane that takes one call at a time on each.
const CONNECTIONS: usize = 256;

/// Calls of a page of an app's front.
pub(crate) const HOME_CALLS: u64 = 15;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first page of what one follows.
    Home,
    /// Somebody else.
    Profile,
    /// A thread.
    Thread,
    /// Seven times in ten the first, else one of the others.
    Mix,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Home, Self::Profile, Self::Thread, Self::Mix];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Home => "page: home",
            Self::Profile => "page: profile",
            Self::Thread => "page: thread",
            Self::Mix => "pages, mixed",
        }
    }
}

/// Somebody who looks at pages of one plane.
pub(crate) struct Pages {
    api: Api,
    kind: Kind,
    viewers: Vec<String>,
    /// Accounts that are looked at, and posts whose threads are.
    others: Vec<String>,
    threads: Vec<String>,
}

fn refs(uris: &[String]) -> Vec<proto::RecordRef> {
    uris.iter().map(|uri| proto::RecordRef { uri: uri.clone(), ..Default::default() }).collect()
}

/// Authors of some posts, each once.
fn authors(uris: &[String]) -> Vec<String> {
    let mut dids: Vec<String> = uris.iter().filter_map(|uri| uri.split('/').nth(2)).map(str::to_owned).collect();
    dids.sort_unstable();
    dids.dedup();
    dids
}

impl Pages {
    pub(crate) fn new(url: &str, http2: bool, world: &World, kind: Kind) -> Self {
        let others: Vec<usize> = world.somebody(1).take(256).collect();
        Self {
            api: Api::new(url, http2, CONNECTIONS),
            kind,
            viewers: [world.viewers(), world.quiet_viewers(), world.ordinary()].concat(),
            threads: others.iter().map(|it| world.first_post(*it)).collect(),
            others: others.into_iter().map(did).collect(),
        }
    }

    pub(crate) fn kinds(&self) -> usize {
        self.viewers.len()
    }

    /// Calls that were made for all pages so far.
    pub(crate) fn calls(&self) -> u64 {
        self.api.calls()
    }

    /// Loads a page.
    pub(crate) async fn load(&self, n: usize) -> Result<()> {
        let viewer = &self.viewers[n % self.viewers.len()];
        let kind = match self.kind {
            Kind::Mix if n % 20 < 14 => Kind::Home,
            Kind::Mix if n % 20 < 17 => Kind::Profile,
            Kind::Mix => Kind::Thread,
            kind => kind,
        };
        match kind {
            Kind::Home | Kind::Mix => self.home(viewer).await,
            Kind::Profile => self.profile(viewer, &self.others[n % self.others.len()]).await,
            Kind::Thread => self.thread(viewer, &self.threads[n % self.threads.len()]).await,
        }
    }

    async fn home(&self, viewer: &str) -> Result<()> {
        let request = proto::GetTimelineRequest { actor_did: viewer.into(), limit: PAGE, ..Default::default() };
        let timeline: proto::GetTimelineResponse = self.api.ask("GetTimeline", &request).await?;
        let uris: Vec<String> = timeline.items.iter().map(|it| it.uri.clone()).collect();
        let reposts = timeline.items.iter().map(|it| it.repost.clone()).filter(|it| !it.is_empty()).collect();
        let posts = proto::GetPostRecordsRequest { uris: uris.clone(), ..Default::default() };
        let reposts = proto::GetRepostRecordsRequest { uris: reposts };
        let rev = proto::GetLatestRevRequest { actor_did: viewer.into() };
        try_join!(
            self.api.ask::<proto::GetPostRecordsResponse>("GetPostRecords", &posts),
            self.api.ask::<proto::GetRepostRecordsResponse>("GetRepostRecords", &reposts),
            self.api.ask::<proto::GetLatestRevResponse>("GetLatestRev", &rev),
        )?;
        let dids = authors(&uris);
        try_join!(self.about_posts(viewer, &uris), self.about_accounts(viewer, &dids)).map(drop)
    }

    async fn profile(&self, viewer: &str, other: &str) -> Result<()> {
        let feed = proto::GetAuthorFeedRequest { actor_did: other.into(), limit: PAGE, ..Default::default() };
        let counts = proto::GetCountsForUsersRequest { dids: vec![other.into()] };
        let known = proto::GetFollowsFollowingRequest { actor_did: viewer.into(), target_dids: vec![other.into()] };
        let (feed, ..) = try_join!(
            self.api.ask::<proto::GetAuthorFeedResponse>("GetAuthorFeed", &feed),
            self.api.ask::<proto::GetCountsForUsersResponse>("GetCountsForUsers", &counts),
            self.api.ask::<proto::GetFollowsFollowingResponse>("GetFollowsFollowing", &known),
        )?;
        let uris: Vec<String> = feed.items.iter().map(|it| it.uri.clone()).collect();
        let posts = proto::GetPostRecordsRequest { uris: uris.clone(), ..Default::default() };
        self.api.ask::<proto::GetPostRecordsResponse>("GetPostRecords", &posts).await?;
        let mut dids = authors(&uris);
        dids.push(other.to_owned());
        try_join!(self.about_posts(viewer, &uris), self.about_accounts(viewer, &dids)).map(drop)
    }

    async fn thread(&self, viewer: &str, post: &str) -> Result<()> {
        let request = proto::GetThreadRequest { post_uri: post.into(), above: 80, below: 6 };
        let mut uris = self.api.ask::<proto::GetThreadResponse>("GetThread", &request).await?.uris;
        uris.truncate(THREAD_POSTS_MAX);
        let posts = proto::GetPostRecordsRequest { uris: uris.clone(), ..Default::default() };
        let gates = proto::GetThreadGateRecordsRequest { uris: Vec::new() };
        try_join!(
            self.api.ask::<proto::GetPostRecordsResponse>("GetPostRecords", &posts),
            self.api.ask::<proto::GetThreadGateRecordsResponse>("GetThreadGateRecords", &gates),
        )?;
        let dids = authors(&uris);
        try_join!(self.about_posts(viewer, &uris), self.about_accounts(viewer, &dids)).map(drop)
    }

    /// Five calls.
    async fn about_posts(&self, viewer: &str, uris: &[String]) -> Result<()> {
        let (actor_did, refs) = (viewer.to_owned(), refs(uris));
        let counts = proto::GetInteractionCountsRequest { refs: refs.clone(), ..Default::default() };
        let likes = proto::GetLikesByActorAndSubjectsRequest { actor_did: actor_did.clone(), refs: refs.clone() };
        let reposts = proto::GetRepostsByActorAndSubjectsRequest { actor_did: actor_did.clone(), refs };
        let bookmarks =
            proto::GetBookmarksByActorAndSubjectsRequest { actor_did: actor_did.clone(), uris: uris.to_vec() };
        let mutes = proto::GetThreadMutesOnSubjectsRequest { actor_did, thread_roots: uris.to_vec() };
        try_join!(
            self.api.ask::<proto::GetInteractionCountsResponse>("GetInteractionCounts", &counts),
            self.api.ask::<proto::GetLikesByActorAndSubjectsResponse>("GetLikesByActorAndSubjects", &likes),
            self.api.ask::<proto::GetRepostsByActorAndSubjectsResponse>("GetRepostsByActorAndSubjects", &reposts),
            self.api.ask::<proto::GetBookmarksByActorAndSubjectsResponse>("GetBookmarksByActorAndSubjects", &bookmarks),
            self.api.ask::<proto::GetThreadMutesOnSubjectsResponse>("GetThreadMutesOnSubjects", &mutes),
        )
        .map(drop)
    }

    /// Six calls.
    async fn about_accounts(&self, viewer: &str, dids: &[String]) -> Result<()> {
        let actors = proto::GetActorsRequest { dids: dids.to_vec(), ..Default::default() };
        let relations = proto::GetRelationshipsRequest { actor_did: viewer.into(), target_dids: dids.to_vec() };
        let pair = |did: &String| proto::RelationshipPair { a: viewer.into(), b: did.clone() };
        let blocks = proto::GetBlockExistenceRequest { pairs: dids.iter().map(pair).collect() };
        let labels = proto::GetLabelsRequest { subjects: dids.to_vec(), issuers: vec![did(0)] };
        let subscriptions = proto::GetActivitySubscriptionsByActorAndSubjectsRequest {
            actor_did: viewer.into(),
            subject_dids: dids.to_vec(),
        };
        let status = |did: &String| format!("at://{did}/app.bsky.actor.status/self");
        let statuses = proto::GetStatusRecordsRequest { uris: dids.iter().map(status).collect() };
        try_join!(
            self.api.ask::<proto::GetActorsResponse>("GetActors", &actors),
            self.api.ask::<proto::GetRelationshipsResponse>("GetRelationships", &relations),
            self.api.ask::<proto::GetBlockExistenceResponse>("GetBlockExistence", &blocks),
            self.api.ask::<proto::GetLabelsResponse>("GetLabels", &labels),
            self.api.ask::<proto::GetActivitySubscriptionsByActorAndSubjectsResponse>(
                "GetActivitySubscriptionsByActorAndSubjects",
                &subscriptions
            ),
            self.api.ask::<proto::GetStatusRecordsResponse>("GetStatusRecords", &statuses),
        )
        .map(drop)
    }
}
