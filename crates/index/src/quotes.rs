//! Quotes of posts, as they are read. A quote is a post: its rows are made where those of posts are.

use gp_proto as proto;

use crate::{Cx, Result, listing, posts, tables::on};

/// The posts that quote a post, newest first; those that break its rules as well.
pub async fn get_quotes_by_subject_sorted(
    cx: &Cx,
    req: proto::GetQuotesBySubjectSortedRequest,
) -> Result<proto::GetQuotesBySubjectSortedResponse> {
    let subject = req.subject.unwrap_or_default();
    let (uris, cursor) = listing::on_page(cx, &subject.uri, on::QUOTE, posts::NSID, req.limit, &req.cursor).await?;
    Ok(proto::GetQuotesBySubjectSortedResponse { uris, cursor })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{ANY_CID, World, at, did, iso, walk};

    #[tokio::test]
    async fn quotes_are_paged_newest_first_and_end_with_their_post() {
        let world = World::new();
        let bob = did("bob");
        let post = world.post(&bob, "p", at(-100)).await;
        let mut expected = Vec::new();
        for i in 0..9u8 {
            let quoter = did(&format!("q{}", (b'a' + i) as char));
            let quoted = json!({"uri": post, "cid": ANY_CID});
            let embed = match i % 2 {
                0 => json!({"$type": "app.bsky.embed.record", "record": quoted}),
                _ => json!({
                    "$type": "app.bsky.embed.recordWithMedia",
                    "record": {"$type": "app.bsky.embed.record", "record": quoted},
                    "media": {"$type": "app.bsky.embed.external",
                              "external": {"uri": "https://example.com/", "title": "t", "description": "d"}},
                }),
            };
            let time = at(i64::from(i / 3));
            let record = json!({"text": "look", "createdAt": iso(time), "embed": embed});
            expected.push(world.create(&quoter, posts::NSID, "q", record, time).await);
        }
        let all = async || {
            walk!(|limit, cursor| {
                let subject = Some(proto::RecordRef { uri: post.clone(), cid: "ignored".into() });
                let ask = proto::GetQuotesBySubjectSortedRequest { subject, limit, cursor };
                let found = get_quotes_by_subject_sorted(&world.cx, ask).await.unwrap();
                (found.uris, found.cursor)
            })
        };
        let mut found = all().await;
        let times: Vec<usize> = found.iter().map(|f| expected.iter().position(|e| e == f).unwrap() / 3).collect();
        assert_eq!(times, [2, 2, 2, 1, 1, 1, 0, 0, 0]);
        found.sort();
        assert_eq!(found, expected);
        world.delete(&did("qa"), posts::NSID, "q", at(9)).await;
        assert_eq!(all().await.len(), 8);
        world.delete(&bob, posts::NSID, "p", at(10)).await;
        assert!(all().await.is_empty());
    }
}
