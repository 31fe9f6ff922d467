//! One node: its connections, its breaker, and what can be said about it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, error::Elapsed, sleep, timeout_at},
};

use crate::{
    Config, NodeFigures,
    breaker::{Breaker, State},
    codec::{self, Response},
    conn::{self, Packet, Shared, Slot, Verb},
};

/// How a dial may end, in the order of [`NodeFigures::dials`].
pub const DIAL_RESULTS: [&str; 6] = ["ok", "refused", "timeout", "addr_in_use", "addr_not_avail", "other"];

/// Breaker and probes are looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Dials by how they ended.
#[derive(Default)]
pub(crate) struct Dials([AtomicU64; 6]);

impl Dials {
    pub(crate) fn count(&self, dialled: &Result<io::Result<TcpStream>, Elapsed>) {
        let place = match dialled {
            Ok(Ok(_)) => 0,
            Err(_) => 2,
            Ok(Err(e)) => match e.kind() {
                io::ErrorKind::ConnectionRefused => 1,
                io::ErrorKind::TimedOut => 2,
                io::ErrorKind::AddrInUse => 3,
                io::ErrorKind::AddrNotAvailable => 4,
                _ => 5,
            },
        };
        self.0[place].fetch_add(1, Relaxed);
    }
}

/// Answers to one packet, and by which connection they came.
pub(crate) struct Answered {
    /// As many as came in time, in the order asked.
    pub(crate) responses: Vec<Response>,
    pub(crate) slot: usize,
    pub(crate) connection: u64,
}

/// A packet under way.
pub(crate) struct Pending {
    answers: Arc<Mutex<Vec<Response>>>,
    done: oneshot::Receiver<()>,
    questions: usize,
    slot: usize,
    connection: u64,
}

/// One node.
pub(crate) struct Node {
    pub(crate) shared: Arc<Shared>,
    slots: Vec<Arc<Slot>>,
    /// The ways to the slots, in their order. The tasks that keep the slots do not hold them, so that they end with us.
    packets: Vec<mpsc::Sender<Packet>>,
    breaker: Mutex<Breaker>,
    opened: AtomicU64,
    turn: AtomicUsize,
    opaque: AtomicU32,
    refused: AtomicU64,
    late: AtomicU64,
    config: Config,
}

impl Node {
    pub(crate) fn start(address: &str, config: &Config, runtime: &Handle) -> Arc<Self> {
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            dials: Dials::default(),
            connections: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            unsuited: false.into(),
        });
        let (slots, packets) = (0..config.connections_per_node)
            .map(|_| {
                let (packets, inbox) = conn::channel();
                let slot = Arc::new(Slot::default());
                runtime.spawn(conn::keep(Arc::clone(&slot), inbox, Arc::clone(&shared), config.clone()));
                (slot, packets)
            })
            .unzip();
        let node = Arc::new(Self {
            shared,
            slots,
            packets,
            breaker: Mutex::default(),
            opened: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            opaque: AtomicU32::new(1),
            refused: AtomicU64::new(0),
            late: AtomicU64::new(0),
            config: config.clone(),
        });
        runtime.spawn(probe(Arc::downgrade(&node)));
        node
    }

    /// Slots that are connected.
    pub(crate) fn up(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|n| self.slots[*n].up.load(Relaxed) != 0).collect()
    }

    /// Whether calls may ask it.
    pub(crate) fn is_usable(&self) -> bool {
        self.breaker.lock().state() == State::Closed && self.slots.iter().any(|slot| slot.up.load(Relaxed) != 0)
    }

    /// The first of so many numbers in a row.
    pub(crate) fn numbers(&self, questions: usize) -> u32 {
        self.opaque.fetch_add(u32::try_from(questions).unwrap_or(u32::MAX), Relaxed)
    }

    /// The slot whose turn it is among those that are connected.
    pub(crate) fn any_slot(&self) -> Option<usize> {
        let first = self.turn.fetch_add(1, Relaxed);
        (0..self.slots.len()).map(|n| (first + n) % self.slots.len()).find(|n| self.slots[*n].up.load(Relaxed) != 0)
    }

    /// Hands questions to a slot. `None`: it is not connected, not on the connection asked for, or has too much waiting.
    pub(crate) fn send(
        &self,
        slot: usize,
        on: Option<u64>,
        verb: Verb,
        opaque: u32,
        questions: usize,
        bytes: BytesMut,
    ) -> Option<Pending> {
        let place = self.slots.get(slot)?;
        let connection = place.up.load(Relaxed);
        if connection == 0 || on.is_some_and(|on| on != connection) {
            return None;
        }
        let length = bytes.len();
        let before = place.backlog.fetch_add(length, Relaxed);
        // One packet may be as large as it is when nothing waits: values may be larger than the bound.
        if before > 0 && before + length > self.config.backlog_bytes_max {
            place.backlog.fetch_sub(length, Relaxed);
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        let (tell, done) = oneshot::channel();
        let answers = Arc::new(Mutex::new(Vec::with_capacity(questions)));
        // Bound to this connection in any case: who asks needs to know by which one the answer came.
        let packet = Packet {
            bytes: bytes.freeze(),
            verb,
            opaque,
            questions,
            on: Some(connection),
            answers: Arc::clone(&answers),
            done: tell,
        };
        if self.packets[slot].try_send(packet).is_err() {
            place.backlog.fetch_sub(length, Relaxed);
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        Some(Pending { answers, done, questions, slot, connection })
    }

    /// Waits for answers: as long as some come, at most to the end of the packet's own allowance.
    pub(crate) async fn answers(&self, mut pending: Pending) -> Answered {
        let begun = Instant::now();
        let end = begun + self.config.op_deadline + self.config.deadline_per_key * pending.questions as u32;
        let (mut seen, mut next) = (0, begun + self.config.op_deadline);
        while timeout_at(next.min(end), &mut pending.done).await.is_err() {
            let now = pending.answers.lock().len();
            if now == seen || next >= end {
                break;
            }
            (seen, next) = (now, next + self.config.op_deadline);
        }
        let responses = std::mem::take(&mut *pending.answers.lock());
        if responses.len() < pending.questions {
            self.late.fetch_add((pending.questions - responses.len()) as u64, Relaxed);
        }
        if responses.is_empty() {
            if self.breaker.lock().failed(std::time::Instant::now()) {
                self.opened.fetch_add(1, Relaxed);
            }
        } else {
            self.breaker.lock().answered();
        }
        Answered { responses, slot: pending.slot, connection: pending.connection }
    }

    /// One small question of the node's own.
    async fn probe(&self) -> bool {
        let mut bytes = BytesMut::new();
        codec::encode_noop(&mut bytes);
        let Some(pending) = self.any_slot().and_then(|slot| self.send(slot, None, Verb::Noop, 0, 1, bytes)) else {
            return false;
        };
        timeout_at(Instant::now() + self.config.op_deadline, pending.done).await.is_ok_and(|told| told.is_ok())
    }

    pub(crate) fn figures(&self) -> NodeFigures {
        let backlogs = || self.slots.iter().map(|slot| slot.backlog.load(Relaxed) as u64);
        NodeFigures {
            address: self.shared.address.clone(),
            connections_up: self.up().len() as u64,
            connections: self.slots.len() as u64,
            dials: std::array::from_fn(|n| self.shared.dials.0[n].load(Relaxed)),
            discarded: self.shared.discarded.load(Relaxed),
            backlog_bytes: backlogs().sum(),
            backlog_bytes_most: backlogs().max().unwrap_or(0),
            refused: self.refused.load(Relaxed),
            late: self.late.load(Relaxed),
            breaker: self.breaker.lock().state(),
            breaker_opened: self.opened.load(Relaxed),
            is_unsuited: self.shared.unsuited.load(Relaxed),
        }
    }
}

/// Asks an ailing node small questions until it answers in time again.
async fn probe(node: std::sync::Weak<Node>) {
    loop {
        sleep(LOOK_EVERY).await;
        let Some(node) = node.upgrade() else { return };
        let due = node.breaker.lock().probe_due(std::time::Instant::now());
        if due {
            let in_time = node.probe().await;
            node.breaker.lock().probed(in_time, std::time::Instant::now());
        }
    }
}
