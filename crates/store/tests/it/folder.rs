//! Whose folder it is, and what happens to one that is not ours to open.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use gp_store::{
    Batch, Config, Error, Store,
    conformance::{PLAIN, TABLES, partition},
};

use crate::kill::{child, wait_for_line};

fn open(dir: &Path) -> Result<Store, Error> {
    Store::lsm(dir, &TABLES, &Config::default())
}

/// Why a folder is not opened.
fn refused(dir: &Path) -> Error {
    match open(dir) {
        Ok(_) => panic!("the folder was opened"),
        Err(e) => {
            let line = e.to_string();
            assert!(
                !line.contains('\n') && line.contains(&dir.display().to_string()),
                "one line that names the folder: {line}"
            );
            e
        }
    }
}

fn with_a_row(dir: &Path) {
    let store = open(dir).unwrap();
    let mut batch = Batch::new();
    batch.put(partition(&PLAIN, b"p").head(), b"v".to_vec());
    store.apply_now(&batch).unwrap();
    store.local().sync().unwrap();
}

fn has_the_row(dir: &Path) {
    let store = open(dir).unwrap();
    assert!(store.local().get_one(&partition(&PLAIN, b"p").head()).unwrap().is_some());
}

/// Every file below a folder with its bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.strip_prefix(dir).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn a_folder_of_a_newer_format_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    with_a_row(dir.path());
    fs::write(dir.path().join("FORMAT"), "3\n").unwrap();
    let before = contents(dir.path());
    match refused(dir.path()) {
        Error::Format { found, known, .. } => assert_eq!((found.as_str(), known), ("3", 2)),
        other => panic!("{other}"),
    }
    assert_eq!(contents(dir.path()), before);
    fs::write(dir.path().join("FORMAT"), "2\n").unwrap();
    has_the_row(dir.path());

    // Also where there is nothing but the number, and where it is no number.
    for text in [&b"3\n"[..], b"0\n", b"", b"one", b"\xff\xfe\n\x07", &[b'9'; 5000]] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), text).unwrap();
        let before = contents(dir.path());
        assert!(matches!(refused(dir.path()), Error::Format { .. }));
        assert_eq!(contents(dir.path()), before);
    }
}

#[test]
fn a_folder_of_the_format_before_is_read_and_has_the_new_one_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    with_a_row(dir.path());
    fs::write(dir.path().join("FORMAT"), "1\n").unwrap();
    has_the_row(dir.path());
    assert_eq!(fs::read_to_string(dir.path().join("FORMAT")).unwrap(), "2\n");
    has_the_row(dir.path());
}

#[test]
fn data_without_a_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    with_a_row(dir.path());
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    let before = contents(dir.path());
    assert!(matches!(refused(dir.path()), Error::Open { .. }));
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_folder_whose_rows_have_gone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    with_a_row(dir.path());
    fs::rename(dir.path().join("rows"), dir.path().join("away")).unwrap();
    assert!(matches!(refused(dir.path()), Error::Open { .. }));
    assert!(!dir.path().join("rows").exists());
    fs::rename(dir.path().join("away"), dir.path().join("rows")).unwrap();
    has_the_row(dir.path());
}

#[test]
fn a_path_that_cannot_be_a_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    assert!(matches!(refused(&file), Error::Open { .. }));
    assert!(matches!(refused(&file.join("below")), Error::Open { .. }));
    assert_eq!(fs::read(&file).unwrap(), b"text");
}

#[test]
fn a_folder_beside_other_files_is_fine_and_a_first_start_may_be_cut_short_anywhere() {
    // What each step of a first start leaves: nothing, an empty folder, the lock, the format, half of the rows.
    for step in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("deep/er");
        if step > 0 {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("somebody-elses"), "file").unwrap();
        }
        if step > 1 {
            fs::write(dir.join("LOCK"), "").unwrap();
        }
        if step > 2 {
            fs::write(dir.join("FORMAT.new"), "").unwrap();
            fs::write(dir.join("FORMAT"), "1\n").unwrap();
        }
        if step > 3 {
            fs::create_dir_all(dir.join("rows.new/keyspaces/0")).unwrap();
            fs::write(dir.join("rows.new/0.jnl"), "").unwrap();
            fs::write(dir.join("rows.new/lock"), "").unwrap();
        }
        with_a_row(&dir);
        has_the_row(&dir);
        assert!(!dir.join("rows.new").exists());
    }
}

#[test]
fn a_folder_is_opened_once_within_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let other = first.clone();
    assert!(matches!(refused(dir.path()), Error::InUse(_)));
    drop(first);
    assert!(matches!(refused(dir.path()), Error::InUse(_)), "a clone still has it");
    drop(other);
    with_a_row(dir.path());
    has_the_row(dir.path());
}

#[test]
fn a_folder_in_use_by_another_process_is_left_as_it_is_until_that_one_dies() {
    let dir = tempfile::tempdir().unwrap();
    with_a_row(dir.path());
    let mut other = child("hold", dir.path(), &[]).stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut other, "holding");
    let before = contents(dir.path());
    assert!(matches!(refused(dir.path()), Error::InUse(_)));
    assert_eq!(contents(dir.path()), before);
    // Not given free by anything but its death, and then at once: kill -9 leaves no stale lock.
    other.kill().unwrap();
    other.wait().unwrap();
    has_the_row(dir.path());
}

/// The child of the test above: opens the folder and holds it until it is killed or its input ends.
pub(crate) fn hold(dir: &Path) {
    let store = open(dir).unwrap();
    println!("holding");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    drop(store);
}

#[test]
fn two_processes_that_start_at_once_do_not_both_get_a_new_folder() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let start = |_| -> Command {
            let mut command = child("try", dir.path(), &[]);
            command.stdout(Stdio::piped()).stdin(Stdio::piped());
            command
        };
        let both: Vec<_> = (0..2).map(|n| start(n).spawn().unwrap()).collect();
        // Both hold what they got until their input ends, so that one after the other is not mistaken for both.
        let answers: Vec<String> = both
            .into_iter()
            .map(|mut one| {
                let answer = wait_for_line(&mut one, "");
                (one, answer)
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(mut one, answer)| {
                drop(one.stdin.take());
                assert!(one.wait().unwrap().success());
                answer
            })
            .collect();
        let opened = answers.iter().filter(|a| *a == "opened").count();
        let in_use = answers.iter().filter(|a| *a == "in use").count();
        assert_eq!((opened, in_use), (1, 1), "{answers:?}");
        open(dir.path()).unwrap();
    }
}

/// The child of the test above.
pub(crate) fn try_open(dir: &Path) {
    let opened = open(dir);
    match &opened {
        Ok(_) => println!("opened"),
        Err(Error::InUse(_)) => println!("in use"),
        Err(other) => println!("{other}"),
    }
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}
