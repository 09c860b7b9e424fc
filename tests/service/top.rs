//! What clients publish most, and who gets the messages of a topic: by the API and by the command line.

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};
use serde_json::{Value, json};

use crate::device::{Device, Heard, hello};
use crate::process::until;
use crate::sources_admin::forebay;
use crate::support::service::{Service, config};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"plant/#\"]\nexclude = [\"plant/none\"]\ntopic = \"all\"\nvalue = \"${payload}\"\n\
                    [[rule]]\nname = \"hot\"\nsql = 'SELECT * FROM \"plant/+/temp\" WHERE payload.t > 20'\nsinks = [\"all\"]\n";

fn ask(service: &Service, path: &str) -> Value {
    let (status, body) = service.get(&format!("/api/v1/{path}")).expect("an answer");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Names, the most first.
fn names(answer: &Value, of: &str) -> Vec<String> {
    let rows = answer["top"].as_array().expect("a list").iter();
    rows.map(|row| row[of].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn what_clients_publish_most_is_told_by_topic_client_and_size() {
    let service = Service::start(&config(SINK));
    let [mut busy, mut large, mut lost] =
        ["busy", "large", "lost"].map(|id| Device::connect(service.mqtt(), Version::V5, id));
    let mut id = 0;
    let mut next = || {
        id = id % 60_000 + 1;
        id
    };
    // These are samples: what is rare comes into the lists sooner or later.
    until("all to be counted", || {
        (0..10).for_each(|_| busy.deliver(next(), "plant/7/temp", b"x"));
        large.deliver(next(), "plant/8/image", &[0; 10_000]);
        for topic in ["plnt/7/temp", "plnt/7/temp", "plnt/7/temp", "plant/none"] {
            let id = next();
            lost.publish(QoS::AtLeastOnce, id, topic, b"x");
            assert_eq!(lost.hear(), Heard::Answer(PacketType::PubAck, id, 0x10), "nobody has it");
        }
        let of = |query: &str, key: &str| names(&ask(&service, query), key);
        let mut all = of("top", "topic");
        let is_first = all.first().is_some_and(|first| first == "plant/7/temp");
        all.sort_unstable();
        is_first
            && all == ["plant/7/temp", "plant/8/image", "plant/none", "plnt/7/temp"]
            && of("top?by=bytes&limit=1", "topic") == ["plant/8/image"]
            && of("top?of=clients", "client_id").first().is_some_and(|first| first == "busy")
            && of("top?of=clients", "client_id").len() == 3
            && of("top?of=unmatched", "topic") == ["plnt/7/temp", "plant/none"]
    });
    let unwanted = ask(&service, "top?of=unmatched&by=bytes");
    assert_eq!((&unwanted["of"], &unwanted["by"]), (&json!("unmatched"), &json!("bytes")));
    let busiest = &ask(&service, "top?of=clients")["top"][0];
    assert_eq!((&busiest["auth"], &busiest["error_per_second"]), (&Value::Null, &json!(0.0)));
    assert!(busiest["per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{busiest}");
    for wrong in ["top?of=sinks", "top?by=age", "top?limit=0", "topics/match", "topics/match?topic=a/%23"] {
        assert_eq!(service.get(&format!("/api/v1/{wrong}")).expect("an answer").0, 400, "{wrong}");
    }

    let (said, is_ok) = forebay(&service, &["top", "--of", "unmatched"]);
    assert!(is_ok && said.contains("TOPIC") && said.contains("plnt/7/temp"), "{said}");
    let (said, _) = forebay(&service, &["top", "--of", "clients", "--by", "bytes", "--limit", "1"]);
    assert!(said.starts_with("BYTES/S") && said.contains("large") && !said.contains("busy"), "{said}");
}

#[test]
fn who_gets_the_messages_of_a_topic_is_told() {
    let service = Service::start_with(&config(SINK), &[], &[("FOREBAY_SERVICE_SHARDS", "2")]);
    let mut device = Device::connect_as(service.mqtt(), &Connect { ..hello(Version::V5, "sub") }).0;
    assert_eq!(device.subscribe(&[("plant/7/#", QoS::AtMostOnce), ("$share/g/plant/+/temp", QoS::AtMostOnce)]), [0, 0]);
    let matching = |topic: &str| ask(&service, &format!("topics/match?topic={topic}"));
    let all = matching("plant/7/temp");
    assert_eq!((&all["sinks"], &all["rules"], &all["subscriptions"]), (&json!(["all"]), &json!(["hot"]), &json!(2)));
    assert_eq!((&all["unmatched"], &all["more_subscriptions"]), (&json!(false), &json!(false)));
    assert_eq!(matching("plant/7/x")["subscriptions"], 1);
    let none = matching("plant/none");
    assert_eq!((&none["sinks"], &none["unmatched"]), (&json!([]), &json!(true)), "it is excluded");
    let (said, is_ok) = forebay(&service, &["topics", "match", "plant/none"]);
    assert!(is_ok && said.contains("nobody gets messages of this topic"), "{said}");
    let (said, _) = forebay(&service, &["topics", "match", "plant/7/temp"]);
    assert!(said.contains("hot") && said.contains("subscriptions  2"), "{said}");
}
