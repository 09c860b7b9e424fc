//! Eclipse Paho over TLS, with a client certificate and without, over WebSocket, and over both: every QoS, every message once
//! (`tests/python/transports.py`).

use std::path::Path;

use crate::process::{metric, until_metric};
use crate::records::read_when;
use crate::support::certificates::{certificates, listener};
use crate::support::service::Service;
use crate::support::{python, run, temp_dir};
use crate::tls::service;

const MESSAGES: usize = 300;
const SIZES: [usize; 7] = [0, 1, 100, 126, 5_000, 70_000, 1_000];

/// Both versions, one after the other.
fn published(service: &Service, transport: &str, tls: &[&Path]) {
    for version in ["3.1.1", "5.0"] {
        let port = service.mqtt().port().to_string();
        let mut command = python("transports.py");
        command.args([transport, &port, version, "/mqtt"]).args(tls);
        assert_eq!(run(&mut command).trim(), "done");
    }
    let came = read_when(service.embedded(), "all", 2 * (MESSAGES + 1));
    for version in ["3.1.1", "5.0"] {
        let mine = came.iter().filter(|record| record.key == format!("t/{version}"));
        let number = |text: &str| {
            let (number, rest) = text.split_once(' ').expect("a number");
            let number: usize = number.parse().expect("a number");
            let size = if number == MESSAGES { 0 } else { SIZES[number % SIZES.len()] };
            assert_eq!(rest, "x".repeat(size), "{number}");
            number
        };
        let mut numbers: Vec<usize> = mine.map(|record| number(record.text())).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..=MESSAGES).collect::<Vec<_>>(), "{transport} {version}");
    }
    until_metric(service, "sessions", 0);
}

#[test]
fn over_tls() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let plain = service(&listener("tls", dir, ""));
    published(&plain, "tls", &[&dir.join("ca.pem")]);
    assert!(metric(&plain, "tls_handshakes_total") >= 2);

    // The certificate says who the client is.
    let auth = "[auth.devices]\nchain = [\"certificate\"]\n";
    let asking = listener("tls", dir, &format!("client_ca_file = \"{}/ca.pem\"\n", dir.display()));
    let asking = asking.replacen("transport", "auth = \"devices\"\ntransport", 1);
    let certified = service(&format!("{asking}{auth}"));
    published(&certified, "tls", &[&dir.join("ca.pem"), &dir.join("device-1.pem"), &dir.join("device-1.key")]);
    assert_eq!(metric(&certified, "authentications_total{result=\"accepted\"}"), 2);
}

#[test]
fn over_websocket() {
    published(&service(&listener("ws", Path::new(""), "")), "ws", &[]);
}

#[test]
fn over_websocket_and_tls() {
    let dir = temp_dir();
    certificates(dir.path());
    let service = service(&listener("wss", dir.path(), ""));
    published(&service, "wss", &[&dir.path().join("ca.pem")]);
    assert_eq!(metric(&service, "websocket_requests_total{result=\"accepted\"}"), 2);
    assert!(metric(&service, "tls_handshakes_total") >= 2);
}
