//! A network namespace of our own, and a bound on the memory of a program.
//!
//! Ports are a thing of the whole host: a drill that uses them up must not do so on the host it runs on. Entering a
//! namespace needs root, or a kernel that lets users have their own; where it is not permitted the drill must say so
//! and end, since a drill without it would show nothing.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

/// Set for the process inside.
const INSIDE: &str = "GROUNDPLANE_DRILL_INSIDE";
/// The ports of outgoing connections inside, all of them.
pub const PORTS: std::ops::RangeInclusive<u16> = 40_000..=40_499;
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotPermitted(pub String);

/// Whether this process is inside already.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts this program again, with the same arguments, inside a network namespace of its own. Returns only if that is
/// not possible, or if it is inside already; then its ports are few from now on.
///
/// # Errors
///
/// The kernel or a missing tool do not allow it.
pub fn enter() -> Result<(), NotPermitted> {
    if is_inside() {
        return set_up();
    }
    let own: &[&str] = &["--net"];
    let as_root_of_users: &[&str] = &["--user", "--map-root-user", "--net"];
    for flags in [own, as_root_of_users] {
        let tried = Command::new("unshare").args(flags).args(["--", "true"]).stderr(Stdio::null()).status();
        match tried {
            Err(e) => return Err(NotPermitted(format!("`unshare` cannot be started ({e}): install util-linux"))),
            Ok(status) if status.success() => {
                let me = std::env::current_exe().map_err(|e| NotPermitted(format!("where this program is: {e}")))?;
                let failed = Command::new("unshare")
                    .args(flags)
                    .arg("--")
                    .arg(me)
                    .args(std::env::args_os().skip(1))
                    .env(INSIDE, "1")
                    .exec();
                return Err(NotPermitted(format!("cannot start again in a network namespace: {failed}")));
            }
            Ok(_) => {}
        }
    }
    Err(NotPermitted(
        "this user may not have a network namespace of its own: run it as root, or allow user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
            .into(),
    ))
}

fn set_up() -> Result<(), NotPermitted> {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !up.is_ok_and(|status| status.success()) {
        return Err(NotPermitted("loopback cannot be switched on inside: install iproute2".into()));
    }
    // As between hosts: on loopback the kernel would give a port in TIME_WAIT away again after a second.
    let _ = fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "0");
    ports(PORTS).map_err(|e| NotPermitted(format!("the range of ports inside cannot be set: {e:#}")))
}

/// Changes the ports that outgoing connections get. Only inside.
///
/// # Errors
///
/// Outside, or the kernel refuses.
pub fn ports(range: std::ops::RangeInclusive<u16>) -> Result<()> {
    anyhow::ensure!(is_inside(), "the ports of this host are left alone");
    fs::write(PORT_RANGE, format!("{} {}", range.start(), range.end())).context(PORT_RANGE)
}

/// A control group that bounds the memory of the programs put into it. Removed when dropped.
#[derive(Debug)]
pub struct MemoryBound {
    folder: PathBuf,
    /// Which of the two designs of the kernel.
    v2: bool,
}

impl MemoryBound {
    /// A group with this bound, swap included. `Err` says why there is none, for people.
    ///
    /// # Errors
    ///
    /// Control groups are not writable here.
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let name = format!("groundplane-drill-{}-{name}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let v2 = Path::new("/sys/fs/cgroup");
        let made = if v1.join("memory.limit_in_bytes").exists() {
            Self { folder: v1.join(name), v2: false }
        } else {
            anyhow::ensure!(
                fs::read_to_string(v2.join("cgroup.subtree_control")).is_ok_and(|text| text.contains("memory")),
                "no control group that bounds memory can be made under {}",
                v2.display()
            );
            Self { folder: v2.join(name), v2: true }
        };
        fs::create_dir(&made.folder).with_context(|| format!("{}", made.folder.display()))?;
        let (limit, swap) = if made.v2 {
            ("memory.max", ("memory.swap.max", "0".to_owned()))
        } else {
            ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", bytes.to_string()))
        };
        fs::write(made.folder.join(limit), bytes.to_string()).context("the bound of the control group")?;
        // A machine without swap accounting has no swap to bound either.
        let _ = fs::write(made.folder.join(swap.0), swap.1);
        Ok(made)
    }

    /// The file into which a process writes its number to be bound.
    pub fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Processes that the kernel has killed for want of memory.
    pub fn kills(&self) -> u64 {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryBound {
    fn drop(&mut self) {
        // It can be removed once the last process in it is gone for good.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
