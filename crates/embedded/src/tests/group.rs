//! The state machine of one group, with the test's own clock.

use bytes::Bytes;

use crate::groups::group::{Answer, Group, Join, Joined, State};

fn wish(id: &str, protocols: &[&str]) -> Join {
    Join {
        member_id: id.to_owned(),
        fresh_id: id.to_owned(),
        session_ms: 10_000,
        rebalance_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: protocols.iter().map(|name| ((*name).to_owned(), Bytes::copy_from_slice(id.as_bytes()))).collect(),
        ..Join::default()
    }
}

/// A new member with the id `id`.
fn fresh(id: &str) -> Join {
    Join { member_id: String::new(), ..wish(id, &["range"]) }
}

fn joined(group: &mut Group) -> Vec<(u64, Joined)> {
    let one = |(ticket, answer)| match answer {
        Answer::Join(Ok(joined)) => (ticket, joined),
        other => panic!("{other:?}"),
    };
    group.answers().into_iter().map(one).collect()
}

fn refused(group: &mut Group) -> (i16, String) {
    match group.answers().remove(0).1 {
        Answer::Join(Err(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// `a` leads, `b` follows, both are assigned; generation 2.
fn two() -> Group {
    let mut group = Group::new(10);
    group.join(fresh("a"), 1, 0);
    assert_eq!(joined(&mut group)[0].1.generation, 1);
    group.sync("a", 1, vec![("a".into(), Bytes::from_static(b"all"))], 2, 0);
    assert_eq!(group.answers(), [(2, Answer::Sync(Ok(Bytes::from_static(b"all"))))]);
    group.join(fresh("b"), 3, 0);
    assert_eq!((group.state(), group.answers()), (State::PreparingRebalance, vec![]), "b waits for a");
    assert_eq!(group.heartbeat("a", 1, 0), 27, "which learns it by its heartbeat");
    group.join(wish("a", &["range"]), 4, 0);
    let all = joined(&mut group);
    let leader = &all.iter().find(|(ticket, _)| *ticket == 4).unwrap().1;
    assert_eq!((leader.generation, leader.leader.as_str(), leader.members.len()), (2, "a", 2));
    let follower = &all.iter().find(|(ticket, _)| *ticket == 3).unwrap().1;
    assert_eq!((follower.generation, follower.leader.as_str(), follower.members.len()), (2, "a", 0));
    group.sync("b", 2, vec![], 5, 0);
    assert_eq!(group.answers(), [], "the leader has not assigned yet");
    let parts = vec![("a".into(), Bytes::from_static(b"A")), ("b".into(), Bytes::from_static(b"B"))];
    group.sync("a", 2, parts, 6, 0);
    let mut answers = group.answers();
    answers.sort_by_key(|(ticket, _)| *ticket);
    let assigned = |of: &'static [u8]| Answer::Sync(Ok(Bytes::from_static(of)));
    assert_eq!(answers, [(5, assigned(b"B")), (6, assigned(b"A"))]);
    assert_eq!((group.state(), group.heartbeat("a", 2, 0), group.heartbeat("b", 2, 0)), (State::Stable, 0, 0));
    group
}

#[test]
fn members_join_and_are_assigned() {
    two();
}

#[test]
fn old_generations_and_strangers_are_shut_out() {
    let mut group = two();
    assert_eq!((group.heartbeat("a", 1, 0), group.heartbeat("x", 2, 0)), (22, 25));
    assert_eq!(group.check_commit("a", 1, 0), Err(22));
    assert_eq!(group.check_commit("x", 2, 0), Err(25));
    assert_eq!(group.check_commit("", -1, 0), Err(25), "from outside only while nobody is in it");
    assert_eq!(group.check_commit("b", 2, 0), Ok(()));
    group.sync("a", 1, vec![], 9, 0);
    assert_eq!(group.answers(), [(9, Answer::Sync(Err(22)))]);
    group.join(wish("x", &["range"]), 10, 0);
    assert_eq!(refused(&mut group).0, 25);
    assert_eq!(group.leave("x", 0), 25);
}

#[test]
fn a_silent_member_goes_and_the_rest_goes_on() {
    let mut group = two();
    assert_eq!(group.heartbeat("b", 2, 9_000), 0);
    group.tick(9_999);
    assert_eq!(group.state(), State::Stable);
    group.tick(10_000);
    assert_eq!(group.state(), State::PreparingRebalance, "a is gone");
    assert_eq!((group.heartbeat("b", 2, 10_000), group.heartbeat("a", 2, 10_000)), (27, 25));
    group.join(wish("b", &["range"]), 7, 10_000);
    let b = joined(&mut group).remove(0).1;
    assert_eq!((b.generation, b.leader.as_str(), b.members.len()), (3, "b", 1), "b leads now");
}

#[test]
fn a_rebalance_does_not_wait_for_ever() {
    let mut group = two();
    group.join(fresh("c"), 7, 0);
    // The other two are present but never join: heartbeats keep them until the time is over.
    for now_ms in (0..60_000).step_by(5_000) {
        group.heartbeat("a", 2, now_ms);
        group.heartbeat("b", 2, now_ms);
        group.tick(now_ms);
        assert_eq!(group.answers(), [], "at {now_ms}");
    }
    group.tick(60_000);
    assert_eq!(joined(&mut group)[0].1.members.len(), 1);
    // A leader that never assigns is dropped too.
    group.heartbeat("c", 3, 119_000);
    group.tick(120_000);
    assert_eq!((group.state(), group.is_idle()), (State::Empty, true));
}

#[test]
fn whoever_waits_for_an_assignment_is_told_when_the_round_ends() {
    let mut group = two();
    group.join(wish("a", &["range"]), 7, 0);
    group.join(wish("b", &["range"]), 8, 0);
    joined(&mut group);
    group.sync("b", 3, vec![], 9, 0);
    assert_eq!(group.check_commit("b", 3, 0), Err(27), "nobody knows yet who owns what");
    assert_eq!(group.leave("a", 0), 0);
    assert_eq!(group.answers(), [(9, Answer::Sync(Err(27)))]);
    group.join(wish("b", &["range"]), 10, 0);
    assert_eq!(joined(&mut group)[0].1.leader, "b");
}

#[test]
fn a_repeated_join_gets_the_same_answer_and_no_new_round() {
    let mut group = two();
    group.join(wish("b", &["range"]), 7, 0);
    assert_eq!(joined(&mut group)[0].1.generation, 2);
    assert_eq!(group.state(), State::Stable);
    group.join(wish("a", &["range"]), 8, 0);
    assert_eq!(group.state(), State::PreparingRebalance, "a leader that joins again wants to assign anew");
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_want() {
    let mut group = Group::new(10);
    group.join(Join { member_id: String::new(), ..wish("a", &["x", "y"]) }, 1, 0);
    joined(&mut group);
    group.join(Join { member_id: String::new(), ..wish("b", &["z"]) }, 2, 0);
    assert_eq!(refused(&mut group).0, 23);
    group.join(Join { member_id: String::new(), ..wish("b", &["y", "z"]) }, 3, 0);
    group.join(wish("a", &["x", "y"]), 4, 0);
    assert!(joined(&mut group).iter().all(|(_, joined)| joined.protocol == "y"));
    group.join(Join { protocol_type: "connect".into(), ..fresh("c") }, 5, 0);
    assert_eq!(refused(&mut group).0, 23);
}

#[test]
fn a_promised_id_is_used_once_or_void() {
    let mut group = Group::new(1);
    let asks = Join { comes_again: true, ..fresh("a") };
    group.join(asks.clone(), 1, 0);
    assert_eq!(refused(&mut group), (79, "a".into()));
    assert!(!group.is_idle());
    group.join(Join { comes_again: true, ..fresh("b") }, 2, 0);
    assert_eq!(refused(&mut group).0, 81, "promises count");
    group.tick(10_000);
    assert!(group.is_idle());
    group.join(Join { comes_again: true, ..wish("a", &["range"]) }, 3, 10_000);
    assert_eq!(refused(&mut group).0, 25);
    group.join(asks, 4, 10_000);
    refused(&mut group);
    group.join(Join { comes_again: true, ..wish("a", &["range"]) }, 5, 10_000);
    assert_eq!(joined(&mut group)[0].1.member_id, "a");
}
