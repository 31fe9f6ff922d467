//! The parts of the floor together: accounts that write, events that prove it, and everything that can be wrong with
//! such an event.

mod commits;
mod repos;
mod speed;
mod syncs;
mod world;
