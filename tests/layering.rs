//! Rules of the house that the compiler does not hold. The order of crates is in their `Cargo.toml`; here is what a crate may name of another one beyond
//! that, the order of modules that share a crate, and parts of a module that know nothing of each other.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates of which only a part may be named, that part, and the crates that may name the rest as well.
const NARROW: &[(&str, &str, &[&str])] = &[
    ("runtime", "seam", &["config", "shard"]),
    ("listener", "proxy", &["config", "shard"]),
    ("metrics", "time", OF_METRICS),
];

/// The crates that count and tell. The configuration only writes times as they do.
const OF_METRICS: &[&str] = &["service", "dapr", "embedded", "control", "shard"];

/// Modules, each with those that it may name.
type Order = &'static [(&'static str, &'static [&'static str])];

/// Modules that share a crate.
const MODULES: &[(&str, Order)] = &[
    ("base", &[("limits", &[]), ("files", &[]), ("address", &[]), ("in_use", &[]), ("rules", &[])]),
    ("guard", &[("bans", &[]), ("secure", &[]), ("auth", &["secure"]), ("outward", &["secure"])]),
    (
        "fleet",
        &[
            ("replica", &[]),
            ("membership", &[]),
            ("trunk", &[]),
            ("link", &["membership"]),
            ("any_bytes", &["link", "trunk"]),
        ],
    ),
    ("service", &[("service", &[]), ("telemetry", &[])]),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file, without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The first names after each `start` in code, groups taken apart.
fn named(code: &str, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        let is_longer = code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':');
        let rest = &code[at + start.len()..];
        let group = rest.strip_prefix('{').map(|group| group.split("};").next().unwrap_or(group));
        let names = group.map_or_else(|| vec![rest], |group| group.split(", ").collect());
        let first =
            |name: &str| name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned();
        found.extend(names.into_iter().map(first).filter(|name| !is_longer && !name.is_empty()));
    }
    found
}

/// Each crate below `crates/` with its files.
fn all() -> Vec<(String, Vec<PathBuf>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(crates()).expect("the folder of crates").flatten() {
        let mut found = Vec::new();
        files(&entry.path().join("src"), &mut found);
        all.push((entry.file_name().to_string_lossy().into_owned(), found));
    }
    assert!(all.len() > 15, "this test looks at the wrong folder");
    all
}

/// What code of a crate names of narrow crates beyond their narrow part.
fn too_wide(of: &str, code: &str) -> Vec<String> {
    let narrow = NARROW.iter().filter(|(name, _, may)| *name != of && !may.contains(&of));
    let names = |(name, part, _): &(&str, &str, &[&str])| -> Vec<String> {
        let named = named(code, &format!("forebay_{name}::"));
        named.into_iter().filter(|first| first != part).map(|first| format!("forebay_{name}::{first}")).collect()
    };
    narrow.flat_map(names).collect()
}

#[test]
fn a_crate_is_named_as_far_as_others_need_it() {
    for (of, files) in all() {
        for path in files {
            let wrong = too_wide(&of, &code(&path));
            assert!(wrong.is_empty(), "{} names {}", path.display(), wrong.join(", "));
        }
    }
    assert_eq!(too_wide("session", "use forebay_runtime::ring::Ring;"), ["forebay_runtime::ring"]);
    assert_eq!(too_wide("session", "use forebay_runtime::{seam, mail::Box};"), ["forebay_runtime::mail"]);
    assert!(too_wide("session", "use forebay_runtime::seam::{ConnId, Io};").is_empty());
    assert!(too_wide("shard", "use forebay_runtime::ring::Ring;").is_empty());
}

#[test]
fn modules_of_a_crate_name_only_modules_before_them() {
    for (of, modules) in MODULES {
        for (module, may) in *modules {
            let path = crates().join(of).join("src").join(module);
            let mut found = Vec::new();
            if path.is_dir() {
                files(&path, &mut found);
            } else {
                found.push(path.with_extension("rs"));
            }
            for path in found {
                for name in named(&code(&path), "crate::").iter().filter(|name| *name != module) {
                    let is_module = modules.iter().any(|(module, _)| module == name);
                    assert!(!is_module || may.contains(&name.as_str()), "{} names crate::{name}", path.display());
                }
            }
        }
    }
    assert_eq!(
        named("use crate::{secure::Secret, auth};\nuse crate::bans::Ban;", "crate::"),
        ["secure", "auth", "bans"]
    );
}

/// The parts of the producer that know nothing of the rest: what they may name of it beside themselves.
const PARTS: &[(&str, &[&str])] = &[("window", &["error"]), ("dispatch", &["error", "Key", "Settings"])];

/// What a part of the producer names by `super::` beyond its own folder, and by `crate::producer::`.
fn named_of_producer(code: &str, is_door: bool) -> Vec<String> {
    let up = if is_door { "use super::" } else { "use super::super::" };
    let mut found = Vec::new();
    for start in [up, "crate::producer::"] {
        for (at, _) in code.match_indices(start) {
            let rest = code[at + start.len()..].split(';').next().unwrap_or_default();
            let names = rest.strip_prefix('{').map_or(rest, |group| group.trim_end_matches('}'));
            found.extend(names.split(", ").map(|name| name.split("::").next().unwrap_or_default().trim().to_owned()));
        }
    }
    found
}

#[test]
fn parts_of_the_producer_do_not_name_each_other() {
    let producer = crates().join("kafka/src/producer");
    for (part, may) in PARTS {
        let mut all = Vec::new();
        files(&producer.join(part), &mut all);
        assert!(!all.is_empty(), "{part} is gone");
        for path in all.iter().filter(|path| !path.components().any(|folder| folder.as_os_str() == "tests")) {
            let code = code(path).replace("pub(in crate::producer)", "");
            let named = named_of_producer(&code, path.ends_with(Path::new(part).join("mod.rs")));
            for name in named {
                assert!(may.contains(&name.as_str()), "{} names {name}", path.display());
            }
        }
    }
    assert_eq!(named_of_producer("use super::{Key, batch::Batch};", true), ["Key", "batch"]);
    assert_eq!(named_of_producer("use super::Window;\nuse super::super::pool::Pool;", false), ["pool"]);
}

#[test]
fn the_ring_and_unsafe_stay_in_the_runtime() {
    for (of, files) in all().into_iter().filter(|(of, _)| of != "runtime") {
        let folder = crates().join(&of);
        let needs = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let needs = needs.lines().any(|line| line.starts_with("glommio") || line.starts_with("io-uring"));
        let forbids = code(&folder.join("src/lib.rs")).contains("#![forbid(unsafe_code)]");
        assert!(!needs && forbids && !files.is_empty(), "{of}");
    }
    let program = fs::read_to_string(crates().join("../src/lib.rs")).expect("the program's library");
    assert!(program.contains("#![forbid(unsafe_code)]"));
}

/// The body of a struct in a file of `crates/`, and how many fields it has.
fn fields(file: &str, name: &str) -> usize {
    let text = fs::read_to_string(crates().join(file)).expect("a file of crates");
    let body = text.split_once(&format!("struct {name} {{\n")).expect("the struct").1;
    let body = body.split_once("\n}\n").expect("its end").0;
    body.lines().filter(|line| line.contains(": ") && !line.trim_start().starts_with("//")).count()
}

/// A shard is its broker (sessions, and what takes their messages) and what is around it (connections, timers). The broker knows nothing of
/// that, and neither grows into one struct that has everything.
#[test]
fn the_broker_does_not_reach_the_shard_around_it() {
    let mut found = Vec::new();
    files(&crates().join("shard/src/broker"), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for path in found {
        let text = fs::read_to_string(&path).expect("a file of crates");
        let names = text.split(|of: char| !of.is_alphanumeric() && of != '_').any(|word| word == "Core");
        assert!(!names, "{} names the shard's Core", path.display());
    }
    let (core, broker) = (fields("shard/src/lib.rs", "Core"), fields("shard/src/broker/mod.rs", "Broker"));
    assert!((3..=14).contains(&core) && (3..=12).contains(&broker), "{core} fields of Core, {broker} of Broker");
}
