//! How identifiers become parts of keys, and back.
//!
//! The encoding itself is `gp_atproto::compact`; here are the few combinations that tables use.

use gp_atproto::compact;
use smallvec::SmallVec;

use crate::{Error, Result};

/// A self-delimiting part of a key. Most are shorter than 40 bytes and live on the stack.
pub type Atom = SmallVec<[u8; 40]>;

fn packed(write: impl FnOnce(&mut Vec<u8>)) -> Atom {
    let mut out = Vec::with_capacity(40);
    write(&mut out);
    Atom::from_slice(&out)
}

/// A DID, or any text that stands where a DID is expected.
pub fn did(did: &str) -> Atom {
    packed(|out| compact::pack_did(did, out))
}

/// An at-uri, a DID, or any text that stands where a subject is expected.
pub fn uri(uri: &str) -> Atom {
    packed(|out| compact::pack_uri(uri, out))
}

/// A record key.
pub fn rkey(rkey: &str) -> Atom {
    packed(|out| compact::pack_rkey(rkey, out))
}

/// A collection and a record key: the place of a record inside its repo.
pub fn path(collection: &str, rkey: &str) -> Atom {
    packed(|out| {
        compact::pack_nsid(collection, out);
        compact::pack_rkey(rkey, out);
    })
}

/// Eight bytes of a time in microseconds, later first.
pub fn micros_desc(us: i64) -> [u8; 8] {
    (!(us as u64 ^ (1 << 63))).to_be_bytes()
}

/// Reads parts of a key one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    rest: &'a [u8],
    table: &'static str,
}

impl<'a> Parts<'a> {
    /// Reads from the beginning of `bytes`; `table` names the culprit when they do not fit.
    pub fn of(table: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, table }
    }

    fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt { table: self.table, what }
    }

    /// A DID.
    pub fn did(&mut self) -> Result<String> {
        self.read("did", compact::unpack_did)
    }

    /// A subject. A text too long to be kept in a key cannot be read back: it is empty.
    pub fn uri(&mut self) -> Result<String> {
        self.read("uri", compact::unpack_uri)
    }

    /// A record key.
    pub fn rkey(&mut self) -> Result<String> {
        self.read("rkey", compact::unpack_rkey)
    }

    /// A collection.
    pub fn nsid(&mut self) -> Result<String> {
        self.read("nsid", compact::unpack_nsid)
    }

    fn read(
        &mut self,
        what: &'static str,
        unpack: impl Fn(&'a [u8], &mut String) -> std::result::Result<&'a [u8], compact::CompactError>,
    ) -> Result<String> {
        let mut text = String::new();
        match unpack(self.rest, &mut text) {
            Ok(rest) => {
                self.rest = rest;
                Ok(text)
            }
            Err(compact::CompactError::Hashed) => {
                let len = compact::atom_len(self.rest).map_err(|_| self.corrupt(what))?;
                self.rest = &self.rest[len..];
                Ok(String::new())
            }
            Err(_) => Err(self.corrupt(what)),
        }
    }

    /// One byte.
    pub fn tag(&mut self) -> Result<u8> {
        let (&tag, rest) = self.rest.split_first().ok_or_else(|| self.corrupt("tag"))?;
        self.rest = rest;
        Ok(tag)
    }

    /// Eight bytes of a time in microseconds, later first.
    pub fn micros_desc(&mut self) -> Result<i64> {
        let bytes = self.take::<8>("time")?;
        Ok((!u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
    }

    /// Four bytes of a number, larger first.
    pub fn u32_desc(&mut self) -> Result<u32> {
        Ok(!u32::from_be_bytes(self.take::<4>("number")?))
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.corrupt(what))?;
        self.rest = rest;
        Ok(*head)
    }
}
