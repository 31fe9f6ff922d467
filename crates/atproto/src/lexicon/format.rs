//! The forms that a lexicon can ask of a text.

use crate::{Cid, aturi, datetime, did, handle, language, multibase, nsid, uri};

/// Longest text that passes for a CID, in characters.
const CID_CHARS_MAX: usize = 128;

/// A form of text, named as in lexicons. Only the ones that the kept collections use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    AtUri,
    Cid,
    Datetime,
    Did,
    Handle,
    Language,
    Nsid,
    Uri,
}

impl Format {
    /// Whether `text` has this form.
    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Format::AtUri => aturi::is_valid(text),
            Format::Cid => is_cid(text),
            Format::Datetime => datetime::is_valid(text),
            Format::Did => did::is_valid(text),
            Format::Handle => handle::is_valid(text),
            Format::Language => language::is_valid(text),
            Format::Nsid => nsid::is_valid(text),
            Format::Uri => uri::is_valid(text),
        }
    }

    /// The label for a text that does not have this form.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Format::AtUri => "format_at_uri",
            Format::Cid => "format_cid",
            Format::Datetime => "format_datetime",
            Format::Did => "format_did",
            Format::Handle => "format_handle",
            Format::Language => "format_language",
            Format::Nsid => "format_nsid",
            Format::Uri => "format_uri",
        }
    }
}

/// Whether `text` passes for a CID: version 1 in lower-case base32, or version 0 in base58.
///
/// Nearly every text is a plain [`Cid`]. The rest is read as loosely as the network's AppView does: padding behind
/// base32 is allowed, and so are numbers in more bytes than they need, any codec, any hash and any length of digest.
fn is_cid(text: &str) -> bool {
    if Cid::parse(text).is_ok() {
        return true;
    }
    if text.len() > CID_CHARS_MAX {
        return false;
    }
    let (decoded, version) = match text.as_bytes() {
        [b'b', ..] => (multibase::base32_decode(text[1..].trim_end_matches('=')), 1),
        [b'Q', ..] => (multibase::base58_decode(text), 0),
        _ => return false,
    };
    decoded.is_some_and(|bytes| cid_version(&bytes) == Some(version))
}

/// The version of a binary CID, if the bytes are one and nothing follows.
fn cid_version(bytes: &[u8]) -> Option<u64> {
    /// What a version 0 CID begins with in place of a version: the code of its hash.
    const SHA2_256: u64 = 0x12;
    let mut rest = bytes;
    let mut version = number(&mut rest)?;
    if version == SHA2_256 {
        (version, rest) = (0, bytes);
    } else {
        let _codec = number(&mut rest)?;
    }
    let _hash = number(&mut rest)?;
    let digest_len = number(&mut rest)?;
    (version <= 1 && digest_len == rest.len() as u64).then_some(version)
}

/// Reads an unsigned LEB128 number of any length. What does not fit in 64 bits becomes the largest number.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| *byte < 0x80)? + 1;
    let (number, rest) = bytes.split_at(end);
    *bytes = rest;
    Some(number.iter().rev().fold(0u64, |value, byte| match value.leading_zeros() {
        0..7 => u64::MAX,
        _ => value << 7 | u64::from(byte & 0x7f),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cids_of_many_forms_pass() {
        let cbor = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
        let padded = format!("{cbor}======");
        for text in [cbor, &padded, "QmQg1v4o9xdT3Q14wh4S7dxZkDjyZ9ssFzFzyep1YrVJBY", "bafkqaaa"] {
            assert!(is_cid(text), "{text}");
        }
        // Upper case, one symbol short, base58 of version 1, a version nobody has, and beyond 128 characters.
        let identity = |digest_len: usize| {
            let mut text = String::from("b");
            let mut bytes = vec![1, 0x55, 0, digest_len as u8];
            bytes.extend(std::iter::repeat_n(7, digest_len));
            let mut out = Vec::new();
            multibase::base32_encode(&bytes, &mut out);
            text.push_str(std::str::from_utf8(&out).unwrap());
            text
        };
        assert!(is_cid(&identity(75)));
        assert_eq!(identity(76).len(), 129);
        for text in [
            &cbor.to_uppercase(),
            &cbor[..58],
            "zb2rhZfjRh2FHHB2RkHVEvL2vJnCTcu7kwRqgVsf9gpkLgteo",
            "b",
            "",
            &identity(76),
        ] {
            assert!(!is_cid(text), "{text}");
        }
    }

    #[test]
    fn numbers_saturate() {
        assert_eq!(number(&mut &[0x81, 0x00][..]), Some(1));
        assert_eq!(number(&mut &[0xff; 4][..]), None);
        let mut long = vec![0xff; 40];
        long.push(0x01);
        assert_eq!(number(&mut &long[..]), Some(u64::MAX));
        assert_eq!(number(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), Some(0));
    }
}
