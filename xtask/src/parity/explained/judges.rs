//! What the longer entries make of a pair of answers.

use serde_json::{Value, json};

use super::{
    Seen,
    Verdict::{self, Apart, Edited, No},
};
use crate::parity::{
    client::{code, is_failure},
    world::{self, nsid::*},
};

/// Keeps some items of a list, and says whether any went.
pub(super) fn retain(answer: &mut Value, field: &str, keep: impl Fn(&Value) -> bool) -> bool {
    let Some(items) = answer[field].as_array_mut() else { return false };
    let before = items.len();
    items.retain(keep);
    items.len() < before
}

pub(super) fn malformed_argument(seen: &Seen<'_>) -> Verdict {
    let request = &seen.case.request;
    let text = |field: &str| request[field].as_str().unwrap_or_default();
    let no_did = |field: &str| !gp_atproto::did::is_valid(text(field));
    let no_address = |field: &str| gp_atproto::aturi::AtUri::record_parts(text(field)).is_none();
    let wrong = match seen.case.rpc {
        "CreateActorMute" | "DeleteActorMute" => no_did("actorDid") || no_did("subjectDid"),
        "GetActorMutesActor" => no_did("actorDid") || no_did("targetDid"),
        "TakedownRecord" | "UntakedownRecord" => no_address("recordUri"),
        "TakedownBlob" | "UntakedownBlob" | "GetBlobTakedown" => {
            no_did("did") || text("cid").is_empty() || text("cid").len() > 256
        }
        "TakedownActor" | "UntakedownActor" | "GetIdentityByDid" => no_did("did"),
        _ => no_did("actorDid"),
    };
    let reads = matches!(
        seen.case.rpc,
        "GetMutes" | "GetMutelistSubscriptions" | "GetActorMutesActor" | "GetMutelistSubscription" | "GetBlobTakedown"
    );
    match (seen.ours, seen.theirs) {
        _ if !wrong => No,
        (Ok(ours), Ok(_)) if reads && *ours == json!({}) => Edited(seen.ours.clone(), seen.ours.clone()),
        (Err(ours), theirs) if !reads && ours.code == code::INVALID_ARGUMENT => match theirs {
            Err(refusal) if !is_failure(refusal) && refusal.code != code::NOT_FOUND => No,
            _ => Edited(theirs.clone(), theirs.clone()),
        },
        _ => No,
    }
}

/// Takes out of ours what the reference lost. Of a page that was full the reference's goes on with what follows, and its
/// token says whether more follow behind that: neither can be held against ours, so its page ends with the last item
/// that both have. Returns whether anything went.
fn without_lost(
    seen: &Seen<'_>,
    field: &str,
    ours: &mut Value,
    theirs: &mut Value,
    is_lost: impl Fn(&Value) -> bool,
) -> bool {
    let was = ours[field].as_array().map_or(0, Vec::len);
    let kept = theirs[field].as_array().cloned().unwrap_or_default();
    if !retain(ours, field, |item| kept.contains(item) || !is_lost(item)) {
        return false;
    }
    // A page without a limit has fifty items.
    let limit = seen.case.request["limit"].as_u64().filter(|limit| *limit > 0).unwrap_or(50);
    if seen.case.walk.is_some() || (was as u64) < limit {
        return true;
    }
    let own = ours[field].as_array().cloned().unwrap_or_default();
    if let Some(items) = theirs[field].as_array_mut() {
        items.truncate(items.iter().rposition(|item| own.contains(item)).map_or(0, |last| last + 1));
    }
    for answer in [ours, theirs] {
        if let Some(fields) = answer.as_object_mut() {
            fields.remove("cursor");
        }
    }
    true
}

pub(super) fn edited_post(seen: &Seen<'_>) -> Verdict {
    let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    let lives = &seen.by.world.lives;
    // Whether a post has changed since a record came.
    let since = |post: &str, record: &str| {
        let changed = lives.get(post).filter(|life| life.versions.len() > 1).and_then(|life| life.versions.last());
        let came = lives.get(record).and_then(|life| life.versions.first());
        changed.zip(came).is_some_and(|(changed, came)| changed.seq > came.seq)
    };
    let found = match seen.case.rpc {
        "GetQuotesBySubjectSorted" => {
            let subject = seen.case.request["subject"]["uri"].as_str().unwrap_or_default();
            without_lost(seen, "uris", &mut ours, &mut theirs, |uri| since(subject, uri.as_str().unwrap_or_default()))
        }
        "GetPostRecords" => {
            let uris = seen.case.request["uris"].as_array().map_or(&[][..], Vec::as_slice);
            let mut found = false;
            for (at, uri) in uris.iter().enumerate() {
                let uri = uri.as_str().unwrap_or_default();
                for (flag, kind) in [("hasThreadGate", THREAD_GATE), ("hasPostGate", POST_GATE)] {
                    let gate = uri.replacen(POST, kind, 1);
                    if ours["meta"][at][flag] == true && since(uri, &gate) && theirs["meta"][at][flag] != true {
                        theirs["meta"][at][flag] = true.into();
                        found = true;
                    }
                }
            }
            found
        }
        _ => without_lost(seen, "items", &mut ours, &mut theirs, |item| {
            let (post, repost) = (item["uri"].as_str().unwrap_or_default(), item["repost"].as_str());
            repost.is_some_and(|repost| since(post, repost))
        }),
    };
    if found { Edited(Ok(ours), Ok(theirs)) } else { No }
}

pub(super) fn refused_records(seen: &Seen<'_>) -> Verdict {
    let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
    let (mut ours, theirs) = (ours.clone(), theirs.clone());
    let refused = |uri: &str| seen.by.world.refused_by_the_reference.contains(uri);
    let found = match seen.case.rpc {
        "GetPostRecords" => {
            let uris = seen.case.request["uris"].as_array().map_or(&[][..], Vec::as_slice);
            let mut found = false;
            for (at, uri) in uris.iter().enumerate() {
                if refused(uri.as_str().unwrap_or_default()) && theirs["records"][at] == json!({}) {
                    ours["records"][at] = json!({});
                    found = true;
                }
            }
            found
        }
        "GetCountsForUsers" => {
            let dids = seen.case.request["dids"].as_array().map_or(&[][..], Vec::as_slice);
            let mut found = false;
            for (at, did) in dids.iter().enumerate() {
                let refused = seen.by.world.refused_by_the_reference.iter();
                let count = refused.filter(|uri| seen.by.world.stands(uri) && world::authority(uri) == did).count();
                if count > 0 {
                    ours["posts"][at] = (ours["posts"][at].as_u64().unwrap_or(0).saturating_sub(count as u64)).into();
                    found = true;
                }
            }
            found
        }
        _ => retain(&mut ours, "items", |item| !refused(item["uri"].as_str().unwrap_or_default())),
    };
    if found { Edited(Ok(ours), Ok(theirs)) } else { No }
}

pub(super) fn self_follow(seen: &Seen<'_>) -> Verdict {
    let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
    let actor = seen.case.request["actorDid"].as_str().unwrap_or_default();
    let follows = seen.by.world.about.get(&(FOLLOW.to_owned(), actor.to_owned()));
    if !follows.is_some_and(|subjects| subjects.iter().any(|subject| subject == actor)) {
        return No;
    }
    let mut theirs = theirs.clone();
    let found = match seen.case.rpc {
        "GetTimeline" => {
            let Some(items) = theirs["items"].as_array_mut() else { return No };
            let before = items.len();
            items.dedup();
            items.len() < before
        }
        "GetNotifications" => retain(&mut theirs, "notifications", |it| {
            it["reason"] != "follow" || world::authority(it["uri"].as_str().unwrap_or_default()) != actor
        }),
        _ => {
            let (own, count) = (ours["count"].as_i64().unwrap_or(0), theirs["count"].as_i64().unwrap_or(0));
            if count == own + 1 {
                theirs = ours.clone();
            }
            count == own + 1
        }
    };
    if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
}

/// A URI that is sound and names nothing.
pub(super) const MISSING: &str = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3aaaaaaaaaa22";

pub(super) const RECORD_CALLS: &[&str] = &[
    "GetPostRecords",
    "GetFeedGeneratorRecords",
    "GetLikeRecords",
    "GetRepostRecords",
    "GetFollowRecords",
    "GetListRecords",
    "GetListItemRecords",
    "GetListBlockRecords",
    "GetBlockRecords",
    "GetThreadGateRecords",
    "GetPostgateRecords",
    "GetLabelerRecords",
    "GetStarterPackRecords",
    "GetVerificationRecords",
    "GetProfileRecords",
    "GetStatusRecords",
    "GetActorChatDeclarationRecords",
    "GetNotificationDeclarationRecords",
    "GetGermDeclarationRecords",
];

/// Fields that name a list.
const LIST_FIELDS: [&str; 4] = ["mutedByList", "blockingByList", "blockedByList", "listUri"];

pub(super) fn two_lists(seen: &Seen<'_>) -> Verdict {
    let field = if seen.case.rpc == "GetRelationships" { "targetDids" } else { "pairs" };
    let output = if seen.case.rpc == "GetRelationships" { "relationships" } else { "blocks" };
    let (Ok(ours), theirs) = (seen.ours, seen.theirs) else { return No };
    match theirs {
        Err(refusal) if is_failure(refusal) && ours[output].as_array().is_some_and(|all| all.len() > 1) => Apart(field),
        Err(refusal) if is_failure(refusal) => {
            // It fails for this one alone. Ours must name lists, each of which two members bear out.
            let entry = &ours[output][0];
            if names_lists(seen, entry) { Edited(Ok(ours.clone()), Ok(ours.clone())) } else { No }
        }
        Ok(theirs) => {
            let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
            let Some(places) = theirs[output].as_array_mut() else { return No };
            let mut found = false;
            for (at, place) in places.iter_mut().enumerate() {
                if place.is_null() && names_lists(seen, &ours[output][at]) {
                    *place = ours[output][at].clone();
                    found = true;
                }
            }
            if let (Some(exists), Some(own)) =
                (theirs.get_mut("exists").and_then(Value::as_array_mut), ours.get_mut("exists"))
            {
                for (at, place) in exists.iter_mut().enumerate() {
                    if place.is_null() {
                        *place = own[at].clone();
                    }
                }
            }
            if found { Edited(Ok(ours), Ok(theirs)) } else { No }
        }
        Err(_) => No,
    }
}

/// Whether every list that an entry names has members, and at least one is named.
pub(super) fn names_lists(seen: &Seen<'_>, entry: &Value) -> bool {
    let named: Vec<&str> = LIST_FIELDS.iter().filter_map(|field| entry[*field].as_str()).collect();
    !named.is_empty() && named.iter().all(|list| seen.by.world.members.contains_key(*list))
}

pub(super) fn any_list(seen: &Seen<'_>) -> Verdict {
    let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    let mut found = false;
    let mut level = |ours: &mut Value, theirs: &mut Value| {
        for field in LIST_FIELDS {
            let (one, other) = (ours[field].as_str(), theirs[field].as_str());
            if let (Some(one), Some(other)) = (one, other)
                && one != other
                && [one, other].iter().all(|list| seen.by.world.members.contains_key(*list))
            {
                theirs[field] = ours[field].clone();
                found = true;
            }
        }
    };
    match seen.case.rpc {
        "GetRelationships" | "GetBlockExistence" => {
            let output = if seen.case.rpc == "GetRelationships" { "relationships" } else { "blocks" };
            let (Some(own), Some(their)) = (ours[output].as_array_mut(), theirs[output].as_array_mut()) else {
                return No;
            };
            own.iter_mut().zip(their.iter_mut()).for_each(|(own, their)| {
                if own.is_object() && their.is_object() {
                    level(own, their);
                }
            });
        }
        _ => level(&mut ours, &mut theirs),
    }
    // Reading a field that is not there must not leave one behind.
    if found { Edited(Ok(ours), Ok(theirs)) } else { No }
}

/// Unread notices are counted by their records. Those of relations that another record has taken over are not found by
/// the reference.
pub(super) fn promoted_and_unread(seen: &Seen<'_>) -> Verdict {
    let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
    let actor = seen.case.request["actorDid"].as_str().unwrap_or_default();
    let world = seen.by.world;
    let taken_over = [LIKE, REPOST, FOLLOW]
        .iter()
        .flat_map(|kind| world.of_collection(kind))
        .filter(|uri| !world.stands(uri) && world.holder(uri).is_some())
        .filter(|uri| {
            let subject = world.lives.get(*uri).and_then(|life| life.subject.as_deref()).unwrap_or_default();
            subject == actor || world::authority(subject) == actor
        })
        .count() as i64;
    let more = ours["count"].as_i64().unwrap_or(0) - theirs["count"].as_i64().unwrap_or(0);
    if (1..=taken_over).contains(&more) { Edited(Ok(ours.clone()), Ok(ours.clone())) } else { No }
}

/// Calls whose tokens the reference reads loosely.
const LOOSE: [&str; 6] = [
    "GetMutes",
    "GetSuggestedFeeds",
    "GetNotifications",
    "GetActorDrafts",
    "GetActorBookmarks",
    "GetActivitySubscriptionDids",
];

pub(super) fn token_of_nobody(seen: &Seen<'_>) -> Verdict {
    let cursor = seen.case.request["cursor"].as_str().unwrap_or_default();
    if cursor.is_empty() || seen.case.walk.is_some() {
        return No;
    }
    if let (Err(ours), Err(theirs)) = (seen.ours, seen.theirs)
        && ours.code == code::INVALID_ARGUMENT
        && is_failure(theirs)
    {
        return Edited(Err(theirs.clone()), Err(theirs.clone()));
    }
    let plausible = match seen.case.rpc {
        // A DID may have two underscores in it, so a token is cut at the first two.
        "GetMutes" => cursor.matches("__").count() < 2,
        "GetSuggestedFeeds" => cursor.bytes().all(|byte| byte.is_ascii_digit()),
        "GetNotifications" | "GetActorDrafts" => gp_atproto::datetime::parse_micros(cursor).is_some(),
        _ => gp_atproto::Tid::parse(cursor).is_ok(),
    };
    if plausible || !LOOSE.contains(&seen.case.rpc) {
        return No;
    }
    let begins = matches!(seen.case.rpc, "GetMutes" | "GetActorBookmarks" | "GetActivitySubscriptionDids");
    match (seen.ours, seen.theirs) {
        (Err(ours), Ok(_)) if ours.code == code::INVALID_ARGUMENT => Edited(seen.theirs.clone(), seen.theirs.clone()),
        (Ok(_), _) if begins => Edited(seen.theirs.clone(), seen.theirs.clone()),
        _ => No,
    }
}
