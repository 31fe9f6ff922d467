//! Posts: new ones, replies, threads, quotes, gates, edits.

use serde_json::Value as Json;

use super::{Gate, HUB, LongThread, NONE, Post, Rkey, Script, Write, pair};
use crate::{
    dice::Dice,
    records::{self, Allow, POST, POST_GATE, PostParts, THREAD_GATE},
    text::{self, Writing},
};

/// When the long thread is begun and when it has all its replies, as parts of the history.
const LONG_THREAD_FROM: f64 = 0.2;
const LONG_THREAD_BY: f64 = 0.95;

/// What a new post hangs on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Root,
    /// Under this post, in the thread that it belongs to.
    Under(u32),
    /// Under the first post, but with the second one given as the root, which is wrong.
    Astray(u32, u32),
}

impl Script {
    /// Somebody writes something that is not a relation.
    pub(super) fn write_something(&mut self, progress: f64) {
        if self.long_thread_is_behind(progress) {
            return self.reply_in_long_thread();
        }
        let actor = self.somebody();
        if self.posts.len() < 5 {
            return self.write_post(actor, Place::Root);
        }
        match self.dice.below(1000) {
            0..330 => self.write_post(actor, Place::Root),
            330..690 => self.write_reply(actor),
            690..760 => self.write_quote(actor),
            760..785 => {
                let parts = self.dice.between(3, 6);
                self.write_thread(actor, parts);
            }
            785..805 => {
                let allow = self.any_rules();
                self.write_gated_post(actor, allow);
            }
            805..815 => {
                let nobody = self.dice.chance(0.6);
                self.write_post_nobody_may_quote(actor, nobody);
            }
            815..825 => self.edit_post(),
            825..850 => self.hide_a_reply(),
            _ => self.write_in_society(actor),
        }
    }

    fn writing(&mut self, actor: u32, is_reply: bool) -> Writing {
        let grammar = self.people[actor as usize].grammar;
        if is_reply { text::reply(&mut self.dice, grammar) } else { text::post(&mut self.dice, grammar) }
    }

    /// Writes a post of an actor's own, with whatever embed comes to mind.
    pub(super) fn write_post(&mut self, actor: u32, place: Place) {
        let embed = media(&mut self.dice, 30);
        let (write, _) = self.post_write(actor, place, embed, None);
        self.commit(actor, vec![write]);
    }

    /// Puts a post together and enters it into the books. `mention` names somebody in the text.
    pub(super) fn post_write(
        &mut self,
        actor: u32,
        place: Place,
        embed: Option<Json>,
        mention: Option<u32>,
    ) -> (Write, u32) {
        let is_reply = !matches!(place, Place::Root);
        let mut writing = self.writing(actor, is_reply);
        let mention = mention.or_else(|| (self.dice.below(100) < 4).then(|| self.somebody_popular()));
        if let Some(mention) = mention.filter(|it| *it != actor) {
            writing.mention(&self.members[mention as usize].handle, &self.people[mention as usize].did);
        }
        if embed.is_some() && self.dice.below(100) < 3 {
            writing = Writing::default(); // a picture may do without words
        }
        let (root, parent) = match place {
            Place::Root => (NONE, NONE),
            Place::Under(parent) => (self.root_of(parent), parent),
            Place::Astray(parent, root) => (root, parent),
        };
        let parts = PostParts {
            reply: is_reply.then(|| (self.strong_post(root), self.strong_post(parent))),
            lang: (self.dice.below(100) < 90).then_some(self.people[actor as usize].grammar.tag),
            tags: if self.dice.below(100) < 3 { vec![self.dice.pick(&crate::words::TAGS)] } else { Vec::new() },
            self_label: (embed.is_some() && self.dice.below(100) < 2).then_some("graphic-media"),
            embed,
        };
        let created_at = match self.dice.below(1000) {
            // Posts brought along from elsewhere, and clocks that are wrong.
            0..4 => records::created_at(&mut self.dice, self.clock_us - 900 * 86_400_000_000),
            4 => records::created_at(&mut self.dice, self.clock_us + 2 * 86_400_000_000),
            _ => self.created_at(),
        };
        let block = records::post(&writing, &parts, &created_at);
        let tid = self.next_tid(actor);
        let post = self.posts.len() as u32;
        self.posts.push(Post {
            author: actor,
            tid,
            cid: block.cid,
            root: if is_reply { root } else { post },
            parent,
            gate: NONE,
            alive: true,
            plain: !is_reply && parts.embed.is_none(),
            fixed: false,
        });
        self.member(actor).posts.push(post);
        self.note_judgement(actor, root);
        (Write::create(POST, Rkey::Tid(tid), block), post)
    }

    fn root_of(&self, post: u32) -> u32 {
        self.posts[post as usize].root
    }

    /// A reply under a gated root fixes how the two authors follow each other.
    fn note_judgement(&mut self, replier: u32, root: u32) {
        if root == NONE || self.posts[root as usize].gate == NONE {
            return;
        }
        let owner = self.posts[root as usize].author;
        self.judged.insert(pair(owner, replier));
        self.judged.insert(pair(replier, owner));
    }

    fn write_reply(&mut self, actor: u32) {
        let draw = self.dice.below(100);
        if draw < 12 && !self.gates.is_empty() {
            return self.reply_to_gated();
        }
        let Some(parent) = self.post_seen() else { return };
        // A fifth of all replies are the thread's author carrying on.
        let actor = if draw < 32 { self.posts[self.root_of(parent) as usize].author } else { actor };
        if !self.is_active(actor) {
            return;
        }
        let place = if draw == 99 {
            Place::Astray(parent, self.dice.below(self.posts.len()) as u32)
        } else {
            Place::Under(parent)
        };
        let embed = media(&mut self.dice, 10);
        let (write, _) = self.post_write(actor, place, embed, None);
        self.commit(actor, vec![write]);
    }

    /// Replies under a gate: half the time by somebody whom the rule likely lets in.
    fn reply_to_gated(&mut self) {
        let gate = self.dice.below(self.gates.len());
        let root = self.gates[gate].post;
        let owner = self.posts[root as usize].author;
        let rule = self.gates[gate].allow.as_ref().and_then(|rules| rules.first()).cloned();
        let known = match rule {
            Some(Allow::Followers) => self.members[owner as usize].followers.front().copied(),
            Some(Allow::Followed) => self.members[owner as usize].following.first().copied(),
            Some(Allow::List(_)) => {
                self.gate_list.and_then(|list| self.lists[list].items.first().map(|(_, subject)| *subject))
            }
            _ => None,
        };
        let replier = match known {
            Some(known) if self.dice.chance(0.5) => known,
            _ => self.somebody(),
        };
        if !self.is_active(replier) || !self.posts[root as usize].alive {
            return;
        }
        // Sometimes the reply hangs deeper in the thread; the gate is the root's all the same.
        let last = self.posts.iter().rposition(|it| it.root == root && it.alive).unwrap_or(root as usize) as u32;
        let parent = if self.dice.chance(0.4) { last } else { root };
        let (write, _) = self.post_write(replier, Place::Under(parent), None, None);
        self.commit(replier, vec![write]);
    }

    fn write_quote(&mut self, actor: u32) {
        let Some(of) = self.post_seen() else { return };
        self.quote(actor, of);
    }

    pub(super) fn quote(&mut self, actor: u32, of: u32) {
        let mut of = self.strong_post(of);
        if self.dice.below(100) < 6 {
            // What is quoted need not be a post.
            if let Some(other) = self.generators.first().or(self.labeler.as_ref()) {
                of = other.clone();
            }
        }
        let embed = match media(&mut self.dice, 30) {
            Some(media) => records::quote_with_media(&of, media),
            None => records::quote(&of),
        };
        let (write, _) = self.post_write(actor, Place::Root, Some(embed), None);
        self.commit(actor, vec![write]);
    }

    /// A thread of one author, all in one commit.
    pub(super) fn write_thread(&mut self, actor: u32, parts: usize) {
        let mut writes = Vec::with_capacity(parts);
        let mut place = Place::Root;
        for _ in 0..parts {
            let (write, post) = self.post_write(actor, place, None, None);
            writes.push(write);
            place = Place::Under(post);
        }
        self.commit(actor, writes);
    }

    // ------------------------------------------------------------------------------------------ gates

    fn any_rules(&mut self) -> Option<Vec<Allow>> {
        let all = self.every_rule();
        all[self.dice.below(all.len())].clone()
    }

    /// Each kind of thread gate once; `None` lets everybody in.
    pub(super) fn every_rule(&self) -> Vec<Option<Vec<Allow>>> {
        let list = self.gate_list.map(|list| Allow::List(self.lists[list].strong.uri.clone()));
        [
            None,
            Some(vec![]),
            Some(vec![Allow::Mentioned]),
            Some(vec![Allow::Followers]),
            Some(vec![Allow::Followed]),
            list.map(|list| vec![list]),
            Some(vec![Allow::Followed, Allow::Mentioned]),
            Some(vec![Allow::FromTheFuture]),
        ]
        .into()
    }

    /// A post with its thread gate in the same commit, as clients write them.
    pub(super) fn write_gated_post(&mut self, actor: u32, allow: Option<Vec<Allow>>) {
        let mentioned = allow.as_ref().is_some_and(|rules| rules.iter().any(|rule| matches!(rule, Allow::Mentioned)));
        let mention = mentioned.then(|| self.somebody_popular());
        let (write, post) = self.post_write(actor, Place::Root, None, mention);
        let created_at = self.created_at();
        let block = records::thread_gate(&self.strong_post(post).uri, allow.as_deref(), &[], &created_at);
        let rkey = Rkey::Tid(self.posts[post as usize].tid);
        let it = &mut self.posts[post as usize];
        (it.gate, it.fixed, it.plain) = (self.gates.len() as u32, true, false);
        self.gates.push(Gate { post, allow, hidden: Vec::new() });
        self.commit(actor, vec![write, Write::create(THREAD_GATE, rkey, block)]);
        if let Some(mention) = mention.filter(|it| *it != actor && self.is_active(*it)) {
            self.pass_time_to(0);
            let (write, _) = self.post_write(mention, Place::Under(post), None, None);
            self.commit(mention, vec![write]);
        }
    }

    /// A post whose author lets nobody quote it, or has detached one quote; somebody quotes it all the same.
    pub(super) fn write_post_nobody_may_quote(&mut self, actor: u32, nobody: bool) {
        let (write, post) = self.post_write(actor, Place::Root, None, None);
        self.posts[post as usize].fixed = true;
        self.posts[post as usize].plain = false;
        let (uri, rkey) = (self.strong_post(post).uri, Rkey::Tid(self.posts[post as usize].tid));
        let created_at = self.created_at();
        let gate = records::post_gate(&uri, nobody, &[], &created_at);
        self.commit(actor, vec![write, Write::create(POST_GATE, rkey, gate)]);
        let quoter = self.somebody();
        self.pass_time_to(0);
        let embed = records::quote(&self.strong_post(post));
        let (write, quote) = self.post_write(quoter, Place::Root, Some(embed), None);
        self.commit(quoter, vec![write]);
        if !nobody {
            let detached = self.strong_post(quote).uri;
            let gate = records::post_gate(&uri, false, &[detached], &created_at);
            self.pass_time_to(0);
            self.commit(actor, vec![Write::update(POST_GATE, rkey, gate)]);
        }
    }

    /// The owner of a gated thread hides a reply in it.
    pub(super) fn hide_a_reply(&mut self) {
        if self.gates.is_empty() {
            return;
        }
        let gate = self.dice.below(self.gates.len());
        let root = self.gates[gate].post;
        let owner = self.posts[root as usize].author;
        let reply =
            self.posts.iter().position(|it| it.root == root && it.parent != NONE && it.author != owner && it.alive);
        let Some(reply) = reply.filter(|_| self.is_active(owner)) else { return };
        let hidden = self.strong_post(reply as u32).uri;
        if self.gates[gate].hidden.contains(&hidden) {
            return;
        }
        // What is hidden stays, so that the gate never refers to nothing.
        self.posts[reply].fixed = true;
        self.gates[gate].hidden.push(hidden);
        let created_at = self.created_at();
        let it = &self.gates[gate];
        let block = records::thread_gate(&self.strong_post(root).uri, it.allow.as_deref(), &it.hidden, &created_at);
        let rkey = Rkey::Tid(self.posts[root as usize].tid);
        self.commit(owner, vec![Write::update(THREAD_GATE, rkey, block)]);
    }

    /// The text of a post changes; who refers to the old version goes on doing so.
    pub(super) fn edit_post(&mut self) {
        let Some(post) = (0..self.posts.len()).rev().take(200).find(|post| {
            let it = &self.posts[*post];
            it.plain && it.alive && self.is_active(it.author)
        }) else {
            return;
        };
        let actor = self.posts[post].author;
        let writing = self.writing(actor, false);
        let created_at = self.created_at();
        let block = records::post(&writing, &PostParts::default(), &created_at);
        let it = &mut self.posts[post];
        (it.cid, it.plain) = (block.cid, false);
        let rkey = Rkey::Tid(it.tid);
        self.commit(actor, vec![Write::update(POST, rkey, block)]);
    }

    // ------------------------------------------------------------------------------------------ the long thread

    pub(super) fn begin_long_thread(&mut self) {
        let (write, post) = self.post_write(HUB, Place::Root, None, None);
        self.posts[post as usize].fixed = true;
        self.commit(HUB, vec![write]);
        let target = (self.accounts as usize / 10).clamp(20, 1_000);
        self.long_thread = Some(LongThread { posts: vec![post], target });
    }

    fn long_thread_is_behind(&self, progress: f64) -> bool {
        self.long_thread.as_ref().is_some_and(|thread| {
            let due = (progress - LONG_THREAD_FROM) / (LONG_THREAD_BY - LONG_THREAD_FROM);
            (thread.posts.len() as f64) < 1.0 + due.min(1.0) * thread.target as f64
                && thread.posts.len() <= thread.target
        })
    }

    fn reply_in_long_thread(&mut self) {
        let actor = if self.dice.below(100) < 8 { HUB } else { self.somebody() };
        let Some(thread) = &self.long_thread else { return };
        // Half of the replies answer the root itself; the others make the tree deep in some places.
        let parent = match self.dice.below(10) {
            0..5 => thread.posts[0],
            5..8 => thread.posts[self.dice.below(thread.posts.len())],
            _ => thread.posts[thread.posts.len() - 1],
        };
        let (write, post) = self.post_write(actor, Place::Under(parent), None, None);
        self.posts[post as usize].fixed = true;
        if let Some(thread) = &mut self.long_thread {
            thread.posts.push(post);
        }
        self.commit(actor, vec![write]);
    }
}

/// Something to look at, in `percent` of all cases.
fn media(dice: &mut Dice, percent: usize) -> Option<Json> {
    if dice.below(100) >= percent {
        return None;
    }
    Some(match dice.below(100) {
        0..50 => records::images(dice),
        50..55 => records::gallery(dice),
        55..70 => records::video(dice),
        _ => records::external(dice),
    })
}
