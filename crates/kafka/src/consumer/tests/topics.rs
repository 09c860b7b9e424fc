//! Topics that grow, disappear, and are recreated; another cluster.

use super::world::{World, assignment, batch, world};
use crate::consumer::{News, State, Want, WhyReset, WhyStopped};
use crate::types::TopicMetadata;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn a_topic_that_grows_is_told() {
    let mut world = world();
    world.consumer.assign(1, assignment("b", 0));
    world.settle();
    assert!(world.news().contains(&News::Partitions { topic: Rc::from("b"), count: 1 }));
    world.topic("b", 8, &[(2, 0), (1, 0), (1, 0)]);
    world.metadata();
    world.metadata();
    assert_eq!(world.news(), [News::Partitions { topic: Rc::from("b"), count: 3 }], "once");
    // The metadata is of a broker that does not know of the change yet.
    let mut stale = world.topics["b"].clone();
    stale.leaders.truncate(1);
    stale.leader_epochs.truncate(1);
    world.consumer.on_metadata(&[stale], world.now);
    assert_eq!(world.news(), []);
    world.log("b", 2).append(batch(&["new"]), 0);
    world.consumer.assign(2, assignment("b", 2));
    assert_eq!(world.read(), ["2@0=new"]);
}

#[test]
fn a_partition_that_the_topic_does_not_have_yet_is_told_once_and_waited_for() {
    let mut world = world();
    world.consumer.assign(1, assignment("b", 2));
    world.settle();
    world.metadata();
    let told = |world: &mut World| {
        world.news().iter().filter(|news| matches!(news, News::Trouble { id: 1, error: 3 })).count()
    };
    assert_eq!((told(&mut world), world.consumer.state(1)), (1, Some(State::Starting)));
    world.topic("b", 8, &[(2, 0), (1, 0), (1, 0)]);
    world.log("b", 2).append(batch(&["x"]), 0);
    world.metadata();
    assert_eq!(world.read(), ["1@0=x"]);
    assert!(world.news().contains(&News::TroubleOver { id: 1 }));
}

#[test]
fn a_topic_that_may_not_be_described_is_told_once() {
    let mut world = world();
    world.consumer.assign(1, assignment("a", 0));
    let forbidden = TopicMetadata { name: Rc::from("a"), error: 29, ..Default::default() };
    world.consumer.on_metadata(std::slice::from_ref(&forbidden), world.now);
    world.consumer.on_metadata(&[forbidden], world.now);
    assert_eq!(world.news(), [News::Trouble { id: 1, error: 29 }]);
}

#[test]
fn a_topic_that_is_gone_stops_its_partitions_after_a_while() {
    let mut world = world();
    world.log("a", 0).append(batch(&["x"]), 0);
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read(), ["1@0=x"]);
    world.news();
    let gone = TopicMetadata { name: Rc::from("a"), error: 3, ..Default::default() };
    world.consumer.on_metadata(std::slice::from_ref(&gone), world.now);
    assert_eq!((world.news(), world.consumer.state(1)), (Vec::new(), Some(State::Missing)), "a broker may start");
    world.now = world.now.after(Duration::from_secs(10));
    world.consumer.on_metadata(std::slice::from_ref(&gone), world.now);
    world.consumer.on_metadata(&[gone], world.now);
    assert_eq!(world.news(), [News::Stopped { id: 1, why: WhyStopped::Deleted }]);
    assert_eq!(world.consumer.state(1), Some(State::Stopped(WhyStopped::Deleted)));
    let calls = world.calls.len();
    world.now = world.now.after(Duration::from_secs(5));
    assert!(world.consumer.take_request(world.now).is_none());
    // The topic is the same, but brokers did not know it for a while.
    world.log("a", 0).append(batch(&["y"]), 0);
    world.metadata();
    assert_eq!((world.read(), world.consumer.state(1)), (vec!["1@1=y".to_owned()], Some(State::Reading)));
    assert!(world.calls.len() > calls);
}

/// A topic that comes back after it was gone is read on by itself, and that is told: the same topic, and another one of its name.
#[test]
fn finding_q37_a_topic_that_is_back_is_told() {
    for is_recreated in [false, true] {
        let mut world = world();
        world.topic("a", 7, &[(1, 0)]);
        world.log("a", 0).append(batch(&["x"]), 0);
        world.consumer.assign(1, assignment("a", 0));
        assert_eq!(world.read(), ["1@0=x"]);
        let gone = TopicMetadata { name: Rc::from("a"), error: 3, ..Default::default() };
        world.consumer.on_metadata(std::slice::from_ref(&gone), world.now);
        world.now = world.now.after(Duration::from_secs(10));
        world.consumer.on_metadata(&[gone], world.now);
        assert!(world.news().contains(&News::Stopped { id: 1, why: WhyStopped::Deleted }));
        if is_recreated {
            *world.log("a", 0) = Default::default();
            world.topic("a", 70, &[(1, 0)]);
        }
        world.log("a", 0).append(batch(&["y"]), 0);
        world.metadata();
        assert_eq!(world.read().len(), 1);
        let over = world.news().into_iter().filter(|news| *news == News::TroubleOver { id: 1 }).count();
        assert_eq!(over, 1, "{is_recreated}");
    }
}

#[test]
fn a_recreated_topic_begins_at_the_reset_place() {
    let mut world = world();
    for value in ["x", "y", "z"] {
        world.log("a", 0).append(batch(&[value]), 9);
    }
    world.topic("a", 7, &[(1, 9), (2, 0), (1, 0)]);
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read().len(), 3);
    let old = world.topics["a"].clone();
    *world.log("a", 0) = Default::default();
    world.log("a", 0).append(batch(&["new"]), 0);
    world.topic("a", 70, &[(1, 0)]);
    world.metadata();
    assert_eq!(world.read(), ["1@0=new"]);
    let news = world.news();
    assert!(news.contains(&News::Reset { id: 1, from: 3, to: 0, why: WhyReset::Recreated }), "{news:?}");
    // Older metadata does not lead back.
    world.consumer.on_metadata(&[old], world.now);
    world.log("a", 0).append(batch(&["next"]), 0);
    assert_eq!(world.read(), ["1@1=next"]);
    assert!(!world.news().iter().any(|news| matches!(news, News::Reset { .. })));
}

#[test]
fn another_cluster_has_other_offsets() {
    let mut world = world();
    for value in ["x", "y", "z"] {
        world.log("a", 0).append(batch(&[value]), 9);
    }
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read().len(), 3);
    world.consumer.on_cluster("cluster");
    world.consumer.on_cluster("other");
    *world.log("a", 0) = Default::default();
    world.log("a", 0).append(batch(&["new"]), 0);
    world.metadata();
    assert_eq!(world.read(), ["1@0=new"]);
}

#[test]
fn metadata_is_wanted_once_a_topic_and_no_more_when_nothing_is_read_of_it() {
    let mut world = world();
    world.consumer.assign(1, assignment("a", 0));
    world.consumer.assign(2, assignment("a", 1));
    assert_eq!(world.consumer.take_want(), Some(Want::Metadata(Rc::from("a"))));
    assert_eq!(world.consumer.take_want(), None);
    world.consumer.unassign(1);
    assert_eq!(world.consumer.take_want(), None);
    world.consumer.unassign(2);
    assert_eq!(world.consumer.take_want(), Some(Want::Forget(Rc::from("a"))));
}

#[test]
fn a_topic_that_was_never_there_is_waited_for() {
    let mut world = world();
    let told = world.topics.remove("a").expect("a topic");
    world.consumer.assign(1, assignment("a", 0));
    for _ in 0..30 {
        world.now = world.now.after(Duration::from_secs(1));
        let missing = TopicMetadata { name: Rc::from("a"), error: 3, ..Default::default() };
        world.consumer.on_metadata(&[missing], world.now);
    }
    assert_eq!(world.consumer.state(1), Some(State::Starting));
    world.topics.insert("a".to_owned(), told);
    world.log("a", 0).append(batch(&["x"]), 0);
    world.metadata();
    assert_eq!(world.read(), ["1@0=x"]);
}
