//! A plane over a small synthetic network, as a child process, and callers that ask it things.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use gp_atproto::frame::{Action, Message as Event};
use gp_proto as proto;
use gp_synth::{Network, Size, Spec};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use prost::Message;
use tokio::task::JoinHandle;

/// How long a program may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a program may take to stop.
const STOP_MAX: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Records for each account of the network.
const RECORDS_PER_ACCOUNT: u64 = 30;

/// Runs a program that ends when we do, however we end: its shell waits for the end of our pipe. A terminal's Ctrl-C
/// does not get there.
const SUPERVISOR: &str = r#"
trap '' INT TERM HUP
"$@" </dev/null &
program=$!
cat >/dev/null
kill -TERM "$program" 2>/dev/null
wait "$program"
"#;

/// A program that goes when we go.
pub(crate) struct Supervised {
    shell: Child,
}

impl Supervised {
    /// Starts a program; what it says goes to a file.
    pub(crate) fn start(program: &str, arguments: &[String], log: &Path) -> Result<Self> {
        let log = fs::File::create(log).with_context(|| format!("{}", log.display()))?;
        let shell = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "supervisor", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        Ok(Self { shell })
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < STOP_MAX && matches!(self.shell.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A port of loopback that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A running plane that has read its network.
pub(crate) struct Plane {
    _program: Supervised,
    _folder: tempfile::TempDir,
    /// Host and port of gRPC.
    pub(crate) listen: String,
    /// Host and port of the admin port.
    pub(crate) admin: String,
    /// Addresses of posts that are there.
    pub(crate) posts: Arc<Vec<String>>,
    /// The network goes on as long as this is kept.
    pub(crate) network: Network,
}

impl Plane {
    /// Starts a plane that tells the callers `appview` and `batch-job` apart, and waits until it has read everything.
    pub(crate) async fn start(bin: &Path, accounts: u32, more: &[&str]) -> Result<Self> {
        let records = u64::from(accounts) * RECORDS_PER_ACCOUNT;
        let mut spec = Spec::new(Size::Custom { accounts, records }, 1, gp_index::system_now_us());
        spec.keep_model = false;
        let network = Network::start(spec).await?;
        let folder = tempfile::tempdir()?;
        let (listen, admin) = (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let mut arguments: Vec<String> = [
            "serve",
            "--relay-start",
            "oldest",
            "--allow-private-networks",
            "--caller",
            "appview,batch-job",
            "--listen",
            &listen,
            "--admin-listen",
            &admin,
            "--relay-url",
            &network.relay_url(),
            "--labeler-url",
            &network.labeler_url(),
            "--plc-url",
            &network.plc_url(),
            "--did-resolver-url",
            &network.plc_url(),
            "--handle-resolver-url",
            &network.handle_resolver_url(),
            "--data-dir",
            &folder.path().join("data").display().to_string(),
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        let log = folder.path().join("log");
        let program = Supervised::start(&bin.display().to_string(), &arguments, &log)?;
        let posts = Arc::new(posts(&network));
        ensure!(!posts.is_empty(), "the network has no posts");
        let plane = Self { _program: program, _folder: folder, listen, admin, posts, network };
        let head = plane.network.head_seq();
        let begun = Instant::now();
        loop {
            if let Ok(body) = get(&plane.admin, "/status").await
                && let Ok(status) = serde_json::from_slice::<serde_json::Value>(&body)
                && status["firehose"]["seq"].as_i64() >= Some(head)
                && status["pending"] == 0
            {
                return Ok(plane);
            }
            if begun.elapsed() > START_MAX {
                bail!("the plane has not read its network:\n{}", fs::read_to_string(log).unwrap_or_default());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn posts(network: &Network) -> Vec<String> {
    let mut uris = std::collections::BTreeSet::new();
    for (_, frame) in network.frames() {
        let Ok(Event::Commit(commit)) = Event::decode(&frame) else { continue };
        for op in commit.ops.iter().filter(|op| op.path.starts_with("app.bsky.feed.post/")) {
            let uri = format!("at://{}/{}", commit.repo, op.path);
            match op.action {
                Action::Delete => uris.remove(&uri),
                _ => uris.insert(uri),
            };
        }
    }
    uris.into_iter().collect()
}

type Client = hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>;

/// Somebody who asks for posts.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client,
    url: String,
    name: &'static str,
    posts: Arc<Vec<String>>,
}

/// What became of a caller's calls.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// How long each took from the moment it was due, in microseconds.
    took_us: Mutex<Vec<u32>>,
}

impl Tally {
    /// How long calls took, 50 and 99 of a hundred and all of them, in milliseconds. What was counted before goes.
    pub(crate) fn take_ms(&self) -> [f64; 3] {
        let mut took = std::mem::take(&mut *self.took_us.lock().unwrap_or_else(PoisonError::into_inner));
        took.sort_unstable();
        let at = |part: f64| took.get(((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1)));
        [0.5, 0.99, 1.0].map(|part| at(part).map_or(f64::NAN, |us| f64::from(*us) / 1e3))
    }
}

impl Caller {
    pub(crate) fn new(plane: &Plane, name: &'static str) -> Self {
        let mut connector = HttpConnector::new();
        // Headers and body are two writes; the second must not wait until the first is acknowledged.
        connector.set_nodelay(true);
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .http2_only(true)
            .http2_initial_stream_window_size(16 << 20)
            .http2_initial_connection_window_size(64 << 20)
            .build(connector);
        let url = format!("http://{}/bsky.Service/GetPostRecords", plane.listen);
        Self { client, url, name, posts: Arc::clone(&plane.posts) }
    }

    /// Asks for as many posts, from a place in the list on; beyond those that are there, for ones that are not.
    pub(crate) async fn ask(&self, from: usize, keys: usize) -> Result<()> {
        let there = self.posts.len();
        let uris = (from..from + keys).map(|n| match self.posts.get(n) {
            Some(uri) => uri.clone(),
            None => format!("{}{n}", self.posts[n % there]),
        });
        let request = proto::GetPostRecordsRequest { uris: uris.collect(), ..Default::default() };
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(request.encoded_len())?.to_be_bytes());
        request.encode(&mut frame)?;
        let request = hyper::Request::post(&self.url)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-atlantis-caller", self.name)
            .header("traceparent", format!("00-{:032x}-{:016x}-01", 0xfeed_0000_u64 + from as u64, 1))
            .body(Full::new(frame.into()))?;
        let response = self.client.request(request).await?;
        let mut status = response.headers().get("grpc-status").cloned();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Err(frame) = frame?.into_data() {
                status = frame.trailers_ref().and_then(|it| it.get("grpc-status").cloned()).or(status);
            }
        }
        ensure!(status.as_ref().is_some_and(|it| it == "0"), "the call ended with {status:?}");
        Ok(())
    }

    /// Asks again and again, as many times a second, whether answers come or not, until the handle is aborted.
    pub(crate) fn keep_asking(self, keys: &'static [usize], per_second: u32, tally: Arc<Tally>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
            let mut calls = tokio::task::JoinSet::new();
            for n in 0.. {
                let due = ticks.tick().await;
                let (caller, tally) = (self.clone(), Arc::clone(&tally));
                calls.spawn(async move {
                    let from = n * 17 % caller.posts.len();
                    match caller.ask(from, keys[n % keys.len()]).await {
                        Ok(()) => tally.answered.fetch_add(1, Relaxed),
                        Err(_) => tally.failed.fetch_add(1, Relaxed),
                    };
                    let took = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
                    tally.took_us.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                });
                while calls.try_join_next().is_some() {}
            }
        })
    }
}

/// One GET over HTTP/1.1.
pub(crate) async fn get(host: &str, path: &str) -> Result<Bytes> {
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.get(format!("http://{host}{path}").parse()?).await.context("no answer")?;
    Ok(response.into_body().collect().await?.to_bytes())
}
