//! The commands of the documents, run against the built program: one service with an embedded log, whose
//! addresses take the places of the documents'.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::support::service::{self, Service};
use super::support::{temp_dir, tool};
use super::{for_operators, quoted, read, root};

/// Commands that are not run here, by how they begin, and why. One that no document has fails the test.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo ", "compiles; scripts/test builds and starts the program itself"),
    ("scripts/test", "is what runs this test"),
    ("scripts/kafka ", "a real Kafka: tests/python and the integration tests start one with this script"),
    ("scripts/package ", "tests/deploy/test_deploy.py builds and unpacks the package"),
    ("sudo dpkg ", "needs root; tests/deploy/test_deploy.py unpacks the package into an empty root"),
    ("systemctl ", "needs systemd as process 1; tests/deploy/test_deploy.py verifies the unit and speaks its protocol"),
    (
        "docker ",
        "needs a container daemon; tests/deploy/test_deploy.py runs the service under the same seccomp profile",
    ),
    ("helm ", "needs a cluster; tests/deploy/test_deploy.py checks the chart"),
    ("kafka-configs.sh ", "needs Kafka's Java tools; tests/python/java_tools.py runs it"),
    ("kill -9 $(pidof forebay)", "would end other services of this machine; tests/service/crash.rs kills its own"),
    ("kcat -b 127.0.0.1:19092 ", "reads the real Kafka of the tour"),
    ("seq 1 1000 | mosquitto_pub -h 127.0.0.1 -q 2 -t spooled -l", "is a part of the tour with a real Kafka"),
    ("mosquitto_pub -h 127.0.0.1 -q 1 -t plant/7/temp -m \"sent while", "is a part of the tour with a real Kafka"),
    ("sleep 3", "is a part of the tour with a real Kafka"),
    ("mosquitto_pub -h localhost -p 8883 ", "needs the certificates of the page; tests/service/tls.rs runs the page"),
    ("forebay passwd ", "asks for passwords; tests/service/auth.rs runs the page"),
    ("mosquitto_pub -h mqtt.example.org ", "needs the files of the page; tests/service/auth.rs follows it"),
    ("forebay access ", "needs the files of the page; tests/service/auth.rs runs the page"),
    ("wait", "is a part of the tour with a real Kafka"),
    ("target/release/forebay sinks", "is a part of the tour; the same command runs here without its path"),
    ("target/release/forebay spool inspect", "needs a stopped service; tests/service/spool_start.rs runs it"),
];

/// The lines of a document that are commands: blocks without a language or marked `sh`, and lines behind `$`.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut inside, mut shell) = (false, false);
    let mut begun = String::new();
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside;
            shell = inside && ["", "sh"].contains(&language);
            continue;
        }
        let prompt = line.strip_prefix("    $ ").or_else(|| line.strip_prefix("    curl ").map(|_| &line[4..]));
        // A command goes on behind a backslash, without another prompt.
        let goes_on = Some(line).filter(|_| shell || !begun.is_empty());
        let Some(line) = goes_on.or(prompt.filter(|_| !inside)) else { continue };
        if let Some(first) = line.trim_end().strip_suffix('\\') {
            begun.push_str(first);
            continue;
        }
        let line = std::mem::take(&mut begun) + line.trim();
        // A block may show output or files: a command begins with a program.
        let program = line.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
        if PROGRAMS.iter().any(|known| program == *known || program.ends_with(&format!("/{known}")))
            || program.starts_with("scripts/")
        {
            found.push(line);
        }
    }
    found
}

const PROGRAMS: &[&str] = &[
    "forebay",
    "cargo",
    "mosquitto_pub",
    "kcat",
    "curl",
    "seq",
    "jq",
    "docker",
    "helm",
    "systemctl",
    "sudo",
    "kill",
    "sleep",
    "wait",
    "echo",
    "kafka-configs.sh",
    "python",
];

/// Where the commands run: a folder of programs in front of the path, and the service's addresses.
struct Place<'a> {
    service: &'a Service,
    dir: &'a Path,
}

impl Place<'_> {
    fn new<'a>(service: &'a Service, dir: &'a Path) -> Place<'a> {
        let bin = dir.join("bin");
        fs::create_dir(&bin).expect("a folder");
        let wrapper = |name: &str, text: String| {
            let path = bin.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a program");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        };
        let publish = tool("mosquitto_pub").get_program().to_string_lossy().into_owned();
        wrapper("mosquitto_pub", format!("exec {publish} -p {} \"$@\"", service.mqtt().port()));
        wrapper("forebay", format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_forebay")));
        for name in ["kcat", "curl", "jq"] {
            let _installed = tool(name);
        }
        Place { service, dir }
    }

    /// The command with this service's addresses and files; what it prints. It must succeed.
    fn run(&self, command: &str) -> String {
        let config = self.dir.join("asked.toml").display().to_string();
        let command = command
            .replace("127.0.0.1:8080", &self.service.control().to_string())
            .replace("127.0.0.1:9092", &self.service.embedded().to_string())
            .replace("/etc/forebay/forebay.toml", &config)
            .replace("forebay-data/control-token", &self.service.token_file().display().to_string())
            .replace("/etc/bash_completion.d", &self.dir.display().to_string())
            .replace("target/release/forebay", "forebay")
            .replace(".cache/venv/bin/python tests", &format!("python3 {}/tests", root().display()))
            .replace("--scrapes 1000", "--scrapes 5")
            .replace("FILE", &config);
        // A stream has no end of its own.
        let stream = if command.contains("events/stream") { "timeout 2 " } else { "" };
        let path = format!("{}:{}", self.dir.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let output = Command::new("timeout")
            .args(["60", "bash", "-o", "pipefail", "-c", &format!("{stream}{command}")])
            .current_dir(self.dir)
            .env("PATH", path)
            .env("FOREBAY_CONFIG", &config)
            .output()
            .expect("bash");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ended = output.status.success() || !stream.is_empty() && output.status.code() == Some(124);
        assert!(ended, "{command}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        text
    }
}

/// The JSON that a document shows below a command.
fn shown(text: &str, command: &str) -> Option<serde_json::Value> {
    let joined = text.replace("\\\n        ", "");
    let after = joined.split_once(&format!("    $ {command}\n"))?.1;
    let lines: Vec<&str> =
        after.lines().take_while(|line| line.starts_with("    ") && !line.starts_with("    $")).collect();
    serde_json::from_str(&lines.join("\n")).ok()
}

/// Every member that the documented JSON has is in the answer, with a value of the same kind.
fn same_members(shown: &serde_json::Value, got: &serde_json::Value, at: &str) {
    use serde_json::Value;
    match (shown, got) {
        (Value::Object(shown), Value::Object(got)) => {
            let extra: Vec<_> = got.keys().filter(|key| !shown.contains_key(*key)).collect();
            assert!(shown.is_empty() || extra.is_empty(), "{at}: the document does not show {extra:?}");
            for (key, value) in shown {
                same_members(
                    value,
                    got.get(key).unwrap_or_else(|| panic!("{at}: no {key} in {got:?}")),
                    &format!("{at}.{key}"),
                );
            }
        }
        (Value::Array(shown), Value::Array(got)) => {
            if let (Some(shown), Some(got)) = (shown.first(), got.first()) {
                assert_eq!(std::mem::discriminant(shown), std::mem::discriminant(got), "{at}");
            }
        }
        _ => assert!(
            shown.is_null() || got.is_null() || std::mem::discriminant(shown) == std::mem::discriminant(got),
            "{at}"
        ),
    }
}

#[test]
fn commands_of_the_documents_work() {
    let source = "[[source]]\nname = \"commands\"\ntopic = \"commands\"\nmqtt_topic = \"devices/${key}/commands\"\n";
    // Nobody is there.
    let bridge = "[bridge.plant]\nurl = \"mqtt://127.0.0.1:9\"\n[[bridge.plant.in]]\nfilters = [\"plant/#\"]\n";
    let service = Service::start(&service::config(&format!("{source}{bridge}")));
    let dir = temp_dir();
    let place = Place::new(&service, dir.path());
    // What a command asks for: the same service, by its addresses.
    let (mqtt, control, log) = (service.mqtt(), service.control(), service.embedded());
    let asked = format!(
        "[service]\nshards = 1\npin = false\ndata_dir = \"{}/data\"\n[control]\nbind = \"{control}\"\n[[listener]]\nbind = \"{mqtt}\"\n\
         [embedded]\nbind = \"{log}\"\n",
        service.dir().display()
    );
    let rule = "[[rule]]\nname = \"hot\"\nsql = 'SELECT payload.room AS room, payload.temp AS temp FROM \"t/#\" WHERE temp > 30'\n\
        sinks = [\"alarms\"]\n[[sink]]\nname = \"alarms\"\ntopic = \"room-${room}\"\n";
    fs::write(dir.path().join("rules.toml"), format!("{asked}{rule}")).expect("a configuration");
    fs::write(dir.path().join("asked.toml"), asked).expect("a configuration");
    // What some of them read is there: dead letters, as their own page shows them, a topic, and clients that are away.
    let letters = read("docs/DEAD_LETTERS.md");
    let letter = letters.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the example");
    fs::write(dir.path().join("telemetry-dead.jsonl"), letter.replace("\n ", "")).expect("a file");
    let [export, ..] = import();
    fs::write(dir.path().join("emqx.json"), export).expect("a file");
    place.run("echo '7:x' | kcat -b 127.0.0.1:9092 -P -K : -t telemetry-dead");
    place.run("echo 'dev-7:on' | kcat -b 127.0.0.1:9092 -P -K : -t commands");
    while service.metric("forebay_source_assigned_partitions") != Some(4.0) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for (name, filter) in [("meter-7", "plant/#"), ("worker-1", "$share/workers/plant/#")] {
        let port = mqtt.port();
        place.run(&format!("mosquitto_sub -p {port} -V mqttv5 -E -c -x 3600 -i {name} -q 1 -t '{filter}'"));
    }

    let mut reasons: Vec<&str> = Vec::new();
    let mut ran = 0;
    for (path, text) in for_operators() {
        let inline = quoted(&text).map(|(_, quoted)| quoted.to_owned());
        let inline = inline.filter(|quoted| quoted.starts_with("curl ") || quoted.starts_with("mosquitto_pub "));
        for command in commands(&text).into_iter().chain(inline) {
            if let Some((begin, _)) = NOT_RUN.iter().find(|(begin, _)| command.starts_with(begin)) {
                reasons.push(begin);
                continue;
            }
            let said = place.run(&command);
            ran += 1;
            let silent = ["mosquitto_pub", ">", "-P", "/stream", "PUT"].iter().any(|part| command.contains(part));
            assert!(silent || !said.trim().is_empty(), "{path}: {command} prints nothing");
            if let Some(shown) = shown(&text, &command) {
                let got = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{command}: {error}\n{said}"));
                same_members(&shown, &got, &command);
            }
        }
    }
    assert!(ran > 20, "commands were not found: {ran}");
    let idle: Vec<_> = NOT_RUN.iter().filter(|(begin, _)| !reasons.contains(begin)).collect();
    assert!(idle.is_empty(), "no document has these any more: {idle:?}");
}

/// What `MIGRATING.md` shows of an import: the input, the configuration, the notes.
fn import() -> [String; 3] {
    let document = read("docs/MIGRATING.md");
    let (_, section) = document.split_once("### Taking over EMQX's settings").expect("the section");
    ["json", "toml", "text"].map(|language| {
        let block = section.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
        block.unwrap_or_else(|| panic!("no block of {language}")).to_owned()
    })
}

#[test]
fn an_import_makes_what_the_document_shows() {
    let [export, configuration, notes] = import();
    let dir = temp_dir();
    let file = dir.path().join("emqx.json");
    fs::write(&file, export).expect("a file");
    let output = service::program().args(["import", "emqx"]).arg(&file).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    assert_eq!((output.status.code(), text(output.stdout), text(output.stderr)), (Some(0), configuration, notes));
}

/// A mistake that `CONFIGURATION.md` shows is reported in these words.
#[test]
fn mistakes_are_reported_as_the_documents_show_them() {
    let document = read("docs/CONFIGURATION.md");
    let shown = document.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the example");
    let config = "[kafka.main]\nbootstrap = \"k:1\"\n[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\nacknowlege = \"stored\"\nlinger = 2\n";
    let said = forebay::config::parse(config, "forebay.toml").expect_err("two mistakes").to_string();
    for line in shown.lines() {
        let words = line.splitn(4, ':').nth(3).expect("a place before the words").trim();
        assert!(said.contains(words), "{words}\n{said}");
    }
}
