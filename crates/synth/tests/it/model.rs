//! The oracle against a recount that knows nothing of how it got there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gp_atproto::{Value, cbor};
use groundplane_synth::{Model, Reason, Relation, Size, Spec};

use crate::{NOW_US, start, tiny, victims};

/// Author, collection and decoded record of everything that stands, for `count` to look at.
fn each_record(model: &Model, mut count: impl FnMut(&str, &str, &str, &Value<'_>)) {
    for did in model.dids().map(str::to_owned).collect::<Vec<_>>() {
        for (path, cid) in model.records(&did) {
            let uri = format!("at://{did}/{path}");
            let (known, bytes) = model.record(&uri).unwrap();
            assert_eq!(known, *cid);
            count(&did, &uri, path.split('/').next().unwrap(), &cbor::decode(&bytes).unwrap());
        }
    }
}

fn text(value: &Value<'_>, keys: &[&str]) -> Option<String> {
    let mut at = value;
    for key in keys {
        at = at.get(key)?;
    }
    at.as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_what_the_standing_records_add_up_to() {
    let network = start(Spec::new(Size::Custom { accounts: 150, records: 8_000 }, 11, NOW_US)).await;
    network.tick(200, NOW_US + 1_000);
    network
        .model(|model| {
            let mut pairs: BTreeMap<(&str, String), BTreeSet<String>> = BTreeMap::new();
            let (mut follows, mut posts, mut replies): (
                HashMap<String, BTreeSet<String>>,
                HashMap<_, u64>,
                HashMap<_, u64>,
            ) = Default::default();
            let (mut joins, mut duplicates, mut forbidden, mut astray) = (HashMap::<String, u64>::new(), 0, 0, 0);
            let mut quotes: HashMap<String, u64> = HashMap::new();
            each_record(model, |did, uri, collection, value| {
                let mut pair = |kind, subject: Option<String>| {
                    let is_new = pairs.entry((kind, subject.unwrap())).or_default().insert(did.to_owned());
                    duplicates += usize::from(!is_new);
                };
                match collection {
                    "app.bsky.feed.like" => pair("like", text(value, &["subject", "uri"])),
                    "app.bsky.feed.repost" => pair("repost", text(value, &["subject", "uri"])),
                    "app.bsky.graph.follow" => {
                        let subject = text(value, &["subject"]).unwrap();
                        follows.entry(did.to_owned()).or_default().insert(subject.clone());
                        pair("follow", Some(subject));
                    }
                    "app.bsky.feed.post" => {
                        *posts.entry(did.to_owned()).or_default() += 1;
                        let flags = model.post_flags(uri);
                        forbidden += usize::from(flags.violates_thread_gate);
                        astray += usize::from(flags.invalid_reply_root);
                        if let Some(parent) =
                            text(value, &["reply", "parent", "uri"]).filter(|_| !flags.violates_thread_gate)
                        {
                            *replies.entry(parent).or_default() += 1;
                        }
                        let quoted = text(value, &["embed", "record", "uri"])
                            .or(text(value, &["embed", "record", "record", "uri"]));
                        if let Some(quoted) = quoted.filter(|quoted| quoted.contains("/app.bsky.feed.post/")) {
                            *quotes.entry(quoted).or_default() += 1;
                        }
                    }
                    "app.bsky.actor.profile" => {
                        if let Some(pack) = text(value, &["joinedViaStarterPack", "uri"]) {
                            *joins.entry(pack).or_default() += 1;
                        }
                    }
                    _ => {}
                }
            });
            assert!(duplicates >= 3 && forbidden >= 3 && astray >= 1, "{duplicates} {forbidden} {astray}");

            let expected = |kind, subject: &str| pairs.get(&(kind, subject.to_owned())).map_or(0, |it| it.len() as u64);
            let mut compared = 0;
            for (subject, counts) in model.counted() {
                assert_eq!(counts.likes, expected("like", subject), "likes of {subject}");
                assert_eq!(counts.reposts, expected("repost", subject), "reposts of {subject}");
                assert_eq!(counts.followers, expected("follow", subject), "followers of {subject}");
                assert_eq!(counts.replies, replies.get(subject).copied().unwrap_or(0), "replies to {subject}");
                assert_eq!(counts.joins, joins.get(subject).copied().unwrap_or(0), "joins of {subject}");
                // Quotes of a post go with it, and whoever quoted it keeps the post.
                let stands = subject.starts_with("did:") || model.record(subject).is_some();
                let quoted = if stands { quotes.get(subject).copied().unwrap_or(0) } else { 0 };
                assert_eq!(counts.quotes, quoted, "quotes of {subject}");
                compared += 1;
            }
            assert!(compared > 500, "{compared}");
            for ((kind, subject), authors) in &pairs {
                assert!(model.counts(subject) != Default::default(), "{kind} of {subject} is counted");
                let relation = match *kind {
                    "like" => Relation::Like,
                    "repost" => Relation::Repost,
                    _ => Relation::Follow,
                };
                for author in authors {
                    let standing = model.standing(relation, author, subject).unwrap();
                    assert!(model.record(&standing).is_some(), "{standing} stands");
                }
            }
            for did in model.dids() {
                assert_eq!(model.follows(did), follows.get(did).map_or(0, |it| it.len() as u64));
                assert_eq!(model.posts(did), posts.get(did).copied().unwrap_or(0));
            }
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_tell_of_records_that_stand() {
    let network = start(tiny(21)).await;
    network
        .model(|model| {
            let mut reasons = BTreeSet::new();
            for did in model.dids() {
                for notice in model.notices(did) {
                    assert_eq!(notice.recipient, did);
                    let stands = model.record(&notice.record_uri).is_some();
                    assert!(stands || matches!(notice.reason, Reason::Unverified | Reason::Verified), "{notice:?}");
                    if !matches!(notice.reason, Reason::Verified | Reason::StarterPackJoined) {
                        assert!(
                            !notice.record_uri.starts_with(&format!("at://{did}/")),
                            "not of one's own: {notice:?}"
                        );
                    }
                    reasons.insert(notice.reason.as_str());
                }
            }
            for reason in [
                "like",
                "repost",
                "follow",
                "reply",
                "quote",
                "mention",
                "verified",
                "starterpack-joined",
                "like-via-repost",
            ] {
                assert!(reasons.contains(reason), "{reason} in {reasons:?}");
            }
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn small_stories_come_out_as_they_should() {
    use serde_json::json;
    let network = start(tiny(22)).await;
    let [alice, bob, carol] = victims(&network);
    let now = "2026-06-01T00:00:00.000Z";
    let made = |happened: groundplane_synth::Happened| happened.present[0].clone();

    let (post, cid) = made(network.post(&alice, "a post").unwrap());
    let like =
        json!({ "$type": "app.bsky.feed.like", "subject": { "uri": post, "cid": cid.to_string() }, "createdAt": now });
    let (first, _) = made(network.create(&bob, &like).unwrap());
    let (second, _) = made(network.create(&bob, &like).unwrap());
    let likes = || network.model(|model| model.counts(&post).likes).unwrap();
    let standing = || network.model(|model| model.standing(Relation::Like, &bob, &post)).unwrap();
    let told = |did: &str| {
        network
            .model(|model| model.notices(did).into_iter().filter(|it| it.subject_uri.as_deref() == Some(&post)).count())
            .unwrap()
    };
    assert_eq!((likes(), standing(), told(&alice)), (1, Some(first.clone()), 1));
    network.delete(&first).unwrap();
    assert_eq!((likes(), standing(), told(&alice)), (1, Some(second.clone()), 1));
    network.delete(&second).unwrap();
    assert_eq!((likes(), standing(), told(&alice)), (0, None, 0));

    let strong = json!({ "uri": post, "cid": cid.to_string() });
    let reply = json!({
        "$type": "app.bsky.feed.post", "text": "me too", "createdAt": now, "reply": { "root": strong, "parent": strong },
    });
    let replies = || network.model(|model| model.counts(&post).replies).unwrap();
    let (before, _) = made(network.create(&carol, &reply).unwrap());
    assert_eq!((replies(), told(&alice)), (1, 1));
    network.delete(&before).unwrap();
    assert_eq!((replies(), told(&alice)), (0, 0));
    let quote = json!({
        "$type": "app.bsky.feed.post", "text": "look", "createdAt": now,
        "embed": { "$type": "app.bsky.embed.record", "record": strong },
    });
    network.create(&carol, &quote).unwrap();
    assert_eq!(network.model(|model| model.counts(&post).quotes), Some(1));
    network.delete(&post).unwrap();
    assert_eq!(network.model(|model| model.counts(&post).quotes), Some(0));

    // An account that goes takes back what it did.
    let follow = json!({ "$type": "app.bsky.graph.follow", "subject": alice, "createdAt": now });
    network.create(&carol, &follow).ok();
    let followers = network.model(|model| model.counts(&alice).followers).unwrap();
    network.set_status(&carol, Some("deleted")).unwrap();
    assert_eq!(
        network.model(|model| (model.counts(&alice).followers, model.records(&carol).count())),
        Some((followers - 1, 0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_let_in_whom_they_name() {
    use serde_json::json;
    let network = start(tiny(23)).await;
    let [owner, friend, fan, other] = victims(&network);
    let now = "2026-06-01T00:00:00.000Z";
    // Whatever stands between them from the history goes, but for what this is about.
    for (from, to) in
        [(&owner, &friend), (&owner, &fan), (&owner, &other), (&friend, &owner), (&fan, &owner), (&other, &owner)]
    {
        while let Some(follow) = network.model(|model| model.standing(Relation::Follow, from, to)).unwrap() {
            network.delete(&follow).unwrap();
        }
    }
    let follow = |from: &str, to: &str| {
        network.create(from, &json!({ "$type": "app.bsky.graph.follow", "subject": to, "createdAt": now })).unwrap();
    };
    follow(&owner, &friend);
    follow(&fan, &owner);
    let rule = |name: &str| json!({ "$type": format!("app.bsky.feed.threadgate#{name}Rule") });
    let cases = [
        (None, [true, true, true]),
        (Some(json!([])), [false, false, false]),
        (Some(json!([rule("following")])), [true, false, false]),
        (Some(json!([rule("follower")])), [false, true, false]),
        (Some(json!([rule("following"), rule("follower")])), [true, true, false]),
        (Some(json!([rule("mention")])), [false, false, true]),
        (Some(json!([rule("moonPhase")])), [false, false, false]),
    ];
    for (allow, expected) in cases {
        let facet = json!({
            "index": { "byteStart": 0, "byteEnd": 5 },
            "features": [{ "$type": "app.bsky.richtext.facet#mention", "did": other }],
        });
        let post = json!({ "$type": "app.bsky.feed.post", "text": "@other", "facets": [facet], "createdAt": now });
        let (root, cid) = network.create(&owner, &post).unwrap().present[0].clone();
        let gate_uri = root.replace(".post/", ".threadgate/");
        let mut gate = json!({ "$type": "app.bsky.feed.threadgate", "post": root, "createdAt": now });
        if let Some(allow) = &allow {
            gate["allow"] = allow.clone();
        }
        network.create_at(&gate_uri, &gate).unwrap();
        assert!(network.create_at(&gate_uri, &gate).is_err(), "nothing may stand there");
        let strong = json!({ "uri": root, "cid": cid.to_string() });
        let reply = json!({
            "$type": "app.bsky.feed.post", "text": "hello", "createdAt": now, "reply": { "root": strong, "parent": strong },
        });
        let mut let_in = Vec::new();
        for did in [&friend, &fan, &other] {
            let (uri, _) = network.create(did, &reply).unwrap().present[0].clone();
            let_in.push(!network.model(|model| model.post_flags(&uri)).unwrap().violates_thread_gate);
        }
        assert_eq!(let_in, expected, "{allow:?}");
        network.create(&owner, &reply).unwrap();
        let counted = 1 + expected.iter().filter(|it| **it).count() as u64;
        assert_eq!(network.model(|model| model.counts(&root).replies), Some(counted), "{allow:?}");
    }
}
