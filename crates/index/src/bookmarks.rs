//! Bookmarks.

use gp_proto as proto;
use gp_store::{Key, View};
use serde_json::Value;

use crate::{
    Cx, Error, Result, atom,
    counts::{Deltas, OnCount, PrivateCount},
    page,
    private::{descending, time},
    tables::{self, PRIVATE, private},
};

const NAMESPACE: &str = "app.bsky.bookmark.defs#bookmark";

#[derive(Clone, PartialEq, prost::Message)]
struct BookmarkRow {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    uri: String,
    #[prost(string, tag = "3")]
    cid: String,
    #[prost(int64, tag = "4")]
    indexed_at_us: i64,
}

fn read(stored: &[u8]) -> Result<BookmarkRow> {
    prost::Message::decode(stored).map_err(|_| Error::Corrupt { table: PRIVATE.name, what: "bookmark" })
}

fn by_key(actor: &str, key: &str) -> Key {
    tables::private_of(actor, private::BOOKMARK).atom(&descending(&atom::rkey(key))).key()
}

fn of_subject(actor: &str, uri: &str) -> Key {
    tables::private_of(actor, private::BOOKMARK_OF).atom(&atom::uri(uri)).key()
}

fn count(view: &mut View<'_>, actor: &str, uri: &str, delta: i64) -> Result<()> {
    let mut deltas = Deltas::default();
    deltas.add(tables::on_head(uri), OnCount::Bookmarks as u8, delta);
    deltas.add(tables::private_head(actor), PrivateCount::Bookmarks as u8, delta);
    deltas.apply(view)
}

/// Keeps a bookmark. A second one of the same subject, or at the same key, changes nothing: the first holds.
pub(crate) fn put(view: &mut View<'_>, actor: &str, key: &str, payload: &Value, time_us: i64) -> Result<()> {
    let text = |name: &str| payload.get("subject").and_then(|s| s.get(name)).and_then(Value::as_str);
    let uri = text("uri").ok_or_else(|| Error::invalid("payload", "subject.uri is missing"))?;
    let row = BookmarkRow {
        key: key.to_owned(),
        uri: uri.to_owned(),
        cid: text("cid").unwrap_or_default().to_owned(),
        indexed_at_us: time_us,
    };
    let (by_key, of_subject) = (by_key(actor, key), of_subject(actor, uri));
    if view.get(&by_key)?.is_some() || view.get(&of_subject)?.is_some() {
        return Ok(());
    }
    let bytes = prost::Message::encode_to_vec(&row);
    view.put(by_key, bytes.clone());
    view.put(of_subject, bytes);
    count(view, actor, uri, 1)
}

/// Forgets a bookmark.
pub(crate) fn remove(view: &mut View<'_>, actor: &str, key: &str) -> Result<()> {
    let place = by_key(actor, key);
    let Some(stored) = view.get(&place)? else { return Ok(()) };
    let row = read(&stored)?;
    view.delete(place);
    view.delete(of_subject(actor, &row.uri));
    count(view, actor, &row.uri, -1)
}

/// Forgets a bookmark that was read.
pub(crate) fn forget(view: &mut View<'_>, actor: &str, stored: &[u8]) -> Result<()> {
    remove(view, actor, &read(stored)?.key)
}

/// A page token of lists that are ordered by record key: the key itself.
pub(crate) fn key_cursor(cursor: &str) -> Result<Option<&str>> {
    match cursor {
        "" => Ok(None),
        key if gp_atproto::rkey::is_valid(key) => Ok(Some(key)),
        _ => Err(Error::invalid("cursor", "is not a record key: leave it out to begin again")),
    }
}

/// Bookmarks of an account, latest key first.
pub async fn get_actor_bookmarks(
    cx: &Cx,
    req: proto::GetActorBookmarksRequest,
) -> Result<proto::GetActorBookmarksResponse> {
    let n = page::limit(req.limit);
    let mut scan = tables::scan_private(&req.actor_did, private::BOOKMARK);
    if let Some(key) = key_cursor(&req.cursor)? {
        scan = scan.after(by_key(&req.actor_did, key).clustering().to_vec());
    }
    if n == 0 {
        return Ok(proto::GetActorBookmarksResponse::default());
    }
    let mut rows = cx.store.scan(scan.limit(n + 1)).await?.rows;
    let more = rows.len() > n;
    rows.truncate(n);
    let mut bookmarks = Vec::with_capacity(rows.len());
    for row in rows {
        let row = read(&row.value)?;
        bookmarks.push(proto::BookmarkInfo { key: row.key, subject: row.uri });
    }
    let cursor = if more { bookmarks.last().map(|b| b.key.clone()).unwrap_or_default() } else { String::new() };
    Ok(proto::GetActorBookmarksResponse { bookmarks, cursor })
}

/// The bookmark of an account of each subject, in the order asked.
pub async fn get_bookmarks_by_actor_and_subjects(
    cx: &Cx,
    req: proto::GetBookmarksByActorAndSubjectsRequest,
) -> Result<proto::GetBookmarksByActorAndSubjectsResponse> {
    let keys: Vec<Key> = req.uris.iter().map(|uri| of_subject(&req.actor_did, uri)).collect();
    let mut bookmarks = Vec::with_capacity(keys.len());
    for stored in cx.store.get(&keys).await? {
        bookmarks.push(match stored.as_deref().map(read).transpose()? {
            None => proto::Bookmark::default(),
            Some(row) => proto::Bookmark {
                r#ref: Some(proto::StashRef {
                    actor_did: req.actor_did.clone(),
                    namespace: NAMESPACE.to_owned(),
                    key: row.key,
                }),
                subject_uri: row.uri,
                subject_cid: row.cid,
                indexed_at: Some(time(row.indexed_at_us)),
            },
        });
    }
    Ok(proto::GetBookmarksByActorAndSubjectsResponse { bookmarks })
}

#[cfg(test)]
#[path = "bookmarks_tests.rs"]
mod tests;
