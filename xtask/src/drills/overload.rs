//! Too much work: F19 and F37 to F42.
//!
//! The plane of most of these runs over a store that takes 40 ms for each visit, eight visits at a time, so that what it
//! can do is a matter of its own rules and not of a processor which the callers use as well.

use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::Result;
use gp_drill::{
    Row,
    load::{self, Felt, Hosts, Load, Offer},
    others,
    program::Program,
    rig::CONNECTIONS,
    wire::Metrics,
};

use super::{Ctx, incident::note_twin};

/// Keys of a large call beside small ones.
const BULK_KEYS: usize = 2_000;

/// One key is half of all traffic.
pub(super) async fn f19(ctx: &Ctx) -> Result<Row> {
    others::hot_key(&ctx.rig, &ctx.scale).await
}

/// Nine small callers and one that offers three times what the plane can do.
pub(super) async fn f37(ctx: &Ctx) -> Result<Row> {
    let mut row = others::noisy_caller(&ctx.rig, &ctx.scale).await?;
    note_twin(&mut row, twin_overloaded(ctx, 0.3, Some(5.0)).await.map(|(_, felt, sockets)| (felt, sockets)));
    Ok(row)
}

/// From half of what the plane can do to ten times as much, by callers that try again as the AppView does.
pub(super) async fn f38(ctx: &Ctx) -> Result<Row> {
    let mut row = others::overload(&ctx.rig, &ctx.scale).await?;
    match twin_overloaded(ctx, 10.0, None).await {
        Ok((best, felt, sockets)) => {
            let goodput = felt.keys_per_second() / best.max(1.0);
            let how = format!(
                "goodput {:.0} % of its best at 10x, {:.1} % of calls fail ({}), {sockets} sockets towards memcached",
                goodput * 100.0,
                (1.0 - felt.success()) * 100.0,
                felt.failures()
            );
            row.twin(goodput < 0.9, how)
        }
        Err(e) => row.check(false, format!("the twin could not be run: {e:#}")),
    };
    Ok(row)
}

/// The twin with a multiple of what it can do, and perhaps large calls: its best goodput in keys a second, what small
/// callers felt, and its sockets towards memcached.
async fn twin_overloaded(ctx: &Ctx, factor: f64, large: Option<f64>) -> Result<(f64, Felt, u64)> {
    let memcached = ctx.rig.memcached().await?;
    let twin = Program::start(&ctx.rig.twin(memcached.address)).await?;
    let hosts = Hosts::new(&[twin.listen], CONNECTIONS);
    let most = load::saturate(&hosts, &ctx.rig.w0(1.0), 2, Duration::from_secs(2)).await;
    let rate = (most.answered_per_second() * factor).max(20.0);
    let small = Load::begin(&hosts, Offer { deadline: Some(Duration::from_secs(5)), ..ctx.rig.w0(rate) });
    let requests = ctx.rig.posts.large(10, BULK_KEYS);
    let bulk = large.map(|per_second| {
        let offer = Offer { looks: false, ..Offer::posts("batch-job", &requests, per_second) };
        Load::begin(&Hosts::new(&[twin.listen], 4), offer)
    });
    let felt = small.during(Duration::from_secs(4)).await;
    let sockets = gp_drill::program::sockets_to(memcached.address.port()).values().sum();
    drop(twin);
    drop(small.end().await);
    if let Some(bulk) = bulk {
        drop(bulk.end().await);
    }
    Ok((most.keys_per_second(), felt, sockets))
}

/// Twice what the plane can do, by callers that wait for an answer and by one that can wait.
pub(super) async fn f39(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new("F39", "", "everything that is shed is background's, as long as there is any");
    let plane = others::slow_plane(&ctx.rig, &["--caller-background", "batch-job"]).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let most = load::saturate(&hosts, &ctx.rig.w0(1.0), 64, ctx.scale.measure()).await;
    let rate = most.answered_per_second();
    let interactive = Load::begin(&hosts, ctx.rig.w0(rate * 0.8));
    let offer = Offer::posts("batch-job", &ctx.rig.small, rate * 1.2);
    let background = Load::begin(&Hosts::new(&[plane.listen], CONNECTIONS), offer);
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop((interactive.take(), background.take()));
    tokio::time::sleep(ctx.scale.fault).await;
    let (first, second) = (interactive.take(), background.take());
    drop((interactive.end().await, background.end().await));
    row.measure(format!(
        "interactive {} of {} answered ({}), p99 {:.0} ms; background {} of {} answered ({})",
        first.answered(),
        first.calls(),
        first.failures(),
        first.p99_ms(),
        second.answered(),
        second.calls(),
        second.failures()
    ));
    row.check(first.failed() == 0 && first.answered() > 0, "interactive calls were shed");
    row.check(ctx.scale.short || second.failed() > 0, "nothing was shed: this shows nothing");
    ctx.scale.check_time(&mut row, second.answered() > 0, "background got nothing of what is left");
    Ok(row)
}

/// The process stands still for five seconds, and calls whose caller has given up wait for it.
pub(super) async fn f40(ctx: &Ctx) -> Result<Row> {
    const DEADLINE: Duration = Duration::from_millis(500);
    let mut row = Row::new("F40", "", "0 store reads for expired requests, goodput 95 % within 2 s");
    let plane = Program::start(&ctx.rig.scripted(&ctx.rig.data(), &["--delay-us", "2000"])).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let rate = 300.0;
    let load = Load::begin(&hosts, Offer { deadline: Some(DEADLINE), ..ctx.rig.w0(rate) });
    drop(load.during(Duration::from_secs(1)).await);
    let reads = async || anyhow::Ok(Metrics::of(plane.admin).await?.sum("groundplane_store_keys_read_total"));
    drop(load.take());
    let read_first = reads().await?;
    tokio::time::sleep(ctx.scale.quiet / 2).await;
    let quiet = load.take();
    let before = Metrics::of(plane.admin).await?;
    let keys_before = before.sum("groundplane_store_keys_read_total");
    // A key that is asked for twice in a call is read once.
    let reads_per_key = (keys_before - read_first) / quiet.keys.max(1) as f64;
    drop(load.take());
    plane.freeze();
    tokio::time::sleep(Duration::from_secs(if ctx.scale.short { 2 } else { 5 })).await;
    plane.thaw();
    let thawed = Instant::now();
    let mut recovered = None;
    let mut all = Felt::default();
    while thawed.elapsed() < Duration::from_secs(4) {
        let felt = load.during(Duration::from_millis(250)).await;
        if felt.success() >= 0.95 && recovered.is_none() {
            recovered = Some(thawed.elapsed());
        }
        all.add(&felt);
    }
    let frozen = load.end().await;
    all.add(&frozen);
    let after = Metrics::of(plane.admin).await?;
    let read = after.sum("groundplane_store_keys_read_total") - keys_before;
    let begun = after.sum("groundplane_rpc_cancelled_total{") - before.sum("groundplane_rpc_cancelled_total{");
    let wasted = (read - all.keys as f64 * reads_per_key).max(0.0);
    row.measure(format!(
        "{} calls answered and {} given up, {begun:.0} of these had come in when the process went on; {read:.0} keys read, {wasted:.0} \
         more than the answered calls need; goodput back after {}",
        all.answered(),
        all.failed(),
        recovered.map_or("-".into(), |it| format!("{:.2} s", it.as_secs_f64()))
    ));
    row.check(begun > 0.0, "no call expired: this shows nothing");
    // Eight visits of at most fifty keys were running when it stopped, and counters are read a moment apart.
    row.check(wasted <= 400.0 + all.keys as f64 * 0.02, "keys were read for calls whose caller had gone");
    row.check(quiet.failed() == 0, "calls fail while it is quiet");
    ctx.scale.check_time(&mut row, recovered.is_some_and(|it| it <= Duration::from_secs(2)), "goodput");
    let twin = async {
        let memcached = ctx.rig.memcached().await?;
        let twin = Program::start(&ctx.rig.twin(memcached.address)).await?;
        let load = Load::begin(
            &Hosts::new(&[twin.listen], CONNECTIONS),
            Offer { deadline: Some(DEADLINE), ..ctx.rig.w0(rate) },
        );
        drop(load.during(Duration::from_secs(1)).await);
        twin.freeze();
        tokio::time::sleep(Duration::from_secs(5)).await;
        twin.thaw();
        let felt = load.during(Duration::from_secs(2)).await;
        drop(load.end().await);
        anyhow::Ok((felt, gp_drill::program::sockets_to(memcached.address.port()).values().sum()))
    };
    note_twin(&mut row, twin.await);
    Ok(row)
}

/// A store that is fast and slow by turns, callers that give up, and pauses.
pub(super) async fn f41(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new(
        "F41",
        "",
        "the limit stays within its bounds, never below half of the best fixed one; cancels and refusals do not move it",
    );
    let mut plane = Program::start(&ctx.rig.scripted(&ctx.rig.data(), &["--delay-us", "1000"])).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let limit = async |plane: &Program| anyhow::Ok(Metrics::of(plane.admin).await?.sum("groundplane_admission_limit{"));
    let first = limit(&plane).await?;
    let mut seen = vec![first];
    // Callers that wait 50 ms: slow reads are given up.
    let load = Load::begin(&hosts, Offer { deadline: Some(Duration::from_millis(50)), ..ctx.rig.w0(200.0) });
    for turn in 0..if ctx.scale.short { 2 } else { 8 } {
        plane.tell(if turn % 2 == 0 { "delay_us 100000" } else { "delay_us 1000" });
        tokio::time::sleep(Duration::from_millis(if ctx.scale.short { 500 } else { 1_500 })).await;
        seen.push(limit(&plane).await?);
    }
    plane.tell("delay_us 1000");
    let felt = load.end().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let load = Load::begin(&hosts, ctx.rig.w0(200.0));
    let after = load.during(ctx.scale.quiet / 2).await;
    drop(load.end().await);
    seen.push(limit(&plane).await?);
    let metrics = Metrics::of(plane.admin).await?;
    let (least, most) = seen.iter().fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(*it), most.max(*it)));
    row.measure(format!(
        "limit {least:.0} to {most:.0} units over {} looks, it is fixed; {} of {} calls given up; afterwards {} of {} answered, {:.0} \
         units in flight",
        seen.len(),
        felt.failed(),
        felt.calls(),
        after.answered(),
        after.calls(),
        metrics.sum("groundplane_admission_inflight{")
    ));
    row.check(least >= first * 0.5 && first > 0.0, "the limit fell");
    row.check(after.failed() == 0, format!("calls fail afterwards: {}", after.failures()));
    Ok(row)
}

/// Processes that burn every processor.
struct Burners(Vec<Child>);

impl Burners {
    fn start() -> Result<Self> {
        let processors = std::thread::available_parallelism()?.get();
        let burn = || Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn();
        Ok(Self((0..processors).map(|_| burn()).collect::<std::io::Result<_>>()?))
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Somebody else burns all processors.
pub(super) async fn f42(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new("F42", "", "goodput >= 45 % of C*, nothing waits past its deadline");
    let plane = Program::start(&ctx.rig.serve(&ctx.rig.data(), &["--near-cache-mib", "256"])).await?;
    ctx.rig.warm(&plane).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let offer = ctx.rig.w0(1.0);
    let most = load::saturate(&hosts, &offer, 32, ctx.scale.measure()).await;
    let burners = Burners::start()?;
    let now = load::saturate(&hosts, &offer, 32, ctx.scale.quiet).await;
    drop(burners);
    let metrics = Metrics::of(plane.admin).await?;
    let ratio = now.keys_per_second() / most.keys_per_second();
    row.measure(format!(
        "goodput {:.0} % of {:.0} keys/s, p99 {:.1} ms to {:.1} ms, {} failed, {:.0} waiting at the end",
        ratio * 100.0,
        most.keys_per_second(),
        most.p99_ms(),
        now.p99_ms(),
        now.failed(),
        metrics.sum("groundplane_admission_queue_depth{")
    ));
    row.check(now.failed() == 0, now.failures());
    ctx.scale.check_time(&mut row, ratio >= 0.45, "goodput");
    Ok(row)
}
