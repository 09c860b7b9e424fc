//! What integration tests share: the service as a process (`service`), a real Kafka (`kafka`) and the tools of real clients.
//!
//! A tool that is missing fails the test with the command that installs it. Nothing is skipped in silence.
#![allow(dead_code, unreachable_pub, missing_docs)] // each test binary uses its own part of this

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub mod browser;
pub mod certificates;
pub mod kafka;
pub mod service;

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `scripts/test install` has fetched.
pub fn cache() -> PathBuf {
    std::env::var_os("FOREBAY_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from)
}

/// A new directory, removed when dropped: below FOREBAY_TEST_DIR, where scripts/test looks for what was left behind.
pub fn temp_dir() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("forebay-test.");
    match std::env::var_os("FOREBAY_TEST_DIR") {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    }
    .expect("a temporary directory")
}

/// A program on the path, or a panic that says how to get it.
pub fn tool(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file());
    command(found.unwrap_or_else(|| panic!("{name} is missing on this machine: run scripts/test install")))
}

/// The tests' own Python, with paho-mqtt and confluent-kafka, about to run a program of `tests/python`.
pub fn python(program: &str) -> Command {
    assert!(cache().join("node/node_modules/mqtt").exists(), "mqtt.js is missing: run scripts/test install");
    let mut command = plain_python(program);
    command.env("FOREBAY_RUMQTTC", rumqttc_publisher());
    command
}

/// The same for a program that needs no other clients.
pub fn plain_python(program: &str) -> Command {
    let python = std::env::var_os("FOREBAY_PYTHON").map_or_else(|| cache().join("venv/bin/python"), PathBuf::from);
    assert!(python.exists(), "{} is missing: run scripts/test install", python.display());
    let mut command = command(python);
    command.arg(root().join("tests/python").join(program));
    command
}

/// rumqttc's programs lie beside each other.
fn rumqttc_publisher() -> PathBuf {
    let examples = PathBuf::from(env!("CARGO_BIN_EXE_forebay")).with_file_name("examples");
    for name in ["rumqttc_publisher", "rumqttc_participant"] {
        let program = examples.join(name);
        assert!(
            program.exists(),
            "{} is missing: scripts/test builds it, or cargo build --examples",
            program.display()
        );
    }
    examples.join("rumqttc_publisher")
}

/// A program that reads nothing.
pub fn command(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end and returns what it printed; a failure panics with all that it said.
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?} ended with {status}\n{stdout}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}
