//! TLS with real parts: the page docs/TLS.md followed word for word, `openssl s_client` and `mosquitto_pub` against the
//! service, and certificates that change while devices publish.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use forebay::mqtt::packet::{Packet, Version};

use crate::device::{Device, Heard, hello};
use crate::process::{metric, until};
use crate::records::texts;
use crate::support::certificates::{blocks, certificates, shell};
use crate::support::service::{Service, config_with, program};
use crate::support::{temp_dir, tool};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

/// The page's listener on a free port, its certificates in `certificates`, and more keys of `[listener.tls]`.
pub(crate) fn listener(dir: &Path, tls: &str) -> String {
    let block = blocks("The listener", "toml").remove(0);
    let block = block.replace("0.0.0.0:8883", "127.0.0.1:0").replace("/etc/forebay", &dir.display().to_string());
    format!("{block}{tls}\n")
}

/// Without client certificates.
fn open_listener(dir: &Path, tls: &str) -> String {
    let block = listener(dir, tls);
    block.lines().filter(|line| !line.starts_with("client_ca_file")).map(|line| format!("{line}\n")).collect()
}

/// A service with a plain listener, on whose port the test does not depend, and these.
pub(crate) fn service(listeners: &str) -> Service {
    service_without_sink(&format!("{listeners}{SINK}"))
}

/// The same with a sink of its own.
pub(crate) fn service_without_sink(rest: &str) -> Service {
    let config = config_with("shards = 2", rest);
    // The first listener is the one that is tested.
    let plain = "[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"tcp\"\n";
    Service::start(&config.replace(plain, ""))
}

pub(crate) fn publish(service: &Service, dir: &Path, more: &[&str]) -> Output {
    let port = service.mqtt().port().to_string();
    let mut command = tool("mosquitto_pub");
    command.current_dir(dir).args(["-h", "localhost", "-p", &port, "--cafile", "ca.pem", "-q", "1", "-t", "t"]);
    command.args(more).output().expect("it runs")
}

/// What `openssl s_client` says of a handshake; MQTT is not spoken.
fn s_client(dir: &Path, to: SocketAddr, more: &[&str]) -> String {
    let mut child = tool("openssl")
        .current_dir(dir)
        .args(["s_client", "-connect", &to.to_string(), "-CAfile", "ca.pem", "-verify_return_error"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl");
    // Time for a ticket, which comes behind the handshake.
    std::thread::sleep(Duration::from_millis(300));
    drop(child.stdin.take());
    let done = child.wait_with_output().expect("its end");
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

/// The page, from the CA to a certificate that is refused.
#[test]
fn the_page_word_for_word() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let service = service(&listener(dir, ""));
    let checked = program().args(["check", "--config"]).arg(service.dir().join("forebay.toml")).output();
    let checked = String::from_utf8_lossy(&checked.expect("it runs").stdout).into_owned();
    assert!(checked.contains("server.pem: valid for 39"), "{checked}");

    let command = blocks("The listener", "").into_iter().find(|block| block.starts_with("mosquitto_pub"));
    let command = command.expect("the device's command");
    shell(dir, &command.replace("8883", &service.mqtt().port().to_string()));
    let sent = publish(&service, dir, &["-m", "two", "--cert", "device-2.pem", "--key", "device-2.key"]);
    assert!(sent.status.success(), "{sent:?}");
    until("both to be in Kafka", || {
        let mut found = texts(service.embedded(), "all");
        found.sort();
        found == ["21.5", "two"]
    });
    assert!(metric(&service, "tls_handshakes_total") >= 2);

    // None, and one that signed itself.
    let none = publish(&service, dir, &["-m", "none"]);
    assert!(!none.status.success());
    until("it to be counted", || metric(&service, "tls_failures_total{reason=\"certificate_missing\"}") == 1);
    let own =
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=x -keyout x.key -out x.pem";
    shell(dir, own);
    assert!(!publish(&service, dir, &["-m", "x", "--cert", "x.pem", "--key", "x.key"]).status.success());
    until("it to be counted", || metric(&service, "tls_failures_total{reason=\"certificate_invalid\"}") == 1);
    until("it to be told", || service.log().contains("the client certificate was refused: "));

    // The list, which comes with a reload.
    for block in blocks("Revoke a certificate", "sh") {
        shell(dir, &block);
    }
    let file = service.dir().join("forebay.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    let crl = format!("client_ca_file = \"{0}/ca.pem\"\ncrl_file = \"{0}/devices.crl\"", dir.display());
    let with_crl = text.replace(&format!("client_ca_file = \"{}/ca.pem\"", dir.display()), &crl);
    assert_ne!(text, with_crl);
    fs::write(&file, with_crl).expect("written");
    service.signal("HUP");
    until("the reload", || service.log().contains("(changed: tls)"));
    let revoked = publish(&service, dir, &["-m", "1", "--cert", "device-1.pem", "--key", "device-1.key"]);
    assert!(!revoked.status.success());
    until("it to be counted", || metric(&service, "tls_failures_total{reason=\"certificate_revoked\"}") == 1);
    let sent = publish(&service, dir, &["-m", "three", "--cert", "device-2.pem", "--key", "device-2.key"]);
    assert!(sent.status.success(), "{sent:?}");
}

/// X7, X8, X9, X13 as openssl sees them.
#[test]
fn openssl_sees_versions_names_protocols_and_tickets() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    shell(
        dir,
        &blocks("Certificates", "sh")[1].replace("mqtt.example.org", "other.example.org").replace("server.", "other."),
    );
    let more = format!("certificates = {{ \"{0}/other.pem\" = \"{0}/other.key\" }}", dir.display());
    let service = service(&open_listener(dir, &more));
    let see = |more: &[&str]| s_client(dir, service.mqtt(), more);
    assert!(see(&["-tls1_3"]).contains("New, TLSv1.3"));
    assert!(see(&["-tls1_2"]).contains("New, TLSv1.2"));
    assert!(see(&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]).contains(" alert "));
    assert!(see(&["-tls1_2", "-cipher", "AES128-SHA"]).contains("alert handshake failure"));
    let subject = |name: &str| {
        see(&["-servername", name]).contains(&format!("subject=CN = {name}"))
            || see(&["-servername", name]).contains(&format!("subject=CN={name}"))
    };
    assert!(subject("mqtt.example.org") && subject("other.example.org"));
    assert!(see(&["-alpn", "mqtt"]).contains("ALPN protocol: mqtt"));
    assert!(see(&["-alpn", "h2"]).contains("alert no application protocol"));
    for version in ["-tls1_2", "-tls1_3"] {
        let kept = see(&[version, "-sess_out", "session.pem"]);
        assert!(kept.contains("New, "), "{kept}");
        let resumed = see(&[version, "-sess_in", "session.pem"]);
        assert!(resumed.contains("Reused, "), "{resumed}");
    }
    assert!(metric(&service, "tls_handshakes_total{kind=\"resumed_1.3\"}") >= 1);
    assert!(metric(&service, "tls_handshakes_total{kind=\"resumed_1.2\"}") >= 1);
    assert!(metric(&service, "tls_failures_total{reason=\"nothing_in_common\"}") >= 3);

    // MQTT without TLS: closed without a word, and said.
    let mut device = Device::open(service.mqtt(), Version::V5);
    device.say(&Packet::Connect(hello(Version::V5, "plain")));
    assert_eq!(device.hear(), Heard::Closed);
    until("it to be said", || service.log().contains("this looks like MQTT without TLS; this listener expects TLS"));
    // One byte and silence costs a timer and no handshake.
    let mut slow = TcpStream::connect(service.mqtt()).expect("accepted");
    slow.write_all(&[0x16]).expect("it reads");
    until("both to be closed", || metric(&service, "connections_closed_total{reason=\"connect_timeout\"}") == 1);
    assert_eq!(metric(&service, "connections"), 0);
}

/// X12: certificates change again and again while devices publish and connect; nobody is dropped, and broken files change
/// nothing.
#[test]
fn certificates_are_renewed_under_load() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let service = service(&open_listener(dir, ""));
    // One publisher stays connected from the first certificate to the last.
    let port = service.mqtt().port().to_string();
    let mut staying = tool("mosquitto_pub");
    staying.current_dir(dir).args([
        "-h",
        "localhost",
        "-p",
        &port,
        "--cafile",
        "ca.pem",
        "-q",
        "1",
        "-t",
        "stays",
        "-l",
    ]);
    let mut staying = staying.stdin(Stdio::piped()).spawn().expect("mosquitto_pub");
    let mut lines = staying.stdin.take().expect("its input");
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let coming = {
        let (dir, stop, sent) = (dir.to_owned(), Arc::clone(&stop), Arc::clone(&sent));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let done = tool("mosquitto_pub")
                    .current_dir(&dir)
                    .args(["-h", "localhost", "-p", &port, "--cafile", "ca.pem", "-q", "1", "-t", "comes", "-m", "x"])
                    .output()
                    .expect("it runs");
                assert!(done.status.success(), "{done:?}");
                sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let serial = || {
        let said = s_client(dir, service.mqtt(), &[]);
        let (_, rest) = said.split_once("-----BEGIN CERTIFICATE-----").expect("a certificate");
        rest.split_once("-----END").expect("its end").0.to_owned()
    };
    let renew = &blocks("Certificates", "sh")[1];
    let mut seen = vec![serial()];
    for round in 0..4_u32 {
        writeln!(lines, "{round}").expect("it reads");
        shell(dir, &renew.replace("-keyout server.key", "-keyout new.key").replace("-out server.pem", "-out new.pem"));
        fs::rename(dir.join("new.key"), dir.join("server.key")).expect("renamed");
        fs::rename(dir.join("new.pem"), dir.join("server.pem")).expect("renamed");
        let reloads = service.log().matches("(changed: certificates)").count();
        service.signal("HUP");
        until("the reload", || service.log().matches("(changed: certificates)").count() > reloads);
        let now = serial();
        assert!(!seen.contains(&now), "a new certificate");
        seen.push(now);
    }
    // A broken set changes nothing.
    let good = fs::read(dir.join("server.key")).expect("a key");
    fs::write(dir.join("server.key"), "half a").expect("written");
    service.signal("HUP");
    until("the refusal", || service.log().contains("server.key: no private key in it"));
    assert_eq!(Some(&serial()), seen.last());
    let checked =
        program().args(["check", "--config"]).arg(service.dir().join("forebay.toml")).output().expect("it runs");
    assert!(!checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stdout).contains("server.key: no private key in it"));
    fs::write(dir.join("server.key"), good).expect("written");

    stop.store(true, Ordering::Relaxed);
    coming.join().expect("nobody was refused");
    writeln!(lines, "last").expect("it reads");
    drop(lines);
    assert!(staying.wait().expect("its end").success(), "it was never disconnected");
    let (comes, stays) = (sent.load(Ordering::Relaxed) as usize, ["0", "1", "2", "3", "last"]);
    until("all to be in Kafka", || texts(service.embedded(), "all").len() == comes + stays.len());
    let mut found = texts(service.embedded(), "all");
    found.retain(|text| text != "x");
    assert_eq!(found, stays);
    assert!(comes > 3);
}

#[test]
fn a_certificate_that_expires_soon_is_an_event_and_a_new_one_is_quiet() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    shell(dir, "cp server.pem long.pem");
    let sign =
        "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 5 -copy_extensions copy";
    shell(dir, &format!("{sign} -out server.pem"));
    let service = service(&open_listener(dir, ""));
    let said = || service.log().matches("certificate_expiring").count();
    until("the event", || service.log().contains("server.pem\" days="));
    shell(dir, "cp server.pem short.pem; cp long.pem server.pem");
    service.signal("HUP");
    until("the reload", || service.log().contains("(changed: certificates)"));
    assert_eq!(said(), 1, "{}", service.log());
    // Back: another certificate with the same file is said again.
    shell(dir, "cp short.pem server.pem");
    service.signal("HUP");
    until("the second event", || said() == 2);
    // One that cannot be used is an event, too, and the old one stays.
    shell(dir, "echo nothing > server.pem");
    service.signal("HUP");
    until("the refusal", || service.log().contains("reload_failed"));
    let events = service.get("/api/v1/events?kind=reload_failed").expect("events").1;
    assert!(events.contains("server.pem"), "{events}");
    assert!(publish(&service, dir, &["-m", "x"]).status.success());
}
