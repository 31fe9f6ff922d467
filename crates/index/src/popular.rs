//! Who is followed most, and which feed generators are liked most.
//!
//! A board lists its subjects in steps of powers of two of their count, largest first. A subject changes its place only
//! when its count passes a power of two, so the boards follow the counts in the same write and cost next to nothing.
//! Whoever reads a board takes the highest steps and asks for the exact counts of those.

use gp_store::{Key, Scan, View};

use crate::{
    Cx, Error, Result,
    atom::Parts,
    counts::{Head, OnCount},
    generators,
    placed::collection_of,
    tables::{self, ON, POPULAR},
};

/// Rows of a board that one read looks at.
const ROWS_LOOKED_MAX: usize = 1_000;

/// The boards. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Board {
    /// Accounts, by followers.
    Accounts = 1,
    /// Feed generators, by likes.
    Feeds = 2,
}

impl Board {
    const ALL: [Self; 2] = [Self::Accounts, Self::Feeds];

    fn cell(self) -> OnCount {
        match self {
            Self::Accounts => OnCount::Followers,
            Self::Feeds => OnCount::Likes,
        }
    }

    /// Counts below this are not listed. Nearly every account has some followers, so those with few would make the
    /// board long and would never be read; feed generators are few.
    fn listed_from(self) -> u64 {
        match self {
            Self::Accounts => 16,
            Self::Feeds => 1,
        }
    }

    fn step(self, head: &Head) -> Option<u8> {
        let count = head.get(self.cell() as u8);
        // At most 63.
        (count >= self.listed_from()).then(|| count.ilog2() as u8)
    }

    /// Whether a subject, as it is kept in keys, belongs on this board at all.
    fn lists(self, subject: &[u8]) -> bool {
        match self {
            // Followers are counted for whatever text a follow names; only accounts are read back as DIDs.
            Self::Accounts => Parts::of(ON.name, subject).did().is_ok_and(|did| did.starts_with("did:")),
            Self::Feeds => {
                Parts::of(ON.name, subject).uri().is_ok_and(|uri| collection_of(&uri) == Some(generators::NSID))
            }
        }
    }

    fn key(self, step: u8, subject: &[u8]) -> Key {
        Key::of(&POPULAR).tag(self as u8).cluster().tag(!step).atom(subject).key()
    }
}

/// Keeps the boards as the counts of a head change.
pub(crate) fn follow_counts(view: &mut View<'_>, head: &Key, before: &Head, after: &Head) {
    if head.table_id() != ON.id || !head.clustering().is_empty() {
        return;
    }
    for board in Board::ALL {
        let (was, is) = (board.step(before), board.step(after));
        if was == is || !board.lists(head.partition()) {
            continue;
        }
        if let Some(step) = was {
            view.delete(board.key(step, head.partition()));
        }
        if let Some(step) = is {
            view.put(board.key(step, head.partition()), "");
        }
    }
}

/// The subjects highest on a board with their exact counts, the largest first and then in order of their names.
pub(crate) async fn highest(cx: &Cx, board: Board) -> Result<Vec<(String, u64)>> {
    let partition = Key::of(&POPULAR).tag(board as u8).partition();
    let page = cx.store.scan(Scan::of(partition).limit(ROWS_LOOKED_MAX)).await?;
    let mut subjects = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        let subject = row.clustering().get(1..).ok_or(Error::Corrupt { table: POPULAR.name, what: "subject" })?;
        subjects.push(Parts::of(POPULAR.name, subject).uri()?);
    }
    counted(cx, board, subjects).await
}

/// Subjects with their counts for a board, the largest first and then in order of their names.
pub(crate) async fn counted(cx: &Cx, board: Board, subjects: Vec<String>) -> Result<Vec<(String, u64)>> {
    let heads: Vec<Key> = subjects.iter().map(|subject| tables::on_head(subject)).collect();
    let heads = cx.store.get(&heads).await?;
    let count = |head: Option<bytes::Bytes>| Head::read(head.as_ref()).get(board.cell() as u8);
    let mut found: Vec<(String, u64)> = subjects.into_iter().zip(heads.into_iter().map(count)).collect();
    found.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, at, did};

    async fn rows(world: &World) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for board in Board::ALL {
            let partition = Key::of(&POPULAR).tag(board as u8).partition();
            let page = world.cx.store.scan(Scan::of(partition)).await.unwrap();
            found.extend(page.rows.iter().map(|row| row.key.bytes().to_vec()));
        }
        found
    }

    #[tokio::test]
    async fn a_board_follows_the_counts_up_and_down_and_keeps_one_row_a_subject() {
        let world = World::new();
        let (star, feed) = (did("star"), format!("at://{}/{}/f", did("maker"), generators::NSID));
        let post = world.post(&did("maker"), "p", at(0)).await;
        for i in 0..40u32 {
            let fan = format!("did:web:fan{i}.test");
            world.follow(&fan, &star, "f", at(0)).await;
            // Not a board of its own: likes of posts, followers of what is no account.
            world.like(&fan, &post, "p", at(0)).await;
            if i < 5 {
                world.like(&fan, &feed, "l", at(0)).await;
            }
        }
        assert_eq!(highest(&world.cx, Board::Accounts).await.unwrap(), [(star.clone(), 40)]);
        assert_eq!(highest(&world.cx, Board::Feeds).await.unwrap(), [(feed.clone(), 5)]);
        assert_eq!(rows(&world).await.len(), 2);
        for i in 0..25u32 {
            world.delete(&format!("did:web:fan{i}.test"), "app.bsky.graph.follow", "f", at(1)).await;
        }
        assert!(highest(&world.cx, Board::Accounts).await.unwrap().is_empty(), "15 are too few");
        world.follow("did:web:fan1.test", &star, "g", at(2)).await;
        assert_eq!(highest(&world.cx, Board::Accounts).await.unwrap(), [(star, 16)]);
        for i in 0..5u32 {
            world.delete(&format!("did:web:fan{i}.test"), "app.bsky.feed.like", "l", at(3)).await;
        }
        assert_eq!(rows(&world).await.len(), 1);
    }

    #[tokio::test]
    async fn the_largest_count_comes_first_whatever_the_step() {
        let world = World::new();
        let feeds: Vec<String> =
            ["a", "b", "c"].iter().map(|k| format!("at://{}/{}/{k}", did("maker"), generators::NSID)).collect();
        for (feed, likes) in feeds.iter().zip([4, 7, 9]) {
            for i in 0..likes {
                world.like(&format!("did:web:fan{i}.test"), feed, &feed[feed.len() - 1..], at(0)).await;
            }
        }
        let found = highest(&world.cx, Board::Feeds).await.unwrap();
        assert_eq!(found, [(feeds[2].clone(), 9), (feeds[1].clone(), 7), (feeds[0].clone(), 4)]);
    }
}
