//! Builds a tree from its sorted mapping in one pass, keeping one unfinished node per layer.

use super::{DEPTH_MAX, MstError, empty_root, is_valid_key, layer_of, node::Key, node::NodeWriter};
use crate::cid::Cid;

/// Takes keys in ascending order and makes the nodes of their tree.
///
/// Memory is bounded by one unfinished node for each layer, whatever the size of the tree.
#[derive(Default)]
pub struct Builder {
    /// The unfinished node of each layer, lowest first.
    layers: Vec<Pending>,
    last: Key,
}

#[derive(Default)]
struct Pending {
    left: Option<Cid>,
    entries: Vec<(Key, Cid, Option<Cid>)>,
}

impl Pending {
    /// Hangs a child behind what is here so far.
    fn hang(&mut self, child: Option<Cid>) {
        match self.entries.last_mut() {
            Some((_, _, right)) => *right = child,
            None => self.left = child,
        }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.left.is_none()
    }

    /// Writes the node and makes room for the next one of this layer.
    fn close(&mut self, sink: &mut impl FnMut(Cid, Vec<u8>)) -> Option<Cid> {
        if self.is_empty() {
            return None;
        }
        let mut writer = NodeWriter::new(self.entries.len());
        let mut before: &[u8] = &[];
        for (key, value, right) in &self.entries {
            writer.entry(before, key, value, right.as_ref());
            before = key;
        }
        let bytes = writer.finish(self.left.as_ref());
        let cid = Cid::for_dag_cbor(&bytes);
        sink(cid, bytes);
        self.entries.clear();
        self.left = None;
        Some(cid)
    }
}

impl Builder {
    /// Begins an empty tree.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Adds the next key. Finished nodes go to `sink`, children before parents.
    pub fn push(&mut self, key: &[u8], value: Cid, sink: &mut impl FnMut(Cid, Vec<u8>)) -> Result<(), MstError> {
        if !is_valid_key(key) {
            return Err(MstError::Key);
        }
        if key <= &self.last[..] {
            return Err(MstError::Order);
        }
        let layer = layer_of(key);
        if layer >= DEPTH_MAX {
            return Err(MstError::TooDeep);
        }
        let layer = layer as usize;
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Pending::default);
        }
        let below = self.close_below(layer, sink);
        self.layers[layer].hang(below);
        self.layers[layer].entries.push((Key::from_slice(key), value, None));
        self.last = Key::from_slice(key);
        Ok(())
    }

    /// Closes the nodes of all layers under `layer` and returns the child that stands for them.
    fn close_below(&mut self, layer: usize, sink: &mut impl FnMut(Cid, Vec<u8>)) -> Option<Cid> {
        let mut child = None;
        for pending in &mut self.layers[..layer] {
            if child.is_some() {
                pending.hang(child);
            }
            child = pending.close(sink);
        }
        child
    }

    /// Closes the tree and returns its root. The empty tree has a node too.
    pub fn finish(mut self, sink: &mut impl FnMut(Cid, Vec<u8>)) -> Cid {
        // The topmost layer holds a key: it was made for one, and nothing closes the top before now.
        let layers = self.layers.len();
        self.close_below(layers, sink).unwrap_or_else(|| {
            sink(empty_root(), super::EMPTY_NODE.to_vec());
            empty_root()
        })
    }
}

/// The root of the tree with this mapping, whose keys must be strictly ascending.
pub fn root_of<'k>(mapping: impl IntoIterator<Item = (&'k [u8], Cid)>) -> Result<Cid, MstError> {
    let (mut builder, mut sink) = (Builder::new(), |_, _| {});
    for (key, value) in mapping {
        builder.push(key, value, &mut sink)?;
    }
    Ok(builder.finish(&mut sink))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mst::tests::{FIVE, FIVE_ROOT, HIGH, SIX_ROOT, leaf};

    fn root(keys: &[&str]) -> Result<String, MstError> {
        root_of(keys.iter().map(|key| (key.as_bytes(), leaf()))).map(|cid| cid.to_string())
    }

    #[test]
    fn known_roots() {
        assert_eq!(root(&[]), Ok(empty_root().to_string()));
        assert_eq!(root(&FIVE), Ok(FIVE_ROOT.into()));
        let mut six = FIVE.to_vec();
        six.push(HIGH);
        six.sort_unstable();
        assert_eq!(root(&six), Ok(SIX_ROOT.into()));
    }

    #[test]
    fn a_known_node_below_the_root() {
        let mut nodes = Vec::new();
        let mut builder = Builder::new();
        for key in FIVE {
            builder.push(key.as_bytes(), leaf(), &mut |cid, _| nodes.push(cid.to_string())).unwrap();
        }
        builder.finish(&mut |cid, _| nodes.push(cid.to_string()));
        assert_eq!(nodes, ["bafyreib2qwhpbspovivabidmiwhvc2f3mwgcii3zdqx2dfezdh353gpcfy", FIVE_ROOT]);
    }

    #[test]
    fn keys_out_of_order_or_not_valid() {
        assert_eq!(root(&["a/b", "a/a"]), Err(MstError::Order));
        assert_eq!(root(&["a/b", "a/b"]), Err(MstError::Order));
        assert_eq!(root(&["ab"]), Err(MstError::Key));
    }
}
