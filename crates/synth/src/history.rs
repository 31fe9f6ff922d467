//! Turns a script into frames: one thread thinks of what happens, all of them sign.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use crate::{
    host::Host,
    model::{Model, ModelOp},
    population::Person,
    script::{Act, Event, Script, Write},
    spec::Spec,
};

/// Events that are thought of before they are carried out.
const WINDOW_EVENTS: usize = 8_192;

/// A script, the hosts that carry it out, and the oracle that watches.
pub(crate) struct Stage {
    pub(crate) script: Script,
    pub(crate) host: Arc<Host>,
    pub(crate) model: Option<Model>,
    threads: usize,
}

/// Frames with their sequence number and account, in order.
pub(crate) type Frames = Vec<(i64, u32, Bytes)>;

/// What a run of events has come to.
pub(crate) struct Performed {
    pub(crate) frames: Frames,
    /// Accounts deleted on the way, with the sequence number that says so.
    pub(crate) deleted: HashMap<u32, i64>,
}

impl Stage {
    pub(crate) fn new(spec: &Spec) -> Stage {
        let total = spec.accounts + spec.spare_accounts();
        let first_web = spec.accounts - spec.web_dids;
        let is_web = |index: u32| (first_web..spec.accounts).contains(&index);
        let people: Arc<[Person]> = (0..total).map(|index| Person::new(spec.seed, index, is_web(index))).collect();
        Stage {
            script: Script::new(spec, people.clone()),
            host: Arc::new(Host::new(people, spec.keep_blocks)),
            model: spec.keep_model.then(Model::default),
            threads: spec.threads.max(1),
        }
    }

    /// Performs the whole history and hands it on window by window.
    pub(crate) fn perform_history<E>(&mut self, mut sink: impl FnMut(Performed) -> Result<(), E>) -> Result<(), E> {
        while !self.script.is_complete() {
            while self.script.pending() < WINDOW_EVENTS && !self.script.is_complete() {
                self.script.next();
            }
            sink(self.perform_pending())?;
        }
        Ok(())
    }

    /// Carries out what the script has thought of.
    pub(crate) fn perform_pending(&mut self) -> Performed {
        let events = self.script.take();
        let (host, threads, model) = (&self.host, self.threads, &mut self.model);
        let mut watch_all = || {
            if let Some(model) = model {
                events.iter().for_each(|event| watch(model, host, event));
            }
        };
        // For a handful of events threads of their own are not worth starting.
        let frames = if threads == 1 || events.len() < 64 {
            watch_all();
            host.perform_all(&events, 1)
        } else {
            std::thread::scope(|scope| {
                let watching = scope.spawn(watch_all);
                let frames = host.perform_all(&events, threads);
                watching.join().expect("the model does not panic");
                frames
            })
        };
        let deleted = events.iter().filter(|event| matches!(event.act, Act::Account { status: Some("deleted") }));
        Performed {
            deleted: deleted.map(|event| (event.actor, event.seq)).collect(),
            frames: events.iter().zip(frames).map(|(event, frame)| (event.seq, event.actor, frame)).collect(),
        }
    }
}

/// Shows the oracle an event.
fn watch(model: &mut Model, host: &Host, event: &Event) {
    let did = &host.person(event.actor).did;
    match &event.act {
        Act::Identity { handle } => model.identity(did, handle),
        Act::Account { status } => model.status(did, *status),
        Act::Sync => {}
        Act::Commit { writes, .. } => watch_writes(model, did, writes),
    }
}

/// Shows the oracle what a commit writes.
pub(crate) fn watch_writes(model: &mut Model, did: &str, writes: &[Write]) {
    let paths: Vec<String> = writes.iter().map(Write::path).collect();
    let ops = writes.iter().zip(&paths).map(|(write, path)| ModelOp {
        action: write.action,
        path,
        record: write.block.as_ref().map(|block| block.bytes.clone()),
    });
    model.apply(did, ops);
}
