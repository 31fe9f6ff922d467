//! The labels that the network's labeler gives, as the frames of its own stream.

use bytes::Bytes;
use gp_atproto::{cbor::Writer, crypto::SigningKey, datetime, labels::Label};
use parking_lot::Mutex;

use crate::{
    dice::{Dice, Purpose},
    log::{Log, NOBODY, Stored},
    records::LABEL_VALUES,
};

/// Labels in one frame, at most.
const FRAME_LABELS_MAX: usize = 20;

/// A label that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenLabel {
    /// The labeler.
    pub src: String,
    /// A DID or the URI of a record.
    pub uri: String,
    /// The label's name.
    pub val: String,
    /// Whether it takes the label back.
    pub neg: bool,
    /// When it was given, in microseconds since the epoch.
    pub cts_us: i64,
    /// When it ends, in microseconds since the epoch.
    pub exp_us: Option<i64>,
}

/// The labeler: it signs labels and numbers them.
pub(crate) struct Labeler {
    did: String,
    key: SigningKey,
    given: Mutex<Given>,
}

struct Given {
    dice: Dice,
    seq: i64,
    all: Vec<GivenLabel>,
}

impl Labeler {
    pub(crate) fn new(did: &str, key: SigningKey, seed: u64) -> Labeler {
        let given = Given { dice: Dice::new(seed, Purpose::Labels), seq: 0, all: Vec::new() };
        Labeler { did: did.to_owned(), key, given: Mutex::new(given) }
    }

    /// Labels one in `one_in` of these subjects; now and then it takes a label back, or gives one that ends. The first
    /// four have one label of each sort.
    pub(crate) fn look_at(&self, subjects: &[String], one_in: usize, from_us: i64, until_us: i64, log: &Log) {
        let mut labels = Vec::new();
        {
            let dice = &mut self.given.lock().dice;
            let step_us = (until_us - from_us) / subjects.len().max(1) as i64;
            for (at, subject) in subjects.iter().enumerate() {
                if at >= 4 && dice.below(one_in) != 0 {
                    continue;
                }
                let sort = if at < 4 { at } else { dice.below(24) };
                let cts_us = from_us + step_us * at as i64;
                let label = GivenLabel {
                    src: self.did.clone(),
                    uri: subject.clone(),
                    val: dice.pick(&LABEL_VALUES).to_owned(),
                    neg: false,
                    cts_us,
                    exp_us: match sort {
                        1 => Some(cts_us + 3_600_000_000),              // over before anybody looks
                        2 => Some(until_us + 400 * 86_400 * 1_000_000), // not over for a year
                        _ => None,
                    },
                };
                labels.push(label.clone());
                if matches!(sort, 3..6) {
                    labels.push(GivenLabel { neg: true, cts_us: cts_us + 1_000_000, exp_us: None, ..label });
                }
            }
        }
        for labels in labels.chunks(FRAME_LABELS_MAX) {
            self.give(labels.to_vec(), log);
        }
    }

    /// Signs labels and sends them, in one frame.
    pub(crate) fn give(&self, labels: Vec<GivenLabel>, log: &Log) -> i64 {
        let mut given = self.given.lock();
        given.seq += 1;
        let frame = self.frame(given.seq, &labels);
        log.append([(given.seq, NOBODY, Stored::Memory(frame))]);
        given.all.extend(labels);
        given.seq
    }

    pub(crate) fn did(&self) -> &str {
        &self.did
    }

    /// Everything that was ever given, in that order.
    pub(crate) fn given(&self) -> Vec<GivenLabel> {
        self.given.lock().all.clone()
    }

    fn frame(&self, seq: i64, labels: &[GivenLabel]) -> Bytes {
        let mut writer = Writer::with_capacity(64 + labels.len() * 320);
        writer.map(2).text("t").text("#labels").text("op").int(1);
        writer.map(2).text("seq").int(seq).text("labels").list(labels.len());
        for given in labels {
            let (cts, exp) = (datetime::format_ms(given.cts_us), given.exp_us.map(datetime::format_ms));
            let label = Label {
                src: &given.src,
                uri: &given.uri,
                cid: None,
                val: &given.val,
                neg: given.neg,
                neg_written: false,
                cts: &cts,
                cts_us: given.cts_us,
                exp: exp.as_deref(),
                exp_us: given.exp_us,
                sig: &[],
            };
            write_label(&label, &label.sign(&self.key), &mut writer);
        }
        writer.into_bytes().into()
    }
}

fn write_label(label: &Label<'_>, sig: &[u8], writer: &mut Writer) {
    writer.map(6 + usize::from(label.exp.is_some()) + usize::from(label.neg)).text("cts").text(label.cts);
    if let Some(exp) = label.exp {
        writer.text("exp").text(exp);
    }
    if label.neg {
        writer.text("neg").flag(true);
    }
    writer.text("sig").bytes(sig).text("src").text(label.src).text("uri").text(label.uri);
    writer.text("val").text(label.val).text("ver").int(gp_atproto::labels::VERSION);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Page;
    use gp_atproto::{
        crypto::Curve,
        labels::{LabelError, LabelStreamMessage},
    };

    #[test]
    fn frames_read_back_and_verify() {
        let key = SigningKey::from_bytes(Curve::K256, &[7; 32]).unwrap();
        let labeler = Labeler::new("did:plc:ewvi7nxzyoun6zhxrhs64oiz", key.clone(), 1);
        let subjects: Vec<String> =
            (0..200).map(|n| format!("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/{n}")).collect();
        let log = Log::new(None, None);
        let now_us = 1_780_000_000_000_000;
        labeler.look_at(&subjects, 3, now_us - 1_000_000_000, now_us, &log);
        let Page::Frames(frames, _) = log.after(0, 999, usize::MAX) else { panic!("no labels") };
        let (mut count, mut negated) = (0, 0);
        for frame in &frames {
            let LabelStreamMessage::Labels(message) = LabelStreamMessage::decode(frame).unwrap() else {
                panic!("not labels")
            };
            for label in message.labels {
                let label = label.unwrap();
                label.verify(&key.verifying_key()).unwrap();
                let other = SigningKey::from_bytes(Curve::K256, &[8; 32]).unwrap().verifying_key();
                assert!(matches!(label.verify(&other), Err(LabelError::Signature(_))));
                (count, negated) = (count + 1, negated + usize::from(label.neg));
            }
        }
        assert_eq!(count, labeler.given().len());
        assert!(count > 40 && negated > 2, "{count} {negated}");
    }
}
