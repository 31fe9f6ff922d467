//! Posts: their rows, the flags that depend on other repos, and what is told along a thread.
//!
//! A reply may arrive before its parent, a quote before the quoted post, a gate before its post. What depends on other
//! repos is a function of what stands and of what stood when the post was made, and is derived anew when something it
//! depends on arrives, so that every order ends in the same state (INV-5). Looking again is bounded: a flood of early
//! replies is looked at in part, never without end.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use gp_atproto::Value;
use gp_proto as proto;
use gp_store::{Key, View};

pub use crate::derived::{PostRow, post_key, post_key_of};
use crate::{
    Cx, Result,
    apply::Stood,
    atom,
    atom::Parts,
    counts::{Deltas, Head, OnCount},
    derived::{self, Watch},
    feeds, gates,
    notifications::{self, Notice, Reason},
    page, past,
    placed::{Placed, collection_of, cut_to_ms, did_of, split_uri, uri_of},
    records::{self, Envelope, Flags, RecordRow},
    rows::{self, Rows, timed_on},
    tables::{self, ON, on},
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

/// The root of the thread a post is in: itself if it is no reply; nothing if it is not indexed.
pub(crate) fn root_of(view: &View<'_>, uri: &str) -> Result<Option<String>> {
    Ok(above(view, uri)?.map(|reply| reply.map_or_else(|| uri.to_owned(), |(root, _)| root)))
}

/// Where the post at an address hangs: root and parent if it is a reply. Nothing if no post was ever seen there. A
/// deleted post hangs where it hung, so that it makes no difference whether what is below it was applied before or
/// after its deletion.
fn above(view: &View<'_>, uri: &str) -> Result<Option<Option<(String, String)>>> {
    if let Some(row) = derived::of(view, uri)? {
        return Ok(row.known.then_some(row.reply));
    }
    Ok(records::stored(view, uri)?.map(|_| None))
}

/// A reply whose root is addressed by handle is not kept: its gate could not be found (since-0.0.275 3.4).
pub(crate) fn refuse(it: &Placed<'_>) -> Option<&'static str> {
    let (root, _) = Reading::of(it.value).reply?;
    did_of(root).is_none().then_some("the root of its thread is not addressed by DID")
}

/// The rows of one post with its flags, what its gate's answer hung on, and the kinds of its quote. Pure.
fn rows(it: &Placed<'_>, flags: Flags, watches: &[Watch], quotes: &[(u8, OnCount)], out: &mut Rows) {
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
        for watch in watches {
            out.put_on(&watch.subject, gates::watch_key(watch, it), "", OnCount::Watching);
        }
    }
    if let Some(quoted) = reading.quoted() {
        // The removal of quotes and gates ask for the time of each, and would have to read each record for it.
        let made_ms = cut_to_ms(it.first_indexed_at_us);
        let value = if made_ms == it.sort_at_us { Vec::new() } else { atom::micros_desc(made_ms).to_vec() };
        for (kind, cell) in quotes {
            out.put_on(quoted, timed_on(quoted, *kind, it), value.clone(), *cell);
        }
    }
}

/// Both kinds of a quote: of a post that stands, and of one that was deleted after the quote was made.
const QUOTE_KINDS: [(u8, OnCount); 2] = [(on::QUOTE, OnCount::Quotes), (on::QUOTE_GONE, OnCount::QuotesGone)];

/// The row of a deleted reply on its parent, by which what is below it is found from above.
fn gone_row(did: &str, rkey: &str, row: &PostRow, out: &mut Rows) {
    if let Some((_, parent)) = &row.reply
        && !row.stands
    {
        let place = tables::on_subject(parent, on::REPLY_GONE).atom(&atom::did(did)).atom(&atom::rkey(rkey)).key();
        out.put_on(parent, place, "", OnCount::RepliesGone);
    }
}

/// What hangs on other records than the post's own: its flags, what they hung on, and who is told. A function of what
/// stands, of what stood when the post was made, and of nothing else.
fn derive(view: &View<'_>, it: &Placed<'_>, reading: &Reading<'_>, flags: &mut Flags) -> Result<PostRow> {
    let made_us = it.first_indexed_at_us;
    let answer = match reading.reply {
        Some((root, _)) => gates::ask_thread_gate(view, it.did, root, made_us)?,
        None => gates::Answer::default(),
    };
    flags.set(Flags::VIOLATES_THREAD_GATE, answer.refuses);
    let breaks = match reading.quoted() {
        Some(quoted) => gates::post_gate_refuses(view, it.did, quoted, made_us)?,
        None => false,
    };
    flags.set(Flags::VIOLATES_EMBEDDING, breaks);
    Ok(PostRow {
        reply: reading.reply.map(|(root, parent)| (root.to_owned(), parent.to_owned())),
        told: recipients(view, it, reading, *flags, &answer.hidden)?,
        watches: answer.watches,
        ..PostRow::default()
    })
}

/// Applies a change of one post. `row` is its new row with the flags that it keeps.
pub(crate) fn apply(view: &mut View<'_>, stood: &Stood<'_>, row: Option<RecordRow>, deltas: &mut Deltas) -> Result<()> {
    let uri = uri_of(stood.did, stood.collection, stood.rkey);
    let place = post_key(stood.did, stood.rkey);
    let placed = view.get(&place)?.map(|stored| PostRow::read(&stored)).transpose()?;
    let known = placed.as_ref().is_some_and(|row| row.known);
    let before_row = placed.unwrap_or_default();
    let mut before = Rows::none();
    gone_row(stood.did, stood.rkey, &before_row, &mut before);
    if let (Some(old), Some(old_row)) = (stood.old, stood.old_row) {
        rows(old, old_row.flags, &before_row.watches, &QUOTE_KINDS, &mut before);
        before.notices = notices_of(&before_row, &uri, old.sort_at_us);
    }
    let old_reading = stood.old.map(|old| Reading::of(old.value));
    let mut after = Rows::none();
    let mut after_row;
    if let (Some(new), Some(mut row)) = (stood.new, row) {
        let reading = Reading::of(new.value);
        row.flags.set(Flags::IS_REPLY, reading.reply.is_some());
        row.flags.set(Flags::IS_QUOTE, reading.embedded.is_some());
        row.flags.set(Flags::HAS_MEDIA, reading.media);
        row.flags.set(Flags::HAS_VIDEO, reading.video);
        let by_handle = |uri: &str| did_of(uri).is_none();
        row.flags.set(
            Flags::HANDLE_AUTHORITY,
            reading.reply.is_some_and(|(_, p)| by_handle(p)) || reading.embedded.is_some_and(by_handle),
        );
        if stood.old.is_none() {
            row.flags.set(Flags::HAS_THREAD_GATE, gates::stands(view, &gates::THREAD, stood.did, stood.rkey)?);
            row.flags.set(Flags::HAS_POST_GATE, gates::stands(view, &gates::POST, stood.did, stood.rkey)?);
        }
        after_row = derive(view, new, &reading, &mut row.flags)?;
        after_row.gone_at_us = before_row.gone_at_us;
        view.put(records::key(stood.did, stood.collection, stood.rkey), row.write());
        let went = match reading.quoted() {
            Some(quoted) => derived::of(view, quoted)?.is_some_and(|row| row.went_after(new.first_indexed_at_us)),
            None => false,
        };
        rows(new, row.flags, &after_row.watches, &[QUOTE_KINDS[usize::from(went)]], &mut after);
        after.notices = notices_of(&after_row, &uri, new.sort_at_us);
        if let (Some(old), Some(old_reading)) = (stood.old, &old_reading)
            && old_reading.reply.map(|(root, _)| root) != reading.reply.map(|(root, _)| root)
        {
            threads::op_reply_gone(view, old, old_reading, stood.time_us)?;
        }
        threads::op_reply_stands(view, new, &reading)?;
    } else {
        after_row = PostRow {
            stands: false,
            known: known || stood.old.is_some(),
            reply: before_row.reply.clone(),
            mentions: before_row.mentions.clone(),
            gone_at_us: before_row.gone_at_us,
            ..PostRow::default()
        };
        if !stood.comes_again() {
            after_row.gone_at_us = after_row.gone_at_us.max(Some(stood.time_us));
        }
        if let (Some(old), Some(old_reading)) = (stood.old, &old_reading) {
            after_row.mentions = old_reading.mentions.iter().map(|did| (*did).to_owned()).collect();
            threads::op_reply_gone(view, old, old_reading, stood.time_us)?;
        }
        gone_row(stood.did, stood.rkey, &after_row, &mut after);
    }
    rows::change(view, &before, &after, deltas)?;
    notifications::change(view, &before.notices, &after.notices)?;
    match after_row.write() {
        Some(bytes) => view.put(place, bytes),
        None => view.delete(place),
    }
    let Some(new) = stood.new else { return remove_quotes(view, &uri, &after_row, deltas) };
    let reading = Reading::of(new.value);
    let moved = old_reading.as_ref().is_none_or(|old| old.reply != reading.reply);
    let names_others = old_reading.as_ref().is_none_or(|old| old.mentions != reading.mentions);
    let head = Head::read(view.get(&tables::on_head(&uri))?.as_ref());
    if moved {
        settle(view, deltas, &uri)?;
    }
    // A gate may let those reply whom the root mentions.
    if names_others && head.get(OnCount::Thread as u8) > 0 {
        settle_thread(view, deltas, &uri, i64::MIN)?;
    }
    if stood.old.is_none() {
        notifications::tell_subscribers(view, new, &after_row)?;
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

/// Who is told of a post, each once and for the first reason that fits: mentions, the quoted, ancestors nearest first,
/// up to one that the owner of the thread has hidden (ingest 8.2).
fn recipients(
    view: &View<'_>,
    it: &Placed<'_>,
    reading: &Reading<'_>,
    flags: Flags,
    hidden: &[String],
) -> Result<Vec<(String, Reason, Option<String>)>> {
    let mut told: Vec<(String, Reason, Option<String>)> = Vec::new();
    let mut seen = HashSet::from([it.did.to_owned()]);
    let mut tell = |did: &str, reason, subject: Option<&str>| {
        if seen.insert(did.to_owned()) {
            told.push((did.to_owned(), reason, subject.map(str::to_owned)));
        }
    };
    for did in &reading.mentions {
        tell(did, Reason::Mention, None);
    }
    if let Some(quoted) = reading.quoted()
        && let Some(owner) = did_of(quoted)
        && !flags.has(Flags::VIOLATES_EMBEDDING)
    {
        tell(owner, Reason::Quote, Some(quoted));
    }
    if let Some((_, parent)) = reading.reply
        && !flags.has(Flags::VIOLATES_THREAD_GATE)
    {
        // A post that hangs below itself has nothing above it there.
        let own = it.uri();
        let mut next = Some(parent.to_owned());
        for _ in 0..TOLD_HEIGHT_MAX {
            let Some(uri) = next.filter(|uri| *uri != own) else { break };
            let Some(reply) = above(view, &uri)?.filter(|_| collection_of(&uri) == Some(NSID)) else { break };
            if let Some(owner) = did_of(&uri) {
                tell(owner, Reason::Reply, Some(&uri));
            }
            if hidden.contains(&uri) {
                break;
            }
            next = reply.map(|(_, parent)| parent);
        }
    }
    Ok(told)
}

/// Looks again at the replies of a thread that were made at or after `since_us`, because the rules of the thread have
/// arrived after them.
pub(crate) fn settle_thread(view: &mut View<'_>, deltas: &mut Deltas, root: &str, since_us: i64) -> Result<()> {
    let page = view.scan(&tables::scan_on(root, on::THREAD).limit(SETTLED_MAX))?;
    for row in page.rows {
        let mut parts = Parts::of(ON.name, &row.clustering()[1..]);
        if parts.micros_desc()? < since_us {
            break;
        }
        let uri = uri_of(&parts.did()?, NSID, &parts.rkey()?);
        look_again(view, deltas, &uri)?;
    }
    Ok(())
}

/// Looks again at everything below a post, as far down as replies are told upwards.
fn settle(view: &mut View<'_>, deltas: &mut Deltas, from: &str) -> Result<()> {
    let mut queue: VecDeque<(String, usize)> = VecDeque::from([(from.to_owned(), 0)]);
    let mut looked = 0;
    while let Some((uri, height)) = queue.pop_front() {
        let head = Head::read(view.get(&tables::on_head(&uri))?.as_ref());
        for (kind, cell) in [
            (on::REPLY, OnCount::Replies),
            (on::REPLY_GATED, OnCount::RepliesGated),
            (on::REPLY_GONE, OnCount::RepliesGone),
        ] {
            if head.get(cell as u8) == 0 {
                continue;
            }
            let children = view.scan(&tables::scan_on(&uri, kind).limit(SETTLED_MAX))?;
            for row in children.rows {
                looked += 1;
                if looked > SETTLED_MAX {
                    tracing::warn!(uri, "more early replies than are looked at again");
                    return Ok(());
                }
                let child = if kind == on::REPLY_GONE {
                    let mut parts = Parts::of(ON.name, &row.clustering()[1..]);
                    uri_of(&parts.did()?, NSID, &parts.rkey()?)
                } else {
                    timed_on_uri(row.clustering(), NSID)?
                };
                look_again(view, deltas, &child)?;
                if height + 1 < TOLD_HEIGHT_MAX {
                    queue.push_back((child, height + 1));
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

/// Derives one standing post anew.
pub(crate) fn look_again(view: &mut View<'_>, deltas: &mut Deltas, uri: &str) -> Result<()> {
    let Some((did, collection, rkey)) = split_uri(uri) else { return Ok(()) };
    let key = records::key(did, collection, rkey);
    let Some(stored) = view.get(&key)? else { return Ok(()) };
    let mut row = RecordRow::read(&stored)?;
    let block = row.block.clone();
    let value = past::decoded(&block)?;
    let it = Placed::new(did, collection, rkey, row.cid(), &value, row.indexed_at_us, row.first_indexed_at_us);
    let place = post_key(did, rkey);
    let before_row = view.get(&place)?.map(|stored| PostRow::read(&stored)).transpose()?.unwrap_or_default();
    let old_flags = row.flags;
    let mut after_row = derive(view, &it, &Reading::of(&value), &mut row.flags)?;
    after_row.gone_at_us = before_row.gone_at_us;
    if row.flags != old_flags {
        view.put(key, row.write());
    }
    if row.flags != old_flags || after_row.watches != before_row.watches {
        let (mut before, mut after) = (Rows::none(), Rows::none());
        // Nothing that is looked at again makes a quote stand or fall.
        rows(&it, old_flags, &before_row.watches, &[], &mut before);
        rows(&it, row.flags, &after_row.watches, &[], &mut after);
        rows::change(view, &before, &after, deltas)?;
    }
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
    Ok(())
}

/// When the quote of a row was made, in whole milliseconds.
fn quote_made_us(row: &gp_store::Row) -> Result<i64> {
    if row.value.is_empty() { page::sort_at_of(row.clustering()) } else { Parts::of(ON.name, &row.value).micros_desc() }
}

/// Takes the quotes made before a post was deleted out of the relation, and out of its count (ingest 13.3, point 9).
fn remove_quotes(view: &mut View<'_>, uri: &str, gone: &PostRow, deltas: &mut Deltas) -> Result<()> {
    let head = Head::read(view.get(&tables::on_head(uri))?.as_ref());
    if head.get(OnCount::Quotes as u8) == 0 {
        return Ok(());
    }
    let (mut removed, mut read) = (0i64, 0);
    let mut scan = tables::scan_on(uri, on::QUOTE).limit(1000);
    loop {
        let page = view.scan(&scan)?;
        for row in &page.rows {
            read += 1;
            if gone.went_after(quote_made_us(row)?) {
                view.delete(row.key.clone());
                view.put(tables::on_subject(uri, on::QUOTE_GONE).atom(&row.clustering()[1..]).key(), row.value.clone());
                removed += 1;
            }
        }
        match page.rows.last() {
            Some(last) if page.more && read < QUOTES_REMOVED_MAX => scan = scan.after(last.clustering().to_vec()),
            _ => break,
        }
    }
    deltas.add(tables::on_head(uri), OnCount::Quotes as u8, -removed);
    deltas.add(tables::on_head(uri), OnCount::QuotesGone as u8, removed);
    Ok(())
}

/// The quotes of a post that were made at or after `since_us`, looked at again because its gate arrived after them.
pub(crate) fn settle_quotes(view: &mut View<'_>, deltas: &mut Deltas, quoted: &str, since_us: i64) -> Result<()> {
    for (kind, _) in QUOTE_KINDS {
        let page = view.scan(&tables::scan_on(quoted, kind).limit(SETTLED_MAX))?;
        for row in page.rows {
            if quote_made_us(&row)? >= cut_to_ms(since_us) {
                look_again(view, deltas, &timed_on_uri(row.clustering(), NSID)?)?;
            }
        }
    }
    Ok(())
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
        let row = stored.map(|s| PostRow::read(s)).transpose()?;
        Ok(Self { reply: row.filter(|row| row.stands).and_then(|row| row.reply) })
    }
}

/// `GetPostRecordsResponse` with its records as they are kept: a message within another is its bytes on the wire, so this
/// is encoded as that one would be, without taking fifty records apart and putting them together again.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostRecords {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    records: Vec<Bytes>,
    #[prost(message, repeated, tag = "2")]
    meta: Vec<proto::PostRecordMeta>,
    #[prost(message, repeated, tag = "3")]
    op_threads: Vec<proto::OpThread>,
}

/// Post records by address with what was derived from each, and, if asked, the chains of the threads they are in.
pub async fn get_post_records(cx: &Cx, req: proto::GetPostRecordsRequest) -> Result<PostRecords> {
    let found = records::look_up_envelopes(cx, &req.uris, NSID).await?;
    let op_threads = if req.include_op_thread_metadata { op_threads(cx, &req.uris, &found).await? } else { Vec::new() };
    let mut response =
        PostRecords { records: Vec::with_capacity(found.len()), meta: Vec::with_capacity(found.len()), op_threads };
    for served in found {
        let flags = served.flags;
        // The AppView fails the whole page on a post that names another record by handle (since-0.0.275 4.5).
        if flags.has(Flags::HANDLE_AUTHORITY) {
            response.records.push(Bytes::new());
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
async fn op_threads(cx: &Cx, uris: &[String], found: &[Envelope]) -> Result<Vec<proto::OpThread>> {
    let standing: Vec<&String> =
        uris.iter().zip(found).filter(|(_, served)| !served.record.is_empty()).map(|(uri, _)| uri).collect();
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
