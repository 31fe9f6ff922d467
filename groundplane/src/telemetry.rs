//! What the program says: answers on standard output, complaints and logs on standard error.
//!
//! Logs go through a bounded, lossy queue: a sink that is slow or stuck costs lines, never time.

use std::io::Write;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Lines that may wait for the sink.
const LINES_WAITING_MAX: usize = 8_192;

/// Prints an answer. A reader that has gone is no reason to fail.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a complaint.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Starts logging. The guard flushes what waits when it is dropped.
pub(crate) fn start(filter: &str) -> WorkerGuard {
    let (sink, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING_MAX).finish(std::io::stderr());
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(sink).with_ansi(false).with_target(true);
    // A second start in one process, as in tests, keeps the first sink.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    guard
}
