//! The forms that a lexicon can ask of a text.

use crate::{aturi, cid, datetime, did, handle, language, nsid, uri};

/// A form of text, named as in lexicons. Only the ones that the kept collections use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    AtUri,
    Cid,
    Datetime,
    Did,
    Handle,
    Language,
    Nsid,
    Uri,
}

impl Format {
    /// Whether `text` has this form.
    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Format::AtUri => aturi::is_valid(text),
            Format::Cid => cid::is_valid(text),
            Format::Datetime => datetime::is_valid(text),
            Format::Did => did::is_valid(text),
            Format::Handle => handle::is_valid(text),
            Format::Language => language::is_valid(text),
            Format::Nsid => nsid::is_valid(text),
            Format::Uri => uri::is_valid(text),
        }
    }

    /// The label for a text that does not have this form.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Format::AtUri => "format_at_uri",
            Format::Cid => "format_cid",
            Format::Datetime => "format_datetime",
            Format::Did => "format_did",
            Format::Handle => "format_handle",
            Format::Language => "format_language",
            Format::Nsid => "format_nsid",
            Format::Uri => "format_uri",
        }
    }
}
