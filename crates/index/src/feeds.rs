//! Feeds: what an account published, and what others read of it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use bytes::Bytes;
use gp_proto as proto;
use gp_store::{Key, Page, Row, Scan};

use crate::{
    Cx, Error, Result, atom,
    atom::Parts,
    counts::ByCount,
    follows, lists,
    page::{self, TimedCursor},
    placed::{Placed, did_of, uri_of},
    posts::{self, Reading},
    records, relation, reposts,
    rows::{Rows, timed, timed_by},
    tables::{self, BY, by, on},
    window::{self, After, Authors, Hit, UNBEARABLE, Wanted},
};

/// The item is a post.
pub const POST_ITEM: u8 = 0;
/// The item is a repost.
pub const REPOST_ITEM: u8 = 1;

/// The post is a reply.
pub const IS_REPLY: u8 = 1;
/// The post is a reply in a thread whose root its author wrote.
pub const IN_OWN_THREAD: u8 = 2;
/// The post quotes a record.
pub const IS_QUOTE: u8 = 4;
/// The post shows pictures.
pub const HAS_MEDIA: u8 = 8;
/// The post shows a video.
pub const HAS_VIDEO: u8 = 16;

/// The rows that put a post into its author's feed. Pure.
pub(crate) fn post_rows(it: &Placed<'_>, reading: &Reading<'_>, out: &mut Rows) {
    let mut flags = 0;
    if let Some((root, _)) = reading.reply {
        flags |= IS_REPLY;
        if did_of(root) == Some(it.did) {
            flags |= IN_OWN_THREAD;
        }
    }
    for (bit, on) in [(IS_QUOTE, reading.embedded.is_some()), (HAS_MEDIA, reading.media), (HAS_VIDEO, reading.video)] {
        if on {
            flags |= bit;
        }
    }
    let place = timed(tables::by_actor(it.did, by::FEED), it).tag(POST_ITEM).atom(&atom::rkey(it.rkey)).key();
    out.put_by(it.did, place, vec![flags], ByCount::Posts);
    out.put(window::key_of(it, POST_ITEM), vec![flags]);
    if reading.media {
        out.put(timed_by(it, by::MEDIA), "");
    }
    if reading.video {
        out.put(timed_by(it, by::VIDEO), "");
    }
}

/// The row that puts a standing repost into its author's feed. Pure.
pub(crate) fn repost_row(it: &Placed<'_>, subject: &str, out: &mut Rows) {
    let place = timed(tables::by_actor(it.did, by::FEED), it).tag(REPOST_ITEM).atom(&atom::rkey(it.rkey)).key();
    let mut value = vec![0];
    value.extend_from_slice(&atom::uri(subject));
    out.put(place, value);
    let flags = if did_of(subject).is_none() { UNBEARABLE } else { 0 };
    out.put(window::key_of(it, REPOST_ITEM), vec![flags]);
}

/// The rows of one feed generator. Pure.
pub fn generator_rows(it: &Placed<'_>, out: &mut Rows) {
    out.put_by(it.did, timed_by(it, by::GENERATOR), "", ByCount::Generators);
}

/// Accounts whose feeds one page may merge.
const SOURCES_MAX: usize = 100_000;

/// Items read of each feed at first; a feed that turns out to matter is read further.
const FIRST_ROWS: usize = 4;

/// Rounds of reading on in one feed while a filter takes most of its items.
const ROUNDS_MAX: usize = 20;

/// Own items that may stand in a page of a timeline that others fill.
const OWN_ITEMS_MIN: usize = 10;

/// One item of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    /// Whose feed.
    did: String,
    /// Its position there.
    position: Vec<u8>,
    kind: u8,
    rkey: String,
    flags: u8,
    /// The post a repost shows.
    subject: String,
}

impl Item {
    fn read(did: &str, row: &Row) -> Result<Self> {
        let mut parts = Parts::of(BY.name, row.clustering());
        let table_kind = parts.tag()?;
        parts.micros_desc()?;
        parts.u32_desc()?;
        let kind = if table_kind == by::FEED { parts.tag()? } else { POST_ITEM };
        let rkey = parts.rkey()?;
        let mut value = Parts::of(BY.name, &row.value);
        let flags = if table_kind == by::FEED { value.tag()? } else { 0 };
        let subject = if kind == REPOST_ITEM { value.uri()? } else { String::new() };
        Ok(Self { did: did.to_owned(), position: row.clustering().to_vec(), kind, rkey, flags, subject })
    }

    /// The record of the item: the post or the repost.
    fn uri(&self) -> String {
        uri_of(&self.did, if self.kind == REPOST_ITEM { reposts::SHAPE.collection } else { posts::NSID }, &self.rkey)
    }

    /// The post that is shown.
    fn post(&self) -> String {
        if self.kind == REPOST_ITEM { self.subject.clone() } else { self.uri() }
    }

    /// Order over many feeds: time and CID first, as in each of them; then what tells twins apart.
    fn order(&self) -> (&[u8], &str, &[u8]) {
        (&self.position[..13], &self.did, &self.position[13..])
    }

    fn timeline(self) -> proto::TimelineFeedItem {
        let is_repost = self.kind == REPOST_ITEM;
        proto::TimelineFeedItem {
            uri: self.post(),
            repost: if is_repost { self.uri() } else { String::new() },
            is_reply: self.flags & IS_REPLY != 0,
            is_repost,
            is_quote_post: self.flags & IS_QUOTE != 0,
            ..Default::default()
        }
    }
}

/// Where a page over many feeds goes on.
struct Resume {
    cursor: TimedCursor,
    /// After this feed and position, among items of the same time and tie.
    twin: Option<(String, Vec<u8>)>,
}

impl Resume {
    /// After an item.
    fn at(position: &[u8], did: String) -> Result<Self> {
        let mut parts = Parts::of(BY.name, position);
        let cursor = TimedCursor { sort_at_us: parts.micros_desc()?, tie: parts.u32_desc()?, tail: None };
        Ok(Self { cursor, twin: Some((did, parts.rest().to_vec())) })
    }

    fn copied(&self) -> Self {
        Self { cursor: self.cursor.clone(), twin: self.twin.clone() }
    }

    /// The same, as the window wants it.
    fn after(&self) -> After<'_> {
        let position = page::timed_position(self.cursor.sort_at_us, self.cursor.tie);
        let (time, tie) = position.split_at(8);
        let place = (
            u64::from_be_bytes(time.try_into().unwrap_or_default()),
            u32::from_be_bytes(tie.try_into().unwrap_or_default()),
        );
        After { place, twin: self.twin.as_ref().map(|(did, tail)| (did.as_str(), &tail[..])) }
    }
}

fn resume_of(cursor: &str) -> Result<Option<Resume>> {
    let Some(cursor) = page::timed_cursor(cursor)? else { return Ok(None) };
    let twin = match &cursor.tail {
        None => None,
        Some(tail) => {
            let mut parts = Parts::of("cursor", tail);
            let did = parts.did().map_err(|_| Error::invalid("cursor", "is not a token this call gave"))?;
            Some((did, parts.rest().to_vec()))
        }
    };
    Ok(Some(Resume { cursor, twin }))
}

/// One feed being read.
struct Source {
    did: String,
    waiting: VecDeque<Item>,
    /// The last position read, if the feed may hold more.
    after: Option<Vec<u8>>,
    begun: bool,
}

impl Source {
    fn scan(&self, resume: Option<&Resume>, rows: usize) -> Scan {
        let scan = tables::scan_by(&self.did, by::FEED).limit(rows);
        match (&self.after, resume) {
            (Some(after), _) => scan.after(after.clone()),
            (None, Some(resume)) if resume.twin.is_some() => {
                let mut place = vec![by::FEED];
                place.extend_from_slice(&page::timed_position(resume.cursor.sort_at_us, resume.cursor.tie));
                scan.from(place)
            }
            (None, resume) => page::resume(scan, by::FEED, resume.map(|r| &r.cursor)),
        }
    }

    fn take(&mut self, page: &Page, resume: Option<&Resume>, wanted: Wanted) -> Result<()> {
        self.begun = true;
        self.after = page.rows.last().filter(|_| page.more).map(|row| row.clustering().to_vec());
        for row in &page.rows {
            let item = Item::read(&self.did, row)?;
            if let Some(Resume { cursor, twin: Some((did, tail)) }) = resume {
                let mut place = vec![by::FEED];
                place.extend_from_slice(&page::timed_position(cursor.sort_at_us, cursor.tie));
                if item.order() <= (place.as_slice(), did.as_str(), tail.as_slice()) {
                    continue;
                }
            }
            if wanted.has(&item) {
                self.waiting.push_back(item);
            }
        }
        Ok(())
    }
}

impl Wanted {
    /// Whether an item is wanted. Reposts of posts named by a handle never are: the AppView cannot bear them.
    fn has(&self, item: &Item) -> bool {
        let is_repost = item.kind == REPOST_ITEM;
        !((is_repost && (self.no_reposts || did_of(&item.subject).is_none()))
            || (self.no_replies && item.flags & IS_REPLY != 0)
            || (self.no_quotes && item.flags & IS_QUOTE != 0))
    }
}

/// The newest `want` items of many feeds, exactly ordered: as far back as the window goes from memory, what is older
/// from the store.
async fn merge(
    cx: &Cx,
    authors: Authors<'_>,
    resume: Option<&Resume>,
    want: usize,
    wanted: Wanted,
) -> Result<Vec<Item>> {
    let mut items = Vec::with_capacity(want);
    // Where the window is asked to go on, and where the store is.
    let (mut from, mut older) = (resume.map(Resume::copied), resume.map(Resume::copied));
    while let missing = want - items.len()
        && missing > 0
    {
        let found = cx.window.newest(authors, from.as_ref().map(Resume::after), missing, wanted).await;
        let Some(oldest_us) = found.oldest else { break };
        let full = found.hits.len() >= missing;
        let last = found.hits.last().map(|hit| {
            let did = window::did_text(&cx.window.names().atom(hit.author));
            (hit.position.clone(), did)
        });
        read_hits(cx, found.hits, &mut items).await?;
        match last {
            Some((position, did)) if full => from = Some(Resume::at(&position, did)?),
            _ => {
                // The window has no more. Everything that is older than it goes is in the store.
                older = Some(Resume { cursor: TimedCursor { sort_at_us: oldest_us, tie: 0, tail: None }, twin: None });
                break;
            }
        }
    }
    if items.len() < want {
        let dids = match authors {
            Authors::Numbers(numbers) => cx.window.names().dids(numbers.iter().copied())?,
            Authors::Atoms(atoms) => {
                atoms.iter().map(|author| Parts::of(BY.name, author).did()).collect::<Result<_>>()?
            }
        };
        items.extend(merge_stored(cx, dids, older.as_ref(), want - items.len(), wanted).await?);
    }
    Ok(items)
}

/// Makes items of what the window found. The post of a repost is in its row; an item whose row is gone is left out.
async fn read_hits(cx: &Cx, hits: Vec<Hit>, items: &mut Vec<Item>) -> Result<()> {
    let names = cx.window.names();
    let dids = names.dids(hits.iter().map(|hit| hit.author))?;
    let is_repost = |hit: &Hit| hit.position.get(12) == Some(&REPOST_ITEM);
    let position = |hit: &Hit| {
        let mut position = Vec::with_capacity(1 + hit.position.len());
        position.push(by::FEED);
        position.extend_from_slice(&hit.position);
        position
    };
    let keys: Vec<Key> = hits
        .iter()
        .filter(|hit| is_repost(hit))
        .map(|hit| Key::of(&BY).atom(&names.atom(hit.author)).cluster().atom(&position(hit)).key())
        .collect();
    let mut rows = cx.store.get(&keys).await?.into_iter();
    for (hit, did) in hits.into_iter().zip(dids) {
        let subject = if is_repost(&hit) {
            let Some(row) = rows.next().flatten() else { continue };
            let mut value = Parts::of(BY.name, &row);
            value.tag()?;
            value.uri()?
        } else {
            String::new()
        };
        let position = position(&hit);
        let mut parts = Parts::of(BY.name, &position[13..]);
        let (kind, rkey) = (parts.tag()?, parts.rkey()?);
        items.push(Item { did, position, kind, rkey, flags: hit.flags & !UNBEARABLE, subject });
    }
    Ok(())
}

/// The newest `want` items of many feeds, exactly ordered, from the store alone. Feeds whose newest items are too old
/// are read no further.
async fn merge_stored(
    cx: &Cx,
    dids: Vec<String>,
    resume: Option<&Resume>,
    want: usize,
    wanted: Wanted,
) -> Result<Vec<Item>> {
    let first = if dids.len() <= 16 { want } else { FIRST_ROWS.min(want) };
    let mut sources: Vec<Source> =
        dids.into_iter().map(|did| Source { did, waiting: VecDeque::new(), after: None, begun: false }).collect();
    let pages = cx.store.scan_many(sources.iter().map(|s| s.scan(resume, first)).collect()).await?;
    for (source, page) in sources.iter_mut().zip(&pages) {
        source.take(page, resume, wanted)?;
    }
    let mut heap: BinaryHeap<Reverse<((Vec<u8>, String, Vec<u8>), usize)>> = BinaryHeap::new();
    let order = |item: &Item| {
        let (time, did, tail) = item.order();
        (time.to_vec(), did.to_owned(), tail.to_vec())
    };
    let mut merged = Vec::with_capacity(want);
    // A feed that a filter emptied, or whose head is not known yet, must be read on before it can be compared.
    let mut dry: Vec<usize> = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        match source.waiting.front() {
            Some(item) => heap.push(Reverse((order(item), i))),
            None if source.after.is_some() => dry.push(i),
            None => {}
        }
    }
    loop {
        let mut rounds = 0;
        while !dry.is_empty() {
            rounds += 1;
            let pages =
                cx.store.scan_many(dry.iter().map(|i| sources[*i].scan(resume, want.max(32))).collect()).await?;
            let mut still = Vec::new();
            for (i, page) in dry.drain(..).zip(&pages) {
                sources[i].take(page, resume, wanted)?;
                match sources[i].waiting.front() {
                    Some(item) => heap.push(Reverse((order(item), i))),
                    None if sources[i].after.is_some() && rounds < ROUNDS_MAX => still.push(i),
                    None => {}
                }
            }
            dry = still;
        }
        let Some(Reverse((_, i))) = heap.pop() else { return Ok(merged) };
        let Some(item) = sources[i].waiting.pop_front() else { continue };
        merged.push(item);
        if merged.len() >= want {
            return Ok(merged);
        }
        match sources[i].waiting.front() {
            Some(next) => heap.push(Reverse((order(next), i))),
            None if sources[i].after.is_some() => dry.push(i),
            None => {}
        }
    }
}

/// The token of what follows `last`; `next` is the item after it, if it is known.
async fn token_after(cx: &Cx, last: &Item, next: Option<&Item>) -> Result<String> {
    let twins = next.is_some_and(|next| next.order().0 == last.order().0);
    let tail = twins.then(|| {
        let mut tail = atom::did(&last.did).to_vec();
        tail.extend_from_slice(&last.position[13..]);
        tail
    });
    page::token(cx, page::sort_at_of(&last.position)?, &last.uri(), &last.position, tail).await
}

/// What the accounts that an account follows published, and some of its own (read-rpcs 5.6).
pub async fn get_timeline(cx: &Cx, req: proto::GetTimelineRequest) -> Result<proto::GetTimelineResponse> {
    let n = page::limit(req.limit);
    // Before anything is read.
    resume_of(&req.cursor)?;
    if n == 0 {
        return Ok(proto::GetTimelineResponse::default());
    }
    let numbers = follows::followed(cx, &req.actor_did, SOURCES_MAX);
    let atoms = if numbers.is_some() { Vec::new() } else { followed(cx, &req.actor_did).await? };
    let follows = numbers.as_deref().map_or(Authors::Atoms(&atoms), Authors::Numbers);
    let wanted =
        Wanted { no_replies: req.exclude_replies, no_reposts: req.exclude_reposts, no_quotes: req.exclude_quotes };
    let theirs = merge_standing(cx, follows, &req.cursor, n + 1, wanted).await?;
    let own = Bytes::copy_from_slice(&atom::did(&req.actor_did));
    let mut own = merge_standing(cx, Authors::Atoms(&[own]), &req.cursor, n + 1, wanted).await?;
    // Own items fill what others leave free, and at least a few of them compete for a page that others fill.
    let budget = n.min(OWN_ITEMS_MIN).max(n - theirs.len().min(n));
    let cut = own.len() > budget;
    own.truncate(budget);
    let mut items = theirs;
    items.extend(own);
    items.sort_by(|a, b| a.order().cmp(&b.order()));
    items.dedup_by(|a, b| a.order() == b.order());
    let cursor = if items.len() > n {
        token_after(cx, &items[n - 1], items.get(n)).await?
    } else if cut && let Some(last) = items.last() {
        token_after(cx, last, None).await?
    } else {
        String::new()
    };
    items.truncate(n);
    Ok(proto::GetTimelineResponse { items: items.into_iter().map(Item::timeline).collect(), cursor })
}

/// As [`merge`], without the reposts of posts that are not there: an AppView would drop them and ask again.
async fn merge_standing(cx: &Cx, authors: Authors<'_>, cursor: &str, want: usize, wanted: Wanted) -> Result<Vec<Item>> {
    let mut kept = Vec::with_capacity(want);
    let mut resume = resume_of(cursor)?;
    for round in 1..=ROUNDS_MAX {
        let read = merge(cx, authors, resume.as_ref(), want, wanted).await?;
        let last = read.last().filter(|_| read.len() >= want).cloned();
        let posts: Vec<String> = read.iter().filter(|item| item.kind == REPOST_ITEM).map(Item::post).collect();
        let mut standing = stand(cx, &posts).await?.into_iter();
        // The last round takes everything, so that a page that is not full still means that nothing follows.
        kept.extend(
            read.into_iter()
                .filter(|item| item.kind != REPOST_ITEM || standing.next() == Some(true) || round == ROUNDS_MAX),
        );
        match last {
            Some(last) if kept.len() < want => resume = resume_of(&token_after(cx, &last, Some(&last)).await?)?,
            _ => break,
        }
    }
    kept.truncate(want);
    Ok(kept)
}

/// The accounts that an account follows, as atoms, from the store.
async fn followed(cx: &Cx, did: &str) -> Result<Vec<Bytes>> {
    let mut authors = Vec::new();
    let mut scan = tables::scan_by(did, by::FOLLOW);
    loop {
        let page = cx.store.scan(scan).await?;
        authors.extend(page.rows.iter().map(|row| row.value.clone()));
        match page.rows.last() {
            Some(last) if page.more && authors.len() < SOURCES_MAX => {
                scan = tables::scan_by(did, by::FOLLOW).after(last.clustering().to_vec());
            }
            _ => {
                authors.truncate(SOURCES_MAX);
                return Ok(authors);
            }
        }
    }
}

/// What one account published.
pub async fn get_author_feed(cx: &Cx, req: proto::GetAuthorFeedRequest) -> Result<proto::GetAuthorFeedResponse> {
    let n = page::limit(req.limit);
    let cursor = page::timed_cursor(&req.cursor)?;
    if n == 0 {
        return Ok(proto::GetAuthorFeedResponse::default());
    }
    let kind = match proto::FeedType::try_from(req.feed_type) {
        Ok(proto::FeedType::PostsWithMedia) => by::MEDIA,
        Ok(proto::FeedType::PostsWithVideo) => by::VIDEO,
        _ => by::FEED,
    };
    let wanted = |item: &Item| {
        item.kind == REPOST_ITEM
            || match proto::FeedType::try_from(req.feed_type) {
                Ok(proto::FeedType::PostsAndAuthorThreads) => {
                    item.flags & IS_REPLY == 0 || item.flags & IN_OWN_THREAD != 0
                }
                Ok(proto::FeedType::PostsNoReplies) => item.flags & IS_REPLY == 0,
                _ => true,
            }
    };
    let base = || tables::scan_by(&req.actor_did, kind);
    let mut scan = page::resume(base(), kind, cursor.as_ref()).limit(n + 1);
    let mut items: Vec<Item> = Vec::with_capacity(n + 1);
    // Where the reading stopped if the bound on rounds ended it before the page was full.
    let mut stopped: Option<Item> = None;
    for round in 0..ROUNDS_MAX {
        let page = cx.store.scan(scan).await?;
        let read = page.rows.iter().map(|row| Item::read(&req.actor_did, row)).collect::<Result<Vec<_>>>()?;
        let last = read.last().cloned();
        let wanted: Vec<Item> = read.into_iter().filter(|item| wanted(item)).collect();
        let posts: Vec<String> = wanted.iter().filter(|i| i.kind == REPOST_ITEM).map(Item::post).collect();
        let mut standing = stand(cx, &posts).await?.into_iter();
        // A repost shows nothing without its post.
        items.extend(wanted.into_iter().filter(|item| item.kind != REPOST_ITEM || standing.next() == Some(true)));
        match last {
            Some(last) if page.more && items.len() <= n => {
                scan = base().after(last.position.clone()).limit((n + 1).max(200));
                if round + 1 == ROUNDS_MAX {
                    stopped = Some(last);
                }
            }
            _ => break,
        }
    }
    let cursor = if items.len() > n {
        let tail = page::twin_tail(&items[n - 1].position, &items[n].position);
        page::token(cx, page::sort_at_of(&items[n - 1].position)?, &items[n - 1].uri(), &items[n - 1].position, tail)
            .await?
    } else if let Some(last) = stopped {
        page::token(cx, page::sort_at_of(&last.position)?, &last.uri(), &last.position, None).await?
    } else {
        String::new()
    };
    items.truncate(n);
    let item = |item: Item| {
        let is_repost = item.kind == REPOST_ITEM;
        let reply = item.flags & IS_REPLY != 0;
        proto::AuthorFeedItem {
            uri: item.post(),
            repost: if is_repost { item.uri() } else { String::new() },
            posts_and_author_threads: is_repost || !reply || item.flags & IN_OWN_THREAD != 0,
            posts_no_replies: is_repost || !reply,
            posts_with_media: kind == by::MEDIA || item.flags & HAS_MEDIA != 0,
            posts_with_video: kind == by::VIDEO || item.flags & HAS_VIDEO != 0,
            is_reply: reply,
            is_repost,
            is_quote_post: item.flags & IS_QUOTE != 0,
            ..Default::default()
        }
    };
    Ok(proto::GetAuthorFeedResponse { items: items.into_iter().map(item).collect(), cursor })
}

/// Which of some posts stand.
async fn stand(cx: &Cx, uris: &[String]) -> Result<Vec<bool>> {
    let keys: Vec<Option<Key>> =
        uris.iter().map(|uri| posts::post_key_of(uri).and_then(|_| records::key_of(uri))).collect();
    let asked: Vec<Key> = keys.iter().flatten().cloned().collect();
    let mut found = cx.store.get(&asked).await?.into_iter();
    Ok(keys.iter().map(|key| key.is_some() && found.next().flatten().is_some()).collect())
}

/// Posts of the members of a list.
pub async fn get_list_feed(cx: &Cx, req: proto::GetListFeedRequest) -> Result<proto::GetListFeedResponse> {
    let n = page::limit(req.limit);
    let resume = resume_of(&req.cursor)?;
    if n == 0 {
        return Ok(proto::GetListFeedResponse::default());
    }
    let mut members = Vec::new();
    let mut scan = tables::scan_on(&req.list_uri, on::MEMBER);
    loop {
        let page = cx.store.scan(scan).await?;
        for row in &page.rows {
            members.push(Parts::of(tables::ON.name, &row.clustering()[1..]).did()?);
        }
        match page.rows.last() {
            Some(last) if page.more && members.len() < SOURCES_MAX => {
                scan = tables::scan_on(&req.list_uri, on::MEMBER).after(last.clustering().to_vec());
            }
            _ => break,
        }
    }
    let members = without_opted_out(cx, &req.list_uri, members).await?;
    let members: Vec<Bytes> = members.iter().map(|did| Bytes::copy_from_slice(&atom::did(did))).collect();
    let wanted = Wanted { no_replies: req.exclude_replies, no_reposts: true, no_quotes: req.exclude_quotes };
    let mut items = merge(cx, Authors::Atoms(&members), resume.as_ref(), n + 1, wanted).await?;
    let cursor = if items.len() > n { token_after(cx, &items[n - 1], items.get(n)).await? } else { String::new() };
    items.truncate(n);
    let cids = cids(cx, items.iter().map(Item::post)).await?;
    let items = items.into_iter().zip(cids).map(|(item, cid)| proto::TimelineFeedItem { cid, ..item.timeline() });
    Ok(proto::GetListFeedResponse { items: items.collect(), cursor })
}

/// The versions of posts as they stand; empty for what went between two reads.
async fn cids(cx: &Cx, posts: impl Iterator<Item = String>) -> Result<Vec<String>> {
    let keys: Vec<Option<Key>> = posts.map(|uri| records::key_of(&uri)).collect();
    let wanted: Vec<Key> = keys.iter().flatten().cloned().collect();
    let mut found = cx.store.get(&wanted).await?.into_iter();
    keys.iter()
        .map(|key| match key.as_ref().and_then(|_| found.next().flatten()) {
            Some(served) => Ok(cx.damage.or_absent(records::served_cid(&served))?.unwrap_or_default()),
            None => Ok(String::new()),
        })
        .collect()
}

/// Leaves out the members who asked to be left out of a list's public face. Only reference lists have one
/// (since-0.0.275 2.5).
async fn without_opted_out(cx: &Cx, list: &str, members: Vec<String>) -> Result<Vec<String>> {
    let record = records::look_up(cx, &[list.to_owned()], lists::LIST).await?.pop().unwrap_or_default().record;
    let purpose = serde_json::from_slice::<serde_json::Value>(&record.record).ok();
    let purpose = purpose.as_ref().and_then(|v| v.get("purpose")).and_then(serde_json::Value::as_str);
    if purpose != Some("app.bsky.graph.defs#referencelist") {
        return Ok(members);
    }
    let subject = atom::uri(list);
    let keys: Vec<Key> =
        members.iter().map(|did| relation::claims_key(did, relation::Relation::OptOut, &subject)).collect();
    let claims = cx.store.get(&keys).await?;
    Ok(members.into_iter().zip(claims).filter(|(_, claim)| claim.is_none()).map(|(did, _)| did).collect())
}
