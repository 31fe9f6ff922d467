//! A tree in memory that changes, and shares what did not change with its earlier selves.
//!
//! Cloning a [`Tree`] costs one reference count: the synthetic network keeps a tree per account and clones it for
//! each commit. [`Root`] is the machine underneath; it also runs on trees of which most is known by CID only (stubs),
//! which is how [`super::Partial`] checks a commit.

use std::sync::{Arc, OnceLock};

use super::{
    Blocks, Builder, DEPTH_MAX, MstError, NoBlocks, empty_root, is_valid_key, layer_of,
    node::{self, Key, NodeWriter},
};
use crate::cid::Cid;

type Result<T> = std::result::Result<T, MstError>;

/// A child: known by its CID only, or in memory.
#[derive(Clone)]
pub(super) enum Link {
    Stub(Cid),
    Node(Arc<Node>),
}

#[derive(Clone)]
pub(super) struct Node {
    layer: u32,
    left: Option<Link>,
    entries: Vec<Entry>,
    /// Filled when first asked for, emptied by every change.
    cid: OnceLock<Cid>,
}

#[derive(Clone)]
struct Entry {
    key: Key,
    value: Cid,
    right: Option<Link>,
}

impl Link {
    fn cid(&self) -> Cid {
        match self {
            Link::Stub(cid) => *cid,
            Link::Node(node) => *node.cid.get_or_init(|| Cid::for_dag_cbor(&node.encode())),
        }
    }
}

impl Node {
    /// A link to a new node; none where the node would hold nothing.
    fn link(layer: u32, left: Option<Link>, entries: Vec<Entry>) -> Option<Link> {
        let empty = left.is_none() && entries.is_empty();
        (!empty).then(|| Link::Node(Arc::new(Node { layer, left, entries, cid: OnceLock::new() })))
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = NodeWriter::new(self.entries.len());
        let mut before: &[u8] = &[];
        for entry in &self.entries {
            writer.entry(before, &entry.key, &entry.value, entry.right.as_ref().map(Link::cid).as_ref());
            before = &entry.key;
        }
        writer.finish(self.left.as_ref().map(Link::cid).as_ref())
    }

    /// Reads a node of a known layer, or of the layer its first key tells (a root).
    fn load(cid: Cid, layer: Option<u32>, blocks: &impl Blocks) -> Result<Node> {
        let raw = node::decode(&blocks.node(&cid).ok_or(MstError::MissingNode)?)?;
        let layer = match (layer, raw.entries.first()) {
            (Some(layer), _) => layer,
            (None, Some(first)) => layer_of(&first.key),
            (None, None) => return Err(MstError::Layer),
        };
        if layer >= DEPTH_MAX {
            return Err(MstError::TooDeep);
        }
        let childless = raw.left.is_none() && raw.entries.iter().all(|entry| entry.right.is_none());
        let fits = raw.entries.iter().all(|entry| layer_of(&entry.key) == layer);
        if !fits || (layer == 0 && !childless) || (raw.entries.is_empty() && childless) {
            return Err(MstError::Layer);
        }
        let entries = raw.entries.into_iter();
        Ok(Node {
            layer,
            left: raw.left.map(Link::Stub),
            entries: entries
                .map(|it| Entry { key: it.key, value: it.value, right: it.right.map(Link::Stub) })
                .collect(),
            cid: OnceLock::from(cid),
        })
    }

    /// The place of the first entry not less than `key`, and whether it is equal.
    fn seek(&self, key: &[u8]) -> (usize, bool) {
        match self.entries.binary_search_by(|entry| entry.key[..].cmp(key)) {
            Ok(at) => (at, true),
            Err(at) => (at, false),
        }
    }

    /// The child in front of entry `at` (behind the last one for `at` = number of entries).
    fn gap(&self, at: usize) -> &Option<Link> {
        match at.checked_sub(1) {
            Some(before) => &self.entries[before].right,
            None => &self.left,
        }
    }

    fn gap_mut(&mut self, at: usize) -> &mut Option<Link> {
        match at.checked_sub(1) {
            Some(before) => &mut self.entries[before].right,
            None => &mut self.left,
        }
    }

    /// Brings the child of a gap into memory and checks that it lies between its neighbours here.
    fn enter(&mut self, at: usize, blocks: &impl Blocks) -> Result<()> {
        let Some(Link::Stub(cid)) = self.gap(at) else { return Ok(()) };
        let child = Node::load(*cid, Some(self.layer.checked_sub(1).ok_or(MstError::Layer)?), blocks)?;
        let before = at.checked_sub(1).map(|before| &self.entries[before].key);
        let after = self.entries.get(at).map(|entry| &entry.key);
        let ordered = match (child.entries.first(), child.entries.last()) {
            (Some(first), Some(last)) => {
                before.is_none_or(|key| *key < first.key) && after.is_none_or(|key| *key > last.key)
            }
            _ => true,
        };
        if !ordered {
            return Err(MstError::Order);
        }
        *self.gap_mut(at) = Some(Link::Node(Arc::new(child)));
        Ok(())
    }
}

/// The top of a tree, with the operations on it. Every walk loads stubs from `blocks` where it has to enter them.
///
/// After an error the tree is in an unspecified state and must be thrown away.
#[derive(Clone, Default)]
pub(super) struct Root {
    pub(super) top: Option<Link>,
}

impl Root {
    /// A tree known by its root's CID only.
    pub(super) fn stub(cid: Cid) -> Root {
        Root { top: (cid != empty_root()).then_some(Link::Stub(cid)) }
    }

    pub(super) fn cid(&self) -> Cid {
        self.top.as_ref().map_or_else(empty_root, Link::cid)
    }

    fn enter(&mut self, blocks: &impl Blocks) -> Result<Option<u32>> {
        Ok(match &self.top {
            None => None,
            Some(Link::Node(node)) => Some(node.layer),
            Some(Link::Stub(cid)) => {
                let node = Node::load(*cid, None, blocks)?;
                let layer = node.layer;
                self.top = Some(Link::Node(Arc::new(node)));
                Some(layer)
            }
        })
    }

    /// The value of a key, entering stubs on the way.
    pub(super) fn get(&mut self, key: &[u8], blocks: &impl Blocks) -> Result<Option<Cid>> {
        self.enter(blocks)?;
        get_below(&mut self.top, key, blocks)
    }

    /// Puts a value and returns the one it replaces.
    pub(super) fn put(&mut self, key: &[u8], value: Cid, blocks: &impl Blocks) -> Result<Option<Cid>> {
        if !is_valid_key(key) {
            return Err(MstError::Key);
        }
        let layer = layer_of(key);
        if layer >= DEPTH_MAX {
            return Err(MstError::TooDeep);
        }
        match self.enter(blocks)? {
            Some(top) if top >= layer => put_below(&mut self.top, top, key, layer, value, blocks),
            None => {
                self.top = Node::link(layer, None, vec![Entry { key: Key::from_slice(key), value, right: None }]);
                Ok(None)
            }
            Some(top) => {
                let (left, right) = split(self.top.take(), key, blocks)?;
                let (left, right) = (bridge(left, top, layer - 1), bridge(right, top, layer - 1));
                self.top = Node::link(layer, left, vec![Entry { key: Key::from_slice(key), value, right }]);
                Ok(None)
            }
        }
    }

    /// Takes a key out and returns the value it had.
    pub(super) fn remove(&mut self, key: &[u8], blocks: &impl Blocks) -> Result<Option<Cid>> {
        let layer = layer_of(key);
        let removed = match self.enter(blocks)? {
            Some(top) if top >= layer => remove_below(&mut self.top, key, layer, blocks)?,
            _ => None,
        };
        if removed.is_some() {
            self.lower(blocks)?;
        }
        Ok(removed)
    }

    /// While the top holds nothing but one child, that child becomes the top. A stub is looked into if its block is
    /// at hand; if not, its CID has to do, and will be wrong if more nodes should have gone.
    fn lower(&mut self, blocks: &impl Blocks) -> Result<()> {
        loop {
            match &mut self.top {
                Some(Link::Node(node)) if node.entries.is_empty() => {
                    let Node { layer, left, .. } =
                        Arc::unwrap_or_clone(std::mem::replace(node, Arc::new(Node::hollow())));
                    self.top = left;
                    if let Some(Link::Stub(cid)) = &self.top
                        && blocks.node(cid).is_some()
                    {
                        let layer = layer.checked_sub(1).ok_or(MstError::Layer)?;
                        self.top = Some(Link::Node(Arc::new(Node::load(*cid, Some(layer), blocks)?)));
                    }
                }
                _ => return Ok(()),
            }
        }
    }
}

impl Node {
    /// What stands in for a node that is being taken apart.
    fn hollow() -> Node {
        Node { layer: 0, left: None, entries: Vec::new(), cid: OnceLock::new() }
    }
}

/// The node of a slot, ready to be changed: unshared, and without a remembered CID.
fn change(slot: &mut Option<Link>) -> Result<&mut Node> {
    match slot {
        Some(Link::Node(node)) => {
            let node = Arc::make_mut(node);
            node.cid.take();
            Ok(node)
        }
        _ => Err(MstError::MissingNode),
    }
}

fn get_below(slot: &mut Option<Link>, key: &[u8], blocks: &impl Blocks) -> Result<Option<Cid>> {
    let Some(Link::Node(node)) = slot else { return Ok(None) };
    let (at, found) = node.seek(key);
    if found {
        return Ok(Some(node.entries[at].value));
    }
    if let Some(Link::Stub(_)) = node.gap(at) {
        Arc::make_mut(node).enter(at, blocks)?;
    }
    match node.gap(at) {
        None => Ok(None),
        Some(_) => get_below(Arc::make_mut(node).gap_mut(at), key, blocks),
    }
}

/// Puts a key into a subtree whose top node is on `layer`, which is not below the key's own.
fn put_below(
    slot: &mut Option<Link>,
    layer: u32,
    key: &[u8],
    own: u32,
    value: Cid,
    blocks: &impl Blocks,
) -> Result<Option<Cid>> {
    if slot.is_none() {
        let single = Node::link(own, None, vec![Entry { key: Key::from_slice(key), value, right: None }]);
        *slot = bridge(single, own, layer);
        return Ok(None);
    }
    let node = change(slot)?;
    let (at, found) = node.seek(key);
    if found {
        return Ok(Some(std::mem::replace(&mut node.entries[at].value, value)));
    }
    node.enter(at, blocks)?;
    if own < layer {
        return put_below(node.gap_mut(at), layer - 1, key, own, value, blocks);
    }
    let spanning = node.gap_mut(at).take();
    let (left, right) = split(spanning, key, blocks)?;
    *node.gap_mut(at) = left;
    node.entries.insert(at, Entry { key: Key::from_slice(key), value, right });
    Ok(None)
}

/// Divides a loaded subtree into what is before `key` and what is after, both with their top on the same layer.
fn split(slot: Option<Link>, key: &[u8], blocks: &impl Blocks) -> Result<(Option<Link>, Option<Link>)> {
    let node = match slot {
        None => return Ok((None, None)),
        Some(Link::Stub(_)) => return Err(MstError::MissingNode),
        Some(Link::Node(node)) => node,
    };
    let mut node = Arc::unwrap_or_clone(node);
    let (at, found) = node.seek(key);
    if found {
        return Err(MstError::Layer); // the key is here already, on a layer that is not its own
    }
    node.enter(at, blocks)?;
    let (inner_left, inner_right) = split(node.gap_mut(at).take(), key, blocks)?;
    let after = node.entries.split_off(at);
    *node.gap_mut(at) = inner_left;
    Ok((Node::link(node.layer, node.left, node.entries), Node::link(node.layer, inner_right, after)))
}

/// Lifts a subtree from `layer` to `to` with nodes that hold nothing else.
fn bridge(mut subtree: Option<Link>, layer: u32, to: u32) -> Option<Link> {
    if subtree.is_some() {
        for layer in layer + 1..=to {
            subtree = Node::link(layer, subtree, Vec::new());
        }
    }
    subtree
}

fn remove_below(slot: &mut Option<Link>, key: &[u8], own: u32, blocks: &impl Blocks) -> Result<Option<Cid>> {
    if slot.is_none() {
        return Ok(None);
    }
    let node = change(slot)?;
    let (at, found) = node.seek(key);
    let removed = if found {
        // Children on both sides have to be joined, so both must be known. A single one just moves, known or not.
        if node.gap(at).is_some() && node.gap(at + 1).is_some() {
            node.enter(at, blocks)?;
            node.enter(at + 1, blocks)?;
        }
        let entry = node.entries.remove(at);
        let left = node.gap_mut(at).take();
        *node.gap_mut(at) = merge(left, entry.right, blocks)?;
        Some(entry.value)
    } else if node.layer == own {
        None
    } else {
        node.enter(at, blocks)?;
        remove_below(node.gap_mut(at), key, own, blocks)?
    };
    if node.entries.is_empty() && node.left.is_none() {
        *slot = None;
    }
    Ok(removed)
}

/// Joins two subtrees of one layer that have become neighbours.
fn merge(left: Option<Link>, right: Option<Link>, blocks: &impl Blocks) -> Result<Option<Link>> {
    match (left, right) {
        (None, one) | (one, None) => Ok(one),
        (Some(Link::Node(left)), Some(Link::Node(right))) => {
            let (mut left, mut right) = (Arc::unwrap_or_clone(left), Arc::unwrap_or_clone(right));
            let seam = left.entries.len();
            if left.gap(seam).is_some() && right.left.is_some() {
                left.enter(seam, blocks)?;
                right.enter(0, blocks)?;
            }
            let inner = merge(left.gap_mut(seam).take(), right.left.take(), blocks)?;
            *left.gap_mut(seam) = inner;
            left.entries.append(&mut right.entries);
            Ok(Node::link(left.layer, left.left, left.entries))
        }
        _ => Err(MstError::MissingNode),
    }
}

/// A whole tree in memory.
#[derive(Clone, Default)]
pub struct Tree {
    root: Root,
}

impl Tree {
    /// The empty tree.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Builds a tree from its mapping, whose keys must be strictly ascending.
    pub fn from_sorted<'k>(mapping: impl IntoIterator<Item = (&'k [u8], Cid)>) -> Result<Tree> {
        let mut nodes = std::collections::HashMap::new();
        let (mut builder, mut sink) = (Builder::new(), |cid, bytes| drop(nodes.insert(cid, bytes)));
        for (key, value) in mapping {
            builder.push(key, value, &mut sink)?;
        }
        let root = builder.finish(&mut sink);
        Tree::load(root, &nodes)
    }

    /// Reads a whole tree from its blocks.
    pub fn load(root: Cid, blocks: &impl Blocks) -> Result<Tree> {
        let mut root = Root::stub(root);
        root.enter(blocks)?;
        if let Some(Link::Node(node)) = &mut root.top {
            load_below(Arc::make_mut(node), blocks)?;
        }
        Ok(Tree { root })
    }

    /// The root's CID. Hashes only the nodes that changed since it was last asked for.
    pub fn root(&self) -> Cid {
        self.root.cid()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Cid> {
        let mut slot = &self.root.top;
        while let Some(Link::Node(node)) = slot {
            let (at, found) = node.seek(key);
            if found {
                return Some(node.entries[at].value);
            }
            slot = node.gap(at);
        }
        None
    }

    /// Puts a value and returns the one it replaces. Fails for a key that is not valid, changing nothing.
    pub fn put(&mut self, key: &[u8], value: Cid) -> Result<Option<Cid>> {
        self.root.put(key, value, &NoBlocks)
    }

    /// Takes a key out and returns the value it had.
    pub fn remove(&mut self, key: &[u8]) -> Option<Cid> {
        self.root.remove(key, &NoBlocks).expect("a tree that is wholly in memory has no node to miss")
    }

    /// The mapping in ascending order of keys.
    pub fn leaves(&self) -> Leaves<'_> {
        let mut leaves = Leaves { path: Vec::new() };
        leaves.descend(&self.root.top);
        leaves
    }

    /// Every node with its CID, parents first.
    pub fn blocks(&self) -> Vec<(Cid, Vec<u8>)> {
        let mut out = Vec::new();
        match &self.root.top {
            None => out.push((empty_root(), super::EMPTY_NODE.to_vec())),
            top => all_below(top, &mut out),
        }
        out
    }

    /// The nodes that a commit of operations on `keys` has to carry, parents first and none twice: for each key the
    /// path to where it is or would be, and the paths to its neighbours on both sides. All nodes that the operations
    /// changed are among them.
    pub fn proof<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Vec<(Cid, Vec<u8>)> {
        let mut out = Proof::default();
        match &self.root.top {
            None => out.blocks.push((empty_root(), super::EMPTY_NODE.to_vec())),
            top => {
                out.add(top);
                for key in keys {
                    cover(top, key, &mut out);
                }
            }
        }
        out.blocks
    }
}

fn load_below(node: &mut Node, blocks: &impl Blocks) -> Result<()> {
    for at in 0..=node.entries.len() {
        node.enter(at, blocks)?;
        if let Some(Link::Node(child)) = node.gap_mut(at) {
            load_below(Arc::make_mut(child), blocks)?;
        }
    }
    Ok(())
}

fn all_below(slot: &Option<Link>, out: &mut Vec<(Cid, Vec<u8>)>) {
    if let Some(link @ Link::Node(node)) = slot {
        out.push((link.cid(), node.encode()));
        for at in 0..=node.entries.len() {
            all_below(node.gap(at), out);
        }
    }
}

#[derive(Default)]
struct Proof {
    seen: std::collections::HashSet<Cid>,
    blocks: Vec<(Cid, Vec<u8>)>,
}

impl Proof {
    fn add(&mut self, slot: &Option<Link>) {
        if let Some(link @ Link::Node(node)) = slot
            && self.seen.insert(link.cid())
        {
            self.blocks.push((link.cid(), node.encode()));
        }
    }
}

fn cover(mut slot: &Option<Link>, key: &[u8], out: &mut Proof) {
    while let Some(Link::Node(node)) = slot {
        out.add(slot);
        let (at, found) = node.seek(key);
        if found {
            edge(node.gap(at), out, |node| node.entries.len());
            edge(node.gap(at + 1), out, |_| 0);
            return;
        }
        slot = node.gap(at);
    }
}

/// Adds the nodes down one edge of a subtree, to the key nearest to it.
fn edge(mut slot: &Option<Link>, out: &mut Proof, gap: impl Fn(&Node) -> usize) {
    while let Some(Link::Node(node)) = slot {
        out.add(slot);
        slot = node.gap(gap(node));
    }
}

/// The mapping of a [`Tree`], in ascending order of keys.
pub struct Leaves<'t> {
    /// The nodes on the way down, each with the entry that comes next there.
    path: Vec<(&'t Node, usize)>,
}

impl<'t> Leaves<'t> {
    fn descend(&mut self, mut slot: &'t Option<Link>) {
        while let Some(Link::Node(node)) = slot {
            self.path.push((node, 0));
            slot = &node.left;
        }
    }
}

impl<'t> Iterator for Leaves<'t> {
    type Item = (&'t [u8], Cid);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (node, at) = self.path.last_mut()?;
            let Some(entry) = node.entries.get(*at) else {
                self.path.pop();
                continue;
            };
            *at += 1;
            self.descend(&entry.right);
            return Some((&entry.key, entry.value));
        }
    }
}
