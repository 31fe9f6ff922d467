//! The words in which [`super::records`] states what a record may look like.
//!
//! A schema is plain static data: no code, no allocation, nothing to build at start. The words cover what the twenty
//! collections need and no more; in particular all unions are open, and nothing is nullable.

use super::format::Format;

/// No upper limit.
pub(super) const ANY: u32 = u32::MAX;

/// A map with known properties. Further properties are allowed and not looked at.
pub(super) struct Object {
    /// What `$type` says where it is present, and must say on records and on members of a union.
    pub(super) name: &'static str,
    pub(super) properties: &'static [Property],
}

/// One known property of an [`Object`].
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) kind: Kind,
}

/// A property that must be there.
pub(super) const fn must(name: &'static str, kind: Kind) -> Property {
    Property { name, required: true, kind }
}

/// A property that may be missing. `null` is not missing.
pub(super) const fn may(name: &'static str, kind: Kind) -> Property {
    Property { name, required: false, kind }
}

/// What one property or list item may hold.
pub(super) enum Kind {
    Text(Text),
    /// A whole number from `min` to 2^53 - 1.
    Integer {
        min: i64,
    },
    Boolean,
    /// A byte string of any length.
    Bytes,
    Blob(Blob),
    List {
        item: &'static Kind,
        items_max: u32,
    },
    Object(&'static Object),
    /// A map whose `$type` says which of these it is. An unknown `$type` passes as it is.
    Union(&'static [&'static Object]),
}

/// Limits of a text, all inclusive.
pub(super) struct Text {
    pub(super) bytes_min: u32,
    pub(super) bytes_max: u32,
    pub(super) graphemes_max: u32,
    pub(super) format: Option<Format>,
}

/// Text without limits.
pub(super) const TEXT: Kind = sized(0, ANY);

/// Text of at most so many UTF-8 bytes and so many extended grapheme clusters.
pub(super) const fn text(bytes_max: u32, graphemes_max: u32) -> Kind {
    Kind::Text(Text { bytes_min: 0, bytes_max, graphemes_max, format: None })
}

/// Text of so many UTF-8 bytes.
pub(super) const fn sized(bytes_min: u32, bytes_max: u32) -> Kind {
    Kind::Text(Text { bytes_min, bytes_max, graphemes_max: ANY, format: None })
}

/// Text that must be an identifier or a time of some form.
pub(super) const fn format(format: Format) -> Kind {
    Kind::Text(Text { bytes_min: 0, bytes_max: ANY, graphemes_max: ANY, format: Some(format) })
}

/// As [`format`], with a limit on its bytes.
pub(super) const fn sized_format(format: Format, bytes_min: u32, bytes_max: u32) -> Kind {
    Kind::Text(Text { bytes_min, bytes_max, graphemes_max: ANY, format: Some(format) })
}

/// A reference to an uploaded file.
pub(super) struct Blob {
    /// Media types, or `type/*`. Compared as they are written: `image/PNG` is not `image/png`.
    pub(super) accept: &'static [&'static str],
    /// Largest declared size, in bytes.
    pub(super) size_max: i64,
}

/// A blob of one of these media types.
pub(super) const fn blob(accept: &'static [&'static str], size_max: i64) -> Kind {
    Kind::Blob(Blob { accept, size_max })
}
