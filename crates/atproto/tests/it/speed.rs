//! What each step of reading the network costs. Run with
//! `cargo test --release -p groundplane-atproto --test it speed -- --ignored --nocapture`.

use std::{hint::black_box, time::Instant};

use groundplane_atproto::{
    car::{Car, EVENT_BLOCKS_MAX},
    cbor,
    commit::Commit,
    crypto::Curve,
    frame::Message,
    json,
    mst::{Change, Partial},
    repo::Repo,
    verify::{check_commit, verify_commit},
};

use crate::world::{Account, DID, NOW_US, path, record};

/// The time this thread has spent on a processor, where the system tells; else the time that went by.
fn cpu_ns(start: Instant) -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let told = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    told.unwrap_or_else(|| start.elapsed().as_nanos() as u64)
}

/// Runs `work` until half a second has passed and prints the processor time of one run.
#[expect(clippy::print_stderr, reason = "a benchmark exists to print")]
fn measure<T>(what: &str, mut work: impl FnMut() -> T) {
    for _ in 0..3 {
        black_box(work());
    }
    let (start, mut runs, mut batch) = (Instant::now(), 0u64, 1u64);
    let begun = cpu_ns(start);
    while start.elapsed().as_millis() < 500 {
        for _ in 0..batch {
            black_box(work());
        }
        runs += batch;
        batch = (batch * 2).min(4096);
    }
    let ns = (cpu_ns(start) - begun) as f64 / runs as f64;
    eprintln!("{what:<52} {ns:>12.0} ns");
}

#[test]
#[ignore = "a benchmark, not a check"]
#[expect(clippy::print_stderr, reason = "a benchmark exists to print")]
fn steps_of_a_commit() {
    for curve in [Curve::K256, Curve::P256] {
        let mut account = Account::with_records(curve, 2_000);
        let stored = account.state();
        let event = account.commit(&[(path(5_000), Some(record(5_000)))]);
        let blocks = event.car();
        let frame = Message::Commit(event.message(&blocks)).encode();
        let key = account.verifying_key();
        eprintln!(
            "{curve:?}: frame of {} bytes, CAR of {} bytes, {} blocks",
            frame.len(),
            blocks.len(),
            event.blocks.len()
        );
        let Ok(Message::Commit(message)) = Message::decode(&frame) else { panic!() };
        let car = Car::parse(&blocks, EVENT_BLOCKS_MAX).unwrap();
        let block = car.get(&event.commit).unwrap();
        let commit = Commit::decode(block).unwrap();
        let change = Change { key: event.ops[0].1.as_bytes(), before: None, after: event.ops[0].2 };

        measure("decode frame", || Message::decode(&frame).is_ok());
        measure("CAR: slice and hash all blocks", || Car::parse(&blocks, EVENT_BLOCKS_MAX).is_ok());
        measure("decode commit", || Commit::decode(block).is_ok());
        measure("inversion", || Partial::new(account.tree.root(), &car).invert([change]).is_ok());
        measure("signature", || commit.verify_signature(&key).is_ok());
        measure("check_commit, all of it", || check_commit(&message, &key, NOW_US).is_ok());
        measure("verify_commit of a stale commit", || {
            verify_commit(&message, &key, Some(&account.state()), NOW_US).is_err()
        });
        assert!(verify_commit(&message, &key, Some(&stored), NOW_US).is_ok());
    }
}

#[test]
#[ignore = "a benchmark, not a check"]
#[expect(clippy::print_stderr, reason = "a benchmark exists to print")]
fn steps_of_a_record() {
    let post = record(1);
    let value = cbor::decode(&post).unwrap();
    eprintln!("record of {} bytes", post.len());
    let mut out = Vec::with_capacity(4096);
    measure("decode record", || cbor::decode(&post).is_ok());
    measure("check record", || cbor::check(&post).is_ok());
    measure("encode record", || cbor::encode(&value).len());
    measure("JSON from CBOR", || {
        out.clear();
        json::write_cbor(&post, &mut out).is_ok()
    });
    measure("JSON from a value", || {
        out.clear();
        json::write(&value, &mut out);
        out.len()
    });
}

#[test]
#[ignore = "a benchmark, not a check"]
#[expect(clippy::print_stderr, reason = "a benchmark exists to print")]
fn whole_repository() {
    let account = Account::with_records(Curve::K256, 12_000);
    let bytes = account.export();
    eprintln!("repository of {} bytes, 12,000 records", bytes.len());
    let key = account.verifying_key();
    measure("CAR: slice and hash all blocks", || Car::parse(&bytes, 1_000_000).is_ok());
    measure("verify the repository", || Repo::verify(&bytes, DID, &key, NOW_US).is_ok());
}
