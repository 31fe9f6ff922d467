//! The meta protocol of memcached: what we ask, byte by byte, and what it may answer. Pure: no socket, no clock.
//!
//! ```text
//! mg KEY v c O<opaque> [N<seconds> R<seconds>]   VA <bytes> c<cas> O<opaque> [W] [Z] | HD | EN O<opaque>
//! ms KEY <bytes> O<opaque> T<seconds> [C<cas>]   HD | NS | EX | NF, each with O<opaque>
//! md KEY O<opaque> [C<cas>]                      HD | EX | NF, each with O<opaque>
//! mn                                             MN
//! ```
//!
//! Everything carries an opaque number, so that an answer that belongs to another question is seen. Answers come in the
//! order of questions. What the decoder does not understand ends the connection: there is no way back into step.

use bytes::{Buf, Bytes, BytesMut};

/// Longest line of an answer. What we ask for fits in a third of it.
pub const LINE_BYTES_MAX: usize = 512;

/// Longest key, by the protocol.
pub const KEY_BYTES_MAX: usize = 250;

/// Asks for a value and its number; with a lease also takes the right to fill what is not there.
pub fn encode_get(out: &mut BytesMut, key: &[u8], opaque: u32, lease: Option<LeaseTerms>) {
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(key);
    out.extend_from_slice(b" v c O");
    number(out, opaque.into());
    if let Some(terms) = lease {
        out.extend_from_slice(b" N");
        number(out, terms.stub_seconds.into());
        if terms.refresh_seconds > 0 {
            out.extend_from_slice(b" R");
            number(out, terms.refresh_seconds.into());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// How long a lease holds, and how long before its end a value is loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long a key is marked as being filled.
    pub stub_seconds: u32,
    /// One reader of a value with less than this to live is told to load it again; 0: nobody.
    pub refresh_seconds: u32,
}

/// Puts a value; with a number only if the item still has that number.
pub fn encode_set(out: &mut BytesMut, key: &[u8], opaque: u32, value: &[u8], ttl_seconds: u32, cas: Option<u64>) {
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(key);
    out.extend_from_slice(b" ");
    number(out, value.len() as u64);
    out.extend_from_slice(b" O");
    number(out, opaque.into());
    out.extend_from_slice(b" T");
    number(out, ttl_seconds.into());
    if let Some(cas) = cas {
        out.extend_from_slice(b" C");
        number(out, cas);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Removes a key; with a number only if the item still has that number.
pub fn encode_delete(out: &mut BytesMut, key: &[u8], opaque: u32, cas: Option<u64>) {
    out.extend_from_slice(b"md ");
    out.extend_from_slice(key);
    out.extend_from_slice(b" O");
    number(out, opaque.into());
    if let Some(cas) = cas {
        out.extend_from_slice(b" C");
        number(out, cas);
    }
    out.extend_from_slice(b"\r\n");
}

/// Asks for nothing but an answer.
pub fn encode_noop(out: &mut BytesMut) {
    out.extend_from_slice(b"mn\r\n");
}

fn number(out: &mut BytesMut, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Whether a key may be sent as it is.
pub fn is_plain_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.iter().all(|b| (0x21..0x7f).contains(b))
}

/// The first word of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `HD`: done.
    Done,
    /// `VA`: a value follows.
    Value,
    /// `EN`: no such key.
    Miss,
    /// `NS`: not stored.
    NotStored,
    /// `EX`: the item has another number.
    Exists,
    /// `NF`: there is no item to change.
    NotFound,
    /// `MN`: the answer to nothing.
    Noop,
    /// `SERVER_ERROR out of memory ...`: this one question could not be done, and the connection is in step.
    NoMemory,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its first word.
    pub status: Status,
    /// The value; empty if there is none, and for a key that is being filled.
    pub value: Bytes,
    /// The number we gave the question.
    pub opaque: Option<u32>,
    /// The number of the item.
    pub cas: Option<u64>,
    /// `W`: we have the right to fill.
    pub won: bool,
    /// `Z`: somebody else has it.
    pub taken: bool,
    /// `X`: the item was marked as out of date.
    pub stale: bool,
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A line without an end.
    Line,
    /// A first word that is none.
    Status,
    /// A number that is none, or is said twice.
    Number,
    /// A value longer than we ever put.
    Length,
    /// A value that does not end where it should.
    End,
    /// `ERROR`, `CLIENT_ERROR`, or a `SERVER_ERROR` that is not about memory.
    Refused,
    /// An answer to another question.
    Opaque,
}

/// Takes the next answer off the front of what was read. `None`: more bytes are needed.
///
/// No answer makes it keep more than `value_bytes_max` and a line.
pub fn decode(input: &mut BytesMut, value_bytes_max: usize) -> Result<Option<Response>, Malformed> {
    let window = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|b| *b == b'\n') else {
        return if window.len() == LINE_BYTES_MAX { Err(Malformed::Line) } else { Ok(None) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(Malformed::Line)?;
    let mut words = line.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let status = match words.next().ok_or(Malformed::Status)? {
        b"HD" => Status::Done,
        b"VA" => Status::Value,
        b"EN" => Status::Miss,
        b"NS" => Status::NotStored,
        b"EX" => Status::Exists,
        b"NF" => Status::NotFound,
        b"MN" => Status::Noop,
        b"SERVER_ERROR" if line.starts_with(b"SERVER_ERROR out of memory") => Status::NoMemory,
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => return Err(Malformed::Refused),
        _ => return Err(Malformed::Status),
    };
    let mut response =
        Response { status, value: Bytes::new(), opaque: None, cas: None, won: false, taken: false, stale: false };
    if status == Status::NoMemory {
        input.advance(end + 1);
        return Ok(Some(response));
    }
    let length = match status {
        Status::Value => {
            let length = parse(words.next().ok_or(Malformed::Number)?)?;
            usize::try_from(length).ok().filter(|n| *n <= value_bytes_max).ok_or(Malformed::Length)?
        }
        _ => 0,
    };
    for word in words {
        let (flag, token) = (word[0], &word[1..]);
        match flag {
            b'c' if response.cas.is_none() => response.cas = Some(parse(token)?),
            b'O' if response.opaque.is_none() => {
                response.opaque = Some(u32::try_from(parse(token)?).map_err(|_| Malformed::Number)?);
            }
            b'c' | b'O' => return Err(Malformed::Number),
            b'W' => response.won = true,
            b'Z' => response.taken = true,
            b'X' => response.stale = true,
            // Newer servers may say more than they were asked for.
            _ => {}
        }
    }
    if status != Status::Value {
        input.advance(end + 1);
        return Ok(Some(response));
    }
    let whole = end + 1 + length + 2;
    if input.len() < whole {
        // So that a long value is read into one piece of memory.
        input.reserve(whole - input.len());
        return Ok(None);
    }
    if &input[whole - 2..whole] != b"\r\n" {
        return Err(Malformed::End);
    }
    input.advance(end + 1);
    response.value = input.split_to(length).freeze();
    input.advance(2);
    Ok(Some(response))
}

fn parse(digits: &[u8]) -> Result<u64, Malformed> {
    if digits.is_empty() || digits.len() > 20 {
        return Err(Malformed::Number);
    }
    digits.iter().try_fold(0_u64, |n, b| {
        let digit = b.checked_sub(b'0').filter(|d| *d < 10).ok_or(Malformed::Number)?;
        n.checked_mul(10).and_then(|n| n.checked_add(digit.into())).ok_or(Malformed::Number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 4096;

    fn all(mut input: BytesMut) -> (Vec<Response>, Result<(), Malformed>) {
        let mut got = Vec::new();
        loop {
            match decode(&mut input, MAX) {
                Ok(Some(response)) => got.push(response),
                Ok(None) => return (got, Ok(())),
                Err(e) => return (got, Err(e)),
            }
        }
    }

    fn one(text: &[u8]) -> Result<Option<Response>, Malformed> {
        decode(&mut BytesMut::from(text), MAX)
    }

    #[test]
    fn answers_of_a_real_server_are_read() {
        let hit = one(b"VA 5 c2 t100 f1 O2 W\r\nhello\r\n").unwrap().unwrap();
        assert_eq!(
            (&hit.value[..], hit.cas, hit.opaque, hit.won, hit.taken),
            (&b"hello"[..], Some(2), Some(2), true, false)
        );
        let stub = one(b"VA 0 c1 t3 f0 O2 Z\r\n\r\n").unwrap().unwrap();
        assert!(stub.value.is_empty() && stub.taken && !stub.won);
        for (line, status) in [
            (&b"EN O7\r\n"[..], Status::Miss),
            (b"EN\r\n", Status::Miss),
            (b"HD O4 c2\r\n", Status::Done),
            (b"EX O3\r\n", Status::Exists),
            (b"NF O3\r\n", Status::NotFound),
            (b"NS O3\r\n", Status::NotStored),
            (b"MN\r\n", Status::Noop),
            (b"SERVER_ERROR out of memory storing object\r\n", Status::NoMemory),
        ] {
            assert_eq!(one(line).unwrap().unwrap().status, status);
        }
    }

    #[test]
    fn what_is_no_answer_ends_the_connection() {
        for (line, why) in [
            (&b"ERROR\r\n"[..], Malformed::Refused),
            (b"CLIENT_ERROR bad data chunk\r\n", Malformed::Refused),
            (b"SERVER_ERROR object too large for cache\r\n", Malformed::Refused),
            (b"XX\r\n", Malformed::Status),
            (b"\r\n", Malformed::Status),
            (b"HD\n", Malformed::Line),
            (b"VA\r\n", Malformed::Number),
            (b"VA -1 O1\r\n", Malformed::Number),
            (b"VA 99999999999999999999 O1\r\n", Malformed::Number),
            (b"VA 5000 O1\r\n", Malformed::Length),
            (b"VA 2 O1\r\nabcd", Malformed::End),
            (b"HD O1 O2\r\n", Malformed::Number),
            (b"HD O4294967296\r\n", Malformed::Number),
        ] {
            assert_eq!(one(line), Err(why), "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(one(&[b'x'; LINE_BYTES_MAX]), Err(Malformed::Line));
        assert_eq!(one(b"VA 5 O1\r\nhel"), Ok(None));
    }

    #[test]
    fn questions_are_spelled_as_the_protocol_has_them() {
        let mut out = BytesMut::new();
        encode_get(&mut out, b"k", 7, Some(LeaseTerms { stub_seconds: 3, refresh_seconds: 60 }));
        encode_get(&mut out, b"k", u32::MAX, None);
        encode_set(&mut out, b"k", 0, b"v\r\n", 10, Some(u64::MAX));
        encode_set(&mut out, b"k", 1, b"", 0, None);
        encode_delete(&mut out, b"k", 2, Some(3));
        encode_noop(&mut out);
        assert_eq!(
            &out[..],
            &b"mg k v c O7 N3 R60\r\nmg k v c O4294967295\r\nms k 3 O0 T10 C18446744073709551615\r\nv\r\n\r\n\
            ms k 0 O1 T0\r\n\r\nmd k O2 C3\r\nmn\r\n"[..]
        );
    }

    fn response() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Option<u32>, Option<u64>, bool)> {
        (
            proptest::collection::vec(any::<u8>(), 0..200),
            proptest::option::of(any::<u32>()),
            proptest::option::of(any::<u64>()),
            any::<bool>(),
        )
            .prop_map(|(value, opaque, cas, won)| {
                let mut line = format!("VA {}", value.len()).into_bytes();
                opaque.iter().for_each(|o| line.extend_from_slice(format!(" O{o}").as_bytes()));
                cas.iter().for_each(|c| line.extend_from_slice(format!(" c{c}").as_bytes()));
                line.extend_from_slice(if won { b" W\r\n" } else { b"\r\n" });
                line.extend_from_slice(&value);
                line.extend_from_slice(b"\r\n");
                (line, value, opaque, cas, won)
            })
    }

    proptest! {
        #[test]
        fn values_come_back_whole_however_they_are_cut(
            responses in proptest::collection::vec(response(), 1..6), cut in 1_usize..40,
        ) {
            let sent: Vec<u8> = responses.iter().flat_map(|r| r.0.clone()).collect();
            let mut input = BytesMut::new();
            let mut got = Vec::new();
            for piece in sent.chunks(cut) {
                input.extend_from_slice(piece);
                while let Some(response) = decode(&mut input, MAX).unwrap() {
                    got.push(response);
                }
            }
            prop_assert!(input.is_empty());
            prop_assert_eq!(got.len(), responses.len());
            for (got, (_, value, opaque, cas, won)) in got.iter().zip(&responses) {
                prop_assert_eq!(&got.value[..], &value[..]);
                prop_assert_eq!((got.opaque, got.cas, got.won), (*opaque, *cas, *won));
            }
        }
    }

    /// Random bytes, and good answers with random damage: no panic, no value longer than allowed, and no end without
    /// progress. `MEMCACHED_FUZZ_CASES` makes it as long as wanted.
    #[test]
    fn garbage_never_panics() {
        let cases: u64 = std::env::var("MEMCACHED_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
        let words: [&[u8]; 16] = [
            b"VA ",
            b"HD",
            b"EN",
            b"NF",
            b"EX",
            b"MN",
            b"\r\n",
            b" O1",
            b" c18446744073709551616",
            b" W",
            b"10 ",
            b"4097",
            b"SERVER_ERROR ",
            b"out of memory",
            b"\0",
            b"VA 3 O1\r\nabc\r\n",
        ];
        let mut seed = 0x9e37_79b9_u64;
        let mut next = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let (mut refused, mut read) = (0_u64, 0_u64);
        for _ in 0..cases {
            let mut input = BytesMut::new();
            for _ in 0..=next(8) {
                if next(4) == 0 {
                    let n = next(40);
                    (0..n).for_each(|_| input.extend_from_slice(&[next(256) as u8]));
                } else {
                    input.extend_from_slice(words[next(16) as usize]);
                }
            }
            let (got, end) = all(input);
            assert!(got.iter().all(|r| r.value.len() <= MAX));
            read += got.len() as u64;
            refused += u64::from(end.is_err());
        }
        assert!(refused > cases / 10 && read > cases / 100, "{refused} refused, {read} read: the cases are too tame");
    }
}
