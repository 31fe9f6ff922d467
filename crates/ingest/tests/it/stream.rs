//! A whole history comes in, whatever happens to the connection, and comes in once.

use std::time::Duration;

use gp_atproto::frame::Message;
use gp_index::progress;
use gp_ingest::Config;
use gp_store::{Key, Scan};

use crate::rig::{Disk, PATIENCE, Plane, config, dropped, identity_config, losses, network, network_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_history_ends_as_the_oracle_says_and_loses_nothing() {
    let network = network(1).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    plane.expect_model(&network).await;
    assert!(
        losses(&plane.ingest).keys().all(|name| *name == "record_rule_broken" || *name == "record_lexicon_invalid"),
        "{:?}",
        losses(&plane.ingest)
    );
    // Live events too.
    let seq = network.tick(50, gp_index::system_now_us());
    plane.settle(seq).await;
    plane.expect_model(&network).await;
    let status = plane.ingest.status();
    assert_eq!(status["firehose"]["seq"], seq);
    assert_eq!(status["firehose"]["running"], true);
    assert_eq!(status["firehose"]["url"], network.relay_url());
    assert_eq!(status["firehose"]["lag_seconds"], 0.0);
    assert_eq!(status["pending"], 0);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_and_close_lose_nothing_and_double_nothing() {
    let network = network(2).await;
    network.slow_down(Some((4, Duration::ZERO)));
    network.drop_connections_after(Some((5, 60)));
    let plane = Plane::start(&network).await;
    plane.wait("half of the history", |ingest| ingest.seq() > network.head_seq() / 2).await;
    // Closed in good order, which must not end the stream (T1).
    network.close_connections();
    network.drop_connections();
    network.drop_connections_after(None);
    plane.settle(network.head_seq()).await;
    plane.expect_model(&network).await;
    assert_eq!(dropped(&plane.ingest, "stale"), repeated_after(&network, 0), "nothing else came twice");
    assert!(plane.ingest.status()["firehose"]["connections"].as_u64().unwrap() > 3);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was() {
    let network = network(3).await;
    let plane = Plane::start(&network).await;
    plane.wait("some events", |ingest| ingest.seq() > 50).await;
    let disk = plane.stop().await;
    let stored = progress::of(&disk.store(), &format!("firehose:{}", network.relay_url())).await.unwrap().unwrap();
    assert!(stored > 50);
    let plane = Plane::over(disk, identity_config(&network), config(&network)).await;
    assert!(plane.ingest.seq() >= stored);
    plane.settle(network.head_seq()).await;
    plane.expect_model(&network).await;
    assert_eq!(dropped(&plane.ingest, "stale"), repeated_after(&network, stored), "nothing else came twice");
    plane.stop().await;
}

/// Events after a position that repeat what an earlier one said: the `#sync` of a new account tells its first commit.
fn repeated_after(network: &gp_synth::Network, seq: i64) -> u64 {
    let is_sync = |frame: &[u8]| matches!(Message::decode(frame), Ok(Message::Sync(_)));
    network.frames().iter().filter(|(at, frame)| *at > seq && is_sync(frame)).count() as u64
}

/// The process dies without a word, again and again, at any moment. What is stored as the position is never ahead of
/// the effects, and redelivery changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_converges() {
    let network = network(4).await;
    let disk = Disk::new();
    for life in 0..6 {
        let plane = Plane::over(disk.clone(), identity_config(&network), config(&network)).await;
        let enough = network.head_seq() * (life + 1) / 8;
        plane.wait("progress", |ingest| ingest.seq() > enough).await;
        let stored =
            progress::of(&disk.store(), &format!("firehose:{}", network.relay_url())).await.unwrap().unwrap_or(0);
        assert!(stored <= plane.ingest.seq());
        plane.die().await;
    }
    let plane = Plane::over(disk, identity_config(&network), config(&network)).await;
    plane.settle(network.head_seq()).await;
    plane.expect_model(&network).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn little_room_makes_the_relay_wait_and_loses_nothing() {
    let network = network(5).await;
    let config = Config { events_in_flight_max: 3, bytes_in_flight_max: 20_000, ..config(&network) };
    let plane = Plane::over(Disk::new(), identity_config(&network), config).await;
    let watch = async {
        loop {
            let figures = plane.ingest.figures();
            assert!(figures.events_in_flight <= 3 && figures.bytes_in_flight <= 20_000);
            if figures.seq >= network.head_seq() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, watch).await.unwrap();
    plane.settle(network.head_seq()).await;
    plane.expect_model(&network).await;
    plane.stop().await;
}

/// Two relays tell the same story; each has its own position, and the story is applied once.
#[tokio::test(flavor = "multi_thread")]
async fn two_relays_tell_the_same_story_once() {
    let network = network(6).await;
    let again = network.relay_url().replace("127.0.0.1", "localhost");
    let config = Config { relay_urls: vec![network.relay_url(), again], ..config(&network) };
    let plane = Plane::over(Disk::new(), identity_config(&network), config).await;
    plane.settle(network.head_seq()).await;
    plane
        .wait("the other relay", |ingest| {
            ingest.status()["firehose"]["relays"][1]["seq"] == network.head_seq() && ingest.pending() == 0
        })
        .await;
    plane.expect_model(&network).await;
    assert!(dropped(&plane.ingest, "stale") > 0);
    plane.stop().await;
}

/// Whenever a position is reached and nothing is pending, everything up to it shows, handles included.
#[tokio::test(flavor = "multi_thread")]
async fn settled_is_never_said_too_early() {
    let network = network(7).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    for round in 0..20 {
        let did = network.victim(round);
        let happened = match round % 4 {
            0 => network.gap(&did, 2),
            1 => network.change_handle(&did, &format!("round-{round}.demo.test")),
            2 => network.rotate_key(&did, false),
            _ => network.post(&did, "hello"),
        };
        plane.expect(&happened.unwrap()).await;
    }
    plane.stop().await;
}

/// Follow-up work is stored with what made it necessary, and goes when it is done.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_to_do_on_disk_once_settled() {
    let network = network_with(8, |spec| spec.records = 200).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let table = gp_ingest::TABLES[0];
    for kind in 1..=3 {
        let page = plane.cx.store.scan(Scan::of(Key::of(table).tag(kind).partition())).await.unwrap();
        assert!(page.rows.is_empty(), "kind {kind}: {:?}", page.rows);
    }
    plane.stop().await;
}

/// Upstreams may be started after us.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_comes_later_is_found_at_once() {
    let later = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = later.local_addr().unwrap();
    let first = network(9).await;
    let mut config = config(&first);
    config.relay_urls = vec![format!("ws://{addr}")];
    drop(later);
    let plane = Plane::over(Disk::new(), identity_config(&first), config).await;
    plane.wait("a failed attempt", |ingest| !ingest.status()["firehose"]["last_error"].is_null()).await;
    let network = network_with(9, |spec| spec.listen = addr).await;
    let begun = std::time::Instant::now();
    plane.wait("a connection", |ingest| ingest.status()["firehose"]["state"] == "connected").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    plane.settle(network.head_seq()).await;
    plane.stop().await;
}
