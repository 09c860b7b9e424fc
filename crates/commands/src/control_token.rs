//! The token of a process, for users who may read `data_dir`: without `control.tokens_file`, changes by the API need it, and the
//! command line sends it by itself. Each process makes a new one, so that a leaked copy is soon worth nothing. Beside it is the
//! address of the control plane, which the configuration may have changed since, or has left to the kernel.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_base::files;
use forebay_config::{self as config, Config};
use forebay_control::OwnToken;
use forebay_guard::auth::password::generated;

/// The token's file in `data_dir`.
const FILE: &str = "control-token";
/// The file of the address.
const ADDRESS_FILE: &str = "control-address";
/// The longest token, in bytes.
const BYTES_MAX: usize = 256;

/// Makes the token of this process. `None`: there is no control plane.
///
/// # Errors
/// The file cannot be written, in words.
pub fn make(config: &Config) -> Result<Option<Arc<OwnToken>>, String> {
    if config.control.bind.is_none() {
        return Ok(None);
    }
    let (token, file) = (generated()?, path(&config.service.data_dir));
    files::replace(&file, format!("{token}\n").as_bytes()).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Some(Arc::new(OwnToken::new(&token, file))))
}

/// The token of the service with this data directory, if this user may read it.
///
/// # Errors
/// The errors of `open` and `read`.
pub(super) fn read(data_dir: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(path(data_dir))?;
    let token = text.trim();
    let is_token = (1..BYTES_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(token.to_owned()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Writes the address of the control plane into its file.
///
/// # Errors
/// The file cannot be written, in words.
pub fn serves_at(config: &Config, address: SocketAddr) -> Result<(), String> {
    let file = config.service.data_dir.join(ADDRESS_FILE);
    files::replace(&file, format!("{address}\n").as_bytes()).map_err(|error| format!("{}: {error}", file.display()))
}

/// The address that the service with this data directory has written, if there is one: by now another service may be there, or none.
pub(super) fn served_at(data_dir: &Path) -> Option<SocketAddr> {
    const WAIT: Duration = Duration::from_secs(1);
    let address = std::fs::read_to_string(data_dir.join(ADDRESS_FILE)).ok()?.trim().parse().ok()?;
    let address = config::reachable(address);
    TcpStream::connect_timeout(&address, WAIT).ok().map(|_| address)
}

/// The file of the token of the service with this data directory.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_and_what_is_no_token_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default_no_file();
        config.service.data_dir = dir.path().to_owned();
        make(&config).unwrap().unwrap();
        let token = read(dir.path()).unwrap();
        assert_eq!(token.len(), 40);
        make(&config).unwrap().unwrap();
        assert_ne!(read(dir.path()).unwrap(), token);
        for wrong in ["", "a b", "a\r\nHost: x"] {
            std::fs::write(path(dir.path()), wrong).unwrap();
            read(dir.path()).unwrap_err();
        }
        config.control.bind = None;
        assert!(make(&config).unwrap().is_none());
    }
}
