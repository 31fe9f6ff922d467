//! Messages as JSON and back, by the name of their method.
//!
//! For the built-in client and for tools that do not know at build time which call they make. The mapping is
//! protobuf's own: camelCase names (those of the `.proto` files are understood as well), bytes in base64, 64-bit
//! integers as strings, timestamps in RFC 3339, and fields with their default value left out.
//!
//! A method is named as in the contract (`GetLatestRev`) and then means `bsky.Service`, or in full
//! (`bsync.Service/ScanOperations`, with or without a slash in front).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;

use crate::{SERVICE, descriptors};

/// Longer names are not compared with known ones: nobody mistyped them.
const NAME_CHARS_MAX: usize = 80;

/// Why a message could not be turned into the other form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The contract has no such method.
    #[error("there is no method {method}{nearest}")]
    UnknownMethod {
        /// As it was asked for.
        method: String,
        /// The method that may have been meant.
        nearest: Nearest,
    },
    /// The message has no such field.
    #[error("{message} has no field {path}{nearest}")]
    UnknownField {
        /// The message that lacks it.
        message: String,
        /// Where it stands in the JSON, such as `refs[0].url`.
        path: String,
        /// The field that may have been meant.
        nearest: Nearest,
    },
    /// The text is not JSON, or a value does not fit its field.
    #[error("not a {message}: {why}")]
    Json {
        /// The message that was expected.
        message: String,
        /// What the parser says, with line and column.
        why: serde_json::Error,
    },
    /// The bytes are not that message.
    #[error("the bytes are not a {message}: {why}")]
    Wire {
        /// The message that was expected.
        message: String,
        /// What the decoder says.
        why: prost::DecodeError,
    },
}

/// A known name that is close to an unknown one, if there is any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest(pub Option<String>);

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "; did you mean {name}?"),
            None => Ok(()),
        }
    }
}

/// The request of a method, from JSON to the bytes on the wire.
///
/// # Errors
///
/// The method or a field is unknown, or the JSON does not fit.
pub fn request_from_json(method: &str, json: &str) -> Result<Vec<u8>, Error> {
    from_json(&find_method(method)?.input(), json)
}

/// The response of a method, from JSON to the bytes on the wire.
///
/// # Errors
///
/// As [`request_from_json`].
pub fn response_from_json(method: &str, json: &str) -> Result<Vec<u8>, Error> {
    from_json(&find_method(method)?.output(), json)
}

/// The request of a method, from the bytes on the wire to JSON. About `readable` see [`response_to_json`].
///
/// # Errors
///
/// The method is unknown, or the bytes are not its request.
pub fn request_to_json(method: &str, bytes: &[u8], readable: bool) -> Result<Value, Error> {
    to_json(&find_method(method)?.input(), bytes, readable)
}

/// The response of a method, from the bytes on the wire to JSON.
///
/// With `readable`, bytes that hold JSON (records, labels, keys, drafts) stand as that JSON in place of base64. What
/// comes out is then for the eye: it cannot be turned back.
///
/// Entries of `verifiedBy` come out by key. Their order on the wire shows only in [`crate::ActorInfo`].
///
/// # Errors
///
/// The method is unknown, or the bytes are not its response.
pub fn response_to_json(method: &str, bytes: &[u8], readable: bool) -> Result<Value, Error> {
    to_json(&find_method(method)?.output(), bytes, readable)
}

/// The path of a call in HTTP, such as `/bsky.Service/Ping`.
///
/// # Errors
///
/// The method is unknown.
pub fn path(method: &str) -> Result<String, Error> {
    let method = find_method(method)?;
    Ok(format!("/{}/{}", method.parent_service().full_name(), method.name()))
}

fn find_method(method: &str) -> Result<MethodDescriptor, Error> {
    let asked = method.strip_prefix('/').unwrap_or(method);
    let (service, name) = asked.rsplit_once('/').unwrap_or((SERVICE, asked));
    let service = descriptors().get_service_by_name(service);
    let methods = service.iter().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.clone().find(|known| known.name() == name).ok_or_else(|| Error::UnknownMethod {
        method: method.to_owned(),
        nearest: nearest(name, methods.map(|known| known.name().to_owned())),
    })
}

fn from_json(descriptor: &MessageDescriptor, json: &str) -> Result<Vec<u8>, Error> {
    let refuse = |why| Error::Json { message: descriptor.full_name().to_owned(), why };
    // Names first and by ourselves: the parser would refuse an unknown one without saying what it could have been.
    check_fields(descriptor, &serde_json::from_str(json).map_err(refuse)?, "")?;
    let mut parser = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), &mut parser, &DeserializeOptions::new())
        .map_err(refuse)?;
    parser.end().map_err(refuse)?;
    Ok(message.encode_to_vec())
}

fn to_json(descriptor: &MessageDescriptor, bytes: &[u8], readable: bool) -> Result<Value, Error> {
    let name = || descriptor.full_name().to_owned();
    let message =
        DynamicMessage::decode(descriptor.clone(), bytes).map_err(|why| Error::Wire { message: name(), why })?;
    let mut json = message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|why| Error::Json { message: name(), why })?;
    if readable {
        show_bytes(descriptor, &mut json);
    }
    Ok(json)
}

/// True for messages that have a JSON form of their own, such as timestamps.
fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    descriptor.package_name() == "google.protobuf"
}

/// Refuses names that the message does not have. Values are left to the parser.
fn check_fields(descriptor: &MessageDescriptor, json: &Value, at: &str) -> Result<(), Error> {
    let Value::Object(object) = json else { return Ok(()) };
    if is_well_known(descriptor) {
        return Ok(());
    }
    for (name, value) in object {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let Some(field) = descriptor.get_field_by_json_name(name).or_else(|| descriptor.get_field_by_name(name)) else {
            return Err(Error::UnknownField {
                message: descriptor.full_name().to_owned(),
                path,
                nearest: nearest(name, descriptor.fields().map(|field| field.json_name().to_owned())),
            });
        };
        let Kind::Message(inner) = field.kind() else { continue };
        match value {
            Value::Object(entries) if field.is_map() => {
                if let Kind::Message(inner) = inner.map_entry_value_field().kind() {
                    for (key, value) in entries {
                        check_fields(&inner, value, &format!("{path}[{key:?}]"))?;
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    check_fields(&inner, item, &format!("{path}[{index}]"))?;
                }
            }
            one => check_fields(&inner, one, &path)?,
        }
    }
    Ok(())
}

/// Puts JSON in the place of base64 wherever a bytes field holds JSON.
fn show_bytes(descriptor: &MessageDescriptor, json: &mut Value) {
    let Value::Object(object) = json else { return };
    if is_well_known(descriptor) {
        return;
    }
    for (name, value) in object {
        let Some(field) = descriptor.get_field_by_json_name(name) else { continue };
        let show: &dyn Fn(&mut Value) = match field.kind() {
            Kind::Bytes => &show_one,
            Kind::Message(inner) if field.is_map() => match inner.map_entry_value_field().kind() {
                Kind::Message(inner) => &move |value| show_bytes(&inner, value),
                Kind::Bytes => &show_one,
                _ => continue,
            },
            Kind::Message(inner) => &move |value| show_bytes(&inner, value),
            _ => continue,
        };
        match value {
            Value::Array(items) => items.iter_mut().for_each(show),
            Value::Object(entries) if field.is_map() => entries.values_mut().for_each(show),
            one => show(one),
        }
    }
}

fn show_one(value: &mut Value) {
    let Value::String(text) = &*value else { return };
    let held = STANDARD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(held) = held {
        *value = held;
    }
}

/// The candidate that is most like a name, if one is like it at all.
fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Nearest {
    let plain = |name: &str| name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect::<Vec<char>>();
    let asked = plain(name);
    if asked.is_empty() || asked.len() > NAME_CHARS_MAX {
        return Nearest(None);
    }
    // A third of the letters may be wrong. Names within one another are close, too: `uri` for `subjectUri`.
    let close = asked.len().div_ceil(3);
    let distance = |candidate: &String| {
        let known = plain(candidate);
        let distance = edits(&asked, &known);
        let within = |long: &[char], short: &[char]| long.windows(short.len()).any(|part| part == short);
        let holds = asked.len() >= 3 && known.len() >= 3 && (within(&known, &asked) || within(&asked, &known));
        (distance <= close || holds).then_some(distance)
    };
    Nearest(
        candidates
            .filter_map(|candidate| distance(&candidate).map(|distance| (distance, candidate)))
            .min()
            .map(|(_, candidate)| candidate),
    )
}

/// How many letters to add, drop or change to get from one name to the other.
fn edits(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{GetLabelsResponse, GetPostRecordsResponse, Record, Timestamp};

    #[test]
    fn both_kinds_of_names_are_understood() {
        let camel = request_from_json("GetFollows", r#"{"actorDid":"did:plc:a","limit":3}"#).expect("camel case");
        let snake = request_from_json("/bsky.Service/GetFollows", r#"{"actor_did":"did:plc:a","limit":3}"#)
            .expect("snake case");
        assert_eq!(camel, snake);
        let typed = crate::GetFollowsRequest::decode(&*camel).expect("decodes");
        assert_eq!((typed.actor_did.as_str(), typed.limit), ("did:plc:a", 3));
        assert_eq!(
            request_to_json("GetFollows", &camel, false).expect("back"),
            json!({"actorDid": "did:plc:a", "limit": 3})
        );
    }

    #[test]
    fn timestamps_have_their_own_form() {
        let json = r#"{"actorDid":"did:plc:a","timestamp":"2026-08-01T10:00:00.250Z"}"#;
        let bytes = request_from_json("UpdateNotificationSeen", json).expect("converts");
        let typed = crate::UpdateNotificationSeenRequest::decode(&*bytes).expect("decodes");
        assert_eq!(typed.timestamp, Some(Timestamp { seconds: 1_785_578_400, nanos: 250_000_000 }));
    }

    #[test]
    fn the_other_service_is_reached_by_its_full_name() {
        let bytes = request_from_json("bsync.Service/ScanOperations", r#"{"limit":5}"#).expect("converts");
        assert_eq!(crate::bsync::ScanOperationsRequest::decode(&*bytes).expect("decodes").limit, 5);
        assert_eq!(path("bsync.Service/Ping").expect("known"), "/bsync.Service/Ping");
        assert_eq!(path("Ping").expect("known"), "/bsky.Service/Ping");
    }

    fn message(result: Result<impl fmt::Debug, Error>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn an_unknown_method_suggests_the_nearest() {
        assert_eq!(
            message(request_from_json("GetLatestRevs", "{}")),
            "there is no method GetLatestRevs; did you mean GetLatestRev?"
        );
        assert_eq!(
            message(request_from_json("get_post_records", "{}")),
            "there is no method get_post_records; did you mean GetPostRecords?"
        );
        assert_eq!(message(request_from_json("Xyzzy", "{}")), "there is no method Xyzzy");
        assert_eq!(message(request_from_json("other.Service/Ping", "{}")), "there is no method other.Service/Ping");
        assert_eq!(message(path("")), "there is no method ");
        assert_eq!(message(path(&"G".repeat(1_000_000))).len(), "there is no method ".len() + 1_000_000);
    }

    #[test]
    fn an_unknown_field_says_where_and_suggests_the_nearest() {
        assert_eq!(
            message(request_from_json("GetFollows", r#"{"actor":"did:plc:a"}"#)),
            "bsky.GetFollowsRequest has no field actor; did you mean actorDid?"
        );
        assert_eq!(
            message(request_from_json("GetInteractionCounts", r#"{"refs":[{"uri":"a"},{"url":"b"}]}"#)),
            "bsky.RecordRef has no field refs[1].url; did you mean uri?"
        );
        assert_eq!(
            message(response_from_json("GetActors", r#"{"actors":[{"verifiedBy":{"did:a":{"rkye":""}}}]}"#)),
            "bsky.VerificationMeta has no field actors[0].verifiedBy[\"did:a\"].rkye; did you mean rkey?"
        );
        assert_eq!(message(request_from_json("Ping", r#"{"a":1}"#)), "bsky.PingRequest has no field a");
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_with_its_place() {
        let refused = message(request_from_json("GetFollows", "{\"limit\":\n\"many\"}"));
        assert!(refused.starts_with("not a bsky.GetFollowsRequest: ") && refused.contains("line 2"), "{refused}");
        assert!(message(request_from_json("Ping", "{} {}")).contains("trailing"));
        assert!(message(request_from_json("Ping", "")).contains("EOF"));
        assert!(message(request_from_json("Ping", "[]")).starts_with("not a bsky.PingRequest"));
        assert!(message(response_to_json("GetLatestRev", &[0xff], false)).starts_with("the bytes are not a bsky."));
    }

    #[test]
    fn readable_shows_json_that_stands_in_bytes() {
        let record = Record { record: br#"{"text":"hi"}"#.as_slice().into(), cid: "b".into(), ..Record::default() };
        let bytes =
            GetPostRecordsResponse { records: vec![record, Record::default()], ..Default::default() }.encode_to_vec();
        assert_eq!(
            response_to_json("GetPostRecords", &bytes, true).expect("converts"),
            json!({"records": [{"record": {"text": "hi"}, "cid": "b"}, {}]})
        );
        let plain = response_to_json("GetPostRecords", &bytes, false).expect("converts");
        assert_eq!(plain, json!({"records": [{"record": "eyJ0ZXh0IjoiaGkifQ==", "cid": "b"}, {}]}));
        assert_eq!(response_from_json("GetPostRecords", &plain.to_string()).expect("back"), bytes);

        let labels = vec![br#"{"val":"spam"}"#.as_slice().into(), b"\x1f\x8b".as_slice().into()];
        assert_eq!(
            response_to_json("GetLabels", &GetLabelsResponse { labels }.encode_to_vec(), true).expect("converts"),
            json!({"labels": [{"val": "spam"}, "H4s="]})
        );
    }

    #[test]
    fn edits_counts_letters() {
        let edits = |a: &str, b: &str| edits(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(edits("", ""), 0);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("flaw", "lawn"), 2);
    }
}
