//! What no event carries, done to both planes alike: private state through one bsync, mutes and takedowns through
//! calls, labels and curated lists through an operator's door.

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{
    client::Client,
    planes::{Ours, Reference},
    world::{World, nsid::*},
};

/// Rounds in which every chosen account does one more thing through bsync. Both planes catch up after each, so that
/// what an account did in one round is older than what it does in the next.
const ROUNDS: usize = 6;

const NS_BOOKMARK: &str = "app.bsky.bookmark.defs#bookmark";
const NS_DRAFT: &str = "app.bsky.draft.defs#draftWithId";
const NS_SUBSCRIPTION: &str = "app.bsky.notification.defs#subjectActivitySubscription";
const NS_PREFERENCES: &str = "app.bsky.notification.defs#preferences";
const NS_AGE: &str = "app.bsky.ageassurance.defs#event";
const NS_AGE_FIRST: &str = "app.bsky.unspecced.defs#ageAssuranceEvent";

/// What was done, for those who make calls and judge answers.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Accounts with private state.
    pub(super) owners: Vec<String>,
    pub(super) bookmarked: Vec<String>,
    pub(super) muted_lists: Vec<String>,
    pub(super) muted_roots: Vec<String>,
    pub(super) muted: Vec<String>,
    pub(super) subscribed: Vec<String>,
    pub(super) feeds: Vec<String>,
    pub(super) follows: Vec<String>,
    pub(super) entities: Vec<Value>,
    /// Labelers.
    pub(super) issuers: Vec<String>,
    pub(super) labelled: Vec<String>,
}

/// Does everything.
pub(super) async fn write(world: &World, seed: u64, head: i64, ours: &Ours, reference: &Reference) -> Result<State> {
    let mut dice = StdRng::seed_from_u64(seed ^ 0x0005_7a7e);
    let mut state = State { owners: owners(world, &mut dice), ..State::default() };
    labels(world, &mut dice, &mut state, ours, reference).await?;
    curated(world, &mut dice, &mut state, ours, reference).await?;
    operators(world, ours, reference).await?;
    for round in 0..ROUNDS {
        for owner in state.owners.clone() {
            through_bsync(world, &mut dice, &mut state, &owner, round, &reference.bsync).await?;
        }
        let heads = reference.command("settleBsync", json!({})).await?;
        ours.settle(head, &heads).await?;
    }
    deletions(world, reference).await?;
    Ok(state)
}

/// The busiest accounts and some others.
fn owners(world: &World, dice: &mut StdRng) -> Vec<String> {
    let mut owners = vec![world.hub.clone(), world.reader.clone()];
    owners.extend(world.dids.choose_multiple(dice, 24).cloned());
    owners.retain(|did| !world.deleted_dids.contains(did));
    owners.dedup();
    owners
}

fn any<'a>(dice: &mut StdRng, from: &'a [String]) -> &'a str {
    from.choose(dice).map_or("", String::as_str)
}

fn key(dice: &mut StdRng, round: usize) -> String {
    // Keys grow with the rounds, as TIDs do.
    let us = 1_700_000_000_000_000 + round as u64 * 1_000_000_000 + dice.random_range(0..900_000_000);
    gp_atproto::Tid::from_parts(us, dice.random_range(0..1024)).text().as_str().to_owned()
}

async fn through_bsync(
    world: &World,
    dice: &mut StdRng,
    state: &mut State,
    owner: &str,
    round: usize,
    bsync: &Client,
) -> Result<()> {
    let put = |namespace: &str, key: &str, method: u32, payload: Option<Value>| {
        // Payloads name their namespace, as the AppView writes them.
        let payload = payload.map(|mut payload| {
            payload["$type"] = namespace.into();
            payload.to_string()
        });
        let payload = base64(payload.unwrap_or_default().as_bytes());
        json!({ "actorDid": owner, "namespace": namespace, "key": key, "method": method, "payload": payload })
    };
    let mut calls: Vec<(&str, Value)> = Vec::new();
    let mute = |subject: &str, more: Value| {
        let mut call = json!({ "type": 1, "actorDid": owner, "subject": subject });
        for (key, value) in more.as_object().into_iter().flatten() {
            call[key] = value.clone();
        }
        ("AddMuteOperation", call)
    };
    let subject = any(dice, &world.dids).to_owned();
    if subject != owner {
        let scope = [
            json!({}),
            json!({}),
            json!({ "onlyReposts": true }),
            json!({ "onlyReposts": true, "onlyQuoteposts": true }),
        ];
        calls.push(mute(&subject, scope[dice.random_range(0..scope.len())].clone()));
        state.muted.push(subject);
    }
    let list = any(dice, world.of_collection(LIST)).to_owned();
    let root = any(dice, world.of_collection(POST)).to_owned();
    calls.push(mute(&list, json!({})));
    calls.push(mute(&root, json!({})));
    state.muted_lists.push(list);
    state.muted_roots.push(root);
    if round == 4 && dice.random_bool(0.3) {
        calls.push(("AddMuteOperation", json!({ "type": 3, "actorDid": owner })));
    } else if let Some(subject) = state.muted.choose(dice).filter(|_| dice.random_bool(0.5)) {
        calls.push(("AddMuteOperation", json!({ "type": 2, "actorDid": owner, "subject": subject })));
    }
    match round {
        0 if dice.random_bool(0.5) => calls.push(("AddNotifOperation", json!({ "actorDid": owner, "priority": true }))),
        3 if dice.random_bool(0.3) => {
            calls.push(("AddNotifOperation", json!({ "actorDid": owner, "priority": false })))
        }
        _ => {}
    }
    if round == 1 || (round == 2 && dice.random_bool(0.3)) {
        calls.push(("PutOperation", put(NS_PREFERENCES, "self", 2, Some(preferences(dice)))));
    }
    for _ in 0..3 {
        let (key, uri) = (key(dice, round), any(dice, world.of_collection(POST)).to_owned());
        let cid = world.lives[&uri].versions.last().map(|it| it.cid.clone()).unwrap_or_default();
        calls.push(("PutOperation", put(NS_BOOKMARK, &key, 1, Some(json!({ "subject": { "uri": uri, "cid": cid } })))));
        state.bookmarked.push(uri);
        if dice.random_bool(0.15) {
            calls.push(("PutOperation", put(NS_BOOKMARK, &key, 3, None)));
        }
    }
    let draft = key(dice, round);
    let text = |text: &str| json!({ "id": draft, "draft": { "posts": [{ "text": text }] } });
    calls.push(("PutOperation", put(NS_DRAFT, &draft, 1, Some(text("first")))));
    match round {
        2 => calls.push(("PutOperation", put(NS_DRAFT, &draft, 2, Some(text("second"))))),
        3 => calls.push(("PutOperation", put(NS_DRAFT, &draft, 3, None))),
        4 => calls.push(("PutOperation", put(NS_DRAFT, &key(dice, round), 2, Some(text("never made"))))),
        _ => {}
    }
    let (key, subject) = (key(dice, round), any(dice, &world.dids).to_owned());
    let flags = |post: bool, reply: bool| json!({ "subject": subject, "activitySubscription": { "post": post, "reply": reply } });
    let first = flags(dice.random_bool(0.7), dice.random_bool(0.5));
    calls.push(("PutOperation", put(NS_SUBSCRIPTION, &key, 1, Some(first))));
    match round {
        1 => calls.push(("PutOperation", put(NS_SUBSCRIPTION, &key, 2, Some(flags(true, true))))),
        3 => calls.push(("PutOperation", put(NS_SUBSCRIPTION, &key, 3, None))),
        _ => {}
    }
    state.subscribed.push(subject);
    if round < 4 && dice.random_bool(0.4) {
        let status = ["pending", "assured", "blocked", "unknown"][dice.random_range(0..4)];
        let at = "2025-06-01T00:00:00.000Z";
        let (namespace, event) = if dice.random_bool(0.5) {
            (NS_AGE_FIRST, json!({ "createdAt": at, "status": status, "attemptId": "one" }))
        } else {
            let access = ["unknown", "none", "safe", "full"][dice.random_range(0..4)];
            let event =
                json!({ "createdAt": at, "status": status, "access": access, "attemptId": "one", "countryCode": "GB" });
            (NS_AGE, event)
        };
        calls.push(("PutOperation", put(namespace, &self::key(dice, round), 1, Some(event))));
    }
    for (method, call) in calls {
        let answer = bsync.call(&format!("bsync.Service/{method}"), &call).await?;
        ensure!(answer.is_ok(), "bsync refused {method} {call}: {answer:?}");
    }
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    gp_atproto::multibase::base64_encode(bytes, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Preferences as the AppView stores them; some lack a member, as those of older versions do.
fn preferences(dice: &mut StdRng) -> Value {
    let mut all = json!({ "chat": { "include": "all", "push": true } });
    for name in ["follow", "like", "likeViaRepost", "mention", "quote", "reply", "repost", "repostViaRepost"] {
        // What is listed is left as it is: the reference does not filter by it, and we do.
        let include = if dice.random_bool(0.0) { "follows" } else { "all" };
        all[name] = json!({ "include": include, "list": true, "push": dice.random_bool(0.5) });
    }
    for name in ["starterpackJoined", "subscribedPost", "unverified", "verified"] {
        all[name] = json!({ "list": true, "push": dice.random_bool(0.5) });
    }
    if dice.random_bool(0.15)
        && let Some(all) = all.as_object_mut()
    {
        all.remove("mention");
    }
    all
}

async fn labels(world: &World, dice: &mut StdRng, state: &mut State, ours: &Ours, reference: &Reference) -> Result<()> {
    state.issuers = world.dids.iter().take(4).cloned().collect();
    state.issuers.push("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb".into());
    let mut subjects: Vec<String> = world.dids.choose_multiple(dice, 40).cloned().collect();
    for collection in [POST, LIST, GENERATOR, STARTER_PACK, PROFILE] {
        subjects.extend(world.of_collection(collection).choose_multiple(dice, 40).cloned());
    }
    let mut labels = Vec::new();
    for uri in &subjects {
        for _ in 0..dice.random_range(1..4) {
            let val = ["spam", "rude", "!takedown", "needs-review", "porn"][dice.random_range(0..5)];
            let mut label = json!({
                "src": any(dice, &state.issuers), "uri": uri, "val": val, "cts": "2025-05-05T05:05:05.000Z",
            });
            match dice.random_range(0..8) {
                0 => label["neg"] = true.into(),
                1 => label["exp"] = "2025-06-06T06:06:06.000Z".into(),
                2 => label["exp"] = "2099-06-06T06:06:06.000Z".into(),
                3 => {
                    if let Some(version) = world.lives.get(uri).and_then(|life| life.versions.last()) {
                        label["cid"] = version.cid.as_str().into();
                    }
                }
                _ => {}
            }
            labels.push(label);
        }
    }
    for label in &mut labels {
        // Two of one kind: the first counts no more.
        if dice.random_bool(0.1) {
            label["cts"] = "2025-07-07T07:07:07.000Z".into();
        }
    }
    // One label for each thing that can be said, so that both planes keep the same one.
    let mut known = std::collections::HashSet::new();
    labels.retain(|it| known.insert(format!("{}{}{}{}", it["src"], it["uri"], it["cid"], it["val"])));
    reference.command("addLabels", json!({ "labels": labels })).await?;
    for some in labels.chunks(100) {
        ours.operate("POST", "/admin/labels", &json!(some)).await?;
    }
    state.labelled = subjects;
    Ok(())
}

async fn curated(
    world: &World,
    dice: &mut StdRng,
    state: &mut State,
    ours: &Ours,
    reference: &Reference,
) -> Result<()> {
    state.feeds = world.of_collection(GENERATOR).iter().take(12).cloned().collect();
    state.follows = world.dids.choose_multiple(dice, 25).cloned().collect();
    state.follows.push("did:plc:cccccccccccccccccccccccc".into());
    state.entities = (0..12)
        .map(|n| match n % 3 {
            0 => json!({ "tag": format!("tag{n}"), "subject": any(dice, &world.dids), "subjectType": "actor" }),
            _ => json!({ "tag": format!("tag{n}"), "subject": any(dice, world.of_collection(GENERATOR)), "subjectType": "feed" }),
        })
        .collect();
    let given = json!({ "feeds": state.feeds, "follows": state.follows, "entities": state.entities });
    reference.command("suggest", given).await?;
    ours.operate("PUT", "/admin/suggested/feeds", &json!(state.feeds)).await?;
    ours.operate("PUT", "/admin/suggested/follows", &json!(state.follows)).await?;
    ours.operate("PUT", "/admin/suggested/entities", &json!(state.entities)).await?;
    Ok(())
}

/// Trusted verifiers, and tags.
async fn operators(world: &World, ours: &Ours, reference: &Reference) -> Result<()> {
    let mut issuers: Vec<&str> =
        world.of_collection(VERIFICATION).iter().map(|uri| super::world::authority(uri)).collect();
    issuers.dedup();
    let mut trusted = vec![world.verifier.as_str()];
    trusted
        .extend(issuers.into_iter().filter(|did| *did != world.verifier && !world.deleted_dids.contains(*did)).take(3));
    reference.command("trustVerifiers", json!({ "dids": trusted })).await?;
    for did in trusted {
        ours.operate("PUT", &format!("/admin/actors/{did}/trusted-verifier"), &json!({ "trusted": true })).await?;
    }
    let posts = world.of_collection(POST).iter().rev().filter(|uri| world.stands(uri)).take(3);
    let profiles = world.of_collection(PROFILE).iter().filter(|uri| world.stands(uri)).take(2);
    for uri in posts.chain(profiles) {
        let given = json!({ "uri": uri, "tags": ["rude", "worse"] });
        reference.command("tagRecord", given.clone()).await?;
        ours.operate("PUT", "/admin/records/tags", &given).await?;
    }
    Ok(())
}

/// The reference dates the deletion of an author's reply by its clock, which is long after the history. Who may take
/// the place of a deleted reply depends on that time, so it is set to the event's. A reply that has only changed is
/// marked as deleted too, and the mark is taken off.
async fn deletions(world: &World, reference: &Reference) -> Result<()> {
    let gone = world.of_collection(POST).iter().filter_map(|uri| {
        let (_, time_us) = world.lives[uri].deleted?;
        Some(json!({ "uri": uri, "time": gp_atproto::datetime::format_ms(time_us) }))
    });
    let standing =
        world.of_collection(POST).iter().filter(|uri| world.stands(uri) && world.lives[*uri].versions.len() > 1);
    let given = json!({ "deletions": gone.collect::<Vec<_>>(), "standing": standing.collect::<Vec<_>>() });
    reference.command("dateDeletions", given).await.map(drop)
}
