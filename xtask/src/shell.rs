//! Starting other programs, from the root of the repository.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

/// Ports are taken from here: below those that systems give to outgoing connections, so that none of these can take
/// one while the program is between two lives.
const PORTS: std::ops::Range<u16> = 21_000..32_000;

/// How far apart two calls begin to look: some ports in between may be taken.
const PORTS_BETWEEN: u32 = 16;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository").to_owned()
}

/// Cargo, the one that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a program to its end with our own output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Builds the program with the profile of the tests, and says where it is.
pub(crate) fn build_groundplane(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.arg("build").arg("--quiet");
    if release {
        build.args(["--release", "--package", "groundplane"]);
    } else {
        // All crates together ask for the same features as their tests do, so that dependencies are built once.
        build.args(["--workspace", "--bin", "groundplane"]);
    }
    run(&mut build)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join(if release { "release" } else { "debug" }).join("groundplane"))
}

/// Two addresses nobody listens on, and others with every call: what was given may not be listened on yet.
pub(crate) fn free_addresses() -> Result<[SocketAddr; 2]> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Different tasks at the same time begin to look at different places.
    let width = PORTS.end - PORTS.start;
    let given = GIVEN.fetch_add(1, Ordering::Relaxed);
    let first = u16::try_from((std::process::id() * 7 + given * PORTS_BETWEEN) % u32::from(width))?;
    let mut free = (0..width)
        .map(|n| SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + (first + n) % width)))
        .filter(|address| TcpListener::bind(address).is_ok());
    match (free.next(), free.next()) {
        (Some(one), Some(two)) => Ok([one, two]),
        _ => bail!("no free port from {} to {}", PORTS.start, PORTS.end),
    }
}

/// A port that is free at all of some addresses.
pub(crate) fn free_port(addresses: &[IpAddr]) -> Result<u16> {
    let width = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() * 11 % u32::from(width))?;
    let is_free = |port: &u16| addresses.iter().all(|address| TcpListener::bind((*address, *port)).is_ok());
    match (0..width).map(|n| PORTS.start + (first + n) % width).find(is_free) {
        Some(port) => Ok(port),
        None => bail!("no free port from {} to {}", PORTS.start, PORTS.end),
    }
}

/// The program that a command was given, or a build of it.
pub(crate) fn groundplane(given: Option<&Path>, release: bool) -> Result<PathBuf> {
    match given {
        Some(bin) => bin.canonicalize().with_context(|| format!("{} is not there", bin.display())),
        None => build_groundplane(release),
    }
}
