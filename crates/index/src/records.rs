//! Records as their repos signed them, and the calls that look them up.
//!
//! A row keeps the record's DAG-CBOR block, not JSON: it is smaller, and its hash is the record's CID, which therefore
//! need not be stored. Of most records it keeps even less: see [`crate::rebuilt`]. What leaves is made once per cached
//! row by [`served`].

use bytes::{Buf as _, BufMut, Bytes, BytesMut};
use gp_atproto::{Cid, Value, cbor, compact, datetime, json};
use gp_proto as proto;
use gp_store::{Key, View};
use prost::Message;

use crate::{
    Cx, Error, Result, atom, moderation,
    placed::{cut_to_ms, split_uri},
    rebuilt,
    tables::{RECORD, TAGS},
};

/// Versions of the row's layout. On disk: never reused, never renumbered.
mod layout {
    /// Layout, flags, time of this version, time of the first version, and the block.
    pub(super) const WHOLE: u8 = 1;
    /// The same with cells in place of the block, and without the flags, which are all clear, and the time of the first
    /// version, which is this one's.
    pub(super) const CELLS: u8 = 2;
    /// The same with cells in place of the block.
    pub(super) const CELLS_AND_MORE: u8 = 3;
}

/// Layout, flags, time of this version, time of the first version.
const HEADER_BYTES: usize = 1 + 2 + 8 + 8;

/// Layout, time of this version.
const SHORT_HEADER_BYTES: usize = 1 + 8;

/// Room for the cells of most records that have some.
const CELLS_BYTES: usize = 160;

/// What is known about a record beside its content. The bits are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// Taken down by this service; the reference is in `takedown`.
    pub const TAKEN_DOWN: u16 = 1;
    // 1 << 1 was kept for replies whose parent is missing or in another thread. No answer tells it.
    /// A reply that broke the gate of its thread.
    pub const VIOLATES_THREAD_GATE: u16 = 1 << 2;
    /// A quote that broke the rules of the quoted post.
    pub const VIOLATES_EMBEDDING: u16 = 1 << 3;
    /// A thread gate for this post exists.
    pub const HAS_THREAD_GATE: u16 = 1 << 4;
    /// A post gate for this post exists.
    pub const HAS_POST_GATE: u16 = 1 << 5;
    /// A post with a parent.
    pub const IS_REPLY: u16 = 1 << 6;
    /// A post with pictures.
    pub const HAS_MEDIA: u16 = 1 << 7;
    /// A post with a video.
    pub const HAS_VIDEO: u16 = 1 << 8;
    /// The operator has put tags on it; they are in `tags`.
    pub const TAGGED: u16 = 1 << 9;
    /// A post that quotes a record.
    pub const IS_QUOTE: u16 = 1 << 10;
    /// It names, where the AppView takes a DID from it, an address whose authority is a handle.
    pub const HANDLE_AUTHORITY: u16 = 1 << 11;

    /// Whether a bit is set.
    pub fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    /// Sets or clears a bit.
    pub fn set(&mut self, bit: u16, on: bool) {
        if on {
            self.0 |= bit;
        } else {
            self.0 &= !bit;
        }
    }
}

/// A stored record.
#[derive(Debug, Clone)]
pub struct RecordRow {
    /// What is known beside the content.
    pub flags: Flags,
    /// When this version was indexed, in microseconds.
    pub indexed_at_us: i64,
    /// When the record was first indexed.
    pub first_indexed_at_us: i64,
    /// The record's block.
    pub block: Bytes,
}

impl RecordRow {
    /// Reads a row of any layout there has been.
    pub fn read(stored: &Bytes) -> Result<Self> {
        let corrupt = |what| Error::Corrupt { table: RECORD.name, what };
        let layout = *stored.first().ok_or(corrupt("layout"))?;
        let at = |from: usize| {
            let bytes = stored.get(from..).and_then(|bytes| bytes.first_chunk::<8>());
            bytes.map(|b| i64::from_be_bytes(*b)).ok_or(corrupt("time"))
        };
        let rebuilt = |from: usize| rebuilt::unpack(&stored[from..]).ok_or(corrupt("cells"));
        if layout == layout::CELLS {
            let indexed_at_us = at(1)?;
            let block = rebuilt(SHORT_HEADER_BYTES)?;
            return Ok(Self { flags: Flags::default(), indexed_at_us, first_indexed_at_us: indexed_at_us, block });
        }
        let (indexed_at_us, first_indexed_at_us) = (at(3)?, at(11)?);
        let block = match layout {
            layout::WHOLE => stored.slice(HEADER_BYTES..),
            layout::CELLS_AND_MORE => rebuilt(HEADER_BYTES)?,
            _ => return Err(corrupt("layout")),
        };
        let flags = Flags(u16::from_be_bytes([stored[1], stored[2]]));
        Ok(Self { flags, indexed_at_us, first_indexed_at_us, block })
    }

    /// Writes a row in as few bytes as it can be read from.
    pub fn write(&self) -> Bytes {
        let mut cells = Vec::with_capacity(CELLS_BYTES);
        let is_packed = rebuilt::pack(&self.block, &mut cells);
        let mut out = BytesMut::with_capacity(HEADER_BYTES + if is_packed { cells.len() } else { self.block.len() });
        if is_packed && self.flags == Flags::default() && self.first_indexed_at_us == self.indexed_at_us {
            out.put_u8(layout::CELLS);
            out.put_i64(self.indexed_at_us);
        } else {
            out.put_u8(if is_packed { layout::CELLS_AND_MORE } else { layout::WHOLE });
            out.put_u16(self.flags.0);
            out.put_i64(self.indexed_at_us);
            out.put_i64(self.first_indexed_at_us);
        }
        out.put_slice(if is_packed { &cells } else { &self.block });
        out.freeze()
    }

    /// The version: the hash of the block.
    pub fn cid(&self) -> Cid {
        Cid::for_dag_cbor(&self.block)
    }

    /// What the record says.
    pub fn value(&self) -> Result<Value<'_>> {
        cbor::decode(&self.block).map_err(|_| Error::Corrupt { table: RECORD.name, what: "block" })
    }
}

/// The place of a record's row.
pub fn key(did: &str, collection: &str, rkey: &str) -> Key {
    Key::of(&RECORD)
        .pack(|out| compact::pack_did(did, out))
        .cluster()
        .pack(|out| compact::pack_nsid(collection, out))
        .pack(|out| compact::pack_rkey(rkey, out))
        .key()
}

/// The place of the row of a record named by its address; nothing for an address of any other shape.
pub fn key_of(uri: &str) -> Option<Key> {
    let (did, collection, rkey) = split_uri(uri)?;
    did.starts_with("did:").then(|| key(did, collection, rkey))
}

/// The stored record at an address, if it is one and stands.
pub fn stored(view: &View<'_>, uri: &str) -> Result<Option<RecordRow>> {
    let Some(key) = key_of(uri) else { return Ok(None) };
    view.get(&key)?.map(|row| RecordRow::read(&row)).transpose()
}

/// Sets or clears a flag of a record if it stands.
pub fn set_flag(view: &mut View<'_>, key: &Key, bit: u16, on: bool) -> Result<()> {
    let Some(stored) = view.get(key)? else { return Ok(()) };
    let mut row = RecordRow::read(&stored)?;
    if row.flags.has(bit) != on {
        row.flags.set(bit, on);
        view.put(key.clone(), row.write());
    }
    Ok(())
}

/// What leaves for a stored row, made once and kept in memory: two bytes of flags and the encoded `Record`.
///
/// A row that cannot be read makes nothing, which readers count as damage and answer as absent.
pub(crate) fn served(_key: &Key, stored: &Bytes) -> Bytes {
    let Ok(row) = RecordRow::read(stored) else { return Bytes::new() };
    let Ok(value) = row.value() else { return Bytes::new() };
    let mut text = Vec::with_capacity(row.block.len() * 3 / 2);
    json::write(&value, &mut text);
    let created =
        value.get("createdAt").and_then(Value::as_str).and_then(datetime::parse_micros_lenient).map(cut_to_ms);
    let indexed = cut_to_ms(row.indexed_at_us);
    let record = proto::Record {
        record: text.into(),
        cid: row.cid().to_string(),
        indexed_at: Some(timestamp(indexed)),
        taken_down: row.flags.has(Flags::TAKEN_DOWN),
        created_at: created.map(timestamp),
        sorted_at: Some(timestamp(created.map_or(indexed, |c| c.min(indexed)))),
        takedown_ref: String::new(),
        tags: Vec::new(),
    };
    let mut out = BytesMut::with_capacity(2 + record.encoded_len());
    out.put_u16(row.flags.0);
    // Encoding into a growing buffer does not fail.
    let _ = record.encode(&mut out);
    out.freeze()
}

/// A time as the contract carries it.
pub fn timestamp(us: i64) -> proto::Timestamp {
    proto::Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

/// A time the contract carried, in microseconds.
pub fn micros(t: &proto::Timestamp) -> i64 {
    t.seconds.saturating_mul(1_000_000).saturating_add(i64::from(t.nanos) / 1000)
}

/// One answer: the flags and the envelope. A record that does not stand has an envelope without a CID.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// What is known beside the content.
    pub flags: Flags,
    /// The envelope.
    pub record: proto::Record,
}

/// Looks up records by address, in the order asked, duplicates included. Addresses of another collection, of another
/// shape or of nothing get the missing envelope (read-rpcs 1.2, 1.3).
pub async fn look_up(cx: &Cx, uris: &[String], collection: &str) -> Result<Vec<Served>> {
    let envelopes = look_up_envelopes(cx, uris, collection).await?;
    let open = |it: Envelope| {
        // An encoded message without bytes is one without content.
        let record = cx.damage.or_absent(decode_record(it.record))?;
        Ok(record.map(|record| Served { flags: it.flags, record }).unwrap_or_default())
    };
    envelopes.into_iter().map(open).collect()
}

/// One answer as it leaves: the flags, and the encoded envelope. Without bytes for a record that does not stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Envelope {
    /// What is known beside the content.
    pub(crate) flags: Flags,
    /// The encoded `Record`.
    pub(crate) record: Bytes,
}

/// [`look_up`] for somebody who does not look into the records: envelopes leave as they are kept.
pub(crate) async fn look_up_envelopes(cx: &Cx, uris: &[String], collection: &str) -> Result<Vec<Envelope>> {
    let mut answers = vec![Envelope::default(); uris.len()];
    let (mut extra, mut opened) = (Vec::new(), Vec::new());
    for (place, mut bytes) in served_rows(cx, uris, collection).await? {
        let Some(flags) = cx.damage.or_absent(take_flags(&mut bytes))? else { continue };
        if !flags.has(Flags::TAKEN_DOWN | Flags::TAGGED) {
            answers[place] = Envelope { flags, record: bytes };
        } else if let Some(record) = cx.damage.or_absent(decode_record(bytes))? {
            extra.push(place);
            opened.push(Served { flags, record });
        }
    }
    if !extra.is_empty() {
        let named: Vec<String> = extra.iter().map(|place| uris[*place].clone()).collect();
        let all: Vec<usize> = (0..named.len()).collect();
        add_moderation(cx, &named, &all, &mut opened).await?;
        for (place, served) in extra.into_iter().zip(opened) {
            answers[place] = Envelope { flags: served.flags, record: served.record.encode_to_vec().into() };
        }
    }
    Ok(answers)
}

/// The served rows of those addresses that are of the collection, each with its place.
async fn served_rows(cx: &Cx, uris: &[String], collection: &str) -> Result<impl Iterator<Item = (usize, Bytes)>> {
    let mut places = Vec::with_capacity(uris.len());
    let mut keys = Vec::with_capacity(uris.len());
    for (place, uri) in uris.iter().enumerate() {
        if let Some((did, found, rkey)) = split_uri(uri)
            && found == collection
            && did.starts_with("did:")
        {
            places.push(place);
            keys.push(key(did, found, rkey));
        }
    }
    let found = cx.store.get(&keys).await?;
    Ok(places.into_iter().zip(found).filter_map(|(place, bytes)| Some((place, bytes?))))
}

/// The version in a served row.
pub(crate) fn served_cid(served: &Bytes) -> Result<String> {
    Ok(decode_served(served.clone())?.record.cid)
}

/// Reads a served row.
pub fn decode_served(mut bytes: Bytes) -> Result<Served> {
    Ok(Served { flags: take_flags(&mut bytes)?, record: decode_record(bytes)? })
}

fn take_flags(bytes: &mut Bytes) -> Result<Flags> {
    let Some(flags) = bytes.first_chunk::<2>().copied() else {
        return Err(Error::Corrupt { table: RECORD.name, what: "block" });
    };
    bytes.advance(2);
    Ok(Flags(u16::from_be_bytes(flags)))
}

fn decode_record(bytes: Bytes) -> Result<proto::Record> {
    proto::Record::decode(bytes).map_err(|_| Error::Corrupt { table: RECORD.name, what: "block" })
}

/// Adds takedown references and tags to the few records that have them.
async fn add_moderation(cx: &Cx, uris: &[String], places: &[usize], answers: &mut [Served]) -> Result<()> {
    let takedowns: Vec<Key> = places.iter().map(|p| moderation::key_of_subject(&uris[*p])).collect();
    let tags: Vec<Key> = places.iter().map(|p| tags_key(&uris[*p])).collect();
    let (takedowns, tags) = (cx.store.get(&takedowns).await?, cx.store.get(&tags).await?);
    for ((place, takedown), tags) in places.iter().zip(takedowns).zip(tags) {
        let answer = &mut answers[*place];
        if answer.flags.has(Flags::TAKEN_DOWN)
            && let Some(takedown) = takedown
        {
            answer.record.takedown_ref = moderation::reference(&takedown);
        }
        if let Some(tags) = tags {
            answer.record.tags = read_tags(&tags);
        }
    }
    Ok(())
}

/// The place of the operator's tags on a record or account.
pub fn tags_key(subject: &str) -> Key {
    Key::of(&TAGS).atom(&atom::uri(subject)).key()
}

/// Reads the operator's tags.
pub fn read_tags(stored: &[u8]) -> Vec<String> {
    serde_json::from_slice(stored).unwrap_or_default()
}

/// Replaces the operator's tags on a record or an account; none removes them.
pub fn set_tags(view: &mut View<'_>, subject: &str, tags: &[String]) -> Result<()> {
    let place = tags_key(subject);
    if tags.is_empty() {
        view.delete(place);
    } else {
        view.put(place, serde_json::to_vec(tags).unwrap_or_default());
    }
    match key_of(subject) {
        Some(key) => set_flag(view, &key, Flags::TAGGED, !tags.is_empty()),
        None => Ok(()),
    }
}

macro_rules! look_ups {
    ($($(#[$doc:meta])* $name:ident: $request:ident => $response:ident, $collection:literal;)*) => {$(
        $(#[$doc])*
        pub async fn $name(cx: &Cx, req: proto::$request) -> Result<proto::$response> {
            let found = look_up(cx, &req.uris, $collection).await?;
            Ok(proto::$response { records: found.into_iter().map(|s| s.record).collect() })
        }
    )*};
}

look_ups! {
    /// Feed generator records by address.
    get_feed_generator_records: GetFeedGeneratorRecordsRequest => GetFeedGeneratorRecordsResponse, "app.bsky.feed.generator";
    /// Like records by address.
    get_like_records: GetLikeRecordsRequest => GetLikeRecordsResponse, "app.bsky.feed.like";
    /// Repost records by address.
    get_repost_records: GetRepostRecordsRequest => GetRepostRecordsResponse, "app.bsky.feed.repost";
    /// Follow records by address.
    get_follow_records: GetFollowRecordsRequest => GetFollowRecordsResponse, "app.bsky.graph.follow";
    /// List records by address.
    get_list_records: GetListRecordsRequest => GetListRecordsResponse, "app.bsky.graph.list";
    /// List item records by address.
    get_list_item_records: GetListItemRecordsRequest => GetListItemRecordsResponse, "app.bsky.graph.listitem";
    /// List block records by address.
    get_list_block_records: GetListBlockRecordsRequest => GetListBlockRecordsResponse, "app.bsky.graph.listblock";
    /// Block records by address.
    get_block_records: GetBlockRecordsRequest => GetBlockRecordsResponse, "app.bsky.graph.block";
    /// Thread gate records by address.
    get_thread_gate_records: GetThreadGateRecordsRequest => GetThreadGateRecordsResponse, "app.bsky.feed.threadgate";
    /// Post gate records by address.
    get_postgate_records: GetPostgateRecordsRequest => GetPostgateRecordsResponse, "app.bsky.feed.postgate";
    /// Labeler service records by address.
    get_labeler_records: GetLabelerRecordsRequest => GetLabelerRecordsResponse, "app.bsky.labeler.service";
    /// Starter pack records by address.
    get_starter_pack_records: GetStarterPackRecordsRequest => GetStarterPackRecordsResponse, "app.bsky.graph.starterpack";
    /// Verification records by address.
    get_verification_records: GetVerificationRecordsRequest => GetVerificationRecordsResponse, "app.bsky.graph.verification";
    /// Profile records by address.
    get_profile_records: GetProfileRecordsRequest => GetProfileRecordsResponse, "app.bsky.actor.profile";
    /// Status records by address.
    get_status_records: GetStatusRecordsRequest => GetStatusRecordsResponse, "app.bsky.actor.status";
    /// Chat declaration records by address.
    get_actor_chat_declaration_records: GetActorChatDeclarationRecordsRequest => GetActorChatDeclarationRecordsResponse, "chat.bsky.actor.declaration";
    /// Notification declaration records by address.
    get_notification_declaration_records: GetNotificationDeclarationRecordsRequest => GetNotificationDeclarationRecordsResponse, "app.bsky.notification.declaration";
    /// Germ declaration records by address.
    get_germ_declaration_records: GetGermDeclarationRecordsRequest => GetGermDeclarationRecordsResponse, "com.germnetwork.declaration";
}

#[cfg(test)]
mod tests {
    use gp_atproto::json;
    use serde_json::json as object;

    use super::*;

    fn like() -> Bytes {
        let record = object!({
            "$type": "app.bsky.feed.like",
            "subject": {
                "cid": "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae",
                "uri": "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a",
            },
            "createdAt": "2025-06-01T12:00:00.123Z",
        });
        json::to_cbor(&record).unwrap().into()
    }

    #[test]
    fn rows_read_as_written_whatever_is_left_out_of_them() {
        let post: Bytes = json::to_cbor(&object!({"$type": "app.bsky.feed.post", "text": "x"})).unwrap().into();
        let mut bytes = Vec::new();
        for (flags, first_indexed_at_us) in [(0, 5), (Flags::TAKEN_DOWN, 5), (0, 4), (Flags::TAGGED, 4)] {
            for block in [like(), post.clone()] {
                let row = RecordRow { flags: Flags(flags), indexed_at_us: 5, first_indexed_at_us, block };
                let stored = row.write();
                let read = RecordRow::read(&stored).unwrap();
                assert_eq!(
                    (read.flags, read.indexed_at_us, read.first_indexed_at_us),
                    (row.flags, 5, first_indexed_at_us)
                );
                assert_eq!((read.cid(), &read.block), (row.cid(), &row.block));
                bytes.push(stored.len());
                for end in 0..SHORT_HEADER_BYTES {
                    assert!(RecordRow::read(&stored.slice(..end)).is_err());
                }
            }
        }
        let whole = HEADER_BYTES + like().len();
        assert!(bytes[0] * 3 < whole, "a like takes {} bytes of {whole}", bytes[0]);
        assert!(bytes[2] * 2 < whole, "one that was taken down takes {}", bytes[2]);
    }

    #[test]
    fn rows_of_before_are_read() {
        let mut stored = vec![1, 0, 1];
        stored.extend_from_slice(&5i64.to_be_bytes());
        stored.extend_from_slice(&4i64.to_be_bytes());
        stored.extend_from_slice(&like());
        let row = RecordRow::read(&stored.clone().into()).unwrap();
        assert_eq!((row.flags, row.indexed_at_us, row.first_indexed_at_us), (Flags(1), 5, 4));
        assert_eq!(row.block, like());
        stored[0] = 9;
        assert!(RecordRow::read(&stored.into()).is_err(), "a layout of after");
    }
}
