//! What was derived from a post and must be known again, and what a deleted post leaves behind.
//!
//! Accounts have no order among themselves, so a reply or a quote that was made before a deletion may be applied after
//! it, and must end as it would have ended before it (INV-5). What is left says where the post hung, whom it mentioned
//! and when it went; never what it said.

use gp_store::{Key, View};

use crate::{
    Error, Result, atom,
    atom::Parts,
    notifications::Reason,
    placed::{cut_to_ms, split_uri},
    posts,
    tables::POST,
};

/// Accounts mentioned by a deleted post that are kept, for gates that let those reply whom the root mentions.
const MENTIONS_KEPT_MAX: usize = 100;

/// What a gate's answer for a reply hung on: that an account stood in a relation to a subject. When such a relation
/// begins or ends, the replies that watch it are looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watch {
    /// The account followed, or the list.
    pub(crate) subject: String,
    /// The account that follows, or that is on the list.
    pub(crate) who: String,
}

/// What was derived from a post, or what it left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostRow {
    /// The post stands; otherwise this is what it left behind.
    pub stands: bool,
    /// It stands, or did once: a deletion may be seen of a post that was not.
    pub known: bool,
    /// Root and parent of a reply.
    pub reply: Option<(String, String)>,
    /// Who was told: recipient, reason, what of theirs.
    pub told: Vec<(String, Reason, Option<String>)>,
    /// What the gate's answer hung on.
    pub(crate) watches: Vec<Watch>,
    /// Accounts it mentioned; only of a post that does not stand.
    pub mentions: Vec<String>,
    /// Time of the last deletion at this address, in microseconds.
    pub gone_at_us: Option<i64>,
}

impl Default for PostRow {
    fn default() -> Self {
        Self {
            stands: true,
            known: true,
            reply: None,
            told: Vec::new(),
            watches: Vec::new(),
            mentions: Vec::new(),
            gone_at_us: None,
        }
    }
}

/// A post that stands and was never deleted.
const LAYOUT: u8 = 1;

/// A deleted post, as it was written at first: without mentions, and with a mark that is not read any more.
const LAYOUT_GONE: u8 = 2;

/// Everything: a byte of bits, then what they announce.
const LAYOUT_FULL: u8 = 3;

const IS_REPLY: u8 = 1;
const WAS_DELETED: u8 = 2;
const STANDS: u8 = 4;
const KNOWN: u8 = 8;

impl PostRow {
    /// Reads a row.
    pub fn read(stored: &[u8]) -> Result<Self> {
        let mut parts = Parts::of(POST.name, stored);
        let corrupt = |what| Error::Corrupt { table: POST.name, what };
        let mut row = Self::default();
        match parts.tag()? {
            LAYOUT => {
                row.reply = if parts.tag()? == 1 { Some((parts.uri()?, parts.uri()?)) } else { None };
                row.told = read_told(&mut parts)?;
            }
            LAYOUT_GONE => {
                row.stands = false;
                row.gone_at_us = Some(parts.micros_desc()?);
                parts.tag()?;
                row.reply = if parts.tag()? == 1 { Some((parts.uri()?, parts.uri()?)) } else { None };
            }
            LAYOUT_FULL => {
                let bits = parts.tag()?;
                row.stands = bits & STANDS != 0;
                row.known = bits & KNOWN != 0;
                if bits & WAS_DELETED != 0 {
                    row.gone_at_us = Some(parts.micros_desc()?);
                }
                if bits & IS_REPLY != 0 {
                    row.reply = Some((parts.uri()?, parts.uri()?));
                }
                for _ in 0..parts.tag()? {
                    row.watches.push(Watch { subject: parts.uri()?, who: parts.did()? });
                }
                for _ in 0..parts.tag()? {
                    row.mentions.push(parts.did()?);
                }
                row.told = read_told(&mut parts)?;
            }
            _ => return Err(corrupt("layout")),
        }
        Ok(row)
    }

    /// The row's bytes; nothing if it says nothing.
    pub(crate) fn write(&self) -> Option<Vec<u8>> {
        let plain = self.stands && self.watches.is_empty() && self.gone_at_us.is_none();
        if plain && self.reply.is_none() && self.told.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        let reply = |out: &mut Vec<u8>| {
            for uri in self.reply.iter().flat_map(|(root, parent)| [root, parent]) {
                out.extend_from_slice(&atom::uri(uri));
            }
        };
        if plain {
            out.extend_from_slice(&[LAYOUT, u8::from(self.reply.is_some())]);
            reply(&mut out);
        } else {
            let bit = |bit: u8, on: bool| if on { bit } else { 0 };
            let bits = bit(IS_REPLY, self.reply.is_some())
                | bit(WAS_DELETED, self.gone_at_us.is_some())
                | bit(STANDS, self.stands)
                | bit(KNOWN, self.known);
            out.extend_from_slice(&[LAYOUT_FULL, bits]);
            if let Some(at_us) = self.gone_at_us {
                out.extend_from_slice(&atom::micros_desc(at_us));
            }
            reply(&mut out);
            let watches = &self.watches[..self.watches.len().min(usize::from(u8::MAX))];
            out.push(watches.len() as u8);
            for watch in watches {
                out.extend_from_slice(&atom::uri(&watch.subject));
                out.extend_from_slice(&atom::did(&watch.who));
            }
            let mentions = &self.mentions[..self.mentions.len().min(MENTIONS_KEPT_MAX)];
            out.push(mentions.len() as u8);
            for did in mentions {
                out.extend_from_slice(&atom::did(did));
            }
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

    /// Whether something made at `made_us` was there before the post went for the last time. Compared in milliseconds,
    /// because that is how rows are ordered.
    pub(crate) fn went_after(&self, made_us: i64) -> bool {
        self.gone_at_us.is_some_and(|at_us| cut_to_ms(at_us) > cut_to_ms(made_us))
    }
}

fn read_told(parts: &mut Parts<'_>) -> Result<Vec<(String, Reason, Option<String>)>> {
    let mut told = Vec::new();
    while !parts.rest().is_empty() {
        let reason = Reason::from_number(parts.tag()?).ok_or(Error::Corrupt { table: POST.name, what: "reason" })?;
        let recipient = parts.did()?;
        let subject = if parts.tag()? == 1 { Some(parts.uri()?) } else { None };
        told.push((recipient, reason, subject));
    }
    Ok(told)
}

/// The place of what was derived from a post.
pub fn post_key(did: &str, rkey: &str) -> Key {
    Key::of(&POST).atom(&atom::did(did)).cluster().atom(&atom::rkey(rkey)).key()
}

/// The same for a post named by its address.
pub fn post_key_of(uri: &str) -> Option<Key> {
    let (did, collection, rkey) = split_uri(uri)?;
    (collection == posts::NSID && did.starts_with("did:")).then(|| post_key(did, rkey))
}

/// What was derived from the post at an address, or what it left behind. Nothing if neither was kept, as for a post
/// that is no reply and told nobody.
pub(crate) fn of(view: &View<'_>, uri: &str) -> Result<Option<PostRow>> {
    let Some(key) = post_key_of(uri) else { return Ok(None) };
    view.get(&key)?.map(|row| PostRow::read(&row)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_what_it_wrote() {
        let uri = |n: u8| format!("at://did:plc:{}/app.bsky.feed.post/3k{n}", "a".repeat(24));
        let did = format!("did:plc:{}", "b".repeat(24));
        let told = vec![(did.clone(), Reason::Mention, None), (did.clone(), Reason::Reply, Some(uri(1)))];
        let watch = |n| Watch { subject: uri(n), who: did.clone() };
        let plain = PostRow { reply: Some((uri(0), uri(1))), told: told.clone(), ..PostRow::default() };
        let watching = PostRow { watches: vec![watch(2), watch(3)], ..plain.clone() };
        let again = PostRow { gone_at_us: Some(-5), ..watching.clone() };
        let gone = PostRow {
            stands: false,
            gone_at_us: Some(1_748_779_200_000_001),
            mentions: vec![did.clone()],
            told: vec![],
            ..plain.clone()
        };
        let never_seen = PostRow { stands: false, known: false, gone_at_us: Some(7), ..PostRow::default() };
        for row in [plain, watching, again, gone, never_seen] {
            assert_eq!(PostRow::read(&row.write().unwrap()).unwrap(), row);
        }
        assert_eq!(PostRow::default().write(), None);
    }
}
