//! AT-URIs: the addresses of records.

use std::fmt;

use crate::{did, handle, nsid, rkey};

/// Longest AT-URI, in characters.
pub const AT_URI_CHARS_MAX: usize = 8192;

const SCHEME: &str = "at://";

/// The parts of an AT-URI, borrowed from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AtUri<'a> {
    /// A DID or a handle.
    pub authority: &'a str,
    /// The collection's NSID.
    pub collection: Option<&'a str>,
    /// The record key.
    pub rkey: Option<&'a str>,
    /// What follows `#`, a JSON pointer.
    pub fragment: Option<&'a str>,
}

/// The text is not an AT-URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an AT-URI: at://<did or handle>[/<collection>[/<record key>]][#/<pointer>]")]
pub struct AtUriError;

impl<'a> AtUri<'a> {
    /// Splits a text of the right shape without judging the parts: cheap, for texts that were validated when they
    /// came in, or whose parts are compared with known ones anyway.
    ///
    /// The shape: `at://`, a part, up to two more parts behind slashes, an optional fragment. No part is empty or holds
    /// a question mark, and there is no trailing slash.
    pub fn split(text: &'a str) -> Option<AtUri<'a>> {
        let rest = text.strip_prefix(SCHEME)?;
        let (path, fragment) = match rest.split_once('#') {
            Some((path, fragment)) => (path, Some(fragment)),
            None => (rest, None),
        };
        if path.contains('?') {
            return None;
        }
        let mut parts = path.split('/');
        let (authority, collection, rkey) = (parts.next()?, parts.next(), parts.next());
        let empty = |part: Option<&str>| part == Some("");
        if parts.next().is_some() || authority.is_empty() || empty(collection) || empty(rkey) {
            return None;
        }
        Some(AtUri { authority, collection, rkey, fragment })
    }

    /// Splits and checks everything, as the lexicon string format `at-uri` in strict mode demands.
    pub fn parse(text: &'a str) -> Result<AtUri<'a>, AtUriError> {
        if text.len() > AT_URI_CHARS_MAX {
            return Err(AtUriError);
        }
        let uri = AtUri::split(text).ok_or(AtUriError)?;
        let good = (did::is_valid(uri.authority) || handle::is_valid(uri.authority))
            && uri.collection.is_none_or(nsid::is_valid)
            && uri.rkey.is_none_or(rkey::is_valid)
            && uri.fragment.is_none_or(is_pointer);
        if good { Ok(uri) } else { Err(AtUriError) }
    }

    /// The DID of a record's URI with all three parts and no fragment, beside collection and record key.
    ///
    /// `None` where the authority is a handle. As cheap as [`AtUri::split`].
    pub fn record_parts(text: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        match AtUri::split(text)? {
            AtUri { authority, collection: Some(collection), rkey: Some(rkey), fragment: None }
                if authority.starts_with("did:") =>
            {
                Some((authority, collection, rkey))
            }
            _ => None,
        }
    }
}

impl fmt::Display for AtUri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.authority)?;
        for part in [self.collection, self.rkey].into_iter().flatten() {
            write!(f, "/{part}")?;
        }
        self.fragment.map_or(Ok(()), |fragment| write!(f, "#{fragment}"))
    }
}

/// The URI of a record. The parts are taken as they are.
pub fn of_record(did: &str, collection: &str, rkey: &str) -> String {
    [SCHEME, did, "/", collection, "/", rkey].concat()
}

/// Whether `text` is in the accept set of the lexicon string format `at-uri`.
pub fn is_valid(text: &str) -> bool {
    AtUri::parse(text).is_ok()
}

/// A fragment: a slash, then characters of a URI, with every percent sign opening a well-formed UTF-8 escape.
fn is_pointer(fragment: &str) -> bool {
    let charset = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:@!$&')(*+,;=%[]/-".contains(&byte);
    if !fragment.starts_with('/') || !fragment.bytes().all(charset) {
        return false;
    }
    if !fragment.contains('%') {
        return true;
    }
    let (mut decoded, mut bytes) = (Vec::with_capacity(fragment.len()), fragment.bytes());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => decoded.push((high << 4 | low) as u8),
            _ => return false,
        }
    }
    std::str::from_utf8(&decoded).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_set() {
        let longest_fragment = format!("at://did:plc:abc/a.b.c/x#/{}", "f".repeat(AT_URI_CHARS_MAX - 26));
        for text in [
            "at://did:plc:asdf123",
            "at://user.bsky.social",
            "at://User.Bsky.social/com.atproto.feed.post",
            "at://did:plc:asdf123/com.atproto.feed.post",
            "at://did:plc:asdf123/com.atproto.feed.post/record",
            "at://did:plc:asdf123/com.atproto.feed.post/a:b~c.d_-",
            "at://did:plc:asdf123/com.atproto.feed.post/...",
            "at://did:web:localhost%3A1234/com.atproto.feed.post/x",
            "at://did:plc:asdf123#/frag",
            "at://did:plc:asdf123/com.atproto.feed.post/x#/a[0]/b%20c",
            "at://did:plc:asdf123#/",
            "at://did:plc:asdf123#/%C3%A9",
            &longest_fragment,
        ] {
            assert!(is_valid(text), "{text}");
            assert_eq!(AtUri::parse(text).unwrap().to_string(), text);
        }
        let too_long = format!("{longest_fragment}f");
        for text in [
            "",
            "at://",
            "at:/did:plc:asdf123",
            "AT://did:plc:asdf123",
            "a://did:plc:asdf123",
            "at://name",
            "at://name.0",
            "at://did:plc:",
            "at://did:plc:asdf123/",
            "at:///com.atproto.feed.post",
            "at://did:plc:asdf123//x",
            "at://did:plc:asdf123/com.atproto.feed.post/",
            "at://did:plc:asdf123/com.atproto.feed.post/x/",
            "at://did:plc:asdf123/com.atproto.feed.post/x/y",
            "at://did:plc:asdf123/com.atproto.feed.post/.",
            "at://did:plc:asdf123/com.atproto.feed.post/..",
            "at://did:plc:asdf123/com.atproto.feed.post/a b",
            "at://did:plc:asdf123/com.atproto.feed.post/a%20b",
            "at://did:plc:asdf123/com.atproto.feed.post/é",
            "at://did:plc:asdf123/com.atproto.feed.post/$1",
            "at://did:plc:asdf123/short/x",
            "at://did:plc:asdf123/com.atproto.feed.p_st/x",
            "at://did:plc:asdf123?q=1",
            "at://did:plc:asdf123/com.atproto.feed.post?q=1",
            "at://did:plc:asdf123/com.atproto.feed.post/x?q=1",
            "at://did:plc:asdf123#",
            "at://did:plc:asdf123#frag",
            "at://did:plc:asdf123#/a#/b",
            "at://did:plc:asdf123#/a b",
            "at://did:plc:asdf123#/a\\b",
            "at://did:plc:asdf123#/a?b",
            "at://did:plc:asdf123#/%",
            "at://did:plc:asdf123#/%4",
            "at://did:plc:asdf123#/%zz",
            "at://did:plc:asdf123#/%FF",
            "at://did:plc:asdf123#/é",
            " at://did:plc:asdf123",
            "at://did:plc:asdf123 ",
            "at://@user.bsky.social",
            "at://did:PLC:asdf123",
            "https://did:plc:asdf123",
            &too_long,
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn split_judges_the_shape_only() {
        let uri = AtUri::split("at://anything/at all/even this#frag").unwrap();
        assert_eq!((uri.authority, uri.collection, uri.rkey), ("anything", Some("at all"), Some("even this")));
        assert_eq!(uri.fragment, Some("frag"));
        assert_eq!(AtUri::split("at://a//c"), None);
    }

    #[test]
    fn record_parts_want_a_whole_record_of_a_did() {
        assert_eq!(AtUri::record_parts("at://did:plc:a/b.c.d/e"), Some(("did:plc:a", "b.c.d", "e")));
        assert_eq!(of_record("did:plc:a", "b.c.d", "e"), "at://did:plc:a/b.c.d/e");
        for text in ["at://did:plc:a/b.c.d", "at://a.b/b.c.d/e", "at://did:plc:a/b.c.d/e#/x", "did:plc:a"] {
            assert_eq!(AtUri::record_parts(text), None, "{text}");
        }
    }
}
