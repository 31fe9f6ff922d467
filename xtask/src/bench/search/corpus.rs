//! Posts and accounts for the search bench: made up, the same for both planes, and spread as people's words are.
//!
//! Words follow Zipf's law over a vocabulary that means nothing, so that some are in every third post and most in a
//! handful. A seventh of the posts is written without spaces. Likes and followers fall off as steeply.

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Words of the vocabulary.
const WORDS: usize = 60_000;

/// One post in so many is written without spaces.
const UNSPACED_EVERY: usize = 7;

/// Characters of a post.
const TEXT_CHARS_MAX: usize = 290;

/// Moment of the newest post, in microseconds: 2025-06-01T12:00:00Z.
const NEWEST_US: i64 = 1_748_779_200_000_000;

const SYLLABLES: [&str; 40] = [
    "ba", "ko", "mi", "ren", "tal", "su", "vor", "ne", "li", "dra", "po", "que", "shi", "an", "er", "os", "um", "ith",
    "gra", "pel", "zo", "wen", "fa", "hu", "jo", "ky", "lor", "mun", "nis", "ot", "pra", "ri", "sel", "tur", "un",
    "ve", "wy", "xan", "yel", "cha",
];

/// An account.
pub(crate) struct Person {
    pub(crate) did: String,
    pub(crate) handle: String,
    pub(crate) name: String,
    pub(crate) bio: String,
    pub(crate) followers: u64,
}

/// A post.
pub(crate) struct Written {
    pub(crate) author: usize,
    pub(crate) rkey: String,
    pub(crate) text: String,
    pub(crate) at_us: i64,
    pub(crate) likes: u64,
}

/// Everything that is made up, by number: the same number gives the same thing.
pub(crate) struct Corpus {
    words: Vec<String>,
    /// Shares of the words, summed up, the most common first.
    shares: Vec<f64>,
    accounts: usize,
    posts: usize,
}

impl Corpus {
    pub(crate) fn new(accounts: usize, posts: usize) -> Self {
        let mut dice = StdRng::seed_from_u64(1);
        let mut words = std::collections::BTreeSet::new();
        while words.len() < WORDS {
            let length = dice.random_range(1..=4);
            words.insert((0..length).map(|_| SYLLABLES[dice.random_range(0..SYLLABLES.len())]).collect::<String>());
        }
        let mut words: Vec<String> = words.into_iter().collect();
        // Short words are the common ones.
        words.sort_by_key(|word| (word.len() / 3, word.clone()));
        let mut sum = 0.0;
        let shares = (1..=WORDS)
            .map(|rank| {
                sum += 1.0 / (rank as f64 + 2.0);
                sum
            })
            .collect();
        Self { words, shares, accounts, posts }
    }

    fn word(&self, dice: &mut StdRng) -> &str {
        let all = self.shares[self.shares.len() - 1];
        let at = self.shares.partition_point(|share| *share < dice.random_range(0.0..all));
        &self.words[at.min(self.words.len() - 1)]
    }

    fn text(&self, dice: &mut StdRng, words: usize) -> String {
        (0..words).map(|_| self.word(dice)).collect::<Vec<_>>().join(" ")
    }

    /// Few have much: a share of `scale` that falls with the square of the dice.
    fn steep(dice: &mut StdRng, scale: f64) -> u64 {
        let throw: f64 = dice.random_range(0.0001..1.0);
        (scale / (throw * 100.0).powi(2) * 0.01) as u64
    }

    pub(crate) fn person(&self, number: usize) -> Person {
        let mut dice = StdRng::seed_from_u64(0x5eed_0000_0000 + number as u64);
        let (first, second) = (self.word(&mut dice).to_owned(), self.word(&mut dice).to_owned());
        let words = dice.random_range(0..15);
        Person {
            did: did(number),
            handle: format!("{first}{second}{number}.example.test"),
            name: format!("{} {}", capital(&second), capital(&first)),
            bio: self.text(&mut dice, words),
            followers: Self::steep(&mut dice, 100_000.0),
        }
    }

    pub(crate) fn post(&self, number: usize) -> Written {
        let mut dice = StdRng::seed_from_u64(0x7ea7_0000_0000 + number as u64);
        let text: String = if number % UNSPACED_EVERY == 0 {
            let length = dice.random_range(8..60);
            (0..length).filter_map(|_| unspaced(&mut dice)).collect()
        } else {
            let words = dice.random_range(3..40);
            // The lexicon's bound is 300.
            self.text(&mut dice, words).chars().take(TEXT_CHARS_MAX).collect()
        };
        // The last year, evenly.
        let at_us = NEWEST_US - (self.posts - number) as i64 * (365 * 24 * 3600 * 1_000_000 / self.posts.max(1) as i64);
        Written {
            author: dice.random_range(0..self.accounts),
            rkey: gp_atproto::Tid::from_parts(at_us as u64, (number % 1024) as u16).to_string(),
            text,
            at_us,
            likes: Self::steep(&mut dice, 1_000.0),
        }
    }

    /// What people look for: mostly common words, some of them together.
    pub(crate) fn question(&self, dice: &mut StdRng) -> String {
        match dice.random_range(0..10) {
            0 => (0..2).filter_map(|_| unspaced(dice)).collect(),
            1..=5 => self.word(dice).to_owned(),
            6..=8 => self.text(dice, 2),
            _ => self.text(dice, 3),
        }
    }

    /// The beginning of somebody's handle, as long as it takes to type it.
    pub(crate) fn typed(&self, dice: &mut StdRng) -> String {
        let person = self.person(dice.random_range(0..self.accounts));
        let length = dice.random_range(1..10);
        person.handle.chars().take(length).collect()
    }
}

/// A common character of a script without spaces: kana mostly, some of Han.
fn unspaced(dice: &mut StdRng) -> Option<char> {
    let throw: f64 = dice.random_range(0.0..1.0);
    // The square makes some characters far more common than others.
    if dice.random_range(0..3) == 0 {
        char::from_u32(0x4e00 + (throw * throw * throw * 6_000.0) as u32)
    } else {
        char::from_u32(0x3042 + (throw * throw * 80.0) as u32)
    }
}

fn did(number: usize) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut mixed = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let mut out = String::from("did:plc:");
    for _ in 0..24 {
        out.push(char::from(LETTERS[(mixed & 31) as usize]));
        mixed >>= 5;
    }
    out
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
