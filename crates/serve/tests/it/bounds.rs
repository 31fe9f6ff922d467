//! What one call may take, and what it leaves to others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gp_proto::{GetPostRecordsRequest, GetPostRecordsResponse, PingRequest, Record};
use gp_serve::{Code, Config, NoOperator, Rpcs};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::rig::{Never, PATIENCE, Reply, Rig, TellDrop, framed, whole};

fn posts(count: usize) -> GetPostRecordsRequest {
    GetPostRecordsRequest {
        uris: (0..count).map(|n| format!("at://did:plc:abcdefghijklmnopqrstuvwx/app.bsky.feed.post/{n:013}")).collect(),
        ..Default::default()
    }
}

/// A record for each URI: the URI, and as many bytes more.
fn answer(request: Bytes, more: usize) -> Bytes {
    let request = GetPostRecordsRequest::decode(request).expect("it was decoded before");
    let records = request.uris.into_iter().map(|uri| {
        let mut record = uri.into_bytes();
        record.resize(record.len() + more, b' ');
        Record { record: record.into(), cid: "c".into(), ..Default::default() }
    });
    GetPostRecordsResponse { records: records.collect(), ..Default::default() }.encode_to_vec().into()
}

#[tokio::test]
async fn twenty_thousand_keys_are_answered_in_slices_in_order_and_aligned() {
    let (most, slices) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let rpcs = Rpcs::contract().instead("GetPostRecords", {
        let (most, slices) = (Arc::clone(&most), Arc::clone(&slices));
        move |_, asked| {
            most.fetch_max(asked.price().keys as usize, SeqCst);
            slices.fetch_add(1, SeqCst);
            Box::pin(async move { Ok(answer(asked.message(), 400)) })
        }
    });
    let rig = Rig::start(rpcs).await;
    let mut request = posts(20_000);
    // Duplicates stay where they are.
    for at in (0..20_000).step_by(7) {
        request.uris[at] = request.uris[3].clone();
    }
    for mut client in rig.both().await {
        slices.store(0, SeqCst);
        let reply = client.call("GetPostRecords", &request).await;
        let response: GetPostRecordsResponse = reply.message();
        assert_eq!(response.records.len(), 20_000);
        for (record, uri) in response.records.iter().zip(&request.uris) {
            assert!(record.record.starts_with(uri.as_bytes()));
        }
        assert_eq!((most.load(SeqCst), slices.load(SeqCst)), (256, 20_000_usize.div_ceil(256)));
    }
    assert_eq!(
        rig.metric(r#"groundplane_rpc_batch_keys_max{rpc="GetPostRecords",caller="unknown"}"#).await,
        Some(20_000.0)
    );
    rig.until_metric(r#"groundplane_memory_inflight_bytes{kind="messages"}"#, 0.0).await;
    let (_, top) = rig.get("/top").await;
    let top: serde_json::Value = serde_json::from_str(&top).unwrap();
    assert_eq!(top["last_1_minute"]["calls"][0]["keys"], 20_000);
}

/// The long list is held up in its first slice, and so it is under way, for as long as the small calls take.
#[tokio::test]
async fn small_calls_are_answered_while_a_long_list_is_under_way() {
    let gate = Arc::new(Semaphore::new(0));
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let rpcs = Rpcs::contract().instead("GetPostRecords", {
        let gate = Arc::clone(&gate);
        move |_, asked| {
            let (gate, begun) = (Arc::clone(&gate), begun.clone());
            Box::pin(async move {
                if asked.price().keys > 50 {
                    let _ = begun.send(());
                    gate.acquire().await.expect("the gate stays").forget();
                }
                Ok(answer(asked.message(), 0))
            })
        }
    });
    // Room for ten slices in all, and so for one slice of a call.
    let config = Config { units_in_flight_max: 2_560, ..Config::default() };
    let rig = Rig::start_with(rpcs, config, Arc::new(NoOperator)).await;
    let mut large = Vec::new();
    for _ in 0..4 {
        let mut client = rig.h2().await;
        large.push(tokio::spawn(async move { client.call("GetPostRecords", &posts(20_000)).await }));
        timeout(PATIENCE, has_begun.recv()).await.unwrap();
    }
    let mut client = rig.h2().await;
    for _ in 0..200 {
        let reply = client.call("GetPostRecords", &posts(50)).await;
        assert_eq!(reply.message::<GetPostRecordsResponse>().records.len(), 50);
    }
    assert!(large.iter().all(|call| !call.is_finished()));
    gate.add_permits(1_000);
    for call in large {
        assert_eq!(call.await.unwrap().message::<GetPostRecordsResponse>().records.len(), 20_000);
    }
}

#[tokio::test]
async fn too_many_keys_are_refused_before_anything_is_read() {
    let calls = Arc::new(AtomicUsize::new(0));
    let rpcs = Rpcs::contract().instead("GetPostRecords", {
        let calls = Arc::clone(&calls);
        move |_, _| {
            calls.fetch_add(1, SeqCst);
            Box::pin(async { Ok(Bytes::new()) })
        }
    });
    let rig = Rig::start(rpcs).await;
    for mut client in rig.both().await {
        let empty = GetPostRecordsRequest { uris: vec![String::new(); 5_000_000], ..Default::default() };
        for request in [posts(100_001), empty] {
            let reply = client.call("GetPostRecords", &request).await;
            assert_eq!(
                (reply.code(), reply.status("grpc-retry-pushback-ms")),
                (Code::ResourceExhausted as u32, Some("-1"))
            );
        }
        assert_eq!(calls.load(SeqCst), 0);
    }
    assert_eq!(
        rig.metric(r#"groundplane_shed_total{rpc="GetPostRecords",caller="unknown",reason="oversize"}"#).await,
        Some(4.0)
    );
    assert_eq!(rig.h2().await.call("GetPostRecords", &posts(100_000)).await.code(), 0);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_by_its_prefix() {
    let config = Config { request_bytes_max: 64 << 10, ..Config::default() };
    let rpcs =
        Rpcs::contract().instead("GetPostRecords", |_, asked| Box::pin(async move { Ok(answer(asked.message(), 0)) }));
    let rig = Rig::start_with(
        rpcs.instead("GetTimeline", |_, _| Box::pin(async { Ok(Bytes::new()) })),
        config,
        Arc::new(NoOperator),
    )
    .await;
    for mut client in rig.both().await {
        assert_eq!(client.call("GetPostRecords", &posts(500)).await.code(), 0);
        // The rest never comes.
        let reply = client.in_pieces("GetPostRecords", vec![Bytes::from_static(b"\0\xff\xff\xff\xff")]).await;
        assert_eq!(
            (reply.code(), reply.status("grpc-retry-pushback-ms")),
            (Code::ResourceExhausted as u32, Some("-1"))
        );
        let mut client = rig.h2().await;
        assert_eq!(
            client.raw("GetTimeline", &[], [&b"\0\0\0\x04\x01"[..], &[0; 1025]].concat()).await.code(),
            Code::ResourceExhausted as u32
        );
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_its_work_with_it() {
    let (tell, mut dropped) = mpsc::unbounded_channel();
    let rpcs = Rpcs::contract().instead("GetTimeline", move |_, _| {
        let tell = TellDrop(tell.clone());
        Box::pin(async move {
            Never.await;
            drop(tell);
            Ok(Bytes::new())
        })
    });
    let rig = Rig::start(rpcs).await;
    for mut client in rig.both().await {
        let began = Instant::now();
        let reply = client.raw("GetTimeline", &[("grpc-timeout", "50m")], framed(&PingRequest {})).await;
        assert_eq!(reply.code(), Code::DeadlineExceeded as u32);
        assert!(began.elapsed() >= Duration::from_millis(50));
        timeout(PATIENCE, dropped.recv()).await.unwrap();
    }
    assert_eq!(rig.metric(r#"groundplane_deadline_exceeded_total{rpc="GetTimeline",stage="run"}"#).await, Some(2.0));
    assert_eq!(rig.metric(r#"groundplane_admission_inflight{resource="units"}"#).await, Some(0.0));
}

#[tokio::test]
async fn a_request_that_never_ends_ends_at_its_deadline() {
    let config = Config { deadline_ms_max: 100, ..Config::default() };
    let rig = Rig::start_with(
        Rpcs::contract().instead("Ping", |_, _| Box::pin(async { Ok(Bytes::new()) })),
        config,
        Arc::new(NoOperator),
    )
    .await;
    for mut client in rig.both().await {
        let endless = futures::StreamExt::chain(
            futures::stream::iter([Ok(hyper::body::Frame::data(Bytes::from_static(b"\0\0\0\0\x09half")))]),
            futures::stream::pending(),
        );
        let request = client.request("Ping", &[], http_body_util::StreamBody::new(endless).boxed());
        let reply = Reply::of(client.send(request).await.unwrap()).await;
        assert_eq!(reply.code(), Code::DeadlineExceeded as u32);
    }
    assert_eq!(rig.metric(r#"groundplane_deadline_exceeded_total{rpc="Ping",stage="receive"}"#).await, Some(2.0));
}

#[tokio::test]
async fn the_work_of_a_caller_that_goes_away_stops() {
    let (tell, mut dropped) = mpsc::unbounded_channel();
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let rpcs = Rpcs::contract().instead("GetPostRecords", move |_, _| {
        let (tell, begun) = (TellDrop(tell.clone()), begun.clone());
        Box::pin(async move {
            let _ = begun.send(());
            Never.await;
            drop(tell);
            Ok(Bytes::new())
        })
    });
    let rig = Rig::start(rpcs).await;
    let mut cancelled = 0.0;
    // One small call, and one that is served in slices.
    for keys in [10, 2_000] {
        let request = posts(keys);
        for version in [http::Version::HTTP_2, http::Version::HTTP_11] {
            let mut client = if version == http::Version::HTTP_2 { rig.h2().await } else { rig.h1().await };
            {
                let call = client.call("GetPostRecords", &request);
                tokio::pin!(call);
                tokio::select! {
                    _ = &mut call => panic!("it never ends"),
                    begun = timeout(PATIENCE, has_begun.recv()) => assert!(begun.unwrap().is_some()),
                }
                // Over HTTP/2, dropping the call resets its stream.
            }
            if version == http::Version::HTTP_11 {
                client.connection.abort();
            }
            timeout(PATIENCE, dropped.recv()).await.unwrap().unwrap();
            cancelled += 1.0;
            rig.until_metric(r#"groundplane_rpc_cancelled_total{rpc="GetPostRecords",stage="run"}"#, cancelled).await;
            // Other slices of the same call have begun, and ended with it.
            while has_begun.try_recv().is_ok() {}
            while dropped.try_recv().is_ok() {}
        }
    }
    rig.until_metric(r#"groundplane_admission_inflight{resource="units"}"#, 0.0).await;
    rig.until_metric(r#"groundplane_rpc_inflight{caller="unknown"}"#, 0.0).await;
    rig.until_metric(r#"groundplane_inflight_keys{caller="unknown"}"#, 0.0).await;
    rig.until_metric(r#"groundplane_memory_inflight_bytes{kind="messages"}"#, 0.0).await;
}

#[tokio::test]
async fn a_call_that_finds_no_room_in_time_is_shed_and_told_when_to_come_back() {
    let gate = Arc::new(Semaphore::new(0));
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let rpcs = Rpcs::contract()
        .instead("GetTimeline", {
            let gate = Arc::clone(&gate);
            move |_, _| {
                let (gate, begun) = (Arc::clone(&gate), begun.clone());
                Box::pin(async move {
                    let _ = begun.send(());
                    gate.acquire().await.expect("the gate stays").forget();
                    Ok(Bytes::new())
                })
            }
        })
        .instead("Ping", |_, _| Box::pin(async { Ok(Bytes::new()) }));
    // Room for ten calls of a tenth.
    let config = Config { units_in_flight_max: 100, wait_ms_max: 30, ..Config::default() };
    let rig = Rig::start_with(rpcs, config, Arc::new(NoOperator)).await;
    let mut holding = Vec::new();
    for _ in 0..10 {
        let mut client = rig.h2().await;
        holding.push(tokio::spawn(async move { client.call("GetTimeline", &PingRequest {}).await }));
        timeout(PATIENCE, has_begun.recv()).await.unwrap();
    }
    for mut client in rig.both().await {
        let reply = client.call("GetTimeline", &PingRequest {}).await;
        assert_eq!(
            (reply.code(), reply.status("grpc-retry-pushback-ms")),
            (Code::ResourceExhausted as u32, Some("1000"))
        );
        assert_eq!(client.call("Ping", &PingRequest {}).await.code(), 0, "it is not queued");
    }
    assert_eq!(
        rig.metric(r#"groundplane_shed_total{rpc="GetTimeline",caller="unknown",reason="queue_time"}"#).await,
        Some(2.0)
    );
    gate.add_permits(100);
    for call in holding {
        assert_eq!(call.await.unwrap().code(), 0);
    }
}

/// A caller that asks for much and reads nothing: its answer leaves the memory when its time is over.
#[tokio::test]
async fn an_answer_that_nobody_reads_is_dropped() {
    let rpcs = Rpcs::contract()
        .instead("GetPostRecords", |_, asked| Box::pin(async move { Ok(answer(asked.message(), 100_000)) }));
    let config = Config { answer_drain_ms_max: 300, ..Config::default() };
    let rig = Rig::start_with(rpcs, config, Arc::new(NoOperator)).await;
    let mut unread = Vec::new();
    for mut client in rig.both().await {
        let request = client.request("GetPostRecords", &[], whole(framed(&posts(200))));
        let response = client.send(request).await.unwrap();
        unread.push((client, response));
    }
    rig.until_metric("groundplane_answers_dropped_total", 2.0).await;
    rig.until_metric(r#"groundplane_memory_inflight_bytes{kind="messages"}"#, 0.0).await;
    for (_client, response) in unread {
        assert!(response.into_body().collect().await.is_err(), "half an answer does not look like a whole one");
    }
}

#[tokio::test]
async fn bytes_in_memory_have_a_bound_and_one_call_has_a_tenth_of_it() {
    let rpcs = Rpcs::contract()
        .instead("GetPostRecords", |_, asked| Box::pin(async move { Ok(answer(asked.message(), 10_000)) }));
    let config = Config { bytes_in_flight_max: Some(1_000_000), answer_drain_ms_max: 600_000, ..Config::default() };
    let rig = Rig::start_with(rpcs, config, Arc::new(NoOperator)).await;
    for mut client in rig.both().await {
        assert_eq!(client.call("GetPostRecords", &posts(9)).await.code(), 0);
        // Served whole, and in slices.
        for keys in [11, 300] {
            let reply = client.call("GetPostRecords", &posts(keys)).await;
            let refused = (reply.code(), reply.status("grpc-retry-pushback-ms"));
            assert_eq!(refused, (Code::ResourceExhausted as u32, Some("-1")), "it would be refused again");
        }
    }
    rig.until_metric(r#"groundplane_memory_inflight_bytes{kind="messages"}"#, 0.0).await;
}
