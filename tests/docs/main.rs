//! The documents are held to the repository and to the built program: links lead somewhere, names exist, examples are
//! configurations, and commands do what they are said to do.

mod boards;
mod combinations;
mod commands;
mod comments;
mod conformance;
mod edge;
mod names;
mod negatives;
mod running;
mod statements;
#[path = "../support/mod.rs"]
mod support;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file that is part of the repository, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 20, "the documents were not found");
    found
}

/// Files below folders of the repository with one of these extensions, with their text.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|of| extensions.iter().any(|extension| of == *extension)) {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    found
}

/// The path of a file of the repository, as documents write it.
fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").display().to_string()
}

/// Text outside fenced code, line by line with its number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((number + 1, line))
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Documents for operators.
fn for_operators() -> impl Iterator<Item = (String, String)> {
    let shown = |path: &Path| path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let ours = |path: &String| {
        let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].contains(&path.as_str());
        top || path.starts_with("docs/") && path.matches('/').count() == 1
    };
    documents().into_iter().map(move |(path, text)| (shown(&path), text)).filter(move |(path, _)| ours(path))
}

/// The text between backticks, line by line.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |quoted| (number, quoted)))
}

/// Fenced blocks: language and lines.
fn fenced(text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                blocks.push((language.to_owned(), String::new()));
                open = true;
            }
            None if open => {
                let block = &mut blocks.last_mut().expect("a block is open").1;
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    blocks
}
