//! The oracle: what a data plane must hold when it has read everything.
//!
//! It takes the same operations that the events carry, in the same order, and keeps everything in plain maps, so that
//! it is slow, large and easy to believe. It decodes records as any reader does and knows nothing of how the network
//! was made. What it says:
//!
//! - records stand that are of a known collection, valid, and not refused for what they refer to;
//! - a relation (like, repost, follow, block, list item, list block, opt-out, verification) counts once for each
//!   author and subject, however many records claim it, and as long as one of them stands;
//! - replies that a thread gate forbids are not counted; gates are judged when the reply comes;
//! - deleting a post takes its quotes off the books, in both directions; likes and replies of it stay counted;
//! - deleting an account takes back everything it ever did.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use gp_atproto::{Cid, Value, aturi, cbor, lexicon};

use crate::{
    records::{
        BLOCK, DOCUMENT, FOLLOW, LIKE, LIST_BLOCK, LIST_ITEM, OPT_OUT, POST, POST_GATE, PROFILE, PUBLICATION, REPOST,
        SELF, THREAD_GATE, VERIFICATION,
    },
    script::Action,
};

mod gates;
mod notices;

pub use notices::{Notice, Reason};

/// A kind of relation between an author and a subject, of which one record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// Subject: any URI.
    Like,
    /// Subject: any URI.
    Repost,
    /// Subject: a DID.
    Follow,
    /// Subject: a DID.
    Block,
    /// Subject: the list's URI, a space, the DID of who is on it.
    ListItem,
    /// Subject: the list's URI.
    ListBlock,
    /// Subject: the list's URI.
    OptOut,
    /// Subject: a DID.
    Verification,
}

/// What a URI or a DID has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Authors who like it.
    pub likes: u64,
    /// Authors who have reposted it.
    pub reposts: u64,
    /// Direct replies, without those that a thread gate forbids.
    pub replies: u64,
    /// Posts that quote it.
    pub quotes: u64,
    /// Accounts that follow it.
    pub followers: u64,
    /// Accounts on it, for a list.
    pub items: u64,
    /// Accounts that have come through it, for a starter pack.
    pub joins: u64,
}

/// What is wrong with a post.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostFlags {
    /// The parent is missing, or belongs to another thread than the post says.
    pub invalid_reply_root: bool,
    /// The thread's gate does not let its author in.
    pub violates_thread_gate: bool,
    /// The author of what it quotes does not want that.
    pub violates_embedding_rules: bool,
}

/// An operation as the model takes it. `record` is missing for deletions.
#[derive(Clone, Debug)]
pub(crate) struct ModelOp<'a> {
    pub(crate) action: Action,
    /// `collection/rkey`.
    pub(crate) path: &'a str,
    pub(crate) record: Option<Bytes>,
}

#[derive(Clone, Debug)]
struct Record {
    cid: Cid,
    bytes: Bytes,
}

#[derive(Debug, Default)]
struct Account {
    did: Box<str>,
    handle: Option<String>,
    status: Option<String>,
    /// By `collection/rkey`.
    records: BTreeMap<Box<str>, Record>,
    follows: u64,
    posts: u64,
}

#[derive(Debug, Default)]
struct Subject {
    counts: Counts,
    /// Posts that quote this.
    quoters: Vec<u32>,
    flags: PostFlags,
}

/// The oracle.
#[derive(Debug, Default)]
pub struct Model {
    accounts: Vec<Account>,
    by_did: HashMap<Box<str>, u32>,
    handles: HashMap<String, u32>,
    /// Numbers of URIs and DIDs that anything is said about.
    names: HashMap<Box<str>, u32>,
    subjects: Vec<Subject>,
    /// Records that claim a relation, in the order of arrival.
    claims: HashMap<(Relation, u32, u32), Vec<Box<str>>>,
    notices: notices::Notices,
}

impl Model {
    // ------------------------------------------------------------------------------------------ what comes in

    pub(crate) fn identity(&mut self, did: &str, handle: &str) {
        let account = self.account_mut(did);
        // Whoever says so last owns the handle; whoever had it before has none.
        if let Some(old) = self.accounts[account as usize].handle.take() {
            self.handles.remove(&old);
        }
        if let Some(loser) = self.handles.insert(handle.to_owned(), account) {
            self.accounts[loser as usize].handle = None;
        }
        self.accounts[account as usize].handle = Some(handle.to_owned());
    }

    pub(crate) fn status(&mut self, did: &str, status: Option<&str>) {
        let account = self.account_mut(did);
        self.accounts[account as usize].status = status.map(str::to_owned);
        if status == Some("deleted") {
            let paths: Vec<Box<str>> = self.accounts[account as usize].records.keys().cloned().collect();
            for path in paths {
                self.remove(account, &path, true);
            }
            let this = &mut self.accounts[account as usize];
            if let Some(handle) = this.handle.take() {
                self.handles.remove(&handle);
            }
            self.notices.forget_recipient(did);
            self.notices.forget_author(did);
        }
    }

    pub(crate) fn apply<'a>(&mut self, did: &str, ops: impl IntoIterator<Item = ModelOp<'a>>) {
        let account = self.account_mut(did);
        for op in ops {
            match (op.action, op.record) {
                (Action::Delete, _) => self.remove(account, op.path, false),
                (_, Some(bytes)) => self.put(account, op.path, bytes),
                (_, None) => {}
            }
        }
    }

    fn put(&mut self, account: u32, path: &str, bytes: Bytes) {
        let Some((collection, rkey)) = path.split_once('/') else { return };
        let Ok(value) = cbor::decode(&bytes) else { return };
        // Records of these are kept as they are, whatever they say.
        let unread = matches!(collection, PUBLICATION | DOCUMENT);
        if !unread && (!lexicon::is_known_collection(collection) || lexicon::validate(collection, &value).is_err()) {
            return;
        }
        let did = self.accounts[account as usize].did.clone();
        if !refers_properly(&did, collection, rkey, &value) {
            return;
        }
        let cid = Cid::for_dag_cbor(&bytes);
        let old = self.accounts[account as usize].records.insert(path.into(), Record { cid, bytes: bytes.clone() });
        if old.as_ref().is_some_and(|old| old.cid == cid) {
            return;
        }
        if let Some(old) = &old {
            self.take_back(account, collection, path, &old.bytes, true);
        }
        let uri = format!("at://{did}/{path}");
        match collection {
            POST => self.post_stands(account, &uri, &value, old.is_some()),
            PROFILE if rkey == SELF => {
                if let Some(pack) = strong_uri(&value, "joinedViaStarterPack") {
                    self.counts_mut(pack).joins += 1;
                    if old.is_none() {
                        self.notices.add(&uri, &did, authority(pack), Reason::StarterPackJoined, Some(pack));
                    }
                }
            }
            _ => {
                if let Some((relation, subject)) = relation(collection, &value) {
                    self.claim(account, relation, &subject, path, &value);
                }
            }
        }
    }

    fn remove(&mut self, account: u32, path: &str, with_account: bool) {
        let Some(old) = self.accounts[account as usize].records.remove(path) else { return };
        let Some((collection, _)) = path.split_once('/') else { return };
        self.take_back(account, collection, path, &old.bytes, false);
        if collection == VERIFICATION && !with_account {
            let did = self.accounts[account as usize].did.clone();
            let uri = format!("at://{did}/{path}");
            if let Some(subject) =
                cbor::decode(&old.bytes).ok().and_then(|value| value.get("subject").and_then(Value::as_str))
            {
                self.notices.add(&uri, &did, subject, Reason::Unverified, None);
            }
        }
    }

    /// Undoes what a record did. An edit (`replaced`) leaves what others said about the record.
    fn take_back(&mut self, account: u32, collection: &str, path: &str, bytes: &Bytes, replaced: bool) {
        let Ok(value) = cbor::decode(bytes) else { return };
        let did = self.accounts[account as usize].did.clone();
        let uri = format!("at://{did}/{path}");
        match collection {
            POST => self.post_goes(account, &uri, &value, replaced),
            PROFILE if path.ends_with("/self") => {
                if let Some(pack) = strong_uri(&value, "joinedViaStarterPack") {
                    self.counts_mut(pack).joins -= 1;
                }
            }
            _ => {
                if let Some((relation, subject)) = relation(collection, &value) {
                    self.release(account, relation, &subject, path);
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------ relations

    fn claim(&mut self, account: u32, relation: Relation, subject: &str, path: &str, value: &Value<'_>) {
        let number = self.number(subject);
        let claims = self.claims.entry((relation, account, number)).or_default();
        claims.push(path.into());
        if claims.len() > 1 {
            return; // it waits until the first one goes
        }
        self.count(account, relation, subject, true);
        let did = self.accounts[account as usize].did.clone();
        self.notices.of_relation(&format!("at://{did}/{path}"), &did, relation, subject, value);
    }

    fn release(&mut self, account: u32, relation: Relation, subject: &str, path: &str) {
        let key = (relation, account, self.number(subject));
        let Some(claims) = self.claims.get_mut(&key) else { return };
        let Some(at) = claims.iter().position(|claim| **claim == *path) else { return };
        claims.remove(at);
        let did = self.accounts[account as usize].did.clone();
        let uri = format!("at://{did}/{path}");
        let heir = claims.first().cloned();
        match heir {
            // The notice of the relation goes on, in the name of the record that stands now.
            Some(heir) if at == 0 => self.notices.rename(&uri, &format!("at://{did}/{heir}")),
            Some(_) => {}
            None => {
                self.claims.remove(&key);
                self.count(account, relation, subject, false);
                if relation != Relation::Verification {
                    self.notices.forget_record(&uri);
                }
            }
        }
    }

    fn count(&mut self, account: u32, relation: Relation, subject: &str, up: bool) {
        let step = |count: &mut u64| if up { *count += 1 } else { *count -= 1 };
        match relation {
            Relation::Like => step(&mut self.counts_mut(subject).likes),
            Relation::Repost => step(&mut self.counts_mut(subject).reposts),
            Relation::Follow => {
                step(&mut self.counts_mut(subject).followers);
                step(&mut self.accounts[account as usize].follows);
            }
            Relation::ListItem => {
                let list = subject.split(' ').next().unwrap_or_default();
                step(&mut self.counts_mut(list).items);
            }
            Relation::Block | Relation::ListBlock | Relation::OptOut | Relation::Verification => {}
        }
    }

    // ------------------------------------------------------------------------------------------ posts

    fn post_stands(&mut self, account: u32, uri: &str, value: &Value<'_>, replaced: bool) {
        let number = self.number(uri);
        let mut flags = self.subjects[number as usize].flags;
        let did = self.accounts[account as usize].did.clone();
        if !replaced {
            flags = self.judge(&did, value);
            self.subjects[number as usize].flags = flags;
        }
        self.accounts[account as usize].posts += 1;
        if let Some((_, parent)) = reply(value)
            && !flags.violates_thread_gate
        {
            self.counts_mut(parent).replies += 1;
        }
        if let Some(quoted) = quoted_post(value) {
            let quoted = self.number(quoted);
            let quoted = &mut self.subjects[quoted as usize];
            quoted.quoters.push(number);
            quoted.counts.quotes = quoted.quoters.len() as u64;
        }
        self.notify_of_post(&did, uri, value, flags);
    }

    fn post_goes(&mut self, account: u32, uri: &str, value: &Value<'_>, replaced: bool) {
        let number = self.number(uri);
        let flags = self.subjects[number as usize].flags;
        self.accounts[account as usize].posts -= 1;
        if let Some((_, parent)) = reply(value)
            && !flags.violates_thread_gate
        {
            self.counts_mut(parent).replies -= 1;
        }
        if let Some(quoted) = quoted_post(value) {
            let quoted = self.number(quoted);
            let quoted = &mut self.subjects[quoted as usize];
            quoted.quoters.retain(|quoter| *quoter != number);
            quoted.counts.quotes = quoted.quoters.len() as u64;
        }
        self.notices.forget_record(uri);
        if !replaced {
            let this = &mut self.subjects[number as usize];
            this.quoters.clear();
            this.counts.quotes = 0;
            this.flags = PostFlags::default();
        }
    }

    // ------------------------------------------------------------------------------------------ names

    fn account_mut(&mut self, did: &str) -> u32 {
        if let Some(account) = self.by_did.get(did) {
            return *account;
        }
        let account = self.accounts.len() as u32;
        self.accounts.push(Account { did: did.into(), ..Account::default() });
        self.by_did.insert(did.into(), account);
        account
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.subjects.len() as u32;
        self.subjects.push(Subject::default());
        self.names.insert(name.into(), number);
        number
    }

    fn counts_mut(&mut self, name: &str) -> &mut Counts {
        let number = self.number(name);
        &mut self.subjects[number as usize].counts
    }

    fn account(&self, did: &str) -> Option<&Account> {
        self.by_did.get(did).map(|account| &self.accounts[*account as usize])
    }

    fn record_at(&self, uri: &str) -> Option<&Record> {
        let (did, collection, rkey) = aturi::AtUri::record_parts(uri)?;
        self.account(did)?.records.get(format!("{collection}/{rkey}").as_str())
    }

    // ------------------------------------------------------------------------------------------ what it says

    /// Every account that was ever heard of, in that order.
    pub fn dids(&self) -> impl Iterator<Item = &str> {
        self.accounts.iter().map(|account| &*account.did)
    }

    /// The handle that the account owns; `None` if it is deleted or somebody else owns what it claims.
    pub fn handle(&self, did: &str) -> Option<&str> {
        self.account(did)?.handle.as_deref()
    }

    /// What the account's host says about it; `None` in good standing.
    pub fn account_status(&self, did: &str) -> Option<&str> {
        self.account(did)?.status.as_deref()
    }

    /// Collection/rkey and CID of every record of an account that stands, in ascending order.
    pub fn records(&self, did: &str) -> impl Iterator<Item = (&str, &Cid)> {
        self.account(did)
            .into_iter()
            .flat_map(|account| account.records.iter().map(|(path, record)| (&**path, &record.cid)))
    }

    /// The number of records that stand in the whole network.
    pub fn records_total(&self) -> u64 {
        self.accounts.iter().map(|account| account.records.len() as u64).sum()
    }

    /// CID and DAG-CBOR of a record that stands.
    pub fn record(&self, uri: &str) -> Option<(Cid, Bytes)> {
        self.record_at(uri).map(|record| (record.cid, record.bytes.clone()))
    }

    /// Counts of a URI or a DID; zeros if nobody ever mentioned it.
    pub fn counts(&self, subject: &str) -> Counts {
        self.names.get(subject).map_or_else(Counts::default, |number| self.subjects[*number as usize].counts)
    }

    /// Every URI and DID that has a count other than zero.
    pub fn counted(&self) -> impl Iterator<Item = (&str, Counts)> {
        let all = self.names.iter().map(|(name, number)| (&**name, self.subjects[*number as usize].counts));
        all.filter(|(_, counts)| *counts != Counts::default())
    }

    /// How many accounts this one follows.
    pub fn follows(&self, did: &str) -> u64 {
        self.account(did).map_or(0, |account| account.follows)
    }

    /// How many posts of this account stand, replies included.
    pub fn posts(&self, did: &str) -> u64 {
        self.account(did).map_or(0, |account| account.posts)
    }

    /// The record that stands for a relation: of all that claim it the one that came first.
    pub fn standing(&self, relation: Relation, author: &str, subject: &str) -> Option<String> {
        let (author_number, subject) = (*self.by_did.get(author)?, *self.names.get(subject)?);
        let path = self.claims.get(&(relation, author_number, subject))?.first()?;
        Some(format!("at://{author}/{path}"))
    }

    /// What is wrong with a post that stands.
    pub fn post_flags(&self, uri: &str) -> PostFlags {
        self.names.get(uri).map_or_else(PostFlags::default, |number| self.subjects[*number as usize].flags)
    }

    /// Every notice that an account has, in no particular order. Those about a subject that is gone are kept here and
    /// left out by readers.
    pub fn notices(&self, did: &str) -> Vec<Notice> {
        self.notices.of(did)
    }
}

/// Whether a record stands where what it refers to lets it: gates beside their post, items in lists of their author.
fn refers_properly(did: &str, collection: &str, rkey: &str, value: &Value<'_>) -> bool {
    let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default();
    match collection {
        THREAD_GATE | POST_GATE => {
            aturi::AtUri::record_parts(text("post")).is_some_and(|(owner, _, key)| owner == did && key == rkey)
        }
        LIST_ITEM => authority(text("list")) == did,
        _ => true,
    }
}

fn relation(collection: &str, value: &Value<'_>) -> Option<(Relation, String)> {
    let text = |key| value.get(key).and_then(Value::as_str);
    Some(match collection {
        LIKE => (Relation::Like, strong_uri(value, "subject")?.to_owned()),
        REPOST => (Relation::Repost, strong_uri(value, "subject")?.to_owned()),
        FOLLOW => (Relation::Follow, text("subject")?.to_owned()),
        BLOCK => (Relation::Block, text("subject")?.to_owned()),
        LIST_BLOCK => (Relation::ListBlock, text("subject")?.to_owned()),
        OPT_OUT => (Relation::OptOut, text("subject")?.to_owned()),
        LIST_ITEM => (Relation::ListItem, format!("{} {}", text("list")?, text("subject")?)),
        VERIFICATION => (Relation::Verification, text("subject")?.to_owned()),
        _ => return None,
    })
}

fn strong_uri<'a>(value: &Value<'a>, key: &str) -> Option<&'a str> {
    value.get(key)?.get("uri")?.as_str()
}

/// Root and parent of a reply.
fn reply<'a>(value: &Value<'a>) -> Option<(&'a str, &'a str)> {
    let reply = value.get("reply")?;
    Some((strong_uri(reply, "root")?, strong_uri(reply, "parent")?))
}

/// The post that a post quotes.
fn quoted_post<'a>(value: &Value<'a>) -> Option<&'a str> {
    let embed = value.get("embed")?;
    let uri = match embed.type_name()? {
        "app.bsky.embed.record" => strong_uri(embed, "record")?,
        "app.bsky.embed.recordWithMedia" => strong_uri(embed.get("record")?, "record")?,
        _ => return None,
    };
    (aturi::AtUri::record_parts(uri)?.1 == POST).then_some(uri)
}

/// The account in a URI, or a DID itself.
fn authority(uri: &str) -> &str {
    uri.strip_prefix("at://").unwrap_or(uri).split('/').next().unwrap_or_default()
}
