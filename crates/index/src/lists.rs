//! Lists, who is on them, and who asked to be left out of their public face.

use gp_atproto::aturi;
use gp_proto as proto;
use gp_store::{Key, Row};
use serde::Deserialize;

use crate::{
    Cx, Result, actors, atom,
    atom::{Atom, Parts},
    counts::{ByCount, Head, OnCount},
    listing::{self, Walk},
    placed::{Placed, did_of, uri_of},
    records::{self, Flags},
    relation::{self, Relation, Shape},
    relationships::{Ask, standing},
    rows::{Rows, timed_by, timed_on},
    tables::{self, ON, by, on},
};

/// The collection of lists.
pub const LIST: &str = "app.bsky.graph.list";

/// Membership as a relation between a list's owner and `(list, member)`.
pub static ITEM_SHAPE: Shape = Shape {
    relation: Relation::ListItem,
    collection: "app.bsky.graph.listitem",
    subject: item_subject,
    rows: item_rows,
    promotes: true,
    asked: Some(|it| Some((it.text("list")?.to_owned(), it.text("subject")?.to_owned()))),
};

/// Opt-outs as a relation between an account and a list.
///
/// A second opt-out from the same list is kept as a record only, and the end of the standing one ends the opt-out: a
/// client that undoes it deletes the one address it was given (since-0.0.275 2.3).
pub static OPT_OUT_SHAPE: Shape = Shape {
    relation: Relation::OptOut,
    collection: "app.bsky.graph.referencelistoptout",
    subject: |it| it.text("subject").filter(|s| is_list(s)).map(atom::uri),
    rows: |_, _| {},
    promotes: false,
    asked: None,
};

/// The claim key of a membership: the list, then the member.
pub fn item_key(list: &str, member: &str) -> Atom {
    let mut key = atom::uri(list);
    key.extend_from_slice(&atom::did(member));
    key
}

fn item_subject(it: &Placed<'_>) -> Option<Atom> {
    Some(item_key(it.text("list")?, it.text("subject")?))
}

/// An item must be in the repo that owns the list (ingest 7.10).
pub(crate) fn refuse_item(it: &Placed<'_>) -> Option<&'static str> {
    (it.text("list").and_then(did_of) != Some(it.did)).then_some("the list belongs to another account")
}

/// Whether the text is exactly the canonical address of a list (since-0.0.275 2.2).
fn is_list(subject: &str) -> bool {
    did_of(subject).is_some()
        && crate::placed::split_uri(subject).is_some_and(|(_, collection, _)| collection == LIST)
        && aturi::is_valid(subject)
}

/// The rows of one list. Pure.
pub fn list_rows(it: &Placed<'_>, out: &mut Rows) {
    out.put_by(it.did, timed_by(it, by::LIST), "", ByCount::Lists);
}

/// The rows of one standing membership. Pure.
pub fn item_rows(it: &Placed<'_>, out: &mut Rows) {
    let (Some(list), Some(member)) = (it.text("list"), it.text("subject")) else { return };
    let member_atom = atom::did(member);
    out.put_on(list, timed_on(list, on::ITEM, it), member_atom.to_vec(), OnCount::Items);
    out.put(tables::on_subject(list, on::MEMBER).atom(&member_atom).key(), atom::rkey(it.rkey).to_vec());
}

/// The purpose of lists that blocks and mutes are honoured through.
const MOD_LIST: &str = "app.bsky.graph.defs#modlist";

/// The purpose of lists that members may ask to be left out of.
const REFERENCE_LIST: &str = "app.bsky.graph.defs#referencelist";

/// What reads need to know of a list that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// What the list is for.
    pub(crate) purpose: String,
    /// Whether this service has taken it down.
    pub(crate) taken_down: bool,
}

/// What is known of some lists, in the order asked; nothing for those that do not stand.
pub(crate) async fn facts(cx: &Cx, uris: &[String]) -> Result<Vec<Option<Facts>>> {
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        purpose: String,
    }
    let read = |served: records::Served| {
        let record = served.record;
        if record.cid.is_empty() {
            return None;
        }
        let list: Option<List> = serde_json::from_slice(&record.record).ok();
        Some(Facts {
            purpose: list.map(|list| list.purpose).unwrap_or_default(),
            taken_down: served.flags.has(Flags::TAKEN_DOWN),
        })
    };
    Ok(records::look_up(cx, uris, LIST).await?.into_iter().map(read).collect())
}

/// Which of some lists the AppView honours blocks and mutes through: moderation lists that stand, not taken down, of
/// owners that are active (read-rpcs 5.3).
pub(crate) async fn effective_mod_lists(cx: &Cx, uris: &[String]) -> Result<Vec<bool>> {
    if uris.is_empty() {
        return Ok(Vec::new());
    }
    let facts = facts(cx, uris).await?;
    let owners: Vec<&str> = uris.iter().map(|uri| did_of(uri).unwrap_or_default()).collect();
    let mod_list =
        |list: &Option<Facts>| list.as_ref().is_some_and(|list| list.purpose == MOD_LIST && !list.taken_down);
    let active = actors::active(cx, &owners).await?;
    Ok(facts.iter().zip(active).map(|(list, active)| active && mod_list(list)).collect())
}

/// The lists of an account of all purposes, newest first.
pub async fn get_actor_lists(cx: &Cx, req: proto::GetActorListsRequest) -> Result<proto::GetActorListsResponse> {
    let (list_uris, cursor) = listing::by_page(cx, &req.actor_did, by::LIST, LIST, req.limit, &req.cursor).await?;
    Ok(proto::GetActorListsResponse { list_uris, cursor })
}

/// The members of a list, newest first.
///
/// Members who opted out of a reference list are marked for its owner and left out for everybody else, the page being
/// filled with others (since-0.0.275 2.5).
pub async fn get_list_members(cx: &Cx, req: proto::GetListMembersRequest) -> Result<proto::GetListMembersResponse> {
    let list = req.list_uri.as_str();
    let facts = facts(cx, std::slice::from_ref(&req.list_uri)).await?.pop().flatten();
    let face = facts.is_some_and(|list| list.purpose == REFERENCE_LIST);
    let owned = did_of(list).is_some_and(|owner| owner == req.viewer_did);
    let subject = atom::uri(list);
    let mut walk = Walk::new(tables::scan_on(list, on::ITEM), on::ITEM, req.limit, &req.cursor)?;
    while let Some(rows) = walk.rows(cx).await? {
        let members = rows.iter().map(|row| Parts::of(ON.name, &row.value).did()).collect::<Result<Vec<String>>>()?;
        let opted_out = if face {
            let keys: Vec<Key> =
                members.iter().map(|did| relation::claims_key(did, Relation::OptOut, &subject)).collect();
            cx.store.get(&keys).await?.iter().map(Option::is_some).collect()
        } else {
            vec![false; rows.len()]
        };
        for ((row, did), subject_opted_out) in rows.into_iter().zip(members).zip(opted_out) {
            if !subject_opted_out || owned {
                let info = proto::ListItemInfo { uri: item_uri(&row)?, did, subject_opted_out };
                walk.keep(row, info);
            }
        }
    }
    let (listitems, cursor) = walk.finish(cx, item_uri).await?;
    Ok(proto::GetListMembersResponse { listitems, cursor })
}

fn item_uri(row: &Row) -> Result<String> {
    let (did, rkey) = listing::on_row(row)?;
    Ok(uri_of(&did, ITEM_SHAPE.collection, &rkey))
}

/// The items by which one account is on each of many lists.
pub async fn get_list_membership(
    cx: &Cx,
    req: proto::GetListMembershipRequest,
) -> Result<proto::GetListMembershipResponse> {
    let member = atom::did(&req.actor_did);
    let place = |list: &String| tables::on_subject(list, on::MEMBER).atom(&member).key();
    let keys: Vec<Key> = req.list_uris.iter().map(place).collect();
    let mut listitem_uris = Vec::with_capacity(keys.len());
    for (list, stored) in req.list_uris.iter().zip(cx.store.get(&keys).await?) {
        // An item is in the repo of the list's owner, or it would not have been kept.
        listitem_uris.push(match (stored, did_of(list)) {
            (Some(stored), Some(owner)) => uri_of(owner, ITEM_SHAPE.collection, &Parts::of(ON.name, &stored).rkey()?),
            _ => String::new(),
        });
    }
    Ok(proto::GetListMembershipResponse { listitem_uris })
}

/// How many members a list has.
pub async fn get_list_count(cx: &Cx, req: proto::GetListCountRequest) -> Result<proto::GetListCountResponse> {
    let head = cx.store.get_one(&tables::on_head(&req.list_uri)).await?;
    Ok(proto::GetListCountResponse { count: Head::read(head.as_ref()).on(OnCount::Items) })
}

/// How many members each of many lists has, opted out or not.
pub async fn get_list_counts(cx: &Cx, req: proto::GetListCountsRequest) -> Result<proto::GetListCountsResponse> {
    let keys: Vec<Key> = req.refs.iter().map(|r| tables::on_head(&r.uri)).collect();
    let heads = cx.store.get(&keys).await?;
    let list_items = heads.iter().map(|head| Head::read(head.as_ref()).on(OnCount::Items)).collect();
    Ok(proto::GetListCountsResponse { list_items })
}

/// The opt-outs of one account from each of many lists, as far as they are reference lists now.
pub async fn get_referencelistoptouts_by_actor_and_subjects(
    cx: &Cx,
    req: proto::GetReferencelistoptoutsByActorAndSubjectsRequest,
) -> Result<proto::GetReferencelistoptoutsByActorAndSubjectsResponse> {
    let subjects: Vec<_> = req.subject_uris.iter().map(|uri| atom::uri(uri)).collect();
    let asks: Vec<_> =
        subjects.iter().map(|s| Ask { shape: &OPT_OUT_SHAPE, did: &req.actor_did, subject: s }).collect();
    let mut uris = standing(cx, &asks).await?;
    // Hardly anybody opts out of anything, so few lists need to be looked at.
    let places: Vec<usize> = (0..uris.len()).filter(|i| !uris[*i].is_empty()).collect();
    let lists: Vec<String> = places.iter().map(|i| req.subject_uris[*i].clone()).collect();
    for (place, list) in places.into_iter().zip(facts(cx, &lists).await?) {
        if list.is_none_or(|list| list.purpose != REFERENCE_LIST) {
            uris[place].clear();
        }
    }
    Ok(proto::GetReferencelistoptoutsByActorAndSubjectsResponse { uris })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{World, at, did, iso, list as list_record, walk};

    const ITEM: &str = "app.bsky.graph.listitem";
    const OPT_OUT: &str = "app.bsky.graph.referencelistoptout";

    async fn opt_out(world: &World, member: &str, list: &str, rkey: &str) -> String {
        world.create(member, OPT_OUT, rkey, json!({"subject": list, "createdAt": iso(at(0))}), at(0)).await
    }

    async fn members(world: &World, list: &str, viewer: &str) -> Vec<(String, bool)> {
        let found = walk!(|limit, cursor| {
            let (list_uri, viewer_did) = (list.to_owned(), viewer.to_owned());
            let ask = proto::GetListMembersRequest { list_uri, limit, cursor, viewer_did };
            let found = get_list_members(&world.cx, ask).await.unwrap();
            (found.listitems, found.cursor)
        });
        assert!(found.iter().all(|i| i.uri.starts_with(&format!("at://{}/{ITEM}/", did("owner")))));
        found.into_iter().map(|i| (i.did, i.subject_opted_out)).collect()
    }

    async fn opted_out(world: &World, actor: &str, lists: &[&str]) -> Vec<String> {
        let ask = proto::GetReferencelistoptoutsByActorAndSubjectsRequest {
            actor_did: actor.to_owned(),
            subject_uris: lists.iter().map(|l| (*l).to_owned()).collect(),
        };
        get_referencelistoptouts_by_actor_and_subjects(&world.cx, ask).await.unwrap().uris
    }

    #[tokio::test]
    async fn lists_of_an_account_are_paged_newest_first_whatever_their_purpose() {
        let world = World::new();
        let owner = did("owner");
        let mut expected = Vec::new();
        for i in 0..9i64 {
            let purpose = ["modlist", "curatelist", "referencelist"][i as usize % 3];
            expected.insert(0, world.list(&owner, purpose, &format!("l{i}"), at(i)).await);
        }
        let found = walk!(|limit, cursor| {
            let ask = proto::GetActorListsRequest { actor_did: owner.clone(), limit, cursor };
            let found = get_actor_lists(&world.cx, ask).await.unwrap();
            (found.list_uris, found.cursor)
        });
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn members_are_paged_newest_first_though_the_list_itself_was_never_seen() {
        let world = World::new();
        let owner = did("owner");
        let list = format!("at://{owner}/{LIST}/unknown");
        let mut expected = Vec::new();
        for i in 0..10i64 {
            let member = format!("did:web:m{i}.test");
            world.item(&owner, &list, &member, &format!("i{i}"), at(i)).await;
            expected.insert(0, (member, false));
        }
        assert_eq!(members(&world, &list, "").await, expected);
        for limit in [0, -1] {
            let ask = proto::GetListMembersRequest { list_uri: list.clone(), limit, ..Default::default() };
            let none = get_list_members(&world.cx, ask).await.unwrap();
            assert_eq!(none, proto::GetListMembersResponse::default());
        }
        let ask = proto::GetListMembersRequest { list_uri: "junk".into(), limit: 5, ..Default::default() };
        assert!(get_list_members(&world.cx, ask).await.unwrap().listitems.is_empty());
    }

    #[tokio::test]
    async fn members_who_opted_out_are_shown_to_the_owner_only() {
        let world = World::new();
        let owner = did("owner");
        let list = world.list(&owner, "referencelist", "l", at(0)).await;
        let (mut all, mut left) = (Vec::new(), Vec::new());
        for i in 0..12i64 {
            let member = format!("did:web:m{i}.test");
            world.item(&owner, &list, &member, &format!("i{i}"), at(i)).await;
            let out = i % 4 != 1;
            if out {
                opt_out(&world, &member, &list, "o").await;
            } else {
                left.insert(0, (member.clone(), false));
            }
            all.insert(0, (member, out));
        }
        for viewer in ["", "did:web:m0.test", "owner.test"] {
            assert_eq!(members(&world, &list, viewer).await, left);
        }
        assert_eq!(members(&world, &list, &owner).await, all);
        // The page is full although most members are left out, and the last page has no token.
        let ask = proto::GetListMembersRequest { list_uri: list.clone(), limit: 3, ..Default::default() };
        let exact = get_list_members(&world.cx, ask).await.unwrap();
        assert_eq!((exact.listitems.len(), exact.cursor.as_str()), (3, ""));
        // Counts and memberships stay as they are.
        let count = get_list_count(&world.cx, proto::GetListCountRequest { list_uri: list.clone() }).await.unwrap();
        assert_eq!(count.count, 12);
        // The purpose of now decides.
        world.update(&owner, LIST, "l", list_record("curatelist", at(0)), at(100)).await;
        let shown: Vec<_> = all.iter().map(|(did, _)| (did.clone(), false)).collect();
        assert_eq!(members(&world, &list, "").await, shown);
        assert_eq!(members(&world, &list, &owner).await, shown);
        world.update(&owner, LIST, "l", list_record("referencelist", at(0)), at(101)).await;
        assert_eq!(members(&world, &list, "").await, left);
        world.delete(&owner, LIST, "l", at(102)).await;
        assert_eq!(members(&world, &list, "").await, shown);
    }

    #[tokio::test]
    async fn opt_outs_are_told_for_reference_lists_only_and_in_place() {
        let world = World::new();
        let (me, owner) = (did("me"), did("owner"));
        let reference = world.list(&owner, "referencelist", "r", at(0)).await;
        let curate = world.list(&owner, "curatelist", "c", at(0)).await;
        let unknown = format!("at://{owner}/{LIST}/u");
        let uri = opt_out(&world, &me, &reference, "r").await;
        opt_out(&world, &me, &curate, "c").await;
        opt_out(&world, &me, &unknown, "u").await;
        opt_out(&world, &me, &format!("{reference}#/fragment"), "f").await;
        let asked = [reference.as_str(), &curate, "", &unknown, "junk", &reference];
        assert_eq!(opted_out(&world, &me, &asked).await, [&uri, "", "", "", "", &uri]);
        assert_eq!(opted_out(&world, &owner, &asked).await, [""; 6]);
        assert!(opted_out(&world, &me, &[]).await.is_empty());
        // A second one changes nothing, and the end of the first is the end of the opt-out.
        opt_out(&world, &me, &reference, "second").await;
        assert_eq!(opted_out(&world, &me, &[&reference]).await, std::slice::from_ref(&uri));
        world.delete(&me, OPT_OUT, "second", at(1)).await;
        assert_eq!(opted_out(&world, &me, &[&reference]).await, [uri]);
        world.delete(&me, OPT_OUT, "r", at(2)).await;
        assert_eq!(opted_out(&world, &me, &[&reference]).await, [""]);
    }

    #[tokio::test]
    async fn memberships_and_counts_stand_in_place() {
        let world = World::new();
        let (me, owner) = (did("me"), did("owner"));
        let (on, off) =
            (world.list(&owner, "curatelist", "on", at(0)).await, world.list(&owner, "curatelist", "off", at(0)).await);
        let first = world.item(&owner, &on, &me, "one", at(1)).await;
        let second = world.item(&owner, &on, &me, "two", at(2)).await;
        world.item(&owner, &on, &did("other"), "three", at(2)).await;
        let lists = [on.as_str(), &off, "junk", "", &on, "at://owner.test/app.bsky.graph.list/on"];
        let membership = async || {
            let list_uris = lists.iter().map(|l| (*l).to_owned()).collect();
            let ask = proto::GetListMembershipRequest { actor_did: me.clone(), list_uris };
            get_list_membership(&world.cx, ask).await.unwrap().listitem_uris
        };
        let counts = async || {
            let refs = lists.iter().map(|uri| proto::RecordRef { uri: (*uri).to_owned(), cid: String::new() });
            let ask = proto::GetListCountsRequest { refs: refs.collect() };
            get_list_counts(&world.cx, ask).await.unwrap().list_items
        };
        assert_eq!(membership().await, [&first, "", "", "", &first, ""]);
        assert_eq!(counts().await, [2, 0, 0, 0, 2, 0]);
        // The item that waits takes over, and the count stays.
        world.delete(&owner, ITEM, "one", at(3)).await;
        assert_eq!(membership().await, [&second, "", "", "", &second, ""]);
        assert_eq!(counts().await, [2, 0, 0, 0, 2, 0]);
        world.delete(&owner, ITEM, "two", at(4)).await;
        assert_eq!(membership().await, [""; 6]);
        assert_eq!(counts().await, [1, 0, 0, 0, 1, 0]);
    }
}
