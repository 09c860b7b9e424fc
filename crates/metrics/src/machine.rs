//! The memory that the process may use, and whether it runs short, for sinks with `memory_overload_protection`: one fact for the
//! whole process, updated once a second.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::kib;

static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Whether more than the watermark was in use at the last look; false without looks.
#[must_use]
pub fn is_short_of_memory() -> bool {
    IS_SHORT.load(Ordering::Relaxed)
}

/// Checks whether more than this share of the memory is in use: of the machine, or of a control group of the process. `None`: no
/// check. Returns whether the answer has changed.
pub fn look(watermark: Option<f64>) -> bool {
    let is_short = watermark.is_some_and(|watermark| used(Path::new("/")) > watermark);
    IS_SHORT.swap(is_short, Ordering::Relaxed) != is_short
}

/// A control group with a limit for memory.
struct Group {
    /// The limit in bytes; `used` is in bytes, too.
    limit: u64,
    /// Memory in use, without the page cache that can be dropped.
    used: u64,
}

/// The memory in bytes that the process may use, and its limit's origin: a control group or the machine. `None`: neither is known.
#[must_use]
pub fn memory() -> Option<(u64, &'static str)> {
    memory_of(Path::new("/"))
}

fn memory_of(root: &Path) -> Option<(u64, &'static str)> {
    let groups = groups(root).into_iter().map(|group| (group.limit, "its control group has"));
    let machine = of_machine(root).map(|(total, _)| (total, "this machine has"));
    groups.chain(machine).min()
}

/// The share of the memory that is in use, from 0 to 1: of the machine or of a control group, whichever is more.
fn used(root: &Path) -> f64 {
    let part = |(limit, used): (u64, u64)| used as f64 / limit as f64;
    let groups = groups(root).into_iter().map(|group| (group.limit, group.used));
    groups.chain(of_machine(root)).map(part).fold(0.0, f64::max)
}

/// Memory of the machine, and the part of it in use, in bytes. Page cache that can be dropped is not in use.
fn of_machine(root: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = kib(&text, "MemTotal:")?.checked_mul(1_024).filter(|total| *total > 0)?;
    Some((total, total.saturating_sub(kib(&text, "MemAvailable:")?.saturating_mul(1_024))))
}

/// The control groups of the process that have a limit, from its own up to the root (man 7 cgroups). A group counts the memory of all
/// groups below it. In a container the topmost visible group is the container's.
fn groups(root: &Path) -> Vec<Group> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounted = root.join("sys/fs/cgroup");
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(own)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (top, [limit, used, idle]) = match (hierarchy, controllers) {
            ("0", "") => (mounted.clone(), ["memory.max", "memory.current", "inactive_file "]),
            (_, of) if of.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "])
            }
            _ => continue,
        };
        let group = top.join(own.trim_start_matches('/'));
        groups.extend(group.ancestors().take_while(|dir| dir.starts_with(&top)).filter_map(|dir| {
            let number = |name| fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok();
            let limit = number(limit).filter(|limit| *limit > 0)?;
            let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
            let idle: Option<u64> = stat.lines().find_map(|line| line.strip_prefix(idle)?.trim().parse().ok());
            Some(Group { limit, used: number(used)?.saturating_sub(idle.unwrap_or_default()) })
        }));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 1,000 KiB of which 750 are in use, and its files below `sys/fs/cgroup`.
    fn machine(of: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let meminfo = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    250 kB\n";
        let groups = files.iter().map(|(name, text)| (format!("sys/fs/cgroup/{name}"), *text));
        let others = [("proc/meminfo".to_owned(), meminfo), ("proc/self/cgroup".to_owned(), of)];
        for (name, text) in others.into_iter().chain(groups) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("one")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    fn found(of: &str, files: &[(&str, &str)]) -> (u64, f64) {
        let root = machine(of, files);
        (memory_of(root.path()).expect("a machine").0, used(root.path()))
    }

    #[test]
    fn memory_in_use_is_that_of_the_machine_or_of_the_control_group() {
        let of = "0::/\n";
        assert_eq!(found("", &[]), (1_024_000, 0.75));
        let mut files =
            [("memory.max", "1000\n"), ("memory.current", "900\n"), ("memory.stat", "anon 7\ninactive_file 100\n")];
        assert_eq!(found(of, &files), (1_000, 0.8));
        files[0].1 = "max\n";
        assert_eq!(found(of, &files), (1_024_000, 0.75));
        files[0].1 = "";
        assert_eq!(found(of, &files), (1_024_000, 0.75));
        let nothing = tempfile::tempdir().expect("a folder");
        assert_eq!((memory_of(nothing.path()), used(nothing.path())), (None, 0.0));
        assert!(memory().is_some_and(|(bytes, _)| bytes > 1 << 20));
        assert!((0.0..=1.0).contains(&used(Path::new("/"))));
    }

    /// systemd's `MemoryMax` is set on the unit's group, and its ancestors may have another limit.
    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let of = "1:name=systemd:/elsewhere\n0::/a.slice/b.service\n";
        let b = [("a.slice/b.service/memory.max", "4000"), ("a.slice/b.service/memory.current", "800")];
        let a = [("a.slice/memory.max", "1000"), ("a.slice/memory.current", "900")];
        let beside = [("c.slice/memory.max", "10"), ("c.slice/memory.current", "10")];
        assert_eq!(found(of, &[&b[..], &a, &beside].concat()), (1_000, 0.9));
        let without = [("a.slice/memory.max", "max"), ("a.slice/memory.current", "900")];
        assert_eq!(found(of, &[&b[..], &without, &beside].concat()), (4_000, 0.75));
        let full = [("a.slice/b.service/memory.max", "900"), ("a.slice/b.service/memory.current", "855")];
        assert_eq!(found(of, &[&full[..], &without].concat()), (900, 0.95));
    }

    /// In version 1 of the hierarchy, the limit of a group without one is a number beyond all memory.
    #[test]
    fn the_lowest_limit_on_the_way_up_counts_in_version_1_too() {
        const NONE: &str = "9223372036854771712";
        let of = "5:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/abc\n0::/docker/abc\n";
        let own =
            [("memory/docker/abc/memory.limit_in_bytes", NONE), ("memory/docker/abc/memory.usage_in_bytes", "900")];
        let docker = [
            ("memory/docker/memory.limit_in_bytes", "2000"),
            ("memory/docker/memory.usage_in_bytes", "1900"),
            ("memory/docker/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n"),
            ("memory/memory.limit_in_bytes", NONE),
            ("memory/memory.usage_in_bytes", "5000"),
        ];
        assert_eq!(found(of, &[&own[..], &docker].concat()), (2_000, 0.9));
        // A container sees its own group as the root, and its path as the machine has it.
        let inside = [("memory/memory.limit_in_bytes", "3000"), ("memory/memory.usage_in_bytes", "2400")];
        assert_eq!(found(of, &inside), (3_000, 0.8));
    }
}
