//! The generator against the service and its embedded log, as programs: it passes what is right, and says what is wrong.

mod support;

use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::start_service;

struct Service {
    child: Child,
    folder: tempfile::TempDir,
    mqtt: String,
    log: String,
}

impl Service {
    fn start() -> Self {
        let folder = match std::env::var_os("FOREBAY_TEST_DIR") {
            Some(base) => tempfile::tempdir_in(base),
            None => tempfile::tempdir(),
        };
        let folder = folder.unwrap();
        let text = format!(
            "[service]\nshards = 2\npin = false\ndata_dir = {:?}\n[control]\nbind = \"off\"\n[[listener]]\n\
             bind = \"127.0.0.1:0\"\n[embedded]\nbind = \"127.0.0.1:0\"\n[[sink]]\nname = \"flow\"\nkafka = \"embedded\"\n\
             filters = \"flow/#\"\ntopic = \"flow-${{topic[2]}}\"\n",
            folder.path().join("data")
        );
        let child = start_service(folder.path(), &text);
        let mut service = Self { child, folder, mqtt: String::new(), log: String::new() };
        let end = Instant::now() + Duration::from_secs(60);
        while service.mqtt.is_empty() || service.log.is_empty() {
            let said = std::fs::read_to_string(service.folder.path().join("forebay.log")).unwrap();
            assert!(Instant::now() < end && service.child.try_wait().unwrap().is_none(), "the service's log:\n{said}");
            service.mqtt = address(&said, "mqtt listening on ");
            service.log = address(&said, "embedded log listening on ");
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    /// A run of 20,000 messages; its report and how it ended.
    fn flow(&self, more: &[&str]) -> (Output, Value) {
        let file = self.folder.path().join("report.json");
        let output = Command::new(env!("CARGO_BIN_EXE_forebay-bench"))
            .args(["flow", "--messages", "20000", "--clients", "24", "--window", "32", "--per-write", "4"])
            .args(["--target", &self.mqtt, "--kafka", &self.log, "--timeout", "300", "--pid"])
            .arg(format!("forebay={}", self.child.id()))
            .args(["--kafka-topic", "flow-0", "--kafka-topic", "flow-1", "--kafka-topic", "flow-2", "--json"])
            .arg(&file)
            .args(if more.contains(&"--topics") { &[][..] } else { &["--topics", "3"] })
            .args(more)
            .output()
            .unwrap();
        let text = std::fs::read_to_string(&file);
        let report = text.unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)));
        (output, serde_json::from_str(&report).unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first whole line that has an address behind `words`.
fn address(log: &str, words: &str) -> String {
    let found = log.split_inclusive('\n').filter(|line| line.ends_with('\n')).find_map(|line| line.split_once(words));
    found.map_or(String::new(), |(_, rest)| rest.split_whitespace().next().unwrap_or_default().to_owned())
}

#[test]
fn twenty_thousand_messages_with_reconnects_pass() {
    let service = Service::start();
    let (output, report) = service.flow(&["--reconnect-every", "150"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&report["sent"]["all"], &report["settled"]), (&20_000.into(), &20_000.into()));
    assert_eq!(report["clients_finished"], 24);
    let number = |part: &str, name: &str| report[part][name].as_u64().unwrap();
    assert!(number("connections", "broken_by_clients") > 50 && number("sent_again", "publish") > 0, "{report:#}");
    let counts = &report["verdict"]["counts"];
    assert_eq!(counts["QoS 2: sent"], counts["QoS 2: in Kafka"]);
    assert!(report["processes"][0]["cpu_s"].as_f64().unwrap() > 0.0);

    // The same topics once more, without breaks: what stood there before is passed over.
    let (output, report) = service.flow(&["--seed", "2", "--payload", "40"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["verdict"]["counts"]["records"], 20_000, "also every QoS 0 message, and none twice");
}

#[test]
fn what_is_not_where_it_should_be_fails_the_run() {
    let service = Service::start();
    // Records are keyed by topic; and what goes to a topic that is not looked at is lost to the judge.
    let (output, report) = service.flow(&["--key", "client", "--topics", "4"]);
    assert_eq!(output.status.code(), Some(1));
    let faults = report["verdict"]["faults"].as_object().unwrap();
    let found: Vec<&str> = faults.keys().map(String::as_str).collect();
    assert_eq!(found, ["I1: lost at QoS 0", "I1: lost at QoS 1", "I1: lost at QoS 2", "I4: wrong key"]);
}
