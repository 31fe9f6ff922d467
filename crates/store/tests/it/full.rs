//! A full disk: changes wait, reads go on, nothing is lost, and writing goes on by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gp_store::{
    Config, Error, Store, Writer, WriterConfig,
    conformance::{PLAIN, TABLES, partition},
};

/// Waits for something that must come, looking often.
async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn put(writer: &Writer, n: u64, bytes: usize) -> Result<(), Error> {
    let key = partition(&PLAIN, b"p").at(&n.to_be_bytes());
    writer
        .run(move |view| {
            let mut value = Vec::with_capacity(bytes);
            let mut seeded = gp_store::conformance::Seeded::new(n);
            while value.len() < bytes {
                value.extend_from_slice(&seeded.any().to_be_bytes());
            }
            view.put(key, value);
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_wait_below_the_reserve_and_go_on_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::lsm(dir.path(), &TABLES, &Config::default()).unwrap();
    let config = WriterConfig { full_retry_every: Duration::from_millis(5), ..WriterConfig::default() };
    let (writer, thread) = Writer::start(store.clone(), config).unwrap();
    put(&writer, 0, 10).await.unwrap();
    assert!(!writer.disk_full());
    assert!(store.figures().disk_free_bytes > 0);

    store.set_disk_reserve(u64::MAX);
    let waiting: Vec<_> = (1..20)
        .map(|n| {
            let writer = writer.clone();
            tokio::spawn(async move { put(&writer, n, 10).await })
        })
        .collect();
    until("the full disk", || writer.disk_full()).await;
    assert!(!writer.failed());
    for n in 0..20_u64 {
        let key = partition(&PLAIN, b"p").at(&n.to_be_bytes());
        assert_eq!(store.get_one(&key).await.unwrap().is_some(), n == 0, "reads go on and see nothing that waits");
    }
    assert!(waiting.iter().all(|w| !w.is_finished()));
    assert!(writer.pending() > 0);

    store.set_disk_reserve(0);
    for wait in waiting {
        wait.await.unwrap().unwrap();
    }
    assert!(!writer.disk_full());
    for n in 0..20_u64 {
        assert!(store.get_one(&partition(&PLAIN, b"p").at(&n.to_be_bytes())).await.unwrap().is_some());
    }
    drop(writer);
    thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_waits_for_room_ends_at_once_when_nobody_is_left_or_it_is_closed() {
    for close in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Store::lsm(dir.path(), &TABLES, &Config { disk_reserve_bytes: u64::MAX, ..Config::default() }).unwrap();
        let (writer, thread) =
            Writer::start(store.clone(), WriterConfig { jobs_per_group_max: 3, ..WriterConfig::default() }).unwrap();
        let refused = Arc::new(AtomicU64::new(0));
        for n in 0..50_u64 {
            let refused = Arc::clone(&refused);
            let submitted = writer.submit(move |view| {
                view.put(partition(&PLAIN, b"p").at(&n.to_be_bytes()), b"v".to_vec());
                Box::new(move |applied| {
                    assert!(matches!(applied, Err(Error::Full)), "{applied:?}");
                    refused.fetch_add(1, Ordering::Relaxed);
                })
            });
            submitted.await.unwrap();
        }
        until("the full disk", || writer.disk_full()).await;
        let began = Instant::now();
        let kept = if close {
            writer.close();
            Some(writer)
        } else {
            drop(writer);
            None
        };
        tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "took {:?}", began.elapsed());
        assert_eq!(refused.load(Ordering::Relaxed), 50, "every job was told");
        assert!(!kept.is_some_and(|w| w.failed()), "a full disk is no failure");
        store.set_disk_reserve(0);
        let page = store.scan(gp_store::Scan::of(partition(&PLAIN, b"p"))).await.unwrap();
        assert!(page.rows.is_empty(), "nothing was applied");
    }
}

/// Table files that merges have replaced stay on the disk until the engine is told to let them go.
#[test]
fn an_idle_store_gives_back_what_merges_have_replaced() {
    use gp_store::{
        Batch,
        engine::{
            Local,
            lsm::{Lsm, LsmConfig},
        },
    };
    let dir = tempfile::tempdir().unwrap();
    let lsm = Lsm::open(&LsmConfig { dir: dir.path().to_owned(), block_cache_bytes: 1 << 20, disk_reserve_bytes: 0 })
        .unwrap();
    let replaced = || {
        (fs::read_dir(dir.path().join("rows/keyspaces/1/tables")).unwrap().count() as u64)
            .saturating_sub(lsm.vitals().tables)
    };
    // Until a merge has left files that it replaced, and nothing takes them away.
    let mut rows = 0;
    let mut left = 0;
    while left == 0 {
        assert!(rows < 200_000, "no merge ever replaces a file");
        let mut batch = Batch::new();
        for _ in 0..500 {
            rows += 1_u64;
            batch.put(
                partition(&PLAIN, b"p").at(&(rows.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes()),
                vec![1; 100],
            );
        }
        lsm.apply(&batch).unwrap();
        lsm.flush().unwrap();
        let began = Instant::now();
        while replaced() == 0 && began.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        left = replaced();
        std::thread::sleep(Duration::from_millis(50));
        left = left.min(replaced());
    }
    let began = Instant::now();
    // A merge may be under way at the first rest; what it replaces goes at the next.
    while replaced() > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "{} files are kept", replaced());
        lsm.rest().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut found = 0;
    lsm.each(PLAIN.id, &mut |_, _| {
        found += 1;
        true
    })
    .unwrap();
    assert_eq!(found, rows);
}

/// A small file system of its own, for as long as this lives.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mib: u64) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { dir }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_disk_fills_up_and_is_given_room_again() {
    let disk = match SmallDisk::mount(320) {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: no small file system can be mounted here: {why}");
            return;
        }
    };
    let ballast: PathBuf = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 100 << 20]).unwrap();
    let config = Config { disk_reserve_bytes: 120 << 20, ..Config::default() };
    let dir = disk.path().join("data");
    let store = Store::lsm(&dir, &TABLES, &config).unwrap();
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).unwrap();
    // Values that do not compress, until the disk is full.
    let acknowledged = Arc::new(AtomicU64::new(0));
    let filling = {
        let (writer, acknowledged) = (writer.clone(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for n in 0..3000 {
                put(&writer, n, 50_000).await.unwrap();
                acknowledged.store(n + 1, Ordering::Release);
            }
        })
    };
    until("the full disk", || writer.disk_full()).await;
    let stood = acknowledged.load(Ordering::Acquire);
    assert!(stood > 100, "{stood} writes before the disk was full");
    assert!(!filling.is_finished());
    // Reads go on.
    for n in 0..stood {
        assert!(
            store.get_one(&partition(&PLAIN, b"p").at(&n.to_be_bytes())).await.unwrap().is_some(),
            "{n} of {stood}"
        );
    }
    // Somebody makes room: writing goes on without being asked.
    fs::remove_file(&ballast).unwrap();
    until("more writes", || acknowledged.load(Ordering::Acquire) > stood + 100).await;
    assert!(!writer.failed());
    // And fills up again; now the process stops.
    until("the full disk again", || writer.disk_full() || filling.is_finished()).await;
    filling.abort();
    let _ = filling.await;
    let stood = acknowledged.load(Ordering::Acquire);
    drop(writer);
    thread.join().unwrap();
    drop(store);
    let store = Store::lsm(&dir, &TABLES, &config).unwrap();
    for n in 0..stood {
        assert!(
            store.get_one(&partition(&PLAIN, b"p").at(&n.to_be_bytes())).await.unwrap().is_some(),
            "{n} of {stood}"
        );
    }
}
