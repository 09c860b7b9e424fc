//! Checks of file permissions for `forebay check`: files of the service that other users of this machine may read or change, and
//! files with secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::check::{Line, Verdict};
use crate::config::{ApiAccess, Config};
use crate::control::Tokens;

/// Permission bits of users that are neither the owner nor in the group.
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
const OTHERS_ENTER: u32 = 0o001;
/// The most files and directories that are examined below one directory.
const LOOKED_AT_MAX: usize = 100_000;

/// A line for each directory of the service, and each file with secrets, that is open to others.
pub(super) fn of_modes(config: &Config, lines: &mut Vec<Line>) {
    let mut warn = |about: &str, text| lines.push(Line { verdict: Verdict::Warning, about: about.to_owned(), text });
    let data_dir = &config.service.data_dir;
    let log = config.embedded.as_ref().map(|log| &log.dir).filter(|dir| !dir.starts_with(data_dir));
    for (about, dir) in [("data directory", data_dir)].into_iter().chain(log.map(|dir| ("embedded log", dir))) {
        let open = open_below(dir);
        if let Some(first) = open.first() {
            let (count, shown) = (open.len(), dir.display());
            warn(
                about,
                format!(
                    "{shown}: other users of this machine may read or change {count} of the files in it ({}); `chmod -R o-rwx {shown}`",
                    first.display()
                ),
            );
        }
    }
    if let ApiAccess::Tokens(file) = &config.control.access
        && let Ok(tokens) = Tokens::read(file)
    {
        for name in tokens.slow() {
            let text = format!(
                "{}: {name} has an argon2id hash: requests with it wait behind those that guess; `forebay token {name}` prints a new token and its line",
                file.display()
            );
            warn("tokens", text);
        }
    }
    for (about, file) in secrets(config) {
        if mode(file).is_some_and(|mode| mode & (OTHERS_READ | OTHERS_WRITE) != 0) {
            let shown = file.display();
            warn(about, format!("other users of this machine may read or change {shown}; `chmod o-rwx {shown}`"));
        }
    }
}

/// Files with secrets, or with messages of clients. Files of `[kafka.NAME]` and of tokens have their warning where the
/// configuration is read.
fn secrets(config: &Config) -> Vec<(&'static str, &Path)> {
    let mut files: Vec<(&str, &Path)> = Vec::new();
    for auth in &config.auth {
        files.extend(auth.password_file.as_ref().map(|file| ("password file", file.as_path())));
    }
    let listeners = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    for pair in listeners.chain(&config.control.tls).flat_map(|tls| &tls.certificates) {
        files.push(("private key", &pair.key));
    }
    let outgoing = config.clusters.iter().filter_map(|cluster| cluster.tls.as_ref()?.identity.as_ref()?.files());
    files.extend(outgoing.map(|pair| ("private key", pair.key.as_path())));
    if let ApiAccess::Tokens(file) = &config.control.access {
        files.push(("tokens", file));
    }
    let outside = config
        .dead_letter_files()
        .map(|file| file.path.as_path())
        .filter(|file| !file.starts_with(&config.service.data_dir));
    files.extend(outside.map(|file| ("dead letters", file)));
    files.sort_unstable();
    files.dedup();
    files
}

/// Files below a directory that others may read or change, and directories that they may change.
fn open_below(dir: &Path) -> Vec<PathBuf> {
    let (mut open, mut dirs, mut looked_at) = (Vec::new(), vec![dir.to_owned()], 0);
    while let Some(dir) = dirs.pop().filter(|_| looked_at < LOOKED_AT_MAX) {
        let Some(mode) = mode(&dir) else { continue };
        if mode & OTHERS_ENTER == 0 {
            continue;
        }
        if mode & OTHERS_WRITE != 0 {
            open.push(dir.clone());
        }
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            looked_at += 1;
            match entry.metadata() {
                Ok(found) if found.is_dir() => dirs.push(entry.path()),
                Ok(found) if found.is_file() && found.permissions().mode() & (OTHERS_READ | OTHERS_WRITE) != 0 => {
                    open.push(entry.path());
                }
                _ => {}
            }
        }
    }
    open
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.permissions().mode())
}
