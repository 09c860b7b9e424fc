//! Replays of records of `[broker]`: a subscription gets messages of the past first, and live ones from where those end.

use std::time::Duration;

use forebay::broker::router::owner;
use forebay::membership::SlotSet;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Packet, PacketType, QoS, Subscribe, SubscriptionOptions, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{FilterBuf, encode};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};
use forebay::shard::mail::{Mail, Notice, ToSlots};

use super::conformance::words;
use super::slots::{BROKER, client, heard, notice, started, started_with, taken, until};
use super::world::{ONE_SINK, World};

const TOPIC: &str = "mqtt-messages";

/// A shard with a slot, whose Kafka has this many records in a partition; the live reader has read them, and nobody got them.
fn with_records(count: usize) -> World {
    let mut world = started(0..1);
    world.broker.key = Some(b"t".to_vec());
    world.broker.begins_at = Some(0);
    append(&mut world, 0, 0..count);
    until(&mut world, |world| (published(world) == count as u64).then_some(()));
    world
}

fn published(world: &World) -> u64 {
    use forebay::metrics::spec::SourceMetric;
    world.source_number(0, SourceMetric::Records)
}

/// Appends records to a partition, with their offsets as values.
fn append(world: &mut World, partition: i32, numbers: std::ops::Range<usize>) {
    let log = world.broker.readable.entry((TOPIC.to_owned(), partition)).or_default();
    log.extend(numbers.map(|number| format!("{partition}-{number}").into_bytes()));
}

/// A client of the slot, by number.
fn nth_client(number: usize) -> String {
    let mut all = (0..).map(|number| format!("reader-{number}")).filter(|id| owner(id, 64) == 0);
    all.nth(number).expect("there are many")
}

/// A client that may be sent this many messages before it acknowledges; its session ends with the connection.
fn reader(world: &mut World, id: &str, receive_maximum: u8) -> ConnId {
    let conn = world.connect_v5(id, &[2, 0, 0, 3, 0x21, 0, receive_maximum]);
    assert!(heard(world, conn)[0].starts_with("connack 0 0x00"));
    conn
}

fn subscribe(packet_id: u16, filters: &[&str], from: Option<&str>, qos: QoS) -> Vec<u8> {
    let mut properties = PropertyBuf::new();
    properties.extend(from.map(|from| Property::UserProperty("replay-from", from)));
    let mut list = FilterBuf::for_subscribe();
    for filter in filters {
        list.push(filter, SubscriptionOptions { qos, ..SubscriptionOptions::default() });
    }
    let packet = Subscribe { packet_id, properties: properties.as_properties(), filters: list.as_filters() };
    let mut out = Vec::new();
    encode::packet(Version::V5, &Packet::Subscribe(packet), &mut out).expect("encoded");
    out
}

/// What a client is sent until `count` messages have come, each acknowledged: their payloads; other packets in words.
fn take(world: &mut World, conn: ConnId, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.iter().filter(|word: &&String| word.contains('-')).count() < count {
        for word in heard(world, conn) {
            if let Some((of, id)) = word.split_once(" id ") {
                let id: u16 = id.split(' ').next().and_then(|id| id.parse().ok()).expect("an id");
                let mut ack = Vec::new();
                encode::ack(Version::V5, PacketType::PubAck, id, ReasonCode::SUCCESS, &mut ack);
                world.feed(conn, &ack);
                all.push(of.split(' ').nth(1).expect("a payload").to_owned());
            } else if let Some(payload) = word.strip_prefix("t ").and_then(|rest| rest.strip_suffix(" q0")) {
                all.push(payload.to_owned());
            } else {
                all.push(word);
            }
        }
    }
    all
}

/// Lets a minute pass, in which all messages arrive that are on their way.
fn rest(world: &mut World, conn: ConnId) -> Vec<String> {
    for _ in 0..600 {
        world.advance(Duration::from_millis(100));
        world.turn();
    }
    words(Version::V5, &world.sent(conn))
}

fn offsets(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("0-{number}")).collect()
}

/// The past comes in order, at the pace of the client; what comes live meanwhile is passed over, and comes with it; then live messages come, each once.
#[test]
fn the_past_comes_first_and_then_the_present() {
    for (from, first) in [("earliest", 0), ("offset:4", 4), ("1970-01-01T00:00:00.007Z", 7)] {
        let mut world = with_records(10);
        let conn = reader(&mut world, &client(0), 2);
        world.bytes(conn, &subscribe(9, &["t"], Some(from), QoS::AtLeastOnce));
        let mut got = heard(&mut world, conn);
        assert_eq!(got.remove(0), "suback 9 [1]", "{from}");
        // The client is slow, and more comes live.
        while got.len() < 2 {
            got.extend(heard(&mut world, conn));
        }
        append(&mut world, 0, 10..13);
        until(&mut world, |world| (published(world) == 13).then_some(()));
        assert_eq!(rest(&mut world, conn), [""; 0], "more than the client takes");
        let mut all = Vec::new();
        for word in got {
            let (of, id) = word.split_once(" id ").expect("a message");
            all.push(of.split(' ').nth(1).expect("a payload").to_owned());
            let mut ack = Vec::new();
            encode::ack(Version::V5, PacketType::PubAck, id.parse().expect("an id"), ReasonCode::SUCCESS, &mut ack);
            world.feed(conn, &ack);
        }
        all.extend(take(&mut world, conn, 13 - first - 2));
        assert_eq!(all, offsets(first..13), "{from}");
        until(&mut world, |world| (world.number(M::ReplaysLive) == 1).then_some(()));
        append(&mut world, 0, 13..15);
        assert_eq!(take(&mut world, conn, 2), offsets(13..15));
        assert_eq!(rest(&mut world, conn), [""; 0], "nothing comes twice");
        assert_eq!(
            [M::ReplayMessages, M::ReplaysRunning, M::ReplaysEnded].map(|of| world.number(of)),
            [(13 - first) as u64, 0, 0]
        );
    }
}

/// All records are older than the time asked for, or below the offset: the next record is the first.
#[test]
fn where_there_is_no_such_past_the_present_comes_at_once() {
    for from in ["offset:99", "2026-11-26T10:00:00Z", "-1h"] {
        let mut world = with_records(3);
        let conn = reader(&mut world, &client(0), 9);
        world.bytes(conn, &subscribe(9, &["t"], Some(from), QoS::AtLeastOnce));
        assert_eq!(heard(&mut world, conn), ["suback 9 [1]"], "{from}");
        until(&mut world, |world| (world.number(M::ReplaysLive) == 1).then_some(()));
        append(&mut world, 0, 3..5);
        assert_eq!(take(&mut world, conn, 2), offsets(3..5), "{from}");
        assert_eq!(world.number(M::ReplayMessages), 0);
    }
}

/// What Kafka has deleted is left out.
#[test]
fn records_that_are_gone_are_left_out() {
    for from in ["earliest", "offset:1"] {
        let mut world = with_records(6);
        world.broker.begins_at = Some(4);
        let conn = reader(&mut world, &client(0), 9);
        world.bytes(conn, &subscribe(9, &["t"], Some(from), QoS::AtLeastOnce));
        assert_eq!(take(&mut world, conn, 2)[1..], offsets(4..6), "{from}");
        until(&mut world, |world| (world.number(M::ReplaysLive) == 1).then_some(()));
    }
}

/// A session with two subscriptions that match gets a message live for the one, and with the replay for the other.
#[test]
fn each_of_two_subscriptions_gets_a_message_once() {
    let mut world = with_records(4);
    let conn = reader(&mut world, &client(0), 1);
    world.bytes(conn, &subscribe(1, &["+"], None, QoS::AtMostOnce));
    world.bytes(conn, &subscribe(2, &["t"], Some("earliest"), QoS::AtLeastOnce));
    let mut got = heard(&mut world, conn);
    while got.len() < 3 {
        got.extend(heard(&mut world, conn));
    }
    assert_eq!(got, ["suback 1 [0]", "suback 2 [1]", "t 0-0 q1 id 1"]);
    // It comes live for the first one while the second one's replay waits for the client.
    append(&mut world, 0, 4..5);
    assert_eq!(heard(&mut world, conn), ["t 0-4 q0"]);
    world.feed(conn, &[0x40, 2, 0, 1]);
    assert_eq!(take(&mut world, conn, 4), offsets(1..5));
    until(&mut world, |world| (world.number(M::ReplaysLive) == 1).then_some(()));
    // One copy is for both.
    append(&mut world, 0, 5..6);
    assert_eq!(take(&mut world, conn, 1), offsets(5..6));
    assert_eq!(rest(&mut world, conn), [""; 0]);
}

/// Another subscription to the same filter takes the place of the one that is replayed, with or without a past.
#[test]
fn a_subscription_that_is_replaced_or_ended_is_not_replayed_further() {
    let mut world = with_records(5);
    let conn = reader(&mut world, &client(0), 1);
    world.bytes(conn, &subscribe(1, &["t"], Some("earliest"), QoS::AtLeastOnce));
    let mut got = heard(&mut world, conn);
    while got.len() < 2 {
        got.extend(heard(&mut world, conn));
    }
    world.bytes(conn, &subscribe(2, &["t"], Some("offset:3"), QoS::AtLeastOnce));
    assert_eq!(heard(&mut world, conn), ["suback 2 [1]"]);
    world.feed(conn, &[0x40, 2, 0, 1]);
    let mut all = Vec::new();
    all.extend(heard(&mut world, conn));
    assert_eq!(all, ["t 0-3 q1 id 2"]);
    world.bytes(conn, &subscribe(3, &["t"], None, QoS::AtMostOnce));
    assert_eq!(heard(&mut world, conn), ["suback 3 [0]"]);
    append(&mut world, 0, 5..6);
    assert_eq!(heard(&mut world, conn), ["t 0-5 q0"]);
    world.feed(conn, &[0x40, 2, 0, 2]);
    assert_eq!(rest(&mut world, conn), [""; 0]);
    assert_eq!([M::ReplaysEnded, M::ReplaysLive, M::ReplaysWaiting].map(|of| world.number(of)), [2, 0, 0]);
}

/// `KEPT_ONE_AT_A_TIME` is the part of a CONNECT behind the protocol's name, for a kept session with one message on its way at a time.
const KEPT_ONE_AT_A_TIME: [u8; 12] = [0, 0, 0, 8, 0x21, 0, 1, 0x11, 0, 0, 0x0E, 0x10];

/// A client with a kept session that has been sent the first of five messages of the past, and has not acknowledged it.
fn in_the_past(world: &mut World, id: &str) -> ConnId {
    let conn = world.connect_v5(id, &KEPT_ONE_AT_A_TIME);
    assert!(heard(world, conn)[0].starts_with("connack 0 0x00"));
    world.bytes(conn, &subscribe(1, &["t"], Some("earliest"), QoS::AtLeastOnce));
    let mut got = heard(world, conn);
    while got.len() < 2 {
        got.extend(heard(world, conn));
    }
    assert_eq!(got, ["suback 1 [1]", "t 0-0 q1 id 1"]);
    conn
}

/// Two messages have come since the client's replay has ended. The client comes back, and gets what it had not acknowledged and these two; nothing else of the past.
fn goes_on_with_the_present(world: &mut World, id: &str) {
    let conn = world.connect_v5(id, &KEPT_ONE_AT_A_TIME);
    let got = take(world, conn, 3);
    assert_eq!(got[0], "connack 1 0x00");
    assert_eq!(got[1..], ["0-0", "0-5", "0-6"]);
    assert_eq!(rest(world, conn), [""; 0]);
}

/// A replay ends with its connection; the subscription of a kept session goes on with new messages.
#[test]
fn a_kept_session_goes_on_with_the_present() {
    let mut world = with_records(5);
    let id = client(0);
    let conn = in_the_past(&mut world, &id);
    world.core.on_close(&mut world.table, conn, Closed::Peer);
    world.turn();
    assert_eq!(world.number(M::ReplaysEnded), 1);
    append(&mut world, 0, 5..7);
    until(&mut world, |world| (published(world) == 7).then_some(()));
    goes_on_with_the_present(&mut world, &id);
}

/// A slot is lost while its client gets the past: the replay ends, and the client hears nothing of it. At the slot's next owner, in this case the same shard, the
/// session goes on with new messages.
#[test]
fn a_replay_ends_with_a_slot_that_is_lost_and_the_session_goes_on_at_the_next_owner() {
    let mut world = with_records(5);
    let id = client(0);
    let conn = in_the_past(&mut world, &id);
    // Within five seconds the log of the slot gets the place up to which live messages have been read.
    let mut looks = 0;
    until(&mut world, |_| {
        looks += 1;
        (looks > 50).then_some(())
    });
    assert!(world.sent(conn).is_empty(), "the client has not acknowledged the first message");
    world.mail(Mail::Slots(ToSlots::Drop(SlotSet::from_iter([0]))));
    assert!(world.table.wire(conn).closed && world.sent(conn).is_empty(), "not a word");
    assert_eq!([M::ReplaysEnded, M::ReplaysLive, M::ReplaysRunning].map(|of| world.number(of)), [1, 0, 0]);
    append(&mut world, 0, 5..7);
    until(&mut world, |world| (published(world) == 7).then_some(()));
    let log = taken(&mut world, 0, 2);
    world.notices();
    world.mail(Mail::Slots(ToSlots::TakeOver(vec![log])));
    notice(&mut world, |notice| matches!(notice, Notice::SlotTaken(0)));
    goes_on_with_the_present(&mut world, &id);
    assert_eq!(world.number(M::ReplaysEnded), 1);
}

/// Four replays run at a time. A replay gives its place to another one while its client reads nothing.
#[test]
fn a_replay_that_does_not_get_on_makes_room() {
    let mut world = with_records(5);
    let slow: Vec<ConnId> = (0..6)
        .map(|number| {
            let conn = reader(&mut world, &nth_client(number), 1);
            world.bytes(conn, &subscribe(1, &["t"], Some("earliest"), QoS::AtLeastOnce));
            conn
        })
        .collect();
    assert_eq!(world.number(M::ReplaysRunning), 4);
    assert!(world.number(M::ReplaysWaiting) >= 2);
    let conn = reader(&mut world, &nth_client(6), 9);
    world.bytes(conn, &subscribe(1, &["t"], Some("earliest"), QoS::AtLeastOnce));
    assert_eq!(take(&mut world, conn, 5)[1..], offsets(0..5));
    // Each of the others has had its turn, and goes on where it was when its client does.
    for conn in slow {
        assert_eq!(take(&mut world, conn, 5)[1..], offsets(0..5));
    }
    until(&mut world, |world| (world.number(M::ReplaysLive) == 7).then_some(()));
    assert_eq!([M::ReplaysRunning, M::ReplaysWaiting, M::ReplayFetchBytes].map(|of| world.number(of)), [0; 3]);
}

/// In words that mean nothing, of a shared subscription, in too many, or without Kafka, no past is granted; nor is the subscription.
#[test]
fn what_cannot_be_replayed_is_refused() {
    let mut world = with_records(1);
    let conn = reader(&mut world, &client(0), 9);
    let mut suback = |filters: &[&str], from| {
        world.bytes(conn, &subscribe(1, filters, from, QoS::AtLeastOnce));
        heard(&mut world, conn).remove(0)
    };
    assert_eq!(suback(&["t", "u"], Some("yesterday")), "suback 1 [143, 143]");
    assert_eq!(suback(&["$replay/tomorrow/t"], None), "suback 1 [143]");
    assert_eq!(suback(&["$replay/-1h"], None), "suback 1 [143]");
    assert_eq!(suback(&["$share/g/t"], Some("-1h")), "suback 1 [143]");
    assert_eq!(suback(&["$replay/-1h/$share/g/t"], None), "suback 1 [143]");
    let filters: Vec<String> = (0..17).map(|number| format!("never/{number}")).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let codes = suback(&filters, Some("offset:99"));
    assert_eq!(codes, format!("suback 1 [{}151]", "1, ".repeat(16)));
    assert_eq!(world.told(EventKind::SubscribeRefused), 6);
    let mut world = World::new(ONE_SINK);
    let conn = world.device_v5("reader");
    world.bytes(conn, &subscribe(1, &["t"], Some("-1h"), QoS::AtLeastOnce));
    assert_eq!(words(Version::V5, &world.sent(conn)), ["suback 1 [131]"]);
}

/// Before 5.0 the filter says it, in SUBSCRIBE and in UNSUBSCRIBE. Topics of other routes are read as well: messages of the filter may have gone there.
#[test]
fn a_client_of_3_1_1_asks_with_its_filter() {
    let route = format!("{BROKER}[[broker.route]]\nfilters = ['other/#']\ntopic = 'other'\n");
    let mut world = started_with(&route, 0..1);
    world.broker.key = Some(b"t".to_vec());
    world.broker.begins_at = Some(0);
    append(&mut world, 0, 0..2);
    world.broker.readable.insert(("other".to_owned(), 0), vec![b"o-0".to_vec(); 3]);
    until(&mut world, |world| (published(world) == 5).then_some(()));
    let conn = world.device(&client(0), 0);
    let filter = b"$replay/earliest/t";
    let mut packet = vec![0x82, 5 + filter.len() as u8, 0, 7, 0, filter.len() as u8];
    packet.extend_from_slice(filter);
    packet.push(0);
    world.bytes(conn, &packet);
    let said = |world: &mut World| until(world, |world| Some(world.sent(conn)).filter(|bytes| !bytes.is_empty()));
    let mut got = words(Version::V311, &said(&mut world));
    while got.len() < 6 {
        got.extend(words(Version::V311, &said(&mut world)));
    }
    got[1..].sort();
    assert_eq!(got, ["suback 7 [0]", "t 0-0 q0", "t 0-1 q0", "t o-0 q0", "t o-0 q0", "t o-0 q0"]);
    assert_eq!(world.number(M::ReplayRecords), 5);
    let mut packet = vec![0xA2, 4 + filter.len() as u8, 0, 8, 0, filter.len() as u8];
    packet.extend_from_slice(filter);
    world.bytes(conn, &packet);
    assert_eq!(words(Version::V311, &said(&mut world)), ["unsuback 8 []"]);
    assert_eq!(world.number(M::Subscriptions), 0);
}

/// Messages that come live while a replay waits for its turn are not lost, even if all earlier records are older than the time asked for.
#[test]
fn what_came_while_a_replay_waited_comes_with_it() {
    // The live reader asks again when its last question has timed out: that is to be before the replay has its turn.
    let is_shown = |seconds: u64| {
        let mut world = with_records(5);
        world.advance(Duration::from_secs(seconds));
        let begun = world.table.now;
        for number in 0..4 {
            let conn = reader(&mut world, &nth_client(number), 1);
            world.bytes(conn, &subscribe(1, &["t"], Some("earliest"), QoS::AtLeastOnce));
            assert_eq!(heard(&mut world, conn)[0], "suback 1 [1]");
        }
        let conn = reader(&mut world, &nth_client(4), 9);
        world.bytes(conn, &subscribe(1, &["t"], Some("-1h"), QoS::AtLeastOnce));
        assert_eq!(words(Version::V5, &world.sent(conn)), ["suback 1 [1]"]);
        append(&mut world, 0, 5..7);
        until(&mut world, |world| (published(world) == 7).then_some(()));
        let waits = world.table.now.since(begun) < Duration::from_millis(900);
        assert_eq!(take(&mut world, conn, 2), offsets(5..7));
        append(&mut world, 0, 7..8);
        assert_eq!(take(&mut world, conn, 1), offsets(7..8));
        assert!(world.number(M::ReplaysLive) >= 1);
        waits
    };
    assert!((0..60).any(is_shown));
}

/// A client that has taken one message of six, and Kafka has changed since: what comes then, and how often an event was told.
fn after(change: fn(&mut World), kind: EventKind) -> (Vec<String>, usize, World) {
    let mut world = with_records(6);
    let conn = reader(&mut world, &client(0), 1);
    world.bytes(conn, &subscribe(1, &["t"], Some("earliest"), QoS::AtLeastOnce));
    let mut got = heard(&mut world, conn);
    while got.len() < 2 {
        got.extend(heard(&mut world, conn));
    }
    assert_eq!(got[1], "t 0-0 q1 id 1");
    change(&mut world);
    world.feed(conn, &[0x40, 2, 0, 1]);
    // The next one has been fetched before.
    let mut got = take(&mut world, conn, 1);
    until(&mut world, |world| (world.told(kind) > 0).then_some(()));
    if kind == EventKind::ReplayGap {
        got.extend(take(&mut world, conn, 2));
    }
    (got, world.told(kind), world)
}

#[test]
fn what_kafka_deletes_before_a_slow_client_gets_to_it_is_told() {
    let (got, told, world) = after(|world| world.broker.begins_at = Some(4), EventKind::ReplayGap);
    assert_eq!((got, told), (["0-1", "0-4", "0-5"].map(str::to_owned).to_vec(), 1));
    assert_eq!(world.number(M::ReplaysAborted), 0);
}

#[test]
fn a_replay_of_a_log_that_is_another_one_by_now_is_given_up() {
    let shorter = |world: &mut World| world.broker.readable.values_mut().for_each(|log| log.truncate(1));
    let (got, told, world) = after(shorter, EventKind::ReplayAborted);
    assert_eq!((got, told), (vec!["0-1".to_owned()], 1));
    assert_eq!([M::ReplaysAborted, M::ReplaysRunning].map(|of| world.number(of)), [1, 0]);
}
