//! The bound on requests and answers held in memory, all calls together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{Shed, Status};

/// Bytes of requests and answers held, and how many may be.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicU64,
    max: u64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { held: AtomicU64::new(0), max })
    }

    /// Takes a part of the budget, given back when the answer is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, Status> {
        let mut held = Held { budget: Arc::clone(self), bytes: 0 };
        held.grow(bytes)?;
        Ok(held)
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }
}

/// A part of the budget.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Held {
    /// Takes more. Refused, what was taken before is kept.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        let more = bytes as u64;
        let before = self.budget.held.fetch_add(more, Relaxed);
        if before.saturating_add(more) > self.budget.max {
            self.budget.held.fetch_sub(more, Relaxed);
            return Err(Status::shed(Shed::Bytes, "too many bytes of requests and answers are in memory: try again in a while"));
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_never_exceeds_the_bound_and_is_given_back() {
        let budget = Budget::new(100);
        let mut one = budget.hold(60).unwrap();
        let two = budget.hold(30).unwrap();
        assert_eq!(budget.hold(11).unwrap_err().shed, Some(Shed::Bytes));
        assert!(one.grow(11).is_err());
        one.grow(10).unwrap();
        assert_eq!(budget.held(), 100);
        drop(one);
        assert_eq!(budget.held(), 30);
        drop(two);
        assert_eq!(budget.held(), 0);
    }
}
