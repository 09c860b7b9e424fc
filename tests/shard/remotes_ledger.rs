//! The ledgers of a bridge, and what a remote costs that floods it.

use std::time::Duration;

use forebay::broker::router::owner;
use forebay::config::{Bridge, Config};
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::inspect::{Ask, Told};
use forebay::metrics::spec::BridgeMetric as M;
use forebay::mqtt::packet::{Packet, QoS, Version};
use forebay::shard::mail::{Mail, Notice, ToSlots};

use super::remotes::{Remote, ack, bridge, connack, found_at, in_memory, qos, words};
use super::remotes_shown::asked;
use super::slots::{BROKER, TOPIC, begin, client, notice, parsed, two_connected, until};
use super::subscribe::bytes_of;
use super::world::World;

/// Both balance.
fn balances(remote: &Remote) {
    let sum = |all: &[M]| all.iter().map(|metric| remote.number(*metric)).sum::<u64>();
    let received = sum(&[M::Received, M::Unasked, M::Unfit, M::Looped, M::RetainedLeftOut]);
    assert_eq!(received, sum(&[M::Settled, M::Unsettled]), "in");
    assert_eq!(sum(&[M::Begun]), sum(&[M::Delivered, M::DeadLettered, M::Dropped, M::Open, M::Queued]), "out");
}

fn publishes(remote: &mut Remote, topic: &'static str, all: &[(u16, QoS)]) {
    let device = remote.world.device("d", 0);
    for (id, of) in all {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(*of, *id, topic, "x")));
        balances(remote);
    }
}

#[test]
fn what_comes_in_is_settled_or_open() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    remote.world.kafka_down();
    let [zero, one, two] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    remote.says(&[qos(zero, 0, "plant/1", "a"), qos(one, 1, "plant/1", "a"), qos(two, 2, "plant/1", "a")]);
    balances(&remote);
    assert_eq!([M::Received, M::Settled, M::Unsettled].map(|metric| remote.number(metric)), [3, 1, 2]);
    // A repeat of what is on its way, what nobody asked for, and what no topic is made of.
    remote.says(&[qos(two, 2, "plant/1", "a"), qos(one, 3, "other", "a"), qos(zero, 0, "other", "a")]);
    balances(&remote);
    remote.cut();
    balances(&remote);
    assert_eq!(remote.number(M::Unsettled), 0);
    remote.again();
    remote.accepts(true);
    remote.says(&[qos(one, 1, "plant/1", "a"), qos(two, 2, "plant/1", "a")]);
    balances(&remote);
    remote.world.kafka_up = true;
    remote.world.advance(Duration::from_secs(5));
    balances(&remote);
    assert_eq!(remote.number(M::Unsettled), 0);
}

#[test]
fn what_goes_out_is_delivered_dropped_or_there() {
    let [zero, one, two] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let mut remote = Remote::new(&in_memory(), bridge());
    publishes(&mut remote, "alarm/1", &[(1, one), (2, two), (3, one), (4, one), (0, zero)]);
    assert_eq!(
        [M::Begun, M::Dropped, M::Queued].map(|metric| remote.number(metric)),
        [5, 2, 3],
        "the oldest, and QoS 0"
    );
    remote.accepts(false);
    balances(&remote);
    let sent = |remote: &mut Remote| {
        let Told::Bridges(told) = asked(remote, Ask::Bridges { bridge: Some(0) }) else { panic!("bridges") };
        told[0].sent.clone()
    };
    assert_eq!((remote.hears().len(), sent(&mut remote)), (3, vec![3]));
    remote.says(&[Packet::PubRec(ack(2)), Packet::PubAck(ack(3))]);
    balances(&remote);
    assert_eq!([M::Delivered, M::Open].map(|metric| remote.number(metric)), [2, 1]);
    remote.cut();
    balances(&remote);
    remote.again();
    remote.says(&[connack(true)]);
    remote.says(&[Packet::PubComp(ack(2)), Packet::PubAck(ack(4))]);
    publishes(&mut remote, "alarm/1", &[(0, zero)]);
    assert_eq!([M::Delivered, M::Open, M::Queued].map(|metric| remote.number(metric)), [4, 0, 0]);
    assert_eq!(sent(&mut remote), [4], "what is sent again is not counted");
}

/// G6: a remote that goes on sending what nobody asked for is left, and connected to again later.
#[test]
fn a_remote_that_floods_is_left() {
    let mut remote = Remote::new(&in_memory(), Bridge { keep_alive: Duration::ZERO, ..bridge() });
    remote.accepts(false);
    let one = [qos(QoS::AtMostOnce, 0, "other", "x")];
    for _ in 0..99 {
        remote.says(&one);
    }
    remote.world.advance(Duration::from_secs(61));
    for _ in 0..99 {
        remote.says(&one);
    }
    assert_eq!((remote.number(M::Connected), remote.number(M::Unasked)), (1, 198), "less than 100 a minute");
    remote.says(&one);
    assert_eq!(remote.number(M::Connected), 0);
    let heard = remote.hears();
    assert_eq!(heard.last().map(String::as_str), Some("disconnect Quota exceeded"));
    assert_eq!(remote.world.told(EventKind::BridgeLost), 1);
    balances(&remote);
    remote.again();
    remote.accepts(false);
    assert_eq!(remote.number(M::Connected), 1);
}

/// A bridge that has its session in slot 0, is connected, and has taken a message.
fn in_slot_0() -> Remote {
    let is_of_slot = |name: &String| owner(&format!("bridge/{name}"), 64) == 0;
    let name = (0..).map(|number| format!("plant-{number}")).find(is_of_slot).expect("there is one");
    let bridges = vec![Bridge { name, keep_alive: Duration::from_secs(4), ..bridge() }];
    let mut world = World::of(Config { bridges, ..parsed(BROKER) });
    begin(&mut world, 0..2, 1);
    world.slots.set_given_out();
    let conn = until(&mut world, |world| found_at(world, "127.0.0.9:1883"));
    let mut remote = Remote { world, conn };
    remote.connected();
    remote.says(&[connack(false)]);
    remote.says(&[qos(QoS::AtLeastOnce, 1, "plant/1", "a")]);
    until(&mut remote.world, |world| words(&world.sent(conn)).contains(&"puback 1".to_owned()).then_some(()));
    assert_eq!([M::Received, M::Settled, M::Connected].map(|metric| remote.number(metric)), [1, 1, 1]);
    remote
}

/// Another process has the slot now, and a connection of its own.
fn is_elsewhere(mut remote: Remote) {
    for _ in 0..300 {
        remote.world.advance(Duration::from_millis(100));
        assert_eq!(found_at(&remote.world, "127.0.0.9:1883"), None, "it goes on, or connects again");
    }
    assert_eq!([M::Connected, M::Unsettled].map(|metric| remote.number(metric)), [0, 0]);
    balances(&remote);
}

#[test]
fn a_bridge_goes_with_a_slot_that_is_lost() {
    let mut remote = in_slot_0();
    let conns = two_connected(&mut remote.world, [&client(0), &client(1)]);
    remote.world.broker.refuses.insert(TOPIC.to_owned(), 47);
    remote.world.bytes(conns[0], &[0x82, 7, 0, 9, 0, 0, 1, b't', 1]);
    notice(&mut remote.world, |notice| matches!(notice, Notice::SlotLost(0)));
    remote.world.broker.refuses.clear();
    is_elsewhere(remote);
}

#[test]
fn a_bridge_goes_with_a_slot_that_is_given_away() {
    let mut remote = in_slot_0();
    remote.world.mail(Mail::Slots(ToSlots::Release(0)));
    notice(&mut remote.world, |notice| matches!(notice, Notice::SlotReleased(0)));
    is_elsewhere(remote);
}
