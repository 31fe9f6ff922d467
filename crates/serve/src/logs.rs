//! Figures about log lines, and the bound on lines about failing calls.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Lines a second from one place; the rest is counted.
const LINES_PER_SECOND_MAX: u32 = 5;

/// Levels of a log line; a metric label.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Where a log line comes from; a metric label.
pub const SITES: [&str; 6] = ["store", "index", "ingest", "serve", "main", "other"];
/// Why a log line was not written; a metric label.
pub const SUPPRESSED: [&str; 3] = ["rate", "buffer_full", "sink_error"];

/// Counts of log lines. The layer that writes them adds to it; `/metrics` shows it.
#[derive(Debug, Default)]
pub struct LogCounts {
    events: [[AtomicU64; SITES.len()]; LEVELS.len()],
    suppressed: [AtomicU64; SUPPRESSED.len()],
}

impl LogCounts {
    /// Counts a line by its level and the module path it comes from.
    pub fn count(&self, level: tracing::Level, target: &str) {
        let site = match target.split("::").next().unwrap_or_default() {
            "gp_store" => 0,
            "gp_index" => 1,
            "gp_ingest" => 2,
            "gp_serve" => 3,
            "groundplane" => 4,
            _ => 5,
        };
        let level = match level {
            tracing::Level::ERROR => 0,
            tracing::Level::WARN => 1,
            tracing::Level::INFO => 2,
            tracing::Level::DEBUG => 3,
            tracing::Level::TRACE => 4,
        };
        self.events[level][site].fetch_add(1, Relaxed);
    }

    /// Counts lines that were not written: there were too many in a second.
    pub fn count_rate(&self, lines: u64) {
        self.suppressed[0].fetch_add(lines, Relaxed);
    }

    /// Counts lines that were not written: the buffer in front of the sink was full.
    pub fn count_buffer_full(&self, lines: u64) {
        self.suppressed[1].fetch_add(lines, Relaxed);
    }

    /// Counts lines that were not written: the sink failed.
    pub fn count_sink_error(&self, lines: u64) {
        self.suppressed[2].fetch_add(lines, Relaxed);
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        LEVELS.iter().zip(&self.events).flat_map(|(level, sites)| {
            SITES.iter().zip(sites).map(|(site, lines)| (*level, *site, lines.load(Relaxed)))
        })
    }

    pub(crate) fn suppressed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SUPPRESSED.iter().zip(&self.suppressed).map(|(reason, lines)| (*reason, lines.load(Relaxed)))
    }
}

/// Lets a few lines a second through.
#[derive(Debug, Default)]
pub(crate) struct LineGate {
    second: AtomicU64,
    lines: AtomicU32,
}

impl LineGate {
    /// Whether a line may be written in this second. Two that race at the turn of a second may both reset the count,
    /// which lets a few lines more through.
    pub(crate) fn opens(&self, now_us: i64) -> bool {
        let second = u64::try_from(now_us / 1_000_000).unwrap_or(0);
        if self.second.swap(second, Relaxed) != second {
            self.lines.store(0, Relaxed);
        }
        self.lines.load(Relaxed) < LINES_PER_SECOND_MAX && self.lines.fetch_add(1, Relaxed) < LINES_PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_five_lines_a_second_through() {
        let gate = LineGate::default();
        let through = |second: i64| (0..100).filter(|_| gate.opens(second * 1_000_000)).count();
        assert_eq!([through(1), through(1), through(2), through(9)], [5, 0, 5, 5]);
    }

    #[test]
    fn lines_are_counted_by_the_crate_they_come_from() {
        let counts = LogCounts::default();
        counts.count(tracing::Level::ERROR, "gp_store::engine");
        counts.count(tracing::Level::INFO, "hyper::proto");
        let touched: Vec<_> = counts.events().filter(|(.., lines)| *lines > 0).collect();
        assert_eq!(touched, [("error", "store", 1), ("info", "other", 1)]);
    }
}
