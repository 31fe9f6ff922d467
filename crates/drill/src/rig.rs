//! A folder of posts and the programs that serve it: what every drill begins with.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use crate::{
    Row, Say,
    data::{self, Posts, Requests},
    load::{self, Felt, Hosts, Offer},
    memcached::Memcached,
    program::{Program, Start},
    twin, wire,
};

/// Connections of the callers of W0.
pub const CONNECTIONS: usize = 64;
/// The part of what the plane can do that W0 asks for. The callers live on the same processors; with half of it, as one
/// would ask on a machine of its own, a drill would measure them.
pub const W0_PART: f64 = 0.2;
/// Calls at a time with which the most is measured.
const SATURATING: usize = 64;
/// Requests of W0 that are made before it begins.
const SMALL_REQUESTS: usize = 2_400;
/// Keys of one call while everything is asked for once.
const WARM_KEYS: usize = 5_000;
/// Keys of a large call.
pub const LARGE_KEYS: usize = 20_000;
/// How long the twin takes to read what its memcached does not have.
const TWIN_STORE_MS: u64 = 1;
/// Idle connections that the twin keeps: enough for W0, as the 1,000 of the outage were for years.
const TWIN_IDLE: usize = 250;

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// How long callers are watched while nothing is wrong.
    pub quiet: Duration,
    /// How long something is wrong.
    pub fault: Duration,
    /// No verdict on times: seconds on a machine with other work say nothing about them.
    pub short: bool,
}

impl Scale {
    /// For a verdict.
    pub fn full() -> Self {
        Self::of(Duration::from_secs(15))
    }

    /// For tests: what can be counted, within a minute.
    pub fn short() -> Self {
        Self { quiet: Duration::from_secs(1), fault: Duration::from_secs(2), short: true }
    }

    /// For a verdict, with faults that last so long.
    pub fn of(fault: Duration) -> Self {
        Self { quiet: fault / 2, fault, short: false }
    }

    /// How long the most that a plane can do is measured.
    pub fn measure(&self) -> Duration {
        Duration::from_secs(if self.short { 1 } else { 4 })
    }

    /// Holds a time against a row.
    pub fn check_time(&self, row: &mut Row, holds: bool, what: impl Into<String>) {
        row.check(self.short || holds, what);
    }
}

/// A folder of posts, and the program.
#[derive(Debug)]
pub struct Rig {
    /// The program.
    pub bin: PathBuf,
    /// Where everything is.
    pub folder: tempfile::TempDir,
    /// What is served.
    pub posts: Posts,
    /// Requests of W0.
    pub small: Requests,
    /// Requests of 20,000 keys.
    pub large: Requests,
}

impl Rig {
    /// Fills a folder.
    ///
    /// # Errors
    ///
    /// It cannot be written to.
    pub async fn new(bin: &Path, posts: usize, giants: usize, say: Say<'_>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("groundplane-drill-").tempdir()?;
        say(&format!("writing {posts} posts ..."));
        let posts = data::fill(&folder.path().join("data"), posts, giants).await?;
        let (small, large) = (posts.small(SMALL_REQUESTS, 1), posts.large(5, LARGE_KEYS));
        Ok(Self { bin: bin.to_owned(), folder, posts, small, large })
    }

    /// The folder of posts.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A copy of the folder of posts, made when it is first asked for.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn copy(&self, name: &str) -> Result<PathBuf> {
        let copy = self.folder.path().join(name);
        if !copy.exists() {
            data::copy(&self.data(), &copy)?;
        }
        Ok(copy)
    }

    /// `groundplane serve` on a folder, reading nothing from the network.
    pub fn serve<'a>(&self, data: &Path, more: &[&str]) -> Start<'a> {
        let mut args: Vec<String> = ["serve", "--exit-on-stdin-eof", "--caller", "appview,batch-job,feeds"]
            .into_iter()
            .chain(if more.contains(&"--log") { [].iter() } else { ["--log", "warn"].iter() }.copied())
            .map(str::to_owned)
            .collect();
        args.extend(["--data-dir".to_owned(), data.display().to_string()]);
        args.extend(more.iter().map(|it| (*it).to_owned()));
        Start { bin: self.bin.clone(), args, ..Start::default() }
    }

    /// The real server over a store that can be told to be slow.
    pub fn scripted<'a>(&self, data: &Path, more: &[&str]) -> Start<'a> {
        let mut args = vec!["drill-plane".to_owned(), "--data-dir".to_owned(), data.display().to_string()];
        args.extend(more.iter().map(|it| (*it).to_owned()));
        Start { bin: self.bin.clone(), args, ..Start::default() }
    }

    /// A memcached that has every post, for the twin.
    ///
    /// # Errors
    ///
    /// There is no memcached on this machine.
    pub async fn memcached(&self) -> Result<Memcached> {
        let memcached = Memcached::start().await?;
        let value = |n: usize| format!("{{\"$type\":\"app.bsky.feed.post\",\"text\":\"{n:>480}\"}}").into_bytes();
        let values = self.posts.uris.iter().enumerate().map(|(n, uri)| (twin::key_of(uri), value(n)));
        memcached.fill(values).await?;
        Ok(memcached)
    }

    /// The twin in front of a memcached.
    pub fn twin<'a>(&self, memcached: SocketAddr) -> Start<'a> {
        let args = ["drill-twin", "--memcached", &memcached.to_string(), "--idle-max", &TWIN_IDLE.to_string()]
            .into_iter()
            .chain(["--store-ms", &TWIN_STORE_MS.to_string()])
            .map(str::to_owned)
            .collect();
        Start { bin: self.bin.clone(), args, ..Start::default() }
    }

    /// Asks for every post once, so that all of them are in memory if they fit, and waits until nothing is left to do
    /// in the background.
    ///
    /// # Errors
    ///
    /// The plane does not answer.
    pub async fn warm(&self, plane: &Program) -> Result<()> {
        let hosts = Hosts::new(&[plane.listen], 1);
        for uris in self.posts.uris.chunks(WARM_KEYS) {
            let frame = data::asking(uris.iter().map(String::as_str));
            let call = wire::Call { path: data::GET_POSTS, caller: "feeds", frame, deadline: None };
            let (code, ..) = hosts.call(&call, load::ANSWER_MAX).await;
            anyhow::ensure!(code == 0, "the plane does not answer while it warms up: code {code}");
        }
        settled(plane.admin).await
    }

    /// What a plane can do at most with the requests of W0, and how many of them a second W0 is.
    pub async fn measure(&self, hosts: &Hosts, time: Duration) -> (Felt, f64) {
        let offer = Offer::posts("appview", &self.small, 1.0);
        let most = load::saturate(hosts, &offer, SATURATING, time).await;
        let w0 = (most.answered_per_second() * W0_PART).max(20.0);
        (most, w0)
    }

    /// W0 at a rate.
    pub fn w0(&self, per_second: f64) -> Offer {
        Offer::posts("appview", &self.small, per_second)
    }

    /// The caller of 3 x 20,000 keys a second.
    pub fn bulk(&self) -> Offer {
        Offer { looks: false, ..Offer::posts("batch-job", &self.large, 3.0) }
    }
}

/// Waits until a plane says that nothing is left to do: its index of words is built, its store at rest.
///
/// # Errors
///
/// It does not answer, or is not done within a minute.
pub async fn settled(admin: SocketAddr) -> Result<()> {
    const SETTLED_MAX: Duration = Duration::from_secs(60);
    let begun = std::time::Instant::now();
    loop {
        let (code, body) = wire::get(admin, "/status").await?;
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let waits = status["pending"].as_u64().unwrap_or(0) > 0 || status["search"]["ready"] == false;
        if code != 200 || !waits {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < SETTLED_MAX, "the plane does not settle: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether what callers felt is close enough to what they felt while it was quiet: within a factor, or two
/// milliseconds, whichever allows more.
pub fn is_close(quiet: &Felt, now: &Felt, factor: f64) -> bool {
    now.p99_ms() <= (quiet.p99_ms() * factor).max(quiet.p99_ms() + 2.0)
}

/// The quiet and the loaded figure, for people.
pub fn p99s(quiet: &Felt, now: &Felt) -> String {
    format!("small p99 {:.2} ms quiet, {:.2} ms now", quiet.p99_ms(), now.p99_ms())
}
