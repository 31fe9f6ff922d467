//! The store as a whole: the conformance suite on each engine, and what the embedded engine does when its process is
//! killed, its files are damaged, its folder is foreign or its disk is full.

#![allow(clippy::print_stdout, reason = "children talk to the test by their output, and a test says what it skipped")]

extern crate groundplane_store as gp_store;

mod copying;
mod damage;
mod engines;
mod folder;
mod full;
mod kill;
mod same;
mod torn;

use engines::{LsmGround, MemGround};

gp_store::conformance_tests!(mem, MemGround);
gp_store::conformance_tests!(lsm, LsmGround::new());
