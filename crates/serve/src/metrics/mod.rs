//! What is measured, and the page that shows it.
//!
//! Figures about calls are kept in [`Calls`], in arrays by position ([`cells`]), and figures that others keep (the
//! store, admission, the process) are asked for when the page is made ([`live`]). Labels come from closed sets, and
//! the number of series has a bound, so that no caller can make the page grow.

mod cells;
mod live;
mod out;
mod process;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    metrics::MetricType,
    registry::Registry,
};

use self::{
    cells::{Grid, Histograms},
    out::Out,
};
pub(crate) use self::{live::Live, process::memory_limit_bytes};
use crate::{
    CallerId, Class, Code, Rpcs, Shed, Status,
    logs::LogCounts,
    price::{SIZE_CLASSES, size_class},
};

/// Series that carry the name of a configured caller. Beyond it, new ones are counted as `other`.
const NAMED_SERIES_MAX: u64 = 4_000;

/// Marks a maximum that was recorded before, so that its series stays although it starts over at each scrape.
const SEEN: u64 = 1 << 63;

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
    const NAMES: [&'static str; 3] = ["receive", "admission", "run"];
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

/// Figures about calls.
#[derive(Debug)]
pub(crate) struct Calls {
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
    batch_max: Grid<2>,
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
    inflight_keys_max: Grid<1>,
    cost: Grid<1>,

    // By class, stage, or one.
    wait: Histograms<1>,
    expired: Grid<1>,
    answers_dropped: AtomicU64,
}

impl Calls {
    pub(crate) fn new(rpcs: &Rpcs, callers: &[String]) -> Self {
        let names: Vec<&'static str> = rpcs.iter().map(|rpc| rpc.name).chain(["other"]).collect();
        let (r, c) = (names.len(), callers.len());
        Self {
            lists: rpcs.iter().map(|rpc| rpc.lists).chain([false]).collect(),
            rpcs: names,
            callers: callers.to_vec(),
            named_series: AtomicU64::new(0),
            requests: Grid::new([r, c, Code::ALL.len()]),
            by_size: Grid::new([r, c, SIZE_CLASSES.len()]),
            announced: Grid::new([r, c, SIZE_CLASSES.len()]),
            keys: Grid::new([r, c]),
            skip_cache: Grid::new([r, c]),
            batch_max: Grid::new([r, c]),
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
            inflight_keys_max: Grid::new([c]),
            cost: Grid::new([c]),
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

    pub(crate) fn priced(&self, caller: CallerId, keys: u32) {
        let now = self.inflight_keys.at([caller.index()]).fetch_add(keys.into(), Relaxed) + u64::from(keys);
        self.inflight_keys_max.at([caller.index()]).fetch_max(now | SEEN, Relaxed);
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

    pub(crate) fn ended(&self, it: &Ended<'_>) {
        let (rpc, caller) = (it.rpc, it.caller.index());
        let (keys, size) = (u64::from(it.keys), size_class(it.keys));
        let code = it.status.map_or(Code::Ok, |status| status.code);
        self.of_caller(&self.requests, [rpc, caller, code as usize]).fetch_add(1, Relaxed);
        self.of_caller(&self.by_size, [rpc, caller, size]).fetch_add(1, Relaxed);
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
            self.of_caller(&self.batch_max, [rpc, caller]).fetch_max(keys | SEEN, Relaxed);
        }
        self.duration.observe([rpc, size], micros(it.duration));
        self.request_bytes.observe([rpc], it.request_bytes as u64);
        match it.status {
            None => self.response_bytes.observe([rpc], it.response_bytes as u64),
            Some(status) => {
                if let Some(shed) = status.shed {
                    self.of_caller(&self.shed, [rpc, caller, shed as usize]).fetch_add(1, Relaxed);
                }
                if status.code == Code::DeadlineExceeded {
                    self.late.add([rpc, it.stage as usize], 1);
                }
            }
        }
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

    pub(crate) fn rpc_name(&self, rpc: usize) -> &'static str {
        self.rpcs[rpc]
    }

    pub(crate) fn caller_name(&self, caller: usize) -> &str {
        &self.callers[caller]
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Collector for Calls {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        use MetricType::{Counter, Gauge};
        let mut out = Out::new(encoder);
        let rpc = |at: usize| ("rpc", self.rpcs[at]);
        let caller = |at: usize| ("caller", self.callers[at].as_str());
        let size = |at: usize| ("size_class", SIZE_CLASSES[at]);
        let stage = |at: usize| ("stage", Stage::NAMES[at]);
        let value = |cell: &AtomicU64| cell.load(Relaxed);

        out.family(
            "groundplane_rpc_requests",
            "Calls that ended, by how they ended",
            Counter,
            self.requests
                .touched()
                .map(|([r, c, code], cell)| ([rpc(r), caller(c), ("code", Code::ALL[code].name())], value(cell))),
        )?;
        out.family(
            "groundplane_rpc_requests_by_size",
            "Calls that ended, by their number of keys",
            Counter,
            self.by_size.touched().map(|([r, c, s], cell)| ([rpc(r), caller(c), size(s)], value(cell))),
        )?;
        // A series is shown at 0 once before it is shown at 1, so that a rule sees it rise.
        out.family(
            "groundplane_rpc_first_seen",
            "A call, caller and number of keys that this process had not seen",
            Counter,
            self.by_size
                .touched()
                .map(|(at @ [r, c, s], _)| ([rpc(r), caller(c), size(s)], self.announced.at(at).swap(1, Relaxed))),
        )?;
        out.family(
            "groundplane_rpc_keys",
            "Keys asked for",
            Counter,
            self.keys.touched().map(|([r, c], cell)| ([rpc(r), caller(c)], value(cell))),
        )?;
        out.family(
            "groundplane_rpc_unique_keys",
            "Distinct keys asked for, each call by itself",
            Counter,
            self.unique.touched().map(|([r], cell)| ([rpc(r)], value(cell))),
        )?;
        out.family(
            "groundplane_rpc_skip_cache_keys",
            "Keys to be read past the caches",
            Counter,
            self.skip_cache.touched().map(|([r, c], cell)| ([rpc(r), caller(c)], value(cell))),
        )?;
        out.family(
            "groundplane_rpc_batch_keys_max",
            "Most keys in one call since the last scrape",
            Gauge,
            self.batch_max.touched().map(|([r, c], cell)| ([rpc(r), caller(c)], cell.swap(SEEN, Relaxed) & !SEEN)),
        )?;
        out.histograms("groundplane_rpc_batch_keys", "Keys of a call", 1.0, &self.batch, |[r]| [rpc(r)])?;
        out.histograms(
            "groundplane_rpc_duration_seconds",
            "Time from the headers of a call to its encoded answer",
            1e-6,
            &self.duration,
            |[r, s]| [rpc(r), size(s)],
        )?;
        out.histograms(
            "groundplane_rpc_request_bytes",
            "Bytes of a request message",
            1.0,
            &self.request_bytes,
            |[r]| [rpc(r)],
        )?;
        out.histograms(
            "groundplane_rpc_response_bytes",
            "Bytes of a response message",
            1.0,
            &self.response_bytes,
            |[r]| [rpc(r)],
        )?;
        let by_caller = |grid: &Grid<1>, at: usize| ([caller(at)], grid.get([at]));
        let callers = 0..self.callers.len();
        out.family(
            "groundplane_rpc_inflight",
            "Calls begun and not ended",
            Gauge,
            callers.clone().map(|at| by_caller(&self.inflight, at)),
        )?;
        out.family(
            "groundplane_inflight_keys",
            "Keys of calls begun and not ended",
            Gauge,
            callers.clone().map(|at| by_caller(&self.inflight_keys, at)),
        )?;
        out.family(
            "groundplane_inflight_keys_max",
            "Most keys of calls in flight since the last scrape",
            Gauge,
            callers.clone().map(
                // What is in flight now is in flight in the next interval, too.
                |at| {
                    (
                        [caller(at)],
                        self.inflight_keys_max.at([at]).swap(self.inflight_keys.get([at]) | SEEN, Relaxed) & !SEEN,
                    )
                },
            ),
        )?;
        out.family(
            "groundplane_admission_cost_units",
            "Cost of calls that ended",
            Counter,
            callers.map(|at| by_caller(&self.cost, at)),
        )?;
        out.family(
            "groundplane_rpc_cancelled",
            "Calls whose caller went away",
            Counter,
            self.cancelled.touched().map(|([r, s], cell)| ([rpc(r), stage(s)], value(cell))),
        )?;
        out.family(
            "groundplane_rpc_panics",
            "Calls that ended in a panic",
            Counter,
            self.panics.touched().map(|([r], cell)| ([rpc(r)], value(cell))),
        )?;
        out.histograms(
            "groundplane_admission_wait_seconds",
            "Time that calls waited for room",
            1e-6,
            &self.wait,
            |[c]| [("class", Class::ALL[c].name())],
        )?;
        out.family(
            "groundplane_shed",
            "Calls that were refused",
            Counter,
            self.shed
                .touched()
                .map(|([r, c, s], cell)| ([rpc(r), caller(c), ("reason", Shed::ALL[s].name())], value(cell))),
        )?;
        out.family(
            "groundplane_deadline_exceeded",
            "Calls that ran out of time",
            Counter,
            self.late.touched().map(|([r, s], cell)| ([rpc(r), stage(s)], value(cell))),
        )?;
        out.family(
            "groundplane_expired_work_skipped",
            "Work that was not begun because its time was over",
            Counter,
            self.expired.touched().map(|([s], cell)| ([stage(s)], value(cell))),
        )?;
        out.single(
            "groundplane_answers_dropped",
            "Large answers that their caller did not read in time",
            Counter,
            value(&self.answers_dropped),
        )
    }
}

/// All figures of the process. Other parts add theirs with [`Metrics::register`].
#[derive(Debug)]
pub struct Metrics {
    pub(crate) calls: Arc<Calls>,
    logs: Arc<LogCounts>,
    registry: Mutex<Registry>,
}

impl Metrics {
    pub(crate) fn new(rpcs: &Rpcs, callers: &[String]) -> Self {
        let calls = Arc::new(Calls::new(rpcs, callers));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&calls)));
        Self { calls, logs: Arc::new(LogCounts::default()), registry: Mutex::new(registry) }
    }

    /// Counts of log lines, for the layer that writes them.
    pub fn logs(&self) -> Arc<LogCounts> {
        Arc::clone(&self.logs)
    }

    /// Adds figures of another part. Their names carry the prefix `groundplane_` already.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// The page, in the OpenMetrics text format. Maxima since the last scrape start over.
    pub fn render(&self) -> String {
        let mut page = String::with_capacity(64 << 10);
        if text::encode(&mut page, &self.registry.lock()).is_err() {
            // Writing to a string cannot fail, so a collector gave up: what it wrote stands, and the end mark is missing.
            tracing::error!("a collector could not show its figures");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let metrics = Metrics::new(&rpcs, &["unknown".into(), "other".into(), "appview".into()]);
        let posts = rpcs.get("GetPostRecords").unwrap().index;
        metrics.calls.begin(CallerId::at(2));
        metrics.calls.priced(CallerId::at(2), 20_000);
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
        let second = metrics.render();
        for line in [
            r#"groundplane_rpc_first_seen_total{rpc="GetPostRecords",caller="appview",size_class="5k_plus"} 1"#,
            r#"groundplane_rpc_batch_keys_max{rpc="GetPostRecords",caller="appview"} 0"#,
            r#"groundplane_inflight_keys_max{caller="appview"} 0"#,
        ] {
            assert!(second.lines().any(|shown| shown == line), "{line} is not in\n{second}");
        }
    }

    /// Every call, every size it may have, every caller, some of it shed and some of it late.
    #[test]
    fn the_page_has_at_most_twenty_thousand_series() {
        let rpcs = Rpcs::contract();
        let callers = crate::caller::Callers::new(&(0..32).map(|n| format!("caller{n}")).collect::<Vec<_>>());
        let metrics = Metrics::new(&rpcs, callers.names());
        let (shed, late) = (Status::shed(Shed::QueueTime, ""), Status::late());
        for rpc in 0..=rpcs.iter().len() {
            let lists = rpcs.iter().nth(rpc).is_some_and(|rpc| rpc.lists);
            for caller in (0..callers.names().len()).rev() {
                for keys in [1, 5, 30, 100, 500, 2_000, 20_000] {
                    if keys == 1 || lists {
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
