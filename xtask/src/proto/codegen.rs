//! From `proto/*.proto` to `crates/proto/src/gen/`, in memory first, so that a check and a run cannot disagree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use prost_build::Module;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Where the generated files stand, seen from the root of the workspace.
const GEN: &str = "crates/proto/src/gen";

const HEADER: &str = "// Generated from proto/*.proto by `cargo xtask proto`. Not written by hand.\n";

/// Brings the generated files up to date, or with `check` fails if one is not.
pub(super) fn run(root: &Path, check: bool) -> Result<()> {
    let mut stale = Vec::new();
    for (name, content) in files(&root.join("proto"))? {
        let path = root.join(GEN).join(&name);
        if std::fs::read(&path).is_ok_and(|found| found == content) {
            continue;
        }
        stale.push(name);
        if !check {
            std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if check && !stale.is_empty() {
        bail!("{GEN} is out of date ({}): run `cargo xtask proto` and commit the result", stale.join(", "));
    }
    for name in stale {
        println!("{GEN}/{name}");
    }
    Ok(())
}

/// All generated files by name.
fn files(proto: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(proto).with_context(|| format!("cannot read {}", proto.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            sources.push(path);
        }
    }
    // The order of a directory is that of the disk; the generated files must not depend on it.
    sources.sort();
    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).include_source_info(true).open_files(&sources)?;
    let commented = compiler.file_descriptor_set();
    let descriptor = compiler.include_source_info(false).encode_file_descriptor_set();

    let mut out = BTreeMap::new();
    out.insert("descriptor.bin".to_owned(), descriptor);
    let messages = messages(commented.clone())?;
    let bsky = messages.get("bsky").context("no message of package bsky")?;
    out.insert("rpcs.rs".to_owned(), rpcs(&commented, bsky)?.into_bytes());
    for (package, code) in messages {
        out.insert(format!("{package}.rs"), format!("{HEADER}{code}").into_bytes());
    }
    Ok(out)
}

/// The message types of each package.
fn messages(mut set: FileDescriptorSet) -> Result<BTreeMap<String, String>> {
    unmap_verified_by(&mut set)?;
    // The set includes google.protobuf, which gives no code of its own: prost-types has it.
    let requests: Vec<(Module, FileDescriptorProto)> =
        set.file.into_iter().map(|file| (Module::from_protobuf_package_name(file.package()), file)).collect();
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    // No source line stands for the entry, and the generator would look for its comments there.
    config.disable_comments([".bsky.ActorInfo.VerifiedByEntry"]);
    config.message_attribute(
        ".bsky.ActorInfo.VerifiedByEntry",
        "#[doc = \" One entry of the map `verified_by`. A map and a list of such entries are the same bytes, and a list keeps\"]\n\
         #[doc = \" the order in which we want clients to see them.\"]",
    );
    Ok(config
        .generate(requests)?
        .into_iter()
        .map(|(module, code)| (module.to_file_name_or("_").replace(".rs", ""), code))
        .collect())
}

/// Turns the map `ActorInfo.verified_by` into the list of entries that it is on the wire.
///
/// Clients show the entries in wire order, and no Rust map keeps an order of our choosing.
fn unmap_verified_by(set: &mut FileDescriptorSet) -> Result<()> {
    let entry: &mut DescriptorProto = set
        .file
        .iter_mut()
        .filter(|file| file.package() == "bsky")
        .flat_map(|file| &mut file.message_type)
        .filter(|message| message.name() == "ActorInfo")
        .flat_map(|message| &mut message.nested_type)
        .find(|nested| nested.name() == "VerifiedByEntry")
        .context("ActorInfo.verified_by is no longer a map: drop this step")?;
    entry.options = None;
    Ok(())
}

/// The table of methods, as a constant and as a macro. `code` is the generated code of the messages.
fn rpcs(set: &FileDescriptorSet, code: &str) -> Result<String> {
    // The generator turns acronyms into words (`ByURIRequest` becomes `ByUriRequest`); the wire does not.
    let mut types = BTreeMap::new();
    for line in code.lines() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            types.insert(name.to_ascii_lowercase(), name);
        }
    }
    let rust =
        |name: &str| types.get(&name.to_ascii_lowercase()).with_context(|| format!("no type was generated for {name}"));
    let service = set
        .file
        .iter()
        .filter(|file| file.package() == "bsky")
        .flat_map(|file| &file.service)
        .find(|service| service.name() == "Service")
        .context("proto/service.proto has no service bsky.Service")?;
    let local = |name: &str| name.strip_prefix(".bsky.").map(str::to_owned).context("a message of another package");
    let mut table = String::new();
    let mut calls = String::new();
    for method in &service.method {
        ensure!(!method.client_streaming() && !method.server_streaming(), "{} is not unary", method.name());
        let (name, input, output) = (method.name(), local(method.input_type())?, local(method.output_type())?);
        writeln!(table, "    (\"{name}\", \"{input}\", \"{output}\"),")?;
        writeln!(calls, "            {name}: $crate::{} => $crate::{};", rust(&input)?, rust(&output)?)?;
    }
    let count = service.method.len();
    Ok(format!(
        "{HEADER}
/// Every method of `bsky.Service`, in the order of `proto/service.proto`: name, request, response,
/// all as they are on the wire.
pub const METHODS: [(&str, &str, &str); {count}] = [
{table}];

/// Hands the table of all methods of `bsky.Service` to another macro, named by its path.
///
/// The other macro gets `GetPostRecords: $crate::GetPostRecordsRequest => $crate::GetPostRecordsResponse;` for each
/// method, and takes it as `$($method:ident: $request:ty => $response:ty;)*`.
#[macro_export]
macro_rules! for_each_rpc {{
    ($($callback:tt)+) => {{
        $($callback)+! {{
{calls}        }}
    }};
}}
"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_files_are_what_the_protos_give() {
        run(&super::super::root(), true).expect("up to date");
    }

    #[test]
    fn a_second_run_gives_the_same_bytes() {
        let proto = super::super::root().join("proto");
        assert_eq!(files(&proto).expect("generates"), files(&proto).expect("generates"));
    }
}
