//! What the machine does to a process: F07 to F10.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use gp_drill::{
    Row, april, confine, data,
    load::{self, Felt, Hosts, Load, Offer},
    program::{LogReader, Program, Sink, Vitals, sockets_to},
    rig::{CONNECTIONS, p99s},
    wire::Metrics,
};

use super::{
    Ctx,
    incident::{READY_MAX, note_twin, sockets_elsewhere},
};

/// A storm of log lines, and nobody who reads them.
pub(super) async fn f07(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new(
        "F07",
        "",
        "goodput -<= 2 % beside a healthy sink, <= 100 lines/s, events = written + suppressed exactly, memory +<= 16 MiB, \
         threads unchanged",
    );
    let log = Sink::Pipe(LogReader::start(&ctx.rig.folder.path().join("f07.log"))?);
    let Sink::Pipe(reader) = &log else { return Ok(row) };
    // Every frame of HTTP/2 is an event: the storm is as large as the load, and no call fails for it.
    let mut start = ctx.rig.serve(&ctx.rig.data(), &["--log", "h2=trace,warn", "--near-cache-mib", "256"]);
    start.log = Some(&log);
    let plane = Program::start(&start).await?;
    ctx.rig.warm(&plane).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let offer = ctx.rig.w0(1.0);
    let round = Duration::from_secs(if ctx.scale.short { 1 } else { 4 });
    drop(load::saturate(&hosts, &offer, 32, round).await);
    let before = (plane.vitals(), Metrics::of(plane.admin).await?);
    let (mut healthy, mut stuck, mut rounds) = (Felt::default(), Felt::default(), Vec::new());
    for _ in 0..if ctx.scale.short { 1 } else { 4 } {
        reader.thaw();
        let one = load::saturate(&hosts, &offer, 32, round).await;
        reader.freeze();
        let other = load::saturate(&hosts, &offer, 32, round).await;
        rounds.push(format!("{:+.1} %", (other.keys_per_second() / one.keys_per_second() - 1.0) * 100.0));
        healthy.add(&one);
        stuck.add(&other);
    }
    let after = (plane.vitals(), Metrics::of(plane.admin).await?);
    reader.thaw();
    let lasted = (healthy.lasted + stuck.lasted).as_secs_f64();
    let during = |name: &str| after.1.sum(name) - before.1.sum(name);
    let (events, written) = (during("groundplane_log_events_total{"), during("groundplane_log_written_total"));
    let off = accounted(&plane).await?;
    let loss = 1.0 - stuck.keys_per_second() / healthy.keys_per_second();
    let grown = after.0.rss_bytes.saturating_sub(before.0.rss_bytes) >> 20;
    row.measure(format!(
        "{events:.0} events, {:.0}/s; {:.1} lines/s written; goodput {:+.1} % with a stuck sink (rounds {}); {off:.0} events not \
         accounted for; memory +{grown} MiB; threads {} -> {}; {} failed",
        events / lasted,
        written / lasted,
        -loss * 100.0,
        rounds.join(", "),
        before.0.threads,
        after.0.threads,
        stuck.failed() + healthy.failed()
    ));
    ctx.scale.check_time(&mut row, loss <= 0.02, "goodput is lost");
    row.check(events > 1_000.0, "there was no storm");
    row.check(written / lasted <= 101.0, "too many lines");
    row.check(off == 0.0, "lines are not accounted for");
    row.check(grown <= 16 || ctx.scale.short, format!("memory grows by {grown} MiB"));
    row.check(after.0.threads <= before.0.threads, "threads grow");
    row.check(stuck.failed() == 0, "calls failed");
    drop(plane);
    note_twin(&mut row, twin_with_a_stuck_sink(ctx).await);
    Ok(row)
}

/// Events that are neither written nor suppressed nor waiting, once nothing happens any more.
async fn accounted(plane: &Program) -> Result<f64> {
    let mut off = f64::NAN;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let metrics = Metrics::of(plane.admin).await?;
        off = metrics.sum("groundplane_log_events_total{")
            - metrics.sum("groundplane_log_written_total")
            - metrics.sum("groundplane_log_suppressed_total{")
            - metrics.sum("groundplane_log_waiting");
        if off == 0.0 {
            break;
        }
    }
    Ok(off)
}

/// Keys that memcached refuses make lines, and nobody reads them.
async fn twin_with_a_stuck_sink(ctx: &Ctx) -> Result<(Felt, u64)> {
    const PER_SECOND: u64 = 100;
    const SECONDS: u64 = 4;
    let memcached = ctx.rig.memcached().await?;
    let log = Sink::Pipe(LogReader::start(&ctx.rig.folder.path().join("f07-twin.log"))?);
    let Sink::Pipe(reader) = &log else { anyhow::bail!("a pipe") };
    let mut start = ctx.rig.twin(memcached.address);
    start.log = Some(&log);
    let twin = Program::start(&start).await?;
    let small = Load::begin(&Hosts::new(&[twin.listen], CONNECTIONS), ctx.rig.w0(PER_SECOND as f64));
    let quiet = small.during(Duration::from_secs(1)).await;
    anyhow::ensure!(quiet.success() > 0.9, "the twin fails before anything is wrong: {}", quiet.failures());
    let requests = Arc::new(vec![(data::asking(["k".repeat(300)]), 1)]);
    let storm = Offer { looks: false, ..Offer::posts("storm", &requests, 500.0) };
    let storm = Load::begin(&Hosts::new(&[twin.listen], 4), storm);
    reader.freeze();
    let mut now = small.during(Duration::from_secs(SECONDS)).await;
    reader.thaw();
    drop((small.end().await, storm.end().await));
    // What hangs has not ended: it was due, and nobody answered it while the sink was stuck.
    let due = (PER_SECOND * SECONDS).saturating_sub(now.calls());
    if due > PER_SECOND / 2 {
        *now.codes.entry(load::NO_ANSWER).or_default() += due;
    }
    Ok((now, sockets_to(memcached.address.port()).values().sum()))
}

/// All of it together, across two instances.
pub(super) async fn f08(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new(
        "F08",
        "",
        "small success >= 99.9 % across two instances, OOM kills 0, each restart ready <= 2 s, recovery <= 10 s",
    );
    let ours = april::plane_side(&ctx.rig, Duration::from_secs(8), 3, &|_| {}).await?;
    let slowest = ours.restarts.iter().max().copied().unwrap_or_default();
    row.measure(format!(
        "storm of 40 s, a kill each 8 s: {:.3} % of {} small calls ({}); {} kills, slowest restart {:.2} s; OOM kills {}; memory at \
         most {} MiB; recovered after {}",
        ours.storm.success() * 100.0,
        ours.storm.calls(),
        ours.storm.failures(),
        ours.restarts.len(),
        slowest.as_secs_f64(),
        ours.oom_kills.map_or("not bounded".into(), |kills| kills.to_string()),
        ours.rss_bytes_max >> 20,
        ours.recovery.map_or("-".into(), |it| format!("{:.1} s", it.as_secs_f64())),
    ));
    row.check(ours.storm.success() >= 0.999, "small calls failed");
    row.check(slowest <= READY_MAX, "a restart is too slow");
    row.check(ours.oom_kills.unwrap_or(0) == 0, "killed by the kernel");
    row.check(ours.recovery.is_some_and(|it| it <= Duration::from_secs(10)), "recovery is too slow");
    match april::twin_side(&ctx.rig, Duration::from_secs(5), 1, &|_| {}).await {
        Ok(twin) => row.twin(!april::stood(&twin), april::how_it_fell(&twin)),
        Err(e) => row.check(false, format!("the twin could not be run: {e:#}")),
    };
    Ok(row)
}

/// kill -9 again and again.
pub(super) async fn f09(ctx: &Ctx) -> Result<Row> {
    const KILLS: u32 = 8;
    let mut row =
        Row::new("F09", "", "leftover sockets <= pool x restarts (no pool: 0), the other instance feels nothing");
    let start = ctx.rig.serve(&ctx.rig.copy("second")?, &[]);
    let start_other = ctx.rig.serve(&ctx.rig.data(), &[]);
    let mut victim = Program::start(&start).await?;
    let other = Program::start(&start_other).await?;
    ctx.rig.warm(&other).await?;
    let near = async || {
        let metrics = Metrics::of(other.admin).await?;
        let of = |label| metrics.with("groundplane_cache_keys_total", label);
        anyhow::Ok((of("\"hit\""), of("\"miss\"")))
    };
    let of_both = Load::begin(&Hosts::new(&[victim.listen, other.listen], CONNECTIONS), ctx.rig.w0(200.0));
    let of_other = Load::begin(&Hosts::new(&[other.listen], 8), ctx.rig.w0(100.0));
    drop(of_both.during(Duration::from_secs(1)).await);
    drop(of_other.take());
    let before = near().await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        victim.kill();
        victim = Program::start_at(&start, victim.listen, victim.admin).await?;
        slowest = slowest.max(victim.ready_after);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    let (both, alone) = (of_both.take(), of_other.take());
    drop((of_both.end().await, of_other.end().await));
    let after = near().await?;
    let (hits, misses) = (after.0 - before.0, after.1 - before.1);
    let ratio = hits / (hits + misses).max(1.0);
    let own = sockets_to(victim.listen.port()).values().sum::<u64>() as usize;
    let dialled = sockets_elsewhere(&other).saturating_sub(own);
    row.measure(format!(
        "{KILLS} kills, 1.5 s apart; slowest restart {:.2} s; {} of {} calls to both answered ({}), {} of {} to the other one; its hit \
         ratio {:.2} %",
        slowest.as_secs_f64(),
        both.answered(),
        both.calls(),
        both.failures(),
        alone.answered(),
        alone.calls(),
        ratio * 100.0
    ));
    row.check(dialled == 0, format!("{dialled} sockets left"));
    row.check(alone.failed() == 0, format!("the other instance failed calls: {}", alone.failures()));
    row.check(both.success() >= 0.999, format!("callers that know both: {}", both.failures()));
    row.check(slowest <= READY_MAX, "a restart is too slow");
    row.check(ratio >= 0.90, "the other instance's hit ratio falls");
    Ok(row)
}

/// Two thousand connections to a plane that may have 256 files open.
pub(super) async fn f10(ctx: &Ctx) -> Result<Row> {
    const CONNECTIONS_MANY: usize = 2_000;
    let mut row = Row::new("F10", "", "no accept spin (CPU < 5 %), established callers unaffected, health says why");
    let log = Sink::File(ctx.rig.folder.path().join("f10.log"));
    let mut start = ctx.rig.serve(&ctx.rig.data(), &[]);
    (start.files_max, start.log) = (Some(256), Some(&log));
    let plane = Program::start(&start).await?;
    ctx.rig.warm(&plane).await?;
    let load = Load::begin(&Hosts::new(&[plane.listen], 16), ctx.rig.w0(100.0));
    drop(load.during(Duration::from_secs(1)).await);
    let cpu = |from: Vitals, to: Vitals, time: Duration| (to.cpu_seconds - from.cpu_seconds) / time.as_secs_f64();
    let from = plane.vitals();
    let quiet = load.during(ctx.scale.quiet).await;
    let cpu_quiet = cpu(from, plane.vitals(), quiet.lasted);
    // Callers need ports as well, more than there are in a drill.
    confine::ports(33_000..=39_999)?;
    let (mut open, mut tried) = (Vec::new(), 0);
    while tried < CONNECTIONS_MANY {
        // Those that nobody accepts are given up; the kernel has tried to place them.
        let mut dials = tokio::task::JoinSet::new();
        for _ in 0..100 {
            dials.spawn(tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(plane.listen)));
            tried += 1;
        }
        while let Some(dialled) = dials.join_next().await {
            if let Ok(Ok(Ok(stream))) = dialled {
                open.push(stream);
            }
        }
    }
    confine::ports(confine::PORTS)?;
    let from = plane.vitals();
    let felt = load.during(ctx.scale.quiet).await;
    let cpu_more = cpu(from, plane.vitals(), felt.lasted) - cpu_quiet;
    let health = Metrics::of(plane.admin).await;
    let says = match &health {
        Ok(metrics) => format!(
            "the admin port says: {:.0} connections, {:.0} of {:.0} files",
            metrics.sum("groundplane_connections"),
            metrics.sum("process_open_fds"),
            metrics.sum("process_max_fds")
        ),
        Err(e) => format!("the admin port does not answer: {e:#}"),
    };
    row.measure(format!(
        "{} of {tried} connections opened, the others are not taken up; CPU {:+.1} %; {} of {} calls of established callers answered, {}; {says}",
        open.len(),
        cpu_more * 100.0,
        felt.answered(),
        felt.calls(),
        p99s(&quiet, &felt),
    ));
    row.check(open.len() > 64, "too few connections could be opened to show anything");
    ctx.scale.check_time(&mut row, cpu_more < 0.05, "accepting takes a processor");
    row.check(felt.failed() == 0 && felt.answered() > 0, format!("established callers: {}", felt.failures()));
    row.check(health.is_ok(), "nobody is told: the admin port has no files either");
    drop(load.end().await);
    Ok(row)
}
