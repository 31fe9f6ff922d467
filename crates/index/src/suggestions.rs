//! Accounts, feeds and things put forward: what the operator says, or, where the operator says nothing, what the graph
//! says.
//!
//! A list of the operator's is the whole answer, an empty one included. Without a list, accounts come from the
//! neighbourhood of whoever asks and then from those followed most, feeds from those liked most. Every read looks at a
//! bounded part of the graph, and nobody is told of whom they follow already, of themselves, or of an account that is
//! hidden.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use gp_proto as proto;
use gp_store::{Key, Scan, View};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Cx, Error, Result, actors, atom,
    atom::Parts,
    generators, newcomers, page,
    placed::did_of,
    popular::{self, Board},
    records::{self, Flags},
    relation::{Relation, claims_key},
    tables::{self, BY, META, by},
};

/// Suggested feeds in a page for which no limit was given.
const FEEDS_DEFAULT: usize = 50;

/// Accounts of one walk through the suggestions. The token names all that were shown, and travels in addresses.
const SHOWN_MAX: usize = 500;

/// Accounts of a page relative to another account.
const RELATIVE_MAX: usize = 10;

/// Candidates that are looked at in one go.
const CHECKED_AT_ONCE: usize = 200;

/// Newest follows of an account whose own follows are looked at.
const FRIENDS_LOOKED_MAX: usize = 100;

/// Newest follows of each of them.
const FOLLOWS_EACH: usize = 50;

/// Newest likes of an account whose authors are looked at.
const LIKES_LOOKED_MAX: usize = 200;

/// The same for an account that suggestions are relative to. The contract's number.
const RELATIVE_LIKES_LOOKED_MAX: usize = 1_000;

/// Accounts of a neighbourhood that are considered.
const NEIGHBOURS_MAX: usize = 300;

/// With fewer popular accounts than this the network is young or small, and its newest accounts are considered too.
const POPULAR_ENOUGH: usize = 200;

/// Newest accounts that are considered, and hours in which they are looked for.
const NEWCOMERS_LOOKED_MAX: (usize, usize) = (500, 48);

/// Accounts and feeds that stand in for the operator's things by subject.
const ENTITIES_EACH: usize = 25;

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

/// Replaces a list of the operator's whole. An empty one suggests nothing.
pub fn set_list<T: Serialize>(view: &mut View<'_>, list: Curated, entries: &[T]) {
    view.put(key(list), serde_json::to_vec(entries).unwrap_or_default());
}

/// Forgets a list of the operator's: from now on the graph decides.
pub fn forget_list(view: &mut View<'_>, list: Curated) {
    view.delete(key(list));
}

/// A list of the operator's; nothing if none was given.
async fn read<T: for<'a> Deserialize<'a>>(cx: &Cx, list: Curated) -> Result<Option<Vec<T>>> {
    let stored = cx.store.get_one(&key(list)).await?;
    let parse = |bytes: Bytes| {
        serde_json::from_slice(&bytes).map_err(|_| Error::Corrupt { table: META.name, what: "operator's list" })
    };
    stored.map(parse).transpose()
}

/// A number of up to eight digits for a name, for tokens and for an order among equals.
fn number(name: &str) -> u32 {
    let digest = Sha256::digest(name.as_bytes());
    u32::from_be_bytes([0, digest[0], digest[1], digest[2]])
}

/// Where a listing of feeds goes on. A token of the other kind means that the operator's list has come or gone
/// meanwhile; the listing then ends.
#[derive(Debug, PartialEq, Eq)]
enum FeedsAfter {
    /// After so many of the operator's list.
    Order(usize),
    /// After a feed with so many likes and this number.
    Popular(u64, u32),
}

fn feeds_after(cursor: &str) -> Result<Option<FeedsAfter>> {
    let malformed = |_| Error::invalid("cursor", "is not a token this call gave: leave it out to begin again");
    Ok(Some(match cursor.split_once('_') {
        _ if cursor.is_empty() => return Ok(None),
        None => FeedsAfter::Order(cursor.parse().map_err(malformed)?),
        Some((likes, number)) => {
            FeedsAfter::Popular(likes.parse().map_err(malformed)?, number.parse().map_err(malformed)?)
        }
    }))
}

/// Suggested feeds: in the operator's order, or those liked most.
pub async fn get_suggested_feeds(
    cx: &Cx,
    req: proto::GetSuggestedFeedsRequest,
) -> Result<proto::GetSuggestedFeedsResponse> {
    let n = if req.limit == 0 { FEEDS_DEFAULT } else { page::limit(req.limit) };
    let after = feeds_after(&req.cursor)?;
    let (uris, cursor) = match (read::<String>(cx, Curated::Feeds).await?, after) {
        (Some(feeds), None) => feeds_in_order(&feeds, 0, n),
        (Some(feeds), Some(FeedsAfter::Order(from))) => feeds_in_order(&feeds, from, n),
        (None, None) => popular_feeds(cx, None, n).await?,
        (None, Some(FeedsAfter::Popular(likes, number))) => popular_feeds(cx, Some((likes, number)), n).await?,
        _ => (Vec::new(), String::new()),
    };
    Ok(proto::GetSuggestedFeedsResponse { uris, cursor })
}

fn feeds_in_order(feeds: &[String], from: usize, n: usize) -> (Vec<String>, String) {
    let uris: Vec<String> = feeds.iter().skip(from).take(n).cloned().collect();
    let end = from.saturating_add(uris.len());
    let cursor = if !uris.is_empty() && end < feeds.len() { end.to_string() } else { String::new() };
    (uris, cursor)
}

/// The feed generators liked most that stand, of accounts that are not hidden.
async fn popular_feeds(cx: &Cx, after: Option<(u64, u32)>, n: usize) -> Result<(Vec<String>, String)> {
    if n == 0 {
        return Ok(Default::default());
    }
    let board = popular::highest(cx, Board::Feeds).await?;
    let mut feeds: Vec<(u64, u32, String)> = board.into_iter().map(|(uri, likes)| (likes, number(&uri), uri)).collect();
    feeds.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, &a.2).cmp(&(b.1, &b.2))));
    if let Some((likes, number)) = after {
        feeds.retain(|feed| feed.0 < likes || (feed.0 == likes && feed.1 > number));
    }
    let mut found: Vec<(u64, u32, String)> = Vec::new();
    for chunk in feeds.chunks(CHECKED_AT_ONCE.min(n + 1)) {
        let uris: Vec<String> = chunk.iter().map(|(.., uri)| uri.clone()).collect();
        let owners: Vec<&str> = uris.iter().map(|uri| did_of(uri).unwrap_or_default()).collect();
        let records = records::look_up(cx, &uris, generators::NSID).await?;
        for ((feed, served), active) in chunk.iter().zip(records).zip(actors::active(cx, &owners).await?) {
            if active && !served.record.cid.is_empty() && !served.flags.has(Flags::TAKEN_DOWN) {
                found.push(feed.clone());
            }
        }
        if found.len() > n {
            break;
        }
    }
    let more = found.len() > n;
    found.truncate(n);
    let cursor = match found.last() {
        Some((likes, number, _)) if more => format!("{likes}_{number}"),
        _ => String::new(),
    };
    Ok((found.into_iter().map(|(.., uri)| uri).collect(), cursor))
}

/// Suggested things by subject: all of the operator's. Without a list the accounts followed most and the feeds liked
/// most stand under `popular`: other subjects are an operator's words.
pub async fn get_suggested_entities(
    cx: &Cx,
    _req: proto::GetSuggestedEntitiesRequest,
) -> Result<proto::GetSuggestedEntitiesResponse> {
    let entities: Vec<Entity> = match read(cx, Curated::Entities).await? {
        Some(entities) => entities,
        None => {
            let candidates = numbered(popular_accounts(cx).await?);
            let accounts = suggestible(cx, "", &[], candidates, ENTITIES_EACH).await?;
            let (feeds, _) = popular_feeds(cx, None, ENTITIES_EACH).await?;
            let popular = |subject: String, kind: &str| Entity {
                tag: "popular".to_owned(),
                subject,
                subject_type: kind.to_owned(),
            };
            let accounts = accounts.into_iter().map(|(_, did)| popular(did, "actor"));
            accounts.chain(feeds.into_iter().map(|uri| popular(uri, "feed"))).collect()
        }
    };
    let entity = |e: Entity| proto::SuggestedEntity {
        tag: e.tag,
        subject: e.subject,
        subject_type: e.subject_type,
        priority: 0,
    };
    let entities = entities.into_iter().map(entity).collect();
    Ok(proto::GetSuggestedEntitiesResponse { entities, cursor: String::new() })
}

/// Accounts to follow.
///
/// Of the operator's list the first two come first and the others shuffled; without a list, the neighbourhood of the
/// actor and then the accounts followed most. The token names all that were shown, so that none is shown twice
/// whatever changes between pages, and a walk ends after [`SHOWN_MAX`] (read-rpcs 5.16).
pub async fn get_follow_suggestions(
    cx: &Cx,
    req: proto::GetFollowSuggestionsRequest,
) -> Result<proto::GetFollowSuggestionsResponse> {
    if !req.relative_to_did.is_empty() {
        return relative_suggestions(cx, &req).await;
    }
    let mut shown: Vec<u32> = req.cursor.split(':').filter_map(|n| n.parse().ok()).collect();
    if shown.len() >= SHOWN_MAX {
        return Ok(proto::GetFollowSuggestionsResponse::default());
    }
    let mut candidates = match read::<String>(cx, Curated::Follows).await? {
        Some(list) => in_mixed_order(list),
        None => numbered(default_accounts(cx, &req.actor_did).await?),
    };
    let seen: HashSet<u32> = shown.iter().copied().collect();
    candidates.retain(|(number, _)| !seen.contains(number));
    let n = if req.limit > 0 { page::limit(req.limit) } else { SHOWN_MAX };
    let found = suggestible(cx, &req.actor_did, &[], candidates, n).await?;
    let mut cursor = String::new();
    if !found.is_empty() {
        shown.splice(0..0, found.iter().map(|(number, _)| *number));
        shown.truncate(SHOWN_MAX);
        cursor = shown.iter().map(u32::to_string).collect::<Vec<_>>().join(":");
    }
    Ok(proto::GetFollowSuggestionsResponse { dids: found.into_iter().map(|(_, did)| did).collect(), cursor })
}

/// Accounts for whoever looks at another account: whom that one likes most, then what the operator says, or whom that
/// one follows and who is followed most. One page is all there is.
async fn relative_suggestions(
    cx: &Cx,
    req: &proto::GetFollowSuggestionsRequest,
) -> Result<proto::GetFollowSuggestionsResponse> {
    if !req.cursor.is_empty() {
        return Ok(proto::GetFollowSuggestionsResponse::default());
    }
    let relative_to = req.relative_to_did.as_str();
    let n = if req.limit > 0 { page::limit(req.limit).min(RELATIVE_MAX) } else { RELATIVE_MAX };
    let not = [relative_to];
    let mut liked: HashMap<Vec<u8>, u32> = HashMap::new();
    tally_liked_authors(cx, relative_to, RELATIVE_LIKES_LOOKED_MAX, &mut liked).await?;
    let mut candidates = ranked(cx, liked).await?;
    let mut found = suggestible(cx, &req.actor_did, &not, numbered(candidates.clone()), n).await?;
    if found.len() < n {
        match read::<String>(cx, Curated::Follows).await? {
            Some(list) => candidates.extend(in_mixed_order(list).into_iter().map(|(_, did)| did)),
            None => {
                let followed = newest_follows(cx, relative_to, NEIGHBOURS_MAX).await?;
                let followed = followed.iter().map(|did| Parts::of(BY.name, did).did()).collect::<Result<_>>()?;
                let followed = popular::counted(cx, Board::Accounts, followed).await?;
                candidates.extend(followed.into_iter().map(|(did, _)| did));
                candidates.extend(popular_accounts(cx).await?);
            }
        }
        found = suggestible(cx, &req.actor_did, &not, numbered(candidates), n).await?;
    }
    let dids = found.into_iter().map(|(_, did)| did).collect();
    Ok(proto::GetFollowSuggestionsResponse { dids, cursor: String::new() })
}

/// Candidates of the operator's list, each once: the first two first, the others shuffled. Numbers are the places in
/// the list.
fn in_mixed_order(list: Vec<String>) -> Vec<(u32, String)> {
    let mut met = HashSet::new();
    let mut numbered: Vec<(u32, String)> = (1u32..).zip(list).filter(|(_, did)| met.insert(did.clone())).collect();
    if let Some(others) = numbered.get_mut(2..) {
        others.shuffle(&mut rand::rng());
    }
    numbered
}

/// Candidates of the graph: their order stays, and numbers come from their names.
fn numbered(dids: Vec<String>) -> Vec<(u32, String)> {
    dids.into_iter().map(|did| (number(&did), did)).collect()
}

/// The first `n` of some candidates, each once, that may be suggested to an account: that exist, are not hidden, are
/// not followed by it, and are neither itself nor one of `not`.
async fn suggestible(
    cx: &Cx,
    actor: &str,
    not: &[&str],
    candidates: Vec<(u32, String)>,
    n: usize,
) -> Result<Vec<(u32, String)>> {
    let mut met: HashSet<&str> = not.iter().copied().chain([actor]).collect();
    let mut rest: Vec<&(u32, String)> = Vec::with_capacity(candidates.len());
    for candidate in &candidates {
        if met.insert(&candidate.1) {
            rest.push(candidate);
        }
    }
    let mut found = Vec::new();
    for chunk in rest.chunks(CHECKED_AT_ONCE) {
        if found.len() >= n {
            break;
        }
        let dids: Vec<&str> = chunk.iter().map(|(_, did)| did.as_str()).collect();
        let active = actors::active(cx, &dids).await?;
        let claims: Vec<Key> = match actor {
            "" => Vec::new(),
            actor => dids.iter().map(|did| claims_key(actor, Relation::Follow, &atom::did(did))).collect(),
        };
        let followed = cx.store.get(&claims).await?;
        for (i, candidate) in chunk.iter().enumerate() {
            if active[i] && followed.get(i).is_none_or(Option::is_none) {
                found.push((*candidate).clone());
            }
        }
    }
    found.truncate(n);
    Ok(found)
}

/// Accounts for somebody, or for anybody: the neighbourhood, then whoever is followed most.
async fn default_accounts(cx: &Cx, actor: &str) -> Result<Vec<String>> {
    let mut accounts = if actor.is_empty() { Vec::new() } else { neighbourhood(cx, actor).await? };
    accounts.extend(popular_accounts(cx).await?);
    Ok(accounts)
}

/// The accounts followed most. A network in which few are followed by many has its newest accounts behind them, as far
/// as anybody follows them.
async fn popular_accounts(cx: &Cx) -> Result<Vec<String>> {
    let mut popular = popular::highest(cx, Board::Accounts).await?;
    if popular.len() < POPULAR_ENOUGH {
        let newest = newest_accounts(cx).await?;
        popular.extend(popular::counted(cx, Board::Accounts, newest).await?.into_iter().filter(|(_, n)| *n > 0));
    }
    Ok(popular.into_iter().map(|(did, _)| did).collect())
}

async fn newest_accounts(cx: &Cx) -> Result<Vec<String>> {
    let (accounts_max, mut hours_left) = NEWCOMERS_LOOKED_MAX;
    let mut found = Vec::new();
    for day in newcomers::days(&cx.store, 0..u32::MAX, true, hours_left).await? {
        for hour in (0..day.hours.len()).rev().filter(|hour| day.hours[*hour] > 0) {
            if hours_left == 0 || found.len() >= accounts_max {
                return Ok(found);
            }
            hours_left -= 1;
            let left = accounts_max - found.len();
            found.extend(newcomers::accounts(cx, day.hour(hour), true, None, left).await?.0);
        }
    }
    Ok(found)
}

/// Who is followed by those an account follows, and whose posts it likes; whoever is met most often first.
async fn neighbourhood(cx: &Cx, actor: &str) -> Result<Vec<String>> {
    let friends = newest_follows(cx, actor, FRIENDS_LOOKED_MAX).await?;
    let follows_of =
        |friend: &Bytes| Scan::of(Key::of(&BY).atom(friend).partition()).prefix([by::FOLLOW]).limit(FOLLOWS_EACH);
    let mut met: HashMap<Vec<u8>, u32> = HashMap::new();
    for page in cx.store.scan_many(friends.iter().map(follows_of).collect()).await? {
        for row in page.rows {
            *met.entry(row.value.to_vec()).or_default() += 1;
        }
    }
    tally_liked_authors(cx, actor, LIKES_LOOKED_MAX, &mut met).await?;
    for friend in &friends {
        met.remove(&friend[..]);
    }
    ranked(cx, met).await
}

/// Counts the authors of what an account liked last.
async fn tally_liked_authors(cx: &Cx, actor: &str, likes_max: usize, met: &mut HashMap<Vec<u8>, u32>) -> Result<()> {
    for row in cx.store.scan(tables::scan_by(actor, by::LIKE).limit(likes_max)).await?.rows {
        if let Some(author) = did_of(&Parts::of(BY.name, &row.value).uri()?) {
            *met.entry(atom::did(author).to_vec()).or_default() += 1;
        }
    }
    Ok(())
}

/// Accounts by how often they were met, then by followers, then by name.
async fn ranked(cx: &Cx, met: HashMap<Vec<u8>, u32>) -> Result<Vec<String>> {
    let mut met: Vec<(Vec<u8>, u32)> = met.into_iter().collect();
    met.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    met.truncate(NEIGHBOURS_MAX);
    let mut times: HashMap<String, u32> = HashMap::with_capacity(met.len());
    for (did, n) in met {
        times.insert(Parts::of(BY.name, &did).did()?, n);
    }
    let mut counted = popular::counted(cx, Board::Accounts, times.keys().cloned().collect()).await?;
    // The sort is stable: among those met equally often the order of their followers stays.
    counted.sort_by_key(|(did, _)| std::cmp::Reverse(times[did]));
    Ok(counted.into_iter().map(|(did, _)| did).collect())
}

/// The newest accounts that an account follows, as they are kept in keys.
async fn newest_follows(cx: &Cx, actor: &str, limit: usize) -> Result<Vec<Bytes>> {
    let page = cx.store.scan(tables::scan_by(actor, by::FOLLOW).limit(limit)).await?;
    Ok(page.rows.into_iter().map(|row| row.value).collect())
}

#[cfg(test)]
#[path = "suggestions_tests.rs"]
mod tests;
