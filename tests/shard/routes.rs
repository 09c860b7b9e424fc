//! Partitions of `[broker]`'s routes: where their readers begin, and what they do not retain again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use forebay::config;
use forebay::kafka::consumer::Batches;
use forebay::metrics::spec::SourceMetric;
use forebay::mqtt::packet::Version;
use forebay::runtime::seam::ConnId;
use forebay::shard::mail::{Mail, ToShard, ToSlots};
use forebay::shard::sources::{FirstRead, RetainedMessages, first_read, partition_key};
use kafka_protocol::messages::ApiKey;

use super::conformance::words;
use super::coordinator::Groups;
use super::positions::{connect, started, subscribe};
use super::slot_full::clients;
use super::slots::{BROKER, begin, client, heard, until};
use super::world::World;

const MESSAGES: &str = "mqtt-messages";
const RETAINED: &str = "mqtt-retained";

/// FENCED_INSTANCE_ID and COORDINATOR_LOAD_IN_PROGRESS.
const FENCED: i16 = 82;
const LOADING: i16 = 14;

fn groups(world: &mut World) -> &mut Groups {
    world.broker.groups.as_mut().expect("it has groups")
}

fn write(world: &mut World, value: &str) {
    world.broker.readable.entry((MESSAGES.to_owned(), 0)).or_default().push(value.as_bytes().to_vec());
}

/// A client with a session that ends with its connection.
fn without_session(world: &mut World, id: &str) -> ConnId {
    let conn = world.connect_v5(id, &[2, 0, 0, 0]);
    assert!(heard(world, conn)[0].starts_with("connack 0 0x00"));
    conn
}

/// A process that stood still goes on, takes the place of its successor in the group for a moment, and commits what it has nobody for. Clients of the
/// successor get it all the same, those with sessions that end with their connections, too, and nobody gets anything twice.
#[test]
fn a_reader_begins_no_later_than_the_one_before_it_was() {
    let config = config::parse(&format!("{BROKER}name = \"a\"\nqos = 1\n"), "test.toml").expect("a configuration");
    let group = config.sources[0].group.clone();
    let mut world = World::of(config);
    world.broker.groups = Some(Groups::default());
    world.broker.key = Some(b"t".to_vec());
    let at = (group.clone(), MESSAGES.to_owned(), 0);
    groups(&mut world).committed.insert(at.clone(), 0);
    begin(&mut world, 0..2, 1);
    let (kept, ..) = connect(&mut world, &client(0));
    let clean = without_session(&mut world, &client(1));
    [kept, clean].into_iter().for_each(|conn| subscribe(&mut world, conn, b't', 1));
    write(&mut world, "one");
    for conn in [kept, clean] {
        assert_eq!(heard(&mut world, conn), ["t one q1 id 1"]);
        world.bytes(conn, &[0x40, 2, 0, 1]);
    }
    until(&mut world, |world| (groups(world).committed[&at] == 1).then_some(()));

    groups(&mut world).refuses = vec![(ApiKey::Heartbeat, "forebay", FENCED), (ApiKey::JoinGroup, "forebay", LOADING)];
    until(&mut world, |world| (world.source_number(0, SourceMetric::Assigned) == 0).then_some(()));
    write(&mut world, "two");
    groups(&mut world).committed.insert(at.clone(), 2);
    groups(&mut world).refuses.clear();
    write(&mut world, "three");
    for conn in [kept, clean] {
        let mut said = Vec::new();
        until(&mut world, |world| {
            let bytes = world.sent(conn);
            said.extend(words(Version::V5, &bytes));
            said.last().is_some_and(|packet| packet.contains("three")).then_some(())
        });
        assert_eq!(said, ["t two q1 id 2", "t three q1 id 3"]);
        [2, 3].into_iter().for_each(|id| world.bytes(conn, &[0x40, 2, 0, id]));
    }
    until(&mut world, |world| (groups(world).committed[&at] == 3).then_some(()));
}

/// A process that had stood still commits what it has nobody for before the first reader of its successor begins. That one begins where the group was when
/// its process began, so its clients miss nothing, with kept sessions and without.
#[test]
fn a_first_reader_begins_no_later_than_its_process() {
    let config = config::parse(&format!("{BROKER}name = \"a\"\nqos = 1\n"), "test.toml").expect("a configuration");
    let at = (config.sources[0].group.clone(), MESSAGES.to_owned(), 0);
    let mut world = World::of(config);
    world.broker.groups = Some(Groups::default());
    world.broker.key = Some(b"t".to_vec());
    groups(&mut world).refuses = vec![(ApiKey::JoinGroup, "forebay", LOADING)];
    world.mail(Mail::Slots(ToSlots::RoutesBegin(Arc::new(BTreeMap::from([(partition_key(MESSAGES, 0, 0), 0)])))));
    begin(&mut world, 0..2, 1);
    let (kept, ..) = connect(&mut world, &client(0));
    let clean = without_session(&mut world, &client(1));
    [kept, clean].into_iter().for_each(|conn| subscribe(&mut world, conn, b't', 1));
    ["one", "two"].into_iter().for_each(|value| write(&mut world, value));
    groups(&mut world).committed.insert(at.clone(), 2);
    groups(&mut world).refuses.clear();
    for conn in [kept, clean] {
        let mut said = Vec::new();
        until(&mut world, |world| {
            let bytes = world.sent(conn);
            said.extend(words(Version::V5, &bytes));
            (said.len() == 2).then_some(())
        });
        assert_eq!(said, ["t one q1 id 1", "t two q1 id 2"]);
        [1, 2].into_iter().for_each(|id| world.bytes(conn, &[0x40, 2, 0, id]));
    }
    until(&mut world, |world| (groups(world).committed[&at] == 2).then_some(()));
}

/// The process ends, and another one begins that reads these records of the route again, and this many others later; the topic of retained messages is there.
fn restarted(world: &mut World, values: &[&str], unread: i64) {
    world.broker.unread = unread;
    world.broker.readable.insert((MESSAGES.to_owned(), 0), Vec::new());
    values.iter().for_each(|value| write(world, value));
    begins(world, (0, &FirstRead::new()), (0..1, 2));
    until(world, |world| (world.source_number(0, SourceMetric::Records) == values.len() as u64).then_some(()));
}

/// Another process begins, with these slots, and the routes from this place on, some of them for the first time.
fn begins(world: &mut World, (from, first): (i64, &FirstRead), (slots, epoch): (Range<u16>, i16)) {
    world.restart(None);
    let config = world.config();
    let mut retained = RetainedMessages::new(config, config.broker.as_ref().expect("a broker"));
    for ((_, partition), log) in world.broker.logs.iter().filter(|((topic, _), _)| topic == RETAINED) {
        let mut batches = Batches::new(log.clone(), 0, Vec::new(), false);
        while let Ok(Some(record)) = batches.take() {
            retained.take(*partition, &record);
        }
    }
    let copied_to = retained.copied_to();
    let first = first.iter().map(|(of, all)| (*of, first_read(all.clone(), copied_to.get(of)))).collect();
    world.mail(Mail::Shard(ToShard::TakeRetained(retained.of_shards(&first).remove(0))));
    world.mail(Mail::Slots(ToSlots::RoutesBegin(Arc::new([(partition_key(MESSAGES, 0, 0), from)].into()))));
    begin(world, slots, epoch);
}

/// How many copies of retained messages there are.
fn copies(world: &World) -> usize {
    world.broker.records.iter().filter(|(topic, ..)| topic == RETAINED).count()
}

/// A process that has read these retained messages, and has copied them.
fn copied(values: &[&str]) -> World {
    let mut world = started(0..1, "");
    world.broker.retains = (0..10).collect();
    values.iter().for_each(|value| write(&mut world, value));
    until(&mut world, |world| (copies(world) == values.len()).then_some(()));
    world
}

/// N33: a start reads the routes again from the last commit. Until it is back where the process before it was, clients that subscribe get what was retained last.
#[test]
fn a_record_that_is_read_again_does_not_take_the_place_of_a_newer_retained_message() {
    let mut world = copied(&["old", "new"]);
    restarted(&mut world, &["old"], 1);
    let conn = without_session(&mut world, &clients().next().expect("one"));
    // What is retained waits until it has been read: older messages come before it.
    subscribe_and_hear(&mut world, conn, &["suback 9 [1]"]);
    world.broker.unread = 0;
    ["new", "newer"].iter().for_each(|value| write(&mut world, value));
    assert_eq!(heard(&mut world, conn), ["t new q1 id 1", "t new q1 id 2 retain", "t newer q1 id 3"]);
    let conn = without_session(&mut world, &clients().nth(1).expect("one"));
    subscribe_and_hear(&mut world, conn, &["suback 9 [1]", "t newer q1 id 1 retain"]);
    assert_eq!(copies(&world), 3, "what has a copy gets no other one");
}

/// The same where the newest of them is empty: what was retained has ended.
#[test]
fn a_record_that_is_read_again_does_not_bring_back_what_is_retained_no_more() {
    let mut world = copied(&["old", ""]);
    restarted(&mut world, &["old"], 1);
    let conn = without_session(&mut world, &clients().next().expect("one"));
    world.broker.retains.clear();
    subscribe_and_hear(&mut world, conn, &["suback 9 [1]"]);
    world.broker.unread = 0;
    ["", "live"].iter().for_each(|value| write(&mut world, value));
    assert_eq!(heard(&mut world, conn), ["t  q1 id 1", "t live q1 id 2"]);
    assert_eq!(copies(&world), 2);
}

/// An instance begins for the first time. Others have retained messages which have no copies yet.
#[test]
fn a_new_instance_has_what_others_have_yet_to_copy() {
    let config = config::parse(&format!("{BROKER}name = \"a\"\nqos = 1\n"), "test.toml").expect("a configuration");
    let at = (config.sources[0].group.clone(), MESSAGES.to_owned(), 0);
    let mut world = World::of(config);
    world.broker.groups = Some(Groups::default());
    world.broker.key = Some(b"t".to_vec());
    world.broker.retains = (0..10).collect();
    groups(&mut world).committed.insert(at.clone(), 0);
    begin(&mut world, 0..1, 1);
    ["older", "old"].iter().for_each(|value| write(&mut world, value));
    until(&mut world, |world| (copies(world) == 2).then_some(()));
    ["newer", "new"].iter().for_each(|value| write(&mut world, value));
    world.broker.records.clear();
    groups(&mut world).committed.insert(at.clone(), 2);
    let first = FirstRead::from([(partition_key(MESSAGES, 0, 0), 0..4)]);
    begins(&mut world, (4, &first), (1..2, 1));
    until(&mut world, |world| (world.source_number(0, SourceMetric::Records) == 2).then_some(()));
    let conn = without_session(&mut world, &client(1));
    subscribe_and_hear(&mut world, conn, &["suback 9 [1]", "t new q1 id 1 retain"]);
    until(&mut world, |world| (copies(world) == 2 && groups(world).committed[&at] == 4).then_some(()));
    write(&mut world, "live");
    assert_eq!(heard(&mut world, conn), ["t live q1 id 2"]);
    assert_eq!(world.source_number(0, SourceMetric::Records), 3);
}

/// The group is behind when another reader begins, so records are read again that no client gets live once more. One that waits for what is retained, as
/// its window is full, gets it.
#[test]
fn what_another_reader_reads_again_is_retained_as_before() {
    let config = config::parse(&format!("{BROKER}name = \"a\"\nqos = 1\n"), "test.toml").expect("a configuration");
    let at = (config.sources[0].group.clone(), MESSAGES.to_owned(), 0);
    let mut world = World::of(config);
    world.broker.groups = Some(Groups::default());
    world.broker.key = Some(b"t".to_vec());
    world.broker.keys.insert(1, b"u".to_vec());
    world.broker.retains.insert(0);
    groups(&mut world).committed.insert(at.clone(), 0);
    begin(&mut world, 0..1, 1);
    write(&mut world, "old");
    until(&mut world, |world| (copies(world) == 1).then_some(()));
    // Receive Maximum 1.
    let conn = world.connect_v5(&client(0), &[2, 0, 0, 3, 0x21, 0, 1]);
    assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
    subscribe(&mut world, conn, b'u', 1);
    write(&mut world, "busy");
    assert_eq!(heard(&mut world, conn), ["u busy q1 id 1"]);
    subscribe_and_hear(&mut world, conn, &["suback 9 [1]"]);

    groups(&mut world).refuses = vec![(ApiKey::Heartbeat, "forebay", FENCED), (ApiKey::JoinGroup, "forebay", LOADING)];
    until(&mut world, |world| (world.source_number(0, SourceMetric::Assigned) == 0).then_some(()));
    groups(&mut world).committed.insert(at, 0);
    groups(&mut world).refuses.clear();
    until(&mut world, |world| (world.source_number(0, SourceMetric::Records) == 4).then_some(()));
    world.bytes(conn, &[0x40, 2, 0, 1]);
    assert_eq!(heard(&mut world, conn), ["t old q1 id 2 retain"]);
}

/// A log has lost records that have copies: later ones at their places are retained.
#[test]
fn a_copy_of_a_record_that_is_lost_keeps_no_other_one_from_being_retained() {
    let mut world = copied(&["old", "lost", "lost too"]);
    restarted(&mut world, &["old"], 0);
    let conn = without_session(&mut world, &clients().next().expect("one"));
    // Records that are lost are never read: what is retained of them waits for ten seconds.
    subscribe_and_hear(&mut world, conn, &["suback 9 [1]"]);
    world.advance(Duration::from_secs(11));
    assert_eq!(heard(&mut world, conn), ["t lost too q1 id 1 retain"]);
    write(&mut world, "new");
    assert_eq!(heard(&mut world, conn), ["t new q1 id 2"]);
    let conn = without_session(&mut world, &clients().nth(1).expect("one"));
    subscribe_and_hear(&mut world, conn, &["suback 9 [1]", "t new q1 id 1 retain"]);
}

/// A process has given out a retained message and written that its sessions have it, but its copy is not in Kafka. The next one has read what was retained before.
fn behind() -> (World, ConnId) {
    let mut world = copied(&["old"]);
    world.broker.holds.insert(RETAINED.to_owned());
    write(&mut world, "new");
    until(&mut world, |world| (world.source_number(0, SourceMetric::Records) == 2).then_some(()));
    for _ in 0..10 {
        world.advance(Duration::from_millis(400));
        world.turn();
    }
    world.broker.holds.clear();
    restarted(&mut world, &["old"], 1);
    let conn = without_session(&mut world, &clients().next().expect("one"));
    subscribe_and_hear(&mut world, conn, &["suback 9 [1]"]);
    (world, conn)
}

/// N33: a client subscribes before such a message is read again. It waits for what is retained until reading has reached what sessions have had.
#[test]
fn a_subscription_waits_for_what_was_given_out_and_not_yet_copied() {
    let (mut world, conn) = behind();
    world.broker.unread = 0;
    write(&mut world, "new");
    assert_eq!(heard(&mut world, conn), ["t new q1 id 1 retain"]);
    write(&mut world, "newer");
    assert_eq!(heard(&mut world, conn), ["t newer q1 id 2"]);
}

/// A partition that cannot be read holds retained messages back for some seconds.
#[test]
fn a_subscription_does_not_wait_for_good() {
    let (mut world, conn) = behind();
    assert_eq!(heard(&mut world, conn), ["t old q1 id 1 retain"]);
}

fn subscribe_and_hear(world: &mut World, conn: ConnId, all: &[&str]) {
    world.bytes(conn, &[0x82, 7, 0, 9, 0, 0, 1, b't', 1]);
    let mut said = Vec::new();
    for _ in 0..10 {
        let mut looks = 0;
        until(world, |_| {
            looks += 1;
            (looks > 1).then_some(())
        });
        said.extend(words(Version::V5, &world.sent(conn)));
    }
    assert_eq!(said, all);
}
