//! A private Postgres cluster for the tests, from Debian's package: bsync keeps its logs in one, and the reference
//! data plane everything.
//!
//! The server runs under a shell that ends it when our end of a pipe closes. So it goes when we go, however we go, and
//! nothing here needs to catch signals.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long the server may take from its start to the first connection.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to stop before it is left to the shell above it.
const STOP_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// Ends the server once standard input closes, and removes its folder. `$0` is the folder, the rest the server's
/// command line. A terminal's Ctrl-C must not get here before the tests have let go of the server.
const SUPERVISOR: &str = r#"
trap '' INT TERM HUP
"$@" </dev/null &
server=$!
cat >/dev/null
kill -INT "$server"
wait "$server"
rm -rf "$0"
"#;

/// A running cluster. Dropping it stops the server and removes its data.
pub(crate) struct Postgres {
    supervisor: Child,
    port: u16,
}

impl Postgres {
    /// Installs Postgres if there is none, makes a cluster in the temp folder, and starts it on a free loopback port.
    ///
    /// Durability is off: nothing in it outlives the run.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with the settings that its manual proposes for a server of its own with some gigabytes of memory, so that
    /// whoever is compared with it is compared with it at its best.
    pub(crate) fn start_tuned() -> Result<Self> {
        Self::start_with(&[
            "shared_buffers=1GB",
            "effective_cache_size=6GB",
            "work_mem=64MB",
            "maintenance_work_mem=512MB",
            "max_wal_size=8GB",
            "wal_level=minimal",
            "max_wal_senders=0",
            "checkpoint_timeout=30min",
            "random_page_cost=1.1",
            "effective_io_concurrency=200",
            "autovacuum=off",
        ])
    }

    fn start_with(settings: &[&str]) -> Result<Self> {
        let bin = installed()?;
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("groundplane-postgres-{}-{port}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Postgres refuses to run as root; Debian's package brings a user for it.
        let user = if is_root()? { Some(user_of("postgres")?) } else { None };
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).with_context(|| format!("cannot give {} away", folder.display()))?;
        }
        let as_user = |program: &Path| {
            let mut command = Command::new(program);
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.current_dir(&folder);
            command
        };

        let data = folder.join("data");
        let made = as_user(&bin.join("initdb"))
            .arg("--pgdata")
            .arg(&data)
            .args(["--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .stdin(Stdio::null())
            .output()
            .context("cannot start initdb")?;
        if !made.status.success() {
            bail!("initdb ended with {}: {}", made.status, String::from_utf8_lossy(&made.stderr).trim());
        }

        let log = fs::File::create(folder.join("log"))?;
        let supervisor = as_user(Path::new("/bin/sh"))
            .arg("-c")
            .arg(SUPERVISOR)
            .arg(&folder)
            .arg(bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own, so that a Ctrl-C at the terminal does not reach the server.
            .process_group(0)
            .spawn()
            .context("cannot start Postgres")?;
        let cluster = Self { supervisor, port };
        cluster.wait_until_ready(&bin, &folder)?;
        Ok(cluster)
    }

    /// Where to connect, as its superuser, without a password.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn wait_until_ready(&self, bin: &Path, folder: &Path) -> Result<()> {
        let begun = Instant::now();
        loop {
            let ready = Command::new(bin.join("pg_isready"))
                .args(["--quiet", "--host", "127.0.0.1", "--port", &self.port.to_string()])
                .stdin(Stdio::null())
                .status()
                .context("cannot start pg_isready")?;
            if ready.success() {
                return Ok(());
            }
            if begun.elapsed() > START_LIMIT {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                bail!("Postgres was not ready within {} s:\n{log}", START_LIMIT.as_secs());
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let begun = Instant::now();
        while matches!(self.supervisor.try_wait(), Ok(None)) {
            if begun.elapsed() > STOP_LIMIT {
                eprintln!("Postgres takes its time to stop; its shell, process {}, sees to it", self.supervisor.id());
                return;
            }
            thread::sleep(POLL);
        }
    }
}

/// The folder of the newest installed server's programs, after an installation if there is none.
fn installed() -> Result<PathBuf> {
    if let Some(bin) = newest_bin()? {
        return Ok(bin);
    }
    apt_install(&["postgresql"])?;
    newest_bin()?.context("Debian's postgresql is installed, and yet /usr/lib/postgresql/*/bin has no initdb")
}

fn newest_bin() -> Result<Option<PathBuf>> {
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else { return Ok(None) };
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for version in versions {
        let version = version?;
        let bin = version.path().join("bin");
        if bin.join("initdb").exists() && bin.join("postgres").exists() {
            found.push((version.file_name().to_string_lossy().parse().unwrap_or(0), bin));
        }
    }
    Ok(found.into_iter().max().map(|(_, bin)| bin))
}

/// Installs Debian packages. Needs root: otherwise it says what to install.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    if !is_root()? {
        bail!("missing: run `sudo apt-get install {}` and try again", packages.join(" "));
    }
    eprintln!("installing {}", packages.join(" "));
    for arguments in [vec!["update"], [&["install", "--yes", "--no-install-recommends"], packages].concat()] {
        let done = Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("--quiet")
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot start apt-get")?;
        if !done.success() {
            bail!("apt-get {} ended with {done}", arguments.join(" "));
        }
    }
    Ok(())
}

pub(crate) fn is_root() -> Result<bool> {
    Ok(id(&["-u"])? == 0)
}

fn user_of(name: &str) -> Result<(u32, u32)> {
    Ok((id(&["-u", name])?, id(&["-g", name])?))
}

fn id(arguments: &[&str]) -> Result<u32> {
    let answer = Command::new("id").args(arguments).output().context("cannot start id")?;
    let text = String::from_utf8_lossy(&answer.stdout);
    text.trim().parse().with_context(|| format!("id {} answered {text:?}", arguments.join(" ")))
}

/// A loopback port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on loopback")?;
    Ok(listener.local_addr()?.port())
}
