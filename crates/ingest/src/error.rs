//! Why something that was asked of the ingest side was not done, named by what the receiver should do next.

/// Result of a call on the ingest side.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A setting or an argument is wrong; correct it.
    #[error("{0}")]
    Invalid(String),
    /// Whoever would know says that there is no such account or repo.
    #[error("{0}")]
    Absent(String),
    /// An upstream failed for now, or said something that makes no sense; it is tried again by itself.
    #[error("{0}")]
    Failed(String),
    /// An upstream understood and refused; asking again soon will not help.
    #[error("{0}")]
    Refused(String),
    /// Too much waits already; ask again later.
    #[error("too many look-ups wait already: try again later")]
    Overloaded,
    /// The ingest side is stopping.
    #[error("stopping: ask again after the restart")]
    Stopped,
    /// The index or the store failed.
    #[error(transparent)]
    Index(#[from] gp_index::Error),
}

impl From<gp_store::Error> for Error {
    fn from(error: gp_store::Error) -> Self {
        Self::Index(error.into())
    }
}

impl From<Error> for gp_index::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Index(error) => error,
            Error::Absent(_) => Self::Absent("identity"),
            Error::Invalid(why) => Self::invalid("identity", why),
            Error::Overloaded => Self::Overloaded("too many identity look-ups wait already"),
            Error::Stopped => Self::Draining("stopping"),
            Error::Failed(why) | Error::Refused(why) => Self::Upstream(why),
        }
    }
}
