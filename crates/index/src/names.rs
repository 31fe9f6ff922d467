//! Accounts as numbers: what the window of timelines and the graph of follows call them in memory.
//!
//! A number is given when an account is first met, and never taken back or given to somebody else while the process
//! lives, so a number that a call holds stays right whatever else is dropped and filled again. It means nothing outside
//! of the process and is written nowhere.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use parking_lot::RwLock;

use crate::{
    atom::{Atom, Parts},
    tables::BY,
};

/// Bytes of a `did:plc` in its atom, behind the tag.
const PLC_BYTES: usize = 15;

/// Names are allocated so many at a time, so that growing moves none.
const CHUNK: usize = 1 << 12;

/// No number: an empty place of the table.
const NOBODY: u32 = u32::MAX;

/// What an account takes in the window beside its name: its newest item.
const NEWEST_BYTES: u64 = 8;

/// What a name that is kept apart takes beside its bytes, which are there twice.
const ODD_BYTES: u64 = 128;

/// The names of accounts, by number and back.
pub struct Names {
    table: RwLock<Table>,
    bytes_max: u64,
}

/// A place of the table: a number, and the hash of its name, so that few names must be looked at.
#[derive(Clone, Copy)]
struct Place {
    hash: u32,
    number: u32,
}

#[derive(Default)]
struct Table {
    /// The bytes of each `did:plc`, by number. Zeros for a name that is kept apart.
    plc: Vec<Vec<[u8; PLC_BYTES]>>,
    count: u32,
    /// Open addressing; a power of two, at most three quarters full. Nothing is ever removed.
    places: Vec<Place>,
    /// Atoms that are no `did:plc`.
    odd: HashMap<Box<[u8]>, u32>,
    odd_by_number: HashMap<u32, Box<[u8]>>,
    odd_bytes: u64,
    hasher: RandomState,
}

/// The first byte of the atom of every `did:plc`.
fn plc_tag() -> u8 {
    static TAG: std::sync::LazyLock<u8> =
        std::sync::LazyLock::new(|| crate::atom::did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")[0]);
    *TAG
}

/// The bytes of a `did:plc`, if the atom is one.
fn plc_of(atom: &[u8]) -> Option<&[u8; PLC_BYTES]> {
    match atom {
        [tag, rest @ ..] if *tag == plc_tag() => rest.try_into().ok(),
        _ => None,
    }
}

impl Table {
    fn hash(&self, plc: &[u8; PLC_BYTES]) -> u32 {
        // Keyed, because anybody can make names.
        self.hasher.hash_one(plc) as u32
    }

    fn plc(&self, number: u32) -> Option<&[u8; PLC_BYTES]> {
        self.plc.get(number as usize / CHUNK)?.get(number as usize % CHUNK)
    }

    fn find(&self, atom: &[u8]) -> Option<u32> {
        let Some(plc) = plc_of(atom) else { return self.odd.get(atom).copied() };
        if self.places.is_empty() {
            return None;
        }
        let (hash, mask) = (self.hash(plc), self.places.len() - 1);
        let mut at = hash as usize & mask;
        loop {
            let place = self.places[at];
            if place.number == NOBODY {
                return None;
            }
            if place.hash == hash && self.plc(place.number) == Some(plc) {
                return Some(place.number);
            }
            at = (at + 1) & mask;
        }
    }

    fn enter(&mut self, place: Place) {
        let mask = self.places.len() - 1;
        let mut at = place.hash as usize & mask;
        while self.places[at].number != NOBODY {
            at = (at + 1) & mask;
        }
        self.places[at] = place;
    }

    fn add(&mut self, atom: &[u8]) -> u32 {
        let number = self.count;
        self.count += 1;
        if (number as usize).is_multiple_of(CHUNK) {
            self.plc.push(Vec::with_capacity(CHUNK));
        }
        let plc = plc_of(atom).copied();
        if let Some(chunk) = self.plc.last_mut() {
            chunk.push(plc.unwrap_or_default());
        }
        match plc {
            Some(plc) => {
                if (self.count as usize) * 4 > self.places.len() * 3 {
                    let grown = vec![Place { hash: 0, number: NOBODY }; (self.places.len() * 2).max(64)];
                    for place in std::mem::replace(&mut self.places, grown) {
                        if place.number != NOBODY {
                            self.enter(place);
                        }
                    }
                }
                self.enter(Place { hash: self.hash(&plc), number });
            }
            None => {
                self.odd_bytes += ODD_BYTES + 2 * atom.len() as u64;
                self.odd.insert(atom.into(), number);
                self.odd_by_number.insert(number, atom.into());
            }
        }
        number
    }

    fn atom(&self, number: u32) -> Atom {
        if let Some(odd) = self.odd_by_number.get(&number) {
            return Atom::from_slice(odd);
        }
        let mut atom = Atom::new();
        if let Some(plc) = self.plc(number) {
            atom.push(plc_tag());
            atom.extend_from_slice(plc);
        }
        atom
    }

    fn bytes(&self) -> u64 {
        (self.plc.len() * CHUNK * PLC_BYTES + self.places.len() * size_of::<Place>()) as u64
            + u64::from(self.count) * NEWEST_BYTES
            + self.odd_bytes
    }
}

impl Names {
    /// No names yet, and at most so many bytes of them.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { table: RwLock::default(), bytes_max })
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        self.table.read().bytes()
    }

    /// Accounts that have a number.
    pub fn count(&self) -> u32 {
        self.table.read().count
    }

    /// The number of an account, given as an atom; a new one if it has none yet. Nothing when there is no room for more.
    pub(crate) fn number(&self, atom: &[u8]) -> Option<u32> {
        if let Some(number) = self.table.read().find(atom) {
            return Some(number);
        }
        self.numbers([atom])?.pop()
    }

    /// The numbers of some accounts, in order. Nothing when there is no room for all of them.
    pub(crate) fn numbers<'a>(&self, atoms: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u32>> {
        let mut table = self.table.write();
        atoms
            .into_iter()
            .map(|atom| {
                table.find(atom).or_else(|| {
                    let has_room = table.count < NOBODY && table.bytes() < self.bytes_max;
                    has_room.then(|| table.add(atom))
                })
            })
            .collect()
    }

    /// The number of an account, given as an atom, if it has one.
    pub(crate) fn known(&self, atom: &[u8]) -> Option<u32> {
        self.table.read().find(atom)
    }

    /// The same of some accounts, in order.
    pub(crate) fn all_known<'a>(&self, atoms: impl IntoIterator<Item = &'a [u8]>) -> Vec<Option<u32>> {
        let table = self.table.read();
        atoms.into_iter().map(|atom| table.find(atom)).collect()
    }

    /// The atom of an account.
    pub(crate) fn atom(&self, number: u32) -> Atom {
        self.table.read().atom(number)
    }

    /// The DIDs of some accounts, in order.
    pub(crate) fn dids(&self, numbers: impl IntoIterator<Item = u32>) -> crate::Result<Vec<String>> {
        let table = self.table.read();
        numbers.into_iter().map(|number| Parts::of(BY.name, &table.atom(number)).did()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{atom, testing::did};

    #[test]
    fn a_name_keeps_its_number_and_gives_back_its_bytes() {
        let names = Names::new(1 << 30);
        let letters = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut all: Vec<String> = (0..10_000usize)
            .map(|n| {
                let text: String = (0..3).map(|at| char::from(letters[n >> (5 * at) & 31])).collect();
                did(&text)
            })
            .collect();
        // Zeros, names of other methods, and what is too long to be read back.
        all.extend([did(""), "did:web:odd.test".into(), "junk".into(), format!("did:web:{}", "x".repeat(5_000))]);
        all.sort();
        all.dedup();
        assert_eq!(names.known(&atom::did(&all[7])), None);
        let numbers: Vec<u32> = all.iter().map(|did| names.number(&atom::did(did)).unwrap()).collect();
        let mut distinct = numbers.clone();
        distinct.sort_unstable();
        assert_eq!(distinct, (0..all.len() as u32).collect::<Vec<_>>());
        for (text, number) in all.iter().zip(&numbers) {
            let atom = atom::did(text);
            assert_eq!(names.known(&atom), Some(*number));
            assert_eq!(names.number(&atom), Some(*number));
            assert_eq!(names.atom(*number), atom);
        }
        assert_eq!(names.dids([numbers[3]]).unwrap(), [all[3].clone()]);
        assert_eq!(names.count() as usize, all.len());
    }

    #[test]
    fn when_there_is_no_room_nobody_new_gets_a_number() {
        let names = Names::new(70_000);
        let mut last = None;
        for n in 0..1_000 {
            let Some(number) = names.number(&atom::did(&format!("did:web:n{n}.test"))) else { break };
            last = Some((n, number));
        }
        let (n, number) = last.unwrap();
        assert!(n > 10 && n < 999);
        assert_eq!(names.number(&atom::did(&format!("did:web:n{n}.test"))), Some(number));
        assert_eq!(names.numbers([&atom::did("did:web:n0.test")[..], &atom::did("did:web:new.test")]), None);
    }
}
