//! Drills: a known outage, replayed on the machine of whoever asks.
//!
//! A drill starts the program as a child on a folder that it fills itself, puts an open-loop load on it, breaks
//! something, and compares what callers felt with what they felt a moment before, in the same process and the same run.
//! Beside it stands a twin: a small server that does for the same call what the program of the outage did. A check that
//! the twin passes as well shows nothing, and is called void.
//!
//! - [`confine`]: a network namespace with few ports; a bound on memory.
//! - [`data`], [`program`], [`memcached`]: what is served, by whom, and what the kernel says of it meanwhile.
//! - [`rig`]: all of that together.
//! - [`wire`], [`load`]: one connection, and the load that many of them make. [`aside`]: callers that cost nothing.
//! - [`twin`], [`scripted`]: the naive server, and the real one over a store that can be told to be slow. [`bare`]: what
//!   to compare with.
//! - [`april`], [`others`]: the drills that an operator runs. [`report`] writes what they found.
//!
//! Nothing that serves imports from here.

pub mod april;
pub mod aside;
pub mod bare;
pub mod confine;
pub mod data;
pub mod load;
pub mod memcached;
pub mod others;
pub mod program;
pub mod report;
pub mod rig;
pub mod scripted;
pub mod twin;
pub mod verdict;
pub mod wire;

pub use verdict::{Row, Verdict};

/// Where a drill says how far it has come.
pub type Say<'a> = &'a (dyn Fn(&str) + Send + Sync);
