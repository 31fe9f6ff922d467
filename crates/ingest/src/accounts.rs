//! Deletion of accounts: believed only when nobody hosts them any more, and then carried out in pages.

use std::{sync::Arc, time::Duration};

use gp_atproto::Tid;
use gp_index::actors;
use tokio::time::Instant;

use crate::{
    Error,
    http::Trust,
    identity::{Want, escape},
    jobs::{self, JobKind, Outcome, Taken},
    shared::Shared,
};

/// Rows removed in one job, so that the writer has time for others in between.
const ROWS_PER_PAGE: usize = 500;

/// Longest wait for an account's host.
const HOST_ANSWER_MAX: Duration = Duration::from_secs(10);

/// Largest answer about a repo's standing.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What an account's directory and host say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hosting {
    /// Nobody has it.
    Gone,
    /// Its host has it, or had it and keeps it back.
    Hosted(String),
}

/// One attempt at a deletion.
pub(crate) async fn attempt(shared: Arc<Shared>, taken: Taken) -> Outcome {
    let did = &taken.did;
    let outcome = match hosting(&shared, did).await {
        Ok(Hosting::Gone) => match delete(&shared, did).await {
            Ok(()) => return Outcome::Done,
            Err(error) => Err(error),
        },
        Ok(Hosting::Hosted(word)) => {
            Err(Error::Refused(format!("{did} is still hosted ({word}): nothing was deleted")))
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => Outcome::Done,
        Err(error) if taken.last || matches!(error, Error::Refused(_) | Error::Invalid(_)) => {
            match clear(&shared, did).await {
                Ok(()) => Outcome::GiveUp(error),
                Err(error) => Outcome::Retry(error),
            }
        }
        Err(error) => Outcome::Retry(error),
    }
}

/// Asks whether anybody hosts an account. A failure is no proof of anything.
pub(crate) async fn hosting(shared: &Shared, did: &str) -> Result<Hosting, Error> {
    let document = match shared.identity.document(did, Want::Since(Instant::now())).await {
        Ok(document) => document,
        Err(Error::Absent(_)) => return Ok(Hosting::Gone),
        Err(error) => return Err(error),
    };
    let Some(pds) = &document.pds else { return Ok(Hosting::Gone) };
    let url = format!("{pds}/xrpc/com.atproto.sync.getLatestCommit?did={}", escape(did));
    let answer = shared.identity.http().query(Trust::Network, &url, HOST_ANSWER_MAX, ANSWER_BYTES_MAX).await;
    let answer = match answer {
        Ok(answer) => answer,
        // A host that may not be asked proves nothing; it is not asked again either.
        Err(Error::Refused(why)) => return Ok(Hosting::Hosted(why)),
        Err(error) => return Err(error),
    };
    if answer.ok() {
        return Ok(Hosting::Hosted("active".into()));
    }
    match answer.error_name().as_deref() {
        Some("RepoNotFound") => Ok(Hosting::Gone),
        Some(word @ ("RepoTakendown" | "RepoSuspended" | "RepoDeactivated")) => Ok(Hosting::Hosted(word.into())),
        other => Err(Error::Failed(format!("{pds} answered {} {}", answer.status, other.unwrap_or_default()))),
    }
}

/// Removes what is kept of an account, page by page.
async fn delete(shared: &Shared, did: &Arc<str>) -> Result<(), Error> {
    loop {
        let page = Arc::clone(did);
        let row = jobs::row_of(&shared.cx.store, JobKind::Delete, did).await?;
        // When its host called it deleted; asked for without an event, now.
        let told = row.as_ref().and_then(|row| Tid::parse(&row.min_rev).ok());
        let at_us = told.map_or_else(shared.cx.now_us, |tid| tid.micros() as i64);
        let done = shared
            .run(move |view| {
                let done = actors::delete_page(view, &page, at_us, ROWS_PER_PAGE)?;
                if done {
                    // What else was to be done for the account is done with it.
                    for kind in [JobKind::Delete, JobKind::Refresh, JobKind::Resync] {
                        let row = if kind == JobKind::Delete { row.clone() } else { jobs::row(view, kind, &page)? };
                        jobs::remove(view, kind, &page, row.as_ref())?;
                    }
                }
                Ok(done)
            })
            .await?;
        if done {
            tracing::info!(did = &**did, "account deleted");
            return Ok(());
        }
    }
}

async fn clear(shared: &Shared, did: &Arc<str>) -> Result<(), Error> {
    let row = jobs::row_of(&shared.cx.store, JobKind::Delete, did).await?;
    let did = Arc::clone(did);
    shared.run(move |view| jobs::remove(view, JobKind::Delete, &did, row.as_ref())).await?;
    Ok(())
}
