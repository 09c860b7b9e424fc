//! Tests of command lines.

use clap::error::ErrorKind;

use super::*;
use forebay_config::{LogFormat, LogLevel};

fn run(line: &str) -> RunArgs {
    match parse_from(line.split(' ')).expect(line) {
        Command::Run(args) => args.into(),
        other => panic!("{line} is {other:?}"),
    }
}

#[test]
fn the_document_has_every_option_and_status() {
    let document = include_str!("../../../../docs/CONFIGURATION.md");
    let whole = definition();
    let create = whole.find_subcommand("topics").and_then(|topics| topics.find_subcommand("create"));
    let inspect = whole.find_subcommand("spool").and_then(|spool| spool.find_subcommand("inspect"));
    let asking =
        ["sinks", "sources", "events", "clients", "shares", "retained"].map(|name| whole.find_subcommand(name));
    for command in [create, inspect].into_iter().chain(asking) {
        for option in command.expect("a command").get_arguments().filter_map(|option| option.get_long()) {
            assert!(document.contains(&format!("`--{option}")), "--{option}");
        }
    }
    for option in definition().get_arguments().filter_map(|option| option.get_long()) {
        assert!(["help", "version"].contains(&option) || document.contains(&format!("`--{option}")), "--{option}");
    }
    for status in [crate::EXIT_DONE, crate::EXIT_FAILED, crate::EXIT_USAGE] {
        assert!(document.contains(&format!("| {status} | ")), "{status}");
    }
}

/// A ban needs somebody; without, nothing is asked of the service.
#[test]
fn a_ban_is_of_somebody() {
    for bad in ["bans --seconds 5", "bans --reason why", "bans --remove 1 --seconds 5"] {
        let error = parse_from(format!("forebay {bad}").split(' ')).expect_err(bad);
        let kinds = [ErrorKind::MissingRequiredArgument, ErrorKind::ArgumentConflict];
        assert!(kinds.contains(&error.kind()), "{bad}: {error}");
    }
    for good in ["bans", "bans --user ada --seconds 5 --reason why", "bans --remove 1"] {
        assert!(parse_from(format!("forebay {good}").split(' ')).is_ok(), "{good}");
    }
}

/// An option of `forebay trace` that would be ignored is refused.
#[test]
fn options_of_a_trace_are_for_what_they_say() {
    for bad in
        ["trace --end 7 --auth one", "trace --topic a/# --auth one", "trace --auth one", "trace --end 7 --seconds 5"]
    {
        let error = parse_from(format!("forebay {bad}").split(' ')).expect_err(bad);
        assert!(matches!(error.kind(), ErrorKind::ArgumentConflict | ErrorKind::MissingRequiredArgument), "{error}");
    }
    for good in ["trace --client a --auth one --seconds 5", "trace --topic a/# --seconds 5", "trace --end 7", "trace"] {
        parse_from(format!("forebay {good}").split(' ')).expect(good);
    }
}

#[test]
fn the_definition_holds_together() {
    definition().debug_assert();
}

#[test]
fn bare_means_run() {
    assert_eq!(run("forebay"), RunArgs::default());
    assert_eq!(run("forebay run"), RunArgs::default());
    assert_eq!(run("forebay --config a.toml"), run("forebay run -c a.toml"));
    assert_eq!(
        run("forebay").overrides(),
        Overrides { environment: std::collections::BTreeMap::new(), ..Overrides::of_process() }
    );
}

#[test]
fn a_source_is_named_before_what_is_done_with_it() {
    let sources = |line: &str| match parse_from(line.split(' ')) {
        Ok(Command::Sources(args)) => Ok((args.name, args.action, args.to)),
        Ok(other) => panic!("{line} is {other:?}"),
        Err(error) => Err(error.kind()),
    };
    assert_eq!(sources("forebay sources"), Ok((None, None, None)));
    assert_eq!(sources("forebay sources s pause"), Ok((Some("s".into()), Some(SourceAction::Pause), None)));
    let sought = (Some("s".into()), Some(SourceAction::Seek), Some("-1h".into()));
    assert_eq!(sources("forebay sources s seek --to -1h"), Ok(sought));
    assert_eq!(sources("forebay sources s seek"), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(sources("forebay sources s stop"), Err(ErrorKind::InvalidValue));
}

#[test]
fn check_takes_the_file_with_and_without_its_option() {
    let file = |line: &str| match parse_from(line.split(' ')).expect(line) {
        Command::Check(args) => args.file.or(args.from.config).expect("a file"),
        other => panic!("{line} is {other:?}"),
    };
    assert_eq!(file("forebay check a.toml --offline"), PathBuf::from("a.toml"));
    assert_eq!(file("forebay check --json -c a.toml"), PathBuf::from("a.toml"));
    let offline = match parse_from(["forebay", "check", "--offline"]).unwrap() {
        Command::Check(args) => args.offline,
        other => panic!("{other:?}"),
    };
    assert!(offline);
}

#[test]
fn finding_f14_run_takes_the_file_without_its_option_too() {
    assert_eq!(run("forebay run a.toml --no-pin"), run("forebay run --config a.toml --no-pin"));
    assert_eq!(
        parse_from(["forebay", "run", "a", "-c", "b"]).map_err(|error| error.kind()),
        Err(ErrorKind::ArgumentConflict)
    );
}

#[test]
fn finding_f14_the_control_address_is_taken_as_a_start_prints_it() {
    let at = Some(ControlBind::At("127.0.0.1:8080".parse().unwrap()));
    for text in ["127.0.0.1:8080", "http://127.0.0.1:8080", "http://localhost:8080/", "https://127.0.0.1:8080"] {
        assert_eq!(run(&format!("forebay --control {text}")).control, at, "{text}");
    }
}

#[test]
fn localhost_is_an_address() {
    assert_eq!(run("forebay --listen localhost:1").listen, ["127.0.0.1:1".parse().unwrap()]);
    let control = run("forebay --control localhost:2").control;
    assert_eq!(control, Some(ControlBind::At("127.0.0.1:2".parse().unwrap())));
}

#[test]
fn every_option_reaches_the_configuration() {
    let line = "forebay --listen 127.0.0.1:0 --listen [::1]:1 --kafka a:1,b:2 --embedded 127.0.0.1:2 --control off \
                --data-dir /d --shards 3 --no-pin --log-format json --log-level warn";
    let args = run(&line.split_whitespace().collect::<Vec<_>>().join(" "));
    let config = args.load().expect("good options");
    assert_eq!(config.listeners.iter().map(|l| l.bind.to_string()).collect::<Vec<_>>(), ["127.0.0.1:0", "[::1]:1"]);
    assert_eq!(config.clusters.iter().map(|c| c.bootstrap.join(" ")).collect::<Vec<_>>(), ["a:1 b:2", "127.0.0.1:2"]);
    assert_eq!(config.embedded.expect("asked for").dir, PathBuf::from("/d/log"));
    assert_eq!((config.control.bind, config.service.shards, config.service.pin), (None, 3, false));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Warn));
    let control = run("forebay --control 127.0.0.1:9").load().unwrap().control;
    assert_eq!((control.bind.unwrap().port(), control.moved_by.as_str()), (9, "--control"));
}

#[test]
fn wrong_usage_ends_with_two_and_help_with_none() {
    for (line, kind, code) in [
        ("forebay --listen example.com:1883", ErrorKind::ValueValidation, EXIT_USAGE_I32),
        ("forebay --shards 64", ErrorKind::ValueValidation, EXIT_USAGE_I32),
        ("forebay --log-level loud", ErrorKind::InvalidValue, EXIT_USAGE_I32),
        ("forebay --confg a", ErrorKind::UnknownArgument, EXIT_USAGE_I32),
        ("forebay walk", ErrorKind::InvalidSubcommand, EXIT_USAGE_I32),
        ("forebay topics create --partitions 0", ErrorKind::ValueValidation, EXIT_USAGE_I32),
        ("forebay check --listen 127.0.0.1:0", ErrorKind::UnknownArgument, EXIT_USAGE_I32),
        ("forebay spool inspect", ErrorKind::MissingRequiredArgument, EXIT_USAGE_I32),
        ("forebay spool inspect /d --repair", ErrorKind::UnknownArgument, EXIT_USAGE_I32),
        ("forebay check a.toml --config b.toml", ErrorKind::ArgumentConflict, EXIT_USAGE_I32),
        ("forebay spool inspect --help", ErrorKind::DisplayHelp, 0),
        ("forebay help", ErrorKind::DisplayHelp, 0),
        ("forebay help spool", ErrorKind::DisplayHelp, 0),
        ("forebay --help", ErrorKind::DisplayHelp, 0),
        ("forebay run --help", ErrorKind::DisplayHelp, 0),
        ("forebay --version", ErrorKind::DisplayVersion, 0),
    ] {
        let error = parse_from(line.split(' ')).expect_err(line);
        assert_eq!((error.kind(), error.exit_code()), (kind, code), "{line}: {error}");
    }
}

const EXIT_USAGE_I32: i32 = crate::EXIT_USAGE as i32;

#[test]
fn help_teaches() {
    let help = definition().render_long_help().to_string();
    for word in ["forebay --kafka", "kcat", "Exit status:", "docs/CONFIGURATION.md", "SIGTERM", "--data-dir"] {
        assert!(help.contains(word), "{word}\n{help}");
    }
}

/// A statement may begin with a comment, which is no option.
#[test]
fn finding_q52_a_statement_may_begin_with_a_comment() {
    const SQL: &str = "-- all of them\nSELECT * FROM \"t/#\"";
    let of = |words: &[&str]| match parse_from(["forebay", "rule"].iter().chain(words)) {
        Ok(Command::Rule(command)) => command,
        other => panic!("{words:?} is {other:?}"),
    };
    match of(&["explain", "--sql", SQL]) {
        RuleCommand::Explain(args) => assert_eq!(args.sql.as_deref(), Some(SQL)),
        other => panic!("{other:?}"),
    }
    match of(&["test", "--sql", SQL, "--from-kafka", "t", "--against-sql", SQL]) {
        RuleCommand::Test(args) => {
            assert_eq!([args.sql.as_deref(), args.past.against_sql.as_deref()], [Some(SQL); 2]);
        }
        other => panic!("{other:?}"),
    }
}
