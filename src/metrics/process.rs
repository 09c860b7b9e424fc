//! Numbers of the process itself, as the kernel tells them.

use std::fs;
use std::time::Instant;

use super::collector::{Extra, Number};
use super::spec::{Kind, Spec};

/// What the kernel says, and how long it has been so.
pub const PROCESS: [Spec; 6] = [
    Spec { name: "build_info", help: "1; the label `version` is what counts.", kind: Kind::Gauge },
    Spec { name: "uptime_s", help: "Seconds since the start.", kind: Kind::Gauge },
    Spec {
        name: "process_cpu_ms",
        help: "Milliseconds of CPU time, all threads, user and system.",
        kind: Kind::Counter,
    },
    Spec { name: "process_resident_bytes", help: "Memory in use (RSS).", kind: Kind::Gauge },
    Spec { name: "process_open_fds", help: "Open file descriptors.", kind: Kind::Gauge },
    Spec { name: "process_max_fds", help: "The bound of their number; 0: none.", kind: Kind::Gauge },
];

/// The process since its start.
#[derive(Debug)]
pub struct Process {
    started: Instant,
}

impl Process {
    /// A process that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Extra for Process {
    fn read(&self) -> Vec<Number> {
        let values = [1, self.started.elapsed().as_secs(), cpu_ms(), resident_bytes(), open_fds(), max_fds()];
        let mut numbers: Vec<_> = PROCESS.iter().zip(values).map(|(spec, value)| Number::of(spec, value)).collect();
        numbers[0].labels.push(("version", env!("CARGO_PKG_VERSION").to_owned()));
        numbers
    }
}

/// Of /proc/self/stat: utime and stime stand 12th and 13th behind the name, in hundredths of a second on every Linux.
fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// The one that reads them is counted, too.
fn open_fds() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64)
}

fn max_fds() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_something_of_each() {
        let process = Process::start();
        let numbers = process.read();
        let value = |name: &str| numbers.iter().find(|number| number.name == name).map(|number| number.value);
        assert!(value("process_resident_bytes").is_some_and(|bytes| bytes > 1 << 20), "{numbers:?}");
        assert!(value("process_open_fds").is_some_and(|fds| fds >= 3), "{numbers:?}");
        assert!(value("process_max_fds") >= value("process_open_fds"), "{numbers:?}");
        let busy = Instant::now();
        while busy.elapsed().as_millis() < 50 || cpu_ms() == value("process_cpu_ms").unwrap_or(0) {
            std::hint::black_box(busy);
        }
        assert_eq!(numbers[0].labels, [("version", env!("CARGO_PKG_VERSION").to_owned())]);
    }
}
