//! Likes: of posts, feed generators, labelers, anything with an address.

use crate::{
    atom,
    counts::{ByCount, OnCount},
    notifications::{Notice, Reason},
    placed::{Placed, did_of},
    relation::{Relation, Shape},
    rows::{Rows, timed_by, timed_on},
    tables::{by, on},
};

/// Likes as a relation between an account and a subject.
pub static SHAPE: Shape = Shape {
    relation: Relation::Like,
    collection: "app.bsky.feed.like",
    subject: |it| it.reference("subject").map(atom::uri),
    rows,
    promotes: true,
};

/// The rows of one standing like. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.reference("subject") else { return };
    out.put_on(subject, timed_on(subject, on::LIKE, it), "", OnCount::Likes);
    out.put_by(it.did, timed_by(it, by::LIKE), atom::uri(subject).to_vec(), ByCount::Likes);
    notify_subject(it, subject, Reason::Like, Reason::LikeViaRepost, out);
}

/// Tells the owner of a subject, and the owner of the repost through which it was seen. A like or repost of one's own
/// tells nobody (ingest 8.1).
pub(crate) fn notify_subject(it: &Placed<'_>, subject: &str, direct: Reason, via: Reason, out: &mut Rows) {
    let owner = did_of(subject);
    if owner == Some(it.did) {
        return;
    }
    let mut tell = |recipient: &str, reason, about: &str| {
        out.notify(Notice {
            recipient: recipient.to_owned(),
            reason,
            uri: it.uri(),
            subject: Some(about.to_owned()),
            sort_at_us: it.sort_at_us,
            nonce: String::new(),
        });
    };
    if let Some(owner) = owner {
        tell(owner, direct, subject);
    }
    if let Some(through) = it.reference("via")
        && let Some(reposter) = did_of(through)
        && reposter != it.did
    {
        tell(reposter, via, through);
    }
}
