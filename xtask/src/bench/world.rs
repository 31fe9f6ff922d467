//! A network with the shape of the real one, as large as one asks for: a function of its size. Nothing of it is kept in
//! memory; whoever writes it down makes it account by account.
//!
//! Few are followed by very many and most by few. One account is followed by a tenth of all, one follows as many as
//! [`READER_FOLLOWS_MAX`], some follow exactly as many as asked for, one post is liked by a tenth of all, one thread has
//! [`REPLIES`] replies, and one account is on very many lists. 88 of 100 records are likes, follows, reposts and blocks.
//! No two things that one page shows have the same time, so that no order is left to chance.

mod files;

pub(crate) use files::Files;

use std::collections::HashSet;

use anyhow::Result;
use gp_atproto::{Cid, Tid, datetime, json};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json as object};

/// Accounts that are made at once.
const ACCOUNTS_PER_PART: usize = 20;

/// Accounts that follow exactly as many as asked for, and whose pages are asked for.
pub(crate) const VIEWERS: usize = 16;

/// The most that anybody follows.
const READER_FOLLOWS_MAX: usize = 100_000;

/// Replies in the long thread.
pub(crate) const REPLIES: usize = 1_000;

/// One account in so many owns a list that the listed account is on.
const ACCOUNTS_PER_LIST: usize = 5;

/// Lists that the listed account is on, at most.
const LISTS_MAX: usize = 200_000;

/// Accounts that share the top of everybody's favour.
const FAVOURITES: usize = 64;

/// For ten posts: follows, likes, reposts, blocks. Together with ten posts that is 88 of 100.
const FOLLOWS: usize = 20;
const LIKES: usize = 43;
const REPOSTS: usize = 8;
const BLOCKS: usize = 2;

/// The last moment of the network.
const NOW_US: i64 = 1_780_000_000_000_000;

/// How long it has lasted.
const SPAN_US: i64 = 30 * 86_400_000_000;

/// How large the network is.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Size {
    /// Accounts. A million, with ten posts each, is the size that the bars are set for.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) accounts: usize,
    /// Posts of each, on average; there are twice as many follows, and five times as many likes and reposts.
    #[arg(long, default_value_t = 2)]
    pub(crate) posts_each: usize,
    /// Accounts that each of the viewers follows.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) follows: usize,
}

/// The network.
#[derive(Debug, Clone)]
pub(crate) struct World {
    accounts: usize,
    posts_each: usize,
    follows: usize,
}

/// An account and what it did.
pub(crate) struct Account {
    pub(crate) did: String,
    pub(crate) handle: String,
    pub(crate) deeds: Vec<Deed>,
}

/// One record in its place.
pub(crate) struct Deed {
    pub(crate) collection: &'static str,
    pub(crate) rkey: String,
    pub(crate) record: Value,
    pub(crate) block: Vec<u8>,
    pub(crate) cid: String,
    pub(crate) at_us: i64,
}

/// The account of a number; two have the same only if their numbers are.
pub(crate) fn did(number: usize) -> String {
    let mut text = String::from("did:plc:");
    // Digits that look like the hashes that they are in the network: nothing to compress.
    let mut rest = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    for _ in 0..24 {
        text.push(char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(rest % 32) as usize]));
        rest /= 32;
    }
    text
}

/// Words of a post, never the same twice.
pub(crate) fn text(number: usize) -> String {
    const WORDS: [&str; 32] = [
        "the", "morning", "coffee", "is", "a", "river", "that", "nobody", "asked", "for", "and", "still", "we", "sing",
        "about", "trains", "in", "winter", "while", "cats", "look", "out", "of", "windows", "at", "birds", "who", "do",
        "not", "care", "for", "us",
    ];
    let mut rest = (number as u64 + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let count = 8 + (rest >> 40) as usize % 20;
    let words = (0..count).map(|_| {
        rest = rest.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        WORDS[(rest >> 59) as usize]
    });
    words.collect::<Vec<_>>().join(" ")
}

fn tid(at_us: i64, number: usize) -> String {
    Tid::from_parts(at_us as u64, (number % 1_024) as u16).text().as_str().to_owned()
}

/// What a record says of another one. Nobody looks at the version.
fn reference(uri: &str) -> Value {
    object!({ "uri": uri, "cid": Cid::for_dag_cbor(uri.as_bytes()).to_string() })
}

impl World {
    pub(crate) fn new(size: &Size) -> Self {
        let accounts = size.accounts.max(8 * VIEWERS);
        Self { accounts, posts_each: size.posts_each.max(1), follows: size.follows.min(accounts / 2) }
    }

    pub(crate) fn accounts(&self) -> usize {
        self.accounts
    }

    /// Parts in which it is made.
    pub(crate) fn parts(&self) -> usize {
        self.accounts.div_ceil(ACCOUNTS_PER_PART)
    }

    /// Makes the accounts of a part.
    pub(crate) fn part(&self, part: usize) -> Result<Vec<Account>> {
        let numbers = part * ACCOUNTS_PER_PART..((part + 1) * ACCOUNTS_PER_PART).min(self.accounts);
        numbers.map(|number| self.account(number)).collect()
    }

    /// The number of the account that follows most. It and those after it are in the middle: followed by few.
    fn reader_number(&self) -> usize {
        self.accounts / 2
    }

    /// The account that follows most.
    pub(crate) fn reader(&self) -> String {
        did(self.reader_number())
    }

    /// How many that are.
    pub(crate) fn reader_follows(&self) -> usize {
        READER_FOLLOWS_MAX.min(self.accounts - 1)
    }

    /// How many each of the viewers follows.
    pub(crate) fn viewer_follows(&self) -> usize {
        self.follows
    }

    fn viewer_numbers(&self) -> std::ops::Range<usize> {
        self.reader_number() + 1..self.reader_number() + 1 + VIEWERS
    }

    /// Of the viewers, those who follow anybody, not those whom everybody follows.
    fn quiet_numbers(&self) -> std::ops::Range<usize> {
        self.viewer_numbers().start + VIEWERS / 2..self.viewer_numbers().end
    }

    /// Those who follow as many as asked for, the popular ones among them.
    pub(crate) fn viewers(&self) -> Vec<String> {
        (self.viewer_numbers().start..self.quiet_numbers().start).map(did).collect()
    }

    /// Those who follow as many, chosen without regard to who is popular: what they see is rare among what is written.
    pub(crate) fn quiet_viewers(&self) -> Vec<String> {
        self.quiet_numbers().map(did).collect()
    }

    /// Those after them, who follow few.
    pub(crate) fn ordinary(&self) -> Vec<String> {
        (self.viewer_numbers().end..).take(VIEWERS).map(did).collect()
    }

    /// Those followed by most, the one that a tenth of all follow first.
    pub(crate) fn hubs(&self, count: usize) -> Vec<String> {
        (0..count.min(self.accounts)).map(did).collect()
    }

    fn listed_number(&self) -> usize {
        self.viewer_numbers().end + VIEWERS
    }

    /// The account that is on very many lists.
    pub(crate) fn listed(&self) -> String {
        did(self.listed_number())
    }

    /// How many these are.
    pub(crate) fn lists(&self) -> usize {
        (self.accounts / ACCOUNTS_PER_LIST).min(LISTS_MAX)
    }

    /// Accounts of all kinds, those followed by many more often.
    pub(crate) fn somebody(&self, seed: usize) -> impl Iterator<Item = usize> {
        let mut dice = StdRng::seed_from_u64(seed as u64);
        let world = self.clone();
        std::iter::repeat_with(move || world.popular(&mut dice))
    }

    /// The first post of an account.
    pub(crate) fn first_post(&self, account: usize) -> String {
        self.post_uri(account, 0)
    }

    /// The post that a tenth of all like.
    pub(crate) fn liked(&self) -> String {
        self.first_post(0)
    }

    /// The post that has the long thread below it.
    pub(crate) fn root(&self) -> String {
        self.reply(0).0
    }

    /// An account other than the first, the likelier the smaller its number.
    fn popular(&self, dice: &mut StdRng) -> usize {
        let at: f64 = dice.random();
        let rank = (self.accounts as f64 * at * at * at) as usize + dice.random_range(0..FAVOURITES);
        1 + rank % (self.accounts - 1)
    }

    /// How often an account does something that is done so often for ten posts.
    fn times(&self, account: usize, for_ten_posts: usize) -> usize {
        (self.posts_each * for_ten_posts + account.wrapping_mul(7) % 10) / 10
    }

    fn posts_of(&self, account: usize) -> usize {
        // Those followed by many write more.
        let posts = if account < self.accounts / 100 { self.posts_each * 3 } else { self.posts_each + account % 3 - 1 };
        posts.max(1)
    }

    /// Address of a reply of the long thread, its author, and its place in time. Zero is the root.
    fn reply(&self, number: usize) -> (String, usize, i64) {
        let (author, at_us) = (number % self.accounts, NOW_US + number as i64 * 1_000_000);
        (format!("at://{}/app.bsky.feed.post/{}", did(author), tid(at_us, number)), author, at_us)
    }

    /// Time of an item of a feed: no two are of the same millisecond.
    fn item_at_us(&self, account: usize, item: usize) -> i64 {
        let slots = (self.accounts * self.items_max()) as i64;
        let slot = (item * self.accounts + account) as i64;
        // Spread over time, and not in the order of accounts.
        let mixed = (slot * 7_919) % slots;
        NOW_US - SPAN_US + (mixed * (SPAN_US / 1_000) / slots) * 1_000
    }

    /// Posts of one account at most, and after them its reposts.
    fn posts_max(&self) -> usize {
        self.posts_each * 3 + 1
    }

    fn items_max(&self) -> usize {
        self.posts_max() + self.posts_each + 1
    }

    /// Time of something else that an account does: everybody has milliseconds of their own.
    fn deed_at_us(&self, account: usize, number: usize) -> i64 {
        let each_ms = SPAN_US / 1_000 / self.accounts as i64;
        NOW_US - SPAN_US + (account as i64 * each_ms + number as i64) * 1_000
    }

    fn post_uri(&self, account: usize, item: usize) -> String {
        format!("at://{}/app.bsky.feed.post/{}", did(account), tid(self.item_at_us(account, item), account))
    }

    fn list_uri(&self, owner: usize) -> String {
        format!("at://{}/app.bsky.graph.list/{}", did(owner), tid(self.deed_at_us(owner, 0), owner))
    }

    /// Whom an account follows.
    fn followed_by(&self, account: usize, dice: &mut StdRng) -> Vec<usize> {
        if account == self.reader_number() {
            return (0..self.accounts).filter(|it| *it != account).take(self.reader_follows()).collect();
        }
        let wanted = if self.viewer_numbers().contains(&account) {
            self.follows
        } else {
            let average = self.times(account, FOLLOWS);
            dice.random_range(0..=2 * average)
        };
        let quiet = self.quiet_numbers().contains(&account);
        let (mut seen, mut followed) = (HashSet::new(), Vec::new());
        if account % 10 == 3 && !quiet {
            seen.insert(0);
            followed.push(0);
        }
        while followed.len() < wanted.min(self.accounts - 2) {
            let subject = if quiet { dice.random_range(0..self.accounts) } else { self.popular(dice) };
            if subject != account && seen.insert(subject) {
                followed.push(subject);
            }
        }
        followed
    }

    /// An account and what it did.
    fn account(&self, number: usize) -> Result<Account> {
        let mut dice = StdRng::seed_from_u64(number as u64);
        let mut account = Account { did: did(number), handle: format!("a{number}.load.test"), deeds: Vec::new() };
        let is_reader = number == self.reader_number();
        for (n, subject) in self.followed_by(number, &mut dice).into_iter().enumerate() {
            // The one who follows most did so before everybody else did anything.
            let at_us = if is_reader { NOW_US - 2 * SPAN_US + n as i64 * 1_000 } else { self.deed_at_us(number, n) };
            account.did_at(number, at_us, "app.bsky.graph.follow", object!({ "subject": did(subject) }))?;
        }
        for item in 0..self.posts_of(number) {
            let record = object!({ "text": text(item * self.accounts + number), "langs": ["en"] });
            account.did_at(number, self.item_at_us(number, item), "app.bsky.feed.post", record)?;
        }
        let mut subjects = HashSet::new();
        for n in 0..self.times(number, REPOSTS) {
            let author = self.popular(&mut dice);
            if subjects.insert(author) {
                let record = object!({ "subject": reference(&self.first_post(author)) });
                let at_us = self.item_at_us(number, self.posts_max() + n);
                account.did_at(number, at_us, "app.bsky.feed.repost", record)?;
            }
        }
        self.likes_of(number, &mut dice, &mut account)?;
        let step = dice.random_range(1..self.accounts / 2);
        for n in 0..self.times(number, BLOCKS).min(1 + (self.accounts - 1) / (2 * step)) {
            let record = object!({ "subject": did((number + (n + 1) * step) % self.accounts) });
            account.did_at(number, self.deed_at_us(number, n), "app.bsky.graph.block", record)?;
        }
        self.lists_of(number, &mut account)?;
        self.replies_of(number, &mut account)?;
        Ok(account)
    }

    fn likes_of(&self, number: usize, dice: &mut StdRng, account: &mut Account) -> Result<()> {
        let mut subjects = HashSet::new();
        if number % 10 == 7 {
            subjects.insert((0, 0));
        }
        for _ in 0..self.times(number, LIKES) {
            let author = self.popular(dice);
            subjects.insert((author, dice.random_range(0..self.posts_of(author))));
        }
        let mut subjects: Vec<(usize, usize)> = subjects.into_iter().collect();
        subjects.sort_unstable();
        for (n, (author, item)) in subjects.into_iter().enumerate() {
            let record = object!({ "subject": reference(&self.post_uri(author, item)) });
            account.did_at(number, self.deed_at_us(number, n), "app.bsky.feed.like", record)?;
        }
        Ok(())
    }

    fn lists_of(&self, number: usize, account: &mut Account) -> Result<()> {
        let at_us = self.deed_at_us(number, 0);
        if number < self.lists() {
            let list = object!({ "name": format!("list {number}"), "purpose": "app.bsky.graph.defs#modlist" });
            account.did_at(number, at_us, "app.bsky.graph.list", list)?;
            let item = object!({ "subject": did(self.listed_number()), "list": self.list_uri(number) });
            account.did_at(number, at_us, "app.bsky.graph.listitem", item)?;
        }
        if let Some(viewer) = self.viewer_numbers().position(|it| it == number) {
            // Every viewer blocks the members of one of the lists.
            let block = object!({ "subject": self.list_uri(viewer % self.lists()) });
            account.did_at(number, at_us, "app.bsky.graph.listblock", block)?;
        }
        Ok(())
    }

    fn replies_of(&self, number: usize, account: &mut Account) -> Result<()> {
        for reply in (number..=REPLIES).step_by(self.accounts) {
            let (_, _, at_us) = self.reply(reply);
            let mut record = object!({ "text": format!("reply {reply}"), "langs": ["en"] });
            if reply > 0 {
                // Each has up to three below it.
                record["reply"] =
                    object!({ "root": reference(&self.root()), "parent": reference(&self.reply((reply - 1) / 3).0) });
            }
            account.did_at(reply, at_us, "app.bsky.feed.post", record)?;
        }
        Ok(())
    }
}

impl Account {
    fn did_at(&mut self, clock: usize, at_us: i64, collection: &'static str, mut record: Value) -> Result<()> {
        record["$type"] = collection.into();
        record["createdAt"] = datetime::format_ms(at_us).into();
        let block = json::to_cbor(&record)?;
        let cid = Cid::for_dag_cbor(&block).to_string();
        self.deeds.push(Deed { collection, rkey: tid(at_us, clock), record, block, cid, at_us });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(accounts: usize, posts_each: usize) -> World {
        World::new(&Size { accounts, posts_each, follows: 200 })
    }

    fn everything(world: &World) -> Vec<Account> {
        (0..world.parts()).flat_map(|part| world.part(part).unwrap()).collect()
    }

    #[test]
    fn most_records_are_relations_and_few_are_followed_by_many() {
        let world = world(4_000, 3);
        let accounts = everything(&world);
        assert_eq!(accounts.len(), 4_000);
        let mut followers: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
        let (mut relations, mut records) = (0, 0);
        // Those made for one question are left out: in a small network they are a large part of it.
        let special = world.reader_number()..=world.viewer_numbers().end;
        for (number, account) in accounts.iter().enumerate().filter(|(number, _)| !special.contains(number)) {
            for deed in &account.deeds {
                let of_all = ["graph.list", "graph.listitem"].iter().all(|it| !deed.collection.ends_with(it));
                let is_reply = deed.record["text"].as_str().is_some_and(|it| it.starts_with("reply"));
                let is_relation = ["like", "repost", "follow", "block"].iter().any(|it| deed.collection.ends_with(it));
                records += usize::from(of_all && !is_reply);
                relations += usize::from(of_all && is_relation);
                if deed.collection.ends_with("follow") {
                    *followers.entry(deed.record["subject"].as_str().unwrap()).or_default() += 1;
                }
            }
            assert!(number < 4_000);
        }
        let part = relations as f64 / records as f64;
        assert!((0.85..0.91).contains(&part), "{part}");
        let hub = followers[did(0).as_str()];
        assert!((390..=400).contains(&hub), "{hub}");
        let last = followers.get(did(3_900).as_str()).copied().unwrap_or(0);
        assert!(last * 20 < followers[did(20).as_str()], "{last}");
    }

    #[test]
    fn times_of_one_page_differ_and_addresses_are_unique() {
        let world = world(500, 2);
        let accounts = everything(&world);
        let (mut uris, mut items, mut followers) = (HashSet::new(), HashSet::new(), HashSet::new());
        for account in &accounts {
            for deed in &account.deeds {
                assert!(uris.insert((account.did.clone(), deed.collection, deed.rkey.clone())), "{}", deed.rkey);
                match deed.collection {
                    "app.bsky.feed.post" | "app.bsky.feed.repost" => assert!(items.insert(deed.at_us)),
                    "app.bsky.graph.follow" => {
                        assert!(followers.insert((deed.record["subject"].clone().to_string(), deed.at_us)));
                    }
                    _ => {}
                }
            }
        }
        let of = |did: &str| accounts.iter().find(|it| it.did == did).unwrap();
        let follows = |it: &Account| it.deeds.iter().filter(|it| it.collection.ends_with("follow")).count();
        assert_eq!(follows(of(&world.reader())), 499);
        assert!(world.viewers().iter().chain(&world.quiet_viewers()).all(|it| follows(of(it)) == 200));
        let replies = accounts.iter().flat_map(|it| &it.deeds).filter(|it| it.record.get("reply").is_some()).count();
        assert_eq!(replies, REPLIES);
    }
}
