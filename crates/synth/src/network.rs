//! The running network: the handle that demos, tests and benchmarks hold.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use gp_atproto::verify::RepoState;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Error,
    history::{Performed, Stage},
    host::{AccountFacts, Directory, Host, label_key},
    labels::{GivenLabel, Labeler},
    log::Log,
    model::Model,
    script::{FIRST_ORDINARY, HUB, KEEPER, LABELER, READER, Tally, VERIFIER},
    server::{self, Served},
    spec::Spec,
    switches::{Order, Switches},
};

/// One in this many posts and accounts of the history has a label.
const LABELLED_ONE_IN: usize = 60;
/// How often live mode lets something happen.
const LIVE_STEP: Duration = Duration::from_millis(50);
/// Most events of one live step, so that a process that was asleep does not catch up with all it missed.
const LIVE_STEP_EVENTS_MAX: f64 = 5_000.0;

/// A network that runs in this process until the handle is dropped.
pub struct Network {
    pub(crate) stage: Arc<Mutex<Stage>>,
    pub(crate) host: Arc<Host>,
    pub(crate) served: Arc<Served>,
    pub(crate) seed: u64,
    labeler: Arc<Labeler>,
    _stop: DropGuard,
}

/// An account of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What the directory and the host say.
    pub facts: AccountFacts,
    /// The display name of its first profile.
    pub display_name: String,
}

/// Where there is something to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picks {
    /// About a tenth of all accounts follow this one.
    pub hub_did: String,
    /// This one follows more accounts than anybody.
    pub reader_did: String,
    /// Runs the labeler.
    pub labeler_did: String,
    /// Verifies others; mark it as trusted.
    pub verifier_did: String,
    /// Keeps lists and starter packs, and gates its posts.
    pub keeper_did: String,
    /// The newest post of the hub.
    pub hub_post_uri: String,
    /// The root of the longest thread.
    pub long_thread_uri: String,
    /// A starter pack through which accounts have joined.
    pub starter_pack_uri: String,
    /// A feed generator.
    pub generator_uri: String,
    /// A moderation list.
    pub list_uri: String,
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Accounts that have joined.
    pub accounts: u32,
    /// What has been written, in all.
    pub written: Tally,
    /// Events that the relay retains.
    pub retained_events: usize,
    /// The newest sequence number.
    pub head_seq: i64,
    /// Labels that were given.
    pub labels: usize,
}

impl Network {
    /// Writes the history and begins to serve it.
    ///
    /// The history costs about 60 microseconds of a core for each commit; a demo network takes a second or two.
    pub async fn start(spec: Spec) -> Result<Network, Error> {
        spec.check()?;
        let (stage, events) = tokio::task::spawn_blocking({
            let spec = spec.clone();
            move || write_history(&spec)
        })
        .await
        .map_err(|_| Error::History)??;
        let (host, labels) = (stage.host.clone(), Arc::new(Log::new(None, None)));
        let labeler = Labeler::new(&host.person(LABELER).did, label_key(host.person(LABELER)), spec.seed);
        let mut subjects = stage.script.post_uris();
        subjects.extend((FIRST_ORDINARY..stage.script.joined()).map(|actor| host.person(actor).did.clone()));
        labeler.look_at(&subjects, LABELLED_ONE_IN, spec.now_us - spec.span_us / 2, spec.now_us, &labels);

        let (served, stop) = serve(spec.listen, Arc::new(events), labels, host.clone()).await?;
        Ok(Network {
            stage: Arc::new(Mutex::new(stage)),
            host,
            served,
            seed: spec.seed,
            labeler: Arc::new(labeler),
            _stop: stop,
        })
    }

    // ------------------------------------------------------------------------------------------ where it is

    /// The port on which everything is.
    pub fn addr(&self) -> SocketAddr {
        self.served.addr
    }

    /// For consumers of `com.atproto.sync.subscribeRepos`.
    pub fn relay_url(&self) -> String {
        format!("ws://{}", self.addr())
    }

    /// For consumers of `com.atproto.label.subscribeLabels`.
    pub fn labeler_url(&self) -> String {
        format!("ws://{}", self.addr())
    }

    /// The DID directory; it resolves every DID of the network, `did:web` included.
    pub fn plc_url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Where `com.atproto.identity.resolveHandle` is answered.
    pub fn handle_resolver_url(&self) -> String {
        self.plc_url()
    }

    // ------------------------------------------------------------------------------------------ what there is

    /// The newest sequence number.
    pub fn head_seq(&self) -> i64 {
        self.served.events.head()
    }

    /// What there is.
    pub fn stats(&self) -> Stats {
        let stage = self.stage.lock();
        Stats {
            accounts: stage.script.joined(),
            written: stage.script.tally(),
            retained_events: self.served.events.len(),
            head_seq: self.served.events.head(),
            labels: self.labeler.given().len(),
        }
    }

    /// Every account that has joined, in that order.
    pub fn accounts(&self) -> Vec<Account> {
        let joined = self.stage.lock().script.joined();
        (0..joined).filter_map(|actor| self.account_number(actor)).collect()
    }

    /// One account.
    pub fn account(&self, did: &str) -> Option<Account> {
        self.account_number(self.host.index_of(did)?)
    }

    fn account_number(&self, actor: u32) -> Option<Account> {
        let display_name = self.host.person(actor).display_name.clone();
        Some(Account { facts: self.host.facts(actor)?, display_name })
    }

    /// The newest commit of an account's repo.
    pub fn repo_state(&self, did: &str) -> Option<RepoState> {
        self.host.state(self.host.index_of(did)?)
    }

    /// A repo as `com.atproto.sync.getRepo` exports it.
    pub fn repo_car(&self, did: &str) -> Option<Vec<u8>> {
        self.host.car(did)
    }

    /// Where there is something to see.
    pub fn pick(&self) -> Picks {
        let stage = self.stage.lock();
        let did = |actor| self.host.person(actor).did.clone();
        let script = &stage.script;
        Picks {
            hub_did: did(HUB),
            reader_did: did(READER),
            labeler_did: did(LABELER),
            verifier_did: did(VERIFIER),
            keeper_did: did(KEEPER),
            hub_post_uri: script.hub_post().unwrap_or_default(),
            long_thread_uri: script.long_thread_root().unwrap_or_default(),
            starter_pack_uri: script.starter_pack().unwrap_or_default(),
            generator_uri: script.generator().unwrap_or_default(),
            list_uri: script.list().unwrap_or_default(),
        }
    }

    /// Asks the oracle. `None` if the spec said not to keep one.
    pub fn model<T>(&self, ask: impl FnOnce(&Model) -> T) -> Option<T> {
        self.stage.lock().model.as_ref().map(ask)
    }

    /// Every frame that the relay retains, with its sequence number.
    pub fn frames(&self) -> Vec<(i64, Bytes)> {
        self.served.events.entries(None).into_iter().map(|(seq, _, frame)| (seq, frame)).collect()
    }

    /// Every label that was given, in that order.
    pub fn labels(&self) -> Vec<GivenLabel> {
        self.labeler.given()
    }

    /// Gives labels, in one frame of the labeler's stream; returns its sequence number. `src` is replaced by the
    /// labeler's own DID.
    pub fn give_labels(&self, labels: impl IntoIterator<Item = GivenLabel>) -> i64 {
        let src = self.labeler.did();
        let labels = labels.into_iter().map(|label| GivenLabel { src: src.to_owned(), ..label }).collect();
        self.labeler.give(labels, &self.served.labels)
    }

    // ------------------------------------------------------------------------------------------ what happens next

    /// Lets at least `events` more things happen, at the time `now_us`; returns the newest sequence number.
    ///
    /// Costs about 100 microseconds for each event and blocks for that long.
    pub fn tick(&self, events: usize, now_us: i64) -> i64 {
        let mut stage = self.stage.lock();
        while stage.script.pending() < events {
            stage.script.next_live(now_us);
        }
        let performed = stage.perform_pending();
        append(&self.served.events, performed);
        self.served.events.head()
    }

    /// Lets things happen at about `events_per_second`, by the clock, until the returned guard is dropped.
    pub fn live(&self, events_per_second: f64) -> Live {
        let (stage, served) = (self.stage.clone(), self.served.clone());
        let task = tokio::spawn(async move {
            let mut timer = tokio::time::interval(LIVE_STEP);
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            let (mut last, mut due) = (tokio::time::Instant::now(), 0.0);
            loop {
                let now = timer.tick().await;
                due += events_per_second * now.duration_since(last).as_secs_f64();
                due = f64::min(due, LIVE_STEP_EVENTS_MAX);
                last = now;
                if due < 1.0 {
                    continue;
                }
                let (stage, served, wanted) = (stage.clone(), served.clone(), due as usize);
                let done = tokio::task::spawn_blocking(move || {
                    let mut stage = stage.lock();
                    while stage.script.pending() < wanted {
                        stage.script.next_live(clock_us());
                    }
                    let performed = stage.perform_pending();
                    let done = performed.frames.len();
                    append(&served.events, performed);
                    done
                });
                match done.await {
                    Ok(done) => due -= done as f64,
                    Err(_) => return,
                }
            }
        });
        Live(task)
    }

    // ------------------------------------------------------------------------------------------ the servers

    /// Breaks every connection to the streams, without a word.
    pub fn drop_connections(&self) {
        self.served.switches.give(Order::Drop);
    }

    /// Closes every connection to the streams in good order, with code 1000, which asks nobody to come again.
    pub fn close_connections(&self) {
        self.served.switches.give(Order::Close);
    }

    /// From now on every new connection to a stream breaks after a number of frames drawn from this range; `None`
    /// ends that.
    pub fn drop_connections_after(&self, frames: Option<(u64, u64)>) {
        self.served.switches.set_drops(self.seed, frames);
    }

    /// From now on streams send at most `frames_max` frames and then pause; `None` ends that.
    pub fn slow_down(&self, pace: Option<(usize, Duration)>) {
        self.served.switches.set_pace(pace);
    }

    /// Answers the next `times` requests whose decoded path begins with `path_prefix` with this HTTP status. `/did:`
    /// is the directory, `/xrpc/com.atproto.sync.getRepo` the export.
    pub fn fail_requests(&self, path_prefix: &str, status: u16, times: u64) {
        if times > 0 {
            self.served.switches.fail(path_prefix, status, times);
        }
    }

    /// Takes back what [`Network::fail_requests`] has not yet used up.
    pub fn stop_failing_requests(&self) {
        self.served.switches.stop_failing();
    }

    /// From now on requests whose path begins with this prefix wait for so long; `None` ends that.
    pub fn delay_requests(&self, delay: Option<(&str, Duration)>) {
        self.served.switches.set_delay(delay.map(|(prefix, delay)| (prefix.to_owned(), delay)));
    }

    /// The relay forgets everything up to and including `seq`.
    pub fn expire(&self, seq: i64) {
        self.served.events.expire(seq);
    }
}

/// Things happen as long as this is held.
pub struct Live(tokio::task::JoinHandle<()>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The true time, in microseconds since the epoch.
pub(crate) fn clock_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Writes the history that a spec asks for.
fn write_history(spec: &Spec) -> Result<(Stage, Log), Error> {
    let log = match &spec.spill_to {
        Some(folder) => Log::spilling(spec.retained_events_max, folder).map_err(Error::Spill)?,
        None => Log::new(spec.retained_events_max, None),
    };
    let mut stage = Stage::new(spec);
    let done: Result<(), std::convert::Infallible> = stage.perform_history(|performed| {
        append(&log, performed);
        Ok(())
    });
    match done {
        Ok(()) => Ok((stage, log)),
    }
}

/// Adds what was performed to the log; what deleted accounts did before goes.
pub(crate) fn append(log: &Log, performed: Performed) {
    let frames: Vec<_> =
        performed.frames.into_iter().map(|(seq, actor, frame)| (seq, actor, log.keep(frame))).collect();
    log.append(frames);
    if !performed.deleted.is_empty() {
        log.erase(&performed.deleted);
    }
}

/// Listens and serves until the guard is dropped.
pub(crate) async fn serve(
    listen: SocketAddr,
    events: Arc<Log>,
    labels: Arc<Log>,
    directory: Arc<dyn Directory>,
) -> Result<(Arc<Served>, DropGuard), Error> {
    let listener = TcpListener::bind(listen).await.map_err(Error::Listen)?;
    let addr = listener.local_addr().map_err(Error::Listen)?;
    let served = Arc::new(Served { events, labels, directory, switches: Switches::new(), addr });
    let stop = CancellationToken::new();
    tokio::spawn(server::run(listener, served.clone(), stop.clone()));
    Ok((served, stop.drop_guard()))
}
