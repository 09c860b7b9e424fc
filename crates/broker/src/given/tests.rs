use std::collections::BTreeSet;

use super::super::queues;
use super::position::WAITS;
use super::*;
use forebay_buffer::RestoredSession;

const P: PartitionKey = PartitionKey { topic: 7, partition: 0 };

fn at(offset: i64) -> RecordPlace {
    RecordPlace { of: P, offset }
}

fn hand(offset: i64) -> RouteRecord {
    RouteRecord { place: at(offset), topic: 0, is_again: false, retains: Retains::Message }
}

/// A number of slot 1's log, or of slot 2's.
const ONE: u64 = 1 << 48;
const TWO: u64 = 2 << 48;

/// A shard that has slot 1, with an empty log, and reads the partition from this offset.
fn begun(from: i64) -> Given {
    let mut given = Given::naming(0);
    given.slots.insert(1, OfSlot::default());
    given.reads(at(from), Reads::Again(i64::MIN), 0);
    given
}

/// The slots are given these records.
fn gives(given: &mut Given, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        given.begins(hand(offset));
        given.is_over(at(offset));
    }
}

/// A slot that comes with a position and with records above it that these sessions have.
fn comes(given: &mut Given, slot: u16, below: i64, had: &[(i64, u64)]) {
    let mut above = BTreeMap::new();
    for (offset, session) in had {
        above.insert(*offset, SmallVec::from_slice(&[*session]));
    }
    let saved = SavedPosition { below, ..SavedPosition::default() };
    let floors = SmallVec::from_slice(&[(0, below)]);
    let position = Position { below, since: WAITS, asked: 0, floors, above, saved };
    given.slots.insert(slot, OfSlot { positions: BTreeMap::from([(P, position)]), ..OfSlot::default() });
    given.set_floor(P);
}

fn passes(given: &Given, placed: Placed, slot: u16, session: u64) -> bool {
    given.may_pass_over(placed) && given.passes_over(placed, slot, Some(session))
}

/// The positions that the log would get, if memory alone has nothing.
fn unsaved(given: &mut Given, slot: u16, is_for_over: bool) -> Option<SavedPositions> {
    given.unsaved(slot, is_for_over, &Behind::new())
}

/// The position of a slot that the log gets now.
fn said(given: &mut Given, slot: u16) -> i64 {
    let said = unsaved(given, slot, false).or_else(|| unsaved(given, slot, true)).expect("there is something to say");
    let below = said.0[&P].below;
    given.saved(slot, u64::from(slot) << 48 | 9, said);
    below
}

/// The shard that takes up what the log of slot 1 has, and has been read from the lowest position on.
fn next_of(said: &SavedPositions) -> Given {
    let mut payload = Vec::new();
    queues::encode_positions(said, &mut payload);
    let mut next = Given::naming(0);
    next.restore(1, &[RestoredSession { number: ONE + 9, payload, open: Vec::new() }], Monotonic(0));
    let (from, number) = next.ask();
    next.reads(from[0], Reads::Again(i64::MIN), number);
    next
}

#[test]
fn a_position_stays_below_a_message_that_is_given_out_later() {
    let mut given = begun(5);
    let all = [5, 6, 7].map(|offset| given.begins(hand(offset)));
    for placed in [all[1], all[2]] {
        given.stored(ONE + placed.place.offset as u64, placed.place, std::iter::once(ONE + 1));
        given.is_over(placed.place);
    }
    given.stored(ONE + 5, at(5), std::iter::once(ONE + 1));
    assert_eq!(said(&mut given, 1), 5);
    // The slot's copies have ended: they end in the log when it names their records.
    assert!(!given.ends(ONE + 6, Monotonic(1)) && !given.ends(ONE + 5, Monotonic(1)));
    let saved = unsaved(&mut given, 1, true).expect("both can end");
    let by = BTreeSet::from([(5, ONE + 1), (6, ONE + 1)]);
    assert_eq!(
        saved.0[&P],
        SavedPosition { below: 5, by, ..SavedPosition::default() },
        "named for the copies' session"
    );
    assert_eq!(given.saved(1, ONE + 9, saved), [ONE + 6, ONE + 5]);
    assert!(unsaved(&mut given, 1, true).is_none() && given.slots[&1].over.is_empty());
    given.is_over(at(5));
    let saved = unsaved(&mut given, 1, false).expect("the position has moved");
    assert_eq!(saved.0[&P], SavedPosition { below: 8, ..SavedPosition::default() });
    assert!(given.saved(1, ONE + 9, saved).is_empty());
    assert!(given.slots[&1].placed.is_empty() && given.ends(ONE + 7, Monotonic(1)), "what lies below ends at once");
}

/// The next owner gives such a record to the other sessions of the slot.
#[test]
fn a_record_named_for_a_session_comes_to_the_others() {
    let mut given = begun(5);
    let placed = given.begins(hand(5));
    for (number, session) in [(7, ONE + 1), (8, ONE + 2)] {
        given.stored(ONE + number, placed.place, std::iter::once(session));
    }
    assert!(!given.ends(ONE + 7, Monotonic(1)));
    let said = unsaved(&mut given, 1, true).expect("it can end");
    let mut next = next_of(&said);
    assert_eq!(given.saved(1, ONE + 9, said), [ONE + 7]);
    let placed = next.begins(hand(5));
    assert!(passes(&next, placed, 1, ONE + 1) && !passes(&next, placed, 1, ONE + 2));
    // The name stays until the position has passed the record.
    assert!(unsaved(&mut next, 1, true).is_none());
    next.is_over(at(5));
    let said = unsaved(&mut next, 1, false).expect("the position has moved");
    assert_eq!(said.0[&P], SavedPosition { below: 6, ..SavedPosition::default() });
}

/// A record that a full queue has dropped is named for its session, unless the position has passed it.
#[test]
fn a_dropped_copy_is_named_for_its_session() {
    let mut given = begun(5);
    let late = given.begins(hand(5));
    gives(&mut given, 6..8);
    assert!(!given.drops(ONE + 1, at(7)) && given.has_dropped(ONE + 1) && !given.has_dropped(ONE + 2));
    let said = unsaved(&mut given, 1, false).expect("a name is a reason to write");
    assert_eq!(said.0[&P].by, BTreeSet::from([(7, ONE + 1)]));
    given.saved(1, ONE + 9, said);
    assert!(!given.has_dropped(ONE + 1) && unsaved(&mut given, 1, false).is_none());
    given.is_over(late.place);
    given.begins(hand(8));
    given.drops(ONE + 1, at(7));
    given.drops(ONE + 1, at(8));
    let said = unsaved(&mut given, 1, false).expect("the position has moved");
    assert_eq!((said.0[&P].below, &said.0[&P].by), (8, &BTreeSet::from([(8, ONE + 1)])));
    given.saved(1, ONE + 9, said);
    // There is an end to them, and room for copies that are over.
    let many: Vec<bool> = (8..8 + DROPPED_MAX as i64).map(|offset| given.drops(ONE + 1, at(offset))).collect();
    assert_eq!(many.iter().position(|is_full| *is_full), Some(DROPPED_MAX - 1));
    let said = unsaved(&mut given, 1, false).expect("there are more names");
    assert_eq!(said.0[&P].by.len(), DROPPED_MAX);
}

#[test]
fn a_slot_that_comes_is_given_the_gap_and_the_others_nothing_twice() {
    let mut given = begun(0);
    gives(&mut given, 0..10);
    let late = given.begins(hand(10));
    comes(&mut given, 2, 4, &[(6, TWO + 1)]);
    let before = given.begins(hand(11));
    assert!(passes(&given, before, 2, TWO + 1) && !passes(&given, before, 1, ONE + 1), "it waits for the gap");
    given.is_over(at(11));
    given.reads(at(4), Reads::Again(i64::MIN), 0);
    // A message that was received before the partition was read again, and was not given out yet, is for the slots that were there.
    assert!(!passes(&given, late, 1, ONE + 1) && passes(&given, late, 2, TWO + 1));
    let again: Vec<(i64, [bool; 3])> = (4..13)
        .map(|offset| {
            let placed = given.begins(hand(offset));
            given.is_over(at(offset));
            (offset, [(1, ONE + 1), (2, TWO + 1), (2, TWO + 2)].map(|(slot, of)| passes(&given, placed, slot, of)))
        })
        .collect();
    for (offset, [live, had, came]) in again {
        assert_eq!((live, had, came), (offset < 12, offset == 6, false), "{offset}");
    }
    assert_eq!((said(&mut given, 1), said(&mut given, 2)), (10, 10), "one is not given out yet");
    given.is_over(at(10));
    assert_eq!((said(&mut given, 1), said(&mut given, 2)), (13, 13));
}

/// A session that is not in the log gets records as they come: when the partition is read again for the slot, it gets none.
#[test]
fn a_session_that_is_not_kept_does_not_wait_for_the_gap() {
    let mut given = begun(0);
    gives(&mut given, 0..10);
    comes(&mut given, 2, 4, &[]);
    let placed = given.begins(hand(10));
    assert!(given.may_pass_over(placed) && given.passes_over(placed, 2, Some(TWO)));
    assert!(!given.passes_over(placed, 2, None));
    let lower = given.begins(hand(3));
    assert!(given.passes_over(lower, 2, None), "the slot's clients had it elsewhere");
}

/// A log names a partition before anything of it was read: a later process begins there, and not where a stalled one has committed.
#[test]
fn a_slot_that_comes_names_all_partitions() {
    const Q: PartitionKey = PartitionKey { topic: 7, partition: 1 };
    let begins = Arc::new(BTreeMap::from([(P, 5), (Q, 0)]));
    let mut given = Given { begins, ..Given::naming(0) };
    let mut payload = Vec::new();
    let named = SavedPositions(BTreeMap::from([(P, SavedPosition { below: 9, ..SavedPosition::default() })]));
    queues::encode_positions(&named, &mut payload);
    given.restore(1, &[RestoredSession { number: ONE + 9, payload, open: Vec::new() }], Monotonic(0));
    given.restore(2, &[], Monotonic(0));
    assert_eq!(given.ask().0, [at(5), RecordPlace { of: Q, offset: 0 }]);
    let said = |given: &mut Given, slot| {
        let said = unsaved(given, slot, false).expect("a partition has no name in the log");
        let all = said.0.iter().map(|(of, saved)| (of.partition, saved.below)).collect::<Vec<_>>();
        given.saved(slot, u64::from(slot) << 48 | 9, said);
        assert!(unsaved(given, slot, false).is_none());
        all
    };
    assert_eq!((said(&mut given, 1), said(&mut given, 2)), (vec![(0, 9), (1, 0)], vec![(0, 5), (1, 0)]));
    let placed = given.begins(RouteRecord { place: RecordPlace { of: Q, offset: 0 }, ..hand(0) });
    assert!(given.passes_over(placed, 2, Some(TWO)), "it waits until the reader is there");
}

#[test]
fn a_second_slot_in_the_middle_of_a_gap_changes_nothing_for_the_first() {
    let mut given = begun(0);
    gives(&mut given, 0..100);
    comes(&mut given, 2, 50, &[]);
    given.reads(at(50), Reads::Again(i64::MIN), 0);
    let waits = given.begins(hand(50));
    comes(&mut given, 3, 20, &[]);
    // The reader had read the partition up to here.
    given.reads(at(20), Reads::Again(100), 0);
    assert!(!passes(&given, waits, 2, TWO), "it came before");
    let mut heard = [Vec::new(), Vec::new(), Vec::new()];
    for offset in 20..101 {
        let placed = given.begins(hand(offset));
        for (slot, heard) in (1..).zip(&mut heard) {
            if !passes(&given, placed, slot, u64::from(slot) << 48) {
                heard.push(offset);
            }
        }
        given.is_over(at(offset));
    }
    assert_eq!(heard[0], [100]);
    assert_eq!(heard[1], (51..101).collect::<Vec<_>>());
    assert_eq!(heard[2], (20..101).collect::<Vec<_>>());
}

#[test]
fn what_is_wanted_anew_comes_to_everybody() {
    let mut given = begun(0);
    gives(&mut given, 0..9);
    assert_eq!(said(&mut given, 1), 9);
    given.reads(at(3), Reads::Anew, 0);
    let placed = given.begins(hand(3));
    assert!(!passes(&given, placed, 1, ONE));
    given.is_over(at(3));
    assert_eq!(said(&mut given, 1), 4);
}

/// The log of a partition was cut after a message that is not given out yet.
#[test]
fn a_position_does_not_pass_what_lies_before_a_cut() {
    let mut given = begun(0);
    for offset in 0..6 {
        given.begins(hand(offset));
    }
    [0, 1, 3, 4, 5].into_iter().for_each(|offset| given.is_over(at(offset)));
    given.reads(at(4), Reads::Anew, 0);
    assert_eq!(said(&mut given, 1), 2);
    given.is_over(at(2));
    assert_eq!(said(&mut given, 1), 4);
}

#[test]
fn a_slot_without_a_position_gets_what_comes() {
    let mut given = begun(0);
    gives(&mut given, 0..9);
    given.slots.insert(2, OfSlot::default());
    let placed = given.begins(hand(9));
    assert!(!passes(&given, placed, 2, TWO));
    given.is_over(at(9));
    // Slot 3 is not affected by another slot's gap.
    comes(&mut given, 3, 2, &[]);
    given.reads(at(2), Reads::Again(i64::MIN), 0);
    let placed = given.begins(hand(2));
    assert!(passes(&given, placed, 2, TWO) && !passes(&given, placed, 3, TWO));
}

/// A slot comes while no reader reads the partition. Its reader gets the news later, and begins at the group's offset, which is beyond the slot's.
#[test]
fn a_slot_that_comes_while_nobody_reads_waits_for_the_reader() {
    let mut given = begun(0);
    gives(&mut given, 0..9);
    comes(&mut given, 2, 5, &[]);
    given.reads(at(5), Reads::Again(i64::MIN), 0);
    let placed = given.begins(hand(5));
    assert!(!passes(&given, placed, 2, TWO) && passes(&given, placed, 1, ONE));
    // A slot that is further on than the reader needs nothing read again.
    comes(&mut given, 3, 8, &[]);
    given.reads(at(6), Reads::On, 0);
    let placed: Vec<Placed> = (6..9).map(|offset| given.begins(hand(offset))).collect();
    assert_eq!(
        placed.iter().map(|placed| passes(&given, *placed, 3, 3 << 48)).collect::<Vec<_>>(),
        [true, true, false]
    );
}

/// Reading begins below the group's offset, for another slot: a slot without a position in the log gets nothing from below that offset.
#[test]
fn a_slot_without_a_position_gets_nothing_below_the_place_of_the_group() {
    let mut given = Given::naming(0);
    given.slots.insert(1, OfSlot::default());
    comes(&mut given, 2, 3, &[]);
    given.reads(at(3), Reads::Again(5), 0);
    let placed: Vec<Placed> = (3..7).map(|offset| given.begins(hand(offset))).collect();
    let passed = |slot: u16| placed.iter().map(|of| passes(&given, *of, slot, 0)).collect::<Vec<_>>();
    assert_eq!((passed(1), passed(2)), (vec![true, true, false, false], vec![false; 4]));
}

/// A slot that comes as in [`comes`], with the request of this number.
fn comes_and_asks(given: &mut Given, slot: u16, below: i64, asked: u64) {
    comes(given, slot, below, &[]);
    let position = given.slots.get_mut(&slot).and_then(|slot| slot.positions.get_mut(&P));
    position.expect("it has one").asked = asked;
}

/// The reader goes back for another slot before it has heard of this one: it may have passed over records for which the shard had no subscriber.
#[test]
fn a_report_from_before_the_readers_heard_of_a_slot_does_not_end_its_wait() {
    let mut given = begun(0);
    gives(&mut given, 0..100);
    comes_and_asks(&mut given, 2, 50, 2);
    given.reads(at(20), Reads::Again(100), 1);
    let early = given.begins(hand(60));
    assert!(passes(&given, early, 2, TWO), "record 60 is read again");
    given.is_over(at(60));
    given.reads(at(50), Reads::Again(100), 2);
    let placed: Vec<Placed> = (50..62).map(|offset| given.begins(hand(offset))).collect();
    assert!(placed.iter().all(|placed| !passes(&given, *placed, 2, TWO)));
}

/// As before, and the log has other records from there on: the readers are asked once more.
#[test]
fn a_slot_that_the_readers_have_not_heard_of_asks_for_records_that_are_new() {
    let mut given = begun(0);
    gives(&mut given, 9..10);
    comes_and_asks(&mut given, 2, 8, 1);
    given.asked = 1;
    given.reads(at(3), Reads::Anew, 0);
    let early = given.begins(hand(3));
    assert!(passes(&given, early, 2, TWO) && !passes(&given, early, 1, ONE));
    given.reads(at(4), Reads::On, 1);
    assert!(given.has_news() && given.slots[&2].positions[&P].waits());
    assert_eq!(given.ask(), (vec![at(3)], 2));
    given.reads(at(3), Reads::Again(4), 2);
    let again = given.begins(hand(3));
    assert!(!passes(&given, again, 2, TWO) && passes(&given, again, 1, ONE));
}

/// A message that was retained when the process began comes to a new subscription after the older ones that are yet to be read.
#[test]
fn finding_q16_reading_is_behind_until_it_has_reached_what_is_retained() {
    let mut given = Given { begins: Arc::new(BTreeMap::from([(P, 2)])), ..Given::default() };
    given.restore(1, &[], Monotonic(0));
    let gone = PartitionKey { topic: 8, partition: 0 };
    given.has_copies_to(Arc::new(BTreeMap::from([(P, 5), (gone, 9)])));
    let is_behind = |given: &mut Given| given.behind_until(Monotonic(1)).is_some();
    given.reads(at(2), Reads::Again(i64::MIN), 1);
    for offset in 2..5 {
        assert!(is_behind(&mut given), "{offset}");
        given.begins(hand(offset));
    }
    assert!(!is_behind(&mut given));
}

/// Records that sessions have had by their log may be retained nowhere before they are read.
#[test]
fn reading_is_behind_until_it_has_reached_all_slots() {
    const Q: PartitionKey = PartitionKey { topic: 7, partition: 1 };
    let begins = Arc::new(BTreeMap::from([(P, 2), (Q, 0)]));
    let mut given = Given { begins, ..Given::naming(0) };
    let mut payload = Vec::new();
    let gone = PartitionKey { topic: 8, partition: 0 };
    let named = SavedPositions(BTreeMap::from([(gone, SavedPosition { below: 9, ..SavedPosition::default() })]));
    queues::encode_positions(&named, &mut payload);
    given.restore(1, &[RestoredSession { number: ONE + 9, payload, open: Vec::new() }], Monotonic(0));
    let is_behind = |given: &mut Given| given.behind_until(Monotonic(1)).is_some();
    assert!(is_behind(&mut given));
    given.reads(at(1), Reads::Again(i64::MIN), 1);
    given.reads(RecordPlace { of: Q, offset: 0 }, Reads::Again(i64::MIN), 1);
    assert!(is_behind(&mut given));
    given.begins(hand(1));
    assert!(!is_behind(&mut given));
    // A partition that nobody reads does not hold retained messages back for good.
    given.reads(at(0), Reads::Again(2), 1);
    given.restore(2, &[], Monotonic(0));
    assert!(is_behind(&mut given) && given.behind_until(Monotonic::default().after(CATCHES_UP_WITHIN)).is_none());
}

/// Records that slot 1 is given, from this one on, all of which the session has completed: the copies that are over.
fn completes(given: &mut Given, offsets: std::ops::Range<i64>, session: u64) {
    for offset in offsets {
        let placed = given.begins(hand(offset));
        given.stored(ONE + offset as u64, placed.place, std::iter::once(session));
        given.is_over(placed.place);
        assert!(!given.ends(ONE + offset as u64, Monotonic(1)));
    }
}

/// Only memory has a record for one session, as the log is full, and another one completes thousands above it: they end in the log. The next process gives the
/// first session all from that record on, and the other one nothing twice.
#[test]
fn finding_q8_a_session_behind_its_slot_has_a_position_of_its_own() {
    const LAST: i64 = 20_000;
    let (waits, goes_on) = (ONE + 1, ONE + 2);
    let mut given = begun(5);
    gives(&mut given, 5..6);
    let memory = Behind::from([((P, waits), 5)]);
    completes(&mut given, 6..LAST, goes_on);
    let said = given.unsaved(1, true, &memory).expect("they can end");
    let wanted = SavedPosition { below: LAST, behind: BTreeMap::from([(waits, 5)]), ..SavedPosition::default() };
    assert_eq!(said.0[&P], wanted);
    let mut next = next_of(&said);
    assert_eq!(given.saved(1, ONE + 10, said).len() as i64, LAST - 6, "all have ended");
    assert!(given.unsaved(1, false, &memory).is_none() && given.slots[&1].over.is_empty());
    // Half of it is read when that process ends, too.
    for offset in 5..LAST / 2 {
        let placed = next.begins(hand(offset));
        assert!(!passes(&next, placed, 1, waits) && passes(&next, placed, 1, goes_on), "{offset}");
        next.is_over(at(offset));
    }
    let said = unsaved(&mut next, 1, false).expect("the session's position has moved");
    assert_eq!(said.0[&P].behind, BTreeMap::from([(waits, LAST / 2)]));
    let mut next = next_of(&said);
    for offset in LAST / 2..LAST + 1 {
        let placed = next.begins(hand(offset));
        assert!(!passes(&next, placed, 1, waits) && passes(&next, placed, 1, goes_on) == (offset < LAST), "{offset}");
        next.is_over(at(offset));
    }
    let said = unsaved(&mut next, 1, false).expect("the position has moved");
    assert_eq!(said.0[&P], SavedPosition { below: LAST + 1, ..SavedPosition::default() });
    assert!(next.slots[&1].behind.is_empty());
}

/// The log got a record for a session that is behind, and does not say so by its positions when the process ends.
#[test]
fn what_the_log_got_for_a_session_behind_does_not_come_again() {
    let mut given = begun(5);
    gives(&mut given, 5..9);
    let said = given.unsaved(1, false, &Behind::from([((P, ONE + 1), 5)])).expect("it has moved");
    let mut next = next_of(&said);
    next.slots
        .get_mut(&1)
        .expect("it is here")
        .positions
        .get_mut(&P)
        .expect("one")
        .above
        .insert(5, SmallVec::from_slice(&[ONE + 1]));
    let placed: Vec<Placed> = (5..9).map(|offset| next.begins(hand(offset))).collect();
    let passed = |session| placed.iter().map(|placed| passes(&next, *placed, 1, session)).collect::<Vec<_>>();
    assert_eq!(passed(ONE + 1), [true, false, false, false]);
    assert_eq!(passed(ONE + 2), [true; 4]);
}

/// More sessions are behind than the log names: its position stops at the first one that is not named, and does not go back. What is above it does not end.
#[test]
fn a_position_stops_where_more_sessions_are_behind_than_a_log_names() {
    let mut given = begun(0);
    let many = NAMES_MAX as u64 + 10;
    gives(&mut given, 0..many as i64);
    let mut memory: Behind = (0..many).map(|session| ((P, ONE + session), session as i64)).collect();
    completes(&mut given, many as i64..many as i64 + 1, ONE + many);
    let said = given.unsaved(1, false, &memory).expect("it has moved");
    assert_eq!((said.0[&P].below, said.0[&P].behind.len()), (NAMES_MAX as i64, NAMES_MAX));
    assert!(given.saved(1, ONE + 9, said).is_empty() && given.unsaved(1, true, &memory).is_none());
    // One that is named goes on: there is room for another one.
    memory.remove(&(P, ONE));
    let said = given.unsaved(1, false, &memory).expect("it has moved");
    assert_eq!((said.0[&P].below, said.0[&P].behind.len()), (NAMES_MAX as i64 + 1, NAMES_MAX));
    given.saved(1, ONE + 9, said);
    memory.clear();
    assert_eq!(given.unsaved(1, true, &memory).expect("it can end").0[&P].below, many as i64 + 1);
}
