//! What stands becomes rows; a change is the difference between the rows before and the rows after.

use bytes::Bytes;
use gp_store::{Key, KeyBuilder, View};

use crate::{
    Result, atom,
    counts::{ByCount, Deltas, OnCount},
    notifications::Notice,
    placed::Placed,
    tables,
};

/// One row that a standing record makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOut {
    /// Where.
    pub key: Key,
    /// What it says.
    pub value: Bytes,
    /// The head and cell that count it.
    pub counted: Option<(Key, u8)>,
}

/// The rows and notices of one standing record.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The rows.
    pub rows: Vec<RowOut>,
    /// Whom it notifies.
    pub notices: Vec<Notice>,
}

impl Rows {
    /// No rows: nothing stands.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a row that nothing counts.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.rows.push(RowOut { key, value: value.into(), counted: None });
    }

    /// Adds a row on a subject, counted there.
    pub fn put_on(&mut self, subject: &str, key: Key, value: impl Into<Bytes>, cell: OnCount) {
        self.rows.push(RowOut { key, value: value.into(), counted: Some((tables::on_head(subject), cell as u8)) });
    }

    /// Adds a row by an account, counted there.
    pub fn put_by(&mut self, actor: &str, key: Key, value: impl Into<Bytes>, cell: ByCount) {
        self.rows.push(RowOut { key, value: value.into(), counted: Some((tables::by_head(actor), cell as u8)) });
    }

    /// Adds a notice.
    pub fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// The position of a timed row in `on`: newest first, then by CID text, then by record.
pub fn timed_on(subject: &str, kind: u8, it: &Placed<'_>) -> Key {
    timed(tables::on_subject(subject, kind), it).atom(&atom::did(it.did)).atom(&atom::rkey(it.rkey)).key()
}

/// The position of a timed row in `by`: newest first, then by CID text, then by record key.
pub fn timed_by(it: &Placed<'_>, kind: u8) -> Key {
    timed(tables::by_actor(it.did, kind), it).atom(&atom::rkey(it.rkey)).key()
}

/// Adds `sort_at desc, tie desc`.
pub fn timed(builder: KeyBuilder, it: &Placed<'_>) -> KeyBuilder {
    builder.micros_desc(it.sort_at_us).u32_desc(it.tie())
}

/// Makes the rows `after` stand where the rows `before` stood.
///
/// A counted row changes its count only if it is really born or really gone, so applying the same change twice counts
/// once (INV-2). Rows that stay as they are cost nothing.
pub fn change(view: &mut View<'_>, before: &Rows, after: &Rows, deltas: &mut Deltas) -> Result<()> {
    for old in &before.rows {
        if after.rows.iter().any(|new| new.key == old.key) {
            continue;
        }
        match &old.counted {
            None => view.delete(old.key.clone()),
            Some((head, cell)) => {
                if view.get(&old.key)?.is_some() {
                    view.delete(old.key.clone());
                    deltas.add(head.clone(), *cell, -1);
                }
            }
        }
    }
    for new in &after.rows {
        if before.rows.iter().any(|old| old.key == new.key && old.value == new.value && old.counted == new.counted) {
            // It should stand already; after a crash between partitions it may not.
            if view.get(&new.key)?.is_some() {
                continue;
            }
        }
        match &new.counted {
            None => view.put(new.key.clone(), new.value.clone()),
            Some((head, cell)) => {
                let stored = view.get(&new.key)?;
                if stored.is_none() {
                    deltas.add(head.clone(), *cell, 1);
                }
                if stored.as_ref() != Some(&new.value) {
                    view.put(new.key.clone(), new.value.clone());
                }
            }
        }
    }
    Ok(())
}
