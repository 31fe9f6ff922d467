//! One load of some keys, shared by all who want one of them.
//!
//! A load belongs to no reader: it runs as a task of the store's own and ends also when all readers have gone, so a
//! leader that goes away fails nobody. Readers take their answers one by one, as they come.

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Error, Result};

/// Answers of a load, each when it is there.
pub(crate) struct Load {
    state: Mutex<State>,
    told: Notify,
}

struct State {
    answers: Vec<Option<Option<Bytes>>>,
    /// Why the answers that are missing will not come.
    failed: Option<Error>,
}

impl Load {
    /// A load of so many keys.
    pub(crate) fn new(keys: usize) -> Self {
        Self { state: Mutex::new(State { answers: vec![None; keys], failed: None }), told: Notify::new() }
    }

    /// Some answers are there.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = (usize, Option<Bytes>)>) {
        let mut state = self.state.lock();
        for (place, value) in answers {
            state.answers[place] = Some(value);
        }
        drop(state);
        self.told.notify_waiters();
    }

    /// No more answers will come.
    pub(crate) fn fail(&self, error: Error) {
        self.state.lock().failed.get_or_insert(error);
        self.told.notify_waiters();
    }

    /// The answer at a place, once it is there.
    pub(crate) async fn wait(&self, place: usize) -> Result<Option<Bytes>> {
        loop {
            let mut told = std::pin::pin!(self.told.notified());
            told.as_mut().enable();
            {
                let state = self.state.lock();
                if let Some(answer) = &state.answers[place] {
                    return Ok(answer.clone());
                }
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn answers_come_one_by_one_and_a_failure_takes_only_those_that_are_missing() {
        let load = Arc::new(Load::new(3));
        let wait = |place: usize| {
            let load = Arc::clone(&load);
            tokio::spawn(async move { load.wait(place).await })
        };
        let (first, gone, last) = (wait(0), wait(1), wait(2));
        tokio::task::yield_now().await;
        gone.abort();
        let value = Bytes::from_static(b"v");
        load.answer([(0, Some(value.clone()))]);
        assert_eq!(first.await.unwrap().unwrap(), Some(value.clone()));
        load.answer([(1, None)]);
        load.fail(Error::Closed);
        assert!(matches!(last.await.unwrap(), Err(Error::Closed)));
        assert_eq!(load.wait(0).await.unwrap(), Some(value));
        assert_eq!(load.wait(1).await.unwrap(), None);
    }
}
