//! Keys that are not there: all at once, one that all want, one whose reader dies, and many that end together.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use gp_store::Store;

use super::{
    Outcome, Scale,
    rig::{Double, NO_NEAR, far, key, load, ready, runtime, seed, troubles, until, version_of, warm},
};
use crate::memcached::Memcached;

/// Two processes of a fleet: the one that writes, and one that hears it.
async fn fleet(double: &Double, node: SocketAddr, near_bytes: u64) -> Result<[Store; 2]> {
    let writer = double.store(&[node], true, near_bytes)?;
    ready(&writer).await?;
    let reader = double.store(&[node], false, near_bytes)?;
    ready(&reader).await?;
    Ok([writer, reader])
}

/// F16: everything is flushed under load.
pub(super) fn flushed(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let keys = 5_000;
    runtime()?.block_on(async {
        let double = Double::new(Duration::from_millis(1));
        seed(&double, keys)?;
        let stores = fleet(&double, server.address, NO_NEAR).await?;
        warm(&stores[0], keys).await?;
        let loads: Vec<_> = stores.iter().map(|store| load(store, keys)).collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = double.keys_read();
        server.say("flush_all\r\n", "\r\n")?;
        tokio::time::sleep(Duration::from_secs_f64(scale.seconds().min(2.5))).await;
        let read = double.keys_read() - before;
        let mut errors = 0;
        for load in loads {
            let done = load.end().await?;
            errors += done.errors + done.wrong;
        }
        // Each key that was asked for stands again.
        let missing = server.items()?.len() as u64;
        let ratio = read as f64 / missing.max(1) as f64;
        Ok(Outcome::new(
            errors == 0 && ratio <= 1.05,
            format!(
                "{read} store reads for {missing} missing keys = {ratio:.3}, two processes, {errors} errors{}",
                stores.iter().map(troubles).collect::<String>()
            ),
        ))
    })
}

/// F17: everybody wants one key that nobody has.
pub(super) fn herd(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let requests = scale.count(20_000, 2_000);
    runtime()?.block_on(async {
        let double = Double::new(Duration::from_millis(150));
        seed(&double, 1)?;
        let stores = fleet(&double, server.address, NO_NEAR).await?;
        let begun = Instant::now();
        let mut tasks = Vec::with_capacity(requests);
        for n in 0..requests {
            let store = stores[n % 2].clone();
            tasks.push(tokio::spawn(async move {
                let begun = Instant::now();
                let found = store.get_one(&key(0)).await;
                (begun.elapsed(), matches!(found, Ok(v) if version_of(0, v.as_ref()) == Some(1)))
            }));
            if n % 200 == 199 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
        let sent = begun.elapsed();
        let (mut worst, mut wrong) = (Duration::ZERO, 0);
        for task in tasks {
            let (took, right) = task.await?;
            worst = worst.max(took);
            wrong += u64::from(!right);
        }
        let reads = double.keys_read();
        Ok(Outcome::new(
            reads == 1 && wrong == 0 && worst <= Duration::from_millis(200),
            format!(
                "{requests} requests to two processes within {} ms: {reads} store read, slowest {} ms, {wrong} wrong or failed{}",
                sent.as_millis(),
                worst.as_millis(),
                stores.iter().map(troubles).collect::<String>()
            ),
        ))
    })
}

/// F18: the first who asked goes away; the process that holds the lease dies.
pub(super) fn leader_dies(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(Duration::from_millis(150));
        seed(&double, 2)?;
        let stores = fleet(&double, server.address, NO_NEAR).await?;
        let ask = |store: &Store, n: usize| {
            let store = store.clone();
            tokio::spawn(async move { store.get_one(&key(n)).await })
        };
        let leader = ask(&stores[0], 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let followers: Vec<_> = (0..200).map(|n| ask(&stores[n % 2], 0)).collect();
        tokio::time::sleep(Duration::from_millis(30)).await;
        leader.abort();
        let mut failed = 0;
        for follower in followers {
            failed += u64::from(version_of(0, follower.await??.as_ref()) != Some(1));
        }
        let reads = double.keys_read();
        // A process of its own takes the lease of another key, and is gone: its thread and its connections end with it.
        let doomed = double.store(&[server.address], false, NO_NEAR)?;
        ready(&doomed).await?;
        let items = server.items()?.len();
        let task = ask(&doomed, 1);
        until("it has the lease", || server.items().is_ok_and(|now| now.len() > items)).await?;
        task.abort();
        let stub = server.items()?.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        // As a dead process leaves it: the stub stands again, and nobody is left who could fill it.
        let filled = server.items()?.into_iter().filter(|(_, ttl)| *ttl > 5).map(|(name, _)| name).collect::<Vec<_>>();
        let doomed_key = stub.into_iter().find(|name| !filled.contains(name));
        drop(doomed);
        let Some(doomed_key) = doomed_key else { return Ok(Outcome::new(false, "no stub was seen".into())) };
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.say(&format!("md {doomed_key}\r\nmg {doomed_key} v N3\r\n"), "W\r\n\r\n")?;
        let (begun, mut wrong) = (Instant::now(), 0);
        let recovered = loop {
            let found = stores[1].get_one(&key(1)).await?;
            wrong += u64::from(version_of(1, found.as_ref()) != Some(1));
            let ttl = server.items()?.into_iter().find(|(name, _)| *name == doomed_key).map(|(_, ttl)| ttl);
            if ttl.is_some_and(|ttl| ttl > 5) {
                break begun.elapsed();
            }
            if begun.elapsed() > Duration::from_secs(10) {
                break begun.elapsed();
            }
        };
        Ok(Outcome::new(
            failed == 0 && reads == 1 && wrong == 0 && recovered <= Duration::from_millis(3_500),
            format!(
                "in the process {failed} of 200 followers failed, {reads} read; across processes kept again after {:.1} s (memcached counts whole seconds), {wrong} stubs or wrong values seen",
                recovered.as_secs_f64()
            ),
        ))
    })
}

/// F20: what was put at one moment does not end at one moment. By the times that memcached tells of its items.
pub(super) fn expiry(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let keys = scale.count(100_000, 10_000);
    runtime()?.block_on(async {
        let double = Double::new(Duration::ZERO);
        seed(&double, keys)?;
        let store = double.store(&[server.address], true, NO_NEAR)?;
        ready(&store).await?;
        let begun = Instant::now();
        warm(&store, keys).await?;
        let put = begun.elapsed().as_secs_f64();
        let lives: Vec<i64> = server.items()?.into_iter().map(|(_, ttl)| ttl).collect();
        let (Some(first), Some(last)) = (lives.iter().min(), lives.iter().max()) else {
            return Ok(Outcome::new(false, "nothing was put".into()));
        };
        // Reloads come over this span, in steps of ten seconds.
        let mut steps = vec![0_u64; ((last - first) / 10 + 1) as usize];
        lives.iter().for_each(|ttl| steps[((ttl - first) / 10) as usize] += 1);
        // The last step may be cut short.
        let mean = lives.len() as f64 / ((last - first + 1) as f64 / 10.0);
        let peak = steps.iter().max().copied().unwrap_or(0) as f64;
        let dropped = far(&store).fills_dropped + far(&store).fills_failed;
        Ok(Outcome::new(
            peak <= 3.0 * mean && lives.len() as u64 + dropped >= keys as u64,
            format!(
                "{} keys put in {put:.1} s end over {} s; the fullest ten seconds have {:.2} times the mean; {dropped} not put",
                lives.len(),
                last - first,
                peak / mean
            ),
        ))
    })
}
