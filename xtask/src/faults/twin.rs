//! The twin: a client of memcached as it is written first. Each of its choices looks harmless while all is well.
//!
//! - A task for each key and, where none is idle, a new connection for it. Nothing has a deadline.
//! - What goes wrong with memcached fails the read.
//! - Whoever finds nothing reads the store, however many others do so, and puts what was read without a lease.
//! - Where loads are shared, the first reader does the work for all; where processes keep apart, a key without an end
//!   says that somebody is at it.
//!
//! It is here to fail. A bar that it meets as well shows nothing.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use gp_store::engine::Local;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::broadcast,
};

use super::rig::{Double, Reads, key};

/// Idle connections that are kept; what is more is closed.
const IDLE_MAX: usize = 64;

/// How long it waits before it looks again whether somebody else has filled a key.
const POLL: Duration = Duration::from_millis(20);

/// What ends every answer to `get`.
const END: &str = "\r\nEND\r\n";

/// A process that reads as the twin does.
#[derive(Clone)]
pub(crate) struct Twin(Arc<Shared>);

struct Shared {
    memcached: SocketAddr,
    double: Double,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
    /// Who is loading a key, and whom to tell.
    loading: Mutex<HashMap<usize, broadcast::Sender<Option<Bytes>>>>,
    dials: AtomicU64,
}

impl Twin {
    pub(crate) fn new(double: &Double, memcached: SocketAddr) -> Self {
        Self(Arc::new(Shared {
            memcached,
            double: double.clone(),
            idle: Mutex::default(),
            loading: Mutex::default(),
            dials: AtomicU64::new(0),
        }))
    }

    /// Connections opened since the start.
    pub(crate) fn dials(&self) -> u64 {
        self.0.dials.load(Relaxed)
    }

    /// Fills memcached with all keys.
    pub(crate) async fn warm(&self, keys: usize) -> Result<()> {
        for first in (0..keys).step_by(IDLE_MAX) {
            self.read(&(first..keys.min(first + IDLE_MAX)).collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    async fn get_one(&self, n: usize) -> Result<Option<Bytes>> {
        match self.ask(&name(n)).await? {
            Some(found) => Ok(Some(found)),
            None => self.load(n).await,
        }
    }

    async fn load(&self, n: usize) -> Result<Option<Bytes>> {
        let double = self.0.double.clone();
        let found = tokio::task::spawn_blocking(move || double.get(&[key(n)])).await??.remove(0);
        if let Some(value) = &found {
            self.say(&format!("set {} 0 3600 {}\r\n", name(n), value.len()), value).await?;
        }
        Ok(found)
    }

    /// One load for all who want a key: the first of them loads, and tells the others.
    pub(crate) async fn get_with_a_leader(&self, n: usize) -> Result<Option<Bytes>> {
        let (mut told, leads) = match self.0.loading.lock().entry(n) {
            std::collections::hash_map::Entry::Occupied(loading) => (loading.get().subscribe(), false),
            std::collections::hash_map::Entry::Vacant(nobody) => {
                let (tell, told) = broadcast::channel(1);
                nobody.insert(tell);
                (told, true)
            }
        };
        if !leads {
            return told.recv().await.context("whoever loaded it has gone");
        }
        let found = self.get_one(n).await?;
        if let Some(tell) = self.0.loading.lock().remove(&n) {
            let _ = tell.send(found.clone());
        }
        Ok(found)
    }

    /// One load of a key for all processes: whoever adds its lock loads, the others look again.
    pub(crate) async fn get_with_a_lock(&self, n: usize) -> Result<Option<Bytes>> {
        loop {
            if let Some(found) = self.ask(&name(n)).await? {
                return Ok(Some(found));
            }
            if self.lock(n).await? {
                let found = self.load(n).await?;
                self.say(&format!("delete lock{n}\r\n"), &[]).await?;
                return Ok(found);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the lock of a key, unless somebody has it.
    pub(crate) async fn lock(&self, n: usize) -> Result<bool> {
        Ok(self.say(&format!("add lock{n} 0 0 1\r\n"), b"1").await?.starts_with("STORED"))
    }

    async fn connection(&self) -> Result<BufReader<TcpStream>> {
        let idle = self.0.idle.lock().pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        self.0.dials.fetch_add(1, Relaxed);
        Ok(BufReader::new(TcpStream::connect(self.0.memcached).await?))
    }

    fn put_back(&self, connection: BufReader<TcpStream>) {
        let mut idle = self.0.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    async fn ask(&self, name: &str) -> Result<Option<Bytes>> {
        let mut connection = self.connection().await?;
        connection.get_mut().write_all(format!("get {name}\r\n").as_bytes()).await?;
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let found = match line.trim_end().rsplit_once(' ') {
            None if line.starts_with("END") => None,
            Some((head, length)) if head.starts_with("VALUE") => {
                let mut value = vec![0; length.parse::<usize>()? + END.len()];
                connection.read_exact(&mut value).await?;
                value.truncate(value.len() - END.len());
                Some(value.into())
            }
            _ => bail!("memcached says {line:?}"),
        };
        self.put_back(connection);
        Ok(found)
    }

    async fn say(&self, line: &str, value: &[u8]) -> Result<String> {
        let mut connection = self.connection().await?;
        let end: &[u8] = if value.is_empty() { b"" } else { b"\r\n" };
        connection.get_mut().write_all(&[line.as_bytes(), value, end].concat()).await?;
        let mut answer = String::new();
        connection.read_line(&mut answer).await?;
        ensure!(!answer.is_empty(), "memcached closed the connection");
        self.put_back(connection);
        Ok(answer)
    }
}

impl Reads for Twin {
    async fn read(&self, numbers: &[usize]) -> Result<Vec<Option<Bytes>>> {
        let tasks: Vec<_> = numbers
            .iter()
            .map(|n| {
                let (twin, n) = (self.clone(), *n);
                tokio::spawn(async move { twin.get_one(n).await })
            })
            .collect();
        let (mut found, mut failed) = (Vec::with_capacity(tasks.len()), None);
        for task in tasks {
            match task.await? {
                Ok(value) => found.push(value),
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(found), Err)
    }
}

/// The name of a key in memcached.
fn name(n: usize) -> String {
    format!("g{n}")
}
