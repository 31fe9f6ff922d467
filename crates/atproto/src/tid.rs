//! Timestamp identifiers: the record keys and revisions that sort by time.

use std::{fmt, str::FromStr};

/// Characters of a TID.
pub const TID_CHARS: usize = 13;

const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
const NONE: u8 = 0xff;
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut i = 0;
    while i < ALPHABET.len() {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// A TID as its 64-bit number: microseconds since the epoch above ten bits of clock id.
///
/// Numbers compare as texts do. The syntax allows the top bit, which no real clock sets before the year 2255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub u64);

/// The text is not a TID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a TID: 13 characters of 2-7 and a-z, the first one of 2-7 and a-j")]
pub struct TidError;

impl Tid {
    /// Reads 13 characters of `234567a-z`, the first of `234567a-j`.
    pub fn parse(text: &str) -> Result<Tid, TidError> {
        let symbols: &[u8; TID_CHARS] = text.as_bytes().try_into().map_err(|_| TidError)?;
        let (mut number, mut bad) = (0u64, 0u8);
        for symbol in symbols {
            let value = VALUES[usize::from(*symbol)];
            bad |= value & 0x80;
            number = number << 5 | u64::from(value & 31);
        }
        if bad != 0 || VALUES[usize::from(symbols[0])] >= 16 { Err(TidError) } else { Ok(Tid(number)) }
    }

    /// The TID of a time in microseconds since the epoch (53 bits are kept) and a clock id (10 bits are kept).
    pub fn from_parts(micros: u64, clock_id: u16) -> Tid {
        Tid((micros & ((1 << 53) - 1)) << 10 | u64::from(clock_id & 0x3ff))
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> u64 {
        self.0 >> 10
    }

    /// The clock id, 0 to 1023.
    pub fn clock_id(self) -> u16 {
        (self.0 & 0x3ff) as u16
    }

    /// The text.
    pub fn text(self) -> TidText {
        let mut symbols = [0; TID_CHARS];
        for (i, symbol) in symbols.iter_mut().enumerate() {
            *symbol = ALPHABET[(self.0 >> (60 - 5 * i)) as usize & 31];
        }
        TidText(symbols)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().as_str())
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Tid {
    type Err = TidError;

    fn from_str(text: &str) -> Result<Tid, TidError> {
        Tid::parse(text)
    }
}

/// The 13 characters of a TID, on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TidText([u8; TID_CHARS]);

impl TidText {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

/// Whether `text` is in the accept set of the lexicon string format `tid`.
pub fn is_valid(text: &str) -> bool {
    Tid::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accept_set() {
        for text in
            ["3jzfcijpj2z2a", "7777777777777", "3zzzzzzzzzzzz", "2222222222222", "j222222222222", "jzzzzzzzzzzzz"]
        {
            assert!(is_valid(text), "{text}");
            assert_eq!(Tid::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "3jzfcijpj2z21",
            "0000000000000",
            "3jzfcijpj2z2aa",
            "3jzfcijpj2z2",
            "3jzf-cij-pj2z-2a",
            "kjzfcijpj2z2a",
            "zzzzzzzzzzzzz",
            "3JZFCIJPJ2Z2A",
            "3jzfcijpj2z2é",
            "k222222222222",
            "3jzfcijpj2z2a ",
            "3jzfcijpj2z1a",
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn parts() {
        let tid = Tid::from_parts(1_700_000_000_000_000, 1023);
        assert_eq!((tid.micros(), tid.clock_id()), (1_700_000_000_000_000, 1023));
        assert_eq!(Tid(0).to_string(), "2222222222222");
        assert_eq!(Tid(u64::MAX).to_string(), "jzzzzzzzzzzzz");
    }

    proptest! {
        #[test]
        fn numbers_and_texts_agree(a in any::<u64>(), b in any::<u64>()) {
            let (x, y) = (Tid(a).to_string(), Tid(b).to_string());
            prop_assert_eq!(Tid::parse(&x), Ok(Tid(a)));
            prop_assert_eq!(a.cmp(&b), x.cmp(&y));
        }
    }
}
