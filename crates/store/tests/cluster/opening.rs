//! What is said when a cluster cannot be used, and what is made when it can.

use std::time::{Duration, Instant};

use gp_store::{
    Batch, Config, Error, Store,
    conformance::{BESIDE, PLAIN, TABLES, partition},
    engine::cql::{Cql, CqlConfig},
};

use crate::ground::{CqlGround, ask};

fn refusal(config: &CqlConfig) -> String {
    match Cql::open(config, &TABLES) {
        Ok(_) => panic!("it was opened"),
        Err(e @ Error::Cluster { .. }) => e.to_string(),
        Err(e) => panic!("{e:?}"),
    }
}

#[test]
fn a_cluster_that_is_not_there_is_given_up_after_the_time_that_was_set() {
    let address = "cql://127.0.0.1:1,127.0.0.1:2/plane".parse().unwrap();
    let config = CqlConfig { address, login: None, tls: None, wait: Duration::from_millis(500), writes: true };
    let begun = Instant::now();
    let said = refusal(&config);
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert!(said.contains("127.0.0.1:1,127.0.0.1:2/plane") && said.contains("refused"), "{said}");
}

#[test]
#[ignore = "needs a cluster: cargo xtask conformance"]
fn an_unknown_keyspace_and_a_newer_format_are_told_at_once() {
    let ground = CqlGround::new();
    let mut config = ground.config();
    config.wait = Duration::from_secs(600);
    config.address.create = None;
    let said = refusal(&config);
    assert!(said.contains(&format!("CREATE KEYSPACE {}", ground.address.keyspace)), "{said}");

    drop(Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap());
    let keyspace = &ground.address.keyspace;
    ask(&ground.address, &format!("UPDATE {keyspace}.about SET value = '99' WHERE name = 'format'"));
    let said = refusal(&config);
    assert!(said.contains("has format 99, this program reads format 2"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn tables_are_added_to_a_keyspace_in_use_by_those_who_write_only() {
    let ground = CqlGround::new();
    let (plain, beside) = (partition(&PLAIN, b"p").head(), partition(&BESIDE, b"p").head());
    let mut batch = Batch::new();
    batch.put(plain.clone(), b"kept".to_vec());
    let old = Store::cql(&ground.config(), &[&PLAIN], &Config::default()).unwrap();
    old.apply_now(&batch).unwrap();
    drop(old);

    let mut reader = ground.config();
    (reader.writes, reader.wait) = (false, Duration::from_millis(100));
    let said = refusal(&reader);
    assert!(said.contains("no table") && said.contains("ingest"), "{said}");

    let new = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    batch.put(beside.clone(), b"more".to_vec());
    new.apply_now(&batch).unwrap();
    let reads = Store::cql(&reader, &TABLES, &Config::default()).unwrap();
    let answers = reads.get(&[beside, plain]).await.unwrap();
    assert_eq!(answers, [Some(b"more".to_vec().into()), Some(b"kept".to_vec().into())]);
    assert!(reads.apply_now(&batch).unwrap_err().to_string().contains("only reads"));
}
