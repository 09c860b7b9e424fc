//! Tells the program which commit it was built from, and gives it the files of the dashboard.
//!
//! `FOREBAY_BUILD` is what `forebay -V` prints behind the version. Only optimized builds know their commit: a debug build that did would be
//! compiled again after each one.
//!
//! `dashboard.rs` is a table of all files below `dashboard/`, compressed, for `control/files.rs`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use flate2::{Compression, GzBuilder};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../dashboard");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default());
    fs::write(out.join("dashboard.rs"), dashboard(Path::new("../../dashboard"), &out)?)?;
    println!("cargo::rerun-if-env-changed=FOREBAY_COMMIT");
    let target = env::var("TARGET").unwrap_or_default();
    let build = if env::var("PROFILE").as_deref() == Ok("release") {
        watch_head();
        format!("{}, {target}", commit().unwrap_or_else(|| "unknown commit".to_owned()))
    } else {
        format!("debug, {target}")
    };
    println!("cargo::rustc-env=FOREBAY_BUILD={build}");
    Ok(())
}

/// An array of (path, compressed bytes), as an expression in Rust. The same files make the same bytes.
fn dashboard(root: &Path, out: &Path) -> io::Result<String> {
    let mut paths = Vec::new();
    find(root, &mut paths)?;
    paths.sort();
    let mut table = String::from("&[\n");
    for (number, path) in paths.iter().enumerate() {
        let made = out.join(format!("{number}.gz"));
        let mut gzip = GzBuilder::new().mtime(0).write(fs::File::create(&made)?, Compression::best());
        gzip.write_all(&fs::read(path)?)?;
        gzip.finish()?;
        let name = path.strip_prefix(root).unwrap_or(path);
        let _ = writeln!(table, "    ({:?}, include_bytes!({:?})),", name.display().to_string(), made);
    }
    table.push_str("]\n");
    Ok(table)
}

/// All files below a folder.
fn find(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// The commit and its date; `FOREBAY_COMMIT`, where it is set, for builds without a repository.
fn commit() -> Option<String> {
    if let Some(given) = env::var("FOREBAY_COMMIT").ok().filter(|given| !given.is_empty()) {
        return Some(given);
    }
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() { "" } else { "-dirty" };
    let date = git(&["log", "-1", "--format=%cs"])?;
    Some(format!("{hash}{changed} {date}"))
}

/// Runs again after a commit or a checkout.
fn watch_head() {
    for path in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", path]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
