//! Reposts: of posts, and of anything else with an address.

use crate::{
    atom,
    counts::{ByCount, OnCount},
    feeds, likes,
    notifications::Reason,
    placed::Placed,
    relation::{Relation, Shape},
    rows::{Rows, timed_by, timed_on},
    tables::{by, on},
};

/// Reposts as a relation between an account and a subject.
pub static SHAPE: Shape = Shape {
    relation: Relation::Repost,
    collection: "app.bsky.feed.repost",
    subject: |it| it.reference("subject").map(atom::uri),
    rows,
    promotes: true,
};

/// The rows of one standing repost. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.reference("subject") else { return };
    out.put_on(subject, timed_on(subject, on::REPOST, it), "", OnCount::Reposts);
    out.put_by(it.did, timed_by(it, by::REPOST), atom::uri(subject).to_vec(), ByCount::Reposts);
    feeds::repost_row(it, subject, out);
    likes::notify_subject(it, subject, Reason::Repost, Reason::RepostViaRepost, out);
}
