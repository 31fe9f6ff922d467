//! DAG-CBOR in the profile that atproto uses (DRISL).
//!
//! Decoding accepts definite lengths only, refuses NaN and infinities, keys that are not text, duplicate keys,
//! integers and lengths not in their shortest form, and every tag but 42 (a CID behind a zero byte); `undefined`
//! reads as null. The order of map keys is not checked. Encoding is canonical: shortest forms, keys sorted by length
//! and then bytewise.
//!
//! Two bounds make hostile input harmless: nesting stops at [`DEPTH_MAX`], and no claimed length is believed before
//! the bytes have been seen.

use smallvec::SmallVec;

use crate::{
    cid::{Cid, CidRef},
    value::Value,
};

/// Deepest nesting of lists and maps. Real records stay below 16.
pub const DEPTH_MAX: usize = 64;

/// Dropped from the beginning of a text or a key, once. So does the decoder of the network's AppView, and limits and
/// forms are held against what is left.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Most items for which room is made before they have been read.
const CAPACITY_MAX: u64 = 32;

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The bytes end inside an item, or claim more than there is.
    #[error("CBOR ends too early")]
    Truncated,
    /// Bytes follow where the item should have been the last.
    #[error("bytes after the CBOR item")]
    Trailing,
    /// An indefinite length, or a break.
    #[error("CBOR of indefinite length")]
    Indefinite,
    /// An integer or length that has a shorter form.
    #[error("CBOR number not in its shortest form")]
    NotShortest,
    /// A reserved head byte or a simple value outside the data model.
    #[error("CBOR value outside the data model")]
    Unsupported,
    /// NaN or an infinity.
    #[error("CBOR float that is not finite")]
    NotFinite,
    /// A map key that is not text.
    #[error("CBOR map key is not text")]
    KeyNotText,
    /// The same key twice in one map.
    #[error("CBOR map key occurs twice")]
    DuplicateKey,
    /// Text that is not UTF-8.
    #[error("CBOR text is not UTF-8")]
    NotUtf8,
    /// A tag other than 42.
    #[error("CBOR tag other than a link")]
    Tag,
    /// A link whose bytes are not a CID behind a zero byte.
    #[error("CBOR link is not a CID")]
    Link,
    /// Nesting beyond [`DEPTH_MAX`].
    #[error("CBOR nested too deep")]
    TooDeep,
    /// An item of another kind than the place calls for.
    #[error("CBOR item of the wrong kind")]
    WrongKind,
}

type Result<T> = std::result::Result<T, CborError>;

/// Decodes exactly one item.
pub fn decode(bytes: &[u8]) -> Result<Value<'_>> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

/// Decodes the item that `bytes` begin with, and returns what follows it.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Value<'_>, &[u8])> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    Ok((value, reader.rest()))
}

/// Checks exactly one item without building it.
pub fn check(bytes: &[u8]) -> Result<()> {
    let mut reader = Reader::new(bytes);
    reader.skip()?;
    reader.end()
}

/// The kinds of item, by the top three bits of the head byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Zero or a positive integer.
    Unsigned,
    /// A negative integer.
    Negative,
    /// A byte string.
    Bytes,
    /// A text.
    Text,
    /// A list.
    List,
    /// A map.
    Map,
    /// A tagged item.
    Tag,
    /// A flag, null or a float.
    Simple,
}

/// Reads items one after the other, for callers that know what they expect (frames, commits, tree nodes).
///
/// `list` and `map` return the count only; the caller then reads the items. Depth is the caller's business there,
/// since such callers do not recurse; [`Reader::value`] and [`Reader::skip`] bound it themselves.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Fails unless everything has been read.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }

    /// The kind of the next item.
    pub fn kind(&self) -> Result<Kind> {
        let head = self.rest.first().ok_or(CborError::Truncated)?;
        Ok(match head >> 5 {
            0 => Kind::Unsigned,
            1 => Kind::Negative,
            2 => Kind::Bytes,
            3 => Kind::Text,
            4 => Kind::List,
            5 => Kind::Map,
            6 => Kind::Tag,
            _ => Kind::Simple,
        })
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads a head byte and its argument; for majors 0 to 6 the argument must be in its shortest form.
    #[inline]
    fn head(&mut self) -> Result<(u8, u64)> {
        let (&head, rest) = self.rest.split_first().ok_or(CborError::Truncated)?;
        self.rest = rest;
        let (major, info) = (head >> 5, head & 31);
        if info < 24 {
            return Ok((major, u64::from(info)));
        }
        let (argument, least) = match info {
            24 => (u64::from(self.array::<1>()?[0]), 24),
            25 => (u64::from(u16::from_be_bytes(self.array()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.array()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.array()?), 1 << 32),
            31 => return Err(CborError::Indefinite),
            _ => return Err(CborError::Unsupported),
        };
        if argument < least {
            return Err(CborError::NotShortest);
        }
        Ok((major, argument))
    }

    fn head_of(&mut self, wanted: u8) -> Result<u64> {
        let before = self.rest;
        let (major, argument) = self.head()?;
        if major != wanted {
            self.rest = before;
            return Err(CborError::WrongKind);
        }
        Ok(argument)
    }

    #[inline]
    fn slice(&mut self, len: u64) -> Result<&'a [u8]> {
        self.take(usize::try_from(len).map_err(|_| CborError::Truncated)?)
    }

    /// Reads a text.
    pub fn text(&mut self) -> Result<&'a str> {
        let len = self.head_of(3)?;
        self.utf8(len)
    }

    fn utf8(&mut self, len: u64) -> Result<&'a str> {
        let text = std::str::from_utf8(self.slice(len)?).map_err(|_| CborError::NotUtf8)?;
        Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
    }

    /// Reads a byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.head_of(2)?;
        self.slice(len)
    }

    /// Reads an integer of 64 signed bits.
    pub fn int(&mut self) -> Result<i64> {
        let before = self.rest;
        let (major, argument) = self.head()?;
        match (major, i64::try_from(argument)) {
            (0, Ok(n)) => Ok(n),
            (1, Ok(n)) => Ok(-1 - n),
            _ => {
                self.rest = before;
                Err(CborError::WrongKind)
            }
        }
    }

    /// Reads a flag.
    pub fn flag(&mut self) -> Result<bool> {
        match self.rest.first() {
            Some(0xf4 | 0xf5) => Ok(self.array::<1>()?[0] == 0xf5),
            Some(_) => Err(CborError::WrongKind),
            None => Err(CborError::Truncated),
        }
    }

    /// Reads a null or undefined if one comes next.
    pub fn null(&mut self) -> bool {
        match self.rest {
            [0xf6 | 0xf7, rest @ ..] => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Reads a link to any CID.
    pub fn link(&mut self) -> Result<CidRef<'a>> {
        match self.head_of(6)? {
            42 => self.link_body(),
            _ => Err(CborError::Tag),
        }
    }

    /// Reads a link to a version 1, sha-256 CID.
    pub fn cid(&mut self) -> Result<Cid> {
        self.link()?.to_cid().ok_or(CborError::Link)
    }

    fn link_body(&mut self) -> Result<CidRef<'a>> {
        match self.bytes().map_err(|_| CborError::Link)? {
            [0, cid @ ..] => CidRef::from_bytes(cid).map_err(|_| CborError::Link),
            _ => Err(CborError::Link),
        }
    }

    /// Reads the head of a list and returns its number of items, which cannot exceed the bytes that are left.
    pub fn list(&mut self) -> Result<u64> {
        let len = self.head_of(4)?;
        self.plausible(len, 1)
    }

    /// Reads the head of a map and returns its number of properties, which the bytes that are left could hold.
    pub fn map(&mut self) -> Result<u64> {
        let len = self.head_of(5)?;
        self.plausible(len, 2)
    }

    #[inline]
    fn plausible(&self, len: u64, bytes_each: u64) -> Result<u64> {
        if len > self.rest.len() as u64 / bytes_each { Err(CborError::Truncated) } else { Ok(len) }
    }

    /// Reads the key of a map's property.
    pub fn key(&mut self) -> Result<&'a str> {
        self.text().map_err(|error| match error {
            CborError::WrongKind => CborError::KeyNotText,
            other => other,
        })
    }

    /// Reads any item.
    pub fn value(&mut self) -> Result<Value<'a>> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value<'a>> {
        let head = *self.rest.first().ok_or(CborError::Truncated)?;
        if head >= 0xe0 {
            return self.simple();
        }
        let (major, argument) = self.head()?;
        Ok(match major {
            0 => i64::try_from(argument).map_or_else(|_| Value::BigInt(i128::from(argument)), Value::Int),
            1 => i64::try_from(argument)
                .map_or_else(|_| Value::BigInt(-1 - i128::from(argument)), |n| Value::Int(-1 - n)),
            2 => Value::Bytes(self.slice(argument)?),
            3 => Value::Text(self.utf8(argument)?),
            4 => {
                deeper(depth)?;
                let len = self.plausible(argument, 1)?;
                let mut items = Vec::with_capacity(len.min(CAPACITY_MAX) as usize);
                for _ in 0..len {
                    items.push(self.value_at(depth + 1)?);
                }
                Value::List(items)
            }
            5 => {
                deeper(depth)?;
                let len = self.plausible(argument, 2)?;
                let mut entries: Vec<(&str, Value<'a>)> = Vec::with_capacity(len.min(CAPACITY_MAX) as usize);
                let mut ascending = true;
                for _ in 0..len {
                    let key = self.key()?;
                    if let Some((last, _)) = entries.last() {
                        ascending &= canonical_order(last, key).is_lt();
                    }
                    let value = self.value_at(depth + 1)?;
                    entries.push((key, value));
                }
                if !ascending {
                    refuse_duplicates(&mut entries.iter().map(|(key, _)| *key).collect::<Vec<_>>())?;
                }
                Value::Map(entries)
            }
            _ if argument == 42 => Value::Link(self.link_body()?),
            _ => return Err(CborError::Tag),
        })
    }

    /// Passes over any item, with the same checks as [`Reader::value`].
    pub fn skip(&mut self) -> Result<()> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Result<()> {
        let head = *self.rest.first().ok_or(CborError::Truncated)?;
        if head >= 0xe0 {
            return self.simple().map(|_| ());
        }
        let (major, argument) = self.head()?;
        match major {
            0 | 1 => {}
            2 => drop(self.slice(argument)?),
            3 => drop(self.utf8(argument)?),
            4 => {
                deeper(depth)?;
                for _ in 0..self.plausible(argument, 1)? {
                    self.skip_at(depth + 1)?;
                }
            }
            5 => {
                deeper(depth)?;
                let mut keys = Keys::default();
                for _ in 0..self.plausible(argument, 2)? {
                    keys.saw(self.key()?);
                    self.skip_at(depth + 1)?;
                }
                keys.end()?;
            }
            _ if argument == 42 => drop(self.link_body()?),
            _ => return Err(CborError::Tag),
        }
        Ok(())
    }

    fn simple(&mut self) -> Result<Value<'a>> {
        let [head] = self.array()?;
        let float = match head & 31 {
            20 => return Ok(Value::Bool(false)),
            21 => return Ok(Value::Bool(true)),
            22 | 23 => return Ok(Value::Null),
            25 => f64_of_half(u16::from_be_bytes(self.array()?)),
            26 => f64::from(f32::from_be_bytes(self.array()?)),
            27 => f64::from_be_bytes(self.array()?),
            31 => return Err(CborError::Indefinite),
            _ => return Err(CborError::Unsupported),
        };
        if float.is_finite() { Ok(Value::Float(float)) } else { Err(CborError::NotFinite) }
    }

    /// Passes over any item and shows its parts to `visit`, with the same checks as [`Reader::value`].
    pub(crate) fn walk<V: Visit>(&mut self, visit: &mut V) -> Result<()> {
        self.walk_at(visit, 0)
    }

    fn walk_at<V: Visit>(&mut self, visit: &mut V, depth: usize) -> Result<()> {
        let head = *self.rest.first().ok_or(CborError::Truncated)?;
        match head >> 5 {
            4 => {
                deeper(depth)?;
                let len = self.list()?;
                visit.open_list();
                for i in 0..len {
                    visit.item(i == 0);
                    self.walk_at(visit, depth + 1)?;
                }
                visit.close_list();
            }
            5 => {
                deeper(depth)?;
                let len = self.map()?;
                let mut keys = Keys::default();
                visit.open_map();
                for i in 0..len {
                    let key = self.key()?;
                    keys.saw(key);
                    visit.property(i == 0, key);
                    self.walk_at(visit, depth + 1)?;
                }
                keys.end()?;
                visit.close_map();
            }
            _ => visit.scalar(&self.value_at(depth)?),
        }
        Ok(())
    }
}

/// What [`Reader::walk`] calls on the way.
pub(crate) trait Visit {
    fn scalar(&mut self, value: &Value<'_>);
    fn open_list(&mut self);
    fn item(&mut self, first: bool);
    fn close_list(&mut self);
    fn open_map(&mut self);
    fn property(&mut self, first: bool, key: &str);
    fn close_map(&mut self);
}

fn deeper(depth: usize) -> Result<()> {
    if depth >= DEPTH_MAX { Err(CborError::TooDeep) } else { Ok(()) }
}

/// Watches the keys of one map for duplicates. Keys in canonical order, which is nearly always, cost one comparison
/// each; only others are sorted at the end.
pub(crate) struct Keys<'a> {
    seen: SmallVec<[&'a str; 16]>,
    ascending: bool,
}

impl Default for Keys<'_> {
    fn default() -> Self {
        Keys { seen: SmallVec::new(), ascending: true }
    }
}

impl<'a> Keys<'a> {
    pub(crate) fn saw(&mut self, key: &'a str) {
        if let Some(last) = self.seen.last() {
            self.ascending &= canonical_order(last, key).is_lt();
        }
        self.seen.push(key);
    }

    pub(crate) fn end(mut self) -> Result<()> {
        if self.ascending { Ok(()) } else { refuse_duplicates(&mut self.seen) }
    }
}

fn refuse_duplicates(keys: &mut [&str]) -> Result<()> {
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) { Err(CborError::DuplicateKey) } else { Ok(()) }
}

/// The canonical order of map keys: shorter first, then bytewise.
pub fn canonical_order(a: &str, b: &str) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

fn f64_of_half(half: u16) -> f64 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f64::from(half & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

/// Encodes a value canonically, whatever the order of its maps.
///
/// Floats take eight bytes; one that is not finite becomes null. A map must not hold a key twice (no decoded value
/// does). A `BigInt` outside CBOR's range is clamped to it.
pub fn encode(value: &Value<'_>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.value(value);
    writer.into_bytes()
}

/// Writes items one after the other, for callers that keep the canonical key order themselves.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Begins with nothing written.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Begins with nothing written and room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { out: Vec::with_capacity(bytes) }
    }

    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// What has been written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.out
    }

    fn head(&mut self, major: u8, argument: u64) -> &mut Writer {
        let major = major << 5;
        match argument {
            0..24 => self.out.push(major | argument as u8),
            24..0x100 => self.out.extend_from_slice(&[major | 24, argument as u8]),
            0x100..0x1_0000 => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&(argument as u16).to_be_bytes());
            }
            0x1_0000..0x1_0000_0000 => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&(argument as u32).to_be_bytes());
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&argument.to_be_bytes());
            }
        }
        self
    }

    /// Writes the head of a list of `len` items.
    pub fn list(&mut self, len: usize) -> &mut Writer {
        self.head(4, len as u64)
    }

    /// Writes the head of a map of `len` properties.
    pub fn map(&mut self, len: usize) -> &mut Writer {
        self.head(5, len as u64)
    }

    /// Writes a text, or a key.
    pub fn text(&mut self, text: &str) -> &mut Writer {
        self.head(3, text.len() as u64).out.extend_from_slice(text.as_bytes());
        self
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.head(2, bytes.len() as u64).out.extend_from_slice(bytes);
        self
    }

    /// Writes an integer.
    pub fn int(&mut self, int: i64) -> &mut Writer {
        match u64::try_from(int) {
            Ok(n) => self.head(0, n),
            Err(_) => self.head(1, !int as u64),
        }
    }

    /// Writes a flag.
    pub fn flag(&mut self, flag: bool) -> &mut Writer {
        self.out.push(if flag { 0xf5 } else { 0xf4 });
        self
    }

    /// Writes null.
    pub fn null(&mut self) -> &mut Writer {
        self.out.push(0xf6);
        self
    }

    /// Writes a link.
    pub fn link(&mut self, cid: CidRef<'_>) -> &mut Writer {
        let cid = cid.as_bytes();
        self.head(6, 42).head(2, cid.len() as u64 + 1).out.push(0);
        self.out.extend_from_slice(cid);
        self
    }

    /// Writes a link, or null.
    pub fn link_or_null(&mut self, cid: Option<&Cid>) -> &mut Writer {
        match cid {
            Some(cid) => self.link(cid.as_ref()),
            None => self.null(),
        }
    }

    /// Writes bytes that are one item already.
    pub fn item(&mut self, item: &[u8]) -> &mut Writer {
        self.out.extend_from_slice(item);
        self
    }

    /// Writes any value, sorting its maps.
    pub fn value(&mut self, value: &Value<'_>) -> &mut Writer {
        match value {
            Value::Null => self.null(),
            Value::Bool(flag) => self.flag(*flag),
            Value::Int(int) => self.int(*int),
            Value::BigInt(int) => match u64::try_from(*int) {
                Ok(n) => self.head(0, n),
                Err(_) if *int > 0 => self.head(0, u64::MAX),
                Err(_) => self.head(1, u64::try_from(-1 - *int).unwrap_or(u64::MAX)),
            },
            Value::Float(float) if float.is_finite() => {
                self.out.push(0xfb);
                self.out.extend_from_slice(&float.to_be_bytes());
                self
            }
            Value::Float(_) => self.null(),
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::Link(cid) => self.link(*cid),
            Value::List(items) => {
                self.list(items.len());
                for item in items {
                    self.value(item);
                }
                self
            }
            Value::Map(entries) => {
                self.map(entries.len());
                let mut order: Vec<usize> = (0..entries.len()).collect();
                order.sort_by(|a, b| canonical_order(entries[*a].0, entries[*b].0));
                for at in order {
                    self.text(entries[at].0).value(&entries[at].1);
                }
                self
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::multibase::{hex_decode, hex_encode};
    use proptest::prelude::*;

    fn error(hex: &str) -> CborError {
        let bytes = hex_decode(hex).unwrap();
        let error = decode(&bytes).unwrap_err();
        assert_eq!(check(&bytes), Err(error), "check and decode must agree on {hex}");
        error
    }

    fn round_trip(hex: &str) {
        let bytes = hex_decode(hex).unwrap();
        assert_eq!(check(&bytes), Ok(()), "{hex}");
        assert_eq!(hex_encode(&encode(&decode(&bytes).unwrap())), hex);
    }

    #[test]
    fn canonical_items_round_trip() {
        for hex in [
            "00",
            "17",
            "1818",
            "1903e8",
            "1a000f4240",
            "1b000000e8d4a51000",
            "1b7fffffffffffffff",
            "1bffffffffffffffff",
            "20",
            "3863",
            "3b7fffffffffffffff",
            "3bffffffffffffffff",
            "40",
            "4401020304",
            "60",
            "6161",
            "62c3bc",
            "80",
            "83010203",
            "a0",
            "a26161016162820203",
            "f4",
            "f5",
            "f6",
            "fb3ff199999999999a",
            "a16568656c6c6f65776f726c64",
            "d82a5825000171122082ba8099173286453da581ff5180730ba80d2c71e2dc4e81ade03ff776ee0519",
            "a2616280626161f6",
        ] {
            round_trip(hex);
        }
    }

    #[test]
    fn values_beyond_i64_are_big() {
        let read = |hex: &str| match decode(&hex_decode(hex).unwrap()).unwrap() {
            Value::BigInt(n) => n,
            other => panic!("{other:?}"),
        };
        assert_eq!(read("1b8000000000000000"), 1 << 63);
        assert_eq!(read("3b8000000000000000"), -(1 << 63) - 1);
        assert_eq!(read("3bffffffffffffffff"), -(1 << 64));
        assert_eq!(decode(&hex_decode("3b7fffffffffffffff").unwrap()), Ok(Value::Int(i64::MIN)));
    }

    #[test]
    fn tolerated_but_not_canonical() {
        let read = |hex: &str| format!("{:?}", decode(&hex_decode(hex).unwrap()).unwrap());
        assert_eq!(read("f7"), "Null");
        assert_eq!(read("f93c00"), "Float(1.0)");
        assert_eq!(read("f90001"), "Float(5.960464477539063e-8)");
        assert_eq!(read("fa47c35000"), "Float(100000.0)");
        assert_eq!(read("a2616201616102"), r#"Map([("b", Int(1)), ("a", Int(2))])"#);
    }

    #[test]
    fn one_byte_order_mark_goes_from_the_beginning_of_a_text() {
        let read = |hex: &str| format!("{:?}", decode(&hex_decode(hex).unwrap()).unwrap());
        assert_eq!(read("63efbbbf"), r#"Text("")"#);
        assert_eq!(read("64efbbbf61"), r#"Text("a")"#);
        assert_eq!(read("6461efbbbf"), r#"Text("a\u{feff}")"#);
        assert_eq!(read("67efbbbfefbbbf61"), r#"Text("\u{feff}a")"#);
        assert_eq!(read("a164efbbbf6101"), r#"Map([("a", Int(1))])"#);
        assert_eq!(error("a261610164efbbbf6102"), CborError::DuplicateKey);
    }

    #[test]
    fn everything_outside_the_profile_is_refused() {
        use CborError::*;
        for (hex, want) in [
            ("", Truncated),
            ("0000", Trailing),
            ("18", Truncated),
            ("1817", NotShortest),
            ("1900ff", NotShortest),
            ("1a0000ffff", NotShortest),
            ("1b00000000ffffffff", NotShortest),
            ("5801ff", NotShortest),
            ("780161", NotShortest),
            ("1c", Unsupported),
            ("5f", Indefinite),
            ("7f", Indefinite),
            ("9fff", Indefinite),
            ("bfff", Indefinite),
            ("ff", Indefinite),
            ("f97e00", NotFinite),
            ("f97c00", NotFinite),
            ("fa7f800000", NotFinite),
            ("fb7ff8000000000000", NotFinite),
            ("e0", Unsupported),
            ("f3", Unsupported),
            ("f818", Unsupported),
            ("a10101", KeyNotText),
            ("a1f601", KeyNotText),
            ("a1416101", KeyNotText),
            ("a2616101616102", DuplicateKey),
            ("a3616201616102616203", DuplicateKey),
            ("a16178a2616101616102", DuplicateKey),
            ("61ff", NotUtf8),
            ("c100", Tag),
            ("d82b40", Tag),
            ("d82a40", Link),
            ("d82a4101", Link),
            ("d82a00", Link),
            ("d82a5825010171122082ba8099173286453da581ff5180730ba80d2c71e2dc4e81ade03ff776ee0519", Link),
            ("d82a5826000171122082ba8099173286453da581ff5180730ba80d2c71e2dc4e81ade03ff776ee051900", Link),
            ("d8185825000171122082ba8099173286453da581ff5180730ba80d2c71e2dc4e81ade03ff776ee0519", Tag),
            ("42ff", Truncated),
            ("5b7fffffffffffffff", Truncated),
            ("9b7fffffffffffffff", Truncated),
            ("bb7fffffffffffffff", Truncated),
            ("8201", Truncated),
        ] {
            assert_eq!(error(hex), want, "{hex}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| [vec![0x81; depth], vec![0xf6]].concat();
        assert!(decode(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(decode(&nested(DEPTH_MAX + 1)), Err(CborError::TooDeep));
        assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(CborError::TooDeep));
        assert_eq!(decode(&nested(1_000_000)), Err(CborError::TooDeep));
    }

    #[test]
    fn two_items_one_after_the_other() {
        let bytes = hex_decode("a1616101f6").unwrap();
        let (first, rest) = decode_prefix(&bytes).unwrap();
        assert_eq!((first.get("a"), rest), (Some(&Value::Int(1)), &[0xf6u8][..]));
    }

    #[test]
    fn a_wrong_kind_leaves_the_reader_where_it_was() {
        let mut reader = Reader::new(&[0x61, b'a', 0x05]);
        assert_eq!(reader.int(), Err(CborError::WrongKind));
        assert_eq!(reader.text(), Ok("a"));
        assert_eq!(reader.flag(), Err(CborError::WrongKind));
        assert_eq!(reader.int(), Ok(5));
        assert!(!reader.null());
    }

    #[test]
    fn many_keys_out_of_order_are_checked_in_good_time() {
        let mut writer = Writer::new();
        writer.map(60_000);
        for i in (0..60_000).rev() {
            writer.text(&format!("{i:05}")).null();
        }
        assert!(check(writer.as_bytes()).is_ok());
        assert!(decode(writer.as_bytes()).is_ok());
    }

    /// Any value that survives a round trip.
    pub(crate) fn any_value() -> impl Strategy<Value = Owned> {
        let leaf = prop_oneof![
            Just(Owned::Null),
            any::<bool>().prop_map(Owned::Bool),
            any::<i64>().prop_map(Owned::Int),
            prop::num::f64::NORMAL.prop_map(Owned::Float),
            "\\PC{0,12}".prop_map(Owned::Text),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(Owned::Bytes),
            any::<[u8; 32]>().prop_map(|digest| Owned::Link(Cid::dag_cbor_with_digest(digest))),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Owned::List),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..6)
                    .prop_map(|map| Owned::Map(map.into_iter().collect())),
            ]
        })
    }

    #[derive(Clone, Debug)]
    pub(crate) enum Owned {
        Null,
        Bool(bool),
        Int(i64),
        Float(f64),
        Text(String),
        Bytes(Vec<u8>),
        Link(Cid),
        List(Vec<Owned>),
        Map(Vec<(String, Owned)>),
    }

    impl Owned {
        pub(crate) fn borrow(&self) -> Value<'_> {
            match self {
                Owned::Null => Value::Null,
                Owned::Bool(flag) => Value::Bool(*flag),
                Owned::Int(int) => Value::Int(*int),
                Owned::Float(float) => Value::Float(*float),
                Owned::Text(text) => Value::Text(text),
                Owned::Bytes(bytes) => Value::Bytes(bytes),
                Owned::Link(cid) => Value::Link(cid.as_ref()),
                Owned::List(items) => Value::List(items.iter().map(Owned::borrow).collect()),
                Owned::Map(entries) => {
                    Value::Map(entries.iter().map(|(key, value)| (&**key, value.borrow())).collect())
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_and_encodes_again_to_the_same(owned in any_value()) {
            let bytes = encode(&owned.borrow());
            prop_assert_eq!(check(&bytes), Ok(()));
            prop_assert_eq!(encode(&decode(&bytes).unwrap()), bytes);
        }

        #[test]
        fn any_bytes_are_judged_alike_by_decode_and_check(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decode(&bytes).map(|_| ()), check(&bytes));
        }

        #[test]
        fn damaged_items_never_panic(owned in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode(&owned.borrow());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert_eq!(decode(&bytes).map(|_| ()), check(&bytes));
            prop_assert!(decode(&bytes[..at]).is_err());
        }
    }
}
