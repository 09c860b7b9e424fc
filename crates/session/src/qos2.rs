//! The QoS 2 packet ids that a session holds open, from PUBLISH to PUBREL [MQTT-4.3.3-10], and the rows that continue without a
//! connection.
//!
//! An id is open in one of three ways. Its row is in the connection's queue (`Here`); or the connection went first and the row
//! waits for its sinks separately (`Parked`), where it delays no other row; or the row is done (`Done`) and the id waits for
//! PUBREL. A PUBLISH repeated in the meantime never becomes a second row: it takes a place in the queue of its own connection,
//! which is answered when the row is done.

use super::elsewhere::Elsewhere;
use super::inflight::Slot;
use super::receipts::{Of, Receipt, add};
use super::refusals::Reason;
use hashbrown::HashMap;

/// Packet ids and row numbers are our own or 16 bits wide: nothing to gain from colliding them on purpose.
pub(super) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// An open id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) row: Row,
    /// The number of the slot, on the present connection, that still has to answer this id with a PUBREC.
    pub(super) slot: Option<u32>,
    /// The log has a row of the id.
    pub(super) logged: bool,
    /// An earlier process left the id, and its client has not repeated it since.
    restored: bool,
}

/// The place of the row of an open id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// The row is in the queue; `Open::slot` is its slot.
    Here,
    /// The connection is gone, and sinks have not all answered; the number of the row.
    Parked(u32),
    /// Every sink has answered.
    Done(Reason),
}

/// The result of a PUBREL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// The id is free again. A slot that was waiting to repeat its PUBREC must stay silent: the client may reuse the id.
    Freed {
        /// The slot to silence.
        silence: Option<u32>,
    },
    /// The id is not open.
    Unknown,
    /// No PUBREC can have been sent for the id.
    TooEarly,
}

/// The QoS 2 state of a session. Boxed, created by the first QoS 2 PUBLISH, given back when empty and idle.
#[derive(Debug, Default)]
pub(super) struct Qos2 {
    open: Map<u16, Open>,
    parked: Map<u32, Slot>,
    /// The sinks that have the row, for ids that an earlier process has left and that have not been repeated.
    already_taken_by: Map<u16, Box<[u16]>>,
    /// The present number of a restored row by its number at recovery, since its id was repeated.
    moved: Map<u32, u32>,
    /// The number at recovery, by id.
    moved_from: Map<u16, u32>,
    /// Ids that are no longer open but still in the log.
    freed: Vec<u16>,
    /// Receipts of the rows of open ids that are not in the queue.
    receipts: Map<u16, Of>,
    pub(super) elsewhere: Elsewhere,
    /// Ids with a row that went beside the log, as far as they were not answered at the last look.
    beside_log: Vec<u16>,
}

impl Qos2 {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u16> {
        self.open.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.freed.is_empty() && self.elsewhere.is_empty()
    }

    pub(super) fn has_parked(&self) -> bool {
        !(self.parked.is_empty() && self.moved.is_empty())
    }

    pub(super) fn get_mut(&mut self, packet_id: u16) -> Option<&mut Open> {
        self.open.get_mut(&packet_id)
    }

    /// Opens an id with slot `number` as its row.
    pub(super) fn open(&mut self, packet_id: u16, number: u32) {
        self.open.insert(packet_id, Open { row: Row::Here, slot: Some(number), logged: false, restored: false });
    }

    /// Restores an id that an earlier process has left open, with the sinks that have its row, and the number of pending answers
    /// for `number`.
    pub(super) fn restore(&mut self, packet_id: u16, number: u32, already_taken_by: Box<[u16]>, owed: u16) {
        let row = if owed > 0 { Row::Parked(number) } else { Row::Done(Reason::Success) };
        if owed > 0 {
            let landed = already_taken_by.len() > usize::from(owed);
            self.parked.insert(number, Slot::restored(packet_id, owed, landed));
        }
        self.open.insert(packet_id, Open { row, slot: None, logged: true, restored: true });
        self.already_taken_by.insert(packet_id, already_taken_by);
    }

    /// The sinks that took the row of this id before a crash; none once it has been repeated.
    pub(super) fn already_taken_by(&self, packet_id: u16) -> &[u16] {
        self.already_taken_by.get(&packet_id).map_or(&[], |sinks| sinks)
    }

    /// Whether a PUBLISH with this id repeats an existing row, and goes to no sink any more.
    pub(super) fn is_repeat(&self, packet_id: u16) -> bool {
        self.open.contains_key(&packet_id) && !self.already_taken_by.contains_key(&packet_id)
    }

    /// Notes that the row of an open id is not in the log.
    pub(super) fn goes_beside_log(&mut self, packet_id: u16) {
        let mut ids = std::mem::take(&mut self.beside_log);
        ids.retain(|id| *id != packet_id && !self.is_answered(*id));
        ids.push(packet_id);
        self.beside_log = ids;
    }

    /// Whether some row that is not in the log has not been confirmed by Kafka.
    pub(super) fn awaits_beside_log(&self) -> bool {
        self.beside_log.iter().any(|id| !self.is_answered(*id))
    }

    fn is_answered(&self, packet_id: u16) -> bool {
        self.open.get(&packet_id).is_none_or(|open| matches!(open.row, Row::Done(_)))
    }

    /// Takes the first repeat of an id that an earlier process has left: from now on its row is slot `number`. Returns the sinks'
    /// answers so far, and the number of pending ones.
    pub(super) fn take_rest(&mut self, packet_id: u16, number: u32) -> Option<Slot> {
        self.already_taken_by.remove(&packet_id)?;
        let open = self.open.get_mut(&packet_id)?;
        let mut said = Slot::restored(packet_id, 0, true);
        match open.row {
            Row::Parked(before) => {
                said = self.parked.remove(&before).unwrap_or(said);
                self.moved.insert(before, number);
                self.moved_from.insert(packet_id, before);
            }
            Row::Done(reason) => said.reason = reason,
            Row::Here => {}
        }
        (open.row, open.slot, open.restored) = (Row::Here, Some(number), false);
        Some(said)
    }

    /// The present number of the row.
    pub(super) fn now_at(&self, number: u32) -> u32 {
        if self.moved.is_empty() { number } else { self.moved.get(&number).copied().unwrap_or(number) }
    }

    /// The id is not open any more.
    fn close(&mut self, packet_id: u16) {
        if self.open.remove(&packet_id).is_some_and(|open| open.logged) {
            self.freed.push(packet_id);
        }
        if !self.already_taken_by.is_empty() {
            self.already_taken_by.remove(&packet_id);
        }
        if !self.receipts.is_empty() {
            self.receipts.remove(&packet_id);
        }
        if !self.moved_from.is_empty()
            && let Some(before) = self.moved_from.remove(&packet_id)
        {
            self.moved.remove(&before);
        }
    }

    /// See [`super::inflight::Inflight::take_freed`].
    pub(super) fn take_freed(&mut self) -> Option<u16> {
        self.freed.pop()
    }

    /// Notes that a PUBREC has been sent. 0x80 and above free the id [MQTT-4.3.3-9].
    pub(super) fn answered(&mut self, packet_id: u16, reason: Reason) {
        if reason.is_refusal() {
            self.close(packet_id);
        } else if let Some(open) = self.open.get_mut(&packet_id) {
            (open.row, open.slot) = (Row::Done(reason), None);
        }
    }

    /// Whether a PUBREL for this id is too early.
    pub(super) fn is_too_early(&self, packet_id: u16) -> bool {
        let is_done = |open: &Open| open.restored || matches!(open.row, Row::Done(reason) if !reason.is_refusal());
        self.open.get(&packet_id).is_some_and(|open| !is_done(open))
    }

    /// PUBREL: discards the id [MQTT-4.3.3-11], which may name another message then [MQTT-4.3.3-12].
    pub(super) fn release(&mut self, packet_id: u16) -> Release {
        match self.open.get(&packet_id).copied() {
            None => Release::Unknown,
            Some(Open { row: Row::Done(reason), slot, .. }) if !reason.is_refusal() => {
                self.close(packet_id);
                Release::Freed { silence: slot }
            }
            // The PUBREC was sent before the crash, and Kafka's answers by then are not all in the log. They may be different by
            // now.
            Some(Open { row, restored: true, .. }) => {
                if let Row::Parked(number) = row {
                    self.parked.remove(&number);
                }
                self.close(packet_id);
                Release::Freed { silence: None }
            }
            Some(_) => Release::TooEarly,
        }
    }

    /// Parks a row of a connection that is gone before `slot`, its number `number`, was answered.
    pub(super) fn park(&mut self, number: u32, slot: Slot) {
        let Some(open) = self.open.get_mut(&slot.packet_id) else { return };
        open.slot = None;
        // A repeat of a row that is done may be pending, too: a refusal waits until other shards have forgotten its message.
        if open.row == Row::Here || matches!(open.row, Row::Done(_)) && !slot.is_done() {
            if !slot.is_done() {
                open.row = Row::Parked(number);
                self.parked.insert(number, slot);
            } else {
                open.row = Row::Done(slot.reason);
            }
        }
        if slot.may_be_sent_again() || slot.opening {
            // Refused by all sinks and not reported, or never handed to any: the next attempt is a new message, and doubles
            // nothing.
            self.parked.remove(&number);
            self.close(slot.packet_id);
        }
    }

    /// Takes a sink's answer for a parked row. After the last answer, if a repeated PUBLISH waits for it, returns the slot that now
    /// has its answer, and the row's last state.
    pub(super) fn answer(&mut self, number: u32, reason: Reason) -> Option<(u32, Slot)> {
        let slot = self.parked.get_mut(&number)?;
        slot.answer(reason);
        if !slot.is_done() {
            return None;
        }
        let slot = self.parked.remove(&number)?;
        let open = self.open.get_mut(&slot.packet_id)?;
        open.row = Row::Done(slot.reason);
        match open.slot {
            Some(waiting) => Some((waiting, slot)),
            None => {
                if slot.may_be_sent_again() {
                    self.close(slot.packet_id);
                }
                None
            }
        }
    }

    /// Adds receipts to those of an open id's row, until the id is free. Returns all of them, if there are any.
    pub(super) fn keep_receipts(&mut self, packet_id: u16, of: Of) -> Option<&Of> {
        if !of.is_empty() && self.open.contains_key(&packet_id) {
            let all = self.receipts.entry(packet_id).or_default();
            of.into_iter().for_each(|receipt| add(all, receipt));
        }
        self.receipts.get(&packet_id)
    }

    /// Adds a receipt for a row that is parked under this number.
    pub(super) fn landed(&mut self, number: u32, receipt: Receipt) {
        let packet_id = self.parked.get(&number).filter(|slot| !slot.is_done()).map(|slot| slot.packet_id);
        packet_id.map(|id| self.keep_receipts(id, Of::from_elem(receipt, 1)));
    }

    /// Discards receipts, as the client gets none.
    pub(super) fn forget_receipts(&mut self) {
        self.receipts = Map::default();
    }

    /// Gives back the memory of the tables beyond their contents.
    pub(super) fn shrink(&mut self) {
        self.open.shrink_to_fit();
        self.parked.shrink_to_fit();
        self.already_taken_by.shrink_to_fit();
        self.moved.shrink_to_fit();
        self.moved_from.shrink_to_fit();
        self.freed.shrink_to_fit();
        self.receipts.shrink_to_fit();
        self.beside_log.shrink_to_fit();
        self.elsewhere.shrink();
    }
}
