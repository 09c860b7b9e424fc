//! Rows of the guides to sources that no other test is about: where a source begins, how much it reads at a time, and requests that a Kafka
//! program answers.

use std::io::Write as _;
use std::process::Stdio;

use forebay::mqtt::packet::{Packet, Publish, QoS, Version};
use forebay::mqtt::property::Property;

use crate::change::{change, get};
use crate::device::{Device, properties, puback, publish};
use crate::process::{until, until_metric};
use crate::records::read_when;
use crate::sources::{committed, make_topic, next, source, subscriber, write};
use crate::support::service::{Service, config};
use crate::support::{root, tool};

/// E78, E79: `latest` passes over what is there when the group begins, `earliest` reads all of it.
#[test]
fn latest_begins_after_what_is_there_and_earliest_before() {
    for (reset, expected) in [("earliest", &["old", "new"][..]), ("latest", &["new"][..])] {
        let text = source("").replace("offset_reset = \"earliest\"", &format!("offset_reset = \"{reset}\""));
        let mut service = Service::start(&config(&text.replace("[[source]]", "[[source]]\npaused = true")));
        make_topic(&service);
        write(service.embedded(), "commands", &["old"]);
        let file = service.dir().join("forebay.toml");
        let resumed = std::fs::read_to_string(&file).expect("the file").replace("paused = true\n", "");
        std::fs::write(&file, resumed).expect("written");
        assert!(service.terminate().success());
        service.start_again();
        let mut device = subscriber(&service, Version::V5, "");
        // `latest` is where the log ends when the partition is first read.
        until("its positions to be found", || {
            let partitions = get(&service, "sources/commands")["partitions"].as_array().cloned().unwrap_or_default();
            partitions.len() == 4 && partitions.iter().all(|partition| partition["position"].is_i64())
        });
        write(service.embedded(), "commands", &["new"]);
        for wanted in expected {
            assert_eq!(next(&mut device), *wanted, "{reset}");
        }
    }
}

/// E89: `fetch_bytes` bounds what is read at a time; a record that is larger is read all the same.
#[test]
fn records_larger_than_fetch_bytes_are_read() {
    let service = Service::start(&config(&source("fetch_bytes = \"1KiB\"")));
    make_topic(&service);
    let large = ["a", "b", "c"].map(|letter| letter.repeat(20_000));
    for value in &large {
        write(service.embedded(), "commands", &[value, "small"]);
    }
    let mut device = subscriber(&service, Version::V5, "");
    for value in &large {
        assert_eq!(next(&mut device), *value);
        assert_eq!(next(&mut device), "small");
    }
}

/// E91: what subscribers have is committed once in `commit_interval`, by group, and not with each record.
#[test]
fn a_group_is_committed_once_in_an_interval() {
    let text = source("").replace("commit_interval = \"100ms\"", "commit_interval = \"10m\"");
    let service = Service::start(&config(&text));
    make_topic(&service);
    let mut device = subscriber(&service, Version::V5, "");
    let open_to_be = |count| until_metric(&service, "source_open_messages", count);
    for value in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] {
        write(service.embedded(), "commands", &[value]);
        assert_eq!(next(&mut device), value);
        open_to_be(0);
    }
    // The first may be, as nothing was committed for a while.
    assert!(committed(service.embedded(), "forebay-commands") <= 1);
    let mut keys = get(&service, "config")["source"][0].clone();
    keys["commit_interval"] = "200ms".into();
    assert_eq!(change(&service, "PUT", "sources/commands", &keys).0, 200);
    until("all to be committed", || committed(service.embedded(), "forebay-commands") == 10);
    write(service.embedded(), "commands", &["10"]);
    assert_eq!(next(&mut device), "10");
    until("that to be committed, too", || committed(service.embedded(), "forebay-commands") == 11);
}

/// The README's tour from Kafka to devices: a command waits for the device that its key names.
#[test]
fn the_readmes_command_reaches_its_device() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("a file");
    let readme = read("README.md");
    for words in [
        "--config examples/commands.toml",
        "echo '7:{\"led\":\"on\"}' | kcat -b 127.0.0.1:9092 -P -t commands -K:",
        "mosquitto_sub -h 127.0.0.1 -q 1 -t 'devices/7/commands' -v -C 1",
    ] {
        assert!(readme.contains(words), "{words}");
    }
    let service = Service::start(&config(&read("examples/commands.toml")));
    let mut kcat = tool("kcat");
    kcat.args(["-b", &service.embedded().to_string(), "-P", "-t", "commands", "-K:"]);
    let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("it runs");
    kcat.stdin.take().expect("piped").write_all(b"7:{\"led\":\"on\"}\n").expect("it reads");
    assert!(kcat.wait().expect("it ends").success());
    until_metric(&service, "source_parked_messages", 1);
    let mut sub = tool("mosquitto_sub");
    sub.args(["-h", "127.0.0.1", "-p", &service.mqtt().port().to_string(), "-q", "1", "-t", "devices/7/commands"]);
    let heard = sub.args(["-v", "-C", "1", "-W", "60"]).output().expect("it runs");
    assert_eq!(String::from_utf8(heard.stdout).expect("text"), "devices/7/commands {\"led\":\"on\"}\n");
}

/// Z24: a request of an MQTT client is answered by a program that knows Kafka only: response topic and correlation data go there and back as
/// headers.
#[test]
fn a_kafka_program_answers_the_request_of_a_device() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"requests\"\nfilters = \"requests/#\"\ntopic = \"requests\"\n\
         [[sink]]\nname = \"answers\"\nfilters = \"none\"\ntopic = \"answers\"\n\
         [[source]]\nname = \"answers\"\ntopic = \"answers\"\nmqtt_topic = \"${headers.reply-to}\"\npayload = \"${value}\"\n\
         offset_reset = \"earliest\"\n",
    ));
    let mut listener = tool("mosquitto_sub");
    listener.args([
        "-h",
        "127.0.0.1",
        "-p",
        &service.mqtt().port().to_string(),
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-C",
        "1",
        "-W",
        "60",
    ]);
    let listener =
        listener.args(["-t", "replies/asker", "-F", "%t %D %p"]).stdout(Stdio::piped()).spawn().expect("it runs");
    until_metric(&service, "subscriptions", 1);
    let mut device = Device::connect(service.mqtt(), Version::V5, "asker");
    let asked = properties([Property::ResponseTopic("replies/asker"), Property::CorrelationData(b"42")]);
    let request = publish(QoS::AtLeastOnce, 1, "requests/time", b"what time is it?");
    device.say(&Packet::Publish(Publish { properties: asked.as_properties(), ..request }));
    assert_eq!(device.hear(), puback(1));
    let request = read_when(service.embedded(), "requests", 1).remove(0);
    let header = |wanted: &str| {
        let found = request.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("{wanted} in {:?}", request.headers))
    };
    let (reply_to, correlation) = (header("mqtt-response-topic"), header("mqtt-correlation-data"));
    let mut kcat = tool("kcat");
    kcat.args(["-P", "-q", "-b", &service.embedded().to_string(), "-t", "answers"]);
    kcat.args(["-H", &format!("reply-to={reply_to}"), "-H", &format!("mqtt-correlation-data={correlation}")]);
    let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("it runs");
    kcat.stdin.take().expect("piped").write_all(b"noon\n").expect("it reads");
    assert!(kcat.wait().expect("it ends").success());
    let answer = listener.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8(answer.stdout).expect("text"), "replies/asker 42 noon\n");
}
