//! Subscriptions to the activity of accounts.

use gp_proto as proto;
use gp_store::{Key, View};
use serde_json::Value;

use crate::{
    Cx, Error, Result, atom,
    bookmarks::key_cursor,
    counts::{Deltas, OnCount},
    notifications::{SUBSCRIBED_POSTS, SUBSCRIBED_REPLIES},
    page,
    private::descending,
    tables::{self, PRIVATE, on, private},
};

const NAMESPACE: &str = "app.bsky.notification.defs#subjectActivitySubscription";

#[derive(Clone, PartialEq, prost::Message)]
struct SubscriptionRow {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    subject: String,
    #[prost(uint32, tag = "3")]
    flags: u32,
    #[prost(int64, tag = "4")]
    indexed_at_us: i64,
}

fn read(stored: &[u8]) -> Result<SubscriptionRow> {
    prost::Message::decode(stored).map_err(|_| Error::Corrupt { table: PRIVATE.name, what: "subscription" })
}

fn by_key(actor: &str, key: &str) -> Key {
    tables::private_of(actor, private::SUBSCRIPTION).atom(&descending(&atom::rkey(key))).key()
}

fn of_subject(actor: &str, subject: &str) -> Key {
    tables::private_of(actor, private::SUBSCRIPTION_OF).atom(&atom::did(subject)).key()
}

fn subscriber(subject: &str, actor: &str) -> Key {
    tables::on_subject(subject, on::SUBSCRIBER).atom(&atom::did(actor)).key()
}

/// Keeps a subscription. A second one to the same account changes nothing; a change never changes the account.
pub(crate) fn put(
    view: &mut View<'_>,
    actor: &str,
    key: &str,
    create: bool,
    payload: &Value,
    time_us: i64,
) -> Result<()> {
    let place = by_key(actor, key);
    let stored = view.get(&place)?.as_deref().map(read).transpose()?;
    let wants = |name: &str| {
        payload.get("activitySubscription").and_then(|s| s.get(name)).and_then(Value::as_bool) == Some(true)
    };
    let flags = u8::from(wants("post")) * SUBSCRIBED_POSTS | u8::from(wants("reply")) * SUBSCRIBED_REPLIES;
    let subject = match &stored {
        Some(old) => old.subject.clone(),
        None if create => payload
            .get("subject")
            .and_then(Value::as_str)
            .ok_or_else(|| Error::invalid("payload", "subject is missing"))?
            .to_owned(),
        None => return Ok(()),
    };
    if stored.is_none() && view.get(&of_subject(actor, &subject))?.is_some() {
        return Ok(());
    }
    let row = SubscriptionRow {
        key: key.to_owned(),
        subject: subject.clone(),
        flags: u32::from(flags),
        indexed_at_us: time_us,
    };
    let bytes = prost::Message::encode_to_vec(&row);
    view.put(place, bytes.clone());
    view.put(of_subject(actor, &subject), bytes);
    view.put(subscriber(&subject, actor), vec![flags]);
    count(view, &subject, i64::from(stored.is_none()))
}

/// Forgets a subscription.
pub(crate) fn remove(view: &mut View<'_>, actor: &str, key: &str) -> Result<()> {
    let place = by_key(actor, key);
    let Some(stored) = view.get(&place)? else { return Ok(()) };
    let subject = read(&stored)?.subject;
    view.delete(place);
    view.delete(of_subject(actor, &subject));
    view.delete(subscriber(&subject, actor));
    count(view, &subject, -1)
}

/// Forgets a subscription that was read.
pub(crate) fn forget(view: &mut View<'_>, actor: &str, stored: &[u8]) -> Result<()> {
    remove(view, actor, &read(stored)?.key)
}

/// Since when an account has subscribed to another's activity as it has now, in microseconds; nothing if it has not.
pub(crate) fn since(view: &View<'_>, actor: &str, subject: &str) -> Result<Option<i64>> {
    let stored = view.get(&of_subject(actor, subject))?;
    Ok(stored.as_deref().map(read).transpose()?.map(|row| row.indexed_at_us))
}

fn count(view: &mut View<'_>, subject: &str, delta: i64) -> Result<()> {
    let mut deltas = Deltas::default();
    deltas.add(tables::on_head(subject), OnCount::Subscribers as u8, delta);
    deltas.apply(view)
}

/// Accounts to whose activity an account subscribed, latest key first.
pub async fn get_activity_subscription_dids(
    cx: &Cx,
    req: proto::GetActivitySubscriptionDidsRequest,
) -> Result<proto::GetActivitySubscriptionDidsResponse> {
    let n = page::limit(req.limit);
    let mut scan = tables::scan_private(&req.actor_did, private::SUBSCRIPTION);
    if let Some(key) = key_cursor(&req.cursor)? {
        scan = scan.after(by_key(&req.actor_did, key).clustering().to_vec());
    }
    if n == 0 {
        return Ok(proto::GetActivitySubscriptionDidsResponse::default());
    }
    let mut rows = cx.store.scan(scan.limit(n + 1)).await?.rows;
    let more = rows.len() > n;
    rows.truncate(n);
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.push(read(&row.value)?);
    }
    let cursor = if more { found.last().map(|s| s.key.clone()).unwrap_or_default() } else { String::new() };
    Ok(proto::GetActivitySubscriptionDidsResponse { dids: found.into_iter().map(|s| s.subject).collect(), cursor })
}

/// The subscription of an account to each of some accounts, in the order asked.
pub async fn get_activity_subscriptions_by_actor_and_subjects(
    cx: &Cx,
    req: proto::GetActivitySubscriptionsByActorAndSubjectsRequest,
) -> Result<proto::GetActivitySubscriptionsByActorAndSubjectsResponse> {
    let keys: Vec<Key> = req.subject_dids.iter().map(|did| of_subject(&req.actor_did, did)).collect();
    let mut subscriptions = Vec::with_capacity(keys.len());
    for stored in cx.store.get(&keys).await? {
        let mut it = proto::ActivitySubscription {
            actor_did: req.actor_did.clone(),
            namespace: NAMESPACE.to_owned(),
            ..Default::default()
        };
        if let Some(row) = stored.as_deref().map(read).transpose()? {
            let wants = |flag: u8| row.flags & u32::from(flag) != 0;
            it.post = wants(SUBSCRIBED_POSTS).then_some(proto::PostActivitySubscription {});
            it.reply = wants(SUBSCRIBED_REPLIES).then_some(proto::ReplyActivitySubscription {});
            it.key = row.key;
            it.subject_did = row.subject;
        }
        subscriptions.push(it);
    }
    Ok(proto::GetActivitySubscriptionsByActorAndSubjectsResponse { subscriptions })
}

#[cfg(test)]
#[path = "subscriptions_tests.rs"]
mod tests;
