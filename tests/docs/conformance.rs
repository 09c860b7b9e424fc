//! docs/CONFORMANCE.md: every numbered statement of MQTT 5.0 and 3.1.1 with the code that does it and the tests that show it.
//!
//! `statements/` lists the statements. A tag `[MQTT-3.1.2-24]` names one of 5.0, `[3.1.1 MQTT-3.1.2-24]` one of 3.1.1: in a comment
//! beside the code, and in a test or its comment. A clause in quotes, as errors carry it, is a place in the code of 5.0, too. Rows of
//! `tests/malformed/` are tests: `tests/mqtt/verdicts.rs` and `tests/service/verdicts.rs` run each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use super::statements::{self, Of, Statement, Who};
use super::{files, read, relative, root};

/// Where a statement is done and shown.
#[derive(Debug, Default)]
struct Places {
    code: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// Which numbers of 5.0 are which of 3.1.1: no place where anything is done.
const NUMBERS: &str = "crates/mqtt/src/malformed.rs";
/// Tables of malformed packets.
const TABLES: &str = "tests/malformed/";

/// By standard and number.
type All = BTreeMap<(Of, String), Places>;

/// How a line names a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `[MQTT-1.5.4-1]`, `[3.1.1 MQTT-1.5.3-1]`
    Tag,
    /// `"MQTT-1.5.4-1"`
    Clause,
}

/// The statements that a line names.
fn named(line: &str) -> Vec<(Form, Of, &str)> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("MQTT-") {
        let (before, behind) = (&line[..at], &line[at + "MQTT-".len()..]);
        let end = behind.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(behind.len());
        let (number, close) = (&behind[..end], behind[end..].chars().next());
        let form = match close {
            Some(']') if before.ends_with("[3.1.1 ") => (Form::Tag, Of::V311),
            Some(']') if before.ends_with('[') => (Form::Tag, Of::V5),
            Some('"') if before.ends_with('"') && number.contains('-') => (Form::Clause, Of::V5),
            _ => continue,
        };
        found.push((form.0, form.1, number));
    }
    found
}

/// What a line of a file is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Code,
    Test(String),
    /// What only tests use.
    Aid,
}

/// Each line of a file with what it is part of. A comment before a test belongs to it.
fn parts<'a>(path: &str, text: &'a str) -> Vec<(Part, &'a str)> {
    let is_of_tests = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
    let mut rest = if is_of_tests { Part::Aid } else { Part::Code };
    let mut lines: Vec<(Part, &str)> = Vec::new();
    // Where a comment with attributes begins, whether `#[test]` was among them, and the line that ends the test.
    let (mut head, mut is_test, mut end) = (None, false, None);
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed == "#[cfg(test)]" && line.starts_with('#') {
            rest = Part::Aid;
        }
        if let Some(last) = &end {
            let within = lines.last().map_or(Part::Aid, |(part, _)| part.clone());
            let is_last = line == last;
            lines.push((within, line));
            if is_last {
                end = None;
            }
            continue;
        }
        if trimmed.starts_with("///") || trimmed.starts_with("#[") {
            head = head.or(Some(lines.len()));
            is_test |= trimmed == "#[test]";
            lines.push((rest.clone(), line));
            continue;
        }
        let name = trimmed.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next());
        match (name, head.take(), std::mem::take(&mut is_test)) {
            (Some(name), Some(from), true) => {
                let test = Part::Test(format!("{path}::{name}"));
                lines[from..].iter_mut().for_each(|(part, _)| *part = test.clone());
                lines.push((test, line));
                end = Some(format!("{}}}", &line[..line.len() - line.trim_start().len()]));
            }
            _ => lines.push((rest.clone(), line)),
        }
    }
    lines
}

/// The version and the clause of a malformed packet that a client sends; `None`: the line is none.
fn row(line: &str) -> Option<(Of, &str)> {
    let (rest, clause) = line.trim().strip_suffix("\"),")?.rsplit_once("\"MQTT-")?;
    let of = if rest.contains("\", V5, Client, ") { Of::V5 } else { Of::V311 };
    (of == Of::V5 || rest.contains("\", V311, Client, ")).then_some((of, clause))
}

/// Collects the places of all statements; and the tags that name none.
fn collect(statements: &[Statement]) -> (All, Vec<String>) {
    let files: BTreeMap<String, String> =
        files(&["src", "crates", "tests"], &["rs"]).into_iter().map(|(path, text)| (relative(&path), text)).collect();
    let mut all: All =
        statements.iter().map(|statement| ((statement.of, statement.number.clone()), Places::default())).collect();
    let mut unknown = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| *path != "tests/docs/conformance.rs") {
        let is_table = path.starts_with(TABLES);
        // A clause that is a number of 3.1.1 has its tag in the same file.
        let is_of_311 = |number: &str| text.contains(&format!("[3.1.1 MQTT-{number}]"));
        for (part, line) in parts(path, text) {
            if let Some((of, number)) = row(line).filter(|_| is_table) {
                let place = all.get_mut(&(of, number.to_owned()));
                place.map_or_else(|| unknown.push(format!("{path}: {number}")), |at| _ = at.tests.insert(path.clone()));
                continue;
            }
            for (form, of, number) in named(line) {
                if form == Form::Clause && (part != Part::Code || path == NUMBERS) {
                    continue;
                }
                let Some(places) = all.get_mut(&(of, number.to_owned())) else {
                    if !is_of_311(number) {
                        unknown.push(format!("{path}: {}", line.trim()));
                    }
                    continue;
                };
                match (&part, form) {
                    (_, Form::Clause) if is_of_311(number) => {}
                    (Part::Code, _) => _ = places.code.insert(path.clone()),
                    (Part::Test(test), _) => _ = places.tests.insert(test.clone()),
                    _ => {}
                }
            }
        }
    }
    // What does a statement of 5.0 does that of 3.1.1 as well.
    for statement in statements.iter().filter(|statement| statement.of == Of::V311) {
        let Some(same) = &statement.same else { continue };
        let code = all[&(Of::V5, same.clone())].code.clone();
        all.get_mut(&(Of::V311, statement.number.clone())).expect("it is listed").code.extend(code);
    }
    (all, unknown)
}

/// The document.
fn document(statements: &[Statement], all: &All) -> String {
    let mut text = String::from(
        "# MQTT conformance\n\n\
         Every numbered statement of [MQTT 5.0](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html) and \
         [3.1.1](https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html), in few words of our own, with the code that does it\n\
         and the tests that show it. MQTT 3.1 has no numbers; it is tested beside 3.1.1. S: binds the server, B: both ends, C: the client\n\
         alone; then the line says what Forebay does with a client that does otherwise.\n\n\
         This page is generated from tags in code and tests: `FOREBAY_BLESS=1 cargo test --test docs conformance`. The build fails where a\n\
         statement that binds a server has no code or no test.\n\n## Deviations\n\n\
         Most are limits, and both standards expect such (section 4.1). Nothing is dropped that is not counted. Without a spool\n\
         sessions, what waits for them and retained messages are in memory, and end with the process.\n\n| statement | asked | what Forebay does |\n|---|---|---|\n",
    );
    for statement in statements.iter().filter(|statement| statement.deviates()) {
        let Statement { number, asked, more, .. } = statement;
        _ = writeln!(text, "| {} {number} | {asked} | {more} |", statement.of.as_str());
    }
    text.push_str(
        "\nOf MQTT 3.1, where it differs from 3.1.1: client identifiers may have more than 23 characters. A SUBSCRIBE of which a filter is\n\
         refused, and a PUBLISH that is denied, close the connection (`denied_3x`), as no answer can say so. Flags of the first byte\n\
         that it calls unused have to be 0, but those of CONNECT, and so do the unused bits of a requested QoS.\n",
    );
    for of in [Of::V5, Of::V311] {
        _ = write!(text, "\n## MQTT {}\n", of.as_str());
        let mut section = "";
        for statement in statements.iter().filter(|statement| statement.of == of) {
            if statement.section() != section {
                section = statement.section();
                _ = write!(
                    text,
                    "\n### {section} {}, MQTT {}\n\n| | | asked | code | tests |\n|---|---|---|---|---|\n",
                    statement.title(),
                    of.as_str()
                );
            }
            line(statement, &all[&(of, statement.number.clone())], &mut text);
        }
    }
    text
}

fn line(statement: &Statement, places: &Places, text: &mut String) {
    let (tables, others): (Vec<_>, Vec<_>) = places.tests.iter().partition(|test| test.starts_with(TABLES));
    let tables = tables.iter().filter_map(|table| table.strip_prefix(TABLES)?.strip_suffix(".rs")).collect::<Vec<_>>();
    let tables = if tables.is_empty() { String::new() } else { format!("`{TABLES}`: {} ", tables.join(", ")) };
    let quoted = |places: Vec<&String>| places.iter().map(|place| format!("`{place}`")).collect::<Vec<_>>().join(" ");
    let (code, tests) = (quoted(places.code.iter().collect()), tables + &quoted(others));
    let Statement { number, who, asked, more, .. } = statement;
    let more = if more.is_empty() || statement.deviates() { String::new() } else { format!(": {more}") };
    _ = writeln!(text, "| {number} | {} | {asked}{more} | {code} | {} |", who.as_str(), tests.trim_end());
}

#[test]
fn conformance_every_statement_has_code_and_a_test() {
    let statements = statements::all();
    let (all, unknown) = collect(&statements);
    assert!(unknown.is_empty(), "tags that name no statement:\n{}", unknown.join("\n"));
    let mut missing = Vec::new();
    let mut without = BTreeSet::new();
    for statement in statements.iter().filter(|statement| statement.is_shown()) {
        let places = &all[&(statement.of, statement.number.clone())];
        let name = statement.name();
        if places.code.is_empty() {
            missing.push(format!("{name} has no code"));
        }
        if places.tests.is_empty() {
            without.insert(name);
        }
    }
    let listed = read("tests/docs/statements/without_a_test.txt");
    let listed: BTreeSet<String> = listed.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    missing.extend(without.difference(&listed).map(|name| format!("{name} has no test")));
    missing
        .extend(listed.difference(&without).map(|name| format!("{name} has a test: take it from without_a_test.txt")));
    assert!(missing.is_empty(), "{}\n{} are missing", missing.join("\n"), missing.len());
}

#[test]
fn conformance_the_document_is_what_the_tags_say() {
    let statements = statements::all();
    let document = document(&statements, &collect(&statements).0);
    let path = root().join("docs/CONFORMANCE.md");
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        fs::write(path, document).expect("written");
        return;
    }
    let same = fs::read_to_string(path).is_ok_and(|text| text == document);
    assert!(same, "docs/CONFORMANCE.md is out of date: FOREBAY_BLESS=1 cargo test --test docs conformance");
}

#[test]
fn conformance_the_reader_of_tags_sees_what_it_should() {
    let line = "a(\"MQTT-1.5.5-1\"); // [MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1], not MQTT-1.5.4-2 nor [MQTT-1.5.4]";
    let wanted = [(Form::Clause, Of::V5, "1.5.5-1"), (Form::Tag, Of::V5, "1.5.4-1"), (Form::Tag, Of::V311, "1.5.3-1")];
    assert_eq!(named(line)[..3], wanted);
    let text = "fn a() {}\n/// b\n#[test]\n#[ignore]\nfn b() {\n    1\n}\nfn c() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn d() {\n    }\n    fn e() {}\n}";
    let shown: Vec<_> = parts("src/x.rs", text).into_iter().map(|(part, _)| part).collect();
    let (b, d) = (Part::Test("src/x.rs::b".into()), Part::Test("src/x.rs::d".into()));
    let wanted = [vec![Part::Code], vec![b; 6], vec![Part::Code], vec![Part::Aid; 2], vec![d; 3], vec![Part::Aid; 2]];
    assert_eq!(shown, wanted.concat());
    assert_eq!(parts("tests/x.rs", "fn a() {}")[0].0, Part::Aid);
    let refused = r#"    ("QoS 3", V5, Client, "36 [ {'t'} ]", MALFORMED, "MQTT-3.3.1-4"),"#;
    assert_eq!(row(refused), Some((Of::V5, "3.3.1-4")));
    assert_eq!(row(&refused.replace("V5", "V311")), Some((Of::V311, "3.3.1-4")));
    assert!(row(&refused.replace("V5", "V31")).is_none() && row(&refused.replace("Client", "Server")).is_none());
}

#[test]
fn conformance_the_lists_are_whole() {
    let statements = statements::all();
    let count = |of| statements.iter().filter(|statement| statement.of == of).count();
    assert_eq!((count(Of::V5), count(Of::V311)), (251, 141), "appendix B of both standards");
    let mut numbers = BTreeSet::new();
    for statement in &statements {
        assert!(numbers.insert(statement.name()), "{} is listed twice", statement.name());
        assert!((1..=100).contains(&statement.asked.len()), "{}: {} bytes", statement.name(), statement.asked.len());
        assert!(!statement.title().is_empty(), "{} has no section", statement.name());
        let says_more = !statement.more.is_empty();
        assert!(
            says_more || !matches!(statement.who, Who::Client | Who::Neither),
            "{} does not say why",
            statement.name()
        );
    }
}
