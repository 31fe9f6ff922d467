//! Merkle search trees: the map from record paths to CIDs that a commit signs.
//!
//! A tree is a pure function of its mapping, which is what makes it checkable: [`root_of`] builds the root from a
//! sorted mapping alone, [`walk`] reads the mapping out of blocks, [`Tree`] keeps a whole tree that changes, and
//! [`Partial`] undoes a commit's operations on the few nodes that came with it.
//!
//! Facts: the layer of a key is the number of leading zero bit pairs of its sha-256. Keys of one node have the node's
//! layer; a child is exactly one layer below; a layer without keys is bridged by nodes that hold nothing but one
//! child; the root holds a key, except in the empty tree.

use std::{borrow::Cow, collections::HashMap};

use sha2::{Digest, Sha256};

use crate::{car::Car, cid::Cid};

mod build;
mod node;
mod partial;
mod tree;
mod walk;

pub use build::{Builder, root_of};
pub use partial::{Change, Partial};
pub use tree::{Leaves, Tree};
pub use walk::walk;

/// Longest key, in characters.
pub const KEY_CHARS_MAX: usize = 1024;
/// Deepest tree that is read. A key of layer 64 would take 2^128 tries to find.
pub const DEPTH_MAX: u32 = 64;

/// The root of the empty tree, `bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm`.
pub fn empty_root() -> Cid {
    Cid::dag_cbor_with_digest([
        0x9d, 0xfe, 0xfe, 0x61, 0xdd, 0x76, 0xea, 0x3d, 0xca, 0xe5, 0x02, 0x38, 0x80, 0xb0, 0x83, 0x79, 0xd5, 0x7a,
        0xdf, 0x20, 0x48, 0x2d, 0x6f, 0xdb, 0xe2, 0x75, 0x92, 0x89, 0xf6, 0x47, 0x67, 0x7b,
    ])
}

/// The bytes of the empty tree's only node.
pub const EMPTY_NODE: &[u8] = &[0xa2, 0x61, b'e', 0x80, 0x61, b'l', 0xf6];

/// What is wrong with a tree, or with what it was said to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MstError {
    /// A node that has to be entered is not among the blocks.
    #[error("a tree node that the proof needs is missing")]
    MissingNode,
    /// A node is not in its one canonical encoding.
    #[error("a tree node is not canonically encoded")]
    NodeEncoding,
    /// A key is not `collection/rkey` in the allowed characters.
    #[error("a tree key is not valid")]
    Key,
    /// Keys are not strictly ascending.
    #[error("tree keys are out of order")]
    Order,
    /// A key sits on the wrong layer, or a child where none can be.
    #[error("a tree node is on the wrong layer")]
    Layer,
    /// Deeper than [`DEPTH_MAX`].
    #[error("the tree is too deep")]
    TooDeep,
    /// A key that was said to be there is absent, or the other way round, or has another value.
    #[error("the tree contradicts an operation")]
    Contradiction,
}

/// Where nodes are found by CID.
pub trait Blocks {
    /// The bytes of a node. They must hash to the CID; implementations check or know that.
    fn node(&self, cid: &Cid) -> Option<Cow<'_, [u8]>>;
}

impl Blocks for Car<'_> {
    fn node(&self, cid: &Cid) -> Option<Cow<'_, [u8]>> {
        self.get(cid).map(Cow::Borrowed)
    }
}

impl Blocks for HashMap<Cid, Vec<u8>> {
    fn node(&self, cid: &Cid) -> Option<Cow<'_, [u8]>> {
        self.get(cid).map(|bytes| Cow::Borrowed(&bytes[..]))
    }
}

/// No blocks: for trees that are wholly in memory.
#[derive(Clone, Copy, Debug)]
pub struct NoBlocks;

impl Blocks for NoBlocks {
    fn node(&self, _: &Cid) -> Option<Cow<'_, [u8]>> {
        None
    }
}

/// Whether this can be the key of a record: `collection/rkey`, at most [`KEY_CHARS_MAX`] of letters, digits and
/// `_~:.-`, exactly one slash with something on both sides.
pub fn is_valid_key(key: &[u8]) -> bool {
    if key.len() > KEY_CHARS_MAX {
        return false;
    }
    let mut slash = None;
    for (at, byte) in key.iter().enumerate() {
        match KEY_BYTES[usize::from(*byte)] {
            1 => {}
            2 if slash.is_none() => slash = Some(at),
            _ => return false,
        }
    }
    slash.is_some_and(|at| at > 0 && at + 1 < key.len())
}

/// 1 for characters of the halves, 2 for the slash.
const KEY_BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = 1;
        }
        byte += 1;
    }
    let mut i = 0;
    while i < 5 {
        table[b"_~:.-"[i] as usize] = 1;
        i += 1;
    }
    table[b'/' as usize] = 2;
    table
};

/// The layer of a key: leading zero bit pairs of its sha-256, 0 to 128.
pub fn layer_of(key: &[u8]) -> u32 {
    let mut pairs = 0;
    for byte in Sha256::digest(key) {
        pairs += byte.leading_zeros() / 2;
        if byte != 0 {
            break;
        }
    }
    pairs
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const LEAF: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
    pub(crate) const FIVE: [&str; 5] = [
        "app.bsky.actor.profile/self",
        "app.bsky.feed.like/3jzfcijpj2z2c",
        "app.bsky.feed.post/3jzfcijpj2z2a",
        "app.bsky.feed.post/3jzfcijpj2z2b",
        "app.bsky.graph.follow/3jzfcijpj2z2d",
    ];
    pub(crate) const FIVE_ROOT: &str = "bafyreiecxkajsfzsqzct3jmb75iya4ylvagsy4pc3rhidlpah73xn3qfde";
    pub(crate) const HIGH: &str = "app.bsky.feed.post/454397e440ec";
    pub(crate) const SIX_ROOT: &str = "bafyreic3emozqujay2n344of3cikl2rbdw25gok5w6pl4kny4jxxf7es7m";

    pub(crate) fn leaf() -> Cid {
        Cid::parse(LEAF).unwrap()
    }

    #[test]
    fn layers_of_known_keys() {
        for (key, layer) in [
            ("app.bsky.feed.post/3jzfcijpj2z2a", 0),
            ("app.bsky.feed.like/3jzfcijpj2z2c", 0),
            ("app.bsky.feed.post/3jzfcijpj2z2b", 1),
            ("app.bsky.graph.follow/3jzfcijpj2z2d", 1),
            ("app.bsky.actor.profile/self", 1),
            ("app.bsky.feed.post/454397e440ec", 4),
            ("app.bsky.feed.post/9adeb165882c", 8),
        ] {
            assert_eq!(layer_of(key.as_bytes()), layer, "{key}");
        }
    }

    #[test]
    fn the_empty_root() {
        assert_eq!(empty_root(), Cid::for_dag_cbor(EMPTY_NODE));
        assert_eq!(empty_root().to_string(), "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm");
    }

    #[test]
    fn keys() {
        let longest = format!("a/{}", "b".repeat(KEY_CHARS_MAX - 2));
        for key in ["a/b", "app.bsky.feed.post/3jz", "A_~:.-9/~", "a/.", &longest] {
            assert!(is_valid_key(key.as_bytes()), "{key}");
        }
        let too_long = format!("{longest}b");
        for key in ["", "/", "a", "a/", "/b", "a/b/c", "a b/c", "a/b!", "a/é", "a/%20", "a\0/b", &too_long] {
            assert!(!is_valid_key(key.as_bytes()), "{key}");
        }
    }
}
