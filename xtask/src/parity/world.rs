//! What happened in the network, as its events tell it: what to ask for, and what an answer can be judged by.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use gp_atproto::{
    aturi::AtUri,
    car::Car,
    frame::{Action, Message},
    json,
};
use gp_synth::Network;
use serde_json::Value;

/// Collections, by the names that matter here.
pub(super) mod nsid {
    #![allow(missing_docs)]
    pub(in super::super) const POST: &str = "app.bsky.feed.post";
    pub(in super::super) const LIKE: &str = "app.bsky.feed.like";
    pub(in super::super) const REPOST: &str = "app.bsky.feed.repost";
    pub(in super::super) const THREAD_GATE: &str = "app.bsky.feed.threadgate";
    pub(in super::super) const POST_GATE: &str = "app.bsky.feed.postgate";
    pub(in super::super) const GENERATOR: &str = "app.bsky.feed.generator";
    pub(in super::super) const FOLLOW: &str = "app.bsky.graph.follow";
    pub(in super::super) const BLOCK: &str = "app.bsky.graph.block";
    pub(in super::super) const LIST: &str = "app.bsky.graph.list";
    pub(in super::super) const LIST_ITEM: &str = "app.bsky.graph.listitem";
    pub(in super::super) const LIST_BLOCK: &str = "app.bsky.graph.listblock";
    pub(in super::super) const OPT_OUT: &str = "app.bsky.graph.referencelistoptout";
    pub(in super::super) const STARTER_PACK: &str = "app.bsky.graph.starterpack";
    pub(in super::super) const VERIFICATION: &str = "app.bsky.graph.verification";
    pub(in super::super) const PROFILE: &str = "app.bsky.actor.profile";
    pub(in super::super) const STATUS: &str = "app.bsky.actor.status";
    pub(in super::super) const LABELER: &str = "app.bsky.labeler.service";
    pub(in super::super) const NOTIFICATIONS: &str = "app.bsky.notification.declaration";
    pub(in super::super) const CHAT: &str = "chat.bsky.actor.declaration";
    pub(in super::super) const GERM: &str = "com.germnetwork.declaration";
    pub(in super::super) const PUBLICATION: &str = "site.standard.publication";
    pub(in super::super) const DOCUMENT: &str = "site.standard.document";
}
use nsid::*;

/// A version of a record.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) seq: i64,
    pub(super) time_us: i64,
    pub(super) cid: String,
    /// Lex-JSON; not kept for likes, reposts, follows and blocks.
    pub(super) json: Option<Box<str>>,
}

/// What became of a URI.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) versions: Vec<Version>,
    /// When it was deleted last, if it does not stand.
    pub(super) deleted: Option<(i64, i64)>,
    /// What it is about: the subject of a relation, the parent of a reply, the list of an item.
    pub(super) subject: Option<Box<str>>,
}

/// Everything that calls are made of and answers are judged by.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Every account that was heard of.
    pub(super) dids: Vec<String>,
    /// When each of them was heard of first.
    pub(super) joined: HashMap<String, i64>,
    /// Those that are deleted.
    pub(super) deleted_dids: HashSet<String>,
    /// Those whose standing is not good.
    pub(super) inactive_dids: HashSet<String>,
    /// Handles that accounts have or had.
    pub(super) handles: Vec<String>,
    /// URIs of every record there ever was, by collection.
    pub(super) uris: BTreeMap<String, Vec<String>>,
    pub(super) lives: HashMap<String, Life>,
    /// By collection and author: what the author's records are about.
    pub(super) about: HashMap<(String, String), Vec<String>>,
    /// By collection: what records are about, as often as there are records.
    pub(super) subjects: HashMap<String, Vec<String>>,
    /// By list: who was ever put on it.
    pub(super) members: HashMap<String, Vec<String>>,
    /// By post: who quoted it. In order, because calls are drawn from its keys.
    pub(super) quotes: BTreeMap<String, Vec<String>>,
    /// Posts that were replied to.
    pub(super) replied: Vec<String>,
    /// CIDs of blobs, with their owners.
    pub(super) blobs: Vec<(String, String)>,
    /// Events that touch nothing but relations that no other event depends on.
    pub(super) together: Vec<i64>,
    /// Records of which one version never travelled: a commit that writes a key twice sends the last one only.
    pub(super) unsent: HashSet<String>,
    /// Posts that are valid and name a handle where others name a DID.
    pub(super) names_a_handle: HashSet<String>,
    /// Posts that are valid and that the reference's database refuses.
    pub(super) refused_by_the_reference: HashSet<String>,
    /// The DID that the network runs its labeler under, a trusted verifier, and the account that others look at.
    pub(super) verifier: String,
    pub(super) hub: String,
    pub(super) reader: String,
    pub(super) long_thread: String,
}

impl World {
    /// Reads every event that the relay retains.
    pub(super) fn of(network: &Network) -> Result<Self> {
        let mut world = Self::default();
        for (seq, frame) in network.frames() {
            match Message::decode(&frame) {
                Ok(Message::Commit(commit)) => {
                    let car = Car::parse(commit.blocks, 100_000).context("a CAR of the synthetic network")?;
                    world.heard_of(commit.repo, commit.time_us);
                    let mut beside = !commit.ops.is_empty();
                    for op in &commit.ops {
                        let uri = format!("at://{}/{}", commit.repo, op.path);
                        let collection = op.path.split('/').next().unwrap_or_default();
                        beside &= op.action == Action::Create && matches!(collection, LIKE | BLOCK);
                        if op.action == Action::Delete {
                            let life = world.lives.entry(uri).or_default();
                            life.deleted = Some((seq, commit.time_us));
                            continue;
                        }
                        let Some(cid) = op.cid else { continue };
                        let Some(block) = car.get(&cid) else {
                            world.unsent.insert(uri);
                            continue;
                        };
                        let text = json::text_of_cbor(block).context("a record of the synthetic network")?;
                        world.record(commit.repo, collection, &uri, &text, seq, commit.time_us, cid.to_string())?;
                    }
                    if beside {
                        world.together.push(seq);
                    }
                }
                Ok(Message::Identity(identity)) => {
                    world.heard_of(identity.did, identity.time_us);
                    world.handles.extend(identity.handle.map(str::to_owned));
                }
                Ok(Message::Account(account)) => {
                    world.heard_of(account.did, account.time_us);
                    if account.active {
                        world.inactive_dids.remove(account.did);
                    } else {
                        world.inactive_dids.insert(account.did.to_owned());
                    }
                    if account.status == Some("deleted") {
                        world.deleted_dids.insert(account.did.to_owned());
                    }
                }
                _ => {}
            }
        }
        let picks = network.pick();
        (world.verifier, world.hub, world.reader) = (picks.verifier_did, picks.hub_did, picks.reader_did);
        world.long_thread = picks.long_thread_uri;
        Ok(world)
    }

    fn heard_of(&mut self, did: &str, time_us: i64) {
        if !self.joined.contains_key(did) {
            self.joined.insert(did.to_owned(), time_us);
            self.dids.push(did.to_owned());
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one operation")]
    fn record(
        &mut self,
        did: &str,
        collection: &str,
        uri: &str,
        text: &str,
        seq: i64,
        time_us: i64,
        cid: String,
    ) -> Result<()> {
        let record: Value = serde_json::from_str(text)?;
        let subject = subject_of(collection, &record);
        let life = self.lives.entry(uri.to_owned()).or_default();
        if life.versions.is_empty() {
            self.uris.entry(collection.to_owned()).or_default().push(uri.to_owned());
        }
        let kept = (!matches!(collection, LIKE | REPOST | FOLLOW | BLOCK)).then(|| text.into());
        life.versions.push(Version { seq, time_us, cid, json: kept });
        life.deleted = None;
        life.subject = subject.as_deref().map(Into::into);
        if let Some(subject) = subject {
            self.about.entry((collection.to_owned(), did.to_owned())).or_default().push(subject.clone());
            self.subjects.entry(collection.to_owned()).or_default().push(subject.clone());
            match collection {
                LIST_ITEM => {
                    let member = record["subject"].as_str().unwrap_or_default().to_owned();
                    self.members.entry(subject).or_default().push(member);
                }
                POST => self.replied.push(subject),
                _ => {}
            }
        }
        let no_pictures = record["embed"]["images"].as_array().is_some_and(Vec::is_empty);
        if collection == POST && (no_pictures || text.contains("\\u0000")) {
            self.refused_by_the_reference.insert(uri.to_owned());
        }
        let named =
            [record["reply"]["root"]["uri"].as_str(), record["reply"]["parent"]["uri"].as_str(), quoted_of(&record)];
        if collection == POST && named.into_iter().flatten().any(|uri| !authority(uri).starts_with("did:")) {
            self.names_a_handle.insert(uri.to_owned());
        }
        if collection == POST
            && let Some(quoted) = quoted_of(&record)
        {
            self.quotes.entry(quoted.to_owned()).or_default().push(uri.to_owned());
        }
        if self.blobs.len() < 500
            && let Some(cid) = record["avatar"]["ref"]["$link"].as_str()
        {
            self.blobs.push((did.to_owned(), cid.to_owned()));
        }
        Ok(())
    }

    /// Whether a record stands.
    pub(super) fn stands(&self, uri: &str) -> bool {
        self.lives.get(uri).is_some_and(|life| !life.versions.is_empty() && life.deleted.is_none())
            && !self.deleted_dids.contains(authority(uri))
    }

    /// The newest version of a record that stands.
    pub(super) fn newest(&self, uri: &str) -> Option<(&Version, Value)> {
        let version = self.stands(uri).then(|| self.lives.get(uri)?.versions.last()).flatten()?;
        Some((version, serde_json::from_str(version.json.as_deref()?).ok()?))
    }

    /// The time by which a record is listed: the earlier of the one it claims and the one it came at.
    pub(super) fn sort_at_us(&self, uri: &str) -> Option<i64> {
        let (version, record) = self.newest(uri)?;
        let claimed = gp_atproto::datetime::parse_micros_lenient(record["createdAt"].as_str()?).unwrap_or(0);
        Some(claimed.min(version.time_us))
    }

    /// Posts that stand and quote one that stands.
    pub(super) fn standing_quotes(&self, uri: &str) -> usize {
        let quotes = self.quotes.get(uri).map_or(&[][..], Vec::as_slice);
        if self.stands(uri) { quotes.iter().filter(|quote| self.stands(quote)).count() } else { 0 }
    }

    /// The record that holds the relation that a record claims: the oldest of its author's that stands.
    pub(super) fn holder(&self, uri: &str) -> Option<&String> {
        let (author, collection) = (authority(uri), collection(uri));
        let subject = &self.lives.get(uri)?.subject;
        let same = |other: &&String| {
            authority(other) == author && self.stands(other) && self.lives[*other].subject == *subject
        };
        self.of_collection(collection).iter().find(same)
    }

    /// Whether a record claims a relation that an older record of its author holds.
    pub(super) fn is_waiting_claim(&self, uri: &str) -> bool {
        let Some(life) = self.lives.get(uri) else { return false };
        let (author, collection) = (authority(uri), collection(uri));
        self.of_collection(collection).iter().any(|other| {
            other != uri
                && authority(other) == author
                && self.stands(other)
                && self.lives[other].subject == life.subject
                && self.lives[other].versions.first().map(|it| it.seq) < life.versions.first().map(|it| it.seq)
        })
    }

    /// URIs of a collection.
    pub(super) fn of_collection(&self, collection: &str) -> &[String] {
        self.uris.get(collection).map_or(&[], Vec::as_slice)
    }
}

/// The account in a URI, or a DID itself.
pub(super) fn authority(uri: &str) -> &str {
    uri.strip_prefix("at://").unwrap_or(uri).split('/').next().unwrap_or_default()
}

/// The collection of a URI.
pub(super) fn collection(uri: &str) -> &str {
    AtUri::record_parts(uri).map_or("", |(_, collection, _)| collection)
}

fn subject_of(collection: &str, record: &Value) -> Option<String> {
    let text = match collection {
        LIKE | REPOST => &record["subject"]["uri"],
        LIST_ITEM => &record["list"],
        POST => &record["reply"]["parent"]["uri"],
        STARTER_PACK => &record["list"],
        PROFILE => &record["joinedViaStarterPack"]["uri"],
        _ => &record["subject"],
    };
    text.as_str().map(str::to_owned)
}

/// What a post quotes.
pub(super) fn quoted_of(record: &Value) -> Option<&str> {
    let embed = &record["embed"];
    let held = match embed["$type"].as_str()? {
        "app.bsky.embed.record" => &embed["record"],
        "app.bsky.embed.recordWithMedia" => &embed["record"]["record"],
        _ => return None,
    };
    held["uri"].as_str()
}
