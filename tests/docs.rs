//! The documents are held to the repository: every link leads somewhere.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file that is part of the repository, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 20, "the documents were not found");
    found
}

/// Text outside fenced code, line by line with its number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((number + 1, line))
    })
}

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

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Documents for operators.
fn for_operators() -> impl Iterator<Item = (String, String)> {
    let shown = |path: &Path| path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let ours = |path: &String| {
        let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].contains(&path.as_str());
        top || path.starts_with("docs/") && path.matches('/').count() == 1
    };
    documents().into_iter().map(move |(path, text)| (shown(&path), text)).filter(move |(path, _)| ours(path))
}

/// What stands between backticks, line by line.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |quoted| (number, quoted)))
}

/// Fenced blocks: language and lines.
fn fenced(text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                blocks.push((language.to_owned(), String::new()));
                open = true;
            }
            None if open => {
                let block = &mut blocks.last_mut().expect("a block is open").1;
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    blocks
}

#[test]
fn files_that_are_named_exist() {
    let folders = ["src/", "tests/", "scripts/", "docs/", "deploy/", "perf/", "bench/", "examples/", "fuzz/"];
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

/// Whether the program's own parser takes a command line of a document. Placeholders stand for values.
fn parses(line: &str) -> Result<(), String> {
    let line = line.split([';', '|', '>', '&']).next().unwrap_or_default().replace(['[', ']'], "");
    let words: Vec<&str> = line.split_whitespace().skip_while(|word| !word.ends_with("forebay")).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !["...", "\\", "…"].contains(word)).collect();
    match forebay::cli::parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) if error.exit_code() == 0 => Ok(()),
        Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

#[test]
fn commands_that_are_named_are_the_programs() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (path, text) in for_operators() {
        let inline = quoted(&text).map(|(_, quoted)| quoted.to_owned()).filter(|quoted| quoted.starts_with("forebay "));
        let blocks = fenced(&text).into_iter().filter(|(language, _)| language.is_empty());
        let lines: Vec<String> =
            blocks.flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let program = |line: &String| line.starts_with("forebay ") || line.starts_with("target/release/forebay ");
        for line in inline.chain(lines.into_iter().filter(program)) {
            // A table names placeholders in capitals, which are values like any other.
            let line = line.replace("completions SHELL", "completions bash").replace("COMMAND", "spool");
            tried += 1;
            // A sentence may name a command without its arguments.
            if let Err(why) = parses(&line)
                && !why.contains("required arguments were not provided")
            {
                wrong.push(format!("{path}: {line}: {why}"));
            }
        }
    }
    assert!(tried > 20, "commands were not found");
    assert!(wrong.is_empty(), "commands that the program refuses:\n{}", wrong.join("\n"));
}

#[test]
fn examples_pass_the_check_offline() {
    let mut tried = 0;
    for (path, text) in for_operators() {
        for (_, example) in fenced(&text).into_iter().filter(|(language, _)| language == "toml") {
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
