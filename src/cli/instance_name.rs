//! The name by which consumer groups know this instance (`group.instance.id`): that of `[broker]`, or one that is made once and lives as
//! long as `data_dir`. With it, sources have their partitions again at once after a kill.

use std::fs;
use std::io;

use crate::auth::password::random;
use crate::config::Config;
use crate::files;

/// The file of the name in `data_dir`.
const FILE: &str = "instance-name";
/// The prefix of names that are made.
const PREFIX: &str = "forebay-";
/// Digits after it.
const DIGITS: usize = 16;

/// The instance's name, made and kept if there is none.
///
/// # Errors
/// The file cannot be written, in words.
pub(super) fn keep(config: &Config) -> Result<String, String> {
    if let Some(broker) = &config.broker {
        return Ok(broker.name.clone());
    }
    let file = config.service.data_dir.join(FILE);
    let is_small = fs::metadata(&file).is_ok_and(|found| found.is_file() && found.len() < 64);
    let kept = is_small.then(|| fs::read_to_string(&file).ok()).flatten();
    if let Some(name) = kept.as_deref().map(str::trim_end).filter(|name| is_one(name)) {
        return Ok(name.to_owned());
    }
    let digits: String = random::<{ DIGITS / 2 }>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{PREFIX}{digits}");
    let said = |error: io::Error| format!("{}: {error}", file.display());
    files::replace(&file, format!("{name}\n").as_bytes()).map_err(said)?;
    Ok(name)
}

/// Whether a file has a whole name.
fn is_one(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_q9_the_name_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default_no_file();
        config.service.data_dir = dir.path().to_owned();
        let name = keep(&config).unwrap();
        assert!(is_one(&name), "{name}");
        assert_eq!(keep(&config).unwrap(), name);
        // An incomplete file is written again.
        for damaged in ["", "forebay-0123", "forebay-0123456789abcde\0"] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            let another = keep(&config).unwrap();
            assert_ne!(another, name);
            assert_eq!(keep(&config).unwrap(), another);
        }
        let text = "[broker]\nname = 'pod-1'\n[kafka.main]\nbootstrap = 'k:1'\n";
        let of_broker = crate::config::parse(text, "test").expect("a configuration");
        assert_eq!(keep(&of_broker).unwrap(), "pod-1");
    }
}
