//! The folder of the index of words: which format it has, how far it has got, and what to do when it is damaged.
//!
//! ```text
//! <data-dir>/search/<format>/    the files of the index; its commits carry how far they go
//! ```
//!
//! The index holds nothing that the store does not, so whatever is wrong with it, it is removed and built again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tantivy::{Index, IndexReader, ReloadPolicy, directory::MmapDirectory};

use crate::schema::{FORMAT, Fields};

/// Beyond so many bytes the checksums of an index are looked at only when something is wrong with it, not at start.
const CHECKED_AT_START_BYTES_MAX: u64 = 1 << 30;

/// How far a commit goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The number in the list of changes up to which everything is in the index.
    pub(crate) log: u64,
    /// The store it is of.
    pub(crate) store: String,
    /// While the index is being built: the key of the last account that is whole, in hexadecimal.
    pub(crate) building: Option<String>,
    /// Accounts built so far.
    #[serde(default)]
    pub(crate) built: u64,
}

/// An open index.
pub(crate) struct Opened {
    pub(crate) index: Index,
    pub(crate) reader: IndexReader,
    /// None for a new one.
    pub(crate) progress: Option<Progress>,
}

/// Opens the index in the folder, or makes a new one if there is none that can be used. `suspect` means that reading
/// from it has failed: then its checksums are looked at, however long that takes.
pub(crate) fn open(root: &Path, fields: &Fields, store: &str, suspect: bool) -> tantivy::Result<Opened> {
    let dir = root.join(FORMAT.to_string());
    fs::create_dir_all(&dir)?;
    remove_other_formats(root);
    if dir.join("meta.json").exists() {
        match open_existing(&dir, fields, store, suspect) {
            Ok(opened) => return Ok(opened),
            Err(why) => {
                tracing::warn!(%why, "the search index cannot be used; it is removed and built again from the store");
                fs::remove_dir_all(&dir)?;
                fs::create_dir_all(&dir)?;
            }
        }
    }
    let index = Index::create(MmapDirectory::open(&dir)?, fields.schema.clone(), Default::default())?;
    Ok(Opened { reader: reader(&index)?, index, progress: None })
}

/// Removes the index.
pub(crate) fn discard(root: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(root.join(FORMAT.to_string()))
}

fn open_existing(dir: &Path, fields: &Fields, store: &str, suspect: bool) -> Result<Opened, String> {
    let index = Index::open_in_dir(dir).map_err(|e| e.to_string())?;
    if index.schema() != fields.schema {
        return Err("it has other fields than this version writes".into());
    }
    let payload = index.load_metas().map_err(|e| e.to_string())?.payload;
    let payload = payload.ok_or("it was never written to the end")?;
    let progress: Progress = serde_json::from_str(&payload).map_err(|e| format!("its progress cannot be read: {e}"))?;
    if progress.store != store {
        return Err("it is of another store".into());
    }
    if suspect || bytes(dir) <= CHECKED_AT_START_BYTES_MAX {
        let damaged = index.validate_checksum().map_err(|e| e.to_string())?;
        if !damaged.is_empty() {
            return Err(format!("{} of its files are damaged", damaged.len()));
        }
    }
    Ok(Opened { reader: reader(&index).map_err(|e| e.to_string())?, index, progress: Some(progress) })
}

fn reader(index: &Index) -> tantivy::Result<IndexReader> {
    index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()
}

fn remove_other_formats(root: &Path) {
    let others: Vec<PathBuf> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).is_some_and(|format| format != FORMAT)
        })
        .map(|entry| entry.path())
        .collect();
    for other in others {
        tracing::info!(folder = %other.display(), "removing a search index of another format");
        if let Err(e) = fs::remove_dir_all(&other) {
            tracing::warn!(folder = %other.display(), error = %e, "cannot remove a search index that is no longer used");
        }
    }
}

/// Bytes of a folder's files.
pub(crate) fn bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|it| it.len()).sum()
}
