//! Decentralized identifiers: the names of accounts.

use std::fmt;

/// Longest DID, in characters.
pub const DID_CHARS_MAX: usize = 2048;
/// Characters behind `did:plc:`.
pub const PLC_CHARS: usize = 24;

const PLC_PREFIX: &str = "did:plc:";

/// A text known to be a DID, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did<'a>(&'a str);

/// The text is not a DID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a DID: did:<lower-case method>:<identifier>")]
pub struct DidError;

impl<'a> Did<'a> {
    /// Checks the generic DID syntax (see [`is_valid`]); the method need not be one that atproto resolves.
    pub fn parse(text: &'a str) -> Result<Did<'a>, DidError> {
        if is_valid(text) { Ok(Did(text)) } else { Err(DidError) }
    }

    /// The whole text.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// The method, as `plc` or `web`.
    pub fn method(&self) -> &'a str {
        self.0[4..].split(':').next().unwrap_or_default()
    }

    /// What follows the method.
    pub fn identifier(&self) -> &'a str {
        &self.0[4 + self.method().len() + 1..]
    }

    /// The fifteen bytes of a well-formed `did:plc`.
    pub fn plc_bytes(&self) -> Option<[u8; 15]> {
        plc_bytes(self.0)
    }

    /// An owned copy.
    pub fn to_owned(&self) -> DidBuf {
        DidBuf(self.0.into())
    }
}

impl fmt::Display for Did<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for Did<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// A text known to be a DID, owned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DidBuf(Box<str>);

impl DidBuf {
    /// Checks and copies.
    pub fn parse(text: &str) -> Result<DidBuf, DidError> {
        Did::parse(text).map(|did| did.to_owned())
    }

    /// This DID, borrowed.
    pub fn as_did(&self) -> Did<'_> {
        Did(&self.0)
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DidBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for DidBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether `text` is in the accept set of the lexicon string format `did`.
///
/// `did:`, a lower-case method, `:`, then letters, digits and `._:%-`, not ending in `:` or `%`.
pub fn is_valid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some(rest) = bytes.strip_prefix(b"did:") else { return false };
    let method = rest.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
    let Some((b':', identifier)) = rest[method..].split_first() else { return false };
    method > 0
        && bytes.len() <= DID_CHARS_MAX
        && identifier.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._:%-".contains(byte))
        && !matches!(identifier.last(), None | Some(b':' | b'%'))
}

/// The fifteen bytes of a `did:plc` with 24 lower-case base32 characters; `None` for every other text.
pub fn plc_bytes(text: &str) -> Option<[u8; 15]> {
    let symbols = text.strip_prefix(PLC_PREFIX)?;
    let mut bytes = [0; 15];
    crate::multibase::base32_decode_into(symbols.as_bytes(), &mut bytes)?;
    Some(bytes)
}

/// Appends the `did:plc` of fifteen bytes.
pub fn push_plc(bytes: &[u8; 15], out: &mut String) {
    let mut symbols = [0; PLC_CHARS];
    crate::multibase::base32_fill(bytes, &mut symbols);
    out.push_str(PLC_PREFIX);
    out.push_str(std::str::from_utf8(&symbols).expect("base32 is ASCII"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_set() {
        let longest = format!("did:web:{}", "a".repeat(DID_CHARS_MAX - 8));
        for text in [
            "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
            "did:web:example.com",
            "did:web:localhost%3A1234",
            "did:method:val",
            "did:m:v",
            "did:method:-:_:.-",
            "did:m:%zz",
            "did:method::::val",
            "did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVshBHbU4ZYjeXqwSKEn6N",
            "did:m:a.",
            "did:m:123",
            &longest,
        ] {
            assert!(is_valid(text), "{text}");
        }
        let too_long = format!("{longest}a");
        for text in [
            "",
            "did",
            "did:",
            "did:plc",
            "did:plc:",
            "did:method:",
            "DID:plc:abc",
            "did:METHOD:val",
            "did:m123:val",
            "did::val",
            "did:method:val:",
            "did:method:val%",
            "did:method:val/two",
            "did:method:val?two",
            "did:method:val#two",
            "did:method:v l",
            " did:method:val",
            "did:method:val ",
            "did:meth.od:val",
            "did:method:välue",
            "didmethod:val",
            &too_long,
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn parts() {
        let did = Did::parse("did:web:example.com%3A80:x").unwrap();
        assert_eq!((did.method(), did.identifier()), ("web", "example.com%3A80:x"));
        assert_eq!(did.to_owned().as_did(), did);
    }

    #[test]
    fn plc_bytes_are_exact() {
        let text = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
        let mut back = String::new();
        push_plc(&plc_bytes(text).unwrap(), &mut back);
        assert_eq!(back, text);
        for other in [
            "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ",
            "did:plc:ewvi7nxzyoun6zhxrhs64oi",
            "did:plc:ewvi7nxzyoun6zhxrhs64oi1",
            "did:web:a",
        ] {
            assert_eq!(plc_bytes(other), None, "{other}");
        }
    }
}
