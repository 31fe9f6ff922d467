//! A tree of which only the nodes of a commit are known, and the inverse of the commit's operations on it.

use super::{Blocks, MstError, tree::Root};
use crate::cid::Cid;

/// What a commit did to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The key, `collection/rkey`.
    pub key: &'a [u8],
    /// The value before the commit; `None` where the key was absent.
    pub before: Option<Cid>,
    /// The value after the commit; `None` where the key is absent.
    pub after: Option<Cid>,
}

/// A tree whose nodes are read from `blocks` when they are entered.
///
/// After an error the tree is in an unspecified state and must be thrown away.
#[derive(Clone)]
pub struct Partial<'b, B> {
    root: Root,
    blocks: &'b B,
}

impl<'b, B: Blocks> Partial<'b, B> {
    /// The tree with this root. Nothing is read yet.
    pub fn new(root: Cid, blocks: &'b B) -> Partial<'b, B> {
        Partial { root: Root::stub(root), blocks }
    }

    /// The value of a key. Fails with [`MstError::MissingNode`] where the blocks do not tell.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Cid>, MstError> {
        self.root.get(key, self.blocks)
    }

    /// The root as it is now.
    pub fn root(&self) -> Cid {
        self.root.cid()
    }

    /// Undoes changes of different keys and returns the root before them.
    ///
    /// The tree must hold every `after`, and no key without one. The order of the changes does not matter. A child
    /// that is only moved need not be known; one that has to be entered and is not among the blocks is an error.
    pub fn invert<'c>(&mut self, changes: impl IntoIterator<Item = Change<'c>>) -> Result<Cid, MstError> {
        for Change { key, before, after } in changes {
            let found = match before {
                Some(before) => self.root.put(key, before, self.blocks)?,
                None if after.is_some() => self.root.remove(key, self.blocks)?,
                None => continue,
            };
            if found != after {
                return Err(MstError::Contradiction);
            }
        }
        Ok(self.root())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mst::{
        Tree,
        tests::{FIVE, FIVE_ROOT, HIGH, SIX_ROOT, leaf},
    };
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashMap, HashSet};

    type Mapping = BTreeMap<String, Cid>;

    fn tree_of(mapping: &Mapping) -> Tree {
        Tree::from_sorted(mapping.iter().map(|(key, value)| (key.as_bytes(), *value))).unwrap()
    }

    fn five() -> Mapping {
        FIVE.iter().map(|key| (key.to_string(), leaf())).collect()
    }

    #[test]
    fn the_covering_proof_of_an_insertion_and_of_its_undoing() {
        let mut tree = tree_of(&five());
        assert_eq!(tree.root().to_string(), FIVE_ROOT);
        tree.put(HIGH.as_bytes(), leaf()).unwrap();
        assert_eq!(tree.root().to_string(), SIX_ROOT);
        let proof: HashMap<_, _> = tree.proof([HIGH.as_bytes()]).into_iter().collect();
        assert_eq!(proof.len(), 7);
        let layer_0 = Cid::parse("bafyreib2qwhpbspovivabidmiwhvc2f3mwgcii3zdqx2dfezdh353gpcfy").unwrap();
        assert!(!proof.contains_key(&layer_0));
        let insert = Change { key: HIGH.as_bytes(), before: None, after: Some(leaf()) };
        let before = Partial::new(tree.root(), &proof).invert([insert]).unwrap();
        assert_eq!(before.to_string(), FIVE_ROOT);

        tree.remove(HIGH.as_bytes()).unwrap();
        assert_eq!(tree.root().to_string(), FIVE_ROOT);
        let proof: HashMap<_, _> = tree.proof([HIGH.as_bytes()]).into_iter().collect();
        assert_eq!(proof.len(), 1);
        let delete = Change { key: HIGH.as_bytes(), before: Some(leaf()), after: None };
        assert_eq!(Partial::new(tree.root(), &proof).invert([delete]).unwrap().to_string(), SIX_ROOT);
    }

    #[test]
    fn the_first_and_the_last_key() {
        let mut tree = Tree::new();
        tree.put(HIGH.as_bytes(), leaf()).unwrap();
        let proof: HashMap<_, _> = tree.proof([HIGH.as_bytes()]).into_iter().collect();
        let insert = Change { key: HIGH.as_bytes(), before: None, after: Some(leaf()) };
        assert_eq!(Partial::new(tree.root(), &proof).invert([insert]), Ok(crate::mst::empty_root()));
        // Undoing a deletion that left nothing needs no block at all.
        let delete = Change { key: HIGH.as_bytes(), before: Some(leaf()), after: None };
        let none: HashMap<Cid, Vec<u8>> = HashMap::new();
        assert_eq!(Partial::new(crate::mst::empty_root(), &none).invert([delete]), Ok(tree.root()));
    }

    #[test]
    fn contradictions() {
        let tree = tree_of(&five());
        let blocks: HashMap<_, _> = tree.blocks().into_iter().collect();
        let other = Cid::for_dag_cbor(b"other");
        let invert = |key: &str, before, after| {
            Partial::new(tree.root(), &blocks).invert([Change { key: key.as_bytes(), before, after }])
        };
        assert_eq!(invert(FIVE[0], None, Some(other)), Err(MstError::Contradiction), "another value than the one said");
        assert_eq!(invert(FIVE[0], Some(leaf()), Some(other)), Err(MstError::Contradiction));
        assert_eq!(invert(FIVE[0], Some(leaf()), None), Err(MstError::Contradiction), "said to be gone, but there");
        assert_eq!(invert(HIGH, None, Some(leaf())), Err(MstError::Contradiction), "said to be there, but absent");
        assert_eq!(invert(HIGH, Some(other), Some(leaf())), Err(MstError::Contradiction));
        assert_eq!(invert("nokey", Some(other), None), Err(MstError::Key));
        assert_eq!(invert(FIVE[0], None, None), Ok(tree.root()));
    }

    /// Keys from a small space, so that creations, updates and deletions meet. About one in sixteen is two layers up.
    fn key() -> impl Strategy<Value = String> {
        (0usize..3, 0u32..400).prop_map(|(collection, n)| format!("{}/3k{n:03}", ["app.a", "app.b", "z"][collection]))
    }

    fn mapping(n: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Mapping> {
        prop::collection::btree_map(key(), any::<u8>().prop_map(|n| Cid::for_raw(&[n])), n)
    }

    /// Applies `next` to `tree` and says what changed. A key of `next` that has its value already is deleted.
    fn apply(tree: &mut Tree, now: &mut Mapping, next: &Mapping) -> Vec<(String, Option<Cid>, Option<Cid>)> {
        let mut changes = Vec::new();
        for (key, value) in next {
            let before = now.get(key).copied();
            let after = (before != Some(*value)).then_some(*value);
            match after {
                Some(value) => {
                    assert_eq!(tree.put(key.as_bytes(), value), Ok(before));
                    now.insert(key.clone(), value);
                }
                None => {
                    assert_eq!(tree.remove(key.as_bytes()), before);
                    now.remove(key);
                }
            }
            changes.push((key.clone(), before, after));
        }
        changes
    }

    fn borrowed(changes: &[(String, Option<Cid>, Option<Cid>)]) -> Vec<Change<'_>> {
        changes
            .iter()
            .map(|(key, before, after)| Change { key: key.as_bytes(), before: *before, after: *after })
            .collect()
    }

    proptest! {
        #[test]
        fn a_tree_that_changes_is_the_tree_that_is_built(start in mapping(0..120), batches in prop::collection::vec(mapping(1..12), 1..5)) {
            let (mut tree, mut now) = (tree_of(&start), start);
            for next in &batches {
                let (old, old_blocks) = (tree.clone(), tree.blocks());
                let changes = apply(&mut tree, &mut now, next);
                prop_assert_eq!(tree.root(), tree_of(&now).root());
                prop_assert!(tree.leaves().map(|(key, value)| (key.to_vec(), value)).eq(now.iter().map(|(key, value)| (key.clone().into_bytes(), *value))));
                // The old self is untouched, and the proof holds every node that it does not have.
                prop_assert_eq!(old.blocks(), old_blocks.clone());
                let known: HashSet<Cid> = old_blocks.into_iter().map(|(cid, _)| cid).collect();
                let proof: HashSet<Cid> = tree.proof(changes.iter().map(|(key, ..)| key.as_bytes())).into_iter().map(|(cid, _)| cid).collect();
                for (cid, _) in tree.blocks() {
                    prop_assert!(known.contains(&cid) || proof.contains(&cid), "a changed node is not in the proof");
                }
            }
        }

        #[test]
        fn a_proof_gives_the_root_before_in_any_order(start in mapping(0..200), next in mapping(1..12), order in any::<prop::sample::Index>()) {
            let (mut tree, mut now) = (tree_of(&start), start);
            let before = tree.root();
            let changes = apply(&mut tree, &mut now, &next);
            let proof: HashMap<_, _> = tree.proof(changes.iter().map(|(key, ..)| key.as_bytes())).into_iter().collect();
            let mut list = borrowed(&changes);
            for _ in 0..list.len() {
                prop_assert_eq!(Partial::new(tree.root(), &proof).invert(list.iter().copied()), Ok(before));
                list.rotate_left(1);
            }
            list.reverse();
            prop_assert_eq!(Partial::new(tree.root(), &proof).invert(list.iter().copied()), Ok(before));
            let at = order.index(list.len());
            list.swap(0, at);
            prop_assert_eq!(Partial::new(tree.root(), &proof).invert(list.iter().copied()), Ok(before));
            for Change { key, after, .. } in &list {
                prop_assert_eq!(Partial::new(tree.root(), &proof).get(key), Ok(*after));
            }
        }

        #[test]
        fn a_broken_proof_never_gives_the_root_before(start in mapping(0..200), next in mapping(1..8), which in any::<prop::sample::Index>()) {
            let (mut tree, mut now) = (tree_of(&start), start);
            let before = tree.root();
            let changes = apply(&mut tree, &mut now, &next);
            let blocks = tree.proof(changes.iter().map(|(key, ..)| key.as_bytes()));
            let proof: HashMap<_, _> = blocks.iter().cloned().collect();
            let list = borrowed(&changes);
            // A change left out, told with another value before, or with another value after.
            let at = which.index(list.len());
            let other = Cid::for_raw(b"another value");
            let mut fewer = list.clone();
            fewer.remove(at);
            prop_assert_ne!(Partial::new(tree.root(), &proof).invert(fewer), Ok(before));
            let mut lie = list.clone();
            lie[at].before = Some(other);
            prop_assert_ne!(Partial::new(tree.root(), &proof).invert(lie), Ok(before));
            let mut lie = list.clone();
            lie[at].after = Some(other);
            prop_assert_eq!(Partial::new(tree.root(), &proof).invert(lie), Err(MstError::Contradiction));
            // A node left out: the root always has to be entered; others may happen not to be needed, or only to be
            // missed as the root that remains (then it is another root than the one before).
            let dropped = blocks[which.index(blocks.len())].0;
            let mut fewer = proof.clone();
            fewer.remove(&dropped);
            let result = Partial::new(tree.root(), &fewer).invert(list.iter().copied());
            prop_assert!(matches!(result, Ok(_) | Err(MstError::MissingNode)));
            let mut rootless = proof.clone();
            rootless.remove(&tree.root());
            if tree.root() != crate::mst::empty_root() {
                prop_assert_eq!(Partial::new(tree.root(), &rootless).invert(list), Err(MstError::MissingNode));
            }
        }

        #[test]
        fn damaged_nodes_never_panic(start in mapping(1..60), next in mapping(1..6), node in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let (mut tree, mut now) = (tree_of(&start), start);
            let changes = apply(&mut tree, &mut now, &next);
            let mut blocks = tree.proof(changes.iter().map(|(key, ..)| key.as_bytes()));
            let node = node.index(blocks.len());
            let at = at.index(blocks[node].1.len());
            blocks[node].1[at] = byte;
            // These blocks lie about their CIDs, which a checked CAR never does; the walk must hold all the same.
            let blocks: HashMap<_, _> = blocks.into_iter().collect();
            let _ = Partial::new(tree.root(), &blocks).invert(borrowed(&changes));
        }
    }
}
