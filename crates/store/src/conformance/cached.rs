//! Answers kept in memory, by the readers' cache and by the writer's.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;

use super::{Ground, KEPT, PLAIN, SHAPED, Seeded, TABLES, partition, puts};
use crate::{Batch, Config, Error, Key, Writer, WriterConfig};

/// An answer, absent included, is asked of the engine once, and again after each change of its row.
pub async fn answers_are_kept_and_never_outlived(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&KEPT, b"p");
    let (there, absent) = (place.at(b"there"), place.at(b"absent"));
    store.apply_now(&puts([(there.clone(), &b"1"[..])])).expect("applies");
    let asked = || store.figures().reads_total;
    for _ in 0..5 {
        assert_eq!(
            store.get(&[there.clone(), absent.clone()]).await.expect("reads"),
            [Some(Bytes::from_static(b"1")), None]
        );
    }
    assert_eq!(asked(), 2, "each key once");
    store.apply_now(&puts([(there.clone(), &b"2"[..]), (absent.clone(), b"now")])).expect("applies");
    for _ in 0..5 {
        let answers = store.get(&[absent.clone(), there.clone()]).await.expect("reads");
        assert_eq!(answers, [Some(Bytes::from_static(b"now")), Some(Bytes::from_static(b"2"))]);
    }
    assert_eq!(asked(), 4);
    let mut batch = Batch::new();
    batch.delete(there.clone());
    store.apply_now(&batch).expect("applies");
    assert_eq!(store.get_one(&there).await.expect("reads"), None);
    assert_eq!(store.get_one(&there).await.expect("reads"), None);
    assert_eq!(asked(), 5);
    let figures = store.figures();
    assert!(figures.near_hits > 0 && figures.near_bytes > 0, "{figures:?}");
    // Tables that are not kept are asked every time.
    let plain = partition(&PLAIN, b"p").head();
    for _ in 0..3 {
        store.get_one(&plain).await.expect("reads");
    }
    assert_eq!(asked(), 8);
}

/// A table may answer in another form than it stores; kept or not, the form is the same.
pub async fn kept_answers_may_have_a_form_of_their_own(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&SHAPED, b"p");
    store.apply_now(&puts([(place.at(b"x"), &b"1"[..])])).expect("applies");
    for _ in 0..2 {
        let answers = store.get(&[place.at(b"x"), place.at(b"y")]).await.expect("reads");
        assert_eq!(answers, [Some(Bytes::from_static(b"x:1")), None]);
    }
    store.apply_now(&puts([(place.at(b"x"), &b"2"[..])])).expect("applies");
    assert_eq!(store.get_one(&place.at(b"x")).await.expect("reads"), Some(Bytes::from_static(b"x:2")));
}

/// Readers on several threads never go back behind what they have seen, nor behind what a write was answered for,
/// while rows change and come and go, and while the cache is too small to hold them all.
pub async fn nothing_stale_is_ever_answered(ground: &mut dyn Ground) {
    const KEYS: usize = 24;
    let store = ground.open(&TABLES, &Config { near_cache_bytes: 2500, ..Config::default() });
    let (writer, thread) =
        Writer::start(store.clone(), WriterConfig { jobs_per_group_max: 4, ..WriterConfig::default() })
            .expect("starts");
    let keys: Arc<Vec<Key>> = Arc::new((0..KEYS).map(|n| partition(&KEPT, &n.to_be_bytes()).head()).collect());
    let zero = puts(keys.iter().map(|k| (k.clone(), &[0; 8][..])));
    store.apply_now(&zero).expect("applies");
    let answered: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let ended = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (store, keys, answered, ended, reads) =
                (store.clone(), Arc::clone(&keys), Arc::clone(&answered), Arc::clone(&ended), Arc::clone(&reads));
            tokio::spawn(async move {
                let mut seeded = Seeded::new(reader);
                let mut seen = [0; KEYS];
                while !ended.load(Ordering::Acquire) {
                    let asked: Vec<usize> = (0..1 + seeded.below(6)).map(|_| seeded.below(KEYS)).collect();
                    let least: Vec<u64> = asked.iter().map(|n| answered[*n].load(Ordering::Acquire)).collect();
                    let wanted: Vec<Key> = asked.iter().map(|n| keys[*n].clone()).collect();
                    let values = store.get(&wanted).await.expect("reads");
                    let first_seen = seen;
                    for ((n, least), value) in asked.iter().zip(least).zip(values) {
                        let version =
                            u64::from_be_bytes(value.expect("is never deleted")[..].try_into().expect("eight bytes"));
                        assert!(version >= least, "key {n}: version {version}, though {least} had been answered");
                        assert!(version >= first_seen[*n], "key {n}: back from {} to {version}", first_seen[*n]);
                        seen[*n] = seen[*n].max(version);
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let writes = ground.rounds(800);
    let least_reads = ground.rounds(2000) as u64;
    let writers: Vec<_> = (0..2_usize)
        .map(|half| {
            let (writer, keys, answered, reads) =
                (writer.clone(), Arc::clone(&keys), Arc::clone(&answered), Arc::clone(&reads));
            tokio::spawn(async move {
                let mut seeded = Seeded::new(half as u64 + 50);
                let mut versions = [0_u64; KEYS];
                let mut written = 0;
                while written < writes || reads.load(Ordering::Relaxed) < least_reads {
                    written += 1;
                    // Each writer has its own half of the keys, so that versions of a key have one order.
                    let n = seeded.below(KEYS / 2) * 2 + half;
                    versions[n] += 1;
                    let (key, version) = (keys[n].clone(), versions[n]);
                    writer
                        .run(move |view| {
                            view.put(key, version.to_be_bytes().to_vec());
                            Ok::<_, Error>(())
                        })
                        .await
                        .expect("applies");
                    answered[n].store(version, Ordering::Release);
                }
            })
        })
        .collect();
    for task in writers {
        task.await.expect("writes");
    }
    ended.store(true, Ordering::Release);
    for reader in readers {
        reader.await.expect("saw nothing stale");
    }
    let figures = store.figures();
    assert!(figures.near_hits > 0, "the cache was in use: {figures:?}");
    drop(writer);
    thread.join().expect("ends");
}

/// What the writer remembers of its own reads and writes is what the engine holds, also when somebody else applies
/// a batch beside it, and when the memory is too small for all of it.
pub async fn the_writers_own_memory_agrees_with_the_engine(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config { recent_bytes: 4000, ..Config::default() });
    let (writer, thread) =
        Writer::start(store.clone(), WriterConfig { jobs_per_group_max: 3, ..WriterConfig::default() })
            .expect("starts");
    let mut seeded = Seeded::new(21);
    let place = partition(&PLAIN, b"p");
    let mut model: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = std::collections::BTreeMap::new();
    for round in 0..ground.rounds(2000) {
        let (position, value) = (seeded.position(), vec![u8::try_from(round % 251).unwrap_or(0); seeded.below(300)]);
        let key = place.at(&position);
        let before = model.get(&position).cloned();
        if seeded.once_in(10) {
            store.apply_now(&puts([(key.clone(), &value[..])])).expect("applies");
            model.insert(position.clone(), value.clone());
        } else {
            let (fails, deletes) = (seeded.once_in(5), seeded.once_in(4));
            let at = key.clone();
            let ran = writer
                .run({
                    let value = value.clone();
                    move |view| {
                        let found = view.get(&at)?;
                        assert_eq!(found.as_deref(), before.as_deref(), "round {round}");
                        if deletes {
                            view.delete(at)
                        } else {
                            view.put(at, value)
                        };
                        if fails { Err(Error::Closed) } else { Ok(()) }
                    }
                })
                .await;
            assert_eq!(ran.is_err(), fails);
            match (fails, deletes) {
                (true, _) => {}
                (_, true) => drop(model.remove(&position)),
                (_, false) => drop(model.insert(position.clone(), value)),
            }
        }
        let other = seeded.position();
        let (at, expected) = (place.at(&other), model.get(&other).cloned());
        let found = writer.run(move |view| view.get(&at)).await.expect("reads");
        assert_eq!(found.map(|v| v.to_vec()), expected, "round {round}");
    }
    let figures = store.figures();
    assert!(figures.recent_hits > 0 && figures.recent_misses > 0, "{figures:?}");
    drop(writer);
    thread.join().expect("ends");
}
