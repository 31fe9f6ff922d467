//! Seeded randomness, the only source of chance in this crate.
//!
//! One seed gives independent streams, one for each purpose, so that drawing more in one place does not change what
//! another place draws. Only additions, multiplications and square roots are used on floats, which every platform
//! rounds alike: the same seed gives the same bytes everywhere.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// What a stream of randomness is for. Accounts have a stream each, from [`Purpose::Account`] upwards.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// What happens in the network, in which order.
    Script,
    /// Faults that are asked for.
    Fault,
    /// Moments at which connections drop.
    Drops,
    /// Labels that the labeler gives.
    Labels,
    /// The person behind an account: names, keys.
    Account(u32),
}

/// One stream.
#[derive(Clone, Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Dice {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match purpose {
            Purpose::Script => 1,
            Purpose::Fault => 2,
            Purpose::Drops => 3,
            Purpose::Labels => 4,
            Purpose::Account(index) => 1_000 + u64::from(index),
        });
        Dice(rng)
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Any bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `n`, all equally likely; zero for `n` = 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.number()) * n as u128) >> 64) as usize
    }

    /// A number from `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    /// A number from 0 up to, and without, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of several things. `items` must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// A number below `n` that is small more often than large: the first of 1,000 comes up about every 30th time, and
    /// one of the first quarter every second time.
    pub(crate) fn towards_front(&mut self, n: usize) -> usize {
        let unit = self.unit();
        ((unit * unit * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// As [`Dice::towards_front`], and steeper: the first of 1,000 comes up every tenth time.
    pub(crate) fn steeply_towards_front(&mut self, n: usize) -> usize {
        let unit = self.unit();
        ((unit * unit * unit * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// A number with a long tail: mostly near `least`, on average about twice that, now and then a hundred times it,
    /// never above `most`.
    pub(crate) fn long_tail(&mut self, least: f64, most: usize) -> usize {
        let unit = self.unit().max(1e-6);
        ((least / unit.sqrt()) as usize).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_and_repeatable() {
        let draw = |seed, purpose| {
            let mut dice = Dice::new(seed, purpose);
            [dice.number(), dice.number()]
        };
        assert_eq!(draw(1, Purpose::Script), draw(1, Purpose::Script));
        assert_ne!(draw(1, Purpose::Script), draw(2, Purpose::Script));
        assert_ne!(draw(1, Purpose::Script), draw(1, Purpose::Fault));
        assert_ne!(draw(1, Purpose::Account(0)), draw(1, Purpose::Account(1)));
    }

    #[test]
    fn numbers_stay_in_range() {
        let mut dice = Dice::new(7, Purpose::Script);
        let mut tail = 0;
        for _ in 0..10_000 {
            assert!(dice.below(3) < 3);
            assert!((2..=4).contains(&dice.between(2, 4)));
            assert!(dice.towards_front(10) < 10);
            assert!(dice.steeply_towards_front(10) < 10);
            let long = dice.long_tail(10.0, 500);
            assert!((10..=500).contains(&long));
            tail += usize::from(long > 100);
        }
        assert_eq!(dice.below(0), 0);
        assert!((50..200).contains(&tail), "about one in a hundred is above ten times the least: {tail}");
    }
}
