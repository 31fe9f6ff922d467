//! Takedowns by this service, kept by subject whether the subject exists or not.

use bytes::Bytes;
use gp_store::{Key, View};

use crate::{Result, atom, records, records::Flags, tables::TAKEDOWN};

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

/// The place of the takedown of a blob.
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
