//! Copies that do not reach their client: each is counted by its reason, and an event names whose it was and its topic (B15).

use std::time::Duration;

use forebay::limits::EVENTS_PER_SUBJECT_PER_MIN;
use forebay::metrics::event::{Field, Kind as EventKind};
use forebay::metrics::journal::Filter;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{PacketType, Publish, QoS, SubscriptionOptions, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::runtime::seam::ConnId;

use super::kept::{arrive, connect};
use super::queues::{QOS_1, QOS_2, config};
use super::shares::{ack, join, member, vanish};
use super::subscribe::{PLAIN, heard, message, publish, subscribe, world};
use super::world::{ONE_SINK, World};

/// Events of dropped messages: whose, topic, reason.
pub(crate) fn told(world: &World) -> Vec<String> {
    world.journal.collect();
    let events = world.journal.page(&Filter::default()).events.into_iter().map(|(_, event)| event);
    let of = events.filter(|event| event.kind == EventKind::MessageDropped);
    of.map(|event| {
        let text = |field| event.text(field).unwrap_or("-").to_owned();
        let whose = event.text(Field::Share).map_or_else(|| text(Field::Client), str::to_owned);
        [whose, text(Field::MqttTopic), text(Field::Reason)].join(", ")
    })
    .collect()
}

/// A connected client with a kept session, or not, and the publisher.
fn two(world: &mut World, receive_maximum: u16, is_kept: bool, options: SubscriptionOptions) -> [ConnId; 2] {
    let client = member(world, "client", receive_maximum, 0, is_kept);
    assert_eq!(subscribe(world, client, Version::V5, 0, &[("#", options)]), [options.qos as u8]);
    [client, world.device_v5("publisher")]
}

fn send(world: &mut World, publisher: ConnId, qos: QoS, id: u16, topic: &str) {
    publish(world, publisher, Version::V5, Publish { qos, packet_id: id, ..message(topic, "x") });
    world.sent(publisher);
}

#[test]
fn what_a_client_refuses_is_counted_and_told() {
    for is_kept in [true, false] {
        let mut world = world();
        let [client, publisher] = two(&mut world, 0, is_kept, QOS_2);
        send(&mut world, publisher, QoS::AtLeastOnce, 1, "one");
        send(&mut world, publisher, QoS::ExactlyOnce, 2, "two");
        send(&mut world, publisher, QoS::AtLeastOnce, 3, "three");
        assert_eq!(heard(&mut world, client, Version::V5).len(), 3);
        assert_eq!([M::CopiesInFlight, M::CopiesQueued].map(|metric| world.number(metric)), [3, 0]);
        ack(&mut world, client, PacketType::PubAck, 1, ReasonCode::QUOTA_EXCEEDED);
        world.advance(Duration::from_secs(1));
        ack(&mut world, client, PacketType::PubRec, 2, ReasonCode::UNSPECIFIED_ERROR);
        // Said once more, it is about nothing.
        ack(&mut world, client, PacketType::PubRec, 2, ReasonCode::UNSPECIFIED_ERROR);
        ack(&mut world, client, PacketType::PubAck, 3, ReasonCode::SUCCESS);
        let numbers = [M::CopiesRefused, M::CopiesAcknowledged, M::CopiesInFlight].map(|metric| world.number(metric));
        assert_eq!(numbers, [2, 1, 0]);
        // Without a session that is kept, what was sent is not remembered.
        let topics = if is_kept { ["one", "two"] } else { ["-", "-"] };
        assert_eq!(told(&world), topics.map(|topic| format!("client, {topic}, the client has refused it")));
    }
}

#[test]
fn what_expires_or_is_too_large_when_it_is_its_turn_is_told() {
    let mut world = world();
    let [client, publisher] = two(&mut world, 0, true, QOS_1);
    vanish(&mut world, client);
    let mut expiring = PropertyBuf::new();
    expiring.push(Property::MessageExpiryInterval(2));
    let of =
        Publish { qos: QoS::AtLeastOnce, packet_id: 1, properties: expiring.as_properties(), ..message("old", "x") };
    publish(&mut world, publisher, Version::V5, of);
    let payload = "x".repeat(100);
    let of = Publish { qos: QoS::AtLeastOnce, packet_id: 2, ..message("large", &payload) };
    publish(&mut world, publisher, Version::V5, of);
    send(&mut world, publisher, QoS::AtLeastOnce, 3, "fits");
    assert_eq!([M::CopiesInFlight, M::CopiesQueued].map(|metric| world.number(metric)), [0, 3]);
    world.advance(Duration::from_secs(3));
    member(&mut world, "client", 0, 60, true);
    let numbers = [M::CopiesExpired, M::CopiesTooLarge, M::CopiesInFlight, M::CopiesQueued];
    assert_eq!(numbers.map(|metric| world.number(metric)), [1, 1, 1, 0]);
    let large = "client, large, larger than the client's Maximum Packet Size";
    assert_eq!(told(&world), ["client, old, it expired before it could be sent", large]);
    let of = Publish { qos: QoS::AtLeastOnce, packet_id: 4, ..message("larger", &payload) };
    publish(&mut world, publisher, Version::V5, of);
    assert_eq!(told(&world)[2..], ["client, larger, larger than the client's Maximum Packet Size"]);
}

#[test]
fn what_is_open_when_a_session_ends_is_counted_and_told() {
    for is_kept in [true, false] {
        let mut world = world();
        let [client, publisher] = two(&mut world, 2, is_kept, QOS_1);
        for (id, topic) in [(1, "one"), (2, "two"), (3, "three")] {
            send(&mut world, publisher, QoS::AtLeastOnce, id, topic);
        }
        ack(&mut world, client, PacketType::PubAck, 1, ReasonCode::SUCCESS);
        send(&mut world, publisher, QoS::AtLeastOnce, 4, "four");
        assert_eq!([M::CopiesInFlight, M::CopiesQueued].map(|metric| world.number(metric)), [2, 1]);
        vanish(&mut world, client);
        if is_kept {
            assert_eq!([M::CopiesInFlight, M::CopiesQueued].map(|metric| world.number(metric)), [2, 1]);
            member(&mut world, "client", 0, 0, false);
        }
        let numbers = [M::CopiesSessionEnded, M::CopiesEnded, M::CopiesInFlight, M::CopiesQueued];
        assert_eq!(numbers.map(|metric| world.number(metric)), [3, 0, 0, 0]);
        // Of what was sent in a session that is not kept, no topic is remembered.
        let topic = if is_kept { "two" } else { "four" };
        assert_eq!(told(&world), [format!("client, {topic}, its session has ended")]);
    }
}

#[test]
fn what_is_dropped_of_a_share_names_the_share() {
    const SHARE: &str = "$share/g/#";
    let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
    let mut world = World::new(&format!("{text}\n[delivery]\nqueue_messages_max = 1000\n"));
    let kept = member(&mut world, "kept", 0, 0, true);
    let publisher = world.device_v5("publisher");
    join(&mut world, kept, SHARE, QOS_1);
    vanish(&mut world, kept);
    for number in 1..=1_001 {
        send(&mut world, publisher, QoS::AtLeastOnce, number, &number.to_string());
    }
    assert_eq!([M::CopiesQueued, M::CopiesQueueFull].map(|metric| world.number(metric)), [1_000, 1]);
    let full = "too many messages wait for members of the shared subscription";
    assert_eq!(told(&world), [format!("{SHARE}, 1, {full}")], "the oldest");
    world.advance(Duration::from_secs(1));
    // The last member leaves: no member is left for the queued messages.
    member(&mut world, "kept", 0, 0, false);
    world.advance(Duration::from_secs(2));
    assert_eq!([M::CopiesQueued, M::CopiesShareGone].map(|metric| world.number(metric)), [0, 1_000]);
    assert_eq!(told(&world)[1..], [format!("{SHARE}, 2, the shared subscription has no members any more")]);
}

#[test]
fn where_the_oldest_goes_the_event_names_that_one() {
    let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
    for (when_full, topic) in [("drop-oldest", "0"), ("drop-newest", "1000")] {
        let more = format!("[delivery]\nqueue_messages_max = 1000\nwhen_full = \"{when_full}\"\n");
        let mut world = World::new(&format!("{text}\n{more}"));
        let [client, publisher] = two(&mut world, 0, true, QOS_1);
        vanish(&mut world, client);
        for number in 0..=1_000 {
            send(&mut world, publisher, QoS::AtLeastOnce, number + 1, &number.to_string());
        }
        assert_eq!([M::CopiesQueued, M::CopiesQueueFull].map(|metric| world.number(metric)), [1_000, 1]);
        assert_eq!(told(&world), [format!("client, {topic}, too many messages wait for the client")]);
    }
}

/// Sessions fill the log. Who is there gets messages of QoS 1 all the same, and a crash takes them.
#[test]
fn what_is_sent_without_being_on_the_disk_is_counted() {
    let mut world = World::new(&config());
    let [client, publisher] = two(&mut world, 0, true, QOS_1);
    send(&mut world, publisher, QoS::AtLeastOnce, 1, "stored");
    world.advance(Duration::from_millis(1));
    assert_eq!(world.number(M::CopiesUnstored), 0);
    let will = "w".repeat(60_000);
    for number in 0.. {
        let conn = arrive(&mut world, &connect(&number.to_string(), false, Some(&will)));
        if world.sent(conn)[..] == [0x20, 2, 0, 3] {
            break;
        }
    }
    send(&mut world, publisher, QoS::AtLeastOnce, 2, "unstored");
    world.advance(Duration::from_millis(1));
    assert_eq!(heard(&mut world, client, Version::V5).len(), 2);
    let numbers = [M::CopiesUnstored, M::CopiesQueueFull, M::CopiesInFlight].map(|metric| world.number(metric));
    assert_eq!(numbers, [1, 0, 2], "it is in flight as any other");
    world.power_cut();
    assert_eq!([M::CopiesRecovered, M::CopiesQueued].map(|metric| world.number(metric)), [1, 1]);
}

#[test]
fn one_client_that_loses_much_does_not_hide_the_others() {
    let mut world = world();
    let names: Vec<_> = (0..5).map(|number| format!("client-{number}")).collect();
    for name in &names {
        let conn = member(&mut world, name, 0, 60, false);
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };
        assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[(name, options)]), [1]);
    }
    let publisher = world.device_v5("publisher");
    let payload = "x".repeat(100);
    let mut ids = 1..;
    let mut at_qos_1 = |topic| {
        let packet_id = ids.next().expect("another one");
        Publish { qos: QoS::AtLeastOnce, packet_id, ..message(topic, &payload) }
    };
    for _ in 0..50 {
        publish(&mut world, publisher, Version::V5, at_qos_1(&names[0]));
    }
    for name in &names {
        publish(&mut world, publisher, Version::V5, at_qos_1(name));
    }
    assert_eq!(world.number(M::CopiesTooLarge), 55);
    let clients: Vec<_> = told(&world).iter().map(|told| told.split(',').next().expect("one").to_owned()).collect();
    let of_one = usize::from(EVENTS_PER_SUBJECT_PER_MIN);
    assert!(clients[..of_one].iter().all(|client| *client == names[0]), "{clients:?}");
    assert_eq!(clients[of_one..], names[1..]);
    assert_eq!(world.number(M::EventsSuppressed), 45);
    world.advance(Duration::from_secs(60));
    publish(&mut world, publisher, Version::V5, at_qos_1(&names[0]));
    assert_eq!(told(&world).len(), 11);
}
