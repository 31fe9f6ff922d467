//! Every table, and the layout of the two that most rows live in.
//!
//! `by` holds what an account did and `on` what was done to a subject. Both are partitions with many kinds of rows,
//! told apart by the first byte of the position, and a head that counts the rows beside it. One partition for all
//! kinds means that one read gives all counts of a post, and that a count and its row change in one atomic write.

use gp_atproto::compact;
use gp_store::{Cache, Column, Key, KeyBuilder, Kind, Scan, Table};

use crate::{atom, records};

/// Rows of one bucket of a partition in a cluster: some five megabytes.
const BUCKET_ROWS: u32 = 50_000;

const fn col(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}

/// Every record of an indexed collection, as its repo signed it. Head: none.
pub static RECORD: Table = Table {
    id: 1,
    name: "record",
    partition: &[col("did", Kind::Atom)],
    clustering: &[col("collection", Kind::Atom), col("rkey", Kind::Atom)],
    value: &[col("record_row", Kind::Bytes)],
    cache: Cache::NearAs(records::served),
    bucket_rows: None,
};

/// What is known of an account: one row, the head.
pub static ACTOR: Table = Table {
    id: 2,
    name: "actor",
    partition: &[col("did", Kind::Atom)],
    clustering: &[],
    value: &[col("actor_row", Kind::Bytes)],
    cache: Cache::Near,
    bucket_rows: None,
};

/// How far a repo has been followed: one row, the head. Apart from `actor`, because it changes with every commit.
pub static REPO: Table = Table {
    id: 3,
    name: "repo",
    partition: &[col("did", Kind::Atom)],
    clustering: &[],
    value: &[col("repo_row", Kind::Bytes)],
    cache: Cache::Never,
    bucket_rows: None,
};

/// What an account did. Head: its counts. Positions begin with a tag of [`by`].
pub static BY: Table = Table {
    id: 4,
    name: "by",
    partition: &[col("actor", Kind::Atom)],
    clustering: &[col("kind", Kind::Tag), col("position", Kind::Bytes)],
    value: &[col("row", Kind::Bytes)],
    cache: Cache::Near,
    bucket_rows: Some(BUCKET_ROWS),
};

/// What was done to a subject (an account or any URI). Head: its counts. Positions begin with a tag of [`on`].
pub static ON: Table = Table {
    id: 5,
    name: "on",
    partition: &[col("subject", Kind::Atom)],
    clustering: &[col("kind", Kind::Tag), col("position", Kind::Bytes)],
    value: &[col("row", Kind::Bytes)],
    cache: Cache::Near,
    bucket_rows: Some(BUCKET_ROWS),
};

/// Notifications of one recipient, newest first.
pub static NOTIFICATION: Table = Table {
    id: 6,
    name: "notification",
    partition: &[col("recipient", Kind::Atom)],
    clustering: &[col("sort_at", Kind::MicrosDesc), col("id", Kind::Bytes)],
    value: &[col("notification_row", Kind::Bytes)],
    cache: Cache::Never,
    bucket_rows: Some(BUCKET_ROWS),
};

/// Labels of one subject.
pub static LABEL: Table = Table {
    id: 7,
    name: "label",
    partition: &[col("subject", Kind::Atom)],
    clustering: &[col("src", Kind::Atom), col("val_cid", Kind::Bytes)],
    value: &[col("label_row", Kind::Bytes)],
    cache: Cache::Never,
    bucket_rows: None,
};

/// What only the account itself may see: mutes, bookmarks, drafts, preferences, seen marks. Head: its counts.
/// Positions begin with a tag of [`private`].
pub static PRIVATE: Table = Table {
    id: 8,
    name: "private",
    partition: &[col("actor", Kind::Atom)],
    clustering: &[col("kind", Kind::Tag), col("position", Kind::Bytes)],
    value: &[col("row", Kind::Bytes)],
    cache: Cache::Near,
    bucket_rows: None,
};

/// Which account holds a handle: one row, the head.
pub static HANDLE: Table = Table {
    id: 9,
    name: "handle",
    partition: &[col("handle", Kind::Atom)],
    clustering: &[],
    value: &[col("did", Kind::Bytes)],
    cache: Cache::Near,
    bucket_rows: None,
};

/// Takedowns by this service, kept apart from their subjects so that they outlive and precede them.
pub static TAKEDOWN: Table = Table {
    id: 10,
    name: "takedown",
    partition: &[col("subject", Kind::Atom)],
    clustering: &[col("blob_cid", Kind::Bytes)],
    value: &[col("takedown_row", Kind::Bytes)],
    cache: Cache::Near,
    bucket_rows: None,
};

/// Small things of which there is one: positions in upstream streams, the operator's lists.
pub static META: Table = Table {
    id: 11,
    name: "meta",
    partition: &[col("name", Kind::Atom)],
    clustering: &[col("position", Kind::Bytes)],
    value: &[col("value", Kind::Bytes)],
    cache: Cache::Never,
    bucket_rows: None,
};

/// What was derived from a post that is a reply or notified somebody, and what a deleted post left behind: one row a
/// post, beside its repo.
pub static POST: Table = Table {
    id: 12,
    name: "post",
    partition: &[col("did", Kind::Atom)],
    clustering: &[col("rkey", Kind::Atom)],
    value: &[col("post_row", Kind::Bytes)],
    cache: Cache::Near,
    bucket_rows: None,
};

/// Tags that the operator put on a record.
pub static TAGS: Table = Table {
    id: 13,
    name: "tags",
    partition: &[col("subject", Kind::Atom)],
    clustering: &[],
    value: &[col("tags_row", Kind::Bytes)],
    cache: Cache::Near,
    bucket_rows: None,
};

/// All versions of records whose readers name a version (`site.standard.*`).
pub static VERSION: Table = Table {
    id: 14,
    name: "version",
    partition: &[col("uri", Kind::Atom)],
    clustering: &[col("cid", Kind::Bytes)],
    value: &[col("record_row", Kind::Bytes)],
    cache: Cache::Never,
    bucket_rows: None,
};

/// Accounts by the hour in which they were first seen, and a count for each hour. See `newcomers.rs`.
pub static NEWCOMER: Table = Table {
    id: 15,
    name: "newcomer",
    partition: &[col("part", Kind::Tag), col("hour", Kind::Bytes)],
    clustering: &[col("day_or_first_seen_at_did", Kind::Bytes)],
    value: &[col("hours", Kind::Bytes)],
    cache: Cache::Never,
    bucket_rows: Some(BUCKET_ROWS),
};

/// Who and what is popular, in steps of powers of two. See `popular.rs`.
pub static POPULAR: Table = Table {
    id: 16,
    name: "popular",
    partition: &[col("board", Kind::Tag)],
    clustering: &[col("step", Kind::Tag), col("subject", Kind::Atom)],
    value: &[],
    cache: Cache::Never,
    bucket_rows: Some(BUCKET_ROWS),
};

/// The items of everybody's feeds by the hour: what the window of timelines is filled from. See `window.rs`.
pub static RECENT: Table = Table {
    id: 17,
    name: "recent",
    partition: &[col("hour", Kind::Bytes)],
    clustering: &[col("sort_at_tie_did_type_rkey", Kind::Bytes)],
    value: &[col("flags", Kind::Bytes)],
    cache: Cache::Never,
    bucket_rows: Some(BUCKET_ROWS),
};

/// All tables. A table that is not here cannot be opened.
pub static ALL: &[&Table] = &[
    &RECORD,
    &ACTOR,
    &REPO,
    &BY,
    &ON,
    &NOTIFICATION,
    &LABEL,
    &PRIVATE,
    &HANDLE,
    &TAKEDOWN,
    &META,
    &POST,
    &TAGS,
    &VERSION,
    &NEWCOMER,
    &POPULAR,
    &RECENT,
];

/// How long the partition at the beginning of a key is, the number of the table not counted; nothing for what is no key
/// of the table. Keys in a folder do not say it, and to move them to a cluster it must be known.
pub fn partition_len(table: &Table, key: &[u8]) -> Option<usize> {
    let hour = size_of::<u32>();
    match table.id {
        id if id == NEWCOMER.id => return crate::newcomers::partition_len(key, hour),
        id if id == RECENT.id => return Some(hour),
        _ => {}
    }
    let mut len = 0;
    for column in table.partition {
        len += match column.kind {
            Kind::Atom => compact::atom_len(key.get(len..)?).ok()?,
            Kind::Tag => 1,
            Kind::MicrosDesc => size_of::<i64>(),
            Kind::U32Desc => size_of::<u32>(),
            // Free bytes say no length; the tables that have them there are above.
            Kind::Bytes => return None,
        };
    }
    (len > 0).then_some(len)
}

/// Kinds of rows in `by`. On disk: never reused, never renumbered.
///
/// "Timed" positions are `sort_at desc, tie desc, rkey`.
pub mod by {
    /// `relation, subject` -> the claims of this account to that relation. See `relation.rs`.
    pub const CLAIM: u8 = 1;
    /// Timed. A follow -> subject atom.
    pub const FOLLOW: u8 = 2;
    /// Timed. A like -> subject atom.
    pub const LIKE: u8 = 3;
    /// Timed. A repost -> subject atom.
    pub const REPOST: u8 = 4;
    /// Timed. A block -> subject atom.
    pub const BLOCK: u8 = 5;
    /// `sort_at desc, tie desc, type, rkey` -> flags, and for a repost the post. See `feeds.rs`.
    pub const FEED: u8 = 6;
    /// Timed. A post with pictures.
    pub const MEDIA: u8 = 7;
    /// Timed. A post with a video.
    pub const VIDEO: u8 = 8;
    /// Timed. A list -> nothing.
    pub const LIST: u8 = 9;
    /// Timed. A feed generator -> nothing.
    pub const GENERATOR: u8 = 10;
    /// Timed. A starter pack -> nothing.
    pub const PACK: u8 = 11;
    /// Timed. A verification this account issued -> subject atom.
    pub const VERIFICATION: u8 = 12;
    /// `relation, subject` -> the times in which claims to it stood that have ended. See `past.rs`.
    pub const ENDED: u8 = 13;
}

/// Kinds of rows in `on`. On disk: never reused, never renumbered.
///
/// "Timed" positions are `sort_at desc, tie desc, actor, rkey`.
pub mod on {
    /// Timed. A like of the subject -> nothing.
    pub const LIKE: u8 = 1;
    /// Timed. A repost of the subject -> nothing.
    pub const REPOST: u8 = 2;
    /// Timed. A post that quotes the subject -> when it was first seen, if its place does not say it.
    pub const QUOTE: u8 = 3;
    /// Timed. A post whose parent is the subject, counted -> nothing.
    pub const REPLY: u8 = 4;
    /// Timed. A post whose parent is the subject, not counted because it breaks the thread's gate -> nothing.
    pub const REPLY_GATED: u8 = 5;
    /// `indexed_at desc, actor, rkey` of every reply whose root is the subject -> nothing.
    pub const THREAD: u8 = 6;
    /// `rkey` of a reply by the author of the root -> parent and time of deletion. See `threads.rs`.
    pub const OP_REPLY: u8 = 7;
    /// Timed. A follow of the subject -> nothing.
    pub const FOLLOWER: u8 = 8;
    /// Timed. An item of the list -> member atom.
    pub const ITEM: u8 = 9;
    /// `member` of the list -> rkey of the item.
    pub const MEMBER: u8 = 10;
    /// `created_at desc, actor` of accounts that joined through the starter pack -> nothing.
    pub const JOINED: u8 = 11;
    /// Timed. A verification of the subject -> the verification's words. See `verifications.rs`.
    pub const VERIFICATION: u8 = 12;
    /// `subscriber` of the account's activity -> flags.
    pub const SUBSCRIBER: u8 = 13;
    /// `actor, rkey` of a deleted post whose parent is the subject, not counted -> nothing.
    pub const REPLY_GONE: u8 = 14;
    /// As `QUOTE`, of a quote that was made before the subject was deleted, not counted.
    pub const QUOTE_GONE: u8 = 15;
    /// `follower or member, made_at desc, actor, rkey` of a reply whose gate asked for it -> nothing. See `gates.rs`.
    pub const WATCH: u8 = 16;
    /// `until desc` of a replaced version of the post's thread gate -> since when, record. See `past.rs`.
    pub const THREAD_GATE_WAS: u8 = 17;
    /// The same of its post gate.
    pub const POST_GATE_WAS: u8 = 18;
}

/// Kinds of rows in `private`. On disk: never reused, never renumbered.
pub mod private {
    /// `subject did` -> scope and time.
    pub const MUTE: u8 = 1;
    /// `created_at desc, subject did` -> scope.
    pub const MUTE_BY_TIME: u8 = 2;
    /// `list uri` -> time.
    pub const LIST_MUTE: u8 = 3;
    /// `root uri` -> time.
    pub const THREAD_MUTE: u8 = 4;
    /// `namespace, key` -> payload.
    pub const STASH: u8 = 5;
    /// `key desc` -> subject.
    pub const BOOKMARK: u8 = 6;
    /// `subject uri` -> key, cid, time.
    pub const BOOKMARK_OF: u8 = 7;
    /// `key` -> times, payload.
    pub const DRAFT: u8 = 8;
    /// `updated_at desc, key` -> nothing.
    pub const DRAFT_BY_TIME: u8 = 9;
    /// `key` -> subject, flags.
    pub const SUBSCRIPTION: u8 = 10;
    /// `subject did` -> key, flags.
    pub const SUBSCRIPTION_OF: u8 = 11;
    /// Seen mark and notification priority.
    pub const STATE: u8 = 12;
}

/// A key of `by`, its partition ended: what follows is the position.
pub fn by_actor(actor: &str, kind: u8) -> KeyBuilder {
    Key::of(&BY).atom(&atom::did(actor)).cluster().tag(kind)
}

/// A key of `on`, its partition ended: what follows is the position.
pub fn on_subject(subject: &str, kind: u8) -> KeyBuilder {
    Key::of(&ON).pack(|out| compact::pack_uri(subject, out)).cluster().tag(kind)
}

/// A key of `private`, its partition ended: what follows is the position.
pub fn private_of(actor: &str, kind: u8) -> KeyBuilder {
    Key::of(&PRIVATE).atom(&atom::did(actor)).cluster().tag(kind)
}

/// The head of what an account did.
pub fn by_head(actor: &str) -> Key {
    Key::of(&BY).pack(|out| compact::pack_did(actor, out)).key()
}

/// The head of what was done to a subject.
pub fn on_head(subject: &str) -> Key {
    Key::of(&ON).pack(|out| compact::pack_uri(subject, out)).key()
}

/// The head of what only the account itself may see.
pub fn private_head(actor: &str) -> Key {
    Key::of(&PRIVATE).atom(&atom::did(actor)).key()
}

/// All rows of one kind that an account did, in order.
pub fn scan_by(actor: &str, kind: u8) -> Scan {
    Scan::of(Key::of(&BY).atom(&atom::did(actor)).partition()).prefix([kind])
}

/// All rows of one kind on a subject, in order.
pub fn scan_on(subject: &str, kind: u8) -> Scan {
    Scan::of(Key::of(&ON).atom(&atom::uri(subject)).partition()).prefix([kind])
}

/// All private rows of one kind of an account, in order.
pub fn scan_private(actor: &str, kind: u8) -> Scan {
    Scan::of(Key::of(&PRIVATE).atom(&atom::did(actor)).partition()).prefix([kind])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_and_names_of_tables_are_unique() {
        let ids: HashSet<u8> = ALL.iter().map(|t| t.id).collect();
        let names: HashSet<&str> = ALL.iter().map(|t| t.name).collect();
        assert_eq!(ids.len(), ALL.len());
        assert_eq!(names.len(), ALL.len());
    }
}
