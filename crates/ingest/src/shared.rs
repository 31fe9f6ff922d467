//! What all parts of the ingest side share.

use std::sync::{Arc, OnceLock};

use gp_index::Cx;
use gp_store::View;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    apply::{Applier, Policy},
    drop::Drops,
    flight::Room,
    held::Held,
    identity::Identity,
    jobs::{Bounds, JobKind, Queue},
    pending::Pending,
};

/// Whether upstreams are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Running,
    Paused,
    /// For good.
    Stopping,
}

/// What all parts of the ingest side share.
pub(crate) struct Shared {
    pub(crate) cx: Cx,
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) pending: Pending,
    /// Loops that are reading, or trying to. None is left soon after [`Shared::must_not_read`].
    pub(crate) readers: Pending,
    pub(crate) drops: Arc<Drops>,
    pub(crate) applier: Applier,
    /// Shows what the applier will read.
    pub(crate) rehearser: Applier,
    pub(crate) room: Room,
    pub(crate) refreshes: Arc<Queue>,
    pub(crate) resyncs: Arc<Queue>,
    pub(crate) deletions: Arc<Queue>,
    pub(crate) mode: watch::Sender<Mode>,
    /// Ends attempts and look-ups that are under way when we stop.
    pub(crate) stop: CancellationToken,
    failure: OnceLock<String>,
}

impl Shared {
    pub(crate) fn new(cx: Cx, identity: Identity, config: Config) -> Arc<Self> {
        let pending = Pending::default();
        let drops = Arc::new(Drops::default());
        let queue = |kind, running_max| {
            let bounds = Bounds {
                running_max,
                in_memory_max: config.jobs_in_memory_max.max(16),
                retry_delays: config.retry_delays,
                attempts_max: config.attempts_max.max(1),
                attempts_pending_max: config.attempts_pending_max,
            };
            Queue::new(kind, bounds, pending.clone())
        };
        let policy =
            Policy { resync_on_first_sight: config.resync_on_first_sight, accept_unproven: config.accept_unproven };
        let applier = Applier { policy, drops: Arc::clone(&drops), held: Held::default(), rehearses: false };
        Arc::new(Self {
            refreshes: queue(JobKind::Refresh, config.refreshes_running_max),
            // Many may look for their host at the same time; how many then read is bounded apart.
            resyncs: queue(JobKind::Resync, config.resyncs_running_max * 4),
            deletions: queue(JobKind::Delete, config.deletions_running_max),
            rehearser: applier.for_rehearsals(),
            applier,
            room: Room::new(config.events_in_flight_max, config.bytes_in_flight_max),
            mode: watch::Sender::new(Mode::Running),
            stop: CancellationToken::new(),
            failure: OnceLock::new(),
            cx,
            config,
            identity,
            pending,
            readers: Pending::default(),
            drops,
        })
    }

    /// Hands a job to the writer and waits only for a place in its queue. `done` is called on the writer's thread once
    /// the effects are visible. For lanes: it blocks the thread. The rehearsal shows what the job will read.
    ///
    /// If the store fails, `done` is not called: positions stay before what was lost, and nothing new is read.
    pub(crate) fn write<T: Send + 'static>(
        self: &Arc<Self>,
        rehearsal: impl Fn(&Self, &mut View<'_>) + Send + 'static,
        job: impl FnOnce(&mut View<'_>) -> gp_index::Result<T> + Send + 'static,
        done: impl FnOnce(&Arc<Self>, T) + Send + 'static,
    ) {
        let (shared, rehearses) = (Arc::clone(self), Arc::clone(self));
        let rehearsal = move |view: &mut View<'_>| rehearsal(&rehearses, view);
        let queued = futures::executor::block_on(self.cx.writer.submit_foreseen(rehearsal, move |view| {
            let mark = view.mark();
            let outcome = job(view);
            if outcome.is_err() {
                view.roll_back(mark);
            }
            Box::new(move |applied| match (outcome, applied) {
                (Ok(outcome), Ok(())) => done(&shared, outcome),
                (Err(error), _) => shared.fail(&error),
                (_, Err(error)) => shared.fail(&error.into()),
            })
        }));
        if let Err(error) = queued {
            self.fail(&error.into());
        }
    }

    /// Stops reading for good: what was lost can only come again after a restart.
    pub(crate) fn fail(&self, error: &gp_index::Error) {
        if self.stopping() {
            return;
        }
        if self.failure.set(error.to_string()).is_ok() {
            tracing::error!(%error, "the store failed; nothing more is read until the restart");
        }
        self.mode.send_if_modified(|mode| std::mem::replace(mode, Mode::Paused) != Mode::Paused);
    }

    /// Why reading has stopped for good.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(crate) fn stopping(&self) -> bool {
        *self.mode.borrow() == Mode::Stopping
    }

    /// Waits until upstreams may be read. False when stopping.
    pub(crate) async fn may_read(&self) -> bool {
        let mut mode = self.mode.subscribe();
        let found = mode.wait_for(|mode| *mode != Mode::Paused).await;
        found.is_ok_and(|mode| *mode == Mode::Running)
    }

    /// Waits until upstreams must not be read any more.
    pub(crate) async fn must_not_read(&self) {
        let mut mode = self.mode.subscribe();
        let _ = mode.wait_for(|mode| *mode != Mode::Running).await;
    }

    /// Runs a job on the writer and waits until its effects are visible.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut View<'_>) -> gp_index::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.cx.writer.run(job).await?)
    }

    /// [`Shared::run`] for a job whose reads can be shown beforehand.
    pub(crate) async fn run_foreseen<T: Send + 'static>(
        &self,
        rehearsal: impl Fn(&mut View<'_>) + Send + 'static,
        job: impl FnOnce(&mut View<'_>) -> gp_index::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.cx.writer.run_foreseen(rehearsal, job).await?)
    }

    /// Work queued or running. Read the position of a stream before this: then "position reached and nothing pending"
    /// is never true too early.
    pub(crate) fn pending_count(&self) -> u64 {
        self.pending.count() + self.refreshes.on_disk() + self.resyncs.on_disk() + self.deletions.on_disk()
    }
}
