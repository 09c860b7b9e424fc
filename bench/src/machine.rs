//! The machine of a run.

use std::fs;
use std::io::Write;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// See the module. Unreadable values are left empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) system: String,
    /// Frequency governor; empty in most virtual machines.
    pub(crate) governor: String,
    pub(crate) congestion_control: String,
    /// Load average over a minute, before the run.
    pub(crate) load: f64,
    /// Median time of an fdatasync of 4 KiB in the folder of the report, in microseconds; 0: not taken.
    pub(crate) disk_sync_us: u64,
}

/// Describes this one.
pub(crate) fn describe() -> Machine {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let value = |text: &str, name: &str, separator: char| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(separator));
        found.map_or(String::new(), |(_, value)| value.trim().trim_matches('"').to_owned())
    };
    let kib = value(&line("/proc/meminfo"), "MemTotal", ':');
    Machine {
        cpu: value(&line("/proc/cpuinfo"), "model name", ':'),
        cores: std::thread::available_parallelism().map_or(1, Into::into),
        memory_bytes: kib.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10,
        kernel: line("/proc/sys/kernel/osrelease"),
        system: value(&line("/etc/os-release"), "PRETTY_NAME", '='),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
        load: line("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        disk_sync_us: disk_sync_us(std::path::Path::new(".")).unwrap_or(0),
    }
}

/// Median of eleven syncs of a small file.
fn disk_sync_us(folder: &std::path::Path) -> std::io::Result<u64> {
    let path = folder.join(format!(".forebay-bench-sync-{}", std::process::id()));
    let mut times = Vec::new();
    let result = (|| {
        let mut file = fs::File::create(&path)?;
        for _ in 0..11 {
            file.write_all(&[0; 4096])?;
            let start = Instant::now();
            file.sync_data()?;
            times.push(start.elapsed().as_micros() as u64);
        }
        Ok(())
    })();
    let _ = fs::remove_file(&path);
    times.sort_unstable();
    result.map(|()| times[times.len() / 2])
}
