//! A real memcached for the tests, from Debian's package, on a port of its own, as an ordinary user.
//!
//! The server runs under a shell that ends it when our end of a pipe closes. So it goes when we go, however we go.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{postgres, shell};

/// The environment variable by which the program is told of it.
pub(crate) const NODES_VARIABLE: &str = "GROUNDPLANE_MEMCACHED";

const BINARY: &str = "/usr/bin/memcached";
/// How long it may take from its start to the first answer.
const START_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// Says the server's number, and ends it once standard input closes. A terminal's Ctrl-C must not get here first.
const SUPERVISOR: &str = r#"
trap '' INT TERM HUP
"$@" </dev/null >/dev/null 2>&1 &
server=$!
echo "$server"
cat >/dev/null
kill -KILL "$server" 2>/dev/null
wait "$server" 2>/dev/null
"#;

/// A running server. Dropping it ends it.
pub(crate) struct Memcached {
    pub(crate) address: SocketAddr,
    running: Option<(Child, u32)>,
}

impl Memcached {
    /// Installs memcached if there is none, and starts it.
    pub(crate) fn start() -> Result<Self> {
        if !std::path::Path::new(BINARY).exists() {
            postgres::apt_install(&["memcached"])?;
        }
        let mut server = Self { address: shell::free_addresses()?[0], running: None };
        server.restart()?;
        Ok(server)
    }

    /// Starts it again, empty, at the same address.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SUPERVISOR, "sh", BINARY, "-l", "127.0.0.1", "-U", "0", "-m", "256", "-t", "2"]);
        command.args(["-p", &self.address.port().to_string()]);
        if postgres::is_root()? {
            command.args(["-u", "nobody"]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start memcached")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the shell has no output")?).read_line(&mut line)?;
        let pid = line.trim().parse().with_context(|| format!("the shell said {line:?}"))?;
        self.running = Some((child, pid));
        let begun = Instant::now();
        while self.say("version\r\n", "\r\n").is_err() {
            if begun.elapsed() > START_LIMIT {
                bail!("memcached did not answer at {} within {} s", self.address, START_LIMIT.as_secs());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Kills it, as power would.
    pub(crate) fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    /// Sends it a signal by name: STOP, CONT.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let (_, pid) = self.running.as_ref().context("memcached is not running")?;
        let done = Command::new("/bin/kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
        if !done.success() {
            bail!("kill -{name} {pid} ended with {done}");
        }
        Ok(())
    }

    /// Says something to it and reads until its answer ends as told.
    pub(crate) fn say(&self, question: &str, end: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(question.as_bytes())?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 64 << 10]);
        while !answer.ends_with(end.as_bytes()) {
            match stream.read(&mut buffer)? {
                0 => bail!("memcached closed the connection after {} bytes", answer.len()),
                n => answer.extend_from_slice(&buffer[..n]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// What the store's keys there hold, as it came.
    pub(crate) fn values(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let names: Vec<String> = self.items()?.into_iter().map(|(name, _)| name).collect();
        let mut values = BTreeMap::new();
        let mut stream = BufReader::new(TcpStream::connect(self.address)?);
        stream.get_ref().set_read_timeout(Some(Duration::from_secs(5)))?;
        for name in names {
            stream.get_mut().write_all(format!("get {name}\r\n").as_bytes())?;
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some(length) = line.trim().rsplit(' ').next().and_then(|it| it.parse::<usize>().ok()) else { continue };
            let mut value = vec![0; length];
            stream.read_exact(&mut value)?;
            let mut rest = [0; 7];
            stream.read_exact(&mut rest)?;
            values.insert(name, value);
        }
        Ok(values)
    }

    /// Puts a value past everybody, for an hour.
    pub(crate) fn put(&self, name: &str, value: &[u8]) -> Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&[format!("set {name} 0 3600 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat())?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        if &answer != b"STORED\r\n" {
            bail!("memcached did not take {name}");
        }
        Ok(())
    }

    /// Names of the store's keys there, and how many seconds each has to live.
    pub(crate) fn items(&self) -> Result<Vec<(String, i64)>> {
        let now = std::time::UNIX_EPOCH.elapsed()?.as_secs() as i64;
        let dump = self.say("lru_crawler metadump all\r\n", "END\r\n")?;
        let item = |line: &str| {
            let mut words = line.split(' ');
            let key = words.next()?.strip_prefix("key=")?.replace("%3A", ":");
            let expires: i64 = words.next()?.strip_prefix("exp=")?.parse().ok()?;
            (key.starts_with('g') && !key.starts_with("gp:")).then_some((key, expires - now))
        };
        Ok(dump.lines().filter_map(item).collect())
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.kill();
    }
}
