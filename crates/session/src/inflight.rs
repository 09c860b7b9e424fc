//! The pending answers of a connection, in order of receipt.
//!
//! Every QoS 1 and QoS 2 PUBLISH takes a slot at the back of one queue and a number (a wrapping `u32`, never used twice
//! within a session's four billion publishes). Sinks answer by number, in any order; the queue is answered from its front
//! only, so PUBACK and PUBREC go out in the order of the publishes, with their packet identifiers [MQTT-2.2.1-5], when all sinks have
//! the message [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8].
//!
//! The queue belongs to a connection and ends with it. QoS 1 slots are dropped: a sink's answer for them finds no number
//! and is ignored, because the packet id may mean another message by now. QoS 2 rows go to the side table of
//! [`super::qos2`] until their sinks have answered.

use super::elsewhere::Unanswered;
use super::end::Violation;
use super::peer::Peer;
use super::qos2::{Qos2, Release, Row};
use super::receipts::{Of, Receipts};
use super::refusals::{self, Reason};
use forebay_mqtt::encode;
use forebay_mqtt::packet::{PacketType, QoS, Version};
use forebay_mqtt::reason::ReasonCode;
use std::collections::VecDeque;

/// Slots that a queue keeps when it shrinks while in use.
const SLOTS_KEPT: usize = 64;

/// The kind of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A QoS 1 row. Its packet identifier has no relation to an earlier use [MQTT-4.3.2-5].
    Qos1,
    /// A QoS 2 row.
    Qos2,
    /// A QoS 2 PUBLISH of a row that exists already.
    Repeat,
    /// A `Repeat` that lost its id to a release before it was answered: no answer is sent.
    Silent,
}

/// A pending answer. Its position implies its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) packet_id: u16,
    /// Sinks that have not answered; while `opening`, those that already have.
    pub(super) owed: u16,
    /// The gravest reason so far.
    pub(super) reason: Reason,
    kind: Kind,
    /// The sinks of the message are not known yet.
    pub(super) opening: bool,
    /// At least one sink has the message.
    landed: bool,
}

impl Slot {
    /// A QoS 2 row of an earlier process. `landed`: a sink without a pending answer has it.
    pub(super) fn restored(packet_id: u16, owed: u16, landed: bool) -> Self {
        Self { packet_id, owed, reason: Reason::Success, kind: Kind::Qos2, opening: false, landed }
    }

    /// Takes one sink's answer. An answer too many changes nothing: the message's answer may have been sent already.
    pub(super) fn answer(&mut self, reason: Reason) {
        if self.is_done() {
            return;
        }
        self.owed = if self.opening { self.owed.saturating_add(1) } else { self.owed.saturating_sub(1) };
        self.landed |= !reason.is_refusal();
        self.reason = self.reason.max(reason);
    }

    /// Whether this is a row of the queue with pending answers of sinks.
    pub(super) fn takes_answers(self) -> bool {
        matches!(self.kind, Kind::Qos1 | Kind::Qos2) && !self.is_done()
    }

    /// Whether every sink has answered.
    pub(super) fn is_done(self) -> bool {
        self.owed == 0 && !self.opening
    }

    /// Whether the message was refused, and no sink has it; or the record that a sink had stored is lost. The next attempt is a new
    /// message.
    pub(super) fn may_be_sent_again(self) -> bool {
        self.is_done() && self.reason.is_refusal() && (!self.landed || self.reason == Reason::RecordLost)
    }
}

/// The result of a call of [`super::Session::drain_answers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// PUBACK and PUBREC appended.
    pub answered: usize,
    /// The next answer is a permanent refusal, and 3.1 and 3.1.1 have no code for one: end the connection with
    /// [`super::End::NotExpressible`] rather than acknowledge a lost message.
    pub refused: Option<ReasonCode>,
    /// The next answer is a refusal, and other shards know the message: [`super::Session::refuses_later`].
    pub unanswered: Option<Unanswered>,
}

/// The result of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A new row with this number.
    New(u32),
    /// A row that exists already.
    Repeat,
    /// A row with this number, which some sinks have had since before a crash; `owed` is the number of their pending answers.
    Rest { number: u32, owed: u16 },
}

/// The queue of one connection and the QoS 2 state of its session.
#[derive(Debug, Default)]
pub(super) struct Inflight {
    pub(super) slots: VecDeque<Slot>,
    /// The number of the front slot.
    pub(super) base: u32,
    /// The used part of the client's send quota, as the client counts it (section 4.9).
    quota_used: u16,
    /// Whether a packet has arrived since the last [`Inflight::rest`].
    busy: bool,
    /// The client wants receipts: the partition and offset of its messages.
    pub(super) wants_receipts: bool,
    pub(super) qos2: Option<Box<Qos2>>,
    pub(super) receipts: Option<Box<Receipts>>,
}

impl Inflight {
    /// The number of pending answers of the present connection.
    pub(super) fn owed(&self) -> usize {
        self.slots.len()
    }

    /// The number of the front slot, and that of the next one.
    pub(super) fn numbers(&self) -> (u32, u32) {
        (self.base, self.next_number())
    }

    /// QoS 2 ids that are open.
    pub(super) fn open_ids(&self) -> usize {
        self.qos2.as_ref().map_or(0, |qos2| qos2.len())
    }

    /// Publishes that the client counts against Receive Maximum.
    pub(super) fn quota_used(&self) -> u16 {
        self.quota_used
    }

    /// Takes a PUBLISH of QoS 1 or 2.
    pub(super) fn receive(&mut self, packet_id: u16, qos: QoS, ids_max: u16) -> Result<Received, Violation> {
        self.busy = true;
        let number = self.next_number();
        if qos != QoS::ExactlyOnce {
            self.push(Slot {
                packet_id,
                owed: 0,
                reason: Reason::Success,
                kind: Kind::Qos1,
                opening: true,
                landed: false,
            });
            return Ok(Received::New(number));
        }
        let qos2 = self.qos2.get_or_insert_default();
        let mut slot =
            Slot { packet_id, owed: 0, reason: Reason::Success, kind: Kind::Qos2, opening: true, landed: false };
        if let Some(said) = qos2.take_rest(packet_id, number) {
            (slot.reason, slot.landed) = (said.reason, said.landed);
            self.push(slot);
            return Ok(Received::Rest { number, owed: said.owed });
        }
        if let Some(open) = qos2.get_mut(packet_id) {
            if open.slot.is_none() {
                open.slot = Some(number);
                slot.kind = Kind::Repeat;
                slot.opening = false;
                match open.row {
                    Row::Done(reason) => (slot.reason, slot.landed) = (reason, true),
                    Row::Here | Row::Parked(_) => slot.owed = 1,
                }
                self.push(slot);
            }
            // Otherwise its pending PUBREC answers both: a second one could meet the id's next message.
            return Ok(Received::Repeat);
        }
        if qos2.len() >= usize::from(ids_max) {
            return Err(Violation::OPEN_IDS);
        }
        qos2.open(packet_id, number);
        self.push(slot);
        Ok(Received::New(number))
    }

    /// Takes a PUBLISH of QoS 1 with `owed` pending answers of sinks: [`Inflight::receive`] and [`Inflight::opened`] in one.
    #[inline]
    pub(super) fn take(&mut self, packet_id: u16, owed: u16) {
        let (reason, kind) = (Reason::Success, Kind::Qos1);
        self.push(Slot { packet_id, owed, reason, kind, opening: false, landed: false });
    }

    fn next_number(&self) -> u32 {
        self.base.wrapping_add(self.slots.len() as u32)
    }

    fn push(&mut self, slot: Slot) {
        self.slots.push_back(slot);
        self.quota_used = self.quota_used.saturating_add(1);
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(number.wrapping_sub(self.base) as usize)
    }

    /// See [`super::Session::refuses_later`].
    pub(super) fn owe(&mut self, number: u32, answers: u16) {
        if let Some(slot) = self.slot_mut(number) {
            // Also the slot of a repeat: it has pending answers of its own now.
            (slot.owed, slot.kind) = (answers, Kind::Qos2);
        }
    }

    /// See [`super::Session::opened`].
    pub(super) fn opened(&mut self, number: u32, sinks: u16, reason: Reason) {
        if let Some(slot) = self.slot_mut(number).filter(|slot| slot.opening) {
            slot.opening = false;
            slot.owed = sinks.saturating_sub(slot.owed);
            slot.reason = slot.reason.max(reason);
        }
    }

    /// See [`super::Session::owes_one_more`].
    pub(super) fn owes_one_more(&mut self, number: u32) {
        if let Some(slot) = self.slot_mut(number) {
            slot.owed += 1;
        }
    }

    /// See [`super::Session::complete`].
    pub(super) fn complete(&mut self, first: u32, count: u32, reason: Reason) {
        let has_parked = self.qos2.as_ref().is_some_and(|qos2| qos2.has_parked());
        for offset in 0..count {
            let number = first.wrapping_add(offset);
            if let Some(slot) = self.slot_mut(number) {
                if matches!(slot.kind, Kind::Qos1 | Kind::Qos2) {
                    slot.answer(reason);
                }
            } else if has_parked {
                self.complete_parked(number, reason);
            }
        }
    }

    #[cold]
    fn complete_parked(&mut self, number: u32, reason: Reason) {
        let number = self.qos2.as_ref().map_or(number, |qos2| qos2.now_at(number));
        if let Some(slot) = self.slot_mut(number) {
            return slot.answer(reason);
        }
        let waiting = self.qos2.as_mut().and_then(|qos2| qos2.answer(number, reason));
        if let Some((waiting, row)) = waiting
            && let Some(slot) = self.slot_mut(waiting)
        {
            (slot.owed, slot.reason, slot.landed) = (0, row.reason, row.landed);
        }
    }

    /// See [`super::Session::drain_answers`].
    pub(super) fn drain(&mut self, peer: &Peer, hides_denials: impl Fn() -> bool, out: &mut Vec<u8>) -> Drained {
        let mut drained = Drained::default();
        while let Some(&slot) = self.slots.front() {
            if !slot.is_done() {
                break;
            }
            // A remote could do nothing about a reason.
            let reason = if peer.is_remote { Reason::Success } else { slot.reason };
            let slot = Slot { reason, ..slot };
            if slot.reason.is_refusal() && peer.version < Version::V5 && slot.kind != Kind::Silent {
                drained.refused = Some(slot.reason.code());
                break;
            }
            if slot.reason.is_refusal()
                && slot.kind != Kind::Qos1
                && let Some(shards) = self.qos2.as_mut().and_then(|qos2| qos2.elsewhere.take(slot.packet_id))
            {
                let (number, packet_id) = (self.base, slot.packet_id);
                drained.unanswered = Some(Unanswered { number, packet_id, shards });
                break;
            }
            self.slots.pop_front();
            self.base = self.base.wrapping_add(1);
            let of = self.receipts.as_mut().map(|receipts| receipts.pop()).unwrap_or_default();
            let answer = match slot.kind {
                Kind::Qos1 => PacketType::PubAck,
                Kind::Qos2 | Kind::Repeat => PacketType::PubRec,
                Kind::Silent => {
                    self.give_back_quota();
                    continue;
                }
            };
            let mut slot = slot;
            if slot.reason.is_refusal() && hides_denials() {
                slot.reason = slot.reason.hidden();
            }
            if self.wants_receipts {
                self.ack_with_receipts(peer, answer, slot, of, out);
            } else if slot.reason.words().is_some() {
                refusals::ack(peer, answer, slot.packet_id, slot.reason, out);
            } else {
                encode::ack(peer.version, answer, slot.packet_id, slot.reason.code(), out);
            }
            drained.answered += 1;
            if slot.kind == Kind::Qos1 || slot.reason.is_refusal() {
                self.give_back_quota();
            }
            if slot.kind != Kind::Qos1
                && let Some(qos2) = &mut self.qos2
            {
                qos2.answered(slot.packet_id, slot.reason);
            }
        }
        drained
    }

    fn ack_with_receipts(&mut self, peer: &Peer, kind: PacketType, slot: Slot, of: Of, out: &mut Vec<u8>) {
        let receipts = self.receipts.get_or_insert_default();
        let of = match &mut self.qos2 {
            // Receipts of the row stay until its id is free: its PUBREC may be requested again.
            Some(qos2) if slot.kind != Kind::Qos1 => qos2.keep_receipts(slot.packet_id, of),
            _ => Some(&of),
        };
        match of.filter(|of| !of.is_empty()) {
            Some(of) => {
                let words = slot.reason.words().filter(|_| peer.wants_reasons());
                receipts.ack(peer, kind, slot.packet_id, (slot.reason.code(), words), of, out);
            }
            None if slot.reason.words().is_some() => refusals::ack(peer, kind, slot.packet_id, slot.reason, out),
            None => encode::ack(peer.version, kind, slot.packet_id, slot.reason.code(), out),
        }
    }

    /// Returns one place of the client's send quota, which each PUBACK, PUBCOMP and refusing PUBREC does, for any packet (section
    /// 4.9).
    fn give_back_quota(&mut self) {
        self.quota_used = self.quota_used.saturating_sub(1);
    }

    /// Handles PUBREL. The caller answers every PUBREL but one that is too early with PUBCOMP.
    pub(super) fn release(&mut self, packet_id: u16) -> Release {
        let release = self.free(packet_id);
        if release != Release::TooEarly {
            self.give_back_quota();
        }
        release
    }

    /// Like [`Inflight::release`], but without a PUBCOMP.
    pub(super) fn free(&mut self, packet_id: u16) -> Release {
        let release = self.qos2.as_mut().map_or(Release::Unknown, |qos2| qos2.release(packet_id));
        if let Release::Freed { silence: Some(number) } = release
            && let Some(slot) = self.slot_mut(number)
        {
            slot.kind = Kind::Silent;
        }
        release
    }

    /// Handles the end of the connection. Its pending answers are dropped; QoS 2 rows go on without it.
    pub(super) fn park(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        let base = self.base;
        self.base = base.wrapping_add(slots.len() as u32);
        self.quota_used = 0;
        let mut receipts = self.receipts.take().map(|mut receipts| receipts.take_all()).unwrap_or_default();
        while let Some(packet_id) = self.qos2.as_mut().and_then(|qos2| qos2.elsewhere.next_released()) {
            // The client asks again.
            let _ = self.free(packet_id);
        }
        if let Some(qos2) = &mut self.qos2 {
            qos2.elsewhere.park();
            for (offset, slot) in slots.into_iter().enumerate() {
                if matches!(slot.kind, Kind::Qos2 | Kind::Repeat) {
                    qos2.park(base.wrapping_add(offset as u32), slot);
                    let of = receipts.get_mut(offset).map(std::mem::take).unwrap_or_default();
                    qos2.keep_receipts(slot.packet_id, of);
                }
            }
        }
        self.give_back_memory();
    }

    /// Gives back the memory of a session that has gone quiet; called now and then. Returns whether it is still in use.
    pub(super) fn rest(&mut self) -> bool {
        if std::mem::take(&mut self.busy) || !self.slots.is_empty() {
            if self.slots.capacity() / 4 > self.slots.len().max(SLOTS_KEPT) {
                self.slots.shrink_to(SLOTS_KEPT);
            }
            self.receipts.iter_mut().for_each(|receipts| receipts.shrink());
            return true;
        }
        self.give_back_memory();
        false
    }

    fn give_back_memory(&mut self) {
        self.slots.shrink_to_fit();
        self.receipts = None;
        match &mut self.qos2 {
            Some(qos2) if qos2.is_empty() => self.qos2 = None,
            Some(qos2) => qos2.shrink(),
            None => {}
        }
    }

    /// See [`super::Session::logged`].
    pub(super) fn logged(&mut self, packet_id: u16) {
        if let Some(open) = self.qos2.as_mut().and_then(|qos2| qos2.get_mut(packet_id)) {
            open.logged = true;
        }
    }

    /// See [`super::Session::goes_beside_log`].
    pub(super) fn goes_beside_log(&mut self, packet_id: u16) {
        self.qos2.iter_mut().for_each(|qos2| qos2.goes_beside_log(packet_id));
    }

    /// See [`super::Session::awaits_beside_log`].
    pub(super) fn awaits_beside_log(&self) -> bool {
        self.qos2.as_ref().is_some_and(|qos2| qos2.awaits_beside_log())
    }

    /// See [`super::Session::is_repeat`].
    pub(super) fn is_repeat(&self, packet_id: u16) -> bool {
        self.qos2.as_ref().is_some_and(|qos2| qos2.is_repeat(packet_id))
    }

    /// See [`super::Session::already_taken_by`].
    pub(super) fn already_taken_by(&self, packet_id: u16) -> &[u16] {
        self.qos2.as_ref().map_or(&[], |qos2| qos2.already_taken_by(packet_id))
    }

    /// Restores an id that an earlier process has left open. Returns the number that its rows answer to.
    pub(super) fn restore(&mut self, packet_id: u16, already_taken_by: Box<[u16]>, owed: u16) -> u32 {
        let number = self.base;
        self.base = number.wrapping_add(1);
        self.qos2.get_or_insert_default().restore(packet_id, number, already_taken_by, owed);
        number
    }

    /// Takes an id that is free and still in the log.
    pub(super) fn take_freed(&mut self) -> Option<u16> {
        self.qos2.as_mut()?.take_freed()
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> (usize, bool) {
        (self.slots.capacity(), self.qos2.is_some())
    }

    #[cfg(test)]
    pub(super) fn start_at(&mut self, base: u32) {
        assert!(self.slots.is_empty());
        self.base = base;
    }
}
