//! What is measured, and the page that shows it.
//!
//! All names stand in the [`catalog`]. Figures about calls are kept in [`Calls`], in arrays by position ([`cells`]), and
//! figures that others keep (the store, admission, the process, its sockets) are asked for when the page is made
//! ([`live`]). Labels come from closed sets, and the number of series has a bound, so that no caller can make the page
//! grow.

mod calls;
pub mod catalog;
mod cells;
mod live;
mod page;
mod process;
mod sockets;
mod stall;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::Registry,
};

pub use self::page::Page;
pub use self::process::memory_limit_bytes;
pub use self::sockets::Peer;
pub(crate) use self::{
    calls::{Calls, Ended, Stage, Totals},
    live::Live,
    process::Process,
    sockets::{Sockets, ephemeral_ports},
    stall::{BEAT, Pulse},
};
use crate::{LogCounts, Rpcs};

/// A part of the process that has figures of its own.
pub trait Source: Send + Sync {
    /// Writes the figures to the page.
    ///
    /// # Errors
    ///
    /// The page cannot be written to.
    fn show(&self, page: &mut Page<'_>) -> fmt::Result;
}

/// A source, as the library that writes the format wants it.
struct Shown(Arc<dyn Source>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl Collector for Shown {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.show(&mut Page::new(encoder))
    }
}

/// All figures of the process. Other parts add theirs with [`Metrics::add`].
#[derive(Debug)]
pub struct Metrics {
    pub(crate) calls: Arc<Calls>,
    logs: Arc<LogCounts>,
    registry: Mutex<Registry>,
    /// Whose page is being put together.
    rendering: Arc<tokio::sync::Mutex<()>>,
}

impl Metrics {
    pub(crate) fn new(rpcs: &Rpcs, callers: &[String], now_us: fn() -> i64, logs: Arc<LogCounts>) -> Self {
        let calls = Arc::new(Calls::new(rpcs, callers, now_us));
        let metrics = Self { calls: Arc::clone(&calls), logs, registry: Mutex::default(), rendering: Arc::default() };
        metrics.add(calls);
        metrics
    }

    /// Counts of log lines, for the layer that writes them.
    pub fn logs(&self) -> Arc<LogCounts> {
        Arc::clone(&self.logs)
    }

    /// Adds figures of another part.
    pub fn add(&self, source: Arc<dyn Source>) {
        self.registry.lock().register_collector(Box::new(Shown(source)));
    }

    /// The page, in the OpenMetrics text format. Maxima that two scrapes have seen start over.
    pub fn render(&self) -> String {
        let mut page = String::with_capacity(64 << 10);
        if text::encode(&mut page, &self.registry.lock()).is_err() {
            // Writing to a string cannot fail, so a source gave up: what it wrote stands, and the end mark is missing.
            tracing::error!("a part could not show its figures");
        }
        page
    }

    /// [`Metrics::render`] beside the threads that answer calls: it takes some milliseconds, for which they would wait. One
    /// at a time, however many ask. `None` if it ended in a panic, which has been shown.
    pub(crate) async fn render_aside(self: &Arc<Self>) -> Option<String> {
        let turn = Arc::clone(&self.rendering).lock_owned().await;
        let this = Arc::clone(self);
        // The turn goes along: it lasts as long as the work, also when whoever asked has gone.
        let render = move || {
            let page = this.render();
            drop(turn);
            page
        };
        tokio::task::spawn_blocking(render).await.ok()
    }
}
