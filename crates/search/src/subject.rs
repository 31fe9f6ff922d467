//! What is found by words: posts, feed generators, starter packs, accounts.

use gp_index::{Result, atom, atom::Parts, generators, packs, placed::uri_of, posts, records, tables};
use gp_store::Key;

/// One thing that is found by words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    Post { did: String, rkey: String },
    Generator { did: String, rkey: String },
    Pack { did: String, rkey: String },
    Actor { did: String },
}

pub(crate) const POST: &str = "post";
pub(crate) const GENERATOR: &str = "generator";
pub(crate) const PACK: &str = "pack";
pub(crate) const ACTOR: &str = "actor";

/// The collection of profiles.
pub(crate) const PROFILE: &str = "app.bsky.actor.profile";

/// Collections whose records are found by words.
pub(crate) const COLLECTIONS: [&str; 3] = [posts::NSID, generators::NSID, packs::NSID];

impl Subject {
    /// What a record makes findable: itself, or for a profile its account.
    pub(crate) fn of_record(did: &str, collection: &str, rkey: &str) -> Option<Self> {
        let (did, rkey) = (did.to_owned(), rkey.to_owned());
        Some(match collection {
            posts::NSID => Self::Post { did, rkey },
            generators::NSID => Self::Generator { did, rkey },
            packs::NSID => Self::Pack { did, rkey },
            PROFILE if rkey == gp_index::profiles::SELF => Self::Actor { did },
            _ => return None,
        })
    }

    /// What counts on a subject make better known.
    pub(crate) fn of_uri(uri: &str) -> Option<Self> {
        if uri.starts_with("did:") {
            return Some(Self::Actor { did: uri.to_owned() });
        }
        let (did, collection, rkey) = gp_index::placed::split_uri(uri)?;
        if !did.starts_with("did:") || collection == PROFILE {
            return None;
        }
        Self::of_record(did, collection, rkey)
    }

    pub(crate) fn did(&self) -> &str {
        match self {
            Self::Post { did, .. } | Self::Generator { did, .. } | Self::Pack { did, .. } | Self::Actor { did } => did,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Post { .. } => POST,
            Self::Generator { .. } => GENERATOR,
            Self::Pack { .. } => PACK,
            Self::Actor { .. } => ACTOR,
        }
    }

    /// Repo, collection and key of a record.
    pub(crate) fn record(&self) -> Option<(&str, &'static str, &str)> {
        Some(match self {
            Self::Post { did, rkey } => (did, posts::NSID, rkey),
            Self::Generator { did, rkey } => (did, generators::NSID, rkey),
            Self::Pack { did, rkey } => (did, packs::NSID, rkey),
            Self::Actor { .. } => return None,
        })
    }

    /// The address, or the DID of an account.
    pub(crate) fn address(&self) -> String {
        match self.record() {
            Some((did, collection, rkey)) => uri_of(did, collection, rkey),
            None => self.did().to_owned(),
        }
    }

    /// The row that must stand for the subject to be found.
    pub(crate) fn key(&self) -> Key {
        match self.record() {
            Some((did, collection, rkey)) => records::key(did, collection, rkey),
            None => gp_index::actors::key(self.did()),
        }
    }

    /// The head that counts what was done to it.
    pub(crate) fn head(&self) -> Key {
        tables::on_head(&self.address())
    }

    /// Writes it into a list of subjects.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self.record() {
            Some((did, collection, rkey)) => write_record(&atom::did(did), &atom::path(collection, rkey), out),
            None => write_account(&atom::did(self.did()), out),
        }
    }

    /// Reads a list of subjects. One whose DID is too long to be kept in a key cannot be read back and is left out.
    /// Also says how many it named.
    pub(crate) fn read_all(table: &'static str, bytes: &[u8]) -> Result<(Vec<Self>, u64)> {
        let mut parts = Parts::of(table, bytes);
        let (mut out, mut named) = (Vec::new(), 0);
        while !parts.rest().is_empty() {
            named += 1;
            match parts.tag()? {
                RECORD => {
                    let (did, collection, rkey) = (parts.did()?, parts.nsid()?, parts.rkey()?);
                    out.extend(Self::of_record(&did, &collection, &rkey).filter(|_| !did.is_empty()));
                }
                ACCOUNT => out.extend(Some(parts.did()?).filter(|did| !did.is_empty()).map(|did| Self::Actor { did })),
                _ => return Err(gp_index::Error::Corrupt { table, what: "kind" }),
            }
        }
        Ok((out, named))
    }
}

/// Writes a record whose parts are packed already: its repo, and its collection and key.
pub(crate) fn write_record(did: &[u8], place: &[u8], out: &mut Vec<u8>) {
    out.push(RECORD);
    out.extend_from_slice(did);
    out.extend_from_slice(place);
}

/// Writes an account whose DID is packed already.
pub(crate) fn write_account(did: &[u8], out: &mut Vec<u8>) {
    out.push(ACCOUNT);
    out.extend_from_slice(did);
}

// On disk: never reused, never renumbered.
const RECORD: u8 = 1;
const ACCOUNT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_subjects_reads_as_it_was_written() {
        let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
        let all: Vec<Subject> = [posts::NSID, generators::NSID, packs::NSID]
            .iter()
            .flat_map(|nsid| ["3kabcdefghij2", "odd.key", "x"].map(|rkey| Subject::of_record(did, nsid, rkey).unwrap()))
            .chain([Subject::Actor { did: "did:web:example.com".into() }])
            .collect();
        let mut bytes = Vec::new();
        all.iter().for_each(|subject| subject.write(&mut bytes));
        assert_eq!(Subject::read_all("t", &bytes).unwrap(), (all.clone(), all.len() as u64));
        assert_eq!(all.iter().filter_map(|it| Subject::of_uri(&it.address())).collect::<Vec<_>>(), all);
        assert!(Subject::read_all("t", &[9]).is_err());
        assert!(Subject::read_all("t", &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_profile_makes_its_account_findable() {
        assert_eq!(Subject::of_record("did:web:a", PROFILE, "self"), Some(Subject::Actor { did: "did:web:a".into() }));
        assert_eq!(Subject::of_record("did:web:a", PROFILE, "other"), None);
        assert_eq!(Subject::of_record("did:web:a", "app.bsky.feed.like", "x"), None);
        assert_eq!(Subject::of_uri("at://handle.test/app.bsky.feed.post/x"), None);
    }
}
