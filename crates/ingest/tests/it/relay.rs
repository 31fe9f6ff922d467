//! A relay that the test plays itself, for what no honest one does.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use gp_atproto::frame::{AccountMessage, InfoMessage, Message, StreamError};
use gp_ingest::{Config, IdentityConfig, RelayStart};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        self,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::rig::{Disk, Plane, dropped};

const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const TIME: &str = "2026-01-02T03:04:05.678Z";

/// Connections as they come, each with what was asked for.
struct Played {
    url: String,
    connections: mpsc::Receiver<(String, WebSocketStream<tokio::net::TcpStream>)>,
}

impl Played {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let (tell, connections) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asked = Arc::new(std::sync::Mutex::new(String::new()));
                let note = Arc::clone(&asked);
                #[allow(clippy::result_large_err)]
                let socket = accept_hdr_async(stream, move |request: &Request, response: Response| {
                    *note.lock().unwrap() = request.uri().query().unwrap_or_default().to_owned();
                    Ok(response)
                });
                let Ok(socket) = socket.await else { continue };
                let asked = asked.lock().unwrap().clone();
                if tell.send((asked, socket)).await.is_err() {
                    return;
                }
            }
        });
        Self { url, connections }
    }

    async fn next(&mut self) -> (String, WebSocketStream<tokio::net::TcpStream>) {
        tokio::time::timeout(crate::rig::PATIENCE, self.connections.recv()).await.expect("a connection comes").unwrap()
    }

    async fn plane(&self, change: impl FnOnce(&mut Config)) -> Plane {
        let mut config =
            Config { relay_urls: vec![self.url.clone()], relay_start: RelayStart::Oldest, ..Config::default() };
        change(&mut config);
        // Nothing here needs to be resolved; port 9 answers nobody.
        let identity = IdentityConfig {
            plc_url: "http://127.0.0.1:9".into(),
            handle_resolver_url: Some("http://127.0.0.1:9".into()),
            ..IdentityConfig::default()
        };
        Plane::over(Disk::new(), identity, config).await
    }
}

fn account(seq: i64) -> tungstenite::Message {
    let message = Message::Account(AccountMessage {
        seq,
        did: DID,
        active: false,
        status: Some("suspended"),
        time: TIME,
        time_us: 0,
    });
    tungstenite::Message::Binary(message.encode().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_connection_leads_to_a_new_one_at_the_right_place() {
    let mut relay = Played::new().await;
    let plane = relay.plane(|_| {}).await;
    let (asked, mut socket) = relay.next().await;
    assert_eq!(asked, "cursor=0");
    socket.send(account(5)).await.unwrap();
    socket.send(account(8)).await.unwrap();
    plane.wait("the position", |ingest| ingest.seq() == 8).await;
    // A text frame is against the protocol.
    socket.send(tungstenite::Message::Text("hello".into())).await.unwrap();
    let (asked, mut socket) = relay.next().await;
    assert_eq!(asked, "cursor=8");
    for code in [CloseCode::Normal, CloseCode::Policy, CloseCode::Size, CloseCode::Restart] {
        let _ = socket.send(tungstenite::Message::Close(Some(CloseFrame { code, reason: "".into() }))).await;
        let (asked, next) = relay.next().await;
        assert_eq!(asked, "cursor=8", "after {code:?}");
        socket = next;
    }
    // The last one saw nothing come before its end.
    let slow = Message::Error(StreamError { error: "ConsumerTooSlow", message: None }).encode();
    socket.send(tungstenite::Message::Binary(slow.into())).await.unwrap();
    let (asked, mut socket) = relay.next().await;
    assert_eq!(asked, "cursor=8");
    // Positions at or before the last one are carried along and move nothing.
    socket.send(account(3)).await.unwrap();
    socket.send(account(9)).await.unwrap();
    plane.wait("the position", |ingest| ingest.seq() == 9).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_ahead_of_the_relay_is_told_and_not_passed_over() {
    let mut relay = Played::new().await;
    let plane = relay.plane(|_| {}).await;
    let (_, mut socket) = relay.next().await;
    socket.send(account(50)).await.unwrap();
    plane.wait("the position", |ingest| ingest.seq() == 50).await;
    drop(socket);
    let ahead = || {
        tungstenite::Message::Binary(
            Message::Error(StreamError { error: "FutureCursor", message: Some("no") }).encode().into(),
        )
    };
    for _ in 0..3 {
        let (asked, mut socket) = relay.next().await;
        assert_eq!(asked, "cursor=50");
        socket.send(ahead()).await.unwrap();
    }
    plane.wait("the alert", |ingest| ingest.status()["firehose"]["state"] == "future_cursor").await;
    let status = plane.ingest.status();
    assert_eq!(status["firehose"]["seq"], 50);
    assert_eq!(status["firehose"]["last_error"], "FutureCursor: no");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_ahead_of_the_relay_starts_over_if_so_configured() {
    let mut relay = Played::new().await;
    let plane = relay
        .plane(|config| {
            config.restart_on_future_cursor = true;
            config.relay_start = RelayStart::Now;
        })
        .await;
    let (asked, mut socket) = relay.next().await;
    assert_eq!(asked, "");
    socket.send(account(50)).await.unwrap();
    plane.wait("the position", |ingest| ingest.seq() == 50).await;
    drop(socket);
    let (asked, mut socket) = relay.next().await;
    assert_eq!(asked, "cursor=50");
    let ahead = Message::Error(StreamError { error: "FutureCursor", message: None }).encode();
    socket.send(tungstenite::Message::Binary(ahead.into())).await.unwrap();
    let (asked, mut socket) = relay.next().await;
    assert_eq!(asked, "");
    socket.send(account(7)).await.unwrap();
    plane.wait("the new position", |ingest| ingest.seq() == 7).await;
    assert_eq!(plane.ingest.status()["firehose"]["gaps"], 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_invalid_is_counted_and_does_not_hold_the_position() {
    let mut relay = Played::new().await;
    let plane = relay.plane(|config| config.frame_bytes_max = 1000).await;
    let (_, mut socket) = relay.next().await;
    let send = |bytes: Vec<u8>| tungstenite::Message::Binary(bytes.into());
    socket.send(account(1)).await.unwrap();
    // A frame without a time.
    let mut writer = gp_atproto::cbor::Writer::new();
    writer.map(2).text("t").text("#account").text("op").int(1);
    writer.map(3).text("did").text(DID).text("seq").int(2).text("active").flag(true);
    socket.send(send(writer.into_bytes())).await.unwrap();
    socket.send(send(vec![0; 2000])).await.unwrap();
    socket.send(send(vec![0xff; 20])).await.unwrap();
    socket.send(send(Message::Info(InfoMessage { name: "Weather", message: None }).encode())).await.unwrap();
    socket.send(account(4)).await.unwrap();
    plane.wait("the position", |ingest| ingest.seq() == 4).await;
    let counted = ["message_invalid", "frame_too_large", "frame_malformed"].map(|name| dropped(&plane.ingest, name));
    assert_eq!(counted, [1, 1, 1]);
    assert_eq!(plane.actor(DID).await.unwrap().upstream_status, "suspended");
    // A peer that asks is answered.
    socket.send(tungstenite::Message::Ping("there?".into())).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    assert_eq!(answer, tungstenite::Message::Pong("there?".into()));
    plane.stop().await;
}
