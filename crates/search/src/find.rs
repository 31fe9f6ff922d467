//! Runs a question over the index: the best documents by an order that does not depend on what else is in the index.
//!
//! Order is a property of each document (time, level, tie), never of the corpus, so that a page goes on exactly after
//! the last document of the page before, whatever has been added meanwhile. See `docs/search.md`.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tantivy::{
    COLLECT_BLOCK_BUFFER_LEN, DocAddress, Searcher, TERMINATED, TantivyDocument, Term,
    columnar::Column,
    index::SegmentReader,
    query::{BooleanQuery, EmptyQuery, EnableScoring, Occur, PhraseQuery, Query, RangeQuery, TermQuery, TermSetQuery},
    schema::{Field, IndexRecordOption, Value as _},
};

use crate::{
    query::{Conditions, Facet},
    schema::{AUTHOR_HASH, Fields, IS_MEDIA, IS_REPLY, IS_VIDEO, LEVEL, SORT_AT, TIE, shortened},
    subject::POST,
    words::{Phrase, Sought},
};

/// What a doubling of engagement is worth in `top`: a post with twice as much stands beside one that is so much newer.
pub(crate) const TOP_LEVEL_US: i64 = 3 * 24 * 3600 * 1_000_000;

/// The level stands above these bits of the time.
const LEVEL_SHIFT: u32 = 52;

/// How documents are ordered; the later ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By time.
    Recent,
    /// By time, where each doubling of engagement counts as some days.
    Top,
    /// By level, and by time within one.
    Level,
}

/// A document's place in an order. The larger comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Rank {
    pub(crate) primary: i64,
    pub(crate) tie: u64,
}

/// A document's place among all that are found. Of two, the one of the lower tier comes first, then the larger rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) tier: u8,
    pub(crate) rank: Rank,
}

/// A question that can be run.
pub(crate) struct Plan {
    /// Each tier comes whole before the next; a document belongs to the first that finds it.
    pub(crate) tiers: Vec<Box<dyn Query>>,
    pub(crate) order: Order,
    /// From this moment on, in microseconds.
    pub(crate) since_us: Option<i64>,
    /// Before this moment.
    pub(crate) until_us: Option<i64>,
    /// Only of these authors, by hash.
    pub(crate) authors: Option<Arc<HashSet<u64>>>,
}

/// A document that was found.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) place: Place,
    /// The address, or the DID.
    pub(crate) uri: String,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) hits: Vec<Hit>,
    /// More follow.
    pub(crate) more: bool,
    /// All of it, pages before included, if it was counted.
    pub(crate) total: u64,
}

/// Why nothing was found.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Nobody waits any longer.
    Late,
    /// The index could not be read.
    Index(tantivy::TantivyError),
}

impl From<tantivy::TantivyError> for Failed {
    fn from(error: tantivy::TantivyError) -> Self {
        Self::Index(error)
    }
}

/// When to give up.
pub(crate) struct Patience {
    pub(crate) gone: Arc<AtomicBool>,
    pub(crate) until: Instant,
}

impl Patience {
    fn is_over(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || Instant::now() >= self.until
    }
}

/// Runs a question: at most `limit` documents after `after`. If `counted`, all that is found is counted, which costs
/// reading all of it.
pub(crate) fn run(
    searcher: &Searcher,
    fields: &Fields,
    plan: &Plan,
    after: Option<Place>,
    limit: usize,
    counted: bool,
    patience: &Patience,
) -> Result<Found, Failed> {
    let mut found = Found::default();
    for (tier, query) in plan.tiers.iter().enumerate() {
        let tier = u8::try_from(tier).unwrap_or(u8::MAX);
        let passed = after.is_some_and(|place| place.tier > tier);
        if (passed || found.more) && !counted {
            continue;
        }
        let mut clauses = vec![(Occur::Must, query.box_clone())];
        clauses.extend(plan.tiers[..usize::from(tier)].iter().map(|above| (Occur::MustNot, above.box_clone())));
        let query: Box<dyn Query> =
            if clauses.len() == 1 { query.box_clone() } else { Box::new(BooleanQuery::new(clauses)) };
        let after = after.filter(|place| place.tier == tier).map(|place| place.rank);
        // One more than is needed shows whether more follow.
        let room = if passed || found.more { 0 } else { limit - found.hits.len() + 1 };
        let (best, count) = best(searcher, &*query, plan, after, room, counted, patience)?;
        found.total += count;
        for (rank, address) in best {
            if found.hits.len() == limit {
                found.more = true;
                break;
            }
            let doc: TantivyDocument = searcher.doc(address)?;
            let uri = doc.get_first(fields.uri).and_then(|it| it.as_str()).unwrap_or_default().to_owned();
            found.hits.push(Hit { place: Place { tier, rank }, uri });
        }
    }
    Ok(found)
}

type Best = Vec<(Rank, DocAddress)>;

/// The best documents of a query after a rank, and how many there are in all.
fn best(
    searcher: &Searcher,
    query: &dyn Query,
    plan: &Plan,
    after: Option<Rank>,
    room: usize,
    counted: bool,
    patience: &Patience,
) -> Result<(Best, u64), Failed> {
    let weight = query.weight(EnableScoring::disabled_from_searcher(searcher))?;
    let mut segments = Vec::with_capacity(searcher.segment_readers().len());
    for (ord, reader) in searcher.segment_readers().iter().enumerate() {
        segments.push((u32::try_from(ord).unwrap_or(u32::MAX), reader, Columns::of(reader, plan)?));
    }
    // Newest first, so that what cannot hold anything better need not be looked at.
    segments.sort_by_key(|(_, _, columns)| Reverse(columns.sort_at.max_value()));
    let mut kept: BinaryHeap<Reverse<(Rank, DocAddress)>> = BinaryHeap::with_capacity(room + 1);
    let mut count = 0;
    for (ord, reader, columns) in segments {
        if !columns.may_hold(plan) {
            continue;
        }
        if !counted {
            let worst = kept.peek().filter(|_| kept.len() >= room).map(|Reverse((rank, _))| *rank);
            if room == 0 || worst.is_some_and(|worst| columns.best_possible(plan) < worst.primary) {
                continue;
            }
        }
        let mut scorer = weight.scorer(reader, 1.0)?;
        let alive = reader.alive_bitset();
        let mut docs = [TERMINATED; COLLECT_BLOCK_BUFFER_LEN];
        loop {
            let read = scorer.fill_buffer(&mut docs);
            for &doc in &docs[..read] {
                if alive.is_some_and(|alive| alive.is_deleted(doc)) || !columns.holds(plan, doc) {
                    continue;
                }
                count += 1;
                if room == 0 {
                    continue;
                }
                let primary = columns.primary(plan.order, doc);
                if kept.len() >= room && kept.peek().is_some_and(|Reverse((worst, _))| primary < worst.primary) {
                    continue;
                }
                let rank = Rank { primary, tie: columns.tie.first(doc).unwrap_or(0) };
                if after.is_some_and(|after| rank >= after) {
                    continue;
                }
                kept.push(Reverse((rank, DocAddress::new(ord, doc))));
                if kept.len() > room {
                    kept.pop();
                }
            }
            if read < docs.len() {
                break;
            }
            if patience.is_over() {
                return Err(Failed::Late);
            }
        }
    }
    let mut best: Best = kept.into_iter().map(|Reverse(it)| it).collect();
    best.sort_unstable_by(|a, b| b.cmp(a));
    Ok((best, count))
}

/// What is known of each document of a segment.
struct Columns {
    sort_at: Column<i64>,
    tie: Column<u64>,
    level: Column<u64>,
    author: Option<Column<u64>>,
}

impl Columns {
    fn of(reader: &SegmentReader, plan: &Plan) -> tantivy::Result<Self> {
        let fast = reader.fast_fields();
        Ok(Self {
            sort_at: fast.i64(SORT_AT)?,
            tie: fast.u64(TIE)?,
            level: fast.u64(LEVEL)?,
            author: plan.authors.as_ref().map(|_| fast.u64(AUTHOR_HASH)).transpose()?,
        })
    }

    /// Whether any document of the segment may be of the time asked for.
    fn may_hold(&self, plan: &Plan) -> bool {
        plan.since_us.is_none_or(|since| self.sort_at.max_value() >= since)
            && plan.until_us.is_none_or(|until| self.sort_at.min_value() < until)
    }

    fn holds(&self, plan: &Plan, doc: u32) -> bool {
        if plan.since_us.is_some() || plan.until_us.is_some() {
            let at = self.sort_at.first(doc).unwrap_or(0);
            if plan.since_us.is_some_and(|since| at < since) || plan.until_us.is_some_and(|until| at >= until) {
                return false;
            }
        }
        match (&plan.authors, &self.author) {
            (Some(authors), Some(column)) => column.first(doc).is_some_and(|author| authors.contains(&author)),
            _ => true,
        }
    }

    fn primary(&self, order: Order, doc: u32) -> i64 {
        primary(order, self.sort_at.first(doc).unwrap_or(0), || self.level.first(doc).unwrap_or(0))
    }

    /// What no document of the segment is above.
    fn best_possible(&self, plan: &Plan) -> i64 {
        primary(plan.order, self.sort_at.max_value(), || self.level.max_value())
    }
}

fn primary(order: Order, sort_at_us: i64, level: impl Fn() -> u64) -> i64 {
    let level = || i64::try_from(level().min(63)).unwrap_or(63);
    match order {
        Order::Recent => sort_at_us,
        Order::Top => sort_at_us.saturating_add(level() * TOP_LEVEL_US),
        Order::Level => level() << LEVEL_SHIFT | sort_at_us.clamp(0, (1 << LEVEL_SHIFT) - 1),
    }
}

/// A value of a field.
pub(crate) fn term(field: Field, value: &str) -> Box<dyn Query> {
    Box::new(TermQuery::new(Term::from_field_text(field, value), IndexRecordOption::Basic))
}

/// Everything that begins so, in a field of whole values.
pub(crate) fn beginning(field: Field, value: &str) -> Box<dyn Query> {
    let mut next = value.to_owned();
    // Values that begin so come before the one whose last character is the next one.
    let upper = loop {
        let Some(last) = next.pop() else { break Bound::Unbounded };
        if let Some(after) = char::from_u32(u32::from(last) + 1) {
            next.push(after);
            break Bound::Excluded(Term::from_field_text(field, &next));
        }
    };
    Box::new(RangeQuery::new(Bound::Included(Term::from_field_text(field, value)), upper))
}

/// All of them.
pub(crate) fn all_of(queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    Box::new(BooleanQuery::intersection(queries))
}

/// Words next to each other.
pub(crate) fn phrase(field: Field, phrase: &Phrase) -> Box<dyn Query> {
    let mut exact = Vec::new();
    let mut all: Vec<Box<dyn Query>> = Vec::new();
    for (at, sought) in phrase {
        match sought {
            Sought::Word(word) => exact.push((*at, Term::from_field_text(field, word))),
            Sought::Begins(character) => all.push(beginning(field, character)),
        }
    }
    match exact.len() {
        0 => {}
        1 => all.extend(exact.pop().map(|(_, term)| Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as _)),
        _ => all.push(Box::new(PhraseQuery::new_with_offset(exact))),
    }
    match all.len() {
        0 => Box::new(EmptyQuery),
        1 => all.remove(0),
        _ => all_of(all),
    }
}

/// Posts that meet conditions; their time and the viewer's follows are the plan's.
pub(crate) fn posts(fields: &Fields, conditions: &Conditions) -> Box<dyn Query> {
    if conditions.wordless {
        return Box::new(EmptyQuery);
    }
    let values = |(facet, values): &(Facet, Vec<String>)| -> Box<dyn Query> {
        let field = fields.facet(*facet);
        match values.as_slice() {
            [] => Box::new(EmptyQuery),
            [one] => term(field, shortened(one)),
            many => {
                Box::new(TermSetQuery::new(many.iter().map(|value| Term::from_field_text(field, shortened(value)))))
            }
        }
    };
    let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    clauses.extend(conditions.phrases.iter().map(|it| (Occur::Must, phrase(fields.text, it))));
    clauses.extend(conditions.any_of.iter().map(|it| (Occur::Must, values(it))));
    clauses.extend(conditions.links.iter().map(|(link, written)| {
        let either = vec![term(fields.facet(Facet::Url), shortened(link)), phrase(fields.text, written)];
        (Occur::Must, Box::new(BooleanQuery::union(either)) as _)
    }));
    let is = [(conditions.media, IS_MEDIA), (conditions.video, IS_VIDEO), (conditions.reply == Some(true), IS_REPLY)];
    clauses.extend(is.iter().filter(|(asked, _)| *asked).map(|(_, word)| (Occur::Must, term(fields.is, word))));
    if clauses.is_empty() {
        clauses.push((Occur::Must, term(fields.kind, POST)));
    }
    clauses.extend(conditions.no_phrases.iter().map(|it| (Occur::MustNot, phrase(fields.text, it))));
    clauses.extend(conditions.none_of.iter().map(|it| (Occur::MustNot, values(it))));
    if conditions.reply == Some(false) {
        clauses.push((Occur::MustNot, term(fields.is, IS_REPLY)));
    }
    Box::new(BooleanQuery::new(clauses))
}
