//! The `forebay` program.

use std::process::ExitCode;

use forebay::cli::{self, Command, EXIT_USAGE};

fn main() -> ExitCode {
    match cli::parse() {
        Command::Run(options) => match options.load() {
            Ok(config) => cli::run::run(config),
            Err(problems) => {
                eprintln!("{problems}");
                ExitCode::from(EXIT_USAGE)
            }
        },
    }
}
