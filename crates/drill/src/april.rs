//! The outage of April 2026: what it was made of, all of it at once, against the plane and against the twin.
//!
//! Two instances serve W0, each with 512 MiB and a log that a pipe takes away. After a quiet while a second caller begins
//! to send 3 x 20,000 keys a second; a third of the way into it the reader of both logs stops; at two thirds one instance
//! is killed and started again, as a supervisor would. Then the trigger stops, and it is seen how long it takes until
//! callers feel nothing any more.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::time::sleep;

use crate::{
    Row, Say,
    confine::MemoryBound,
    load::{Felt, Hosts, Load, Offer},
    program::{LogReader, Program, Sink, Start, Watch, sockets_to},
    report::Report,
    rig::{CONNECTIONS, Rig, is_close},
};

/// What an instance may hold.
pub const MEMORY_BYTES: u64 = 512 << 20;
/// How often it is looked at what callers felt: a point of the chart.
const POINT: Duration = Duration::from_millis(500);
/// W0 of both sides: what the twin can do as well while nothing is wrong.
const W0_PER_SECOND: f64 = 150.0;
/// Posts that are served.
const POSTS: usize = 40_000;
/// How long it may take until callers feel nothing any more.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// How the outage is played.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub bin: PathBuf,
    /// How long it is quiet at first, how long a third of the storm lasts, and how long it is looked at afterwards.
    pub phase: Duration,
}

/// Something that happened, for the chart.
#[derive(Clone, Debug)]
pub struct Mark {
    /// When, in seconds from the beginning.
    pub at: f64,
    /// What.
    pub what: &'static str,
}

/// What callers of W0 felt within one point of the chart.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// When it ended, in seconds from the beginning.
    pub at: f64,
    /// Calls a second that were answered.
    pub answered: f64,
    /// Calls a second that failed.
    pub failed: f64,
    /// Within which 99 of 100 were answered, in milliseconds.
    pub p99_ms: f64,
}

/// How it went for one side.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// The chart.
    pub points: Vec<Point>,
    /// What happened when.
    pub marks: Vec<Mark>,
    /// Small calls while it was quiet, in the storm, and afterwards.
    pub quiet: Felt,
    /// See `quiet`.
    pub storm: Felt,
    /// See `quiet`.
    pub after: Felt,
    /// The large calls.
    pub bulk: Felt,
    /// The most memory that one instance held.
    pub rss_bytes_max: u64,
    /// The most threads that one instance had, and what it had while it was quiet.
    pub threads: (u64, u64),
    /// Processes that the kernel killed for want of memory; `None` where no control group could be made.
    pub oom_kills: Option<u64>,
    /// How long each restart took until it was ready.
    pub restarts: Vec<Duration>,
    /// Sockets towards memcached at most, waiting ones included.
    pub cache_sockets_max: u64,
    /// How long after the trigger stopped callers felt nothing any more; `None` if they still did at the end.
    pub recovery: Option<Duration>,
}

/// What the outage found.
pub struct Found {
    /// The verdicts.
    pub rows: Vec<Row>,
    /// What the report is made of.
    pub report: Report,
}

impl Found {
    /// The report, a page that needs nothing else.
    pub fn html(&self) -> String {
        self.report.html(&self.rows)
    }
}

/// Plays the outage against both.
///
/// # Errors
///
/// A part of it cannot be started.
pub async fn run(plan: &Plan, say: Say<'_>) -> Result<Found> {
    let rig = Rig::new(&plan.bin, POSTS, 0, say).await?;
    say("== Groundplane");
    let ours = plane_side(&rig, plan.phase, 1, say).await?;
    say("== the twin");
    let twin = twin_side(&rig, plan.phase, 1, say).await;
    let (twin, no_twin) = match twin {
        Ok(twin) => (Some(twin), None),
        Err(e) => (None, Some(format!("{e:#}"))),
    };
    let rows = rows(&ours, twin.as_ref(), no_twin.as_deref());
    Ok(Found { rows, report: Report { ours, twin } })
}

/// Against two instances of the plane.
///
/// # Errors
///
/// They cannot be started.
pub async fn plane_side(rig: &Rig, phase: Duration, kills: u32, say: Say<'_>) -> Result<Course> {
    let folders = [rig.data(), rig.copy("second")?];
    // The lines of the library that speaks HTTP/2, several for each call: a storm that does not depend on what fails.
    let starts = folders.iter().map(|data| rig.serve(data, &["--log", "h2=debug,warn", "--near-cache-mib", "96"]));
    let mut side = Side::start(rig, starts.collect(), None, say).await?;
    for instance in &side.instances {
        rig.warm(&instance.program).await?;
    }
    side.play(phase, kills, say).await
}

/// Against two instances of the twin in front of one memcached.
///
/// # Errors
///
/// They cannot be started; mostly there is no memcached on this machine.
pub async fn twin_side(rig: &Rig, phase: Duration, kills: u32, say: Say<'_>) -> Result<Course> {
    let memcached = rig.memcached().await?;
    let starts = vec![rig.twin(memcached.address), rig.twin(memcached.address)];
    let mut side = Side::start(rig, starts, Some(memcached.address.port()), say).await?;
    side.play(phase, kills, say).await
}

struct Instance<'a> {
    start: Start<'a>,
    program: Program,
    memory: Option<MemoryBound>,
    log: Sink,
}

struct Side<'a> {
    instances: Vec<Instance<'a>>,
    cache_port: Option<u16>,
    small: Offer,
    bulk: Offer,
}

impl<'a> Side<'a> {
    async fn start(rig: &Rig, starts: Vec<Start<'a>>, cache_port: Option<u16>, say: Say<'_>) -> Result<Self> {
        let mut instances = Vec::new();
        for (n, start) in starts.into_iter().enumerate() {
            let name = format!("{}-{n}", if cache_port.is_some() { "twin" } else { "plane" });
            let log = Sink::Pipe(LogReader::start(&rig.folder.path().join(format!("{name}.log")))?);
            let memory = MemoryBound::new(&name, MEMORY_BYTES);
            if let (Err(e), 0) = (&memory, n) {
                say(&format!("memory is watched and not bounded: {e:#}"));
            }
            let memory = memory.ok();
            let program = Program::start(&again(&start, &log, memory.as_ref())).await?;
            instances.push(Instance { start, program, memory, log });
        }
        let small = rig.w0(W0_PER_SECOND);
        Ok(Self { instances, cache_port, small, bulk: rig.bulk() })
    }

    async fn play(&mut self, phase: Duration, kills: u32, say: Say<'_>) -> Result<Course> {
        let addresses: Vec<_> = self.instances.iter().map(|it| it.program.listen).collect();
        let hosts = Hosts::new(&addresses, CONNECTIONS);
        let mut course = Course::default();
        let begun = Instant::now();
        let small = Load::begin(&hosts, self.small.clone());
        // Connections are opened and caches of the processor filled before anything counts.
        sleep(Duration::from_secs(1)).await;
        drop(small.take());

        let mark = |course: &mut Course, what| {
            say(&format!("{:>5.1} s  {what}", begun.elapsed().as_secs_f64()));
            course.marks.push(Mark { at: begun.elapsed().as_secs_f64(), what });
        };
        let watched: Vec<Watch> = self.instances.iter().map(|it| Watch::begin(it.program.pid())).collect();
        course.quiet = self.watch(&small, phase, begun, &mut course).await;
        course.threads.1 = self.instances.iter().map(|it| it.program.vitals().threads).max().unwrap_or(0);

        mark(&mut course, "batch-job: 3 x 20,000 keys a second");
        let bulk = Load::begin(&hosts, self.bulk.clone());
        let mut storm = self.watch(&small, phase, begun, &mut course).await;
        mark(&mut course, "logs are not read any more");
        for instance in &self.instances {
            if let Sink::Pipe(reader) = &instance.log {
                reader.freeze();
            }
        }
        storm.add(&self.watch(&small, phase, begun, &mut course).await);
        for kill in 0..kills {
            mark(&mut course, "kill -9 of one instance");
            let which = kill as usize % self.instances.len();
            let instance = &mut self.instances[which];
            instance.program.kill();
            let (listen, admin) = (instance.program.listen, instance.program.admin);
            let start = again(&instance.start, &instance.log, instance.memory.as_ref());
            let mut back = Program::spawn(&start, listen, admin)?;
            let waits = Instant::now();
            let ready = tokio::spawn(async move {
                let ready = back.until_ready().await;
                (back, ready)
            });
            let part = self.watch(&small, phase, begun, &mut course).await;
            storm.add(&part);
            let (program, ready) = ready.await.context("the restart")?;
            course.restarts.push(if ready.is_ok() { program.ready_after } else { waits.elapsed() });
            self.instances[which].program = program;
        }
        course.storm = storm;
        mark(&mut course, "batch-job stops");
        let stopped = Instant::now();
        let bulk = tokio::spawn(bulk.end());
        // One point after the other, until callers feel nothing any more.
        let mut after = Felt::default();
        while stopped.elapsed() < phase.max(RECOVERY_MAX) && (course.recovery.is_none() || stopped.elapsed() < phase) {
            let felt = self.watch(&small, POINT, begun, &mut course).await;
            let is_well = felt.success() >= 0.95 && is_close(&course.quiet, &felt, 1.25);
            if is_well && course.recovery.is_none() {
                course.recovery = Some(stopped.elapsed());
            }
            after.add(&felt);
        }
        course.after = after;
        course.bulk = bulk.await.unwrap_or_default();
        drop(small.end().await);
        for watch in watched {
            let most = watch.end().await;
            course.rss_bytes_max = course.rss_bytes_max.max(most.rss_bytes);
            course.threads.0 = course.threads.0.max(most.threads);
        }
        let kills = |it: &Instance<'_>| it.memory.as_ref().map(MemoryBound::kills);
        course.oom_kills = self.instances.iter().map(kills).collect::<Option<Vec<_>>>().map(|it| it.iter().sum());
        for instance in &self.instances {
            if let Sink::Pipe(reader) = &instance.log {
                reader.thaw();
            }
        }
        Ok(course)
    }

    /// Waits, point by point.
    async fn watch(&mut self, small: &Load, time: Duration, begun: Instant, course: &mut Course) -> Felt {
        let until = Instant::now() + time;
        let mut all = Felt::default();
        while Instant::now() < until {
            sleep(POINT).await;
            let felt = small.take();
            let seconds = felt.lasted.as_secs_f64().max(1e-9);
            course.points.push(Point {
                at: begun.elapsed().as_secs_f64(),
                answered: felt.answered() as f64 / seconds,
                failed: felt.failed() as f64 / seconds,
                p99_ms: felt.p99_ms(),
            });
            if let Some(port) = self.cache_port {
                course.cache_sockets_max = course.cache_sockets_max.max(sockets_to(port).values().sum());
            }
            all.add(&felt);
        }
        all
    }
}

/// The same start with its log and its bound.
fn again<'a>(start: &Start<'_>, log: &'a Sink, memory: Option<&'a MemoryBound>) -> Start<'a> {
    Start {
        bin: start.bin.clone(),
        args: start.args.clone(),
        log: Some(log),
        memory,
        files_max: start.files_max,
        env: start.env.clone(),
    }
}

/// Whether a side stood it: what the twin must not.
pub fn stood(course: &Course) -> bool {
    course.storm.success() >= 0.999 && course.recovery.is_some_and(|it| it <= RECOVERY_MAX)
}

/// How a side fell, for people.
pub fn how_it_fell(course: &Course) -> String {
    format!(
        "{:.1} % of small calls answered in the storm ({}), up to {} sockets towards memcached, {}",
        course.storm.success() * 100.0,
        course.storm.failures(),
        course.cache_sockets_max,
        course
            .recovery
            .map_or("not recovered at the end".into(), |it| format!("recovered after {:.1} s", it.as_secs_f64())),
    )
}

/// The verdicts.
pub fn rows(ours: &Course, twin: Option<&Course>, no_twin: Option<&str>) -> Vec<Row> {
    let mut small = Row::new("A1", "small calls in the storm", "at least 99.9 % answered");
    small.measure(format!("{:.2} % of {} answered", ours.storm.success() * 100.0, ours.storm.calls()));
    small.measure(format!("failed: {}", ours.storm.failures()));
    small.check(ours.storm.success() >= 0.999, "too many small calls failed");

    let mut large = Row::new("A2", "large calls in the storm", "served or refused, never lost");
    large.measure(format!(
        "{} answered, p99 {:.0} ms; {}",
        ours.bulk.answered(),
        ours.bulk.p99_ms(),
        ours.bulk.failures()
    ));
    large.check(ours.bulk.answered() > 0, "not one large call was answered");

    let mut memory = Row::new("A3", "memory", "no process killed; at most 512 MiB");
    memory.measure(format!("at most {} MiB", ours.rss_bytes_max >> 20));
    match ours.oom_kills {
        Some(kills) => {
            memory.measure(format!("{kills} killed by the kernel")).check(kills == 0, "killed by the kernel")
        }
        None => memory.measure("watched, not bounded: no control group could be made"),
    };
    memory.check(ours.rss_bytes_max <= MEMORY_BYTES, "more than 512 MiB");

    let mut restart = Row::new("A4", "restart after kill -9", "ready within 2 s");
    let slowest = ours.restarts.iter().max().copied().unwrap_or_default();
    restart.measure(format!("{} restarts, slowest {:.2} s", ours.restarts.len(), slowest.as_secs_f64()));
    restart.check(slowest <= Duration::from_secs(2) && !ours.restarts.is_empty(), "too slow");

    let mut recovery = Row::new("A5", "recovery", "small calls as quiet within 10 s of the end of the trigger");
    recovery.measure(ours.recovery.map_or("not at the end".into(), |it| format!("after {:.1} s", it.as_secs_f64())));
    recovery.check(ours.recovery.is_some_and(|it| it <= RECOVERY_MAX), "too slow");

    let mut threads = Row::new("A6", "threads", "no more than sixteen beside the quiet ones");
    threads.measure(format!("{} quiet, at most {}", ours.threads.1, ours.threads.0));
    threads.check(ours.threads.0 <= ours.threads.1 + 16, "threads grow");

    let mut control = Row::new("A7", "the twin falls", "the same load takes the naive server down");
    match twin {
        Some(twin) => {
            control.measure(how_it_fell(twin));
            control.check(!stood(twin), "it stood: this drill shows nothing on this machine");
        }
        None => {
            control = Row::skipped("A7", "the twin falls", no_twin.unwrap_or("not started"));
        }
    }
    vec![small, large, memory, restart, recovery, threads, control]
}
