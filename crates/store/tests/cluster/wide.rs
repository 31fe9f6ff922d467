//! Partitions with far more rows than one bucket holds.

use std::time::{Duration, Instant};

use gp_store::{
    Batch, Cache, Config, Key, Partition, Scan, Store, Table,
    conformance::{Seeded, partition, shown},
    digest,
};

use crate::ground::CqlGround;

/// How many rows the largest partition gets, unless the environment says more.
const ROWS: u64 = 20_000;
const ROWS_VARIABLE: &str = "GROUNDPLANE_TEST_WIDE_ROWS";

/// Copies of rows that were cut away stand where they were for half a minute. What comes on top is a busy machine's.
const COPIES_GONE_WITHIN: Duration = Duration::from_secs(60);

/// A table whose partitions are cut early.
static NARROW: Table = Table {
    id: 21,
    name: "narrow",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::Near,
    bucket_rows: Some(40),
};

/// A table as the widest ones of the index are.
static WIDE: Table = Table {
    id: 22,
    name: "wide",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::Never,
    bucket_rows: Some(50_000),
};

static TABLES: [&Table; 2] = [&NARROW, &WIDE];

fn row(n: usize) -> Vec<u8> {
    // Scattered, so that rows come into all buckets at any time.
    (n as u32).wrapping_mul(0x9e37_79b1).to_be_bytes().to_vec()
}

/// Where the n-th follower is: a kind, a time with later ones first, somebody.
fn follower(n: u64) -> Vec<u8> {
    let time = (1_700_000_000_000_000 + n * 1_000).to_be_bytes();
    [&[8][..], &time.map(|byte| !byte), &[0; 20]].concat()
}

/// Puts followers in turn, so that each cut is one of the base, and says how many rows its largest bucket may have.
fn put_followers(store: &Store, count: u64, together: u64) -> u64 {
    let wide = partition(&NARROW, b"followers");
    for first in (0..count).step_by(together as usize) {
        let mut batch = Batch::new();
        (first..first + together).for_each(|n| batch.put(wide.at(&follower(n)), n.to_be_bytes().to_vec()));
        store.apply_now(&batch).unwrap();
    }
    2 * u64::from(NARROW.bucket_rows.unwrap()) + together
}

/// The largest bucket once it is within its bound, or after long enough.
async fn largest_after_copies_went(ground: &mut CqlGround, table: &str, bound: u64) -> u64 {
    let begun = Instant::now();
    loop {
        let largest = ground.largest_bucket(table);
        if largest <= bound || begun.elapsed() > COPIES_GONE_WITHIN {
            return largest;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn copies_go_when_nothing_more_is_put() {
    let mut ground = CqlGround::new();
    let store = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    let bound = put_followers(&store, 600, 20);
    let buckets = ground.count(&format!("SELECT DISTINCT p, b FROM {}.narrow_buckets", ground.address.keyspace));
    assert!(buckets >= 600 / bound, "{buckets} buckets");
    let largest = largest_after_copies_went(&mut ground, "narrow_buckets", bound).await;
    assert!(largest <= bound, "{largest} rows in a bucket of {bound}");
    let all = store.scan(Scan::of(partition(&NARROW, b"followers")).limit(1_000)).await.unwrap();
    assert_eq!(all.rows.len(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn copies_go_when_their_writer_has_ended() {
    let mut ground = CqlGround::new();
    let store = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    let bound = put_followers(&store, 600, 20);
    drop(store);
    let successor = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    // Whoever writes once is the writer, and has the rest of the work too.
    let mut batch = Batch::new();
    batch.put(partition(&NARROW, b"other").at(&[1]), vec![1]);
    successor.apply_now(&batch).unwrap();
    let largest = largest_after_copies_went(&mut ground, "narrow_buckets", bound).await;
    assert!(largest <= bound, "{largest} rows in a bucket of {bound}");
    let all = successor.scan(Scan::of(partition(&NARROW, b"followers")).limit(1_000)).await.unwrap();
    assert_eq!(all.rows.len(), 600);
}

async fn agree(cluster: &Store, model: &Store, wide: &Partition, seeded: &mut Seeded) {
    for _ in 0..12 {
        let mut scan = Scan::of(wide.clone()).limit(1 + seeded.below(300));
        if seeded.once_in(2) {
            scan = scan.after(row(seeded.below(1_500)));
        }
        if seeded.once_in(2) {
            scan = scan.before(row(seeded.below(1_500)));
        }
        if seeded.once_in(3) {
            scan = scan.prefix([u8::try_from(seeded.below(256)).unwrap()]);
        }
        if seeded.once_in(2) {
            scan = scan.reverse();
        }
        let (found, wanted) = (cluster.scan(scan.clone()).await.unwrap(), model.scan(scan.clone()).await.unwrap());
        assert_eq!((shown(&found), found.more), (shown(&wanted), wanted.more), "{scan:?}");
    }
    let keys: Vec<Key> = (0..200).map(|_| wide.at(&row(seeded.below(1_500)))).chain([wide.head()]).collect();
    assert_eq!(cluster.get(&keys).await.unwrap(), model.get(&keys).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
async fn a_partition_that_is_cut_again_and_again_reads_as_one() {
    let mut ground = CqlGround::new();
    let model = Store::mem(&TABLES);
    let (wide, small) = (partition(&NARROW, b"wide"), partition(&NARROW, b"small"));
    let mut seeded = Seeded::new(51);
    let open = |ground: &CqlGround| Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    let mut writer = open(&ground);
    let mut reader = ground.config();
    reader.writes = false;
    let reader = Store::cql(&reader, &TABLES, &Config::default()).unwrap();
    for round in 0..24_u64 {
        let mut batch = Batch::new();
        for _ in 0..60 {
            let key = wide.at(&row(seeded.below(1_500)));
            if seeded.once_in(4) { batch.delete(key) } else { batch.put(key, round.to_be_bytes().to_vec()) }
        }
        batch.put(wide.head(), round.to_be_bytes().to_vec());
        batch.put(small.at(&row(seeded.below(20))), b"small".to_vec());
        writer.apply_now(&batch).unwrap();
        model.apply_now(&batch).unwrap();
        if round % 6 == 5 {
            agree(&writer, &model, &wide, &mut seeded).await;
            agree(&writer, &model, &small, &mut seeded).await;
            // Another writer knows where everything is.
            drop(writer);
            writer = open(&ground);
        }
    }
    // Keys in memory of the reader follow a moment later; ranges are always asked.
    tokio::time::sleep(Duration::from_millis(500)).await;
    agree(&reader, &model, &wide, &mut seeded).await;
    assert_eq!(digest(&writer, &[NARROW.id]).unwrap(), digest(&model, &[NARROW.id]).unwrap());
    let buckets = ground.count(&format!("SELECT DISTINCT p, b FROM {}.narrow_buckets", ground.address.keyspace));
    assert!((10..200).contains(&buckets), "{buckets} buckets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask conformance"]
#[allow(clippy::print_stdout, reason = "a long run says how far it is")]
async fn the_widest_partition_stays_within_the_bound_of_its_buckets() {
    let rows: u64 = std::env::var(ROWS_VARIABLE).map_or(ROWS, |rows| rows.parse().expect("a number of rows"));
    let mut ground = CqlGround::new();
    let store = Store::cql(&ground.config(), &TABLES, &Config::default()).unwrap();
    let wide = partition(&WIDE, b"followers");
    let begun = Instant::now();
    let mut told = Instant::now();
    for first in (0..rows).step_by(4_000) {
        let mut batch = Batch::new();
        (first..rows.min(first + 4_000)).for_each(|n| batch.put(wide.at(&follower(n)), n.to_be_bytes().to_vec()));
        batch.put(wide.head(), first.to_be_bytes().to_vec());
        store.apply_now(&batch).unwrap();
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            println!("{first} of {rows} rows after {:.0} s", begun.elapsed().as_secs_f64());
        }
    }
    println!("{rows} rows in {:.0} s", begun.elapsed().as_secs_f64());

    // All of it by pages, in order, nothing twice.
    let (mut found, mut scan) = (0, Scan::of(wide.clone()).prefix([8]).limit(10_000));
    let walked = Instant::now();
    loop {
        let page = store.scan(scan.clone()).await.unwrap();
        for row in &page.rows {
            assert_eq!(row.clustering(), follower(rows - 1 - found));
            found += 1;
        }
        let Some(last) = page.rows.last().filter(|_| page.more) else { break };
        scan = scan.after(last.clustering().to_vec());
    }
    assert_eq!(found, rows);
    println!("read in pages in {:.0} s", walked.elapsed().as_secs_f64());
    let first = Instant::now();
    assert_eq!(store.scan(Scan::of(wide.clone()).prefix([8]).limit(50)).await.unwrap().rows.len(), 50);
    println!("first page of 50 in {} ms", first.elapsed().as_millis());
    let bound = 2 * u64::from(WIDE.bucket_rows.unwrap()) + 4_000;
    println!("with copies: {} rows in the largest bucket", ground.largest_bucket("wide_buckets"));
    let quiet = Instant::now();
    let largest = largest_after_copies_went(&mut ground, "wide_buckets", bound).await;
    println!("looked for {} s until copies were gone", quiet.elapsed().as_secs());
    println!("largest bucket: {largest} rows, at most {bound}");
    assert!(largest <= bound.min(rows + 2), "{largest}");
    if rows > bound {
        let buckets = ground.count(&format!("SELECT DISTINCT p, b FROM {}.wide_buckets", ground.address.keyspace));
        assert!(buckets >= rows / bound, "{buckets} buckets");
    }
}
