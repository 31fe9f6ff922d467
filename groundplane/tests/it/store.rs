//! What the program says when its store cannot be used: one line, and an exit code.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

fn run(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_groundplane")).args(arguments).env_clear().output().unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said)
}

fn last_line(said: &str) -> &str {
    said.lines().last().unwrap_or_default()
}

#[test]
fn a_cluster_that_is_not_there_is_given_up_after_the_time_that_was_set_with_its_contact_points() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let (output, said) = run(&[
        "serve",
        "--listen=127.0.0.1:0",
        "--admin-listen=127.0.0.1:0",
        &format!("--data-dir={}", dir.path().display()),
        "--store=cql://127.0.0.1:1,127.0.0.1:2/plane",
        "--store-wait=1",
    ]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let line = last_line(&said);
    assert!(line.contains("127.0.0.1:1,127.0.0.1:2/plane") && line.contains("--store-wait"), "{said}");
}

#[test]
fn addresses_that_cannot_be_right_are_refused_before_anything_is_dialled() {
    for (store, why) in [
        ("cql://127.0.0.1:9042", "names no keyspace"),
        ("cql://user:secret@127.0.0.1:9042/plane", "--store-password"),
        ("cql://127.0.0.1:9042/Plane", "is no keyspace"),
        ("cql://127.0.0.1:9042/plane?reads=two", "local_one"),
        ("postgres://127.0.0.1/plane", "is no address of a cluster"),
    ] {
        let (output, said) = run(&["serve", &format!("--store={store}")]);
        assert_eq!(output.status.code(), Some(2), "{store}: {said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{store}: {said}");
    }
}

#[test]
fn a_copy_says_what_is_wrong_with_its_sides_and_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let folder = format!("embedded:{}", dir.path().display());
    for (from, to, why) in [
        (folder.as_str(), folder.as_str(), "are the same"),
        ("embedded:/nowhere/at/all", folder.as_str(), "there is no folder /nowhere/at/all"),
        ("embedded:", folder.as_str(), "needs a folder"),
        (folder.as_str(), "somewhere", "neither embedded:DIR nor cql://"),
        (folder.as_str(), "cql://127.0.0.1:1", "--to: "),
    ] {
        let (output, said) = run(&["copy", "--from", from, "--to", to]);
        assert_eq!(output.status.code(), Some(2), "{from} {to}: {said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{from} {to}: {said}");
    }
}

#[test]
fn a_copy_to_a_cluster_that_is_not_there_ends_with_1_and_says_which_side() {
    let dir = tempfile::tempdir().unwrap();
    let from = format!("embedded:{}", dir.path().display());
    let (output, said) = run(&["copy", "--from", &from, "--to", "cql://127.0.0.1:1/plane", "--store-wait=0"]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(last_line(&said).contains("--to: the cluster cql://127.0.0.1:1/plane cannot be used"), "{said}");
}

#[test]
fn an_empty_folder_is_copied_and_both_sides_are_compared() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let side = |dir: &tempfile::TempDir| format!("embedded:{}", dir.path().join("data").display());
    std::fs::create_dir(one.path().join("data")).unwrap();
    let (output, said) = run(&["copy", "--from", &side(&one), "--to", &side(&two)]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("every table has the same sum on both sides"), "{shown}");
}
