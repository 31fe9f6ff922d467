//! Reads the mapping out of a whole tree's blocks.

use super::{Blocks, DEPTH_MAX, MstError, empty_root, node};
use crate::cid::Cid;

/// Calls `visit` with every key and value in ascending order.
///
/// Checks that nodes are canonically encoded, that all keys are strictly ascending and the depth is bounded. It does
/// not check layers: build the root from the mapping and compare (see [`super::Builder`]), which covers everything.
pub fn walk(root: Cid, blocks: &impl Blocks, visit: &mut impl FnMut(&[u8], &Cid)) -> Result<(), MstError> {
    if root == empty_root() {
        return Ok(());
    }
    let mut last = node::Key::new();
    below(root, blocks, 0, &mut last, visit)
}

fn below(
    cid: Cid,
    blocks: &impl Blocks,
    depth: u32,
    last: &mut node::Key,
    visit: &mut impl FnMut(&[u8], &Cid),
) -> Result<(), MstError> {
    if depth >= DEPTH_MAX {
        return Err(MstError::TooDeep);
    }
    let node = node::decode(&blocks.node(&cid).ok_or(MstError::MissingNode)?)?;
    if node.entries.is_empty() && node.left.is_none() {
        // Only the empty tree has such a node. Refusing it here also stops trees that would repeat it endlessly.
        return Err(MstError::Layer);
    }
    if let Some(left) = node.left {
        below(left, blocks, depth + 1, last, visit)?;
    }
    for entry in node.entries {
        if entry.key <= *last {
            return Err(MstError::Order);
        }
        visit(&entry.key, &entry.value);
        *last = entry.key;
        if let Some(right) = entry.right {
            below(right, blocks, depth + 1, last, visit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mst::{
        Tree,
        tests::{FIVE, HIGH, leaf},
    };
    use std::collections::HashMap;

    fn keys(root: Cid, blocks: &HashMap<Cid, Vec<u8>>) -> Result<Vec<String>, MstError> {
        let mut keys = Vec::new();
        walk(root, blocks, &mut |key, value| {
            assert_eq!(*value, leaf());
            keys.push(String::from_utf8(key.to_vec()).unwrap());
        })?;
        Ok(keys)
    }

    fn six() -> Tree {
        let mut tree = Tree::from_sorted(FIVE.iter().map(|key| (key.as_bytes(), leaf()))).unwrap();
        tree.put(HIGH.as_bytes(), leaf()).unwrap();
        tree
    }

    #[test]
    fn all_keys_in_order() {
        let mut want: Vec<_> = FIVE.iter().copied().chain([HIGH]).collect();
        want.sort_unstable();
        assert_eq!(
            keys(six().root(), &six().blocks().into_iter().collect()),
            Ok(want.into_iter().map(String::from).collect())
        );
        assert_eq!(keys(empty_root(), &HashMap::new()), Ok(vec![]));
    }

    #[test]
    fn a_missing_node_is_found() {
        for (cid, _) in six().blocks() {
            let mut blocks: HashMap<_, _> = six().blocks().into_iter().collect();
            blocks.remove(&cid);
            assert_eq!(keys(six().root(), &blocks), Err(MstError::MissingNode));
        }
    }

    #[test]
    fn repeated_and_bottomless_nodes() {
        let mut blocks = HashMap::new();
        let mut add = |left: Option<Cid>, entries: &[(&str, Option<Cid>)]| {
            let mut writer = node::NodeWriter::new(entries.len());
            let mut before = "";
            for (key, right) in entries {
                writer.entry(before.as_bytes(), key.as_bytes(), &leaf(), right.as_ref());
                before = key;
            }
            let bytes = writer.finish(left.as_ref());
            let cid = Cid::for_dag_cbor(&bytes);
            blocks.insert(cid, bytes);
            cid
        };
        let one = add(None, &[("a/a", None)]);
        let twice = add(Some(one), &[("a/b", Some(one))]);
        let empty = add(None, &[]);
        let around_empty = add(Some(empty), &[("a/b", None)]);
        let mut deep = one;
        for _ in 0..DEPTH_MAX {
            deep = add(Some(deep), &[]);
        }
        assert_eq!(keys(one, &blocks), Ok(vec!["a/a".into()]));
        assert_eq!(keys(twice, &blocks), Err(MstError::Order));
        assert_eq!(keys(around_empty, &blocks), Err(MstError::Layer));
        assert_eq!(keys(deep, &blocks), Err(MstError::TooDeep));
    }
}
