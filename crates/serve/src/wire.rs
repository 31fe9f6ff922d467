//! What can be told of an encoded message without decoding it.

/// Counts the top-level fields of an encoded message, and stops counting beyond `max`.
///
/// A list of a hundred thousand empty strings takes two bytes a string on the wire and twelve times that once it is
/// decoded, so the number of keys is known, and refused, before a list is built. Damage ends the count; the decoder is
/// the one who reports it.
pub(crate) fn count_fields(message: &[u8], max: usize) -> usize {
    let mut rest = message;
    let mut fields = 0;
    while !rest.is_empty() && fields <= max {
        let Some(tag) = varint(&mut rest) else { break };
        let skipped = match tag & 7 {
            0 => varint(&mut rest).is_some(),
            1 => skip(&mut rest, 8),
            2 => varint(&mut rest).is_some_and(|len| usize::try_from(len).is_ok_and(|len| skip(&mut rest, len))),
            5 => skip(&mut rest, 4),
            _ => false,
        };
        if !skipped {
            break;
        }
        fields += 1;
    }
    fields
}

fn skip(rest: &mut &[u8], bytes: usize) -> bool {
    match rest.get(bytes..) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (at, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn counts_what_a_decoder_would_put_into_a_list() {
        let uris: Vec<String> = (0..300).map(|n| format!("at://did:plc:{n}/app.bsky.feed.post/{n}")).collect();
        let request = gp_proto::GetPostRecordsRequest { uris, include_op_thread_metadata: true, ..Default::default() };
        let bytes = request.encode_to_vec();
        assert_eq!(count_fields(&bytes, 1000), 301);
        assert_eq!(count_fields(&bytes, 99), 100, "one more than allowed is enough to know");
        assert_eq!(count_fields(&[0x0a, 0, 0x0a, 0, 0x0a, 0], 1000), 3, "empty strings count");
        assert_eq!(count_fields(&[], 1000), 0);
    }

    #[test]
    fn damage_ends_the_count() {
        for bad in [
            &[0x0a, 5, 1][..],
            &[0xff; 20],
            &[0x0b],
            &[0x09, 1, 2],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(count_fields(bad, 10), 0, "{bad:?}");
        }
    }
}
