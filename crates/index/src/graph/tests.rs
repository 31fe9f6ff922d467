use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use gp_proto as proto;
use gp_store::engine::{Local, mem::Mem};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    Cx, feeds, likes, relationships, tables,
    testing::{NOW_US, World, at, did, reference},
};

fn person(n: usize) -> String {
    let letters = b"abcdefghijklmnopqrstuvwxyz234567";
    match n {
        3 => "did:web:odd.test".into(),
        4 => format!("did:web:{}.test", "long".repeat(40)),
        _ => did(&(0..4).map(|at| char::from(letters[n >> (5 * at) & 31])).collect::<String>()),
    }
}

/// Whom everybody follows: by actor and subject, when and by which record.
type Model = BTreeMap<(usize, usize), (i64, usize)>;

fn rows(actor: usize, subject: usize, (us, rkey): (i64, usize)) -> [(Key, Bytes); 2] {
    let (actor, subject, rkey) = (person(actor), person(subject), atom::rkey(&format!("r{rkey}")));
    let by = tables::by_actor(&actor, by::FOLLOW).micros_desc(us).u32_desc(0).atom(&rkey).key();
    let on = tables::on_subject(&subject, on::FOLLOWER).micros_desc(us).u32_desc(0);
    let on = on.atom(&atom::did(&actor)).atom(&rkey).key();
    [(by, Bytes::copy_from_slice(&atom::did(&subject))), (on, Bytes::new())]
}

/// Some changes of follows of some people: begun, ended, and replaced by another record of the same.
fn change(dice: &mut StdRng, model: &mut Model, people: usize, rkeys: &mut usize) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..dice.random_range(1..4) {
        let pair = (dice.random_range(0..people), dice.random_range(0..people));
        let begins = dice.random_bool(0.6);
        let mut changes = Vec::new();
        if let Some(was) = model.remove(&pair) {
            changes.extend(rows(pair.0, pair.1, was).map(|(key, _)| (key, None)));
        }
        if begins {
            *rkeys += 1;
            // Mostly now, sometimes at any time.
            let us = if dice.random_bool(0.97) { NOW_US + *rkeys as i64 } else { NOW_US - dice.random_range(0..1_000) };
            model.insert(pair, (us, *rkeys));
            changes.extend(rows(pair.0, pair.1, (us, *rkeys)).map(|(key, value)| (key, Some(value))));
        }
        // What goes and what comes stand in a batch in the order of keys.
        if dice.random_bool(0.5) {
            changes.reverse();
        }
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
    }
    batch
}

fn see(store: &Store, people: usize) {
    let mut batch = Batch::new();
    for n in 0..people {
        batch.put(crate::actors::key(&person(n)), "");
    }
    store.apply_now(&batch).unwrap();
}

/// Everything that a graph says is what a model says.
fn compare(graph: &Graph, model: &Model, people: usize) {
    assert_eq!(graph.figures().follows, model.len() as u64);
    let mut by_time: Vec<Vec<(std::cmp::Reverse<i64>, String, String)>> = vec![Vec::new(); people];
    for ((actor, subject), (us, rkey)) in model {
        by_time[*actor].push((std::cmp::Reverse(*us), format!("r{rkey}"), person(*subject)));
    }
    for (actor, theirs) in by_time.iter_mut().enumerate() {
        theirs.sort();
        let expected: Vec<String> = theirs.iter().map(|(_, _, did)| did.clone()).collect();
        let mut all = graph.names.dids(graph.followed(&person(actor), usize::MAX).unwrap()).unwrap();
        if let Follows::InOrder(follows) = graph.newest(&person(actor), 1_000).unwrap() {
            assert_eq!(graph.names.dids(follows).unwrap(), expected);
        }
        let mut sorted = expected.clone();
        sorted.sort();
        all.sort();
        assert_eq!(all, sorted);
        for subject in 0..people {
            let pair = (atom::did(&person(actor)), atom::did(&person(subject)));
            let is = graph.are([(&pair.0[..], &pair.1[..])].into_iter()).unwrap();
            assert_eq!(is, [model.contains_key(&(actor, subject))]);
        }
    }
}

#[test]
fn the_graph_is_what_was_applied() {
    let mut in_order = 0;
    for seed in 0..30 {
        let mut dice = StdRng::seed_from_u64(seed);
        let store = Store::mem(tables::ALL);
        let graph = Graph::over_empty(&store, &Names::new(1 << 30), 1 << 30);
        let (mut model, mut rkeys) = (Model::new(), 0);
        for _ in 0..8 {
            for _ in 0..dice.random_range(1..60) {
                store.apply_now(&change(&mut dice, &mut model, 14, &mut rkeys)).unwrap();
            }
            compare(&graph, &model, 14);
        }
        in_order += (0..14).filter(|n| matches!(graph.newest(&person(*n), 1), Some(Follows::InOrder(_)))).count();
        // All of one account at once, as when it is deleted; then all.
        let mut batch = Batch::new();
        for ((actor, subject), was) in model.extract_if(.., |pair, _| pair.0 == 5) {
            rows(actor, subject, was).into_iter().for_each(|(key, _)| batch.delete(key));
        }
        store.apply_now(&batch).unwrap();
        compare(&graph, &model, 14);
        for ((actor, subject), was) in std::mem::take(&mut model) {
            let mut batch = Batch::new();
            rows(actor, subject, was).into_iter().for_each(|(key, _)| batch.delete(key));
            store.apply_now(&batch).unwrap();
        }
        compare(&graph, &model, 14);
        let state = graph.state.read();
        assert!(state.edges.is_bare(), "nothing is left of what is gone");
    }
    assert!(in_order > 30, "{in_order}");
}

#[test]
fn many_followers_become_a_bitmap_and_few_a_list_again() {
    let mut edges = Edges::default();
    let add = |edges: &mut Edges, actor| edges.add(Edge { actor, subject: 7 }, i64::from(actor));
    for actor in (0..6_000).step_by(3) {
        add(&mut edges, actor);
        add(&mut edges, actor);
    }
    assert_eq!((edges.hubs(), edges.count()), (1, 2_000));
    let some: Vec<(u32, u32)> = (0..50).map(|place| (place * 2, 100 - place)).collect();
    let found = |edges: &Edges| {
        let mut found = Vec::new();
        edges.followers_among(7, &some, &mut found);
        found
    };
    let expected: Vec<u32> = some.iter().filter(|(n, _)| n % 3 == 0).map(|(_, place)| *place).collect();
    assert_eq!(found(&edges), expected);
    assert!(edges.has(Edge { actor: 300, subject: 7 }) && !edges.has(Edge { actor: 301, subject: 7 }));
    let mut gone: Vec<Edge> = (300..6_000).map(|actor| Edge { actor, subject: 7 }).collect();
    edges.remove(&mut gone);
    assert_eq!((edges.hubs(), edges.count()), (0, 100));
    assert_eq!(found(&edges), expected);
    let mut gone: Vec<Edge> = (0..300).map(|actor| Edge { actor, subject: 7 }).collect();
    edges.remove(&mut gone);
    assert!(edges.is_bare() && found(&edges).is_empty());
}

/// An engine that lets something happen between what it reads and what it answers.
struct Hooked {
    rows: Arc<Mem>,
    hook: Arc<Mutex<Option<Hook>>>,
}

type Hook = Box<dyn FnMut() + Send>;

impl Hooked {
    fn happen(&self) {
        // Taken out meanwhile: what happens may read as well.
        let taken = self.hook.lock().take();
        if let Some(mut hook) = taken {
            hook();
            *self.hook.lock() = Some(hook);
        }
    }
}

impl Local for Hooked {
    fn get(&self, keys: &[Key]) -> gp_store::Result<Vec<Option<Bytes>>> {
        self.rows.get(keys)
    }

    fn get_one(&self, key: &Key) -> gp_store::Result<Option<Bytes>> {
        self.rows.get_one(key)
    }

    fn scan(&self, scan: &Scan) -> gp_store::Result<Page> {
        // Few at a time, so that much happens between them.
        let scan = &scan.clone().limit(3);
        self.happen();
        let page = self.rows.scan(scan);
        self.happen();
        page
    }

    fn apply(&self, batch: &Batch) -> gp_store::Result<()> {
        self.rows.apply(batch)
    }

    fn sync(&self) -> gp_store::Result<()> {
        self.rows.sync()
    }

    fn bytes_used(&self) -> u64 {
        self.rows.bytes_used()
    }

    fn each(&self, table_id: u8, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> gp_store::Result<()> {
        self.rows.each(table_id, visit)
    }
}

#[test]
fn what_changes_while_it_is_filled_is_not_missed() {
    const PEOPLE: usize = 20;
    for seed in 0..60 {
        let hook = Arc::new(Mutex::new(None::<Hook>));
        let engine = Hooked { rows: Arc::new(Mem::new()), hook: Arc::clone(&hook) };
        let store = Store::over(Box::new(engine), tables::ALL, &gp_store::Config::default());
        // Some are seen later than the walk over the accounts begins.
        see(&store, PEOPLE / 2);
        let world = Arc::new(Mutex::new((StdRng::seed_from_u64(seed), Model::new(), 0)));
        let step = {
            let (store, world) = (store.clone(), Arc::clone(&world));
            move |chance: f64| {
                let (dice, model, rkeys) = &mut *world.lock();
                while dice.random_bool(chance) {
                    store.apply_now(&change(dice, model, PEOPLE, rkeys)).unwrap();
                }
            }
        };
        step(0.98);
        see(&store, PEOPLE - 4);
        let graph = Graph::over(&store, &Names::new(1 << 30), 1 << 30);
        assert!(graph.followed(&person(1), 10).is_none() && graph.newest(&person(1), 10).is_none());
        see(&store, PEOPLE);
        *hook.lock() = Some(Box::new(move || step(0.4)));
        graph.fill(&store).unwrap();
        assert!(graph.ready() && !graph.wants_filling());
        *hook.lock() = None;
        compare(&graph, &world.lock().1, PEOPLE);
        // In a silence it answers nothing, and goes on where it was.
        graph.state.write().silent = true;
        assert!(graph.followed(&person(1), 10).is_none() && graph.newest(&person(1), 10).is_none());
        assert!(graph.followers_among(&person(1), &[]).is_none() && graph.are(std::iter::empty()).is_none());
        graph.state.write().silent = false;
        compare(&graph, &world.lock().1, PEOPLE);
        // Missed batches empty it, and it is filled anew.
        graph.drop_all();
        assert!(graph.wants_filling() && graph.figures().follows == 0);
        graph.fill(&store).unwrap();
        compare(&graph, &world.lock().1, PEOPLE);
    }
}

#[test]
fn what_is_dropped_while_it_is_filled_is_filled_again() {
    let hook = Arc::new(Mutex::new(None::<Hook>));
    let engine = Hooked { rows: Arc::new(Mem::new()), hook: Arc::clone(&hook) };
    let store = Store::over(Box::new(engine), tables::ALL, &gp_store::Config::default());
    see(&store, 10);
    let (mut dice, mut model, mut rkeys) = (StdRng::seed_from_u64(1), Model::new(), 0);
    for _ in 0..100 {
        store.apply_now(&change(&mut dice, &mut model, 10, &mut rkeys)).unwrap();
    }
    let graph = Graph::over(&store, &Names::new(1 << 30), 1 << 30);
    let dropping = Arc::downgrade(&graph);
    let mut scans = 0;
    *hook.lock() = Some(Box::new(move || {
        scans += 1;
        if scans == 5 {
            dropping.upgrade().unwrap().drop_all();
        }
    }));
    graph.fill(&store).unwrap();
    assert!(graph.wants_filling() && graph.followed(&person(1), 10).is_none());
    graph.fill(&store).unwrap();
    compare(&graph, &model, 10);
}

#[test]
fn without_room_it_lets_everything_go_and_says_so() {
    let store = Store::mem(tables::ALL);
    see(&store, 30);
    let (mut dice, mut model, mut rkeys) = (StdRng::seed_from_u64(2), Model::new(), 0);
    let bounds = [(1 << 30, 500_000), (70_000, 1 << 30)];
    let graphs = bounds.map(|(names, bytes)| Graph::over_empty(&store, &Names::new(names), bytes));
    let filled = bounds.map(|(names, bytes)| Graph::over(&store, &Names::new(names), bytes));
    for _ in 0..40_000 {
        let people = if model.len() < 500 { 30 } else { 2_000 };
        store.apply_now(&change(&mut dice, &mut model, people, &mut rkeys)).unwrap();
    }
    see(&store, 2_000);
    for graph in graphs.iter().chain(&filled) {
        graph.fill(&store).unwrap();
        let figures = graph.figures();
        assert!(figures.gave_up && !figures.ready && figures.follows == 0, "{figures:?}");
        assert!(graph.followed(&person(1), 10).is_none() && !graph.wants_filling());
        graph.drop_all();
        assert!(graph.figures().gave_up, "until the next start");
    }
}

/// A world in which people follow, post, repost and like, and change their minds.
async fn lively(dice: &mut StdRng, people: &[String]) -> (World, Vec<String>) {
    let world = World::new();
    let mut posts = Vec::new();
    for person in people {
        posts.push(world.post(person, "p", at(-100)).await);
    }
    step(&world, dice, people, &posts, 250).await;
    (world, posts)
}

async fn step(world: &World, dice: &mut StdRng, people: &[String], posts: &[String], times: usize) {
    static NUMBER: OnceLock<std::sync::atomic::AtomicI64> = OnceLock::new();
    let number = NUMBER.get_or_init(Default::default);
    const FOLLOW: &str = "app.bsky.graph.follow";
    for _ in 0..times {
        let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (actor, subject) =
            (&people[dice.random_range(0..people.len())], &people[dice.random_range(0..people.len())]);
        let post = &posts[dice.random_range(0..posts.len())];
        // Few record keys, so that records are replaced and deleted; several claim the same.
        let (rkey, time) = (format!("k{}", dice.random_range(0..30)), at(n - dice.random_range(0..3) * 1_000));
        let record = serde_json::json!({"subject": subject, "createdAt": crate::testing::iso(time)});
        match dice.random_range(0..10) {
            0..5 => drop(world.op(crate::apply::Action::Create, actor, FOLLOW, &rkey, Some(record), time).await),
            5 => drop(world.op(crate::apply::Action::Update, actor, FOLLOW, &rkey, Some(record), time).await),
            6 => drop(world.op(crate::apply::Action::Delete, actor, FOLLOW, &rkey, None, time).await),
            7 => {
                let like = Some(reference(post, time));
                world.op(crate::apply::Action::Create, actor, "app.bsky.feed.like", &rkey, like, time).await;
            }
            8 => drop(world.repost(actor, post, &rkey, time).await),
            _ => drop(world.post(actor, &rkey, time).await),
        }
    }
}

/// What some calls answer.
async fn answers(cx: &Cx, people: &[String], posts: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    let mut asked: Vec<String> = people.to_vec();
    asked.extend(["junk".into(), String::new(), people[0].clone(), did("unknown")]);
    for actor in &asked {
        let ask = proto::GetFollowsFollowingRequest { actor_did: actor.clone(), target_dids: asked.clone() };
        all.push(format!("{:?}", follows::get_follows_following(cx, ask).await.unwrap()));
        let ask = proto::GetActorFollowsActorsRequest { actor_did: actor.clone(), target_dids: asked.clone() };
        all.push(format!("{:?}", follows::get_actor_follows_actors(cx, ask).await.unwrap()));
        let ask = proto::GetRelationshipsRequest { actor_did: actor.clone(), target_dids: asked.clone() };
        all.push(format!("{:?}", relationships::get_relationships(cx, ask).await.unwrap()));
        let subject_uris = posts.to_vec();
        let ask = proto::GetKnownLikersRequest { actor_did: actor.clone(), subject_uris, limit: 2 };
        all.push(format!("{:?}", likes::get_known_likers(cx, ask).await.unwrap()));
        let mut cursor = String::new();
        for _ in 0..20 {
            let ask = proto::GetTimelineRequest { actor_did: actor.clone(), limit: 7, cursor, ..Default::default() };
            let page = feeds::get_timeline(cx, ask).await.unwrap();
            cursor = page.cursor.clone();
            all.push(format!("{page:?}"));
            if cursor.is_empty() {
                break;
            }
        }
    }
    all
}

#[tokio::test]
async fn calls_answer_the_same_with_and_without_a_graph() {
    for seed in 0..6 {
        let mut dice = StdRng::seed_from_u64(seed);
        let people: Vec<String> = (0..9).map(person).collect();
        let (world, posts) = lively(&mut dice, &people).await;
        let names = world.cx.graph.names();
        let none = Graph::over(&world.cx.store, names, 1 << 30);
        let filled = Graph::over(&world.cx.store, names, 1 << 30);
        let filling = {
            let (filled, store) = (Arc::clone(&filled), world.cx.store.clone());
            std::thread::spawn(move || filled.fill(&store))
        };
        step(&world, &mut dice, &people, &posts, 20).await;
        filling.join().unwrap().unwrap();
        let mut unordered = 0;
        for round in 0..3 {
            let without = answers(&Cx { graph: Arc::clone(&none), ..world.cx.clone() }, &people, &posts).await;
            assert!(without.iter().map(String::len).sum::<usize>() > 10_000);
            for graph in [&world.cx.graph, &filled] {
                assert!(graph.ready());
                let order = |did: &String| matches!(graph.newest(did, 1), Some(Follows::InOrder(_)));
                unordered += people.iter().filter(|did| !order(did)).count();
                let with = answers(&Cx { graph: Arc::clone(graph), ..world.cx.clone() }, &people, &posts).await;
                for (with, without) in with.iter().zip(&without) {
                    assert_eq!(with, without, "seed {seed}, round {round}");
                }
                assert!(people.iter().all(order), "whoever was asked about is in order");
            }
            step(&world, &mut dice, &people, &posts, 30).await;
        }
        assert!(unordered > 3, "{unordered}");
        let followed: BTreeSet<u32> = world.cx.graph.followed(&people[0], 100).unwrap().into_iter().collect();
        assert_eq!(followed.len(), world.cx.graph.followed(&people[0], 100).unwrap().len());
    }
}
