//! What is done about labels whose signature does not fit the labeler's key: perhaps the key is a new one.
//!
//! The labeler's document is asked for again at once, and then, while labels stay in doubt, at growing intervals for
//! about eight minutes. As soon as it names another key, the stream is read again from before the first label in doubt.
//! So a labeler may change its key before its document says so, and nothing is lost. A labeler that simply signs
//! wrongly costs a bounded number of questions, and its good labels do not wait for the answers.

use std::time::Duration;

use tokio::time::Instant;

/// Why a connection ends when there is another key.
pub(super) const NEW_KEY: &str = "the labeler has another key: what was refused is read again";

/// Between two questions for the document, at first; doubled after each one that changed nothing ...
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Questions in a row that changed nothing, after which the labels in doubt are given up.
const QUESTIONS_MAX: u32 = 24;

/// Doubt about the key of a labeler.
#[derive(Default)]
pub(super) struct Doubt {
    /// Whose key it is.
    src: String,
    /// The key that its document named last.
    key: Option<String>,
    /// When the document was last asked for because of a bad label.
    asked_at: Option<Instant>,
    /// Questions in a row that changed nothing.
    fruitless: u32,
    /// The position before the first frame with a label in doubt.
    refused_after: Option<i64>,
    /// A label was refused since the last question.
    unasked: bool,
}

impl Doubt {
    /// Whether the document may be asked for now. If so, that counts as a question.
    pub(super) fn may_ask(&mut self) -> bool {
        let may = self.asked_at.is_none_or(|at| at.elapsed() >= self.pause());
        if may {
            self.asked_at = Some(Instant::now());
            self.unasked = false;
            self.fruitless = self.fruitless.saturating_add(1);
        }
        may
    }

    fn pause(&self) -> Duration {
        match self.fruitless {
            0 => Duration::ZERO,
            n => PAUSE_MIN.saturating_mul(1 << (n - 1).min(16)).min(PAUSE_MAX),
        }
    }

    /// A label of the frame after this position was refused for its signature. `asked` tells whether that was by the
    /// answer to a question.
    pub(super) fn refused(&mut self, src: &str, after: i64, asked: bool) {
        if self.src == src {
            self.unasked |= !asked;
            if self.refused_after.is_none() && self.fruitless >= QUESTIONS_MAX {
                // What came before was given up: this is a new doubt.
                self.fruitless = 1;
            }
            self.refused_after = Some(self.refused_after.map_or(after, |at| at.min(after)));
        }
    }

    /// The document of `src` names this key. Returns the position after which to read again, if it is another key than
    /// before and labels are in doubt.
    pub(super) fn saw(&mut self, src: &str, key: Option<String>) -> Option<i64> {
        if self.src != src {
            let (asked_at, fruitless) = (self.asked_at, self.fruitless);
            *self = Self { src: src.to_owned(), key, asked_at, fruitless, ..Self::default() };
            return None;
        }
        // A document without a key is no other key: whoever removes it has not said which one holds now.
        if key.is_none() || key == self.key {
            return None;
        }
        self.key = key;
        self.fruitless = 0;
        self.unasked = false;
        self.refused_after.take()
    }

    /// Whose document to ask for next, and when; nothing if no label is in doubt. Gives up what was asked about often
    /// enough.
    pub(super) fn due(&mut self) -> Option<(String, Instant)> {
        self.refused_after?;
        if !self.unasked && self.fruitless >= QUESTIONS_MAX {
            self.refused_after = None;
            return None;
        }
        Some((self.src.clone(), self.asked_at? + self.pause()))
    }

    /// The position before the first frame with a label in doubt.
    pub(super) fn refused_after(&self) -> Option<i64> {
        self.refused_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: &str = "did:plc:labeleraaaaaaaaaaaaaaaaa";

    #[tokio::test(start_paused = true)]
    async fn questions_are_rarer_and_rarer_and_come_to_an_end() {
        let mut doubt = Doubt::default();
        assert_eq!(doubt.saw(SRC, Some("old".into())), None);
        assert!(doubt.due().is_none());
        assert!(doubt.may_ask());
        assert!(!doubt.may_ask());
        doubt.refused(SRC, 7, true);
        let (mut asked, begun) = (1, Instant::now());
        while let Some((src, at)) = doubt.due() {
            assert_eq!(src, SRC);
            tokio::time::sleep_until(at).await;
            assert!(doubt.may_ask());
            assert_eq!(doubt.saw(SRC, Some("old".into())), None);
            asked += 1;
        }
        assert_eq!(asked, QUESTIONS_MAX);
        assert!(begun.elapsed() > Duration::from_secs(300) && begun.elapsed() < Duration::from_secs(900));
        assert_eq!(doubt.refused_after(), None, "given up");
        assert!(!doubt.may_ask());
        doubt.refused(SRC, 8, false);
        assert_eq!(doubt.refused_after(), Some(8));
        let (_, at) = doubt.due().expect("a bad label in the pause is asked about when the pause is over");
        tokio::time::sleep_until(at).await;
        assert!(doubt.may_ask() && doubt.due().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn another_key_leads_back_to_the_first_label_in_doubt() {
        let mut doubt = Doubt::default();
        doubt.saw(SRC, Some("old".into()));
        assert!(doubt.may_ask());
        doubt.refused(SRC, 7, true);
        doubt.refused(SRC, 9, false);
        doubt.refused("did:plc:otheraaaaaaaaaaaaaaaaaaa", 3, false);
        assert_eq!(doubt.saw(SRC, None), None, "no key is not another key");
        assert_eq!(doubt.saw(SRC, Some("new".into())), Some(7));
        assert_eq!(doubt.saw(SRC, Some("newer".into())), None, "nothing is in doubt any more");
        assert!(doubt.due().is_none() && doubt.may_ask());
    }
}
