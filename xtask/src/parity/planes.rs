//! The two planes over one network, and what is done to both of them alike.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gp_synth::Network;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client as Http, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::client::Client;
use crate::{node::Node, postgres::Postgres};

/// The key with which `e2e/lib/parts.mjs` starts bsync.
const BSYNC_API_KEY: &str = "bsync-api-key";

/// Longest time for a plane to come up, and for our own to stop.
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(12);

/// How often a wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A child that goes when we go: its end of the pipe closes.
struct Process {
    child: Child,
    stdin: Arc<Mutex<Option<ChildStdin>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.lock().ok().and_then(|mut stdin| stdin.take()));
        let begun = Instant::now();
        while begun.elapsed() < STOP_MAX {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ours.
pub(super) struct Ours {
    _process: Process,
    pub(super) client: Client,
    admin: String,
}

/// The reference, and the bsync that both listen to.
pub(super) struct Reference {
    _process: Process,
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    pub(super) client: Client,
    pub(super) bsync: Client,
    bsync_url: String,
    seq: Arc<AtomicI64>,
    next_id: AtomicU64,
    waiting: Waiting,
}

/// Commands that are not answered yet.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Reference {
    /// Starts it. It works at events with numbers in `together` beside one another, at all others one by one.
    pub(super) async fn start(
        node: &Node,
        postgres: &Postgres,
        network: &Network,
        dir: &Path,
        together: &[i64],
    ) -> Result<Self> {
        let (port, bsync_port) = (free_port()?, free_port()?);
        let list = dir.join("together.json");
        std::fs::write(&list, serde_json::to_vec(together)?)?;
        let log = std::fs::File::create(dir.join("reference.log"))?;
        let mut child = Command::new(&node.bin)
            .current_dir(&node.home)
            .arg("parity-reference.mjs")
            .args(["--postgres", &postgres.url(), "--relay", &network.relay_url(), "--plc", &network.plc_url()])
            .args(["--handles", &network.handle_resolver_url(), "--port", &port.to_string()])
            .args(["--bsync-port", &bsync_port.to_string(), "--together"])
            .arg(&list)
            .env("NODE_ENV", "production")
            .env("TZ", "UTC")
            .env("LOG_ENABLED", "false")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start the reference")?;
        let out = child.stdout.take().context("the reference has no output")?;
        let stdin = Arc::new(Mutex::new(child.stdin.take()));
        let (seq, waiting, ready) = (Arc::new(AtomicI64::new(0)), Waiting::default(), oneshot::channel());
        std::thread::spawn({
            let (seq, waiting, mut ready) = (Arc::clone(&seq), Arc::clone(&waiting), Some(ready.0));
            move || {
                for line in BufReader::new(out).lines().map_while(|line| line.ok()) {
                    let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
                    if said["ready"] == true {
                        let _ = ready.take().map(|ready| ready.send(()));
                    } else if let Some(id) = said["id"].as_u64() {
                        let answer = match said["error"].as_str() {
                            Some(error) => Err(error.to_owned()),
                            None => Ok(said["result"].clone()),
                        };
                        let sender = waiting.lock().ok().and_then(|mut waiting| waiting.remove(&id));
                        let _ = sender.map(|sender| sender.send(answer));
                    } else if let Some(now) = said["seq"].as_i64() {
                        seq.store(now, Relaxed);
                    }
                }
                // Whoever still waits is told by the end of its channel.
                if let Ok(mut waiting) = waiting.lock() {
                    waiting.clear();
                }
            }
        });
        let process = Process { child, stdin: Arc::clone(&stdin) };
        match tokio::time::timeout(START_MAX, ready.1).await {
            Ok(Ok(())) => {}
            _ => bail!("the reference did not start: see {}", dir.join("reference.log").display()),
        }
        Ok(Self {
            _process: process,
            stdin,
            client: Client::new(&format!("127.0.0.1:{port}"), false),
            bsync: Client::new(&format!("127.0.0.1:{bsync_port}"), false).with_token(BSYNC_API_KEY),
            bsync_url: format!("http://127.0.0.1:{bsync_port}"),
            seq,
            next_id: AtomicU64::new(1),
            waiting,
        })
    }

    /// How far it has read, as it says once a second.
    pub(super) fn seq(&self) -> i64 {
        self.seq.load(Relaxed)
    }

    /// Gives a command of `e2e/parity-reference.mjs`.
    pub(super) async fn command(&self, command: &str, mut given: Value) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Relaxed);
        given["id"] = id.into();
        given["command"] = command.into();
        let (send, receive) = oneshot::channel();
        self.waiting.lock().expect("no thread panics with it").insert(id, send);
        {
            let mut stdin = self.stdin.lock().expect("no thread panics with it");
            let stdin = stdin.as_mut().context("the reference is stopped")?;
            writeln!(stdin, "{given}").context("the reference has ended")?;
        }
        match receive.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => bail!("the reference failed at {command}: {error}"),
            Err(_) => bail!("the reference ended before it had done {command}"),
        }
    }
}

/// Where ours keeps its rows.
#[derive(Default)]
pub(super) struct Behind {
    /// An address for `--store`; a folder where there is none.
    pub(super) store: Option<String>,
    /// memcached in front of it.
    pub(super) memcached: Option<SocketAddr>,
}

impl Ours {
    /// Starts ours over an empty folder, or over an empty keyspace of a cluster.
    pub(super) async fn start(
        bin: &Path,
        behind: &Behind,
        dir: &Path,
        network: &Network,
        reference: &Reference,
    ) -> Result<Self> {
        let (port, admin) = (free_port()?, free_port()?);
        let log = std::fs::File::create(dir.join("groundplane.log"))?;
        let mut child = Command::new(bin)
            .args(["serve", "--relay-start", "oldest", "--allow-private-networks", "--exit-on-stdin-eof"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin}")])
            .args(["--relay-url", &network.relay_url(), "--plc-url", &network.plc_url()])
            .args(["--did-resolver-url", &network.plc_url(), "--handle-resolver-url", &network.handle_resolver_url()])
            .args(["--bsync-url", &reference.bsync_url, "--bsync-api-key", BSYNC_API_KEY])
            .arg("--data-dir")
            .arg(dir.join("groundplane"))
            .args(behind.store.iter().flat_map(|store| ["--store", store]))
            .args(behind.memcached.iter().flat_map(|node| ["--memcached".to_owned(), node.to_string()]))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", bin.display()))?;
        let stdin = Arc::new(Mutex::new(child.stdin.take()));
        let mut process = Process { child, stdin };
        let admin = format!("127.0.0.1:{admin}");
        let begun = Instant::now();
        while !matches!(http(&admin, "GET", "/readyz", None).await, Ok((200, _))) {
            if let Some(ended) = process.child.try_wait()? {
                bail!("groundplane ended with {ended}: see {}", dir.join("groundplane.log").display());
            }
            ensure!(begun.elapsed() < START_MAX, "groundplane was not ready within {} s", START_MAX.as_secs());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self { _process: process, client: Client::new(&format!("127.0.0.1:{port}"), true), admin })
    }

    /// An operator's call.
    pub(super) async fn operate(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let (status, text) = http(&self.admin, method, path, Some(body)).await?;
        ensure!((200..300).contains(&status), "{method} {path} answered {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    async fn status(&self) -> Result<Value> {
        let (status, text) = http(&self.admin, "GET", "/status", None).await?;
        ensure!(status == 200, "/status answered {status}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits until everything up to an event is applied, and everything that bsync has up to `heads`.
    pub(super) async fn settle(&self, seq: i64, heads: &Value) -> Result<()> {
        let number =
            |value: &Value| value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0);
        let mut moved = (Instant::now(), Value::Null);
        loop {
            let now = self.status().await?;
            let logs = ["op", "mute", "notif"];
            if number(&now["firehose"]["seq"]) >= seq
                && number(&now["pending"]) == 0
                && logs.iter().all(|log| number(&now["bsync"][*log]) >= number(&heads[*log]))
            {
                return Ok(());
            }
            let place = json!([now["firehose"]["seq"], now["pending"], now["bsync"]]);
            if moved.1 != place {
                moved = (Instant::now(), place);
            }
            ensure!(moved.0.elapsed() < START_MAX, "groundplane does not get on: {now}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn http(host: &str, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
    let client = Http::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = hyper::Request::builder()
        .method(method)
        .uri(format!("http://{host}{path}"))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))?;
    let response = client.request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
