//! The key of the answers to unknown users. It lives as long as `data_dir`: with a new key, a client that asks twice for a name
//! would learn that the name is unknown.

use std::io;

use crate::auth::DECOY_KEY_FILE;
use crate::auth::password::generated;
use crate::config::Config;
use crate::files;

/// Makes the key, unless there is one.
///
/// # Errors
/// The file cannot be written, in words.
pub(super) fn make(config: &Config) -> Result<(), String> {
    let file = config.service.data_dir.join(DECOY_KEY_FILE);
    if std::fs::metadata(&file).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let said = |error: io::Error| format!("{}: {error}", file.display());
    files::replace(&file, format!("{}\n", generated()?).as_bytes()).map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_s13_the_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default_no_file();
        config.service.data_dir = dir.path().to_owned();
        let read = || std::fs::read_to_string(dir.path().join(DECOY_KEY_FILE)).unwrap();
        make(&config).unwrap();
        let key = read();
        assert_eq!(key.len(), 41);
        make(&config).unwrap();
        assert_eq!(read(), key);
        std::fs::write(dir.path().join(DECOY_KEY_FILE), "").unwrap();
        make(&config).unwrap();
        assert_ne!(read(), key);
    }
}
