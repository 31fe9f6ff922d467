//! What is answered over plain HTTP.

use gp_atproto::{crypto::VerifyingKey, repo::Repo};
use groundplane_synth::{Network, Spec};
use serde_json::Value as Json;

use crate::{consumer::now_us, start, tiny};

struct Web {
    network: Network,
    http: reqwest::Client,
}

impl Web {
    async fn new(spec: Spec) -> Web {
        // The client insists on a TLS provider, although nothing here speaks TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Web { network: start(spec).await, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let answer = self.http.get(format!("{}{path}", self.network.plc_url())).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    async fn json(&self, path: &str) -> (u16, Json) {
        let (status, body) = self.get(path).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn with_status(&self, status: Option<&str>) -> String {
        let accounts = self.network.accounts();
        accounts.into_iter().find(|it| it.facts.status.as_deref() == status).unwrap().facts.did
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_and_handles() {
    let web = Web::new(Spec { web_dids: 2, ..tiny(51) }).await;
    let mut web_dids = 0;
    for account in web.network.accounts() {
        let facts = account.facts;
        let (status, document) = web.json(&format!("/{}", facts.did)).await;
        assert_eq!((status, &document["id"]), (200, &Json::from(facts.did.as_str())));
        assert_eq!(document["alsoKnownAs"][0], format!("at://{}", facts.handle));
        let method = &document["verificationMethod"][0];
        let key = VerifyingKey::from_verification_method(
            method["type"].as_str().unwrap(),
            method["publicKeyMultibase"].as_str().unwrap(),
        );
        assert_eq!(key.unwrap().to_multikey(), facts.signing_key);
        assert_eq!(document["service"][0]["serviceEndpoint"], web.network.plc_url());
        web_dids += usize::from(facts.did.starts_with("did:web:"));
        let owner = web.network.model(|model| model.handle(&facts.did).map(str::to_owned)).unwrap();
        let (status, answer) =
            web.json(&format!("/xrpc/com.atproto.identity.resolveHandle?handle={}", facts.handle)).await;
        if owner.is_some() {
            assert_eq!((status, &answer["did"]), (200, &Json::from(facts.did.as_str())));
        }
    }
    assert_eq!(web_dids, 2);

    let hub = web.network.account(&web.network.pick().hub_did).unwrap().facts;
    let escaped = hub.did.replace(':', "%3A");
    assert_eq!(web.json(&format!("/{escaped}")).await.1["id"], hub.did);
    let labeler = web.json(&format!("/{}", web.network.pick().labeler_did)).await.1;
    assert_eq!(
        (&labeler["service"][1]["id"], &labeler["verificationMethod"][1]["type"]),
        (&"#atproto_labeler".into(), &"Multikey".into())
    );
    assert_eq!(web.get("/did:plc:nobody").await.0, 404);
    assert_eq!(web.json("/xrpc/com.atproto.identity.resolveHandle?handle=nobody.demo.test").await.0, 400);

    let by_host = |host: String| {
        web.http.get(format!("{}/.well-known/atproto-did", web.network.plc_url())).header("host", host).send()
    };
    assert_eq!(by_host(hub.handle.clone()).await.unwrap().text().await.unwrap(), hub.did);
    assert_eq!(by_host(format!("{}:8080", hub.handle.to_uppercase())).await.unwrap().text().await.unwrap(), hub.did);
    assert_eq!(by_host("nobody.demo.test".into()).await.unwrap().status(), 404);

    web.network.bury(&hub.did).unwrap();
    assert_eq!(web.get(&format!("/{}", hub.did)).await.0, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_by_standing() {
    let web = Web::new(tiny(52)).await;
    let did = web.with_status(None);
    let (status, car) = web.get(&format!("/xrpc/com.atproto.sync.getRepo?did={did}")).await;
    assert_eq!(status, 200);
    let key = VerifyingKey::from_multikey(&web.network.account(&did).unwrap().facts.signing_key).unwrap();
    let repo = Repo::verify(&car, &did, &key, now_us(&web.network)).unwrap();
    let (status, latest) = web.json(&format!("/xrpc/com.atproto.sync.getLatestCommit?did={did}")).await;
    assert_eq!((status, &latest["rev"]), (200, &Json::from(repo.state().rev.to_string())));
    assert_eq!(latest["cid"], repo.state().commit.to_string());
    for (standing, error) in [
        ("deactivated", "RepoDeactivated"),
        ("takendown", "RepoTakendown"),
        ("suspended", "RepoSuspended"),
        ("deleted", "RepoNotFound"),
    ] {
        let did = web.with_status(Some(standing));
        for method in ["getRepo", "getLatestCommit"] {
            let (status, answer) = web.json(&format!("/xrpc/com.atproto.sync.{method}?did={did}")).await;
            assert_eq!((status, &answer["error"]), (400, &Json::from(error)));
        }
        let (status, answer) = web.json(&format!("/xrpc/com.atproto.sync.getRepoStatus?did={did}")).await;
        match standing {
            "deleted" => assert_eq!((status, &answer["error"]), (400, &"RepoNotFound".into())),
            _ => {
                assert_eq!((status, &answer["active"], &answer["status"]), (200, &false.into(), &Json::from(standing)))
            }
        }
    }
    assert_eq!(web.json("/xrpc/com.atproto.sync.getRepo?did=did:plc:nobody").await.1["error"], "RepoNotFound");
    assert_eq!(web.json("/xrpc/com.atproto.server.describeServer").await.0, 200);
    assert_eq!(web.json("/xrpc/_health").await.0, 200);
    assert_eq!(web.json("/xrpc/com.example.nothing").await.0, 501);
    assert_eq!(web.get("/elsewhere").await.0, 404);
    assert_eq!(web.get("/xrpc/com.atproto.sync.subscribeRepos").await.0, 426);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_repos_are_listed_in_pages() {
    let web = Web::new(tiny(53)).await;
    let (mut dids, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = web.json(&format!("/xrpc/com.atproto.sync.listRepos?limit=20{cursor}")).await;
        assert_eq!(status, 200);
        for repo in page["repos"].as_array().unwrap() {
            let did = repo["did"].as_str().unwrap().to_owned();
            let state = web.network.repo_state(&did).unwrap();
            assert_eq!(
                (&repo["head"], &repo["rev"]),
                (&state.commit.to_string().into(), &state.rev.to_string().into())
            );
            dids.push(did);
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let hosted = web.network.accounts().into_iter().filter(|it| it.facts.head.is_some()).map(|it| it.facts.did);
    assert_eq!(dids, hosted.collect::<Vec<_>>());
    assert_eq!(web.get("/xrpc/com.atproto.sync.listRepos?limit=0").await.0, 400);
    assert_eq!(web.get("/xrpc/com.atproto.sync.listRepos?limit=x").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_fail_when_asked_to() {
    let web = Web::new(tiny(54)).await;
    let hub = web.network.pick().hub_did;
    web.network.fail_requests("/did:", 503, 2);
    web.network.fail_requests("/xrpc/com.atproto.sync.getRepo", 429, 1_000);
    let statuses =
        [web.get(&format!("/{hub}")).await.0, web.get(&format!("/{hub}")).await.0, web.get(&format!("/{hub}")).await.0];
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(web.get(&format!("/xrpc/com.atproto.sync.getRepo?did={hub}")).await.0, 429);
    web.network.stop_failing_requests();
    assert_eq!(web.get(&format!("/xrpc/com.atproto.sync.getRepo?did={hub}")).await.0, 200);
    let pause = std::time::Duration::from_millis(150);
    web.network.delay_requests(Some(("/did:", pause)));
    let begun = std::time::Instant::now();
    web.get(&format!("/{hub}")).await;
    assert!(begun.elapsed() >= pause);
}
