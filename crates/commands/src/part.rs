//! Changes of parts of a running service's configuration: the common code of the commands for sinks, sources, rules and bridges.

use std::io::Read as _;
use std::path::Path;

use super::args::{AskArgs, ChangeArgs};
use super::ask::{self, changed};

/// The longest file of a part's keys that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The change of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Pause,
    Resume,
    Put,
    /// `discard`: queued messages may be lost.
    Delete {
        discard: bool,
    },
}

/// Changes the part at a path of the API. Returns the changes, in words or as JSON.
///
/// # Errors
/// Why there is no answer, with the address; what is wrong with the keys.
pub(super) fn change(from: &AskArgs, options: &ChangeArgs, path: &str, how: How) -> Result<String, String> {
    let query = format!("?dry_run={}&persist={}", options.dry_run, options.persist);
    let keys = match how {
        How::Put => Some(read(options.file.as_deref().unwrap_or(Path::new("-")))?),
        _ => None,
    };
    let (method, path) = match how {
        How::Pause => ("POST", format!("{path}/pause{query}")),
        How::Resume => ("POST", format!("{path}/resume{query}")),
        How::Put => ("PUT", format!("{path}{query}")),
        How::Delete { discard: false } => ("DELETE", format!("{path}{query}")),
        How::Delete { discard: true } => ("DELETE", format!("{path}{query}&discard=true")),
    };
    let answer = ask::change(from, method, &path, keys.as_deref().map(|keys| ("application/toml", keys)))?;
    Ok(if from.json { format!("{answer:#}\n") } else { changed(&answer, options.dry_run) })
}

/// The text of a file or of standard input.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let mut keys = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_string(&mut keys)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut keys))
    };
    match read {
        Ok(length) if length as u64 > FILE_BYTES_MAX => {
            Err(format!("{}: it is longer than {FILE_BYTES_MAX} bytes", file.display()))
        }
        Ok(_) => Ok(keys),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}
