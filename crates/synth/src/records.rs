//! The records that people write, as canonical DAG-CBOR.
//!
//! Likes, reposts, follows and blocks are nine of ten records, so they are written straight; the others go through
//! lex-JSON, which reads better.

use bytes::Bytes;
use gp_atproto::{Cid, cbor::Writer, datetime, json};
use serde_json::{Map, Value as Json, json};

use crate::{
    dice::Dice,
    population::Person,
    text::{self, Facet, Feature, Writing},
    words::TOPICS,
};

pub(crate) const POST: &str = "app.bsky.feed.post";
pub(crate) const LIKE: &str = "app.bsky.feed.like";
pub(crate) const REPOST: &str = "app.bsky.feed.repost";
pub(crate) const THREAD_GATE: &str = "app.bsky.feed.threadgate";
pub(crate) const POST_GATE: &str = "app.bsky.feed.postgate";
pub(crate) const GENERATOR: &str = "app.bsky.feed.generator";
pub(crate) const FOLLOW: &str = "app.bsky.graph.follow";
pub(crate) const BLOCK: &str = "app.bsky.graph.block";
pub(crate) const LIST: &str = "app.bsky.graph.list";
pub(crate) const LIST_ITEM: &str = "app.bsky.graph.listitem";
pub(crate) const LIST_BLOCK: &str = "app.bsky.graph.listblock";
pub(crate) const OPT_OUT: &str = "app.bsky.graph.referencelistoptout";
pub(crate) const STARTER_PACK: &str = "app.bsky.graph.starterpack";
pub(crate) const VERIFICATION: &str = "app.bsky.graph.verification";
pub(crate) const PROFILE: &str = "app.bsky.actor.profile";
pub(crate) const STATUS: &str = "app.bsky.actor.status";
pub(crate) const LABELER: &str = "app.bsky.labeler.service";
pub(crate) const NOTIFICATION_DECLARATION: &str = "app.bsky.notification.declaration";
pub(crate) const CHAT_DECLARATION: &str = "chat.bsky.actor.declaration";
pub(crate) const GERM_DECLARATION: &str = "com.germnetwork.declaration";
pub(crate) const PUBLICATION: &str = "site.standard.publication";
pub(crate) const DOCUMENT: &str = "site.standard.document";
/// A collection that no AppView knows.
pub(crate) const UNKNOWN: &str = "test.demo.diary.entry";

/// The key of records that exist once in a repo.
pub(crate) const SELF: &str = "self";

/// The collections of which an author's record is a claim to a relation with a subject.
pub(crate) fn is_relation(collection: &str) -> bool {
    matches!(collection, LIKE | REPOST | FOLLOW | BLOCK)
}

/// URI and CID of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strong {
    pub(crate) uri: String,
    pub(crate) cid: Cid,
}

impl Strong {
    fn json(&self) -> Json {
        json!({ "uri": self.uri, "cid": self.cid.to_string() })
    }

    fn write(&self, writer: &mut Writer) {
        writer.map(2).text("cid").text(&self.cid.to_string()).text("uri").text(&self.uri);
    }
}

/// A record, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) cid: Cid,
    pub(crate) bytes: Bytes,
}

impl Block {
    pub(crate) fn new(bytes: Vec<u8>) -> Block {
        Block { cid: Cid::for_dag_cbor(&bytes), bytes: bytes.into() }
    }

    fn of(json: &Json) -> Block {
        Block::new(json::to_cbor(json).expect("records of ours are lex-JSON"))
    }
}

/// The `createdAt` that a client writes: nearly always ISO with milliseconds, sometimes another form of the same time.
pub(crate) fn created_at(dice: &mut Dice, time_us: i64) -> String {
    let text = datetime::format_ms(time_us);
    match dice.below(100) {
        0 => format!("{}Z", &text[..19]),
        1 => format!("{}{:03}Z", &text[..23], time_us.rem_euclid(1000)),
        2 => format!("{}+00:00", &text[..23]),
        _ => text,
    }
}

/// A like or a repost, `collection` says which.
pub(crate) fn reaction(collection: &str, subject: &Strong, via: Option<&Strong>, created_at: &str) -> Block {
    let mut writer = Writer::with_capacity(256);
    writer.map(3 + usize::from(via.is_some()));
    if let Some(via) = via {
        writer.text("via");
        via.write(&mut writer);
    }
    writer.text("$type").text(collection).text("subject");
    subject.write(&mut writer);
    writer.text("createdAt").text(created_at);
    Block::new(writer.into_bytes())
}

/// A follow or a block, `collection` says which.
pub(crate) fn edge(collection: &str, subject: &str, via: Option<&Strong>, created_at: &str) -> Block {
    let mut writer = Writer::with_capacity(160);
    writer.map(3 + usize::from(via.is_some()));
    if let Some(via) = via {
        writer.text("via");
        via.write(&mut writer);
    }
    writer.text("$type").text(collection).text("subject").text(subject).text("createdAt").text(created_at);
    Block::new(writer.into_bytes())
}

/// What a post is, beside its text.
#[derive(Clone, Debug, Default)]
pub(crate) struct PostParts {
    pub(crate) reply: Option<(Strong, Strong)>,
    pub(crate) embed: Option<Json>,
    pub(crate) lang: Option<&'static str>,
    pub(crate) tags: Vec<&'static str>,
    pub(crate) self_label: Option<&'static str>,
}

/// A post.
pub(crate) fn post(writing: &Writing, parts: &PostParts, created_at: &str) -> Block {
    let mut record = Map::new();
    let mut set = |key: &str, value: Json| record.insert(key.to_owned(), value);
    set("$type", POST.into());
    set("text", writing.text.as_str().into());
    set("createdAt", created_at.into());
    if let Some(lang) = parts.lang {
        set("langs", json!([lang]));
    }
    if !writing.facets.is_empty() {
        set("facets", writing.facets.iter().map(facet).collect());
    }
    if let Some((root, parent)) = &parts.reply {
        set("reply", json!({ "root": root.json(), "parent": parent.json() }));
    }
    if let Some(embed) = &parts.embed {
        set("embed", embed.clone());
    }
    if !parts.tags.is_empty() {
        set("tags", json!(parts.tags));
    }
    if let Some(label) = parts.self_label {
        set("labels", self_label(label));
    }
    Block::of(&Json::Object(record))
}

fn facet(facet: &Facet) -> Json {
    let feature = match &facet.feature {
        Feature::Mention(did) => json!({ "$type": "app.bsky.richtext.facet#mention", "did": did }),
        Feature::Link(uri) => json!({ "$type": "app.bsky.richtext.facet#link", "uri": uri }),
        Feature::Tag(tag) => json!({ "$type": "app.bsky.richtext.facet#tag", "tag": tag }),
    };
    json!({ "index": { "byteStart": facet.start, "byteEnd": facet.end }, "features": [feature] })
}

fn self_label(label: &str) -> Json {
    json!({ "$type": "com.atproto.label.defs#selfLabels", "values": [{ "val": label }] })
}

/// A reference to a blob that nobody ever uploaded: its CID is that of sixteen random bytes.
fn blob(dice: &mut Dice, mime: &str, bytes_max: usize) -> Json {
    let cid = Cid::for_raw(&dice.bytes::<16>());
    json!({
        "$type": "blob",
        "ref": { "$link": cid.to_string() },
        "mimeType": mime,
        "size": dice.between(bytes_max / 100, bytes_max),
    })
}

fn aspect(dice: &mut Dice) -> Json {
    json!({ "width": dice.between(400, 2000), "height": dice.between(400, 2000) })
}

fn alt(dice: &mut Dice) -> String {
    if dice.chance(0.4) { String::new() } else { format!("A photo about {}", dice.pick(&TOPICS)) }
}

/// Up to four pictures.
pub(crate) fn images(dice: &mut Dice) -> Json {
    let images: Vec<Json> = (0..dice.towards_front(4) + 1)
        .map(|_| json!({ "image": blob(dice, "image/jpeg", 900_000), "alt": alt(dice), "aspectRatio": aspect(dice) }))
        .collect();
    json!({ "$type": "app.bsky.embed.images", "images": images })
}

/// Many pictures.
pub(crate) fn gallery(dice: &mut Dice) -> Json {
    let items: Vec<Json> = (0..dice.between(5, 12))
        .map(|_| {
            json!({
                "$type": "app.bsky.embed.gallery#image",
                "image": blob(dice, "image/webp", 1_500_000),
                "alt": alt(dice),
                "aspectRatio": aspect(dice),
            })
        })
        .collect();
    json!({ "$type": "app.bsky.embed.gallery", "items": items })
}

/// A film, sometimes with captions.
pub(crate) fn video(dice: &mut Dice) -> Json {
    let mut embed = json!({ "$type": "app.bsky.embed.video", "video": blob(dice, "video/mp4", 40_000_000), "aspectRatio": aspect(dice) });
    if dice.chance(0.5) {
        embed["alt"] = alt(dice).into();
    }
    if dice.chance(0.3) {
        embed["captions"] = json!([{ "lang": "en", "file": blob(dice, "text/vtt", 9_000) }]);
    }
    embed
}

/// A card for a page.
pub(crate) fn external(dice: &mut Dice) -> Json {
    let uri = text::link(dice);
    let mut external =
        json!({ "title": text::title(&uri), "description": format!("On {}", dice.pick(&TOPICS)), "uri": uri });
    if dice.chance(0.7) {
        external["thumb"] = blob(dice, "image/jpeg", 500_000);
    }
    json!({ "$type": "app.bsky.embed.external", "external": external })
}

/// A record shown inside a post.
pub(crate) fn quote(of: &Strong) -> Json {
    json!({ "$type": "app.bsky.embed.record", "record": of.json() })
}

/// A record and something else shown inside a post.
pub(crate) fn quote_with_media(of: &Strong, media: Json) -> Json {
    json!({ "$type": "app.bsky.embed.recordWithMedia", "record": quote(of), "media": media })
}

/// Who may reply. `allow` = `None` leaves the field out: everybody.
#[derive(Clone, Debug)]
pub(crate) enum Allow {
    Mentioned,
    Followers,
    Followed,
    List(String),
    /// A rule that no AppView knows yet. On its own it denies everybody.
    FromTheFuture,
}

pub(crate) fn thread_gate(post: &str, allow: Option<&[Allow]>, hidden: &[String], created_at: &str) -> Block {
    let mut record = json!({ "$type": THREAD_GATE, "post": post, "createdAt": created_at });
    if let Some(rules) = allow {
        record["allow"] = rules
            .iter()
            .map(|rule| match rule {
                Allow::Mentioned => json!({ "$type": "app.bsky.feed.threadgate#mentionRule" }),
                Allow::Followers => json!({ "$type": "app.bsky.feed.threadgate#followerRule" }),
                Allow::Followed => json!({ "$type": "app.bsky.feed.threadgate#followingRule" }),
                Allow::List(list) => json!({ "$type": "app.bsky.feed.threadgate#listRule", "list": list }),
                Allow::FromTheFuture => json!({ "$type": "app.bsky.feed.threadgate#moonPhaseRule", "phase": "full" }),
            })
            .collect();
    }
    if !hidden.is_empty() {
        record["hiddenReplies"] = json!(hidden);
    }
    Block::of(&record)
}

pub(crate) fn post_gate(post: &str, nobody_may_quote: bool, detached: &[String], created_at: &str) -> Block {
    let mut record =
        json!({ "$type": POST_GATE, "post": post, "createdAt": created_at, "detachedEmbeddingUris": detached });
    if nobody_may_quote {
        record["embeddingRules"] = json!([{ "$type": "app.bsky.feed.postgate#disableRule" }]);
    }
    Block::of(&record)
}

/// A profile; `edition` counts its edits.
pub(crate) fn profile(
    dice: &mut Dice,
    person: &Person,
    edition: u32,
    joined_via: Option<&Strong>,
    pinned: Option<&Strong>,
    created_at: &str,
) -> Block {
    let mut record = json!({ "$type": PROFILE, "displayName": person.display_name, "description": person.bio, "createdAt": created_at });
    if edition > 0 {
        record["description"] = text::bio(dice).into();
        record["pronouns"] = dice.pick(&["she/her", "he/him", "they/them", "any"]).into();
        record["website"] = text::link(dice).into();
    }
    if dice.chance(0.8) {
        record["avatar"] = blob(dice, "image/jpeg", 400_000);
    }
    if dice.chance(0.4) {
        record["banner"] = blob(dice, "image/png", 900_000);
    }
    if dice.chance(0.01) {
        record["labels"] = self_label("!no-unauthenticated");
    }
    if let Some(pack) = joined_via {
        record["joinedViaStarterPack"] = pack.json();
    }
    if let Some(post) = pinned {
        record["pinnedPost"] = post.json();
    }
    Block::of(&record)
}

/// What a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListPurpose {
    Moderation,
    Curation,
    Reference,
}

pub(crate) fn list(dice: &mut Dice, purpose: ListPurpose, created_at: &str) -> Block {
    let topic = dice.pick(&TOPICS);
    let (purpose, name) = match purpose {
        ListPurpose::Moderation => ("modlist", format!("Too loud about {topic}")),
        ListPurpose::Curation => ("curatelist", format!("People of {topic}")),
        ListPurpose::Reference => ("referencelist", format!("{topic}, for a start")),
    };
    let mut record = json!({
        "$type": LIST,
        "name": name,
        "purpose": format!("app.bsky.graph.defs#{purpose}"),
        "description": format!("Kept by hand. Suggestions about {topic} welcome."),
        "createdAt": created_at,
    });
    if dice.chance(0.3) {
        record["avatar"] = blob(dice, "image/png", 300_000);
    }
    Block::of(&record)
}

pub(crate) fn list_item(list: &str, subject: &str, created_at: &str) -> Block {
    Block::of(&json!({ "$type": LIST_ITEM, "list": list, "subject": subject, "createdAt": created_at }))
}

/// A list block or an opt-out, `collection` says which.
pub(crate) fn about_list(collection: &str, list: &str, created_at: &str) -> Block {
    Block::of(&json!({ "$type": collection, "subject": list, "createdAt": created_at }))
}

pub(crate) fn starter_pack(dice: &mut Dice, list: &str, feeds: &[String], created_at: &str) -> Block {
    let topic = dice.pick(&TOPICS);
    let feeds: Vec<Json> = feeds.iter().map(|uri| json!({ "uri": uri })).collect();
    Block::of(&json!({
        "$type": STARTER_PACK,
        "name": format!("Begin with {topic}"),
        "description": format!("Everybody who knows about {topic}."),
        "list": list,
        "feeds": feeds,
        "createdAt": created_at,
    }))
}

pub(crate) fn generator(dice: &mut Dice, created_at: &str) -> Block {
    let topic = dice.pick(&TOPICS);
    let mut record = json!({
        "$type": GENERATOR,
        "did": "did:web:feeds.demo.test",
        "displayName": topic,
        "description": format!("The best of {topic}, newest first."),
        "acceptsInteractions": dice.chance(0.5),
        "createdAt": created_at,
    });
    if dice.chance(0.6) {
        record["avatar"] = blob(dice, "image/png", 300_000);
    }
    Block::of(&record)
}

/// The values that the labeler of the network gives.
pub(crate) const LABEL_VALUES: [&str; 4] = ["rude", "spam", "spoiler", "very-good-dog"];

pub(crate) fn labeler(created_at: &str) -> Block {
    let definitions: Vec<Json> = ["spoiler", "very-good-dog"]
        .iter()
        .map(|value| {
            json!({
                "identifier": value,
                "severity": "inform",
                "blurs": if *value == "spoiler" { "content" } else { "none" },
                "defaultSetting": "warn",
                "adultOnly": false,
                "locales": [{ "lang": "en", "name": value.replace('-', " "), "description": format!("Shown on everything that is {value}.") }],
            })
        })
        .collect();
    Block::of(&json!({
        "$type": LABELER,
        "policies": { "labelValues": LABEL_VALUES, "labelValueDefinitions": definitions },
        "subjectTypes": ["account", "record"],
        "createdAt": created_at,
    }))
}

pub(crate) fn verification(subject: &Person, handle: &str, created_at: &str) -> Block {
    Block::of(&json!({
        "$type": VERIFICATION,
        "subject": subject.did,
        "handle": handle,
        "displayName": subject.display_name,
        "createdAt": created_at,
    }))
}

pub(crate) fn status(dice: &mut Dice, created_at: &str) -> Block {
    Block::of(&json!({
        "$type": STATUS,
        "status": "app.bsky.actor.status#live",
        "durationMinutes": dice.between(5, 240),
        "embed": external(dice),
        "createdAt": created_at,
    }))
}

pub(crate) fn notification_declaration(dice: &mut Dice) -> Block {
    let whom = dice.pick(&["followers", "mutuals", "none"]);
    Block::of(&json!({ "$type": NOTIFICATION_DECLARATION, "allowSubscriptions": whom }))
}

pub(crate) fn chat_declaration(dice: &mut Dice) -> Block {
    let whom = dice.pick(&["all", "following", "none"]);
    Block::of(&json!({ "$type": CHAT_DECLARATION, "allowIncoming": whom }))
}

pub(crate) fn germ_declaration(dice: &mut Dice) -> Block {
    let mut key = Vec::new();
    gp_atproto::multibase::base64_encode(&dice.bytes::<32>(), &mut key);
    let key = String::from_utf8(key).expect("base64 is ASCII");
    Block::of(&json!({
        "$type": GERM_DECLARATION,
        "version": "1.1.0",
        "currentKey": { "$bytes": key },
        "messageMe": { "messageMeUrl": "https://chat.example/me", "showButtonTo": "everyone" },
    }))
}

pub(crate) fn publication(dice: &mut Dice) -> Block {
    let topic = dice.pick(&TOPICS);
    Block::of(&json!({
        "$type": PUBLICATION,
        "url": "https://blog.example",
        "name": format!("Notes on {topic}"),
        "description": format!("A small paper about {topic}."),
    }))
}

pub(crate) fn document(dice: &mut Dice, publication: &str, created_at: &str) -> Block {
    let uri = text::link(dice);
    Block::of(&json!({
        "$type": DOCUMENT,
        "site": publication,
        "path": format!("/{}", uri.rsplit('/').next().unwrap_or("")),
        "title": text::title(&uri),
        "publishedAt": created_at,
        "textContent": format!("On {}.", dice.pick(&TOPICS)),
    }))
}

pub(crate) fn unknown(dice: &mut Dice, created_at: &str) -> Block {
    Block::of(&json!({ "$type": UNKNOWN, "weather": dice.pick(&["rain", "sun", "fog"]), "createdAt": created_at }))
}

/// A post beyond the limit of 300 graphemes. Its repo is sound; an AppView must leave the record out.
pub(crate) fn post_over_limit(created_at: &str) -> Block {
    Block::of(&json!({ "$type": POST, "text": "a".repeat(301), "createdAt": created_at }))
}

/// A post with an unknown property of about `bytes` bytes; a valid record.
pub(crate) fn post_with_ballast(text: &str, bytes: usize, created_at: &str) -> Block {
    Block::of(&json!({ "$type": POST, "text": text, "createdAt": created_at, "ballast": "b".repeat(bytes) }))
}

/// A plain post.
pub(crate) fn plain_post(text: &str, created_at: &str) -> Block {
    Block::of(&json!({ "$type": POST, "text": text, "createdAt": created_at }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Purpose;
    use gp_atproto::{cbor, lexicon};

    #[track_caller]
    fn valid(collection: &str, block: &Block) {
        let value = cbor::decode(&block.bytes).unwrap();
        assert_eq!(value.type_name(), Some(collection));
        assert_eq!(cbor::encode(&value)[..], block.bytes[..], "canonical");
        if let Err(invalid) = lexicon::validate(collection, &value) {
            panic!("{collection}: {invalid:?}");
        }
    }

    #[test]
    fn every_record_is_valid_and_canonical() {
        let mut dice = Dice::new(5, Purpose::Script);
        let now = created_at(&mut dice, 1_780_000_000_000_000);
        let person = Person::new(5, 0, false);
        let strong = Strong { uri: format!("at://{}/{POST}/3jzfcijpj2z2a", person.did), cid: Cid::for_dag_cbor(b"x") };
        for _ in 0..200 {
            let created_at = created_at(&mut dice, 1_780_000_000_123_456);
            for via in [None, Some(&strong)] {
                valid(LIKE, &reaction(LIKE, &strong, via, &created_at));
                valid(REPOST, &reaction(REPOST, &strong, via, &created_at));
                valid(FOLLOW, &edge(FOLLOW, &person.did, via, &created_at));
            }
            valid(BLOCK, &edge(BLOCK, &person.did, None, &created_at));
            let media = [images(&mut dice), gallery(&mut dice), video(&mut dice), external(&mut dice)];
            for embed in
                media.into_iter().flat_map(|it| [it.clone(), quote_with_media(&strong, it)]).chain([quote(&strong)])
            {
                let mut writing = text::post(&mut dice, text::language(&mut Dice::new(1, Purpose::Script)));
                writing.mention(&person.handle, &person.did);
                let parts = PostParts {
                    reply: Some((strong.clone(), strong.clone())),
                    embed: Some(embed),
                    lang: Some("en"),
                    tags: vec!["rain"],
                    self_label: Some("graphic-media"),
                };
                valid(POST, &post(&writing, &parts, &created_at));
            }
            valid(PROFILE, &profile(&mut dice, &person, 1, Some(&strong), Some(&strong), &created_at));
            valid(LIST, &list(&mut dice, ListPurpose::Reference, &created_at));
            valid(STATUS, &status(&mut dice, &created_at));
        }
        let rules = [
            Allow::Mentioned,
            Allow::Followers,
            Allow::Followed,
            Allow::List(strong.uri.clone()),
            Allow::FromTheFuture,
        ];
        valid(THREAD_GATE, &thread_gate(&strong.uri, Some(&rules), std::slice::from_ref(&strong.uri), &now));
        valid(THREAD_GATE, &thread_gate(&strong.uri, None, &[], &now));
        valid(POST_GATE, &post_gate(&strong.uri, true, std::slice::from_ref(&strong.uri), &now));
        valid(LIST_ITEM, &list_item(&strong.uri, &person.did, &now));
        valid(LIST_BLOCK, &about_list(LIST_BLOCK, &strong.uri, &now));
        valid(OPT_OUT, &about_list(OPT_OUT, &strong.uri, &now));
        valid(STARTER_PACK, &starter_pack(&mut dice, &strong.uri, std::slice::from_ref(&strong.uri), &now));
        valid(GENERATOR, &generator(&mut dice, &now));
        valid(LABELER, &labeler(&now));
        valid(VERIFICATION, &verification(&person, &person.handle, &now));
        valid(NOTIFICATION_DECLARATION, &notification_declaration(&mut dice));
        valid(CHAT_DECLARATION, &chat_declaration(&mut dice));
        valid(GERM_DECLARATION, &germ_declaration(&mut dice));
        valid(POST, &post_with_ballast("x", 1000, &now));
    }

    #[test]
    fn the_record_over_limits_is_refused() {
        let block = post_over_limit("2026-01-01T00:00:00.000Z");
        assert!(lexicon::validate(POST, &cbor::decode(&block.bytes).unwrap()).is_err());
    }
}
