//! The client against a small server that speaks the protocol, and misbehaves when told. What needs the real memcached is
//! in `cargo xtask faults`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use groundplane_memcached::{Client, Config, Found, LeaseTerms, Op, State, Wrote};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

const HONEST: u8 = 0;
const WRONG_NUMBER: u8 = 1;
const TWICE: u8 = 2;
const SILENT: u8 = 3;
const HANGS_UP: u8 = 4;

/// Value, number, and whether the right to fill was given away.
type Item = (Vec<u8>, u64, bool);

#[derive(Default)]
struct Shared {
    mood: AtomicU8,
    accepted: AtomicU64,
    cas: AtomicU64,
    items: Mutex<HashMap<String, Item>>,
}

async fn server() -> (SocketAddr, Arc<Shared>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
    let given = Arc::clone(&shared);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            given.accepted.fetch_add(1, SeqCst);
            tokio::spawn(serve(stream, Arc::clone(&given)));
        }
    });
    (address, shared)
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let token =
            |flag: char| words.iter().skip(2).find_map(|w| w.strip_prefix(flag)).and_then(|t| t.parse::<u64>().ok());
        let opaque = token('O').unwrap_or(0);
        let answer: Vec<u8> = match words[0] {
            "mn" => b"MN\r\n".to_vec(),
            "mg" => {
                let mut items = shared.items.lock();
                let mut won = "";
                if !items.contains_key(words[1]) && token('N').is_some() {
                    items.insert(words[1].into(), (Vec::new(), shared.cas.fetch_add(1, SeqCst) + 1, true));
                    won = " W";
                }
                match items.get(words[1]) {
                    None => format!("EN O{opaque}\r\n").into_bytes(),
                    Some((value, cas, given)) => {
                        let flag = if won.is_empty() && *given { " Z" } else { won };
                        let head = format!("VA {} c{cas} O{opaque}{flag}\r\n", value.len());
                        [head.as_bytes(), value, b"\r\n"].concat()
                    }
                }
            }
            "ms" => {
                let mut value = vec![0; words[2].parse::<usize>().ok()? + 2];
                stream.read_exact(&mut value).await.ok()?;
                value.truncate(value.len() - 2);
                let mut items = shared.items.lock();
                let status = match (token('C'), items.get(words[1])) {
                    (Some(_), None) => "NF",
                    (Some(cas), Some((_, now, _))) if cas != *now => "EX",
                    _ => {
                        items.insert(words[1].into(), (value, shared.cas.fetch_add(1, SeqCst) + 1, false));
                        "HD"
                    }
                };
                format!("{status} O{opaque}\r\n").into_bytes()
            }
            "md" => {
                let status = if shared.items.lock().remove(words[1]).is_some() { "HD" } else { "NF" };
                format!("{status} O{opaque}\r\n").into_bytes()
            }
            _ => b"ERROR\r\n".to_vec(),
        };
        let answer = match shared.mood.load(SeqCst) {
            WRONG_NUMBER => String::from_utf8_lossy(&answer).replace(&format!("O{opaque}"), "O0").into_bytes(),
            TWICE => [&answer[..], &answer].concat(),
            SILENT => continue,
            HANGS_UP => return None,
            _ => answer,
        };
        stream.get_mut().write_all(&answer).await.ok()?;
    }
}

fn config(address: SocketAddr) -> Config {
    // Machines that are busy must not look like servers that are silent.
    Config {
        nodes: vec![address.to_string()],
        connections_per_node: 2,
        op_deadline: Duration::from_millis(100),
        ..Config::default()
    }
}

async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it did not come: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn rig() -> (Arc<Shared>, Client) {
    let (address, shared) = server().await;
    let client = Client::start(config(address), &Handle::current());
    until("both connections", || client.figures()[0].connections_up == 2).await;
    (shared, client)
}

fn set(key: &'static str, value: &'static str) -> Op {
    Op::Set { key: key.into(), value: value.into(), ttl_seconds: 9, lease: None }
}

const TERMS: Option<LeaseTerms> = Some(LeaseTerms { stub_seconds: 3, refresh_seconds: 60 });

#[tokio::test]
async fn values_come_in_the_order_asked_over_all_connections() {
    let (_, client) = rig().await;
    let keys: Vec<Bytes> = (0..2_500).map(|n| format!("k{n}").into()).collect();
    let ops: Vec<Op> = keys
        .iter()
        .step_by(2)
        .map(|key| Op::Set { key: key.clone(), value: key.clone(), ttl_seconds: 9, lease: None })
        .collect();
    assert!(client.write(0, &ops).await.iter().all(|wrote| *wrote == Wrote::Done));
    let found = client.get(0, &keys, None).await;
    for (n, (key, found)) in keys.iter().zip(found).enumerate() {
        assert_eq!(found, if n % 2 == 0 { Found::Value(key.clone(), None) } else { Found::Miss });
    }
    assert_eq!(client.figures()[0].dials[0], 2, "demand opens none");
}

#[tokio::test]
async fn one_reader_wins_a_lease_and_a_change_ends_it() {
    let (_, client) = rig().await;
    let ask = async || client.get(0, &["k".into()], TERMS).await.remove(0);
    let Found::Won(lease) = ask().await else { panic!("the first wins") };
    assert_eq!(ask().await, Found::Taken);
    let fill = |lease| Op::Set { key: "k".into(), value: "old".into(), ttl_seconds: 9, lease: Some(lease) };
    assert_eq!(client.write(0, &[Op::Delete { key: "k".into(), lease: None }]).await, [Wrote::Done]);
    assert_eq!(client.write(0, &[fill(lease)]).await, [Wrote::LostLease]);
    let Found::Won(second) = ask().await else { panic!("it is free again") };
    assert_eq!(client.write(0, &[fill(lease), fill(second)]).await, [Wrote::LostLease, Wrote::Done]);
    assert_eq!(ask().await, Found::Value("old".into(), None));
}

#[tokio::test]
async fn a_lease_ends_with_its_connection() {
    let (shared, client) = rig().await;
    let Found::Won(lease) = client.get(0, &["k".into()], TERMS).await.remove(0) else { panic!("wins") };
    shared.mood.store(HANGS_UP, SeqCst);
    until("connections end", || {
        let asking = client.clone();
        tokio::spawn(async move { asking.get(0, &["x".into(), "y".into()], None).await });
        client.figures()[0].connections_up == 0
    })
    .await;
    shared.mood.store(HONEST, SeqCst);
    until("both are back", || client.figures()[0].connections_up == 2).await;
    let fill = Op::Set { key: "k".into(), value: "old".into(), ttl_seconds: 9, lease: Some(lease) };
    // The item still has its number, and yet: it may be another server's.
    assert_eq!(client.write(0, &[fill]).await, [Wrote::LostLease]);
}

#[tokio::test]
async fn what_is_out_of_step_is_nobodys_answer_and_ends_the_connection() {
    for mood in [WRONG_NUMBER, TWICE] {
        let (shared, client) = rig().await;
        assert_eq!(client.write(0, &[set("k", "v"), set("l", "w")]).await, [Wrote::Done, Wrote::Done]);
        shared.mood.store(mood, SeqCst);
        for _ in 0..4 {
            for (key, value) in [("k", "v"), ("l", "w")] {
                let found = client.get(0, &[key.into()], None).await.remove(0);
                assert!([Found::Unknown, Found::Value(value.into(), None)].contains(&found), "{found:?}");
            }
        }
        until("given up", || client.figures()[0].discarded >= 1).await;
    }
}

#[tokio::test]
async fn silence_is_bounded_opens_the_breaker_and_is_over_when_it_is_over() {
    let (shared, client) = rig().await;
    client.write(0, &[set("k", "v")]).await;
    shared.mood.store(SILENT, SeqCst);
    while client.is_usable(0) {
        let begun = Instant::now();
        assert_eq!(client.get(0, &["k".into()], None).await, [Found::Unknown]);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    let begun = Instant::now();
    assert_eq!(client.get(0, &["k".into()], None).await, [Found::Unknown]);
    assert!(begun.elapsed() < Duration::from_millis(100), "a node that is left alone is not waited for");
    shared.mood.store(HONEST, SeqCst);
    until("usable", || client.is_usable(0)).await;
    assert_eq!(client.get(0, &["k".into()], None).await, [Found::Value("v".into(), None)]);
    assert_eq!(client.figures()[0].breaker, State::Closed);
}

#[tokio::test]
async fn a_slot_dials_at_most_once_a_second() {
    let (shared, client) = rig().await;
    shared.mood.store(HANGS_UP, SeqCst);
    let (begun, before) = (Instant::now(), shared.accepted.load(SeqCst));
    while begun.elapsed() < Duration::from_secs(3) {
        client.get(0, &["k".into()], None).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let dials = shared.accepted.load(SeqCst) - before;
    let allowed = 2 * (begun.elapsed().as_secs() + 1);
    assert!(dials <= allowed, "{dials} dials of two slots in {:?}", begun.elapsed());
}

#[tokio::test]
async fn too_much_waiting_and_too_long_a_value_are_refused_at_once() {
    let (address, shared) = server().await;
    let config =
        Config { backlog_bytes_max: 10_000, value_bytes_max: 5_000, connections_per_node: 1, ..config(address) };
    let client = Client::start(config, &Handle::current());
    until("the connection", || client.figures()[0].connections_up == 1).await;
    let long = Op::Set { key: "k".into(), value: vec![0; 5_001].into(), ttl_seconds: 9, lease: None };
    assert_eq!(client.write(0, &[long]).await, [Wrote::Refused]);
    shared.mood.store(SILENT, SeqCst);
    let keys: Vec<Bytes> = (0..200).map(|n| format!("key-of-some-length-{n}").into()).collect();
    let asks = (0..20).map(|_| {
        let (client, keys) = (client.clone(), keys.clone());
        tokio::spawn(async move { client.get(0, &keys, None).await })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert!(ask.await.unwrap().iter().all(|found| *found == Found::Unknown));
    }
    assert!(client.figures()[0].refused > 0);
    until("the backlog is given back", || client.figures()[0].backlog_bytes == 0).await;
}
