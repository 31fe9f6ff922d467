//! One decoded data-model value, borrowed from its CBOR bytes.
//!
//! Text and bytes point into the input, so decoding a record allocates only for its lists and maps. Property order
//! is the order of the bytes (canonical order for every record written by a conforming host).

use crate::cid::CidRef;

/// A value of the atproto data model.
///
/// `Float` and `BigInt` decode but no lexicon type accepts them; they survive inside unknown properties.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`; CBOR `undefined` reads as this too.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any integer that fits in 64 signed bits.
    Int(i64),
    /// An integer CBOR can hold and `i64` cannot: -2^64 .. -2^63 - 1 or 2^63 .. 2^64 - 1.
    BigInt(i128),
    /// A finite number.
    Float(f64),
    /// Valid UTF-8.
    Text(&'a str),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A link: any well-formed CID.
    Link(CidRef<'a>),
    /// A list.
    List(Vec<Value<'a>>),
    /// A map in the order of the bytes; no key occurs twice.
    Map(Vec<(&'a str, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// The property `key` of a map; `None` for anything that is not a map or has no such property.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        match self {
            Value::Map(entries) => entries.iter().find(|(k, _)| *k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if this is one that fits in 64 bits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The flag, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The bytes, if this is a byte string.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The link, if this is one.
    pub fn as_link(&self) -> Option<CidRef<'a>> {
        match self {
            Value::Link(cid) => Some(*cid),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Value<'a>]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The properties, if this is a map.
    pub fn as_map(&self) -> Option<&[(&'a str, Value<'a>)]> {
        match self {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The `$type` of a map.
    pub fn type_name(&self) -> Option<&'a str> {
        self.get("$type").and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_answer_only_for_their_own_kind() {
        let map = Value::Map(vec![("$type", Value::Text("a.b.c")), ("n", Value::Int(3))]);
        assert_eq!(map.type_name(), Some("a.b.c"));
        assert_eq!(map.get("n").and_then(Value::as_int), Some(3));
        assert_eq!(map.get("x"), None);
        assert_eq!(Value::Int(1).get("n"), None);
        assert_eq!(Value::Bool(true).as_int(), None);
        assert_eq!(Value::BigInt(1 << 70).as_int(), None);
        assert!(Value::Null.is_null());
    }

    #[test]
    fn a_value_stays_small() {
        assert_eq!(size_of::<Value<'_>>(), 32);
    }
}
