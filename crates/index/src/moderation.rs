//! Takedowns by this service, kept by subject whether the subject exists or not.

use bytes::Bytes;
use gp_proto as proto;
use gp_store::{Key, View};

use crate::{Cx, Error, Result, actors, atom, records, records::Flags, tables::TAKEDOWN};

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

/// Longest CID of a blob that is taken; the longest real ones have 110 characters.
const CID_CHARS_MAX: usize = 256;

fn an_account(did: &str) -> Result<()> {
    if gp_atproto::did::is_valid(did) { Ok(()) } else { Err(Error::invalid("did", "is not a DID")) }
}

fn a_record(uri: &str) -> Result<()> {
    if records::key_of(uri).is_some() {
        Ok(())
    } else {
        Err(Error::invalid("record_uri", "is not the address of a record: at://<did>/<collection>/<rkey>"))
    }
}

fn is_cid(cid: &str) -> bool {
    (1..=CID_CHARS_MAX).contains(&cid.len())
}

/// The account and CID of a blob. Without a CID it would be the takedown of the whole account.
fn a_blob(did: &str, cid: &str) -> Result<()> {
    an_account(did)?;
    if is_cid(cid) { Ok(()) } else { Err(Error::invalid("cid", "must have 1 to 256 characters")) }
}

/// The place of the takedown of a blob. Its CID must not be empty.
pub fn key_of_blob(did: &str, cid: &str) -> Key {
    Key::of(&TAKEDOWN).atom(&atom::did(did)).cluster().atom(cid.as_bytes()).key()
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
    if !is_cid(&req.cid) {
        return Ok(proto::GetBlobTakedownResponse::default());
    }
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
    an_account(&req.did)?;
    cx.writer
        .run(move |view| set(view, key_of_subject(&req.did), None, Some(&req.r#ref), seen(req.seen.as_ref())))
        .await
        .map(|()| proto::TakedownActorResponse {})
}

/// Undoes the takedown of an account.
pub async fn untakedown_actor(cx: &Cx, req: proto::UntakedownActorRequest) -> Result<proto::UntakedownActorResponse> {
    an_account(&req.did)?;
    cx.writer
        .run(move |view| set(view, key_of_subject(&req.did), None, None, seen(req.seen.as_ref())))
        .await
        .map(|()| proto::UntakedownActorResponse {})
}

/// Takes a record down, indexed or not.
pub async fn takedown_record(cx: &Cx, req: proto::TakedownRecordRequest) -> Result<proto::TakedownRecordResponse> {
    a_record(&req.record_uri)?;
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
    a_record(&req.record_uri)?;
    cx.writer
        .run(move |view| {
            set(view, key_of_subject(&req.record_uri), Some(&req.record_uri), None, seen(req.seen.as_ref()))
        })
        .await
        .map(|()| proto::UntakedownRecordResponse {})
}

/// Takes a blob of an account down.
pub async fn takedown_blob(cx: &Cx, req: proto::TakedownBlobRequest) -> Result<proto::TakedownBlobResponse> {
    a_blob(&req.did, &req.cid)?;
    cx.writer
        .run(move |view| set(view, key_of_blob(&req.did, &req.cid), None, Some(&req.r#ref), seen(req.seen.as_ref())))
        .await
        .map(|()| proto::TakedownBlobResponse {})
}

/// Undoes the takedown of a blob.
pub async fn untakedown_blob(cx: &Cx, req: proto::UntakedownBlobRequest) -> Result<proto::UntakedownBlobResponse> {
    a_blob(&req.did, &req.cid)?;
    cx.writer
        .run(move |view| set(view, key_of_blob(&req.did, &req.cid), None, None, seen(req.seen.as_ref())))
        .await
        .map(|()| proto::UntakedownBlobResponse {})
}

/// What the host of an account says of it, from a caller that knows. An account never seen stays unknown. An inactive
/// account without a word why is hidden, as by an event of the stream.
pub async fn update_actor_upstream_status(
    cx: &Cx,
    req: proto::UpdateActorUpstreamStatusRequest,
) -> Result<proto::UpdateActorUpstreamStatusResponse> {
    cx.writer
        .run(move |view| {
            if let Some(mut row) = actors::row(view, &req.actor_did)? {
                row.upstream_status = match req.upstream_status {
                    _ if req.active => String::new(),
                    status if status.is_empty() => "deactivated".to_owned(),
                    status => status,
                };
                actors::put(view, &req.actor_did, &row);
            }
            Ok(proto::UpdateActorUpstreamStatusResponse {})
        })
        .await
}

#[cfg(test)]
#[path = "moderation_tests.rs"]
mod tests;
