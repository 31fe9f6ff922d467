//! The largest legal request of every method, made from the descriptor of the contract, so that a new method cannot be
//! forgotten.

use anyhow::{Context, Result};
use bytes::Bytes;
use gp_drill::wire;
use gp_proto::dynamic;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

/// Rows of a page at most, by the contract.
const PAGE_MAX: i64 = 100;
/// Messages within messages of a request; the contract has two.
const DEPTH_MAX: u32 = 4;

/// Path, frame and number of keys of the largest request of each method: lists of `keys` entries, the longest pages.
pub(super) fn requests(uris: &[String], keys: usize) -> Result<Vec<(String, Bytes, u32)>> {
    let service = gp_proto::descriptors().get_service_by_name(gp_proto::SERVICE).context("the service")?;
    let keys = keys.min(uris.len());
    service
        .methods()
        .map(|method| {
            let request = message(&method.input(), uris, keys, 0);
            let lists = method.input().fields().any(|field| field.is_list());
            let encoded = dynamic::request_from_json(method.name(), &Value::Object(request).to_string())
                .with_context(|| format!("a request of {}", method.name()))?;
            let path = format!("/{}/{}", gp_proto::SERVICE, method.name());
            Ok((path, wire::frame(&encoded), if lists { keys as u32 } else { 1 }))
        })
        .collect()
}

fn message(of: &MessageDescriptor, uris: &[String], keys: usize, depth: u32) -> Map<String, Value> {
    let mut made = Map::new();
    if depth > DEPTH_MAX {
        return made;
    }
    for field in of.fields() {
        // One of several: the first.
        if field.containing_oneof().is_some_and(|one| one.fields().next().as_ref() != Some(&field)) {
            continue;
        }
        if field.is_map() || field.name() == "cursor" {
            continue;
        }
        let value = if field.is_list() {
            Value::Array((0..keys).map(|n| one(&field, uris, n, 1, depth)).filter(|it| !it.is_null()).collect())
        } else {
            one(&field, uris, 0, keys, depth)
        };
        if !value.is_null() {
            made.insert(field.json_name().to_owned(), value);
        }
    }
    made
}

/// One value, as the name of its field suggests it.
fn one(field: &FieldDescriptor, uris: &[String], n: usize, keys: usize, depth: u32) -> Value {
    let name = field.name();
    let uri = &uris[n % uris.len()];
    let did = uri.trim_start_matches("at://").split('/').next().unwrap_or_default();
    match field.kind() {
        Kind::String if name.contains("handle") => json!(format!("name{n}.test")),
        Kind::String if name.contains("did") || name.contains("actor") || name == "a" || name == "b" => json!(did),
        Kind::String if name.contains("uri") || name.contains("subject") || name.contains("root") => json!(uri),
        Kind::String if name.contains("cid") => json!(""),
        Kind::String => json!(format!("word{}", n % 10)),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => json!(PAGE_MAX),
        Kind::Bool => json!(true),
        Kind::Message(of) if of.full_name() == "google.protobuf.Timestamp" => json!("2026-04-03T22:16:00Z"),
        Kind::Message(of) => Value::Object(message(&of, uris, keys, depth + 1)),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_largest_request() {
        let uris: Vec<String> = (0..50).map(|n| format!("at://did:plc:{n:024}/app.bsky.feed.post/{n:013}")).collect();
        let made = requests(&uris, 50).unwrap();
        assert_eq!(made.len(), gp_proto::METHODS.len());
        let lists = made.iter().filter(|(_, frame, keys)| *keys == 50 && frame.len() > 50 * 4).count();
        assert!(lists >= 41, "{lists}");
    }
}
