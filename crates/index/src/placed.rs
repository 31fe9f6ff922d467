//! A record in its place: who, where, when.

use gp_atproto::{Cid, Value, compact, datetime};

/// A decoded record in its place.
#[derive(Debug)]
pub struct Placed<'a> {
    /// The repo it is in: its author.
    pub did: &'a str,
    /// Its collection.
    pub collection: &'a str,
    /// Its record key.
    pub rkey: &'a str,
    /// The version.
    pub cid: Cid,
    /// What it says.
    pub value: &'a Value<'a>,
    /// When this version was indexed, in microseconds.
    pub indexed_at_us: i64,
    /// When the record was first indexed.
    pub first_indexed_at_us: i64,
    /// The author's claim, cut to milliseconds; what cannot be read counts as 1970.
    pub created_at_us: i64,
    /// The earlier of the claim and our first sight, cut to milliseconds; lists are ordered by it.
    pub sort_at_us: i64,
}

impl<'a> Placed<'a> {
    /// Puts a decoded record in its place.
    pub fn new(
        did: &'a str,
        collection: &'a str,
        rkey: &'a str,
        cid: Cid,
        value: &'a Value<'a>,
        indexed_at_us: i64,
        first_indexed_at_us: i64,
    ) -> Self {
        let created_at_us = value
            .get("createdAt")
            .and_then(Value::as_str)
            .and_then(datetime::parse_micros_lenient)
            .map_or(0, cut_to_ms);
        Self {
            did,
            collection,
            rkey,
            cid,
            value,
            indexed_at_us,
            first_indexed_at_us,
            created_at_us,
            sort_at_us: created_at_us.min(cut_to_ms(indexed_at_us)),
        }
    }

    /// Its address.
    pub fn uri(&self) -> String {
        uri_of(self.did, self.collection, self.rkey)
    }

    /// The tie-break among rows of the same time: ordered as the CID's text is.
    pub fn tie(&self) -> u32 {
        compact::cid_tie(&self.cid)
    }

    /// A text property of the record.
    pub fn text(&self, property: &str) -> Option<&'a str> {
        self.value.get(property).and_then(Value::as_str)
    }

    /// The `uri` of a strong reference.
    pub fn reference(&self, property: &str) -> Option<&'a str> {
        self.value.get(property).and_then(|r| r.get("uri")).and_then(Value::as_str)
    }
}

/// The address of a record.
pub fn uri_of(did: &str, collection: &str, rkey: &str) -> String {
    let mut uri = String::with_capacity(7 + did.len() + collection.len() + rkey.len());
    uri.push_str("at://");
    uri.push_str(did);
    uri.push('/');
    uri.push_str(collection);
    uri.push('/');
    uri.push_str(rkey);
    uri
}

/// The three parts of a record's address, if it has exactly three. Nothing is checked beyond the shape.
pub fn split_uri(uri: &str) -> Option<(&str, &str, &str)> {
    let rest = uri.strip_prefix("at://")?;
    let (did, rest) = rest.split_once('/')?;
    let (collection, rkey) = rest.split_once('/')?;
    (!did.is_empty()
        && !collection.is_empty()
        && !rkey.is_empty()
        && !rkey.bytes().any(|byte| matches!(byte, b'/' | b'#' | b'?')))
    .then_some((did, collection, rkey))
}

/// The authority of an address, if it is a DID.
pub fn did_of(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("at://")?;
    let end = rest.find(['/', '#', '?']).unwrap_or(rest.len());
    let did = &rest[..end];
    did.starts_with("did:").then_some(did)
}

/// The collection of an address.
pub fn collection_of(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("at://")?;
    let (_, rest) = rest.split_once('/')?;
    Some(rest.split(['/', '#', '?']).next().unwrap_or(rest))
}

/// Cuts a time to whole milliseconds, as the contract carries times.
pub fn cut_to_ms(us: i64) -> i64 {
    us.div_euclid(1000) * 1000
}
