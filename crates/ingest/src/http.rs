//! HTTP to upstreams, with a bound on everything, in two kinds: to hosts an operator named, and to hosts that network
//! data named. The second kind must not be led to addresses inside our own network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Once},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::StreamExt;
use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
    redirect::Policy,
};
use tokio::{sync::Semaphore, time::Instant};
use url::{Host, Url};

use crate::{
    Error, Result,
    spool::{Spool, Spooled},
};

const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Hops that a request may be redirected over, where it may be at all.
const REDIRECTS_MAX: usize = 3;

/// Idle connections kept to one host.
const IDLE_PER_HOST_MAX: usize = 4;

/// Whose host it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// An operator named it: any address will do.
    Operator,
    /// Network data named it: public addresses and HTTPS only, unless private networks are allowed.
    Network,
    /// As `Network`, and redirects are followed, each hop checked.
    NetworkFollowing,
}

/// The clients. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    operator: Client,
    network: Client,
    following: Client,
    allow_private: bool,
}

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).map_err(|e| Error::Failed(format!("the answer is not JSON: {e}")))
    }

    /// The name of an XRPC error, if the body is one.
    pub(crate) fn error_name(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.get("error")?.as_str().map(str::to_owned)
    }
}

impl Http {
    /// The clients. Fails only if TLS cannot be set up.
    pub(crate) fn new(allow_private: bool) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Whoever installed one before us keeps it.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let base = || {
            Client::builder()
                .user_agent(concat!("groundplane/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_MAX)
                .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
                .http1_only()
                .no_proxy()
        };
        let fail = |e: reqwest::Error| Error::Invalid(format!("TLS cannot be set up: {e}"));
        let guarded = |builder: reqwest::ClientBuilder| {
            if allow_private { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) }
        };
        let follow = Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS_MAX {
                return attempt.error("too many redirects");
            }
            match check(attempt.url(), allow_private, false) {
                Ok(()) => attempt.follow(),
                Err(why) => attempt.error(why),
            }
        });
        Ok(Self {
            operator: base().redirect(Policy::none()).build().map_err(fail)?,
            network: guarded(base().redirect(Policy::none())).build().map_err(fail)?,
            following: guarded(base().redirect(follow)).build().map_err(fail)?,
            allow_private,
        })
    }

    /// Whether network data may name loopback and private addresses.
    pub(crate) fn allows_private(&self) -> bool {
        self.allow_private
    }

    fn client(&self, trust: Trust, url: &str, any_port: bool) -> Result<(&Client, Url)> {
        let url = Url::parse(url).map_err(|e| Error::Failed(format!("`{url}` is not a URL: {e}")))?;
        let client = match trust {
            Trust::Operator => &self.operator,
            Trust::Network => &self.network,
            Trust::NetworkFollowing => &self.following,
        };
        if trust != Trust::Operator {
            check(&url, self.allow_private, any_port).map_err(|why| Error::Refused(format!("{url}: {why}")))?;
        }
        Ok((client, url))
    }

    /// GET, the answer read to its end within `time_max` and `body_bytes_max`.
    pub(crate) async fn get(
        &self,
        trust: Trust,
        url: &str,
        accept: &str,
        time_max: Duration,
        body_bytes_max: usize,
    ) -> Result<Answer> {
        let (client, url) = self.client(trust, url, false)?;
        let request = client.get(url.clone()).header("accept", accept);
        within(time_max, &url, async { read(request.send().await, body_bytes_max).await }).await
    }

    /// XRPC query to an account's host, which may listen on any port.
    pub(crate) async fn query(
        &self,
        trust: Trust,
        url: &str,
        time_max: Duration,
        body_bytes_max: usize,
    ) -> Result<Answer> {
        let (client, url) = self.client(trust, url, true)?;
        let request = client.get(url.clone()).header("accept", "application/json");
        within(time_max, &url, async { read(request.send().await, body_bytes_max).await }).await
    }

    /// POST of a protobuf message.
    pub(crate) async fn post_proto(
        &self,
        url: &str,
        token: &str,
        body: Vec<u8>,
        time_max: Duration,
        body_bytes_max: usize,
    ) -> Result<Answer> {
        let (client, url) = self.client(Trust::Operator, url, true)?;
        let request = client
            .post(url.clone())
            .header("content-type", "application/proto")
            .header("connect-protocol-version", "1")
            .header("authorization", format!("Bearer {token}"))
            .body(body);
        within(time_max, &url, async { read(request.send().await, body_bytes_max).await }).await
    }

    /// Fetches a body of any size: a small one into memory, another into a file that has no name and goes with the last
    /// who holds it. A large one waits for one of `large`'s permits and keeps it as long as it is there, so that only few
    /// at a time take room.
    pub(crate) async fn download(
        &self,
        trust: Trust,
        url: &str,
        accept: &str,
        large: &Arc<Semaphore>,
        bounds: &Download,
    ) -> std::result::Result<Downloaded, Lost> {
        let (client, url) = self.client(trust, url, true).map_err(Lost::Refused)?;
        let request = client.get(url.clone()).header("accept", accept);
        let work = async {
            let answered = tokio::time::timeout(bounds.answer_max, request.send()).await;
            let response = answered.map_err(|_| Lost::NoAnswer("no answer".into()))?.map_err(lost)?;
            let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
            if !response.status().is_success() {
                let body = body(response, ERROR_BYTES_MAX).await.unwrap_or_default();
                return Ok(Downloaded::Refusal { answer: Answer { status, body }, retry_after });
            }
            if response.content_length().is_some_and(|len| len > bounds.bytes_max) {
                return Err(Lost::TooLarge(bounds.bytes_max));
            }
            let mut spool = Spool::new(&bounds.folder, bounds.memory_bytes_max);
            let mut chunks = response.bytes_stream();
            let mut pace = LowestSpeed::new(bounds.bytes_per_second_min, bounds.time_max);
            loop {
                let chunk = tokio::time::timeout_at(pace.look_at(), chunks.next()).await;
                let Ok(chunk) = chunk else {
                    pace.look().map_err(Lost::Slow)?;
                    continue;
                };
                let Some(chunk) = chunk else { break };
                let chunk = chunk.map_err(lost)?;
                pace.count(chunk.len()).map_err(Lost::Slow)?;
                let len = spool.len() + chunk.len() as u64;
                if len > bounds.bytes_max {
                    return Err(Lost::TooLarge(bounds.bytes_max));
                }
                if len > bounds.small_bytes && !spool.has_permit() {
                    let waits = Instant::now();
                    spool.keep(Arc::clone(large).acquire_owned().await.map_err(|_| Lost::Stopped)?);
                    // That others were there before is not the host's doing.
                    pace.go_on_after(waits.elapsed());
                }
                spool.push(&chunk).await.map_err(Lost::Disk)?;
            }
            Ok(Downloaded::Body(spool.finish().await.map_err(Lost::Disk)?))
        };
        work.await.map_err(|lost| lost.at(&url))
    }
}

/// Bounds of a body of any size.
#[derive(Debug, Clone)]
pub(crate) struct Download {
    /// Longest wait for the head of the answer.
    pub(crate) answer_max: Duration,
    /// Longest time for all of it.
    pub(crate) time_max: Duration,
    /// Bytes a second below which it is given up.
    pub(crate) bytes_per_second_min: u64,
    pub(crate) bytes_max: u64,
    /// Larger bodies need a permit.
    pub(crate) small_bytes: u64,
    /// Larger bodies go into a file in `folder`.
    pub(crate) memory_bytes_max: usize,
    pub(crate) folder: PathBuf,
}

/// What came of a download that was answered.
pub(crate) enum Downloaded {
    Body(Spooled),
    /// Not a success, and when to ask again if the host says so.
    Refusal {
        answer: Answer,
        retry_after: Option<Duration>,
    },
}

/// Why a download came to nothing.
#[derive(Debug)]
pub(crate) enum Lost {
    /// We may not ask there.
    Refused(Error),
    /// Nobody answers, or the connection broke.
    NoAnswer(String),
    /// It came, but too slowly.
    Slow(String),
    /// It is larger than this.
    TooLarge(u64),
    /// It cannot be put aside on our own disk.
    Disk(std::io::Error),
    Stopped,
}

impl Lost {
    fn at(self, url: &Url) -> Self {
        let place = |why: String| format!("{}: {why}", shown(url));
        match self {
            Self::NoAnswer(why) => Self::NoAnswer(place(why)),
            Self::Slow(why) => Self::Slow(place(why)),
            other => other,
        }
    }
}

fn lost(error: reqwest::Error) -> Lost {
    match explain(error) {
        Error::Failed(why) => Lost::NoAnswer(why),
        other => Lost::NoAnswer(other.to_string()),
    }
}

/// When a host wants to be asked again: `retry-after` in seconds, or the end of its counting period.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let until = |at: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(at).checked_sub(now)
    };
    let asked = number("retry-after").map(Duration::from_secs);
    asked.or_else(|| number("ratelimit-reset").filter(|_| number("ratelimit-remaining") == Some(0)).and_then(until))
}

/// Holds a body to a lowest speed, looked at every few seconds, and to an end.
struct LowestSpeed {
    bytes_per_second_min: u64,
    time_max: Duration,
    until: Instant,
    since: Instant,
    bytes: u64,
}

/// How often the speed of a body is looked at.
const SPEED_LOOK_EVERY: Duration = Duration::from_secs(5);

impl LowestSpeed {
    fn new(bytes_per_second_min: u64, time_max: Duration) -> Self {
        let now = Instant::now();
        Self { bytes_per_second_min, time_max, until: now + time_max, since: now, bytes: 0 }
    }

    /// Time that does not count has passed.
    fn go_on_after(&mut self, paused: Duration) {
        self.until += paused;
        (self.since, self.bytes) = (Instant::now(), 0);
    }

    fn look_at(&self) -> Instant {
        self.until.min(self.since + SPEED_LOOK_EVERY)
    }

    fn count(&mut self, bytes: usize) -> std::result::Result<(), String> {
        self.bytes += bytes as u64;
        if Instant::now() < self.look_at() { Ok(()) } else { self.look() }
    }

    fn look(&mut self) -> std::result::Result<(), String> {
        if Instant::now() >= self.until {
            return Err(format!("not all there after {} s", self.time_max.as_secs()));
        }
        let seconds = self.since.elapsed().as_secs_f64().max(0.001);
        let speed = (self.bytes as f64 / seconds) as u64;
        if speed < self.bytes_per_second_min {
            return Err(format!("{speed} bytes a second, {} are the least", self.bytes_per_second_min));
        }
        (self.since, self.bytes) = (Instant::now(), 0);
        Ok(())
    }
}

/// Bodies of refusals are short.
const ERROR_BYTES_MAX: usize = 64 << 10;

async fn within<T>(time_max: Duration, url: &Url, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(time_max, work).await {
        Ok(Ok(it)) => Ok(it),
        Ok(Err(Error::Failed(why))) => Err(Error::Failed(format!("{}: {why}", shown(url)))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Failed(format!("{}: no answer within {} ms", shown(url), time_max.as_millis()))),
    }
}

/// A URL as it is shown to people: without credentials and query.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

async fn read(sent: reqwest::Result<Response>, body_bytes_max: usize) -> Result<Answer> {
    let response = sent.map_err(explain)?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: body(response, body_bytes_max).await? })
}

async fn body(response: Response, bytes_max: usize) -> Result<Bytes> {
    if response.content_length().is_some_and(|len| len > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let mut whole = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(explain)?;
        if whole.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

fn too_large(bytes_max: usize) -> Error {
    Error::Refused(format!("the answer is larger than {bytes_max} bytes"))
}

fn explain(error: reqwest::Error) -> Error {
    let error = error.without_url();
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        why = format!("{why}: {inner}");
        cause = inner.source();
    }
    Error::Failed(why)
}

/// Whether network data may lead us to this URL; the reason if not. Names are checked again once they are resolved.
fn check(url: &Url, allow_private: bool, any_port: bool) -> std::result::Result<(), &'static str> {
    if !matches!(url.scheme(), "https" | "http") {
        return Err("neither https nor http");
    }
    if allow_private {
        return Ok(());
    }
    if url.scheme() != "https" {
        return Err("not https");
    }
    if !any_port && url.port().is_some() {
        return Err("a port of its own");
    }
    match url.host() {
        Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => Err("this machine"),
        Some(Host::Domain(_)) => Ok(()),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => Err("an address instead of a name"),
        None => Err("no host"),
    }
}

/// Resolves names to public addresses only, so that a name cannot point into our own network.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|at| is_public(at.ip())).collect();
            if public.is_empty() {
                return Err(format!("{host} has no public address").into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public network.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    let s = ip.segments();
    let embedded = |high: u16, low: u16| is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        // Translated and tunnelled IPv4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, ..] | [0x2001, 0, ..] | [0x2001, 0xdb8, ..] | [0x100, 0, 0, 0, ..] | [0, 0, 0, 0, ..] => false,
        // Global unicast only: no unique local, link-local, site-local or multicast addresses.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for inner in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2001:db8::1",
            "2001::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(inner.parse().unwrap()), "{inner}");
        }
    }

    #[test]
    fn network_data_may_name_public_https_hosts_only() {
        let says = |url: &str, private| check(&Url::parse(url).unwrap(), private, false);
        assert!(says("https://pds.example/x", false).is_ok());
        for url in [
            "http://pds.example",
            "https://pds.example:8443",
            "https://127.0.0.1",
            "https://[::1]",
            "https://localhost",
            "https://a.localhost",
            "ftp://x.example",
        ] {
            assert!(says(url, false).is_err(), "{url}");
        }
        assert!(says("http://localhost:2583", true).is_ok());
        assert!(check(&Url::parse("https://pds.example:8443").unwrap(), false, true).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_points_inside_is_refused_after_resolution() {
        let refused = PublicOnly.resolve("localhost".parse().unwrap()).await;
        assert!(refused.is_err());
    }

    #[test]
    fn a_host_says_when_to_come_again_in_two_ways() {
        let says = |pairs: &[(&'static str, String)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()));
            retry_after(&HeaderMap::from_iter(pairs))
        };
        assert_eq!(says(&[("retry-after", "7".into())]), Some(Duration::from_secs(7)));
        assert_eq!(says(&[("retry-after", "some day".into())]), None);
        let later = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 90;
        let reset = ("ratelimit-reset", later.to_string());
        assert_eq!(says(&[reset.clone(), ("ratelimit-remaining", "5".into())]), None);
        let found = says(&[reset, ("ratelimit-remaining", "0".into())]).unwrap();
        assert!((80..=90).contains(&found.as_secs()), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_given_up_and_a_stream_is_not() {
        let mut speed = LowestSpeed::new(1000, Duration::from_secs(60));
        for _ in 0..30 {
            tokio::time::advance(Duration::from_secs(1)).await;
            speed.count(1500).unwrap();
        }
        // Quick enough, and still too much.
        for _ in 30..60 {
            tokio::time::advance(Duration::from_secs(1)).await;
            let _ = speed.count(1500);
        }
        assert!(speed.count(1500).is_err());
        let mut trickle = LowestSpeed::new(1000, Duration::from_secs(600));
        let lasted = async {
            for second in 1.. {
                tokio::time::advance(Duration::from_secs(1)).await;
                if trickle.count(1).is_err() {
                    return second;
                }
            }
            0
        };
        assert_eq!(lasted.await, SPEED_LOOK_EVERY.as_secs());
    }
}
