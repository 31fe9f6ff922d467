//! Keeps what this process has in memory true to what another process changes.
//!
//! A process that only reads is told of changes a moment after they stand: within that moment it may answer from memory
//! what was true before. While it cannot be told it keeps nothing.

use std::time::{Duration, Instant};

use crate::{
    Error, Store,
    engine::{Follow, Told},
};

/// Without news for so long nothing is answered from memory.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Follows until the store closes or goes.
pub(crate) fn run(mut news: Box<dyn Follow>, store: &dyn Fn() -> Option<Store>) {
    let mut heard: Option<Instant> = None;
    let mut deaf = true;
    loop {
        let told = news.next();
        let Some(store) = store() else { return };
        match told {
            Ok(told) => {
                match told {
                    Told::Nothing => store.behind(0),
                    Told::Batches(batches, behind) => {
                        batches.iter().for_each(|batch| store.applied_elsewhere(batch));
                        store.behind(behind);
                    }
                    Told::Gap => {
                        store.lost();
                        if heard.is_some() {
                            tracing::warn!(
                                "more has changed than could be followed; answers kept in memory are dropped"
                            );
                        }
                    }
                }
                let now = Instant::now();
                heard = Some(now);
                store.heard();
                if std::mem::take(&mut deaf) {
                    store.keep_answers(true);
                }
            }
            Err(Error::Closed) => return,
            Err(e) => {
                if !deaf && heard.is_none_or(|at| at.elapsed() >= SILENCE_MAX) {
                    deaf = true;
                    store.keep_answers(false);
                    store.lost();
                    tracing::warn!(error = %e, "changes cannot be followed; nothing is answered from memory for now");
                }
            }
        }
    }
}
