//! `forebay config default`: a file with every key, its meaning, its values and its default, all of it commented out. It is
//! generated from the table of keys.

use std::fmt::Write as _;

use super::keys::{self, Absent, Key, Kind, Section};

/// The set-up of the guide to TBMQ's Kafka integration.
pub const AS_IN_TBMQ: &str = include_str!("../../../examples/tbmq.toml");
/// The set-up of the guide to EMQX's Kafka integration.
pub const AS_IN_EMQX: &str = include_str!("../../../examples/emqx.toml");

/// Columns that a comment is broken at.
const WIDTH: usize = 100;

/// The file. Unchanged it means the defaults; without the `#` before keys and headers it is a complete configuration.
#[must_use]
pub fn example() -> String {
    let mut out = String::from(
        "# Forebay: every key with its meaning and default. Remove the # from the section headers and keys that you set.\n\
         # An environment variable overrides this file: FOREBAY_SERVICE_SHARDS, FOREBAY_KAFKA_MAIN_BOOTSTRAP,\n\
         # FOREBAY_SINK_0_TOPIC. `forebay check FILE` checks the result.\n",
    );
    for section in Section::ALL {
        out.push('\n');
        comment(&mut out, section.meaning());
        let _ = writeln!(out, "#{}", section.example_header());
        for key in keys::of(section) {
            out.push('\n');
            comment(&mut out, &format!("{} {}", key.meaning, takes(key)));
            let _ = match shown(key) {
                Some(value) => writeln!(out, "#{} = {value}", key.name),
                None => writeln!(out, "# {} = …", key.name),
            };
        }
    }
    out
}

/// The values that a key takes and its default, as a sentence.
fn takes(key: &Key) -> String {
    let takes = match (key.kind, key.kind.bounds()) {
        (Kind::Word(words) | Kind::Words(words), _) => {
            words.iter().map(|word| format!("\"{}\"", word.name)).collect::<Vec<_>>().join(", ")
        }
        (kind, Some((min, max))) => format!("{kind}, {min} to {max}"),
        (kind, None) => kind.to_string(),
    };
    match key.default {
        Absent::Required => format!("({takes}; required)"),
        Absent::Is(value) if shown(key) != Some(value) => format!("({takes}; default: {value})"),
        Absent::Is(_) => format!("({takes})"),
        Absent::From(text) => format!("({takes}; default: {text})"),
    }
}

/// The value to show; `None`: no value fits the defaults of the other keys.
fn shown(key: &Key) -> Option<&'static str> {
    match key.default {
        Absent::Is(value) => Some(key.shown.unwrap_or(value)),
        _ => key.shown,
    }
}

/// Lines of a comment, broken between words.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        if width == 0 || width + 1 + word.chars().count() > WIDTH {
            out.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        let _ = write!(out, " {word}");
        width += 1 + word.chars().count();
    }
    out.push('\n');
}
