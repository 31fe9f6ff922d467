//! Processes that only read, and what they keep in memory while another one writes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use gp_store::{
    Batch, Config, Key, Store,
    conformance::{KEPT, TABLES, partition},
};

use crate::ground::CqlGround;

/// How far a reader may be behind before the test says that it does not follow.
const PATIENCE: Duration = Duration::from_secs(20);

fn put(store: &Store, key: &Key, value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key.clone(), value.to_vec());
    store.apply_now(&batch).unwrap();
}

async fn until_it_reads(reader: &Store, key: &Key, wanted: &[u8]) {
    let begun = Instant::now();
    loop {
        let found = reader.get_one(key).await.unwrap();
        if found.as_deref() == Some(wanted) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{found:?} is still answered, and not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until an answer comes from memory.
async fn until_it_is_kept(reader: &Store, key: &Key) -> Option<Bytes> {
    let begun = Instant::now();
    loop {
        let hits = reader.figures().near_hits;
        let found = reader.get_one(key).await.unwrap();
        if reader.figures().near_hits > hits {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn a_reader_forgets_what_the_writer_changes() {
    let ground = CqlGround::new();
    let writer = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    let (key, absent) = (partition(&KEPT, b"p").head(), partition(&KEPT, b"absent").head());
    put(&writer, &key, b"0");
    let mut config = ground.config();
    config.writes = false;
    let reader = Store::cql(&config, &TABLES, &Config::default()).unwrap();
    for n in 1..=5_u8 {
        assert!(until_it_is_kept(&reader, &key).await.is_some());
        assert_eq!(until_it_is_kept(&reader, &absent).await, None);
        put(&writer, &key, &[n]);
        until_it_reads(&reader, &key, &[n]).await;
    }
    put(&writer, &absent, b"there");
    until_it_reads(&reader, &absent, b"there").await;
    assert!(reader.silence().is_some_and(|silence| silence < PATIENCE));
    assert!(writer.silence().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn a_reader_follows_from_one_writer_to_the_next_and_over_more_than_the_journal_holds() {
    let ground = CqlGround::new();
    let key = partition(&KEPT, b"p").head();
    let first = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    put(&first, &key, b"first");
    let mut config = ground.config();
    config.writes = false;
    let reader = Store::cql(&config, &TABLES, &Config::default()).unwrap();
    until_it_is_kept(&reader, &key).await;
    drop(first);
    let second = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    put(&second, &key, b"second");
    until_it_reads(&reader, &key, b"second").await;
    // Once round the ring: slots are used again, and what is told of them is what is in them now.
    for n in 0..600_u32 {
        put(&second, &key, &n.to_be_bytes());
    }
    until_it_reads(&reader, &key, &599_u32.to_be_bytes()).await;
    assert_eq!(until_it_is_kept(&reader, &key).await.as_deref(), Some(&599_u32.to_be_bytes()[..]));
}
