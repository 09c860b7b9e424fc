//! Messages for kept sessions that are away: on both shards, with real clients, through kill -9 and to another number of shards.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use crate::process::until_metric;
use crate::support::service::{Service, config_with};
use crate::support::tool;

const SPOOL: &str = "[spool]\nbytes_max = \"256MiB\"\n";
const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"to/kafka/#\"]\ntopic = \"all\"\n";
/// On whichever shard each of them is, there is one on the other.
const CLIENTS: [(&str, &str, &str); 6] = [
    ("one", "mqttv311", "1"),
    ("two", "mqttv311", "2"),
    ("three", "mqttv5", "1"),
    ("four", "mqttv5", "2"),
    ("five", "mqttv31", "1"),
    ("six", "mqttv31", "2"),
];

fn sub(service: &Service, (client, version, qos): (&str, &str, &str), more: &[&str]) -> Vec<String> {
    let port = service.mqtt().port().to_string();
    let mut sub = tool("mosquitto_sub");
    sub.args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-c", "-i", client, "-q", qos, "-t", "queue/#"]);
    if version == "mqttv5" {
        sub.args(["-x", "3600"]);
    }
    let output = sub.args(more).output().expect("it runs");
    assert!(output.status.success(), "{client}: {output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Publishes each line at this QoS, and waits for all answers.
fn publish(service: &Service, qos: &str, lines: &str) {
    let port = service.mqtt().port().to_string();
    let mut publish = tool("mosquitto_pub");
    publish.args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-q", qos, "-t", "queue/a", "-l"]);
    let mut publish = publish.stdin(Stdio::piped()).spawn().expect("it runs");
    publish.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    assert!(publish.wait().expect("it ends").success());
}

fn lines(of: std::ops::Range<u32>) -> String {
    of.fold(String::new(), |mut all, number| {
        let _ = writeln!(all, "{number}");
        all
    })
}

#[test]
fn ten_thousand_messages_wait_through_kill_9_and_on_another_number_of_shards() {
    const MESSAGES: u32 = 10_000;
    let mut service = Service::start(&config_with("shards = 2", &format!("{SPOOL}{SINK}")));
    for client in CLIENTS {
        sub(&service, client, &["-E"]);
    }
    publish(&service, "1", &lines(0..5_000));
    publish(&service, "2", &lines(5_000..MESSAGES));
    service.kill9();
    service.start_again();
    // Once on each shard.
    until_metric(&service, "stored_messages", u64::from(2 * MESSAGES));
    service.kill9();
    let file = service.dir().join("forebay.toml");
    let config = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, config.replace("shards = 2", "shards = 3")).expect("written");
    service.start_again();
    for client in CLIENTS {
        let got = sub(&service, client, &["-C", "10000", "-W", "60"]);
        assert!(got == lines(0..MESSAGES).lines().collect::<Vec<_>>(), "{client:?}: {} {:?}", got.len(), got.get(..5));
    }
    until_metric(&service, "stored_messages", 0);
}
