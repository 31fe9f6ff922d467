//! Labels: words of labelers about accounts and records.

use gp_atproto::datetime;
use gp_proto as proto;
use gp_store::{Key, Scan, View};
use serde::{Deserialize, Serialize};

use crate::{Cx, Error, Result, atom, tables::LABEL};

/// Most labels one subject answers with.
const LABELS_PER_SUBJECT_MAX: usize = 1_000;

/// A label as labelers and operators write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Who says so: a DID.
    pub src: String,
    /// About whom or what.
    pub uri: String,
    /// About this version only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<String>,
    /// The word, at most 128 bytes.
    pub val: String,
    /// The word is taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub neg: bool,
    /// When it was said.
    pub cts: String,
    /// When it ceases to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LabelRow {
    #[prost(string, tag = "1")]
    json: String,
    #[prost(int64, tag = "2")]
    cts_us: i64,
    #[prost(int64, tag = "3")]
    seq: i64,
    /// 0 = never.
    #[prost(int64, tag = "4")]
    exp_us: i64,
    #[prost(string, tag = "5")]
    src: String,
}

impl Label {
    /// What is wrong with it, if anything: fields of the wrong form (ingest 12.3).
    pub fn fault(&self) -> Option<String> {
        if !gp_atproto::did::is_valid(&self.src) {
            return Some(format!("src {:?} is not a DID", self.src));
        }
        if self.uri.is_empty()
            || self.uri.len() > 8192
            || !(self.uri.starts_with("at://") || self.uri.starts_with("did:"))
        {
            return Some(format!("uri {:?} is neither a DID nor an at-uri", self.uri));
        }
        if self.val.is_empty() || self.val.len() > 128 {
            return Some("val must have 1 to 128 bytes".into());
        }
        if !datetime::is_valid(&self.cts) {
            return Some(format!("cts {:?} is not a date", self.cts));
        }
        if let Some(exp) = &self.exp
            && !datetime::is_valid(exp)
        {
            return Some(format!("exp {exp:?} is not a date"));
        }
        None
    }

    fn key(&self) -> Key {
        let text = |builder: gp_store::KeyBuilder, text: &str| builder.atom(&atom::did(text));
        let key = text(Key::of(&LABEL).atom(&atom::uri(&self.uri)).cluster(), &self.src);
        text(text(key, &self.val), self.cid.as_deref().unwrap_or("")).key()
    }
}

/// Stores a label. Of two with the same source, subject, version and word the later one wins, whatever their order of
/// arrival; at the same time the one later in the labeler's stream. A word taken back stays, so that it cannot come
/// back. Returns whether anything changed.
pub fn apply(view: &mut View<'_>, label: &Label, seq: i64) -> Result<bool> {
    let key = label.key();
    let cts_us = datetime::parse_micros_lenient(&label.cts).unwrap_or(0);
    if let Some(stored) = view.get(&key)? {
        let row = read(&stored)?;
        if (row.cts_us, row.seq) >= (cts_us, seq) {
            return Ok(false);
        }
    }
    let json = serde_json::to_string(label).map_err(|e| Error::invalid("label", e.to_string()))?;
    let exp_us = label.exp.as_deref().and_then(datetime::parse_micros_lenient).unwrap_or(0);
    let row = LabelRow { json, cts_us, seq, exp_us, src: label.src.clone() };
    // The head says that there is anything at all: most subjects have no labels, and most reads end there.
    view.put(key.to_partition().head(), "1");
    view.put(key, prost::Message::encode_to_vec(&row));
    Ok(true)
}

fn read(stored: &[u8]) -> Result<LabelRow> {
    prost::Message::decode(stored).map_err(|_| Error::Corrupt { table: LABEL.name, what: "row" })
}

/// Labels of some issuers on some subjects that hold now. Words taken back are included, marked (read-rpcs 5.12).
pub async fn get_labels(cx: &Cx, req: proto::GetLabelsRequest) -> Result<proto::GetLabelsResponse> {
    if req.subjects.is_empty() || req.issuers.is_empty() {
        return Ok(proto::GetLabelsResponse::default());
    }
    let heads: Vec<Key> = req.subjects.iter().map(|subject| Key::of(&LABEL).atom(&atom::uri(subject)).key()).collect();
    let found = cx.store.get(&heads).await?;
    let mut seen = std::collections::HashSet::new();
    let scans: Vec<Scan> = heads
        .iter()
        .zip(found)
        .filter(|(head, found)| found.is_some() && seen.insert((*head).clone()))
        .map(|(head, _)| Scan::of(head.to_partition()).limit(LABELS_PER_SUBJECT_MAX))
        .collect();
    let now_us = (cx.now_us)();
    let mut labels = Vec::new();
    for page in cx.store.scan_many(scans).await? {
        for row in page.rows.iter().filter(|row| !row.clustering().is_empty()) {
            let label = read(&row.value)?;
            if req.issuers.contains(&label.src) && (label.exp_us == 0 || label.exp_us > now_us) {
                labels.push(label.json.into_bytes().into());
            }
        }
    }
    Ok(proto::GetLabelsResponse { labels })
}
