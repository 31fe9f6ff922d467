//! The writer and its views.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Ground, KEPT, PLAIN, Seeded, TABLES, partition, puts,
    reads::{Model, any_scan, expected},
    shown,
};
use crate::{Batch, Config, Error, KEY_BYTES_MAX, Key, Partition, Result, Scan, Store, View, Writer, WriterConfig};

/// Some rows on the ground, and the same rows in a model.
fn sown(store: &Store, seeded: &mut Seeded, place: &Partition) -> Model {
    let mut model = Model::new();
    let mut batch = Batch::new();
    for _ in 0..seeded.below(80) {
        let (position, value) = (seeded.position(), vec![0; seeded.below(3)]);
        batch.put(place.at(&position), value.clone());
        model.insert(position, value);
    }
    store.apply_now(&batch).expect("applies");
    model
}

/// Changes the view and the model alike.
fn disturb(view: &mut View<'_>, model: &mut Model, seeded: &mut Seeded, place: &Partition, changes: usize) {
    for _ in 0..changes {
        // Often a row that is there: deletes that hide rows are what is hard.
        let position = match seeded.once_in(2) {
            true if !model.is_empty() => model.keys().nth(seeded.below(model.len())).cloned().unwrap_or_default(),
            _ => seeded.position(),
        };
        if seeded.once_in(2) {
            view.delete(place.at(&position));
            model.remove(&position);
        } else {
            let value = vec![1; seeded.below(4)];
            view.put(place.at(&position), value.clone());
            model.insert(position, value);
        }
    }
}

fn view_agrees(view: &View<'_>, model: &Model, seeded: &mut Seeded, place: &Partition, seed: u64) -> Result<()> {
    for _ in 0..60 {
        let scan = any_scan(seeded, place);
        let page = view.scan(&scan)?;
        assert_eq!((shown(&page), page.more), expected(model, &scan), "seed {seed}: {scan:?}");
    }
    for _ in 0..20 {
        let position = seeded.position();
        let found = view.get(&place.at(&position))?;
        assert_eq!(found.as_deref(), model.get(&position).map(Vec::as_slice), "seed {seed}: {position:?}");
    }
    Ok(())
}

/// What a view answers with changes on top is what the store answers once they are applied.
pub async fn a_view_reads_as_if_its_changes_were_applied(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).expect("starts");
    for seed in 0..ground.rounds(40) as u64 {
        let mut seeded = Seeded::new(seed);
        let place = partition(&PLAIN, &seed.to_be_bytes());
        let mut model = sown(&store, &mut seeded, &place);
        let (at, mut seeds) = (place.clone(), seeded.clone());
        let model = writer
            .run(move |view| {
                for _ in 0..4 {
                    let changes = seeds.below(30);
                    disturb(view, &mut model, &mut seeds, &at, changes);
                    view_agrees(view, &model, &mut seeds, &at, seed)?;
                }
                Ok::<_, Error>(model)
            })
            .await
            .expect("applies");
        for _ in 0..20 {
            let scan = any_scan(&mut seeded, &place);
            let page = store.scan(scan.clone()).await.expect("reads");
            assert_eq!((shown(&page), page.more), expected(&model, &scan), "seed {seed}, applied: {scan:?}");
        }
    }
    drop(writer);
    thread.join().expect("ends");
}

/// Changes that are rolled back, in part or as a whole, are nowhere to be seen, in the view nor later in the store.
pub async fn rolling_back_leaves_no_trace(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).expect("starts");
    for seed in 0..ground.rounds(30) as u64 {
        let mut seeded = Seeded::new(1000 + seed);
        let place = partition(&PLAIN, &seed.to_be_bytes());
        let mut model = sown(&store, &mut seeded, &place);
        let at = place.clone();
        let model = writer
            .run(move |view| {
                for _ in 0..6 {
                    let (mark, before) = (view.mark(), model.clone());
                    let changes = seeded.below(20);
                    disturb(view, &mut model, &mut seeded, &at, changes);
                    if seeded.once_in(2) {
                        let (inner, between) = (view.mark(), model.clone());
                        disturb(view, &mut model, &mut seeded, &at, 10);
                        view.roll_back(inner);
                        model = between;
                        view_agrees(view, &model, &mut seeded, &at, seed)?;
                    }
                    if seeded.once_in(2) {
                        view.roll_back(mark);
                        model = before;
                    }
                    view_agrees(view, &model, &mut seeded, &at, seed)?;
                }
                Ok::<_, Error>(model)
            })
            .await
            .expect("applies");
        let page = store.scan(Scan::of(place)).await.expect("reads");
        assert_eq!(shown(&page), model.into_iter().collect::<Vec<_>>(), "seed {seed}");
    }
    drop(writer);
    thread.join().expect("ends");
}

/// Jobs run in the order they were submitted, each sees what those before it changed, and each is told once.
pub async fn jobs_run_in_order_and_see_the_ones_before(ground: &mut dyn Ground) {
    for group in [1, 7, 512] {
        let jobs = ground.rounds(1000) as u64;
        let key = partition(&PLAIN, &[u8::try_from(group % 251).unwrap_or(0)]).head();
        // One store for all groups is opened first.
        let store = match group {
            1 => ground.open(&TABLES, &Config::default()),
            _ => match ground.reopen(&TABLES, &Config::default()) {
                Some(store) => store,
                None => return,
            },
        };
        let config = WriterConfig { jobs_per_group_max: group, jobs_waiting_max: 16, ..WriterConfig::default() };
        let (writer, thread) = Writer::start(store.clone(), config).expect("starts");
        let (ran, told) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        for n in 0..jobs {
            let (key, ran, told) = (key.clone(), Arc::clone(&ran), Arc::clone(&told));
            let submitted = writer.submit(move |view| {
                let seen = view
                    .get(&key)
                    .expect("reads")
                    .map_or(0, |v| u64::from_be_bytes(v[..].try_into().expect("eight bytes")));
                assert_eq!(seen, n);
                view.put(key, (n + 1).to_be_bytes().to_vec());
                ran.lock().push(n);
                Box::new(move |applied| told.lock().push((n, applied.is_ok())))
            });
            submitted.await.expect("taken");
        }
        drop(writer);
        thread.join().expect("no job saw another's place");
        assert_eq!(*ran.lock(), (0..jobs).collect::<Vec<_>>());
        assert_eq!(*told.lock(), (0..jobs).map(|n| (n, true)).collect::<Vec<_>>());
        assert_eq!(store.get_one(&key).await.expect("reads"), Some(Bytes::from(jobs.to_be_bytes().to_vec())));
    }
}

/// A job that fails, or that asks for more than the bounds allow, changes nothing and is told; the other jobs of its
/// group are applied as if it had never been.
pub async fn a_job_that_fails_hurts_no_neighbour(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).expect("starts");
    let place = partition(&PLAIN, b"p");
    let too_long = place.at(&vec![b'k'; KEY_BYTES_MAX]);
    let total = Arc::new(AtomicU64::new(0));
    let mut waits = Vec::new();
    for n in 0..300_u64 {
        let (writer, place, too_long, total) = (writer.clone(), place.clone(), too_long.clone(), Arc::clone(&total));
        waits.push(tokio::spawn(async move {
            let ran = writer
                .run(move |view| {
                    let head = place.head();
                    let old =
                        view.get(&head)?.map_or(0, |v| u64::from_be_bytes(v[..].try_into().expect("eight bytes")));
                    view.put(head, (old + n).to_be_bytes().to_vec());
                    view.put(place.at(&n.to_be_bytes()), Bytes::new());
                    match n % 3 {
                        0 => Ok(()),
                        1 => Err(Error::Closed),
                        _ => {
                            view.put(too_long, Bytes::new());
                            Ok(())
                        }
                    }
                })
                .await;
            match n % 3 {
                0 => {
                    ran.expect("applied");
                    total.fetch_add(n, Ordering::Relaxed);
                }
                1 => assert!(matches!(ran, Err(Error::Closed)), "{ran:?}"),
                _ => assert!(matches!(ran, Err(Error::TooLarge { .. })), "{ran:?}"),
            }
        }));
    }
    for wait in waits {
        wait.await.expect("told what it should be");
    }
    let page = store.scan(Scan::of(place)).await.expect("reads");
    assert_eq!(page.rows[0].value, total.load(Ordering::Relaxed).to_be_bytes()[..]);
    let members: Vec<u64> =
        page.rows[1..].iter().map(|r| u64::from_be_bytes(r.clustering().try_into().expect("eight bytes"))).collect();
    assert_eq!(members, (0..300).filter(|n| n % 3 == 0).collect::<Vec<_>>());
    assert!(!writer.failed());
    drop(writer);
    thread.join().expect("ends");
}

/// Once a write is answered, every way of reading finds it, also through answers that are kept in memory.
pub async fn a_written_row_is_there_when_the_call_answers(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).expect("starts");
    let tasks: Vec<_> = (0..4_u8)
        .map(|task| {
            let (writer, store, rounds) = (writer.clone(), store.clone(), ground.rounds(100) as u64);
            tokio::spawn(async move {
                let key = partition(&KEPT, b"shared").at(&[task]);
                for n in 0..rounds {
                    let value = Bytes::from(n.to_be_bytes().to_vec());
                    let (at, put) = (key.clone(), value.clone());
                    writer
                        .run(move |view| {
                            view.put(at, put);
                            Ok::<_, Error>(())
                        })
                        .await
                        .expect("applies");
                    assert_eq!(store.get_one(&key).await.expect("reads"), Some(value.clone()), "get");
                    let page = store.scan(Scan::of(key.to_partition()).from(vec![task]).limit(1)).await.expect("reads");
                    assert_eq!(page.rows[0].value, value, "scan");
                    let at = key.clone();
                    assert_eq!(writer.run(move |view| view.get(&at)).await.expect("reads"), Some(value), "view");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("read what it wrote");
    }
    drop(writer);
    thread.join().expect("ends");
}

/// Closing the writer applies what it took, refuses what comes later, and ends its thread though senders are left.
pub async fn closing_applies_what_was_taken(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).expect("starts");
    let place = partition(&PLAIN, b"p");
    let applied = Arc::new(AtomicU64::new(0));
    let jobs = ground.rounds(500) as u64;
    for n in 0..jobs {
        let (key, applied): (Key, _) = (place.at(&n.to_be_bytes()), Arc::clone(&applied));
        let submitted = writer.submit(move |view| {
            view.put(key, Bytes::new());
            Box::new(move |told| {
                told.expect("applied");
                applied.fetch_add(1, Ordering::Relaxed);
            })
        });
        submitted.await.expect("taken");
    }
    writer.close();
    tokio::task::spawn_blocking(|| thread.join()).await.expect("runs").expect("ends");
    assert_eq!(applied.load(Ordering::Relaxed), jobs);
    assert_eq!(writer.pending(), 0);
    assert!(!writer.failed());
    let late = writer.run(|_| Ok::<_, Error>(())).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    writer.close();
    drop(store);
    let Some(store) = ground.reopen(&TABLES, &Config::default()) else { return };
    let page = store.scan(Scan::of(place.clone())).await.expect("reads");
    assert_eq!(page.rows.len() as u64, jobs);
    store.apply_now(&puts([(place.head(), &b"v"[..])])).expect("applies");
}
