//! What a network seldom has and a data plane must get right: written after the history, one small scene each.

use anyhow::{Context, Result};
use gp_atproto::{Cid, aturi::AtUri, datetime};
use gp_synth::Network;
use serde_json::{Value, json};

use super::world::nsid::*;

/// A scene being played.
struct Stage<'n> {
    network: &'n Network,
    /// The end of the history; scenes claim times after it.
    now_us: i64,
    told: i64,
}

type Strong = (String, Cid);

impl Stage<'_> {
    /// An account that nothing has happened to in any other scene.
    fn who(&mut self) -> String {
        self.told += 1;
        self.network.victim(self.told as u64 * 7 + 1)
    }

    /// A time that nothing else claims.
    fn at(&mut self) -> String {
        self.now_us += 7_000;
        datetime::format_ms(self.now_us)
    }

    fn create(&mut self, did: &str, collection: &str, mut record: Value) -> Result<Strong> {
        record["$type"] = collection.into();
        if record["createdAt"].is_null() {
            record["createdAt"] = self.at().into();
        }
        // A host lets time pass between two commits.
        self.network.tick(1, self.now_us);
        let happened = self.network.create(did, &record)?;
        let made = happened.present.into_iter().next().map(|(uri, cid)| (uri, cid));
        made.or_else(|| happened.absent.first().map(|uri| (uri.clone(), Cid::for_raw(b""))))
            .context("a record was made")
    }

    fn relate(&mut self, did: &str, collection: &str, subject: &str) -> Result<String> {
        Ok(self.create(did, collection, json!({ "subject": subject }))?.0)
    }

    fn react(&mut self, did: &str, collection: &str, (uri, cid): &Strong) -> Result<String> {
        Ok(self.create(did, collection, json!({ "subject": { "uri": uri, "cid": cid.to_string() } }))?.0)
    }

    fn post(&mut self, did: &str, text: &str) -> Result<Strong> {
        self.create(did, POST, json!({ "text": text }))
    }

    fn reply(&mut self, did: &str, text: &str, root: &Strong, parent: &Strong) -> Result<Strong> {
        let strong = |(uri, cid): &Strong| json!({ "uri": uri, "cid": cid.to_string() });
        self.create(did, POST, json!({ "text": text, "reply": { "root": strong(root), "parent": strong(parent) } }))
    }

    fn quote(&mut self, did: &str, (uri, cid): &Strong) -> Result<Strong> {
        let embed = json!({ "$type": "app.bsky.embed.record", "record": { "uri": uri, "cid": cid.to_string() } });
        self.create(did, POST, json!({ "text": "look", "embed": embed }))
    }

    fn list(&mut self, did: &str, purpose: &str, members: &[&str]) -> Result<Strong> {
        let purpose = format!("app.bsky.graph.defs#{purpose}");
        let list = self.create(did, LIST, json!({ "name": "corner", "purpose": purpose }))?;
        for member in members {
            self.create(did, LIST_ITEM, json!({ "list": list.0, "subject": member }))?;
        }
        Ok(list)
    }

    fn delete(&mut self, uri: &str) -> Result<()> {
        self.network.tick(1, self.now_us);
        self.network.delete(uri).map(drop).with_context(|| format!("deleting {uri}"))
    }

    fn update(&mut self, uri: &str, mut record: Value) -> Result<Cid> {
        record["$type"] = super::world::collection(uri).into();
        if record["createdAt"].is_null() {
            record["createdAt"] = self.at().into();
        }
        self.network.tick(1, self.now_us);
        let happened = self.network.update(uri, &record).with_context(|| format!("updating {uri}"))?;
        Ok(happened.present.first().context("a record was updated")?.1)
    }

    fn gate(&mut self, post: &str, kind: &str, more: Value) -> Result<String> {
        let (did, _, rkey) = AtUri::record_parts(post).context("a post")?;
        let uri = format!("at://{did}/{kind}/{rkey}");
        let mut record = json!({ "$type": kind, "post": post, "createdAt": self.at() });
        for (key, value) in more.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        self.network.create_at(&uri, &record)?;
        Ok(uri)
    }
}

/// Plays every scene.
pub(super) fn play(network: &Network, now_us: i64) -> Result<()> {
    let mut stage = Stage { network, now_us, told: 0 };
    for (name, scene) in SCENES {
        scene(&mut stage).with_context(|| format!("the scene {name:?}"))?;
    }
    Ok(())
}

type Scene = fn(&mut Stage<'_>) -> Result<()>;

const SCENES: &[(&str, Scene)] = &[
    ("claims", claims),
    ("twins", twins),
    ("selves", selves),
    ("opt-outs", opt_outs),
    ("handles in URIs", handles_in_uris),
    ("astray", astray),
    ("author's threads", author_threads),
    ("gates", gates),
    ("edits", edits),
    ("odd records", odd_records),
    ("lists", lists),
    ("from the future", from_the_future),
    ("vouching", vouching),
    ("profiles", profiles),
    ("declarations", declarations),
    ("the open web", open_web),
    ("services", services),
];

/// Several records claim one relation; the one that counts goes, and then the next.
fn claims(it: &mut Stage<'_>) -> Result<()> {
    // Two that go of three are left out: the reference promotes once and no more, and everything that counts the
    // relation would differ.
    for gone in [0, 1, 3] {
        let (actor, subject) = (it.who(), it.who());
        let post = it.post(&subject, "claimed")?;
        let list = it.list(&actor, "modlist", &[])?;
        for collection in [FOLLOW, BLOCK, LIKE, REPOST, LIST_ITEM, LIST_BLOCK, VERIFICATION] {
            let mut uris = Vec::new();
            for _ in 0..3 {
                uris.push(match collection {
                    FOLLOW | BLOCK => it.relate(&actor, collection, &subject)?,
                    LIKE | REPOST => it.react(&actor, collection, &post)?,
                    LIST_BLOCK => it.relate(&actor, collection, &list.0)?,
                    LIST_ITEM => it.create(&actor, collection, json!({ "list": list.0, "subject": subject }))?.0,
                    _ => {
                        let record =
                            json!({ "subject": subject, "handle": "somebody.demo.test", "displayName": "Some Body" });
                        it.create(&actor, collection, record)?.0
                    }
                });
            }
            for uri in uris.iter().take(gone) {
                it.delete(uri)?;
            }
        }
    }
    Ok(())
}

/// Records of different accounts that are the same byte for byte: same time, same CID.
fn twins(it: &mut Stage<'_>) -> Result<()> {
    let star = it.who();
    let post = it.post(&star, "seen by many")?;
    let at = it.at();
    for _ in 0..6 {
        let who = it.who();
        if who == star {
            continue;
        }
        it.create(&who, FOLLOW, json!({ "subject": star, "createdAt": at }))?;
        for collection in [LIKE, REPOST] {
            let subject = json!({ "uri": post.0, "cid": post.1.to_string() });
            it.create(&who, collection, json!({ "subject": subject, "createdAt": at }))?;
        }
    }
    Ok(())
}

/// Accounts that do things to themselves.
fn selves(it: &mut Stage<'_>) -> Result<()> {
    let who = it.who();
    let post = it.post(&who, "me")?;
    it.relate(&who, FOLLOW, &who)?;
    it.relate(&who, BLOCK, &who)?;
    it.react(&who, LIKE, &post)?;
    it.react(&who, REPOST, &post)?;
    it.quote(&who, &post)?;
    it.reply(&who, "and me", &post, &post)?;
    let list = it.list(&who, "modlist", &[&who])?;
    it.relate(&who, LIST_BLOCK, &list.0)?;
    Ok(())
}

/// Accounts that do not want to be shown on a list.
fn opt_outs(it: &mut Stage<'_>) -> Result<()> {
    let (owner, one, other, third) = (it.who(), it.who(), it.who(), it.who());
    let list = it.list(&owner, "referencelist", &[&one, &other, &third, &owner])?;
    let curation = it.list(&owner, "curatelist", &[&one, &other])?;
    for (number, who) in [&one, &other, &third].into_iter().enumerate() {
        it.post(who, "on a list")?;
        it.relate(who, OPT_OUT, &list.0)?;
        if number == 1 {
            let last = it.relate(who, OPT_OUT, &curation.0)?;
            it.delete(&last)?;
        }
    }
    it.relate(&one, OPT_OUT, &curation.0)?;
    // What is no list: the record stands, and means nothing.
    it.relate(&third, OPT_OUT, &format!("at://{owner}"))?;
    it.relate(&third, OPT_OUT, &format!("at://{owner}/{POST}/3jzfcijpj2z2a"))?;
    // One that was there before the account was put on the list.
    let late = it.who();
    it.relate(&late, OPT_OUT, &list.0)?;
    it.create(&owner, LIST_ITEM, json!({ "list": list.0, "subject": late }))?;
    Ok(())
}

/// Subjects whose URI names a handle.
fn handles_in_uris(it: &mut Stage<'_>) -> Result<()> {
    let (who, other) = (it.who(), it.who());
    let post = it.post(&other, "named")?;
    let named = (post.0.replacen(&other, "somebody.demo.test", 1), post.1);
    it.react(&who, LIKE, &named)?;
    it.react(&who, REPOST, &named)?;
    it.quote(&who, &named)?;
    it.reply(&who, "to a handle", &post, &named)?;
    Ok(())
}

/// Replies that hang on nothing, on something else than a post, or on the wrong root.
fn astray(it: &mut Stage<'_>) -> Result<()> {
    let (who, other) = (it.who(), it.who());
    let (one, two) = (it.post(&who, "one")?, it.post(&who, "two")?);
    let nothing = (format!("at://{other}/{POST}/3jzfcijpj2z2a"), one.1);
    let lost = it.reply(&other, "to nothing", &nothing, &nothing)?;
    it.reply(&who, "to what hangs on nothing", &nothing, &lost)?;
    it.reply(&other, "wrong root", &one, &two)?;
    let feed = it.create(&who, GENERATOR, json!({ "did": "did:web:feeds.demo.test", "displayName": "corner" }))?;
    it.reply(&other, "to a feed", &feed, &feed)?;
    let above = it.reply(&other, "to be deleted", &one, &one)?;
    let below = it.reply(&who, "stays", &one, &above)?;
    it.delete(&above.0)?;
    it.reply(&other, "under what hangs on a gap", &one, &below)?;
    it.quote(&other, &two)?;
    it.react(&other, REPOST, &two)?;
    it.react(&other, LIKE, &two)?;
    it.delete(&two.0)?;
    Ok(())
}

/// Threads of one author, with forks and gaps.
fn author_threads(it: &mut Stage<'_>) -> Result<()> {
    for which in 0..6 {
        let (who, other) = (it.who(), it.who());
        let root = it.post(&who, "a thread")?;
        let mut chain = vec![root.clone()];
        for _ in 0..5 {
            let last = chain.last().context("a chain begins with its root")?.clone();
            chain.push(it.reply(&who, "goes on", &root, &last)?);
        }
        let fork = it.reply(&who, "a fork", &root, &chain[2])?;
        it.reply(&who, "under the fork", &root, &fork)?;
        let heckler = it.reply(&other, "somebody else", &root, &chain[3])?;
        it.reply(&who, "answers", &root, &heckler)?;
        match which {
            0 => {}
            1 => it.delete(&chain[3].0)?,
            2 => it.delete(&chain[5].0)?,
            3 => {
                for post in chain[3..].iter().rev() {
                    it.delete(&post.0)?;
                }
            }
            4 => {
                for post in chain[3..].iter().rev() {
                    it.delete(&post.0)?;
                }
                it.reply(&who, "written after", &root, &chain[2])?;
            }
            _ => it.delete(&root.0)?,
        }
    }
    Ok(())
}

/// Gates that come before their post, that go, and that change.
fn gates(it: &mut Stage<'_>) -> Result<()> {
    let (who, other) = (it.who(), it.who());
    let early = format!("at://{who}/{POST}/3mcornergate2");
    it.gate(&early, THREAD_GATE, json!({ "allow": [] }))?;
    it.gate(&early, POST_GATE, json!({ "embeddingRules": [{ "$type": "app.bsky.feed.postgate#disableRule" }] }))?;
    let text = json!({ "$type": POST, "text": "after its gates", "createdAt": it.at() });
    let made = it.network.create_at(&early, &text)?;
    let early = (early, made.present.first().context("a post")?.1);
    it.reply(&other, "not let in", &early, &early)?;
    it.quote(&other, &early)?;
    let post = it.post(&who, "gated for a while")?;
    let gate = it.gate(&post.0, THREAD_GATE, json!({ "allow": [] }))?;
    let rule =
        it.gate(&post.0, POST_GATE, json!({ "embeddingRules": [{ "$type": "app.bsky.feed.postgate#disableRule" }] }))?;
    it.reply(&other, "too early", &post, &post)?;
    it.quote(&other, &post)?;
    it.delete(&gate)?;
    it.delete(&rule)?;
    it.reply(&other, "in time", &post, &post)?;
    it.quote(&other, &post)?;
    Ok(())
}

/// Posts that change after others have said something about them.
fn edits(it: &mut Stage<'_>) -> Result<()> {
    let (who, other) = (it.who(), it.who());
    let post = it.post(&who, "first words")?;
    it.gate(&post.0, THREAD_GATE, json!({}))?;
    it.gate(&post.0, POST_GATE, json!({}))?;
    it.quote(&other, &post)?;
    it.react(&other, REPOST, &post)?;
    it.react(&other, LIKE, &post)?;
    it.reply(&other, "a reply", &post, &post)?;
    let cid = it.update(&post.0, json!({ "text": "other words" }))?;
    let post = (post.0, cid);
    it.quote(&other, &post)?;
    // A reply of the thread's author that changes.
    let root = it.post(&who, "thread")?;
    let part = it.reply(&who, "part", &root, &root)?;
    let strong = |(uri, cid): &Strong| json!({ "uri": uri, "cid": cid.to_string() });
    let reply = json!({ "root": strong(&root), "parent": strong(&root) });
    it.update(&part.0, json!({ "text": "better part", "reply": reply }))?;
    // A relation that moves to another subject.
    let (one, two) = (it.who(), it.who());
    let follow = it.relate(&who, FOLLOW, &one)?;
    it.update(&follow, json!({ "subject": two }))?;
    Ok(())
}

/// Records that are valid and unusual.
fn odd_records(it: &mut Stage<'_>) -> Result<()> {
    let (who, other) = (it.who(), it.who());
    it.create(
        &who,
        POST,
        json!({ "text": "no pictures", "embed": { "$type": "app.bsky.embed.images", "images": [] } }),
    )?;
    it.create(&who, POST, json!({ "text": "a NUL \u{0} inside" }))?;
    it.create(&who, POST, json!({ "text": "" }))?;
    it.create(&who, POST, json!({ "text": "unknown embed", "embed": { "$type": "test.demo.hologram", "depth": 3 } }))?;
    it.create(&who, POST, json!({ "text": "old", "createdAt": "1969-12-31T23:59:59.999Z" }))?;
    it.create(&who, POST, json!({ "text": "thirtieth of February", "createdAt": "2025-02-30T12:00:00Z" }))?;
    it.create(&who, POST, json!({ "text": "elsewhere", "createdAt": "2025-02-01T12:00:00.123456+05:30" }))?;
    it.relate(&who, FOLLOW, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")?;
    it.relate(&who, BLOCK, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")?;
    it.relate(&who, FOLLOW, &format!("did:web:{}", other.len()))?;
    let cid = Cid::for_dag_cbor(b"x");
    it.react(&who, LIKE, &(format!("at://{other}"), cid))?;
    it.react(&who, LIKE, &(format!("at://{other}/{LIST}"), cid))?;
    it.react(&who, REPOST, &(format!("at://{other}/{LIST}/3jzfcijpj2z2a"), cid))?;
    it.quote(&who, &(format!("at://{other}/{POST}/3jzfcijpj2z2a"), cid))?;
    Ok(())
}

/// Lists that go and leave their items, blocked by whom they block.
fn lists(it: &mut Stage<'_>) -> Result<()> {
    let (owner, one, other) = (it.who(), it.who(), it.who());
    let gone = it.list(&owner, "modlist", &[&one])?;
    it.relate(&other, LIST_BLOCK, &gone.0)?;
    it.delete(&gone.0)?;
    let two = [it.list(&owner, "modlist", &[&one])?, it.list(&owner, "curatelist", &[&one])?];
    for list in &two {
        it.relate(&one, LIST_BLOCK, &list.0)?;
        it.relate(&other, LIST_BLOCK, &list.0)?;
    }
    it.update(&two[1].0, json!({ "name": "renamed", "purpose": "app.bsky.graph.defs#modlist" }))?;
    // Somebody else's list: such an item is no item.
    it.create(&other, LIST_ITEM, json!({ "list": two[0].0, "subject": other }))?;
    Ok(())
}

/// Things that claim to be made later than they came.
fn from_the_future(it: &mut Stage<'_>) -> Result<()> {
    let (owner, other) = (it.who(), it.who());
    for years in [1, 3, 2] {
        let at = datetime::format_ms(it.now_us + years * 365 * 86_400_000_000);
        let list = json!({ "name": "later", "purpose": "app.bsky.graph.defs#modlist", "createdAt": at });
        let list = it.create(&owner, LIST, list)?;
        it.relate(&other, LIST_BLOCK, &list.0)?;
        let feed = json!({ "did": "did:web:feeds.demo.test", "displayName": "later", "createdAt": at });
        it.create(&owner, GENERATOR, feed)?;
        it.create(&owner, POST, json!({ "text": "later", "createdAt": at }))?;
        it.create(&owner, FOLLOW, json!({ "subject": other, "createdAt": at }))?;
    }
    Ok(())
}

/// Verifications that change and go.
fn vouching(it: &mut Stage<'_>) -> Result<()> {
    let trusted = it.network.pick().verifier_did;
    for number in 0..3 {
        let subject = it.who();
        let record = json!({ "subject": subject, "handle": "somebody.demo.test", "displayName": "Some Body" });
        let uri = it.create(&trusted, VERIFICATION, record)?.0;
        let badly = it.who();
        let record = json!({ "subject": subject, "handle": "somebody.demo.test", "displayName": "Some Body" });
        it.create(&badly, VERIFICATION, record)?;
        match number {
            1 => it.delete(&uri)?,
            2 => {
                let record = json!({ "subject": subject, "handle": "other.demo.test", "displayName": "Other" });
                it.update(&uri, record).map(drop)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Profiles that come, change and go, with and without a time of their own.
fn profiles(it: &mut Stage<'_>) -> Result<()> {
    let pack = it.network.pick().starter_pack_uri;
    for number in 0..4 {
        let who = it.who();
        let uri = format!("at://{who}/{PROFILE}/self");
        let joined = json!({ "uri": pack, "cid": Cid::for_dag_cbor(b"pack").to_string() });
        let record = match number {
            0 => json!({ "displayName": "Joined later", "joinedViaStarterPack": joined }),
            1 => json!({ "displayName": "Nobody's time", "createdAt": "2024-05-05T05:05:05Z" }),
            _ => json!({ "displayName": "Changed" }),
        };
        if it.network.update(&uri, &with_type(PROFILE, record.clone(), it)).is_err() {
            it.create(&who, PROFILE, record)?;
        }
        if number == 3 {
            it.delete(&uri)?;
        }
    }
    Ok(())
}

fn with_type(collection: &str, mut record: Value, it: &mut Stage<'_>) -> Value {
    record["$type"] = collection.into();
    if record["createdAt"].is_null() {
        record["createdAt"] = it.at().into();
    }
    record
}

/// Declarations of every kind.
fn declarations(it: &mut Stage<'_>) -> Result<()> {
    for whom in ["all", "following", "none"] {
        let who = it.who();
        let subscriptions = if whom == "all" { "mutuals" } else { whom };
        for record in [
            json!({ "$type": CHAT, "allowIncoming": whom, "allowGroupInvites": whom }),
            json!({ "$type": NOTIFICATIONS, "allowSubscriptions": subscriptions }),
        ] {
            let uri = format!("at://{who}/{}/self", record["$type"].as_str().unwrap_or_default());
            if it.network.update(&uri, &record).is_err() {
                it.network.create(&who, &record)?;
            }
        }
    }
    Ok(())
}

/// Publications and documents with more than one version.
fn open_web(it: &mut Stage<'_>) -> Result<()> {
    for number in 0..3 {
        let who = it.who();
        let paper = json!({ "url": "https://blog.example", "name": "Corner" });
        let paper = it.create(&who, PUBLICATION, paper)?;
        let document = |title: &str| json!({ "site": paper.0, "path": "/corner", "title": title, "publishedAt": "2025-01-01T00:00:00.000Z" });
        let first = it.create(&who, DOCUMENT, document("first"))?;
        it.update(&first.0, document("second"))?;
        it.update(&paper.0, json!({ "url": "https://blog.example", "name": "Corner, renamed" }))?;
        if number == 1 {
            it.delete(&first.0)?;
        }
        if number == 2 {
            it.delete(&paper.0)?;
        }
    }
    Ok(())
}

/// Feeds and starter packs that change and go.
fn services(it: &mut Stage<'_>) -> Result<()> {
    let who = it.who();
    let feeds: Vec<Strong> = (0..4)
        .map(|n| {
            it.create(&who, GENERATOR, json!({ "did": "did:web:feeds.demo.test", "displayName": format!("feed {n}") }))
        })
        .collect::<Result<_>>()?;
    it.update(&feeds[1].0, json!({ "did": "did:web:feeds.demo.test", "displayName": "renamed feed" }))?;
    it.delete(&feeds[2].0)?;
    let list = it.list(&who, "referencelist", &[])?;
    let packs: Vec<Strong> = (0..3)
        .map(|n| it.create(&who, STARTER_PACK, json!({ "name": format!("pack {n}"), "list": list.0 })))
        .collect::<Result<_>>()?;
    it.update(&packs[0].0, json!({ "name": "renamed pack", "list": list.0 }))?;
    it.delete(&packs[1].0)?;
    Ok(())
}
