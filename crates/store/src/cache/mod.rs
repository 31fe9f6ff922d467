//! What stands in front of an engine: answers in the process, and answers shared by all processes in memcached.
//!
//! ```text
//! get -> near -> [one load a key] -> far (memcached) -> engine -> far filled under a lease -> near kept under a ticket
//! ```
//!
//! `near` and `far` keep the same promise by the same means. Before a row changes, what is kept of it goes, and nothing is
//! kept until the change is over; an answer is only kept by who can prove that no change began since it was asked for:
//! near by a ticket, far by a lease.

pub(crate) mod audit;
mod envelope;
pub(crate) mod far;
mod figures;
pub(crate) mod load;
pub(crate) mod near;
mod protocol;
mod shared;

#[cfg(test)]
mod model;

pub use audit::{AuditFigures, Audited};
pub use figures::{FarConfig, FarFigures, FarNode};
pub(crate) use near::{Joined, Near, Ticket};
