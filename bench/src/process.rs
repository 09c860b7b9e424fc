//! What a process has used, read from `/proc`; and its system calls, counted by perf where that may be done.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A reading of one process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// User and system CPU of all its threads, in seconds (resolution: one clock tick, 10 ms).
    pub(crate) cpu_s: f64,
    /// Of which in user mode.
    pub(crate) user_s: f64,
    /// Resident memory in bytes.
    pub(crate) rss_bytes: u64,
    /// Times that one of its threads blocked.
    pub(crate) voluntary_switches: u64,
    /// Times that one of its threads was preempted.
    pub(crate) involuntary_switches: u64,
}

/// Reads a process.
pub(crate) fn read(pid: u32) -> anyhow::Result<Reading> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process to measure")?;
    // The command stands in parentheses and may hold spaces: count fields behind the last one.
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).context("stat field");
    let page_bytes = rustix::param::page_size() as u64;
    let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
    let [voluntary_switches, involuntary_switches] = switches(pid).unwrap_or_default();
    Ok(Reading {
        cpu_s: (ticks(11)? + ticks(12)?) as f64 / ticks_per_s,
        user_s: ticks(11)? as f64 / ticks_per_s,
        rss_bytes: ticks(21)? * page_bytes,
        voluntary_switches,
        involuntary_switches,
    })
}

fn switches(pid: u32) -> std::io::Result<[u64; 2]> {
    let mut sums = [0; 2];
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has ended meanwhile counts no more.
        let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        for (sum, name) in sums.iter_mut().zip(["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]) {
            let found = status.lines().find_map(|line| line.strip_prefix(name));
            *sum += found.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(sums)
}

/// Counts a process's system calls with `perf stat`, which needs root or a low `perf_event_paranoid`.
pub(crate) struct SystemCalls(Child);

impl SystemCalls {
    /// Starts to count. `None`: perf cannot be run.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let mut command = Command::new("perf");
        command.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        // It says nothing when it has begun.
        std::thread::sleep(std::time::Duration::from_millis(300));
        Some(Self(child))
    }

    /// Ends it. `None`: perf could not count.
    pub(crate) fn end(mut self) -> Option<u64> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok()?;
        let mut text = String::new();
        self.0.stderr.take()?.read_to_string(&mut text).ok()?;
        self.0.wait().ok()?;
        let line = text.lines().find(|line| line.contains("raw_syscalls"))?;
        match line.split(',').next()? {
            "<not counted>" => Some(0),
            count => count.trim().parse().ok(),
        }
    }
}

impl Drop for SystemCalls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let reading = read(std::process::id()).unwrap();
        assert!(reading.rss_bytes > 100_000 && reading.user_s <= reading.cpu_s);
        assert!(read(u32::MAX).is_err());
    }
}
