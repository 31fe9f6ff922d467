//! Feeds: what an account published, and what others read of it.

use crate::{
    atom,
    counts::ByCount,
    placed::{Placed, did_of},
    posts::Reading,
    rows::{Rows, timed, timed_by},
    tables::{self, by},
};

/// The item is a post.
pub const POST_ITEM: u8 = 0;
/// The item is a repost.
pub const REPOST_ITEM: u8 = 1;

/// The post is a reply.
pub const IS_REPLY: u8 = 1;
/// The post is a reply in a thread whose root its author wrote.
pub const IN_OWN_THREAD: u8 = 2;
/// The post quotes a record.
pub const IS_QUOTE: u8 = 4;
/// The post shows pictures.
pub const HAS_MEDIA: u8 = 8;
/// The post shows a video.
pub const HAS_VIDEO: u8 = 16;

/// The rows that put a post into its author's feed. Pure.
pub(crate) fn post_rows(it: &Placed<'_>, reading: &Reading<'_>, out: &mut Rows) {
    let mut flags = 0;
    if let Some((root, _)) = reading.reply {
        flags |= IS_REPLY;
        if did_of(root) == Some(it.did) {
            flags |= IN_OWN_THREAD;
        }
    }
    for (bit, on) in [(IS_QUOTE, reading.embedded.is_some()), (HAS_MEDIA, reading.media), (HAS_VIDEO, reading.video)] {
        if on {
            flags |= bit;
        }
    }
    let place = timed(tables::by_actor(it.did, by::FEED), it).tag(POST_ITEM).atom(&atom::rkey(it.rkey)).key();
    out.put_by(it.did, place, vec![flags], ByCount::Posts);
    if reading.media {
        out.put(timed_by(it, by::MEDIA), "");
    }
    if reading.video {
        out.put(timed_by(it, by::VIDEO), "");
    }
}

/// The row that puts a standing repost into its author's feed. Pure.
pub(crate) fn repost_row(it: &Placed<'_>, subject: &str, out: &mut Rows) {
    let place = timed(tables::by_actor(it.did, by::FEED), it).tag(REPOST_ITEM).atom(&atom::rkey(it.rkey)).key();
    let mut value = vec![0];
    value.extend_from_slice(&atom::uri(subject));
    out.put(place, value);
}

/// The rows of one feed generator. Pure.
pub fn generator_rows(it: &Placed<'_>, out: &mut Rows) {
    out.put_by(it.did, timed_by(it, by::GENERATOR), "", ByCount::Generators);
}
