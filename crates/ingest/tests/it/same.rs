//! What the rows of two planes say, without the times at which something came in: those who were there at the time and
//! those who read it later must agree on everything else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gp_index::{
    atom::Parts,
    counts::{Head, OnCount},
    notifications::Stored,
    records::{Flags, RecordRow},
    tables::{self, by, on},
};
use gp_store::Table;
use prost::Message;

use crate::rig::Plane;

/// What a flag says that hangs on the time of the event: whether a gate stood when the post was made.
const AS_OF_THEN: u16 = Flags::VIOLATES_THREAD_GATE | Flags::VIOLATES_EMBEDDING;

/// As far as is of interest here.
#[derive(Clone, PartialEq, prost::Message)]
struct OpReply {
    #[prost(int64, tag = "2")]
    gone_at_us: i64,
}

const COUNTS: [OnCount; 6] =
    [OnCount::Likes, OnCount::Reposts, OnCount::Quotes, OnCount::Followers, OnCount::Items, OnCount::Joined];

/// What the rows of a plane say.
#[derive(Default)]
pub(crate) struct Said {
    /// A line for each row of those tables whose rows are made of records.
    pub(crate) lines: BTreeSet<String>,
    /// Posts that broke a gate. Whether one stood when they were made is known only to those who were there.
    pub(crate) gated: BTreeSet<String>,
}

impl Said {
    /// The lines that have nothing to do with some posts.
    pub(crate) fn without(&self, posts: &BTreeSet<String>) -> BTreeSet<&String> {
        self.lines.iter().filter(|line| !posts.iter().any(|post| line.contains(post))).collect()
    }
}

/// Reads all rows.
pub(crate) async fn said(plane: &Plane) -> Said {
    let store = plane.cx.store.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut said = Said::default();
        for table in [&tables::RECORD, &tables::BY, &tables::ON, &tables::NOTIFICATION] {
            let mut rows: BTreeMap<Vec<u8>, Bytes> = BTreeMap::new();
            let each = |key: &[u8], value: &Bytes| rows.insert(key.to_vec(), value.clone()).is_none();
            store.local().each(table.id, &mut { each }).unwrap();
            said.lines.extend(rows.iter().filter_map(|(key, value)| line(table, &key[1..], value)));
            for (key, value) in rows.iter().filter(|_| table.name == "record") {
                if RecordRow::read(value).unwrap().flags.0 & AS_OF_THEN != 0 {
                    let mut parts = Parts::of(table.name, &key[1..]);
                    let (did, nsid, rkey) = (parts.did().unwrap(), parts.nsid().unwrap(), parts.rkey().unwrap());
                    said.gated.insert(format!("at://{did}/{nsid}/{rkey}"));
                }
            }
        }
        said
    });
    read.await.unwrap()
}

fn line(table: &'static Table, key: &[u8], value: &Bytes) -> Option<String> {
    let mut parts = Parts::of(table.name, key);
    let partition = parts.uri().or_else(|_| Parts::of(table.name, key).did()).unwrap();
    let place = match partition.is_empty() {
        true => format!("{:02x?}", key),
        false => partition,
    };
    let rest = parts.rest();
    Some(match table.name {
        "record" => {
            let row = RecordRow::read(value).unwrap();
            format!("record {place} {:02x?} {} flags {}", rest, row.cid(), row.flags.0 & !AS_OF_THEN)
        }
        "notification" => {
            let it = Stored::read(rest, value).unwrap();
            format!("notification {place} {:?} {} {:?}", it.reason, it.uri, it.subject)
        }
        "by" if rest.is_empty() => format!("by {place} {:?}", Head::read(Some(value))),
        // Replies are among the rows; which of them are counted is told by gates, and what has ended is not known later.
        name if rest.is_empty() => {
            let head = Head::read(Some(value));
            let counts = COUNTS.map(|count| head.get(count as u8));
            if counts.iter().all(|count| *count == 0) {
                return None;
            }
            format!("{name} {place} {counts:?}")
        }
        "by" => match rest[0] {
            // Claims by record key; when each was first seen is left out.
            by::CLAIM => {
                let mut claims = Parts::of(table.name, value);
                let mut rkeys = Vec::new();
                while !claims.rest().is_empty() {
                    rkeys.push(claims.rkey().unwrap());
                    claims.micros_desc().unwrap();
                }
                format!("by {place} {:02x?} {rkeys:?}", rest)
            }
            by::ENDED => return None,
            // `sort_at desc` comes first.
            kind => format!("by {place} {kind} {:02x?} {:02x?}", &rest[9..], value),
        },
        name => match rest[0] {
            // Counted or not: that hangs on whether a gate stood then.
            on::REPLY | on::REPLY_GATED => format!("{name} {place} reply {:02x?}", &rest[9..]),
            on::WATCH | on::REPLY_GONE | on::QUOTE_GONE | on::THREAD_GATE_WAS | on::POST_GATE_WAS => return None,
            // A deleted one leaves a trace with those who saw it.
            on::OP_REPLY if OpReply::decode(&value[..]).unwrap().gone_at_us != 0 => return None,
            on::OP_REPLY | on::MEMBER | on::SUBSCRIBER => format!("{name} {place} {:02x?} {:02x?}", rest, value),
            // The words of a verification come with the time at which it was seen.
            on::VERIFICATION | on::QUOTE => format!("{name} {place} {} {:02x?}", rest[0], &rest[9..]),
            kind => format!("{name} {place} {kind} {:02x?} {:02x?}", &rest[9..], value),
        },
    })
}
