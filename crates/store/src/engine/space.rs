//! Room on the disk: looked at before every group of changes, so that the engine never meets a full disk.
//!
//! The engine stops for good when one of its writes fails, and its own threads write long after a change was taken
//! (memtables, merges of table files). So a reserve is kept free for them, and changes are refused while less is free.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{Error, Result};

/// The disk is looked at again after so long.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The disk is looked at again after so many bytes of changes, however short the time.
const LOOK_EVERY_BYTES: u64 = 8 << 20;

/// Watches the room on the disk that holds a folder.
pub(super) struct Space {
    dir: PathBuf,
    reserve_bytes: AtomicU64,
    free_bytes: AtomicU64,
    looked: Mutex<Looked>,
    blind: AtomicBool,
}

struct Looked {
    at: Option<Instant>,
    bytes_since: u64,
    room: bool,
}

impl Space {
    pub(super) fn new(dir: PathBuf, reserve_bytes: u64) -> Self {
        let space = Self {
            dir,
            reserve_bytes: AtomicU64::new(reserve_bytes),
            free_bytes: AtomicU64::new(u64::MAX),
            looked: Mutex::new(Looked { at: None, bytes_since: 0, room: true }),
            blind: AtomicBool::new(false),
        };
        space.look();
        space
    }

    /// Refuses changes while less than the reserve is free. `make_room` is called when that begins, to give back what
    /// can be spared.
    pub(super) fn admit(&self, bytes: u64, make_room: impl FnOnce()) -> Result<()> {
        let mut looked = self.looked.lock();
        let had_room = looked.room;
        looked.bytes_since += bytes;
        // While there is no room every call looks, so that writing goes on as soon as there is.
        let fresh = looked.room
            && looked.bytes_since < LOOK_EVERY_BYTES
            && looked.at.is_some_and(|at| at.elapsed() < LOOK_EVERY);
        if !fresh {
            looked.room = self.look() >= self.reserve_bytes.load(Relaxed).saturating_add(bytes);
            looked.at = Some(Instant::now());
            looked.bytes_since = 0;
        }
        if looked.room {
            return Ok(());
        }
        if had_room {
            make_room();
        }
        Err(Error::Full)
    }

    /// Free bytes when last looked.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Relaxed)
    }

    /// Changes the reserve; the next group of changes is judged by it.
    pub(super) fn set_reserve(&self, bytes: u64) {
        self.reserve_bytes.store(bytes, Relaxed);
        self.looked.lock().at = None;
    }

    fn look(&self) -> u64 {
        let free = match rustix::fs::statvfs(&self.dir) {
            Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
            Err(e) => {
                // Better to write without knowing than not to write at all.
                if !self.blind.swap(true, Relaxed) {
                    tracing::warn!(path = %self.dir.display(), error = %e, "the room on the disk cannot be seen; writing goes on without looking");
                }
                u64::MAX
            }
        };
        self.free_bytes.store(free, Relaxed);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_refused_below_the_reserve_and_taken_again_above_it() {
        let space = Space::new(std::env::temp_dir(), 0);
        let made = std::cell::Cell::new(0);
        let admit = |bytes| space.admit(bytes, || made.set(made.get() + 1));
        assert!(space.free_bytes() > 0 && space.free_bytes() < u64::MAX, "{}", space.free_bytes());
        admit(1).unwrap();
        for period in 1..3 {
            space.set_reserve(u64::MAX);
            for _ in 0..3 {
                assert!(matches!(admit(1), Err(Error::Full)));
                assert_eq!(made.get(), period, "room is made once, when the disk becomes full");
            }
            space.set_reserve(0);
            admit(1).unwrap();
        }
    }

    #[test]
    fn a_batch_larger_than_the_room_is_refused() {
        let space = Space::new(std::env::temp_dir(), 0);
        assert!(matches!(space.admit(u64::MAX / 2, || {}), Err(Error::Full)));
    }
}
