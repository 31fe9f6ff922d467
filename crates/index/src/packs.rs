//! Starter packs.

use crate::{
    counts::ByCount,
    placed::Placed,
    rows::{Rows, timed_by},
    tables::by,
};

/// The rows of one starter pack. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    out.put_by(it.did, timed_by(it, by::PACK), "", ByCount::Packs);
}
