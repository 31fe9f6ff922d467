//! Faults on demand, for tests and drills: what a network does to a program, switched while it runs.
//!
//! [`Proxy`] stands on one hop of TCP and spoils what passes: it delays, swallows, stalls, throttles, truncates,
//! corrupts and resets, each way by itself, and decides what meets a new connection.
//!
//! Nothing ships from here.

mod dice;
mod proxy;

pub use proxy::{Door, Faults, Harm, Proxy, ProxyFigures, Way};
