//! Programs as child processes: started, watched through `/proc`, frozen, killed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{confine::MemoryBound, wire};

/// How long a program may take to be ready, and to stop.
const START_MAX: Duration = Duration::from_secs(90);
const STOP_MAX: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Clock ticks in a second, as Linux has shown them to programs since ever.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4_096;
/// Ports are taken from here: below those that systems give to outgoing connections, and below those of a drill.
const LISTEN_PORTS: std::ops::Range<u16> = 21_000..32_000;

/// An address of loopback where nobody listens, a different one each time.
///
/// # Errors
///
/// All ports are taken.
pub fn free_address() -> Result<SocketAddr> {
    use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = LISTEN_PORTS.end - LISTEN_PORTS.start;
    let first = (std::process::id() * 7 % u32::from(width)) as u16;
    for _ in 0..width {
        let at = NEXT.fetch_add(1, Relaxed);
        let port = LISTEN_PORTS.start + (first.wrapping_add(at)) % width;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port from {} to {}", LISTEN_PORTS.start, LISTEN_PORTS.end)
}

/// Sends a signal, by its name.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("/bin/kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Where log lines of a program go.
#[derive(Debug)]
pub enum Sink {
    /// Into a file.
    File(PathBuf),
    /// Into a pipe, at whose other end somebody reads who can be frozen.
    Pipe(LogReader),
}

/// Somebody who reads a pipe into a file, and can be stopped.
#[derive(Debug)]
pub struct LogReader {
    cat: Child,
    into: Option<ChildStdin>,
}

impl LogReader {
    /// Starts to read.
    ///
    /// # Errors
    ///
    /// `cat` cannot be started.
    pub fn start(file: &Path) -> Result<Self> {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(File::create(file)?).spawn()?;
        let into = cat.stdin.take();
        Ok(Self { cat, into })
    }

    /// Reads nothing from now on.
    pub fn freeze(&self) {
        signal(self.cat.id(), "STOP");
    }

    /// Reads on.
    pub fn thaw(&self) {
        signal(self.cat.id(), "CONT");
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.into = None;
        self.thaw();
        let _ = self.cat.kill();
        let _ = self.cat.wait();
    }
}

/// How a program is started.
#[derive(Debug, Default)]
pub struct Start<'a> {
    /// The program, and what it is told beside its addresses.
    pub bin: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// Where its log goes.
    pub log: Option<&'a Sink>,
    /// What bounds its memory.
    pub memory: Option<&'a MemoryBound>,
    /// Files that it may have open.
    pub files_max: Option<u64>,
    /// Environment.
    pub env: Vec<(&'static str, String)>,
}

/// A running program that listens. It goes when this goes.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    /// gRPC.
    pub listen: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
    /// How long it took from its start until it was ready.
    pub ready_after: Duration,
}

impl Program {
    /// Starts a program on addresses of its own and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It cannot be started, or it is not ready in time.
    pub async fn start(how: &Start<'_>) -> Result<Self> {
        Self::start_at(how, free_address()?, free_address()?).await
    }

    /// The same on given addresses, as one that comes back after its death.
    ///
    /// # Errors
    ///
    /// As [`Program::start`].
    pub async fn start_at(how: &Start<'_>, listen: SocketAddr, admin: SocketAddr) -> Result<Self> {
        let mut program = Self::spawn(how, listen, admin)?;
        program.until_ready().await?;
        Ok(program)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn spawn(how: &Start<'_>, listen: SocketAddr, admin: SocketAddr) -> Result<Self> {
        let mut script = String::new();
        if let Some(memory) = how.memory {
            script.push_str(&format!("echo $$ > {}; ", memory.procs().display()));
        }
        if let Some(files) = how.files_max {
            script.push_str(&format!("ulimit -n {files}; "));
        }
        script.push_str("exec \"$@\"");
        let mut command = Command::new("/bin/sh");
        command.args(["-ec", &script, "sh"]).arg(&how.bin).args(&how.args);
        command.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
        command.envs(how.env.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        match how.log {
            Some(Sink::File(file)) => {
                command.stderr(File::options().create(true).append(true).open(file)?);
            }
            Some(Sink::Pipe(reader)) => {
                let into = reader.into.as_ref().context("the reader of the log has gone")?;
                command.stderr(std::os::fd::AsFd::as_fd(into).try_clone_to_owned()?);
            }
            None => {
                command.stderr(Stdio::null());
            }
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", how.bin.display()))?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, listen, admin, ready_after: Duration::ZERO })
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// It ended, or it takes too long.
    pub async fn until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Ok((200, _)) = wire::get(self.admin, "/readyz").await {
                self.ready_after = begun.elapsed();
                return Ok(());
            }
            if let Some(ended) = self.child.try_wait()? {
                bail!("the program ended before it was ready: {ended}");
            }
            if begun.elapsed() > START_MAX {
                bail!("the program was not ready within {} s", START_MAX.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says something to its standard input, a line.
    pub fn tell(&mut self, line: &str) {
        use std::io::Write as _;
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        }
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Tells it to stop, and says how long that took; `None` if it had to be killed.
    pub async fn stop(&mut self) -> Option<Duration> {
        let begun = Instant::now();
        signal(self.pid(), "TERM");
        while begun.elapsed() < STOP_MAX {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return Some(begun.elapsed());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.kill();
        None
    }

    /// Stops it where it is.
    pub fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What the kernel says of it.
    pub fn vitals(&self) -> Vitals {
        Vitals::of(self.pid())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.thaw();
        drop(self.stdin.take());
        signal(self.pid(), "TERM");
        let begun = Instant::now();
        while begun.elapsed() < STOP_MAX {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill();
    }
}

/// What the kernel says of a process. What it does not say is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vitals {
    /// Bytes of memory, now and at most.
    pub rss_bytes: u64,
    /// The most it has held.
    pub rss_bytes_max: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub files: u64,
    /// Processor time, all threads, in seconds.
    pub cpu_seconds: f64,
}

impl Vitals {
    /// Reads them.
    pub fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name of the program may have spaces; what follows its bracket has none.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // Fields are numbered from 1 in the kernel's manual, and the first of these is the third.
        let number = |field: usize| fields.get(field - 3).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let most: u64 = most.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or(0);
        Self {
            rss_bytes: number(24) * PAGE_BYTES,
            rss_bytes_max: most * 1_024,
            threads: number(20),
            files: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64),
            cpu_seconds: (number(14) + number(15)) as f64 / TICKS_PER_SECOND,
        }
    }
}

/// States of TCP, as the kernel numbers them from 1.
const STATES: [&str; 11] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
];

/// Sockets that lead to a port, by state, in the namespace of this process.
pub fn sockets_to(port: u16) -> BTreeMap<&'static str, u64> {
    let mut found = BTreeMap::new();
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(2);
        let (Some(remote), Some(state)) = (fields.next(), fields.next()) else { continue };
        let is_it = remote.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port);
        let state = usize::from_str_radix(state, 16).ok().and_then(|at| STATES.get(at.wrapping_sub(1)));
        if let (true, Some(state)) = (is_it, state) {
            *found.entry(*state).or_default() += 1;
        }
    }
    found
}

/// The most of some figures while something lasted.
#[derive(Debug)]
pub struct Watch {
    stop: tokio_util::sync::CancellationToken,
    task: tokio::task::JoinHandle<Vitals>,
}

impl Watch {
    /// Looks at a process again and again.
    pub fn begin(pid: u32) -> Self {
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut most = Vitals::of(pid);
            while !stopped.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let now = Vitals::of(pid);
                most.rss_bytes = most.rss_bytes.max(now.rss_bytes);
                most.threads = most.threads.max(now.threads);
                most.files = most.files.max(now.files);
            }
            most
        });
        Self { stop, task }
    }

    /// The most that was seen.
    pub async fn end(self) -> Vitals {
        self.stop.cancel();
        self.task.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let vitals = Vitals::of(std::process::id());
        assert!(vitals.rss_bytes > 1 << 20 && vitals.rss_bytes_max >= vitals.rss_bytes, "{vitals:?}");
        assert!(vitals.threads >= 1 && vitals.files >= 3, "{vitals:?}");
        assert_eq!(Vitals::of(0), Vitals::default());
    }

    #[test]
    fn sockets_are_counted_by_the_port_they_lead_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _open: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        assert_eq!(sockets_to(port).get("ESTABLISHED"), Some(&3));
    }
}
