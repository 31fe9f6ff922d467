//! Applies operations of repos to the view of one writer, one operation at a time.
//!
//! Create, update, delete, replay and the promotion of a waiting claim are one thing: the rows of what stood before,
//! the rows of what stands after, and the difference between them (INV-1). Nothing here opens a socket or reads a
//! clock; times come with the event.

use gp_atproto::{Cid, Value, cbor, lexicon};
use gp_store::View;

use crate::{
    Error, Result,
    collections::{self, Collection, Kind},
    counts::Deltas,
    gates, moderation,
    placed::{Placed, uri_of},
    posts, profiles,
    records::{self, Flags, RecordRow},
    relation, rows,
    rows::Rows,
    sitestandard, verifications,
};

/// Largest record block that is indexed. The firehose's own limits are far below.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Longest record key (ingest 6.2).
const RKEY_CHARS_MAX: usize = 512;

/// What an operation does to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The record is new.
    Create,
    /// The record has a new version.
    Update,
    /// The record is gone.
    Delete,
}

/// One operation of a commit.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> {
    /// What it does.
    pub action: Action,
    /// The collection of the record.
    pub collection: &'a str,
    /// The key of the record.
    pub rkey: &'a str,
    /// The version after it.
    pub cid: Option<Cid>,
    /// The record's block, its hash already compared with `cid`. It may be missing for a version that a later
    /// operation of the same commit replaces.
    pub record: Option<&'a [u8]>,
}

/// Why an operation was not applied. A closed set: names are labels of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The block of the record did not come with the commit.
    BlockMissing,
    /// The block is no map in the data model.
    BlockMalformed,
    /// The record does not satisfy its lexicon.
    LexiconInvalid,
    /// The record breaks a rule beyond its lexicon: a gate of another repo, an item of another's list.
    RuleBroken,
    /// The record or its key is larger than we keep.
    TooLarge,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::BlockMissing, Self::BlockMalformed, Self::LexiconInvalid, Self::RuleBroken, Self::TooLarge];

    /// The label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::BlockMissing => "record_block_missing",
            Self::BlockMalformed => "record_malformed",
            Self::LexiconInvalid => "record_lexicon_invalid",
            Self::RuleBroken => "record_rule_broken",
            Self::TooLarge => "record_too_large",
        }
    }
}

/// An operation that was not applied.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// For a person: which record, and what is wrong with it.
    pub detail: String,
}

/// What became of operations.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Records that are new.
    pub created: u32,
    /// Records with a new version.
    pub updated: u32,
    /// Records that are gone.
    pub deleted: u32,
    /// Operations that found everything as they would leave it.
    pub unchanged: u32,
    /// Operations on collections we do not index.
    pub ignored: u32,
    /// Operations that were not applied.
    pub dropped: Vec<Dropped>,
}

impl Applied {
    fn drop(&mut self, reason: DropReason, did: &str, op: &Op<'_>, why: &str) {
        let detail = format!("{}: {why}", uri_of(did, op.collection, op.rkey));
        self.dropped.push(Dropped { reason, detail });
    }
}

/// One record before and after an operation.
pub struct Stood<'a> {
    /// The repo.
    pub did: &'a str,
    /// The collection.
    pub collection: &'a str,
    /// The record key.
    pub rkey: &'a str,
    /// The commit.
    pub rev: &'a str,
    /// The event's own time, in microseconds.
    pub time_us: i64,
    /// What stood before.
    pub old: Option<&'a Placed<'a>>,
    /// Its row.
    pub old_row: Option<&'a RecordRow>,
    /// What stands after.
    pub new: Option<&'a Placed<'a>>,
}

impl Stood<'_> {
    /// Whether this is an event of before what stands: one that comes once more. Then what it ends is not remembered as
    /// ended, and nobody is told; its own time has seen to that.
    pub(crate) fn comes_again(&self) -> bool {
        self.old.is_some_and(|old| self.time_us < old.indexed_at_us)
    }

    /// Whether the record goes with its whole account: then there is no commit.
    pub(crate) fn with_account(&self) -> bool {
        self.rev.is_empty()
    }
}

/// Applies one operation.
///
/// A bad operation is dropped, counted in `applied`, and changes nothing. An error is the store's, never the
/// network's. `time_us` is the event's own time and `rev` the revision of its commit; empty where records go with their
/// whole account.
pub fn apply_op(
    view: &mut View<'_>,
    did: &str,
    rev: &str,
    op: &Op<'_>,
    time_us: i64,
    applied: &mut Applied,
) -> Result<()> {
    let Some(collection) = collections::of(op.collection) else {
        applied.ignored += 1;
        return Ok(());
    };
    if op.rkey.len() > RKEY_CHARS_MAX || op.record.is_some_and(|r| r.len() > RECORD_BYTES_MAX) {
        applied.drop(DropReason::TooLarge, did, op, "larger than we keep");
        return Ok(());
    }
    let key = records::key(did, op.collection, op.rkey);
    let stored = view.get(&key)?;
    let old_row = stored.as_ref().map(RecordRow::read).transpose()?;
    let old_value = old_row.as_ref().map(RecordRow::value).transpose()?;
    let old = match (&old_row, &old_value) {
        (Some(row), Some(value)) => Some(Placed::new(
            did,
            collection.nsid,
            op.rkey,
            row.cid(),
            value,
            row.indexed_at_us,
            row.first_indexed_at_us,
        )),
        _ => None,
    };
    if op.action == Action::Delete {
        return if delete(view, collection, did, rev, op.rkey, time_us, old.as_ref(), old_row.as_ref())? {
            applied.deleted += 1;
            Ok(())
        } else {
            applied.unchanged += 1;
            Ok(())
        };
    }
    let Some(block) = op.record else {
        applied.drop(DropReason::BlockMissing, did, op, "its block did not come with the commit");
        return Ok(());
    };
    if old_row.as_ref().is_some_and(|row| row.block == block) {
        applied.unchanged += 1;
        return Ok(());
    }
    let value = match cbor::decode(block) {
        Ok(value @ Value::Map(_)) => value,
        Ok(_) => {
            applied.drop(DropReason::BlockMalformed, did, op, "not a map");
            return Ok(());
        }
        Err(e) => {
            applied.drop(DropReason::BlockMalformed, did, op, &e.to_string());
            return Ok(());
        }
    };
    if collection.validated
        && let Err(invalid) = lexicon::validate(collection.nsid, &value)
    {
        applied.drop(DropReason::LexiconInvalid, did, op, &invalid.to_string());
        return Ok(());
    }
    let first = old_row.as_ref().map_or(time_us, |row| row.first_indexed_at_us);
    let cid = op.cid.unwrap_or_else(|| Cid::for_dag_cbor(block));
    let new = Placed::new(did, collection.nsid, op.rkey, cid, &value, time_us, first);
    if let Some(why) = collections::refuse(&new, &collection.kind) {
        applied.drop(DropReason::RuleBroken, did, op, why);
        return Ok(());
    }
    let mut flags = Flags::default();
    if let Some(row) = &old_row {
        flags = row.flags;
    } else {
        let uri = new.uri();
        flags.set(Flags::TAKEN_DOWN, moderation::is_taken_down(view, &uri)?);
        flags.set(Flags::TAGGED, view.get(&records::tags_key(&uri))?.is_some());
    }
    let row = RecordRow { flags, indexed_at_us: time_us, first_indexed_at_us: first, block: block.to_vec().into() };
    let stood = Stood {
        did,
        collection: collection.nsid,
        rkey: op.rkey,
        rev,
        time_us,
        old: old.as_ref(),
        old_row: old_row.as_ref(),
        new: Some(&new),
    };
    let mut deltas = Deltas::default();
    match &collection.kind {
        // A post's flags depend on what else stands, so it writes its own row.
        Kind::Post => posts::apply(view, &stood, Some(row), &mut deltas)?,
        kind => {
            view.put(key, row.write());
            change(view, kind, &stood, &mut deltas)?;
        }
    }
    deltas.apply(view)?;
    if old.is_some() {
        applied.updated += 1;
    } else {
        applied.created += 1;
    }
    Ok(())
}

/// Removes a record. Returns whether anything stood.
#[allow(clippy::too_many_arguments)]
fn delete(
    view: &mut View<'_>,
    collection: &Collection,
    did: &str,
    rev: &str,
    rkey: &str,
    time_us: i64,
    old: Option<&Placed<'_>>,
    old_row: Option<&RecordRow>,
) -> Result<bool> {
    let stood = Stood { did, collection: collection.nsid, rkey, rev, time_us, old, old_row, new: None };
    let mut deltas = Deltas::default();
    view.delete(records::key(did, collection.nsid, rkey));
    match &collection.kind {
        // Quotes of a post that was never seen go with it as well.
        Kind::Post => posts::apply(view, &stood, None, &mut deltas)?,
        kind if old.is_some() => change(view, kind, &stood, &mut deltas)?,
        _ => {}
    }
    deltas.apply(view)?;
    Ok(old.is_some())
}

fn change(view: &mut View<'_>, kind: &Kind, stood: &Stood<'_>, deltas: &mut Deltas) -> Result<()> {
    match kind {
        Kind::Post => Err(Error::Corrupt { table: "record", what: "a post outside its own path" }),
        Kind::Relation(shape) => relation::apply(view, shape, stood, deltas).map(drop),
        Kind::Verification(shape) => {
            let changed = relation::apply(view, shape, stood, deltas)?;
            verifications::tell(view, stood, changed)
        }
        Kind::Document(rows_of) => {
            let (before, after) = (rows_with(*rows_of, stood.old), rows_with(*rows_of, stood.new));
            rows::change(view, &before, &after, deltas)?;
            crate::notifications::change(view, &before.notices, &after.notices)
        }
        Kind::ThreadGate => gates::apply(view, &gates::THREAD, stood),
        Kind::PostGate => gates::apply(view, &gates::POST, stood),
        Kind::Profile => profiles::apply(view, stood, deltas),
        Kind::Versioned => sitestandard::keep_version(view, stood),
        Kind::Plain => Ok(()),
    }
}

fn rows_with(rows_of: fn(&Placed<'_>, &mut Rows), it: Option<&Placed<'_>>) -> Rows {
    let mut rows = Rows::none();
    if let Some(it) = it {
        rows_of(it, &mut rows);
    }
    rows
}
