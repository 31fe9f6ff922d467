//! What only an account itself may see: where its operations come in, its seen mark, and its stash of payloads.
//!
//! Operations come from a log that other services write (ingest 10). The position in the log is stored in the same
//! write as the effect, so an operation takes effect once.

use bytes::Bytes;
use gp_proto as proto;
use gp_store::{Key, View};

use crate::{
    Cx, Error, Result, actors, atom, bookmarks, drafts, mutes,
    records::{self, micros},
    subscriptions,
    tables::{self, PRIVATE},
};

/// What an operation does to an entry of the stash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The entry is new.
    Create,
    /// The entry changes.
    Update,
    /// The entry goes.
    Delete,
}

/// One operation on the stash.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// What it does.
    pub method: Method,
    /// Whose entry.
    pub actor: &'a str,
    /// The type of the entry.
    pub namespace: &'a str,
    /// The entry among those of its type.
    pub key: &'a str,
    /// JSON text; empty for a deletion.
    pub payload: &'a str,
}

/// The namespaces that mean more than a payload to keep.
mod namespace {
    pub(super) const SUBSCRIPTION: &str = "app.bsky.notification.defs#subjectActivitySubscription";
    pub(super) const BOOKMARK: &str = "app.bsky.bookmark.defs#bookmark";
    pub(super) const DRAFT: &str = "app.bsky.draft.defs#draftWithId";
    pub(super) const AGE_ASSURANCE_1: &str = "app.bsky.unspecced.defs#ageAssuranceEvent";
    pub(super) const AGE_ASSURANCE_2: &str = "app.bsky.ageassurance.defs#event";
    pub(super) const PREFERENCES: &str = "app.bsky.notification.defs#preferences";
}

/// Applies one operation. `time_us` is the time given to what it creates. A payload that cannot be read is
/// `Error::Invalid`, and nothing but the payload itself is kept.
pub fn apply(view: &mut View<'_>, op: &Operation<'_>, time_us: i64) -> Result<()> {
    let place = stash_key(op.actor, op.namespace, op.key);
    match op.method {
        Method::Delete => view.delete(place),
        Method::Create | Method::Update => {
            let indexed_at_us = match view.get(&place)? {
                Some(stored) => read_stash(&stored)?.indexed_at_us,
                None => time_us,
            };
            let row = StashRow { payload: op.payload.to_owned(), indexed_at_us, updated_at_us: time_us };
            view.put(place, prost::Message::encode_to_vec(&row));
        }
    }
    let payload = || -> Result<serde_json::Value> {
        serde_json::from_str(op.payload).map_err(|e| Error::invalid("payload", format!("is not JSON: {e}")))
    };
    match (op.namespace, op.method) {
        (namespace::SUBSCRIPTION, Method::Delete) => subscriptions::remove(view, op.actor, op.key),
        (namespace::SUBSCRIPTION, method) => {
            subscriptions::put(view, op.actor, op.key, method == Method::Create, &payload()?, time_us)
        }
        (namespace::BOOKMARK, Method::Create) => bookmarks::put(view, op.actor, op.key, &payload()?, time_us),
        (namespace::BOOKMARK, Method::Delete) => bookmarks::remove(view, op.actor, op.key),
        (namespace::DRAFT, Method::Delete) => drafts::remove(view, op.actor, op.key),
        (namespace::DRAFT, method) => {
            drafts::put(view, op.actor, op.key, method == Method::Create, op.payload, time_us)
        }
        (namespace::AGE_ASSURANCE_1 | namespace::AGE_ASSURANCE_2, Method::Create) => {
            age_assurance(view, op.actor, &payload()?)
        }
        _ => Ok(()),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct StashRow {
    #[prost(string, tag = "1")]
    payload: String,
    #[prost(int64, tag = "2")]
    indexed_at_us: i64,
    #[prost(int64, tag = "3")]
    updated_at_us: i64,
}

fn stash_key(actor: &str, namespace: &str, key: &str) -> Key {
    tables::private_of(actor, tables::private::STASH).atom(&atom::did(namespace)).atom(&atom::rkey(key)).key()
}

fn read_stash(stored: &[u8]) -> Result<StashRow> {
    prost::Message::decode(stored).map_err(|_| Error::Corrupt { table: PRIVATE.name, what: "stash" })
}

/// What an account has proved of its age. Kept for an account never seen as well.
fn age_assurance(view: &mut View<'_>, actor: &str, event: &serde_json::Value) -> Result<()> {
    let text = |name: &str| event.get(name).and_then(serde_json::Value::as_str);
    let mut row = actors::row(view, actor)?.unwrap_or_default();
    if let Some(status) = text("status") {
        row.age_assurance_status = status.to_owned();
        if status == "pending"
            && let Some(at) = text("createdAt").and_then(gp_atproto::datetime::parse_micros_lenient)
        {
            row.age_assurance_initiated_at_us = at;
        }
    }
    if let Some(access) = text("access") {
        row.age_assurance_access = access.to_owned();
    }
    if let Some(country) = text("countryCode") {
        row.age_assurance_country = country.to_owned();
    }
    if let Some(region) = text("regionCode") {
        row.age_assurance_region = region.to_owned();
    }
    actors::put(view, actor, &row);
    Ok(())
}

/// Seen mark and priority of an account's notifications.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateRow {
    /// The mark in microseconds, if there is one.
    #[prost(int64, optional, tag = "1")]
    pub seen: Option<i64>,
    /// The account wants notifications of those it follows only.
    #[prost(bool, tag = "2")]
    pub priority: bool,
}

impl StateRow {
    /// The mark, in microseconds.
    pub fn seen_at_us(&self) -> Option<i64> {
        self.seen
    }
}

/// The place of the seen mark.
pub fn state_key(did: &str) -> Key {
    tables::private_of(did, tables::private::STATE).key()
}

/// Reads the seen mark.
pub fn read_state(stored: &[u8]) -> Result<StateRow> {
    prost::Message::decode(stored).map_err(|_| Error::Corrupt { table: PRIVATE.name, what: "state" })
}

/// Changes the preference for notifications of those one follows. The first word of an account also marks everything
/// before as seen, as it does in the reference.
pub fn set_priority(view: &mut View<'_>, actor: &str, priority: bool, time_us: i64) -> Result<()> {
    let place = state_key(actor);
    let mut row = match view.get(&place)? {
        Some(stored) => read_state(&stored)?,
        None => StateRow { seen: Some(crate::placed::cut_to_ms(time_us)), priority },
    };
    row.priority = priority;
    view.put(place, prost::Message::encode_to_vec(&row));
    Ok(())
}

/// Marks notifications as seen up to a time: the later of two marks holds, and the preference is never touched
/// (since-0.0.275 3.3).
pub async fn update_notification_seen(
    cx: &Cx,
    req: proto::UpdateNotificationSeenRequest,
) -> Result<proto::UpdateNotificationSeenResponse> {
    let Some(at) = req.timestamp.as_ref().map(micros) else { return Ok(proto::UpdateNotificationSeenResponse {}) };
    let at = crate::placed::cut_to_ms(at);
    cx.writer
        .run(move |view| -> Result<_> {
            let place = state_key(&req.actor_did);
            let mut row = view.get(&place)?.as_deref().map(read_state).transpose()?.unwrap_or_default();
            if row.seen.is_none_or(|seen| at > seen) {
                row.seen = Some(at);
                view.put(place, prost::Message::encode_to_vec(&row));
            }
            Ok(proto::UpdateNotificationSeenResponse {})
        })
        .await
}

/// What some accounts want to be told of, in the order asked: exactly one answer each, empty where nothing is stored.
pub async fn get_notification_preferences(
    cx: &Cx,
    req: proto::GetNotificationPreferencesRequest,
) -> Result<proto::GetNotificationPreferencesResponse> {
    let keys: Vec<Key> = req.dids.iter().map(|did| stash_key(did, namespace::PREFERENCES, "self")).collect();
    let mut preferences = Vec::with_capacity(keys.len());
    for stored in cx.store.get(&keys).await? {
        preferences.push(match stored {
            Some(stored) => preferences_of(read_stash(&stored)?.payload),
            None => proto::NotificationPreferences::default(),
        });
    }
    Ok(proto::GetNotificationPreferencesResponse { preferences })
}

fn preferences_of(payload: String) -> proto::NotificationPreferences {
    use serde_json::Value;
    let json: Value = serde_json::from_str(&payload).unwrap_or_default();
    let on = |of: &Value, name: &str| of.get(name).and_then(Value::as_bool).unwrap_or(true);
    let of = |name: &str| json.get(name).cloned().unwrap_or_default();
    let filterable = |name: &str| {
        let it = of(name);
        let follows = it.get("include").and_then(Value::as_str) == Some("follows");
        Some(proto::FilterableNotificationPreference {
            include: if follows { proto::NotificationInclude::Follows } else { proto::NotificationInclude::All } as i32,
            list: Some(proto::NotificationChannelList { enabled: on(&it, "list") }),
            push: Some(proto::NotificationChannelPush { enabled: on(&it, "push") }),
        })
    };
    let plain = |name: &str| {
        let it = of(name);
        Some(proto::NotificationPreference {
            list: Some(proto::NotificationChannelList { enabled: on(&it, "list") }),
            push: Some(proto::NotificationChannelPush { enabled: on(&it, "push") }),
        })
    };
    proto::NotificationPreferences {
        follow: filterable("follow"),
        like: filterable("like"),
        like_via_repost: filterable("likeViaRepost"),
        mention: filterable("mention"),
        quote: filterable("quote"),
        reply: filterable("reply"),
        repost: filterable("repost"),
        repost_via_repost: filterable("repostViaRepost"),
        starterpack_joined: plain("starterpackJoined"),
        subscribed_post: plain("subscribedPost"),
        unverified: plain("unverified"),
        verified: plain("verified"),
        entry: Bytes::from(payload),
    }
}

/// A part of a key that sorts the other way round, for lists whose last entry comes first. Inverting keeps it
/// self-delimiting.
pub(crate) fn descending(atom: &[u8]) -> Vec<u8> {
    atom.iter().map(|b| !b).collect()
}

/// Mutes have their own log and their own file.
pub use mutes::{MuteOp, apply_mute};

/// The time of a row as the contract carries it.
pub(crate) fn time(us: i64) -> proto::Timestamp {
    records::timestamp(crate::placed::cut_to_ms(us))
}

/// Namespace, key and payload of a private row, if it is an entry of the stash.
pub(crate) fn read_stash_row(row: &gp_store::Row) -> Result<Option<(String, String, String)>> {
    let mut parts = atom::Parts::of(PRIVATE.name, row.clustering());
    if row.clustering().first() != Some(&tables::private::STASH) {
        return Ok(None);
    }
    parts.tag()?;
    let (namespace, key) = (parts.did()?, parts.rkey()?);
    Ok(Some((namespace, key, read_stash(&row.value)?.payload)))
}
