//! The window of a partition: records that were taken up and are not over yet, in the order of their offsets. The committed offset is that of the lowest of
//! them (F6 of the design): a crash repeats the records of the window, and no others.

use std::collections::VecDeque;

use crate::rules::Rules;
use crate::runtime::seam::Monotonic;

/// `Record` is one record of a window.
#[derive(Debug)]
struct Record {
    offset: i64,
    leader_epoch: i32,
    bytes: usize,
    since: Monotonic,
    state: State,
}

/// The state of a record.
#[derive(Debug)]
enum State {
    /// `answers` is the number of pending answers of sinks, and of shards that have sessions which may need the record. `message` is parked if it has no
    /// receiver in the end.
    Owed { answers: u32, is_met: bool, message: Option<Box<Parked>> },
    /// The record has no receiver, and is kept until it has one.
    Parked(Box<Parked>),
    /// The record cannot be a message, and its dead letter is in flight, or was refused for good (`is_refused`), and the record stays open.
    DeadLetter { is_refused: bool },
    /// The record is over.
    Over,
}

impl State {
    /// Whether `release_after` applies to the record: it waits for subscribers. A dead letter is the record's only copy outside its partition.
    fn may_be_released(&self) -> bool {
        matches!(self, Self::Owed { .. } | Self::Parked(_))
    }
}

/// The effect of an answer on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The record waits for more answers, or there is none of this number.
    Open,
    /// The record is over: a receiver has it.
    Met,
    /// No receiver has the record: it is over, or parked, with [`Parked::grown`].
    Unmet(Option<u64>),
}

/// `Parked` is a message without subscribers yet.
#[derive(Debug)]
pub(super) struct Parked {
    /// The message as a PUBLISH packet of 5.0.
    pub(super) packet: Vec<u8>,
    /// The record's time, as sinks write it.
    pub(super) time_ms: i64,
    /// The number of times that the message has been a record before.
    pub(super) hops: u8,
    /// The count of subscriptions when the message was last offered.
    pub(super) grown: u64,
}

/// A place in a partition: an offset, and the leader epoch of the record before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
}

/// `Window` holds the records of one partition that are open, and those after them.
#[derive(Debug)]
pub(super) struct Window {
    records: VecDeque<Record>,
    /// The number of the first record. Numbers are consecutive, and wrap.
    first: u32,
    /// The number of records from the first on that were taken up before reading went back in the same log: later ones may have lower offsets.
    before: usize,
    bytes: usize,
    parked: usize,
    /// The place after the last record, with the epoch of the last one taken up.
    next: Place,
    /// The epoch of the last record that is over with all before it. −1: none is.
    epoch_before: i32,
}

impl Window {
    /// An empty window at the place where reading begins.
    pub(super) fn new(at: Place) -> Self {
        let Place { leader_epoch, .. } = at;
        Self {
            records: VecDeque::new(),
            first: 0,
            before: 0,
            bytes: 0,
            parked: 0,
            next: at,
            epoch_before: leader_epoch,
        }
    }

    /// The number of records from the first that is not over on.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of these records.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of records without a receiver yet.
    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    /// Whether all records that were taken up are over.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether no record waits for an answer: open ones have no receiver, or a dead letter that was refused.
    pub(super) fn waits_for_nothing(&self) -> bool {
        let waits =
            |record: &Record| matches!(record.state, State::Owed { .. } | State::DeadLetter { is_refused: false });
        !self.records.iter().any(waits)
    }

    /// The time at which the oldest record that may be released was taken up.
    pub(super) fn oldest(&self) -> Option<Monotonic> {
        self.records.iter().find(|record| record.state.may_be_released()).map(|record| record.since)
    }

    /// The number of the first record.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// The number of the next record to take up.
    pub(super) fn next_number(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.records.len()).unwrap_or(u32::MAX))
    }

    /// Takes up a record, which is over unless it is then set to wait.
    pub(super) fn take_up(&mut self, at: Place, bytes: usize, now: Monotonic) {
        let Place { offset, leader_epoch } = at;
        self.records.push_back(Record { offset, leader_epoch, bytes, since: now, state: State::Over });
        self.bytes += bytes;
        self.next = Place { offset: offset + 1, leader_epoch };
    }

    /// The offset after the last record taken up, or the first one to read.
    pub(super) fn next_offset(&self) -> i64 {
        self.next.offset
    }

    /// Continues at this offset: the offsets before it have no record.
    pub(super) fn passes_to(&mut self, offset: i64) {
        self.next.offset = self.next.offset.max(offset);
    }

    /// Goes back: the log has lost the records from there on. Earlier ones stay open.
    pub(super) fn goes_back(&mut self, at: Place) {
        for record in self.records.iter_mut().filter(|record| record.offset >= at.offset) {
            self.parked -= usize::from(matches!(record.state, State::Parked(_)));
            record.state = State::Over;
        }
        self.next = at;
        self.drop_over();
        if self.records.is_empty() {
            self.epoch_before = at.leader_epoch;
        }
    }

    /// Continues elsewhere, in a log that has none of the records.
    pub(super) fn restart(&mut self, at: Place) {
        self.first = self.next_number();
        self.records.clear();
        (self.before, self.bytes, self.parked) = (0, 0, 0);
        (self.next, self.epoch_before) = (at, at.leader_epoch);
    }

    /// Continues at an earlier place of the same log. Open records stay open: their receivers may still answer.
    pub(super) fn reads_again(&mut self, at: Place) {
        self.before = self.records.len();
        (self.next, self.epoch_before) = (at, at.leader_epoch);
    }

    /// Sets the number of answers that a record waits for, and the message to park if it has no receiver in the end. Without pending answers the record is
    /// over, and so may all those before it be.
    pub(super) fn owes(&mut self, number: u32, answers: u32, message: Option<Box<Parked>>) {
        if let Some(record) = self.get(number).filter(|_| answers > 0) {
            record.state = State::Owed { answers, is_met: false, message };
        }
        self.drop_over();
    }

    /// Parks a record.
    pub(super) fn park(&mut self, number: u32, parked: Box<Parked>) {
        if let Some(record) = self.get(number) {
            record.state = State::Parked(parked);
            self.parked += 1;
        }
    }

    /// Takes the message of a parked record, with the time at which the record was taken up.
    pub(super) fn unpark(&mut self, number: u32) -> Option<(Box<Parked>, Monotonic)> {
        let record = self.get(number)?;
        let since = record.since;
        match std::mem::replace(&mut record.state, State::Over) {
            State::Parked(parked) => {
                self.parked -= 1;
                Some((parked, since))
            }
            other => {
                record.state = other;
                None
            }
        }
    }

    /// The number of the oldest parked record from this one on.
    pub(super) fn parked_from(&self, from: u32) -> Option<u32> {
        let skip = from.wrapping_sub(self.first) as usize;
        // A number before the first one belongs to a record that is over.
        let skip = if skip > self.records.len() { 0 } else { skip };
        let is_parked = |record: &Record| matches!(record.state, State::Parked(_));
        let at = self.records.iter().skip(skip).position(is_parked)?;
        Some(self.first.wrapping_add(u32::try_from(skip + at).unwrap_or(u32::MAX)))
    }

    /// Takes one of the answers that a record waits for. `is_met`: a receiver has the record.
    pub(super) fn settle(&mut self, number: u32, is_met: bool, rules: &dyn Rules) -> Answered {
        let Some(record) = self.get(number) else { return Answered::Open };
        let State::Owed { answers, is_met: was_met, message } = &mut record.state else { return Answered::Open };
        *answers -= 1;
        *was_met |= is_met;
        if !rules.is_answered(*answers) {
            return Answered::Open;
        }
        let was_met = rules.is_had(*was_met);
        let parked = message.take().filter(|_| !was_met);
        let grown = parked.as_ref().map(|parked| parked.grown);
        record.state = parked.map_or(State::Over, State::Parked);
        self.parked += usize::from(grown.is_some());
        self.drop_over();
        if was_met { Answered::Met } else { Answered::Unmet(grown) }
    }

    /// Gives up the records taken up at `before` or earlier, oldest first. Returns how many of them were open.
    pub(super) fn release(&mut self, before: Monotonic, rules: &dyn Rules) -> u64 {
        let mut released = 0;
        for record in self.records.iter_mut().take_while(|record| rules.may_release(record.since.0, before.0)) {
            if !record.state.may_be_released() {
                continue;
            }
            self.parked -= usize::from(matches!(record.state, State::Parked(_)));
            record.state = State::Over;
            released += 1;
        }
        self.drop_over();
        released
    }

    /// Notes that the record's dead letter is in flight.
    pub(super) fn becomes_dead_letter(&mut self, number: u32) {
        if let Some(record) = self.get(number) {
            record.state = State::DeadLetter { is_refused: false };
        }
    }

    /// Ends a record with a dead letter that is durable.
    pub(super) fn dead_letter_is_safe(&mut self, number: u32) {
        if let Some(record) = self.get(number).filter(|record| matches!(record.state, State::DeadLetter { .. })) {
            record.state = State::Over;
        }
        self.drop_over();
    }

    /// Keeps the record open, as its dead letter was refused for good. Returns its offset.
    pub(super) fn dead_letter_is_refused(&mut self, number: u32) -> Option<i64> {
        let record = self.get(number).filter(|record| matches!(record.state, State::DeadLetter { .. }))?;
        record.state = State::DeadLetter { is_refused: true };
        Some(record.offset)
    }

    /// The place below which all records are over, up to which a group may commit.
    pub(super) fn low(&self, rules: &dyn Rules) -> Place {
        let open = |record: &&Record| !matches!(record.state, State::Over);
        let before = self.records.iter().take(self.before).filter(open).map(|record| record.offset).min();
        let first = self.records.iter().skip(self.before).find(open).map(|record| record.offset);
        let lowest_open = before.into_iter().chain(first).min().filter(|lowest| *lowest < self.next.offset);
        Place { offset: rules.commits(lowest_open, self.next.offset), leader_epoch: self.epoch_before }
    }

    fn get(&mut self, number: u32) -> Option<&mut Record> {
        self.records.get_mut(number.wrapping_sub(self.first) as usize)
    }

    fn drop_over(&mut self) {
        while let Some(record) = self.records.pop_front_if(|record| matches!(record.state, State::Over)) {
            self.bytes -= record.bytes;
            self.first = self.first.wrapping_add(1);
            if self.before == 0 {
                self.epoch_before = record.leader_epoch;
            }
            self.before = self.before.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::KEPT;

    fn at(offset: i64) -> Place {
        Place { offset, leader_epoch: 3 }
    }

    /// Takes up a record that waits for this many answers.
    fn open(window: &mut Window, offset: i64, answers: u32) -> u32 {
        let number = window.next_number();
        window.take_up(at(offset), 100, Monotonic(u64::try_from(offset).unwrap_or(0)));
        window.owes(number, answers, None);
        number
    }

    fn parked() -> Box<Parked> {
        Box::new(Parked { packet: vec![1], time_ms: 0, hops: 0, grown: 7 })
    }

    #[test]
    fn what_is_committed_is_the_lowest_open_record() {
        let mut window = Window::new(at(10));
        let numbers = [10, 11, 15, 16].map(|offset| open(&mut window, offset, 2));
        assert_eq!(window.low(&KEPT).offset, 10);
        for number in &numbers[1..3] {
            (0..2).for_each(|_| assert_ne!(window.settle(*number, true, &KEPT), Answered::Unmet(None)));
        }
        assert_eq!((window.low(&KEPT).offset, window.len(), window.bytes()), (10, 4, 400));
        window.settle(numbers[0], true, &KEPT);
        assert_eq!(window.low(&KEPT).offset, 10, "one answer of two");
        window.settle(numbers[0], true, &KEPT);
        assert_eq!((window.low(&KEPT).offset, window.bytes()), (16, 100));
        assert_eq!([(); 2].map(|()| window.settle(numbers[3], false, &KEPT)), [Answered::Open, Answered::Unmet(None)]);
        assert_eq!(window.low(&KEPT), Place { offset: 17, leader_epoch: 3 });
        window.passes_to(30);
        assert_eq!((window.low(&KEPT).offset, window.bytes(), window.is_empty()), (30, 0, true));
        // An answer for a record that is over has no effect.
        window.settle(numbers[1], true, &KEPT);
        window.settle(numbers[3].wrapping_add(1), true, &KEPT);
        // An answer for a record of another log has none either.
        let old = open(&mut window, 30, 1);
        window.restart(at(0));
        let new = open(&mut window, 0, 1);
        window.settle(old, true, &KEPT);
        assert_eq!((window.low(&KEPT).offset, new), (0, old.wrapping_add(1)));
    }

    #[test]
    fn what_is_open_stays_so_when_reading_goes_back() {
        let mut window = Window::new(at(5));
        let numbers = [5, 6, 7, 8].map(|offset| open(&mut window, offset, 1));
        window.settle(numbers[0], true, &KEPT);
        window.settle(numbers[2], true, &KEPT);
        let from = Place { offset: 3, leader_epoch: -1 };
        window.reads_again(from);
        assert_eq!(
            (window.low(&KEPT), window.next_offset()),
            (from, 3),
            "nothing is committed beyond the place of reading"
        );
        let again = [3, 4, 5, 6, 7, 8, 9].map(|offset| open(&mut window, offset, 0));
        assert_eq!(window.low(&KEPT).offset, 6, "its receiver has yet to answer");
        window.settle(again[3], true, &KEPT);
        assert_eq!(window.low(&KEPT).offset, 6, "an answer for the second reading says nothing of the first");
        let late = open(&mut window, 10, 1);
        window.reads_again(Place { offset: 9, leader_epoch: -1 });
        open(&mut window, 9, 0);
        window.settle(numbers[1], true, &KEPT);
        assert_eq!((window.low(&KEPT).offset, window.bytes()), (8, 1_000));
        window.settle(numbers[3], true, &KEPT);
        assert_eq!(window.low(&KEPT), Place { offset: 10, leader_epoch: -1 });
        open(&mut window, 10, 0);
        window.settle(late, true, &KEPT);
        assert_eq!((window.low(&KEPT), window.bytes(), window.is_empty()), (at(11), 0, true));
        let last = open(&mut window, 11, 1);
        window.reads_again(Place { offset: 4, leader_epoch: -1 });
        window.restart(at(0));
        window.settle(last, true, &KEPT);
        assert_eq!((window.low(&KEPT), window.is_empty()), (at(0), true));
    }

    #[test]
    fn what_lies_before_the_end_of_a_cut_log_stays_open() {
        let mut window = Window::new(at(10));
        let numbers = [10, 11, 12].map(|offset| open(&mut window, offset, 1));
        let unwanted = open(&mut window, 13, 0);
        window.park(unwanted, parked());
        window.goes_back(at(12));
        assert_eq!((window.low(&KEPT).offset, window.next_offset(), window.parked()), (10, 12, 0));
        let new = open(&mut window, 12, 1);
        window.settle(numbers[2], true, &KEPT);
        for number in &numbers[..2] {
            window.settle(*number, true, &KEPT);
        }
        assert_eq!(window.low(&KEPT).offset, 12, "an answer for the lost record says nothing of the new one");
        window.settle(new, true, &KEPT);
        assert_eq!((window.low(&KEPT), window.bytes(), window.is_empty()), (at(13), 0, true));
        window.goes_back(at(9));
        assert_eq!(window.low(&KEPT), at(9));
    }

    #[test]
    fn a_parked_record_holds_the_commit_until_somebody_has_it() {
        let mut window = Window::new(at(0));
        let numbers = [0, 1, 2, 3].map(|offset| open(&mut window, offset, u32::from(offset == 0)));
        window.owes(numbers[2], 1, Some(parked()));
        window.park(numbers[0], parked());
        assert_eq!(window.settle(numbers[2], false, &KEPT), Answered::Unmet(Some(7)));
        assert_eq!((window.low(&KEPT).offset, window.parked(), window.waits_for_nothing()), (0, 2, true));
        assert_eq!(window.parked_from(numbers[0]), Some(numbers[0]));
        assert_eq!(window.parked_from(numbers[1]), Some(numbers[2]));
        assert!(window.unpark(numbers[0]).is_some() && window.unpark(numbers[1]).is_none());
        window.owes(numbers[0], 1, Some(parked()));
        assert!(!window.waits_for_nothing());
        assert_eq!(window.settle(numbers[0], true, &KEPT), Answered::Met);
        assert_eq!(window.low(&KEPT).offset, 2);
        assert_eq!(window.parked_from(0), Some(numbers[2]), "a number before the first begins with the first");
        assert_eq!(window.release(Monotonic(3), &KEPT), 1);
        assert_eq!((window.low(&KEPT).offset, window.parked()), (4, 0));
    }

    #[test]
    fn a_dead_letter_holds_the_commit_until_it_is_safe() {
        let mut window = Window::new(at(0));
        let numbers = [0, 1, 2, 3].map(|offset| open(&mut window, offset, 1));
        numbers[..2].iter().for_each(|number| window.becomes_dead_letter(*number));
        assert_eq!(window.oldest(), Some(Monotonic(2)), "of those that may be released");
        assert_eq!(
            (window.release(Monotonic(2), &KEPT), window.low(&KEPT).offset),
            (1, 0),
            "a dead letter is not released"
        );
        window.settle(numbers[0], true, &KEPT);
        window.dead_letter_is_safe(numbers[3]);
        assert_eq!(
            (window.low(&KEPT).offset, window.waits_for_nothing()),
            (0, false),
            "neither is an answer of the other kind"
        );
        window.dead_letter_is_safe(numbers[0]);
        window.settle(numbers[3], true, &KEPT);
        assert_eq!((window.low(&KEPT).offset, window.waits_for_nothing()), (1, false));
        assert_eq!(window.dead_letter_is_refused(numbers[1]), Some(1));
        assert_eq!((window.low(&KEPT).offset, window.waits_for_nothing(), window.oldest()), (1, true, None));
        assert_eq!(window.dead_letter_is_refused(numbers[0]), None, "it is over");
    }

    proptest! {
        /// A window never commits past an open record, whatever is settled when; numbers wrap.
        #[test]
        fn it_never_commits_past_an_open_record(
            owed in prop::collection::vec(0u32..3, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
        ) {
            let mut window = Window::new(at(0));
            window.first = u32::MAX - 7;
            let mut left: Vec<(u32, u32)> =
                (0..).zip(&owed).map(|(offset, answers)| (open(&mut window, offset, *answers), *answers)).collect();
            for index in order {
                let at = index.index(left.len());
                window.settle(left[at].0, true, &KEPT);
                left[at].1 = left[at].1.saturating_sub(1);
                let first = left.iter().position(|(_, answers)| *answers > 0);
                prop_assert_eq!(window.low(&KEPT).offset, first.unwrap_or(left.len()) as i64);
                prop_assert_eq!(window.is_empty(), first.is_none());
            }
        }
    }
}
