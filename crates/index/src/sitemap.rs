//! Sitemaps: the profiles of accounts for search engines, one page a day of first sight and bucket.
//!
//! Pages are made when they are asked for. A day whose accounts do not fit into one page is cut between hours, and an
//! hour that does not fit is cut into parts, so what is on a page is a function of the accounts alone. Left out are
//! accounts without a handle, accounts hidden by their hosts or by this service, and accounts whose profile asks not to
//! be shown to those who are not signed in; a page may therefore hold fewer addresses than accounts, even none.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use gp_atproto::datetime;
use gp_proto as proto;
use gp_store::Key;

use crate::{
    Cx, Error, Result, actors, moderation,
    newcomers::{self, Day},
    profiles, records,
};

/// Accounts of one page: as many addresses as the protocol of sitemaps allows.
const ACCOUNTS_PER_PAGE: usize = 50_000;

/// Pages of the index: as many as the protocol allows.
const PAGES_MAX: usize = 50_000;

/// Accounts that are looked up in one go.
const ACCOUNTS_AT_ONCE: usize = 2_000;

const DAY_SECONDS: i64 = 86_400;

const NAMESPACE: &str = "http://www.sitemaps.org/schemas/sitemap/0.9";

/// The word of a profile that asks not to be shown to those who are not signed in.
const NO_UNAUTHENTICATED: &str = "!no-unauthenticated";

/// The accounts of one page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    /// Hours of the day.
    hours: std::ops::Range<usize>,
    /// Accounts of the first hour that are on pages before.
    skip: usize,
}

/// The pages of a day, in order.
fn pages_of(day: &Day) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    // How many more accounts the last page takes.
    let mut room = 0;
    for (hour, accounts) in day.hours.iter().copied().enumerate().filter(|(_, n)| *n > 0) {
        match pages.last_mut() {
            Some(page) if accounts <= room => {
                page.hours.end = hour + 1;
                room -= accounts;
            }
            _ => {
                let parts = accounts.div_ceil(ACCOUNTS_PER_PAGE).min(PAGES_MAX);
                pages.extend((0..parts).map(|part| Page { hours: hour..hour + 1, skip: part * ACCOUNTS_PER_PAGE }));
                room = if parts == 1 { ACCOUNTS_PER_PAGE - accounts } else { 0 };
            }
        }
    }
    pages
}

/// The list of all pages.
pub async fn get_sitemap_index(cx: &Cx, req: proto::GetSitemapIndexRequest) -> Result<proto::GetSitemapIndexResponse> {
    users(req.r#type)?;
    let mut xml = Xml::begin("sitemapindex")?;
    let mut pages = 0;
    for day in newcomers::days(&cx.store, 0..u32::MAX, false, PAGES_MAX).await? {
        let date = datetime::format_ms(i64::from(day.day) * DAY_SECONDS * 1_000_000);
        for bucket in 1..=pages_of(&day).len().min(PAGES_MAX - pages) {
            let date = date.split('T').next().unwrap_or_default();
            xml.entry("sitemap", &format!("{}/sitemap/users/{date}/{bucket}.xml.gz", cx.sitemap_url))?;
            pages += 1;
        }
    }
    Ok(proto::GetSitemapIndexResponse { sitemap: xml.end()? })
}

/// One page: the profiles of accounts first seen on a day.
///
/// The date comes as midnight of the caller's own time zone, so it means the nearest day: right for zones less than
/// twelve hours off.
pub async fn get_sitemap_page(cx: &Cx, req: proto::GetSitemapPageRequest) -> Result<proto::GetSitemapPageResponse> {
    users(req.r#type)?;
    const NOTHING: Error = Error::Absent("sitemap page");
    let seconds = req.date.ok_or(NOTHING)?.seconds;
    let day = u32::try_from(seconds.saturating_add(DAY_SECONDS / 2).div_euclid(DAY_SECONDS)).map_err(|_| NOTHING)?;
    let day = newcomers::day(cx, day).await?;
    let bucket = usize::try_from(req.bucket).ok().and_then(|bucket| bucket.checked_sub(1)).ok_or(NOTHING)?;
    let page = pages_of(&day).into_iter().nth(bucket).ok_or(NOTHING)?;
    let mut xml = Xml::begin("urlset")?;
    let (mut skip, mut room) = (page.skip, ACCOUNTS_PER_PAGE);
    for hour in page.hours {
        let mut after = None;
        while room > 0 {
            let rows = if skip > 0 { skip } else { ACCOUNTS_AT_ONCE.min(room) };
            let (dids, next) = newcomers::accounts(cx, day.hour(hour), false, after, rows).await?;
            if skip > 0 {
                skip = skip.saturating_sub(dids.len());
            } else {
                room -= dids.len().min(room);
                for handle in shown(cx, &dids).await? {
                    xml.entry("url", &format!("{}/profile/{handle}", cx.sitemap_url))?;
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(proto::GetSitemapPageResponse { sitemap: xml.end()? })
}

fn users(kind: i32) -> Result<()> {
    match proto::SitemapPageType::try_from(kind) {
        Ok(proto::SitemapPageType::User | proto::SitemapPageType::Unspecified) => Ok(()),
        Err(_) => Err(Error::invalid("type", "is not known: there are pages of users only")),
    }
}

/// The handles of those accounts that anybody may be shown.
async fn shown(cx: &Cx, dids: &[String]) -> Result<Vec<String>> {
    let keys: Vec<Key> = dids
        .iter()
        .flat_map(|did| {
            let profile = records::key(did, "app.bsky.actor.profile", profiles::SELF);
            [actors::key(did), moderation::key_of_subject(did), profile]
        })
        .collect();
    let mut handles = Vec::with_capacity(dids.len());
    for found in cx.store.get(&keys).await?.chunks_exact(3) {
        let Some(row) = found[0].as_deref().map(actors::read).transpose()? else { continue };
        let hidden = !row.exists
            || !row.upstream_status.is_empty()
            || found[1].as_ref().is_some_and(|takedown| !moderation::reference(takedown).is_empty());
        if !hidden && !row.handle.is_empty() && !asks_for_signing_in(found[2].as_ref())? {
            handles.push(row.handle);
        }
    }
    Ok(handles)
}

/// Whether a profile, as it is served, labels itself as not for those who are not signed in.
fn asks_for_signing_in(profile: Option<&Bytes>) -> Result<bool> {
    // Most profiles do not hold the word at all, and are not read for it.
    let word = NO_UNAUTHENTICATED.as_bytes();
    let Some(profile) = profile.filter(|bytes| bytes.windows(word.len()).any(|part| part == word)) else {
        return Ok(false);
    };
    let record = records::decode_served(profile.clone())?.record.record;
    let profile: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
    let labels = profile.pointer("/labels/values").and_then(serde_json::Value::as_array);
    let is_it = |label: &serde_json::Value| label.get("val").and_then(|val| val.as_str()) == Some(NO_UNAUTHENTICATED);
    Ok(labels.is_some_and(|labels| labels.iter().any(is_it)))
}

/// A document of one kind of entries on its way into one gzip member.
struct Xml {
    root: &'static str,
    out: GzEncoder<Vec<u8>>,
}

impl Xml {
    fn begin(root: &'static str) -> Result<Self> {
        let mut xml = Self { root, out: GzEncoder::new(Vec::new(), Compression::default()) };
        xml.write(&format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{NAMESPACE}\">\n"))?;
        Ok(xml)
    }

    fn entry(&mut self, element: &str, address: &str) -> Result<()> {
        self.write(&format!("<{element}><loc>{}</loc></{element}>\n", escaped(address)))
    }

    fn end(mut self) -> Result<Bytes> {
        self.write(&format!("</{}>\n", self.root))?;
        self.out.finish().map(Bytes::from).map_err(|_| FULL)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).map_err(|_| FULL)
    }
}

/// Writing into memory does not fail; if it ever does, the answer is none.
const FULL: Error = Error::Overloaded("a sitemap could not be put together");

/// Text as XML has it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::json;

    use super::*;
    use crate::testing::{NOW_US, World, did, iso};

    const HOUR_US: i64 = 3_600_000_000;
    /// The day of the world's present.
    const TODAY: i64 = NOW_US / 1_000_000 / DAY_SECONDS;

    fn text(gzip: &Bytes) -> String {
        let mut rest = &gzip[..];
        let mut text = String::new();
        flate2::bufread::GzDecoder::new(&mut rest).read_to_string(&mut text).unwrap();
        assert!(rest.is_empty(), "one member and nothing behind it");
        text
    }

    fn addresses(xml: &str) -> Vec<String> {
        xml.split("<loc>").skip(1).map(|rest| rest.split_once("</loc>").unwrap().0.to_owned()).collect()
    }

    async fn page(world: &World, seconds: i64, bucket: i32) -> Result<Vec<String>> {
        let date = Some(proto::Timestamp { seconds, nanos: 0 });
        let ask = proto::GetSitemapPageRequest { r#type: proto::SitemapPageType::User as i32, date, bucket };
        let xml = text(&get_sitemap_page(&world.cx, ask).await?.sitemap);
        assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<urlset xmlns="), "{xml}");
        assert!(xml.ends_with("</urlset>\n"), "{xml}");
        Ok(addresses(&xml))
    }

    async fn index(world: &World) -> Vec<String> {
        let ask = proto::GetSitemapIndexRequest { r#type: proto::SitemapPageType::User as i32 };
        let xml = text(&get_sitemap_index(&world.cx, ask).await.unwrap().sitemap);
        assert!(xml.ends_with("</sitemapindex>\n"), "{xml}");
        addresses(&xml)
    }

    async fn account(world: &World, name: &str, at_us: i64) -> String {
        let did = did(name);
        let (named, handle) = (did.clone(), format!("{name}.test"));
        world
            .write(move |view| {
                actors::touch(view, &named, at_us)?;
                actors::set_handle(view, &named, Some(&handle), at_us)
            })
            .await;
        did
    }

    #[tokio::test]
    async fn a_day_lists_its_accounts_and_the_index_its_pages() {
        let world = World::new();
        assert!(index(&world).await.is_empty());
        account(&world, "one", NOW_US).await;
        account(&world, "two", NOW_US + HOUR_US).await;
        account(&world, "yesterday", NOW_US - 24 * HOUR_US).await;
        assert_eq!(
            index(&world).await,
            [
                "https://plane.test/sitemap/users/2025-05-31/1.xml.gz",
                "https://plane.test/sitemap/users/2025-06-01/1.xml.gz"
            ]
        );
        let today = TODAY * DAY_SECONDS;
        let expected = ["https://plane.test/profile/one.test", "https://plane.test/profile/two.test"];
        // Midnight here, and midnight of callers to the east and to the west.
        for seconds in [today, today - 11 * 3600, today + 11 * 3600] {
            assert_eq!(page(&world, seconds, 1).await.unwrap(), expected, "{seconds}");
        }
        assert_eq!(page(&world, today - DAY_SECONDS, 1).await.unwrap(), ["https://plane.test/profile/yesterday.test"]);
        for (seconds, bucket) in [
            (today, 2),
            (today, 0),
            (today, -1),
            (today + DAY_SECONDS, 1),
            (-5 * DAY_SECONDS, 1),
            (i64::MAX, 1),
            (i64::MIN, 1),
        ] {
            assert!(matches!(page(&world, seconds, bucket).await, Err(Error::Absent(_))), "{seconds} {bucket}");
        }
        let ask = proto::GetSitemapPageRequest { r#type: 1, date: None, bucket: 1 };
        assert!(matches!(get_sitemap_page(&world.cx, ask).await, Err(Error::Absent(_))));
        let ask = proto::GetSitemapIndexRequest { r#type: 7 };
        assert!(matches!(get_sitemap_index(&world.cx, ask).await, Err(Error::Invalid { field: "type", .. })));
    }

    #[tokio::test]
    async fn hidden_accounts_are_left_out_and_come_back() {
        let world = World::new();
        let shy = account(&world, "shy", NOW_US).await;
        let quoting = account(&world, "quoting", NOW_US).await;
        let down = account(&world, "down", NOW_US).await;
        let away = account(&world, "away", NOW_US).await;
        let gone = account(&world, "gone", NOW_US).await;
        world.actor(&did("nohandle")).await;
        let labels = json!({"$type": "com.atproto.label.defs#selfLabels", "values": [{"val": NO_UNAUTHENTICATED}]});
        let profile = json!({"displayName": "shy", "labels": labels, "createdAt": iso(NOW_US)});
        world.create(&shy, "app.bsky.actor.profile", "self", profile, NOW_US).await;
        let profile = json!({"description": NO_UNAUTHENTICATED, "createdAt": iso(NOW_US)});
        world.create(&quoting, "app.bsky.actor.profile", "self", profile, NOW_US).await;
        let (subject, deleted, moved) = (down.clone(), gone.clone(), away.clone());
        world
            .write(move |view| {
                moderation::set(view, moderation::key_of_subject(&subject), None, Some("ref"), 0)?;
                actors::set_account(view, &moved, false, Some("deactivated"), NOW_US)?;
                actors::delete_page(view, &deleted, NOW_US, 100).map(drop)
            })
            .await;
        let today = TODAY * DAY_SECONDS;
        let quoting = "https://plane.test/profile/quoting.test";
        assert_eq!(page(&world, today, 1).await.unwrap(), [quoting]);
        world
            .write(move |view| {
                moderation::set(view, moderation::key_of_subject(&down), None, None, 0)?;
                actors::set_account(view, &away, true, None, NOW_US)
            })
            .await;
        world.update(&shy, "app.bsky.actor.profile", "self", json!({"displayName": "shy"}), NOW_US).await;
        let mut found = page(&world, today, 1).await.unwrap();
        found.sort();
        let names = ["away", "down", "quoting", "shy"].map(|name| format!("https://plane.test/profile/{name}.test"));
        assert_eq!(found, names);
    }

    #[test]
    fn a_day_is_cut_between_hours_and_a_huge_hour_into_parts() {
        let mut hours = [0; 24];
        (hours[1], hours[2], hours[5]) = (20_000, 30_000, 1);
        (hours[6], hours[7], hours[23]) = (100_001, 3, 50_000);
        let cut = pages_of(&Day { day: 1, hours });
        let expected = [(1..3, 0), (5..6, 0), (6..7, 0), (6..7, 50_000), (6..7, 100_000), (7..8, 0), (23..24, 0)];
        assert_eq!(cut, expected.map(|(hours, skip)| Page { hours, skip }));
        assert!(pages_of(&Day { day: 1, hours: [0; 24] }).is_empty());
        assert_eq!(pages_of(&Day { day: 1, hours: [2_000; 24] }).len(), 1);
        assert_eq!(pages_of(&Day { day: 1, hours: [usize::MAX; 24] }).len(), 24 * PAGES_MAX);
    }

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(escaped("https://a.test/?a=1&b='<\">"), "https://a.test/?a=1&amp;b=&apos;&lt;&quot;&gt;");
    }
}
