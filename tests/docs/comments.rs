//! Comments and internals are in plain English: turns of phrase that read as translated become fewer, never more.

use std::collections::BTreeMap;

use regex::Regex;

use super::{files, relative};

/// The lines that may match [`TURNS`]. When rewriting comments has left fewer, lower it to the new count.
const TURNS_MAX: usize = 1;
/// The lines that may match [`OPENERS`], likewise.
const OPENERS_MAX: usize = 88;
/// How far a count may fall below its maximum before the maximum has to follow.
const SLACK: usize = 10;
/// The files that the failing message lists line by line.
const FILES_SHOWN: usize = 5;

/// `TURNS` matches relative clauses without a subject, pronouns without a noun, and words in the place of the usual ones, as "start" in
/// that of "process" and "told" in that of "reported".
const TURNS: &str = concat!(
    r"\bso (many|much|long|large)\b",
    r"|\b(an earlier|this|the next) start\b",
    r"|\bwhat (comes|has come|stands|waits|is (left|owed|said|told))\b",
    r"|\bbehind (it|them|that|those)\b",
    r"|\bwhose\b",
    r"|\bhas (it )?told\b",
    r"|\bfor long\b",
    r"|\b(is|are) to be\b",
    r"|^\W+(Of|By) (those|whom|which|shard)\b",
    r"|^\W+(It|They|Which|It is|The same|How many)\.$",
);

/// `OPENERS` matches comments that begin with a pronoun in the place of a noun.
const OPENERS: &str = r"^\W+(It|They|Those|These|Who|What|Whoever|That|The same|Others|Such) ";

#[test]
fn turns_of_phrase_that_read_as_translated_only_become_fewer() {
    only_become_fewer("TURNS", TURNS, TURNS_MAX, &["docs/internals"]);
}

#[test]
fn comments_that_begin_with_a_pronoun_only_become_fewer() {
    only_become_fewer("OPENERS", OPENERS, OPENERS_MAX, &[]);
}

/// `scripts/test` has no step for examples in comments: a fenced block in one is text.
#[test]
fn no_comment_has_an_example_to_compile() {
    let fence = Regex::new(r"^\s*//[/!]\s*```(.*)$").expect("a pattern");
    let mut to_compile = Vec::new();
    for (path, text) in files(&["src", "crates", "sim/src", "bench/src", "proto/src"], &["rs"]) {
        let fences = text.lines().enumerate().filter_map(|(number, line)| Some((number, fence.captures(line)?)));
        // Every other fence closes a block.
        let opened = fences.step_by(2).filter(|(_, found)| &found[1] != "text");
        to_compile.extend(opened.map(|(number, _)| format!("{}:{}", relative(&path), number + 1)));
    }
    assert!(to_compile.is_empty(), "no step compiles these: make each a test, or mark it `text`: {to_compile:?}");
}

/// Counts in `src/` and `sim/src/` each matching line of a `.rs` file that is only a comment (`//`, `///` or `//!`; unit tests and
/// tests' own files included, comments at the end of a line of code not), and every matching line of the Markdown in `pages`.
fn only_become_fewer(name: &str, pattern: &str, max: usize, pages: &[&str]) {
    let pattern = Regex::new(pattern).expect("a pattern");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut lines = 0;
    let code = files(&["src", "crates", "sim/src"], &["rs"]).into_iter().map(|of| (of, true));
    let pages = if pages.is_empty() { Vec::new() } else { files(pages, &["md"]) };
    for ((path, text), is_code) in code.chain(pages.into_iter().map(|of| (of, false))) {
        let path = relative(&path);
        for (number, line) in text.lines().enumerate() {
            if is_code && !line.trim_start().starts_with("//") {
                continue;
            }
            lines += 1;
            if pattern.is_match(line) {
                let line = format!("{path}:{}: {}", number + 1, line.trim());
                found.entry(path.clone()).or_default().push(line);
            }
        }
    }
    assert!(lines > 10_000, "the comments were not found: {lines} lines");
    let count: usize = found.values().map(Vec::len).sum();
    let mut worst: Vec<&Vec<String>> = found.values().collect();
    worst.sort_by_key(|lines| std::cmp::Reverse(lines.len()));
    let worst: Vec<&str> = worst.into_iter().take(FILES_SHOWN).flatten().map(String::as_str).collect();
    assert!(
        count <= max,
        "{count} lines match the pattern {name}, {max} may. Say in one plain sentence what the thing is or does, its name first \
         (docs/internals/HACKING.md, \"Conventions\"). The files with most:\n{}",
        worst.join("\n")
    );
    assert!(
        count + SLACK >= max,
        "only {count} lines match the pattern {name}: lower {name}_MAX in tests/docs/comments.rs from {max} to {count}"
    );
}
