//! Namespaced identifiers: the names of collections, lexicons and methods.

/// Longest NSID, in characters.
pub const NSID_CHARS_MAX: usize = 317;

/// Whether `text` is in the accept set of the lexicon string format `nsid`.
///
/// Three or more segments of 1 to 63 letters, digits and inner hyphens. The first segment begins with a letter; the
/// last is the name, begins with a letter and has no hyphen.
pub fn is_valid(text: &str) -> bool {
    if text.len() > NSID_CHARS_MAX {
        return false;
    }
    let (mut segments, mut name) = (0usize, &b""[..]);
    for segment in text.as_bytes().split(|byte| *byte == b'.') {
        let starts_well = segments > 0 || segment.first().is_some_and(u8::is_ascii_alphabetic);
        if !starts_well || !is_label(segment) {
            return false;
        }
        segments += 1;
        name = segment;
    }
    segments >= 3 && name[0].is_ascii_alphabetic() && !name.contains(&b'-')
}

/// Whether this is a host name label: 1 to 63 letters, digits and hyphens, no hyphen at either end.
pub(crate) fn is_label(label: &[u8]) -> bool {
    (1..=63).contains(&label.len())
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && label[0] != b'-'
        && label[label.len() - 1] != b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_set() {
        let long_segment = format!("com.{}.foo", "o".repeat(63));
        let long_name = format!("com.example.{}", "o".repeat(63));
        let longest = format!("com.{}.foo", vec!["middle"; 40].join("."));
        for text in [
            "app.bsky.feed.post",
            "com.example.fooBar",
            "net.users.bob.ping",
            "a-0.b-1.c",
            "a.b.c",
            "a0.b1.c3",
            "cn.8.lex.stuff",
            "m.xn--masekowski-pfb.pl",
            "a-0.b-1.c-3.d",
            "one.2.three",
            "onE.two.thrEE4",
            &long_segment,
            &long_name,
            &longest,
        ] {
            assert!(is_valid(text), "{text}");
        }
        let segment_too_long = format!("com.{}.foo", "o".repeat(64));
        let name_too_long = format!("com.example.{}", "o".repeat(64));
        let too_long = format!("com.{}.foo", vec!["middle"; 45].join("."));
        for text in [
            "",
            ".",
            "a",
            "a.b",
            "com.example",
            "com.example.foo.*",
            "com.example.foo-bar",
            "com.example.3",
            "com.example.3a",
            "0com.example.foo",
            "com.example.",
            ".com.example.foo",
            "com..example.foo",
            "com.-example.foo",
            "com.example-.foo",
            "com.example.foo ",
            "com.exämple.foo",
            "com.example.foo_bar",
            "com.example.foo/bar",
            "example.com/foo.bar",
            &segment_too_long,
            &name_too_long,
            &too_long,
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }
}
