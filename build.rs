//! Tells the program which commit it was built from: `FOREBAY_BUILD` is what `forebay -V` prints behind the version.
//!
//! Only in optimized builds: a debug build that knew its commit would be compiled again after each one.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FOREBAY_COMMIT");
    let target = env::var("TARGET").unwrap_or_default();
    let build = if env::var("PROFILE").as_deref() == Ok("release") {
        watch_head();
        format!("{}, {target}", commit().unwrap_or_else(|| "unknown commit".to_owned()))
    } else {
        format!("debug, {target}")
    };
    println!("cargo::rustc-env=FOREBAY_BUILD={build}");
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
