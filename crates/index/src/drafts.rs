//! Drafts.

use gp_proto as proto;
use gp_store::{Key, View};

use crate::{
    Cx, Error, Result, atom,
    atom::Parts,
    counts::{Deltas, PrivateCount},
    page,
    placed::cut_to_ms,
    private::time,
    tables::{self, PRIVATE, private},
};
use gp_atproto::datetime;

#[derive(Clone, PartialEq, prost::Message)]
struct DraftRow {
    #[prost(int64, tag = "1")]
    created_at_us: i64,
    #[prost(int64, tag = "2")]
    updated_at_us: i64,
    #[prost(string, tag = "3")]
    payload: String,
}

fn read(stored: &[u8]) -> Result<DraftRow> {
    prost::Message::decode(stored).map_err(|_| Error::Corrupt { table: PRIVATE.name, what: "draft" })
}

fn by_key(actor: &str, key: &str) -> Key {
    tables::private_of(actor, private::DRAFT).atom(&atom::rkey(key)).key()
}

fn by_time(actor: &str, key: &str, at_us: i64) -> Key {
    tables::private_of(actor, private::DRAFT_BY_TIME).micros_desc(at_us).atom(&atom::rkey(key)).key()
}

/// Keeps a draft. A change of one that is not there makes none: that would get around the limit on their number.
pub(crate) fn put(
    view: &mut View<'_>,
    actor: &str,
    key: &str,
    create: bool,
    payload: &str,
    time_us: i64,
) -> Result<()> {
    let now = cut_to_ms(time_us);
    let place = by_key(actor, key);
    let stored = view.get(&place)?.as_deref().map(read).transpose()?;
    let created_at_us = match &stored {
        // A second creation is the same creation told again.
        Some(_) if create => return Ok(()),
        None if !create => return Ok(()),
        Some(old) => {
            view.delete(by_time(actor, key, old.updated_at_us));
            old.created_at_us
        }
        None => {
            count(view, actor, 1)?;
            now
        }
    };
    let row = DraftRow { created_at_us, updated_at_us: now, payload: payload.to_owned() };
    view.put(place, prost::Message::encode_to_vec(&row));
    view.put(by_time(actor, key, now), "");
    Ok(())
}

/// Forgets a draft.
pub(crate) fn remove(view: &mut View<'_>, actor: &str, key: &str) -> Result<()> {
    let place = by_key(actor, key);
    let Some(stored) = view.get(&place)? else { return Ok(()) };
    view.delete(by_time(actor, key, read(&stored)?.updated_at_us));
    view.delete(place);
    count(view, actor, -1)
}

fn count(view: &mut View<'_>, actor: &str, delta: i64) -> Result<()> {
    let mut deltas = Deltas::default();
    deltas.add(tables::private_head(actor), PrivateCount::Drafts as u8, delta);
    deltas.apply(view)
}

/// Drafts of an account, latest change first.
pub async fn get_actor_drafts(cx: &Cx, req: proto::GetActorDraftsRequest) -> Result<proto::GetActorDraftsResponse> {
    let n = page::limit(req.limit);
    let mut scan = tables::scan_private(&req.actor_did, private::DRAFT_BY_TIME);
    if !req.cursor.is_empty() {
        let malformed = || Error::invalid("cursor", "is not a token this call gave: leave it out to begin again");
        let (date, key) =
            req.cursor.split_once("__").map_or((req.cursor.as_str(), None), |(date, key)| (date, Some(key)));
        let at = cut_to_ms(datetime::parse_micros_lenient(date).ok_or_else(malformed)?);
        scan = match key {
            Some(key) => scan.after(by_time(&req.actor_did, key, at).clustering().to_vec()),
            // Strictly older: from the beginning of the millisecond before.
            None => {
                let key = tables::private_of(&req.actor_did, private::DRAFT_BY_TIME).micros_desc(at - 1000).key();
                scan.from(key.clustering().to_vec())
            }
        };
    }
    if n == 0 {
        return Ok(proto::GetActorDraftsResponse::default());
    }
    let rows = cx.store.scan(scan.limit(n + 1)).await?.rows;
    let mut places = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut parts = Parts::of(PRIVATE.name, &row.clustering()[1..]);
        places.push((parts.micros_desc()?, parts.rkey()?));
    }
    let cursor = match (places.get(n.saturating_sub(1)), places.get(n)) {
        (Some((at, key)), Some((next, _))) if at == next => format!("{}__{key}", datetime::format_ms(*at)),
        (Some((at, _)), Some(_)) => datetime::format_ms(*at),
        _ => String::new(),
    };
    places.truncate(n);
    let keys: Vec<Key> = places.iter().map(|(_, key)| by_key(&req.actor_did, key)).collect();
    let mut drafts = Vec::with_capacity(places.len());
    for ((_, key), stored) in places.into_iter().zip(cx.store.get(&keys).await?) {
        let Some(row) = stored.as_deref().map(read).transpose()? else { continue };
        drafts.push(proto::DraftInfo {
            key,
            created_at: Some(time(row.created_at_us)),
            updated_at: Some(time(row.updated_at_us)),
            payload: row.payload.into_bytes().into(),
        });
    }
    Ok(proto::GetActorDraftsResponse { drafts, cursor })
}

#[cfg(test)]
#[path = "drafts_tests.rs"]
mod tests;
