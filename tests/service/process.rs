//! What the kernel and `/metrics` say of a running service, and waiting for it.

use std::fs;
use std::time::{Duration, Instant};

use crate::device::PATIENCE;
use crate::support::service::Service;

/// Waits until something is so. Panics with `what` if it never is.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    // Longer from look to look: a look may be a page of metrics, or a program.
    let mut pause = Duration::from_millis(2);
    while !so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_millis(100));
    }
}

/// A metric by its name without `forebay_`, summed over shards, sinks and clusters.
pub(crate) fn metric(service: &Service, name: &str) -> u64 {
    let value = service.metric(&format!("forebay_{name}")).unwrap_or_else(|| panic!("/metrics has no {name}"));
    value as u64
}

/// Waits until a metric has a value.
pub(crate) fn until_metric(service: &Service, name: &str, value: u64) {
    let mut last = 0;
    until(&format!("{name} to be {value}"), || {
        last = metric(service, name);
        last == value
    });
}

/// Open descriptors.
pub(crate) fn descriptors(service: &Service) -> usize {
    // Root may look; others may not, as for all that keeps out of dumps.
    match fs::read_dir(format!("/proc/{}/fd", service.pid())) {
        Ok(descriptors) => descriptors.count(),
        Err(_) => service.metric("process_open_fds").expect("a number") as usize,
    }
}

/// Memory in use, bytes.
pub(crate) fn resident_bytes(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// CPU time of all its threads so far.
pub(crate) fn cpu_time(service: &Service) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", service.pid())).expect("the process runs");
    let (_, fields) = stat.rsplit_once(") ").expect("fields behind the name");
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    // USER_HZ is 100 on every Linux that this runs on.
    Duration::from_millis(ticks * 10)
}

/// Taken, delivered, refused and buffered records of all sinks. They balance at every snapshot.
pub(crate) fn ledger(service: &Service) -> [u64; 4] {
    let page = service.get("/metrics").expect("metrics").1;
    let numbers = [
        "sink_records_in_total{source=\"publish\"}",
        "sink_records_out_total{result=\"delivered\"}",
        "sink_records_out_total{result=\"refused\"}",
        "sink_buffered_records",
    ];
    let [taken, delivered, refused, buffered] = numbers.map(|name| {
        crate::support::service::sum(&page, &format!("forebay_{name}")).unwrap_or_else(|| panic!("no {name}")) as u64
    });
    assert_eq!(taken, delivered + refused + buffered, "the ledger balances:\n{page}");
    [taken, delivered, refused, buffered]
}
