//! Verifications of accounts by other accounts.

use gp_store::View;

use crate::{
    Result,
    apply::Stood,
    atom,
    counts::OnCount,
    notifications::{self, Notice, Reason},
    placed::Placed,
    relation::{Changed, Relation, Shape},
    rows::{Rows, timed_by, timed_on},
    tables::{by, on},
};

/// Verifications as a relation between two accounts.
pub static SHAPE: Shape = Shape {
    relation: Relation::Verification,
    collection: "app.bsky.graph.verification",
    subject: |it| it.text("subject").map(atom::did),
    rows,
    promotes: true,
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
