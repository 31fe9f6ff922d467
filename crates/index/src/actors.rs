//! Accounts: their rows, handles, and standing with their hosts.

use std::collections::{HashMap, HashSet};

use gp_atproto::compact;
use gp_proto as proto;
use gp_store::{Key, KeyBuilder, Scan, Store, View};

use crate::{
    Cx, Error, Result,
    apply::{Action, Applied, Op, apply_op},
    atom,
    atom::Parts,
    bookmarks,
    counts::{self, Head, OnCount, PrivateCount},
    moderation, newcomers,
    placed::uri_of,
    private,
    profiles::{self, Subscriptions},
    records::{self, Flags},
    relationships::{Ask, standing},
    repos::{self, RepoStatus},
    sitestandard, subscriptions,
    tables::{self, ACTOR, HANDLE, META, NOTIFICATION, PRIVATE, RECORD},
    verifications::{self, Words},
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
    Key::of(&ACTOR).pack(|out| compact::pack_did(did, out)).key()
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
    newcomers::arrive(view, did, time_us)?;
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

/// Which of some accounts exist and are not hidden, neither by their hosts nor by this service, in the order asked.
pub(crate) async fn active(cx: &Cx, dids: &[&str]) -> Result<Vec<bool>> {
    let keys: Vec<Key> = dids.iter().flat_map(|did| [key(did), moderation::key_of_subject(did)]).collect();
    let found = cx.store.get(&keys).await?;
    let mut active = Vec::with_capacity(dids.len());
    for found in found.chunks_exact(2) {
        let row = found[0].as_deref().map(read).transpose()?;
        active.push(
            row.is_some_and(|row| row.exists && row.upstream_status.is_empty())
                && found[1].as_ref().is_none_or(|takedown| moderation::reference(takedown).is_empty()),
        );
    }
    Ok(active)
}

/// Handle and time of its last check, for the schedule of checks. Nothing for an account never seen.
pub async fn handle_state(store: &Store, did: &str) -> Result<Option<(Option<String>, i64)>> {
    let Some(stored) = store.get_one(&key(did)).await? else { return Ok(None) };
    let row = read(&stored)?;
    Ok(row.exists.then(|| ((!row.handle.is_empty()).then_some(row.handle), row.handle_checked_at_us)))
}

/// The list of the accounts whose verifications the operator trusts.
fn trusted_verifiers() -> KeyBuilder {
    Key::of(&META).atom(&atom::did("trusted-verifiers")).cluster()
}

/// Sets or clears the operator's trust in an account's verifications, whether it has been seen or not.
pub fn set_trusted_verifier(view: &mut View<'_>, did: &str, trusted: bool) -> Result<()> {
    let mut row = row(view, did)?.unwrap_or_default();
    row.trusted_verifier = trusted;
    put(view, did, &row);
    let place = trusted_verifiers().atom(&atom::did(did)).key();
    if trusted {
        view.put(place, "");
    } else {
        view.delete(place);
    }
    Ok(())
}

/// Removes up to `rows_max` rows of what an account published and was told, and at the end the account itself, which
/// its host called deleted at `at_us`. Returns whether nothing is left.
///
/// Takedowns and what others did to the account stay; so does, for each post, that it was there, where it hung and when
/// it went (see `derived.rs`): what others wrote below it may come later and must end the same.
pub fn delete_page(view: &mut View<'_>, did: &str, at_us: i64, rows_max: usize) -> Result<bool> {
    let partition = Key::of(&RECORD).atom(&atom::did(did)).partition();
    let page = view.scan(&Scan::of(partition).limit(rows_max))?;
    let mut applied = Applied::default();
    for row in &page.rows {
        let mut parts = Parts::of(RECORD.name, row.clustering());
        let (collection, rkey) = (parts.nsid()?, parts.rkey()?);
        let op = Op { action: Action::Delete, collection: &collection, rkey: &rkey, cid: None, record: None };
        apply_op(view, did, "", &op, at_us, &mut applied)?;
        sitestandard::forget_versions(view, &uri_of(did, &collection, &rkey))?;
    }
    if page.more || page.rows.len() >= rows_max {
        return Ok(false);
    }
    // What it was told of since stays for the account that may come again under the same name.
    let told = Scan::of(Key::of(&NOTIFICATION).atom(&atom::did(did)).partition()).from(atom::micros_desc(at_us));
    let private = Scan::of(Key::of(&PRIVATE).atom(&atom::did(did)).partition());
    let ended = tables::scan_by(did, tables::by::ENDED);
    for (scan, is_private) in [(told, false), (private, true), (ended, false)] {
        let page = view.scan(&scan.limit(rows_max))?;
        for row in page.rows.iter().filter(|row| !row.clustering().is_empty()) {
            // What is counted or kept with others as well goes from there too.
            match row.clustering().first() {
                Some(&tables::private::BOOKMARK) if is_private => bookmarks::forget(view, did, &row.value)?,
                Some(&tables::private::SUBSCRIPTION) if is_private => subscriptions::forget(view, did, &row.value)?,
                _ => view.delete(row.key.clone()),
            }
        }
        if page.more {
            return Ok(false);
        }
    }
    let gone_at_ms = u64::try_from(at_us.div_euclid(1000)).unwrap_or(0);
    counts::keep_greatest(view, tables::private_head(did), PrivateCount::GoneAtMs as u8, gone_at_ms)?;
    if let Some(row) = row(view, did)? {
        let place = handle_key(&row.handle);
        if !row.handle.is_empty() && view.get(&place)?.is_some_and(|holder| holder == did.as_bytes()) {
            view.delete(place);
        }
        if row.exists {
            newcomers::leave(view, did, row.first_seen_at_us)?;
        }
        view.delete(key(did));
    }
    // This stays, also of an account of which no commit was ever seen: what was begun for the account before must be
    // able to tell that it is gone.
    let mut state = repos::state(view, did)?.unwrap_or_default();
    state.status = RepoStatus::Deleted;
    repos::set_state(view, did, &state);
    Ok(true)
}

/// Verifications of one account that are read one by one. Anybody can issue any number of them; an account that has
/// more is asked about from the side of the trusted issuers instead.
const VERIFICATIONS_READ_MAX: usize = 200;

/// Trusted issuers that are asked for the verification of such an account.
const TRUSTED_MAX: usize = 1_000;

const PROFILE: &str = "app.bsky.actor.profile";
const STATUS: &str = "app.bsky.actor.status";
const CHAT: &str = "chat.bsky.actor.declaration";
const SUBSCRIPTIONS: &str = "app.bsky.notification.declaration";
const GERM: &str = "com.germnetwork.declaration";
const LABELER: &str = "app.bsky.labeler.service";

/// Keys read for each account.
const KEYS_PER_ACTOR: usize = 11;

/// What is known of some accounts, in the order asked. An account never seen has `exists` false (read-rpcs 5.9).
pub async fn get_actors(cx: &Cx, req: proto::GetActorsRequest) -> Result<proto::GetActorsResponse> {
    let mut place_of: HashMap<&str, usize> = HashMap::new();
    let mut dids: Vec<&str> = Vec::new();
    for did in &req.dids {
        place_of.entry(did).or_insert_with(|| {
            dids.push(did);
            dids.len() - 1
        });
    }
    let mut keys = Vec::with_capacity(dids.len() * KEYS_PER_ACTOR);
    for did in &dids {
        keys.push(key(did));
        keys.push(moderation::key_of_subject(did));
        keys.push(records::tags_key(did));
        keys.push(private::state_key(did));
        keys.push(tables::on_head(did));
        for collection in [PROFILE, STATUS, CHAT, SUBSCRIPTIONS, GERM, LABELER] {
            keys.push(records::key(did, collection, profiles::SELF));
        }
    }
    let found = cx.store.get(&keys).await?;
    let with_age: HashSet<&str> = req.return_age_assurance_for_dids.iter().map(String::as_str).collect();
    let mut infos = Vec::with_capacity(dids.len());
    let (mut verified, mut crowded) = (Vec::new(), Vec::new());
    // Records that carry a takedown or tags need one more look: whose, which, and where the answer goes.
    let mut extra: Vec<(usize, &str, String)> = Vec::new();
    for (place, (did, got)) in dids.iter().zip(found.chunks_exact(KEYS_PER_ACTOR)).enumerate() {
        let row = match &got[0] {
            Some(stored) => cx.damage.or_absent(read(stored))?.unwrap_or_default(),
            None => ActorRow::default(),
        };
        let mut info = proto::ActorInfo {
            allow_activity_subscriptions_from: Subscriptions::Followers.word().to_owned(),
            ..Default::default()
        };
        if with_age.contains(did) {
            info.age_assurance_status = Some(age_assurance(&row));
        }
        if row.exists {
            let served = |at: usize| match got[at].clone() {
                Some(bytes) => cx.damage.or_absent(records::decode_served(bytes)),
                None => Ok(None),
            };
            let (profile, status, chat, subscriptions, germ) =
                (served(5)?, served(6)?, served(7)?, served(8)?, served(9)?);
            info.exists = true;
            info.handle = row.handle;
            info.upstream_status = row.upstream_status;
            info.trusted_verifier = row.trusted_verifier;
            if let Some(takedown) = &got[1] {
                info.takedown_ref = moderation::reference(takedown);
                info.taken_down = !info.takedown_ref.is_empty();
            }
            if let Some(tags) = &got[2] {
                info.tags = records::read_tags(tags);
            }
            info.priority_notifications =
                got[3].as_deref().map(private::read_state).transpose()?.unwrap_or_default().priority;
            match Head::read(got[4].as_ref()).get(OnCount::Verifications as u8) {
                0 => {}
                n if n <= VERIFICATIONS_READ_MAX as u64 => verified.push(place),
                _ => crowded.push(place),
            }
            for (served, collection) in [(&profile, PROFILE), (&status, STATUS), (&germ, GERM)] {
                if served.as_ref().is_some_and(|s| s.flags.has(Flags::TAKEN_DOWN | Flags::TAGGED)) {
                    extra.push((place, collection, uri_of(did, collection, profiles::SELF)));
                }
            }
            if let Some(chat) = &chat {
                let words = serde_json::from_slice::<serde_json::Value>(&chat.record.record).unwrap_or_default();
                let word = |name| words.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
                info.allow_incoming_chats_from = word("allowIncoming");
                info.allow_group_chat_invites_from = word("allowGroupInvites");
            }
            if let Some(declared) = &subscriptions {
                let words = serde_json::from_slice::<serde_json::Value>(&declared.record.record).unwrap_or_default();
                let word = words.get("allowSubscriptions").and_then(serde_json::Value::as_str);
                info.allow_activity_subscriptions_from = Subscriptions::from_word(word).word().to_owned();
            }
            info.created_at = profile.as_ref().and_then(|p| p.record.created_at);
            info.profile = profile.map(|p| p.record);
            info.status_record = status.map(|s| s.record);
            info.germ_record = germ.map(|g| g.record);
            info.labeler = got[10].is_some();
        }
        infos.push(info);
    }
    add_moderation(cx, &extra, &mut infos).await?;
    let mut words = words_of_all(cx, &verified, &dids).await?;
    words.extend(words_of_trusted(cx, &crowded, &dids).await?);
    add_verifications(cx, words, &mut infos).await?;
    Ok(proto::GetActorsResponse { actors: req.dids.iter().map(|did| infos[place_of[did.as_str()]].clone()).collect() })
}

fn age_assurance(row: &ActorRow) -> proto::AgeAssuranceStatus {
    let status = if row.age_assurance_status.is_empty() { "unknown" } else { &row.age_assurance_status };
    let access = match row.age_assurance_access.as_str() {
        "" | "unknown" => match status {
            "assured" => "full",
            "blocked" => "none",
            _ => "unknown",
        },
        access => access,
    };
    proto::AgeAssuranceStatus {
        status: status.to_owned(),
        access: access.to_owned(),
        last_initiated_at: (row.age_assurance_initiated_at_us != 0)
            .then(|| records::timestamp(row.age_assurance_initiated_at_us)),
        override_applied: false,
    }
}

async fn add_moderation(cx: &Cx, extra: &[(usize, &str, String)], infos: &mut [proto::ActorInfo]) -> Result<()> {
    if extra.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<Key> = extra.iter().map(|(_, _, uri)| moderation::key_of_subject(uri)).collect();
    keys.extend(extra.iter().map(|(_, _, uri)| records::tags_key(uri)));
    let found = cx.store.get(&keys).await?;
    for (i, (place, collection, _)) in extra.iter().enumerate() {
        let info = &mut infos[*place];
        let record = match *collection {
            PROFILE => &mut info.profile,
            STATUS => &mut info.status_record,
            _ => &mut info.germ_record,
        };
        let Some(record) = record else { continue };
        if record.taken_down
            && let Some(takedown) = &found[i]
        {
            record.takedown_ref = moderation::reference(takedown);
        }
        if let Some(tags) = &found[extra.len() + i] {
            record.tags = records::read_tags(tags);
            if *collection == PROFILE {
                info.profile_tags = record.tags.clone();
            }
        }
    }
    Ok(())
}

/// What an issuer said of the account at a place.
type Said = (usize, String, proto::VerificationMeta);

/// What anybody says of some accounts, oldest first.
async fn words_of_all(cx: &Cx, places: &[usize], dids: &[&str]) -> Result<Vec<Said>> {
    let scans = places
        .iter()
        .map(|place| tables::scan_on(dids[*place], tables::on::VERIFICATION).reverse().limit(VERIFICATIONS_READ_MAX));
    let pages = cx.store.scan_many(scans.collect()).await?;
    let mut words = Vec::new();
    for (place, page) in places.iter().zip(pages) {
        for row in page.rows {
            let mut parts = Parts::of(tables::ON.name, &row.clustering()[1..]);
            let sorted_at = parts.micros_desc()?;
            parts.u32_desc()?;
            let (issuer, rkey) = (parts.did()?, parts.rkey()?);
            let said: Words = prost::Message::decode(row.value)
                .map_err(|_| Error::Corrupt { table: tables::ON.name, what: "verification" })?;
            let meta = proto::VerificationMeta {
                rkey,
                handle: said.handle,
                display_name: said.display_name,
                sorted_at: Some(records::timestamp(sorted_at)),
            };
            words.push((*place, issuer, meta));
        }
    }
    Ok(words)
}

/// What trusted issuers say of some accounts, oldest first.
async fn words_of_trusted(cx: &Cx, places: &[usize], dids: &[&str]) -> Result<Vec<Said>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let page = cx.store.scan(Scan::of(trusted_verifiers().partition()).limit(TRUSTED_MAX)).await?;
    let issuer = |row: &gp_store::Row| Parts::of(META.name, row.clustering()).did();
    let issuers = page.rows.iter().map(issuer).collect::<Result<Vec<String>>>()?;
    let subjects: Vec<_> = places.iter().map(|place| atom::did(dids[*place])).collect();
    let mut asks = Vec::with_capacity(subjects.len() * issuers.len());
    for subject in &subjects {
        asks.extend(issuers.iter().map(|did| Ask { shape: &verifications::SHAPE, did, subject }));
    }
    let uris = standing(cx, &asks).await?;
    let mut words = Vec::new();
    for (i, served) in records::look_up(cx, &uris, verifications::SHAPE.collection).await?.into_iter().enumerate() {
        if served.record.cid.is_empty() {
            continue;
        }
        let said = serde_json::from_slice::<serde_json::Value>(&served.record.record).unwrap_or_default();
        let word = |name| said.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let meta = proto::VerificationMeta {
            rkey: uris[i].rsplit('/').next().unwrap_or_default().to_owned(),
            handle: word("handle"),
            display_name: word("displayName"),
            sorted_at: served.record.sorted_at,
        };
        words.push((places[i / issuers.len()], issuers[i % issuers.len()].clone(), meta));
    }
    words.sort_by_key(|(place, _, meta)| (*place, meta.sorted_at.as_ref().map(records::micros)));
    Ok(words)
}

/// Adds what trusted issuers said. The order of an account's words is visible to clients and stays.
async fn add_verifications(cx: &Cx, words: Vec<Said>, infos: &mut [proto::ActorInfo]) -> Result<()> {
    let keys: Vec<Key> = words.iter().map(|(_, issuer, _)| key(issuer)).collect();
    let issuers = cx.store.get(&keys).await?;
    for ((place, issuer, meta), row) in words.into_iter().zip(issuers) {
        if row.as_deref().map(read).transpose()?.is_some_and(|row| row.trusted_verifier) {
            infos[place].verified_by.push(proto::VerifiedByEntry { key: issuer, value: Some(meta) });
        }
    }
    Ok(())
}

/// Who holds each handle, in the order asked; empty for a handle nobody holds.
pub async fn get_dids_by_handles(
    cx: &Cx,
    req: proto::GetDidsByHandlesRequest,
) -> Result<proto::GetDidsByHandlesResponse> {
    let keys: Vec<Key> = req.handles.iter().map(|handle| handle_key(&handle.to_lowercase())).collect();
    let mut dids: Vec<String> = cx
        .store
        .get(&keys)
        .await?
        .into_iter()
        .map(|did| did.map(|did| String::from_utf8_lossy(&did).into_owned()).unwrap_or_default())
        .collect();
    if req.lookup_unidirectional {
        for (did, handle) in dids.iter_mut().zip(&req.handles).filter(|(did, _)| did.is_empty()) {
            // Nobody holds it here; somebody may out there. Failing to find out is the same as not knowing.
            *did = cx.identity.did_of_handle(&handle.to_lowercase()).await.unwrap_or_default();
        }
    }
    Ok(proto::GetDidsByHandlesResponse { dids })
}

#[cfg(test)]
#[path = "actors_tests.rs"]
mod tests;
