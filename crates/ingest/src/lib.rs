//! Network in: everything that the data plane learns from others.
//!
//! ```text
//! relay -> firehose -> decode -> order (lanes: hashes, proofs, signatures) -> apply (writer) -> progress
//!                                  |                                            |    ^
//!                               identity  <----  refresh, resync, accounts  <- jobs  |
//!                                                        \\-> reading (whole repos) --+
//! lists of repos -> backfill ----------------------------/
//! ```
//!
//! Beside the firehose there are private state (`bsync`) and labels (`labels`). All of them store their position with
//! their effects, so that everything comes at least once and takes effect once. Nothing upstream is trusted, and
//! nothing upstream is fatal: the smallest unit is dropped, counted under a closed reason (`drop`), and the stream goes
//! on.
//!
//! What does not live here: what a record means (`gp_index`), and anything that answers callers.

mod accounts;
mod apply;
mod backfill;
mod bsync;
mod config;
mod decode;
mod drop;
mod error;
mod facts;
mod firehose;
mod flight;
mod held;
mod http;
mod identity;
mod ingest;
mod jobs;
mod labels;
mod order;
mod pending;
mod progress;
mod reading;
mod refresh;
mod resync;
mod shared;
mod socket;
mod spool;

pub use backfill::{BackfillFigures, Failure, FailuresFrom};
pub use config::{BackfillConfig, BsyncConfig, Config, IdentityConfig, RETRY_DELAYS, RelayStart, relay_base};
pub use drop::{DropReason, Drops, SkipReason};
pub use error::{Error, Result};
pub use identity::{Document, Identity, IdentityFigures, Want};
pub use ingest::{Figures, Ingest};
pub use reading::FailReason;

/// Tables of the ingest side, to be opened together with those of the index.
pub static TABLES: &[&gp_store::Table] = &[&jobs::JOB, &bsync::DEAD_LETTER, &backfill::BACKFILL];
