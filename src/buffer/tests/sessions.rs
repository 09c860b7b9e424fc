//! Records of sessions: none is refused for want of a place in the group, and their order is the one they came in.

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
