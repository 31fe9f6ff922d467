//! Getting and scanning.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::{BESIDE, Ground, PLAIN, SHAPED, Seeded, Shown, TABLES, partition, puts, shown};
use crate::{BYTES_PER_SCAN_MAX, Batch, Config, Key, Partition, Scan, Store};

/// Every key of a multi-get has its answer in its own place: duplicates, absent ones, more than one slice of them.
pub async fn get_answers_each_key_in_its_place(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let key = |n: u32| partition(&PLAIN, b"p").at(&n.to_be_bytes());
    let mut batch = Batch::new();
    for n in (0..1000).filter(|n| n % 3 != 0) {
        batch.put(key(n), n.to_string());
    }
    store.apply_now(&batch).expect("applies");
    assert_eq!(store.get(&[]).await.expect("reads"), Vec::<Option<Bytes>>::new());
    let mut seeded = Seeded::new(1);
    for asked in [1, 2, 255, 256, 257, 1500] {
        let numbers: Vec<u32> = (0..asked).map(|_| u32::try_from(seeded.below(1000)).expect("small")).collect();
        let keys: Vec<Key> = numbers.iter().map(|n| key(*n)).collect();
        let answers = store.get(&keys).await.expect("reads");
        assert_eq!(answers.len(), asked);
        for (n, answer) in numbers.iter().zip(answers) {
            let expected = (n % 3 != 0).then(|| Bytes::from(n.to_string()));
            assert_eq!(answer, expected, "key {n} of {asked}");
        }
    }
    let twice = [key(1), key(3), key(1), key(1)];
    let one = Some(Bytes::from_static(b"1"));
    assert_eq!(store.get(&twice).await.expect("reads"), [one.clone(), None, one.clone(), one.clone()]);
    assert_eq!(store.get_one(&key(1)).await.expect("reads"), one);
    assert_eq!(store.get_one(&key(3)).await.expect("reads"), None);
}

/// A scan never leaves its partition, nor its table, whatever the neighbours are called.
pub async fn partitions_and_tables_do_not_mix(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let names: [&[u8]; 8] = [b"", b"a", b"aa", b"ab", b"b", b"\x00", b"\xff", b"\xff\xff"];
    let positions: [&[u8]; 5] = [b"", b"\x00", b"a", b"\xff", b"\xff\xff"];
    let tables = [&PLAIN, &BESIDE, &SHAPED];
    for table in tables {
        for name in names {
            let place = partition(table, name);
            let value = [&[table.id][..], name].concat();
            store.apply_now(&puts(positions.map(|p| (place.at(p), &value[..])))).expect("applies");
        }
    }
    for table in tables {
        for name in names {
            for reverse in [false, true] {
                let mut scan = Scan::of(partition(table, name));
                let mut expected: Vec<Vec<u8>> = positions.iter().map(|p| p.to_vec()).collect();
                if reverse {
                    scan = scan.reverse();
                    expected.reverse();
                }
                let page = store.scan(scan).await.expect("reads");
                let found: Vec<Vec<u8>> = page.rows.iter().map(|r| r.clustering().to_vec()).collect();
                assert_eq!(found, expected, "{} {name:?} reverse {reverse}", table.name);
                assert!(!page.more);
                for row in &page.rows {
                    assert_eq!(row.value, [&[table.id][..], name].concat());
                    assert_eq!(row.key.to_partition(), partition(table, name));
                }
            }
        }
    }
    let none = store.scan(Scan::of(partition(&PLAIN, b"nobody"))).await.expect("reads");
    assert!(none.rows.is_empty() && !none.more);
}

/// The head, which has no position, is the first row; the others follow in the order of their bytes.
pub async fn the_head_comes_first_and_order_is_that_of_bytes(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&PLAIN, b"p");
    let mut positions: Vec<Vec<u8>> =
        vec![vec![], vec![0], vec![0, 0], vec![0, 1], vec![1], vec![0x7f], vec![0x80], vec![0xff], vec![0xff, 0]];
    for scrambled in [3, 5, 7] {
        let order: Vec<usize> = (0..positions.len()).map(|i| i * scrambled % positions.len()).collect();
        store.apply_now(&puts(order.iter().map(|i| (place.at(&positions[*i]), &b"v"[..])))).expect("applies");
    }
    let forth = store.scan(Scan::of(place.clone())).await.expect("reads");
    assert_eq!(forth.rows.iter().map(|r| r.clustering().to_vec()).collect::<Vec<_>>(), positions);
    assert_eq!(forth.rows[0].key, place.head());
    let back = store.scan(Scan::of(place.clone()).reverse()).await.expect("reads");
    positions.reverse();
    assert_eq!(back.rows.iter().map(|r| r.clustering().to_vec()).collect::<Vec<_>>(), positions);
    // A range that begins after the head leaves it out.
    let rest = store.scan(Scan::of(place.clone()).after(Vec::new())).await.expect("reads");
    assert_eq!(rest.rows.len(), positions.len() - 1);
    let head = store.scan(Scan::of(place).limit(1)).await.expect("reads");
    assert_eq!(shown(&head), [(vec![], b"v".to_vec())]);
}

/// The rows of one partition, as the suite expects them.
pub(super) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A scan of a partition with random ends, direction and limit.
pub(super) fn any_scan(seeded: &mut Seeded, place: &Partition) -> Scan {
    let mut scan = Scan::of(place.clone());
    if seeded.once_in(3) {
        scan = scan.prefix(seeded.position());
    }
    match seeded.below(4) {
        0 => scan = scan.after(seeded.position()),
        1 => scan = scan.from(seeded.position()),
        _ => {}
    }
    if seeded.once_in(3) {
        scan = scan.before(seeded.position());
    }
    if seeded.once_in(2) {
        scan = scan.reverse();
    }
    match seeded.below(4) {
        0 => scan.limit(seeded.below(4)),
        1 => scan.limit(seeded.below(60)),
        _ => scan,
    }
}

/// What a scan of the model gives: rows and whether more follow.
pub(super) fn expected(model: &Model, scan: &Scan) -> (Shown, bool) {
    if scan.limit == 0 {
        return (Vec::new(), false);
    }
    let above = |p: &Vec<u8>| match &scan.from {
        Bound::Unbounded => true,
        Bound::Included(at) => p >= at,
        Bound::Excluded(at) => p > at,
    };
    let below = |p: &Vec<u8>| match &scan.to {
        Bound::Unbounded => true,
        Bound::Included(at) => p <= at,
        Bound::Excluded(at) => p < at,
    };
    let mut rows: Vec<_> = model
        .iter()
        .filter(|(p, _)| p.starts_with(&scan.prefix) && above(p) && below(p))
        .map(|(p, v)| (p.clone(), v.clone()))
        .collect();
    if scan.reverse {
        rows.reverse();
    }
    let more = rows.len() > scan.limit;
    rows.truncate(scan.limit);
    (rows, more)
}

async fn scan_agrees(store: &Store, model: &Model, scan: Scan, seed: u64) {
    let page = store.scan(scan.clone()).await.expect("reads");
    assert_eq!((shown(&page), page.more), expected(model, &scan), "seed {seed}: {scan:?}");
}

/// Any combination of prefix, ends, direction and limit gives what an ordered map gives.
pub async fn scans_agree_with_a_model(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    for seed in 0..ground.rounds(20) as u64 {
        let mut seeded = Seeded::new(seed);
        let place = partition(&PLAIN, &seed.to_be_bytes());
        let mut model = Model::new();
        let mut batch = Batch::new();
        for _ in 0..seeded.below(120) {
            let (position, value) = (seeded.position(), vec![0; seeded.below(3)]);
            batch.put(place.at(&position), value.clone());
            model.insert(position, value);
        }
        for _ in 0..seeded.below(20) {
            let position = seeded.position();
            batch.delete(place.at(&position));
            model.remove(&position);
        }
        store.apply_now(&batch).expect("applies");
        for _ in 0..100 {
            scan_agrees(&store, &model, any_scan(&mut seeded, &place), seed).await;
        }
    }
}

/// `more` is true if and only if a row of the range follows, also when the page is exactly full.
pub async fn more_is_exact(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    for rows in [0_usize, 1, 2, 10, 300] {
        let place = partition(&PLAIN, &(rows * 2).to_be_bytes());
        let keys: Vec<Key> = (0..rows).map(|n| place.at(&n.to_be_bytes())).collect();
        // A neighbour, so that the end of the partition is not the end of the data.
        let mut batch = puts(keys.iter().map(|k| (k.clone(), &b"v"[..])));
        batch.put(partition(&PLAIN, &(rows * 2 + 1).to_be_bytes()).at(b"other"), b"v".to_vec());
        store.apply_now(&batch).expect("applies");
        for limit in [0, 1, rows.saturating_sub(1), rows, rows + 1] {
            for scan in [Scan::of(place.clone()), Scan::of(place.clone()).reverse()] {
                let page = store.scan(scan.limit(limit)).await.expect("reads");
                assert_eq!(page.rows.len(), limit.min(rows), "{rows} rows, limit {limit}");
                assert_eq!(page.more, limit > 0 && limit < rows, "{rows} rows, limit {limit}");
            }
        }
        if rows == 10 {
            let at = |n: usize| n.to_be_bytes().to_vec();
            let page = store.scan(Scan::of(place.clone()).from(at(3)).before(at(6)).limit(3)).await.expect("reads");
            assert_eq!((page.rows.len(), page.more), (3, false), "more rows of the partition, none of the range");
            let page = store.scan(Scan::of(place.clone()).from(at(3)).before(at(7)).limit(3)).await.expect("reads");
            assert_eq!((page.rows.len(), page.more), (3, true));
            // A deleted row does not follow.
            let mut batch = Batch::new();
            batch.delete(place.at(&at(6)));
            store.apply_now(&batch).expect("applies");
            let page = store.scan(Scan::of(place).from(at(3)).before(at(7)).limit(3)).await.expect("reads");
            assert_eq!((page.rows.len(), page.more), (3, false));
        }
    }
}

/// A page of large rows ends early and says that more follow, each way; small rows are bounded by their number alone.
pub async fn pages_of_large_rows_are_bounded_by_bytes(ground: &mut dyn Ground) {
    const ROW_BYTES: usize = 512 << 10;
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&PLAIN, b"large");
    let rows = 2 * BYTES_PER_SCAN_MAX / ROW_BYTES + 3;
    for n in 0..rows {
        let large = vec![n as u8; ROW_BYTES];
        store.apply_now(&puts([(place.at(&n.to_be_bytes()), &large[..])])).expect("applies");
    }
    for reverse in [false, true] {
        let mut scan = Scan::of(place.clone());
        if reverse {
            scan = scan.reverse();
        }
        let mut walked: Vec<u8> = Vec::new();
        let mut pages = 0;
        loop {
            let page = store.scan(scan.clone()).await.expect("reads");
            let bytes: usize = page.rows.iter().map(|row| row.value.len()).sum();
            assert!(bytes < BYTES_PER_SCAN_MAX + ROW_BYTES, "{bytes} bytes in a page");
            walked.extend(page.rows.iter().map(|row| row.value[0]));
            pages += 1;
            let Some(last) = page.rows.last().filter(|_| page.more) else { break };
            let last = last.clustering().to_vec();
            scan = if reverse { scan.before(last) } else { scan.after(last) };
        }
        let mut all: Vec<u8> = (0..rows as u8).collect();
        if reverse {
            all.reverse();
        }
        assert_eq!((walked, pages), (all, 3), "reverse {reverse}");
    }
}

/// Reading on from the last row of a page, each way, sees every row once.
pub async fn pages_walk_a_partition_without_gap_or_repeat(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&PLAIN, b"walked");
    let mut seeded = Seeded::new(7);
    let mut model = Model::new();
    for _ in 0..200 {
        model.insert(seeded.position(), vec![1]);
    }
    store.apply_now(&puts(model.iter().map(|(p, v)| (place.at(p), &v[..])))).expect("applies");
    for reverse in [false, true] {
        for limit in [1, 2, 7, model.len() - 1, model.len(), model.len() + 1] {
            let mut walked: Vec<Vec<u8>> = Vec::new();
            let mut scan = Scan::of(place.clone()).limit(limit);
            if reverse {
                scan = scan.reverse();
            }
            loop {
                let page = store.scan(scan.clone()).await.expect("reads");
                walked.extend(page.rows.iter().map(|r| r.clustering().to_vec()));
                let Some(last) = walked.last().cloned() else { break };
                scan = if reverse { scan.before(last) } else { scan.after(last) };
                if !page.more {
                    let beyond = store.scan(scan.clone()).await.expect("reads");
                    assert!(beyond.rows.is_empty(), "there was more");
                    break;
                }
            }
            let mut all: Vec<Vec<u8>> = model.keys().cloned().collect();
            if reverse {
                all.reverse();
            }
            assert_eq!(walked, all, "limit {limit}, reverse {reverse}");
        }
    }
}

/// Several scans at once are each answered as alone, in the order asked.
pub async fn many_scans_are_answered_in_the_order_asked(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let mut seeded = Seeded::new(11);
    let places: Vec<Partition> = (0..20_u8).map(|n| partition(&PLAIN, &[n])).collect();
    for place in &places {
        let rows: Vec<Key> = (0..seeded.below(30)).map(|_| place.at(&seeded.position())).collect();
        store.apply_now(&puts(rows.into_iter().map(|k| (k, &b"v"[..])))).expect("applies");
    }
    let scans: Vec<Scan> = (0..100)
        .map(|_| {
            let place = &places[seeded.below(places.len())];
            any_scan(&mut seeded, place)
        })
        .collect();
    let pages = store.scan_many(scans.clone()).await.expect("reads");
    assert_eq!(pages.len(), scans.len());
    for (scan, page) in scans.into_iter().zip(pages) {
        let alone = store.scan(scan).await.expect("reads");
        assert_eq!((shown(&page), page.more), (shown(&alone), alone.more));
    }
    assert!(store.scan_many(Vec::new()).await.expect("reads").is_empty());
}
