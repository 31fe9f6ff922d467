//! Answers `Ping`, and `GetPostRecords` with the same bytes each time, and nothing else.
//!
//! It shows what the way of a call costs by itself, and is something to speak to while nothing is stored:
//!
//!     cargo run -p groundplane-serve --example fixed [listen [admin-listen]]

use std::{collections::HashMap, error::Error, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use gp_index::{Cx, search::NoSearch, system_now_us};
use gp_proto::{GetPostRecordsResponse, PostRecordMeta, Record, Timestamp};
use gp_serve::{Config, NoOperator, Rpcs, Server};
use gp_store::{Store, Writer, WriterConfig};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Different numbers of keys whose answers are kept.
const ANSWERS_MAX: usize = 1_024;

/// An answer of as many records, each of the size of an ordinary post.
fn answer(records: usize) -> Bytes {
    let text = "Every answer of this server says the same, as often as it is asked, and nobody wrote it. ".repeat(2);
    let record = serde_json::json!({
        "$type": "app.bsky.feed.post",
        "text": text,
        "langs": ["en"],
        "createdAt": "2026-11-23T20:38:00.000Z",
        "facets": [{"$type": "app.bsky.richtext.facet", "index": {"byteStart": 0, "byteEnd": 5}}],
    });
    let at = Some(Timestamp { seconds: 1_795_466_280, nanos: 0 });
    let record = Record {
        record: record.to_string().into(),
        cid: "bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae".into(),
        indexed_at: at,
        created_at: at,
        sorted_at: at,
        ..Record::default()
    };
    let response = GetPostRecordsResponse {
        records: vec![record; records],
        meta: vec![PostRecordMeta::default(); records],
        ..GetPostRecordsResponse::default()
    };
    response.encode_to_vec().into()
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example says where it listens")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses = std::env::args().skip(1);
    let mut listen = async |default: &str| -> Result<TcpListener, Box<dyn Error>> {
        let address: SocketAddr = addresses.next().as_deref().unwrap_or(default).parse()?;
        Ok(TcpListener::bind(address).await?)
    };
    let (grpc, admin) = (listen("127.0.0.1:2585").await?, listen("127.0.0.1:2586").await?);
    println!("gRPC on {}, admin on http://{}", grpc.local_addr()?, admin.local_addr()?);

    let answers = Mutex::new(HashMap::new());
    let rpcs = Rpcs::contract().instead("Ping", |_, _| Box::pin(std::future::ready(Ok(Bytes::new())))).instead(
        "GetPostRecords",
        move |_, asked| {
            let records = asked.price().keys as usize;
            let mut answers = answers.lock();
            if answers.len() >= ANSWERS_MAX {
                answers.clear();
            }
            let answer = answers.entry(records).or_insert_with(|| answer(records)).clone();
            Box::pin(std::future::ready(Ok(answer)))
        },
    );
    let store = Store::mem(&[]);
    let (writer, _thread) = Writer::start(store.clone(), WriterConfig::default())?;
    let names = gp_index::names::Names::new(1 << 20);
    let cx = Cx {
        window: gp_index::window::Window::over_empty(&store, &names, 1 << 20),
        graph: gp_index::graph::Graph::over_empty(&store, &names, 1 << 20),
        store,
        writer,
        identity: Arc::new(gp_index::NoIdentities),
        search: Arc::new(NoSearch),
        sitemap_url: "https://plane.test".into(),
        damage: Arc::default(),
        now_us: system_now_us,
    };

    let shutdown = CancellationToken::new();
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            // Where the signal cannot be listened to, the process is killed instead.
            let _ = tokio::signal::ctrl_c().await;
            shutdown.cancel();
        }
    });
    Server::with_rpcs(cx, Arc::new(NoOperator), Config::default(), rpcs)?.serve(grpc, Some(admin), shutdown).await;
    Ok(())
}
