//! Sitemaps: lists of profiles for search engines, one page a day and bucket.
//!
//! No page is made in this version; the index says so, and every page is absent.

use gp_proto as proto;

use crate::{Cx, Error, Result};

/// A sitemap index without pages, as one gzip member.
const EMPTY_INDEX: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<sitemapindex xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\"></sitemapindex>\n";

/// The list of pages.
pub async fn get_sitemap_index(
    _cx: &Cx,
    _req: proto::GetSitemapIndexRequest,
) -> Result<proto::GetSitemapIndexResponse> {
    Ok(proto::GetSitemapIndexResponse { sitemap: stored_gzip(EMPTY_INDEX.as_bytes()).into() })
}

/// One page.
pub async fn get_sitemap_page(_cx: &Cx, _req: proto::GetSitemapPageRequest) -> Result<proto::GetSitemapPageResponse> {
    Err(Error::Absent("sitemap page"))
}

/// A gzip member that holds at most 65,535 bytes uncompressed (RFC 1951 3.2.4, RFC 1952).
fn stored_gzip(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let bytes = &bytes[..usize::from(len)];
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&(!len).to_le_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    out.extend_from_slice(&u32::from(len).to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(stored_gzip(b"ab").len(), 10 + 5 + 2 + 8);
    }
}
