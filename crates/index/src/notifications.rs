//! Notifications: who is told of what, and how a recipient reads them.
//!
//! A notice is keyed by its recipient, time and a digest of what it is about, so that making it twice makes one.

use bytes::Bytes;
use gp_atproto::datetime;
use gp_proto as proto;
use gp_store::{Key, Scan, View};
use sha2::{Digest, Sha256};

use crate::{
    Cx, Result, actors, atom,
    atom::Parts,
    counts::{Head, OnCount, PrivateCount},
    moderation, page,
    placed::{self, Placed},
    posts, private, profiles, records,
    relation::{self, Relation},
    subscriptions,
    tables::{self, NOTIFICATION},
};

/// Why a recipient is told. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A like of something of theirs.
    Like = 1,
    /// A repost of something of theirs.
    Repost = 2,
    /// A follow.
    Follow = 3,
    /// A mention in a post.
    Mention = 4,
    /// A reply to a post of theirs, or further down its branch.
    Reply = 5,
    /// A quote of a post of theirs.
    Quote = 6,
    /// An account joined through their starter pack.
    StarterpackJoined = 7,
    /// A verification of their account.
    Verified = 8,
    /// A verification withdrawn.
    Unverified = 9,
    /// A like of a post that was seen through their repost.
    LikeViaRepost = 10,
    /// A repost of a post that was seen through their repost.
    RepostViaRepost = 11,
    /// A post by an account whose activity they subscribed to.
    SubscribedPost = 12,
}

impl Reason {
    /// As clients know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Like => "like",
            Self::Repost => "repost",
            Self::Follow => "follow",
            Self::Mention => "mention",
            Self::Reply => "reply",
            Self::Quote => "quote",
            Self::StarterpackJoined => "starterpack-joined",
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::LikeViaRepost => "like-via-repost",
            Self::RepostViaRepost => "repost-via-repost",
            Self::SubscribedPost => "subscribed-post",
        }
    }

    /// From its number on disk.
    pub fn from_number(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Like,
            2 => Self::Repost,
            3 => Self::Follow,
            4 => Self::Mention,
            5 => Self::Reply,
            6 => Self::Quote,
            7 => Self::StarterpackJoined,
            8 => Self::Verified,
            9 => Self::Unverified,
            10 => Self::LikeViaRepost,
            11 => Self::RepostViaRepost,
            12 => Self::SubscribedPost,
            _ => return None,
        })
    }
}

/// One recipient told of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Who is told.
    pub recipient: String,
    /// Why.
    pub reason: Reason,
    /// The record that caused it; its repo is the author.
    pub uri: String,
    /// What of theirs it concerns.
    pub subject: Option<String>,
    /// Where it stands among the recipient's notifications, in microseconds.
    pub sort_at_us: i64,
    /// Tells apart notices that are otherwise the same, as two withdrawals of one verification. Mostly empty.
    pub nonce: String,
}

impl Notice {
    /// Its key: a function of what it says.
    pub fn key(&self) -> Key {
        let mut hash = Sha256::new();
        hash.update([self.reason as u8]);
        for part in [self.uri.as_str(), self.subject.as_deref().unwrap_or(""), self.nonce.as_str()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let id = hash.finalize();
        Key::of(&NOTIFICATION)
            .atom(&atom::did(&self.recipient))
            .cluster()
            .micros_desc(self.sort_at_us)
            .atom(&id[..8])
            .key()
    }

    fn value(&self) -> Bytes {
        let mut out = vec![self.reason as u8];
        out.extend_from_slice(&atom::uri(&self.uri));
        if let Some(subject) = &self.subject {
            out.extend_from_slice(&atom::uri(subject));
        }
        out.into()
    }
}

/// A stored notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Why.
    pub reason: Reason,
    /// The record that caused it.
    pub uri: String,
    /// What of the recipient's it concerns.
    pub subject: Option<String>,
    /// Where it stands, in microseconds.
    pub sort_at_us: i64,
}

impl Stored {
    /// Reads a row.
    pub fn read(clustering: &[u8], value: &[u8]) -> Result<Self> {
        let sort_at_us = Parts::of(NOTIFICATION.name, clustering).micros_desc()?;
        let mut parts = Parts::of(NOTIFICATION.name, value);
        let reason = Reason::from_number(parts.tag()?)
            .ok_or(crate::Error::Corrupt { table: NOTIFICATION.name, what: "reason" })?;
        let uri = parts.uri()?;
        let subject = if parts.rest().is_empty() { None } else { Some(parts.uri()?) };
        Ok(Self { reason, uri, subject, sort_at_us })
    }
}

/// Makes the notices `after` stand where the notices `before` stood.
pub fn change(view: &mut View<'_>, before: &[Notice], after: &[Notice]) -> Result<()> {
    for old in before {
        if !after.contains(old) {
            view.delete(old.key());
        }
    }
    for new in after {
        if !before.contains(new) {
            tell(view, new)?;
        }
    }
    Ok(())
}

/// Stores a notice, unless the recipient has muted the thread it is about, or was deleted since.
pub fn tell(view: &mut View<'_>, notice: &Notice) -> Result<bool> {
    // A recipient that is no DID (a subject addressed by handle) cannot be told.
    if !notice.recipient.starts_with("did:") {
        return Ok(false);
    }
    // Nearly nobody mutes threads or was deleted: the head of their private rows says so in one read.
    let head = Head::read(view.get(&tables::private_head(&notice.recipient))?.as_ref());
    let gone_at_ms = head.get(PrivateCount::GoneAtMs as u8);
    let is_past = gone_at_ms > 0 && notice.sort_at_us.div_euclid(1000) <= gone_at_ms as i64;
    if is_past || (head.private(PrivateCount::ThreadMutes) > 0 && thread_is_muted(view, notice)?) {
        return Ok(false);
    }
    view.put(notice.key(), notice.value());
    Ok(true)
}

/// Whether the recipient muted the thread of the post that the notice concerns. Only posts have threads.
fn thread_is_muted(view: &View<'_>, notice: &Notice) -> Result<bool> {
    let Some(subject) = notice.subject.as_deref() else { return Ok(false) };
    if placed::collection_of(subject) != Some(posts::NSID) {
        return Ok(false);
    }
    let Some(root) = posts::root_of(view, subject)? else { return Ok(false) };
    Ok(view
        .get(&tables::private_of(&notice.recipient, tables::private::THREAD_MUTE).atom(&atom::uri(&root)).key())?
        .is_some())
}

/// Most subscribers told of one post.
const SUBSCRIBERS_TOLD_MAX: usize = 10_000;

/// Tells those who subscribed to the author's activity of a new post, unless the post tells them already. Whom the
/// author lets subscribe is the author's declaration at that time (ingest 8.5).
pub(crate) fn tell_subscribers(view: &mut View<'_>, it: &Placed<'_>, row: &posts::PostRow) -> Result<()> {
    let head = Head::read(view.get(&tables::on_head(it.did))?.as_ref());
    if head.get(OnCount::Subscribers as u8) == 0 {
        return Ok(());
    }
    let allowed = profiles::subscriptions_allowed(view, it.did)?;
    let wanted = if row.reply.is_some() { SUBSCRIBED_REPLIES } else { SUBSCRIBED_POSTS };
    let page = view.scan(&tables::scan_on(it.did, tables::on::SUBSCRIBER).limit(SUBSCRIBERS_TOLD_MAX))?;
    for subscriber in page.rows {
        let flags = subscriber.value.first().copied().unwrap_or(0);
        let recipient = Parts::of(tables::ON.name, &subscriber.clustering()[1..]).did()?;
        if flags & wanted == 0 || recipient == it.did || row.told.iter().any(|(did, _, _)| *did == recipient) {
            continue;
        }
        let follows = |actor: &str, subject: &str| -> Result<bool> {
            Ok(view.get(&relation::claims_key(actor, Relation::Follow, &atom::did(subject)))?.is_some())
        };
        let permitted = match allowed {
            profiles::Subscriptions::Followers => follows(&recipient, it.did)?,
            profiles::Subscriptions::Mutuals => follows(&recipient, it.did)? && follows(it.did, &recipient)?,
            profiles::Subscriptions::Nobody => false,
        };
        // What was published before is not news: a repo that is read whole brings all of it at once.
        let since = subscriptions::since(view, &recipient, it.did)?.unwrap_or(i64::MIN);
        let is_news = it.sort_at_us >= since.saturating_sub(SUBSCRIBED_SLACK_US);
        if permitted && is_news && !blocked(view, &recipient, it.did)? {
            let notice = Notice {
                recipient,
                reason: Reason::SubscribedPost,
                uri: it.uri(),
                subject: None,
                sort_at_us: it.sort_at_us,
                nonce: String::new(),
            };
            tell(view, &notice)?;
        }
    }
    Ok(())
}

/// Whether one of two accounts blocks the other.
fn blocked(view: &View<'_>, a: &str, b: &str) -> Result<bool> {
    let blocks = |actor: &str, subject: &str| -> Result<bool> {
        Ok(view.get(&relation::claims_key(actor, Relation::Block, &atom::did(subject)))?.is_some())
    };
    Ok(blocks(a, b)? || blocks(b, a)?)
}

/// A post this much older than a subscription is still told: clocks differ, and events take their time.
const SUBSCRIBED_SLACK_US: i64 = 3_600_000_000;

/// The subscriber wants posts.
pub const SUBSCRIBED_POSTS: u8 = 1;
/// The subscriber wants replies.
pub const SUBSCRIBED_REPLIES: u8 = 2;

/// Rows read in one go while filters take some of them.
const ROWS_PER_ROUND: usize = 200;

/// Rounds of one listing. A page may be short with a cursor; the AppView asks on.
const ROUNDS_MAX: usize = 25;

/// Unread notifications are counted up to this many.
const UNREAD_MAX: usize = 10_000;

/// Where a listing goes on: strictly before a time, or after one notification of that time.
fn resume(cursor: &str) -> Result<Option<(i64, Option<Vec<u8>>)>> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let malformed = || crate::Error::invalid("cursor", "is neither a date nor a token this call gave");
    // The AppView turns what reads as a date into another date; a token with a tie must therefore not read as one.
    let (date, tie) = match cursor.split_once("__") {
        Some((date, tie)) => (date, Some(tie)),
        None => (cursor, None),
    };
    let at = datetime::parse_micros_lenient(date).ok_or_else(malformed)?;
    let tie = match tie {
        Some(hex) if hex.len() == 16 && hex.is_ascii() => {
            let id = u64::from_str_radix(hex, 16).map_err(|_| malformed())?;
            Some(id.to_be_bytes().to_vec())
        }
        Some(_) => return Err(malformed()),
        None => None,
    };
    Ok(Some((placed::cut_to_ms(at), tie)))
}

/// Notifications of an account, newest first: those whose subject still stands (read-rpcs 5.11).
pub async fn get_notifications(
    cx: &Cx,
    req: proto::GetNotificationsRequest,
) -> Result<proto::GetNotificationsResponse> {
    let n = page::limit(req.limit);
    let from = resume(&req.cursor)?;
    let mut found: Vec<(Stored, bool, Vec<u8>)> = Vec::new();
    if n == 0 {
        return Ok(proto::GetNotificationsResponse::default());
    }
    let partition = || Scan::of(Key::of(&NOTIFICATION).atom(&atom::did(&req.actor_did)).partition());
    let mut scan = match from {
        None => partition(),
        Some((at, Some(id))) => {
            let mut place = position(at).to_vec();
            place.extend_from_slice(&id);
            partition().after(place)
        }
        // Strictly older: from the position of the millisecond before.
        Some((at, None)) => partition().from(position(at - 1000)),
    };
    let mut stopped = None;
    for round in 0..ROUNDS_MAX {
        // Whoever wants only what is rare should not have to ask again and again.
        let rows = if round == 0 { ROWS_PER_ROUND.min(n * 2 + 1) } else { ROWS_PER_ROUND };
        let page = cx.store.scan(scan.limit(rows.max(n + 1))).await?;
        let mut read = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            read.push((Stored::read(row.clustering(), &row.value)?, row.clustering().to_vec()));
        }
        let authors: Vec<&str> = read.iter().map(|(it, _)| placed::did_of(&it.uri).unwrap_or_default()).collect();
        let mut keys: Vec<Key> = Vec::with_capacity(read.len() * 2);
        for ((it, _), author) in read.iter().zip(&authors) {
            keys.push(relation::claims_key(&req.actor_did, Relation::Follow, &atom::did(author)));
            if let Some(key) = it.subject.as_deref().and_then(records::key_of) {
                keys.push(key);
            }
        }
        let mut stands = cx.store.get(&keys).await?.into_iter();
        for (it, place) in read {
            let followed = stands.next().flatten().is_some();
            let subject_stands = match it.subject.as_deref() {
                None => true,
                Some(subject) => records::key_of(subject).is_some() && stands.next().flatten().is_some(),
            };
            if subject_stands && (followed || !req.priority) {
                found.push((it, followed, place));
            }
        }
        match page.rows.last() {
            Some(last) if page.more && found.len() <= n => {
                if round + 1 == ROUNDS_MAX {
                    stopped = Some(last.clustering().to_vec());
                }
                scan = partition().after(last.clustering().to_vec());
            }
            _ => break,
        }
    }
    let cursor = if found.len() > n {
        let (last, next) = (&found[n - 1].2, &found[n].2);
        token(last, last[..8] == next[..8])
    } else {
        stopped.map(|last| token(&last, true)).unwrap_or_default()
    };
    found.truncate(n);
    let notification = |(it, followed, _): (Stored, bool, Vec<u8>)| proto::Notification {
        recipient_did: req.actor_did.clone(),
        uri: it.uri,
        reason: it.reason.name().to_owned(),
        reason_subject: it.subject.unwrap_or_default(),
        timestamp: Some(records::timestamp(it.sort_at_us)),
        priority: followed,
    };
    Ok(proto::GetNotificationsResponse { notifications: found.into_iter().map(notification).collect(), cursor })
}

/// A date, as clients hold it; with the notification's own mark where others of the same time may follow.
fn token(place: &[u8], exact: bool) -> String {
    let at = Parts::of(NOTIFICATION.name, place).micros_desc().unwrap_or(0);
    let mut text = datetime::format_ms(at);
    if exact {
        text.push_str("__");
        for byte in &place[8..] {
            text.push_str(&format!("{byte:02x}"));
        }
    }
    text
}

fn position(at_us: i64) -> [u8; 8] {
    (!(at_us as u64 ^ (1 << 63))).to_be_bytes()
}

/// When the account last looked at its notifications.
pub async fn get_notification_seen(
    cx: &Cx,
    req: proto::GetNotificationSeenRequest,
) -> Result<proto::GetNotificationSeenResponse> {
    let seen = seen_at_us(cx, &req.actor_did).await?;
    Ok(proto::GetNotificationSeenResponse { timestamp: seen.map(records::timestamp) })
}

/// When an account last looked. Who has just said so, perhaps to another process, is not answered as if it had not.
async fn seen_at_us(cx: &Cx, did: &str) -> Result<Option<i64>> {
    let found = cx.store.get_fresh(&[private::state_key(did)]).await?.pop().flatten();
    Ok(found.as_deref().map(private::read_state).transpose()?.and_then(|state| state.seen_at_us()))
}

/// How many notifications came since the account last looked: those whose record stands and is not taken down.
pub async fn get_unread_notification_count(
    cx: &Cx,
    req: proto::GetUnreadNotificationCountRequest,
) -> Result<proto::GetUnreadNotificationCountResponse> {
    let nothing = proto::GetUnreadNotificationCountResponse { count: 0 };
    let keys = [actors::key(&req.actor_did), moderation::key_of_subject(&req.actor_did)];
    let found = cx.store.get(&keys).await?;
    if !found[0].as_deref().map(actors::read).transpose()?.is_some_and(|row| row.exists)
        || found[1].as_ref().is_some_and(|stored| !moderation::reference(stored).is_empty())
    {
        return Ok(nothing);
    }
    let seen = seen_at_us(cx, &req.actor_did).await?;
    let partition = || {
        let scan = Scan::of(Key::of(&NOTIFICATION).atom(&atom::did(&req.actor_did)).partition());
        if let Some(seen) = seen { scan.before(position(seen)) } else { scan }
    };
    let mut count = 0usize;
    let mut scan = partition();
    loop {
        let page = cx.store.scan(scan.limit(500)).await?;
        let mut keys = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            keys.extend(records::key_of(&Stored::read(row.clustering(), &row.value)?.uri));
        }
        for stands in cx.store.get(&keys).await?.into_iter().flatten() {
            let stands = cx.damage.or_absent(records::decode_served(stands))?;
            count += usize::from(stands.is_some_and(|it| !it.flags.has(records::Flags::TAKEN_DOWN)));
        }
        match page.rows.last() {
            Some(last) if page.more && count < UNREAD_MAX => scan = partition().after(last.clustering().to_vec()),
            _ => break,
        }
    }
    Ok(proto::GetUnreadNotificationCountResponse { count: i32::try_from(count).unwrap_or(i32::MAX) })
}
