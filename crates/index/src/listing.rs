//! Pages of timed rows: what one account did, and what was done to one subject, newest first.
//!
//! A page that leaves rows out is filled up from the rows behind it: the AppView takes a short page for a reason to
//! ask again, and each asking costs a round trip.

use gp_store::{Row, Scan};

use crate::{
    Cx, Result,
    atom::Parts,
    page::{self, TimedCursor},
    placed::uri_of,
    tables::{self, BY, ON},
};

/// Scans that one page may make while rows are left out. A page that ends here has a token of where it stopped.
const ROUNDS_MAX: usize = 20;

/// Rows of the second and later scans of a page.
const ROUND_ROWS: usize = 500;

/// Account and record key of a timed row of `on`.
pub(crate) fn on_row(row: &Row) -> Result<(String, String)> {
    let mut parts = timed_parts(ON.name, row)?;
    Ok((parts.did()?, parts.rkey()?))
}

/// Record key of a timed row of `by`.
pub(crate) fn by_row(row: &Row) -> Result<String> {
    timed_parts(BY.name, row)?.rkey()
}

/// What follows time and tie in a timed row's position.
fn timed_parts<'a>(table: &'static str, row: &'a Row) -> Result<Parts<'a>> {
    let mut parts = Parts::of(table, row.clustering());
    parts.tag()?;
    parts.micros_desc()?;
    parts.u32_desc()?;
    Ok(parts)
}

/// One page of what an account did, and the token of what follows.
pub(crate) async fn by_page(
    cx: &Cx,
    actor: &str,
    kind: u8,
    collection: &str,
    limit: i32,
    cursor: &str,
) -> Result<(Vec<String>, String)> {
    let uri = |row: &Row| Ok(uri_of(actor, collection, &by_row(row)?));
    uris(cx, tables::scan_by(actor, kind), kind, limit, cursor, uri).await
}

/// One page of what was done to a subject, and the token of what follows. No subject is an empty page.
pub(crate) async fn on_page(
    cx: &Cx,
    subject: &str,
    kind: u8,
    collection: &str,
    limit: i32,
    cursor: &str,
) -> Result<(Vec<String>, String)> {
    if subject.is_empty() {
        return Ok(Default::default());
    }
    let uri = |row: &Row| {
        let (did, rkey) = on_row(row)?;
        Ok(uri_of(&did, collection, &rkey))
    };
    uris(cx, tables::scan_on(subject, kind), kind, limit, cursor, uri).await
}

async fn uris(
    cx: &Cx,
    scan: Scan,
    kind: u8,
    limit: i32,
    cursor: &str,
    uri: impl Fn(&Row) -> Result<String>,
) -> Result<(Vec<String>, String)> {
    let limit = page::limit(limit);
    let cursor = page::timed_cursor(cursor)?;
    let mut rows = page::timed(cx, scan, kind, limit, cursor.as_ref()).await?.rows;
    let token = page::cut(cx, &mut rows, limit, &uri).await?;
    Ok((rows.iter().map(uri).collect::<Result<_>>()?, token))
}

/// A page that leaves some rows out.
///
/// The caller takes [`Walk::rows`] until there are none, gives each row it wants to [`Walk::keep`], and ends with
/// [`Walk::finish`].
pub(crate) struct Walk<T> {
    scan: Scan,
    kind: u8,
    limit: usize,
    cursor: Option<TimedCursor>,
    kept: Vec<(Row, T)>,
    /// The last row looked at, kept or not.
    last: Option<Row>,
    rounds: usize,
    ended: bool,
}

impl<T> Walk<T> {
    /// Begins a page of the rows of one kind in a partition.
    pub(crate) fn new(scan: Scan, kind: u8, limit: i32, cursor: &str) -> Result<Self> {
        let limit = page::limit(limit);
        Ok(Self {
            scan,
            kind,
            limit,
            cursor: page::timed_cursor(cursor)?,
            kept: Vec::new(),
            last: None,
            rounds: 0,
            ended: limit == 0,
        })
    }

    /// The next rows to choose from; none when the page is full, or nothing is left, or enough has been looked at.
    pub(crate) async fn rows(&mut self, cx: &Cx) -> Result<Option<Vec<Row>>> {
        if self.ended || self.kept.len() > self.limit || self.rounds == ROUNDS_MAX {
            return Ok(None);
        }
        let scan = self.scan.clone().limit(if self.rounds == 0 { self.limit + 1 } else { ROUND_ROWS });
        let scan = match &self.last {
            Some(last) => scan.after(last.clustering()),
            None => page::resume(scan, self.kind, self.cursor.as_ref()),
        };
        let page = cx.store.scan(scan).await?;
        self.rounds += 1;
        self.ended = !page.more;
        if let Some(last) = page.rows.last() {
            self.last = Some(last.clone());
        }
        Ok(Some(page.rows))
    }

    /// Keeps a row, with what the page says of it.
    pub(crate) fn keep(&mut self, row: Row, item: T) {
        // One more than the page holds tells that there is more; the rest of a round is read again when it is asked.
        if self.kept.len() <= self.limit {
            self.kept.push((row, item));
        }
    }

    /// The page, and the token of what follows. `uri_of` names the record whose version the token carries.
    pub(crate) async fn finish(mut self, cx: &Cx, uri_of: impl Fn(&Row) -> Result<String>) -> Result<(Vec<T>, String)> {
        let token = if self.kept.len() > self.limit {
            let next = self.kept.split_off(self.limit);
            match (self.kept.last(), next.first()) {
                (Some((last, _)), Some((next, _))) => {
                    let place = last.clustering();
                    let tail = page::twin_tail(place, next.clustering());
                    page::token(cx, page::sort_at_of(place)?, &uri_of(last)?, place, tail).await?
                }
                _ => String::new(),
            }
        } else if let Some(last) = self.last.as_ref().filter(|_| !self.ended) {
            let place = last.clustering();
            let tail = place.get(13..).map(<[u8]>::to_vec);
            page::token(cx, page::sort_at_of(place)?, &uri_of(last)?, place, tail).await?
        } else {
            String::new()
        };
        Ok((self.kept.into_iter().map(|(_, item)| item).collect(), token))
    }
}
