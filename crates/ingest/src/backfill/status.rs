//! What a backfill says about itself: for people, for the status, for metrics.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering::{Relaxed, SeqCst},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Backfill, rows::Totals};
use crate::reading::FailReason;

/// The rate is that of the last minutes.
const RATE_OVER: Duration = Duration::from_secs(300);

/// ... of which one point is kept for so long.
const POINT_EVERY: Duration = Duration::from_secs(5);

/// The most important numbers of a backfill. Those of repos go on over restarts.
#[derive(Debug, Clone, Default)]
pub struct BackfillFigures {
    /// Nothing is left, save for what was given up.
    pub done: bool,
    /// All lists were read to their end.
    pub lists_whole: bool,
    /// Repos in the lists.
    pub listed: u64,
    /// ... that were here already.
    pub present: u64,
    /// ... that their host does not give out.
    pub inactive: u64,
    /// Repos read whole and applied.
    pub read: u64,
    /// Repos that something else brought meanwhile.
    pub overtaken: u64,
    /// Repos that their host refused.
    pub refused: u64,
    /// Repos that were given up.
    pub given_up: u64,
    /// Repos still to be read.
    pub left: u64,
    /// Repos being read at the moment.
    pub reading: u64,
    /// Hosts at rest.
    pub hosts_resting: u64,
    /// Records of the repos that were read.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Repos a second, lately.
    pub repos_per_second: f64,
    /// Seconds until nothing is left, if it goes on like this and the lists are whole.
    pub eta_seconds: Option<u64>,
    /// Failed attempts since start, by reason.
    pub failed: Vec<(&'static str, u64)>,
}

/// How quickly repos are done with.
pub(super) struct Rate {
    points: VecDeque<(Instant, u64)>,
}

fn done_with(totals: &Totals) -> u64 {
    totals.read + totals.overtaken + totals.refused
}

impl Rate {
    pub(super) fn new(totals: &Totals) -> Self {
        Self { points: VecDeque::from([(Instant::now(), done_with(totals))]) }
    }

    pub(super) fn note(&mut self, totals: &Totals) {
        let now = Instant::now();
        if self.points.back().is_none_or(|(at, _)| now.duration_since(*at) >= POINT_EVERY) {
            self.points.push_back((now, done_with(totals)));
        }
        while self.points.len() > 2 && self.points.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER) {
            self.points.pop_front();
        }
    }

    fn per_second(&self, totals: &Totals) -> f64 {
        let Some((at, then)) = self.points.front() else { return 0.0 };
        let seconds = at.elapsed().as_secs_f64().max(0.001);
        done_with(totals).saturating_sub(*then) as f64 / seconds
    }
}

impl Backfill {
    /// The most important numbers.
    pub(crate) fn figures(&self) -> BackfillFigures {
        let totals = self.totals.lock().clone();
        let lists_whole = self.lists.lock().iter().all(|list| list.whole);
        let (left, rate) = (totals.left(), self.rate.lock().per_second(&totals));
        let failed = FailReason::ALL.iter().zip(&self.failed);
        BackfillFigures {
            done: totals.done_at_us > 0,
            lists_whole,
            listed: totals.listed,
            present: totals.present,
            inactive: totals.inactive,
            read: totals.read,
            overtaken: totals.overtaken,
            refused: totals.refused,
            given_up: totals.given_up,
            left,
            reading: self.reading_now.load(SeqCst) as u64,
            hosts_resting: self.hosts.resting().0 as u64,
            records: totals.records,
            bytes: totals.bytes,
            repos_per_second: rate,
            eta_seconds: (lists_whole && rate > 0.0).then(|| (left as f64 / rate) as u64),
            failed: failed.map(|(reason, count)| (reason.name(), count.load(Relaxed))).collect(),
        }
    }

    /// The object in `/status`.
    pub(crate) fn status(&self) -> Value {
        let it = self.figures();
        let (_, hosts) = self.hosts.resting();
        let lists: Vec<Value> = self
            .config
            .urls
            .iter()
            .zip(self.lists.lock().iter())
            .map(|(url, list)| json!({"url": url, "listed": list.listed, "whole": list.whole, "error": list.error}))
            .collect();
        let failed: Map<String, Value> =
            it.failed.iter().filter(|(_, n)| *n > 0).map(|(reason, n)| ((*reason).to_owned(), (*n).into())).collect();
        json!({
            "done": it.done,
            "lists": lists,
            "listed": it.listed,
            "present": it.present,
            "inactive": it.inactive,
            "read": it.read,
            "overtaken": it.overtaken,
            "refused": it.refused,
            "given_up": it.given_up,
            "left": it.left,
            "reading": it.reading,
            "records": it.records,
            "bytes": it.bytes,
            "repos_per_second": (it.repos_per_second * 100.0).round() / 100.0,
            "eta_seconds": it.eta_seconds,
            "failed_attempts": failed,
            "hosts_resting": it.hosts_resting,
            "resting": hosts,
        })
    }

    pub(super) fn say(&self, what: &str) {
        let it = self.figures();
        tracing::info!(
            left = it.left,
            read = it.read,
            listed = it.listed,
            lists_whole = it.lists_whole,
            present = it.present,
            refused = it.refused,
            given_up = it.given_up,
            records = it.records,
            megabytes = it.bytes / 1_000_000,
            repos_per_second = (it.repos_per_second * 10.0).round() / 10.0,
            eta_seconds = it.eta_seconds,
            hosts_resting = it.hosts_resting,
            "{what}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_the_last_minutes() {
        let mut totals = Totals::default();
        let mut rate = Rate::new(&totals);
        for _ in 0..1000 {
            tokio::time::advance(Duration::from_secs(1)).await;
            totals.read += 10;
            rate.note(&totals);
        }
        assert!((9.0..11.0).contains(&rate.per_second(&totals)));
        for _ in 0..600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            totals.read += 1;
            rate.note(&totals);
        }
        assert!((0.9..1.2).contains(&rate.per_second(&totals)), "{}", rate.per_second(&totals));
        assert!(rate.points.len() < 70);
    }
}
