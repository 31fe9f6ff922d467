//! A load generator for one call: a fixed number of callers, each with one call in flight.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use gp_proto as proto;
use http_body_util::{BodyExt, Full};
use prost::Message;
use rand::SeedableRng;

/// Different requests that callers take turns with, so that making them costs nothing while measuring.
const REQUESTS: usize = 64;

/// What was measured.
pub(crate) struct Found {
    micros: Vec<u32>,
    errors: u64,
    seconds: f64,
}

impl Found {
    /// Calls a second that were answered.
    pub(crate) fn per_second(&self) -> f64 {
        self.micros.len() as f64 / self.seconds
    }

    fn at(&self, share: f64) -> f64 {
        let at = ((self.micros.len() as f64 * share) as usize).min(self.micros.len().saturating_sub(1));
        self.micros.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }

    /// Prints a row of the table.
    pub(crate) fn print(&self, plane: &str, keys: usize) {
        let (rate, p50, p99) = (self.per_second(), self.at(0.5), self.at(0.99));
        println!("{plane:<12} {keys:>7} {rate:>12.1} {p50:>10.2} {p99:>10.2} {:>10}", self.errors);
    }
}

/// Asks for `keys` posts at a time from `at_once` callers.
pub(crate) async fn run(
    host: &str,
    http2: bool,
    uris: &Arc<Vec<String>>,
    keys: usize,
    at_once: usize,
    time: Duration,
) -> Result<Found> {
    let mut dice = rand::rngs::StdRng::seed_from_u64(7);
    let requests: Arc<Vec<Bytes>> = Arc::new(
        (0..if keys > 1000 { 4 } else { REQUESTS })
            .map(|_| {
                // Distinct as long as there are enough of them.
                let places = rand::seq::index::sample(&mut dice, uris.len(), keys.min(uris.len())).into_vec();
                let uris = places.iter().cycle().take(keys).map(|place| uris[*place].clone()).collect();
                framed(&proto::GetPostRecordsRequest { uris, ..Default::default() })
            })
            .collect(),
    );
    let client = client(http2, at_once);
    let url = format!("http://{host}/bsky.Service/GetPostRecords");
    // Everything that is asked for once is in memory afterwards, on both sides.
    for request in requests.iter() {
        call(&client, &url, request.clone()).await?;
    }
    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..at_once {
        let (client, url, requests) = (client.clone(), url.clone(), Arc::clone(&requests));
        callers.spawn(async move {
            let (mut micros, mut errors) = (Vec::new(), 0u64);
            let mut next = caller;
            while begun.elapsed() < time {
                let sent = Instant::now();
                match call(&client, &url, requests[next % requests.len()].clone()).await {
                    Ok(_) => micros.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX)),
                    Err(_) => errors += 1,
                }
                next += 1;
            }
            (micros, errors)
        });
    }
    let mut found = Found { micros: Vec::new(), errors: 0, seconds: 0.0 };
    while let Some(done) = callers.join_next().await {
        let (micros, errors) = done?;
        found.micros.extend(micros);
        found.errors += errors;
    }
    found.seconds = begun.elapsed().as_secs_f64();
    found.micros.sort_unstable();
    Ok(found)
}

/// A client whose requests leave at once: with Nagle's algorithm a small one waits 40 ms for the peer's acknowledgement.
fn client(http2: bool, at_once: usize) -> Client {
    let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
    connector.set_nodelay(true);
    hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(http2)
        .pool_max_idle_per_host(at_once)
        .http2_initial_stream_window_size(16 << 20)
        .http2_initial_connection_window_size(64 << 20)
        .build(connector)
}

type Client = hyper_util::client::legacy::Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>;

/// Posts at some addresses, as a plane answers them, in the order asked.
pub(crate) async fn posts(host: &str, uris: &[String]) -> Result<Vec<proto::Record>> {
    let client = client(true, 1);
    let url = format!("http://{host}/bsky.Service/GetPostRecords");
    let request = proto::GetPostRecordsRequest { uris: uris.to_vec(), ..Default::default() };
    let body = call(&client, &url, framed(&request)).await?;
    let answer = proto::GetPostRecordsResponse::decode(&body[5..]).context("an answer that cannot be read")?;
    Ok(answer.records)
}

/// Makes a call and returns the frame of its answer, length and flag included.
async fn call(client: &Client, url: &str, frame: Bytes) -> Result<Bytes> {
    let request = hyper::Request::post(url)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-atlantis-caller", "appview")
        .body(Full::new(frame))?;
    let response = client.request(request).await?;
    let head = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await?;
    let status = body.trailers().and_then(|t| t.get("grpc-status").cloned()).or(head);
    let bytes = body.to_bytes();
    if status.as_ref().map(|s| s.as_bytes()) != Some(b"0") || bytes.len() < 5 {
        bail!("the call failed: {status:?}");
    }
    Ok(bytes)
}

fn framed(request: &impl Message) -> Bytes {
    frame(request.encode_to_vec())
}

/// A message as gRPC sends it.
pub(crate) fn frame(message: Vec<u8>) -> Bytes {
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// Somebody who calls any method, and reads what is answered.
pub(crate) struct Api {
    client: Client,
    host: String,
    calls: AtomicU64,
}

impl Api {
    /// Calls a plane over so many connections, if they are of a kind that carries one call at a time.
    pub(crate) fn new(host: &str, http2: bool, connections: usize) -> Self {
        Self { client: client(http2, connections), host: host.to_owned(), calls: AtomicU64::new(0) }
    }

    /// One call, and its answer.
    pub(crate) async fn ask<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A> {
        self.calls.fetch_add(1, Relaxed);
        let url = format!("http://{}/bsky.Service/{method}", self.host);
        let body = call(&self.client, &url, framed(request)).await?;
        A::decode(&body[5..]).context("an answer that cannot be read")
    }

    /// Calls that were made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }
}

/// Somebody who calls one method.
pub(crate) struct Caller {
    client: Client,
    url: String,
}

impl Caller {
    /// Calls `method` at `host`, one call at a time.
    pub(crate) fn new(host: &str, http2: bool, method: &str) -> Self {
        Self::wide(host, http2, method, 1)
    }

    /// The same with so many calls at a time.
    pub(crate) fn wide(host: &str, http2: bool, method: &str, at_once: usize) -> Self {
        Self { client: client(http2, at_once), url: format!("http://{host}/bsky.Service/{method}") }
    }

    /// One call; an error unless it was answered well.
    pub(crate) async fn call(&self, request: Bytes) -> Result<()> {
        self.answer(request).await.map(drop)
    }

    /// One call: the frame of its answer, length and flag included.
    pub(crate) async fn answer(&self, request: Bytes) -> Result<Bytes> {
        call(&self.client, &self.url, request).await
    }
}

/// One POST without a body over HTTP/1.1, which must succeed.
pub(crate) async fn post(host: &str, path: &str) -> Result<()> {
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = hyper::Request::post(format!("http://{host}{path}")).body(Full::new(Bytes::new()))?;
    let response = client.request(request).await.context("no answer")?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(status.is_success(), "{path} answered {status}: {}", String::from_utf8_lossy(&body));
    Ok(())
}

/// One GET over HTTP/1.1.
pub(crate) async fn get(host: &str, path: &str) -> Result<Bytes> {
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http::<Full<Bytes>>();
    let uri: hyper::Uri = format!("http://{host}{path}").parse()?;
    let response = client.get(uri).await.context("no answer")?;
    Ok(response.into_body().collect().await?.to_bytes())
}
