//! What a history is made of.

use std::collections::{BTreeMap, HashMap, HashSet};

use gp_atproto::{
    Tid,
    frame::{Action, Message},
    repo::Repo,
};
use groundplane_synth::{Error, Network, Size, Spec};
use sha2::{Digest, Sha256};

use crate::{
    NOW_US,
    consumer::{Consumer, is_versioned, key, now_us},
    start, tiny,
};

fn hash_of(network: &Network) -> String {
    let mut hash = Sha256::new();
    for (seq, frame) in network.frames() {
        hash.update(seq.to_be_bytes());
        hash.update(&frame);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_seed_gives_the_same_bytes_whatever_the_number_of_threads() {
    let one = start(Spec { threads: 1, ..tiny(7) }).await;
    let three = start(Spec { threads: 3, ..tiny(7) }).await;
    assert_eq!(hash_of(&one), hash_of(&three));
    assert_eq!(one.labels(), three.labels());
    assert_ne!(hash_of(&one), hash_of(&start(tiny(8)).await));
    // Nor does it matter where the frames are kept.
    let folder = tempfile::tempdir().unwrap();
    let spilled = start(Spec { spill_to: Some(folder.path().to_owned()), ..tiny(7) }).await;
    assert_eq!(hash_of(&one), hash_of(&spilled));
    // What comes after the history is as repeatable.
    assert_eq!(one.tick(50, NOW_US + 1), three.tick(50, NOW_US + 1));
    assert_eq!(hash_of(&one), hash_of(&three));
    spilled.tick(50, NOW_US + 1);
    assert_eq!(hash_of(&one), hash_of(&spilled));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_verifies_and_leads_to_what_the_oracle_says() {
    let network = start(Spec::new(Size::Custom { accounts: 120, records: 5_000 }, 1, NOW_US)).await;
    let mut consumer = Consumer::default();
    consumer.catch_up(&network);
    assert_eq!((consumer.refused.len(), consumer.resyncs), (0, 0), "{:?}", consumer.refused.first());
    assert_eq!(consumer.seq, network.head_seq());
    assert!(consumer.commits > 3_000);
    network.tick(300, NOW_US + 1_000_000);
    consumer.catch_up(&network);
    assert_eq!((consumer.refused.len(), consumer.resyncs), (0, 0), "{:?}", consumer.refused.first());

    let mut compared = 0;
    for account in network.accounts() {
        let did = &account.facts.did;
        let known = &consumer.repos[did];
        let model: BTreeMap<String, _> =
            network.model(|model| model.records(did).map(|(path, cid)| (path.to_owned(), *cid)).collect()).unwrap();
        assert_eq!(known.records, model, "{did}");
        assert_eq!(known.state, network.repo_state(did));
        assert_eq!(known.status, account.facts.status);
        assert_eq!(known.status, network.model(|model| model.account_status(did).map(str::to_owned)).unwrap());
        compared += model.len();
    }
    assert!(compared > 4_000, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_verify_and_hold_the_newest_commit() {
    let network = start(tiny(3)).await;
    let mut exported = 0;
    for account in network.accounts() {
        let did = &account.facts.did;
        if account.facts.status.as_deref() == Some("deleted") {
            assert_eq!((network.repo_car(did), account.facts.head), (None, None));
            continue;
        }
        let car = network.repo_car(did).unwrap();
        let repo = Repo::verify(&car, did, &key(&network, did), now_us(&network)).unwrap();
        assert_eq!(Some(repo.state()), network.repo_state(did));
        let kept = |it: &str| gp_atproto::lexicon::is_known_collection(it) || is_versioned(it);
        let known = repo.records().filter(|it| kept(it.collection)).count();
        let model = network.model(|model| model.records(did).count()).unwrap();
        assert!(known >= model && known <= model + 1, "the one that is over limits: {known} {model}");
        exported += repo.len();
    }
    assert!(exported > 1_500, "{exported}");
}

#[tokio::test(flavor = "multi_thread")]
async fn even_the_smallest_network_has_everything() {
    let network = start(tiny(2)).await;
    let (mut collections, mut events) = (HashMap::<String, usize>::new(), HashMap::<&str, usize>::new());
    let (mut actions, mut batches, mut same_key) = (HashSet::new(), 0, 0);
    let (mut seqs, mut gaps) = (0, 0);
    for (seq, frame) in network.frames() {
        assert!(seq > seqs);
        gaps += usize::from(seqs > 0 && seq > seqs + 1);
        seqs = seq;
        let message = Message::decode(&frame).unwrap();
        let kind = match &message {
            Message::Commit(_) => "commit",
            Message::Sync(_) => "sync",
            Message::Identity(_) => "identity",
            Message::Account(_) => "account",
            other => panic!("{other:?}"),
        };
        *events.entry(kind).or_default() += 1;
        if let Message::Commit(commit) = message {
            batches += usize::from(commit.ops.len() > 1);
            let paths: HashSet<_> = commit.ops.iter().map(|op| op.path).collect();
            same_key += usize::from(paths.len() < commit.ops.len());
            for op in &commit.ops {
                *collections.entry(op.path.split('/').next().unwrap().to_owned()).or_default() += 1;
                actions.insert(op.action);
            }
        }
    }
    let missing: Vec<_> = gp_atproto::lexicon::collections()
        .filter(|it| !collections.contains_key(*it) && !it.starts_with("com.germnetwork") && !it.starts_with("site."))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(collections.keys().any(|it| !gp_atproto::lexicon::is_known_collection(it)));
    assert_eq!(actions, HashSet::from([Action::Create, Action::Update, Action::Delete]));
    assert!(events["identity"] > 50 && events["account"] > 54 && events["sync"] >= 49, "{events:?}");
    assert!(batches > 20 && gaps > 5 && same_key >= 1, "{batches} {gaps} {same_key}");

    let statuses: HashSet<_> = network.accounts().into_iter().map(|it| it.facts.status).collect();
    for status in ["deactivated", "takendown", "suspended", "deleted"] {
        assert!(statuses.contains(&Some(status.to_owned())), "{status}");
    }
    assert!(network.labels().iter().any(|label| label.neg));
}

#[tokio::test(flavor = "multi_thread")]
async fn proportions_are_those_of_the_real_network() {
    let spec = Spec { keep_blocks: false, ..Spec::new(Size::Custom { accounts: 1_000, records: 20_000 }, 5, NOW_US) };
    let network = start(spec).await;
    let stats = network.stats();
    let share = |part: u64| part as f64 / stats.written.records as f64;
    assert_eq!(stats.accounts, 1_000);
    assert!((0.86..0.90).contains(&share(stats.written.relations)), "{stats:?}");
    assert!((0.50..0.70).contains(&share(stats.written.likes)), "{stats:?}");
    assert!((0.15..0.28).contains(&share(stats.written.follows)), "{stats:?}");
    let ops = stats.written.records + stats.written.updates + stats.written.deletes;
    assert!((1.2..1.8).contains(&(ops as f64 / stats.written.commits as f64)), "{stats:?}");

    let picks = network.pick();
    network
        .model(|model| {
            let hub = model.counts(&picks.hub_did).followers;
            assert!((60..160).contains(&hub), "about a tenth follow the hub: {hub}");
            let reader = model.follows(&picks.reader_did);
            assert!(reader > 400 && model.dids().all(|did| model.follows(did) <= reader), "{reader}");
            let mut followers: Vec<u64> = model.dids().map(|did| model.counts(did).followers).collect();
            followers.sort_unstable();
            assert!(followers[500] <= 8 && followers[990] >= 20, "a long tail: {} {}", followers[500], followers[990]);
            let replies = model.counts(&picks.long_thread_uri).replies;
            assert!(replies >= 40, "half of the long thread answers its root: {replies}");
            assert!(model.counts(&picks.starter_pack_uri).joins > 5);
            assert!(model.counts(&picks.generator_uri).likes > 5);
            assert!(model.counts(&picks.list_uri).items > 5);
            assert!(model.record(&picks.hub_post_uri).is_some());
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn time_runs_to_the_end_of_the_history_and_on() {
    let spec = tiny(4);
    let network = start(spec.clone()).await;
    let mut last_us = 0;
    let mut revs: HashMap<String, Tid> = HashMap::new();
    for (_, frame) in network.frames() {
        let (time_us, did) = match Message::decode(&frame).unwrap() {
            Message::Commit(it) => {
                let last = revs.insert(it.repo.to_owned(), it.rev);
                assert!(last.is_none_or(|last| last < it.rev), "revisions grow");
                assert!(it.rev.micros() < it.time_us as u64 + 2_000_000, "no revision from the future");
                (it.time_us, it.repo)
            }
            Message::Sync(it) => (it.time_us, it.did),
            Message::Identity(it) => (it.time_us, it.did),
            Message::Account(it) => (it.time_us, it.did),
            other => panic!("{other:?}"),
        };
        assert!(time_us >= last_us && time_us >= spec.now_us - spec.span_us, "{did}");
        last_us = time_us;
    }
    assert!((NOW_US - 3_600_000_000..NOW_US + 60_000_000).contains(&last_us), "{}", NOW_US - last_us);
    let later_us = NOW_US + 5_000_000_000;
    let head = network.tick(20, later_us);
    assert_eq!(head, network.head_seq());
    let frames = network.frames();
    let Message::Commit(last) = Message::decode(&frames[frames.len() - 1].1).unwrap() else { return };
    assert!((later_us - 1_000..later_us + 5_000_000).contains(&last.time_us));
}

#[tokio::test]
async fn impossible_specs_are_refused() {
    let refused = |spec| async { matches!(Network::start(spec).await, Err(Error::Spec(_))) };
    assert!(refused(Spec::new(Size::Custom { accounts: 3, records: 10 }, 1, NOW_US)).await);
    assert!(refused(Spec { first_seq: 0, ..tiny(1) }).await);
    assert!(refused(Spec::new(Size::Tiny, 1, 5)).await);
    assert!(refused(Spec { web_dids: 49, ..tiny(1) }).await);
}
