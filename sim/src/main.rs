//! `forebay-sim`: runs ranges of seeds on all cores, and one seed with its trace.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use forebay_sim::expected;
use forebay_sim::faults::Fault;
use forebay_sim::plan::{Hostile, Kind, Plan};
use forebay_sim::run::{self, Ran, Without};
use forebay_sim::scenarios;
use forebay_sim::wrong::{self, FoundBy};

/// Runs whole shards of Forebay against models of Kafka, disks, networks and devices.
#[derive(Parser)]
struct Arguments {
    /// Seeds, as `0..10000`; one seed, which is run with a trace; `scripts`; or `rules`: what finds each rule that is
    /// taken out.
    seeds: String,
    /// Run without disk and crashes.
    #[arg(long)]
    memory: bool,
    /// Run with configuration changes between processes, failing reads and wrong clocks.
    #[arg(long)]
    hostile: bool,
    /// Run with gathered groups of the log (`[spool] sync_interval`).
    #[arg(long)]
    gathered: bool,
    /// Run with clients that subscribe; with `--hostile`, in hostile runs.
    #[arg(long)]
    subscribers: bool,
    /// Run with clients that subscribe, some of them to shared subscriptions; with `--hostile`, in hostile runs.
    #[arg(long)]
    shares: bool,
    /// Run with sources, and with clients that subscribe to the messages of their records.
    #[arg(long)]
    sources: bool,
    /// Run with `[broker]`: messages go through Kafka, and sessions are kept there.
    #[arg(long)]
    broker: bool,
    /// Run with several instances of one broker.
    #[arg(long)]
    instances: bool,
    /// Faults to leave out, by name. In hostile runs also: changes, reads, shards, rot, missing, unreadable, files,
    /// flood.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Run without layers, which half of the runs have on connections: a seed then does what it did before layers existed.
    #[arg(long)]
    no_layers: bool,
    /// Do not judge liveness while faults last.
    #[arg(long)]
    no_liveness: bool,
    /// Tolerate no known fault.
    #[arg(long)]
    no_tolerance: bool,
    /// Leave out all that a failing seed does not need.
    #[arg(long)]
    shrink: bool,
    /// Write the digest of each seed to this file, a line each: the view of clients and Kafka.
    #[arg(long)]
    digests: Option<PathBuf>,
    /// Take a rule out, by its name in `wrong`.
    #[arg(long)]
    rule: Option<String>,
    /// Number of seeds of each kind for a rule that is taken out.
    #[arg(long, default_value_t = 1_000)]
    limit: u64,
    /// Number of threads; by default one for each core.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    run::catch_panics();
    let is_given = |option: &str| match option {
        "--memory" => arguments.memory,
        "--hostile" => arguments.hostile,
        "--gathered" => arguments.gathered,
        "--subscribers" => arguments.subscribers,
        "--shares" => arguments.shares,
        "--sources" => arguments.sources,
        "--broker" => arguments.broker,
        "--instances" => arguments.instances,
        other => unreachable!("{other} chooses no kind"),
    };
    let chosen = |(_, options): &(Kind, &str)| options.split_whitespace().all(is_given);
    let kind = Kind::ALL.into_iter().find(chosen).map_or(Kind::All, |(kind, _)| kind);
    let named = |name: &&Fault| arguments.without.iter().any(|other| other.eq_ignore_ascii_case(name.name()));
    let rule = arguments.rule.as_deref().map(|name| wrong::ALL.iter().find(|wrong| wrong.name == name));
    let Some(rule) = rule.map_or(Some(None), |found| found.map(Some)) else {
        eprintln!("no such rule; these are known: {:?}", wrong::ALL.iter().map(|wrong| wrong.name).collect::<Vec<_>>());
        return std::process::ExitCode::from(2);
    };
    let without = Without {
        faults: Fault::ALL.iter().filter(named).copied().collect(),
        hostile: Hostile::NAMES
            .iter()
            .filter(|name| arguments.without.iter().any(|other| other == *name))
            .copied()
            .collect(),
        liveness: arguments.no_liveness,
        tolerance: arguments.no_tolerance,
        layers: arguments.no_layers,
        rules: rule.map(|wrong| wrong.rules),
    };
    let parse = |text: &str| text.parse::<u64>().ok();
    if arguments.seeds == "scripts" {
        return scripts();
    }
    if arguments.seeds == "rules" {
        return rules(arguments.limit);
    }
    match arguments.seeds.split_once("..") {
        Some((from, to)) => {
            let Some((from, to)) = parse(from).zip(parse(to)) else { return bad(&arguments.seeds) };
            many(from..to, kind, &without, arguments.threads, arguments.digests.as_deref())
        }
        None => {
            let Some(seed) = parse(&arguments.seeds) else { return bad(&arguments.seeds) };
            one(seed, kind, without, arguments.shrink)
        }
    }
}

fn scripts() -> std::process::ExitCode {
    let mut wrong = false;
    for (name, script) in scenarios::ALL {
        let (result, known) = (script(), expected::RED_SCRIPTS.contains(name));
        wrong |= result.is_ok() == known;
        let text =
            result.map_or_else(|failure| format!("red: {}: {}", failure.what, failure.text), |()| "green".into());
        println!("{name}: {}", text.lines().next().unwrap_or_default());
    }
    if wrong { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}

/// Prints the first seed that finds each rule that is taken out.
fn rules(limit: u64) -> std::process::ExitCode {
    let mut found_all = true;
    for wrong in wrong::ALL {
        let FoundBy::Seed(kind, _) = wrong.found_by else { continue };
        let without = Without { rules: Some(wrong.rules), layers: true, ..Without::default() };
        let found = run::first_red(0..limit, kind, &without);
        found_all &= found.is_some();
        let text = found.map_or_else(|| "not found".into(), |(seed, failure)| format!("{seed}, {}", failure.what));
        println!("{}: {kind:?} {text}", wrong.name);
    }
    if found_all { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

fn bad(text: &str) -> std::process::ExitCode {
    eprintln!("seeds must be a number or a range as 0..1000, not {text:?}");
    std::process::ExitCode::from(2)
}

/// Writes the digests of many seeds, and for a seed without one the failure.
fn write_digests(file: &Path, ran: &Ran) -> std::io::Result<()> {
    let mut lines: Vec<_> = ran.digests.iter().map(|(seed, digest)| (*seed, format!("{digest:016x}"))).collect();
    lines.extend(ran.failed.iter().map(|(seed, failure)| (*seed, failure.what.to_owned())));
    lines.sort_unstable();
    let mut text = String::new();
    for (seed, what) in lines {
        writeln!(text, "{seed} {what}").expect("strings take all");
    }
    std::fs::write(file, text)
}

fn many(
    seeds: std::ops::Range<u64>,
    kind: Kind,
    without: &Without,
    threads: Option<usize>,
    digests: Option<&Path>,
) -> std::process::ExitCode {
    let began = Instant::now();
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let count = seeds.end.saturating_sub(seeds.start);
    let ran = run::many(seeds, kind, without, threads);
    if let Some(Err(error)) = digests.map(|file| write_digests(file, &ran)) {
        eprintln!("the digests cannot be written: {error}");
        return std::process::ExitCode::from(2);
    }
    let Ran { sums, failed, .. } = ran;
    let mut unknown = 0;
    for (seed, failure) in &failed {
        let text: String = failure.text.lines().next().unwrap_or_default().chars().take(300).collect();
        let known = expected::fault_of(kind, *seed);
        unknown += u64::from(known.is_none());
        println!("{seed}: {}: {text}{}", failure.what, known.map_or_else(String::new, |fault| format!(" ({fault})")));
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{sums:?}");
    let per_second = count as f64 / seconds;
    println!("{count} seeds, {} red ({unknown} not known), {seconds:.1} s, {per_second:.1} seeds/s", failed.len());
    if unknown == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

fn one(seed: u64, kind: Kind, mut without: Without, shrink: bool) -> std::process::ExitCode {
    if let (true, Err(failure)) = (shrink, run::run(seed, kind, &without, false).0) {
        without = run::shrunk(seed, kind, &without, failure.what);
        let names: Vec<_> = without.faults.iter().map(|fault| fault.name()).collect();
        println!("without {}", names.into_iter().chain(without.hostile.iter().copied()).collect::<Vec<_>>().join(","));
    }
    let plan = if without.layers { Plan::without_layers(seed, kind) } else { Plan::new(seed, kind) };
    println!("{plan:#?}");
    let (result, trace) = run::run(seed, kind, &without, true);
    println!("{trace}");
    match result {
        Ok(sums) => {
            println!("seed {seed} passed: {sums:?}");
            std::process::ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("seed {seed}: {}: {}", failure.what, failure.text);
            std::process::ExitCode::FAILURE
        }
    }
}
