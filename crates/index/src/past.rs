//! What stood at an earlier time: relations that have ended, and gates that were replaced.
//!
//! A gate is asked who was followed, who was on a list and what it said itself when a reply was made. The reply may
//! come after all of that has changed, and must get the answer it would have got in time (INV-5). What an account did
//! is forgotten with the account.

use bytes::Bytes;
use gp_store::{Key, View};

use crate::{
    Error, Result, atom,
    atom::Parts,
    counts::{Deltas, Head, OnCount},
    placed::{Placed, split_uri},
    records::{self, RecordRow},
    relation::{self, Relation, Shape},
    tables::{self, BY, ON, by},
};

/// Times that a relation stood and ended that are kept; the oldest are forgotten first.
const PERIODS_KEPT_MAX: usize = 16;

/// Replaced versions of one gate that are kept; the oldest are forgotten first.
const VERSIONS_KEPT_MAX: usize = 64;

/// Claims to one relation that are asked when they began.
const CLAIMS_READ_MAX: usize = 8;

fn periods_key(did: &str, relation: Relation, subject: &[u8]) -> Key {
    tables::by_actor(did, by::ENDED).tag(relation as u8).atom(subject).key()
}

fn read_periods(stored: Option<&Bytes>) -> Result<Vec<(i64, i64)>> {
    let mut periods = Vec::new();
    let Some(stored) = stored else { return Ok(periods) };
    let mut parts = Parts::of(BY.name, stored);
    while !parts.rest().is_empty() {
        periods.push((parts.micros_desc()?, parts.micros_desc()?));
    }
    Ok(periods)
}

/// Remembers that a claim stood until just before `until_us`.
pub(crate) fn remember(
    view: &mut View<'_>,
    relation: Relation,
    subject: &[u8],
    old: &Placed<'_>,
    until_us: i64,
) -> Result<()> {
    let from_us = old.indexed_at_us;
    if until_us <= from_us {
        return Ok(());
    }
    let place = periods_key(old.did, relation, subject);
    let mut periods = read_periods(view.get(&place)?.as_ref())?;
    periods.push((from_us, until_us));
    let kept = merged(periods);
    let bytes: Vec<u8> =
        kept.iter().flat_map(|(from, until)| [atom::micros_desc(*from), atom::micros_desc(*until)]).flatten().collect();
    view.put(place, bytes);
    Ok(())
}

/// Periods in order, without overlaps, the latest of them.
fn merged(mut periods: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    periods.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::with_capacity(periods.len());
    for (from, until) in periods {
        match out.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => out.push((from, until)),
        }
    }
    let surplus = out.len().saturating_sub(PERIODS_KEPT_MAX);
    out.drain(..surplus);
    out
}

/// Whether an account stood in a relation to a subject at a time.
pub(crate) fn stood_at(view: &View<'_>, shape: &Shape, did: &str, subject: &[u8], time_us: i64) -> Result<bool> {
    let claims = relation::read_claims(view.get(&relation::claims_key(did, shape.relation, subject))?.as_ref())?;
    for claim in claims.iter().take(CLAIMS_READ_MAX) {
        let Some(stored) = view.get(&records::key(did, shape.collection, &claim.rkey))? else { continue };
        if RecordRow::read(&stored)?.indexed_at_us <= time_us {
            return Ok(true);
        }
    }
    let periods = read_periods(view.get(&periods_key(did, shape.relation, subject))?.as_ref())?;
    Ok(periods.iter().any(|(from, until)| (*from..*until).contains(&time_us)))
}

/// A replaced version of a gate.
struct Version {
    key: Key,
    from_us: i64,
    until_us: i64,
    block: Bytes,
}

/// The replaced versions of a gate of a post, the last one first.
fn versions(view: &View<'_>, post: &str, kind: u8) -> Result<Vec<Version>> {
    let head = Head::read(view.get(&tables::on_head(post))?.as_ref());
    if head.get(OnCount::GateVersions as u8) == 0 {
        return Ok(Vec::new());
    }
    let page = view.scan(&tables::scan_on(post, kind).limit(VERSIONS_KEPT_MAX + 1))?;
    page.rows
        .into_iter()
        .map(|row| {
            let until_us = Parts::of(ON.name, &row.clustering()[1..]).micros_desc()?;
            let mut parts = Parts::of(ON.name, &row.value);
            let from_us = parts.micros_desc()?;
            let block = row.value.slice(row.value.len() - parts.rest().len()..);
            Ok(Version { key: row.key, from_us, until_us, block })
        })
        .collect()
}

/// Keeps a version of a gate that is replaced or deleted at `until_us`.
pub(crate) fn keep_gate(
    view: &mut View<'_>,
    post: &str,
    kind: u8,
    old: &Placed<'_>,
    block: &Bytes,
    until_us: i64,
) -> Result<()> {
    let kept = versions(view, post, kind)?;
    let from_us = old.indexed_at_us;
    if until_us <= from_us {
        return Ok(());
    }
    let mut deltas = Deltas::default();
    let (head, cell) = (tables::on_head(post), OnCount::GateVersions as u8);
    let place = tables::on_subject(post, kind).micros_desc(until_us).key();
    if view.get(&place)?.is_none() {
        deltas.add(head.clone(), cell, 1);
        if kept.len() >= VERSIONS_KEPT_MAX
            && let Some(oldest) = kept.last()
        {
            view.delete(oldest.key.clone());
            deltas.add(head, cell, -1);
        }
    }
    let mut value = atom::micros_desc(from_us).to_vec();
    value.extend_from_slice(block);
    view.put(place, value);
    // What is looked at again asks the head at once.
    deltas.apply(view)
}

/// The block of the gate that held for a post at a time. `collection` is the gate's, `kind` where its replaced
/// versions are.
pub(crate) fn gate_at(view: &View<'_>, post: &str, collection: &str, kind: u8, time_us: i64) -> Result<Option<Bytes>> {
    let Some((did, found, rkey)) = split_uri(post) else { return Ok(None) };
    if found != crate::posts::NSID {
        return Ok(None);
    }
    let stored = view.get(&records::key(did, collection, rkey))?.map(|row| RecordRow::read(&row)).transpose()?;
    if let Some(row) = stored
        && row.indexed_at_us <= time_us
    {
        return Ok(Some(row.block));
    }
    let mut replaced = versions(view, post, kind)?.into_iter();
    let held = replaced.find(|version| (version.from_us..version.until_us).contains(&time_us));
    Ok(held.map(|version| version.block))
}

/// Reads a kept block.
pub(crate) fn decoded(block: &Bytes) -> Result<gp_atproto::Value<'_>> {
    gp_atproto::cbor::decode(block).map_err(|_| Error::Corrupt { table: "record", what: "block" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_merged_and_the_latest_are_kept() {
        assert_eq!(merged(vec![(5, 7), (1, 3), (3, 4), (6, 9), (1, 2)]), [(1, 4), (5, 9)]);
        let many: Vec<(i64, i64)> = (0..40).map(|n| (n * 10, n * 10 + 5)).collect();
        let kept = merged(many);
        assert_eq!((kept.len(), kept[0]), (PERIODS_KEPT_MAX, (240, 245)));
    }
}
