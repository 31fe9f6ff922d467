//! Verifications of accounts by other accounts.

use gp_proto as proto;
use gp_store::{Key, Row, View};

use crate::{
    Cx, Error, Result,
    apply::Stood,
    atom,
    atom::Parts,
    counts::OnCount,
    listing,
    notifications::{self, Notice, Reason},
    page,
    placed::{Placed, uri_of},
    records::timestamp,
    relation::{Changed, Relation, Shape},
    rows::{Rows, timed_by, timed_on},
    tables::{self, BY, ON, by, on},
};

/// Verifications as a relation between two accounts.
pub static SHAPE: Shape = Shape {
    relation: Relation::Verification,
    collection: "app.bsky.graph.verification",
    subject: |it| it.text("subject").map(atom::did),
    rows,
    promotes: true,
    asked: None,
};

/// The words of a verification, as kept on its subject.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Words {
    /// The handle the issuer saw.
    #[prost(string, tag = "1")]
    pub handle: String,
    /// The display name the issuer saw.
    #[prost(string, tag = "2")]
    pub display_name: String,
    /// The author's claim of when, in microseconds.
    #[prost(int64, tag = "3")]
    pub created_at_us: i64,
    /// When we indexed it.
    #[prost(int64, tag = "4")]
    pub indexed_at_us: i64,
}

/// The rows of one standing verification. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    let Some(subject) = it.text("subject") else { return };
    let words = Words {
        handle: it.text("handle").unwrap_or_default().to_owned(),
        display_name: it.text("displayName").unwrap_or_default().to_owned(),
        created_at_us: it.created_at_us,
        indexed_at_us: it.indexed_at_us,
    };
    out.put_on(
        subject,
        timed_on(subject, on::VERIFICATION, it),
        prost::Message::encode_to_vec(&words),
        OnCount::Verifications,
    );
    out.put(timed_by(it, by::VERIFICATION), atom::did(subject).to_vec());
}

/// Tells the subject of the beginning and of the end of a verification. The beginning stays told after the end, and
/// a mere change of words is not told (ingest 8.4, 15).
pub(crate) fn tell(view: &mut View<'_>, stood: &Stood<'_>, changed: Changed) -> Result<()> {
    if changed.born
        && let Some(new) = stood.new
        && let Some(subject) = new.text("subject")
    {
        notifications::tell(view, &notice(new, subject, Reason::Verified, new.sort_at_us, ""))?;
    }
    if changed.gone
        && !stood.comes_again()
        && let Some(old) = stood.old
        && let Some(subject) = old.text("subject")
    {
        notifications::tell(
            view,
            &notice(old, subject, Reason::Unverified, crate::placed::cut_to_ms(stood.time_us), stood.rev),
        )?;
    }
    Ok(())
}

fn notice(it: &Placed<'_>, subject: &str, reason: Reason, sort_at_us: i64, nonce: &str) -> Notice {
    Notice { recipient: subject.to_owned(), reason, uri: it.uri(), subject: None, sort_at_us, nonce: nonce.to_owned() }
}

/// The verifications that an account issued, newest first.
pub async fn get_verifications_issued(
    cx: &Cx,
    req: proto::GetVerificationsIssuedRequest,
) -> Result<proto::GetVerificationsIssuedResponse> {
    let (limit, cursor) = (page::limit(req.limit), page::timed_cursor(&req.cursor)?);
    let issuer = req.actor_did.as_str();
    let scan = tables::scan_by(issuer, by::VERIFICATION);
    let mut rows = page::timed(cx, scan, by::VERIFICATION, limit, cursor.as_ref()).await?.rows;
    let cursor =
        page::cut(cx, &mut rows, limit, |row| Ok(uri_of(issuer, SHAPE.collection, &listing::by_row(row)?))).await?;
    // The words stand on the subject, at the same time and tie.
    let issuer_atom = atom::did(issuer);
    let mut subjects = Vec::with_capacity(rows.len());
    let mut keys: Vec<Key> = Vec::with_capacity(rows.len());
    for row in &rows {
        let subject = Parts::of(BY.name, &row.value).did()?;
        let (time_and_tie, rkey) = row.clustering()[1..].split_at(12);
        keys.push(
            tables::on_subject(&subject, on::VERIFICATION).atom(time_and_tie).atom(&issuer_atom).atom(rkey).key(),
        );
        subjects.push(subject);
    }
    let found = cx.store.get(&keys).await?;
    let mut verifications = Vec::with_capacity(rows.len());
    for ((row, subject_did), words) in rows.iter().zip(subjects).zip(found) {
        // Without words it ended between the two reads.
        let Some(words) = words else { continue };
        let words = read_words(&words)?;
        verifications.push(proto::VerificationIssued {
            actor_did: issuer.to_owned(),
            rkey: listing::by_row(row)?,
            subject_did,
            created_at: Some(timestamp(words.created_at_us)),
            indexed_at: Some(timestamp(words.indexed_at_us)),
            sorted_at: Some(timestamp(page::sort_at_of(row.clustering())?)),
        });
    }
    Ok(proto::GetVerificationsIssuedResponse { verifications, cursor })
}

/// The verifications of an account by whomever, newest first.
pub async fn get_verifications_received(
    cx: &Cx,
    req: proto::GetVerificationsReceivedRequest,
) -> Result<proto::GetVerificationsReceivedResponse> {
    let (limit, cursor) = (page::limit(req.limit), page::timed_cursor(&req.cursor)?);
    let scan = tables::scan_on(&req.subject_did, on::VERIFICATION);
    let mut rows = page::timed(cx, scan, on::VERIFICATION, limit, cursor.as_ref()).await?.rows;
    let uri = |row: &Row| {
        let (issuer, rkey) = listing::on_row(row)?;
        Ok(uri_of(&issuer, SHAPE.collection, &rkey))
    };
    let cursor = page::cut(cx, &mut rows, limit, uri).await?;
    let mut verifications = Vec::with_capacity(rows.len());
    for row in &rows {
        let (actor_did, rkey) = listing::on_row(row)?;
        let words = read_words(&row.value)?;
        verifications.push(proto::VerificationReceived {
            actor_did,
            rkey,
            subject_did: req.subject_did.clone(),
            created_at: Some(timestamp(words.created_at_us)),
            indexed_at: Some(timestamp(words.indexed_at_us)),
            sorted_at: Some(timestamp(page::sort_at_of(row.clustering())?)),
        });
    }
    Ok(proto::GetVerificationsReceivedResponse { verifications, cursor })
}

fn read_words(stored: &[u8]) -> Result<Words> {
    prost::Message::decode(stored).map_err(|_| Error::Corrupt { table: ON.name, what: "words" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{World, at, did, iso, walk};

    async fn verify(world: &World, issuer: &str, subject: &str, rkey: &str, time_us: i64) {
        let record = json!({"subject": subject, "handle": "a.test", "displayName": "A", "createdAt": iso(time_us)});
        world.create(issuer, SHAPE.collection, rkey, record, time_us + 5_000_000).await;
    }

    #[tokio::test]
    async fn verifications_are_found_from_both_sides() {
        let world = World::new();
        let subject = did("subject");
        let issuers: Vec<String> = (0..6u8).map(|i| did(&format!("i{}", (b'a' + i) as char))).collect();
        for (i, issuer) in issuers.iter().enumerate() {
            // Three by three they say the same at the same time.
            verify(&world, issuer, &subject, "v", at(i as i64 / 3)).await;
            verify(&world, &issuers[0], &did(&format!("s{}", (b'a' + i as u8) as char)), &format!("v{i}"), at(9)).await;
        }
        let received = walk!(|limit, cursor| {
            let ask = proto::GetVerificationsReceivedRequest { subject_did: subject.clone(), limit, cursor };
            let found = get_verifications_received(&world.cx, ask).await.unwrap();
            (found.verifications, found.cursor)
        });
        assert!(received.iter().all(|v| v.subject_did == subject && v.rkey == "v"));
        let mut dids: Vec<_> = received.iter().map(|v| v.actor_did.clone()).collect();
        dids.sort();
        assert_eq!(dids, issuers);
        let sorted: Vec<i64> = received.iter().map(|v| v.sorted_at.unwrap().seconds).collect();
        assert!(sorted.is_sorted_by(|a, b| a >= b));
        assert_eq!(received[0].created_at, Some(timestamp(at(1))));
        assert_eq!(received[0].indexed_at, Some(timestamp(at(6))));
        assert_eq!(received[0].sorted_at, Some(timestamp(at(1))));
        let issued = walk!(|limit, cursor| {
            let ask = proto::GetVerificationsIssuedRequest { actor_did: issuers[0].clone(), limit, cursor };
            let found = get_verifications_issued(&world.cx, ask).await.unwrap();
            (found.verifications, found.cursor)
        });
        assert_eq!(issued.len(), 7);
        let last = issued.last().unwrap();
        assert_eq!((&last.subject_did, last.rkey.as_str(), &last.actor_did), (&subject, "v", &issuers[0]));
        assert_eq!(last.created_at, Some(timestamp(at(0))));
        assert_eq!(last.indexed_at, Some(timestamp(at(5))));
        let subjects: std::collections::HashSet<_> = issued.iter().map(|v| &v.subject_did).collect();
        assert_eq!(subjects.len(), 7);
        world.delete(&issuers[0], SHAPE.collection, "v", at(20)).await;
        let ask = proto::GetVerificationsReceivedRequest { subject_did: subject, limit: 5, cursor: String::new() };
        let left = get_verifications_received(&world.cx, ask).await.unwrap();
        assert_eq!((left.verifications.len(), left.cursor.as_str()), (5, ""));
    }
}
