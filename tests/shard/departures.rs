//! Members of shares that leave: what is published from then on goes to those that stay, their own wills first of all (finding S3, D4).

use std::time::Duration;

use forebay::broker::router::owner;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, SubscriptionOptions, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::rules::KEPT;
use forebay::runtime::seam::{Closed, ConnId, Shard as _};

use super::process::{Of, Process, packets};
use super::subscribe::{PLAIN, bytes_of, message, subscribe_packet};
use super::world::ONE_SINK;

const STRATEGIES: [&str; 4] = ["round-robin", "least-inflight", "hash-topic", "hash-client"];
/// Enough for each member to be the next in turn, and the one that a topic names.
const ROUNDS: usize = 8;

/// How a member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    SocketCloses,
    /// DISCONNECT that asks for its will.
    Says,
    /// Another connection begins a new session.
    TakenOver,
}

/// A client of a process.
type Client = (usize, ConnId);

fn process(strategy: &str, shards: usize) -> Process {
    let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
    let mut process = Process::start(&KEPT, &format!("{text}\n[delivery]\nshare_strategy = \"{strategy}\"\n"), shards);
    process.settle();
    process
}

/// A name that belongs to this shard.
fn name(prefix: &str, shard: usize, shards: usize) -> String {
    (0..).map(|number| format!("{prefix}-{number}")).find(|name| owner(name, shards) == shard).expect("one of them")
}

fn connect(process: &mut Process, client_id: &str, will: Option<(&str, QoS)>, is_kept: bool) -> Client {
    let mut properties = PropertyBuf::new();
    properties.extend(is_kept.then_some(Property::SessionExpiryInterval(3_600)));
    let properties = properties.as_properties();
    let will =
        will.map(|(topic, qos)| Will { qos, retain: false, topic, payload: b"gone", properties: Properties::EMPTY });
    let connect = Connect { will, properties, ..crate::hello::hello(Version::V5, client_id) };
    let mut bytes = Vec::new();
    encode::packet(Version::V5, &Packet::Connect(connect), &mut bytes).expect("encoded");
    process.open_with(client_id, &bytes)
}

fn join(process: &mut Process, (shard, conn): Client, options: SubscriptionOptions) {
    process.say(shard, conn, &subscribe_packet(Version::V5, 0, &[("$share/g/w/#", options)]));
    process.heard(shard, conn);
}

/// Topics of the messages that a client was sent. It acknowledges them.
fn topics(process: &mut Process, (shard, conn): Client) -> Vec<String> {
    let heard = process.heard(shard, conn);
    let (mut topics, mut answers) = (Vec::new(), Vec::new());
    for packet in packets(&heard) {
        if let Packet::Publish(publish) = packet {
            topics.push(publish.topic.to_owned());
            let [high, low] = publish.packet_id.to_be_bytes();
            match publish.qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => answers.extend([0x40, 2, high, low]),
                QoS::ExactlyOnce => answers.extend([0x50, 2, high, low, 0x70, 2, high, low]),
            }
        }
    }
    process.say(shard, conn, &answers);
    topics
}

fn close(process: &mut Process, (shard, conn): Client) {
    let Of { core, table, .. } = &mut process.shards[shard];
    core.on_close(table, conn, Closed::Peer);
    table.release(conn);
}

#[test]
fn finding_s3_d4_the_will_of_a_member_goes_to_another_one() {
    for (shards, strategy) in [1, 2].into_iter().flat_map(|shards| STRATEGIES.map(|strategy| (shards, strategy))) {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for leaves in [Leaves::SocketCloses, Leaves::Says, Leaves::TakenOver] {
                for is_kept in [false, true] {
                    will_of_a_member((shards, strategy), qos, leaves, is_kept);
                }
            }
        }
    }
}

fn will_of_a_member((shards, strategy): (usize, &str), qos: QoS, leaves: Leaves, is_kept: bool) {
    let mut process = process(strategy, shards);
    let options = SubscriptionOptions { qos, ..PLAIN };
    let stays = connect(&mut process, &name("stays", shards - 1, shards), None, false);
    join(&mut process, stays, options);
    for round in 0..ROUNDS {
        let (leaver, topic) = (name("leaves", 0, shards), format!("w/{round}"));
        let (shard, conn) = connect(&mut process, &leaver, Some((&topic, qos)), is_kept);
        join(&mut process, (shard, conn), options);
        match leaves {
            Leaves::SocketCloses => close(&mut process, (shard, conn)),
            Leaves::Says => {
                process.bytes(shard, conn, &[0xE0, 1, 4]);
                process.settle();
                close(&mut process, (shard, conn));
            }
            Leaves::TakenOver => {
                let next = connect(&mut process, &leaver, None, false);
                process.settle();
                close(&mut process, (shard, conn));
                close(&mut process, next);
            }
        }
        process.settle();
        let got = topics(&mut process, stays);
        assert_eq!(got, [topic], "{shards} shards, {strategy}, {qos:?}, {leaves:?}, kept: {is_kept}, round {round}");
    }
}

/// What others publish in the turn in which a member leaves.
#[test]
fn finding_s3_d4_what_is_published_when_a_member_has_left_goes_to_another_one() {
    for (shards, strategy) in [1, 2].into_iter().flat_map(|shards| STRATEGIES.map(|strategy| (shards, strategy))) {
        for (qos, is_kept) in
            [QoS::AtMostOnce, QoS::AtLeastOnce].into_iter().flat_map(|qos| [(qos, false), (qos, true)])
        {
            let mut process = process(strategy, shards);
            let options = SubscriptionOptions { qos, ..PLAIN };
            let stays = connect(&mut process, &name("stays", shards - 1, shards), None, false);
            let publisher = connect(&mut process, &name("publisher", 0, shards), None, false);
            join(&mut process, stays, options);
            for round in 0..ROUNDS {
                let leaver = connect(&mut process, &name("leaves", 0, shards), None, is_kept);
                join(&mut process, leaver, options);
                let topic = format!("w/{round}");
                let of = Publish { qos, packet_id: 1, ..message(&topic, "x") };
                close(&mut process, leaver);
                process.bytes(publisher.0, publisher.1, &bytes_of(Version::V5, &Packet::Publish(of)));
                process.settle();
                let got = topics(&mut process, stays);
                assert_eq!(got, [topic], "{shards} shards, {strategy}, {qos:?}, kept: {is_kept}, round {round}");
                process.heard(publisher.0, publisher.1);
            }
        }
    }
}

/// The last member of all: what is for a kept session waits for it.
#[test]
fn finding_s3_d4_the_will_of_the_last_member_waits_for_a_kept_one() {
    for strategy in STRATEGIES {
        let mut process = process(strategy, 2);
        let (kept, other) = (name("kept", 0, 2), name("other", 1, 2));
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };
        let first = connect(&mut process, &kept, None, true);
        join(&mut process, first, options);
        close(&mut process, first);
        process.settle();
        let last = connect(&mut process, &other, Some(("w/x", QoS::AtLeastOnce)), false);
        join(&mut process, last, options);
        close(&mut process, last);
        process.settle();
        process.turn(last.0, Duration::from_secs(2));
        process.settle();
        let (_, _, behind) = process.connect(&kept);
        let got: Vec<_> = packets(&behind).filter(|packet| matches!(packet, Packet::Publish(_))).collect();
        assert_eq!(got.len(), 1, "{strategy}: {got:?}");
    }
}
