use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    feeds::{self, IS_QUOTE, IS_REPLY, POST_ITEM, REPOST_ITEM},
    graph::Graph,
    tables,
    testing::{NOW_US, World, at, did},
};

const MINUTE_US: i64 = 60_000_000;

/// A window over an empty store, with names of its own.
fn alone(store: &Store, bytes_max: u64) -> Arc<Window> {
    Window::over_empty(store, &Names::new(1 << 30), bytes_max)
}

/// What a row of `recent` says: time, tie, author, type and record key, in the order of pages; with its flags.
type Model = BTreeMap<(Place, u32, String, Vec<u8>), u8>;

fn key(us: i64, tie: u32, author: &str, kind: u8, rkey: &str) -> Key {
    Key::of(&RECENT)
        .atom(&hour_of(us).to_be_bytes())
        .cluster()
        .micros_desc(us)
        .u32_desc(tie)
        .atom(&atom::did(author))
        .tag(kind)
        .atom(&atom::rkey(rkey))
        .key()
}

fn tail(kind: u8, rkey: &str) -> Vec<u8> {
    let mut tail = vec![kind];
    tail.extend_from_slice(&atom::rkey(rkey));
    tail
}

fn people() -> Vec<String> {
    let mut people: Vec<String> = ["a", "b", "c", "d"].map(did).to_vec();
    people.extend(["did:web:odd.test".to_owned(), format!("did:web:{}.test", "x".repeat(40))]);
    people
}

fn atoms(people: &[String]) -> Vec<Bytes> {
    people.iter().map(|did| Bytes::copy_from_slice(&atom::did(did))).collect()
}

/// Some change of some item: few times and ties, so that many are twins; record keys of all kinds.
fn change(dice: &mut StdRng, model: &mut Model, minutes: i64) -> Batch {
    let people = people();
    let author = &people[dice.random_range(0..people.len())];
    let us = NOW_US - dice.random_range(0..minutes) * MINUTE_US;
    let (tie, kind) = (dice.random_range(0..2), [POST_ITEM, REPOST_ITEM][dice.random_range(0..2)]);
    let rkey = ["3jzfcijpj2z2a", "3jzfcijpj2z2b", "self", "odd.key", "another"][dice.random_range(0..5)];
    let place = (place(us), !tie, author.clone(), tail(kind, rkey));
    let key = key(us, tie, author, kind, rkey);
    let mut batch = Batch::new();
    if dice.random_bool(0.25) {
        model.remove(&place);
        batch.delete(key);
    } else {
        let flags = [0, IS_REPLY, IS_QUOTE, UNBEARABLE][dice.random_range(0..4)];
        model.insert(place, flags);
        batch.put(key, vec![flags]);
    }
    batch
}

/// The page that a model has, of the times that the window holds.
fn expected(
    model: &Model,
    authors: &[String],
    after: Option<&(Place, u32, String, Vec<u8>)>,
    want: usize,
    wanted: Wanted,
    oldest: Place,
) -> Vec<(Place, u32, String, Vec<u8>)> {
    model
        .iter()
        .filter(|((time, _, author, tail), flags)| {
            *time <= oldest
                && authors.contains(author)
                && **flags & UNBEARABLE == 0
                && !(wanted.no_reposts && tail[0] == REPOST_ITEM)
                && !(wanted.no_replies && **flags & IS_REPLY != 0)
                && !(wanted.no_quotes && **flags & IS_QUOTE != 0)
        })
        .map(|(place, _)| place.clone())
        .filter(|place| after.is_none_or(|after| place > after))
        .take(want)
        .collect()
}

/// Pages through a window, and compares each page with the model's.
async fn compare(window: &Window, model: &Model, dice: &mut StdRng) {
    let mut authors = people();
    authors.retain(|_| dice.random_bool(0.7));
    let wanted = Wanted {
        no_replies: dice.random_bool(0.3),
        no_reposts: dice.random_bool(0.3),
        no_quotes: dice.random_bool(0.3),
    };
    let mut last: Option<(Place, u32, String, Vec<u8>)> = None;
    loop {
        let want = dice.random_range(1..6);
        let after = last
            .as_ref()
            .map(|(time, tie, did, tail)| After { place: (*time, *tie), twin: Some((did.as_str(), &tail[..])) });
        let found = window.newest(Authors::Atoms(&atoms(&authors)), after, want, wanted).await;
        let Some(oldest_us) = found.oldest else {
            assert!(last.is_some_and(|last| last.0 > window.holds_to.load(SeqCst)));
            return;
        };
        let page: Vec<_> = found
            .hits
            .iter()
            .map(|hit| {
                let (time, tie) = (hit.position[..8].try_into().unwrap(), hit.position[8..12].try_into().unwrap());
                let author = window.names.dids([hit.author]).unwrap().remove(0);
                (Place::from_be_bytes(time), u32::from_be_bytes(tie), author, hit.position[12..].to_vec())
            })
            .collect();
        assert_eq!(page, expected(model, &authors, last.as_ref(), want, wanted, place(oldest_us)));
        if page.len() < want {
            return;
        }
        last = page.last().cloned();
    }
}

#[tokio::test]
async fn pages_are_those_of_all_items_in_order_whatever_comes_and_goes() {
    for seed in 0..40 {
        let mut dice = StdRng::seed_from_u64(seed);
        let window = alone(&Store::mem(tables::ALL), 1 << 20);
        let mut model = Model::new();
        for _ in 0..12 {
            for _ in 0..dice.random_range(1..60) {
                window.follow(&change(&mut dice, &mut model, 8));
            }
            compare(&window, &model, &mut dice).await;
            assert_eq!(window.figures().items, model.len() as u64);
        }
        for (time, tie, author, tail) in model.into_keys() {
            let mut position = time.to_be_bytes().to_vec();
            position.extend_from_slice(&tie.to_be_bytes());
            position.extend_from_slice(&atom::did(&author));
            position.extend_from_slice(&tail);
            let (author, slot) = Slot::read(&position, 0).unwrap();
            window.remove(window.names.number(author).unwrap(), &slot);
        }
        let figures = window.figures();
        assert_eq!((figures.items, figures.authors, figures.bytes), (0, 0, 0), "nothing is left of what is gone");
    }
}

#[tokio::test]
async fn a_full_window_lets_the_oldest_go_and_says_so() {
    for seed in 0..20 {
        let mut dice = StdRng::seed_from_u64(seed);
        let window = alone(&Store::mem(tables::ALL), 6_000);
        let mut model = Model::new();
        for _ in 0..30 {
            for _ in 0..40 {
                window.follow(&change(&mut dice, &mut model, 3_000));
            }
            let figures = window.figures();
            assert!(figures.bytes <= figures.bytes_max, "{figures:?}");
            compare(&window, &model, &mut dice).await;
        }
        let figures = window.figures();
        assert!(figures.items > 20 && figures.items < model.len() as u64, "{figures:?}");
        assert!(figures.oldest_us.unwrap() > NOW_US - 3_000 * MINUTE_US);
    }
}

#[tokio::test]
async fn a_window_is_filled_from_the_rows_and_what_went_meanwhile_does_not_come_back() {
    let world = World::new();
    let mut dice = StdRng::seed_from_u64(7);
    let mut model = Model::new();
    for _ in 0..300 {
        let batch = change(&mut dice, &mut model, 5_000);
        world
            .write(move |view| {
                for change in batch.changes() {
                    match &change.value {
                        Some(value) => view.put(change.key.clone(), value.clone()),
                        None => view.delete(change.key.clone()),
                    }
                }
                Ok(())
            })
            .await;
    }
    let window = Window::over(&world.cx.store, &Names::new(1 << 30), 1 << 20);
    assert_eq!(window.newest(Authors::Atoms(&atoms(&people())), None, 10, Wanted::default()).await, Found::default());
    // As if the row had been read before it went.
    let late = key(NOW_US, 0, &did("late"), POST_ITEM, "3jzfcijpj2z2a");
    let mut batch = Batch::new();
    batch.delete(late.clone());
    window.follow(&batch);
    let (author, slot) = Slot::read(late.clustering(), 0).unwrap();
    window.put(window.names.number(author).unwrap(), slot, Some(0));
    window.fill(&world.cx).await.unwrap();
    let figures = window.figures();
    assert!(figures.ready && figures.items == model.len() as u64, "{figures:?}");
    for _ in 0..20 {
        compare(&window, &model, &mut dice).await;
    }
    let small = Window::over(&world.cx.store, &Names::new(1 << 30), 6_000);
    small.fill(&world.cx).await.unwrap();
    let figures = small.figures();
    assert!(figures.ready && figures.items < model.len() as u64 && figures.bytes <= 6_000, "{figures:?}");
    for _ in 0..20 {
        compare(&small, &model, &mut dice).await;
    }
}

#[tokio::test]
async fn a_window_that_missed_batches_holds_nothing_until_it_is_filled_anew() {
    let world = World::new();
    let mut dice = StdRng::seed_from_u64(11);
    let mut model = Model::new();
    let window = alone(&world.cx.store, 1 << 20);
    for _ in 0..200 {
        let batch = change(&mut dice, &mut model, 5_000);
        world.cx.store.apply_now(&batch).unwrap();
    }
    compare(&window, &model, &mut dice).await;
    // A batch that another process wrote while nobody could tell us: the window still has what went.
    let (place, _) = model.first_key_value().map(|(place, flags)| (place.clone(), *flags)).unwrap();
    let kept = window.newest(Authors::Atoms(&atoms(&people())), None, 1, Wanted::default()).await;
    assert!(kept.oldest.is_some());
    window.drop_all();
    assert_eq!(window.newest(Authors::Atoms(&atoms(&people())), None, 10, Wanted::default()).await, Found::default());
    assert_eq!((window.figures().items, window.figures().bytes, window.figures().ready), (0, 0, false));
    // Nor in a silence, after which it goes on where it was.
    window.fill(&world.cx).await.unwrap();
    window.silent.store(true, SeqCst);
    assert_eq!(window.newest(Authors::Atoms(&atoms(&people())), None, 10, Wanted::default()).await, Found::default());
    window.silent.store(false, SeqCst);
    compare(&window, &model, &mut dice).await;
    window.drop_all();
    // A row that was read before the drop comes late.
    let late = key(NOW_US, 0, &did("late"), POST_ITEM, "3jzfcijpj2z2a");
    let (author, slot) = Slot::read(late.clustering(), 0).unwrap();
    assert!(!window.put(window.names.number(author).unwrap(), slot, Some(0)), "{place:?}");
    window.fill(&world.cx).await.unwrap();
    assert_eq!((window.figures().items, window.figures().ready), (model.len() as u64, true));
    for _ in 0..20 {
        compare(&window, &model, &mut dice).await;
    }
    // And it follows again.
    for _ in 0..100 {
        let batch = change(&mut dice, &mut model, 5_000);
        world.cx.store.apply_now(&batch).unwrap();
    }
    compare(&window, &model, &mut dice).await;
}

#[tokio::test]
async fn when_too_much_goes_while_it_is_filled_the_window_leaves_the_rest_to_the_store() {
    let world = World::new();
    let window = Window::over(&world.cx.store, &Names::new(1 << 30), 1 << 20);
    for n in 0..300_000 {
        let gone = key(NOW_US - n, 0, &format!("did:web:a{n}.test"), POST_ITEM, "self");
        let (author, slot) = Slot::read(gone.clustering(), 0).unwrap();
        window.remove(window.names.number(author).unwrap(), &slot);
    }
    let remembered: usize = window.shards.iter().map(|shard| shard.read().gone.len()).sum();
    assert!(remembered > 100_000 && remembered < 200_000, "{remembered}");
    // One of those that were too many to remember, as if its row had been read before it went.
    let late = key(NOW_US - 299_999, 0, "did:web:a299999.test", POST_ITEM, "self");
    let (author, slot) = Slot::read(late.clustering(), 0).unwrap();
    window.put(window.names.number(author).unwrap(), slot, Some(0));
    window.fill(&world.cx).await.unwrap();
    let figures = window.figures();
    assert_eq!((figures.items, figures.oldest_us), (0, None));
}

#[tokio::test]
async fn a_store_from_before_the_rows_is_held_from_now_on_only() {
    let world = World::new();
    world.actor(&did("old")).await;
    let window = Window::over(&world.cx.store, &Names::new(1 << 30), 1 << 20);
    window.fill(&world.cx).await.unwrap();
    assert_eq!(window.figures().oldest_us, Some(NOW_US + CLOCKS_DIFFER_US));
    // And so it is after the next start.
    let window = Window::over(&world.cx.store, &Names::new(1 << 30), 1 << 20);
    window.fill(&world.cx).await.unwrap();
    assert_eq!(window.figures().oldest_us, Some(NOW_US + CLOCKS_DIFFER_US));
}

#[tokio::test]
async fn timelines_are_the_same_with_much_little_and_no_window() {
    let world = World::new();
    let windows = [1 << 20, 2_000, 0].map(|bytes_max| match bytes_max {
        0 => Window::over(&world.cx.store, world.cx.graph.names(), 1 << 20),
        bytes_max => Window::over_empty(&world.cx.store, world.cx.graph.names(), bytes_max),
    });
    let mut dice = StdRng::seed_from_u64(3);
    let authors: Vec<String> = "abcdefghijkl".chars().map(|letter| did(&format!("writer{letter}"))).collect();
    let me = did("me");
    let mut posts: Vec<String> = Vec::new();
    for (n, author) in authors.iter().enumerate() {
        world.follow(&me, author, &format!("f{n}"), at(0)).await;
    }
    for n in 0..160 {
        // Some are made in the same moment.
        let (author, time) = (&authors[dice.random_range(0..authors.len())], at(i64::from(n / 2) * 3_600));
        let rkey = if n % 9 == 0 {
            format!("odd{n}")
        } else {
            gp_atproto::Tid::from_parts(time as u64, n as u16).text().as_str().to_owned()
        };
        if n % 4 == 3 {
            let post = posts[dice.random_range(0..posts.len())].clone();
            world.repost(author, &post, &rkey, time).await;
        } else {
            posts.push(world.post(author, &rkey, time).await);
        }
    }
    for post in posts.iter().step_by(7) {
        let uri = gp_atproto::aturi::AtUri::record_parts(post).unwrap();
        world.delete(uri.0, uri.1, uri.2, at(1_000_000)).await;
    }
    let mut all = Vec::new();
    let graphs = [Graph::over(&world.cx.store, world.cx.graph.names(), 1 << 20), Arc::clone(&world.cx.graph)];
    for (window, graph) in windows.iter().flat_map(|window| graphs.iter().map(move |graph| (window, graph))) {
        let cx = Cx { window: Arc::clone(window), graph: Arc::clone(graph), ..world.cx.clone() };
        let (mut items, mut cursor) = (Vec::new(), String::new());
        for limit in [1, 2, 3, 7].into_iter().cycle().take(500) {
            let req = gp_proto::GetTimelineRequest { actor_did: me.clone(), limit, cursor, ..Default::default() };
            let page = feeds::get_timeline(&cx, req).await.unwrap();
            items.extend(page.items);
            cursor = page.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        assert!(items.len() > 90, "{}", items.len());
        all.push(items);
    }
    assert_eq!(all.len(), 6);
    assert!(all.iter().all(|items| *items == all[0]));
}
