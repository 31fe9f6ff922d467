//! Threads: replies of the author of a root, and the whole tree around a post.

use std::collections::{HashMap, HashSet};

use gp_atproto::Tid;
use gp_proto as proto;
use gp_store::{Key, View};

use crate::{
    Cx, Error, Result, atom,
    atom::Parts,
    counts::{Head, OnCount},
    placed::{Placed, cut_to_ms, did_of, uri_of},
    posts::{self, PostFacts, Reading},
    records,
    tables::{self, ON, on},
};

/// A reply by the author of its thread's root. It stays, marked, when the post is deleted: a deleted reply keeps its
/// place in the chain while something of the author's hangs below it (read-rpcs 5.7).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OpReply {
    /// Address of the parent.
    #[prost(string, tag = "1")]
    pub parent: String,
    /// When it was deleted, in microseconds; 0 while it stands.
    #[prost(int64, tag = "2")]
    pub deleted_at_us: i64,
}

fn key(root: &str, rkey: &str) -> Key {
    tables::on_subject(root, on::OP_REPLY).atom(&atom::rkey(rkey)).key()
}

pub(crate) fn op_reply_stands(view: &mut View<'_>, it: &Placed<'_>, reading: &Reading<'_>) -> Result<()> {
    let Some((root, parent)) = reading.reply else { return Ok(()) };
    if did_of(root) == Some(it.did) {
        let row = OpReply { parent: parent.to_owned(), deleted_at_us: 0 };
        view.put(key(root, it.rkey), prost::Message::encode_to_vec(&row));
    }
    Ok(())
}

pub(crate) fn op_reply_gone(view: &mut View<'_>, it: &Placed<'_>, reading: &Reading<'_>, time_us: i64) -> Result<()> {
    let Some((root, parent)) = reading.reply else { return Ok(()) };
    if did_of(root) == Some(it.did) {
        let row = OpReply { parent: parent.to_owned(), deleted_at_us: time_us };
        view.put(key(root, it.rkey), prost::Message::encode_to_vec(&row));
    }
    Ok(())
}

/// Ancestors and levels of replies that one call may ask for.
const LEVELS_MAX: i32 = 1_000;

/// Posts below an anchor that one answer holds. Beyond, the newest of the last level read are kept.
const DESCENDANTS_MAX: usize = 100_000;

/// Replies of an author to their own root that are considered. Beyond, the thread is not marked.
const OP_REPLIES_MAX: usize = 100_000;

/// A post, its ancestors nearest first, then everything below it, newest first whatever the level (read-rpcs 5.7).
pub async fn get_thread(cx: &Cx, req: proto::GetThreadRequest) -> Result<proto::GetThreadResponse> {
    let (above, below) = (req.above.clamp(0, LEVELS_MAX), req.below.clamp(0, LEVELS_MAX));
    let mut uris = Vec::new();
    let mut root = None;
    let mut next = Some(req.post_uri.clone());
    let mut seen = HashSet::new();
    for step in 0..=above {
        let Some(uri) = next.take() else { break };
        let (Some(record), Some(post)) = (records::key_of(&uri), posts::post_key_of(&uri)) else { break };
        let found = cx.store.get(&[record, post]).await?;
        let facts = PostFacts::read(found[1].as_ref())?;
        if step == 0 {
            root = facts.reply.as_ref().map(|(root, _)| root.clone());
        }
        if found[0].is_none() || !seen.insert(uri.clone()) {
            break;
        }
        uris.push(uri);
        next = facts.reply.map(|(_, parent)| parent);
    }
    if below > 0 {
        uris.extend(descendants(cx, &req.post_uri, below, &mut seen).await?);
    }
    let root = root.unwrap_or(req.post_uri);
    let op_thread = op_chains(cx, &[root]).await?.pop().unwrap_or_default();
    Ok(proto::GetThreadResponse { uris, op_thread })
}

/// Everything at most `levels` below a post, newest first.
async fn descendants(cx: &Cx, anchor: &str, levels: i32, seen: &mut HashSet<String>) -> Result<Vec<String>> {
    seen.insert(anchor.to_owned());
    let mut found: Vec<(i64, u32, String)> = Vec::new();
    let mut level = vec![anchor.to_owned()];
    for _ in 0..levels {
        let heads: Vec<Key> = level.iter().map(|uri| tables::on_head(uri)).collect();
        let mut scans = Vec::new();
        for (uri, head) in level.iter().zip(cx.store.get(&heads).await?) {
            let head = Head::read(head.as_ref());
            for (kind, cell) in [(on::REPLY, OnCount::Replies), (on::REPLY_GATED, OnCount::RepliesGated)] {
                if head.get(cell as u8) > 0 {
                    scans.push(tables::scan_on(uri, kind));
                }
            }
        }
        let mut below = Vec::new();
        while !scans.is_empty() && found.len() < DESCENDANTS_MAX {
            let pages = cx.store.scan_many(scans.clone()).await?;
            let mut rest = Vec::new();
            for (scan, page) in scans.into_iter().zip(pages) {
                if page.more
                    && let Some(last) = page.rows.last()
                {
                    rest.push(scan.after(last.clustering().to_vec()));
                }
                for row in page.rows {
                    let mut parts = Parts::of(ON.name, &row.clustering()[1..]);
                    let (sort_at_us, tie) = (parts.micros_desc()?, parts.u32_desc()?);
                    let uri = uri_of(&parts.did()?, posts::NSID, &parts.rkey()?);
                    if seen.insert(uri.clone()) {
                        below.push(uri.clone());
                        found.push((sort_at_us, tie, uri));
                    }
                }
            }
            scans = rest;
        }
        if below.is_empty() || found.len() >= DESCENDANTS_MAX {
            break;
        }
        level = below;
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(DESCENDANTS_MAX);
    Ok(found.into_iter().map(|(_, _, uri)| uri).collect())
}

/// The chain of its author's own replies under each root: root first, or nothing if there is none.
pub(crate) async fn op_chains(cx: &Cx, roots: &[String]) -> Result<Vec<Vec<String>>> {
    let mut chains = Vec::with_capacity(roots.len());
    let pages = cx.store.scan_many(roots.iter().map(|root| tables::scan_on(root, on::OP_REPLY)).collect()).await?;
    for (root, mut page) in roots.iter().zip(pages) {
        let Some(author) = did_of(root) else {
            chains.push(Vec::new());
            continue;
        };
        let mut replies = Vec::new();
        loop {
            for row in &page.rows {
                let rkey = Parts::of(ON.name, &row.clustering()[1..]).rkey()?;
                let reply: OpReply = prost::Message::decode(row.value.clone())
                    .map_err(|_| Error::Corrupt { table: ON.name, what: "reply of a root's author" })?;
                replies.push((uri_of(author, posts::NSID, &rkey), rkey, reply));
            }
            match page.rows.last() {
                Some(last) if page.more && replies.len() < OP_REPLIES_MAX => {
                    page = cx.store.scan(tables::scan_on(root, on::OP_REPLY).after(last.clustering().to_vec())).await?;
                }
                _ => break,
            }
        }
        chains.push(if page.more { Vec::new() } else { op_chain(root, replies) });
    }
    Ok(chains)
}

/// Walks the replies of a root's author. At each post the first reply in order of address that qualifies goes on:
/// a standing one at once, a deleted one only if a standing one is reached below it. A deleted reply that leads nowhere
/// leaves its place only to replies written after its deletion. A reply that leads back voids the chain.
fn op_chain(root: &str, mut replies: Vec<(String, String, OpReply)>) -> Vec<String> {
    replies.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut children: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, (_, _, reply)) in replies.iter().enumerate() {
        children.entry(reply.parent.as_str()).or_default().push(i);
    }
    struct Frame<'a> {
        children: &'a [usize],
        next: usize,
        vacated_us: Option<i64>,
        deleted_at_us: i64,
    }
    let frame = |uri: &str, deleted_at_us: i64| Frame {
        children: children.get(uri).map_or(&[], Vec::as_slice),
        next: 0,
        vacated_us: None,
        deleted_at_us,
    };
    let mut path = vec![root];
    let mut on_path: HashSet<&str> = HashSet::from([root]);
    let mut stack = vec![frame(root, 0)];
    while let Some(top) = stack.last_mut() {
        let Some(&child) = top.children.get(top.next) else {
            // A standing post without a reply that qualifies is the end of the chain.
            if top.deleted_at_us == 0 {
                break;
            }
            let deleted_at_us = top.deleted_at_us;
            stack.pop();
            if let Some(gone) = path.pop() {
                on_path.remove(gone);
            }
            if let Some(parent) = stack.last_mut() {
                parent.vacated_us = Some(parent.vacated_us.map_or(deleted_at_us, |v| v.max(deleted_at_us)));
            }
            continue;
        };
        top.next += 1;
        let (uri, rkey, reply) = &replies[child];
        if on_path.contains(uri.as_str()) {
            return Vec::new();
        }
        if let Some(vacated_us) = top.vacated_us
            && Tid::parse(rkey).ok().is_none_or(|tid| i64::try_from(tid.micros()).unwrap_or(0) <= cut_to_ms(vacated_us))
        {
            continue;
        }
        path.push(uri);
        on_path.insert(uri);
        if reply.deleted_at_us == 0 {
            // Everything so far holds: nothing above is looked at again.
            stack.clear();
        }
        stack.push(frame(uri, reply.deleted_at_us));
    }
    if path.len() < 2 { Vec::new() } else { path.into_iter().map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "at://did:plc:a/app.bsky.feed.post/3aaaaaaaaaaa2";

    fn uri(rkey: &str) -> String {
        uri_of("did:plc:a", posts::NSID, rkey)
    }

    fn chain(replies: &[(&str, &str, i64)]) -> Vec<String> {
        let parent = |p: &str| if p == "root" { ROOT.to_owned() } else { uri(p) };
        let rows = replies.iter().map(|(rkey, p, deleted)| {
            (uri(rkey), (*rkey).to_owned(), OpReply { parent: parent(p), deleted_at_us: *deleted })
        });
        op_chain(ROOT, rows.collect()).into_iter().map(|u| u.rsplit('/').next().unwrap().to_owned()).collect()
    }

    fn tid(micros: u64) -> String {
        Tid::from_parts(micros, 0).text().as_str().to_owned()
    }

    #[test]
    fn the_first_reply_goes_on_and_a_lone_root_is_no_chain() {
        let (a, b, c) = (tid(1_000_000), tid(2_000_000), tid(3_000_000));
        assert!(chain(&[]).is_empty());
        assert_eq!(chain(&[(&a, "root", 0), (&b, "root", 0), (&c, &a, 0)]), ["3aaaaaaaaaaa2", &a, &c]);
    }

    #[test]
    fn a_deleted_reply_keeps_its_place_only_while_something_stands_below() {
        let (a, b, c, d) = (tid(1_000_000), tid(2_000_000), tid(3_000_000), tid(9_000_000));
        assert_eq!(chain(&[(&a, "root", 5_000_000), (&b, &a, 0)]), ["3aaaaaaaaaaa2", &a, &b]);
        // The older sibling may not take the place, the one written after the deletion may.
        assert!(chain(&[(&a, "root", 5_000_000), (&c, "root", 0)]).is_empty());
        assert_eq!(chain(&[(&a, "root", 5_000_000), (&c, "root", 0), (&d, "root", 0)]), ["3aaaaaaaaaaa2", &d]);
        assert!(chain(&[(&a, "root", 5_000_000), ("not-a-tid", "root", 0)]).is_empty());
    }

    #[test]
    fn a_circle_voids_the_chain() {
        let a = tid(1_000_000);
        // The root replies to its own reply.
        assert!(chain(&[(&a, "root", 0), ("3aaaaaaaaaaa2", &a, 0)]).is_empty());
    }

    #[test]
    fn a_chain_of_many_thousands_does_not_exhaust_the_stack() {
        let tids: Vec<String> = (1..=30_000u64).map(|n| tid(n * 1_000)).collect();
        let mut replies: Vec<(&str, &str, i64)> = vec![(&tids[0], "root", 0)];
        replies.extend(tids.windows(2).map(|w| (w[1].as_str(), w[0].as_str(), 0)));
        assert_eq!(chain(&replies).len(), 30_001);
    }
}
