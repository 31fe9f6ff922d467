//! A cluster that asks for a name and a password, and speaks nothing but TLS with those who show a certificate. `cargo
//! xtask conformance` starts one for these tests alone.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use gp_store::{
    Batch, Config, Store,
    conformance::{KEPT, TABLES, partition},
    engine::cql::{Cql, CqlConfig, Names, Tls},
};

use crate::ground::CqlGround;

/// What Cassandra begins with.
const NAME: &str = "cassandra";

/// The folder with the certificates.
const VARIABLE: &str = "GROUNDPLANE_TEST_CERTIFICATES";

fn file(name: &str) -> PathBuf {
    let folder =
        std::env::var(VARIABLE).expect("GROUNDPLANE_TEST_CERTIFICATES names a folder: use cargo xtask conformance");
    PathBuf::from(folder).join(name)
}

fn tls(trusted: &str, shows: bool, names: Names) -> Option<Tls> {
    let (certificate, key) = (file("plane.pem"), file("plane.key"));
    let ours = shows.then_some((certificate.as_path(), key.as_path()));
    Some(Tls::read(&file(trusted), ours, names).unwrap())
}

fn config(login: Option<(&str, &str)>, tls: Option<Tls>) -> CqlConfig {
    let login = login.map(|(name, password)| (name.to_owned(), password.to_owned()));
    CqlConfig { login, tls, wait: Duration::from_secs(600), ..CqlGround::address_only() }
}

fn refusal(config: &CqlConfig) -> String {
    let begun = Instant::now();
    let said = Cql::open(config, &TABLES).err().expect("is refused").to_string();
    assert!(begun.elapsed() < Duration::from_secs(60), "what will not change is not waited for: {said}");
    assert!(!said.contains('\n'), "{said}");
    said
}

#[test]
#[ignore = "needs a cluster: cargo xtask conformance"]
fn a_wrong_password_and_none_at_all_are_told_at_once_in_one_line() {
    let tls = || tls("ca.pem", true, Names::Address);
    let said = refusal(&config(Some((NAME, "wrong")), tls()));
    assert!(said.contains("refuses the password of cassandra") && said.contains("--store-password"), "{said}");
    let said = refusal(&config(None, tls()));
    assert!(said.contains("asks for a name and a password") && said.contains("--store-user"), "{said}");
}

#[test]
#[ignore = "needs a cluster: cargo xtask conformance"]
fn nodes_whose_certificate_is_not_trusted_and_nodes_that_want_ours_are_told_at_once() {
    let said = refusal(&config(Some((NAME, NAME)), tls("stranger.pem", true, Names::Address)));
    assert!(said.contains("--store-ca must hold"), "{said}");
    let said = refusal(&config(Some((NAME, NAME)), tls("stranger.pem", true, Names::Any)));
    assert!(said.contains("--store-ca must hold"), "{said}");
    // Cassandra does not say why it answers nothing, so these are tried again for as long as one is told to.
    let hasty = |tls| CqlConfig { wait: Duration::from_secs(1), ..config(Some((NAME, NAME)), tls) };
    let said = refusal(&hasty(tls("ca.pem", false, Names::Address)));
    assert!(said.contains("--store-cert"), "{said}");
    let said = refusal(&hasty(None));
    assert!(said.contains("--store-ca"), "{said}");
}

#[test]
#[ignore = "needs a cluster: cargo xtask conformance"]
fn the_right_password_over_tls_opens_it_for_those_who_write_and_those_who_read() {
    let key = partition(&KEPT, b"p").head();
    for names in [Names::Address, Names::Any] {
        let config = config(Some((NAME, NAME)), tls("ca.pem", true, names));
        let store = Store::cql(&config, &TABLES, &Config::default()).unwrap();
        let mut batch = Batch::new();
        batch.put(key.clone(), b"secret".to_vec());
        store.apply_now(&batch).unwrap();
        drop(store);
        let reader = Store::cql(&CqlConfig { writes: false, ..config }, &TABLES, &Config::default()).unwrap();
        assert_eq!(reader.local().get_one(&key).unwrap().as_deref(), Some(&b"secret"[..]));
    }
}
