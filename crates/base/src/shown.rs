//! Text of others (clients, brokers, other operators) on a terminal: it moves no cursor, hides nothing and re-orders no line.

use std::borrow::Cow;

/// Characters that are no control characters and are not seen: those that Unicode has displays ignore, separators of lines, and marks of directions.
const INVISIBLE: [(char, char); 22] = [
    ('\u{AD}', '\u{AD}'),
    ('\u{34F}', '\u{34F}'),
    ('\u{61C}', '\u{61C}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{2028}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFFB}'),
    ('\u{13430}', '\u{1343F}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{E000}', '\u{F8FF}'),
    ('\u{E0000}', '\u{E0FFF}'),
    ('\u{F0000}', '\u{FFFFD}'),
    ('\u{100000}', '\u{10FFFD}'),
];

/// Whether a terminal shows a character where it stands, and nothing else.
#[must_use]
pub fn is_shown(c: char) -> bool {
    !c.is_control() && !INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// A text of others as a part of one line: characters that are not shown become U+FFFD.
#[must_use]
pub fn line(text: &str) -> String {
    text.chars().map(|c| if is_shown(c) { c } else { '\u{FFFD}' }).collect()
}

/// A text with its lines and tabs. Other characters that are not shown are escaped as in JSON, so that JSON keeps its meaning.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    let is_kept = |c: char| matches!(c, '\n' | '\t') || is_shown(c);
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_kept(c) {
            safe.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe += &format!("\\u{unit:04x}"));
        }
    }
    Cow::Owned(safe)
}
