//! Room in the log of a slot for copies that wait for it: their records are open, and hold back their partitions. Queues of other sessions may fill the log.
//! While clients that are connected, or were a minute ago, have more than half of these queues, acknowledgements make room. Otherwise the longest queue of a
//! client that is away loses its oldest messages.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_base::limits::{ROOM_DROPS_AT_ONCE, ROOM_DROPS_PER_TURN};
use forebay_buffer::Buffer;
use forebay_metrics::event::{Event, Field, Kind};
use forebay_runtime::seam::Monotonic;
use forebay_session::{QueueBounds, Session, SessionKey};

use super::super::Broker;
use super::{MESSAGE_BYTES, Recipient};
use crate::here::Here;
use crate::logs::{first_of, slot_of};
use crate::words::{Whose, second};

/// `NO_ROOM` is the reason in the event of a dropped message.
const NO_ROOM: &str =
    "the log of the client's slot has no room for more waiting messages: those of the longest queue go";

/// A client that has left is expected to be back within this time: the log waits for it.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(60);

impl Broker {
    /// Whether copies of this session wait for its log: later ones wait, too.
    pub(crate) fn waits_for_log(&self, key: SessionKey) -> bool {
        let number = || self.sessions.get(key).and_then(Session::number);
        self.queues.left.is_waiting() && number().is_some_and(|number| self.queues.left.waits(slot_of(number), key))
    }

    /// Whether a copy of this size may wait for the log of its slot. `is_full`: its queue has no room for it.
    pub(crate) fn may_wait_for_log(&self, message_bytes: usize, is_full: bool, bounds: QueueBounds) -> bool {
        let is_refused = is_full && bounds.drops_newest;
        !is_refused && message_bytes + MESSAGE_BYTES + Recipient::BYTES_MAX <= self.queues.entry_max
    }

    /// Whether live records take more than half of the capacity of the log of this session's slot.
    pub(crate) fn is_slot_half_full(&self, key: SessionKey) -> bool {
        let log = self.sessions.get(key).and_then(Session::number).and_then(|number| self.logs.kept.of(number));
        log.is_some_and(Buffer::is_half_full)
    }

    /// Shortens the longest queues if the log of a slot has had no room for a while.
    pub(super) fn shorten_for(&mut self, here: &mut Here, slot: u16, now: Monotonic) {
        let kept = &self.logs.kept;
        if kept.part_of(first_of(slot)).is_none() || !self.queues.left.is_to_shorten(slot, now) {
            return;
        }
        if self.queues.left.is_to_tell(slot) {
            let about = |event: Event| event.with(Field::Partition, u64::from(slot));
            here.teller.tell_of(Kind::SlotFull, second(now), slot, about);
        }
        let kept = &self.logs.kept;
        let to_end = kept.of(first_of(slot)).map_or(0, Buffer::records_to_end);
        let number = |key: &SessionKey| self.sessions.get(*key).and_then(Session::number);
        let all = self.queues.fullest.sessions().chain(self.queues.left.waiting_for(slot));
        let of_slot = all.filter(|key| number(key).is_some_and(|number| slot_of(number) == slot));
        let is_away = |key: &SessionKey| self.is_away(*key, now);
        // A queue that waits for the log itself makes room as long as its connected client has copies to acknowledge.
        let is_there = |key: &SessionKey| self.sessions.get(*key).is_some_and(|session| session.conn().is_some());
        let is_stuck =
            |key: &SessionKey| is_there(key) && self.queues.left.waits(slot, *key) && self.copies_on_way(*key) == 0;
        let lengths = of_slot.filter(|key| !is_stuck(key)).map(|key| (key, self.queue_length(key)));
        let (mut away, there): (BTreeMap<SessionKey, usize>, BTreeMap<_, _>) =
            lengths.partition(|(key, _)| is_away(key));
        if there.values().sum::<usize>() > away.values().sum::<usize>() {
            return;
        }
        let enough = self.delivery.remembered().ended() + to_end;
        let mut dropped = 0;
        while dropped < ROOM_DROPS_PER_TURN {
            let rest = enough.saturating_sub(self.delivery.remembered().ended());
            let Some((&key, _)) = away.iter().max_by_key(|(_, length)| **length).filter(|_| rest > 0) else { break };
            let at_once = ROOM_DROPS_AT_ONCE.min(rest.div_ceil(4));
            let more = self.sessions.get_mut(key).map_or(0, |session| session.drop_oldest(at_once));
            if more == 0 {
                away.remove(&key);
                continue;
            }
            dropped += more;
            self.tell_shortened_for_slot(here, now, key);
            away.insert(key, self.queue_length(key));
        }
        if dropped == 0 && to_end > 0 {
            // No queue can make room.
            let waiting: Vec<SessionKey> = self.queues.left.waiting_for(slot).collect();
            for key in waiting {
                let there = self.sessions.get(key).filter(|session| session.conn().is_some());
                if let Some(waits) = there.map(|session| session.next_for_log().is_some()) {
                    if waits {
                        self.sends_from_memory(now, key);
                    }
                    continue;
                }
                if !self.is_away(key, now) {
                    continue;
                }
                let lost = self.sessions.get(key).and_then(|session| session.unlogged_places().next());
                self.sessions.get_mut(key).into_iter().for_each(Session::drop_unlogged);
                self.tell_shortened_for_slot(here, now, key);
                if let Some(place) = lost {
                    self.note_dropped_at(here, key, place);
                    self.write_dropped(here, key);
                }
            }
        }
    }

    /// Whether a client is not expected to be back soon.
    fn is_away(&self, key: SessionKey, now: Monotonic) -> bool {
        self.sessions.get(key).is_some_and(|session| session.is_away_for(COMES_BACK_WITHIN, now))
    }

    fn tell_shortened_for_slot(&mut self, here: &mut Here, now: Monotonic, key: SessionKey) {
        let gone = self.sessions.get_mut(key).map(Session::take_dropped).unwrap_or_default();
        self.note_queue_later(now, key);
        self.retained.note_dropped(key);
        self.dropped_for_room(here, now, Whose::Session(key), (&gone, NO_ROOM));
    }

    /// The number of copies that a client was sent and has not acknowledged.
    fn copies_on_way(&self, key: SessionKey) -> usize {
        self.sessions.get(key).map_or(0, |session| session.on_its_way().0)
    }

    /// The bytes of all copies of a session, sent or not.
    fn queue_length(&self, key: SessionKey) -> usize {
        self.sessions.get(key).map_or(0, |session| session.on_its_way().1 + session.queued_bytes())
    }
}
