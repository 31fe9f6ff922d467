//! Accounts: their rows, handles, and standing with their hosts.

use gp_store::{Key, Scan, Store, View};

use crate::{
    Error, Result,
    apply::{Action, Applied, Op, apply_op},
    atom,
    atom::Parts,
    repos::{self, RepoStatus},
    tables::{ACTOR, HANDLE, NOTIFICATION, PRIVATE, RECORD},
};

/// What is known of an account. Fields are added, never renumbered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ActorRow {
    /// Verified both ways, lower case; empty when there is none.
    #[prost(string, tag = "1")]
    pub handle: String,
    /// When the handle was last checked, by the event's time, in microseconds; 0 = never.
    #[prost(int64, tag = "2")]
    pub handle_checked_at_us: i64,
    /// First sight, in microseconds.
    #[prost(int64, tag = "3")]
    pub first_seen_at_us: i64,
    /// What the host says: empty for active, else its word.
    #[prost(string, tag = "4")]
    pub upstream_status: String,
    /// The operator trusts this account's verifications.
    #[prost(bool, tag = "5")]
    pub trusted_verifier: bool,
    /// Age assurance: `pending`, `assured`, `unknown`, `blocked`; empty if never told.
    #[prost(string, tag = "6")]
    pub age_assurance_status: String,
    /// Age assurance: `unknown`, `none`, `safe`, `full`; empty if never told.
    #[prost(string, tag = "7")]
    pub age_assurance_access: String,
    /// When age assurance was last begun, in microseconds; 0 = never.
    #[prost(int64, tag = "8")]
    pub age_assurance_initiated_at_us: i64,
    /// Country of the age assurance.
    #[prost(string, tag = "9")]
    pub age_assurance_country: String,
    /// Region of the age assurance.
    #[prost(string, tag = "10")]
    pub age_assurance_region: String,
    /// When the account was created according to the directory, in microseconds; 0 if not known.
    #[prost(int64, tag = "11")]
    pub created_at_us: i64,
    /// False for a row that only remembers something about an account that was never seen, as its age assurance.
    #[prost(bool, tag = "12")]
    pub exists: bool,
}

/// The place of an account's row.
pub fn key(did: &str) -> Key {
    Key::of(&ACTOR).atom(&atom::did(did)).key()
}

/// Reads an account's row.
pub fn read(stored: &[u8]) -> Result<ActorRow> {
    prost::Message::decode(stored).map_err(|_| Error::Corrupt { table: ACTOR.name, what: "row" })
}

/// An account's row as the writer sees it.
pub fn row(view: &View<'_>, did: &str) -> Result<Option<ActorRow>> {
    view.get(&key(did))?.map(|stored| read(&stored)).transpose()
}

/// Writes an account's row.
pub fn put(view: &mut View<'_>, did: &str, row: &ActorRow) {
    view.put(key(did), prost::Message::encode_to_vec(row));
}

/// First sight of an account: makes its row, without a handle yet. Returns whether it is new.
pub fn touch(view: &mut View<'_>, did: &str, time_us: i64) -> Result<bool> {
    let found = row(view, did)?;
    if found.as_ref().is_some_and(|row| row.exists) {
        return Ok(false);
    }
    let mut row = found.unwrap_or_default();
    row.exists = true;
    row.first_seen_at_us = time_us;
    put(view, did, &row);
    Ok(true)
}

/// What an account's host says of it. A status of an inactive account is kept word for word, whatever it is;
/// `throttled` and `desynchronized` hide nobody.
pub fn set_account(view: &mut View<'_>, did: &str, active: bool, status: Option<&str>, time_us: i64) -> Result<()> {
    touch(view, did, time_us)?;
    let Some(mut row) = row(view, did)? else { return Ok(()) };
    let upstream = match (active, status) {
        (true, _) => "",
        (false, Some("throttled" | "desynchronized")) => return Ok(()),
        (false, Some(status)) if !status.is_empty() => status,
        // Inactive without a word why: hidden, as a deactivated account is.
        (false, _) => "deactivated",
    };
    if row.upstream_status != upstream {
        row.upstream_status = upstream.to_owned();
        put(view, did, &row);
    }
    Ok(())
}

/// The outcome of a handle check: `Some` only when document and handle agree. The newer check of two accounts wins a
/// handle they both claim, and the other loses it (ingest 4.2, 4.4).
pub fn set_handle(view: &mut View<'_>, did: &str, handle: Option<&str>, checked_at_us: i64) -> Result<()> {
    touch(view, did, checked_at_us)?;
    let Some(mut row) = row(view, did)? else { return Ok(()) };
    let handle = handle.map(str::to_lowercase).unwrap_or_default();
    if row.handle_checked_at_us > checked_at_us {
        return Ok(());
    }
    if !row.handle.is_empty() && row.handle != handle {
        let place = handle_key(&row.handle);
        if view.get(&place)?.is_some_and(|holder| holder == did.as_bytes()) {
            view.delete(place);
        }
    }
    if !handle.is_empty() {
        let place = handle_key(&handle);
        if let Some(holder) = view.get(&place)?
            && holder != did.as_bytes()
            && let Ok(holder) = std::str::from_utf8(&holder)
            && let Some(mut loser) = self::row(view, holder)?
            && loser.handle == handle
        {
            loser.handle.clear();
            put(view, holder, &loser);
        }
        view.put(place, did.as_bytes().to_vec());
    }
    row.handle = handle;
    row.handle_checked_at_us = checked_at_us;
    put(view, did, &row);
    Ok(())
}

/// The place that says who holds a handle.
pub fn handle_key(handle: &str) -> Key {
    Key::of(&HANDLE).atom(&atom::did(handle)).key()
}

/// Handle and time of its last check, for the schedule of checks. Nothing for an account never seen.
pub async fn handle_state(store: &Store, did: &str) -> Result<Option<(Option<String>, i64)>> {
    let Some(stored) = store.get_one(&key(did)).await? else { return Ok(None) };
    let row = read(&stored)?;
    Ok(row.exists.then(|| ((!row.handle.is_empty()).then_some(row.handle), row.handle_checked_at_us)))
}

/// Sets or clears the operator's trust in an account's verifications, whether it has been seen or not.
pub fn set_trusted_verifier(view: &mut View<'_>, did: &str, trusted: bool) -> Result<()> {
    let mut row = row(view, did)?.unwrap_or_default();
    row.trusted_verifier = trusted;
    put(view, did, &row);
    Ok(())
}

/// Removes up to `rows_max` rows of what an account published and was told, and at the end the account itself. Returns
/// whether nothing is left. Takedowns and what others did to the account stay.
pub fn delete_page(view: &mut View<'_>, did: &str, rows_max: usize) -> Result<bool> {
    let partition = Key::of(&RECORD).atom(&atom::did(did)).partition();
    let page = view.scan(&Scan::of(partition).limit(rows_max))?;
    let mut applied = Applied::default();
    for row in &page.rows {
        let mut parts = Parts::of(RECORD.name, row.clustering());
        let (collection, rkey) = (parts.nsid()?, parts.rkey()?);
        let op = Op { action: Action::Delete, collection: &collection, rkey: &rkey, cid: None, record: None };
        apply_op(view, did, "", &op, 0, &mut applied)?;
    }
    if page.more || page.rows.len() >= rows_max {
        return Ok(false);
    }
    for table in [&NOTIFICATION, &PRIVATE] {
        let page = view.scan(&Scan::of(Key::of(table).atom(&atom::did(did)).partition()).limit(rows_max))?;
        for row in &page.rows {
            view.delete(row.key.clone());
        }
        if page.more {
            return Ok(false);
        }
    }
    if let Some(row) = row(view, did)? {
        let place = handle_key(&row.handle);
        if !row.handle.is_empty() && view.get(&place)?.is_some_and(|holder| holder == did.as_bytes()) {
            view.delete(place);
        }
        view.delete(key(did));
    }
    if let Some(mut state) = repos::state(view, did)? {
        state.status = RepoStatus::Deleted;
        repos::set_state(view, did, &state);
    }
    Ok(true)
}
