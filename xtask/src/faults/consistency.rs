//! Nothing old stays: races, lost messages, a node that was away, absence.

use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gp_sim::{Faults, Proxy};
use gp_store::{
    Config, FarConfig, Store, Table,
    conformance::{Ground, cached, writes},
    engine::mem::Mem,
};

use super::{
    Outcome, Scale,
    rig::{Dice, Double, NO_NEAR, PATIENCE, far, key, put, ready, runtime, seed, until, version_of, warm},
};
use crate::{memcached::Memcached, shell};

/// F23: the model of the protocol, in every order and in many random histories.
pub(super) fn histories(scale: Scale) -> Result<Outcome> {
    if scale.short {
        return Ok(Outcome::skipped("30,000 histories and all orders are among the unit tests"));
    }
    let histories = 1_000_000;
    let begun = Instant::now();
    let passed = model("", histories)?;
    Ok(Outcome::new(
        passed == 3,
        format!(
            "{histories} histories and all orders of 2 readers and a writer in {:.0} s, {passed} of 3 tests",
            begun.elapsed().as_secs_f64()
        ),
    ))
}

/// F23 with ways of filling that look nearly as good, in the same orders.
pub(super) fn wrong_ways(_: Scale) -> Result<Outcome> {
    // The test passes if every one of them leaves a key stale.
    let passed = model("the_same_orders_catch_ways_that_are_wrong", 1)?;
    let ways = "fills without a lease; a removal after the change only; nothing remembered, or not over a crash";
    let each = if passed == 1 { "each leaves keys stale for good" } else { "not each leaves a key stale" };
    Ok(Outcome::new(passed != 1, format!("{ways}: {each}")))
}

/// Runs tests of the model, and answers how many passed.
fn model(only: &str, histories: u32) -> Result<usize> {
    let run = shell::cargo()
        // This crate asks for the features of all others, so that no dependency is built again for the store alone.
        .args(["test", "--package", "xtask", "--package", "groundplane-store", "--lib"])
        .arg(format!("cache::model::{only}"))
        .env("CACHE_HISTORIES", histories.to_string())
        .stdin(Stdio::null())
        .output()
        .context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&run.stdout);
    let passed = text.lines().filter(|line| line.starts_with("test cache::model::") && line.ends_with("ok")).count();
    ensure!(run.status.success() || passed > 0, "the tests of the model could not be run");
    Ok(passed)
}

/// Stores of the conformance suite, with memcached in front.
struct Behind(SocketAddr);

impl Ground for Behind {
    fn open(&mut self, tables: &[&'static Table], config: &Config) -> Store {
        let tables: Vec<&'static Table> = tables.iter().chain(gp_store::TABLES).copied().collect();
        let far_config = FarConfig { nodes: vec![self.0.to_string()], op_deadline: PATIENCE, ..FarConfig::default() };
        let store = Store::over(Box::new(Mem::new()), &tables, config).with_memcached(far_config).expect("starts");
        let begun = Instant::now();
        while !far(&store).nodes[0].is_read && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(2));
        }
        store
    }

    fn rounds(&self, usual: usize) -> usize {
        usual / 2
    }
}

/// What the store promises of its caches, by its own suite, with memcached in front of the engine.
pub(super) fn suite(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let address = server.address;
    let failed = runtime()?.block_on(async {
        let cases = [
            (
                "kept",
                tokio::spawn(async move { cached::answers_are_kept_and_never_outlived(&mut Behind(address)).await }),
            ),
            (
                "form",
                tokio::spawn(
                    async move { cached::kept_answers_may_have_a_form_of_their_own(&mut Behind(address)).await },
                ),
            ),
            ("stale", tokio::spawn(async move { cached::nothing_stale_is_ever_answered(&mut Behind(address)).await })),
            (
                "replay",
                tokio::spawn(
                    async move { writes::counts_stay_with_their_rows_under_replay(&mut Behind(address)).await },
                ),
            ),
        ];
        let mut failed = Vec::new();
        for (name, case) in cases {
            if case.await.is_err() {
                failed.push(name);
            }
        }
        failed
    });
    Ok(Outcome::new(
        failed.is_empty(),
        format!("4 cases, failed: {}", if failed.is_empty() { "none".into() } else { failed.join(", ") }),
    ))
}

/// F25: the writer's messages are swallowed now and then, and memcached is away for a while; another process reads
/// directly all the time.
pub(super) fn lost(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let keys = 500;
    runtime()?.block_on(async {
        let double = Double::new(Duration::ZERO);
        seed(&double, keys)?;
        let proxy = Proxy::start(server.address, 4).await?;
        let writer = double.store(&[proxy.address()], true, NO_NEAR)?;
        ready(&writer).await?;
        let reader = double.store(&[server.address], false, NO_NEAR)?;
        // The two name the node differently, but there is one of it.
        ready(&reader).await?;
        warm(&reader, keys).await?;
        let all: Vec<_> = (0..keys).map(key).collect();
        let (mut versions, mut changed_at) = (vec![1_u64; keys], vec![Instant::now(); keys]);
        let (mut dice, begun) = (Dice(5), Instant::now());
        let (mut stalest, mut stale_reads, mut looked) = (Duration::ZERO, 0_u64, 0_u64);
        let end = Duration::from_secs_f64(if scale.short { 4.0 } else { 30.0 });
        let mut swallows_until: Option<Instant> = None;
        while begun.elapsed() < end {
            match swallows_until {
                Some(at) if Instant::now() >= at => {
                    proxy.heal();
                    swallows_until = None;
                }
                None if dice.below(700) == 0 => {
                    proxy.set(Faults::half_open());
                    swallows_until = Some(Instant::now() + Duration::from_millis(100 + dice.below(400) as u64));
                }
                _ => {}
            }
            for _ in 0..4 {
                let n = dice.below(keys);
                versions[n] += 1;
                let (store, version) = (writer.clone(), versions[n]);
                // The writer's thread may wait.
                tokio::task::spawn_blocking(move || put(&store, n, version)).await??;
                changed_at[n] = Instant::now();
            }
            let found = reader.get(&all).await?;
            for (n, found) in found.iter().enumerate() {
                looked += 1;
                if version_of(n, found.as_ref()) != Some(versions[n]) {
                    stale_reads += 1;
                    stalest = stalest.max(changed_at[n].elapsed());
                }
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        proxy.heal();
        until("what was lost is made good", || far(&writer).lost_now == 0 && far(&writer).nodes[0].is_read).await?;
        until("the reader hears the writer", || far(&reader).nodes[0].is_read).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut for_good = 0;
        for store in [&writer, &reader] {
            let found = store.get(&all).await?;
            for_good += found.iter().enumerate().filter(|(n, v)| version_of(*n, v.as_ref()) != Some(versions[*n])).count();
        }
        let figures = far(&writer);
        let share = figures.marks_lost as f64 / (figures.marks_lost + figures.marks).max(1) as f64;
        Ok(Outcome::new(
            for_good == 0 && figures.marks_lost > 0 && stalest <= Duration::from_secs(60),
            format!(
                "{} of {} marks lost ({:.0} %), {stale_reads} of {looked} reads stale, oldest {:.1} s, {for_good} for good",
                figures.marks_lost,
                figures.marks_lost + figures.marks,
                share * 100.0,
                stalest.as_secs_f64()
            ),
        ))
    })
}

/// F26: a node is cut off, 10,000 keys change, it comes back.
pub(super) fn returns(scale: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    let keys = scale.count(10_000, 1_000);
    runtime()?.block_on(async {
        let double = Double::new(Duration::ZERO);
        seed(&double, keys)?;
        let proxy = Proxy::start(server.address, 5).await?;
        let writer = double.store(&[proxy.address()], true, NO_NEAR)?;
        ready(&writer).await?;
        let reader = double.store(&[proxy.address()], false, NO_NEAR)?;
        ready(&reader).await?;
        warm(&writer, keys).await?;
        proxy.set(Faults::gone());
        proxy.cut();
        until("the loss is seen", || !far(&writer).nodes[0].is_read && !far(&reader).nodes[0].is_read).await?;
        let store = writer.clone();
        tokio::task::spawn_blocking(move || (0..keys).try_for_each(|n| put(&store, n, 2))).await??;
        let lost = far(&writer).lost_now;
        proxy.heal();
        let all: Vec<_> = (0..keys).map(key).collect();
        let (begun, mut stale, mut looked, mut back) = (Instant::now(), 0_usize, 0_usize, None);
        // From the first moment to well after both read it again.
        while back.is_none_or(|at: Instant| at.elapsed() < Duration::from_millis(700)) {
            for store in [&writer, &reader] {
                let found = store.get(&all).await?;
                stale += found.iter().enumerate().filter(|(n, v)| version_of(*n, v.as_ref()) != Some(2)).count();
                looked += keys;
            }
            if back.is_none() && far(&writer).nodes[0].is_read && far(&reader).nodes[0].is_read && far(&writer).lost_now == 0 {
                back = Some(Instant::now());
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "the node was not read again within 30 s");
        }
        let hits = far(&reader).hits;
        Ok(Outcome::new(
            stale == 0 && lost as usize == keys && hits > 0,
            format!(
                "{keys} keys changed while it was away, {lost} remembered; {stale} of {looked} reads stale; in use again after {:.1} s",
                back.map_or(0.0, |at| (at - begun).as_secs_f64())
            ),
        ))
    })
}

/// F27: a key that was not there is created.
pub(super) fn negative(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::patient(Duration::ZERO);
        let writer = double.store(&[server.address], true, NO_NEAR)?;
        ready(&writer).await?;
        let reader = double.store(&[server.address], false, NO_NEAR)?;
        ready(&reader).await?;
        let all: Vec<_> = (0..200).map(key).collect();
        reader.get(&all).await?;
        until("absences are kept", || far(&reader).fills_stored >= 200).await?;
        let longest = server.items()?.into_iter().map(|(_, ttl)| ttl).max().unwrap_or(0);
        reader.get(&all).await?;
        let negatives = far(&reader).negatives;
        let (mut slowest, mut unseen) = (Duration::ZERO, 0);
        for n in 0..200 {
            let store = writer.clone();
            tokio::task::spawn_blocking(move || put(&store, n, 1)).await??;
            let begun = Instant::now();
            while version_of(n, reader.get_one(&key(n)).await?.as_ref()) != Some(1) {
                unseen += 1;
                ensure!(begun.elapsed() < Duration::from_secs(60), "a created key was not seen within 60 s");
            }
            slowest = slowest.max(begun.elapsed());
        }
        Ok(Outcome::new(
            negatives >= 200 && longest <= 30 && slowest <= Duration::from_secs(1),
            format!(
                "absence kept {longest} s at most, {negatives} answered with it; created keys seen by another process after {} ms at most, {unseen} reads too early",
                slowest.as_millis()
            ),
        ))
    })
}
