//! Tasks around the wire contract: generating the Rust types, and holding our `.proto` files against the contract
//! that a published package carries.

#[cfg(feature = "codegen")]
mod codegen;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gp_proto::contract::Contract;

/// Writes `crates/proto/src/gen/` anew from `proto/*.proto`, or with `check` only says whether it would change.
///
/// The compiler and the generator are behind the feature `codegen`, so that the other tasks need not build them.
/// Without the feature this starts the same task again with it.
///
/// # Errors
///
/// A `.proto` file does not compile, a file cannot be written, or (with `check`) a committed file is out of date.
pub fn generate(check: bool) -> Result<()> {
    #[cfg(feature = "codegen")]
    return codegen::run(&root(), check);

    #[cfg(not(feature = "codegen"))]
    {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = std::process::Command::new(cargo);
        command.current_dir(root()).args(["run", "--quiet", "--package", "xtask", "--features", "codegen", "--", "proto"]);
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

/// Compares our contract with the one in a JSON file made by `e2e/contract/print.mjs`, and names every field that
/// differs.
///
/// # Errors
///
/// The file cannot be read or is no contract, or there is a difference that is not on the list of allowed ones.
pub fn contract(npm_json: &Path) -> Result<()> {
    let text = std::fs::read_to_string(npm_json).with_context(|| format!("cannot read {}", npm_json.display()))?;
    let theirs = Contract::from_json(&text).with_context(|| format!("{} is not a contract", npm_json.display()))?;
    let ours = Contract::of_descriptor(theirs.package())?;
    let differences = gp_proto::contract::differences(&ours, &theirs);
    for difference in &differences {
        eprintln!("{difference}");
    }
    if !differences.is_empty() {
        bail!(
            "our {} contract differs from {} in {} places: change proto/*.proto, then run `cargo xtask proto`",
            theirs.package(),
            theirs.source(),
            differences.len()
        );
    }
    println!("{}: no difference from {}", theirs.package(), theirs.source());
    Ok(())
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root of the workspace").to_path_buf()
}
