//! The tables of `docs/METRICS.md` and `docs/API.md`, made from the lists that the program itself uses.

use std::fmt::Write as _;

use crate::control;
use crate::dapr;
use crate::metrics::event::{EVENTS, Field};
use crate::metrics::histogram::{HISTOGRAMS, Per};
use crate::metrics::journal::{BROKER_UNREACHABLE, JOURNAL};
use crate::metrics::lag::LAG;
use crate::metrics::process::PROCESS;
use crate::metrics::source_lag::PARTITION_LAG;
use crate::metrics::spec::{
    BRIDGE, CLUSTER, ERRORS, ERRORS_HELP, ERRORS_NAME, Kind, LISTENER, REFUSALS, REFUSALS_HELP, REFUSALS_NAME, RULE,
    SHARD, SINK, SOURCE, Spec,
};
use crate::rule::{self, functions::Family};

use super::{accept_numbers, certificates, embedded_numbers, kafka_tokens, key_sets, log_numbers, verifier_numbers};
use crate::telemetry;

fn table(text: &mut String, title: &str, labels: &str, specs: impl IntoIterator<Item = Spec>) {
    let _ = write!(text, "\n### {title}\n\n{labels}\n\n| name | type | meaning |\n|---|---|---|\n");
    for spec in specs {
        let (total, kind) = match spec.kind {
            Kind::Counter | Kind::CounterMillis => ("_total", "counter"),
            Kind::Gauge | Kind::Age => ("", "gauge"),
            Kind::Internal => continue,
        };
        let label = spec.label.map(|(key, value)| format!("{{{key}=\"{value}\"}}")).unwrap_or_default();
        let _ = writeln!(text, "| `{}{total}{label}` | {kind} | {} |", spec.full_name(), spec.help);
    }
}

/// The values of a label.
fn values(text: &mut String, head: &str, rows: &[Spec]) {
    let _ = write!(text, "\n{head}\n|---|---|\n");
    for row in rows {
        let _ = writeln!(text, "| `{}` | {} |", row.name, row.help);
    }
}

fn histograms(text: &mut String) {
    text.push_str("\n### Histograms\n\nClassic histograms (`_bucket`, `_sum`, `_count`), all shards added up.\n\n");
    text.push_str("| name | labels | meaning |\n|---|---|---|\n");
    for spec in HISTOGRAMS {
        let labels = match spec.per {
            Per::ListenerAndLevel => "`listener`, `acknowledge`",
            Per::Cluster => "`kafka`",
            Per::Process => "",
        };
        let _ = writeln!(text, "| `forebay_{}` | {labels} | {} |", spec.name, spec.help);
    }
}

/// Every family on `/metrics`.
fn metrics() -> String {
    let mut text = String::new();
    table(&mut text, "Shards", "Label `shard`.", SHARD);
    table(&mut text, "Listeners", "Labels `shard`, `listener` (its address).", LISTENER);
    table(&mut text, "Sinks", "Labels `shard`, `sink` (its name).", SINK);
    table(&mut text, "Lag of sinks", "Label `sink` (its name). Measured once a second.", [LAG]);
    table(&mut text, "Sources", "Labels `shard`, `source` (its name).", SOURCE);
    table(&mut text, "Bridges", "Labels `shard`, `bridge` (its name).", BRIDGE);
    table(&mut text, "Bindings", "Label `binding` (the name of its component); only with `[dapr]`.", dapr::NUMBERS);
    table(&mut text, "Rules", "Labels `shard`, `rule` (its name).", RULE);
    table(
        &mut text,
        "Lag of partitions",
        "Labels `source`, `topic`, `partition`. Measured once a second.",
        [PARTITION_LAG],
    );
    table(&mut text, "Certificates", "Label `file`.", [certificates::EXPIRY]);
    table(&mut text, "Keys of tokens", "Label `auth`.", [key_sets::AGE]);
    table(&mut text, "Tokens for logins to Kafka", "No labels.", [kafka_tokens::FETCHED, kafka_tokens::FAILED]);
    table(&mut text, "Kafka clusters", "Labels `shard`, `kafka` (its name).", CLUSTER);
    table(&mut text, "Kafka brokers", "Labels `kafka`, `broker` (`host:port`).", [BROKER_UNREACHABLE]);
    let family = |name, help| Spec { name, label: None, help, kind: Kind::Counter };
    table(&mut text, "Refused publishes", "Labels `shard`, `sink`, `reason`.", [family(REFUSALS_NAME, REFUSALS_HELP)]);
    values(&mut text, "| `reason` | meaning |", &REFUSALS);
    table(&mut text, "Kafka errors", "Labels `shard`, `kafka`, `error`.", [family(ERRORS_NAME, ERRORS_HELP)]);
    values(&mut text, "| `error` | code, and what happens to the batch |", &ERRORS);
    histograms(&mut text);
    let process = PROCESS.into_iter().chain([accept_numbers::REFUSED]);
    table(
        &mut text,
        "Process",
        "No labels, except `version` on `forebay_build_info` and `io` on `forebay_runtime_info`.",
        process,
    );
    let own = [log_numbers::DROPPED, log_numbers::DELETED];
    table(&mut text, "Events, log and dead-letter files", "No labels.", JOURNAL.into_iter().chain(own));
    table(&mut text, "Passwords and tokens", "No labels.", verifier_numbers::WAITING);
    table(&mut text, "Control plane", "No labels but `reason`.", control::NUMBERS);
    table(&mut text, "OpenTelemetry", "No labels; only with `telemetry.otlp`.", telemetry::NUMBERS);
    table(&mut text, "Embedded log", "No labels; only where it runs.", embedded_numbers::specs());
    text.push('\n');
    text
}

/// Every kind of event, and every field.
fn events() -> String {
    let mut text = String::from("\n| kind | class | severity | fields | message |\n|---|---|---|---|---|\n");
    for event in &EVENTS {
        let fields: Vec<_> = event.fields.iter().map(|field| format!("`{}`", field.name())).collect();
        let (class, severity) = (event.class.as_str(), event.severity.as_str());
        let _ = writeln!(text, "| `{}` | {class} | {severity} | {} | {} |", event.name, fields.join(" "), event.help);
    }
    text.push_str("\n| field | meaning |\n|---|---|\n");
    for field in Field::ALL {
        let _ = writeln!(text, "| `{}` | {} |", field.name(), field.help());
    }
    text.push('\n');
    text
}

/// Compares the text between the marks of a document with the program's own, or writes the latter there.
fn document(path: &str, reference: &str) {
    const BEGIN: &str = "<!-- generated from the code; FOREBAY_BLESS=1 cargo test --lib reference rewrites it -->\n";
    const END: &str = "<!-- end -->\n";
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("the line above the tables");
    let (tables, after) = rest.split_once(END).expect("the line below the tables");
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{reference}{END}{after}")).expect("written");
    } else {
        let line = tables.lines().zip(reference.lines()).find(|(stands, is)| stands != is);
        assert!(tables == reference, "{path}: FOREBAY_BLESS=1 rewrites it; found and expected: {line:#?}");
    }
}

#[test]
fn the_metrics_of_the_document_are_the_programs() {
    document("docs/METRICS.md", &metrics());
}

/// Every function of rules.
fn functions() -> String {
    let mut text = String::new();
    for family in Family::ALL {
        let _ = write!(text, "\n## {}\n\n| function | | example |\n|---|---|---|\n", family.as_str());
        for (_, function) in rule::functions::all().filter(|(of, _)| *of == family) {
            let cell = |text: &str| text.replace('|', "\\|");
            let call = cell(&format!("{}{}", function.name, function.arguments));
            let example = cell(&format!("{} = {}", function.example, function.result));
            let _ = writeln!(text, "| `{call}` | {} | `{example}` |", cell(function.sentence));
        }
    }
    text.push('\n');
    text
}

/// Every field of messages, records and events, in ascending order.
fn fields() -> String {
    let mut text = String::new();
    let events = rule::event::Event::ALL.iter().map(|event| (event.from(), event.fields()));
    let all = [("Messages".to_owned(), rule::message::FIELDS), ("Records".to_owned(), rule::record_fields::FIELDS)];
    for (what, table) in all.into_iter().chain(events) {
        let _ = write!(text, "\n### {what}\n\n| field | |\n|---|---|\n");
        for (field, sentence) in table.iter().rev() {
            let _ = writeln!(text, "| `{}` | {sentence} |", field.as_str());
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_functions_of_the_document_are_the_programs() {
    document("docs/SQL_FUNCTIONS.md", &functions());
    document("docs/SQL.md", &fields());
}

#[test]
fn the_events_of_the_document_are_the_programs() {
    document("docs/API.md", &events());
}

/// The commands as a person types them: those with subcommands or actions once for each.
fn commands(command: &clap::Command, before: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let words = [before, &[sub.get_name().to_owned()]].concat();
        let actions = sub.get_positionals().flat_map(clap::Arg::get_possible_values);
        let actions =
            actions.filter(|value| !value.is_hide_set() && before.is_empty() && sub.get_name() != "completions");
        found.extend(actions.map(|value| [&words[..], &[value.get_name().to_owned()]].concat()));
        let below = commands(sub, &words);
        if below.is_empty() {
            found.push(words);
        } else {
            found.extend(below);
        }
    }
    found
}

/// The table of commands in CONFIGURATION.md has each command of the program, and each subcommand and action of it.
#[test]
fn finding_q36_the_table_of_commands_is_complete() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIGURATION.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let (_, section) = text.split_once("\n## Command line\n").expect("the section");
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `forebay "))
        .map(|line| {
            line.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).filter(|word| !word.is_empty()).collect()
        })
        .collect();
    assert!(rows.len() > 40, "{} rows", rows.len());
    // `parse_from` takes what the table names (`tests/docs/commands.rs`); here the other way round.
    let is_there = |words: &[String]| {
        rows.iter().any(|row| row[1] == words[0] && words.iter().all(|word| row.contains(&word.as_str())))
    };
    let all = commands(&super::args::definition(), &[]);
    assert!(all.len() > 60, "{all:?}");
    let missing: Vec<_> = all.into_iter().filter(|words| !is_there(words)).map(|words| words.join(" ")).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
