//! Labels: verified, resumed, and refused where they are not the labeler's own.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU8, Ordering::SeqCst},
};

use axum::{Router, extract::Path, routing::get};
use futures::{SinkExt, StreamExt};
use gp_atproto::{
    cbor::Writer,
    crypto::{Curve, SigningKey},
    datetime,
    labels::Label,
};
use gp_index::labels;
use gp_ingest::{Config, IdentityConfig, Ingest};
use gp_proto as proto;
use gp_synth::{GivenLabel, Network};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::server::{Request, Response},
};

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
const LABELER: &str = "did:plc:labeleraaaaaaaaaaaaaaaaa";
const OTHER: &str = "did:plc:otheraaaaaaaaaaaaaaaaaaa";

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(Curve::K256, &[n; 32]).unwrap()
}

/// One label in CBOR, signed with `key` or not at all.
fn label(src: &str, val: &str, key: Option<&SigningKey>) -> Vec<u8> {
    label_as(src, val, key, false)
}

/// As [`label`]; with `neg_written` a false `neg` stands in what is sent and in what is signed.
fn label_as(src: &str, val: &str, key: Option<&SigningKey>, neg_written: bool) -> Vec<u8> {
    let cts_us = gp_index::system_now_us();
    let cts = datetime::format_ms(cts_us);
    let (uri, neg) = (SUBJECT, false);
    let label =
        Label { src, uri, cid: None, val, neg, neg_written, cts: &cts, cts_us, exp: None, exp_us: None, sig: &[] };
    let mut writer = Writer::new();
    writer.map(5 + usize::from(key.is_some()) + usize::from(neg_written)).text("cts").text(&cts);
    if neg_written {
        writer.text("neg").flag(false);
    }
    if let Some(key) = key {
        writer.text("sig").bytes(&label.sign(key));
    }
    writer.text("src").text(src).text("uri").text(SUBJECT).text("val").text(val).text("ver").int(1);
    writer.into_bytes()
}

fn frame(seq: i64, labels: &[Vec<u8>]) -> Message {
    let mut writer = Writer::new();
    writer.map(2).text("t").text("#labels").text("op").int(1);
    writer.map(2).text("seq").int(seq).text("labels").list(labels.len());
    for label in labels {
        writer.item(label);
    }
    Message::Binary(writer.into_bytes().into())
}

/// A frame with one genuine label.
fn says(seq: i64, val: &str) -> Message {
    frame(seq, &[label(LABELER, val, Some(&key(1)))])
}

/// A message of another type, with one text in its body.
fn note(t: &str, field: &str, text: &str) -> Message {
    let mut writer = Writer::new();
    writer.map(2).text("t").text(t).text("op").int(1).map(1).text(field).text(text);
    Message::Binary(writer.into_bytes().into())
}

fn error(name: &str) -> Message {
    let mut writer = Writer::new();
    writer.map(1).text("op").int(-1).map(1).text("error").text(name);
    Message::Binary(writer.into_bytes().into())
}

/// What a labeler does with a connection: what it sends, and whether it then hangs up.
type Turn = (Vec<Message>, bool);

/// A labeler and the directory that knows it, both played by the test.
struct Stage {
    url: String,
    resolver: String,
    /// The positions that were asked for, one for each connection.
    asked: Arc<Mutex<Vec<i64>>>,
    /// Number of the key that the labeler's document names.
    key: Arc<AtomicU8>,
}

impl Stage {
    /// `turn` is given the number of the connection and the position that it asks for.
    async fn set(turn: impl Fn(usize, i64) -> Turn + Send + 'static) -> Self {
        let stream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", stream.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((connection, _)) = stream.accept().await {
                let mut cursor = None;
                #[expect(clippy::result_large_err, reason = "the type is the handshake's own")]
                let read = |request: &Request, response: Response| {
                    cursor = request.uri().query().and_then(|query| query.strip_prefix("cursor=")?.parse().ok());
                    Ok(response)
                };
                // Questions over plain HTTP come over the same port; they are refused by hanging up.
                let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(connection, read).await else { continue };
                let number = {
                    let mut asked = noted.lock().unwrap();
                    asked.push(cursor.unwrap());
                    asked.len() - 1
                };
                let (frames, hang_up) = turn(number, cursor.unwrap());
                for frame in frames {
                    socket.send(frame).await.unwrap();
                }
                if hang_up {
                    let _ = socket.close(None).await;
                }
                tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
            }
        });
        // Both accounts have a key for labels, and only one says that its labeler is here.
        let directory = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let resolver = format!("http://{}", directory.local_addr().unwrap());
        let named = Arc::new(AtomicU8::new(1));
        let (endpoint, number) = (url.clone(), Arc::clone(&named));
        let document = move |Path(did): Path<String>| async move {
            let (key, endpoint) = match did == LABELER {
                true => (key(number.load(SeqCst)), endpoint),
                false => (key(2), "https://elsewhere.example".to_owned()),
            };
            axum::Json(json!({
                "id": did,
                "verificationMethod": [{"id": "#atproto_label", "type": "Multikey", "publicKeyMultibase": key.verifying_key().to_multikey()}],
                "service": [{"id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": endpoint}],
            }))
        };
        let app = Router::new().route("/{did}", get(document));
        tokio::spawn(async move { axum::serve(directory, app).await });
        Self { url, resolver, asked, key: named }
    }

    async fn plane(&self, disk: Disk) -> Plane {
        self.plane_with(disk, Config::default()).await
    }

    async fn plane_with(&self, disk: Disk, config: Config) -> Plane {
        let identity = IdentityConfig { did_resolver_url: Some(self.resolver.clone()), ..IdentityConfig::default() };
        Plane::over(disk, identity, Config { labeler_urls: vec![self.url.clone()], ..config }).await
    }

    fn asked(&self) -> Vec<i64> {
        self.asked.lock().unwrap().clone()
    }
}

/// What the labeler has said, sorted.
async fn vals(plane: &Plane) -> Vec<String> {
    let mut vals: Vec<String> = said(plane, LABELER, SUBJECT).await.into_iter().map(|(val, _)| val).collect();
    vals.sort();
    vals
}

fn at(ingest: &Ingest) -> serde_json::Value {
    ingest.status()["labelers"][0]["seq"].clone()
}

fn refused(plane: &Plane) -> [u64; 3] {
    ["label_signature", "label_source", "label_malformed"].map(|name| dropped(&plane.ingest, name))
}

/// Labels that are not what they seem, from a labeler that the test plays itself.
#[tokio::test(flavor = "multi_thread")]
async fn labels_of_others_and_with_wrong_keys_are_refused() {
    let (own, wrong) = (key(1), key(2));
    let stage = Stage::set(move |_, _| {
        let frames = vec![
            frame(
                1,
                &[
                    label(LABELER, "genuine", Some(&own)),
                    label(LABELER, "wrong-key", Some(&wrong)),
                    label(LABELER, "unsigned", None),
                ],
            ),
            frame(2, &[label(OTHER, "wrong-source", Some(&wrong))]),
            frame(
                3,
                &[
                    label("nobody", "no-source", Some(&own)),
                    label(LABELER, &"x".repeat(200), Some(&own)),
                    label(LABELER, "good", Some(&own)),
                ],
            ),
        ];
        (frames, false)
    })
    .await;
    let plane = stage.plane(Disk::new()).await;
    plane.wait("all frames", |ingest| at(ingest) == 3 && ingest.pending() == 0).await;
    assert_eq!(refused(&plane), [2, 1, 2]);
    let status = plane.ingest.status()["labelers"][0].clone();
    assert_eq!((&status["did"], &status["url"], &status["refused"]), (&json!(LABELER), &json!(stage.url), &json!(5)));
    assert_eq!(vals(&plane).await, ["genuine", "good"]);
    plane.stop().await;
}

/// Skyware's labeler writes `neg: false` and signs it; Ozone leaves it out.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_neg_may_be_signed_or_left_out() {
    let stage = Stage::set(|_, _| {
        let labels =
            [label_as(LABELER, "written", Some(&key(1)), true), label_as(LABELER, "left-out", Some(&key(1)), false)];
        (vec![frame(1, &labels)], false)
    })
    .await;
    let plane = stage.plane(Disk::new()).await;
    plane.wait("the labels", |ingest| at(ingest) == 1).await;
    assert_eq!(vals(&plane).await, ["left-out", "written"]);
    assert_eq!(refused(&plane), [0, 0, 0]);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_labeler_that_starts_over_is_read_from_its_first_label() {
    let stage = Stage::set(|number, cursor| match (number, cursor) {
        (0, 0) => (vec![says(7, "a"), says(9, "b")], true),
        (_, 0) => (vec![says(1, "c"), says(2, "d")], false),
        _ => (vec![error("FutureCursor")], true),
    })
    .await;
    let plane = stage.plane(Disk::new()).await;
    plane.wait("the second beginning", |ingest| at(ingest) == 2 && ingest.pending() == 0).await;
    assert_eq!(stage.asked(), [0, 9, 0]);
    assert_eq!(plane.ingest.status()["labelers"][0]["restarts"], 1);
    assert_eq!(vals(&plane).await, ["a", "b", "c", "d"]);
    // The position that is stored is the new one.
    let disk = plane.stop().await;
    let plane = stage.plane(disk).await;
    plane.wait("the third connection and a fourth", |_| stage.asked().len() >= 4).await;
    assert_eq!(stage.asked()[3], 2);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_comes_late_is_kept_and_the_position_stays() {
    let stage =
        Stage::set(|_, _| (vec![says(5, "first"), says(3, "late"), says(5, "again"), says(6, "last")], false)).await;
    let plane = stage.plane(Disk::new()).await;
    plane.wait("the last label", |ingest| at(ingest) == 6 && ingest.pending() == 0).await;
    assert_eq!(vals(&plane).await, ["again", "first", "last", "late"]);
    let disk = plane.stop().await;
    let plane = stage.plane(disk).await;
    plane.wait("the second connection", |_| stage.asked().len() == 2).await;
    assert_eq!(stage.asked(), [0, 6]);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_counted_and_the_stream_goes_on() {
    let stage = Stage::set(|_, _| {
        let frames = vec![
            Message::Binary(vec![0xff, 0x00].into()),
            note("#info", "name", "OutdatedCursor"),
            note("#news", "text", "of a later version"),
            frame(1, &[label(LABELER, &"x".repeat(20_000), Some(&key(1)))]),
            says(2, "one"),
            frame(3, &[]),
            says(4, "two"),
        ];
        (frames, false)
    })
    .await;
    let plane = stage.plane_with(Disk::new(), Config { frame_bytes_max: 10_000, ..Config::default() }).await;
    plane.wait("the last label", |ingest| at(ingest) == 4 && ingest.pending() == 0).await;
    assert_eq!(vals(&plane).await, ["one", "two"]);
    let counted = ["frame_malformed", "message_unknown", "frame_too_large"].map(|name| dropped(&plane.ingest, name));
    assert_eq!((counted, stage.asked()), ([1, 1, 1], vec![0]));
    // Asked for everything there is, nothing can have been lost.
    assert_eq!(plane.ingest.status()["labelers"][0]["gaps"], 0);
    plane.stop().await;
}

/// The labeler signs with a new key before its document names it, and says nothing more afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_announced_late_loses_nothing() {
    let stage = Stage::set(|number, cursor| {
        let all = [
            says(1, "old-key"),
            frame(2, &[label(LABELER, "new-key", Some(&key(3)))]),
            frame(3, &[label(LABELER, "too", Some(&key(3)))]),
        ];
        (all.into_iter().skip(if number == 0 { 0 } else { cursor as usize }).collect(), false)
    })
    .await;
    let plane = stage.plane(Disk::new()).await;
    plane.wait("all frames", |ingest| at(ingest) == 3 && ingest.pending() == 0).await;
    assert_eq!(vals(&plane).await, ["old-key"]);
    assert_eq!(refused(&plane), [2, 0, 0]);
    // A restart does not forget that there is something to be read again.
    let disk = plane.stop().await;
    let plane = stage.plane(disk).await;
    plane.wait("what is in doubt", |ingest| dropped(ingest, "label_signature") >= 2).await;
    assert_eq!(stage.asked(), [0, 1]);
    assert_eq!(at(&plane.ingest), 3);
    stage.key.store(3, SeqCst);
    plane
        .wait("the refused labels", |ingest| ingest.status()["labelers"][0]["applied"] == 2 && ingest.pending() == 0)
        .await;
    assert_eq!(vals(&plane).await, ["new-key", "old-key", "too"]);
    assert_eq!((stage.asked(), at(&plane.ingest)), (vec![0, 1, 1], json!(3)));
    // And then it is forgotten.
    let disk = plane.stop().await;
    let plane = stage.plane(disk).await;
    plane.wait("another connection", |_| stage.asked().len() == 4).await;
    assert_eq!(stage.asked()[3], 3);
    plane.stop().await;
}

/// Skyware's labeler may miss a label between what it sends of old and what it sends as it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_the_stream_left_out_is_looked_for() {
    let stage = Stage::set(|number, cursor| {
        let all = [says(1, "a"), says(2, "missed"), says(3, "c"), says(5, "e")];
        let sent = all.into_iter().enumerate().filter(|(at, _)| *at as i64 >= cursor && (number > 0 || *at != 1));
        (sent.map(|(_, frame)| frame).collect(), false)
    })
    .await;
    let plane = stage.plane(Disk::new()).await;
    plane.wait("the last label", |ingest| at(ingest) == 5).await;
    plane
        .wait("the look", |ingest| ingest.status()["labelers"][0]["again_after"].is_null() && ingest.pending() == 0)
        .await;
    assert_eq!(vals(&plane).await, ["a", "c", "e", "missed"]);
    // 4 was left out again, so it is not there.
    assert_eq!((stage.asked(), at(&plane.ingest)), (vec![0, 1], json!(5)));
    plane.stop().await;
}
