//! The threads that calls are answered on.

use std::{io, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// Sockets and timers are looked at after so many pieces of work of a thread, or as soon as it has no other work. More
/// often is not better: a long list that has yielded goes on after each look, in front of what the look has found.
const PIECES_BETWEEN_LOOKS: u32 = 31;

/// Threads that may block are kept for so long without work: a moment of load is the worst one to make new threads in. As
/// many are made as ever had work at once, and each kind of it has its bound: visits to the store, one page of figures.
const READERS_KEPT: Duration = Duration::from_secs(3_600);

/// A runtime with a thread for each processor.
///
/// # Errors
///
/// The threads cannot be started.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .event_interval(PIECES_BETWEEN_LOOKS)
        .thread_keep_alive(READERS_KEPT)
        .build()
}
