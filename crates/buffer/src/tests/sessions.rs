//! Records of sessions: none is refused because its group has no place, and they keep their order.

use super::*;

#[test]
fn records_that_find_no_place_come_in_the_next_groups_in_order() {
    let mut house = House::new();
    house.disk.slow = true;
    let payload = [b's'; 1_000];
    let mut kept = Vec::new();
    for _ in 0..500 {
        kept.push(house.buffer.keep_session(None, &payload).unwrap());
    }
    assert!(kept.is_sorted_by_key(|kept| (kept.group, kept.number)));
    assert!(kept.last().unwrap().group > house.buffer.group(), "more than one group holds");
    let released = house.buffer.release(kept[0].number, 3);
    let ended = house.buffer.end_session(kept[1].number);
    assert!(kept.last().unwrap().group <= released && released <= ended);
    assert!(house.write(STORED, 0, &[b"x"]).is_err(), "a row does not come before the session it may be of");
    house.disk.slow = false;
    for _ in 0..40 {
        let durable = house.buffer.durable();
        let of_log = house.buffer.log.state().sessions().count();
        let due = kept.iter().filter(|kept| kept.group <= durable).count();
        assert!(of_log == due || durable >= ended && of_log == due - 1, "{of_log} of {due} at {durable}");
        house.turn();
    }
    assert!(house.buffer.durable() >= ended);
    house.write(STORED, 0, &[b"x"]).unwrap();
    let (mut house, restored) = house.power_cut(settings()).unwrap();
    assert_eq!(restored.sessions.len(), 499);
    let next = house.buffer.keep_session(None, b"").unwrap();
    assert_eq!(next.number, kept.last().unwrap().number + 1, "numbers are not used twice");
}

#[test]
fn a_record_that_no_group_takes_holds_up_no_others() {
    let mut house = House::new();
    let larger = vec![b's'; usize::try_from(settings().log.segment_bytes / 8).unwrap()];
    assert!(house.buffer.keep_session(None, &larger).is_err());
    let small = house.buffer.keep_session(None, b"small").unwrap();
    house.settle();
    assert!(house.buffer.durable() >= small.group);
}

#[test]
fn a_beat_is_a_group_even_if_nothing_else_stands_in_it() {
    let mut house = House::new();
    for _ in 0..3 {
        let group = house.buffer.beat();
        assert_eq!(house.buffer.beat(), group, "one for all that wait");
        assert!(house.buffer.durable() < group);
        house.settle();
        assert!(house.buffer.durable() >= group);
        assert!(house.buffer.is_idle());
    }
    // A beat shares the group of other records.
    house.disk.slow = true;
    let kept = house.buffer.keep_session(None, b"a").unwrap();
    let bytes = house.buffer.numbers().group_bytes;
    assert_eq!(house.buffer.beat(), kept.group);
    house.disk.slow = false;
    house.settle();
    assert!(house.buffer.numbers().group_bytes > bytes);
    let (_, restored) = house.power_cut(settings()).unwrap();
    assert_eq!(restored.sessions.len(), 1);
    assert_eq!((restored.report.rows, restored.report.is_damaged()), (0, false));
}

#[test]
fn a_session_that_is_kept_again_is_one() {
    let mut house = House::new();
    let first = house.buffer.keep_session(None, b"before").unwrap();
    house.settle();
    assert_eq!(house.buffer.keep_session(Some(first.number), b"after").unwrap().number, first.number);
    house.settle();
    let (_, restored) = house.power_cut(settings()).unwrap();
    assert_eq!(restored.sessions.len(), 1);
    assert_eq!(restored.sessions[0].payload, b"after");
}

#[test]
fn a_session_that_finds_no_room_in_its_group_is_not_called_durable_before_it_is() {
    let mut house = House::new();
    // The group is nearly full of rows.
    while house.buffer.session_room() > 300_000 {
        for sink in [STORED, REPLICATED, HYBRID] {
            let _ = house.write(sink, 0, &[&[b'x'; 9_000]]);
        }
        house.turn();
    }
    let payload = [b's'; 1_000];
    let mut kept = Vec::new();
    while let Ok(one) = house.buffer.keep_session(None, &payload) {
        kept.push(one);
        assert!(kept.len() < 10_000, "no end: {}", house.buffer.session_room());
    }
    assert!(kept.last().is_some_and(|last| last.group > house.buffer.group()), "some wait for another group");
    for _ in 0..30 {
        let durable = house.buffer.durable();
        let due = kept.iter().filter(|kept| kept.group <= durable).count();
        assert!(house.buffer.log.state().sessions().count() >= due, "{due} are due at {durable}");
        house.turn();
    }
    assert_eq!(house.buffer.log.state().sessions().count(), kept.len());
    assert!(house.buffer.is_idle());
}

#[test]
fn a_row_of_a_packet_id_comes_behind_its_last_release() {
    let mut house = House::new();
    house.disk.slow = true;
    let session = house.buffer.keep_session(None, b"").unwrap().number;
    let group = house.buffer.group();
    let more = (0..100_000).find(|_| house.buffer.release(session, 9) > group + 1);
    assert!(more.is_some(), "two groups hold them all");
    house.disk.slow = false;
    house.turn();
    assert!(house.buffer.group() > group);
    let origins = [(0, Origin { session, packet_id: 9 })];
    let beside = Beside { origins: &origins, ..Beside::default() };
    assert!(house.write_with(STORED, 0, &[b"x"], beside.clone()).is_err());
    house.settle();
    house.write_with(STORED, 0, &[b"x"], beside).unwrap();
    house.settle();
    let (_, restored) = house.power_cut(settings()).unwrap();
    assert_eq!(restored.sessions[0].open.len(), 1);
}

#[test]
fn records_that_belong_together_are_in_one_group() {
    let mut house = House::new();
    house.disk.slow = true;
    let mut groups = Vec::new();
    for len in (0..2_000).map(|number| 100 + number * 7 % 911) {
        house.buffer.keep_together(2, len + 20);
        let [first, second] = [len, 20].map(|len| house.buffer.keep_session(None, &vec![b's'; len]).unwrap().group);
        assert_eq!(first, second, "{len}");
        groups.push(first);
    }
    groups.dedup();
    assert!(groups.len() > 5 && groups.is_sorted(), "{groups:?}");
    house.disk.slow = false;
    let mut seen = Vec::new();
    for _ in 0..40 {
        seen.push(house.buffer.log.state().sessions().count());
        house.turn();
    }
    assert!(seen.iter().all(|sessions| sessions % 2 == 0), "{seen:?}");
    assert_eq!(seen.last(), Some(&4_000));
    // Records that fit together in no group are written all the same.
    house.buffer.keep_together(2, 200_000);
    house.buffer.keep_session(None, &[b's'; 100_000]).unwrap();
    house.buffer.keep_session(None, &[b's'; 100_000]).unwrap();
    house.settle();
    assert_eq!(house.buffer.log.state().sessions().count(), 4_002);
}
