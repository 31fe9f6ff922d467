//! Each fault, and an ideal consumer that copes.

use groundplane_synth::{Happened, Network};

use crate::{NOW_US, consumer::Consumer, start, tiny, victims};

struct Case {
    network: Network,
    consumer: Consumer,
}

impl Case {
    async fn new(seed: u64) -> Case {
        let network = start(tiny(seed)).await;
        let mut consumer = Consumer::default();
        consumer.catch_up(&network);
        assert!(consumer.refused.is_empty());
        Case { network, consumer }
    }

    /// Lets the consumer read what happened and checks that it ends where it should, having needed what it should.
    #[track_caller]
    fn copes(&mut self, name: &str, happened: Happened) {
        let (refused, resyncs) = (self.consumer.refused.len() as u64, self.consumer.resyncs);
        self.consumer.catch_up(&self.network);
        assert_eq!(self.consumer.seq, happened.seq, "{name}");
        let newly_refused = self.consumer.refused.len() as u64 - refused;
        assert_eq!(newly_refused, happened.refused_events, "{name}: {:?}", self.consumer.refused.last());
        assert_eq!(self.consumer.resyncs > resyncs, happened.needs_resync, "{name}");
        assert!(
            !happened.present.is_empty() || !happened.absent.is_empty() || !happened.handles.is_empty(),
            "{name}: says something"
        );
        let records = &self.consumer.repos[&happened.did].records;
        let path =
            |uri: &str| uri.split_once("/app.").map_or_else(|| panic!("{uri}"), |(_, rest)| format!("app.{rest}"));
        for (uri, cid) in &happened.present {
            assert_eq!(records.get(&path(uri)), Some(cid), "{name}: {uri} shows");
        }
        for uri in &happened.absent {
            assert_eq!(records.get(&path(uri)), None, "{name}: {uri} does not show");
        }
        // And in the whole, the oracle and the consumer agree on the account.
        let model: Vec<_> = self
            .network
            .model(|model| model.records(&happened.did).map(|(path, cid)| (path.to_owned(), *cid)).collect())
            .unwrap();
        assert_eq!(records.clone().into_iter().collect::<Vec<_>>(), model, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ideal_consumer_copes_with_every_fault() {
    let mut case = Case::new(31).await;
    let victim = |case: &Case, n: u64| case.network.victim(n);
    macro_rules! each {
        ($($method:ident($($argument:expr),*)),* $(,)?) => {
            // Twice, with other victims, and with the network going on in between.
            for round in 0..2u64 {
                let mut number = round * 100;
                $(
                    number += 1;
                    let did = victim(&case, number);
                    let happened = case.network.$method(&did $(, $argument)*).unwrap();
                    case.copes(concat!(stringify!($method), " ", stringify!($($argument),*)), happened);
                )*
                case.network.tick(40, NOW_US + 1_000_000 * (round as i64 + 1));
                case.consumer.catch_up(&case.network);
            }
        };
    }
    each!(
        wrong_signature(),
        rev_from_the_future(),
        oversized_frame(2_100_000),
        oversized_frame(5_100_000),
        truncated_car(),
        empty_car(),
        forged_record(),
        missing_proof_node(),
        wrong_prev(),
        wrong_prev_data(),
        gap(1),
        gap(5),
        record_over_limits(),
        empty_commit(),
        legacy_commit(),
        duplicated_event(),
        migrate(),
        rotate_key(true),
        rotate_key(false),
        post("nothing special"),
    );
    assert!(case.consumer.resyncs >= 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_not_brought_back_by_a_replay() {
    let mut case = Case::new(32).await;
    let did = case.network.victim(1);
    let post = case.network.post(&did, "soon gone").unwrap().present[0].0.clone();
    let deleted = case.network.delete(&post).unwrap();
    assert_eq!(deleted.absent, std::slice::from_ref(&post));
    case.copes("delete", deleted);
    let mut replayed = case.network.replay_old_events(&did, 6).unwrap();
    assert!(replayed.refused_events >= 4);
    replayed.absent.push(post);
    case.copes("replay", replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_come_and_go_and_deletion_erases() {
    let mut case = Case::new(33).await;
    let did = case.network.victim(3);
    for status in [Some("deactivated"), None, Some("takendown"), Some("suspended"), None] {
        case.network.set_status(&did, status).unwrap();
        case.consumer.catch_up(&case.network);
        assert_eq!(case.consumer.repos[&did].status.as_deref(), status);
        assert_eq!(case.network.post(&did, "may I?").is_ok(), status.is_none());
        case.consumer.catch_up(&case.network);
    }
    let frames_of = |network: &Network| {
        network.frames().iter().filter(|(_, frame)| gp_atproto::frame::peek(frame).did == Some(&did)).count()
    };
    assert!(frames_of(&case.network) > 5);
    let before = case.network.frames().len();
    let gone = case.network.set_status(&did, Some("deleted")).unwrap();
    assert!(!gone.absent.is_empty());
    case.copes("deletion", gone);
    assert_eq!(frames_of(&case.network), 1, "only the deletion is left");
    assert!(case.network.frames().len() < before);
    assert!(case.network.repo_car(&did).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_change_and_are_fought_over() {
    let mut case = Case::new(34).await;
    let [winner, loser] = victims(&case.network);
    let changed = case.network.change_handle(&loser, "coveted.demo.test").unwrap();
    assert_eq!(changed.handles, [(loser.clone(), Some("coveted.demo.test".to_owned()))]);
    case.copes("change of handle", changed);
    let contended = case.network.contend_handle(&winner, &loser).unwrap();
    assert_eq!(contended.handles, [(winner.clone(), Some("coveted.demo.test".to_owned())), (loser.clone(), None)]);
    case.copes("contended handle", contended);
    let model = |did: &str| case.network.model(|model| model.handle(did).map(str::to_owned)).unwrap();
    assert_eq!(model(&winner).as_deref(), Some("coveted.demo.test"));
    assert_eq!(model(&loser), None);
    // Both documents claim it.
    for did in [&winner, &loser] {
        assert_eq!(case.network.account(did).unwrap().facts.handle, "coveted.demo.test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_none_are_passed_over() {
    let mut case = Case::new(35).await;
    let garbage = case.network.garbage_frame();
    let unknown = case.network.unknown_message();
    let did = case.network.victim(1);
    let happened = case.network.post(&did, "after the storm").unwrap();
    case.consumer.catch_up(&case.network);
    let refused: Vec<i64> = case.consumer.refused.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(refused, [garbage, unknown]);
    assert_eq!(case.consumer.seq, happened.seq);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_written_updated_and_refused() {
    use serde_json::json;
    let mut case = Case::new(36).await;
    let did = case.network.victim(5);
    let record = json!({ "$type": "app.bsky.feed.post", "text": "one", "createdAt": "2026-06-01T00:00:00.000Z" });
    let created = case.network.create(&did, &record).unwrap();
    let uri = created.present[0].0.clone();
    case.copes("create", created);
    let mut edited = record.clone();
    edited["text"] = "two".into();
    case.copes("update", case.network.update(&uri, &edited).unwrap());
    edited["text"] = "x".repeat(400).into();
    assert!(case.network.update(&uri, &edited).is_err());
    assert!(case.network.create(&did, &json!({ "$type": "com.example.unknown" })).is_err());
    assert!(case.network.create("did:plc:nobody", &record).is_err());
    assert!(case.network.delete(&format!("{uri}x")).is_err());
    case.copes("delete", case.network.delete(&uri).unwrap());
    assert!(case.network.delete(&uri).is_err());
    case.consumer.catch_up(&case.network);
    assert!(case.consumer.refused.is_empty());
}
