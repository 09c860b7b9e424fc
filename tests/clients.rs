//! Real MQTT clients publish through the service into its embedded log; stock Kafka clients read it back.
//!
//! The clients are the libraries and programs that people use: Eclipse Paho, mqtt.js, rumqttc, mosquitto_pub, each in every MQTT version
//! and QoS that it speaks. `tests/python/smoke.py` drives them and judges what kcat and confluent-kafka read. `tests/python/matrix.py`
//! judges what subscribers get: these libraries, aiomqtt, gmqtt and mosquitto_sub, over every transport. `tests/python/interop.py` has one
//! case for each thing that a client and a service can do together. `tests/python/bridges.py` has a real mosquitto as a bridge.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::browser::Browser;
use support::certificates::{certificates, listener};
use support::service::{Service, config, config_with};
use support::{cache, python, root, run, temp_dir, tool};

const FLOW: &str = r#"
[[sink]]
name = "flow"
filters = ["flow/#"]
topic = "flow"
headers = { client = "${clientid}" }
"#;

fn flow_service() -> Service {
    Service::start(&config(FLOW))
}

/// The same, whose answers say where messages stand.
fn service_with_receipts() -> Service {
    let listener = "transport = \"tcp\"\n";
    Service::start(&config(FLOW).replace(listener, &format!("{listener}receipts = true\n")))
}

fn smoke(kind: &str) {
    smoke_at(&flow_service(), kind);
}

fn smoke_at(service: &Service, kind: &str) {
    let folder = temp_dir();
    let mut program = python("smoke.py");
    program.args([kind, &service.mqtt().port().to_string(), &service.embedded().to_string()]).arg(folder.path());
    let report = run(&mut program);
    println!("{report}");
}

#[test]
fn paho() {
    smoke("paho");
}

#[test]
fn mqttjs() {
    smoke("mqttjs");
}

#[test]
fn rumqttc() {
    smoke("rumqttc");
}

#[test]
fn mosquitto_pub_line_by_line() {
    tool("mosquitto_pub");
    smoke("mosquitto");
}

const TRANSPORTS: [&str; 4] = ["tcp", "tls", "ws", "wss"];

/// Three more listeners, as the configuration begins with one over TCP.
fn other_listeners(dir: &Path) -> String {
    certificates(dir);
    TRANSPORTS[1..].iter().map(|transport| listener(transport, dir, "")).collect()
}

/// Runs a program with the CA and the port of each transport.
fn over_every_transport(service: &Service, dir: &Path, program: &str) {
    let ports = service.listeners();
    assert_eq!(ports.len(), TRANSPORTS.len());
    let ports = TRANSPORTS.iter().zip(ports).map(|(name, at)| format!("{name}={}", at.port()));
    println!("{}", run(python(program).arg(dir.join("ca.pem")).args(ports)));
}

/// Each library in every version, over every transport, publishing and subscribing at every QoS. Two shards.
#[test]
fn every_client_gets_what_every_other_publishes() {
    tool("mosquitto_sub");
    let dir = temp_dir();
    let others = other_listeners(dir.path());
    let service = Service::start(&config_with("shards = 2", &format!("{others}{FLOW}")));
    over_every_transport(&service, dir.path(), "matrix.py");
}

/// Finding S3, D2: subscribers that acknowledge only when all have come get all, whatever their sockets hold at a time. Two shards.
#[test]
fn finding_s3_d2_clients_that_acknowledge_in_batches_get_all() {
    let dir = temp_dir();
    let others = other_listeners(dir.path());
    let service = Service::start(&config_with("shards = 2", &format!("{others}{FLOW}")));
    over_every_transport(&service, dir.path(), "batches.py");
}

/// What Eclipse Paho's interoperability suite asks for, over every transport, each also byte by byte. Two shards.
#[test]
fn every_case_of_interoperability_over_every_transport() {
    let dir = temp_dir();
    let acl = dir.path().join("acl");
    fs::write(&acl, "topic readwrite #\ntopic readwrite $interop/#\ntopic deny nosubscribe\n").expect("written");
    // `interop_cases_5.py` has these numbers, too. A TLS handshake byte by byte takes its time.
    let limits = "[mqtt]\nconnect_timeout = \"2m\"\nkeep_alive_max = \"60s\"\nreceive_maximum = 20\npacket_bytes_max = \"4KiB\"\n";
    let auth = format!("[auth.any]\nchain = [\"anonymous\"]\nacl_file = {acl:?}\n");
    let others = other_listeners(dir.path());
    let config = config_with("shards = 2", &format!("{others}{limits}{auth}{FLOW}"));
    let service = Service::start(&config.replace("transport =", "auth = \"any\"\ntransport ="));
    over_every_transport(&service, dir.path(), "interop.py");
}

/// Findings M1 and M2: mosquitto as a bridge in each version and direction, with messages at each QoS and retained ones that change, over
/// stops and crashes of either end.
#[test]
fn mosquitto_as_a_bridge_passes_on_what_there_is_whatever_stops() {
    let dir = temp_dir();
    let program = env!("CARGO_BIN_EXE_forebay");
    println!("{}", run(python("bridges.py").env("FOREBAY_BINARY", program).arg(dir.path())));
}

#[test]
fn every_client_takes_answers_with_receipts() {
    tool("mosquitto_pub");
    for kind in ["paho", "mqttjs", "rumqttc", "mosquitto"] {
        smoke_at(&service_with_receipts(), kind);
    }
}

#[test]
fn paho_reads_where_its_messages_stand() {
    let service = service_with_receipts();
    let said = run(python("receipts.py").args([&service.mqtt().port().to_string(), "200"]));
    let mut said: Vec<String> = said.lines().map(str::to_owned).collect();
    said.sort();
    assert_eq!(said.len(), 200);
    assert_eq!(said, kcat(&service, "flow", "%t %p %o %s\n"));
}

fn mosquitto_pub(service: &Service) -> Command {
    let mut command = tool("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &service.mqtt().port().to_string()]);
    command
}

/// All records of a topic as kcat prints them by `format`, one line each, sorted.
fn kcat(service: &Service, topic: &str, format: &str) -> Vec<String> {
    let mut command = tool("kcat");
    command.args([
        "-C",
        "-q",
        "-e",
        "-o",
        "beginning",
        "-b",
        &service.embedded().to_string(),
        "-t",
        topic,
        "-f",
        format,
    ]);
    let mut lines: Vec<String> = run(&mut command).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn one_message_from_the_command_line_in_every_version_and_qos() {
    let service = flow_service();
    let mut expected = Vec::new();
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for qos in ["1", "2"] {
            let (client, topic) = (format!("{version}-{qos}"), format!("flow/{version}/{qos}"));
            run(mosquitto_pub(&service).args(["-i", &client, "-V", version, "-q", qos, "-t", &topic, "-m", "21.5"]));
            expected.push(format!("client={client} {topic} 21.5"));
        }
    }
    expected.sort();
    assert_eq!(kcat(&service, "flow", "%h %k %s\n"), expected);
}

#[test]
fn user_properties_become_headers_in_order_with_duplicates() {
    let service = flow_service();
    let mut publish = mosquitto_pub(&service);
    publish.args(["-i", "one", "-V", "mqttv5", "-q", "1", "-t", "flow/one", "-m", "21.5"]);
    for (name, value) in [("unit", "C"), ("site", "north"), ("unit", "K")] {
        publish.args(["-D", "publish", "user-property", name, value]);
    }
    run(&mut publish);
    let lines = kcat(&service, "flow", "%h\n");
    let headers: Vec<&str> = lines.iter().flat_map(|line| line.split(',')).collect();
    let from_device: Vec<&str> = headers.iter().copied().filter(|header| !header.starts_with("client=")).collect();
    assert_eq!(from_device, ["unit=C", "site=north", "unit=K"]);
    assert!(headers.contains(&"client=one"), "{headers:?}");
}

#[test]
fn bytes_of_every_value_arrive_untouched() {
    let service = flow_service();
    let folder = temp_dir();
    let file = folder.path().join("payload");
    let payload: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    fs::write(&file, &payload).expect("the payload can be written");
    run(mosquitto_pub(&service).args(["-i", "one", "-q", "2", "-t", "flow/one"]).arg("-f").arg(&file));
    let mut read = tool("kcat");
    read.args(["-C", "-q", "-e", "-o", "beginning", "-b", &service.embedded().to_string(), "-t", "flow", "-f", "%s"]);
    let got = read.output().expect("kcat runs");
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert!(got.stdout == payload, "{} bytes came back of {}, or others", got.stdout.len(), payload.len());
}

#[test]
fn acknowledged_messages_survive_kill_9_and_a_restart() {
    let mut service = flow_service();
    run(mosquitto_pub(&service).args(["-i", "one", "-q", "1", "-t", "flow/one", "-m", "before"]));
    service.kill9();
    service.start_again();
    run(mosquitto_pub(&service).args(["-i", "one", "-q", "1", "-t", "flow/one", "-m", "after"]));
    assert_eq!(kcat(&service, "flow", "%o %s\n"), ["0 before", "1 after"]);
    assert!(service.terminate().success());
}

/// `python3 -m http.server` with the files of a folder, as the README has it.
struct Pages(Child, u16);

impl Pages {
    fn of(folder: &Path) -> Self {
        let mut command = tool("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("its first line");
        let port = line.split_once(" port ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        Self(child, port.unwrap_or_else(|| panic!("no port in {line:?}")))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The page of the README in a browser, with its configuration: the same message in mosquitto_sub, in the page and in the log, and one
/// that the page publishes.
#[test]
fn a_page_in_a_browser_shows_messages_and_publishes() {
    let (examples, pages) = (root().join("examples"), temp_dir());
    fs::copy(examples.join("page.html"), pages.path().join("page.html")).expect("the page");
    std::os::unix::fs::symlink(cache().join("node/node_modules"), pages.path().join("node_modules")).expect("a link");
    let listeners = fs::read_to_string(examples.join("page.toml")).expect("its configuration");
    let listeners = listeners.replace(":1883", ":0").replace(":8083", ":0");
    let plain = "[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"tcp\"\n";
    let service = Service::start(&config("").replace(plain, &listeners));
    let [_, ws] = service.listeners()[..] else { panic!("{:?}", service.listeners()) };

    let server = Pages::of(pages.path());
    let url = format!("http://127.0.0.1:{}/page.html?url=ws://127.0.0.1:{}/mqtt", server.1, ws.port());
    let mut page = Browser::open(&url);
    page.shows("subscribed");
    let mut subscribe = tool("mosquitto_sub");
    subscribe.args(["-h", "127.0.0.1", "-p", &service.mqtt().port().to_string()]);
    subscribe.args(["-q", "1", "-t", "plant/+/temp", "-C", "1", "-W", "30", "-v"]);
    let subscriber = subscribe.stdout(Stdio::piped()).spawn().expect("mosquitto_sub runs");
    let deadline = Instant::now() + Duration::from_secs(30);
    while service.metric("forebay_subscriptions") != Some(2.0) {
        assert!(Instant::now() < deadline, "two clients have not subscribed");
        std::thread::sleep(Duration::from_millis(50));
    }

    run(mosquitto_pub(&service).args(["-q", "1", "-t", "plant/7/temp", "-m", "21.5"]));
    let heard = subscriber.wait_with_output().expect("it ends").stdout;
    assert_eq!(String::from_utf8_lossy(&heard), "plant/7/temp 21.5\n");
    page.shows("plant/7/temp 21.5");

    page.evaluate("document.querySelector('button').click()");
    page.shows("plant/9/temp 20.5");
    // Subscribers do not wait for the log.
    let read = || kcat(&service, "mqtt-messages", "%k: %s\n");
    let deadline = Instant::now() + Duration::from_secs(30);
    while read().len() < 2 {
        assert!(Instant::now() < deadline, "the log has {:?}", read());
    }
    assert_eq!(read(), ["plant/7/temp: 21.5", "plant/9/temp: 20.5"]);
}
