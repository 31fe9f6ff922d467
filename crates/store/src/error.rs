//! Why the store could not do what was asked.

use std::path::PathBuf;

/// Result of a store call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store could not do what was asked. Named by what the receiver should do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The folder holds a format this program does not know: run the program that wrote it, or a newer one.
    #[error(
        "the data folder {path} has format {found}, this program reads format {known}: use the version that wrote it, or a newer one"
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// What its format file says.
        found: String,
        /// What this program knows.
        known: u32,
    },
    /// Another process holds the folder.
    #[error("the data folder {0} is in use by another process: stop it, or choose another --data-dir")]
    InUse(PathBuf),
    /// The folder cannot be opened or its files are damaged. Nothing was changed.
    #[error("the data folder {path} cannot be opened: {why}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// What the engine found.
        why: String,
    },
    /// A cluster cannot be used: it was not reached, does not let us in, or its keyspace is not ours.
    #[error("the cluster {address} cannot be used: {why}")]
    Cluster {
        /// Its contact points and keyspace.
        address: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// No room is left on the disk. Reads go on; writes are refused until there is room.
    #[error("no room left on the disk: free some space, writing goes on by itself")]
    Full,
    /// This process leaves changes to another one. Nothing was applied, and reading goes on.
    #[error("this process only reads: changes are made by the one with the role ingest")]
    ReadOnly,
    /// The engine failed while reading or writing.
    #[error("the storage engine failed: {0}")]
    Engine(String),
    /// What was asked for does not fit what is there. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The store is closing.
    #[error("the store is closing")]
    Closed,
    /// Too many reads wait for the engine.
    #[error("too many reads wait for the engine: try again in a while")]
    Busy,
    /// A caller asked for more than a bound allows.
    #[error("{what} is {asked}, at most {max} allowed")]
    TooLarge {
        /// Which bound.
        what: &'static str,
        /// What was asked.
        asked: usize,
        /// The bound.
        max: usize,
    },
}
