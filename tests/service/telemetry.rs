//! OpenTelemetry: what is exported is held against the definitions of the protocol (tests/python/otlp.py).

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::change::change;
use crate::device::Device;
use crate::process::{metric, until};
use crate::support::python;
use crate::support::service::{Service, config};

struct Receiver {
    process: Child,
    out: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Receiver {
    fn start(refused: u32) -> Self {
        let mut command = python("otlp.py");
        command.arg(refused.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it runs");
        let mut out = BufReader::new(process.stdout.take().expect("its output"));
        let mut line = String::new();
        out.read_line(&mut line).expect("its port");
        let port = line.trim().parse().expect("a port");
        Self { process, out, port }
    }

    /// What came.
    fn end(mut self) -> Value {
        drop(self.process.stdin.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text).expect("what came");
        assert!(self.process.wait().expect("it ends").success());
        serde_json::from_str(&text).expect("JSON")
    }
}

fn with(port: u16, more: &str) -> String {
    let telemetry = format!("[telemetry]\notlp = \"http://127.0.0.1:{port}\"\n{more}");
    config(&format!("{telemetry}\n[[sink]]\nname = \"one\"\nfilters = [\"1/#\"]\ntopic = \"one\"\n"))
}

#[test]
fn metrics_and_spans_reach_a_collector() {
    let receiver = Receiver::start(0);
    let more = "interval = \"1s\"\nservice_name = \"edge\"\nheaders = { x-api-key = \"secret\" }";
    let mut service = Service::start(&with(receiver.port, more));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "1/x", b"x");

    // A change under somebody's trace, one that is refused, and a reload that changes nothing.
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let two = json!({ "filters": ["2/#"], "topic": "two" }).to_string();
    let head = format!("traceparent: 00-{trace}-{parent}-01");
    let (answer, _) = service.ask("PUT", "/api/v1/sinks/two", &head, &two).expect("an answer");
    assert!(answer.contains("201 Created"), "{answer}");
    assert_eq!(change(&service, "PUT", "sinks/three", &json!({ "filters": "3/#" })).0, 422);
    assert!(!service.log().contains("secret"));
    let shown = crate::change::get(&service, "config")["telemetry"].clone();
    assert_eq!(shown["headers"], json!({ "x-api-key": "(redacted)" }), "{shown}");
    until("three exports", || metric(&service, "telemetry_exports_total") >= 3);
    assert!(service.terminate().success(), "{}", service.log());

    let came = receiver.end();
    assert_eq!(came["faults"], json!([]));
    assert!(came["headers"].as_array().is_some_and(|all| all.iter().all(|one| one["x-api-key"] == "secret")));
    let resource = &came["resource"];
    assert_eq!(
        (&resource["service.name"], &resource["service.version"]),
        (&json!("edge"), &json!(env!("CARGO_PKG_VERSION")))
    );
    let metrics = &came["metrics"];
    for (name, kind) in [
        ("forebay_sink_records_in", "sum"),
        ("forebay_connections", "gauge"),
        ("forebay_publish_ack_seconds", "histogram"),
        ("forebay_process_cpu_seconds", "sum"),
    ] {
        let name = if metrics[name].is_null() { name.trim_start_matches("forebay_") } else { name };
        assert_eq!(metrics[name]["kind"], kind, "{name}: {metrics}");
    }
    assert_eq!(metrics["forebay_sink_records_in"]["value"], 1);
    assert_eq!(metrics["forebay_publish_ack_seconds"]["unit"], "s");

    let spans = came["spans"].as_array().expect("spans");
    let named = |name: &str| spans.iter().filter(|span| span["name"] == name).collect::<Vec<_>>();
    let [put, refused] = named("PUT /api/v1/sinks/{name}")[..] else { panic!("{spans:?}") };
    assert_eq!((&put["trace"], &put["parent"], &put["kind"]), (&json!(trace), &json!(parent), &json!(2)));
    assert_eq!(put["attributes"]["http.response.status_code"], 201);
    assert_eq!((&refused["attributes"]["http.response.status_code"], &refused["failed"]), (&json!(422), &Value::Null));
    assert_ne!(refused["trace"], trace);
    let [done, failed] = named("reload")[..] else { panic!("{spans:?}") };
    assert_eq!((&done["trace"], &done["parent"]), (&put["trace"], &put["id"]));
    assert_eq!(done["attributes"]["forebay.reload.applied"], "sink two (added)");
    assert_eq!(failed["parent"], refused["id"]);
    assert!(failed["failed"].as_str().is_some_and(|why| why.contains("topic")), "{failed}");
    assert_eq!((named("start").len(), named("drain").len()), (1, 1), "{spans:?}");
}

/// A collector that refuses, and then none at all: counted, said once, and nothing else suffers.
#[test]
fn a_collector_that_is_away_harms_nothing() {
    let receiver = Receiver::start(1);
    let mut service = Service::start(&with(receiver.port, "interval = \"1s\""));
    until("a failure", || metric(&service, "telemetry_export_failures_total") == 1);
    until("an export", || metric(&service, "telemetry_exports_total") >= 1);
    let came = receiver.end();
    assert_eq!((&came["faults"], &came["refused"]), (&json!([]), &json!(1)));
    until("more failures", || metric(&service, "telemetry_export_failures_total") >= 3);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "1/x", b"x");
    assert!(service.terminate().success(), "{}", service.log());
    let log = service.log();
    assert_eq!(log.matches("telemetry is not exported: ").count(), 2, "{log}");
    assert_eq!(log.matches("telemetry is exported again").count(), 1, "{log}");
    assert!(log.contains("the collector answered 503"), "{log}");
}
