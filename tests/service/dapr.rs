//! Dapr's MQTT binding without Dapr: an application in Python, mosquitto as the remote, and a component document.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use forebay::mqtt::packet::{QoS, Version};
use serde_json::{Value, json};

use crate::change::get;
use crate::device::{Device, Heard};
use crate::mosquitto::Mosquitto;
use crate::process::until;
use crate::support::service::{Service, config_with, program};
use crate::support::{certificates, plain_python, temp_dir};

/// It takes the messages of all clients, and holds many for each.
pub(crate) const OPEN: &str = "allow_anonymous true\nmax_queued_messages 10000";

pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

/// A component with this metadata beside its topic.
pub(crate) fn component(kind: &str, remote: SocketAddr, metadata: &str) -> String {
    let mut text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: mine\nspec:\n  type: {kind}\n  version: v1\n  metadata:\n\
         \x20 - name: url\n    value: \"tcp://{remote}\"\n"
    );
    for line in metadata.lines() {
        let (name, value) = line.split_once(": ").expect("a name and a value");
        text += &format!("  - name: {name}\n    value: {value}\n");
    }
    text
}

/// A service with a component, and its API.
pub(crate) struct Bound {
    pub(crate) service: Service,
    api: SocketAddr,
    #[allow(dead_code, reason = "held: the documents are in it")]
    dir: tempfile::TempDir,
}

impl Bound {
    fn start(document: &str, app: Option<SocketAddr>, keys: &str) -> Self {
        let app = app.map_or_else(String::new, |app| format!("app = \"http://{app}\"\n"));
        Self::start_with(document, &(app + keys))
    }

    pub(crate) fn start_with(document: &str, keys: &str) -> Self {
        let dir = temp_dir();
        fs::write(dir.path().join("mine.yaml"), document).expect("written");
        let section = format!(
            "[dapr]\napp_id = \"myapp\"\nhttp = \"127.0.0.1:0\"\ncomponents = \"{}\"\n{keys}",
            dir.path().display()
        );
        let service = Service::start(&config_with("shards = 2", &section));
        let api = served(&service, "Dapr's API is served");
        Self { service, api, dir }
    }

    /// The ports of both APIs.
    pub(crate) fn ports(&self) -> [u16; 2] {
        [self.api.port(), served(&self.service, "Dapr's gRPC API is served").port()]
    }

    fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let (head, body) = request(self.api, method, path, headers, body).expect("an answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_with(method, path, "Content-Type: application/json", body)
    }

    fn create(&self, body: &Value) -> (u16, String) {
        self.ask("POST", "/v1.0/bindings/mine", &body.to_string())
    }

    pub(crate) fn bridge(&self, name: &str) -> Value {
        get(&self.service, &format!("bridges/{name}"))
    }

    pub(crate) fn connected(&self, name: &str) {
        until("the remote to accept the binding", || self.bridge(name)["state"] == "connected");
    }

    /// Waits until the remote has granted the filter of the input.
    pub(crate) fn listens(&self, name: &str) {
        until("the remote to grant the filter", || self.bridge(name)["in"][0]["filters"][0]["state"] == "granted");
    }

    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let page = get(&self.service, "events?limit=1000");
        let all = page["events"].as_array().expect("a list");
        all.iter().filter(|event| event["kind"] == kind).cloned().collect()
    }

    pub(crate) fn letters(&self) -> Vec<Value> {
        lines(&self.service.dir().join("data/binding-dead-letters.jsonl"))
    }
}

fn served(service: &Service, what: &str) -> SocketAddr {
    let log = service.log();
    let said = log.lines().find(|line| line.contains(what)).expect("it is served");
    said.rsplit('=').next().and_then(|address| address.trim().parse().ok()).expect("an address")
}

/// [`crate::support::service::http`] for an answer that takes longer than 10 s.
fn request(at: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {at}\r\n{headers}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.to_owned(), body.to_owned()))
}

pub(crate) fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    // The last one may not be whole yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The application.
pub(crate) struct App {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
    pub(crate) file: PathBuf,
}

impl App {
    fn start_at(port: u16, file: PathBuf, how: &[&str]) -> Self {
        Self::run("dapr_app.py", port, file, how)
    }

    pub(crate) fn run(program: &str, port: u16, file: PathBuf, how: &[&str]) -> Self {
        let mut command = plain_python(program);
        let child = command.arg(port.to_string()).arg(&file).args(how).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("it runs");
        let mut port = String::new();
        let said = child.stdout.as_mut().expect("a pipe");
        BufReader::new(said).read_line(&mut port).expect("its port");
        let addr = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().expect("a port")));
        Self { child, addr, file }
    }

    fn start(dir: &Path, how: &[&str]) -> Self {
        Self::start_at(0, dir.join("calls"), how)
    }

    pub(crate) fn calls(&self) -> Vec<Value> {
        lines(&self.file).into_iter().filter(|call| call["method"] == "POST").collect()
    }

    /// The bodies that it has taken, in order.
    pub(crate) fn taken(&self) -> Vec<String> {
        let calls = self.calls();
        calls
            .iter()
            .filter(|call| call["taken"] == true)
            .map(|call| call["body"].as_str().expect("text").to_owned())
            .collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CREATED: (u16, String) = (204, String::new());

fn invoke(why: &str) -> (u16, Value) {
    (
        500,
        json!({ "errorCode": "ERR_INVOKE_OUTPUT_BINDING", "message": format!("error invoking output binding {why}") }),
    )
}

fn read(answer: &(u16, String)) -> (u16, Value) {
    (answer.0, serde_json::from_str(&answer.1).unwrap_or(Value::String(answer.1.clone())))
}

/// D27, D29: `create`, at each QoS; what is published, and where; all answers.
#[test]
fn d27_an_application_publishes_by_create() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let mut there = Device::connect(remote.addr, Version::V5, "there");
    assert_eq!(there.subscribe(&[("#", QoS::ExactlyOnce)]), [2]);
    for (kind, qos, metadata) in [
        ("bindings.mqtt", 0, ""),
        ("bindings.mqtt", 1, "qos: 1\n"),
        ("bindings.mqtt", 2, "qos: \"2\"\ncleanSession: \"false\"\n"),
        ("bindings.mqtt3", 1, ""),
    ] {
        let bound = Bound::start(&component(kind, remote.addr, &format!("topic: mytopic\n{metadata}")), None, "");
        let heard = |there: &mut Device| match there.hear() {
            Heard::Message(at, id, topic, payload) => {
                assert_eq!(at, qos, "{kind}");
                match at {
                    0 => {}
                    1 => there.acknowledge(forebay::mqtt::packet::PacketType::PubAck, id),
                    _ => {
                        there.acknowledge(forebay::mqtt::packet::PacketType::PubRec, id);
                        there.hear();
                        there.acknowledge(forebay::mqtt::packet::PacketType::PubComp, id);
                    }
                }
                (topic, String::from_utf8(payload).expect("UTF-8"))
            }
            other => panic!("{other:?}"),
        };
        // The text as it stands, compact, and no digit lost.
        let data = "{ \"b\": 1, \"a\": 12345678901234567890, \"h\": \"<&>\" }";
        let body = format!("{{\"operation\": \"create\", \"data\": {data}}}");
        assert_eq!(bound.ask("POST", "/v1.0/bindings/mine", &body), CREATED);
        let want = "{\"b\":1,\"a\":12345678901234567890,\"h\":\"<&>\"}";
        assert_eq!(heard(&mut there), ("mytopic".to_owned(), want.to_owned()));
        let plain = json!({ "operation": "create", "data": "plain text", "metadata": { "topic": "other/a" } });
        assert_eq!(bound.ask("PUT", "/v1.0/bindings/mine", &plain.to_string()), CREATED);
        assert_eq!(heard(&mut there), ("other/a".to_owned(), "\"plain text\"".to_owned()), "a string keeps its quotes");
        assert_eq!(bound.create(&json!({ "operation": "create" })), CREATED);
        assert_eq!(heard(&mut there).1, "null");
        assert_eq!(
            read(&bound.ask("POST", "/v1.0/bindings/none", "{}")),
            invoke("none: couldn't find output binding none")
        );
        assert_eq!(read(&bound.create(&json!({ "data": 1 }))), invoke("mine: operation field is missing from request"));
        let other = read(&bound.create(&json!({ "operation": "get" })));
        assert_eq!(other, invoke("mine: binding mine does not support operation get. supported operations:create"));
        let wild = read(&bound.create(&json!({ "operation": "create", "metadata": { "topic": "a/#" } })));
        assert_eq!(wild, invoke("mine: \"a/#\" is no topic to publish to"));
        for malformed in ["", "{", "[]", "{\"metadata\": {\"topic\": 1}}"] {
            let (status, answer) = read(&bound.ask("POST", "/v1.0/bindings/mine", malformed));
            assert_eq!((status, &answer["errorCode"]), (400, &json!("ERR_MALFORMED_REQUEST")), "{malformed}: {answer}");
        }
        assert_eq!(bound.service.metric("forebay_binding_creates_total{result=\"done\"}"), Some(3.0));
        assert_eq!(bound.service.metric("forebay_binding_creates_total{result=\"failed\"}"), Some(0.0));
        for path in ["healthz", "healthz/outbound"] {
            assert_eq!(bound.ask("GET", &format!("/v1.0/{path}"), ""), CREATED);
        }
        let (status, metadata) = read(&bound.ask("GET", "/v1.0/metadata", ""));
        assert_eq!((status, &metadata["id"]), (200, &json!("myapp")));
        let can = json!([{ "name": "mine", "type": kind, "version": "v1", "capabilities": ["OUTPUT_BINDING"] }]);
        assert_eq!(metadata["components"], can);
        assert_eq!(bound.ask("GET", "/v1.0/state/x", "").0, 404);
        assert_eq!(bound.ask("GET", "/v1.0/bindings/mine", "").0, 405);
    }
}

/// D9: with `retain` the remote keeps the message.
#[test]
fn d9_a_message_is_retained_by_the_remote() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let document = component("bindings.mqtt", remote.addr, "topic: kept\nqos: 1\nretain: true");
    let bound = Bound::start(&document, None, "");
    assert_eq!(bound.create(&json!({ "operation": "create", "data": 1 })), CREATED);
    let mut late = Device::connect(remote.addr, Version::V5, "late");
    late.subscribe(&[("kept", QoS::AtMostOnce)]);
    assert_eq!(late.hear(), Heard::Message(0, 0, "kept".to_owned(), b"1".to_vec()));
}

/// G18: without the remote the message is not sent, then or later; and what was sent and not acknowledged is said to be unknown.
#[test]
fn an_answer_says_what_is_known_of_the_message() {
    let dir = temp_dir();
    let document = |remote, qos| component("bindings.mqtt", remote, &format!("topic: mytopic\nqos: {qos}"));
    let nobody = free();
    let bound = Bound::start(&document(nobody, 1), None, "");
    let begun = Instant::now();
    let (status, answer) = read(&bound.create(&json!({ "operation": "create", "data": "late" })));
    let message = answer["message"].as_str().expect("a message");
    assert!(
        status == 500 && message.ends_with("; the message was not sent") && message.contains("not connected"),
        "{answer}"
    );
    assert!(begun.elapsed() >= Duration::from_secs(10));
    let lines = format!("listener {} 127.0.0.1\n{OPEN}", nobody.port());
    let remote = Mosquitto::start(dir.path(), &lines);
    let mut there = Device::connect(remote.addr, Version::V5, "there");
    there.subscribe(&[("#", QoS::AtLeastOnce)]);
    bound.connected("mine");
    assert_eq!(bound.create(&json!({ "operation": "create", "data": "now" })), CREATED);
    assert!(
        matches!(there.hear(), Heard::Message(1, _, _, payload) if payload == b"\"now\""),
        "the first one never comes"
    );
    // A remote that takes everything and answers nothing.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = deaf.local_addr().expect("an address");
    std::thread::spawn(move || {
        for socket in deaf.incoming() {
            let Ok(mut socket) = socket else { return };
            std::thread::spawn(move || {
                let mut bytes = [0; 1 << 12];
                let _ = socket.read(&mut bytes);
                let _ = socket.write_all(&[0x20, 2, 0, 0]);
                while socket.read(&mut bytes).is_ok_and(|count| count > 0) {}
            });
        }
    });
    let bound = Bound::start(&document(addr, 1), None, "");
    let (status, answer) = read(&bound.create(&json!({ "operation": "create", "data": 1 })));
    let message = answer["message"].as_str().expect("a message");
    assert!(status == 500 && message.contains("outcome unknown"), "{answer}");
    assert_eq!(bound.service.metric("forebay_binding_creates_total{result=\"unknown\"}"), Some(1.0));
}

/// D26, D29: a message triggers the application, after OPTIONS, with its topic; and the remote is told after the application has taken it.
#[test]
fn d26_a_message_triggers_the_application() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    for (kind, bridge, options) in [("bindings.mqtt", "mine", "200"), ("bindings.mqtt3", "mine-consumer", "405")] {
        let dir = temp_dir();
        let app = App::start(dir.path(), &["none", options]);
        let document = component(kind, remote.addr, "topic: \"in/#\"\nqos: 1\nroute: /orders");
        fs::write(dir.path().join("token"), "s3cret\n").expect("written");
        let token = format!("app_token_file = \"{}\"\n", dir.path().join("token").display());
        let bound = Bound::start(&document, Some(app.addr), &token);
        bound.listens(bridge);
        assert_eq!(lines(&app.file)[0], json!({ "method": "OPTIONS", "path": "/orders" }));
        let mut there = Device::connect(remote.addr, Version::V311, "there");
        let sent: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        for (at, body) in sent.iter().enumerate() {
            there.deliver(at as u16 + 1, "in/1", body.as_bytes());
        }
        until("the application to have all", || app.calls().len() == sent.len());
        assert_eq!(app.taken(), sent, "one after the other, in order");
        let call = &app.calls()[0];
        assert_eq!((&call["path"], &call["body"]), (&json!("/orders"), &json!("0")));
        let headers = &call["headers"];
        assert_eq!((&headers["topic"], &headers["content-type"]), (&json!("in/1"), &json!("application/json")));
        assert_eq!(headers["dapr-api-token"], "s3cret");
        assert!(headers["traceparent"].as_str().is_some_and(|of| of.len() == 55), "{headers}");
        assert_eq!(bound.bridge(bridge)["received"], 50);
        assert_eq!(bound.events("binding_wanted").len(), 1);
        let done = || bound.service.metric("forebay_binding_calls_total{result=\"done\"}");
        until("all answers to be counted", || done() == Some(50.0));
        // Both ways: what the application publishes below its own filter comes to it.
        let echo = json!({ "operation": "create", "data": 50, "metadata": { "topic": "in/own" } });
        assert_eq!(bound.create(&echo), CREATED);
        until("the application to have its own", || app.taken().last().is_some_and(|last| last == "50"));
        let capabilities = read(&bound.ask("GET", "/v1.0/metadata", "")).1["components"][0]["capabilities"].clone();
        assert_eq!(capabilities, json!(["INPUT_BINDING", "OUTPUT_BINDING"]));
    }
}

/// D26: an application that does not want the messages is not called, and messages wait for one that is not there yet.
#[test]
fn d26_an_application_says_whether_it_wants_the_messages() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = App::start(dir.path(), &["none", "404"]);
    let document = component("bindings.mqtt", remote.addr, "topic: t\nqos: 1");
    let bound = Bound::start(&document, Some(app.addr), "");
    until("the answer to be known", || bound.events("binding_unwanted").len() == 1);
    bound.connected("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    there.deliver(1, "t", b"1");
    assert_eq!(bound.create(&json!({ "operation": "create", "data": 2 })), CREATED, "output goes on");
    assert_eq!((bound.bridge("mine")["received"].clone(), app.calls().len()), (json!(0), 0));
    drop(bound);
    // With a direction nobody is asked; and one that comes later gets what has come.
    let late = free();
    let document = component("bindings.mqtt", remote.addr, "topic: t\nqos: 1\ndirection: input");
    let bound = Bound::start(&document, Some(late), "");
    bound.listens("mine");
    there.deliver(2, "t", b"3");
    until("the application to be missed", || !bound.events("binding_app_unreachable").is_empty());
    let app = App::start_at(late.port(), dir.path().join("late"), &[]);
    until("the application to have it", || app.taken() == ["3"]);
    assert_eq!(lines(&app.file)[0]["method"], "POST", "no OPTIONS");
    assert_eq!(
        read(&bound.create(&json!({ "operation": "create" }))),
        invoke("mine: couldn't find output binding mine")
    );
}

/// D14, D17 and the promise of G19: an application that refuses every third message costs no message and no connection, and none that is good
/// waits for one that is not.
#[test]
fn d14_d17_refused_messages_become_dead_letters_and_others_go_on() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = App::start(dir.path(), &["third"]);
    let document = component(
        "bindings.mqtt",
        remote.addr,
        "topic: \"in/#\"\nqos: 1\ncleanSession: false\nbackOffMaxRetries: \"0\"",
    );
    let bound = Bound::start(&document, Some(app.addr), "");
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    const COUNT: u16 = 300;
    for n in 1..=COUNT {
        there.deliver(n, &format!("in/{}", n % 7), n.to_string().as_bytes());
    }
    until("all to be called", || app.calls().len() == usize::from(COUNT));
    until("the refused to be letters", || bound.letters().len() == usize::from(COUNT / 3));
    let mut all: Vec<u16> = app.taken().iter().map(|body| body.parse().expect("a number")).collect();
    all.extend(
        bound
            .letters()
            .iter()
            .map(|letter| letter["value"].as_str().and_then(|of| of.parse::<u16>().ok()).expect("a number")),
    );
    all.sort_unstable();
    assert_eq!(all, (1..=COUNT).collect::<Vec<_>>(), "0 lost, none twice");
    let letter = &bound.letters()[0];
    assert_eq!((&letter["binding"], &letter["reason"]), (&json!("mine"), &json!("HTTP status 500")));
    assert_eq!(bound.bridge("mine")["connects"], 1, "0 reconnects");
    let letters = || bound.service.metric("forebay_binding_failed_messages_total{fate=\"dead_letter\"}");
    until("all letters to be counted", || letters() == Some(f64::from(COUNT / 3)));
    let failed = bound.events("binding_failed");
    assert_eq!((&failed[0]["bridge"], &failed[0]["fate"]), (&json!("mine"), &json!("dead_letter")));
    assert!(failed[0]["reason"] == "HTTP status 500" && failed[0]["mqtt_topic"].is_string(), "D17: {}", failed[0]);
    // All are acknowledged: the remote has none for a session that comes back.
    drop(bound);
    let again = Bound::start(&document, Some(app.addr), "");
    again.listens("mine");
    there.deliver(1, "in/1", b"1000");
    until("the new one", || app.taken().iter().any(|body| body == "1000"));
    assert_eq!(app.calls().len(), usize::from(COUNT) + 1, "nothing came again");
}

/// D15, D16: again after 5 s, without end; and only its own topic waits.
#[test]
fn d15_d16_a_message_is_retried_every_5_seconds() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = App::start(dir.path(), &["first"]);
    let document = component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 2\nbackOffMaxRetries: -1");
    let bound = Bound::start(&document, Some(app.addr), "");
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    there.deliver(1, "in/a", b"1");
    there.deliver(2, "in/a", b"2");
    there.deliver(3, "in/b", b"3");
    until("all to be taken", || app.taken().len() == 3);
    let calls = app.calls();
    let times = |body: &str| -> Vec<f64> {
        calls.iter().filter(|call| call["body"] == body).filter_map(|call| call["at"].as_f64()).collect()
    };
    for body in ["1", "2", "3"] {
        let at = times(body);
        assert!(at.len() == 2 && at[1] - at[0] >= 5.0, "{body}: {at:?}");
    }
    assert!(times("2")[0] >= times("1")[1], "those of one topic one after the other");
    assert!(times("3")[0] < times("1")[1], "another topic does not wait");
    assert_eq!(bound.bridge("mine")["connects"], 1);
    assert!(bound.letters().is_empty());
}

/// G19: what `onFailure` and `deadLetterTopic` say.
#[test]
fn a_refused_message_goes_where_the_document_says() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let mut letters = Device::connect(remote.addr, Version::V311, "letters");
    letters.subscribe(&[("letters", QoS::AtLeastOnce)]);
    for (kind, bridge, metadata, fate) in [
        ("bindings.mqtt", "mine", "onFailure: drop", "dropped"),
        ("bindings.mqtt3", "mine-consumer", "deadLetterTopic: letters", "dead_letter"),
        ("bindings.mqtt", "mine", "onFailure: keep", "kept"),
    ] {
        let calls = temp_dir();
        let app = App::start(calls.path(), &["all"]);
        let metadata = format!("topic: in\nqos: 1\ncleanSession: false\nconsumerID: {fate}\n{metadata}");
        let document = component(kind, remote.addr, &metadata);
        let bound = Bound::start(&document, Some(app.addr), "");
        bound.listens(bridge);
        let mut there = Device::connect(remote.addr, Version::V311, "there");
        there.deliver(1, "in", b"1");
        let counted = format!("forebay_binding_failed_messages_total{{fate=\"{fate}\"}}");
        until("the message to be over", || bound.service.metric(&counted) == Some(1.0));
        if fate == "dead_letter" {
            assert!(
                matches!(letters.hear(), Heard::Message(_, _, topic, payload) if topic == "letters" && payload == b"1")
            );
        }
        assert!(bound.letters().is_empty());
        let answered = || bound.service.metric("forebay_bridge_settled_messages_total") == Some(1.0);
        until("the remote to be answered", || fate == "kept" || answered());
        // What is kept comes again with the next connection, and nothing else does.
        drop(bound);
        let again = Bound::start(&document, Some(app.addr), "");
        again.listens(bridge);
        there.deliver(2, "in", b"2");
        until("the next message", || app.calls().last().is_some_and(|call| call["body"] == "2"));
        assert_eq!(app.calls().len(), if fate == "kept" { 3 } else { 2 }, "{fate}");
    }
}

/// Finding Q56: a message that is longer than Forebay takes stops no binding: others come, and it is a dead letter with its length.
#[test]
fn finding_q56_a_message_that_is_too_long_stops_no_binding() {
    for more in ["", "\ndeadLetterTopic: letters"] {
        let (dir, calls) = (temp_dir(), temp_dir());
        let remote = Mosquitto::start(dir.path(), OPEN);
        let app = App::start(calls.path(), &["none"]);
        let metadata = format!("topic: in\nqos: 1\ncleanSession: false\nconsumerID: me{more}");
        let document = component("bindings.mqtt", remote.addr, &metadata);
        let bound = Bound::start(&document, Some(app.addr), "");
        bound.listens("mine");
        let mut there = Device::connect(remote.addr, Version::V311, "there");
        there.deliver(1, "in", b"1");
        there.deliver(2, "in", &vec![b'x'; 3 << 19]);
        there.deliver(3, "in", b"3");
        until("the others to be taken", || app.taken() == ["1", "3"]);
        until("the letter", || bound.letters().len() == 1);
        let letter = &bound.letters()[0];
        assert_eq!((&letter["mqtt_topic"], &letter["value"]), (&json!("in"), &Value::Null));
        assert!(letter["packet_bytes"].as_u64().is_some_and(|bytes| bytes > 3 << 19), "{letter:#}");
        until("the remote to be answered", || {
            bound.service.metric("forebay_bridge_settled_messages_total") == Some(3.0)
        });
        assert_eq!(bound.bridge("mine")["connects"], 1);
        let failed = &bound.events("binding_failed")[0];
        assert_eq!((&failed["fate"], &failed["mqtt_topic"]), (&json!("dead_letter"), &json!("in")));
    }
}

/// Finding Q41: what a binding feeds to subscribers ends when it comes round, and the application gets it all the same.
#[test]
fn finding_q41_what_a_binding_feeds_ends() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = App::start(dir.path(), &["none"]);
    let document =
        component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 1\nversion: \"5.0\"\nfeeds: subscribers");
    let bound = Bound::start(&document, Some(app.addr), "");
    let back =
        format!("[bridge.back]\nurl = \"mqtt://{}\"\n[[bridge.back.in]]\nfilters = [\"in/#\"]\n", bound.service.mqtt());
    let other = Service::start(&config_with(
        "shards = 1",
        &format!("{back}[bridge.on]\nurl = \"mqtt://{}\"\n[[bridge.on.out]]\nfilters = [\"in/#\"]\n", remote.addr),
    ));
    bound.listens("mine");
    until("the way back", || get(&other, "bridges/back")["in"][0]["filters"][0]["state"] == "granted");
    until("the way on", || get(&other, "bridges/on")["state"] == "connected");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    there.deliver(1, "in/a", b"1");
    until("the message to come round", || !bound.events("bridge_message_dropped").is_empty());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(app.taken(), ["1", "1"], "once from its publisher, and once as it comes back");
    assert_eq!(bound.events("bridge_message_dropped").len(), 1);
}

/// G19: an application that dies loses nothing, whatever it was doing.
#[test]
fn an_application_that_dies_loses_nothing() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = App::start(dir.path(), &["hang"]);
    let (addr, file) = (app.addr, app.file.clone());
    let document = component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 1");
    let bound = Bound::start(&document, Some(addr), "");
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    for n in 1..=40_u16 {
        there.deliver(n, &format!("in/{}", n % 5), n.to_string().as_bytes());
    }
    let mut app = app;
    let _ = app.child.wait();
    until("it to be missed", || !bound.events("binding_app_unreachable").is_empty());
    let again = App::start_at(addr.port(), file, &[]);
    until("the application to have all", || {
        let mut taken: Vec<u16> = again.taken().iter().map(|body| body.parse().expect("a number")).collect();
        taken.sort_unstable();
        taken.dedup();
        taken == (1..=40).collect::<Vec<_>>()
    });
    assert!(bound.letters().is_empty());
    assert_eq!(bound.bridge("mine")["connects"], 1);
}

/// G19: calls at a time.
#[test]
fn calls_at_a_time_are_bounded() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = App::start(dir.path(), &["slow"]);
    let document = component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 1\nmaxConcurrency: 2");
    let bound = Bound::start(&document, Some(app.addr), "");
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    (1..=12_u16).for_each(|n| there.deliver(n, &format!("in/{n}"), b"1"));
    until("all to be taken", || app.calls().len() == 12);
    assert_eq!(app.calls().iter().filter_map(|call| call["together"].as_u64()).max(), Some(2));
}

/// D4, D11, D12, D13, D19, D21: TLS with certificates of both ends, which the document has from a secret store; nobody is shown them.
#[test]
fn d21_the_remote_asks_for_a_certificate() {
    let dir = temp_dir();
    certificates::certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let lines = format!(
        "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true",
        file("ca.pem"),
        file("server.pem"),
        file("server.key")
    );
    let remote = Mosquitto::start(dir.path(), &lines);
    let secrets = temp_dir();
    for (name, from) in [("ca", "ca.pem"), ("cert", "device-1.pem"), ("key", "device-1.key")] {
        fs::copy(dir.path().join(from), secrets.path().join(name)).unwrap_or_else(|error| panic!("{from}: {error}"));
    }
    let url = format!("ssl://edge:hunter2@localhost:{}", remote.addr.port());
    let document = component("bindings.mqtt", remote.addr, "topic: t\nqos: 1")
        .replace(&format!("tcp://{}", remote.addr), &url)
        + "  - name: caCert\n    value: ${{ ca }}\n  - name: clientCert\n    value: ${{ cert }}\n  - name: clientKey\n    secretKeyRef:\n      name: key\n      key: key\nauth:\n  secretStore: kubernetes\n";
    let bound = Bound::start(&document, None, &format!("secrets_dir = \"{}\"\n", secrets.path().display()));
    assert_eq!(bound.create(&json!({ "operation": "create", "data": 1 })), CREATED);
    let key = fs::read_to_string(dir.path().join("device-1.key")).expect("a key");
    let body = key.lines().nth(1).expect("a line");
    let shown = [get(&bound.service, "config").to_string(), get(&bound.service, "events").to_string()];
    let shown = [shown.concat(), bound.bridge("mine").to_string(), bound.service.log()].concat();
    assert!(!shown.contains("hunter2") && !shown.contains(body), "a secret is shown");
    assert!(get(&bound.service, "config")["dapr"]["secrets_dir"].is_string());
    assert_eq!(get(&bound.service, "config")["bridge"], json!({}));
}

/// D22, D23, D24, D25: one ID for two instances locks one of them out in turn; with `{uuid}` each has its own.
#[test]
fn d24_instances_with_one_id_lock_each_other_out() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let document = component("bindings.mqtt", remote.addr, "topic: t\nqos: 1");
    let (one, other) = (Bound::start(&document, None, ""), Bound::start(&document, None, ""));
    let connects = |of: &Bound| of.bridge("mine")["connects"].as_u64().unwrap_or(0);
    until("each to have been thrown out", || connects(&one) > 1 && connects(&other) > 1);
    assert!(!one.events("bridge_lost").is_empty());
    drop((one, other));
    let document =
        component("bindings.mqtt", remote.addr, "topic: t\nqos: 1\nconsumerID: \"{uuid}\"\ndirection: input");
    let (first, second) = (temp_dir(), temp_dir());
    let apps = [App::start(first.path(), &[]), App::start(second.path(), &[])];
    let both = apps.each_ref().map(|app| Bound::start(&document, Some(app.addr), ""));
    both.iter().for_each(|bound| bound.listens("mine"));
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    there.deliver(1, "t", b"1");
    until("both to have it", || apps.iter().all(|app| app.taken() == ["1"]));
    assert!(both.iter().all(|bound| connects(bound) == 1));
}

/// The API is for this machine, or for who has the token; pages of other sites are never served.
#[test]
fn the_api_is_for_the_application_alone() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let document = component("bindings.mqtt", remote.addr, "topic: t");
    let bound = Bound::start(&document, None, "");
    let body = json!({ "operation": "create", "data": 1 }).to_string();
    let ask = |bound: &Bound, headers: &str| bound.ask_with("POST", "/v1.0/bindings/mine", headers, &body).0;
    assert_eq!(ask(&bound, "Content-Type: application/json; charset=utf-8"), 204);
    assert_eq!(ask(&bound, "Content-Type: text/plain"), 415);
    assert_eq!(ask(&bound, "Content-Type: application/json\r\nOrigin: http://localhost"), 403);
    let head = format!(
        "POST /v1.0/bindings/mine HTTP/1.0\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(bound.api).expect("connected");
    stream.write_all(head.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 403"), "{answer}");
    let long = format!("{{\"operation\": \"create\", \"data\": \"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(bound.ask("POST", "/v1.0/bindings/mine", &long).0, 413);
    drop(bound);
    fs::write(dir.path().join("token"), "s3cret").expect("written");
    let bound =
        Bound::start(&document, None, &format!("api_token_file = \"{}\"\n", dir.path().join("token").display()));
    assert_eq!(bound.ask("POST", "/v1.0/bindings/mine", &body), (401, "invalid api token".to_owned()));
    assert_eq!(ask(&bound, "Content-Type: application/json\r\ndapr-api-token: wrong"), 401);
    assert_eq!(ask(&bound, "Content-Type: application/json\r\ndapr-api-token: s3cret"), 204);
    assert_eq!(bound.ask("GET", "/v1.0/healthz", ""), CREATED);
    assert_eq!(bound.ask("GET", "/v1.0/metadata", "").0, 401);
}

/// A reload takes other documents; `forebay check` says what they are, and what is wrong with them.
#[test]
fn documents_are_read_again_and_checked() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let bound = Bound::start(&component("bindings.mqtt", remote.addr, "topic: t\nqos: 1"), None, "");
    assert_eq!(bound.create(&json!({ "operation": "create", "data": 1 })), CREATED);
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    there.subscribe(&[("#", QoS::AtMostOnce)]);
    let file = bound.dir.path().join("mine.yaml");
    let other = component("bindings.mqtt", remote.addr, "topic: other\nqos: 1").replace("name: mine", "name: second");
    let first = component("bindings.mqtt", remote.addr, "topic: changed\nconsumerID: c");
    fs::write(&file, format!("{first}---\n{other}")).expect("written");
    bound.service.signal("HUP");
    until("the new binding", || bound.ask("POST", "/v1.0/bindings/second", "{\"operation\":\"create\"}") == CREATED);
    assert_eq!(there.hear(), Heard::Message(0, 0, "other".to_owned(), b"null".to_vec()));
    assert_eq!(bound.create(&json!({ "operation": "create", "data": 1 })), CREATED);
    assert_eq!(there.hear(), Heard::Message(0, 0, "changed".to_owned(), b"1".to_vec()));
    let check = || {
        let output = program()
            .args(["check", "--config"])
            .arg(bound.service.dir().join("forebay.toml"))
            .output()
            .expect("it runs");
        [output.stdout, output.stderr].map(|said| String::from_utf8(said).expect("UTF-8")).concat()
    };
    let said = check();
    assert!(said.contains("component mine (bindings.mqtt)") && said.contains("component second"), "{said}");
    fs::write(&file, component("bindings.mqtt", remote.addr, "topic: t\nqos: 7")).expect("written");
    let said = check();
    assert!(said.contains("mine.yaml") && said.contains("mine: qos: \"7\" is not 0, 1 or 2"), "{said}");
    bound.service.signal("HUP");
    until("the reload to be refused", || !bound.events("reload_failed").is_empty());
    assert_eq!(bound.create(&json!({ "operation": "create", "data": 2 })), CREATED, "what was in force stays");
    fs::remove_file(&file).expect("removed");
    bound.service.signal("HUP");
    until("the binding to be gone", || bound.create(&json!({ "operation": "create" })).0 == 500);
}

/// A message is acknowledged after the application has taken it: a service that is killed has lost none.
#[test]
fn a_service_that_is_killed_loses_no_message() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = App::start(dir.path(), &["slow"]);
    let document =
        component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 1\ncleanSession: false\nmaxConcurrency: 4");
    let mut bound = Bound::start(&document, Some(app.addr), "");
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    (1..=40_u16).for_each(|n| there.deliver(n, &format!("in/{}", n % 8), n.to_string().as_bytes()));
    until("some to be taken", || app.calls().len() >= 6);
    bound.service.kill9();
    assert!(app.calls().len() < 40, "it was in the middle");
    bound.service.start_again();
    until("the application to have all", || {
        let mut taken: Vec<u16> = app.taken().iter().map(|body| body.parse().expect("a number")).collect();
        taken.sort_unstable();
        taken.dedup();
        taken == (1..=40).collect::<Vec<_>>()
    });
}
