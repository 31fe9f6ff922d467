use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value as Json, json};

use super::*;
use crate::{cbor, cid::Cid, json, multibase};

/// Verdicts of the network's AppView, written by `e2e/validation/generate.mjs`.
const VERDICTS: &str = include_str!("../../../../fixtures/records/validation.jsonl");

fn parse(json: Json) -> Vec<u8> {
    json::to_cbor(&json).expect("lex-JSON")
}

fn validate_json(collection: &str, json: Json) -> Result<(), (Reason, String)> {
    let bytes = parse(json);
    let record = cbor::decode(&bytes).expect("CBOR");
    validate(collection, &record).map_err(|invalid| (invalid.reason(), invalid.path()))
}

/// Puts `value` at a JSON pointer whose parent exists, or takes away what is there.
fn change(record: &mut Json, pointer: &str, value: Option<Json>) {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer below the record");
    let last = last.replace("~1", "/").replace("~0", "~");
    match (record.pointer_mut(parent).expect("a place in the seed"), value) {
        (Json::Object(map), Some(value)) => drop(map.insert(last, value)),
        (Json::Object(map), None) => drop(map.remove(&last).expect("something to take away")),
        (Json::Array(items), Some(value)) => items[last.parse::<usize>().expect("a position")] = value,
        (Json::Array(items), None) => drop(items.remove(last.parse().expect("a position"))),
        (other, _) => panic!("{other} has no parts"),
    }
}

/// Undoes the two shorthands of the fixture for long texts and long lists.
fn unfold(value: &Json) -> Json {
    if let Some(parts) = value.get("$text").and_then(Json::as_array) {
        return parts
            .iter()
            .map(|part| part[0].as_str().expect("text").repeat(part[1].as_u64().expect("a count") as usize))
            .collect::<String>()
            .into();
    }
    match value.get("$items") {
        Some(items) => vec![items[0].clone(); items[1].as_u64().expect("a count") as usize].into(),
        None => value.clone(),
    }
}

#[test]
fn verdicts_agree_with_the_network() {
    let (mut valid, mut invalid, mut seen) = (0, 0, BTreeSet::new());
    let mut compare = |collection: &str, bytes: &[u8], ok: &Json, what: &Json| {
        let record = cbor::decode(bytes).expect("CBOR");
        let result = validate(collection, &record);
        assert_eq!(result.is_ok(), ok.as_bool().expect("a verdict"), "{result:?} for {collection} with {what}");
        *if result.is_ok() { &mut valid } else { &mut invalid } += 1;
        seen.insert(collection.to_owned());
    };
    for line in VERDICTS.lines() {
        let case: Json = serde_json::from_str(line).expect("a JSON line");
        let collection = case["collection"].as_str().expect("collection");
        if let Some(hex) = case["cbor"].as_str() {
            compare(collection, &multibase::hex_decode(hex).expect("hex"), &case["ok"], &case["case"]);
            continue;
        }
        compare(collection, &parse(case["record"].clone()), &Json::Bool(true), &case["record"]);
        for what in case["changes"].as_array().expect("changes") {
            let mut record = case["record"].clone();
            change(&mut record, what[1].as_str().expect("a pointer"), what.get(2).map(unfold));
            compare(collection, &parse(record), &what[0], what);
        }
    }
    // Guards against a fixture that was cut short, or that has only one answer.
    assert!(valid > 1000 && invalid > 1000, "{valid} valid, {invalid} invalid");
    assert!(collections().all(|collection| seen.contains(collection)));
}

#[test]
fn every_fixture_record_is_valid_and_hashes_to_its_cid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/records");
    for collection in collections() {
        let mut records = 0;
        for file in fs::read_dir(root.join(collection)).expect("a folder for each collection") {
            let file = file.expect("a file").path();
            let text = fs::read_to_string(&file).expect("readable");
            let fixture: Json = serde_json::from_str(&text).expect("JSON");
            let bytes = parse(fixture["record"].clone());
            let record = cbor::decode(&bytes).expect("CBOR");
            assert_eq!(validate(collection, &record), Ok(()), "{}", file.display());
            assert_eq!(fixture["cid"], Cid::for_dag_cbor(&bytes).to_string(), "{}", file.display());
            records += 1;
        }
        assert!(records > 0, "{collection}");
    }
}

#[test]
fn an_error_says_what_and_where() {
    let blob = |changes: Json| {
        let mut blob = json!({
            "$type": "blob", "mimeType": "image/png", "size": 9,
            "ref": { "$link": "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy" },
        });
        blob.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({
            "$type": "app.bsky.feed.post", "text": "", "createdAt": "2025-01-01T00:00:00Z",
            "embed": { "$type": "app.bsky.embed.images", "images": [
                { "alt": "", "image": { "$type": "blob", "mimeType": "image/png", "size": 9,
                    "ref": { "$link": "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy" } } },
                { "alt": "", "image": blob },
            ] },
        })
    };
    let post = |json| validate_json("app.bsky.feed.post", json).unwrap_err();
    let at = |path: &str| path.to_owned();
    assert_eq!(post(blob(json!({ "size": 2_000_001 }))), (Reason::BlobTooLarge, at("embed.images[1].image")));
    assert_eq!(post(blob(json!({ "mimeType": "IMAGE/png" }))).0, Reason::BlobMediaType);
    assert_eq!(post(blob(json!({ "alt": "" }))).0, Reason::BlobMalformed);
    assert_eq!(post(json!({ "text": "" })), (Reason::RecordType, at("")));
    assert_eq!(post(json!({ "$type": "app.bsky.feed.post", "text": "" })), (Reason::Missing, at("createdAt")));
    assert_eq!(
        post(json!({ "$type": "app.bsky.feed.post", "text": "", "createdAt": "yesterday" })),
        (Reason::Format(Format::Datetime), at("createdAt"))
    );
    let legacy = json!({
        "$type": "app.bsky.actor.profile",
        "avatar": { "cid": "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy", "mimeType": "image/png" },
    });
    assert_eq!(validate_json("app.bsky.actor.profile", legacy), Err((Reason::BlobLegacy, at("avatar"))));
    assert_eq!(validate("example.unknown", &Value::Null).unwrap_err().to_string(), "unknown_collection");
    let invalid = validate("app.bsky.graph.block", &Value::Map(vec![("$type", Value::Text("app.bsky.graph.block"))]));
    assert_eq!(invalid.unwrap_err().to_string(), "subject: missing");
}

#[test]
fn collections_are_known_once_each() {
    let mut names: Vec<_> = collections().collect();
    assert!(names.iter().all(|name| is_known_collection(name)));
    assert!(!is_known_collection("site.standard.document") && !is_known_collection(""));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 20);
}
