//! What operators suggest: accounts, feeds, and things by subject.

use std::collections::HashSet;

use gp_proto as proto;
use gp_store::{Key, View};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::{
    Cx, Error, Result, actors, atom, page,
    relation::{Relation, claims_key},
    tables::META,
};

/// Suggested feeds in a page for which no limit was given.
const FEEDS_DEFAULT: usize = 50;

/// The operator's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curated {
    /// Accounts to follow, in order.
    Follows,
    /// Feed generators, in order.
    Feeds,
    /// Things by subject.
    Entities,
}

/// A thing suggested for a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// The subject.
    pub tag: String,
    /// A DID or an address.
    pub subject: String,
    /// What kind of thing it is.
    #[serde(rename = "subjectType")]
    pub subject_type: String,
}

fn key(list: Curated) -> Key {
    let name = match list {
        Curated::Follows => "suggested-follows",
        Curated::Feeds => "suggested-feeds",
        Curated::Entities => "suggested-entities",
    };
    Key::of(&META).atom(&atom::did(name)).key()
}

/// Replaces a list of the operator's whole.
pub fn set_list<T: Serialize>(view: &mut View<'_>, list: Curated, entries: &[T]) {
    view.put(key(list), serde_json::to_vec(entries).unwrap_or_default());
}

async fn read<T: for<'a> Deserialize<'a>>(cx: &Cx, list: Curated) -> Result<Vec<T>> {
    let stored = cx.store.get_one(&key(list)).await?;
    stored.map_or_else(
        || Ok(Vec::new()),
        |bytes| {
            serde_json::from_slice(&bytes).map_err(|_| Error::Corrupt { table: META.name, what: "operator's list" })
        },
    )
}

/// Suggested feeds in the operator's order.
pub async fn get_suggested_feeds(
    cx: &Cx,
    req: proto::GetSuggestedFeedsRequest,
) -> Result<proto::GetSuggestedFeedsResponse> {
    let feeds: Vec<String> = read(cx, Curated::Feeds).await?;
    let n = if req.limit == 0 { FEEDS_DEFAULT } else { page::limit(req.limit) };
    let from = match req.cursor.as_str() {
        "" => 0,
        text => text
            .parse::<usize>()
            .map_err(|_| Error::invalid("cursor", "is not a number: leave it out to begin again"))?,
    };
    let uris: Vec<String> = feeds.iter().skip(from).take(n).cloned().collect();
    let end = from.saturating_add(uris.len());
    let cursor = if !uris.is_empty() && end < feeds.len() { end.to_string() } else { String::new() };
    Ok(proto::GetSuggestedFeedsResponse { uris, cursor })
}

/// Suggested things by subject: all of them.
pub async fn get_suggested_entities(
    cx: &Cx,
    _req: proto::GetSuggestedEntitiesRequest,
) -> Result<proto::GetSuggestedEntitiesResponse> {
    let entities: Vec<Entity> = read(cx, Curated::Entities).await?;
    let entity = |e: Entity| proto::SuggestedEntity {
        tag: e.tag,
        subject: e.subject,
        subject_type: e.subject_type,
        priority: 0,
    };
    Ok(proto::GetSuggestedEntitiesResponse {
        entities: entities.into_iter().map(entity).collect(),
        cursor: String::new(),
    })
}

/// Accounts to follow: the operator's first two always first, the others shuffled, none that was on an earlier page,
/// and none that the actor follows already (read-rpcs 5.16).
pub async fn get_follow_suggestions(
    cx: &Cx,
    req: proto::GetFollowSuggestionsRequest,
) -> Result<proto::GetFollowSuggestionsResponse> {
    // One page answers for a neighbourhood.
    if !req.relative_to_did.is_empty() && !req.cursor.is_empty() {
        return Ok(proto::GetFollowSuggestionsResponse::default());
    }
    let seen: HashSet<usize> = req.cursor.split(':').filter_map(|n| n.parse().ok()).collect();
    let curated: Vec<String> = read(cx, Curated::Follows).await?;
    let candidates: Vec<(usize, String)> =
        curated.into_iter().enumerate().map(|(i, did)| (i + 1, did)).filter(|(i, _)| !seen.contains(i)).collect();
    let mut keys: Vec<Key> = candidates.iter().map(|(_, did)| actors::key(did)).collect();
    keys.extend(candidates.iter().map(|(_, did)| claims_key(&req.actor_did, Relation::Follow, &atom::did(did))));
    let found = cx.store.get(&keys).await?;
    let (known, followed) = found.split_at(candidates.len());
    let mut first = Vec::new();
    let mut rest = Vec::new();
    for (i, candidate) in candidates.into_iter().enumerate() {
        let exists = known[i].as_deref().map(actors::read).transpose()?.is_some_and(|row| row.exists);
        if !exists || followed[i].is_some() || candidate.1 == req.actor_did || candidate.1 == req.relative_to_did {
            continue;
        }
        if candidate.0 <= 2 { first.push(candidate) } else { rest.push(candidate) }
    }
    rest.shuffle(&mut rand::rng());
    first.extend(rest);
    if req.limit > 0 {
        first.truncate(page::limit(req.limit));
    }
    let mut cursor = String::new();
    if !first.is_empty() && req.relative_to_did.is_empty() {
        let shown: Vec<String> = first.iter().map(|(i, _)| i.to_string()).collect();
        cursor = shown.join(":");
        if !req.cursor.is_empty() {
            cursor.push(':');
            cursor.push_str(req.cursor.trim_matches(':'));
        }
    }
    Ok(proto::GetFollowSuggestionsResponse { dids: first.into_iter().map(|(_, did)| did).collect(), cursor })
}
