//! Blocks of accounts, and of everybody on a list.

use crate::{
    atom,
    placed::Placed,
    relation::{Relation, Shape},
    rows::{Rows, timed_by},
    tables::by,
};

/// Blocks as a relation between two accounts.
pub static SHAPE: Shape = Shape {
    relation: Relation::Block,
    collection: "app.bsky.graph.block",
    subject: |it| it.text("subject").map(atom::did),
    rows,
    promotes: true,
};

/// Blocks of lists as a relation between an account and a list. The claims themselves are all that reads need.
pub static LIST_SHAPE: Shape = Shape {
    relation: Relation::ListBlock,
    collection: "app.bsky.graph.listblock",
    subject: |it| it.text("subject").map(atom::uri),
    rows: |_, _| {},
    promotes: true,
};

/// The rows of one standing block. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.text("subject") else { return };
    out.put(timed_by(it, by::BLOCK), atom::did(subject).to_vec());
}
