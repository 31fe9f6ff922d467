//! What an operator can ask for: pause, resume, replay, resync, refresh.

use gp_ingest::{Config, Error};

use crate::rig::{Disk, Plane, config, dropped, identity_config, network};

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_what_is_in_flight_and_keeps_the_position() {
    let network = network(60).await;
    let plane = Plane::start(&network).await;
    plane.wait("some events", |ingest| ingest.seq() > 20).await;
    plane.ingest.pause().await.unwrap();
    plane.ingest.pause().await.unwrap();
    let (seq, pending) = plane.ingest.snapshot();
    assert_eq!(pending, 0);
    let status = plane.ingest.status();
    assert_eq!(
        (&status["firehose"]["running"], &status["firehose"]["seq"], &status["paused"]),
        (&false.into(), &seq.into(), &true.into())
    );
    network.post(&network.victim(1), "nobody listens").unwrap();
    // An operator's own questions are answered meanwhile.
    plane.ingest.refresh(&network.victim(2)).await.unwrap();
    assert_eq!(plane.ingest.seq(), seq);
    plane.ingest.resume().await.unwrap();
    plane.ingest.resume().await.unwrap();
    plane.settle(network.head_seq()).await;
    plane.expect_model(&network).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_starts_over_and_changes_nothing() {
    let network = network(61).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let before = (rows(&plane).await, plane.ingest.seq());
    plane.ingest.replay().await.unwrap();
    plane.settle(network.head_seq()).await;
    assert_eq!(plane.ingest.seq(), before.1);
    assert!(dropped(&plane.ingest, "stale") > 100);
    assert_eq!(plane.ingest.status()["resync"]["repos_read"], 0);
    plane.expect_model(&network).await;
    let after = rows(&plane).await;
    let differ: Vec<_> = before
        .0
        .iter()
        .filter(|row| !after.contains(row))
        .chain(after.iter().filter(|row| !before.0.contains(row)))
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
    // Paused, it stays paused; the position starts over all the same.
    plane.ingest.pause().await.unwrap();
    plane.ingest.replay().await.unwrap();
    assert_eq!(plane.ingest.seq(), 0);
    plane.ingest.resume().await.unwrap();
    plane.settle(network.head_seq()).await;
    plane.stop().await;
}

/// All rows of records and counts, which a replay must leave as they are.
async fn rows(plane: &Plane) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = plane.cx.store.clone();
    let all = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        for table in [
            &gp_index::tables::RECORD,
            &gp_index::tables::BY,
            &gp_index::tables::ON,
            &gp_index::tables::NOTIFICATION,
            &gp_index::tables::REPO,
        ] {
            store.local().each(table.id, &mut |key, value| {
                all.push((key.to_vec(), value.to_vec()));
                true
            })?;
        }
        Ok::<_, gp_store::Error>(all)
    });
    all.await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_never_seen_are_made_by_resync_and_refresh() {
    let network = network(62).await;
    let config = Config { relay_urls: Vec::new(), ..config(&network) };
    let plane = Plane::over(Disk::new(), identity_config(&network), config).await;
    let (first, second) = (network.victim(1), network.victim(2));
    plane.ingest.resync(&first).await.unwrap();
    let all = network.model(|model| model.records(&first).count()).unwrap();
    assert_eq!(plane.records(&first).await.len(), all);
    plane.ingest.refresh(&second).await.unwrap();
    assert_eq!(plane.handle(&second).await, Some(Some(network.account(&second).unwrap().facts.handle)));
    plane.settle(0).await;
    assert!(plane.handle(&first).await.flatten().is_some());
    assert!(matches!(plane.ingest.refresh("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").await, Err(Error::Absent(_))));
    assert!(matches!(plane.ingest.resync("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").await, Err(Error::Absent(_))));
    assert!(matches!(plane.ingest.refresh("nonsense").await, Err(Error::Invalid(_))));
    let status = plane.ingest.status();
    assert_eq!(
        (&status["firehose"]["seq"], &status["firehose"]["running"], &status["pending"]),
        (&0.into(), &false.into(), &0.into())
    );
    plane.stop().await;
}

/// A resync repairs what was lost and removes what does not belong.
#[tokio::test(flavor = "multi_thread")]
async fn a_resync_is_the_difference() {
    let network = network(63).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let did = network.victim(1);
    let whole = plane.records(&did).await;
    assert!(whole.len() > 2);
    // Damage behind the back of the repo's state.
    let (first, owner) = (whole.keys().next().unwrap().clone(), did.clone());
    plane
        .cx
        .writer
        .run(move |view| {
            let (collection, rkey) = first.split_once('/').unwrap();
            let mut applied = gp_index::apply::Applied::default();
            let delete = gp_index::apply::Op {
                action: gp_index::apply::Action::Delete,
                collection,
                rkey,
                cid: None,
                record: None,
            };
            gp_index::apply::apply_op(view, &owner, "", &delete, 0, &mut applied)?;
            let record = gp_atproto::json::to_cbor(&serde_json::json!({
                "$type": "app.bsky.feed.post", "text": "never said", "createdAt": "2026-01-01T00:00:00.000Z",
            }))
            .unwrap();
            let create = gp_index::apply::Op {
                action: gp_index::apply::Action::Create,
                collection: "app.bsky.feed.post",
                rkey: "3aaaaaaaaaaaa",
                cid: None,
                record: Some(&record),
            };
            gp_index::apply::apply_op(view, &owner, "", &create, 0, &mut applied)
        })
        .await
        .unwrap();
    assert_ne!(plane.records(&did).await, whole);
    plane.ingest.resync(&did).await.unwrap();
    assert_eq!(plane.records(&did).await, whole);
    let status = plane.ingest.status();
    assert_eq!((&status["resync"]["records_applied"], &status["resync"]["records_deleted"]), (&1.into(), &1.into()));
    // The chain goes on behind it.
    plane.expect(&network.post(&did, "and on").unwrap()).await;
    assert_eq!(plane.ingest.status()["resync"]["repos_read"], 1);
    plane.stop().await;
}

/// Events that come while a repo is being read are kept and applied behind it.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_during_a_resync_are_not_lost() {
    let network = network(64).await;
    let plane = Plane::start(&network).await;
    plane.settle(network.head_seq()).await;
    let did = network.victim(1);
    let read = |ingest: &gp_ingest::Ingest| ingest.status()["resync"]["running"].as_u64().unwrap();
    network.delay_requests(Some(("/xrpc/com.atproto.sync.getRepo", std::time::Duration::from_millis(300))));
    let job = tokio::spawn({
        let (ingest, did) = (plane.ingest.clone(), did.clone());
        async move { ingest.resync(&did).await }
    });
    plane.wait("the reading to begin", |ingest| read(ingest) == 1).await;
    let first = network.post(&did, "during").unwrap();
    let second = network.gap(&did, 1).unwrap();
    plane.expect(&first).await;
    plane.expect(&second).await;
    job.await.unwrap().unwrap();
    plane.expect_model(&network).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_takes_little_time_whatever_is_under_way() {
    let network = network(65).await;
    let config = Config { drain_max: std::time::Duration::from_millis(500), ..config(&network) };
    let plane = Plane::over(Disk::new(), identity_config(&network), config).await;
    network.delay_requests(Some(("/did:", std::time::Duration::from_secs(20))));
    plane.wait("events that wait for keys", |ingest| ingest.figures().events_in_flight > 10).await;
    let begun = std::time::Instant::now();
    let disk = plane.stop().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    network.delay_requests(None);
    let plane = Plane::over(disk, identity_config(&network), config_of(&network)).await;
    plane.settle(network.head_seq()).await;
    plane.expect_model(&network).await;
    plane.stop().await;
}

fn config_of(network: &gp_synth::Network) -> Config {
    config(network)
}

/// Repos of many pages, read without any events.
#[tokio::test(flavor = "multi_thread")]
async fn whole_repos_are_read_in_pages() {
    let network = crate::rig::network_with(66, |spec| spec.records = 3000).await;
    let config = Config { relay_urls: Vec::new(), ..config(&network) };
    let plane = Plane::over(Disk::new(), identity_config(&network), config).await;
    let mut largest = 0;
    for account in network.accounts() {
        let outcome = plane.ingest.resync(&account.facts.did).await;
        let did = &account.facts.did;
        // What a host keeps back is not read.
        assert_eq!(outcome.is_ok(), account.facts.status.is_none(), "{did}: {outcome:?}");
        let kept = plane.records(did).await;
        largest = largest.max(kept.len());
        let expected = network
            .model(|model| model.records(did).filter(|(path, cid)| kept.get(*path) != Some(cid)).count())
            .unwrap();
        assert!(outcome.is_err() || expected == 0, "{expected} records of {did} are missing");
    }
    assert!(largest > 400, "{largest} records are no pages");
    plane.settle(0).await;
    plane.stop().await;
}
