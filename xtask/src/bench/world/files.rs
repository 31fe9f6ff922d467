//! Rows of the reference's tables, a file each, as its own indexer would have written them.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Result;
use gp_atproto::datetime;
use serde_json::Value;

use super::{Account, Deed};
use crate::bench::filled::{AT, Reference};

/// Tables, and their columns in the files.
const TABLES: [(&str, &str); 12] = [
    ("actor", "did,handle,\"indexedAt\""),
    ("record", "uri,cid,did,json,\"indexedAt\""),
    ("follow", "uri,cid,creator,\"subjectDid\",\"createdAt\",\"indexedAt\""),
    ("actor_block", "uri,cid,creator,\"subjectDid\",\"createdAt\",\"indexedAt\""),
    ("like", "uri,cid,creator,subject,\"subjectCid\",\"createdAt\",\"indexedAt\""),
    ("repost", "uri,cid,creator,subject,\"subjectCid\",\"createdAt\",\"indexedAt\""),
    (
        "post",
        "uri,cid,creator,text,\"replyRoot\",\"replyRootCid\",\"replyParent\",\"replyParentCid\",\"createdAt\",\"indexedAt\"",
    ),
    ("feed_item", "type,uri,cid,\"postUri\",\"originatorDid\",\"sortAt\""),
    ("list", "uri,cid,creator,name,purpose,\"createdAt\",\"indexedAt\""),
    ("list_item", "uri,cid,creator,\"subjectDid\",\"listUri\",\"createdAt\",\"indexedAt\""),
    ("list_block", "uri,cid,creator,\"subjectUri\",\"createdAt\",\"indexedAt\""),
    ("notification", "did,author,\"recordUri\",\"recordCid\",reason,\"reasonSubject\",\"sortAt\""),
];

/// What its indexer counts while it goes.
const COUNTS: &str = r#"
insert into bench.post_agg (uri, "likeCount", "replyCount", "repostCount")
  select uri, sum(likes), sum(replies), sum(reposts) from (
    select subject as uri, count(*) as likes, 0 as replies, 0 as reposts from bench."like" group by 1
    union all select "replyParent", 0, count(*), 0 from bench.post where "replyParent" is not null group by 1
    union all select subject, 0, 0, count(*) from bench.repost group by 1) as counted group by 1;
insert into bench.profile_agg (did, "followersCount", "followsCount", "postsCount")
  select did, sum(followers), sum(follows), sum(posts) from (
    select "subjectDid" as did, count(*) as followers, 0 as follows, 0 as posts from bench.follow group by 1
    union all select creator, 0, count(*), 0 from bench.follow group by 1
    union all select creator, 0, 0, count(*) from bench.post group by 1) as counted group by 1;
"#;

/// The files.
pub(crate) struct Files {
    folder: PathBuf,
    files: Vec<BufWriter<File>>,
}

impl Files {
    /// Empty ones in a folder that is made.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let file = |(table, _): &(&str, &str)| File::create(folder.join(format!("{table}.csv"))).map(BufWriter::new);
        Ok(Self { folder: folder.to_owned(), files: TABLES.iter().map(file).collect::<std::io::Result<_>>()? })
    }

    fn row(&mut self, table: &str, cells: &[&str]) -> Result<()> {
        if let Some(at) = TABLES.iter().position(|(name, _)| *name == table) {
            // An empty cell is null. None of ours has a comma in it, but the record.
            writeln!(self.files[at], "{}", cells.join(","))?;
        }
        Ok(())
    }

    /// Writes what an account did.
    pub(crate) fn write(&mut self, account: &Account) -> Result<()> {
        self.row("actor", &[&account.did, &account.handle, AT])?;
        account.deeds.iter().try_for_each(|deed| self.write_deed(&account.did, deed))
    }

    fn write_deed(&mut self, who: &str, deed: &Deed) -> Result<()> {
        fn of<'a>(value: &'a Value, name: &str) -> &'a str {
            value[name].as_str().unwrap_or_default()
        }
        let (uri, at) = (format!("at://{who}/{}/{}", deed.collection, deed.rkey), datetime::format_ms(deed.at_us));
        let (record, cid) = (&deed.record, deed.cid.as_str());
        let json = format!("\"{}\"", record.to_string().replace('"', "\"\""));
        self.row("record", &[&uri, cid, who, &json, &at])?;
        let subject = &record["subject"];
        let (about, about_uri) = (subject.as_str().unwrap_or_default(), of(subject, "uri"));
        let owner = |uri: &str| uri.split('/').nth(2).unwrap_or_default().to_owned();
        match deed.collection {
            "app.bsky.graph.follow" => {
                self.row("follow", &[&uri, cid, who, about, &at, &at])?;
                self.row("notification", &[about, who, &uri, cid, "follow", "", &at])
            }
            "app.bsky.graph.block" => self.row("actor_block", &[&uri, cid, who, about, &at, &at]),
            "app.bsky.graph.listblock" => self.row("list_block", &[&uri, cid, who, about, &at, &at]),
            "app.bsky.graph.list" => {
                self.row("list", &[&uri, cid, who, of(record, "name"), of(record, "purpose"), &at, &at])
            }
            "app.bsky.graph.listitem" => self.row("list_item", &[&uri, cid, who, about, of(record, "list"), &at, &at]),
            "app.bsky.feed.like" | "app.bsky.feed.repost" => {
                let kind = if deed.collection.ends_with("like") { "like" } else { "repost" };
                self.row(kind, &[&uri, cid, who, about_uri, of(subject, "cid"), &at, &at])?;
                if kind == "repost" {
                    self.row("feed_item", &["repost", &uri, cid, about_uri, who, &at])?;
                }
                let owner = owner(about_uri);
                if owner == who {
                    return Ok(());
                }
                self.row("notification", &[&owner, who, &uri, cid, kind, about_uri, &at])
            }
            _ => {
                let (root, parent) = (&record["reply"]["root"], &record["reply"]["parent"]);
                let reply = [of(root, "uri"), of(root, "cid"), of(parent, "uri"), of(parent, "cid")];
                let text = of(record, "text");
                self.row("post", &[&uri, cid, who, text, reply[0], reply[1], reply[2], reply[3], &at, &at])?;
                self.row("feed_item", &["post", &uri, cid, &uri, who, &at])?;
                let owner = owner(reply[2]);
                if owner.is_empty() || owner == who {
                    return Ok(());
                }
                self.row("notification", &[&owner, who, &uri, cid, "reply", reply[2], &at])
            }
        }
    }

    /// Fills the reference's tables, and removes the files.
    pub(crate) fn load(mut self, reference: &Reference) -> Result<()> {
        self.files.iter_mut().try_for_each(BufWriter::flush)?;
        for (table, columns) in TABLES {
            reference.copy(&self.folder, table, columns)?;
        }
        reference.sql(COUNTS)?;
        reference.sql("vacuum analyze;")?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}
