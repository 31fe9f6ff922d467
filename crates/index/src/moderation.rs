//! Takedowns by this service, kept by subject whether the subject exists or not.

use bytes::Bytes;
use gp_proto as proto;
use gp_store::{Key, View};

use crate::{Cx, Result, actors, atom, records, records::Flags, tables::TAKEDOWN};

/// Longest text of a CID, as the validator of the reference has it.
const CID_TEXT_BYTES_MAX: usize = 128;

/// Reference stored when a takedown names none.
const DEFAULT_REFERENCE: &str = "TAKEDOWN";

/// One takedown, or the undoing of one, which is kept so that a later word about an earlier time cannot win.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TakedownRow {
    /// The reference; empty when the subject is not taken down.
    #[prost(string, tag = "1")]
    pub reference: String,
    /// When the moderator saw the subject, in microseconds; 0 if not told.
    #[prost(int64, tag = "2")]
    pub seen_us: i64,
}

/// The place of the takedown of a record or of an account.
pub fn key_of_subject(subject: &str) -> Key {
    Key::of(&TAKEDOWN).atom(&atom::uri(subject)).key()
}

/// The place of the takedown of a blob. What is too long for a CID has a place as well, the digest of its text: a call
/// may name anything, and a key has a bound.
pub fn key_of_blob(did: &str, cid: &str) -> Key {
    let place = Key::of(&TAKEDOWN).atom(&atom::did(did)).cluster();
    if cid.len() <= CID_TEXT_BYTES_MAX { place.atom(cid.as_bytes()).key() } else { place.atom(&atom::uri(cid)).key() }
}

/// The reference of a stored takedown; empty when it was undone.
pub fn reference(stored: &Bytes) -> String {
    prost::Message::decode(stored.clone()).map(|row: TakedownRow| row.reference).unwrap_or_default()
}

/// Takes a subject down (`reference` given) or undoes it. The latest `seen` wins; without one, the latest word.
pub fn set(view: &mut View<'_>, key: Key, record: Option<&str>, reference: Option<&str>, seen_us: i64) -> Result<()> {
    if let Some(stored) = view.get(&key)? {
        let row: TakedownRow = prost::Message::decode(stored).unwrap_or_default();
        if seen_us != 0 && row.seen_us > seen_us {
            return Ok(());
        }
    }
    let reference = reference.map(|r| if r.is_empty() { DEFAULT_REFERENCE } else { r });
    let row = TakedownRow { reference: reference.unwrap_or_default().to_owned(), seen_us };
    view.put(key, prost::Message::encode_to_vec(&row));
    match record.and_then(records::key_of) {
        Some(place) => records::set_flag(view, &place, Flags::TAKEN_DOWN, reference.is_some()),
        None => Ok(()),
    }
}

/// Whether a subject is taken down now.
pub fn is_taken_down(view: &View<'_>, subject: &str) -> Result<bool> {
    Ok(view.get(&key_of_subject(subject))?.is_some_and(|stored| !reference(&stored).is_empty()))
}

fn answer(stored: Option<&Bytes>) -> (bool, String) {
    let reference = stored.map(reference).unwrap_or_default();
    (!reference.is_empty(), reference)
}

/// Whether a blob of an account is taken down.
pub async fn get_blob_takedown(cx: &Cx, req: proto::GetBlobTakedownRequest) -> Result<proto::GetBlobTakedownResponse> {
    let stored = cx.store.get_one(&key_of_blob(&req.did, &req.cid)).await?;
    let (taken_down, takedown_ref) = answer(stored.as_ref());
    Ok(proto::GetBlobTakedownResponse { taken_down, takedown_ref })
}

/// Whether a record is taken down.
pub async fn get_record_takedown(
    cx: &Cx,
    req: proto::GetRecordTakedownRequest,
) -> Result<proto::GetRecordTakedownResponse> {
    let stored = cx.store.get_one(&key_of_subject(&req.record_uri)).await?;
    let (taken_down, takedown_ref) = answer(stored.as_ref());
    Ok(proto::GetRecordTakedownResponse { taken_down, takedown_ref })
}

/// Whether an account is taken down by this service.
pub async fn get_actor_takedown(
    cx: &Cx,
    req: proto::GetActorTakedownRequest,
) -> Result<proto::GetActorTakedownResponse> {
    let stored = cx.store.get_one(&key_of_subject(&req.did)).await?;
    let (taken_down, takedown_ref) = answer(stored.as_ref());
    Ok(proto::GetActorTakedownResponse { taken_down, takedown_ref })
}

fn seen(at: Option<&proto::Timestamp>) -> i64 {
    at.map_or(0, records::micros)
}

/// Takes an account down, seen before or not.
pub async fn takedown_actor(cx: &Cx, req: proto::TakedownActorRequest) -> Result<proto::TakedownActorResponse> {
    cx.writer
        .run(move |view| set(view, key_of_subject(&req.did), None, Some(&req.r#ref), seen(req.seen.as_ref())))
        .await
        .map(|()| proto::TakedownActorResponse {})
}

/// Undoes the takedown of an account.
pub async fn untakedown_actor(cx: &Cx, req: proto::UntakedownActorRequest) -> Result<proto::UntakedownActorResponse> {
    cx.writer
        .run(move |view| set(view, key_of_subject(&req.did), None, None, seen(req.seen.as_ref())))
        .await
        .map(|()| proto::UntakedownActorResponse {})
}

/// Takes a record down, indexed or not.
pub async fn takedown_record(cx: &Cx, req: proto::TakedownRecordRequest) -> Result<proto::TakedownRecordResponse> {
    cx.writer
        .run(move |view| {
            set(view, key_of_subject(&req.record_uri), Some(&req.record_uri), Some(&req.r#ref), seen(req.seen.as_ref()))
        })
        .await
        .map(|()| proto::TakedownRecordResponse {})
}

/// Undoes the takedown of a record.
pub async fn untakedown_record(
    cx: &Cx,
    req: proto::UntakedownRecordRequest,
) -> Result<proto::UntakedownRecordResponse> {
    cx.writer
        .run(move |view| {
            set(view, key_of_subject(&req.record_uri), Some(&req.record_uri), None, seen(req.seen.as_ref()))
        })
        .await
        .map(|()| proto::UntakedownRecordResponse {})
}

/// Takes a blob of an account down.
pub async fn takedown_blob(cx: &Cx, req: proto::TakedownBlobRequest) -> Result<proto::TakedownBlobResponse> {
    cx.writer
        .run(move |view| set(view, key_of_blob(&req.did, &req.cid), None, Some(&req.r#ref), seen(req.seen.as_ref())))
        .await
        .map(|()| proto::TakedownBlobResponse {})
}

/// Undoes the takedown of a blob.
pub async fn untakedown_blob(cx: &Cx, req: proto::UntakedownBlobRequest) -> Result<proto::UntakedownBlobResponse> {
    cx.writer
        .run(move |view| set(view, key_of_blob(&req.did, &req.cid), None, None, seen(req.seen.as_ref())))
        .await
        .map(|()| proto::UntakedownBlobResponse {})
}

/// What the host of an account says of it, from a caller that knows. An account never seen stays unknown.
pub async fn update_actor_upstream_status(
    cx: &Cx,
    req: proto::UpdateActorUpstreamStatusRequest,
) -> Result<proto::UpdateActorUpstreamStatusResponse> {
    cx.writer
        .run(move |view| {
            if let Some(mut row) = actors::row(view, &req.actor_did)? {
                row.upstream_status = if req.active { String::new() } else { req.upstream_status };
                actors::put(view, &req.actor_did, &row);
            }
            Ok(proto::UpdateActorUpstreamStatusResponse {})
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, did};

    #[tokio::test]
    async fn a_blob_named_by_a_text_of_any_length_is_taken_down_and_no_other() {
        let world = World::new();
        let did = did("owner");
        for cid in ["x".repeat(70_000), "bafkrei".to_owned(), String::new()] {
            let asked = || proto::GetBlobTakedownRequest { did: did.clone(), cid: cid.clone() };
            assert!(!get_blob_takedown(&world.cx, asked()).await.unwrap().taken_down);
            let request = proto::TakedownBlobRequest { did: did.clone(), cid: cid.clone(), ..Default::default() };
            takedown_blob(&world.cx, request).await.unwrap();
            assert!(get_blob_takedown(&world.cx, asked()).await.unwrap().taken_down);
            let longer = proto::GetBlobTakedownRequest { did: did.clone(), cid: format!("{cid}y") };
            assert!(!get_blob_takedown(&world.cx, longer).await.unwrap().taken_down);
            let request = proto::UntakedownBlobRequest { did: did.clone(), cid: cid.clone(), seen: None };
            untakedown_blob(&world.cx, request).await.unwrap();
            assert!(!get_blob_takedown(&world.cx, asked()).await.unwrap().taken_down);
        }
    }
}
