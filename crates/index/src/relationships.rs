//! What stands between accounts: follows, blocks and mutes, direct and through lists.
//!
//! Every answer comes from point look-ups of all pairs at once. Through a list, an account is shut off in two steps:
//! the lists that the one side blocks or mutes, which are few, and whether the other side is on each of them.

use std::collections::HashMap;

use bytes::Bytes;
use gp_proto as proto;
use gp_store::{Key, Scan};

use crate::{
    Cx, Result, atom,
    atom::{Atom, Parts},
    blocks, follows, lists, mutes,
    placed::uri_of,
    relation::{self, Relation, Shape},
    tables::{self, BY, ON, PRIVATE, by, on, private},
};

/// Blocked or muted lists that are looked at of one account. Nobody has use for more, and each costs a look-up for
/// each account on a page.
const LISTS_PER_ACCOUNT_MAX: usize = 1_000;

/// Look-ups handed to the store at once, so that a huge request does not hold all its keys in memory.
pub(crate) const KEYS_PER_GET: usize = 20_000;

/// One relation that is asked for: does `did` stand in it to `subject`?
pub(crate) struct Ask<'a> {
    /// The relation.
    pub(crate) shape: &'static Shape,
    /// Whose.
    pub(crate) did: &'a str,
    /// To whom or what.
    pub(crate) subject: &'a [u8],
}

/// Addresses of the records that stand, in the order asked; empty where none does.
pub(crate) async fn standing(cx: &Cx, asks: &[Ask<'_>]) -> Result<Vec<String>> {
    let keys: Vec<Key> = asks.iter().map(|a| relation::claims_key(a.did, a.shape.relation, a.subject)).collect();
    let found = cx.store.get(&keys).await?;
    asks.iter().zip(&found).map(|(ask, stored)| standing_uri(ask.did, ask.shape, stored.as_ref())).collect()
}

fn standing_uri(did: &str, shape: &Shape, stored: Option<&Bytes>) -> Result<String> {
    match stored {
        Some(stored) => Ok(uri_of(did, shape.collection, &relation::standing_rkey(stored)?)),
        None => Ok(String::new()),
    }
}

/// How one side shuts off the members of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Through {
    /// By blocking the list.
    Block,
    /// By muting the list.
    Mute,
}

impl Through {
    /// The lists that an account blocks or mutes.
    fn scan(self, did: &str) -> Scan {
        match self {
            Self::Block => tables::scan_by(did, by::CLAIM).prefix([by::CLAIM, Relation::ListBlock as u8]),
            Self::Mute => tables::scan_private(did, private::LIST_MUTE),
        }
        .limit(LISTS_PER_ACCOUNT_MAX)
    }

    /// The list in a position of that scan.
    fn list(self, clustering: &[u8]) -> &[u8] {
        let tags = match self {
            Self::Block => 2,
            Self::Mute => 1,
        };
        clustering.get(tags..).unwrap_or_default()
    }

    fn table(self) -> &'static str {
        match self {
            Self::Block => BY.name,
            Self::Mute => PRIVATE.name,
        }
    }
}

/// Asks for a list that `holder` blocks or mutes and that `member` is on.
pub(crate) struct Via<'a> {
    /// Who blocks or mutes.
    pub(crate) holder: &'a str,
    /// How.
    pub(crate) through: Through,
    /// Who is shut off.
    pub(crate) member: &'a str,
}

/// The lists through which accounts are shut off, in the order asked; empty where none.
///
/// Only one list fits into an answer, and the AppView believes it only if it is a moderation list that stands and
/// whose owner is active. So of several lists one that it will believe is chosen (read-rpcs 5.3).
pub(crate) async fn via_lists(cx: &Cx, asks: &[Via<'_>]) -> Result<Vec<String>> {
    let mut places: HashMap<(&str, Through), usize> = HashMap::new();
    let mut holders: Vec<(&str, Through)> = Vec::new();
    for ask in asks {
        places.entry((ask.holder, ask.through)).or_insert_with(|| {
            holders.push((ask.holder, ask.through));
            holders.len() - 1
        });
    }
    let pages = cx.store.scan_many(holders.iter().map(|(did, through)| through.scan(did)).collect()).await?;
    let lists_of = |ask: &Via<'_>| &pages[places[&(ask.holder, ask.through)]].rows;
    let mut candidates: Vec<Vec<String>> = asks.iter().map(|_| Vec::new()).collect();
    let mut probes: Vec<(usize, &[u8])> = Vec::new();
    let mut keys: Vec<Key> = Vec::new();
    for (place, ask) in asks.iter().enumerate() {
        let member = atom::did(ask.member);
        for row in lists_of(ask) {
            let list = ask.through.list(row.clustering());
            keys.push(Key::of(&ON).atom(list).cluster().tag(on::MEMBER).atom(&member).key());
            probes.push((place, list));
        }
        if keys.len() >= KEYS_PER_GET || (place + 1 == asks.len() && !keys.is_empty()) {
            let found = cx.store.get(&keys).await?;
            for ((place, list), found) in probes.drain(..).zip(found) {
                if found.is_some() {
                    candidates[place].push(Parts::of(asks[place].through.table(), list).uri()?);
                }
            }
            keys.clear();
        }
    }
    choose(cx, candidates).await
}

/// Of each group of lists one that the AppView will believe, or any.
async fn choose(cx: &Cx, candidates: Vec<Vec<String>>) -> Result<Vec<String>> {
    let mut doubtful: Vec<String> = candidates.iter().filter(|lists| lists.len() > 1).flatten().cloned().collect();
    doubtful.sort_unstable();
    doubtful.dedup();
    let effective = lists::effective_mod_lists(cx, &doubtful).await?;
    let is_effective = |list: &String| doubtful.binary_search(list).is_ok_and(|at| effective[at]);
    Ok(candidates
        .into_iter()
        .map(|lists| {
            let best = lists.iter().position(&is_effective).unwrap_or(0);
            lists.into_iter().nth(best).unwrap_or_default()
        })
        .collect())
}

/// What stands between one account and each of many others. Others without an account row are answered as well: the
/// relations are known even where the account is not.
pub async fn get_relationships(
    cx: &Cx,
    req: proto::GetRelationshipsRequest,
) -> Result<proto::GetRelationshipsResponse> {
    let (viewer, targets) = (req.actor_did.as_str(), &req.target_dids);
    if targets.is_empty() {
        return Ok(proto::GetRelationshipsResponse::default());
    }
    let viewer_atom = atom::did(viewer);
    let atoms: Vec<Atom> = targets.iter().map(|t| atom::did(t)).collect();
    // Only the record of a follow that there is must be looked up.
    let pairs = atoms.iter().flat_map(|target| [(&viewer_atom[..], &target[..]), (&target[..], &viewer_atom[..])]);
    let follows = cx.graph.are(pairs);
    let follows = |at: usize| follows.as_ref().is_none_or(|follows| follows[at]);
    let mut keys = Vec::with_capacity(targets.len() * 5);
    let mut vias = Vec::with_capacity(targets.len() * 3);
    for (i, (target, target_atom)) in targets.iter().zip(&atoms).enumerate() {
        if follows(2 * i) {
            keys.push(relation::claims_key(viewer, Relation::Follow, target_atom));
        }
        if follows(2 * i + 1) {
            keys.push(relation::claims_key(target, Relation::Follow, &viewer_atom));
        }
        keys.push(relation::claims_key(viewer, Relation::Block, target_atom));
        keys.push(relation::claims_key(target, Relation::Block, &viewer_atom));
        keys.push(tables::private_of(viewer, private::MUTE).atom(target_atom).key());
        vias.push(Via { holder: viewer, through: Through::Block, member: target });
        vias.push(Via { holder: target, through: Through::Block, member: viewer });
        vias.push(Via { holder: viewer, through: Through::Mute, member: target });
    }
    let mut found = cx.store.get(&keys).await?.into_iter();
    let mut next = |is_asked: bool| if is_asked { found.next().flatten() } else { None };
    let mut lists = via_lists(cx, &vias).await?.into_iter();
    let mut list = || lists.next().unwrap_or_default();
    let mut relationships = Vec::with_capacity(targets.len());
    for (i, target) in targets.iter().enumerate() {
        let (following, followed_by) = (next(follows(2 * i)), next(follows(2 * i + 1)));
        let (blocking, blocked_by, mute) = (next(true), next(true), next(true));
        let mute = mute.as_deref().map(mutes::read_mute).transpose()?.map(|(scope, _)| scope);
        let (blocking_by_list, blocked_by_list, muted_by_list) = (list(), list(), list());
        relationships.push(proto::Relationships {
            muted: mute == Some(0),
            muted_by_list,
            blocked_by: standing_uri(target, &blocks::SHAPE, blocked_by.as_ref())?,
            blocking: standing_uri(viewer, &blocks::SHAPE, blocking.as_ref())?,
            blocked_by_list,
            blocking_by_list,
            following: standing_uri(viewer, &follows::SHAPE, following.as_ref())?,
            followed_by: standing_uri(target, &follows::SHAPE, followed_by.as_ref())?,
            muted_only_reposts: mute.is_some_and(|scope| scope & mutes::ONLY_REPOSTS != 0),
            muted_only_quoteposts: mute.is_some_and(|scope| scope & mutes::ONLY_QUOTES != 0),
        });
    }
    Ok(proto::GetRelationshipsResponse { relationships })
}

#[cfg(test)]
mod tests {
    use gp_store::View;

    use super::*;
    use crate::{
        actors, moderation,
        mutes::{self, MuteOp, apply_mute},
        testing::{World, at, did},
    };

    async fn ask(world: &World, viewer: &str, targets: &[&str]) -> Vec<proto::Relationships> {
        let target_dids = targets.iter().map(|t| (*t).to_owned()).collect();
        let ask = proto::GetRelationshipsRequest { actor_did: viewer.to_owned(), target_dids };
        get_relationships(&world.cx, ask).await.unwrap().relationships
    }

    async fn mute(world: &World, actor: &str, subject: &str, scope: u8) {
        let (actor, subject) = (actor.to_owned(), subject.to_owned());
        world.write(move |view| apply_mute(view, MuteOp::Add, &actor, &subject, scope, at(0))).await;
    }

    #[tokio::test]
    async fn every_field_has_its_direction_and_every_target_its_place() {
        let world = World::new();
        let (viewer, t, u, owner) = (did("viewer"), did("t"), did("u"), did("owner"));
        let following = world.follow(&viewer, &t, "f", at(0)).await;
        let followed_by = world.follow(&u, &viewer, "f", at(0)).await;
        let blocking = world.block(&viewer, &u, "b", at(0)).await;
        let blocked_by = world.block(&t, &viewer, "b", at(0)).await;
        let theirs = world.list(&owner, "modlist", "theirs", at(0)).await;
        world.item(&owner, &theirs, &viewer, "1", at(0)).await;
        world.list_block(&t, &theirs, "lb", at(0)).await;
        let mine = world.list(&owner, "modlist", "mine", at(0)).await;
        world.item(&owner, &mine, &u, "2", at(0)).await;
        world.list_block(&viewer, &mine, "lb", at(0)).await;
        let muted = world.list(&owner, "modlist", "muted", at(0)).await;
        world.item(&owner, &muted, &t, "3", at(0)).await;
        mute(&world, &viewer, &muted, 0).await;
        mute(&world, &viewer, &u, 0).await;
        let t_is = proto::Relationships {
            following,
            blocked_by,
            blocked_by_list: theirs,
            muted_by_list: muted,
            ..Default::default()
        };
        let u_is =
            proto::Relationships { followed_by, blocking, blocking_by_list: mine, muted: true, ..Default::default() };
        let none = proto::Relationships::default();
        let found = ask(&world, &viewer, &[&t, "junk", &u, &viewer, "", &t]).await;
        assert_eq!(found, [t_is.clone(), none.clone(), u_is, none.clone(), none, t_is]);
        assert!(ask(&world, &viewer, &[]).await.is_empty());
    }

    #[tokio::test]
    async fn a_scoped_mute_is_no_mute() {
        let world = World::new();
        let viewer = did("viewer");
        let both = mutes::ONLY_REPOSTS | mutes::ONLY_QUOTES;
        for (name, scope) in [("a", 0), ("b", mutes::ONLY_REPOSTS), ("c", mutes::ONLY_QUOTES), ("d", both)] {
            mute(&world, &viewer, &did(name), scope).await;
        }
        let found = ask(&world, &viewer, &[&did("a"), &did("b"), &did("c"), &did("d"), &did("e")]).await;
        let flags: Vec<_> = found.iter().map(|r| (r.muted, r.muted_only_reposts, r.muted_only_quoteposts)).collect();
        let expected = [
            (true, false, false),
            (false, true, false),
            (false, false, true),
            (false, true, true),
            (false, false, false),
        ];
        assert_eq!(flags, expected);
    }

    /// A target that is on many of the viewer's lists, of which one counts, in every order of their addresses.
    #[tokio::test]
    async fn of_several_lists_the_one_that_counts_is_told() {
        let keys = ["1", "2", "3", "4", "5"];
        for turn in 0..keys.len() {
            let world = World::new();
            let (viewer, target) = (did("viewer"), did("target"));
            let mut lists = Vec::new();
            for (i, owner) in ["o", "o", "o", "o", "away"].iter().enumerate() {
                let (owner, rkey) = (did(owner), keys[(i + turn) % keys.len()]);
                let purpose = if i == 1 { "curatelist" } else { "modlist" };
                let list = world.list(&owner, purpose, rkey, at(0)).await;
                world.item(&owner, &list, &target, &format!("i{rkey}"), at(0)).await;
                world.list_block(&viewer, &list, rkey, at(0)).await;
                lists.push(list);
            }
            // Of five: one is gone, one is no moderation list, one is taken down, one belongs to somebody inactive.
            world.delete(&did("o"), "app.bsky.graph.list", keys[turn % keys.len()], at(1)).await;
            let (taken_down, counts) = (lists[2].clone(), lists[3].clone());
            take_down(&world, &taken_down).await;
            let away = did("away");
            world.write(move |view| actors::set_account(view, &away, false, Some("deactivated"), at(1))).await;
            let told = ask(&world, &viewer, &[&target]).await.remove(0).blocking_by_list;
            assert_eq!(told, counts, "turn {turn}");
            assert_eq!(ask(&world, &target, &[&viewer]).await[0].blocked_by_list, counts);
            // When none counts, any is told: there is a block all the same.
            take_down(&world, &did("o")).await;
            let told = ask(&world, &viewer, &[&target]).await.remove(0).blocking_by_list;
            assert!(lists.contains(&told));
        }
    }

    async fn take_down(world: &World, subject: &str) {
        let subject = subject.to_owned();
        let job = move |view: &mut View<'_>| {
            let record = crate::records::key_of(&subject).map(|_| subject.as_str());
            moderation::set(view, moderation::key_of_subject(&subject), record, Some("T"), 0)
        };
        world.write(job).await;
    }

    #[tokio::test]
    async fn more_probes_than_one_look_holds_are_all_answered() {
        let world = World::new();
        let (viewer, owner) = (did("viewer"), did("owner"));
        for i in 0..30 {
            let list = world.list(&owner, "modlist", &format!("l{i}"), at(0)).await;
            world.list_block(&viewer, &list, &format!("b{i}"), at(0)).await;
            if i == 29 {
                world.item(&owner, &list, "did:web:t1499.test", "x", at(0)).await;
            }
        }
        let targets: Vec<String> = (0..1500).map(|i| format!("did:web:t{i}.test")).collect();
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        assert!(targets.len() * 30 > KEYS_PER_GET);
        let found = ask(&world, &viewer, &targets).await;
        assert_eq!(found.len(), targets.len());
        let by_list: Vec<usize> = (0..found.len()).filter(|i| !found[*i].blocking_by_list.is_empty()).collect();
        assert_eq!(by_list, [1499]);
    }
}
