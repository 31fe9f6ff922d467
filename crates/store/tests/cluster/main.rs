//! The engine `cql` on a real cluster: the conformance suite, and what only a cluster can get wrong.
//!
//! `cargo xtask conformance` starts a cluster and runs these tests; without one they are shown as ignored.

#![allow(clippy::print_stdout, reason = "children talk to the test by their output")]

extern crate groundplane_store as gp_store;

mod copying;
mod ground;
mod opening;
mod readers;
mod secured;
mod wide;
mod writers;

use ground::CqlGround;

gp_store::conformance_tests!(cql, CqlGround::new(), #[ignore = "needs a cluster: cargo xtask conformance"]);
