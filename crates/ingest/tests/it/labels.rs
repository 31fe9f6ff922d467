//! Labels: verified, resumed, and refused where they are not the labeler's own.

use axum::{Router, extract::Path, routing::get};
use futures::{SinkExt, StreamExt};
use gp_atproto::{
    cbor::Writer,
    crypto::{Curve, SigningKey},
    datetime,
    labels::Label,
};
use gp_index::labels;
use gp_ingest::{Config, IdentityConfig};
use gp_proto as proto;
use gp_synth::{GivenLabel, Network};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite;

use crate::rig::{Disk, Plane, config, dropped, identity_config, network};

async fn plane(network: &Network, disk: Disk) -> Plane {
    let config = Config { relay_urls: Vec::new(), labeler_urls: vec![network.labeler_url()], ..config(network) };
    Plane::over(disk, identity_config(network), config).await
}

fn given(network: &Network, uri: &str, val: &str, neg: bool, cts_us: i64) -> GivenLabel {
    GivenLabel { src: network.pick().labeler_did, uri: uri.into(), val: val.into(), neg, cts_us, exp_us: None }
}

/// Label values on a subject, those taken back marked.
async fn said(plane: &Plane, labeler: &str, uri: &str) -> Vec<(String, bool)> {
    let request = proto::GetLabelsRequest { subjects: vec![uri.into()], issuers: vec![labeler.into()] };
    let found = labels::get_labels(&plane.cx, request).await.unwrap().labels;
    let read = |bytes: &[u8]| serde_json::from_slice::<labels::Label>(bytes).unwrap();
    found.iter().map(|bytes| read(bytes)).map(|label| (label.val, label.neg)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_come_in_are_taken_back_and_survive_a_restart() {
    let network = network(70).await;
    let plane_1 = plane(&network, Disk::new()).await;
    let now = gp_index::system_now_us();
    let uri = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a";
    network.give_labels([given(&network, uri, "spam", false, now), given(&network, uri, "rude", false, now)]);
    let seq = network.give_labels([given(&network, uri, "rude", true, now + 1_000_000)]);
    plane_1.wait("the labels", |ingest| ingest.status()["labelers"][0]["seq"] == seq && ingest.pending() == 0).await;
    assert_eq!(
        said(&plane_1, &network.pick().labeler_did, uri).await,
        [("rude".to_owned(), true), ("spam".to_owned(), false)]
    );
    assert_eq!(plane_1.ingest.status()["labelers"][0]["url"], network.labeler_url());
    let disk = plane_1.stop().await;

    let seq = network.give_labels([given(&network, uri, "new", false, now)]);
    let plane_2 = plane(&network, disk).await;
    plane_2.wait("the new label", |ingest| ingest.status()["labelers"][0]["seq"] == seq).await;
    assert_eq!(plane_2.ingest.status()["labelers"][0]["applied"], 1);
    network.drop_connections();
    let seq = network.give_labels([given(&network, uri, "newer", false, now)]);
    plane_2.wait("the newest label", |ingest| ingest.status()["labelers"][0]["seq"] == seq).await;
    assert_eq!(said(&plane_2, &network.pick().labeler_did, uri).await.len(), 4);
    assert_eq!(
        ["label_signature", "label_source", "label_malformed"].map(|name| dropped(&plane_2.ingest, name)),
        [0, 0, 0]
    );
    plane_2.stop().await;
}

const SUBJECT: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

/// One label in CBOR, signed with `key` or not at all.
fn label(src: &str, val: &str, key: Option<&SigningKey>) -> Vec<u8> {
    let cts_us = gp_index::system_now_us();
    let cts = datetime::format_ms(cts_us);
    let label =
        Label { src, uri: SUBJECT, cid: None, val, neg: false, cts: &cts, cts_us, exp: None, exp_us: None, sig: &[] };
    let mut writer = Writer::new();
    writer.map(5 + usize::from(key.is_some())).text("cts").text(&cts);
    if let Some(key) = key {
        writer.text("sig").bytes(&label.sign(key));
    }
    writer.text("src").text(src).text("uri").text(SUBJECT).text("val").text(val).text("ver").int(1);
    writer.into_bytes()
}

fn frame(seq: i64, labels: &[Vec<u8>]) -> tungstenite::Message {
    let mut writer = Writer::new();
    writer.map(2).text("t").text("#labels").text("op").int(1);
    writer.map(2).text("seq").int(seq).text("labels").list(labels.len());
    for label in labels {
        writer.item(label);
    }
    tungstenite::Message::Binary(writer.into_bytes().into())
}

/// Labels that are not what they seem, from a labeler that the test plays itself.
#[tokio::test(flavor = "multi_thread")]
async fn labels_of_others_and_with_wrong_keys_are_refused() {
    let (labeler, other) = ("did:plc:labeleraaaaaaaaaaaaaaaaa", "did:plc:otheraaaaaaaaaaaaaaaaaaa");
    let key = |n: u8| SigningKey::from_bytes(Curve::K256, &[n; 32]).unwrap();
    let (own, wrong) = (key(1), key(2));
    let frames = [
        frame(
            1,
            &[
                label(labeler, "genuine", Some(&own)),
                label(labeler, "wrong-key", Some(&wrong)),
                label(labeler, "unsigned", None),
            ],
        ),
        frame(2, &[label(other, "wrong-source", Some(&wrong))]),
        frame(
            3,
            &[
                label("nobody", "no-source", Some(&own)),
                label(labeler, &"x".repeat(200), Some(&own)),
                label(labeler, "good", Some(&own)),
            ],
        ),
    ];
    let stream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", stream.local_addr().unwrap());
    tokio::spawn(async move {
        // Questions over plain HTTP come over the same port; they are refused by hanging up.
        while let Ok((connection, _)) = stream.accept().await {
            let Ok(mut socket) = tokio_tungstenite::accept_async(connection).await else { continue };
            for frame in &frames {
                socket.send(frame.clone()).await.unwrap();
            }
            tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
        }
    });
    // Both accounts have a key for labels, and only one says that its labeler is here.
    let directory = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resolver = format!("http://{}", directory.local_addr().unwrap());
    let endpoint = url.clone();
    let document = move |Path(did): Path<String>| async move {
        let (key, endpoint) =
            if did == labeler { (key(1), endpoint) } else { (key(2), "https://elsewhere.example".to_owned()) };
        axum::Json(json!({
            "id": did,
            "verificationMethod": [{"id": "#atproto_label", "type": "Multikey", "publicKeyMultibase": key.verifying_key().to_multikey()}],
            "service": [{"id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": endpoint}],
        }))
    };
    let app = Router::new().route("/{did}", get(document));
    tokio::spawn(async move { axum::serve(directory, app).await });

    let identity = IdentityConfig { did_resolver_url: Some(resolver), ..IdentityConfig::default() };
    let config = Config { labeler_urls: vec![url], ..Config::default() };
    let plane = Plane::over(Disk::new(), identity, config).await;
    plane.wait("all frames", |ingest| ingest.status()["labelers"][0]["seq"] == 3 && ingest.pending() == 0).await;
    let counted = ["label_signature", "label_source", "label_malformed"].map(|name| dropped(&plane.ingest, name));
    assert_eq!(counted, [2, 1, 2]);
    assert_eq!(plane.ingest.status()["labelers"][0]["did"], labeler);
    let mut vals: Vec<String> = said(&plane, labeler, SUBJECT).await.into_iter().map(|(val, _)| val).collect();
    vals.sort();
    assert_eq!(vals, ["genuine", "good"]);
    plane.stop().await;
}
