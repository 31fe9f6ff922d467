//! `cargo xtask bench cache`: large batches from memcached, beside what one connection carries when nobody looks at it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gp_store::Key;

use super::Args;
use crate::{
    faults::rig::{Double, NO_NEAR, far, key, ready, seed, version_of, warm},
    memcached::Memcached,
};

/// Keys of one batch: the largest that the incident knew.
const KEYS: usize = 20_000;

/// Fills a memcached, reads it in large batches, and prints what came.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let server = Memcached::start()?;
    let double = Double::new(Duration::from_millis(1));
    seed(&double, KEYS)?;
    let store = double.store(&[server.address], true, NO_NEAR)?;
    ready(&store).await?;
    warm(&store, KEYS).await?;
    let names: Vec<String> = server.items()?.into_iter().map(|(name, _)| name).collect();
    ensure!(names.len() == KEYS, "{} of {KEYS} keys stand in memcached", names.len());
    let span = Duration::from_secs(args.seconds.clamp(1, 60)) / 4;

    // In a thread: it writes all it has to say while it reads, as a client without a protocol would.
    let address = server.address;
    let raw = tokio::task::spawn_blocking(move || raw(address, &names, span)).await??;
    show("one connection, answers only counted", KEYS, &raw);

    let (dials, read) = (dialled(&store), double.keys_read());
    let port = server.address.port();
    // Those of this bench's own questions to memcached.
    let waiting = time_wait(port)?;
    for keys in [KEYS, 1_000, 50] {
        let wanted: Vec<Key> = (0..keys).map(key).collect();
        let (begun, mut took) = (Instant::now(), Vec::new());
        while begun.elapsed() < span {
            let at = Instant::now();
            let found = store.get(&wanted).await?;
            took.push(at.elapsed());
            ensure!(found.iter().enumerate().all(|(n, v)| version_of(n, v.as_ref()) == Some(1)), "a wrong answer");
        }
        show(&format!("the store over its pool, {keys} keys"), keys, &took);
    }
    let figures = far(&store);
    let node = figures.nodes.first().context("there is one node")?;
    println!("connections in the pool: {}", node.client.connections_up);
    println!("connections opened after start: {}", dialled(&store) - dials);
    println!("keys asked of the store meanwhile: {}", double.keys_read() - read);
    println!("sockets in TIME_WAIT towards memcached, more than before: {}", time_wait(port)?.saturating_sub(waiting));
    Ok(())
}

fn dialled(store: &gp_store::Store) -> u64 {
    far(store).nodes.iter().map(|node| node.client.dials.iter().sum::<u64>()).sum()
}

fn show(what: &str, keys: usize, took: &[Duration]) {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    let mean = took.iter().sum::<Duration>().as_secs_f64() / took.len() as f64;
    println!(
        "{what:<45} {:>5} batches, p50 {:>8.3} ms, p99 {:>8.3} ms, {:>9.0} keys/s",
        took.len(),
        at(0.5),
        at(0.99),
        keys as f64 / mean
    );
}

/// All keys, asked at once on one connection. Answers are counted by their bytes and not looked at.
fn raw(address: SocketAddr, names: &[String], span: Duration) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let question: String = names.iter().map(|name| format!("mg {name} v c\r\n")).collect();
    let mut buffer = vec![0; 256 << 10];
    // How long the answer is, from one that is read to its end.
    let mut writer = stream.try_clone()?;
    let asked = question.clone() + "mn\r\n";
    let sending = std::thread::spawn(move || writer.write_all(asked.as_bytes()));
    let (mut length, mut tail) = (0, Vec::new());
    while !tail.ends_with(b"\r\nMN\r\n") {
        let n = stream.read(&mut buffer)?;
        ensure!(n > 0, "memcached closed the connection");
        length += n;
        tail.extend_from_slice(&buffer[n.saturating_sub(8)..n]);
        tail.drain(..tail.len().saturating_sub(8));
    }
    sending.join().map_err(|_| anyhow::anyhow!("the writing thread panicked"))??;
    length -= b"MN\r\n".len();
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < span || took.is_empty() {
        let (at, mut left) = (Instant::now(), length);
        let (mut writer, question) = (stream.try_clone()?, question.clone());
        let sending = std::thread::spawn(move || writer.write_all(question.as_bytes()));
        while left > 0 {
            let n = stream.read(&mut buffer)?;
            ensure!(n > 0 && n <= left, "memcached answered something else");
            left -= n;
        }
        took.push(at.elapsed());
        sending.join().map_err(|_| anyhow::anyhow!("the writing thread panicked"))??;
    }
    Ok(took)
}

/// Sockets that wait out their time with this port at the other end.
fn time_wait(port: u16) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
    let remote = format!(":{port:04X}");
    Ok(table
        .lines()
        .skip(1)
        .filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(2).is_some_and(|word| word.ends_with(&remote)) && words.get(3) == Some(&"06")
        })
        .count())
}
