//! Puts posts, names and bios together from the word lists.

use crate::{
    dice::Dice,
    words::{EMOJI, FAMILY, GIVEN, Grammar, HOSTS, LANGUAGES, SLUGS, TAGS, TOPICS, TRADES},
};

/// What a stretch of a post's text stands for.
#[derive(Clone, Debug)]
pub(crate) enum Feature {
    /// The DID of somebody named.
    Mention(String),
    /// Where a link goes.
    Link(String),
    /// A hashtag without its sign.
    Tag(&'static str),
}

/// A feature and its place, in bytes of the UTF-8 text.
#[derive(Clone, Debug)]
pub(crate) struct Facet {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) feature: Feature,
}

/// A text with its facets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writing {
    pub(crate) text: String,
    pub(crate) facets: Vec<Facet>,
}

impl Writing {
    fn push_sentence(&mut self, sentence: &str, grammar: &Grammar) {
        if !self.text.is_empty() {
            self.text.push_str(grammar.space);
        }
        self.text.push_str(sentence);
    }

    fn push_facet(&mut self, shown: &str, feature: Feature) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text.push_str(shown);
        self.facets.push(Facet { start, end: self.text.len(), feature });
    }

    /// Names somebody.
    pub(crate) fn mention(&mut self, handle: &str, did: &str) {
        self.push_facet(&format!("@{handle}"), Feature::Mention(did.to_owned()));
    }

    /// Adds a link.
    pub(crate) fn link(&mut self, uri: String) {
        let shown: String = uri.trim_start_matches("https://").chars().take(27).collect();
        self.push_facet(&format!("{shown}..."), Feature::Link(uri));
    }

    /// Adds a hashtag.
    pub(crate) fn tag(&mut self, tag: &'static str) {
        self.push_facet(&format!("#{tag}"), Feature::Tag(tag));
    }
}

/// A language, by its share.
pub(crate) fn language(dice: &mut Dice) -> &'static Grammar {
    let mut at = dice.below(100);
    for grammar in &LANGUAGES {
        match at.checked_sub(grammar.share) {
            Some(rest) => at = rest,
            None => return grammar,
        }
    }
    &LANGUAGES[0]
}

/// One sentence.
pub(crate) fn sentence(dice: &mut Dice, grammar: &Grammar) -> String {
    let (who, did, what) = (dice.pick(grammar.who), dice.pick(grammar.did), dice.pick(grammar.what));
    let when = dice.pick(grammar.when);
    let space = grammar.space;
    let body = match (grammar.verb_last, dice.chance(0.3)) {
        (true, _) => format!("{when}{space}{who}{space}{what}{space}{did}"),
        (false, true) => format!("{who} {did} {what}"),
        (false, false) => format!("{who} {did} {what} {when}"),
    };
    format!("{body}{}", grammar.stop)
}

/// A post of one to three sentences, perhaps with an emoji; a tenth carry a hashtag or a link.
pub(crate) fn post(dice: &mut Dice, grammar: &Grammar) -> Writing {
    let mut writing = Writing::default();
    if dice.chance(0.35) {
        writing.push_sentence(dice.pick(grammar.before), grammar);
    }
    writing.push_sentence(&sentence(dice, grammar), grammar);
    if dice.chance(0.25) {
        writing.push_sentence(&sentence(dice, grammar), grammar);
    }
    if dice.chance(0.4) {
        writing.push_sentence(dice.pick(grammar.after), grammar);
    }
    if dice.chance(0.2) {
        writing.text.push(' ');
        writing.text.push_str(dice.pick(&EMOJI));
    }
    if dice.chance(0.1) {
        writing.tag(dice.pick(&TAGS));
    }
    if dice.chance(0.06) {
        writing.link(link(dice));
    }
    if dice.chance(0.25) {
        capitalise(&mut writing);
    }
    writing
}

/// An answer to a post.
pub(crate) fn reply(dice: &mut Dice, grammar: &Grammar) -> Writing {
    let mut writing = Writing::default();
    writing.push_sentence(dice.pick(grammar.replies), grammar);
    if dice.chance(0.3) {
        writing.push_sentence(&sentence(dice, grammar), grammar);
    }
    if dice.chance(0.15) {
        writing.text.push(' ');
        writing.text.push_str(dice.pick(&EMOJI));
    }
    writing
}

/// Begins with a capital letter where that keeps every byte in its place.
fn capitalise(writing: &mut Writing) {
    let first = writing.text.chars().next().filter(char::is_ascii_lowercase);
    if let Some(first) = first {
        writing.text.replace_range(..1, &first.to_ascii_uppercase().to_string());
    }
}

/// A link to nowhere.
pub(crate) fn link(dice: &mut Dice) -> String {
    format!("https://{}/{}/{}", dice.pick(&HOSTS), dice.between(2021, 2026), dice.pick(&SLUGS))
}

/// The title of the page behind a link.
pub(crate) fn title(uri: &str) -> String {
    uri.rsplit('/').next().unwrap_or(uri).replace('-', " ")
}

/// A display name.
pub(crate) fn display_name(dice: &mut Dice) -> String {
    let (given, family) = (dice.pick(&GIVEN), dice.pick(&FAMILY));
    match dice.below(10) {
        0..=5 => format!("{given} {family}"),
        6 => given.to_owned(),
        7 => format!("{given} {}", dice.pick(&EMOJI)),
        8 => format!("{} the {}", given, dice.pick(&TRADES)),
        _ => given.to_lowercase(),
    }
}

/// A bio of one or two lines.
pub(crate) fn bio(dice: &mut Dice) -> String {
    let (one, other) = (dice.pick(&TOPICS), dice.pick(&TOPICS));
    match dice.below(5) {
        0 => format!("{} by day. {one} and {other}.", article(dice.pick(&TRADES))),
        1 => format!("mostly {one}, sometimes {other}"),
        2 => format!("{}\n{one} · {other} · tea", article(dice.pick(&TRADES))),
        3 => format!("here for the {one}"),
        _ => format!("{one}, {other}, and opinions about both. Views are the cat's."),
    }
}

fn article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if an { "An" } else { "A" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dice::Purpose,
        words::{CREATURES, TRAITS},
    };

    #[test]
    fn facets_point_at_what_they_say() {
        let mut dice = Dice::new(3, Purpose::Script);
        let mut seen = 0;
        for _ in 0..2_000 {
            let grammar = language(&mut dice);
            let mut writing = post(&mut dice, grammar);
            writing.mention("calm-otter.demo.test", "did:plc:x");
            assert!(gp_atproto::lexicon::count_graphemes_up_to(&writing.text, 301) <= 300, "{}", writing.text);
            for facet in &writing.facets {
                let shown = &writing.text[facet.start..facet.end];
                match &facet.feature {
                    Feature::Mention(_) => assert_eq!(shown, "@calm-otter.demo.test"),
                    Feature::Tag(tag) => assert_eq!(shown, format!("#{tag}")),
                    Feature::Link(uri) => assert!(uri.contains(shown.trim_end_matches("..."))),
                }
                seen += 1;
            }
        }
        assert!(seen > 2_200, "tags and links occur: {seen}");
    }

    #[test]
    fn shares_and_lists() {
        assert_eq!(LANGUAGES.iter().map(|it| it.share).sum::<usize>(), 100);
        let unique = |words: &[&str]| words.iter().collect::<std::collections::HashSet<_>>().len();
        assert_eq!(unique(&TRAITS), TRAITS.len());
        assert_eq!(unique(&CREATURES), CREATURES.len());
    }
}
