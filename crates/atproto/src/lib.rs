//! The atproto floor: identifiers, DAG-CBOR, CIDs, CARs, Merkle search trees, signatures, firehose frames.
//!
//! Everything here is pure: bytes in, values out. Nothing opens a socket or a file, reads a clock or starts a task;
//! where the time matters it comes in as an argument. Input is never trusted: no function panics on outside bytes,
//! allocates by a claimed length or recurses without a bound.
//!
//! What deliberately does not live here: what a record means (that is `index`), where records come from (`ingest`),
//! and any caching of keys or documents.

pub mod archive;
pub mod aturi;
pub mod car;
pub mod cbor;
pub mod cid;
pub mod commit;
pub mod compact;
pub mod crypto;
pub mod datetime;
pub mod did;
pub mod frame;
pub mod handle;
pub mod json;
pub mod labels;
pub mod language;
pub mod lexicon;
pub mod mst;
pub mod multibase;
pub mod nsid;
pub mod repo;
pub mod rkey;
pub mod tid;
pub mod uri;
pub mod value;
pub mod verify;

pub use aturi::AtUri;
pub use cid::{Cid, CidBuf, CidRef};
pub use did::Did;
pub use tid::Tid;
pub use value::Value;
