//! The rules of the house that a compiler does not know.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::shell;

/// Crates and the ones of ours that they may import; tests and benches may import anything.
const FLOORS: &[(&str, &[&str])] = &[
    ("atproto", &[]),
    ("proto", &[]),
    ("memcached", &[]),
    ("store", &["memcached"]),
    ("index", &["atproto", "proto", "store"]),
    ("search", &["index", "proto", "store", "atproto"]),
    ("serve", &["index", "proto", "store", "atproto"]),
    ("ingest", &["index", "store", "atproto", "proto"]),
    ("synth", &["atproto"]),
    ("drill", &["serve", "index", "store", "proto", "atproto"]),
    ("sim", &[]),
];

/// A construct that only its owners may use.
struct Ban {
    /// What is looked for.
    text: &'static str,
    /// Why it is fenced, and what to do instead.
    why: &'static str,
    /// Folders or files that own it.
    owners: &'static [&'static str],
}

const BANS: &[Ban] = &[
    Ban { text: "unbounded_channel", why: "every queue has a bound: use a bounded channel", owners: &[] },
    Ban {
        text: "join_all(",
        why: "work per key has no bound: ask the store for a batch, or use a bounded stream",
        owners: &["crates/ingest/", "crates/synth/"],
    },
    Ban {
        text: "tokio::spawn(",
        why: "only owners of long-lived tasks start tasks: index asks for keys and the store decides how",
        owners: &[
            "crates/ingest/",
            "crates/serve/",
            "crates/synth/",
            "crates/sim/",
            "crates/drill/",
            "crates/store/src/cache/shared.rs",
            // Compares caches with the store for as long as there is one.
            "crates/store/src/cache/audit.rs",
            // Keeps the lease.
            "crates/store/src/engine/cql/lease.rs",
            "groundplane/",
            "xtask/",
        ],
    },
    Ban {
        text: "spawn_blocking(",
        why: "only the store decides which thread may block",
        owners: &[
            "crates/synth/",
            "crates/store/src/store.rs",
            "crates/ingest/",
            "crates/serve/src/metrics/",
            // Reads its own files.
            "crates/search/src/page.rs",
            "groundplane/",
            "xtask/",
        ],
    },
    Ban {
        text: "println!(",
        why: "printing blocks: use tracing, or telemetry::say in the program",
        owners: &["xtask/"],
    },
    Ban {
        text: "TcpStream::connect",
        why: "only the owners of connections dial",
        owners: &[
            "xtask/",
            "crates/ingest/",
            "crates/memcached/src/conn.rs",
            "crates/synth/",
            "crates/sim/",
            "crates/drill/",
            "groundplane/",
        ],
    },
    Ban { text: "unsafe {", why: "unsafe code is forbidden", owners: &[] },
];

/// A file longer than this tells more than one story.
const LINES_MAX: usize = 1_000;

/// Runs all checks and says everything that is wrong.
pub(crate) fn run() -> Result<()> {
    let root = shell::root();
    let mut wrong = Vec::new();
    let files = sources(&root);
    for (path, text) in &files {
        check_bans(path, text, &mut wrong);
        check_length(path, text, &mut wrong);
    }
    check_floors(&root, &mut wrong);
    check_links(&root, &mut wrong);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{} things are not tidy:\n{}", wrong.len(), wrong.join("\n"))
}

/// Rust sources of ours with their paths from the root.
fn sources(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = ["crates", "groundplane", "xtask"].iter().map(|f| root.join(f)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs")
                && let Ok(text) = fs::read_to_string(&path)
                && let Ok(relative) = path.strip_prefix(root)
            {
                found.insert(relative.to_string_lossy().replace('\\', "/"), text);
            }
        }
    }
    found
}

/// The part of a file that ships: without its unit tests.
fn shipped(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests").map_or(text, |(before, _)| before)
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/")
        || path.contains("/conformance")
        || path.contains("/benches/")
        || path.contains("/examples/")
        || path.ends_with("/tests.rs")
        || path.ends_with("testing.rs")
}

fn check_bans(path: &str, text: &str, wrong: &mut Vec<String>) {
    if is_test(path) || path.contains("/gen/") || path == "xtask/src/tidy.rs" {
        return;
    }
    for ban in BANS {
        if ban.owners.iter().any(|owner| path.starts_with(owner)) {
            continue;
        }
        for (number, line) in shipped(text).lines().enumerate() {
            if line.contains(ban.text) && !line.trim_start().starts_with("//") {
                wrong.push(format!("{path}:{}: `{}`: {}", number + 1, ban.text, ban.why));
            }
        }
    }
}

fn check_length(path: &str, text: &str, wrong: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LINES_MAX && !path.contains("/gen/") {
        wrong.push(format!("{path}: {lines} lines: more than one story, split it"));
    }
}

fn check_floors(root: &Path, wrong: &mut Vec<String>) {
    for (name, allowed) in FLOORS {
        let manifest = fs::read_to_string(root.join("crates").join(name).join("Cargo.toml")).unwrap_or_default();
        let shipped = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for line in shipped.lines() {
            if let Some(import) = line.strip_prefix("gp-").and_then(|l| l.split(['.', ' ', '=']).next())
                && !allowed.contains(&import)
            {
                wrong.push(format!("crates/{name}/Cargo.toml: imports `{import}`, which is on its own floor or above"));
            }
        }
    }
}

/// Links between documents must lead somewhere.
fn check_links(root: &Path, wrong: &mut Vec<String>) {
    let mut documents: Vec<PathBuf> = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        documents.push(root.join(name));
    }
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path)
            } else if path.extension().is_some_and(|e| e == "md") {
                documents.push(path)
            }
        }
    }
    for document in documents {
        let text = fs::read_to_string(&document).unwrap_or_default();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !document.parent().unwrap_or(root).join(target).exists() {
                wrong.push(format!("{}: the link to {link} leads nowhere", document.display()));
            }
        }
    }
}

/// What must be found, planted in files of ours: path, text, how often.
const SEEDED: &[(&str, &str, usize)] = &[
    ("crates/index/src/likes.rs", "fn f() { tokio::spawn(async {}); }", 1),
    ("crates/ingest/src/lib.rs", "fn f() { tokio::spawn(async {}); }", 0),
    ("crates/serve/src/call.rs", "let (a, b) = unbounded_channel();", 1),
    ("crates/index/src/posts.rs", "let all = join_all(keys.map(look_up)).await;", 1),
    ("crates/serve/src/call.rs", "let stream = TcpStream::connect(address).await?;", 1),
    ("crates/index/src/posts.rs", "tokio::task::spawn_blocking(move || read());", 1),
    ("crates/store/src/view.rs", "println!(\"x\");", 1),
    ("crates/store/src/view.rs", "// println!(\"x\");", 0),
    ("crates/store/src/view.rs", "fn f() {}\n#[cfg(test)]\nmod tests { fn g() { println!(\"x\"); } }", 0),
];

/// How many of the planted texts are judged as they must be, and how many there are.
pub(crate) fn seeded() -> (usize, usize) {
    let right = SEEDED.iter().filter(|(path, text, times)| {
        let mut wrong = Vec::new();
        check_bans(path, text, &mut wrong);
        wrong.len() == *times
    });
    (right.count(), SEEDED.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_violations_are_found_where_they_are_not_owned() {
        assert_eq!(seeded().0, SEEDED.len());
        let mut wrong = Vec::new();
        check_length("crates/index/src/long.rs", &"x\n".repeat(1001), &mut wrong);
        assert_eq!(wrong.len(), 1);
    }
}
