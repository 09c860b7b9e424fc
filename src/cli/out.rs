//! What a command says on its standard streams. A stream that takes nothing, as its disk is full or its reader has gone, ends no start and no command:
//! `print!` and its like would panic.

use std::fmt::Arguments;
use std::io::Write as _;

/// A line on standard output.
pub fn say(line: Arguments<'_>) {
    let _is_lost = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error.
pub fn complain(line: Arguments<'_>) {
    let _is_lost = writeln!(std::io::stderr(), "{line}");
}

/// A text without a line's end on standard error.
pub fn prompt(text: Arguments<'_>) {
    let mut to = std::io::stderr();
    let _is_lost = write!(to, "{text}").and_then(|()| to.flush());
}
