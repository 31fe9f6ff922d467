//! The admin port.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use gp_serve::{
    Config, Label, Lines, NoOperator, Operation, Operator, OperatorError, Rpcs, SuggestedEntity, SuggestedList,
};
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::rig::Rig;

/// Notes what it was asked for.
#[derive(Default)]
struct Noting {
    asked: Mutex<Vec<String>>,
    not_ready: Mutex<Option<String>>,
}

impl Noting {
    fn note(&self, what: String) -> Operation<'_> {
        self.asked.lock().push(what);
        Box::pin(async { Ok(json!({"done": true})) })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }
}

impl Operator for Noting {
    fn not_ready(&self) -> Option<String> {
        self.not_ready.lock().clone()
    }
    fn status(&self) -> Operation<'_> {
        Box::pin(async { Ok(json!({"version": "9.9.9", "pending": 0, "roles": ["ingest", "read"]})) })
    }
    fn ingest_pause(&self) -> Operation<'_> {
        self.note("pause".into())
    }
    fn ingest_resume(&self) -> Operation<'_> {
        self.note("resume".into())
    }
    fn ingest_replay(&self) -> Operation<'_> {
        Box::pin(async { panic!("a planted panic") })
    }
    fn repo_resync<'a>(&'a self, did: &'a str) -> Operation<'a> {
        self.note(format!("resync {did}"))
    }
    fn actor_refresh<'a>(&'a self, did: &'a str) -> Operation<'a> {
        self.note(format!("refresh {did}"))
    }
    fn actor_delete<'a>(&'a self, did: &'a str) -> Operation<'a> {
        Box::pin(async move { Err(OperatorError::Conflict(format!("{did} is still hosted"))) })
    }
    fn actor_trusted_verifier<'a>(&'a self, did: &'a str, trusted: bool) -> Operation<'a> {
        self.note(format!("trusted {did} {trusted}"))
    }
    fn labels(&self, labels: Vec<Label>) -> Operation<'_> {
        self.note(format!("labels {}", serde_json::to_string(&labels).unwrap()))
    }
    fn suggested_follows(&self, dids: Vec<String>) -> Operation<'_> {
        self.note(format!("follows {dids:?}"))
    }
    fn suggested_feeds(&self, uris: Vec<String>) -> Operation<'_> {
        self.note(format!("feeds {uris:?}"))
    }
    fn suggested_entities(&self, entities: Vec<SuggestedEntity>) -> Operation<'_> {
        self.note(format!("entities {}", serde_json::to_string(&entities).unwrap()))
    }
    fn suggested_forget(&self, list: SuggestedList) -> Operation<'_> {
        self.note(format!("forget {list:?}"))
    }
    fn record_tags<'a>(&'a self, uri: &'a str, tags: Vec<String>) -> Operation<'a> {
        self.note(format!("tags {uri} {tags:?}"))
    }
    fn export<'a>(&'a self, did: &'a str) -> Operation<'a, Lines> {
        Box::pin(async move {
            if did == "did:plc:nobody" {
                return Err(OperatorError::Absent(format!("{did} is not known here")));
            }
            let lines = futures::stream::iter((0..3).map(|n| Ok(Bytes::from(format!("{{\"n\":{n}}}\n")))));
            Ok(lines.boxed())
        })
    }
}

async fn start(config: Config) -> (Rig, Arc<Noting>) {
    let operator = Arc::new(Noting::default());
    let rig = Rig::start_with(Rpcs::contract(), config, Arc::clone(&operator) as Arc<dyn Operator>).await;
    (rig, operator)
}

/// Every answer that is not a success has this form.
fn error(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_process_says_how_it_is() {
    let (rig, operator) = start(Config::default()).await;
    assert_eq!(rig.get("/healthz").await, (200, "ok\n".into()));
    assert_eq!(rig.get("/readyz").await, (200, "ready\n".into()));
    *operator.not_ready.lock() = Some("the graph is still loading".into());
    let (status, body) = rig.get("/readyz").await;
    assert_eq!((status, error(&body)), (503, "the graph is still loading".into()));

    let (status, body) = rig.get("/status").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["version"], &body["pending"]), (200, &json!("9.9.9"), &json!(0)));
    assert_eq!((&body["serve"]["state"], &body["serve"]["calls_in_flight"]), (&json!("serving"), &json!(0)));

    let (status, headers, page) = rig.admin(Method::GET, "/", &[], "").await;
    assert_eq!(status, 200);
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.contains("<title>Groundplane</title>"));
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs nothing from elsewhere");

    let (status, headers, page) = rig.admin(Method::GET, "/metrics", &[], "").await;
    assert_eq!(status, 200);
    assert!(headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(page.ends_with("# EOF\n"));
    for name in [
        "groundplane_build_info{version=\"0.1.0\"} 1",
        "groundplane_store_limit 8",
        "groundplane_admission_limit{resource=\"units\"} 10240",
        "groundplane_log_suppressed_total{reason=\"rate\"} 0",
        "groundplane_runtime_tasks ",
        "process_open_fds ",
        "process_start_time_seconds ",
    ] {
        assert!(page.lines().any(|line| line.starts_with(name)), "{name} is not in\n{page}");
    }
}

#[tokio::test]
async fn an_operator_is_understood() {
    let (rig, operator) = start(Config::default()).await;
    let label = r#"{"src":"did:plc:l","uri":"did:plc:a","val":"spam","neg":false,"cts":"2026-11-23T20:38:00.000Z"}"#;
    let entity = r#"{"tag":"t","subject":"did:plc:a","subjectType":"actor"}"#;
    let cases = [
        (Method::POST, "/admin/ingest/pause", String::new(), "pause".to_owned()),
        (Method::POST, "/admin/ingest/resume", String::new(), "resume".into()),
        (Method::POST, "/admin/repos/did:plc:a/resync", String::new(), "resync did:plc:a".into()),
        (
            Method::POST,
            "/admin/actors/did%3Aweb%3Ab.example/refresh",
            String::new(),
            "refresh did:web:b.example".into(),
        ),
        (
            Method::PUT,
            "/admin/actors/did:plc:a/trusted-verifier",
            r#"{"trusted": false}"#.into(),
            "trusted did:plc:a false".into(),
        ),
        (Method::POST, "/admin/labels", format!("[{label}]"), format!("labels [{label}]")),
        (
            Method::PUT,
            "/admin/suggested/follows",
            r#"["did:plc:b", "did:plc:a"]"#.into(),
            r#"follows ["did:plc:b", "did:plc:a"]"#.into(),
        ),
        (
            Method::PUT,
            "/admin/suggested/feeds",
            r#"["at://did:plc:b/app.bsky.feed.generator/1"]"#.into(),
            r#"feeds ["at://did:plc:b/app.bsky.feed.generator/1"]"#.into(),
        ),
        (Method::PUT, "/admin/suggested/entities", format!("[{entity}]"), format!("entities [{entity}]")),
        (Method::DELETE, "/admin/suggested/follows", String::new(), "forget Follows".into()),
        (Method::DELETE, "/admin/suggested/feeds", String::new(), "forget Feeds".into()),
        (Method::DELETE, "/admin/suggested/entities", String::new(), "forget Entities".into()),
        (
            Method::PUT,
            "/admin/records/tags",
            r#"{"uri": "at://did:plc:b/app.bsky.feed.post/1", "tags": ["x"]}"#.into(),
            r#"tags at://did:plc:b/app.bsky.feed.post/1 ["x"]"#.into(),
        ),
    ];
    for (method, path, body, asked) in cases {
        let (status, _, answer) = rig.admin(method, path, &[], body).await;
        assert_eq!((status, answer.as_str()), (200, r#"{"done":true}"#), "{path}");
        assert_eq!(operator.asked(), [asked]);
    }
    let (status, headers, lines) = rig.admin(Method::GET, "/admin/export/did:plc:a", &[], "").await;
    assert_eq!((status, lines.as_str()), (200, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n"));
    assert_eq!(headers["content-type"], "application/x-ndjson");
}

#[tokio::test]
async fn every_failure_is_json_and_says_what_to_do() {
    let (rig, operator) = start(Config { admin_body_bytes_max: 1_000, ..Config::default() }).await;
    let large = format!("[{}]", vec!["\"did:plc:a\""; 200].join(","));
    let cases = [
        (Method::GET, "/nothing", "", 404),
        (Method::GET, "/admin/nothing", "", 404),
        (Method::POST, "/status", "", 405),
        (Method::GET, "/admin/ingest/pause", "", 405),
        (Method::DELETE, "/admin/labels", "", 405),
        (Method::POST, "/admin/repos/alice.example/resync", "", 400),
        (Method::POST, "/admin/repos/%ff/resync", "", 400),
        (Method::POST, "/admin/actors/did:plc:a/delete", "", 409),
        (Method::GET, "/admin/export/did:plc:nobody", "", 404),
        (Method::POST, "/admin/labels", "{", 400),
        (Method::POST, "/admin/labels", "{}", 400),
        (Method::POST, "/admin/labels", "[{}]", 400),
        (Method::PUT, "/admin/suggested/follows", r#"["did:plc:a", "alice.example"]"#, 400),
        (Method::PUT, "/admin/suggested/follows", &large, 413),
        (Method::PUT, "/admin/records/tags", "", 400),
        (Method::POST, "/admin/ingest/replay", "", 500),
    ];
    for (method, path, body, expected) in cases {
        let (status, headers, answer) = rig.admin(method.clone(), path, &[], body.to_owned()).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert_eq!(headers["content-type"], "application/json");
        assert!(!error(&answer).is_empty());
        if status == 405 {
            assert!(headers.contains_key("allow"), "{path}");
        }
    }
    assert!(operator.asked().is_empty());
}

#[tokio::test]
async fn a_list_with_one_bad_entry_is_refused_whole_and_the_entry_named() {
    let (rig, operator) = start(Config::default()).await;
    let feed = "at://did:plc:a/app.bsky.feed.generator/f";
    let entity = r#"{"tag":"t","subject":"did:plc:a","subjectType":"actor"}"#;
    for (path, body, named) in [
        ("follows", r#"["did:plc:a", "did:plc:b", "alice.example"]"#.to_owned(), "[2]"),
        ("follows", r#"["did:plc:a", "did:", "did:plc:b"]"#.into(), "[1]"),
        ("follows", r#"["did:plc:a", "did:plc:b "]"#.into(), "[1]"),
        ("follows", r#"[["did:plc:a"]]"#.into(), "[0]"),
        ("feeds", format!(r#"["{feed}", "{feed}/x"]"#), "[1]"),
        ("feeds", format!(r#"["{feed}", "at://alice.example/app.bsky.feed.generator/f"]"#), "[1]"),
        ("feeds", format!(r#"["{feed}", "did:plc:a"]"#), "[1]"),
        ("entities", format!("[{entity}, {entity}, 1]"), "[2]"),
        ("entities", format!(r#"[{entity}, {{"tag":"","subject":"did:plc:a","subjectType":"actor"}}]"#), "[1].tag"),
        ("entities", format!(r#"[{entity}, {{"tag":"t","subject":"a","subjectType":"actor"}}]"#), "[1].subject"),
        ("entities", format!(r#"[{entity}, {{"tag":"t","subject":"did:plc:a"}}]"#), "[1]"),
    ] {
        let path = format!("/admin/suggested/{path}");
        let (status, _, answer) = rig.admin(Method::PUT, &path, &[], body.clone()).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        assert!(error(&answer).starts_with(named), "{path} {body}: {answer}");
    }
    assert!(operator.asked().is_empty(), "the old list stays");
}

#[tokio::test]
async fn only_operators_may_change_something() {
    let (rig, operator) = start(Config { admin_token: Some("right".into()), ..Config::default() }).await;
    for (headers, expected) in [
        (vec![], 401),
        (vec![("authorization", "Bearer wrong")], 401),
        (vec![("authorization", "right")], 401),
        (vec![("authorization", "Bearer right")], 200),
        (vec![("authorization", "Bearer right"), ("origin", "https://elsewhere.example")], 200),
    ] {
        let (status, answer_headers, answer) = rig.admin(Method::POST, "/admin/ingest/pause", &headers, "").await;
        assert_eq!(status, expected, "{headers:?}");
        if expected == 401 {
            assert!(error(&answer).contains("admin token"));
            assert_eq!(answer_headers["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(operator.asked().len(), 2);
    assert_eq!(rig.admin(Method::GET, "/admin/export/did:plc:a", &[], "").await.0, 401, "what it shows is private");
    assert_eq!(rig.get("/status").await.0, 200, "looking on is free");

    let (rig, operator) = start(Config::default()).await;
    for headers in [vec![("origin", "https://elsewhere.example")], vec![("sec-fetch-site", "cross-site")]] {
        let (status, _, answer) = rig.admin(Method::POST, "/admin/ingest/pause", &headers, "").await;
        assert_eq!(status, 403, "{answer}");
        error(&answer);
    }
    assert!(operator.asked().is_empty());
}

#[tokio::test]
async fn without_a_token_an_address_that_others_can_reach_allows_nothing() {
    let grpc = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = admin.local_addr().unwrap().port();
    let (grpc_at, admin_at) = (grpc.local_addr().unwrap(), ([127, 0, 0, 1], port).into());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let server = gp_serve::Server::new(crate::rig::cx(), Arc::new(NoOperator), Config::default()).unwrap();
    let served = tokio::spawn(server.serve(grpc, Some(admin), shutdown.clone()));
    let rig = Rig { grpc: grpc_at, admin: admin_at, shutdown, served };
    let (status, _, answer) = rig.admin(Method::POST, "/admin/ingest/pause", &[], "").await;
    assert_eq!(status, 403);
    assert!(error(&answer).contains("--admin-token"));
    assert_eq!(rig.get("/readyz").await.0, 200);
}
