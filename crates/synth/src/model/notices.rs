//! Who is told of what.

use std::collections::{HashMap, HashSet};

use gp_atproto::{Value, aturi};

use super::{Model, PostFlags, Relation, authority, gates::mentions, quoted_post, reply, strong_uri};
use crate::records::POST;

/// How many generations of ancestors are told of a reply.
const ANCESTORS_MAX: usize = 4;

/// Why somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Named in a post.
    Mention,
    /// A post of theirs was quoted.
    Quote,
    /// A reply at or under a post of theirs.
    Reply,
    /// Something of theirs was liked.
    Like,
    /// A post that they had reposted was liked, through the repost.
    LikeViaRepost,
    /// Something of theirs was reposted.
    Repost,
    /// A post that they had reposted was reposted, through the repost.
    RepostViaRepost,
    /// Somebody follows them.
    Follow,
    /// Somebody vouches for them.
    Verified,
    /// Somebody no longer vouches for them.
    Unverified,
    /// Somebody came through their starter pack.
    StarterPackJoined,
}

impl Reason {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Mention => "mention",
            Reason::Quote => "quote",
            Reason::Reply => "reply",
            Reason::Like => "like",
            Reason::LikeViaRepost => "like-via-repost",
            Reason::Repost => "repost",
            Reason::RepostViaRepost => "repost-via-repost",
            Reason::Follow => "follow",
            Reason::Verified => "verified",
            Reason::Unverified => "unverified",
            Reason::StarterPackJoined => "starterpack-joined",
        }
    }
}

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Notice {
    /// Who is told.
    pub recipient: String,
    /// Why.
    pub reason: Reason,
    /// The record that caused it.
    pub record_uri: String,
    /// What it is about, where it is about something.
    pub subject_uri: Option<String>,
}

/// All notices, by the record that caused them.
#[derive(Debug, Default)]
pub(super) struct Notices(HashMap<String, Vec<Notice>>);

impl Notices {
    /// Tells `recipient`, unless it has been told of the same record for the same reason, or is no account.
    pub(super) fn add(&mut self, record: &str, author: &str, recipient: &str, reason: Reason, subject: Option<&str>) {
        // Nobody is told of what they did themselves, save for verifying and joining.
        let own =
            author == recipient && !matches!(reason, Reason::Verified | Reason::Unverified | Reason::StarterPackJoined);
        if own || !recipient.starts_with("did:") {
            return;
        }
        let notices = self.0.entry(record.to_owned()).or_default();
        if notices.iter().any(|notice| notice.recipient == recipient && notice.reason == reason) {
            return;
        }
        notices.push(Notice {
            recipient: recipient.to_owned(),
            reason,
            record_uri: record.to_owned(),
            subject_uri: subject.map(str::to_owned),
        });
    }

    pub(super) fn of_relation(
        &mut self,
        record: &str,
        author: &str,
        relation: Relation,
        subject: &str,
        value: &Value<'_>,
    ) {
        let (direct, through) = match relation {
            Relation::Like => (Reason::Like, Reason::LikeViaRepost),
            Relation::Repost => (Reason::Repost, Reason::RepostViaRepost),
            Relation::Follow => return self.add(record, author, subject, Reason::Follow, None),
            Relation::Verification => return self.add(record, author, subject, Reason::Verified, None),
            _ => return,
        };
        // Who likes something of their own tells nobody, not even whom they came through.
        if authority(subject) == author {
            return;
        }
        self.add(record, author, authority(subject), direct, Some(subject));
        if let Some(via) = strong_uri(value, "via") {
            self.add(record, author, authority(via), through, Some(via));
        }
    }

    pub(super) fn forget_record(&mut self, record: &str) {
        self.0.remove(record);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(mut notices) = self.0.remove(from) {
            notices.iter_mut().for_each(|notice| notice.record_uri = to.to_owned());
            self.0.insert(to.to_owned(), notices);
        }
    }

    pub(super) fn forget_recipient(&mut self, did: &str) {
        self.0.values_mut().for_each(|notices| notices.retain(|notice| notice.recipient != did));
    }

    pub(super) fn forget_author(&mut self, did: &str) {
        self.0.retain(|record, _| authority(record) != did);
    }

    pub(super) fn of(&self, did: &str) -> Vec<Notice> {
        self.0.values().flatten().filter(|notice| notice.recipient == did).cloned().collect()
    }
}

impl Model {
    /// Tells everybody whom a post concerns, each of them once: who is named first, then who is quoted, then the
    /// authors of the posts above it, up to the first that the thread hides.
    pub(super) fn notify_of_post(&mut self, did: &str, uri: &str, value: &Value<'_>, flags: PostFlags) {
        let mut told: HashSet<String> = HashSet::from([did.to_owned()]);
        let mut tell: Vec<(String, Reason, Option<String>)> = Vec::new();
        for named in mentions(value) {
            if told.insert(named.to_owned()) {
                tell.push((named.to_owned(), Reason::Mention, None));
            }
        }
        if let Some(quoted) = quoted_post(value)
            && !flags.violates_embedding_rules
            && told.insert(authority(quoted).to_owned())
        {
            tell.push((authority(quoted).to_owned(), Reason::Quote, Some(quoted.to_owned())));
        }
        if let Some((root, parent)) = reply(value)
            && !flags.violates_thread_gate
        {
            let hidden = self.hidden_replies(root);
            let mut ancestor = Some(parent.to_owned());
            for _ in 0..ANCESTORS_MAX {
                // Only posts that stand lead further up.
                let Some(post) = ancestor.filter(|post| is_post(post) && self.record_at(post).is_some()) else { break };
                if told.insert(authority(&post).to_owned()) {
                    tell.push((authority(&post).to_owned(), Reason::Reply, Some(post.clone())));
                }
                if hidden.contains(&post) {
                    break;
                }
                ancestor = self.parent_of(&post);
            }
        }
        for (recipient, reason, subject) in tell {
            self.notices.add(uri, did, &recipient, reason, subject.as_deref());
        }
    }
}

fn is_post(uri: &str) -> bool {
    aturi::AtUri::record_parts(uri).is_some_and(|(_, collection, _)| collection == POST)
}
