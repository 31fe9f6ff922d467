//! Limits and page tokens.
//!
//! A token of a timed list is `<milliseconds>__<cid>`, as clients of the reference hold them. Where the next row shares
//! time and CID with the last one of the page, the token says also which row it was, so that twins are not lost.

use gp_atproto::compact;
use gp_store::{Page, Row, Scan};

use crate::{Cx, Error, Result, atom::Parts, records};

/// Largest page; a larger limit is taken as this. The AppView asks for at most 100.
pub const LIMIT_MAX: i32 = 1000;

/// A limit as the contract means it: zero and less is an empty page.
pub fn limit(asked: i32) -> usize {
    usize::try_from(asked.clamp(0, LIMIT_MAX)).unwrap_or(0)
}

/// Where a timed list goes on: after everything of this time and tie, or after one exact row of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedCursor {
    /// In microseconds.
    pub sort_at_us: i64,
    /// From the CID.
    pub tie: u32,
    /// What follows time and tie in the position of the last row, if others share them.
    pub tail: Option<Vec<u8>>,
}

/// Reads the token of a timed list. Empty is the first page.
pub fn timed_cursor(text: &str) -> Result<Option<TimedCursor>> {
    if text.is_empty() {
        return Ok(None);
    }
    let malformed = || Error::invalid("cursor", "is not a token this call gave: leave it out to begin again");
    let (millis, rest) = text.split_once("__").ok_or_else(malformed)?;
    let millis = leading_integer(millis).ok_or_else(malformed)?;
    let (cid, tail) = match rest.split_once('~') {
        Some((cid, tail)) => (cid, Some(unhex(tail).ok_or_else(malformed)?)),
        None => (rest, None),
    };
    if cid.is_empty() || cid.contains("__") {
        return Err(malformed());
    }
    let sort_at_us = millis.checked_mul(1000).ok_or_else(malformed)?;
    Ok(Some(TimedCursor { sort_at_us, tie: tie_of(cid), tail }))
}

/// The tie of a CID, or one written out where the CID was no longer known.
fn tie_of(cid: &str) -> u32 {
    cid.strip_prefix('t')
        .filter(|hex| hex.len() == 8)
        .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        .unwrap_or_else(|| compact::cid_tie_text(cid))
}

/// The integer that a text begins with, as the reference reads it.
fn leading_integer(text: &str) -> Option<i64> {
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || (*i == 0 && *c == '-')))
        .map_or(text.len(), |(i, _)| i);
    let n: i64 = text[..end].parse().ok()?;
    // The range of dates.
    (n.abs() <= 8_640_000_000_000_000).then_some(n)
}

/// Positions that a timed scan of one kind goes on from.
pub fn resume(scan: Scan, kind: u8, cursor: Option<&TimedCursor>) -> Scan {
    let Some(cursor) = cursor else { return scan };
    let mut place = Vec::with_capacity(64);
    place.push(kind);
    place.extend_from_slice(&timed_position(cursor.sort_at_us, cursor.tie));
    match &cursor.tail {
        Some(tail) => {
            place.extend_from_slice(tail);
            scan.after(place)
        }
        None => {
            // After every position with this time and tie: the next larger number of twelve bytes.
            let from = place.len() - 12;
            for at in (from..place.len()).rev() {
                let (next, carry) = place[at].overflowing_add(1);
                place[at] = next;
                if !carry {
                    return scan.from(place);
                }
            }
            place.truncate(1);
            place[0] = place[0].saturating_add(1);
            scan.from(place)
        }
    }
}

/// Twelve bytes: time, later first, and tie, larger first.
pub fn timed_position(sort_at_us: i64, tie: u32) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&(!(sort_at_us as u64 ^ (1 << 63))).to_be_bytes());
    out[8..].copy_from_slice(&(!tie).to_be_bytes());
    out
}

/// Reads one page of a timed list: `limit` rows, and one more to know whether there are more.
pub async fn timed(cx: &Cx, scan: Scan, kind: u8, limit: usize, cursor: Option<&TimedCursor>) -> Result<Page> {
    if limit == 0 {
        return Ok(Page::default());
    }
    Ok(cx.store.scan(resume(scan, kind, cursor).limit(limit + 1)).await?)
}

/// Cuts a page to its limit and makes the token of what follows: empty when nothing does. `uri_of` names the record
/// whose CID the token carries.
pub async fn cut(
    cx: &Cx,
    rows: &mut Vec<Row>,
    limit: usize,
    uri_of: impl Fn(&Row) -> Result<String>,
) -> Result<String> {
    if rows.len() <= limit || limit == 0 {
        return Ok(String::new());
    }
    let next = rows[limit].clustering().to_vec();
    rows.truncate(limit);
    let Some(last) = rows.last() else { return Ok(String::new()) };
    let tail = twin_tail(last.clustering(), &next);
    let sort_at_us = sort_at_of(last.clustering())?;
    token(cx, sort_at_us, &uri_of(last)?, last.clustering(), tail).await
}

/// The time of a timed position.
pub fn sort_at_of(clustering: &[u8]) -> Result<i64> {
    let mut parts = Parts::of("timed", clustering);
    parts.tag()?;
    parts.micros_desc()
}

/// What tells the last row from a twin that follows it; nothing if none follows.
pub fn twin_tail(last: &[u8], next: &[u8]) -> Option<Vec<u8>> {
    (last.len() > 13 && next.len() > 13 && last[..13] == next[..13]).then(|| last[13..].to_vec())
}

/// Writes the token of a timed list.
pub async fn token(cx: &Cx, sort_at_us: i64, uri: &str, clustering: &[u8], tail: Option<Vec<u8>>) -> Result<String> {
    let cid = match records::key_of(uri) {
        Some(key) => match cx.store.get_one(&key).await? {
            Some(served) => cx.damage.or_absent(records::served_cid(&served))?,
            None => None,
        },
        None => None,
    };
    let cid = match cid {
        Some(cid) => cid,
        // The record is gone since: its tie stands for it.
        None => format!("t{:08x}", Parts::of("timed", clustering.get(9..).unwrap_or_default()).u32_desc()?),
    };
    let mut text = format!("{}__{cid}", sort_at_us.div_euclid(1000));
    if let Some(tail) = tail {
        text.push('~');
        for byte in tail {
            text.push_str(&format!("{byte:02x}"));
        }
    }
    Ok(text)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || text.len() % 2 != 0 || text.len() > 4096 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_the_reference_are_read_and_nonsense_is_refused() {
        let cid = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";
        let cursor = timed_cursor(&format!("1700000000123__{cid}")).unwrap().unwrap();
        assert_eq!(cursor.sort_at_us, 1_700_000_000_123_000);
        assert_eq!(cursor.tail, None);
        assert_eq!(timed_cursor(&format!("-5__{cid}~00ff")).unwrap().unwrap().tail, Some(vec![0, 255]));
        for bad in
            ["x", "1", "__", "1__", "__x", "a__b", "1__a__b", "1__a~", "1__a~0", "1__a~zz", "99999999999999999__a"]
        {
            assert!(timed_cursor(bad).is_err(), "{bad}");
        }
    }
}
