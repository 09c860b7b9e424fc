//! `forebay-bench`: loads MQTT brokers, judges what became of each message, and says what it cost. `bench/README.md` shows
//! how it is used; it shares no code with the service.

mod back;
mod classic;
mod compare;
mod floor;
mod flow;
mod follow;
mod gate;
mod html;
mod kafka;
mod kept;
mod load;
mod machine;
mod outcome;
mod patterns;
mod process;
mod run;
mod summary;
mod target;
mod text;
mod transport;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use load::scenario::Role;

/// Loads MQTT brokers, judges what became of each message, and says what it cost.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Run a scenario file or a pattern; exit status 1: something was lost, doubled, refused or unanswered.
    Run(Box<run::Settings>),
    /// Publish from many clients.
    Pub(Box<run::One>),
    /// Subscribe with many clients, and count.
    Sub(Box<run::One>),
    /// Connect, disconnect and connect again.
    Connect(Box<run::One>),
    /// Interleave rounds of several servers with a floor, and say ratios.
    Compare(Box<compare::Settings>),
    /// Hold instructions, allocations, system calls and ratios against their budgets; exit status 1: over one.
    Gate(gate::Settings),
    /// Serve as the floor: the least that a server can do.
    Floor(floor::Settings),
    /// Serve as a Kafka that answers producers and throws the records away.
    KafkaSink(kafka::sink::Settings),
    /// Publish with a fixed load; JSON on standard output.
    Publish(classic::Publish),
    /// Hold connections that say nothing: memory and CPU of each; JSON on standard output.
    Idle(classic::Idle),
    /// Leave sessions behind, and come back for what waits for them: memory and CPU of each; JSON on standard output.
    Kept(kept::Settings),
    /// Send numbered messages, with reconnects, and judge what arrived in Kafka; exit status 1: something is wrong.
    Flow(Box<flow::Settings>),
    /// Write numbered records into Kafka, and judge what came to subscribers and what was committed; exit status 1: something is wrong.
    Back(Box<back::Settings>),
    /// Write records into Kafka, and measure from their acknowledgement until a consumer has them; JSON on standard output.
    Follow(follow::Settings),
}

fn main() -> anyhow::Result<ExitCode> {
    let passed = match Arguments::parse().job {
        Job::Run(settings) => run::run(&settings)?,
        Job::Pub(one) => one.run(Role::Publish)?,
        Job::Sub(one) => one.run(Role::Subscribe)?,
        Job::Connect(one) => one.run(Role::Connect)?,
        Job::Compare(settings) => compare::run(&settings)?,
        Job::Gate(settings) => gate::run(&settings)?,
        Job::Floor(settings) => floor::run(&settings).map(|()| true)?,
        Job::KafkaSink(settings) => kafka::sink::run(&settings).map(|()| true)?,
        Job::Publish(settings) => print(&classic::publish(&settings)?)?,
        Job::Idle(settings) => print(&classic::idle(&settings)?)?,
        Job::Kept(settings) => print(&kept::run(&settings)?)?,
        Job::Flow(settings) => {
            let (report, passed) = flow::run(&settings)?;
            print(&report)? && passed
        }
        Job::Follow(settings) => print(&follow::run(&settings)?)?,
        Job::Back(settings) => {
            let (report, passed) = back::run(&settings)?;
            print(&report)? && passed
        }
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &serde_json::Value) -> anyhow::Result<bool> {
    println!("{}", serde_json::to_string_pretty(report)?);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// clap checks this in debug builds only, and only for the job that is asked for.
    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
