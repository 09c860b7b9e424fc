//! Copies in the log that are dropped to make room, and a crash at once: a client gets nothing younger before it is durable that they are over.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{QoS, Version};
use forebay::runtime::seam::ConnId;

use super::queues::{Heard, QOS_1, answer, back, config, hear, said, say};
use super::shares::member;
use super::subscribe::subscribe;
use super::world::World;

/// A client with one message on its way to it. Four others wait, which are durable, but for what comes with two more: that the oldest two are over.
fn world() -> (World, ConnId) {
    let mut world = World::new(&format!("{}[delivery]\nqueue_messages_max = 4\n", config()));
    let client = member(&mut world, "client", 1, 0, true);
    assert_eq!(subscribe(&mut world, client, Version::V5, 0, &[("#", QOS_1)]), [1]);
    let publisher = world.device_v5("publisher");
    for id in 1..=7 {
        if id == 6 {
            world.advance(Duration::from_millis(1));
            world.table.disk.slow = true;
        }
        say(&mut world, publisher, QoS::AtLeastOnce, id, &id.to_string());
    }
    assert_eq!(hear(&mut world, client), [said(1, 1, "1")]);
    assert_eq!(world.number(M::CopiesQueueFull), 2);
    (world, client)
}

/// Acknowledges all messages that come. Returns their payloads.
fn take_all(world: &mut World, (client, mut heard): (ConnId, Vec<Heard>)) -> Vec<String> {
    let mut got = Vec::new();
    for _ in 0..100 {
        heard.extend(hear(world, client));
        for one in heard.drain(..) {
            let Heard::Message { id, payload, .. } = one else { continue };
            got.push(payload);
            answer(world, client, 4, id);
        }
        world.advance(Duration::from_millis(1));
    }
    got
}

#[test]
fn what_is_younger_than_what_was_dropped_waits_for_the_disk() {
    let (mut world, client) = world();
    answer(&mut world, client, 4, 1);
    assert_eq!(hear(&mut world, client), []);
    world.table.disk.slow = false;
    world.advance(Duration::from_millis(1));
    let heard = hear(&mut world, client);
    assert_eq!(heard, [said(1, 4, "4")]);
    assert_eq!(take_all(&mut world, (client, heard)), ["4", "5", "6", "7"]);
}

#[test]
fn what_was_dropped_does_not_come_after_younger_ones() {
    let (mut world, client) = world();
    let mut got = vec!["1".to_owned()];
    answer(&mut world, client, 4, 1);
    got.extend(take_all(&mut world, (client, Vec::new())));
    // The disk has not heard of what was dropped.
    world.power_cut();
    let back = back(&mut world, "client");
    got.extend(take_all(&mut world, back));
    let first: Vec<_> =
        got.iter().enumerate().filter(|(at, one)| !got[..*at].contains(one)).map(|(_, one)| one).collect();
    assert_eq!(first, ["1", "2", "3", "4", "5"]);
}

/// A session that ends with its connection has no record, also if others have its messages in the log.
#[test]
fn a_session_without_a_record_waits_for_none_after_messages_were_dropped() {
    let mut world = World::new(&format!("{}[delivery]\nqueue_messages_max = 4\n", config()));
    let kept = member(&mut world, "kept", 100, 0, true);
    let client = member(&mut world, "client", 1, 0, false);
    for client in [kept, client] {
        assert_eq!(subscribe(&mut world, client, Version::V5, 0, &[("#", QOS_1)]), [1]);
    }
    let publisher = world.device_v5("publisher");
    for id in 1..=7 {
        say(&mut world, publisher, QoS::AtLeastOnce, id, &id.to_string());
        world.advance(Duration::from_millis(1));
    }
    assert_eq!(world.number(M::CopiesQueueFull), 2);
    assert_eq!(take_all(&mut world, (client, Vec::new())), ["1", "4", "5", "6", "7"]);
}
