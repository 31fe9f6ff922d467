//! One connection slot: a socket that is opened at start, carries questions one after the other, and is replaced, seldom,
//! when it fails. Demand never opens one.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Config,
    codec::{self, LeaseTerms, Malformed, Response, Status},
    node::Dials,
};

/// Questions handed over and not yet sent, in packets; their bytes are bounded by [`Config::backlog_bytes_max`].
const PACKETS_WAITING_MAX: usize = 256;

/// The shortest time between two dials of one slot.
const DIAL_EVERY: Duration = Duration::from_secs(1);

/// The longest time between two dials of one slot, jitter not counted.
const DIAL_EVERY_MAX: Duration = Duration::from_secs(2);

/// A connection that has questions open and brings no byte for so long is given up, and not before twice the deadline
/// of a question.
const SILENCE_MAX: Duration = Duration::from_millis(150);

/// How long a dial and the first questions on a connection may take.
const OPEN_MAX: Duration = Duration::from_millis(500);

/// Bytes of values that one packet of questions may bring; what is beyond counts as unanswered.
const PACKET_VALUES_BYTES_MAX: usize = 16 << 20;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Which answers a question may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Set,
    Delete,
    Noop,
}

impl Verb {
    fn allows(self, status: Status) -> bool {
        use Status::{Done, Exists, Miss, NoMemory, Noop, NotFound, NotStored, Value};
        match self {
            Self::Get => matches!(status, Value | Miss | NoMemory),
            Self::Set => matches!(status, Done | NotStored | Exists | NotFound | NoMemory),
            Self::Delete => matches!(status, Done | Exists | NotFound),
            Self::Noop => status == Noop,
        }
    }
}

/// Questions that are sent together, all of one verb, numbered one after the other.
pub(crate) struct Packet {
    pub(crate) bytes: Bytes,
    pub(crate) verb: Verb,
    /// The number of the first.
    pub(crate) opaque: u32,
    pub(crate) questions: usize,
    /// The connection that must carry them, if it may be no other: a lease ends with its connection, because the numbers
    /// of items begin anew when a server does.
    pub(crate) on: Option<u64>,
    pub(crate) answers: Arc<Mutex<Vec<Response>>>,
    pub(crate) done: oneshot::Sender<()>,
}

/// What a slot shares with those who ask.
#[derive(Default)]
pub(crate) struct Slot {
    /// The number of the connection that is up; 0: none is.
    pub(crate) up: AtomicU64,
    /// Bytes handed over and not answered.
    pub(crate) backlog: Arc<AtomicUsize>,
}

/// What all slots of a node share.
pub(crate) struct Shared {
    pub(crate) address: String,
    pub(crate) dials: Dials,
    /// Numbers of connections, never used twice.
    pub(crate) connections: AtomicU64,
    /// Connections given up because of what they brought, or failed to bring.
    pub(crate) discarded: AtomicU64,
    /// The server is too old for what we need.
    pub(crate) unsuited: AtomicBool,
}

/// Gives bytes back to a backlog, however their packet ends.
struct Held {
    packet: Packet,
    answered: usize,
    values_bytes: usize,
    backlog: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backlog.fetch_sub(self.packet.bytes.len(), Relaxed);
    }
}

/// The way to a slot.
pub(crate) fn channel() -> (mpsc::Sender<Packet>, mpsc::Receiver<Packet>) {
    mpsc::channel(PACKETS_WAITING_MAX)
}

/// Keeps a slot connected for as long as anybody may ask.
pub(crate) async fn keep(slot: Arc<Slot>, mut inbox: mpsc::Receiver<Packet>, shared: Arc<Shared>, config: Config) {
    let mut pause = DIAL_EVERY;
    loop {
        let begun = Instant::now();
        match open(&shared, &config).await {
            Some(stream) => {
                let number = shared.connections.fetch_add(1, Relaxed) + 1;
                slot.up.store(number, Relaxed);
                let ended = carry(stream, number, &mut inbox, &slot, &config).await;
                slot.up.store(0, Relaxed);
                match ended {
                    Ended::Closed => return,
                    Ended::Io(error) => {
                        tracing::debug!(node = %shared.address, %error, "a connection to memcached ended");
                    }
                    Ended::Silent | Ended::Malformed(_) => {
                        shared.discarded.fetch_add(1, Relaxed);
                        tracing::debug!(node = %shared.address, ?ended, "a connection to memcached was given up");
                    }
                }
                pause = DIAL_EVERY;
            }
            None => pause = (pause * 3 / 2).min(DIAL_EVERY_MAX),
        }
        // Jitter, so that the slots of many processes do not come back at one moment.
        let next = begun + pause + pause.mul_f64(0.25 * chance());
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                packet = inbox.recv() => match packet {
                    // Nobody waits for a connection: what was handed over too late is unanswered at once.
                    Some(packet) => drop(hold(packet, &slot)),
                    None => return,
                },
            }
        }
    }
}

fn hold(packet: Packet, slot: &Slot) -> Held {
    Held { packet, answered: 0, values_bytes: 0, backlog: Arc::clone(&slot.backlog) }
}

/// A number from 0 to 1, from the clock and an address: good enough for jitter.
fn chance() -> f64 {
    let here = 0_u8;
    let seed =
        std::ptr::from_ref(&here) as u64 ^ std::time::UNIX_EPOCH.elapsed().map_or(0, |t| u64::from(t.subsec_nanos()));
    (xxhash_rust::xxh3::xxh3_64(&seed.to_be_bytes()) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Dials, and finds out whether the server can what we need.
async fn open(shared: &Shared, config: &Config) -> Option<TcpStream> {
    let dial = async {
        // A name is looked up every time: a node may come back under another address.
        let address: SocketAddr = tokio::net::lookup_host(&shared.address)
            .await?
            .next()
            .ok_or_else(|| io::Error::other("the name of a memcached node has no address"))?;
        TcpStream::connect(address).await
    };
    let dialled = timeout(OPEN_MAX, dial).await;
    shared.dials.count(&dialled);
    let mut stream = dialled.ok()?.ok()?;
    let _ = stream.set_nodelay(true);
    match timeout(OPEN_MAX, examine(&mut stream, config)).await {
        Ok(Ok(suited)) => {
            shared.unsuited.store(!suited, Relaxed);
            suited.then_some(stream)
        }
        Ok(Err(_)) | Err(_) => {
            shared.discarded.fetch_add(1, Relaxed);
            None
        }
    }
}

/// Tries the parts of the protocol that must not be missing: a stub for a key that is not there, for one reader only, and
/// a fill that needs the stub's number. `false`: the server does not know them.
async fn examine(stream: &mut TcpStream, config: &Config) -> io::Result<bool> {
    let key = format!("gp:examine:{:016x}", (chance() * u64::MAX as f64) as u64);
    let key = key.as_bytes();
    let terms = Some(LeaseTerms { stub_seconds: 2, refresh_seconds: 1 });
    let mut input = BytesMut::new();
    let mut ask = async |out: BytesMut| -> io::Result<Result<Response, Malformed>> {
        stream.write_all(&out).await?;
        loop {
            match codec::decode(&mut input, config.value_bytes_max) {
                Ok(Some(response)) => return Ok(Ok(response)),
                Err(e) => return Ok(Err(e)),
                Ok(None) => {}
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    let mut out = BytesMut::new();
    codec::encode_get(&mut out, key, 1, terms);
    let Ok(first) = ask(out).await? else { return Ok(false) };
    let mut out = BytesMut::new();
    codec::encode_get(&mut out, key, 2, terms);
    let Ok(second) = ask(out).await? else { return Ok(false) };
    let (true, true, Some(cas)) = (first.won, second.taken && !second.won, first.cas) else { return Ok(false) };
    let mut out = BytesMut::new();
    codec::encode_set(&mut out, key, 3, b"x", 1, Some(cas.wrapping_add(1)));
    let Ok(refused) = ask(out).await? else { return Ok(false) };
    let mut out = BytesMut::new();
    codec::encode_set(&mut out, key, 4, b"x", 1, Some(cas));
    let Ok(stored) = ask(out).await? else { return Ok(false) };
    let mut out = BytesMut::new();
    codec::encode_delete(&mut out, key, 5, None);
    let Ok(gone) = ask(out).await? else { return Ok(false) };
    let said = [first.opaque, second.opaque, refused.opaque, stored.opaque, gone.opaque];
    Ok((refused.status, stored.status, gone.status) == (Status::Exists, Status::Done, Status::Done)
        && said == [Some(1), Some(2), Some(3), Some(4), Some(5)])
}

/// Why a connection ended.
#[derive(Debug)]
enum Ended {
    /// Nobody can ask any more.
    Closed,
    Io(io::Error),
    Silent,
    Malformed(#[allow(dead_code, reason = "shown by Debug")] Malformed),
}

async fn carry(
    mut stream: TcpStream,
    number: u64,
    inbox: &mut mpsc::Receiver<Packet>,
    slot: &Slot,
    config: &Config,
) -> Ended {
    let silence_max = SILENCE_MAX.max(config.op_deadline * 2);
    let (mut from, mut to) = stream.split();
    let mut unsent: VecDeque<Bytes> = VecDeque::new();
    let mut open: VecDeque<Held> = VecDeque::new();
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut heard = Instant::now();
    loop {
        if input.capacity() - input.len() < READ_BYTES / 4 {
            input.reserve(READ_BYTES);
        }
        tokio::select! {
            read = from.read_buf(&mut input) => {
                match read {
                    Ok(0) => return Ended::Io(io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) => heard = Instant::now(),
                    Err(e) => return Ended::Io(e),
                }
                if let Err(e) = deliver(&mut input, &mut open, config.value_bytes_max) {
                    return Ended::Malformed(e);
                }
            }
            written = write_some(&mut to, &mut unsent), if !unsent.is_empty() => {
                if let Err(e) = written {
                    return Ended::Io(e);
                }
            }
            packet = inbox.recv() => {
                let Some(packet) = packet else { return Ended::Closed };
                let held = hold(packet, slot);
                if held.packet.on.is_some_and(|on| on != number) {
                    continue;
                }
                if open.is_empty() {
                    heard = Instant::now();
                }
                unsent.push_back(held.packet.bytes.clone());
                open.push_back(held);
            }
            () = sleep_until(heard + silence_max), if !open.is_empty() => {
                // A thread that was held up sees its own delay: only what is not there by now is silence.
                match timeout(Duration::ZERO, from.read_buf(&mut input)).await {
                    Ok(Ok(1..)) => heard = Instant::now(),
                    _ => return Ended::Silent,
                }
                if let Err(e) = deliver(&mut input, &mut open, config.value_bytes_max) {
                    return Ended::Malformed(e);
                }
            }
        }
    }
}

async fn write_some(to: &mut tokio::net::tcp::WriteHalf<'_>, unsent: &mut VecDeque<Bytes>) -> io::Result<()> {
    let Some(first) = unsent.front_mut() else { return Ok(()) };
    let n = to.write(first).await?;
    if n == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    first.advance(n);
    if first.is_empty() {
        unsent.pop_front();
    }
    Ok(())
}

/// Gives what was read to those who asked, in order.
fn deliver(input: &mut BytesMut, open: &mut VecDeque<Held>, value_bytes_max: usize) -> Result<(), Malformed> {
    loop {
        let Some(response) = codec::decode(input, value_bytes_max)? else { return Ok(()) };
        // Nobody asked.
        let held = open.front_mut().ok_or(Malformed::Opaque)?;
        let packet = &held.packet;
        if !packet.verb.allows(response.status) {
            return Err(Malformed::Status);
        }
        let expected = packet.opaque.wrapping_add(u32::try_from(held.answered).unwrap_or(u32::MAX));
        let is_numbered = !matches!(response.status, Status::Noop | Status::NoMemory);
        if is_numbered && response.opaque != Some(expected) {
            return Err(Malformed::Opaque);
        }
        held.answered += 1;
        held.values_bytes += response.value.len();
        // Who has given up gets nothing, and what is too much for one packet counts as unanswered.
        if held.values_bytes <= PACKET_VALUES_BYTES_MAX && !packet.done.is_closed() {
            packet.answers.lock().push(response);
        }
        if held.answered == packet.questions
            && let Some(mut held) = open.pop_front()
        {
            let (nobody, _) = oneshot::channel();
            let done = std::mem::replace(&mut held.packet.done, nobody);
            // Given back before the answer is known, so that who has all answers sees an empty backlog.
            drop(held);
            let _ = done.send(());
        }
    }
}
