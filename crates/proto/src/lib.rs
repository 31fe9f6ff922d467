//! The wire contract of the data plane: the messages of `bsky.Service`, which we serve, and of `bsync.Service`,
//! which we read from.
//!
//! `proto/*.proto` says what the contract is; `src/gen/` is generated from it by `cargo xtask proto` and committed,
//! so that building needs no protobuf compiler. What is written by hand here is only what works on *any* message:
//! [`dynamic`] turns messages into JSON and back by the name of their method, and [`contract`] compares our contract
//! with the one that a published package carries. Nothing here knows what a call answers, or speaks HTTP.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

pub mod contract;
pub mod dynamic;

// Generated code is formatted by its generator, and not to the taste of lints.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
#[path = "gen/bsky.rs"]
mod bsky;

/// The messages of `bsync.Service`, from which private state comes.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
#[path = "gen/bsync.rs"]
pub mod bsync;

#[rustfmt::skip]
#[path = "gen/rpcs.rs"]
mod rpcs;

pub use actor_info::VerifiedByEntry;
pub use bsky::*;
pub use prost_types::Timestamp;
pub use rpcs::METHODS;

/// Both services with all their messages, as a serialised `google.protobuf.FileDescriptorSet`.
///
/// It shows the contract as the `.proto` files have it: `ActorInfo.verified_by` is a map here.
pub static DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");

/// The full name of the service we serve; the path of a call is `/bsky.Service/` and the name of the method.
pub const SERVICE: &str = "bsky.Service";

/// [`DESCRIPTOR`] decoded and linked, once per process.
pub fn descriptors() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR).expect("a test decodes the committed descriptor"));
    &POOL
}
