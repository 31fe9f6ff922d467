//! Two engines that were given the same batches hold the same rows.

use gp_store::{
    Batch, Config, Store,
    conformance::{Seeded, TABLES, partition},
    digest,
    engine::lsm::{Lsm, LsmConfig},
};

#[test]
fn the_same_batches_leave_the_same_digest_in_every_engine_and_across_restarts() {
    let ids: Vec<u8> = TABLES.iter().map(|t| t.id).collect();
    let dir = tempfile::tempdir().unwrap();
    let mem = Store::mem(&TABLES);
    let open = || Store::lsm(dir.path(), &TABLES, &Config::default()).unwrap();
    let mut seeded = Seeded::new(31);
    for round in 0..4 {
        let lsm = open();
        for _ in 0..200 {
            let mut batch = Batch::new();
            for _ in 0..20 {
                let table = TABLES[seeded.below(TABLES.len())];
                let key = partition(table, &[u8::try_from(seeded.below(5)).unwrap()]).at(&seeded.position());
                if seeded.once_in(3) {
                    batch.delete(key)
                } else {
                    batch.put(key, seeded.any().to_be_bytes().to_vec())
                };
            }
            mem.apply_now(&batch).unwrap();
            lsm.apply_now(&batch).unwrap();
        }
        let wanted = digest(&mem, &ids).unwrap();
        assert!(wanted.iter().all(|d| d.rows > 20), "{wanted:?}");
        assert_eq!(digest(&lsm, &ids).unwrap(), wanted, "round {round}");
        drop(lsm);
        if round % 2 == 0 {
            let lsm =
                Lsm::open(&LsmConfig { dir: dir.path().to_owned(), block_cache_bytes: 1 << 20, disk_reserve_bytes: 0 })
                    .unwrap();
            lsm.flush().unwrap();
        }
        assert_eq!(digest(&open(), &ids).unwrap(), wanted, "round {round}, opened again");
    }
    let mut batch = Batch::new();
    batch.put(partition(TABLES[0], b"one").head(), b"more".to_vec());
    let before = digest(&mem, &ids).unwrap();
    mem.apply_now(&batch).unwrap();
    let after = digest(&mem, &ids).unwrap();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
}
