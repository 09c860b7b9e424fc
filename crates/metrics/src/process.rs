//! Numbers of the process itself, from the kernel.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::collector::{Extra, Number};
use super::spec::{Kind, Spec};

const fn spec(name: &'static str, kind: Kind, help: &'static str) -> Spec {
    Spec { name, label: None, help, kind }
}

/// Numbers of the kernel, under the names that every Prometheus client library uses, and the build.
pub const PROCESS: [Spec; 8] = [
    spec("build_info", Kind::Gauge, "Always 1; the label `version` has the version."),
    spec(
        "runtime_info",
        Kind::Gauge,
        "Always 1; the label `io` says how shards ask the kernel for input and output: `ring` or `epoll`.",
    ),
    spec("process_start_time_seconds", Kind::Gauge, "Start time of the process, in seconds since 1970."),
    spec("process_cpu_seconds", Kind::Counter, "CPU time of all threads, user and system."),
    spec("process_resident_memory_bytes", Kind::Gauge, "Resident memory (RSS)."),
    spec("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory."),
    spec("process_open_fds", Kind::Gauge, "Open file descriptors."),
    spec("process_max_fds", Kind::Gauge, "Limit of open file descriptors; 0: none."),
];

/// The process since it began.
#[derive(Debug)]
pub struct Process {
    started_s: f64,
    io: &'static str,
}

impl Process {
    /// A process that begins now. `io`: the I/O driver of its shards.
    #[must_use]
    pub fn start(io: &'static str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started_s: (since.as_secs_f64() * 1e3).round() / 1e3, io }
    }
}

impl Extra for Process {
    fn read(&self) -> Vec<Number> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let (resident, size) = (resident_in(&status), kib(&status, "VmSize:").unwrap_or(0) << 10);
        let [resident, size, open, max] = [resident, size, open_fds(), max_fds()].map(|value| value as f64);
        let values = [1.0, 1.0, self.started_s, cpu_s(), resident, size, open, max];
        let number = |(spec, value): (&Spec, f64)| Number { spec: *spec, labels: Vec::new(), value };
        let mut numbers: Vec<_> = PROCESS.iter().zip(values).map(number).collect();
        numbers[0].labels.push(("version", env!("CARGO_PKG_VERSION").to_owned()));
        numbers[1].labels.push(("io", self.io.to_owned()));
        numbers
    }
}

/// CPU time of this process, in seconds. In /proc/self/stat, utime and stime are the 12th and 13th fields after the name, in
/// hundredths of a second on every Linux.
#[must_use]
pub fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Resident memory of this process in bytes; 0 where the kernel does not report it.
#[must_use]
pub fn resident_bytes() -> u64 {
    resident_in(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn resident_in(status: &str) -> u64 {
    kib(status, "VmRSS:").unwrap_or(0) << 10
}

/// The value of a line of /proc/self/status or /proc/meminfo, in KiB; `None`: there is no such line.
#[must_use]
pub fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The number of open descriptors, with the one that reads them.
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
        let process = Process::start("ring");
        let numbers = process.read();
        let value = |numbers: &[Number], name: &str| {
            numbers.iter().find(|number| number.spec.name == name).map_or(0.0, |number| number.value)
        };
        let of = |name: &str| value(&numbers, name);
        assert!(of("process_resident_memory_bytes") > 1e6, "{numbers:?}");
        assert!(of("process_virtual_memory_bytes") > of("process_resident_memory_bytes"), "{numbers:?}");
        assert!(of("process_open_fds") >= 3.0 && of("process_max_fds") >= of("process_open_fds"), "{numbers:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
        assert!((now - of("process_start_time_seconds")).abs() < 600.0, "{numbers:?}");
        let mut rounds = 0u64;
        while cpu_s() <= of("process_cpu_seconds") {
            rounds = std::hint::black_box(rounds + 1);
        }
        assert_eq!(numbers[0].labels, [("version", env!("CARGO_PKG_VERSION").to_owned())]);
        assert_eq!(numbers[1].labels, [("io", "ring".to_owned())]);
    }
}
