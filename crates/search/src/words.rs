//! How text becomes words, the same way for what is kept and for what is asked.
//!
//! Letters are folded: case, diacritics of alphabets and of Arabic and Hebrew, half and full width. Scripts that are
//! written without spaces, and Korean, whose words carry their particles with them, are kept as pairs of neighbouring
//! characters, so that any piece of two or more characters is found wherever it stands. An apostrophe joins a word:
//! `don't` is `dont`; its parts are kept beside it, so that `amour` finds `l'amour`. A picture character is a word.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Words kept of one text. The longest text that a record may have holds fewer.
pub(crate) const WORDS_MAX: usize = 4_096;

/// Words next to each other that are looked for; a longer phrase is found by its beginning.
const PHRASE_WORDS_MAX: usize = 64;

/// Characters of a word that are looked at; what is longer is no word of a language.
const WORD_CHARS_MAX: usize = 64;

/// Characters of a text that are looked at, folded ones.
const TEXT_CHARS_MAX: usize = 20_000;

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) position: usize,
}

/// A word that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sought {
    /// This word.
    Word(String),
    /// Any pair that begins with this character, or the character alone.
    Begins(String),
}

/// Words that are looked for next to each other, each with its distance from the first.
pub(crate) type Phrase = Vec<(usize, Sought)>;

/// Folds letters: `Ça` is `ca`, `ﾈｺ` is `ネコ`, `أحمد` is `احمد`.
pub(crate) fn fold(text: &str) -> String {
    text.nfkd()
        .filter(|c| !is_folded_away(*c))
        .flat_map(char::to_lowercase)
        // Lower case can make marks of its own, as of the Turkish İ.
        .filter(|c| !is_folded_away(*c))
        .flat_map(plain)
        .nfc()
        .take(TEXT_CHARS_MAX)
        .collect()
}

/// Marks that are not written by everybody: diacritics of Latin, Greek and Cyrillic, vowel marks of Arabic and Hebrew,
/// and what only shapes a glyph.
fn is_folded_away(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{640}' | '\u{64b}'..='\u{65f}'
        | '\u{670}' | '\u{6d6}'..='\u{6ed}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{ad}')
}

/// Letters that decompose to nothing and yet have a plain form.
fn plain(c: char) -> impl Iterator<Item = char> {
    let (first, second) = match c {
        'ß' => ('s', Some('s')),
        'æ' => ('a', Some('e')),
        'œ' => ('o', Some('e')),
        'þ' => ('t', Some('h')),
        'ø' => ('o', None),
        'ł' => ('l', None),
        'đ' | 'ð' => ('d', None),
        'ħ' => ('h', None),
        'ı' => ('i', None),
        'ς' => ('σ', None),
        // Endings that are typed either way.
        'ى' => ('ي', None),
        'ة' => ('ه', None),
        c => (c, None),
    };
    std::iter::once(first).chain(second)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A letter or digit of a script with spaces.
    Letter,
    /// A character of a script that is kept in pairs.
    Paired,
    /// A word of its own.
    Picture,
    /// Joins two letters.
    Apostrophe,
    /// Between words.
    Other,
}

fn class(c: char) -> Class {
    match c {
        '\'' | '’' | 'ʼ' | '＇' | '‘' => Class::Apostrophe,
        // Marks and signs inside the ranges below.
        '\u{e3f}' | '\u{e4f}' | '\u{e5a}' | '\u{e5b}' | '\u{30fb}' | '\u{30a0}' | '\u{104a}'..='\u{104f}' => {
            Class::Other
        }
        // Thai, Lao, Burmese, Khmer.
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17d3}' => Class::Paired,
        // Korean.
        '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7ff}' => Class::Paired,
        // Kana and Han.
        '\u{3005}'..='\u{3007}'
        | '\u{3040}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Class::Paired,
        '\u{2600}'..='\u{27bf}' | '\u{1f1e6}'..='\u{1f1ff}' | '\u{1f300}'..='\u{1f3fa}' | '\u{1f400}'..='\u{1faff}' => {
            Class::Picture
        }
        c if c.is_alphanumeric() || is_combining_mark(c) => Class::Letter,
        _ => Class::Other,
    }
}

/// A stretch of folded text.
enum Stretch {
    /// The parts of a word that apostrophes join.
    Joined(Vec<String>),
    /// Characters kept in pairs.
    Paired(Vec<char>),
    Picture(char),
}

fn stretches(folded: &str) -> Vec<Stretch> {
    let mut out: Vec<Stretch> = Vec::new();
    // Whether the last stretch may go on, and whether an apostrophe has been seen since.
    let (mut open, mut apostrophe) = (false, false);
    for c in folded.chars() {
        match class(c) {
            Class::Letter => {
                match out.last_mut() {
                    Some(Stretch::Joined(parts)) if open => {
                        if apostrophe {
                            parts.push(String::new());
                        }
                        if let Some(part) = parts.last_mut()
                            && part.len() < 4 * WORD_CHARS_MAX
                        {
                            part.push(c);
                        }
                    }
                    _ => out.push(Stretch::Joined(vec![c.to_string()])),
                }
                (open, apostrophe) = (true, false);
            }
            Class::Paired => {
                match out.last_mut() {
                    Some(Stretch::Paired(chars)) if open && !apostrophe => chars.push(c),
                    _ => out.push(Stretch::Paired(vec![c])),
                }
                (open, apostrophe) = (true, false);
            }
            Class::Picture => {
                out.push(Stretch::Picture(c));
                (open, apostrophe) = (false, false);
            }
            // One apostrophe between two letters joins; two in a row, or one at an end, quote.
            Class::Apostrophe if open && !apostrophe => apostrophe = true,
            Class::Apostrophe | Class::Other => (open, apostrophe) = (false, false),
        }
        if out.len() > WORDS_MAX {
            break;
        }
    }
    out
}

fn cut(word: &str) -> String {
    word.chars().take(WORD_CHARS_MAX).collect()
}

fn pair(chars: &[char]) -> String {
    chars.iter().collect()
}

/// The words of a text that is kept.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let mut out = Vec::new();
    let mut position = 0;
    for stretch in stretches(&fold(text)) {
        if out.len() >= WORDS_MAX {
            break;
        }
        match stretch {
            Stretch::Joined(parts) => {
                out.push(Word { text: cut(&parts.concat()), position });
                if parts.len() > 1 {
                    out.extend(parts.iter().map(|part| Word { text: cut(part), position }));
                }
                position += 1;
            }
            Stretch::Paired(chars) => {
                for at in 0..chars.len() {
                    out.push(Word { text: pair(&chars[at..(at + 2).min(chars.len())]), position });
                    position += 1;
                }
            }
            Stretch::Picture(c) => {
                out.push(Word { text: c.to_string(), position });
                position += 1;
            }
        }
    }
    out.truncate(WORDS_MAX);
    out
}

/// What to look for so that `text` is found as it stands: its words next to each other. Empty if it holds no word.
pub(crate) fn phrase(text: &str) -> Phrase {
    let mut out = Vec::new();
    let mut position = 0;
    for stretch in stretches(&fold(text)) {
        match stretch {
            Stretch::Joined(parts) => {
                out.push((position, Sought::Word(cut(&parts.concat()))));
                position += 1;
            }
            Stretch::Paired(chars) => {
                match &chars[..] {
                    [alone] => out.push((position, Sought::Begins(alone.to_string()))),
                    chars => out
                        .extend(chars.windows(2).enumerate().map(|(at, two)| (position + at, Sought::Word(pair(two))))),
                }
                position += chars.len();
            }
            Stretch::Picture(c) => {
                out.push((position, Sought::Word(c.to_string())));
                position += 1;
            }
        }
    }
    out.truncate(PHRASE_WORDS_MAX);
    out
}

/// Beginnings under which a name is found while somebody types: of each of its words, and each character and pair of
/// those that are kept in pairs.
pub(crate) fn beginnings(text: &str, chars_max: usize, out: &mut Vec<String>) {
    for stretch in stretches(&fold(text)) {
        match stretch {
            Stretch::Joined(parts) => {
                prefixes(&parts.concat(), chars_max, out);
                if parts.len() > 1 {
                    parts.iter().for_each(|part| prefixes(part, chars_max, out));
                }
            }
            Stretch::Paired(chars) => {
                for at in 0..chars.len() {
                    out.push(chars[at].to_string());
                    if at + 1 < chars.len() {
                        out.push(pair(&chars[at..at + 2]));
                    }
                }
            }
            Stretch::Picture(c) => out.push(c.to_string()),
        }
    }
}

/// Every beginning of a word, up to `chars_max` characters.
pub(crate) fn prefixes(word: &str, chars_max: usize, out: &mut Vec<String>) {
    let ends = word.char_indices().map(|(at, c)| at + c.len_utf8()).take(chars_max);
    out.extend(ends.map(|end| word[..end].to_owned()));
}

/// What to look for among [`beginnings`] so that a name with these words is found.
pub(crate) fn sought_beginnings(text: &str, chars_max: usize) -> Vec<String> {
    let mut out = Vec::new();
    for stretch in stretches(&fold(text)) {
        match stretch {
            Stretch::Joined(parts) => out.push(parts.concat().chars().take(chars_max).collect()),
            Stretch::Paired(chars) if chars.len() > 1 => out.extend(chars.windows(2).map(pair)),
            Stretch::Paired(chars) => out.push(pair(&chars)),
            Stretch::Picture(c) => out.push(c.to_string()),
        }
    }
    out
}

/// Languages that the script of a question belongs to, of those that need care: `ja`, `zh`, `ko`, `th`, `ar`.
pub(crate) fn languages(text: &str) -> Vec<&'static str> {
    let (mut kana, mut han, mut hangul, mut thai, mut arabic) = (false, false, false, false, false);
    for c in text.chars() {
        match c {
            '\u{3040}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' => {
                kana = true
            }
            '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' => {
                han = true;
            }
            '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7ff}' => hangul = true,
            '\u{e00}'..='\u{e7f}' => thai = true,
            '\u{600}'..='\u{6ff}'
            | '\u{750}'..='\u{77f}'
            | '\u{8a0}'..='\u{8ff}'
            | '\u{fb50}'..='\u{fdff}'
            | '\u{fe70}'..='\u{feff}' => arabic = true,
            _ => {}
        }
    }
    let mut out = Vec::new();
    // Kana is written in Japanese only; Han alone may be either.
    if kana {
        out.push("ja");
    } else if han {
        out.extend(["zh", "ja"]);
    }
    out.extend([(hangul, "ko"), (thai, "th"), (arabic, "ar")].iter().filter(|(is, _)| *is).map(|(_, code)| *code));
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.text).collect()
    }

    /// Whether a text is found by a question: all its words next to each other.
    fn finds(question: &str, text: &str) -> bool {
        let kept = words(text);
        let sought = phrase(question);
        !sought.is_empty()
            && kept.iter().any(|first| {
                sought.iter().all(|(at, sought)| {
                    kept.iter().any(|word| {
                        word.position == first.position + at
                            && match sought {
                                Sought::Word(text) => word.text == *text,
                                Sought::Begins(text) => word.text.starts_with(text.as_str()),
                            }
                    })
                })
            })
    }

    #[test]
    fn letters_are_folded() {
        assert_eq!(fold("Ça STRAẞE Ærø İstanbul ΣΊΣΥΦΟΣ"), "ca strasse aero istanbul σισυφοσ");
        assert_eq!(fold("ﾈｺ ｶﾞ Ｗｉｄｅ"), "ネコ ガ wide");
        assert_eq!(fold("مُحَمَّد أحمد"), "محمد احمد");
        // Marks that are letters stay.
        assert_eq!(fold("हिन्दी"), "हिन्दी");
    }

    #[test]
    fn apostrophes_join_and_their_parts_are_kept() {
        assert_eq!(texts("don't"), ["dont", "don", "t"]);
        assert_eq!(texts("l’amour 'quoted' it''s"), ["lamour", "l", "amour", "quoted", "it", "s"]);
        assert!(finds("amour", "l'amour") && finds("dont", "Don’t") && finds("don't", "dont") && finds("bob", "Bob's"));
    }

    #[test]
    fn scripts_without_spaces_are_found_by_any_piece() {
        for (piece, text) in [
            ("東京", "昨日、東京タワーに行きました"),
            ("タワー", "昨日、東京タワーに行きました"),
            ("猫", "うちの猫"),
            ("猫", "猫はかわいい"),
            ("天气", "今天天气很好"),
            ("สวัสดี", "กล่าวสวัสดีครับ"),
            ("한국", "한국어를 배워요"),
            ("السلام", "السَّلَامُ عليكم"),
            ("ภาษาไทย", "ฉันพูดภาษาไทยได้"),
        ] {
            assert!(finds(piece, text), "{piece} in {text}");
        }
        // Not its characters in another order, nor with others between them.
        assert!(!finds("京東", "東京") && !finds("東京", "東の京"));
    }

    #[test]
    fn what_has_several_words_is_sought_as_it_stands() {
        assert_eq!(phrase("example.com").len(), 2);
        assert!(finds("example.com", "see https://example.com/x"));
        assert!(!finds("example.com", "com example"));
        assert_eq!(phrase("!!! ..."), []);
        assert!(finds("🎉", "party 🎉🎉"));
    }

    #[test]
    fn names_are_found_while_they_are_typed() {
        let mut kept = Vec::new();
        beginnings("Marvellous Marsupial 東京", 16, &mut kept);
        for typed in ["m", "marv", "marsupial", "MARS", "東京", "京"] {
            assert!(sought_beginnings(typed, 16).iter().all(|sought| kept.contains(sought)), "{typed}");
        }
        for typed in ["arv", "ous", "大"] {
            assert!(!sought_beginnings(typed, 16).iter().all(|sought| kept.contains(sought)), "{typed}");
        }
    }

    #[test]
    fn scripts_tell_languages() {
        assert_eq!(languages("東京"), ["zh", "ja"]);
        assert_eq!(languages("東京タワー"), ["ja"]);
        assert_eq!(languages("한국 ไทย عربي"), ["ko", "th", "ar"]);
        assert!(languages("hello мир").is_empty());
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,80}|[\u{0}-\u{10ffff}]{0,40}") {
            let kept = words(&text);
            let _ = (phrase(&text), languages(&text), sought_beginnings(&text, 16));
            let mut begun = Vec::new();
            beginnings(&text, 16, &mut begun);
            prop_assert!(kept.iter().all(|word| !word.text.is_empty()));
            prop_assert!(kept.windows(2).all(|two| two[0].position <= two[1].position));
            // A text is found by itself.
            if !kept.is_empty() {
                prop_assert!(finds(&text, &text), "{text:?}");
            }
        }
    }
}
