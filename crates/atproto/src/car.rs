//! CAR v1: the container of repository blocks, in firehose events and repo exports.
//!
//! The reader works on a slice and copies nothing. The bytes of every block are hashed and compared with the block's
//! CID before anything can be read, so whoever holds a [`Car`] holds blocks that are what their CIDs say.

use std::{
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use sha2::{Digest, Sha256, Sha512};
use smallvec::SmallVec;

use crate::{
    cbor::{CborError, Reader, Writer},
    cid::{Cid, CidRef, SHA2_256, SHA2_512, varint, write_varint},
};

/// Longest header, in bytes. A header with one root has 59.
pub const HEADER_BYTES_MAX: usize = 4096;
/// Most blocks in an event: what its largest CAR could hold at all.
pub const EVENT_BLOCKS_MAX: usize = 60_000;
/// Most blocks in a whole repository. The largest known have a few million records.
pub const REPO_BLOCKS_MAX: usize = 16_000_000;

/// Up to this many blocks a search from the front is quicker than a table.
const LINEAR_BLOCKS_MAX: usize = 12;

/// What is wrong with a CAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarError {
    /// The bytes end inside the header or a block, or a length is not a number.
    #[error("CAR ends too early")]
    Truncated,
    /// The header is longer than [`HEADER_BYTES_MAX`].
    #[error("CAR header is too long")]
    HeaderTooLong,
    /// The header is not what CAR v1 wants.
    #[error("CAR header is not valid")]
    Header,
    /// The header names no root.
    #[error("CAR has no root")]
    NoRoot,
    /// A block does not begin with a CID.
    #[error("CAR block without a CID")]
    BlockCid,
    /// A block's CID uses another hash than sha-256 or sha-512.
    #[error("CAR block with an unsupported hash")]
    UnsupportedHash,
    /// A block's bytes do not hash to its CID.
    #[error("CAR block does not match its CID")]
    HashMismatch,
    /// More blocks than the caller allows.
    #[error("CAR has too many blocks")]
    TooManyBlocks,
    /// A block is larger than anybody reads.
    #[error("CAR has a block that is too large")]
    BlockTooLarge,
}

/// A CAR whose blocks have all been checked against their CIDs.
#[derive(Clone, Debug)]
pub struct Car<'a> {
    roots: SmallVec<[CidRef<'a>; 1]>,
    blocks: Vec<Block<'a>>,
    table: Table,
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// What the bytes hash to.
    pub cid: CidRef<'a>,
    /// The bytes.
    pub data: &'a [u8],
}

impl<'a> Car<'a> {
    /// Reads and checks a whole CAR of at most `blocks_max` blocks.
    ///
    /// Blocks may come in any order, more than once, and unasked for.
    pub fn parse(bytes: &'a [u8], blocks_max: usize) -> Result<Car<'a>, CarError> {
        let mut rest = bytes;
        let header_len = length(&mut rest)?;
        if header_len > HEADER_BYTES_MAX {
            return Err(CarError::HeaderTooLong);
        }
        let (header, mut rest) = rest.split_at_checked(header_len).ok_or(CarError::Truncated)?;
        let roots = read_header(header)?;
        let mut blocks = Vec::with_capacity(if bytes.len() > 1 << 16 { 1024 } else { 16 });
        while !rest.is_empty() {
            let len = length(&mut rest)?;
            let (section, after) = rest.split_at_checked(len).ok_or(CarError::Truncated)?;
            let (cid, data) = CidRef::from_prefix(section).map_err(|_| CarError::BlockCid)?;
            if blocks.len() == blocks_max {
                return Err(CarError::TooManyBlocks);
            }
            check_hash(cid, data)?;
            blocks.push(Block { cid, data });
            rest = after;
        }
        let table = Table::of(&blocks);
        Ok(Car { roots, blocks, table })
    }

    /// The roots, at least one.
    pub fn roots(&self) -> &[CidRef<'a>] {
        &self.roots
    }

    /// All blocks in the order of the bytes.
    pub fn blocks(&self) -> &[Block<'a>] {
        &self.blocks
    }

    /// The bytes of the block with this CID.
    pub fn get(&self, cid: &Cid) -> Option<&'a [u8]> {
        self.find(cid.as_ref()).map(|at| self.blocks[at].data)
    }

    /// The bytes of the block with this CID of any form.
    pub fn get_ref(&self, cid: CidRef<'_>) -> Option<&'a [u8]> {
        self.find(cid).map(|at| self.blocks[at].data)
    }

    /// The place of a block in [`Car::blocks`].
    pub fn find(&self, cid: CidRef<'_>) -> Option<usize> {
        match &self.table {
            Table::Linear => self.blocks.iter().position(|block| block.cid == cid),
            Table::Hashed { slots, shift } => {
                let mut slot = slot_of(cid, *shift);
                loop {
                    match slots[slot] {
                        0 => return None,
                        at if self.blocks[at as usize - 1].cid == cid => return Some(at as usize - 1),
                        _ => slot = (slot + 1) & (slots.len() - 1),
                    }
                }
            }
        }
    }
}

/// Where blocks are found by CID. The digest is the hash, mixed with a secret of the process, since a patient sender
/// could search for blocks whose digests begin or end alike.
#[derive(Clone, Debug)]
enum Table {
    Linear,
    /// Places in `blocks` plus one, zero for none; at most half of the slots are taken.
    Hashed {
        slots: Vec<u32>,
        shift: u32,
    },
}

impl Table {
    fn of(blocks: &[Block<'_>]) -> Table {
        if blocks.len() <= LINEAR_BLOCKS_MAX {
            return Table::Linear;
        }
        let size = (blocks.len() * 2).next_power_of_two();
        let (mut slots, shift) = (vec![0u32; size], 64 - size.trailing_zeros());
        for (at, block) in blocks.iter().enumerate() {
            let mut slot = slot_of(block.cid, shift);
            while slots[slot] != 0 {
                if blocks[slots[slot] as usize - 1].cid == block.cid {
                    break; // a repeated block: the first one stays
                }
                slot = (slot + 1) & (size - 1);
            }
            if slots[slot] == 0 {
                slots[slot] = at as u32 + 1;
            }
        }
        Table::Hashed { slots, shift }
    }
}

fn slot_of(cid: CidRef<'_>, shift: u32) -> usize {
    // The last bytes of a CID are digest bytes in every form.
    let tail = u64::from_le_bytes(cid.as_bytes().last_chunk::<8>().copied().unwrap_or_default());
    let mixed = u128::from(tail ^ *SECRET).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    ((mixed >> 64) as u64 >> shift) as usize
}

static SECRET: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0u64));

fn length(rest: &mut &[u8]) -> Result<usize, CarError> {
    let len = varint(rest).map_err(|_| CarError::Truncated)?;
    usize::try_from(len).map_err(|_| CarError::Truncated)
}

pub(crate) fn read_header(header: &[u8]) -> Result<SmallVec<[CidRef<'_>; 1]>, CarError> {
    let (mut roots, mut version) = (SmallVec::new(), None);
    let mut reader = Reader::new(header);
    let mut read = || -> Result<(), CborError> {
        for _ in 0..reader.map()? {
            match reader.key()? {
                "version" => version = Some(reader.int()?),
                "roots" => {
                    for _ in 0..reader.list()? {
                        roots.push(reader.link()?);
                    }
                }
                _ => reader.skip()?,
            }
        }
        reader.end()
    };
    read().map_err(|_| CarError::Header)?;
    match (version, roots.is_empty()) {
        (Some(1), false) => Ok(roots),
        (Some(1), true) => Err(CarError::NoRoot),
        _ => Err(CarError::Header),
    }
}

pub(crate) fn check_hash(cid: CidRef<'_>, data: &[u8]) -> Result<(), CarError> {
    let matches = match cid.parts() {
        (_, SHA2_256, digest) => digest == &Sha256::digest(data)[..],
        (_, SHA2_512, digest) => digest == &Sha512::digest(data)[..],
        _ => return Err(CarError::UnsupportedHash),
    };
    if matches { Ok(()) } else { Err(CarError::HashMismatch) }
}

/// Writes a CAR v1.
#[derive(Clone, Debug)]
pub struct CarWriter {
    out: Vec<u8>,
}

impl CarWriter {
    /// Begins a CAR with these roots.
    pub fn new(roots: &[Cid]) -> CarWriter {
        let mut header = Writer::new();
        header.map(2).text("roots").list(roots.len());
        for root in roots {
            header.link(root.as_ref());
        }
        header.text("version").int(1);
        let mut out = Vec::new();
        write_varint(header.as_bytes().len() as u64, &mut out);
        out.extend_from_slice(header.as_bytes());
        CarWriter { out }
    }

    /// Adds a block. The CID is taken as it is, so that tests can write a wrong one.
    pub fn block(&mut self, cid: CidRef<'_>, data: &[u8]) -> &mut CarWriter {
        write_varint((cid.as_bytes().len() + data.len()) as u64, &mut self.out);
        self.out.extend_from_slice(cid.as_bytes());
        self.out.extend_from_slice(data);
        self
    }

    /// The whole CAR.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn car_of(blocks: &[&[u8]]) -> Vec<u8> {
        let mut writer = CarWriter::new(&[Cid::for_dag_cbor(blocks[0])]);
        for block in blocks {
            writer.block(Cid::for_dag_cbor(block).as_ref(), block);
        }
        writer.finish()
    }

    #[test]
    fn blocks_are_found_by_cid_in_small_and_large_cars() {
        for n in [1usize, 5, 12, 13, 2000] {
            let blocks: Vec<Vec<u8>> = (0..n).map(|i| i.to_be_bytes().to_vec()).collect();
            let bytes = car_of(&blocks.iter().chain(&blocks).map(|block| &block[..]).collect::<Vec<_>>());
            let car = Car::parse(&bytes, 2 * n).unwrap();
            assert_eq!(car.roots()[0], Cid::for_dag_cbor(&blocks[0]));
            for block in &blocks {
                assert_eq!(car.get(&Cid::for_dag_cbor(block)), Some(&block[..]));
                assert_eq!(car.get(&Cid::for_raw(block)), None);
            }
            assert_eq!(Car::parse(&bytes, 2 * n - 1).unwrap_err(), CarError::TooManyBlocks);
        }
    }

    #[test]
    fn a_forged_block_is_refused() {
        let mut bytes = car_of(&[b"one", b"two"]);
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(Car::parse(&bytes, 9).unwrap_err(), CarError::HashMismatch);
    }

    #[test]
    fn other_hashes() {
        let sha512 = [&[0x01, 0x71, 0x13, 0x40][..], &Sha512::digest(b"x")].concat();
        let sha512 = CidRef::from_bytes(&sha512).unwrap();
        let mut writer = CarWriter::new(&[Cid::for_dag_cbor(b"x")]);
        writer.block(sha512, b"x");
        let bytes = writer.clone().finish();
        assert_eq!(Car::parse(&bytes, 9).unwrap().get_ref(sha512), Some(&b"x"[..]));
        for (cid, want) in [
            (&[0x01, 0x71, 0x00, 0x01, b'x'][..], CarError::UnsupportedHash), // identity
            (&[0x01, 0x71, 0x1e, 0x01, b'x'], CarError::UnsupportedHash),     // blake3
            (&[0x01, 0x71, 0x12, 0x02, 0x2d, 0x71], CarError::HashMismatch),  // a cut-off digest
            (&[0x01, 0x71, 0x12, 0x00], CarError::HashMismatch),
        ] {
            let mut writer = writer.clone();
            writer.block(CidRef::from_bytes(cid).unwrap(), b"x");
            assert_eq!(Car::parse(&writer.finish(), 9).unwrap_err(), want);
        }
    }

    #[test]
    fn headers_that_lie() {
        assert_eq!(Car::parse(&[], 9).unwrap_err(), CarError::Truncated);
        assert_eq!(Car::parse(&[0], 9).unwrap_err(), CarError::Header);
        // A header that claims gigabytes is refused before anything is allocated.
        assert_eq!(Car::parse(&[0xff, 0xff, 0xff, 0xff, 0x7f], 9).unwrap_err(), CarError::HeaderTooLong);
        assert_eq!(Car::parse(&[0xff; 20], 9).unwrap_err(), CarError::Truncated);
        let header = |write: &dyn Fn(&mut Writer)| {
            let mut writer = Writer::new();
            write(&mut writer);
            let mut bytes = vec![writer.as_bytes().len() as u8];
            bytes.extend_from_slice(writer.as_bytes());
            Car::parse(&bytes, 9).map(|_| ()).unwrap_err()
        };
        let root = Cid::for_raw(b"");
        assert_eq!(
            header(&|w| {
                w.map(1).text("version").int(1);
            }),
            CarError::NoRoot
        );
        assert_eq!(
            header(&|w| {
                w.map(1).text("roots").list(1).link(root.as_ref());
            }),
            CarError::Header
        );
        assert_eq!(
            header(&|w| {
                w.map(2).text("roots").list(1).link(root.as_ref()).text("version").int(2);
            }),
            CarError::Header
        );
        assert_eq!(
            header(&|w| {
                w.map(2).text("roots").list(1).text("x").text("version").int(1);
            }),
            CarError::Header
        );
    }

    proptest! {
        #[test]
        fn damaged_cars_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = car_of(&[b"one", b"two", b"three"]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Car::parse(&bytes, 9);
            let _ = Car::parse(&bytes[..cut.index(bytes.len())], 9);
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Car::parse(&bytes, 9);
        }
    }
}
