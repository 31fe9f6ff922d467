//! What an operator may do to the process, behind one trait: the binary knows how, this port only asks.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An operation on its way. It is dropped if whoever asked for it goes away, and must leave nothing half done then.
pub type Operation<'a, T = Value> = Pin<Box<dyn Future<Output = Result<T, OperatorError>> + Send + 'a>>;

/// Lines of JSON, each with its line feed.
pub type Lines = BoxStream<'static, Result<Bytes, OperatorError>>;

/// Why an operation was not done. The text says what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The request is wrong: 400.
    #[error("{0}")]
    Invalid(String),
    /// What it is about does not exist: 404.
    #[error("{0}")]
    Absent(String),
    /// It cannot be done in this state: 409.
    #[error("{0}")]
    Conflict(String),
    /// This process does not do that: 501.
    #[error("{0}")]
    NotOffered(String),
    /// An upstream that is needed for it failed: 502.
    #[error("{0}")]
    Upstream(String),
    /// Not now: 503.
    #[error("{0}")]
    Unavailable(String),
    /// We failed: 500.
    #[error("{0}")]
    Failed(String),
}

/// A label as an operator's own tools make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// DID of the labeler.
    pub src: String,
    /// DID or AT-URI of what is labelled.
    pub uri: String,
    /// The version that is labelled; none: all versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<String>,
    /// The label.
    pub val: String,
    /// Whether the label is taken back.
    #[serde(default)]
    pub neg: bool,
    /// When it was made.
    pub cts: String,
    /// When it ends; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<String>,
}

/// Something that the operator suggests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SuggestedEntity {
    /// The tag it stands under.
    pub tag: String,
    /// What is suggested: a DID or an AT-URI.
    pub subject: String,
    /// What the subject is.
    pub subject_type: String,
}

/// A list of what the operator suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuggestedList {
    /// Accounts.
    Follows,
    /// Feeds.
    Feeds,
    /// Entities.
    Entities,
}

/// What an operator may do. What a call wrote is visible to reads when its operation is done.
///
/// Syntax is checked before any of these is called: DIDs are DIDs, URIs are AT-URIs, times are times.
pub trait Operator: Send + Sync + 'static {
    /// Why the process should get no calls, although it serves; `None` if it should.
    fn not_ready(&self) -> Option<String> {
        None
    }
    /// The object of `/status`.
    fn status(&self) -> Operation<'_>;
    /// Pauses ingest; done when work in flight is done. Again: nothing happens.
    fn ingest_pause(&self) -> Operation<'_>;
    /// Goes on with ingest. Again: nothing happens.
    fn ingest_resume(&self) -> Operation<'_>;
    /// Begins again at the oldest event that the upstream retains.
    fn ingest_replay(&self) -> Operation<'_>;
    /// Tries again, now, what the backfill could not read.
    fn backfill_retry(&self) -> Operation<'_> {
        not_offered()
    }
    /// Begins the backfill again: what is not here, or not as new as its list says, is read.
    fn backfill_again(&self) -> Operation<'_> {
        not_offered()
    }
    /// What the backfill could not read and why, as lines of JSON.
    fn backfill_failures(&self) -> Operation<'_, Lines> {
        not_offered()
    }
    /// Fetches a repo and applies the difference.
    fn repo_resync<'a>(&'a self, did: &'a str) -> Operation<'a>;
    /// Resolves an identity again.
    fn actor_refresh<'a>(&'a self, did: &'a str) -> Operation<'a>;
    /// Drops the data of an account that is no longer hosted.
    fn actor_delete<'a>(&'a self, did: &'a str) -> Operation<'a>;
    /// Says whether an account's verifications count.
    fn actor_trusted_verifier<'a>(&'a self, did: &'a str, trusted: bool) -> Operation<'a>;
    /// Takes labels.
    fn labels(&self, labels: Vec<Label>) -> Operation<'_>;
    /// The whole list of suggested accounts, in order.
    fn suggested_follows(&self, dids: Vec<String>) -> Operation<'_>;
    /// The whole list of suggested feeds, in order.
    fn suggested_feeds(&self, uris: Vec<String>) -> Operation<'_>;
    /// The whole list of suggested entities, in order.
    fn suggested_entities(&self, entities: Vec<SuggestedEntity>) -> Operation<'_>;
    /// Forgets one of these lists: from then on the graph decides what is suggested.
    fn suggested_forget(&self, list: SuggestedList) -> Operation<'_>;
    /// The whole list of an operator's tags on a record.
    fn record_tags<'a>(&'a self, uri: &'a str, tags: Vec<String>) -> Operation<'a>;
    /// What is kept on an account, as lines of JSON.
    fn export<'a>(&'a self, did: &'a str) -> Operation<'a, Lines>;
}

/// An operator that can do nothing, for a process that only answers calls, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOperator;

fn not_offered<'a, T: Send + 'a>() -> Operation<'a, T> {
    Box::pin(std::future::ready(Err(OperatorError::NotOffered("this process does not offer this operation".into()))))
}

impl Operator for NoOperator {
    fn status(&self) -> Operation<'_> {
        Box::pin(std::future::ready(Ok(Value::Object(serde_json::Map::new()))))
    }
    fn ingest_pause(&self) -> Operation<'_> {
        not_offered()
    }
    fn ingest_resume(&self) -> Operation<'_> {
        not_offered()
    }
    fn ingest_replay(&self) -> Operation<'_> {
        not_offered()
    }
    fn repo_resync<'a>(&'a self, _: &'a str) -> Operation<'a> {
        not_offered()
    }
    fn actor_refresh<'a>(&'a self, _: &'a str) -> Operation<'a> {
        not_offered()
    }
    fn actor_delete<'a>(&'a self, _: &'a str) -> Operation<'a> {
        not_offered()
    }
    fn actor_trusted_verifier<'a>(&'a self, _: &'a str, _: bool) -> Operation<'a> {
        not_offered()
    }
    fn labels(&self, _: Vec<Label>) -> Operation<'_> {
        not_offered()
    }
    fn suggested_follows(&self, _: Vec<String>) -> Operation<'_> {
        not_offered()
    }
    fn suggested_feeds(&self, _: Vec<String>) -> Operation<'_> {
        not_offered()
    }
    fn suggested_entities(&self, _: Vec<SuggestedEntity>) -> Operation<'_> {
        not_offered()
    }
    fn suggested_forget(&self, _: SuggestedList) -> Operation<'_> {
        not_offered()
    }
    fn record_tags<'a>(&'a self, _: &'a str, _: Vec<String>) -> Operation<'a> {
        not_offered()
    }
    fn export<'a>(&'a self, _: &'a str) -> Operation<'a, Lines> {
        not_offered()
    }
}
