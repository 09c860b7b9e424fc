//! Records of sources whose copies only memory has when their client leaves: a record is over when the log has its copy, and not before.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::metrics::spec::{ShardMetric as M, SourceMetric};
use forebay::mqtt::packet::QoS;
use forebay::runtime::seam::ConnId;
use forebay::shard::mail::{Mail, ToShard};

use super::kept::{arrive, connect};
use super::queues::{self, Heard, QOS_1, QOS_2, answer, back, hear, lose, say};
use super::shares::{join, member};
use super::sources::{come_to_rest, until};
use super::world::World;

const SOURCE: &str = r#"
[[source]]
name = "commands"
kafka = "main"
topic = "commands"
mqtt_topic = "t/1"
payload = "${value}"
group = ""
offset_reset = "earliest"
"#;

/// A source of messages of this QoS, a spool, and few places in a queue.
fn world(qos: u8) -> World {
    let delivery = "[delivery]\nqueue_messages_max = 4\n";
    let mut world = World::new(&format!("{}{SOURCE}qos = \"{qos}\"\n{delivery}", queues::config()));
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    world
}

fn write(world: &mut World, records: Vec<Vec<u8>>) {
    let count = records.len() as u64;
    world.broker.readable.insert(("commands".to_owned(), 0), records);
    world.mail(Mail::Shard(ToShard::Accept));
    come_to_rest(world);
    until(world, |world| world.source_number(0, SourceMetric::Records) == count);
}

/// Records that are open, once the board shows it.
fn open(world: &mut World) -> u64 {
    for _ in 0..30 {
        world.advance(Duration::from_millis(10));
        come_to_rest(world);
    }
    world.source_number(0, SourceMetric::Open)
}

/// Until no record is open any more.
fn until_over(world: &mut World) {
    until(world, |world| world.source_number(0, SourceMetric::Open) == 0);
}

/// The payloads that a client gets, which answers each.
fn take_all(world: &mut World, client: (ConnId, Vec<Heard>)) -> Vec<String> {
    take(world, client, usize::MAX)
}

/// The payloads that a client gets, which answers this many, and not the next one.
fn take(world: &mut World, (client, mut heard): (ConnId, Vec<Heard>), most: usize) -> Vec<String> {
    let mut got = Vec::new();
    for _ in 0..100 {
        heard.extend(hear(world, client));
        for one in heard.drain(..) {
            match one {
                Heard::Message { .. } if got.len() == most => return got,
                Heard::Message { qos, id, payload, .. } => {
                    answer(world, client, if qos == 1 { 4 } else { 5 }, id);
                    got.push(payload);
                }
                Heard::Answer { id, .. } => answer(world, client, 7, id),
            }
        }
        world.advance(Duration::from_millis(5));
    }
    got
}

/// What a client's queue had no place for held its partition back while the client was there. When the client leaves, the log gets it, and a record is over
/// when that is durable.
#[test]
fn what_a_queue_had_no_place_for_is_durable_before_its_record_is_over() {
    for (qos, options) in [(1, QOS_1), (2, QOS_2)] {
        let mut world = world(qos);
        let client = member(&mut world, "client", 1, 0, true);
        join(&mut world, client, "#", options);
        write(&mut world, (0..25).map(|number| format!("{number}").into_bytes()).collect());
        assert_eq!(
            (open(&mut world), world.number(M::StoredMessages)),
            (20, 5),
            "QoS {qos}: one is on its way, and four wait"
        );
        world.table.disk.slow = true;
        lose(&mut world, client);
        come_to_rest(&mut world);
        assert_eq!((open(&mut world), world.number(M::StoredMessages)), (20, 25), "QoS {qos}: written, not durable");
        world.table.disk.slow = false;
        until_over(&mut world);
        world.power_cut();
        let back = back(&mut world, "client");
        let got = take_all(&mut world, back);
        assert_eq!(got, (0..25).map(|number| number.to_string()).collect::<Vec<_>>(), "QoS {qos}");
        queues::rest(&mut world);
        assert_eq!(world.number(M::StoredMessages), 0);
    }
}

/// What its log has of a connected client's queue never comes before what only memory has, as a crash leaves the log's alone, and the source reads the other
/// again: a place that is free again in the queue is not for a younger message.
#[test]
fn what_a_queue_had_no_place_for_comes_before_younger_messages_after_a_crash() {
    for (qos, options) in [(1, QOS_1), (2, QOS_2)] {
        let mut world = world(qos);
        let client = member(&mut world, "client", 1, 0, true);
        join(&mut world, client, "#", options);
        let records = |count: u32| (0..count).map(|number| format!("{number:02}").into_bytes()).collect();
        write(&mut world, records(25));
        assert_eq!(take(&mut world, (client, Vec::new()), 3), ["00", "01", "02"]);
        write(&mut world, records(30));
        assert_eq!(world.number(M::StoredMessages), 2, "QoS {qos}: one on its way, and one that waits");
        world.power_cut();
        let back = back(&mut world, "client");
        assert_eq!(take_all(&mut world, back), ["03", "04"], "QoS {qos}: the source reads the others again");
    }
}

/// The connection of a client that is gone in silence is taken over by its next one: the client still answers for what its queue had no place for.
#[test]
fn what_a_queue_had_no_place_for_stays_open_in_a_takeover() {
    let mut world = world(1);
    let client = member(&mut world, "client", 1, 0, true);
    join(&mut world, client, "#", QOS_1);
    write(&mut world, (0..25).map(|number| format!("{number}").into_bytes()).collect());
    let back = back(&mut world, "client");
    assert_eq!((open(&mut world), world.number(M::StoredMessages)), (20, 5));
    let got = take_all(&mut world, back);
    assert_eq!((got.len(), open(&mut world)), (25, 0));
}

/// Where the log has no room for what a client leaves, its record stays open until there is some.
#[test]
fn what_the_log_has_no_room_for_keeps_its_record_open() {
    no_room("#");
}

/// The same for members of shared subscriptions.
#[test]
fn what_the_log_has_no_room_for_keeps_its_record_open_for_a_share() {
    no_room("$share/g/#");
}

/// Fills the log with sessions. How many there are.
fn fill(world: &mut World) -> usize {
    let will = "w".repeat(60_000);
    let others = (0..1_000).find(|number| {
        let conn = arrive(world, &connect(&format!("other-{number}"), false, Some(&will)));
        world.sent(conn) != [0x20, 2, 0, 0]
    });
    others.expect("the log is full")
}

/// Ends those sessions.
fn make_room(world: &mut World, others: usize) {
    for number in 0..others {
        arrive(world, &connect(&format!("other-{number}"), true, None));
    }
}

fn no_room(filter: &str) {
    let mut world = world(1);
    let client = member(&mut world, "client", 0, 0, true);
    join(&mut world, client, filter, QOS_1);
    let others = fill(&mut world);
    let record = "r".repeat(60_000);
    write(&mut world, vec![record.clone().into_bytes()]);
    assert_eq!((open(&mut world), world.number(M::StoredMessages)), (1, 0), "{filter}: the client got it from memory");
    lose(&mut world, client);
    world.advance(Duration::from_secs(5));
    come_to_rest(&mut world);
    assert_eq!((open(&mut world), world.number(M::StoredMessages)), (1, 0), "{filter}: the log has no room still");
    make_room(&mut world, others);
    until_over(&mut world);
    assert_eq!(world.number(M::StoredMessages), 1, "{filter}");
    world.power_cut();
    let back = back(&mut world, "client");
    assert_eq!(take_all(&mut world, back), [record], "{filter}");
}

/// A client of QoS 2: under which packet identifiers it holds a message that it has not been told to release, and what it has got.
#[derive(Default)]
struct Receiver {
    held: BTreeMap<u16, String>,
    got: Vec<String>,
}

impl Receiver {
    /// Takes packets and answers them, up to a message with which it has got this many: that one it leaves unanswered.
    fn take(&mut self, world: &mut World, (client, mut heard): (ConnId, Vec<Heard>), most: usize) {
        for _ in 0..100 {
            heard.extend(hear(world, client));
            for one in heard.drain(..) {
                match one {
                    Heard::Message { id, dup, payload, .. } => {
                        let held = self.held.insert(id, payload.clone());
                        if held.is_none() {
                            self.got.push(payload);
                        } else {
                            assert_eq!((held, dup), (Some(payload), true), "{id}: the client takes it for a repeat");
                        }
                        if self.got.len() == most {
                            return;
                        }
                        answer(world, client, 5, id);
                    }
                    Heard::Answer { id, .. } => {
                        self.held.remove(&id);
                        answer(world, client, 7, id);
                    }
                }
            }
            world.advance(Duration::from_millis(5));
        }
    }
}

/// A client holds a message of QoS 2 that was in memory alone when the process ended: the next process has it release the packet identifier, and another
/// message may have it after that.
#[test]
fn what_a_client_has_from_memory_at_qos_2_is_released_after_a_crash() {
    let mut world = world(2);
    let client = member(&mut world, "client", 1, 0, true);
    join(&mut world, client, "#", QOS_2);
    write(&mut world, (0..25).map(|number| format!("{number}").into_bytes()).collect());
    let mut receiver = Receiver::default();
    // The log has the first five.
    receiver.take(&mut world, (client, Vec::new()), 6);
    assert_eq!(receiver.held.values().collect::<Vec<_>>(), ["5"]);
    world.power_cut();
    let back = back(&mut world, "client");
    receiver.take(&mut world, back, usize::MAX);
    assert_eq!((receiver.held.len(), receiver.got.len()), (0, 6));
}

/// The same of a message that is too large for the log: it waits in memory while its client is away, without its record.
#[test]
fn what_a_client_has_at_qos_2_that_is_too_large_for_the_log_is_released_after_a_crash() {
    let mut world = world(2);
    let client = member(&mut world, "client", 1, 0, true);
    join(&mut world, client, "#", QOS_2);
    let large = "r".repeat(200_000);
    write(&mut world, ["a", &large].map(|record| record.as_bytes().to_vec()).to_vec());
    lose(&mut world, client);
    until_over(&mut world);
    let client = back(&mut world, "client");
    let mut receiver = Receiver::default();
    receiver.take(&mut world, client, 2);
    assert!(receiver.held.values().any(|held| *held == large));
    world.power_cut();
    let back = back(&mut world, "client");
    receiver.take(&mut world, back, usize::MAX);
    assert_eq!((receiver.held.len(), receiver.got.len()), (0, 2));
}

/// The same where the log has no room for the message.
#[test]
fn what_a_client_has_at_qos_2_as_the_log_has_no_room_is_released_after_a_crash() {
    let mut world = world(2);
    let client = member(&mut world, "client", 0, 0, true);
    // Without the wills of those who fill the log.
    join(&mut world, client, "t/#", QOS_2);
    let others = fill(&mut world);
    let record = "r".repeat(60_000);
    write(&mut world, vec![record.clone().into_bytes()]);
    let mut receiver = Receiver::default();
    receiver.take(&mut world, (client, Vec::new()), 1);
    assert_eq!((receiver.got.as_slice(), world.number(M::StoredMessages)), ([record].as_slice(), 0));
    world.power_cut();
    let (client, heard) = back(&mut world, "client");
    make_room(&mut world, others);
    let publisher = world.device_v5("publisher");
    say(&mut world, publisher, QoS::ExactlyOnce, 1, "x");
    receiver.take(&mut world, (client, heard), usize::MAX);
    assert_eq!((receiver.held.len(), &receiver.got[1..]), (0, ["x".to_owned()].as_slice()));
}
