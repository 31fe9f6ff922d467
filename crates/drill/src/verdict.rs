//! What a check found: measured, bar, verdict.

use std::fmt::Write as _;

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every bar was met.
    Pass,
    /// A bar was not met.
    Fail,
    /// It was not run, and why. Never a pass.
    Skipped(String),
}

/// One check.
#[derive(Clone, Debug)]
pub struct Row {
    /// As the catalogue of failure modes has it, `F01`; a word for others.
    pub id: &'static str,
    /// What fails.
    pub name: &'static str,
    /// What was measured, in words and figures.
    pub measured: String,
    /// What was asked for.
    pub bar: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// Which of several bars were not met.
    pub missed: Vec<String>,
    /// What the twin did, where it must fail: `Ok` says how it failed, `Err` that it did not, which makes the row void.
    pub twin: Option<Result<String, String>>,
}

impl Row {
    /// A row that passes as long as nothing is held against it.
    pub fn new(id: &'static str, name: &'static str, bar: &'static str) -> Self {
        Self { id, name, measured: String::new(), bar, verdict: Verdict::Pass, missed: Vec::new(), twin: None }
    }

    /// A row that was not run.
    pub fn skipped(id: &'static str, name: &'static str, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped(why.into()), ..Self::new(id, name, "") }
    }

    /// Says what was measured.
    pub fn measure(&mut self, what: impl AsRef<str>) -> &mut Self {
        if !self.measured.is_empty() {
            self.measured.push_str("; ");
        }
        self.measured.push_str(what.as_ref());
        self
    }

    /// Holds something against it unless it holds.
    pub fn check(&mut self, holds: bool, what: impl Into<String>) -> &mut Self {
        if !holds {
            self.missed.push(what.into());
            self.verdict = Verdict::Fail;
        }
        self
    }

    /// Notes what the twin did.
    pub fn twin(&mut self, failed: bool, how: impl Into<String>) -> &mut Self {
        let how = how.into();
        if failed {
            self.twin = Some(Ok(how));
        } else {
            self.twin = Some(Err(how));
            self.missed.push("the twin does not fail: void".into());
            self.verdict = Verdict::Fail;
        }
        self
    }

    /// The verdict in a word.
    pub fn word(&self) -> &'static str {
        match &self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Skipped(_) => "skipped",
        }
    }

    /// The row as lines of text: what everybody wants to know first, and the rest below it.
    pub fn lines(&self) -> String {
        let mut out = format!("{:<4} {:<30} {:<7} ", self.id, self.name, self.word());
        match &self.verdict {
            Verdict::Skipped(why) => out.push_str(why),
            _ => out.push_str(&self.measured),
        }
        if !self.bar.is_empty() {
            let _ = write!(out, "\n       bar: {}", self.bar);
        }
        for missed in &self.missed {
            let _ = write!(out, "\n       missed: {missed}");
        }
        match &self.twin {
            Some(Ok(how)) => {
                let _ = write!(out, "\n       twin: fails, as it must: {how}");
            }
            Some(Err(how)) => {
                let _ = write!(out, "\n       twin: does NOT fail: {how}");
            }
            None => {}
        }
        out
    }
}

/// How many passed, failed and were skipped.
pub fn tally(rows: &[Row]) -> (u64, u64, u64) {
    let count = |word| rows.iter().filter(|row| row.word() == word).count() as u64;
    (count("pass"), count("FAIL"), count("skipped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_passes_until_something_is_held_against_it_and_a_twin_that_passes_makes_it_void() {
        let mut row = Row::new("F01", "large batches", "errors 0");
        row.measure("errors 0").measure("p99 3 ms").check(true, "never said");
        assert_eq!((row.word(), row.measured.as_str()), ("pass", "errors 0; p99 3 ms"));
        row.twin(true, "93 % failed");
        assert_eq!(row.word(), "pass");
        row.twin(false, "nothing failed");
        assert_eq!(row.word(), "FAIL");
        assert!(row.lines().contains("void"));
        let rows = [row, Row::skipped("F11", "cache down", "no memcached")];
        assert_eq!(tally(&rows), (0, 1, 1));
        assert!(rows[1].lines().ends_with("skipped no memcached"));
    }
}
