//! Handles: the host names by which accounts are called.

use crate::nsid::is_label;

/// Longest handle, in characters.
pub const HANDLE_CHARS_MAX: usize = 253;
/// What a host says when it knows of no valid handle. Never stored.
pub const INVALID: &str = "handle.invalid";

/// Whether `text` is in the accept set of the lexicon string format `handle`.
///
/// Two or more labels of 1 to 63 letters, digits and inner hyphens; the last begins with a letter. Upper case and
/// reserved top-level names are syntactically fine.
pub fn is_valid(text: &str) -> bool {
    if text.len() > HANDLE_CHARS_MAX {
        return false;
    }
    let (mut labels, mut last) = (0usize, 0u8);
    for label in text.as_bytes().split(|byte| *byte == b'.') {
        if !is_label(label) {
            return false;
        }
        labels += 1;
        last = label[0];
    }
    labels >= 2 && last.is_ascii_alphabetic()
}

/// The form in which handles are stored and compared.
pub fn normalize(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_set() {
        let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        for text in [
            "a.co",
            "A.ISI.EDU",
            "john.test",
            "8.cn",
            "laptop.local",
            "blah.arpa",
            "xn--ls8h.test",
            "12345.test",
            "a-b.c-d",
            "4chan.org",
            "handle.invalid",
            "john.co.a2",
            "jaymome-johnber123456.test",
            &longest,
        ] {
            assert!(is_valid(text), "{text}");
        }
        let too_long = format!("{longest}d");
        let label_too_long = format!("{}.test", "a".repeat(64));
        for text in [
            "",
            "test",
            "john..test",
            ".test",
            "john.test.",
            "john.0",
            "cn.8",
            "-john.test",
            "john-.test",
            "jo_hn.test",
            "john.te st",
            "jö.test",
            "127.0.0.1",
            "www.maseko.1a",
            "did:plc:asdf",
            "john.test/",
            "@john.test",
            &too_long,
            &label_too_long,
        ] {
            assert!(!is_valid(text), "{text}");
        }
        assert_eq!(normalize("A.Test"), "a.test");
    }
}
