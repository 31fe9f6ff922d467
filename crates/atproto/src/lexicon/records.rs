//! What a record of each collection may look like.
//!
//! The limits are the network's lexicons as of app.bsky 2026-09. When a lexicon changes, the rows here change and
//! `fixtures/records/validation.jsonl` is written anew with `e2e/validation/generate.mjs`.

use super::format::Format;
use super::schema::{ANY, Kind, Object, Property, TEXT, Text, blob, format, may, must, sized, sized_format, text};

/// How records of a collection are checked.
pub(super) enum Rule {
    /// Against this schema.
    Schema(&'static Object),
    /// Not at all: stored as they come.
    Unchecked,
}

/// Every collection we keep, the busiest first since the look-up goes from the top.
pub(super) static COLLECTIONS: [(&str, Rule); 20] = [
    (LIKE.name, Rule::Schema(&LIKE)),
    (POST.name, Rule::Schema(&POST)),
    (FOLLOW.name, Rule::Schema(&FOLLOW)),
    (REPOST.name, Rule::Schema(&REPOST)),
    (BLOCK.name, Rule::Schema(&BLOCK)),
    (PROFILE.name, Rule::Schema(&PROFILE)),
    (LIST_ITEM.name, Rule::Schema(&LIST_ITEM)),
    (THREAD_GATE.name, Rule::Schema(&THREAD_GATE)),
    (POST_GATE.name, Rule::Schema(&POST_GATE)),
    (LIST.name, Rule::Schema(&LIST)),
    (LIST_BLOCK.name, Rule::Schema(&LIST_BLOCK)),
    (STARTER_PACK.name, Rule::Schema(&STARTER_PACK)),
    (GENERATOR.name, Rule::Schema(&GENERATOR)),
    (VERIFICATION.name, Rule::Schema(&VERIFICATION)),
    (REFERENCE_LIST_OPT_OUT.name, Rule::Schema(&REFERENCE_LIST_OPT_OUT)),
    (STATUS.name, Rule::Schema(&STATUS)),
    (LABELER.name, Rule::Schema(&LABELER)),
    (NOTIFICATION_DECLARATION.name, Rule::Schema(&NOTIFICATION_DECLARATION)),
    // The network never began to validate this one, and records of several shapes exist.
    ("chat.bsky.actor.declaration", Rule::Unchecked),
    (GERM_DECLARATION.name, Rule::Schema(&GERM_DECLARATION)),
];

const DATETIME: Kind = format(Format::Datetime);
const AT_URI: Kind = format(Format::AtUri);
const DID: Kind = format(Format::Did);
const URI: Kind = format(Format::Uri);
const LANGUAGE: Kind = format(Format::Language);
const FACETS: Kind = Kind::List { item: &Kind::Object(&FACET), items_max: ANY };
const DESCRIPTION: Kind = text(3000, 300);
const PICTURE: Kind = blob(&["image/png", "image/jpeg"], 1_000_000);
const LABELS: Kind = Kind::Union(&[&SELF_LABELS]);

// ---------------------------------------------------------------------------------------------- feed

static POST: Object = Object {
    name: "app.bsky.feed.post",
    properties: &[
        must("text", text(3000, 300)),
        must("createdAt", DATETIME),
        may("reply", Kind::Object(&REPLY)),
        may(
            "embed",
            Kind::Union(&[
                &EMBED_IMAGES,
                &EMBED_EXTERNAL,
                &EMBED_RECORD,
                &EMBED_VIDEO,
                &EMBED_RECORD_WITH_MEDIA,
                &EMBED_GALLERY,
            ]),
        ),
        may("facets", FACETS),
        may("langs", Kind::List { item: &LANGUAGE, items_max: 3 }),
        may("labels", LABELS),
        may("tags", Kind::List { item: &text(640, 64), items_max: 8 }),
        may("entities", Kind::List { item: &Kind::Object(&ENTITY), items_max: ANY }),
    ],
};

static REPLY: Object = Object {
    name: "app.bsky.feed.post#replyRef",
    properties: &[must("root", Kind::Object(&STRONG_REF)), must("parent", Kind::Object(&STRONG_REF))],
};

/// What posts had before facets.
static ENTITY: Object = Object {
    name: "app.bsky.feed.post#entity",
    properties: &[must("index", Kind::Object(&ENTITY_SPAN)), must("type", TEXT), must("value", TEXT)],
};

static ENTITY_SPAN: Object = Object {
    name: "app.bsky.feed.post#textSlice",
    properties: &[must("start", Kind::Integer { min: 0 }), must("end", Kind::Integer { min: 0 })],
};

static LIKE: Object = Object { name: "app.bsky.feed.like", properties: REACTION };
static REPOST: Object = Object { name: "app.bsky.feed.repost", properties: REACTION };

const REACTION: &[Property] =
    &[must("subject", Kind::Object(&STRONG_REF)), must("createdAt", DATETIME), may("via", Kind::Object(&STRONG_REF))];

static THREAD_GATE: Object = Object {
    name: "app.bsky.feed.threadgate",
    properties: &[
        must("post", AT_URI),
        must("createdAt", DATETIME),
        may(
            "allow",
            Kind::List {
                item: &Kind::Union(&[&MENTION_RULE, &FOLLOWER_RULE, &FOLLOWING_RULE, &LIST_RULE]),
                items_max: 5,
            },
        ),
        may("hiddenReplies", Kind::List { item: &AT_URI, items_max: 300 }),
    ],
};

static MENTION_RULE: Object = Object { name: "app.bsky.feed.threadgate#mentionRule", properties: &[] };
static FOLLOWER_RULE: Object = Object { name: "app.bsky.feed.threadgate#followerRule", properties: &[] };
static FOLLOWING_RULE: Object = Object { name: "app.bsky.feed.threadgate#followingRule", properties: &[] };
static LIST_RULE: Object = Object { name: "app.bsky.feed.threadgate#listRule", properties: &[must("list", AT_URI)] };

static POST_GATE: Object = Object {
    name: "app.bsky.feed.postgate",
    properties: &[
        must("post", AT_URI),
        must("createdAt", DATETIME),
        may("embeddingRules", Kind::List { item: &Kind::Union(&[&DISABLE_RULE]), items_max: 5 }),
        may("detachedEmbeddingUris", Kind::List { item: &AT_URI, items_max: 50 }),
    ],
};

static DISABLE_RULE: Object = Object { name: "app.bsky.feed.postgate#disableRule", properties: &[] };

static GENERATOR: Object = Object {
    name: "app.bsky.feed.generator",
    properties: &[
        must("did", DID),
        must("displayName", text(240, 24)),
        must("createdAt", DATETIME),
        may("description", DESCRIPTION),
        may("descriptionFacets", FACETS),
        may("avatar", PICTURE),
        may("acceptsInteractions", Kind::Boolean),
        may("contentMode", TEXT),
        may("labels", LABELS),
    ],
};

// ---------------------------------------------------------------------------------------------- graph

static FOLLOW: Object = Object {
    name: "app.bsky.graph.follow",
    properties: &[must("subject", DID), must("createdAt", DATETIME), may("via", Kind::Object(&STRONG_REF))],
};

static BLOCK: Object =
    Object { name: "app.bsky.graph.block", properties: &[must("subject", DID), must("createdAt", DATETIME)] };

static LIST: Object = Object {
    name: "app.bsky.graph.list",
    properties: &[
        must("name", sized(1, 64)),
        must("purpose", TEXT),
        must("createdAt", DATETIME),
        may("description", DESCRIPTION),
        may("descriptionFacets", FACETS),
        may("avatar", PICTURE),
        may("labels", LABELS),
    ],
};

static LIST_ITEM: Object = Object {
    name: "app.bsky.graph.listitem",
    properties: &[must("subject", DID), must("list", AT_URI), must("createdAt", DATETIME)],
};

static LIST_BLOCK: Object =
    Object { name: "app.bsky.graph.listblock", properties: &[must("subject", AT_URI), must("createdAt", DATETIME)] };

static REFERENCE_LIST_OPT_OUT: Object = Object {
    name: "app.bsky.graph.referencelistoptout",
    properties: &[must("subject", AT_URI), must("createdAt", DATETIME)],
};

static STARTER_PACK: Object = Object {
    name: "app.bsky.graph.starterpack",
    properties: &[
        must("name", Kind::Text(Text { bytes_min: 1, bytes_max: 500, graphemes_max: 50, format: None })),
        must("list", AT_URI),
        must("createdAt", DATETIME),
        may("description", DESCRIPTION),
        may("descriptionFacets", FACETS),
        may("feeds", Kind::List { item: &Kind::Object(&STARTER_PACK_FEED), items_max: 3 }),
    ],
};

static STARTER_PACK_FEED: Object =
    Object { name: "app.bsky.graph.starterpack#feedItem", properties: &[must("uri", AT_URI)] };

static VERIFICATION: Object = Object {
    name: "app.bsky.graph.verification",
    properties: &[
        must("subject", DID),
        must("handle", format(Format::Handle)),
        must("displayName", TEXT),
        must("createdAt", DATETIME),
    ],
};

// ---------------------------------------------------------------------------------------------- actor

static PROFILE: Object = Object {
    name: "app.bsky.actor.profile",
    properties: &[
        may("displayName", text(640, 64)),
        may("description", text(2560, 256)),
        may("avatar", PICTURE),
        may("banner", PICTURE),
        may("createdAt", DATETIME),
        may("pinnedPost", Kind::Object(&STRONG_REF)),
        may("joinedViaStarterPack", Kind::Object(&STRONG_REF)),
        may("labels", LABELS),
        may("pronouns", text(200, 20)),
        may("website", URI),
    ],
};

static STATUS: Object = Object {
    name: "app.bsky.actor.status",
    properties: &[
        must("status", TEXT),
        must("createdAt", DATETIME),
        may("durationMinutes", Kind::Integer { min: 1 }),
        may("embed", Kind::Union(&[&EMBED_EXTERNAL])),
    ],
};

static NOTIFICATION_DECLARATION: Object =
    Object { name: "app.bsky.notification.declaration", properties: &[must("allowSubscriptions", TEXT)] };

static GERM_DECLARATION: Object = Object {
    name: "com.germnetwork.declaration",
    properties: &[
        must("version", sized(5, 14)),
        must("currentKey", Kind::Bytes),
        may("keyPackage", Kind::Bytes),
        may("messageMe", Kind::Object(&GERM_MESSAGE_ME)),
        may("continuityProofs", Kind::List { item: &Kind::Bytes, items_max: 1000 }),
    ],
};

static GERM_MESSAGE_ME: Object = Object {
    name: "com.germnetwork.declaration#messageMe",
    properties: &[must("messageMeUrl", sized_format(Format::Uri, 1, 2047)), must("showButtonTo", sized(1, 100))],
};

// ---------------------------------------------------------------------------------------------- labeler

static LABELER: Object = Object {
    name: "app.bsky.labeler.service",
    properties: &[
        must("policies", Kind::Object(&LABELER_POLICIES)),
        must("createdAt", DATETIME),
        may("labels", LABELS),
        may("reasonTypes", Kind::List { item: &TEXT, items_max: ANY }),
        may("subjectTypes", Kind::List { item: &TEXT, items_max: ANY }),
        may("subjectCollections", Kind::List { item: &format(Format::Nsid), items_max: ANY }),
    ],
};

static LABELER_POLICIES: Object = Object {
    name: "app.bsky.labeler.defs#labelerPolicies",
    properties: &[
        must("labelValues", Kind::List { item: &TEXT, items_max: ANY }),
        may("labelValueDefinitions", Kind::List { item: &Kind::Object(&LABEL_DEFINITION), items_max: ANY }),
    ],
};

static LABEL_DEFINITION: Object = Object {
    name: "com.atproto.label.defs#labelValueDefinition",
    properties: &[
        must("identifier", text(100, 100)),
        must("severity", TEXT),
        must("blurs", TEXT),
        must("locales", Kind::List { item: &Kind::Object(&LABEL_LOCALE), items_max: ANY }),
        may("defaultSetting", TEXT),
        may("adultOnly", Kind::Boolean),
    ],
};

static LABEL_LOCALE: Object = Object {
    name: "com.atproto.label.defs#labelValueDefinitionStrings",
    properties: &[must("lang", LANGUAGE), must("name", text(640, 64)), must("description", text(100_000, 10_000))],
};

// ---------------------------------------------------------------------------------------------- parts

static STRONG_REF: Object =
    Object { name: "com.atproto.repo.strongRef", properties: &[must("uri", AT_URI), must("cid", format(Format::Cid))] };

static FACET: Object = Object {
    name: "app.bsky.richtext.facet",
    properties: &[
        must("index", Kind::Object(&FACET_SPAN)),
        must("features", Kind::List { item: &Kind::Union(&[&FACET_MENTION, &FACET_LINK, &FACET_TAG]), items_max: ANY }),
    ],
};

/// Offsets into the UTF-8 text. That they lie inside the text, and in order, is nobody's rule.
static FACET_SPAN: Object = Object {
    name: "app.bsky.richtext.facet#byteSlice",
    properties: &[must("byteStart", Kind::Integer { min: 0 }), must("byteEnd", Kind::Integer { min: 0 })],
};

static FACET_MENTION: Object = Object { name: "app.bsky.richtext.facet#mention", properties: &[must("did", DID)] };
static FACET_LINK: Object = Object { name: "app.bsky.richtext.facet#link", properties: &[must("uri", URI)] };
static FACET_TAG: Object = Object { name: "app.bsky.richtext.facet#tag", properties: &[must("tag", text(640, 64))] };

static SELF_LABELS: Object = Object {
    name: "com.atproto.label.defs#selfLabels",
    properties: &[must("values", Kind::List { item: &Kind::Object(&SELF_LABEL), items_max: 10 })],
};

static SELF_LABEL: Object =
    Object { name: "com.atproto.label.defs#selfLabel", properties: &[must("val", sized(0, 128))] };

static EMBED_IMAGES: Object = Object {
    name: "app.bsky.embed.images",
    properties: &[must("images", Kind::List { item: &Kind::Object(&IMAGE), items_max: 4 })],
};

static IMAGE: Object = Object {
    name: "app.bsky.embed.images#image",
    properties: &[
        must("image", blob(&["image/*"], 2_000_000)),
        must("alt", TEXT),
        may("aspectRatio", Kind::Object(&ASPECT_RATIO)),
    ],
};

static ASPECT_RATIO: Object = Object {
    name: "app.bsky.embed.defs#aspectRatio",
    properties: &[must("width", Kind::Integer { min: 1 }), must("height", Kind::Integer { min: 1 })],
};

static EMBED_GALLERY: Object = Object {
    name: "app.bsky.embed.gallery",
    properties: &[must("items", Kind::List { item: &Kind::Union(&[&GALLERY_IMAGE]), items_max: 20 })],
};

/// Unlike a picture of [`EMBED_IMAGES`], this one must tell its shape.
static GALLERY_IMAGE: Object = Object {
    name: "app.bsky.embed.gallery#image",
    properties: &[
        must("image", blob(&["image/*"], 2_000_000)),
        must("alt", TEXT),
        must("aspectRatio", Kind::Object(&ASPECT_RATIO)),
    ],
};

static EMBED_VIDEO: Object = Object {
    name: "app.bsky.embed.video",
    properties: &[
        must("video", blob(&["video/mp4"], 300_000_000)),
        may("captions", Kind::List { item: &Kind::Object(&CAPTION), items_max: 20 }),
        may("alt", TEXT),
        may("aspectRatio", Kind::Object(&ASPECT_RATIO)),
        may("presentation", TEXT),
    ],
};

static CAPTION: Object = Object {
    name: "app.bsky.embed.video#caption",
    properties: &[must("lang", LANGUAGE), must("file", blob(&["text/vtt"], 20_000))],
};

static EMBED_EXTERNAL: Object =
    Object { name: "app.bsky.embed.external", properties: &[must("external", Kind::Object(&EXTERNAL))] };

static EXTERNAL: Object = Object {
    name: "app.bsky.embed.external#external",
    properties: &[
        must("uri", URI),
        must("title", TEXT),
        must("description", TEXT),
        may("thumb", blob(&["image/*"], 1_000_000)),
        may("associatedRefs", Kind::List { item: &Kind::Object(&STRONG_REF), items_max: ANY }),
    ],
};

static EMBED_RECORD: Object =
    Object { name: "app.bsky.embed.record", properties: &[must("record", Kind::Object(&STRONG_REF))] };

static EMBED_RECORD_WITH_MEDIA: Object = Object {
    name: "app.bsky.embed.recordWithMedia",
    properties: &[
        must("record", Kind::Object(&EMBED_RECORD)),
        must("media", Kind::Union(&[&EMBED_IMAGES, &EMBED_VIDEO, &EMBED_GALLERY, &EMBED_EXTERNAL])),
    ],
};
