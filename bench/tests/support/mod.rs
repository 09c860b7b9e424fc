//! The service as a program, for the tests of this folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The service: FOREBAY_BINARY, or the program beside ours.
pub(crate) fn service() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_BIN_EXE_forebay-bench")).with_file_name("forebay");
    let program = std::env::var_os("FOREBAY_BINARY").map_or_else(beside, PathBuf::from);
    assert!(program.exists(), "{} is missing: run cargo build", program.display());
    program
}

/// Starts the service with this configuration. `forebay.toml` and what it says, `forebay.log`, are in the folder.
pub(crate) fn start_service(folder: &Path, text: &str) -> Child {
    let config = folder.join("forebay.toml");
    std::fs::write(&config, text).unwrap();
    let output = File::create(folder.join("forebay.log")).unwrap();
    Command::new(service())
        .args(["run", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap()
}
