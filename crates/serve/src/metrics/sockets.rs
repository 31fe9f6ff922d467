//! The sockets of this host, read from `/proc/net` now and then: by whom they lead to, by state, and how many of the
//! ports that the kernel gives to outgoing connections they take.
//!
//! A socket in TIME_WAIT belongs to no process any more and still keeps its port, so what counts is the whole host (or
//! network namespace), and not only what this process has open. Reading takes the longer the more sockets there are;
//! it is done beside the calls, and the page shows what was found last.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Whom a socket leads to; a metric label.
pub(crate) const PEERS: [&str; 4] = ["cache", "store", "client", "other"];
const CLIENT: usize = 2;
const OTHER: usize = 3;

/// States of TCP by the kernel's numbers, which begin at 1; a metric label.
pub(crate) const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];
const TIME_WAIT: usize = 5;
const LISTEN: usize = 9;

/// How often sockets are read, unless that takes long.
const READ_EVERY: Duration = Duration::from_secs(5);
/// Reading takes at most this part of the time.
const PART_OF_TIME: u32 = 50;
/// Sockets read at a time; more than there are ports towards a dozen addresses.
const SOCKETS_MAX: usize = 500_000;

/// Whom a process asks for its data, beside the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A cache node.
    Cache,
    /// A node of the store.
    Store,
}

/// What was found. All zero before the first reading, and where the kernel does not show its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SocketFigures {
    pub(crate) sockets: [[u64; STATES.len()]; PEERS.len()],
    /// By peer: the part of the ephemeral ports in use towards the one address that takes most of them.
    pub(crate) ports_used: [f64; PEERS.len()],
}

impl SocketFigures {
    pub(crate) fn in_time_wait(&self) -> u64 {
        self.sockets.iter().map(|states| states[TIME_WAIT]).sum()
    }

    /// The highest use of ports towards any address.
    pub(crate) fn ports_used_most(&self) -> f64 {
        self.ports_used.iter().copied().fold(0.0, f64::max)
    }
}

/// Looks at the sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    listen: Mutex<Option<u16>>,
    peers: HashMap<(IpAddr, u16), usize>,
    found: Mutex<SocketFigures>,
}

impl Sockets {
    pub(crate) fn new(peers: &[(Peer, SocketAddr)]) -> Self {
        let peers = peers.iter().map(|(peer, address)| ((address.ip().to_canonical(), address.port()), *peer as usize));
        Self { listen: Mutex::new(None), peers: peers.collect(), found: Mutex::default() }
    }

    /// Says where callers connect to.
    pub(crate) fn listens(&self, port: u16) {
        *self.listen.lock() = Some(port);
    }

    pub(crate) fn figures(&self) -> SocketFigures {
        *self.found.lock()
    }

    /// Reads them again and again.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            let begun = Instant::now();
            let this = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || this.look()).await.is_err() {
                return;
            }
            tokio::time::sleep(READ_EVERY.max(begun.elapsed() * PART_OF_TIME)).await;
        }
    }

    /// Reads them once. Takes as long as there are many.
    pub(crate) fn look(&self) {
        let mut count = Count::new(&self.peers, *self.listen.lock(), ephemeral_ports());
        for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let Ok(file) = File::open(path) else { continue };
            // The first line names the columns.
            for line in BufReader::new(file).lines().map_while(Result::ok).skip(1).take(SOCKETS_MAX) {
                count.line(&line);
            }
        }
        *self.found.lock() = count.end();
    }
}

/// The ports that the kernel gives to outgoing connections.
pub(crate) fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    port_range(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

/// First and last, as the kernel says them.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_ascii_whitespace().map(str::parse);
    match (ends.next()?, ends.next()?) {
        (Ok(first), Ok(last)) if first <= last => Some(first..=last),
        _ => None,
    }
}

struct Count<'a> {
    peers: &'a HashMap<(IpAddr, u16), usize>,
    listen: Option<u16>,
    range: Option<RangeInclusive<u16>>,
    found: SocketFigures,
    /// Ephemeral ports in use, by where they lead.
    leads_to: HashMap<(IpAddr, u16), u32>,
}

impl<'a> Count<'a> {
    fn new(peers: &'a HashMap<(IpAddr, u16), usize>, listen: Option<u16>, range: Option<RangeInclusive<u16>>) -> Self {
        Self { peers, listen, range, found: SocketFigures::default(), leads_to: HashMap::new() }
    }

    /// A line is `n: LOCAL:PORT REMOTE:PORT STATE ...`, all hexadecimal.
    fn line(&mut self, line: &str) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(remote), Some(state)) = (
            fields.next().and_then(address),
            fields.next().and_then(address),
            fields.next().and_then(|state| usize::from_str_radix(state, 16).ok()),
        ) else {
            return;
        };
        let Some(state) = state.checked_sub(1).filter(|state| *state < STATES.len()) else { return };
        let known = self.peers.get(&remote).copied();
        let peer = known.unwrap_or(if Some(local.1) == self.listen { CLIENT } else { OTHER });
        self.found.sockets[peer][state] += 1;
        if state != LISTEN && self.range.as_ref().is_some_and(|range| range.contains(&local.1)) {
            *self.leads_to.entry(remote).or_default() += 1;
        }
    }

    fn end(mut self) -> SocketFigures {
        let Some(range) = self.range else { return self.found };
        let ports = f64::from(u32::from(range.end() - range.start()) + 1);
        for (remote, used) in self.leads_to {
            // A caller on this host takes a port of it to reach us.
            let peer =
                self.peers.get(&remote).copied().unwrap_or(if Some(remote.1) == self.listen { CLIENT } else { OTHER });
            let ratio = &mut self.found.ports_used[peer];
            *ratio = ratio.max(f64::from(used) / ports);
        }
        self.found
    }
}

/// An address as the kernel prints it: words of four bytes as numbers of this machine, and a port.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn sockets_are_counted_by_whom_they_lead_to_and_ports_by_the_fullest_address() {
        let peers = HashMap::from([((IpAddr::from([127, 0, 0, 1]), 11_211), Peer::Cache as usize)]);
        let mut count = Count::new(&peers, Some(2_585), port_range("32768\t60999\n"));
        for line in [
            // Listens on 127.0.0.1:2585, and a caller from elsewhere is connected to it.
            "   0: 0100007F:0A19 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0",
            "   1: 0100007F:0A19 0200000A:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1",
            // Two connections to the cache, one of them gone; the second over a mapped IPv6 address.
            "   2: 0100007F:8000 0100007F:2BCB 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1",
            "   3: 0000000000000000FFFF00000100007F:8001 0000000000000000FFFF00000100007F:2BCB 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0",
            // Somebody else's, on a port that is not ephemeral.
            "   4: 0100007F:1000 0100007F:2222 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 20 4 30 10 -1",
            "nothing of this kind",
            "   5: 0100007F:XXXX 0100007F:2222 01",
            "   6: 0100007F:8000 0100007F:2222 FF",
        ] {
            count.line(line);
        }
        let found = count.end();
        let of = |peer: usize, state: &str| found.sockets[peer][STATES.iter().position(|it| *it == state).unwrap()];
        assert_eq!((of(CLIENT, "listen"), of(CLIENT, "established")), (1, 1));
        assert_eq!((of(0, "established"), of(0, "time_wait"), of(OTHER, "established")), (1, 1, 1));
        assert_eq!(found.sockets.iter().flatten().sum::<u64>(), 5);
        assert_eq!(found.ports_used, [2.0 / 28_232.0, 0.0, 0.0, 0.0]);
        assert_eq!((found.in_time_wait(), found.ports_used_most()), (1, 2.0 / 28_232.0));
    }

    #[test]
    fn a_range_of_ports_that_makes_no_sense_is_none() {
        assert_eq!(port_range("1024 1523"), Some(1_024..=1_523));
        for wrong in ["", "1", "5 4", "a b", "1 70000"] {
            assert_eq!(port_range(wrong), None, "{wrong:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listening_socket_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = Sockets::new(&[]);
        sockets.listens(listener.local_addr().unwrap().port());
        sockets.look();
        assert_eq!(sockets.figures().sockets[CLIENT][LISTEN], 1);
    }
}
