//! Keyspaces on the cluster that the environment names.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures::TryStreamExt;
use gp_store::{
    Config, Store, Table,
    conformance::Ground,
    engine::cql::{Address, CqlConfig},
};
use scylla::value::{CqlValue, Row};

/// `host:port,host:port` of the cluster.
const VARIABLE: &str = "GROUNDPLANE_TEST_CQL";

fn hosts() -> String {
    std::env::var(VARIABLE).expect("GROUNDPLANE_TEST_CQL names a cluster: use cargo xtask conformance")
}

/// A keyspace that goes with its test.
pub(crate) struct CqlGround {
    pub(crate) address: Address,
}

impl CqlGround {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let hosts = hosts();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let replicas = hosts.split(',').count();
        let address =
            format!("cql://{hosts}/test_{}_{number}?create={replicas}&read_deadline_ms=20000", std::process::id());
        Self { address: address.parse().unwrap() }
    }

    /// A keyspace that is made and stays, on a cluster that goes with the tests.
    pub(crate) fn address_only() -> CqlConfig {
        let address = format!("cql://{}/test_login?create=1&read_deadline_ms=20000", hosts()).parse().unwrap();
        CqlConfig { address, login: None, tls: None, wait: Duration::from_secs(30), writes: true }
    }

    pub(crate) fn config(&self) -> CqlConfig {
        CqlConfig { address: self.address.clone(), login: None, tls: None, wait: Duration::from_secs(30), writes: true }
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

impl CqlGround {
    /// How many rows a statement answers.
    pub(crate) fn count(&mut self, statement: &str) -> u64 {
        say(&self.address, statement).expect("is answered").len() as u64
    }

    /// Rows of the largest bucket of a table, those included that were copied away and are not removed yet.
    pub(crate) fn largest_bucket(&mut self, table: &str) -> u64 {
        let table = format!("{}.{table}", self.address.keyspace);
        let buckets = say(&self.address, &format!("SELECT DISTINCT p, b FROM {table}")).expect("is answered");
        let text = |value: &Option<CqlValue>| match value {
            Some(CqlValue::Blob(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            other => panic!("{other:?} is no name of a bucket"),
        };
        let count = |row: &Row| {
            let (p, b) = (text(&row.columns[0]), text(&row.columns[1]));
            let rows = format!("SELECT COUNT(*) FROM {table} WHERE p = 0x{p} AND b = 0x{b}");
            match say(&self.address, &rows).expect("is answered")[0].columns[0] {
                Some(CqlValue::BigInt(count)) => count.unsigned_abs(),
                ref other => panic!("{other:?} is no count"),
            }
        };
        buckets.iter().map(count).max().unwrap_or(0)
    }
}

/// Says something to the cluster beside the engine.
pub(crate) fn ask(address: &Address, statement: &str) {
    // A test that has failed already has more to say than this.
    if let Err(e) = say(address, statement)
        && !std::thread::panicking()
    {
        panic!("the cluster refused: {e}");
    }
}

/// Says something, and answers all rows. Tests run in async code already, so on a thread of its own.
fn say(address: &Address, statement: &str) -> Result<Vec<Row>, String> {
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
            let is_question = statement.starts_with("SELECT");
            if !is_question {
                session.query_unpaged(statement, ()).await.map_err(|e| e.to_string())?;
                return Ok(Vec::new());
            }
            let pager = session.query_iter(statement, ()).await.map_err(|e| e.to_string())?;
            let rows = pager.rows_stream::<Row>().map_err(|e| e.to_string())?;
            rows.try_collect().await.map_err(|e| e.to_string())
        })
    });
    asked.join().expect("does not panic")
}
