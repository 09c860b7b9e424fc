//! Exchanges of QoS 2 that other logs than the publisher's own know: those of shards that have written the message down for
//! subscribers. An id is free when these have forgotten it, else its next message would be taken for a repeat there. So PUBREL is
//! passed on to them, and PUBCOMP waits for their answers.

use super::qos2::Map;
use super::state::Session;

/// An id that is being released on other shards.
#[derive(Clone, Copy, Debug)]
struct Releasing {
    /// The number of shards that have not answered.
    owed: u16,
    /// The client has sent PUBREL on the present connection, which gets PUBCOMP.
    is_asked: bool,
}

/// The state of one session.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Shards that may know an id, as bits.
    shards: Map<u16, u64>,
    releasing: Map<u16, Releasing>,
    /// Ids that all other shards have released, but this one has not yet.
    released: Vec<u16>,
}

/// The shards on which a packet identifier must be released before it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseFirst {
    /// No other shard: [`Session::packet`] releases the identifier.
    Nowhere,
    /// These shards, as bits.
    On(u64),
    /// The release on these shards is under way already.
    Awaited,
}

/// A refusal that is sent once the shards that know its message have forgotten it: it also frees the packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// The number of the message: each of the shards [`Session::complete`]s it.
    pub number: u32,
    /// The packet identifier of the message.
    pub packet_id: u16,
    /// The shards, as bits.
    pub shards: u64,
}

impl Elsewhere {
    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty() && self.releasing.is_empty() && self.released.is_empty()
    }

    pub(super) fn shrink(&mut self) {
        self.shards.shrink_to_fit();
        self.releasing.shrink_to_fit();
    }

    /// Takes the shards that may know an id; this shard forgets them.
    pub(super) fn take(&mut self, packet_id: u16) -> Option<u64> {
        if self.shards.is_empty() { None } else { self.shards.remove(&packet_id) }
    }

    /// Takes an id that all other shards have released.
    pub(super) fn next_released(&mut self) -> Option<u16> {
        self.released.pop()
    }

    /// Handles the end of the connection: PUBCOMP is sent only if PUBREL is sent again.
    pub(super) fn park(&mut self) {
        self.releasing.values_mut().for_each(|releasing| releasing.is_asked = false);
    }
}

impl Session {
    fn elsewhere_mut(&mut self) -> &mut Elsewhere {
        &mut self.inflight.qos2.get_or_insert_default().elsewhere
    }

    fn elsewhere(&self) -> Option<&Elsewhere> {
        self.inflight.qos2.as_ref().map(|qos2| &qos2.elsewhere)
    }

    /// Notes that a message of QoS 2 has gone to these shards, as bits, which may write it down for subscribers.
    pub fn sent_to_shards(&mut self, packet_id: u16, shards: u64) {
        *self.elsewhere_mut().shards.entry(packet_id).or_default() |= shards;
    }

    /// All shards that may know one of the session's exchanges, as bits.
    #[must_use]
    pub fn known_to_shards(&self) -> u64 {
        self.elsewhere().map_or(0, |elsewhere| elsewhere.shards.values().fold(0, |all, shards| all | shards))
    }

    /// The releases that are needed before this id is free.
    #[must_use]
    pub fn release_first(&self, packet_id: u16) -> ReleaseFirst {
        let qos2 = self.inflight.qos2.as_ref();
        if self.is_releasing(packet_id) {
            return ReleaseFirst::Awaited;
        }
        // A PUBREL that is too early ends the connection.
        if qos2.is_some_and(|qos2| qos2.is_too_early(packet_id)) {
            return ReleaseFirst::Nowhere;
        }
        let known = qos2.and_then(|qos2| qos2.elsewhere.shards.get(&packet_id)).copied().unwrap_or_default();
        if known == 0 { ReleaseFirst::Nowhere } else { ReleaseFirst::On(known) }
    }

    /// Notes that an id is being released on this many shards.
    pub fn releases(&mut self, packet_id: u16, shards: u16) {
        let elsewhere = self.elsewhere_mut();
        elsewhere.shards.remove(&packet_id);
        elsewhere.releasing.insert(packet_id, Releasing { owed: shards, is_asked: true });
    }

    /// PUBREL for an id that is being released already.
    pub fn releases_again(&mut self, packet_id: u16) {
        if let Some(releasing) = self.elsewhere_mut().releasing.get_mut(&packet_id) {
            releasing.is_asked = true;
        }
    }

    /// Notes that the row of this open QoS 2 id goes to Kafka without the log that has the rows of other ids.
    pub fn goes_beside_log(&mut self, packet_id: u16) {
        self.inflight.goes_beside_log(packet_id);
    }

    /// Whether some such row is unanswered: later rows in the log wait for it, or they would overtake it.
    #[must_use]
    pub fn awaits_beside_log(&self) -> bool {
        self.inflight.awaits_beside_log()
    }

    /// Whether an id is pending on other shards: its next message has to wait, too.
    #[must_use]
    pub fn is_releasing(&self, packet_id: u16) -> bool {
        self.elsewhere().is_some_and(|elsewhere| {
            elsewhere.releasing.contains_key(&packet_id) || elsewhere.released.contains(&packet_id)
        })
    }

    /// Whether a message of QoS 2 has to wait until an id that is being released is free: its client does not count that id any
    /// more, as it has sent PUBREL, so it must not be disconnected for one too many.
    #[must_use]
    pub fn waits_for_release(&self) -> bool {
        let is_releasing = |elsewhere: &Elsewhere| !(elsewhere.releasing.is_empty() && elsewhere.released.is_empty());
        self.inflight.open_ids() >= usize::from(self.terms.qos2_max) && self.elsewhere().is_some_and(is_releasing)
    }

    /// Notes that a shard has forgotten an id. After the last shard the id is free, and PUBCOMP follows with the next
    /// [`Session::drain_answers`] if it was asked for on the present connection.
    pub fn released(&mut self, packet_id: u16) {
        let elsewhere = self.elsewhere_mut();
        let Some(releasing) = elsewhere.releasing.get_mut(&packet_id) else { return };
        releasing.owed -= 1;
        if releasing.owed > 0 {
            return;
        }
        let is_asked = releasing.is_asked;
        elsewhere.releasing.remove(&packet_id);
        if is_asked {
            elsewhere.released.push(packet_id);
        } else {
            let _ = self.inflight.free(packet_id);
        }
    }

    /// Delays a refusal until this many shards have forgotten its message.
    pub fn refuses_later(&mut self, number: u32, shards: u16) {
        self.inflight.owe(number, shards);
    }
}
