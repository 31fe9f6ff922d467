//! Labels and the frames of `com.atproto.label.subscribeLabels`.
//!
//! A label is signed over the canonical DAG-CBOR of its fields without `sig`, where an absent `cid` or `exp` is left
//! out. Most labelers leave out a false `neg` as well; some write it, into the frame and into what they sign.

use crate::{
    cbor::{CborError, Kind, Reader, Writer},
    crypto::{SignatureError, SigningKey, VerifyingKey},
    datetime, did,
    frame::{FrameError, Header, InfoMessage, StreamError, Type, body, header, named, required},
    uri,
};

/// Most bytes of a label's value.
pub const VAL_BYTES_MAX: usize = 128;
/// The only version of labels.
pub const VERSION: i64 = 1;
/// Largest frame of labels worth reading, in bytes.
pub const FRAME_BYTES_MAX: usize = 5_000_000;

const METHOD: &str = "com.atproto.label.subscribeLabels";

/// Why a label was refused. The labels beside it are not touched by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A required field is missing.
    #[error("label has no {0}")]
    Missing(&'static str),
    /// A field is of the wrong kind, format or length.
    #[error("label has a malformed {0}")]
    Field(&'static str),
    /// A version other than 1.
    #[error("label is not of version 1")]
    Version,
    /// Not signed, or not by this key.
    #[error("label signature: {0}")]
    Signature(#[from] SignatureError),
}

/// One label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// The labeler's DID.
    pub src: &'a str,
    /// What is labelled: a DID or an AT-URI.
    pub uri: &'a str,
    /// The version of the record that is labelled, if only that.
    pub cid: Option<&'a str>,
    /// The label's name.
    pub val: &'a str,
    /// Whether this takes the label back.
    pub neg: bool,
    /// Whether a false `neg` is written out and not left out: the labeler then signs it as well.
    pub neg_written: bool,
    /// When it was made, as sent.
    pub cts: &'a str,
    /// The same in microseconds since the epoch.
    pub cts_us: i64,
    /// When it ends, as sent.
    pub exp: Option<&'a str>,
    /// The same in microseconds since the epoch.
    pub exp_us: Option<i64>,
    /// 64 bytes if it is a signature; empty where there is none.
    pub sig: &'a [u8],
}

impl<'a> Label<'a> {
    /// Reads a label from its CBOR. The outer error says that the bytes are not CBOR, the inner one that this label is
    /// not acceptable. The version must be 1; the signature is not checked here.
    fn read(reader: &mut Reader<'a>) -> Result<Result<Label<'a>, LabelError>, FrameError> {
        let (mut ver, mut src, mut uri, mut cid, mut val) = (None, None, None, None, None);
        let (mut neg, mut cts, mut exp, mut sig) = (None, None, None, None);
        let start = reader.rest();
        let fields = body(reader, |key, reader| {
            match key {
                "ver" => ver = named("ver", reader.int())?,
                "src" => src = named("src", reader.text())?,
                "uri" => uri = named("uri", reader.text())?,
                "cid" | "exp" | "neg" | "sig" if reader.null() => {}
                "cid" => cid = named("cid", reader.text())?,
                "val" => val = named("val", reader.text())?,
                "neg" => neg = named("neg", reader.flag())?,
                "cts" => cts = named("cts", reader.text())?,
                "exp" => exp = named("exp", reader.text())?,
                "sig" => sig = named("sig", reader.bytes())?,
                _ => return Ok(false),
            }
            Ok(true)
        });
        match fields {
            Ok(()) => {}
            Err(FrameError::Field(name)) => {
                // Step over this label whole; the next one may be fine.
                *reader = Reader::new(start);
                reader.skip()?;
                return Ok(Err(LabelError::Field(name)));
            }
            Err(other) => return Err(other),
        }
        let label = || -> Result<Label<'a>, LabelError> {
            let cts: &str = cts.ok_or(LabelError::Missing("cts"))?;
            let time = |name, text| datetime::parse_micros(text).ok_or(LabelError::Field(name));
            let label = Label {
                src: src.ok_or(LabelError::Missing("src"))?,
                uri: uri.ok_or(LabelError::Missing("uri"))?,
                cid,
                val: val.ok_or(LabelError::Missing("val"))?,
                neg: neg.unwrap_or(false),
                neg_written: neg == Some(false),
                cts,
                cts_us: time("cts", cts)?,
                exp,
                exp_us: exp.map(|exp| time("exp", exp)).transpose()?,
                sig: sig.unwrap_or_default(),
            };
            match () {
                () if ver != Some(VERSION) => Err(LabelError::Version),
                () if !did::is_valid(label.src) => Err(LabelError::Field("src")),
                () if !uri::is_valid(label.uri) => Err(LabelError::Field("uri")),
                () if label.cid.is_some_and(|cid| !crate::cid::is_valid(cid)) => Err(LabelError::Field("cid")),
                () if label.val.len() > VAL_BYTES_MAX => Err(LabelError::Field("val")),
                () => Ok(label),
            }
        };
        Ok(label())
    }

    fn write(&self, sig: Option<&[u8]>, writer: &mut Writer) {
        let neg = self.neg || self.neg_written;
        let optional = usize::from(self.cid.is_some()) + usize::from(self.exp.is_some()) + usize::from(neg);
        writer.map(5 + optional + usize::from(sig.is_some()));
        if let Some(cid) = self.cid {
            writer.text("cid").text(cid);
        }
        writer.text("cts").text(self.cts);
        if let Some(exp) = self.exp {
            writer.text("exp").text(exp);
        }
        if neg {
            writer.text("neg").flag(self.neg);
        }
        if let Some(sig) = sig {
            writer.text("sig").bytes(sig);
        }
        writer
            .text("src")
            .text(self.src)
            .text("uri")
            .text(self.uri)
            .text("val")
            .text(self.val)
            .text("ver")
            .int(VERSION);
    }

    /// The bytes that are signed.
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(256);
        self.write(None, &mut writer);
        writer.into_bytes()
    }

    /// The bytes that may have been signed, likeliest first: with a false `neg` where the label came with one, and
    /// without it, since whoever passed the label on may have written it out.
    pub fn signing_forms(&self) -> impl Iterator<Item = Vec<u8>> {
        let bare = self.neg_written.then(|| Label { neg_written: false, ..*self }.signing_bytes());
        [self.signing_bytes()].into_iter().chain(bare)
    }

    /// Checks the signature with the labeler's `#atproto_label` key.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), LabelError> {
        let mut judged = Err(SignatureError::Mismatch);
        for bytes in self.signing_forms() {
            judged = key.verify(&bytes, self.sig);
            if judged.is_ok() {
                break;
            }
        }
        Ok(judged?)
    }

    /// Makes the signature, for the synthetic network and tests.
    pub fn sign(&self, key: &SigningKey) -> [u8; 64] {
        key.sign(&self.signing_bytes())
    }
}

/// `#labels`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelsMessage<'a> {
    /// Position in the labeler's stream.
    pub seq: i64,
    /// The labels, each good or refused by itself.
    pub labels: Vec<Result<Label<'a>, LabelError>>,
}

/// One frame of a labeler's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelStreamMessage<'a> {
    /// New labels.
    Labels(LabelsMessage<'a>),
    /// Something about the stream itself.
    Info(InfoMessage<'a>),
    /// A type that is not known here.
    Unknown(&'a str),
    /// The stream ends for this reason.
    Error(StreamError<'a>),
}

impl<'a> LabelStreamMessage<'a> {
    /// Reads one frame. A malformed label is an error of its own and leaves the others.
    pub fn decode(frame: &'a [u8]) -> Result<LabelStreamMessage<'a>, FrameError> {
        let mut reader = Reader::new(frame);
        let message = match Header::read(&mut reader)?.kind(METHOD, &reader)? {
            Type::Error => LabelStreamMessage::Error(StreamError::read(&mut reader)?),
            Type::Named("labels") => LabelStreamMessage::Labels(read_labels(&mut reader)?),
            Type::Named("info") => LabelStreamMessage::Info(InfoMessage::read(&mut reader)?),
            Type::Named(other) | Type::Foreign(other) => {
                reader.skip()?;
                LabelStreamMessage::Unknown(other)
            }
        };
        reader.end()?;
        Ok(message)
    }
}

fn read_labels<'a>(reader: &mut Reader<'a>) -> Result<LabelsMessage<'a>, FrameError> {
    let (mut seq, mut labels) = (None, None);
    body(reader, |key, reader| {
        match key {
            "seq" => seq = named("seq", reader.int())?,
            "labels" => {
                let mut list = Vec::new();
                for _ in 0..named("labels", reader.list())?.unwrap_or_default() {
                    if reader.kind()? == Kind::Map {
                        list.push(Label::read(reader)?);
                    } else {
                        reader.skip()?;
                        list.push(Err(LabelError::Field("label")));
                    }
                }
                labels = Some(list);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(LabelsMessage { seq: required("seq", seq)?, labels: required("labels", labels)? })
}

/// Reads one label that stands alone, as `queryLabels` and operators' tools may hand it over in CBOR.
pub fn decode_label(bytes: &[u8]) -> Result<Label<'_>, LabelError> {
    let mut reader = Reader::new(bytes);
    match Label::read(&mut reader).map_err(|_: FrameError| LabelError::Field("label"))? {
        Ok(label) if reader.end().map_err(|_: CborError| LabelError::Field("label")).is_ok() => Ok(label),
        Ok(_) => Err(LabelError::Field("label")),
        Err(error) => Err(error),
    }
}

/// Writes a `#labels` frame.
pub fn encode_labels(seq: i64, labels: &[Label<'_>]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(64 + labels.len() * 320);
    header(&mut writer, "#labels").map(2).text("seq").int(seq).text("labels").list(labels.len());
    for label in labels {
        label.write(Some(label.sig), &mut writer);
    }
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cbor, crypto::Curve};
    use proptest::prelude::*;

    const CID: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";

    fn key() -> SigningKey {
        SigningKey::from_bytes(Curve::K256, &[3; 32]).unwrap()
    }

    fn label() -> Label<'static> {
        Label {
            src: "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
            uri: "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a",
            cid: Some(CID),
            val: "spam",
            neg: false,
            neg_written: false,
            cts: "2024-01-02T03:04:05.678Z",
            cts_us: 1_704_164_645_678_000,
            exp: None,
            exp_us: None,
            sig: &[],
        }
    }

    #[test]
    fn signed_labels_travel() {
        let sig = label().sign(&key());
        let first = Label { sig: &sig, ..label() };
        let second = Label {
            cid: None,
            neg: true,
            exp: Some("2025-01-01T00:00:00Z"),
            exp_us: Some(1_735_689_600_000_000),
            ..label()
        };
        let frame = encode_labels(9, &[first, second]);
        let want = LabelsMessage { seq: 9, labels: vec![Ok(first), Ok(second)] };
        assert_eq!(LabelStreamMessage::decode(&frame), Ok(LabelStreamMessage::Labels(want)));
        assert_eq!(first.verify(&key().verifying_key()), Ok(()));
        assert_eq!(second.verify(&key().verifying_key()), Err(LabelError::Signature(SignatureError::Length)));
        for changed in [Label { neg: true, ..first }, Label { cid: None, ..first }, Label { val: "spam2", ..first }] {
            assert_eq!(changed.verify(&key().verifying_key()), Err(LabelError::Signature(SignatureError::Mismatch)));
        }
    }

    #[test]
    fn a_false_neg_is_signed_by_some_and_left_out_by_others() {
        let written = Label { neg_written: true, ..label() };
        for (signed, sent) in [(written, written), (label(), written), (label(), label())] {
            let sig = signed.sign(&key());
            let frame = encode_labels(1, &[Label { sig: &sig, ..sent }]);
            let Ok(LabelStreamMessage::Labels(message)) = LabelStreamMessage::decode(&frame) else { panic!() };
            let found = message.labels[0].unwrap();
            assert_eq!((found.neg, found.neg_written), (false, sent.neg_written));
            assert_eq!(found.verify(&key().verifying_key()), Ok(()));
            let turned = Label { neg: true, neg_written: false, ..found };
            assert_eq!(turned.verify(&key().verifying_key()), Err(LabelError::Signature(SignatureError::Mismatch)));
        }
    }

    #[test]
    fn the_signed_bytes_leave_out_what_is_absent() {
        let bytes = label().signing_bytes();
        let value = cbor::decode(&bytes).unwrap();
        let keys: Vec<_> = value.as_map().unwrap().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["cid", "cts", "src", "uri", "val", "ver"]);
        assert_eq!(cbor::encode(&value), bytes, "canonical");
        let bytes = Label { cid: None, neg: true, exp: Some("x"), ..label() }.signing_bytes();
        let keys: Vec<_> =
            cbor::decode(&bytes).unwrap().as_map().unwrap().iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(keys, ["cts", "exp", "neg", "src", "uri", "val", "ver"]);
    }

    #[test]
    fn a_bad_label_leaves_its_neighbours() {
        let long = "x".repeat(VAL_BYTES_MAX + 1);
        let bad = [
            (Label { src: "nobody", ..label() }, LabelError::Field("src")),
            (Label { uri: "no uri", ..label() }, LabelError::Field("uri")),
            (Label { cid: Some("cid"), ..label() }, LabelError::Field("cid")),
            (Label { val: &long, ..label() }, LabelError::Field("val")),
            (Label { cts: "now", ..label() }, LabelError::Field("cts")),
            (Label { exp: Some("never"), ..label() }, LabelError::Field("exp")),
        ];
        for (bad, error) in bad {
            let frame = encode_labels(1, &[bad, label()]);
            let Ok(LabelStreamMessage::Labels(message)) = LabelStreamMessage::decode(&frame) else { panic!("{error}") };
            assert_eq!(message.labels, [Err(error), Ok(label())]);
        }
        let mut writer = Writer::new();
        header(&mut writer, "#labels").map(2).text("seq").int(1).text("labels").list(4);
        writer.int(7).map(1).text("ver").text("one").map(1).text("cts").text("2024-01-02T03:04:05Z");
        label().write(None, &mut writer);
        let Ok(LabelStreamMessage::Labels(message)) = LabelStreamMessage::decode(writer.as_bytes()) else { panic!() };
        let want = [
            Err(LabelError::Field("label")),
            Err(LabelError::Field("ver")),
            Err(LabelError::Missing("src")),
            Ok(label()),
        ];
        assert_eq!(message.labels, want);
    }

    #[test]
    fn a_label_alone() {
        let mut writer = Writer::new();
        label().write(None, &mut writer);
        assert_eq!(decode_label(writer.as_bytes()), Ok(label()));
        assert!(decode_label(&[writer.as_bytes(), &[0]].concat()).is_err());
        assert!(decode_label(&[]).is_err());
    }

    proptest! {
        #[test]
        fn damaged_frames_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode_labels(1, &[label(), label()]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = LabelStreamMessage::decode(&bytes);
            prop_assert!(LabelStreamMessage::decode(&bytes[..at]).is_err());
        }
    }
}
