//! The control plane over TLS: `openssl s_client` as the client, and the program's own commands.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::process::until;
use crate::support::certificates::{blocks, certificates, shell};
use crate::support::service::{Service, config, program};
use crate::support::{temp_dir, tool};

const SINK: &str = "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n";

/// A service whose control plane has the page's certificate, and more keys of `[control.tls]`.
fn service(dir: &Path, more: &str) -> Service {
    let dir = dir.display();
    let tls = format!("[control.tls]\ncert_file = \"{dir}/server.pem\"\nkey_file = \"{dir}/server.key\"\n{more}\n");
    Service::start(&config(&format!("{SINK}{tls}")))
}

/// `forebay` with a command, and the configuration of the service; port 0 is replaced by the real one.
fn ask(service: &Service, command: &str) -> Output {
    let control = service.control().to_string();
    let mut program = program();
    program.arg(command).arg("--config").arg(service.dir().join("forebay.toml")).args(["--control", &control]);
    program.stdin(Stdio::null()).output().expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a client that trusts the page's CA gets for a path.
fn get(service: &Service, dir: &Path, path: &str, more: &str) -> String {
    tool("openssl");
    let control = service.control();
    let command = format!(
        "printf 'GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' | openssl s_client -connect {control} -CAfile ca.pem \
         -verify_return_error -verify_hostname localhost -quiet {more} 2>&1 || true"
    );
    String::from_utf8_lossy(&shell(dir, &command).stdout).into_owned()
}

/// X68: `[control.tls]`.
#[test]
fn it_is_served_over_tls_only_and_takes_a_new_certificate() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let service = service(dir, "");
    let answer = get(&service, dir, "/api/v1/sinks", "");
    assert!(answer.contains("HTTP/1.0 200 OK") && answer.contains("\"name\":\"s\""), "{answer}");
    assert!(service.get("/healthz").is_err(), "there is no plain HTTP");

    // Clients that say nothing hold up no other.
    let silent: Vec<_> = (0..32).map(|_| TcpStream::connect(service.control()).expect("a connection")).collect();
    assert_eq!(said(&ask(&service, "health")), "ready\n");
    assert!(said(&ask(&service, "sinks")).contains("running"));
    drop(silent);

    // Without the configuration the program does not know of TLS.
    let control = service.control().to_string();
    let plain = said(&program().args(["health", "--control", &control]).output().expect("it runs"));
    assert!(plain.contains("--config") && plain.contains("[control.tls]"), "{plain}");

    // Another certificate: the command does not take the one that is still served, then the service has the new one.
    shell(dir, &blocks("Certificates", "sh")[1]);
    let early = ask(&service, "health");
    assert!(!early.status.success() && said(&early).contains("another certificate"), "{early:?}");
    service.signal("HUP");
    until("the new certificate", || service.log().contains("control (changed: certificates)"));
    assert_eq!(said(&ask(&service, "health")), "ready\n");
}

/// X67: client certificates.
#[test]
fn with_a_ca_for_clients_each_needs_a_certificate() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let service = service(dir, &format!("client_ca_file = \"{}/ca.pem\"", dir.display()));
    let without = get(&service, dir, "/metrics", "");
    assert!(!without.contains("200 OK") && without.contains("certificate required"), "{without}");
    let with = get(&service, dir, "/metrics", "-cert device-1.pem -key device-1.key");
    assert!(with.contains("HTTP/1.0 200 OK") && with.contains("forebay_"), "{with}");
    assert!(said(&ask(&service, "health")).contains("client_ca_file"));
}
