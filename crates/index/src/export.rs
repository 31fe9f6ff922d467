//! What is kept on an account, one JSON value a row, for support and for audits.

use gp_atproto::{Value, json};
use gp_store::{Key, Scan, Store};
use serde_json::{Value as Json, json};

use crate::{
    Error, Result, actors, atom,
    atom::Parts,
    counts::{ByCount, Head, OnCount},
    notifications::Stored,
    placed::uri_of,
    records::RecordRow,
    relation::read_claims,
    tables::{self, BY, NOTIFICATION, ON, PRIVATE, RECORD, by},
};

/// Rows read in one go.
const ROWS_PER_PAGE: usize = 500;

/// Which table an export goes on in, and after which position. Begins with `Default`.
#[derive(Debug, Clone, Default)]
pub struct Position {
    stage: u8,
    after: Option<Vec<u8>>,
}

/// The next lines of the export of an account, and where it goes on; `None` at its end.
pub async fn next(store: &Store, did: &str, position: Position) -> Result<(Vec<Json>, Option<Position>)> {
    let account = atom::did(did);
    let partition = |table: &'static gp_store::Table| Key::of(table).atom(&account).partition();
    match position.stage {
        0 => {
            let mut lines = Vec::new();
            if let Some(stored) = store.get_one(&actors::key(did)).await? {
                let row = actors::read(&stored)?;
                lines.push(json!({
                    "type": "actor", "did": did, "handle": row.handle, "upstreamStatus": row.upstream_status,
                    "trustedVerifier": row.trusted_verifier, "firstSeenAt": date(row.first_seen_at_us),
                    "ageAssurance": { "status": row.age_assurance_status, "access": row.age_assurance_access },
                }));
            }
            let by = Head::read(store.get_one(&tables::by_head(did)).await?.as_ref());
            let on = Head::read(store.get_one(&tables::on_head(did)).await?.as_ref());
            lines.push(json!({
                "type": "counts", "posts": by.by(ByCount::Posts), "follows": by.by(ByCount::Follows),
                "followers": on.on(OnCount::Followers), "lists": by.by(ByCount::Lists),
                "likes": by.by(ByCount::Likes), "reposts": by.by(ByCount::Reposts),
            }));
            Ok((lines, Some(Position { stage: 1, after: None })))
        }
        1 => page(store, partition(&RECORD), position, |row| record(did, row)).await,
        2 => page(store, partition(&BY), position, |row| edge(did, row)).await,
        3 => page(store, partition(&ON), position, |row| Ok(vec![other("onAccount", row)])).await,
        4 => page(store, partition(&NOTIFICATION), position, notification).await,
        5 => page(store, partition(&PRIVATE), position, |row| private(row)).await,
        _ => Ok((Vec::new(), None)),
    }
}

async fn page(
    store: &Store,
    partition: gp_store::Partition,
    position: Position,
    line: impl Fn(&gp_store::Row) -> Result<Vec<Json>>,
) -> Result<(Vec<Json>, Option<Position>)> {
    let mut scan = Scan::of(partition).limit(ROWS_PER_PAGE);
    if let Some(after) = position.after {
        scan = scan.after(after);
    }
    let page = store.scan(scan).await?;
    let mut lines = Vec::new();
    for row in &page.rows {
        lines.extend(line(row)?);
    }
    let next = match page.rows.last() {
        Some(last) if page.more => Position { stage: position.stage, after: Some(last.clustering().to_vec()) },
        _ => Position { stage: position.stage + 1, after: None },
    };
    Ok((lines, Some(next)))
}

fn date(us: i64) -> String {
    gp_atproto::datetime::format_ms(us)
}

fn record(did: &str, row: &gp_store::Row) -> Result<Vec<Json>> {
    let mut parts = Parts::of(RECORD.name, row.clustering());
    let uri = uri_of(did, &parts.nsid()?, &parts.rkey()?);
    // The cached form is for callers of the contract; the row itself is read here.
    let stored = RecordRow::read(&row.value)?;
    Ok(vec![json!({
        "type": "record", "uri": uri, "cid": stored.cid().to_string(), "record": as_json(&stored.value()?),
        "indexedAt": date(stored.indexed_at_us), "flags": stored.flags.0,
    })])
}

fn as_json(value: &Value<'_>) -> Json {
    let mut text = Vec::new();
    json::write(value, &mut text);
    serde_json::from_slice(&text).unwrap_or(Json::Null)
}

fn edge(did: &str, row: &gp_store::Row) -> Result<Vec<Json>> {
    let mut parts = Parts::of(BY.name, row.clustering());
    if row.clustering().is_empty() {
        return Ok(Vec::new());
    }
    if parts.tag()? != by::CLAIM {
        return Ok(vec![other("byAccount", row)]);
    }
    let relation = parts.tag()?;
    let collection = collection_of_relation(relation).ok_or(Error::Corrupt { table: BY.name, what: "relation" })?;
    // All but the first claim wait for it to go.
    let waiting = read_claims(Some(&row.value))?.into_iter().skip(1);
    Ok(waiting.map(|claim| json!({ "type": "duplicate", "uri": uri_of(did, collection, &claim.rkey) })).collect())
}

fn collection_of_relation(number: u8) -> Option<&'static str> {
    crate::collections::ALL.iter().find_map(|c| match &c.kind {
        crate::collections::Kind::Relation(shape) | crate::collections::Kind::Verification(shape)
            if shape.relation as u8 == number =>
        {
            Some(shape.collection)
        }
        _ => None,
    })
}

fn notification(row: &gp_store::Row) -> Result<Vec<Json>> {
    let it = Stored::read(row.clustering(), &row.value)?;
    Ok(vec![json!({
        "type": "notification", "reason": it.reason.name(), "recordUri": it.uri, "reasonSubject": it.subject,
        "author": crate::placed::did_of(&it.uri), "sortAt": date(it.sort_at_us),
    })])
}

fn private(row: &gp_store::Row) -> Result<Vec<Json>> {
    if let Some((namespace, key, payload)) = crate::private::read_stash_row(row)? {
        return Ok(vec![json!({ "type": "private", "namespace": namespace, "key": key, "payload": payload })]);
    }
    Ok(vec![other("privateRow", row)])
}

fn other(kind: &str, row: &gp_store::Row) -> Json {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    json!({ "type": kind, "place": hex(row.clustering()), "value": hex(&row.value) })
}
