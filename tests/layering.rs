//! The one rule of the house that a program holds: data flows one way through the rooms of `src/`, so a room may name
//! only rooms that stand before it in this table; glommio and io_uring are named in `runtime/` alone; `unsafe` likewise.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms it may name. A path (`runtime::seam`) allows that module only.
const ROOMS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("files", &[]),
    ("address", &[]),
    ("bans", &["limits", "address", "files"]),
    ("in_use", &[]),
    ("rules", &[]),
    ("mqtt", &["limits"]),
    ("runtime", &["limits", "files", "in_use"]),
    ("secure", &["limits", "runtime::seam"]),
    ("auth", &["limits", "secure", "mqtt", "runtime::seam"]),
    ("route", &["limits", "mqtt"]),
    ("session", &["limits", "mqtt", "secure", "auth", "runtime::seam"]),
    ("record", &["limits", "runtime::seam"]),
    ("rule", &["limits", "mqtt", "record"]),
    ("spool", &["limits", "record", "runtime::seam"]),
    ("outward", &["secure", "runtime::seam"]),
    ("bridge", &["limits", "secure", "mqtt", "rule", "outward", "runtime::seam"]),
    ("kafka", &["limits", "rules", "secure", "outward", "record", "runtime::seam"]),
    ("buffer", &["limits", "runtime::seam", "record", "kafka", "spool", "session"]),
    ("replica", &["record", "outward", "kafka", "spool", "runtime::seam"]),
    ("metrics", &["limits"]),
    ("telemetry", &["secure", "metrics"]),
    ("service", &["limits", "files", "address", "secure", "auth"]),
    ("dapr", &["limits", "in_use", "secure", "mqtt", "metrics", "service"]),
    ("embedded", &["limits", "files", "in_use", "record", "kafka", "spool", "metrics"]),
    ("control", &["limits", "address", "bans", "files", "in_use", "metrics", "telemetry", "rule::functions"]),
    ("listener", &["limits", "mqtt", "runtime::seam"]),
    (
        "config",
        &[
            "limits",
            "address",
            "secure",
            "auth",
            "mqtt",
            "rule",
            "bridge",
            "dapr",
            "route",
            "session",
            "record",
            "kafka",
            "spool",
            "service",
            "embedded",
            "runtime",
            "listener",
            "telemetry",
            "metrics::time",
        ],
    ),
    ("source", &["limits", "mqtt", "record", "rule", "kafka", "config", "runtime::seam"]),
    // Only compiled for tests.
    (
        "sim",
        &[
            "limits",
            "rules",
            "runtime::seam",
            "mqtt",
            "session",
            "record",
            "kafka",
            "spool",
            "buffer",
            "shard::dead_letters",
        ],
    ),
    (
        "shard",
        &[
            "limits", "address", "bans", "rules", "secure", "auth", "mqtt", "rule", "route", "session", "outward",
            "bridge", "dapr", "record", "kafka", "spool", "buffer", "replica", "metrics", "service", "config",
            "listener", "runtime", "source",
        ],
    ),
    (
        "data_dir",
        &["limits", "files", "in_use", "session", "record", "spool", "buffer", "metrics", "config", "runtime", "shard"],
    ),
    (
        "cli",
        &[
            "limits",
            "bans",
            "files",
            "rules",
            "secure",
            "auth",
            "mqtt",
            "rule",
            "route",
            "session",
            "record",
            "kafka",
            "metrics",
            "service",
            "config",
            "listener",
            "runtime",
            "shard",
            "outward",
            "bridge",
            "dapr",
            "embedded",
            "control",
            "spool",
            "buffer",
            "replica",
            "data_dir",
            "telemetry",
        ],
    ),
];

/// Files that stand in no room.
const DOOR: &[&str] = &["lib.rs", "main.rs"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of src").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The program text of a file: comments away, so that a document may name what it likes.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The room of a file below `src/`: the folder's name, or that of a file which stands alone.
fn room(path: &Path) -> String {
    let below = path.strip_prefix(source()).expect("below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Paths that follow `crate::`, up to two segments, groups taken apart.
fn named(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let end = rest.find([';', ')', '(', ' ', ',', '\n', '<', '>', '!']).unwrap_or(rest.len());
        let path = &rest[..end];
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find("};").unwrap_or(group.len())];
            found.extend(group.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()));
        } else {
            found.push(path.to_owned());
        }
    }
    found
}

fn allowed(rooms: &[&str], path: &str) -> bool {
    rooms.iter().any(|room| path == *room || path.starts_with(&format!("{room}::")))
}

fn violations(room: &str, code: &str) -> Vec<String> {
    let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{room} is not in the table of rooms")];
    };
    let crosses = |path: &&String| !path.starts_with(&format!("{room}::")) && path.as_str() != room;
    named(code).iter().filter(crosses).filter(|path| !allowed(may, path)).map(|path| format!("names {path}")).collect()
}

#[test]
fn rooms_name_only_rooms_before_them() {
    let mut all = Vec::new();
    files(&source(), &mut all);
    assert!(all.len() > 50, "this test looks at the wrong folder");
    let mut wrong = Vec::new();
    for path in all {
        let short = path.strip_prefix(source()).expect("below src").display().to_string();
        if !DOOR.contains(&short.as_str()) {
            wrong.extend(violations(&room(&path), &code(&path)).into_iter().map(|what| format!("{short} {what}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The parts of the producer that know nothing of the rest: what they may name of it beside themselves.
const PARTS: &[(&str, &[&str])] = &[("window", &["error"]), ("dispatch", &["error", "Key", "Settings"])];

/// What a part of the producer names by `super::` beyond its own folder, and by `crate::kafka::producer::`.
fn named_of_producer(code: &str, is_door: bool) -> Vec<String> {
    let up = if is_door { "use super::" } else { "use super::super::" };
    let mut found = Vec::new();
    for start in [up, "crate::kafka::producer::"] {
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
    let producer = source().join("kafka/producer");
    for (part, may) in PARTS {
        let mut all = Vec::new();
        files(&producer.join(part), &mut all);
        assert!(!all.is_empty(), "{part} is gone");
        for path in all.iter().filter(|path| !path.components().any(|folder| folder.as_os_str() == "tests")) {
            let code = code(path).replace("pub(in crate::kafka::producer)", "");
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
fn the_ring_and_unsafe_stay_in_the_cellar() {
    let mut all = Vec::new();
    files(&source(), &mut all);
    for path in all.iter().filter(|path| room(path) != "runtime") {
        let code = code(path);
        for word in ["glommio", "io_uring::", "unsafe {", "unsafe fn", "unsafe impl"] {
            assert!(!code.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn the_reader_of_this_test_sees_what_it_should() {
    assert_eq!(violations("mqtt", "use crate::kafka::types::Run;"), ["names kafka::types::Run"]);
    assert_eq!(violations("session", "use crate::runtime::ring::Ring;"), ["names runtime::ring::Ring"]);
    assert!(violations("session", "use crate::runtime::seam::{ConnId, Io};\nuse crate::session::x;").is_empty());
    assert_eq!(violations("kafka", "use crate::{session::Sessions, limits};").len(), 1);
    assert_eq!(violations("attic", "").len(), 1);
}

/// The body of a struct in a file of `src/`, and how many fields it has.
fn fields(file: &str, name: &str) -> usize {
    let text = fs::read_to_string(source().join(file)).expect("a file of src");
    let body = text.split_once(&format!("struct {name} {{\n")).expect("the struct").1;
    let body = body.split_once("\n}\n").expect("its end").0;
    body.lines().filter(|line| line.contains(": ") && !line.trim_start().starts_with("//")).count()
}

/// A shard is its broker (sessions, and what takes their messages) and what is around it (connections, timers). The broker knows nothing of
/// that, and neither grows into one struct that has everything.
#[test]
fn the_broker_does_not_reach_the_shard_around_it() {
    let mut found = Vec::new();
    files(&source().join("shard/broker"), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for path in found {
        let text = fs::read_to_string(&path).expect("a file of src");
        let names = text.split(|of: char| !of.is_alphanumeric() && of != '_').any(|word| word == "Core");
        assert!(!names, "{} names the shard's Core", path.display());
    }
    let (core, broker) = (fields("shard/mod.rs", "Core"), fields("shard/broker/mod.rs", "Broker"));
    assert!((3..=14).contains(&core) && (3..=12).contains(&broker), "{core} fields of Core, {broker} of Broker");
}
