//! How a call that was not answered ends: the one place where errors become the codes of the wire.
//!
//! The AppView's client asks another host for UNAVAILABLE and ABORTED, at once and up to three times, and takes every
//! other code as final. So UNAVAILABLE is said only where another host would do better, and never for overload: it
//! would triple the load that is being shed.

use std::{borrow::Cow, fmt};

use gp_index::Error;

/// Milliseconds after which a caller that was shed may try again.
pub(crate) const RETRY_AFTER_SHED_MS: i64 = 1_000;
/// Tells a caller that the same request will be refused again.
pub(crate) const NEVER_RETRY: i64 = -1;

/// The codes of gRPC, by their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Answered.
    Ok = 0,
    /// The caller went away.
    Cancelled = 1,
    /// Not used by us.
    Unknown = 2,
    /// The request breaks the contract.
    InvalidArgument = 3,
    /// Out of time.
    DeadlineExceeded = 4,
    /// The contract says aloud that there is nothing.
    NotFound = 5,
    /// Not used by us.
    AlreadyExists = 6,
    /// Not used by us.
    PermissionDenied = 7,
    /// Shed, or larger than allowed.
    ResourceExhausted = 8,
    /// Not used by us.
    FailedPrecondition = 9,
    /// Not used by us: the AppView's client would try again.
    Aborted = 10,
    /// Not used by us.
    OutOfRange = 11,
    /// No such call in this build.
    Unimplemented = 12,
    /// We failed.
    Internal = 13,
    /// This host is leaving or not ready.
    Unavailable = 14,
    /// Not used by us.
    DataLoss = 15,
    /// A token that is not known, or none where one is required.
    Unauthenticated = 16,
}

impl Code {
    /// All codes, by number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The name as gRPC writes it; a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// Why work was refused; a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shed {
    /// It waited as long as a call may wait for its turn.
    QueueTime = 0,
    /// A handler found the process's share spent.
    CostCap = 1,
    /// This caller has filled the queue.
    CallerShare = 2,
    /// Requests and answers in memory have reached their bound.
    Bytes = 3,
    /// More keys or bytes than one request may have.
    Oversize = 4,
    /// The process is stopping.
    Draining = 5,
}

impl Shed {
    /// All reasons, by number.
    pub const ALL: [Self; 6] =
        [Self::QueueTime, Self::CostCap, Self::CallerShare, Self::Bytes, Self::Oversize, Self::Draining];

    /// The name; a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueTime => "queue_time",
            Self::CostCap => "cost_cap",
            Self::CallerShare => "caller_share",
            Self::Bytes => "bytes",
            Self::Oversize => "oversize",
            Self::Draining => "draining",
        }
    }
}

/// How a call that was not answered ends.
#[derive(Clone, Debug)]
pub struct Status {
    /// The code; never [`Code::Ok`].
    pub code: Code,
    /// For the caller's log: what is wrong and, where it helps, what to do.
    pub message: Cow<'static, str>,
    /// After how many milliseconds to try again; negative: not at all.
    pub pushback_ms: Option<i64>,
    /// Set if the call was refused rather than failed.
    pub shed: Option<Shed>,
}

impl Status {
    /// A status without anything special about it.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), pushback_ms: None, shed: None }
    }

    /// A refusal for want of room; the caller may come back in a while.
    pub fn shed(reason: Shed, message: impl Into<Cow<'static, str>>) -> Self {
        let (code, pushback_ms) = match reason {
            // Another host will answer, and at once.
            Shed::Draining => (Code::Unavailable, None),
            Shed::Oversize => (Code::ResourceExhausted, Some(NEVER_RETRY)),
            _ => (Code::ResourceExhausted, Some(RETRY_AFTER_SHED_MS)),
        };
        Self { code, message: message.into(), pushback_ms, shed: Some(reason) }
    }

    /// The process is stopping or has not started.
    pub(crate) fn draining() -> Self {
        Self::shed(Shed::Draining, "this server is stopping: ask another one")
    }

    /// Out of time.
    pub(crate) fn late() -> Self {
        Self::new(Code::DeadlineExceeded, "out of time")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { field, why } => Self::new(Code::InvalidArgument, format!("{field}: {why}")),
            Error::Absent(what) => Self::new(Code::NotFound, format!("{what} not found")),
            Error::Overloaded(what) => Self::shed(Shed::CostCap, format!("overloaded: {what}")),
            Error::Draining(_) => Self::draining(),
            Error::Late => Self::late(),
            Error::Unimplemented => Self::new(Code::Unimplemented, "not offered by this build"),
            Error::Upstream(why) => Self::new(Code::Internal, format!("an upstream failed: {why}")),
            // The store closes while we stop, and only then.
            Error::Store(gp_store::Error::Closed) => Self::draining(),
            Error::Store(e @ gp_store::Error::Busy) => Self::shed(Shed::CostCap, e.to_string()),
            Error::Store(e @ gp_store::Error::TooLarge { .. }) => Self::shed(Shed::Oversize, e.to_string()),
            Error::Store(e @ gp_store::Error::Full) => Self::new(Code::ResourceExhausted, e.to_string()),
            // Another host may be the one that writes.
            Error::Store(e @ gp_store::Error::ReadOnly) => Self::new(Code::Unavailable, e.to_string()),
            Error::Store(e) => Self::new(Code::Internal, e.to_string()),
            e @ Error::Corrupt { .. } => Self::new(Code::Internal, e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_at_their_number() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
        }
        for (number, shed) in Shed::ALL.into_iter().enumerate() {
            assert_eq!(shed as usize, number);
        }
    }

    #[test]
    fn only_a_leaving_host_says_unavailable_and_overload_is_never_internal() {
        let of = |error: Error| Status::from(error);
        let unavailable = [Error::Draining("stopping"), Error::Store(gp_store::Error::Closed)];
        for error in unavailable {
            assert_eq!(of(error).code, Code::Unavailable);
        }
        let others = [
            (Error::invalid("uris", "empty"), Code::InvalidArgument),
            (Error::Absent("identity"), Code::NotFound),
            (Error::Overloaded("scans"), Code::ResourceExhausted),
            (Error::Late, Code::DeadlineExceeded),
            (Error::Unimplemented, Code::Unimplemented),
            (Error::Upstream("plc".into()), Code::Internal),
            (Error::Store(gp_store::Error::Full), Code::ResourceExhausted),
            (Error::Store(gp_store::Error::Busy), Code::ResourceExhausted),
            (Error::Store(gp_store::Error::Engine("io".into())), Code::Internal),
            (Error::Store(gp_store::Error::TooLarge { what: "keys", asked: 2, max: 1 }), Code::ResourceExhausted),
            (Error::Corrupt { table: "post", what: "cell" }, Code::Internal),
        ];
        for (error, code) in others {
            let status = of(error);
            assert_eq!(status.code, code, "{status}");
        }
        assert_eq!(of(Error::Overloaded("scans")).pushback_ms, Some(RETRY_AFTER_SHED_MS));
        assert_eq!(Status::shed(Shed::Oversize, "").pushback_ms, Some(NEVER_RETRY));
    }
}
