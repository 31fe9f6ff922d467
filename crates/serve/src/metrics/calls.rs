//! Figures about calls: recorded where a call passes, shown on the page, and read by the table of heavy hitters and by
//! the history.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Page, Source, catalog,
    cells::{Grid, Histograms, Maxima},
};
use crate::{
    CallerId, Class, Code, Rpcs, Shed, Status,
    price::{SIZE_CLASSES, size_class},
};

/// Series that carry the name of a configured caller. Beyond it, new ones are counted as `other`.
const NAMED_SERIES_MAX: u64 = 4_000;

/// Calls, callers and sizes that were new lately, kept for the page that an operator looks at.
const SHAPES_MAX: usize = 64;

/// Upper bounds in microseconds, from a quarter of a millisecond to ten seconds.
const DURATION_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000];
const WAIT_US: [u64; 10] = [50, 250, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000];
const BATCH_KEYS: [u64; 16] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000, 100_000];
const BYTES: [u64; 8] = [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20];

/// How far a call had come; a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Its request was being received.
    Receive = 0,
    /// It waited for room.
    Admission = 1,
    /// It was being answered.
    Run = 2,
}

impl Stage {
    pub(crate) const NAMES: [&'static str; 3] = ["receive", "admission", "run"];
}

/// What is known of a call when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) rpc: usize,
    pub(crate) caller: CallerId,
    pub(crate) keys: u32,
    pub(crate) unique: u32,
    pub(crate) skip_cache: u32,
    pub(crate) units: u32,
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    pub(crate) duration: Duration,
    /// `None` if it was answered.
    pub(crate) status: Option<&'a Status>,
    pub(crate) stage: Stage,
}

/// The totals of one call and one caller since start, for the table of heavy hitters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) keys: u64,
    pub(crate) units: u64,
    pub(crate) busy_us: u64,
}

/// A call, caller and number of keys that was new to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) at_us: i64,
    pub(crate) rpc: usize,
    pub(crate) caller: usize,
    pub(crate) keys: u32,
}

/// The largest call of a caller, and the most keys it had in flight, since this was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peak {
    pub(crate) rpc: usize,
    pub(crate) keys: u64,
    pub(crate) inflight_keys: u64,
}

/// Figures about calls.
#[derive(Debug)]
pub(crate) struct Calls {
    now_us: fn() -> i64,
    /// Names of the calls, and `other` for what is none.
    rpcs: Vec<&'static str>,
    lists: Vec<bool>,
    callers: Vec<String>,
    named_series: AtomicU64,

    // By call and caller.
    requests: Grid<3>,
    by_size: Grid<3>,
    announced: Grid<3>,
    keys: Grid<2>,
    skip_cache: Grid<2>,
    batch_max: Maxima<2>,
    units: Grid<2>,
    busy_us: Grid<2>,
    shed: Grid<3>,

    // By call.
    duration: Histograms<2>,
    batch: Histograms<1>,
    request_bytes: Histograms<1>,
    response_bytes: Histograms<1>,
    unique: Grid<1>,
    cancelled: Grid<2>,
    late: Grid<2>,
    panics: Grid<1>,

    // By caller.
    inflight: Grid<1>,
    inflight_keys: Grid<1>,
    inflight_keys_max: Maxima<1>,
    cost: Grid<1>,
    /// The most keys of one call, and behind them, in the lowest sixteen bits, which call it was.
    peak: Grid<1>,
    inflight_peak: Grid<1>,
    shapes: Mutex<VecDeque<Shape>>,

    // By class, stage, size, or one.
    failed_by_size: Grid<1>,
    wait: Histograms<1>,
    expired: Grid<1>,
    answers_dropped: AtomicU64,
}

impl Calls {
    pub(crate) fn new(rpcs: &Rpcs, callers: &[String], now_us: fn() -> i64) -> Self {
        let names: Vec<&'static str> = rpcs.iter().map(|rpc| rpc.name).chain(["other"]).collect();
        let (r, c) = (names.len(), callers.len());
        Self {
            lists: rpcs.iter().map(|rpc| rpc.lists).chain([false]).collect(),
            rpcs: names,
            callers: callers.to_vec(),
            now_us,
            named_series: AtomicU64::new(0),
            requests: Grid::new([r, c, Code::ALL.len()]),
            by_size: Grid::new([r, c, SIZE_CLASSES.len()]),
            announced: Grid::new([r, c, SIZE_CLASSES.len()]),
            keys: Grid::new([r, c]),
            skip_cache: Grid::new([r, c]),
            batch_max: Maxima::new([r, c]),
            units: Grid::new([r, c]),
            busy_us: Grid::new([r, c]),
            shed: Grid::new([r, c, Shed::ALL.len()]),
            duration: Histograms::new([r, SIZE_CLASSES.len()], &DURATION_US),
            batch: Histograms::new([r], &BATCH_KEYS),
            request_bytes: Histograms::new([r], &BYTES),
            response_bytes: Histograms::new([r], &BYTES),
            unique: Grid::new([r]),
            cancelled: Grid::new([r, Stage::NAMES.len()]),
            late: Grid::new([r, Stage::NAMES.len()]),
            panics: Grid::new([r]),
            inflight: Grid::new([c]),
            inflight_keys: Grid::new([c]),
            inflight_keys_max: Maxima::new([c]),
            cost: Grid::new([c]),
            peak: Grid::new([c]),
            inflight_peak: Grid::new([c]),
            shapes: Mutex::default(),
            failed_by_size: Grid::new([SIZE_CLASSES.len()]),
            wait: Histograms::new([Class::ALL.len()], &WAIT_US),
            expired: Grid::new([Stage::NAMES.len()]),
            answers_dropped: AtomicU64::new(0),
        }
    }

    /// The position of what is no call of the contract.
    pub(crate) fn no_rpc(&self) -> usize {
        self.rpcs.len() - 1
    }

    pub(crate) fn begin(&self, caller: CallerId) {
        self.inflight.add([caller.index()], 1);
    }

    /// What a call asks for is known, and it has not begun: who is about to do something large is seen before it is
    /// done.
    pub(crate) fn priced(&self, rpc: usize, caller: CallerId, keys: u32) {
        let (at, keys) = (caller.index(), u64::from(keys));
        let now = self.inflight_keys.at([at]).fetch_add(keys, Relaxed) + keys;
        Maxima::<1>::raise(self.inflight_keys_max.cells().at([at]), now);
        self.inflight_peak.at([at]).fetch_max(now, Relaxed);
        self.peak.at([at]).fetch_max(keys << 16 | rpc as u64, Relaxed);
        if self.lists[rpc] {
            Maxima::<2>::raise(self.of_caller(self.batch_max.cells(), [rpc, at]), keys);
        }
    }

    /// Takes back what `begin` and `priced` added.
    pub(crate) fn gone(&self, caller: CallerId, keys: u32) {
        self.inflight.at([caller.index()]).fetch_sub(1, Relaxed);
        self.inflight_keys.at([caller.index()]).fetch_sub(keys.into(), Relaxed);
    }

    pub(crate) fn cancelled(&self, rpc: usize, stage: Stage) {
        self.cancelled.add([rpc, stage as usize], 1);
    }

    pub(crate) fn panicked(&self, rpc: usize) {
        self.panics.add([rpc], 1);
    }

    pub(crate) fn waited(&self, class: Class, time: Duration) {
        self.wait.observe([class as usize], micros(time));
    }

    /// Work was not begun because its time was over.
    pub(crate) fn expired(&self, stage: Stage) {
        self.expired.add([stage as usize], 1);
    }

    pub(crate) fn answer_dropped(&self) {
        self.answers_dropped.fetch_add(1, Relaxed);
    }

    /// Counts a call that ended. Whether its caller and size were new.
    pub(crate) fn ended(&self, it: &Ended<'_>) -> bool {
        let (rpc, caller) = (it.rpc, it.caller.index());
        let (keys, size) = (u64::from(it.keys), size_class(it.keys));
        let code = it.status.map_or(Code::Ok, |status| status.code);
        self.of_caller(&self.requests, [rpc, caller, code as usize]).fetch_add(1, Relaxed);
        let is_new = self.of_caller(&self.by_size, [rpc, caller, size]).fetch_add(1, Relaxed) == 0;
        if is_new {
            self.remember(Shape { at_us: (self.now_us)(), rpc, caller, keys: it.keys });
        }
        self.units.add([rpc, caller], it.units.into());
        self.busy_us.add([rpc, caller], micros(it.duration));
        self.cost.add([caller], it.units.into());
        if keys > 0 {
            self.of_caller(&self.keys, [rpc, caller]).fetch_add(keys, Relaxed);
            self.unique.add([rpc], it.unique.into());
        }
        if it.skip_cache > 0 {
            self.of_caller(&self.skip_cache, [rpc, caller]).fetch_add(it.skip_cache.into(), Relaxed);
        }
        if self.lists[rpc] {
            self.batch.observe([rpc], keys);
        }
        self.duration.observe([rpc, size], micros(it.duration));
        self.request_bytes.observe([rpc], it.request_bytes as u64);
        match it.status {
            None => self.response_bytes.observe([rpc], it.response_bytes as u64),
            Some(status) => {
                if is_ours(status) {
                    self.failed_by_size.add([size], 1);
                }
                if let Some(shed) = status.shed {
                    self.of_caller(&self.shed, [rpc, caller, shed as usize]).fetch_add(1, Relaxed);
                }
                if status.code == Code::DeadlineExceeded {
                    self.late.add([rpc, it.stage as usize], 1);
                }
            }
        }
        is_new
    }

    fn remember(&self, shape: Shape) {
        let mut shapes = self.shapes.lock();
        if shapes.len() == SHAPES_MAX {
            shapes.pop_front();
        }
        shapes.push_back(shape);
    }

    /// The cell of a caller, or of `other` if the page has as many series of named callers as it may.
    fn of_caller<'a, const N: usize>(&self, grid: &'a Grid<N>, mut position: [usize; N]) -> &'a AtomicU64 {
        let cell = grid.at(position);
        if position[1] > CallerId::OTHER.index()
            && cell.load(Relaxed) == 0
            && self.named_series.fetch_add(1, Relaxed) >= NAMED_SERIES_MAX
        {
            self.named_series.fetch_sub(1, Relaxed);
            position[1] = CallerId::OTHER.index();
            return grid.at(position);
        }
        cell
    }

    /// Calls in flight of a caller.
    pub(crate) fn inflight_total(&self) -> u64 {
        (0..self.callers.len()).map(|caller| self.inflight.get([caller])).sum()
    }

    /// The totals of every call and caller that ever called.
    pub(crate) fn totals(&self) -> impl Iterator<Item = ((usize, usize), Totals)> {
        self.units_and_requests().filter(|(_, totals)| *totals != Totals::default())
    }

    fn units_and_requests(&self) -> impl Iterator<Item = ((usize, usize), Totals)> {
        (0..self.rpcs.len()).flat_map(move |rpc| {
            (0..self.callers.len()).map(move |caller| {
                let calls = (0..Code::ALL.len()).map(|code| self.requests.get([rpc, caller, code])).sum();
                let at = [rpc, caller];
                let totals =
                    Totals { calls, keys: self.keys.get(at), units: self.units.get(at), busy_us: self.busy_us.get(at) };
                ((rpc, caller), totals)
            })
        })
    }

    /// Calls that ended, by code.
    pub(crate) fn ended_by_code(&self) -> [u64; Code::ALL.len()] {
        let mut sums = [0; Code::ALL.len()];
        for ([_, _, code], cell) in self.requests.touched() {
            sums[code] += cell.load(Relaxed);
        }
        sums
    }

    /// Calls that were refused.
    pub(crate) fn shed_total(&self) -> u64 {
        self.shed.touched().map(|(_, cell)| cell.load(Relaxed)).sum()
    }

    /// Calls whose caller went away.
    pub(crate) fn cancelled_total(&self) -> u64 {
        self.cancelled.touched().map(|(_, cell)| cell.load(Relaxed)).sum()
    }

    /// How long calls took whose number of keys is in these size classes: the upper bounds in microseconds, and how
    /// many were in each, and above all.
    pub(crate) fn durations(&self, sizes: std::ops::Range<usize>) -> (&'static [u64], Vec<u64>) {
        (self.duration.bounds(), self.duration.sum_where(|[_, size]| sizes.contains(&size)))
    }

    /// The peaks of a caller since the last time; they start over. For one reader.
    pub(crate) fn take_peak(&self, caller: usize) -> Peak {
        let packed = self.peak.at([caller]).swap(0, Relaxed);
        let inflight_keys = self.inflight_peak.at([caller]).swap(self.inflight_keys.get([caller]), Relaxed);
        Peak { rpc: (packed & 0xffff) as usize, keys: packed >> 16, inflight_keys }
    }

    /// What was new to this process lately, newest last.
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        self.shapes.lock().iter().copied().collect()
    }

    /// Names of the callers, by position.
    pub(crate) fn callers(&self) -> &[String] {
        &self.callers
    }

    pub(crate) fn rpc_name(&self, rpc: usize) -> &'static str {
        self.rpcs[rpc]
    }

    pub(crate) fn caller_name(&self, caller: usize) -> &str {
        &self.callers[caller]
    }
}

/// Whether we owe an answer: the call was not refused for what its caller did.
fn is_ours(status: &Status) -> bool {
    match status.shed {
        Some(Shed::Oversize) => false,
        Some(_) => true,
        None => {
            matches!(status.code, Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::ResourceExhausted)
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Source for Calls {
    fn show(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let rpc = |at: usize| self.rpcs[at];
        let caller = |at: usize| self.callers[at].as_str();
        let size = |at: usize| SIZE_CLASSES[at];
        let stage = |at: usize| Stage::NAMES[at];
        let value = |cell: &AtomicU64| cell.load(Relaxed);

        page.family(
            &catalog::RPC_REQUESTS,
            self.requests
                .touched()
                .map(|([r, c, code], cell)| ([rpc(r), caller(c), Code::ALL[code].name()], value(cell))),
        )?;
        page.family(
            &catalog::RPC_REQUESTS_BY_SIZE,
            self.by_size.touched().map(|([r, c, s], cell)| ([rpc(r), caller(c), size(s)], value(cell))),
        )?;
        // All sizes are shown from the start, so that a part of nothing is 0 and not missing.
        page.family(
            &catalog::RPC_FAILED_BY_SIZE,
            (0..SIZE_CLASSES.len()).map(|at| ([size(at)], self.failed_by_size.get([at]))),
        )?;
        // A series is shown at 0 once before it is shown at 1, so that a rule sees it rise.
        page.family(
            &catalog::RPC_FIRST_SEEN,
            self.by_size
                .touched()
                .map(|(at @ [r, c, s], _)| ([rpc(r), caller(c), size(s)], self.announced.at(at).swap(1, Relaxed))),
        )?;
        page.family(&catalog::RPC_KEYS, self.keys.touched().map(|([r, c], cell)| ([rpc(r), caller(c)], value(cell))))?;
        page.family(&catalog::RPC_UNIQUE_KEYS, self.unique.touched().map(|([r], cell)| ([rpc(r)], value(cell))))?;
        page.family(
            &catalog::RPC_SKIP_CACHE_KEYS,
            self.skip_cache.touched().map(|([r, c], cell)| ([rpc(r), caller(c)], value(cell))),
        )?;
        page.family(
            &catalog::RPC_BATCH_KEYS_MAX,
            self.batch_max.touched().map(|([r, c], keys)| ([rpc(r), caller(c)], keys)),
        )?;
        page.histograms(&catalog::RPC_BATCH_KEYS, 1.0, &self.batch, |[r]| [rpc(r)])?;
        page.histograms(&catalog::RPC_DURATION, 1e-6, &self.duration, |[r, s]| [rpc(r), size(s)])?;
        page.histograms(&catalog::RPC_REQUEST_BYTES, 1.0, &self.request_bytes, |[r]| [rpc(r)])?;
        page.histograms(&catalog::RPC_RESPONSE_BYTES, 1.0, &self.response_bytes, |[r]| [rpc(r)])?;
        let by_caller = |grid: &Grid<1>, at: usize| ([caller(at)], grid.get([at]));
        let callers = 0..self.callers.len();
        page.family(&catalog::RPC_INFLIGHT, callers.clone().map(|at| by_caller(&self.inflight, at)))?;
        page.family(&catalog::INFLIGHT_KEYS, callers.clone().map(|at| by_caller(&self.inflight_keys, at)))?;
        page.family(
            &catalog::INFLIGHT_KEYS_MAX,
            self.inflight_keys_max.touched().map(|([c], keys)| ([caller(c)], keys)),
        )?;
        page.family(&catalog::ADMISSION_COST, callers.map(|at| by_caller(&self.cost, at)))?;
        page.family(
            &catalog::RPC_CANCELLED,
            self.cancelled.touched().map(|([r, s], cell)| ([rpc(r), stage(s)], value(cell))),
        )?;
        page.family(&catalog::RPC_PANICS, self.panics.touched().map(|([r], cell)| ([rpc(r)], value(cell))))?;
        page.histograms(&catalog::ADMISSION_WAIT, 1e-6, &self.wait, |[c]| [Class::ALL[c].name()])?;
        page.family(
            &catalog::SHED,
            self.shed.touched().map(|([r, c, s], cell)| ([rpc(r), caller(c), Shed::ALL[s].name()], value(cell))),
        )?;
        page.family(
            &catalog::DEADLINE_EXCEEDED,
            self.late.touched().map(|([r, s], cell)| ([rpc(r), stage(s)], value(cell))),
        )?;
        page.family(
            &catalog::EXPIRED_WORK_SKIPPED,
            self.expired.touched().map(|([s], cell)| ([stage(s)], value(cell))),
        )?;
        page.single(&catalog::ANSWERS_DROPPED, value(&self.answers_dropped))?;
        let now = Instant::now();
        self.batch_max.turn(now, |_| 0);
        // What is in flight now is in flight in the next interval, too.
        self.inflight_keys_max.turn(now, |at| self.inflight_keys.get(at));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{LogCounts, Metrics};

    fn metrics(rpcs: &Rpcs, callers: &[String]) -> Metrics {
        Metrics::new(rpcs, callers, || 5_000_000, Arc::new(LogCounts::default()))
    }

    /// Of a call with these keys.
    fn ended(rpc: usize, caller: usize, keys: u32, status: Option<&Status>) -> Ended<'_> {
        Ended {
            rpc,
            caller: CallerId::at(caller),
            keys,
            unique: keys,
            skip_cache: 0,
            units: keys,
            request_bytes: 300,
            response_bytes: 24_000,
            duration: Duration::from_micros(700),
            status,
            stage: Stage::Run,
        }
    }

    fn series(page: &str) -> usize {
        page.lines().filter(|line| !line.starts_with('#')).count()
    }

    #[test]
    fn a_call_is_shown_under_its_labels() {
        let rpcs = Rpcs::contract();
        let metrics = metrics(&rpcs, &["unknown".into(), "other".into(), "appview".into()]);
        let posts = rpcs.get("GetPostRecords").unwrap().index;
        metrics.calls.begin(CallerId::at(2));
        metrics.calls.priced(posts, CallerId::at(2), 20_000);
        metrics.calls.ended(&ended(posts, 2, 20_000, None));
        metrics.calls.gone(CallerId::at(2), 20_000);
        metrics.calls.ended(&ended(posts, 2, 50, Some(&Status::shed(Shed::QueueTime, ""))));
        let first = metrics.render();
        for line in [
            r#"groundplane_rpc_requests_total{rpc="GetPostRecords",caller="appview",code="OK"} 1"#,
            r#"groundplane_rpc_requests_total{rpc="GetPostRecords",caller="appview",code="RESOURCE_EXHAUSTED"} 1"#,
            r#"groundplane_rpc_requests_by_size_total{rpc="GetPostRecords",caller="appview",size_class="5k_plus"} 1"#,
            r#"groundplane_rpc_first_seen_total{rpc="GetPostRecords",caller="appview",size_class="5k_plus"} 0"#,
            r#"groundplane_rpc_batch_keys_max{rpc="GetPostRecords",caller="appview"} 20000"#,
            r#"groundplane_rpc_batch_keys_bucket{le="20000.0",rpc="GetPostRecords"} 2"#,
            r#"groundplane_rpc_batch_keys_bucket{le="+Inf",rpc="GetPostRecords"} 2"#,
            r#"groundplane_rpc_duration_seconds_bucket{le="0.0005",rpc="GetPostRecords",size_class="5k_plus"} 0"#,
            r#"groundplane_rpc_duration_seconds_bucket{le="0.001",rpc="GetPostRecords",size_class="5k_plus"} 1"#,
            r#"groundplane_inflight_keys_max{caller="appview"} 20000"#,
            r#"groundplane_inflight_keys{caller="appview"} 0"#,
            r#"groundplane_shed_total{rpc="GetPostRecords",caller="appview",reason="queue_time"} 1"#,
            "# EOF",
        ] {
            assert!(first.lines().any(|shown| shown == line), "{line} is not in\n{first}");
        }
        let new: Vec<_> = metrics.calls.shapes().iter().map(|it| (it.caller, it.keys, it.at_us)).collect();
        assert_eq!(new, [(2, 20_000, 5_000_000), (2, 50, 5_000_000)]);
        assert_eq!(metrics.calls.take_peak(2), Peak { rpc: posts, keys: 20_000, inflight_keys: 20_000 });
        assert_eq!(metrics.calls.take_peak(2), Peak::default());
        let second = metrics.render();
        let line = r#"groundplane_rpc_first_seen_total{rpc="GetPostRecords",caller="appview",size_class="5k_plus"} 1"#;
        assert!(second.lines().any(|shown| shown == line), "{line} is not in\n{second}");
    }

    /// Every call, every size it may have, every caller, some of it shed and some of it late.
    #[test]
    fn the_page_has_at_most_twenty_thousand_series() {
        let rpcs = Rpcs::contract();
        let callers = crate::caller::Callers::new(&(0..32).map(|n| format!("caller{n}")).collect::<Vec<_>>(), &[]);
        let metrics = metrics(&rpcs, callers.names());
        let (shed, late) = (Status::shed(Shed::QueueTime, ""), Status::late());
        for rpc in 0..=rpcs.iter().len() {
            let lists = rpcs.iter().nth(rpc).is_some_and(|rpc| rpc.lists);
            for caller in (0..callers.names().len()).rev() {
                for keys in [1, 5, 30, 100, 500, 2_000, 20_000] {
                    if keys == 1 || lists {
                        metrics.calls.priced(rpc, CallerId::at(caller), keys);
                        metrics.calls.ended(&ended(rpc, caller, keys, None));
                    }
                }
                metrics.calls.ended(&ended(rpc, caller, 1, Some(&shed)));
                metrics.calls.ended(&ended(rpc, caller, 1, Some(&late)));
            }
            metrics.calls.cancelled(rpc, Stage::Run);
        }
        let page = metrics.render();
        assert!(series(&page) <= 20_000 - 500, "{} series, and those of other parts", series(&page));
        assert!(page.contains(r#"caller="caller31""#) && page.contains(r#"caller="other""#));
    }
}
