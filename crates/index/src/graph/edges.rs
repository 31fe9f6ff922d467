//! Follows among numbered accounts, both ways.

use std::collections::{HashMap, HashSet};

use roaring::RoaringBitmap;
use smallvec::SmallVec;

/// Accounts of one side of an account; four fit in where their list would otherwise be pointed to, and most accounts
/// have no more followers.
type Numbers = SmallVec<[u32; 4]>;

/// Accounts are allocated so many at a time, so that growing moves none.
const CHUNK: usize = 1 << 12;

/// An account with so many followers has them in a bitmap instead of a sorted list.
const HUB_FOLLOWERS_MIN: usize = 1_024;

/// So many followers for each piece of the bitmap (65,536 numbers), too: a piece costs some forty bytes.
const HUB_FOLLOWERS_PER_PIECE: usize = 16;

/// What a piece of a bitmap takes beside its bits or numbers, and what it takes at most.
const PIECE_BYTES: u64 = 40;
const PIECE_BYTES_MAX: u64 = 8_192;

/// A list that is full grows by this part of itself.
const GROWS_BY_PART: usize = 8;

/// Follows of one account that go at once are looked for together from this number on.
const MANY: usize = 8;

/// Nothing was read of the account's follows yet.
const UNREAD: i64 = i64::MIN;

/// The follows are not in the order of their times.
const UNORDERED: i64 = i64::MAX;

/// One account.
struct Account {
    /// Whom it follows; the oldest follow first, unless it is not in order.
    follows: Numbers,
    /// Who follows it, in order of the numbers. Empty for a hub.
    followers: Numbers,
    /// No follow is newer. Or [`UNREAD`], or [`UNORDERED`].
    newest_us: i64,
}

impl Account {
    const NEW: Self = Self { follows: Numbers::new_const(), followers: Numbers::new_const(), newest_us: UNREAD };
}

/// One follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) actor: u32,
    pub(super) subject: u32,
}

/// All follows.
#[derive(Default)]
pub(super) struct Edges {
    accounts: Vec<Vec<Account>>,
    hubs: HashMap<u32, RoaringBitmap>,
    count: u64,
    list_bytes: u64,
    hub_bytes: u64,
}

/// Bytes that a list takes beside the account.
fn beside(list: &Numbers) -> u64 {
    if list.spilled() { list.capacity() as u64 * size_of::<u32>() as u64 } else { 0 }
}

/// Bytes of a bitmap, rather too many than too few.
fn bitmap_bytes(bitmap: &RoaringBitmap) -> u64 {
    let pieces = u64::from(bitmap.max().unwrap_or(0) >> 16) + 1;
    // A piece of single numbers has two bytes for each, and room for some more.
    (bitmap.len() * 3).min(pieces * PIECE_BYTES_MAX) + pieces * PIECE_BYTES
}

fn push(list: &mut Numbers, at: usize, number: u32) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / GROWS_BY_PART + 1);
    }
    list.insert(at, number);
}

fn drop_at(list: &mut Numbers, at: usize) {
    list.remove(at);
    if list.spilled() && list.capacity() > 2 * list.len() + 4 {
        list.shrink_to_fit();
    }
}

impl Edges {
    /// Follows.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Accounts whose followers are a bitmap.
    pub(super) fn hubs(&self) -> u64 {
        self.hubs.len() as u64
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        (self.accounts.len() * CHUNK * size_of::<Account>()) as u64 + self.list_bytes + self.hub_bytes
    }

    fn account(&self, number: u32) -> Option<&Account> {
        self.accounts.get(number as usize / CHUNK)?.get(number as usize % CHUNK)
    }

    fn account_mut(&mut self, number: u32) -> &mut Account {
        let (chunk, at) = (number as usize / CHUNK, number as usize % CHUNK);
        while self.accounts.len() <= chunk {
            self.accounts.push((0..CHUNK).map(|_| Account::NEW).collect());
        }
        &mut self.accounts[chunk][at]
    }

    /// Whether nothing is left of any follow.
    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        (self.count, self.list_bytes, self.hub_bytes, self.hubs.len()) == (0, 0, 0, 0)
    }

    /// Whether the follows of an account were read or written.
    pub(super) fn is_read(&self, actor: u32) -> bool {
        self.account(actor).is_some_and(|account| account.newest_us != UNREAD)
    }

    /// Whom an account follows, the oldest follow first if they are [in order](Edges::in_order).
    pub(super) fn follows(&self, actor: u32) -> &[u32] {
        self.account(actor).map_or(&[], |account| &account.follows)
    }

    /// Whether the follows of an account are in the order of their times.
    pub(super) fn in_order(&self, actor: u32) -> bool {
        self.account(actor).is_none_or(|account| account.newest_us != UNORDERED)
    }

    /// Whether one account follows another.
    pub(super) fn has(&self, edge: Edge) -> bool {
        let Some(account) = self.account(edge.subject) else { return false };
        if account.followers.is_empty() {
            return self.hubs.get(&edge.subject).is_some_and(|hub| hub.contains(edge.actor));
        }
        account.followers.binary_search(&edge.actor).is_ok()
    }

    /// Finds the places of those of some accounts, given by number and place in order of the numbers, that follow a subject.
    pub(super) fn followers_among(&self, subject: u32, some: &[(u32, u32)], found: &mut Vec<u32>) {
        let Some(account) = self.account(subject) else { return };
        let followers = &account.followers[..];
        if followers.is_empty() {
            if let Some(hub) = self.hubs.get(&subject) {
                found.extend(some.iter().filter(|(number, _)| hub.contains(*number)).map(|(_, place)| *place));
            }
            return;
        }
        // Each of the fewer is looked for among what is left of the more.
        if followers.len() < some.len() {
            let mut rest = some;
            for follower in followers {
                rest = &rest[rest.partition_point(|(number, _)| number < follower)..];
                found.extend(rest.first().filter(|(number, _)| number == follower).map(|(_, place)| *place));
            }
        } else {
            let mut rest = followers;
            for (number, place) in some {
                rest = &rest[rest.partition_point(|follower| follower < number)..];
                if rest.first() == Some(number) {
                    found.push(*place);
                }
            }
        }
    }

    /// Keeps a follow that was made at a time. One that is there already may have moved to another time.
    pub(super) fn add(&mut self, edge: Edge, at_us: i64) {
        if !self.follower(edge) {
            self.unlist(edge);
        }
        let account = self.account_mut(edge.actor);
        let before = beside(&account.follows);
        let end = account.follows.len();
        push(&mut account.follows, end, edge.subject);
        let at_us = at_us.clamp(UNREAD + 1, UNORDERED - 1);
        account.newest_us = match account.newest_us {
            _ if end == 0 => at_us,
            newest_us if at_us > newest_us => at_us,
            _ => UNORDERED,
        };
        let after = beside(&account.follows);
        self.list_bytes += after - before;
    }

    /// Adds a follower to a subject; says no if it was one.
    fn follower(&mut self, edge: Edge) -> bool {
        if let Some(hub) = self.hubs.get_mut(&edge.subject) {
            let before = bitmap_bytes(hub);
            let is_new = hub.insert(edge.actor);
            self.hub_bytes = self.hub_bytes + bitmap_bytes(hub) - before;
            self.count += u64::from(is_new);
            return is_new;
        }
        let hub_from = HUB_FOLLOWERS_MIN.max(((self.accounts.len() * CHUNK) >> 16) * HUB_FOLLOWERS_PER_PIECE);
        let followers = &mut self.account_mut(edge.subject).followers;
        let Err(at) = followers.binary_search(&edge.actor) else { return false };
        let before = beside(followers);
        push(followers, at, edge.actor);
        if followers.len() >= hub_from {
            let listed = std::mem::take(followers);
            // They are in order, so none is left out.
            let hub: RoaringBitmap = listed.iter().copied().collect();
            self.hub_bytes += bitmap_bytes(&hub);
            self.hubs.insert(edge.subject, hub);
            self.list_bytes -= before;
        } else {
            let after = beside(followers);
            self.list_bytes += after - before;
        }
        self.count += 1;
        true
    }

    /// Takes a follow out of the list of its actor only.
    fn unlist(&mut self, edge: Edge) {
        let account = self.account_mut(edge.actor);
        let before = beside(&account.follows);
        if let Some(at) = account.follows.iter().rposition(|subject| *subject == edge.subject) {
            drop_at(&mut account.follows, at);
        }
        let after = beside(&account.follows);
        self.list_bytes -= before - after;
    }

    /// Takes a follower from a subject; says no if it was none.
    fn unfollow(&mut self, edge: Edge) -> bool {
        if let Some(hub) = self.hubs.get_mut(&edge.subject) {
            let before = bitmap_bytes(hub);
            if !hub.remove(edge.actor) {
                return false;
            }
            self.count -= 1;
            self.hub_bytes = self.hub_bytes + bitmap_bytes(hub) - before;
            // Much later than it became one, so that it does not go back and forth.
            if (hub.len() as usize) < HUB_FOLLOWERS_MIN / 2
                && let Some(hub) = self.hubs.remove(&edge.subject)
            {
                self.hub_bytes -= bitmap_bytes(&hub);
                let followers: Numbers = hub.iter().collect();
                self.list_bytes += beside(&followers);
                self.account_mut(edge.subject).followers = followers;
            }
            return true;
        }
        let followers = &mut self.account_mut(edge.subject).followers;
        let Ok(at) = followers.binary_search(&edge.actor) else { return false };
        let before = beside(followers);
        drop_at(followers, at);
        let after = beside(followers);
        self.list_bytes -= before - after;
        self.count -= 1;
        true
    }

    /// Forgets follows.
    pub(super) fn remove(&mut self, edges: &mut [Edge]) {
        edges.sort_unstable_by_key(|edge| edge.actor);
        for group in edges.chunk_by(|a, b| a.actor == b.actor) {
            let gone: Vec<Edge> = group.iter().copied().filter(|edge| self.unfollow(*edge)).collect();
            if gone.len() < MANY {
                gone.iter().for_each(|edge| self.unlist(*edge));
                continue;
            }
            let actor = group[0].actor;
            let gone: HashSet<u32> = gone.iter().map(|edge| edge.subject).collect();
            let account = self.account_mut(actor);
            let before = beside(&account.follows);
            account.follows.retain(|subject| !gone.contains(subject));
            account.follows.shrink_to_fit();
            let after = beside(&account.follows);
            self.list_bytes -= before - after;
        }
    }

    /// Takes the follows of an account as they were read, the newest first.
    pub(super) fn install(&mut self, actor: u32, subjects: &[u32], newest_us: i64) {
        let mut follows = Numbers::with_capacity(subjects.len());
        for subject in subjects.iter().rev() {
            // One that moved while its account was being read may have been read twice.
            if self.follower(Edge { actor, subject: *subject }) {
                follows.push(*subject);
            }
        }
        self.list_bytes += beside(&follows);
        let account = self.account_mut(actor);
        let was = std::mem::replace(&mut account.follows, follows);
        account.newest_us = if subjects.is_empty() { UNREAD + 1 } else { newest_us.clamp(UNREAD + 1, UNORDERED - 1) };
        debug_assert!(was.is_empty(), "an account is read once");
    }

    /// Puts the follows of an account in order, the newest first, if they are the same ones.
    pub(super) fn order(&mut self, actor: u32, subjects: &[u32], newest_us: i64) {
        let sorted = |numbers: &[u32]| {
            let mut numbers = numbers.to_vec();
            numbers.sort_unstable();
            numbers
        };
        let account = self.account_mut(actor);
        if account.follows.len() == subjects.len() && sorted(&account.follows) == sorted(subjects) {
            for (kept, subject) in account.follows.iter_mut().zip(subjects.iter().rev()) {
                *kept = *subject;
            }
            account.newest_us = newest_us.clamp(UNREAD + 1, UNORDERED - 1);
        }
    }
}
