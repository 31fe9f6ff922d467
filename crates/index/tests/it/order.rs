//! Every order that keeps each repo's own order ends in the same rows (INV-5): rows, counts, flags, notifications.
//!
//! For long sweeps: `ORDER_HISTORIES=5000 ORDER_INTERLEAVINGS=50 ORDER_SEED=7 cargo test -p groundplane-index --test it`.
//! What fails is made as small as it can be and printed with its seed.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::{
    history::{Dice, History, What, interleaving},
    rig::{Run, Twin, apply},
};

/// Histories that are tried.
const HISTORIES: u64 = 300;

/// Orders in which each is tried, beside the order of time.
const INTERLEAVINGS: u64 = 30;

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

fn in_time(history: &History) -> Run {
    Run { order: (0..history.events.len()).collect(), twice: false, twin: Twin::Honest, seed: 1 }
}

/// What is wrong with a run, beside the same history in the order of time.
fn wrong(runtime: &Runtime, history: &Arc<History>, run: &Run) -> Vec<String> {
    let usual = apply(runtime, history, &Run { twin: run.twin, ..in_time(history) });
    let other = apply(runtime, history, run);
    let mut wrong = usual.differences(&other);
    wrong.extend(usual.miscounts().into_iter().chain(other.miscounts()));
    wrong
}

/// Leaves out events as long as something stays wrong.
fn smallest(runtime: &Runtime, history: &Arc<History>, run: &Run) -> (Arc<History>, Run) {
    let (mut history, mut run) = (Arc::clone(history), run.clone());
    loop {
        let before = history.events.len();
        let mut at = before;
        while at > 0 {
            at -= 1;
            let mut fewer = History::clone(&history);
            fewer.events.remove(at);
            let order = run.order.iter().filter(|place| **place != at);
            let order = order.map(|place| place - usize::from(*place > at)).collect();
            let (fewer, shorter) = (Arc::new(fewer), Run { order, ..run.clone() });
            if !wrong(runtime, &fewer, &shorter).is_empty() {
                (history, run) = (fewer, shorter);
            }
        }
        if history.events.len() == before {
            return (history, run);
        }
    }
}

fn told(runtime: &Runtime, seed: u64, history: &Arc<History>, run: &Run) -> String {
    let (history, run) = smallest(runtime, history, run);
    let mut text = format!("the history of seed {seed} does not end the same; the smallest that does not:\n");
    for (place, event) in history.events.iter().enumerate() {
        let what = match &event.what {
            What::Put { collection, rkey, shown, .. } => format!("{collection}/{rkey} = {shown}"),
            what => format!("{what:?}"),
        };
        text += &format!("  {place:>2} at {} {} {what}\n", event.time_us, &history.dids[event.repo][8..10]);
    }
    text += &format!("in the order {:?}{}\n", run.order, if run.twice { ", each twice" } else { "" });
    for line in wrong(runtime, &history, &run).iter().take(20) {
        text += &format!("  {line}\n");
    }
    text
}

/// A history, and an order in which it does not end as it should.
type Failure = (u64, Arc<History>, Run);

/// Tries histories in orders that `orders` makes of each, up to the first that does not end as it should. Answers with
/// the number of runs and of the rows of all histories.
fn sweep(
    twin: Twin,
    histories: u64,
    orders: impl Fn(&History, &mut Dice) -> Vec<Run>,
) -> Result<(u64, usize), Failure> {
    let runtime = runtime();
    let first = from_env("ORDER_SEED", 1);
    let (mut tried, mut rows) = (0, 0);
    for seed in first..first + histories {
        let history = Arc::new(History::of(seed));
        let in_time = Run { twin, ..in_time(&history) };
        let usual = apply(&runtime, &history, &in_time);
        if !usual.miscounts().is_empty() {
            return Err((seed, history, in_time));
        }
        rows += usual.rows();
        let mut dice = Dice::new(seed ^ 0x5eed);
        for run in orders(&history, &mut dice) {
            let run = Run { twin, ..run };
            tried += 1;
            if apply(&runtime, &history, &run) != usual {
                return Err((seed, history, run));
            }
        }
    }
    Ok((tried, rows))
}

/// The same, of the honest rig: fails with the smallest history that fails.
fn holds(histories: u64, orders: impl Fn(&History, &mut Dice) -> Vec<Run>) {
    match sweep(Twin::Honest, histories, orders) {
        Ok((tried, rows)) => println!("{tried} runs of histories with {rows} rows in all, 0 differences"),
        Err((seed, history, run)) => panic!("{}", told(&runtime(), seed, &history, &run)),
    }
}

fn shuffled(history: &History, dice: &mut Dice) -> Run {
    Run { order: interleaving(history, dice), seed: dice.number(), ..in_time(history) }
}

#[test]
fn every_interleaving_ends_in_the_same_rows() {
    let each = from_env("ORDER_INTERLEAVINGS", INTERLEAVINGS);
    holds(from_env("ORDER_HISTORIES", HISTORIES), |history, dice| (0..each).map(|_| shuffled(history, dice)).collect());
}

#[test]
fn applied_twice_and_replayed_it_ends_in_the_same_rows() {
    holds(from_env("ORDER_HISTORIES", HISTORIES), |history, dice| {
        let twice = Run { twice: true, ..shuffled(history, dice) };
        // After everything has arrived, the end of each repo arrives once more, in some order of the repos: of each record
        // its last word. Older words cannot come back, because a commit that is not newer than its repo is stale.
        let mut replayed = shuffled(history, dice);
        let keep = dice.below(history.events.len());
        let comes_again = |place: &usize| *place >= keep && history.is_last_word(*place);
        let again: Vec<usize> = interleaving(history, dice).into_iter().filter(comes_again).collect();
        replayed.order.extend(again);
        vec![twice, replayed]
    });
}

#[test]
fn the_rig_finds_planted_bugs() {
    for twin in [Twin::BlindCount, Twin::ForgottenPromotion, Twin::NeverLooksAgain] {
        let found = sweep(twin, HISTORIES, |history, dice| {
            vec![shuffled(history, dice), Run { twice: true, ..shuffled(history, dice) }]
        });
        assert!(found.is_err(), "{twin:?} is not found");
    }
}
