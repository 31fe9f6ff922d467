//! Keyspaces on the cluster that the environment names.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use gp_store::{
    Config, Store, Table,
    conformance::Ground,
    engine::cql::{Address, CqlConfig},
};

/// `host:port,host:port` of the cluster.
const VARIABLE: &str = "GROUNDPLANE_TEST_CQL";

/// A keyspace that goes with its test.
pub(crate) struct CqlGround {
    pub(crate) address: Address,
}

impl CqlGround {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let hosts = std::env::var(VARIABLE).expect("GROUNDPLANE_TEST_CQL names a cluster: use cargo xtask conformance");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let replicas = hosts.split(',').count();
        let address =
            format!("cql://{hosts}/test_{}_{number}?create={replicas}&read_deadline_ms=20000", std::process::id());
        Self { address: address.parse().unwrap() }
    }

    pub(crate) fn config(&self) -> CqlConfig {
        CqlConfig { address: self.address.clone(), login: None, wait: Duration::from_secs(30), writes: true }
    }
}

impl Ground for CqlGround {
    fn open(&mut self, tables: &[&'static Table], config: &Config) -> Store {
        Store::cql(&self.config(), tables, config).unwrap()
    }

    fn reopen(&mut self, tables: &[&'static Table], config: &Config) -> Option<Store> {
        Some(self.open(tables, config))
    }

    fn rounds(&self, usual: usize) -> usize {
        usual.div_ceil(10)
    }
}

impl Drop for CqlGround {
    fn drop(&mut self) {
        ask(&self.address, &format!("DROP KEYSPACE IF EXISTS {}", self.address.keyspace));
    }
}

/// Says something to the cluster beside the engine. Tests run in async code already, so on a thread of its own.
pub(crate) fn ask(address: &Address, statement: &str) {
    let (hosts, statement) = (address.contact_points.clone(), statement.to_owned());
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = scylla::client::session_builder::SessionBuilder::new()
                .known_nodes(&hosts)
                .connection_timeout(Duration::from_secs(10))
                .build()
                .await
                .map_err(|e| e.to_string())?;
            session.query_unpaged(statement, ()).await.map(drop).map_err(|e| e.to_string())
        })
    });
    let answer: Result<(), String> = asked.join().expect("does not panic");
    // A test that has failed already has more to say than this.
    if let Err(e) = answer
        && !std::thread::panicking()
    {
        panic!("the cluster refused: {e}");
    }
}
