//! Dapr's MQTT binding without Dapr, by gRPC: applications made with Dapr's SDK for Python, and mosquitto as the remote.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use forebay::mqtt::packet::{PacketType, QoS, Version};
use serde_json::{Value, json};

use crate::dapr::{App, Bound, OPEN, component, free, lines};
use crate::device::{Device, Heard};
use crate::mosquitto::Mosquitto;
use crate::process::until;
use crate::support::{plain_python, temp_dir};

const SERVED: &str = "grpc = \"127.0.0.1:0\"\n";

fn app(dir: &Path, how: &[&str]) -> App {
    App::run("dapr_grpc_app.py", free().port(), dir.join("calls"), how)
}

fn calls(app: SocketAddr) -> String {
    format!("app = \"grpc://{app}\"\n")
}

/// What the SDK is answered.
fn ask(bound: &Bound, token: Option<&str>, commands: &Value) -> Vec<Value> {
    let [http, grpc] = bound.ports().map(|port| port.to_string());
    let mut command = plain_python("dapr_client.py");
    if let Some(token) = token {
        command.env("DAPR_API_TOKEN", token);
    }
    let output = command.args([http, grpc, commands.to_string()]).stderr(Stdio::inherit()).output().expect("it runs");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn status(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

/// D27, D29, G18: an SDK publishes by InvokeBinding, raw bytes, and hears what the remote says.
#[test]
fn d27_an_application_publishes_by_grpc() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let mut there = Device::connect(remote.addr, Version::V5, "there");
    assert_eq!(there.subscribe(&[("#", QoS::ExactlyOnce)]), [2]);
    let bound = Bound::start_with(&component("bindings.mqtt", remote.addr, "topic: mytopic\nqos: 1"), SERVED);
    let said = ask(
        &bound,
        None,
        &json!([
            ["invoke", "mine", "create", "plain text", {}],
            ["invoke", "mine", "create", "{ \"a\": 1 }", { "topic": "other/a" }],
            ["invoke", "none", "create", "", {}],
            ["invoke", "mine", "", "", {}],
            ["invoke", "mine", "get", "", {}],
            ["invoke", "mine", "create", "", { "topic": "a/#" }],
            ["metadata"],
            ["raw", "/grpc.health.v1.Health/Check"],
            ["invoke", "mine", "create", 1 << 20, {}],
            ["invoke", "mine", "create", 2 << 20, {}],
            ["raw", "/dapr.proto.runtime.v1.Dapr/GetState"],
            ["raw", "/dapr.proto.runtime.v1.AppCallback/OnInvoke"],
        ]),
    );
    let failed = |why: &str| status("INTERNAL", &format!("error invoking output binding {why}"));
    assert_eq!(said[..2], [json!("done"), json!("done")]);
    assert_eq!(said[2], failed("none: couldn't find output binding none"));
    assert_eq!(said[3], failed("mine: operation field is missing from request"));
    assert_eq!(said[4], failed("mine: binding mine does not support operation get. supported operations:create"));
    assert_eq!(said[5], failed("mine: \"a/#\" is no topic to publish to"));
    let components = json!([["mine", "bindings.mqtt", "v1", ["OUTPUT_BINDING"]]]);
    assert_eq!(said[6], json!({ "id": "myapp", "components": components }));
    assert_eq!(said[7], "0801", "SERVING");
    assert_eq!(said[8], failed("mine: the message is longer than 1048576 bytes"));
    assert_eq!(said[9]["code"], "OUT_OF_RANGE", "{said:?}");
    assert!(said[10]["code"] == "UNIMPLEMENTED" && said[11]["code"] == "UNIMPLEMENTED", "{said:?}");
    for (topic, payload) in [("mytopic", "plain text"), ("other/a", "{ \"a\": 1 }")] {
        let Heard::Message(1, id, at, heard) = there.hear() else { panic!("no message") };
        there.acknowledge(PacketType::PubAck, id);
        assert_eq!((&*at, &*heard), (topic, payload.as_bytes()), "the bytes as they are");
    }
    assert_eq!(bound.service.metric("forebay_binding_creates_total{result=\"done\"}"), Some(2.0));
}

/// G18: with a token only who has it is answered; the health service says nothing that needs one.
#[test]
fn the_grpc_api_is_for_who_has_the_token() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    fs::write(dir.path().join("token"), "s3cret").expect("written");
    let keys = format!("{SERVED}api_token_file = \"{}\"\n", dir.path().join("token").display());
    let bound = Bound::start_with(&component("bindings.mqtt", remote.addr, "topic: t\nqos: 1"), &keys);
    let commands =
        json!([["invoke", "mine", "create", "1", {}], ["metadata"], ["raw", "/grpc.health.v1.Health/Check"]]);
    let refused = status("UNAUTHENTICATED", "invalid api token");
    assert_eq!(ask(&bound, None, &commands), [refused.clone(), refused.clone(), json!("0801")]);
    assert_eq!(ask(&bound, Some("wrong"), &commands)[0], refused);
    let said = ask(&bound, Some("s3cret"), &commands);
    assert!(said[0] == "done" && said[1]["id"] == "myapp", "{said:?}");
    assert_eq!(bound.service.metric("forebay_binding_creates_total{result=\"done\"}"), Some(1.0));
}

/// D26, D29: a message triggers the application that ListInputBindings says wants it, in order, with its topic.
#[test]
fn d26_an_application_is_called_by_grpc() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let late = free();
    fs::write(dir.path().join("token"), "s3cret\n").expect("written");
    let token = format!("app_token_file = \"{}\"\n", dir.path().join("token").display());
    let document = component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 1");
    let bound = Bound::start_with(&document, &(calls(late) + &token));
    until("the application to be missed", || !bound.events("binding_app_unreachable").is_empty());
    let app = App::run("dapr_grpc_app.py", late.port(), dir.path().join("calls"), &[]);
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    let sent: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    for (at, body) in sent.iter().enumerate() {
        there.deliver(at as u16 + 1, "in/1", body.as_bytes());
    }
    until("the application to have all", || app.calls().len() == sent.len());
    assert_eq!(app.taken(), sent, "one after the other, in order");
    let headers = &app.calls()[0]["headers"];
    assert_eq!((&headers["topic"], &headers["dapr-api-token"]), (&json!("in/1"), &json!("s3cret")));
    assert!(headers["traceparent"].as_str().is_some_and(|of| of.len() == 55), "{headers}");
    assert_eq!(bound.events("binding_wanted").len(), 1);
    let done = || bound.service.metric("forebay_binding_calls_total{result=\"done\"}");
    until("all answers to be counted", || done() == Some(50.0));
    drop((bound, app));
    // One that wants another binding is not called.
    let other = temp_dir();
    let app = App::run("dapr_grpc_app.py", late.port(), other.path().join("calls"), &["none", "other"]);
    let bound = Bound::start_with(&document, &calls(app.addr));
    until("the answer to be known", || bound.events("binding_unwanted").len() == 1);
    let why = bound.events("binding_unwanted")[0]["reason"].to_string();
    assert!(why.contains("ListInputBindings") && why.contains("other"), "{why}");
    bound.connected("mine");
    there.deliver(100, "in/1", b"1");
    assert!(app.calls().is_empty() && bound.bridge("mine")["received"] == 0);
}

/// D14, D16, D17, G19: what is refused is tried again, and is a dead letter in the end; nothing else waits, and the connection stays.
#[test]
fn d14_d17_what_an_application_refuses_by_grpc_becomes_a_dead_letter() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    const COUNT: u16 = 300;
    let app = app(dir.path(), &["third"]);
    let document = component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 1\ncleanSession: false");
    let bound = Bound::start_with(&document, &calls(app.addr));
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    for n in 1..=COUNT {
        there.deliver(n, &format!("in/{}", n % 7), n.to_string().as_bytes());
    }
    until("all to be called", || app.calls().len() == usize::from(COUNT));
    until("the refused to be letters", || bound.letters().len() == usize::from(COUNT / 3));
    let letters = bound.letters();
    let refused = letters.iter().map(|letter| letter["value"].as_str().expect("text").to_owned());
    let mut all: Vec<u16> = app.taken().into_iter().chain(refused).map(|of| of.parse().expect("a number")).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=COUNT).collect::<Vec<_>>(), "0 lost, none twice");
    let reason = letters[0]["reason"].as_str().expect("text");
    assert!(reason.contains("gRPC status Unknown") && reason.contains("not this one"), "{reason}");
    assert_eq!(bound.bridge("mine")["connects"], 1, "0 reconnects");
    drop((bound, app));
    let again = temp_dir();
    let app = self::app(again.path(), &["first"]);
    let document = component("bindings.mqtt", remote.addr, "topic: retried\nqos: 2\nbackOffMaxRetries: 1");
    let bound = Bound::start_with(&document, &calls(app.addr));
    bound.listens("mine");
    there.deliver(1, "retried", b"1");
    until("it to be taken", || app.taken() == ["1"]);
    let at: Vec<f64> = app.calls().iter().filter_map(|call| call["at"].as_f64()).collect();
    assert!(at.len() == 2 && at[1] - at[0] >= 5.0, "{at:?}");
    assert!(bound.letters().is_empty());
}

/// As in Dapr, an answer may name output bindings that publish its data.
#[test]
fn an_answer_may_name_output_bindings() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = app(dir.path(), &["to"]);
    let other = component("bindings.mqtt", remote.addr, "topic: second\nqos: 1\nconsumerID: c\ndirection: output");
    let document = component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 1\ndirection: input")
        + "---\n"
        + &other.replace("name: mine", "name: other");
    let bound = Bound::start_with(&document, &calls(app.addr));
    bound.listens("mine");
    bound.connected("other");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    let mut second = Device::connect(remote.addr, Version::V311, "second");
    second.subscribe(&[("second", QoS::AtMostOnce)]);
    // An unknown binding ends a list, and the message is taken all the same.
    there.deliver(1, "in/other,none,other", b"{ \"a\": 1 }");
    there.deliver(2, "in/other", b"no JSON");
    let mut heard = Vec::new();
    while heard.len() < 2 {
        if let Heard::Message(_, _, topic, payload) = second.hear() {
            heard.push((topic, String::from_utf8(payload).expect("UTF-8")));
        }
    }
    heard.sort();
    assert_eq!(heard, [("second".to_owned(), "no JSON".to_owned()), ("second".to_owned(), "{\"a\":1}".to_owned())]);
    until("both to be taken", || {
        bound.service.metric("forebay_binding_calls_total{binding=\"mine\",result=\"done\"}") == Some(2.0)
    });
    let created = bound.service.metric("forebay_binding_creates_total{binding=\"other\",result=\"done\"}");
    assert_eq!(created, Some(2.0), "nothing after the one that failed");
    assert!(bound.service.log().contains("error invoking output binding none: couldn't find output binding none"));
    assert!(bound.letters().is_empty());
}

fn numbers(app: &App) -> Vec<u16> {
    let mut taken: Vec<u16> = app.taken().iter().map(|body| body.parse().expect("a number")).collect();
    taken.sort_unstable();
    taken.dedup();
    taken
}

/// G19: an application that dies in the middle of calls by gRPC loses nothing, and the next one is found.
#[test]
fn an_application_of_grpc_that_dies_loses_nothing() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let mut app = app(dir.path(), &["hang"]);
    let (addr, file) = (app.addr, app.file.clone());
    let bound = Bound::start_with(&component("bindings.mqtt", remote.addr, "topic: \"in/#\"\nqos: 1"), &calls(addr));
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    (1..=40_u16).for_each(|n| there.deliver(n, &format!("in/{}", n % 5), n.to_string().as_bytes()));
    let _ = app.child.wait();
    until("it to be missed", || !bound.events("binding_app_unreachable").is_empty());
    let again = App::run("dapr_grpc_app.py", addr.port(), file, &[]);
    until("the application to have all", || numbers(&again) == (1..=40).collect::<Vec<_>>());
    assert!(bound.letters().is_empty(), "{:?}", bound.letters());
    assert_eq!(bound.bridge("mine")["connects"], 1);
}

/// A message is acknowledged after the application has taken it by gRPC: a service that is killed has lost none.
#[test]
fn a_service_that_is_killed_between_calls_by_grpc_loses_no_message() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let app = app(dir.path(), &["slow"]);
    let metadata = "topic: \"in/#\"\nqos: 1\ncleanSession: false\nmaxConcurrency: 4";
    let mut bound = Bound::start_with(&component("bindings.mqtt", remote.addr, metadata), &calls(app.addr));
    bound.listens("mine");
    let mut there = Device::connect(remote.addr, Version::V311, "there");
    (1..=40_u16).for_each(|n| there.deliver(n, &format!("in/{}", n % 8), n.to_string().as_bytes()));
    until("some to be taken", || app.calls().len() >= 6);
    bound.service.kill9();
    assert!(lines(&app.file).len() < 40, "it was in the middle");
    let together = app.calls().iter().filter_map(|call| call["together"].as_u64()).max();
    assert!(together.is_some_and(|most| most <= 4), "{together:?} calls at a time");
    bound.service.start_again();
    until("the application to have all", || numbers(&app) == (1..=40).collect::<Vec<_>>());
}
