//! Positions in upstream streams, stored with the effects they stand for.

use gp_store::{Key, Store, View};

use crate::{Result, atom, tables::META};

fn key(source: &str) -> Key {
    Key::of(&META).atom(&atom::did("progress")).cluster().atom(&atom::did(source)).key()
}

/// The position up to which everything of a source is applied; nothing before the first event.
pub async fn of(store: &Store, source: &str) -> Result<Option<i64>> {
    let stored = store.get_one(&key(source)).await?;
    Ok(stored.and_then(|bytes| bytes.first_chunk::<8>().map(|b| i64::from_be_bytes(*b))))
}

/// Stores a position. It must not be ahead of the effects in the same view and in the store.
pub fn set(view: &mut View<'_>, source: &str, seq: i64) {
    view.put(key(source), seq.to_be_bytes().to_vec());
}
