//! Bodies of any size, put aside while they come in: small ones in memory, large ones in a file without a name, which
//! the system takes back whatever becomes of this process.

use std::{
    borrow::Cow,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use gp_atproto::archive::Source;
use tokio::{io::AsyncWriteExt, sync::OwnedSemaphorePermit};

/// A body that is coming in.
pub(crate) struct Spool {
    folder: PathBuf,
    memory_bytes_max: usize,
    memory: Vec<u8>,
    file: Option<tokio::fs::File>,
    len: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl Spool {
    /// Begins an empty body. Beyond `memory_bytes_max` it goes into a file in `folder`.
    pub(crate) fn new(folder: &Path, memory_bytes_max: usize) -> Self {
        Self { folder: folder.to_owned(), memory_bytes_max, memory: Vec::new(), file: None, len: 0, permit: None }
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn has_permit(&self) -> bool {
        self.permit.is_some()
    }

    /// Keeps the permit for a large body as long as it is there.
    pub(crate) fn keep(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
    }

    pub(crate) async fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        if self.file.is_none() && self.memory.len() + bytes.len() <= self.memory_bytes_max {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let folder = self.folder.clone();
                let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(folder));
                let mut file = tokio::fs::File::from_std(made.await.map_err(io::Error::other)??);
                file.write_all(&std::mem::take(&mut self.memory)).await?;
                self.file.insert(file)
            }
        };
        file.write_all(bytes).await
    }

    /// The whole body.
    pub(crate) async fn finish(self) -> io::Result<Spooled> {
        let place = match self.file {
            None => Place::Memory(self.memory),
            Some(mut file) => {
                file.flush().await?;
                Place::File(file.into_std().await, self.len)
            }
        };
        Ok(Spooled { place, _permit: self.permit })
    }
}

/// A body that is there.
#[derive(Debug)]
pub(crate) struct Spooled {
    place: Place,
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    /// And its length.
    File(File, u64),
}

impl Spooled {
    /// Whether reading it may wait for a disk.
    pub(crate) fn may_block(&self) -> bool {
        matches!(self.place, Place::File(..))
    }
}

impl Source for Spooled {
    fn len(&self) -> u64 {
        match &self.place {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::File(_, len) => *len,
        }
    }

    fn read(&self, at: u64, len: usize) -> io::Result<Cow<'_, [u8]>> {
        match &self.place {
            Place::Memory(bytes) => {
                let found = usize::try_from(at).ok().and_then(|at| bytes.get(at..at.checked_add(len)?));
                found.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Place::File(file, _) => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_bodies_stay_in_memory_and_large_ones_go_to_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        for (bytes, on_disk) in [(0usize, false), (100, false), (101, true), (5000, true)] {
            let body: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
            let mut spool = Spool::new(folder.path(), 100);
            for chunk in body.chunks(50) {
                spool.push(chunk).await.unwrap();
            }
            assert_eq!(spool.len(), bytes as u64);
            let spooled = spool.finish().await.unwrap();
            assert_eq!((spooled.may_block(), Source::len(&spooled)), (on_disk, bytes as u64));
            assert_eq!(spooled.read(0, bytes).unwrap(), body);
            if bytes > 70 {
                assert_eq!(spooled.read(60, 10).unwrap(), &body[60..70]);
            }
            assert!(spooled.read(1, bytes).is_err());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_an_error() {
        let mut spool = Spool::new(Path::new("/nonexistent/folder"), 1);
        assert!(spool.push(b"more than one").await.is_err());
    }
}
