//! `[broker]`: copies of retained messages in their topic, where it gets more partitions, and where messages expire.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay::mqtt::packet::{Packet, Publish, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};

use crate::broker::{Names, until_read};
use crate::broker_trouble::topics;
use crate::device::{Device, properties, puback, publish};
use crate::process::{until, until_metric};
use crate::support::service::{Service, config};

/// Publishes a retained message at QoS 1 with these properties.
fn retain(publisher: &mut Device, topic: &str, payload: &str, properties: &PropertyBuf) {
    let of = publish(QoS::AtLeastOnce, 1, topic, payload.as_bytes());
    publisher.say(&Packet::Publish(Publish { retain: true, properties: properties.as_properties(), ..of }));
    assert_eq!(publisher.hear(), puback(1));
}

/// The last record of each key in each partition of the topic: whether it is a message, and no tombstone.
fn copies(names: &Names) -> BTreeMap<(String, String), bool> {
    let output = names.kcat(&["-C", "-t", &names.retained, "-o", "beginning", "-e", "-f", "%p %k %S\n"]).output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let copy = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        Some(((words.next()?, words.next()?), words.next()? != "-1"))
    };
    text.lines().filter_map(copy).collect()
}

fn messages(names: &Names) -> usize {
    copies(names).values().filter(|is_message| **is_message).count()
}

/// The topic gets more partitions, so keys have others than before. What is cleared then is cleared where its copy is.
#[test]
fn finding_q61_what_is_cleared_does_not_come_back_after_the_topic_has_got_partitions() {
    let names = Names::new("grown");
    let mut service = Service::start(&config(&names.config("")));
    let none = PropertyBuf::new();
    let all: Vec<String> = (0..24).map(|number| format!("r/{number}")).collect();
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    all.iter().for_each(|topic| retain(&mut publisher, topic, "kept", &none));
    until("their copies to be there", || messages(&names) == 24);
    topics(&names, &["--alter", "--topic", &names.retained, "--partitions", "7"]);
    assert!(service.terminate().success());
    service.start_again();
    until_metric(&service, "retained_messages", 24);
    until_read(&service);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    // One has a newer message by then, in its new partition.
    retain(&mut publisher, &all[0], "newer", &none);
    all.iter().for_each(|topic| retain(&mut publisher, topic, "", &none));
    until_metric(&service, "retained_messages", 0);
    until("a tombstone wherever a copy is", || messages(&names) == 0);
}

/// A retained message that expires ends in Kafka as well: while the process runs, and if it expires while none does.
#[test]
fn finding_q62_what_expires_ends_in_kafka() {
    let names = Names::new("expires");
    let mut service = Service::start(&config(&names.config("")));
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    until_read(&service);
    retain(&mut publisher, "short", "gone soon", &properties([Property::MessageExpiryInterval(2)]));
    retain(&mut publisher, "renewed", "old", &properties([Property::MessageExpiryInterval(2)]));
    retain(&mut publisher, "renewed", "new", &PropertyBuf::new());
    until("the copies to be there", || copies(&names).len() == 2);
    until("a tombstone", || messages(&names) == 1);
    // The younger message does not expire.
    retain(&mut publisher, "away", "gone meanwhile", &properties([Property::MessageExpiryInterval(3)]));
    until("the copy to be there", || messages(&names) == 2);
    service.kill9();
    std::thread::sleep(Duration::from_secs(4));
    service.start_again();
    until("a tombstone", || messages(&names) == 1);
    until_metric(&service, "retained_messages", 1);
}

/// `expire_after` counts from the message, whatever starts come in between.
#[test]
fn finding_q62_expire_after_goes_on_over_a_start() {
    let names = Names::new("expire-after");
    let mut service = Service::start(&config(&names.config("[retained]\nexpire_after = \"12s\"\n")));
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    until_read(&service);
    retain(&mut publisher, "a", "x", &PropertyBuf::new());
    until("the copy to be there", || messages(&names) == 1);
    std::thread::sleep(Duration::from_secs(7));
    service.kill9();
    service.start_again();
    let begin = Instant::now();
    until("a tombstone", || messages(&names) == 0);
    until_metric(&service, "retained_messages", 0);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}
