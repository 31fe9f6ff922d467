//! Frames of `com.atproto.sync.subscribeRepos`: one websocket message is two CBOR items, a header and a body.
//!
//! Decoding borrows everything from the frame. Required fields, their kinds and string formats, and the limits of
//! the lexicon are checked; the deprecated fields (`rebase`, `tooBig`, `blobs`) are passed over. What blocks hold is
//! not looked at here: see [`crate::verify`].

use crate::{
    cbor::{CborError, Keys, Kind, Reader, Writer},
    cid::Cid,
    datetime, did, handle,
    tid::Tid,
};

/// Most bytes of blocks in a `#commit`.
pub const COMMIT_BLOCKS_BYTES_MAX: usize = 2_000_000;
/// Most operations in a `#commit`.
pub const COMMIT_OPS_MAX: usize = 200;
/// Most bytes of blocks in a `#sync`.
pub const SYNC_BLOCKS_BYTES_MAX: usize = 10_000;
/// Largest frame worth reading: the largest commit and its operations with room to spare.
pub const FRAME_BYTES_MAX: usize = 5_000_000;

const METHOD: &str = "com.atproto.sync.subscribeRepos";

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not two CBOR items of the profile.
    #[error("frame is not readable: {0}")]
    Cbor(#[from] CborError),
    /// The header is neither `{op: 1, t}` nor `{op: -1}`.
    #[error("frame has no valid header")]
    Header,
    /// The body is not a map.
    #[error("frame body is not a map")]
    Body,
    /// A required field is missing.
    #[error("message has no {0}")]
    Missing(&'static str),
    /// A field is of the wrong kind or format.
    #[error("message has a malformed {0}")]
    Field(&'static str),
    /// More bytes of blocks than the lexicon allows.
    #[error("message has too many bytes of blocks")]
    BlocksTooLarge,
    /// More operations than the lexicon allows.
    #[error("commit has too many operations")]
    TooManyOps,
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// Records changed.
    Commit(CommitMessage<'a>),
    /// The repository's state, without how it came about.
    Sync(SyncMessage<'a>),
    /// The DID document or the handle may have changed.
    Identity(IdentityMessage<'a>),
    /// The account's hosting status.
    Account(AccountMessage<'a>),
    /// Something about the stream itself.
    Info(InfoMessage<'a>),
    /// A type that is not known here; its body is well-formed CBOR.
    Unknown(&'a str),
    /// The stream ends for this reason.
    Error(StreamError<'a>),
}

/// `#commit`.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitMessage<'a> {
    /// Position in the stream.
    pub seq: i64,
    /// The account's DID.
    pub repo: &'a str,
    /// The CID of the commit block.
    pub commit: Cid,
    /// The revision of this commit.
    pub rev: Tid,
    /// The revision before it; `None` on a first commit.
    pub since: Option<Tid>,
    /// A CAR.
    pub blocks: &'a [u8],
    /// What happened to which records, in the order of writing.
    pub ops: Vec<RepoOp<'a>>,
    /// The tree's root before this commit; absent on first commits and from old hosts.
    pub prev_data: Option<Cid>,
    /// When the host made the event, as sent.
    pub time: &'a str,
    /// The same in microseconds since the epoch.
    pub time_us: i64,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The record was absent.
    Create,
    /// The record is replaced.
    Update,
    /// The record goes.
    Delete,
    /// None of the three.
    Unknown,
}

impl Action {
    /// The word on the wire; `unknown` for [`Action::Unknown`].
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::Unknown => "unknown",
        }
    }
}

/// One operation of a `#commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepoOp<'a> {
    /// What it does.
    pub action: Action,
    /// `collection/rkey`, not yet checked.
    pub path: &'a str,
    /// The record's CID; null for deletions.
    pub cid: Option<Cid>,
    /// The CID of the record that was there before the commit.
    pub prev: Option<Cid>,
}

/// `#sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncMessage<'a> {
    /// Position in the stream.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// A CAR with the commit block.
    pub blocks: &'a [u8],
    /// The commit's revision, as sent.
    pub rev: &'a str,
    /// When the host made the event, as sent.
    pub time: &'a str,
    /// The same in microseconds since the epoch.
    pub time_us: i64,
}

/// `#identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityMessage<'a> {
    /// Position in the stream.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// What the host believes the handle to be. A hint only.
    pub handle: Option<&'a str>,
    /// When the host made the event, as sent.
    pub time: &'a str,
    /// The same in microseconds since the epoch.
    pub time_us: i64,
}

/// `#account`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountMessage<'a> {
    /// Position in the stream.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// Whether the host serves it.
    pub active: bool,
    /// Why not, as sent.
    pub status: Option<&'a str>,
    /// When the host made the event, as sent.
    pub time: &'a str,
    /// The same in microseconds since the epoch.
    pub time_us: i64,
}

/// `#info`. It has no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoMessage<'a> {
    /// `OutdatedCursor` is the only known name.
    pub name: &'a str,
    /// For people.
    pub message: Option<&'a str>,
}

/// The body of an error frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError<'a> {
    /// `FutureCursor`, `ConsumerTooSlow` or any other name.
    pub error: &'a str,
    /// For people.
    pub message: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// Reads one frame.
    pub fn decode(frame: &'a [u8]) -> Result<Message<'a>, FrameError> {
        let mut reader = Reader::new(frame);
        let message = match Header::read(&mut reader)?.kind(METHOD, &reader)? {
            Type::Error => Message::Error(StreamError::read(&mut reader)?),
            Type::Named("commit") => Message::Commit(CommitMessage::read(&mut reader)?),
            Type::Named("sync") => Message::Sync(SyncMessage::read(&mut reader)?),
            Type::Named("identity") => Message::Identity(IdentityMessage::read(&mut reader)?),
            Type::Named("account") => Message::Account(AccountMessage::read(&mut reader)?),
            Type::Named("info") => Message::Info(InfoMessage::read(&mut reader)?),
            Type::Named(other) | Type::Foreign(other) => {
                reader.skip()?;
                Message::Unknown(other)
            }
        };
        reader.end()?;
        Ok(message)
    }

    /// The position in the stream, for messages that have one.
    pub fn seq(&self) -> Option<i64> {
        match self {
            Message::Commit(it) => Some(it.seq),
            Message::Sync(it) => Some(it.seq),
            Message::Identity(it) => Some(it.seq),
            Message::Account(it) => Some(it.seq),
            Message::Info(_) | Message::Unknown(_) | Message::Error(_) => None,
        }
    }

    /// The account, for messages about one.
    pub fn did(&self) -> Option<&'a str> {
        match self {
            Message::Commit(it) => Some(it.repo),
            Message::Sync(it) => Some(it.did),
            Message::Identity(it) => Some(it.did),
            Message::Account(it) => Some(it.did),
            Message::Info(_) | Message::Unknown(_) | Message::Error(_) => None,
        }
    }

    /// Writes the frame. An unknown message gets an empty body.
    pub fn encode(&self) -> Vec<u8> {
        let room = if let Message::Commit(it) = self { it.blocks.len() + it.ops.len() * 160 } else { 0 };
        let mut writer = Writer::with_capacity(room + 512);
        match self {
            Message::Commit(it) => it.write(header(&mut writer, "#commit")),
            Message::Sync(it) => {
                header(&mut writer, "#sync").map(5).text("did").text(it.did).text("rev").text(it.rev);
                writer.text("seq").int(it.seq).text("time").text(it.time).text("blocks").bytes(it.blocks);
            }
            Message::Identity(it) => {
                header(&mut writer, "#identity").map(3 + usize::from(it.handle.is_some())).text("did").text(it.did);
                writer.text("seq").int(it.seq).text("time").text(it.time);
                optional(&mut writer, "handle", it.handle);
            }
            Message::Account(it) => {
                header(&mut writer, "#account").map(4 + usize::from(it.status.is_some())).text("did").text(it.did);
                writer.text("seq").int(it.seq).text("time").text(it.time).text("active").flag(it.active);
                optional(&mut writer, "status", it.status);
            }
            Message::Info(it) => {
                header(&mut writer, "#info").map(1 + usize::from(it.message.is_some())).text("name").text(it.name);
                optional(&mut writer, "message", it.message);
            }
            Message::Unknown(kind) => drop(header(&mut writer, kind).map(0)),
            Message::Error(it) => {
                writer
                    .map(1)
                    .text("op")
                    .int(-1)
                    .map(1 + usize::from(it.message.is_some()))
                    .text("error")
                    .text(it.error);
                optional(&mut writer, "message", it.message);
            }
        }
        writer.into_bytes()
    }
}

/// Writes the header of a message of this type.
pub(crate) fn header<'w>(writer: &'w mut Writer, kind: &str) -> &'w mut Writer {
    writer.map(2).text("t").text(kind).text("op").int(1)
}

fn optional(writer: &mut Writer, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        writer.text(key).text(text);
    }
}

/// The header of a frame.
pub(crate) struct Header<'a> {
    error: bool,
    t: Option<&'a str>,
}

/// What the body is.
pub(crate) enum Type<'a> {
    Error,
    /// A type of the method asked for, without the `#`.
    Named(&'a str),
    /// A type of another method.
    Foreign(&'a str),
}

impl<'a> Header<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Header<'a>, FrameError> {
        let (mut op, mut t, mut keys) = (None, None, Keys::default());
        let bad = |error| if error == CborError::WrongKind { FrameError::Header } else { FrameError::Cbor(error) };
        for _ in 0..reader.map().map_err(bad)? {
            let key = reader.key()?;
            keys.saw(key);
            match key {
                "op" => op = Some(reader.int().map_err(bad)?),
                "t" => t = Some(reader.text().map_err(bad)?),
                _ => reader.skip()?,
            }
        }
        keys.end()?;
        match op {
            Some(1) => Ok(Header { error: false, t }),
            Some(-1) => Ok(Header { error: true, t: None }),
            _ => Err(FrameError::Header),
        }
    }

    /// What the body, which `reader` stands in front of, is. Without `t` the body's own `$type` tells.
    pub(crate) fn kind(&self, method: &str, reader: &Reader<'a>) -> Result<Type<'a>, FrameError> {
        if reader.kind()? != Kind::Map {
            return Err(FrameError::Body);
        }
        if self.error {
            return Ok(Type::Error);
        }
        let name = match self.t {
            Some(t) => t,
            None => reader.clone().value()?.type_name().unwrap_or_default(),
        };
        Ok(match name.strip_prefix('#').or_else(|| name.strip_prefix(method).and_then(|rest| rest.strip_prefix('#'))) {
            Some(name) => Type::Named(name),
            None => Type::Foreign(name),
        })
    }
}

/// Reads the properties of the body, calling `field` for each; what `field` does not take is passed over.
pub(crate) fn body<'a>(
    reader: &mut Reader<'a>,
    mut field: impl FnMut(&'a str, &mut Reader<'a>) -> Result<bool, FrameError>,
) -> Result<(), FrameError> {
    let mut keys = Keys::default();
    for _ in 0..reader.map()? {
        let key = reader.key()?;
        keys.saw(key);
        if !field(key, reader)? {
            reader.skip()?;
        }
    }
    Ok(keys.end()?)
}

/// Names the field in an error about its kind.
pub(crate) fn named<T>(name: &'static str, result: Result<T, CborError>) -> Result<Option<T>, FrameError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(CborError::WrongKind | CborError::Link) => Err(FrameError::Field(name)),
        Err(other) => Err(FrameError::Cbor(other)),
    }
}

pub(crate) fn required<T>(name: &'static str, value: Option<T>) -> Result<T, FrameError> {
    value.ok_or(FrameError::Missing(name))
}

fn checked<T>(name: &'static str, value: Option<T>, good: impl Fn(&T) -> bool) -> Result<T, FrameError> {
    let value = required(name, value)?;
    if good(&value) { Ok(value) } else { Err(FrameError::Field(name)) }
}

fn time_of(time: Option<&str>) -> Result<(&str, i64), FrameError> {
    let time = required("time", time)?;
    Ok((time, datetime::parse_micros(time).ok_or(FrameError::Field("time"))?))
}

impl<'a> CommitMessage<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<CommitMessage<'a>, FrameError> {
        let (mut seq, mut repo, mut commit, mut rev, mut since) = (None, None, None, None, None);
        let (mut blocks, mut ops, mut prev_data, mut time) = (None, None, None, None);
        body(reader, |key, reader| {
            match key {
                "seq" => seq = named("seq", reader.int())?,
                "repo" => repo = named("repo", reader.text())?,
                "commit" => commit = named("commit", reader.cid())?,
                "rev" => rev = named("rev", reader.text())?,
                "since" if reader.null() => since = Some(None),
                "since" => since = Some(named("since", reader.text())?),
                "blocks" => blocks = named("blocks", reader.bytes())?,
                "ops" => ops = Some(read_ops(reader)?),
                "prevData" if reader.null() => {}
                "prevData" => prev_data = named("prevData", reader.cid())?,
                "time" => time = named("time", reader.text())?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let tid = |name, text| Tid::parse(text).map_err(|_| FrameError::Field(name));
        let (time, time_us) = time_of(time)?;
        let message = CommitMessage {
            seq: checked("seq", seq, |seq| *seq >= 0)?,
            repo: checked("repo", repo, |repo| did::is_valid(repo))?,
            commit: required("commit", commit)?,
            rev: tid("rev", required("rev", rev)?)?,
            since: required("since", since)?.map(|since| tid("since", since)).transpose()?,
            blocks: required("blocks", blocks)?,
            ops: required("ops", ops)?,
            prev_data,
            time,
            time_us,
        };
        if message.blocks.len() > COMMIT_BLOCKS_BYTES_MAX {
            return Err(FrameError::BlocksTooLarge);
        }
        Ok(message)
    }

    fn write(&self, writer: &mut Writer) {
        writer.map(11 + usize::from(self.prev_data.is_some())).text("ops").list(self.ops.len());
        for op in &self.ops {
            writer
                .map(3 + usize::from(op.prev.is_some()))
                .text("cid")
                .link_or_null(op.cid.as_ref())
                .text("path")
                .text(op.path);
            if let Some(prev) = &op.prev {
                writer.text("prev").link(prev.as_ref());
            }
            writer.text("action").text(op.action.as_str());
        }
        writer.text("rev").text(self.rev.text().as_str()).text("seq").int(self.seq).text("repo").text(self.repo);
        writer.text("time").text(self.time).text("blobs").list(0).text("since");
        match self.since {
            Some(since) => writer.text(since.text().as_str()),
            None => writer.null(),
        };
        writer.text("blocks").bytes(self.blocks).text("commit").link(self.commit.as_ref());
        writer.text("rebase").flag(false).text("tooBig").flag(false);
        if let Some(prev_data) = &self.prev_data {
            writer.text("prevData").link(prev_data.as_ref());
        }
    }
}

fn read_ops<'a>(reader: &mut Reader<'a>) -> Result<Vec<RepoOp<'a>>, FrameError> {
    let count = named("ops", reader.list())?.unwrap_or_default();
    if count > COMMIT_OPS_MAX as u64 {
        return Err(FrameError::TooManyOps);
    }
    let mut ops = Vec::with_capacity(count as usize);
    for _ in 0..count {
        if reader.kind()? != Kind::Map {
            return Err(FrameError::Field("ops"));
        }
        let (mut action, mut path, mut cid, mut prev) = (None, None, None, None);
        body(reader, |key, reader| {
            match key {
                "action" => action = named("action", reader.text())?,
                "path" => path = named("path", reader.text())?,
                "cid" if reader.null() => cid = Some(None),
                "cid" => cid = Some(named("cid", reader.cid())?),
                "prev" if reader.null() => {}
                "prev" => prev = named("prev", reader.cid())?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        ops.push(RepoOp {
            action: match required("action", action)? {
                "create" => Action::Create,
                "update" => Action::Update,
                "delete" => Action::Delete,
                _ => Action::Unknown,
            },
            path: required("path", path)?,
            cid: required("cid", cid)?,
            prev,
        });
    }
    Ok(ops)
}

impl<'a> SyncMessage<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<SyncMessage<'a>, FrameError> {
        let (mut seq, mut did, mut blocks, mut rev, mut time) = (None, None, None, None, None);
        body(reader, |key, reader| {
            match key {
                "seq" => seq = named("seq", reader.int())?,
                "did" => did = named("did", reader.text())?,
                "blocks" => blocks = named("blocks", reader.bytes())?,
                "rev" => rev = named("rev", reader.text())?,
                "time" => time = named("time", reader.text())?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (time, time_us) = time_of(time)?;
        let message = SyncMessage {
            seq: checked("seq", seq, |seq| *seq >= 0)?,
            did: checked("did", did, |did| did::is_valid(did))?,
            blocks: required("blocks", blocks)?,
            rev: required("rev", rev)?,
            time,
            time_us,
        };
        if message.blocks.len() > SYNC_BLOCKS_BYTES_MAX {
            return Err(FrameError::BlocksTooLarge);
        }
        Ok(message)
    }
}

impl<'a> IdentityMessage<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<IdentityMessage<'a>, FrameError> {
        let (mut seq, mut did, mut handle, mut time) = (None, None, None, None);
        body(reader, |key, reader| {
            match key {
                "seq" => seq = named("seq", reader.int())?,
                "did" => did = named("did", reader.text())?,
                "handle" if reader.null() => {}
                "handle" => handle = named("handle", reader.text())?,
                "time" => time = named("time", reader.text())?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (time, time_us) = time_of(time)?;
        if handle.is_some_and(|handle| !handle::is_valid(handle)) {
            return Err(FrameError::Field("handle"));
        }
        let (seq, did) = (checked("seq", seq, |seq| *seq >= 0)?, checked("did", did, |did| did::is_valid(did))?);
        Ok(IdentityMessage { seq, did, handle, time, time_us })
    }
}

impl<'a> AccountMessage<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<AccountMessage<'a>, FrameError> {
        let (mut seq, mut did, mut active, mut status, mut time) = (None, None, None, None, None);
        body(reader, |key, reader| {
            match key {
                "seq" => seq = named("seq", reader.int())?,
                "did" => did = named("did", reader.text())?,
                "active" => active = named("active", reader.flag())?,
                "status" if reader.null() => {}
                "status" => status = named("status", reader.text())?,
                "time" => time = named("time", reader.text())?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (time, time_us) = time_of(time)?;
        let (seq, did) = (checked("seq", seq, |seq| *seq >= 0)?, checked("did", did, |did| did::is_valid(did))?);
        Ok(AccountMessage { seq, did, active: required("active", active)?, status, time, time_us })
    }
}

/// A name and a message for people, which both `#info` and error frames are.
pub(crate) fn read_notice<'a>(
    reader: &mut Reader<'a>,
    name: &'static str,
) -> Result<(&'a str, Option<&'a str>), FrameError> {
    let (mut text, mut message) = (None, None);
    body(reader, |key, reader| {
        match key {
            key if key == name => text = named(name, reader.text())?,
            "message" if reader.null() => {}
            "message" => message = named("message", reader.text())?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((required(name, text)?, message))
}

impl<'a> InfoMessage<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<InfoMessage<'a>, FrameError> {
        let (name, message) = read_notice(reader, "name")?;
        Ok(InfoMessage { name, message })
    }
}

impl<'a> StreamError<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<StreamError<'a>, FrameError> {
        let (error, message) = read_notice(reader, "error")?;
        Ok(StreamError { error, message })
    }
}

/// What can be told about a frame that [`Message::decode`] refused: its type, position and account, each if readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The header's `t`.
    pub kind: Option<&'a str>,
    /// The position in the stream.
    pub seq: Option<i64>,
    /// `repo` or `did`.
    pub did: Option<&'a str>,
}

/// Reads what it can of a refused frame, so that the drop can be counted to an account and the cursor move on.
pub fn peek(frame: &[u8]) -> Peek<'_> {
    let (mut peek, mut reader) = (Peek::default(), Reader::new(frame));
    let Ok(header) = Header::read(&mut reader) else { return peek };
    peek.kind = header.t;
    let Ok(count) = reader.map() else { return peek };
    for _ in 0..count {
        let Ok(key) = reader.key() else { break };
        match key {
            "seq" if reader.kind() == Ok(Kind::Unsigned) => peek.seq = reader.int().ok(),
            "repo" | "did" if reader.kind() == Ok(Kind::Text) => {
                peek.did = reader.text().ok().filter(|text| did::is_valid(text))
            }
            _ => {
                if reader.skip().is_err() {
                    break;
                }
            }
        }
    }
    peek
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
    const TIME: &str = "2024-01-02T03:04:05.678Z";

    fn cid(n: u8) -> Cid {
        Cid::for_dag_cbor(&[n])
    }

    fn commit() -> CommitMessage<'static> {
        let path = "app.bsky.feed.post/3jzfcijpj2z2a";
        CommitMessage {
            seq: 42,
            repo: DID,
            commit: cid(0),
            rev: Tid(7),
            since: Some(Tid(6)),
            blocks: b"blocks",
            ops: vec![
                RepoOp { action: Action::Delete, path, cid: None, prev: Some(cid(1)) },
                RepoOp { action: Action::Create, path, cid: Some(cid(2)), prev: None },
                RepoOp { action: Action::Update, path: "odd", cid: Some(cid(3)), prev: Some(cid(2)) },
            ],
            prev_data: Some(cid(4)),
            time: TIME,
            time_us: 1_704_164_645_678_000,
        }
    }

    fn all() -> Vec<Message<'static>> {
        let (time, time_us) = (TIME, commit().time_us);
        vec![
            Message::Commit(commit()),
            Message::Commit(CommitMessage { since: None, prev_data: None, ops: vec![], ..commit() }),
            Message::Sync(SyncMessage { seq: 1, did: DID, blocks: &[1], rev: "not a tid", time, time_us }),
            Message::Identity(IdentityMessage { seq: 2, did: DID, handle: Some("a.test"), time, time_us }),
            Message::Identity(IdentityMessage { seq: 3, did: DID, handle: None, time, time_us }),
            Message::Account(AccountMessage { seq: 4, did: DID, active: true, status: None, time, time_us }),
            Message::Account(AccountMessage {
                seq: 5,
                did: DID,
                active: false,
                status: Some("anything"),
                time,
                time_us,
            }),
            Message::Info(InfoMessage { name: "OutdatedCursor", message: Some("m") }),
            Message::Error(StreamError { error: "FutureCursor", message: None }),
        ]
    }

    #[test]
    fn every_message_reads_back() {
        for message in all() {
            let frame = message.encode();
            assert_eq!(Message::decode(&frame).as_ref(), Ok(&message));
            assert_eq!((peek(&frame).seq, peek(&frame).did), (message.seq(), message.did()));
            let (header, rest) = crate::cbor::decode_prefix(&frame).unwrap();
            for item in [crate::cbor::encode(&header), crate::cbor::encode(&crate::cbor::decode(rest).unwrap())] {
                assert!(frame.windows(item.len()).any(|part| part == item), "written canonically");
            }
        }
        assert_eq!(Message::decode(&Message::Unknown("#handle").encode()), Ok(Message::Unknown("handle")));
    }

    fn frame(header: &dyn Fn(&mut Writer), body: &dyn Fn(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new();
        header(&mut writer);
        body(&mut writer);
        writer.into_bytes()
    }

    fn info(writer: &mut Writer) {
        writer.map(1).text("name").text("x");
    }

    #[test]
    fn headers() {
        let read = |header: &dyn Fn(&mut Writer)| {
            let bytes = frame(header, &info);
            Message::decode(&bytes).map(|message| format!("{message:?}"))
        };
        let known = Ok(r#"Info(InfoMessage { name: "x", message: None })"#.to_owned());
        assert_eq!(
            read(&|w| {
                w.map(2).text("op").int(1).text("t").text("#info");
            }),
            known
        );
        assert_eq!(
            read(&|w| {
                w.map(2).text("op").int(1).text("t").text("com.atproto.sync.subscribeRepos#info");
            }),
            known
        );
        assert_eq!(
            read(&|w| {
                w.map(3).text("op").int(1).text("t").text("#info").text("x").list(0);
            }),
            known
        );
        assert_eq!(
            read(&|w| {
                w.map(2).text("op").int(1).text("t").text("a.b.c#info");
            }),
            Ok("Unknown(\"a.b.c#info\")".into())
        );
        assert_eq!(
            read(&|w| {
                w.map(1).text("op").int(1);
            }),
            Ok("Unknown(\"\")".into())
        );
        assert_eq!(
            read(&|w| {
                w.map(1).text("op").int(2);
            }),
            Err(FrameError::Header)
        );
        assert_eq!(
            read(&|w| {
                w.map(1).text("t").text("#info");
            }),
            Err(FrameError::Header)
        );
        assert_eq!(
            read(&|w| {
                w.map(1).text("op").text("1");
            }),
            Err(FrameError::Header)
        );
        assert_eq!(
            read(&|w| {
                w.list(0);
            }),
            Err(FrameError::Header)
        );
        assert_eq!(
            read(&|w| {
                w.map(1).text("op").int(-1);
            }),
            Err(FrameError::Missing("error"))
        );
        let own_type = frame(
            &|w| {
                w.map(1).text("op").int(1);
            },
            &|w| {
                w.map(2).text("name").text("x").text("$type").text("com.atproto.sync.subscribeRepos#info");
            },
        );
        assert!(matches!(Message::decode(&own_type), Ok(Message::Info(_))));
    }

    #[test]
    fn bodies() {
        let good = |w: &mut Writer| {
            header(w, "#info");
        };
        assert_eq!(Message::decode(&frame(&good, &|_| ())), Err(FrameError::Cbor(CborError::Truncated)));
        assert_eq!(
            Message::decode(&frame(&good, &|w| {
                w.list(0);
            })),
            Err(FrameError::Body)
        );
        assert_eq!(
            Message::decode(&frame(&good, &|w| {
                info(w);
                w.null();
            })),
            Err(FrameError::Cbor(CborError::Trailing))
        );
        assert_eq!(
            Message::decode(&frame(&good, &|w| {
                w.map(1).text("name").int(1);
            })),
            Err(FrameError::Field("name"))
        );
        let twice = frame(&good, &|w| {
            w.map(2).text("name").text("x").text("name").text("y");
        });
        assert_eq!(Message::decode(&twice), Err(FrameError::Cbor(CborError::DuplicateKey)));
    }

    /// A commit frame with one field taken out or replaced.
    fn with(field: &str, value: Option<&[u8]>) -> Vec<u8> {
        let bytes = Message::Commit(commit()).encode();
        let (header, rest) = crate::cbor::decode_prefix(&bytes).unwrap();
        let mut reader = Reader::new(rest);
        let count = reader.map().unwrap();
        let mut writer = Writer::new();
        writer.value(&header).map(count as usize - usize::from(value.is_none()));
        for _ in 0..count {
            let key = reader.key().unwrap();
            let item = reader.rest();
            reader.skip().unwrap();
            let item = &item[..item.len() - reader.rest().len()];
            match (key == field, value) {
                (true, None) => {}
                (true, Some(value)) => drop(writer.text(key).item(value)),
                _ => drop(writer.text(key).item(item)),
            }
        }
        writer.into_bytes()
    }

    #[test]
    fn fields_of_a_commit() {
        for field in ["seq", "repo", "commit", "rev", "since", "blocks", "ops", "time"] {
            assert_eq!(Message::decode(&with(field, None)), Err(FrameError::Missing(field)), "{field}");
            assert_eq!(Message::decode(&with(field, Some(&[0xf5]))), Err(FrameError::Field(field)), "{field}");
        }
        for field in ["rebase", "tooBig", "blobs", "prevData"] {
            assert!(Message::decode(&with(field, None)).is_ok(), "{field} is optional");
        }
        for (field, bad) in [("repo", "x"), ("rev", "1"), ("since", "1"), ("time", "yesterday")] {
            let mut writer = Writer::new();
            writer.text(bad);
            let bytes = with(field, Some(writer.as_bytes()));
            assert_eq!(Message::decode(&bytes), Err(FrameError::Field(field)), "{field}");
            assert_eq!(peek(&bytes).seq, Some(42));
        }
        assert_eq!(Message::decode(&with("seq", Some(&[0x20]))), Err(FrameError::Field("seq")));
        assert_eq!(Message::decode(&with("ops", Some(&[0x81, 0x01]))), Err(FrameError::Field("ops")));
        assert_eq!(Message::decode(&with("ops", Some(&[0x81, 0xa0]))), Err(FrameError::Missing("action")));
    }

    #[test]
    fn limits() {
        let large = vec![0; COMMIT_BLOCKS_BYTES_MAX + 1];
        let of = |blocks| Message::Commit(CommitMessage { blocks, ..commit() }).encode();
        assert!(Message::decode(&of(&large[1..])).is_ok());
        assert_eq!(Message::decode(&of(&large)), Err(FrameError::BlocksTooLarge));
        let of = |n| Message::Commit(CommitMessage { ops: vec![commit().ops[0]; n], ..commit() }).encode();
        assert!(Message::decode(&of(COMMIT_OPS_MAX)).is_ok());
        assert_eq!(Message::decode(&of(COMMIT_OPS_MAX + 1)), Err(FrameError::TooManyOps));
        let of = |n| {
            Message::Sync(SyncMessage { seq: 1, did: DID, blocks: &large[..n], rev: "", time: TIME, time_us: 0 })
                .encode()
        };
        assert!(Message::decode(&of(SYNC_BLOCKS_BYTES_MAX)).is_ok());
        assert_eq!(Message::decode(&of(SYNC_BLOCKS_BYTES_MAX + 1)), Err(FrameError::BlocksTooLarge));
        assert_eq!(peek(&of(SYNC_BLOCKS_BYTES_MAX + 1)), Peek { kind: Some("#sync"), seq: Some(1), did: Some(DID) });
    }

    proptest! {
        #[test]
        fn damaged_frames_never_panic(which in 0usize..9, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = all()[which].encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = (Message::decode(&bytes), peek(&bytes));
            prop_assert!(Message::decode(&bytes[..at]).is_err());
            let _ = peek(&bytes[..at]);
        }
    }
}
