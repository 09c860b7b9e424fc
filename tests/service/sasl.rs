//! Logging in to a real Kafka by SASL: every mechanism, sessions that Kafka ends every five seconds, passwords that are
//! wrong and passwords that change; and no secret in anything that is said.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay::mqtt::packet::{QoS, Version};

use crate::device::{Device, puback};
use crate::process::{ledger, metric, until};
use crate::records::{read, read_when};
use crate::support::kafka::Kafka;
use crate::support::service::{Service, config, config_with, program};
use crate::support::{run, temp_dir};

/// The user that `scripts/kafka start --sasl` makes.
const USER: &str = "forebay";
const PASSWORD: &str = "forebay-test-password";

pub(crate) fn kafka(options: &[&str]) -> (Kafka, String) {
    let kafka = Kafka::start(&[&["--sasl"], options].concat());
    let env = kafka.command(&["env"]);
    let sasl = env.lines().find_map(|line| line.strip_prefix("KAFKA_SASL=")).expect("a listener with SASL").to_owned();
    (kafka, sasl)
}

pub(crate) fn plain(kafka: &Kafka) -> SocketAddr {
    kafka.bootstrap().parse().expect("an address")
}

/// A file that only its owner may read.
pub(crate) fn secret(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    path.display().to_string()
}

/// A token that nobody has signed, as Kafka takes it where nothing else is configured.
pub(crate) fn token(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = format!("{{\"sub\":\"{USER}\",\"iat\":{now},\"exp\":{}}}", now + seconds);
    format!("{}.{}.", URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"), URL_SAFE_NO_PAD.encode(claims))
}

/// A cluster of this name, and a sink of the same name for what is published below it.
fn cluster(name: &str, bootstrap: &str, sasl: &str) -> String {
    format!(
        "[kafka.{name}]\nbootstrap = \"{bootstrap}\"\n[kafka.{name}.sasl]\n{sasl}\n\
         [[sink]]\nname = \"{name}\"\nkafka = \"{name}\"\nfilters = [\"{name}/#\"]\ntopic = \"{name}\"\n"
    )
}

pub(crate) fn by_password(mechanism: &str, file: &str) -> String {
    format!("mechanism = \"{mechanism}\"\nusername = \"{USER}\"\npassword_file = \"{file}\"\ninsecure = true")
}

/// A device for each of these topics publishes numbered messages to it at QoS 1 for so long, twenty at a time, and hears an answer
/// to each. How many there were of each topic.
pub(crate) fn publish_for(time: Duration, service: &Service, topics: &[&str], payload: impl Fn(u32) -> String) -> u32 {
    let id = |n: u32| u16::try_from(n % 60_000).expect("small") + 1;
    let mut devices: Vec<_> =
        topics.iter().map(|topic| (*topic, Device::connect(service.mqtt(), Version::V5, topic))).collect();
    let (end, mut count) = (Instant::now() + time, 0_u32);
    while Instant::now() < end {
        for (topic, device) in &mut devices {
            for n in count..count + 20 {
                device.publish(QoS::AtLeastOnce, id(n), &format!("{topic}/x"), payload(n).as_bytes());
            }
        }
        for (_, device) in &mut devices {
            (count..count + 20).for_each(|n| assert_eq!(device.hear(), puback(id(n))));
        }
        count += 20;
        std::thread::sleep(Duration::from_millis(20));
    }
    count
}

/// X61, X64: Kafka wants every session renewed within five seconds, and ends the connection of one that is not. Under
/// load nothing is lost, doubled or out of order, and no connection fails.
#[test]
fn every_mechanism_and_sessions_that_end_every_five_seconds() {
    let (kafka, sasl) = kafka(&["--config", "connections.max.reauth.ms=5000"]);
    let dir = temp_dir();
    let password = secret(dir.path(), "password", &format!("{PASSWORD}\n"));
    let token = secret(dir.path(), "token", &token(3_600));
    let all = [
        ("plain", by_password("PLAIN", &password)),
        ("scram-256", by_password("SCRAM-SHA-256", &password)),
        ("scram-512", by_password("SCRAM-SHA-512", &password)),
        ("bearer", format!("mechanism = \"OAUTHBEARER\"\ntoken_file = \"{token}\"\ninsecure = true")),
    ];
    all.iter().for_each(|(name, _)| kafka.create_topic(name, 4));
    let clusters: String = all.iter().map(|(name, of)| cluster(name, &sasl, of)).collect();
    let service = Service::start(&config_with("shards = 2", &clusters));
    let names = all.each_ref().map(|(name, _)| *name);
    let count = publish_for(Duration::from_secs(16), &service, &names, |n| n.to_string());
    for (name, _) in &all {
        let came = read_when(plain(&kafka), name, count as usize);
        let came: Vec<&str> = came.iter().map(|record| record.text()).collect();
        assert!(came.iter().enumerate().all(|(n, text)| *text == n.to_string()), "{name}: in order, each once");
        let logins = |result: &str| {
            let page = service.get("/metrics").expect("metrics").1;
            let of = |line: &&str| {
                let is_it = [format!("kafka=\"{name}\""), format!("result=\"{result}\"")];
                line.starts_with("forebay_kafka_logins_total{") && is_it.iter().all(|part| line.contains(part))
            };
            let value = |line: &str| line.rsplit_once(' ').expect("a value").1.parse::<f64>().expect("a number");
            page.lines().filter(of).map(value).sum::<f64>() as u64
        };
        // Three rounds of each connection: one for metadata, one for Produce.
        assert!(logins("accepted") >= 8, "{name}: {}", logins("accepted"));
        assert_eq!(logins("refused"), 0, "{name}");
    }
    assert_eq!(metric(&service, "kafka_connection_failures_total"), 0);
    assert_eq!(metric(&service, "sink_possible_duplicates_total"), 0);
    let log = service.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// X65: a password that is wrong, and one that is changed on the broker while the service runs: messages wait, the
/// reason is said, also where somebody looks at the sink (finding K10), and a reload is all that it takes.
#[test]
fn a_wrong_password_is_said_and_messages_wait_for_the_right_one() {
    let (kafka, sasl) = kafka(&["--config", "connections.max.reauth.ms=3000"]);
    let dir = temp_dir();
    let password = secret(dir.path(), "password", "wrong-test-password");
    let text = config(&cluster("main", &sasl, &by_password("SCRAM-SHA-512", &password)));
    let service = Service::start(&text);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.publish(QoS::AtLeastOnce, 1, "main/x", b"first");
    device.ping();
    let said = |service: &Service, words: &[&str]| {
        service.log().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    };
    until("the event", || said(&service, &["kafka_login_refused"]) > 0);
    let words = ["kafka_login_refused", "user=\"forebay\"", "SCRAM-SHA-512", "invalid credentials", "code=58"];
    assert_eq!(said(&service, &words), 1, "{}", service.log());
    assert_eq!(ledger(&service), [1, 0, 0, 1]);
    assert!(metric(&service, "kafka_logins_total{result=\"refused\"}") > 0);
    assert_eq!(metric(&service, "kafka_reachable"), 0);
    assert_eq!(metric(&service, "kafka_broker_unreachable{kafka=\"main\""), 1);
    let sinks = service.get("/api/v1/sinks").expect("sinks").1;
    assert!(sinks.contains("login by SCRAM-SHA-512 was refused"), "{sinks}");
    let file = service.dir().join("forebay.toml").display().to_string();
    let check = program().args(["check", &file]).output().expect("it runs");
    let mut output = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(
        !check.status.success() && output.contains("the login of forebay by SCRAM-SHA-512 was refused"),
        "{output}"
    );
    let topics = program().args(["topics", "create", "--config", &file]).output().expect("it runs");
    output += &String::from_utf8_lossy(&topics.stdout);
    assert!(!topics.status.success(), "{output}");

    let reload = |service: &Service, to: &str| {
        fs::write(&password, to).expect("written");
        let before = said(service, &["applied=\"kafka main (changed: sasl)"]);
        service.signal("HUP");
        until("the reload", || said(service, &["applied=\"kafka main (changed: sasl)"]) > before);
    };
    reload(&service, PASSWORD);
    assert_eq!(device.hear(), puback(1));
    until("the end of it", || said(&service, &["kafka_broker_reachable"]) == 1);
    assert!(!service.get("/metrics").expect("metrics").1.contains("kafka_broker_unreachable{"));
    output += &run(program().args(["check", &file]));

    // On the broker first, as an operator has to: what is logged in stays so until its session ends.
    let other = "another-test-password";
    let add = format!("SCRAM-SHA-512=[password={other}]");
    kafka.command(&["configs", "--alter", "--entity-type", "users", "--entity-name", USER, "--add-config", &add]);
    until("the session to end", || said(&service, &["kafka_login_refused"]) > 1);
    device.publish(QoS::AtLeastOnce, 2, "main/x", b"second");
    device.ping();
    reload(&service, other);
    assert_eq!(device.hear(), puback(2));
    device.deliver(3, "main/x", b"third");
    let came = read(plain(&kafka), "main");
    assert_eq!(came.iter().map(|record| record.text()).collect::<Vec<_>>(), ["first", "second", "third"]);

    // Nothing that anybody can read has one of the passwords.
    output += &service.log();
    for path in ["/metrics", "/api/v1/config", "/api/v1/events", "/api/v1/status", "/api/v1/clusters"] {
        output += &service.get(path).expect(path).1;
    }
    assert!(output.contains("SCRAM-SHA-512") && output.contains("kafka_login_refused"), "{output}");
    for password in ["wrong-test-password", PASSWORD, other] {
        assert!(!output.contains(password), "{password} in {output}");
    }
}
