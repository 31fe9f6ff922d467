//! What the kernel says about this host, for somebody who wants to know before anything is started.

use std::ops::RangeInclusive;

pub use crate::metrics::memory_limit_bytes;
use crate::metrics::{Process, Sockets, ephemeral_ports};

/// The ports that outgoing connections are given.
#[derive(Clone, Debug, PartialEq)]
pub struct Ports {
    /// First and last.
    pub range: RangeInclusive<u16>,
    /// The part of them in use towards the one address that takes most, TIME_WAIT included.
    pub used_most: f64,
}

/// The ports that outgoing connections are given; `None` if the kernel does not say.
pub fn ports() -> Option<Ports> {
    let range = ephemeral_ports()?;
    let sockets = Sockets::new(&[]);
    sockets.look();
    Some(Ports { range, used_most: sockets.figures().ports_used_most() })
}

/// Files and sockets that this process may have open; `None` if the kernel does not say.
pub fn descriptors_max() -> Option<u64> {
    Some(Process::read().max_fds).filter(|max| *max > 0)
}
