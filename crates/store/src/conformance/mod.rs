//! The promises every engine keeps, as one suite.
//!
//! An engine takes part by a [`Ground`], a place where its stores can be opened, and one line in a test:
//!
//! ```ignore
//! gp_store::conformance_tests!(lsm, LsmGround::new());
//! ```
//!
//! The cases use the store's verbs, the writer and its views, never an engine's own doors. They rely on atomicity
//! inside one partition only, because that is all a cluster promises. Everything random is seeded, so a failure
//! comes back.

#![allow(clippy::missing_panics_doc, reason = "a case fails by panicking")]

pub mod cached;
pub mod reads;
pub mod writes;
pub mod writing;

use std::path::Path;

use bytes::Bytes;

use crate::{Batch, Cache, Config, Key, Page, Partition, Store, Table};

/// A place where one case may open stores.
pub trait Ground: Send {
    /// Opens an empty store. Called once.
    fn open(&mut self, tables: &[&'static Table], config: &Config) -> Store;

    /// Opens the store again after all its clones have gone. Nothing for an engine whose rows go with it.
    fn reopen(&mut self, _tables: &[&'static Table], _config: &Config) -> Option<Store> {
        None
    }

    /// The folder of an engine that has one.
    fn dir(&self) -> Option<&Path> {
        None
    }

    /// How many rounds of something random to do where an engine in this process does `usual`. A cluster does fewer.
    fn rounds(&self, usual: usize) -> usize {
        usual
    }
}

/// Makes one test of each case for one engine: a module name, an expression that makes a [`Ground`], and attributes for
/// the tests of an engine that is not always there.
#[macro_export]
macro_rules! conformance_tests {
    ($engine:ident, $ground:expr $(, #[$attribute:meta])*) => {
        mod $engine {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance_tests!(@cases [$(#[$attribute])*] $ground;
                reads: get_answers_each_key_in_its_place,
                reads: partitions_and_tables_do_not_mix,
                reads: the_head_comes_first_and_order_is_that_of_bytes,
                reads: scans_agree_with_a_model,
                reads: more_is_exact,
                reads: pages_walk_a_partition_without_gap_or_repeat,
                reads: pages_of_large_rows_are_bounded_by_bytes,
                reads: many_scans_are_answered_in_the_order_asked,
                writes: the_last_change_of_a_key_in_a_batch_holds,
                writes: rows_go_and_come_back,
                writes: an_empty_value_is_a_row,
                writes: long_keys_and_large_values_are_kept,
                writes: what_is_beyond_the_bounds_is_refused_whole,
                writes: a_batch_is_seen_whole_or_not_at_all,
                writes: counts_stay_with_their_rows_under_replay,
                writes: random_batches_agree_with_a_model_and_outlive_the_store,
                writing: a_view_reads_as_if_its_changes_were_applied,
                writing: rolling_back_leaves_no_trace,
                writing: jobs_run_in_order_and_see_the_ones_before,
                writing: a_job_that_fails_hurts_no_neighbour,
                writing: a_written_row_is_there_when_the_call_answers,
                writing: closing_applies_what_was_taken,
                cached: answers_are_kept_and_never_outlived,
                cached: kept_answers_may_have_a_form_of_their_own,
                cached: nothing_stale_is_ever_answered,
                cached: the_writers_own_memory_agrees_with_the_engine,
            );
        }
    };
    (@cases $attributes:tt $ground:expr; $($part:ident: $case:ident,)*) => {
        $( $crate::conformance_tests!(@case $attributes $ground; $part: $case); )*
    };
    (@case [$(#[$attribute:meta])*] $ground:expr; $part:ident: $case:ident) => {
        $(#[$attribute])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let mut ground = $ground;
            $crate::conformance::$part::$case(&mut ground).await;
        }
    };
}

/// A table that is always asked of the engine.
pub static PLAIN: Table =
    Table { id: 1, name: "plain", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

/// Another one, with the next number, so that rows of the two lie side by side.
pub static BESIDE: Table = Table {
    id: 2,
    name: "beside",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::Never,
    bucket_rows: None,
};

/// A table whose answers are kept as stored.
pub static KEPT: Table = Table {
    id: 3,
    name: "kept",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::Near,
    bucket_rows: Some(1_000),
};

/// A table whose answers are kept in another form.
pub static SHAPED: Table = Table {
    id: 255,
    name: "shaped",
    partition: &[],
    clustering: &[],
    value: &[],
    cache: Cache::NearAs(shape),
    bucket_rows: None,
};

/// All tables of the suite.
pub static TABLES: [&Table; 4] = [&PLAIN, &BESIDE, &KEPT, &SHAPED];

/// The form in which `SHAPED` answers: the position, a colon, the value.
fn shape(key: &Key, value: &Bytes) -> Bytes {
    [key.clustering(), b":", value].concat().into()
}

/// Numbers that look random and are the same every time (splitmix64).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// A row of numbers for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    /// The next number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.any() % (bound.max(1) as u64)).unwrap_or(0)
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A short byte string of few different bytes, so that many are equal or begin one another; the lowest and the
    /// highest byte are among them.
    pub fn position(&mut self) -> Vec<u8> {
        let length = self.below(5);
        (0..length).map(|_| [0x00, 0x01, b'a', 0xfe, 0xff][self.below(5)]).collect()
    }
}

/// A partition by name. The length goes first, which makes the name self-delimiting.
pub fn partition(table: &Table, name: &[u8]) -> Partition {
    let length = u8::try_from(name.len()).expect("names in the suite are short");
    Key::of(table).tag(length).atom(name).partition()
}

/// A batch of puts.
pub fn puts<'a>(rows: impl IntoIterator<Item = (Key, &'a [u8])>) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in rows {
        batch.put(key, Bytes::copy_from_slice(value));
    }
    batch
}

/// Positions and values.
pub type Shown = Vec<(Vec<u8>, Vec<u8>)>;

/// A page as positions and values.
pub fn shown(page: &Page) -> Shown {
    page.rows.iter().map(|row| (row.clustering().to_vec(), row.value.to_vec())).collect()
}
