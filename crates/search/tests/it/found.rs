//! What is found by what, and what is not found any more.

use gp_index::{Error, apply::Action, moderation};
use gp_proto as proto;
use serde_json::json;

use crate::rig::{ANY_CID, POST, World, ask, at, did, iso, params};

fn filters(fill: impl FnOnce(&mut proto::PostsFilters)) -> Option<proto::PostsFilters> {
    let mut filters = proto::PostsFilters::default();
    fill(&mut filters);
    Some(filters)
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_are_found_by_words_in_any_script_newest_first() {
    let world = World::new().await;
    let (alice, bob) = (world.actor("alice", "alice.test").await, world.actor("bob", "bob.test").await);
    let mut at_s = 0;
    let mut uris = Vec::new();
    for (who, text) in [
        (&alice, "Zyzzyva sat on the fence"),
        (&bob, "another zyzzyva, and a grasshopper"),
        (&bob, "昨日、東京タワーに行きました"),
        (&bob, "今天天气很好"),
        (&alice, "한국어를 배우는 고양이"),
        (&alice, "ฉันพูดภาษาไทยได้"),
        (&alice, "السَّلَامُ عليكم"),
        (&alice, "l'amour toujours, ça va"),
    ] {
        at_s += 1;
        uris.push(world.post(who, &format!("r{at_s}"), text, at(at_s)).await);
    }
    world.settle().await;
    for (term, expected) in [
        ("zyzzyva", vec![1, 0]),
        ("ZYZZYVA fence", vec![0]),
        ("zyzzyva from:bob.test", vec![1]),
        ("zyzzyva from:@BOB.test", vec![1]),
        ("zyzzyva author:nobody.test", vec![]),
        ("zyzzyva from:", vec![]),
        ("\"the fence\"", vec![0]),
        ("\"fence the\"", vec![]),
        ("zyzzyva -grasshopper", vec![0]),
        ("東京", vec![2]),
        ("タワー", vec![2]),
        ("天气", vec![3]),
        ("天", vec![3]),
        ("한국", vec![4]),
        ("ภาษาไทย", vec![5]),
        ("السلام", vec![6]),
        ("amour CA", vec![7]),
        ("!!!", vec![]),
        ("zyzzyv", vec![]),
        ("since:2025-06-02 zyzzyva", vec![]),
        ("until:2025-06-02 zyzzyva", vec![1, 0]),
    ] {
        let expected: Vec<String> = expected.into_iter().map(|i: usize| uris[i].clone()).collect();
        assert_eq!(world.posts(term).await, expected, "{term}");
    }
    assert_eq!(world.posts(&format!("zyzzyva {alice}")).await, [uris[0].clone()]);
    assert_eq!(world.posts(&format!("zyzzyva from:{bob}")).await, [uris[1].clone()]);
    assert_eq!(world.posts("").await.len(), uris.len());
    assert_eq!(world.posts(&format!("{} zyzzyva", did("nobody"))).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_the_second_generation() {
    let world = World::new().await;
    let alice = world.actor("alice", "alice.test").await;
    let bob = world.actor("bob", "bob.test").await;
    let root = world.post(&alice, "root", "the root of kumquats", at(-2)).await;
    let record = json!({
        "text": "kumquats with everything #Inline", "createdAt": iso(at(-1)), "langs": ["pt-BR", "en"], "tags": ["Hidden Tag"],
        "reply": {"root": {"uri": root, "cid": ANY_CID}, "parent": {"uri": root, "cid": ANY_CID}},
        "facets": [
            {"index": {"byteStart": 0, "byteEnd": 1}, "features": [{"$type": "app.bsky.richtext.facet#mention", "did": alice}]},
            {"index": {"byteStart": 1, "byteEnd": 2}, "features": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://www.Example.com/a/?q=1#top"}]},
            {"index": {"byteStart": 2, "byteEnd": 3}, "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "Citrus"}]},
        ],
        "embed": {"$type": "app.bsky.embed.record", "record": {"uri": root, "cid": ANY_CID}},
    });
    let full = world.create(&bob, POST, "full", record, at(-1)).await;
    let old = world.post(&bob, "old", "old kumquats", at(-40 * 24 * 3600)).await;
    world.follow(&alice, &bob, "f").await;
    world.settle().await;

    let found = async |ask: proto::SearchPostsV2Request| {
        let found = world.posts_v2(ask).await.unwrap();
        assert!(found.page_info.unwrap().hits_total >= found.posts.len() as i64);
        assert!(found.posts.windows(2).all(|two| two[0].score >= two[1].score));
        found.posts.into_iter().map(|it| it.uri).collect::<Vec<_>>()
    };
    let all = [full.clone(), root.clone(), old.clone()];
    assert_eq!(found(ask("kumquats")).await, all);
    assert_eq!(found(proto::SearchPostsV2Request { all_time: None, ..ask("kumquats") }).await, all[..2]);
    type Fill = fn(&mut proto::PostsFilters, &str);
    let own: [(&str, &str, Fill); 9] = [
        ("author", "bob.test", |it, v| it.authors = vec![v.into()]),
        ("mention", "@Alice.test", |it, v| it.mentions = vec![v.into()]),
        ("domain", "example.com", |it, v| it.domains = vec![v.into()]),
        ("domain of a link", "https://www.example.com/other", |it, v| it.domains = vec![v.into()]),
        ("url", "http://example.com/a/?q=1", |it, v| it.urls = vec![v.into()]),
        ("embed", root.as_str(), |it, v| it.embedded_at_uris = vec![v.into()]),
        ("tag", "citrus", |it, v| it.hashtags = vec!["nothing".into(), v.into()]),
        ("tag of the text", "INLINE", |it, v| it.hashtags = vec![v.into()]),
        ("language", "pt", |it, v| it.languages = vec![v.into()]),
    ];
    for (what, value, fill) in own {
        let with = proto::SearchPostsV2Request { filters: filters(|it| fill(it, value)), all_time: None, ..ask("") };
        assert_eq!(found(with).await, [full.clone()], "{what}");
        let without = proto::SearchPostsV2Request { exclude: filters(|it| fill(it, value)), ..ask("kumquats") };
        assert!(!found(without).await.contains(&full), "{what}");
    }
    let full_only = [full.clone()];
    for request in [
        proto::SearchPostsV2Request { reply_parent_uri: Some(root.clone()), ..ask("") },
        proto::SearchPostsV2Request { thread_root_uri: Some(root.clone()), ..ask("") },
        proto::SearchPostsV2Request { replies_only: Some(true), ..ask("kumquats") },
        ask("#citrus kumquats"),
        ask("lang:pt kumquats"),
        ask("domain:example.com"),
        ask("mentions:alice.test"),
        ask("to:alice.test -root"),
    ] {
        assert_eq!(found(request.clone()).await, full_only, "{request:?}");
    }
    assert_eq!(found(proto::SearchPostsV2Request { exclude_replies: Some(true), ..ask("kumquats") }).await, all[1..]);
    assert_eq!(found(proto::SearchPostsV2Request { has_media: Some(false), ..ask("kumquats") }).await, all);
    assert_eq!(found(proto::SearchPostsV2Request { has_media: Some(true), ..ask("kumquats") }).await, [""; 0]);
    let moment = |us: i64| Some(gp_index::records::timestamp(us));
    // The first moment is in, the last one is not.
    let between = proto::SearchPostsV2Request { since: moment(at(-2)), until: moment(at(-1)), ..ask("kumquats") };
    assert_eq!(found(between).await, [root.clone()]);
    let viewer = |name: &str| Some(proto::SearchParams { viewer: name.to_owned(), ..params("kumquats", 100, "") });
    let following = |name: &str| proto::SearchPostsV2Request { following: Some(true), params: viewer(name), ..ask("") };
    assert_eq!(found(following(&alice)).await, [full.clone(), old.clone()]);
    assert_eq!(found(following(&bob)).await, [""; 0]);
    let unknown = filters(|it| it.authors = vec!["nobody.test".into()]);
    assert_eq!(found(proto::SearchPostsV2Request { filters: unknown, ..ask("kumquats") }).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_with_a_reason() {
    let world = World::new().await;
    let refused = [
        ask(""),
        proto::SearchPostsV2Request { exclude_replies: Some(true), replies_only: Some(true), ..ask("x") },
        proto::SearchPostsV2Request { following: Some(true), ..ask("x") },
        proto::SearchPostsV2Request { params: Some(params("x", 10, "nonsense")), ..ask("") },
        proto::SearchPostsV2Request { query_language: Some(99), ..ask("x") },
        proto::SearchPostsV2Request { sort: 99, ..ask("x") },
    ];
    for request in refused {
        match world.posts_v2(request.clone()).await {
            Err(Error::Invalid { why, .. }) => assert!(!why.is_empty()),
            other => panic!("{request:?} was answered {other:?}"),
        }
    }
    let languages = async |query: &str, forced| {
        let request = proto::SearchPostsV2Request { query_language: forced, ..ask(query) };
        world.posts_v2(request).await.unwrap().detected_query_languages
    };
    assert_eq!(languages("東京", None).await, ["zh", "ja"]);
    assert_eq!(languages("東京", Some(proto::SearchQueryLanguage::Ja as i32)).await, ["ja"]);
    assert_eq!(languages("tokyo", None).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_by_handle_then_name_then_words_and_the_followed_first() {
    let world = World::new().await;
    let exact = world.actor("a", "fox.test").await;
    let longer = world.actor("b", "fox.test.example").await;
    let begins = world.actor("c", "foxglove.test").await;
    let named = world.actor("d", "den.test").await;
    let known = world.actor("e", "hill.test").await;
    let about = world.actor("f", "wood.test").await;
    world.profile(&named, "Arctic Foxes", "").await;
    world.profile(&known, "Red Foxes", "").await;
    world.profile(&about, "Woods", "I like a fox").await;
    for (i, who) in [&exact, &named, &begins].iter().enumerate() {
        world.follow(who, &known, &format!("f{i}")).await;
    }
    world.settle().await;
    assert_eq!(world.actors("@FOX.test").await, [exact.clone(), longer.clone()]);
    assert_eq!(world.actors("foxes").await, [known.clone(), named.clone()]);
    assert_eq!(world.actors("arctic fox").await, [named.clone()]);
    let all = world.actors("fox").await;
    let place = |did: &String| all.iter().position(|it| it == did).unwrap();
    assert!(place(&exact) < place(&known) && place(&longer) < place(&known) && place(&begins) < place(&known));
    assert!(place(&known) < place(&named) && place(&named) < place(&about));
    assert_eq!(world.actors(&named).await, [named.clone()]);
    assert_eq!(world.actors("").await.len(), 6);

    let typeahead = async |query: &str, limit| {
        let params = Some(proto::SearchTypeaheadParams { query: query.to_owned(), viewer: String::new(), limit });
        let found =
            gp_index::search::search_actors_typeahead(&world.cx, proto::SearchActorsTypeaheadRequest { params });
        found.await.unwrap().actors.into_iter().map(|it| it.did).collect::<Vec<_>>()
    };
    assert_eq!(typeahead("arct", 0).await, [named.clone()]);
    assert_eq!(typeahead("foxg", 0).await, [begins.clone()]);
    assert_eq!(typeahead("  ", 0).await, [""; 0]);
    // Not by the description while somebody types.
    assert!(!typeahead("fox", 0).await.contains(&about));
    assert_eq!(typeahead("fox", 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_changed_or_taken_down() {
    let world = World::new().await;
    let (alice, bob) = (world.actor("alice", "alice.test").await, world.actor("bob", "bob.test").await);
    let post = world.post(&alice, "r", "quagga one", at(0)).await;
    let other = world.post(&bob, "r", "quagga two", at(1)).await;
    world.settle().await;

    // A deleted record is never found again, whether the index knows already or not.
    world.delete(&bob, POST, "r").await;
    assert_eq!(world.posts("quagga").await, [post.clone()]);
    world.settle().await;
    assert_eq!(world.posts("quagga").await, [post.clone()]);

    // An edited one is found as it is now.
    let edited = json!({"text": "zebra one", "createdAt": iso(at(0))});
    world.op(Action::Update, &alice, POST, "r", Some(edited), at(5)).await;
    world.settle().await;
    assert_eq!(world.posts("quagga").await, [""; 0]);
    assert_eq!(world.posts("zebra").await, [post.clone()]);

    // Post search never shows what is taken down, of a record or of its author; account search leaves that to the
    // AppView, which shows it to moderators.
    let takedown = async |subject: &str, record: bool, on: bool| {
        let subject = subject.to_owned();
        world
            .write(move |view| {
                let record = record.then(|| subject.clone());
                moderation::set(view, moderation::key_of_subject(&subject), record.as_deref(), on.then_some("x"), 0)
            })
            .await;
    };
    takedown(&post, true, true).await;
    assert_eq!(world.posts("zebra").await, [""; 0]);
    takedown(&post, true, false).await;
    assert_eq!(world.posts("zebra").await, [post.clone()]);
    takedown(&alice, false, true).await;
    assert_eq!(world.posts("zebra").await, [""; 0]);
    assert_eq!(world.actors("alice.test").await, [alice.clone()]);
    let params = Some(proto::SearchTypeaheadParams { query: "alice".into(), viewer: String::new(), limit: 0 });
    let request = proto::SearchActorsTypeaheadRequest { params };
    assert!(gp_index::search::search_actors_typeahead(&world.cx, request).await.unwrap().actors.is_empty());
    takedown(&alice, false, false).await;

    // So it is with an account that is not active where it is hosted.
    let account = alice.clone();
    world.write(move |view| gp_index::actors::set_account(view, &account, false, Some("deactivated"), at(6))).await;
    assert_eq!(world.posts("zebra").await, [""; 0]);
    assert_eq!(world.actors("alice.test").await, [alice.clone()]);

    // A whole account goes.
    let account = alice.clone();
    while !world
        .write({
            let account = account.clone();
            move |view| gp_index::actors::delete_page(view, &account, at(7), 100)
        })
        .await
    {}
    world.settle().await;
    assert_eq!(world.posts("zebra").await, [""; 0]);
    assert_eq!(world.actors("alice.test").await, [""; 0]);
    let _ = other;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engaged_come_first_in_top_and_generators_and_packs_are_found() {
    let world = World::new().await;
    let alice = world.actor("alice", "alice.test").await;
    let liked = world.post(&alice, "a", "numbat liked", at(-3600)).await;
    let newer = world.post(&alice, "b", "numbat newer", at(0)).await;
    let month = world.post(&alice, "c", "numbat of last month", at(-29 * 24 * 3600)).await;
    for i in 0..3 {
        let who = world.actor(&format!("l{}", ["a", "b", "c"][i]), &format!("l{i}.test")).await;
        world.like(&who, &liked, "l").await;
        world.like(&who, &month, "m").await;
    }
    let feed = json!({"did": "did:web:feeds.test", "displayName": "Numbat Watch", "description": "about termites", "createdAt": iso(at(0))});
    let feed = world.create(&alice, "app.bsky.feed.generator", "f", feed, at(0)).await;
    let list = format!("at://{alice}/app.bsky.graph.list/l");
    let pack = json!({"name": "Numbat friends", "description": "termites", "list": list, "createdAt": iso(at(0))});
    let pack = world.create(&alice, "app.bsky.graph.starterpack", "s", pack, at(0)).await;
    world.settle().await;

    let top = proto::SearchPostsV2Request { sort: proto::SearchSortOrder::Top as i32, ..ask("numbat") };
    let found: Vec<String> = world.posts_v2(top).await.unwrap().posts.into_iter().map(|it| it.uri).collect();
    assert_eq!(found, [liked, newer, month]);

    for (query, expected) in [("numb", true), ("watch", true), ("termites", true), ("", true), ("friends", false)] {
        let request = proto::SearchFeedGeneratorsRequest { query: query.into(), limit: 10 };
        let found = gp_index::search::search_feed_generators(&world.cx, request).await.unwrap().uris;
        assert_eq!(found == [feed.clone()], expected, "{query}: {found:?}");
        let request = proto::SearchFeedGeneratorsV2Request { params: Some(params(query, 10, "")) };
        let found = gp_index::search::search_feed_generators_v2(&world.cx, request).await.unwrap();
        assert_eq!(found.feed_generators.len(), usize::from(expected), "{query}");
        assert_eq!(found.page_info.unwrap().hits_total, i64::from(expected));
    }
    for (query, expected) in [("numbat fr", true), ("termites", true), ("", true), ("watch", false)] {
        let request = proto::SearchStarterPacksRequest { term: query.into(), limit: 10, cursor: String::new() };
        let found = gp_index::search::search_starter_packs(&world.cx, request).await.unwrap().uris;
        assert_eq!(found == [pack.clone()], expected, "{query}: {found:?}");
        let request = proto::SearchStarterPacksV2Request { params: Some(params(query, 10, "")) };
        let found = gp_index::search::search_starter_packs_v2(&world.cx, request).await.unwrap();
        assert_eq!(found.starter_packs.len(), usize::from(expected), "{query}");
    }
}
