//! The cost of a process, read from `/proc`; and its system calls, counted by perf if that is permitted.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A reading of one process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// User and system CPU of all its threads, in seconds (resolution: one clock tick, 10 ms).
    pub(crate) cpu_s: f64,
    /// The part of it in user mode.
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
    // The command is in parentheses and may have spaces: fields are counted after the last parenthesis.
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
        // A thread that has ended meanwhile is not counted.
        let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        for (sum, name) in sums.iter_mut().zip(["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]) {
            let found = status.lines().find_map(|line| line.strip_prefix(name));
            *sum += found.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(sums)
}

/// Counts a process's system calls with `perf stat`, which needs root or a low `perf_event_paranoid`; otherwise with `strace -c`,
/// which slows the process down.
pub(crate) struct SystemCalls {
    child: Child,
    by_perf: bool,
}

const EVENT: &str = "raw_syscalls:sys_enter";

impl SystemCalls {
    /// Starts counting. `None`: neither program can be run.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let pid = pid.to_string();
        let by_perf = perf(&["true"]).output().is_ok_and(|done| done.status.success());
        let mut command = if by_perf { perf(&["-p", &pid]) } else { Command::new("strace") };
        if !by_perf {
            command.args(["-f", "-c", "-p", &pid]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        // Neither program reports when it has begun.
        std::thread::sleep(std::time::Duration::from_millis(300));
        Some(Self { child, by_perf })
    }

    /// Ends counting. `None`: the program could not count.
    pub(crate) fn end(mut self) -> Option<u64> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok()?;
        let mut text = String::new();
        self.child.stderr.take()?.read_to_string(&mut text).ok()?;
        self.child.wait().ok()?;
        if self.by_perf { counted_by_perf(&text) } else { counted_by_strace(&text) }
    }
}

fn perf(arguments: &[&str]) -> Command {
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-e", EVENT]).args(arguments);
    command
}

fn counted_by_perf(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(EVENT))?;
    match line.split(',').next()? {
        "<not counted>" => Some(0),
        count => count.trim().parse().ok(),
    }
}

/// Parses the fourth column of the line `total`.
fn counted_by_strace(text: &str) -> Option<u64> {
    let line = text.lines().rev().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

impl Drop for SystemCalls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

    #[test]
    fn both_counters_are_read() {
        assert_eq!(counted_by_perf("4711,,raw_syscalls:sys_enter,1000,100.00,,\n"), Some(4_711));
        assert_eq!(counted_by_perf("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n"), Some(0));
        assert_eq!(counted_by_perf("<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n"), None);
        assert_eq!(counted_by_strace("100.00    0.000010           1        17         2 total\n"), Some(17));
        assert_eq!(counted_by_strace("strace: Could not attach\n"), None);
    }
}
