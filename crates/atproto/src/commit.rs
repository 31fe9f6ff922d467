//! The signed root of a repository.
//!
//! A commit is `{did, version: 3, data, rev, prev, sig}` in DAG-CBOR. The signature covers the canonical encoding of
//! the other five fields; whatever else a block may hold is not kept, so a commit signed over more does not verify.

use crate::{
    cbor::{CborError, Keys, Reader, Writer},
    cid::{Cid, CidRef},
    crypto::{SignatureError, SigningKey, VerifyingKey},
    did,
    tid::Tid,
};

/// The version of commits that is read and written.
pub const VERSION: i64 = 3;

/// Why a block is not a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Not DAG-CBOR, or a field of the wrong kind.
    #[error("commit is not readable: {0}")]
    Encoding(#[from] CborError),
    /// A field is missing.
    #[error("commit has no {0}")]
    Missing(&'static str),
    /// A version other than 3.
    #[error("commit is not of version 3")]
    Version,
    /// The DID is not one.
    #[error("commit has no valid DID")]
    Did,
    /// The revision is not a TID.
    #[error("commit has no valid revision")]
    Rev,
}

/// A commit, borrowed from its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit<'a> {
    /// The account whose repository it is.
    pub did: &'a str,
    /// When, in the author's clock; grows with every commit.
    pub rev: Tid,
    /// The root of the tree.
    pub data: Cid,
    /// Null from every current writer.
    pub prev: Option<CidRef<'a>>,
    /// 64 bytes if it is a signature.
    pub sig: &'a [u8],
}

impl<'a> Commit<'a> {
    /// Reads a signed commit. The signature is not checked here.
    pub fn decode(block: &'a [u8]) -> Result<Commit<'a>, CommitError> {
        let mut reader = Reader::new(block);
        let (mut did, mut rev, mut data, mut prev, mut sig, mut version) = (None, None, None, None, None, None);
        let mut keys = Keys::default();
        for _ in 0..reader.map()? {
            let key = reader.key()?;
            keys.saw(key);
            match key {
                "did" => did = Some(reader.text()?),
                "rev" => rev = Some(reader.text()?),
                "sig" => sig = Some(reader.bytes()?),
                "data" => data = Some(reader.cid()?),
                "prev" if reader.null() => prev = Some(None),
                "prev" => prev = Some(Some(reader.link()?)),
                "version" => version = Some(reader.int()?),
                _ => reader.skip()?,
            }
        }
        keys.end()?;
        reader.end()?;
        if version.ok_or(CommitError::Missing("version"))? != VERSION {
            return Err(CommitError::Version);
        }
        Ok(Commit {
            did: did
                .ok_or(CommitError::Missing("did"))
                .and_then(|did| did::Did::parse(did).map_err(|_| CommitError::Did))?
                .as_str(),
            rev: Tid::parse(rev.ok_or(CommitError::Missing("rev"))?).map_err(|_| CommitError::Rev)?,
            data: data.ok_or(CommitError::Missing("data"))?,
            prev: prev.ok_or(CommitError::Missing("prev"))?,
            sig: sig.ok_or(CommitError::Missing("sig"))?,
        })
    }

    fn encode(&self, sig: Option<&[u8]>) -> Vec<u8> {
        let mut writer = Writer::with_capacity(256);
        writer
            .map(5 + usize::from(sig.is_some()))
            .text("did")
            .text(self.did)
            .text("rev")
            .text(self.rev.text().as_str());
        if let Some(sig) = sig {
            writer.text("sig").bytes(sig);
        }
        writer.text("data").link(self.data.as_ref()).text("prev");
        match self.prev {
            Some(prev) => writer.link(prev),
            None => writer.null(),
        };
        writer.text("version").int(VERSION);
        writer.into_bytes()
    }

    /// The bytes that are signed.
    pub fn unsigned_bytes(&self) -> Vec<u8> {
        self.encode(None)
    }

    /// The block, canonically encoded.
    pub fn signed_bytes(&self) -> Vec<u8> {
        self.encode(Some(self.sig))
    }

    /// Checks the signature.
    pub fn verify_signature(&self, key: &VerifyingKey) -> Result<(), SignatureError> {
        if self.sig.len() != crate::crypto::SIGNATURE_BYTES {
            return Err(SignatureError::Length);
        }
        key.verify(&self.unsigned_bytes(), self.sig)
    }

    /// Makes and signs a commit without `prev`; returns its block and CID.
    pub fn create(did: &str, rev: Tid, data: Cid, key: &SigningKey) -> (Cid, Vec<u8>) {
        let unsigned = Commit { did, rev, data, prev: None, sig: &[] };
        let sig = key.sign(&unsigned.unsigned_bytes());
        let block = unsigned.encode(Some(&sig));
        (Cid::for_dag_cbor(&block), block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::Curve,
        mst::tests::FIVE_ROOT,
        multibase::{hex_decode, hex_encode},
    };
    use proptest::prelude::*;

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
    const REV: &str = "3jzfcijpj2z2a";
    const UNSIGNED: &str = "a56364696478206469643a706c633a65777669376e787a796f756e367a687872687336346f697a637265766d336a7a6663696a706a327a32616464617461d82a5825000171122082ba8099173286453da581ff5180730ba80d2c71e2dc4e81ade03ff776ee05196470726576f66776657273696f6e03";

    fn create(curve: Curve) -> (Cid, Vec<u8>, VerifyingKey) {
        let key = SigningKey::from_bytes(curve, &[0x11; 32]).unwrap();
        let (cid, block) = Commit::create(DID, Tid::parse(REV).unwrap(), Cid::parse(FIVE_ROOT).unwrap(), &key);
        (cid, block, key.verifying_key())
    }

    #[test]
    fn known_commits() {
        for (curve, sig, cid) in [
            (
                Curve::P256,
                "4c511456d8888ca6bab1c6a804c0034e72df46f36fc13049e51c24a435b872b22bc1130738b55d9150d041171235cb3f907f8141776d925eeb4f4f27f5a572b8",
                "bafyreidnhsrpwn3r5fdx47mbqk532pmb2ah45ihdqqcrxp5m4mwfhfbmiy",
            ),
            (
                Curve::K256,
                "dc9280af6f81e1627fef26e56bc72380f1ef50506b1d78def135a1ece451d7d654d5a1b11fc8e6e80f77b5f18873e880ec073b4cca21f7f53d17eaa6243034cf",
                "bafyreiexkn5pgqux3lmjhg6nqi6xgofyf765vhu3ru4vxjccbdmwwvhasy",
            ),
        ] {
            let (made, block, key) = create(curve);
            let commit = Commit::decode(&block).unwrap();
            assert_eq!(hex_encode(&commit.unsigned_bytes()), UNSIGNED);
            assert_eq!(hex_encode(commit.sig), sig);
            assert_eq!(made.to_string(), cid);
            assert_eq!(commit.signed_bytes(), block);
            assert_eq!(commit.verify_signature(&key), Ok(()));
            let (_, _, other) = create(if curve == Curve::P256 { Curve::K256 } else { Curve::P256 });
            assert_eq!(commit.verify_signature(&other), Err(SignatureError::Mismatch));
        }
    }

    #[test]
    fn any_change_breaks_the_signature() {
        let (_, block, key) = create(Curve::K256);
        let commit = Commit::decode(&block).unwrap();
        let changed = [
            Commit { did: "did:plc:ewvi7nxzyoun6zhxrhs64oia", ..commit },
            Commit { rev: Tid(commit.rev.0 + 1), ..commit },
            Commit { data: crate::mst::empty_root(), ..commit },
            Commit { prev: Some(commit.data.as_ref()), ..commit },
        ];
        for commit in changed {
            assert_eq!(commit.verify_signature(&key), Err(SignatureError::Mismatch));
        }
        assert_eq!(Commit { sig: &[], ..commit }.verify_signature(&key), Err(SignatureError::Length));
    }

    #[test]
    fn odd_blocks() {
        let error = |write: &dyn Fn(&mut Writer)| {
            let mut writer = Writer::new();
            write(&mut writer);
            Commit::decode(writer.as_bytes()).unwrap_err()
        };
        let data = Cid::parse(FIVE_ROOT).unwrap();
        let all = |w: &mut Writer, did: &str, rev: &str, version: i64, fields: usize| {
            w.map(fields).text("did").text(did).text("rev").text(rev).text("sig").bytes(&[]);
            w.text("data").link(data.as_ref()).text("prev").null().text("version").int(version);
        };
        assert_eq!(
            error(&|w| {
                w.list(0);
            }),
            CommitError::Encoding(CborError::WrongKind)
        );
        assert_eq!(
            error(&|w| {
                w.map(0);
            }),
            CommitError::Missing("version")
        );
        assert_eq!(
            error(&|w| {
                w.map(1).text("version").int(3);
            }),
            CommitError::Missing("did")
        );
        assert_eq!(error(&|w| all(w, DID, REV, 2, 6)), CommitError::Version);
        assert_eq!(error(&|w| all(w, "did:", REV, 3, 6)), CommitError::Did);
        assert_eq!(error(&|w| all(w, DID, "1", 3, 6)), CommitError::Rev);
        assert_eq!(
            error(&|w| {
                all(w, DID, REV, 3, 7);
                w.text("did").text(DID);
            }),
            CommitError::Encoding(CborError::DuplicateKey)
        );
        assert_eq!(
            error(&|w| {
                all(w, DID, REV, 3, 6);
                w.null();
            }),
            CommitError::Encoding(CborError::Trailing)
        );
        // A further field is passed over; the signature is over the five known ones.
        let mut writer = Writer::new();
        all(&mut writer, DID, REV, 3, 7);
        writer.text("ops").list(0);
        assert_eq!(hex_encode(&Commit::decode(writer.as_bytes()).unwrap().unsigned_bytes()), UNSIGNED);
        assert_eq!(
            hex_decode(UNSIGNED).map(|bytes| Commit::decode(&bytes).unwrap_err()),
            Some(CommitError::Missing("sig"))
        );
    }

    proptest! {
        #[test]
        fn damaged_commits_neither_panic_nor_verify(at in 0usize..200, byte in any::<u8>()) {
            let (_, sound, key) = create(Curve::K256);
            let mut block = sound.clone();
            let at = at % block.len();
            block[at] = byte;
            if let Ok(commit) = Commit::decode(&block) {
                // What says the same says it with the same right: see below.
                let says_the_same = commit == Commit::decode(&sound).unwrap();
                prop_assert_eq!(commit.verify_signature(&key).is_ok(), says_the_same);
                prop_assert!(!says_the_same || [sound[at], 0xf7].contains(&byte));
            }
        }
    }

    #[test]
    fn undefined_reads_as_null_and_the_signature_is_over_what_was_read() {
        let (_, mut block, key) = create(Curve::K256);
        let prev = block.windows(5).position(|it| it == b"prev\xf6").unwrap();
        block[prev + 4] = 0xf7;
        let commit = Commit::decode(&block).unwrap();
        assert_eq!((commit.prev, commit.verify_signature(&key)), (None, Ok(())));
    }
}
