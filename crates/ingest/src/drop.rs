//! Why something that came in had no effect: closed sets with names, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Map, Value};

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$why:meta])* $variant:ident => $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$why])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label of metrics and of the status.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

reasons! {
    /// Why something that came in was lost. Every one of these is worth a look.
    DropReason {
        /// A frame larger than the bound.
        FrameTooLarge => "frame_too_large",
        /// A frame that is not a header and a body in DAG-CBOR.
        FrameMalformed => "frame_malformed",
        /// A message that lacks a field, or has one of the wrong kind.
        MessageInvalid => "message_invalid",
        /// A kind of message we do not know.
        MessageUnknown => "message_unknown",
        /// More blocks or operations than one commit may have.
        CommitTooLarge => "commit_too_large",
        /// The blocks are not a CAR, or a block does not hash to its name.
        BlocksMalformed => "blocks_malformed",
        /// The commit block is missing or is not a commit.
        CommitMalformed => "commit_malformed",
        /// The commit belongs to another repo, or names another revision than its message.
        CommitMismatch => "commit_mismatch",
        /// The revision lies in the future.
        RevInFuture => "rev_in_future",
        /// The signature does not fit the account's key, also after asking for the key again.
        SignatureInvalid => "signature_invalid",
        /// The account's document has no key we could use.
        KeyMissing => "key_missing",
        /// The directory says that there is no such account.
        IdentityAbsent => "identity_absent",
        /// An operation has a shape that it cannot have.
        OpInvalid => "op_invalid",
        /// The block of a record that stands after the commit did not come with it.
        RecordsMissing => "commit_records_missing",
        /// The operations do not lead from the tree before to the tree after.
        ProofInvalid => "proof_invalid",
        /// The verification itself failed. A bug of ours: please report the event.
        VerifierPanicked => "verifier_panicked",
        /// A record's effects met damaged bytes of our own.
        OwnState => "own_state_damaged",
        /// A label that lacks a field, or has one of the wrong kind or size.
        LabelMalformed => "label_malformed",
        /// A label whose source is not the labeler it came from.
        LabelSource => "label_source",
        /// A label whose signature is missing or does not fit the labeler's key.
        LabelSignature => "label_signature",
        /// An operation on private state that cannot be applied; kept as a dead letter.
        PrivateOp => "private_op_invalid",
    }
}

reasons! {
    /// Why something that came in needed nothing to be done. These are normal.
    SkipReason {
        /// An event of a revision that is applied already.
        Stale => "stale",
        /// An event of a repo that will be read whole anyway.
        Held => "held_for_resync",
        /// An event of an account whose key could not be had in time; the repo will be read whole.
        Unverifiable => "unverifiable_for_now",
        /// An operation on a collection we do not index.
        CollectionUnknown => "collection_unknown",
        /// A check of an identity that could wait, left out because too many wait already.
        RefreshPostponed => "refresh_postponed",
    }
}

/// Counts by reason since start.
#[derive(Default)]
pub struct Drops {
    drops: [AtomicU64; DropReason::ALL.len()],
    skips: [AtomicU64; SkipReason::ALL.len()],
    records: [AtomicU64; gp_index::apply::DropReason::ALL.len()],
}

impl Drops {
    /// Counts one loss.
    pub fn lost(&self, reason: DropReason) {
        self.drops[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts what needed nothing to be done.
    pub fn skip(&self, reason: SkipReason, count: u64) {
        if count > 0 {
            self.skips[reason as usize].fetch_add(count, Relaxed);
        }
    }

    /// Counts a record that was not kept.
    pub fn record(&self, reason: gp_index::apply::DropReason) {
        if let Some(at) = gp_index::apply::DropReason::ALL.iter().position(|r| *r == reason) {
            self.records[at].fetch_add(1, Relaxed);
        }
    }

    /// How often something was lost for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Relaxed)
    }

    /// How often nothing needed to be done for this reason.
    pub fn skipped(&self, reason: SkipReason) -> u64 {
        self.skips[reason as usize].load(Relaxed)
    }

    /// All losses by name, zeros included.
    pub fn drops_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let own = DropReason::ALL.iter().map(|r| (r.name(), self.dropped(*r)));
        let records = gp_index::apply::DropReason::ALL.iter().zip(&self.records);
        own.chain(records.map(|(r, count)| (r.name(), count.load(Relaxed))))
    }

    /// All skips by name, zeros included.
    pub fn skips_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        SkipReason::ALL.iter().map(|r| (r.name(), self.skipped(*r)))
    }

    pub(crate) fn drops_json(&self) -> Value {
        object(self.drops_by_name())
    }

    pub(crate) fn skips_json(&self) -> Value {
        object(self.skips_by_name())
    }
}

fn object(counts: impl Iterator<Item = (&'static str, u64)>) -> Value {
    Value::Object(counts.map(|(name, count)| (name.to_owned(), count.into())).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_place_and_a_name_of_its_own() {
        let drops = Drops::default();
        for reason in DropReason::ALL {
            drops.lost(*reason);
        }
        for reason in gp_index::apply::DropReason::ALL {
            drops.record(reason);
        }
        let names: HashSet<_> = drops.drops_by_name().collect();
        assert_eq!(names.len(), DropReason::ALL.len() + gp_index::apply::DropReason::ALL.len());
        assert!(names.iter().all(|(_, count)| *count == 1));
        assert!(drops.skips_by_name().all(|(_, count)| count == 0));
    }
}
