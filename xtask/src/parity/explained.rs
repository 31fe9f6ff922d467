//! Where the reference is known to be wrong, and how such an answer is compared all the same.
//!
//! An entry does not swallow a difference. It says what the reference would have answered without its fault, as exactly
//! as it can: by taking out of our answer what the reference is known to have lost, or by asking it again in a way that
//! does not touch the fault. What is left must be equal. `docs/parity.md` lists the entries; a test holds both together.

mod judges;

use serde_json::{Value, json};

use judges::{
    MISSING, RECORD_CALLS, any_list, edited_post, malformed_argument, promoted_and_unread, refused_records, retain,
    self_follow, token_of_nobody, two_lists,
};

use super::{
    calls::Case,
    client::{Answer, code, is_failure},
    oracle::Judge,
    world::{self, nsid::*},
};

/// Most entries. More of them would mean that the reference is no reference.
#[cfg(test)]
const ENTRIES_MAX: usize = 30;

/// A limit beyond every list. The reference has no largest page.
pub(super) const WHOLE: i32 = 1_000_000;

/// A known fault of the reference.
pub(super) struct Entry {
    pub(super) id: &'static str,
    /// The calls that it concerns.
    pub(super) rpcs: &'static [&'static str],
    /// What the reference does.
    pub(super) what: &'static str,
    /// Why ours is right.
    pub(super) why: &'static str,
    pub(super) judge: fn(&Seen<'_>) -> Verdict,
}

/// A pair of answers that differ, in the form in which they are compared.
pub(super) struct Seen<'a> {
    pub(super) by: Judge<'a>,
    pub(super) case: &'a Case,
    pub(super) ours: &'a Answer,
    pub(super) theirs: &'a Answer,
    /// Whether the reference's is the whole list, asked for at once.
    pub(super) asked_whole: bool,
}

/// What an entry makes of it.
pub(super) enum Verdict {
    /// It has nothing to do with this.
    No,
    /// What both are once the fault is taken out.
    Edited(Answer, Answer),
    /// The reference is to be asked this instead; texts in its answer are to be put back.
    Instead(Value, fn(&mut String)),
    /// The reference is to be asked for each element of this list alone. An element that fails even so is `null`.
    Apart(&'static str),
    /// The reference is to be asked for the whole list in one page.
    Whole,
}
use Verdict::{Apart, Edited, Instead, No, Whole};

/// Every entry.
pub(super) static ENTRIES: &[Entry] = &[
    Entry {
        id: "nul",
        rpcs: &[],
        what: "A text with the character NUL anywhere in a request fails the call: its database cannot hold one.",
        why: "Such a text names nothing, and what else was asked for can be answered. It is compared with another text that names nothing.",
        judge: |seen| {
            let text = seen.case.request.to_string();
            if !text.contains("\\u0000") || !seen.theirs.as_ref().is_err_and(is_failure) {
                return No;
            }
            let harmless = serde_json::from_str(&text.replace("\\u0000", "\\u0001"));
            harmless.map_or(No, |it| Instead(it, |text| *text = text.replace('\u{1}', "\u{0}")))
        },
    },
    Entry {
        id: "malformed-uri",
        rpcs: RECORD_CALLS,
        what: "One URI that cannot be parsed fails the whole batch.",
        why: "The AppView sends what clients send. The place of such a URI has the envelope of a missing record, and the others are answered.",
        judge: |seen| {
            let Some(uris) = seen.case.request["uris"].as_array() else { return No };
            let known = |uri: &Value| uri.as_str().is_some_and(|uri| gp_atproto::aturi::AtUri::parse(uri).is_ok());
            if uris.iter().all(known) || !seen.theirs.as_ref().is_err_and(is_failure) {
                return No;
            }
            let harmless: Vec<Value> =
                uris.iter().map(|uri| if known(uri) { uri.clone() } else { MISSING.into() }).collect();
            let mut request = seen.case.request.clone();
            request["uris"] = harmless.into();
            Instead(request, |_| {})
        },
    },
    Entry {
        id: "token-of-nobody",
        rpcs: &[],
        what: "A token that no page gave fails with INTERNAL, or is read as far as it makes sense: the number it begins with, whatever its language takes for a date, any text as a record key.",
        why: "It is the caller's fault, so it is INVALID_ARGUMENT, which no AppView retries and no operator is woken for. One that has the form of such tokens begins where keys of its form would be.",
        judge: token_of_nobody,
    },
    Entry {
        id: "negative-limit",
        rpcs: &[],
        what: "A limit below -1 fails the call: it becomes a negative LIMIT of its database.",
        why: "It is taken as zero, as -1 is by the reference too.",
        judge: |seen| {
            if seen.case.request["limit"].as_i64().is_some_and(|limit| limit < 0) {
                // Zero is a default there.
                if seen.case.rpc == "GetSuggestedFeeds" && *seen.ours == Ok(json!({})) && seen.theirs.is_err() {
                    return Edited(seen.ours.clone(), seen.ours.clone());
                }
                let mut request = seen.case.request.clone();
                request["limit"] = 0.into();
                return Instead(request, |_| {});
            }
            No
        },
    },
    Entry {
        id: "unordered-pairs",
        rpcs: &["GetBlockExistence"],
        what: "Of two pairs with the same accounts in both directions one gets the answer of the other.",
        why: "Each pair is answered as it was asked; the reference is asked for each of them alone.",
        judge: |seen| {
            let pairs = seen.case.request["pairs"].as_array().map_or(&[][..], Vec::as_slice);
            let twisted = |pair: &Value| {
                pairs.iter().any(|it| it["a"] == pair["b"] && it["b"] == pair["a"] && it["a"] != it["b"])
            };
            if pairs.len() > 1 && pairs.iter().any(twisted) { Apart("pairs") } else { No }
        },
    },
    Entry {
        id: "two-lists",
        rpcs: &["GetRelationships", "GetBlockExistence"],
        what: "The whole call fails once two lists, both muted or both blocked, have the same account on them.",
        why: "One list answers the question. Which one is ours to choose: any list that both relations bear out is accepted, and everything else must be equal.",
        judge: two_lists,
    },
    Entry {
        id: "any-list",
        rpcs: &["GetBidirectionalBlockViaList", "GetActorMutesActorViaList", "GetRelationships", "GetBlockExistence"],
        what: "Of several lists that block or mute, some list is named.",
        why: "The contract leaves free which one; ours prefers one that an AppView will honour. Only the presence is compared.",
        judge: any_list,
    },
    Entry {
        id: "unknown-account",
        rpcs: &["GetRelationships"],
        what: "Somebody who has no account row is answered with nothing, even if blocks and follows of them stand.",
        why: "The relations are there; an AppView has no profile to show them on. The entries of such accounts are left out of the comparison.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let targets = seen.case.request["targetDids"].as_array().map_or(&[][..], Vec::as_slice);
            let (mut ours, theirs) = (ours.clone(), theirs.clone());
            let mut found = false;
            for (at, target) in targets.iter().enumerate() {
                let did = target.as_str().unwrap_or_default();
                let has_row = seen.by.world.joined.contains_key(did) && !seen.by.world.deleted_dids.contains(did);
                if !has_row && theirs["relationships"][at] == json!({}) && ours["relationships"][at] != json!({}) {
                    ours["relationships"][at] = json!({});
                    found = true;
                }
            }
            if found { Edited(Ok(ours), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "lost-at-page-edges",
        rpcs: &[],
        what: "Items that share time (and CID, where it counts) with the last one of a page are missing from the next page. Two lists of lists and the one of feeds are ordered by one time and resumed by another, which loses more.",
        why: "Nothing may be lost by asking in pages. The reference is asked for the whole list at once.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs), Some(_)) = (seen.ours, seen.theirs, &seen.case.walk) else { return No };
            let lost = ours.as_object().into_iter().flatten().any(|(name, ours)| {
                let Some(ours) = ours.as_array() else { return false };
                let empty = Vec::new();
                let theirs = theirs[name].as_array().unwrap_or(&empty);
                theirs.len() < ours.len()
            });
            // The reference's whole timeline has all own items, and ours those that each page lets in.
            if !lost && seen.case.rpc == "GetTimeline" && seen.asked_whole {
                let actor = seen.case.request["actorDid"].as_str().unwrap_or_default();
                let own = ours["items"].as_array().cloned().unwrap_or_default();
                let mut theirs = theirs.clone();
                let found = retain(&mut theirs, "items", |item| {
                    let record = item["repost"].as_str().or(item["uri"].as_str()).unwrap_or_default();
                    own.contains(item) || world::authority(record) != actor
                });
                return if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No };
            }
            if lost { Whole } else { No }
        },
    },
    Entry {
        id: "order-by-claimed-time",
        rpcs: &["GetBlocklistSubscriptions", "GetMutelistSubscriptions", "GetActorFeeds"],
        what: "Lists and feeds that claim to come from the future stand before all others.",
        why: "Everything else is ordered by the earlier of the claimed time and the time it came, and so is this: the same items, in that order.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let field = if seen.case.rpc == "GetActorFeeds" { "uris" } else { "listUris" };
            let Some(items) = theirs[field].as_array() else { return No };
            let page = ours[field].as_array().map_or(0, Vec::len);
            let one_page = seen.case.walk.is_none() && page > 0;
            let others = |item: &Value| !ours[field].as_array().is_some_and(|own| own.contains(item));
            if one_page && items.len() == page && items.iter().any(others) {
                // Another order has another first page, which is to be cut from the whole list.
                let mut request = seen.case.request.clone();
                request["limit"] = WHOLE.into();
                return Instead(request, |_| {});
            }
            let mut sorted: Vec<(i64, &str)> = Vec::new();
            for item in items {
                let uri = item.as_str().unwrap_or_default();
                let Some(sort_at_us) = seen.by.world.sort_at_us(uri) else { return No };
                sorted.push((sort_at_us.div_euclid(1000), uri));
            }
            sorted.sort_by(|a, b| b.cmp(a));
            let mut theirs = theirs.clone();
            if one_page && sorted.len() > page {
                sorted.truncate(page);
                theirs["cursor"] = "some token".into();
            }
            theirs[field] = sorted.iter().map(|(_, uri)| *uri).collect::<Vec<_>>().into();
            let mut own: Vec<(i64, &str)> = Vec::new();
            for item in ours[field].as_array().into_iter().flatten() {
                let uri = item.as_str().unwrap_or_default();
                own.push((seen.by.world.sort_at_us(uri).unwrap_or(0).div_euclid(1000), uri));
            }
            // Ours must be in order as it stands, but for the order within one millisecond.
            if !own.windows(2).all(|two| two[0].0 >= two[1].0) {
                return No;
            }
            own.sort_by(|a, b| b.cmp(a));
            let mut ours = ours.clone();
            ours[field] = own.iter().map(|(_, uri)| *uri).collect::<Vec<_>>().into();
            Edited(Ok(ours), Ok(theirs))
        },
    },
    Entry {
        id: "edited-post",
        rpcs: &["GetQuotesBySubjectSorted", "GetAuthorFeed", "GetTimeline", "GetPostRecords"],
        what: "When a post changes, its quotes so far leave its list, its reposts so far leave feeds, and its gates are forgotten.",
        why: "Only the post has changed. What others said before the change is taken out of ours, and the gates are given back to the reference.",
        judge: edited_post,
    },
    Entry {
        id: "quotes-of-versions",
        rpcs: &["GetInteractionCounts"],
        what: "Quotes are counted by version and kept by address, and the count stays when the quoted post goes.",
        why: "The count is that of the list of quotes: every quote that stands, of whatever version, and none of a post that is gone.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let mut theirs = theirs.clone();
            let mut found = false;
            for (at, subject) in seen.case.request["refs"].as_array().into_iter().flatten().enumerate() {
                let uri = subject["uri"].as_str().unwrap_or_default();
                let changed =
                    seen.by.world.lives.get(uri).is_some_and(|life| life.versions.len() > 1 || life.deleted.is_some());
                let standing = seen.by.world.standing_quotes(uri);
                if changed && ours["quotes"][at] == json!(standing) && theirs["quotes"][at] != ours["quotes"][at] {
                    theirs["quotes"][at] = ours["quotes"][at].clone();
                    found = true;
                }
            }
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "refused-records",
        rpcs: &["GetPostRecords", "GetAuthorFeed", "GetTimeline", "GetListFeed", "GetCountsForUsers"],
        what: "A post with the character NUL, or with a list of pictures that is empty, is valid and yet not taken: its database refuses it.",
        why: "The record is valid, so it is there. It is taken out of ours.",
        judge: refused_records,
    },
    Entry {
        id: "duplicate-repost",
        rpcs: &["GetAuthorFeed", "GetTimeline"],
        what: "A second repost of the same post by the same account makes a second item in feeds.",
        why: "One repost stands for the pair. The items of the others are taken out of the reference's answer.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let mut theirs = theirs.clone();
            let own = ours["items"].as_array().map_or(&[][..], Vec::as_slice);
            let found = retain(&mut theirs, "items", |item| {
                item["repost"].as_str().is_none_or(|uri| own.contains(item) || !seen.by.world.is_waiting_claim(uri))
            });
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "repost-of-nothing",
        rpcs: &["GetTimeline"],
        what: "Reposts of what never was a post are listed; those of posts that are gone are not.",
        why: "An AppView drops both and asks again for what is missing from the page. They are taken out of the reference's answer.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let mut theirs = theirs.clone();
            let found = retain(&mut theirs, "items", |item| {
                let post = item["uri"].as_str().unwrap_or_default();
                let was = seen.by.world.lives.get(post).is_some_and(|life| !life.versions.is_empty());
                item.get("repost").is_none() || (was && world::collection(post) == POST)
            });
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "handle-in-uri",
        rpcs: &["GetTimeline", "GetActorLikes"],
        what: "Likes and reposts of an address that names a handle are listed.",
        why: "An AppView fails the whole page over such an address. The items are taken out of the reference's answer.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let (field, key) = if seen.case.rpc == "GetTimeline" { ("items", "uri") } else { ("likes", "subject") };
            let mut theirs = theirs.clone();
            let found = retain(&mut theirs, field, |item| {
                world::authority(item[key].as_str().unwrap_or_default()).starts_with("did:")
            });
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "self-follow",
        rpcs: &["GetTimeline", "GetNotifications", "GetUnreadNotificationCount"],
        what: "Who follows itself has each item of its own twice in its timeline, and is told of its follow.",
        why: "An item is shown once, and nobody is told of what they did. The second items and the notices are taken out of the reference's answer.",
        judge: self_follow,
    },
    Entry {
        id: "unverified-by-the-clock",
        rpcs: &["GetNotifications"],
        what: "That a verification was taken back is told at the time of its clock, also when it has only changed, or when another one takes its place.",
        why: "It is told at the time of the event, once, and only when nothing is left of it. Notices of what stands are taken out of the reference's answer; the others are compared by who takes back, without time and place.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let level = |answer: &Value| {
                let mut answer = answer.clone();
                let items = answer["notifications"].as_array().cloned().unwrap_or_default();
                let (told, rest): (Vec<Value>, Vec<Value>) =
                    items.into_iter().partition(|it| it["reason"] == "unverified");
                let mut authors: Vec<String> = told
                    .iter()
                    .filter_map(|it| it["uri"].as_str())
                    .filter(|uri| seen.by.world.holder(uri).is_none())
                    .map(|uri| world::authority(uri).to_owned())
                    .collect();
                authors.sort();
                authors.dedup();
                let mut items: Vec<Value> =
                    authors.into_iter().map(|author| json!({ "takenBackBy": author })).collect();
                items.extend(rest);
                answer["notifications"] = items.into();
                answer
            };
            let (own, their) = (level(ours), level(theirs));
            if their != *theirs { Edited(Ok(own), Ok(their)) } else { No }
        },
    },
    Entry {
        id: "notice-of-a-promoted-claim",
        rpcs: &["GetNotifications", "GetUnreadNotificationCount"],
        what: "When the record of a relation goes and another takes its place, the notice still names the one that is gone, and stays when that one goes too.",
        why: "An AppView drops a notice whose record is gone. The notice is that of the record that stands. Notices of records that are gone are taken out of the reference's answer, and ours of the record that stands put in; a count may be higher by as many as there are.",
        judge: |seen| {
            if seen.case.rpc == "GetUnreadNotificationCount" {
                return promoted_and_unread(seen);
            }
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let own = ours["notifications"].as_array().map_or(&[][..], Vec::as_slice);
            let mut their = Vec::new();
            let mut found = false;
            for notice in theirs["notifications"].as_array().into_iter().flatten() {
                let uri = notice["uri"].as_str().unwrap_or_default();
                if !matches!(world::collection(uri), LIKE | REPOST | FOLLOW) || seen.by.world.stands(uri) {
                    their.push(notice.clone());
                    continue;
                }
                found = true;
                if let Some(holder) = seen.by.world.holder(uri) {
                    their.extend(
                        own.iter().find(|it| it["uri"] == **holder && it["reason"] == notice["reason"]).cloned(),
                    );
                }
            }
            their.sort_by_cached_key(|it| {
                (std::cmp::Reverse(it["timestamp"].as_str().map(str::to_owned)), it.to_string())
            });
            let mut own = own.to_vec();
            own.sort_by_cached_key(|it| {
                (std::cmp::Reverse(it["timestamp"].as_str().map(str::to_owned)), it.to_string())
            });
            let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
            ours["notifications"] = own.into();
            theirs["notifications"] = their.into();
            if found { Edited(Ok(ours), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "joined-by-a-change",
        rpcs: &["GetNotifications"],
        what: "An account that says by a change of its profile that it joined through a starter pack is counted there, and the pack's owner is not told.",
        why: "Who is counted is told of. Notices of profiles that did not say so at first are taken out of ours.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let mut ours = ours.clone();
            let their = theirs["notifications"].as_array().map_or(&[][..], Vec::as_slice);
            let found = retain(&mut ours, "notifications", |notice| {
                let versions =
                    seen.by.world.lives.get(notice["uri"].as_str().unwrap_or_default()).map(|it| &it.versions);
                let first = versions.and_then(|it| it.first()).and_then(|it| it.json.as_deref()).unwrap_or_default();
                notice["reason"] != "starterpack-joined"
                    || first.contains("joinedViaStarterPack")
                    || their.contains(notice)
            });
            if found { Edited(Ok(ours), Ok(theirs.clone())) } else { No }
        },
    },
    Entry {
        id: "update-of-the-unknown",
        rpcs: &[
            "GetStatusRecords",
            "GetActorChatDeclarationRecords",
            "GetNotificationDeclarationRecords",
            "GetGermDeclarationRecords",
            "GetActors",
        ],
        what: "A status or declaration that was written twice in one commit is lost: its first version does not travel, and the second is an update of nothing.",
        why: "The record stands. Ours is put in the place of the reference's nothing, for such records alone.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let mut theirs = theirs.clone();
            let mut found = false;
            if seen.case.rpc == "GetActors" {
                for (at, did) in seen.case.request["dids"].as_array().into_iter().flatten().enumerate() {
                    let uri = format!("at://{}/{STATUS}/self", did.as_str().unwrap_or_default());
                    let status = &ours["actors"][at]["statusRecord"];
                    if seen.by.world.unsent.contains(&uri)
                        && theirs["actors"][at].get("statusRecord").is_none()
                        && !status.is_null()
                    {
                        theirs["actors"][at]["statusRecord"] = status.clone();
                        found = true;
                    }
                }
            } else {
                for (at, uri) in seen.case.request["uris"].as_array().into_iter().flatten().enumerate() {
                    let lost = seen.by.world.unsent.contains(uri.as_str().unwrap_or_default());
                    if lost && theirs["records"][at] == json!({}) && ours["records"][at] != json!({}) {
                        theirs["records"][at] = ours["records"][at].clone();
                        found = true;
                    }
                }
            }
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "handle-in-post",
        rpcs: &["GetPostRecords"],
        what: "A post that replies to or quotes an address with a handle is served.",
        why: "An AppView fails every page that has such a post. Its place has the envelope of a missing record, and the reference's is emptied.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let mut theirs = theirs.clone();
            let mut found = false;
            for (at, uri) in seen.case.request["uris"].as_array().into_iter().flatten().enumerate() {
                let names = seen.by.world.names_a_handle.contains(uri.as_str().unwrap_or_default());
                if names && ours["records"][at] == json!({}) && theirs["records"][at] != json!({}) {
                    theirs["records"][at] = json!({});
                    found = true;
                }
            }
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "partial-preferences",
        rpcs: &["GetNotificationPreferences"],
        what: "Stored preferences that lack one of their members fail the call for everybody in it.",
        why: "What is missing has its default. The reference is asked for each account alone; where it fails even so, ours must have all twelve.",
        judge: |seen| {
            let Ok(ours) = seen.ours else { return No };
            match seen.theirs {
                Err(refusal)
                    if is_failure(refusal)
                        && seen.case.request["dids"].as_array().is_some_and(|all| !all.is_empty()) =>
                {
                    Apart("dids")
                }
                Ok(theirs) => {
                    let mut theirs = theirs.clone();
                    let mut found = false;
                    for (at, place) in theirs["preferences"].as_array_mut().into_iter().flatten().enumerate() {
                        let own = &ours["preferences"][at];
                        // The entry itself and the twelve.
                        if place.is_null() && own.as_object().is_some_and(|own| own.len() == 13) {
                            *place = own.clone();
                            found = true;
                        }
                    }
                    if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
                }
                Err(_) => No,
            }
        },
    },
    Entry {
        id: "takedown-of-the-unknown",
        rpcs: &["GetRecordTakedown", "GetActorTakedown", "GetBlobTakedown", "TakedownBlob"],
        what: "A takedown of what it does not know is forgotten, and a second one of the same blob fails.",
        why: "A moderator's word holds, also for what comes later, and saying it twice is no error.",
        judge: |seen| match (seen.case.rpc, seen.ours, seen.theirs) {
            ("TakedownBlob", Ok(ours), Err(theirs)) if is_failure(theirs) && *ours == json!({}) => {
                Edited(Ok(ours.clone()), Ok(ours.clone()))
            }
            // The first word stays with the reference, the last one with us.
            ("GetBlobTakedown", Ok(ours), Ok(theirs)) if ours["takenDown"] == true && theirs["takenDown"] == true => {
                Edited(Ok(ours.clone()), Ok(ours.clone()))
            }
            ("GetBlobTakedown", ..) => No,
            (_, Ok(ours), Ok(theirs)) if *theirs == json!({}) => {
                let subject =
                    seen.case.request["recordUri"].as_str().or(seen.case.request["did"].as_str()).unwrap_or_default();
                let world = seen.by.world;
                let known = match seen.case.rpc {
                    "GetActorTakedown" => world.joined.contains_key(subject) && !world.deleted_dids.contains(subject),
                    _ => world.stands(subject) && gp_atproto::lexicon::is_known_collection(world::collection(subject)),
                };
                if known { No } else { Edited(Ok(ours.clone()), Ok(ours.clone())) }
            }
            _ => No,
        },
    },
    Entry {
        id: "not-to-be-suggested",
        rpcs: &["GetFollowSuggestions"],
        what: "Accounts that somebody follows already, itself, and hidden accounts are suggested to it.",
        why: "The contract says that the first are left out, and no AppView shows the last. They are taken out of the reference's answer.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let actor = seen.case.request["actorDid"].as_str().unwrap_or_default();
            let followed = seen.by.world.about.get(&(FOLLOW.to_owned(), actor.to_owned()));
            let own = ours["dids"].as_array().cloned().unwrap_or_default();
            let mut theirs = theirs.clone();
            let found = retain(&mut theirs, "dids", |did| {
                let known = did.as_str().unwrap_or_default();
                let hidden = seen.by.hidden.contains(known) || seen.by.world.inactive_dids.contains(known);
                own.contains(did)
                    || !(hidden || did == actor || followed.is_some_and(|all| all.iter().any(|it| did == it)))
            });
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "malformed-argument",
        rpcs: &[
            "GetIdentityByDid",
            "CreateActorMute",
            "DeleteActorMute",
            "CreateActorMutelistSubscription",
            "DeleteActorMutelistSubscription",
            "GetMutes",
            "GetMutelistSubscriptions",
            "GetActorMutesActor",
            "GetMutelistSubscription",
            "GetBlobTakedown",
            "TakedownActor",
            "UntakedownActor",
            "TakedownRecord",
            "UntakedownRecord",
            "TakedownBlob",
            "UntakedownBlob",
        ],
        what: "What is no DID, no address of a record or no CID is muted, mutes, and is taken down, and is looked up and fails in one way or another.",
        why: "It is the caller's fault, so it is INVALID_ARGUMENT, before anything is asked or written. Nothing is muted or taken down that is named so.",
        judge: malformed_argument,
    },
    Entry {
        id: "order-of-twins",
        rpcs: &["GetTimeline", "GetFollowers", "GetLikesBySubject", "GetLikesBySubjectSorted", "GetRepostsBySubject"],
        what: "Records of different accounts that are the same byte for byte, and so share time and CID, come in any order.",
        why: "Nothing orders them by contract. Both are brought into one order, among such records alone.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
            let cid = |item: &Value| {
                let uri = item.as_str().or(item["repost"].as_str()).or(item["uri"].as_str()).unwrap_or_default();
                // Relations do not change: what is written over one is not taken.
                let version = seen.by.world.lives.get(uri).and_then(|life| life.versions.first());
                version.map(|version| version.cid.clone())
            };
            let mut found = false;
            for answer in [&mut ours, &mut theirs] {
                for (_, items) in answer.as_object_mut().into_iter().flatten() {
                    for twins in
                        items.as_array_mut().into_iter().flat_map(|items| items.chunk_by_mut(|a, b| cid(a) == cid(b)))
                    {
                        found |= twins.len() > 1;
                        twins.sort_by_cached_key(Value::to_string);
                    }
                }
            }
            if found { Edited(Ok(ours), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "no-such-mute",
        rpcs: &[
            "CreateActorMute",
            "DeleteActorMute",
            "CreateActorMutelistSubscription",
            "DeleteActorMutelistSubscription",
        ],
        what: "To mute oneself, or as a list what is none, fails with INTERNAL.",
        why: "It is the caller's fault, so it is INVALID_ARGUMENT.",
        judge: |seen| {
            let (Err(ours), Err(theirs)) = (seen.ours, seen.theirs) else { return No };
            let request = &seen.case.request;
            // A request without a subject names no list either.
            let wrong = if seen.case.rpc.contains("list") {
                world::collection(request["subjectUri"].as_str().unwrap_or_default()) != LIST
            } else {
                request["actorDid"] == request["subjectDid"]
            };
            if wrong && ours.code == code::INVALID_ARGUMENT && is_failure(theirs) {
                return Edited(Err(theirs.clone()), Err(theirs.clone()));
            }
            No
        },
    },
    Entry {
        id: "before-1970",
        rpcs: RECORD_CALLS,
        what: "A time before 1970 with a fraction of a second comes out a second early.",
        why: "The record says when. The reference's second is put right.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let mut theirs = theirs.clone();
            let mut found = false;
            for (at, record) in ours["records"].as_array().into_iter().flatten().enumerate() {
                for field in ["createdAt", "sortedAt"] {
                    let us = |value: &Value| gp_atproto::datetime::parse_micros(value.as_str().unwrap_or_default());
                    let (Some(own), Some(other)) = (us(&record[field]), us(&theirs["records"][at][field])) else {
                        continue;
                    };
                    if own < 0 && own % 1_000_000 != 0 && other == own - 1_000_000 {
                        theirs["records"][at][field] = record[field].clone();
                        found = true;
                    }
                }
            }
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
    Entry {
        id: "written-again",
        rpcs: RECORD_CALLS,
        what: "An update that writes what was there already moves the time at which the version was indexed.",
        why: "It is the same version. Ours is put in the place of the reference's, where it is the time at which this version came.",
        judge: |seen| {
            let (Ok(ours), Ok(theirs)) = (seen.ours, seen.theirs) else { return No };
            let mut theirs = theirs.clone();
            let mut found = false;
            for (at, uri) in seen.case.request["uris"].as_array().into_iter().flatten().enumerate() {
                let life = seen.by.world.lives.get(uri.as_str().unwrap_or_default());
                let versions = life.map_or(&[][..], |life| life.versions.as_slice());
                let again = versions.iter().rev().take_while(|it| Some(&it.cid) == versions.last().map(|it| &it.cid));
                let Some(first) = again.clone().last().filter(|_| again.count() > 1) else { continue };
                let came = gp_atproto::datetime::format_ms(first.time_us);
                if ours["records"][at]["indexedAt"] == came.as_str() {
                    for field in ["indexedAt", "sortedAt"] {
                        found |= theirs["records"][at][field] != ours["records"][at][field];
                        theirs["records"][at][field] = ours["records"][at][field].clone();
                    }
                }
            }
            if found { Edited(Ok(ours.clone()), Ok(theirs)) } else { No }
        },
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::parity::{
        calls::row,
        client::Refusal,
        report::explained_table,
        world::{Life, Version, World},
    };

    #[test]
    fn entries_are_few_and_known_and_stand_in_the_docs() {
        assert!(ENTRIES.len() <= ENTRIES_MAX);
        assert_eq!(ENTRIES.iter().map(|entry| entry.id).collect::<HashSet<_>>().len(), ENTRIES.len());
        for entry in ENTRIES {
            assert!(entry.rpcs.iter().all(|rpc| row(rpc).is_some()), "{}", entry.id);
        }
        let docs = std::fs::read_to_string(crate::shell::root().join("docs/parity.md")).expect("docs/parity.md");
        assert!(
            docs.contains(&explained_table()),
            "docs/parity.md: put in what `cargo xtask parity --explained` prints"
        );
    }

    fn failure() -> Answer {
        Err(Refusal { code: code::INTERNAL, message: String::new() })
    }

    /// What an entry makes of a pair of answers in a world.
    fn judge(id: &str, world: &World, rpc: &'static str, request: Value, ours: &Answer, theirs: &Answer) -> Verdict {
        let hidden = HashSet::new();
        let case = Case { rpc, request, walk: None };
        let entry = ENTRIES.iter().find(|entry| entry.id == id).expect("an entry");
        (entry.judge)(&Seen { by: Judge { world, hidden: &hidden }, case: &case, ours, theirs, asked_whole: false })
    }

    fn lived(world: &mut World, uri: &str, seqs: &[i64]) {
        let version = |seq: &i64| Version { seq: *seq, time_us: *seq, cid: String::new(), json: None };
        world.lives.insert(uri.to_owned(), Life { versions: seqs.iter().map(version).collect(), ..Life::default() });
    }

    #[test]
    fn a_failure_over_a_sound_request_is_explained_by_nothing() {
        let world = World::default();
        let request = json!({ "uris": [MISSING] });
        for entry in ENTRIES {
            let rpc = entry.rpcs.first().copied().unwrap_or("GetLikeRecords");
            let verdict = judge(entry.id, &world, rpc, request.clone(), &Ok(json!({})), &failure());
            assert!(matches!(verdict, No), "{}", entry.id);
        }
    }

    #[test]
    fn a_sound_request_that_we_refuse_is_explained_by_nothing() {
        let world = World::default();
        let refused = Err(Refusal { code: code::INVALID_ARGUMENT, message: String::new() });
        for entry in ENTRIES {
            let rpc = entry.rpcs.first().copied().unwrap_or("GetFollowers");
            let request = json!({ "actorDid": "did:plc:a", "did": "did:plc:a", "limit": 5 });
            let verdict = judge(entry.id, &world, rpc, request, &refused, &Ok(json!({})));
            assert!(matches!(verdict, No), "{}", entry.id);
        }
    }

    #[test]
    fn one_malformed_uri_is_replaced_and_the_others_are_asked_for() {
        let request = json!({ "uris": ["at://did:plc:a/app.bsky.feed.like/1", "nonsense"] });
        let Instead(request, _) =
            judge("malformed-uri", &World::default(), "GetLikeRecords", request, &Ok(json!({})), &failure())
        else {
            panic!("not explained")
        };
        assert_eq!(request["uris"], json!(["at://did:plc:a/app.bsky.feed.like/1", MISSING]));
    }

    #[test]
    fn only_quotes_from_before_the_change_are_lost() {
        let mut world = World::default();
        let (post, early, late) = (
            "at://did:plc:a/app.bsky.feed.post/1",
            "at://did:plc:b/app.bsky.feed.post/2",
            "at://did:plc:b/app.bsky.feed.post/3",
        );
        lived(&mut world, post, &[1, 5]);
        lived(&mut world, early, &[2]);
        lived(&mut world, late, &[6]);
        let request = json!({ "subject": { "uri": post } });
        let ours = Ok(json!({ "uris": [late, early] }));
        let Edited(Ok(own), Ok(their)) = judge(
            "edited-post",
            &world,
            "GetQuotesBySubjectSorted",
            request.clone(),
            &ours,
            &Ok(json!({ "uris": [late] })),
        ) else {
            panic!("not explained")
        };
        assert_eq!(own, their);
        // The late one was lost by something else.
        let Edited(Ok(own), Ok(their)) =
            judge("edited-post", &world, "GetQuotesBySubjectSorted", request, &ours, &Ok(json!({ "uris": [] })))
        else {
            panic!("not explained")
        };
        assert_ne!(own, their);
        // One page of one, whose only quote is lost: the token of ours leads to what the reference does not have.
        let (ours, request) =
            (Ok(json!({ "uris": [early], "cursor": "t" })), json!({ "subject": { "uri": post }, "limit": 1 }));
        let page =
            |theirs| judge("edited-post", &world, "GetQuotesBySubjectSorted", request.clone(), &ours, &Ok(theirs));
        for theirs in [json!({ "uris": [] }), json!({ "uris": ["what follows"], "cursor": "t" })] {
            let Edited(own, their) = page(theirs) else { panic!("not explained") };
            assert_eq!(own, their);
        }
        // A page that was not full has nothing behind it: what only the reference has is left for others to explain.
        let (ours, request) = (Ok(json!({ "uris": [late, early] })), json!({ "subject": { "uri": post }, "limit": 9 }));
        let theirs = Ok(json!({ "uris": ["of another fault", late, "and another"] }));
        let Edited(Ok(own), Ok(their)) =
            judge("edited-post", &world, "GetQuotesBySubjectSorted", request, &ours, &theirs)
        else {
            panic!("not explained")
        };
        assert_eq!((own["uris"].as_array().map(Vec::len), their["uris"].as_array().map(Vec::len)), (Some(1), Some(3)));
    }

    #[test]
    fn a_list_that_nobody_is_on_explains_no_failure() {
        let ours = Ok(json!({ "relationships": [{ "blockingByList": "at://did:plc:a/app.bsky.graph.list/1" }] }));
        let request = json!({ "actorDid": "did:plc:a", "targetDids": ["did:plc:b"] });
        let mut world = World::default();
        let verdict = |world: &World| judge("two-lists", world, "GetRelationships", request.clone(), &ours, &failure());
        assert!(matches!(verdict(&world), No));
        world.members.insert("at://did:plc:a/app.bsky.graph.list/1".into(), vec!["did:plc:b".into()]);
        assert!(matches!(verdict(&world), Edited(..)));
    }
}
