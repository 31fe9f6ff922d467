//! The encoding of one node, both ways.
//!
//! `{e: [{k: bytes, p: int, t: cid|null, v: cid}], l: cid|null}`: `p` bytes are shared with the key before, `k` is the
//! rest, `t` is the child behind the entry, `l` the child in front of the first. A mapping has one encoding only, so
//! decoding accepts nothing else: no other key order, no prefix shorter than it could be.

use smallvec::SmallVec;

use super::{KEY_CHARS_MAX, MstError, is_valid_key};
use crate::{
    cbor::{Reader, Writer},
    cid::Cid,
};

/// A key; those of the common collections fit without an allocation.
pub(super) type Key = SmallVec<[u8; 40]>;

pub(super) struct RawNode {
    pub(super) left: Option<Cid>,
    pub(super) entries: Vec<RawEntry>,
}

pub(super) struct RawEntry {
    pub(super) key: Key,
    pub(super) value: Cid,
    pub(super) right: Option<Cid>,
}

/// Entries for which room is made before they are read.
const CAPACITY_MAX: u64 = 32;

pub(super) fn decode(bytes: &[u8]) -> Result<RawNode, MstError> {
    let mut reader = Reader::new(bytes);
    let bad = |_| MstError::NodeEncoding;
    let field = |reader: &mut Reader<'_>, name: &str| match reader.key() {
        Ok(key) if key == name => Ok(()),
        _ => Err(MstError::NodeEncoding),
    };
    if reader.map().map_err(bad)? != 2 {
        return Err(MstError::NodeEncoding);
    }
    field(&mut reader, "e")?;
    let count = reader.list().map_err(bad)?;
    let mut entries: Vec<RawEntry> = Vec::with_capacity(count.min(CAPACITY_MAX) as usize);
    for _ in 0..count {
        if reader.map().map_err(bad)? != 4 {
            return Err(MstError::NodeEncoding);
        }
        field(&mut reader, "k")?;
        let suffix = reader.bytes().map_err(bad)?;
        field(&mut reader, "p")?;
        let shared = usize::try_from(reader.int().map_err(bad)?).map_err(|_| MstError::NodeEncoding)?;
        field(&mut reader, "t")?;
        let right = child(&mut reader)?;
        field(&mut reader, "v")?;
        let value = reader.cid().map_err(bad)?;

        let before: &[u8] = entries.last().map_or(&[], |entry| &entry.key);
        let prefix = before.get(..shared).ok_or(MstError::NodeEncoding)?;
        if shared + suffix.len() > KEY_CHARS_MAX {
            return Err(MstError::Key);
        }
        if !entries.is_empty() {
            // The first bytes behind the prefix tell the order, and that the prefix is the longest there is.
            match (before.get(shared), suffix.first()) {
                (Some(a), Some(b)) if a == b => return Err(MstError::NodeEncoding),
                (Some(a), Some(b)) if a > b => return Err(MstError::Order),
                (_, None) => return Err(MstError::Order),
                _ => {}
            }
        }
        let mut key = Key::with_capacity(shared + suffix.len());
        key.extend_from_slice(prefix);
        key.extend_from_slice(suffix);
        if !is_valid_key(&key) {
            return Err(MstError::Key);
        }
        entries.push(RawEntry { key, value, right });
    }
    field(&mut reader, "l")?;
    let left = child(&mut reader)?;
    reader.end().map_err(bad)?;
    Ok(RawNode { left, entries })
}

fn child(reader: &mut Reader<'_>) -> Result<Option<Cid>, MstError> {
    if reader.rest().first() == Some(&0xf6) {
        reader.null();
        return Ok(None);
    }
    match reader.cid() {
        Ok(cid) if cid.is_dag_cbor() => Ok(Some(cid)),
        _ => Err(MstError::NodeEncoding),
    }
}

/// Writes a node from left to right. The number of entries must be known first.
pub(super) struct NodeWriter {
    writer: Writer,
}

impl NodeWriter {
    pub(super) fn new(entries: usize) -> NodeWriter {
        let mut writer = Writer::with_capacity(56 + entries * 128);
        writer.map(2).text("e").list(entries);
        NodeWriter { writer }
    }

    pub(super) fn entry(&mut self, before: &[u8], key: &[u8], value: &Cid, right: Option<&Cid>) {
        write_entry(&mut self.writer, before, key, value, right);
    }

    pub(super) fn finish(mut self, left: Option<&Cid>) -> Vec<u8> {
        self.writer.text("l").link_or_null(left);
        self.writer.into_bytes()
    }
}

fn write_entry(writer: &mut Writer, before: &[u8], key: &[u8], value: &Cid, right: Option<&Cid>) {
    let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
    writer.map(4).text("k").bytes(&key[shared..]).text("p").int(shared as i64);
    writer.text("t").link_or_null(right).text("v").link(value.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mst::tests::leaf;

    fn node(entries: &[(&str, i64, &str)]) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(2).text("e").list(entries.len());
        for (_, shared, suffix) in entries {
            writer.map(4).text("k").bytes(suffix.as_bytes()).text("p").int(*shared);
            writer.text("t").null().text("v").link(leaf().as_ref());
        }
        writer.text("l").null();
        writer.into_bytes()
    }

    fn error(bytes: &[u8]) -> MstError {
        decode(bytes).map(|_| ()).unwrap_err()
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = NodeWriter::new(2);
        writer.entry(b"", b"a.b.c/aa", &leaf(), Some(&leaf()));
        writer.entry(b"a.b.c/aa", b"a.b.c/ab", &leaf(), None);
        let bytes = writer.finish(Some(&leaf()));
        let node = decode(&bytes).unwrap();
        assert_eq!(node.left, Some(leaf()));
        assert_eq!(&node.entries[1].key[..], b"a.b.c/ab");
        assert_eq!((node.entries[0].right, node.entries[1].right), (Some(leaf()), None));
        for len in 0..bytes.len() {
            assert_eq!(error(&bytes[..len]), MstError::NodeEncoding, "cut at {len}");
        }
    }

    #[test]
    fn only_the_canonical_encoding_is_read() {
        assert!(decode(&node(&[("", 0, "a/aa"), ("", 3, "b")])).is_ok());
        assert_eq!(error(&node(&[("", 0, "a/aa"), ("", 2, "ab")])), MstError::NodeEncoding); // a longer prefix is shared
        assert_eq!(error(&node(&[("", 1, "a/aa")])), MstError::NodeEncoding); // nothing to share with
        assert_eq!(error(&node(&[("", 0, "a/aa"), ("", 5, "b")])), MstError::NodeEncoding);
        assert_eq!(error(&node(&[("", 0, "a/aa"), ("", -1, "b")])), MstError::NodeEncoding);
        assert_eq!(error(&node(&[("", 0, "a/b"), ("", 2, "a")])), MstError::Order);
        assert_eq!(error(&node(&[("", 0, "a/b"), ("", 3, "")])), MstError::Order); // the same key again
        assert_eq!(error(&node(&[("", 0, "a/bb"), ("", 3, "")])), MstError::Order); // a prefix of the one before
        assert!(decode(&node(&[("", 0, "a/b"), ("", 3, "b")])).is_ok());
        assert_eq!(error(&node(&[("", 0, "ab")])), MstError::Key);
        assert_eq!(error(&[node(&[]), vec![0]].concat()), MstError::NodeEncoding);
        let undefined = [&[0xa2, 0x61, b'e', 0x80, 0x61, b'l', 0xf7][..]].concat();
        assert_eq!(error(&undefined), MstError::NodeEncoding);
        let other_order = [0xa2, 0x61, b'l', 0xf6, 0x61, b'e', 0x80];
        assert_eq!(error(&other_order), MstError::NodeEncoding);
    }
}
