//! What callers do: F43 to F51.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use gp_drill::{
    Row,
    confine::MemoryBound,
    data::{self, GET_POSTS},
    load::{self, Felt, Hosts, Load, Offer},
    program::{Program, Watch},
    rig::{CONNECTIONS, LARGE_KEYS, is_close, p99s, settled},
    wire::{Call, Connection, Metrics, Reply},
};
use gp_proto::dynamic;

use super::{Ctx, incident::note_twin};

const RESOURCE_EXHAUSTED: u32 = 8;
const DEADLINE_EXCEEDED: u32 = 4;
const INVALID_ARGUMENT: u32 = 3;

/// A call for posts.
async fn ask(connection: &mut Connection, frame: Bytes, deadline: Option<&str>) -> Result<Reply> {
    connection.call(&Call { path: GET_POSTS, caller: "appview", frame, deadline }).await
}

/// What is left of work in a plane: units, calls, bytes, waiting.
async fn left(admin: SocketAddr) -> Result<[f64; 4]> {
    let metrics = Metrics::of(admin).await?;
    let names = [
        "groundplane_admission_inflight{",
        "groundplane_rpc_inflight{",
        "groundplane_memory_inflight_bytes{",
        "groundplane_admission_queue_depth{",
    ];
    Ok(names.map(|name| metrics.sum(name)))
}

/// Waits until nothing is left, and says what is left at the end of the patience.
async fn until_nothing_left(admin: SocketAddr, patience: Duration) -> Result<([f64; 4], Duration)> {
    let begun = Instant::now();
    loop {
        let now = left(admin).await?;
        if now == [0.0; 4] || begun.elapsed() > patience {
            return Ok((now, begun.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Calls that are given up, many at once and again and again.
pub(super) async fn f43(ctx: &Ctx) -> Result<Row> {
    const AT_ONCE: usize = 1_000;
    let cycles = if ctx.scale.short { 2_000 } else { 10_000 };
    let mut row = Row::new(
        "F43",
        "",
        "queued work gone within 50 ms, at most one page for each call afterwards, leaked permits 0",
    );
    let plane = Program::start(&ctx.rig.scripted(&ctx.rig.data(), &["--delay-us", "20000"])).await?;
    let requests = ctx.rig.posts.large(4, 1_024);
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(Connection::open(plane.listen).await?);
    }
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..AT_ONCE {
        let (mut connection, frame) = (connections[n % connections.len()].clone(), requests[n % 4].0.clone());
        calls.spawn(async move { ask(&mut connection, frame, None).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let waited = left(plane.admin).await?;
    calls.shutdown().await;
    let gone = Instant::now();
    let mut queue_gone = None;
    while queue_gone.is_none() && gone.elapsed() < Duration::from_secs(3) {
        let took_from = gone.elapsed();
        if left(plane.admin).await?[3] == 0.0 {
            queue_gone = Some(took_from);
        }
    }
    let read_then = Metrics::of(plane.admin).await?.sum("groundplane_store_keys_read_total");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let read_later = Metrics::of(plane.admin).await?.sum("groundplane_store_keys_read_total") - read_then;
    row.measure(format!(
        "{AT_ONCE} calls of 1,024 keys given up with {:.0} slices waiting: queue empty after {} ms, {read_later:.0} keys read after that",
        waited[3],
        queue_gone.map_or("-".into(), |it| it.as_millis().to_string())
    ));
    row.check(waited[3] > 0.0, "nothing was waiting: this shows nothing");
    ctx.scale.check_time(&mut row, queue_gone.is_some_and(|it| it <= Duration::from_millis(50)), "the queue");
    row.check(read_later <= (AT_ONCE * 256) as f64, "reads went on");
    let begun = Instant::now();
    let frame = requests[0].0.clone();
    let small = ctx.rig.small[0].0.clone();
    for n in 0..cycles {
        let connection = &mut connections[n % 8];
        let call = Call {
            path: GET_POSTS,
            caller: "appview",
            frame: if n % 50 == 0 { frame.clone() } else { small.clone() },
            deadline: None,
        };
        // Sometimes before it is sent, sometimes while it is under way.
        let patience = Duration::from_micros([0, 100, 1_000][n % 3]);
        let _ = tokio::time::timeout(patience, connection.call(&call)).await;
        if connection.is_closed() {
            *connection = Connection::open(plane.listen).await?;
        }
    }
    let (now, _) = until_nothing_left(plane.admin, Duration::from_secs(15)).await?;
    row.measure(format!(
        "{cycles} cycles in {:.0} s; left at the end: {:.0} units, {:.0} calls, {:.0} bytes, {:.0} waiting",
        begun.elapsed().as_secs_f64(),
        now[0],
        now[1],
        now[2],
        now[3]
    ));
    row.check(now == [0.0; 4], "something was not given back");
    Ok(row)
}

/// Deadlines of every kind.
pub(super) async fn f44(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new(
        "F44",
        "",
        "work stops <= 10 ms after expiry, ours is applied where none is given, malformed is INVALID_ARGUMENT",
    );
    let mut plane = Program::start(&ctx.rig.scripted(&ctx.rig.data(), &["--delay-us", "400000"])).await?;
    let mut connection = Connection::open(plane.listen).await?;
    let frame = data::asking([ctx.rig.posts.uris[0].as_str()]);
    let mut over = Vec::new();
    for ms in [1u64, 10, 50, 100, 300].repeat(if ctx.scale.short { 1 } else { 4 }) {
        let begun = Instant::now();
        let reply = ask(&mut connection, frame.clone(), Some(&format!("{ms}m"))).await?;
        over.push((begun.elapsed().as_secs_f64() * 1e3 - ms as f64, ms));
        row.check(reply.code == DEADLINE_EXCEEDED, format!("{ms} ms ended with code {}", reply.code));
    }
    over.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, worst) = (over[over.len() / 2].0, over[over.len() - 1].0);
    row.measure(format!("1 to 300 ms: ends {median:.1} ms after its deadline (median), {worst:.1} ms at worst"));
    ctx.scale.check_time(&mut row, worst <= 10.0, "an answer that came too late");
    for wrong in ["", "5", "-1S", "1.5S", "123456789m", "soon", "10 m", "99999999999H"] {
        let reply = ask(&mut connection, frame.clone(), Some(wrong)).await?;
        row.check(reply.code == INVALID_ARGUMENT, format!("{wrong:?} ended with code {}", reply.code));
    }
    row.measure("8 malformed ones: INVALID_ARGUMENT");
    let reply = ask(&mut connection, frame.clone(), Some("30S")).await?;
    row.check(reply.code == 0, format!("30 s ended with code {}", reply.code));
    if !ctx.scale.short {
        plane.tell("delay_us 13000000");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        let reply = ask(&mut connection, frame, None).await?;
        row.measure(format!("none: code {} after {:.2} s", reply.code, begun.elapsed().as_secs_f64()));
        row.check(
            reply.code == DEADLINE_EXCEEDED && begun.elapsed() < Duration::from_millis(10_500),
            "none: ours is not applied",
        );
        plane.kill();
    }
    Ok(row)
}

/// Callers that ask for much and read nothing.
pub(super) async fn f45(ctx: &Ctx) -> Result<Row> {
    let stalled = if ctx.scale.short { 20 } else { 100 };
    let mut row = Row::new(
        "F45",
        "",
        "bytes in flight <= their budget (a quarter of the memory), evicted at their deadline, others' p99 <= 1.25x",
    );
    let memory = MemoryBound::new("f45", 1 << 30).ok();
    let mut start = ctx.rig.serve(&ctx.rig.data(), &["--near-cache-mib", "128"]);
    start.memory = memory.as_ref();
    let plane = Program::start(&start).await?;
    ctx.rig.warm(&plane).await?;
    let hosts = Hosts::new(&[plane.listen], CONNECTIONS);
    let small = Load::begin(&hosts, ctx.rig.w0(300.0));
    drop(small.during(Duration::from_secs(1)).await);
    let quiet = small.during(ctx.scale.quiet).await;
    let mut unread = Vec::new();
    let mut codes: std::collections::BTreeMap<String, u32> = Default::default();
    for n in 0..stalled {
        let mut connection = Connection::with_window(plane.listen, 64 << 10).await?;
        let (frame, _) = ctx.rig.large[n % ctx.rig.large.len()].clone();
        let call = Call { path: GET_POSTS, caller: "batch-job", frame, deadline: None };
        let begun = tokio::time::timeout(Duration::from_secs(20), connection.begin(&call)).await;
        if let Ok(Ok(response)) = begun {
            let status = response.headers().get("grpc-status").and_then(|it| it.to_str().ok()).unwrap_or("begun");
            *codes.entry(status.to_owned()).or_default() += 1;
            unread.push((connection, response));
        }
    }
    let mut most: f64 = 0.0;
    let metrics = Metrics::of(plane.admin).await?;
    let budget = metrics.sum("groundplane_memory_inflight_limit_bytes{");
    drop(small.take());
    let begun = Instant::now();
    let watched = if ctx.scale.short { Duration::from_secs(2) } else { Duration::from_secs(24) };
    while begun.elapsed() < watched {
        most = most.max(Metrics::of(plane.admin).await?.sum("groundplane_memory_inflight_bytes{"));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let now = small.take();
    let metrics = Metrics::of(plane.admin).await?;
    let (held, dropped) =
        (metrics.sum("groundplane_memory_inflight_bytes{"), metrics.sum("groundplane_answers_dropped_total"));
    row.measure(format!(
        "{stalled} callers, answers begun or refused {codes:?}; at most {:.0} MiB of {:.0} in flight; after {:.0} s {dropped:.0} \
         dropped and {:.0} MiB held; {}; {} failed",
        most / (1 << 20) as f64,
        budget / (1 << 20) as f64,
        watched.as_secs_f64(),
        held / (1 << 20) as f64,
        p99s(&quiet, &now),
        now.failed()
    ));
    row.check(most <= budget && budget > 0.0, "more bytes than the budget");
    if memory.is_some() {
        row.check(budget <= (256 << 20) as f64, "the budget does not know the bound of its control group");
    }
    row.check(codes.get("begun").copied().unwrap_or(0) > 0, "no answer was begun");
    row.check(now.failed() == 0, format!("others: {}", now.failures()));
    ctx.scale.check_time(&mut row, is_close(&quiet, &now, 1.25), "others' p99");
    row.check(
        ctx.scale.short || (dropped > 0.0 && held < (16 << 20) as f64),
        "answers are not dropped at their deadline",
    );
    drop(unread);
    drop(small.end().await);
    Ok(row)
}

/// A hundred calls of 20,000 keys whose records have 64 KiB each, in 512 MiB.
pub(super) async fn f46(ctx: &Ctx) -> Result<Row> {
    const LIMIT: u64 = 512 << 20;
    let calls = if ctx.scale.short { 20 } else { 100 };
    let mut row = Row::new("F46", "", "OOM 0, RSS <= 80 % of the limit, excess is RESOURCE_EXHAUSTED");
    let memory = MemoryBound::new("f46", LIMIT);
    let bounded = memory.as_ref().ok();
    // As an operator starts it: everything in it follows the bound of the control group.
    let mut start = ctx.rig.serve(&ctx.rig.data(), &[]);
    start.memory = bounded;
    let mut plane = Program::start(&start).await?;
    let giants = |keys: usize| {
        let giants = &ctx.rig.posts.giants;
        data::asking((0..keys).map(|n| giants[n % giants.len()].as_str()))
    };
    settled(plane.admin).await?;
    let at_rest = plane.vitals().rss_bytes >> 20;
    let watch = Watch::begin(plane.pid());
    let frame = giants(LARGE_KEYS);
    let mut made = tokio::task::JoinSet::new();
    for n in 0..calls {
        // The largest, and some of every size below, so that not all are refused for their own size.
        let frame = if n % 2 == 0 { frame.clone() } else { giants(100 << (n % 5)) };
        let listen = plane.listen;
        made.spawn(async move {
            let mut connection = Connection::open(listen).await?;
            ask(&mut connection, frame, None).await.map(|reply| (reply.code, reply.message.len()))
        });
    }
    let mut codes: std::collections::BTreeMap<String, u32> = Default::default();
    while let Some(done) = made.join_next().await {
        let code = match done? {
            Ok((code, _)) => code.to_string(),
            Err(e) => format!("{e:#}"),
        };
        *codes.entry(code).or_default() += 1;
    }
    let most = watch.end().await;
    let alive = plane.is_alive();
    row.measure(format!(
        "{calls} calls at once, by code {codes:?}; memory {at_rest} MiB at rest, at most {} MiB of {}; OOM kills {}",
        most.rss_bytes >> 20,
        LIMIT >> 20,
        bounded.map_or("not bounded".into(), |it| it.kills().to_string())
    ));
    row.check(alive, "the process is gone");
    row.check(bounded.is_none_or(|it| it.kills() == 0), "killed by the kernel");
    row.check(most.rss_bytes <= LIMIT / 5 * 4, "memory");
    row.check(codes.contains_key(&RESOURCE_EXHAUSTED.to_string()), "nothing was refused");
    row.check(codes.keys().all(|code| code == "0" || *code == RESOURCE_EXHAUSTED.to_string()), "another code, or none");
    if alive {
        let mut connection = Connection::open(plane.listen).await?;
        let reply = ask(&mut connection, ctx.rig.small[0].0.clone(), None).await?;
        row.check(reply.code == 0, "it does not answer afterwards");
    }
    drop(plane);
    note_twin(&mut row, twin_with_giants(ctx, &giants(2_000)).await);
    Ok(row)
}

async fn twin_with_giants(ctx: &Ctx, frame: &Bytes) -> Result<(Felt, u64)> {
    let memcached = ctx.rig.memcached().await?;
    let value = vec![b'x'; 63 << 10];
    let values = ctx.rig.posts.giants.iter().map(|uri| (gp_drill::twin::key_of(uri), value.clone()));
    memcached.fill(values).await?;
    let bound = MemoryBound::new("f46-twin", 512 << 20).ok();
    let mut start = ctx.rig.twin(memcached.address);
    start.memory = bound.as_ref();
    let twin = Program::start(&start).await?;
    let requests = Arc::new(vec![(frame.clone(), 2_000)]);
    let offer = Offer { looks: false, ..Offer::posts("batch-job", &requests, 1.0) };
    let felt = load::saturate(&Hosts::new(&[twin.listen], 10), &offer, 10, Duration::from_secs(3)).await;
    Ok((felt, gp_drill::program::sockets_to(memcached.address.port()).values().sum()))
}

/// A stored value that is none of ours, among others. One in memcached is played by `cargo xtask faults`.
pub(super) async fn f47(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new("F47", "", "other keys right, stored poison absent and counted, panics 0");
    let folder = ctx.rig.copy("poisoned")?;
    let poisoned = 7;
    data::poison(&folder, &ctx.rig.posts.uris[poisoned])?;
    let plane = Program::start(&ctx.rig.serve(&folder, &[])).await?;
    let mut connection = Connection::open(plane.listen).await?;
    let (mut asked, mut wrong, mut present) = (0, 0, 0);
    for keys in [8, 50, 500, 5_000] {
        let frame = data::asking(ctx.rig.posts.uris.iter().take(keys).map(String::as_str));
        let reply = ask(&mut connection, frame, None).await?;
        row.check(reply.code == 0, format!("{keys} keys ended with code {}", reply.code));
        let answered = dynamic::response_to_json("GetPostRecords", &reply.message, false)?;
        asked += keys;
        for (n, record) in answered["records"].as_array().into_iter().flatten().enumerate() {
            wrong += u32::from(record["cid"].as_str().unwrap_or_default().is_empty() != (n == poisoned));
            present += 1;
        }
    }
    let metrics = Metrics::of(plane.admin).await?;
    let counted = metrics.with("groundplane_record_decode_errors_total", "entity=\"record\",source=\"store\"");
    let panics = metrics.sum("groundplane_rpc_panics_total{");
    row.measure(format!(
        "{present} of {asked} keys answered in their places, {wrong} wrong; counted {counted:.0} times in 4 calls, {panics:.0} panics"
    ));
    row.check(present == asked && wrong == 0, "other keys are not right");
    row.check(counted == 4.0 && panics == 0.0, "the counter does not tell");
    Ok(row)
}

/// Requests that nobody in his right mind sends.
pub(super) async fn f48(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new(
        "F48",
        "",
        "answers aligned always, store reads <= distinct keys, over the hard cap RESOURCE_EXHAUSTED before any read",
    );
    let plane = Program::start(&ctx.rig.serve(&ctx.rig.data(), &[])).await?;
    let mut connection = Connection::open(plane.listen).await?;
    let read = async || anyhow::Ok(Metrics::of(plane.admin).await?.sum("groundplane_store_keys_read_total"));
    let uri = |n: usize| ctx.rig.posts.uris[n].clone();
    let odd: Vec<String> = vec![
        String::new(),
        "at://".into(),
        "at:////".into(),
        "at://did:plc:x/app.bsky.feed.post/".into(),
        format!("{}/more", uri(1)),
        format!("at://{}", "x".repeat(9_000)),
        "\u{0}\n\u{202e}".into(),
        "at://did:plc:../../etc/passwd".into(),
        uri(2),
    ];
    let cases: Vec<(&str, Vec<String>, usize)> = vec![
        ("nothing", Vec::new(), 0),
        ("20,000 times the same key", vec![uri(0); LARGE_KEYS], 1),
        ("malformed ones", vec![odd.clone(); 50].concat(), odd.len()),
        ("20,000 empty ones", vec![String::new(); LARGE_KEYS], 1),
        ("100,000 keys", (0..100_000).map(|n| uri(n % 20_000)).collect(), 20_000),
    ];
    let (mut aligned, mut asked) = (0, 0);
    for (what, uris, distinct) in cases {
        let keys = uris.len();
        let before = read().await?;
        let reply = ask(&mut connection, data::asking(uris), None).await?;
        let reads = read().await? - before;
        asked += 1;
        // A call over its bytes may be refused, but never answered short.
        let fits = reply.code == 0 && data::has_an_entry_for_each(&reply.message, keys);
        aligned += u32::from(fits);
        row.check(
            fits || (keys > LARGE_KEYS && reply.code == RESOURCE_EXHAUSTED),
            format!("{what}: code {}", reply.code),
        );
        // A post has two rows that may be read for it.
        row.check(reads <= (distinct * 2) as f64, format!("{what}: {reads:.0} reads for {distinct} distinct keys"));
    }
    // A call that was refused half way may still be reading.
    until_nothing_left(plane.admin, Duration::from_secs(15)).await?;
    let before = read().await?;
    let many: Vec<String> = (0..100_001).map(|n| uri(n % 20_000)).collect();
    let reply = ask(&mut connection, data::asking(many), None).await?;
    row.check(
        reply.code == RESOURCE_EXHAUSTED && read().await? == before,
        format!("over the cap: code {}", reply.code),
    );
    // Every method that answers with records in the order of its keys.
    let mut methods = 0;
    for (name, _, _) in gp_proto::METHODS.iter().filter(|(name, ..)| name.ends_with("Records")) {
        let of = if ["Profile", "Status", "Declaration"].iter().any(|it| name.contains(it)) { "dids" } else { "uris" };
        for list in [vec![odd.clone(); 60].concat(), vec![uri(0); 777]] {
            let made = [of, "uris", "dids"].into_iter().find_map(|field| {
                dynamic::request_from_json(name, &serde_json::json!({ field: list }).to_string()).ok()
            });
            let request = made.with_context(|| format!("a request of {name}"))?;
            let path = format!("/{}/{name}", gp_proto::SERVICE);
            let frame = gp_drill::wire::frame(&request);
            let reply = connection.call(&Call { path: &path, caller: "appview", frame, deadline: None }).await?;
            let answered = dynamic::response_to_json(name, &reply.message, false)?;
            let records = answered["records"].as_array().map_or(0, Vec::len);
            row.check(reply.code == 0 && records == list.len(), format!("{name}: {records} for {} keys", list.len()));
        }
        methods += 1;
    }
    row.measure(format!(
        "{aligned} of {asked} odd requests aligned; 100,001 keys refused before a read; {methods} methods of records aligned over \
         malformed keys and duplicates"
    ));
    row.check(methods >= 19, "methods of records are missing");
    Ok(row)
}

/// SIGTERM under load, with another instance to go to.
pub(super) async fn f49(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new("F49", "", "0 failed calls seen by callers, drained within 10 s");
    let start = ctx.rig.serve(&ctx.rig.copy("second")?, &[]);
    let mut leaving = Program::start(&start).await?;
    let other = Program::start(&ctx.rig.serve(&ctx.rig.data(), &[])).await?;
    ctx.rig.warm(&other).await?;
    let load = Load::begin(&Hosts::new(&[leaving.listen, other.listen], CONNECTIONS), ctx.rig.w0(300.0));
    drop(load.during(Duration::from_secs(1)).await);
    let (mut slowest, mut killed) = (Duration::ZERO, 0);
    for _ in 0..if ctx.scale.short { 1 } else { 3 } {
        match leaving.stop().await {
            Some(took) => slowest = slowest.max(took),
            None => killed += 1,
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        leaving = Program::start_at(&start, leaving.listen, leaving.admin).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let felt = load.take();
    drop(load.end().await);
    row.measure(format!(
        "{} of {} calls answered, {} tries; failed: {}; slowest drain {:.2} s",
        felt.answered(),
        felt.calls(),
        felt.tries,
        felt.failures(),
        slowest.as_secs_f64()
    ));
    row.check(felt.failed() == 0 && felt.answered() > 0, "calls failed");
    row.check(killed == 0 && slowest <= Duration::from_secs(10), "draining takes too long");
    Ok(row)
}

/// A collector of traces that takes everything and answers nothing, and a scrape each second.
pub(super) async fn f50(ctx: &Ctx) -> Result<Row> {
    let mut row = Row::new("F50", "", "p99 <= 1.01x, queues bounded and drops counted, exposition <= 50 ms");
    let hole = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", hole.local_addr()?);
    let swallowing = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = hole.accept().await {
            open.push(stream);
        }
    });
    let plain_start = ctx.rig.serve(&ctx.rig.copy("second")?, &[]);
    let plain = Program::start(&plain_start).await?;
    let traced = Program::start(&ctx.rig.serve(&ctx.rig.data(), &["--otlp-url", &url])).await?;
    ctx.rig.warm(&plain).await?;
    ctx.rig.warm(&traced).await?;
    let admin = traced.admin;
    let scrapes: Arc<parking_lot::Mutex<Vec<f64>>> = Arc::default();
    let noted = Arc::clone(&scrapes);
    let scraping = tokio::spawn(async move {
        loop {
            let begun = Instant::now();
            if Metrics::of(admin).await.is_ok() {
                noted.lock().push(begun.elapsed().as_secs_f64() * 1e3);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let before = traced.vitals();
    let hosts = [plain.listen, traced.listen].map(|listen| Hosts::new(&[listen], CONNECTIONS));
    let mut p99s: [Vec<f64>; 2] = Default::default();
    let mut all = [Felt::default(), Felt::default()];
    for _ in 0..if ctx.scale.short { 1 } else { 6 } {
        for (at, hosts) in hosts.iter().enumerate() {
            let load = Load::begin(hosts, ctx.rig.w0(400.0));
            drop(load.during(Duration::from_millis(500)).await);
            let felt = load.during(ctx.scale.quiet / 3).await;
            drop(load.end().await);
            p99s[at].push(felt.p99_ms());
            all[at].add(&felt);
        }
    }
    // Some large calls: these are always traced.
    let mut connection = Connection::open(traced.listen).await?;
    for n in 0..if ctx.scale.short { 300 } else { 3_000 } {
        let uris = ctx.rig.posts.uris.iter().skip(n).take(501).map(String::as_str);
        drop(ask(&mut connection, data::asking(uris), None).await?);
    }
    scraping.abort();
    swallowing.abort();
    p99s.iter_mut().for_each(|it| it.sort_by(f64::total_cmp));
    let [plain_p99, traced_p99] = [0, 1].map(|at| p99s[at][p99s[at].len() / 2]);
    let worst_plain = p99s[0][p99s[0].len() - 1];
    let metrics = Metrics::of(traced.admin).await?;
    let (kept, dropped) =
        (metrics.sum("groundplane_telemetry_kept_total{"), metrics.sum("groundplane_telemetry_dropped_total{"));
    let slowest = scrapes.lock().iter().copied().fold(0.0, f64::max);
    let grown = traced.vitals().rss_bytes.saturating_sub(before.rss_bytes) >> 20;
    row.measure(format!(
        "median p99 of {} rounds {plain_p99:.2} ms without, {traced_p99:.2} ms with ({:.2}x; rounds without went up to {:.2}x of their \
         own median); {kept:.0} traces kept, {dropped:.0} dropped; memory +{grown} MiB; slowest scrape {slowest:.1} ms; {} failed",
        p99s[0].len(),
        traced_p99 / plain_p99,
        worst_plain / plain_p99,
        all[1].failed()
    ));
    row.check(all[1].failed() == 0, all[1].failures());
    // A difference of one in a hundred is far below what the rounds of one side differ by on a shared machine.
    ctx.scale.check_time(&mut row, traced_p99 <= (plain_p99 * 1.01).max(worst_plain), "p99");
    row.check(dropped > 0.0 && kept > 0.0, "no trace was dropped: nothing is shown");
    row.check(grown <= 64, "memory grows");
    ctx.scale.check_time(&mut row, slowest <= 50.0, "a scrape takes too long");
    Ok(row)
}

/// Names that nobody knows.
pub(super) async fn f51(ctx: &Ctx) -> Result<Row> {
    let names = if ctx.scale.short { 2_000 } else { 10_000 };
    let mut row = Row::new("F51", "", "series unchanged beyond other and unknown");
    let plane = Program::start(&ctx.rig.serve(&ctx.rig.data(), &[])).await?;
    let mut connection = Connection::open(plane.listen).await?;
    let frame = data::asking([ctx.rig.posts.uris[0].as_str()]);
    let call = async |connection: &mut Connection, path: &str, caller: &str| {
        connection.call(&Call { path, caller, frame: frame.clone(), deadline: None }).await.map(|it| it.code)
    };
    // One of each first: known, other, unknown, no such method.
    for caller in ["appview", "nobody-0", ""] {
        call(&mut connection, GET_POSTS, caller).await?;
        call(&mut connection, "/bsky.Service/Nothing", caller).await?;
    }
    let before = Metrics::of(plane.admin).await?.len();
    for n in 0..names {
        let name = format!("nobody-{n}-{:x}", n * 2_654_435_761_usize);
        call(&mut connection, GET_POSTS, &name).await?;
        if n % 4 == 0 {
            call(&mut connection, &format!("/bsky.Service/Nothing{n}"), &name).await?;
        }
    }
    let after = Metrics::of(plane.admin).await?;
    let other = after.with("groundplane_rpc_requests_total", "caller=\"other\"");
    row.measure(format!(
        "{before} series before, {} after {names} names; {other:.0} calls counted as other",
        after.len()
    ));
    row.check(after.len() == before, "series grow");
    row.check(other >= names as f64, "calls are not counted");
    Ok(row)
}
