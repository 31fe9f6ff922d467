//! Where the conformance suite finds its engines.

use std::path::Path;

use gp_store::{Config, Store, Table, conformance::Ground};

/// Stores in memory. They do not outlive themselves.
pub(crate) struct MemGround;

impl Ground for MemGround {
    fn open(&mut self, tables: &[&'static Table], config: &Config) -> Store {
        Store::over(Box::new(gp_store::engine::mem::Mem::new()), tables, config)
    }
}

/// Stores of the embedded engine in a folder that goes with the test.
pub(crate) struct LsmGround {
    dir: tempfile::TempDir,
}

impl LsmGround {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
}

impl Ground for LsmGround {
    fn open(&mut self, tables: &[&'static Table], config: &Config) -> Store {
        Store::lsm(self.dir.path(), tables, config).unwrap()
    }

    fn reopen(&mut self, tables: &[&'static Table], config: &Config) -> Option<Store> {
        Some(Store::lsm(self.dir.path(), tables, config).unwrap())
    }

    fn dir(&self) -> Option<&Path> {
        Some(self.dir.path())
    }
}
