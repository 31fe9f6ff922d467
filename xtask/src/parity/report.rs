//! What a run came to: a line for each call, differences with what was asked, and how often known faults were met.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    calls::{Against, Case},
    client::Answer,
    compare::shown,
    engine::Used,
    explained::ENTRIES,
    oracle::Played,
};

/// Differences of one call that are printed; all of them are counted.
const SHOWN_MAX: usize = 5;

/// Whose answers a call was compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum With {
    #[default]
    Reference,
    Oracle,
}

impl From<Against> for With {
    fn from(against: Against) -> Self {
        match against {
            Against::Reference => With::Reference,
            Against::Oracle(_) | Against::Play(_) => With::Oracle,
        }
    }
}

/// The figures of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) against: With,
    /// Requests, a walk through a list being one.
    pub(super) requests: u64,
    /// Calls to us, each page of a walk being one.
    pub(super) calls: u64,
    /// Answers with something in them.
    pub(super) hits: u64,
    pub(super) refused: u64,
    pub(super) pages: u64,
    pub(super) differences: u64,
    pub(super) explained: u64,
    /// Requests that were answered with "not offered by this build".
    pub(super) not_built: u64,
}

impl Line {
    pub(super) fn count(&mut self, answer: &Answer, pages: usize, calls: u64) {
        self.calls += calls;
        self.pages += pages as u64;
        match answer {
            Ok(value) => self.hits += u64::from(has_something(value)),
            Err(_) => self.refused += 1,
        }
    }
}

/// Whether anything in an answer says more than "nothing".
fn has_something(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(has_something),
        Value::Object(object) => object.values().any(has_something),
    }
}

/// A difference that nothing explains.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    request: String,
    pub(super) lines: Vec<String>,
}

impl Difference {
    pub(super) fn of(case: &Case, lines: Vec<String>) -> Self {
        let walk = case.walk.as_ref().map(|limits| format!(" in pages of {limits:?}")).unwrap_or_default();
        Self { request: format!("{}{walk}", shown_request(&case.request)), lines }
    }
}

fn shown_request(request: &serde_json::Value) -> String {
    const REQUEST_SHOWN_MAX: usize = 600;
    let text = request.to_string();
    if text.len() <= REQUEST_SHOWN_MAX { text } else { shown(Some(request)) }
}

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(super) lines: BTreeMap<&'static str, Line>,
    shown: BTreeMap<&'static str, Vec<Difference>>,
    used: Used,
    /// Whether no call was left out by a filter.
    pub(super) whole: bool,
    pub(super) seconds: f64,
}

impl Report {
    pub(super) fn add(
        &mut self,
        rpc: &'static str,
        line: Line,
        entries: &[&'static str],
        difference: Option<Difference>,
    ) {
        let sum = self.lines.entry(rpc).or_default();
        sum.requests += line.requests;
        sum.calls += line.calls;
        sum.hits += line.hits;
        sum.refused += line.refused;
        sum.pages += line.pages;
        sum.explained += line.explained;
        sum.not_built += line.not_built;
        for entry in entries.iter().collect::<BTreeSet<_>>() {
            *self.used.entry(entry).or_default() += 1;
        }
        if let Some(difference) = difference {
            sum.differences += 1;
            let shown = self.shown.entry(rpc).or_default();
            if shown.len() < SHOWN_MAX {
                shown.push(difference);
            }
        }
    }

    pub(super) fn played(&mut self, rpc: &'static str, played: Played) {
        let line = self.lines.entry(rpc).or_default();
        (line.requests, line.calls, line.hits) = (line.requests + 1, line.calls + played.calls, line.hits + 1);
        for wrong in played.wrong {
            line.differences += 1;
            let shown = self.shown.entry(rpc).or_default();
            if shown.len() < SHOWN_MAX {
                shown.push(Difference { request: String::new(), lines: vec![wrong] });
            }
        }
    }

    /// Differences that nothing explains.
    pub(super) fn unexplained(&self) -> u64 {
        self.lines.values().map(|line| line.differences).sum()
    }

    fn compared(&self) -> usize {
        self.lines.values().filter(|line| line.requests > 0 && line.not_built < line.requests).count()
    }

    /// Whether every call was compared and nothing differs. A run with a filter answers for what it made.
    pub(crate) fn holds(&self) -> bool {
        self.unexplained() == 0 && (!self.whole || self.compared() == gp_proto::METHODS.len())
    }

    /// Prints everything. `again` are the arguments that make the same run.
    pub(super) fn print(&self, again: &str) {
        println!();
        println!(
            "{:<48} {:<9} {:>6} {:>7} {:>6} {:>7} {:>6} {:>6} {:>9}",
            "call", "against", "asked", "calls", "hits", "refused", "pages", "differ", "explained"
        );
        for (rpc, line) in &self.lines {
            let against = match line.against {
                _ if line.requests > 0 && line.not_built == line.requests => "not built",
                With::Reference => "reference",
                With::Oracle => "oracle",
            };
            println!(
                "{rpc:<48} {against:<9} {:>6} {:>7} {:>6} {:>7} {:>6} {:>6} {:>9}",
                line.requests, line.calls, line.hits, line.refused, line.pages, line.differences, line.explained
            );
        }
        for (rpc, differences) in &self.shown {
            println!();
            for difference in differences {
                println!("{rpc} {}", difference.request);
                difference.lines.iter().for_each(|line| println!("    {line}"));
            }
            let more = self.lines[rpc].differences as usize - differences.len();
            if more > 0 {
                println!("    and {more} more requests of {rpc} with differences");
            }
            println!("    again: cargo xtask parity {again} --rpc {rpc}");
        }
        println!();
        println!("known faults of the reference that were met:");
        for entry in ENTRIES {
            match self.used.get(entry.id) {
                Some(times) => println!("  {times:>6} {:<20} {}", entry.id, entry.what),
                None => println!("       - {:<20} not met: is the entry still needed?", entry.id),
            }
        }
        let calls: u64 = self.lines.values().map(|line| line.calls).sum();
        let of = |with: With| {
            self.lines.values().filter(|line| line.against == with && line.requests > line.not_built).count()
        };
        println!();
        println!(
            "{}/{} RPCs compared ({} with the reference, {} with an oracle), {calls} calls, {} unexplained differences, {:.0} s",
            self.compared(),
            gp_proto::METHODS.len(),
            of(With::Reference),
            of(With::Oracle),
            self.unexplained(),
            self.seconds
        );
    }
}

/// The entries as a table of Markdown.
pub(super) fn explained_table() -> String {
    let mut table = String::from(
        "| Fault | Calls | What the reference does | Why ours is right, and how it is compared |\n|---|---|---|---|\n",
    );
    for entry in ENTRIES {
        let calls = match entry.rpcs {
            [] => "all".to_owned(),
            [first, .., last] if entry.rpcs.len() > 6 => format!("{first} to {last} ({})", entry.rpcs.len()),
            some => some.join(", "),
        };
        table.push_str(&format!("| {} | {calls} | {} | {} |\n", entry.id, entry.what, entry.why));
    }
    table
}
