//! A history in files: written once, replayed as often as wanted.
//!
//! A recording is a folder. `frames.bin` holds a magic number and then each event as its length (four bytes, little
//! endian), its sequence number (eight) and its frame. `identities.json` says who the accounts are, since a consumer
//! needs their keys, and what is in the recording.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use gp_atproto::{
    Cid, Tid,
    car::{Car, EVENT_BLOCKS_MAX},
    frame::{Message, peek},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::DropGuard;

use crate::{
    Error,
    history::Stage,
    host::{AccountFacts, Directory},
    log::{Log, NOBODY, Stored},
    network::serve,
    repo::Repo,
    server::Served,
    spec::Spec,
};

const MAGIC: &[u8; 8] = b"gpframe1";
const FRAMES: &str = "frames.bin";
const IDENTITIES: &str = "identities.json";
/// Bytes in front of each frame.
const PREFIX_BYTES: u64 = 12;
/// Largest frame that is believed.
const FRAME_BYTES_MAX: usize = gp_atproto::frame::FRAME_BYTES_MAX;

/// A recording on disk.
#[derive(Clone, Debug)]
pub struct Recording {
    folder: PathBuf,
    about: Arc<About>,
}

/// What is in a recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    seed: u64,
    now_us: i64,
    records: u64,
    operations: u64,
    commits: u64,
    events: u64,
    head_seq: i64,
    identities: Vec<Recorded>,
}

/// An account of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The account's DID.
    pub did: String,
    /// The handle it ends with.
    pub handle: String,
    /// The key it signs with, as a `Multikey`.
    pub signing_key: String,
    /// The key it signs labels with, for the labeler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_key: Option<String>,
    /// What its host ends up saying about it; absent in good standing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The newest commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Its revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
}

impl Recording {
    /// Writes the history of a network into a folder, which is made if it is missing. Events go to disk as they come:
    /// memory holds repositories without their records, whatever the spec says.
    pub fn write(spec: &Spec, folder: &Path) -> Result<Recording, Error> {
        spec.check()?;
        let spec = Spec { keep_blocks: false, keep_model: false, ..spec.clone() };
        let path = folder.join(FRAMES);
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::File { path, error }
        };
        std::fs::create_dir_all(folder).map_err(broken(folder))?;
        let file = File::create(&path).map_err(broken(&path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let (mut head_seq, mut events) = (0, 0);
        let mut stage = Stage::new(&spec);
        let mut write = || -> io::Result<()> {
            out.write_all(MAGIC)?;
            stage.perform_history(|performed| -> io::Result<()> {
                for (seq, _, frame) in performed.frames {
                    let len = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidData)?;
                    out.write_all(&len.to_le_bytes())?;
                    out.write_all(&seq.to_le_bytes())?;
                    out.write_all(&frame)?;
                    (head_seq, events) = (seq, events + 1);
                }
                Ok(())
            })?;
            out.flush()
        };
        write().map_err(broken(&path))?;

        let tally = stage.script.tally();
        let about = About {
            seed: spec.seed,
            now_us: spec.now_us,
            records: tally.records,
            operations: tally.records + tally.updates + tally.deletes,
            commits: tally.commits,
            events,
            head_seq,
            identities: stage.host.list(0, usize::MAX).into_iter().map(Recorded::from).collect(),
        };
        let path = folder.join(IDENTITIES);
        let text = serde_json::to_vec(&about).expect("plain data has a JSON form");
        std::fs::write(&path, text).map_err(broken(&path))?;
        Ok(Recording { folder: folder.to_owned(), about: Arc::new(about) })
    }

    /// Opens a recording.
    pub fn read(folder: &Path) -> Result<Recording, Error> {
        let path = folder.join(IDENTITIES);
        let text = std::fs::read(&path).map_err(|error| Error::File { path: path.clone(), error })?;
        let about: About = serde_json::from_slice(&text).map_err(|_| Error::Recording(path))?;
        let recording = Recording { folder: folder.to_owned(), about: Arc::new(about) };
        Frames::open(&folder.join(FRAMES))?; // looks at the magic number
        Ok(recording)
    }

    /// Everybody in the recording, in order of joining.
    pub fn identities(&self) -> &[Recorded] {
        &self.about.identities
    }

    /// The sequence number of the last event.
    pub fn head_seq(&self) -> i64 {
        self.about.head_seq
    }

    /// Events in the recording.
    pub fn events(&self) -> u64 {
        self.about.events
    }

    /// Creations, updates and deletions of records in the recording.
    pub fn operations(&self) -> u64 {
        self.about.operations
    }

    /// Where the history ends, in microseconds since the epoch.
    pub fn now_us(&self) -> i64 {
        self.about.now_us
    }

    /// Every event in order: its sequence number and its frame. The iterator ends early, with an error, where the
    /// file does.
    pub fn frames(&self) -> Result<impl Iterator<Item = Result<(i64, Bytes), Error>> + use<>, Error> {
        let path = self.folder.join(FRAMES);
        let mut reader = Frames::open(&path)?;
        let mut over = false;
        Ok(std::iter::from_fn(move || {
            if over {
                return None;
            }
            let next = reader.next().map_err(|error| Error::File { path: path.clone(), error }).transpose();
            over = !matches!(next, Some(Ok(_)));
            next
        }))
    }

    /// Serves the recording as a relay, a directory and hosts would. Frames stay in their file; an export reads the
    /// whole file for the account's events.
    pub async fn replay(&self, listen: SocketAddr) -> Result<Replay, Error> {
        let recording = self.clone();
        let (log, directory) =
            tokio::task::spawn_blocking(move || recording.index()).await.map_err(|_| Error::History)??;
        let (served, stop) = serve(listen, Arc::new(log), Arc::new(Log::new(None, None)), Arc::new(directory)).await?;
        Ok(Replay { served, _stop: stop })
    }

    fn index(&self) -> Result<(Log, RecordedHosts), Error> {
        let path = self.folder.join(FRAMES);
        let broken = |error| Error::File { path: path.clone(), error };
        let log = Log::new(None, Some(File::open(&path).map_err(broken)?));
        let mut reader = Frames::open(&path)?;
        let mut stored = Vec::new();
        while let Some((seq, len, offset)) = reader.skip().map_err(broken)? {
            stored.push((seq, NOBODY, Stored::File { offset, len }));
        }
        log.append(stored);
        let by_did = self.about.identities.iter().enumerate().map(|(at, it)| (it.did.clone(), at)).collect();
        // Whoever joined or changed last owns a handle; accounts that lost theirs do not come later than that.
        let owners = self.about.identities.iter().enumerate().map(|(at, it)| (it.handle.clone(), at)).collect();
        Ok((log, RecordedHosts { recording: self.clone(), by_did, owners }))
    }
}

/// Reads `frames.bin`.
struct Frames {
    file: BufReader<File>,
    at: u64,
    len: u64,
}

impl Frames {
    fn open(path: &Path) -> Result<Frames, Error> {
        let broken = |error| Error::File { path: path.to_owned(), error };
        let file = File::open(path).map_err(broken)?;
        let len = file.metadata().map_err(broken)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; MAGIC.len()];
        match file.read_exact(&mut magic) {
            Ok(()) if magic == *MAGIC => Ok(Frames { file, at: MAGIC.len() as u64, len }),
            _ => Err(Error::Recording(path.to_owned())),
        }
    }

    fn prefix(&mut self) -> io::Result<Option<(i64, u32)>> {
        if self.at == self.len {
            return Ok(None);
        }
        let (mut len, mut seq) = ([0; 4], [0; 8]);
        self.file.read_exact(&mut len)?;
        self.file.read_exact(&mut seq)?;
        let len = u32::from_le_bytes(len);
        if len as usize > FRAME_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.at += PREFIX_BYTES;
        Ok(Some((i64::from_le_bytes(seq), len)))
    }

    fn next(&mut self) -> io::Result<Option<(i64, Bytes)>> {
        let Some((seq, len)) = self.prefix()? else { return Ok(None) };
        let mut frame = vec![0; len as usize];
        self.file.read_exact(&mut frame)?;
        self.at += u64::from(len);
        Ok(Some((seq, frame.into())))
    }

    /// Passes over a frame: its sequence number, length and place.
    fn skip(&mut self) -> io::Result<Option<(i64, u32, u64)>> {
        let Some((seq, len)) = self.prefix()? else { return Ok(None) };
        let offset = self.at;
        self.file.seek_relative(i64::from(len))?;
        self.at += u64::from(len);
        if self.at > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((seq, len, offset)))
    }
}

/// A recording that is being served, until the handle is dropped.
pub struct Replay {
    served: Arc<Served>,
    _stop: DropGuard,
}

impl Replay {
    /// The port on which everything is.
    pub fn addr(&self) -> SocketAddr {
        self.served.addr
    }

    /// For consumers of `com.atproto.sync.subscribeRepos`.
    pub fn relay_url(&self) -> String {
        format!("ws://{}", self.addr())
    }

    /// The DID directory.
    pub fn plc_url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The sequence number of the last event.
    pub fn head_seq(&self) -> i64 {
        self.served.events.head()
    }
}

struct RecordedHosts {
    recording: Recording,
    by_did: HashMap<String, usize>,
    owners: HashMap<String, usize>,
}

impl From<AccountFacts> for Recorded {
    fn from(facts: AccountFacts) -> Recorded {
        Recorded {
            did: facts.did,
            handle: facts.handle,
            signing_key: facts.signing_key,
            label_key: facts.label_key,
            status: facts.status,
            head: facts.head.map(|(cid, _)| cid.to_string()),
            rev: facts.head.map(|(_, rev)| rev.to_string()),
        }
    }
}

impl Recorded {
    fn facts(&self) -> AccountFacts {
        let head = self.head.as_deref().and_then(|head| Cid::parse(head).ok());
        let rev = self.rev.as_deref().and_then(|rev| Tid::parse(rev).ok());
        AccountFacts {
            did: self.did.clone(),
            handle: self.handle.clone(),
            signing_key: self.signing_key.clone(),
            label_key: self.label_key.clone(),
            head: head.zip(rev),
            status: self.status.clone(),
            is_tombstone: false,
        }
    }
}

impl Directory for RecordedHosts {
    fn account(&self, did: &str) -> Option<AccountFacts> {
        Some(self.recording.identities()[*self.by_did.get(did)?].facts())
    }

    fn owner(&self, handle: &str) -> Option<String> {
        Some(self.recording.identities()[*self.owners.get(handle)?].did.clone())
    }

    fn car(&self, did: &str) -> Option<Vec<u8>> {
        let mut blocks: BTreeMap<Box<str>, Bytes> = BTreeMap::new();
        let mut head = None;
        for frame in self.recording.frames().ok()? {
            let (_, frame) = frame.ok()?;
            if peek(&frame).did != Some(did) {
                continue;
            }
            let Ok(Message::Commit(commit)) = Message::decode(&frame) else { continue };
            let car = Car::parse(commit.blocks, EVENT_BLOCKS_MAX).ok()?;
            for op in &commit.ops {
                match op.cid.map(|cid| car.get(&cid)) {
                    None => drop(blocks.remove(op.path)),
                    // Missing where a later operation of the same commit overwrites it.
                    Some(None) => {}
                    Some(Some(block)) => drop(blocks.insert(op.path.into(), Bytes::copy_from_slice(block))),
                }
            }
            head = car.get(&commit.commit).map(<[u8]>::to_vec);
        }
        Repo::restore(blocks, head?)?.car()
    }

    fn list(&self, from: usize, limit: usize) -> Vec<AccountFacts> {
        self.recording.identities().iter().skip(from).take(limit).map(Recorded::facts).collect()
    }
}
