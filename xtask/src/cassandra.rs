//! `cargo xtask cassandra up|down`: Apache Cassandra from Maven Central, as one node or three on loopback, for the tests
//! of the engine `cql`.
//!
//! `cassandra/pom.xml` names the version and `cassandra/jars.sha256` every file that comes of it. Nothing is installed
//! outside `target/cassandra` but Debian's OpenJDK and Maven where they are missing. A node takes about 900 MB of memory
//! and a third of a minute to start.

mod certificates;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{postgres::apt_install, shell};

/// The environment variable by which the program is told where rows are kept.
pub(crate) const STORE_VARIABLE: &str = "GROUNDPLANE_STORE";

/// The environment variable by which tests are told of a cluster: `host:port,host:port`.
const TEST_VARIABLE: &str = "GROUNDPLANE_TEST_CQL";

/// The environment variable by which tests are told how many rows the widest partition gets.
const WIDE_VARIABLE: &str = "GROUNDPLANE_TEST_WIDE_ROWS";

/// Tests of a cluster that asks for a password and speaks TLS only.
const SECURED_TESTS: &str = "secured::";

/// The environment variable by which those are told where its certificates are.
const CERTIFICATES_VARIABLE: &str = "GROUNDPLANE_TEST_CERTIFICATES";

/// How long one node may take to start. On two cores that others use as well it takes half a minute.
const START_MAX: Duration = Duration::from_secs(240);
/// How long a node may take to stop; it writes its memtables to files first.
const STOP_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Memory of a node's heap.
const HEAP: &str = "512M";
/// Token ranges of a node.
const TOKENS: u128 = 4;
/// Where ports are looked for: below those of outgoing connections.
const PORTS: std::ops::Range<u16> = 17_000..21_000;

/// A request of CQL's protocol that every node answers before anybody logs in: OPTIONS, version 4.
const CQL_OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];
/// The answer to it: SUPPORTED.
const CQL_SUPPORTED: u8 = 6;

/// What `cargo xtask cassandra` can be told.
#[derive(Subcommand, Clone, Copy)]
pub(crate) enum What {
    /// Start a cluster, wait until it answers, and leave it running.
    Up {
        /// 1, or 3 on 127.0.0.1 to 127.0.0.3.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
        nodes: u8,
        /// Ask for a name and a password, both "cassandra", and speak nothing but TLS: see target/cassandra/secured. It may
        /// run beside one that asks for nothing.
        #[arg(long)]
        secured: bool,
    },
    /// Stop what runs and remove its data.
    Down,
}

pub(crate) fn run(what: What) -> Result<()> {
    match what {
        What::Up { nodes, secured } => {
            if let Some(cluster) = Running::find(secured)? {
                bail!(
                    "{} nodes run already at {}: stop them with `cargo xtask cassandra down`",
                    cluster.pids.len(),
                    cluster.hosts()
                );
            }
            let cluster = Running::start(nodes, secured)?;
            println!("{TEST_VARIABLE}={}", cluster.hosts());
            println!("serve on it: --store cql://{}/groundplane?create={nodes}", cluster.hosts());
            if secured {
                println!("{CERTIFICATES_VARIABLE}={}", cluster.certificates().display());
                println!(
                    "--store-user cassandra --store-password cassandra, --store-ca ca.pem, --store-cert plane.pem,"
                );
                println!("--store-key plane.key, all from there");
            }
            Ok(())
        }
        What::Down => {
            let running: Vec<Running> = [Running::find(false)?, Running::find(true)?].into_iter().flatten().collect();
            if running.is_empty() {
                println!("no cluster runs");
            }
            running.iter().try_for_each(Running::stop)
        }
    }
}

/// Where a task's data plane keeps its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// In a folder.
    #[default]
    Embedded,
    /// In a cluster: the one that runs, or one node that goes with the task.
    Cql,
}

impl Engine {
    /// The cluster, for an engine that needs one.
    pub(crate) fn cluster(self) -> Result<Option<Cluster>> {
        match self {
            Self::Embedded => Ok(None),
            Self::Cql => Cluster::have(1).map(Some),
        }
    }
}

/// A cluster for the time of a task: the one that runs already, or one that goes with this value.
pub(crate) struct Cluster {
    running: Running,
    ours: bool,
}

impl Cluster {
    /// Takes the cluster that `cargo xtask cassandra up` has left, or starts one of so many nodes.
    pub(crate) fn have(nodes: u8) -> Result<Self> {
        Self::of(nodes, false)
    }

    /// The same of one that is [secured](What::Up).
    fn secured() -> Result<Self> {
        Self::of(1, true)
    }

    fn of(nodes: u8, secured: bool) -> Result<Self> {
        match Running::find(secured)? {
            Some(running) => Ok(Self { running, ours: false }),
            None => Ok(Self { running: Running::start(nodes, secured)?, ours: true }),
        }
    }

    /// Its contact points: `host:port,host:port`.
    pub(crate) fn hosts(&self) -> String {
        self.running.hosts()
    }

    /// Where each node listens.
    pub(crate) fn nodes(&self) -> Vec<SocketAddr> {
        (1..=self.running.pids.len() as u8).map(|n| SocketAddr::from(([127, 0, 0, n], self.running.port))).collect()
    }

    /// Sends a node, counted from 0, a signal: -STOP, -CONT.
    pub(crate) fn signal(&self, node: usize, which: &str) -> Result<()> {
        signal(which, *self.running.pids.get(node).context("there is no such node")?)
    }

    /// An address for `--store`, with a keyspace of its own that is kept as often as there are nodes.
    pub(crate) fn store(&self, purpose: &str) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        format!("cql://{}/{purpose}_{now}?create={}&read_deadline_ms=10000", self.hosts(), self.running.pids.len())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.ours
            && let Err(e) = self.running.stop()
        {
            eprintln!("the cluster was not stopped: {e:#}");
        }
    }
}

/// Nodes that run.
struct Running {
    /// The process of each node; node n is on 127.0.0.n.
    pids: Vec<u32>,
    port: u16,
    secured: bool,
}

impl Running {
    /// The cluster that was started last, if all of it runs.
    fn find(secured: bool) -> Result<Option<Self>> {
        let note = home_of(secured).join("cluster.json");
        let Ok(text) = fs::read(&note) else { return Ok(None) };
        let noted: Value =
            serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", note.display()))?;
        let pids: Vec<u32> = noted["pids"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|pid| u32::try_from(pid.as_u64()?).ok())
            .collect();
        let port = noted["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        let running = Self { pids, port, secured };
        let alive = running.pids.iter().filter(|pid| is_node(**pid)).count();
        if alive == 0 {
            return Ok(None);
        }
        ensure!(
            alive == running.pids.len(),
            "{alive} of {} nodes run; see {}. Stop them one by one (kill), then try again",
            running.pids.len(),
            home_of(secured).display()
        );
        Ok(Some(running))
    }

    fn hosts(&self) -> String {
        let hosts: Vec<String> = (1..=self.pids.len()).map(|n| format!("127.0.0.{n}:{}", self.port)).collect();
        hosts.join(",")
    }

    /// Starts nodes over empty folders, the first one first: the others ask it who else is there.
    fn start(nodes: u8, secured: bool) -> Result<Self> {
        let (java, lib) = (java()?, jars()?);
        let [port, storage, ssl] = free_ports(nodes)?;
        let mut running = Self { pids: Vec::new(), port, secured };
        let started = running.start_nodes(&java, &lib, nodes, [storage, ssl]);
        if started.is_err() {
            // The logs stay, for whoever reads the error.
            running.end_processes()?;
        }
        started.map(|()| running)
    }

    fn start_nodes(&mut self, java: &Path, lib: &Path, nodes: u8, [storage, ssl]: [u16; 2]) -> Result<()> {
        let (begun, port) = (Instant::now(), self.port);
        let signer = if self.secured { Some(certificates::make(&self.certificates())?) } else { None };
        for n in 1..=nodes {
            let home = self.home(n);
            if home.exists() {
                fs::remove_dir_all(&home).with_context(|| format!("{} cannot be removed", home.display()))?;
            }
            for part in ["data", "commitlog", "hints", "caches"] {
                fs::create_dir_all(home.join(part))?;
            }
            let mut text = include_str!("../cassandra/cassandra.yaml").to_owned();
            if let Some(signer) = &signer {
                let own = home.join("node.pem");
                signer.node(&own, &format!("127.0.0.{n}"))?;
                text.push_str(
                    &include_str!("../cassandra/tls.yaml")
                        .replace("OWN", &own.display().to_string())
                        .replace("TRUSTED", &self.certificates().join("ca.pem").display().to_string()),
                );
            }
            let yaml = text
                .replace("AUTHENTICATOR", if self.secured { "PasswordAuthenticator" } else { "AllowAllAuthenticator" })
                .replace("TOKENS", &tokens(n, nodes))
                .replace("FOLDER", &home.display().to_string())
                .replace("STORAGE_PORT", &storage.to_string())
                .replace("SSL_PORT", &ssl.to_string())
                .replace("CQL_PORT", &port.to_string())
                .replace("HOST", &format!("127.0.0.{n}"));
            fs::write(home.join("cassandra.yaml"), yaml)?;
            self.pids.push(node(java, lib, &home)?);
            self.note()?;
            // The first answers before the others ask it; those come up side by side.
            if n == 1 {
                self.wait_for(1, begun)?;
            }
        }
        for n in 2..=nodes {
            self.wait_for(n, begun)?;
        }
        self.wait_until_all_see_all(begun)?;
        println!(
            "{nodes} node{} ready after {:.0} s",
            if nodes == 1 { "" } else { "s" },
            begun.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn note(&self) -> Result<()> {
        let noted = json!({ "pids": self.pids, "port": self.port });
        fs::write(home_of(self.secured).join("cluster.json"), noted.to_string())
            .context("target/cassandra cannot be written")
    }

    fn home(&self, n: u8) -> PathBuf {
        home_of(self.secured).join(format!("node-{n}"))
    }

    /// Where the certificates of one that is secured are.
    fn certificates(&self) -> PathBuf {
        home_of(self.secured).join("certificates")
    }

    fn wait_for(&self, n: u8, begun: Instant) -> Result<()> {
        let address: SocketAddr = format!("127.0.0.{n}:{}", self.port).parse()?;
        let secured = self.secured;
        self.wait(n, begun, "answer CQL", || answers(address, secured))
    }

    fn wait_until_all_see_all(&self, begun: Instant) -> Result<()> {
        let others = self.pids.len() - 1;
        for n in 1..=u8::try_from(self.pids.len())? {
            let log = self.home(n).join("log");
            self.wait(n, begun, "see the other nodes", || {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let up: BTreeSet<&str> =
                    said.lines().filter_map(|line| line.strip_suffix(" is now UP")?.rsplit(' ').next()).collect();
                up.len() >= others
            })?;
        }
        Ok(())
    }

    fn wait(&self, n: u8, begun: Instant, what: &str, there: impl Fn() -> bool) -> Result<()> {
        let (pid, log) = (self.pids[usize::from(n) - 1], self.home(n).join("log"));
        let mut told = Instant::now();
        while !there() {
            // A process that was started a moment ago may not have its own arguments yet.
            std::thread::sleep(LOOK_EVERY);
            if !is_node(pid) {
                bail!("node {n} ended:\n{}", last_lines(&log));
            }
            if begun.elapsed() > START_MAX * u32::try_from(self.pids.len())? {
                bail!("node {n} did not {what} within {} s:\n{}", begun.elapsed().as_secs(), last_lines(&log));
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                println!("node {n} does not {what} yet, after {:.0} s", begun.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    /// Stops all nodes and removes their folders.
    fn stop(&self) -> Result<()> {
        let begun = Instant::now();
        self.end_processes()?;
        for n in 1..=u8::try_from(self.pids.len())? {
            fs::remove_dir_all(self.home(n))?;
        }
        println!("{} nodes stopped after {:.0} s", self.pids.len(), begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Stops all nodes side by side.
    fn end_processes(&self) -> Result<()> {
        for pid in self.pids.iter().filter(|pid| is_node(**pid)) {
            signal("-TERM", *pid)?;
        }
        let begun = Instant::now();
        for pid in &self.pids {
            while is_node(*pid) {
                if begun.elapsed() > STOP_MAX {
                    println!("process {pid} does not stop; it is killed");
                    signal("-KILL", *pid)?;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        let note = home_of(self.secured).join("cluster.json");
        fs::remove_file(&note).with_context(|| format!("{} cannot be removed", note.display()))
    }
}

fn folder() -> PathBuf {
    shell::root().join("target/cassandra")
}

/// Where the nodes of a cluster are kept.
fn home_of(secured: bool) -> PathBuf {
    if secured { folder().join("secured") } else { folder() }
}

/// Starts one node that outlives this task, and answers its process.
fn node(java: &Path, lib: &Path, home: &Path) -> Result<u32> {
    let log = fs::File::create(home.join("log"))?;
    let ours = shell::root().join("xtask/cassandra");
    let child = Command::new(java)
        .arg(format!("@{}", ours.join("jvm.options").display()))
        .args([format!("-Xms{HEAP}"), format!("-Xmx{HEAP}")])
        .arg(format!("-Dcassandra.config=file://{}", home.join("cassandra.yaml").display()))
        .arg(format!("-Dcassandra.storagedir={}", home.display()))
        .arg(format!("-Dcassandra.logdir={}", home.display()))
        .arg(format!("-Dlogback.configurationFile={}", ours.join("logback.xml").display()))
        .arg("-cp")
        .arg(format!("{}/*", lib.display()))
        .arg("org.apache.cassandra.service.CassandraDaemon")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Not of the terminal's group: a Ctrl-C there is not meant for it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", java.display()))?;
    let pid = child.id();
    // Nobody else would collect it when it ends while this task still runs.
    std::thread::spawn(move || {
        let mut child = child;
        child.wait()
    });
    Ok(pid)
}

/// Whether a process is one of our nodes: its number may have gone to somebody else.
fn is_node(pid: u32) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&arguments).contains(&format!("-Dcassandra.storagedir={}", folder().display()))
}

fn signal(which: &str, pid: u32) -> Result<()> {
    let done = Command::new("kill").args([which, &pid.to_string()]).status().context("cannot start kill")?;
    // It may have ended in between.
    ensure!(done.success() || !is_node(pid), "process {pid} could not be signalled");
    Ok(())
}

/// Whether somebody who speaks CQL listens. Of one who speaks TLS it is enough that he listens.
fn answers(address: SocketAddr, secured: bool) -> bool {
    let ask = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        if secured {
            return Ok(CQL_SUPPORTED);
        }
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&CQL_OPTIONS)?;
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        Ok(head[4])
    };
    ask().is_ok_and(|opcode| opcode == CQL_SUPPORTED)
}

/// The token ranges of a node, spread evenly, so that nodes need not agree on any when they start.
fn tokens(n: u8, nodes: u8) -> String {
    let all = TOKENS * u128::from(nodes);
    let token = |k: u128| i128::from(i64::MIN) + i128::try_from((k << 64) / all).unwrap_or(0);
    let own: Vec<String> = (0..TOKENS).map(|k| token(k * u128::from(nodes) + u128::from(n - 1)).to_string()).collect();
    own.join(",")
}

/// Ports that are free on the address of each node.
fn free_ports(nodes: u8) -> Result<[u16; 3]> {
    let width = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() * 7 % u32::from(width))?;
    let mut free = (0..width)
        .map(|n| PORTS.start + (first + n) % width)
        .filter(|port| (1..=nodes).all(|n| TcpListener::bind((format!("127.0.0.{n}"), *port)).is_ok()));
    match (free.next(), free.next(), free.next()) {
        (Some(one), Some(two), Some(three)) => Ok([one, two, three]),
        _ => bail!("no free ports from {} to {}", PORTS.start, PORTS.end),
    }
}

/// Java 17, which Cassandra 5 asks for, after an installation if there is none.
fn java() -> Result<PathBuf> {
    if let Some(java) = java_17() {
        return Ok(java);
    }
    apt_install(&["openjdk-17-jre-headless"])?;
    java_17().context("Debian's openjdk-17-jre-headless is installed, and yet /usr/lib/jvm has no java-17-*")
}

fn java_17() -> Option<PathBuf> {
    let all = fs::read_dir("/usr/lib/jvm").ok()?;
    let mut homes: Vec<PathBuf> = all.flatten().map(|it| it.path()).collect();
    homes.sort();
    let is_17 = |home: &PathBuf| home.file_name().is_some_and(|name| name.to_string_lossy().starts_with("java-17-"));
    homes.into_iter().filter(is_17).map(|home| home.join("bin/java")).find(|java| java.exists())
}

/// The folder with the files of Cassandra, each as the list says, after a download if they are not there.
fn jars() -> Result<PathBuf> {
    let (lib, ours) = (folder().join("lib"), shell::root().join("xtask/cassandra"));
    if !is_complete(&lib, &ours)? {
        if Command::new("mvn").arg("--version").stdout(Stdio::null()).status().is_err() {
            apt_install(&["maven"])?;
        }
        println!("fetching Cassandra (once, half a minute)");
        if lib.exists() {
            fs::remove_dir_all(&lib)?;
        }
        fs::create_dir_all(&lib)?;
        let mut fetch = Command::new("mvn");
        fetch.args(["--batch-mode", "--quiet", "--file"]).arg(ours.join("pom.xml"));
        fetch.arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies");
        fetch.args(["-DincludeScope=runtime".to_owned(), format!("-DoutputDirectory={}", lib.display())]);
        shell::run(&mut fetch)?;
        ensure!(
            is_complete(&lib, &ours)?,
            "what Maven fetched is not what xtask/cassandra/jars.sha256 lists; look with sha256sum -c in {}",
            lib.display()
        );
    }
    Ok(lib)
}

fn is_complete(lib: &Path, ours: &Path) -> Result<bool> {
    let listed = fs::read_to_string(ours.join("jars.sha256")).context("xtask/cassandra/jars.sha256 cannot be read")?;
    let there = fs::read_dir(lib).map_or(0, |all| all.flatten().count());
    if there != listed.lines().count() {
        return Ok(false);
    }
    let mut check = Command::new("sha256sum");
    check.current_dir(lib).args(["--check", "--status"]).arg(ours.join("jars.sha256"));
    Ok(check.stdin(Stdio::null()).status().context("cannot start sha256sum")?.success())
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The conformance suite of the store, and what belongs to it, on a real cluster. Answers how many tests passed and
/// failed.
pub(crate) fn conformance(nodes: u8, only: Option<&str>, wide_rows: Option<u64>) -> Result<(u64, u64)> {
    let (mut passed, mut failed) = (0, 0);
    if only != Some(SECURED_TESTS) {
        let cluster = Cluster::have(nodes)?;
        let arguments = only.map_or(["--skip", SECURED_TESTS], |only| ["--nocapture", only]);
        (passed, failed) = cluster_tests(&cluster, &arguments, wide_rows)?;
    }
    // Those of a cluster that asks for a password and speaks TLS need one of their own.
    if only.is_none_or(|only| only == SECURED_TESTS) {
        let (more, more_failed) = cluster_tests(&Cluster::secured()?, &[SECURED_TESTS], None)?;
        (passed, failed) = (passed + more, failed + more_failed);
    }
    Ok((passed, failed))
}

/// Runs tests of the store that need a cluster.
fn cluster_tests(cluster: &Cluster, arguments: &[&str], wide_rows: Option<u64>) -> Result<(u64, u64)> {
    println!("conformance on {}", cluster.hosts());
    let mut tests = shell::cargo();
    // All crates together ask for the same features as their other tests do, so that dependencies are built once.
    tests.args(["test", "--workspace", "--test", "cluster", "--", "--ignored", "--test-threads", "2"]);
    tests.args(arguments).env(TEST_VARIABLE, cluster.hosts());
    if cluster.running.secured {
        tests.env(CERTIFICATES_VARIABLE, cluster.running.certificates());
    }
    if let Some(rows) = wide_rows {
        tests.env(WIDE_VARIABLE, rows.to_string());
    }
    let (passed, failed, ended_well) = crate::test::counted(&mut tests, crate::test::cargo_counts)?;
    ensure!(ended_well || failed > 0, "the tests could not be run");
    Ok((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_all_nodes_are_spread_evenly_and_none_is_taken_twice() {
        let mut all: Vec<i64> =
            (1..=3).flat_map(|n| tokens(n, 3).split(',').map(|it| it.parse().unwrap()).collect::<Vec<i64>>()).collect();
        all.sort_unstable();
        assert_eq!((all.len(), all[0]), (12, i64::MIN));
        let gaps: Vec<u64> = all.windows(2).map(|pair| pair[1].abs_diff(pair[0])).collect();
        assert!(gaps.iter().max().unwrap() - gaps.iter().min().unwrap() <= 1, "{gaps:?}");
    }
}
