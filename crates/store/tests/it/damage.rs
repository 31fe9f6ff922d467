//! Damaged files: the store does not open, or a read fails, or the damage does not matter. It never answers wrongly, and
//! never with less than there was.
//!
//! Each case damages a copy of one small folder and has a child of this process read all of it, because damage may
//! make the engine end the process.

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use gp_store::{
    Batch, Config, Key, Scan, Store,
    conformance::{BESIDE, PLAIN, Seeded, TABLES, partition},
    engine::{
        Local,
        lsm::{Lsm, LsmConfig},
    },
};

use crate::{folder::contents, kill::child};

const BATCHES: u64 = 60;

fn lsm(dir: &Path) -> Lsm {
    Lsm::open(&LsmConfig { dir: dir.to_owned(), block_cache_bytes: 8 << 20, disk_reserve_bytes: 0 }).unwrap()
}

/// The batches of the folder: puts, replacements and deletes.
fn batches() -> Vec<Batch> {
    let mut seeded = Seeded::new(17);
    (0..BATCHES)
        .map(|n| {
            let mut batch = Batch::new();
            for _ in 0..40 {
                let table = if seeded.once_in(4) { &BESIDE } else { &PLAIN };
                let key = partition(table, &[u8::try_from(seeded.below(12)).unwrap()])
                    .at(&(seeded.below(150) as u64).to_be_bytes());
                if seeded.once_in(6) {
                    batch.delete(key);
                } else {
                    let noise: Vec<u8> =
                        (0..seeded.below(20)).flat_map(|_| seeded.clone().any().to_be_bytes()).collect();
                    batch.put(key, [&n.to_be_bytes()[..], &noise].concat());
                }
            }
            batch
        })
        .collect()
}

/// What the folder holds.
fn expected() -> BTreeMap<Key, Vec<u8>> {
    let mut rows = BTreeMap::new();
    for change in batches().iter().flat_map(|b| b.changes().to_vec()) {
        match change.value {
            Some(value) => rows.insert(change.key, value.to_vec()),
            None => rows.remove(&change.key),
        };
    }
    rows
}

/// Makes the folder: the first part in table files, the rest in the journal. Everything is synced.
fn make(dir: &Path, in_tables: u64) {
    let lsm = lsm(dir);
    for (n, batch) in batches().iter().enumerate() {
        lsm.apply(batch).unwrap();
        let n = n as u64;
        if n < in_tables && (n + 1).is_multiple_of(15) {
            lsm.flush().unwrap();
        }
    }
    lsm.sync().unwrap();
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in contents(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    // Empty folders count, too.
    for folder in ["rows/keyspaces/0/tables", "rows/keyspaces/1/tables"] {
        fs::create_dir_all(to.join(folder)).unwrap();
    }
}

/// The child: reads everything in every way and says in one line how that went.
pub(crate) fn read_all(dir: &Path) {
    let verdict = catch_unwind(AssertUnwindSafe(|| match Store::lsm(dir, &TABLES, &Config::default()) {
        Ok(store) => compare(&store),
        Err(e) => format!("refused {e}"),
    }));
    println!("verdict {}", verdict.unwrap_or_else(|_| "error: a panic".into()).replace('\n', " "));
}

fn compare(store: &Store) -> String {
    let rows = expected();
    // All ways, so that an error in one does not hide a wrong answer in another.
    let mut verdict = "same".to_owned();
    let mut note = |found: String| {
        if !verdict.starts_with("WRONG") {
            verdict = found;
        }
    };
    for (key, value) in &rows {
        match catch_unwind(AssertUnwindSafe(|| store.local().get_one(key))) {
            Ok(Ok(Some(found))) if found == value => {}
            Ok(Ok(found)) => note(format!("WRONG get of {key:?}: {found:?}")),
            Ok(Err(e)) => note(format!("error: {e}")),
            Err(_) => note("error: a panic".into()),
        }
    }
    for table in [&PLAIN, &BESIDE] {
        for name in 0..12 {
            let place = partition(table, &[name]);
            for reverse in [false, true] {
                let scan = Scan::of(place.clone());
                let scan = if reverse { scan.reverse() } else { scan };
                let mut wanted: Vec<_> = rows
                    .iter()
                    .filter(|(k, _)| k.to_partition() == place)
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                if reverse {
                    wanted.reverse();
                }
                match catch_unwind(AssertUnwindSafe(|| store.local().scan(&scan))) {
                    Ok(Ok(page))
                        if page.rows.iter().map(|r| (r.key.clone(), r.value.to_vec())).eq(wanted.iter().cloned()) => {}
                    Ok(Ok(page)) => {
                        note(format!("WRONG scan of {place:?}: {} of {} rows", page.rows.len(), wanted.len()))
                    }
                    Ok(Err(e)) => note(format!("error: {e}")),
                    Err(_) => note("error: a panic".into()),
                }
            }
        }
    }
    verdict
}

fn verdict_on(dir: &Path) -> String {
    let mut child = child("read", dir, &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut output, &mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let began = Instant::now();
    while !reader.is_finished() {
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            return "HANGS".into();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let ended = child.wait().unwrap();
    let text = reader.join().unwrap().unwrap();
    match text.lines().find_map(|l| l.split_once("verdict ")) {
        Some((_, verdict)) => verdict.to_owned(),
        None => format!("error: the process ended with {ended}"),
    }
}

fn is_loud(verdict: &str) -> bool {
    verdict.starts_with("refused") || verdict.starts_with("error")
}

#[derive(Debug, Clone, Copy)]
enum Harm {
    FlipBit,
    ZeroSome,
    CutOff,
    Append,
    Empty,
    Remove,
}

fn harm(file: &Path, harm: Harm, seeded: &mut Seeded) -> String {
    let mut bytes = fs::read(file).unwrap();
    // A journal is mostly empty space at its end: aim at what is written.
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let at = seeded.below(used);
    match harm {
        Harm::FlipBit if used > 0 => bytes[at] ^= 1 << seeded.below(8),
        Harm::ZeroSome => bytes[at..used.min(at + 64)].fill(0),
        Harm::CutOff => bytes.truncate(at),
        Harm::Append => bytes.extend_from_slice(b"\x01garbage at the end of the file"),
        Harm::Empty => bytes.clear(),
        Harm::FlipBit | Harm::Remove => {}
    }
    match harm {
        Harm::Remove => fs::remove_file(file).unwrap(),
        _ => fs::write(file, bytes).unwrap(),
    }
    format!("{harm:?} at {at} of {used}")
}

/// The files of a folder by kind.
fn kinds(dir: &Path) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in contents(dir).into_keys() {
        let kind = match Path::new(&name).file_name().unwrap().to_str().unwrap() {
            "LOCK" | "lock" => continue,
            file if name.contains("/tables/") => {
                format!("{} table", if name.contains("keyspaces/0") { "meta" } else { file })
            }
            file if file.ends_with(".jnl") => "journal".into(),
            file if file.starts_with('v') && name.contains("keyspaces") => {
                name.rsplit_once('v').unwrap().0.to_owned() + "v*"
            }
            _ => name.clone(),
        };
        kinds.entry(kind).or_default().push(name);
    }
    kinds
}

#[test]
fn a_damaged_file_is_never_read_silently() {
    let rounds: usize = std::env::var("GP_STORE_DAMAGE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let origin = tempfile::tempdir().unwrap();
    make(origin.path(), BATCHES * 3 / 4);
    assert_eq!(verdict_on(origin.path()), "same", "undamaged");
    let kinds = kinds(origin.path());
    assert!(kinds.len() >= 9, "{kinds:?}");
    let mut seeded = Seeded::new(rounds as u64);
    let mut outcomes: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (kind, names) in &kinds {
        let harms = [Harm::FlipBit, Harm::ZeroSome, Harm::CutOff].repeat(rounds).into_iter().chain([
            Harm::Append,
            Harm::Empty,
            Harm::Remove,
        ]);
        for kind_of_harm in harms {
            let dir = tempfile::tempdir().unwrap();
            copy(origin.path(), dir.path());
            let name = &names[seeded.below(names.len())];
            let what = harm(&dir.path().join(name), kind_of_harm, &mut seeded);
            let verdict = verdict_on(dir.path());
            let short = verdict.split([' ', ':']).next().unwrap().to_owned();
            *outcomes.entry(format!("{kind} {kind_of_harm:?}")).or_default().entry(short).or_default() += 1;
            if verdict != "same" && !is_loud(&verdict) {
                wrong.push(format!("{name}: {what}: {verdict}"));
            }
        }
    }
    for (what, verdicts) in &outcomes {
        println!("{what}: {verdicts:?}");
    }
    assert!(wrong.is_empty(), "silent damage:\n{}", wrong.join("\n"));
    // The test can tell damage at all: what must be loud was.
    for (what, verdicts) in outcomes
        .iter()
        .filter(|(what, _)| what.contains("table") && what.contains("Remove") || what.contains("current Empty"))
    {
        assert!(!verdicts.contains_key("same"), "{what}: {verdicts:?}");
    }
}

#[test]
fn a_refused_folder_is_left_as_it_is() {
    for name in ["rows/version", "rows/keyspaces/0/current", "rows/keyspaces/1/current", "rows/0.jnl"] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), BATCHES / 2);
        let path = dir.path().join(name);
        match name {
            "rows/0.jnl" => {
                let mut bytes = fs::read(&path).unwrap();
                bytes[5000] ^= 0x10;
                fs::write(&path, bytes).unwrap();
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        let before = contents(dir.path());
        let Err(e) = Store::lsm(dir.path(), &TABLES, &Config::default()) else { panic!("{name}: opened") };
        assert!(e.to_string().contains(Path::new(name).file_name().unwrap().to_str().unwrap()), "names the file: {e}");
        assert_eq!(contents(dir.path()), before, "{name}: {e}");
    }
}

/// A journal that ends in the middle of something nobody was promised would survive a power cut.
#[test]
fn a_journal_cut_after_the_last_sync_recovers_to_a_prefix() {
    let origin = tempfile::tempdir().unwrap();
    {
        let lsm = lsm(origin.path());
        let batches = batches();
        for batch in &batches[..20] {
            lsm.apply(batch).unwrap();
        }
        lsm.sync().unwrap();
        for batch in &batches[20..] {
            lsm.apply(batch).unwrap();
        }
        // Closed without a sync of ours, so 20 is what is known to be safe.
    }
    let journal = |dir: &Path| -> PathBuf { dir.join("rows/0.jnl") };
    let whole = fs::read(journal(origin.path())).unwrap();
    let used = whole.iter().rposition(|b| *b != 0).unwrap() + 1;
    let states: Vec<BTreeMap<Key, Vec<u8>>> = {
        let mut rows = BTreeMap::new();
        let mut states = vec![rows.clone()];
        for batch in batches() {
            for change in batch.changes() {
                match &change.value {
                    Some(value) => rows.insert(change.key.clone(), value.to_vec()),
                    None => rows.remove(&change.key),
                };
            }
            states.push(rows.clone());
        }
        states
    };
    let mut seeded = Seeded::new(23);
    let (mut opened, mut refused) = (0, 0);
    for case in 0..40 {
        let at = seeded.below(used);
        let dir = tempfile::tempdir().unwrap();
        copy(origin.path(), dir.path());
        let mut bytes = whole.clone();
        match case % 4 {
            // Cut off; blocks that never reached the disk; a block of something else; and one lost in the middle.
            0 => bytes.truncate(at),
            1 => bytes[at..].fill(0),
            2 => bytes[at..used.min(at + 512)].fill(0xa5),
            _ => bytes[at..used.min(at + 4096)].fill(0),
        }
        fs::write(journal(dir.path()), bytes).unwrap();
        match Store::lsm(dir.path(), &TABLES, &Config::default()) {
            Ok(store) => {
                opened += 1;
                let mut found = BTreeMap::new();
                for table in [&PLAIN, &BESIDE] {
                    for name in 0..12 {
                        let page = store.local().scan(&Scan::of(partition(table, &[name]))).unwrap();
                        found.extend(page.rows.into_iter().map(|r| (r.key, r.value.to_vec())));
                    }
                }
                let batches = states
                    .iter()
                    .rposition(|s| *s == found)
                    .unwrap_or_else(|| panic!("case {case}, {at}: not the state after any batch"));
                assert!(batches >= 20, "case {case}: only {batches} of 20 synced batches");
                // And it goes on from there.
                let mut batch = Batch::new();
                batch.put(partition(&PLAIN, b"new").head(), b"v".to_vec());
                store.apply_now(&batch).unwrap();
                drop(store);
                let store = Store::lsm(dir.path(), &TABLES, &Config::default()).unwrap();
                assert!(store.local().get_one(&partition(&PLAIN, b"new").head()).unwrap().is_some());
            }
            Err(e) => {
                refused += 1;
                assert!(at < used / 2, "case {case}: refused though only {at} of {used} was damaged: {e}");
                // The operator may decide to go on without what is lost.
                fs::remove_file(dir.path().join("SYNCED")).unwrap();
                Store::lsm(dir.path(), &TABLES, &Config::default()).unwrap();
            }
        }
    }
    assert!(opened > 5 && refused > 5, "{opened} opened, {refused} refused");
}
