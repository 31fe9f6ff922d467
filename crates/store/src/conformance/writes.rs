//! Applying batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use super::{Ground, PLAIN, Seeded, TABLES, partition, puts, shown};
use crate::{Batch, Config, Error, KEY_BYTES_MAX, Key, Scan, Store, VALUE_BYTES_MAX, View, Writer, WriterConfig};

/// Of several changes of one key in a batch the last one holds, whatever kinds they are.
pub async fn the_last_change_of_a_key_in_a_batch_holds(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&PLAIN, b"p");
    let key = |n: u8| place.at(&[n]);
    store.apply_now(&puts([(key(3), &b"old"[..]), (key(4), b"old")])).expect("applies");
    let mut batch = Batch::new();
    batch.put(key(1), b"first".to_vec());
    batch.delete(key(2));
    batch.put(key(3), b"new".to_vec());
    batch.delete(key(4));
    batch.put(key(5), b"one".to_vec());
    batch.put(key(1), b"second".to_vec());
    batch.put(key(2), b"put after delete".to_vec());
    batch.delete(key(3));
    batch.put(key(4), b"back".to_vec());
    batch.delete(key(4));
    batch.put(key(5), b"two".to_vec());
    batch.delete(key(5));
    batch.put(key(5), b"three".to_vec());
    store.apply_now(&batch).expect("applies");
    let holds = [(vec![1], b"second".to_vec()), (vec![2], b"put after delete".to_vec()), (vec![5], b"three".to_vec())];
    assert_eq!(shown(&store.scan(Scan::of(place.clone())).await.expect("reads")), holds);
    drop(store);
    if let Some(store) = ground.reopen(&TABLES, &Config::default()) {
        assert_eq!(shown(&store.scan(Scan::of(place)).await.expect("reads")), holds);
    }
}

/// Deleting is final until the row is put again; deleting what is not there does nothing.
pub async fn rows_go_and_come_back(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&PLAIN, b"p");
    let delete = |key: Key| {
        let mut batch = Batch::new();
        batch.delete(key);
        batch
    };
    for round in 0..3_u8 {
        store.apply_now(&delete(place.at(b"x"))).expect("applies");
        assert_eq!(store.get_one(&place.at(b"x")).await.expect("reads"), None);
        assert!(store.scan(Scan::of(place.clone())).await.expect("reads").rows.is_empty());
        store.apply_now(&puts([(place.at(b"x"), &[round][..])])).expect("applies");
        assert_eq!(store.get_one(&place.at(b"x")).await.expect("reads"), Some(Bytes::copy_from_slice(&[round])));
    }
    store.apply_now(&Batch::new()).expect("an empty batch is no error");
}

/// A row may say nothing and is a row all the same.
pub async fn an_empty_value_is_a_row(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&PLAIN, b"p");
    store.apply_now(&puts([(place.head(), &b""[..]), (place.at(b"x"), b"")])).expect("applies");
    let keys = [place.head(), place.at(b"x"), place.at(b"y")];
    assert_eq!(store.get(&keys).await.expect("reads"), [Some(Bytes::new()), Some(Bytes::new()), None]);
    assert_eq!(shown(&store.scan(Scan::of(place)).await.expect("reads")), [(vec![], vec![]), (b"x".to_vec(), vec![])]);
}

/// Values of a megabyte and keys as long as the bound come back as they were.
pub async fn long_keys_and_large_values_are_kept(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let mut seeded = Seeded::new(3);
    let long = |key_bytes: usize, last: u8| {
        let place = partition(&PLAIN, &[b'p'; 200]);
        let mut position = vec![b'k'; key_bytes - place.prefix().len()];
        *position.last_mut().expect("not empty") = last;
        place.at(&position)
    };
    let large: Vec<u8> = (0..(1 << 20) / 8).flat_map(|_| seeded.any().to_be_bytes()).collect();
    let rows = [
        (long(KEY_BYTES_MAX, 1), large.clone()),
        (long(KEY_BYTES_MAX, 2), vec![0; 1 << 20]),
        (long(KEY_BYTES_MAX - 1, 3), b"small".to_vec()),
    ];
    // In one batch and one by one, so that the memtable, the journal and a table file all have to keep them.
    store.apply_now(&puts(rows.iter().map(|(k, v)| (k.clone(), &v[..])))).expect("applies");
    let check = async |store: &Store| {
        for (key, value) in &rows {
            assert!(store.get_one(key).await.expect("reads").is_some_and(|v| v == value), "{} bytes", value.len());
        }
        let page = store.scan(Scan::of(rows[0].0.to_partition()).reverse()).await.expect("reads");
        let mut sorted = rows.to_vec();
        sorted.sort();
        sorted.reverse();
        assert_eq!(page.rows.into_iter().map(|r| (r.key, r.value.to_vec())).collect::<Vec<_>>(), sorted);
    };
    check(&store).await;
    drop(store);
    if let Some(store) = ground.reopen(&TABLES, &Config::default()) {
        check(&store).await;
    }
}

/// A batch with a key or a value beyond the bounds is refused, and nothing of it is there.
pub async fn what_is_beyond_the_bounds_is_refused_whole(ground: &mut dyn Ground) {
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&PLAIN, b"p");
    let too_long = place.at(&vec![b'k'; KEY_BYTES_MAX + 1 - place.prefix().len()]);
    for (key, value) in [(too_long, vec![1]), (place.at(b"big"), vec![0; VALUE_BYTES_MAX + 1])] {
        let refused = store.apply_now(&puts([(place.at(b"small"), &b"v"[..]), (key, &value)]));
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        assert!(store.scan(Scan::of(place.clone())).await.expect("reads").rows.is_empty());
    }
    store.apply_now(&puts([(place.at(b"small"), &b"v"[..])])).expect("the store goes on");
}

/// While batches rewrite a partition, every scan of it sees one of them whole.
pub async fn a_batch_is_seen_whole_or_not_at_all(ground: &mut dyn Ground) {
    const ROWS: u8 = 40;
    let store = ground.open(&TABLES, &Config::default());
    let place = partition(&PLAIN, b"torn");
    let version = |n: u64| {
        let mut batch = Batch::new();
        // Half of the rows exist only in even versions.
        for row in 0..ROWS {
            match row % 2 == 1 && n % 2 == 1 {
                true => batch.delete(place.at(&[row])),
                false => batch.put(place.at(&[row]), n.to_be_bytes().to_vec()),
            }
        }
        batch
    };
    store.apply_now(&version(0)).expect("applies");
    let (ended, scans) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = [false, true, false]
        .map(|reverse| {
            let (store, place, ended, scans) = (store.clone(), place.clone(), Arc::clone(&ended), Arc::clone(&scans));
            tokio::spawn(async move {
                let mut last = 0;
                while !ended.load(Ordering::Acquire) {
                    let scan = Scan::of(place.clone());
                    let page = store.scan(if reverse { scan.reverse() } else { scan }).await.expect("reads");
                    let versions: BTreeSet<u64> = page
                        .rows
                        .iter()
                        .map(|r| u64::from_be_bytes(r.value[..].try_into().expect("eight bytes")))
                        .collect();
                    let Some(&now) = versions.first() else { panic!("no rows") };
                    assert_eq!(versions.len(), 1, "half a batch: {versions:?}");
                    let rows = if now % 2 == 0 { ROWS } else { ROWS / 2 };
                    assert_eq!(page.rows.len(), usize::from(rows), "half a batch at version {now}");
                    assert!(now >= last, "back from {last} to {now}");
                    last = now;
                    scans.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .into_iter()
        .collect();
    for n in 1..=ground.rounds(300) as u64 {
        let (store, batch) = (store.clone(), version(n));
        tokio::task::spawn_blocking(move || store.apply_now(&batch)).await.expect("runs").expect("applies");
        // Not further ahead of the readers than this, so that both go on side by side.
        while scans.load(Ordering::Relaxed) * 2 < n && readers.iter().all(|r| !r.is_finished()) {
            tokio::task::yield_now().await;
        }
        assert!(readers.iter().all(|r| !r.is_finished()), "a reader stopped");
    }
    ended.store(true, Ordering::Release);
    for reader in readers {
        reader.await.expect("no reader saw half a batch");
    }
}

/// Puts a member and counts it, unless it is there; the way the index writes a like.
fn join(view: &mut View<'_>, member: &Key) -> crate::Result<bool> {
    let head = member.to_partition().head();
    let there = view.get(member)?.is_some();
    if !there {
        view.put(member.clone(), Bytes::new());
        add(view, &head, 1)?;
    }
    Ok(!there)
}

fn leave(view: &mut View<'_>, member: &Key) -> crate::Result<bool> {
    let head = member.to_partition().head();
    let there = view.get(member)?.is_some();
    if there {
        view.delete(member.clone());
        add(view, &head, -1)?;
    }
    Ok(there)
}

fn add(view: &mut View<'_>, head: &Key, change: i64) -> crate::Result<()> {
    let count = view.get(head)?.map_or(0, |v| count_in(&v));
    match count + change {
        0 => view.delete(head.clone()),
        now => view.put(head.clone(), now.to_be_bytes().to_vec()),
    }
    Ok(())
}

fn count_in(value: &Bytes) -> i64 {
    value[..].try_into().map_or(-1, i64::from_be_bytes)
}

/// A count that is a cell of the partition whose rows it counts equals their number at every moment, however often
/// the events come again and however they are grouped.
pub async fn counts_stay_with_their_rows_under_replay(ground: &mut dyn Ground) {
    const GROUPS: u8 = 5;
    let store = ground.open(&TABLES, &Config::default());
    let events = ground.rounds(1500);
    let mut seeded = Seeded::new(5);
    // The events: somebody joins or leaves. The same prefix is delivered again and again, as after crashes.
    let story: Vec<(Key, bool)> = (0..events)
        .map(|_| {
            (
                partition(&PLAIN, &[u8::try_from(seeded.below(GROUPS.into())).unwrap_or(0)])
                    .at(&[1, u8::try_from(seeded.below(40)).unwrap_or(0)]),
                !seeded.once_in(3),
            )
        })
        .collect();
    let mut model: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut delivered = 0;
    while delivered < events {
        let (writer, thread) = Writer::start(
            store.clone(),
            WriterConfig { jobs_per_group_max: 1 + seeded.below(40), ..WriterConfig::default() },
        )
        .expect("starts");
        let upto = (delivered + 1 + seeded.below(events / 4 + 1)).min(events);
        // A member's last state is what stands, so a replay may begin anywhere before the first event not delivered,
        // and each event of it is delivered twice in a row.
        let from = delivered.saturating_sub(seeded.below(60));
        let mut told = Vec::new();
        for (member, joins) in &story[from..upto] {
            for _ in 0..2 {
                let (member, joins, writer) = (member.clone(), *joins, writer.clone());
                told.push(writer_job(&writer, member, joins).await);
            }
        }
        for told in told {
            told.await.expect("answered").expect("applied");
        }
        for (member, joins) in &story[from..upto] {
            let group = model.entry(member.partition().to_vec()).or_default();
            if *joins {
                group.insert(member.clustering().to_vec())
            } else {
                group.remove(member.clustering())
            };
        }
        delivered = upto;
        drop(writer);
        thread.join().expect("ends");
        for group in 0..GROUPS {
            let place = partition(&PLAIN, &[group]);
            let page = store.scan(Scan::of(place.clone())).await.expect("reads");
            let (heads, members): (Vec<_>, Vec<_>) = page.rows.iter().partition(|r| r.clustering().is_empty());
            let count = heads.first().map_or(0, |h| count_in(&h.value));
            assert_eq!(count, i64::try_from(members.len()).expect("few"), "after {delivered} events");
            let expected = model.get(place.head().partition()).cloned().unwrap_or_default();
            assert_eq!(members.iter().map(|m| m.clustering().to_vec()).collect::<BTreeSet<_>>(), expected);
        }
    }
}

async fn writer_job(writer: &Writer, member: Key, joins: bool) -> tokio::sync::oneshot::Receiver<crate::Result<()>> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let submitted = writer.submit(move |view| {
        let mark = view.mark();
        let ran = if joins { join(view, &member) } else { leave(view, &member) };
        if ran.is_err() {
            view.roll_back(mark);
        }
        Box::new(move |applied| {
            let _ = tell.send(ran.and(applied));
        })
    });
    submitted.await.expect("taken");
    told
}

/// Batch after batch of random changes leaves what an ordered map holds, before and after the store is opened again.
pub async fn random_batches_agree_with_a_model_and_outlive_the_store(ground: &mut dyn Ground) {
    let mut store = ground.open(&TABLES, &Config::default());
    let mut seeded = Seeded::new(13);
    let place = |n: usize| partition(&PLAIN, &[u8::try_from(n).unwrap_or(0)]);
    let mut model: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    for round in 0..ground.rounds(4) {
        for _ in 0..ground.rounds(150) {
            let mut batch = Batch::new();
            for _ in 0..seeded.below(30) {
                let key = place(seeded.below(6)).at(&seeded.position());
                if seeded.once_in(3) {
                    batch.delete(key.clone());
                    model.remove(&key);
                } else {
                    let value = seeded.any().to_be_bytes().to_vec();
                    batch.put(key.clone(), value.clone());
                    model.insert(key, value);
                }
            }
            store.apply_now(&batch).expect("applies");
        }
        for n in 0..6 {
            let page = store.scan(Scan::of(place(n))).await.expect("reads");
            let expected: Vec<(Vec<u8>, Vec<u8>)> = model
                .iter()
                .filter(|(k, _)| k.to_partition() == place(n))
                .map(|(k, v)| (k.clustering().to_vec(), v.clone()))
                .collect();
            assert_eq!(shown(&page), expected, "round {round}");
        }
        let keys: Vec<Key> = model.keys().cloned().collect();
        let values: Vec<Option<Bytes>> = model.values().map(|v| Some(Bytes::from(v.clone()))).collect();
        assert_eq!(store.get(&keys).await.expect("reads"), values, "round {round}");
        drop(store);
        match ground.reopen(&TABLES, &Config::default()) {
            Some(again) => store = again,
            None => return,
        }
    }
}
