//! What the kernel says about this process, read from `/proc` when somebody asks.

use std::fs;

/// Clock ticks a second, in which `/proc` counts. It has been 100 on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of a page of memory, unless the kernel was built otherwise.
const PAGE_BYTES: u64 = 4_096;

/// What the kernel says about this process. What it does not say is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) open_fds: u64,
    pub(crate) max_fds: u64,
    /// Seconds since 1970.
    pub(crate) start_time_seconds: f64,
}

impl Process {
    pub(crate) fn read() -> Self {
        let mut process = fs::read_to_string("/proc/self/stat").map(|stat| Self::of_stat(&stat)).unwrap_or_default();
        if let Ok(stat) = fs::read_to_string("/proc/stat")
            && let Some(boot) = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok())
        {
            process.start_time_seconds += boot;
        }
        // The listing itself holds one.
        process.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |fds| (fds.count() as u64).saturating_sub(1));
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            process.max_fds = limits
                .lines()
                .find_map(|line| line.strip_prefix("Max open files")?.split_ascii_whitespace().next()?.parse().ok())
                .unwrap_or(0);
        }
        process
    }

    /// Of `/proc/self/stat`. The start time is since boot.
    fn of_stat(stat: &str) -> Self {
        // The second field is the name of the program in brackets and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        // Fields are numbered from 1 in the kernel's manual, and the first of these is the third.
        let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Self {
            cpu_seconds: (number(14) + number(15)) as f64 / TICKS_PER_SECOND,
            threads: number(20),
            start_time_seconds: number(22) as f64 / TICKS_PER_SECOND,
            virtual_bytes: number(23),
            resident_bytes: number(24) * PAGE_BYTES,
            ..Self::default()
        }
    }
}

/// Bytes of memory that this process may use: the least bound of its control groups, or what the machine has. `None` if
/// the kernel does not say.
pub fn memory_limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = group_files(&groups).into_iter().filter_map(|file| {
        // A group without a bound says `max`, or a number larger than any memory.
        fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total_bytes(&text));
    of_groups.chain(of_machine).min()
}

/// Where the bounds on memory of this process stand: those of its group and of all groups around it, in both designs of
/// the kernel, as `/proc/self/cgroup` names them. In a container the names may lead nowhere, and the group of the
/// container is at the top.
fn group_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            of if of.split(',').any(|it| it == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{file}"));
            let Some((parent, _)) = path.rsplit_once('/') else { break };
            path = parent;
        }
    }
    files
}

fn mem_total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let process =
            Process::of_stat("12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 7 18 1000 4096000 300 20");
        assert_eq!((process.cpu_seconds, process.threads, process.start_time_seconds), (3.0, 7, 10.0));
        assert_eq!((process.virtual_bytes, process.resident_bytes), (4_096_000, 300 * 4_096));
        assert_eq!(Process::of_stat(""), Process::default());
    }

    #[test]
    fn the_bound_of_every_group_around_the_process_counts() {
        let v2 = group_files("0::/system.slice/groundplane.service\n");
        let under = |rest: &str| format!("/sys/fs/cgroup{rest}/memory.max");
        assert_eq!(v2, [under("/system.slice/groundplane.service"), under("/system.slice"), under("")]);
        let v1 = group_files("5:cpu:/x\n4:memory:/a\n0::/\n");
        let file = |path: &str| format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes");
        assert_eq!(v1, [file("/a"), file(""), under("")]);
    }

    #[test]
    fn the_memory_of_a_machine_is_in_kibibytes() {
        assert_eq!(mem_total_bytes("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(mem_total_bytes(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_threads_files_and_memory() {
        let process = Process::read();
        assert!(process.threads >= 1 && process.open_fds >= 3 && process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.resident_bytes > 1 << 20 && process.start_time_seconds > 1.6e9, "{process:?}");
    }
}
