//! Figures about log lines, and the bound on how many are written.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Lines a second from one place in the code; the rest is counted.
pub const LINES_PER_SECOND_OF_ONE: u32 = 5;
/// Lines a second from the whole process; the rest is counted.
pub const LINES_PER_SECOND_MAX: u32 = 100;
/// Places that have a bound of their own. Two that share one share its lines.
const PLACES: usize = 256;

/// Levels of a log line; a metric label.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Where a log line comes from; a metric label.
pub const SITES: [&str; 6] = ["store", "index", "ingest", "serve", "main", "other"];
/// Why a log line was not written; a metric label.
pub const SUPPRESSED: [&str; 3] = ["rate", "buffer_full", "sink_error"];

/// Counts of log lines, and who may write one. The layer that writes them asks and adds; `/metrics` shows it.
///
/// Every line that was to be written is counted once as an event, and ends as written or as suppressed, exactly; what
/// waits for the sink is neither yet.
#[derive(Debug)]
pub struct LogCounts {
    events: [[AtomicU64; SITES.len()]; LEVELS.len()],
    suppressed: [AtomicU64; SUPPRESSED.len()],
    written: AtomicU64,
    waiting: AtomicU64,
    places: [LineGate; PLACES],
    process: LineGate,
}

impl Default for LogCounts {
    fn default() -> Self {
        Self {
            events: Default::default(),
            suppressed: Default::default(),
            written: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            places: [const { LineGate::new() }; PLACES],
            process: LineGate::new(),
        }
    }
}

impl LogCounts {
    /// Counts a line by its level and the module path it comes from, and says whether it may be written. `place` is a
    /// number that differs between places in the code; `second` counts up from the start of the process.
    pub fn admits(&self, level: tracing::Level, target: &str, place: usize, second: u32) -> bool {
        self.count(level, target);
        // Addresses of places are multiples of eight, and neighbours come one after the other.
        let place = &self.places[(place >> 3).wrapping_mul(0x9e37_79b1) >> 7 & (PLACES - 1)];
        let admitted = place.opens(second, LINES_PER_SECOND_OF_ONE) && self.process.opens(second, LINES_PER_SECOND_MAX);
        if !admitted {
            self.suppressed[0].fetch_add(1, Relaxed);
        }
        admitted
    }

    fn count(&self, level: tracing::Level, target: &str) {
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

    /// An admitted line is on its way to the sink. Each ends in one of the three ways below.
    pub fn waits(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    /// It was written.
    pub fn written(&self) {
        self.written.fetch_add(1, Relaxed);
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// It was not written: the sink failed.
    pub fn sink_failed(&self) {
        self.suppressed[2].fetch_add(1, Relaxed);
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// It was not written: too many wait already.
    pub fn buffer_full(&self) {
        self.suppressed[1].fetch_add(1, Relaxed);
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// Lines that were written.
    pub fn written_total(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Lines that wait for the sink.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Lines that were to be written, whatever became of them.
    pub fn events_total(&self) -> u64 {
        self.events().map(|(.., lines)| lines).sum()
    }

    /// Lines that were not written, by reason.
    pub fn suppressed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SUPPRESSED.iter().zip(&self.suppressed).map(|(reason, lines)| (*reason, lines.load(Relaxed)))
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        LEVELS.iter().zip(&self.events).flat_map(|(level, sites)| {
            SITES.iter().zip(sites).map(|(site, lines)| (*level, *site, lines.load(Relaxed)))
        })
    }
}

/// Lets a few lines a second through, never one more.
#[derive(Debug)]
struct LineGate(AtomicU64);

impl LineGate {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether a line may be written in this second.
    fn opens(&self, second: u32, lines_max: u32) -> bool {
        // The second above, and the lines in it below.
        let pass = |state: u64| {
            let (of, lines) = ((state >> 32) as u32, state as u32);
            if second > of { Some(u64::from(second) << 32 | 1) } else { (lines < lines_max).then_some(state + 1) }
        };
        self.0.fetch_update(Relaxed, Relaxed, pass).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_writes_five_lines_a_second_and_all_of_them_a_hundred() {
        let counts = LogCounts::default();
        let through = |place: usize, second: u32| {
            (0..100).filter(|_| counts.admits(tracing::Level::ERROR, "gp_serve::call", place, second)).count()
        };
        assert_eq!([through(8, 1), through(8, 1), through(8, 2), through(8, 9)], [5, 0, 5, 5]);
        let of_all: usize = (0..1_000).map(|place| through(place * 64, 20)).sum();
        assert_eq!(of_all, LINES_PER_SECOND_MAX as usize);
        let suppressed: u64 = counts.suppressed().map(|(_, lines)| lines).sum();
        assert_eq!(counts.events_total(), 100_400);
        assert_eq!(suppressed, 100_400 - 15 - 100, "every line is accounted for");
    }

    #[test]
    fn a_clock_that_goes_back_opens_nothing() {
        let gate = LineGate::new();
        assert!((0..5).all(|_| gate.opens(7, 5)));
        assert!(!gate.opens(6, 5) && !gate.opens(7, 5) && gate.opens(8, 5));
    }

    #[test]
    fn lines_are_counted_by_the_crate_they_come_from() {
        let counts = LogCounts::default();
        counts.admits(tracing::Level::ERROR, "gp_store::engine", 1, 1);
        counts.admits(tracing::Level::INFO, "hyper::proto", 2, 1);
        let touched: Vec<_> = counts.events().filter(|(.., lines)| *lines > 0).collect();
        assert_eq!(touched, [("error", "store", 1), ("info", "other", 1)]);
    }
}
