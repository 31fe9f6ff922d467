//! Whether a reply or a quote was allowed, at the time it came.

use gp_atproto::{Value, aturi, cbor};

use super::{Model, PostFlags, Relation, authority, quoted_post, reply, strong_uri};
use crate::records::{POST, POST_GATE, THREAD_GATE};

impl Model {
    /// The flags of a post by `did` that is about to stand.
    pub(super) fn judge(&self, did: &str, value: &Value<'_>) -> PostFlags {
        let mut flags = PostFlags::default();
        if let Some((root, parent)) = reply(value) {
            flags.invalid_reply_root = self.is_astray(root, parent);
            flags.violates_thread_gate = !self.may_reply(did, root);
        }
        if let Some(quoted) = quoted_post(value) {
            flags.violates_embedding_rules = !self.may_quote(did, quoted);
        }
        flags
    }

    fn is_astray(&self, root: &str, parent: &str) -> bool {
        let Some(record) = self.record_at(parent) else { return true };
        if self.post_flags(parent).invalid_reply_root {
            return true;
        }
        let parents_root =
            cbor::decode(&record.bytes).ok().and_then(|value| reply(&value).map(|(root, _)| root.to_owned()));
        match (root == parent, parents_root) {
            (true, parents_root) => parents_root.is_some(),
            (false, parents_root) => parents_root.as_deref() != Some(root),
        }
    }

    fn may_reply(&self, replier: &str, root: &str) -> bool {
        let owner = authority(root);
        if owner == replier {
            return true;
        }
        let Some(gate) = self.gate_of(root, THREAD_GATE) else { return true };
        let Ok(gate) = cbor::decode(&gate) else { return true };
        let Some(rules) = gate.get("allow").and_then(Value::as_list) else { return true };
        rules.iter().any(|rule| match rule.type_name().unwrap_or_default() {
            "app.bsky.feed.threadgate#mentionRule" => self.mentions(root).iter().any(|did| did == replier),
            "app.bsky.feed.threadgate#followingRule" => self.standing(Relation::Follow, owner, replier).is_some(),
            "app.bsky.feed.threadgate#followerRule" => self.standing(Relation::Follow, replier, owner).is_some(),
            "app.bsky.feed.threadgate#listRule" => rule.get("list").and_then(Value::as_str).is_some_and(|list| {
                self.standing(Relation::ListItem, authority(list), &format!("{list} {replier}")).is_some()
            }),
            _ => false,
        })
    }

    fn may_quote(&self, quoter: &str, quoted: &str) -> bool {
        if authority(quoted) == quoter {
            return true;
        }
        let Some(gate) = self.gate_of(quoted, POST_GATE) else { return true };
        let Ok(gate) = cbor::decode(&gate) else { return true };
        let rules = gate.get("embeddingRules").and_then(Value::as_list).unwrap_or_default();
        !rules.iter().any(|rule| rule.type_name() == Some("app.bsky.feed.postgate#disableRule"))
    }

    /// The gate beside a post.
    fn gate_of(&self, post: &str, collection: &str) -> Option<bytes::Bytes> {
        let (did, _, rkey) = aturi::AtUri::record_parts(post).filter(|(_, kind, _)| *kind == POST)?;
        self.record(&aturi::of_record(did, collection, rkey)).map(|(_, bytes)| bytes)
    }

    /// URIs that the thread of `root` hides.
    pub(super) fn hidden_replies(&self, root: &str) -> Vec<String> {
        let Some(gate) = self.gate_of(root, THREAD_GATE) else { return Vec::new() };
        let Ok(gate) = cbor::decode(&gate) else { return Vec::new() };
        let hidden = gate.get("hiddenReplies").and_then(Value::as_list).unwrap_or_default();
        hidden.iter().filter_map(|uri| uri.as_str().map(str::to_owned)).collect()
    }

    fn mentions(&self, post: &str) -> Vec<String> {
        let Some(record) = self.record_at(post) else { return Vec::new() };
        cbor::decode(&record.bytes).map(|value| mentions(&value).map(str::to_owned).collect()).unwrap_or_default()
    }

    /// The parent of a post that stands.
    pub(super) fn parent_of(&self, post: &str) -> Option<String> {
        let record = self.record_at(post)?;
        let value = cbor::decode(&record.bytes).ok()?;
        strong_uri(value.get("reply")?, "parent").map(str::to_owned)
    }
}

/// The DIDs that a post's facets name, in their order.
pub(super) fn mentions<'v>(value: &'v Value<'v>) -> impl Iterator<Item = &'v str> {
    let facets = value.get("facets").and_then(Value::as_list).unwrap_or_default();
    let features = facets.iter().flat_map(|facet| facet.get("features").and_then(Value::as_list).unwrap_or_default());
    features
        .filter(|feature| feature.type_name() == Some("app.bsky.richtext.facet#mention"))
        .filter_map(|feature| feature.get("did").and_then(Value::as_str))
}
