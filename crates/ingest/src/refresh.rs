//! Checks of identities: resolve the document, check the handle both ways, store the outcome. Off the path of records.

use std::{sync::Arc, time::Duration};

use gp_atproto::handle;
use gp_index::{
    actors,
    repos::{self, RepoStatus},
};
use gp_store::View;
use tokio::time::Instant;

use crate::{
    Error,
    identity::{Document, Want},
    jobs::{self, JobKind, JobRow, Outcome, Taken},
    shared::Shared,
};

/// A handle that agreed is checked again after this time (ingest 4.4) ...
const VALID_FOR_US: i64 = 24 * 3600 * 1_000_000;

/// ... and one that did not after this.
const INVALID_FOR_US: i64 = 3600 * 1_000_000;

/// Checks begun per second at most, so that a directory is not flooded when a whole network is seen for the first time.
pub(crate) const CHECKS_PER_SECOND_MAX: u32 = 500;

/// Spreads checks over time.
pub(crate) struct Pace {
    next: tokio::sync::Mutex<Instant>,
    every: Duration,
    burst: Duration,
}

impl Pace {
    pub(crate) fn new(per_second_max: u32) -> Self {
        let every = Duration::from_secs(1) / per_second_max.max(1);
        Self { next: tokio::sync::Mutex::new(Instant::now()), every, burst: Duration::from_secs(1) }
    }

    /// Waits for the next turn. Up to a second's worth of turns may be taken at once.
    pub(crate) async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().await;
            let now = Instant::now();
            let earliest = now.checked_sub(self.burst).unwrap_or(now);
            *next = (*next).max(earliest) + self.every;
            *next
        };
        tokio::time::sleep_until(turn).await;
    }
}

/// One attempt at a check.
pub(crate) async fn attempt(shared: Arc<Shared>, pace: Arc<Pace>, taken: Taken) -> Outcome {
    match check(&shared, &pace, &taken).await {
        Ok(()) => Outcome::Done,
        Err(error) => {
            let give_up = taken.last || matches!(error, Error::Absent(_) | Error::Invalid(_));
            if !give_up {
                return Outcome::Retry(error);
            }
            // The row goes, else every start would try again what cannot be had.
            match clear(&shared, &taken.did).await {
                Ok(()) => Outcome::GiveUp(error),
                Err(error) => Outcome::Retry(error),
            }
        }
    }
}

async fn check(shared: &Shared, pace: &Pace, taken: &Taken) -> Result<(), Error> {
    let did = &taken.did;
    let row = jobs::row_of(&shared.cx.store, JobKind::Refresh, did).await?;
    let known = actors::handle_state(&shared.cx.store, did).await?;
    let now_us = (shared.cx.now_us)();
    let due = known.as_ref().is_none_or(|(handle, checked_at_us)| {
        let valid_for = if handle.is_some() { VALID_FOR_US } else { INVALID_FOR_US };
        *checked_at_us == 0 || now_us.saturating_sub(*checked_at_us) >= valid_for
    });
    if !due && !taken.forced && row.is_none() {
        return Ok(());
    }
    pace.turn().await;
    let document = shared.identity.document(did, Want::Since(Instant::now())).await?;
    let before = known.and_then(|(handle, _)| handle);
    let handle = match agreed_handle(shared, &document).await {
        Ok(handle) => handle,
        // Somebody could not be asked: what agreed before stands for now, as long as the document still says it.
        Err(error) if !taken.last && before.is_some() && before == claim(&document) => return Err(error),
        Err(_) => None,
    };
    store(shared, did, handle, row).await
}

/// The handle that a document claims, as it is stored.
fn claim(document: &Document) -> Option<String> {
    document.handle.as_deref().filter(|h| handle::is_valid(h)).map(handle::normalize)
}

/// The handle of an account, if its document and the handle agree. An error if the handle could not be asked.
async fn agreed_handle(shared: &Shared, document: &Document) -> Result<Option<String>, Error> {
    let Some(handle) = claim(document) else { return Ok(None) };
    let did = shared.identity.did_of_handle_now(&handle).await?;
    Ok((did.as_deref() == Some(&*document.did)).then_some(handle))
}

async fn store(shared: &Shared, did: &Arc<str>, handle: Option<String>, row: Option<JobRow>) -> Result<(), Error> {
    let (did, now_us) = (Arc::clone(did), (shared.cx.now_us)());
    shared
        .run(move |view| {
            if !is_deleted(view, &did)? {
                actors::set_handle(view, &did, handle.as_deref(), now_us)?;
            }
            jobs::remove(view, JobKind::Refresh, &did, row.as_ref())
        })
        .await?;
    Ok(())
}

/// Whether the account was deleted. It may have been while its handle was asked for, and what was found then must not
/// bring it back: only an event or a whole reading of its repo does.
fn is_deleted(view: &View<'_>, did: &str) -> gp_index::Result<bool> {
    let gone = actors::row(view, did)?.is_none_or(|row| !row.exists);
    Ok(gone && repos::state(view, did)?.is_some_and(|state| state.status == RepoStatus::Deleted))
}

async fn clear(shared: &Shared, did: &Arc<str>) -> Result<(), Error> {
    let row = jobs::row_of(&shared.cx.store, JobKind::Refresh, did).await?;
    let did = Arc::clone(did);
    shared.run(move |view| jobs::remove(view, JobKind::Refresh, &did, row.as_ref())).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_s_worth_of_turns_is_taken_at_once_and_then_they_are_spread() {
        tokio::time::advance(Duration::from_secs(10)).await;
        let pace = Pace::new(100);
        tokio::time::advance(Duration::from_secs(10)).await;
        let begun = Instant::now();
        for _ in 0..100 {
            pace.turn().await;
        }
        assert!(begun.elapsed() < Duration::from_millis(20));
        for _ in 0..100 {
            pace.turn().await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(950));
    }
}
