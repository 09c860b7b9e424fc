//! Every row taken fits, and a row that does not fit is not taken.

use super::*;
use crate::SpoolFull;

const ROW: usize = 10_000;

/// Writes an admitted row. A full group is not a refusal: the row waits for the sync.
fn write(house: &mut House, value: &[u8]) {
    let taken = (0..10).any(|_| {
        let taken = house.write(STORED, 0, &[value]).is_ok();
        if !taken {
            house.turn();
        }
        taken
    });
    assert!(taken, "admitted and not taken");
}

#[test]
fn what_was_admitted_is_taken_until_nothing_is_admitted() {
    let mut house = House::new();
    let value = [b'x'; ROW];
    let mut taken = 0u64;
    let full = loop {
        match house.buffer.admit(0, STORED, ROW + 100) {
            Ok(()) => house.buffer.promise(0, STORED, ROW + 100),
            Err(full) => break full,
        }
        write(&mut house, &value);
        taken += 1;
        if taken.is_multiple_of(7) {
            house.turn();
        }
        assert!(taken < 10_000, "no end");
    };
    assert_eq!(full, SpoolFull::Sink, "its share comes first");
    assert!(taken * ROW as u64 > 3 << 20, "{taken} rows");
    let others = house.buffer.admit(0, REPLICATED, ROW);
    assert_eq!(others, Ok(()), "the others have theirs");
    assert_eq!(house.buffer.admit(0, MEMORY, 1 << 30), Ok(()), "not its business");
    assert!(!house.buffer.keeps(0, MEMORY) && !house.buffer.keeps(0, SinkId(9)), "hidden sinks are in memory");
}

#[test]
fn promises_count_until_they_are_kept() {
    let mut house = House::new();
    let room = |house: &House| (1..).find(|n| house.buffer.admit(0, STORED, n * 5_000).is_err()).unwrap();
    let before = room(&house);
    for _ in 0..10 {
        house.buffer.promise(0, STORED, 5_000);
    }
    let promised = room(&house);
    assert!(before - promised >= 10);
    house.turn();
    assert_eq!(room(&house), promised, "a turn later they are promised still");
    for _ in 0..10 {
        house.write(STORED, 0, &[b"small"]).unwrap();
    }
    house.settle();
    assert!(before - room(&house) <= 1, "what they took is small");
    let before = room(&house);
    house.buffer.promise(0, HYBRID, 5_000);
    house.turn();
    assert_eq!(room(&house), before, "such a row may have stayed in memory");
}

#[test]
fn room_comes_back_and_says_so() {
    let mut house = House::new();
    let value = [b'x'; ROW];
    while house.buffer.admit(0, STORED, ROW).is_ok() {
        house.buffer.promise(0, STORED, ROW);
        write(&mut house, &value);
        house.turn();
    }
    house.settle();
    let freed = house.buffer.freed();
    let lane = house.log().lane(STORED, "topic", 0, Known::default()).unwrap();
    let allowed = [(lane, RowRun { first: 10, count: 1_000 })].into_iter().collect();
    let dropped = house.buffer.drop_oldest(&allowed);
    assert_eq!(dropped.lanes().next().expect("rows").1[0].first, 10, "not those that may not go");
    house.settle();
    assert!(house.buffer.freed() > freed);
    assert_eq!(house.buffer.admit(0, STORED, ROW), Ok(()));
}

#[test]
fn what_was_promised_to_rows_that_ended_unwritten_comes_back() {
    let mut house = House::new();
    while house.buffer.admit(0, STORED, ROW).is_ok() {
        house.buffer.promise(0, STORED, ROW);
    }
    house.settle();
    assert!(house.buffer.admit(0, STORED, ROW).is_err(), "they may come still");
    let freed = house.buffer.freed();
    house.log().all_written();
    assert_eq!(house.buffer.admit(0, STORED, ROW), Ok(()));
    assert_ne!(house.buffer.freed(), freed, "who waits is asked again");
}

#[test]
fn a_burst_waits_for_the_next_group_and_no_row_is_too_large_for_it() {
    let mut house = House::new();
    // The value is as large as a block may be.
    let value = vec![b'x'; (1 << 17) - 1_000];
    let bytes = value.len() + 100;
    for _ in 0..8 {
        assert_eq!(house.buffer.admit(0, STORED, bytes), Ok(()), "the first of a turn");
        house.buffer.promise(0, STORED, bytes);
        assert_eq!(house.buffer.admit(0, STORED, bytes), Err(SpoolFull::Turn), "there is room, but not at once");
        assert!(!house.buffer.has_room(bytes));
        let freed = house.buffer.freed();
        write(&mut house, &value);
        house.turn();
        assert!(house.buffer.freed() != freed && house.buffer.has_room(bytes));
    }
}

#[test]
fn what_a_large_row_was_promised_is_its_own_though_small_ones_are_written_before_it() {
    let mut house = House::new();
    let large = 100_000;
    house.buffer.promise(0, STORED, large);
    for _ in 0..10 {
        house.buffer.promise(0, STORED, 100);
    }
    for _ in 0..10 {
        house.write(STORED, 0, &[&[b'x'; 60]]).unwrap();
    }
    house.turn();
    let room = |house: &House| (1..).find(|n| house.buffer.admit(0, STORED, n * 1_000).is_err()).unwrap();
    // Rows may take an eighth of a segment at once.
    assert!(room(&house) * 1_000 + large <= (1 << 17) + 2_000, "{} beside it", room(&house));
}
