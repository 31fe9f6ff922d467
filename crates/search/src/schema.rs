//! The fields of the index of words, and the documents that records become.
//!
//! One index holds four kinds. A document is a pure function of the rows it is made of, so that an index that grew with
//! the network and one that was rebuilt from the store hold the same. A change of anything here needs a new
//! [`FORMAT`]: an index of another format is rebuilt.

use gp_atproto::Value;
use gp_index::{
    counts::{Head, OnCount},
    placed::Placed,
    posts::Reading,
    records::{Flags, RecordRow},
};
use tantivy::{
    TantivyDocument, Term,
    schema::{Field, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions},
    tokenizer::{PreTokenizedString, Token},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    query::{Facet, domain_of, language_of, tag_of, url_of},
    subject::Subject,
    words,
};

/// The format of the index. Changes whenever a document of the same rows would differ.
pub(crate) const FORMAT: u32 = 1;

/// Characters of a word's beginning under which a name is found.
pub(crate) const BEGINNING_CHARS_MAX: usize = 16;

/// Characters of a handle's beginning under which it is found at once; longer ones are looked up in the list of handles.
pub(crate) const HANDLE_BEGINNING_CHARS_MAX: usize = 24;

/// Bytes of a link, a tag or an address that can be found. Longer ones are found by their beginning.
pub(crate) const VALUE_BYTES_MAX: usize = 512;

/// Values of one facet that a post is found by.
const VALUES_MAX: usize = 128;

/// Fields of the index.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    /// Of all kinds: the subject, by which its document is replaced.
    pub(crate) id: Field,
    /// The address, or the DID.
    pub(crate) uri: Field,
    pub(crate) kind: Field,
    /// Words of posts with their positions.
    pub(crate) text: Field,
    /// Words of all other kinds with their positions.
    pub(crate) about: Field,
    /// An account's handle and DID.
    pub(crate) exact: Field,
    /// A display name as a whole, folded, after the mark of its kind.
    pub(crate) name: Field,
    /// Beginnings of a handle.
    pub(crate) handle_begins: Field,
    /// Beginnings of the words of a name, after the mark of its kind.
    pub(crate) begins: Field,
    /// What posts are asked for, one field a facet.
    facets: [Field; 9],
    /// Words on what a post is: `media`, `video`, `reply`.
    pub(crate) is: Field,
    pub(crate) sort_at: Field,
    pub(crate) tie: Field,
    pub(crate) level: Field,
    pub(crate) author_hash: Field,
}

/// Names of the fast fields.
pub(crate) const SORT_AT: &str = "sort_at";
pub(crate) const TIE: &str = "tie";
pub(crate) const LEVEL: &str = "level";
pub(crate) const AUTHOR_HASH: &str = "author_hash";

impl Fields {
    /// The fields of this format.
    pub(crate) fn new() -> Self {
        let mut schema = Schema::builder();
        let raw = TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer("raw")
                .set_fieldnorms(false)
                .set_index_option(IndexRecordOption::Basic),
        );
        // Texts come as words already; the tokenizer is not asked.
        let words = TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer("raw")
                .set_fieldnorms(false)
                .set_index_option(IndexRecordOption::WithFreqsAndPositions),
        );
        let fast = || NumericOptions::default().set_fast();
        let id = schema.add_text_field("id", raw.clone());
        let uri = schema.add_text_field("uri", TextOptions::default().set_stored());
        let mut field = |name: &str| schema.add_text_field(name, raw.clone());
        let kind = field("kind");
        let (exact, name) = (field("exact"), field("name"));
        let (handle_begins, begins) = (field("handle_begins"), field("begins"));
        let facets =
            ["author", "mention", "domain", "url", "embed", "tag", "language", "parent", "root"].map(&mut field);
        let is = field("is");
        let text = schema.add_text_field("text", words.clone());
        let about = schema.add_text_field("about", words);
        let sort_at = schema.add_i64_field(SORT_AT, fast());
        let tie = schema.add_u64_field(TIE, fast());
        let level = schema.add_u64_field(LEVEL, fast());
        let author_hash = schema.add_u64_field(AUTHOR_HASH, fast());
        let schema = schema.build();
        Self {
            schema,
            id,
            uri,
            kind,
            text,
            about,
            exact,
            name,
            handle_begins,
            begins,
            facets,
            is,
            sort_at,
            tie,
            level,
            author_hash,
        }
    }

    /// The field of a facet.
    pub(crate) fn facet(&self, facet: Facet) -> Field {
        self.facets[facet as usize]
    }

    /// What names a subject in the index.
    pub(crate) fn id_of(&self, subject: &Subject) -> Term {
        Term::from_field_text(self.id, &subject.address())
    }

    fn begin(&self, subject: &Subject, sort_at_us: i64, tie: u64, level: u64) -> TantivyDocument {
        let mut doc = TantivyDocument::new();
        let address = subject.address();
        doc.add_text(self.id, &address);
        doc.add_text(self.uri, &address);
        doc.add_text(self.kind, subject.kind());
        doc.add_i64(self.sort_at, sort_at_us);
        doc.add_u64(self.tie, tie);
        doc.add_u64(self.level, level);
        doc.add_u64(self.author_hash, author_hash(subject.did()));
        doc
    }

    fn add_words<'t>(&self, doc: &mut TantivyDocument, field: Field, texts: impl IntoIterator<Item = &'t str>) {
        for text in texts {
            let tokens: Vec<Token> = words::words(text)
                .into_iter()
                .map(|word| Token { position: word.position, text: word.text, ..Token::default() })
                .collect();
            if !tokens.is_empty() {
                doc.add_pre_tokenized_text(field, PreTokenizedString { text: String::new(), tokens });
            }
        }
    }

    fn add_all(&self, doc: &mut TantivyDocument, field: Field, mut values: Vec<String>) {
        values.sort_unstable();
        values.dedup();
        for value in values.iter().filter(|value| !value.is_empty()).take(VALUES_MAX) {
            doc.add_text(field, shortened(value));
        }
    }

    /// A post.
    fn post(&self, subject: &Subject, it: &Placed<'_>, flags: Flags, head: &Head) -> TantivyDocument {
        let level = level(
            [OnCount::Likes, OnCount::Reposts, OnCount::Replies, OnCount::Quotes]
                .map(|cell| head.get(cell as u8))
                .iter()
                .sum(),
        );
        let mut doc = self.begin(subject, it.sort_at_us, record_tie(it), level);
        let reading = Reading::of(it.value);
        let mut parts = PostParts::default();
        parts.read(it.value);
        self.add_words(&mut doc, self.text, it.text("text").into_iter().chain(parts.alt_texts.iter().copied()));
        doc.add_text(self.facet(Facet::Author), it.did);
        self.add_all(
            &mut doc,
            self.facet(Facet::Mention),
            reading.mentions.iter().map(|did| (*did).to_owned()).collect(),
        );
        let hosts = parts.links.iter().flat_map(|link| host_and_parents(link)).collect();
        self.add_all(&mut doc, self.facet(Facet::Domain), hosts);
        self.add_all(&mut doc, self.facet(Facet::Url), parts.links.iter().map(|link| url_of(link)).collect());
        self.add_all(&mut doc, self.facet(Facet::Embed), reading.embedded.into_iter().map(str::to_owned).collect());
        self.add_all(&mut doc, self.facet(Facet::Tag), parts.tags.iter().map(|tag| tag_of(tag)).collect());
        let languages = it.value.get("langs").and_then(Value::as_list).into_iter().flatten();
        let languages = languages.filter_map(Value::as_str).map(language_of).collect();
        self.add_all(&mut doc, self.facet(Facet::Language), languages);
        if let Some((root, parent)) = reading.reply {
            doc.add_text(self.facet(Facet::Root), shortened(root));
            doc.add_text(self.facet(Facet::Parent), shortened(parent));
            doc.add_text(self.is, IS_REPLY);
        }
        if flags.has(Flags::HAS_MEDIA) || flags.has(Flags::HAS_VIDEO) {
            doc.add_text(self.is, IS_MEDIA);
        }
        if flags.has(Flags::HAS_VIDEO) {
            doc.add_text(self.is, IS_VIDEO);
        }
        doc
    }

    /// A feed generator or a starter pack: a name, a description, and how many like or join it.
    fn named(&self, subject: &Subject, it: &Placed<'_>, name: &str, cell: OnCount, head: &Head) -> TantivyDocument {
        let mut doc = self.begin(subject, it.sort_at_us, record_tie(it), level(head.get(cell as u8)));
        let name = it.text(name).unwrap_or_default();
        self.add_name(&mut doc, subject.kind(), name, &[name]);
        self.add_words(&mut doc, self.about, [name].into_iter().chain(it.text("description")));
        doc
    }

    fn add_name(&self, doc: &mut TantivyDocument, kind: &str, name: &str, found_by: &[&str]) {
        if !name.is_empty() {
            doc.add_text(self.name, of_kind(kind, shortened(words::fold(name).trim())));
        }
        let mut begins = Vec::new();
        for text in found_by {
            words::beginnings(text, BEGINNING_CHARS_MAX, &mut begins);
        }
        begins.sort_unstable();
        begins.dedup();
        for value in begins.iter().take(BEGINNINGS_MAX) {
            doc.add_text(self.begins, of_kind(kind, value));
        }
    }

    /// The document of a record, if its kind is found by words.
    pub(crate) fn record(
        &self,
        subject: &Subject,
        row: &RecordRow,
        head: &Head,
    ) -> gp_index::Result<Option<TantivyDocument>> {
        let Some((did, collection, rkey)) = subject.record() else { return Ok(None) };
        let value = row.value()?;
        let it = Placed::new(did, collection, rkey, row.cid(), &value, row.indexed_at_us, row.first_indexed_at_us);
        Ok(match subject {
            Subject::Post { .. } => Some(self.post(subject, &it, row.flags, head)),
            Subject::Generator { .. } => Some(self.named(subject, &it, "displayName", OnCount::Likes, head)),
            Subject::Pack { .. } => Some(self.named(subject, &it, "name", OnCount::Joined, head)),
            Subject::Actor { .. } => None,
        })
    }

    /// The document of an account.
    pub(crate) fn actor(
        &self,
        subject: &Subject,
        row: &gp_index::actors::ActorRow,
        profile: Option<&Value<'_>>,
        head: &Head,
    ) -> TantivyDocument {
        let did = subject.did();
        let followers = level(head.get(OnCount::Followers as u8));
        let mut doc = self.begin(subject, row.first_seen_at_us, xxh3_64(did.as_bytes()), followers);
        doc.add_text(self.exact, shortened(did));
        let mut handle_words = String::new();
        if !row.handle.is_empty() {
            doc.add_text(self.exact, &row.handle);
            let mut begins = Vec::new();
            words::prefixes(&row.handle, HANDLE_BEGINNING_CHARS_MAX, &mut begins);
            for beginning in &begins {
                doc.add_text(self.handle_begins, beginning);
            }
            handle_words = words_of_handle(&row.handle);
            doc.add_text(self.is, IS_HANDLED);
        }
        let text = |property: &str| profile.and_then(|it| it.get(property)).and_then(Value::as_str).unwrap_or_default();
        let (name, description) = (text("displayName"), text("description"));
        self.add_name(&mut doc, subject.kind(), name, &[name, &handle_words]);
        self.add_words(&mut doc, self.about, [name, handle_words.as_str(), description]);
        doc
    }
}

/// Beginnings that one name is found by.
const BEGINNINGS_MAX: usize = 512;

pub(crate) const IS_REPLY: &str = "reply";
pub(crate) const IS_MEDIA: &str = "media";
pub(crate) const IS_VIDEO: &str = "video";
pub(crate) const IS_HANDLED: &str = "handled";

/// A value of one kind among those of all kinds in one field.
pub(crate) fn of_kind(kind: &str, value: &str) -> String {
    format!("{kind}:{value}")
}

/// How often something is liked, joined or followed, in doublings: 0, 1, 3, 7, 15, ... begin a level. Documents change
/// with the level only, so that a popular post is written again a dozen times and not a million.
pub(crate) fn level(count: u64) -> u64 {
    u64::from(count.saturating_add(1).ilog2())
}

/// The hash of an author, by which a viewer's follows are told.
pub(crate) fn author_hash(did: &str) -> u64 {
    xxh3_64(did.as_bytes())
}

/// Tells documents of the same time apart: first as the CID's text does, as clients hold it in their tokens, then by
/// address.
fn record_tie(it: &Placed<'_>) -> u64 {
    u64::from(it.tie()) << 32 | (xxh3_64(it.uri().as_bytes()) & 0xffff_ffff)
}

/// A value as it is kept and asked for.
pub(crate) fn shortened(value: &str) -> &str {
    let mut end = value.len().min(VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// The words of a handle that tell something: what everybody's handle ends with does not.
fn words_of_handle(handle: &str) -> String {
    let own = handle.strip_suffix(".bsky.social").unwrap_or(handle);
    let labels: Vec<&str> = own.split('.').collect();
    let told = if own.len() == handle.len() && labels.len() > 1 { &labels[..labels.len() - 1] } else { &labels[..] };
    told.join(" ").replace('-', " ")
}

/// A link's host and the domains above it.
fn host_and_parents(link: &str) -> Vec<String> {
    let host = domain_of(link);
    let mut out = Vec::new();
    let mut rest = host.as_str();
    while rest.contains('.') && out.len() < 8 {
        out.push(rest.to_owned());
        rest = rest.split_once('.').map_or("", |(_, parent)| parent);
    }
    if out.is_empty() && !host.is_empty() {
        out.push(host);
    }
    out
}

/// What a post says beside its text.
#[derive(Default)]
struct PostParts<'a> {
    links: Vec<&'a str>,
    tags: Vec<&'a str>,
    alt_texts: Vec<&'a str>,
}

impl<'a> PostParts<'a> {
    fn read(&mut self, value: &'a Value<'a>) {
        for facet in list(value, "facets") {
            for feature in list(facet, "features") {
                match feature.type_name() {
                    Some("app.bsky.richtext.facet#link") => {
                        self.links.extend(feature.get("uri").and_then(Value::as_str))
                    }
                    Some("app.bsky.richtext.facet#tag") => self.tags.extend(feature.get("tag").and_then(Value::as_str)),
                    _ => {}
                }
            }
        }
        self.tags.extend(list(value, "tags").filter_map(Value::as_str));
        // Tags that the writer's program did not mark.
        let text = value.get("text").and_then(Value::as_str).unwrap_or_default();
        self.tags.extend(
            text.split_whitespace().filter(|word| word.len() > 1).filter_map(|word| word.strip_prefix(['#', '＃'])),
        );
        if let Some(embed) = value.get("embed") {
            self.embed(embed);
            if let Some(media) = embed.get("media") {
                self.embed(media);
            }
        }
    }

    fn embed(&mut self, embed: &'a Value<'a>) {
        match embed.type_name() {
            Some("app.bsky.embed.external") => {
                self.links.extend(embed.get("external").and_then(|it| it.get("uri")).and_then(Value::as_str));
            }
            Some("app.bsky.embed.images") => {
                self.alt_texts.extend(list(embed, "images").filter_map(|it| it.get("alt").and_then(Value::as_str)));
            }
            Some("app.bsky.embed.gallery") => {
                self.alt_texts.extend(list(embed, "items").filter_map(|it| it.get("alt").and_then(Value::as_str)));
            }
            Some("app.bsky.embed.video") => self.alt_texts.extend(embed.get("alt").and_then(Value::as_str)),
            _ => {}
        }
    }
}

fn list<'a>(value: &'a Value<'a>, property: &str) -> impl Iterator<Item = &'a Value<'a>> + use<'a> {
    value.get(property).and_then(Value::as_list).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_doublings() {
        assert_eq!([0, 1, 2, 3, 6, 7, 1000].map(level), [0, 1, 1, 2, 2, 3, 9]);
        assert_eq!(level(u64::MAX), 63);
    }

    #[test]
    fn handles_tell_their_own_words() {
        assert_eq!(words_of_handle("jay-graber.bsky.social"), "jay graber");
        assert_eq!(words_of_handle("the-onion.com"), "the onion");
        assert_eq!(words_of_handle("news.example.com"), "news example");
    }

    #[test]
    fn hosts_are_found_by_the_domains_above_them() {
        assert_eq!(host_and_parents("https://a.b.example/x"), ["a.b.example", "b.example"]);
        assert_eq!(host_and_parents("http://localhost:80"), ["localhost"]);
        assert!(host_and_parents("").is_empty());
    }
}
