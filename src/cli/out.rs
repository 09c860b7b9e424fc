//! Output of a command on its standard streams. A failing stream (its disk is full, or its reader has gone) ends no process and no command: `print!` and
//! its like would panic.

use std::fmt::Arguments;
use std::io::Write as _;

/// Prints a line on standard output.
pub fn say(line: Arguments<'_>) {
    let _is_lost = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line on standard error.
pub fn complain(line: Arguments<'_>) {
    let _is_lost = writeln!(std::io::stderr(), "{line}");
}

/// Prints a text without a line end on standard error.
pub fn prompt(text: Arguments<'_>) {
    let mut to = std::io::stderr();
    let _is_lost = write!(to, "{text}").and_then(|()| to.flush());
}
