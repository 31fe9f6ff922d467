//! Labels: words of labelers about accounts and records.

use std::collections::HashSet;

use bytes::Bytes;
use gp_atproto::datetime;
use gp_proto as proto;
use gp_store::{Key, Page, Partition, Scan, View};
use serde::{Deserialize, Serialize};

use crate::{Cx, Error, Result, atom, tables::LABEL};

/// Rows that are read at once. A subject with more of them is read source by source, so that no source can crowd out
/// the words of another.
const LABELS_PER_SCAN_MAX: usize = 1_000;

/// Most bytes of what is labelled.
const URI_BYTES_MAX: usize = 8_192;

/// Pages of labels that one source may have on one subject. What lies behind them fails the call: a label that is
/// silently missing could be a takedown.
const PAGES_PER_SOURCE_MAX: usize = 20;

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
    /// Place among the labels of the same message.
    #[prost(uint32, tag = "6")]
    index: u32,
}

/// Where a label stands in what its labeler said: it decides between two labels of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Position of the message in the labeler's stream.
    pub seq: i64,
    /// Place in the message.
    pub index: u32,
}

impl Label {
    /// What is wrong with it, if anything: fields of the wrong form.
    pub fn fault(&self) -> Option<String> {
        if !gp_atproto::did::is_valid(&self.src) {
            return Some(format!("src {:?} is not a DID", self.src));
        }
        if self.uri.len() > URI_BYTES_MAX || !gp_atproto::uri::is_valid(&self.uri) {
            return Some(format!("uri {:?} is not a URI of at most {URI_BYTES_MAX} bytes", self.uri));
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
pub fn apply(view: &mut View<'_>, label: &Label, place: Place) -> Result<bool> {
    let key = label.key();
    let cts_us = datetime::parse_micros_lenient(&label.cts).unwrap_or(0);
    if let Some(stored) = view.get(&key)? {
        let row = read(&stored)?;
        if (row.cts_us, Place { seq: row.seq, index: row.index }) >= (cts_us, place) {
            return Ok(false);
        }
    }
    let json = serde_json::to_string(label).map_err(|e| Error::invalid("label", e.to_string()))?;
    // 0 means never, so what ended in 1970 or before ended just after its first moment.
    let exp_us = label.exp.as_deref().and_then(datetime::parse_micros_lenient).map_or(0, |exp_us| exp_us.max(1));
    let Place { seq, index } = place;
    let row = LabelRow { json, cts_us, seq, exp_us, src: label.src.clone(), index };
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
    let mut seen = HashSet::new();
    let labelled: Vec<Partition> = heads
        .iter()
        .zip(found)
        .filter(|(head, found)| found.is_some() && seen.insert((*head).clone()))
        .map(|(head, _)| head.to_partition())
        .collect();
    let issuers: HashSet<&str> = req.issuers.iter().map(String::as_str).collect();
    let scans = labelled.iter().map(|subject| Scan::of(subject.clone()).after([]).limit(LABELS_PER_SCAN_MAX));
    let mut answer = Answer { now_us: (cx.now_us)(), labels: Vec::new() };
    for (subject, page) in labelled.iter().zip(cx.store.scan_many(scans.collect()).await?) {
        if page.more {
            for issuer in &issuers {
                answer.take_all(cx, subject, issuer).await?;
            }
        } else {
            answer.take(cx, &page, |src| issuers.contains(src))?;
        }
    }
    Ok(proto::GetLabelsResponse { labels: answer.labels })
}

/// The labels that hold, as JSON.
struct Answer {
    now_us: i64,
    labels: Vec<Bytes>,
}

impl Answer {
    fn take(&mut self, cx: &Cx, page: &Page, wanted: impl Fn(&str) -> bool) -> Result<()> {
        for row in &page.rows {
            let Some(label) = cx.damage.or_absent(read(&row.value))? else { continue };
            if wanted(&label.src) && (label.exp_us == 0 || label.exp_us > self.now_us) {
                self.labels.push(label.json.into_bytes().into());
            }
        }
        Ok(())
    }

    /// Takes everything that one source says on a subject.
    async fn take_all(&mut self, cx: &Cx, subject: &Partition, issuer: &str) -> Result<()> {
        let scan = || Scan::of(subject.clone()).prefix(&*atom::did(issuer)).limit(LABELS_PER_SCAN_MAX);
        let mut next = scan();
        for _ in 0..PAGES_PER_SOURCE_MAX {
            let page = cx.store.scan(next).await?;
            self.take(cx, &page, |src| src == issuer)?;
            match page.rows.last() {
                Some(last) if page.more => next = scan().after(last.clustering()),
                _ => return Ok(()),
            }
        }
        Err(Error::Overloaded("one source has more labels on one subject than one answer may hold"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, at, did, iso};

    const URI: &str = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a";

    fn label(src: &str, val: &str, cts_us: i64) -> Label {
        let (src, uri, val) = (did(src), URI.to_owned(), val.to_owned());
        Label { src, uri, cid: None, val, neg: false, cts: iso(cts_us), exp: None }
    }

    async fn say(world: &World, labels: Vec<(Label, i64, u32)>) -> Vec<bool> {
        let apply = move |view: &mut View<'_>| {
            labels.iter().map(|(label, seq, index)| apply(view, label, Place { seq: *seq, index: *index })).collect()
        };
        world.write(apply).await
    }

    async fn asked(world: &World, issuers: &[&str]) -> Result<Vec<Label>> {
        let issuers = issuers.iter().map(|name| did(name)).collect();
        let request = proto::GetLabelsRequest { subjects: vec![URI.to_owned()], issuers };
        let answer = get_labels(&world.cx, request).await?;
        Ok(answer.labels.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect())
    }

    #[tokio::test]
    async fn the_later_word_holds_in_every_order_of_arrival() {
        let given = label("mod", "spam", at(-9));
        let taken = Label { neg: true, cts: iso(at(-8)), ..given.clone() };
        // The same moment: the place in the stream decides, and then the place in the message.
        let anew = Label { neg: false, ..taken.clone() };
        let said = [(given, 1, 0), (taken.clone(), 2, 0), (anew, 2, 1), (taken, 3, 0)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1], [1, 0, 3, 2]] {
            for until in [3, 4] {
                let world = World::new();
                for at in order.into_iter().filter(|at| *at < until) {
                    say(&world, vec![said[at].clone()]).await;
                }
                let found = asked(&world, &["mod"]).await.unwrap();
                assert_eq!(found, [said[until - 1].0.clone()], "{order:?} {until}");
                assert_eq!(say(&world, said[..until].to_vec()).await, vec![false; until], "a replay changes nothing");
            }
        }
    }

    #[tokio::test]
    async fn versions_and_sources_have_words_of_their_own_and_ended_ones_are_left_out() {
        let world = World::new();
        let version = Label {
            cid: Some("bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae".into()),
            ..label("mod", "a", at(-5))
        };
        let general = Label { neg: true, ..label("mod", "a", at(-4)) };
        let ends = |val, exp: &str| Label { exp: Some(exp.into()), ..label("mod", val, at(-5)) };
        let kept = [version, general, label("lab", "a", at(-5)), ends("b", &iso(at(1)))];
        let ended = [
            ends("c", &iso(at(-1))),
            ends("d", &iso(at(0))),
            ends("e", "1970-01-01T00:00:00Z"),
            ends("f", "1969-07-20T20:17:40Z"),
        ];
        say(&world, kept.iter().chain(&ended).map(|label| (label.clone(), 1, 0)).collect()).await;
        let mut found = asked(&world, &["mod", "lab"]).await.unwrap();
        let mut kept = kept.to_vec();
        for labels in [&mut found, &mut kept] {
            labels.sort_by_key(|label| (label.src.clone(), label.val.clone(), label.cid.clone()));
        }
        assert_eq!(found, kept);
        assert_eq!(asked(&world, &["lab"]).await.unwrap().len(), 1);
        assert!(asked(&world, &[]).await.unwrap().is_empty());
        let text = serde_json::to_string(&label("mod", "a", at(0))).unwrap();
        assert!(!["neg", "cid", "exp"].iter().any(|absent| text.contains(absent)), "{text}");
    }

    #[tokio::test]
    async fn a_source_with_very_many_words_crowds_nobody_out() {
        let world = World::new();
        let many = LABELS_PER_SCAN_MAX as u32 * 2 + 5;
        let loud = (0..many).map(|n| (label("aloud", &format!("word-{n}"), at(-5)), 1, n));
        say(&world, loud.chain([(label("quiet", "!takedown", at(-5)), 1, 0)]).collect()).await;
        let found = asked(&world, &["quiet"]).await.unwrap();
        assert_eq!(found.iter().map(|label| label.val.as_str()).collect::<Vec<_>>(), ["!takedown"]);
        assert_eq!(asked(&world, &["quiet", "aloud"]).await.unwrap().len(), many as usize + 1);
    }

    #[tokio::test]
    async fn a_missing_word_is_an_error_and_not_a_short_answer() {
        let world = World::new();
        let many = (LABELS_PER_SCAN_MAX * PAGES_PER_SOURCE_MAX) as u32 + 1;
        say(&world, (0..many).map(|n| (label("aloud", &format!("word-{n}"), at(-5)), 1, n)).collect()).await;
        assert!(matches!(asked(&world, &["aloud"]).await, Err(Error::Overloaded(_))));
        assert!(asked(&world, &["quiet"]).await.unwrap().is_empty());
    }

    #[test]
    fn what_is_no_label_is_told() {
        let right = label("mod", "spam", at(0));
        for uri in [URI, "did:web:example.com", "https://例え.jp/é", "at://handle.example/app.bsky.feed.post/ü"] {
            assert_eq!(Label { uri: uri.into(), ..right.clone() }.fault(), None);
        }
        let long = |count| format!("https://example.com/{}", "a".repeat(count - 20));
        assert_eq!(Label { uri: long(URI_BYTES_MAX), val: "x".repeat(128), ..right.clone() }.fault(), None);
        for wrong in [
            Label { src: "mod.example".into(), ..right.clone() },
            Label { uri: long(URI_BYTES_MAX + 1), ..right.clone() },
            Label { uri: "no uri".into(), ..right.clone() },
            Label { val: String::new(), ..right.clone() },
            Label { val: "é".repeat(65), ..right.clone() },
            Label { cts: "now".into(), ..right.clone() },
            Label { exp: Some("never".into()), ..right },
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
