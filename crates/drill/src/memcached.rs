//! A real memcached, for the twin to talk to.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::program;

const START_MAX: Duration = Duration::from_secs(5);
/// Values written before their answers are read.
const SETS_AT_A_TIME: usize = 500;

/// A memcached that goes when this goes.
#[derive(Debug)]
pub struct Memcached {
    shell: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Ends the program when our pipe closes, however we end.
const SUPERVISOR: &str = r#"
trap '' INT TERM HUP
"$@" </dev/null >/dev/null 2>&1 &
program=$!
cat >/dev/null
kill -TERM "$program" 2>/dev/null
wait "$program"
"#;

impl Memcached {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// There is none on this machine, or it does not start.
    pub async fn start() -> Result<Self> {
        let address = program::free_address()?;
        let bin = ["/usr/bin/memcached", "/usr/local/bin/memcached"].into_iter().find(|path| Path::new(path).exists());
        let bin = bin.context("no memcached on this machine: install the package memcached")?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SUPERVISOR, "supervisor", bin, "-l", "127.0.0.1", "-m", "128", "-U", "0", "-c", "8192"]);
        command.args(["-p", &address.port().to_string(), "-u", "nobody"]);
        let shell = command.stdin(Stdio::piped()).spawn().context("cannot start memcached")?;
        let memcached = Self { shell, address };
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            ensure!(begun.elapsed() < START_MAX, "memcached does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(memcached)
    }

    /// Stores values.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub async fn fill(&self, values: impl Iterator<Item = (String, Vec<u8>)>) -> Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        let mut values = values.peekable();
        let mut answers = vec![0; "STORED\r\n".len() * SETS_AT_A_TIME];
        while values.peek().is_some() {
            let (mut out, mut sets) = (Vec::new(), 0);
            for (key, value) in values.by_ref().take(SETS_AT_A_TIME) {
                out.extend_from_slice(format!("set {key} 0 0 {}\r\n", value.len()).as_bytes());
                out.extend_from_slice(&value);
                out.extend_from_slice(b"\r\n");
                sets += 1;
            }
            stream.write_all(&out).await?;
            let answers = &mut answers[..sets * "STORED\r\n".len()];
            stream.read_exact(answers).await.context("memcached did not store all values")?;
        }
        Ok(())
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
