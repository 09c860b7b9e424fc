//! Slots of `[broker]` that come to a shard and leave it, while it serves others.

use std::time::Duration;

use forebay::broker::router::owner;
use forebay::config::{self, Config};
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::Version;
use forebay::replica::{Names, Step, Store, TakeOver, Taken};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};
use forebay::shard::kafka_disk::Parts;
use forebay::shard::mail::{Mail, Notice, TakenLog, ToShard, ToSlots};

use super::conformance::words;
use super::world::World;

pub(crate) const BROKER: &str = "[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\n[broker]\n";
pub(crate) const TOPIC: &str = "mqtt-sessions";

/// A client of this slot.
pub(crate) fn client(slot: usize) -> String {
    (0..).map(|number| format!("client-{number}")).find(|id| owner(id, 64) == slot).expect("there is one")
}

/// Takes a slot's log over, with another epoch of its producer id than before.
pub(crate) fn taken(world: &mut World, slot: u16, epoch: i16) -> TakenLog {
    let mut parts = Parts::default();
    let taken = taken_into(world, (slot, epoch), &mut parts);
    TakenLog { taken, parts, slot }
}

/// The same, with the log's bytes in this store.
fn taken_into(world: &mut World, (slot, epoch): (u16, i16), store: impl Store) -> Taken {
    let names = Names { topic: TOPIC.into(), topic_id: 0, partition: slot.into(), instance: "a".into() };
    let mut taking = TakeOver::new(names, store, 0);
    let place = (TOPIC.to_owned(), i32::from(slot));
    loop {
        match taking.step() {
            Step::Identify => taking.identified(100 + i64::from(slot), epoch),
            Step::Write(batch) => {
                let by = i16::from_be_bytes(batch[51..53].try_into().expect("two"));
                let next = world.broker.offsets.entry(place.clone()).or_default();
                let base = *next;
                if by == epoch {
                    *next += 1;
                    world.broker.append(TOPIC, slot.into(), (base, &batch));
                }
                taking.written(if by < epoch { 47 } else { 0 }, base).expect("written");
            }
            Step::Read(from) => {
                let log = world.broker.logs.get(&place).cloned().unwrap_or_default();
                let mut at = 0;
                while at < log.len() {
                    let (base, len) = (&log[at..at + 8], &log[at + 8..at + 12]);
                    let len = 12 + u32::from_be_bytes(len.try_into().expect("four")) as usize;
                    if i64::from_be_bytes(base.try_into().expect("eight")) >= from {
                        break;
                    }
                    at += len;
                }
                taking.read(&log[at..]).expect("it can be read");
            }
            Step::Done => break,
        }
    }
    taking.finish().expect("taken over")
}

/// Lets time pass until this is so. This Kafka answers no Fetch without records: the next one comes when that has timed out.
pub(crate) fn until<T>(world: &mut World, mut is_so: impl FnMut(&mut World) -> Option<T>) -> T {
    for _ in 0..1_000 {
        world.turn();
        while let Some(letters) = world.table.posted.replace(Vec::new()).filter(|letters| !letters.is_empty()) {
            letters.into_iter().for_each(|(_, letter)| world.mail(letter));
        }
        if let Some(found) = is_so(world) {
            return found;
        }
        world.advance(Duration::from_millis(100));
    }
    panic!("it is not so after 100 seconds");
}

pub(crate) fn notice(world: &mut World, is_it: fn(&Notice) -> bool) {
    let mut all = Vec::new();
    until(world, |world| {
        all.extend(world.notices());
        all.iter().any(is_it).then_some(())
    });
}

/// What a client hears, at least one packet.
pub(crate) fn heard(world: &mut World, conn: ConnId) -> Vec<String> {
    let bytes = until(world, |world| Some(world.sent(conn)).filter(|bytes| !bytes.is_empty()));
    words(Version::V5, &bytes)
}

/// A shard that has these slots, and accepts clients.
pub(crate) fn started(slots: std::ops::Range<u16>) -> World {
    started_with(BROKER, slots)
}

/// The same with this configuration.
pub(crate) fn started_with(text: &str, slots: std::ops::Range<u16>) -> World {
    started_under(&KEPT, text, slots)
}

/// The same under other rules than the program's.
pub(crate) fn started_under(rules: &'static dyn Rules, text: &str, slots: std::ops::Range<u16>) -> World {
    let mut world = World::of_under(rules, parsed(text));
    begin(&mut world, slots, 1);
    world
}

/// The configuration of this text, without the group of its source, which is more than this Kafka knows.
pub(crate) fn parsed(text: &str) -> Config {
    let mut config = config::parse(text, "test.toml").expect("a configuration");
    config.sources[0].group = String::new();
    config
}

/// A shard takes these slots over, and accepts clients.
pub(crate) fn begin(world: &mut World, slots: std::ops::Range<u16>, epoch: i16) {
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    let logs = slots.map(|slot| taken(world, slot, epoch)).collect();
    world.mail(Mail::Slots(ToSlots::TakeOver(logs)));
    notice(world, |notice| matches!(notice, Notice::Started(0)));
    world.mail(Mail::Shard(ToShard::Accept));
}

const SUBSCRIBE: &[u8] = &[0x82, 7, 0, 9, 0, 0, 1, b't', 1];

#[test]
fn a_slot_leaves_and_comes_back_and_others_notice_nothing() {
    let mut world = started(0..2);
    let [moving, staying] = [client(0), client(1)];
    let conns = [&moving, &staying].map(|id| {
        let conn = world.connect_kept_v5(id);
        assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
        world.bytes(conn, SUBSCRIBE);
        assert!(heard(&mut world, conn)[0].starts_with("suback"));
        conn
    });
    // The client acknowledges nothing: its message waits in the log.
    world.broker.key = Some(b"t".to_vec());
    world.broker.readable.insert(("mqtt-messages".to_owned(), 0), vec![b"one".to_vec()]);
    for conn in conns {
        assert_eq!(heard(&mut world, conn), ["t one q1 id 1"]);
    }
    world.notices();
    world.mail(Mail::Slots(ToSlots::Release(0)));
    let said = heard(&mut world, conns[0]);
    assert!(said.iter().any(|packet| packet.starts_with("disconnect 0x8B")), "{said:?}");
    notice(&mut world, |notice| matches!(notice, Notice::SlotReleased(0)));
    // Its clients are refused, and the others are there.
    let conn = world.connect_kept_v5(&moving);
    let said = heard(&mut world, conn);
    assert!(said[0].starts_with("connack 0 0x88"), "{said:?}");
    world.bytes(conns[1], &[0xC0, 0]);
    assert_eq!(heard(&mut world, conns[1]), ["pingresp"]);
    world.broker.readable.get_mut(&("mqtt-messages".to_owned(), 0)).expect("it is there").push(b"two".to_vec());
    assert_eq!(heard(&mut world, conns[1]), ["t two q1 id 2"]);

    let log = taken(&mut world, 0, 2);
    world.mail(Mail::Slots(ToSlots::TakeOver(vec![log])));
    notice(&mut world, |notice| matches!(notice, Notice::SlotTaken(0)));
    let conn = world.connect_kept_v5(&moving);
    let said = heard(&mut world, conn);
    assert!(said[0].starts_with("connack 1 0x00"), "its session is there: {said:?}");
    let said = if said.len() > 1 { said[1..].to_vec() } else { heard(&mut world, conn) };
    assert_eq!(said[0], "t one q1 id 1 dup", "and what waits for it");
    assert!(said.len() == 1 || said[1..] == ["t two q1 id 2"], "{said:?}");
    // Its subscriptions are there, too, and what came meanwhile is made up for.
    if said.len() == 1 {
        let said = heard(&mut world, conn);
        assert_eq!(said, ["t two q1 id 2"]);
    }
    world.broker.readable.get_mut(&("mqtt-messages".to_owned(), 0)).expect("it is there").push(b"three".to_vec());
    assert_eq!(heard(&mut world, conn), ["t three q1 id 3"]);
    assert_eq!(heard(&mut world, conns[1]), ["t three q1 id 3"]);
}

/// The slot of a client moves while the client is away, and while it is back: its session ends an hour after it has left for good.
#[test]
fn finding_q62_a_session_expires_by_the_time_at_which_its_client_left() {
    let mut world = started(0..1);
    let client = client(0);
    let conn = world.connect_kept_v5(&client);
    assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
    let minutes = |world: &mut World, minutes: u64| (0..minutes).for_each(|_| world.advance(Duration::from_mins(1)));
    let leave = |world: &mut World, conn: ConnId| {
        world.core.on_close(&mut world.table, conn, Closed::Peer);
        world.turn();
    };
    let mut epoch = 1;
    let mut moves = |world: &mut World| {
        epoch += 1;
        world.notices();
        world.mail(Mail::Slots(ToSlots::Release(0)));
        notice(world, |notice| matches!(notice, Notice::SlotReleased(0)));
        let log = taken(world, 0, epoch);
        world.mail(Mail::Slots(ToSlots::TakeOver(vec![log])));
        notice(world, |notice| matches!(notice, Notice::SlotTaken(0)));
    };
    leave(&mut world, conn);
    minutes(&mut world, 40);
    moves(&mut world);
    minutes(&mut world, 10);
    let conn = world.connect_kept_v5(&client);
    assert!(heard(&mut world, conn)[0].starts_with("connack 1 0x00"), "after 50 minutes");
    // A client that is back is not away, whatever its record has said.
    minutes(&mut world, 30);
    moves(&mut world);
    let conn = world.connect_kept_v5(&client);
    assert!(heard(&mut world, conn)[0].starts_with("connack 1 0x00"), "it was there until a moment ago");
    leave(&mut world, conn);
    for _ in 0..2 {
        minutes(&mut world, 25);
        moves(&mut world);
    }
    assert_eq!(world.number(M::SessionsExpired), 0);
    minutes(&mut world, 15);
    assert_eq!(world.number(M::SessionsExpired), 1);
    let conn = world.connect_kept_v5(&client);
    assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"), "after 65 minutes");
}

/// Kept sessions of two clients, connected.
pub(crate) fn two_connected(world: &mut World, [one, other]: [&str; 2]) -> [ConnId; 2] {
    [one, other].map(|id| {
        let conn = world.connect_kept_v5(id);
        assert!(heard(world, conn)[0].starts_with("connack 0 0x00"));
        conn
    })
}

/// Kafka takes nothing of its log any more: it goes as with a process that dies.
#[test]
fn a_slot_that_cannot_be_written_is_given_up_in_the_end() {
    let mut world = started(0..1);
    let conn = world.connect_kept_v5(&client(0));
    assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
    // NOT_LEADER_OR_FOLLOWER, again and again.
    world.broker.refuses.insert(TOPIC.to_owned(), 6);
    world.bytes(conn, SUBSCRIBE);
    world.mail(Mail::Slots(ToSlots::Release(0)));
    let began = world.table.now;
    notice(&mut world, |notice| matches!(notice, Notice::SlotReleased(0)));
    let took = world.table.now.since(began);
    assert!((Duration::from_secs(9)..Duration::from_secs(11)).contains(&took), "{took:?}");
}

/// Another process takes a slot: its clients are told nothing more, and the others stay.
#[test]
fn a_slot_that_is_lost_takes_its_own_clients_along() {
    let mut world = started(0..2);
    world.slots.set_given_out();
    let [lost, staying] = [client(0), client(1)];
    let conns = two_connected(&mut world, [&lost, &staying]);
    world.broker.refuses.insert(TOPIC.to_owned(), 47);
    world.bytes(conns[0], SUBSCRIBE);
    notice(&mut world, |notice| matches!(notice, Notice::SlotLost(0)));
    world.broker.refuses.clear();
    assert!(world.table.wire(conns[0]).closed && world.sent(conns[0]).is_empty(), "it was told of its subscription");
    world.bytes(conns[1], SUBSCRIBE);
    assert!(heard(&mut world, conns[1])[0].starts_with("suback"));
}

/// One request has the batches of two logs, and Kafka refuses both.
#[test]
fn two_slots_that_are_lost_at_once_take_their_clients_along() {
    let mut world = started(0..2);
    world.slots.set_given_out();
    let conns = [client(0), client(1)].map(|id| {
        let conn = world.connect_kept_v5(&id);
        assert!(heard(&mut world, conn)[0].starts_with("connack 0 0x00"));
        conn
    });
    world.notices();
    world.broker.refuses.insert(TOPIC.to_owned(), 47);
    conns.iter().for_each(|conn| world.feed(*conn, SUBSCRIBE));
    let mut lost = Vec::new();
    until(&mut world, |world| {
        lost.extend(world.notices().into_iter().filter_map(|notice| match notice {
            Notice::SlotLost(slot) => Some(slot),
            _ => None,
        }));
        (lost.len() == 2).then_some(())
    });
    assert_eq!(lost, [0, 1]);
    for conn in conns {
        assert!(world.table.wire(conn).closed && world.sent(conn).is_empty(), "it was told of its subscription");
    }
}

/// The bytes of a log, as a later version of Forebay would have written them.
struct Later<'a> {
    parts: &'a mut Parts,
    /// The bytes that each header begins with.
    magic: Vec<u8>,
}

impl Store for Later<'_> {
    fn write(&mut self, segment: u64, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        let mut bytes = bytes.to_vec();
        if at == 0 {
            self.magic = bytes[..8].to_vec();
        }
        // A segment has its header at its end, too. The version follows, and the length of the header, which is more than this version reads.
        for at in 0..bytes.len().saturating_sub(11) {
            if bytes[at..].starts_with(&self.magic) && !self.magic.is_empty() {
                bytes[at + 8..at + 12].fill(0xFF);
            }
        }
        self.parts.write(segment, at, &bytes)
    }

    fn read(&mut self, segment: u64, at: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.parts.read(segment, at, into)
    }

    fn set_len(&mut self, segment: u64, bytes: u64) -> std::io::Result<()> {
        self.parts.set_len(segment, bytes)
    }

    fn remove(&mut self, segment: u64) -> std::io::Result<()> {
        self.parts.remove(segment)
    }

    fn write_note(&mut self, note: &[u8]) -> std::io::Result<()> {
        self.parts.write_note(note)
    }
}

/// A process takes over two slots, one of them with a log of a later version: it serves the other one, at its start and later.
#[test]
fn finding_q59_a_log_of_a_later_version_ends_no_process() {
    for is_given_out in [false, true] {
        let mut world = started(0..2);
        let [unreadable, other] = [client(0), client(1)];
        two_connected(&mut world, [&unreadable, &other]);
        world.restart(None);
        (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
        let mut parts = Parts::default();
        let taken_as_later = taken_into(&mut world, (0, 2), Later { parts: &mut parts, magic: Vec::new() });
        let later = TakenLog { taken: taken_as_later, parts, slot: 0 };
        let readable = taken(&mut world, 1, 2);
        if is_given_out {
            world.slots.set_given_out();
            world.mail(Mail::Slots(ToSlots::TakeOver(Vec::new())));
            notice(&mut world, |notice| matches!(notice, Notice::Started(0)));
            world.mail(Mail::Slots(ToSlots::TakeOver(vec![later])));
            notice(&mut world, |notice| matches!(notice, Notice::SlotUnreadable(0)));
            world.mail(Mail::Slots(ToSlots::TakeOver(vec![readable])));
            notice(&mut world, |notice| matches!(notice, Notice::SlotTaken(1)));
        } else {
            world.mail(Mail::Slots(ToSlots::TakeOver(vec![later, readable])));
            notice(&mut world, |notice| matches!(notice, Notice::Started(0)));
        }
        world.mail(Mail::Shard(ToShard::Accept));
        let conn = world.connect_kept_v5(&other);
        assert_eq!(heard(&mut world, conn)[0], "connack 1 0x00");
        let why = world.slots.not_taken();
        assert!(why.len() == 1 && why[0].0 == 0 && why[0].1.contains("format version 65535"), "{why:?}");
        let conn = world.connect_kept_v5(&unreadable);
        let said = heard(&mut world, conn);
        assert!(said[0].starts_with("connack 0 0x88"), "{said:?}");
        // The group gives the slot to another instance.
        if is_given_out {
            world.mail(Mail::Slots(ToSlots::Release(0)));
            notice(&mut world, |notice| matches!(notice, Notice::SlotReleased(0)));
        }
    }
}
