//! Every scenario and every pattern over TLS, WebSocket and both, against mosquitto and against the service, at small sizes.

mod support;

use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::{service, start_service};

const BENCH: &str = env!("CARGO_BIN_EXE_forebay-bench");
const KINDS: [&str; 4] = ["tcp", "tls", "ws", "wss"];

/// A certificate for 127.0.0.1 that is its own authority: `server.pem`, `server.key`.
fn certificate(folder: &Path) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bench -keyout server.key -out server.pem \
                     -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    let done = Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output();
    let done = done.unwrap_or_else(|error| panic!("openssl: {error} (on Debian: apt-get install openssl)"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A broker with a listener of each kind.
struct Broker {
    child: Child,
    folder: tempfile::TempDir,
    /// In the order of [`KINDS`].
    addresses: Vec<String>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    fn mosquitto() -> Self {
        // A port that was free may be another's by the time that mosquitto binds it: it ends then.
        let mut started = (0..5).map(|_| Self::mosquitto_once());
        started.find_map(Result::ok).expect("mosquitto listens at one of five tries")
    }

    /// `Err`: it ended before it listened.
    fn mosquitto_once() -> Result<Self, ()> {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        // Held until all are known, so that they differ.
        let ports: Vec<_> = KINDS.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<String> = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let mut text = "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n".to_owned();
        for (kind, address) in KINDS.iter().zip(&addresses) {
            let port = address.rsplit_once(':').unwrap().1;
            let _ = writeln!(text, "listener {port} 127.0.0.1");
            if kind.starts_with("ws") {
                text += "protocol websockets\n";
            }
            if matches!(*kind, "tls" | "wss") {
                let folder = folder.path().display();
                let _ = writeln!(text, "certfile {folder}/server.pem\nkeyfile {folder}/server.key");
            }
        }
        // Started by root it would become another user, who may not read the key.
        text += "user root\n";
        let config = folder.path().join("mosquitto.conf");
        std::fs::write(&config, text).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("mosquitto")
            .env("PATH", path)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("mosquitto: {error} (on Debian: apt-get install mosquitto)"));
        let mut broker = Self { child, folder, addresses };
        let listens = |broker: &mut Self| broker.addresses.iter().all(|address| TcpStream::connect(address).is_ok());
        let has_ended = |broker: &mut Self| broker.child.try_wait().unwrap().is_some();
        broker.wait(|broker| listens(broker) || has_ended(broker));
        if has_ended(&mut broker) { Err(()) } else { Ok(broker) }
    }

    fn forebay() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        let mut text = format!(
            "[service]\nshards = 2\npin = false\ndata_dir = {:?}\n[control]\nbind = \"off\"\n[embedded]\nbind = \"127.0.0.1:0\"\n\
             [[sink]]\nname = \"all\"\nkafka = \"embedded\"\nfilters = \"#\"\ntopic = \"all\"\n",
            folder.path().join("data")
        );
        for kind in KINDS {
            let _ = writeln!(text, "[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = {kind:?}");
            if matches!(kind, "tls" | "wss") {
                let folder = folder.path().display();
                let _ = writeln!(
                    text,
                    "[listener.tls]\ncert_file = \"{folder}/server.pem\"\nkey_file = \"{folder}/server.key\""
                );
            }
        }
        let child = start_service(folder.path(), &text);
        let mut broker = Self { child, folder, addresses: Vec::new() };
        broker.wait(|broker| {
            assert_eq!(broker.child.try_wait().unwrap(), None, "it runs");
            let said = std::fs::read_to_string(broker.folder.path().join("forebay.log")).unwrap();
            let listening = said.lines().filter_map(|line| line.strip_prefix("mqtt listening on "));
            broker.addresses = listening.map(|rest| rest.split(' ').next().unwrap().to_owned()).collect();
            broker.addresses.len() == KINDS.len()
        });
        broker
    }

    fn wait(&mut self, mut is_there: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_there(self) {
            let log = std::fs::read_to_string(self.folder.path().join("forebay.log")).unwrap_or_default();
            assert!(Instant::now() < end, "it does not listen:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// What makes every client speak one kind, to the listener of it.
    fn only(&self, kind: &str) -> Vec<String> {
        let index = KINDS.iter().position(|of| *of == kind).unwrap();
        let mut arguments = vec!["--target".to_owned(), self.addresses[index].clone()];
        arguments.extend(self.transport(kind));
        arguments
    }

    fn transport(&self, kind: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        if matches!(kind, "tls" | "wss") {
            arguments.extend(["--tls".to_owned(), "--ca".to_owned(), self.file("server.pem")]);
        }
        if kind.starts_with("ws") {
            arguments.extend(["--websocket".to_owned(), "/mqtt".to_owned()]);
        }
        arguments
    }
}

/// Runs the generator to a good end; what it wrote as JSON.
fn passes(folder: &Path, arguments: &[String], what: &str) -> Value {
    let json = folder.join("result.json");
    let output = Command::new(BENCH).args(arguments).arg("--json").arg(&json).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {said}");
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

/// A scenario that comes with the generator, with a few clients for a moment.
fn small(path: &Path) -> String {
    let mut scenario: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    scenario.insert("duration".to_owned(), "400ms".into());
    scenario.remove("warmup");
    for group in scenario["group"].as_array_mut().unwrap() {
        let group = group.as_table_mut().unwrap();
        let clients = group.get("clients").and_then(toml::Value::as_integer).unwrap_or(1).min(10);
        group.insert("clients".to_owned(), clients.into());
        group.insert("rate".to_owned(), 200.into());
        ["ramp", "connect_rate", "messages", "think"].iter().for_each(|key| drop(group.remove(*key)));
    }
    scenario.to_string()
}

fn run(scenario: &Path, more: Vec<String>) -> Vec<String> {
    let first = ["run".to_owned(), scenario.display().to_string(), "--quiet".to_owned()];
    first.into_iter().chain(more).collect()
}

fn every_scenario(broker: &Broker) {
    let folder = tempfile::tempdir().unwrap();
    let scenarios = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap();
    let mut count = 0;
    for (index, path) in scenarios.map(|entry| entry.unwrap().path()).enumerate() {
        let file = folder.path().join("scenario.toml");
        std::fs::write(&file, small(&path)).unwrap();
        // Idle fleets and connection storms among them. Each over two of the three.
        for kind in [KINDS[1 + index % 3], KINDS[1 + (index + 1) % 3]] {
            let what = format!("{} over {kind}", path.display());
            let report = passes(folder.path(), &run(&file, broker.only(kind)), &what);
            let totals = &report["totals"];
            assert!(totals["connects"].as_u64().unwrap() > 0, "{what}: {totals}");
            assert_eq!(totals["received"], totals["expected"], "{what}");
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn every_scenario_runs_over_every_transport_against_mosquitto() {
    every_scenario(&Broker::mosquitto());
}

#[test]
fn every_scenario_runs_over_every_transport_against_forebay() {
    every_scenario(&Broker::forebay());
}

/// A fleet in which each group comes another way, and all of it reaches the subscribers, which come over two.
fn mixed(broker: &Broker) {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "name = 'mixed'\nduration = '30s'\n".to_owned();
    for (index, kind) in KINDS.iter().enumerate() {
        let _ = writeln!(
            text,
            "[[group]]\nname = 'publishers over {kind}'\ntransport = '{kind}'\nclients = {}\nqos = 1\nmessages = 100\n\
             topic = 'mixed/{kind}/{{client}}'",
            index + 2
        );
    }
    for kind in ["tls", "ws"] {
        let _ = writeln!(
            text,
            "[[group]]\nrole = 'subscribe'\nname = '{kind}'\ntransport = '{kind}'\nqos = 1\ntopic = 'mixed/#'"
        );
    }
    let file = folder.path().join("mixed.toml");
    std::fs::write(&file, text).unwrap();
    let mut more = vec!["--ca".to_owned(), broker.file("server.pem")];
    for (kind, address) in KINDS.iter().zip(&broker.addresses) {
        more.extend(["--listener".to_owned(), format!("{kind}={address}")]);
    }
    // Nothing listens there: clients that are not sent elsewhere fail.
    more.extend(["--target".to_owned(), "127.0.0.1:1".to_owned()]);
    let report = passes(folder.path(), &run(&file, more), "mixed");
    let totals = &report["totals"];
    assert_eq!((&totals["sent"], &totals["received"]), (&400.into(), &800.into()), "{totals}");

    let less = vec!["--target".to_owned(), broker.addresses[0].clone()];
    let output = Command::new(BENCH).args(run(&file, less)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--listener tcp=HOST:PORT"), "{said}");
}

#[test]
fn groups_of_a_scenario_have_transports_of_their_own() {
    mixed(&Broker::mosquitto());
    mixed(&Broker::forebay());
}

/// Patterns A to F, and those of subscribers, at a hundredth of their size; mosquitto that runs and a Forebay that is started.
#[test]
fn servers_are_compared_over_every_transport() {
    let broker = Broker::mosquitto();
    for (kind, patterns) in [("tls", "A,C,T4"), ("ws", "B,F,T5"), ("wss", "L,B,T2")] {
        let index = KINDS.iter().position(|of| *of == kind).unwrap();
        let mut arguments: Vec<String> =
            ["compare", "--rounds", "1", "--scale", "0.01", "--patterns", patterns].map(str::to_owned).into();
        arguments.extend(broker.transport(kind));
        arguments
            .extend(["--server".to_owned(), format!("mosquitto={}@{}", broker.addresses[index], broker.child.id())]);
        arguments.extend(["--forebay".to_owned(), service().display().to_string()]);
        if matches!(kind, "tls" | "wss") {
            arguments.extend(["--forebay-certificate".to_owned(), broker.file("server.pem")]);
            arguments.extend(["--forebay-key".to_owned(), broker.file("server.key")]);
        }
        let comparison = passes(broker.folder.path(), &arguments, kind);
        for pattern in comparison["patterns"].as_array().unwrap() {
            let targets = pattern["targets"].as_array().unwrap();
            let names: Vec<&str> = targets.iter().map(|target| target["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["floor", "mosquitto", "forebay"], "{kind}");
        }
    }
}

/// The two jobs that other scripts read.
#[test]
fn fixed_loads_run_over_tls_and_websocket() {
    let broker = Broker::mosquitto();
    let pid = broker.child.id().to_string();
    for (job, more) in [
        ("publish", &["--messages", "2000", "--connections", "10"][..]),
        ("idle", &["--connections", "20", "--seconds", "1"]),
    ] {
        let mut command = Command::new(BENCH);
        let output = command.arg(job).args(more).args(["--pid", &pid]).args(broker.only("wss")).output().unwrap();
        assert!(output.status.success(), "{job}: {}", String::from_utf8_lossy(&output.stderr));
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["job"], job);
    }
}
