//! `forebay-bench`: loads a broker over MQTT and says what it cost.
//!
//! One thread, epoll, no library between it and the wire, so that the generator stays far cheaper than what it
//! measures. It grows into the load harness; today it has three jobs: `publish` (patterns A to D of the performance
//! aims: so many connections, so many messages a write, a window of unanswered ones), `idle` (memory and CPU of a
//! process that holds connections which say nothing) and `flow` (numbered messages of every QoS with reconnects, judged by
//! what stands in Kafka).

mod device;
mod flow;
mod idle;
mod process;
mod publish;

use std::process::ExitCode;

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
    /// Send numbered messages, with reconnects, and judge what arrived in Kafka; exit status 1: something is wrong.
    Flow(Box<flow::Settings>),
}

fn main() -> anyhow::Result<ExitCode> {
    let report = match Arguments::parse().job {
        Job::Publish(settings) => publish::run(&settings)?,
        Job::Idle(settings) => idle::run(&settings)?,
        Job::Flow(settings) => {
            let (report, passed) = flow::run(&settings)?;
            println!("{}", serde_json::to_string_pretty(&report)?);
            return Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(ExitCode::SUCCESS)
}
