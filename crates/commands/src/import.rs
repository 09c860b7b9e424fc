//! `forebay import`: reads the files of other products, which `forebay_import` converts.

use std::path::{Path, PathBuf};

use forebay_import::{Imported, Options};

use super::args::{ImportCommand, ImportEmqxArgs, ImportZillaArgs};
use super::input::text_of;

/// Reads files and makes a configuration.
///
/// # Errors
/// A file cannot be read, or cannot be converted.
pub fn import(what: &ImportCommand) -> Result<Imported, String> {
    match what {
        ImportCommand::Emqx(ImportEmqxArgs { files, password_dir }) => {
            let files: Vec<(String, String)> = files.iter().map(read).collect::<Result<_, String>>()?;
            forebay_import::emqx(&files, password_dir)
        }
        ImportCommand::Zilla(ImportZillaArgs { file, partial, password_dir }) => {
            let (name, text) = read(file)?;
            let options = Options { is_partial: *partial, password_dir: password_dir.clone() };
            forebay_import::zilla(&name, &text, &options)
        }
    }
}

/// A name for messages, and a text.
fn read(file: &PathBuf) -> Result<(String, String), String> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    Ok((name, text_of(file)?))
}
