//! What is served: a folder with posts, written as ingest would write them but without a network.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use bytes::Bytes;
use gp_atproto::json;
use gp_index::{
    actors,
    apply::{Action, Applied, Op, apply_op},
    tables,
};
use gp_proto as proto;
use gp_store::{Batch, Config, Store, Writer, WriterConfig};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::wire;

/// Where calls for posts go.
pub const GET_POSTS: &str = "/bsky.Service/GetPostRecords";

/// Accounts that write the posts.
const AUTHORS: usize = 200;
/// Posts applied in one write.
const POSTS_PER_WRITE: usize = 1_000;
/// Letters of a DID of the directory, and of a record key.
const LETTERS: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
/// 2026-04-01, in microseconds since 1970.
const BEGIN_US: i64 = 1_775_001_600_000_000;
/// Of the requests of W0: keys in each, one after the other; the median is 12.
const SMALL_KEYS: [usize; 12] = [1, 12, 5, 25, 12, 3, 18, 8, 40, 12, 10, 50];
/// How uneven the choice of keys is: Zipf's exponent.
const ZIPF: f64 = 0.99;

/// A folder of posts.
#[derive(Debug, Clone)]
pub struct Posts {
    /// Their addresses, in the order of how often they are asked for.
    pub uris: Vec<String>,
    /// Addresses of posts of about 64 KiB each.
    pub giants: Vec<String>,
}

fn letters(mut number: u64, len: usize) -> String {
    let mut text = vec![b'2'; len];
    for at in (0..len).rev() {
        text[at] = LETTERS[(number % 32) as usize];
        number /= 32;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn did(author: usize) -> String {
    // Spread over the letters, as real ones are.
    format!("did:plc:{}", letters((author as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15), 24))
}

/// The address of a post.
fn uri(n: usize) -> String {
    format!("at://{}/app.bsky.feed.post/3l{}", did(n % AUTHORS), letters(n as u64, 11))
}

fn giant_uri(n: usize) -> String {
    format!("at://{}/app.bsky.feed.post/3m{}", did(0), letters(n as u64, 11))
}

/// A post with a text and as many bytes in a property that no lexicon knows, which is allowed: texts are short.
fn record(n: usize, bytes: usize) -> serde_json::Value {
    const SENTENCE: &str = "The store answers what it has been told, in the order in which it was asked. ";
    let beside: String = SENTENCE.chars().cycle().take(bytes).collect();
    serde_json::json!({
        "$type": "app.bsky.feed.post",
        "text": format!("{n}: {SENTENCE}"),
        "langs": ["en"],
        "drill": beside,
        "createdAt": gp_atproto::datetime::format_ms(BEGIN_US + n as i64 * 1_000_000),
    })
}

/// Bytes that make an ordinary post of a drill about 600 bytes long, and a giant one 64 KiB.
const TEXT_BYTES: usize = 380;
const GIANT_BYTES: usize = 63 << 10;

/// Puts bytes that are no row of ours where the row of a post stands, in a folder that nobody has open.
///
/// # Errors
///
/// The address is none of a post, or the folder cannot be written to.
pub fn poison(dir: &Path, uri: &str) -> Result<()> {
    let key = gp_index::records::key_of(uri).with_context(|| format!("{uri} is no address of a record"))?;
    let store = Store::lsm(dir, tables::ALL, &Config { disk_reserve_bytes: 0, ..Config::default() })?;
    let mut batch = Batch::new();
    batch.put(key, b"poison".to_vec());
    Ok(store.apply_now(&batch)?)
}

/// Writes a folder with `posts` posts and `giants` large ones.
///
/// # Errors
///
/// The folder cannot be written to.
pub async fn fill(dir: &Path, posts: usize, giants: usize) -> Result<Posts> {
    let store = Store::lsm(dir, tables::ALL, &Config { disk_reserve_bytes: 0, ..Config::default() })?;
    let (writer, thread) = Writer::start(store.clone(), WriterConfig::default())?;
    let mut wanted: Vec<(String, usize, usize)> = (0..posts).map(|n| (uri(n), n, TEXT_BYTES)).collect();
    wanted.extend((0..giants).map(|n| (giant_uri(n), n, GIANT_BYTES)));
    let authors = move |view: &mut gp_store::View<'_>| -> gp_index::Result<()> {
        (0..AUTHORS).try_for_each(|author| actors::touch(view, &did(author), BEGIN_US).map(drop))
    };
    writer.run(authors).await.context("the accounts cannot be written")?;
    let mut rest = wanted.into_iter();
    loop {
        let part: Vec<_> = rest.by_ref().take(POSTS_PER_WRITE).collect();
        if part.is_empty() {
            break;
        }
        let applied = writer.run(move |view| -> gp_index::Result<Option<String>> {
            let mut applied = Applied::default();
            for (uri, n, bytes) in &part {
                let Some((did, collection, rkey)) = gp_index::placed::split_uri(uri) else { continue };
                let block = json::to_cbor(&record(*n, *bytes)).unwrap_or_default();
                let cid = gp_atproto::Cid::for_dag_cbor(&block);
                let op = Op { action: Action::Create, collection, rkey, cid: Some(cid), record: Some(&block) };
                apply_op(view, did, "3l22222222222", &op, BEGIN_US + *n as i64, &mut applied)?;
            }
            Ok(applied.dropped.pop().map(|it| it.detail))
        });
        let dropped = applied.await.context("the posts cannot be written")?;
        anyhow::ensure!(dropped.is_none(), "a post was not accepted: {}", dropped.unwrap_or_default());
    }
    drop(writer);
    drop(store);
    anyhow::ensure!(thread.join().is_ok(), "the writer failed");
    Ok(Posts { uris: (0..posts).map(uri).collect(), giants: (0..giants).map(giant_uri).collect() })
}

/// Copies a folder, for a second instance.
///
/// # Errors
///
/// Reading or writing fails.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A request for posts, framed.
pub fn asking<S: Into<String>>(uris: impl IntoIterator<Item = S>) -> Bytes {
    let uris = uris.into_iter().map(Into::into).collect();
    wire::framed(&proto::GetPostRecordsRequest { uris, ..Default::default() })
}

/// Requests, framed, and how many keys each has.
pub type Requests = std::sync::Arc<Vec<(Bytes, u32)>>;

impl Posts {
    /// Requests of W0: 1 to 50 keys, median 12, a few keys wanted far more than the others, one key of twenty absent.
    pub fn small(&self, requests: usize, seed: u64) -> Requests {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut sums = Vec::with_capacity(self.uris.len());
        let mut sum = 0.0;
        for rank in 1..=self.uris.len() {
            sum += (rank as f64).powf(-ZIPF);
            sums.push(sum);
        }
        let pick = |dice: &mut StdRng| {
            let wanted = dice.random::<f64>() * sum;
            sums.partition_point(|until| *until < wanted).min(self.uris.len() - 1)
        };
        let request = |n: usize| {
            let keys = SMALL_KEYS[n % SMALL_KEYS.len()];
            let mut uris: Vec<String> = (0..keys).map(|_| self.uris[pick(&mut dice)].clone()).collect();
            if n.is_multiple_of(SMALL_KEYS.len()) {
                // Absent: as many in twenty as a memory would miss.
                uris[0] = format!("{}z", uris[0]);
            }
            (asking(uris), keys as u32)
        };
        std::sync::Arc::new((0..requests).map(request).collect())
    }

    /// Requests of `keys` distinct keys each, from another place in the list each time.
    pub fn large(&self, requests: usize, keys: usize) -> Requests {
        let request = |n: usize| {
            let from = n * 7_919;
            let uris = (from..from + keys).map(|at| self.uris[at % self.uris.len()].clone());
            (asking(uris), keys as u32)
        };
        std::sync::Arc::new((0..requests).map(request).collect())
    }
}

/// Whether an answer has an entry for each key.
pub fn has_an_entry_for_each(message: &[u8], keys: usize) -> bool {
    <proto::GetPostRecordsResponse as prost::Message>::decode(message).is_ok_and(|it| it.records.len() == keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ_and_requests_of_w0_have_their_median() {
        let uris: std::collections::BTreeSet<String> = (0..5_000).map(uri).collect();
        assert_eq!(uris.len(), 5_000);
        let posts = Posts { uris: uris.into_iter().collect(), giants: Vec::new() };
        let requests = posts.small(120, 1);
        let mut keys: Vec<u32> = requests.iter().map(|(_, keys)| *keys).collect();
        keys.sort_unstable();
        assert_eq!((keys[0], keys[60], keys[119]), (1, 12, 50));
        assert_eq!(posts.large(3, 20_000)[2].1, 20_000);
    }

    #[tokio::test]
    async fn a_filled_folder_answers_for_every_address() {
        let dir = tempfile::tempdir().unwrap();
        let posts = fill(dir.path(), 300, 2).await.unwrap();
        let store = Store::lsm(dir.path(), tables::ALL, &Config::default()).unwrap();
        let keys: Vec<_> =
            posts.uris.iter().chain(&posts.giants).map(|uri| gp_index::records::key_of(uri).unwrap()).collect();
        assert!(store.get(&keys).await.unwrap().iter().all(Option::is_some));
    }
}
