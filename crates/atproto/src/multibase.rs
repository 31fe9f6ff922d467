//! The text encodings atproto uses: base32 (CIDs), base58btc (keys), base64 (bytes in JSON), hex, and the multibase
//! letters in front of them. Decoders refuse what the encoder would not have written, except where said otherwise.

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Marks a byte that is no symbol of an alphabet.
const NONE: u8 = 0xff;

const BASE32_VALUES: [u8; 256] = values_of(BASE32);
const BASE58_VALUES: [u8; 256] = values_of(BASE58);
const BASE64_VALUES: [u8; 256] = values_of(BASE64);
const BASE64_URL_VALUES: [u8; 256] = values_of(BASE64_URL);

/// Longest base58 text that is decoded, in characters. Decoding is quadratic; keys have about 48, old CIDs 46.
pub const BASE58_CHARS_MAX: usize = 128;

const fn values_of(alphabet: &[u8]) -> [u8; 256] {
    let mut values = [NONE; 256];
    let mut i = 0;
    while i < alphabet.len() {
        values[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    values
}

/// Appends `bytes` in lower-case base32 without padding.
pub fn base32_encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + (bytes.len() * 8).div_ceil(5), 0);
    base32_fill(bytes, &mut out[start..]);
}

/// Writes `bytes` in lower-case base32 over `out`, which must have exactly the room for it.
pub(crate) fn base32_fill(bytes: &[u8], out: &mut [u8]) {
    debug_assert_eq!(out.len(), (bytes.len() * 8).div_ceil(5));
    for (chunk, symbols) in bytes.chunks(5).zip(out.chunks_mut(8)) {
        let number = chunk.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)) << (40 - 8 * chunk.len());
        for (i, symbol) in symbols.iter_mut().enumerate() {
            *symbol = BASE32[(number >> (35 - 5 * i)) as usize & 31];
        }
    }
}

/// Reads lower-case base32 without padding into `out`; the length must be exactly right and left-over bits zero.
///
/// Returns `None`, with `out` in an unspecified state, for anything else.
pub fn base32_decode_into(text: &[u8], out: &mut [u8]) -> Option<()> {
    if text.len() != (out.len() * 8).div_ceil(5) {
        return None;
    }
    // Eight symbols are five bytes. Keys and CIDs are read so often that it shows whether they are taken one by one.
    let ((eights, text), (fives, out)) = (text.as_chunks::<8>(), out.as_chunks_mut::<5>());
    let mut seen = 0;
    for (symbols, bytes) in eights.iter().zip(fives) {
        let mut number = 0u64;
        for symbol in symbols {
            let value = BASE32_VALUES[usize::from(*symbol)];
            seen |= value;
            number = number << 5 | u64::from(value);
        }
        bytes.copy_from_slice(&number.to_be_bytes()[3..]);
    }
    // No symbol's value has this bit.
    if seen & 0x80 != 0 {
        return None;
    }
    let (mut acc, mut bits, mut at) = (0u32, 0u32, 0usize);
    for &symbol in text {
        let value = BASE32_VALUES[symbol as usize];
        if value == NONE {
            return None;
        }
        acc = (acc << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(at)? = (acc >> bits) as u8;
            at += 1;
            acc &= (1 << bits) - 1;
        }
    }
    (at == out.len() && acc == 0).then_some(())
}

/// Reads lower-case base32 without padding.
pub fn base32_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = vec![0; text.len() * 5 / 8];
    base32_decode_into(text.as_bytes(), &mut out)?;
    Some(out)
}

/// `bytes` in base58btc.
pub fn base58_encode(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    // Digits, least significant first.
    let mut digits: Vec<u8> = Vec::with_capacity(bytes.len() * 138 / 100 + 1);
    for &byte in &bytes[zeros..] {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let mut text = String::with_capacity(zeros + digits.len());
    text.extend(std::iter::repeat_n('1', zeros));
    text.extend(digits.iter().rev().map(|digit| char::from(BASE58[*digit as usize])));
    text
}

/// Reads base58btc of at most [`BASE58_CHARS_MAX`] characters.
pub fn base58_decode(text: &str) -> Option<Vec<u8>> {
    if text.len() > BASE58_CHARS_MAX {
        return None;
    }
    let zeros = text.bytes().take_while(|symbol| *symbol == b'1').count();
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    for symbol in text.bytes().skip(zeros) {
        let value = BASE58_VALUES[symbol as usize];
        if value == NONE {
            return None;
        }
        let mut carry = u32::from(value);
        for byte in &mut bytes {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(carry as u8);
            carry >>= 8;
        }
    }
    bytes.extend(std::iter::repeat_n(0, zeros));
    bytes.reverse();
    Some(bytes)
}

/// Appends `bytes` in standard base64 without padding.
pub fn base64_encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let symbol = |value: u32| BASE64[value as usize & 63];
    let mut chunks = bytes.chunks_exact(3);
    for chunk in &mut chunks {
        let n = u32::from(chunk[0]) << 16 | u32::from(chunk[1]) << 8 | u32::from(chunk[2]);
        out.extend_from_slice(&[symbol(n >> 18), symbol(n >> 12), symbol(n >> 6), symbol(n)]);
    }
    match *chunks.remainder() {
        [a] => {
            let n = u32::from(a) << 16;
            out.extend_from_slice(&[symbol(n >> 18), symbol(n >> 12)]);
        }
        [a, b] => {
            let n = u32::from(a) << 16 | u32::from(b) << 8;
            out.extend_from_slice(&[symbol(n >> 18), symbol(n >> 12), symbol(n >> 6)]);
        }
        _ => {}
    }
}

/// Reads standard base64, padded or not. Left-over bits must be zero.
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    decode_64(text, &BASE64_VALUES)
}

fn decode_64(text: &str, values: &[u8; 256]) -> Option<Vec<u8>> {
    let symbols = match text.strip_suffix("==") {
        Some(rest) if text.len().is_multiple_of(4) => rest,
        _ => match text.strip_suffix('=') {
            Some(rest) if text.len().is_multiple_of(4) => rest,
            _ => text,
        },
    };
    if symbols.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(symbols.len() * 3 / 4);
    let (mut acc, mut bits) = (0u32, 0u32);
    for symbol in symbols.bytes() {
        let value = values[symbol as usize];
        if value == NONE {
            return None;
        }
        acc = (acc << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((acc >> bits) as u8);
            acc &= (1 << bits) - 1;
        }
    }
    (acc == 0).then_some(out)
}

/// `bytes` in lower-case hexadecimal.
pub fn hex_encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads hexadecimal of either case.
pub fn hex_decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |symbol: u8| char::from(symbol).to_digit(16).map(|value| value as u8);
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Reads text with a multibase letter in front: `z` base58btc, `f F` hex, `b B` base32, `m` base64, `u U` base64url.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let letter = text.chars().next()?;
    let rest = &text[letter.len_utf8()..];
    match letter {
        'z' => base58_decode(rest),
        'f' | 'F' => hex_decode(rest),
        'b' => base32_decode(rest),
        'B' => base32_decode(&rest.to_ascii_lowercase()),
        'm' => base64_decode(rest),
        'u' | 'U' => decode_64(rest, &BASE64_URL_VALUES),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base32(bytes: &[u8]) -> String {
        let mut text = Vec::new();
        base32_encode(bytes, &mut text);
        String::from_utf8(text).unwrap()
    }

    fn base64(bytes: &[u8]) -> String {
        let mut text = Vec::new();
        base64_encode(bytes, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn known_texts() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base64(b"fooba"), "Zm9vYmE");
        assert_eq!(base58_encode(&[0, 0, 1]), "112");
        assert_eq!(base58_encode(b"Hello World!"), "2NEpo7TZRRrLZSi2U");
        assert_eq!(hex_encode(&[0xab, 0x01]), "ab01");
        assert_eq!(base64_decode("Zm9vYg==").unwrap(), b"foob");
        assert_eq!(base64_decode("Zm9vYg").unwrap(), b"foob");
    }

    #[test]
    fn refuses_what_no_encoder_writes() {
        assert_eq!(base32_decode("MZXW6"), None);
        assert_eq!(base32_decode("mz7"), None); // three symbols carry no whole number of bytes
        assert_eq!(base32_decode("mb"), None); // left-over bit set
        assert_eq!(base64_decode("Zm9vY"), None);
        assert_eq!(base64_decode("Zh"), None); // left-over bits set
        assert_eq!(base64_decode("Zm9v="), None);
        assert_eq!(base58_decode("0"), None);
        assert_eq!(base58_decode(&"2".repeat(BASE58_CHARS_MAX + 1)), None);
        assert_eq!(hex_decode("abc"), None);
        assert_eq!(decode("é"), None);
        assert_eq!(decode(""), None);
    }

    proptest! {
        #[test]
        fn every_encoding_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(base32_decode(&base32(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(base64_decode(&base64(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(hex_decode(&hex_encode(&bytes)), Some(bytes.clone()));
            let text = base58_encode(&bytes);
            prop_assert_eq!(base58_decode(&text), Some(bytes.clone()));
            prop_assert_eq!(decode(&format!("z{text}")), Some(bytes));
        }

        #[test]
        fn decoders_never_panic(text in "\\PC{0,40}") {
            let _ = (decode(&text), base32_decode(&text), base58_decode(&text), base64_decode(&text), hex_decode(&text));
        }
    }
}
