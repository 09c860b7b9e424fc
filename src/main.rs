//! The `forebay` program.

use std::io::Write as _;
use std::process::ExitCode;

use forebay::cli::{self, Command, ConfigCommand, EXIT_USAGE};
use forebay::config;

fn main() -> ExitCode {
    match cli::parse() {
        Command::Run(options) => match options.load() {
            Ok(config) => cli::run::run(config),
            Err(problems) => {
                eprintln!("{problems}");
                ExitCode::from(EXIT_USAGE)
            }
        },
        Command::Config(ConfigCommand::Default) => print(&config::example()),
        Command::Config(ConfigCommand::Schema) => print(&format!("{:#}\n", config::schema())),
    }
}

/// To standard output. A reader that has enough and goes is no failure.
fn print(text: &str) -> ExitCode {
    let _gone = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
