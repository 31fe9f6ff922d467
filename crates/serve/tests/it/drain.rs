//! Stopping without failing anybody.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gp_proto::PingRequest;
use gp_serve::{Config, NoOperator, Rpcs};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};

use crate::rig::{Never, PATIENCE, Rig, framed, whole};

#[tokio::test]
async fn calls_in_flight_end_and_new_callers_are_sent_elsewhere() {
    let gate = Arc::new(Semaphore::new(0));
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let rpcs = Rpcs::contract().instead("GetTimeline", {
        let gate = Arc::clone(&gate);
        move |_, _| {
            let (gate, begun) = (Arc::clone(&gate), begun.clone());
            Box::pin(async move {
                let _ = begun.send(());
                gate.acquire().await.expect("the gate stays").forget();
                Ok(Bytes::from_static(b"\x12\x01c"))
            })
        }
    });
    let rig = Rig::start(rpcs).await;
    assert_eq!(rig.get("/readyz").await.0, 200);
    let mut calls = Vec::new();
    for mut client in rig.both().await {
        calls.push(tokio::spawn(async move { client.call("GetTimeline", &PingRequest {}).await }));
        timeout(PATIENCE, has_begun.recv()).await.unwrap();
    }
    // A connection that does nothing does not hold up anything.
    let _idle = [rig.h1().await, rig.h2().await];
    let _silent = TcpStream::connect(rig.grpc).await.unwrap();

    rig.shutdown.cancel();
    let refused = timeout(PATIENCE, async {
        while TcpStream::connect(rig.grpc).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    refused.await.expect("nobody is accepted any more");
    let (status, body) = rig.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"error\""), "{body}");
    assert_eq!(rig.get("/healthz").await.0, 200);
    assert!(!rig.served.is_finished());

    gate.add_permits(2);
    for call in calls {
        assert_eq!(call.await.unwrap().message::<gp_proto::GetTimelineResponse>().cursor, "c");
    }
    timeout(PATIENCE, rig.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let rpcs = Rpcs::contract().instead("GetTimeline", move |_, _| {
        let begun = begun.clone();
        Box::pin(async move {
            let _ = begun.send(());
            Never.await;
            Ok(Bytes::new())
        })
    });
    let rig = Rig::start_with(rpcs, Config { drain_ms_max: 200, ..Config::default() }, Arc::new(NoOperator)).await;
    let mut client = rig.h2().await;
    let request = client.request("GetTimeline", &[], whole(framed(&PingRequest {})));
    let call = tokio::spawn(async move { client.send(request).await });
    timeout(PATIENCE, has_begun.recv()).await.unwrap();
    let began = Instant::now();
    rig.shutdown.cancel();
    timeout(PATIENCE, rig.served).await.unwrap().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let rig = Rig::start(Rpcs::contract()).await;
    let mut clients = rig.both().await;
    for client in &mut clients {
        client.call("NoSuchMethod", &PingRequest {}).await;
    }
    let began = Instant::now();
    rig.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
