//! How fast turns come to a queue, so that who would wait in vain can be told when it comes.

use std::time::Duration;

use tokio::time::Instant;

/// Over so much time and so many turns at least a pace is measured: a pause of the whole process is one long turn, and
/// says nothing about the next.
const WINDOW: Duration = Duration::from_millis(100);
const TURNS_MIN: u32 = 16;
/// A turn that is expected after this part of the time that somebody may wait is not waited for.
const PATIENCE: f64 = 0.8;
/// So many may wait whatever the pace: a few turns say little about it.
const WAITING_ANYWAY: usize = 4;

/// How fast turns come to a queue while somebody waits in it.
///
/// It may be wrong for a while, as after a pause of whatever is waited for. That costs little: a queue that has run empty
/// takes whoever comes, and the next turns say how fast they are.
#[derive(Debug, Default)]
pub struct Pace {
    since: Option<Instant>,
    turns: u32,
    /// Time from turn to turn, once it is known.
    interval: Option<Duration>,
}

impl Pace {
    /// Somebody waits in the queue again.
    pub fn begin(&mut self, now: Instant) {
        (self.since, self.turns) = (Some(now), 0);
    }

    /// The first of the queue has its turn.
    pub fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        self.turns += 1;
        let passed = now - since;
        if passed >= WINDOW && self.turns >= TURNS_MIN {
            let fresh = passed / self.turns;
            // Slower is believed little by little, faster at once: to refuse without need is worse than to let wait.
            self.interval = Some(self.interval.map_or(fresh, |before| fresh.min((before * 3 + fresh) / 4)));
            self.begin(now);
        }
    }

    /// Whether one who comes behind so many others and may wait so long would wait in vain, by all that is known.
    pub fn is_too_late(&self, others: usize, may_wait: Duration) -> bool {
        let turns = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        let expected = self.interval.unwrap_or_default().saturating_mul(turns);
        others >= WAITING_ANYWAY && expected > may_wait.mul_f64(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_known_after_a_while_and_follows() {
        const MS: Duration = Duration::from_millis(1);
        let mut pace = Pace::default();
        let begun = Instant::now();
        assert!(!pace.is_too_late(1_000_000, MS), "nothing is known");
        pace.begin(begun);
        (1..=100).for_each(|n| pace.turn(begun + n * MS));
        assert!(!pace.is_too_late(700, 1_000 * MS));
        assert!(pace.is_too_late(900, 1_000 * MS));
        assert!(!pace.is_too_late(3, MS), "a few may always wait");
        // One pause of a second changes little, and is forgotten with the next turns.
        (1..=200).for_each(|n| pace.turn(begun + (1_100 + n) * MS));
        assert!(!pace.is_too_late(700, 1_000 * MS));
        // Ten times slower for a few seconds.
        (1..=500).for_each(|n| pace.turn(begun + (1_300 + n * 10) * MS));
        assert!(pace.is_too_late(100, 1_000 * MS));
        assert!(!pace.is_too_late(70, 1_000 * MS));
        // And as fast as before.
        (1..=200).for_each(|n| pace.turn(begun + (6_300 + n) * MS));
        assert!(!pace.is_too_late(700, 1_000 * MS));
    }
}
