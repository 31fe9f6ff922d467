//! Gates: who may reply in a thread, and who may quote a post. Rules stand in the repo of the post's author.
//!
//! A gate is asked as of the time a reply or a quote was made: what it said then, who was followed then and who was on
//! a list then. A later change of any of it changes nothing; an earlier one that is applied later has the replies
//! looked at again that were made after it (INV-5).

use gp_atproto::Value;
use gp_store::View;

use crate::{
    Result,
    apply::Stood,
    atom::{self, Parts},
    counts::{Deltas, Head, OnCount},
    derived::{self, Watch},
    follows, lists, past,
    placed::{Placed, collection_of, did_of, split_uri, uri_of},
    posts,
    records::{self, Flags, RecordRow},
    tables::{self, ON, on},
};

/// One kind of gate.
pub(crate) struct Gate {
    /// Its collection.
    pub(crate) collection: &'static str,
    /// Where its replaced versions are.
    was: u8,
    /// The flag of a post that has one.
    flag: u16,
}

/// Thread gates: who may reply.
pub(crate) static THREAD: Gate =
    Gate { collection: THREAD_GATE, was: on::THREAD_GATE_WAS, flag: Flags::HAS_THREAD_GATE };
/// Post gates: who may quote.
pub(crate) static POST: Gate = Gate { collection: POST_GATE, was: on::POST_GATE_WAS, flag: Flags::HAS_POST_GATE };

/// The collection of thread gates.
pub const THREAD_GATE: &str = "app.bsky.feed.threadgate";
/// The collection of post gates.
pub const POST_GATE: &str = "app.bsky.feed.postgate";

/// Lists of one gate that are asked.
const LISTS_ASKED_MAX: usize = 100;

/// Addresses of lists longer than this are asked, but their later changes are not waited for: such a list cannot be
/// read back from a key.
const LIST_URI_BYTES_MAX: usize = 400;

/// Replies looked at again because one relation changed.
const LOOKED_AGAIN_MAX: usize = 2_000;

/// A gate must name a post of its own repo and its own record key (ingest 7.4).
pub(crate) fn refuse(it: &Placed<'_>) -> Option<&'static str> {
    let post = it.text("post")?;
    let same = did_of(post) == Some(it.did) && split_uri(post).is_some_and(|(_, _, rkey)| rkey == it.rkey);
    (!same).then_some("a gate must have the repo and the key of its post")
}

/// What a thread's gate said to a reply.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// It refuses it.
    pub(crate) refuses: bool,
    /// What the answer hung on.
    pub(crate) watches: Vec<Watch>,
    /// Replies that the owner of the thread had hidden.
    pub(crate) hidden: Vec<String>,
}

/// What the gate of a thread said to a reply by `replier` at a time (ingest 7.4). No gate refuses nobody.
pub(crate) fn ask_thread_gate(view: &View<'_>, replier: &str, root: &str, time_us: i64) -> Result<Answer> {
    let mut answer = Answer::default();
    let Some(owner) = did_of(root) else { return Ok(answer) };
    let Some(block) = past::gate_at(view, root, THREAD_GATE, THREAD.was, time_us)? else { return Ok(answer) };
    let value = past::decoded(&block)?;
    let hidden = value.get("hiddenReplies").and_then(Value::as_list);
    answer.hidden = hidden.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if owner == replier {
        return Ok(answer);
    }
    let Some(rules) = value.get("allow").and_then(Value::as_list) else { return Ok(answer) };
    // A rule without a type counts as a match of every type.
    let is = |rule: &Value<'_>, name: &str| match rule.type_name() {
        None => true,
        Some(t) => t.strip_prefix(THREAD_GATE).and_then(|r| r.strip_prefix('#')) == Some(name),
    };
    let has = |name: &str| rules.iter().any(|rule| is(rule, name));
    let mut allowed = has("mentionRule") && mentions(view, root, replier)?;
    // Everything is asked, also after the first yes: what is asked is what the answer hangs on.
    let mut ask = |stood: bool, subject: &str, who: &str| {
        allowed |= stood;
        if subject.len() <= LIST_URI_BYTES_MAX {
            let watch = Watch { subject: subject.to_owned(), who: who.to_owned() };
            if !answer.watches.contains(&watch) {
                answer.watches.push(watch);
            }
        }
    };
    let follows = |who: &str, subject: &str| past::stood_at(view, &follows::SHAPE, who, &atom::did(subject), time_us);
    if has("followingRule") {
        ask(follows(owner, replier)?, replier, owner);
    }
    if has("followerRule") {
        ask(follows(replier, owner)?, owner, replier);
    }
    let named = rules.iter().filter(|rule| is(rule, "listRule")).filter_map(|rule| rule.get("list"));
    for list in named.filter_map(Value::as_str).take(LISTS_ASKED_MAX) {
        let Some(keeper) = did_of(list) else { continue };
        let item = lists::item_key(list, replier);
        ask(past::stood_at(view, &lists::ITEM_SHAPE, keeper, &item, time_us)?, list, replier);
    }
    answer.refuses = !allowed;
    Ok(answer)
}

/// Whether the root of a thread mentions an account: as it stands, or as it stood last.
fn mentions(view: &View<'_>, root: &str, who: &str) -> Result<bool> {
    if let Some(row) = records::stored(view, root)? {
        return Ok(posts::Reading::of(&row.value()?).mentions.contains(&who));
    }
    Ok(derived::of(view, root)?.is_some_and(|row| row.mentions.iter().any(|did| did == who)))
}

/// Whether the gate of a post refused a quote by `quoter` at a time (ingest 7.5).
pub(crate) fn post_gate_refuses(view: &View<'_>, quoter: &str, quoted: &str, time_us: i64) -> Result<bool> {
    if did_of(quoted).is_none_or(|owner| owner == quoter) {
        return Ok(false);
    }
    let Some(block) = past::gate_at(view, quoted, POST_GATE, POST.was, time_us)? else { return Ok(false) };
    let value = past::decoded(&block)?;
    let rules = value.get("embeddingRules").and_then(Value::as_list);
    Ok(rules.into_iter().flatten().any(|rule| rule.type_name() == Some("app.bsky.feed.postgate#disableRule")))
}

/// Whether a gate stands for the post at this place. A gate may name something else at its key; then it marks no post.
pub(crate) fn stands(view: &View<'_>, gate: &Gate, did: &str, rkey: &str) -> Result<bool> {
    let Some(stored) = view.get(&records::key(did, gate.collection, rkey))? else { return Ok(false) };
    let row = RecordRow::read(&stored)?;
    Ok(names_a_post(&row.value()?))
}

fn names_a_post(value: &Value<'_>) -> bool {
    value.get("post").and_then(Value::as_str).and_then(collection_of) == Some(posts::NSID)
}

/// Applies a change of a gate. It holds for the post at its own place, whatever it names.
pub(crate) fn apply(view: &mut View<'_>, gate: &Gate, stood: &Stood<'_>) -> Result<()> {
    let post = uri_of(stood.did, posts::NSID, stood.rkey);
    let marks = stood.new.is_some_and(|new| names_a_post(new.value));
    records::set_flag(view, &records::key(stood.did, posts::NSID, stood.rkey), gate.flag, marks)?;
    let mut since_us = i64::MAX;
    if let (Some(old), Some(row)) = (stood.old, stood.old_row) {
        // What a deleted account allowed is forgotten with it.
        if !stood.with_account() && !stood.comes_again() {
            past::keep_gate(view, &post, gate.was, old, &row.block, stood.time_us)?;
        }
        since_us = stood.time_us;
    }
    if let Some(new) = stood.new {
        since_us = since_us.min(new.indexed_at_us);
    }
    let head = Head::read(view.get(&tables::on_head(&post))?.as_ref());
    let waits = |cell: OnCount| head.get(cell as u8) > 0;
    let mut deltas = Deltas::default();
    if gate.collection == THREAD_GATE && waits(OnCount::Thread) {
        posts::settle_thread(view, &mut deltas, &post, since_us)?;
    }
    if gate.collection == POST_GATE && (waits(OnCount::Quotes) || waits(OnCount::QuotesGone)) {
        posts::settle_quotes(view, &mut deltas, &post, since_us)?;
    }
    deltas.apply(view)
}

/// The row by which a reply is found again when what its gate asked for changes.
pub(crate) fn watch_key(watch: &Watch, it: &Placed<'_>) -> gp_store::Key {
    tables::on_subject(&watch.subject, on::WATCH)
        .atom(&atom::did(&watch.who))
        .micros_desc(it.first_indexed_at_us)
        .atom(&atom::did(it.did))
        .atom(&atom::rkey(it.rkey))
        .key()
}

/// Looks again at replies made since a time whose gate asked whether `who` follows, or is on, `subject`.
pub(crate) fn look_again_at(
    view: &mut View<'_>,
    deltas: &mut Deltas,
    subject: &str,
    who: &str,
    since_us: i64,
) -> Result<()> {
    let head = Head::read(view.get(&tables::on_head(subject))?.as_ref());
    if head.get(OnCount::Watching as u8) == 0 {
        return Ok(());
    }
    let mut prefix = vec![on::WATCH];
    prefix.extend_from_slice(&atom::did(who));
    let tail = prefix.len();
    let page = view.scan(&tables::scan_on(subject, on::WATCH).prefix(prefix).limit(LOOKED_AGAIN_MAX))?;
    for row in page.rows {
        let mut parts = Parts::of(ON.name, &row.clustering()[tail..]);
        if parts.micros_desc()? < since_us {
            break;
        }
        let uri = uri_of(&parts.did()?, posts::NSID, &parts.rkey()?);
        posts::look_again(view, deltas, &uri)?;
    }
    Ok(())
}
