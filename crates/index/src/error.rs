//! Why a call was not answered, named by what its receiver should do next.

/// Result of a read or of a write that a caller asked for.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request breaks the contract; asking again will not help.
    #[error("{field}: {why}")]
    Invalid {
        /// The field of the request, in the contract's spelling.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The contract says aloud that there is nothing (identity, sitemap).
    #[error("{0} not found")]
    Absent(&'static str),
    /// We chose not to begin: the caller's share or the process's is spent.
    #[error("overloaded: {0}")]
    Overloaded(&'static str),
    /// This host is leaving or not ready; another will answer.
    #[error("not serving: {0}")]
    Draining(&'static str),
    /// Out of time, ours or the caller's.
    #[error("out of time")]
    Late,
    /// Declared in the contract, not offered by this build.
    #[error("not offered by this build")]
    Unimplemented,
    /// An upstream that the answer depends on (a DID directory, say) failed for now.
    #[error("upstream failed: {0}")]
    Upstream(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] gp_store::Error),
    /// Our own bytes break an invariant. Counted, logged, alarmed.
    #[error("stored bytes of {table} are damaged: {what}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What does not fit.
        what: &'static str,
    },
}

impl Error {
    /// A request that breaks the contract.
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }
}
