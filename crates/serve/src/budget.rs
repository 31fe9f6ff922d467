//! The bound on requests and answers held in memory, all calls together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{Shed, Status};

/// The part of the budget that one call may hold.
const PART_OF_ONE: u64 = 10;

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

    /// Bytes that one request may have, and one answer.
    pub(crate) fn max_of_one(&self) -> u64 {
        self.max / PART_OF_ONE
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
        if self.bytes + more > self.budget.max_of_one() {
            let max = self.budget.max_of_one();
            return Err(Status::shed(
                Shed::Oversize,
                format!("more than {max} bytes in one call: ask for less at a time"),
            ));
        }
        let before = self.budget.held.fetch_add(more, Relaxed);
        if before.saturating_add(more) > self.budget.max {
            self.budget.held.fetch_sub(more, Relaxed);
            return Err(Status::shed(
                Shed::Bytes,
                "too many bytes of requests and answers are in memory: try again in a while",
            ));
        }
        self.bytes += more;
        Ok(())
    }

    /// Holds as many bytes as said from now on. Refused, what was taken before is kept.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Status> {
        match (bytes as u64).checked_sub(self.bytes) {
            Some(more) => self.grow(more as usize),
            None => {
                self.budget.held.fetch_sub(self.bytes - bytes as u64, Relaxed);
                self.bytes = bytes as u64;
                Ok(())
            }
        }
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
        let budget = Budget::new(1_000);
        let mut nine: Vec<_> = (0..9).map(|_| budget.hold(100).unwrap()).collect();
        let mut last = budget.hold(60).unwrap();
        assert_eq!(budget.hold(41).unwrap_err().shed, Some(Shed::Bytes));
        last.grow(40).unwrap();
        assert_eq!(budget.held(), 1_000);
        assert_eq!(budget.hold(1).unwrap_err().shed, Some(Shed::Bytes));
        drop(last);
        nine.truncate(2);
        assert_eq!(budget.held(), 200);
        drop(nine);
        assert_eq!(budget.held(), 0);
        let mut one = budget.hold(40).unwrap();
        for bytes in [70, 0, 100] {
            one.resize(bytes).unwrap();
            assert_eq!(budget.held(), bytes as u64);
        }
        assert_eq!(one.resize(101).unwrap_err().shed, Some(Shed::Oversize));
        assert_eq!(budget.held(), 100, "a refusal takes nothing");
        drop(one);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn one_call_holds_a_tenth_at_most() {
        let budget = Budget::new(1_000);
        assert_eq!(budget.hold(101).unwrap_err().shed, Some(Shed::Oversize));
        let mut one = budget.hold(100).unwrap();
        assert_eq!(one.grow(1).unwrap_err().shed, Some(Shed::Oversize));
        assert_eq!(budget.held(), 100, "a refusal takes nothing");
    }
}
