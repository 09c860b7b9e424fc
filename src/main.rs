//! The `forebay` program.

use std::io::Write as _;
use std::process::ExitCode;

use forebay::cli::{self, Command, ConfigCommand, EXIT_FAILED, EXIT_USAGE, SpoolCommand, TopicsCommand, topics};
use forebay::config::{self, Config, Problems};

fn main() -> ExitCode {
    match cli::parse() {
        Command::Run(options) => with(options.load(), cli::run::run),
        Command::Check(options) => with(options.load(), |config| status(cli::check::check(&config))),
        Command::Topics(TopicsCommand::Create { from, partitions, replication_factor }) => {
            let shape = topics::Shape { partitions, replication_factor };
            with(from.load(), |config| status(topics::create(&config, shape)))
        }
        Command::Sinks(from) => answer(cli::ask::sinks(&from)),
        Command::Events(options) => answer(cli::ask::events(&options)),
        Command::Spool(SpoolCommand::Inspect(options)) => match cli::spool::inspect(&options) {
            Ok((text, sound)) => {
                print(&text);
                status(sound)
            }
            Err(why) => answer(Err(why)),
        },
        Command::Spool(SpoolCommand::Discard(options)) => match cli::spool::discard(&options) {
            Ok((text, done)) => {
                print(&text);
                status(done)
            }
            Err(why) => answer(Err(why)),
        },
        Command::Config(ConfigCommand::Default) => print(&config::example()),
        Command::Config(ConfigCommand::Schema) => print(&format!("{:#}\n", config::schema())),
    }
}

/// Goes on with a configuration, or says all that is wrong with it.
fn with(config: Result<Config, Problems>, go_on: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    config.map_or_else(
        |problems| {
            eprintln!("{problems}");
            ExitCode::from(EXIT_USAGE)
        },
        go_on,
    )
}

/// What a running service says, or why it says nothing.
fn answer(said: Result<String, String>) -> ExitCode {
    match said {
        Ok(text) => print(&text),
        Err(why) => {
            eprintln!("forebay: {why}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn status(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

/// To standard output. A reader that has enough and goes is no failure.
fn print(text: &str) -> ExitCode {
    let _gone = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
