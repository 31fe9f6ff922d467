//! Counting what a reader takes for one character.

use unicode_segmentation::UnicodeSegmentation;

/// Extended grapheme clusters in `text`, or any number above `max` as soon as there are more than that.
///
/// Text in ASCII, and text of no more than `max` code points, is judged without looking at cluster boundaries.
pub fn count_up_to(text: &str, max: usize) -> usize {
    if text.len() <= max {
        // Only "at most" matters to the caller, and a cluster has at least one byte.
        return text.len();
    }
    if text.is_ascii() {
        // In ASCII, carriage return with line feed is the only cluster of two.
        let pairs = text.as_bytes().windows(2).filter(|pair| pair == b"\r\n").count();
        return text.len() - pairs;
    }
    text.graphemes(true).take(max.saturating_add(1)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_a_reader_counts() {
        for (text, count) in [
            ("", 0),
            ("abc", 3),
            ("a\r\nb", 3),
            ("\n\r", 2),
            ("e\u{301}\u{323}", 1),
            ("👩🏽\u{200d}🌾", 1),
            ("🇬🇧🇬🇧🇬", 3),
            ("क्ष", 1),
            ("\u{1112}\u{1161}\u{11ab}", 1),
        ] {
            // A limit of zero never lets the short cut decide.
            assert_eq!(count_up_to(text, 0).min(1), count.min(1), "{text:?}");
            assert_eq!(text.graphemes(true).count(), count, "{text:?}");
            assert!(count_up_to(text, count) <= count, "{text:?}");
            assert!(count == 0 || count_up_to(text, count - 1) > count - 1, "{text:?}");
        }
    }
}
