//! Who an account is: its document, its key, its host, its handle.
//!
//! Documents are kept in a bounded cache. A look-up that many wait for is made once. While the directory is down, what
//! is known keeps being used for a day. "There is no such account" is said only when the directory says so.

mod document;
mod handle;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gp_atproto::did::Did;
use gp_index::{IdentitySource, Resolution};
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

pub use document::Document;
use handle::Handles;

use crate::{
    Error, IdentityConfig, Result,
    http::{Http, Trust},
};

/// "No such account" is remembered for this many accounts.
const NEGATIVES_MAX: usize = 10_000;

/// Answers about handles are remembered for this many handles ...
const HANDLES_MAX: usize = 20_000;

/// ... and this long, when they say who holds the handle.
const HANDLE_FRESH_FOR: Duration = Duration::from_secs(60);

const DOCUMENT_ACCEPT: &str = "application/did+ld+json,application/json";

/// Finds out who accounts are. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    config: IdentityConfig,
    http: Http,
    handles: Handles,
    documents: Cache<Arc<str>, Kept, Weight>,
    negatives: Cache<Arc<str>, (Instant, Error)>,
    by_handle: Cache<Arc<str>, (Instant, Option<String>)>,
    flights: Mutex<HashMap<Arc<str>, Flight>>,
    turns: Semaphore,
    figures: Counters,
}

/// A document and when the look-up that brought it began.
#[derive(Clone)]
struct Kept {
    document: Arc<Document>,
    asked_at: Instant,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Arc<str>, Kept> for Weight {
    fn weight(&self, did: &Arc<str>, kept: &Kept) -> u64 {
        did.len() as u64 + kept.document.bytes()
    }
}

/// A look-up under way.
#[derive(Clone)]
struct Flight {
    began: Instant,
    found: watch::Receiver<Option<Result<Arc<Document>>>>,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    stale: AtomicU64,
    lookups: AtomicU64,
    absent: AtomicU64,
    failed: AtomicU64,
    handle_lookups: AtomicU64,
}

/// What the identity side has done since start.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdentityFigures {
    /// Documents answered from memory.
    pub hits: u64,
    /// ... although they were due to be asked for again.
    pub stale_hits: u64,
    /// Documents asked of a directory or a host.
    pub lookups: u64,
    /// ... that do not exist.
    pub absent: u64,
    /// ... that could not be had.
    pub failed: u64,
    /// Handles asked for.
    pub handle_lookups: u64,
    /// Look-ups under way.
    pub in_flight: u64,
    /// Documents in memory.
    pub documents: u64,
    /// Bytes they take.
    pub document_bytes: u64,
}

/// How new a document must be.
#[derive(Debug, Clone, Copy)]
pub enum Want {
    /// As the cache sees fit.
    Any,
    /// Asked for at or after this moment.
    Since(Instant),
}

impl Identity {
    /// Sets up clients and caches. Opens no connection.
    pub fn new(config: IdentityConfig) -> Result<Self> {
        let entries = usize::try_from(config.cache_bytes_max / 1500).unwrap_or(usize::MAX).max(64);
        let inner = Inner {
            http: Http::new(config.allow_private_networks)?,
            handles: Handles::new(&config),
            documents: Cache::with_weighter(entries, config.cache_bytes_max, Weight),
            negatives: Cache::new(NEGATIVES_MAX),
            by_handle: Cache::new(HANDLES_MAX),
            flights: Mutex::default(),
            turns: Semaphore::new(config.lookups_running_max),
            figures: Counters::default(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The document of a DID. `Absent` only when the directory (or, for `did:web`, the host) says that there is none.
    pub async fn document(&self, did: &str, want: Want) -> Result<Arc<Document>> {
        let inner = &self.inner;
        let now = Instant::now();
        let kept = inner.documents.get(did);
        let after = match want {
            Want::Since(moment) => {
                if let Some(kept) = kept.filter(|kept| kept.asked_at >= moment) {
                    inner.figures.hits.fetch_add(1, Relaxed);
                    return Ok(kept.document);
                }
                Some(moment)
            }
            Want::Any => {
                if let Some(kept) = kept {
                    let age = now.saturating_duration_since(kept.asked_at);
                    if age < inner.config.fresh_for {
                        inner.figures.hits.fetch_add(1, Relaxed);
                        return Ok(kept.document);
                    }
                    if age < inner.config.stale_for {
                        // Good enough for now; whoever asks next has the new one. A failure is counted where it happens.
                        inner.figures.stale.fetch_add(1, Relaxed);
                        let _ = inner.flight(did);
                        return Ok(kept.document);
                    }
                }
                if let Some((at, error)) = inner.negatives.get(did)
                    && now.saturating_duration_since(at) < inner.config.negative_for
                {
                    return Err(error);
                }
                None
            }
        };
        loop {
            let mut flight = inner.flight(did)?;
            let found = match flight.found.wait_for(Option::is_some).await {
                Ok(found) => found.clone(),
                Err(_) => return Err(Error::Stopped),
            };
            // A look-up that began before it was asked for may have seen the document as it was before.
            if after.is_none_or(|after| flight.began >= after) {
                return found.unwrap_or(Err(Error::Stopped));
            }
        }
    }

    /// As [`Identity::document`], but what is known stays good for a day while it cannot be asked for.
    pub(crate) async fn document_or_stale(&self, did: &str, want: Want) -> Result<Arc<Document>> {
        match self.document(did, want).await {
            Err(error @ (Error::Failed(_) | Error::Refused(_) | Error::Overloaded)) => {
                let kept =
                    self.inner.documents.get(did).filter(|kept| kept.asked_at.elapsed() < self.inner.config.stale_for);
                match kept {
                    Some(kept) => {
                        self.inner.figures.stale.fetch_add(1, Relaxed);
                        Ok(kept.document)
                    }
                    None => Err(error),
                }
            }
            other => other,
        }
    }

    /// The DID that a handle points to now; nothing if there is none.
    pub(crate) async fn did_of_handle_now(&self, handle: &str) -> Result<Option<String>> {
        let inner = &self.inner;
        let _turn = inner.turns.acquire().await.map_err(|_| Error::Stopped)?;
        inner.figures.handle_lookups.fetch_add(1, Relaxed);
        let found = inner.handles.did_of(&inner.http, handle).await?;
        inner.by_handle.insert(handle.to_lowercase().into(), (Instant::now(), found.clone()));
        Ok(found)
    }

    pub(crate) fn http(&self) -> &Http {
        &self.inner.http
    }

    /// What has been done since start.
    pub fn figures(&self) -> IdentityFigures {
        let (inner, counted) = (&self.inner, &self.inner.figures);
        IdentityFigures {
            hits: counted.hits.load(Relaxed),
            stale_hits: counted.stale.load(Relaxed),
            lookups: counted.lookups.load(Relaxed),
            absent: counted.absent.load(Relaxed),
            failed: counted.failed.load(Relaxed),
            handle_lookups: counted.handle_lookups.load(Relaxed),
            in_flight: inner.flights.lock().len() as u64,
            documents: inner.documents.len() as u64,
            document_bytes: inner.documents.weight(),
        }
    }
}

impl Inner {
    /// The look-up of a DID that is under way, or a new one.
    fn flight(self: &Arc<Self>, did: &str) -> Result<Flight> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(did) {
            return Ok(flight.clone());
        }
        if flights.len() >= self.config.lookups_running_max + self.config.lookups_waiting_max {
            return Err(Error::Overloaded);
        }
        let did: Arc<str> = did.into();
        let (tell, found) = watch::channel(None);
        let flight = Flight { began: Instant::now(), found };
        flights.insert(Arc::clone(&did), flight.clone());
        drop(flights);
        // A task of its own: a caller that goes away must not end the look-up for the others.
        let (inner, began) = (Arc::clone(self), flight.began);
        tokio::spawn(async move {
            let found = inner.look_up(&did, began).await;
            inner.flights.lock().remove(&did);
            let _ = tell.send(Some(found));
        });
        Ok(flight)
    }

    async fn look_up(&self, did: &Arc<str>, asked_at: Instant) -> Result<Arc<Document>> {
        let _turn = self.turns.acquire().await.map_err(|_| Error::Stopped)?;
        self.figures.lookups.fetch_add(1, Relaxed);
        match self.fetch(did).await {
            Ok(document) => {
                let document = Arc::new(document);
                self.documents.insert(Arc::clone(did), Kept { document: Arc::clone(&document), asked_at });
                self.negatives.remove(did);
                Ok(document)
            }
            Err(error) => {
                if matches!(error, Error::Absent(_)) {
                    self.figures.absent.fetch_add(1, Relaxed);
                    self.documents.remove(did);
                } else {
                    self.figures.failed.fetch_add(1, Relaxed);
                }
                self.negatives.insert(Arc::clone(did), (Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn fetch(&self, did: &str) -> Result<Document> {
        let parsed = Did::parse(did).map_err(|_| Error::Invalid(format!("`{did}` is not a DID")))?;
        let (trust, url) = match &self.config.did_resolver_url {
            Some(base) => (Trust::Operator, format!("{}/{}", base.trim_end_matches('/'), escape(did))),
            None => match parsed.method() {
                "plc" => (Trust::Operator, format!("{}/{}", self.config.plc_url.trim_end_matches('/'), escape(did))),
                "web" => (Trust::Network, web_url(parsed.identifier(), self.config.allow_private_networks)?),
                other => return Err(Error::Invalid(format!("{did}: DIDs of the method `{other}` are not resolved"))),
            },
        };
        let answer =
            self.http.get(trust, &url, DOCUMENT_ACCEPT, self.config.lookup_max, self.config.document_bytes_max).await?;
        match answer.status {
            200 => Document::read(did, &answer.body),
            // Nothing else proves absence: a host that is broken for a while must not look like a deleted account.
            404 | 410 => Err(Error::Absent(format!("{did} does not exist, says its directory"))),
            status => Err(Error::Failed(format!("the document of {did} cannot be had: status {status}"))),
        }
    }
}

impl IdentitySource for Identity {
    fn by_did<'a>(&'a self, did: &'a str) -> Pin<Box<dyn Future<Output = gp_index::Result<Resolution>> + Send + 'a>> {
        Box::pin(async move {
            let document = self.document(did, Want::Any).await?;
            Ok(Resolution {
                did: did.to_owned(),
                handle: document.handle.clone().unwrap_or_default(),
                document: Arc::clone(&document.json),
            })
        })
    }

    fn did_of_handle<'a>(
        &'a self,
        handle: &'a str,
    ) -> Pin<Box<dyn Future<Output = gp_index::Result<String>> + Send + 'a>> {
        Box::pin(async move {
            let kept = self.inner.by_handle.get(handle.to_lowercase().as_str());
            let found = match kept {
                Some((at, Some(did))) if at.elapsed() < HANDLE_FRESH_FOR => Some(did),
                Some((at, None)) if at.elapsed() < self.inner.config.negative_for => None,
                _ => self.did_of_handle_now(handle).await?,
            };
            found.ok_or(gp_index::Error::Absent("handle"))
        })
    }
}

/// The address of a `did:web`'s document. Ports are written as `%3A`; paths are not part of atproto.
fn web_url(identifier: &str, allow_private: bool) -> Result<String> {
    let refuse = |why: &str| Error::Invalid(format!("did:web:{identifier}: {why}"));
    if identifier.contains(':') {
        return Err(refuse("a DID with a path is not used in atproto"));
    }
    let host = identifier.replace("%3A", ":").replace("%3a", ":");
    if host.contains('%') || host.is_empty() {
        return Err(refuse("not a host name"));
    }
    let (name, port) = host.split_once(':').map_or((host.as_str(), None), |(name, port)| (name, Some(port)));
    let on_this_machine = name == "localhost" || name.ends_with(".localhost");
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    // Plain HTTP is for this machine, and for test networks where it is allowed.
    let plain = on_this_machine || (allow_private && (port.is_some() || is_address));
    Ok(format!("{}://{host}/.well-known/did.json", if plain { "http" } else { "https" }))
}

/// A text as one segment of a path or one value of a query. Colons stay: both places may hold them.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_did_web_documents() {
        assert_eq!(web_url("mod.example", false).unwrap(), "https://mod.example/.well-known/did.json");
        assert_eq!(web_url("localhost%3A2583", false).unwrap(), "http://localhost:2583/.well-known/did.json");
        assert_eq!(web_url("127.0.0.1%3A2583", true).unwrap(), "http://127.0.0.1:2583/.well-known/did.json");
        assert_eq!(web_url("mod.example%3A8443", false).unwrap(), "https://mod.example:8443/.well-known/did.json");
        for bad in ["", "a.example:path", "a%2Fb", "a%00"] {
            assert!(web_url(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn segments_are_escaped() {
        assert_eq!(escape("did:web:localhost%3A99"), "did:web:localhost%253A99");
        assert_eq!(escape("a/b?c#d é"), "a%2Fb%3Fc%23d%20%C3%A9");
    }
}
