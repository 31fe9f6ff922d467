//! Documents and publications: the latest version by address, any version by reference.

use serde_json::json;

use super::*;
use crate::{
    actors,
    testing::{World, at, did},
};

fn document(title: &str, site: &str) -> serde_json::Value {
    json!({"title": title, "site": site, "path": "/a", "publishedAt": "2025-01-01T00:00:00.000Z"})
}

async fn cid_of(world: &World, uri: &str) -> String {
    by_uri(world, &[uri]).await.documents[0].r#ref.clone().unwrap().cid
}

async fn by_uri(world: &World, uris: &[&str]) -> proto::GetSiteStandardRecordsByUriResponse {
    let uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
    get_site_standard_records_by_uri(&world.cx, proto::GetSiteStandardRecordsByUriRequest { uris }).await.unwrap()
}

async fn by_ref(world: &World, refs: &[(&str, &str)]) -> proto::GetSiteStandardRecordsByRefResponse {
    let refs = refs.iter().map(|(uri, cid)| proto::RecordRef { uri: (*uri).to_owned(), cid: (*cid).to_owned() });
    let ask = proto::GetSiteStandardRecordsByRefRequest { refs: refs.collect() };
    get_site_standard_records_by_ref(&world.cx, ask).await.unwrap()
}

fn titles(records: &[proto::SiteStandardRecord]) -> Vec<String> {
    let title = |it: &proto::SiteStandardRecord| {
        let json: serde_json::Value = serde_json::from_slice(&it.record.as_ref().unwrap().record).unwrap();
        json["title"].as_str().or(json["name"].as_str()).unwrap().to_owned()
    };
    records.iter().map(title).collect()
}

#[tokio::test]
async fn versions_stay_by_reference_after_changes_and_after_the_end() {
    let world = World::new();
    let ann = did("ann");
    let uri = world.create(&ann, DOCUMENT, "d", document("one", "https://a.test"), at(0)).await;
    let first = cid_of(&world, &uri).await;
    world.update(&ann, DOCUMENT, "d", document("two", "https://a.test"), at(1)).await;
    let second = cid_of(&world, &uri).await;
    assert_ne!(first, second);
    let asked = [(uri.as_str(), first.as_str()), (&uri, &second), (&uri, ""), (&uri, "bafnone"), ("junk", &first)];
    let found = by_ref(&world, &asked).await;
    assert_eq!(titles(&found.documents), ["one", "two"]);
    assert!(found.publications.is_empty());
    for (it, cid) in found.documents.iter().zip([&first, &second]) {
        let named = it.r#ref.as_ref().unwrap();
        assert_eq!((&named.uri, &named.cid, &it.record.as_ref().unwrap().cid), (&uri, cid, cid));
    }
    world.delete(&ann, DOCUMENT, "d", at(2)).await;
    assert!(by_uri(&world, &[&uri]).await.documents.is_empty());
    assert_eq!(titles(&by_ref(&world, &asked).await.documents), ["one", "two"]);
    // A reference of any length is looked up, or not, without harm.
    assert!(by_ref(&world, &[(&uri, &"b".repeat(20_000))]).await.documents.is_empty());
}

#[tokio::test]
async fn a_takedown_marks_every_version() {
    let world = World::new();
    let ann = did("ann");
    let uri = world.create(&ann, DOCUMENT, "d", document("one", "https://a.test"), at(0)).await;
    let first = cid_of(&world, &uri).await;
    world.update(&ann, DOCUMENT, "d", document("two", "https://a.test"), at(1)).await;
    let second = cid_of(&world, &uri).await;
    let marks = async || {
        let found = by_ref(&world, &[(&uri, &first), (&uri, &second)]).await.documents;
        let mark = |it: proto::SiteStandardRecord| it.record.map(|it| (it.taken_down, it.takedown_ref)).unwrap();
        found.into_iter().map(mark).collect::<Vec<_>>()
    };
    assert_eq!(marks().await, [(false, String::new()), (false, String::new())]);
    let down = uri.clone();
    world
        .write(move |view| moderation::set(view, moderation::key_of_subject(&down), Some(&down), Some("case"), 0))
        .await;
    assert_eq!(marks().await, [(true, "case".to_owned()), (true, "case".to_owned())]);
    let up = uri.clone();
    world.write(move |view| moderation::set(view, moderation::key_of_subject(&up), Some(&up), None, 0)).await;
    assert_eq!(marks().await, [(false, String::new()), (false, String::new())]);
}

#[tokio::test]
async fn a_document_brings_its_publication_and_each_comes_once() {
    let world = World::new();
    let ann = did("ann");
    let blog = world.create(&ann, PUBLICATION, "p", json!({"name": "blog", "url": "https://a.test"}), at(0)).await;
    let other = world.create(&ann, PUBLICATION, "q", json!({"name": "other", "url": "https://b.test"}), at(0)).await;
    let mut documents = Vec::new();
    for (rkey, site) in [("a", blog.as_str()), ("b", "https://c.test"), ("c", &blog), ("d", "at://nowhere")] {
        documents.push(world.create(&ann, DOCUMENT, rkey, document(rkey, site), at(0)).await);
    }
    let post = format!("at://{ann}/app.bsky.feed.post/p");
    let asked = [documents[2].as_str(), &other, &post, "junk", &documents[1], &documents[0], &other, &documents[3]];
    let found = by_uri(&world, &asked).await;
    assert_eq!(titles(&found.documents), ["c", "b", "a", "d"]);
    assert_eq!(titles(&found.publications), ["other", "blog"]);
}

#[tokio::test]
async fn versions_go_with_their_account() {
    let world = World::new();
    let ann = did("ann");
    let uri = world.create(&ann, DOCUMENT, "d", document("one", "https://a.test"), at(0)).await;
    let first = cid_of(&world, &uri).await;
    world.update(&ann, DOCUMENT, "d", document("two", "https://a.test"), at(1)).await;
    let deleted = ann.clone();
    assert!(world.write(move |view| actors::delete_page(view, &deleted, at(2), 100)).await);
    assert!(by_ref(&world, &[(&uri, &first)]).await.documents.is_empty());
}
