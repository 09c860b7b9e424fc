//! Rules of the house that the compiler does not hold. The order of crates is in their `Cargo.toml`; here is what a crate may name of another one beyond
//! that, the order of modules that share a crate, and parts of a module that know nothing of each other.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates of which only a part may be named, that part, and the crates that may name the rest as well.
const NARROW: &[(&str, &str, &[&str])] = &[
    ("runtime", "seam", &["config", "shard"]),
    ("listener", "proxy", &["config", "shard"]),
    ("metrics", "time", OF_METRICS),
    ("rule", "functions", &["bridge", "config", "source", "broker", "shard", "import"]),
];

/// The crates that count and tell. The configuration only writes times as they do.
const OF_METRICS: &[&str] = &["service", "dapr", "embedded", "control", "broker", "shard"];

/// A module that shares its crate with others.
struct Shared {
    of: &'static str,
    module: &'static str,
    /// The modules of its crate that it may name.
    names: &'static [&'static str],
    /// The other crates that may name it; empty: all.
    by: &'static [&'static str],
}

const fn shared(
    of: &'static str,
    module: &'static str,
    names: &'static [&'static str],
    by: &'static [&'static str],
) -> Shared {
    Shared { of, module, names, by }
}

const SHARED: &[Shared] = &[
    shared("base", "limits", &[], &[]),
    shared("base", "files", &[], &["guard", "runtime", "service", "embedded", "control", "commands"]),
    shared("base", "shown", &[], &["import", "commands"]),
    shared("base", "address", &[], &["guard", "service", "control", "config", "shard"]),
    shared("base", "in_use", &[], &["runtime", "dapr", "embedded", "control"]),
    shared("base", "rules", &[], &["kafka", "fleet", "broker", "shard"]),
    shared("mqtt", "route", &[], &["config", "broker", "shard", "import"]),
    shared("guard", "bans", &[], &["control", "shard"]),
    shared("guard", "secure", &[], &[]),
    shared("guard", "auth", &["secure"], &["session", "service", "fleet", "config", "broker", "shard", "commands"]),
    shared("guard", "edge", &["auth", "secure"], &["broker", "shard"]),
    shared("guard", "outward", &["secure"], &["bridge", "kafka", "fleet", "shard"]),
    shared("fleet", "replica", &[], &["shard"]),
    shared("fleet", "membership", &[], &["shard"]),
    shared("fleet", "trunk", &[], &["shard"]),
    shared("fleet", "link", &["membership"], &["shard"]),
    shared("service", "service", &[], &["dapr", "config", "shard"]),
    shared("service", "telemetry", &[], &["control", "config"]),
];

/// Modules of the program's own crate, each with what it may name of the library.
const OWN: &[(&str, &[&str])] = &[
    (
        "data_dir",
        &[
            "limits", "files", "in_use", "session", "record", "spool", "buffer", "metrics", "config", "runtime",
            "broker", "shard",
        ],
    ),
    ("sim", &["limits", "rules", "runtime", "mqtt", "session", "record", "kafka", "spool", "buffer", "shard"]),
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
            "link",
            "runtime",
            "broker",
            "edge",
            "shard",
            "outward",
            "bridge",
            "dapr",
            "embedded",
            "control",
            "spool",
            "buffer",
            "replica",
            "membership",
            "data_dir",
            "telemetry",
        ],
    ),
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
        // Part of a longer path, or of a text.
        let is_longer = code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:\"".contains(before));
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

/// The module of a file: its folder below `src/`, or its own name if it stands alone.
fn module(path: &Path, source: &Path) -> String {
    let below = path.strip_prefix(source).expect("below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// What a file of a module names of the modules that share its crate, and may not.
fn out_of_order(of: &str, own: &str, code: &str) -> Vec<String> {
    let may = SHARED.iter().find(|row| (row.of, row.module) == (of, own)).map_or(&[][..], |row| row.names);
    let is_module = |name: &String| SHARED.iter().any(|row| row.of == of && row.module == name);
    named(code, "crate::")
        .into_iter()
        .filter(|name| name != own && is_module(name) && !may.contains(&&**name))
        .collect()
}

/// What a crate names of modules that are not for it.
fn not_for(by: &str, code: &str) -> Vec<String> {
    let others = SHARED.iter().filter(|row| row.of != by && !row.by.is_empty() && !row.by.contains(&by));
    let names = |row: &&Shared| named(code, &format!("forebay_{}::", row.of)).iter().any(|name| name == row.module);
    others.filter(names).map(|row| format!("forebay_{}::{}", row.of, row.module)).collect()
}

#[test]
fn modules_that_share_a_crate_are_named_in_order_and_by_those_they_are_for() {
    for (of, files) in all() {
        let source = crates().join(&of).join("src");
        for path in files {
            let (own, code) = (module(&path, &source), code(&path));
            let wrong = if own == "lib" { Vec::new() } else { out_of_order(&of, &own, &code) };
            let wrong = [wrong, not_for(&of, &code)].concat();
            assert!(wrong.is_empty(), "{} names {}", path.display(), wrong.join(", "));
        }
    }
    for row in SHARED {
        let path = crates().join(row.of).join("src").join(row.module);
        assert!(path.is_dir() || path.with_extension("rs").is_file(), "{} of {} is gone", row.module, row.of);
    }
    assert_eq!(out_of_order("guard", "secure", "use crate::auth::Policy;"), ["auth"]);
    assert_eq!(out_of_order("mqtt", "decode", "use crate::{frame, route::Slot};"), ["route"]);
    assert!(out_of_order("guard", "auth", "use crate::secure::Secret;").is_empty());
    assert_eq!(not_for("kafka", "use forebay_guard::auth::Policy;"), ["forebay_guard::auth"]);
    assert!(not_for("kafka", "use forebay_guard::{outward, secure};").is_empty());
}

#[test]
fn modules_of_the_program_name_what_they_may() {
    let source = crates().join("../src");
    for (own, may) in OWN {
        let mut found = Vec::new();
        files(&source.join(own), &mut found);
        assert!(!found.is_empty(), "{own} is gone");
        for path in found {
            let code = code(&path);
            let is_wrong = |name: &String| name != own && !may.contains(&&**name);
            let wrong: Vec<_> = named(&code, "crate::").into_iter().filter(is_wrong).collect();
            assert!(wrong.is_empty(), "{} names {}", path.display(), wrong.join(", "));
            let of_shard = named(&code, "crate::shard::");
            let narrow = *own != "sim" || of_shard.iter().all(|name| name == "dead_letters");
            assert!(narrow, "{} names {of_shard:?} of the shard", path.display());
        }
    }
}

/// A filter of `FOREBAY_LOG` names modules as this library does; `log.rs` has to know which of them share a crate.
#[test]
fn filters_of_logs_know_the_modules_that_share_a_crate() {
    let library = fs::read_to_string(crates().join("../src/lib.rs")).expect("the program's library");
    let log = fs::read_to_string(crates().join("service/src/service/log.rs")).expect("the room of logs");
    let mut found = 0;
    for (of, name) in
        library.lines().filter_map(|line| line.strip_prefix("pub use forebay_")?.strip_suffix(';')?.split_once("::"))
    {
        let row = log.lines().find(|line| line.trim_start().starts_with(&format!("(\"{of}\"")));
        assert!(row.is_some_and(|row| row.contains(&format!("\"{name}\""))), "log.rs does not have {name} of {of}");
        found += 1;
    }
    assert!(found > 10, "{found}");
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

/// Modules of the shard that its rooms have in common, each with what it may name of that crate: no room.
const COMMON: &[(&str, &[&str])] =
    &[("words", &[]), ("mail", &["words", "kafka_disk"]), ("ring", &["words", "mail"]), ("kafka_disk", &[])];

/// What a file of such a module names of the shard beyond its own module.
fn named_of_shard(own: &str, code: &str, is_alone: bool) -> Vec<String> {
    let up = if is_alone { "super::" } else { "super::super::" };
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    [named(code, "crate::"), named(code, up)].concat().into_iter().filter(|name| name != own).collect()
}

#[test]
fn what_rooms_of_the_shard_have_in_common_names_no_room() {
    let shard = crates().join("shard/src");
    for (own, may) in COMMON {
        let alone = shard.join(own).with_extension("rs");
        let mut all = Vec::new();
        if alone.is_file() {
            all.push(alone.clone())
        } else {
            files(&shard.join(own), &mut all)
        }
        assert!(!all.is_empty(), "{own} is gone");
        for path in all {
            for name in named_of_shard(own, &code(&path), path == alone) {
                assert!(may.contains(&name.as_str()), "{} names {name}", path.display());
            }
        }
    }
    assert_eq!(named_of_shard("ring", "use super::bridges::Bridges;", true), ["bridges"]);
    assert_eq!(named_of_shard("words", "use super::Stall;\nuse crate::mail::{Mail, Notice};", false), ["mail"]);
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

/// Names of the Kafka client that the broker may use: plain data. It asks nothing of Kafka.
const OF_KAFKA: &[&str] =
    &["types", "consumer::{Place, Start}", "consumer::Start", "producer::Full", "producer::row_log::Origin"];

/// A shard is its broker, a crate of its own (sessions, and what takes their messages), and what is around it (connections, timers, sources, bridges, the way to
/// Kafka). Neither grows into one struct that has everything.
#[test]
fn the_broker_asks_nothing_of_kafka_and_the_runtime() {
    let mut found = Vec::new();
    files(&crates().join("broker/src"), &mut found);
    assert!(found.len() > 20, "{found:?}");
    let is_plain = |name: &str| OF_KAFKA.iter().any(|of| name.starts_with(of));
    for path in found {
        for (at, start) in code(&path).match_indices("forebay_kafka::") {
            let text = code(&path);
            let name = &text[at + start.len()..];
            assert!(is_plain(name), "{} names {}", path.display(), name.lines().next().unwrap_or_default());
        }
        for name in ["Io", "Shard", "Listener", "Segments"] {
            let is_named = code(&path).split(|of: char| !of.is_alphanumeric() && of != '_').any(|word| word == name);
            assert!(!is_named, "{} names {name} of the runtime", path.display());
        }
    }
    assert!(is_plain("types::Ticket;") && !is_plain("client::Client;"));
    let (core, broker) = (fields("shard/src/lib.rs", "Core"), fields("broker/src/lib.rs", "Broker"));
    assert!((3..=14).contains(&core) && (3..=8).contains(&broker), "{core} fields of Core, {broker} of Broker");
}
