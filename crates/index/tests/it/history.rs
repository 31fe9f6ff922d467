//! Small histories of a few accounts, nasty on purpose: they name each other's records before they exist, take the same
//! few addresses again and again, and change the rules while others play.

use gp_atproto::{Tid, datetime, json};
use serde_json::{Value as Json, json as object};

/// When histories begin: 2025-06-01T12:00:00Z.
const BEGIN_US: i64 = 1_748_779_200_000_000;

/// Seeded chance (splitmix64).
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.number() % n as u64) as usize
    }

    /// Once in `n`.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What an event does to its repo.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Makes a record or a new version of it.
    Put { collection: &'static str, rkey: String, block: Vec<u8>, shown: String },
    /// Removes a record, whether it is there or not.
    Delete { collection: &'static str, rkey: String },
    /// The account has a handle, or none.
    Handle(Option<String>),
    /// The whole account goes. What follows it brings the account back.
    DeleteAccount,
}

impl What {
    /// Collection and key of the record that it is about.
    fn record(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Put { collection, rkey, .. } | Self::Delete { collection, rkey } => Some((collection, rkey)),
            Self::Handle(_) | Self::DeleteAccount => None,
        }
    }
}

/// One event of one repo.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Whose.
    pub(crate) repo: usize,
    /// Its own time, in microseconds. Within a repo it never goes back.
    pub(crate) time_us: i64,
    /// The revision of its commit.
    pub(crate) rev: String,
    pub(crate) what: What,
}

/// A history in the order of its events' times.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) dids: Vec<String>,
    pub(crate) events: Vec<Event>,
}

pub(crate) const POST: &str = "app.bsky.feed.post";
pub(crate) const LIKE: &str = "app.bsky.feed.like";
const REPOST: &str = "app.bsky.feed.repost";
const THREAD_GATE: &str = "app.bsky.feed.threadgate";
const POST_GATE: &str = "app.bsky.feed.postgate";
const FOLLOW: &str = "app.bsky.graph.follow";
const BLOCK: &str = "app.bsky.graph.block";
const LIST: &str = "app.bsky.graph.list";
const LIST_ITEM: &str = "app.bsky.graph.listitem";
const LIST_BLOCK: &str = "app.bsky.graph.listblock";
const OPT_OUT: &str = "app.bsky.graph.referencelistoptout";
const PACK: &str = "app.bsky.graph.starterpack";
const VERIFICATION: &str = "app.bsky.graph.verification";
const GENERATOR: &str = "app.bsky.feed.generator";
const PROFILE: &str = "app.bsky.actor.profile";
const LABELER: &str = "app.bsky.labeler.service";
const DOCUMENT: &str = "site.standard.document";

const ANY_CID: &str = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae";

/// Addresses of posts that an account has; few, so that they are met again.
const POSTS: usize = 3;

/// Weights of what happens, by collection.
const KINDS: [(&str, usize); 18] = [
    (POST, 34),
    (THREAD_GATE, 12),
    (POST_GATE, 5),
    (LIKE, 14),
    (REPOST, 6),
    (FOLLOW, 10),
    (LIST_ITEM, 8),
    (BLOCK, 2),
    (LIST, 3),
    (LIST_BLOCK, 2),
    (OPT_OUT, 3),
    (PACK, 2),
    (VERIFICATION, 3),
    (GENERATOR, 2),
    (PROFILE, 3),
    (LABELER, 1),
    (DOCUMENT, 1),
    ("handle", 2),
];

struct Writer {
    dice: Dice,
    dids: Vec<String>,
    /// Accounts from here on are deleted now and then. They have no gates, and no gate names their lists: what a deleted
    /// account allowed and listed is forgotten with it.
    mortal_from: usize,
    now_us: i64,
    /// Root of each thread as the writer last heard of it, by post.
    roots: std::collections::HashMap<String, String>,
}

impl History {
    /// Whether nothing later in its repo speaks of what an event speaks of.
    pub(crate) fn is_last_word(&self, place: usize) -> bool {
        let event = &self.events[place];
        self.events[place + 1..].iter().filter(|later| later.repo == event.repo).all(|later| {
            match (event.what.record(), later.what.record()) {
                (Some(this), Some(that)) => this != that,
                _ => {
                    matches!(event.what, What::Handle(_)) != matches!(later.what, What::Handle(_))
                        && !matches!(event.what, What::DeleteAccount)
                        && !matches!(later.what, What::DeleteAccount)
                }
            }
        })
    }

    /// The history of a seed: 5 to 9 accounts, 30 to 80 events.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let count = 5 + dice.below(5);
        let events = 30 + dice.below(51);
        let name = |n: usize| format!("did:plc:{}", char::from(b'a' + n as u8).to_string().repeat(24));
        let mut writer = Writer {
            dice,
            dids: (0..count).map(name).collect(),
            mortal_from: count - 2,
            now_us: BEGIN_US,
            roots: std::collections::HashMap::new(),
        };
        // Half of the history is played by three, so that they meet.
        let events = (0..events).map(|n| writer.event(n)).collect();
        Self { dids: writer.dids, events }
    }
}

impl Writer {
    fn event(&mut self, number: usize) -> Event {
        // Now and then two events share a moment, and moments are not whole milliseconds.
        self.now_us += [0, 300, 1_000, 400_000, 1_000_000, 7_000_123][self.dice.below(6)];
        let repo = if self.dice.once_in(2) { self.dice.below(3) } else { self.dice.below(self.dids.len()) };
        let rev = Tid::from_parts(self.now_us as u64, number as u16).text().as_str().to_owned();
        let what = if repo >= self.mortal_from && self.dice.once_in(9) { What::DeleteAccount } else { self.what(repo) };
        Event { repo, time_us: self.now_us, rev, what }
    }

    fn what(&mut self, repo: usize) -> What {
        let all: usize = KINDS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.dice.below(all);
        let mut kind = KINDS[0].0;
        for (name, weight) in KINDS {
            if at < weight {
                kind = name;
                break;
            }
            at -= weight;
        }
        if repo >= self.mortal_from && [THREAD_GATE, POST_GATE].contains(&kind) {
            kind = POST;
        }
        if kind == "handle" {
            // Nobody claims another's: who holds a handle is asked of the network when it is checked.
            let handle = format!("h{}{}.test", repo, self.dice.below(3));
            return What::Handle((!self.dice.once_in(4)).then_some(handle));
        }
        let rkey = match kind {
            POST | THREAD_GATE | POST_GATE => format!("p{}", self.dice.below(POSTS)),
            PROFILE | LABELER => "self".to_owned(),
            LIST | GENERATOR | PACK => format!("{}0", &kind[kind.len() - 1..]),
            _ => format!("r{}", self.dice.below(3)),
        };
        let collection = kind;
        let deletes = if kind == POST { 5 } else { 4 };
        if self.dice.once_in(deletes) {
            return What::Delete { collection, rkey };
        }
        let mut record = self.record(repo, kind, &rkey);
        record["$type"] = kind.into();
        if record.get("createdAt").is_none() {
            record["createdAt"] = self.created_at().into();
        }
        let block = json::to_cbor(&record).unwrap_or_else(|e| panic!("{record}: {e:?}"));
        What::Put { collection, rkey, block, shown: record.to_string() }
    }

    /// Mostly the present; now and then long ago, or after it.
    fn created_at(&mut self) -> String {
        let us = match self.dice.below(10) {
            0 => self.now_us - 3_600_000_000,
            1 => self.now_us - 2_000_000,
            2 => self.now_us + 5_000_000,
            _ => self.now_us,
        };
        datetime::format_ms(us)
    }

    fn anybody(&mut self) -> String {
        if self.dice.once_in(2) { self.dids[self.dice.below(3)].clone() } else { self.dice.of(&self.dids).clone() }
    }

    fn any_post(&mut self) -> String {
        // One post that everybody likes, answers and quotes, some more than once.
        if self.dice.once_in(3) {
            return format!("at://{}/{POST}/p0", self.dids[0]);
        }
        let who = self.anybody();
        format!("at://{who}/{POST}/p{}", self.dice.below(POSTS))
    }

    fn any_list(&mut self) -> String {
        let keeper = self.dice.below(self.mortal_from);
        format!("at://{}/{LIST}/t0", self.dids[keeper])
    }

    fn strong(uri: &str) -> Json {
        object!({"uri": uri, "cid": ANY_CID})
    }

    fn record(&mut self, repo: usize, kind: &str, rkey: &str) -> Json {
        let me = self.dids[repo].clone();
        match kind {
            POST => self.post(&me, rkey),
            THREAD_GATE => self.thread_gate(&me, rkey),
            POST_GATE => {
                let mut gate = object!({"post": format!("at://{me}/{POST}/{rkey}")});
                if !self.dice.once_in(3) {
                    gate["embeddingRules"] = object!([{"$type": "app.bsky.feed.postgate#disableRule"}]);
                }
                gate
            }
            LIKE | REPOST => {
                let subject = if self.dice.once_in(6) {
                    format!("at://{}/{GENERATOR}/r0", self.anybody())
                } else if self.dice.once_in(2) {
                    format!("at://{}/{POST}/p0", self.dids[0])
                } else {
                    self.any_post()
                };
                let mut record = object!({"subject": Self::strong(&subject)});
                if self.dice.once_in(4) {
                    record["via"] = Self::strong(&format!("at://{}/{REPOST}/r0", self.anybody()));
                }
                record
            }
            FOLLOW | BLOCK => object!({"subject": self.anybody()}),
            LIST => {
                let purpose = *self.dice.of(&["modlist", "curatelist", "referencelist"]);
                object!({"name": "l", "purpose": format!("app.bsky.graph.defs#{purpose}")})
            }
            LIST_ITEM => object!({"list": format!("at://{me}/{LIST}/t0"), "subject": self.anybody()}),
            LIST_BLOCK => object!({"subject": self.any_list()}),
            OPT_OUT => object!({"subject": self.any_list()}),
            PACK => object!({"name": "p", "list": format!("at://{me}/{LIST}/t0")}),
            VERIFICATION => object!({"subject": self.anybody(), "handle": "h.test", "displayName": "H"}),
            GENERATOR => object!({"did": "did:web:f.test", "displayName": "f"}),
            PROFILE => {
                let mut profile = object!({"displayName": format!("n{}", self.dice.below(5))});
                if self.dice.once_in(2) {
                    profile["joinedViaStarterPack"] = Self::strong(&format!("at://{}/{PACK}/k0", self.anybody()));
                }
                profile
            }
            LABELER => object!({"policies": {"labelValues": []}}),
            _ => object!({"title": format!("t{}", self.dice.below(5))}),
        }
    }

    fn post(&mut self, me: &str, rkey: &str) -> Json {
        let uri = format!("at://{me}/{POST}/{rkey}");
        let mut post = object!({"text": format!("t{}", self.dice.below(1000))});
        let mut root = uri.clone();
        if !self.dice.once_in(3) {
            let parent = self.any_post();
            root = self.roots.get(&parent).cloned().unwrap_or_else(|| parent.clone());
            if self.dice.once_in(10) {
                root = self.any_post();
            }
            post["reply"] = object!({"root": Self::strong(&root), "parent": Self::strong(&parent)});
        }
        self.roots.insert(uri, root);
        if self.dice.once_in(3) {
            let record = object!({"$type": "app.bsky.embed.record", "record": Self::strong(&self.any_post())});
            post["embed"] = if self.dice.once_in(3) {
                let external = object!({"uri": "https://example.com/", "title": "t", "description": "d"});
                let media = object!({"$type": "app.bsky.embed.external", "external": external});
                object!({"$type": "app.bsky.embed.recordWithMedia", "record": record, "media": media})
            } else {
                record
            };
        }
        if self.dice.once_in(4) {
            let who = self.anybody();
            post["facets"] = object!([{
                "index": {"byteStart": 0, "byteEnd": 1},
                "features": [{"$type": "app.bsky.richtext.facet#mention", "did": who}],
            }]);
        }
        post
    }

    fn thread_gate(&mut self, me: &str, rkey: &str) -> Json {
        let names = if self.dice.once_in(12) { GENERATOR } else { POST };
        let mut gate = object!({"post": format!("at://{me}/{names}/{rkey}")});
        if !self.dice.once_in(6) {
            let mut rules = Vec::new();
            if !self.dice.once_in(4) {
                for rule in ["mentionRule", "followingRule", "followerRule"] {
                    if self.dice.once_in(3) {
                        rules.push(object!({"$type": format!("{THREAD_GATE}#{rule}")}));
                    }
                }
                if self.dice.once_in(2) {
                    rules.push(object!({"$type": format!("{THREAD_GATE}#listRule"), "list": self.any_list()}));
                }
            }
            gate["allow"] = rules.into();
        }
        if self.dice.once_in(2) {
            gate["hiddenReplies"] = object!([self.any_post(), self.any_post()]);
        }
        gate
    }
}

/// An order of the events of a history that keeps each repo's own: the places of the events.
pub(crate) fn interleaving(history: &History, dice: &mut Dice) -> Vec<usize> {
    let mut lanes: Vec<Vec<usize>> = vec![Vec::new(); history.dids.len()];
    for (place, event) in history.events.iter().enumerate().rev() {
        lanes[event.repo].push(place);
    }
    let style = dice.below(5);
    let mut order = Vec::with_capacity(history.events.len());
    let mut favourite = dice.below(lanes.len());
    while order.len() < history.events.len() {
        let open: Vec<usize> = (0..lanes.len()).filter(|lane| !lanes[*lane].is_empty()).collect();
        let next = |lane: &usize| *lanes[*lane].last().unwrap_or(&0);
        let lane = match style {
            // Whichever is furthest ahead.
            0 if !dice.once_in(6) => open.iter().copied().max_by_key(next).unwrap_or(open[0]),
            // One repo after the other.
            1 | 2 => {
                if !open.contains(&favourite) || (style == 2 && dice.once_in(5)) {
                    favourite = *dice.of(&open);
                }
                favourite
            }
            // Nearly as it happened.
            3 if !dice.once_in(4) => open.iter().copied().min_by_key(next).unwrap_or(open[0]),
            _ => *dice.of(&open),
        };
        order.extend(lanes[lane].pop());
    }
    order
}
