//! How long `/metrics` takes when it has grown as large as it can: every call of the contract by every caller, in every
//! size, and then a scrape after the other.
//!
//!     cargo run --release -p groundplane-serve --example exposition

use std::{error::Error, sync::Arc, time::Instant};

use bytes::Bytes;
use gp_index::{Cx, system_now_us};
use gp_serve::{CALLERS_MAX, Config, NoOperator, Rpcs, Server};
use gp_store::{Store, Writer, WriterConfig};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Keys of calls that take lists: one number for each size class.
const SIZES: [usize; 7] = [1, 5, 30, 100, 500, 2_000, 6_000];
const SCRAPES: usize = 50;

type Asker = Client<HttpConnector, Full<Bytes>>;

async fn ask(client: &Asker, request: http::Request<Full<Bytes>>) -> Result<Bytes, Box<dyn Error>> {
    Ok(client.request(request).await?.into_body().collect().await?.to_bytes())
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example says what it found")]
async fn main() -> Result<(), Box<dyn Error>> {
    let callers: Vec<String> = (0..CALLERS_MAX).map(|n| format!("caller{n}")).collect();
    let mut rpcs = Rpcs::contract();
    let names: Vec<(&'static str, bool)> = rpcs.iter().map(|rpc| (rpc.name, rpc.lists)).collect();
    for (name, _) in &names {
        rpcs = rpcs.instead(name, |_, _| Box::pin(async { Ok(Bytes::new()) }));
    }
    let store = Store::mem(&[]);
    let (writer, _thread) = Writer::start(store.clone(), WriterConfig::default())?;
    let accounts = gp_index::names::Names::new(1 << 20);
    let cx = Cx {
        window: gp_index::window::Window::over_empty(&store, &accounts, 1 << 20),
        graph: gp_index::graph::Graph::over_empty(&store, &accounts, 1 << 20),
        store,
        writer,
        identity: Arc::new(gp_index::NoIdentities),
        search: Arc::new(gp_index::search::NoSearch),
        sitemap_url: "https://plane.test".into(),
        damage: Arc::default(),
        now_us: system_now_us,
    };
    let (grpc, admin) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let (grpc_at, admin_at) = (grpc.local_addr()?, admin.local_addr()?);
    let config = Config { callers: callers.clone(), ..Config::default() };
    let server = Server::with_rpcs(cx, Arc::new(NoOperator), config, rpcs)?;
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(server.serve(grpc, Some(admin), shutdown.clone()));

    let mut connector = HttpConnector::new();
    // Headers and body are two writes; the second must not wait until the first is acknowledged.
    connector.set_nodelay(true);
    let client: Asker = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
    for caller in callers.iter().map(String::as_str).chain(["somebody"]) {
        for (name, lists) in &names {
            for keys in SIZES.iter().take(if *lists { SIZES.len() } else { 1 }) {
                // As many short strings in the first field, which is where lists of keys are.
                let message = b"\x0a\x01k".repeat(*keys);
                let mut frame = vec![0];
                frame.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
                frame.extend_from_slice(&message);
                let request = http::Request::post(format!("http://{grpc_at}/bsky.Service/{name}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .header("x-atlantis-caller", caller)
                    .body(Full::new(frame.into()))?;
                ask(&client, request).await?;
            }
        }
    }

    let scraper: Asker = Client::builder(TokioExecutor::new()).build_http();
    let mut times = Vec::new();
    let mut page = Bytes::new();
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        page = ask(&scraper, http::Request::get(format!("http://{admin_at}/metrics")).body(Full::default())?).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let series = page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').count();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    println!("{series} series, {} KiB", page.len() >> 10);
    println!("p50 {:.1} ms, p90 {:.1} ms, longest {:.1} ms", ms(SCRAPES / 2), ms(SCRAPES * 9 / 10), ms(SCRAPES - 1));
    shutdown.cancel();
    served.await?;
    Ok(())
}
