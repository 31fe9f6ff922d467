//! The allocator, and when it gives memory back.
//!
//! mimalloc reads its settings from the environment before `main` begins, and has no other way that safe code may use. So
//! a command that stays starts itself once more with them, as the same process; what an operator has set stays as it is.
//!
//! - `MIMALLOC_ALLOW_THP=0`: with huge pages a process holds two mebibytes wherever it has touched a few bytes. Without
//!   them the demo's peak fell from 414 to 328 MiB, and its time in the kernel by half.
//! - `MIMALLOC_PURGE_DELAY=0`, where memory is bounded tightly: what is freed goes back at once. Otherwise it goes back a
//!   second later, and only if there is work then: 100 MiB stayed after an index of words had been built. It costs a tenth
//!   of the time while much is written.

use std::{env, ffi::OsString, os::unix::process::CommandExt as _, process::Command};

/// The writer's rows are many small allocations that end on other threads; the system's allocator took a quarter of its
/// time (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HUGE_PAGES: &str = "MIMALLOC_ALLOW_THP";
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// With less memory than this it is worth time to hold as little of it as can be.
const TIGHT_BYTES: u64 = 4 << 30;

/// The settings that are missing from an environment, for a process that may have so much memory.
fn missing(memory_limit: Option<u64>, is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, &'static str)> {
    let tight = memory_limit.is_some_and(|limit| limit < TIGHT_BYTES);
    let wanted = [(HUGE_PAGES, true), (PURGE_DELAY, tight)];
    wanted.into_iter().filter(|(name, is_wanted)| *is_wanted && !is_set(name)).map(|(name, _)| (name, "0")).collect()
}

/// Begins the program again with the allocator's settings if it runs without them. Returns if it has them, or if it cannot
/// be begun again: then it works as well, and holds more memory.
pub(crate) fn settle() {
    let missing = missing(gp_serve::host::memory_limit_bytes(), |name| env::var_os(name).is_some());
    if missing.is_empty() {
        return;
    }
    let mut args = env::args_os();
    let name = args.next().unwrap_or_else(|| OsString::from("groundplane"));
    let why = Command::new("/proc/self/exe").arg0(name).args(args).envs(missing).exec();
    crate::telemetry::complain(&format!("groundplane: more memory than usual will be held: {why}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_stays_and_memory_goes_back_at_once_where_it_is_scarce() {
        let names = |limit, set: &'static [&str]| -> Vec<&str> {
            missing(limit, |name| set.contains(&name)).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(Some(512 << 20), &[]), [HUGE_PAGES, PURGE_DELAY]);
        assert_eq!(names(Some(64 << 30), &[]), [HUGE_PAGES]);
        assert_eq!(names(None, &[]), [HUGE_PAGES]);
        assert_eq!(names(Some(512 << 20), &[PURGE_DELAY]), [HUGE_PAGES]);
        assert!(names(Some(512 << 20), &[HUGE_PAGES, PURGE_DELAY]).is_empty());
    }
}
