//! What the history of the network says where the reference says nothing: calls it does not have, or answers with a
//! mock.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    future::Future,
    io::Read as _,
    pin::Pin,
};

use anyhow::Result;
use gp_atproto::{aturi::AtUri, datetime};
use serde_json::{Value, json};

use super::{
    calls::Case,
    client::{Answer, Client, code},
    world::{World, authority, collection, nsid::*},
};

/// What an answer is judged by.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) world: &'a World,
    /// Accounts that calls of this run have hidden.
    pub(super) hidden: &'a HashSet<String>,
}

/// Judges our answer, the pages of a walk put together. Says what is wrong.
pub(super) type Check = fn(Judge<'_>, &Case, &Answer) -> Result<(), String>;

/// Calls ours again and again, and says how many calls that were and what was wrong.
pub(super) type Play =
    for<'a> fn(&'a Client, Judge<'a>, usize) -> Pin<Box<dyn Future<Output = Result<Played>> + Send + 'a>>;

/// What a play came to.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) calls: u64,
    pub(super) wrong: Vec<String>,
}

fn is(what: &str, expected: &Value, found: &Value) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected}, found {found}")) }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Midnight in UTC, so many days from now.
pub(super) fn day_from_now(days: i64) -> String {
    const DAY_US: i64 = 86_400_000_000;
    let today = gp_index::system_now_us().div_euclid(DAY_US);
    datetime::format_ms((today + days) * DAY_US)
}

/// Whether a list was asked for in a way that has no page: no limit, or a token that nobody gave.
fn is_no_page(case: &Case) -> bool {
    case.walk.is_none()
}

/// Verifications that stand: of several for one pair the first, newest first.
pub(super) fn verifications(judge: Judge<'_>, case: &Case, answer: &Answer) -> Result<(), String> {
    let (by_issuer, whom) = match case.request.get("actorDid") {
        Some(did) => (true, did.as_str().unwrap_or_default()),
        None => (false, text(&case.request, "subjectDid")),
    };
    if is_no_page(case) {
        return refused_or_short(case, answer, "verifications");
    }
    let answer = answer.as_ref().map_err(|refusal| format!("refused: {refusal:?}"))?;
    let mut standing: Vec<(i64, i64, &str, String, &str)> = Vec::new();
    for uri in judge.world.of_collection(VERIFICATION) {
        let life = &judge.world.lives[uri];
        let (issuer, subject) = (authority(uri), life.subject.as_deref().unwrap_or_default());
        if !judge.world.stands(uri) || (if by_issuer { issuer } else { subject }) != whom {
            continue;
        }
        let claimed = |version: &super::world::Version| {
            let record: Value = serde_json::from_str(version.json.as_deref()?).ok()?;
            datetime::parse_micros_lenient(record["createdAt"].as_str()?)
        };
        let Some((first, newest)) = life.versions.first().zip(life.versions.last()) else { continue };
        let sorted = claimed(newest).unwrap_or(0).min(newest.time_us).div_euclid(1000);
        let other = if by_issuer { subject } else { issuer };
        standing.push((first.seq, sorted, issuer, AtUri::record_parts(uri).map_or("", |it| it.2).to_owned(), other));
    }
    standing.sort();
    let mut known = BTreeSet::new();
    standing.retain(|it| known.insert(it.4.to_owned()));
    standing.sort_by_key(|it| -it.1);
    let shown: Vec<Value> = standing
        .iter()
        .map(|(_, sorted, issuer, rkey, other)| {
            let subject = if by_issuer { *other } else { whom };
            json!([datetime::format_ms(sorted * 1000), issuer, rkey, subject])
        })
        .collect();
    let found: Vec<Value> = list(answer, "verifications")
        .iter()
        .map(|it| {
            let at = datetime::parse_micros_lenient(text(it, "sortedAt")).unwrap_or(0);
            json!([datetime::format_ms(at), it["actorDid"], it["rkey"], it["subjectDid"]])
        })
        .collect();
    // Where times are equal the order is free.
    let sorted = |mut all: Vec<Value>| {
        all.sort_by_key(|it| std::cmp::Reverse(it.to_string()));
        json!(all)
    };
    let times = |all: &[Value]| json!(all.iter().map(|it| &it[0]).collect::<Vec<_>>());
    is("the order", &times(&shown), &times(&found))?;
    is("verifications", &sorted(shown), &sorted(found))
}

/// A request for no page is refused as invalid, or answered with no more than it asks for.
fn refused_or_short(case: &Case, answer: &Answer, field: &str) -> Result<(), String> {
    match answer {
        Err(refusal) if refusal.code == code::INVALID_ARGUMENT => Ok(()),
        Err(refusal) => Err(format!("refused with {}: {}", refusal.code, refusal.message)),
        Ok(answer) => {
            let limit = case.request["limit"].as_i64().unwrap_or(0).max(0) as usize;
            let found = list(answer, field).len();
            if found <= limit { Ok(()) } else { Err(format!("{found} items where {limit} were asked for")) }
        }
    }
}

/// How each feed generator stands: active unless it or its author is hidden, nothing where there is none.
pub(super) fn generator_status(judge: Judge<'_>, case: &Case, answer: &Answer) -> Result<(), String> {
    let answer = answer.as_ref().map_err(|refusal| format!("refused: {refusal:?}"))?;
    let world = judge.world;
    let expected = |uri: &Value| {
        let uri = uri.as_str().unwrap_or_default();
        let did = authority(uri);
        let hidden = world.inactive_dids.contains(did) || [uri, did].iter().any(|it| judge.hidden.contains(*it));
        match collection(uri) == GENERATOR && world.stands(uri) && !world.deleted_dids.contains(did) {
            true if hidden => None,
            true => Some("active"),
            false => Some(""),
        }
    };
    let asked = list(&case.request, "uris");
    let found = list(answer, "status");
    is("places", &json!(asked.len()), &json!(found.len()))?;
    for (uri, status) in asked.iter().zip(found) {
        match expected(uri) {
            Some(expected) => is(uri.as_str().unwrap_or_default(), &json!(expected), status)?,
            // Which of the words it is depends on who has hidden it, and on who has shown it again since.
            None if status == "" => return Err(format!("{uri} stands and has no status")),
            None => {}
        }
    }
    Ok(())
}

/// Accounts that were first heard of in a range of time and are not deleted.
pub(super) fn new_users(judge: Judge<'_>, case: &Case, answer: &Answer) -> Result<(), String> {
    let at = |key: &str| datetime::parse_micros_lenient(text(&case.request, key));
    let (Some(start), Some(end)) = (at("start"), at("end")) else {
        return match answer {
            Err(refusal) if refusal.code != code::INVALID_ARGUMENT => Err(format!("refused: {refusal:?}")),
            _ => Ok(()),
        };
    };
    let answer = answer.as_ref().map_err(|refusal| format!("refused: {refusal:?}"))?;
    let world = judge.world;
    let still = world.joined.iter().filter(|(did, _)| !world.deleted_dids.contains(*did));
    let joined = still.filter(|(_, time_us)| (start..end).contains(time_us)).count();
    is("accounts", &json!(joined), &json!(answer["count"].as_u64().unwrap_or(0)))
}

/// Every labeler service record that stands.
pub(super) fn labelers(judge: Judge<'_>, _: &Case, answer: &Answer) -> Result<(), String> {
    let answer = answer.as_ref().map_err(|refusal| format!("refused: {refusal:?}"))?;
    let standing: BTreeSet<&str> = judge
        .world
        .of_collection(LABELER)
        .iter()
        .filter(|uri| judge.world.stands(uri) && uri.ends_with("/self"))
        .map(String::as_str)
        .collect();
    let found: BTreeSet<&str> = list(answer, "uris").iter().filter_map(Value::as_str).collect();
    is("labelers", &json!(standing), &json!(found))?;
    for (uri, record) in list(answer, "uris").iter().zip(list(answer, "records")) {
        let cid = judge.world.newest(uri.as_str().unwrap_or_default()).map(|(version, _)| version.cid.clone());
        is("the version", &json!(cid), &record["cid"])?;
    }
    is("records", &json!(standing.len()), &json!(list(answer, "records").len()))
}

/// The newest documents and publications, and the publications that the documents are in.
pub(super) fn site_standard_by_uri(judge: Judge<'_>, case: &Case, answer: &Answer) -> Result<(), String> {
    let answer = answer.as_ref().map_err(|refusal| format!("refused: {refusal:?}"))?;
    let (mut documents, mut publications) = (Vec::new(), Vec::new());
    let asked: Vec<&str> = list(&case.request, "uris").iter().filter_map(Value::as_str).collect();
    for uri in &asked {
        let Some((version, record)) = judge.world.newest(uri) else { continue };
        match collection(uri) {
            DOCUMENT => {
                documents.push(json!([uri, version.cid, record]));
                publications.push(text(&record, "site").to_owned());
            }
            PUBLICATION => publications.push((*uri).to_owned()),
            _ => {}
        }
    }
    let publications: BTreeSet<String> =
        publications.into_iter().filter(|uri| collection(uri) == PUBLICATION).collect();
    let publications: Vec<Value> = publications
        .iter()
        .filter_map(|uri| judge.world.newest(uri).map(|(version, record)| json!([uri, version.cid, record])))
        .collect();
    is("documents", &json!(documents), &json!(versions(answer, "documents")))?;
    let mut found = versions(answer, "publications");
    found.sort_by_key(|it| it[0].as_str().map(str::to_owned));
    is("publications", &json!(publications), &json!(found))
}

fn versions(answer: &Value, field: &str) -> Vec<Value> {
    list(answer, field)
        .iter()
        .map(|it| json!([it["ref"]["uri"], it["record"]["cid"], it["record"]["record"]]))
        .collect()
}

/// Exactly the versions that were named, whatever became of the record since.
pub(super) fn site_standard_by_ref(judge: Judge<'_>, case: &Case, answer: &Answer) -> Result<(), String> {
    let answer = answer.as_ref().map_err(|refusal| format!("refused: {refusal:?}"))?;
    for (kind, field) in [(DOCUMENT, "documents"), (PUBLICATION, "publications")] {
        let mut expected = Vec::new();
        for asked in list(&case.request, "refs") {
            let (uri, cid) = (text(asked, "uri"), text(asked, "cid"));
            if collection(uri) != kind || judge.world.deleted_dids.contains(authority(uri)) {
                continue;
            }
            let versions = judge.world.lives.get(uri).map_or(&[][..], |life| life.versions.as_slice());
            let Some(version) = versions.iter().find(|it| it.cid == cid) else { continue };
            let record: Value = serde_json::from_str(version.json.as_deref().unwrap_or("null")).unwrap_or_default();
            expected.push(json!([uri, cid, record]));
        }
        let found = versions(answer, field).into_iter();
        let found: Vec<Value> = found
            .filter(|it| !judge.world.deleted_dids.contains(authority(it[0].as_str().unwrap_or_default())))
            .collect();
        is(field, &json!(expected), &json!(found))?;
    }
    Ok(())
}

/// The text of a sitemap.
fn sitemap(answer: &Value) -> Result<String, String> {
    use base64::Engine as _;
    let packed = base64::engine::general_purpose::STANDARD
        .decode(text(answer, "sitemap"))
        .map_err(|e| format!("the bytes are not base64: {e}"))?;
    let mut xml = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut xml).map_err(|e| format!("not gzip: {e}"))?;
    Ok(xml)
}

/// What stands between the tags of every entry, by the last parts of its path.
fn entries(xml: &str) -> Vec<&str> {
    xml.split("<loc>").skip(1).filter_map(|rest| rest.split("</loc>").next()).collect()
}

/// Days in UTC on which accounts were first heard of, with how many there were and how many may be gone by now.
fn days(judge: Judge<'_>) -> BTreeMap<String, (usize, usize)> {
    let mut days: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (did, time_us) in &judge.world.joined {
        let day = days.entry(datetime::format_ms(*time_us)[..10].to_owned()).or_default();
        day.0 += 1;
        day.1 += usize::from(judge.world.deleted_dids.contains(did));
    }
    days
}

/// Each day on which an account that still is was first heard of has a page, and no other day has one.
pub(super) fn sitemap_index(judge: Judge<'_>, _: &Case, answer: &Answer) -> Result<(), String> {
    let xml = sitemap(answer.as_ref().map_err(|refusal| format!("refused: {refusal:?}"))?)?;
    let days = days(judge);
    let mut listed = BTreeSet::new();
    for page in entries(&xml) {
        let mut parts = page.rsplit('/');
        let (bucket, day) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        is("the bucket", &json!("1.xml.gz"), &json!(bucket))?;
        if !days.contains_key(day) || !listed.insert(day.to_owned()) {
            return Err(format!("{page} is listed: twice, or of a day on which nobody came"));
        }
    }
    match days.iter().find(|(day, (all, gone))| all > gone && !listed.contains(*day)) {
        Some((day, _)) => Err(format!("{day} is not listed")),
        None => Ok(()),
    }
}

/// A page has handles of accounts of its day, each once; a day on which nobody came has none.
pub(super) fn sitemap_page(judge: Judge<'_>, case: &Case, answer: &Answer) -> Result<(), String> {
    let days = days(judge);
    let known = days.get(&text(&case.request, "date")[..10]).copied().unwrap_or_default();
    let there = known.0 > known.1 && case.request["bucket"] == 1;
    match answer {
        Err(refusal) if refusal.code == code::NOT_FOUND && !there => Ok(()),
        Err(refusal) => Err(format!("refused with {}: {}", refusal.code, refusal.message)),
        Ok(answer) => {
            let xml = sitemap(answer)?;
            let all = entries(&xml);
            let handles: BTreeSet<&str> = all.iter().filter_map(|it| it.rsplit('/').next()).collect();
            is("handles, each once", &json!(handles.len()), &json!(all.len()))?;
            if all.len() > known.0 {
                return Err(format!("{} addresses for the {} accounts of the day", all.len(), known.0));
            }
            match handles.iter().find(|it| !judge.world.handles.iter().any(|handle| handle == *it)) {
                Some(stranger) => Err(format!("{stranger} is nobody's handle")),
                None => Ok(()),
            }
        }
    }
}

/// Mutes threads, looks, unmutes them, looks again.
pub(super) fn thread_mutes<'a>(
    ours: &'a Client,
    judge: Judge<'a>,
    count: usize,
) -> Pin<Box<dyn Future<Output = Result<Played>> + Send + 'a>> {
    Box::pin(async move {
        let mut played = Played::default();
        let actor = judge.world.dids.last().cloned().unwrap_or_default();
        let roots: Vec<&String> = judge.world.of_collection(POST).iter().take(count.clamp(3, 50)).collect();
        let mut muted = vec![false; roots.len()];
        for (at, root) in roots.iter().enumerate() {
            let request = json!({ "actorDid": actor, "threadRoot": root });
            let mut calls = vec![("CreateThreadMute", request.clone())];
            muted[at] = true;
            if at % 3 == 1 {
                calls.push(("DeleteThreadMute", request));
                muted[at] = false;
            }
            if at % 7 == 6 {
                calls.push(("ClearThreadMutes", json!({ "actorDid": actor })));
                muted.fill(false);
            }
            for (method, request) in calls {
                played.calls += 1;
                if let Err(refusal) = ours.call(method, &request).await? {
                    played.wrong.push(format!("{method} {request} was refused: {refusal:?}"));
                }
            }
            played.calls += 1;
            let found =
                ours.call("GetThreadMutesOnSubjects", &json!({ "actorDid": actor, "threadRoots": roots })).await?;
            let found = found.unwrap_or_default()["muted"].clone();
            if found != json!(muted) {
                played.wrong.push(format!("after {} roots: expected {}, found {found}", at + 1, json!(muted)));
            }
        }
        ours.call("ClearThreadMutes", &json!({ "actorDid": actor })).await?.ok();
        Ok(played)
    })
}
