//! `[[source]]` through the built program, as far as it needs no Kafka: the API, the file, the environment and `forebay check`.

use forebay::mqtt::packet::{QoS, Version};
use serde_json::json;

use crate::change::{change, get};
use crate::device::{Device, Heard};
use crate::support::service::{Service, config};

/// Rows E58, E59, E65, E66, E68, E77 and F9: a source is added, changed, paused and removed by the API; a circle is refused there as at a start.
#[test]
fn a_source_by_the_api_is_checked_as_one_in_the_file() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"back\"\n"));
    let keys = json!({ "topic": { "testtopic-out": "t/1" }, "description": "Commands", "qos": "${headers.mqtt-qos}", "offset_reset": "-1h" });
    let (status, done) = change(&service, "PUT", "sources/commands", &keys);
    assert_eq!((status, &done["applied"]), (201, &json!(["source commands (added)"])), "{done}");
    let shown = get(&service, "config")["source"][0].clone();
    assert_eq!(
        (&shown["topic"], &shown["group"], &shown["offset_reset"], &shown["payload"]),
        (&json!({ "testtopic-out": "t/1" }), &json!("forebay-commands"), &json!("-3600s"), &json!("${.}"))
    );
    // What is shown can be sent back, and is no change.
    let (status, done) = change(&service, "PUT", "sources/commands", &shown);
    assert_eq!((status, &done["applied"]), (200, &json!([])), "{done}");
    let (status, done) = change(&service, "POST", "sources/commands/pause", &json!(null));
    assert_eq!((status, &done["applied"]), (200, &json!(["source commands (changed: paused)"])), "{done}");
    let (_, done) = change(&service, "POST", "sources/commands/resume", &json!(null));
    assert_eq!(done["applied"], json!(["source commands (changed: paused)"]));
    let circle = json!({ "topic": "back", "mqtt_topic": "a/b", "feeds": ["subscribers", "sinks"] });
    let (status, refused) = change(&service, "PUT", "sources/around", &circle);
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && detail.contains("sink all can write messages of a/b to Kafka topic back"), "{refused}");
    let twice = json!({ "topic": "testtopic-out", "mqtt_topic": "a/b" });
    let (status, refused) = change(&service, "PUT", "sources/twice", &twice);
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && detail.contains("\"testtopic-out\" is read by another source too"), "{refused}");
    // E59.
    let named = json!({ "topic": "a", "mqtt_topic": "b" });
    assert_eq!(change(&service, "PUT", "sources/my-kafka-source", &named).0, 201);
    assert_eq!(change(&service, "DELETE", "sources/my-kafka-source", &json!(null)).0, 200);
    let (status, refused) = change(&service, "PUT", "sources/my%20source", &named);
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && detail.contains("name"), "{refused}");
    assert_eq!(
        change(&service, "DELETE", "sources/commands", &json!(null)).1["applied"],
        json!(["source commands (removed)"])
    );
    assert_eq!(get(&service, "config")["source"], json!([]));
    assert_eq!(change(&service, "POST", "sources/commands/pause", &json!(null)).0, 404);
}

/// Row E61 as far as Kafka is not asked: `forebay check` reads the environment, names the source, and refuses a circle.
#[test]
fn a_check_names_sources_and_refuses_circles() {
    let dir = crate::support::temp_dir();
    let file = dir.path().join("forebay.toml");
    let text = "[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n[[source]]\nname = \"s\"\ntopic = \"t\"\nmqtt_topic = \"m/${key}\"\n\
                feeds = [\"subscribers\", \"sinks\"]\n[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"u\"\n";
    std::fs::write(&file, text).expect("written");
    let check = |variable: (&str, &str)| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["check", "--offline"]).arg(&file).env(variable.0, variable.1);
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (status, said) = check(("FOREBAY_SOURCE_0_GROUP", "g"));
    assert!(status == Some(0) && said.contains("t to m/${key}; group g") && said.contains("1 source"), "{said}");
    let (status, said) = check(("FOREBAY_SINK_0_TOPIC", "t"));
    assert!(status == Some(2) && said.contains("records of source s would come back without end: sink all"), "{said}");
    let (status, said) = check(("FOREBAY_SOURCE_0_PAYLOAD", "${vlaue}"));
    assert!(
        status == Some(2)
            && said.contains("FOREBAY_SOURCE_0_PAYLOAD: unknown variable `${vlaue}`; did you mean `${value}`?"),
        "{said}"
    );
}

/// A cluster that is there to be read needs no sink: what devices publish goes to subscribers.
#[test]
fn with_a_source_there_need_not_be_a_sink() {
    let kafka = Service::start(&config(""));
    let source = "[[source]]\nname = \"s\"\ntopic = \"t\"\nmqtt_topic = \"m\"\n";
    let service = Service::start(&config(&format!("[kafka.main]\nbootstrap = \"{}\"\n{source}", kafka.embedded())));
    assert_eq!(get(&service, "config")["sink"], json!([]));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.subscribe(&[("a", QoS::AtMostOnce)]);
    device.publish(QoS::AtLeastOnce, 1, "a", b"x");
    let heard = device.hear_all(2);
    assert!(heard.contains(&Heard::Message(0, 0, "a".to_owned(), b"x".to_vec())), "{heard:?}");
    let (status, done) = change(&service, "PUT", "sinks/all", &json!({ "filters": "#", "topic": "all" }));
    assert_eq!((status, &done["applied"]), (201, &json!(["sink all (added)"])), "{done}");
    device.deliver(2, "b", b"y");
}
