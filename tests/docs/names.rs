//! Links, files, metrics, events and examples.

use std::collections::HashSet;
use std::fs;

use super::{documents, fenced, for_operators, prose, quoted, read, root};

/// The anchors that GitHub gives to headings.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text).map(|(_, line)| line).filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The targets of `[text](target)` in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn links_resolve() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        for (number, line) in prose(&text) {
            for link in links(line).filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
                let there = target.exists()
                    && (anchor.is_empty()
                        || fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor)));
                if !there {
                    let shown = path.strip_prefix(root()).unwrap_or(&path);
                    broken.push(format!("{}:{number}: {link}", shown.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn files_that_are_named_exist() {
    let folders =
        ["src/", "crates/", "tests/", "scripts/", "docs/", "deploy/", "perf/", "bench/", "examples/", "fuzz/"];
    let mut missing = Vec::new();
    for (path, text) in documents().iter().filter(|(path, _)| !path.starts_with(root().join("docs/decisions"))) {
        for (number, name) in quoted(text) {
            let name = name.split([' ', ':']).next().unwrap_or_default();
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
            let named = plain && folders.iter().any(|folder| name.starts_with(folder));
            if named && !root().join(name).exists() {
                missing.push(format!("{}:{number}: {name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "files that do not exist:\n{}", missing.join("\n"));
}

#[test]
fn metrics_and_events_that_are_named_exist() {
    let (metrics, events) = (read("docs/METRICS.md"), read("docs/API.md"));
    let mut unknown = Vec::new();
    for (path, text) in for_operators() {
        for (number, name) in quoted(&text) {
            let word = name.split(['{', ' ']).next().unwrap_or_default();
            let word_only = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if word_only && word.starts_with("forebay_") && !metrics.contains(&format!("`{word}")) {
                unknown.push(format!("{path}:{number}: metric {word}"));
            }
        }
        for (number, line) in prose(&text) {
            let after = line.split("event `").skip(1).chain(line.split("events `").skip(1));
            for name in after.filter_map(|rest| rest.split('`').next()) {
                if !events.contains(&format!("| `{name}` |")) {
                    unknown.push(format!("{path}:{number}: event {name}"));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "names that the program does not have:\n{}", unknown.join("\n"));
}

#[test]
fn examples_pass_the_check_offline() {
    let mut tried = 0;
    // A file that the examples name, and that has to be there.
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&secret, "secret").expect("written");
    let secret = secret.path().display().to_string();
    for (path, text) in for_operators() {
        for (_, example) in fenced(&text).into_iter().filter(|(language, _)| language == "toml") {
            let example =
                example.replace("/etc/forebay/kafka-password", &secret).replace("/etc/forebay/kafka-secret", &secret);
            // One that shows a part gets what it leaves out: the cluster of its sinks, the sink of its cluster.
            let cluster = if example.contains("[[sink]]") && !example.contains("[kafka.") {
                "[kafka.main]\nbootstrap = \"k:1\"\n"
            } else {
                ""
            };
            let sink = if example.contains("[kafka.") && !example.contains("[[sink]]") {
                "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n"
            } else {
                ""
            };
            let text = format!("{cluster}{example}{sink}");
            let config = forebay::config::parse(&text, &path).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
            assert!(config.warnings.0.is_empty(), "{path}: {}", config.warnings);
            tried += 1;
        }
    }
    assert!(tried >= 7, "{tried} examples: the documents have more");
}

/// Each example of a link between instances has TLS, and both pages say who can be any client without it.
#[test]
fn finding_q26_examples_of_the_link_have_tls() {
    let mut tried = 0;
    for (path, text) in for_operators() {
        for (_, example) in fenced(&text).into_iter().filter(|(language, _)| language == "toml") {
            let lines = example.lines().map(str::trim).skip_while(|line| !line.starts_with("[broker.link]"));
            let link: Vec<&str> = lines
                .enumerate()
                .take_while(|(at, line)| *at == 0 || !line.starts_with('['))
                .map(|(_, line)| line)
                .collect();
            if link.is_empty() {
                continue;
            }
            for key in ["cert_file = ", "key_file = ", "ca_file = "] {
                assert!(link.iter().any(|line| line.starts_with(key)), "{path}: {key}\n{example}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 3, "{tried} examples");
    for path in ["docs/CLUSTER.md", "docs/CONFIGURATION.md"] {
        assert!(read(path).contains("local user"), "{path}");
    }
}
