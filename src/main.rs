//! The `forebay` program.

use std::process::ExitCode;

use forebay::cli::args::{self, Command};
use forebay::cli::run::run;

/// Wrong usage or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match args::parse() {
        Command::Run(options) => match options.load() {
            Ok(config) => run(config),
            Err(problems) => {
                eprintln!("{problems}");
                ExitCode::from(USAGE)
            }
        },
    }
}
