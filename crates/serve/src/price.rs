//! What a call costs, as far as its request tells before anything is read.

use gp_proto::{RecordRef, RelationshipPair};

use crate::Class;

/// Rows that a page holds at most, whatever a request asks for; the same bound as in the contract.
const PAGE_ROWS_MAX: u32 = 100;
/// Rows that a page holds if the request does not say.
const PAGE_ROWS_DEFAULT: u32 = 50;
/// Rows of a page that cost as much as one key.
const ROWS_PER_UNIT: u32 = 8;
/// How much more a key costs when it has to bypass the caches.
const SKIP_CACHE_UNITS: u32 = 4;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Keys to look up, duplicates included. A page of one partition is one key.
    pub keys: u32,
    /// Distinct keys.
    pub unique: u32,
    /// Keys that the caller wants read past the caches.
    pub skip_cache: u32,
    /// Rows that the answer may hold beside its keys.
    pub rows: u32,
    /// How much more each key costs than a record does, in records.
    pub more: u32,
}

impl Price {
    /// Adds the rows of a page. Zero and less mean the default, too many mean the most a page holds.
    #[must_use]
    pub fn and_rows(mut self, limit: i32) -> Self {
        self.rows = match u32::try_from(limit) {
            Ok(0) | Err(_) => PAGE_ROWS_DEFAULT,
            Ok(limit) => limit.min(PAGE_ROWS_MAX),
        };
        self
    }

    /// Says that as many keys are to be read past the caches.
    #[must_use]
    pub fn skipping(mut self, keys: usize) -> Self {
        self.skip_cache = u32::try_from(keys).unwrap_or(u32::MAX);
        self
    }

    /// Says how much more each key costs than a record does, in records.
    #[must_use]
    pub fn and_more(mut self, more: u32) -> Self {
        self.more = more;
        self
    }

    /// What one of its keys costs.
    fn units_per_key(&self, class: Class) -> u32 {
        let of_one = match class {
            Class::Control => 0,
            Class::Point | Class::Count => 1,
            Class::Pairs => 2,
            Class::Scan | Class::Write => 4,
            Class::Compose | Class::Search => 16,
        };
        of_one * (1 + self.more)
    }

    /// Of so many keys that cost one unit each, as many as cost the same here: one at least.
    pub fn keys_worth(&self, keys: u32, class: Class) -> u32 {
        (keys / self.units_per_key(class).max(1)).max(1)
    }

    /// The cost that admission weighs: one unit is one key that the memory answers.
    pub fn units(&self, class: Class) -> u32 {
        self.keys
            .saturating_mul(self.units_per_key(class))
            .saturating_add(self.rows / ROWS_PER_UNIT)
            .saturating_add(self.skip_cache.saturating_mul(SKIP_CACHE_UNITS))
    }
}

/// One key: a call about one thing.
pub fn one() -> Price {
    Price { keys: 1, unique: 1, ..Price::default() }
}

/// One page of at most `limit` rows.
pub fn page(limit: i32) -> Price {
    one().and_rows(limit)
}

/// One answer that holds so many rows, whatever is asked.
pub(crate) fn rows(rows: u32) -> Price {
    Price { rows, ..one() }
}

/// One key for each element of a list.
pub fn each<K: Keyed>(list: &[K]) -> Price {
    Price { keys: u32::try_from(list.len()).unwrap_or(u32::MAX), unique: count_unique(list), ..Price::default() }
}

/// Something that a call looks up by.
pub trait Keyed {
    /// A number that differs between different keys, as good as always. It decides nothing but a figure.
    fn fingerprint(&self) -> u64;
}

impl Keyed for String {
    fn fingerprint(&self) -> u64 {
        fold(0, self.as_bytes())
    }
}

impl Keyed for RecordRef {
    fn fingerprint(&self) -> u64 {
        fold(0, self.uri.as_bytes())
    }
}

impl Keyed for RelationshipPair {
    fn fingerprint(&self) -> u64 {
        fold(fold(0, self.a.as_bytes()), self.b.as_bytes())
    }
}

/// Folds bytes into a number, sixteen at a time: the two halves of a product of them, put together.
fn fold(seed: u64, bytes: &[u8]) -> u64 {
    const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
    let mix = |state: u64, [low, high]: [u64; 2]| {
        let product = u128::from(low ^ state ^ FACTORS[0]) * u128::from(high ^ FACTORS[1]);
        (product as u64) ^ ((product >> 64) as u64) ^ state.rotate_left(29)
    };
    let words = |part: &[u8; 16]| {
        let whole = u128::from_le_bytes(*part);
        [whole as u64, (whole >> 64) as u64]
    };
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(FACTORS[0]);
    let (parts, rest) = bytes.as_chunks::<16>();
    for part in parts {
        state = mix(state, words(part));
    }
    // What is left is read together with the bytes before it: longer than copying, no bytes but these.
    if !rest.is_empty() {
        let last = bytes.last_chunk::<16>().copied().unwrap_or_else(|| {
            let mut short = [0; 16];
            short[..rest.len()].copy_from_slice(rest);
            short
        });
        state = mix(state, words(&last));
    }
    state ^ (state >> 29)
}

/// Distinct elements of a list, without an allocation for the usual sizes.
fn count_unique<K: Keyed>(list: &[K]) -> u32 {
    const USUAL: usize = 64;
    match list.len() {
        0 => 0,
        1 => 1,
        len if len <= USUAL => count_in(&mut [0; 2 * USUAL], list),
        len => count_in(&mut vec![0; 2 * len.next_power_of_two()], list),
    }
}

/// `slots` is a power of two, all zero, and at least twice as long as the list.
fn count_in<K: Keyed>(slots: &mut [u64], list: &[K]) -> u32 {
    let mask = slots.len() - 1;
    let mut unique = 0;
    for key in list {
        // Zero marks a free slot.
        let print = key.fingerprint() | 1;
        let mut at = (print >> 7) as usize & mask;
        while slots[at] != 0 && slots[at] != print {
            at = (at + 1) & mask;
        }
        if slots[at] == 0 {
            slots[at] = print;
            unique += 1;
        }
    }
    unique
}

/// Names of [`size_class`].
pub(crate) const SIZE_CLASSES: [&str; 7] = ["1", "2_10", "11_50", "51_250", "251_1k", "1k_5k", "5k_plus"];

/// The position in [`SIZE_CLASSES`] of a number of keys.
pub(crate) fn size_class(keys: u32) -> usize {
    match keys {
        0..=1 => 0,
        2..=10 => 1,
        11..=50 => 2,
        51..=250 => 3,
        251..=1_000 => 4,
        1_001..=5_000 => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_keys_are_counted_at_every_size() {
        for (len, distinct) in [(0, 0), (1, 1), (2, 1), (50, 17), (64, 64), (65, 65), (20_000, 1), (20_000, 20_000)] {
            let list: Vec<String> = (0..len)
                .map(|n| format!("at://did:plc:abcdefgh/app.bsky.feed.post/{:013}", n % distinct.max(1)))
                .collect();
            let price = each(&list);
            assert_eq!((price.keys, price.unique), (len, distinct), "{len} {distinct}");
        }
    }

    #[test]
    fn pairs_differ_by_both_sides() {
        let pair = |a: &str, b: &str| RelationshipPair { a: a.into(), b: b.into() };
        assert_eq!(each(&[pair("a", "b"), pair("b", "a"), pair("ab", ""), pair("", "ab"), pair("a", "b")]).unique, 4);
    }

    #[test]
    fn a_page_is_one_key_and_its_rows() {
        assert_eq!(page(0).rows, 50);
        assert_eq!(page(-3).rows, 50);
        assert_eq!(page(1_000_000).rows, 100);
        assert_eq!(page(50).units(Class::Scan), 4 + 6);
        assert_eq!(each(&vec![String::new(); 20_000]).skipping(1).units(Class::Point), 20_004);
        assert_eq!(each(&vec![String::new(); 5]).units(Class::Control), 0);
    }

    #[test]
    fn a_slice_of_keys_that_cost_more_has_fewer_of_them() {
        let list = vec![String::new(); 1_000];
        assert_eq!(each(&list).keys_worth(256, Class::Point), 256);
        assert_eq!(each(&list).keys_worth(256, Class::Pairs), 128);
        let actors = each(&list).and_more(3);
        assert_eq!((actors.units(Class::Point), actors.keys_worth(256, Class::Point)), (4_000, 64));
        assert_eq!(actors.keys_worth(2, Class::Pairs), 1);
    }

    #[test]
    fn size_classes_meet_without_a_gap() {
        let at = |keys| SIZE_CLASSES[size_class(keys)];
        assert_eq!(
            [0, 1, 2, 10, 11, 50, 51, 250, 251, 1000, 1001, 5000, 5001].map(at),
            [
                "1", "1", "2_10", "2_10", "11_50", "11_50", "51_250", "51_250", "251_1k", "251_1k", "1k_5k", "1k_5k",
                "5k_plus"
            ]
        );
    }
}
