//! Stored values that cannot be read: one of them must not take the answers for all others with it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    Error, Result,
    tables::{ACTOR, LABEL, RECORD},
};

/// Tables whose damage is counted by name; that of any other is counted as the last.
const NAMES: [&str; 4] = [RECORD.name, ACTOR.name, LABEL.name, "other"];

/// How many stored values could not be read, by table, since start.
#[derive(Debug, Default)]
pub struct Damage([AtomicU64; NAMES.len()]);

impl Damage {
    /// What was read; nothing, and counted, if its bytes are damaged. Any other error stays one.
    ///
    /// For what is one of many: a damaged row is as absent as one that was never written, and the counter and a line of
    /// the log are how an operator hears of it.
    pub fn or_absent<T>(&self, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Error::Corrupt { table, what }) => {
                let place = NAMES.iter().position(|name| *name == table).unwrap_or(NAMES.len() - 1);
                self.0[place].fetch_add(1, Relaxed);
                tracing::error!(table, what, "a stored value cannot be read: it is answered as absent");
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Each table and how many of its values could not be read.
    pub fn figures(&self) -> [(&'static str, u64); NAMES.len()] {
        std::array::from_fn(|place| (NAMES[place], self.0[place].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use gp_proto as proto;
    use serde_json::json;

    use super::*;
    use crate::{
        actors, records,
        testing::{World, did, iso},
    };

    #[test]
    fn damage_is_absent_and_counted_and_other_errors_stay_errors() {
        let damage = Damage::default();
        assert_eq!(damage.or_absent(Ok(7)).unwrap(), Some(7));
        for table in [RECORD.name, RECORD.name, "something"] {
            let read: Result<u8> = Err(Error::Corrupt { table, what: "layout" });
            assert_eq!(damage.or_absent(read).unwrap(), None);
        }
        assert!(matches!(damage.or_absent::<u8>(Err(Error::Late)), Err(Error::Late)));
        assert_eq!(damage.figures().map(|(_, count)| count), [2, 0, 0, 1]);
    }

    #[tokio::test]
    async fn a_damaged_row_among_others_is_absent_and_the_others_are_right() {
        let world = World::new();
        let author = did("ann");
        let mut uris = Vec::new();
        for rkey in ["3laaaaaaaaaa2", "3laaaaaaaaab2", "3laaaaaaaaac2"] {
            let record = json!({ "text": rkey, "createdAt": iso(0) });
            uris.push(world.create(&author, "app.bsky.feed.post", rkey, record, 0).await);
        }
        world.actor(&did("bob")).await;
        let poisoned = [records::key_of(&uris[1]).unwrap(), actors::key(&did("bob"))];
        let poison = |view: &mut gp_store::View<'_>| -> Result<()> {
            poisoned.into_iter().for_each(|key| view.put(key, "\u{1}poison"));
            Ok(())
        };
        world.write(poison).await;

        let found = world.post_records(&uris).await;
        let stand: Vec<bool> = found.records.iter().map(|record| !record.cid.is_empty()).collect();
        assert_eq!(stand, [true, false, true]);
        assert!(String::from_utf8_lossy(&found.records[2].record).contains("3laaaaaaaaac2"));

        let request = proto::GetActorsRequest { dids: vec![author, did("bob")], ..Default::default() };
        let found = actors::get_actors(&world.cx, request).await.unwrap();
        assert_eq!(found.actors.iter().map(|actor| actor.exists).collect::<Vec<_>>(), [true, false]);
        assert_eq!(world.cx.damage.figures().map(|(_, count)| count), [1, 1, 0, 0]);
    }
}
