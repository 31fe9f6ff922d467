//! The data folder: whose it is, what format it has, and up to which change it was synced.
//!
//! ```text
//! LOCK      held while a process has the folder open; its content means nothing, and it is never removed
//! FORMAT    the number of the format of keys and values
//! SYNCED    the last change known to be on the disk for good, with a checksum
//! rows/     the files of the engine
//! rows.new/ what a first start left when it was cut short; removed at the next
//! ```
//!
//! Nothing here knows the engine's files; `recovery` does.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::lsm::{FORMAT, FORMAT_READ_MIN};
use crate::{Error, Result};

const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_FILE_NEW: &str = "FORMAT.new";
const SYNCED_FILE: &str = "SYNCED";
const ROWS: &str = "rows";
const ROWS_NEW: &str = "rows.new";

/// How often a folder in use is tried again before it counts as in use, and after how long each time.
const LOCK_TRIES: u32 = 10;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(30);

/// Most characters of a foreign format file that are shown.
const FORMAT_SHOWN_MAX: usize = 40;

/// A folder that is ours for as long as this value lives.
pub(super) struct Folder {
    dir: PathBuf,
    synced: Mutex<Option<File>>,
    /// Released when the value goes, or when the process dies in whatever way.
    _lock: File,
}

impl Folder {
    /// Takes the folder. A folder of another format or in use by anybody, this process included, is left as it is.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        // Looked at before anything is created, and again below, when nobody else can change it.
        format_of(dir)?;
        fs::create_dir_all(dir).map_err(|e| cannot(dir, "it cannot be created", &e))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK_FILE))
            .map_err(|e| cannot(dir, "its LOCK file cannot be opened", &e))?;
        // A process that is just being started by the one that gave the folder free has it for a moment, too.
        for tries_left in (0..LOCK_TRIES).rev() {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries_left > 0 => std::thread::sleep(LOCK_TRY_EVERY),
                Err(TryLockError::WouldBlock) => return Err(Error::InUse(dir.to_owned())),
                Err(TryLockError::Error(e)) => return Err(cannot(dir, "its LOCK file cannot be locked", &e)),
            }
        }
        if format_of(dir)? != Some(FORMAT) {
            write_format(dir)?;
        }
        let folder = Self { dir: dir.to_owned(), synced: Mutex::new(None), _lock: lock };
        if !folder.rows().exists() && folder.synced()? > 0 {
            return Err(Error::Open {
                path: folder.dir,
                why: "its rows folder is missing: put it back, or start with an empty folder".into(),
            });
        }
        Ok(folder)
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the engine's files are.
    pub(super) fn rows(&self) -> PathBuf {
        self.dir.join(ROWS)
    }

    /// Has the engine's files made beside their place and moves them there when they are whole, so that a first start
    /// that is cut short leaves nothing that could be taken for data.
    pub(super) fn create_rows(&self, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let new = self.dir.join(ROWS_NEW);
        match fs::remove_dir_all(&new) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(cannot(&self.dir, "its rows.new folder cannot be removed", &e));
            }
            _ => {}
        }
        make(&new)?;
        fs::rename(&new, self.rows())
            .and_then(|()| sync_dir(&self.dir))
            .map_err(|e| cannot(&self.dir, "its rows folder cannot be put in place", &e))
    }

    /// The last change known to be on the disk for good; 0 when nothing is known.
    pub(super) fn synced(&self) -> Result<u64> {
        let mut text = String::new();
        match File::open(self.dir.join(SYNCED_FILE)).and_then(|f| f.take(64).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
            Err(e) if e.kind() == ErrorKind::InvalidData => {}
            Err(e) => return Err(cannot(&self.dir, "its SYNCED file cannot be read", &e)),
        }
        let parsed = text.trim_end().split_once(' ').and_then(|(mark, sum)| {
            let mark = u64::from_str_radix(mark, 16).ok()?;
            (u64::from_str_radix(sum, 16).ok()? == xxh3_64(&mark.to_be_bytes())).then_some(mark)
        });
        if parsed.is_none() {
            tracing::warn!(path = %self.dir.display(), "the SYNCED file is damaged, so a loss of changes could not be noticed at this start");
        }
        Ok(parsed.unwrap_or(0))
    }

    /// Notes that everything up to a change is on the disk for good. It is called after the fact and need not reach
    /// the disk itself: an older note than the truth only makes the check at the next start weaker.
    pub(super) fn note_synced(&self, mark: u64) {
        let line = format!("{mark:016x} {:016x}\n", xxh3_64(&mark.to_be_bytes()));
        let mut slot = self.synced.lock();
        let written = (|| {
            if slot.is_none() {
                *slot =
                    Some(OpenOptions::new().create(true).truncate(false).write(true).open(self.dir.join(SYNCED_FILE))?);
            }
            let Some(file) = slot.as_mut() else { return Ok(()) };
            file.seek(SeekFrom::Start(0))?;
            // One short write over the same bytes, so that no reader finds half of it.
            file.write_all(line.as_bytes())
        })();
        if let Err(e) = written {
            *slot = None;
            tracing::debug!(error = %e, "the SYNCED file could not be written");
        }
    }
}

/// The folder's format, if it has one that we read. Another, or data without one, is an error.
fn format_of(dir: &Path) -> Result<Option<u32>> {
    match fs::read(dir.join(FORMAT_FILE)) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let known = (FORMAT_READ_MIN..=FORMAT).find(|format| text.trim() == format.to_string());
            if known.is_some() {
                return Ok(known);
            }
            Err(Error::Format {
                path: dir.to_owned(),
                found: text.trim().chars().filter(|c| !c.is_control()).take(FORMAT_SHOWN_MAX).collect(),
                known: FORMAT,
            })
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if dir.join(ROWS).exists() {
                return Err(Error::Open {
                    path: dir.to_owned(),
                    why: format!("its {FORMAT_FILE} file is missing, so it is not certain what the files hold"),
                });
            }
            Ok(None)
        }
        Err(e) => Err(cannot(dir, "its FORMAT file cannot be read", &e)),
    }
}

fn write_format(dir: &Path) -> Result<()> {
    let new = dir.join(FORMAT_FILE_NEW);
    File::create(&new)
        .and_then(|mut file| {
            writeln!(file, "{FORMAT}")?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, dir.join(FORMAT_FILE)))
        .and_then(|()| sync_dir(dir))
        .map_err(|e| cannot(dir, "its FORMAT file cannot be written", &e))
}

/// Makes the names in a folder survive a power cut.
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn cannot(dir: &Path, what: &str, e: &std::io::Error) -> Error {
    Error::Open { path: dir.to_owned(), why: format!("{what}: {e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_of_the_last_sync_comes_back_and_a_damaged_one_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::take(dir.path()).unwrap();
        assert_eq!(folder.synced().unwrap(), 0);
        folder.note_synced(7);
        folder.note_synced(0xffff_0000_1111);
        assert_eq!(folder.synced().unwrap(), 0xffff_0000_1111);
        fs::write(dir.path().join(SYNCED_FILE), "0000000000000009 0000000000000000\n").unwrap();
        assert_eq!(folder.synced().unwrap(), 0);
        fs::write(dir.path().join(SYNCED_FILE), [0xff; 34]).unwrap();
        assert_eq!(folder.synced().unwrap(), 0);
    }

    #[test]
    fn a_creation_that_was_cut_short_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::take(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join(ROWS_NEW).join("half")).unwrap();
        folder
            .create_rows(|new| {
                assert!(!new.exists());
                fs::create_dir(new).unwrap();
                Ok(())
            })
            .unwrap();
        assert!(folder.rows().is_dir());
        assert!(!folder.rows().join("half").exists());
    }
}
