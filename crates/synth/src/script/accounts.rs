//! Accounts come, change and go.

use std::collections::VecDeque;

use super::{Act, FIRST_ORDINARY, HUB, KEEPER, Member, READER, Rkey, Script, Standing, Write};
use crate::{
    population::HANDLE_DOMAIN,
    records::{self, PROFILE, SELF},
};

/// What can happen to an account as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Affair {
    Deactivation,
    /// Deactivated, and back a little later.
    Return,
    Takedown,
    Suspension,
    Deletion,
    NewHandle,
    /// Two accounts change handles so that the second gets what the first had.
    HandedOver,
}

impl Script {
    /// The next account joins: its host announces it as hosts do, then it writes a profile and follows people.
    pub(super) fn join(&mut self) {
        let actor = self.members.len() as u32;
        let clock_id = self.dice.below(1024) as u16;
        self.members.push(Member {
            last_us: 0,
            clock_id,
            standing: Standing::Active,
            handle: self.person(actor).handle.clone(),
            profile_editions: 0,
            joined_via: None,
            following: Vec::new(),
            followers: VecDeque::new(),
            posts: Vec::new(),
            has_status: false,
            has_declaration: false,
        });
        // Those who joined early are looked at more; how much somebody writes has nothing to do with it.
        self.activity.push(actor);
        let (last, any) = (self.activity.len() - 1, self.dice.below(self.activity.len()));
        self.activity.swap(last, any);

        let handle = self.person(actor).handle.clone();
        self.emit(actor, Act::Identity { handle });
        self.emit(actor, Act::Account { status: None });
        // Most hosts commit an empty repo first, some put the first records into it.
        let profile_first = self.dice.below(10) == 0;
        let has_profile = actor < FIRST_ORDINARY || self.dice.below(100) < 96;
        let pack = (!self.packs.is_empty() && self.dice.chance(0.12)).then(|| self.dice.below(self.packs.len()));
        self.members[actor as usize].joined_via = pack.map(|at| self.packs[at].strong.clone());
        let profile = if has_profile { vec![self.profile_write(actor)] } else { Vec::new() };
        let (first, second) = if profile_first { (profile, Vec::new()) } else { (Vec::new(), profile) };
        self.commit(actor, first);
        self.emit(actor, Act::Sync);
        if !second.is_empty() {
            self.pass_time_to(0);
            self.commit(actor, second);
        }

        let mut follows = Vec::new();
        if let Some(at) = pack {
            let via = self.packs[at].strong.clone();
            let items: Vec<u32> = self.lists[self.packs[at].list].items.iter().map(|(_, subject)| *subject).collect();
            for subject in items {
                self.follow(actor, subject, Some(&via), &mut follows);
            }
        }
        if actor != HUB && self.dice.below(10) == 0 {
            self.follow(actor, HUB, None, &mut follows);
        }
        let usual = 0.22 * self.records as f64 / f64::from(self.accounts) / 4.0;
        for _ in 0..self.dice.long_tail(usual.clamp(1.0, 60.0), 120) {
            if self.members.len() > 2 {
                let subject = self.somebody_popular();
                self.follow(actor, subject, None, &mut follows);
            }
        }
        if !follows.is_empty() {
            self.pass_time_to(0);
            self.commit(actor, follows);
        }
        if actor != READER && self.members.len() > READER as usize + 1 && self.dice.chance(0.6) {
            self.reader_queue.push(actor);
        }
    }

    /// A new edition of an account's profile.
    pub(super) fn profile_write(&mut self, actor: u32) -> Write {
        let created_at = self.created_at();
        let people = self.people.clone();
        let member = &mut self.members[actor as usize];
        let (edition, joined_via) = (member.profile_editions, member.joined_via.clone());
        member.profile_editions += 1;
        let newest = self.members[actor as usize]
            .posts
            .last()
            .copied()
            .filter(|post| edition > 0 && self.posts[*post as usize].alive);
        let pinned = newest.map(|post| self.strong_post(post));
        let block = records::profile(
            &mut self.dice,
            &people[actor as usize],
            edition,
            joined_via.as_ref(),
            pinned.as_ref(),
            &created_at,
        );
        match edition {
            0 => Write::create(PROFILE, Rkey::Word(SELF), block),
            _ => Write::update(PROFILE, Rkey::Word(SELF), block),
        }
    }

    /// Something happens to an account as a whole.
    pub(super) fn account_affair(&mut self) {
        let affair = match self.dice.below(100) {
            0..25 => Affair::NewHandle,
            25..45 => Affair::Deactivation,
            45..65 => Affair::Return,
            65..77 => Affair::Takedown,
            77..87 => Affair::Suspension,
            87..95 => Affair::Deletion,
            _ => Affair::HandedOver,
        };
        self.happen(affair);
    }

    pub(super) fn happen(&mut self, affair: Affair) {
        let Some(actor) = self.ordinary_account() else { return };
        match affair {
            Affair::Deactivation => self.set_standing(actor, Standing::Inactive, Some("deactivated")),
            Affair::Return => {
                self.set_standing(actor, Standing::Inactive, Some("deactivated"));
                self.pass_time_to(0);
                self.set_standing(actor, Standing::Active, None);
            }
            Affair::Takedown => self.set_standing(actor, Standing::Inactive, Some("takendown")),
            Affair::Suspension => self.set_standing(actor, Standing::Inactive, Some("suspended")),
            Affair::Deletion => {
                self.set_standing(actor, Standing::Deleted, Some("deleted"));
                for post in std::mem::take(&mut self.member(actor).posts) {
                    self.posts[post as usize].alive = false;
                }
            }
            Affair::NewHandle => {
                let handle = format!("new-{}", self.members[actor as usize].handle);
                self.set_handle(actor, handle);
            }
            Affair::HandedOver => {
                let Some(heir) = self.ordinary_account().filter(|heir| *heir != actor) else { return };
                let handle = self.members[actor as usize].handle.clone();
                self.set_handle(actor, format!("formerly-{handle}"));
                self.set_handle(heir, handle);
            }
        }
    }

    fn set_standing(&mut self, actor: u32, standing: Standing, status: Option<&'static str>) {
        self.member(actor).standing = standing;
        self.emit(actor, Act::Account { status });
    }

    pub(crate) fn set_handle(&mut self, actor: u32, handle: String) {
        debug_assert!(handle.ends_with(HANDLE_DOMAIN));
        self.member(actor).handle.clone_from(&handle);
        self.emit(actor, Act::Identity { handle });
    }

    /// Emits a change of an account's standing; for faults.
    pub(crate) fn announce_status(&mut self, actor: u32, status: Option<&'static str>) {
        let standing = match status {
            None => Standing::Active,
            Some("deleted") => Standing::Deleted,
            Some(_) => Standing::Inactive,
        };
        self.set_standing(actor, standing, status);
        if standing == Standing::Deleted {
            for post in std::mem::take(&mut self.member(actor).posts) {
                self.posts[post as usize].alive = false;
            }
        }
    }

    pub(crate) fn handle_of(&self, actor: u32) -> &str {
        &self.members[actor as usize].handle
    }

    /// An active account on which nothing else relies.
    fn ordinary_account(&mut self) -> Option<u32> {
        for _ in 0..32 {
            let actor = self.dice.below(self.members.len()) as u32;
            let relied_on = |list: &super::List| list.fixed && list.items.iter().any(|(_, subject)| *subject == actor);
            let has_gate = self.gates.iter().any(|gate| self.posts[gate.post as usize].author == actor);
            if actor >= FIRST_ORDINARY && self.is_active(actor) && !has_gate && !self.lists.iter().any(relied_on) {
                debug_assert!(actor > KEEPER);
                return Some(actor);
            }
        }
        None
    }
}
