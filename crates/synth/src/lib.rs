//! A synthetic AT Protocol network in one process, for demos, tests and benchmarks.
//!
//! Everything about it is real except the people: repositories with search trees and signed commits, events that
//! prove themselves, DID documents, handles, whole-repo exports, a labeler. One seed gives the same bytes of every
//! event. It misbehaves on demand, one fault at a time, and an oracle knows what a consumer must end with.
//!
//! - [`Network::start`] writes a history and serves it: relay, hosts, directory, handles, labeler, all on one port.
//! - [`Network::tick`] and [`Network::live`] let more happen.
//! - The methods that return [`Happened`] each do one thing that a consumer must cope with.
//! - [`Network::model`] asks the oracle.
//! - [`Recording`] keeps a history in files, for networks too large to write each time.
//!
//! Nothing ships from here into a data plane.

mod dice;
mod faults;
mod history;
mod host;
mod labels;
mod log;
mod model;
mod network;
mod population;
mod recording;
mod records;
mod relay;
mod repo;
mod script;
mod server;
mod spec;
mod switches;
mod text;
mod words;

pub use faults::Happened;
pub use host::AccountFacts;
pub use labels::GivenLabel;
pub use model::{Counts, Model, Notice, PostFlags, Reason, Relation};
pub use network::{Account, Live, Network, Picks, Stats};
pub use population::HANDLE_DOMAIN;
pub use recording::{Recorded, Recording, Replay};
pub use script::Tally;
pub use spec::{ACCOUNTS_MAX, ACCOUNTS_MIN, Size, Spec};

/// Why a network did not come to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec asks for something that cannot be.
    #[error("the spec of the synthetic network is wrong: {0}")]
    Spec(&'static str),
    /// The port is taken, or not ours to take.
    #[error("cannot listen; choose another address or port 0: {0}")]
    Listen(std::io::Error),
    /// The folder for the frames cannot be written to.
    #[error("the history cannot be kept in the folder given; choose another: {0}")]
    Spill(std::io::Error),
    /// The thread that writes the history has died.
    #[error("writing the history failed; the log says why")]
    History,
    /// A file of a recording.
    #[error("cannot use {path}: {error}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A recording that is not what it should be. Write it again.
    #[error("{0} is not a recording of this version; write it again")]
    Recording(std::path::PathBuf),
    /// Nobody has this DID, or it is not in good standing.
    #[error("no account in good standing has the DID {0}")]
    NoAccount(String),
    /// The record cannot be written.
    #[error("the record cannot be written: {0}")]
    Record(&'static str),
}
