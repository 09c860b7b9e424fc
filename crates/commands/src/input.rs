//! Input of commands: files and standard input.

use std::io::Read as _;
use std::path::Path;

/// The text of a file, or of standard input where the name is `-`.
///
/// # Errors
/// The input cannot be read, or is not UTF-8; in words.
pub fn text_of(file: &Path) -> Result<String, String> {
    let read = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| format!("{}: {error}", file.display()))
}
