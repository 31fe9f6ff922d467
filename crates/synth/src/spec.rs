//! What a network is to be like.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::Error;

/// Least number of accounts: those with a part to play and some for everything to happen to.
pub const ACCOUNTS_MIN: u32 = 24;
/// Most accounts. Beyond this, handles and memory grow out of proportion.
pub const ACCOUNTS_MAX: u32 = 5_000_000;

const DAY_US: i64 = 86_400_000_000;

/// How large a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 50 accounts, 2,000 records: for tests.
    Tiny,
    /// 1,000 accounts, 30,000 records: for tests of whole processes.
    Small,
    /// 3,000 accounts, 90,000 records: for people to look at.
    Demo,
    /// 20,000 accounts, 400,000 records: for benchmarks.
    Medium,
    /// Any number of both.
    Custom {
        /// From [`ACCOUNTS_MIN`] to [`ACCOUNTS_MAX`].
        accounts: u32,
        /// Records that are created in the history. Raised to four for each account if it is less.
        records: u64,
    },
}

/// What a network is to be like. The same spec gives the same bytes of every event.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Accounts that join in the course of the history.
    pub accounts: u32,
    /// Records created in the history.
    pub records: u64,
    /// Where the history ends, in microseconds since the epoch.
    pub now_us: i64,
    /// How long the history is, in microseconds. 60 days unless changed.
    pub span_us: i64,
    /// Relations that go into one commit, on average; 1.3 unless changed. Signatures are what generating costs, so
    /// large networks come quicker with more.
    pub ops_per_commit: f64,
    /// Sequence number of the first event. 1 unless changed.
    pub first_seq: i64,
    /// How many of the last accounts have a `did:web` (`did:web:name.demo.test`), which resolves only through a
    /// resolver that asks this network. None unless changed.
    pub web_dids: u32,
    /// Whether the oracle keeps up. It costs about as much memory as the records.
    pub keep_model: bool,
    /// Whether record blocks are kept, which `getRepo` needs.
    pub keep_blocks: bool,
    /// Most events that the relay retains; all unless changed.
    pub retained_events_max: Option<usize>,
    /// A folder for the frames of the history; they stay in memory unless changed.
    pub spill_to: Option<PathBuf>,
    /// Threads that sign; all cores unless changed.
    pub threads: usize,
    /// Where to listen. A free port of 127.0.0.1 unless changed.
    pub listen: SocketAddr,
}

impl Spec {
    /// A network of this size whose history ends at `now_us`.
    pub fn new(size: Size, seed: u64, now_us: i64) -> Spec {
        let (accounts, records) = match size {
            Size::Tiny => (50, 2_000),
            Size::Small => (1_000, 30_000),
            Size::Demo => (3_000, 90_000),
            Size::Medium => (20_000, 400_000),
            Size::Custom { accounts, records } => (accounts, records.max(4 * u64::from(accounts))),
        };
        Spec {
            seed,
            accounts,
            records,
            now_us,
            span_us: 60 * DAY_US,
            ops_per_commit: 1.3,
            first_seq: 1,
            web_dids: 0,
            keep_model: true,
            keep_blocks: true,
            retained_events_max: None,
            spill_to: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let fine = (ACCOUNTS_MIN..=ACCOUNTS_MAX).contains(&self.accounts);
        if !fine {
            return Err(Error::Spec("accounts must be from 24 to 5,000,000"));
        }
        if self.now_us <= self.span_us || self.span_us <= 0 {
            return Err(Error::Spec("the history must begin after 1970 and last longer than nothing"));
        }
        if self.first_seq < 1 {
            return Err(Error::Spec("the first sequence number must be at least 1"));
        }
        if self.web_dids > self.accounts / 2 {
            return Err(Error::Spec("at most half of the accounts can have a did:web"));
        }
        Ok(())
    }

    /// Accounts that may still join when the history is over.
    pub(crate) fn spare_accounts(&self) -> u32 {
        self.accounts / 20 + 32
    }
}
