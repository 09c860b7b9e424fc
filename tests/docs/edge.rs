//! The rules of the secure edge, X1 to X78: each has a test that names it in its comment (`/// X12: …`). And the weakness classes
//! of MQTT brokers: each has an attacker or a test.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{files, read, root};

/// How many there are.
const RULES: usize = 78;
/// Those that are not built (decision 0133). X52 and X53 are, for users; their part for tenants is not.
const NOT_BUILT: &[usize] = &[54, 58, 71];
/// X78: those of which SIMULATION.md says what found them, taken out.
const TAKEN_OUT: &[usize] = &[6, 12, 24, 26, 36, 41, 43, 44, 45, 53, 54, 58, 64];
/// Where tests are.
const FOLDERS: &[&str] = &["src", "crates", "tests", "sim/src", "fuzz/fuzz_targets"];

fn sources() -> Vec<(PathBuf, String)> {
    let found = files(FOLDERS, &["rs", "py"]);
    assert!(found.len() > 300, "the sources were not found");
    found
}

/// Rules that a text names.
fn rules(text: &str) -> impl Iterator<Item = usize> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| word.strip_prefix('X')?.parse().ok()).filter(|rule| (1..=RULES).contains(rule))
}

/// The comments of tests: what stands before `#[test]`, and at the head of a file with tests. In Python and of fuzz targets
/// the head of the file.
fn comments(path: &Path, text: &str) -> String {
    if path.extension().is_some_and(|extension| extension == "py") {
        return text.split("\"\"\"").nth(1).unwrap_or_default().to_owned();
    }
    let is_fuzz = path.components().any(|part| part.as_os_str() == "fuzz_targets");
    let (mut all, mut block) = (String::new(), String::new());
    let has_tests = text.contains("#[test]");
    for line in text.lines().map(str::trim) {
        match line {
            _ if line.starts_with("///") => block.push_str(line),
            _ if line.starts_with("//!") && (has_tests || is_fuzz) => all.push_str(line),
            "#[test]" => all.push_str(&block),
            _ if line.starts_with("#[") => {}
            _ => block.clear(),
        }
    }
    all
}

#[test]
fn every_rule_of_the_edge_has_a_test_that_names_it() {
    let mut named: HashMap<usize, usize> = HashMap::new();
    for (path, text) in sources() {
        rules(&comments(&path, &text)).for_each(|rule| *named.entry(rule).or_default() += 1);
    }
    let without: Vec<String> = (1..=RULES)
        .filter(|rule| !named.contains_key(rule) && !NOT_BUILT.contains(rule))
        .map(|rule| format!("X{rule}"))
        .collect();
    assert!(without.is_empty(), "no test names {}", without.join(", "));
    let built: Vec<_> = NOT_BUILT.iter().filter(|rule| named.contains_key(rule)).collect();
    assert!(built.is_empty(), "there are tests of {built:?}: they are built, take them from the list");
}

#[test]
fn the_reader_of_this_test_sees_what_it_should() {
    let rust = "/// X1: a.\n#[test]\nfn a() {}\n/// X2: not a test.\nfn b() {}\n/// X3: c,\n/// and X4.\n#[test]\n#[ignore]\nfn c() {}";
    assert_eq!(rules(&comments(Path::new("a.rs"), rust)).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(rules("X509, X79, X0, EX5, X78.").collect::<Vec<_>>(), [78]);
    assert_eq!(rules(&comments(Path::new("a.py"), "\"\"\"X73 as far.\"\"\"\n# X1\n")).collect::<Vec<_>>(), [73]);
}

/// X78: what SIMULATION.md says of each rule that was taken out: the tests that it names exist.
#[test]
fn what_finds_a_rule_that_is_taken_out_exists() {
    let rows = table("docs/internals/SIMULATION.md", "### Rules of the secure edge");
    let told: Vec<usize> = rows.iter().flat_map(|row| rules(&row[0])).collect();
    let silent: Vec<_> = TAKEN_OUT.iter().filter(|rule| !told.contains(rule) && !NOT_BUILT.contains(rule)).collect();
    assert!(silent.is_empty(), "the table does not have X{silent:?}");
    assert_tests_exist(rows.iter().map(|row| row[2].as_str()));
}

/// The rows of the table behind a heading, without its head.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let (_, section) = text.split_once(heading).expect("the section");
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.skip(2).map(cells).collect()
}

/// Tests that are named as `module::function`, or modules of tests.
fn assert_tests_exist<'a>(cells: impl Iterator<Item = &'a str>) {
    let sources = sources();
    for named in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|named| named.contains("::")) {
        let last = named.rsplit("::").next().expect("a name");
        let (function, module) = (format!("fn {last}("), format!("mod {last}"));
        let is_there = |(_, text): &(PathBuf, String)| text.contains(&function) || text.contains(&module);
        assert!(sources.iter().any(is_there), "{named} does not exist");
    }
}

/// FAULTS.md has the twenty weakness classes; the attackers and tests that it names for them exist.
#[test]
fn each_weakness_class_has_an_attacker_or_a_test() {
    let rows = table("docs/internals/FAULTS.md", "## Weakness classes");
    let attacks = read("tests/faults/attacks.py");
    let kinds = attacks.split_once("KINDS: tuple").and_then(|(_, rest)| rest.split_once(')')).expect("the kinds").0;
    let kinds: Vec<&str> = kinds.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    assert_eq!(rows.len(), 20);
    for (number, row) in (1..).zip(&rows) {
        assert!(row[0].starts_with(&format!("{number}: ")), "{row:?}");
        let mut attackers = row[2].split('`').skip(1).step_by(2);
        assert!(attackers.clone().next().is_some() || row[2].starts_with("none: "), "{row:?}");
        attackers.by_ref().for_each(|attacker| assert!(kinds.contains(&attacker), "{number}: {attacker}"));
        assert!(row[3].contains("::") || row[3] == "the same", "{row:?}");
    }
    assert_tests_exist(rows.iter().map(|row| row[3].as_str()));
}

/// SECURITY.md has each class of published vulnerabilities with the tests that cover it, by path and function: each is a test.
#[test]
fn each_class_of_vulnerabilities_has_a_test() {
    let rows = table("SECURITY.md", "## Classes of vulnerabilities");
    assert!(rows.len() >= 25, "{} classes", rows.len());
    for (number, row) in (1..).zip(&rows) {
        assert!(row[0].starts_with(&format!("{number}: ")) && !row[1].is_empty(), "{row:?}");
        let tests: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row:?}");
        for named in tests {
            let (path, function) = named.split_once(".rs::").expect("a path and a function");
            assert!(is_test(&read(&format!("{path}.rs")), function), "{number}: {named} is no test");
        }
    }
}

/// Whether a source has a test of this name.
pub(super) fn is_test(text: &str, function: &str) -> bool {
    let head = format!("fn {function}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_there = |(at, line): (usize, &&str)| {
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        let is_it = line.strip_prefix("async ").unwrap_or(line).starts_with(&head);
        is_it && attributes.into_iter().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
    };
    lines.iter().enumerate().any(is_there)
}

/// X74: what deny.toml bans is not in the lock file, and SECURITY.md says how to report and who checks when.
#[test]
fn one_library_for_cryptography_and_a_way_to_report() {
    let (deny, lock, security) = (read("deny.toml"), read("Cargo.lock"), read("SECURITY.md"));
    let (_, bans) = deny.split_once("[bans]").expect("the section");
    let banned: Vec<&str> =
        bans.split("crate = \"").skip(1).map(|rest| rest.split('"').next().expect("a name")).collect();
    assert!(["openssl-sys", "native-tls", "aws-lc-rs"].iter().all(|name| banned.contains(name)), "{banned:?}");
    for name in banned {
        assert!(!lock.contains(&format!("name = \"{name}\"\n")), "{name} is banned, and in Cargo.lock");
    }
    for words in ["## Reporting a vulnerability", "## What Forebay protects", "`scripts/test supply` each week"] {
        assert!(security.contains(words), "SECURITY.md does not say: {words}");
    }
}

/// X75: each reader of foreign bytes has a fuzz target.
#[test]
fn readers_of_foreign_bytes_are_fuzzed() {
    const TARGETS: &[&str] = &[
        "layer_ws",
        "layer_tls",
        "upgrade",
        "password_file",
        "acl_file",
        "acl_match",
        "jwt",
        "jwks",
        "x509",
        "scram",
        "sasl",
        "proxy_header",
        "mqtt_connect",
        "mqtt_decode",
        "rule",
    ];
    let manifest = read("fuzz/Cargo.toml");
    for target in TARGETS {
        assert!(root().join(format!("fuzz/fuzz_targets/{target}.rs")).exists(), "{target}");
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not built");
    }
}
