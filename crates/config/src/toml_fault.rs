//! Faults of the TOML parser, in words that name the key and the cure.

use std::ops::Range;

use toml::de::DeValue;

use super::problem::Fault;

/// A fault for an error of the parser at `span` of `text`.
pub(super) fn explain(text: &str, span: &Range<usize>, message: &str) -> Fault {
    let message = message.replace('\n', ", ");
    if message.contains("duplicate key") {
        let key = text.get(span.clone()).unwrap_or_default().trim();
        let fault = Fault::new(format!("not TOML: \"{key}\" is set twice"));
        return fault.hint("remove one of the two");
    }
    let fault = Fault::new(format!("not TOML: {message}"));
    match unquoted(line_at(text, span.start)) {
        Some((key, value)) => fault.hint(format!("strings need quotes: {key} = \"{value}\"")),
        None => fault,
    }
}

/// The line that holds this byte.
fn line_at(text: &str, at: usize) -> &str {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    &text[start..end.max(start)]
}

/// `level = info`: key and value, if quotes around the value would make it TOML.
fn unquoted(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let value = value.split(" #").next().unwrap_or(value).trim();
    let plain = !value.is_empty() && !value.contains(['"', '\'', '[', '{', ']', '}', '\\']);
    (plain && DeValue::parse(value).is_err()).then_some((key.trim(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_lack_quotes_get_the_hint() {
        assert_eq!(unquoted("level = info # c"), Some(("level", "info")));
        assert_eq!(unquoted("linger = 5ms"), Some(("linger", "5ms")));
        assert_eq!(unquoted("bind = 127.0.0.1:1883"), Some(("bind", "127.0.0.1:1883")));
        for line in ["shards =", "shards = 4", "a = \"b", "[table", "a = [1,"] {
            assert_eq!(unquoted(line), None, "{line}");
        }
    }
}
