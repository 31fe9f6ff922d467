//! Records of `site.standard.*`, whose readers name a version: every version is kept.

use gp_atproto::cbor;
use gp_proto as proto;
use gp_store::{Key, Scan, View};

use crate::{
    Cx, Result,
    apply::Stood,
    atom, moderation,
    placed::{Placed, collection_of, split_uri, uri_of},
    records::{self, Flags, RecordRow},
    tables::VERSION,
};

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

/// Removes all versions of a record, with the whole account. Records of other collections have none.
pub(crate) fn forget_versions(view: &mut View<'_>, uri: &str) -> Result<()> {
    if !matches!(collection_of(uri), Some(DOCUMENT | PUBLICATION)) {
        return Ok(());
    }
    loop {
        let page = view.scan(&Scan::of(version_key(uri, "").to_partition()))?;
        for row in &page.rows {
            view.delete(row.key.clone());
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// Longer than any CID of a record that is kept.
const CID_CHARS_MAX: usize = 256;

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
        .filter(|r| (1..=CID_CHARS_MAX).contains(&r.cid.len()))
        .collect();
    let keys: Vec<Key> = wanted.iter().map(|r| version_key(&r.uri, &r.cid)).collect();
    let mut found = Vec::new();
    for ((r, key), stored) in wanted.into_iter().zip(&keys).zip(cx.store.get(&keys).await?) {
        if let Some(stored) = stored {
            found.push((r, records::decode_served(records::served(key, &stored))?.record));
        }
    }
    // Takedowns and tags are of the record, whichever of its versions is asked for.
    let subjects: Vec<Key> =
        found.iter().flat_map(|(r, _)| [moderation::key_of_subject(&r.uri), records::tags_key(&r.uri)]).collect();
    let subjects = cx.store.get(&subjects).await?;
    for ((r, mut record), of_it) in found.into_iter().zip(subjects.chunks_exact(2)) {
        record.takedown_ref = of_it[0].as_ref().map(moderation::reference).unwrap_or_default();
        record.taken_down = !record.takedown_ref.is_empty();
        record.tags = of_it[1].as_deref().map(records::read_tags).unwrap_or_default();
        let record = proto::SiteStandardRecord { r#ref: Some(r.clone()), record: Some(record) };
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
#[path = "sitestandard_tests.rs"]
mod tests;
