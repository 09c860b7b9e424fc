//! Logging in to a real Kafka by tokens of an identity provider (`tests/python/token_server.py`): fetched once for all shards
//! and again before they expire; a provider that refuses, lies, is slow and dies; and no secret in anything that is said.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forebay::mqtt::packet::{QoS, Version};

use crate::device::{Device, puback};
use crate::process::{metric, until};
use crate::records::read_when;
use crate::sasl::{kafka, plain, publish_for, secret};
use crate::support::certificates::certificates;
use crate::support::service::{Service, config_with, program};
use crate::support::{python, run, temp_dir};

const SECRETS: [&str; 2] = ["first-client-secret", "second-client-secret"];
const LIFE: Duration = Duration::from_secs(12);

struct Provider {
    child: Child,
    port: u16,
    given: Arc<AtomicUsize>,
}

impl Provider {
    fn start(dir: &Path, secret: &str, port: u16) -> Self {
        let mut command = python("token_server.py");
        command.args([dir.join("server.pem"), dir.join("server.key")]);
        command.args(["forebay", secret, &LIFE.as_secs().to_string(), &port.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port = lines.next().expect("a line").expect("text").parse().expect("a port");
        let given = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&given);
        std::thread::spawn(move || {
            for _ in lines {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { child, port, given }
    }

    fn be(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{word}").expect("it reads");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The configuration: a cluster `main` with a sink of that name.
fn with_provider(dir: &Path, bootstrap: &str, port: u16, secret_file: &str) -> String {
    config_with(
        "shards = 2",
        &format!(
            "[kafka.main]\nbootstrap = \"{bootstrap}\"\n[kafka.main.sasl]\nmechanism = \"OAUTHBEARER\"\ninsecure = true\n\
             token_url = \"https://localhost:{port}/token\"\ntoken_ca_file = \"{}/ca.pem\"\n\
             client_id = \"forebay\"\nclient_secret_file = \"{secret_file}\"\nscope = \"kafka\"\n\
             [[sink]]\nname = \"main\"\nkafka = \"main\"\nfilters = [\"main/#\"]\ntopic = \"main\"\n",
            dir.display()
        ),
    )
}

fn fetches(service: &Service, result: &str) -> u64 {
    metric(service, &format!("kafka_token_fetches_total{{result=\"{result}\"}}"))
}

/// X63, X70: against a provider that lies; nothing that is said has a secret.
#[test]
fn tokens_are_fetched_before_they_expire_and_a_provider_may_fail() {
    let (kafka, bootstrap) = kafka(&[]);
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let secret_file = secret(dir, "client-secret", &format!("{}\n", SECRETS[0]));
    let mut provider = Provider::start(dir, SECRETS[0], 0);
    kafka.create_topic("main", 4);
    let began = Instant::now();
    let service = Service::start(&with_provider(dir, &bootstrap, provider.port, &secret_file));
    let mut count = publish_for(Duration::from_secs(25), &service, &["main"], |n| n.to_string()) as usize;
    let (given, time) = (provider.given.load(Ordering::SeqCst), began.elapsed());
    let came = read_when(plain(&kafka), "main", count);
    assert!(came.iter().enumerate().all(|(n, record)| record.text() == n.to_string()), "in order, each once");
    let rounds = time.as_secs_f64() / LIFE.mul_f64(0.8).as_secs_f64();
    assert!(given >= 3 && (given as f64) <= rounds + 2.0, "{given} tokens in {time:?}: once for all shards");
    assert_eq!(metric(&service, "kafka_logins_total{result=\"refused\"}"), 0);
    assert!(!service.log().contains("ERROR"), "{}", service.log());

    // The secret is changed at the provider first. Messages wait until the file has the new one.
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let mut output = String::new();
    let file = service.dir().join("forebay.toml").display().to_string();
    provider.be(&format!("secret {}", SECRETS[1]));
    until("the provider to refuse", || service.log().contains("kafka_token_failed"));
    assert!(service.log().contains("it refuses: invalid_client (401)"), "{}", service.log());
    until("the token to expire", || metric(&service, "kafka_logins_total{result=\"refused\"}") > 0);
    let check = program().args(["check", &file]).output().expect("it runs");
    output += &String::from_utf8_lossy(&[check.stdout, check.stderr].concat());
    assert!(!check.status.success() && output.contains("it refuses: invalid_client (401)"), "{output}");
    device.publish(QoS::AtLeastOnce, 1, "main/x", b"waits");
    device.ping();
    fs::write(&secret_file, SECRETS[1]).expect("written");
    assert_eq!(device.hear(), puback(1));
    output += &run(program().args(["check", &file]));
    count += 1;

    for (n, fault) in ["lie", "slow", "die"].into_iter().enumerate() {
        let failed = fetches(&service, "failed");
        if fault == "die" {
            provider.child.kill().expect("it ran");
        } else {
            provider.be(fault);
        }
        until(fault, || fetches(&service, "failed") > failed);
        if fault == "die" {
            provider = Provider::start(dir, SECRETS[1], provider.port);
        }
        provider.be("good");
        let id = u16::try_from(n).expect("small") + 2;
        device.deliver(id, "main/x", fault.as_bytes());
        let fetched = fetches(&service, "fetched");
        until("a token again", || fetches(&service, "fetched") > fetched);
        count += 1;
    }
    assert_eq!(read_when(plain(&kafka), "main", count).len(), count);
    let page = service.get("/api/v1/events?limit=1000").expect("events").1;
    for said in ["no bearer token", "no answer in time", "Connection refused"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    output += &service.log();
    for path in ["/metrics", "/api/v1/config", "/api/v1/events", "/api/v1/status", "/api/v1/clusters"] {
        output += &service.get(path).expect(path).1;
    }
    assert!(output.contains("kafka_token_failed") && output.contains(&secret_file), "{output}");
    // Tokens begin with an encoded `{"alg"`.
    for word in SECRETS.into_iter().chain(["eyJhbGci"]) {
        assert!(!output.contains(word), "{word} in {output}");
    }
}
