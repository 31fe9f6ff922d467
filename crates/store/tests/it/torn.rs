//! What the engine's own threads do beside a batch does not tear it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gp_store::{
    Batch, Key, Scan,
    conformance::{PLAIN, partition},
    engine::{
        Local,
        lsm::{Lsm, LsmConfig},
    },
};

/// Memtables are flushed and table files merged all the time, while readers look for half a batch. A flush raises the
/// engine's number of what is visible, also past a batch that is still under way.
#[test]
fn flushes_and_merges_do_not_show_half_a_batch() {
    const ROWS: u8 = 200;
    let dir = tempfile::tempdir().unwrap();
    let lsm = Arc::new(
        Lsm::open(&LsmConfig { dir: dir.path().to_owned(), block_cache_bytes: 1 << 20, disk_reserve_bytes: 0 })
            .unwrap(),
    );
    let place = partition(&PLAIN, b"torn");
    let keys: Vec<Key> = (0..ROWS).map(|row| place.at(&[row])).collect();
    let version = |n: u64| {
        let mut batch = Batch::new();
        keys.iter().for_each(|key| batch.put(key.clone(), n.to_be_bytes().to_vec()));
        batch
    };
    lsm.apply(&version(0)).unwrap();
    let (ended, scans, flushes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _ended_on_panic = EndOnDrop(&ended);
        for reader in 0..2 {
            let (lsm, place, keys, ended, scans) = (&lsm, &place, &keys, &ended, &scans);
            scope.spawn(move || {
                let _ended_on_panic = EndOnDrop(ended);
                let mut last = 0;
                while !ended.load(Ordering::Acquire) {
                    let values: Vec<_> = match reader {
                        0 => lsm.scan(&Scan::of(place.clone())).unwrap().rows.into_iter().map(|r| r.value).collect(),
                        // The embedded engine reads the keys of one multi-get at one moment, too.
                        _ => lsm.get(keys).unwrap().into_iter().flatten().collect(),
                    };
                    let versions: BTreeSet<u64> =
                        values.iter().map(|v| u64::from_be_bytes(v[..].try_into().unwrap())).collect();
                    assert_eq!((values.len(), versions.len()), (ROWS.into(), 1), "half a batch: {versions:?}");
                    let now = *versions.first().unwrap();
                    assert!(now >= last, "back from {last} to {now}");
                    last = now;
                    scans.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            let _ended_on_panic = EndOnDrop(&ended);
            while !ended.load(Ordering::Acquire) {
                lsm.flush().unwrap();
                flushes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut n = 0;
        while !ended.load(Ordering::Acquire)
            && (n < 500 || scans.load(Ordering::Relaxed) < 500 || flushes.load(Ordering::Relaxed) < 20)
        {
            n += 1;
            lsm.apply(&version(n)).unwrap();
        }
    });
}

/// Lets the other threads end when one of them fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
