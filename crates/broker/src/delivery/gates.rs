//! Gates between the live messages of topics of `[broker]` and subscriptions that are sent records of the past (`shard::sources::replay`).
//!
//! While a replay has not reached the live records of a partition, these are passed over for its subscription: the replay brings them. A replay has reached
//! them when it has read all that Kafka had, and the last record that was passed over: live messages are delivered from that offset. Each partition is
//! settled by itself, so its order stays.
//!
//! Live messages that a replay has already sent are passed over after the replay, too, up to its end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use forebay_base::limits::{RECORD_REPLAYS_MAX, RECORD_REPLAYS_OF_SESSION_MAX, RECORD_REPLAYS_OVER_MAX};
use forebay_kafka::consumer::Start;
use forebay_runtime::seam::ConnId;
use forebay_session::{Placed, SessionKey, Subscription, SubscriptionRefused};

/// The topics that a replay reads, by their indexes among those of the broker's source.
pub(crate) type Topics = SmallVec<[u16; 4]>;

/// A replay that was requested.
#[derive(Debug)]
pub struct Asked {
    /// The gate's number.
    pub gate: u32,
    /// The session with the subscription.
    pub session: SessionKey,
    /// The connection that requested it: the replay ends with it.
    pub conn: ConnId,
    /// The subscription.
    pub subscription: Subscription,
    /// The offset or time from which each partition is read.
    pub start: Start,
    /// The topics of its filter.
    pub topics: Topics,
}

/// The state of a partition at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Live messages are passed over: the first offset that was, and the last.
    Closed { first: i64, last: i64 },
    /// Live messages are delivered from this offset. The replay has brought those below it.
    From(i64),
}

/// The gate of one subscription.
#[derive(Debug)]
struct Gate {
    session: SessionKey,
    filter: Arc<str>,
    /// Topics that are being replayed: a partition of them without a place is closed. Empty: the replay is over.
    topics: Topics,
    places: BTreeMap<(u16, i32), Place>,
}

/// The gates of a shard, by number. A number is never used again.
#[derive(Debug, Default)]
pub struct Gates {
    all: HashMap<u32, Gate>,
    of: HashMap<SessionKey, SmallVec<[u32; 2]>>,
    /// Replays requested since [`Gates::take_asked`] was last called.
    asked: Vec<Asked>,
    /// Gates of replays that are over, oldest first.
    over: VecDeque<u32>,
    last: u32,
}

impl Gate {
    fn is_over(&self) -> bool {
        self.topics.is_empty()
    }
}

impl Gates {
    /// Whether all live messages are delivered.
    #[inline]
    pub(super) fn are_none(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether there is room for another replay, and for one more of this session.
    ///
    /// # Errors
    /// The refusal, if there is no room.
    pub(crate) fn have_room(&self, session: SessionKey) -> Result<(), SubscriptionRefused> {
        let open = |gate: &&Gate| !gate.is_over();
        let of_session = self.of.get(&session).into_iter().flatten().filter_map(|number| self.all.get(number));
        let is_full = self.all.values().filter(open).count() >= RECORD_REPLAYS_MAX
            || of_session.filter(open).count() >= RECORD_REPLAYS_OF_SESSION_MAX;
        if is_full { Err(SubscriptionRefused::TOO_MANY_REPLAYS) } else { Ok(()) }
    }

    /// The number of the next gate.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }

    /// Closes a gate for the subscription, which replaces an earlier one.
    pub(crate) fn close(&mut self, asked: Asked) {
        let (session, filter) = (asked.session, Arc::clone(&asked.subscription.filter));
        self.leave(session, &filter);
        let gate = Gate { session, filter, topics: asked.topics.clone(), places: BTreeMap::new() };
        self.all.insert(asked.gate, gate);
        self.of.entry(session).or_default().push(asked.gate);
        // The replay is over at once if there is nothing to read.
        self.drop_if_done(asked.gate);
        self.asked.push(asked);
    }

    /// Takes the replays requested since the last call.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// The number of a subscription's gate. 0: none.
    pub fn number_of(&self, session: SessionKey, filter: &str) -> u32 {
        let numbers = self.of.get(&session).into_iter().flatten();
        let is_it = |number: &&u32| self.all.get(number).is_some_and(|gate| *gate.filter == *filter);
        numbers.copied().find(|number| is_it(&number)).unwrap_or(0)
    }

    /// Whether a live message is delivered to the subscription with this gate. If not, its offset is noted: the replay brings it.
    pub(super) fn passes(&mut self, number: u32, Placed { topic, place: at, .. }: Placed) -> bool {
        let Some(gate) = self.all.get_mut(&number) else { return true };
        let place = (topic, at.of.partition.cast_signed());
        match gate.places.get_mut(&place) {
            Some(Place::From(from)) => {
                let passes = at.offset >= *from;
                if passes && gate.is_over() {
                    gate.places.remove(&place);
                    self.drop_if_done(number);
                }
                passes
            }
            Some(Place::Closed { last, .. }) => {
                *last = at.offset.max(*last);
                false
            }
            None if gate.topics.contains(&topic) => {
                gate.places.insert(place, Place::Closed { first: at.offset, last: at.offset });
                false
            }
            None => true,
        }
    }

    /// Whether the replay of a gate continues.
    pub fn is_replayed(&self, number: u32) -> bool {
        self.all.get(&number).is_some_and(|gate| !gate.is_over())
    }

    /// The first offset of a partition that was passed over.
    pub fn first_passed_over(&self, number: u32, place: (u16, i32)) -> Option<i64> {
        match self.all.get(&number)?.places.get(&place)? {
            Place::Closed { first, .. } => Some(*first),
            Place::From(_) => None,
        }
    }

    /// Notes that the replay has read a partition up to this offset, the end that Kafka last reported. Returns whether live messages are delivered from
    /// there: no message beyond it was passed over.
    pub fn reached(&mut self, number: u32, place: (u16, i32), offset: i64) -> bool {
        let Some(gate) = self.all.get_mut(&number) else { return true };
        let from = match gate.places.get(&place) {
            Some(Place::Closed { last, .. }) if *last >= offset => return false,
            // The next live message lies beyond the offset.
            Some(Place::Closed { last, .. }) if last + 1 == offset => 0,
            Some(Place::Closed { .. } | Place::From(_)) | None => offset,
        };
        gate.places.insert(place, Place::From(from));
        true
    }

    /// Opens the gate for all live messages of a partition: the replay has brought none.
    pub fn open(&mut self, number: u32, place: (u16, i32)) {
        if let Some(gate) = self.all.get_mut(&number) {
            gate.places.insert(place, Place::From(0));
        }
    }

    /// Ends a replay: all live messages are delivered, except those that it has brought.
    pub fn end(&mut self, number: u32) {
        let Some(gate) = self.all.get_mut(&number) else { return };
        gate.topics.clear();
        gate.places.retain(|_, place| matches!(place, Place::From(1..)));
        if self.drop_if_done(number) {
            return;
        }
        self.over.push_back(number);
        while self.over.len() > RECORD_REPLAYS_OVER_MAX
            && let Some(oldest) = self.over.pop_front()
        {
            self.remove(oldest);
        }
    }

    /// Ends the replay of a subscription that has ended, or is replaced.
    pub(crate) fn leave(&mut self, session: SessionKey, filter: &str) {
        match self.number_of(session, filter) {
            0 => {}
            number => self.remove(number),
        }
    }

    /// Ends the replays of a session that has lost its connection: its live messages pass.
    pub(crate) fn disconnected(&mut self, session: SessionKey) {
        if self.all.is_empty() {
            return;
        }
        for number in self.of.get(&session).cloned().unwrap_or_default() {
            if self.is_replayed(number) {
                self.end(number);
            }
        }
    }

    /// Forgets a session that has ended.
    pub(crate) fn forget(&mut self, session: SessionKey) {
        for number in self.of.get(&session).cloned().unwrap_or_default() {
            self.remove(number);
        }
    }

    fn drop_if_done(&mut self, number: u32) -> bool {
        let is_done = self.all.get(&number).is_some_and(|gate| gate.is_over() && gate.places.is_empty());
        if is_done {
            self.remove(number);
        }
        is_done
    }

    /// The number of subscriptions with a finished replay that still pass over live messages that it has sent.
    pub(super) fn settling(&self) -> usize {
        self.over.len()
    }

    fn remove(&mut self, number: u32) {
        let Some(gate) = self.all.remove(&number) else { return };
        if gate.is_over() {
            self.over.retain(|over| *over != number);
        }
        if let Some(numbers) = self.of.get_mut(&gate.session) {
            numbers.retain(|of| *of != number);
            if numbers.is_empty() {
                self.of.remove(&gate.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use forebay_mqtt::packet::SubscriptionOptions;
    use forebay_session::{PartitionKey, RecordPlace};

    fn session() -> SessionKey {
        SessionKey::from_bits(7)
    }

    fn closed(gates: &mut Gates, session: SessionKey, filter: &str) -> u32 {
        let gate = gates.next_number();
        let subscription =
            Subscription { filter: filter.into(), options: SubscriptionOptions::default(), identifier: 0 };
        let (conn, start) = (ConnId { slot: 0, generation: 0 }, Start::Offset { offset: 0, leader_epoch: -1 });
        gates.close(Asked { gate, session, conn, subscription, start, topics: smallvec::smallvec![0] });
        gate
    }

    const fn of(topic: u16, partition: u32, offset: i64) -> Placed {
        let place = RecordPlace { of: PartitionKey { topic: 7, partition }, offset };
        Placed { place, topic, time: 0, is_again: false }
    }

    const fn at(offset: i64) -> Placed {
        of(0, 3, offset)
    }

    #[test]
    fn live_messages_come_where_the_replay_has_reached_them() {
        let mut gates = Gates::default();
        let gate = closed(&mut gates, session(), "a");
        assert!(gates.passes(0, at(5)) && gates.passes(gate, of(1, 3, 5)), "others pass");
        assert!(!gates.passes(gate, at(5)) && !gates.passes(gate, at(6)));
        assert_eq!(gates.first_passed_over(gate, (0, 3)), Some(5));
        assert!(!gates.reached(gate, (0, 3), 6), "6 was passed over and not replayed");
        assert!(gates.reached(gate, (0, 3), 7) && gates.passes(gate, at(7)));
        // The replay is ahead of the live messages.
        assert!(!gates.passes(gate, of(0, 4, 1)) && gates.reached(gate, (0, 4), 9));
        for (offset, passes) in [(2, false), (8, false), (9, true), (10, true)] {
            assert_eq!(gates.passes(gate, of(0, 4, offset)), passes, "{offset}");
        }
        gates.open(gate, (0, 5));
        assert!(gates.passes(gate, of(0, 5, 0)));
        assert!(!gates.passes(gate, of(0, 6, 0)));
        // The end of a replay opens a partition that it has not reached; live messages that it has brought are passed over later, too.
        assert!(gates.reached(gate, (0, 7), 4));
        gates.end(gate);
        assert!(!gates.is_replayed(gate) && gates.passes(gate, of(0, 6, 1)));
        assert!(!gates.passes(gate, of(0, 7, 3)));
        assert!(!gates.passes(gate, of(0, 4, 8)));
        assert!(!gates.are_none());
        for partition in [4, 7] {
            assert!(gates.passes(gate, of(0, partition, 9)));
        }
        assert!(gates.are_none() && gates.of.is_empty());
        assert!(gates.passes(gate, of(0, 7, 3)), "what is read again after that comes again");
    }

    #[test]
    fn a_gate_ends_with_its_subscription_its_connection_or_its_session() {
        let mut gates = Gates::default();
        let first = closed(&mut gates, session(), "a");
        let second = closed(&mut gates, session(), "a");
        assert!(!gates.is_replayed(first) && gates.is_replayed(second) && gates.number_of(session(), "a") == second);
        gates.leave(session(), "b");
        gates.leave(session(), "a");
        assert!(gates.are_none() && gates.number_of(session(), "a") == 0);
        let third = closed(&mut gates, session(), "a");
        gates.disconnected(session());
        assert!(!gates.is_replayed(third) && gates.passes(third, at(0)));
        let fourth = closed(&mut gates, session(), "a");
        assert_eq!(gates.take_asked().len(), 4);
        gates.forget(session());
        assert!(!gates.is_replayed(fourth) && gates.are_none() && gates.of.is_empty());
    }

    #[test]
    fn there_are_not_more_than_that() {
        let mut gates = Gates::default();
        for filter in 0..RECORD_REPLAYS_OF_SESSION_MAX {
            assert!(gates.have_room(session()).is_ok());
            closed(&mut gates, session(), &filter.to_string());
        }
        assert!(gates.have_room(session()).is_err());
        let other = |number: usize| SessionKey::from_bits(1_000 + number as u64);
        (RECORD_REPLAYS_OF_SESSION_MAX..RECORD_REPLAYS_MAX).for_each(|number| {
            assert!(gates.have_room(other(number)).is_ok());
            closed(&mut gates, other(number), "a");
        });
        assert!(gates.have_room(other(0)).is_err());
        gates.disconnected(session());
        assert!(gates.have_room(session()).is_ok());
        // The oldest gates of replays that are over are forgotten.
        let numbers: Vec<u32> = (0..=RECORD_REPLAYS_OVER_MAX)
            .map(|number| {
                let gate = closed(&mut gates, other(10_000 + number), "a");
                assert!(gates.reached(gate, (0, 3), 5));
                gates.end(gate);
                gate
            })
            .collect();
        assert!(gates.passes(numbers[0], at(4)) && !gates.passes(numbers[1], at(4)));
    }

    proptest! {
        /// However replay and live messages take turns, each offset comes once, in order, from one of them.
        #[test]
        fn each_record_comes_once_and_in_order(steps in prop::collection::vec((any::<bool>(), 1i64..5), 1..200), behind in 0i64..20) {
            const END: i64 = 120;
            let mut gates = Gates::default();
            let gate = closed(&mut gates, session(), "a");
            // Live messages are some way on when the replay begins at 0, and in Kafka there are more.
            let (mut live, mut replayed, mut is_live, mut got) = (30 - behind, 0, false, Vec::new());
            let mut kafka = 30;
            for (is_of_live, count) in steps.into_iter().chain([(false, END), (true, END), (false, END), (true, END)]) {
                kafka = (kafka + count / 2).min(END);
                for _ in 0..count {
                    if is_of_live && live < kafka {
                        if gates.passes(gate, at(live)) {
                            got.push(live);
                        }
                        live += 1;
                    } else if !is_of_live && !is_live && replayed < kafka {
                        got.push(replayed);
                        replayed += 1;
                    }
                }
                if !is_live && replayed == kafka {
                    is_live = gates.reached(gate, (0, 3), replayed);
                    if is_live {
                        gates.end(gate);
                    }
                }
            }
            prop_assert!(is_live, "it has come live");
            prop_assert_eq!(got, (0..live.max(replayed)).collect::<Vec<_>>());
        }
    }
}
