//! The streams as a WebSocket client sees them.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use gp_atproto::{
    frame::{FrameError, Message, peek},
    labels::LabelStreamMessage,
};
use groundplane_synth::{GivenLabel, Network, Spec};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message as Ws, protocol::frame::coding::CloseCode},
};

use crate::{NOW_US, start, tiny};

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What came next.
#[derive(Debug, PartialEq)]
enum Heard {
    Frame(Vec<u8>),
    Closed(Option<CloseCode>),
    Broken,
}

impl Client {
    async fn new(network: &Network, query: &str) -> Client {
        Client::of(network, "com.atproto.sync.subscribeRepos", query).await
    }

    async fn of(network: &Network, method: &str, query: &str) -> Client {
        let url = format!("{}/xrpc/{method}{query}", network.relay_url());
        Client(connect_async(url).await.unwrap().0)
    }

    async fn hear(&mut self) -> Heard {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await.expect("something comes");
            return match next {
                Some(Ok(Ws::Binary(frame))) => Heard::Frame(frame.to_vec()),
                Some(Ok(Ws::Close(frame))) => Heard::Closed(frame.map(|frame| frame.code)),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Heard::Broken,
            };
        }
    }

    async fn frame(&mut self) -> Vec<u8> {
        match self.hear().await {
            Heard::Frame(frame) => frame,
            other => panic!("{other:?}"),
        }
    }

    async fn seq(&mut self) -> i64 {
        peek(&self.frame().await).seq.unwrap()
    }

    /// The name of a frame without position.
    async fn notice(&mut self) -> String {
        let frame = self.frame().await;
        match Message::decode(&frame).unwrap() {
            Message::Info(info) => info.name.to_owned(),
            Message::Error(error) => error.error.to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors() {
    let network = start(tiny(41)).await;
    let seqs: Vec<i64> = network.frames().iter().map(|(seq, _)| *seq).collect();
    let (middle, head) = (seqs[seqs.len() / 2], network.head_seq());

    // Zero is everything retained, byte for byte.
    let mut all = Client::new(&network, "?cursor=0").await;
    for (_, frame) in network.frames() {
        assert_eq!(all.frame().await, frame);
    }
    // A position is what comes after it, a position between two events as well.
    assert_eq!(Client::new(&network, &format!("?cursor={middle}")).await.seq().await, seqs[seqs.len() / 2 + 1]);
    assert_eq!(Client::new(&network, &format!("?cursor={}", middle - 1)).await.seq().await, middle);
    // The head and no cursor at all are the live tail; a bare question mark is no cursor.
    let mut tails = [
        Client::new(&network, "").await,
        Client::new(&network, "?").await,
        Client::new(&network, &format!("?cursor={head}")).await,
    ];
    network.tick(1, NOW_US + 1);
    let next = network.frames().iter().map(|(seq, _)| *seq).find(|seq| *seq > head).unwrap();
    for client in &mut tails {
        assert_eq!(client.seq().await, next);
    }
    assert_eq!(all.seq().await, next);
    // Beyond the head there is nothing to wait for.
    let mut future = Client::new(&network, "?cursor=99999999").await;
    assert_eq!(future.notice().await, "FutureCursor");
    assert_eq!(future.hear().await, Heard::Closed(Some(CloseCode::Policy)));
    assert!(
        connect_async(format!("{}/xrpc/com.atproto.sync.subscribeRepos?cursor=x", network.relay_url())).await.is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_retained_is_announced() {
    let network = start(Spec { retained_events_max: Some(100), first_seq: 5_000, ..tiny(42) }).await;
    let frames = network.frames();
    assert_eq!(frames.len(), 100);
    let mut client = Client::new(&network, "?cursor=5001").await;
    assert_eq!(client.notice().await, "OutdatedCursor");
    assert_eq!(client.seq().await, frames[0].0);
    // Who asks for everything retained has missed nothing by their own account.
    assert_eq!(Client::new(&network, "?cursor=0").await.seq().await, frames[0].0);
    network.expire(frames[49].0);
    let mut client = Client::new(&network, &format!("?cursor={}", frames[10].0)).await;
    assert_eq!(client.notice().await, "OutdatedCursor");
    assert_eq!(client.seq().await, frames[50].0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_too_slowly_is_told_so() {
    let network = start(Spec { retained_events_max: Some(50), ..tiny(43) }).await;
    network.slow_down(Some((1, Duration::from_millis(50))));
    let mut client = Client::new(&network, "?cursor=0").await;
    client.seq().await;
    network.tick(200, NOW_US + 1);
    loop {
        match client.hear().await {
            Heard::Frame(frame) => {
                if let Message::Error(error) = Message::decode(&frame).unwrap() {
                    assert_eq!(error.error, "ConsumerTooSlow");
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.hear().await, Heard::Closed(Some(CloseCode::Policy)));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_break_close_and_count() {
    let network = start(tiny(44)).await;
    let mut client = Client::new(&network, "?cursor=0").await;
    client.seq().await;
    network.drop_connections();
    while matches!(client.hear().await, Heard::Frame(_)) {}

    let mut client = Client::new(&network, "").await;
    // A ping is answered while nothing happens.
    client.0.send(Ws::Ping("are you there".into())).await.unwrap();
    assert!(matches!(client.0.next().await, Some(Ok(Ws::Pong(_)))));
    network.close_connections();
    assert_eq!(client.hear().await, Heard::Closed(Some(CloseCode::Normal)));

    network.drop_connections_after(Some((10, 30)));
    let mut cursor = 0;
    let mut counts = Vec::new();
    for _ in 0..5 {
        let mut client = Client::new(&network, &format!("?cursor={cursor}")).await;
        let mut frames = 0;
        while let Heard::Frame(frame) = client.hear().await {
            cursor = peek(&frame).seq.unwrap();
            frames += 1;
        }
        counts.push(frames);
    }
    // The frames before a break may be lost with the connection, but never more come than were drawn.
    assert!(counts.iter().all(|frames| *frames <= 30), "{counts:?}");
    network.drop_connections_after(None);
    let mut client = Client::new(&network, "?cursor=0").await;
    for _ in 0..100 {
        client.seq().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_subscribers_hear_the_same_and_the_slow_one_holds_up_nobody() {
    let network = start(tiny(45)).await;
    let mut idle = Client::new(&network, "?cursor=0").await;
    idle.seq().await; // and then it reads no more
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::new(&network, "").await);
    }
    let live = network.live(400.0);
    let mut heard = Vec::new();
    for client in &mut clients {
        let mut seqs = Vec::new();
        for _ in 0..50 {
            seqs.push(client.seq().await);
        }
        heard.push(seqs);
    }
    drop(live);
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_frames_go_out_as_they_are() {
    let network = start(tiny(46)).await;
    let mut client = Client::new(&network, "").await;
    network.garbage_frame();
    let frame = client.frame().await;
    assert!(matches!(Message::decode(&frame), Err(FrameError::Cbor(_) | FrameError::Header | FrameError::Body)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_labeler_has_a_stream_of_its_own() {
    let network = start(tiny(47)).await;
    let given = network.labels();
    let key = network.account(&network.pick().labeler_did).unwrap().facts.label_key.unwrap();
    let key = gp_atproto::crypto::VerifyingKey::from_multikey(&key).unwrap();
    let mut client = Client::of(&network, "com.atproto.label.subscribeLabels", "?cursor=0").await;
    let mut heard = Vec::new();
    while heard.len() < given.len() {
        let frame = client.frame().await;
        let LabelStreamMessage::Labels(message) = LabelStreamMessage::decode(&frame).unwrap() else { panic!() };
        for label in message.labels {
            let label = label.unwrap();
            label.verify(&key).unwrap();
            heard.push((label.uri.to_owned(), label.val.to_owned(), label.neg));
        }
    }
    assert_eq!(heard, given.iter().map(|it| (it.uri.clone(), it.val.clone(), it.neg)).collect::<Vec<_>>());
    let label = GivenLabel {
        src: String::new(),
        uri: network.pick().hub_did,
        val: "rude".into(),
        neg: false,
        cts_us: NOW_US,
        exp_us: None,
    };
    network.give_labels([label]);
    let frame = client.frame().await;
    let LabelStreamMessage::Labels(message) = LabelStreamMessage::decode(&frame).unwrap() else { panic!() };
    assert_eq!(message.labels[0].as_ref().unwrap().src, network.pick().labeler_did);
    let mut future = Client::of(&network, "com.atproto.label.subscribeLabels", "?cursor=9999").await;
    assert_eq!(future.notice().await, "FutureCursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_network_is_gone() {
    let network = start(tiny(48)).await;
    let mut client = Client::new(&network, "").await;
    let addr = network.addr();
    drop(network);
    assert_eq!(client.hear().await, Heard::Broken);
    // Streams break on their own; the door closes beside them, and for a while the port may be that of another test.
    let closed = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("nobody listens any more");
}
