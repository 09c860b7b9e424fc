//! The `forebay` program.

use std::process::ExitCode;

use forebay::cli::out::complain;
use forebay::cli::{
    self, BrokerCommand, Command, ConfigCommand, EXIT_FAILED, EXIT_USAGE, RuleCommand, RunArgs, SpoolCommand,
    TopicsCommand, man, topics,
};
use forebay::config::{self, LogFormat, Problems};
use forebay::secure::keep_out_of_dumps;

fn main() -> ExitCode {
    keep_out_of_dumps();
    match cli::parse() {
        Command::Run(args) => {
            let args = RunArgs::from(args);
            with(args.load_text(), args.log_format, |loaded| cli::run::run(&args, loaded))
        }
        Command::Check(args) => {
            let checked = cli::check::run(&args);
            print(&checked.text);
            ExitCode::from(checked.status)
        }
        Command::Topics(TopicsCommand::Create { from, partitions, replication_factor }) => {
            let shape = topics::Shape { partitions, replication_factor };
            with(from.load(), None, |config| status(topics::create(&config, shape)))
        }
        Command::Topics(TopicsCommand::Match(options)) => answer(cli::top::matching(&options)),
        Command::Top(options) => answer(cli::top::top(&options)),
        Command::Trace(options) => answer(cli::trace::trace(&options)),
        Command::Broker(BrokerCommand::Slots(from)) => answer(cli::slots::slots(&from)),
        Command::Drain(options) => report(cli::drain::drain(&options)),
        Command::Bans(options) => answer(cli::bans::bans(&options)),
        Command::Users(command) => answer(cli::users::users(&command)),
        Command::Permissions(command) => answer_file(cli::users::permissions(&command).map(noted)),
        Command::DeadLetters(command) => report(cli::dead_letters::dead_letters(&command)),
        Command::Publish(options) => answer(cli::publish::publish(&options)),
        Command::Sinks(options) => answer(cli::sinks::sinks(&options)),
        Command::Histograms(options) => answer(cli::sinks::histograms(&options)),
        Command::Bridges(options) => report(cli::bridges::bridges(&options)),
        Command::Sources(options) => report(cli::sources::sources(&options)),
        Command::Flow(options) => answer(cli::flow::flow(&options)),
        Command::Rules(options) => answer(cli::rules::rules(&options)),
        Command::Events(options) if options.follow => answer(cli::follow::events(&options)),
        Command::Events(options) => answer(cli::ask::events(&options)),
        Command::Clients(options) => answer(cli::lists::clients(&options)),
        Command::Subscriptions(options) => answer(cli::lists::subscriptions(&options)),
        Command::Status(from) => report(cli::status::status(&from)),
        Command::LogLevel(options) => answer(cli::status::log_level(&options)),
        Command::Listeners(options) => answer(cli::infrastructure::listeners(&options)),
        Command::Clusters(options) => report(cli::infrastructure::clusters(&options)),
        Command::Shares(options) => answer(cli::lists::shares(&options)),
        Command::Retained(options) => answer(cli::lists::retained(&options)),
        Command::Health(from) => answer(cli::ask::health(&from)),
        Command::Reload(options) => answer(cli::ask::reload(&options)),
        Command::Passwd(options) => answer(cli::passwd::passwd(&options)),
        Command::Access(options) => match cli::access::access(&options) {
            Ok(decided) => {
                print(&decided.text);
                status(decided.is_granted)
            }
            Err(why) => {
                complain(format_args!("forebay: {why}"));
                ExitCode::from(EXIT_USAGE)
            }
        },
        Command::Rule(RuleCommand::Explain(options)) => {
            with(options.load(), None, |config| answer(cli::rule::explain(&options, config.as_ref())))
        }
        Command::Rule(RuleCommand::Test(options)) => with(options.load(), None, |config| {
            report(cli::rule::test(&options, config.as_ref()).map(|tried| {
                if !tried.notes.is_empty() {
                    complain(format_args!("{}", tried.notes.trim_end()));
                }
                (tried.text, tried.is_good)
            }))
        }),
        Command::Import(import) => answer_file(cli::import::import(&import).map(|imported| {
            if !imported.notes.is_empty() {
                complain(format_args!("{}", imported.notes.trim_end()));
            }
            imported.text
        })),
        Command::Token(options) => answer(cli::token::token(&options)),
        Command::Spool(SpoolCommand::Inspect(options)) => report(cli::spool::inspect(&options)),
        Command::Spool(SpoolCommand::Discard(options)) => report(cli::spool::discard(&options)),
        Command::Spool(SpoolCommand::Status(from)) => answer(cli::infrastructure::spool(&from)),
        Command::Config(ConfigCommand::Default) => print_file(&config::example()),
        Command::Config(ConfigCommand::Tbmq) => print_file(config::AS_IN_TBMQ),
        Command::Config(ConfigCommand::Emqx) => print_file(config::AS_IN_EMQX),
        Command::Config(ConfigCommand::File(options)) => answer_file(cli::config_file::file(&options).map(noted)),
        Command::Config(ConfigCommand::Put(options)) => answer(cli::config_file::put(&options)),
        Command::Config(ConfigCommand::Part(options)) => answer_file(cli::config_file::part(&options)),
        Command::Config(ConfigCommand::Schema) => print(&format!("{:#}\n", config::schema())),
        Command::Completions { shell } => print_file(&man::completions(shell)),
        Command::Man { dir } => {
            let written = man::write(&dir).map_err(|error| format!("{}: {error}", dir.display()));
            answer(written.map(|()| String::new()))
        }
    }
}

/// Continues with a configuration, or prints all of its problems: as JSON if the log is in JSON.
fn with<T>(config: Result<T, Problems>, format: Option<LogFormat>, go_on: impl FnOnce(T) -> ExitCode) -> ExitCode {
    let problems = match config {
        Ok(config) => return go_on(config),
        Err(problems) => problems,
    };
    let named = std::env::var("FOREBAY_LOG_FORMAT").is_ok_and(|format| format == "json");
    if format.map_or(named, |format| format == LogFormat::Json) {
        problems.0.iter().for_each(|problem| complain(format_args!("{}", problem.as_log_line())));
    } else {
        complain(format_args!("{problems}"));
    }
    ExitCode::from(EXIT_USAGE)
}

/// Returns the text; prints the note to standard error.
fn noted((text, note): (String, String)) -> String {
    if !note.is_empty() {
        complain(format_args!("{note}"));
    }
    text
}

/// A text and whether all is well, or why there is none.
fn report(made: Result<(String, bool), String>) -> ExitCode {
    match made {
        Ok((text, well)) => {
            print(&text);
            status(well)
        }
        Err(why) => answer(Err(why)),
    }
}

/// Prints a text, or why there is none.
fn answer(made: Result<String, String>) -> ExitCode {
    match made {
        Ok(text) => print(&text),
        Err(why) => {
            complain(format_args!("forebay: {why}"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn status(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

/// Prints to standard output. A reader that closes the pipe early is no failure.
fn print(text: &str) -> ExitCode {
    let _gone = cli::out::print(text);
    ExitCode::SUCCESS
}

/// Prints a file, or what is made for one.
fn print_file(text: &str) -> ExitCode {
    let _gone = cli::out::print_verbatim(text);
    ExitCode::SUCCESS
}

/// Prints a file, or why there is none.
fn answer_file(made: Result<String, String>) -> ExitCode {
    match made {
        Ok(text) => print_file(&text),
        Err(why) => answer(Err(why)),
    }
}
