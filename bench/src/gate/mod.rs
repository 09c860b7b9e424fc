//! `gate`: budgets that a change must keep. The light form measures only numbers that do not depend on the machine's load:
//! instructions, locked instructions, allocations and system calls. The whole form adds ratios to the floor.

mod budgets;
mod instructions;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::compare;
use crate::compare::servers::{Behind, Entry, Server};
use crate::patterns::Pattern;
use crate::transport;
use budgets::{Budgets, Line};

/// See the module.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// The budgets.
    #[arg(default_value = "perf/budgets.toml")]
    budgets: PathBuf,
    /// Without ratios to the floor.
    #[arg(long)]
    light: bool,
    /// The program that `cargo build --bench instructions --config bench/gate.toml` builds; without it, that is run.
    #[arg(long)]
    instructions: Option<PathBuf>,
    /// The service, for system calls and ratios; a release build for ratios.
    #[arg(long, default_value = "target/debug/forebay")]
    forebay: PathBuf,
    /// Only instructions, locked instructions and allocations.
    #[arg(long)]
    no_service: bool,
    /// Rounds for ratios.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Measures and judges. `false`: over a budget, or something could not be measured.
///
/// # Errors
/// Programs that cannot be built or run.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<bool> {
    let budgets = Budgets::read(&settings.budgets)?;
    let mut lines = Vec::new();
    instructions::measure(&budgets, settings.instructions.as_deref(), &mut lines)?;
    if !settings.no_service {
        system_calls(&budgets, settings, &mut lines)?;
        if !settings.light {
            ratios(&budgets, settings, &mut lines)?;
        }
    }
    lines.iter().for_each(|line| println!("{line}"));
    let over = lines.iter().filter(|line| !line.passed()).count();
    println!(
        "{}",
        if over == 0 {
            format!("PASSED: gate ({} budgets)", lines.len())
        } else {
            format!("FAILED: gate ({over} over budget)")
        }
    );
    Ok(over == 0)
}

fn pattern(name: &str) -> anyhow::Result<Pattern> {
    clap::ValueEnum::from_str(name, true).map_err(|_| anyhow::anyhow!("budgets: there is no pattern {name}"))
}

fn forebay(settings: &Settings, cpu: Option<usize>) -> anyhow::Result<Server> {
    let entry = Entry { transport: &transport::Settings::default(), certificate: None };
    Server::forebay("forebay", &settings.forebay, Behind::Sink("replicated"), entry, cpu)
}

fn system_calls(budgets: &Budgets, settings: &Settings, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if budgets.system_calls.is_empty() {
        return Ok(());
    }
    let server = forebay(settings, None)?;
    for (name, &budget) in &budgets.system_calls {
        let outcome = compare::round(&server, &pattern(name)?.scenario(0.2), None, true)?;
        let counted = outcome.processes.first().and_then(|process| process.system_calls_per_message);
        let counted = counted.context(
            "neither perf nor strace can count system calls here (on Debian: apt-get install linux-perf strace; root)",
        )?;
        lines.push(Line::most(format!("system calls a message, {name}"), counted, budget));
        if !outcome.verdict.passed {
            lines.push(Line::failed(format!("pattern {name}: {}", outcome.verdict.headline)));
        }
    }
    Ok(())
}

fn ratios(budgets: &Budgets, settings: &Settings, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if budgets.ratio.is_empty() {
        return Ok(());
    }
    let servers = [Server::floor(Some(0))?, forebay(settings, Some(0))?];
    let patterns = budgets.ratio.keys().map(|name| pattern(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let plan = compare::Plan { patterns, rounds: settings.rounds, scale: 1.0, cpu: Some(1), system_calls: false };
    let comparison = compare::rounds(&servers, &plan)?;
    for result in &comparison.patterns {
        let budget = budgets.ratio.get(&result.pattern).copied().unwrap_or(0.0);
        for target in result.targets.iter().filter(|target| target.name == "forebay") {
            match target.ratio {
                Some(ratio) => {
                    lines.push(Line::most(format!("CPU a message, x floor, {}", result.pattern), ratio, budget))
                }
                None => lines.push(Line::failed(format!("{}: {}", result.pattern, result.note().unwrap_or_default()))),
            }
            lines.extend(target.failures.iter().map(|failure| Line::failed(format!("{}: {failure}", result.pattern))));
        }
    }
    Ok(())
}
