//! Record keys: the last part of a record's address.

/// Longest record key, in characters.
pub const RKEY_CHARS_MAX: usize = 512;

/// Whether `text` is in the accept set of the lexicon string format `record-key`.
///
/// 1 to 512 of letters, digits and `_~.:-`, and neither `.` nor `..`.
pub fn is_valid(text: &str) -> bool {
    (1..=RKEY_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_~.:-".contains(&byte))
        && text != "."
        && text != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_set() {
        let longest = "o".repeat(RKEY_CHARS_MAX);
        for text in ["self", "3jzfcijpj2z2a", "a", "-", "_", "~", ":", "...", "a.b", "pre:fix", "~1.2-3_", &longest] {
            assert!(is_valid(text), "{text}");
        }
        let too_long = format!("{longest}o");
        for text in ["", ".", "..", "a b", "a/b", "a#b", "a@b", "a%b", "a$", "(a)", "é", "\"q\"", &too_long] {
            assert!(!is_valid(text), "{text}");
        }
    }
}
