//! Whether the machine is short of memory, as sinks with `memory_overload_protection` want to know: one fact for the whole process,
//! looked at once a second.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::kib;

static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Whether more than the watermark was in use at the last look; never, if nobody looks.
#[must_use]
pub fn is_short_of_memory() -> bool {
    IS_SHORT.load(Ordering::Relaxed)
}

/// Looks whether more than this part of the memory is in use: of the machine, or of the control group if that allows less.
/// `None`: nobody wants to know. Returns whether the answer is another one than before.
pub fn look(watermark: Option<f64>) -> bool {
    let is_short = watermark.is_some_and(|watermark| used() > watermark);
    IS_SHORT.swap(is_short, Ordering::Relaxed) != is_short
}

/// The part that is in use, from 0 to 1.
fn used() -> f64 {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).unwrap_or_default();
    let of_group = of_group(&read("max"), &read("current"), &read("stat"));
    of_machine.unwrap_or_default().max(of_group.unwrap_or_default())
}

/// Of `/proc/meminfo`. Memory that files only keep warm is available.
fn of_machine(text: &str) -> Option<f64> {
    let (total, available) = (kib(text, "MemTotal:")? as f64, kib(text, "MemAvailable:")? as f64);
    (total > 0.0).then(|| 1.0 - available / total)
}

/// Of a control group (cgroup v2) that has a limit.
fn of_group(max: &str, current: &str, stat: &str) -> Option<f64> {
    let max: f64 = max.trim().parse().ok().filter(|max| *max > 0.0)?;
    let current: f64 = current.trim().parse().ok()?;
    let idle = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<f64>().ok());
    Some((current - idle.unwrap_or_default()) / max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_that_of_the_machine_or_of_the_control_group() {
        let text = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    250 kB\n";
        assert_eq!(of_machine(text), Some(0.75));
        assert_eq!(of_machine("MemTotal: 1000 kB\n"), None);
        assert_eq!(of_group("1000\n", "900\n", "anon 700\ninactive_file 100\n"), Some(0.8));
        assert_eq!(of_group("max\n", "900\n", ""), None);
        assert_eq!(of_group("", "", ""), None);
        assert!((0.0..=1.0).contains(&used()));
    }
}
