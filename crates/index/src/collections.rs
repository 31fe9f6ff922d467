//! Every collection we index, and how its records become rows. The one place that a new collection touches.

use crate::{
    blocks, feeds, follows, gates, likes, lists, packs, placed::Placed, posts, profiles, relation::Shape, reposts,
    rows::Rows, verifications,
};

/// How the records of a collection become rows.
pub enum Kind {
    /// Posts: rows, flags that depend on other repos, notices along a thread.
    Post,
    /// At most one claim stands for an account and a subject.
    Relation(&'static Shape),
    /// As `Relation`, and its end is told as well as its beginning.
    Verification(&'static Shape),
    /// Each record stands for itself.
    Document(fn(&Placed<'_>, &mut Rows)),
    /// Rules for a thread, in the repo of its root.
    ThreadGate,
    /// Rules for quoting a post, in the repo of the post.
    PostGate,
    /// One record of an account, at the key `self`.
    Profile,
    /// The record itself is all we keep.
    Plain,
    /// The record and all its versions are kept.
    Versioned,
}

/// One indexed collection.
pub struct Collection {
    /// Its name.
    pub nsid: &'static str,
    /// How its records become rows.
    pub kind: Kind,
    /// Whether records must satisfy their lexicon to be kept.
    pub validated: bool,
}

macro_rules! collections {
    ($($nsid:literal => $kind:expr $(, $unvalidated:ident)?;)*) => {
        /// All indexed collections.
        pub static ALL: &[Collection] = &[
            $(Collection { nsid: $nsid, kind: $kind, validated: true $(&& collections!(@ $unvalidated))? },)*
        ];
    };
    (@ unvalidated) => { false };
}

collections! {
    // NSID                              kind
    "app.bsky.feed.post"              => Kind::Post;
    "app.bsky.feed.like"              => Kind::Relation(&likes::SHAPE);
    "app.bsky.feed.repost"            => Kind::Relation(&reposts::SHAPE);
    "app.bsky.feed.threadgate"        => Kind::ThreadGate;
    "app.bsky.feed.postgate"          => Kind::PostGate;
    "app.bsky.feed.generator"         => Kind::Document(feeds::generator_rows);
    "app.bsky.graph.follow"           => Kind::Relation(&follows::SHAPE);
    "app.bsky.graph.block"            => Kind::Relation(&blocks::SHAPE);
    "app.bsky.graph.list"             => Kind::Document(lists::list_rows);
    "app.bsky.graph.listitem"         => Kind::Relation(&lists::ITEM_SHAPE);
    "app.bsky.graph.listblock"        => Kind::Relation(&blocks::LIST_SHAPE);
    "app.bsky.graph.referencelistoptout" => Kind::Relation(&lists::OPT_OUT_SHAPE);
    "app.bsky.graph.starterpack"      => Kind::Document(packs::rows);
    "app.bsky.graph.verification"     => Kind::Verification(&verifications::SHAPE);
    "app.bsky.actor.profile"          => Kind::Profile;
    "app.bsky.actor.status"           => Kind::Plain;
    "app.bsky.labeler.service"        => Kind::Document(profiles::labeler_rows);
    "app.bsky.notification.declaration" => Kind::Plain;
    "chat.bsky.actor.declaration"     => Kind::Plain, unvalidated;
    "com.germnetwork.declaration"     => Kind::Plain;
    "site.standard.document"          => Kind::Versioned, unvalidated;
    "site.standard.publication"       => Kind::Versioned, unvalidated;
}

/// The collection of this name, if we index it.
pub fn of(nsid: &str) -> Option<&'static Collection> {
    ALL.iter().find(|c| c.nsid == nsid)
}

/// Checks that go beyond the lexicon: what is wrong, or nothing (ingest 7).
pub fn refuse(it: &Placed<'_>, kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::Post => posts::refuse(it),
        Kind::ThreadGate | Kind::PostGate => gates::refuse(it),
        Kind::Relation(shape) if shape.collection == lists::ITEM_SHAPE.collection => lists::refuse_item(it),
        _ => None,
    }
}
