//! Follows between accounts.

use crate::{
    atom,
    counts::{ByCount, OnCount},
    notifications::{Notice, Reason},
    placed::Placed,
    relation::{Relation, Shape},
    rows::{Rows, timed_by, timed_on},
    tables::{by, on},
};

/// Follows as a relation between two accounts.
pub static SHAPE: Shape = Shape {
    relation: Relation::Follow,
    collection: "app.bsky.graph.follow",
    subject: |it| it.text("subject").map(atom::did),
    rows,
    promotes: true,
};

/// The rows of one standing follow. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.text("subject") else { return };
    out.put_on(subject, timed_on(subject, on::FOLLOWER, it), "", OnCount::Followers);
    out.put_by(it.did, timed_by(it, by::FOLLOW), atom::did(subject).to_vec(), ByCount::Follows);
    if subject != it.did {
        out.notify(Notice {
            recipient: subject.to_owned(),
            reason: Reason::Follow,
            uri: it.uri(),
            subject: None,
            sort_at_us: it.sort_at_us,
            nonce: String::new(),
        });
    }
}
