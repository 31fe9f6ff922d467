//! Each thing that can be wrong with an event: dropped, counted under its reason, and the stream goes on.

use gp_index::repos::RepoStatus;
use gp_synth::{Happened, Network};

use crate::rig::{Plane, dropped, losses, network};

async fn suffer(seed: u64, reason: &str, fault: impl Fn(&Network, &str) -> Happened) -> (Network, Plane, Happened) {
    let network = network(seed).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let (before, resyncs) = (dropped(&plane.ingest, reason), repos_read(&plane));
    let did = network.victim(seed);
    let happened = fault(&network, &did);
    plane.expect(&happened).await;
    assert_eq!(
        dropped(&plane.ingest, reason) - before,
        happened.refused_events.max(1),
        "{reason}: {:?}",
        losses(&plane.ingest)
    );
    assert_eq!(repos_read(&plane) > resyncs, happened.needs_resync, "{reason}: {:#}", plane.ingest.status());
    assert_eq!(plane.repo(&did).await.unwrap().status, RepoStatus::Synced);
    // Everybody else goes on as well.
    plane.settle(network.tick(20, gp_index::system_now_us())).await;
    plane.expect_model(&network).await;
    (network, plane, happened)
}

fn repos_read(plane: &Plane) -> u64 {
    plane.ingest.status()["resync"]["repos_read"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_signature() {
    suffer(20, "signature_invalid", |network, did| network.wrong_signature(did).unwrap()).await.1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revision_from_the_future() {
    suffer(21, "rev_in_future", |network, did| network.rev_from_the_future(did).unwrap()).await.1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_over_the_limit() {
    suffer(22, "commit_too_large", |network, did| network.oversized_frame(did, 2_100_000).unwrap())
        .await
        .1
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frame_over_the_bound() {
    suffer(23, "frame_too_large", |network, did| network.oversized_frame(did, 6_000_000).unwrap()).await.1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_and_empty_blocks() {
    suffer(24, "blocks_malformed", |network, did| network.truncated_car(did).unwrap()).await.1.stop().await;
    suffer(25, "blocks_malformed", |network, did| network.empty_car(did).unwrap()).await.1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_record() {
    suffer(26, "blocks_malformed", |network, did| network.forged_record(did).unwrap()).await.1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_that_do_not_hold() {
    suffer(27, "proof_invalid", |network, did| network.missing_proof_node(did).unwrap()).await.1.stop().await;
    suffer(28, "proof_invalid", |network, did| network.wrong_prev(did).unwrap()).await.1.stop().await;
    suffer(29, "proof_invalid", |network, did| network.wrong_prev_data(did).unwrap()).await.1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn record_against_its_lexicon() {
    suffer(30, "record_lexicon_invalid", |network, did| network.record_over_limits(did).unwrap()).await.1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_again() {
    suffer(31, "stale", |network, did| network.duplicated_event(did).unwrap()).await.1.stop().await;
    suffer(32, "stale", |network, did| network.replay_old_events(did, 5).unwrap()).await.1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_nothing_do_not_stop_the_stream() {
    let network = network(33).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    network.garbage_frame();
    network.unknown_message();
    let happened = network.post(&network.victim(1), "after all that").unwrap();
    plane.expect(&happened).await;
    assert_eq!((dropped(&plane.ingest, "frame_malformed"), dropped(&plane.ingest, "message_unknown")), (1, 1));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_commit_a_legacy_commit_and_a_migration_lead_to_a_resync() {
    let network = network(34).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let read = repos_read(&plane);
    plane.expect(&network.gap(&network.victim(1), 3).unwrap()).await;
    assert_eq!(repos_read(&plane), read + 1);
    plane.expect(&network.legacy_commit(&network.victim(2)).unwrap()).await;
    assert_eq!(repos_read(&plane), read + 2);
    plane.expect(&network.migrate(&network.victim(3)).unwrap()).await;
    assert_eq!(repos_read(&plane), read + 3);
    plane.expect(&network.empty_commit(&network.victim(4)).unwrap()).await;
    assert_eq!(repos_read(&plane), read + 3);
    plane.expect_model(&network).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_is_asked_again() {
    let network = network(35).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    // The host and the fallback share this address, so two answers make one failed attempt.
    network.fail_requests("/xrpc/com.atproto.sync.getRepo", 503, 4);
    let did = network.victim(1);
    plane.expect(&network.gap(&did, 1).unwrap()).await;
    assert_eq!(plane.ingest.status()["resync"]["failed_attempts"], 2);
    assert_eq!(plane.repo(&did).await.unwrap().status, RepoStatus::Synced);
    plane.stop().await;
}

/// While a repo cannot be read, it is listed, others go on, and once it can be, it is complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_holds_up_nobody_else() {
    let network = network(36).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    network.fail_requests("/xrpc/com.atproto.sync.getRepo", 500, 1_000_000);
    let did = network.victim(1);
    let happened = network.gap(&did, 2).unwrap();
    plane.wait("a listed failure", |ingest| ingest.status()["resync"]["failing"][0]["did"] == did).await;
    // A failing job is pending only for its first attempts.
    plane.settle(happened.seq).await;
    assert_eq!(plane.repo(&did).await.unwrap().status, RepoStatus::Desynced);
    let held = network.post(&did, "held").unwrap();
    let other = (2..).map(|n| network.victim(n)).find(|other| *other != did).unwrap();
    plane.expect(&network.post(&other, "not held").unwrap()).await;
    network.stop_failing_requests();
    plane.wait("the resync", |ingest| ingest.status()["resync"]["failing_total"] == 0).await;
    plane.expect(&held).await;
    plane.expect(&happened).await;
    plane.stop().await;
}

/// A gap in the stream itself: some repos miss a commit and are read whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_position_is_a_gap_that_heals() {
    let network = network(37).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    plane.ingest.pause().await.unwrap();
    let lost = network.post(&network.victim(1), "lost on the way").unwrap();
    network.post(&network.victim(2), "also retained no more").unwrap();
    network.expire(network.head_seq());
    plane.ingest.resume().await.unwrap();
    let happened = network.post(&network.victim(1), "seen").unwrap();
    plane.expect(&happened).await;
    plane.expect(&Happened { seq: 0, ..lost.clone() }).await;
    let status = plane.ingest.status();
    assert_eq!(status["firehose"]["gaps"], 1);
    assert_eq!(status["firehose"]["last_gap"]["before"], happened.seq);
    plane.stop().await;
}

/// Joining in mid-life: what comes is applied at once, and what came before is fetched.
#[tokio::test(flavor = "multi_thread")]
async fn repos_first_seen_in_mid_life_are_completed() {
    let network = network(38).await;
    network.expire(network.head_seq());
    let plane = Plane::start(&network).await;
    plane.wait("a connection", |ingest| ingest.status()["firehose"]["state"] == "connected").await;
    let did = network.victim(3);
    plane.expect(&network.post(&did, "here I am").unwrap()).await;
    let all = network.model(|model| model.records(&did).count()).unwrap();
    assert!(all > 1);
    assert_eq!(plane.records(&did).await.len(), all);
    assert_eq!(plane.repo(&did).await.unwrap().status, RepoStatus::Synced);
    plane.stop().await;
}

/// The directory knows nothing of an account: its commits are lost, counted, and hold up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn commits_of_an_identity_that_is_gone_are_dropped() {
    let network = network(39).await;
    let gone = network.victim(1);
    network.bury(&gone).unwrap();
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    assert!(dropped(&plane.ingest, "identity_absent") > 0);
    assert!(plane.records(&gone).await.is_empty());
    assert!(plane.actor(&gone).await.is_some(), "seen, but not known");
    let other = (2..).map(|n| network.victim(n)).find(|other| *other != gone).unwrap();
    plane.expect(&network.post(&other, "still here").unwrap()).await;
    plane.stop().await;
}

/// One damaged row of our own costs one operation.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_of_our_own_does_not_stop_the_stream() {
    let network = network(40).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let did = network.victim(1);
    let happened = network.post(&did, "about to be damaged").unwrap();
    plane.expect(&happened).await;
    let uri = happened.present[0].0.clone();
    let (owner, rkey) = (did.clone(), uri.rsplit('/').next().unwrap().to_owned());
    plane
        .cx
        .writer
        .run(move |view| {
            view.put(gp_index::records::key(&owner, "app.bsky.feed.post", &rkey), &b"?"[..]);
            Ok::<_, gp_index::Error>(())
        })
        .await
        .unwrap();
    let gone = network.delete(&uri).unwrap();
    plane.settle(gone.seq).await;
    assert_eq!(dropped(&plane.ingest, "own_state_damaged"), 1);
    assert_eq!(plane.repo(&did).await.unwrap().status, RepoStatus::Synced);
    plane.stop().await;
}
