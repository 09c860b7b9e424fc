//! The tables of `docs/METRICS.md` and `docs/API.md`, made from the lists that the program itself goes by.

use std::fmt::Write as _;

use crate::metrics::event::{EVENTS, Field};
use crate::metrics::journal::JOURNAL;
use crate::metrics::process::PROCESS;
use crate::metrics::spec::{CLUSTER, ERRORS, ERRORS_HELP, ERRORS_NAME, Kind, LISTENER, SHARD, SINK, Spec};

use super::{embedded_numbers, log_numbers};

fn table(text: &mut String, title: &str, labels: &str, specs: impl IntoIterator<Item = Spec>) {
    let _ = write!(text, "\n### {title}\n\n{labels}\n\n| name | kind | what it says |\n|---|---|---|\n");
    for Spec { name, help, kind } in specs {
        let (total, kind) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
        };
        let _ = writeln!(text, "| `forebay_{name}{total}` | {kind} | {help} |");
    }
}

/// Every family on `/metrics`.
fn metrics() -> String {
    let mut text = String::new();
    table(&mut text, "Of a shard", "Label `shard`.", SHARD);
    table(&mut text, "Of a listener", "Labels `shard`, `listener` (its address).", LISTENER);
    table(&mut text, "Of a sink", "Labels `shard`, `sink` (its name).", SINK);
    table(&mut text, "Of a Kafka cluster", "Labels `shard`, `kafka` (its name).", CLUSTER);
    let family = Spec { name: ERRORS_NAME, help: ERRORS_HELP, kind: Kind::Counter };
    table(&mut text, "Errors that Kafka answers", "Labels `shard`, `kafka`, `error`.", [family]);
    text.push_str("\n| `error` | what becomes of the batch |\n|---|---|\n");
    for error in ERRORS {
        let _ = writeln!(text, "| `{}` | {} |", error.name, error.help);
    }
    table(&mut text, "Of the process", "No labels, but for `build_info`.", PROCESS);
    let own = [log_numbers::DROPPED, log_numbers::DELETED];
    table(&mut text, "Of events, the log and dead-letter files", "No labels.", JOURNAL.into_iter().chain(own));
    table(&mut text, "Of the embedded log", "No labels; only where it runs.", embedded_numbers::specs());
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
    text.push_str("\n| field | what it says |\n|---|---|\n");
    for field in Field::ALL {
        let _ = writeln!(text, "| `{}` | {} |", field.name(), field.help());
    }
    text.push('\n');
    text
}

/// Compares what stands between the marks of a document with what the program says, or writes it there.
fn document(path: &str, reference: &str) {
    const BEGIN: &str = "<!-- made from the program; FOREBAY_BLESS=1 cargo test --lib reference writes it anew -->\n";
    const END: &str = "<!-- end -->\n";
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("the line above the tables");
    let (tables, after) = rest.split_once(END).expect("the line below the tables");
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{reference}{END}{after}")).expect("written");
    } else {
        let line = tables.lines().zip(reference.lines()).find(|(stands, is)| stands != is);
        assert!(tables == reference, "{path}: FOREBAY_BLESS=1 writes it anew; it has, and should have: {line:#?}");
    }
}

#[test]
fn the_metrics_of_the_document_are_the_programs() {
    document("docs/METRICS.md", &metrics());
}

#[test]
fn the_events_of_the_document_are_the_programs() {
    document("docs/API.md", &events());
}
