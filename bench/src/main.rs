//! `forebay-bench`: loads a broker over MQTT and says what it cost.
//!
//! One thread, epoll, no library between it and the wire, so that the generator stays far cheaper than what it
//! measures. It grows into the load harness; today it has two jobs: `publish` (patterns A to D of the performance
//! aims: so many connections, so many messages a write, a window of unanswered ones) and `idle` (memory and CPU of a
//! process that holds connections which say nothing).

mod device;
mod idle;
mod process;
mod publish;

use clap::{Parser, Subcommand};

/// Loads an MQTT server and measures the process that serves.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Publish as fast as the window allows; report CPU per message of the serving process.
    Publish(publish::Settings),
    /// Open connections that say nothing; report memory per connection and CPU.
    Idle(idle::Settings),
}

fn main() -> anyhow::Result<()> {
    let report = match Arguments::parse().job {
        Job::Publish(settings) => publish::run(&settings)?,
        Job::Idle(settings) => idle::run(&settings)?,
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
