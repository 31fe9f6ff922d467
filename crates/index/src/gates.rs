//! Gates: who may reply in a thread, and who may quote a post. Rules stand in the repo of the post's author.

use gp_atproto::{Value, cbor};
use gp_store::View;

use crate::{
    Error, Result,
    apply::Stood,
    counts::{Deltas, Head, OnCount},
    placed::{Placed, collection_of, did_of, split_uri, uri_of},
    posts,
    records::{self, Flags, RecordRow},
    relation::{self, Relation},
    tables,
};

/// The collection of thread gates.
pub const THREAD_GATE: &str = "app.bsky.feed.threadgate";
/// The collection of post gates.
pub const POST_GATE: &str = "app.bsky.feed.postgate";

/// A gate must name a post of its own repo and its own record key (ingest 7.4).
pub(crate) fn refuse(it: &Placed<'_>) -> Option<&'static str> {
    let post = it.text("post")?;
    let same = did_of(post) == Some(it.did) && split_uri(post).is_some_and(|(_, _, rkey)| rkey == it.rkey);
    (!same).then_some("a gate must have the repo and the key of its post")
}

/// A gate of another collection at the same place as a post.
fn gate(view: &View<'_>, post: &str, collection: &str) -> Result<Option<RecordRow>> {
    let Some((did, found, rkey)) = split_uri(post) else { return Ok(None) };
    if found != posts::NSID {
        return Ok(None);
    }
    view.get(&records::key(did, collection, rkey))?.map(|stored| RecordRow::read(&stored)).transpose()
}

fn decoded(row: &RecordRow) -> Result<Value<'_>> {
    cbor::decode(&row.block).map_err(|_| Error::Corrupt { table: "record", what: "block" })
}

/// Whether the gate of a thread refuses a reply by `replier` (ingest 7.4). No gate refuses nobody.
pub(crate) fn thread_gate_refuses(view: &View<'_>, replier: &str, root: &str) -> Result<bool> {
    let Some(owner) = did_of(root) else { return Ok(false) };
    if owner == replier {
        return Ok(false);
    }
    let Some(row) = gate(view, root, THREAD_GATE)? else { return Ok(false) };
    let value = decoded(&row)?;
    let Some(rules) = value.get("allow").and_then(Value::as_list) else { return Ok(false) };
    if rules.is_empty() {
        return Ok(true);
    }
    // A rule without a type counts as a match of every type.
    let is = |rule: &Value<'_>, name: &str| match rule.type_name() {
        None => true,
        Some(t) => t.strip_prefix(THREAD_GATE).and_then(|r| r.strip_prefix('#')) == Some(name),
    };
    let has = |name: &str| rules.iter().any(|rule| is(rule, name));
    if has("mentionRule")
        && let Some(row) = records::stored(view, root)?
    {
        let post = decoded(&row)?;
        if posts::Reading::of(&post).mentions.contains(&replier) {
            return Ok(false);
        }
    }
    if has("followingRule") && follows(view, owner, replier)? {
        return Ok(false);
    }
    if has("followerRule") && follows(view, replier, owner)? {
        return Ok(false);
    }
    for rule in rules.iter().filter(|rule| is(rule, "listRule")) {
        if let Some(list) = rule.get("list").and_then(Value::as_str)
            && view.get(&tables::on_subject(list, tables::on::MEMBER).atom(&crate::atom::did(replier)).key())?.is_some()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn follows(view: &View<'_>, actor: &str, subject: &str) -> Result<bool> {
    Ok(view.get(&relation::claims_key(actor, Relation::Follow, &crate::atom::did(subject)))?.is_some())
}

/// Whether the gate of a post refuses a quote by `quoter` (ingest 7.5).
pub(crate) fn post_gate_refuses(view: &View<'_>, quoter: &str, quoted: &str) -> Result<bool> {
    if did_of(quoted).is_none_or(|owner| owner == quoter) {
        return Ok(false);
    }
    let Some(row) = gate(view, quoted, POST_GATE)? else { return Ok(false) };
    let value = decoded(&row)?;
    let rules = value.get("embeddingRules").and_then(Value::as_list);
    Ok(rules.into_iter().flatten().any(|rule| rule.type_name() == Some("app.bsky.feed.postgate#disableRule")))
}

/// Replies that the owner of a thread has hidden.
pub(crate) fn hidden_replies(view: &View<'_>, root: &str) -> Result<Vec<String>> {
    let Some(row) = gate(view, root, THREAD_GATE)? else { return Ok(Vec::new()) };
    let value = decoded(&row)?;
    let hidden = value.get("hiddenReplies").and_then(Value::as_list);
    Ok(hidden.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The post a gate stands for: its own place with the collection changed, whatever it names.
fn post_of(stood: &Stood<'_>) -> (gp_store::Key, String) {
    (records::key(stood.did, posts::NSID, stood.rkey), uri_of(stood.did, posts::NSID, stood.rkey))
}

fn names_a_post(stood: &Stood<'_>) -> bool {
    let named = stood.new.or(stood.old).and_then(|it| it.text("post"));
    named.and_then(collection_of) == Some(posts::NSID)
}

pub(crate) fn apply_thread_gate(view: &mut View<'_>, stood: &Stood<'_>) -> Result<()> {
    if !names_a_post(stood) {
        return Ok(());
    }
    let (key, post) = post_of(stood);
    records::set_flag(view, &key, Flags::HAS_THREAD_GATE, stood.new.is_some())?;
    if let (None, Some(new)) = (stood.old, stood.new) {
        // Replies that were made after the gate but arrived before it.
        let head = Head::read(view.get(&tables::on_head(&post))?.as_ref());
        if head.get(OnCount::Thread as u8) > 0 {
            let mut deltas = Deltas::default();
            posts::settle_thread(view, &mut deltas, &post, new.first_indexed_at_us)?;
            deltas.apply(view)?;
        }
    }
    Ok(())
}

pub(crate) fn apply_post_gate(view: &mut View<'_>, stood: &Stood<'_>) -> Result<()> {
    if !names_a_post(stood) {
        return Ok(());
    }
    let (key, post) = post_of(stood);
    records::set_flag(view, &key, Flags::HAS_POST_GATE, stood.new.is_some())?;
    if let (None, Some(new)) = (stood.old, stood.new) {
        posts::settle_quotes(view, &post, new.first_indexed_at_us)?;
    }
    Ok(())
}
