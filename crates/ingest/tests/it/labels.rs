//! Labels: verified, resumed, and refused where they are not the labeler's own.

use gp_atproto::{
    crypto::{Curve, SigningKey},
    datetime,
    labels::Label,
};
use gp_index::labels;
use gp_ingest::Config;
use gp_proto as proto;
use gp_synth::{GivenLabel, Network};

use crate::rig::{Disk, Plane, config, dropped, identity_config, network};

async fn plane(network: &Network, disk: Disk) -> Plane {
    let config = Config { relay_urls: Vec::new(), labeler_urls: vec![network.labeler_url()], ..config(network) };
    Plane::over(disk, identity_config(network), config).await
}

fn given(network: &Network, uri: &str, val: &str, neg: bool, cts_us: i64) -> GivenLabel {
    GivenLabel { src: network.pick().labeler_did, uri: uri.into(), val: val.into(), neg, cts_us, exp_us: None }
}

/// Label values on a subject, those taken back marked.
async fn on(plane: &Plane, network: &Network, uri: &str) -> Vec<(String, bool)> {
    let request = proto::GetLabelsRequest { subjects: vec![uri.into()], issuers: vec![network.pick().labeler_did] };
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
    assert_eq!(on(&plane_1, &network, uri).await, [("rude".to_owned(), true), ("spam".to_owned(), false)]);
    assert_eq!(plane_1.ingest.status()["labelers"][0]["url"], network.labeler_url());
    let disk = plane_1.stop().await;

    let seq = network.give_labels([given(&network, uri, "new", false, now)]);
    let plane_2 = plane(&network, disk).await;
    plane_2.wait("the new label", |ingest| ingest.status()["labelers"][0]["seq"] == seq).await;
    assert_eq!(plane_2.ingest.status()["labelers"][0]["applied"], 1);
    network.drop_connections();
    let seq = network.give_labels([given(&network, uri, "newer", false, now)]);
    plane_2.wait("the newest label", |ingest| ingest.status()["labelers"][0]["seq"] == seq).await;
    assert_eq!(on(&plane_2, &network, uri).await.len(), 4);
    assert_eq!(["label_signature", "label_source", "label_malformed"].map(|name| dropped(&plane_2.ingest, name)), [0, 0, 0]);
    plane_2.stop().await;
}

/// Labels that are not what they seem, from a labeler that the test plays itself.
#[tokio::test(flavor = "multi_thread")]
async fn labels_of_others_and_with_wrong_keys_are_refused() {
    use futures::SinkExt;
    let network = network(71).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let genuine = network.frames_of_labels_for_tests();
    let labeler = network.pick().labeler_did;
    let wrong = SigningKey::from_bytes(Curve::K256, &[9; 32]).unwrap();
    let cts_us = gp_index::system_now_us();
    let cts = datetime::format_ms(cts_us);
    let forged = |src: &str, val: &str, signed: bool| {
        let label = Label { src, uri: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", cid: None, val, neg: false, cts: &cts, cts_us, exp: None, exp_us: None, sig: &[] };
        let sig = label.sign(&wrong);
        let mut writer = gp_atproto::cbor::Writer::new();
        writer.map(6 + usize::from(signed) - 1).text("cts").text(&cts);
        if signed {
            writer.text("sig").bytes(&sig);
        }
        writer.text("src").text(src).text("uri").text(label.uri).text("val").text(val).text("ver").int(1);
        writer.into_bytes()
    };
    let frame = |seq: i64, labels: &[Vec<u8>]| {
        let mut writer = gp_atproto::cbor::Writer::new();
        writer.map(2).text("t").text("#labels").text("op").int(1);
        writer.map(2).text("seq").int(seq).text("labels").list(labels.len());
        labels.iter().for_each(|label| drop(writer.item(label)));
        tokio_tungstenite::tungstenite::Message::Binary(writer.into_bytes().into())
    };
    let victim = network.victim(1);
    let frames = [
        tokio_tungstenite::tungstenite::Message::Binary(genuine),
        frame(1001, &[forged(&labeler, "wrong-key", true), forged(&labeler, "unsigned", false)]),
        frame(1002, &[forged(&victim, "wrong-source", true)]),
        frame(1003, &[forged("nobody", "no-source", true), forged(&labeler, &"x".repeat(200), true)]),
    ];
    tokio::spawn(async move {
        // Questions over plain HTTP come over the same port and are refused by hanging up.
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
            for frame in frames.clone() {
                socket.send(frame).await.unwrap();
            }
            tokio::spawn(async move {
                let _open = socket;
                std::future::pending::<()>().await;
            });
        }
    });
    let config = Config { relay_urls: Vec::new(), labeler_urls: vec![url], ..config(&network) };
    let plane = Plane::over(Disk::new(), identity_config(&network), config).await;
    plane.wait("all frames", |ingest| ingest.status()["labelers"][0]["seq"] == 1003 && ingest.pending() == 0).await;
    let counted = ["label_signature", "label_source", "label_malformed"].map(|name| dropped(&plane.ingest, name));
    assert_eq!(counted, [2, 1, 2]);
    assert_eq!(plane.ingest.status()["labelers"][0]["did"], labeler);
    assert!(on(&plane, &network, "did:plc:ewvi7nxzyoun6zhxrhs64oiz").await.is_empty());
    plane.stop().await;
}
