//! A store, a writer and the ingest side over a network; and what tests ask of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use gp_atproto::Cid;
use gp_index::{Cx, actors, repos};
use gp_ingest::{Config, Identity, IdentityConfig, Ingest, RelayStart};
use gp_store::{
    Batch, Error, Key, Page, Result, Scan, Store, Table, Writer, WriterConfig,
    engine::{Local, mem::Mem},
};
use gp_synth::{Happened, Network, Size, Spec};

/// Nothing a test waits for takes nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A network of fifty accounts whose history ends a minute ago.
pub(crate) async fn network(seed: u64) -> Network {
    network_with(seed, |_| {}).await
}

pub(crate) async fn network_with(seed: u64, change: impl FnOnce(&mut Spec)) -> Network {
    let mut spec = Spec::new(Size::Custom { accounts: 24, records: 400 }, seed, gp_index::system_now_us() - 60_000_000);
    change(&mut spec);
    Network::start(spec).await.unwrap()
}

pub(crate) fn identity_config(network: &Network) -> IdentityConfig {
    IdentityConfig {
        plc_url: network.plc_url(),
        did_resolver_url: Some(network.plc_url()),
        handle_resolver_url: Some(network.handle_resolver_url()),
        allow_private_networks: true,
        ..IdentityConfig::default()
    }
}

/// Tests do not wait minutes for a second attempt.
const QUICK: &[Duration] = &[Duration::from_millis(50), Duration::from_millis(200)];

pub(crate) fn config(network: &Network) -> Config {
    Config {
        relay_urls: vec![network.relay_url()],
        relay_start: RelayStart::Oldest,
        lanes: 2,
        retry_delays: QUICK,
        ..Config::default()
    }
}

/// Rows that live longer than the process that writes them.
#[derive(Clone)]
pub(crate) struct Disk {
    rows: Arc<Mem>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self { rows: Arc::new(Mem::new()) }
    }

    /// What one process sees of the disk until it dies.
    fn mount(&self) -> (Store, Arc<AtomicBool>) {
        let alive = Arc::new(AtomicBool::new(true));
        let tables: Vec<&'static Table> = gp_index::tables::ALL.iter().chain(gp_ingest::TABLES).copied().collect();
        let mount = Mount { rows: Arc::clone(&self.rows), alive: Arc::clone(&alive) };
        (Store::over(Box::new(mount), &tables, &gp_store::Config::default()), alive)
    }

    /// What is on the disk, whoever is alive.
    pub(crate) fn store(&self) -> Store {
        self.mount().0
    }
}

/// A process's way to the disk. Once it is dead, nothing it does has an effect any more.
struct Mount {
    rows: Arc<Mem>,
    alive: Arc<AtomicBool>,
}

impl Local for Mount {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        self.rows.get(keys)
    }

    fn get_one(&self, key: &Key) -> Result<Option<Bytes>> {
        self.rows.get_one(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        self.rows.scan(scan)
    }

    fn apply(&self, batch: &Batch) -> Result<()> {
        if self.alive.load(SeqCst) { self.rows.apply(batch) } else { Err(Error::Engine("dead".into())) }
    }

    fn sync(&self) -> Result<()> {
        self.rows.sync()
    }

    fn bytes_used(&self) -> u64 {
        self.rows.bytes_used()
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<()> {
        self.rows.each(table_id, visit)
    }
}

/// One run of a process.
pub(crate) struct Plane {
    pub(crate) cx: Cx,
    pub(crate) ingest: Ingest,
    disk: Disk,
    alive: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Plane {
    pub(crate) async fn start(network: &Network) -> Self {
        Self::over(Disk::new(), identity_config(network), config(network)).await
    }

    pub(crate) async fn over(disk: Disk, identity: IdentityConfig, config: Config) -> Self {
        let (store, alive) = disk.mount();
        let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).unwrap();
        let identity = Identity::new(identity).unwrap();
        let names = gp_index::names::Names::new(1 << 20);
        let cx = Cx {
            window: gp_index::window::Window::over(&store, &names, 1 << 20),
            graph: gp_index::graph::Graph::over(&store, &names, 1 << 20),
            store,
            writer,
            identity: Arc::new(identity.clone()),
            search: Arc::new(gp_index::search::NoSearch),
            sitemap_url: "https://plane.test".into(),
            damage: Arc::default(),
            now_us: gp_index::system_now_us,
        };
        let ingest = Ingest::start(cx.clone(), identity, config).await.unwrap();
        Self { cx, ingest, disk, alive, writer: Some(thread) }
    }

    /// Waits until everything up to `seq` has had all its effects.
    pub(crate) async fn settle(&self, seq: i64) {
        let settled = self.until(|ingest| {
            let (reached, pending) = ingest.snapshot();
            reached >= seq && pending == 0
        });
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            panic!("not settled at {seq}: {:#}", self.ingest.status());
        }
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, holds: impl Fn(&Ingest) -> bool) {
        while !holds(&self.ingest) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn wait(&self, what: &str, holds: impl Fn(&Ingest) -> bool) {
        if tokio::time::timeout(PATIENCE, self.until(holds)).await.is_err() {
            panic!("{what} never came: {:#}", self.ingest.status());
        }
    }

    /// Stops in good order; the rows stay.
    pub(crate) async fn stop(mut self) -> Disk {
        self.ingest.shutdown().await;
        let disk = self.disk.clone();
        let thread = self.writer.take();
        drop(self);
        if let Some(thread) = thread {
            tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
        }
        disk
    }

    /// Dies at once: of what is in flight, nothing more has an effect.
    pub(crate) async fn die(self) {
        self.alive.store(false, SeqCst);
        self.stop().await;
    }

    /// Path and version of every record kept of an account.
    pub(crate) async fn records(&self, did: &str) -> BTreeMap<String, Cid> {
        let did = did.to_owned();
        let page = self.cx.writer.run(move |view| repos::records(view, &did, None, 10_000)).await.unwrap();
        page.into_iter().map(|(collection, rkey, cid)| (format!("{collection}/{rkey}"), cid)).collect()
    }

    pub(crate) async fn handle(&self, did: &str) -> Option<Option<String>> {
        actors::handle_state(&self.cx.store, did).await.unwrap().map(|(handle, _)| handle)
    }

    pub(crate) async fn repo(&self, did: &str) -> Option<repos::RepoState> {
        repos::state_of(&self.cx.store, did).await.unwrap()
    }

    pub(crate) async fn actor(&self, did: &str) -> Option<actors::ActorRow> {
        let did = did.to_owned();
        self.cx.writer.run(move |view| actors::row(view, &did)).await.unwrap()
    }

    /// What an ideal consumer ends with is what is kept.
    pub(crate) async fn expect(&self, happened: &Happened) {
        self.settle(happened.seq).await;
        for (uri, cid) in &happened.present {
            let (did, path) = split(uri);
            assert_eq!(self.records(did).await.get(path), Some(cid), "{uri} is missing: {:#}", self.ingest.status());
        }
        for uri in &happened.absent {
            let (did, path) = split(uri);
            assert_eq!(self.records(did).await.get(path), None, "{uri} is there: {:#}", self.ingest.status());
        }
        for (did, handle) in &happened.handles {
            assert_eq!(self.handle(did).await.flatten(), *handle, "{did}");
        }
    }

    /// Everything that is kept of the network is what the oracle says.
    pub(crate) async fn expect_model(&self, network: &Network) {
        let dids: Vec<String> = network.model(|model| model.dids().map(str::to_owned).collect()).unwrap();
        assert!(dids.len() > 10);
        for did in &dids {
            let (records, handle): (BTreeMap<String, Cid>, Option<String>) = network
                .model(|model| {
                    let records = model.records(did).map(|(path, cid)| (path.to_owned(), *cid)).collect();
                    (records, model.handle(did).map(str::to_owned))
                })
                .unwrap();
            let kept = self.records(did).await;
            let missing: Vec<_> = records.iter().filter(|(path, cid)| kept.get(*path) != Some(cid)).collect();
            let surplus: Vec<_> = kept.iter().filter(|(path, cid)| records.get(*path) != Some(cid)).collect();
            assert!(
                missing.is_empty() && surplus.is_empty(),
                "{did}: missing {missing:?}, surplus {surplus:?}, {:#}",
                self.ingest.status()
            );
            assert_eq!(self.handle(did).await.flatten(), handle, "handle of {did}");
        }
    }
}

pub(crate) fn split(uri: &str) -> (&str, &str) {
    uri.strip_prefix("at://").unwrap().split_once('/').unwrap()
}

/// How often something of this name was lost or skipped.
pub(crate) fn dropped(ingest: &Ingest, name: &str) -> u64 {
    let mut all = ingest.drops().drops_by_name().chain(ingest.drops().skips_by_name());
    all.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no reason is called {name}")).1
}

/// Everything that was lost.
pub(crate) fn losses(ingest: &Ingest) -> BTreeMap<&'static str, u64> {
    ingest.drops().drops_by_name().filter(|(_, count)| *count > 0).collect()
}
