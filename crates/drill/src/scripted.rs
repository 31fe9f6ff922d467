//! The real server over a store that can be told to be slow. What it may do, what a call costs and how callers take
//! turns is that of the product; only how long the engine takes is made up. That makes capacity a matter of the script
//! and not of a processor which the callers of a drill use as well.
//!
//! It is told by lines on standard input: `delay_us 2000` makes every visit to the engine take two milliseconds longer.

use std::{
    io::BufRead as _,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use gp_index::{Cx, graph::Graph, names::Names, search::NoSearch, system_now_us, tables, window::Window};
use gp_serve::{LogCounts, NoOperator, Server};
use gp_store::{
    Batch, Key, Page, Scan, Store, Writer, WriterConfig,
    engine::{
        Local,
        lsm::{Lsm, LsmConfig},
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Bytes of timelines kept in memory.
const WINDOW_BYTES: u64 = 1 << 20;

/// What the scripted plane is told.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// gRPC.
    pub listen: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
    /// The folder of posts.
    pub data_dir: PathBuf,
    /// Answers kept in memory, in bytes. 0: every key is read from the engine.
    pub near_cache_bytes: u64,
    /// How much longer every visit to the engine takes at first, in microseconds.
    pub delay_us: u64,
    /// Callers that are told apart.
    pub callers: Vec<String>,
    /// Those of them that can wait.
    pub background: Vec<String>,
}

/// What is said of the engine, from now on.
#[derive(Debug, Default)]
struct Script {
    delay_us: AtomicU64,
}

impl Script {
    fn pause(&self) {
        let delay_us = self.delay_us.load(Relaxed);
        if delay_us > 0 {
            std::thread::sleep(Duration::from_micros(delay_us));
        }
    }

    fn listen(&self) {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Some(delay_us) = line.strip_prefix("delay_us ").and_then(|it| it.trim().parse().ok()) {
                self.delay_us.store(delay_us, Relaxed);
            }
        }
    }
}

/// The embedded engine, with a pause before each read.
struct Slow {
    engine: Lsm,
    script: Arc<Script>,
}

impl Local for Slow {
    fn get(&self, keys: &[Key]) -> gp_store::Result<Vec<Option<Bytes>>> {
        self.script.pause();
        self.engine.get(keys)
    }
    fn get_one(&self, key: &Key) -> gp_store::Result<Option<Bytes>> {
        self.engine.get_one(key)
    }
    fn scan(&self, scan: &Scan) -> gp_store::Result<Page> {
        self.script.pause();
        self.engine.scan(scan)
    }
    fn apply(&self, batch: &Batch) -> gp_store::Result<()> {
        self.engine.apply(batch)
    }
    fn sync(&self) -> gp_store::Result<()> {
        self.engine.sync()
    }
    fn bytes_used(&self) -> u64 {
        self.engine.bytes_used()
    }
    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> gp_store::Result<()> {
        self.engine.each(table_id, visit)
    }
}

/// What calls are given, over a store.
///
/// # Errors
///
/// The writer cannot be started.
pub fn cx(store: Store) -> Result<Cx> {
    let (writer, _) = Writer::start(store.clone(), WriterConfig::default())?;
    let names = Names::new(WINDOW_BYTES);
    Ok(Cx {
        // A drill asks for no timelines, and not who follows whom.
        window: Window::over(&store, &names, WINDOW_BYTES),
        graph: Graph::over(&store, &names, WINDOW_BYTES),
        store,
        writer,
        identity: Arc::new(gp_index::NoIdentities),
        search: Arc::new(NoSearch),
        sitemap_url: "https://drill.test".into(),
        damage: Arc::default(),
        now_us: system_now_us,
    })
}

/// Serves until standard input closes or `stop` is cancelled.
///
/// # Errors
///
/// A port is taken, or the folder cannot be opened.
pub async fn serve(scripted: Scripted, logs: Arc<LogCounts>, stop: CancellationToken) -> Result<()> {
    let listener = TcpListener::bind(scripted.listen).await.context("--listen")?;
    let admin = TcpListener::bind(scripted.admin).await.context("--admin-listen")?;
    let script = Arc::new(Script { delay_us: AtomicU64::new(scripted.delay_us) });
    let engine = Lsm::open(&LsmConfig { dir: scripted.data_dir, block_cache_bytes: 64 << 20, disk_reserve_bytes: 0 })?;
    let config = gp_store::Config { near_cache_bytes: scripted.near_cache_bytes, ..Default::default() };
    let engine = Slow { engine, script: Arc::clone(&script) };
    let store = Store::over(Box::new(engine), tables::ALL, &config);
    let told = stop.clone();
    std::thread::Builder::new().name("script".into()).spawn(move || {
        script.listen();
        told.cancel();
    })?;
    let config =
        gp_serve::Config { callers: scripted.callers, background: scripted.background, logs, ..Default::default() };
    Server::new(cx(store)?, Arc::new(NoOperator), config)?.serve(listener, Some(admin), stop).await;
    Ok(())
}
