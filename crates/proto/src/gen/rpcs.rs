// Generated from proto/*.proto by `cargo xtask proto`. Not written by hand.

/// Every method of `bsky.Service`, in the order of `proto/service.proto`: name, request, response,
/// all as they are on the wire.
pub const METHODS: [(&str, &str, &str); 117] = [
    ("GetPostRecords", "GetPostRecordsRequest", "GetPostRecordsResponse"),
    ("GetFeedGeneratorRecords", "GetFeedGeneratorRecordsRequest", "GetFeedGeneratorRecordsResponse"),
    ("GetLikeRecords", "GetLikeRecordsRequest", "GetLikeRecordsResponse"),
    ("GetRepostRecords", "GetRepostRecordsRequest", "GetRepostRecordsResponse"),
    ("GetFollowRecords", "GetFollowRecordsRequest", "GetFollowRecordsResponse"),
    ("GetListRecords", "GetListRecordsRequest", "GetListRecordsResponse"),
    ("GetListItemRecords", "GetListItemRecordsRequest", "GetListItemRecordsResponse"),
    ("GetListBlockRecords", "GetListBlockRecordsRequest", "GetListBlockRecordsResponse"),
    ("GetBlockRecords", "GetBlockRecordsRequest", "GetBlockRecordsResponse"),
    ("GetThreadGateRecords", "GetThreadGateRecordsRequest", "GetThreadGateRecordsResponse"),
    ("GetPostgateRecords", "GetPostgateRecordsRequest", "GetPostgateRecordsResponse"),
    ("GetLabelerRecords", "GetLabelerRecordsRequest", "GetLabelerRecordsResponse"),
    ("GetStarterPackRecords", "GetStarterPackRecordsRequest", "GetStarterPackRecordsResponse"),
    ("GetVerificationRecords", "GetVerificationRecordsRequest", "GetVerificationRecordsResponse"),
    ("GetProfileRecords", "GetProfileRecordsRequest", "GetProfileRecordsResponse"),
    ("GetStatusRecords", "GetStatusRecordsRequest", "GetStatusRecordsResponse"),
    ("GetActorChatDeclarationRecords", "GetActorChatDeclarationRecordsRequest", "GetActorChatDeclarationRecordsResponse"),
    ("GetNotificationDeclarationRecords", "GetNotificationDeclarationRecordsRequest", "GetNotificationDeclarationRecordsResponse"),
    ("GetGermDeclarationRecords", "GetGermDeclarationRecordsRequest", "GetGermDeclarationRecordsResponse"),
    ("GetActorFollowsActors", "GetActorFollowsActorsRequest", "GetActorFollowsActorsResponse"),
    ("GetFollowers", "GetFollowersRequest", "GetFollowersResponse"),
    ("GetFollows", "GetFollowsRequest", "GetFollowsResponse"),
    ("GetFollowsFollowing", "GetFollowsFollowingRequest", "GetFollowsFollowingResponse"),
    ("GetVerificationsIssued", "GetVerificationsIssuedRequest", "GetVerificationsIssuedResponse"),
    ("GetVerificationsReceived", "GetVerificationsReceivedRequest", "GetVerificationsReceivedResponse"),
    ("GetRelationships", "GetRelationshipsRequest", "GetRelationshipsResponse"),
    ("GetBlockExistence", "GetBlockExistenceRequest", "GetBlockExistenceResponse"),
    ("GetBidirectionalBlock", "GetBidirectionalBlockRequest", "GetBidirectionalBlockResponse"),
    ("GetBlocks", "GetBlocksRequest", "GetBlocksResponse"),
    ("GetBidirectionalBlockViaList", "GetBidirectionalBlockViaListRequest", "GetBidirectionalBlockViaListResponse"),
    ("GetBlocklistSubscription", "GetBlocklistSubscriptionRequest", "GetBlocklistSubscriptionResponse"),
    ("GetBlocklistSubscriptions", "GetBlocklistSubscriptionsRequest", "GetBlocklistSubscriptionsResponse"),
    ("GetActorMutesActor", "GetActorMutesActorRequest", "GetActorMutesActorResponse"),
    ("GetMutes", "GetMutesRequest", "GetMutesResponse"),
    ("GetActorMutesActorViaList", "GetActorMutesActorViaListRequest", "GetActorMutesActorViaListResponse"),
    ("GetMutelistSubscription", "GetMutelistSubscriptionRequest", "GetMutelistSubscriptionResponse"),
    ("GetMutelistSubscriptions", "GetMutelistSubscriptionsRequest", "GetMutelistSubscriptionsResponse"),
    ("GetThreadMutesOnSubjects", "GetThreadMutesOnSubjectsRequest", "GetThreadMutesOnSubjectsResponse"),
    ("GetActorLists", "GetActorListsRequest", "GetActorListsResponse"),
    ("GetListMembers", "GetListMembersRequest", "GetListMembersResponse"),
    ("GetListMembership", "GetListMembershipRequest", "GetListMembershipResponse"),
    ("GetListCount", "GetListCountRequest", "GetListCountResponse"),
    ("GetListCounts", "GetListCountsRequest", "GetListCountsResponse"),
    ("GetReferencelistoptoutsByActorAndSubjects", "GetReferencelistoptoutsByActorAndSubjectsRequest", "GetReferencelistoptoutsByActorAndSubjectsResponse"),
    ("GetTimeline", "GetTimelineRequest", "GetTimelineResponse"),
    ("GetAuthorFeed", "GetAuthorFeedRequest", "GetAuthorFeedResponse"),
    ("GetListFeed", "GetListFeedRequest", "GetListFeedResponse"),
    ("GetActorFeeds", "GetActorFeedsRequest", "GetActorFeedsResponse"),
    ("GetSuggestedFeeds", "GetSuggestedFeedsRequest", "GetSuggestedFeedsResponse"),
    ("GetFeedGeneratorStatus", "GetFeedGeneratorStatusRequest", "GetFeedGeneratorStatusResponse"),
    ("GetThread", "GetThreadRequest", "GetThreadResponse"),
    ("GetInteractionCounts", "GetInteractionCountsRequest", "GetInteractionCountsResponse"),
    ("GetLikesByActorAndSubjects", "GetLikesByActorAndSubjectsRequest", "GetLikesByActorAndSubjectsResponse"),
    ("GetRepostsByActorAndSubjects", "GetRepostsByActorAndSubjectsRequest", "GetRepostsByActorAndSubjectsResponse"),
    ("GetLikesBySubject", "GetLikesBySubjectRequest", "GetLikesBySubjectResponse"),
    ("GetLikesBySubjectSorted", "GetLikesBySubjectSortedRequest", "GetLikesBySubjectSortedResponse"),
    ("GetKnownLikers", "GetKnownLikersRequest", "GetKnownLikersResponse"),
    ("GetActorLikes", "GetActorLikesRequest", "GetActorLikesResponse"),
    ("GetRepostsBySubject", "GetRepostsBySubjectRequest", "GetRepostsBySubjectResponse"),
    ("GetActorReposts", "GetActorRepostsRequest", "GetActorRepostsResponse"),
    ("GetQuotesBySubjectSorted", "GetQuotesBySubjectSortedRequest", "GetQuotesBySubjectSortedResponse"),
    ("GetActors", "GetActorsRequest", "GetActorsResponse"),
    ("GetDidsByHandles", "GetDidsByHandlesRequest", "GetDidsByHandlesResponse"),
    ("GetCountsForUsers", "GetCountsForUsersRequest", "GetCountsForUsersResponse"),
    ("GetNewUserCountForRange", "GetNewUserCountForRangeRequest", "GetNewUserCountForRangeResponse"),
    ("GetIdentityByDid", "GetIdentityByDidRequest", "GetIdentityByDidResponse"),
    ("GetIdentityByHandle", "GetIdentityByHandleRequest", "GetIdentityByHandleResponse"),
    ("GetLatestRev", "GetLatestRevRequest", "GetLatestRevResponse"),
    ("GetNotifications", "GetNotificationsRequest", "GetNotificationsResponse"),
    ("GetNotificationSeen", "GetNotificationSeenRequest", "GetNotificationSeenResponse"),
    ("GetUnreadNotificationCount", "GetUnreadNotificationCountRequest", "GetUnreadNotificationCountResponse"),
    ("UpdateNotificationSeen", "UpdateNotificationSeenRequest", "UpdateNotificationSeenResponse"),
    ("GetNotificationPreferences", "GetNotificationPreferencesRequest", "GetNotificationPreferencesResponse"),
    ("GetActivitySubscriptionDids", "GetActivitySubscriptionDidsRequest", "GetActivitySubscriptionDidsResponse"),
    ("GetActivitySubscriptionsByActorAndSubjects", "GetActivitySubscriptionsByActorAndSubjectsRequest", "GetActivitySubscriptionsByActorAndSubjectsResponse"),
    ("GetLabels", "GetLabelsRequest", "GetLabelsResponse"),
    ("GetAllLabelers", "GetAllLabelersRequest", "GetAllLabelersResponse"),
    ("GetBlobTakedown", "GetBlobTakedownRequest", "GetBlobTakedownResponse"),
    ("GetRecordTakedown", "GetRecordTakedownRequest", "GetRecordTakedownResponse"),
    ("GetActorTakedown", "GetActorTakedownRequest", "GetActorTakedownResponse"),
    ("GetActorStarterPacks", "GetActorStarterPacksRequest", "GetActorStarterPacksResponse"),
    ("GetStarterPackCounts", "GetStarterPackCountsRequest", "GetStarterPackCountsResponse"),
    ("SearchActors", "SearchActorsRequest", "SearchActorsResponse"),
    ("SearchPosts", "SearchPostsRequest", "SearchPostsResponse"),
    ("SearchStarterPacks", "SearchStarterPacksRequest", "SearchStarterPacksResponse"),
    ("SearchFeedGenerators", "SearchFeedGeneratorsRequest", "SearchFeedGeneratorsResponse"),
    ("SearchPostsV2", "SearchPostsV2Request", "SearchPostsV2Response"),
    ("SearchActorsV2", "SearchActorsV2Request", "SearchActorsV2Response"),
    ("SearchActorsTypeahead", "SearchActorsTypeaheadRequest", "SearchActorsTypeaheadResponse"),
    ("SearchFeedGeneratorsV2", "SearchFeedGeneratorsV2Request", "SearchFeedGeneratorsV2Response"),
    ("SearchStarterPacksV2", "SearchStarterPacksV2Request", "SearchStarterPacksV2Response"),
    ("GetFollowSuggestions", "GetFollowSuggestionsRequest", "GetFollowSuggestionsResponse"),
    ("GetSuggestedEntities", "GetSuggestedEntitiesRequest", "GetSuggestedEntitiesResponse"),
    ("GetActorBookmarks", "GetActorBookmarksRequest", "GetActorBookmarksResponse"),
    ("GetBookmarksByActorAndSubjects", "GetBookmarksByActorAndSubjectsRequest", "GetBookmarksByActorAndSubjectsResponse"),
    ("GetActorDrafts", "GetActorDraftsRequest", "GetActorDraftsResponse"),
    ("GetSitemapIndex", "GetSitemapIndexRequest", "GetSitemapIndexResponse"),
    ("GetSitemapPage", "GetSitemapPageRequest", "GetSitemapPageResponse"),
    ("GetSiteStandardRecordsByURI", "GetSiteStandardRecordsByURIRequest", "GetSiteStandardRecordsByURIResponse"),
    ("GetSiteStandardRecordsByRef", "GetSiteStandardRecordsByRefRequest", "GetSiteStandardRecordsByRefResponse"),
    ("Ping", "PingRequest", "PingResponse"),
    ("TakedownActor", "TakedownActorRequest", "TakedownActorResponse"),
    ("UntakedownActor", "UntakedownActorRequest", "UntakedownActorResponse"),
    ("TakedownRecord", "TakedownRecordRequest", "TakedownRecordResponse"),
    ("UntakedownRecord", "UntakedownRecordRequest", "UntakedownRecordResponse"),
    ("TakedownBlob", "TakedownBlobRequest", "TakedownBlobResponse"),
    ("UntakedownBlob", "UntakedownBlobRequest", "UntakedownBlobResponse"),
    ("UpdateActorUpstreamStatus", "UpdateActorUpstreamStatusRequest", "UpdateActorUpstreamStatusResponse"),
    ("CreateActorMute", "CreateActorMuteRequest", "CreateActorMuteResponse"),
    ("DeleteActorMute", "DeleteActorMuteRequest", "DeleteActorMuteResponse"),
    ("ClearActorMutes", "ClearActorMutesRequest", "ClearActorMutesResponse"),
    ("CreateActorMutelistSubscription", "CreateActorMutelistSubscriptionRequest", "CreateActorMutelistSubscriptionResponse"),
    ("DeleteActorMutelistSubscription", "DeleteActorMutelistSubscriptionRequest", "DeleteActorMutelistSubscriptionResponse"),
    ("ClearActorMutelistSubscriptions", "ClearActorMutelistSubscriptionsRequest", "ClearActorMutelistSubscriptionsResponse"),
    ("CreateThreadMute", "CreateThreadMuteRequest", "CreateThreadMuteResponse"),
    ("DeleteThreadMute", "DeleteThreadMuteRequest", "DeleteThreadMuteResponse"),
    ("ClearThreadMutes", "ClearThreadMutesRequest", "ClearThreadMutesResponse"),
];

/// Hands the table of all methods of `bsky.Service` to another macro, named by its path.
///
/// The other macro gets `GetPostRecords: $crate::GetPostRecordsRequest => $crate::GetPostRecordsResponse;` for each
/// method, and takes it as `$($method:ident: $request:ty => $response:ty;)*`.
#[macro_export]
macro_rules! for_each_rpc {
    ($($callback:tt)+) => {
        $($callback)+! {
            GetPostRecords: $crate::GetPostRecordsRequest => $crate::GetPostRecordsResponse;
            GetFeedGeneratorRecords: $crate::GetFeedGeneratorRecordsRequest => $crate::GetFeedGeneratorRecordsResponse;
            GetLikeRecords: $crate::GetLikeRecordsRequest => $crate::GetLikeRecordsResponse;
            GetRepostRecords: $crate::GetRepostRecordsRequest => $crate::GetRepostRecordsResponse;
            GetFollowRecords: $crate::GetFollowRecordsRequest => $crate::GetFollowRecordsResponse;
            GetListRecords: $crate::GetListRecordsRequest => $crate::GetListRecordsResponse;
            GetListItemRecords: $crate::GetListItemRecordsRequest => $crate::GetListItemRecordsResponse;
            GetListBlockRecords: $crate::GetListBlockRecordsRequest => $crate::GetListBlockRecordsResponse;
            GetBlockRecords: $crate::GetBlockRecordsRequest => $crate::GetBlockRecordsResponse;
            GetThreadGateRecords: $crate::GetThreadGateRecordsRequest => $crate::GetThreadGateRecordsResponse;
            GetPostgateRecords: $crate::GetPostgateRecordsRequest => $crate::GetPostgateRecordsResponse;
            GetLabelerRecords: $crate::GetLabelerRecordsRequest => $crate::GetLabelerRecordsResponse;
            GetStarterPackRecords: $crate::GetStarterPackRecordsRequest => $crate::GetStarterPackRecordsResponse;
            GetVerificationRecords: $crate::GetVerificationRecordsRequest => $crate::GetVerificationRecordsResponse;
            GetProfileRecords: $crate::GetProfileRecordsRequest => $crate::GetProfileRecordsResponse;
            GetStatusRecords: $crate::GetStatusRecordsRequest => $crate::GetStatusRecordsResponse;
            GetActorChatDeclarationRecords: $crate::GetActorChatDeclarationRecordsRequest => $crate::GetActorChatDeclarationRecordsResponse;
            GetNotificationDeclarationRecords: $crate::GetNotificationDeclarationRecordsRequest => $crate::GetNotificationDeclarationRecordsResponse;
            GetGermDeclarationRecords: $crate::GetGermDeclarationRecordsRequest => $crate::GetGermDeclarationRecordsResponse;
            GetActorFollowsActors: $crate::GetActorFollowsActorsRequest => $crate::GetActorFollowsActorsResponse;
            GetFollowers: $crate::GetFollowersRequest => $crate::GetFollowersResponse;
            GetFollows: $crate::GetFollowsRequest => $crate::GetFollowsResponse;
            GetFollowsFollowing: $crate::GetFollowsFollowingRequest => $crate::GetFollowsFollowingResponse;
            GetVerificationsIssued: $crate::GetVerificationsIssuedRequest => $crate::GetVerificationsIssuedResponse;
            GetVerificationsReceived: $crate::GetVerificationsReceivedRequest => $crate::GetVerificationsReceivedResponse;
            GetRelationships: $crate::GetRelationshipsRequest => $crate::GetRelationshipsResponse;
            GetBlockExistence: $crate::GetBlockExistenceRequest => $crate::GetBlockExistenceResponse;
            GetBidirectionalBlock: $crate::GetBidirectionalBlockRequest => $crate::GetBidirectionalBlockResponse;
            GetBlocks: $crate::GetBlocksRequest => $crate::GetBlocksResponse;
            GetBidirectionalBlockViaList: $crate::GetBidirectionalBlockViaListRequest => $crate::GetBidirectionalBlockViaListResponse;
            GetBlocklistSubscription: $crate::GetBlocklistSubscriptionRequest => $crate::GetBlocklistSubscriptionResponse;
            GetBlocklistSubscriptions: $crate::GetBlocklistSubscriptionsRequest => $crate::GetBlocklistSubscriptionsResponse;
            GetActorMutesActor: $crate::GetActorMutesActorRequest => $crate::GetActorMutesActorResponse;
            GetMutes: $crate::GetMutesRequest => $crate::GetMutesResponse;
            GetActorMutesActorViaList: $crate::GetActorMutesActorViaListRequest => $crate::GetActorMutesActorViaListResponse;
            GetMutelistSubscription: $crate::GetMutelistSubscriptionRequest => $crate::GetMutelistSubscriptionResponse;
            GetMutelistSubscriptions: $crate::GetMutelistSubscriptionsRequest => $crate::GetMutelistSubscriptionsResponse;
            GetThreadMutesOnSubjects: $crate::GetThreadMutesOnSubjectsRequest => $crate::GetThreadMutesOnSubjectsResponse;
            GetActorLists: $crate::GetActorListsRequest => $crate::GetActorListsResponse;
            GetListMembers: $crate::GetListMembersRequest => $crate::GetListMembersResponse;
            GetListMembership: $crate::GetListMembershipRequest => $crate::GetListMembershipResponse;
            GetListCount: $crate::GetListCountRequest => $crate::GetListCountResponse;
            GetListCounts: $crate::GetListCountsRequest => $crate::GetListCountsResponse;
            GetReferencelistoptoutsByActorAndSubjects: $crate::GetReferencelistoptoutsByActorAndSubjectsRequest => $crate::GetReferencelistoptoutsByActorAndSubjectsResponse;
            GetTimeline: $crate::GetTimelineRequest => $crate::GetTimelineResponse;
            GetAuthorFeed: $crate::GetAuthorFeedRequest => $crate::GetAuthorFeedResponse;
            GetListFeed: $crate::GetListFeedRequest => $crate::GetListFeedResponse;
            GetActorFeeds: $crate::GetActorFeedsRequest => $crate::GetActorFeedsResponse;
            GetSuggestedFeeds: $crate::GetSuggestedFeedsRequest => $crate::GetSuggestedFeedsResponse;
            GetFeedGeneratorStatus: $crate::GetFeedGeneratorStatusRequest => $crate::GetFeedGeneratorStatusResponse;
            GetThread: $crate::GetThreadRequest => $crate::GetThreadResponse;
            GetInteractionCounts: $crate::GetInteractionCountsRequest => $crate::GetInteractionCountsResponse;
            GetLikesByActorAndSubjects: $crate::GetLikesByActorAndSubjectsRequest => $crate::GetLikesByActorAndSubjectsResponse;
            GetRepostsByActorAndSubjects: $crate::GetRepostsByActorAndSubjectsRequest => $crate::GetRepostsByActorAndSubjectsResponse;
            GetLikesBySubject: $crate::GetLikesBySubjectRequest => $crate::GetLikesBySubjectResponse;
            GetLikesBySubjectSorted: $crate::GetLikesBySubjectSortedRequest => $crate::GetLikesBySubjectSortedResponse;
            GetKnownLikers: $crate::GetKnownLikersRequest => $crate::GetKnownLikersResponse;
            GetActorLikes: $crate::GetActorLikesRequest => $crate::GetActorLikesResponse;
            GetRepostsBySubject: $crate::GetRepostsBySubjectRequest => $crate::GetRepostsBySubjectResponse;
            GetActorReposts: $crate::GetActorRepostsRequest => $crate::GetActorRepostsResponse;
            GetQuotesBySubjectSorted: $crate::GetQuotesBySubjectSortedRequest => $crate::GetQuotesBySubjectSortedResponse;
            GetActors: $crate::GetActorsRequest => $crate::GetActorsResponse;
            GetDidsByHandles: $crate::GetDidsByHandlesRequest => $crate::GetDidsByHandlesResponse;
            GetCountsForUsers: $crate::GetCountsForUsersRequest => $crate::GetCountsForUsersResponse;
            GetNewUserCountForRange: $crate::GetNewUserCountForRangeRequest => $crate::GetNewUserCountForRangeResponse;
            GetIdentityByDid: $crate::GetIdentityByDidRequest => $crate::GetIdentityByDidResponse;
            GetIdentityByHandle: $crate::GetIdentityByHandleRequest => $crate::GetIdentityByHandleResponse;
            GetLatestRev: $crate::GetLatestRevRequest => $crate::GetLatestRevResponse;
            GetNotifications: $crate::GetNotificationsRequest => $crate::GetNotificationsResponse;
            GetNotificationSeen: $crate::GetNotificationSeenRequest => $crate::GetNotificationSeenResponse;
            GetUnreadNotificationCount: $crate::GetUnreadNotificationCountRequest => $crate::GetUnreadNotificationCountResponse;
            UpdateNotificationSeen: $crate::UpdateNotificationSeenRequest => $crate::UpdateNotificationSeenResponse;
            GetNotificationPreferences: $crate::GetNotificationPreferencesRequest => $crate::GetNotificationPreferencesResponse;
            GetActivitySubscriptionDids: $crate::GetActivitySubscriptionDidsRequest => $crate::GetActivitySubscriptionDidsResponse;
            GetActivitySubscriptionsByActorAndSubjects: $crate::GetActivitySubscriptionsByActorAndSubjectsRequest => $crate::GetActivitySubscriptionsByActorAndSubjectsResponse;
            GetLabels: $crate::GetLabelsRequest => $crate::GetLabelsResponse;
            GetAllLabelers: $crate::GetAllLabelersRequest => $crate::GetAllLabelersResponse;
            GetBlobTakedown: $crate::GetBlobTakedownRequest => $crate::GetBlobTakedownResponse;
            GetRecordTakedown: $crate::GetRecordTakedownRequest => $crate::GetRecordTakedownResponse;
            GetActorTakedown: $crate::GetActorTakedownRequest => $crate::GetActorTakedownResponse;
            GetActorStarterPacks: $crate::GetActorStarterPacksRequest => $crate::GetActorStarterPacksResponse;
            GetStarterPackCounts: $crate::GetStarterPackCountsRequest => $crate::GetStarterPackCountsResponse;
            SearchActors: $crate::SearchActorsRequest => $crate::SearchActorsResponse;
            SearchPosts: $crate::SearchPostsRequest => $crate::SearchPostsResponse;
            SearchStarterPacks: $crate::SearchStarterPacksRequest => $crate::SearchStarterPacksResponse;
            SearchFeedGenerators: $crate::SearchFeedGeneratorsRequest => $crate::SearchFeedGeneratorsResponse;
            SearchPostsV2: $crate::SearchPostsV2Request => $crate::SearchPostsV2Response;
            SearchActorsV2: $crate::SearchActorsV2Request => $crate::SearchActorsV2Response;
            SearchActorsTypeahead: $crate::SearchActorsTypeaheadRequest => $crate::SearchActorsTypeaheadResponse;
            SearchFeedGeneratorsV2: $crate::SearchFeedGeneratorsV2Request => $crate::SearchFeedGeneratorsV2Response;
            SearchStarterPacksV2: $crate::SearchStarterPacksV2Request => $crate::SearchStarterPacksV2Response;
            GetFollowSuggestions: $crate::GetFollowSuggestionsRequest => $crate::GetFollowSuggestionsResponse;
            GetSuggestedEntities: $crate::GetSuggestedEntitiesRequest => $crate::GetSuggestedEntitiesResponse;
            GetActorBookmarks: $crate::GetActorBookmarksRequest => $crate::GetActorBookmarksResponse;
            GetBookmarksByActorAndSubjects: $crate::GetBookmarksByActorAndSubjectsRequest => $crate::GetBookmarksByActorAndSubjectsResponse;
            GetActorDrafts: $crate::GetActorDraftsRequest => $crate::GetActorDraftsResponse;
            GetSitemapIndex: $crate::GetSitemapIndexRequest => $crate::GetSitemapIndexResponse;
            GetSitemapPage: $crate::GetSitemapPageRequest => $crate::GetSitemapPageResponse;
            GetSiteStandardRecordsByURI: $crate::GetSiteStandardRecordsByUriRequest => $crate::GetSiteStandardRecordsByUriResponse;
            GetSiteStandardRecordsByRef: $crate::GetSiteStandardRecordsByRefRequest => $crate::GetSiteStandardRecordsByRefResponse;
            Ping: $crate::PingRequest => $crate::PingResponse;
            TakedownActor: $crate::TakedownActorRequest => $crate::TakedownActorResponse;
            UntakedownActor: $crate::UntakedownActorRequest => $crate::UntakedownActorResponse;
            TakedownRecord: $crate::TakedownRecordRequest => $crate::TakedownRecordResponse;
            UntakedownRecord: $crate::UntakedownRecordRequest => $crate::UntakedownRecordResponse;
            TakedownBlob: $crate::TakedownBlobRequest => $crate::TakedownBlobResponse;
            UntakedownBlob: $crate::UntakedownBlobRequest => $crate::UntakedownBlobResponse;
            UpdateActorUpstreamStatus: $crate::UpdateActorUpstreamStatusRequest => $crate::UpdateActorUpstreamStatusResponse;
            CreateActorMute: $crate::CreateActorMuteRequest => $crate::CreateActorMuteResponse;
            DeleteActorMute: $crate::DeleteActorMuteRequest => $crate::DeleteActorMuteResponse;
            ClearActorMutes: $crate::ClearActorMutesRequest => $crate::ClearActorMutesResponse;
            CreateActorMutelistSubscription: $crate::CreateActorMutelistSubscriptionRequest => $crate::CreateActorMutelistSubscriptionResponse;
            DeleteActorMutelistSubscription: $crate::DeleteActorMutelistSubscriptionRequest => $crate::DeleteActorMutelistSubscriptionResponse;
            ClearActorMutelistSubscriptions: $crate::ClearActorMutelistSubscriptionsRequest => $crate::ClearActorMutelistSubscriptionsResponse;
            CreateThreadMute: $crate::CreateThreadMuteRequest => $crate::CreateThreadMuteResponse;
            DeleteThreadMute: $crate::DeleteThreadMuteRequest => $crate::DeleteThreadMuteResponse;
            ClearThreadMutes: $crate::ClearThreadMutesRequest => $crate::ClearThreadMutesResponse;
        }
    };
}
