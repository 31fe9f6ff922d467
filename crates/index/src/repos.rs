//! How far each repo has been followed.

use gp_atproto::Cid;
use gp_store::{Key, Scan, Store, View};

use crate::{
    Error, Result, atom,
    atom::Parts,
    records::RecordRow,
    tables::{RECORD, REPO},
};

/// Standing of a repo with its stream of commits. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RepoStatus {
    /// Nothing is known yet.
    #[default]
    New,
    /// Every commit since the last full reading is applied.
    Synced,
    /// A commit is missing: the repo must be read whole.
    Desynced,
    /// The repo is being read whole.
    Resyncing,
    /// The account is gone.
    Deleted,
}

/// How far a repo has been followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepoState {
    /// Revision of the last applied commit; empty if none.
    pub rev: String,
    /// That commit.
    pub commit: Option<Cid>,
    /// The root of the tree after it.
    pub data: Option<Cid>,
    /// Standing.
    pub status: RepoStatus,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RepoRow {
    #[prost(string, tag = "1")]
    rev: String,
    #[prost(bytes = "vec", tag = "2")]
    commit: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
    #[prost(uint32, tag = "4")]
    status: u32,
}

fn key(did: &str) -> Key {
    Key::of(&REPO).atom(&atom::did(did)).key()
}

fn read(stored: &[u8]) -> Result<RepoState> {
    let corrupt = |what| Error::Corrupt { table: REPO.name, what };
    let row: RepoRow = prost::Message::decode(stored).map_err(|_| corrupt("row"))?;
    let cid = |bytes: &[u8]| {
        if bytes.is_empty() { Ok(None) } else { Cid::from_bytes(bytes).map(Some).map_err(|_| corrupt("cid")) }
    };
    Ok(RepoState {
        commit: cid(&row.commit)?,
        data: cid(&row.data)?,
        status: match row.status {
            1 => RepoStatus::Synced,
            2 => RepoStatus::Desynced,
            3 => RepoStatus::Resyncing,
            4 => RepoStatus::Deleted,
            _ => RepoStatus::New,
        },
        rev: row.rev,
    })
}

/// The state of a repo as the writer sees it.
pub fn state(view: &View<'_>, did: &str) -> Result<Option<RepoState>> {
    view.get(&key(did))?.map(|stored| read(&stored)).transpose()
}

/// The state of a repo as applied.
pub async fn state_of(store: &Store, did: &str) -> Result<Option<RepoState>> {
    store.get_one(&key(did)).await?.map(|stored| read(&stored)).transpose()
}

/// The states of some repos as applied, in the order asked.
pub async fn states_of(store: &Store, dids: &[&str]) -> Result<Vec<Option<RepoState>>> {
    let keys: Vec<Key> = dids.iter().map(|did| key(did)).collect();
    let found = store.get(&keys).await?;
    found.into_iter().map(|stored| stored.map(|stored| read(&stored)).transpose()).collect()
}

/// Writes the state of a repo.
pub fn set_state(view: &mut View<'_>, did: &str, state: &RepoState) {
    let bytes = |cid: &Option<Cid>| cid.as_ref().map(|c| c.as_bytes().to_vec()).unwrap_or_default();
    let row = RepoRow {
        rev: state.rev.clone(),
        commit: bytes(&state.commit),
        data: bytes(&state.data),
        status: match state.status {
            RepoStatus::New => 0,
            RepoStatus::Synced => 1,
            RepoStatus::Desynced => 2,
            RepoStatus::Resyncing => 3,
            RepoStatus::Deleted => 4,
        },
    };
    view.put(key(did), prost::Message::encode_to_vec(&row));
}

/// Collection, record key and version of the records kept of a repo, in the order of their places, after one of them: as
/// many as `limit`, or all that are left.
pub fn records(
    view: &View<'_>,
    did: &str,
    after: Option<&(String, String)>,
    limit: usize,
) -> Result<Vec<(String, String, Cid)>> {
    let mut after = after.map(|(collection, rkey)| atom::path(collection, rkey).to_vec());
    let mut found = Vec::new();
    loop {
        let rest = Scan::of(Key::of(&RECORD).atom(&atom::did(did)).partition()).limit(limit - found.len());
        let page = view.scan(&match after.take() {
            Some(after) => rest.after(after),
            None => rest,
        })?;
        for row in &page.rows {
            let mut parts = Parts::of(RECORD.name, row.clustering());
            found.push((parts.nsid()?, parts.rkey()?, RecordRow::read(&row.value)?.cid()));
        }
        // A page of large records ends before its limit.
        match page.rows.last().filter(|_| page.more && found.len() < limit) {
            Some(last) => after = Some(last.clustering().to_vec()),
            None => return Ok(found),
        }
    }
}

/// The latest revision of a repo whose records are all visible.
pub async fn get_latest_rev(
    cx: &crate::Cx,
    req: gp_proto::GetLatestRevRequest,
) -> Result<gp_proto::GetLatestRevResponse> {
    let rev = state_of(&cx.store, &req.actor_did).await?.map(|s| s.rev).unwrap_or_default();
    Ok(gp_proto::GetLatestRevResponse { rev })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use gp_atproto::json;

    use super::*;
    use crate::{
        records,
        testing::{World, did},
    };

    /// A job of a hundred records of a megabyte each is more than one page of a scan has.
    #[tokio::test]
    async fn large_records_are_listed_to_the_end() {
        const COLLECTION: &str = "app.bsky.feed.post";
        const RECORDS: usize = 20;
        let world = World::new();
        let block: Bytes = json::to_cbor(&serde_json::json!({ "text": "x".repeat(700_000) })).unwrap().into();
        world
            .write(move |view| {
                for n in 0..RECORDS {
                    let row = RecordRow {
                        flags: records::Flags::default(),
                        indexed_at_us: 1,
                        first_indexed_at_us: 1,
                        block: block.clone(),
                    };
                    view.put(
                        records::key(&did("ann"), COLLECTION, &format!("3laaaaaaaaa{}2", (b'a' + n as u8) as char)),
                        row.write(),
                    );
                }
                Ok(())
            })
            .await;
        let (all, some) = world
            .write(|view| {
                let all = records(view, &did("ann"), None, 100)?;
                let after = (all[2].0.clone(), all[2].1.clone());
                Ok((all, records(view, &did("ann"), Some(&after), 10)?))
            })
            .await;
        assert_eq!((all.len(), some.len()), (RECORDS, 10));
        assert_eq!(some[0], all[3]);
    }
}
