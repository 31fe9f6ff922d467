//! Accounts in the order in which they were first seen: how many came in a time, and who they are.
//!
//! Each account has one row in the hour in which it was first seen. Each day with accounts has one row with a count for
//! each of its hours, so that counts and the pages of the sitemap come from few small rows.

use gp_proto as proto;
use gp_store::{Key, Scan, Store, View};

use crate::{
    Cx, Error, Result, atom,
    atom::Parts,
    counts::{Deltas, Head},
    records,
    tables::NEWCOMER,
};

/// Hours of a day, each a cell of the day's row.
pub const HOURS: i64 = 24;

const HOUR_US: i64 = 3_600_000_000;

/// Days that are listed: as many as one scan returns, which is 27 years.
const DAYS_MAX: usize = gp_store::ROWS_PER_SCAN_MAX;

/// Rows of one hour that are counted one by one where a range begins or ends inside it. Beyond, the rest of the hour
/// is left out of the count.
const COUNTED_MAX: usize = 1_000_000;

/// Partitions of the table. The numbers are on disk.
mod part {
    /// Days, oldest first -> a count for each hour.
    pub(super) const DAYS: u8 = 1;
    /// Then the hour: `first_seen_at, did` -> nothing.
    pub(super) const HOUR: u8 = 2;
}

/// How long the partition at the beginning of a key is, the number of the table not counted.
pub(crate) fn partition_len(key: &[u8], hour: usize) -> Option<usize> {
    match *key.first()? {
        part::DAYS => Some(1),
        part::HOUR => Some(1 + hour),
        _ => None,
    }
}

/// The hour of a time, since 1970. What is before 1970 is in the first one.
fn hour_of(at_us: i64) -> u32 {
    u32::try_from(at_us.max(0) / HOUR_US).unwrap_or(u32::MAX)
}

fn day_key(day: u32) -> Key {
    Key::of(&NEWCOMER).tag(part::DAYS).cluster().atom(&day.to_be_bytes()).key()
}

fn hour_scan(hour: u32) -> Scan {
    Scan::of(Key::of(&NEWCOMER).tag(part::HOUR).atom(&hour.to_be_bytes()).partition())
}

fn row_key(did: &str, at_us: i64) -> Key {
    let hour = Key::of(&NEWCOMER).tag(part::HOUR).atom(&hour_of(at_us).to_be_bytes());
    hour.cluster().micros_asc(at_us).atom(&atom::did(did)).key()
}

fn count(view: &mut View<'_>, at_us: i64, delta: i64) -> Result<()> {
    let hour = hour_of(at_us);
    let mut deltas = Deltas::default();
    // The remainder is below 24.
    deltas.add(day_key(hour / HOURS as u32), (hour % HOURS as u32) as u8, delta);
    deltas.apply(view)
}

/// An account is seen for the first time.
pub(crate) fn arrive(view: &mut View<'_>, did: &str, at_us: i64) -> Result<()> {
    let key = row_key(did, at_us);
    if view.get(&key)?.is_some() {
        return Ok(());
    }
    view.put(key, "");
    count(view, at_us, 1)
}

/// An account first seen at that time is gone.
pub(crate) fn leave(view: &mut View<'_>, did: &str, at_us: i64) -> Result<()> {
    let key = row_key(did, at_us);
    if view.get(&key)?.is_none() {
        return Ok(());
    }
    view.delete(key);
    count(view, at_us, -1)
}

/// A day with accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Day {
    /// Since 1970.
    pub(crate) day: u32,
    /// Accounts first seen in each hour.
    pub(crate) hours: [usize; HOURS as usize],
}

impl Day {
    fn read(day: u32, stored: Option<&bytes::Bytes>) -> Self {
        let head = Head::read(stored);
        Self { day, hours: std::array::from_fn(|hour| usize::try_from(head.get(hour as u8)).unwrap_or(usize::MAX)) }
    }

    /// An hour of the day, since 1970.
    pub(crate) fn hour(&self, hour: usize) -> u32 {
        self.day.saturating_mul(HOURS as u32).saturating_add(u32::try_from(hour).unwrap_or(0))
    }
}

/// One day.
pub(crate) async fn day(cx: &Cx, day: u32) -> Result<Day> {
    Ok(Day::read(day, cx.store.get_one(&day_key(day)).await?.as_ref()))
}

/// Days with accounts, from one day to another; the latest first if `latest_first`.
pub(crate) async fn days(
    store: &Store,
    days: std::ops::Range<u32>,
    latest_first: bool,
    limit: usize,
) -> Result<Vec<Day>> {
    let scan = Scan::of(Key::of(&NEWCOMER).tag(part::DAYS).partition())
        .from(days.start.to_be_bytes())
        .before(days.end.to_be_bytes())
        .limit(limit.min(DAYS_MAX));
    let page = store.scan(if latest_first { scan.reverse() } else { scan }).await?;
    let mut found = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        let bytes = row.clustering().first_chunk::<4>();
        let day = bytes.ok_or(Error::Corrupt { table: NEWCOMER.name, what: "day" })?;
        found.push(Day::read(u32::from_be_bytes(*day), Some(&row.value)));
    }
    Ok(found)
}

/// Accounts first seen in one hour, earliest first or latest first, after one of them. Returns the accounts and where
/// to go on, if there are more.
pub(crate) async fn accounts(
    cx: &Cx,
    hour: u32,
    latest_first: bool,
    after: Option<Vec<u8>>,
    limit: usize,
) -> Result<(Vec<String>, Option<Vec<u8>>)> {
    let mut scan = hour_scan(hour).limit(limit);
    if latest_first {
        scan = scan.reverse();
    }
    if let Some(after) = after {
        scan = if latest_first { scan.before(after) } else { scan.after(after) };
    }
    let page = cx.store.scan(scan).await?;
    let next = page.rows.last().filter(|_| page.more).map(|row| row.clustering().to_vec());
    let did = |row: &gp_store::Row| Parts::of(NEWCOMER.name, row.clustering().get(8..).unwrap_or_default()).did();
    Ok((page.rows.iter().map(did).collect::<Result<_>>()?, next))
}

/// How many accounts were first seen from one time to before another. Deleted accounts are no longer counted.
pub async fn get_new_user_count_for_range(
    cx: &Cx,
    req: proto::GetNewUserCountForRangeRequest,
) -> Result<proto::GetNewUserCountForRangeResponse> {
    // A side that is left out is open.
    let from = req.start.as_ref().map_or(0, records::micros).max(0);
    let to = req.end.as_ref().map_or(i64::MAX, records::micros).max(0);
    if from >= to {
        return Ok(proto::GetNewUserCountForRangeResponse { count: 0 });
    }
    let (first, last) = (hour_of(from), hour_of(to));
    let hours = HOURS as u32;
    let mut count = 0usize;
    for day in days(&cx.store, first / hours..(last / hours).saturating_add(1), false, DAYS_MAX).await? {
        for (i, accounts) in day.hours.iter().enumerate() {
            let hour = day.hour(i);
            let begins = i64::from(hour) * HOUR_US;
            if *accounts == 0 || hour < first || hour > last {
                continue;
            }
            let whole = from <= begins && begins.saturating_add(HOUR_US) <= to;
            count = count.saturating_add(if whole { *accounts } else { part_of(cx, hour, from, to).await? });
        }
    }
    Ok(proto::GetNewUserCountForRangeResponse { count: i32::try_from(count).unwrap_or(i32::MAX) })
}

/// Accounts of one hour that were first seen from one time to before another.
async fn part_of(cx: &Cx, hour: u32, from_us: i64, to_us: i64) -> Result<usize> {
    let place = |at_us: i64| Key::of(&NEWCOMER).cluster().micros_asc(at_us).key().clustering().to_vec();
    let mut scan = hour_scan(hour).from(place(from_us)).before(place(to_us));
    let mut count = 0;
    loop {
        let page = cx.store.scan(scan).await?;
        count += page.rows.len();
        match page.rows.last() {
            Some(last) if page.more && count < COUNTED_MAX => {
                scan = hour_scan(hour).after(last.clustering()).before(place(to_us));
            }
            _ => return Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actors,
        testing::{NOW_US, World, did},
    };

    async fn seen(world: &World, name: &str, at_us: i64) -> String {
        let did = did(name);
        let named = did.clone();
        world.write(move |view| actors::touch(view, &named, at_us).map(drop)).await;
        did
    }

    async fn counted(world: &World, from_us: i64, to_us: i64) -> i32 {
        let time = |us| Some(records::timestamp(us));
        let ask = proto::GetNewUserCountForRangeRequest { start: time(from_us), end: time(to_us) };
        get_new_user_count_for_range(&world.cx, ask).await.unwrap().count
    }

    #[tokio::test]
    async fn a_range_counts_whole_hours_and_parts_of_them() {
        let world = World::new();
        // NOW_US is a full hour.
        for (name, at_us) in [
            ("a", NOW_US - 25 * HOUR_US),
            ("b", NOW_US - 1),
            ("c", NOW_US),
            ("d", NOW_US + 5),
            ("e", NOW_US + HOUR_US - 1),
            ("f", NOW_US + HOUR_US),
            ("g", NOW_US + 100 * HOUR_US),
        ] {
            seen(&world, name, at_us).await;
            // Seen once more, it is not new.
            seen(&world, name, at_us + 1).await;
        }
        assert_eq!(counted(&world, 0, i64::MAX).await, 7);
        assert_eq!(counted(&world, NOW_US, NOW_US + HOUR_US).await, 3);
        assert_eq!(counted(&world, NOW_US - 1, NOW_US + HOUR_US + 1).await, 5);
        assert_eq!(counted(&world, NOW_US + 1, NOW_US + HOUR_US - 1).await, 1);
        assert_eq!(counted(&world, NOW_US - 25 * HOUR_US, NOW_US).await, 2);
        assert_eq!(counted(&world, NOW_US - 25 * HOUR_US + 1, NOW_US).await, 1);
        assert_eq!(counted(&world, NOW_US + HOUR_US, NOW_US).await, 0);
        assert_eq!(counted(&world, i64::MIN, 1).await, 0);
        let open = get_new_user_count_for_range(&world.cx, proto::GetNewUserCountForRangeRequest::default()).await;
        assert_eq!(open.unwrap().count, 7);
    }

    #[tokio::test]
    async fn a_deleted_account_leaves_and_may_come_back_at_another_time() {
        let world = World::new();
        let gone = seen(&world, "gone", NOW_US).await;
        seen(&world, "stays", NOW_US).await;
        let named = gone.clone();
        assert!(world.write(move |view| actors::delete_page(view, &named, NOW_US, 100)).await);
        assert_eq!(counted(&world, NOW_US, NOW_US + HOUR_US).await, 1);
        let named = gone.clone();
        world.write(move |view| actors::delete_page(view, &named, NOW_US, 100).map(drop)).await;
        assert_eq!(counted(&world, NOW_US, NOW_US + HOUR_US).await, 1);
        seen(&world, "gone", NOW_US + HOUR_US).await;
        assert_eq!(counted(&world, NOW_US, NOW_US + HOUR_US).await, 1);
        assert_eq!(counted(&world, NOW_US, NOW_US + 2 * HOUR_US).await, 2);
    }

    #[tokio::test]
    async fn accounts_of_an_hour_are_read_both_ways_in_pages() {
        let world = World::new();
        let mut dids = Vec::new();
        for (i, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            dids.push(seen(&world, name, NOW_US + i as i64).await);
        }
        for latest_first in [false, true] {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let (found, next) = accounts(&world.cx, hour_of(NOW_US), latest_first, after, 2).await.unwrap();
                all.extend(found);
                after = next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, dids, "latest first: {latest_first}");
            dids.reverse();
        }
    }
}
