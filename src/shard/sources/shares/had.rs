//! Records that members here have, of partitions that are not read any more. The group may give a partition back before its place has passed them: they are
//! passed over then, or wait for the answers of the members that have them. So no member gets a message a second time, nor another member of this instance.
//!
//! The records kept of a partition are those of its window at most. They are forgotten when this instance leaves the group.

use std::collections::BTreeMap;

use super::super::window::{Pending, Place, Window};
use crate::kafka::coordination::TopicPartition;
use crate::rules::Rules;

/// The numbers that a message is answered by: those of its reader, and of the record there.
pub(super) type Number = (u32, u32);

/// The state of a record that members here have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Has {
    /// A member is done with it.
    Over,
    /// A member has it, and answers by these numbers.
    Open(Number),
}

/// The effect of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// No such record is known.
    Unknown,
    /// The answer is noted.
    Noted,
    /// The record is read again, and these are its numbers by now.
    By(Number),
}

/// A partition.
#[derive(Debug)]
struct Partition {
    /// Members were done with all records from this offset on, up to this place.
    over: (i64, Place),
    /// Records after that, by offset, with their leader epochs.
    records: BTreeMap<i64, (i32, Has)>,
}

/// A message that was not answered when its partition left.
#[derive(Debug)]
struct Open {
    pending: Pending,
    at: TopicPartition,
    offset: i64,
    /// Its numbers, once the record is read again.
    by: Option<Number>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Had {
    partitions: BTreeMap<TopicPartition, Partition>,
    open: BTreeMap<Number, Open>,
}

impl Had {
    /// Notes what members have of a partition that this reader does not read any more. `from`: what the group has committed.
    pub(super) fn leaves(
        &mut self,
        at: &TopicPartition,
        (reader, window): (u32, &Window),
        from: Option<i64>,
        rules: &dyn Rules,
    ) {
        let (from, low) = (from.unwrap_or(i64::MIN), window.low(rules));
        let none = || Partition { over: (from, low), records: BTreeMap::new() };
        let of = self.partitions.entry(at.clone()).or_insert_with(none);
        let (before, below) = of.over;
        // Earlier ones count as well if none lies between.
        let is_joined = (before..=below.offset).contains(&from);
        of.over = match is_joined {
            true if below.offset >= low.offset => (before, below),
            true => (before, low),
            false => (from, low),
        };
        for (Place { offset, leader_epoch }, open) in window.taken() {
            let has = open.map_or(Has::Over, |(number, pending)| {
                let open = Open { pending, at: at.clone(), offset, by: None };
                self.open.insert((reader, number), open);
                Has::Open((reader, number))
            });
            of.records.insert(offset, (leader_epoch, has));
        }
    }

    /// Notes that a partition is read from this offset on.
    pub(super) fn begins(&mut self, at: &TopicPartition, offset: i64) {
        if let Some(of) = self.partitions.get_mut(at) {
            of.records = of.records.split_off(&offset);
        }
    }

    /// Forgets a partition: its log has other records.
    pub(super) fn forgets(&mut self, at: &TopicPartition) {
        self.partitions.remove(at);
    }

    /// The state of a record that is read, if members here have it.
    pub(super) fn has(&self, at: &TopicPartition, place: Place) -> Option<Has> {
        let of = self.partitions.get(at)?;
        let (from, below) = of.over;
        if (from..below.offset).contains(&place.offset) && place.leader_epoch <= below.leader_epoch {
            return Some(Has::Over);
        }
        let (leader_epoch, has) = of.records.get(&place.offset)?;
        (*leader_epoch == place.leader_epoch).then_some(*has)
    }

    /// Has the answers for a record go to these numbers, by which it is read again. Returns those that are pending.
    pub(super) fn goes_on(&mut self, of: Number, by: Number) -> Option<Pending> {
        let open = self.open.get_mut(&of)?;
        open.by = Some(by);
        Some(open.pending)
    }

    /// Takes an answer for a record that was read under these numbers.
    pub(super) fn settle(&mut self, number: Number, is_met: bool) -> Heard {
        let Some(open) = self.open.get_mut(&number) else { return Heard::Unknown };
        open.pending.answers = open.pending.answers.saturating_sub(1);
        open.pending.is_met |= is_met;
        let (by, pending) = (open.by, open.pending);
        if pending.answers > 0 {
            return by.map_or(Heard::Noted, Heard::By);
        }
        let Some(Open { at, offset, .. }) = self.open.remove(&number) else { return Heard::Unknown };
        if let Some(by) = by {
            return Heard::By(by);
        }
        let Some(of) = self.partitions.get_mut(&at) else { return Heard::Noted };
        match of.records.get_mut(&offset) {
            Some((_, has)) if *has == Has::Open(number) && pending.is_met => *has = Has::Over,
            // No member has it: it is given again.
            Some((_, has)) if *has == Has::Open(number) => _ = of.records.remove(&offset),
            _ => {}
        }
        Heard::Noted
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::rules::KEPT;
    use crate::runtime::seam::Monotonic;

    fn partition() -> TopicPartition {
        TopicPartition { topic: Rc::from("t"), partition: 0 }
    }

    fn place(offset: i64) -> Place {
        Place { offset, leader_epoch: 3 }
    }

    /// Records from 10 on that wait for this many answers.
    fn window(answers: &[u32]) -> Window {
        let mut window = Window::new(place(10));
        for (offset, answers) in (10..).zip(answers) {
            let number = window.next_number();
            window.take_up(place(offset), 1, Monotonic(0));
            window.owes(number, *answers, None);
        }
        window
    }

    #[test]
    fn finding_q11_what_members_have_is_not_given_again() {
        let (mut had, at) = (Had::default(), partition());
        // Records 10 and 12 are over, 11, 13 and 14 are not.
        had.leaves(&at, (1, &window(&[0, 1, 0, 2, 1])), Some(10), &KEPT);
        let has = |had: &Had| [9, 10, 11, 12, 13, 14, 15].map(|offset| had.has(&partition(), place(offset)));
        let (over, open) = (Some(Has::Over), |number| Some(Has::Open((1, number))));
        assert_eq!(has(&had), [None, over, open(1), over, open(3), open(4), None]);
        assert_eq!(had.has(&at, Place { offset: 10, leader_epoch: 4 }), None, "another leader has written another one");
        assert_eq!(had.has(&at, Place { offset: 12, leader_epoch: 4 }), None);
        assert_eq!(had.settle((1, 9), true), Heard::Unknown);
        assert_eq!(had.settle((1, 1), true), Heard::Noted);
        assert_eq!(had.settle((1, 4), false), Heard::Noted);
        assert_eq!(has(&had)[2..], [over, over, open(3), None, None]);
        // Record 13 is read again: its answers go on.
        assert_eq!(had.goes_on((1, 3), (2, 0)).map(|pending| pending.answers), Some(2));
        assert_eq!(had.settle((1, 3), false), Heard::By((2, 0)));
        assert_eq!(had.settle((1, 3), true), Heard::By((2, 0)));
        assert_eq!(had.settle((1, 3), true), Heard::Unknown);
        had.begins(&at, 13);
        assert_eq!(has(&had)[3], None, "below what the group has committed");
        had.forgets(&at);
        assert_eq!(has(&had), [None; 7]);
    }

    #[test]
    fn what_was_over_in_two_parts_is_one() {
        let (mut had, at) = (Had::default(), partition());
        let over =
            |had: &Had| (5..20).filter(|offset| had.has(&partition(), place(*offset)).is_some()).collect::<Vec<_>>();
        had.leaves(&at, (1, &window(&[0; 4])), Some(8), &KEPT);
        assert_eq!(over(&had), (8..14).collect::<Vec<_>>());
        // The partition was read from 10 on again, and left before it was as far.
        had.leaves(&at, (2, &window(&[0; 2])), Some(10), &KEPT);
        assert_eq!(over(&had), (8..14).collect::<Vec<_>>());
        had.leaves(&at, (3, &window(&[0; 6])), Some(10), &KEPT);
        assert_eq!(over(&had), (8..16).collect::<Vec<_>>());
        // Another instance has read what lies between.
        had.leaves(&at, (4, &window(&[0; 8])), Some(17), &KEPT);
        assert_eq!(over(&had), [17]);
    }
}
