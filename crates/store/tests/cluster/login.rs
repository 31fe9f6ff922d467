//! A cluster that asks for a name and a password. `cargo xtask conformance` starts one for these tests alone.

use std::time::{Duration, Instant};

use gp_store::{
    Config, Store,
    conformance::TABLES,
    engine::cql::{Cql, CqlConfig},
};

use crate::ground::CqlGround;

/// What Cassandra begins with.
const NAME: &str = "cassandra";

fn config(login: Option<(&str, &str)>) -> CqlConfig {
    let login = login.map(|(name, password)| (name.to_owned(), password.to_owned()));
    CqlConfig { login, wait: Duration::from_secs(600), ..CqlGround::address_only() }
}

fn refusal(login: Option<(&str, &str)>) -> String {
    let begun = Instant::now();
    let said = Cql::open(&config(login), &TABLES).err().expect("is refused").to_string();
    assert!(begun.elapsed() < Duration::from_secs(60), "what will not change is not waited for");
    said
}

#[test]
#[ignore = "needs a cluster: cargo xtask conformance"]
fn a_wrong_password_and_none_at_all_are_told_at_once_in_one_line() {
    let said = refusal(Some((NAME, "wrong")));
    assert!(said.contains("refuses the password of cassandra") && said.contains("--store-password"), "{said}");
    let said = refusal(None);
    assert!(said.contains("asks for a name and a password") && said.contains("--store-user"), "{said}");
    assert!(!said.contains('\n'));
}

#[test]
#[ignore = "needs a cluster: cargo xtask conformance"]
fn the_right_password_opens_it() {
    drop(Store::cql(&config(Some((NAME, NAME))), &TABLES, &Config::default()).unwrap());
}
