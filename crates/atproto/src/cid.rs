//! Content identifiers.
//!
//! [`Cid`] is the one form that repositories are built from (version 1, sha-256) and is copied freely. Records may
//! link to anything else that parses as a CID; such links are carried as [`CidRef`] (borrowed) or [`CidBuf`] (owned).

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use crate::multibase;

/// Bytes of a [`Cid`]: version, codec, hash code, digest length, digest.
pub const CID_BYTES: usize = 36;
/// Characters of the text of a [`Cid`]: the letter `b` and 58 base32 symbols.
pub const CID_TEXT_CHARS: usize = 59;
/// Longest CID text that is parsed, in characters. Nothing real comes near.
pub const CID_TEXT_CHARS_MAX: usize = 1024;

const VERSION_1: u8 = 0x01;
const DAG_CBOR: u8 = 0x71;
const RAW: u8 = 0x55;
const DAG_PB: u64 = 0x70;
/// Multihash code of sha-256.
pub const SHA2_256: u64 = 0x12;
/// Multihash code of sha-512.
pub const SHA2_512: u64 = 0x13;

/// A version 1 CID with a sha-256 digest, 36 bytes inline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid([u8; CID_BYTES]);

/// The bytes are not a CID, or not one of the form asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid CID")]
pub struct CidError;

impl Cid {
    /// The CID of a DAG-CBOR block.
    pub fn for_dag_cbor(block: &[u8]) -> Cid {
        Cid::from_parts(DAG_CBOR, Sha256::digest(block).into())
    }

    /// The CID of a raw block (a blob).
    pub fn for_raw(block: &[u8]) -> Cid {
        Cid::from_parts(RAW, Sha256::digest(block).into())
    }

    /// The DAG-CBOR CID with this sha-256 digest.
    pub fn dag_cbor_with_digest(digest: [u8; 32]) -> Cid {
        Cid::from_parts(DAG_CBOR, digest)
    }

    fn from_parts(codec: u8, digest: [u8; 32]) -> Cid {
        let mut bytes = [0; CID_BYTES];
        bytes[..4].copy_from_slice(&[VERSION_1, codec, 0x12, 0x20]);
        bytes[4..].copy_from_slice(&digest);
        Cid(bytes)
    }

    /// Reads the binary form. Fails for every CID that is not version 1, one-byte codec, sha-256.
    pub fn from_bytes(bytes: &[u8]) -> Result<Cid, CidError> {
        let bytes: [u8; CID_BYTES] = bytes.try_into().map_err(|_| CidError)?;
        match bytes {
            [VERSION_1, codec, 0x12, 0x20, ..] if codec < 0x80 => Ok(Cid(bytes)),
            _ => Err(CidError),
        }
    }

    /// Reads the canonical text: `b` and lower-case base32.
    pub fn parse(text: &str) -> Result<Cid, CidError> {
        let symbols = text.strip_prefix('b').ok_or(CidError)?;
        let mut bytes = [0; CID_BYTES];
        multibase::base32_decode_into(symbols.as_bytes(), &mut bytes).ok_or(CidError)?;
        Cid::from_bytes(&bytes)
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8; CID_BYTES] {
        &self.0
    }

    /// The sha-256 digest.
    pub fn digest(&self) -> &[u8; 32] {
        self.0.last_chunk().expect("36 bytes end with 32 bytes")
    }

    /// Whether the codec is DAG-CBOR (commits, tree nodes, records).
    pub fn is_dag_cbor(&self) -> bool {
        self.0[1] == DAG_CBOR
    }

    /// Whether the codec is raw (blobs).
    pub fn is_raw(&self) -> bool {
        self.0[1] == RAW
    }

    /// Whether `block` hashes to this CID.
    pub fn verify(&self, block: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(block).into();
        digest == *self.digest()
    }

    /// This CID as a borrowed CID of any form.
    pub fn as_ref(&self) -> CidRef<'_> {
        CidRef(&self.0)
    }

    /// Appends the canonical text (59 characters).
    pub fn write_text(&self, out: &mut Vec<u8>) {
        out.push(b'b');
        multibase::base32_encode(&self.0, out);
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cid {
    type Err = CidError;

    fn from_str(text: &str) -> Result<Cid, CidError> {
        Cid::parse(text)
    }
}

/// The borrowed binary form of any well-formed CID: version 0, or version 1 with any codec and hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CidRef<'a>(&'a [u8]);

impl<'a> CidRef<'a> {
    /// Reads the binary form, which must end where the digest ends.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<CidRef<'a>, CidError> {
        match CidRef::from_prefix(bytes)? {
            (cid, []) => Ok(cid),
            _ => Err(CidError),
        }
    }

    /// Reads the CID that `bytes` begin with, and what follows it.
    pub fn from_prefix(bytes: &'a [u8]) -> Result<(CidRef<'a>, &'a [u8]), CidError> {
        // The two forms that make up nearly everything are recognised by their first bytes.
        if let [VERSION_1, codec, 0x12, 0x20, ..] = bytes
            && *codec < 0x80
            && bytes.len() >= CID_BYTES
        {
            let (cid, rest) = bytes.split_at(CID_BYTES);
            return Ok((CidRef(cid), rest));
        }
        if let [0x12, 0x20, ..] = bytes {
            let (cid, rest) = bytes.split_at_checked(34).ok_or(CidError)?;
            return Ok((CidRef(cid), rest));
        }
        let mut rest = bytes;
        if varint(&mut rest)? != u64::from(VERSION_1) {
            return Err(CidError);
        }
        let (_codec, _hash) = (varint(&mut rest)?, varint(&mut rest)?);
        let digest_len = usize::try_from(varint(&mut rest)?).map_err(|_| CidError)?;
        let rest = rest.get(digest_len..).ok_or(CidError)?;
        Ok((CidRef(&bytes[..bytes.len() - rest.len()]), rest))
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The CID itself where it has the form of [`Cid`].
    pub fn to_cid(&self) -> Option<Cid> {
        Cid::from_bytes(self.0).ok()
    }

    /// Codec, hash code and digest.
    pub fn parts(&self) -> (u64, u64, &'a [u8]) {
        if let [0x12, 0x20, digest @ ..] = self.0 {
            return (DAG_PB, SHA2_256, digest);
        }
        let mut rest = self.0;
        let mut next = || varint(&mut rest).expect("the constructor has read these numbers");
        let (_version, codec, hash, _len) = (next(), next(), next(), next());
        (codec, hash, rest)
    }

    /// Whether this is a version 0 CID (`Qm…`).
    pub fn is_v0(&self) -> bool {
        self.0.first() == Some(&0x12)
    }

    /// Whether this is a version 1, raw codec, sha-256 CID, the only form that a blob reference may have.
    pub fn is_raw_sha256(&self) -> bool {
        self.to_cid().is_some_and(|cid| cid.is_raw())
    }

    /// Appends the canonical text: base32 for version 1, base58 for version 0.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        if self.is_v0() {
            out.extend_from_slice(multibase::base58_encode(self.0).as_bytes());
        } else {
            out.push(b'b');
            multibase::base32_encode(self.0, out);
        }
    }

    /// An owned copy.
    pub fn to_owned(&self) -> CidBuf {
        CidBuf(self.0.into())
    }
}

impl fmt::Display for CidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(CID_TEXT_CHARS);
        self.write_text(&mut text);
        f.pad(std::str::from_utf8(&text).expect("base32 and base58 are ASCII"))
    }
}

impl fmt::Debug for CidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> From<&'a Cid> for CidRef<'a> {
    fn from(cid: &'a Cid) -> CidRef<'a> {
        cid.as_ref()
    }
}

impl PartialEq<Cid> for CidRef<'_> {
    fn eq(&self, other: &Cid) -> bool {
        self.0 == other.0
    }
}

/// The owned binary form of any well-formed CID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CidBuf(Box<[u8]>);

impl CidBuf {
    /// Reads the canonical text of any CID: version 1 in lower-case base32, or version 0 in base58 (`Qm…`).
    ///
    /// The same CID in another base or case is refused, and so is text beyond [`CID_TEXT_CHARS_MAX`]. The `cid` string
    /// format is looser: see [`is_valid`].
    pub fn parse(text: &str) -> Result<CidBuf, CidError> {
        if text.len() > CID_TEXT_CHARS_MAX {
            return Err(CidError);
        }
        let bytes = match text.as_bytes() {
            [b'b', ..] => multibase::base32_decode(&text[1..]),
            [b'Q', ..] => multibase::base58_decode(text),
            _ => None,
        };
        let bytes = bytes.ok_or(CidError)?;
        if CidRef::from_bytes(&bytes)?.is_v0() != text.starts_with('Q') {
            return Err(CidError);
        }
        Ok(CidBuf(bytes.into()))
    }

    /// This CID, borrowed.
    pub fn as_ref(&self) -> CidRef<'_> {
        CidRef(&self.0)
    }
}

impl fmt::Display for CidBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for CidBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Cid> for CidBuf {
    fn from(cid: Cid) -> CidBuf {
        CidBuf(cid.0.into())
    }
}

/// Longest text that the string format `cid` accepts, in characters.
const FORMAT_CHARS_MAX: usize = 128;

/// Whether `text` is in the accept set of the lexicon string format `cid`: version 1 in lower-case base32, or version 0
/// in base58.
///
/// Nearly every text is a plain [`Cid`]. The rest is read as loosely as the network's AppView does: padding behind
/// base32 is allowed, and so are numbers in more bytes than they need, any codec, any hash and any length of digest.
pub fn is_valid(text: &str) -> bool {
    if Cid::parse(text).is_ok() {
        return true;
    }
    if text.len() > FORMAT_CHARS_MAX {
        return false;
    }
    let (decoded, version) = match text.as_bytes() {
        [b'b', ..] => (multibase::base32_decode(text[1..].trim_end_matches('=')), 1),
        [b'Q', ..] => (multibase::base58_decode(text), 0),
        _ => return false,
    };
    decoded.is_some_and(|bytes| cid_version(&bytes) == Some(version))
}

/// The version of a binary CID, if the bytes are one and nothing follows.
fn cid_version(bytes: &[u8]) -> Option<u64> {
    /// What a version 0 CID begins with in place of a version: the code of its hash.
    const SHA2_256: u64 = 0x12;
    let mut rest = bytes;
    let mut version = number(&mut rest)?;
    if version == SHA2_256 {
        (version, rest) = (0, bytes);
    } else {
        let _codec = number(&mut rest)?;
    }
    let _hash = number(&mut rest)?;
    let digest_len = number(&mut rest)?;
    (version <= 1 && digest_len == rest.len() as u64).then_some(version)
}

/// Reads an unsigned LEB128 number of any length. What does not fit in 64 bits becomes the largest number.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| *byte < 0x80)? + 1;
    let (number, rest) = bytes.split_at(end);
    *bytes = rest;
    Some(number.iter().rev().fold(0u64, |value, byte| match value.leading_zeros() {
        0..7 => u64::MAX,
        _ => value << 7 | u64::from(byte & 0x7f),
    }))
}

/// Reads an unsigned LEB128 number of at most nine bytes (63 bits), written in its shortest form.
pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, CidError> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            if byte == 0 && i > 0 {
                return Err(CidError); // a shorter form exists
            }
            *bytes = &bytes[i + 1..];
            return Ok(value);
        }
    }
    Err(CidError)
}

/// Appends a number as unsigned LEB128.
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";

    #[test]
    fn the_cid_of_a_known_record() {
        let block = multibase::hex_decode("a16568656c6c6f65776f726c64").unwrap();
        let cid = Cid::for_dag_cbor(&block);
        assert_eq!(cid.to_string(), HELLO);
        assert_eq!(Cid::parse(HELLO), Ok(cid));
        assert!(cid.verify(&block) && !cid.verify(b""));
        assert!(Cid::for_raw(b"").to_string().starts_with("bafkrei"));
    }

    #[test]
    fn accept_set_of_the_cid_format() {
        let v0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
        let v1_dag_pb = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
        for text in [HELLO, v0, v1_dag_pb, "bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(is_valid(text), "{text}");
        }
        assert_eq!(CidBuf::parse(v0).unwrap().to_string(), v0);
        assert!(CidBuf::parse(v0).unwrap().as_ref().to_cid().is_none());
        let upper = HELLO.to_uppercase();
        let base58 = format!("z{}", multibase::base58_encode(Cid::parse(HELLO).unwrap().as_bytes()));
        let longer = format!("{HELLO}a");
        for text in ["", "b", "Q", "bafyrei", &upper, &base58, &longer, &HELLO[..58], " bafy", "Qm", "QmdfTbBqBPQ7VNxZ"]
        {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn cids_of_many_forms_pass() {
        let cbor = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
        let padded = format!("{cbor}======");
        for text in [cbor, &padded, "QmQg1v4o9xdT3Q14wh4S7dxZkDjyZ9ssFzFzyep1YrVJBY", "bafkqaaa"] {
            assert!(is_valid(text), "{text}");
        }
        // Upper case, one symbol short, base58 of version 1, a version nobody has, and beyond 128 characters.
        let identity = |digest_len: usize| {
            let mut text = String::from("b");
            let mut bytes = vec![1, 0x55, 0, digest_len as u8];
            bytes.extend(std::iter::repeat_n(7, digest_len));
            let mut out = Vec::new();
            multibase::base32_encode(&bytes, &mut out);
            text.push_str(std::str::from_utf8(&out).unwrap());
            text
        };
        assert!(is_valid(&identity(75)));
        assert_eq!(identity(76).len(), 129);
        for text in [
            &cbor.to_uppercase(),
            &cbor[..58],
            "zb2rhZfjRh2FHHB2RkHVEvL2vJnCTcu7kwRqgVsf9gpkLgteo",
            "b",
            "",
            &identity(76),
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn numbers_saturate() {
        assert_eq!(number(&mut &[0x81, 0x00][..]), Some(1));
        assert_eq!(number(&mut &[0xff; 4][..]), None);
        let mut long = vec![0xff; 40];
        long.push(0x01);
        assert_eq!(number(&mut &long[..]), Some(u64::MAX));
        assert_eq!(number(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), Some(0));
    }

    #[test]
    fn binary_forms() {
        let sha512 = [&[0x01, 0x71, 0x13, 0x40][..], &[7; 64]].concat();
        assert_eq!(CidRef::from_bytes(&sha512).unwrap().parts(), (0x71, SHA2_512, &[7u8; 64][..]));
        let v0 = [&[0x12, 0x20][..], &[7; 32]].concat();
        assert_eq!(CidRef::from_bytes(&v0).unwrap().parts(), (DAG_PB, SHA2_256, &[7u8; 32][..]));
        for bad in
            [&[][..], &[1], &[0, 0x71, 0x12, 0x00], &[1, 0x71, 0x12, 0x20, 0], &[1, 0xf1, 0x00, 0x12, 0], &v0[..33]]
        {
            assert_eq!(CidRef::from_bytes(bad), Err(CidError), "{bad:?}");
        }
        assert_eq!(Cid::from_bytes(&sha512), Err(CidError));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(cid) = CidRef::from_bytes(&bytes) {
                let _ = (cid.parts(), cid.to_cid());
                let text = cid.to_string();
                prop_assert_eq!(CidBuf::parse(&text).map(|it| it.to_string()), Ok(text));
            }
        }

        #[test]
        fn text_round_trips(digest in any::<[u8; 32]>()) {
            let cid = Cid::dag_cbor_with_digest(digest);
            prop_assert_eq!(Cid::parse(&cid.to_string()), Ok(cid));
        }

        #[test]
        fn varints_round_trip(value in 0u64..1 << 63) {
            let mut bytes = Vec::new();
            write_varint(value, &mut bytes);
            let mut rest = &bytes[..];
            prop_assert_eq!(varint(&mut rest), Ok(value));
            prop_assert!(rest.is_empty());
        }
    }
}
