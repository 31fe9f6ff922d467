//! Mutes: of accounts, of everybody on a list, of threads.

use gp_proto as proto;
use gp_store::{Key, View};

use crate::{
    Cx, Error, Result, actors, atom,
    atom::Parts,
    counts::{Deltas, PrivateCount},
    lists, page,
    placed::{collection_of, cut_to_ms},
    private::descending,
    records,
    tables::{self, PRIVATE, private},
};

/// Only reposts are muted.
pub const ONLY_REPOSTS: u8 = 1;
/// Only quotes are muted.
pub const ONLY_QUOTES: u8 = 2;

/// Rows removed in one go when somebody clears all mutes.
const CLEARED_PER_ROUND: usize = 10_000;

/// Lists of an account that are looked through.
const LISTS_MAX: usize = 1_000;

/// What an operation of the log of mutes does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MuteOp {
    /// Mute, or change the scope of a mute.
    Add,
    /// Mute no longer.
    Remove,
    /// Forget all muted accounts and lists. Muted threads stay (ingest T44).
    Clear,
}

/// Applies one operation of the log of mutes. The subject is an account, a list, or the root of a thread.
pub fn apply_mute(view: &mut View<'_>, op: MuteOp, actor: &str, subject: &str, scope: u8, time_us: i64) -> Result<()> {
    let of_list = collection_of(subject) == Some(lists::LIST);
    match op {
        MuteOp::Add if subject.starts_with("did:") => mute(view, actor, subject, scope, time_us),
        MuteOp::Add if of_list => mute_list(view, actor, subject, time_us),
        MuteOp::Add => mute_thread(view, actor, subject, time_us),
        MuteOp::Remove if subject.starts_with("did:") => unmute(view, actor, subject),
        MuteOp::Remove if of_list => unmark(view, actor, private::LIST_MUTE, subject, PrivateCount::ListMutes),
        MuteOp::Remove => unmark(view, actor, private::THREAD_MUTE, subject, PrivateCount::ThreadMutes),
        MuteOp::Clear => {
            clear_mutes(view, actor)?;
            clear(view, actor, private::LIST_MUTE, PrivateCount::ListMutes)
        }
    }
}

fn mute_key(actor: &str, subject: &str) -> Key {
    tables::private_of(actor, private::MUTE).atom(&atom::did(subject)).key()
}

fn by_time_key(actor: &str, subject: &str, at_us: i64) -> Key {
    tables::private_of(actor, private::MUTE_BY_TIME).micros_desc(at_us).atom(&descending(&atom::did(subject))).key()
}

/// Scope and time of a stored mute.
pub(crate) fn read_mute(stored: &[u8]) -> Result<(u8, i64)> {
    let corrupt = || Error::Corrupt { table: PRIVATE.name, what: "mute" };
    let (scope, time) = stored.split_first().ok_or_else(corrupt)?;
    Ok((*scope, i64::from_be_bytes(*time.first_chunk::<8>().ok_or_else(corrupt)?)))
}

fn mute(view: &mut View<'_>, actor: &str, subject: &str, scope: u8, time_us: i64) -> Result<()> {
    let place = mute_key(actor, subject);
    let stored = view.get(&place)?;
    // A change of scope keeps the time of the mute.
    let at_us = match &stored {
        Some(stored) => read_mute(stored)?.1,
        None => cut_to_ms(time_us),
    };
    let mut value = vec![scope];
    value.extend_from_slice(&at_us.to_be_bytes());
    view.put(place, value.clone());
    value.extend_from_slice(&atom::did(subject));
    view.put(by_time_key(actor, subject, at_us), value);
    count(view, actor, PrivateCount::Mutes, i64::from(stored.is_none()))
}

fn unmute(view: &mut View<'_>, actor: &str, subject: &str) -> Result<()> {
    let place = mute_key(actor, subject);
    let Some(stored) = view.get(&place)? else { return Ok(()) };
    let (_, at_us) = read_mute(&stored)?;
    view.delete(place);
    view.delete(by_time_key(actor, subject, at_us));
    count(view, actor, PrivateCount::Mutes, -1)
}

fn clear_mutes(view: &mut View<'_>, actor: &str) -> Result<()> {
    clear(view, actor, private::MUTE, PrivateCount::Mutes)?;
    while remove_round(view, actor, private::MUTE_BY_TIME)?.1 {}
    Ok(())
}

fn clear(view: &mut View<'_>, actor: &str, kind: u8, cell: PrivateCount) -> Result<()> {
    loop {
        let (removed, more) = remove_round(view, actor, kind)?;
        count(view, actor, cell, -removed)?;
        if !more {
            return Ok(());
        }
    }
}

/// Removes some rows of one kind. Returns how many, and whether there are more.
fn remove_round(view: &mut View<'_>, actor: &str, kind: u8) -> Result<(i64, bool)> {
    let page = view.scan(&tables::scan_private(actor, kind).limit(CLEARED_PER_ROUND))?;
    let removed = i64::try_from(page.rows.len()).unwrap_or(0);
    for row in page.rows {
        view.delete(row.key);
    }
    Ok((removed, page.more))
}

fn count(view: &mut View<'_>, actor: &str, cell: PrivateCount, delta: i64) -> Result<()> {
    let mut deltas = Deltas::default();
    deltas.add(tables::private_head(actor), cell as u8, delta);
    deltas.apply(view)
}

fn mark(view: &mut View<'_>, actor: &str, kind: u8, subject: &str, cell: PrivateCount, time_us: i64) -> Result<()> {
    let place = tables::private_of(actor, kind).atom(&atom::uri(subject)).key();
    if view.get(&place)?.is_some() {
        return Ok(());
    }
    view.put(place, cut_to_ms(time_us).to_be_bytes().to_vec());
    count(view, actor, cell, 1)
}

fn unmark(view: &mut View<'_>, actor: &str, kind: u8, subject: &str, cell: PrivateCount) -> Result<()> {
    let place = tables::private_of(actor, kind).atom(&atom::uri(subject)).key();
    if view.get(&place)?.is_none() {
        return Ok(());
    }
    view.delete(place);
    count(view, actor, cell, -1)
}

fn mute_list(view: &mut View<'_>, actor: &str, list: &str, time_us: i64) -> Result<()> {
    mark(view, actor, private::LIST_MUTE, list, PrivateCount::ListMutes, time_us)
}

fn mute_thread(view: &mut View<'_>, actor: &str, root: &str, time_us: i64) -> Result<()> {
    mark(view, actor, private::THREAD_MUTE, root, PrivateCount::ThreadMutes, time_us)
}

/// Whether an account mutes another, and what of it.
pub async fn get_actor_mutes_actor(
    cx: &Cx,
    req: proto::GetActorMutesActorRequest,
) -> Result<proto::GetActorMutesActorResponse> {
    let stored = cx.store.get_one(&mute_key(&req.actor_did, &req.target_did)).await?;
    let scope = stored.as_deref().map(read_mute).transpose()?.map(|(scope, _)| scope);
    Ok(proto::GetActorMutesActorResponse {
        muted: scope == Some(0),
        muted_only_reposts: scope.is_some_and(|s| s & ONLY_REPOSTS != 0),
        muted_only_quoteposts: scope.is_some_and(|s| s & ONLY_QUOTES != 0),
    })
}

/// Rounds of one listing while unknown accounts are left out. A page that ends here has a token of where it stopped.
const ROUNDS_MAX: usize = 20;

/// Rows of the second and later rounds of a page.
const ROUND_ROWS: usize = 500;

/// Muted accounts, latest mute first. An account that was never seen is left out.
pub async fn get_mutes(cx: &Cx, req: proto::GetMutesRequest) -> Result<proto::GetMutesResponse> {
    let n = page::limit(req.limit);
    let base = || tables::scan_private(&req.actor_did, private::MUTE_BY_TIME);
    let mut scan = base();
    if let Some((at_us, did)) = mutes_after(&req.cursor)? {
        scan = scan.after(by_time_key(&req.actor_did, did, at_us).clustering().to_vec());
    }
    if n == 0 {
        return Ok(proto::GetMutesResponse::default());
    }
    let token = |did: &str, at_us: i64| format!("{}__{did}", at_us.div_euclid(1000));
    let mut found: Vec<(proto::MuteInfo, i64)> = Vec::new();
    let mut stopped = String::new();
    for round in 0..ROUNDS_MAX {
        let page = cx.store.scan(scan.limit(if round == 0 { n + 1 } else { ROUND_ROWS })).await?;
        let mut read = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let (scope, at_us) = read_mute(&row.value)?;
            read.push((Parts::of(PRIVATE.name, row.value.get(9..).unwrap_or_default()).did()?, scope, at_us));
        }
        stopped = match read.last() {
            Some((did, _, at_us)) if page.more => token(did, *at_us),
            _ => String::new(),
        };
        let keys: Vec<Key> = read.iter().map(|(did, _, _)| actors::key(did)).collect();
        for ((did, scope, at_us), actor) in read.into_iter().zip(cx.store.get(&keys).await?) {
            if actor.as_deref().map(actors::read).transpose()?.is_some_and(|row| row.exists) {
                let info = proto::MuteInfo {
                    did,
                    only_reposts: scope & ONLY_REPOSTS != 0,
                    only_quoteposts: scope & ONLY_QUOTES != 0,
                };
                found.push((info, at_us));
            }
        }
        match page.rows.last() {
            Some(last) if page.more && found.len() <= n => scan = base().after(last.clustering().to_vec()),
            _ => break,
        }
    }
    let cursor = if found.len() > n {
        let (last, at_us) = &found[n - 1];
        token(&last.did, *at_us)
    } else {
        stopped
    };
    found.truncate(n);
    let mutes: Vec<proto::MuteInfo> = found.into_iter().map(|(info, _)| info).collect();
    Ok(proto::GetMutesResponse { dids: mutes.iter().map(|m| m.did.clone()).collect(), mutes, cursor })
}

/// Time and account that a listing of mutes goes on after.
fn mutes_after(cursor: &str) -> Result<Option<(i64, &str)>> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let malformed = || Error::invalid("cursor", "is not a token this call gave: leave it out to begin again");
    let (millis, did) = cursor.split_once("__").filter(|(_, did)| !did.is_empty()).ok_or_else(malformed)?;
    let millis: i64 = millis.parse().map_err(|_| malformed())?;
    Ok(Some((millis.checked_mul(1000).ok_or_else(malformed)?, did)))
}

/// Lists that an account mutes.
pub(crate) async fn muted_lists(cx: &Cx, actor: &str) -> Result<Vec<String>> {
    let page = cx.store.scan(tables::scan_private(actor, private::LIST_MUTE).limit(LISTS_MAX)).await?;
    page.rows.iter().map(|row| Parts::of(PRIVATE.name, &row.clustering()[1..]).uri()).collect()
}

/// A muted list that an account is on.
pub async fn get_actor_mutes_actor_via_list(
    cx: &Cx,
    req: proto::GetActorMutesActorViaListRequest,
) -> Result<proto::GetActorMutesActorViaListResponse> {
    let lists = muted_lists(cx, &req.actor_did).await?;
    let member = atom::did(&req.target_did);
    let keys: Vec<Key> =
        lists.iter().map(|list| tables::on_subject(list, tables::on::MEMBER).atom(&member).key()).collect();
    let found = cx.store.get(&keys).await?;
    let list_uri =
        lists.into_iter().zip(found).find(|(_, item)| item.is_some()).map(|(list, _)| list).unwrap_or_default();
    Ok(proto::GetActorMutesActorViaListResponse { list_uri })
}

/// Whether an account mutes a list.
pub async fn get_mutelist_subscription(
    cx: &Cx,
    req: proto::GetMutelistSubscriptionRequest,
) -> Result<proto::GetMutelistSubscriptionResponse> {
    let key = tables::private_of(&req.actor_did, private::LIST_MUTE).atom(&atom::uri(&req.list_uri)).key();
    Ok(proto::GetMutelistSubscriptionResponse { subscribed: cx.store.get_one(&key).await?.is_some() })
}

/// Lists that an account mutes and that stand, newest list first.
pub async fn get_mutelist_subscriptions(
    cx: &Cx,
    req: proto::GetMutelistSubscriptionsRequest,
) -> Result<proto::GetMutelistSubscriptionsResponse> {
    let lists = muted_lists(cx, &req.actor_did).await?;
    let (list_uris, cursor) = page_of_lists(cx, lists, req.limit, &req.cursor).await?;
    Ok(proto::GetMutelistSubscriptionsResponse { list_uris, cursor })
}

/// One page of lists that stand, ordered by the lists' own time, newest first. Few enough to be ordered in memory.
pub(crate) async fn page_of_lists(
    cx: &Cx,
    uris: Vec<String>,
    limit: i32,
    cursor: &str,
) -> Result<(Vec<String>, String)> {
    let n = page::limit(limit);
    let cursor = page::timed_cursor(cursor)?;
    let found = records::look_up(cx, &uris, lists::LIST).await?;
    let mut lists: Vec<(i64, String, String)> = Vec::new();
    for (uri, served) in uris.into_iter().zip(found) {
        if let Some(at) = served.record.sorted_at.as_ref() {
            lists.push((records::micros(at), served.record.cid, uri));
        }
    }
    lists.sort_by(|a, b| b.cmp(a));
    if let Some(cursor) = cursor {
        let place = page::timed_position(cursor.sort_at_us, cursor.tie);
        let after: Option<String> = cursor.tail.and_then(|tail| String::from_utf8(tail).ok());
        lists.retain(|(at, cid, uri)| {
            let here = page::timed_position(*at, gp_atproto::compact::cid_tie_text(cid));
            here > place || (here == place && after.as_ref().is_some_and(|after| uri < after))
        });
    }
    let mut token = String::new();
    if lists.len() > n && n > 0 {
        let ((at, cid, uri), next) = (&lists[n - 1], &lists[n]);
        token = format!("{}__{cid}", at.div_euclid(1000));
        if (at, cid) == (&next.0, &next.1) {
            token.push('~');
            for byte in uri.as_bytes() {
                token.push_str(&format!("{byte:02x}"));
            }
        }
    }
    lists.truncate(n);
    Ok((lists.into_iter().map(|(_, _, uri)| uri).collect(), token))
}

/// Which threads, named by their roots, an account mutes, in the order asked.
pub async fn get_thread_mutes_on_subjects(
    cx: &Cx,
    req: proto::GetThreadMutesOnSubjectsRequest,
) -> Result<proto::GetThreadMutesOnSubjectsResponse> {
    let key = |root: &String| tables::private_of(&req.actor_did, private::THREAD_MUTE).atom(&atom::uri(root)).key();
    let keys: Vec<Key> = req.thread_roots.iter().map(key).collect();
    let muted = cx.store.get(&keys).await?.into_iter().map(|row| row.is_some()).collect();
    Ok(proto::GetThreadMutesOnSubjectsResponse { muted })
}

/// Refuses a mute of oneself, and one of or by what is no account.
fn two_accounts(actor: &str, subject: &str) -> Result<()> {
    an_account("actor_did", actor)?;
    an_account("subject_did", subject)?;
    if actor == subject { Err(Error::invalid("subject_did", "an account cannot mute itself")) } else { Ok(()) }
}

fn an_account(field: &'static str, did: &str) -> Result<()> {
    if gp_atproto::did::is_valid(did) { Ok(()) } else { Err(Error::invalid(field, "is not a DID")) }
}

fn a_list(subject: &str) -> Result<()> {
    if collection_of(subject) == Some(lists::LIST) {
        Ok(())
    } else {
        Err(Error::invalid("subject_uri", "is not the address of a list"))
    }
}

fn a_root(root: &str) -> Result<()> {
    if gp_atproto::aturi::is_valid(root) { Ok(()) } else { Err(Error::invalid("thread_root", "is not an at-uri")) }
}

macro_rules! writes {
    ($($(#[$doc:meta])* $name:ident: $request:ident => $response:ident, |$view:ident, $req:ident, $now:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        pub async fn $name(cx: &Cx, $req: proto::$request) -> Result<proto::$response> {
            let $now = (cx.now_us)();
            let _ = $now;
            cx.writer.run(move |$view| -> Result<()> { $body }).await?;
            Ok(proto::$response {})
        }
    )*};
}

writes! {
    /// Mutes an account, or changes the scope of its mute.
    create_actor_mute: CreateActorMuteRequest => CreateActorMuteResponse, |view, req, now| {
        two_accounts(&req.actor_did, &req.subject_did)?;
        let scope = u8::from(req.only_reposts) * ONLY_REPOSTS | u8::from(req.only_quoteposts) * ONLY_QUOTES;
        mute(view, &req.actor_did, &req.subject_did, scope, now)
    };
    /// Mutes an account no longer.
    delete_actor_mute: DeleteActorMuteRequest => DeleteActorMuteResponse, |view, req, now| {
        two_accounts(&req.actor_did, &req.subject_did)?;
        unmute(view, &req.actor_did, &req.subject_did)
    };
    /// Forgets all muted accounts. Muted lists stay.
    clear_actor_mutes: ClearActorMutesRequest => ClearActorMutesResponse, |view, req, now| {
        an_account("actor_did", &req.actor_did)?;
        clear_mutes(view, &req.actor_did)
    };
    /// Mutes everybody on a list.
    create_actor_mutelist_subscription: CreateActorMutelistSubscriptionRequest => CreateActorMutelistSubscriptionResponse, |view, req, now| {
        an_account("actor_did", &req.actor_did)?;
        a_list(&req.subject_uri)?;
        mute_list(view, &req.actor_did, &req.subject_uri, now)
    };
    /// Mutes a list no longer.
    delete_actor_mutelist_subscription: DeleteActorMutelistSubscriptionRequest => DeleteActorMutelistSubscriptionResponse, |view, req, now| {
        an_account("actor_did", &req.actor_did)?;
        a_list(&req.subject_uri)?;
        unmark(view, &req.actor_did, private::LIST_MUTE, &req.subject_uri, PrivateCount::ListMutes)
    };
    /// Forgets all muted lists.
    clear_actor_mutelist_subscriptions: ClearActorMutelistSubscriptionsRequest => ClearActorMutelistSubscriptionsResponse, |view, req, now| {
        an_account("actor_did", &req.actor_did)?;
        clear(view, &req.actor_did, private::LIST_MUTE, PrivateCount::ListMutes)
    };
    /// Mutes a thread.
    create_thread_mute: CreateThreadMuteRequest => CreateThreadMuteResponse, |view, req, now| {
        an_account("actor_did", &req.actor_did)?;
        a_root(&req.thread_root)?;
        mute_thread(view, &req.actor_did, &req.thread_root, now)
    };
    /// Mutes a thread no longer.
    delete_thread_mute: DeleteThreadMuteRequest => DeleteThreadMuteResponse, |view, req, now| {
        an_account("actor_did", &req.actor_did)?;
        a_root(&req.thread_root)?;
        unmark(view, &req.actor_did, private::THREAD_MUTE, &req.thread_root, PrivateCount::ThreadMutes)
    };
    /// Forgets all muted threads.
    clear_thread_mutes: ClearThreadMutesRequest => ClearThreadMutesResponse, |view, req, now| {
        an_account("actor_did", &req.actor_did)?;
        clear(view, &req.actor_did, private::THREAD_MUTE, PrivateCount::ThreadMutes)
    };
}

#[cfg(test)]
#[path = "mutes_tests.rs"]
mod tests;
