//! What is asked: a row for each call of the contract, which says against what it is compared and how its requests
//! are made.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};

use super::{
    oracle, search,
    state::State,
    world::{World, nsid::*},
};

/// One thing to ask.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) rpc: &'static str,
    pub(super) request: Value,
    /// For lists: limits of the pages, the last one again and again until the list ends.
    pub(super) walk: Option<Vec<i32>>,
}

/// Whose answer is right.
#[derive(Clone, Copy)]
pub(super) enum Against {
    /// The reference's.
    Reference,
    /// The reference has none, or a mock: what the network's history says. Answers what is wrong.
    Oracle(oracle::Check),
    /// Also an oracle, of calls that write: they are made one after the other, and their effects are looked at.
    Play(oracle::Play),
}

/// A call of the contract.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) against: Against,
    /// Calls that write are made before all others, one by one.
    pub(super) writes: bool,
    pub(super) make: fn(&mut Maker<'_>),
}

/// What requests are made of.
pub(super) struct Maker<'w> {
    pub(super) world: &'w World,
    pub(super) state: &'w State,
    pub(super) dice: StdRng,
    /// Ordinary requests of each call; those that are meant to hurt come on top.
    pub(super) count: usize,
    /// Hostile strings, or only every so many of them.
    pub(super) hostile_step: usize,
    pub(super) rpc: &'static str,
    /// Whether the call writes.
    pub(super) writes: bool,
    pub(super) cases: Vec<Case>,
}

/// An account that nobody has.
const NOBODY: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

/// Strings that no field should get. All of them are valid UTF-8.
fn hostile() -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        " ",
        "\0",
        "a\0b",
        "did:",
        "did:plc:",
        "DID:PLC:AAAA",
        "at://",
        "at:///app.bsky.feed.post/3jzfcijpj2z2a",
        "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
        "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/",
        "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3jzfcijpj2z2a#frag",
        "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3jzfcijpj2z2a?x=y",
        "at://somebody.demo.test/app.bsky.feed.post/3jzfcijpj2z2a",
        "https://example.com/x",
        "\u{1f980} \u{202e}\u{fc}",
        "'; drop table record; --",
        "%_%",
        "null",
        "did:plc:\u{feff}aaaaaaaaaaaaaaaaaaaaaaa",
        "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/NOT a nsid/..",
        "did:web:",
        "//",
        "self",
    ]
    .map(str::to_owned)
    .into();
    all.push("x".repeat(70_000));
    all.push(format!("at://{NOBODY}/app.bsky.feed.post/{}", "y".repeat(9_000)));
    all
}

/// Page tokens that nobody gave.
fn hostile_cursors() -> Vec<String> {
    let mut all: Vec<String> = [
        "x",
        "__",
        "1__",
        "__b",
        "a__b",
        "1__2__3",
        "0__bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae",
        "4102444800000__zzz",
        "99999999999999999999__b",
        "-1__b",
        "1700000000000__did:plc:a__b",
        "2024-01-01T00:00:00.000Z",
        "2024-01-01",
        "not a date",
        "\0",
        "::",
        "3jzfcijpj2z2a",
        "5",
        "-5",
        "1:2:3",
        "e30=",
        "1700000000000__\0",
        "..",
    ]
    .map(str::to_owned)
    .into();
    all.push("9".repeat(10_000));
    all
}

impl<'w> Maker<'w> {
    fn push(&mut self, request: Value, walk: Option<Vec<i32>>) {
        self.cases.push(Case { rpc: self.rpc, request, walk });
    }

    fn pick<'a>(&mut self, from: &'a [String]) -> &'a str {
        from.choose(&mut self.dice).map_or("", String::as_str)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.dice.random_range(0..100) < percent
    }

    /// An account: most exist, some own private state, some are gone, some never were.
    fn did(&mut self) -> String {
        match self.dice.random_range(0..100) {
            0..25 => self.pick(&self.state.owners).to_owned(),
            25..33 => self.world.hub.clone(),
            33..38 => self.world.reader.clone(),
            38..41 => NOBODY.to_owned(),
            _ => self.pick(&self.world.dids).to_owned(),
        }
    }

    /// Who has written such a record, mostly.
    fn author(&mut self, collection: &str) -> String {
        if self.chance(20) {
            return self.did();
        }
        super::world::authority(self.pick(self.world.of_collection(collection))).to_owned()
    }

    /// A record of a collection, standing or not; now and then of another one, or none.
    fn uri(&mut self, collection: &str) -> String {
        match self.dice.random_range(0..100) {
            0..6 => self.any_uri(),
            6..9 => format!("at://{NOBODY}/{collection}/3jzfcijpj2z2a"),
            9..10 => format!("at://somebody.demo.test/{collection}/3jzfcijpj2z2a"),
            _ => self.pick(self.world.of_collection(collection)).to_owned(),
        }
    }

    fn any_uri(&mut self) -> String {
        let all: Vec<&String> = self.world.uris.keys().collect();
        let collection = all[self.dice.random_range(0..all.len())].clone();
        self.pick(self.world.of_collection(&collection)).to_owned()
    }

    /// What records of a collection are about: the more often, the likelier.
    fn subject(&mut self, collection: &str) -> String {
        if self.chance(20) {
            return if matches!(collection, FOLLOW | BLOCK | VERIFICATION) { self.did() } else { self.uri(POST) };
        }
        let Some(all) = self.world.subjects.get(collection) else { return String::new() };
        self.pick(all).to_owned()
    }

    /// What an author's records of a collection are about, mostly.
    fn about(&mut self, author: &str, collection: &str) -> String {
        let known = self.world.about.get(&(collection.to_owned(), author.to_owned()));
        match known.filter(|_| self.chance(60)) {
            Some(known) => self.pick(known).to_owned(),
            None => self.subject(collection),
        }
    }

    fn size(&mut self) -> usize {
        *[1, 1, 2, 5, 25, 25, 100].choose(&mut self.dice).unwrap_or(&1)
    }

    /// Requests with a list of keys: of many sizes, with keys twice, without any, and with hostile ones.
    fn batch(
        &mut self,
        field: &str,
        mut fixed: impl FnMut(&mut Self) -> Map<String, Value>,
        mut element: impl FnMut(&mut Self, &Map<String, Value>) -> Value,
        hurt: impl Fn(&str) -> Value,
    ) {
        let with = |mut request: Map<String, Value>, keys: Vec<Value>| {
            request.insert(field.to_owned(), keys.into());
            Value::Object(request)
        };
        for _ in 0..self.count {
            let request = fixed(self);
            let mut keys: Vec<Value> = (0..self.size()).map(|_| element(self, &request)).collect();
            if self.chance(25) {
                keys.extend_from_within(0..1);
            }
            self.push(with(request, keys), None);
        }
        let request = fixed(self);
        self.push(with(request.clone(), Vec::new()), None);
        for text in hostile().into_iter().step_by(self.hostile_step) {
            self.push(with(request.clone(), vec![hurt(&text)]), None);
            let (one, other) = (element(self, &request), element(self, &request));
            self.push(with(request.clone(), vec![one, hurt(&text), other]), None);
        }
    }

    /// Records by their URIs.
    fn records(&mut self, collection: &'static str) {
        self.batch("uris", |_| Map::new(), |m, _| m.uri(collection).into(), |text| text.into());
    }

    /// An actor and a list of things, of which the actor's own are the likeliest.
    fn actor_and(&mut self, field: &str, author_of: &'static str, of: fn(&mut Self, &str) -> Value) {
        self.batch(
            field,
            |m| object(json!({ "actorDid": m.author(author_of) })),
            |m, request| of(m, request["actorDid"].as_str().unwrap_or_default()),
            |text| if field == "refs" { json!({ "uri": text }) } else { text.into() },
        );
    }

    /// A list in pages, from beginning to end with pages of all sizes; no page, and tokens that nobody gave.
    fn pages(&mut self, mut fixed: impl FnMut(&mut Self) -> Value) {
        const LIMITS: [&[i32]; 8] =
            [&[1, 2, 3, 7, 1, 2, 3, 7, 100], &[50], &[100], &[2, 100], &[10, 30], &[1000], &[3, 3, 3, 50], &[1, 1, 25]];
        for at in 0..self.count {
            let request = fixed(self);
            self.push(request, Some(LIMITS[at % LIMITS.len()].to_vec()));
        }
        for limit in [0, -1, -5, 1, 5000] {
            let mut request = fixed(self);
            request["limit"] = limit.into();
            self.push(request, None);
        }
        for cursor in hostile_cursors().into_iter().step_by(self.hostile_step) {
            let mut request = fixed(self);
            request["limit"] = 5.into();
            request["cursor"] = cursor.into();
            self.push(request, None);
        }
    }

    /// Lists by a key, which also takes hostile values.
    fn pages_by(&mut self, field: &'static str, mut key: impl FnMut(&mut Self) -> String) {
        self.pages(|m| json!({ field: key(m) }));
        for text in hostile().into_iter().step_by(self.hostile_step) {
            self.push(json!({ field: text, "limit": 5 }), None);
        }
    }

    /// Lists by a subject that is a reference.
    fn pages_of_subject(&mut self, collection: &'static str) {
        self.pages(|m| json!({ "subject": { "uri": m.subject(collection) } }));
        self.push(json!({ "limit": 5 }), None);
        for text in hostile().into_iter().step_by(self.hostile_step) {
            self.push(json!({ "subject": { "uri": text }, "limit": 5 }), None);
        }
    }

    /// Requests without a list. Each of their fields also takes hostile values.
    fn each(&mut self, mut make: impl FnMut(&mut Self) -> Value) {
        for _ in 0..self.count {
            let request = make(self);
            self.push(request, None);
        }
        let request = make(self);
        let fields: Vec<String> = object(request.clone()).keys().cloned().collect();
        for field in fields {
            // A time has a form of its own on the wire.
            if !request[&field].is_string() || field == "timestamp" {
                continue;
            }
            for text in hostile().into_iter().step_by(self.hostile_step) {
                // What the reference cannot write would be missing from everything that is read afterwards.
                if self.writes && text.contains('\0') {
                    continue;
                }
                let mut request = make(self);
                request[&field] = text.into();
                self.push(request, None);
            }
        }
    }

    fn once(&mut self, request: Value) {
        self.push(request, None);
    }

    /// Words to search for: whole ones, beginnings, several, and some that nobody wrote.
    pub(super) fn words(&mut self, what: &str) -> Vec<String> {
        let mut words = vec![String::new(), " ".into(), "zzzzqqqq".into(), "%".into(), "\"".into(), "did".into()];
        let collection = match what {
            "posts" => POST,
            "packs" => STARTER_PACK,
            "feeds" => GENERATOR,
            _ => PROFILE,
        };
        for _ in 0..self.count {
            let uri = self.pick(self.world.of_collection(collection)).to_owned();
            let Some((_, record)) = self.world.newest(&uri) else { continue };
            let text = ["text", "displayName", "name"].iter().find_map(|key| record[*key].as_str()).unwrap_or_default();
            let all: Vec<&str> = text.split_whitespace().collect();
            let Some(word) = all.choose(&mut self.dice) else { continue };
            words.push((*word).to_owned());
            words.push(word.to_uppercase());
            words.extend(all.get(..2).map(|two| two.join(" ")));
        }
        words.extend((0..self.count / 2).map(|_| self.pick(&self.world.handles).to_owned()));
        words
    }

    /// Searches for these words, page by page.
    pub(super) fn searches(&mut self, field: &'static str, words: &[String]) {
        for word in words {
            let request =
                if field == "params" { json!({ "params": { "query": word } }) } else { json!({ field: word }) };
            self.push(request, Some(vec![10, 25, 100]));
        }
        for text in hostile().into_iter().step_by(self.hostile_step) {
            let request =
                if field == "params" { json!({ "params": { "query": text } }) } else { json!({ field: text }) };
            self.push(request, Some(vec![100]));
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn pair(m: &mut Maker<'_>, collection: &'static str) -> (String, String) {
    let actor = m.author(collection);
    let subject = m.about(&actor, collection);
    if m.chance(20) { (subject, actor) } else { (actor, subject) }
}

/// Somebody on a list, and somebody who blocks or mutes the list.
fn pair_by_list(m: &mut Maker<'_>, lists: &[String], actor: String) -> (String, String) {
    let members = m.world.members.get(m.pick(lists));
    let member = members.and_then(|members| members.choose(&mut m.dice).cloned()).unwrap_or_default();
    if m.chance(20) { (member, actor) } else { (actor, member) }
}

const fn read(name: &'static str, make: fn(&mut Maker<'_>)) -> Row {
    Row { name, against: Against::Reference, writes: false, make }
}

const fn write(name: &'static str, make: fn(&mut Maker<'_>)) -> Row {
    Row { name, against: Against::Reference, writes: true, make }
}

const fn judged(name: &'static str, check: oracle::Check, make: fn(&mut Maker<'_>)) -> Row {
    Row { name, against: Against::Oracle(check), writes: false, make }
}

const fn played(name: &'static str, play: oracle::Play) -> Row {
    Row { name, against: Against::Play(play), writes: true, make: |_| {} }
}

/// Every call of the contract, each in one place.
pub(super) static ROWS: &[Row] = &[
    // Records.
    read("GetPostRecords", |m| {
        m.batch(
            "uris",
            |m| if m.chance(60) { object(json!({ "includeOpThreadMetadata": true })) } else { Map::new() },
            |m, _| m.uri(POST).into(),
            |text| text.into(),
        );
    }),
    read("GetFeedGeneratorRecords", |m| m.records(GENERATOR)),
    read("GetLikeRecords", |m| m.records(LIKE)),
    read("GetRepostRecords", |m| m.records(REPOST)),
    read("GetFollowRecords", |m| m.records(FOLLOW)),
    read("GetListRecords", |m| m.records(LIST)),
    read("GetListItemRecords", |m| m.records(LIST_ITEM)),
    read("GetListBlockRecords", |m| m.records(LIST_BLOCK)),
    read("GetBlockRecords", |m| m.records(BLOCK)),
    read("GetThreadGateRecords", |m| m.records(THREAD_GATE)),
    read("GetPostgateRecords", |m| m.records(POST_GATE)),
    read("GetLabelerRecords", |m| m.records(LABELER)),
    read("GetStarterPackRecords", |m| m.records(STARTER_PACK)),
    read("GetVerificationRecords", |m| m.records(VERIFICATION)),
    read("GetProfileRecords", |m| m.records(PROFILE)),
    read("GetStatusRecords", |m| m.records(STATUS)),
    read("GetActorChatDeclarationRecords", |m| m.records(CHAT)),
    read("GetNotificationDeclarationRecords", |m| m.records(NOTIFICATIONS)),
    read("GetGermDeclarationRecords", |m| m.records(GERM)),
    // Graph: follows and verifications.
    read("GetActorFollowsActors", |m| m.actor_and("targetDids", FOLLOW, |m, actor| m.about(actor, FOLLOW).into())),
    read("GetFollowers", |m| m.pages_by("actorDid", |m| m.subject(FOLLOW))),
    read("GetFollows", |m| m.pages_by("actorDid", |m| m.author(FOLLOW))),
    read("GetFollowsFollowing", |m| m.actor_and("targetDids", FOLLOW, |m, _| m.subject(FOLLOW).into())),
    judged("GetVerificationsIssued", oracle::verifications, |m| m.pages_by("actorDid", |m| m.author(VERIFICATION))),
    judged("GetVerificationsReceived", oracle::verifications, |m| {
        m.pages_by("subjectDid", |m| m.subject(VERIFICATION))
    }),
    // Relationships, blocks.
    read("GetRelationships", |m| {
        m.actor_and("targetDids", FOLLOW, |m, actor| {
            match m.dice.random_range(0..5) {
                0 => m.about(actor, BLOCK),
                1 => m.pick(&m.state.muted).to_owned(),
                2 => m.did(),
                _ => m.about(actor, FOLLOW),
            }
            .into()
        });
    }),
    read("GetBlockExistence", |m| {
        m.batch(
            "pairs",
            |_| Map::new(),
            |m, _| {
                let (a, b) = if m.chance(70) {
                    pair(m, BLOCK)
                } else {
                    let lists = m.world.subjects.get(LIST_BLOCK).map_or(&[][..], Vec::as_slice);
                    let actor = m.author(LIST_BLOCK);
                    pair_by_list(m, lists, actor)
                };
                json!({ "a": a, "b": b })
            },
            |text| json!({ "a": text, "b": NOBODY }),
        );
    }),
    read("GetBidirectionalBlock", |m| {
        m.each(|m| {
            let (actor, target) = pair(m, BLOCK);
            json!({ "actorDid": actor, "targetDid": target })
        });
    }),
    read("GetBlocks", |m| m.pages_by("actorDid", |m| m.author(BLOCK))),
    read("GetBidirectionalBlockViaList", |m| {
        m.each(|m| {
            let lists = m.world.subjects.get(LIST_BLOCK).map_or(&[][..], Vec::as_slice);
            let actor = m.author(LIST_BLOCK);
            let (actor, target) = pair_by_list(m, lists, actor);
            json!({ "actorDid": actor, "targetDid": target })
        });
    }),
    read("GetBlocklistSubscription", |m| {
        m.each(|m| {
            let (actor, list) = pair(m, LIST_BLOCK);
            json!({ "actorDid": actor, "listUri": list })
        });
    }),
    read("GetBlocklistSubscriptions", |m| m.pages_by("actorDid", |m| m.author(LIST_BLOCK))),
    // Mutes.
    read("GetActorMutesActor", |m| {
        m.each(|m| json!({ "actorDid": m.pick(&m.state.owners), "targetDid": m.pick(&m.state.muted) }));
    }),
    read("GetMutes", |m| m.pages_by("actorDid", Maker::did)),
    read("GetActorMutesActorViaList", |m| {
        m.each(|m| {
            let actor = m.pick(&m.state.owners).to_owned();
            let (actor, target) = pair_by_list(m, &m.state.muted_lists, actor);
            json!({ "actorDid": actor, "targetDid": target })
        });
    }),
    read("GetMutelistSubscription", |m| {
        m.each(|m| json!({ "actorDid": m.pick(&m.state.owners), "listUri": m.pick(&m.state.muted_lists) }));
    }),
    read("GetMutelistSubscriptions", |m| m.pages_by("actorDid", Maker::did)),
    read("GetThreadMutesOnSubjects", |m| {
        m.batch(
            "threadRoots",
            |m| object(json!({ "actorDid": m.pick(&m.state.owners) })),
            |m, _| m.pick(&m.state.muted_roots).into(),
            |text| text.into(),
        );
    }),
    // Lists.
    read("GetActorLists", |m| m.pages_by("actorDid", |m| m.author(LIST))),
    read("GetListMembers", |m| {
        m.pages(|m| {
            let list = m.uri(LIST);
            let viewer = match m.dice.random_range(0..3) {
                0 => String::new(),
                1 => super::world::authority(&list).to_owned(),
                _ => m.did(),
            };
            json!({ "listUri": list, "viewerDid": viewer })
        });
        m.pages_by("listUri", |m| m.subject(OPT_OUT));
    }),
    read("GetListMembership", |m| {
        m.batch(
            "listUris",
            |m| {
                let list = m.uri(LIST);
                let members = m.world.members.get(&list);
                let member = members.and_then(|members| members.choose(&mut m.dice).cloned());
                object(json!({ "actorDid": member.unwrap_or_else(|| m.did()) }))
            },
            |m, _| m.subject(LIST_ITEM).into(),
            |text| text.into(),
        );
    }),
    read("GetListCount", |m| m.each(|m| json!({ "listUri": m.uri(LIST) }))),
    read("GetListCounts", |m| {
        m.batch("refs", |_| Map::new(), |m, _| json!({ "uri": m.uri(LIST) }), |it| json!({ "uri": it }))
    }),
    read("GetReferencelistoptoutsByActorAndSubjects", |m| {
        m.actor_and("subjectUris", OPT_OUT, |m, actor| m.about(actor, OPT_OUT).into());
    }),
    // Feeds and feed generators.
    read("GetTimeline", |m| m.pages_by("actorDid", |m| m.author(FOLLOW))),
    read("GetAuthorFeed", |m| {
        m.pages(|m| json!({ "actorDid": m.author(POST), "feedType": m.dice.random_range(0..7) }));
        m.pages_by("actorDid", |m| m.author(REPOST));
    }),
    read("GetListFeed", |m| m.pages_by("listUri", |m| if m.chance(80) { m.uri(LIST) } else { m.subject(OPT_OUT) })),
    read("GetActorFeeds", |m| m.pages_by("actorDid", |m| m.author(GENERATOR))),
    read("GetSuggestedFeeds", |m| m.pages(|m| json!({ "actorDid": m.did() }))),
    judged("GetFeedGeneratorStatus", oracle::generator_status, |m| m.records(GENERATOR)),
    // Threads.
    read("GetThread", |m| {
        m.each(|m| {
            let uri = match m.dice.random_range(0..10) {
                0 => m.world.long_thread.clone(),
                1..6 => m.pick(&m.world.replied).to_owned(),
                _ => m.uri(POST),
            };
            let levels = [0, 0, 1, 2, 6, 80, 1000];
            let (above, below) = (levels.choose(&mut m.dice), levels.choose(&mut m.dice.clone()));
            json!({ "postUri": uri, "above": above, "below": below })
        });
        m.once(json!({ "postUri": m.world.long_thread, "above": -1, "below": -1 }));
    }),
    // Interactions.
    read("GetInteractionCounts", |m| {
        m.batch(
            "refs",
            |_| Map::new(),
            |m, _| {
                let collection = *[LIKE, REPOST, POST].choose(&mut m.dice).unwrap_or(&LIKE);
                json!({ "uri": m.subject(collection) })
            },
            |text| json!({ "uri": text }),
        );
    }),
    read("GetLikesByActorAndSubjects", |m| {
        m.actor_and("refs", LIKE, |m, actor| json!({ "uri": m.about(actor, LIKE) }))
    }),
    read("GetRepostsByActorAndSubjects", |m| {
        m.actor_and("refs", REPOST, |m, actor| json!({ "uri": m.about(actor, REPOST) }));
    }),
    read("GetLikesBySubject", |m| m.pages_of_subject(LIKE)),
    read("GetLikesBySubjectSorted", |m| m.pages_of_subject(LIKE)),
    read("GetKnownLikers", |m| {
        m.batch(
            "subjectUris",
            |m| object(json!({ "actorDid": m.author(FOLLOW), "limit": ([1, 3, 5, 100, 0, -1].choose(&mut m.dice)) })),
            |m, _| m.subject(LIKE).into(),
            |text| text.into(),
        );
    }),
    read("GetActorLikes", |m| m.pages_by("actorDid", |m| m.author(LIKE))),
    read("GetRepostsBySubject", |m| m.pages_of_subject(REPOST)),
    read("GetActorReposts", |m| m.pages_by("actorDid", |m| m.author(REPOST))),
    read("GetQuotesBySubjectSorted", |m| {
        let quoted: Vec<String> = m.world.quotes.keys().cloned().collect();
        m.pages(|m| json!({ "subject": { "uri": m.pick(&quoted) } }));
        m.pages_of_subject(LIKE);
    }),
    // Actors, profiles, counts.
    read("GetActors", |m| {
        let handful = m.count / 2;
        m.batch(
            "dids",
            |m| {
                let aged: Vec<String> = (0..3).map(|_| m.did()).collect();
                object(json!({ "returnAgeAssuranceForDids": aged }))
            },
            |m, request| {
                let aged = request["returnAgeAssuranceForDids"].as_array().and_then(|all| all.choose(&mut m.dice));
                match aged.filter(|_| m.chance(30)) {
                    Some(aged) => aged.clone(),
                    None => m.did().into(),
                }
            },
            |text| text.into(),
        );
        for _ in 0..handful {
            let request = json!({ "dids": [m.subject(VERIFICATION), m.author(STATUS), m.author(CHAT), m.author(LABELER), m.author(GERM)] });
            m.once(request);
        }
    }),
    read("GetDidsByHandles", |m| {
        m.batch("handles", |_| Map::new(), |m, _| m.pick(&m.world.handles).into(), |it| it.into())
    }),
    read("GetCountsForUsers", |m| {
        m.batch(
            "dids",
            |_| Map::new(),
            |m, _| {
                let collection = *[FOLLOW, LIST, GENERATOR, STARTER_PACK, POST].choose(&mut m.dice).unwrap_or(&LIST);
                m.author(collection).into()
            },
            |text| text.into(),
        );
    }),
    judged("GetNewUserCountForRange", oracle::new_users, |m| {
        for _ in 0..m.count {
            let (one, other) = (m.dice.random_range(-100..2), m.dice.random_range(-100..2));
            let day = |days: i64| oracle::day_from_now(days);
            m.once(json!({ "start": day(one.min(other)), "end": day(one.max(other)) }));
        }
        m.once(json!({}));
    }),
    // Identity and sync.
    read("GetIdentityByDid", |m| m.each(|m| json!({ "did": m.did() }))),
    read("GetIdentityByHandle", |m| m.each(|m| json!({ "handle": m.pick(&m.world.handles) }))),
    read("GetLatestRev", |m| m.each(|m| json!({ "actorDid": m.did() }))),
    // Notifications.
    read("GetNotifications", |m| {
        let told: Vec<String> = m.world.subjects.get(LIKE).into_iter().flatten().cloned().collect();
        m.pages(|m| {
            let whom = if m.chance(50) { super::world::authority(m.pick(&told)).to_owned() } else { m.did() };
            json!({ "actorDid": whom, "priority": m.chance(30) })
        });
        m.pages_by("actorDid", |m| m.subject(VERIFICATION));
    }),
    read("GetNotificationSeen", |m| m.each(|m| json!({ "actorDid": m.did() }))),
    read("GetUnreadNotificationCount", |m| m.each(|m| json!({ "actorDid": m.did() }))),
    write("UpdateNotificationSeen", |m| {
        m.each(|m| {
            let time = m.world.lives[m.pick(m.world.of_collection(LIKE))].versions[0].time_us;
            json!({ "actorDid": m.did(), "timestamp": gp_atproto::datetime::format_ms(time) })
        });
        m.once(json!({ "actorDid": m.world.hub }));
    }),
    read("GetNotificationPreferences", |m| {
        m.batch("dids", |_| Map::new(), |m, _| m.did().into(), |text| text.into());
    }),
    read("GetActivitySubscriptionDids", |m| m.pages_by("actorDid", Maker::did)),
    read("GetActivitySubscriptionsByActorAndSubjects", |m| {
        m.batch(
            "subjectDids",
            |m| object(json!({ "actorDid": m.pick(&m.state.owners) })),
            |m, _| if m.chance(80) { m.pick(&m.state.subscribed).into() } else { m.did().into() },
            |text| text.into(),
        );
    }),
    // Labels.
    read("GetLabels", |m| {
        m.batch(
            "subjects",
            |m| {
                let issuers: Vec<String> =
                    (0..m.dice.random_range(0..6)).map(|_| m.pick(&m.state.issuers).to_owned()).collect();
                object(json!({ "issuers": issuers }))
            },
            |m, _| if m.chance(70) { m.pick(&m.state.labelled).into() } else { m.any_uri().into() },
            |text| text.into(),
        );
    }),
    judged("GetAllLabelers", oracle::labelers, |m| m.once(json!({}))),
    // Moderation (read).
    read("GetBlobTakedown", |m| {
        m.each(|m| {
            let (did, cid) = m.world.blobs.choose(&mut m.dice).cloned().unwrap_or_default();
            json!({ "did": did, "cid": cid })
        });
    }),
    read("GetRecordTakedown", |m| m.each(|m| json!({ "recordUri": m.any_uri() }))),
    read("GetActorTakedown", |m| m.each(|m| json!({ "did": m.did() }))),
    // Starter packs.
    read("GetActorStarterPacks", |m| m.pages_by("actorDid", |m| m.author(STARTER_PACK))),
    read("GetStarterPackCounts", |m| {
        m.batch("refs", |_| Map::new(), |m, _| json!({ "uri": m.uri(STARTER_PACK) }), |it| json!({ "uri": it }));
    }),
    // Search.
    judged("SearchActors", search::search, |m| search::searches(m, "term", "actors")),
    judged("SearchPosts", search::search, |m| search::searches(m, "term", "posts")),
    judged("SearchStarterPacks", search::search, |m| search::searches(m, "term", "packs")),
    judged("SearchFeedGenerators", search::search, |m| search::searches(m, "query", "feeds")),
    judged("SearchPostsV2", search::search, |m| search::searches(m, "params", "posts")),
    judged("SearchActorsV2", search::search, |m| search::searches(m, "params", "actors")),
    judged("SearchActorsTypeahead", search::search, |m| search::searches(m, "params", "actors")),
    judged("SearchFeedGeneratorsV2", search::search, |m| search::searches(m, "params", "feeds")),
    judged("SearchStarterPacksV2", search::search, |m| search::searches(m, "params", "packs")),
    // Suggestions.
    read("GetFollowSuggestions", |m| {
        // The order is drawn anew for each call: only whole walks can be compared.
        for at in 0..m.count {
            let request = json!({ "actorDid": if m.chance(50) { m.did() } else { String::new() } });
            m.push(request, Some(vec![[3, 7, 10, 100][at % 4]]));
        }
    }),
    read("GetSuggestedEntities", |m| {
        m.once(json!({}));
        m.once(json!({ "limit": 1 }));
    }),
    // Private data: bookmarks, drafts.
    read("GetActorBookmarks", |m| m.pages_by("actorDid", Maker::did)),
    read("GetBookmarksByActorAndSubjects", |m| {
        m.batch(
            "uris",
            |m| object(json!({ "actorDid": m.pick(&m.state.owners) })),
            |m, _| m.pick(&m.state.bookmarked).into(),
            |text| text.into(),
        );
    }),
    read("GetActorDrafts", |m| m.pages_by("actorDid", Maker::did)),
    // Sitemap.
    judged("GetSitemapIndex", oracle::sitemap_index, |m| m.once(json!({ "type": 1 }))),
    judged("GetSitemapPage", oracle::sitemap_page, |m| {
        for days in [-400, -60, -15, -14, -10, -5, -1, 0, 30] {
            for bucket in [0, 1, 2, -1] {
                m.once(json!({ "type": 1, "date": oracle::day_from_now(days), "bucket": bucket }));
            }
        }
    }),
    // site.standard.
    judged("GetSiteStandardRecordsByURI", oracle::site_standard_by_uri, |m| {
        m.batch(
            "uris",
            |_| Map::new(),
            |m, _| if m.chance(50) { m.uri(DOCUMENT) } else { m.uri(PUBLICATION) }.into(),
            |it| it.into(),
        );
    }),
    judged("GetSiteStandardRecordsByRef", oracle::site_standard_by_ref, |m| {
        m.batch(
            "refs",
            |_| Map::new(),
            |m, _| {
                let uri = if m.chance(50) { m.uri(DOCUMENT) } else { m.uri(PUBLICATION) };
                let versions = m.world.lives.get(&uri).map_or(&[][..], |life| life.versions.as_slice());
                let cid = versions.choose(&mut m.dice).map(|it| it.cid.as_str());
                json!({ "uri": uri, "cid": cid.unwrap_or_default() })
            },
            |text| json!({ "uri": text, "cid": text }),
        );
    }),
    // Misc.
    read("Ping", |m| m.once(json!({}))),
    // Write path: moderation.
    write("TakedownActor", |m| {
        m.each(|m| json!({ "did": m.pick(&m.world.dids), "ref": if m.chance(50) { "MOD-1" } else { "" } }));
    }),
    write("UntakedownActor", |m| m.each(|m| json!({ "did": m.pick(&m.world.dids) }))),
    write("TakedownRecord", |m| {
        m.each(|m| json!({ "recordUri": m.any_uri(), "ref": if m.chance(50) { "MOD-2" } else { "" } }));
    }),
    write("UntakedownRecord", |m| m.each(|m| json!({ "recordUri": m.any_uri() }))),
    write("TakedownBlob", |m| {
        m.each(|m| {
            let (did, cid) = m.world.blobs.choose(&mut m.dice).cloned().unwrap_or_default();
            json!({ "did": did, "cid": cid, "ref": "MOD-3" })
        });
    }),
    write("UntakedownBlob", |m| {
        m.each(|m| {
            let (did, cid) = m.world.blobs.choose(&mut m.dice).cloned().unwrap_or_default();
            json!({ "did": did, "cid": cid })
        });
    }),
    write("UpdateActorUpstreamStatus", |m| {
        for status in ["deactivated", "suspended", "takendown"] {
            let request = json!({ "actorDid": m.pick(&m.world.dids), "active": false, "upstreamStatus": status });
            m.once(request);
        }
        let request = json!({ "actorDid": m.pick(&m.world.dids), "active": true });
        m.once(request);
        m.once(json!({ "actorDid": "", "active": true }));
    }),
    // Write path: mutes.
    write("CreateActorMute", |m| {
        m.each(|m| {
            json!({
                "actorDid": m.pick(&m.state.owners), "subjectDid": m.pick(&m.world.dids), "onlyReposts": m.chance(20),
                "onlyQuoteposts": m.chance(20),
            })
        });
        m.once(json!({ "actorDid": m.world.hub, "subjectDid": m.world.hub }));
    }),
    write("DeleteActorMute", |m| {
        m.each(|m| json!({ "actorDid": m.pick(&m.state.owners), "subjectDid": m.pick(&m.state.muted) }))
    }),
    write("ClearActorMutes", |m| m.once(json!({ "actorDid": m.state.owners.last() }))),
    write("CreateActorMutelistSubscription", |m| {
        m.each(|m| json!({ "actorDid": m.pick(&m.state.owners), "subjectUri": m.uri(LIST) }));
    }),
    write("DeleteActorMutelistSubscription", |m| {
        m.each(|m| json!({ "actorDid": m.pick(&m.state.owners), "subjectUri": m.pick(&m.state.muted_lists) }));
    }),
    write("ClearActorMutelistSubscriptions", |m| m.once(json!({ "actorDid": m.state.owners.last() }))),
    played("CreateThreadMute", oracle::thread_mutes),
    played("DeleteThreadMute", oracle::thread_mutes),
    played("ClearThreadMutes", oracle::thread_mutes),
];

/// The row of a call.
pub(super) fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_contract_has_one_row_and_no_row_is_of_another() {
        let service = gp_proto::descriptors().get_service_by_name(gp_proto::SERVICE).expect("the contract has it");
        let mut known: Vec<String> = service.methods().map(|method| method.name().to_owned()).collect();
        let mut rows: Vec<String> = ROWS.iter().map(|row| row.name.to_owned()).collect();
        known.sort();
        rows.sort();
        assert_eq!(rows, known);
    }
}
