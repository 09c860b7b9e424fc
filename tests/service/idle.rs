//! A service that has nothing to do sleeps: nothing in it wakes by the clock more than it must.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::service::{Service, config_with};

/// Wake-ups of all threads of a process so far: each is a blocking system call that returned.
fn wake_ups(pid: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let count = |path: std::path::PathBuf| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some((field("Name:")?.to_owned(), field("voluntary_ctxt_switches:")?.parse().ok()?))
    };
    let mut all: Vec<_> = tasks.flatten().filter_map(|task| count(task.path())).collect();
    all.sort();
    all
}

/// At most three blocking system calls a second, for two shards with a spool: two on a quiet machine. Before there was a tick of 10 ms and a guard
/// of 100 ms on each.
#[test]
fn an_idle_service_makes_no_system_calls() {
    const SECONDS: u64 = 10;
    let service = Service::start(&config_with(
        "shards = 2",
        "[spool]\nbytes_max = \"64MiB\"\nsegment_bytes = \"1MiB\"\n[[sink]]\nname = \"a\"\nfilters = [\"#\"]\ntopic = \"t\"\nbatch_bytes = \"64KiB\"\nrecord_bytes_max = \"64KiB\"\n",
    ));
    // Segments are prepared, metadata is asked for, and the embedded log has answered.
    sleep(Duration::from_secs(3));
    let total = |all: &[(String, u64)]| all.iter().map(|(_, count)| count).sum::<u64>();
    let (before, begun) = (wake_ups(service.pid()), Instant::now());
    sleep(Duration::from_secs(SECONDS));
    let after = wake_ups(service.pid());
    let seconds = begun.elapsed().as_secs_f64();
    let a_second = (total(&after) - total(&before)) as f64 / seconds;
    assert!(a_second <= 3.0, "{a_second:.1} wake-ups a second\nbefore: {before:?}\nafter: {after:?}");
}
