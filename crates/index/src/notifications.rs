//! Notifications: who is told of what, and how a recipient reads them.
//!
//! A notice is keyed by its recipient, time and a digest of what it is about, so that making it twice makes one.

use bytes::Bytes;
use gp_store::{Key, View};
use sha2::{Digest, Sha256};

use crate::{
    Result, atom,
    atom::Parts,
    counts::{Head, OnCount, PrivateCount},
    placed::{self, Placed},
    posts, profiles,
    relation::{self, Relation},
    tables::{self, NOTIFICATION, private},
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

/// Stores a notice, unless the recipient has muted the thread it is about.
pub fn tell(view: &mut View<'_>, notice: &Notice) -> Result<bool> {
    // A recipient that is no DID (a subject addressed by handle) cannot be told.
    if !notice.recipient.starts_with("did:") || thread_is_muted(view, notice)? {
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
    // Nearly nobody mutes threads: the head of their private rows says so in one read.
    let head = Head::read(view.get(&tables::private_head(&notice.recipient))?.as_ref());
    if head.private(PrivateCount::ThreadMutes) == 0 {
        return Ok(false);
    }
    let Some(root) = posts::root_of(view, subject)? else { return Ok(false) };
    Ok(view.get(&tables::private_of(&notice.recipient, private::THREAD_MUTE).atom(&atom::uri(&root)).key())?.is_some())
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
        if permitted {
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

/// The subscriber wants posts.
pub const SUBSCRIBED_POSTS: u8 = 1;
/// The subscriber wants replies.
pub const SUBSCRIBED_REPLIES: u8 = 2;
