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
                    store.silent(false);
                }
            }
            Err(Error::Closed) => return,
            Err(e) => {
                if !deaf && heard.is_none_or(|at| at.elapsed() >= SILENCE_MAX) {
                    deaf = true;
                    store.silent(true);
                    tracing::warn!(error = %e, "changes cannot be followed; nothing is answered from memory for now");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::{Batch, Observed, Result};

    /// What is told, one after the other; then the store closes.
    struct Script(std::vec::IntoIter<Result<Told>>);

    impl Follow for Script {
        fn next(&mut self) -> Result<Told> {
            let next = self.0.next().unwrap_or(Err(Error::Closed));
            if matches!(&next, Err(Error::Engine(_))) {
                std::thread::sleep(SILENCE_MAX);
            }
            next
        }
    }

    #[test]
    fn a_silence_is_told_and_only_missed_batches_are_lost() {
        let store = Store::mem(&[]);
        store.silent(true);
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        store.observe(move |what| {
            hears.lock().push(match what {
                Observed::Applied(_) => "applied",
                Observed::Lost => "lost",
                Observed::Silent(true) => "silent",
                Observed::Silent(false) => "heard",
            });
        });
        let batch = || Ok(Told::Batches(vec![Batch::new()], 0));
        let script = vec![Ok(Told::Gap), batch(), Err(Error::Engine("away".into())), batch(), Ok(Told::Gap)];
        run(Box::new(Script(script.into_iter())), &|| Some(store.clone()));
        let expected = ["silent", "lost", "heard", "applied", "silent", "applied", "heard", "lost"];
        assert_eq!(*told.lock(), expected);
    }
}
