//! One thing at a time goes wrong: a hot key, a cold cache, a slow store, too much work, a caller that wants all of it.
//!
//! The plane of most of these runs over a store that takes 40 ms for each visit, eight visits at a time, so that what it
//! can do is a matter of its own rules and not of a processor which the callers use as well.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    Row, data,
    load::{self, Felt, Hosts, Load, Offer, evenness},
    program::Program,
    rig::{CONNECTIONS, Rig, Scale, is_close, p99s},
    wire::Metrics,
};

/// How long a visit to the store takes. Ten times what the plane can do then is what a small machine can still ask. A
/// quicker store would make refusals look cheaper: they would come together, and wake a thread less often.
const VISIT_US: u64 = 40_000;
/// Calls at a time with which the most is measured.
const SATURATING: usize = 64;
/// Large calls at a time with which the most is measured.
const SATURATING_BULK: usize = 4;
/// Names of the small callers.
const CALLERS: [&str; 9] = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
/// After which time as many large calls are under way as there will be.
const LARGE_SETTLED: Duration = Duration::from_secs(6);
/// What a refusal costs is the median of so many pairs of a time without refusals and one with a multiple of what the
/// plane can do, one after the other: what an answer costs changes by more than a refusal does while the caches fill and other
/// work on the machine comes and goes.
const PAIRS: usize = 7;
/// Keys of a large call beside them.
const BULK_KEYS: usize = 2_000;

/// The real server over a store that takes its time, with `more` arguments.
///
/// # Errors
///
/// It cannot be started.
pub async fn slow_plane(rig: &Rig, more: &[&str]) -> Result<Program> {
    let callers = format!("{},batch-job,appview", CALLERS.join(","));
    let mut args = vec!["--delay-us".to_owned(), VISIT_US.to_string(), "--caller".into(), callers];
    args.extend(more.iter().map(|it| (*it).to_owned()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Program::start(&rig.scripted(&rig.data(), &args)).await
}

/// One key is half of all traffic.
///
/// # Errors
///
/// A part of it cannot be started.
pub async fn hot_key(rig: &Rig, scale: &Scale) -> Result<Row> {
    let mut row =
        Row::new("F19", "a hot key", "small p99 <= 1.2x (one process: there is no node to be out of balance)");
    let plane = Program::start(&rig.serve(&rig.data(), &["--near-cache-mib", "256"])).await?;
    rig.warm(&plane).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let (_, w0) = rig.measure(&hosts, scale.measure()).await;
    let uris = &rig.posts.uris;
    let request = |n: usize| {
        let keys = 1 + n % 24;
        let hot = (0..keys).map(|at| if at % 2 == 0 { &uris[0] } else { &uris[(n * 31 + at * 7) % uris.len()] });
        (data::asking(hot.map(String::as_str)), keys as u32)
    };
    let requests = Arc::new((0..2_400).map(request).collect::<Vec<_>>());
    let (mut quiet, mut hot) = (Felt::default(), Felt::default());
    for _ in 0..2 {
        let load = Load::begin(&hosts, rig.w0(w0));
        quiet.add(&load.during(scale.quiet / 2).await);
        drop(load.end().await);
        let load = Load::begin(&hosts, Offer::posts("appview", &requests, w0));
        hot.add(&load.during(scale.quiet / 2).await);
        drop(load.end().await);
    }
    row.measure(format!("W0 {w0:.0} calls/s; {}; {} of {} answered", p99s(&quiet, &hot), hot.answered(), hot.calls()));
    row.check(hot.failed() == 0 && hot.answered() > 0, hot.failures());
    scale.check_time(&mut row, is_close(&quiet, &hot, 1.2), "small p99");
    Ok(row)
}

/// Nine small callers and one that offers three times what the plane can do.
///
/// # Errors
///
/// A part of it cannot be started.
pub async fn noisy_caller(rig: &Rig, scale: &Scale) -> Result<Row> {
    let mut row = Row::new(
        "F37",
        "a noisy caller",
        "small p99 <= 1.5x, small errors 0, the large caller gets >= 90 % of what is left, evenness of small callers >= 0.95",
    );
    let plane = slow_plane(rig, &[]).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let most_small = load::saturate(&hosts, &rig.w0(1.0), SATURATING, scale.measure()).await;
    let requests = rig.posts.large(10, BULK_KEYS);
    let bulk = |per_second| Offer { looks: false, ..Offer::posts("batch-job", &requests, per_second) };
    let of_bulk = Hosts::new(&[plane.listen], 16);
    // As few calls as fill the store: with many, most would be under way when the time is over.
    let most_bulk = load::saturate(&of_bulk, &bulk(1.0), SATURATING_BULK, 2 * scale.measure()).await;
    // All small callers together ask for three tenths of what the plane can do.
    let each = most_small.answered_per_second() * 0.3 / CALLERS.len() as f64;
    let small: Vec<Load> =
        CALLERS.iter().map(|caller| Load::begin(&hosts, Offer::posts(caller, &rig.small, each))).collect();
    let during = async |time: Duration| {
        small.iter().for_each(|it| drop(it.take()));
        tokio::time::sleep(time).await;
        small.iter().map(Load::take).collect::<Vec<Felt>>()
    };
    let together = |all: &[Felt]| {
        let mut sum = Felt::default();
        all.iter().for_each(|it| sum.add(it));
        sum
    };
    drop(during(Duration::from_secs(1)).await);
    let quiet = together(&during(scale.quiet).await);
    let large = Load::begin(&of_bulk, bulk(most_bulk.answered_per_second() * 3.0));
    // A large call takes about two seconds, and some of them go on side by side. What is read for calls that end later
    // must be as much at the end of the time as at its beginning, or it would be missing.
    tokio::time::sleep(LARGE_SETTLED).await;
    drop(large.take());
    let each_now = during(scale.fault).await;
    let large_now = large.take();
    let now = together(&each_now);
    drop(large.end().await);
    for load in small {
        drop(load.end().await);
    }
    let shares: Vec<f64> = each_now.iter().map(|it| it.answered() as f64).collect();
    let left = most_bulk.keys_per_second() * 0.7;
    row.measure(format!(
        "C* {:.0} small calls/s or {:.0} keys/s in calls of {BULK_KEYS}; {}; small {} of {} answered ({}); large {:.0} keys/s, \
         {:.0} % of what is left ({}); evenness {:.3}",
        most_small.answered_per_second(),
        most_bulk.keys_per_second(),
        p99s(&quiet, &now),
        now.answered(),
        now.calls(),
        now.failures(),
        large_now.keys_per_second(),
        large_now.keys_per_second() / left * 100.0,
        large_now.failures(),
        evenness(&shares)
    ));
    row.check(now.failed() == 0 && now.answered() > 0, format!("small calls failed: {}", now.failures()));
    row.check(scale.short || evenness(&shares) >= 0.95, "small callers are not served evenly");
    scale.check_time(&mut row, is_close(&quiet, &now, 1.5), "small p99");
    scale.check_time(&mut row, large_now.keys_per_second() >= left * 0.9, "the large caller gets too little");
    Ok(row)
}

/// From half of what the plane can do to ten times as much, by callers that try again as the AppView does.
///
/// # Errors
///
/// A part of it cannot be started.
pub async fn overload(rig: &Rig, scale: &Scale) -> Result<Row> {
    let mut row = Row::new(
        "F38",
        "overload",
        "goodput >= 95 % of C* at 2x and >= 90 % at 10x, attempts per request 1.00, a refusal costs <= 50 us, recovery <= 5 s",
    );
    let plane = slow_plane(rig, &[]).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let cpu = || plane.vitals().cpu_seconds;
    let most = load::saturate(&hosts, &rig.w0(1.0), SATURATING, scale.measure()).await;
    let best = most.keys_per_second();
    let half = Load::begin(&hosts, rig.w0(most.answered_per_second() * 0.5));
    let quiet = half.during(scale.quiet).await;
    drop(half.end().await);
    row.measure(format!("C* {best:.0} keys/s in {:.0} calls/s", most.answered_per_second()));
    let factors: &[f64] = if scale.short { &[2.0] } else { &[1.0, 2.0, 5.0, 10.0] };
    for factor in factors {
        let load = Load::begin(&hosts, rig.w0(most.answered_per_second() * factor));
        tokio::time::sleep(Duration::from_secs(if scale.short { 1 } else { 3 })).await;
        drop(load.take());
        let felt = load.during(scale.fault / 2).await;
        let refused = refused_of(&felt);
        let (goodput, attempts) = (felt.keys_per_second() / best, felt.tries as f64 / felt.calls().max(1) as f64);
        row.measure(format!(
            "{factor}x: goodput {:.0} %, p99 {:.0} ms, refused {refused}, other failures {}, attempts {attempts:.2}",
            goodput * 100.0,
            felt.p99_ms(),
            felt.failed() - refused,
        ));
        let bar = if *factor >= 10.0 { 0.90 } else { 0.95 };
        scale.check_time(&mut row, goodput >= bar || *factor < 2.0, format!("goodput at {factor}x"));
        row.check(felt.tries == felt.calls(), format!("attempts at {factor}x"));
        row.check(felt.failed() == refused, format!("failures at {factor}x that are no refusals: {}", felt.failures()));
        let stopping = Instant::now();
        let rest = tokio::spawn(load.end());
        if factor == &factors[factors.len() - 1] {
            // The last of them is over; those that come now must be served as before.
            let half = Load::begin(&hosts, rig.w0(most.answered_per_second() * 0.5));
            let mut recovered = None;
            while recovered.is_none() && stopping.elapsed() < Duration::from_secs(20) {
                let felt = half.during(Duration::from_millis(500)).await;
                if felt.success() >= 0.95 && is_close(&quiet, &felt, 1.25) {
                    recovered = Some(stopping.elapsed());
                }
            }
            drop(half.end().await);
            row.measure(
                recovered.map_or("not recovered".into(), |it| format!("recovered after {:.1} s", it.as_secs_f64())),
            );
            scale.check_time(&mut row, recovered.is_some_and(|it| it <= Duration::from_secs(5)), "recovery");
        }
        drop(rest.await);
    }
    if !scale.short {
        for factor in [5.0, 10.0] {
            let cost_us = cost_of_refusal(&hosts, &rig.w0(most.answered_per_second()), factor, &cpu).await * 1e6;
            row.measure(format!("a refusal at {factor}x costs {cost_us:.0} us of processor time"));
            row.check(cost_us <= 50.0, format!("cost of a refusal at {factor}x"));
        }
    }
    Ok(row)
}

/// Calls that were refused.
fn refused_of(felt: &Felt) -> u64 {
    felt.codes.get(&(gp_serve::Code::ResourceExhausted as u32)).copied().unwrap_or(0)
}

/// Seconds of processor time for each refusal, the median of all pairs: what the plane takes at a multiple of what it can
/// do, beyond what as many answers take while nothing is refused. That answers cost more which wait for their turn is charged
/// to refusals.
async fn cost_of_refusal(hosts: &Hosts, most: &Offer, factor: f64, cpu: impl Fn() -> f64) -> f64 {
    let measured = async |factor: f64| {
        let load = Load::begin(hosts, Offer { per_second: most.per_second * factor, ..most.clone() });
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(load.take());
        let before = cpu();
        let felt = load.during(Duration::from_secs(3)).await;
        let spent = cpu() - before;
        drop(load.end().await);
        (felt, spent)
    };
    let mut costs = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        let (calm, spent_calm) = measured(0.9).await;
        let (crowded, spent) = measured(factor).await;
        let of_answers = spent_calm / calm.answered().max(1) as f64 * crowded.answered() as f64;
        costs.push((spent - of_answers) / refused_of(&crowded).max(1) as f64);
    }
    costs.sort_by(f64::total_cmp);
    costs[PAIRS / 2]
}

/// A start with nothing in memory, at once with the load of W0.
///
/// # Errors
///
/// A part of it cannot be started.
pub async fn cold_cache(rig: &Rig, scale: &Scale) -> Result<Row> {
    let mut row =
        Row::new("cold", "a cold cache", "errors 0, small p99 <= 3x while it warms up, reads <= 1.05x distinct keys");
    let start = rig.serve(&rig.data(), &["--near-cache-mib", "256"]);
    let rate = {
        let plane = Program::start(&start).await?;
        rig.warm(&plane).await?;
        rig.measure(&Hosts::new(&[plane.listen], CONNECTIONS), scale.measure()).await.1
    };
    let plane = Program::start(&start).await?;
    let load = Load::begin(&Hosts::new(&[plane.listen], CONNECTIONS), rig.w0(rate));
    let cold = load.during(scale.quiet).await;
    let read = Metrics::of(plane.admin).await?.sum("groundplane_store_keys_read_total");
    rig.warm(&plane).await?;
    let warm = load.during(scale.quiet).await;
    drop(load.end().await);
    // Each post has two rows that may be read for it.
    let bound = rig.posts.uris.len() as f64 * 2.0 * 1.05;
    row.measure(format!(
        "{rate:.0} calls/s at once after the start: p99 {:.2} ms cold, {:.2} ms warm; failed {}; {read:.0} keys read of {} posts",
        cold.p99_ms(),
        warm.p99_ms(),
        cold.failures(),
        rig.posts.uris.len()
    ));
    row.check(cold.failed() == 0 && cold.answered() > 0, "calls failed");
    row.check(read <= bound, "keys are read again and again");
    scale.check_time(&mut row, is_close(&warm, &cold, 3.0), "small p99");
    Ok(row)
}

/// The store takes 100 ms longer for a while: what memory answers must not feel it.
///
/// # Errors
///
/// A part of it cannot be started.
pub async fn slow_store(rig: &Rig, scale: &Scale) -> Result<Row> {
    let mut row = Row::new(
        "slow",
        "a slow store",
        "calls that memory answers: errors 0, p99 <= 1.1x; reads in flight never above their bound; recovery <= 5 s",
    );
    let more = ["--delay-us", "1000", "--near-cache-mib", "64", "--caller", "appview,feeds"];
    let mut plane = Program::start(&rig.scripted(&rig.data(), &more)).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    // A small part of all posts is kept in memory, the rest is asked for once each.
    let uris = &rig.posts.uris;
    let kept = Arc::new(
        (0..500).map(|n| (data::asking(uris.iter().skip(n % 40).take(12).map(String::as_str)), 12)).collect::<Vec<_>>(),
    );
    let cold = |n: usize| data::asking((0..12).map(|at| format!("{}x{n}", uris[(n * 12 + at) % uris.len()])));
    let cold = Arc::new((0..20_000).map(|n| (cold(n), 12)).collect::<Vec<_>>());
    let hits = Load::begin(&hosts, Offer::posts("feeds", &kept, 200.0));
    let misses = Load::begin(&Hosts::new(&[plane.listen], 16), Offer::posts("appview", &cold, 200.0));
    drop(hits.during(Duration::from_secs(1)).await);
    let quiet = hits.during(scale.quiet).await;
    plane.tell("delay_us 100000");
    drop(misses.take());
    let now = hits.during(scale.fault).await;
    let slow = misses.take();
    let in_flight = Metrics::of(plane.admin).await?;
    let (reads, reads_max) = (in_flight.sum("groundplane_store_inflight"), in_flight.sum("groundplane_store_limit"));
    plane.tell("delay_us 1000");
    let (over, mut recovered) = (Instant::now(), None);
    while recovered.is_none() && over.elapsed() < Duration::from_secs(15) {
        let felt = misses.during(Duration::from_millis(500)).await;
        recovered = (felt.success() >= 0.95 && felt.p99_ms() < 200.0).then(|| over.elapsed());
    }
    drop((hits.end().await, misses.end().await));
    row.measure(format!(
        "from memory: {}, failed {}; from the store: {} answered, {}; {reads:.0} of {reads_max:.0} reads in flight; recovered after {}",
        p99s(&quiet, &now),
        now.failures(),
        slow.answered(),
        slow.failures(),
        recovered.map_or("-".into(), |it| format!("{:.1} s", it.as_secs_f64()))
    ));
    row.check(now.failed() == 0 && now.answered() > 0, "calls that memory answers failed");
    row.check(reads <= reads_max, "more reads than their bound");
    row.check(slow.codes.keys().all(|code| matches!(code, 0 | 8 | 4)), "another failure than a refusal");
    scale.check_time(&mut row, is_close(&quiet, &now, 1.1), "p99 of what memory answers");
    scale.check_time(&mut row, recovered.is_some_and(|it| it <= Duration::from_secs(5)), "recovery");
    Ok(row)
}
