//! What searches must find and must not find, as far as it follows from the records alone.
//!
//! The reference looks for parts of texts, or has no such call, so its answers are no measure. What `docs/search.md`
//! promises is: nothing comes twice; whatever comes stands; and for a plain word, everything that comes has it, and
//! everything visible that has it comes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    calls::{Case, Maker},
    client::{Answer, code},
    oracle::Judge,
    world::{authority, collection, nsid::*},
};

/// What is younger than this is recent by any reading.
const SURELY_RECENT_US: i64 = 29 * 86_400_000_000;

/// Searches for words that the network has.
pub(super) fn searches(m: &mut Maker<'_>, field: &'static str, what: &'static str) {
    let words = m.words(what);
    let first = m.cases.len();
    m.searches(field, &words);
    if m.rpc == "SearchPostsV2" {
        for case in m.cases[first..].iter_mut().step_by(2) {
            case.request["allTime"] = true.into();
        }
    }
}

/// What a call looks for, and by which texts of a record.
struct Subject {
    collection: &'static str,
    texts: &'static [&'static str],
    /// The texts that are given whole to the search, so that a word of them must be enough.
    must: &'static [&'static str],
}

fn subject(rpc: &str) -> Subject {
    if rpc.contains("Posts") {
        Subject { collection: POST, texts: &["text", "tags", "embed", "facets"], must: &["text"] }
    } else if rpc.contains("Actors") {
        // Who has no display name that says so may be found by the handle or the DID, which no record has.
        Subject { collection: PROFILE, texts: &[], must: &["displayName"] }
    } else if rpc.contains("Feed") {
        Subject { collection: GENERATOR, texts: &["displayName", "description"], must: &["displayName"] }
    } else {
        Subject { collection: STARTER_PACK, texts: &["name", "description"], must: &["name"] }
    }
}

/// A word whose meaning no rule of the query language changes.
fn plain(query: &str) -> Option<String> {
    let is_plain = query.len() > 1 && query.len() < 40 && query.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_plain.then(|| query.to_ascii_lowercase())
}

/// Whether a text has a word, between characters that are no letters and join nothing.
fn has_word(text: &str, word: &str) -> bool {
    text.to_lowercase().split(|c: char| c.is_whitespace() || ".,;:!?()".contains(c)).any(|part| part == word)
}

/// Judges a search.
pub(super) fn search(judge: Judge<'_>, case: &Case, answer: &Answer) -> Result<(), String> {
    let answer = match answer {
        Err(refusal) if refusal.code == code::INVALID_ARGUMENT => return Ok(()),
        Err(refusal) => return Err(format!("refused with {}: {}", refusal.code, refusal.message)),
        Ok(answer) => answer,
    };
    let subject = subject(case.rpc);
    let mut found = BTreeSet::new();
    for field in ["uris", "dids", "posts", "actors", "feedGenerators", "starterPacks"] {
        for item in answer[field].as_array().into_iter().flatten() {
            let name = item.as_str().or(item["uri"].as_str()).or(item["did"].as_str()).unwrap_or_default();
            if !found.insert(name.to_owned()) {
                return Err(format!("{name} was found twice"));
            }
            let is_there = match subject.collection {
                PROFILE => judge.world.joined.contains_key(name) && !judge.world.deleted_dids.contains(name),
                kind => judge.world.stands(name) && collection(name) == kind,
            };
            if !is_there {
                return Err(format!("{name} was found and is not there"));
            }
        }
    }
    let query = case.request["params"]["query"]
        .as_str()
        .or(case.request["term"].as_str())
        .or(case.request["query"].as_str())
        .unwrap_or_default();
    let Some(word) = plain(query) else { return Ok(()) };
    for name in &found {
        let Some((_, record)) = judge.world.newest(name) else { continue };
        let texts: String = subject.texts.iter().map(|field| record[*field].to_string() + " ").collect();
        // Marks are taken off letters before words are compared, so only plain texts can be judged here.
        if !subject.texts.is_empty() && texts.is_ascii() && !texts.to_lowercase().contains(&word) {
            return Err(format!("{name} was found and does not have {word:?}"));
        }
    }
    // Calls without pages answer with the first so many.
    let is_cut = answer.as_object().into_iter().flatten().any(|(_, list)| {
        let first = case.walk.as_ref().and_then(|limits| limits.first()).copied().unwrap_or(0);
        list.as_array().is_some_and(|list| list.len() as i64 == i64::from(first))
    });
    if is_cut || case.walk.is_none() {
        return Ok(());
    }
    let oldest_us = gp_index::system_now_us() - SURELY_RECENT_US;
    for uri in judge.world.of_collection(subject.collection) {
        let name = if subject.collection == PROFILE { authority(uri) } else { uri };
        if found.contains(name) || !judge.world.stands(uri) || is_hidden(judge, uri) {
            continue;
        }
        let Some((_, record)) = judge.world.newest(uri) else { continue };
        // Unless all times are asked for, the second generation finds recent posts only.
        let is_old = judge.world.sort_at_us(uri).is_none_or(|us| us < oldest_us);
        if case.rpc == "SearchPostsV2" && case.request["allTime"] != true && is_old {
            continue;
        }
        if subject.must.iter().any(|field| record[*field].as_str().is_some_and(|text| has_word(text, &word))) {
            return Err(format!("{name} has {word:?} and was not found"));
        }
    }
    Ok(())
}

/// Whether a moderator, a host or a call of this run may have hidden a record or its author.
fn is_hidden(judge: Judge<'_>, uri: &str) -> bool {
    let did = authority(uri);
    [uri, did].iter().any(|it| judge.hidden.contains(*it))
        || judge.world.inactive_dids.contains(did)
        || judge.world.deleted_dids.contains(did)
}

/// The account or record that a call hides, or shows again.
pub(super) fn hidden_by(case: &Case) -> Option<(&str, bool)> {
    let value: &Value = &case.request;
    let name = value["did"].as_str().or(value["actorDid"].as_str()).or(value["recordUri"].as_str())?;
    match case.rpc {
        "TakedownActor" | "TakedownRecord" => Some((name, true)),
        "UpdateActorUpstreamStatus" if value["active"] == false => Some((name, true)),
        "UntakedownActor" | "UntakedownRecord" => Some((name, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_and_their_places() {
        assert_eq!(plain("Cat").as_deref(), Some("cat"));
        assert!(plain("two words").is_none() && plain("from:x").is_none() && plain("").is_none());
        assert!(has_word("A cat, sleeping.", "cat") && !has_word("cats", "cat") && !has_word("cat-like", "cat"));
    }
}
