//! The one door to disk: tables, rows, and three verbs over them.
//!
//! A [`Table`] is a value that describes the shape of its rows. A [`Key`] is a partition and a position inside it; both
//! are byte strings that sort as they read. The verbs are [`Store::get`] (by keys, answered in the order asked),
//! [`Store::scan`] (one partition, in order) and the batch that the [`Writer`] applies (atomic inside a partition in
//! every engine). There is no fourth way to reach a row, and none of the three has an unbounded form.
//!
//! ```text
//! read   get, scan -> near cache -> memcached, if there is one -> engine
//! write  job on a View -> group -> batch -> caches forget -> engine -> observers are told -> Done
//! ```
//!
//! What does not live here: anything that knows what a like is. Columns are bytes with an order.

mod ahead;
mod batch;
mod cache;
mod copy;
mod digest;
mod error;
mod feed;
mod key;
mod pace;
mod recent;
mod scan;
mod store;
mod table;
mod turns;
mod view;
mod writer;

pub mod conformance;
pub mod engine;

pub use batch::{Batch, Change, VALUE_BYTES_MAX};
pub use cache::{AuditFigures, Audited, FarConfig, FarFigures, FarNode};
pub use copy::{Copied, CopyEnd, CopyProgress, CopyStep, PartitionLen, copy};
pub use digest::{Digest, digest};
pub use error::{Error, Result};
pub use gp_memcached::DIAL_RESULTS;
pub use key::{KEY_BYTES_MAX, Key, KeyBuilder, Partition};
pub use pace::Pace;
pub use scan::{BYTES_PER_SCAN_MAX, Page, ROWS_PER_SCAN_MAX, Row, Scan};
pub use store::{Config, Figures, Observed, Store};
pub use table::{Cache, Column, Kind, Table};
pub use turns::{Behalf, Purse, on_behalf, pay};
pub use view::View;
/// Tables of the store's own.
pub static TABLES: &[&Table] = &[&cache::far::NODES, &copy::COPIES];

pub use writer::{Done, Writer, WriterConfig, WriterFigures};

/// Lets other tasks of the thread have their turn: for loops over what callers decide the length of.
pub async fn give_way() {
    tokio::task::yield_now().await;
}
