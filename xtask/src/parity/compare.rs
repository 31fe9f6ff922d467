//! When two answers say the same, and where they do not.

use gp_atproto::datetime;
use serde_json::{Map, Value, json};

use super::client::{Answer, Refusal};

/// Differences inside one pair of answers that are shown.
const SHOWN_MAX: usize = 6;

/// Characters of a value that are shown.
const VALUE_SHOWN_MAX: usize = 160;

/// Brings an answer into the form in which answers are compared. What is lost here is free by the contract:
/// - what the reference never fills, though the contract has a place for it;
/// - the order of what has none;
/// - times by the clock of whoever answers: those after `clock_us`, when the run began;
/// - whether a record that is missing is an empty envelope or none at all.
pub(super) fn normal(rpc: &str, answer: &Answer, clock_us: i64) -> Answer {
    let mut value = match answer {
        Ok(value) => value.clone(),
        Err(refusal) => return Err(Refusal { code: refusal.code, message: String::new() }),
    };
    walk(&mut value, clock_us);
    if let Value::Object(object) = &mut value {
        of_call(rpc, object);
        object.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
    }
    Ok(value)
}

fn walk(value: &mut Value, clock_us: i64) {
    match value {
        Value::String(text) => {
            // Only times of messages look like this with a year in front; times inside records are left alone below.
            if is_by_the_clock(text, clock_us) {
                *text = "by the clock".into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, clock_us)),
        Value::Object(object) => {
            if object.get("record").is_some_and(Value::is_null) && !object.contains_key("cid") {
                object.clear();
            }
            for (key, value) in object.iter_mut() {
                // The content of records, drafts and labels is compared as it is.
                if !matches!(key.as_str(), "record" | "payload" | "entry" | "labels" | "keys" | "services") {
                    walk(value, clock_us);
                }
            }
        }
        _ => {}
    }
}

fn is_by_the_clock(text: &str, clock_us: i64) -> bool {
    text.len() >= 20
        && text.ends_with('Z')
        && text.as_bytes()[4] == b'-'
        && datetime::parse_micros_lenient(text).is_some_and(|time_us| time_us >= clock_us)
}

fn of_call(rpc: &str, answer: &mut Map<String, Value>) {
    let each = |answer: &mut Map<String, Value>, field: &str, change: &dyn Fn(&mut Map<String, Value>)| {
        let items = answer.get_mut(field).and_then(Value::as_array_mut);
        items.into_iter().flatten().filter_map(Value::as_object_mut).for_each(change);
    };
    let without = |names: &'static [&'static str]| {
        move |object: &mut Map<String, Value>| names.iter().for_each(|name| drop(object.remove(*name)))
    };
    match rpc {
        "GetPostRecords" => {
            each(answer, "meta", &without(&["hasMedia", "isReply", "hasVideo"]));
            sort(answer, "opThreads");
        }
        "GetTimeline" | "GetAuthorFeed" => {
            each(answer, "items", &|item| item.retain(|key, _| key == "uri" || key == "repost"))
        }
        "GetListFeed" => each(answer, "items", &|item| item.retain(|key, _| key == "uri" || key == "cid")),
        "GetCountsForUsers" => drop(answer.remove("reposts")),
        "GetActors" => each(answer, "actors", &|actor| {
            without(&["tags", "pagerank", "tombstonedAt"])(actor);
            for record in ["profile", "statusRecord", "germRecord"] {
                if actor.get(record).is_some_and(|it| *it == json!({})) {
                    actor.remove(record);
                }
            }
        }),
        "GetActivitySubscriptionsByActorAndSubjects" => each(answer, "subscriptions", &|it| {
            it.remove("indexedAt");
            if !it.contains_key("key") {
                it.clear();
            }
        }),
        "GetFollowsFollowing" => {
            let results = answer.get_mut("results").and_then(Value::as_array_mut);
            results.into_iter().flatten().filter_map(Value::as_object_mut).for_each(|it| sort(it, "dids"));
        }
        "GetLabels" => {
            sort(answer, "labels");
            let labels = answer.get_mut("labels").and_then(Value::as_array_mut);
            labels.into_iter().for_each(Vec::dedup);
        }
        "GetSuggestedEntities" => {
            each(answer, "entities", &without(&["priority"]));
            sort(answer, "entities");
        }
        "GetFollowSuggestions" => sort(answer, "dids"),
        // Newest first, and nothing more.
        "GetNotifications" => {
            let items = answer.get_mut("notifications").and_then(Value::as_array_mut);
            items.into_iter().for_each(|items| {
                for same in items.chunk_by_mut(|a, b| a["timestamp"] == b["timestamp"]) {
                    same.sort_by_cached_key(Value::to_string);
                }
            });
        }
        _ => {}
    }
}

fn sort(object: &mut Map<String, Value>, field: &str) {
    if let Some(items) = object.get_mut(field).and_then(Value::as_array_mut) {
        items.sort_by_cached_key(Value::to_string);
    }
}

/// Where two answers differ, a line each.
pub(super) fn differences(ours: &Answer, theirs: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => into(&mut found, "", Some(ours), Some(theirs)),
        (Err(ours), Err(theirs)) if ours.code == theirs.code => {}
        _ => {
            let told = |answer: &Answer| match answer {
                Ok(value) => shown(Some(value)),
                Err(refusal) => format!("status {}", refusal.code),
            };
            found.push(format!("ours {}, reference {}", told(ours), told(theirs)));
        }
    }
    let more = found.len().saturating_sub(SHOWN_MAX);
    found.truncate(SHOWN_MAX);
    if more > 0 {
        found.push(format!("and {more} more places"));
    }
    found
}

fn into(found: &mut Vec<String>, at: &str, ours: Option<&Value>, theirs: Option<&Value>) {
    if ours == theirs {
        return;
    }
    match (ours, theirs) {
        (Some(Value::Object(ours)), Some(Value::Object(theirs))) => {
            let mut keys: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                into(found, &format!("{at}.{key}"), ours.get(key), theirs.get(key));
            }
        }
        (Some(Value::Array(ours)), Some(Value::Array(theirs))) if ours.len() == theirs.len() => {
            for (number, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                into(found, &format!("{at}[{number}]"), Some(ours), Some(theirs));
            }
        }
        (Some(Value::Array(ours)), Some(Value::Array(theirs))) => {
            let only = |some: &[Value], others: &[Value]| {
                some.iter()
                    .filter(|it| !others.contains(it))
                    .take(4)
                    .map(|it| shown(Some(it)))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            found.push(format!(
                "{at}: {} items and {}; only ours {}; only reference {}",
                ours.len(),
                theirs.len(),
                only(ours, theirs),
                only(theirs, ours)
            ));
        }
        _ => found.push(format!("{at}: ours {}, reference {}", shown(ours), shown(theirs))),
    }
}

/// A value for a person, cut where it gets long.
pub(super) fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".into() };
    let text = value.to_string();
    match text.char_indices().nth(VALUE_SHOWN_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
