//! What a stream has sent and still retains, in order, and who is told when there is more.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

/// The `actor` of an entry that belongs to nobody.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Where a frame is.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Memory(Bytes),
    /// In the log's file.
    File {
        offset: u64,
        len: u32,
    },
}

#[derive(Debug)]
struct Entry {
    seq: i64,
    actor: u32,
    frame: Stored,
}

#[derive(Default)]
struct Entries {
    all: VecDeque<Entry>,
    /// The highest sequence number that is no longer retained; zero if nothing was ever dropped.
    expired: i64,
    head: i64,
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Page {
    /// Frames after the cursor, and the cursor after them. Never empty.
    Frames(Vec<Bytes>, i64),
    /// Nothing yet.
    UpToDate,
    /// The cursor is behind what is retained.
    Expired,
}

pub(crate) struct Log {
    entries: RwLock<Entries>,
    file: Option<Mutex<File>>,
    /// Whether frames that come go to the end of the file.
    spills: bool,
    retained_max: usize,
    head: watch::Sender<i64>,
}

impl Log {
    pub(crate) fn new(retained_max: Option<usize>, file: Option<File>) -> Log {
        Log {
            entries: RwLock::default(),
            file: file.map(Mutex::new),
            spills: false,
            retained_max: retained_max.unwrap_or(usize::MAX),
            head: watch::Sender::new(0),
        }
    }

    /// A log that keeps its frames in a file of this folder, which has no name and goes with the log.
    pub(crate) fn spilling(retained_max: Option<usize>, folder: &Path) -> io::Result<Log> {
        let path = folder.join(format!("frames-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Log { spills: true, ..Log::new(retained_max, Some(file)) })
    }

    /// Puts a frame where this log keeps them. One that the file does not take stays in memory.
    pub(crate) fn keep(&self, frame: Bytes) -> Stored {
        let (true, Some(file)) = (self.spills, &self.file) else { return Stored::Memory(frame) };
        let mut file = file.lock();
        let written = file.seek(SeekFrom::End(0)).and_then(|offset| file.write_all(&frame).map(|()| offset));
        match (written, u32::try_from(frame.len())) {
            (Ok(offset), Ok(len)) => Stored::File { offset, len },
            _ => Stored::Memory(frame),
        }
    }

    /// Adds frames in order. Each is a sequence number, the account that it is about, and the frame.
    pub(crate) fn append(&self, frames: impl IntoIterator<Item = (i64, u32, Stored)>) {
        let mut entries = self.entries.write();
        for (seq, actor, frame) in frames {
            debug_assert!(seq > entries.head, "sequence numbers grow");
            entries.all.push_back(Entry { seq, actor, frame });
            entries.head = seq;
        }
        while entries.all.len() > self.retained_max {
            entries.expired = entries.all.pop_front().map_or(0, |entry| entry.seq);
        }
        self.head.send_replace(entries.head);
    }

    /// Forgets everything up to and including `seq`.
    pub(crate) fn expire(&self, seq: i64) {
        let mut entries = self.entries.write();
        while entries.all.front().is_some_and(|entry| entry.seq <= seq) {
            entries.expired = entries.all.pop_front().map_or(0, |entry| entry.seq);
        }
    }

    /// Forgets what accounts did before the sequence numbers given, as hosts do when an account is deleted.
    pub(crate) fn erase(&self, before: &HashMap<u32, i64>) {
        let mut entries = self.entries.write();
        entries.all.retain(|entry| before.get(&entry.actor).is_none_or(|seq| entry.seq >= *seq));
    }

    /// The highest sequence number ever sent.
    pub(crate) fn head(&self) -> i64 {
        self.entries.read().head
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.read().all.len()
    }

    /// Told whenever the head moves.
    pub(crate) fn watch(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// Whether a reader that begins after `cursor` has missed something for good. Zero means "everything retained".
    pub(crate) fn is_outdated(&self, cursor: i64) -> bool {
        cursor != 0 && cursor < self.entries.read().expired
    }

    /// The position from which everything retained follows.
    pub(crate) fn oldest(&self) -> i64 {
        let entries = self.entries.read();
        entries.all.front().map_or(entries.head, |entry| entry.seq - 1)
    }

    /// Frames after `cursor`: at most `frames_max`, and no more once they have `bytes_max`.
    pub(crate) fn after(&self, cursor: i64, frames_max: usize, bytes_max: usize) -> Page {
        let mut found = Vec::new();
        let mut last = cursor;
        {
            let entries = self.entries.read();
            if cursor < entries.expired {
                return Page::Expired;
            }
            let start = entries.all.partition_point(|entry| entry.seq <= cursor);
            let mut bytes = 0;
            for entry in entries.all.range(start..).take(frames_max) {
                bytes += match &entry.frame {
                    Stored::Memory(frame) => frame.len(),
                    Stored::File { len, .. } => *len as usize,
                };
                found.push(entry.frame.clone());
                last = entry.seq;
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        if found.is_empty() { Page::UpToDate } else { Page::Frames(self.load(found), last) }
    }

    /// Frames with their sequence numbers and accounts, for replays and hashes.
    pub(crate) fn entries(&self, of: Option<u32>) -> Vec<(i64, u32, Bytes)> {
        let (mut keys, mut stored) = (Vec::new(), Vec::new());
        for entry in self.entries.read().all.iter().filter(|entry| of.is_none_or(|of| entry.actor == of)) {
            keys.push((entry.seq, entry.actor));
            stored.push(entry.frame.clone());
        }
        keys.into_iter().zip(self.load(stored)).map(|((seq, actor), frame)| (seq, actor, frame)).collect()
    }

    /// Frames that cannot be read any more are left out; the reader sees a gap, as with any damaged log.
    fn load(&self, stored: Vec<Stored>) -> Vec<Bytes> {
        let mut file = self.file.as_ref().map(|file| file.lock());
        let mut read = |offset: u64, len: u32| -> Option<Bytes> {
            let file = file.as_mut()?;
            let mut bytes = vec![0; len as usize];
            file.seek(SeekFrom::Start(offset)).ok()?;
            file.read_exact(&mut bytes).ok()?;
            Some(bytes.into())
        };
        let frames = stored.into_iter().filter_map(|stored| match stored {
            Stored::Memory(frame) => Some(frame),
            Stored::File { offset, len } => read(offset, len),
        });
        frames.collect()
    }
}

/// A log that streams share.
pub(crate) type SharedLog = Arc<Log>;

#[cfg(test)]
mod tests {
    use super::*;

    fn log(retained_max: Option<usize>) -> Log {
        let log = Log::new(retained_max, None);
        log.append((1..=5).map(|n| (n * 10, (n % 2) as u32, Stored::Memory(Bytes::from(vec![n as u8; 10])))));
        log
    }

    fn firsts(page: Page) -> (Vec<u8>, i64) {
        match page {
            Page::Frames(frames, last) => (frames.iter().map(|frame| frame[0]).collect(), last),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pages_follow_the_cursor_and_its_bounds() {
        let log = log(None);
        assert_eq!(firsts(log.after(0, 99, 9999)), (vec![1, 2, 3, 4, 5], 50));
        assert_eq!(firsts(log.after(20, 2, 9999)), (vec![3, 4], 40));
        assert_eq!(firsts(log.after(25, 99, 15)), (vec![3, 4], 40));
        assert!(matches!(log.after(50, 9, 9), Page::UpToDate));
        assert!(!log.is_outdated(0) && !log.is_outdated(10));
    }

    #[test]
    fn what_is_expired_is_known_to_be() {
        let log = log(Some(3));
        assert_eq!(log.len(), 3);
        assert!(log.is_outdated(10) && !log.is_outdated(20) && !log.is_outdated(0));
        assert!(matches!(log.after(10, 9, 999), Page::Expired));
        assert_eq!(firsts(log.after(log.oldest(), 9, 999)), (vec![3, 4, 5], 50));
        log.expire(50);
        assert_eq!((log.oldest(), log.head(), log.len()), (50, 50, 0));
        assert!(matches!(log.after(log.oldest(), 9, 999), Page::UpToDate));
    }

    #[test]
    fn erasing_an_account_leaves_gaps_and_no_outdated_cursors() {
        let log = log(None);
        log.erase(&HashMap::from([(1, 50)]));
        assert_eq!(firsts(log.after(0, 9, 999)), (vec![2, 4, 5], 50));
        assert!(!log.is_outdated(10));
    }
}
