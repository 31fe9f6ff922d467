//! Applies a history to a store in memory, in a given order, and can be told to do it wrongly.

use std::sync::Arc;

use bytes::Bytes;
use gp_index::{
    Result, actors,
    apply::{Action, Applied, Op, apply_op},
    atom,
    atom::Parts,
    counts::{Deltas, Head, OnCount},
    records,
    relation::{Relation, claims_key},
    tables,
};
use gp_store::{Store, View, Writer, WriterConfig};
use tokio::runtime::Runtime;

use crate::{
    history::{Dice, Event, History, LIKE, POST, What},
    whole::{Whole, whole},
};

/// A bug, planted from outside, that the rig must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twin {
    /// None.
    Honest,
    /// Each like that arrives counts, whether it is the first of its author's or not.
    BlindCount,
    /// When a like that stands goes, the next claim is not remembered.
    ForgottenPromotion,
    /// What arrives late changes nothing of what others have written.
    NeverLooksAgain,
}

/// How a history is applied.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Places of events, in the order in which they arrive. A place may come again.
    pub(crate) order: Vec<usize>,
    /// Each event is applied twice.
    pub(crate) twice: bool,
    pub(crate) twin: Twin,
    /// Decides where one write ends and the next begins; no result may depend on it.
    pub(crate) seed: u64,
}

/// Applies a history, and answers with everything that is stored then.
pub(crate) fn apply(runtime: &Runtime, history: &Arc<History>, run: &Run) -> Whole {
    let store = Store::mem(tables::ALL);
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).expect("a writer");
    let mut dice = Dice::new(run.seed);
    let mut rest = &run.order[..];
    while !rest.is_empty() {
        let many = if run.twin == Twin::NeverLooksAgain { 1 } else { 1 + dice.below(6).min(rest.len() - 1) };
        let (now, later) = rest.split_at(many);
        rest = later;
        let others = (run.twin == Twin::NeverLooksAgain).then(|| whole(&store));
        let (history, places, run) = (Arc::clone(history), now.to_vec(), run.clone());
        let repo = history.events[places[0]].repo;
        let did = history.dids[repo].clone();
        runtime
            .block_on(writer.run(move |view| -> Result<()> {
                for place in places {
                    for _ in 0..=usize::from(run.twice) {
                        event(view, &history.dids, &history.events[place], run.twin)?;
                    }
                }
                Ok(())
            }))
            .expect("the history is applied");
        if let Some(before) = others {
            let restored = before.posts_of_others(&whole(&store), &did);
            runtime
                .block_on(writer.run(move |view| -> Result<()> {
                    for (key, value) in restored {
                        match value {
                            Some(value) => view.put(key, value),
                            None => view.delete(key),
                        }
                    }
                    Ok(())
                }))
                .expect("the bug is planted");
        }
    }
    drop(writer);
    thread.join().expect("the writer ends");
    whole(&store)
}

fn event(view: &mut View<'_>, dids: &[String], event: &Event, twin: Twin) -> Result<()> {
    let did = dids[event.repo].as_str();
    let (action, collection, rkey, record) = match &event.what {
        What::Put { collection, rkey, block, .. } => (Action::Create, *collection, rkey, Some(block.as_slice())),
        What::Delete { collection, rkey } => (Action::Delete, *collection, rkey, None),
        What::Handle(handle) => return actors::set_handle(view, did, handle.as_deref(), event.time_us),
        What::DeleteAccount => {
            while !actors::delete_page(view, did, event.time_us, 7)? {}
            return Ok(());
        }
    };
    actors::touch(view, did, event.time_us)?;
    let op = Op { action, collection, rkey, cid: None, record };
    let mut applied = Applied::default();
    match twin {
        Twin::BlindCount if collection == LIKE && action == Action::Create => {
            let subject = subject_of(record.unwrap_or_default());
            let likes = |view: &View<'_>| -> Result<u64> {
                Ok(Head::read(view.get(&tables::on_head(&subject))?.as_ref()).get(OnCount::Likes as u8))
            };
            let before = likes(view)?;
            apply_op(view, did, &event.rev, &op, event.time_us, &mut applied)?;
            let wrong = before + 1;
            let mut deltas = Deltas::default();
            deltas.add(tables::on_head(&subject), OnCount::Likes as u8, wrong as i64 - likes(view)? as i64);
            deltas.apply(view)?;
        }
        Twin::ForgottenPromotion if collection == LIKE && action == Action::Delete => {
            if let Some(stored) = view.get(&records::key(did, collection, rkey))? {
                let subject = subject_of(&records::RecordRow::read(&stored)?.block);
                forget_all_but_the_first(view, did, &subject)?;
            }
            apply_op(view, did, &event.rev, &op, event.time_us, &mut applied)?;
        }
        _ => apply_op(view, did, &event.rev, &op, event.time_us, &mut applied)?,
    }
    // A history whose records are refused proves nothing.
    let refused = applied.dropped.iter().find(|dropped| !(collection == POST && dropped.detail.contains("by DID")));
    assert!(refused.is_none() && applied.ignored == 0, "{applied:?} {event:?}");
    Ok(())
}

fn subject_of(block: &[u8]) -> String {
    let value = gp_atproto::cbor::decode(block).expect("a like");
    let subject = value.get("subject").and_then(|subject| subject.get("uri"));
    subject.and_then(gp_atproto::Value::as_str).expect("a subject").to_owned()
}

fn forget_all_but_the_first(view: &mut View<'_>, did: &str, subject: &str) -> Result<()> {
    let place = claims_key(did, Relation::Like, &atom::uri(subject));
    if let Some(stored) = view.get(&place)? {
        let mut parts = Parts::of("by", &stored);
        parts.rkey()?;
        parts.micros_desc()?;
        let first = stored.len() - parts.rest().len();
        view.put(place, Bytes::copy_from_slice(&stored[..first]));
    }
    Ok(())
}
