//! Runs the pieces of the hot path under callgrind and under a counting allocator.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use serde_json::Value;

use super::budgets::{Budgets, Line};

const CALLS: u64 = 20_000;
/// The number of calls in the program's own allocation count.
const ALLOCATION_CALLS: u64 = 10_000;

/// Measures every piece; one without a budget fails, and so does a budget without a piece.
pub(super) fn measure(budgets: &Budgets, program: Option<&Path>, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let program = program.map_or_else(build, |program| Ok(program.to_owned()))?;
    let names = output(Command::new(&program).arg("list"))?;
    for (name, counted) in counted(&program, &names.lines().collect::<Vec<_>>()) {
        let Some(&budget) = budgets.instructions.get(name) else {
            lines.push(Line::failed(format!("{name}: no budget")));
            continue;
        };
        let (instructions, locked) = counted?;
        let of_call = |count: u64| count as f64 / CALLS as f64;
        lines.push(Line::near(format!("instructions, {name}"), of_call(instructions), budget, budgets.tolerance));
        let most = budgets.locked.get(name).copied().unwrap_or(0.0);
        lines.push(Line::most(format!("locked instructions, {name}"), of_call(locked), most));
    }
    for name in budgets.instructions.keys().filter(|name| !names.lines().any(|line| line == *name)) {
        lines.push(Line::failed(format!("{name}: a budget without a piece")));
    }
    for (name, count) in allocations(&program)? {
        let most = budgets.allocations.get(&name).copied().unwrap_or(0.0);
        lines.push(Line::most(format!("allocations in {ALLOCATION_CALLS} calls, {name}"), count, most));
    }
    Ok(())
}

/// Builds the program, and the service with it, optimized (`bench/gate.toml`). Returns the program's path.
fn build() -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--workspace", "--bench", "instructions", "--config", "bench/gate.toml"]);
    cargo.args(["--message-format=json", "--quiet"]);
    let text = output(cargo.stderr(Stdio::inherit()))?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = messages.filter(|message| message["target"]["name"] == "instructions");
    let found = found.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    found.context("cargo did not say where it put `instructions`")
}

/// Counts of each piece, in their order: on all cores, as counts do not depend on the load.
fn counted<'a>(program: &Path, names: &[&'a str]) -> Vec<(&'a str, anyhow::Result<(u64, u64)>)> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(place) else { return };
            let counts = callgrind(program, name);
            found.lock().expect("no panic while held").insert(place, (*name, counts));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    found.into_inner().expect("no panic while held").into_values().collect()
}

/// Instructions and locked instructions of all calls.
fn callgrind(program: &Path, name: &str) -> anyhow::Result<(u64, u64)> {
    let file = std::env::temp_dir().join(format!("forebay-gate-{}-{name}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--collect-atstart=no",
        "--toggle-collect=*measured_region*",
        "--collect-bus=yes",
        "-q",
    ]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display())).arg(program).args([
        "run",
        name,
        &CALLS.to_string(),
    ]);
    output(&mut valgrind).context("valgrind (on Debian: apt-get install valgrind)")?;
    let text = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    totals(&text?).with_context(|| format!("callgrind's output for {name}"))
}

/// Parses a file of callgrind: `events: Ir Ge` names the numbers of `totals:`.
fn totals(text: &str) -> anyhow::Result<(u64, u64)> {
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).map(str::split_whitespace);
    let events: Vec<&str> = line("events:").context("no events")?.collect();
    let counts: Vec<u64> = line("totals:").context("no totals")?.map(str::parse).collect::<Result<_, _>>()?;
    let of = |event| events.iter().position(|name| *name == event).and_then(|at| counts.get(at)).copied();
    match of("Ir").context("no instructions")? {
        0 => bail!("nothing was collected: measured_region() is gone"),
        instructions => Ok((instructions, of("Ge").unwrap_or(0))),
    }
}

fn allocations(program: &Path) -> anyhow::Result<BTreeMap<String, f64>> {
    let text = output(Command::new(program).arg("allocations"))?;
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let (name, count) = line.split_once(' ').with_context(|| line.to_owned())?;
        counts.insert(name.to_owned(), count.parse()?);
    }
    Ok(counts)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("{:?}", command.get_program()))?;
    if !done.status.success() {
        bail!("{:?}: {}\n{}", command.get_program(), done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8(done.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_totals_are_read_by_name() {
        assert_eq!(totals("version: 1\nevents: Ir Ge\nfn=x\ntotals: 1200 7\n").unwrap(), (1_200, 7));
        assert_eq!(totals("events: Ge Ir\ntotals: 7 1200\n").unwrap(), (1_200, 7));
        assert_eq!(totals("events: Ir Ge\ntotals: 1200\n").unwrap(), (1_200, 0));
        assert!(totals("events: Ir\ntotals: 0\n").is_err());
    }
}
