//! The network: a function of the number of accounts. Nothing of it is kept in memory but a few bytes an account.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Result;
use gp_atproto::{Tid, datetime};
use gp_index::actors;
use gp_store::View;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::bench::filled::{AT, CID, Reference, create};

/// Accounts whose records are written in one job of the writer.
const ACCOUNTS_PER_JOB: usize = 20;

/// Follows of an ordinary account, on average.
const FOLLOWS: usize = 20;

/// Items in the feed of an ordinary account, on average; every fifth is a repost.
const ITEMS: usize = 10;

/// Accounts that follow many.
const VIEWERS: usize = 64;

/// Replies in the long thread.
const REPLIES: usize = 1_000;

/// The last moment of the network.
const NOW_US: i64 = 1_780_000_000_000_000;

/// How long it has lasted.
const SPAN_US: i64 = 30 * 86_400_000_000;

/// The network.
pub(super) struct World {
    accounts: usize,
    follows: usize,
}

/// Something that an account did.
struct Deed {
    collection: &'static str,
    rkey: String,
    record: Value,
    at_us: i64,
}

/// The account of a number; two have the same only if their numbers are.
pub(crate) fn did(number: usize) -> String {
    let mut text = String::from("did:plc:");
    let (mut rest, letters) = (number, b"abcdefghijklmnopqrstuvwxyz234567");
    for _ in 0..24 {
        text.push(char::from(letters[rest % 32]));
        rest /= 32;
    }
    text
}

fn tid(at_us: i64, number: usize) -> String {
    Tid::from_parts(at_us as u64, (number % 1_024) as u16).text().as_str().to_owned()
}

impl World {
    pub(super) fn new(accounts: usize, follows: usize) -> Self {
        Self { accounts: accounts.max(2 * VIEWERS), follows: follows.min(accounts / 2) }
    }

    pub(super) fn jobs(&self) -> usize {
        self.accounts.div_ceil(ACCOUNTS_PER_JOB)
    }

    fn numbers(&self, job: usize) -> std::ops::Range<usize> {
        job * ACCOUNTS_PER_JOB..((job + 1) * ACCOUNTS_PER_JOB).min(self.accounts)
    }

    /// Viewers are in the middle: followed by few.
    pub(super) fn viewers(&self) -> impl Iterator<Item = String> {
        let first = self.accounts / 2;
        (first..first + VIEWERS).map(did)
    }

    fn is_viewer(&self, number: usize) -> bool {
        (self.accounts / 2..self.accounts / 2 + VIEWERS).contains(&number)
    }

    /// Those followed by most.
    pub(super) fn hubs(&self) -> impl Iterator<Item = String> {
        (0..self.accounts).map(did)
    }

    /// Accounts of all kinds.
    pub(super) fn somebody(&self, seed: usize) -> impl Iterator<Item = String> {
        let mut dice = StdRng::seed_from_u64(seed as u64);
        let accounts = self.accounts;
        std::iter::repeat_with(move || did(popular(&mut dice, accounts)))
    }

    /// The post that has the long thread below it.
    pub(super) fn root(&self) -> String {
        self.reply(0).0
    }

    /// Address of a reply of the long thread, its author, and its place in time. Zero is the root.
    fn reply(&self, number: usize) -> (String, usize, i64) {
        let (author, at_us) = (number % self.accounts, NOW_US + number as i64 * 1_000_000);
        (format!("at://{}/app.bsky.feed.post/{}", did(author), tid(at_us, number)), author, at_us)
    }

    /// Time of an item: no two are of the same millisecond, so that no order is left to chance.
    fn item_at_us(&self, account: usize, item: usize) -> i64 {
        let slots = (self.accounts * ITEMS * 3) as i64;
        let slot = (item * self.accounts + account) as i64;
        // Spread over time, and not in the order of accounts.
        let mixed = (slot * 7_919) % slots;
        NOW_US - SPAN_US + (mixed * (SPAN_US / 1_000) / slots) * 1_000
    }

    fn items_of(&self, account: usize) -> usize {
        // Those followed by many write more.
        if account < self.accounts / 100 { ITEMS * 3 } else { ITEMS - 1 + account % 3 }
    }

    /// What an account did, oldest first within each kind.
    fn deeds(&self, account: usize) -> Vec<Deed> {
        let mut dice = StdRng::seed_from_u64(account as u64);
        let mut deeds = Vec::new();
        let mut followed = HashSet::new();
        let follows = if self.is_viewer(account) { self.follows } else { dice.random_range(0..=2 * FOLLOWS) };
        while followed.len() < follows.min(self.accounts - 1) {
            let subject = popular(&mut dice, self.accounts);
            if subject == account || !followed.insert(subject) {
                continue;
            }
            let at_us = NOW_US - SPAN_US + followed.len() as i64 * 1_000_000 + (account % 1_000) as i64 * 1_000;
            let record = json!({ "$type": "app.bsky.graph.follow", "subject": did(subject), "createdAt": datetime::format_ms(at_us) });
            deeds.push(Deed { collection: "app.bsky.graph.follow", rkey: tid(at_us, account), record, at_us });
        }
        let mut reposted = HashSet::new();
        for item in 0..self.items_of(account) {
            let at_us = self.item_at_us(account, item);
            let created_at = datetime::format_ms(at_us);
            if item % 5 == 4 {
                // Somebody's first post, each once.
                let author = popular(&mut dice, self.accounts);
                if !reposted.insert(author) {
                    continue;
                }
                let subject =
                    format!("at://{}/app.bsky.feed.post/{}", did(author), tid(self.item_at_us(author, 0), author));
                let record = json!({ "$type": "app.bsky.feed.repost", "subject": { "uri": subject, "cid": CID }, "createdAt": created_at });
                deeds.push(Deed { collection: "app.bsky.feed.repost", rkey: tid(at_us, account), record, at_us });
            } else {
                let record = json!({ "$type": "app.bsky.feed.post", "text": format!("item {item} of account {account}"), "createdAt": created_at });
                deeds.push(Deed { collection: "app.bsky.feed.post", rkey: tid(at_us, account), record, at_us });
            }
        }
        deeds
    }

    /// Replies of the long thread that an account wrote.
    fn replies(&self, account: usize) -> Vec<Deed> {
        let root = json!({ "uri": self.root(), "cid": CID });
        let mut deeds = Vec::new();
        for number in (account..=REPLIES).step_by(self.accounts) {
            let (_, _, at_us) = self.reply(number);
            let mut record = json!({ "$type": "app.bsky.feed.post", "text": format!("reply {number}"), "createdAt": datetime::format_ms(at_us) });
            if number > 0 {
                // Each has up to three below it.
                let parent = json!({ "uri": self.reply((number - 1) / 3).0, "cid": CID });
                record["reply"] = json!({ "root": root, "parent": parent });
            }
            deeds.push(Deed { collection: "app.bsky.feed.post", rkey: tid(at_us, number), record, at_us });
        }
        deeds
    }

    /// Makes the records of some accounts.
    pub(super) fn apply(&self, view: &mut View<'_>, job: usize) -> gp_index::Result<()> {
        for account in self.numbers(job) {
            let who = did(account);
            actors::set_handle(view, &who, Some(&format!("a{account}.pages.test")), 1)?;
            for deed in self.deeds(account).iter().chain(&self.replies(account)) {
                create(view, &who, deed.collection, &deed.rkey, &deed.record, deed.at_us)?;
            }
        }
        Ok(())
    }
}

/// An account, the likelier the smaller its number: few are followed by very many.
fn popular(dice: &mut StdRng, accounts: usize) -> usize {
    let at: f64 = dice.random();
    ((accounts as f64 * at * at * at) as usize).min(accounts - 1)
}

/// Rows of the reference's tables, a file each.
pub(super) struct Files {
    actor: BufWriter<File>,
    follow: BufWriter<File>,
    post: BufWriter<File>,
    repost: BufWriter<File>,
    feed_item: BufWriter<File>,
    record: BufWriter<File>,
}

/// Tables, and their columns in the files.
const TABLES: [(&str, &str); 6] = [
    ("actor", "did,handle,\"indexedAt\""),
    ("follow", "uri,cid,creator,\"subjectDid\",\"createdAt\",\"indexedAt\""),
    ("post", "uri,cid,creator,text,\"replyRoot\",\"replyParent\",\"createdAt\",\"indexedAt\""),
    ("repost", "uri,cid,creator,subject,\"subjectCid\",\"createdAt\",\"indexedAt\""),
    ("feed_item", "type,uri,cid,\"postUri\",\"originatorDid\",\"sortAt\""),
    ("record", "uri,cid,did,json,\"indexedAt\""),
];

impl Files {
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let file =
            |name: &str| Ok::<_, anyhow::Error>(BufWriter::new(File::create(folder.join(format!("{name}.csv")))?));
        Ok(Self {
            actor: file("actor")?,
            follow: file("follow")?,
            post: file("post")?,
            repost: file("repost")?,
            feed_item: file("feed_item")?,
            record: file("record")?,
        })
    }

    /// Writes what some accounts did, and says how many records that were.
    pub(super) fn write(&mut self, world: &World, job: usize) -> Result<usize> {
        let mut records = 0;
        for account in world.numbers(job) {
            let who = did(account);
            writeln!(self.actor, "{who},a{account}.pages.test,{AT}")?;
            for deed in world.deeds(account).iter().chain(&world.replies(account)) {
                records += 1;
                let (uri, at) =
                    (format!("at://{who}/{}/{}", deed.collection, deed.rkey), datetime::format_ms(deed.at_us));
                // Unique among all records, and as good as another one: nobody looks at it.
                let cid = format!("{CID}{account}x{records}x{job}");
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                match deed.collection {
                    "app.bsky.graph.follow" => {
                        writeln!(self.follow, "{uri},{cid},{who},{},{at},{at}", text(&deed.record["subject"]))?;
                    }
                    "app.bsky.feed.repost" => {
                        let subject = text(&deed.record["subject"]["uri"]);
                        writeln!(self.repost, "{uri},{cid},{who},{subject},{CID},{at},{at}")?;
                        writeln!(self.feed_item, "repost,{uri},{cid},{subject},{who},{at}")?;
                    }
                    _ => {
                        let reply = &deed.record["reply"];
                        let (root, parent) = (text(&reply["root"]["uri"]), text(&reply["parent"]["uri"]));
                        writeln!(
                            self.post,
                            "{uri},{cid},{who},{},{root},{parent},{at},{at}",
                            text(&deed.record["text"])
                        )?;
                        writeln!(self.feed_item, "post,{uri},{cid},{uri},{who},{at}")?;
                        let json = deed.record.to_string().replace('"', "\"\"");
                        writeln!(self.record, "{uri},{cid},{who},\"{json}\",{at}")?;
                    }
                }
            }
        }
        Ok(records)
    }

    pub(super) fn flush(mut self) -> Result<()> {
        for file in
            [&mut self.actor, &mut self.follow, &mut self.post, &mut self.repost, &mut self.feed_item, &mut self.record]
        {
            file.flush()?;
        }
        Ok(())
    }

    /// Fills the reference's tables.
    pub(super) fn load(reference: &Reference, folder: &Path) -> Result<()> {
        for (table, columns) in TABLES {
            reference.copy(folder, table, columns)?;
        }
        reference
            .sql("vacuum analyze bench.actor, bench.follow, bench.post, bench.repost, bench.feed_item, bench.record;")
    }
}
