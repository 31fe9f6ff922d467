//! Events of repos that are being read whole, kept until the reading is done.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::facts::Item;

/// Events kept of one repo.
const REPO_ITEMS_MAX: usize = 256;

/// Bytes of events kept of one repo.
const REPO_BYTES_MAX: usize = 4 << 20;

/// Bytes of events kept of all repos.
const BYTES_MAX: usize = 64 << 20;

/// Events of repos that are being read whole. Only the writer's thread puts and takes, so what is taken is complete.
#[derive(Default)]
pub(crate) struct Held {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    repos: HashMap<Arc<str>, HeldRepo>,
    bytes: usize,
}

/// Events of one repo, in their order.
#[derive(Default, Debug)]
pub(crate) struct HeldRepo {
    /// The events, unless there were too many.
    pub(crate) items: Vec<Arc<Item>>,
    /// The highest revision seen, also of events not kept.
    pub(crate) rev_max: String,
    /// Some events were not kept: only a reading that reaches `rev_max` will do.
    pub(crate) spilled: bool,
    bytes: usize,
}

impl Held {
    /// Begins to keep events of a repo. Those kept before are forgotten, save for the highest revision.
    pub(crate) fn open(&self, did: &Arc<str>) {
        let mut inner = self.inner.lock();
        let before = inner.repos.remove(did).unwrap_or_default();
        inner.bytes -= before.bytes;
        let spilled = before.spilled || !before.items.is_empty();
        inner.repos.insert(Arc::clone(did), HeldRepo { rev_max: before.rev_max, spilled, ..HeldRepo::default() });
    }

    /// Keeps an event, or remembers at least that there was one. Nothing happens for a repo that is not open.
    pub(crate) fn push(&self, item: Arc<Item>) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(repo) = inner.repos.get_mut(&item.did) else { return };
        if item.facts.rev() > repo.rev_max.as_str() {
            repo.rev_max = item.facts.rev().to_owned();
        }
        let bytes = item.bytes();
        if repo.spilled
            || repo.items.len() >= REPO_ITEMS_MAX
            || repo.bytes + bytes > REPO_BYTES_MAX
            || inner.bytes + bytes > BYTES_MAX
        {
            // A gap in the middle makes the rest useless too.
            inner.bytes -= repo.bytes;
            repo.items = Vec::new();
            (repo.bytes, repo.spilled) = (0, true);
            return;
        }
        repo.bytes += bytes;
        inner.bytes += bytes;
        repo.items.push(item);
    }

    /// Ends keeping events of a repo.
    pub(crate) fn take(&self, did: &str) -> HeldRepo {
        let mut inner = self.inner.lock();
        let repo = inner.repos.remove(did).unwrap_or_default();
        inner.bytes -= repo.bytes;
        repo
    }

    /// Repos open and bytes kept.
    pub(crate) fn figures(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.repos.len(), inner.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;

    fn item(did: &Arc<str>, rev: &str) -> Arc<Item> {
        Arc::new(Item { did: Arc::clone(did), time_us: 0, facts: Facts::Unverified { rev: rev.into() } })
    }

    #[test]
    fn too_many_events_leave_only_the_highest_revision() {
        let (held, did) = (Held::default(), Arc::<str>::from("did:plc:a"));
        held.push(item(&did, "1"));
        assert!(held.take(&did).rev_max.is_empty(), "not open");
        held.open(&did);
        held.push(item(&did, "1"));
        held.push(item(&did, "2"));
        assert_eq!(held.figures().0, 1);
        let repo = held.take(&did);
        assert_eq!((repo.items.len(), repo.rev_max.as_str(), repo.spilled), (2, "2", false));
        held.open(&did);
        for n in 0..=REPO_ITEMS_MAX {
            held.push(item(&did, &format!("{n:04}")));
        }
        let repo = held.take(&did);
        assert_eq!((repo.items.len(), repo.rev_max.as_str(), repo.spilled), (0, "0256", true));
        assert_eq!(held.figures(), (0, 0));
    }
}
