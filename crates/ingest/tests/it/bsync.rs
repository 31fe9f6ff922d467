//! Private state, from a server that the test plays itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Version},
    response::IntoResponse,
    routing::post,
};
use gp_index::{mutes, private, progress};
use gp_ingest::{BsyncConfig, Config, IdentityConfig};
use gp_proto::{self as proto, bsync as wire};
use prost::Message;
use tokio::{net::TcpListener, sync::Notify};

use crate::rig::{Disk, Plane, dropped};

const ALICE: &str = "did:plc:aliceaaaaaaaaaaaaaaaaaaa";
const BOB: &str = "did:plc:bobbbbbbbbbbbbbbbbbbbbbb";

#[derive(Default)]
struct Log {
    mutes: std::sync::Mutex<Vec<wire::MuteOperation>>,
    notifs: std::sync::Mutex<Vec<wire::NotifOperation>>,
    ops: std::sync::Mutex<Vec<wire::Operation>>,
    news: Notify,
    garbage: AtomicBool,
}

struct Played {
    url: String,
    log: Arc<Log>,
}

impl Played {
    async fn new() -> Self {
        let log = Arc::new(Log::default());
        let app = Router::new().route("/bsync.Service/{method}", post(scan)).with_state(Arc::clone(&log));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, log }
    }

    fn mute(&self, id: i64, what: wire::mute_operation::Type, subject: &str) {
        let op = wire::MuteOperation {
            id: id.to_string(),
            r#type: what.into(),
            actor_did: ALICE.into(),
            subject: subject.into(),
            ..Default::default()
        };
        self.log.mutes.lock().unwrap().push(op);
        self.log.news.notify_waiters();
    }

    fn put(&self, id: i64, namespace: &str, key: &str, method: wire::Method, payload: &str) {
        let op = wire::Operation {
            id: id.to_string(),
            actor_did: ALICE.into(),
            namespace: namespace.into(),
            key: key.into(),
            method: method.into(),
            payload: payload.to_owned().into(),
        };
        self.log.ops.lock().unwrap().push(op);
        self.log.news.notify_waiters();
    }

    async fn plane(&self, disk: Disk) -> Plane {
        let config = Config { bsync: Some(BsyncConfig::new(&self.url, "secret")), ..Config::default() };
        let plane = Plane::over(disk, IdentityConfig::default(), config).await;
        // Only accounts that were seen are listed.
        plane.cx.writer.run(|view| gp_index::actors::touch(view, BOB, 1)).await.unwrap();
        plane
    }
}

async fn scan(
    State(log): State<Arc<Log>>,
    Path(method): Path<String>,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    assert_eq!(version, Version::HTTP_11);
    assert_eq!(headers["content-type"], "application/proto");
    if headers.get("authorization").is_none_or(|value| value != "Bearer secret") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if log.garbage.load(SeqCst) {
        return "no message at all".into_response();
    }
    let request = wire::ScanMuteOperationsRequest::decode(body).unwrap();
    let after: i64 = if request.cursor.is_empty() { 0 } else { request.cursor.parse().unwrap() };
    let limit = usize::try_from(request.limit).unwrap();
    let later = |id: &str| id.parse::<i64>().map_or(true, |id| id > after);
    for round in 0..2 {
        let news = log.news.notified();
        let (found, answer) = match method.as_str() {
            "ScanMuteOperations" => {
                let operations: Vec<_> =
                    log.mutes.lock().unwrap().iter().filter(|op| later(&op.id)).take(limit).cloned().collect();
                (
                    !operations.is_empty(),
                    wire::ScanMuteOperationsResponse { operations, ..Default::default() }.encode_to_vec(),
                )
            }
            "ScanNotifOperations" => {
                let operations: Vec<_> =
                    log.notifs.lock().unwrap().iter().filter(|op| later(&op.id)).take(limit).cloned().collect();
                (
                    !operations.is_empty(),
                    wire::ScanNotifOperationsResponse { operations, ..Default::default() }.encode_to_vec(),
                )
            }
            "ScanOperations" => {
                let operations: Vec<_> =
                    log.ops.lock().unwrap().iter().filter(|op| later(&op.id)).take(limit).cloned().collect();
                (
                    !operations.is_empty(),
                    wire::ScanOperationsResponse { operations, ..Default::default() }.encode_to_vec(),
                )
            }
            _ => return StatusCode::NOT_FOUND.into_response(),
        };
        if found || round == 1 {
            return ([("content-type", "application/proto")], answer).into_response();
        }
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), news).await;
    }
    StatusCode::NOT_FOUND.into_response()
}

async fn muted(plane: &Plane) -> Vec<String> {
    let request = proto::GetMutesRequest { actor_did: ALICE.into(), limit: 100, ..Default::default() };
    let mut dids = mutes::get_mutes(&plane.cx, request).await.unwrap().dids;
    dids.sort();
    dids
}

#[tokio::test(flavor = "multi_thread")]
async fn three_logs_are_followed_and_positions_survive() {
    let bsync = Played::new().await;
    let plane = bsync.plane(Disk::new()).await;
    bsync.mute(3, wire::mute_operation::Type::Add, BOB);
    bsync.put(7, "app.bsky.notification.defs#preferences", "self", wire::Method::Update, r#"{"x":1}"#);
    bsync.log.notifs.lock().unwrap().push(wire::NotifOperation {
        id: "2".into(),
        actor_did: ALICE.into(),
        priority: Some(true),
    });
    bsync.log.news.notify_waiters();
    let reached = |ingest: &gp_ingest::Ingest, mute: i64, notif: i64, op: i64| {
        let bsync = &ingest.status()["bsync"];
        bsync["mute"] == mute && bsync["notif"] == notif && bsync["op"] == op && ingest.pending() == 0
    };
    plane.wait("all logs", |ingest| reached(ingest, 3, 2, 7)).await;
    assert_eq!(muted(&plane).await, [BOB]);
    let state = plane.cx.store.get_one(&private::state_key(ALICE)).await.unwrap().unwrap();
    assert!(private::read_state(&state).unwrap().priority);
    let disk = plane.stop().await;
    assert_eq!(progress::of(&disk.store(), "bsync:mute").await.unwrap(), Some(3));

    // What was applied is not applied again: the mute that was added and removed stays removed.
    bsync.mute(4, wire::mute_operation::Type::Remove, BOB);
    let plane = bsync.plane(disk).await;
    plane.wait("the new operation", |ingest| reached(ingest, 4, 2, 7)).await;
    assert!(muted(&plane).await.is_empty());
    assert_eq!(plane.ingest.status()["bsync"]["applied"], 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_put_aside_and_garbage_is_asked_again() {
    let bsync = Played::new().await;
    bsync.log.garbage.store(true, SeqCst);
    let plane = bsync.plane(Disk::new()).await;
    plane
        .wait("an error", |ingest| {
            ingest.status()["bsync"]["last_error"].as_str().is_some_and(|e| e.contains("no message"))
        })
        .await;
    bsync.mute(1, wire::mute_operation::Type::Unspecified, BOB);
    bsync.mute(2, wire::mute_operation::Type::Add, "nonsense");
    bsync.mute(3, wire::mute_operation::Type::Add, BOB);
    bsync.put(1, "app.bsky.bookmark.defs#bookmark", "3jzfcijpj2z2a", wire::Method::Create, "not json");
    bsync.put(2, "app.bsky.x", "self", wire::Method::Unspecified, "{}");
    bsync.put(3, "app.bsky.notification.defs#preferences", "self", wire::Method::Update, "{}");
    bsync.log.garbage.store(false, SeqCst);
    plane
        .wait("both logs", |ingest| ingest.status()["bsync"]["mute"] == 3 && ingest.status()["bsync"]["op"] == 3)
        .await;
    assert_eq!(muted(&plane).await, [BOB]);
    assert_eq!(dropped(&plane.ingest, "private_op_invalid"), 4);
    plane.wait("the error to be over", |ingest| ingest.status()["bsync"]["last_error"].is_null()).await;
    plane.stop().await;
}
