//! Histories in files.

use std::net::SocketAddr;

use futures::StreamExt;
use gp_atproto::{crypto::VerifyingKey, frame::peek, repo::Repo};
use groundplane_synth::{Error, Recording};
use tokio_tungstenite::connect_async;

use crate::{consumer::now_us, start, tiny};

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_the_network_itself() {
    let folder = tempfile::tempdir().unwrap();
    let network = start(tiny(61)).await;
    Recording::write(&tiny(61), folder.path()).unwrap();
    let recording = Recording::read(folder.path()).unwrap();

    // What a deleted account did before is still in the file, as it is on a relay that does not erase.
    let recorded: Vec<_> = recording.frames().unwrap().map(Result::unwrap).collect();
    let mut recorded_by_seq = recorded.iter();
    for (seq, frame) in network.frames() {
        assert!(recorded_by_seq.any(|(other, bytes)| *other == seq && *bytes == frame), "{seq}");
    }
    assert_eq!((recording.events(), recording.head_seq()), (recorded.len() as u64, network.head_seq()));
    let written = network.stats().written;
    assert_eq!(recording.operations(), written.records + written.updates + written.deletes);
    assert_eq!(recording.identities().len(), network.accounts().len());

    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let replay = recording.replay(listen).await.unwrap();
    assert_eq!(replay.head_seq(), network.head_seq());
    let url = format!("{}/xrpc/com.atproto.sync.subscribeRepos?cursor=0", replay.relay_url());
    let (mut client, _) = connect_async(url).await.unwrap();
    for (seq, frame) in &recorded {
        let heard = client.next().await.unwrap().unwrap().into_data();
        assert_eq!((peek(&heard).seq, &heard), (Some(*seq), frame));
    }

    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for identity in recording.identities() {
        let answer = http.get(format!("{}/{}", replay.plc_url(), identity.did)).send().await.unwrap();
        let document: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(document["verificationMethod"][0]["publicKeyMultibase"], identity.signing_key);
        if identity.status.is_none() {
            let url = format!("{}/xrpc/com.atproto.sync.getRepo?did={}", replay.plc_url(), identity.did);
            let car = http.get(url).send().await.unwrap().bytes().await.unwrap();
            let key = VerifyingKey::from_multikey(&identity.signing_key).unwrap();
            let repo = Repo::verify(&car, &identity.did, &key, now_us(&network)).unwrap();
            assert_eq!(Some(repo.state()), network.repo_state(&identity.did));
        }
    }
}

#[test]
fn damaged_recordings_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Recording::read(folder.path()), Err(Error::File { .. })));
    Recording::write(&tiny(62), folder.path()).unwrap();
    let frames = folder.path().join("frames.bin");
    let bytes = std::fs::read(&frames).unwrap();
    std::fs::write(&frames, &bytes[..bytes.len() - 1]).unwrap();
    let recording = Recording::read(folder.path()).unwrap();
    let all: Vec<_> = recording.frames().unwrap().collect();
    assert!(all[..all.len() - 1].iter().all(Result::is_ok) && all[all.len() - 1].is_err());
    std::fs::write(&frames, b"something else").unwrap();
    assert!(matches!(Recording::read(folder.path()), Err(Error::Recording(_))));
}
