//! Validation of records against their lexicons: what is kept, and what is dropped as malformed.
//!
//! The accept set is the one of the network's own AppView in its strict mode, since a record that one host shows and
//! another drops splits a conversation. That includes its peculiarities: a day of month that does not exist passes, a
//! blob in the old form drops its whole record, extra properties are never looked at.
//!
//! `records` states the schemas as data in the words of `schema`, `check` walks a value along one, `format` and
//! `grapheme` judge single texts. This runs once for every operation of the network, so success allocates nothing
//! (save for CIDs other than version 1 sha-256, and percent signs in the fragment of an AT-URI; both are rare).
//!
//! Record keys are not judged here (no host checks them against the lexicon), nor is anything that needs more than
//! the record, such as whether a gate lies beside its post.

mod check;
mod format;
mod grapheme;
mod records;
mod schema;

use std::fmt;

pub use format::Format;
pub use grapheme::count_up_to as count_graphemes_up_to;

use crate::value::Value;
use records::{COLLECTIONS, Rule};

/// Whether records of this collection are kept at all. Others are ignored, valid or not.
pub fn is_known_collection(collection: &str) -> bool {
    rule(collection).is_some()
}

/// Every collection we keep.
pub fn collections() -> impl Iterator<Item = &'static str> {
    COLLECTIONS.iter().map(|(collection, _)| *collection)
}

/// Whether `record` is a well-formed record of `collection`.
///
/// Fails at the first thing that is wrong, in no particular order. A collection we do not know is an error as well
/// ([`Reason::UnknownCollection`]); ask [`is_known_collection`] first to tell the two apart cheaply.
pub fn validate(collection: &str, record: &Value<'_>) -> Result<(), Invalid> {
    match rule(collection) {
        Some(Rule::Schema(schema)) => check::record(schema, record),
        Some(Rule::Unchecked) => Ok(()),
        None => Err(Invalid::here(Reason::UnknownCollection)),
    }
}

fn rule(collection: &str) -> Option<&'static Rule> {
    COLLECTIONS.iter().find(|(name, _)| *name == collection).map(|(_, rule)| rule)
}

/// Why a record is not valid, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    reason: Reason,
    /// From the inside out.
    path: Vec<Step>,
}

/// One step from a value into one of its parts. Names come from the schema, never from the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Property(&'static str),
    Item(usize),
}

impl Invalid {
    fn here(reason: Reason) -> Invalid {
        Invalid { reason, path: Vec::new() }
    }

    fn at(mut self, step: Step) -> Invalid {
        self.path.push(step);
        self
    }

    /// What is wrong.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Where it is wrong, such as `embed.images[2].alt`; empty for the record as a whole.
    ///
    /// Made of property names of the schema and positions, so it carries nothing that the author wrote.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Property(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                Step::Item(position) => path.push_str(&format!("[{position}]")),
            }
        }
        path
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { write!(f, "{}", self.reason) } else { write!(f, "{}: {}", self.path(), self.reason) }
    }
}

impl std::error::Error for Invalid {}

/// What may be wrong with a record. A closed set: it labels a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No schema is known for the collection.
    UnknownCollection,
    /// The record is not a map.
    NotAMap,
    /// The record's `$type` is missing or not its collection.
    RecordType,
    /// The `$type` of a part is present and not the one that belongs there.
    PartType,
    /// A part whose `$type` decides what it is has none, or one that is not text.
    UnionType,
    /// A required property is missing.
    Missing,
    /// A value of another kind, `null` included, or an integer beyond 2^53 - 1.
    Kind,
    /// Text of too few bytes.
    TextTooShort,
    /// Text of too many bytes.
    TextTooLong,
    /// Text of too many grapheme clusters.
    TooManyGraphemes,
    /// Text that does not have the form it must have.
    Format(Format),
    /// An integer below its least value.
    IntegerTooSmall,
    /// Too many items in a list.
    TooManyItems,
    /// A blob in the form of before 2023, without size.
    BlobLegacy,
    /// A map that is no blob reference.
    BlobMalformed,
    /// A blob of a media type that is not taken here.
    BlobMediaType,
    /// A blob that says to be too large.
    BlobTooLarge,
}

impl Reason {
    /// The label of this reason, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownCollection => "unknown_collection",
            Reason::NotAMap => "not_a_map",
            Reason::RecordType => "record_type",
            Reason::PartType => "part_type",
            Reason::UnionType => "union_type",
            Reason::Missing => "missing",
            Reason::Kind => "kind",
            Reason::TextTooShort => "text_too_short",
            Reason::TextTooLong => "text_too_long",
            Reason::TooManyGraphemes => "too_many_graphemes",
            Reason::Format(format) => format.reason(),
            Reason::IntegerTooSmall => "integer_too_small",
            Reason::TooManyItems => "too_many_items",
            Reason::BlobLegacy => "blob_legacy",
            Reason::BlobMalformed => "blob_malformed",
            Reason::BlobMediaType => "blob_media_type",
            Reason::BlobTooLarge => "blob_too_large",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
