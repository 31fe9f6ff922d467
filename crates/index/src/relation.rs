//! Relations: at most one claim of an account to a relation stands, however many records claim it.
//!
//! All claims of `(account, relation, subject)` are kept in one row of `by`, oldest first; the first one stands. When
//! it goes, the next one takes its place, with all its rows, as often as there are claims (ingest 6.7).

use bytes::Bytes;
use gp_store::{Key, View};

use crate::{
    Result,
    apply::Stood,
    atom,
    atom::{Atom, Parts},
    counts::Deltas,
    gates, past,
    placed::Placed,
    records::{self, RecordRow},
    rows::{self, Rows},
    tables::{self, BY, by},
};

/// The relations. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Relation {
    /// Like of a subject.
    Like = 1,
    /// Repost of a subject.
    Repost = 2,
    /// Follow of an account.
    Follow = 3,
    /// Block of an account.
    Block = 4,
    /// Block of everybody on a list.
    ListBlock = 5,
    /// Membership of an account in a list.
    ListItem = 6,
    /// Verification of an account.
    Verification = 7,
    /// Wish to be left out of a list's public face.
    OptOut = 8,
}

/// How one relation's records are read and turned into rows. One constant in each subject's file.
pub struct Shape {
    /// Which relation.
    pub relation: Relation,
    /// Its collection.
    pub collection: &'static str,
    /// What the record relates its author to; `None` if the record establishes no relation.
    pub subject: fn(&Placed<'_>) -> Option<Atom>,
    /// The rows of the claim that stands. Pure.
    pub rows: fn(&Placed<'_>, &mut Rows),
    /// Whether the next claim takes the place of one that goes.
    pub promotes: bool,
    /// The subject and the account that gates ask about, if this relation is one that they ask about (ingest 7.4).
    pub asked: Option<fn(&Placed<'_>) -> Option<(String, String)>>,
}

/// One claim: its record key and when the record was first indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The record that claims.
    pub rkey: String,
    /// Order among claims, in microseconds.
    pub first_indexed_at_us: i64,
}

/// The place of the claims of an account to a relation with a subject.
pub fn claims_key(did: &str, relation: Relation, subject: &[u8]) -> Key {
    tables::by_actor(did, by::CLAIM).tag(relation as u8).atom(subject).key()
}

/// Reads claims, oldest first.
pub fn read_claims(stored: Option<&Bytes>) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let Some(stored) = stored else { return Ok(claims) };
    let mut parts = Parts::of(BY.name, stored);
    while !parts.rest().is_empty() {
        let rkey = parts.rkey()?;
        let first_indexed_at_us = parts.micros_desc()?;
        claims.push(Claim { rkey, first_indexed_at_us });
    }
    Ok(claims)
}

/// The record key of the claim that stands, without reading the others.
pub fn standing_rkey(stored: &Bytes) -> Result<String> {
    Parts::of(BY.name, stored).rkey()
}

fn write_claims(claims: &[Claim]) -> Vec<u8> {
    let mut out = Vec::with_capacity(claims.len() * 18);
    for claim in claims {
        out.extend_from_slice(&atom::rkey(&claim.rkey));
        out.extend_from_slice(&atom::micros_desc(claim.first_indexed_at_us));
    }
    out
}

/// Applies a change of one record of a relation: `old` stood at this record key before, `new` stands after.
pub fn apply(view: &mut View<'_>, shape: &Shape, stood: &Stood<'_>, deltas: &mut Deltas) -> Result<Changed> {
    let (did, rkey) = (stood.did, stood.rkey);
    let subject_of = |it: Option<&Placed<'_>>| it.and_then(|it| (shape.subject)(it));
    let (old_subject, new_subject) = (subject_of(stood.old), subject_of(stood.new));
    let mut changed = Changed::default();
    // A record that moves to another subject leaves one set of claims and enters another.
    let mut subjects: Vec<&Atom> = old_subject.iter().collect();
    if let Some(new) = &new_subject
        && old_subject.as_ref() != Some(new)
    {
        subjects.push(new);
    }
    for subject in subjects {
        let place = claims_key(did, shape.relation, subject);
        let before = read_claims(view.get(&place)?.as_ref())?;
        let mut after = before.clone();
        let stays = new_subject.as_ref() == Some(subject);
        if !stays {
            after.retain(|c| c.rkey != rkey);
            if !shape.promotes && before.first().is_some_and(|c| c.rkey == rkey) {
                after.clear();
            }
        } else if !after.iter().any(|c| c.rkey == rkey)
            && let Some(new) = stood.new
            && (shape.promotes || after.is_empty())
        {
            let claim = Claim { rkey: rkey.to_owned(), first_indexed_at_us: new.first_indexed_at_us };
            let at =
                after.partition_point(|c| (c.first_indexed_at_us, &c.rkey) < (claim.first_indexed_at_us, &claim.rkey));
            // The claim that stands keeps standing while it lives, even beside one that was indexed with an earlier time.
            after.insert(if before.is_empty() { at } else { at.max(1) }, claim);
        }
        let standing_before = before.first().map(|c| c.rkey.as_str());
        let standing_after = after.first().map(|c| c.rkey.as_str());
        if before != after {
            if after.is_empty() {
                view.delete(place);
            } else {
                view.put(place, write_claims(&after));
            }
        }
        tell_gates(view, shape, stood, subject, stays, deltas)?;
        let touches_standing = standing_before != standing_after || standing_after == Some(rkey);
        if !touches_standing {
            continue;
        }
        let rows_before = rows_of(view, shape, did, standing_before, rkey, stood.old)?;
        let rows_after = rows_of(view, shape, did, standing_after, rkey, stood.new)?;
        rows::change(view, &rows_before, &rows_after, deltas)?;
        crate::notifications::change(view, &rows_before.notices, &rows_after.notices)?;
        changed.born |= standing_before.is_none() && standing_after.is_some();
        changed.gone |= standing_before.is_some() && standing_before != standing_after;
    }
    Ok(changed)
}

/// Remembers a claim that ends, and has the replies looked at again whose gate asks about the relation and that were
/// made since it changed.
fn tell_gates(
    view: &mut View<'_>,
    shape: &Shape,
    stood: &Stood<'_>,
    subject: &Atom,
    stays: bool,
    deltas: &mut Deltas,
) -> Result<()> {
    let Some(asked) = shape.asked else { return Ok(()) };
    let is_old = stood.old.filter(|old| (shape.subject)(old).as_ref() == Some(subject));
    let (it, since_us) = match (is_old, stood.new.filter(|_| stays)) {
        (None, Some(new)) => (new, new.indexed_at_us),
        (Some(old), None) => (old, stood.time_us),
        (Some(old), Some(new)) => (new, old.indexed_at_us.min(new.indexed_at_us)),
        (None, None) => return Ok(()),
    };
    // Whom a deleted account followed or listed is forgotten with it.
    if let Some(old) = is_old
        && !stood.with_account()
        && !stood.comes_again()
    {
        past::remember(view, shape.relation, subject, old, stood.time_us)?;
    }
    match asked(it) {
        Some((subject, who)) => gates::look_again_at(view, deltas, &subject, &who, since_us),
        None => Ok(()),
    }
}

/// What happened to a relation.
#[derive(Debug, Default, Clone, Copy)]
pub struct Changed {
    /// A relation that did not exist now does.
    pub born: bool,
    /// The claim that stood no longer stands.
    pub gone: bool,
}

/// The rows of the claim that stands: of the record in hand, or of another record of the same repo.
fn rows_of(
    view: &View<'_>,
    shape: &Shape,
    did: &str,
    standing: Option<&str>,
    in_hand: &str,
    record: Option<&Placed<'_>>,
) -> Result<Rows> {
    let mut rows = Rows::none();
    match standing {
        None => {}
        Some(rkey) if rkey == in_hand => {
            if let Some(it) = record {
                (shape.rows)(it, &mut rows);
            }
        }
        Some(rkey) => {
            if let Some(stored) = view.get(&records::key(did, shape.collection, rkey))? {
                let row = RecordRow::read(&stored)?;
                let value = row.value()?;
                let it = Placed::new(
                    did,
                    shape.collection,
                    rkey,
                    row.cid(),
                    &value,
                    row.indexed_at_us,
                    row.first_indexed_at_us,
                );
                (shape.rows)(&it, &mut rows);
            }
        }
    }
    Ok(rows)
}
