//! What we keep about the network, and how to ask about it.
//!
//! One file a subject: its tables, the pure function from a record to its rows, and, a screen below, how those rows
//! are read. Writer and reader of a row change in the same diff. Nothing here opens a socket or starts a task: it asks
//! for keys, and the store decides how.

pub mod actors;
pub mod apply;
pub mod atom;
pub mod blocks;
pub mod bookmarks;
pub mod collections;
pub mod counts;
mod cx;
pub mod damage;
pub mod derived;
pub mod drafts;
mod error;
pub mod export;
pub mod feeds;
pub mod follows;
pub mod gates;
pub mod generators;
pub mod graph;
pub mod identity;
pub mod interactions;
pub mod labels;
pub mod likes;
pub(crate) mod listing;
pub mod lists;
pub mod misc;
pub mod moderation;
pub mod mutes;
pub mod names;
pub mod newcomers;
pub mod notifications;
pub mod packs;
pub mod page;
pub(crate) mod past;
pub mod placed;
pub(crate) mod popular;
pub mod posts;
pub mod private;
pub mod profiles;
pub mod progress;
pub mod quotes;
pub(crate) mod rebuilt;
pub mod records;
pub mod relation;
pub mod relationships;
pub mod repos;
pub mod reposts;
pub mod rows;
pub mod search;
pub mod sitemap;
pub mod sitestandard;
pub mod subscriptions;
pub mod suggestions;
pub mod tables;
#[cfg(test)]
pub(crate) mod testing;
pub mod threads;
pub mod verifications;
pub mod window;

pub use cx::{Cx, IdentitySource, NoIdentities, Resolution, system_now_us};
pub use error::{Error, Result};
