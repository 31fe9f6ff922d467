//! A TCP proxy that spoils what passes, as told, while it runs.
//!
//! ```text
//! client -> [door] -> up: harm, delay, throttle ---> server
//!        <-           down: harm, delay, throttle <-
//! ```
//!
//! Connections that are open see new faults with the next bytes they carry. What a way holds for its delay is bounded;
//! beyond it the sender feels back-pressure, as from a real network.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dice::Dice;

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 << 10;

/// Chunks that one way of a connection holds back for its delay.
const CHUNKS_HELD_MAX: usize = 256;

/// Connections kept open at once; more are reset.
const CONNECTIONS_MAX: u64 = 4096;

/// How long a shut door waits before it tries to open again while its port is taken.
const REBIND_EVERY: Duration = Duration::from_millis(10);

/// Pieces a second in which a throttled way writes.
const PIECES_PER_SECOND: u64 = 50;

/// What meets a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    /// It is carried to the server.
    #[default]
    Open,
    /// It is accepted and reset at once.
    Reset,
    /// It is accepted, and nobody ever answers.
    Silent,
    /// Nobody listens: it is refused.
    Shut,
}

/// What happens to the bytes of one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Harm {
    /// They arrive.
    #[default]
    None,
    /// They are read and thrown away: the sender notices nothing, the receiver waits.
    Swallow,
    /// They are not read: the sender's buffers fill up.
    Stall,
    /// After so many more bytes the connection is closed in order, in the middle of whatever it is.
    Truncate {
        /// Bytes let through first.
        after_bytes: u64,
    },
    /// After so many more bytes the connection is reset.
    Reset {
        /// Bytes let through first.
        after_bytes: u64,
    },
    /// About one byte in so many is another one.
    Corrupt {
        /// The mean distance of spoiled bytes.
        every_bytes: u64,
    },
}

/// One way of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// How long each byte takes.
    pub delay: Duration,
    /// What passes at most; none: whatever comes.
    pub bytes_per_second_max: Option<u64>,
    /// What happens to it.
    pub harm: Harm,
}

/// What a proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// To new connections.
    pub door: Door,
    /// From the client to the server.
    pub up: Way,
    /// From the server to the client.
    pub down: Way,
}

impl Faults {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// Each answer comes so much later.
    pub fn slow(delay: Duration) -> Self {
        Self { down: Way { delay, ..Way::default() }, ..Self::default() }
    }

    /// The connections stay and new ones can be made, and no byte arrives either way.
    pub fn half_open() -> Self {
        let way = Way { harm: Harm::Swallow, ..Way::default() };
        Self { door: Door::Silent, up: way, down: way }
    }

    /// Nobody is there: new connections are refused. Use [`Proxy::cut`] for the ones there are.
    pub fn gone() -> Self {
        Self { door: Door::Shut, ..Self::default() }
    }

    /// What the server sends is harmed.
    pub fn harm_down(harm: Harm) -> Self {
        Self { down: Way { harm, ..Way::default() }, ..Self::default() }
    }

    /// What the client sends is harmed.
    pub fn harm_up(harm: Harm) -> Self {
        Self { up: Way { harm, ..Way::default() }, ..Self::default() }
    }
}

/// What a proxy has seen since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProxyFigures {
    /// Connections accepted, those reset at the door included.
    pub accepted: u64,
    /// Connections carried now.
    pub open: u64,
    /// Bytes carried to the server.
    pub up_bytes: u64,
    /// Bytes carried to the client.
    pub down_bytes: u64,
    /// Bytes swallowed or spoiled.
    pub harmed_bytes: u64,
    /// Connections reset or cut short by the proxy.
    pub cut: u64,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    harmed: AtomicU64,
    cut: AtomicU64,
    /// When the newest connections came, oldest first.
    arrivals: Mutex<VecDeque<Instant>>,
}

/// Arrivals remembered for [`Proxy::accepted_within`].
const ARRIVALS_MAX: usize = 65_536;

/// A proxy in front of one server. It ends, with its connections, when the last clone is dropped.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<watch::Sender<Faults>>,
    cuts: Arc<watch::Sender<u64>>,
    counters: Arc<Counters>,
    _ends: Arc<DropGuard>,
}

impl Proxy {
    /// Listens on a free loopback port and carries what comes to `server`. The same seed spoils the same bytes.
    pub async fn start(server: SocketAddr, seed: u64) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), server, seed).await
    }

    /// The same at an address of the caller's choice, for servers that are found by their own addresses.
    pub async fn start_at(listen: SocketAddr, server: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (faults, _) = watch::channel(Faults::none());
        let (cuts, _) = watch::channel(0);
        let end = CancellationToken::new();
        let proxy = Self {
            address,
            faults: Arc::new(faults),
            cuts: Arc::new(cuts),
            counters: Arc::default(),
            _ends: Arc::new(end.clone().drop_guard()),
        };
        let hop = Hop {
            server,
            faults: proxy.faults.subscribe(),
            cuts: proxy.cuts.subscribe(),
            counters: Arc::clone(&proxy.counters),
            end: end.clone(),
        };
        tokio::spawn(async move { end.run_until_cancelled_owned(accept(listener, address, hop, seed)).await });
        Ok(proxy)
    }

    /// Where clients connect instead of to the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these faults and no others.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// No more faults.
    pub fn heal(&self) {
        self.set(Faults::none());
    }

    /// What it does now.
    pub fn faults(&self) -> Faults {
        *self.faults.borrow()
    }

    /// Resets all connections there are.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections that came within the last `span`: what the other side dials.
    pub fn accepted_within(&self, span: Duration) -> usize {
        let arrivals = self.counters.arrivals.lock();
        arrivals.iter().rev().take_while(|at| at.elapsed() <= span).count()
    }

    /// What it has seen.
    pub fn figures(&self) -> ProxyFigures {
        let c = &self.counters;
        ProxyFigures {
            accepted: c.accepted.load(Relaxed),
            open: c.open.load(Relaxed),
            up_bytes: c.up.load(Relaxed),
            down_bytes: c.down.load(Relaxed),
            harmed_bytes: c.harmed.load(Relaxed),
            cut: c.cut.load(Relaxed),
        }
    }
}

/// What each connection needs to know.
#[derive(Clone)]
struct Hop {
    server: SocketAddr,
    faults: watch::Receiver<Faults>,
    cuts: watch::Receiver<u64>,
    counters: Arc<Counters>,
    end: CancellationToken,
}

async fn accept(listener: TcpListener, address: SocketAddr, mut hop: Hop, seed: u64) {
    let mut listener = Some(listener);
    let mut number = 0_u64;
    loop {
        if hop.faults.borrow_and_update().door == Door::Shut {
            listener = None;
            if hop.faults.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(open) = &listener else {
            match TcpListener::bind(address).await {
                Ok(again) => listener = Some(again),
                Err(_) => tokio::time::sleep(REBIND_EVERY).await,
            }
            continue;
        };
        let client = tokio::select! {
            biased;
            changed = hop.faults.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            accepted = open.accept() => match accepted {
                Ok((client, _)) => client,
                Err(_) => {
                    tokio::time::sleep(REBIND_EVERY).await;
                    continue;
                }
            },
        };
        let door = hop.faults.borrow().door;
        hop.counters.accepted.fetch_add(1, Relaxed);
        {
            let mut arrivals = hop.counters.arrivals.lock();
            if arrivals.len() == ARRIVALS_MAX {
                arrivals.pop_front();
            }
            arrivals.push_back(Instant::now());
        }
        if matches!(door, Door::Reset | Door::Shut) || hop.counters.open.load(Relaxed) >= CONNECTIONS_MAX {
            hop.counters.cut.fetch_add(1, Relaxed);
            // Closing with nothing lingering sends a reset.
            let _ = client.set_zero_linger();
            continue;
        }
        number += 1;
        hop.counters.open.fetch_add(1, Relaxed);
        let (mut hop, dice) = (hop.clone(), Dice::new(seed ^ number.rotate_left(32)));
        hop.cuts.mark_unchanged();
        tokio::spawn(async move {
            let counters = Arc::clone(&hop.counters);
            let end = hop.end.clone();
            end.run_until_cancelled_owned(connection(client, hop, door, dice)).await;
            counters.open.fetch_sub(1, Relaxed);
        });
    }
}

/// How a connection ends before both sides have closed it.
enum Cut {
    Reset,
    Closed,
}

async fn connection(mut client: TcpStream, mut hop: Hop, door: Door, mut dice: Dice) {
    let mut cuts = hop.cuts.clone();
    if door == Door::Silent {
        // Also after the fault is gone: a connection that nobody answered stays dead until it is given up.
        tokio::select! {
            _ = cuts.changed() => {}
            () = drain(&mut client) => {}
        }
        let _ = client.set_zero_linger();
        return;
    }
    let Ok(mut server) = TcpStream::connect(hop.server).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (up_dice, down_dice) = (Dice::new(dice.next()), Dice::new(dice.next()));
    hop.faults.mark_unchanged();
    let cut = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let counters = &hop.counters;
        let up = carry(from_client, to_server, hop.faults.clone(), |f| f.up, &counters.up, counters, up_dice);
        let down = carry(from_server, to_client, hop.faults.clone(), |f| f.down, &counters.down, counters, down_dice);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.err(),
            _ = cuts.changed() => Some(Cut::Reset),
        }
    };
    match cut {
        None => {}
        Some(Cut::Closed) => drop(hop.counters.cut.fetch_add(1, Relaxed)),
        Some(Cut::Reset) => {
            hop.counters.cut.fetch_add(1, Relaxed);
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }
}

/// Reads until the client gives up.
async fn drain(client: &mut TcpStream) {
    let mut nowhere = [0; 4096];
    while !matches!(client.read(&mut nowhere).await, Ok(0) | Err(_)) {}
}

/// Carries one way to its end.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut faults: watch::Receiver<Faults>,
    way: fn(&Faults) -> Way,
    carried: &AtomicU64,
    counters: &Counters,
    mut dice: Dice,
) -> Result<(), Cut> {
    let (held, mut due) = mpsc::channel::<(Instant, Option<u64>, Vec<u8>)>(CHUNKS_HELD_MAX);
    let reads = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        // Bytes let through since the faults were set.
        let mut passed = 0_u64;
        let mut spoil_at = None;
        loop {
            if faults.has_changed().unwrap_or(false) {
                (passed, spoil_at) = (0, None);
            }
            let now = way(&faults.borrow_and_update());
            if now.harm == Harm::Stall {
                if faults.changed().await.is_err() {
                    return Ok(());
                }
                (passed, spoil_at) = (0, None);
                continue;
            }
            let read = tokio::select! {
                biased;
                changed = faults.changed() => match changed {
                    Ok(()) => {
                        (passed, spoil_at) = (0, None);
                        continue;
                    }
                    Err(_) => return Ok(()),
                },
                read = from.read(&mut buffer) => read,
            };
            let bytes = match read {
                Ok(0) => return Ok(()),
                Ok(n) => &mut buffer[..n],
                Err(_) => return Err(Cut::Reset),
            };
            let room =
                |after: u64| usize::try_from(after.saturating_sub(passed)).unwrap_or(usize::MAX).min(bytes.len());
            let (through, cut) = match now.harm {
                Harm::Swallow => {
                    counters.harmed.fetch_add(bytes.len() as u64, Relaxed);
                    continue;
                }
                Harm::Truncate { after_bytes } => (room(after_bytes), Some((after_bytes, Cut::Closed))),
                Harm::Reset { after_bytes } => (room(after_bytes), Some((after_bytes, Cut::Reset))),
                Harm::Corrupt { every_bytes } => {
                    let at = spoil_at.get_or_insert_with(|| passed + dice.below(2 * every_bytes));
                    while *at < passed + bytes.len() as u64 {
                        // Never zero, so that the byte is another one.
                        bytes[(*at - passed) as usize] ^= 1 + dice.below(255) as u8;
                        counters.harmed.fetch_add(1, Relaxed);
                        *at += 1 + dice.below(2 * every_bytes);
                    }
                    (bytes.len(), None)
                }
                Harm::None | Harm::Stall => (bytes.len(), None),
            };
            passed += through as u64;
            let chunk = (Instant::now() + now.delay, now.bytes_per_second_max, bytes[..through].to_vec());
            if through > 0 && held.send(chunk).await.is_err() {
                return Ok(());
            }
            if let Some((after, cut)) = cut
                && passed >= after
            {
                return Err(cut);
            }
        }
    };
    let writes = async move {
        while let Some((at, bytes_per_second, chunk)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            let piece = bytes_per_second.map_or(chunk.len(), |b| (b / PIECES_PER_SECOND).max(1) as usize);
            for part in chunk.chunks(piece) {
                if to.write_all(part).await.is_err() {
                    return Err(Cut::Reset);
                }
                carried.fetch_add(part.len() as u64, Relaxed);
                if let Some(rate) = bytes_per_second {
                    tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / rate.max(1) as f64)).await;
                }
            }
        }
        Ok(to)
    };
    // A cut waits for what was let through before it.
    let (read, written) = tokio::join!(reads, writes);
    read?;
    let _ = written?.shutdown().await;
    Ok(())
}
