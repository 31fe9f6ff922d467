//! What happens in every network, however small: each kind of record and each change of an account at least once.

use std::collections::VecDeque;

use super::{HUB, KEEPER, Script, accounts::Affair};
use crate::records::ListPurpose;

#[derive(Clone, Copy, Debug)]
pub(super) enum Milestone {
    Labeler,
    Generator,
    ModerationList,
    BlocksList,
    CurationList,
    GateList,
    StarterPack,
    LongThread,
    /// A gated post, by the place of its rule in `every_rule`, and the account that writes it.
    Gated(usize, u32),
    HideReply,
    QuotesForbidden,
    QuoteDetached,
    SelfThread,
    QuoteOfHub,
    Verification,
    Status,
    StatusTwice,
    Declaration,
    OptOut,
    Outside,
    ProfileAtOnce,
    OverLimit,
    Edit,
    Affair(Affair),
}

use Milestone::*;

/// All milestones with the part of the history at which they come.
pub(super) fn all() -> VecDeque<(f64, Milestone)> {
    let mut all = VecDeque::from([
        (0.02, Labeler),
        (0.03, Generator),
        (0.04, Generator),
        (0.10, ModerationList),
        (0.11, CurationList),
        (0.12, StarterPack),
        (0.13, GateList),
        (0.14, BlocksList),
        (0.15, BlocksList),
        (0.20, LongThread),
        (0.45, SelfThread),
        (0.46, QuotesForbidden),
        (0.47, QuoteDetached),
        (0.48, QuoteOfHub),
        (0.50, Verification),
        (0.51, Verification),
        (0.52, Verification),
        (0.55, Status),
        (0.56, Status),
        (0.57, StatusTwice),
        (0.58, Declaration),
        (0.59, Declaration),
        (0.60, OptOut),
        (0.61, Outside),
        (0.62, Outside),
        (0.63, ProfileAtOnce),
        (0.64, OverLimit),
        (0.66, Edit),
        (0.70, HideReply),
        (0.75, Affair(Affair::Deactivation)),
        (0.76, Affair(Affair::Takedown)),
        (0.77, Affair(Affair::Suspension)),
        (0.78, Affair(Affair::Deletion)),
        (0.79, Affair(Affair::Return)),
        (0.80, Affair(Affair::NewHandle)),
        (0.82, Affair(Affair::HandedOver)),
        (0.90, HideReply),
    ]);
    // The hub gates a post with each rule, and the keeper does it again.
    for rule in 0..8 {
        all.push_back((0.30 + 0.005 * rule as f64, Gated(rule, HUB)));
        all.push_back((0.35 + 0.005 * rule as f64, Gated(rule, KEEPER)));
    }
    all.make_contiguous().sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

impl Script {
    pub(super) fn reach(&mut self, milestone: Milestone) {
        let actor = self.somebody();
        match milestone {
            Labeler => self.begin_labeler(),
            Generator => self.begin_generator(),
            ModerationList => drop(self.begin_list(KEEPER, ListPurpose::Moderation, 15)),
            CurationList => drop(self.begin_list(KEEPER, ListPurpose::Curation, 25)),
            BlocksList => self.block_list(actor),
            GateList => self.begin_gate_list(),
            StarterPack => self.begin_starter_pack(KEEPER),
            LongThread => self.begin_long_thread(),
            Gated(rule, author) => {
                let allow = self.every_rule()[rule].clone();
                self.write_gated_post(author, allow);
            }
            HideReply => self.hide_a_reply(),
            QuotesForbidden => self.write_post_nobody_may_quote(HUB, true),
            QuoteDetached => self.write_post_nobody_may_quote(KEEPER, false),
            SelfThread => self.write_thread(HUB, 5),
            QuoteOfHub => {
                if let Some(post) = self.post_seen() {
                    self.quote(actor, post);
                }
            }
            Verification => self.verify_somebody(),
            Status | StatusTwice => self.write_status(actor),
            Declaration => self.declare(actor),
            OptOut => self.opt_out(),
            Outside => self.write_outside(actor),
            ProfileAtOnce => self.replace_profile_at_once(actor),
            OverLimit => self.write_over_limit(actor),
            Edit => self.edit_post(),
            Affair(affair) => self.happen(affair),
        }
    }
}
