//! The window of a partition: records that were taken up and are not over yet, in the order of their offsets. The committed offset is that of the lowest of
//! them (F6 of the design): a crash repeats the records of the window, and no others.

use std::collections::VecDeque;

use forebay_base::rules::Rules;
use forebay_runtime::seam::Monotonic;
use forebay_session::Claimed;

use super::super::mail::Place;

/// `Record` is one record of a window.
#[derive(Debug)]
struct Record {
    offset: i64,
    leader_epoch: i32,
    bytes: usize,
    since: Monotonic,
    /// The state of its own message.
    state: State,
    /// The messages that rules have made of it.
    made: Vec<Made>,
}

/// `Made` is a message that a rule has made of a record. It waits for answers and subscribers by itself.
#[derive(Debug)]
struct Made {
    /// The number of the message that it was made of, among those of the record: 0 is the record's own.
    of: u8,
    state: State,
}

impl Record {
    fn states(&self) -> impl Iterator<Item = &State> {
        std::iter::once(&self.state).chain(self.made.iter().map(|made| &made.state))
    }

    fn states_mut(&mut self) -> impl Iterator<Item = &mut State> {
        std::iter::once(&mut self.state).chain(self.made.iter_mut().map(|made| &mut made.state))
    }

    /// The state of one of its messages: 0 is the record's own.
    fn state_mut(&mut self, message: usize) -> Option<&mut State> {
        match message.checked_sub(1) {
            None => Some(&mut self.state),
            Some(at) => self.made.get_mut(at).map(|made| &mut made.state),
        }
    }

    fn is_over(&self) -> bool {
        self.states().all(|state| matches!(state, State::Over))
    }
}

/// The state of a message, and of its record.
#[derive(Debug)]
enum State {
    /// `answers` is the number of pending answers of sinks, and of shards that have sessions which may need the message. `message` is parked if it has no
    /// receiver in the end.
    Owed { answers: u32, is_met: bool, message: Option<Box<Parked>> },
    /// The message has no receiver, and is kept until it has one.
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

/// The effect of an answer on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The message waits for more answers, or there is none of this number.
    Open,
    /// The message is over: a receiver has it.
    Met,
    /// No receiver has the message: it is over, or parked, with [`Parked::grown`].
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

/// `Window` holds the records of one partition that are open, and those after them.
#[derive(Debug)]
pub(super) struct Window {
    records: VecDeque<Record>,
    /// The number of the first record ([`Claimed::number`]).
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

    /// The number of messages without a receiver yet.
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
        let waits = |state: &State| matches!(state, State::Owed { .. } | State::DeadLetter { is_refused: false });
        !self.records.iter().flat_map(Record::states).any(waits)
    }

    /// The time at which the oldest record that may be released was taken up.
    pub(super) fn oldest(&self) -> Option<Monotonic> {
        let may_be_released = |record: &&Record| record.states().any(State::may_be_released);
        self.records.iter().find(may_be_released).map(|record| record.since)
    }

    /// The number of the first record.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// The number of the next record to take up.
    pub(super) fn next_number(&self) -> u32 {
        self.number_of(self.records.len())
    }

    /// The number of the record at an index.
    fn number_of(&self, index: usize) -> u32 {
        self.first.wrapping_add(index as u32) % Claimed::RECORDS
    }

    /// The index of a record by its number, or that of one of its messages.
    fn index_of(&self, number: u32) -> usize {
        (number.wrapping_sub(self.first) % Claimed::RECORDS) as usize
    }

    /// Takes up a record, which is over unless it is then set to wait.
    pub(super) fn take_up(&mut self, at: Place, bytes: usize, now: Monotonic) {
        let Place { offset, leader_epoch } = at;
        let (since, state, made) = (now, State::Over, Vec::new());
        self.records.push_back(Record { offset, leader_epoch, bytes, since, state, made });
        self.bytes += bytes;
        self.next = Place { offset: offset + 1, leader_epoch };
    }

    /// Adds the messages that rules have made of the record taken up last, by the numbers of those that they were made of. Each is over unless it is then
    /// set to wait.
    pub(super) fn makes(&mut self, of: impl Iterator<Item = u8>) {
        if let Some(record) = self.records.back_mut() {
            record.made.extend(of.map(|of| Made { of, state: State::Over }));
        }
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
        let lost = self.records.iter_mut().filter(|record| record.offset >= at.offset);
        for state in lost.flat_map(Record::states_mut) {
            self.parked -= usize::from(matches!(state, State::Parked(_)));
            *state = State::Over;
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

    /// Sets the number of answers that a message waits for, and what to park if it has no receiver in the end. Without pending answers the message is
    /// over, and so may its record be, and all those before it.
    pub(super) fn owes(&mut self, number: u32, answers: u32, message: Option<Box<Parked>>) {
        if let Some(state) = self.get(number).filter(|_| answers > 0) {
            *state = State::Owed { answers, is_met: false, message };
        }
        self.drop_over();
    }

    /// Parks a message.
    pub(super) fn park(&mut self, number: u32, parked: Box<Parked>) {
        if let Some(state) = self.get(number) {
            *state = State::Parked(parked);
            self.parked += 1;
        }
    }

    /// Takes a parked message, with the time at which its record was taken up.
    pub(super) fn unpark(&mut self, number: u32) -> Option<(Box<Parked>, Monotonic)> {
        let since = self.records.get(self.index_of(number))?.since;
        let state = self.get(number)?;
        match std::mem::replace(state, State::Over) {
            State::Parked(parked) => {
                self.parked -= 1;
                Some((parked, since))
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// The number of the oldest parked message from this one on. Those of one record are in their order.
    pub(super) fn parked_from(&self, from: u32) -> Option<u32> {
        let (skip, message) = (self.index_of(from), Claimed::message_of(from));
        // A number before the first one belongs to a record that is over.
        let (skip, message) = if skip > self.records.len() { (0, 0) } else { (skip, message) };
        self.records.iter().enumerate().skip(skip).find_map(|(index, record)| {
            let before = if index == skip { message } else { 0 };
            let is_parked = |(_, state): &(usize, &State)| matches!(state, State::Parked(_));
            let (message, _) = record.states().enumerate().skip(before).find(is_parked)?;
            Some(Claimed::number_of(self.number_of(index), message))
        })
    }

    /// Notes that a message has a receiver: the messages that it was made of wait for none any more.
    pub(super) fn is_had(&mut self, number: u32) {
        let index = self.index_of(number);
        let Some(record) = self.records.get_mut(index) else { return };
        let mut message = Claimed::message_of(number);
        while let Some(made) = message.checked_sub(1).and_then(|at| record.made.get(at)) {
            message = made.of.into();
            if let Some(state @ State::Parked(_)) = record.state_mut(message) {
                *state = State::Over;
                self.parked -= 1;
            }
        }
    }

    /// Takes one of the answers that a message waits for. `is_met`: a receiver has the message.
    pub(super) fn settle(&mut self, number: u32, is_met: bool, rules: &dyn Rules) -> Answered {
        let Some(state) = self.get(number) else { return Answered::Open };
        let State::Owed { answers, is_met: was_met, message } = state else { return Answered::Open };
        *answers -= 1;
        *was_met |= is_met;
        if !rules.is_answered(*answers) {
            return Answered::Open;
        }
        let was_met = rules.is_had(*was_met);
        let parked = message.take().filter(|_| !was_met);
        let grown = parked.as_ref().map(|parked| parked.grown);
        *state = parked.map_or(State::Over, State::Parked);
        self.parked += usize::from(grown.is_some());
        self.drop_over();
        if was_met { Answered::Met } else { Answered::Unmet(grown) }
    }

    /// Gives up the records taken up at `before` or earlier, oldest first. Returns how many of them were open.
    pub(super) fn release(&mut self, before: Monotonic, rules: &dyn Rules) -> u64 {
        let mut released = 0;
        for record in self.records.iter_mut().take_while(|record| rules.may_release(record.since.0, before.0)) {
            let mut is_released = false;
            for state in record.states_mut().filter(|state| state.may_be_released()) {
                self.parked -= usize::from(matches!(state, State::Parked(_)));
                *state = State::Over;
                is_released = true;
            }
            released += u64::from(is_released);
        }
        self.drop_over();
        released
    }

    /// Notes that the record's dead letter is in flight.
    pub(super) fn becomes_dead_letter(&mut self, number: u32) {
        if let Some(state) = self.get(number) {
            *state = State::DeadLetter { is_refused: false };
        }
    }

    /// Ends a record with a dead letter that is durable.
    pub(super) fn dead_letter_is_safe(&mut self, number: u32) {
        if let Some(state @ State::DeadLetter { .. }) = self.get(number) {
            *state = State::Over;
        }
        self.drop_over();
    }

    /// Keeps the record open, as its dead letter was refused for good. Returns its offset.
    pub(super) fn dead_letter_is_refused(&mut self, number: u32) -> Option<i64> {
        let index = self.index_of(number);
        let record = self.records.get_mut(index)?;
        let State::DeadLetter { is_refused } = &mut record.state else { return None };
        *is_refused = true;
        Some(record.offset)
    }

    /// The place below which all records are over, up to which a group may commit.
    pub(super) fn low(&self, rules: &dyn Rules) -> Place {
        let open = |record: &&Record| !record.is_over();
        let before = self.records.iter().take(self.before).filter(open).map(|record| record.offset).min();
        let first = self.records.iter().skip(self.before).find(open).map(|record| record.offset);
        let lowest_open = before.into_iter().chain(first).min().filter(|lowest| *lowest < self.next.offset);
        Place { offset: rules.commits(lowest_open, self.next.offset), leader_epoch: self.epoch_before }
    }

    fn get(&mut self, number: u32) -> Option<&mut State> {
        let index = self.index_of(number);
        self.records.get_mut(index)?.state_mut(Claimed::message_of(number))
    }

    fn drop_over(&mut self) {
        while let Some(record) = self.records.pop_front_if(|record| record.is_over()) {
            self.bytes -= record.bytes;
            self.first = self.number_of(1);
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
    use forebay_base::rules::KEPT;

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

    /// Each message that rules have made of a record holds the record open by itself; one that somebody has ends the waiting of those that it was made of.
    #[test]
    fn messages_that_rules_have_made_wait_by_themselves() {
        let mut window = Window::new(at(0));
        let number = window.next_number();
        window.take_up(at(0), 100, Monotonic(0));
        window.makes([0, 1, 0].into_iter());
        let [one, two, three] = [1, 2, 3].map(|message| Claimed::number_of(number, message));
        window.park(one, parked());
        window.park(two, parked());
        window.owes(three, 1, Some(parked()));
        window.park(number, parked());
        assert_eq!((window.parked(), window.len(), window.low(&KEPT).offset), (3, 1, 0));
        assert_eq!(window.parked_from(number), Some(number));
        assert_eq!(
            [Claimed::after(number), Claimed::after(one)].map(|from| window.parked_from(from)),
            [Some(one), Some(two)]
        );
        assert_eq!(window.settle(three, false, &KEPT), Answered::Unmet(Some(7)));
        assert_eq!(window.parked_from(Claimed::after(two)), Some(three));
        assert!(window.unpark(two).is_some());
        window.is_had(two);
        assert_eq!(
            (window.parked(), window.parked_from(number)),
            (1, Some(three)),
            "it was made of the first, and that of the record"
        );
        window.owes(two, 1, None);
        assert_eq!(window.settle(two, true, &KEPT), Answered::Met);
        assert_eq!(window.low(&KEPT).offset, 0);
        assert_eq!(window.release(Monotonic(0), &KEPT), 1);
        assert_eq!((window.low(&KEPT).offset, window.parked(), window.is_empty()), (1, 0, true));
    }

    proptest! {
        /// A window never commits past an open record, whatever is settled when; numbers wrap.
        #[test]
        fn it_never_commits_past_an_open_record(
            owed in prop::collection::vec(0u32..3, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
        ) {
            let mut window = Window::new(at(0));
            window.first = Claimed::RECORDS - 8;
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
