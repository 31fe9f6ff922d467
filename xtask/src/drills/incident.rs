//! The outage itself: F01 to F06.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use gp_drill::{
    Row,
    aside::Aside,
    confine,
    load::{Felt, Hosts, Load, Offer},
    program::{Program, Watch, sockets_to},
    rig::{CONNECTIONS, LARGE_KEYS, is_close, p99s},
};

use super::{Ctx, largest};
use crate::tidy;

/// A restart must be ready within this.
pub(super) const READY_MAX: Duration = Duration::from_secs(2);
/// Quiet and loaded times take turns, so that what else the machine does meets both.
const ROUNDS: u32 = 5;
/// Between a loaded and a quiet time.
const REST: Duration = Duration::from_millis(500);
/// How long the most that a plane can do is measured.
const MEASURE: Duration = Duration::from_secs(2);
/// As many ports as usual, which nobody has used yet.
const OTHER_PORTS: std::ops::RangeInclusive<u16> = 41_000..=41_499;
/// Calls a second that the twin can answer while nothing is wrong.
const TWIN_PER_SECOND: f64 = 200.0;

/// W0, and beside it one caller with 3 x 20,000 keys a second.
async fn large_batches(ctx: &Ctx, row: &mut Row, plane: &Program, what: &str, large_ms_max: f64) -> Result<()> {
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let (most, w0) = ctx.rig.measure(&hosts, MEASURE).await;
    let small = Load::begin(&hosts, ctx.rig.w0(w0));
    let watch = Watch::begin(plane.pid());
    let mut quiet = small.during(ctx.scale.quiet / ROUNDS).await;
    let before = watch.end().await;
    let watch = Watch::begin(plane.pid());
    let (mut now, mut large, mut between) = (Felt::default(), Felt::default(), Felt::default());
    for round in 0..ROUNDS {
        if round > 0 {
            quiet.add(&small.during(ctx.scale.quiet / ROUNDS).await);
        }
        let aside = Aside::start()?;
        let bulk = aside.begin(&Hosts::new(&[plane.listen], 4), ctx.rig.bulk());
        now.add(&small.during(ctx.scale.fault / ROUNDS).await);
        large.add(&bulk.end().await);
        tokio::time::sleep(REST).await;
        // Not a part of either time, but nobody may fail in it.
        between.add(&small.take());
    }
    let during = watch.end().await;
    drop(small.end().await);
    let elsewhere = sockets_elsewhere(plane);
    let grown = during.rss_bytes.saturating_sub(before.rss_bytes) >> 20;
    row.measure(format!(
        "{what}: W0 {w0:.0} calls/s of {:.0}; {}; {} failed; large p99 {:.0} ms ({} answered, failed: {}); threads {} -> {}; \
         memory +{grown} MiB; {elsewhere} sockets but those of callers",
        most.answered_per_second(),
        p99s(&quiet, &now),
        now.failed(),
        large.p99_ms(),
        large.answered(),
        large.failures(),
        before.threads,
        during.threads,
    ));
    let unanswered = [&quiet, &now, &between].map(Felt::failed).iter().sum::<u64>();
    row.check(unanswered == 0, format!("{what}: {unanswered} small calls failed: {}", now.failures()));
    row.check(large.failed() == 0, format!("{what}: large calls failed: {}", large.failures()));
    row.check(elsewhere == 0, format!("{what}: {elsewhere} sockets towards somebody else"));
    row.check(during.threads <= before.threads, format!("{what}: threads grow"));
    row.check(grown <= 256, format!("{what}: memory grows by {grown} MiB"));
    ctx.scale.check_time(row, is_close(&quiet, &now, 1.25), format!("{what}: small p99"));
    ctx.scale.check_time(row, large.p99_ms() <= large_ms_max, format!("{what}: large p99"));
    Ok(())
}

/// Sockets of this namespace that lead neither to nor from a port of the plane: what it has dialled. Those that wait for
/// their end are left out: earlier rows have left some.
pub(super) fn sockets_elsewhere(plane: &Program) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let own = [plane.listen.port(), plane.admin.port()];
    let port = |field: Option<&str>| {
        field.and_then(|it| u16::from_str_radix(it.rsplit(':').next()?, 16).ok()).unwrap_or_default()
    };
    let elsewhere = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (port(fields.next()), port(fields.next()), fields.next().unwrap_or_default());
        (confine::PORTS.contains(&local) || OTHER_PORTS.contains(&local))
            && !own.contains(&remote)
            && state != "06"
            && state != "0A"
    };
    table.lines().skip(1).filter(elsewhere).count()
}

/// The twin under W0 and the large caller, and its sockets towards memcached.
async fn twin_under_batches(ctx: &Ctx, time: Duration) -> Result<(Felt, u64)> {
    let memcached = ctx.rig.memcached().await?;
    let twin = Program::start(&ctx.rig.twin(memcached.address)).await?;
    let small = Load::begin(&Hosts::new(&[twin.listen], CONNECTIONS), ctx.rig.w0(TWIN_PER_SECOND));
    let quiet = small.during(Duration::from_secs(1)).await;
    anyhow::ensure!(quiet.success() > 0.9, "the twin fails before anything is wrong: {}", quiet.failures());
    let bulk = Load::begin(&Hosts::new(&[twin.listen], 4), ctx.rig.bulk());
    let now = small.during(time).await;
    let sockets = sockets_to(memcached.address.port()).values().sum();
    drop((small.end().await, bulk.end().await));
    Ok((now, sockets))
}

/// Notes what share of small calls a twin failed.
pub(super) fn note_twin(row: &mut Row, twin: Result<(Felt, u64)>) {
    match twin {
        Ok((felt, sockets)) => {
            let how = format!(
                "{:.1} % of small calls fail ({}), {sockets} sockets towards memcached",
                (1.0 - felt.success()) * 100.0,
                felt.failures()
            );
            row.twin(felt.failed() > 0, how);
        }
        Err(e) => {
            row.check(false, format!("the twin could not be run: {e:#}"));
        }
    }
}

/// Large batches at a low rate, from memory and from a store that takes a millisecond.
pub(super) async fn f01(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new(
        "F01",
        "",
        "small errors 0, small p99 <= 1.25x or +2 ms, nothing dialled, threads unchanged, memory +<= 256 MiB, large p99 <= \
         500 ms from memory and <= 2 s from a store of 1 ms",
    );
    let data = ctx.rig.data();
    {
        let plane = Program::start(&ctx.rig.serve(&data, &["--near-cache-mib", "256"])).await?;
        ctx.rig.warm(&plane).await?;
        large_batches(ctx, &mut row, &plane, "from memory", 500.0).await?;
    }
    {
        let more = ["--delay-us", "1000", "--caller", "appview,batch-job"];
        let plane = Program::start(&ctx.rig.scripted(&data, &more)).await?;
        large_batches(ctx, &mut row, &plane, "from the store", 2_000.0).await?;
    }
    note_twin(&mut row, twin_under_batches(ctx, Duration::from_secs(4)).await);
    Ok(row)
}

/// The largest legal request of every method of the contract, beside W0.
pub(super) async fn f02(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new("F02", "", "every method of the descriptor within the bounds of F01");
    let plane = Program::start(&ctx.rig.serve(&ctx.rig.data(), &["--near-cache-mib", "256"])).await?;
    ctx.rig.warm(&plane).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let (_, w0) = ctx.rig.measure(&hosts, MEASURE).await;
    let small = Load::begin(&hosts, ctx.rig.w0(w0));
    let aside = Aside::start()?;
    let time = Duration::from_millis(if ctx.scale.short { 50 } else { 1_000 });
    let before = plane.vitals();
    let (mut held, mut methods, mut answered, mut again) = (0, 0, 0, 0);
    let mut threads_max = before.threads;
    for (path, frame, keys) in largest::requests(&ctx.rig.posts.uris, LARGE_KEYS)? {
        methods += 1;
        let path: &'static str = path.leak();
        let requests = Arc::new(vec![(frame, keys)]);
        let offer = Offer { path, looks: false, ..Offer::posts("batch-job", &requests, 3.0) };
        let mut missed = String::new();
        // A second is short, and the machine has other work: what is out of bounds three times is.
        for turn in 0..3 {
            again += u32::from(turn > 0);
            let quiet = small.during(time).await;
            let bulk = aside.begin(&Hosts::new(&[plane.listen], 4), offer.clone());
            let now = small.during(time).await;
            let large = bulk.end().await;
            answered += large.answered();
            threads_max = threads_max.max(plane.vitals().threads);
            // Who asks for an identity that is not known asks a directory, and there is none here.
            let lost = large.codes.keys().any(|code| match code {
                13 => !path.contains("Identity"),
                code => matches!(code, 14 | 98),
            });
            missed = if now.failed() > 0 {
                format!("small calls failed: {}", now.failures())
            } else if lost {
                format!("large calls: {}", large.failures())
            } else if !ctx.scale.short && !is_close(&quiet, &now, 1.25) {
                format!("{} (large p99 {:.0} ms)", p99s(&quiet, &now), large.p99_ms())
            } else {
                String::new()
            };
            if missed.is_empty() || now.failed() > 0 || lost {
                break;
            }
        }
        held += u32::from(missed.is_empty());
        row.check(missed.is_empty(), format!("{path}: {missed}"));
    }
    drop(small.end().await);
    let grown = plane.vitals().rss_bytes.saturating_sub(before.rss_bytes) >> 20;
    row.measure(format!(
        "{held}/{methods} methods, 3/s for {:.2} s each, lists of {LARGE_KEYS}, {answered} large calls answered, {again} looked at \
         again; threads {} -> {threads_max}; memory +{grown} MiB",
        time.as_secs_f64(),
        before.threads
    ));
    row.check(methods == gp_proto::METHODS.len(), "not every method of the descriptor was called");
    row.check(sockets_elsewhere(&plane) == 0, "somebody else was dialled");
    row.check(grown <= 256, "memory grows");
    note_twin(&mut row, twin_under_batches(ctx, Duration::from_secs(2)).await);
    Ok(row)
}

/// Constructs without a bound, planted where nobody owns them.
pub(super) async fn f03(_: &Ctx) -> Result<Row> {
    let mut row = Row::new("F03", "", "every seeded violation caught, nothing untidy");
    let (caught, seeded) = tidy::seeded();
    row.measure(format!("{caught} of {seeded} planted texts judged right"));
    row.check(caught == seeded, "a seeded violation is not caught");
    if let Err(e) = tidy::run() {
        row.check(false, format!("{e:#}"));
    }
    Ok(row)
}

/// Makes every port towards an address wait in TIME_WAIT.
fn use_up_ports(address: SocketAddr) -> usize {
    let open: Vec<_> = confine::PORTS.map_while(|_| std::net::TcpStream::connect(address).ok()).collect();
    // Whoever closes first waits.
    open.iter().for_each(|it| drop(it.shutdown(std::net::Shutdown::Both)));
    open.len()
}

/// A start while no port is left.
pub(super) async fn f05(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new("F05", "", "serving within 2 s, no crash, no source address bound");
    let memcached = ctx.rig.memcached().await?;
    let used = use_up_ports(memcached.address);
    let mut plane = Program::start(&ctx.rig.serve(&ctx.rig.data(), &[])).await?;
    let waiting = sockets_to(memcached.address.port()).get("TIME_WAIT").copied().unwrap_or(0);
    let load = Load::begin(&Hosts::new(&[plane.listen], CONNECTIONS), ctx.rig.w0(100.0));
    let felt = load.during(Duration::from_secs(2)).await;
    drop(load.end().await);
    row.measure(format!(
        "{used} ports used up, {waiting} in TIME_WAIT; ready after {:.2} s; {} of {} calls answered",
        plane.ready_after.as_secs_f64(),
        felt.answered(),
        felt.calls()
    ));
    row.check(waiting >= 450, "the ports were not used up");
    ctx.scale.check_time(&mut row, plane.ready_after <= READY_MAX, "too slow");
    row.check(plane.is_alive() && felt.failed() == 0 && felt.answered() > 0, "not all calls were answered");
    plane.stop().await;
    match addresses_bound(ctx).await? {
        Some(bound) => {
            row.measure(format!("binds {} addresses, those it listens on", bound.len()));
            row.check(bound.len() == 2, format!("binds {bound:?}"));
        }
        None => {
            row.measure("calls of bind were not traced: no strace on this machine");
        }
    }
    let twin = async {
        use_up_ports(memcached.address);
        let twin = Program::start(&ctx.rig.twin(memcached.address)).await?;
        let load = Load::begin(&Hosts::new(&[twin.listen], 8), ctx.rig.w0(100.0));
        let felt = load.during(Duration::from_secs(2)).await;
        drop(load.end().await);
        anyhow::Ok((felt, sockets_to(memcached.address.port()).values().sum()))
    };
    note_twin(&mut row, twin.await);
    Ok(row)
}

/// The addresses that a plane binds while it starts and serves, by the trace of its system calls; `None` without a
/// tracer.
async fn addresses_bound(ctx: &Ctx) -> Result<Option<Vec<String>>> {
    const STRACE: &str = "/usr/bin/strace";
    if !Path::new(STRACE).exists() {
        return Ok(None);
    }
    let trace = ctx.rig.folder.path().join("bind.trace");
    let mut start = ctx.rig.serve(&ctx.rig.data(), &[]);
    let traced = ["-f", "-qq", "-e", "trace=bind", "-o"].map(str::to_owned);
    let program = [trace.display().to_string(), start.bin.display().to_string()];
    start.args = traced.into_iter().chain(program).chain(start.args).collect();
    start.bin = STRACE.into();
    let plane = Program::start(&start).await?;
    let load = Load::begin(&Hosts::new(&[plane.listen], 4), ctx.rig.w0(20.0));
    drop(load.during(Duration::from_secs(1)).await);
    drop(load.end().await);
    drop(plane);
    let text = std::fs::read_to_string(&trace)?;
    Ok(Some(text.lines().filter(|line| line.contains("sin_port")).map(str::to_owned).collect()))
}

/// Somebody else has every port of the host.
pub(super) async fn f06(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new("F06", "", "0 errors, no new connection attempted");
    let plane = Program::start(&ctx.rig.serve(&ctx.rig.data(), &[])).await?;
    ctx.rig.warm(&plane).await?;
    let load = Load::begin(&Hosts::new(&[plane.listen], CONNECTIONS), ctx.rig.w0(300.0));
    drop(load.during(Duration::from_secs(1)).await);
    // Other ports than those that earlier rows have left waiting: these could not be taken.
    confine::ports(OTHER_PORTS)?;
    let taken: Vec<TcpListener> = OTHER_PORTS.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).collect();
    let felt = load.during(ctx.scale.fault).await;
    let dialled = sockets_elsewhere(&plane);
    confine::ports(confine::PORTS)?;
    row.measure(format!(
        "{} of {} ports taken for {:.0} s; {} of {} calls answered; {dialled} dialled",
        taken.len(),
        OTHER_PORTS.count(),
        ctx.scale.fault.as_secs_f64(),
        felt.answered(),
        felt.calls()
    ));
    row.check(taken.len() == OTHER_PORTS.count(), "not all ports could be taken");
    drop(taken);
    drop(load.end().await);
    row.check(felt.failed() == 0 && felt.answered() > 0, format!("calls failed: {}", felt.failures()));
    row.check(dialled == 0, "a connection was attempted");
    Ok(row)
}
