//! Positions of messages in Kafka, kept until the client gets them with PUBACK or PUBREC: user properties, three for each sink that
//! reports them, in the order of the sinks in the configuration.
//!
//! Bounded by the pending answers: a message has one receipt for each of its sinks at most, from the sink's confirmation until the
//! answer has been sent; for QoS 2 until the id is released, since a lost PUBREC is requested again. A client that wants none, or
//! cannot be sent any, costs nothing.

use std::collections::VecDeque;
use std::rc::Rc;

use super::inflight::Inflight;
use super::peer::Peer;
use forebay_mqtt::encode;
use forebay_mqtt::packet::{Ack, Packet, PacketType};
use forebay_mqtt::property::{Property, PropertyBuf};
use forebay_mqtt::reason::ReasonCode;
use smallvec::SmallVec;

/// Names of the user properties.
const TOPIC: &str = "kafka-topic";
const PARTITION: &str = "kafka-partition";
const OFFSET: &str = "kafka-offset";

/// Receipts that the list of a connection keeps room for when it shrinks.
const KEPT: usize = 64;

/// The position of a sink's row of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the sink in the configuration.
    pub sink: u16,
    /// Kafka topic.
    pub topic: Rc<str>,
    /// The record's partition.
    pub partition: u32,
    /// The record's offset; `None`: Kafka has not reported it.
    pub offset: Option<i64>,
}

/// The receipts of one message, by sink.
pub(super) type Of = SmallVec<[Receipt; 1]>;

/// Adds a receipt.
pub(super) fn add(of: &mut Of, receipt: Receipt) {
    let place = of.iter().position(|other| other.sink > receipt.sink).unwrap_or(of.len());
    of.insert(place, receipt);
}

/// The receipts of a connection's queue.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// Receipts by the place of the slot; may be shorter than the queue.
    slots: VecDeque<Of>,
    /// The properties being written.
    properties: PropertyBuf,
}

impl Receipts {
    /// Takes the receipts of the front slot, which is removed.
    pub(super) fn pop(&mut self) -> Of {
        self.slots.pop_front().unwrap_or_default()
    }

    /// Takes the receipts of all slots, which are removed.
    pub(super) fn take_all(&mut self) -> VecDeque<Of> {
        std::mem::take(&mut self.slots)
    }

    /// The receipts of a slot.
    fn of(&mut self, place: usize) -> &mut Of {
        if self.slots.len() <= place {
            self.slots.resize_with(place + 1, Of::default);
        }
        &mut self.slots[place]
    }

    /// Gives back memory beyond the needs of a quiet connection.
    pub(super) fn shrink(&mut self) {
        if self.slots.capacity() / 4 > self.slots.len().max(KEPT) {
            self.slots.shrink_to(KEPT);
        }
    }

    /// Appends PUBACK, PUBREC or PUBCOMP with these, or without any where the client could not take a packet of that size
    /// [MQTT-3.4.2-3] [MQTT-3.5.2-3] [MQTT-3.7.2-3].
    pub(super) fn ack(
        &mut self,
        peer: &Peer,
        kind: PacketType,
        packet_id: u16,
        (reason, words): (ReasonCode, Option<&str>),
        of: &Of,
        out: &mut Vec<u8>,
    ) {
        self.properties.clear();
        self.properties.extend(words.map(Property::ReasonString));
        for receipt in of {
            let mut digits = Digits::default();
            self.properties.push(Property::UserProperty(TOPIC, &receipt.topic));
            self.properties.push(Property::UserProperty(PARTITION, digits.of(u64::from(receipt.partition))));
            if let Some(offset) = receipt.offset {
                self.properties.push(Property::UserProperty(OFFSET, digits.of(offset.unsigned_abs())));
            }
        }
        let ack = Ack { packet_id, reason, properties: self.properties.as_properties() };
        let packet = match kind {
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubComp => Packet::PubComp(ack),
            _ => Packet::PubRec(ack),
        };
        if of.is_empty() || !peer.send(&packet, out) {
            encode::ack(peer.version, kind, packet_id, reason, out);
        }
    }
}

/// A number in decimal, without an allocation.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn of(&mut self, mut number: u64) -> &str {
        let mut from = self.0.len();
        loop {
            from -= 1;
            self.0[from] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        std::str::from_utf8(&self.0[from..]).unwrap_or_default()
    }
}

impl Inflight {
    /// See [`super::Session::want_receipts`].
    pub(super) fn want_receipts(&mut self, wanted: bool) {
        self.wants_receipts = wanted;
        if !wanted {
            self.receipts = None;
            self.qos2.iter_mut().for_each(|qos2| qos2.forget_receipts());
        }
    }

    /// The receipts of an open QoS 2 id, for its PUBCOMP: many client libraries show only that one to their users.
    pub(super) fn receipts_of(&mut self, packet_id: u16) -> Of {
        let qos2 = self.qos2.as_mut().filter(|_| self.wants_receipts);
        qos2.and_then(|qos2| qos2.keep_receipts(packet_id, Of::default()).cloned()).unwrap_or_default()
    }

    /// Appends PUBCOMP.
    pub(super) fn pubcomp(&mut self, peer: &Peer, packet_id: u16, reason: ReasonCode, of: &Of, out: &mut Vec<u8>) {
        if of.is_empty() {
            return encode::ack(peer.version, PacketType::PubComp, packet_id, reason, out);
        }
        self.receipts.get_or_insert_default().ack(peer, PacketType::PubComp, packet_id, (reason, None), of, out);
    }

    /// See [`super::Session::landed`].
    pub(super) fn landed(&mut self, first: u32, count: u32, receipt: &Receipt) {
        if !self.wants_receipts {
            return;
        }
        for step in 0..count {
            let number = first.wrapping_add(step);
            let offset = receipt.offset.map(|offset| offset.saturating_add(i64::from(step)));
            let receipt = Receipt { offset, ..receipt.clone() };
            if !self.note(number, &receipt)
                && let Some(qos2) = self.qos2.as_mut().filter(|qos2| qos2.has_parked())
            {
                // The row's connection is gone, or an earlier process has left the row.
                let now = qos2.now_at(number);
                if now == number || !self.note(now, &receipt) {
                    self.qos2.iter_mut().for_each(|qos2| qos2.landed(now, receipt.clone()));
                }
            }
        }
    }

    /// `false`: the number is not that of a slot.
    fn note(&mut self, number: u32, receipt: &Receipt) -> bool {
        let place = number.wrapping_sub(self.base) as usize;
        let Some(slot) = self.slots.get(place) else { return false };
        if slot.takes_answers() {
            add(self.receipts.get_or_insert_default().of(place), receipt.clone());
        }
        true
    }
}
