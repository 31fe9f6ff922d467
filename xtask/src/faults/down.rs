//! memcached does not answer, or too late.

use std::time::{Duration, Instant};

use anyhow::Result;
use gp_sim::{Faults, Proxy};
use gp_store::Store;

use super::{
    Outcome, Scale,
    rig::{
        CEILING, Double, NO_NEAR, far, key, load, load_for, ms_until, ready, runtime, seed, until, version_of, warm,
    },
};
use crate::memcached::Memcached;

const KEYS: usize = 20_000;
const STORE_TIME: Duration = Duration::from_millis(1);

/// F04: every connection is reset ten times a second.
pub(super) fn churn(scale: Scale) -> Result<Outcome> {
    const EVERY: Duration = Duration::from_millis(100);
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let proxy = Proxy::start(server.address, 4).await?;
        let store = double.store(&[proxy.address()], true, NO_NEAR)?;
        ready(&store).await?;
        warm(&store, KEYS).await?;
        let slots = far(&store).nodes[0].client.connections;
        let dials = |store: &Store| far(store).nodes[0].client.dials.iter().sum::<u64>();
        // What was dialled at the start is no churn.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (dialled, loading, begun) = (dials(&store), load(&store, KEYS), Instant::now());
        let mut most = 0;
        while begun.elapsed().as_secs_f64() < scale.seconds() * 5.0 {
            proxy.cut();
            tokio::time::sleep(EVERY).await;
            most = most.max(proxy.accepted_within(Duration::from_secs(1)) as u64);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let done = loading.end().await?;
        let dialled = dials(&store) - dialled;
        let a_second = dialled as f64 / seconds / slots as f64;
        Ok(Outcome::new(
            done.errors + done.wrong == 0 && done.reads > 0 && dialled > 0 && most <= slots,
            format!(
                "reset every {} ms for {seconds:.0} s: {} of {} reads failed, {a_second:.2} dials a second and slot, at most {most} in a second for {slots} slots",
                EVERY.as_millis(),
                done.errors + done.wrong,
                done.reads
            ),
        ))
    })
}

/// F11: killed under load.
pub(super) fn killed(scale: Scale) -> Result<Outcome> {
    let mut server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let alone = load_for(&double.store(&[], true, NO_NEAR)?, KEYS, scale.seconds()).await?;
        let store = double.store(&[server.address], true, NO_NEAR)?;
        ready(&store).await?;
        warm(&store, KEYS).await?;
        let loading = load(&store, KEYS);
        tokio::time::sleep(Duration::from_millis(200)).await;
        // The moment of the kill itself: waiting for its end takes a while.
        let begun = Instant::now();
        server.signal("KILL")?;
        until("the loss is seen", || !far(&store).nodes[0].is_read).await?;
        let seen = begun.elapsed().as_millis();
        server.kill();
        let before = loading.end().await?;
        let down = load_for(&store, KEYS, scale.seconds()).await?;
        let share = down.goodput() / alone.goodput();
        let errors = before.errors + down.errors + before.wrong + down.wrong;
        let most = double.in_flight_most();
        Ok(Outcome::new(
            errors == 0 && most <= CEILING && share >= 0.95 && seen <= 100,
            format!(
                "{errors} errors, {most} of {CEILING} visits at most, goodput {:.0} keys/s = {:.0} % of the store alone, seen after {seen} ms",
                down.goodput(),
                share * 100.0
            ),
        ))
    })
}

/// F12: every answer 50 ms late.
pub(super) fn slow(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let alone = load_for(&double.store(&[], true, NO_NEAR)?, KEYS, scale.seconds()).await?;
        let proxy = Proxy::start(server.address, 1).await?;
        let store = double.store(&[proxy.address()], true, NO_NEAR)?;
        ready(&store).await?;
        warm(&store, KEYS).await?;
        until("it is read", || far(&store).nodes[0].is_read).await?;
        proxy.set(Faults::slow(Duration::from_millis(50)));
        let loading = load(&store, KEYS);
        let opened = ms_until("the breaker opens", || far(&store).nodes[0].breaker() == 2).await?;
        let during = loading.end().await?;
        let asked = proxy.figures().up_bytes;
        let slow = load_for(&store, KEYS, scale.seconds().max(1.0)).await?;
        // A probe is four bytes; a read of a key is about seventy.
        let probes = (proxy.figures().up_bytes - asked) / 4;
        let part = probes as f64 / slow.reads.max(1) as f64;
        let (p99, bar) = (slow.p99_ms().max(during.p99_ms()), alone.p99_ms() + 10.0);
        Ok(Outcome::new(
            slow.errors + during.errors == 0 && p99 <= bar && opened <= 1000 && part <= 0.01,
            format!(
                "p99 {:.1} ms, {:.1} until the breaker opened (alone {:.1}), breaker open after {opened} ms, probes {:.2} % of reads, {} errors",
                slow.p99_ms(),
                during.p99_ms(),
                alone.p99_ms(),
                part * 100.0,
                slow.errors + during.errors
            ),
        ))
    })
}

/// F13: connected and silent, by SIGSTOP and by a network that swallows; then everything late comes.
pub(super) fn half_open(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let proxy = Proxy::start(server.address, 2).await?;
        let store = double.store(&[proxy.address()], true, NO_NEAR)?;
        ready(&store).await?;
        warm(&store, KEYS).await?;
        let (mut wrong, mut errors, mut seen_most, mut worst, mut backlog) = (0, 0, 0, 0.0_f64, 0);
        let rounds = if scale.short { 1 } else { 4 };
        for round in 0..rounds * 2 {
            let loading = load(&store, KEYS);
            tokio::time::sleep(Duration::from_millis(50)).await;
            if round % 2 == 0 {
                server.signal("STOP")?;
            } else {
                proxy.set(Faults::half_open());
            }
            let seen = ms_until("the silence is seen", || {
                backlog = backlog.max(far(&store).nodes[0].client.backlog_bytes_most);
                !far(&store).nodes[0].is_read
            });
            seen_most = seen_most.max(seen.await?);
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.signal("CONT")?;
            proxy.heal();
            until("it is read again", || far(&store).nodes[0].is_read).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let done = loading.end().await?;
            wrong += done.wrong;
            errors += done.errors;
            worst = worst.max(done.worst_ms());
        }
        // As many answers as the bar speaks of, each looked at.
        let looks = scale.count(1_000_000, 50_000);
        let mut looked = 0;
        while looked < looks {
            let numbers: Vec<usize> = (0..2_000).map(|n| (looked + n * 7) % KEYS).collect();
            let wanted: Vec<_> = numbers.iter().map(|n| key(*n)).collect();
            let found = store.get(&wanted).await?;
            wrong += numbers.iter().zip(&found).filter(|(n, v)| version_of(**n, v.as_ref()) != Some(1)).count() as u64;
            looked += wanted.len();
        }
        Ok(Outcome::new(
            wrong == 0 && errors == 0 && seen_most <= 250 && backlog <= 1 << 20,
            format!(
                "{wrong} wrong of {looks} looked at and of the load, {errors} errors, seen after {seen_most} ms, slowest read {worst:.0} ms, backlog {} KiB",
                backlog >> 10
            ),
        ))
    })
}

/// F15: one of four nodes is killed.
pub(super) fn one_of_four(scale: Scale) -> Result<Outcome> {
    let mut servers = (0..4).map(|_| Memcached::start()).collect::<Result<Vec<_>>>()?;
    runtime()?.block_on(async {
        let double = Double::new(STORE_TIME);
        seed(&double, KEYS)?;
        let addresses: Vec<_> = servers.iter().map(|s| s.address).collect();
        let store = double.store(&addresses, true, NO_NEAR)?;
        ready(&store).await?;
        warm(&store, KEYS).await?;
        // Another process, with memory for two fifths of the keys: what the loss costs it once it has been running.
        let other = double.store(&addresses, true, 6 << 20)?;
        ready(&other).await?;
        load_for(&other, KEYS, scale.seconds()).await?;
        let items = |server: &Memcached| server.items().map(|items| items.len());
        let before = servers[1..].iter().map(items).collect::<Result<Vec<_>>>()?;
        servers[0].kill();
        until("the loss is seen", || far(&other).nodes.iter().filter(|n| n.is_read).count() == 3).await?;
        let (read, figures) = (double.keys_read(), far(&other));
        let begun = Instant::now();
        let done = load_for(&other, KEYS, scale.seconds()).await?;
        let now = far(&other);
        // What the dead node would have been asked for, and what of it came to the store.
        let asked_store = double.keys_read() - read;
        let (misses, fills) = (now.misses - figures.misses, now.fills_stored - figures.fills_stored);
        let after = servers[1..].iter().map(items).collect::<Result<Vec<_>>>()?;
        let lost_hits = done.reads as f64 * 12.0 / 4.0;
        let absorbed = 1.0 - asked_store as f64 / lost_hits;
        let moved: usize = before.iter().zip(&after).map(|(b, a)| a.saturating_sub(*b)).sum();
        Ok(Outcome::new(
            done.errors + done.wrong == 0 && misses == 0 && fills == 0 && moved == 0 && absorbed >= 0.35,
            format!(
                "{misses} misses at the three others, {moved} keys moved, about {:.0} % of the lost hits absorbed in memory in {:.1} s, {} errors",
                absorbed * 100.0,
                begun.elapsed().as_secs_f64(),
                done.errors
            ),
        ))
    })
}
