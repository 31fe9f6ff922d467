//! Profiles and labeler services: one record of an account each, at the key `self`.

use gp_atproto::{Value, datetime};
use gp_proto as proto;
use gp_store::{Key, KeyBuilder, Row, Scan, View};

use crate::{
    Cx, Result,
    apply::Stood,
    atom,
    atom::Parts,
    counts::{Deltas, OnCount},
    notifications::{self, Notice, Reason},
    placed::{Placed, cut_to_ms, did_of, uri_of},
    records,
    rows::{self, Rows},
    tables::{self, META, on},
};

/// The key of records of which an account has one.
pub const SELF: &str = "self";

/// The rows of one profile: that its account joined through a starter pack. Pure.
pub fn rows(it: &Placed<'_>, out: &mut Rows) {
    if it.rkey != SELF {
        return;
    }
    let Some(pack) = it.reference("joinedViaStarterPack") else { return };
    out.put_on(
        pack,
        tables::on_subject(pack, on::JOINED).micros_desc(joined_at_us(it)).atom(&atom::did(it.did)).key(),
        "",
        OnCount::Joined,
    );
}

/// When the account says it was created; without a claim, when its profile was first seen.
fn joined_at_us(it: &Placed<'_>) -> i64 {
    it.value
        .get("createdAt")
        .and_then(Value::as_str)
        .and_then(datetime::parse_micros_lenient)
        .map_or(cut_to_ms(it.first_indexed_at_us), cut_to_ms)
}

pub(crate) fn apply(view: &mut View<'_>, stood: &Stood<'_>, deltas: &mut Deltas) -> Result<()> {
    let (mut before, mut after) = (Rows::none(), Rows::none());
    if let Some(old) = stood.old {
        rows(old, &mut before);
    }
    if let Some(new) = stood.new {
        rows(new, &mut after);
    }
    rows::change(view, &before, &after, deltas)?;
    // Told once for each account and pack, and it stays told whatever becomes of the profile.
    let pack_of = |it: Option<&Placed<'_>>| {
        it.filter(|it| it.rkey == SELF).and_then(|it| it.reference("joinedViaStarterPack").map(str::to_owned))
    };
    if let (Some(new), Some(pack)) = (stood.new, pack_of(stood.new))
        && pack_of(stood.old).as_ref() != Some(&pack)
        && !stood.comes_again()
        && let Some(owner) = did_of(&pack)
    {
        let notice = Notice {
            recipient: owner.to_owned(),
            reason: Reason::StarterpackJoined,
            uri: new.uri(),
            subject: Some(pack.clone()),
            sort_at_us: cut_to_ms(new.first_indexed_at_us),
            nonce: String::new(),
        };
        notifications::tell(view, &notice)?;
    }
    Ok(())
}

/// The list of all labelers.
fn labelers() -> KeyBuilder {
    Key::of(&META).atom(&atom::did("labelers")).cluster()
}

/// The rows of one labeler service: its place in the list of all labelers. Pure.
pub fn labeler_rows(it: &Placed<'_>, out: &mut Rows) {
    if it.rkey == SELF {
        out.put(labelers().atom(&atom::did(it.did)).key(), "");
    }
}

/// Labelers that one answer lists. The call has no pages.
const LABELERS_MAX: usize = 5_000;

/// All labeler services with their records, those taken down included, marked. Address and record of one stand at the
/// same place.
pub async fn get_all_labelers(cx: &Cx, _req: proto::GetAllLabelersRequest) -> Result<proto::GetAllLabelersResponse> {
    const LABELER: &str = "app.bsky.labeler.service";
    let page = cx.store.scan(Scan::of(labelers().partition()).limit(LABELERS_MAX)).await?;
    let uri = |row: &Row| Ok(uri_of(&Parts::of(META.name, row.clustering()).did()?, LABELER, SELF));
    let listed = page.rows.iter().map(uri).collect::<Result<Vec<String>>>()?;
    let mut answer = proto::GetAllLabelersResponse::default();
    for (uri, served) in listed.iter().zip(records::look_up(cx, &listed, LABELER).await?) {
        // Without a record it ended between the two reads.
        if !served.record.cid.is_empty() {
            answer.uris.push(uri.clone());
            answer.records.push(served.record);
        }
    }
    Ok(answer)
}

/// Whom an account lets subscribe to its activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscriptions {
    /// Whoever follows it. The default.
    Followers,
    /// Whoever follows it and is followed by it.
    Mutuals,
    /// Nobody.
    Nobody,
}

impl Subscriptions {
    /// From the declaration's word; anything unknown is the default.
    pub fn from_word(word: Option<&str>) -> Self {
        match word {
            Some("mutuals") => Self::Mutuals,
            Some("none") => Self::Nobody,
            _ => Self::Followers,
        }
    }

    /// The declaration's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Followers => "followers",
            Self::Mutuals => "mutuals",
            Self::Nobody => "none",
        }
    }
}

/// Whom an account lets subscribe to its activity, as the writer sees it.
pub(crate) fn subscriptions_allowed(view: &View<'_>, did: &str) -> Result<Subscriptions> {
    let stored = view.get(&crate::records::key(did, "app.bsky.notification.declaration", SELF))?;
    let Some(row) = stored.as_ref().map(crate::records::RecordRow::read).transpose()? else {
        return Ok(Subscriptions::Followers);
    };
    let value = row.value()?;
    Ok(Subscriptions::from_word(value.get("allowSubscriptions").and_then(Value::as_str)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        moderation,
        testing::{World, at, did, iso},
    };

    #[tokio::test]
    async fn all_labelers_are_listed_with_their_records() {
        let world = World::new();
        let all = async || get_all_labelers(&world.cx, proto::GetAllLabelersRequest {}).await.unwrap();
        assert_eq!(all().await, proto::GetAllLabelersResponse::default());
        let record = json!({"policies": {"labelValues": ["spam"]}, "createdAt": iso(at(0))});
        let mut expected = Vec::new();
        for name in ["ann", "ben", "cyd"] {
            let uri = world.create(&did(name), "app.bsky.labeler.service", SELF, record.clone(), at(0)).await;
            // Only the one at `self` makes a labeler.
            world.create(&did(name), "app.bsky.labeler.service", "other", record.clone(), at(0)).await;
            expected.push(uri);
        }
        let down = expected[1].clone();
        world
            .write(move |view| moderation::set(view, moderation::key_of_subject(&down), Some(&down), Some("case"), 0))
            .await;
        let found = all().await;
        assert_eq!(found.uris, expected);
        assert_eq!(found.records.iter().map(|r| r.takedown_ref.as_str()).collect::<Vec<_>>(), ["", "case", ""]);
        assert!(found.records.iter().all(|r| !r.cid.is_empty() && !r.record.is_empty()));
        world.delete(&did("ann"), "app.bsky.labeler.service", SELF, at(1)).await;
        assert_eq!(all().await.uris, expected[1..]);
    }
}
