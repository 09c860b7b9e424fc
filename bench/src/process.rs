//! What a process has used, read from `/proc`.

use anyhow::Context;

/// A reading of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// User and system CPU of all its threads, in seconds (resolution: one clock tick, 10 ms).
    pub(crate) cpu_s: f64,
    /// Resident memory in bytes.
    pub(crate) rss_bytes: u64,
    /// Times that one of its threads went to wait of its own will.
    pub(crate) voluntary_switches: u64,
}

/// Reads a process.
pub(crate) fn read(pid: u32) -> anyhow::Result<Reading> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process to measure")?;
    // The command stands in parentheses and may hold spaces: count fields behind the last one.
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).context("stat field");
    let page_bytes = rustix::param::page_size() as u64;
    let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
    Ok(Reading {
        cpu_s: (ticks(11)? + ticks(12)?) as f64 / ticks_per_s,
        rss_bytes: ticks(21)? * page_bytes,
        voluntary_switches: voluntary_switches(pid).unwrap_or(0),
    })
}

fn voluntary_switches(pid: u32) -> std::io::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has ended meanwhile counts no more.
        let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        let found = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += found.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
