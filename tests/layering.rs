//! The one rule of the house that a program holds: data flows one way through the rooms of `src/`, so a room may name
//! only rooms that stand before it in this table; glommio and io_uring are named in `runtime/` alone; `unsafe` likewise.
//! And what is fuzzed names only what the crate of the fuzz targets has.

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
    ("replica", &["record", "outward", "kafka", "rules", "spool", "runtime::seam"]),
    ("membership", &["kafka", "runtime::seam"]),
    ("metrics", &["limits"]),
    ("telemetry", &["secure", "metrics"]),
    ("service", &["limits", "files", "address", "secure", "auth"]),
    ("dapr", &["limits", "in_use", "secure", "mqtt", "metrics", "service"]),
    ("embedded", &["limits", "files", "in_use", "record", "kafka", "spool", "metrics"]),
    ("control", &["limits", "address", "bans", "files", "in_use", "metrics", "telemetry", "rule::functions"]),
    ("listener", &["limits", "mqtt", "runtime::seam"]),
    ("trunk", &["limits", "runtime::seam"]),
    ("link", &["limits", "secure", "auth", "membership", "listener::proxy", "runtime::seam"]),
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
            "limits",
            "address",
            "bans",
            "rules",
            "secure",
            "auth",
            "mqtt",
            "rule",
            "route",
            "session",
            "outward",
            "bridge",
            "dapr",
            "record",
            "kafka",
            "spool",
            "buffer",
            "replica",
            "membership",
            "metrics",
            "service",
            "config",
            "listener",
            "link",
            "trunk",
            "runtime",
            "source",
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
            "link",
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
            "membership",
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

fn pattern(text: &str) -> regex::Regex {
    regex::Regex::new(text).expect("a pattern")
}

/// The code of a file as it is built without its tests.
fn without_tests(path: &Path) -> String {
    let (mut kept, mut skips) = (Vec::new(), None);
    let code = code(path);
    for line in code.lines() {
        let (text, indent) = (line.trim(), line.len() - line.trim_start().len());
        if let Some(of) = skips {
            // An item ends with the line that closes it, or is one line.
            skips = skips.filter(|_| indent != of || !text.ends_with([';', '}']));
        } else if text.starts_with("#[cfg(test)]") {
            skips = Some(indent);
        } else {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// A file of `src/` that the crate of the fuzz targets includes.
struct Fuzzed {
    path: PathBuf,
    /// Its module there.
    module: String,
    /// `#[path]` names it.
    is_root: bool,
}

impl Fuzzed {
    /// The file and those of its modules.
    fn walk(self, found: &mut Vec<(Self, String)>) {
        let code = without_tests(&self.path);
        let is_folder = self.is_root || self.path.ends_with("mod.rs");
        let folder =
            if is_folder { self.path.parent().expect("a folder").to_owned() } else { self.path.with_extension("") };
        let mut inner = Vec::new();
        for one in pattern(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?mod (\w+);").captures_iter(&code) {
            let files = [format!("{}.rs", &one[1]), format!("{}/mod.rs", &one[1])].map(|file| folder.join(file));
            let path =
                files.into_iter().find(|file| file.is_file()).unwrap_or_else(|| panic!("no file of {}", &one[1]));
            inner.push(Self { path, module: format!("{}::{}", self.module, &one[1]), is_root: false });
        }
        found.push((self, code));
        inner.into_iter().for_each(|of| of.walk(found));
    }
}

/// What the crate of the fuzz targets has.
struct FuzzCrate {
    code: String,
    /// Names of crates, as code writes them: those of the program, and those of the fuzz targets.
    dependencies: [Vec<String>; 2],
}

impl FuzzCrate {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dependencies = ["Cargo.toml", "fuzz/Cargo.toml"].map(|file| {
            let text = fs::read_to_string(root.join(file)).expect("a manifest");
            let (_, rest) = text.split_once("\n[dependencies]\n").expect("dependencies");
            let names =
                rest.lines().take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
            names.map(|(name, _)| name.replace('-', "_")).collect()
        });
        Self { code: code(&root.join("fuzz/src/lib.rs")), dependencies }
    }

    /// The files of `src/` that it includes.
    fn files(&self) -> Vec<(Fuzzed, String)> {
        let mut found = Vec::new();
        for one in pattern(r#"#\[path = "\.\./\.\./src/([^"]+)"\]\s*(?:pub )?mod (\w+);"#).captures_iter(&self.code) {
            Fuzzed { path: source().join(&one[1]), module: one[2].to_owned(), is_root: true }.walk(&mut found);
        }
        found
    }

    /// Whether a path from its root leads to something. Where a module is in a file of its own, what follows is its own affair.
    fn has(&self, path: &[&str]) -> bool {
        let is_in = |text: &str, name: &str| pattern(&format!(r"\b{name}\b")).is_match(text);
        let Some((first, rest)) = path.split_first() else { return true };
        let inline = pattern(&format!(r"(?ms)^(?:pub )?mod {first} \{{\n(.*?)^\}}")).captures(&self.code);
        let Some(inline) = inline else { return is_in(&self.code, first) };
        for name in rest {
            if !is_in(&inline[1], name) {
                return false;
            }
            if inline[1].contains(&format!("pub use crate::{name};")) {
                break;
            }
        }
        true
    }

    /// What a file says that does not compile there.
    fn faults(&self, of: &Fuzzed, code: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let inside = pattern(r"pub\(in crate::([\w:]+)\)");
        for one in inside.captures_iter(code) {
            if !format!("{}::", of.module).starts_with(&format!("{}::", &one[1])) {
                faults.push(format!("{}: it is not in that module there", &one[0]));
            }
        }
        let code = inside.replace_all(code, "pub");
        let starts = if of.is_root { "crate|super" } else { "crate" };
        let named = pattern(&format!(r"(?:^|[^\w:$])(?:{starts})::([\w:]*)(\{{[^}}]*\}})?"));
        for one in named.captures_iter(&code) {
            let path: Vec<&str> = one[1].split("::").filter(|name| !name.is_empty()).collect();
            let group = one.get(2).map_or("", |group| group.as_str());
            let group: Vec<&str> =
                group.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty()).collect();
            let ends = if group.is_empty() { vec![None] } else { group.into_iter().map(Some).collect() };
            for end in ends {
                let whole: Vec<&str> = path.iter().copied().chain(end).collect();
                if !self.has(&whole) {
                    faults.push(format!("names crate::{}", whole.join("::")));
                }
            }
        }
        let [all, fuzzed] = &self.dependencies;
        for one in pattern(r"(?:^|[^\w:])(\w+)::").captures_iter(&code) {
            let is_it = |name: &String| **name == one[1];
            if all.iter().any(is_it) && !fuzzed.iter().any(is_it) {
                faults.push(format!("uses {}, which is no dependency", &one[1]));
            }
        }
        faults
    }
}

/// The fuzz targets are a crate of their own (`fuzz/`), which includes files of `src/` by their paths. What these name has to be there, too:
/// `scripts/test lint` compiles it, and this says so earlier.
#[test]
fn what_is_fuzzed_names_only_what_the_fuzz_targets_have() {
    let fuzz = FuzzCrate::read();
    let files = fuzz.files();
    assert!(files.len() > 100, "{} files: this test looks at the wrong ones", files.len());
    let mut wrong = Vec::new();
    for (of, code) in &files {
        let faults = fuzz.faults(of, code);
        wrong.extend(
            faults.into_iter().map(|what| format!("{} (module {} of fuzz/): {what}", of.path.display(), of.module)),
        );
    }
    assert!(wrong.is_empty(), "see fuzz/src/lib.rs and fuzz/Cargo.toml\n{}", wrong.join("\n"));
    let wire = Fuzzed { path: source().join("kafka/client/wire.rs"), module: "wire".to_owned(), is_root: true };
    let found = |code: &str| fuzz.faults(&wire, code).len();
    assert_eq!(found("pub(in crate::kafka) fn x() {}"), 1, "`wire` is at the root there");
    assert_eq!(found("use crate::kafka::client::Client;\nuse crate::session::Sessions;"), 2);
    assert_eq!(found("use crate::kafka::fetch::{Fetched, OffsetAsk};\nuse crate::runtime::seam::WallMs;"), 0);
    assert_eq!(found("use crate::runtime::seam::{WallMs, ConnId};\nlet a = slotmap::SlotMap::new();"), 2);
}
