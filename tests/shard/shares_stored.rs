//! Messages for shared subscriptions in the log: their way to a member of another shard, their expiry, and a full log.

use std::time::Duration;

use forebay::broker::router::owner;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Packet, Publish, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::rules::KEPT;

use super::dropped::told;
use super::kept::{arrive, connect};
use super::process::{Process, packets};
use super::queues::{Heard, QOS_2, answer, back, config, hear, lose, rest, say};
use super::subscribe::{bytes_of, message, publish, subscribe, subscribe_packet};
use super::world::World;

const SHARDS: usize = 3;
const SHARE: &str = "$share/g/#";

/// A world in which the only member of a share is away; its session is kept.
fn away() -> World {
    let mut world = World::new(&config());
    let (member, _) = world.kept_v5("member");
    assert_eq!(subscribe(&mut world, member, Version::V5, 0, &[(SHARE, QOS_2)]), [2]);
    lose(&mut world, member);
    world
}

#[test]
fn time_passes_for_what_waits_on_the_disk() {
    let mut world = away();
    let publisher = world.device_v5("p");
    for (id, payload, seconds) in [(1, "short", 30), (2, "long", 600)] {
        let mut properties = PropertyBuf::new();
        properties.extend([Property::MessageExpiryInterval(seconds)]);
        let properties = properties.as_properties();
        let of = Publish { qos: QoS::ExactlyOnce, packet_id: id, properties, ..message("t", payload) };
        publish(&mut world, publisher, Version::V5, of);
    }
    assert_eq!([M::StoredMessages, M::ShareStoredMessages].map(|metric| world.number(metric)), [2, 2]);
    world.advance(Duration::from_secs(20));
    world.power_cut();
    world.advance(Duration::from_secs(20));
    let (member, mut heard) = back(&mut world, "member");
    world.advance(Duration::from_millis(10));
    heard.extend(hear(&mut world, member));
    let payloads: Vec<_> = heard.iter().map(|heard| format!("{heard:?}")).collect();
    assert!(payloads.len() == 1 && payloads[0].contains("long"), "{payloads:?}");
    assert_eq!([M::CopiesExpired, M::CopiesRecovered].map(|metric| world.number(metric)), [1, 2]);
    assert_eq!(told(&world), [format!("{SHARE}, t, it expired before it could be sent")]);
}

/// What finds no room in the log waits in memory; all of it reaches a member, as room is left to give it one.
#[test]
fn a_full_log_stops_no_message() {
    // Less than half of the log, which is what may wait.
    const MESSAGES: u16 = 120;
    let mut world = away();
    let will = "w".repeat(60_000);
    for number in 0..60 {
        let conn = arrive(&mut world, &connect(&format!("other-{number}"), false, Some(&will)));
        assert_eq!(world.sent(conn), [0x20, 2, 0, 0]);
    }
    let publisher = world.device_v5("p");
    let payload = "x".repeat(60_000);
    for id in 1..=MESSAGES {
        say(&mut world, publisher, QoS::ExactlyOnce, id, &payload);
        world.advance(Duration::from_millis(1));
        assert_eq!(hear(&mut world, publisher), [Heard::Answer { kind: 5, id }]);
        answer(&mut world, publisher, 6, id);
        hear(&mut world, publisher);
    }
    let (stored, waiting) = (world.number(M::ShareStoredMessages), world.number(M::ShareQueuedMessages));
    assert!(stored > 20 && stored < waiting && waiting == u64::from(MESSAGES), "{stored} {waiting}");
    let (member, mut heard) = back(&mut world, "member");
    let mut got = 0;
    for _ in 0..2_000 {
        for heard in heard.drain(..) {
            match heard {
                Heard::Message { qos, id, .. } => {
                    assert_eq!(qos, 2);
                    got += 1;
                    answer(&mut world, member, 5, id);
                }
                Heard::Answer { kind: 6, id } => answer(&mut world, member, 7, id),
                other => panic!("{other:?}"),
            }
        }
        if got == MESSAGES {
            break;
        }
        world.advance(Duration::from_millis(50));
        heard = hear(&mut world, member);
    }
    assert_eq!(got, MESSAGES);
    rest(&mut world);
    assert_eq!(world.number(M::ShareStoredMessages), 0);
}

/// How many messages there are among what a client has been sent.
fn messages(bytes: &[u8]) -> usize {
    packets(bytes).filter(|packet| matches!(packet, Packet::Publish(_))).count()
}

/// A message is given to a member of another shard when it is durable that the first one does not have it any more.
#[test]
fn a_message_that_is_handed_over_is_in_one_log_before_a_member_gets_it() {
    let name_on = |shard| {
        let mut names = (0..).map(|number| format!("member-{number}"));
        names.find(|name| owner(name, SHARDS) == shard).expect("one of them")
    };
    let mut process = Process::spooled(&KEPT, SHARDS);
    let subscribe = subscribe_packet(Version::V5, 0, &[(SHARE, QOS_2)]);
    let [first, second] = [0, 1].map(name_on);
    let (shard, conn, _) = process.connect(&first);
    process.say(shard, conn, &subscribe);
    process.lose(shard, conn);
    let (from, publisher, _) = process.connect(&name_on(2));
    let publish = Publish { qos: QoS::ExactlyOnce, packet_id: 1, ..message("t/1", "once") };
    process.say(from, publisher, &bytes_of(Version::V5, &Packet::Publish(publish)));
    assert_eq!(process.heard(from, publisher), [0x50, 2, 0, 1]);
    process.say(from, publisher, &[0x62, 2, 0, 1]);

    process.shards[0].table.disk.slow = true;
    let (shard, conn, _) = process.connect(&second);
    process.say(shard, conn, &subscribe);
    for _ in 0..20 {
        process.settle();
    }
    assert_eq!(messages(&process.heard(shard, conn)), 0, "the first shard has it still");
    assert_eq!(process.number(M::ShareStoredMessages), 1, "it is on its way");
    process.power_cut(0);
    process.settle();
    let (shard, conn, mut behind) = process.connect(&second);
    for _ in 0..20 {
        process.settle();
    }
    behind.extend(process.heard(shard, conn));
    assert_eq!(messages(&behind), 1);
    let (_, _, behind) = process.connect(&first);
    assert_eq!(messages(&behind), 0);
}
