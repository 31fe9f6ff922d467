//! Posts: their rows, the flags that depend on other repos, and what is told along a thread.
//!
//! A reply may arrive before its parent, a quote before the quoted post, a gate before its post. What depends on
//! something missing is looked at again when the missing thing arrives, so that every order ends in the same state
//! (INV-5). Looking again is bounded: a flood of early replies is looked at in part, never without end. A deleted post
//! leaves behind when it went and where it hung, for replies and quotes that were made before and come after.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use gp_atproto::Value;
use gp_proto as proto;
use gp_store::{Key, Scan, View};

use crate::{
    Cx, Error, Result,
    apply::Stood,
    atom,
    atom::Parts,
    counts::{Deltas, Head, OnCount},
    feeds, gates,
    notifications::{self, Notice, Reason},
    page,
    placed::{Placed, collection_of, did_of, split_uri, uri_of},
    records::{self, Flags, RecordRow},
    rows::{self, Rows, timed_on},
    tables::{self, ON, POST, on},
    threads,
};

/// The collection of posts.
pub const NSID: &str = "app.bsky.feed.post";

/// Ancestors further up than this are not told of a reply (ingest T41: heights 1 to 4).
const TOLD_HEIGHT_MAX: usize = 4;

/// Posts looked at again because one thing arrived late.
const SETTLED_MAX: usize = 2_000;

/// Quotes removed with a deleted post in one write.
const QUOTES_REMOVED_MAX: usize = 100_000;

/// What a post's record says, as far as rows depend on it.
#[derive(Debug, Default)]
pub struct Reading<'a> {
    /// Addresses of the root and of the parent.
    pub reply: Option<(&'a str, &'a str)>,
    /// The record it embeds.
    pub embedded: Option<&'a str>,
    /// Whether it shows pictures.
    pub media: bool,
    /// Whether it shows a video.
    pub video: bool,
    /// Accounts it mentions, in order.
    pub mentions: Vec<&'a str>,
}

impl<'a> Reading<'a> {
    /// Reads a post.
    pub fn of(value: &'a Value<'a>) -> Self {
        let mut reading = Self::default();
        if let Some(reply) = value.get("reply") {
            let uri = |end: &str| reply.get(end).and_then(|r| r.get("uri")).and_then(Value::as_str);
            if let (Some(root), Some(parent)) = (uri("root"), uri("parent")) {
                reading.reply = Some((root, parent));
            }
        }
        if let Some(embed) = value.get("embed") {
            reading.embed(embed);
            if embed.type_name() == Some("app.bsky.embed.recordWithMedia") {
                if let Some(record) = embed.get("record") {
                    reading.embedded = record.get("record").and_then(|r| r.get("uri")).and_then(Value::as_str);
                }
                if let Some(media) = embed.get("media") {
                    reading.embed(media);
                }
            }
        }
        for facet in value.get("facets").and_then(Value::as_list).into_iter().flatten() {
            for feature in facet.get("features").and_then(Value::as_list).into_iter().flatten() {
                if feature.type_name() == Some("app.bsky.richtext.facet#mention")
                    && let Some(did) = feature.get("did").and_then(Value::as_str)
                {
                    reading.mentions.push(did);
                }
            }
        }
        reading
    }

    fn embed(&mut self, embed: &'a Value<'a>) {
        match embed.type_name() {
            Some("app.bsky.embed.images") => {
                self.media |= embed.get("images").and_then(Value::as_list).is_some_and(|images| !images.is_empty());
            }
            Some("app.bsky.embed.gallery") => {
                self.media |= embed
                    .get("items")
                    .and_then(Value::as_list)
                    .is_some_and(|items| items.iter().any(|i| i.type_name() == Some("app.bsky.embed.gallery#image")));
            }
            Some("app.bsky.embed.video") => self.video = true,
            Some("app.bsky.embed.record") => {
                self.embedded = embed.get("record").and_then(|r| r.get("uri")).and_then(Value::as_str);
            }
            _ => {}
        }
    }

    /// The post it quotes: an embedded record that is a post.
    pub fn quoted(&self) -> Option<&'a str> {
        self.embedded.filter(|uri| collection_of(uri) == Some(NSID))
    }
}

/// What was derived from a post and must be known again: its place in a thread, and who was told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostRow {
    /// Root and parent of a reply.
    pub reply: Option<(String, String)>,
    /// Who was told: recipient, reason, what of theirs.
    pub told: Vec<(String, Reason, Option<String>)>,
}

const LAYOUT: u8 = 1;

/// Layout of what a deleted post leaves behind, in the place of what was derived from it.
const LAYOUT_GONE: u8 = 2;

/// What a deleted post leaves behind: where it hung, and when it went. Accounts have no order among themselves, so a
/// reply made before may be applied after; it must end as it would have in the order of the events' times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gone {
    /// Time of the deletion's event, in microseconds.
    at_us: i64,
    /// It hung wrongly itself.
    invalid_root: bool,
    /// Root and parent, if it was a reply.
    reply: Option<(String, String)>,
}

impl Gone {
    /// Reads a row; nothing for one of a post that stands.
    fn read(stored: &[u8]) -> Result<Option<Self>> {
        let mut parts = Parts::of(POST.name, stored);
        if parts.tag()? != LAYOUT_GONE {
            return Ok(None);
        }
        let at_us = parts.micros_desc()?;
        let invalid_root = parts.tag()? == 1;
        let reply = if parts.tag()? == 1 { Some((parts.uri()?, parts.uri()?)) } else { None };
        Ok(Some(Self { at_us, invalid_root, reply }))
    }

    fn write(&self) -> Vec<u8> {
        let mut out = vec![LAYOUT_GONE];
        out.extend_from_slice(&page::timed_position(self.at_us, 0)[..8]);
        out.extend_from_slice(&[u8::from(self.invalid_root), u8::from(self.reply.is_some())]);
        if let Some((root, parent)) = &self.reply {
            out.extend_from_slice(&atom::uri(root));
            out.extend_from_slice(&atom::uri(parent));
        }
        out
    }
}

/// What a deleted post left behind, if it was deleted after `time_us`: at that time it stood.
fn gone_after(view: &View<'_>, uri: &str, time_us: i64) -> Result<Option<Gone>> {
    let Some(key) = post_key_of(uri) else { return Ok(None) };
    let gone = view.get(&key)?.map(|row| Gone::read(&row)).transpose()?.flatten();
    Ok(gone.filter(|gone| gone.at_us > time_us))
}

/// What a reply needs to know of what is above it.
struct Above {
    invalid_root: bool,
    /// Root and parent, if it is a reply itself.
    reply: Option<(String, String)>,
}

/// Something that may be replied to, as it stands, or, for what was made at `time_us`, stood then.
fn above_at(view: &View<'_>, uri: &str, time_us: i64) -> Result<Option<Above>> {
    if let Some(stored) = records::stored(view, uri)? {
        let reply = if collection_of(uri) == Some(NSID) { derived(view, uri)?.reply } else { None };
        return Ok(Some(Above { invalid_root: stored.flags.has(Flags::INVALID_ROOT), reply }));
    }
    let gone = gone_after(view, uri, time_us)?;
    Ok(gone.map(|gone| Above { invalid_root: gone.invalid_root, reply: gone.reply }))
}

impl PostRow {
    /// Reads a row. Nothing is derived from a post that is gone.
    pub fn read(stored: &[u8]) -> Result<Self> {
        let mut parts = Parts::of(POST.name, stored);
        let corrupt = |what| Error::Corrupt { table: POST.name, what };
        match parts.tag()? {
            LAYOUT => {}
            LAYOUT_GONE => return Ok(Self::default()),
            _ => return Err(corrupt("layout")),
        }
        let reply = if parts.tag()? == 1 { Some((parts.uri()?, parts.uri()?)) } else { None };
        let mut told = Vec::new();
        while !parts.rest().is_empty() {
            let reason = Reason::from_number(parts.tag()?).ok_or(corrupt("reason"))?;
            let recipient = parts.did()?;
            let subject = if parts.tag()? == 1 { Some(parts.uri()?) } else { None };
            told.push((recipient, reason, subject));
        }
        Ok(Self { reply, told })
    }

    fn write(&self) -> Option<Vec<u8>> {
        if self.reply.is_none() && self.told.is_empty() {
            return None;
        }
        let mut out = vec![LAYOUT, u8::from(self.reply.is_some())];
        if let Some((root, parent)) = &self.reply {
            out.extend_from_slice(&atom::uri(root));
            out.extend_from_slice(&atom::uri(parent));
        }
        for (recipient, reason, subject) in &self.told {
            out.push(*reason as u8);
            out.extend_from_slice(&atom::did(recipient));
            out.push(u8::from(subject.is_some()));
            if let Some(subject) = subject {
                out.extend_from_slice(&atom::uri(subject));
            }
        }
        Some(out)
    }
}

/// The place of what was derived from a post.
pub fn post_key(did: &str, rkey: &str) -> Key {
    Key::of(&POST).atom(&atom::did(did)).cluster().atom(&atom::rkey(rkey)).key()
}

/// The same for a post named by its address.
pub fn post_key_of(uri: &str) -> Option<Key> {
    let (did, collection, rkey) = split_uri(uri)?;
    (collection == NSID && did.starts_with("did:")).then(|| post_key(did, rkey))
}

fn derived(view: &View<'_>, uri: &str) -> Result<PostRow> {
    let Some(key) = post_key_of(uri) else { return Ok(PostRow::default()) };
    view.get(&key)?.map_or_else(|| Ok(PostRow::default()), |row| PostRow::read(&row))
}

/// The root of the thread a post is in: itself if it is no reply; nothing if it is not indexed.
pub(crate) fn root_of(view: &View<'_>, uri: &str) -> Result<Option<String>> {
    if let Some((root, _)) = derived(view, uri)?.reply {
        return Ok(Some(root));
    }
    Ok(records::stored(view, uri)?.map(|_| uri.to_owned()))
}

/// A reply whose root is addressed by handle is not kept: its gate could not be found (since-0.0.275 3.4).
pub(crate) fn refuse(it: &Placed<'_>) -> Option<&'static str> {
    let (root, _) = Reading::of(it.value).reply?;
    did_of(root).is_none().then_some("the root of its thread is not addressed by DID")
}

/// The rows of one post with its flags. Pure.
pub fn rows(it: &Placed<'_>, flags: Flags, out: &mut Rows) {
    let reading = Reading::of(it.value);
    feeds::post_rows(it, &reading, out);
    if let Some((root, parent)) = reading.reply {
        if flags.has(Flags::VIOLATES_THREAD_GATE) {
            out.put_on(parent, timed_on(parent, on::REPLY_GATED, it), "", OnCount::RepliesGated);
        } else {
            out.put_on(parent, timed_on(parent, on::REPLY, it), "", OnCount::Replies);
        }
        let place = tables::on_subject(root, on::THREAD).micros_desc(it.first_indexed_at_us);
        out.put_on(root, place.atom(&atom::did(it.did)).atom(&atom::rkey(it.rkey)).key(), "", OnCount::Thread);
    }
    if let Some(quoted) = reading.quoted() {
        out.put_on(quoted, timed_on(quoted, on::QUOTE, it), "", OnCount::Quotes);
    }
}

/// Applies a change of one post. `row` is its new row with the flags that it keeps; `old_row` its row before.
pub(crate) fn apply(
    view: &mut View<'_>,
    stood: &Stood<'_>,
    row: Option<RecordRow>,
    old_row: Option<&RecordRow>,
    deltas: &mut Deltas,
) -> Result<()> {
    let uri = uri_of(stood.did, stood.collection, stood.rkey);
    let place = post_key(stood.did, stood.rkey);
    let placed = view.get(&place)?;
    let before_row = placed.as_ref().map(|stored| PostRow::read(stored)).transpose()?.unwrap_or_default();
    let mut before = Rows::none();
    if let (Some(old), Some(old_row)) = (stood.old, old_row) {
        rows(old, old_row.flags, &mut before);
        before.notices = notices_of(&before_row, &uri, old.sort_at_us);
    }
    let mut after = Rows::none();
    let mut after_row = PostRow::default();
    if let (Some(new), Some(mut row)) = (stood.new, row) {
        let reading = Reading::of(new.value);
        let same_thread = stood.old.is_some_and(|old| Reading::of(old.value).reply == reading.reply);
        let same_quote = stood.old.is_some_and(|old| Reading::of(old.value).quoted() == reading.quoted());
        row.flags.set(Flags::IS_REPLY, reading.reply.is_some());
        row.flags.set(Flags::IS_QUOTE, reading.embedded.is_some());
        row.flags.set(Flags::HAS_MEDIA, reading.media);
        row.flags.set(Flags::HAS_VIDEO, reading.video);
        let by_handle = |uri: &str| did_of(uri).is_none();
        row.flags.set(
            Flags::HANDLE_AUTHORITY,
            reading.reply.is_some_and(|(_, p)| by_handle(p)) || reading.embedded.is_some_and(by_handle),
        );
        row.flags.set(Flags::INVALID_ROOT, invalid_root(view, &reading, stood.time_us)?);
        // Rules are looked at once, when the post is first seen; a later change of them changes nothing.
        if !same_thread {
            let breaks = match reading.reply {
                Some((root, _)) => gates::thread_gate_refuses(view, stood.did, root)?,
                None => false,
            };
            row.flags.set(Flags::VIOLATES_THREAD_GATE, breaks);
        }
        if !same_quote {
            let breaks = match reading.quoted() {
                Some(quoted) => gates::post_gate_refuses(view, stood.did, quoted)?,
                None => false,
            };
            row.flags.set(Flags::VIOLATES_EMBEDDING, breaks);
        }
        if stood.old.is_none() {
            row.flags.set(
                Flags::HAS_THREAD_GATE,
                view.get(&records::key(stood.did, gates::THREAD_GATE, stood.rkey))?.is_some(),
            );
            row.flags
                .set(Flags::HAS_POST_GATE, view.get(&records::key(stood.did, gates::POST_GATE, stood.rkey))?.is_some());
        }
        view.put(records::key(stood.did, stood.collection, stood.rkey), row.write());
        rows(new, row.flags, &mut after);
        if let Some(quoted) = reading.quoted()
            && gone_after(view, quoted, stood.time_us)?.is_some()
        {
            // The deletion takes the quotes made before it off the books, in whatever order the two come.
            let books = (tables::on_head(quoted), OnCount::Quotes as u8);
            after.rows.retain(|row| row.counted.as_ref() != Some(&books));
        }
        after_row.reply = reading.reply.map(|(root, parent)| (root.to_owned(), parent.to_owned()));
        after_row.told = recipients(view, new, &reading, row.flags, stood.time_us, Vec::new())?;
        after.notices = notices_of(&after_row, &uri, new.sort_at_us);
        threads::op_reply_stands(view, new, &reading)?;
    }
    rows::change(view, &before, &after, deltas)?;
    notifications::change(view, &before.notices, &after.notices)?;
    match (after_row.write(), old_row) {
        (Some(bytes), _) => view.put(place, bytes),
        // With a whole account, which has no time, nothing is left behind.
        (None, Some(old_row)) if stood.new.is_none() && stood.time_us > 0 => {
            let gone = Gone {
                at_us: stood.time_us,
                invalid_root: old_row.flags.has(Flags::INVALID_ROOT),
                reply: before_row.reply,
            };
            view.put(place, gone.write());
        }
        // Deleted once more.
        (None, None) if stood.new.is_none() && placed.is_some_and(|row| row.first() == Some(&LAYOUT_GONE)) => {}
        (None, _) => view.delete(place),
    }
    match (stood.old, stood.new) {
        (None, Some(new)) => {
            let head = Head::read(view.get(&tables::on_head(&uri))?.as_ref());
            if head.get(OnCount::Replies as u8) + head.get(OnCount::RepliesGated as u8) > 0 {
                settle(view, deltas, &[uri.clone()], false)?;
            }
            if head.get(OnCount::Thread as u8) > 0 {
                settle_thread(view, deltas, &uri, new.first_indexed_at_us)?;
            }
            notifications::tell_subscribers(view, new, &after_row)?;
        }
        (old, None) => {
            if let Some(old) = old {
                threads::op_reply_gone(view, old, &Reading::of(old.value), stood.time_us)?;
            }
            remove_quotes(view, &uri, deltas)?;
        }
        _ => {}
    }
    Ok(())
}

fn notices_of(row: &PostRow, uri: &str, sort_at_us: i64) -> Vec<Notice> {
    let notice = |(recipient, reason, subject): &(String, Reason, Option<String>)| Notice {
        recipient: recipient.clone(),
        reason: *reason,
        uri: uri.to_owned(),
        subject: subject.clone(),
        sort_at_us,
        nonce: String::new(),
    };
    row.told.iter().map(notice).collect()
}

/// Whether a reply hangs in the wrong place: its parent is missing, hangs wrongly itself, or is in another thread
/// (ingest 7.1 step 2.2). `time_us` is when it was made.
fn invalid_root(view: &View<'_>, reading: &Reading<'_>, time_us: i64) -> Result<bool> {
    let Some((root, parent)) = reading.reply else { return Ok(false) };
    let Some(above) = above_at(view, parent, time_us)? else { return Ok(true) };
    if above.invalid_root {
        return Ok(true);
    }
    Ok(match above.reply.map(|(root, _)| root) {
        Some(parents_root) => parent == root || parents_root != root,
        None => parent != root,
    })
}

/// Who is told of a post, each once and for the first reason that fits: mentions, the quoted, ancestors nearest first
/// (ingest 8.2). Those told already stay told; `told` is what stood. `time_us` is when it was made.
fn recipients(
    view: &View<'_>,
    it: &Placed<'_>,
    reading: &Reading<'_>,
    flags: Flags,
    time_us: i64,
    mut told: Vec<(String, Reason, Option<String>)>,
) -> Result<Vec<(String, Reason, Option<String>)>> {
    let mut seen: HashSet<String> = told.iter().map(|(did, _, _)| did.clone()).collect();
    seen.insert(it.did.to_owned());
    let mut tell = |did: &str, reason, subject: Option<&str>, told: &mut Vec<(String, Reason, Option<String>)>| {
        if seen.insert(did.to_owned()) {
            told.push((did.to_owned(), reason, subject.map(str::to_owned)));
        }
    };
    for did in &reading.mentions {
        tell(did, Reason::Mention, None, &mut told);
    }
    if let Some(quoted) = reading.quoted()
        && let Some(owner) = did_of(quoted)
        && !flags.has(Flags::VIOLATES_EMBEDDING)
    {
        tell(owner, Reason::Quote, Some(quoted), &mut told);
    }
    if let Some((root, parent)) = reading.reply
        && !flags.has(Flags::VIOLATES_THREAD_GATE)
    {
        let hidden = gates::hidden_replies(view, root)?;
        let mut above = parent.to_owned();
        for _ in 0..TOLD_HEIGHT_MAX {
            if collection_of(&above) != Some(NSID) {
                break;
            }
            let Some(place) = above_at(view, &above, time_us)? else { break };
            if let Some(owner) = did_of(&above) {
                tell(owner, Reason::Reply, Some(&above), &mut told);
            }
            if hidden.iter().any(|h| *h == above) {
                break;
            }
            let Some((_, next)) = place.reply else { break };
            above = next;
        }
    }
    Ok(told)
}

/// Looks again at the replies to something that has just arrived, if there are any.
pub(crate) fn settle_children_of(view: &mut View<'_>, uri: &str) -> Result<()> {
    let head = Head::read(view.get(&tables::on_head(uri))?.as_ref());
    if head.get(OnCount::Replies as u8) + head.get(OnCount::RepliesGated as u8) > 0 {
        let mut deltas = Deltas::default();
        settle(view, &mut deltas, &[uri.to_owned()], false)?;
        deltas.apply(view)?;
    }
    Ok(())
}

/// Looks again at the replies of a thread that were indexed at or after `since_us`, because the rules of the thread
/// have arrived after them.
pub(crate) fn settle_thread(view: &mut View<'_>, deltas: &mut Deltas, root: &str, since_us: i64) -> Result<()> {
    let page = view.scan(&tables::scan_on(root, on::THREAD).limit(SETTLED_MAX))?;
    for row in page.rows {
        let mut parts = Parts::of(ON.name, &row.clustering()[1..]);
        if parts.micros_desc()? < since_us {
            break;
        }
        let uri = uri_of(&parts.did()?, NSID, &parts.rkey()?);
        look_again(view, deltas, &uri, true)?;
    }
    Ok(())
}

/// Looks again at everything below some posts, as deep as it changes anything.
fn settle(view: &mut View<'_>, deltas: &mut Deltas, from: &[String], gate: bool) -> Result<()> {
    let mut queue: VecDeque<(String, usize)> = from.iter().map(|uri| (uri.clone(), 0)).collect();
    let mut looked = 0;
    while let Some((uri, depth)) = queue.pop_front() {
        for kind in [on::REPLY, on::REPLY_GATED] {
            let children = view.scan(&tables::scan_on(&uri, kind).limit(SETTLED_MAX))?;
            for row in children.rows {
                looked += 1;
                if looked > SETTLED_MAX {
                    tracing::warn!(uri, "more early replies than are looked at again");
                    return Ok(());
                }
                let child = timed_on_uri(row.clustering(), NSID)?;
                let changed = look_again(view, deltas, &child, gate)?;
                // Ancestors further up than heights are told of do not matter, flags do as far as they change.
                if changed || depth + 1 < TOLD_HEIGHT_MAX {
                    queue.push_back((child, depth + 1));
                }
            }
        }
    }
    Ok(())
}

/// The record that a timed row of `on` names.
pub(crate) fn timed_on_uri(clustering: &[u8], collection: &str) -> Result<String> {
    let mut parts = Parts::of(ON.name, clustering);
    parts.tag()?;
    parts.micros_desc()?;
    parts.u32_desc()?;
    Ok(uri_of(&parts.did()?, collection, &parts.rkey()?))
}

/// Derives one standing post anew. Returns whether its flags changed.
pub(crate) fn look_again(view: &mut View<'_>, deltas: &mut Deltas, uri: &str, gate: bool) -> Result<bool> {
    let Some((did, collection, rkey)) = split_uri(uri) else { return Ok(false) };
    let key = records::key(did, collection, rkey);
    let Some(stored) = view.get(&key)? else { return Ok(false) };
    let mut row = RecordRow::read(&stored)?;
    let block = row.block.clone();
    let value = gp_atproto::cbor::decode(&block).map_err(|_| Error::Corrupt { table: "record", what: "block" })?;
    let it = Placed::new(did, collection, rkey, row.cid(), &value, row.indexed_at_us, row.first_indexed_at_us);
    let reading = Reading::of(&value);
    let old_flags = row.flags;
    let mut before = Rows::none();
    rows(&it, old_flags, &mut before);
    row.flags.set(Flags::INVALID_ROOT, invalid_root(view, &reading, row.indexed_at_us)?);
    if gate && let Some((root, _)) = reading.reply {
        row.flags.set(Flags::VIOLATES_THREAD_GATE, gates::thread_gate_refuses(view, did, root)?);
    }
    if gate && let Some(quoted) = reading.quoted() {
        row.flags.set(Flags::VIOLATES_EMBEDDING, gates::post_gate_refuses(view, did, quoted)?);
    }
    if row.flags != old_flags {
        view.put(key, row.write());
        let mut after = Rows::none();
        rows(&it, row.flags, &mut after);
        rows::change(view, &before, &after, deltas)?;
    }
    let place = post_key(did, rkey);
    let before_row = view.get(&place)?.map(|stored| PostRow::read(&stored)).transpose()?.unwrap_or_default();
    let mut after_row = before_row.clone();
    if row.flags.has(Flags::VIOLATES_THREAD_GATE) && !old_flags.has(Flags::VIOLATES_THREAD_GATE) {
        after_row.told.retain(|(_, reason, _)| *reason != Reason::Reply);
    }
    if row.flags.has(Flags::VIOLATES_EMBEDDING) && !old_flags.has(Flags::VIOLATES_EMBEDDING) {
        after_row.told.retain(|(_, reason, _)| *reason != Reason::Quote);
    }
    after_row.told = recipients(view, &it, &reading, row.flags, row.indexed_at_us, after_row.told)?;
    if after_row != before_row {
        notifications::change(
            view,
            &notices_of(&before_row, uri, it.sort_at_us),
            &notices_of(&after_row, uri, it.sort_at_us),
        )?;
        match after_row.write() {
            Some(bytes) => view.put(place, bytes),
            None => view.delete(place),
        }
    }
    Ok(row.flags != old_flags)
}

/// Removes the quotes of a deleted post from the relation, and from its count (ingest 13.3, point 9).
fn remove_quotes(view: &mut View<'_>, uri: &str, deltas: &mut Deltas) -> Result<()> {
    let head = Head::read(view.get(&tables::on_head(uri))?.as_ref());
    if head.get(OnCount::Quotes as u8) == 0 {
        return Ok(());
    }
    let mut removed = 0i64;
    loop {
        let page = view.scan(&tables::scan_on(uri, on::QUOTE).limit(1000))?;
        for row in &page.rows {
            view.delete(row.key.clone());
            removed += 1;
        }
        if !page.more || removed as usize >= QUOTES_REMOVED_MAX {
            break;
        }
    }
    deltas.add(tables::on_head(uri), OnCount::Quotes as u8, -removed);
    Ok(())
}

/// The quotes of a post that were indexed at or after `since_us`, looked at again because its gate arrived after them.
pub(crate) fn settle_quotes(view: &mut View<'_>, quoted: &str, since_us: i64) -> Result<()> {
    let head = Head::read(view.get(&tables::on_head(quoted))?.as_ref());
    if head.get(OnCount::Quotes as u8) == 0 {
        return Ok(());
    }
    let mut deltas = Deltas::default();
    let page = view.scan(&Scan::of(tables::on_head(quoted).to_partition()).prefix([on::QUOTE]).limit(SETTLED_MAX))?;
    for row in page.rows {
        let uri = timed_on_uri(row.clustering(), NSID)?;
        if records::stored(view, &uri)?.is_some_and(|r| r.first_indexed_at_us >= since_us) {
            look_again(view, &mut deltas, &uri, true)?;
        }
    }
    deltas.apply(view)
}

/// A served record's flags and envelope, or the missing envelope where the AppView could not bear the record.
#[derive(Debug, Clone, Default)]
pub struct PostFacts {
    /// Root and parent of a reply.
    pub reply: Option<(String, String)>,
}

impl PostFacts {
    /// Reads the served form of a post row.
    pub fn read(stored: Option<&Bytes>) -> Result<Self> {
        Ok(Self { reply: stored.map(|s| PostRow::read(s)).transpose()?.and_then(|row| row.reply) })
    }
}

/// Post records by address with what was derived from each, and, if asked, the chains of the threads they are in.
pub async fn get_post_records(cx: &Cx, req: proto::GetPostRecordsRequest) -> Result<proto::GetPostRecordsResponse> {
    let found = records::look_up(cx, &req.uris, NSID).await?;
    let op_threads = if req.include_op_thread_metadata { op_threads(cx, &req.uris, &found).await? } else { Vec::new() };
    let mut response = proto::GetPostRecordsResponse {
        records: Vec::with_capacity(found.len()),
        meta: Vec::with_capacity(found.len()),
        op_threads,
    };
    for served in found {
        let flags = served.flags;
        // The AppView fails the whole page on a post that names another record by handle (since-0.0.275 4.5).
        if flags.has(Flags::HANDLE_AUTHORITY) {
            response.records.push(proto::Record::default());
            response.meta.push(proto::PostRecordMeta::default());
            continue;
        }
        response.records.push(served.record);
        response.meta.push(proto::PostRecordMeta {
            violates_thread_gate: flags.has(Flags::VIOLATES_THREAD_GATE),
            has_media: flags.has(Flags::HAS_MEDIA),
            is_reply: flags.has(Flags::IS_REPLY),
            violates_embedding_rules: flags.has(Flags::VIOLATES_EMBEDDING),
            has_post_gate: flags.has(Flags::HAS_POST_GATE),
            has_thread_gate: flags.has(Flags::HAS_THREAD_GATE),
            has_video: flags.has(Flags::HAS_VIDEO),
        });
    }
    Ok(response)
}

/// The chain of each distinct root of the posts that stand.
async fn op_threads(cx: &Cx, uris: &[String], found: &[records::Served]) -> Result<Vec<proto::OpThread>> {
    let standing: Vec<&String> =
        uris.iter().zip(found).filter(|(_, served)| !served.record.cid.is_empty()).map(|(uri, _)| uri).collect();
    let keys: Vec<Key> = standing.iter().filter_map(|uri| post_key_of(uri)).collect();
    let rows = cx.store.get(&keys).await?;
    let mut roots = Vec::new();
    let mut seen = HashSet::new();
    for (uri, row) in standing.into_iter().zip(rows) {
        let root = PostFacts::read(row.as_ref())?.reply.map_or_else(|| uri.clone(), |(root, _)| root);
        if seen.insert(root.clone()) {
            roots.push(root);
        }
    }
    let chains = threads::op_chains(cx, &roots).await?;
    let threads = roots.into_iter().zip(chains).filter(|(_, uris)| !uris.is_empty());
    Ok(threads.map(|(root_uri, uris)| proto::OpThread { root_uri, uris }).collect())
}

#[cfg(test)]
#[path = "posts_tests.rs"]
mod tests;
