//! The network's repos read whole: from honest hosts, beside live events, over restarts, and from hosts that are none of
//! it.

use std::{collections::BTreeMap, time::Duration};

use gp_atproto::{
    Cid, Tid,
    car::CarWriter,
    commit::Commit,
    crypto::{Curve, SigningKey},
    mst::Builder,
};
use gp_ingest::{BackfillConfig, Config, Failure, FailuresFrom, RelayStart};
use gp_synth::Network;
use serde_json::json;

use crate::{
    hosts::{Host, Manner, Stage},
    rig::{Disk, Plane, config, identity_config, network, network_with},
    same,
};

const SOON: &[Duration] = &[Duration::from_millis(50)];

/// Tests do not wait minutes for a second attempt, nor are they polite.
fn eager(urls: Vec<String>) -> BackfillConfig {
    BackfillConfig {
        requests_per_host_second_max: 10_000.0,
        lookups_per_second_max: 10_000.0,
        retry_delays: SOON,
        attempts_max: 3,
        pass_pause_max: Duration::from_millis(20),
        ..BackfillConfig::new(urls)
    }
}

fn alone(network: &Network, backfill: BackfillConfig) -> Config {
    Config { relay_urls: Vec::new(), backfill: Some(backfill), ..config(network) }
}

async fn done(plane: &Plane) {
    plane.wait("the end of the backfill", |ingest| ingest.backfill_figures().unwrap().done).await;
    plane.wait("peace", |ingest| ingest.pending() == 0).await;
}

async fn failures(plane: &Plane) -> BTreeMap<String, Failure> {
    let (mut all, mut from) = (BTreeMap::new(), Some(FailuresFrom::default()));
    while let Some(next) = from {
        let (page, after) = plane.ingest.backfill_failures(next).await.unwrap();
        all.extend(page.into_iter().map(|failure| (failure.did.clone(), failure)));
        from = after;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_read_from_its_list_without_a_stream() {
    let network = network(300).await;
    let plane =
        Plane::over(Disk::new(), identity_config(&network), alone(&network, eager(vec![network.relay_url()]))).await;
    done(&plane).await;
    let figures = plane.ingest.backfill_figures().unwrap();
    assert_eq!((figures.left, figures.given_up, figures.reading), (0, 0, 0), "{:#}", plane.ingest.status());
    assert!(figures.lists_whole && figures.read >= 20 && figures.records > 300, "{figures:?}");
    assert_eq!(figures.listed, figures.read + figures.inactive + figures.overtaken + figures.refused);
    for did in network.model(|model| model.dids().map(str::to_owned).collect::<Vec<_>>()).unwrap() {
        if network.account(&did).unwrap().facts.status.is_some() {
            continue;
        }
        let said: BTreeMap<_, _> =
            network.model(|model| model.records(&did).map(|(path, cid)| (path.to_owned(), *cid)).collect()).unwrap();
        assert_eq!(plane.records(&did).await, said, "{did}");
    }
    // Once more: everything is there, and nothing is read.
    plane.ingest.backfill_again().await.unwrap();
    plane
        .wait("the lists once more", |ingest| {
            let figures = ingest.backfill_figures().unwrap();
            figures.done && figures.lists_whole
        })
        .await;
    let again = plane.ingest.backfill_figures().unwrap();
    assert_eq!((again.listed, again.read), (figures.listed, 0));
    assert_eq!(again.present + again.inactive + again.refused, again.listed, "{again:?}");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_followed_by_one_that_goes_on() {
    let network = network_with(301, |spec| spec.accounts = 60).await;
    let (stage, host) = (Stage::start(10).await, Host::start(Duration::from_millis(20)).await);
    for account in network.accounts().iter().filter(|account| account.facts.status.is_none()) {
        stage.put(&network, &account.facts.did, &host, Manner::Good);
    }
    let backfill = BackfillConfig { repos_per_host_max: 2, ..eager(vec![stage.url.clone()]) };
    let (disk, mut lives, mut read) = (Disk::new(), 0, 0);
    loop {
        let config = alone(&network, backfill.clone());
        let plane = Plane::over(disk.clone(), stage.identity_config(&network), config).await;
        let before = plane.ingest.backfill_figures().unwrap().read;
        assert!(before >= read, "what was read is not forgotten");
        plane
            .wait("some repos", |ingest| {
                let figures = ingest.backfill_figures().unwrap();
                figures.read >= before + 12 || figures.done
            })
            .await;
        read = before;
        lives += 1;
        if plane.ingest.backfill_figures().unwrap().done {
            done(&plane).await;
            let figures = plane.ingest.backfill_figures().unwrap();
            assert_eq!((figures.left, figures.given_up), (0, 0));
            for account in network.accounts().iter().filter(|account| account.facts.status.is_none()) {
                let did = &account.facts.did;
                let said = network.model(|model| model.records(did).count()).unwrap();
                assert_eq!(plane.records(did).await.len(), said, "{did}");
                assert_eq!(plane.repo(did).await.unwrap().rev, account.facts.head.unwrap().1.to_string());
            }
            plane.stop().await;
            break;
        }
        plane.die().await;
    }
    assert!(lives >= 3, "{lives}");
    // A page whose rows were not yet on the disk is asked for again, and no other.
    let least = network.accounts().iter().filter(|account| account.facts.status.is_none()).count().div_ceil(10);
    assert!((least..=least + lives).contains(&stage.pages()), "{} pages of {least}", stage.pages());
    // Two of the backfill; and two resyncs of what was being read when a process died.
    let at_once = host.at_once_most();
    assert!((1..=4).contains(&at_once), "{at_once} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_listed_with_the_reason_and_the_rest_goes_on() {
    let network = network(302).await;
    let stage = Stage::start(500).await;
    let (good, other) = (Host::start(Duration::ZERO).await, Host::start(Duration::ZERO).await);
    let accounts = network.accounts();
    let mut dids = accounts.iter().filter(|it| it.facts.status.is_none()).map(|it| it.facts.did.clone());
    let mut next = || dids.next().unwrap();

    let mut expected: BTreeMap<String, &str> = BTreeMap::new();
    let (damaged, cut, huge, slow, ill) = (next(), next(), next(), next(), next());
    let mut ill_host = Host::start(Duration::ZERO).await;
    for (did, manner, reason) in [
        (&damaged, Manner::Damaged, "corrupt"),
        (&cut, Manner::CutShort, "corrupt"),
        (&huge, Manner::Endless, "too_large"),
        (&slow, Manner::Trickles, "too_slow"),
        (&ill, Manner::Fails(500), "host_error"),
    ] {
        // A host each: five failures in a row would be the host's.
        let host = Host::start(Duration::ZERO).await;
        stage.put(&network, did, &host, manner);
        expected.insert(did.clone(), reason);
        ill_host = host;
    }
    // Signed with a key that the directory does not know of yet, and with one that nobody will ever know.
    let (rotated, forged) = (next(), next());
    let key_of = |did: &str| network.account(did).unwrap().facts.signing_key;
    stage.put(&network, &rotated, &good, Manner::Good);
    let (handle, key) = (network.account(&rotated).unwrap().facts.handle, key_of(&rotated));
    stage.set_documents(&rotated, &[(&handle, &key_of(&forged)), (&handle, &key)], &good.url);
    stage.put(&network, &forged, &other, Manner::Good);
    stage.set_documents(&forged, &[("x.demo.test", &key_of(&rotated))], &other.url);
    expected.insert(forged.clone(), "signature");
    // Nobody in the directory.
    let unknown = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".to_owned();
    stage.list(json!({"did": unknown, "head": "x", "rev": "3jzfcijpj2z2a"}));
    expected.insert(unknown, "identity");
    // Kept back by their hosts: that is no failure.
    let (down, sleeps, gone, told) = (next(), next(), next(), next());
    stage.put(&network, &down, &good, Manner::Refuses("RepoTakendown"));
    stage.put(&network, &sleeps, &good, Manner::Refuses("RepoDeactivated"));
    stage.put(&network, &gone, &good, Manner::Refuses("RepoNotFound"));
    stage.list(json!({"did": told, "head": "x", "rev": "3jzfcijpj2z2a", "active": false, "status": "suspended"}));
    // Junk in the list.
    stage.list(json!({"did": "no did", "rev": ""}));
    // Busy at first.
    let (busy, patient) = (next(), Host::start(Duration::ZERO).await);
    stage.put(&network, &busy, &patient, Manner::Busy(2));
    let fine = [next(), next(), rotated, busy];
    for did in &fine[..2] {
        stage.put(&network, did, &good, Manner::Good);
    }

    let backfill = eager(vec![stage.url.clone()]);
    let config = Config { repo_bytes_max: 1 << 20, repo_bytes_per_second_min: 100, ..alone(&network, backfill) };
    let plane = Plane::over(Disk::new(), stage.identity_config(&network), config).await;
    done(&plane).await;
    for did in &fine {
        let said = network.model(|model| model.records(did).count()).unwrap();
        assert_eq!(plane.records(did).await.len(), said, "{did}: {:#}", plane.ingest.status());
    }
    let found = failures(&plane).await;
    let reasons: BTreeMap<String, &str> = found.iter().map(|(did, failure)| (did.clone(), failure.reason)).collect();
    assert_eq!(reasons, expected, "{found:#?}");
    assert!(found.values().all(|failure| failure.next_at_us.is_none() && !failure.error.is_empty()), "{found:#?}");
    assert_eq!(found[&ill].attempts, 3);
    assert_eq!(patient.asked(), 3, "twice told to come again");
    for (did, status) in [(&down, "takendown"), (&sleeps, "deactivated"), (&told, "suspended"), (&gone, "")] {
        assert_eq!(plane.actor(did).await.unwrap().upstream_status, status, "{did}");
        assert!(plane.records(did).await.is_empty());
    }
    let figures = plane.ingest.backfill_figures().unwrap();
    assert_eq!((figures.refused, figures.inactive, figures.left), (3, 1, 0), "{figures:?}");
    assert_eq!(figures.given_up, expected.len() as u64);

    // One host is well again, another account's key is known now, and somebody asks for another try.
    assert_eq!(found[&ill].host, ill_host.url);
    ill_host.set(&ill, Manner::Good);
    stage.set_documents(&forged, &[(&network.account(&forged).unwrap().facts.handle, &key_of(&forged))], &other.url);
    assert_eq!(plane.ingest.backfill_retry().await.unwrap(), expected.len() as u64);
    let left = expected.len() as u64 - 2;
    plane.wait("the others to fail again", |ingest| ingest.backfill_figures().unwrap().given_up == left).await;
    done(&plane).await;
    assert!(!plane.records(&forged).await.is_empty() && !plane.records(&ill).await.is_empty());
    assert_eq!(failures(&plane).await.len() as u64, left);
    plane.stop().await;
}

/// The repo of an account that has liked so many posts, and its key.
fn large_repo(did: &str, likes: u64) -> (Vec<u8>, SigningKey, Tid) {
    let key = SigningKey::from_bytes(Curve::K256, &[0x11; 32]).unwrap();
    let (mut blocks, mut builder) = (Vec::new(), Builder::new());
    let at_us = 1_750_000_000_000_000;
    for n in 0..likes {
        let record = gp_atproto::json::to_cbor(&json!({
            "$type": "app.bsky.feed.like",
            "subject": {
                "uri": format!("at://did:plc:{:a<24}/app.bsky.feed.post/{}", "somebody", Tid::from_parts(n, 0)),
                "cid": Cid::for_dag_cbor(&n.to_be_bytes()).to_string(),
            },
            "createdAt": gp_atproto::datetime::format_ms(at_us as i64),
        }))
        .unwrap();
        let cid = Cid::for_dag_cbor(&record);
        let path = format!("app.bsky.feed.like/{}", Tid::from_parts(at_us + n, 0));
        blocks.push((cid, record));
        builder.push(path.as_bytes(), cid, &mut |cid, node| blocks.push((cid, node))).unwrap();
    }
    let data = builder.finish(&mut |cid, node| blocks.push((cid, node)));
    let rev = Tid::from_parts(at_us + likes, 0);
    let (root, commit) = Commit::create(did, rev, data, &key);
    let mut car = CarWriter::new(&[root]);
    car.block(root.as_ref(), &commit);
    for (cid, block) in &blocks {
        car.block(cid.as_ref(), block);
    }
    (car.finish(), key, rev)
}

/// One that does not fit into what is kept in memory, read from a file in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_repo_is_read_from_the_disk() {
    const LIKES: u64 = 12_000;
    let network = network(304).await;
    let (stage, host) = (Stage::start(500).await, Host::start(Duration::ZERO).await);
    let did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
    let (car, key, rev) = large_repo(did, LIKES);
    assert!(car.len() > 3 << 20, "{} bytes", car.len());
    host.give(did, car.clone());
    stage.list(json!({"did": did, "head": "x", "rev": rev.to_string()}));
    stage.set_documents(did, &[("large.demo.test", &key.verifying_key().to_multikey())], &host.url);
    let folder = tempfile::tempdir().unwrap();
    let backfill = eager(vec![stage.url.clone()]);
    let config = Config { spool_dir: folder.path().to_owned(), ..alone(&network, backfill.clone()) };
    let plane = Plane::over(Disk::new(), stage.identity_config(&network), config).await;
    done(&plane).await;
    let figures = plane.ingest.backfill_figures().unwrap();
    assert_eq!((figures.read, figures.records, figures.bytes), (1, LIKES, car.len() as u64), "{figures:?}");
    let ask = gp_proto::GetActorLikesRequest { actor_did: did.to_owned(), limit: 50, cursor: String::new() };
    assert_eq!(gp_index::likes::get_actor_likes(&plane.cx, ask).await.unwrap().likes.len(), 50);
    let counted = did.to_owned();
    let mut after = None;
    let mut kept = 0;
    loop {
        let (did, from) = (counted.clone(), after.take());
        let page = plane.cx.writer.run(move |view| gp_index::repos::records(view, &did, from.as_ref(), 5_000));
        let page = page.await.unwrap();
        kept += page.len() as u64;
        match page.last() {
            Some((collection, rkey, _)) => after = Some((collection.clone(), rkey.clone())),
            None => break,
        }
    }
    assert_eq!(kept, LIKES);
    plane.stop().await;
    // There is no folder to put it in: nothing is lost but this repo, and it says why.
    let config = Config { spool_dir: "/nonexistent/folder".into(), ..alone(&network, backfill) };
    let plane = Plane::over(Disk::new(), stage.identity_config(&network), config).await;
    done(&plane).await;
    assert_eq!(failures(&plane).await[did].reason, "own_disk");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_host_rests_as_a_whole_and_is_given_up_as_a_whole() {
    let network = network(303).await;
    let (stage, good) = (Stage::start(500).await, Host::start(Duration::ZERO).await);
    let accounts = network.accounts();
    let dids: Vec<String> =
        accounts.iter().filter(|it| it.facts.status.is_none()).map(|it| it.facts.did.clone()).collect();
    // Nobody listens there: the port was given back.
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let (lost, fine) = dids.split_at(10);
    for did in lost {
        stage.put_at(&network, did, &nobody);
    }
    for did in fine {
        stage.put(&network, did, &good, Manner::Good);
    }
    let backfill = BackfillConfig { host_patience: Duration::from_secs(2), ..eager(vec![stage.url.clone()]) };
    let plane = Plane::over(Disk::new(), stage.identity_config(&network), alone(&network, backfill)).await;
    plane.wait("the others", |ingest| ingest.backfill_figures().unwrap().read == fine.len() as u64).await;
    let figures = plane.ingest.backfill_figures().unwrap();
    assert_eq!((figures.hosts_resting, figures.done), (1, false), "{figures:?}");
    assert_eq!(plane.ingest.status()["backfill"]["resting"][0]["host"], *nobody);
    done(&plane).await;
    let found = failures(&plane).await;
    assert_eq!(found.len(), lost.len());
    assert!(found.values().all(|failure| failure.reason == "host_unreachable"), "{found:#?}");
    // Those under way when it was found out, and perhaps one that looked again: not each of them three times.
    let tried: u64 = plane.ingest.backfill_figures().unwrap().failed.iter().map(|(_, count)| count).sum();
    let given_up_untried = tried - lost.len() as u64;
    assert!(given_up_untried <= 6, "{given_up_untried} tries for {} repos", lost.len());
    plane.stop().await;
}

/// Live events and the backfill meet in the same repos, in other orders each time, and nothing is missing or counted
/// twice: the rows are those of somebody who saw all events.
#[tokio::test(flavor = "multi_thread")]
async fn live_events_and_the_backfill_end_as_live_events_alone() {
    for seed in [310, 311, 312] {
        let network = network(seed).await;
        // What a host keeps back cannot be read, so those who are away come back first.
        for account in network.accounts() {
            if account.facts.status.is_some_and(|status| status != "deleted") {
                network.set_status(&account.facts.did, None).unwrap();
            }
        }
        let backfill = BackfillConfig { repos_running_max: 3, ..eager(vec![network.relay_url()]) };
        let beside = Config { relay_start: RelayStart::Now, backfill: Some(backfill), ..config(&network) };
        // Slow enough for much to happen meanwhile.
        network.delay_requests(Some(("/xrpc/com.atproto.sync.getRepo", Duration::from_millis(30))));
        let plane = Plane::over(Disk::new(), identity_config(&network), beside).await;
        let mut ticks = 0;
        while !plane.ingest.backfill_figures().unwrap().done || ticks < 20 {
            network.tick(8, gp_index::system_now_us());
            ticks += 1;
            assert!(ticks < 2000, "{:#}", plane.ingest.status());
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        network.delay_requests(None);
        plane.settle(network.head_seq()).await;
        let live = Plane::start(&network).await;
        live.settle(network.head_seq()).await;
        live.expect_model(&network).await;
        let dids: Vec<String> = network.model(|model| model.dids().map(str::to_owned).collect()).unwrap();
        for did in &dids {
            assert_eq!(plane.records(did).await, live.records(did).await, "{did}: {:#}", plane.ingest.status());
            assert_eq!(plane.handle(did).await, live.handle(did).await, "{did}");
            assert_eq!(plane.repo(did).await, live.repo(did).await, "{did}");
        }
        let (ours, theirs) = (same::said(&plane).await, same::said(&live).await);
        let gated = ours.gated.union(&theirs.gated).cloned().collect();
        let (ours, theirs) = (ours.without(&gated), theirs.without(&gated));
        let (more, less): (Vec<_>, Vec<_>) = (ours.difference(&theirs).collect(), theirs.difference(&ours).collect());
        assert!(ours.len() > 2000, "{}", ours.len());
        assert!(more.is_empty() && less.is_empty(), "seed {seed}: only here {more:#?}, only there {less:#?}");
        plane.stop().await;
        live.stop().await;
    }
}
