//! `groundplane doctor`: is this machine fit for these settings, and does everybody answer who is asked?
//!
//! Takes the settings of `serve`, starts nothing, changes nothing (but for a file in the data folder that comes and
//! goes), and says what to change. The exit code is 1 if something must change.

use std::{
    fmt, fs,
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use futures::StreamExt as _;
use gp_serve::host::{self, Ports};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    serve::install_tls,
    settings::{Settings, Wrong},
    telemetry,
};

/// How long somebody who is asked may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Upstreams asked at the same time.
const ASKED_AT_A_TIME: usize = 8;

/// Files and sockets: below the first, callers are turned away soon; below the second, in a bad hour.
const DESCRIPTORS_MIN: u64 = 1_024;
const DESCRIPTORS_GOOD: u64 = 8_192;
/// Ports for outgoing connections.
const PORTS_MIN: u32 = 1_000;
const PORTS_GOOD: u32 = 10_000;
/// The part of the ports towards one address that may be in use.
const PORTS_USED_MAX: f64 = 0.3;
/// Bytes free on the disk: the first is what the store keeps free, the second lets it grow for a while.
const DISK_MIN: u64 = 1 << 30;
const DISK_GOOD: u64 = 20 << 30;
/// Memory beside the caches and what is in flight: code, the index of words, rows on their way.
const MEMORY_BESIDE: u64 = 384 << 20;
/// Seconds that the clock may be wrong. A minute is felt in what is called new, five are refused by others.
const CLOCK_GOOD_S: u64 = 10;
const CLOCK_MAX_S: u64 = 120;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Good,
    /// It works, and would be better otherwise.
    Should,
    /// It does not work, or not for long.
    Must,
}

/// What was found about one thing.
#[derive(Debug, PartialEq)]
struct Finding {
    verdict: Verdict,
    about: String,
    /// What is, and, unless it is good, what to do.
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Should => "should",
            Verdict::Must => "MUST",
        };
        write!(f, "{verdict:<7} {:<16} {}", self.about, self.text)
    }
}

fn good(about: &str, text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Good, about: about.into(), text: text.into() }
}

fn should(about: &str, text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Should, about: about.into(), text: text.into() }
}

fn must(about: &str, text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Must, about: about.into(), text: text.into() }
}

/// Looks at everything and says it. Whether nothing must change.
pub(crate) fn run(settings: Settings) -> Result<bool> {
    install_tls();
    let (mut findings, settings) = match settings.clone().checked() {
        Ok(checked) => (vec![good("settings", "can be served with")], checked),
        Err(Wrong(why)) => (vec![must("settings", why)], settings),
    };
    findings.extend(host_findings(&settings));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    findings.extend(runtime.block_on(peer_findings(&settings)));
    for node in settings.memcached_nodes() {
        findings.push(runtime.block_on(memcached(&node)));
    }
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let count = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
    let (musts, shoulds) = (count(Verdict::Must), count(Verdict::Should));
    text += &match (musts, shoulds) {
        (0, 0) => "\nNothing to change.".to_owned(),
        (0, _) => format!("\nIt will work; {shoulds} should be better."),
        _ => format!("\n{musts} must change, {shoulds} should."),
    };
    telemetry::say(&text);
    Ok(musts == 0)
}

// --- This machine ----------------------------------------------------------------------------------------------------

fn host_findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![descriptors(host::descriptors_max())];
    findings.extend(ports(host::ports().as_ref(), [settings.listen, settings.admin_listen]));
    let limit = host::memory_limit_bytes();
    findings.push(memory(limit, settings.caches(limit).sum()));
    findings.push(disk(&settings.data_dir));
    findings.push(listening("--listen", settings.listen));
    findings.push(listening("--admin-listen", settings.admin_listen));
    findings.push(exposed(settings.admin_listen, settings.admin_token.is_some()));
    findings
}

fn descriptors(may_be_open: Option<u64>) -> Finding {
    let about = "descriptors";
    match may_be_open {
        None => should(about, "the kernel does not say how many files and sockets may be open"),
        Some(n) if n < DESCRIPTORS_MIN => must(
            about,
            format!("{n} files and sockets may be open: raise it to {DESCRIPTORS_GOOD} (ulimit -n, LimitNOFILE=)"),
        ),
        Some(n) if n < DESCRIPTORS_GOOD => should(
            about,
            format!(
                "{n} files and sockets may be open: {DESCRIPTORS_GOOD} leave room for a bad hour (ulimit -n, LimitNOFILE=)"
            ),
        ),
        Some(n) => good(about, format!("{n} files and sockets may be open")),
    }
}

fn ports(ports: Option<&Ports>, ours: [SocketAddr; 2]) -> Vec<Finding> {
    let about = "ports";
    let Some(ports) = ports else {
        return vec![should(about, "the kernel does not say which ports outgoing connections get")];
    };
    let (first, last) = (*ports.range.start(), *ports.range.end());
    let count = u32::from(last - first) + 1;
    let mut findings = vec![match count {
        n if n < PORTS_MIN => must(
            about,
            format!("{n} ports for outgoing connections: raise net.ipv4.ip_local_port_range to 32768 60999"),
        ),
        n if n < PORTS_GOOD => should(
            about,
            format!("{n} ports for outgoing connections: net.ipv4.ip_local_port_range is better 32768 60999"),
        ),
        n => good(about, format!("{n} for outgoing connections")),
    }];
    if ports.used_most > PORTS_USED_MAX {
        let part = ports.used_most * 100.0;
        findings.push(must(
            about,
            format!("{part:.0} % of them are in use towards one address: find who opens and closes connections (ss -tan state time-wait)"),
        ));
    }
    for address in ours.into_iter().filter(|it| ports.range.contains(&it.port())) {
        let port = address.port();
        findings.push(should(
            about,
            format!("{port} may be given to somebody's outgoing connection before we start: put it into net.ipv4.ip_local_reserved_ports"),
        ));
    }
    findings
}

fn memory(limit: Option<u64>, caches: u64) -> Finding {
    let about = "memory";
    let Some(limit) = limit else { return should(about, "the kernel does not say how much there is") };
    let in_flight = (limit / 4).min(1 << 30);
    let wanted = caches.saturating_add(in_flight + MEMORY_BESIDE);
    let said = format!(
        "{} may be used; caches {}, calls in flight {}, the rest about {}",
        mib(limit),
        mib(caches),
        mib(in_flight),
        mib(MEMORY_BESIDE)
    );
    if wanted > limit {
        must(about, format!("{said}: lower --near-cache-mib and --block-cache-mib, or give it more"))
    } else if wanted > limit / 10 * 9 {
        should(about, format!("{said}: there is little to spare"))
    } else {
        good(about, said)
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The folder itself, or the one it would be made in.
fn existing(dir: &Path) -> PathBuf {
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    whole.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn disk(dir: &Path) -> Finding {
    let about = "disk";
    let there = existing(dir);
    let shown = dir.display();
    if !there.is_dir() {
        return must(about, format!("{} is no folder: choose another --data-dir", there.display()));
    }
    let probe = there.join(format!(".groundplane-doctor-{}", std::process::id()));
    if let Err(e) = fs::write(&probe, b"may I?") {
        return must(about, format!("nothing can be written to {}: {e}", there.display()));
    }
    // It was ours; if it cannot be removed, the next look overwrites it.
    let _ = fs::remove_file(&probe);
    match rustix::fs::statvfs(&there) {
        Err(e) => should(about, format!("the room for {shown} cannot be seen: {e}")),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let said = format!("{} free for {shown}", mib(free));
            match free {
                n if n < DISK_MIN => {
                    must(about, format!("{said}: nothing is written with less than {}", mib(DISK_MIN)))
                }
                n if n < DISK_GOOD => should(about, format!("{said}: {} are gone soon", mib(n))),
                _ => good(about, said),
            }
        }
    }
}

fn listening(flag: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => good(flag, format!("{address} is free")),
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            should(flag, format!("{address} is in use: fine if that is the plane itself, otherwise choose another"))
        }
        Err(e) => must(flag, format!("cannot listen on {address}: {e}")),
    }
}

fn exposed(admin: SocketAddr, has_token: bool) -> Finding {
    if admin.ip().is_loopback() || has_token {
        good("admin port", if has_token { "has a token" } else { "only this machine reaches it" })
    } else {
        should(
            "admin port",
            format!(
                "{admin} can be reached from elsewhere and has no token: operator calls are refused until --admin-token is set"
            ),
        )
    }
}

// --- Those who are asked ---------------------------------------------------------------------------------------------

/// Somebody whom the settings name.
struct Peer {
    about: String,
    url: String,
}

fn peers(settings: &Settings) -> Vec<Peer> {
    let mut peers = Vec::new();
    let mut add = |about: &str, base: &str, path: &str| {
        // A stream is asked as if it were a page; that it answers is what counts.
        let base = base.trim_end_matches('/');
        let base = base.strip_prefix("ws").map_or_else(|| base.to_owned(), |rest| format!("http{rest}"));
        peers.push(Peer { about: about.to_owned(), url: format!("{base}{path}") });
    };
    for url in &settings.relay_url {
        add("relay", &gp_ingest::relay_base(url).unwrap_or_else(|_| url.clone()), "/xrpc/_health");
    }
    if settings.has_role("ingest") && !settings.relay_url.is_empty() {
        add("directory", &settings.plc_url, "/_health");
    }
    for (about, url) in [
        ("DID resolver", &settings.did_resolver_url),
        ("handle resolver", &settings.handle_resolver_url),
        ("bsync", &settings.bsync_url),
        ("traces", &settings.otlp_url),
    ] {
        if let Some(url) = url {
            add(about, url, "/");
        }
    }
    for url in &settings.labeler_url {
        add("labeler", url, "/xrpc/_health");
    }
    peers
}

async fn peer_findings(settings: &Settings) -> Vec<Finding> {
    let client = match reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build() {
        Ok(client) => client,
        Err(e) => return vec![must("TLS", format!("cannot be set up: {e}"))],
    };
    let peers = peers(settings);
    if peers.is_empty() {
        return vec![should("upstreams", "none is configured: nothing will be read (--relay-url)")];
    }
    let asked = futures::stream::iter(peers).map(|peer| ask(&client, peer)).buffered(ASKED_AT_A_TIME);
    let answers: Vec<(Finding, Option<SystemTime>)> = asked.collect().await;
    let now = SystemTime::now();
    let times: Vec<SystemTime> = answers.iter().filter_map(|(_, time)| *time).collect();
    let mut findings: Vec<Finding> = answers.into_iter().map(|(finding, _)| finding).collect();
    findings.push(clock(now, &times));
    findings
}

/// Asks for anything at all: that an answer of HTTP comes is what counts, whatever it says.
async fn ask(client: &reqwest::Client, peer: Peer) -> (Finding, Option<SystemTime>) {
    let Peer { about, url } = peer;
    match client.get(&url).send().await {
        Ok(response) => {
            let time = response.headers().get("date").and_then(|date| date.to_str().ok()).and_then(http_date);
            let status = response.status();
            let finding = if status.is_server_error() {
                should(&about, format!("{url} answers {status}: it is there, and not well"))
            } else {
                good(&about, format!("{url} answers"))
            };
            (finding, time)
        }
        Err(e) => {
            // The innermost reason is the one that says something.
            let mut why: &dyn std::error::Error = &e;
            while let Some(inner) = why.source() {
                why = inner;
            }
            (
                must(&about, format!("{url} does not answer ({why}): is it up, is the name right, may we go there?")),
                None,
            )
        }
    }
}

/// A node of memcached: that it says its version. Whether it can what we need, `serve` finds out and says in `/status`.
async fn memcached(node: &str) -> Finding {
    let about = "memcached";
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(node).await?;
        stream.write_all(b"version\r\n").await?;
        let mut line = String::new();
        tokio::io::BufReader::new(stream.take(256)).read_line(&mut line).await?;
        Ok::<_, std::io::Error>(line)
    };
    match tokio::time::timeout(ANSWER_MAX, ask).await {
        Ok(Ok(line)) if line.starts_with("VERSION ") => good(about, format!("{node} answers: {}", line.trim())),
        Ok(Ok(line)) => {
            should(about, format!("{node} answers {:?}, which is no memcached: look at --memcached", line.trim()))
        }
        Ok(Err(e)) => should(about, format!("{node} does not answer ({e}): reads will go to the store")),
        Err(_) => should(about, format!("{node} does not answer in time: reads will go to the store")),
    }
}

/// Seconds since 1970 of a date as HTTP has it: `Thu, 26 Nov 2026 00:10:00 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split([' ', ':', ',']).filter(|it| !it.is_empty()).skip(1);
    let day: u64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|it| *it == month)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let [hour, minute, second]: [u64; 3] =
        [parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?];
    if !(1970..=9_999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from the civil calendar, with years that begin in March so that a leap day comes last.
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * month + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970 * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// Compares our clock with what others said when they answered: with the one that is closest, for theirs may be wrong.
fn clock(now: SystemTime, others: &[SystemTime]) -> Finding {
    let apart = |other: &SystemTime| now.duration_since(*other).unwrap_or_else(|e| e.duration()).as_secs();
    match others.iter().map(apart).min() {
        None => should("clock", "nobody who answered said what time it is: make sure that it is set (timedatectl)"),
        Some(s) if s > CLOCK_MAX_S => {
            must("clock", format!("{s} s apart from those who answered: set it (timedatectl set-ntp true)"))
        }
        Some(s) if s > CLOCK_GOOD_S => {
            should("clock", format!("{s} s apart from those who answered: set it (timedatectl set-ntp true)"))
        }
        Some(_) => good("clock", "as those who answered have it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_judged_by_what_a_bad_hour_takes() {
        let of = |n| descriptors(n).verdict;
        assert_eq!(
            [of(Some(256)), of(Some(1_024)), of(Some(65_536)), of(None)],
            [Verdict::Must, Verdict::Should, Verdict::Good, Verdict::Should]
        );
        let of = |limit_mib: u64| memory(Some(limit_mib << 20), 256 << 20).verdict;
        assert_eq!([of(512), of(900), of(4_096)], [Verdict::Must, Verdict::Should, Verdict::Good]);
        assert!(memory(Some(512 << 20), 256 << 20).text.contains("--near-cache-mib"), "it says what to do");
    }

    #[test]
    fn ports_are_judged_by_number_by_use_and_by_whether_ours_are_among_them() {
        let ours: [SocketAddr; 2] = ["127.0.0.1:2585".parse().unwrap(), "127.0.0.1:40000".parse().unwrap()];
        let of = |range, used_most| -> Vec<Verdict> {
            ports(Some(&Ports { range, used_most }), ours).into_iter().map(|it| it.verdict).collect()
        };
        assert_eq!(of(32_768..=60_999, 0.01), [Verdict::Good, Verdict::Should]);
        assert_eq!(of(50_000..=50_499, 0.0), [Verdict::Must]);
        assert_eq!(of(50_000..=55_000, 0.0), [Verdict::Should]);
        assert_eq!(of(1_024..=39_999, 0.5), [Verdict::Good, Verdict::Must, Verdict::Should]);
        assert_eq!(ports(None, ours)[0].verdict, Verdict::Should);
    }

    #[test]
    fn a_date_of_http_is_understood() {
        let of = |text| http_date(text)?.duration_since(SystemTime::UNIX_EPOCH).ok().map(|it| it.as_secs());
        assert_eq!(of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(of("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for wrong in [
            "",
            "yesterday",
            "Thu, 32 Jan 2024 00:00:00 GMT",
            "Thu, 01 Foo 2024 00:00:00 GMT",
            "Thu, 01 Jan 99999 0:0:0 GMT",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_clock_is_held_against_the_closest() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(clock(now, &[at(5), at(1_000_003)]).verdict, Verdict::Good);
        assert_eq!(clock(now, &[at(999_940)]).verdict, Verdict::Should);
        assert_eq!(clock(now, &[at(1_003_600)]).verdict, Verdict::Must);
        assert_eq!(clock(now, &[]).verdict, Verdict::Should);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_where_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        assert_ne!(disk(&dir.path().join("a/b/c")).verdict, Verdict::Must);
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(disk(&file.join("below")).verdict, Verdict::Must);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
