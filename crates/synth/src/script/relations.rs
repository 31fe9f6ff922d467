//! Likes, reposts, follows and blocks, given and taken back.

use super::{HUB, NONE, READER, Remembered, Rkey, Script, Standing, Write, pair, remember};
use crate::records::{self, BLOCK, FOLLOW, LIKE, POST, REPOST, Strong};

/// Of a thousand relations: likes, follows, reposts; the rest are blocks. Accounts that join follow people too, so
/// follows stop at their share.
const LIKES: usize = 660;
const FOLLOWS: usize = 250;
const REPOSTS: usize = 70;
/// Of a thousand likes, those given to something liked already, as clients with stale views do.
const LIKED_TWICE: usize = 4;
/// Most newest followers that are remembered of an account.
const FOLLOWERS_REMEMBERED_MAX: usize = 8;
/// How often another subject is tried.
const TRIES: usize = 5;

impl Script {
    /// Somebody likes, follows, reposts or blocks, perhaps several things at once. False if nothing came to mind.
    pub(super) fn relate(&mut self) -> bool {
        let actor = self.somebody();
        let mut writes = Vec::new();
        for _ in 0..self.batch() {
            self.one_relation(actor, &mut writes);
        }
        if writes.is_empty() {
            return false;
        }
        self.commit(actor, writes);
        true
    }

    fn one_relation(&mut self, actor: u32, writes: &mut Vec<Write>) {
        let draw = self.dice.below(1000);
        let enough_follows = self.tally.follows * 1000 > self.tally.relations * FOLLOWS as u64;
        if draw < LIKES || (draw < LIKES + FOLLOWS && enough_follows) {
            if self.dice.below(1000) < LIKED_TWICE && writes.is_empty() {
                self.like_twice(actor, writes);
            } else {
                self.like(actor, writes);
            }
        } else if draw < LIKES + FOLLOWS {
            let subject = self.somebody_popular();
            self.follow(actor, subject, None, writes);
        } else if draw < LIKES + FOLLOWS + REPOSTS {
            self.repost(actor, writes);
        } else {
            self.block(actor, writes);
        }
    }

    /// A post that people look at: mostly a recent one, often one of the hub's, sometimes an old favourite.
    pub(super) fn post_seen(&mut self) -> Option<u32> {
        for _ in 0..TRIES {
            let all = self.posts.len();
            let post = match self.dice.below(100) {
                0..60 => (all - 1 - self.dice.towards_front(all.min(3_000))) as u32,
                60..82 => {
                    let posts = &self.members[HUB as usize].posts;
                    if posts.is_empty() {
                        continue;
                    }
                    posts[posts.len() - 1 - self.dice.towards_front(posts.len())]
                }
                _ => self.dice.steeply_towards_front(all) as u32,
            };
            let it = &self.posts[post as usize];
            if it.alive && self.members[it.author as usize].standing == Standing::Active {
                return Some(post);
            }
        }
        None
    }

    fn like(&mut self, actor: u32, writes: &mut Vec<Write>) {
        if self.dice.below(100) < 3 {
            return self.like_no_post(actor, writes);
        }
        // A like may say through whose repost its author came.
        let via = (self.dice.below(100) < 5 && !self.reposts.is_empty()).then(|| self.dice.below(self.reposts.len()));
        let (subject, via) = match via {
            Some(at) => {
                let (repost, cid) = self.reposts[at];
                let uri = self.uri(repost.actor, REPOST, repost.tid);
                (Some(repost.subject).filter(|it| self.posts[*it as usize].alive), Some(Strong { uri, cid }))
            }
            None => (self.post_seen(), None),
        };
        let Some(subject) = subject else { return };
        if !self.liked.insert(pair(actor, subject)) {
            return;
        }
        let tid = self.next_tid(actor);
        let created_at = self.created_at();
        let block = records::reaction(LIKE, &self.strong_post(subject), via.as_ref(), &created_at);
        writes.push(Write::create(LIKE, Rkey::Tid(tid), block));
        remember(&mut self.likes, Remembered { actor, tid, subject }, &mut self.dice);
    }

    /// Likes a feed generator, the labeler or a list.
    fn like_no_post(&mut self, actor: u32, writes: &mut Vec<Write>) {
        let mut subjects: Vec<&Strong> = self.generators.iter().chain(&self.labeler).collect();
        subjects.extend(self.lists.first().map(|it| &it.strong));
        if subjects.is_empty() {
            return;
        }
        let at = self.dice.below(subjects.len());
        // Pairs with a post have a post's number, which never comes near.
        let subject = subjects[at].clone();
        if !self.liked.insert(pair(actor, NONE - at as u32)) {
            return;
        }
        let tid = self.next_tid(actor);
        let created_at = self.created_at();
        let block = records::reaction(LIKE, &subject, None, &created_at);
        writes.push(Write::create(LIKE, Rkey::Tid(tid), block));
    }

    /// Likes again what `actor` likes already. A careful host deletes the old record in the same commit, another one
    /// lets both stand.
    pub(super) fn like_twice(&mut self, actor: u32, writes: &mut Vec<Write>) {
        let posts = &self.posts;
        let Some(at) = self.likes.iter().rposition(|it| it.actor == actor && posts[it.subject as usize].alive) else {
            return;
        };
        let old = self.likes[at];
        if self.dice.chance(0.5) {
            writes.push(Write::delete(LIKE, Rkey::Tid(old.tid)));
            self.likes.swap_remove(at);
        }
        let tid = self.next_tid(actor);
        let created_at = self.created_at();
        let block = records::reaction(LIKE, &self.strong_post(old.subject), None, &created_at);
        writes.push(Write::create(LIKE, Rkey::Tid(tid), block));
        remember(&mut self.likes, Remembered { actor, tid, subject: old.subject }, &mut self.dice);
    }

    fn repost(&mut self, actor: u32, writes: &mut Vec<Write>) {
        let Some(subject) = self.post_seen() else { return };
        if !self.reposted.insert(pair(actor, subject)) {
            return;
        }
        let tid = self.next_tid(actor);
        let created_at = self.created_at();
        let block = records::reaction(REPOST, &self.strong_post(subject), None, &created_at);
        let cid = block.cid;
        writes.push(Write::create(REPOST, Rkey::Tid(tid), block));
        remember(&mut self.reposts, (Remembered { actor, tid, subject }, cid), &mut self.dice);
    }

    /// Adds a follow, unless it stands already or a thread gate has judged the pair.
    pub(super) fn follow(&mut self, actor: u32, subject: u32, via: Option<&Strong>, writes: &mut Vec<Write>) {
        if actor == subject || self.members[subject as usize].standing == Standing::Deleted {
            return;
        }
        let both = pair(actor, subject);
        if self.judged.contains(&both) || !self.followed.insert(both) {
            return;
        }
        let tid = self.next_tid(actor);
        let created_at = self.created_at();
        let block = records::edge(FOLLOW, self.did(subject), via, &created_at);
        writes.push(Write::create(FOLLOW, Rkey::Tid(tid), block));
        self.member(actor).following.push(subject);
        let followers = &mut self.member(subject).followers;
        if followers.len() == FOLLOWERS_REMEMBERED_MAX {
            followers.pop_front();
        }
        followers.push_back(actor);
        remember(&mut self.follows, Remembered { actor, tid, subject }, &mut self.dice);
    }

    /// The busy reader follows everybody in its queue.
    pub(super) fn reader_follows(&mut self) {
        let mut writes = Vec::new();
        for subject in std::mem::take(&mut self.reader_queue) {
            self.follow(READER, subject, None, &mut writes);
        }
        if !writes.is_empty() {
            self.commit(READER, writes);
        }
    }

    fn block(&mut self, actor: u32, writes: &mut Vec<Write>) {
        let subject = self.dice.below(self.members.len()) as u32;
        if actor == subject || !self.blocked.insert(pair(actor, subject)) {
            return;
        }
        let tid = self.next_tid(actor);
        let created_at = self.created_at();
        let block = records::edge(BLOCK, self.did(subject), None, &created_at);
        writes.push(Write::create(BLOCK, Rkey::Tid(tid), block));
        remember(&mut self.blocks, Remembered { actor, tid, subject }, &mut self.dice);
    }

    /// Somebody takes something back. False if there was nothing.
    pub(super) fn take_something_back(&mut self) -> bool {
        match self.dice.below(100) {
            0..50 => self.take_back(LIKE),
            50..68 => self.take_back(FOLLOW),
            68..76 => self.take_back_repost(),
            76..82 => self.take_back(BLOCK),
            82..86 => self.take_off_list(),
            _ => self.delete_post(),
        }
    }

    fn take_back(&mut self, collection: &'static str) -> bool {
        let memory = match collection {
            LIKE => &mut self.likes,
            FOLLOW => &mut self.follows,
            _ => &mut self.blocks,
        };
        if memory.is_empty() {
            return false;
        }
        let at = self.dice.below(memory.len());
        let it = memory[at];
        let both = pair(it.actor, it.subject);
        if self.members[it.actor as usize].standing != Standing::Active
            || (collection == FOLLOW && self.judged.contains(&both))
        {
            return false;
        }
        memory.swap_remove(at);
        match collection {
            LIKE => self.liked.remove(&both),
            FOLLOW => {
                self.member(it.actor).following.retain(|subject| *subject != it.subject);
                self.member(it.subject).followers.retain(|follower| *follower != it.actor);
                self.followed.remove(&both)
            }
            _ => self.blocked.remove(&both),
        };
        self.commit(it.actor, vec![Write::delete(collection, Rkey::Tid(it.tid))]);
        true
    }

    fn take_back_repost(&mut self) -> bool {
        if self.reposts.is_empty() {
            return false;
        }
        let at = self.dice.below(self.reposts.len());
        let (it, _) = self.reposts[at];
        if !self.is_active(it.actor) {
            return false;
        }
        self.reposts.swap_remove(at);
        self.reposted.remove(&pair(it.actor, it.subject));
        self.commit(it.actor, vec![Write::delete(REPOST, Rkey::Tid(it.tid))]);
        true
    }

    fn delete_post(&mut self) -> bool {
        let all = self.posts.len();
        if all < 20 {
            return false;
        }
        let post = all - 1 - self.dice.towards_front(all.min(2_000));
        let it = &mut self.posts[post];
        let (author, tid) = (it.author, it.tid);
        if !it.alive || it.fixed || self.members[author as usize].standing != Standing::Active {
            return false;
        }
        it.alive = false;
        self.commit(author, vec![Write::delete(POST, Rkey::Tid(tid))]);
        true
    }
}
