//! What we keep about the network, and how to ask about it.
//!
//! One file a subject: its tables, the pure function from a record to its rows, and, a screen below, how those rows
//! are read. Writer and reader of a row change in the same diff. Nothing here opens a socket or starts a task: it asks
//! for keys, and the store decides how.

mod cx;
mod error;

pub use cx::{Cx, IdentitySource, Resolution, system_now_us};
pub use error::{Error, Result};
