//! `cargo xtask transport`: the wire itself, spoken by the client library that the AppView uses.
//!
//! The program shows its demo, a small network of its own, and `e2e/transport.mjs` calls it over both versions of HTTP.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{node::Node, shell, test};

/// Accounts of the demo's network. The checks ask for what is not there.
const ACCOUNTS: &str = "30";

/// Longest wait for the program to listen.
const LISTENS_MAX: Duration = Duration::from_secs(60);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs all checks over both versions of HTTP, and answers how many passed and failed.
pub(crate) fn run() -> Result<(u64, u64)> {
    let node = Node::install()?;
    let [listen, admin] = shell::free_addresses()?;
    let _demo = Demo::start(&shell::build_groundplane(false)?, listen, admin)?;
    let mut command = Command::new(&node.bin);
    command.current_dir(&node.home).args(["transport.mjs", "--url", &format!("http://{listen}")]);
    let (passed, failed, ok) = test::counted(&mut command, |line| {
        let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
        Some((passed.parse().ok()?, failed.parse().ok()?))
    })?;
    if !ok && failed == 0 {
        bail!("transport.mjs ended before it could count; see above");
    }
    Ok((passed, failed))
}

/// The program, showing its demo. It is ended when dropped.
struct Demo(Child);

impl Demo {
    fn start(bin: &Path, listen: SocketAddr, admin: SocketAddr) -> Result<Self> {
        let mut child = Command::new(bin)
            .args(["demo", "--accounts", ACCOUNTS, "--live-rate", "1"])
            .args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", bin.display()))?;
        let end = Instant::now() + LISTENS_MAX;
        while TcpStream::connect(listen).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the demo ended with {status} before it listened");
            }
            if Instant::now() > end {
                let _ = child.kill();
                bail!("the demo does not listen on {listen} after {LISTENS_MAX:?}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Self(child))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
