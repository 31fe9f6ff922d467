//! Language tags (BCP 47).

/// The irregular and regular tags that were registered before the grammar, in the only case that is accepted.
const GRANDFATHERED: &[&str] = &[
    "art-lojban",
    "cel-gaulish",
    "en-GB-oed",
    "i-ami",
    "i-bnn",
    "i-default",
    "i-enochian",
    "i-hak",
    "i-klingon",
    "i-lux",
    "i-mingo",
    "i-navajo",
    "i-pwn",
    "i-tao",
    "i-tay",
    "i-tsu",
    "no-bok",
    "no-nyn",
    "sgn-BE-FR",
    "sgn-BE-NL",
    "sgn-CH-DE",
    "zh-guoyu",
    "zh-hakka",
    "zh-min",
    "zh-min-nan",
    "zh-xiang",
];

/// Whether `text` is in the accept set of the lexicon string format `language` in strict mode.
///
/// A well-formed BCP 47 tag, grandfathered and private-use ones included, without repeated variants or extension
/// singletons. The primary subtag of an ordinary tag must be two or three lower-case letters.
pub fn is_valid(text: &str) -> bool {
    if GRANDFATHERED.contains(&text) {
        return true;
    }
    let mut tags = Subtags { rest: Some(text) };
    let Some(primary) = tags.next() else { return false };
    if is_private(primary) {
        return tags.private();
    }
    if !(2..=3).contains(&primary.len()) || !primary.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return false;
    }
    for _ in 0..3 {
        if !tags.take(|tag| tag.len() == 3 && letters(tag)) {
            break;
        }
    }
    tags.take(|tag| tag.len() == 4 && letters(tag));
    tags.take(|tag| tag.len() == 2 && letters(tag) || tag.len() == 3 && tag.bytes().all(|byte| byte.is_ascii_digit()));

    let mut variants: Vec<String> = Vec::new();
    while let Some(variant) = tags.peek().filter(|tag| is_variant(tag)) {
        variants.push(variant.to_ascii_lowercase());
        tags.next();
    }
    variants.sort_unstable();
    if variants.windows(2).any(|pair| pair[0] == pair[1]) {
        return false;
    }

    let mut singletons = [false; 128];
    while let Some(tag) = tags.peek() {
        if is_private(tag) {
            tags.next();
            return tags.private();
        }
        let [singleton] = *tag.as_bytes() else { return false };
        let seen = usize::from(singleton.to_ascii_lowercase());
        if !singleton.is_ascii_alphanumeric() || std::mem::replace(&mut singletons[seen], true) {
            return false;
        }
        tags.next();
        let part = |tag: &str| (2..=8).contains(&tag.len()) && alphanumeric(tag);
        if !tags.take(part) {
            return false;
        }
        while tags.take(part) {}
    }
    true
}

#[derive(Clone, Copy)]
struct Subtags<'a> {
    rest: Option<&'a str>,
}

impl<'a> Subtags<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.rest.map(|rest| rest.split_once('-').map_or(rest, |(tag, _)| tag))
    }

    fn next(&mut self) -> Option<&'a str> {
        let tag = self.peek()?;
        self.rest = self.rest.and_then(|rest| rest.split_once('-')).map(|(_, rest)| rest);
        Some(tag)
    }

    /// Steps over the next subtag if it fits.
    fn take(&mut self, fits: impl Fn(&str) -> bool) -> bool {
        let fitting = self.peek().is_some_and(fits);
        if fitting {
            self.next();
        }
        fitting
    }

    /// Whether the rest is one or more private subtags (another `x` is one too).
    fn private(mut self) -> bool {
        let mut any = false;
        while let Some(tag) = self.next() {
            if !(1..=8).contains(&tag.len()) || !alphanumeric(tag) {
                return false;
            }
            any = true;
        }
        any
    }
}

fn letters(tag: &str) -> bool {
    tag.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn alphanumeric(tag: &str) -> bool {
    tag.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_private(tag: &str) -> bool {
    tag.eq_ignore_ascii_case("x")
}

fn is_variant(tag: &str) -> bool {
    alphanumeric(tag) && ((5..=8).contains(&tag.len()) || tag.len() == 4 && tag.as_bytes()[0].is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_set() {
        for text in [
            "ja",
            "ban",
            "pt-BR",
            "hy-Latn-IT-arevela",
            "hy-Latn",
            "zh-Hant",
            "zh-hant",
            "zh-cmn-Hans-CN",
            "zh-yue-HK",
            "es-419",
            "de-CH-1901",
            "sl-rozaj-biske",
            "sl-IT-nedis",
            "de-DE-u-co-phonebk",
            "en-a-myext-b-another",
            "en-US-x-twain",
            "x-whatever",
            "X-a-b",
            "i-default",
            "i-klingon",
            "en-GB-oed",
            "sgn-BE-FR",
            "zh-min-nan",
            "no-bok",
            "und",
            "mul-Latn",
            "en-x-a-x-b",
            "ar-a-aaa-b-bbb-a1",
            "de-1996-1901",
            "aa-aaa-bbb-ccc",
        ] {
            assert!(is_valid(text), "{text}");
        }
        for text in [
            "",
            "-",
            "a",
            "EN",
            "En",
            "jaja",
            "english",
            "123",
            "ja-",
            "-ja",
            "ja--JP",
            "de-",
            "de-DE-",
            "en-a",
            "en-a-b",
            "en-a-aaa-a-bbb",
            "en-a-aaa-A-bbb",
            "de-1901-1901",
            "sl-rozaj-ROZAJ",
            "x",
            "x-",
            "x-toolongsub",
            "en-x",
            "en-x-",
            "i-DEFAULT",
            "I-klingon",
            "i-unknown",
            "de-419-DE",
            "aa-aaa-bbb-ccc-ddd",
            "ja_JP",
            "ja JP",
            "日本",
            "en-US-US",
            "de-Latn-Latn",
            "en-abcdefghi",
            "en-é",
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn long_hostile_tags_are_judged_in_good_time() {
        let many = format!("en-{}", (10_000..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join("-"));
        assert!(is_valid(&many));
    }
}
