//! Every call of the contract, in one table.
//!
//! A row says what the call does (its class gives deadline and weight), what it costs as far as its request tells, and
//! which function of the index answers it: `run: likes::get_likes_by_subject` is `gp_index::likes::get_likes_by_subject`,
//! and `run: -` is a call that this build does not offer. A method of the contract without a row does not compile, nor
//! does a row without `keys`.
//!
//! `slices: uris` says that the answer to a list is the answers to its parts, one after the other. Such a call is cut
//! when its list is long, so that twenty thousand keys are served between the small calls of everybody else; what
//! follows `unless` keeps it whole. `deadline_ms: 500` before `run` overrides the deadline of the class.

use crate::{
    price::{each, one, page, rows},
    rpc::{self, Class, Response, Row, Rpc, Rpcs, Running},
};

/// Beside the list of keys, a request may carry a second list that goes along with each slice. With more elements than
/// this in it, copying them costs more than cutting gains.
const SIDE_LIST_MAX: usize = 1_000;

/// An account is answered from eleven small rows, which together cost as much as four records.
const MORE_OF_ACTOR: u32 = 3;
/// A relationship is answered from five small rows and some lists.
const MORE_OF_RELATIONSHIP: u32 = 1;

/// The messages of a call, as the contract has them.
pub trait Method {
    /// The request message.
    type Request: prost::Message + Default + Clone + 'static;
    /// The response message.
    type Response: Response;
}

macro_rules! rpcs {
    ($(
        $name:ident => $class:ident, keys: $price:expr
            $(, slices: $list:ident $(unless $whole:expr)?)?
            $(, deadline_ms: $deadline_ms:literal)?
            , run: $(-)? $($function:ident)::*;
    )+) => {
        /// A type for each call, named as the call.
        #[allow(missing_docs)]
        mod row {
            $(pub(super) struct $name;)+
        }

        $(
            impl Row for row::$name {
                type Request = <Self as Method>::Request;
                type Response = <Self as Method>::Response;
                const NAME: &'static str = stringify!($name);
                const CLASS: Class = Class::$class;
                const BUILT: bool = rpcs!(@built $($function)*);
                const DEADLINE_MS: Option<u64> = rpcs!(@deadline $($deadline_ms)?);
                const LISTS: bool = rpcs!(@built $($list)?);

                fn price(request: &Self::Request) -> crate::Price {
                    let price: fn(&Self::Request) -> crate::Price = $price;
                    price(request)
                }

                fn slices(request: Self::Request, keys: usize) -> Vec<Self::Request> {
                    rpcs!(@slices request, keys; $($list $(unless $whole)?)?)
                }

                fn run(cx: &gp_index::Cx, request: Self::Request) -> Running<'_> {
                    rpcs!(@run cx, request; $($function)::*)
                }
            }
        )+

        impl Rpcs {
            /// All calls of the contract.
            pub fn contract() -> Self {
                Self::of(vec![$(Rpc::of::<row::$name>()),+])
            }
        }
    };
    (@built) => { false };
    (@built $($function:ident)+) => { true };
    (@deadline) => { None };
    (@deadline $ms:literal) => { Some($ms) };
    (@slices $request:ident, $keys:ident;) => {{ let _ = $keys; vec![$request] }};
    (@slices $request:ident, $keys:ident; $list:ident) => { rpc::cut($request, $keys, |it| &mut it.$list) };
    (@slices $request:ident, $keys:ident; $list:ident unless $whole:expr) => {{
        let whole: fn(&Self::Request) -> bool = $whole;
        if whole(&$request) { vec![$request] } else { rpc::cut($request, $keys, |it| &mut it.$list) }
    }};
    (@run $cx:ident, $request:ident;) => {{
        let _ = ($cx, $request);
        Box::pin(std::future::ready(Err(gp_index::Error::Unimplemented)))
    }};
    (@run $cx:ident, $request:ident; $($function:ident)::+) => {
        Box::pin(async move {
            let answer = gp_index::$($function)::+($cx, $request).await?;
            rpc::Answer::<Self::Response>::encode(answer)
        })
    };
}

rpcs! {
    // RPC => class, keys, slices, function

    // Records.
    // Chains of an author are listed once for each root, so a request that asks for them is not cut.
    GetPostRecords => Point, keys: |it| each(&it.uris), slices: uris unless |it| it.include_op_thread_metadata, run: posts::get_post_records;
    GetFeedGeneratorRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_feed_generator_records;
    GetLikeRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_like_records;
    GetRepostRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_repost_records;
    GetFollowRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_follow_records;
    GetListRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_list_records;
    GetListItemRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_list_item_records;
    GetListBlockRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_list_block_records;
    GetBlockRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_block_records;
    GetThreadGateRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_thread_gate_records;
    GetPostgateRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_postgate_records;
    GetLabelerRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_labeler_records;
    GetStarterPackRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_starter_pack_records;
    GetVerificationRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_verification_records;
    GetProfileRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_profile_records;
    GetStatusRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_status_records;
    GetActorChatDeclarationRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_actor_chat_declaration_records;
    GetNotificationDeclarationRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_notification_declaration_records;
    GetGermDeclarationRecords => Point, keys: |it| each(&it.uris), slices: uris, run: records::get_germ_declaration_records;

    // Graph: follows and verifications.
    GetActorFollowsActors => Pairs, keys: |it| each(&it.target_dids), slices: target_dids, run: follows::get_actor_follows_actors;
    GetFollowers => Scan, keys: |it| page(it.limit), run: follows::get_followers;
    GetFollows => Scan, keys: |it| page(it.limit), run: follows::get_follows;
    GetFollowsFollowing => Pairs, keys: |it| each(&it.target_dids), slices: target_dids, run: follows::get_follows_following;
    GetVerificationsIssued => Scan, keys: |it| page(it.limit), run: verifications::get_verifications_issued;
    GetVerificationsReceived => Scan, keys: |it| page(it.limit), run: verifications::get_verifications_received;

    // Relationships, blocks.
    GetRelationships => Pairs, keys: |it| each(&it.target_dids).and_more(MORE_OF_RELATIONSHIP), slices: target_dids, run: relationships::get_relationships;
    GetBlockExistence => Pairs, keys: |it| each(&it.pairs), slices: pairs, run: blocks::get_block_existence;
    GetBidirectionalBlock => Pairs, keys: |_| one(), run: blocks::get_bidirectional_block;
    GetBlocks => Scan, keys: |it| page(it.limit), run: blocks::get_blocks;
    GetBidirectionalBlockViaList => Pairs, keys: |_| one(), run: blocks::get_bidirectional_block_via_list;
    GetBlocklistSubscription => Point, keys: |_| one(), run: blocks::get_blocklist_subscription;
    GetBlocklistSubscriptions => Scan, keys: |it| page(it.limit), run: blocks::get_blocklist_subscriptions;

    // Mutes.
    GetActorMutesActor => Point, keys: |_| one(), run: mutes::get_actor_mutes_actor;
    GetMutes => Scan, keys: |it| page(it.limit), run: mutes::get_mutes;
    GetActorMutesActorViaList => Point, keys: |_| one(), run: mutes::get_actor_mutes_actor_via_list;
    GetMutelistSubscription => Point, keys: |_| one(), run: mutes::get_mutelist_subscription;
    GetMutelistSubscriptions => Scan, keys: |it| page(it.limit), run: mutes::get_mutelist_subscriptions;
    GetThreadMutesOnSubjects => Point, keys: |it| each(&it.thread_roots), slices: thread_roots, run: mutes::get_thread_mutes_on_subjects;

    // Lists.
    GetActorLists => Scan, keys: |it| page(it.limit), run: lists::get_actor_lists;
    GetListMembers => Scan, keys: |it| page(it.limit), run: lists::get_list_members;
    GetListMembership => Point, keys: |it| each(&it.list_uris), slices: list_uris, run: lists::get_list_membership;
    GetListCount => Count, keys: |_| one(), run: lists::get_list_count;
    GetListCounts => Count, keys: |it| each(&it.refs), slices: refs, run: lists::get_list_counts;
    GetReferencelistoptoutsByActorAndSubjects => Point, keys: |it| each(&it.subject_uris), slices: subject_uris, run: lists::get_referencelistoptouts_by_actor_and_subjects;

    // Feeds and feed generators.
    GetTimeline => Compose, keys: |it| page(it.limit), run: feeds::get_timeline;
    GetAuthorFeed => Scan, keys: |it| page(it.limit), run: feeds::get_author_feed;
    GetListFeed => Compose, keys: |it| page(it.limit), run: feeds::get_list_feed;
    GetActorFeeds => Scan, keys: |it| page(it.limit), run: generators::get_actor_feeds;
    GetSuggestedFeeds => Scan, keys: |it| page(it.limit), run: suggestions::get_suggested_feeds;
    GetFeedGeneratorStatus => Point, keys: |it| each(&it.uris), slices: uris, run: generators::get_feed_generator_status;

    // Threads.
    GetThread => Compose, keys: |it| one().and_rows(it.below), run: threads::get_thread;

    // Interactions.
    GetInteractionCounts => Count, keys: |it| each(&it.refs).skipping(it.skip_cache_for_dids.len()),
        slices: refs unless |it| it.skip_cache_for_dids.len() > SIDE_LIST_MAX, run: interactions::get_interaction_counts;
    GetLikesByActorAndSubjects => Point, keys: |it| each(&it.refs), slices: refs, run: likes::get_likes_by_actor_and_subjects;
    GetRepostsByActorAndSubjects => Point, keys: |it| each(&it.refs), slices: refs, run: reposts::get_reposts_by_actor_and_subjects;
    GetLikesBySubject => Scan, keys: |it| page(it.limit), run: likes::get_likes_by_subject;
    GetLikesBySubjectSorted => Scan, keys: |it| page(it.limit), run: likes::get_likes_by_subject_sorted;
    GetKnownLikers => Pairs, keys: |it| each(&it.subject_uris), slices: subject_uris, run: likes::get_known_likers;
    GetActorLikes => Scan, keys: |it| page(it.limit), run: likes::get_actor_likes;
    GetRepostsBySubject => Scan, keys: |it| page(it.limit), run: reposts::get_reposts_by_subject;
    GetActorReposts => Scan, keys: |it| page(it.limit), run: reposts::get_actor_reposts;
    GetQuotesBySubjectSorted => Scan, keys: |it| page(it.limit), run: quotes::get_quotes_by_subject_sorted;

    // Actors, profiles, counts.
    GetActors => Point, keys: |it| each(&it.dids).skipping(it.skip_cache_for_dids.len()).and_more(MORE_OF_ACTOR),
        slices: dids unless |it| it.skip_cache_for_dids.len() + it.return_age_assurance_for_dids.len() > SIDE_LIST_MAX, run: actors::get_actors;
    GetDidsByHandles => Point, keys: |it| each(&it.handles), slices: handles, run: actors::get_dids_by_handles;
    GetCountsForUsers => Count, keys: |it| each(&it.dids), slices: dids, run: interactions::get_counts_for_users;
    GetNewUserCountForRange => Count, keys: |_| one(), run: newcomers::get_new_user_count_for_range;

    // Identity and sync.
    GetIdentityByDid => Point, keys: |_| one(), run: identity::get_identity_by_did;
    GetIdentityByHandle => Point, keys: |_| one(), run: identity::get_identity_by_handle;
    GetLatestRev => Point, keys: |_| one(), run: repos::get_latest_rev;

    // Notifications.
    GetNotifications => Scan, keys: |it| page(it.limit), run: notifications::get_notifications;
    GetNotificationSeen => Point, keys: |_| one(), run: notifications::get_notification_seen;
    GetUnreadNotificationCount => Count, keys: |_| one(), run: notifications::get_unread_notification_count;
    UpdateNotificationSeen => Write, keys: |_| one(), run: private::update_notification_seen;
    GetNotificationPreferences => Point, keys: |it| each(&it.dids), slices: dids, run: private::get_notification_preferences;
    GetActivitySubscriptionDids => Scan, keys: |it| page(it.limit), run: subscriptions::get_activity_subscription_dids;
    GetActivitySubscriptionsByActorAndSubjects => Point, keys: |it| each(&it.subject_dids), slices: subject_dids, run: subscriptions::get_activity_subscriptions_by_actor_and_subjects;

    // Labels.
    // Labels come in any order.
    GetLabels => Point, keys: |it| each(&it.subjects), slices: subjects unless |it| it.issuers.len() > SIDE_LIST_MAX, run: labels::get_labels;
    GetAllLabelers => Scan, keys: |_| one(), run: profiles::get_all_labelers;

    // Moderation (read).
    GetBlobTakedown => Point, keys: |_| one(), run: moderation::get_blob_takedown;
    GetRecordTakedown => Point, keys: |_| one(), run: moderation::get_record_takedown;
    GetActorTakedown => Point, keys: |_| one(), run: moderation::get_actor_takedown;

    // Starter packs.
    GetActorStarterPacks => Scan, keys: |it| page(it.limit), run: packs::get_actor_starter_packs;
    GetStarterPackCounts => Count, keys: |it| each(&it.refs), slices: refs, run: packs::get_starter_pack_counts;

    // Search.
    SearchActors => Search, keys: |it| page(it.limit), run: search::search_actors;
    SearchPosts => Search, keys: |it| page(it.limit), run: search::search_posts;
    SearchStarterPacks => Search, keys: |it| page(it.limit), run: search::search_starter_packs;
    SearchFeedGenerators => Search, keys: |it| page(it.limit), run: search::search_feed_generators;
    SearchPostsV2 => Search, keys: |it| page(it.params.as_ref().map_or(0, |it| it.limit)), run: search::search_posts_v2;
    SearchActorsV2 => Search, keys: |it| page(it.params.as_ref().map_or(0, |it| it.limit)), run: search::search_actors_v2;
    SearchActorsTypeahead => Search, keys: |it| page(it.params.as_ref().map_or(0, |it| it.limit)), run: search::search_actors_typeahead;
    SearchFeedGeneratorsV2 => Search, keys: |it| page(it.params.as_ref().map_or(0, |it| it.limit)), run: search::search_feed_generators_v2;
    SearchStarterPacksV2 => Search, keys: |it| page(it.params.as_ref().map_or(0, |it| it.limit)), run: search::search_starter_packs_v2;

    // Suggestions.
    GetFollowSuggestions => Scan, keys: |it| page(it.limit), run: suggestions::get_follow_suggestions;
    GetSuggestedEntities => Scan, keys: |it| page(it.limit), run: suggestions::get_suggested_entities;

    // Private data: bookmarks, drafts.
    GetActorBookmarks => Scan, keys: |it| page(it.limit), run: bookmarks::get_actor_bookmarks;
    GetBookmarksByActorAndSubjects => Point, keys: |it| each(&it.uris), slices: uris, run: bookmarks::get_bookmarks_by_actor_and_subjects;
    GetActorDrafts => Scan, keys: |it| page(it.limit), run: drafts::get_actor_drafts;

    // Sitemap.
    GetSitemapIndex => Scan, keys: |_| one(), run: sitemap::get_sitemap_index;
    // Made when it is asked for, out of as many accounts as a sitemap may hold.
    GetSitemapPage => Compose, keys: |_| rows(8_000), run: sitemap::get_sitemap_page;

    // site.standard.
    GetSiteStandardRecordsByURI => Point, keys: |it| each(&it.uris), slices: uris, run: sitestandard::get_site_standard_records_by_uri;
    GetSiteStandardRecordsByRef => Point, keys: |it| each(&it.refs), slices: refs, run: sitestandard::get_site_standard_records_by_ref;

    // Misc.
    Ping => Control, keys: |_| one(), run: misc::ping;

    // Moderation (write).
    TakedownActor => Write, keys: |_| one(), run: moderation::takedown_actor;
    UntakedownActor => Write, keys: |_| one(), run: moderation::untakedown_actor;
    TakedownRecord => Write, keys: |_| one(), run: moderation::takedown_record;
    UntakedownRecord => Write, keys: |_| one(), run: moderation::untakedown_record;
    TakedownBlob => Write, keys: |_| one(), run: moderation::takedown_blob;
    UntakedownBlob => Write, keys: |_| one(), run: moderation::untakedown_blob;
    UpdateActorUpstreamStatus => Write, keys: |_| one(), run: moderation::update_actor_upstream_status;

    // Mutes (write).
    CreateActorMute => Write, keys: |_| one(), run: mutes::create_actor_mute;
    DeleteActorMute => Write, keys: |_| one(), run: mutes::delete_actor_mute;
    ClearActorMutes => Write, keys: |_| one(), run: mutes::clear_actor_mutes;
    CreateActorMutelistSubscription => Write, keys: |_| one(), run: mutes::create_actor_mutelist_subscription;
    DeleteActorMutelistSubscription => Write, keys: |_| one(), run: mutes::delete_actor_mutelist_subscription;
    ClearActorMutelistSubscriptions => Write, keys: |_| one(), run: mutes::clear_actor_mutelist_subscriptions;
    CreateThreadMute => Write, keys: |_| one(), run: mutes::create_thread_mute;
    DeleteThreadMute => Write, keys: |_| one(), run: mutes::delete_thread_mute;
    ClearThreadMutes => Write, keys: |_| one(), run: mutes::clear_thread_mutes;
}

macro_rules! methods {
    ($($method:ident: $request:ty => $response:ty;)*) => {
        $(
            impl Response for $response {}
            impl Method for row::$method {
                type Request = $request;
                type Response = $response;
            }
        )*
    };
}

gp_proto::for_each_rpc!(methods);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::bytes::Bytes;
    use prost_reflect::{Cardinality, DescriptorPool};

    use super::*;

    #[test]
    fn every_method_of_the_contract_has_one_row_and_no_row_is_without_a_method() {
        let rpcs = Rpcs::contract();
        let rows: Vec<&str> = rpcs.iter().map(|rpc| rpc.name).collect();
        let methods: HashSet<&str> = gp_proto::METHODS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(rows.iter().copied().collect::<HashSet<_>>(), methods);
        assert_eq!(rows.len(), methods.len(), "a row stands twice");
        for (name, ..) in gp_proto::METHODS {
            assert_eq!(rpcs.at_path(&format!("/bsky.Service/{name}")).map(|rpc| rpc.name), Some(name));
        }
        assert!(rpcs.at_path("/bsky.Service/getPostRecords").is_none());
        assert!(rpcs.at_path("/bsky.Service/").is_none());
        assert!(rpcs.at_path("/bsync.Service/Ping").is_none());
    }

    #[test]
    fn every_method_of_the_contract_is_offered() {
        let pool = DescriptorPool::decode(gp_proto::DESCRIPTOR).unwrap();
        let service = pool.get_service_by_name(gp_proto::SERVICE).unwrap();
        let rpcs = Rpcs::contract();
        let methods: Vec<String> = service.methods().map(|method| method.name().to_owned()).collect();
        assert!(methods.len() >= 117, "{}", methods.len());
        let offered = |name: &String| rpcs.get(name).is_some_and(|rpc| rpc.built);
        let missing: Vec<&String> = methods.iter().filter(|name| !offered(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn every_call_decodes_and_prices_an_empty_request() {
        for rpc in Rpcs::contract().iter() {
            let asked = (rpc.decode)(Bytes::new()).unwrap();
            assert!(asked.price().keys <= 1, "{}", rpc.name);
            assert_eq!(asked.slices(256).len(), 1, "{}", rpc.name);
        }
    }

    /// Every call whose request holds a list at its top has a price by that list, and a call that is cut has nothing
    /// but lists in its answer: bytes of one list after another are bytes of one list, two scalars are not.
    #[test]
    fn lists_are_priced_and_only_answers_made_of_lists_are_cut() {
        let pool = DescriptorPool::decode(gp_proto::DESCRIPTOR).unwrap();
        let service = pool.get_service_by_name(gp_proto::SERVICE).unwrap();
        let rpcs = Rpcs::contract();
        let mut cut = 0;
        for method in service.methods() {
            let rpc = rpcs.get(method.name()).unwrap();
            let has_list = method.input().fields().any(|field| field.cardinality() == Cardinality::Repeated);
            assert_eq!(rpc.lists, has_list, "{}", rpc.name);
            if rpc.lists {
                cut += 1;
                assert!(rpc.class.takes_lists(), "{}: requests of this class are kept small", rpc.name);
                for field in method.output().fields() {
                    assert!(field.is_list(), "{}: {} is no list", rpc.name, field.name());
                }
            }
        }
        assert!(cut >= 40, "{cut}");
    }

    #[test]
    fn a_long_list_is_cut_and_a_request_that_says_so_is_not() {
        use prost::Message as _;
        let rpcs = Rpcs::contract();
        let rpc = rpcs.get("GetPostRecords").unwrap();
        let mut request =
            gp_proto::GetPostRecordsRequest { uris: vec!["at://a/b/c".into(); 1000], ..Default::default() };
        let slices = (rpc.decode)(request.encode_to_vec().into()).unwrap().slices(256);
        assert_eq!(slices.iter().map(|it| it.price().keys).collect::<Vec<_>>(), [256, 256, 256, 232]);
        request.include_op_thread_metadata = true;
        assert_eq!((rpc.decode)(request.encode_to_vec().into()).unwrap().slices(256).len(), 1);
    }
}
