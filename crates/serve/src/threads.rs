//! The threads that calls are answered on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Sockets and timers are looked at after so many pieces of work of a thread. A piece of a long list takes half a
/// millisecond: with the 61 of the default, small calls waited 30 ms before anybody saw that they had come.
const PIECES_BETWEEN_LOOKS: u32 = 4;

/// A runtime with a thread for each processor.
///
/// # Errors
///
/// The threads cannot be started.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().event_interval(PIECES_BETWEEN_LOOKS).build()
}
