//! `[broker]`: from Kafka to kept sessions over the loss of the machine: once at QoS 2, and at least once at QoS 1.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;

use forebay::mqtt::packet::{Connect, Packet, PacketType, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};

use crate::broker::Names;
use crate::device::{Device, Heard, hello, properties};
use crate::process::{metric, until};
use crate::support::service::{Service, config_with};
use crate::support::{run, temp_dir};

/// Records of each of the three keys.
const RECORDS: usize = 1_500;

/// A client with a kept session, over all of its connections.
pub(crate) struct Taker {
    pub(crate) id: &'static str,
    pub(crate) device: Option<Device>,
    /// How often each message was handed on.
    pub(crate) has: BTreeMap<String, u32>,
    /// Messages of packet identifiers that are not released.
    held: HashMap<u16, String>,
    /// The last of each topic.
    last: HashMap<String, usize>,
}

impl Taker {
    pub(crate) fn new(id: &'static str) -> Self {
        Self { id, device: None, has: BTreeMap::new(), held: HashMap::new(), last: HashMap::new() }
    }

    fn connect(&mut self, service: &Service) -> bool {
        let expiry: PropertyBuf = properties([Property::SessionExpiryInterval(3_600)]);
        let connect = Connect { clean_start: false, properties: expiry.as_properties(), ..hello(Version::V5, self.id) };
        let (device, hello) = Device::connect_as(service.mqtt(), &connect);
        self.device = Some(device);
        hello.session_present
    }

    /// Takes messages until it has this many, or all of the last ones are finished. False: its connection has ended before.
    pub(crate) fn take(&mut self, count: usize, is_last: bool) -> bool {
        let device = self.device.as_mut().expect("it is connected");
        while self.has.len() < count || is_last && !self.held.is_empty() {
            let heard = match device.try_hear() {
                Ok(heard) => heard,
                Err(error) => panic!(
                    "{}: {error}, with {} of {count}; not yet {:?}",
                    self.id,
                    self.has.len(),
                    missing(&self.has, count)
                ),
            };
            match heard {
                Heard::Message(1, packet_id, topic, payload) => {
                    let payload = String::from_utf8(payload).expect("text");
                    *self.has.entry(format!("{topic} {payload}")).or_default() += 1;
                    device.try_acknowledge(PacketType::PubAck, packet_id);
                }
                Heard::Message(2, packet_id, topic, payload) => {
                    let payload = String::from_utf8(payload).expect("text");
                    if !self.held.contains_key(&packet_id) {
                        let number: usize = payload.parse().expect("a number");
                        let last = self.last.insert(topic.clone(), number);
                        assert!(last.is_none_or(|last| last < number), "{topic}: {number} after {last:?}");
                        *self.has.entry(format!("{topic} {payload}")).or_default() += 1;
                    }
                    self.held.insert(packet_id, payload);
                    device.try_acknowledge(PacketType::PubRec, packet_id);
                }
                Heard::Answer(PacketType::PubRel, packet_id, _) => {
                    self.held.remove(&packet_id);
                    device.try_acknowledge(PacketType::PubComp, packet_id);
                }
                Heard::Disconnect(_) | Heard::Closed => {
                    self.device = None;
                    return false;
                }
                other => panic!("{}: {other:?}", self.id),
            }
        }
        true
    }

    /// Waits until the service has worked through all that was sent. PUBREL may come again: its PUBCOMP was lost with a machine.
    fn settle(&mut self) {
        let device = self.device.as_mut().expect("it is connected");
        device.say(&Packet::PingReq);
        loop {
            match device.hear() {
                Heard::PingResp => return,
                Heard::Answer(PacketType::PubRel, packet_id, _) => {
                    device.try_acknowledge(PacketType::PubComp, packet_id);
                }
                other => panic!("{}: {other:?}", self.id),
            }
        }
    }

    /// Messages that were handed on more than once.
    pub(crate) fn repeated(&self) -> Vec<&String> {
        self.has.iter().filter(|(_, count)| **count > 1).map(|(message, _)| message).collect()
    }
}

/// The first records of each key that have not come.
fn missing(has: &BTreeMap<String, u32>, count: usize) -> Vec<String> {
    let of_key = |key| (0..count).map(move |number| format!("load/{key} {number}"));
    (0..3).flat_map(|key| of_key(key).filter(|message| !has.contains_key(message)).take(5)).collect()
}

/// Writes a record with each of these numbers under each of three keys, at QoS 2.
pub(crate) fn write_load(names: &Names, numbers: Range<usize>) {
    let folder = temp_dir();
    let lines = numbers.fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{number}");
        text
    });
    let path = folder.path().join("lines");
    fs::write(&path, lines).expect("it can be written");
    for key in ["load/0", "load/1", "load/2"] {
        let of = ["-P", "-t", &names.messages, "-k", key, "-H", "mqtt-qos=2", "-l"];
        run(names.kcat(&of).arg(&path));
    }
}

#[test]
fn a_kept_session_has_each_record_once_at_qos_2_over_lost_machines() {
    let names = Names::new("once");
    let mut service = Service::start(&config_with("shards = 2", &names.config("")));
    let mut takers = [Taker::new("once"), Taker::new("at-least-once")];
    for (taker, qos) in takers.iter_mut().zip([QoS::ExactlyOnce, QoS::AtLeastOnce]) {
        assert!(!taker.connect(&service));
        let granted = taker.device.as_mut().expect("it is connected").subscribe(&[("load/+", qos)]);
        assert_eq!(granted, [qos as u8]);
    }
    write_load(&names, 0..RECORDS);
    for at in [300, 900, 2_000, 3_100] {
        assert!(takers.iter_mut().all(|taker| taker.take(at, false)));
        service.kill9();
        fs::remove_dir_all(service.dir().join("data")).expect("it was there");
        service.start_again();
        for taker in &mut takers {
            taker.device.take().into_iter().for_each(Device::vanish);
            assert!(taker.connect(&service), "{}", taker.id);
        }
    }
    assert!(takers.iter_mut().all(|taker| taker.take(3 * RECORDS, true)));
    until("all to be read", || {
        metric(&service, "source_open_messages") == 0 && metric(&service, "source_lag_records") == 0
    });
    let [once, at_least] = &mut takers;
    once.settle();
    // What it has finished is over, whenever the machine goes.
    service.kill9();
    fs::remove_dir_all(service.dir().join("data")).expect("it was there");
    service.start_again();
    once.device.take().into_iter().for_each(Device::vanish);
    assert!(once.connect(&service));
    until("all to be read", || {
        metric(&service, "source_open_messages") == 0 && metric(&service, "source_lag_records") == 0
    });
    once.settle();
    assert!(once.repeated().is_empty(), "handed on twice at QoS 2: {:?}", once.repeated());
    println!("repeated at QoS 1: {} of {}", at_least.repeated().len(), 3 * RECORDS);
}
