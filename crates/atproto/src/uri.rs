//! URIs in general, as loosely as lexicons see them.

/// Whether `text` is in the accept set of the lexicon string format `uri`.
///
/// One or more of letters, digits and `_`, then `:`, then perhaps `//`, then something that does not begin with a
/// slash and holds no white space. There is no length limit, and characters beyond ASCII are fine.
pub fn is_valid(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !rest.is_empty()
        && !rest.starts_with('/')
        && !rest.contains(is_space)
}

/// White space as JavaScript's regular expressions see it: the byte order mark is, "next line" is not.
fn is_space(character: char) -> bool {
    character == '\u{feff}' || (character.is_whitespace() && character != '\u{85}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_set() {
        let endless = format!("https://example.com/{}", "a".repeat(100_000));
        for text in [
            "https://example.com",
            "a:b",
            "1:2",
            "at://did:plc:x",
            "mailto:a@b",
            "_x:y",
            "https://é.com",
            "x:?",
            "a:b/",
            "a:\u{85}",
            &endless,
        ] {
            assert!(is_valid(text), "{text}");
        }
        for text in [
            "",
            ":",
            "a",
            "a:",
            "mailto:",
            "https://",
            "https:///x",
            "a:/b",
            "a-b:c",
            "é:x",
            "a: b",
            "a:b c",
            "a:b\n",
            "a:\u{feff}",
            "a:b\u{2003}",
        ] {
            assert!(!is_valid(text), "{text:?}");
        }
    }
}
