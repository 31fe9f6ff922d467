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
use gp_index::{actors, bookmarks, drafts, interactions, mutes, notifications, private, progress, subscriptions};
use gp_ingest::{BsyncConfig, Config, IdentityConfig};
use gp_proto::{self as proto, bsync as wire};
use prost::Message;
use tokio::{net::TcpListener, sync::Notify};

use crate::rig::{Disk, Plane, dropped};

const ALICE: &str = "did:plc:aliceaaaaaaaaaaaaaaaaaaa";
const BOB: &str = "did:plc:bobbbbbbbbbbbbbbbbbbbbbb";
const CAROL: &str = "did:plc:carolaaaaaaaaaaaaaaaaaaa";
const THREAD: &str = "at://did:plc:bobbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.post/3jzfcijpj2z2a";
const LIST: &str = "at://did:plc:bobbbbbbbbbbbbbbbbbbbbbb/app.bsky.graph.list/3jzfcijpj2z2a";

#[derive(Default)]
struct Log {
    mutes: std::sync::Mutex<Vec<wire::MuteOperation>>,
    notifs: std::sync::Mutex<Vec<wire::NotifOperation>>,
    ops: std::sync::Mutex<Vec<wire::Operation>>,
    news: Notify,
    garbage: AtomicBool,
    down: AtomicBool,
    /// An operation that becomes visible only after a later one has been read.
    late: std::sync::Mutex<Option<wire::MuteOperation>>,
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
    if log.down.load(SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
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
                let mut mutes = log.mutes.lock().unwrap();
                let operations: Vec<_> = mutes.iter().filter(|op| later(&op.id)).take(limit).cloned().collect();
                if !operations.is_empty() {
                    mutes.extend(log.late.lock().unwrap().take());
                    mutes.sort_by_key(|op| op.id.parse::<i64>().ok());
                }
                let found = !operations.is_empty();
                (found, wire::ScanMuteOperationsResponse { operations, ..Default::default() }.encode_to_vec())
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

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_becomes_visible_after_a_later_one_is_not_lost() {
    let bsync = Played::new().await;
    let late = wire::MuteOperation {
        id: "1".into(),
        r#type: wire::mute_operation::Type::Add.into(),
        actor_did: ALICE.into(),
        subject: BOB.into(),
        ..Default::default()
    };
    *bsync.log.late.lock().unwrap() = Some(late);
    bsync.mute(2, wire::mute_operation::Type::Add, CAROL);
    let plane = bsync.plane(Disk::new()).await;
    plane.wait("both", |ingest| ingest.status()["bsync"]["mute"] == 2).await;
    assert_eq!(muted(&plane).await, [BOB]);
    assert_eq!(plane.ingest.status()["bsync"]["applied"], 2);
    // A number that was never used holds nothing up for good.
    bsync.mute(9, wire::mute_operation::Type::Remove, BOB);
    plane.wait("the one behind a gap", |ingest| ingest.status()["bsync"]["mute"] == 9).await;
    assert!(muted(&plane).await.is_empty());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_down_the_status_says_so_and_nothing_is_lost() {
    let bsync = Played::new().await;
    bsync.log.down.store(true, SeqCst);
    bsync.mute(1, wire::mute_operation::Type::Add, BOB);
    let plane = bsync.plane(Disk::new()).await;
    let told = |ingest: &gp_ingest::Ingest| ingest.status()["bsync"]["last_error"].as_str().map(str::to_owned);
    plane.wait("an error", |ingest| told(ingest).is_some_and(|e| e.contains("503"))).await;
    assert_eq!(plane.ingest.status()["bsync"]["mute"], 0);
    assert!(muted(&plane).await.is_empty());
    bsync.log.down.store(false, SeqCst);
    plane.wait("what waited", |ingest| ingest.status()["bsync"]["mute"] == 1).await;
    plane.wait("the error to be over", |ingest| told(ingest).is_none()).await;
    assert_eq!(muted(&plane).await, [BOB]);
    // Down once more, in the middle.
    bsync.log.down.store(true, SeqCst);
    bsync.mute(2, wire::mute_operation::Type::Remove, BOB);
    plane.wait("an error", |ingest| told(ingest).is_some()).await;
    let disk = plane.stop().await;
    bsync.log.down.store(false, SeqCst);
    let plane = bsync.plane(disk).await;
    plane.wait("the rest", |ingest| ingest.status()["bsync"]["mute"] == 2).await;
    assert!(muted(&plane).await.is_empty());
    plane.stop().await;

    // Nobody listens at all.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let config =
        Config { bsync: Some(BsyncConfig::new(format!("http://127.0.0.1:{port}"), "secret")), ..Config::default() };
    let plane = Plane::over(Disk::new(), IdentityConfig::default(), config).await;
    plane.wait("an error", |ingest| told(ingest).is_some()).await;
    plane.stop().await;
}

/// What reads say of the private state of an account, times left out.
#[derive(Debug, PartialEq)]
struct Shown {
    mutes: Vec<proto::MuteInfo>,
    thread: bool,
    list: bool,
    preferences: proto::NotificationPreferences,
    bookmarks: Vec<(String, String)>,
    bookmarked: i32,
    drafts: Vec<(String, String)>,
    drafted: i32,
    /// To Bob and to Carol: key, posts, replies.
    subscriptions: Vec<(String, bool, bool)>,
    age: (String, String, bool),
    priority: bool,
    seen: Option<proto::Timestamp>,
}

async fn shown(plane: &Plane) -> Shown {
    let (cx, actor_did, limit) = (&plane.cx, ALICE.to_owned(), 100);
    let ask = proto::GetMutesRequest { actor_did: actor_did.clone(), limit, ..Default::default() };
    let mut mutes = mutes::get_mutes(cx, ask).await.unwrap().mutes;
    mutes.sort_by(|a, b| a.did.cmp(&b.did));
    let thread_roots = vec![THREAD.into()];
    let ask = proto::GetThreadMutesOnSubjectsRequest { actor_did: actor_did.clone(), thread_roots };
    let thread = mutes::get_thread_mutes_on_subjects(cx, ask).await.unwrap().muted[0];
    let ask = proto::GetMutelistSubscriptionRequest { actor_did: actor_did.clone(), list_uri: LIST.into() };
    let list = mutes::get_mutelist_subscription(cx, ask).await.unwrap().subscribed;
    let ask = proto::GetNotificationPreferencesRequest { dids: vec![BOB.into(), actor_did.clone()] };
    let mut preferences = private::get_notification_preferences(cx, ask).await.unwrap().preferences;
    assert_eq!((preferences.len(), &preferences[0]), (2, &proto::NotificationPreferences::default()));
    let ask = proto::GetActorBookmarksRequest { actor_did: actor_did.clone(), limit, ..Default::default() };
    let bookmarks = bookmarks::get_actor_bookmarks(cx, ask).await.unwrap().bookmarks;
    let refs = vec![proto::RecordRef { uri: THREAD.into(), cid: String::new() }];
    let ask = proto::GetInteractionCountsRequest { refs, skip_cache_for_dids: vec![] };
    let bookmarked = interactions::get_interaction_counts(cx, ask).await.unwrap().bookmarks[0];
    let ask = proto::GetActorDraftsRequest { actor_did: actor_did.clone(), limit, ..Default::default() };
    let drafts = drafts::get_actor_drafts(cx, ask).await.unwrap().drafts;
    let ask = proto::GetCountsForUsersRequest { dids: vec![actor_did.clone()] };
    let drafted = interactions::get_counts_for_users(cx, ask).await.unwrap().drafts[0];
    let subject_dids = vec![BOB.into(), CAROL.into()];
    let ask = proto::GetActivitySubscriptionsByActorAndSubjectsRequest { actor_did: actor_did.clone(), subject_dids };
    let subscriptions =
        subscriptions::get_activity_subscriptions_by_actor_and_subjects(cx, ask).await.unwrap().subscriptions;
    let dids = vec![actor_did.clone()];
    let ask = proto::GetActorsRequest { return_age_assurance_for_dids: dids.clone(), dids, ..Default::default() };
    let info = actors::get_actors(cx, ask).await.unwrap().actors.remove(0);
    let age = info.age_assurance_status.unwrap();
    let seen =
        notifications::get_notification_seen(cx, proto::GetNotificationSeenRequest { actor_did, ..Default::default() })
            .await
            .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Shown {
        mutes,
        thread,
        list,
        preferences: preferences.remove(1),
        bookmarks: bookmarks.into_iter().map(|it| (it.key, it.subject)).collect(),
        bookmarked,
        drafts: drafts.into_iter().map(|it| (it.key, text(&it.payload))).collect(),
        drafted,
        subscriptions: subscriptions.into_iter().map(|it| (it.key, it.post.is_some(), it.reply.is_some())).collect(),
        age: (age.status, age.access, age.last_initiated_at.is_some()),
        priority: info.priority_notifications,
        seen: seen.timestamp,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_private_state_comes_in_and_a_replay_of_the_whole_log_changes_nothing() {
    use wire::{Method::*, mute_operation::Type::*};
    let bsync = Played::new().await;
    // A draft that is not there, and preferences that are not.
    let preferences = r#"{"like":{"include":"follows","list":true,"push":false}}"#;
    let draft = "app.bsky.draft.defs#draftWithId";
    let bookmark = "app.bsky.bookmark.defs#bookmark";
    let subscription = "app.bsky.notification.defs#subjectActivitySubscription";
    let age = "app.bsky.ageassurance.defs#event";
    let saved = format!(r#"{{"subject":{{"uri":"{THREAD}","cid":"bafyone"}}}}"#);
    let again = format!(r#"{{"subject":{{"uri":"{THREAD}","cid":"bafytwo"}}}}"#);
    let to_bob = format!(r#"{{"subject":"{BOB}","activitySubscription":{{"post":true,"reply":false}}}}"#);
    let to_bob_all = format!(r#"{{"subject":"{BOB}","activitySubscription":{{"post":true,"reply":true}}}}"#);
    let to_carol = format!(r#"{{"subject":"{CAROL}","activitySubscription":{{"post":true,"reply":true}}}}"#);
    for (id, namespace, key, method, payload) in [
        (1, draft, "3kdraft000002", Update, "{\"nobody\":1}"),
        (2, draft, "3kdraft000001", Create, "{\"id\":\"1\"}"),
        (3, draft, "3kdraft000001", Update, "{\"id\":\"2\"}"),
        (4, draft, "3kdraft000003", Create, "{}"),
        (5, draft, "3kdraft000003", Delete, ""),
        (6, bookmark, "3kmark0000001", Create, &saved),
        (7, bookmark, "3kmark0000002", Create, &again),
        (8, bookmark, "3kmark0000001", Delete, ""),
        (9, bookmark, "3kmark0000003", Create, &again),
        (10, subscription, "3ksub00000001", Create, &to_bob),
        (11, subscription, "3ksub00000001", Update, &to_bob_all),
        (12, subscription, "3ksub00000002", Create, &to_bob),
        (13, subscription, "3ksub00000003", Create, &to_carol),
        (14, subscription, "3ksub00000003", Delete, ""),
        (15, "app.bsky.notification.defs#preferences", "self", Update, preferences),
        (
            16,
            age,
            "3kage00000001",
            Create,
            r#"{"status":"pending","access":"unknown","createdAt":"2026-01-02T03:04:05.678Z"}"#,
        ),
        (
            17,
            age,
            "3kage00000002",
            Create,
            r#"{"status":"assured","access":"full","createdAt":"2026-01-03T03:04:05.678Z"}"#,
        ),
        (18, age, "3kage00000003", Update, r#"{"status":"blocked"}"#),
        (19, "app.bsky.contact.defs#notification", "3kother000001", Create, "{}"),
    ] {
        bsync.put(id, namespace, key, method, payload);
    }
    for (id, what, subject) in [
        (1, Add, CAROL),
        (2, Add, LIST),
        (3, Clear, ""),
        (4, Add, THREAD),
        (5, Add, BOB),
        (6, Add, LIST),
        (7, Add, CAROL),
        (8, Remove, CAROL),
    ] {
        bsync.mute(id, what, subject);
    }
    bsync.log.mutes.lock().unwrap()[4].only_reposts = true;
    let priority = |id: &str, priority| wire::NotifOperation { id: id.into(), actor_did: ALICE.into(), priority };
    bsync.log.notifs.lock().unwrap().extend([
        priority("1", Some(true)),
        priority("2", None),
        priority("3", Some(true)),
    ]);
    let settled = |ingest: &gp_ingest::Ingest| {
        let it = &ingest.status()["bsync"];
        it["mute"] == 8 && it["notif"] == 3 && it["op"] == 19 && ingest.pending() == 0
    };
    let plane = bsync.plane(Disk::new()).await;
    plane.cx.writer.run(|view| gp_index::actors::touch(view, ALICE, 1)).await.unwrap();
    plane.wait("all", settled).await;
    let it = shown(&plane).await;
    assert_eq!(it.mutes, [proto::MuteInfo { did: BOB.into(), only_reposts: true, only_quoteposts: false }]);
    assert_eq!((it.thread, it.list), (true, true));
    assert_eq!(it.preferences.entry, preferences);
    let like = it.preferences.like.unwrap();
    let on = (like.list.unwrap().enabled, like.push.unwrap().enabled);
    assert_eq!((like.include, on), (proto::NotificationInclude::Follows as i32, (true, false)));
    assert_eq!((it.bookmarks, it.bookmarked), (vec![("3kmark0000003".to_owned(), THREAD.to_owned())], 1));
    assert_eq!((it.drafts, it.drafted), (vec![("3kdraft000001".to_owned(), r#"{"id":"2"}"#.to_owned())], 1));
    assert_eq!(it.subscriptions, [("3ksub00000001".to_owned(), true, true), (String::new(), false, false)]);
    assert_eq!(it.age, ("assured".to_owned(), "full".to_owned(), true));
    assert!(it.priority && it.seen.is_some());
    // A mark that was set meanwhile does not go back.
    let at = (plane.cx.now_us)() + 60_000_000;
    let ask = proto::UpdateNotificationSeenRequest {
        actor_did: ALICE.into(),
        timestamp: Some(gp_index::records::timestamp(at)),
        ..Default::default()
    };
    private::update_notification_seen(&plane.cx, ask).await.unwrap();
    let before = shown(&plane).await;
    let disk = plane.stop().await;
    let store = disk.store();
    let (writer, thread) = gp_store::Writer::start(store, gp_store::WriterConfig::default()).unwrap();
    writer
        .run(|view| -> gp_index::Result<()> {
            for log in ["bsync:mute", "bsync:notif", "bsync:op"] {
                progress::set(view, log, 0);
            }
            Ok(())
        })
        .await
        .unwrap();
    drop(writer);
    thread.join().unwrap();
    let plane = bsync.plane(disk).await;
    plane.wait("all once more", settled).await;
    assert_eq!(plane.ingest.status()["bsync"]["applied"], 30);
    assert_eq!(shown(&plane).await, before);
    plane.stop().await;
}
