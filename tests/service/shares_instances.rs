//! Shared subscriptions with members at several instances of `[broker]`: each message goes to one of them, wherever they are, and none is lost when an instance
//! is killed, when members leave, or while only members that are away have subscribed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Packet, PacketType, QoS, SubscriptionOptions, Unsubscribe, Version};
use forebay::mqtt::property::Properties;

use crate::broker::{Names, message, next};
use crate::broker_once::write_load;
use crate::device::{Device, Heard, hello};
use crate::instances::{clients_of, connect, hour, instance, kept, route, slots_of, start, until_served};
use crate::process::{metric, until, until_metric};
use crate::support::kafka::Kafka;
use crate::support::service::Service;

const SHARE: &str = "$share/workers/load/+";
const PARTITIONS: u64 = 3;

/// What workers have, by message: how often.
type Had = Arc<Mutex<BTreeMap<String, u32>>>;

fn count(had: &Had) -> usize {
    had.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Takes and acknowledges messages until one of the topic `end` comes. Returns how many there were.
fn work(mut device: Device, had: &Had) -> JoinHandle<(Device, usize)> {
    let had = Arc::clone(had);
    thread::spawn(move || {
        let mut count = 0;
        loop {
            match device.hear() {
                Heard::Message(_, _, topic, _) if topic == "end" => return (device, count),
                Heard::Message(1, packet_id, topic, payload) => {
                    let payload = String::from_utf8(payload).expect("text");
                    let mut had = had.lock().unwrap_or_else(PoisonError::into_inner);
                    *had.entry(format!("{topic} {payload}")).or_default() += 1;
                    device.acknowledge(PacketType::PubAck, packet_id);
                    count += 1;
                }
                other => panic!("no message: {other:?}"),
            }
        }
    })
}

/// A worker with a session that ends with its connection, which is told about the end.
fn worker(service: &Service, id: &str) -> Device {
    let (mut device, _) = connect(service, &hello(Version::V5, id));
    assert_eq!(device.subscribe(&[(SHARE, QoS::AtLeastOnce), ("end", QoS::AtMostOnce)]), [1, 0]);
    device
}

fn end(service: &Service) {
    let (mut publisher, _) = connect(service, &hello(Version::V5, "publisher"));
    publisher.deliver(1, "end", b"");
}

fn unsubscribe(device: &mut Device) {
    let mut filters = FilterBuf::for_unsubscribe();
    assert!(filters.push(SHARE, SubscriptionOptions::default()));
    let unsubscribe = Unsubscribe { packet_id: 99, properties: Properties::EMPTY, filters: filters.as_filters() };
    device.say(&Packet::Unsubscribe(unsubscribe));
    assert!(matches!(device.hear(), Heard::Codes(PacketType::UnsubAck, 99, _)));
}

/// Waits until the group has given out all partitions, each instance some or none.
fn until_given(services: &[(&Service, bool)]) {
    until("the group to give out partitions", || {
        let counts: Vec<u64> = services.iter().map(|(of, _)| metric(of, "broker_share_partitions")).collect();
        let fits = services.iter().zip(&counts).all(|((_, some), count)| (*count > 0) == *some);
        fits && counts.iter().sum::<u64>() == PARTITIONS
    });
}

/// Two instances that have half of the slots each, and a client of each.
fn two(names: &Names) -> (Service, Service, [String; 2]) {
    let [a, b] = ["a", "b"].map(|name| start(names, name));
    until_served(names, &[("a", &a), ("b", &b)], &[32, 32]);
    let ids = ["a", "b"].map(|name| clients_of(&slots_of(&a, names, name), 1).remove(0));
    (a, b, ids)
}

#[test]
fn members_at_both_instances_get_each_message_once() {
    let names = Names::new("shares");
    let (a, b, ids) = two(&names);
    let devices = [worker(&a, &ids[0]), worker(&b, &ids[1])];
    until_given(&[(&a, true), (&b, true)]);
    let had = Had::default();
    let workers = devices.map(|device| work(device, &had));
    write_load(&names, 0..200);
    until("all messages", || count(&had) == 600);
    end(&a);
    let counts = workers.map(|worker| worker.join().expect("a worker").1);
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), 600, "none came twice: {counts:?}");
    for service in [&a, &b] {
        until("nothing to be open", || metric(service, "broker_share_open_messages") == 0);
    }
}

/// What the members of an instance had not acknowledged when it was killed goes to others.
#[test]
fn what_a_killed_instance_had_open_goes_to_others() {
    let names = Names::new("shares-killed");
    let (a, mut b, ids) = two(&names);
    let (of_a, mut of_b) = (worker(&a, &ids[0]), worker(&b, &ids[1]));
    until_given(&[(&a, true), (&b, true)]);
    let had = Had::default();
    let worker = work(of_a, &had);
    write_load(&names, 0..200);
    // It acknowledges some, has some, and others wait for it.
    for number in 0..40 {
        let Heard::Message(1, packet_id, topic, payload) = of_b.hear() else { panic!("no message") };
        if number < 20 {
            let payload = String::from_utf8(payload).expect("text");
            *had.lock().expect("no panic").entry(format!("{topic} {payload}")).or_default() += 1;
            of_b.acknowledge(PacketType::PubAck, packet_id);
        }
    }
    assert!(count(&had) < 600);
    b.kill9();
    until("all messages", || count(&had) == 600);
    end(&a);
    worker.join().expect("a worker");
    until_given(&[(&a, true)]);
}

/// A message that is published as soon as the SUBSCRIBE is answered is the share's; while its only member is away it waits in Kafka, also over the death of
/// the member's instance.
#[test]
fn messages_wait_for_a_member_that_is_away() {
    let names = Names::new("shares-away");
    let (a, mut b, ids) = two(&names);
    let expiry = hour();
    let (mut device, _) = connect(&b, &kept(&ids[1], &expiry));
    let (mut publisher, _) = connect(&a, &hello(Version::V5, "publisher"));
    publisher.deliver(1, "load/0", b"before");
    assert_eq!(device.subscribe(&[(SHARE, QoS::AtLeastOnce)]), [1]);
    publisher.deliver(2, "load/0", b"one");
    assert_eq!(next(&mut device), message("load/0", "one"), "and not what came before");
    until("the first one to be over", || metric(&b, "broker_share_open_messages") == 0);
    device.leave();
    for number in 0..50u16 {
        publisher.deliver(10 + number, "load/1", number.to_string().as_bytes());
    }
    // Nobody reads them meanwhile.
    until_metric(&b, "broker_share_partitions", 0);
    publisher.deliver(100, "load/1", b"50");
    b.kill9();
    let (mut device, hello) = connect(&a, &kept(&ids[1], &expiry));
    assert!(hello.session_present);
    let mut left: Vec<String> = (0..=50).map(|number: u16| number.to_string()).collect();
    while !left.is_empty() {
        let (topic, payload) = next(&mut device);
        // What it has acknowledged last may come again.
        assert!(topic == "load/1" || payload == "one", "{topic} {payload}");
        left.retain(|wanted| *wanted != payload);
    }
}

/// The last member of an instance leaves: members elsewhere get new messages. The last one of all leaves: the share has ended, and a new one begins with new messages.
#[test]
fn members_leave_and_a_share_ends_with_the_last() {
    let names = Names::new("shares-left");
    let (a, b, ids) = two(&names);
    let [mut of_a, of_b] = [worker(&a, &ids[0]), worker(&b, &ids[1])];
    until_given(&[(&a, true), (&b, true)]);
    unsubscribe(&mut of_a);
    let had = Had::default();
    let worker = work(of_b, &had);
    write_load(&names, 0..100);
    until("all messages", || count(&had) == 300);
    until_metric(&a, "broker_share_groups", 0);
    until_given(&[(&a, false), (&b, true)]);
    end(&b);
    let (mut of_b, _) = worker.join().expect("a worker");
    unsubscribe(&mut of_b);
    until_metric(&b, "broker_share_groups", 0);
    let (mut publisher, _) = connect(&a, &hello(Version::V5, "publisher"));
    publisher.deliver(1, "load/0", b"old");
    assert_eq!(of_b.subscribe(&[(SHARE, QoS::AtLeastOnce)]), [1]);
    publisher.deliver(2, "load/0", b"new");
    assert_eq!(next(&mut of_b), message("load/0", "new"));
}

/// Kafka forgets what a group has committed of topics that no member names: an instance names them while all members of a share are away. Another group, which
/// has committed later and has no members, is forgotten meanwhile.
#[test]
fn a_share_keeps_its_place_while_all_members_are_away() {
    let kafka = Kafka::start(&[
        "--config",
        "offsets.retention.minutes=1",
        "--config",
        "offsets.retention.check.interval.ms=1000",
    ]);
    let names = Names { kafka: kafka.bootstrap().to_owned(), ..Names::new("shares-retention") };
    let service = start(&names, "a");
    until_served(&names, &[("a", &service)], &[64]);
    let expiry = hour();
    let (mut device, _) = connect(&service, &kept("worker", &expiry));
    let (mut publisher, _) = connect(&service, &hello(Version::V5, "publisher"));
    publisher.deliver(1, "load/0", b"before");
    assert_eq!(device.subscribe(&[(SHARE, QoS::AtLeastOnce)]), [1]);
    publisher.deliver(2, "load/0", b"one");
    assert_eq!(next(&mut device), message("load/0", "one"));
    until("nothing to be open", || metric(&service, "broker_share_open_messages") == 0);
    device.leave();
    until_metric(&service, "broker_share_partitions", 0);
    let groups = |arguments: &[&str]| {
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let tool = ["tool", class, "--bootstrap-server", kafka.bootstrap()];
        kafka.command(&[&tool[..], arguments].concat())
    };
    let place = ["--reset-offsets", "--to-earliest", "--execute", "--group", "other", "--topic", &names.messages];
    groups(&place);
    let has = |prefix: &str| groups(&["--list"]).lines().any(|group| group.starts_with(prefix));
    assert!(has("other"));
    while has("other") {
        thread::sleep(Duration::from_secs(2));
    }
    assert!(has("forebay-share-"));
    publisher.deliver(3, "load/0", b"two");
    let (mut device, hello) = connect(&service, &kept("worker", &expiry));
    assert!(hello.session_present);
    assert_eq!(next(&mut device), message("load/0", "two"), "and not what it has had, or what came before");
}

/// Messages wait for a share whose member is away while the routes change: it gets them, as a kept subscriber does, and what goes to the new topic.
#[test]
fn finding_q1_messages_wait_for_a_share_while_routes_change() {
    let names = Names::new("shares-routes");
    let mut before = start(&names, "a");
    until_served(&names, &[("a", &before)], &[64]);
    let expiry = hour();
    let filters = [("member", "$share/workers/load/#"), ("plain", "load/#")];
    for (id, filter) in filters {
        let (mut device, _) = connect(&before, &kept(id, &expiry));
        assert_eq!(device.subscribe(&[(filter, QoS::AtLeastOnce)]), [1]);
        device.leave();
    }
    let publish = |service: &Service, numbers: std::ops::Range<u16>| {
        let (mut publisher, _) = connect(service, &hello(Version::V5, "publisher"));
        numbers.for_each(|number| publisher.deliver(1 + number, "load/1", number.to_string().as_bytes()));
    };
    publish(&before, 0..20);
    assert!(before.terminate().success());
    let after = Service::start(&(instance(&names, "a", "") + &route(&names, "load/#")));
    until_served(&names, &[("a", &after)], &[64]);
    publish(&after, 20..25);
    for (id, _) in filters {
        let (mut device, hello) = connect(&after, &kept(id, &expiry));
        assert!(hello.session_present);
        let mut left: BTreeSet<String> = (0..25).map(|number: u16| number.to_string()).collect();
        while !left.is_empty() {
            let (_, payload) = next(&mut device);
            left.remove(&payload);
        }
    }
    assert_eq!(names.read(&format!("{}-other", names.messages)).len(), 5, "the new route has taken the later ones");
}
