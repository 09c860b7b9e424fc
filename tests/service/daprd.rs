//! A real `daprd` with Forebay as its pluggable component, and the same `daprd` with the binding that comes with it, side by side.
//!
//! `scripts/test daprd` builds it, which takes Go and some minutes; so these tests run only when they are asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay::mqtt::packet::{QoS, Version};
use serde_json::{Value, json};

use crate::dapr::{App, OPEN, component, free, lines};
use crate::dapr_sidecar::Component;
use crate::device::{Device, Heard};
use crate::mosquitto::Mosquitto;
use crate::process::until;
use crate::support::{cache, temp_dir};

/// A running `daprd`.
struct Daprd {
    child: Child,
    http: SocketAddr,
    log: PathBuf,
}

impl Daprd {
    /// Starts it with a document, an application and the sockets of pluggable components. `dir` is its own.
    fn start(dir: &Path, document: &str, app: SocketAddr, sockets: &Path) -> Self {
        let program = std::env::var_os("FOREBAY_DAPRD").map_or_else(|| cache().join("daprd/daprd"), PathBuf::from);
        assert!(program.exists(), "{} is missing: run scripts/test daprd", program.display());
        let resources = dir.join("resources");
        fs::create_dir_all(&resources).expect("a directory");
        fs::write(resources.join("mine.yaml"), document).expect("written");
        let (http, log) = (free(), dir.join("daprd.log"));
        let mut command = Command::new(program);
        command.args(["--app-id", "myapp", "--mode", "standalone", "--enable-metrics=false", "--app-protocol", "http"]);
        command.args(["--placement-host-address", "", "--scheduler-host-address", ""]);
        command.args(["--dapr-listen-addresses", "127.0.0.1", "--dapr-internal-grpc-listen-address", "127.0.0.1"]);
        command.arg("--resources-path").arg(resources);
        let ports = [("app", app), ("dapr-http", http), ("dapr-grpc", free()), ("dapr-internal-grpc", free())];
        for (name, addr) in ports {
            command.arg(format!("--{name}-port={}", addr.port()));
        }
        command.env("DAPR_COMPONENTS_SOCKETS_FOLDER", sockets);
        let out = fs::File::options().create(true).append(true).open(&log).expect("its log");
        let child = command.stderr(out.try_clone().expect("its log")).stdout(out).stdin(Stdio::null()).spawn();
        let daprd = Self { child: child.expect("it runs"), http, log };
        until("daprd to serve its API", || {
            let has_come = daprd.ask("GET", "/v1.0/healthz", "").is_ok_and(|(status, _)| status == 204);
            has_come || {
                assert!(!daprd.log().contains("level=fatal"), "{}", daprd.log());
                false
            }
        });
        daprd
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (at, length) = (self.http, body.len());
        let head = "Content-Type: application/json\r\nConnection: close";
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {at}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
    }

    #[track_caller]
    fn create(&self, body: &Value) -> (u16, String) {
        self.ask("POST", "/v1.0/bindings/mine", &body.to_string()).expect("an answer")
    }
}

impl Drop for Daprd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

fn app(dir: &Path, how: &[&str]) -> App {
    App::run("dapr_app.py", 0, dir.join("calls"), how)
}

/// Messages from the application and to it, refusals, and the end of each of the three: Forebay, daprd and the application.
#[test]
#[ignore = "it needs daprd: scripts/test daprd"]
fn g21_g22_a_real_daprd_has_forebay_as_its_component() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let mut there = Device::connect(remote.addr, Version::V5, "there");
    there.subscribe(&[("out/#", QoS::AtMostOnce)]);
    let mut device = Device::connect(remote.addr, Version::V311, "device");
    let mut component = Component::start("");
    let app = app(dir.path(), &["first"]);
    let metadata = "topic: \"in/#\"\nqos: 1\ncleanSession: \"false\"\nconsumerID: \"mine\"\nbackoffMaxRetries: 1";
    let document = self::component("bindings.mqtt", remote.addr, metadata);
    let daprd = Daprd::start(dir.path(), &document, app.addr, &component.sockets());
    component.listens("mine");
    let create = json!({ "operation": "create", "data": { "id": 7 }, "metadata": { "topic": "out/1" } });
    // 200, where Dapr's own binding has 204: so daprd answers for every pluggable component.
    assert_eq!(daprd.create(&create), (200, String::new()));
    assert_eq!(there.hear(), Heard::Message(0, 0, "out/1".to_owned(), b"{\"id\":7}".to_vec()));
    // The first call of each is refused: 5 s later there is another one.
    device.deliver(1, "in/1", b"1");
    until("it to be taken", || app.taken() == ["1"]);
    let call = &app.calls()[1];
    assert_eq!((&call["path"], &call["headers"]["topic"]), (&json!("/mine"), &json!("in/1")));
    let at: Vec<f64> = app.calls().iter().filter_map(|call| call["at"].as_f64()).collect();
    assert!(at.len() == 2 && at[1] - at[0] >= 5.0, "{at:?}");
    assert!(component.letters().is_empty());
    // daprd ends with a message on its way, and starts again: Init and Read again, and the message.
    device.deliver(2, "in/2", b"2");
    until("the first call", || app.calls().len() == 3);
    drop(daprd);
    let daprd = Daprd::start(dir.path(), &document, app.addr, &component.sockets());
    until("the other call", || app.taken() == ["1", "2"]);
    // Forebay ends: daprd does not call Init again, and says what it is told.
    component.service.kill9();
    component.service.start_again();
    let (status, body) = daprd.create(&create);
    assert!(status == 500 && body.contains("Init needed, restart daprd"), "{body}");
    assert_eq!(component.events("binding_init_missing").len(), 1);
    device.deliver(3, "in/3", b"3");
    drop(daprd);
    let daprd = Daprd::start(dir.path(), &document, app.addr, &component.sockets());
    // What was taken just before the kill may come again.
    until("what the remote has kept", || app.taken().last().is_some_and(|body| body == "3"));
    assert_eq!(daprd.create(&create), (200, String::new()));
    assert!(component.letters().is_empty());
    // What is wrong with a component is in daprd's log, and it does not start.
    drop(daprd);
    let wrong = temp_dir();
    let document = self::component("bindings.mqtt", remote.addr, "topic: a\nqos: 7\nconsumerID: mine");
    let started = std::panic::catch_unwind(|| Daprd::start(wrong.path(), &document, app.addr, &component.sockets()));
    assert!(started.is_err());
    let log = fs::read_to_string(wrong.path().join("daprd.log")).expect("its log");
    assert!(log.contains("mine: qos: its value is not 0, 1 or 2"), "{log}");
}

/// What a run with one of the two bindings has shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    /// Answers of daprd's API, by request.
    answers: Vec<(String, u16, String)>,
    /// Requests that the application saw.
    calls: Vec<(String, String, String, BTreeMap<String, String>)>,
    /// Packets that the remote has received from each client, without identifiers and keep-alive.
    packets: BTreeMap<String, Vec<String>>,
}

impl Shown {
    /// Takes acknowledgements out of the packets, and returns how many there were.
    fn take_acknowledgements(&mut self) -> usize {
        let all = self.packets.values_mut();
        let taken = all.map(|packets| {
            let before = packets.len();
            packets.retain(|packet| packet != "PUBACK");
            before - packets.len()
        });
        taken.sum()
    }
}

/// Requests of the API: a binding, and the body of a POST.
const REQUESTS: [(&str, &str); 10] = [
    ("mine", r#"{"operation":"create","data":{"b":1,"a":[1.5,null,"<&>"]},"metadata":{"topic":"out/1"}}"#),
    ("mine", r#"{"operation":"create","data":"plain text","metadata":{"topic":"out/2"}}"#),
    ("mine", r#"{"operation":"create","data":42,"metadata":{"topic":"out/3","other":"x"}}"#),
    ("mine", r#"{"operation":"create","metadata":{"topic":"out/4"}}"#),
    ("mine", r#"{"operation":"create","data":100}"#),
    ("mine", r#"{"operation":"get","data":1}"#),
    ("mine", r#"{"data":1}"#),
    ("other", r#"{"operation":"create","data":1}"#),
    ("mine", r#"{"#),
    ("mine", r#"{"operation":"create","data":1,"metadata":{"topic":1}}"#),
];

fn shown(document: impl Fn(SocketAddr) -> String, component: Option<&Component>) -> Shown {
    let dir = temp_dir();
    let log = dir.path().join("mosquitto.log");
    let remote = Mosquitto::start(dir.path(), &format!("{OPEN}\nlog_type all\nlog_dest file {}", log.display()));
    let empty = dir.path().join("sockets");
    fs::create_dir_all(&empty).expect("a directory");
    let app = app(dir.path(), &["third"]);
    let sockets = component.map_or(empty, Component::sockets);
    let daprd = Daprd::start(dir.path(), &document(remote.addr), app.addr, &sockets);
    let packets = || fs::read_to_string(&log).unwrap_or_default();
    until("the remote to be asked for messages", || packets().contains("Sending SUBACK to myapp"));
    let mut shown = Shown::default();
    for (name, body) in REQUESTS {
        let (status, answer) = daprd.ask("POST", &format!("/v1.0/bindings/{name}"), body).expect("an answer");
        shown.answers.push((format!("{name} {body}"), status, answer));
    }
    until("the application's own message", || app.calls().len() == 1);
    let mut device = Device::connect(remote.addr, Version::V311, "device");
    for n in 1..=7_u16 {
        device.deliver(n, "in", n.to_string().as_bytes());
        until("the application to be called", || app.calls().len() == usize::from(n) + 1);
    }
    let acknowledged = if component.is_some() { 8 } else { 6 };
    until("the last one to be acknowledged", || {
        packets().matches("Received PUBACK from myapp").count() >= acknowledged
    });
    for call in lines(&app.file) {
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let headers = call["headers"].as_object().into_iter().flatten();
        // What differs from call to call, and what HTTP itself has.
        let is_stable =
            |name: &str| !["traceparent", "host", "user-agent", "content-length", "accept-encoding"].contains(&name);
        let headers = headers.filter(|(name, _)| is_stable(name)).map(|(name, value)| (name.clone(), text(value)));
        shown.calls.push((text(&call["method"]), text(&call["path"]), text(&call["body"]), headers.collect()));
    }
    drop(daprd);
    shown.packets = received(&packets());
    shown
}

/// The packets that clients of daprd have sent, from the log of mosquitto.
fn received(log: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = None;
    for line in log.lines() {
        let said = line.split_once(": ").map_or(line, |(_, said)| said);
        let connected = said.strip_prefix("New client connected from ").and_then(|rest| rest.split_once(" as "));
        let packet = said.strip_prefix("Received ").and_then(|rest| rest.split_once(" from "));
        let (name, rest) = match (connected, packet, said.strip_prefix('\t')) {
            (Some((_, rest)), ..) => ("CONNECT", rest),
            (_, Some((name, rest)), _) => (name, rest),
            (.., Some(filter)) => {
                let to = last.as_ref().and_then(|client| all.get_mut(client));
                to.into_iter().for_each(|packets| packets.push(filter.to_owned()));
                continue;
            }
            _ => continue,
        };
        let (client, rest) = rest.split_once(" (").unwrap_or((rest, ""));
        last = Some(client.to_owned()).filter(|client| client.starts_with("myapp"));
        if last.is_none() || name == "PINGREQ" {
            continue;
        }
        let is_number = |part: &&str| {
            let digits = part.trim_end_matches([')', '.']).trim_start_matches(['m', 'k']);
            part.starts_with(['m', 'k']) && digits.parse::<u16>().is_ok()
        };
        let parts = if name == "PUBACK" { "" } else { rest }.split(", ").filter(|part| !is_number(part));
        let parts = parts.collect::<Vec<_>>().join(", ");
        all.entry(client.to_owned()).or_default().push(format!("{name} {parts}").trim_end().to_owned());
    }
    all
}

/// The same document, application and remote, under the binding that comes with daprd and under Forebay: what differs is what DAPR.md says.
#[test]
#[ignore = "it needs daprd: scripts/test daprd"]
fn forebay_differs_from_daprs_own_binding_where_it_says_so() {
    let document = |remote| {
        let metadata = "topic: in\nconsumerID: \"myapp\"\nbackOffMaxRetries: 0\ncleanSession: \"true\"";
        self::component("bindings.mqtt3", remote, metadata)
    };
    let mut theirs = shown(document, None);
    let component = Component::start("");
    let mut ours = shown(document, Some(&component));
    // daprd answers 200 for every pluggable component.
    theirs.answers.iter_mut().filter(|(_, status, _)| *status == 204).for_each(|(_, status, _)| *status = 200);
    assert_eq!(ours.answers, theirs.answers);
    assert_eq!(ours.calls, theirs.calls);
    // Of eight messages the application has refused two: only Forebay acknowledges them, as they are dead letters.
    assert_eq!((ours.take_acknowledgements(), theirs.take_acknowledgements()), (8, 6));
    assert_eq!(component.letters().len(), 2);
    assert_eq!(ours.packets, theirs.packets);
    let packets: Vec<_> = ours.packets.iter().map(|(client, packets)| (&**client, packets.len())).collect();
    assert_eq!(packets, [("myapp-consumer", 3), ("myapp-producer", 6)], "{:?}", ours.packets);
}
