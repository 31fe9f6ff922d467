//! Lists, starter packs, feeds, verifications, declarations and other records beside posts and relations.

use super::{FEEDS, KEEPER, LABELER, List, Pack, Rkey, Script, VERIFIER, Write};
use crate::records::{
    self, CHAT_DECLARATION, DOCUMENT, GENERATOR, GERM_DECLARATION, LABELER as LABELER_SERVICE, LIST, LIST_BLOCK,
    LIST_ITEM, ListPurpose, NOTIFICATION_DECLARATION, OPT_OUT, POST, PROFILE, PUBLICATION, SELF, STARTER_PACK, STATUS,
    Strong, UNKNOWN, VERIFICATION,
};

/// Most members that a list is begun with.
const LIST_BEGINS_WITH_MAX: usize = 40;

impl Script {
    /// One of the rarer records.
    pub(super) fn write_in_society(&mut self, actor: u32) {
        match self.dice.below(100) {
            0..30 => self.edit_profile(actor),
            30..42 => self.add_to_list(),
            42..48 => {
                let purpose = self.dice.pick(&[ListPurpose::Moderation, ListPurpose::Curation, ListPurpose::Reference]);
                let members = self.dice.between(3, 12);
                self.begin_list(actor, purpose, members);
            }
            48..56 => self.block_list(actor),
            56..60 => self.begin_starter_pack(actor),
            60..65 => self.verify_somebody(),
            65..73 => self.write_status(actor),
            73..82 => self.declare(actor),
            82..86 => self.opt_out(),
            86..90 => self.write_outside(actor),
            90..94 => self.replace_profile_at_once(actor),
            94..96 => self.verify_badly(actor),
            _ => self.write_post(actor, super::posts::Place::Root),
        }
    }

    fn edit_profile(&mut self, actor: u32) {
        let write = self.profile_write(actor);
        self.commit(actor, vec![write]);
    }

    /// Deletes and creates the profile in one commit: two operations on one key, which a host lets through.
    pub(super) fn replace_profile_at_once(&mut self, actor: u32) {
        if self.members[actor as usize].profile_editions == 0 {
            return;
        }
        let block = self.profile_write(actor).block.expect("an edit has a block");
        let writes = vec![Write::delete(PROFILE, Rkey::Word(SELF)), Write::create(PROFILE, Rkey::Word(SELF), block)];
        self.commit(actor, writes);
    }

    // ------------------------------------------------------------------------------------------ lists

    /// Begins a list with members, all in one commit. Returns its place in `lists`.
    pub(super) fn begin_list(&mut self, owner: u32, purpose: ListPurpose, members: usize) -> usize {
        let created_at = self.created_at();
        let block = records::list(&mut self.dice, purpose, &created_at);
        let tid = self.next_tid(owner);
        let strong = Strong { uri: self.uri(owner, LIST, tid), cid: block.cid };
        let mut writes = vec![Write::create(LIST, Rkey::Tid(tid), block)];
        let mut items = Vec::new();
        for _ in 0..members.min(LIST_BEGINS_WITH_MAX) {
            let subject = self.dice.below(self.members.len()) as u32;
            if items.iter().any(|(_, known)| *known == subject) {
                continue;
            }
            let tid = self.next_tid(owner);
            let block = records::list_item(&strong.uri, self.did(subject), &created_at);
            writes.push(Write::create(LIST_ITEM, Rkey::Tid(tid), block));
            items.push((tid, subject));
        }
        self.lists.push(List { owner, strong, purpose, items, fixed: false });
        self.commit(owner, writes);
        self.lists.len() - 1
    }

    /// Begins the list on which thread gates rely; its members never change.
    pub(super) fn begin_gate_list(&mut self) {
        let list = self.begin_list(KEEPER, ListPurpose::Curation, 12);
        self.lists[list].fixed = true;
        self.gate_list = Some(list);
    }

    fn add_to_list(&mut self) {
        if self.lists.is_empty() {
            return;
        }
        let at = self.dice.below(self.lists.len());
        let subject = self.dice.below(self.members.len()) as u32;
        let list = &self.lists[at];
        let owner = list.owner;
        if list.fixed || !self.is_active(owner) {
            return;
        }
        // One in ten is put on the list a second time, where only one of the two counts.
        if list.items.iter().any(|(_, known)| *known == subject) && !self.dice.chance(0.1) {
            return;
        }
        let uri = self.lists[at].strong.uri.clone();
        let tid = self.next_tid(owner);
        let created_at = self.created_at();
        let block = records::list_item(&uri, self.did(subject), &created_at);
        self.lists[at].items.push((tid, subject));
        self.commit(owner, vec![Write::create(LIST_ITEM, Rkey::Tid(tid), block)]);
    }

    pub(super) fn take_off_list(&mut self) -> bool {
        if self.lists.is_empty() {
            return false;
        }
        let at = self.dice.below(self.lists.len());
        let (owner, members) = (self.lists[at].owner, self.lists[at].items.len());
        if self.lists[at].fixed || members < 3 || !self.is_active(owner) {
            return false;
        }
        let item = self.dice.below(members);
        let (tid, _) = self.lists[at].items.swap_remove(item);
        self.commit(owner, vec![Write::delete(LIST_ITEM, Rkey::Tid(tid))]);
        true
    }

    /// Blocks everybody on a moderation list.
    pub(super) fn block_list(&mut self, actor: u32) {
        let lists: Vec<&List> = self.lists.iter().filter(|list| list.purpose == ListPurpose::Moderation).collect();
        if lists.is_empty() {
            return;
        }
        let uri = lists[self.dice.below(lists.len())].strong.uri.clone();
        let tid = self.next_tid(actor);
        let created_at = self.created_at();
        let block = records::about_list(LIST_BLOCK, &uri, &created_at);
        self.commit(actor, vec![Write::create(LIST_BLOCK, Rkey::Tid(tid), block)]);
    }

    /// Somebody on a reference list does not want to be shown there.
    pub(super) fn opt_out(&mut self) {
        let on_lists: Vec<(u32, String)> = self
            .lists
            .iter()
            .filter(|list| list.purpose == ListPurpose::Reference)
            .filter_map(|list| Some((list.items.last()?.1, list.strong.uri.clone())))
            .collect();
        if on_lists.is_empty() {
            return;
        }
        let (actor, uri) = on_lists[self.dice.below(on_lists.len())].clone();
        if !self.is_active(actor) {
            return;
        }
        let tid = self.next_tid(actor);
        let created_at = self.created_at();
        let block = records::about_list(OPT_OUT, &uri, &created_at);
        self.commit(actor, vec![Write::create(OPT_OUT, Rkey::Tid(tid), block)]);
    }

    pub(super) fn begin_starter_pack(&mut self, owner: u32) {
        let list = self.begin_list(owner, ListPurpose::Reference, 10);
        let feeds: Vec<String> = self.generators.iter().take(2).map(|it| it.uri.clone()).collect();
        let created_at = self.created_at();
        let uri = self.lists[list].strong.uri.clone();
        let block = records::starter_pack(&mut self.dice, &uri, &feeds, &created_at);
        let tid = self.next_tid(owner);
        let strong = Strong { uri: self.uri(owner, STARTER_PACK, tid), cid: block.cid };
        self.packs.push(Pack { strong, list });
        self.pass_time_to(0);
        self.commit(owner, vec![Write::create(STARTER_PACK, Rkey::Tid(tid), block)]);
    }

    // ------------------------------------------------------------------------------------------ services

    pub(super) fn begin_labeler(&mut self) {
        let created_at = self.created_at();
        let block = records::labeler(&created_at);
        let uri = gp_atproto::aturi::of_record(self.did(LABELER), LABELER_SERVICE, SELF);
        self.labeler = Some(Strong { uri, cid: block.cid });
        self.commit(LABELER, vec![Write::create(LABELER_SERVICE, Rkey::Word(SELF), block)]);
    }

    pub(super) fn begin_generator(&mut self) {
        let created_at = self.created_at();
        let block = records::generator(&mut self.dice, &created_at);
        let tid = self.next_tid(FEEDS);
        self.generators.push(Strong { uri: self.uri(FEEDS, GENERATOR, tid), cid: block.cid });
        self.commit(FEEDS, vec![Write::create(GENERATOR, Rkey::Tid(tid), block)]);
    }

    // ------------------------------------------------------------------------------------------ words about people

    pub(super) fn verify_somebody(&mut self) {
        self.verify(VERIFIER);
    }

    /// Anybody may verify anybody; nobody has to believe it.
    fn verify_badly(&mut self, actor: u32) {
        self.verify(actor);
    }

    fn verify(&mut self, issuer: u32) {
        let subject = self.somebody_popular();
        let handle = self.members[subject as usize].handle.clone();
        let created_at = self.created_at();
        let block = records::verification(self.person(subject), &handle, &created_at);
        let tid = self.next_tid(issuer);
        self.commit(issuer, vec![Write::create(VERIFICATION, Rkey::Tid(tid), block)]);
    }

    /// Goes live, or ends it. Going live twice in one commit is two operations on one key, of which only the last
    /// record travels.
    pub(super) fn write_status(&mut self, actor: u32) {
        let created_at = self.created_at();
        let status = records::status(&mut self.dice, &created_at);
        let rkey = Rkey::Word(SELF);
        let has_status = std::mem::replace(&mut self.member(actor).has_status, true);
        let writes = match (has_status, self.dice.below(4)) {
            (true, 0) => {
                self.member(actor).has_status = false;
                vec![Write::delete(STATUS, rkey)]
            }
            (true, _) => vec![Write::update(STATUS, rkey, status)],
            (false, 0) => {
                let second = records::status(&mut self.dice, &created_at);
                vec![Write::create(STATUS, rkey, status), Write::update(STATUS, rkey, second)]
            }
            (false, _) => vec![Write::create(STATUS, rkey, status)],
        };
        self.commit(actor, writes);
    }

    pub(super) fn declare(&mut self, actor: u32) {
        let rkey = Rkey::Word(SELF);
        let notifications = records::notification_declaration(&mut self.dice);
        if std::mem::replace(&mut self.member(actor).has_declaration, true) {
            return self.commit(actor, vec![Write::update(NOTIFICATION_DECLARATION, rkey, notifications)]);
        }
        let chat = records::chat_declaration(&mut self.dice);
        let mut writes = vec![
            Write::create(NOTIFICATION_DECLARATION, rkey, notifications),
            Write::create(CHAT_DECLARATION, rkey, chat),
        ];
        if self.dice.chance(0.2) {
            let germ = records::germ_declaration(&mut self.dice);
            writes.push(Write::create(GERM_DECLARATION, rkey, germ));
        }
        self.commit(actor, writes);
    }

    /// Records that other programs read: documents on the open web, and a diary that nobody knows.
    pub(super) fn write_outside(&mut self, actor: u32) {
        let created_at = self.created_at();
        if self.dice.chance(0.5) {
            let block = records::unknown(&mut self.dice, &created_at);
            let tid = self.next_tid(actor);
            return self.commit(actor, vec![Write::create(UNKNOWN, Rkey::Tid(tid), block)]);
        }
        let block = records::publication(&mut self.dice);
        let tid = self.next_tid(actor);
        let publication = Strong { uri: self.uri(actor, PUBLICATION, tid), cid: block.cid };
        let document = records::document(&mut self.dice, &publication.uri, &created_at);
        let writes = vec![
            Write::create(PUBLICATION, Rkey::Tid(tid), block),
            Write::create(DOCUMENT, Rkey::Tid(self.next_tid(actor)), document),
        ];
        self.publications.push(publication);
        self.commit(actor, writes);
    }

    /// A post that its repo holds and no AppView may show.
    pub(super) fn write_over_limit(&mut self, actor: u32) {
        let created_at = self.created_at();
        let tid = self.next_tid(actor);
        self.commit(actor, vec![Write::create(POST, Rkey::Tid(tid), records::post_over_limit(&created_at))]);
    }
}
