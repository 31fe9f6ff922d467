//! What people type into a search box, read into conditions.
//!
//! Tokens are split at spaces outside double quotes, as the AppView splits them, so that both mean the same. A token
//! that looks like an operator but does not read as one (`since:yesterday`, a bare `from`) is text.

use gp_atproto::datetime;

use crate::words::{self, Phrase};

/// Characters of a question that are looked at.
pub(crate) const QUERY_CHARS_MAX: usize = 2_000;

/// Conditions taken from one question; what comes after them is left out.
pub(crate) const CONDITIONS_MAX: usize = 64;

/// What a post may be asked for beside its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Facet {
    Author,
    Mention,
    Domain,
    Url,
    Embed,
    Tag,
    Language,
    Parent,
    Root,
}

/// Conditions on posts. All apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Words that must stand next to each other.
    pub(crate) phrases: Vec<Phrase>,
    /// Links that the post must have, or must write out.
    pub(crate) links: Vec<(String, Phrase)>,
    /// One of these values.
    pub(crate) any_of: Vec<(Facet, Vec<String>)>,
    /// Words that must not stand next to each other.
    pub(crate) no_phrases: Vec<Phrase>,
    /// None of these values.
    pub(crate) none_of: Vec<(Facet, Vec<String>)>,
    /// From this moment on, in microseconds.
    pub(crate) since_us: Option<i64>,
    /// Before this moment.
    pub(crate) until_us: Option<i64>,
    /// With pictures or a video.
    pub(crate) media: bool,
    /// With a video.
    pub(crate) video: bool,
    /// A reply, or none.
    pub(crate) reply: Option<bool>,
    /// There was something to look for, but no word in it: nothing is found.
    pub(crate) wordless: bool,
}

impl Conditions {
    /// Whether nothing is asked at all.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Narrows the time.
    pub(crate) fn since(&mut self, us: i64) {
        self.since_us = Some(self.since_us.map_or(us, |before| before.max(us)));
    }

    /// Narrows the time.
    pub(crate) fn until(&mut self, us: i64) {
        self.until_us = Some(self.until_us.map_or(us, |before| before.min(us)));
    }

    fn len(&self) -> usize {
        self.phrases.len() + self.links.len() + self.any_of.len() + self.no_phrases.len() + self.none_of.len()
    }
}

/// Reads a question.
pub(crate) fn read(question: &str) -> Conditions {
    let mut out = Conditions::default();
    // The last author wins.
    let mut author: Option<String> = None;
    let mut wordless = false;
    for token in tokens(question) {
        if out.len() >= CONDITIONS_MAX {
            break;
        }
        let (negated, rest) = match token.strip_prefix('-') {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, token.as_str()),
        };
        match operator(rest) {
            Some(Operator::Is(Facet::Author, value)) if !negated => author = Some(value),
            Some(Operator::Is(facet, value)) => {
                let conditions = if negated { &mut out.none_of } else { &mut out.any_of };
                conditions.push((facet, vec![value]));
            }
            Some(Operator::Since(us)) if negated => out.until(us),
            Some(Operator::Since(us)) => out.since(us),
            Some(Operator::Until(us)) if negated => out.since(us),
            Some(Operator::Until(us)) => out.until(us),
            None => {
                let phrase = words::phrase(&rest.replace(QUOTES, " "));
                if phrase.is_empty() {
                    wordless |= !negated;
                } else if negated {
                    out.no_phrases.push(phrase);
                } else if let Some(link) = link(rest) {
                    out.links.push((link, phrase));
                } else {
                    out.phrases.push(phrase);
                }
            }
        }
    }
    out.any_of.extend(author.map(|author| (Facet::Author, vec![author])));
    out.wordless = wordless && out.is_empty();
    out
}

const QUOTES: [char; 3] = ['"', '“', '”'];

/// Splits at spaces outside quotes. Quotes stay where they are.
fn tokens(question: &str) -> Vec<String> {
    let mut out = Vec::new();
    let (mut token, mut quoted) = (String::new(), false);
    for c in question.chars().take(QUERY_CHARS_MAX) {
        if QUOTES.contains(&c) {
            quoted = !quoted;
        }
        if c.is_whitespace() && !quoted {
            if !token.is_empty() {
                out.push(std::mem::take(&mut token));
            }
        } else {
            token.push(c);
        }
    }
    if !token.is_empty() {
        out.push(token);
    }
    out
}

enum Operator {
    Is(Facet, String),
    Since(i64),
    Until(i64),
}

fn operator(token: &str) -> Option<Operator> {
    if token.starts_with("did:") {
        return Some(Operator::Is(Facet::Author, token.to_owned()));
    }
    if let Some(tag) = token.strip_prefix(['#', '＃']) {
        let tag = tag_of(tag);
        return (!tag.is_empty()).then_some(Operator::Is(Facet::Tag, tag));
    }
    let (name, value) = token.split_once(':')?;
    let value = value.trim_matches(QUOTES);
    let is = |facet, value: String| (!value.is_empty()).then_some(Operator::Is(facet, value));
    match name.to_ascii_lowercase().as_str() {
        // An author without a name is nobody.
        "from" | "author" => Some(Operator::Is(Facet::Author, value.to_owned())),
        "to" | "mentions" => is(Facet::Mention, value.to_owned()),
        "domain" => is(Facet::Domain, domain_of(value)),
        "lang" => is(Facet::Language, language_of(value)),
        "since" => moment(value).map(Operator::Since),
        "until" => moment(value).map(Operator::Until),
        _ => None,
    }
}

/// A day, or a moment of it.
fn moment(text: &str) -> Option<i64> {
    let text = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    datetime::parse_micros_lenient(&text)
}

/// The link that a token is, as it is compared.
fn link(token: &str) -> Option<String> {
    let lower = token.to_ascii_lowercase();
    (lower.starts_with("https://") || lower.starts_with("http://")).then(|| url_of(token))
}

/// A hashtag as it is compared: folded, without the punctuation of the sentence around it.
pub(crate) fn tag_of(tag: &str) -> String {
    let folded = words::fold(tag.trim_start_matches(['#', '＃']));
    folded.trim_matches(|c: char| c.is_ascii_punctuation() || c.is_whitespace()).to_owned()
}

/// A language as it is compared: the first two letters of its code.
pub(crate) fn language_of(code: &str) -> String {
    code.chars().take(2).flat_map(char::to_lowercase).collect()
}

/// A host as it is compared, from a host or a link.
pub(crate) fn domain_of(text: &str) -> String {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    host.trim_matches('.').to_lowercase()
}

/// A link as it is compared: without scheme, `www.`, fragment and the last slash; its host in lower case.
pub(crate) fn url_of(text: &str) -> String {
    let rest = text.trim().split_once("://").map_or(text.trim(), |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let host = host.to_lowercase();
    format!("{}{}", host.strip_prefix("www.").unwrap_or(&host), path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::words::phrase;

    fn is(facet: Facet, value: &str) -> (Facet, Vec<String>) {
        (facet, vec![value.to_owned()])
    }

    #[test]
    fn words_operators_and_exclusions_are_told_apart() {
        let found = read(
            "cats -dogs \"black cat\" -\"white cat\" #Cute, -#ads to:bob.test mentions:did:web:x domain:WWW.Example.com lang:PT-br -lang:en",
        );
        assert_eq!(found.phrases, [phrase("cats"), phrase("black cat")]);
        assert_eq!(found.no_phrases, [phrase("dogs"), phrase("white cat")]);
        assert_eq!(
            found.any_of,
            [
                is(Facet::Tag, "cute"),
                is(Facet::Mention, "bob.test"),
                is(Facet::Mention, "did:web:x"),
                is(Facet::Domain, "www.example.com"),
                is(Facet::Language, "pt"),
            ]
        );
        assert_eq!(found.none_of, [is(Facet::Tag, "ads"), is(Facet::Language, "en")]);
    }

    #[test]
    fn the_last_author_wins_and_bare_words_are_words() {
        assert_eq!(read("from:a.test x did:plc:b").any_of, [is(Facet::Author, "did:plc:b")]);
        assert_eq!(read("did:plc:b author:a.test").any_of, [is(Facet::Author, "a.test")]);
        assert_eq!(read("from:did:plc:b").any_of, [is(Facet::Author, "did:plc:b")]);
        assert_eq!(read("from:").any_of, [is(Facet::Author, "")]);
        assert_eq!(read("what did you").phrases.len(), 3);
        assert_eq!(read("from author did").phrases.len(), 3);
        assert_eq!(read("-from:a.test").none_of, [is(Facet::Author, "a.test")]);
    }

    #[test]
    fn times_narrow_and_what_is_no_time_is_text() {
        let found = read("since:2024-01-02 until:2024-01-03T12:00:00Z since:2023-01-01");
        assert_eq!(found.since_us, Some(1_704_153_600_000_000));
        assert_eq!(found.until_us, Some(1_704_283_200_000_000));
        assert_eq!(read("since:yesterday").phrases, [phrase("since:yesterday")]);
    }

    #[test]
    fn a_link_is_sought_as_a_link_and_as_text() {
        let found = read("https://www.Example.com/A/b/#top");
        assert_eq!(found.links[0].0, "example.com/A/b");
        assert_eq!(domain_of("https://user@Sub.Example.com:8080/x"), "sub.example.com");
    }

    #[test]
    fn nothing_but_punctuation_finds_nothing() {
        assert!(read("").is_empty() && read("  ").is_empty());
        assert!(read("!!!").wordless);
        assert!(!read("!!! cat").wordless);
        // A quote that does not end goes on to the end.
        assert_eq!(read("\"black cat").phrases, [phrase("black cat")]);
        assert!(read("-").wordless);
    }

    proptest! {
        #[test]
        fn no_question_is_too_strange(question in "\\PC{0,80}|([-#\":a-z ]|from:|since:|did:|[\u{0}-\u{10ffff}]){0,40}") {
            let found = read(&question);
            prop_assert!(found.len() <= CONDITIONS_MAX + 1);
        }
    }
}
