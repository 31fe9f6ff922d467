//! What must hold before the engine may open its files.
//!
//! The engine heals what it finds, and some of what it takes for healing is loss: it cuts a journal off at the first
//! byte it cannot read, wherever that is; it believes its list of table files without looking at the checksum beside
//! it, and removes every table file that is not in the list; it removes a whole keyspace whose list is missing. So
//! this module looks first, without changing anything, and refuses what the engine would silently make smaller.
//!
//! Batches are numbered, each by a row of its own, so that a gap between two of them shows.
//!
//! One thing is cut here: an incomplete end of a journal when no change that was synced is in it. That is what a power
//! cut leaves, and the engine refuses to open some forms of it.
//!
//! The layouts are those of fjall 3.1 and lsm-tree 3.1, which the workspace pins.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The key of the row that every batch writes with its own number. Table number 0 belongs to the engine.
pub(super) const MARK_KEY: [u8; 1] = [0];

/// Sequence numbers of the engine between the least that a batch may have and the one it got: its own threads take one
/// now and then.
const SEQNO_SLACK: u64 = 1 << 20;

/// What the row at [`MARK_KEY`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The number of the batch.
    pub(super) batch: u64,
    /// The engine's sequence number cannot be less. The engine orders changes by that number, and its journal protects
    /// everything by a checksum but that.
    pub(super) seqno_least: u64,
}

impl Mark {
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.batch.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seqno_least.to_be_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let at = |from: usize| bytes.get(from..from + 8)?.try_into().ok().map(u64::from_be_bytes);
        (bytes.len() == 16).then_some(Self { batch: at(0)?, seqno_least: at(8)? })
    }
}

/// The engine's number of our keyspace, the first one it makes. Its list of keyspaces has number 0.
const ROWS_KEYSPACE: u64 = 1;

/// Ends every batch in a journal.
const BATCH_END: [u8; 4] = *b"FJL\x03";

/// Bytes read from a journal at a time.
const READ_BYTES: usize = 1 << 20;

/// Looks at the files below `rows`. `synced` is the number of the last batch known to be on the disk for good.
///
/// The error says which file is damaged and where; nothing was changed then.
pub(super) fn check(rows: &Path, synced: u64) -> Result<(), String> {
    if !rows.join("version").is_file() {
        return Err("rows/version is missing: restore the folder from a copy".into());
    }
    for keyspace in [0, ROWS_KEYSPACE] {
        check_list(&rows.join("keyspaces").join(keyspace.to_string()), keyspace)?;
    }
    check_journals(rows, synced)
}

/// Compares the list of table files with the checksum that its pointer carries.
fn check_list(keyspace: &Path, number: u64) -> Result<(), String> {
    let name = format!("rows/keyspaces/{number}/current");
    let current = fs::read(keyspace.join("current"))
        .map_err(|e| format!("{name} cannot be read ({e}): restore the folder from a copy"))?;
    let (Some(version), Some(sum)) = (
        current.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes),
        current.get(8..24).and_then(|b| b.try_into().ok()).map(u128::from_le_bytes),
    ) else {
        return Err(format!("{name} is cut short: restore the folder from a copy"));
    };
    let list = fs::read(keyspace.join(format!("v{version}"))).map_err(|e| {
        format!("{name} names the list v{version}, which cannot be read ({e}): restore the folder from a copy")
    })?;
    if xxh3_128(&list) != sum {
        return Err(format!(
            "rows/keyspaces/{number}/v{version} or its pointer is damaged: restore the folder from a copy"
        ));
    }
    Ok(())
}

fn check_journals(rows: &Path, synced: u64) -> Result<(), String> {
    let mut journals: Vec<(u64, PathBuf)> = Vec::new();
    let unreadable = |e: std::io::Error| format!("rows cannot be read: {e}");
    for entry in fs::read_dir(rows).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "jnl") {
            let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
            journals
                .push((number.ok_or_else(|| format!("{} is no journal of ours: move it away", path.display()))?, path));
        }
    }
    journals.sort();
    let mut last = None;
    let mut broken: Vec<(u64, PathBuf, u64)> = Vec::new();
    for (number, path) in journals {
        let read = read_journal(&path).map_err(|e| format!("rows/{number}.jnl cannot be read: {e}"))?;
        if let (Some((_, before)), Some((first, _))) = (last, read.marks)
            && first != before + 1
        {
            let place =
                broken.last().map_or_else(String::new, |(n, _, at)| format!(" (rows/{n}.jnl is damaged at byte {at})"));
            return Err(format!(
                "the changes after number {before} and before number {first} are missing{place}, and later ones build on them: \
                 restore the folder from a copy"
            ));
        }
        if let Some(at) = read.broken_at {
            broken.push((number, path, at));
        }
        last = read.marks.or(last);
    }
    let mark = last.map_or(0, |(_, mark)| mark);
    if let Some((number, _, at)) = broken.last()
        && mark < synced
    {
        return Err(format!(
            "rows/{number}.jnl is damaged at byte {at}: it holds changes up to number {mark}, but number {synced} had been synced. \
             Restore the folder from a copy, or remove the SYNCED file to go on without the changes in between"
        ));
    }
    for (number, path, at) in broken {
        tracing::warn!(
            journal = number,
            at,
            "the last change before a crash is incomplete and had not been synced; it is dropped"
        );
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| {
                file.set_len(at)?;
                file.sync_all()
            })
            .map_err(|e| format!("rows/{number}.jnl cannot be cut to its last whole change: {e}"))?;
    }
    Ok(())
}

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
struct Journal {
    /// The numbers of its first and its last whole batch.
    marks: Option<(u64, u64)>,
    /// Where the first byte is that belongs to no whole batch and is not the empty space at the end.
    broken_at: Option<u64>,
}

/// Reads a journal batch by batch.
///
/// ```text
/// batch: start item* end        numbers are little-endian
/// start: 1 count:u32 seqno:u64
/// item:  2 kind:u8 compression:u8 keyspace:u64 key_len:u16 value_len:u32 stored_len:u32 key stored
///      | 4 keyspace:u64
/// end:   3 xxh3(items):u64 "FJL\3"
/// ```
fn read_journal(path: &Path) -> std::io::Result<Journal> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut input = Input { reader: BufReader::with_capacity(READ_BYTES, file), at: 0, length };
    let mut marks: Option<(u64, u64)> = None;
    let (mut whole, mut seqno_before) = (0, None);
    let mut item = Vec::with_capacity(4096);
    loop {
        if input.at == length {
            return Ok(Journal { marks, broken_at: None });
        }
        match read_batch(&mut input, &mut item)? {
            Some((seqno, mark)) if seqno_before.is_none_or(|before| before < seqno) => {
                if let Some(Mark { batch, .. }) = mark {
                    marks = Some((marks.map_or(batch, |(first, _)| first), batch));
                }
                (whole, seqno_before) = (input.at, Some(seqno));
            }
            _ => break,
        }
    }
    // Journals are made longer than they are; the rest is zeros.
    let mut rest = BufReader::with_capacity(READ_BYTES, File::open(path)?);
    std::io::Seek::seek(&mut rest, std::io::SeekFrom::Start(whole))?;
    let empty = loop {
        let chunk = std::io::BufRead::fill_buf(&mut rest)?;
        if chunk.is_empty() {
            break true;
        }
        if chunk.iter().any(|b| *b != 0) {
            break false;
        }
        let read = chunk.len();
        std::io::BufRead::consume(&mut rest, read);
    };
    Ok(Journal { marks, broken_at: (!empty).then_some(whole) })
}

/// Reads one batch and gives the engine's number of it and its mark; nothing if it is not whole.
fn read_batch(input: &mut Input, item: &mut Vec<u8>) -> std::io::Result<Option<(u64, Option<Mark>)>> {
    let Some([1, header @ ..]) = input.array::<13>()? else { return Ok(None) };
    let mut left = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let seqno =
        u64::from_le_bytes([header[4], header[5], header[6], header[7], header[8], header[9], header[10], header[11]]);
    let mut hasher = Xxh3::new();
    let mut mark: Option<Mark> = None;
    loop {
        let Some([tag]) = input.array::<1>()? else { return Ok(None) };
        item.clear();
        item.push(tag);
        match tag {
            2 if left > 0 => {
                if !input.append(20, item)? {
                    return Ok(None);
                }
                let u32_at = |at: usize| u32::from_le_bytes([item[at], item[at + 1], item[at + 2], item[at + 3]]);
                let key_bytes = usize::from(u16::from_le_bytes([item[11], item[12]]));
                let value_bytes = u32_at(17) as usize;
                if !input.append(key_bytes + value_bytes, item)? {
                    return Ok(None);
                }
                let (key, value) = item[21..].split_at(key_bytes);
                if key == MARK_KEY && item[3..11] == ROWS_KEYSPACE.to_le_bytes() {
                    mark = Mark::read(value);
                }
                left -= 1;
            }
            4 if left > 0 => {
                if !input.append(8, item)? {
                    return Ok(None);
                }
                left -= 1;
            }
            3 if left == 0 => {
                let Some(end) = input.array::<12>()? else { return Ok(None) };
                let whole = hasher.digest().to_le_bytes() == end[..8]
                    && end[8..] == BATCH_END
                    && mark.is_none_or(|m| (m.seqno_least..m.seqno_least.saturating_add(SEQNO_SLACK)).contains(&seqno));
                return Ok(whole.then_some((seqno, mark)));
            }
            _ => return Ok(None),
        }
        hasher.update(item);
    }
}

/// A file read from its beginning, never past its end.
struct Input {
    reader: BufReader<File>,
    at: u64,
    length: u64,
}

impl Input {
    fn array<const N: usize>(&mut self) -> std::io::Result<Option<[u8; N]>> {
        if self.length - self.at < N as u64 {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(Some(bytes))
    }

    /// Appends so many bytes; false if the file has fewer, so that a damaged length cannot ask for much memory.
    fn append(&mut self, bytes: usize, to: &mut Vec<u8>) -> std::io::Result<bool> {
        if self.length - self.at < bytes as u64 {
            return Ok(false);
        }
        let old = to.len();
        to.resize(old + bytes, 0);
        self.reader.read_exact(&mut to[old..])?;
        self.at += bytes as u64;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Batch, Cache, Key, Table,
        engine::{
            Local,
            lsm::{Lsm, LsmConfig},
        },
    };

    static T: Table =
        Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Never, bucket_rows: None };

    /// A folder with so many batches in its journal, and where each of them ends.
    fn journal(batches: u64) -> (tempfile::TempDir, Vec<u8>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let lsm =
            Lsm::open(&LsmConfig { dir: dir.path().to_owned(), block_cache_bytes: 1 << 20, disk_reserve_bytes: 0 })
                .unwrap();
        for n in 0..batches {
            let mut batch = Batch::new();
            for row in 0..=n {
                batch.put(Key::of(&T).atom(&row.to_be_bytes()).key(), vec![0; 100]);
                batch.delete(Key::of(&T).atom(b"gone").key());
            }
            // A value that the engine compresses in the journal.
            batch.put(Key::of(&T).atom(b"large").key(), vec![7; 20_000]);
            lsm.apply(&batch).unwrap();
        }
        drop(lsm);
        let bytes = fs::read(dir.path().join("rows/0.jnl")).unwrap();
        let mut ends = Vec::new();
        let mut input = Input {
            reader: BufReader::new(File::open(dir.path().join("rows/0.jnl")).unwrap()),
            at: 0,
            length: bytes.len() as u64,
        };
        while let Some(mark) = read_batch(&mut input, &mut Vec::new()).unwrap() {
            ends.push(usize::try_from(input.at).unwrap());
            assert_eq!(mark.1.unwrap().batch, ends.len() as u64);
        }
        assert_eq!(ends.len() as u64, batches);
        (dir, bytes, ends)
    }

    fn rows(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("rows")
    }

    #[test]
    fn a_whole_journal_is_read_to_its_end_and_every_damage_to_it_is_seen() {
        let (dir, bytes, ends) = journal(6);
        let path = rows(&dir).join("0.jnl");
        let whole = Journal { marks: Some((1, 6)), broken_at: None };
        assert_eq!(read_journal(&path).unwrap(), whole);
        // The empty space at the end does not matter.
        let used = *ends.last().unwrap();
        fs::write(&path, &bytes[..used]).unwrap();
        assert_eq!(read_journal(&path).unwrap(), whole);
        fs::write(&path, b"").unwrap();
        assert_eq!(read_journal(&path).unwrap(), Journal { marks: None, broken_at: None });
        let last_whole_before = |at: usize| ends.iter().copied().filter(|end| *end <= at).max().unwrap_or(0);
        let starts = || std::iter::once(0).chain(ends.iter().copied().take(5));
        for at in (0..used).step_by(37).chain(ends.iter().map(|e| e - 1)).chain(starts().flat_map(|s| s..s + 13)) {
            let mut harmed = bytes[..used].to_vec();
            harmed[at] ^= 0x40;
            // The lowest bytes of the engine's number, larger than they should be, change no order.
            let seqno_low = starts().any(|s| (s + 5..s + 8).contains(&at));
            if seqno_low && harmed[at] > bytes[at] {
                continue;
            }
            fs::write(&path, &harmed).unwrap();
            let whole = last_whole_before(at);
            let read = read_journal(&path).unwrap();
            assert_eq!(read.broken_at, Some(whole as u64), "a bit at {at}");
            assert_eq!(read.marks.map(|(_, last)| last), ends.iter().position(|e| *e == whole).map(|n| n as u64 + 1));
            fs::write(&path, &bytes[..at]).unwrap();
            let read = read_journal(&path).unwrap();
            assert_eq!(read.broken_at, (at != whole).then_some(whole as u64), "cut at {at}");
        }
    }

    #[test]
    fn a_gap_between_journals_is_refused_and_an_incomplete_end_without_one_is_not() {
        let (dir, bytes, ends) = journal(6);
        let set = |name: &str, bytes: &[u8]| fs::write(rows(&dir).join(name), bytes).unwrap();
        let parts = |n: usize, m: usize| &bytes[if n == 0 { 0 } else { ends[n - 1] }..ends[m - 1]];

        set("0.jnl", parts(0, 2));
        set("1.jnl", parts(2, 4));
        set("2.jnl", parts(4, 6));
        check(&rows(&dir), 6).unwrap();

        // One is missing, one lacks its last batch, one begins late.
        fs::remove_file(rows(&dir).join("1.jnl")).unwrap();
        assert!(check(&rows(&dir), 0).unwrap_err().contains("after number 2 and before number 5"));
        set("1.jnl", parts(2, 3));
        assert!(check(&rows(&dir), 0).unwrap_err().contains("after number 3 and before number 5"));
        set("1.jnl", parts(3, 4));
        assert!(check(&rows(&dir), 0).unwrap_err().contains("after number 2 and before number 4"));
        // Damaged in the middle: the place is named.
        let mut harmed = parts(2, 4).to_vec();
        let at = ends[2] - ends[1];
        harmed[at + 20] ^= 1;
        set("1.jnl", &harmed);
        let why = check(&rows(&dir), 0).unwrap_err();
        assert!(why.contains(&format!("rows/1.jnl is damaged at byte {at}")), "{why}");

        // A batch that failed half-way leaves an incomplete end; the next process begins a journal with the same number.
        set("1.jnl", &[parts(2, 4), &parts(4, 5)[..50]].concat());
        check(&rows(&dir), 6).unwrap();
        assert_eq!(fs::read(rows(&dir).join("1.jnl")).unwrap(), parts(2, 4), "cut to its last whole batch");
        check(&rows(&dir), 6).unwrap();

        // The end of the last one: cut when it was not synced, refused and left alone when it was.
        set("2.jnl", &parts(4, 6)[..parts(4, 6).len() - 1]);
        assert!(check(&rows(&dir), 6).unwrap_err().contains("number 6 had been synced"));
        assert_eq!(fs::read(rows(&dir).join("2.jnl")).unwrap().len(), parts(4, 6).len() - 1);
        check(&rows(&dir), 5).unwrap();
        assert_eq!(fs::read(rows(&dir).join("2.jnl")).unwrap(), parts(4, 5));

        // And the engine opens what was checked.
        let lsm =
            Lsm::open(&LsmConfig { dir: dir.path().to_owned(), block_cache_bytes: 1 << 20, disk_reserve_bytes: 0 })
                .unwrap();
        assert_eq!(lsm.get_one(&Key::of(&T).atom(&4_u64.to_be_bytes()).key()).unwrap().unwrap().len(), 100);
        assert_eq!(lsm.get_one(&Key::of(&T).atom(&5_u64.to_be_bytes()).key()).unwrap(), None);
    }

    #[test]
    fn a_damaged_list_of_tables_is_refused() {
        let (dir, _, _) = journal(1);
        let folder = rows(&dir).join("keyspaces/1");
        let list = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.file_name().unwrap().to_string_lossy().starts_with('v'))
            .unwrap();
        let bytes = fs::read(&list).unwrap();
        check(&rows(&dir), 0).unwrap();
        for at in 0..bytes.len() {
            let mut harmed = bytes.clone();
            harmed[at] ^= 4;
            fs::write(&list, harmed).unwrap();
            assert!(check(&rows(&dir), 0).unwrap_err().contains("damaged"), "byte {at}");
        }
        fs::remove_file(&list).unwrap();
        assert!(check(&rows(&dir), 0).is_err());
        fs::write(&list, bytes).unwrap();
        fs::remove_file(folder.join("current")).unwrap();
        assert!(check(&rows(&dir), 0).unwrap_err().contains("keyspaces/1/current"));
    }
}
