//! Several instances and clients whose sessions end with their connections: what such a client has sent to an instance that stood still, its will, and what is
//! retained when it connects.

use std::thread::sleep;
use std::time::Duration;

use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Version, Will};
use forebay::mqtt::property::Properties;

use crate::broker::{Names, message, next};
use crate::device::{Device, Heard, hello, puback, publish};
use crate::instances::{clients_of, connect, hour, kept, slots_of, start, until_served};
use crate::process::until;
use crate::support::service::Service;

/// A client with a kept session that gets all that is published at QoS 1.
struct Watcher {
    id: String,
    device: Device,
}

impl Watcher {
    fn new(service: &Service, id: String) -> Self {
        let (mut device, _) = connect(service, &kept(&id, &hour()));
        assert_eq!(device.subscribe(&[("state/#", QoS::AtLeastOnce)]), [1]);
        Self { id, device }
    }

    /// All messages up to that of `state/end`, over moves of its slot.
    fn until_end(&mut self, service: &Service) -> Vec<(String, String)> {
        let mut all = Vec::new();
        loop {
            match self.device.hear() {
                Heard::Message(_, packet_id, topic, payload) => {
                    self.device.try_acknowledge(forebay::mqtt::packet::PacketType::PubAck, packet_id);
                    if topic == "state/end" {
                        return all;
                    }
                    all.push((topic, String::from_utf8(payload).expect("text")));
                }
                Heard::Closed | Heard::Disconnect(_) => {
                    (self.device, _) = connect(service, &kept(&self.id, &hour()));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn retained<'a>(packet_id: u16, topic: &'a str, payload: &'a [u8]) -> Packet<'a> {
    Packet::Publish(Publish { retain: true, ..publish(QoS::AtLeastOnce, packet_id, topic, payload) })
}

/// The retained messages of these topics, as a new client gets them.
fn retained_now(service: &Service, topics: &[String]) -> Vec<(String, String)> {
    retained_for("reader", service, topics)
}

/// The retained messages of these topics, as a new client of this name gets them.
fn retained_for(id: &str, service: &Service, topics: &[String]) -> Vec<(String, String)> {
    let (mut device, _) = connect(service, &hello(Version::V5, id));
    let mut all: Vec<(String, String)> = Vec::new();
    for topic in topics {
        assert_eq!(device.subscribe_among_messages(&[(topic, QoS::AtMostOnce)]), [0]);
        all.push(next(&mut device));
    }
    all
}

/// An instance is frozen for longer than its session. Devices had published into its kernel, connect elsewhere, and publish again. When it thaws it drops what they
/// had sent, also where their sessions have ended with their connections by then.
#[test]
fn finding_q3_a_thawed_instance_publishes_nothing_of_clients_that_it_has_lost() {
    let names = Names::new("thawed");
    let [a, b] = ["a", "b"].map(|name| start(&names, name));
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let of_a = clients_of(&slots_of(&a, &names, "a"), 1).remove(0);
    let ids = clients_of(&slots_of(&a, &names, "b"), 4);
    let topics: Vec<String> = ids.iter().map(|id| format!("state/{id}")).collect();
    let mut watcher = Watcher::new(&a, of_a);
    let mut devices: Vec<Device> = Vec::new();
    for (id, topic) in ids.iter().zip(&topics) {
        let (mut device, _) = connect(&b, &hello(Version::V5, id));
        device.say(&retained(1, topic, b"first"));
        assert_eq!(device.hear(), puback(1));
        devices.push(device);
    }
    b.signal("STOP");
    sleep(Duration::from_millis(500));
    for (device, topic) in devices.iter_mut().zip(&topics) {
        device.say(&retained(2, topic, b"old"));
    }
    devices.into_iter().for_each(Device::vanish);
    until("the other one to have all", || slots_of(&a, &names, "a").len() == 64);
    for (id, topic) in ids.iter().zip(&topics) {
        let (mut device, _) = connect(&a, &hello(Version::V5, id));
        device.say(&retained(1, topic, b"new"));
        assert_eq!(device.hear(), puback(1));
        device.leave();
    }
    b.signal("CONT");
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let (mut publisher, _) = connect(&a, &hello(Version::V5, "publisher"));
    publisher.deliver(1, "state/end", b"end");
    let came = watcher.until_end(&a);
    let old: Vec<_> = came.iter().filter(|(_, payload)| payload == "old").collect();
    assert!(old.is_empty(), "behind what came after them: {came:?}");
    let new: Vec<_> = topics.iter().map(|topic| message(topic, "new")).collect();
    assert_eq!(retained_now(&a, &topics), new);
}

/// A device whose session ends with its connection, with a will that says that it is gone.
fn with_will<'a>(client_id: &'a str, topic: &'a str) -> Connect<'a> {
    let (payload, properties) = (&b"gone"[..], Properties::EMPTY);
    let will = Will { qos: QoS::AtLeastOnce, retain: true, topic, payload, properties };
    Connect { will: Some(will), ..hello(Version::V5, client_id) }
}

/// The instance of a client is killed: another one publishes its will, whether the client's session was kept or not, and it is retained.
#[test]
fn finding_q45_wills_of_sessions_that_end_with_their_connection_outlive_their_instance() {
    let names = Names::new("wills");
    let a = start(&names, "a");
    let mut b = start(&names, "b");
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let of_a = clients_of(&slots_of(&a, &names, "a"), 1).remove(0);
    let ids = clients_of(&slots_of(&a, &names, "b"), 4);
    let topics: Vec<String> = ids.iter().map(|id| format!("state/{id}")).collect();
    let mut watcher = Watcher::new(&a, of_a);
    // One takes its leave, and its will with it.
    let mut devices: Vec<Device> = Vec::new();
    for (number, (id, topic)) in ids.iter().zip(&topics).enumerate() {
        let (mut device, _) = connect(if number % 2 == 0 { &a } else { &b }, &with_will(id, topic));
        device.say(&retained(1, topic, b"there"));
        assert_eq!(device.hear(), puback(1));
        devices.push(device);
    }
    devices.pop().expect("the last one").leave();
    sleep(Duration::from_millis(500));
    b.kill9();
    devices.iter_mut().for_each(Device::until_closed);
    until_served(&names, &[("a", &a)], &[64]);
    until("the wills", || {
        let has = retained_now(&a, &topics);
        has.iter().filter(|(_, payload)| payload == "gone").count() == 3
    });
    let (mut publisher, _) = connect(&a, &hello(Version::V5, "publisher"));
    publisher.deliver(1, "state/end", b"end");
    let came = watcher.until_end(&a);
    let wills: Vec<_> = came.iter().filter(|(_, payload)| payload == "gone").map(|(topic, _)| topic.clone()).collect();
    assert_eq!(wills.len(), 3, "once: {came:?}");
    assert_eq!(retained_now(&a, &topics)[3], message(&topics[3], "there"));
    // Its next process publishes nothing again.
    b.start_again();
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let (mut again, _) = connect(&a, &hello(Version::V5, "publisher"));
    again.deliver(1, "state/end", b"end");
    assert_eq!(watcher.until_end(&a), []);
}

/// An instance stops in order, a topic gets another value, and the instance comes back: new clients get the newest value at the next owner of their slots, and from
/// the instance that is back.
#[test]
fn a_new_client_gets_what_is_retained_wherever_its_slot_has_gone() {
    let names = Names::new("rolling");
    let a = start(&names, "a");
    let mut b = start(&names, "b");
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let ids = ["a", "b"].map(|name| clients_of(&slots_of(&a, &names, name), 1).remove(0));
    let topics = ["state/rolling".to_owned()];
    let all_get = |service: &Service, value: &str| {
        ids.iter().all(|id| retained_for(id, service, &topics) == [message(&topics[0], value)])
    };
    let says = |value: &str| {
        let (mut device, _) = connect(&a, &hello(Version::V5, "publisher"));
        device.say(&retained(1, &topics[0], value.as_bytes()));
        assert_eq!(device.hear(), puback(1));
        device.leave();
        // PUBACK rests on the record: an instance may read it a moment later.
        until("it to be retained", || all_get(&a, value));
    };
    says("first");
    assert!(b.terminate().success(), "{}", b.log());
    until_served(&names, &[("a", &a)], &[64]);
    assert!(all_get(&a, "first"), "clients whose slots have come");
    says("second");
    b.start_again();
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    assert!(all_get(&b, "second"), "clients of the instance that was away");
    assert!(all_get(&a, "second"));
}
