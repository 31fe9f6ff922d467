//! Lists, who is on them, and who asked to be left out of their public face.

use gp_atproto::aturi;

use crate::{
    atom,
    atom::Atom,
    counts::{ByCount, OnCount},
    placed::{Placed, did_of},
    relation::{Relation, Shape},
    rows::{Rows, timed_by, timed_on},
    tables::{self, by, on},
};

/// The collection of lists.
pub const LIST: &str = "app.bsky.graph.list";

/// Membership as a relation between a list's owner and `(list, member)`.
pub static ITEM_SHAPE: Shape = Shape {
    relation: Relation::ListItem,
    collection: "app.bsky.graph.listitem",
    subject: item_subject,
    rows: item_rows,
    promotes: true,
};

/// Opt-outs as a relation between an account and a list.
///
/// A second opt-out from the same list is kept as a record only, and the end of the standing one ends the opt-out: a
/// client that undoes it deletes the one address it was given (since-0.0.275 2.3).
pub static OPT_OUT_SHAPE: Shape = Shape {
    relation: Relation::OptOut,
    collection: "app.bsky.graph.referencelistoptout",
    subject: |it| it.text("subject").filter(|s| is_list(s)).map(atom::uri),
    rows: |_, _| {},
    promotes: false,
};

/// The claim key of a membership: the list, then the member.
pub fn item_key(list: &str, member: &str) -> Atom {
    let mut key = atom::uri(list);
    key.extend_from_slice(&atom::did(member));
    key
}

fn item_subject(it: &Placed<'_>) -> Option<Atom> {
    Some(item_key(it.text("list")?, it.text("subject")?))
}

/// An item must be in the repo that owns the list (ingest 7.10).
pub(crate) fn refuse_item(it: &Placed<'_>) -> Option<&'static str> {
    (it.text("list").and_then(did_of) != Some(it.did)).then_some("the list belongs to another account")
}

/// Whether the text is exactly the canonical address of a list (since-0.0.275 2.2).
fn is_list(subject: &str) -> bool {
    did_of(subject).is_some()
        && crate::placed::split_uri(subject).is_some_and(|(_, collection, _)| collection == LIST)
        && aturi::is_valid(subject)
}

/// The rows of one list. Pure.
pub fn list_rows(it: &Placed<'_>, out: &mut Rows) {
    out.put_by(it.did, timed_by(it, by::LIST), "", ByCount::Lists);
}

/// The rows of one standing membership. Pure.
pub fn item_rows(it: &Placed<'_>, out: &mut Rows) {
    let (Some(list), Some(member)) = (it.text("list"), it.text("subject")) else { return };
    let member_atom = atom::did(member);
    out.put_on(list, timed_on(list, on::ITEM, it), member_atom.to_vec(), OnCount::Items);
    out.put(tables::on_subject(list, on::MEMBER).atom(&member_atom).key(), atom::rkey(it.rkey).to_vec());
}
