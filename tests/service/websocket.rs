//! MQTT over WebSocket with a real client: mqtt.js over ws and wss; and what a listener says to those that are wrong there.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use crate::process::{metric, until};
use crate::records::read_when;
use crate::support::service::{Service, config_with};
use crate::support::{temp_dir, tool};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

/// Messages of all sizes over one connection, each acknowledged; the next one when half of them have been.
const PUBLISHER: &str = r#"
const { createRequire } = require('node:module');
const mqtt = createRequire(process.env.FOREBAY_NODE + '/')('mqtt');
const { readFileSync } = require('node:fs');
const [url, version, ca] = process.argv.slice(1);
const client = mqtt.connect(url, {
  protocolVersion: Number(version), clientId: 'js-' + version, reconnectPeriod: 0, keepalive: 2, connectTimeout: 10000,
  ...(ca ? { ca: readFileSync(ca) } : {}),
});
client.on('error', (error) => { console.error(error.message); process.exit(1); });
client.on('connect', async () => {
  const all = [];
  for (let n = 0; n < 300; n++) {
    const size = [0, 1, 100, 126, 5000, 70000][n % 6];
    all.push(client.publishAsync('t/' + version, n + ' ' + 'x'.repeat(size), { qos: n % 2 + 1 }));
  }
  await Promise.all(all);
  // MQTT's keep-alive continues.
  setTimeout(() => client.end(false, {}, () => { console.log('done'); process.exit(0); }), 4000);
});
"#;

fn node(arguments: &[&str]) -> Output {
    let folder = std::env::var_os("FOREBAY_NODE").expect("FOREBAY_NODE: the folder whose node_modules has mqtt.js");
    let mut command = tool("node");
    command.env("FOREBAY_NODE", PathBuf::from(folder)).arg("-e").arg(PUBLISHER).arg("--").args(arguments);
    command.output().expect("it runs")
}

fn service(listener: &str) -> Service {
    let config = config_with("shards = 2", &format!("{listener}{SINK}"));
    let plain = "[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"tcp\"\n";
    Service::start(&config.replace(plain, ""))
}

fn published(service: &Service, url: &str, ca: Option<&str>) {
    for version in ["3", "4", "5"].into_iter().filter(|version| *version != "3") {
        let done = node(&[&[url, version][..], ca.as_slice()].concat());
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.contains("done"), "{said}\n{}", service.log());
    }
    let came = read_when(service.embedded(), "all", 600);
    for version in ["4", "5"] {
        let mine: Vec<_> = came.iter().filter(|record| record.key == format!("t/{version}")).collect();
        let expected = |n: usize| format!("{n} {}", "x".repeat([0, 1, 100, 126, 5_000, 70_000][n % 6]));
        let mut numbers: Vec<usize> = mine
            .iter()
            .map(|record| {
                let n = record.text().split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
                assert_eq!(record.text(), expected(n));
                n
            })
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    }
    assert_eq!(metric(service, "websocket_requests_total{result=\"accepted\"}"), 2);
}

#[test]
fn mqtt_js_over_ws() {
    let service = service("[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"ws\"\n");
    published(&service, &format!("ws://{}/mqtt", service.mqtt()), None);

    // Other protocols get an answer, and the operator an event.
    let said = |sent: &str| {
        let mut socket = TcpStream::connect(service.mqtt()).expect("connected");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        socket.write_all(sent.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an answer and the end");
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(said("GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(said("GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
    assert!(said("\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0\r\n\r\n").starts_with("HTTP/1.1 400 "));
    until("the events", || service.log().matches("websocket_failed").count() >= 3);
    assert_eq!(metric(&service, "websocket_requests_total{result=\"refused\"}"), 3);
    let page = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n";
    assert!(said(&format!("{page}Origin: https://evil.example\r\n\r\n")).starts_with("HTTP/1.1 403 Forbidden\r\n"));
    // A text frame.
    let answer = said(&format!("{page}\r\n\u{1}"));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(metric(&service, "websocket_violations_total{code=\"1003\"}"), 1);
}

#[test]
fn mqtt_js_over_wss() {
    let dir = temp_dir();
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    let (cert, key_file) = (dir.path().join("c.pem"), dir.path().join("c.key"));
    std::fs::write(&cert, params.self_signed(&key).expect("a certificate").pem()).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    let listener = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"wss\"\n[listener.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n\
         [listener.ws]\npath = \"/other\"\n",
        cert.display(),
        key_file.display()
    );
    let service = service(&listener);
    let url = format!("wss://localhost:{}/other", service.mqtt().port());
    published(&service, &url, Some(&cert.display().to_string()));
    assert!(metric(&service, "tls_handshakes_total{kind=\"full_1.3\"}") >= 2);
}

/// Behind a proxy that speaks HTTP, connections are counted by the address that it names.
#[test]
fn a_forwarded_address_has_so_many_connections() {
    let listener = "[mqtt]\nconnections_per_address = 2\n[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"ws\"\n[listener.ws]\nforwarded = true\n";
    let service = service(listener);
    let request = |from: &str| {
        let mut socket = TcpStream::connect(service.mqtt()).expect("connected");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let text = format!(
            "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\nX-Forwarded-For: {from}\r\n\r\n"
        );
        socket.write_all(text.as_bytes()).expect("sent");
        socket
    };
    let is_open = |socket: &mut TcpStream| matches!(socket.read(&mut [0; 512]), Ok(count) if count > 0);
    let mut kept = Vec::new();
    for (from, expected) in
        [("192.0.2.1", true), ("192.0.2.1", true), ("192.0.2.1", false), ("192.0.2.2", true), ("192.0.2.2", true)]
    {
        let mut socket = request(from);
        if expected {
            assert!(is_open(&mut socket), "{from}");
        }
        kept.push(socket);
    }
    until("one to be closed", || metric(&service, "connections_closed_total{reason=\"connections_per_address\"}") == 1);
    assert_eq!(metric(&service, "connections"), 4);
}
