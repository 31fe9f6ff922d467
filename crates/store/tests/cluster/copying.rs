//! Moving rows into a cluster and back.

use gp_store::{
    Batch, Config, Copied, CopyEnd, CopyProgress, CopyStep, Store, Table,
    conformance::{Seeded, TABLES, partition},
    copy, digest,
};

use crate::ground::CqlGround;

/// Names of the suite begin with their length.
fn partition_len(_: &Table, key: &[u8]) -> Option<usize> {
    key.first().map(|len| 1 + usize::from(*len))
}

fn open(ground: &CqlGround) -> Store {
    let tables: Vec<&'static Table> = TABLES.iter().chain(gp_store::TABLES).copied().collect();
    Store::cql(&ground.config(), &tables, &Config::default()).unwrap()
}

/// Copies, and stops after so many batches of every run until it is done.
fn copy_in_runs(from: &dyn Fn() -> Store, to: &dyn Fn() -> Store, batches: i32) -> u32 {
    for run in 1.. {
        let mut left = batches;
        let mut go_on = |progress: CopyProgress| {
            left -= i32::from(progress.step == CopyStep::Copy);
            left > 0
        };
        match copy(&from(), &to(), "there", partition_len, &mut go_on).unwrap() {
            CopyEnd::Stopped => assert!(run < 100),
            CopyEnd::Done(tables) => {
                assert!(tables.iter().all(Copied::is_same), "{tables:?}");
                return run;
            }
        }
    }
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn rows_come_through_a_cluster_and_back_as_they_were_also_with_stops_in_between() {
    let ground = CqlGround::new();
    let tables: Vec<&'static Table> = TABLES.iter().chain(gp_store::TABLES).copied().collect();
    let (mem, back) = (Store::mem(&tables), Store::mem(&tables));
    let mut seeded = Seeded::new(71);
    let mut batch = Batch::new();
    for n in 0..12_000_u32 {
        let name = (seeded.below(3_000) as u16).to_be_bytes();
        // One partition is wider than a batch of the copy.
        let place = if n % 2 == 0 { partition(TABLES[2], b"wide") } else { partition(TABLES[seeded.below(4)], &name) };
        batch.put(place.at(&n.to_be_bytes()), vec![7; seeded.below(100)]);
    }
    mem.apply_now(&batch).unwrap();
    let ids: Vec<u8> = TABLES.iter().map(|table| table.id).collect();
    let wanted = digest(&mem, &ids).unwrap();
    tokio::task::spawn_blocking(move || {
        let runs = copy_in_runs(&|| mem.clone(), &|| open(&ground), 2);
        assert!(runs > 1, "it was stopped at least once");
        copy_in_runs(&|| open(&ground), &|| back.clone(), 2);
        assert_eq!(digest(&back, &ids).unwrap(), wanted);
    })
    .await
    .unwrap();
}
