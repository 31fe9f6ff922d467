//! `groundplane backfill`: ends when it is done, goes on where it was killed, says what could not be read.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use gp_index::{records, tables};
use gp_store::Store;
use gp_synth::{Network, Size, Spec};

/// Nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn network(accounts: u32) -> Network {
    let size = Size::Custom { accounts, records: u64::from(accounts) * 10 };
    Network::start(Spec::new(size, 5, gp_index::system_now_us() - 60_000_000)).await.unwrap()
}

fn start(network: &Network, folder: &Path, from: &[String]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_groundplane"))
        .arg("backfill")
        .args(from)
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--allow-private-networks"])
        .args(["--plc-url", &network.plc_url(), "--did-resolver-url", &network.plc_url()])
        .args(["--handle-resolver-url", &network.handle_resolver_url(), "--backfill-host-rate", "10000", "--data-dir"])
        .arg(folder)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for its end, for so long; nothing if it goes on.
fn ended_within(child: &mut Child, most: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < most {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn end(mut child: Child) -> Output {
    if !ended_within(&mut child, PATIENCE) {
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        panic!("it goes on: {}", String::from_utf8_lossy(&output.stderr));
    }
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_it_was_killed_and_ends_when_nothing_is_left() {
    let network = network(80).await;
    let folder = tempfile::tempdir().unwrap();
    let from = [network.plc_url()];
    network.delay_requests(Some(("/xrpc/com.atproto.sync.getRepo", Duration::from_millis(40))));
    let mut kills = 0;
    let output = loop {
        let mut child = start(&network, folder.path(), &from);
        // Later each time, so that a slow machine gets somewhere as well.
        if ended_within(&mut child, Duration::from_millis(700 + 300 * kills)) {
            break end(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if kills == 3 {
            network.delay_requests(None);
        }
        assert!(kills < 60, "it gets nowhere");
    };
    assert!(kills > 0, "it was done before it could be killed");
    let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{:?} {said} {log}", output.status);

    let store = Store::lsm(folder.path(), &all_tables(), &gp_store::Config::default()).unwrap();
    for account in network.accounts().iter().filter(|account| account.facts.status.is_none()) {
        let did = &account.facts.did;
        let paths: Vec<String> =
            network.model(|model| model.records(did).map(|(path, _)| path.to_owned()).collect()).unwrap();
        let keys: Vec<_> = paths
            .iter()
            .map(|path| path.split_once('/').unwrap())
            .map(|(collection, rkey)| records::key(did, collection, rkey))
            .collect();
        let missing = store.get(&keys).await.unwrap().iter().filter(|row| row.is_none()).count();
        assert_eq!(missing, 0, "{did}: {missing} of {} records are missing", keys.len());
    }
}

fn all_tables() -> Vec<&'static gp_store::Table> {
    let mut all: Vec<_> = tables::ALL.to_vec();
    all.extend_from_slice(gp_ingest::TABLES);
    all.extend_from_slice(gp_search::TABLES);
    all.extend_from_slice(gp_store::TABLES);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_is_said_in_the_end_and_by_the_exit_code() {
    let network = network(24).await;
    let folder = tempfile::tempdir().unwrap();
    // Its repo is there, and the directory has forgotten who signs it.
    let account = network.accounts().into_iter().find(|account| account.facts.status.is_none()).unwrap();
    network.bury(&account.facts.did).unwrap();
    let output = end(start(&network, folder.path(), &[network.plc_url()]));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let line: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!((&line["did"], &line["reason"]), (&account.facts.did.into(), &"identity".into()), "{line}");

    let output = end(start(&network, folder.path(), &[]));
    assert_eq!(output.status.code(), Some(2), "whose repos, it must be told");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("groundplane backfill https://"), "{why}");
}
