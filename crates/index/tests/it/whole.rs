//! Everything that is stored: compared row by row, and counted again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gp_index::{
    atom,
    atom::Parts,
    counts::{ByCount, Head, OnCount},
    derived::PostRow,
    feeds,
    notifications::Stored,
    records::RecordRow,
    tables::{self, BY, NOTIFICATION, ON, POST, RECORD, by, on},
};
use gp_store::{Key, Store};

/// All rows of all tables, by table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole(BTreeMap<&'static str, BTreeMap<Bytes, Bytes>>);

/// Reads everything.
pub(crate) fn whole(store: &Store) -> Whole {
    let mut all = BTreeMap::new();
    for table in tables::ALL {
        let mut rows = BTreeMap::new();
        let mut visit = |key: &[u8], value: &Bytes| {
            rows.insert(Bytes::copy_from_slice(key), value.clone());
            true
        };
        store.local().each(table.id, &mut visit).expect("a store in memory");
        all.insert(table.name, rows);
    }
    Whole(all)
}

/// The partition and the position of a row of `by` or `on`.
fn split<'a>(table: &str, key: &'a [u8]) -> (String, &'a [u8]) {
    let mut parts = Parts::of(if table == ON.name { ON.name } else { BY.name }, &key[1..]);
    let subject = if table == ON.name { parts.uri() } else { parts.did() };
    (subject.unwrap_or_default(), parts.rest())
}

impl Whole {
    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// The rows that differ, for a person.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut shown = Vec::new();
        for (table, ours) in &self.0 {
            let theirs = &other.0[table];
            let keys: BTreeSet<&Bytes> = ours.keys().chain(theirs.keys()).collect();
            for key in keys.into_iter().filter(|key| ours.get(*key) != theirs.get(*key)) {
                shown.push(format!("{}: {} / {}", place(table, key), said(table, key, ours), said(table, key, theirs)));
            }
        }
        shown
    }

    /// What is written of posts of others than `did`, where it differs from `after`, as it stands here.
    pub(crate) fn posts_of_others(&self, after: &Self, did: &str) -> Vec<(Key, Option<Bytes>)> {
        let mut restored = Vec::new();
        let (before, after) = (&self.0[POST.name], &after.0[POST.name]);
        for stored in before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key)) {
            let mut parts = Parts::of(POST.name, &stored[1..]);
            let (owner, rkey) = (parts.did().expect("an owner"), parts.rkey().expect("a key"));
            if owner != did {
                restored.push((gp_index::derived::post_key(&owner, &rkey), before.get(stored).cloned()));
            }
        }
        restored
    }

    /// Counts everything again that is counted, and answers with what is wrong.
    pub(crate) fn miscounts(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |what: String, counted: u64, found: u64| {
            if counted != found {
                wrong.push(format!("{what}: {found} written, {counted} counted"));
            }
        };
        let (heads, rows) = by_partition(ON.name, &self.0[ON.name]);
        let cells = [
            (OnCount::Likes, &[on::LIKE][..]),
            (OnCount::Reposts, &[on::REPOST]),
            (OnCount::Replies, &[on::REPLY]),
            (OnCount::Quotes, &[on::QUOTE]),
            (OnCount::Followers, &[on::FOLLOWER]),
            (OnCount::Items, &[on::ITEM]),
            (OnCount::Joined, &[on::JOINED]),
            (OnCount::RepliesGated, &[on::REPLY_GATED]),
            (OnCount::Thread, &[on::THREAD]),
            (OnCount::Verifications, &[on::VERIFICATION]),
            (OnCount::Watching, &[on::WATCH]),
            (OnCount::RepliesGone, &[on::REPLY_GONE]),
            (OnCount::QuotesGone, &[on::QUOTE_GONE]),
            (OnCount::GateVersions, &[on::THREAD_GATE_WAS, on::POST_GATE_WAS]),
        ];
        for subject in heads.keys().chain(rows.keys()).collect::<BTreeSet<_>>() {
            let kinds = rows.get(subject).cloned().unwrap_or_default();
            for (cell, of) in cells {
                let counted = of.iter().map(|kind| kinds.get(&(*kind, 0)).copied().unwrap_or(0)).sum();
                let found = Head::read(heads.get(subject)).get(cell as u8);
                expect(format!("{cell:?} of {subject}"), counted, found);
            }
        }
        let (heads, rows) = by_partition(BY.name, &self.0[BY.name]);
        for actor in heads.keys().chain(rows.keys()).collect::<BTreeSet<_>>() {
            let kinds = rows.get(actor).cloned().unwrap_or_default();
            let kind = |kind: u8, sub: u8| kinds.get(&(kind, sub)).copied().unwrap_or(0);
            let head = Head::read(heads.get(actor));
            for (cell, counted) in [
                (ByCount::Posts, kind(by::FEED, feeds::POST_ITEM)),
                (ByCount::Follows, kind(by::FOLLOW, 0)),
                (ByCount::Lists, kind(by::LIST, 0)),
                (ByCount::Generators, kind(by::GENERATOR, 0)),
                (ByCount::Packs, kind(by::PACK, 0)),
                (ByCount::Reposts, kind(by::REPOST, 0)),
                (ByCount::Likes, kind(by::LIKE, 0)),
            ] {
                expect(format!("{cell:?} by {actor}"), counted, head.get(cell as u8));
            }
            // A relation has claims exactly when one of them stands.
            for (relation, stands) in
                [(1, by::LIKE), (2, by::REPOST), (3, by::FOLLOW), (4, by::BLOCK), (7, by::VERIFICATION)]
            {
                expect(
                    format!("standing of relation {relation} by {actor}"),
                    kind(by::CLAIM, relation),
                    kind(stands, 0),
                );
            }
        }
        // And every record of a relation is one of its claims.
        let mut claims: BTreeMap<(String, u8), u64> = BTreeMap::new();
        for (key, value) in &self.0[BY.name] {
            let (actor, position) = split(BY.name, key);
            if position.first() == Some(&by::CLAIM) {
                let many = gp_index::relation::read_claims(Some(value)).expect("claims").len() as u64;
                *claims.entry((actor, position[1])).or_default() += many;
            }
        }
        let mut records: BTreeMap<(String, u8), u64> = BTreeMap::new();
        for key in self.0[RECORD.name].keys() {
            let mut parts = Parts::of(RECORD.name, &key[1..]);
            let (did, collection) = (parts.did().expect("a repo"), parts.nsid().expect("a collection"));
            let relation = match collection.as_str() {
                "app.bsky.feed.like" => 1,
                "app.bsky.feed.repost" => 2,
                "app.bsky.graph.follow" => 3,
                "app.bsky.graph.block" => 4,
                "app.bsky.graph.listblock" => 5,
                "app.bsky.graph.listitem" => 6,
                "app.bsky.graph.verification" => 7,
                _ => continue,
            };
            *records.entry((did, relation)).or_default() += 1;
        }
        // Opt-outs from lists do not promote, so not each of their records is a claim.
        claims.retain(|(_, relation), _| *relation != 8);
        for at in claims.keys().chain(records.keys()).collect::<BTreeSet<_>>() {
            let (counted, found) = (records.get(at).copied(), claims.get(at).copied());
            expect(format!("claims of relation {} by {}", at.1, at.0), counted.unwrap_or(0), found.unwrap_or(0));
        }
        wrong
    }
}

/// Heads, and numbers of rows by kind; rows of feeds and claims by what follows as well.
type Counted = (BTreeMap<String, Bytes>, BTreeMap<String, BTreeMap<(u8, u8), u64>>);

fn by_partition(table: &str, stored: &BTreeMap<Bytes, Bytes>) -> Counted {
    let (mut heads, mut rows): Counted = Default::default();
    for (key, value) in stored {
        let (subject, position) = split(table, key);
        match position.first() {
            None => drop(heads.insert(subject, value.clone())),
            Some(kind) => {
                let sub = match (table == BY.name, *kind) {
                    (true, by::CLAIM) => position[1],
                    (true, by::FEED) => position[13],
                    _ => 0,
                };
                *rows.entry(subject).or_default().entry((*kind, sub)).or_default() += 1;
            }
        }
    }
    (heads, rows)
}

fn place(table: &str, key: &[u8]) -> String {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut parts = Parts::of(RECORD.name, &key[1..]);
    let named = match table {
        t if t == RECORD.name => {
            let text = [parts.did(), parts.nsid(), parts.rkey()].map(Result::unwrap_or_default);
            text.join("/")
        }
        t if t == POST.name => [parts.did(), parts.rkey()].map(Result::unwrap_or_default).join("/"),
        t if t == ON.name || t == BY.name => {
            let (subject, position) = split(table, key);
            format!("{subject} kind {:?}", position.first())
        }
        _ => parts.did().unwrap_or_default(),
    };
    format!("{table} {named} ({hex})")
}

fn said(table: &str, key: &[u8], rows: &BTreeMap<Bytes, Bytes>) -> String {
    let Some(value) = rows.get(key) else { return "nothing".into() };
    let told = match table {
        t if t == RECORD.name => RecordRow::read(value)
            .map(|row| format!("{:?} indexed {} first {}", row.flags, row.indexed_at_us, row.first_indexed_at_us))
            .ok(),
        t if t == POST.name => PostRow::read(value).map(|row| format!("{row:?}")).ok(),
        t if t == NOTIFICATION.name => {
            let recipient = Parts::of(NOTIFICATION.name, &key[1..]).did().map(|did| atom::did(&did).len());
            recipient.and_then(|len| Stored::read(&key[1 + len..], value)).map(|it| format!("{it:?}")).ok()
        }
        t if (t == ON.name || t == BY.name) && split(table, key).1.is_empty() => {
            Some(format!("{:?}", Head::read(Some(value))))
        }
        _ => None,
    };
    told.unwrap_or_else(|| format!("{:02x?}", &value[..value.len().min(60)]))
}
