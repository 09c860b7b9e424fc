//! What a client may cost the others of its shard in one turn, counted, not timed.

use std::time::Duration;

use forebay::limits::SUBSCRIPTIONS_OF_SESSION_MAX;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Publish, QoS, Version};

use super::allocation::counted;
use super::queues::{QOS_1, answer, config, hear, kept, lose, rest, say};
use super::subscribe::{message, publish, subscribe, subscribe_packet, world};
use super::world::World;

/// PUBACK for messages that it was not sent, of a client with many shared subscriptions.
#[test]
fn what_acknowledges_nothing_looks_at_no_share() {
    let mut world = world();
    let client = world.device_v5("m");
    for number in 0..200 {
        assert_eq!(subscribe(&mut world, client, Version::V5, 0, &[(&format!("$share/{number}/t"), QOS_1)]), [1]);
    }
    let acks: Vec<u8> = (1..=1_000u16).flat_map(|id| [0x40, 2, (id >> 8) as u8, id as u8]).collect();
    world.bytes(client, &acks);
    let before = world.allocations;
    let fed = counted(|| world.feed(client, &acks));
    world.turn();
    let allocations = fed + world.allocations - before;
    assert!(allocations < 100, "{allocations}");
}

/// A session may not have more, so the rest is not looked at.
#[test]
fn a_subscribe_is_looked_at_as_far_as_a_session_may_have_subscriptions() {
    let mut world = world();
    let client = world.device_v5("c");
    let filters = vec![("t", QOS_1); SUBSCRIPTIONS_OF_SESSION_MAX + 3];
    world.bytes(client, &subscribe_packet(Version::V5, 0, &filters));
    let suback = world.sent(client);
    let granted = suback.iter().rev().take_while(|code| **code != 0).filter(|code| **code == 1).count();
    assert_eq!((suback[0], suback.ends_with(&[1, 0x97, 0x97, 0x97])), (0x90, true));
    assert_eq!(granted, SUBSCRIPTIONS_OF_SESSION_MAX);
}

/// However many messages of QoS 2 a client says in one turn that it has, its queue is written down once.
#[test]
fn a_queue_is_written_down_once_a_turn() {
    const MESSAGES: u16 = 1_000;
    let mut world = World::new(&config());
    let properties = [0, 0, 0, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0xFF, 0xFF];
    let subscriber = world.connect_v5("s", &properties);
    world.sent(subscriber);
    assert_eq!(subscribe(&mut world, subscriber, Version::V5, 0, &[("t", super::queues::QOS_2)]), [2]);
    let publisher = world.device_v5("p");
    for id in 1..=MESSAGES {
        say(&mut world, publisher, QoS::ExactlyOnce, id, "x");
        world.advance(Duration::from_millis(1));
        hear(&mut world, publisher);
        answer(&mut world, publisher, 6, id);
    }
    rest(&mut world);
    assert_eq!(world.number(M::CopiesInFlight), u64::from(MESSAGES));
    let before = world.number(M::SpoolGroupBytes);
    let pubrecs: Vec<u8> = (1..=MESSAGES).flat_map(|id| [0x50, 2, (id >> 8) as u8, id as u8]).collect();
    world.sent(subscriber);
    world.bytes(subscriber, &pubrecs);
    let released = hear(&mut world, subscriber).len();
    assert_eq!(released, usize::from(MESSAGES), "PUBREL");
    let wrote = world.number(M::SpoolGroupBytes) - before;
    assert!(wrote < 64 << 10, "{wrote} bytes");
}

/// A dropped message that no other session waits for ends in the log. The record of its queue is not written for it.
#[test]
fn what_is_dropped_and_nobody_else_has_is_not_written_down_twice() {
    let mut world = World::new(&format!("{}\n[delivery]\nqueue_messages_max = 2\n", config()));
    let away = kept(&mut world, "away", QOS_1);
    lose(&mut world, away);
    let publisher = world.device_v5("p");
    let before = world.number(M::KeptRecords);
    for id in 1..=5 {
        publish(
            &mut world,
            publisher,
            Version::V5,
            Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("t", "x") },
        );
    }
    rest(&mut world);
    assert_eq!(world.number(M::CopiesQueueFull), 3);
    assert_eq!(world.number(M::KeptRecords) - before, 2);
}
