//! Records of `site.standard.*`, whose readers name a version: every version is kept.

use gp_atproto::cbor;
use gp_store::{Key, View};

use crate::{
    Result,
    apply::Stood,
    atom,
    placed::{Placed, uri_of},
    records::{Flags, RecordRow},
    tables::VERSION,
};

/// The place of one version of a record.
pub fn version_key(uri: &str, cid: &str) -> Key {
    Key::of(&VERSION).atom(&atom::uri(uri)).cluster().atom(cid.as_bytes()).key()
}

/// Keeps the new version beside the old ones. Deleting a record deletes no version that a post may still name.
pub(crate) fn keep_version(view: &mut View<'_>, stood: &Stood<'_>) -> Result<()> {
    let keep = |it: &Placed<'_>| RecordRow {
        flags: Flags::default(),
        indexed_at_us: it.indexed_at_us,
        first_indexed_at_us: it.first_indexed_at_us,
        block: cbor::encode(it.value).into(),
    };
    if let Some(new) = stood.new {
        let uri = uri_of(stood.did, stood.collection, stood.rkey);
        view.put(version_key(&uri, &new.cid.to_string()), keep(new).write());
    }
    Ok(())
}
