//! What the program says: answers on standard output, complaints and logs on standard error.
//!
//! A log line passes a gate that lets a few lines a second through, and waits in a bounded queue for a thread that does
//! nothing but write. A sink that is slow or stuck costs lines, never time and never memory, and every line is
//! accounted for: written, or suppressed and why.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use gp_serve::LogCounts;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::MakeWriter,
    layer::{Context, Layer, SubscriberExt},
    util::SubscriberInitExt,
};

/// Lines that may wait for the sink.
const LINES_WAITING_MAX: usize = 8_192;
/// Bytes of lines that may wait for the sink.
const BYTES_WAITING_MAX: usize = 8 << 20;
/// Bytes of one line; what is longer is cut.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How long the end of the program waits for the lines that wait.
const LAST_LINES_MAX: Duration = Duration::from_millis(500);

/// Prints an answer. A reader that has gone is no reason to fail.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints a complaint.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Logging as it was started. Dropped, it gives the lines that wait a moment to be written.
pub(crate) struct Log {
    /// Counts of lines, for `/metrics`.
    pub(crate) counts: Arc<LogCounts>,
    queue: Queue,
    ended: Receiver<()>,
}

impl Drop for Log {
    fn drop(&mut self) {
        // A queue that is full has no room for the end; then there is nothing to wait for.
        if self.queue.lines.try_send(None).is_ok() {
            let _ = self.ended.recv_timeout(LAST_LINES_MAX);
        }
    }
}

/// Starts logging to standard error.
pub(crate) fn start(filter: &str) -> Log {
    let log = start_to(io::stderr());
    // The cluster's driver tells every attempt on its own; what comes of them is told by the store. Whoever wants it
    // names it in the filter.
    let driver = if filter.contains("scylla") { "" } else { ",scylla=off" };
    let filter = EnvFilter::try_new(format!("{filter}{driver}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let gate = Gate { counts: Arc::clone(&log.counts), began: Instant::now() };
    let lines = tracing_subscriber::fmt::layer().with_writer(log.queue.clone()).with_ansi(false).with_target(true);
    // A second start in one process, as in tests, keeps the first sink.
    let _ = tracing_subscriber::registry().with(lines).with(gate).with(filter).try_init();
    log
}

fn start_to(mut sink: impl Write + Send + 'static) -> Log {
    let counts = Arc::new(LogCounts::default());
    let (lines, taken) = sync_channel::<Option<Box<[u8]>>>(LINES_WAITING_MAX);
    let queue = Queue { lines, bytes: Arc::default(), counts: Arc::clone(&counts) };
    let (end, ended) = sync_channel(1);
    let (bytes, counted) = (Arc::clone(&queue.bytes), Arc::clone(&counts));
    let writes = std::thread::Builder::new().name("log".into()).spawn(move || {
        while let Ok(Some(line)) = taken.recv() {
            match sink.write_all(&line).and_then(|()| sink.flush()) {
                Ok(()) => counted.written(),
                Err(_) => counted.sink_failed(),
            }
            bytes.fetch_sub(line.len(), Relaxed);
        }
        let _ = end.send(());
    });
    if let Err(e) = writes {
        complain(&format!("groundplane: nothing will be logged: no thread could be started for it: {e}"));
    }
    Log { counts, queue, ended }
}

/// Lets a few lines a second through, before anything of them is formatted.
struct Gate {
    counts: Arc<LogCounts>,
    began: Instant,
}

impl<S: Subscriber> Layer<S> for Gate {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let line = event.metadata();
        let second = u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.counts.admits(*line.level(), line.target(), std::ptr::from_ref(line).addr(), second)
    }
}

/// The way to the thread that writes.
#[derive(Clone)]
struct Queue {
    lines: SyncSender<Option<Box<[u8]>>>,
    bytes: Arc<AtomicUsize>,
    counts: Arc<LogCounts>,
}

impl Queue {
    fn take(&self, line: &[u8]) {
        self.counts.waits();
        let line = if line.len() > LINE_BYTES_MAX { cut(line) } else { line.into() };
        let bytes = line.len();
        if self.bytes.fetch_add(bytes, Relaxed) + bytes <= BYTES_WAITING_MAX {
            match self.lines.try_send(Some(line)) {
                Ok(()) => return,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        self.bytes.fetch_sub(bytes, Relaxed);
        self.counts.buffer_full();
    }
}

/// The beginning of a line that is too long.
fn cut(line: &[u8]) -> Box<[u8]> {
    let end = b"... (cut)\n";
    [&line[..LINE_BYTES_MAX - end.len()], end].concat().into()
}

/// The formatter hands over a line whole.
struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A sink that takes nothing until it is let go, and then fails for every tenth line.
    #[derive(Clone, Default)]
    struct Stuck(Arc<(Mutex<(bool, u64)>, Condvar)>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.1.wait_while(self.0.0.lock().unwrap(), |(open, _)| !*open).unwrap();
            state.1 += 1;
            if state.1.is_multiple_of(10) { Err(io::Error::other("a planted failure")) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn suppressed(counts: &LogCounts, reason: &str) -> u64 {
        counts.suppressed().find(|(of, _)| *of == reason).unwrap().1
    }

    #[test]
    fn a_stuck_sink_costs_lines_and_every_line_is_accounted_for() {
        let sink = Stuck::default();
        let log = start_to(sink.clone());
        let (threads, lines) = (8, 5_000u64);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..lines).for_each(|_| Line(&log.queue).write_all(&[b'x'; 700]).unwrap()));
            }
        });
        let all = threads * lines;
        let full = suppressed(&log.counts, "buffer_full");
        assert_eq!(log.counts.waiting() + full, all, "nothing was written");
        assert!(log.counts.waiting() <= LINES_WAITING_MAX as u64 + 1, "{}", log.counts.waiting());
        assert!(log.queue.bytes.load(Relaxed) <= BYTES_WAITING_MAX);
        sink.0.0.lock().unwrap().0 = true;
        sink.0.1.notify_all();
        let begun = Instant::now();
        while log.counts.waiting() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
        let failed = suppressed(&log.counts, "sink_error");
        assert!(failed > 0);
        assert_eq!(log.counts.written_total() + full + failed, all);
        assert_eq!(log.queue.bytes.load(Relaxed), 0);
    }

    #[test]
    fn a_storm_of_one_place_writes_five_lines_a_second() {
        let log = start_to(io::sink());
        let began = Instant::now();
        let gate = Gate { counts: Arc::clone(&log.counts), began };
        let lines = tracing_subscriber::fmt::layer().with_writer(log.queue.clone());
        let subscriber = tracing_subscriber::registry().with(lines).with(gate).with(EnvFilter::new("info"));
        let storm = 20_000u64;
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..storm {
                tracing::error!(n, "a planted error");
                tracing::debug!(n, "filtered, and so no line at all");
            }
        });
        // Those that the storm may have touched.
        let seconds = began.elapsed().as_secs() + 1;
        let begun = Instant::now();
        while log.counts.waiting() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
        let counts = &log.counts;
        assert_eq!(counts.events_total(), storm);
        assert_eq!(counts.written_total() + suppressed(counts, "rate"), storm);
        let written = counts.written_total();
        assert!(written >= 5 && written <= seconds * u64::from(gp_serve::LINES_PER_SECOND_OF_ONE), "{written}");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let line = cut(&[b'x'; 100_000]);
        assert_eq!(line.len(), LINE_BYTES_MAX);
        assert!(line.ends_with(b"(cut)\n"));
    }
}
