//! `ActorInfo.verified_by` is a map to everybody else and a list here.

use gp_proto::{ActorInfo, GetActorsResponse, VerificationMeta, VerifiedByEntry, dynamic};
use prost::Message;

fn entry(did: &str, rkey: &str) -> VerifiedByEntry {
    let value = VerificationMeta { rkey: rkey.to_owned(), ..VerificationMeta::default() };
    VerifiedByEntry { key: did.to_owned(), value: Some(value) }
}

#[test]
fn entries_keep_our_order_on_the_wire() {
    let actor = ActorInfo { verified_by: vec![entry("z", "1"), entry("a", "2")], ..ActorInfo::default() };
    // Field 14, length-delimited, twice; in each: field 1 the key, field 2 the message with its field 1.
    let wire = b"\x72\x08\x0a\x01z\x12\x03\x0a\x011\x72\x08\x0a\x01a\x12\x03\x0a\x012";
    assert_eq!(actor.encode_to_vec(), wire);
    assert_eq!(ActorInfo::decode(&wire[..]).expect("decodes"), actor);
}

#[test]
fn others_read_the_entries_as_a_map() {
    let actor = ActorInfo { verified_by: vec![entry("z", "1"), entry("a", "2")], ..ActorInfo::default() };
    let bytes = GetActorsResponse { actors: vec![actor] }.encode_to_vec();
    let json = dynamic::response_to_json("GetActors", &bytes, false).expect("converts");
    assert_eq!(json, serde_json::json!({"actors": [{"verifiedBy": {"z": {"rkey": "1"}, "a": {"rkey": "2"}}}]}));
}
