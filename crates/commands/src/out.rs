//! Output of a command on its standard streams. A failing stream (its disk is full, or its reader has gone) ends no process and no command: `print!` and
//! its like would panic. Every command writes by this file, which escapes characters that are not shown; [`line()`] makes one line of a text of others.

use std::fmt::Arguments;
use std::io::{self, Write as _};

pub use forebay_base::shown::{line, lines};

/// Prints a text on standard output at once.
///
/// # Errors
/// The reader of the output has gone, or it cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    print_verbatim(&lines(text))
}

/// Prints the content of a file, or what the program has made, on standard output: every byte of it.
///
/// # Errors
/// As [`print()`].
pub fn print_verbatim(text: &str) -> io::Result<()> {
    let mut to = io::stdout().lock();
    to.write_all(text.as_bytes()).and_then(|()| to.flush())
}

/// Prints a line on standard output.
pub fn say(line: Arguments<'_>) {
    let _is_lost = print(&format!("{line}\n"));
}

/// Prints a line on standard error.
pub fn complain(line: Arguments<'_>) {
    let _is_lost = writeln!(io::stderr(), "{}", lines(&line.to_string()));
}

/// Prints a text without a line end on standard error.
pub fn prompt(text: Arguments<'_>) {
    let mut to = io::stderr();
    let _is_lost = write!(to, "{}", lines(&text.to_string())).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finding Q21: what a client has chosen neither moves the cursor, nor hides or re-orders text, in a line and in JSON.
    #[test]
    fn finding_q21_characters_that_are_not_shown_are_escaped() {
        assert_eq!(line("a\u{1b}[2J\nb\u{9b}\u{202e}\u{200b}ü日"), "a\u{FFFD}[2J\u{FFFD}b\u{FFFD}\u{FFFD}\u{FFFD}ü日");
        let json = serde_json::json!({ "id": "\u{9b}31m\u{202e}\u{e0041}\u{7f}" }).to_string();
        let safe = lines(&json);
        assert!(safe.is_ascii(), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).ok(), serde_json::from_str(&json).ok());
        assert_eq!(lines("a\tb\nü"), "a\tb\nü");
    }

    /// Uses of a string of an answer that print nothing, or whole texts of several lines.
    const USES: [&str; 13] = [
        "[\"missing\"].as_str()",
        "[\"previous\"].as_str()",
        "answer[\"text\"].as_str()",
        "content.as_str()",
        "[\"detail\"].as_str()",
        "next\"].as_str()",
        "list.next.as_str()",
        "rule[\"sql\"].as_str()",
        "let key = |row: &Value| (row[\"topic\"].as_str()",
        "GOOD.contains(&of[\"state\"].as_str()",
        "packet[\"payload\"].as_str()",
        "password.as_str()",
        "[\"difference\"].as_str()",
    ];

    /// Finding Q21: commands write by this file alone, and take strings of answers by `text`, `shown` and `said` of `ask`.
    #[test]
    fn finding_q21_commands_print_by_this_file_alone() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = here.ancestors().nth(2).expect("the workspace").join("src");
        let mut open = vec![here.join("src"), program.join("cli")];
        let (mut files, mut of_answers) = (vec![program.join("main.rs")], 0);
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path()) {
                if entry.is_dir() {
                    open.push(entry);
                } else if !entry.ends_with("commands/src/out.rs") && !entry.ends_with("commands/src/ask.rs") {
                    files.push(entry);
                }
            }
        }
        for file in &files {
            let source = std::fs::read_to_string(file).expect("a file");
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            let asks = source.contains("use super::ask::");
            of_answers += usize::from(asks);
            for line in source.lines() {
                let writes = ["stdout()", "stderr()", "print!(", "println!("].iter().any(|word| line.contains(word));
                assert!(!writes, "{}: {line}", file.display());
                let takes = asks && line.contains(".as_str()") && !USES.iter().any(|known| line.contains(known));
                assert!(!takes, "{}: use `said` or `text`: {line}", file.display());
            }
        }
        assert!(files.len() > 90 && of_answers > 15, "{} {of_answers}", files.len());
    }
}
