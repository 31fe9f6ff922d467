//! Records of which only the cells are kept, because their bytes can be made from them: likes, reposts, follows and
//! blocks, which are most of all records.
//!
//! Such a record says a subject, when it was made, and sometimes what led to it, in one order of keys and in the
//! shortest forms; that is what nearly all software writes. [`pack`] keeps the parts and looks whether [`unpack`] makes
//! the same bytes of them, so the hash of what is read is the record's CID. Whatever is written in any other way (a time
//! with other digits, a field more, keys in another order) is not packed, and is kept as it came.
//!
//! ```text
//! shape | created at, milliseconds, 6 bytes | what the subject is | what led to it, if anything
//! ```
//!
//! An account is an atom; a record is 32 bytes of its CID and an atom of its address.

use bytes::Bytes;
use gp_atproto::{
    Cid,
    cbor::{Reader, Writer},
    compact, datetime,
};

/// Largest block that is looked at: two addresses of the longest kind, their CIDs, and the rest.
const BLOCK_BYTES_MAX: usize = 2 * compact::TEXT_BYTES_MAX + 400;

/// What the low bits of a shape say. On disk: never reused, never renumbered.
const KINDS: [(u8, &str, Subject); 4] = [
    (1, "app.bsky.feed.like", Subject::Record),
    (2, "app.bsky.feed.repost", Subject::Record),
    (3, "app.bsky.graph.follow", Subject::Account),
    (4, "app.bsky.graph.block", Subject::Account),
];
const KIND_BITS: u8 = 0x0f;

/// The record says what led to it. On disk.
const HAS_VIA: u8 = 0x10;

/// Bytes of a time: milliseconds since 1970, up to the year 6429.
const MILLIS_BYTES: usize = 6;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Account,
    Record,
}

/// A version of a record, named.
#[derive(Clone, Copy)]
struct Reference<'a> {
    cid: Cid,
    uri: &'a str,
}

/// What a record of this kind says.
struct Parts<'a> {
    kind: u8,
    created_ms: i64,
    account: &'a str,
    record: Option<Reference<'a>>,
    via: Option<Reference<'a>>,
}

/// Appends the cells of a record, if its bytes can be made from them; says whether it did.
pub(crate) fn pack(block: &[u8], out: &mut Vec<u8>) -> bool {
    if block.len() > BLOCK_BYTES_MAX {
        return false;
    }
    let Some(parts) = take_apart(block) else { return false };
    let begin = out.len();
    out.push(parts.kind | if parts.via.is_some() { HAS_VIA } else { 0 });
    out.extend_from_slice(&parts.created_ms.to_be_bytes()[8 - MILLIS_BYTES..]);
    match &parts.record {
        Some(record) => pack_reference(record, out),
        None => compact::pack_did(parts.account, out),
    }
    if let Some(via) = &parts.via {
        pack_reference(via, out);
    }
    // The proof that nothing is lost. It costs less than what writing fewer bytes saves.
    let holds = unpack(&out[begin..]).is_some_and(|made| made == block);
    if !holds {
        out.truncate(begin);
    }
    holds
}

/// The block of a record whose cells these are; nothing if they are damaged.
pub(crate) fn unpack(cells: &[u8]) -> Option<Bytes> {
    let (shape, rest) = cells.split_first()?;
    let (_, collection, subject) = KINDS.iter().find(|(kind, ..)| *kind == shape & KIND_BITS)?;
    let (millis, mut rest) = rest.split_first_chunk::<MILLIS_BYTES>()?;
    let mut eight = [0; 8];
    eight[8 - MILLIS_BYTES..].copy_from_slice(millis);
    let created_us = i64::from_be_bytes(eight).checked_mul(1000)?;
    let mut text = String::new();
    let mut cid = None;
    match subject {
        Subject::Record => (cid, rest) = unpack_reference(rest, &mut text).map(|(cid, rest)| (Some(cid), rest))?,
        Subject::Account => rest = compact::unpack_did(rest, &mut text).ok()?,
    }
    let mut writer = Writer::with_capacity(cells.len() + 240);
    let has_via = shape & HAS_VIA != 0;
    writer.map(if has_via { 4 } else { 3 });
    if has_via {
        let mut uri = String::new();
        let via;
        (via, rest) = unpack_reference(rest, &mut uri)?;
        write_reference(writer.text("via"), &via, &uri);
    }
    writer.text("$type").text(collection).text("subject");
    match cid {
        Some(cid) => write_reference(&mut writer, &cid, &text),
        None => {
            writer.text(&text);
        }
    }
    writer.text("createdAt").text(&datetime::format_ms(created_us));
    rest.is_empty().then(|| writer.into_bytes().into())
}

fn take_apart(block: &[u8]) -> Option<Parts<'_>> {
    let mut reader = Reader::new(block);
    let fields = reader.map().ok()?;
    let mut key = reader.key().ok()?;
    let via = match key {
        "via" => {
            let via = reference(&mut reader)?;
            key = reader.key().ok()?;
            Some(via)
        }
        _ => None,
    };
    if key != "$type" || fields != 3 + u64::from(via.is_some()) {
        return None;
    }
    let name = reader.text().ok()?;
    let (kind, _, subject) = KINDS.iter().find(|(_, collection, _)| *collection == name)?;
    if reader.key().ok()? != "subject" {
        return None;
    }
    let (account, record) = match subject {
        Subject::Account => (reader.text().ok()?, None),
        Subject::Record => ("", Some(reference(&mut reader)?)),
    };
    if reader.key().ok()? != "createdAt" {
        return None;
    }
    let created_us = datetime::parse_micros(reader.text().ok()?)?;
    reader.end().ok()?;
    let created_ms = created_us.div_euclid(1000);
    (0..1 << (8 * MILLIS_BYTES)).contains(&created_ms).then_some(Parts {
        kind: *kind,
        created_ms,
        account,
        record,
        via,
    })
}

fn reference<'a>(reader: &mut Reader<'a>) -> Option<Reference<'a>> {
    if reader.map().ok()? != 2 || reader.key().ok()? != "cid" {
        return None;
    }
    let cid = Cid::parse(reader.text().ok()?).ok().filter(Cid::is_dag_cbor)?;
    if reader.key().ok()? != "uri" {
        return None;
    }
    Some(Reference { cid, uri: reader.text().ok()? })
}

fn pack_reference(it: &Reference<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(it.cid.digest());
    compact::pack_uri(it.uri, out);
}

fn unpack_reference<'a>(bytes: &'a [u8], uri: &mut String) -> Option<(Cid, &'a [u8])> {
    let (digest, rest) = bytes.split_first_chunk::<32>()?;
    Some((Cid::dag_cbor_with_digest(*digest), compact::unpack_uri(rest, uri).ok()?))
}

fn write_reference(writer: &mut Writer, cid: &Cid, uri: &str) {
    let mut text = Vec::with_capacity(64);
    cid.write_text(&mut text);
    writer.map(2).text("cid").text(std::str::from_utf8(&text).unwrap_or_default()).text("uri").text(uri);
}

#[cfg(test)]
mod tests {
    use gp_atproto::{cbor, json};
    use proptest::prelude::*;
    use serde_json::{Value as Json, json as object};

    use super::*;

    const CID: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
    const POST: &str = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a";
    const AT: &str = "2025-06-01T12:00:00.123Z";

    fn packed(block: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![7];
        let did = pack(block, &mut out);
        assert_eq!(out[0], 7);
        assert!(did || out.len() == 1, "nothing is left behind");
        did.then(|| out.split_off(1))
    }

    fn like(uri: &str, at: &str) -> Json {
        object!({"$type": "app.bsky.feed.like", "subject": {"cid": CID, "uri": uri}, "createdAt": at})
    }

    fn follow(subject: &str, at: &str) -> Json {
        object!({"$type": "app.bsky.graph.follow", "subject": subject, "createdAt": at})
    }

    #[test]
    fn what_most_software_writes_takes_few_bytes() {
        let did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
        let mut via = like(POST, AT);
        via["via"] = object!({"cid": CID, "uri": POST.replace("post", "repost")});
        let mut repost = like(POST, AT);
        repost["$type"] = "app.bsky.feed.repost".into();
        let mut block = follow(did, AT);
        block["$type"] = "app.bsky.graph.block".into();
        for (record, bytes_max) in [(like(POST, AT), 66), (repost, 66), (via, 125), (follow(did, AT), 24), (block, 24)]
        {
            let block = json::to_cbor(&record).unwrap();
            let cells = packed(&block).unwrap_or_else(|| panic!("{record} is not packed"));
            assert!(cells.len() <= bytes_max, "{record}: {} bytes of {}", cells.len(), block.len());
            assert_eq!(Cid::for_dag_cbor(&unpack(&cells).unwrap()), Cid::for_dag_cbor(&block));
        }
    }

    #[test]
    fn what_is_written_in_another_way_is_left_alone() {
        let did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
        let mut more = like(POST, AT);
        more["note"] = 1.into();
        let mut less = like(POST, AT);
        less.as_object_mut().unwrap().remove("createdAt");
        let mut deeper = like(POST, AT);
        deeper["subject"]["$type"] = "com.atproto.repo.strongRef".into();
        let mut raw = like(POST, AT);
        raw["subject"]["cid"] = CID.replacen("bafyrei", "bafkrei", 1).into();
        let post = object!({"$type": "app.bsky.feed.post", "text": "x", "createdAt": AT});
        let others = [
            more,
            less,
            deeper,
            raw,
            post,
            like(&format!("at://{did}/app.bsky.feed.post/{}", "x".repeat(600)), AT),
            like(POST, "2025-06-01T12:00:00Z"),
            like(POST, "2025-06-01T12:00:00.1234Z"),
            like(POST, "2025-06-01T12:00:00.123+00:00"),
            like(POST, "1969-12-31T23:59:59.999Z"),
            like(POST, "some day"),
            follow(did, "2025-06-01T12:00:00.123456Z"),
            object!({}),
        ];
        for record in others {
            assert_eq!(packed(&json::to_cbor(&record).unwrap()), None, "{record}");
        }
        // The same fields, the keys in the order in which they were typed.
        let mut writer = Writer::new();
        writer.map(3).text("$type").text("app.bsky.graph.follow").text("createdAt").text(AT).text("subject").text(did);
        assert_eq!(packed(writer.as_bytes()), None);
        assert_eq!(packed(b""), None);
        assert_eq!(packed(&[0xff; 40]), None);
    }

    #[test]
    fn damaged_cells_make_nothing() {
        let cells = packed(&json::to_cbor(&like(POST, AT)).unwrap()).unwrap();
        for end in 0..cells.len() {
            assert_eq!(unpack(&cells[..end]), None, "{end}");
        }
        let more = [&cells[..], &[0]].concat();
        assert_eq!(unpack(&more), None);
        for kind in [0, 5, KIND_BITS] {
            assert_eq!(unpack(&[&[kind], &cells[1..]].concat()), None);
        }
    }

    /// Subjects and times of every sort, most of them such as people's software writes.
    fn records() -> impl Strategy<Value = Json> {
        let uri = prop_oneof![
            4 => "at://did:plc:[a-z2-7]{24}/app\\.bsky\\.feed\\.(post|generator)/3[a-j][2-7a-z]{11}",
            1 => "at://did:web:[a-z]{1,9}\\.test/[a-z]{1,5}\\.[a-z]{1,5}\\.[a-z]{1,5}/[a-zA-Z0-9_~.:-]{1,40}",
            1 => "\\PC{0,80}",
        ];
        let did = prop_oneof![4 => "did:plc:[a-z2-7]{24}", 1 => "did:web:[a-z.]{1,20}", 1 => "\\PC{0,40}"];
        let at = prop_oneof![
            4 => (0i64..1 << 48).prop_map(|ms| datetime::format_ms(ms * 1000)),
            1 => "20[0-9]{2}-0[1-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{0,9})?(Z|\\+0[0-9]:00)",
        ];
        let cid = prop::array::uniform32(any::<u8>()).prop_map(|digest| Cid::dag_cbor_with_digest(digest).to_string());
        let name = prop::sample::select(KINDS.map(|(_, name, _)| name).to_vec());
        (name, uri.clone(), did, at, cid, prop::option::of(uri)).prop_map(|(name, uri, did, at, cid, via)| {
            let subject = if name.contains("graph") { did.into() } else { object!({"cid": cid, "uri": uri}) };
            let mut record = object!({"$type": name, "subject": subject, "createdAt": at});
            if let Some(via) = via {
                record["via"] = object!({"cid": CID, "uri": via});
            }
            record
        })
    }

    proptest! {
        #[test]
        fn a_rebuilt_record_hashes_to_its_cid(record in records()) {
            let block = json::to_cbor(&record).unwrap();
            if let Some(cells) = packed(&block) {
                let made = unpack(&cells).unwrap();
                prop_assert_eq!(Cid::for_dag_cbor(&made), Cid::for_dag_cbor(&block));
                prop_assert!(cells.len() < block.len());
                prop_assert!(cbor::decode(&made).is_ok());
            }
        }

        #[test]
        fn a_changed_byte_is_never_read_as_another_record(
            record in records(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut block = json::to_cbor(&record).unwrap();
            let at = at.index(block.len());
            block[at] = byte;
            if let Some(cells) = packed(&block) {
                prop_assert_eq!(unpack(&cells).unwrap(), block);
            }
        }

        #[test]
        fn any_bytes_are_cells_or_not(cells in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&cells);
        }
    }
}
