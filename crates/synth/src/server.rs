//! The one port on which everything of the network is: the relay's stream, every host's exports, the DID directory,
//! handles, the labeler's stream.
//!
//! Routes go by path. `/xrpc/…` are the hosts and the relay, `/did:…` the directory, `/.well-known/…` answer by the
//! `Host` header for handles and `did:web`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};
use tokio_util::sync::CancellationToken;

use crate::{
    host::{AccountFacts, Directory},
    log::SharedLog,
    population::HANDLE_DOMAIN,
    relay,
    switches::Switches,
};

/// Most accounts in a page of `listRepos`, and how many without a limit.
const LIST_MAX: usize = 1_000;
const LIST_DEFAULT: usize = 500;

/// What the port serves.
pub(crate) struct Served {
    pub(crate) events: SharedLog,
    pub(crate) labels: SharedLog,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) switches: Switches,
    pub(crate) addr: SocketAddr,
}

type Answer = Response<Full<Bytes>>;

/// Accepts connections until `stop`. Then all of them break.
pub(crate) async fn run(listener: TcpListener, served: Arc<Served>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, most likely: those who hold them will let go.
                Err(_) => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = stop.cancelled() => return,
        };
        let _ = stream.set_nodelay(true);
        let (served, stop) = (served.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (served, stop) = (served.clone(), stop.clone());
                async move { Ok::<_, Infallible>(answer(served, request, stop).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A client that goes away in the middle is no news.
                _ = connection.with_upgrades() => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn answer(served: Arc<Served>, request: Request<Incoming>, stop: CancellationToken) -> Answer {
    let path = percent_decoded(request.uri().path());
    if let Some(delay) = served.switches.delay_of(&path) {
        tokio::time::sleep(delay).await;
    }
    if let Some(status) = served.switches.failure_of(&path) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return json_answer(status, &json!({ "error": "InternalServerError", "message": "asked to fail" }));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "InvalidRequest",
            "this network is written to from the inside only",
        );
    }
    match path.as_str() {
        "/xrpc/com.atproto.sync.subscribeRepos" => {
            let log = served.events.clone();
            subscribe(served, log, request, stop)
        }
        "/xrpc/com.atproto.label.subscribeLabels" => {
            let log = served.labels.clone();
            subscribe(served, log, request, stop)
        }
        "/.well-known/atproto-did" => match host_of(&request).and_then(|host| served.directory.owner(&host)) {
            Some(did) => text_answer(StatusCode::OK, did),
            None => text_answer(StatusCode::NOT_FOUND, "nobody has this handle".into()),
        },
        "/.well-known/did.json" => match host_of(&request) {
            Some(host) => did_document(&served, &format!("did:web:{host}")),
            None => refused(StatusCode::NOT_FOUND, "NotFound", "no such DID"),
        },
        "/_health" | "/xrpc/_health" => json_answer(StatusCode::OK, &json!({ "version": env!("CARGO_PKG_VERSION") })),
        path => match (path.strip_prefix("/xrpc/"), path.strip_prefix("/did:")) {
            (Some(method), _) => query(&served, method, &request),
            (None, Some(rest)) => did_document(&served, &format!("did:{rest}")),
            (None, None) => refused(StatusCode::NOT_FOUND, "NotFound", "nothing here"),
        },
    }
}

// ---------------------------------------------------------------------------------------------- streams

fn subscribe(served: Arc<Served>, log: SharedLog, mut request: Request<Incoming>, stop: CancellationToken) -> Answer {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = header("sec-websocket-key").to_owned();
    if !header("upgrade").eq_ignore_ascii_case("websocket") || key.is_empty() {
        return refused(StatusCode::UPGRADE_REQUIRED, "InvalidRequest", "this is a WebSocket");
    }
    let cursor =
        match parameter(&request, "cursor").filter(|cursor| !cursor.is_empty()).map(|cursor| cursor.parse::<i64>()) {
            None => None,
            Some(Ok(cursor)) => Some(cursor),
            Some(Err(_)) => return refused(StatusCode::BAD_REQUEST, "InvalidRequest", "the cursor is not a number"),
        };
    // Taken before the answer: what happens once the client knows that it is connected must reach it.
    let cursor = cursor.unwrap_or_else(|| log.head());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        tokio::select! {
            () = relay::serve(socket, &log, cursor, &served.switches) => {}
            () = stop.cancelled() => {}
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .body(Full::default())
        .expect("these headers are valid")
}

// ---------------------------------------------------------------------------------------------- hosts

fn query(served: &Served, method: &str, request: &Request<Incoming>) -> Answer {
    match method {
        "com.atproto.identity.resolveHandle" => {
            let handle = parameter(request, "handle").unwrap_or_default().to_lowercase();
            match served.directory.owner(&handle) {
                Some(did) => json_answer(StatusCode::OK, &json!({ "did": did })),
                None => refused(StatusCode::BAD_REQUEST, "HandleNotFound", "nobody has this handle"),
            }
        }
        "com.atproto.server.describeServer" => json_answer(
            StatusCode::OK,
            &json!({ "did": "did:web:host.demo.test", "availableUserDomains": [format!(".{HANDLE_DOMAIN}")] }),
        ),
        "com.atproto.sync.listRepos" => list_repos(served, request),
        "com.atproto.sync.getRepo" | "com.atproto.sync.getLatestCommit" | "com.atproto.sync.getRepoStatus" => {
            let did = parameter(request, "did").unwrap_or_default();
            let facts = served.directory.account(&did).filter(|facts| facts.status.as_deref() != Some("deleted"));
            let Some(facts) = facts else {
                return refused(StatusCode::BAD_REQUEST, "RepoNotFound", "no repo of this DID is hosted here");
            };
            match method {
                "com.atproto.sync.getRepoStatus" => json_answer(StatusCode::OK, &repo_status(&facts)),
                _ => export(served, method, &facts),
            }
        }
        _ => refused(StatusCode::NOT_IMPLEMENTED, "MethodNotImplemented", "this network does not know the method"),
    }
}

fn export(served: &Served, method: &str, facts: &AccountFacts) -> Answer {
    let refusal = match facts.status.as_deref() {
        None => None,
        Some("takendown") => Some("RepoTakendown"),
        Some("suspended") => Some("RepoSuspended"),
        Some(_) => Some("RepoDeactivated"),
    };
    if let Some(name) = refusal {
        return refused(StatusCode::BAD_REQUEST, name, "the account is not in good standing");
    }
    let absent = || refused(StatusCode::BAD_REQUEST, "RepoNotFound", "this network keeps no records to export");
    match (method, facts.head) {
        (_, None) => absent(),
        ("com.atproto.sync.getLatestCommit", Some((cid, rev))) => {
            json_answer(StatusCode::OK, &json!({ "cid": cid.to_string(), "rev": rev.to_string() }))
        }
        _ => match served.directory.car(&facts.did) {
            None => absent(),
            Some(car) => bytes_answer("application/vnd.ipld.car", car.into()),
        },
    }
}

fn repo_status(facts: &AccountFacts) -> Json {
    let mut status = json!({ "did": facts.did, "active": facts.status.is_none() });
    if let Some(why) = &facts.status {
        status["status"] = why.as_str().into();
    }
    if let Some((_, rev)) = facts.head.filter(|_| facts.status.is_none()) {
        status["rev"] = rev.to_string().into();
    }
    status
}

fn list_repos(served: &Served, request: &Request<Incoming>) -> Answer {
    let number = |name| parameter(request, name).map(|text| text.parse::<usize>());
    let (Ok(limit), Ok(from)) = (number("limit").unwrap_or(Ok(LIST_DEFAULT)), number("cursor").unwrap_or(Ok(0))) else {
        return refused(StatusCode::BAD_REQUEST, "InvalidRequest", "limit or cursor is not a number");
    };
    if !(1..=LIST_MAX).contains(&limit) {
        return refused(StatusCode::BAD_REQUEST, "InvalidRequest", "limit must be from 1 to 1000");
    }
    let page = served.directory.list(from, limit);
    let repos: Vec<Json> = page
        .iter()
        .filter_map(|facts| {
            let (head, _) = facts.head?;
            let mut repo = repo_status(facts);
            repo["head"] = head.to_string().into();
            repo["rev"] = facts.head?.1.to_string().into();
            Some(repo)
        })
        .collect();
    let mut answer = json!({ "repos": repos });
    if page.len() == limit {
        answer["cursor"] = (from + limit).to_string().into();
    }
    json_answer(StatusCode::OK, &answer)
}

// ---------------------------------------------------------------------------------------------- the directory

fn did_document(served: &Served, did: &str) -> Answer {
    match served.directory.account(did) {
        None => json_answer(StatusCode::NOT_FOUND, &json!({ "message": format!("DID not registered: {did}") })),
        Some(facts) if facts.is_tombstone => {
            json_answer(StatusCode::GONE, &json!({ "message": format!("DID not available: {did}") }))
        }
        Some(facts) => {
            let document = document(&facts, &format!("http://{}", served.addr));
            bytes_answer("application/did+ld+json", document.to_string().into())
        }
    }
}

/// The DID document of an account on the host at `endpoint`.
pub(crate) fn document(facts: &AccountFacts, endpoint: &str) -> Json {
    let did = &facts.did;
    let method = |id: &str, key: &str| json!({ "id": format!("{did}{id}"), "type": "Multikey", "controller": did, "publicKeyMultibase": key });
    let mut methods = vec![method("#atproto", &facts.signing_key)];
    let mut services =
        vec![json!({ "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint })];
    if let Some(key) = &facts.label_key {
        methods.push(method("#atproto_label", key));
        services.push(json!({ "id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": endpoint }));
    }
    json!({
        "@context": [
            "https://www.w3.org/ns/did/v1",
            "https://w3id.org/security/multikey/v1",
            "https://w3id.org/security/suites/secp256k1-2019/v1",
        ],
        "id": did,
        "alsoKnownAs": [format!("at://{}", facts.handle)],
        "verificationMethod": methods,
        "service": services,
    })
}

// ---------------------------------------------------------------------------------------------- plain HTTP

fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn percent_decoded(path: &str) -> String {
    if !path.contains('%') {
        return path.to_owned();
    }
    // The form decoder knows the same escapes; what it does to a plus sign does not matter in these paths.
    let pair = format!("path={path}");
    url::form_urlencoded::parse(pair.as_bytes()).next().map_or_else(String::new, |(_, path)| path.into_owned())
}

/// The name asked for, without a port.
fn host_of(request: &Request<Incoming>) -> Option<String> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    Some(host.split(':').next()?.to_lowercase())
}

fn bytes_answer(kind: &'static str, body: Bytes) -> Answer {
    Response::builder().header(header::CONTENT_TYPE, kind).body(Full::new(body)).expect("these headers are valid")
}

fn text_answer(status: StatusCode, text: String) -> Answer {
    let mut answer = bytes_answer("text/plain", text.into());
    *answer.status_mut() = status;
    answer
}

fn json_answer(status: StatusCode, json: &Json) -> Answer {
    let mut answer = bytes_answer("application/json", json.to_string().into());
    *answer.status_mut() = status;
    answer
}

fn refused(status: StatusCode, error: &str, message: &str) -> Answer {
    json_answer(status, &json!({ "error": error, "message": message }))
}
