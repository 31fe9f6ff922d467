//! What every read and write is given.

use std::{future::Future, pin::Pin, sync::Arc};

use gp_store::{Store, Writer};

use crate::{Error, Result, damage::Damage, graph::Graph, search::SearchSource, window::Window};

/// What a resolver says about a DID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The DID.
    pub did: String,
    /// The first `at://` alias without its prefix, letters as in the document; empty if none. Not verified.
    pub handle: String,
    /// The DID document as JSON text.
    pub document: Arc<str>,
}

/// Resolves identities over the network, with its own cache and bounds. Implemented by the ingest side.
pub trait IdentitySource: Send + Sync {
    /// The document of a DID. `Err(Absent)` only when the directory says that there is none.
    fn by_did<'a>(&'a self, did: &'a str) -> Pin<Box<dyn Future<Output = Result<Resolution>> + Send + 'a>>;
    /// The DID of a handle over DNS or HTTPS, not checked against the document. `Err(Absent)` when neither answers.
    fn did_of_handle<'a>(&'a self, handle: &'a str) -> Pin<Box<dyn Future<Output = Result<String>> + Send + 'a>>;
}

/// Knows nobody, and asks nobody.
#[derive(Debug, Clone, Copy)]
pub struct NoIdentities;

impl IdentitySource for NoIdentities {
    fn by_did<'a>(&'a self, _did: &'a str) -> Pin<Box<dyn Future<Output = Result<Resolution>> + Send + 'a>> {
        Box::pin(std::future::ready(Err(Error::Absent("identity"))))
    }

    fn did_of_handle<'a>(&'a self, _handle: &'a str) -> Pin<Box<dyn Future<Output = Result<String>> + Send + 'a>> {
        Box::pin(std::future::ready(Err(Error::Absent("identity"))))
    }
}

/// What every read and write is given. Cheap to clone.
#[derive(Clone)]
pub struct Cx {
    /// The rows.
    pub store: Store,
    /// The one writer.
    pub writer: Writer,
    /// Identities over the network.
    pub identity: Arc<dyn IdentitySource>,
    /// The newest items of everybody's feeds.
    pub window: Arc<Window>,
    /// Who follows whom. Its names are those of the window.
    pub graph: Arc<Graph>,
    /// The index of words.
    pub search: Arc<dyn SearchSource>,
    /// Where profiles are shown to people, without a slash at its end: sitemaps name pages below it.
    pub sitemap_url: Arc<str>,
    /// Stored values that could not be read.
    pub damage: Arc<Damage>,
    /// The clock, in microseconds since 1970, so that tests can turn it.
    pub now_us: fn() -> i64,
}

/// The machine's clock in microseconds since 1970.
pub fn system_now_us() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
