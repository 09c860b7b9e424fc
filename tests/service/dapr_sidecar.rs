//! Forebay as the pluggable component of a sidecar of Dapr: a client in Python that acts as daprd does, and mosquitto as the remote. `daprd` is
//! there in [`crate::daprd`].

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use forebay::mqtt::packet::{QoS, Version};
use serde_json::{Value, json};

use crate::change::get;
use crate::dapr::{OPEN, lines};
use crate::device::{Device, Heard};
use crate::mosquitto::Mosquitto;
use crate::process::until;
use crate::support::service::{Service, config_with};
use crate::support::{plain_python, temp_dir};

/// A service with sockets of components.
pub(crate) struct Component {
    pub(crate) service: Service,
}

impl Component {
    pub(crate) fn start(keys: &str) -> Self {
        let section = format!("[dapr]\nsockets = \"$DIR/sockets\"\n{keys}");
        Self { service: Service::start(&config_with("shards = 2", &section)) }
    }

    pub(crate) fn sockets(&self) -> PathBuf {
        self.service.dir().join("sockets")
    }

    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let page = get(&self.service, "events?limit=1000");
        page["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == kind).cloned().collect()
    }

    pub(crate) fn letters(&self) -> Vec<Value> {
        lines(&self.service.dir().join("data/binding-dead-letters.jsonl"))
    }

    fn bridge(&self, name: &str) -> Value {
        get(&self.service, &format!("bridges/{name}"))
    }

    pub(crate) fn listens(&self, name: &str) {
        until("the remote to grant the filter", || self.bridge(name)["in"][0]["filters"][0]["state"] == "granted");
    }
}

/// What acts as daprd does.
struct Sidecar {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Sidecar {
    fn start(sockets: &Path) -> Self {
        let mut command = plain_python("dapr_sidecar.py");
        let child = command.arg(sockets).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("it runs");
        let (asks, says) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, asks, says: BufReader::new(says) }
    }

    #[track_caller]
    fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.asks, "{command}").expect("it reads");
        let mut said = String::new();
        self.says.read_line(&mut said).expect("it answers");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{command}: {error}: {said}"))
    }

    #[track_caller]
    fn done(&mut self, command: &Value) {
        assert_eq!(self.ask(command), "done", "{command}");
    }

    /// Init for both ways, as daprd calls it.
    #[track_caller]
    fn init(&mut self, socket: &str, properties: &Value) {
        for service in ["InputBinding", "OutputBinding"] {
            self.done(&json!(["init", socket, service, "mine", properties]));
        }
    }

    #[track_caller]
    fn read(&mut self, file: &Path, refuse: &str) {
        self.done(&json!(["read", "mqtt.sock", "mine", file, refuse]));
    }

    fn invoke(&mut self, data: &str, metadata: &Value) -> Value {
        self.ask(&json!(["invoke", "mqtt.sock", "mine", "create", data, metadata]))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn properties(remote: SocketAddr, more: &Value) -> Value {
    let mut all = json!({ "url": format!("tcp://{remote}"), "topic": "in/#", "consumerID": "mine", "qos": "1" });
    for (name, value) in more.as_object().expect("names and values") {
        all[name] = value.clone();
    }
    all
}

/// The bodies of messages that a stream has got, and was not told to refuse, in order.
fn taken(file: &Path) -> Vec<String> {
    let all = lines(file).into_iter().filter(|of| of["refused"] == false);
    all.map(|of| of["body"].as_str().expect("text").to_owned()).collect()
}

fn status(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

/// G21: services are found by reflection; Init brings the metadata, Invoke publishes, and each message waits for its answer.
#[test]
fn g21_a_sidecar_finds_the_services_and_uses_them() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let mut there = Device::connect(remote.addr, Version::V5, "there");
    there.subscribe(&[("out/#", QoS::AtMostOnce)]);
    let component = Component::start("");
    let mut sidecar = Sidecar::start(&component.sockets());
    for socket in ["mqtt.sock", "mqtt3.sock"] {
        let services = sidecar.ask(&json!(["services", socket]));
        for name in ["InputBinding", "OutputBinding"] {
            let wanted = json!(format!("dapr.proto.components.v1.{name}"));
            assert!(services.as_array().is_some_and(|all| all.contains(&wanted)), "{services}");
        }
    }
    sidecar.done(&json!(["ping", "mqtt.sock", "InputBinding", "mine"]));
    sidecar.done(&json!(["ping", "mqtt.sock", "OutputBinding", "mine"]));
    // As daprd fills {uuid} in: another one for each way. There is one connection, with the first.
    for (service, id) in [("InputBinding", "first"), ("OutputBinding", "second")] {
        let properties = properties(remote.addr, &json!({ "consumerID": id, "topic": "in/1" }));
        sidecar.done(&json!(["init", "mqtt.sock", service, "mine", properties]));
    }
    assert_eq!(sidecar.ask(&json!(["operations", "mqtt.sock", "mine"])), json!(["create"]));
    assert_eq!(sidecar.invoke("1", &json!({ "topic": "out/1" })), "done");
    assert_eq!(there.hear(), Heard::Message(0, 0, "out/1".to_owned(), b"1".to_vec()));
    assert_eq!(component.bridge("mine")["connects"], 1);
    let said = sidecar.invoke("1", &json!({ "topic": "a/#" }));
    assert_eq!(said, status("INTERNAL", "\"a/#\" is no topic to publish to"));
    let said = sidecar.ask(&json!(["invoke", "mqtt.sock", "mine", "get", "", {}]));
    assert_eq!(said, status("INTERNAL", "binding mine does not support operation get. supported operations:create"));
    let said = sidecar.ask(&json!(["invoke", "mqtt.sock", "mine", "create", 1 << 20, {}]));
    assert_eq!(said, status("INTERNAL", "the message is longer than 1048576 bytes"));
    // Nobody has opened a stream: the remote is asked for nothing.
    assert!(component.bridge("mine")["in"][0]["filters"][0].is_null());
    let file = dir.path().join("read");
    sidecar.read(&file, "twice");
    component.listens("mine");
    let mut device = Device::connect(remote.addr, Version::V311, "device");
    let sent: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    for (at, body) in sent.iter().enumerate() {
        device.deliver(at as u16 + 1, "in/1", body.as_bytes());
    }
    until("the application to have all", || taken(&file).len() == sent.len());
    assert_eq!(taken(&file), sent, "in order");
    assert_eq!(lines(&file)[0]["metadata"], json!({ "topic": "in/1" }));
    let done = || component.service.metric("forebay_binding_calls_total{result=\"done\"}");
    until("all answers to be counted", || done() == Some(50.0));
    assert!(component.letters().is_empty());
    assert_eq!(component.service.metric("forebay_binding_creates_total{result=\"done\"}"), Some(1.0));
    // A reload of the file leaves what Init has brought.
    let (head, body) = component.service.ask("POST", "/api/v1/reload", "X-Test: 1", "").expect("an answer");
    assert!(head.contains(" 200 ") && body.contains("\"applied\":[]"), "{head}\n{body}");
    assert_eq!(component.bridge("mine")["connects"], 1);
    // Its API is the sidecar's.
    assert!(!component.service.log().contains("Dapr's API is served"));
}

/// G22: what an application refuses is tried again after 5 s, and is a dead letter in the end; nothing else waits.
#[test]
fn g22_an_error_in_an_answer_is_a_refusal() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let component = Component::start("");
    let mut sidecar = Sidecar::start(&component.sockets());
    let file = dir.path().join("read");
    let mut device = Device::connect(remote.addr, Version::V311, "device");
    sidecar.init("mqtt.sock", &properties(remote.addr, &json!({})));
    sidecar.read(&file, "third");
    component.listens("mine");
    for n in 1..=90_u16 {
        device.deliver(n, &format!("in/{}", n % 7), n.to_string().as_bytes());
    }
    until("the refused to be letters", || component.letters().len() == 30);
    assert!(component.letters().iter().all(|letter| letter["reason"] == "not this one"));
    until("all others to be taken", || taken(&file).len() == 60);
    assert_eq!(component.bridge("mine")["connects"], 1);
    // A change of the metadata: the sidecar was started again with another document.
    let first = dir.path().join("first");
    sidecar.init("mqtt.sock", &properties(remote.addr, &json!({ "topic": "retried", "backoffMaxRetries": "1" })));
    sidecar.read(&first, "first");
    until("the other filter to be granted", || {
        let filter = &component.bridge("mine")["in"][0]["filters"][0];
        filter["state"] == "granted" && filter["filter"] == "retried"
    });
    device.deliver(100, "retried", b"1");
    until("it to be taken", || taken(&first) == ["1"]);
    assert_eq!((lines(&first).len(), component.letters().len()), (2, 30), "no other letter");
}

/// G22: what a stream has not answered when it ends goes to the next one, whatever the retries; and in any order answers are taken.
#[test]
fn g22_messages_of_a_stream_that_ends_go_to_the_next_one() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let component = Component::start("");
    let mut sidecar = Sidecar::start(&component.sockets());
    let (held, next) = (dir.path().join("held"), dir.path().join("next"));
    sidecar.init("mqtt.sock", &properties(remote.addr, &json!({})));
    sidecar.read(&held, "hold");
    component.listens("mine");
    let mut device = Device::connect(remote.addr, Version::V311, "device");
    for n in 1..=16_u16 {
        device.deliver(n, &format!("in/{n}"), n.to_string().as_bytes());
    }
    device.deliver(17, "in/17", b"17");
    until("as many as are called at a time", || lines(&held).len() == 16);
    sidecar.done(&json!(["answers", "mine"]));
    until("the place of another one", || lines(&held).len() == 17);
    let done = || component.service.metric("forebay_binding_calls_total{result=\"done\"}");
    until("the answers to be taken", || done() == Some(16.0));
    device.deliver(18, "in/18", b"18");
    until("that one, too", || lines(&held).len() == 18);
    sidecar.done(&json!(["end", "mine"]));
    until("the end to be told", || !component.events("binding_app_unreachable").is_empty());
    sidecar.read(&next, "none");
    until("both to be taken", || taken(&next).len() == 2);
    let mut all = taken(&next);
    all.sort_unstable();
    assert_eq!(all, ["17", "18"], "17 and 18 had no answer");
    assert!(component.letters().is_empty(), "an end refuses nothing");
    until("all to be answered", || done() == Some(18.0));
}

/// G22: after a start nothing is known of what Init has brought; the sidecar is told to start again, and nothing is lost.
#[test]
fn g22_a_service_that_is_killed_needs_init_again_and_loses_no_message() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let mut component = Component::start("");
    let properties = properties(remote.addr, &json!({ "cleanSession": "false" }));
    let (held, next) = (dir.path().join("held"), dir.path().join("next"));
    let mut sidecar = Sidecar::start(&component.sockets());
    sidecar.init("mqtt.sock", &properties);
    sidecar.read(&held, "hold");
    component.listens("mine");
    let mut device = Device::connect(remote.addr, Version::V311, "device");
    for n in 1..=30_u16 {
        device.deliver(n, &format!("in/{}", n % 10), n.to_string().as_bytes());
    }
    until("some to be there", || lines(&held).len() == 10);
    component.service.kill9();
    // The sockets that it has left are replaced.
    component.service.start_again();
    let needed = "Init needed, restart daprd: Forebay has been started since Init was called";
    for _ in 0..2 {
        assert_eq!(sidecar.invoke("1", &json!({})), status("UNAVAILABLE", needed));
    }
    sidecar.read(&next, "none");
    until("the stream to end", || lines(&next).iter().any(|of| of["code"] == "UNAVAILABLE" && of["message"] == needed));
    assert_eq!(component.events("binding_init_missing").len(), 1);
    fs::remove_file(&next).expect("removed");
    drop(sidecar);
    let mut sidecar = Sidecar::start(&component.sockets());
    sidecar.init("mqtt.sock", &properties);
    sidecar.read(&next, "none");
    until("all to be taken", || taken(&next).len() == 30);
    let mut all: Vec<u16> = taken(&next).iter().map(|body| body.parse().expect("a number")).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=30).collect::<Vec<_>>());
}

/// G21: metadata is read as documents are; what is wrong with it is the answer, and secrets are nowhere.
#[test]
fn g21_wrong_metadata_is_an_error_and_secrets_are_not_shown() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let document = "kind: Component\nmetadata:\n  name: theirs\nspec:\n  type: bindings.mqtt\n  metadata:\n  - {name: url, value: \"tcp://127.0.0.1:1\"}\n  \
                    - {name: topic, value: t}\n  - {name: consumerID, value: theirs}\n";
    fs::write(dir.path().join("theirs.yaml"), document).expect("written");
    let component = Component::start(&format!("components = \"{}\"\n", dir.path().join("theirs.yaml").display()));
    let mut sidecar = Sidecar::start(&component.sockets());
    let mut refused = |name: &str, properties: Value| {
        let said = sidecar.ask(&json!(["init", "mqtt.sock", "InputBinding", name, properties]));
        assert_eq!(said["code"], "INVALID_ARGUMENT", "{said}");
        said["message"].as_str().expect("text").to_owned()
    };
    let said =
        refused("mine", json!({ "url": "tcp://edge:hunter2@127.0.0.1:none", "qos": "hunter2", "consumerID": "a" }));
    assert!(
        said.contains("mine: qos: its value is not 0, 1 or 2") && said.contains("mine: topic: is required"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    let said = refused("mine", properties(remote.addr, &json!({ "clientKey": "hunter2", "url": "ssl://127.0.0.1:1" })));
    assert!(said.contains("has no effect without clientCert") && !said.contains("hunter2"), "{said}");
    assert!(refused("", properties(remote.addr, &json!({}))).contains("metadata.name"));
    let said = refused("theirs", properties(remote.addr, &json!({})));
    assert!(said.contains("is the name of another component, in ") && said.contains("theirs.yaml"), "{said}");
    let said = refused("mine", json!({ "url": "tcp://127.0.0.1:1", "topic": "t" }));
    assert!(said.contains("mine: consumerID: is required, as there is no app_id in [dapr]"), "{said}");
    // Tags and placeholders are the sidecar's.
    let literal = properties(
        remote.addr,
        &json!({ "topic": "a/${{ a }}/{uuid}", "url": format!("tcp://edge:hunter2@{}", remote.addr) }),
    );
    sidecar.done(&json!(["init", "mqtt.sock", "OutputBinding", "mine", literal]));
    let shown = component.bridge("mine").to_string()
        + &get(&component.service, "config").to_string()
        + &component.service.log();
    assert!(!shown.contains("hunter2"), "{shown}");
    let mut there = Device::connect(remote.addr, Version::V5, "there");
    there.subscribe(&[("#", QoS::AtMostOnce)]);
    assert_eq!(sidecar.invoke("1", &json!({})), "done");
    assert_eq!(there.hear(), Heard::Message(0, 0, "a/${{ a }}/{uuid}".to_owned(), b"1".to_vec()));
}

/// G21: who may open a socket; one that is in use, and a file that is none, end the start.
#[test]
fn g21_sockets_have_their_permissions_and_are_taken_from_nobody() {
    let mut component = Component::start("");
    let mode =
        |component: &Component| fs::metadata(component.sockets().join("mqtt.sock")).expect("a socket").mode() & 0o777;
    assert_eq!(mode(&component), 0o600);
    let sockets = component.sockets();
    let second = |sockets: &Path| {
        let dir = temp_dir();
        let config = config_with("shards = 1", &format!("[dapr]\nsockets = \"{}\"", sockets.display()));
        let file = dir.path().join("forebay.toml");
        fs::write(&file, config.replace("$DIR", &dir.path().display().to_string())).expect("written");
        let output = crate::support::service::program().arg("--config").arg(&file).output().expect("it runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = second(&sockets);
    assert!(said.contains("mqtt.sock: another process listens on it; sockets in [dapr]"), "{said}");
    assert!(component.service.terminate().success());
    assert!(!sockets.join("mqtt.sock").exists() && !sockets.join("mqtt3.sock").exists());
    fs::write(sockets.join("mqtt3.sock"), "mine").expect("written");
    let said = second(&sockets);
    assert!(said.contains("mqtt3.sock: there is a file that is not a socket"), "{said}");
    fs::remove_file(sockets.join("mqtt3.sock")).expect("removed");
    // What a killed process has left.
    drop(UnixListener::bind(sockets.join("mqtt.sock")).expect("bound"));
    component.service.start_again();
    drop(component);
    assert_eq!(mode(&Component::start("socket_mode = \"0660\"\n")), 0o660);
}

/// A message that is longer than a sidecar reads is a refused one: its stream would end over it, and never be there again.
#[test]
fn a_message_that_a_sidecar_cannot_read_is_a_dead_letter() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let section = "[dapr]\nsockets = \"$DIR/sockets\"\n[mqtt]\npacket_bytes_max = \"8MiB\"\n";
    let component = Component { service: Service::start(&config_with("shards = 1", section)) };
    let mut sidecar = Sidecar::start(&component.sockets());
    let file = dir.path().join("read");
    sidecar.init("mqtt.sock", &properties(remote.addr, &json!({})));
    sidecar.read(&file, "none");
    component.listens("mine");
    let mut device = Device::connect(remote.addr, Version::V311, "device");
    let longest = vec![b'x'; (4 << 20) - 300];
    for (at, payload) in [&longest[..], &vec![b'y'; 4 << 20][..], b"z"].into_iter().enumerate() {
        device.deliver(at as u16 + 1, "in/1", payload);
    }
    until("the last one to be taken", || lines(&file).len() == 2);
    assert_eq!(lines(&file)[0]["body"], longest.len());
    assert_eq!(component.letters().len(), 1);
}
