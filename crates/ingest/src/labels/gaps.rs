//! What is done about positions that a stream leaves out: nothing may have been there, or a label may have been missed.
//!
//! Labelers number labels before they can be read, and some lose one between what they send of old and what they send
//! as it comes. A consumer that keeps only the last position never learns of such a label. Since honest streams leave
//! positions out as well (a label that was replaced takes its number with it), the part is read again once, a moment
//! later, from the labeler's own records. What is missing then is not there.

use std::time::Duration;

use tokio::time::Instant;

/// How long after a position was left out it is looked for. A label that is being written has arrived by then.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// Two looks are at least this far apart if those before brought nothing new; the distance grows up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Most positions that one look goes back: the beginning of a long stream is not read twice.
const POSITIONS_BACK_MAX: i64 = 10_000;

/// Positions of a stream that were left out and are not looked for yet.
#[derive(Default)]
pub(super) struct Gaps {
    /// The position before the first of them, and when it was noticed.
    first: Option<(i64, Instant)>,
    looked_at: Option<Instant>,
    /// Looks in a row that brought nothing.
    fruitless: u32,
}

impl Gaps {
    /// The stream has gone on from one position to another.
    pub(super) fn moved(&mut self, from: i64, to: i64) {
        if self.first.is_none() && to.saturating_sub(from) > 1 {
            self.first = Some((from, Instant::now()));
        }
    }

    /// A look has brought a label that was missed.
    pub(super) fn found(&mut self) {
        self.fruitless = 0;
    }

    /// When to look next; nothing if nothing was left out.
    pub(super) fn due(&self) -> Option<Instant> {
        let (_, noticed_at) = self.first?;
        let pause = LOOK_AFTER.saturating_mul(1 << self.fruitless.min(8)).min(PAUSE_MAX);
        let next = self.looked_at.map_or(noticed_at, |at| at + pause);
        Some(next.max(noticed_at + LOOK_AFTER))
    }

    /// Begins a look: returns the position after which to read again. `read_to` is the last one read.
    pub(super) fn look(&mut self, read_to: i64) -> Option<i64> {
        let (after, _) = self.first.take()?;
        self.looked_at = Some(Instant::now());
        self.fruitless = self.fruitless.saturating_add(1);
        Some(after.max(read_to.saturating_sub(POSITIONS_BACK_MAX)))
    }

    /// The position before the first that was left out.
    pub(super) fn first(&self) -> Option<i64> {
        self.first.map(|(after, _)| after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_looked_for_once() {
        let mut gaps = Gaps::default();
        gaps.moved(4, 5);
        assert!(gaps.due().is_none());
        gaps.moved(5, 7);
        gaps.moved(7, 20);
        assert_eq!(gaps.due(), Some(Instant::now() + LOOK_AFTER));
        assert_eq!((gaps.first(), gaps.look(20), gaps.look(20)), (Some(5), Some(5), None));
        assert!(gaps.due().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_bring_nothing_are_rare_and_no_look_goes_far_back() {
        let mut gaps = Gaps::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            gaps.moved(1, 1_000_000);
            let (begun, due) = (Instant::now(), gaps.due().unwrap());
            tokio::time::sleep_until(due).await;
            pauses.push(begun.elapsed());
            assert_eq!(gaps.look(1_000_000), Some(1_000_000 - POSITIONS_BACK_MAX));
        }
        assert_eq!((pauses[0], pauses[9]), (LOOK_AFTER, PAUSE_MAX));
        gaps.found();
        gaps.moved(1, 3);
        assert_eq!(gaps.due(), Some(Instant::now() + LOOK_AFTER));
    }
}
