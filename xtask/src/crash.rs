//! `cargo xtask crash`: kills the program in the middle of its work, again and again, and compares what it ends with.
//!
//! One synthetic network is read twice by the real program: once undisturbed, once killed (`kill -9`) at seeded moments
//! all over the history, at starts and at stops. Both folders must then hold the same rows, and the counts that the
//! network's oracle expects. How the two are compared stands in `compare`, how the program is run in `process`.

mod compare;
pub(crate) mod failover;
mod process;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gp_synth::{GivenLabel, Happened, Network, Size, Spec};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::shell;
use compare::Clock;
use process::Program;
use tokio::runtime::Runtime;

/// What `cargo xtask crash` can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Kills while events are read. A tenth of it comes on top at starts, and another at stops.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Decides the network and the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Accounts of the network.
    #[arg(long, default_value_t = 600)]
    accounts: u32,
    /// A program that is built already.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Keep the folders of both runs and the program's log, and say where they are.
    #[arg(long)]
    keep: bool,
}

/// Records of the history for each account.
const RECORDS_PER_ACCOUNT: u64 = 30;

/// Where the history ends: long enough ago that no event seems to come from the future, and always the same, so that a
/// seed always makes the same network.
const NOW_US: i64 = 1_767_225_600_000_000;

/// How long the relay takes to send the history for each kill, so that there is something to kill in.
const PACE_FOR_EACH_KILL: Duration = Duration::from_millis(120);

/// And at the least for the whole history: a moment near its end must still be met, however few the kills.
const PACE_MIN: Duration = Duration::from_secs(10);

/// Frames that the paced relay sends at once; one is drawn for each life of the program. Many at once leave much work
/// in flight, few give every stage of one event its chance to be the last.
const BURSTS: [usize; 5] = [1, 4, 16, 64, 256];

/// A kill comes at most this long after its event was seen to be applied.
const AFTER_EVENT_MAX: Duration = Duration::from_millis(60);

/// A kill of a start or a stop comes at most this long after it began.
const INTO_START_MAX: Duration = Duration::from_millis(150);
const INTO_STOP_MAX: Duration = Duration::from_millis(30);

/// Longest wait for the next thing to happen, whatever it is.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longest time from SIGTERM to the end, as the contract with supervisors has it.
const STOP_MAX: Duration = Duration::from_secs(10);

/// One life of the program, by how it ends.
#[derive(Clone, Copy)]
enum Life {
    /// Killed this long after it has applied the event with this number.
    Reading(i64, Duration),
    /// Killed this long after its start.
    Starting(Duration),
    /// Told to stop after this event, killed this long after that.
    Stopping(i64, Duration),
    /// Told to stop after this event, and let go.
    Orderly(i64),
}

/// What the lives came to.
#[derive(Default)]
struct Tally {
    while_reading: u32,
    at_start: u32,
    at_stop: u32,
    restarts: u32,
    /// From the start of a process to its readiness.
    ready: Vec<Duration>,
    /// From SIGTERM to the end.
    stops: Vec<Duration>,
}

/// What a run has shown.
pub(crate) struct Outcome {
    /// Rows that are compared, those of one folder.
    rows: u64,
    /// Rows that differ.
    differences: u64,
    /// Figures asked of the oracle, and those that were not as it says.
    asked: u64,
    wrong: u64,
}

/// The part of `cargo xtask test`: few kills, a small network.
pub(crate) fn short() -> Result<(u64, u64)> {
    let outcome = run(&Args { kills: 12, seed: 7, accounts: 120, bin: None, keep: false })?;
    Ok(if outcome.holds() { (1, 0) } else { (0, 1) })
}

impl Outcome {
    /// Whether the folders were the same and as the oracle has it.
    pub(crate) fn holds(&self) -> bool {
        self.rows > 0 && self.asked > 0 && self.differences == 0 && self.wrong == 0
    }
}

/// Gives the label that comes after all others, and says where in its stream it is.
fn last_label(network: &Network) -> i64 {
    network.give_labels([GivenLabel {
        src: String::new(),
        uri: network.pick().hub_did,
        val: "last-of-all".into(),
        neg: false,
        cts_us: NOW_US,
        exp_us: None,
    }])
}

/// Runs the whole comparison. An error is a run that could not be made; what it found is in the outcome.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let begun = Instant::now();
    let clock_from_us = gp_index::system_now_us();
    let bin = shell::groundplane(args.bin.as_deref(), false)?;
    let mut folder =
        tempfile::Builder::new().prefix("groundplane-crash-").tempdir().context("a folder for the data")?;
    if args.keep {
        folder.disable_cleanup(true);
        println!("folders and log are kept in {}", folder.path().display());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let network = runtime.block_on(network(args))?;
    let label_head = last_label(&network);
    let head = network.head_seq();
    println!("{} accounts, {} events up to {head}", network.stats().accounts, network.stats().retained_events);

    let undisturbed = folder.path().join("undisturbed");
    let program = Program::new(&bin, &undisturbed, &network, &folder.path().join("undisturbed.log"))?;
    let mut tally = Tally::default();
    let mut process = program.start()?;
    tally.ready.push(process.wait_ready(PATIENCE)?);
    let reading = Instant::now();
    process.wait_settled(head, label_head, PATIENCE)?;
    println!("undisturbed: read in {:.1} s", reading.elapsed().as_secs_f64());
    tally.stops.push(process.stop(STOP_MAX)?);

    let killed = folder.path().join("killed");
    let program = Program::new(&bin, &killed, &network, &folder.path().join("killed.log"))?;
    let mut dice = StdRng::seed_from_u64(args.seed);
    let lives = lives(args.kills, head, &mut dice);
    let reading = Instant::now();
    for life in &lives {
        network.slow_down(Some(pace(args.kills, network.stats().retained_events, &mut dice)));
        live(&program, *life, head, &mut tally)?;
        tally.restarts += 1;
    }
    network.slow_down(None);
    let mut process = program.start()?;
    tally.ready.push(process.wait_ready(PATIENCE)?);
    process.wait_settled(head, label_head, PATIENCE)?;
    tally.stops.push(process.stop(STOP_MAX)?);
    println!("killed: read in {:.1} s", reading.elapsed().as_secs_f64());
    tally.print();
    ensure!(
        tally.while_reading >= args.kills,
        "only {} of {} kills came while events were read: the machine is too slow or the network too small",
        tally.while_reading,
        args.kills
    );

    let outcome = compare_all(&undisturbed, &killed, Clock::until_now(clock_from_us), &network, &runtime)?;
    println!(
        "{} kills, {} rows compared, {} differences; {} figures asked of the oracle, {} wrong; {:.1} s",
        tally.kills(),
        outcome.rows,
        outcome.differences,
        outcome.asked,
        outcome.wrong,
        begun.elapsed().as_secs_f64()
    );
    if !outcome.holds() && !args.keep {
        folder.disable_cleanup(true);
        println!("folders and log are kept in {}", folder.path().display());
    }
    Ok(outcome)
}

/// The network: a history, and at its end all sorts of trouble. Some of it makes the program read whole repos.
async fn network(args: &Args) -> Result<Network> {
    let size = Size::Custom { accounts: args.accounts, records: u64::from(args.accounts) * RECORDS_PER_ACCOUNT };
    let network = Network::start(Spec::new(size, args.seed, NOW_US)).await?;
    type Trouble = fn(&Network, &str) -> Result<Happened, gp_synth::Error>;
    let troubles: [Trouble; 10] = [
        |n, did| n.wrong_signature(did),
        |n, did| n.forged_record(did),
        |n, did| n.truncated_car(did),
        |n, did| n.record_over_limits(did),
        |n, did| n.empty_commit(did),
        |n, did| n.duplicated_event(did),
        |n, did| n.replay_old_events(did, 10),
        |n, did| n.set_status(did, Some("deactivated")),
        |n, did| n.set_status(did, Some("deleted")),
        |n, did| n.change_handle(did, &format!("renamed-{}.demo.test", &did[did.len() - 8..])),
    ];
    for (number, trouble) in troubles.iter().cycle().take(3 * troubles.len()).enumerate() {
        let did = network.victim(number as u64);
        trouble(&network, &did)?;
        // Something honest in between, so that troubles meet other work.
        network.tick(20, NOW_US);
    }
    Ok(network)
}

/// The lives of the program, in order, spread over the whole history.
fn lives(kills: u32, head: i64, dice: &mut StdRng) -> Vec<Life> {
    // The last events are left to the last life, so that no kill finds everything read.
    let mut moments: Vec<i64> = (0..kills).map(|_| dice.random_range(0..head * 19 / 20)).collect();
    moments.sort_unstable();
    let mut lives = Vec::new();
    for (number, moment) in moments.into_iter().enumerate() {
        match number % 10 {
            3 => lives.push(Life::Starting(within(INTO_START_MAX, dice))),
            6 => lives.push(Life::Stopping(moment, within(INTO_STOP_MAX, dice))),
            9 => lives.push(Life::Orderly(moment)),
            _ => {}
        }
        lives.push(Life::Reading(moment, within(AFTER_EVENT_MAX, dice)));
    }
    lives
}

fn within(max: Duration, dice: &mut StdRng) -> Duration {
    max.mul_f64(dice.random_range(0.0..1.0))
}

/// How the relay sends in the next life: bursts of some size, at the same rate on average.
fn pace(kills: u32, events: usize, dice: &mut StdRng) -> (usize, Duration) {
    let burst = BURSTS[dice.random_range(0..BURSTS.len())];
    let each = (PACE_FOR_EACH_KILL * kills).max(PACE_MIN).div_f64(events.max(1) as f64);
    (burst, each.mul_f64(burst as f64))
}

/// Lets the program live once.
fn live(program: &Program, life: Life, head: i64, tally: &mut Tally) -> Result<()> {
    let mut process = program.start()?;
    if let Life::Starting(after) = life {
        std::thread::sleep(after);
        process.kill()?;
        tally.at_start += 1;
        return Ok(());
    }
    tally.ready.push(process.wait_ready(PATIENCE)?);
    match life {
        Life::Reading(moment, after) => {
            process.wait_seq(moment, PATIENCE)?;
            std::thread::sleep(after);
            let seq = process.seq()?;
            process.kill()?;
            tally.while_reading += u32::from(seq < head);
        }
        Life::Stopping(moment, after) => {
            process.wait_seq(moment, PATIENCE)?;
            process.terminate()?;
            std::thread::sleep(after);
            process.kill()?;
            tally.at_stop += 1;
        }
        Life::Orderly(moment) => {
            process.wait_seq(moment, PATIENCE)?;
            tally.stops.push(process.stop(STOP_MAX)?);
        }
        Life::Starting(_) => {}
    }
    Ok(())
}

fn compare_all(
    undisturbed: &Path,
    killed: &Path,
    clock: Clock,
    network: &Network,
    runtime: &Runtime,
) -> Result<Outcome> {
    let (undisturbed, killed) = (compare::open(undisturbed)?, compare::open(killed)?);
    let compared = compare::compare(&undisturbed, &killed, clock, runtime)?;
    compared.print();
    let oracle = network
        .model(|model| compare::against_the_oracle(&killed, model, runtime))
        .context("the network has an oracle")??;
    oracle.print();
    Ok(Outcome { rows: compared.rows(), differences: compared.differences(), asked: oracle.asked, wrong: oracle.wrong })
}

impl Tally {
    fn kills(&self) -> u32 {
        self.while_reading + self.at_start + self.at_stop
    }

    fn print(&self) {
        println!(
            "{} kills: {} while reading, {} at a start, {} at a stop; {} restarts",
            self.kills(),
            self.while_reading,
            self.at_start,
            self.at_stop,
            self.restarts
        );
        let ms = |times: &[Duration]| {
            let mut times: Vec<u128> = times.iter().map(Duration::as_millis).collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or(0);
            format!("median {middle} ms, worst {} ms, {} times", times.last().copied().unwrap_or(0), times.len())
        };
        println!("from start to ready: {}", ms(&self.ready));
        println!("from SIGTERM to exit 0: {}", ms(&self.stops));
    }
}
