//! Threads: replies of the author of a root, and the whole tree around a post.

use gp_store::{Key, View};

use crate::{
    Result, atom,
    placed::{Placed, did_of},
    posts::Reading,
    tables::{self, on},
};

/// A reply by the author of its thread's root. It stays, marked, when the post is deleted: a deleted reply keeps its
/// place in the chain while something of the author's hangs below it (read-rpcs 5.7).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OpReply {
    /// Address of the parent.
    #[prost(string, tag = "1")]
    pub parent: String,
    /// When it was deleted, in microseconds; 0 while it stands.
    #[prost(int64, tag = "2")]
    pub deleted_at_us: i64,
}

fn key(root: &str, rkey: &str) -> Key {
    tables::on_subject(root, on::OP_REPLY).atom(&atom::rkey(rkey)).key()
}

pub(crate) fn op_reply_stands(view: &mut View<'_>, it: &Placed<'_>, reading: &Reading<'_>) -> Result<()> {
    let Some((root, parent)) = reading.reply else { return Ok(()) };
    if did_of(root) == Some(it.did) {
        let row = OpReply { parent: parent.to_owned(), deleted_at_us: 0 };
        view.put(key(root, it.rkey), prost::Message::encode_to_vec(&row));
    }
    Ok(())
}

pub(crate) fn op_reply_gone(view: &mut View<'_>, it: &Placed<'_>, reading: &Reading<'_>, time_us: i64) -> Result<()> {
    let Some((root, parent)) = reading.reply else { return Ok(()) };
    if did_of(root) == Some(it.did) {
        let row = OpReply { parent: parent.to_owned(), deleted_at_us: time_us };
        view.put(key(root, it.rkey), prost::Message::encode_to_vec(&row));
    }
    Ok(())
}
