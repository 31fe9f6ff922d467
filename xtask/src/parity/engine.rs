//! Makes the calls, compares, explains, and counts.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::{
    calls::{Against, Case, Maker, ROWS, Row, row},
    client::{Answer, Client, code},
    compare::{differences, normal, shown},
    explained::{ENTRIES, Seen, Verdict, WHOLE},
    oracle::Judge,
    planes::{Ours, Reference},
    report::{Difference, Line, Report},
    search::hidden_by,
    state::State,
    world::World,
};

/// Requests that are compared at the same time.
const AT_ONCE: usize = 6;

/// Most pages of one list. Both planes end theirs long before.
const PAGES_MAX: usize = 2_000;

/// How often known faults are looked for in one pair of answers, one after the other: a timeline of a busy network meets
/// eight of them, each up to twice.
const ROUNDS_MAX: usize = 16;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Both planes, and what is known of what they were fed.
pub(super) struct Engine {
    ours: Ours,
    reference: Reference,
    world: World,
    state: State,
    /// Accounts and records that the calls that write have hidden.
    hidden: OnceLock<HashSet<String>>,
    clock_us: i64,
    /// Where pairs of answers that differ are written whole, for whoever looks into them.
    pairs: std::path::PathBuf,
}

/// What one plane answered.
struct Heard {
    /// The answer; of a walk all pages put together.
    answer: Answer,
    /// Items of each page.
    pages: Vec<usize>,
    /// The token of the first page, where another followed.
    first_cursor: Option<String>,
    calls: u64,
}

/// What one case came to.
struct Outcome {
    rpc: &'static str,
    line: Line,
    entries: Vec<&'static str>,
    difference: Option<Difference>,
}

impl Engine {
    pub(super) fn new(
        ours: Ours,
        reference: Reference,
        world: World,
        state: State,
        clock_us: i64,
        pairs: std::path::PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self { ours, reference, world, state, hidden: OnceLock::new(), clock_us, pairs })
    }

    fn keep(&self, case: &Case, ours: &Answer, theirs: Option<&Answer>, lines: &[String]) -> Result<()> {
        let told = |answer: &Answer| match answer {
            Ok(value) => value.clone(),
            Err(refusal) => json!({ "status": refusal.code, "message": refusal.message }),
        };
        let pair = json!({
            "rpc": case.rpc, "request": case.request, "walk": case.walk, "ours": told(ours),
            "reference": theirs.map(told), "differences": lines,
        });
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.pairs)?;
        Ok(std::io::Write::write_all(&mut file, format!("{pair}\n").as_bytes())?)
    }

    fn judge(&self) -> Judge<'_> {
        Judge { world: &self.world, hidden: self.hidden.get_or_init(HashSet::new) }
    }

    /// Makes every call whose name contains the filter.
    pub(super) async fn run(
        self: &Arc<Self>,
        seed: u64,
        count: usize,
        hostile_step: usize,
        filter: Option<&str>,
    ) -> Result<Report> {
        // A call is drawn with the same dice whether others are asked for or not.
        let rows: Vec<(usize, &'static Row)> =
            ROWS.iter().enumerate().filter(|(_, row)| filter.is_none_or(|filter| row.name.contains(filter))).collect();
        ensure!(!rows.is_empty(), "no call of the contract has {:?} in its name", filter.unwrap_or_default());
        let (mut writes, mut reads, mut report) = (Vec::new(), Vec::new(), Report::default());
        for (number, row) in &rows {
            report.lines.insert(row.name, Line { against: row.against.into(), ..Line::default() });
            let mut maker = Maker {
                world: &self.world,
                state: &self.state,
                dice: StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(*number as u64)),
                count,
                hostile_step,
                rpc: row.name,
                writes: row.writes,
                cases: Vec::new(),
            };
            (row.make)(&mut maker);
            if row.writes { &mut writes } else { &mut reads }.append(&mut maker.cases);
        }
        let mut hidden = HashSet::new();
        for case in &writes {
            match hidden_by(case) {
                Some((name, true)) => _ = hidden.insert(name.to_owned()),
                Some((name, false)) => _ = hidden.remove(name),
                None => {}
            }
        }
        self.hidden.set(hidden).expect("one run for each engine");
        for (_, row) in &rows {
            if let Against::Play(play) = row.against {
                let played = play(&self.ours.client, self.judge(), count).await?;
                report.played(row.name, played);
            }
        }
        for case in writes {
            report.add_outcome(self.compared(case).await?);
        }
        self.read(reads, &mut report).await?;
        report.whole = filter.is_none();
        Ok(report)
    }

    async fn read(self: &Arc<Self>, cases: Vec<Case>, report: &mut Report) -> Result<()> {
        let (begun, all) = (Instant::now(), cases.len());
        let mut told = begun;
        let mut running: JoinSet<Result<Outcome>> = JoinSet::new();
        let mut cases = cases.into_iter();
        let mut done = 0;
        loop {
            while running.len() < AT_ONCE
                && let Some(case) = cases.next()
            {
                let engine = Arc::clone(self);
                running.spawn(async move { engine.compared(case).await });
            }
            let Some(outcome) = running.join_next().await else { return Ok(()) };
            let outcome = outcome??;
            let rpc = outcome.rpc;
            report.add_outcome(outcome);
            done += 1;
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let rate = f64::from(done) / begun.elapsed().as_secs_f64();
                println!(
                    "{done} of {all} requests compared, {rate:.0} a second, {:.0} s to go, at {rpc}, {} unexplained",
                    (all as f64 - f64::from(done)) / rate,
                    report.unexplained()
                );
            }
        }
    }

    async fn compared(&self, case: Case) -> Result<Outcome> {
        let row = row(case.rpc).expect("cases are made by rows");
        let mut line = Line { requests: 1, ..Line::default() };
        let mut outcome = Outcome { rpc: case.rpc, line: Line::default(), entries: Vec::new(), difference: None };
        if let Against::Oracle(check) = row.against {
            let ours = self.hear(&self.ours.client, &case, &case.request).await?;
            line.count(&ours.answer, ours.pages.len(), ours.calls);
            if ours.answer.as_ref().is_err_and(|refusal| refusal.code == code::UNIMPLEMENTED) {
                line.not_built = 1;
            } else if let Err(wrong) = check(self.judge(), &case, &ours.answer) {
                self.keep(&case, &ours.answer, None, std::slice::from_ref(&wrong))?;
                outcome.difference = Some(Difference::of(&case, vec![wrong]));
            }
            outcome.line = line;
            return Ok(outcome);
        }
        let (ours, theirs) = tokio::try_join!(
            self.hear(&self.ours.client, &case, &case.request),
            self.hear(&self.reference.client, &case, &case.request)
        )?;
        line.count(&ours.answer, ours.pages.len(), ours.calls.max(theirs.calls));
        if ours.answer.as_ref().is_err_and(|refusal| refusal.code == code::UNIMPLEMENTED) {
            line.not_built = 1;
            outcome.line = line;
            return Ok(outcome);
        }
        let mut one = normal(case.rpc, &ours.answer, self.clock_us);
        let mut other = normal(case.rpc, &theirs.answer, self.clock_us);
        let mut asked_whole = false;
        for _ in 0..ROUNDS_MAX {
            if one == other {
                break;
            }
            let Some((id, verdict)) = self.explain(&case, &one, &other, &outcome.entries, asked_whole) else { break };
            match verdict {
                Verdict::No => {}
                Verdict::Edited(ours, theirs) => (one, other) = (ours, theirs),
                Verdict::Instead(request, back) => {
                    let mut heard = self.hear(&self.reference.client, &case, &request).await?.answer;
                    if let Ok(answer) = &mut heard {
                        texts(answer, back);
                    }
                    other = normal(case.rpc, &heard, self.clock_us);
                }
                Verdict::Whole => {
                    let whole = Case { walk: Some(vec![WHOLE]), ..case.clone() };
                    let heard = self.hear(&self.reference.client, &whole, &case.request).await?;
                    other = normal(case.rpc, &heard.answer, self.clock_us);
                    asked_whole = true;
                }
                Verdict::Apart(field) => other = normal(case.rpc, &self.apart(&case, field).await?, self.clock_us),
            }
            (one, other) = (pruned(one), pruned(other));
            outcome.entries.push(id);
        }
        let mut found = differences(&one, &other);
        if found.is_empty() && outcome.entries.is_empty() && ours.answer.is_ok() {
            // Notifications that are left out make our pages shorter, which the contract allows.
            if ours.pages != theirs.pages && case.rpc != "GetNotifications" {
                found.push(format!("the pages have {:?} items, the reference's {:?}", ours.pages, theirs.pages));
            } else if let Some(wrong) = self.goes_on_from(&case, &theirs).await? {
                found.push(wrong);
            }
        }
        if found.is_empty() {
            line.explained = u64::from(!outcome.entries.is_empty());
        } else {
            let mut difference = Difference::of(&case, found);
            if let (Err(ours), _) | (_, Err(ours)) = (&ours.answer, &theirs.answer) {
                difference.lines.push(format!("the refusal says {:?}", ours.message));
            }
            self.keep(&case, &one, Some(&other), &difference.lines)?;
            outcome.difference = Some(difference);
            outcome.entries.clear();
        }
        outcome.line = line;
        Ok(outcome)
    }

    /// The first entry that has something to say and has not said it yet.
    fn explain(
        &self,
        case: &Case,
        ours: &Answer,
        theirs: &Answer,
        used: &[&str],
        asked_whole: bool,
    ) -> Option<(&'static str, Verdict)> {
        let seen = Seen { by: self.judge(), case, ours, theirs, asked_whole };
        ENTRIES
            .iter()
            .filter(|entry| entry.rpcs.is_empty() || entry.rpcs.contains(&case.rpc))
            // One that asks the elements apart may have to look at what came of it.
            .filter(|entry| used.iter().filter(|id| **id == entry.id).count() < 2)
            .find_map(|entry| match (entry.judge)(&seen) {
                Verdict::No => None,
                verdict => Some((entry.id, verdict)),
            })
    }

    /// Clients hold tokens of the reference across a change of the plane: ours goes on from the reference's first one.
    async fn goes_on_from(&self, case: &Case, theirs: &Heard) -> Result<Option<String>> {
        let (Some(cursor), Some(limits)) = (&theirs.first_cursor, &case.walk) else { return Ok(None) };
        // Tokens of a random order cannot go on, nor those that are a time by the reference's own clock.
        if matches!(case.rpc, "GetFollowSuggestions" | "GetActorDrafts" | "GetMutes") {
            return Ok(None);
        }
        // Pages of what was left out are short, and whose are shorter is free.
        if case.rpc == "GetNotifications" && case.request["priority"] == true {
            return Ok(None);
        }
        let mut request = case.request.clone();
        request["cursor"] = cursor.as_str().into();
        request["limit"] = limits.get(1).or(limits.first()).copied().unwrap_or(50).into();
        let (ours, theirs) = tokio::try_join!(
            self.ours.client.call(case.rpc, &request),
            self.reference.client.call(case.rpc, &request)
        )?;
        let cut = |answer: &Answer| {
            let mut answer = normal(case.rpc, answer, self.clock_us);
            if let Ok(Value::Object(answer)) = &mut answer {
                answer.remove("cursor");
            }
            answer
        };
        let found = differences(&cut(&ours), &cut(&theirs));
        Ok((!found.is_empty()).then(|| format!("after the reference's token {cursor:?}: {}", found.join("; "))))
    }

    /// The reference's answers for each element of a list, put together. What fails even alone is null.
    async fn apart(&self, case: &Case, field: &str) -> Result<Answer> {
        let mut glued: Map<String, Value> = Map::new();
        let elements = case.request[field].as_array().cloned().unwrap_or_default();
        let mut answers = Vec::new();
        for element in elements {
            let mut request = case.request.clone();
            request[field] = json!([element]);
            answers.push(self.reference.client.call(case.rpc, &request).await?);
        }
        // Defaults are not on the wire, so what a list holds is known from all answers together.
        let outputs: &[(&str, Value)] = match case.rpc {
            "GetRelationships" => &[("relationships", json!({}))],
            "GetBlockExistence" => &[("blocks", json!({})), ("exists", json!(false))],
            "GetNotificationPreferences" => &[("preferences", json!({}))],
            _ => &[],
        };
        for answer in answers {
            for (name, default) in outputs {
                let item = match &answer {
                    Ok(answer) => {
                        answer.get(*name).and_then(|list| list.get(0)).cloned().unwrap_or_else(|| default.clone())
                    }
                    Err(_) => Value::Null,
                };
                if let Value::Array(list) = glued.entry((*name).to_owned()).or_insert_with(|| json!([])) {
                    list.push(item);
                }
            }
        }
        Ok(Ok(Value::Object(glued)))
    }

    /// Asks one plane, page by page where the case is a walk.
    async fn hear(&self, client: &Client, case: &Case, request: &Value) -> Result<Heard> {
        let mut heard = Heard { answer: Ok(Value::Null), pages: Vec::new(), first_cursor: None, calls: 1 };
        let Some(limits) = &case.walk else {
            heard.answer = client.call(case.rpc, request).await?;
            // A token is opaque; whether there is one is not.
            if let Ok(Value::Object(answer)) = &mut heard.answer
                && let Some(cursor) = answer.get_mut("cursor")
            {
                *cursor = "some token".into();
            }
            return Ok(heard);
        };
        let (mut merged, mut cursor) = (Map::new(), String::new());
        loop {
            let mut request = request.clone();
            let limit = limits.get(heard.pages.len()).or(limits.last()).copied().unwrap_or(50);
            let place = if request["params"].is_object() { &mut request["params"] } else { &mut request };
            // One call has a limit and no tokens.
            place["limit"] = limit.into();
            if !cursor.is_empty() {
                place["cursor"] = cursor.as_str().into();
            }
            let page = match client.call(case.rpc, &request).await? {
                Ok(page) => page,
                Err(refusal) => {
                    heard.answer = Err(refusal);
                    return Ok(heard);
                }
            };
            let mut items = 0;
            for (name, value) in page.as_object().into_iter().flatten() {
                let Some(list) = value.as_array() else { continue };
                items = items.max(list.len());
                if let Value::Array(all) = merged.entry(name.clone()).or_insert_with(|| json!([])) {
                    all.extend_from_slice(list);
                }
            }
            heard.pages.push(items);
            heard.calls = heard.pages.len() as u64;
            let next = page["cursor"].as_str().or(page["pageInfo"]["cursor"].as_str()).unwrap_or_default();
            if next.is_empty() {
                heard.answer = Ok(Value::Object(merged));
                return Ok(heard);
            }
            ensure!(
                next != cursor,
                "{} gives the token {cursor:?} again and again: {}",
                case.rpc,
                shown(Some(&request))
            );
            ensure!(heard.pages.len() < PAGES_MAX, "{} does not end: {}", case.rpc, shown(Some(&request)));
            if heard.pages.len() == 1 {
                heard.first_cursor = Some(next.to_owned());
            }
            cursor = next.to_owned();
        }
    }
}

/// A list without items is no list on the wire.
fn pruned(answer: Answer) -> Answer {
    answer.map(|mut value| {
        if let Some(object) = value.as_object_mut() {
            object.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
        }
        value
    })
}

/// Changes every text in a value.
fn texts(value: &mut Value, change: fn(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| texts(item, change)),
        Value::Object(object) => object.values_mut().for_each(|item| texts(item, change)),
        _ => {}
    }
}

impl Report {
    fn add_outcome(&mut self, outcome: Outcome) {
        let Outcome { rpc, line, entries, difference } = outcome;
        self.add(rpc, line, &entries, difference);
    }
}

/// Entries by how often they were used.
pub(super) type Used = BTreeMap<&'static str, u64>;
