//! Tasks around the wire contract: generating the Rust types, and holding our `.proto` files against the contract
//! that a published package carries.

#[cfg(feature = "codegen")]
mod codegen;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use gp_proto::contract::{Contract, Difference, DifferenceKind, differences};

use crate::shell;

/// The script that prints the contract an installed npm package carries.
const PRINT: &str = "e2e/contract/print.mjs";

/// Where the contracts of published packages are kept, as `<package>-<version>.json`.
const KEPT: &str = "fixtures/contract";

/// The packages whose contracts we follow.
pub(crate) const PACKAGES: [&str; 2] = ["bsky", "bsync"];

/// Writes `crates/proto/src/gen/` anew from `proto/*.proto`, or with `check` only says whether it would change.
///
/// The compiler and the generator are behind the feature `codegen`, so that the other tasks need not build them.
/// Without the feature this starts the same task again with it.
///
/// # Errors
///
/// A `.proto` file does not compile, a file cannot be written, or (with `check`) a committed file is out of date.
pub(crate) fn generate(check: bool) -> Result<()> {
    #[cfg(feature = "codegen")]
    return codegen::run(&root(), check);

    #[cfg(not(feature = "codegen"))]
    {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(root()).args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--features",
            "codegen",
            "--",
            "proto",
        ]);
        if check {
            command.arg("--check");
        }
        let status = command.status().context("cannot start cargo")?;
        if !status.success() {
            bail!("generating the wire types failed; see the lines above");
        }
        Ok(())
    }
}

/// Compares our contract with the ones that the npm packages below a `node_modules` folder carry, and those with the
/// files kept in `fixtures/contract/`. With `keep` a file that is not there yet, or is another, is written.
///
/// The script runs under `node`, if given, or under what the variable `NODE` names, or the one on the path.
///
/// # Errors
///
/// A package is not installed, its contract differs from ours, or (without `keep`) from the kept file.
pub(crate) fn contract_of_installed(node_modules: &Path, keep: bool, node: Option<&Path>) -> Result<()> {
    // All of them are told about before one of them is an error.
    let compared = PACKAGES.map(|package| {
        let text = print(node_modules, package, node)?;
        Ok::<_, anyhow::Error>((package, compare(&text)?, text))
    });
    for compared in compared {
        let (package, source, text) = compared?;
        let version = source.rsplit_once('@').map_or(source.as_str(), |(_, version)| version);
        let kept = root().join(KEPT).join(format!("{package}-{version}.json"));
        if std::fs::read_to_string(&kept).is_ok_and(|kept| kept == text) {
            continue;
        }
        if !keep {
            bail!(
                "{} is not what {source} carries: look at what changed, then run this with --keep and commit the file",
                kept.display()
            );
        }
        std::fs::write(&kept, text).with_context(|| format!("cannot write {}", kept.display()))?;
        println!("{}", kept.display());
    }
    Ok(())
}

/// Installs the newest npm packages into a temporary folder and compares our contract with what they carry: what they
/// added and what they removed is printed.
///
/// # Errors
///
/// npm cannot install them, or they carry another contract than ours.
pub(crate) fn contract_of_newest(keep: bool) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the packages")?;
    let newest = PACKAGES.map(|package| format!("@atproto/{package}@latest"));
    // None of their install scripts runs: only generated code is read.
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(folder.path()).args(newest);
    shell::run(npm.current_dir(folder.path()))?;
    contract_of_installed(&folder.path().join("node_modules"), keep, None)
}

/// What `print.mjs` says about a package.
fn print(node_modules: &Path, package: &str, node: Option<&Path>) -> Result<String> {
    let node = node.map(|node| node.as_os_str().to_owned()).or_else(|| std::env::var_os("NODE"));
    let node = node.unwrap_or_else(|| "node".into());
    let script = root().join(PRINT);
    let mut command = Command::new(&node);
    command.arg(script).arg(node_modules).arg(package).stderr(std::process::Stdio::inherit());
    let out = command.output().with_context(|| format!("cannot start {}", node.display()))?;
    if !out.status.success() {
        bail!("{PRINT} could not read {package} in {}; see the lines above", node_modules.display());
    }
    String::from_utf8(out.stdout).with_context(|| format!("{PRINT} printed no text"))
}

/// Compares one printed contract with ours; answers where it comes from.
fn compare(text: &str) -> Result<String> {
    let theirs = Contract::from_json(text)?;
    let (package, source) = (theirs.package(), theirs.source());
    let differences = differences(&Contract::of_descriptor(package)?, &theirs);
    for Difference { item, kind } in &differences {
        match kind {
            DifferenceKind::Missing => println!("{source} added {item}"),
            DifferenceKind::Extra => println!("{source} removed {item}"),
            DifferenceKind::Differs { property, ours, theirs } => {
                println!("{source} changed {item}: {property} is `{theirs}` there and `{ours}` here");
            }
        }
    }
    if !differences.is_empty() {
        bail!(
            "our contract {package} differs from {source} in {} places: change proto/*.proto, then run `cargo xtask proto`",
            differences.len()
        );
    }
    println!("{package}: as in {source}");
    Ok(source.to_owned())
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root of the workspace").to_path_buf()
}
