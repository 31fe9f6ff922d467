//! Whether what an operator sent makes sense. What does not is refused as a whole, and the error says where it stands.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::StatusCode,
};
use gp_atproto::{AtUri, aturi, datetime, did};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Label, Refusal, SuggestedEntity};

/// Labels of one request.
const LABELS_MAX: usize = 10_000;
/// Elements of a curated list.
const SUGGESTED_MAX: usize = 100_000;
/// Tags of one record.
const TAGS_MAX: usize = 100;
/// Bytes of a tag, or of the name of a kind of subject.
const TAG_BYTES_MAX: usize = 640;
/// Bytes of a label's value, as its lexicon has it.
const LABEL_VALUE_BYTES_MAX: usize = 128;

/// The DID in a path.
pub(super) fn did_in_path(path: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    let Path(did) = path.map_err(|e| Refusal::invalid(format!("the path cannot be read: {}", e.body_text())))?;
    if did::is_valid(&did) {
        Ok(did)
    } else {
        Err(Refusal::invalid(format!("{did:?} in the path is not a DID: did:<method>:<identifier>")))
    }
}

/// The body of `trusted-verifier`.
pub(super) fn trusted(body: &[u8]) -> Result<bool, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent {
        trusted: bool,
    }
    Ok(object::<Sent>(body, r#"{"trusted": true}"#)?.trusted)
}

/// A list of labels.
pub(super) fn labels(body: &[u8]) -> Result<Vec<Label>, Refusal> {
    list(body, LABELS_MAX, |label: &Label| {
        let checks = [
            ("src", did::is_valid(&label.src), "not a DID"),
            ("uri", did::is_valid(&label.uri) || aturi::is_valid(&label.uri), "neither a DID nor an AT-URI"),
            (
                "val",
                !label.val.is_empty() && label.val.len() <= LABEL_VALUE_BYTES_MAX,
                "empty, or longer than 128 bytes",
            ),
            ("cts", datetime::is_valid(&label.cts), "not a time as in 2026-11-23T20:38:00.000Z"),
            ("exp", label.exp.as_deref().is_none_or(datetime::is_valid), "not a time as in 2026-11-23T20:38:00.000Z"),
            ("cid", label.cid.as_deref().is_none_or(|cid| !cid.is_empty()), "empty: leave it out"),
        ];
        checks.into_iter().find(|(_, right, _)| !right).map(|(field, _, why)| format!(".{field}: {why}"))
    })
}

/// An ordered list of DIDs.
pub(super) fn dids(body: &[u8]) -> Result<Vec<String>, Refusal> {
    list(body, SUGGESTED_MAX, |text: &String| (!did::is_valid(text)).then(|| format!(": {text:?} is not a DID")))
}

/// An ordered list of URIs of records.
pub(super) fn record_uris(body: &[u8]) -> Result<Vec<String>, Refusal> {
    list(body, SUGGESTED_MAX, |text: &String| (!is_record_uri(text)).then(|| format!(": {text:?} is not {RECORD_URI}")))
}

/// An ordered list of suggested entities.
pub(super) fn entities(body: &[u8]) -> Result<Vec<SuggestedEntity>, Refusal> {
    list(body, SUGGESTED_MAX, |it: &SuggestedEntity| {
        let checks = [
            ("tag", is_tag(&it.tag), "empty, or longer than 640 bytes"),
            ("subject", did::is_valid(&it.subject) || aturi::is_valid(&it.subject), "neither a DID nor an AT-URI"),
            ("subjectType", is_tag(&it.subject_type), "empty, or longer than 640 bytes"),
        ];
        checks.into_iter().find(|(_, right, _)| !right).map(|(field, _, why)| format!(".{field}: {why}"))
    })
}

/// The body of `records/tags`.
pub(super) fn tags(body: &[u8]) -> Result<(String, Vec<String>), Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent {
        uri: String,
        tags: Vec<String>,
    }
    let Sent { uri, tags } = object(body, r#"{"uri": "at://...", "tags": ["..."]}"#)?;
    if !is_record_uri(&uri) {
        return Err(Refusal::invalid(format!("uri: {uri:?} is not {RECORD_URI}")));
    }
    if tags.len() > TAGS_MAX {
        return Err(Refusal::invalid(format!("tags: {} of them, at most {TAGS_MAX} allowed", tags.len())));
    }
    if let Some(at) = tags.iter().position(|tag| !is_tag(tag)) {
        return Err(Refusal::invalid(format!("tags[{at}]: empty, or longer than 640 bytes")));
    }
    Ok((uri, tags))
}

const RECORD_URI: &str = "the AT-URI of a record: at://<did>/<collection>/<rkey>";

fn is_record_uri(text: &str) -> bool {
    aturi::is_valid(text) && AtUri::record_parts(text).is_some_and(|(authority, ..)| did::is_valid(authority))
}

fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.len() <= TAG_BYTES_MAX
}

fn object<T: DeserializeOwned>(body: &[u8], form: &str) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|e| Refusal::invalid(format!("the body is not {form}: {e}")))
}

/// A JSON array, each element checked. `check` says what is wrong, to be put behind the element's position.
fn list<T: DeserializeOwned>(
    body: &[u8],
    elements_max: usize,
    check: impl Fn(&T) -> Option<String>,
) -> Result<Vec<T>, Refusal> {
    let values: Vec<Value> = object(body, "a JSON array")?;
    if values.len() > elements_max {
        let error = format!("{} elements, at most {elements_max} allowed: send several requests", values.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error));
    }
    let mut list = Vec::with_capacity(values.len());
    for (at, value) in values.into_iter().enumerate() {
        let element: T = serde_json::from_value(value).map_err(|e| Refusal::invalid(format!("[{at}]: {e}")))?;
        if let Some(wrong) = check(&element) {
            return Err(Refusal::invalid(format!("[{at}]{wrong}")));
        }
        list.push(element);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(checked: Result<T, Refusal>) -> String {
        checked.err().expect("it is wrong").error
    }

    #[test]
    fn what_is_wrong_in_a_list_is_named_by_its_position() {
        assert_eq!(dids(br#"["did:plc:a", "did:web:b.example"]"#).unwrap(), ["did:plc:a", "did:web:b.example"]);
        assert_eq!(dids(b"[]").unwrap(), [] as [&str; 0]);
        assert!(error(dids(br#"["did:plc:a", "b.example"]"#)).starts_with("[1]: "));
        assert!(error(dids(br#"["did:plc:a", 7]"#)).starts_with("[1]: "));
        assert!(error(dids(br#"{"dids": []}"#)).contains("not a JSON array"));
        assert!(error(dids(b"[\"did:plc:a\"")).contains("not a JSON array"));
        let feed = "at://did:plc:a/app.bsky.feed.generator/x";
        assert_eq!(record_uris(format!("[{feed:?}]").as_bytes()).unwrap(), [feed]);
        for wrong in ["at://b.example/app.bsky.feed.generator/x", "at://did:plc:a", "https://b.example", ""] {
            assert!(error(record_uris(format!("[{feed:?}, {wrong:?}]").as_bytes())).starts_with("[1]: "), "{wrong}");
        }
        let entity = r#"{"tag": "t", "subject": "did:plc:a", "subjectType": "actor"}"#;
        assert_eq!(entities(format!("[{entity}]").as_bytes()).unwrap()[0].subject_type, "actor");
        assert!(error(entities(format!("[{entity}, {{}}]").as_bytes())).starts_with("[1]: missing field"));
        assert!(
            error(entities(br#"[{"tag": "t", "subject": "a", "subjectType": "actor"}]"#)).starts_with("[0].subject: ")
        );
    }

    #[test]
    fn labels_are_checked_field_by_field() {
        let label = |change: &str, to: Value| {
            let mut label = serde_json::json!({"src": "did:plc:a", "uri": "at://did:plc:b/app.bsky.feed.post/1", "val": "spam", "cts": "2026-11-23T20:38:00.000Z"});
            label[change] = to;
            labels(&serde_json::to_vec(&[label]).unwrap())
        };
        let right = label("exp", "2027-11-23T20:38:00.000Z".into()).unwrap();
        assert_eq!(
            (right[0].neg, right[0].cid.as_deref(), right[0].exp.as_deref()),
            (false, None, Some("2027-11-23T20:38:00.000Z"))
        );
        assert!(label("uri", "did:plc:b".into()).is_ok());
        for (field, wrong) in
            [("src", "b.example"), ("uri", "https://b"), ("val", ""), ("cts", "today"), ("exp", "never"), ("cid", "")]
        {
            assert!(error(label(field, wrong.into())).starts_with(&format!("[0].{field}: ")), "{field}");
        }
        assert!(error(label("unknown", 1.into())).starts_with("[0]: unknown field"));
        assert!(error(label("neg", "yes".into())).starts_with("[0]: "));
    }

    #[test]
    fn tags_and_trust_have_their_form() {
        assert!(trusted(br#"{"trusted": true}"#).unwrap());
        assert!(error(trusted(br#"{"trusted": "yes"}"#)).contains("trusted"));
        assert!(error(trusted(b"")).contains("trusted"));
        let (uri, given) = tags(br#"{"uri": "at://did:plc:b/app.bsky.feed.post/1", "tags": ["a", "b"]}"#).unwrap();
        assert_eq!(
            (uri.as_str(), given),
            ("at://did:plc:b/app.bsky.feed.post/1", vec!["a".to_owned(), "b".to_owned()])
        );
        assert!(error(tags(br#"{"uri": "at://b.example/app.bsky.feed.post/1", "tags": []}"#)).starts_with("uri: "));
        assert!(
            error(tags(br#"{"uri": "at://did:plc:b/app.bsky.feed.post/1", "tags": ["a", ""]}"#))
                .starts_with("tags[1]: ")
        );
    }
}
