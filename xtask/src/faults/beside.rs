//! The rows that the twin must fail, played with the twin: the same failure, and the same bar as far as it can be met
//! without what the row is about. A row that the twin passes is void.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gp_sim::Proxy;

use super::{
    Outcome, Scale,
    rig::{CEILING, Double, Reads, load, load_for, runtime, seed, version_of},
    twin::Twin,
};
use crate::memcached::Memcached;

const KEYS: usize = 5_000;
const STORE_TIME: Duration = Duration::from_millis(1);

/// Seconds of load: what has no bound shows at once.
const SECONDS: f64 = 0.7;

/// What waits for ever is not waited for longer than this.
const ENOUGH: Duration = Duration::from_millis(3_500);

/// F04: every connection is reset ten times a second.
pub(super) fn churn(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let proxy = Proxy::start(server.address, 4).await?;
        let twin = Twin::new(&double, proxy.address());
        twin.warm(KEYS).await?;
        let (dialled, loading, begun) = (twin.dials(), load(&twin, KEYS), Instant::now());
        while begun.elapsed().as_secs_f64() < SECONDS {
            proxy.cut();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let done = loading.end().await?;
        let dialled = twin.dials() - dialled;
        Ok(Outcome::new(
            done.errors == 0,
            format!("{} of {} reads failed, {dialled} connections opened", done.errors, done.reads + done.errors),
        ))
    })
}

/// F11: memcached is killed.
pub(super) fn killed(_: Scale) -> Result<Outcome> {
    let mut server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let twin = Twin::new(&double, server.address);
        twin.warm(KEYS).await?;
        let loading = load(&twin, KEYS);
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.kill();
        let before = loading.end().await?;
        let down = load_for(&twin, KEYS, SECONDS).await?;
        let errors = before.errors + down.errors;
        let most = double.in_flight_most();
        Ok(Outcome::new(
            errors == 0 && most <= CEILING,
            format!(
                "{errors} reads failed and {} were answered once it was gone; {most} visits to the store at once, of {CEILING}",
                down.reads
            ),
        ))
    })
}

/// F13: memcached is stopped, and its connections stay.
pub(super) fn half_open(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let twin = Twin::new(&double, server.address);
        twin.warm(KEYS).await?;
        server.signal("STOP")?;
        let begun = Instant::now();
        let answer = tokio::time::timeout(ENOUGH, twin.read(&[1, 2, 3])).await;
        let waited = begun.elapsed();
        server.signal("CONT")?;
        let end = if answer.is_ok() { "answered" } else { "still waiting" };
        Ok(Outcome::new(
            waited <= Duration::from_millis(250),
            format!("a read was {end} after {:.1} s", waited.as_secs_f64()),
        ))
    })
}

/// F16: everything is flushed under load, with two processes.
pub(super) fn flushed(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let twins = [Twin::new(&double, server.address), Twin::new(&double, server.address)];
        twins[0].warm(KEYS).await?;
        let loads: Vec<_> = twins.iter().map(|twin| load(twin, KEYS)).collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = double.keys_read();
        server.say("flush_all\r\n", "\r\n")?;
        tokio::time::sleep(Duration::from_secs_f64(SECONDS)).await;
        for load in loads {
            load.end().await?;
        }
        let read = double.keys_read() - before;
        let missing = server.items()?.len();
        let ratio = read as f64 / missing.max(1) as f64;
        Ok(Outcome::new(ratio <= 1.05, format!("{read} store reads for {missing} missing keys = {ratio:.3}")))
    })
}

/// F17: everybody wants one key that nobody has; as many as memcached takes connections.
pub(super) fn herd(_: Scale) -> Result<Outcome> {
    const REQUESTS: usize = 900;
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(Duration::from_millis(150));
        seed(&double, 1)?;
        let twin = Twin::new(&double, server.address);
        let tasks: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let twin = twin.clone();
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let found = twin.read(&[0]).await;
                    (begun.elapsed(), matches!(found, Ok(v) if version_of(0, v[0].as_ref()) == Some(1)))
                })
            })
            .collect();
        let (mut worst, mut failed) = (Duration::ZERO, 0);
        for task in tasks {
            let (took, right) = task.await?;
            worst = worst.max(took);
            failed += u64::from(!right);
        }
        let reads = double.keys_read();
        Ok(Outcome::new(
            reads == 1 && failed == 0,
            format!(
                "{REQUESTS} requests: {reads} store reads, {failed} failed, slowest {} ms, {} connections opened",
                worst.as_millis(),
                twin.dials()
            ),
        ))
    })
}

/// F18: the first who asked goes away; a process dies with its lock.
pub(super) fn leader_dies(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(Duration::from_millis(150));
        seed(&double, 2)?;
        let twin = Twin::new(&double, server.address);
        let ask = || {
            let twin = twin.clone();
            tokio::spawn(async move { tokio::time::timeout(ENOUGH, twin.get_with_a_leader(0)).await })
        };
        let leader = ask();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let followers: Vec<_> = (0..200).map(|_| ask()).collect();
        tokio::time::sleep(Duration::from_millis(30)).await;
        leader.abort();
        let mut unanswered = 0;
        for follower in followers {
            unanswered += u64::from(!matches!(follower.await?, Ok(Ok(_))));
        }
        let doomed = Twin::new(&double, server.address);
        ensure!(doomed.lock(1).await?, "nobody else has the lock");
        drop(doomed);
        let other = tokio::time::timeout(ENOUGH, twin.get_with_a_lock(1)).await;
        let end = if other.is_ok() { "was loaded" } else { "is loaded by nobody" };
        Ok(Outcome::new(
            unanswered == 0 && other.is_ok(),
            format!(
                "{unanswered} of 200 followers had no answer after {:.1} s; the key of the dead process {end} in that time",
                ENOUGH.as_secs_f64()
            ),
        ))
    })
}
