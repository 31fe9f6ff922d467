//! Applies verified events: decides what an event means for its repo, and calls the index.
//!
//! Everything here runs inside a writer job, so the state of a repo is exactly what the events before left. Nothing
//! here opens a socket, reads a clock or knows a lexicon: `order` comes before, `index` is called.

use std::sync::Arc;

use gp_atproto::{Tid, mst::empty_root};
use gp_index::{
    actors,
    apply::{Applied, Op, apply_op},
    repos::{self, RepoState, RepoStatus},
};
use gp_store::View;

use crate::{
    drop::{DropReason, Drops, SkipReason},
    facts::{CommitFacts, Facts, Item, OpFacts, SyncFacts},
    held::Held,
    jobs::{self, JobKind},
};

/// What may be decided by settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) resync_on_first_sight: bool,
    pub(crate) accept_unproven: bool,
}

/// What an event means for its repo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its operations are applied, and the repo then has this standing.
    Apply(RepoStatus),
    /// As `Apply`, and what came before the event must be fetched.
    ApplyAndResync,
    /// It is applied already.
    Stale,
    /// Something before it is missing: nothing is applied, the repo is read whole.
    Break,
    /// The repo is read whole anyway.
    Held,
}

/// What is left to do once an event's effects are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct After {
    /// The account is new: find out who it is.
    pub(crate) refresh: bool,
    /// Read the repo whole.
    pub(crate) resync: Option<Urge>,
}

/// How much a repo wants to be read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urge {
    /// A reading that is to come, or that failed lately, will do. One that has begun has not got as far as to keep
    /// events aside, so it will see this one.
    Whenever,
    /// A reading that has begun already does not count.
    Again,
    /// As `Again`, and now, even if that failed lately: something new is known.
    Now,
}

/// What a commit means for a repo of this state (ingest 3.3, steps 2 and 7 to 10).
pub(crate) fn judge_commit(state: Option<&RepoState>, it: &CommitFacts, policy: Policy) -> Verdict {
    let state = match state {
        Some(state) if state.status != RepoStatus::Deleted => state,
        gone_or_new => {
            // A deleted account may come back, but not its past.
            if gone_or_new.is_some_and(|state| *it.rev <= *state.rev) {
                return Verdict::Stale;
            }
            let from_nothing = it.before == Some(empty_root());
            return match (from_nothing, policy.resync_on_first_sight) {
                (false, true) => Verdict::ApplyAndResync,
                _ => Verdict::Apply(RepoStatus::Synced),
            };
        }
    };
    if *it.rev <= *state.rev {
        return Verdict::Stale;
    }
    if matches!(state.status, RepoStatus::Desynced | RepoStatus::Resyncing) {
        return Verdict::Held;
    }
    let follows = it.since.as_deref().map(|since| since == state.rev);
    let continues = match it.before {
        // With the tree proven, `since` matters only where it names another revision: then something was missed that
        // changed records and changed them back.
        Some(before) => state.data == Some(before) && (it.ops.is_empty() || follows.unwrap_or(true)),
        None => policy.accept_unproven && follows == Some(true),
    };
    if continues { Verdict::Apply(state.status) } else { Verdict::Break }
}

/// What a `#sync` means for a repo of this state. `Apply` moves its revision and changes no record.
pub(crate) fn judge_sync(state: Option<&RepoState>, it: &SyncFacts) -> Verdict {
    let state = match state {
        Some(state) if state.status != RepoStatus::Deleted => state,
        gone_or_new => {
            return match gone_or_new.is_some_and(|state| *it.rev <= *state.rev) {
                true => Verdict::Stale,
                false if it.data == empty_root() => Verdict::Apply(RepoStatus::Synced),
                false => Verdict::Break,
            };
        }
    };
    if *it.rev < *state.rev {
        return Verdict::Stale;
    }
    if matches!(state.status, RepoStatus::Desynced | RepoStatus::Resyncing) {
        return Verdict::Held;
    }
    match (state.data == Some(it.data), *it.rev == *state.rev) {
        // The creation of an account tells the same commit twice.
        (true, true) => Verdict::Stale,
        (true, false) => Verdict::Apply(state.status),
        (false, _) => Verdict::Break,
    }
}

/// What applying needs beside the view.
pub(crate) struct Applier {
    pub(crate) policy: Policy,
    pub(crate) drops: Arc<Drops>,
    pub(crate) held: Held,
    /// What it does is thrown away: it only shows what will be read (`gp_store::Writer::submit_foreseen`).
    pub(crate) rehearses: bool,
}

impl Applier {
    /// The same, for rehearsals: it counts for itself and keeps nothing aside.
    pub(crate) fn for_rehearsals(&self) -> Self {
        Self { policy: self.policy, drops: Arc::default(), held: Held::default(), rehearses: true }
    }

    /// Applies one event that has just come in. `touch` is set when the account's row may be missing.
    pub(crate) fn event(&self, view: &mut View<'_>, item: &Arc<Item>, touch: bool) -> gp_index::Result<After> {
        let did = Arc::clone(&item.did);
        let mut state = repos::state(view, &did)?;
        let mut after = After::default();
        let deleted = state.as_ref().filter(|s| s.status == RepoStatus::Deleted);
        // What happened before its deletion does not bring an account back.
        let is_past = deleted.is_some_and(|s| item.facts.rev() <= s.rev.as_str());
        // In a rehearsal a state that was not read yet looks like none.
        let is_new = state.is_none() && !self.rehearses;
        if (touch || is_new || deleted.is_some()) && !is_past && actors::touch(view, &did, item.time_us)? {
            jobs::put(view, JobKind::Refresh, &did, "")?;
            after.refresh = true;
        }
        let verdict = self.decide(view, item, &mut state, &mut after)?;
        if verdict == Verdict::Held {
            if state.as_ref().is_some_and(|s| s.status == RepoStatus::Resyncing) {
                self.held.push(Arc::clone(item));
            } else {
                // The row is gone if reading the repo was given up; this event is the occasion to try again.
                let given_up = jobs::row(view, JobKind::Resync, &did)?.is_none();
                if given_up {
                    jobs::put(view, JobKind::Resync, &did, item.facts.rev())?;
                }
                after.resync = Some(match item.facts {
                    // An account that comes back says so by a `#sync`.
                    Facts::Sync(_) => Urge::Now,
                    _ if given_up => Urge::Again,
                    _ => Urge::Whenever,
                });
            }
        }
        Ok(after)
    }

    /// Decides and, unless the event must wait, carries out.
    fn decide(
        &self,
        view: &mut View<'_>,
        item: &Item,
        state: &mut Option<RepoState>,
        after: &mut After,
    ) -> gp_index::Result<Verdict> {
        let did = &*item.did;
        let verdict = match &item.facts {
            Facts::Commit(it) => judge_commit(state.as_ref(), it, self.policy),
            Facts::Sync(it) => judge_sync(state.as_ref(), it),
            Facts::Unverified { rev } => match state.as_ref() {
                Some(state) if **rev <= *state.rev => Verdict::Stale,
                Some(state) if matches!(state.status, RepoStatus::Desynced | RepoStatus::Resyncing) => Verdict::Held,
                _ => Verdict::Break,
            },
            Facts::Nothing => return Ok(Verdict::Stale),
        };
        match verdict {
            Verdict::Stale => self.drops.skip(SkipReason::Stale, 1),
            Verdict::Held => self.drops.skip(SkipReason::Held, 1),
            Verdict::Apply(_) | Verdict::ApplyAndResync => {
                let status = match verdict {
                    Verdict::Apply(status) => status,
                    _ => RepoStatus::New,
                };
                let (rev, commit, data) = match &item.facts {
                    Facts::Commit(it) => {
                        self.ops(view, did, &it.rev, &it.ops, item.time_us)?;
                        (&it.rev, it.commit, it.data)
                    }
                    Facts::Sync(it) => (&it.rev, it.commit, it.data),
                    Facts::Unverified { .. } | Facts::Nothing => return Ok(Verdict::Stale),
                };
                let now = RepoState { rev: rev.to_string(), commit: Some(commit), data: Some(data), status };
                repos::set_state(view, did, &now);
                *state = Some(now);
                if verdict == Verdict::ApplyAndResync {
                    jobs::put(view, JobKind::Resync, did, "")?;
                    after.resync = Some(Urge::Again);
                }
            }
            Verdict::Break => {
                let broken = desynced(state.take());
                repos::set_state(view, did, &broken);
                *state = Some(broken);
                jobs::put(view, JobKind::Resync, did, item.facts.rev())?;
                after.resync = Some(Urge::Now);
            }
        }
        Ok(verdict)
    }

    /// Applies operations in their order. One that meets damaged rows of our own is left out, counted and logged, so
    /// that one bad row does not stop the network.
    fn ops(&self, view: &mut View<'_>, did: &str, rev: &str, ops: &[OpFacts], time_us: i64) -> gp_index::Result<()> {
        let mut applied = Applied::default();
        for op in ops {
            let op = Op {
                action: op.action,
                collection: &op.collection,
                rkey: &op.rkey,
                cid: op.cid,
                record: op.record.as_deref(),
            };
            self.op(view, did, rev, &op, time_us, &mut applied)?;
        }
        self.count(&applied);
        Ok(())
    }

    /// Applies one operation; see [`Applier::ops`].
    pub(crate) fn op(
        &self,
        view: &mut View<'_>,
        did: &str,
        rev: &str,
        op: &Op<'_>,
        time_us: i64,
        applied: &mut Applied,
    ) -> gp_index::Result<()> {
        let mark = view.mark();
        match apply_op(view, did, rev, op, time_us, applied) {
            Err(error @ gp_index::Error::Corrupt { .. }) => {
                view.roll_back(mark);
                if self.rehearses {
                    return Ok(());
                }
                self.drops.lost(DropReason::OwnState);
                tracing::error!(did, collection = op.collection, rkey = op.rkey, %error, "an operation was left out");
                Ok(())
            }
            other => other,
        }
    }

    pub(crate) fn count(&self, applied: &Applied) {
        self.drops.skip(SkipReason::CollectionUnknown, u64::from(applied.ignored));
        for dropped in &applied.dropped {
            self.drops.record(dropped.reason);
            tracing::debug!(reason = dropped.reason.name(), detail = dropped.detail, "record dropped");
        }
    }

    /// Applies a `#account` event.
    pub(crate) fn account(
        &self,
        view: &mut View<'_>,
        did: &str,
        active: bool,
        status: Option<&str>,
        time_us: i64,
    ) -> gp_index::Result<AfterAccount> {
        let mut after = AfterAccount::default();
        let deleted = !active && status == Some("deleted");
        if deleted && !actors::row(view, did)?.is_some_and(|row| row.exists) {
            // Deleted already, or never seen: a deletion that comes again must not bring the account back for a while.
            return Ok(after);
        }
        if actors::touch(view, did, time_us)? {
            jobs::put(view, JobKind::Refresh, did, "")?;
            after.refresh = true;
        }
        if deleted {
            // Whether it is true is asked of its host first (T47). Until then nothing changes.
            let at = Tid::from_parts(time_us.unsigned_abs(), 0);
            jobs::put(view, JobKind::Delete, did, at.text().as_str())?;
            after.delete = true;
            return Ok(after);
        }
        actors::set_account(view, did, active, status, time_us)?;
        if status == Some("desynchronized") {
            let state = repos::state(view, did)?;
            if !state.as_ref().is_some_and(|s| s.status == RepoStatus::Resyncing) {
                repos::set_state(view, did, &desynced(state));
            }
            jobs::put(view, JobKind::Resync, did, "")?;
            after.resync = true;
        }
        Ok(after)
    }

    /// Applies a `#identity` event: what it says is not believed, but asked for. Returns whether to ask.
    pub(crate) fn identity(&self, view: &mut View<'_>, did: &str, time_us: i64) -> gp_index::Result<bool> {
        let deleted = repos::state(view, did)?.is_some_and(|s| s.status == RepoStatus::Deleted);
        if deleted && !actors::row(view, did)?.is_some_and(|row| row.exists) {
            // A directory may tell of the end of an identity too. If the account comes back, it says so by `#account`.
            return Ok(false);
        }
        actors::touch(view, did, time_us)?;
        jobs::put(view, JobKind::Refresh, did, "")?;
        Ok(true)
    }

    /// Begins the whole reading of a repo: from now on its events are kept aside. Returns the job's row and the
    /// repo's standing before.
    pub(crate) fn begin_resync(&self, view: &mut View<'_>, did: &Arc<str>, time_us: i64) -> gp_index::Result<Begun> {
        let new = actors::touch(view, did, time_us)?;
        if new {
            jobs::put(view, JobKind::Refresh, did, "")?;
        }
        let known = jobs::row(view, JobKind::Resync, did)?;
        let asked_before = known.is_some();
        let row = match known {
            Some(row) => row,
            None => {
                jobs::put(view, JobKind::Resync, did, "")?;
                jobs::row(view, JobKind::Resync, did)?
                    .ok_or(gp_index::Error::Corrupt { table: jobs::JOB.name, what: "row" })?
            }
        };
        let mut state = repos::state(view, did)?.unwrap_or_else(|| desynced(None));
        let before = state.status;
        if before == RepoStatus::Deleted {
            state = desynced(None);
        }
        state.status = RepoStatus::Resyncing;
        repos::set_state(view, did, &state);
        self.held.open(did);
        Ok(Begun { row, asked_before, before, rev: state.rev, new })
    }

    /// Ends the whole reading of a repo, its records already applied, and applies the events kept aside since it
    /// began. Returns whether the repo is complete; if not, it must be read again.
    pub(crate) fn end_resync(
        &self,
        view: &mut View<'_>,
        did: &Arc<str>,
        read: &SyncFacts,
        begun: &Begun,
    ) -> gp_index::Result<bool> {
        let held = self.held.take(did);
        let mut now = RepoState {
            rev: read.rev.to_string(),
            commit: Some(read.commit),
            data: Some(read.data),
            status: RepoStatus::Synced,
        };
        if held.spilled && *held.rev_max > *read.rev {
            now.status = RepoStatus::Desynced;
            jobs::put(view, JobKind::Resync, did, &held.rev_max)?;
        }
        repos::set_state(view, did, &now);
        let mut state = Some(now);
        let mut after = After::default();
        for item in &held.items {
            self.decide(view, item, &mut state, &mut after)?;
        }
        let complete = state.is_some_and(|s| s.status == RepoStatus::Synced);
        // A row that was written since the reading began asks for one more.
        Ok(complete && jobs::remove(view, JobKind::Resync, did, Some(&begun.row))?)
    }

    /// Ends a whole reading that failed: the repo goes on as before. Its events kept aside are applied if they can be.
    pub(crate) fn abandon_resync(
        &self,
        view: &mut View<'_>,
        did: &Arc<str>,
        begun: &Begun,
        give_up: bool,
    ) -> gp_index::Result<()> {
        let held = self.held.take(did);
        let Some(mut now) = repos::state(view, did)? else { return Ok(()) };
        if now.status == RepoStatus::Resyncing {
            let followed = matches!(begun.before, RepoStatus::New | RepoStatus::Synced)
                && now.rev == begun.rev
                && !now.rev.is_empty();
            now.status = if followed { begun.before } else { RepoStatus::Desynced };
            if held.spilled && *held.rev_max > *now.rev {
                now.status = RepoStatus::Desynced;
            }
            repos::set_state(view, did, &now);
        }
        let mut state = Some(now);
        let mut after = After::default();
        for item in &held.items {
            self.decide(view, item, &mut state, &mut after)?;
        }
        if give_up {
            jobs::remove(view, JobKind::Resync, did, Some(&begun.row))?;
        }
        Ok(())
    }
}

/// What is left to do once a `#account` is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AfterAccount {
    pub(crate) refresh: bool,
    pub(crate) resync: bool,
    pub(crate) delete: bool,
}

/// How things stood when the whole reading of a repo began.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) row: jobs::JobRow,
    /// The row was there before.
    pub(crate) asked_before: bool,
    pub(crate) before: RepoStatus,
    /// The revision applied before; empty if none.
    pub(crate) rev: String,
    /// The account is new: find out who it is.
    pub(crate) new: bool,
}

/// The state of a repo of which something is missing. What was applied stays known, so that old events stay old.
fn desynced(state: Option<RepoState>) -> RepoState {
    match state {
        Some(state) if state.status != RepoStatus::Deleted => RepoState { status: RepoStatus::Desynced, ..state },
        _ => RepoState { status: RepoStatus::Desynced, ..RepoState::default() },
    }
}

#[cfg(test)]
mod tests {
    use gp_atproto::Cid;

    use super::*;

    const POLICY: Policy = Policy { resync_on_first_sight: true, accept_unproven: false };

    fn cid(n: u8) -> Cid {
        Cid::for_dag_cbor(&[n])
    }

    fn state(rev: &str, data: u8, status: RepoStatus) -> RepoState {
        RepoState { rev: rev.into(), commit: Some(cid(100 + data)), data: Some(cid(data)), status }
    }

    fn op() -> OpFacts {
        OpFacts {
            action: gp_index::apply::Action::Delete,
            collection: "a.b.c".into(),
            rkey: "x".into(),
            cid: None,
            record: None,
        }
    }

    fn commit(rev: &str, since: Option<&str>, before: Option<Cid>, data: u8) -> CommitFacts {
        CommitFacts {
            rev: rev.into(),
            since: since.map(Into::into),
            before,
            commit: cid(100 + data),
            data: cid(data),
            ops: vec![op()],
        }
    }

    fn sync(rev: &str, data: u8) -> SyncFacts {
        SyncFacts { rev: rev.into(), commit: cid(100 + data), data: cid(data) }
    }

    #[test]
    fn commits_of_a_repo_never_seen() {
        let says = |it: &CommitFacts, policy| judge_commit(None, it, policy);
        assert_eq!(says(&commit("b", None, Some(empty_root()), 1), POLICY), Verdict::Apply(RepoStatus::Synced));
        assert_eq!(says(&commit("b", Some("a"), Some(cid(0)), 1), POLICY), Verdict::ApplyAndResync);
        assert_eq!(says(&commit("b", None, None, 1), POLICY), Verdict::ApplyAndResync);
        let no = Policy { resync_on_first_sight: false, ..POLICY };
        assert_eq!(says(&commit("b", Some("a"), Some(cid(0)), 1), no), Verdict::Apply(RepoStatus::Synced));
    }

    #[test]
    fn commits_of_a_repo_that_is_followed() {
        for status in [RepoStatus::Synced, RepoStatus::New] {
            let stands = state("c", 3, status);
            let says = |it: &CommitFacts| judge_commit(Some(&stands), it, POLICY);
            assert_eq!(says(&commit("c", Some("b"), Some(cid(2)), 3)), Verdict::Stale);
            assert_eq!(says(&commit("b", Some("a"), Some(cid(1)), 2)), Verdict::Stale);
            assert_eq!(says(&commit("d", Some("c"), Some(cid(3)), 4)), Verdict::Apply(status));
            assert_eq!(says(&commit("d", None, Some(cid(3)), 4)), Verdict::Apply(status));
            assert_eq!(says(&commit("e", Some("d"), Some(cid(4)), 5)), Verdict::Break);
            assert_eq!(says(&commit("d", Some("c"), Some(cid(2)), 4)), Verdict::Break);
            assert_eq!(says(&commit("d", Some("b"), Some(cid(3)), 4)), Verdict::Break);
            assert_eq!(says(&commit("d", None, Some(empty_root()), 4)), Verdict::Break);
            assert_eq!(says(&commit("d", Some("c"), None, 4)), Verdict::Break);
            let resigned = CommitFacts { ops: Vec::new(), ..commit("d", Some("b"), Some(cid(3)), 3) };
            assert_eq!(says(&resigned), Verdict::Apply(status));
            let resigned = CommitFacts { ops: Vec::new(), ..commit("d", Some("c"), Some(cid(4)), 4) };
            assert_eq!(says(&resigned), Verdict::Break);
            let lenient = Policy { accept_unproven: true, ..POLICY };
            assert_eq!(judge_commit(Some(&stands), &commit("d", Some("c"), None, 4), lenient), Verdict::Apply(status));
            assert_eq!(judge_commit(Some(&stands), &commit("d", Some("b"), None, 4), lenient), Verdict::Break);
        }
        let mut empty = state("c", 0, RepoStatus::Synced);
        empty.data = Some(empty_root());
        assert_eq!(
            judge_commit(Some(&empty), &commit("d", None, Some(empty_root()), 4), POLICY),
            Verdict::Apply(RepoStatus::Synced)
        );
    }

    #[test]
    fn commits_of_a_repo_that_is_not_followed_wait() {
        for status in [RepoStatus::Desynced, RepoStatus::Resyncing] {
            let stands = state("c", 3, status);
            assert_eq!(judge_commit(Some(&stands), &commit("d", Some("c"), Some(cid(3)), 4), POLICY), Verdict::Held);
            assert_eq!(judge_commit(Some(&stands), &commit("b", None, Some(empty_root()), 4), POLICY), Verdict::Stale);
            assert_eq!(judge_sync(Some(&stands), &sync("d", 3)), Verdict::Held);
        }
        let gone = state("c", 3, RepoStatus::Deleted);
        assert_eq!(judge_commit(Some(&gone), &commit("b", None, Some(empty_root()), 4), POLICY), Verdict::Stale);
        assert_eq!(
            judge_commit(Some(&gone), &commit("d", None, Some(empty_root()), 4), POLICY),
            Verdict::Apply(RepoStatus::Synced)
        );
        assert_eq!(judge_sync(Some(&gone), &sync("c", 4)), Verdict::Stale);
        assert_eq!(judge_sync(Some(&gone), &sync("d", 4)), Verdict::Break);
    }

    #[test]
    fn syncs() {
        let stands = state("c", 3, RepoStatus::Synced);
        assert_eq!(judge_sync(Some(&stands), &sync("b", 9)), Verdict::Stale);
        assert_eq!(judge_sync(Some(&stands), &sync("c", 3)), Verdict::Stale);
        assert_eq!(judge_sync(Some(&stands), &sync("c", 4)), Verdict::Break);
        assert_eq!(judge_sync(Some(&stands), &sync("d", 3)), Verdict::Apply(RepoStatus::Synced));
        assert_eq!(judge_sync(Some(&stands), &sync("d", 4)), Verdict::Break);
        assert_eq!(judge_sync(None, &sync("d", 4)), Verdict::Break);
        let mut empty = sync("d", 0);
        empty.data = empty_root();
        assert_eq!(judge_sync(None, &empty), Verdict::Apply(RepoStatus::Synced));
    }

    // ------------------------------------------------------------------------------------------ on a store

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

    struct Bench {
        applier: Arc<Applier>,
        writer: gp_store::Writer,
    }

    impl Bench {
        fn new() -> Self {
            let tables: Vec<_> = gp_index::tables::ALL.iter().chain(crate::TABLES).copied().collect();
            let (writer, _) =
                gp_store::Writer::start(gp_store::Store::mem(&tables), gp_store::WriterConfig::default()).unwrap();
            let applier = Applier { policy: POLICY, drops: Arc::default(), held: Held::default(), rehearses: false };
            Self { applier: Arc::new(applier), writer }
        }

        async fn run<T: Send + 'static>(
            &self,
            job: impl FnOnce(&Applier, &mut View<'_>, &Arc<str>) -> gp_index::Result<T> + Send + 'static,
        ) -> T {
            let applier = Arc::clone(&self.applier);
            self.writer.run(move |view| job(&applier, view, &DID.into())).await.unwrap()
        }

        async fn event(&self, facts: Facts) -> After {
            self.run(|applier, view, did| {
                applier.event(view, &Arc::new(Item { did: Arc::clone(did), time_us: 1, facts }), false)
            })
            .await
        }

        async fn state(&self) -> (String, RepoStatus) {
            self.run(|_, view, did| Ok(repos::state(view, did)?.map(|s| (s.rev, s.status)).unwrap())).await
        }

        async fn job(&self, kind: JobKind) -> Option<String> {
            self.run(move |_, view, did| Ok(jobs::row(view, kind, did)?.map(|row| row.min_rev))).await
        }

        async fn has_actor(&self) -> bool {
            self.run(|_, view, did| Ok(actors::row(view, did)?.is_some())).await
        }

        async fn begin(&self) -> Begun {
            self.run(|applier, view, did| applier.begin_resync(view, did, 1)).await
        }

        async fn end(&self, read: SyncFacts, begun: Begun) -> bool {
            self.run(move |applier, view, did| applier.end_resync(view, did, &read, &begun)).await
        }

        async fn abandon(&self, begun: Begun, give_up: bool) {
            self.run(move |applier, view, did| applier.abandon_resync(view, did, &begun, give_up)).await;
        }

        /// A repo at revision `c` with tree 3, followed from its beginning.
        async fn followed() -> Self {
            let bench = Self::new();
            let after = bench.event(Facts::Commit(commit("c", None, Some(empty_root()), 3))).await;
            assert_eq!(after, After { refresh: true, resync: None });
            assert_eq!(bench.state().await, ("c".into(), RepoStatus::Synced));
            bench
        }
    }

    fn next(rev: &str, since: &str, before: u8, data: u8) -> Facts {
        Facts::Commit(commit(rev, Some(since), Some(cid(before)), data))
    }

    #[tokio::test]
    async fn a_break_asks_for_a_reading_and_events_after_it_wait() {
        let bench = Bench::followed().await;
        assert_eq!(bench.event(next("d", "c", 3, 4)).await, After::default());
        assert_eq!(bench.event(next("f", "e", 5, 6)).await.resync, Some(Urge::Now));
        assert_eq!(bench.event(next("g", "f", 6, 7)).await.resync, Some(Urge::Whenever));
        assert_eq!(bench.state().await, ("d".into(), RepoStatus::Desynced));
        assert_eq!(bench.job(JobKind::Resync).await.as_deref(), Some("f"));
        // Events behind what was read are applied, those before it are not.
        let begun = bench.begin().await;
        assert_eq!((begun.before, &*begun.rev, &*begun.row.min_rev), (RepoStatus::Desynced, "d", "f"));
        assert_eq!(bench.event(next("h", "g", 7, 8)).await, After::default());
        assert_eq!(bench.event(next("i", "h", 8, 9)).await, After::default());
        assert!(bench.end(sync("h", 8), begun).await);
        assert_eq!(bench.state().await, ("i".into(), RepoStatus::Synced));
        assert_eq!(bench.job(JobKind::Resync).await, None);
    }

    #[tokio::test]
    async fn a_reading_that_events_overtook_is_not_the_last() {
        let bench = Bench::followed().await;
        let begun = bench.begin().await;
        bench.event(next("f", "e", 5, 6)).await;
        assert!(!bench.end(sync("d", 4), begun).await);
        assert_eq!(bench.state().await, ("d".into(), RepoStatus::Desynced));
        assert_eq!(bench.job(JobKind::Resync).await.as_deref(), Some("f"));
        // Too many events to keep: only a reading that reaches the last of them will do.
        let begun = bench.begin().await;
        for n in 0..400 {
            bench.event(next(&format!("g{n:03}"), "x", 6, 7)).await;
        }
        assert!(!bench.end(sync("g1", 7), begun).await);
        assert_eq!(bench.job(JobKind::Resync).await.as_deref(), Some("g399"));
        let begun = bench.begin().await;
        assert!(bench.end(sync("g399", 7), begun).await);
        assert_eq!(bench.state().await, ("g399".into(), RepoStatus::Synced));
    }

    #[tokio::test]
    async fn a_reading_that_failed_leaves_a_followed_repo_followed() {
        let bench = Bench::followed().await;
        let begun = bench.begin().await;
        assert_eq!(bench.state().await, ("c".into(), RepoStatus::Resyncing));
        bench.event(next("d", "c", 3, 4)).await;
        bench.abandon(begun, true).await;
        assert_eq!(bench.state().await, ("d".into(), RepoStatus::Synced));
        assert_eq!(bench.job(JobKind::Resync).await, None);
        // One that was not followed stays so, and the next event makes it try again.
        bench.event(next("f", "e", 5, 6)).await;
        let begun = bench.begin().await;
        bench.abandon(begun, true).await;
        assert_eq!(bench.state().await, ("d".into(), RepoStatus::Desynced));
        assert_eq!(bench.job(JobKind::Resync).await, None);
        assert_eq!(bench.event(next("g", "f", 6, 7)).await.resync, Some(Urge::Again));
        assert_eq!(bench.job(JobKind::Resync).await.as_deref(), Some("g"));
        // A process that died while reading does not know how things stood before.
        bench.begin().await;
        let begun = bench.begin().await;
        assert_eq!(begun.before, RepoStatus::Resyncing);
        bench.abandon(begun, false).await;
        assert_eq!(bench.state().await.1, RepoStatus::Desynced);
    }

    #[tokio::test]
    async fn a_repo_first_seen_in_mid_life_is_followed_while_it_waits_to_be_read() {
        let bench = Bench::new();
        assert_eq!(bench.event(next("d", "c", 3, 4)).await, After { refresh: true, resync: Some(Urge::Again) });
        assert_eq!(bench.state().await, ("d".into(), RepoStatus::New));
        assert_eq!(bench.event(next("e", "d", 4, 5)).await, After::default());
        assert_eq!(bench.state().await, ("e".into(), RepoStatus::New));
        assert_eq!(bench.job(JobKind::Resync).await.as_deref(), Some(""));
    }

    #[tokio::test]
    async fn a_deleted_account_comes_back_only_with_something_new() {
        let bench = Bench::followed().await;
        let after = bench.run(|applier, view, did| applier.account(view, did, false, Some("deleted"), 1)).await;
        assert_eq!(after, AfterAccount { delete: true, ..AfterAccount::default() });
        assert!(bench.run(|_, view, did| actors::delete_page(view, did, 1, 100)).await);
        assert!(!bench.has_actor().await);
        bench.event(next("b", "a", 1, 2)).await;
        bench.event(Facts::Nothing).await;
        assert!(!bench.run(|applier, view, did| applier.identity(view, did, 1)).await);
        let after = bench.run(|applier, view, did| applier.account(view, did, false, Some("deleted"), 1)).await;
        assert_eq!(after, AfterAccount::default());
        assert!(!bench.has_actor().await);
        assert_eq!(bench.state().await, ("c".into(), RepoStatus::Deleted));
        let after = bench.event(Facts::Commit(commit("d", None, Some(empty_root()), 4))).await;
        assert_eq!(after, After { refresh: true, resync: None });
        assert!(bench.has_actor().await);
    }

    #[tokio::test]
    async fn what_cannot_be_verified_in_time_leaves_the_repo_to_a_reading() {
        let bench = Bench::followed().await;
        assert_eq!(bench.event(Facts::Unverified { rev: "b".into() }).await, After::default());
        assert_eq!(bench.event(Facts::Unverified { rev: "d".into() }).await.resync, Some(Urge::Now));
        assert_eq!(bench.state().await, ("c".into(), RepoStatus::Desynced));
        assert_eq!(bench.job(JobKind::Resync).await.as_deref(), Some("d"));
        let after = bench.run(|applier, view, did| applier.account(view, did, false, Some("desynchronized"), 1)).await;
        assert!(after.resync);
    }
}
