//! What an operator may do to this process, carried out.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use gp_index::{Cx, actors, export, labels, records, suggestions, suggestions::Curated};
use gp_ingest::{FailuresFrom, Ingest};
use gp_search::Search;
use gp_serve::{Label, Lines, Operation, Operator, OperatorError, SuggestedEntity, SuggestedList};
use serde_json::{Map, Value, json};

/// Carries out what the admin port asks.
pub(crate) struct Operations {
    pub(crate) cx: Cx,
    /// None in a process that does not read the network.
    pub(crate) ingest: Option<Ingest>,
    pub(crate) search: Arc<Search>,
    /// What the settings say, for `/status`.
    pub(crate) roles: Vec<String>,
    pub(crate) store_name: String,
}

fn failed(error: gp_index::Error) -> OperatorError {
    match error {
        gp_index::Error::Invalid { field, why } => OperatorError::Invalid(format!("{field}: {why}")),
        gp_index::Error::Absent(what) => OperatorError::Absent(format!("{what} not found")),
        gp_index::Error::Draining(why) => OperatorError::Unavailable(why.into()),
        gp_index::Error::Overloaded(why) => OperatorError::Unavailable(why.into()),
        gp_index::Error::Upstream(why) => OperatorError::Upstream(why),
        gp_index::Error::Store(gp_store::Error::Full) => OperatorError::Unavailable(gp_store::Error::Full.to_string()),
        other => OperatorError::Failed(other.to_string()),
    }
}

fn not_done(error: gp_ingest::Error) -> OperatorError {
    match error {
        gp_ingest::Error::Invalid(why) => OperatorError::Invalid(why),
        gp_ingest::Error::Absent(why) => OperatorError::Absent(why),
        gp_ingest::Error::Failed(why) | gp_ingest::Error::Refused(why) => OperatorError::Upstream(why),
        gp_ingest::Error::Index(error) => failed(error),
        busy @ (gp_ingest::Error::Overloaded | gp_ingest::Error::Stopped) => {
            OperatorError::Unavailable(busy.to_string())
        }
    }
}

impl Operations {
    fn ingest(&self) -> Result<&Ingest, OperatorError> {
        self.ingest.as_ref().ok_or_else(|| {
            OperatorError::NotOffered("this process does not read the network: ask the one with the role ingest".into())
        })
    }

    fn asked<'a, F>(&'a self, ask: impl FnOnce(&'a Ingest) -> F + Send + 'a) -> Operation<'a>
    where
        F: Future<Output = gp_ingest::Result<()>> + Send + 'a,
    {
        Box::pin(async move {
            ask(self.ingest()?).await.map_err(not_done)?;
            Ok(json!({ "done": true }))
        })
    }

    fn written<'a>(
        &'a self,
        job: impl FnOnce(&mut gp_store::View<'_>) -> gp_index::Result<Value> + Send + 'static,
    ) -> Operation<'a> {
        Box::pin(async move { self.cx.writer.run(job).await.map_err(failed) })
    }

    async fn status_now(&self) -> Value {
        let mut status = match self.ingest.as_ref().map(Ingest::status) {
            Some(Value::Object(status)) => status,
            _ => Map::new(),
        };
        let figures = self.cx.store.figures();
        status.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        status.insert("roles".into(), self.roles.clone().into());
        status.insert("store".into(), self.store_name.clone().into());
        if let Some(silence) = self.cx.store.silence() {
            status.insert(
                "feed".into(),
                json!({ "silent_ms": silence.as_millis() as u64, "behind_batches": self.cx.store.batches_behind() }),
            );
        }
        status.insert(
            "disk".into(),
            json!({
                "full": self.cx.writer.disk_full(),
                "failed": self.cx.writer.failed(),
                "bytes": figures.disk_bytes,
            }),
        );
        if let Some(far) = self.cx.store.far_figures() {
            let nodes: Vec<Value> = far
                .nodes
                .iter()
                .map(|node| {
                    json!({
                        "node": node.client.address,
                        "state": node.state(),
                        "connections": node.client.connections_up,
                        "lost": node.lost_now,
                    })
                })
                .collect();
            status.insert("memcached".into(), nodes.into());
        }
        let audit = self.cx.store.audit_figures();
        let audited =
            |it: gp_store::Audited| json!({ "fresh": it.fresh, "stale": it.stale, "inconclusive": it.inconclusive });
        status.insert(
            "audit".into(),
            json!({
                "near": audited(audit.near),
                "far": audited(audit.far),
                "watched": audit.watched,
                "keys_per_second": audit.keys_per_second,
            }),
        );
        // Both follow the writer, and as long as they are not ready the store is read: they are as far as the store is.
        let graph = self.cx.graph.figures();
        status.insert(
            "graph".into(),
            json!({
                "ready": graph.ready,
                "lag_seconds": 0,
                "gave_up": graph.gave_up,
                "accounts_read": graph.accounts_read,
                "accounts": graph.accounts,
                "follows": graph.follows,
                "hubs": graph.hubs,
                "bytes": graph.bytes,
                "bytes_max": graph.bytes_max,
            }),
        );
        let window = self.cx.window.figures();
        status.insert(
            "timeline".into(),
            json!({
                "ready": window.ready,
                "lag_seconds": 0,
                "items": window.items,
                "authors": window.authors,
                "bytes": window.bytes,
                "bytes_max": window.bytes_max,
                "oldest": window.oldest_us.filter(|us| *us > 0).map(gp_atproto::datetime::format_ms),
            }),
        );
        status.insert("search".into(), self.search.status());
        status.entry("pending").or_insert_with(|| 0.into());
        Value::Object(status)
    }
}

/// What the backfill could not read, a line of JSON each.
pub(crate) fn failures(ingest: Ingest) -> Lines {
    let begin = Some(FailuresFrom::default());
    Box::pin(futures::stream::unfold((ingest, begin), |(ingest, at)| async move {
        let (page, next) = match ingest.backfill_failures(at?).await {
            Ok(page) => page,
            Err(e) => return Some((Err(not_done(e)), (ingest, None))),
        };
        let mut out = Vec::new();
        for it in page {
            let next_at = it.next_at_us.map(gp_atproto::datetime::format_ms);
            let line = json!({
                "did": it.did,
                "host": it.host,
                "reason": it.reason,
                "error": it.error,
                "attempts": it.attempts,
                "next_at": next_at,
            });
            out.extend_from_slice(line.to_string().as_bytes());
            out.push(b'\n');
        }
        Some((Ok(Bytes::from(out)), (ingest, next)))
    }))
}

impl Operator for Operations {
    fn not_ready(&self) -> Option<String> {
        if self.cx.writer.failed() {
            return Some("writing has failed: see the log, then restart the process".into());
        }
        self.cx.writer.disk_full().then(|| gp_store::Error::Full.to_string())
    }

    fn status(&self) -> Operation<'_> {
        Box::pin(async move { Ok(self.status_now().await) })
    }

    fn ingest_pause(&self) -> Operation<'_> {
        self.asked(Ingest::pause)
    }

    fn ingest_resume(&self) -> Operation<'_> {
        self.asked(Ingest::resume)
    }

    fn ingest_replay(&self) -> Operation<'_> {
        self.asked(Ingest::replay)
    }

    fn backfill_retry(&self) -> Operation<'_> {
        Box::pin(async move {
            let repos = self.ingest()?.backfill_retry().await.map_err(not_done)?;
            Ok(json!({ "repos": repos }))
        })
    }

    fn backfill_again(&self) -> Operation<'_> {
        self.asked(Ingest::backfill_again)
    }

    fn backfill_failures(&self) -> Operation<'_, Lines> {
        Box::pin(async move {
            let ingest = self.ingest()?.clone();
            if ingest.backfill_figures().is_none() {
                let why = "this process was started without --backfill: give it the lists of repos to read";
                return Err(OperatorError::NotOffered(why.into()));
            }
            Ok(failures(ingest))
        })
    }

    fn repo_resync<'a>(&'a self, did: &'a str) -> Operation<'a> {
        self.asked(move |ingest| ingest.resync(did))
    }

    fn actor_refresh<'a>(&'a self, did: &'a str) -> Operation<'a> {
        self.asked(move |ingest| ingest.refresh(did))
    }

    fn actor_delete<'a>(&'a self, did: &'a str) -> Operation<'a> {
        self.asked(move |ingest| ingest.delete(did))
    }

    fn actor_trusted_verifier<'a>(&'a self, did: &'a str, trusted: bool) -> Operation<'a> {
        let owned = did.to_owned();
        self.written(move |view| {
            actors::set_trusted_verifier(view, &owned, trusted)?;
            Ok(json!({ "did": owned, "trusted": trusted }))
        })
    }

    fn labels(&self, given: Vec<Label>) -> Operation<'_> {
        // An operator's labels have no stream: of two at the same time the one that came later holds.
        let seq = (self.cx.now_us)();
        self.written(move |view| {
            let mut changed = 0u64;
            for (index, label) in (0..).zip(given) {
                let label = labels::Label {
                    src: label.src,
                    uri: label.uri,
                    cid: label.cid.filter(|cid| !cid.is_empty()),
                    val: label.val,
                    neg: label.neg,
                    cts: label.cts,
                    exp: label.exp,
                };
                if let Some(fault) = label.fault() {
                    return Err(gp_index::Error::invalid("labels", fault));
                }
                changed += u64::from(labels::apply(view, &label, labels::Place { seq, index })?);
            }
            Ok(json!({ "changed": changed }))
        })
    }

    fn suggested_follows(&self, dids: Vec<String>) -> Operation<'_> {
        self.written(move |view| {
            suggestions::set_list(view, Curated::Follows, &dids);
            Ok(json!({ "entries": dids.len() }))
        })
    }

    fn suggested_feeds(&self, uris: Vec<String>) -> Operation<'_> {
        self.written(move |view| {
            suggestions::set_list(view, Curated::Feeds, &uris);
            Ok(json!({ "entries": uris.len() }))
        })
    }

    fn suggested_entities(&self, entities: Vec<SuggestedEntity>) -> Operation<'_> {
        self.written(move |view| {
            suggestions::set_list(view, Curated::Entities, &entities);
            Ok(json!({ "entries": entities.len() }))
        })
    }

    fn suggested_forget(&self, list: SuggestedList) -> Operation<'_> {
        let list = match list {
            SuggestedList::Follows => Curated::Follows,
            SuggestedList::Feeds => Curated::Feeds,
            SuggestedList::Entities => Curated::Entities,
        };
        self.written(move |view| {
            suggestions::forget_list(view, list);
            Ok(json!({ "forgotten": true }))
        })
    }

    fn record_tags<'a>(&'a self, uri: &'a str, tags: Vec<String>) -> Operation<'a> {
        let owned = uri.to_owned();
        self.written(move |view| {
            records::set_tags(view, &owned, &tags)?;
            Ok(json!({ "uri": owned, "tags": tags }))
        })
    }

    fn export<'a>(&'a self, did: &'a str) -> Operation<'a, Lines> {
        let (store, did) = (self.cx.store.clone(), Arc::<str>::from(did));
        Box::pin(async move {
            let begin = Some(export::Position::default());
            let lines: Lines = Box::pin(futures::stream::unfold((store, did, begin), |(store, did, at)| async move {
                let (lines, next) = match export::next(&store, &did, at?).await {
                    Ok(page) => page,
                    Err(e) => return Some((Err(failed(e)), (store, did, None))),
                };
                let mut out = Vec::new();
                for line in lines {
                    out.extend_from_slice(line.to_string().as_bytes());
                    out.push(b'\n');
                }
                Some((Ok(Bytes::from(out)), (store, did, next)))
            }));
            Ok(lines)
        })
    }
}
