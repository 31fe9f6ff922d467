//! Who accounts are: handles both ways, keys that change, directories that fail, accounts that go.

use std::time::{Duration, Instant};

use gp_index::IdentitySource;
use gp_ingest::{Config, Error, Identity, IdentityConfig, Want};

use crate::rig::{Disk, Plane, config, dropped, identity_config, network};

#[tokio::test(flavor = "multi_thread")]
async fn handles_change_and_are_fought_over() {
    let network = network(50).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let (first, second) = (network.victim(1), network.victim(2));
    assert_ne!(first, second);
    plane.expect(&network.change_handle(&first, "brand-new.demo.test").unwrap()).await;
    // The loser keeps claiming it in its document; nothing tells us of the loss.
    plane.expect(&network.contend_handle(&second, &first).unwrap()).await;
    assert_eq!(plane.handle(&first).await, Some(None));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_change_are_found_with_and_without_notice() {
    let network = network(51).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    for (number, announced) in [(1, true), (2, false)] {
        let did = network.victim(number);
        let happened = network.rotate_key(&did, announced).unwrap();
        plane.expect(&happened).await;
    }
    assert_eq!(dropped(&plane.ingest, "signature_invalid"), 0);
    plane.stop().await;
}

/// A key that cannot be had for a while: the account's events wait, everybody else's go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_resolution_holds_up_only_its_own_account() {
    let network = network(52).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let slow = network.victim(1);
    let others: Vec<String> = (2..40).map(|n| network.victim(n)).filter(|did| *did != slow).collect();
    network.delay_requests(Some((&format!("/{slow}"), Duration::from_secs(20))));
    // The new key is not known, so its event has to wait for the directory.
    let late = network.rotate_key(&slow, true).unwrap();
    let begun = Instant::now();
    for other in &others {
        let happened = network.post(other, "I do not wait").unwrap();
        let (uri, cid) = happened.present[0].clone();
        let (did, path) = crate::rig::split(&uri);
        while plane.records(did).await.get(path) != Some(&cid) {
            assert!(begun.elapsed() < Duration::from_secs(8), "{other} waits: {:#}", plane.ingest.status());
        }
    }
    assert!(plane.ingest.seq() < late.seq, "what waits is not in the position");
    assert!(plane.ingest.pending() > 0);
    network.delay_requests(None);
    plane.expect(&late).await;
    plane.stop().await;
}

/// A key that cannot be had at all: the repo is left to a resync, and the stream goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_down_does_not_stop_the_stream() {
    let network = network(53).await;
    let config = Config { identity_hold_max: Duration::from_millis(300), ..config(&network) };
    let disk = Disk::new();
    let plane = Plane::over(disk.clone(), identity_config(&network), config.clone()).await;
    plane.settle(network.head_seq()).await;
    let disk = plane.stop().await;
    // A new process knows no keys.
    network.fail_requests("/did:", 500, 1_000_000);
    let happened = network.post(&network.victim(1), "who am I").unwrap();
    let plane = Plane::over(disk, identity_config(&network), config).await;
    plane.wait("the position to move on", |ingest| ingest.seq() >= happened.seq).await;
    assert_eq!(dropped(&plane.ingest, "unverifiable_for_now"), 1);
    network.stop_failing_requests();
    plane.wait("the resync", |ingest| ingest.status()["resync"]["failing_total"] == 0 && ingest.pending() == 0).await;
    plane.expect(&happened).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_deleted_only_when_its_host_says_so() {
    let network = network(54).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let (gone, hosted) = (network.victim(1), network.victim(2));
    assert_ne!(gone, hosted);
    // An operator asks about one that is hosted: nothing happens.
    assert!(matches!(plane.ingest.delete(&hosted).await, Err(Error::Refused(_))));
    assert!(!plane.records(&hosted).await.is_empty());
    // A host that fails proves nothing; it is asked again.
    network.fail_requests("/xrpc/com.atproto.sync.getLatestCommit", 502, 2);
    let happened = network.set_status(&gone, Some("deleted")).unwrap();
    plane.expect(&happened).await;
    assert!(!happened.absent.is_empty());
    assert!(plane.records(&gone).await.is_empty());
    assert_eq!(plane.actor(&gone).await, None);
    assert_eq!(plane.ingest.status()["delete"]["failed_attempts"], 2);
    plane.expect_model(&network).await;
    plane.stop().await;
}

/// A handle check that was under way when its account was deleted does not bring the account back.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_ends_after_the_deletion_leaves_the_account_deleted() {
    let network = network(57).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let gone = network.victim(1);
    network.delay_requests(Some(("/xrpc/com.atproto.identity.resolveHandle", Duration::from_secs(1))));
    let (ingest, did) = (plane.ingest.clone(), gone.clone());
    let check = tokio::spawn(async move { ingest.refresh(&did).await });
    plane.wait("the check to begin", |ingest| ingest.figures().refreshes_running == 1).await;
    let happened = network.set_status(&gone, Some("deleted")).unwrap();
    plane.expect(&happened).await;
    check.await.unwrap().unwrap();
    assert_eq!(plane.actor(&gone).await, None);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hosts_say_of_accounts_is_kept_word_for_word() {
    let network = network(55).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let did = network.victim(1);
    let status = async || plane.actor(&did).await.unwrap().upstream_status;
    plane.expect(&network.set_status(&did, Some("suspended")).unwrap()).await;
    assert_eq!(status().await, "suspended");
    plane.expect(&network.set_status(&did, Some("deactivated")).unwrap()).await;
    assert_eq!(status().await, "deactivated");
    plane.expect(&network.set_status(&did, None).unwrap()).await;
    assert_eq!(status().await, "");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_one_document_make_one_request() {
    let network = network(56).await;
    let identity = Identity::new(identity_config(&network)).unwrap();
    let did = network.victim(1);
    network.delay_requests(Some((&format!("/{did}"), Duration::from_millis(100))));
    let all = futures::future::join_all((0..50).map(|_| identity.document(&did, Want::Any))).await;
    assert!(all.iter().all(|document| document.as_ref().is_ok_and(|d| *d.did == did)));
    assert_eq!((identity.figures().lookups, identity.figures().documents), (1, 1));
    // A caller that goes away does not end it for the others.
    let (asked, other) = (network.victim(2), identity.clone());
    network.delay_requests(Some((&format!("/{asked}"), Duration::from_millis(100))));
    let gone = tokio::time::timeout(Duration::from_millis(10), identity.document(&asked, Want::Any)).await;
    assert!(gone.is_err());
    assert!(other.document(&asked, Want::Any).await.is_ok());
    assert_eq!(identity.figures().lookups, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_and_unknown_are_told_apart() {
    let network = network(57).await;
    let identity = Identity::new(IdentityConfig { negative_for: Duration::ZERO, ..identity_config(&network) }).unwrap();
    let (nobody, did) = ("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", network.victim(1));
    assert!(matches!(identity.document(nobody, Want::Any).await, Err(Error::Absent(_))));
    assert!(matches!(identity.by_did(nobody).await, Err(gp_index::Error::Absent(_))));
    network.fail_requests("/did:", 503, 1);
    assert!(matches!(identity.document(&did, Want::Any).await, Err(Error::Failed(_))));
    let found = identity.by_did(&did).await.unwrap();
    assert_eq!(found.handle, network.account(&did).unwrap().facts.handle);
    // What is known stays good while the directory is down, but whoever insists is told.
    network.fail_requests("/did:", 503, 1_000_000);
    assert!(identity.document(&did, Want::Any).await.is_ok());
    assert!(matches!(identity.document(&did, Want::Since(tokio::time::Instant::now())).await, Err(Error::Failed(_))));
    network.stop_failing_requests();
    // Gone for good.
    network.bury(&did).unwrap();
    assert!(matches!(identity.document(&did, Want::Since(tokio::time::Instant::now())).await, Err(Error::Absent(_))));
    assert!(matches!(identity.document(&did, Want::Any).await, Err(Error::Absent(_))));
    // Handles.
    let handle = network.account(&network.victim(2)).unwrap().facts.handle;
    assert_eq!(identity.did_of_handle(&handle.to_uppercase()).await.unwrap(), network.victim(2));
    assert!(matches!(identity.did_of_handle("nobody.demo.test").await, Err(gp_index::Error::Absent(_))));
}

/// Names in network data do not lead us into our own network.
#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_unless_allowed() {
    let network = network(58).await;
    let config = IdentityConfig {
        did_resolver_url: None,
        handle_resolver_url: None,
        allow_private_networks: false,
        ..identity_config(&network)
    };
    let identity = Identity::new(config.clone()).unwrap();
    let web = format!("did:web:localhost%3A{}", network.addr().port());
    assert!(matches!(identity.document(&web, Want::Any).await, Err(Error::Refused(_))));
    let web = format!("did:web:127.0.0.1%3A{}", network.addr().port());
    assert!(matches!(identity.document(&web, Want::Any).await, Err(Error::Refused(_))));
    // The directory was named by the operator, so it may be where it is.
    assert!(identity.document(&network.victim(1), Want::Any).await.is_ok());
    let allowed = Identity::new(IdentityConfig { allow_private_networks: true, ..config }).unwrap();
    // Asked, it has no such DID, which is another answer than refusing to ask.
    assert!(matches!(allowed.document(&web, Want::Any).await, Err(Error::Absent(_))));
}
