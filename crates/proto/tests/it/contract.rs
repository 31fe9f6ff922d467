//! Our contract against those of published packages, kept as facts in `fixtures/contract/`.

use std::path::Path;

use gp_proto::contract::{Contract, differences};

/// The contract of a package and version, and our own of the same name.
fn both(file: &str) -> (Contract, Contract) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/contract").join(file);
    let theirs =
        Contract::from_json(&std::fs::read_to_string(&path).expect("the fixture is committed")).expect("a contract");
    let ours = Contract::of_descriptor(theirs.package()).expect("we have the package");
    (ours, theirs)
}

#[test]
fn bsky_is_what_the_appview_speaks() {
    let (ours, theirs) = both("bsky-0.0.280.json");
    assert_eq!(theirs.source(), "@atproto/bsky@0.0.280");
    assert_eq!(differences(&ours, &theirs), []);
}

#[test]
fn bsync_is_what_its_server_speaks() {
    let (ours, theirs) = both("bsync-0.0.44.json");
    assert_eq!(theirs.source(), "@atproto/bsync@0.0.44");
    assert_eq!(differences(&ours, &theirs), []);
}

#[test]
fn the_two_are_not_taken_for_each_other() {
    let (ours, _) = both("bsky-0.0.280.json");
    let (_, theirs) = both("bsync-0.0.44.json");
    assert!(!differences(&ours, &theirs).is_empty());
}
