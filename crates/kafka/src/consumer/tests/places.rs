//! The places where reading begins, and where it goes on after the log has changed.

use super::world::{World, assignment, batch, world};
use crate::consumer::{Assignment, News, Place, Start, State, WhyReset};
use crate::types::NodeId;
use std::time::Duration;

/// Ten records from offset 5 on.
fn with_ten() -> World {
    let mut world = world();
    world.log("a", 0).start = 5;
    for n in 5..15 {
        world.log("a", 0).append(batch(&[&n.to_string()]), 0);
    }
    world
}

fn begins(start: Start) -> (Vec<String>, Vec<News>) {
    let mut world = with_ten();
    world.consumer.assign(1, Assignment { start, ..assignment("a", 0) });
    world.settle();
    // Another record is appended later.
    world.log("a", 0).append(batch(&["15"]), 0);
    let got = world.read();
    (got, world.news())
}

#[test]
fn reading_begins_at_a_place() {
    let started = |offset, is_end| News::Started { id: 1, offset, is_end };
    let (got, news) = begins(Start::At(Place::Earliest));
    assert_eq!((got.len(), got[0].as_str()), (11, "1@5=5"));
    assert!(news.contains(&started(5, false)), "{news:?}");
    let (got, news) = begins(Start::At(Place::Latest));
    assert_eq!(got, ["1@15=15"]);
    assert!(news.contains(&started(15, true)), "{news:?}");
    let (got, _) = begins(Start::Offset { offset: 13, leader_epoch: -1 });
    assert_eq!(got, ["1@13=13", "1@14=14", "1@15=15"]);
    let (got, _) = begins(Start::Offset { offset: 14, leader_epoch: 0 });
    assert_eq!(got, ["1@14=14", "1@15=15"], "its epoch is known to the leader");
    let (got, _) = begins(Start::At(Place::Time(900)));
    assert_eq!(got.len(), 11, "all are younger");
    let (got, news) = begins(Start::At(Place::Time(5000)));
    assert_eq!(got, ["1@15=15"], "none is: the next that comes");
    assert!(news.contains(&started(15, true)), "{news:?}");
}

#[test]
fn what_has_been_read_is_all_up_to_the_end_of_the_last_answer() {
    let mut world = with_ten();
    world.consumer.assign(1, assignment("a", 0));
    assert!(!world.consumer.has_read_all(1), "nothing has been fetched");
    world.settle();
    assert!(!world.consumer.has_read_all(1), "nothing has been taken");
    assert_eq!(world.read().len(), 10);
    assert!(world.consumer.has_read_all(1));
    world.log("a", 0).append(batch(&["15"]), 0);
    assert_eq!(world.read(), ["1@15=15"]);
    assert!(world.consumer.has_read_all(1));
    assert!(!world.consumer.has_read_all(2), "it is not assigned");
}

#[test]
fn an_offset_that_is_gone_is_reset_and_told() {
    for (offset, reset, to) in
        [(2, Place::Earliest, 5), (2, Place::Latest, 15), (99, Place::Earliest, 5), (99, Place::Latest, 15)]
    {
        let mut world = with_ten();
        let start = Start::Offset { offset, leader_epoch: -1 };
        world.consumer.assign(1, Assignment { start, reset, ..assignment("a", 0) });
        let got = world.read();
        assert_eq!(got.len() as i64, 15 - to);
        let news = world.news();
        assert!(news.contains(&News::Reset { id: 1, from: offset, to, why: WhyReset::OutOfRange }), "{news:?}");
        assert_eq!(world.consumer.stats().resets, 1);
    }
}

#[test]
fn a_new_leader_is_asked_whether_it_has_what_was_read() {
    let mut world = with_ten();
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read().len(), 10);
    // Node 2 leads with a log that diverges at 12.
    let log = world.log("a", 0);
    log.batches.truncate(7);
    for n in ["other 12", "other 13", "other 14", "other 15"] {
        log.append(batch(&[n]), 4);
    }
    world.topic("a", 7, &[(2, 4), (2, 0), (1, 0)]);
    world.metadata();
    assert_eq!(world.read(), ["1@12=other 12", "1@13=other 13", "1@14=other 14", "1@15=other 15"]);
    let news = world.news();
    assert!(news.contains(&News::Reset { id: 1, from: 15, to: 12, why: WhyReset::Truncated }), "{news:?}");
    // The next leader has the whole log.
    world.log("a", 0).append(batch(&["16"]), 5);
    world.topic("a", 7, &[(1, 5), (2, 0), (1, 0)]);
    world.metadata();
    assert_eq!(world.read(), ["1@16=16"]);
    assert!(!world.news().iter().any(|news| matches!(news, News::Reset { .. })));
}

#[test]
fn a_leader_that_knows_nothing_of_the_epoch_leads_to_the_reset_place() {
    let mut world = with_ten();
    world.log("a", 0).append(batch(&["15"]), 6);
    world.topic("a", 7, &[(1, 6), (2, 0), (1, 0)]);
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read().len(), 11);
    let log = world.log("a", 0);
    log.batches.truncate(3);
    log.epochs.remove(&6);
    world.topic("a", 7, &[(2, 7), (2, 0), (1, 0)]);
    world.metadata();
    assert_eq!(world.read().len(), 3, "from the earliest on");
    let news = world.news();
    assert!(news.contains(&News::Reset { id: 1, from: 16, to: 5, why: WhyReset::Truncated }), "{news:?}");
}

#[test]
fn metadata_of_an_older_epoch_is_passed_over() {
    let mut world = with_ten();
    world.topic("a", 7, &[(1, 6), (2, 0), (1, 0)]);
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read().len(), 10);
    let mut stale = world.topics["a"].clone();
    (stale.leaders[0], stale.leader_epochs[0]) = (Some(NodeId(2)), 5);
    let before = world.calls.len();
    world.consumer.on_metadata(&[stale], world.now);
    world.log("a", 0).append(batch(&["15"]), 6);
    assert_eq!(world.read(), ["1@15=15"]);
    assert!(world.calls[before..].iter().all(|call| call.way.node == NodeId(1)));
}

#[test]
fn seeking_voids_what_is_there_and_what_is_under_way() {
    let mut world = with_ten();
    world.consumer.assign(1, assignment("a", 0));
    world.settle();
    assert_eq!(world.consumer.peek().map(|record| record.offset), Some(5));
    world.consumer.seek(1, Start::Offset { offset: 13, leader_epoch: -1 });
    assert!(world.consumer.peek().is_none(), "what was fetched is of the place before");
    world.holds = true;
    world.settle();
    let call = world.calls.pop().expect("a call");
    world.consumer.seek(1, Start::Offset { offset: 14, leader_epoch: -1 });
    world.holds = false;
    world.answer(call);
    assert_eq!(world.read(), ["1@14=14"]);
}

#[test]
fn a_partition_without_a_leader_is_waited_for() {
    let mut world = with_ten();
    world.topic("a", 7, &[(-1, 0), (2, 0), (1, 0)]);
    world.consumer.assign(1, assignment("a", 0));
    assert!(world.read().is_empty());
    assert!(world.calls.is_empty());
    assert_eq!(world.consumer.state(1), Some(State::Starting));
    world.topic("a", 7, &[(2, 1), (2, 0), (1, 0)]);
    world.metadata();
    assert_eq!(world.read().len(), 10);
    assert_eq!(world.consumer.state(1), Some(State::Reading));
}

#[test]
fn errors_that_pass_are_tried_again_after_a_while_and_hold_up_no_other() {
    for error in [3, 5, 6, 9, 56, 74, 75, 76, 78, 100, 103, -1, 4242] {
        let mut world = with_ten();
        world.log("a", 2).append(batch(&["other"]), 0);
        world.log("a", 0).errors.extend([error; 3]);
        world.consumer.assign(1, assignment("a", 0));
        world.consumer.assign(2, assignment("a", 2));
        let before = world.now;
        world.settle();
        assert_eq!((world.consumer.peek().map(|record| record.id), world.now), (Some(2), before), "{error}: at once");
        assert_eq!(world.read().len(), 11, "{error}");
        assert!(world.refreshes > 0);
        let told = world
            .news()
            .iter()
            .filter(|news| matches!(news, News::Trouble { id: 1, error: of } if *of == error))
            .count();
        let is_passing = [3, 5, 6, 9, 56, 74, 75, 78, 100, 103].contains(&error);
        assert_eq!(told, usize::from(!is_passing), "{error}");
        let fetches =
            world.fetches().iter().filter(|(_, fetch)| fetch.partitions.iter().any(|from| from.partition == 0)).count();
        assert!((4..8).contains(&fetches), "{error}: {fetches}");
    }
}

#[test]
fn what_is_forbidden_is_told_once_and_tried_slowly() {
    let mut world = with_ten();
    world.log("a", 0).errors.extend([29; 2]);
    world.consumer.assign(1, assignment("a", 0));
    assert!(world.read().is_empty());
    assert!(world.news().contains(&News::Trouble { id: 1, error: 29 }));
    world.now = world.now.after(Duration::from_secs(30));
    assert!(world.read().is_empty());
    assert_eq!(world.news(), [], "the same row");
    world.now = world.now.after(Duration::from_secs(30));
    assert_eq!(world.read().len(), 10);
    assert_eq!(world.news(), [News::TroubleOver { id: 1 }]);
}
