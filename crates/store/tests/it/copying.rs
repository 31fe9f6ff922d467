//! Moving rows from one store to another: both ways, stopped and gone on with, and refused where it must be.

use gp_store::{
    Batch, Config, CopyEnd, CopyProgress, CopyStep, Error, Store, Table,
    conformance::{Seeded, TABLES, partition},
    copy, digest,
};

/// Names of the suite begin with their length.
fn partition_len(_: &Table, key: &[u8]) -> Option<usize> {
    key.first().map(|len| 1 + usize::from(*len))
}

fn all_tables() -> Vec<&'static Table> {
    TABLES.iter().chain(gp_store::TABLES).copied().collect()
}

fn ids() -> Vec<u8> {
    TABLES.iter().map(|table| table.id).collect()
}

fn fill(store: &Store, rows: usize) {
    let mut seeded = Seeded::new(61);
    let mut batch = Batch::new();
    for n in 0..rows {
        let table = TABLES[seeded.below(TABLES.len())];
        let name = [u8::try_from(seeded.below(9)).unwrap()];
        let position = [seeded.position(), n.to_be_bytes().to_vec()].concat();
        let place = if n < 20 { partition(table, &name).head() } else { partition(table, &name).at(&position) };
        batch.put(place, vec![7; seeded.below(40)]);
    }
    store.apply_now(&batch).unwrap();
}

fn same(end: CopyEnd) -> bool {
    match end {
        CopyEnd::Done(tables) => tables.iter().all(gp_store::Copied::is_same),
        CopyEnd::Stopped => panic!("it stopped"),
    }
}

fn open(dir: &tempfile::TempDir) -> Store {
    Store::lsm(dir.path(), &all_tables(), &Config::default()).unwrap()
}

#[test]
fn rows_come_through_a_folder_and_back_as_they_were() {
    let (mem, back) = (Store::mem(&all_tables()), Store::mem(&all_tables()));
    fill(&mem, 30_000);
    let wanted = digest(&mem, &ids()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = open(&dir);
    let mut steps = Vec::new();
    let mut go_on = |progress: CopyProgress| {
        steps.push((progress.step, progress.rows, progress.rows_all));
        true
    };
    assert!(same(copy(&mem, &folder, "mem", partition_len, &mut go_on).unwrap()));
    let rows: u64 = wanted.iter().map(|it| it.rows).sum();
    let last = |step: CopyStep| *steps.iter().rfind(|(it, ..)| *it == step).unwrap();
    assert_eq!(last(CopyStep::Survey), (CopyStep::Survey, rows, 0));
    assert_eq!(last(CopyStep::Copy), (CopyStep::Copy, rows, rows));
    assert_eq!(last(CopyStep::Verify), (CopyStep::Verify, rows, rows));
    assert_eq!(digest(&folder, &ids()).unwrap(), wanted);
    drop(folder);
    assert!(same(copy(&open(&dir), &back, "folder", partition_len, &mut |_| true).unwrap()));
    assert_eq!(digest(&back, &ids()).unwrap(), wanted);
}

#[test]
fn a_copy_that_was_stopped_anywhere_goes_on_and_ends_the_same() {
    let mem = Store::mem(&all_tables());
    fill(&mem, 30_000);
    let wanted = digest(&mem, &ids()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut stops = 0;
    loop {
        // Each run gets a little further than the one before.
        let (folder, mut left) = (open(&dir), 3 + stops);
        let mut go_on = |_| {
            left -= 1;
            left > 0
        };
        match copy(&mem, &folder, "mem", partition_len, &mut go_on).unwrap() {
            CopyEnd::Stopped => stops += 1,
            CopyEnd::Done(tables) => {
                assert!(tables.iter().all(gp_store::Copied::is_same));
                assert_eq!(digest(&folder, &ids()).unwrap(), wanted);
                break;
            }
        }
        assert!(stops < 100);
    }
    assert!(stops > 3, "{stops}");
}

#[test]
fn a_destination_that_holds_something_else_is_refused_and_a_difference_is_told() {
    let (from, to) = (Store::mem(&all_tables()), Store::mem(&all_tables()));
    fill(&from, 5_000);
    let mut extra = Batch::new();
    extra.put(partition(TABLES[1], b"extra").head(), b"v".to_vec());
    to.apply_now(&extra).unwrap();
    let refused = |from: &Store, to: &Store, origin: &str| match copy(from, to, origin, partition_len, &mut |_| true) {
        Err(Error::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(&from, &to, "here");
    assert!(why.contains("not empty (table beside)"), "{why}");

    let to = Store::mem(&all_tables());
    let mut left = 2;
    let mut go_on = |progress: CopyProgress| {
        left -= i32::from(progress.step == CopyStep::Copy);
        left > 0
    };
    assert!(matches!(copy(&from, &to, "here", partition_len, &mut go_on), Ok(CopyEnd::Stopped)));
    let why = refused(&from, &to, "elsewhere");
    assert!(why.contains("part of a copy from here"), "{why}");
    // Somebody writes to the destination: it is seen.
    to.apply_now(&extra).unwrap();
    let CopyEnd::Done(tables) = copy(&from, &to, "here", partition_len, &mut |_| true).unwrap() else {
        panic!("it stopped");
    };
    let different: Vec<&str> = tables.iter().filter(|it| !it.is_same()).map(|it| it.table.name).collect();
    assert_eq!(different, ["beside"]);
}
