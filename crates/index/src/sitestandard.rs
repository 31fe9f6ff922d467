//! Records of `site.standard.*`, whose readers name a version: every version is kept.

use gp_atproto::cbor;
use gp_proto as proto;
use gp_store::{Key, View};

use crate::{
    Cx, Result,
    apply::Stood,
    atom,
    placed::{Placed, collection_of, split_uri, uri_of},
    records::{self, Flags, RecordRow},
    tables::VERSION,
};

/// Longest text of a CID, as the validator of the reference has it.
const CID_TEXT_BYTES_MAX: usize = 128;

/// The place of one version of a record.
pub fn version_key(uri: &str, cid: &str) -> Key {
    Key::of(&VERSION).atom(&atom::uri(uri)).cluster().atom(cid.as_bytes()).key()
}

/// Keeps the new version beside the old ones. Deleting a record deletes no version that a post may still name.
pub(crate) fn keep_version(view: &mut View<'_>, stood: &Stood<'_>) -> Result<()> {
    let keep = |it: &Placed<'_>| RecordRow {
        flags: Flags::default(),
        indexed_at_us: it.indexed_at_us,
        first_indexed_at_us: it.first_indexed_at_us,
        block: cbor::encode(it.value).into(),
    };
    if let Some(new) = stood.new {
        let uri = uri_of(stood.did, stood.collection, stood.rkey);
        view.put(version_key(&uri, &new.cid.to_string()), keep(new).write());
    }
    Ok(())
}

const DOCUMENT: &str = "site.standard.document";
const PUBLICATION: &str = "site.standard.publication";

/// Versions of documents and publications, exactly as named. A version we do not have is left out.
pub async fn get_site_standard_records_by_ref(
    cx: &Cx,
    req: proto::GetSiteStandardRecordsByRefRequest,
) -> Result<proto::GetSiteStandardRecordsByRefResponse> {
    let mut answer = proto::GetSiteStandardRecordsByRefResponse::default();
    let wanted: Vec<&proto::RecordRef> = req
        .refs
        .iter()
        .filter(|r| matches!(collection_of(&r.uri), Some(DOCUMENT | PUBLICATION)) && split_uri(&r.uri).is_some())
        // A text longer than any CID names no version, and would be too long for a key.
        .filter(|r| r.cid.len() <= CID_TEXT_BYTES_MAX)
        .collect();
    let keys: Vec<Key> = wanted.iter().map(|r| version_key(&r.uri, &r.cid)).collect();
    for ((r, key), stored) in wanted.into_iter().zip(&keys).zip(cx.store.get(&keys).await?) {
        let Some(stored) = stored else { continue };
        let served = records::decode_served(records::served(key, &stored))?;
        let record = proto::SiteStandardRecord { r#ref: Some(r.clone()), record: Some(served.record) };
        if collection_of(&r.uri) == Some(DOCUMENT) {
            answer.documents.push(record)
        } else {
            answer.publications.push(record)
        }
    }
    Ok(answer)
}

/// The latest versions of documents and publications, and of the publications that the documents are in.
pub async fn get_site_standard_records_by_uri(
    cx: &Cx,
    req: proto::GetSiteStandardRecordsByUriRequest,
) -> Result<proto::GetSiteStandardRecordsByUriResponse> {
    let of = |collection: &str| -> Vec<String> {
        req.uris.iter().filter(|uri| collection_of(uri) == Some(collection)).cloned().collect()
    };
    let (documents, mut publications) = (of(DOCUMENT), of(PUBLICATION));
    let mut answer = proto::GetSiteStandardRecordsByUriResponse::default();
    for (uri, served) in documents.iter().zip(records::look_up(cx, &documents, DOCUMENT).await?) {
        if served.record.cid.is_empty() {
            continue;
        }
        let record: serde_json::Value = serde_json::from_slice(&served.record.record).unwrap_or_default();
        if let Some(site) = record.get("site").and_then(serde_json::Value::as_str)
            && collection_of(site) == Some(PUBLICATION)
        {
            publications.push(site.to_owned());
        }
        answer.documents.push(latest(uri, served.record));
    }
    let mut seen = std::collections::HashSet::new();
    publications.retain(|uri| seen.insert(uri.clone()));
    for (uri, served) in publications.iter().zip(records::look_up(cx, &publications, PUBLICATION).await?) {
        if !served.record.cid.is_empty() {
            answer.publications.push(latest(uri, served.record));
        }
    }
    Ok(answer)
}

fn latest(uri: &str, record: proto::Record) -> proto::SiteStandardRecord {
    let r#ref = proto::RecordRef { uri: uri.to_owned(), cid: record.cid.clone() };
    proto::SiteStandardRecord { r#ref: Some(r#ref), record: Some(record) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_version_named_by_a_text_of_any_length_is_not_there() {
        let uri = format!("at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/{DOCUMENT}/3jzfcijpj2z2a");
        let refs = vec![proto::RecordRef { uri, cid: "x".repeat(70_000) }];
        let request = proto::GetSiteStandardRecordsByRefRequest { refs };
        let answer = get_site_standard_records_by_ref(&World::new().cx, request).await.unwrap();
        assert_eq!(answer, Default::default());
    }
}
