//! Reads the lists of repos: `com.atproto.sync.listRepos` of a relay or a host, page by page, from where it was left.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use gp_index::{actors, repos, repos::RepoStatus};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Backfill,
    rows::{self, RepoRow, SourceRow},
};
use crate::{Error, http::Trust, identity::escape, jobs::Ask, shared::Shared, socket::jitter};

/// Repos asked for in one page: the most there can be.
const PAGE_REPOS: usize = 1000;

/// Longest wait for a page, and its largest size.
const PAGE_MAX: Duration = Duration::from_secs(30);
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Shortest time between two pages.
const PAGE_EVERY: Duration = Duration::from_millis(100);

/// First and last pause after a page that could not be had.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(300);

/// Pages without a repo that may follow each other before the list is taken to be broken.
const EMPTY_PAGES_MAX: u32 = 100;

/// How far one list was read, for the status.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListState {
    pub(crate) listed: u64,
    pub(crate) whole: bool,
    /// What went wrong with the last page.
    pub(crate) error: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    cursor: Option<String>,
    repos: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    did: String,
    #[serde(default)]
    rev: String,
    #[serde(default)]
    active: Option<bool>,
    #[serde(default)]
    status: Option<String>,
}

impl Listed {
    /// Whether its host gives it out, as far as the list knows. A host that is slow or behind still may.
    fn is_given(&self) -> bool {
        self.active != Some(false) || matches!(self.status.as_deref(), Some("desynchronized" | "throttled"))
    }
}

/// Reads one list until all of it was read, and again each time that somebody asks.
pub(super) async fn read(backfill: Arc<Backfill>, shared: Arc<Shared>, number: usize) {
    let url = backfill.config.urls[number].clone();
    let (mut pause, mut empty) = (PAUSE_FIRST, 0);
    loop {
        let asked = backfill.lists_from.subscribe();
        let mut row = match rows::source_of(&shared.cx.store, &url).await {
            Ok(row) => row,
            Err(error) => {
                backfill.note_list(number, |list| list.error = Some(error.to_string()));
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        let note = |row: &SourceRow, error| ListState { listed: row.listed, whole: row.whole, error };
        backfill.note_list(number, |list| *list = note(&row, None));
        while !row.whole && !asked.has_changed().unwrap_or(false) {
            if !shared.may_read().await {
                return;
            }
            let next = Instant::now() + PAGE_EVERY;
            match page(&shared, &url, &row.cursor).await {
                Ok(found) => {
                    empty = if found.repos.is_empty() { empty + 1 } else { 0 };
                    let after = found.cursor.clone().filter(|cursor| !cursor.is_empty());
                    let stuck = after.as_ref().is_some_and(|after| *after == row.cursor) || empty > EMPTY_PAGES_MAX;
                    let applied = match stuck {
                        true => Err(Error::Failed("the list goes on without getting anywhere".into())),
                        false => take(&backfill, &shared, &url, &mut row, found, after).await,
                    };
                    match applied {
                        Ok(()) => {
                            pause = PAUSE_FIRST;
                            backfill.note_list(number, |list| *list = note(&row, None));
                            backfill.wake.notify_one();
                            tokio::time::sleep_until(next).await;
                            continue;
                        }
                        Err(error) => backfill.note_list(number, |list| list.error = Some(error.to_string())),
                    }
                }
                Err(error) => backfill.note_list(number, |list| list.error = Some(error.to_string())),
            }
            tokio::time::sleep(pause.mul_f64(jitter())).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
        let mut asked = asked;
        if asked.changed().await.is_err() {
            return;
        }
    }
}

async fn page(shared: &Shared, url: &str, cursor: &str) -> Result<Page, Error> {
    let base = url.replacen("ws", "http", 1);
    let mut asked = format!("{base}/xrpc/com.atproto.sync.listRepos?limit={PAGE_REPOS}");
    if !cursor.is_empty() {
        asked.push_str("&cursor=");
        asked.push_str(&escape(cursor));
    }
    let answer = shared.identity.http().query(Trust::Operator, &asked, PAGE_MAX, PAGE_BYTES_MAX).await?;
    if !answer.ok() {
        let name = answer.error_name().unwrap_or_default();
        return Err(Error::Failed(format!("{base} answered {} {name}", answer.status)));
    }
    let page = serde_json::from_slice(&answer.body);
    page.map_err(|e| Error::Failed(format!("{base} answered something else than a list of repos: {e}")))
}

/// Writes the rows of a page and the place behind it.
async fn take(
    backfill: &Arc<Backfill>,
    shared: &Arc<Shared>,
    url: &str,
    row: &mut SourceRow,
    page: Page,
    after: Option<String>,
) -> Result<(), Error> {
    let mut listed: Vec<Listed> = page.repos.into_iter().filter(|it| gp_atproto::did::is_valid(&it.did)).collect();
    listed.truncate(PAGE_REPOS);
    let dids: Vec<&str> = listed.iter().map(|it| it.did.as_str()).collect();
    let states = repos::states_of(&shared.cx.store, &dids).await?;
    row.listed += listed.len() as u64;
    row.whole = after.is_none();
    row.cursor = after.unwrap_or_default();
    let (source, url, now_us) = (row.clone(), url.to_owned(), (shared.cx.now_us)());
    let job = Arc::clone(shared);
    let (seen, totals) = shared
        .run(move |view| {
            let (mut seen, mut count) =
                (Vec::new(), rows::Totals { listed: listed.len() as u64, ..Default::default() });
            let mut revived = 0;
            for (it, state) in listed.iter().zip(&states) {
                if !it.is_given() {
                    count.inactive += 1;
                    // Where anything is known of an account, events know better.
                    let is_gone = it.status.as_deref() == Some("deleted");
                    if !is_gone && actors::row(view, &it.did)?.is_none() {
                        let after = job.applier.account(view, &it.did, false, it.status.as_deref(), now_us)?;
                        if after.refresh {
                            seen.push(it.did.clone());
                        }
                    }
                    continue;
                }
                let is_there = |state: &&repos::RepoState| {
                    state.status == RepoStatus::Synced && !state.rev.is_empty() && *state.rev >= *it.rev
                };
                if state.as_ref().filter(is_there).is_some() {
                    count.present += 1;
                    continue;
                }
                match rows::repo(view, &it.did)? {
                    Some(before) if !before.given_up => {}
                    Some(_) => revived += 1,
                    None => count.queued += 1,
                }
                rows::put_repo(view, &it.did, &RepoRow::listed(&it.rev));
            }
            rows::put_source(view, &url, &source);
            rows::count(view, |totals| {
                totals.listed += count.listed;
                totals.inactive += count.inactive;
                totals.present += count.present;
                totals.queued += count.queued;
                totals.given_up = totals.given_up.saturating_sub(revived);
                totals.done_at_us = 0;
            })?;
            Ok((seen, rows::totals(view)?))
        })
        .await?;
    for did in seen {
        shared.refreshes.ask(&did.into(), Ask { stored: true, ..Ask::default() });
    }
    backfill.set_totals(totals);
    backfill.changes.fetch_add(1, SeqCst);
    Ok(())
}
