//! TLS to a real Kafka: one way, mutual, with each login while sessions end every five seconds; and what is wrong, as an operator
//! sees it.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use forebay::mqtt::packet::{QoS, Version};

use crate::device::{Device, Heard, puback};
use crate::process::{metric, until};
use crate::records::{read, read_when};
use crate::sasl::{by_password, publish_for, secret, token};
use crate::support::kafka::Kafka;
use crate::support::service::{Service, config, config_with, program};
use crate::support::{temp_dir, tool};

/// A cluster, its addresses by the listener's name, and the directory of its certificates.
struct Secured {
    kafka: Kafka,
    env: String,
}

impl Secured {
    fn start(options: &[&str]) -> Self {
        tool("openssl");
        let kafka = Kafka::start(&[&["--tls", "--sasl"], options].concat());
        let env = kafka.command(&["env"]);
        Self { kafka, env }
    }

    fn of(&self, name: &str) -> String {
        let line = self.env.lines().find_map(|line| line.strip_prefix(&format!("KAFKA_{name}=")));
        line.expect("a line of env").to_owned()
    }

    fn file(&self, name: &str) -> String {
        format!("{}/tls/{name}", self.of("DIR"))
    }

    fn plain(&self) -> SocketAddr {
        self.kafka.bootstrap().parse().expect("an address")
    }

    /// `[kafka.NAME.tls]`, and a sink for what is published below the name.
    fn cluster(&self, name: &str, listener: &str, tls: &str) -> String {
        format!(
            "[[sink]]\nname = \"{name}\"\nkafka = \"{name}\"\nfilters = [\"{name}/#\"]\ntopic = \"{name}\"\n\
             [kafka.{name}]\nbootstrap = \"{}\"\n[kafka.{name}.tls]\nca_file = \"{}\"\n{tls}\n",
            self.of(listener),
            self.file("ca.pem")
        )
    }

    fn identity(&self) -> String {
        format!("cert_file = \"{}\"\nkey_file = \"{}\"", self.file("client.pem"), self.file("client.key"))
    }
}

/// X60: messages over every kind of listener with TLS, large ones among them. Sessions end every five seconds. Nothing is lost,
/// doubled or out of order, and no connection fails.
#[test]
fn tls_one_way_and_mutual_and_every_login() {
    let kafka = Secured::start(&["--config", "connections.max.reauth.ms=5000"]);
    let dir = temp_dir();
    let password = secret(dir.path(), "password", "forebay-test-password\n");
    let token = secret(dir.path(), "token", &token(3_600));
    let by_password = |mechanism| by_password(mechanism, &password).replace("insecure = true", "");
    let login = |name: &str, sasl: &str| {
        let tls = kafka.cluster(name, "SASLTLS", "server_name = \"localhost\"");
        format!("{tls}[kafka.{name}.sasl]\n{sasl}\n")
    };
    let all = [
        ("one-way", kafka.cluster("one-way", "TLS", "")),
        ("mutual", kafka.cluster("mutual", "MTLS", &kafka.identity())),
        ("plain", login("plain", &by_password("PLAIN"))),
        ("scram", login("scram", &by_password("SCRAM-SHA-512"))),
        ("bearer", login("bearer", &format!("mechanism = \"OAUTHBEARER\"\ntoken_file = \"{token}\""))),
    ];
    all.iter().for_each(|(name, _)| kafka.kafka.create_topic(name, 4));
    // E60: a source reads over TLS, too.
    let back = "[[sink]]\nname = \"back\"\nkafka = \"one-way\"\nfilters = \"back/in\"\ntopic = \"back\"\n\
        [[source]]\nname = \"back\"\nkafka = \"one-way\"\ntopic = \"back\"\nmqtt_topic = \"back/out\"\npayload = \"${value}\"\n\
        offset_reset = \"earliest\"\n";
    kafka.kafka.create_topic("back", 1);
    let clusters: String = all.iter().map(|(_, of)| of.as_str()).chain([back]).collect();
    let service = Service::start(&config_with("shards = 2", &clusters));
    let mut reader = Device::connect(service.mqtt(), Version::V5, "reader");
    assert_eq!(reader.subscribe(&[("back/out", QoS::AtMostOnce)]), [0]);
    reader.deliver(1, "back/in", b"there and back");
    assert_eq!(reader.hear(), Heard::Message(0, 0, "back/out".to_owned(), b"there and back".to_vec()));
    let names = all.each_ref().map(|(name, _)| *name);
    let payload = |n: u32| format!("{n} {}", "x".repeat(if n.is_multiple_of(50) { 100_000 } else { 100 }));
    let count = publish_for(Duration::from_secs(12), &service, &names, payload);
    for (name, _) in &all {
        let came = read_when(kafka.plain(), name, count as usize);
        let came: Vec<&str> = came.iter().map(|record| record.text()).collect();
        assert!(
            came.iter().zip(0..).all(|(text, n)| **text == payload(n)) && came.len() == count as usize,
            "{name}: in order, each once"
        );
    }
    assert!(metric(&service, "kafka_tls_handshakes_total") >= 10);
    for none in ["kafka_tls_failures_total", "kafka_connection_failures_total", "sink_possible_duplicates_total"] {
        assert_eq!(metric(&service, none), 0, "{none}");
    }
    let (ca, client) = (kafka.file("ca.pem"), kafka.file("client.pem"));
    let page = service.get("/metrics").expect("metrics").1;
    let expiry = |file: &str| page.contains(&format!("certificate_expiry_timestamp_seconds{{file=\"{file}\"}}"));
    assert!(expiry(&ca) && expiry(&client));
    let log = service.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// X60, X66: what an operator gets wrong: the log has a line and an event with the reason, `forebay check` fails with
/// it, messages wait, and a reload with what is right is all that it takes.
#[test]
fn what_is_wrong_is_said_and_messages_wait_for_what_is_right() {
    let kafka = Secured::start(&[]);
    let dir = temp_dir();
    let (ca, other) = (dir.path().join("ca.pem"), dir.path().join("other.pem"));
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    fs::write(&other, params.self_signed(&key).expect("a certificate").pem()).expect("written");
    fs::copy(kafka.file("ca.pem"), &ca).expect("copied");
    // A server whose certificate has expired; Kafka would not start with it.
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let expired = params.self_signed(&key).expect("a certificate").pem();
    fs::write(dir.path().join("expired.pem"), expired.clone() + &key.serialize_pem()).expect("written");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut server = tool("openssl")
        .args([
            "s_server",
            "-quiet",
            "-accept",
            &free.port().to_string(),
            "-cert",
            "expired.pem",
            "-key",
            "expired.pem",
        ])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("openssl");
    let text = |bootstrap: &str, tls: &str| {
        format!(
            "[kafka.main]\nbootstrap = \"{bootstrap}\"\n{tls}\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"
        )
    };
    let tls =
        |file: &std::path::Path, more: &str| format!("[kafka.main.tls]\nca_file = \"{}\"\n{more}", file.display());
    let (secured, mutual, plain) = (kafka.of("TLS"), kafka.of("MTLS"), kafka.of("BOOTSTRAP"));
    let wrong = [
        (text(&secured, &tls(&other, "")), "not signed by a CA that is trusted"),
        (
            text(&secured, &tls(&ca, "server_name = \"kafka.example\"")),
            "not for the DNS name kafka.example, it has the DNS name localhost, the IP address 127.0.0.1",
        ),
        (text(&free.to_string(), &tls(&dir.path().join("expired.pem"), "")), "its certificate has expired"),
        (text(&plain, &tls(&ca, "")), "this port may be one without TLS"),
        (text(&mutual, &tls(&ca, "")), "it may require a client certificate"),
    ];
    let service = Service::start(&config(&wrong[0].0));
    let file = service.dir().join("forebay.toml");
    let frame = fs::read_to_string(&file).expect("the file").replace(&wrong[0].0, "@");
    assert!(frame.contains('@'));
    let said =
        |words: &[&str]| service.log().lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    let check = || {
        let done = program().args(["check", &file.display().to_string()]).output().expect("it runs");
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    for (place, (text, words)) in wrong.iter().enumerate() {
        fs::write(&file, frame.replace('@', text)).expect("written");
        if place > 0 {
            let before = said(&["applied=\"kafka main"]);
            service.signal("HUP");
            until("the reload", || said(&["applied=\"kafka main"]) > before);
        }
        until(words, || said(&["kafka_tls_failed", "main", words]) > 0);
        let (works, output) = check();
        assert!(!works && output.contains(words) && output.contains("[kafka.main.tls]"), "{output}");
    }
    assert!(metric(&service, "kafka_tls_failures_total") >= 5);
    assert_eq!(metric(&service, "kafka_reachable"), 0);
    let events = service.get("/api/v1/events").expect("events").1;
    assert!(events.contains("kafka_tls_failed") && events.contains("TLS"), "{events}");
    // A listener with TLS, and none here.
    fs::write(&file, frame.replace('@', &text(&secured, ""))).expect("written");
    let (works, output) = check();
    assert!(!works && output.contains("add [kafka.main.tls]"), "{output}");

    device.publish(QoS::AtLeastOnce, 1, "main/x", b"first");
    device.ping();
    fs::write(&file, frame.replace('@', &text(&mutual, &tls(&ca, &kafka.identity())))).expect("written");
    service.signal("HUP");
    assert_eq!(device.hear(), puback(1));
    let (works, output) = check();
    assert!(works && output.contains("client.pem: valid for"), "{output}");
    // The same files with other contents are taken without a change of the configuration.
    let taken = said(&["applied=\"kafka main (changed: certificates)"]);
    fs::write(&ca, fs::read_to_string(&ca).expect("PEM") + &fs::read_to_string(&other).expect("PEM")).expect("written");
    service.signal("HUP");
    until("the certificates", || said(&["applied=\"kafka main (changed: certificates)"]) > taken);
    device.deliver(2, "main/x", b"second");
    let came = read(kafka.plain(), "all");
    assert_eq!(came.iter().map(|record| record.text()).collect::<Vec<_>>(), ["first", "second"]);
    server.kill().expect("ended");
    server.wait().expect("ended");
}
