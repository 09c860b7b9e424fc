//! Tests that `docs/CONFIGURATION.md` agrees with the program.

use super::*;
use forebay_rule::record::FIELDS;
use forebay_rule::template::VARIABLES;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");
const BEGIN: &str =
    "<!-- keys: made from crates/config/src/keys; FOREBAY_BLESS=1 cargo test -p forebay-config rewrites them -->\n";
const END: &str = "<!-- end of keys -->\n";

fn document() -> String {
    std::fs::read_to_string(PATH).expect("docs/CONFIGURATION.md")
}

/// The blocks fenced as TOML.
fn examples(document: &str) -> Vec<&str> {
    document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

const CHANGES: &str = "<!-- changes: made from crates/config/src/change.rs; FOREBAY_BLESS=1 cargo test -p forebay-config rewrites them -->\n";
const END_OF_CHANGES: &str = "<!-- end of changes -->\n";

/// The keys of each part, and which of them a reload applies.
#[test]
fn finding_q36_its_tables_are_the_programs() {
    let mut document = document();
    for (begin, end, made) in [(CHANGES, END_OF_CHANGES, super::table::changes()), (BEGIN, END, reference())] {
        let (before, rest) = document.split_once(begin).expect("the line above the tables");
        let (tables, after) = rest.split_once(end).expect("the line below the tables");
        if std::env::var_os("FOREBAY_BLESS").is_some() {
            document = format!("{before}{begin}{made}{end}{after}");
            std::fs::write(PATH, &document).unwrap();
        } else {
            assert_eq!(tables, made, "FOREBAY_BLESS=1 rewrites them");
        }
    }
}

#[test]
fn its_examples_are_configurations() {
    let document = document();
    let examples = examples(&document);
    assert!(!examples.is_empty());
    for example in examples {
        good(example);
    }
}

/// Examples of the other documents are valid.
#[test]
fn examples_are_configurations() {
    // The examples of MIGRATING.md are run (`tests/service/migrating.rs`).
    for document in [include_str!("../../../../README.md"), include_str!("../../../../docs/DEAD_LETTERS.md")] {
        let examples = examples(document);
        assert!(!examples.is_empty());
        for example in examples {
            // An example with only a sink gets the missing cluster.
            let cluster = if example.contains("[kafka.") { "" } else { "[kafka.main]\nbootstrap = \"a:1\"\n" };
            good(&format!("{cluster}{example}"));
        }
    }
}

/// The first example is complete: every key, spelled out.
#[test]
fn its_example_has_every_key() {
    let document = document();
    let example = examples(&document)[0];
    let missing: Vec<_> = super::keys::all()
        // Some keys of a login, of CAs and of keys for tokens exclude each other, and a password's file has to exist:
        // KAFKA_SECURITY.md and AUTH.md show them.
        .filter(|key| !matches!(key.section, super::keys::Section::AuthJwt | super::keys::Section::AuthRole))
        .filter(|key| key.section.parent().is_none_or(|(parent, _)| parent != super::keys::Section::Kafka))
        .filter(|key| {
            key.section != super::keys::Section::BridgeTls
                && !(key.section == super::keys::Section::Bridge && key.name.starts_with("password"))
                // The documents and tokens of `[dapr]` have to exist: DAPR.md shows them.
                && key.section != super::keys::Section::Dapr
        })
        .filter(|key| {
            let header = key.section.example_header();
            let parts = example.split(&header).skip(1).filter_map(|rest| rest.split("\n[").next());
            !parts.flat_map(str::lines).any(|line| line.split(" =").next() == Some(key.name))
        })
        .map(|key| format!("{} {}", key.section.header(), key.name))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_page_of_sources_has_every_field_of_a_record() {
    let document = include_str!("../../../../docs/SOURCES.md");
    for (name, meaning) in FIELDS {
        assert!(document.contains(&format!("| `${{{name}}}` | {meaning} |")), "{name}");
    }
}

#[test]
fn it_has_every_variable() {
    let document = document();
    for (name, meaning) in VARIABLES {
        assert!(document.contains(&format!("| `${{{name}}}` | {meaning} |")), "{name}");
    }
}
