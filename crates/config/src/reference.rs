//! The tables of `docs/CONFIGURATION.md`, generated from the table of keys: the document has the keys that the program reads.

use std::fmt::Write as _;

use super::keys::{self, Absent, Key, Kind, Section};

/// The reference of all keys: one table in Markdown for each part of the file.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    for section in Section::ALL {
        let _ = write!(out, "### `{}`\n\n{}\n\n", section.header(), section.meaning());
        out.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
        for key in keys::of(section) {
            let _ = writeln!(out, "| `{}` | {} | {} | {} |", key.name, takes(key), default(key), key.meaning);
        }
        out.push('\n');
    }
    out
}

fn takes(key: &Key) -> String {
    match (key.kind, key.kind.bounds()) {
        (Kind::Word(words) | Kind::Words(words), _) => {
            let words: Vec<_> = words.iter().map(|word| format!("`\"{}\"`", word.name)).collect();
            words.join(", ")
        }
        (kind, Some((min, max))) => format!("{kind}, `{min}` to `{max}`"),
        (kind, None) => kind.to_string(),
    }
}

fn default(key: &Key) -> String {
    match key.default {
        Absent::Required => "required".to_owned(),
        Absent::Is(text) => format!("`{text}`"),
        Absent::From(text) => text.to_owned(),
    }
}
