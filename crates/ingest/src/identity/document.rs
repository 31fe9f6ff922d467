//! DID documents: the few things in them that matter here.

use std::sync::Arc;

use gp_atproto::crypto::VerifyingKey;
use serde_json::Value;

use crate::{Error, Result};

/// What a DID document says.
#[derive(Clone)]
pub struct Document {
    /// The DID it is about.
    pub did: Arc<str>,
    /// The first `at://` alias without its prefix, letters as in the document. A claim, not verified.
    pub handle: Option<String>,
    /// The key that signs the repo.
    pub key: Option<VerifyingKey>,
    /// The key that signs labels.
    pub label_key: Option<VerifyingKey>,
    /// Base URL of the account's host, without a slash at the end.
    pub pds: Option<String>,
    /// Base URL of the account's labeler, without a slash at the end.
    pub labeler: Option<String>,
    /// The document as it came.
    pub json: Arc<str>,
}

impl Document {
    /// Reads a document. It must be an object and be about `did`; whatever else is missing or odd is just not there.
    pub fn read(did: &str, bytes: &[u8]) -> Result<Self> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| Error::Failed(format!("the document of {did} is not text")))?;
        let doc: Value =
            serde_json::from_str(text).map_err(|e| Error::Failed(format!("the document of {did} is not JSON: {e}")))?;
        if doc.get("id").and_then(Value::as_str) != Some(did) {
            return Err(Error::Failed(format!("the document of {did} is about somebody else")));
        }
        let aliases = doc.get("alsoKnownAs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let handle = aliases.iter().filter_map(Value::as_str).find_map(|alias| alias.strip_prefix("at://"));
        Ok(Self {
            did: did.into(),
            handle: handle.map(str::to_owned),
            key: key(&doc, did, "#atproto"),
            label_key: key(&doc, did, "#atproto_label"),
            pds: service(&doc, did, "#atproto_pds", "AtprotoPersonalDataServer"),
            labeler: service(&doc, did, "#atproto_labeler", "AtprotoLabeler"),
            json: text.into(),
        })
    }

    /// Bytes it takes in memory, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        (self.json.len() + 512) as u64
    }
}

/// Whether an entry of the document has this id, written alone or behind the DID.
fn has_id(entry: &Value, did: &str, fragment: &str) -> bool {
    let id = entry.get("id").and_then(Value::as_str).unwrap_or_default();
    id.strip_prefix(did).unwrap_or(id) == fragment
}

fn entries<'a>(doc: &'a Value, name: &str) -> &'a [Value] {
    doc.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn key(doc: &Value, did: &str, fragment: &str) -> Option<VerifyingKey> {
    let method = entries(doc, "verificationMethod").iter().find(|entry| has_id(entry, did, fragment))?;
    let kind = method.get("type")?.as_str()?;
    let text = method.get("publicKeyMultibase")?.as_str()?;
    VerifyingKey::from_verification_method(kind, text).ok()
}

fn service(doc: &Value, did: &str, fragment: &str, kind: &str) -> Option<String> {
    let service = entries(doc, "service").iter().find(|entry| has_id(entry, did, fragment))?;
    if service.get("type")?.as_str()? != kind {
        return None;
    }
    let endpoint = service.get("serviceEndpoint")?.as_str()?.trim_end_matches('/');
    let url = url::Url::parse(endpoint).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| endpoint.to_owned())
}

#[cfg(test)]
mod tests {
    use gp_atproto::crypto::{Curve, SigningKey};
    use serde_json::json;

    use super::*;

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

    #[test]
    fn the_parts_of_a_whole_document() {
        let key = SigningKey::from_bytes(Curve::K256, &[7; 32]).unwrap().verifying_key();
        let doc = json!({
            "id": DID,
            "alsoKnownAs": ["https://x.example", "at://Alice.Test", "at://other.test"],
            "verificationMethod": [
                {"id": format!("{DID}#atproto"), "type": "Multikey", "publicKeyMultibase": key.to_multikey()},
                {"id": "#atproto_label", "type": "Multikey", "publicKeyMultibase": key.to_multikey()},
            ],
            "service": [
                {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.example/"},
                {"id": format!("{DID}#atproto_labeler"), "type": "AtprotoLabeler", "serviceEndpoint": "https://mod.example"},
            ],
        });
        let doc = Document::read(DID, doc.to_string().as_bytes()).unwrap();
        assert_eq!(doc.handle.as_deref(), Some("Alice.Test"));
        assert_eq!(doc.pds.as_deref(), Some("https://pds.example"));
        assert_eq!(doc.labeler.as_deref(), Some("https://mod.example"));
        assert_eq!(doc.key.unwrap().to_did_key(), key.to_did_key());
        assert!(doc.label_key.is_some());
    }

    #[test]
    fn odd_parts_are_just_not_there_and_a_foreign_document_is_refused() {
        let doc = json!({
            "id": DID,
            "alsoKnownAs": [3],
            "verificationMethod": [{"id": "#atproto", "type": "Multikey", "publicKeyMultibase": "zzz"}],
            "service": [{"id": "#atproto_pds", "type": "Other", "serviceEndpoint": "https://pds.example"}, {"id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": {"a": 1}}],
        });
        let doc = Document::read(DID, doc.to_string().as_bytes()).unwrap();
        assert!(doc.handle.is_none() && doc.key.is_none() && doc.pds.is_none() && doc.labeler.is_none());
        for bad in [&b"{}"[..], b"[]", b"\xff", b"{\"id\":\"did:plc:x\"}", b"{"] {
            assert!(Document::read(DID, bad).is_err());
        }
    }
}
