//! Hosts that misbehave, each on a port of its own, and a directory and a list of repos that lead to them. What they
//! serve are true repos of a synthetic network, until it is spoiled.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::StreamExt;
use gp_ingest::IdentityConfig;
use gp_synth::Network;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How a host gives out a repo.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    Good,
    /// With a byte changed in the middle.
    Damaged,
    /// Without its last bytes.
    CutShort,
    /// With an error of the protocol.
    Refuses(&'static str),
    /// With a status and nothing else.
    Fails(u16),
    /// One byte a second.
    Trickles,
    /// Zeros without end.
    Endless,
    /// "Come again in a second", so many times.
    Busy(usize),
}

/// A host of some repos.
pub(crate) struct Host {
    pub(crate) url: String,
    manners: Mutex<HashMap<String, (Manner, Vec<u8>)>>,
    asked: AtomicUsize,
    at_once: AtomicUsize,
    at_once_most: AtomicUsize,
    /// How long every answer takes.
    takes: Duration,
}

type Asked = HashMap<String, String>;

/// Takes a port. Nobody is answered before [`serve`].
async fn port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn serve(listener: TcpListener, router: Router) {
    tokio::spawn(async move { axum::serve(listener, router).await });
}

fn refusal(status: u16, error: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), json!({"error": error, "message": "no"}).to_string()).into_response()
}

impl Host {
    pub(crate) async fn start(takes: Duration) -> Arc<Self> {
        let (listener, url) = port().await;
        let host = Arc::new(Self {
            url,
            manners: Mutex::default(),
            asked: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            at_once_most: AtomicUsize::new(0),
            takes,
        });
        let answer = async |State(host): State<Arc<Self>>, Query(asked): Query<Asked>| host.answer(&asked["did"]).await;
        let router = Router::new().route("/xrpc/com.atproto.sync.getRepo", get(answer));
        serve(listener, router.with_state(Arc::clone(&host)));
        host
    }

    /// How often a repo was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// Gives a repo that is no account's of the network.
    pub(crate) fn give(&self, did: &str, car: Vec<u8>) {
        self.manners.lock().insert(did.to_owned(), (Manner::Good, car));
    }

    pub(crate) fn set(&self, did: &str, manner: Manner) {
        self.manners.lock().get_mut(did).unwrap().0 = manner;
    }

    async fn answer(&self, did: &str) -> Response {
        /// Ends also if whoever asked goes away.
        struct Answering<'a>(&'a AtomicUsize);
        impl Drop for Answering<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        self.asked.fetch_add(1, SeqCst);
        let now = self.at_once.fetch_add(1, SeqCst) + 1;
        let _answering = Answering(&self.at_once);
        self.at_once_most.fetch_max(now, SeqCst);
        tokio::time::sleep(self.takes).await;
        self.body(did)
    }

    /// Most that were being answered at the same time.
    pub(crate) fn at_once_most(&self) -> usize {
        self.at_once_most.load(SeqCst)
    }

    fn body(&self, did: &str) -> Response {
        let mut manners = self.manners.lock();
        let Some((manner, car)) = manners.get_mut(did) else { return refusal(400, "RepoNotFound") };
        let mut car = car.clone();
        match manner {
            Manner::Good => car.into_response(),
            Manner::Damaged => {
                let middle = car.len() / 2;
                car[middle] ^= 0x55;
                car.into_response()
            }
            Manner::CutShort => {
                car.truncate(car.len() - 7);
                car.into_response()
            }
            Manner::Refuses(error) => refusal(400, error),
            Manner::Fails(status) => refusal(*status, "InternalServerError"),
            Manner::Trickles => {
                let bytes = futures::stream::iter(car).then(|byte| async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok::<_, std::io::Error>(Bytes::from(vec![byte]))
                });
                Body::from_stream(bytes).into_response()
            }
            Manner::Endless => {
                let zeros = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 64 << 10])));
                Body::from_stream(zeros).into_response()
            }
            Manner::Busy(0) => car.into_response(),
            Manner::Busy(times) => {
                *times -= 1;
                let mut answer = refusal(429, "RateLimitExceeded");
                answer.headers_mut().insert("retry-after", "1".parse().unwrap());
                answer
            }
        }
    }
}

/// Who is where: documents, and the list of all repos.
pub(crate) struct Stage {
    pub(crate) url: String,
    directory: Arc<Directory>,
}

#[derive(Default)]
struct Directory {
    listed: Mutex<Vec<Value>>,
    /// The documents of an account, one for each time it is asked for; the last one stays.
    documents: Mutex<HashMap<String, Vec<Value>>>,
    pages: AtomicUsize,
    page_repos: usize,
}

impl Stage {
    /// `page_repos` repos in a page of the list.
    pub(crate) async fn start(page_repos: usize) -> Self {
        let directory = Arc::new(Directory { page_repos, ..Directory::default() });
        let router = Router::new()
            .route("/xrpc/com.atproto.sync.listRepos", get(list))
            .route("/{did}", get(document))
            .with_state(Arc::clone(&directory));
        let (listener, url) = port().await;
        serve(listener, router);
        Self { url, directory }
    }

    /// Puts the repo of an account of the network on a host.
    pub(crate) fn put(&self, network: &Network, did: &str, host: &Host, manner: Manner) {
        let car = network.repo_car(did).unwrap();
        host.manners.lock().insert(did.to_owned(), (manner, car));
        self.put_at(network, did, &host.url);
    }

    /// Says that an account is on a host that may not be there.
    pub(crate) fn put_at(&self, network: &Network, did: &str, host: &str) {
        let facts = network.account(did).unwrap().facts;
        let rev = facts.head.unwrap().1.to_string();
        let listed = json!({"did": did, "head": facts.head.unwrap().0.to_string(), "rev": rev, "active": true});
        self.directory.listed.lock().push(listed);
        self.set_documents(did, &[(&facts.handle, &facts.signing_key)], host);
    }

    /// Says what the documents of an account are, the first time it is asked for, the second time and so on.
    pub(crate) fn set_documents(&self, did: &str, handles_and_keys: &[(&str, &str)], host: &str) {
        let document = |(handle, key): &(&str, &str)| {
            json!({
                "id": did,
                "alsoKnownAs": [format!("at://{handle}")],
                "verificationMethod": [
                    {"id": format!("{did}#atproto"), "type": "Multikey", "controller": did, "publicKeyMultibase": key},
                ],
                "service": [
                    {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": host},
                ],
            })
        };
        let documents = handles_and_keys.iter().rev().map(document).collect();
        self.directory.documents.lock().insert(did.to_owned(), documents);
    }

    /// Lists a repo that nothing else is known of.
    pub(crate) fn list(&self, listed: Value) {
        self.directory.listed.lock().push(listed);
    }

    /// Pages that were asked for.
    pub(crate) fn pages(&self) -> usize {
        self.directory.pages.load(SeqCst)
    }

    pub(crate) fn identity_config(&self, network: &Network) -> IdentityConfig {
        IdentityConfig {
            plc_url: self.url.clone(),
            did_resolver_url: Some(self.url.clone()),
            ..crate::rig::identity_config(network)
        }
    }
}

async fn list(State(directory): State<Arc<Directory>>, Query(asked): Query<Asked>) -> Response {
    directory.pages.fetch_add(1, SeqCst);
    let from: usize = asked.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let listed = directory.listed.lock();
    let to = (from + directory.page_repos).min(listed.len());
    let mut page = json!({"repos": listed[from..to]});
    if to < listed.len() {
        page["cursor"] = to.to_string().into();
    }
    page.to_string().into_response()
}

async fn document(State(directory): State<Arc<Directory>>, Path(did): Path<String>) -> Response {
    let mut documents = directory.documents.lock();
    match documents.get_mut(&did) {
        None => refusal(404, "NotFound"),
        Some(documents) if documents.len() > 1 => documents.pop().unwrap().to_string().into_response(),
        Some(documents) => documents[0].to_string().into_response(),
    }
}
