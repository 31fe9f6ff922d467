//! Walks a value along a schema.
//!
//! Recursion follows the schema, not the value: unknown properties and unknown members of unions are not entered, so
//! the depth is that of the deepest schema whatever the record holds.

use super::schema::{Blob, Kind, Object, Text};
use super::{Invalid, Reason, Step, grapheme};
use crate::value::Value;

/// The integers that a double holds exactly, and so the only ones that mean the same on every host.
const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;

/// The multicodec code of bytes as they are: what a blob is addressed by.
const RAW_CODEC: u64 = 0x55;

type Entries<'v, 'a> = &'v [(&'a str, Value<'a>)];

/// A whole record: as an object, but `$type` must be there.
pub(super) fn record(schema: &'static Object, value: &Value<'_>) -> Result<(), Invalid> {
    let Value::Map(entries) = value else { return Err(Invalid::here(Reason::NotAMap)) };
    match get(entries, "$type") {
        Some(Value::Text(name)) if *name == schema.name => properties(schema, entries),
        _ => Err(Invalid::here(Reason::RecordType)),
    }
}

fn properties(schema: &'static Object, entries: Entries<'_, '_>) -> Result<(), Invalid> {
    for property in schema.properties {
        let result = match get(entries, property.name) {
            Some(value) => kind(&property.kind, value),
            None if property.required => Err(Invalid::here(Reason::Missing)),
            None => continue,
        };
        result.map_err(|invalid| invalid.at(Step::Property(property.name)))?;
    }
    Ok(())
}

fn kind(kind: &'static Kind, value: &Value<'_>) -> Result<(), Invalid> {
    match (kind, value) {
        (Kind::Text(limits), Value::Text(text)) => self::text(limits, text).map_err(Invalid::here),
        (Kind::Integer { min }, _) => integer(*min, value).map_err(Invalid::here),
        (Kind::Boolean, Value::Bool(_)) | (Kind::Bytes, Value::Bytes(_)) => Ok(()),
        (Kind::Blob(limits), Value::Map(entries)) => blob(limits, entries).map_err(Invalid::here),
        (Kind::List { item, items_max }, Value::List(items)) => list(item, *items_max, items),
        (Kind::Object(schema), Value::Map(entries)) => object(schema, entries),
        (Kind::Union(members), Value::Map(entries)) => union(members, entries),
        _ => Err(Invalid::here(Reason::Kind)),
    }
}

fn object(schema: &'static Object, entries: Entries<'_, '_>) -> Result<(), Invalid> {
    match get(entries, "$type") {
        None => {}
        Some(Value::Text(name)) if *name == schema.name => {}
        Some(_) => return Err(Invalid::here(Reason::PartType)),
    }
    properties(schema, entries)
}

fn union(members: &'static [&'static Object], entries: Entries<'_, '_>) -> Result<(), Invalid> {
    let Some(Value::Text(name)) = get(entries, "$type") else {
        return Err(Invalid::here(Reason::UnionType));
    };
    match members.iter().find(|member| member.name == *name) {
        Some(member) => properties(member, entries),
        None => Ok(()),
    }
}

fn list(item: &'static Kind, items_max: u32, items: &[Value<'_>]) -> Result<(), Invalid> {
    if items.len() > items_max as usize {
        return Err(Invalid::here(Reason::TooManyItems));
    }
    for (position, value) in items.iter().enumerate() {
        kind(item, value).map_err(|invalid| invalid.at(Step::Item(position)))?;
    }
    Ok(())
}

fn text(limits: &Text, text: &str) -> Result<(), Reason> {
    if text.len() < limits.bytes_min as usize {
        return Err(Reason::TextTooShort);
    }
    if text.len() > limits.bytes_max as usize {
        return Err(Reason::TextTooLong);
    }
    let graphemes_max = limits.graphemes_max as usize;
    if text.len() > graphemes_max && grapheme::count_up_to(text, graphemes_max) > graphemes_max {
        return Err(Reason::TooManyGraphemes);
    }
    match limits.format {
        Some(format) if !format.accepts(text) => Err(Reason::Format(format)),
        _ => Ok(()),
    }
}

fn integer(min: i64, value: &Value<'_>) -> Result<(), Reason> {
    match whole(value) {
        None => Err(Reason::Kind),
        Some(integer) if integer < min => Err(Reason::IntegerTooSmall),
        Some(_) => Ok(()),
    }
}

/// The integer a value stands for, if every host reads the same one.
///
/// The data model has no floats, but a decoder that knows only one type of number cannot tell `1.0` from `1`, and the
/// network's AppView uses such a decoder: a float without fraction counts as an integer there, and so here.
fn whole(value: &Value<'_>) -> Option<i64> {
    let integer = match value {
        Value::Int(integer) => *integer,
        // Beyond 64 bits the cast saturates, which is then refused below like any other large number.
        Value::Float(float) if float.fract() == 0.0 => *float as i64,
        _ => return None,
    };
    (-SAFE_INTEGER_MAX..=SAFE_INTEGER_MAX).contains(&integer).then_some(integer)
}

/// A blob reference has four properties and no others: `$type`, `ref`, `mimeType` and `size`.
fn blob(limits: &Blob, entries: Entries<'_, '_>) -> Result<(), Reason> {
    let (mut typed, mut linked, mut media_type, mut size) = (false, false, None, None);
    for (name, value) in entries {
        match (*name, value) {
            ("$type", Value::Text("blob")) => typed = true,
            ("ref", Value::Link(cid)) => linked = !cid.is_v0() && cid.parts().0 == RAW_CODEC,
            ("mimeType", Value::Text(text)) => media_type = Some(*text),
            ("size", number) => size = whole(number).filter(|size| *size >= 0),
            ("cid", Value::Text(_)) if get(entries, "$type").is_none() => return Err(Reason::BlobLegacy),
            _ => return Err(Reason::BlobMalformed),
        }
    }
    let (true, true, Some(media_type), Some(size)) = (typed, linked, media_type, size) else {
        return Err(Reason::BlobMalformed);
    };
    if !limits.accept.iter().any(|pattern| matches(pattern, media_type)) {
        return Err(Reason::BlobMediaType);
    }
    if size > limits.size_max {
        return Err(Reason::BlobTooLarge);
    }
    Ok(())
}

fn matches(pattern: &str, media_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => media_type.starts_with(prefix),
        None => media_type == pattern,
    }
}

fn get<'v, 'a>(entries: Entries<'v, 'a>, name: &str) -> Option<&'v Value<'a>> {
    entries.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}
