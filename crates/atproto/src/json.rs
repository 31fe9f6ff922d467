//! Lex-JSON: the JSON rendering of data-model values.
//!
//! Links become `{"$link": "<cid>"}`, bytes `{"$bytes": "<base64 without padding>"}`; properties keep the order they
//! were decoded in. Writing goes straight into a byte buffer, since every record that is read passes here.

use crate::{
    cbor::{self, CborError, DEPTH_MAX, Reader, Visit, Writer, canonical_order},
    cid::{CidBuf, CidRef},
    multibase,
    value::Value,
};

/// Appends a value as lex-JSON.
///
/// Integers are written in full, beyond 2^53 too. Floats are written as JavaScript writes them.
pub fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            out.push(b'{');
            for (i, (key, value)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_text(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
        scalar => write_scalar(scalar, out),
    }
}

/// Appends the lex-JSON of one CBOR item without building it in memory.
///
/// The item is checked as by [`cbor::decode`]; on an error `out` is cut back to where it was.
pub fn write_cbor(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CborError> {
    let start = out.len();
    // Most records grow by about a tenth: quotes and commas for head bytes, and base32 for links.
    out.reserve(bytes.len() + bytes.len() / 4);
    let mut reader = Reader::new(bytes);
    let result = reader.walk(&mut JsonOut(out)).and_then(|()| reader.end());
    if result.is_err() {
        out.truncate(start);
    }
    result
}

struct JsonOut<'o>(&'o mut Vec<u8>);

impl Visit for JsonOut<'_> {
    fn scalar(&mut self, value: &Value<'_>) {
        write_scalar(value, self.0);
    }

    fn open_list(&mut self) {
        self.0.push(b'[');
    }

    fn item(&mut self, first: bool) {
        if !first {
            self.0.push(b',');
        }
    }

    fn close_list(&mut self) {
        self.0.push(b']');
    }

    fn open_map(&mut self) {
        self.0.push(b'{');
    }

    fn property(&mut self, first: bool, key: &str) {
        if !first {
            self.0.push(b',');
        }
        write_text(key, self.0);
        self.0.push(b':');
    }

    fn close_map(&mut self) {
        self.0.push(b'}');
    }
}

fn write_scalar(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(int) => write_int(*int, out),
        Value::BigInt(int) => out.extend_from_slice(int.to_string().as_bytes()),
        Value::Float(float) => write_float(*float, out),
        Value::Text(text) => write_text(text, out),
        Value::Bytes(bytes) => {
            out.extend_from_slice(b"{\"$bytes\":\"");
            multibase::base64_encode(bytes, out);
            out.extend_from_slice(b"\"}");
        }
        Value::Link(cid) => write_link(*cid, out),
        Value::List(_) | Value::Map(_) => write(value, out),
    }
}

/// Appends `{"$link":"…"}`.
pub fn write_link(cid: CidRef<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"$link\":\"");
    cid.write_text(out);
    out.extend_from_slice(b"\"}");
}

/// Appends a decimal integer.
pub fn write_int(int: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), int.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if int < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a float the way JavaScript prints numbers: the shortest digits that read back the same, plain between
/// 1e-7 and 1e21, with an exponent beyond. Not finite becomes null.
fn write_float(float: f64, out: &mut Vec<u8>) {
    if !float.is_finite() {
        return out.extend_from_slice(b"null");
    }
    if float == 0.0 {
        return out.push(b'0'); // minus zero too
    }
    let text = format!("{:e}", float.abs());
    let (mantissa, exponent) = text.split_once('e').expect("exponent notation has an e");
    let exponent: i32 = exponent.parse().expect("the exponent is a small integer");
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if float < 0.0 {
        out.push(b'-');
    }
    let places = digits.len() as i32;
    let plain = match exponent {
        0..21 if places <= exponent + 1 => digits + &"0".repeat((exponent + 1 - places) as usize),
        0..21 => format!("{}.{}", &digits[..exponent as usize + 1], &digits[exponent as usize + 1..]),
        -6..0 => format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        _ => {
            let point = if places > 1 { "." } else { "" };
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}{point}{}e{sign}{}", &digits[..1], &digits[1..], exponent.abs())
        }
    };
    out.extend_from_slice(plain.as_bytes());
}

/// Appends a JSON string: quotes, backslashes and control characters are escaped, everything else is kept.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = first_to_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// The first quote, backslash or control character; eight bytes are looked at together.
fn first_to_escape(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        // The high bit of a lane is set where the byte is below 0x20, a quote or a backslash. Borrows can also set
        // lanes above such a byte, which does no harm: any hit sends us to the exact search below.
        let below = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES) & !(word ^ (ONES * 0x22));
        let slash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES) & !(word ^ (ONES * 0x5c));
        if (below | quote | slash) & HIGH != 0 {
            break;
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\').map(|found| at + found)
}

/// Why JSON could not be read as lex-JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// `{"$link": …}` with something that is not a CID.
    #[error("$link is not a CID")]
    Link,
    /// `{"$bytes": …}` with something that is not base64.
    #[error("$bytes is not base64")]
    Bytes,
    /// Nesting beyond [`DEPTH_MAX`].
    #[error("JSON nested too deep")]
    TooDeep,
}

/// The canonical CBOR of lex-JSON.
///
/// A number with a fraction becomes a float, which the data model knows and no lexicon accepts; a whole one becomes
/// an integer however it was written.
pub fn to_cbor(json: &serde_json::Value) -> Result<Vec<u8>, JsonError> {
    let mut writer = Writer::with_capacity(256);
    item_to_cbor(json, 0, &mut writer)?;
    Ok(writer.into_bytes())
}

fn item_to_cbor(json: &serde_json::Value, depth: usize, writer: &mut Writer) -> Result<(), JsonError> {
    use serde_json::Value as Json;
    match json {
        Json::Null => drop(writer.null()),
        Json::Bool(flag) => drop(writer.flag(*flag)),
        Json::Number(number) => {
            let value = match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(int), ..) => Value::Int(int),
                (None, Some(big), _) => Value::BigInt(i128::from(big)),
                (None, None, Some(float)) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_991.0 => {
                    Value::Int(float as i64)
                }
                (None, None, float) => Value::Float(float.unwrap_or(f64::NAN)),
            };
            writer.value(&value);
        }
        Json::String(text) => drop(writer.text(text)),
        Json::Array(items) => {
            let depth = deeper(depth)?;
            writer.list(items.len());
            for item in items {
                item_to_cbor(item, depth, writer)?;
            }
        }
        Json::Object(map) => {
            if map.len() == 1 {
                if let Some(link) = map.get("$link") {
                    let cid = link.as_str().and_then(|text| CidBuf::parse(text).ok()).ok_or(JsonError::Link)?;
                    writer.link(cid.as_ref());
                    return Ok(());
                }
                if let Some(bytes) = map.get("$bytes") {
                    let bytes = bytes.as_str().and_then(multibase::base64_decode).ok_or(JsonError::Bytes)?;
                    writer.bytes(&bytes);
                    return Ok(());
                }
            }
            let depth = deeper(depth)?;
            let mut entries: Vec<(&String, &Json)> = map.iter().collect();
            entries.sort_by(|a, b| canonical_order(a.0, b.0));
            writer.map(entries.len());
            for (key, value) in entries {
                writer.text(key);
                item_to_cbor(value, depth, writer)?;
            }
        }
    }
    Ok(())
}

fn deeper(depth: usize) -> Result<usize, JsonError> {
    if depth >= DEPTH_MAX { Err(JsonError::TooDeep) } else { Ok(depth + 1) }
}

/// The lex-JSON text of one CBOR item, for tests, logs and tools.
pub fn text_of_cbor(bytes: &[u8]) -> Result<String, CborError> {
    cbor::check(bytes)?;
    let mut out = Vec::new();
    write_cbor(bytes, &mut out)?;
    Ok(String::from_utf8(out).expect("JSON is written from UTF-8 only"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::tests::any_value;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(value: &Value<'_>) -> String {
        let mut out = Vec::new();
        write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn links_bytes_and_order() {
        let link = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
        let cbor =
            to_cbor(&json!({ "longer": [1, null, true], "b": {"$bytes": "AAEC"}, "a": {"$link": link} })).unwrap();
        let want = format!(r#"{{"a":{{"$link":"{link}"}},"b":{{"$bytes":"AAEC"}},"longer":[1,null,true]}}"#);
        assert_eq!(text_of_cbor(&cbor).unwrap(), want);
        // A map that is not in canonical order keeps the order of its bytes.
        assert_eq!(text_of_cbor(&[0xa2, 0x61, b'b', 1, 0x61, b'a', 2]).unwrap(), r#"{"b":1,"a":2}"#);
    }

    #[test]
    fn floats_look_like_javascript() {
        for (float, want) in [
            (1.0, "1"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (123456.789, "123456.789"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e-7, "1.25e-7"),
            (0.000001, "0.000001"),
            (1.234e25, "1.234e+25"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(text(&Value::Float(float)), want);
        }
    }

    #[test]
    fn integers_in_full() {
        assert_eq!(text(&Value::Int(i64::MIN)), "-9223372036854775808");
        assert_eq!(text(&Value::Int(0)), "0");
        assert_eq!(text(&Value::BigInt(u64::MAX.into())), "18446744073709551615");
    }

    #[test]
    fn strings_are_escaped_as_json_demands_and_no_more() {
        let odd = "a\"b\\c\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}\u{2028}é😀";
        let want = "\"a\\\"b\\\\c\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}\u{2028}é😀\"";
        assert_eq!(text(&Value::Text(odd)), want);
    }

    #[test]
    fn bad_json_is_refused() {
        assert_eq!(to_cbor(&json!({"$link": "bafy"})), Err(JsonError::Link));
        assert_eq!(to_cbor(&json!({"$link": 3})), Err(JsonError::Link));
        assert_eq!(to_cbor(&json!({"$bytes": "A"})), Err(JsonError::Bytes));
        // With a second property it is an ordinary map.
        assert!(to_cbor(&json!({"$link": "x", "y": 1})).is_ok());
        let mut deep = json!(null);
        for _ in 0..=DEPTH_MAX {
            deep = json!([deep]);
        }
        assert_eq!(to_cbor(&deep), Err(JsonError::TooDeep));
        assert_eq!(to_cbor(&json!(1e3)).unwrap(), to_cbor(&json!(1000)).unwrap());
    }

    #[test]
    fn a_bad_item_leaves_no_half_text() {
        let mut out = b"x".to_vec();
        assert!(write_cbor(&[0x82, 0x01], &mut out).is_err());
        assert!(write_cbor(&[0xa2, 0x61, b'a', 1, 0x61, b'a', 2], &mut out).is_err());
        assert!(write_cbor(&[0x01, 0x01], &mut out).is_err());
        assert_eq!(out, b"x");
    }

    proptest! {
        #[test]
        fn both_writers_agree_and_the_text_is_json(owned in any_value()) {
            let bytes = cbor::encode(&owned.borrow());
            let direct = text_of_cbor(&bytes).unwrap();
            prop_assert_eq!(&direct, &text(&cbor::decode(&bytes).unwrap()));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&direct).is_ok());
        }

        #[test]
        fn strings_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            write_text(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
