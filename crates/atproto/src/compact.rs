//! Compact key atoms: how identifiers are written inside storage keys.
//!
//! An atom is deterministic and self-delimiting: it begins with a tag that says how it ends, and no atom of a value is
//! a prefix of another value's, so atoms can follow each other in a key. One tag space covers all kinds:
//!
//! | Tag | Atom | Then |
//! |---|---|---|
//! | `01` | `did:plc` of 24 base32 characters | 15 bytes |
//! | `02` | any other DID | escaped text |
//! | `03` | record key that is a TID | 8 bytes, big endian |
//! | `04` | record key `self` | nothing |
//! | `05` | any other record key | escaped text |
//! | `06` | unlisted NSID | escaped text |
//! | `07` | URI of a record: `at://did/nsid/rkey` | DID atom, NSID atom, record key atom |
//! | `08` | any other URI | escaped text |
//! | `09` | DID, record key, NSID or URI beyond [`TEXT_BYTES_MAX`] | its first [`HEAD_BYTES`] bytes and its sha-256 |
//! | `10`–`ff` | NSID of [`KNOWN_NSIDS`] | nothing |
//!
//! *Escaped text*: byte 0 becomes `01 01`, byte 1 becomes `01 02`, everything else stays, and a zero byte ends it. The
//! order of escaped texts is the order of the texts. TIDs sort as their texts do. Between tags the order means nothing.
//!
//! Every atom but tag `09` is read back byte for byte. A `09` atom keeps keys bounded and cannot be undone: whoever
//! needs such a text keeps it in the row's value.

use sha2::{Digest, Sha256};

use crate::{aturi::AtUri, cid, cid::Cid, did, tid::Tid};

/// Longest text that is kept in full inside a key, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// Bytes of a longer text that stay readable in front of its hash.
pub const HEAD_BYTES: usize = 32;
/// Most bytes that one DID, NSID or record key atom takes: every byte of the text escaped, tag and end.
pub const ATOM_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX + 2;

mod tag {
    pub(super) const DID_PLC: u8 = 0x01;
    pub(super) const DID_OTHER: u8 = 0x02;
    pub(super) const RKEY_TID: u8 = 0x03;
    pub(super) const RKEY_SELF: u8 = 0x04;
    pub(super) const RKEY_OTHER: u8 = 0x05;
    pub(super) const NSID_OTHER: u8 = 0x06;
    pub(super) const URI_RECORD: u8 = 0x07;
    pub(super) const URI_OTHER: u8 = 0x08;
    pub(super) const HASHED: u8 = 0x09;
    pub(super) const NSID_KNOWN: u8 = 0x10;
}

/// Collections whose NSID takes one byte: tag `10` is the first.
///
/// On disk. Entries are only ever added at the end; none is moved, changed or removed.
pub const KNOWN_NSIDS: &[&str] = &[
    "app.bsky.feed.post",
    "app.bsky.feed.like",
    "app.bsky.feed.repost",
    "app.bsky.feed.threadgate",
    "app.bsky.feed.postgate",
    "app.bsky.feed.generator",
    "app.bsky.graph.follow",
    "app.bsky.graph.block",
    "app.bsky.graph.list",
    "app.bsky.graph.listitem",
    "app.bsky.graph.listblock",
    "app.bsky.graph.starterpack",
    "app.bsky.graph.verification",
    "app.bsky.graph.referencelistoptout",
    "app.bsky.actor.profile",
    "app.bsky.actor.status",
    "app.bsky.actor.contentVisibilityDeclaration",
    "app.bsky.labeler.service",
    "app.bsky.notification.declaration",
    "chat.bsky.actor.declaration",
    "com.germnetwork.declaration",
    "site.standard.document",
    "site.standard.publication",
    "site.standard.graph.recommend",
    "site.standard.graph.subscription",
];

/// Why an atom could not be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// The bytes end inside the atom.
    #[error("key atom ends too early")]
    Truncated,
    /// The tag is not one of this kind of atom.
    #[error("key atom has an unexpected tag")]
    Tag,
    /// The escapes or the UTF-8 are broken.
    #[error("key atom is damaged")]
    Damaged,
    /// The text was too long to be kept: only its hash is in the key.
    #[error("key atom holds only a hash of its text")]
    Hashed,
}

type Result<T> = std::result::Result<T, CompactError>;

/// Appends the atom of a DID.
pub fn pack_did(did: &str, out: &mut Vec<u8>) {
    match did::plc_bytes(did) {
        Some(bytes) => {
            out.push(tag::DID_PLC);
            out.extend_from_slice(&bytes);
        }
        None => pack_text(tag::DID_OTHER, did, out),
    }
}

/// Appends the atom of a record key.
pub fn pack_rkey(rkey: &str, out: &mut Vec<u8>) {
    match Tid::parse(rkey) {
        Ok(tid) => {
            out.push(tag::RKEY_TID);
            out.extend_from_slice(&tid.0.to_be_bytes());
        }
        Err(_) if rkey == "self" => out.push(tag::RKEY_SELF),
        Err(_) => pack_text(tag::RKEY_OTHER, rkey, out),
    }
}

/// Appends the atom of an NSID.
pub fn pack_nsid(nsid: &str, out: &mut Vec<u8>) {
    match known_nsid(nsid) {
        Some(byte) => out.push(byte),
        None => pack_text(tag::NSID_OTHER, nsid, out),
    }
}

/// The one byte of a listed NSID.
pub fn known_nsid(nsid: &str) -> Option<u8> {
    // The table is short, and lengths differ in most entries, so this compares few bytes.
    KNOWN_NSIDS.iter().position(|known| *known == nsid).map(|at| tag::NSID_KNOWN + at as u8)
}

/// Appends the atom of a URI: of a record (`at://did/nsid/rkey`), of an account (a DID alone packs as by
/// [`pack_did`]), or of anything else, as it is.
pub fn pack_uri(uri: &str, out: &mut Vec<u8>) {
    if uri.starts_with("did:") {
        return pack_did(uri, out);
    }
    match AtUri::record_parts(uri) {
        Some((did, collection, rkey)) if [did, collection, rkey].iter().all(|part| part.len() <= TEXT_BYTES_MAX) => {
            out.push(tag::URI_RECORD);
            pack_did(did, out);
            pack_nsid(collection, out);
            pack_rkey(rkey, out);
        }
        _ => pack_text(tag::URI_OTHER, uri, out),
    }
}

/// Appends the atom of a record's URI from its parts; the same bytes as [`pack_uri`] of the joined text.
pub fn pack_record_uri(did: &str, collection: &str, rkey: &str, out: &mut Vec<u8>) {
    let plain = |part: &str| {
        !part.is_empty() && part.len() <= TEXT_BYTES_MAX && !part.bytes().any(|byte| b"/#?".contains(&byte))
    };
    if did.starts_with("did:") && plain(did) && plain(collection) && plain(rkey) {
        out.push(tag::URI_RECORD);
        pack_did(did, out);
        pack_nsid(collection, out);
        pack_rkey(rkey, out);
    } else {
        pack_uri(&crate::aturi::of_record(did, collection, rkey), out);
    }
}

fn pack_text(tag: u8, text: &str, out: &mut Vec<u8>) {
    if text.len() > TEXT_BYTES_MAX {
        out.push(tag::HASHED);
        out.extend_from_slice(&text.as_bytes()[..HEAD_BYTES]);
        out.extend_from_slice(&Sha256::digest(text.as_bytes()));
        return;
    }
    out.push(tag);
    escape(text.as_bytes(), out);
}

/// Appends order-preserving, self-delimiting bytes: 0 becomes `01 01`, 1 becomes `01 02`, and 0 ends it.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 1);
    for &byte in bytes {
        match byte {
            0 | 1 => out.extend_from_slice(&[1, byte + 1]),
            _ => out.push(byte),
        }
    }
    out.push(0);
}

/// Reads what [`escape`] wrote, appending to `out`, and returns the rest.
pub fn unescape<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8]> {
    let (escaped, rest) = until_end(bytes)?;
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            1 => match bytes.next() {
                Some(&escape @ (1 | 2)) => out.push(escape - 1),
                _ => return Err(CompactError::Damaged),
            },
            _ => out.push(byte),
        }
    }
    Ok(rest)
}

fn until_end(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(CompactError::Truncated)?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

/// Reads a DID atom, appending its text to `out`, and returns the rest.
pub fn unpack_did<'a>(bytes: &'a [u8], out: &mut String) -> Result<&'a [u8]> {
    let (tag, rest) = first(bytes)?;
    match tag {
        tag::DID_PLC => {
            let (plc, rest) = rest.split_first_chunk::<15>().ok_or(CompactError::Truncated)?;
            did::push_plc(plc, out);
            Ok(rest)
        }
        tag::DID_OTHER => unpack_text(rest, out),
        other => Err(unexpected(other)),
    }
}

/// Reads a record key atom, appending its text to `out`, and returns the rest.
pub fn unpack_rkey<'a>(bytes: &'a [u8], out: &mut String) -> Result<&'a [u8]> {
    let (tag, rest) = first(bytes)?;
    match tag {
        tag::RKEY_TID => {
            let (tid, rest) = rest.split_first_chunk::<8>().ok_or(CompactError::Truncated)?;
            out.push_str(Tid(u64::from_be_bytes(*tid)).text().as_str());
            Ok(rest)
        }
        tag::RKEY_SELF => {
            out.push_str("self");
            Ok(rest)
        }
        tag::RKEY_OTHER => unpack_text(rest, out),
        other => Err(unexpected(other)),
    }
}

/// Reads an NSID atom, appending its text to `out`, and returns the rest.
pub fn unpack_nsid<'a>(bytes: &'a [u8], out: &mut String) -> Result<&'a [u8]> {
    let (tag, rest) = first(bytes)?;
    if tag == tag::NSID_OTHER {
        return unpack_text(rest, out);
    }
    let known = tag.checked_sub(tag::NSID_KNOWN).and_then(|at| KNOWN_NSIDS.get(usize::from(at)));
    out.push_str(known.ok_or_else(|| unexpected(tag))?);
    Ok(rest)
}

/// Reads a URI atom, appending its text to `out`, and returns the rest.
pub fn unpack_uri<'a>(bytes: &'a [u8], out: &mut String) -> Result<&'a [u8]> {
    let (tag, rest) = first(bytes)?;
    match tag {
        tag::URI_RECORD => {
            out.push_str("at://");
            let rest = unpack_did(rest, out)?;
            out.push('/');
            let rest = unpack_nsid(rest, out)?;
            out.push('/');
            unpack_rkey(rest, out)
        }
        tag::URI_OTHER => unpack_text(rest, out),
        _ => unpack_did(bytes, out),
    }
}

/// The length of the atom that `bytes` begin with, whatever its kind and without reading it back.
pub fn atom_len(bytes: &[u8]) -> Result<usize> {
    let (tag, rest) = first(bytes)?;
    let body = match tag {
        tag::DID_PLC => 15,
        tag::RKEY_TID => 8,
        tag::RKEY_SELF | tag::NSID_KNOWN.. => 0,
        tag::HASHED => HEAD_BYTES + 32,
        tag::DID_OTHER | tag::RKEY_OTHER | tag::NSID_OTHER | tag::URI_OTHER => {
            rest.iter().position(|byte| *byte == 0).ok_or(CompactError::Truncated)? + 1
        }
        tag::URI_RECORD => {
            let mut len = 0;
            for _ in 0..3 {
                // The parts of a record's URI are never URIs themselves, so this goes one level down and no further.
                if rest.get(len) == Some(&tag::URI_RECORD) {
                    return Err(CompactError::Damaged);
                }
                len += atom_len(rest.get(len..).ok_or(CompactError::Truncated)?)?;
            }
            len
        }
        _ => return Err(CompactError::Tag),
    };
    if rest.len() < body { Err(CompactError::Truncated) } else { Ok(1 + body) }
}

fn first(bytes: &[u8]) -> Result<(u8, &[u8])> {
    bytes.split_first().map(|(tag, rest)| (*tag, rest)).ok_or(CompactError::Truncated)
}

fn unexpected(tag: u8) -> CompactError {
    if tag == tag::HASHED { CompactError::Hashed } else { CompactError::Tag }
}

fn unpack_text<'a>(bytes: &'a [u8], out: &mut String) -> Result<&'a [u8]> {
    let (escaped, rest) = until_end(bytes)?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| CompactError::Damaged);
    if escaped.contains(&1) {
        let mut plain = Vec::with_capacity(escaped.len());
        unescape(bytes, &mut plain)?;
        out.push_str(text(&plain)?);
    } else {
        out.push_str(text(escaped)?);
    }
    Ok(rest)
}

/// A number whose order follows the order of CID *texts*, for pages that break ties of time by CID.
///
/// Text order differs from byte order, because base32's digits stand for greater values than its letters but sort
/// before them. The number packs the ranks of the first symbols behind the constant prefix (`bafyrei` for DAG-CBOR):
/// three bits, then five times five, then four. Equal numbers say nothing; of two CIDs with one codec, the smaller
/// number has the smaller text.
pub fn cid_tie(cid: &Cid) -> u32 {
    let bits = u64::from_be_bytes(*cid.digest().first_chunk().expect("a digest has 32 bytes"));
    // The first symbol carries two constant zero bits and three of the digest, so it is one of a to h.
    let mut tie = (bits >> 61) as u32;
    for i in 0..5 {
        tie = tie << 5 | rank((bits >> (56 - 5 * i)) as u8 & 31);
    }
    tie << 4 | rank((bits >> 31) as u8 & 31) >> 1
}

/// [`cid_tie`] of a CID's text. A text that is no version 1, sha-256 CID gets a number from its hash.
pub fn cid_tie_text(text: &str) -> u32 {
    match Cid::parse(text) {
        Ok(cid) => cid_tie(&cid),
        Err(cid::CidError) => {
            let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
            u32::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
        }
    }
}

/// The place of a base32 symbol among the symbols sorted as characters: digits first.
fn rank(value: u8) -> u32 {
    u32::from(if value < 26 { value + 6 } else { value - 26 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

    fn packed(pack: impl Fn(&str, &mut Vec<u8>), text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        pack(text, &mut out);
        out
    }

    type Unpack = for<'a> fn(&'a [u8], &mut String) -> Result<&'a [u8]>;

    fn round_trip(pack: impl Fn(&str, &mut Vec<u8>), unpack: Unpack, text: &str) {
        let mut bytes = packed(pack, text);
        assert_eq!(atom_len(&bytes), Ok(bytes.len()), "{text:?}");
        bytes.push(0xee);
        let mut back = String::from("+");
        assert_eq!(unpack(&bytes, &mut back), Ok(&[0xeeu8][..]), "{text:?}");
        assert_eq!(back, format!("+{text}"));
    }

    #[test]
    fn sizes() {
        assert_eq!(packed(pack_did, DID).len(), 16);
        assert_eq!(packed(pack_rkey, "3jzfcijpj2z2a").len(), 9);
        assert_eq!(packed(pack_rkey, "self").len(), 1);
        assert_eq!(packed(pack_nsid, "app.bsky.feed.like"), [0x11]);
        assert_eq!(packed(pack_uri, &format!("at://{DID}/app.bsky.feed.post/3jzfcijpj2z2a")).len(), 1 + 16 + 1 + 9);
        assert_eq!(packed(pack_uri, DID), packed(pack_did, DID));
    }

    #[test]
    fn the_table_never_changes_what_is_on_disk() {
        assert_eq!(KNOWN_NSIDS.len(), 25, "append the new entry below too");
        for (nsid, byte) in [
            ("app.bsky.feed.post", 0x10),
            ("app.bsky.graph.follow", 0x16),
            ("app.bsky.graph.referencelistoptout", 0x1d),
            ("app.bsky.actor.profile", 0x1e),
            ("com.germnetwork.declaration", 0x24),
            ("site.standard.graph.subscription", 0x28),
        ] {
            assert_eq!(known_nsid(nsid), Some(byte), "{nsid}");
        }
    }

    #[test]
    fn odd_texts_round_trip_byte_for_byte() {
        for did in [
            DID,
            "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ",
            "did:plc:short",
            "did:web:a.b%3A80",
            "",
            "\0\u{1}\u{2}\u{ff}",
            "did:plc:ewvi7nxzyoun6zhxrhs64oi1",
        ] {
            round_trip(pack_did, unpack_did, did);
        }
        for rkey in [
            "3jzfcijpj2z2a",
            "self",
            "Self",
            "3JZFCIJPJ2Z2A",
            "kjzfcijpj2z2a",
            "",
            "a\0b",
            "2222222222222",
            "jzzzzzzzzzzzz",
        ] {
            round_trip(pack_rkey, unpack_rkey, rkey);
        }
        for nsid in KNOWN_NSIDS.iter().copied().chain(["app.bsky.feed.Post", "x.y.z", "", "app.bsky.feed.post "]) {
            round_trip(pack_nsid, unpack_nsid, nsid);
        }
        for uri in [
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a",
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3JZ",
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/a%20b",
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/x#/frag",
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/x?q",
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post",
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/",
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/x/y",
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz",
            "at://user.test/app.bsky.feed.post/x",
            "AT://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/x",
            DID,
            "did:web:x",
            "https://example.com/",
            "",
            "at://",
        ] {
            round_trip(pack_uri, unpack_uri, uri);
        }
    }

    #[test]
    fn long_texts_are_bounded_distinct_and_not_read_back() {
        let long = |tail: &str| format!("at://a.test/{}{tail}", "x".repeat(8000));
        let (a, b) = (packed(pack_uri, &long("a")), packed(pack_uri, &long("b")));
        assert_eq!((a.len(), b.len()), (1 + HEAD_BYTES + 32, 1 + HEAD_BYTES + 32));
        assert_ne!(a, b);
        assert_eq!(unpack_uri(&a, &mut String::new()), Err(CompactError::Hashed));
        assert_eq!(atom_len(&a), Ok(a.len()));
        let edge = "é".repeat(TEXT_BYTES_MAX / 2);
        round_trip(pack_rkey, unpack_rkey, &edge);
        assert_eq!(packed(pack_rkey, &format!("{edge}x"))[0], tag::HASHED);
        let worst = packed(pack_did, &"\0".repeat(TEXT_BYTES_MAX));
        assert_eq!(worst.len(), ATOM_BYTES_MAX);
    }

    #[test]
    fn damaged_atoms_are_refused() {
        let mut out = String::new();
        assert_eq!(unpack_did(&[], &mut out), Err(CompactError::Truncated));
        assert_eq!(unpack_did(&[tag::DID_PLC, 0], &mut out), Err(CompactError::Truncated));
        assert_eq!(unpack_did(&[tag::DID_OTHER, b'a'], &mut out), Err(CompactError::Truncated));
        assert_eq!(unpack_did(&[tag::DID_OTHER, 1, 3, 0], &mut out), Err(CompactError::Damaged));
        assert_eq!(unpack_did(&[tag::DID_OTHER, 1, 0], &mut out), Err(CompactError::Damaged));
        assert_eq!(unpack_did(&[tag::DID_OTHER, 0xff, 0], &mut out), Err(CompactError::Damaged));
        assert_eq!(unpack_did(&[tag::RKEY_SELF], &mut out), Err(CompactError::Tag));
        assert_eq!(unpack_nsid(&[0xff], &mut out), Err(CompactError::Tag));
        assert_eq!(out, "");
    }

    #[test]
    fn parts_and_text_pack_alike() {
        for (did, collection, rkey) in
            [(DID, "app.bsky.feed.post", "3jzfcijpj2z2a"), (DID, "a.b.c", "x#y"), ("x", "a.b.c", "y"), (DID, "a", "")]
        {
            let (mut parts, text) = (Vec::new(), crate::aturi::of_record(did, collection, rkey));
            pack_record_uri(did, collection, rkey, &mut parts);
            assert_eq!(parts, packed(pack_uri, &text), "{text}");
        }
    }

    /// Texts near the edges of the packed forms.
    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[\\x00-\\x03a-c]{0,8}",
            "did:plc:[a-z2-7]{23,25}",
            "[2-7a-z]{12,14}",
            "at://did:plc:[a-z2-7]{24}/(app.bsky.feed.(post|like)|a.b.c)/([2-7a-j][2-7a-z]{12}|[a-zA-Z.#?/%]{0,6})",
            any::<String>(),
            (480usize..560, "[a-z]").prop_map(|(n, letter)| letter.repeat(n)),
        ]
    }

    proptest! {
        #[test]
        fn no_atom_is_a_prefix_of_another(a in any_text(), b in any_text()) {
            for pack in [pack_did, pack_rkey, pack_nsid, pack_uri] {
                let (x, y) = (packed(pack, &a), packed(pack, &b));
                prop_assert_eq!(a == b, x == y);
                if a != b {
                    prop_assert!(!x.starts_with(&y) && !y.starts_with(&x), "{:?} {:?}", a, b);
                }
            }
        }

        #[test]
        fn short_texts_round_trip(text in any_text().prop_filter("kept in full", |text| text.len() <= TEXT_BYTES_MAX)) {
            round_trip(pack_did, unpack_did, &text);
            round_trip(pack_rkey, unpack_rkey, &text);
            round_trip(pack_nsid, unpack_nsid, &text);
            round_trip(pack_uri, unpack_uri, &text);
        }

        #[test]
        fn tids_sort_as_their_texts(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (Tid(a).to_string(), Tid(b).to_string());
            prop_assert_eq!(packed(pack_rkey, &a).cmp(&packed(pack_rkey, &b)), a.cmp(&b));
        }

        #[test]
        fn escaped_texts_sort_as_the_texts(a in "[\\x00-\\x03a-b]{0,6}", b in "[\\x00-\\x03a-b]{0,6}") {
            let escaped = |text: &str| { let mut out = Vec::new(); escape(text.as_bytes(), &mut out); out };
            prop_assert_eq!(escaped(&a).cmp(&escaped(&b)), a.cmp(&b));
        }

        #[test]
        fn ties_follow_the_text(a in any::<[u8; 32]>(), b in any::<[u8; 32]>(), same in 0usize..32) {
            let mut b = b;
            b[..same.min(5)].copy_from_slice(&a[..same.min(5)]);
            let (a, b) = (Cid::dag_cbor_with_digest(a), Cid::dag_cbor_with_digest(b));
            if cid_tie(&a) < cid_tie(&b) {
                prop_assert!(a.to_string() < b.to_string());
            }
            if a.to_string()[..13] != b.to_string()[..13] {
                prop_assert_ne!(cid_tie(&a), cid_tie(&b));
            }
            prop_assert_eq!(cid_tie(&a), cid_tie_text(&a.to_string()));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut out = String::new();
            let _ = (unpack_did(&bytes, &mut out), unpack_rkey(&bytes, &mut out), unpack_nsid(&bytes, &mut out));
            let _ = (unpack_uri(&bytes, &mut out), atom_len(&bytes));
        }
    }
}
