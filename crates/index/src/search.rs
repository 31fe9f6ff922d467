//! The door to full-text search: one function for each call, answered by whoever keeps the index of words.
//!
//! The index of words stands on this crate, so this crate cannot name it; [`Cx`] carries it, as it carries the resolver.

use std::{future::Future, pin::Pin};

use gp_proto as proto;

use crate::{Cx, Error, Result};

/// An answer on its way.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

macro_rules! searches {
    ($($(#[$doc:meta])* $name:ident: $request:ident => $response:ident;)+) => {
        /// Answers searches. What an implementation leaves out is not offered by this build.
        pub trait SearchSource: Send + Sync {
            $(
                $(#[$doc])*
                fn $name<'a>(&'a self, cx: &'a Cx, req: proto::$request) -> Answering<'a, proto::$response> {
                    let _ = (cx, req);
                    Box::pin(std::future::ready(Err(Error::Unimplemented)))
                }
            )+
        }

        $(
            $(#[$doc])*
            pub async fn $name(cx: &Cx, req: proto::$request) -> Result<proto::$response> {
                cx.search.$name(cx, req).await
            }
        )+
    };
}

searches! {
    /// Accounts by handle and by what their profiles say.
    search_actors: SearchActorsRequest => SearchActorsResponse;
    /// Posts, newest first.
    search_posts: SearchPostsRequest => SearchPostsResponse;
    /// Starter packs, newest first.
    search_starter_packs: SearchStarterPacksRequest => SearchStarterPacksResponse;
    /// Feed generators, one page.
    search_feed_generators: SearchFeedGeneratorsRequest => SearchFeedGeneratorsResponse;
    /// Posts by words and conditions, newest or best first.
    search_posts_v2: SearchPostsV2Request => SearchPostsV2Response;
    /// Accounts, with how many there are.
    search_actors_v2: SearchActorsV2Request => SearchActorsV2Response;
    /// Accounts while somebody types.
    search_actors_typeahead: SearchActorsTypeaheadRequest => SearchActorsTypeaheadResponse;
    /// Feed generators, with how many there are.
    search_feed_generators_v2: SearchFeedGeneratorsV2Request => SearchFeedGeneratorsV2Response;
    /// Starter packs, with how many there are.
    search_starter_packs_v2: SearchStarterPacksV2Request => SearchStarterPacksV2Response;
}

/// A process without an index of words: every search is not offered.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSearch;

impl SearchSource for NoSearch {}
