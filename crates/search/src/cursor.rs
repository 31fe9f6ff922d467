//! Page tokens.
//!
//! The first generation of calls keeps the shapes that clients hold: `<milliseconds>__<cid>` for records and
//! `<number>__<did>` for accounts. The second must be base64 of a JSON object. All of them say after which document the
//! next page begins; none counts documents, so nothing that is added meanwhile shifts a page.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use gp_index::{Error, Result, page::timed_cursor};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    find::{Order, Place, Rank},
    page::{Page, Standing},
};

/// Longest token that is looked at.
const CURSOR_BYTES_MAX: usize = 4_096;

const FORGIVING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const EITHER: [GeneralPurpose; 2] =
    [GeneralPurpose::new(&alphabet::STANDARD, FORGIVING), GeneralPurpose::new(&alphabet::URL_SAFE, FORGIVING)];

fn malformed() -> Error {
    Error::invalid("cursor", "is not a token this call gave: leave it out to begin again")
}

/// Where a list of records by time goes on. Empty is the first page.
pub(crate) fn read_timed(text: &str) -> Result<Option<Place>> {
    let Some(cursor) = timed_cursor(text)? else { return Ok(None) };
    let low = match cursor.tail.as_deref() {
        // After everything of this time and CID.
        None => 0,
        Some(tail) => u64::from(u32::from_be_bytes(tail.try_into().map_err(|_| malformed())?)),
    };
    let rank = Rank { primary: cursor.sort_at_us, tie: u64::from(cursor.tie) << 32 | low };
    Ok(Some(Place { tier: 0, rank }))
}

/// The token of a list of records by time.
pub(crate) fn timed(page: &Page) -> String {
    let Some(place) = page.next else { return String::new() };
    let millis = place.rank.primary.div_euclid(1000);
    // Others may share time and CID: the token says also which one it was.
    let low = place.rank.tie as u32;
    match page.hits.last().filter(|it| it.hit.place == place) {
        Some(Standing { cid, .. }) => format!("{millis}__{cid}~{low:08x}"),
        // The last one looked at no longer stands: its tie stands for its CID.
        None => format!("{millis}__t{:08x}~{low:08x}", place.rank.tie >> 32),
    }
}

/// Where a list of accounts goes on. A token of the reference, which orders otherwise, begins again.
pub(crate) fn read_ranked(text: &str) -> Result<Option<Place>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (number, did) = text.split_once("__").ok_or_else(malformed)?;
    if did.is_empty() {
        return Err(malformed());
    }
    let Some((tier, primary)) = number.split_once('.') else {
        return number.parse::<i64>().map(|_| None).map_err(|_| malformed());
    };
    let tier = tier.parse().map_err(|_| malformed())?;
    let primary = primary.parse().map_err(|_| malformed())?;
    let tie = match did.strip_prefix('~') {
        Some(hex) => u64::from_str_radix(hex, 16).map_err(|_| malformed())?,
        None => xxh3_64(did.as_bytes()),
    };
    Ok(Some(Place { tier, rank: Rank { primary, tie } }))
}

/// The token of a list of accounts.
pub(crate) fn ranked(page: &Page) -> String {
    let Some(Place { tier, rank }) = page.next else { return String::new() };
    match page.hits.last().filter(|it| it.hit.place.rank == rank) {
        Some(last) => format!("{tier}.{}__{}", rank.primary, last.hit.uri),
        None => format!("{tier}.{}__~{:016x}", rank.primary, rank.tie),
    }
}

/// What a token of the second generation holds. Large numbers are text: readers of JSON may round them.
#[derive(Serialize, Deserialize)]
struct Token {
    /// The order it belongs to.
    order: String,
    tier: u8,
    rank: String,
    tie: String,
}

fn name(order: Order) -> &'static str {
    match order {
        Order::Recent => "recent",
        Order::Top => "top",
        Order::Level => "level",
    }
}

/// Where a list of the second generation goes on.
pub(crate) fn read_v2(text: &str, order: Order) -> Result<Option<Place>> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > CURSOR_BYTES_MAX {
        return Err(malformed());
    }
    let json = EITHER.iter().find_map(|engine| engine.decode(text).ok()).ok_or_else(malformed)?;
    let token: Token = serde_json::from_slice(&json).map_err(|_| malformed())?;
    if token.order != name(order) {
        return Err(Error::invalid("cursor", "belongs to another order: leave it out when the order changes"));
    }
    let primary = token.rank.parse().map_err(|_| malformed())?;
    let tie = u64::from_str_radix(&token.tie, 16).map_err(|_| malformed())?;
    Ok(Some(Place { tier: token.tier, rank: Rank { primary, tie } }))
}

/// The token of a list of the second generation.
pub(crate) fn v2(page: &Page, order: Order) -> String {
    let Some(Place { tier, rank }) = page.next else { return String::new() };
    let token =
        Token { order: name(order).to_owned(), tier, rank: rank.primary.to_string(), tie: format!("{:x}", rank.tie) };
    STANDARD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::find::Hit;

    fn page(place: Place, uri: &str, cid: &str) -> Page {
        let hit = Hit { place, uri: uri.to_owned() };
        Page { hits: vec![Standing { hit, cid: cid.to_owned() }], next: Some(place), total: 1 }
    }

    #[test]
    fn tokens_read_as_they_were_written() {
        let cid = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
        let tie = u64::from(gp_atproto::compact::cid_tie_text(cid)) << 32 | 0xdead_beef;
        let place = Place { tier: 0, rank: Rank { primary: 1_700_000_000_123_000, tie } };
        let token = timed(&page(place, "at://x", cid));
        assert!(token.starts_with("1700000000123__bafy"), "{token}");
        assert_eq!(read_timed(&token).unwrap(), Some(place));
        assert_eq!(read_timed(&timed(&Page { next: Some(place), ..Page::default() })).unwrap(), Some(place));

        let did = "did:web:odd__name.test";
        let place = Place { tier: 2, rank: Rank { primary: 9 << 52, tie: xxh3_64(did.as_bytes()) } };
        assert_eq!(read_ranked(&ranked(&page(place, did, ""))).unwrap(), Some(place));
        assert_eq!(read_ranked(&ranked(&Page { next: Some(place), ..Page::default() })).unwrap(), Some(place));

        let token = v2(&page(place, did, ""), Order::Top);
        assert_eq!(read_v2(&token, Order::Top).unwrap(), Some(place));
        assert!(read_v2(&token, Order::Recent).is_err());
        assert!(serde_json::from_slice::<serde_json::Value>(&STANDARD.decode(token).unwrap()).unwrap().is_object());
    }

    #[test]
    fn tokens_of_the_reference_are_taken() {
        let cid = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
        assert!(read_timed(&format!("1700000000123__{cid}")).unwrap().is_some());
        assert_eq!(read_ranked("1700000000123__did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap(), None);
        for bad in ["x", "1", "__", "1__", "a__b"] {
            assert!(read_ranked(bad).is_err(), "{bad}");
        }
        for bad in ["x", "e30=", "W10=", "bnVsbA=="] {
            assert!(read_v2(bad, Order::Top).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_token_is_too_strange(text in "\\PC{0,60}|[0-9a-z_.~=]{0,60}") {
            let _ = (read_timed(&text), read_ranked(&text), read_v2(&text, Order::Recent));
        }
    }
}
