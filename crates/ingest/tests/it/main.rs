//! The ingest side as a whole, against a synthetic network or a relay that the test plays itself.

extern crate groundplane_ingest as gp_ingest;

mod backfill;
mod bsync;
mod control;
mod faults;
mod hosts;
mod identity;
mod labels;
mod relay;
mod rig;
mod same;
mod stream;
