//! Two folders that must hold the same, row by row, and the oracle that says what they must hold.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use gp_index::{
    actors,
    atom::{self, Parts},
    counts::{ByCount, Head, OnCount},
    notifications::Stored,
    placed::did_of,
    records::RecordRow,
    repos::{self, RepoStatus},
    tables,
};
use gp_store::{Key, Scan, Store, Table, engine::cql::CqlConfig};
use gp_synth::Model;
use tokio::runtime::Runtime;

/// Differences that are printed; all of them are counted.
const SHOWN_MAX: usize = 20;

/// Bytes of a value that are printed.
const VALUE_SHOWN_MAX: usize = 100;

/// Opens a folder that nobody uses.
pub(super) fn open(dir: &Path) -> Result<Store> {
    Store::lsm(dir, &all_tables(), &gp_store::Config::default())
        .with_context(|| format!("cannot open {}", dir.display()))
}

/// Opens a keyspace to read it.
pub(super) fn open_cluster(config: &CqlConfig) -> Result<Store> {
    Store::cql(config, &all_tables(), &gp_store::Config::default()).context("cannot open the keyspace")
}

fn all_tables() -> Vec<&'static Table> {
    tables::ALL.iter().chain(gp_ingest::TABLES).copied().collect()
}

/// When the two runs were made, by the clock, in microseconds.
///
/// The network's history lies before it. What a row says of a time within is therefore when something was looked up:
/// when a handle was checked, when a repo was read whole and its records were found. The two runs cannot agree on it,
/// and need not; they must agree on which times these are, and on everything else.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    from_us: i64,
    to_us: i64,
}

impl Clock {
    /// From a time until now.
    pub(super) fn until_now(from_us: i64) -> Self {
        Self { from_us, to_us: gp_index::system_now_us() }
    }

    fn covers(self, time_us: i64) -> bool {
        (self.from_us..=self.to_us).contains(&time_us)
    }

    /// Bytes of a key or a value with such times replaced by zeros, in both orders in which times are written. Other
    /// eight bytes look like them once in a hundred thousand million times.
    fn without(self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        let mut at = 0;
        while let Some(eight) = out[at..].first_chunk::<8>() {
            let ascending = i64::from_be_bytes(*eight);
            let descending = !ascending ^ i64::MIN;
            if self.covers(ascending) || self.covers(descending) {
                out[at..at + 8].fill(0);
                at += 8;
            } else {
                at += 1;
            }
        }
        out
    }
}

/// What of a row must be the same: everything but times by the clock, and, in `ingest_job`, stamps, which are unique to
/// a process. (When both runs have settled, no job should be left.)
fn comparable(table: &Table, key: &Bytes, value: &Bytes, clock: Clock) -> Result<(Vec<u8>, Vec<u8>)> {
    let value = match table.name {
        "actor" => {
            let mut row = actors::read(value)?;
            for time_us in [&mut row.handle_checked_at_us, &mut row.first_seen_at_us] {
                if clock.covers(*time_us) {
                    *time_us = i64::MAX;
                }
            }
            format!("{row:?}").into_bytes()
        }
        // An account may be first seen when its repo is read: then hour and time in the key are by the clock.
        "newcomer" => {
            let seen_at_us =
                key.get(6..14).and_then(|time| time.first_chunk::<8>()).map(|t| i64::from_be_bytes(*t) ^ i64::MIN);
            let by_the_clock = seen_at_us.is_some_and(|time_us| clock.covers(time_us));
            return Ok((if by_the_clock { key[14..].to_vec() } else { key.to_vec() }, value.to_vec()));
        }
        "ingest_job" => Vec::new(),
        _ => clock.without(value),
    };
    Ok((clock.without(key), value))
}

/// Accounts that are deleted. Both folders must agree on them: it is in `repo`, which is compared.
fn deleted(store: &Store, runtime: &Runtime) -> Result<HashSet<String>> {
    let mut deleted = HashSet::new();
    for (key, _) in rows(store, &tables::REPO)? {
        let did = Parts::of(tables::REPO.name, &key[1..]).did()?;
        let state = runtime.block_on(repos::state_of(store, &did))?;
        deleted.extend(state.filter(|state| state.status == RepoStatus::Deleted).map(|_| did));
    }
    Ok(deleted)
}

/// Whether a row is left out.
///
/// A notification of a deleted account: nobody can read it. Those that came before the deletion went with the account;
/// which came later depends on when its host was asked whether it is gone. A count of the accounts first seen in the
/// hours of a day: hours may be by the clock, and the accounts themselves are compared.
fn is_left_out(table: &'static Table, key: &Bytes, deleted: &HashSet<String>) -> Result<bool> {
    if table.name == "newcomer" {
        return Ok(key.get(1) == Some(&1));
    }
    Ok(table.name == "notification" && deleted.contains(&Parts::of(table.name, &key[1..]).did()?))
}

/// What two folders have come to.
pub(super) struct Compared {
    /// Each table's name, its rows in the first folder, and how many differ.
    tables: Vec<(&'static str, u64, u64)>,
    /// Rows that have a time by the clock.
    by_the_clock: u64,
    /// Rows left out, in the first folder.
    left_out: u64,
    shown: Vec<String>,
}

/// Compares two folders row by row.
pub(super) fn compare(first: &Store, second: &Store, clock: Clock, runtime: &Runtime) -> Result<Compared> {
    let mut compared = Compared { tables: Vec::new(), by_the_clock: 0, left_out: 0, shown: Vec::new() };
    let deleted = deleted(first, runtime)?;
    for table in all_tables() {
        // Two rows may be told apart by nothing but a time by the clock, so places hold several.
        let mut theirs: BTreeMap<_, Vec<(Bytes, Bytes)>> = BTreeMap::new();
        for (key, value) in rows(second, table)? {
            if is_left_out(table, &key, &deleted)? {
                continue;
            }
            theirs.entry(comparable(table, &key, &value, clock)?).or_default().push((key, value));
        }
        let (mut count, mut ours_only) = (0, Vec::new());
        for (key, value) in rows(first, table)? {
            if is_left_out(table, &key, &deleted)? {
                compared.left_out += 1;
                continue;
            }
            count += 1;
            let place = comparable(table, &key, &value, clock)?;
            compared.by_the_clock += u64::from(place.0 != key || (table.name != "actor" && place.1 != value));
            if theirs.get_mut(&place).and_then(Vec::pop).is_none() {
                ours_only.push((key, value));
            }
        }
        let theirs_only: Vec<_> = theirs.into_values().flatten().collect();
        let mut pairs: BTreeMap<&Bytes, (Option<&Bytes>, Option<&Bytes>)> = BTreeMap::new();
        ours_only.iter().for_each(|(key, value)| pairs.entry(key).or_default().0 = Some(value));
        theirs_only.iter().for_each(|(key, value)| pairs.entry(key).or_default().1 = Some(value));
        for (key, (one, other)) in pairs.iter().take(SHOWN_MAX.saturating_sub(compared.shown.len())) {
            compared.shown.push(shown(table, key, *one, *other));
        }
        compared.tables.push((table.name, count, pairs.len() as u64));
    }
    Ok(compared)
}

fn rows(store: &Store, table: &Table) -> Result<Vec<(Bytes, Bytes)>> {
    let mut rows = Vec::new();
    store.local().each(table.id, &mut |key, value| {
        rows.push((Bytes::copy_from_slice(key), value.clone()));
        true
    })?;
    Ok(rows)
}

fn shown(table: &'static Table, key: &Bytes, one: Option<&Bytes>, other: Option<&Bytes>) -> String {
    let value = |value: Option<&Bytes>| value.map_or_else(|| "nothing".into(), |value| told(table, key, value));
    let subject = Parts::of(table.name, &key[1..]).uri().unwrap_or_default();
    format!("{} {} ({subject})\n  undisturbed: {}\n  killed:      {}", table.name, hex(key), value(one), value(other))
}

/// A row for a person, and its bytes.
fn told(table: &'static Table, key: &Bytes, value: &Bytes) -> String {
    let mut parts = Parts::of(table.name, &key[1..]);
    let clustering = parts.uri().map(|_| parts.rest()).unwrap_or_default();
    let told = match table.name {
        "actor" => actors::read(value).map(|row| format!("{row:?}")).ok(),
        "by" | "on" if clustering.is_empty() => Some(format!("{:?}", Head::read(Some(value)))),
        "record" => RecordRow::read(value).ok().map(|row| {
            format!("{:?} indexed {} first {} {}", row.flags, row.indexed_at_us, row.first_indexed_at_us, row.cid())
        }),
        "notification" => Stored::read(clustering, value).ok().map(|stored| format!("{stored:?}")),
        _ => None,
    };
    format!("{} {}", told.unwrap_or_default(), hex(&value[..value.len().min(VALUE_SHOWN_MAX)]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Compared {
    /// Rows compared.
    pub(super) fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, rows, _)| rows).sum()
    }

    /// Rows that differ.
    pub(super) fn differences(&self) -> u64 {
        self.tables.iter().map(|(_, _, differ)| differ).sum()
    }

    pub(super) fn print(&self) {
        for difference in &self.shown {
            println!("{difference}");
        }
        let tables = self.tables.iter().filter(|(_, rows, differ)| rows + differ > 0);
        let tables = tables.map(|(name, rows, differ)| match differ {
            0 => format!("{name} {rows}"),
            _ => format!("{name} {rows} ({differ} differ)"),
        });
        println!(
            "rows, {} of them with a time by the clock, {} more not compared: {}",
            self.by_the_clock,
            self.left_out,
            tables.collect::<Vec<_>>().join(", ")
        );
    }
}

/// What the oracle said.
#[derive(Default)]
pub(super) struct Oracle {
    /// Figures compared.
    pub(super) asked: u64,
    /// Figures that are not as the oracle says.
    pub(super) wrong: u64,
    /// Figures that nobody could know who came after the account was gone.
    unknowable: u64,
    shown: Vec<String>,
}

impl Oracle {
    fn is(&mut self, what: &str, subject: &str, expected: u64, found: u64) {
        self.asked += 1;
        if expected != found {
            self.wrong += 1;
            if self.shown.len() < SHOWN_MAX {
                self.shown.push(format!("{what} of {subject}: {expected} expected, {found} found"));
            }
        }
    }

    pub(super) fn print(&self) {
        for wrong in &self.shown {
            println!("{wrong}");
        }
        if self.unknowable > 0 {
            println!(
                "{} counts of quotes of posts that were gone before anybody asked are not compared",
                self.unknowable
            );
        }
    }
}

/// Collection and key of every record kept of an account.
fn paths_of(store: &Store, did: &str, runtime: &Runtime) -> Result<HashSet<String>> {
    let scan = Scan::of(Key::of(&tables::RECORD).atom(&atom::did(did)).partition());
    let rows = runtime.block_on(store.scan(scan))?.rows;
    let path = |clustering: &[u8]| -> gp_index::Result<String> {
        let mut parts = Parts::of(tables::RECORD.name, clustering);
        Ok(format!("{}/{}", parts.nsid()?, parts.rkey()?))
    };
    rows.iter().map(|row| path(row.clustering()).context("a key of a record")).collect()
}

/// Compares counts, handles, and the number of records with the oracle of the network.
pub(super) fn against_the_oracle(store: &Store, model: &Model, runtime: &Runtime) -> Result<Oracle> {
    let mut oracle = Oracle::default();
    let get = |key: Key| runtime.block_on(store.get_one(&key));
    // Every head there is, so that a count of something that should have none is found as well.
    let mut heads: HashMap<Bytes, Bytes> = HashMap::new();
    for (key, value) in rows(store, &tables::ON)? {
        let mut parts = Parts::of(tables::ON.name, &key[1..]);
        if parts.uri().is_ok() && parts.rest().is_empty() {
            heads.insert(key, value);
        }
    }
    for (subject, counts) in model.counted() {
        let stored = heads.remove(tables::on_head(subject).bytes());
        let head = Head::read(stored.as_ref());
        let unseen = match did_of(subject).filter(|author| model.account_status(author) == Some("deleted")) {
            Some(author) => runtime.block_on(repos::state_of(store, author))?.is_none(),
            None => false,
        };
        for (what, cell, expected) in [
            ("likes", OnCount::Likes, counts.likes),
            ("reposts", OnCount::Reposts, counts.reposts),
            ("replies", OnCount::Replies, counts.replies),
            ("quotes", OnCount::Quotes, counts.quotes),
            ("followers", OnCount::Followers, counts.followers),
            ("items", OnCount::Items, counts.items),
            ("joins", OnCount::Joined, counts.joins),
        ] {
            // An account whose identity is gone when its commits are read cannot be verified: none of its posts was
            // seen, and so none was seen to go, which is what takes quotes off the books.
            if unseen && what == "quotes" {
                oracle.unknowable += u64::from(expected != head.get(cell as u8));
                continue;
            }
            oracle.is(what, subject, expected, head.get(cell as u8));
        }
    }
    for (key, value) in heads {
        let subject = Parts::of(tables::ON.name, &key[1..]).uri()?;
        let head = Head::read(Some(&value));
        for cell in [
            OnCount::Likes,
            OnCount::Reposts,
            OnCount::Replies,
            OnCount::Quotes,
            OnCount::Followers,
            OnCount::Items,
            OnCount::Joined,
        ] {
            oracle.is("a count", &subject, 0, head.get(cell as u8));
        }
    }
    for did in model.dids() {
        let head = Head::read(get(tables::by_head(did))?.as_ref());
        oracle.is("follows", did, model.follows(did), head.get(ByCount::Follows as u8));
        oracle.is("posts", did, model.posts(did), head.get(ByCount::Posts as u8));
        let expected: HashSet<String> = model.records(did).map(|(path, _)| path.to_owned()).collect();
        let found = paths_of(store, did, runtime)?;
        let (missing, surplus) = (expected.difference(&found).count(), found.difference(&expected).count());
        oracle.is("records missing", did, 0, missing as u64);
        oracle.is("records too many", did, 0, surplus as u64);
        if missing + surplus > 0 && oracle.shown.len() < SHOWN_MAX {
            let which = expected.symmetric_difference(&found).take(4).cloned().collect::<Vec<_>>().join(", ");
            oracle.shown.push(format!("  {did}: {which}"));
        }
        let handle = get(actors::key(did))?.map(|row| actors::read(&row)).transpose()?.map(|row| row.handle);
        let agrees = handle.unwrap_or_default() == model.handle(did).unwrap_or_default();
        oracle.is("the handle being right", did, 1, u64::from(agrees));
    }
    Ok(oracle)
}
