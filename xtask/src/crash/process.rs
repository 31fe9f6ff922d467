//! The program as a child: started, asked over its admin port, stopped, killed.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gp_synth::Network;

use crate::shell;

/// How often a wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Longest wait for one answer of the admin port.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What is run: always the same command line.
pub(super) struct Program {
    bin: PathBuf,
    arguments: Vec<String>,
    admin: SocketAddr,
    log: PathBuf,
}

impl Program {
    /// The program over a folder, following a network.
    pub(super) fn new(bin: &Path, data_dir: &Path, network: &Network, log: &Path) -> Result<Self> {
        let [listen, admin] = shell::free_addresses()?;
        let text = |path: &Path| path.display().to_string();
        let arguments: Vec<String> = [
            "serve",
            "--data-dir",
            &text(data_dir),
            "--listen",
            &listen.to_string(),
            "--admin-listen",
            &admin.to_string(),
            "--relay-url",
            &network.relay_url(),
            "--relay-start",
            "oldest",
            "--labeler-url",
            &network.labeler_url(),
            "--plc-url",
            &network.plc_url(),
            "--did-resolver-url",
            &network.plc_url(),
            "--handle-resolver-url",
            &network.handle_resolver_url(),
            "--allow-private-networks",
            "--exit-on-stdin-eof",
        ]
        .map(str::to_owned)
        .into();
        Ok(Self { bin: bin.to_owned(), arguments, admin, log: log.to_owned() })
    }

    /// The same over a store that is not in the folder.
    pub(super) fn storing_in(mut self, store: &str) -> Self {
        self.arguments.extend(["--store".to_owned(), store.to_owned()]);
        self
    }

    /// Starts it.
    pub(super) fn start(&self) -> Result<Process> {
        let log = || -> Result<File> {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.log)
                .with_context(|| format!("{}", self.log.display()))
        };
        let begun = Instant::now();
        let child = Command::new(&self.bin)
            .args(&self.arguments)
            // Its end is ours: should we die, the program sees the end of its input and stops.
            .stdin(Stdio::piped())
            .stdout(log()?)
            .stderr(log()?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.bin.display()))?;
        Ok(Process { child, begun, admin: self.admin, log: self.log.clone() })
    }
}

/// One life of the program. It is killed when dropped.
pub(super) struct Process {
    child: Child,
    begun: Instant,
    admin: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Waits until it says that it is ready; returns the time since its start.
    pub(super) fn wait_ready(&mut self, max: Duration) -> Result<Duration> {
        let admin = self.admin;
        self.wait("to be ready", max, |_| Ok(matches!(get(admin, "/readyz"), Ok((200, _)))))?;
        Ok(self.begun.elapsed())
    }

    /// Waits until everything up to an event is applied.
    pub(super) fn wait_seq(&mut self, seq: i64, max: Duration) -> Result<()> {
        self.wait("to read on", max, |process| Ok(process.seq()? >= seq))
    }

    /// Waits until everything is applied and nothing is left to do.
    pub(super) fn wait_settled(&mut self, head: i64, label_head: i64, max: Duration) -> Result<()> {
        self.wait("to settle", max, |process| {
            let status = process.status()?;
            Ok(number(&status["firehose"]["seq"])? >= head
                && number(&status["labelers"][0]["seq"])? >= label_head
                && number(&status["pending"])? == 0)
        })
    }

    /// The highest event up to which everything is applied.
    pub(super) fn seq(&self) -> Result<i64> {
        number(&self.status()?["firehose"]["seq"])
    }

    fn status(&self) -> Result<serde_json::Value> {
        let (code, body) = get(self.admin, "/status").context("the admin port does not answer")?;
        ensure!(code == 200, "/status answered {code}");
        Ok(serde_json::from_slice(&body)?)
    }

    /// Ends it as a power cut would, but for what the kernel still writes.
    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            // Told to stop, it may have been quicker than we are.
            ensure!(status.success(), "the program ended by itself ({status}): see {}", self.log.display());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM.
    pub(super) fn terminate(&self) -> Result<()> {
        self.signal("-TERM")
    }

    /// Stops it in its tracks, as a host does that is out of memory or being moved.
    pub(super) fn pause(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on.
    pub(super) fn wake(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, which: &str) -> Result<()> {
        let status = Command::new("kill").args([which, &self.child.id().to_string()]).status();
        let status = status.context("cannot run kill")?;
        ensure!(status.success(), "cannot send {which}: {status}");
        Ok(())
    }

    /// Waits until it ends by itself, which is not a success.
    pub(super) fn wait_end(&mut self, max: Duration) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < max {
            if let Some(status) = self.child.try_wait()? {
                ensure!(!status.success(), "the program ended as if all was well: see {}", self.log.display());
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("the program goes on after {} s: see {}", max.as_secs(), self.log.display())
    }

    /// Whether it says that it is ready.
    pub(super) fn is_ready(&self) -> bool {
        matches!(get(self.admin, "/readyz"), Ok((200, _)))
    }

    /// Sends SIGTERM and waits for the end, which must come in time and be a success; returns how long it took.
    pub(super) fn stop(mut self, max: Duration) -> Result<Duration> {
        let told = Instant::now();
        self.terminate()?;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(
                told.elapsed() <= max,
                "still running {} s after SIGTERM: see {}",
                max.as_secs(),
                self.log.display()
            );
            std::thread::sleep(LOOK_EVERY);
        };
        ensure!(ExitStatus::success(&status), "ended with {status} after SIGTERM: see {}", self.log.display());
        Ok(told.elapsed())
    }

    fn wait(&mut self, what: &str, max: Duration, reached: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the program ended by itself ({status}): see {}", self.log.display());
            }
            if reached(self)? {
                return Ok(());
            }
            if begun.elapsed() > max {
                let status = self.status().map(|status| status.to_string()).unwrap_or_default();
                bail!("waited {} s for the program {what}: see {}\n{status}", max.as_secs(), self.log.display());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(value: &serde_json::Value) -> Result<i64> {
    value.as_i64().with_context(|| format!("{value} is not a number"))
}

/// One answer of the admin port: status and body.
fn get(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").context("not HTTP")?;
    let code = std::str::from_utf8(&answer[..head])?.split(' ').nth(1).context("no status")?.parse()?;
    Ok((code, answer.split_off(head + 4)))
}
