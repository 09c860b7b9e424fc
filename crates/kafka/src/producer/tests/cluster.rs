//! Another cluster in place of the known one: nothing is sent to it as it was to the old one.

use crate::producer::testing::hand::{Hand, SINK, identities, identity, settings, topic, values};
use crate::producer::testing::hand::{disk, known};
use crate::producer::{News, Settings, Want};
use crate::types::TopicMetadata;

/// Metadata of a topic with an id.
fn named(id: u128, leaders: &[i32]) -> TopicMetadata {
    TopicMetadata { id, ..topic("t", leaders) }
}

/// One batch answered by cluster "old", with producer id 7.
fn in_old(settings: Settings) -> Hand {
    let mut hand = Hand::new(settings);
    hand.producer.on_cluster("old", hand.now);
    hand.append("t", None);
    hand.poll_synced();
    hand.producer.on_metadata(&[named(1, &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    let first = hand.poll_synced();
    assert_eq!(identities(&first), [(7, 0, 0)]);
    hand.answer(&first[0], 0);
    hand.poll_synced();
    hand.wants.clear();
    hand
}

/// Cluster "new" answers, and issues the producer id that the old one issued.
fn rebuilt(hand: &mut Hand, leaders: &[i32]) {
    hand.producer.on_cluster("new", hand.now);
    assert!(hand.poll_synced().is_empty(), "nothing goes there under the old id");
    hand.producer.on_metadata(&[named(2, leaders)], hand.now);
    assert!(hand.poll_synced().is_empty(), "nor before there is another one");
    assert!(hand.wants.contains(&Want::ProducerId(0)), "{:?}", hand.wants);
    hand.producer.on_producer_id(0, 7, 0);
}

fn told(hand: &mut Hand) -> Vec<News> {
    let mut all = Vec::new();
    hand.producer.drain_news(|news| all.push(news));
    all.retain(|news| matches!(news, News::OtherCluster { .. } | News::Lost { .. }));
    all
}

fn other_cluster() -> News {
    News::OtherCluster { sink: SINK, topic: "t".into(), from: "old".into(), to: "new".into() }
}

#[test]
fn finding_k1_open_batches_begin_anew_in_another_cluster() {
    let mut hand = in_old(settings());
    let sent: Vec<_> = (0..3)
        .map(|_| {
            hand.append("t", None);
            hand.one()
        })
        .collect();
    hand.append("t", None);
    sent.iter().for_each(|request| hand.producer.on_failed(request.id, true, hand.now));
    rebuilt(&mut hand, &[0]);
    let first = hand.one();
    hand.answer(&first, 0);
    let mut requests = hand.poll();
    requests.iter().for_each(|request| hand.answer(request, 0));
    requests.insert(0, first);
    assert_eq!(identities(&requests), [(7, 0, 0), (7, 0, 1), (7, 0, 2), (7, 0, 3)], "sequences begin at 0");
    let rows: Vec<_> = requests.iter().flat_map(values).collect();
    assert_eq!(rows, ["row 1", "row 2", "row 3", "row 4"]);
    let stats = hand.stats();
    assert_eq!((stats.delivered, stats.buffered_rows, stats.outcome_unknown), (5, 0, 3));
    assert_eq!((stats.acknowledged_lost, stats.acknowledged_lost_records), (0, 0));
    assert_eq!(told(&mut hand), [other_cluster()]);
}

/// A partition with nothing open continues at sequence 0, too, and its offsets begin again.
#[test]
fn finding_k1_what_comes_after_the_change_begins_anew() {
    for settings in [settings(), disk()] {
        let mut hand = in_old(settings);
        hand.producer.on_cluster("new", hand.now);
        hand.append("t", None);
        rebuilt(&mut hand, &[0]);
        let requests = hand.poll_synced();
        assert_eq!(identities(&requests), [(7, 0, 0)]);
        hand.answer(&requests[0], 0);
        hand.poll_synced();
        assert_eq!((hand.stats().delivered, hand.stats().acknowledged_lost, hand.stats().outcome_unknown), (2, 0, 0));
        assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
    }
}

/// The old cluster's answer to a partition's question does not count as the new one's.
#[test]
fn finding_k1_questions_to_the_old_cluster_are_dropped() {
    let mut hand = in_old(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 47);
    hand.poll();
    let asked = hand.take_questions();
    assert_eq!(asked.len(), 1);
    hand.producer.on_cluster("new", hand.now);
    hand.producer.on_asked(asked[0].token, crate::types::LogSays::Lost, hand.now);
    rebuilt(&mut hand, &[0]);
    assert_eq!(identity(&hand.one()), (7, 0, 0));
    assert_eq!(told(&mut hand), [other_cluster()]);
}

#[test]
fn finding_k1_rows_of_partitions_that_another_cluster_lacks_get_others() {
    for settings in [settings(), disk()] {
        let mut hand = Hand::new(settings);
        hand.producer.on_cluster("old", hand.now);
        (0..20).for_each(|number| hand.append("t", Some(&format!("key {number}"))));
        hand.poll_synced();
        hand.producer.on_metadata(&[named(1, &[0, 0, 0])], hand.now);
        hand.producer.on_producer_id(0, 7, 0);
        let sent = hand.poll_synced();
        assert!(sent.iter().flat_map(|request| &request.batches).count() > 1, "{sent:?}");
        sent.iter().for_each(|request| hand.producer.on_failed(request.id, true, hand.now));
        rebuilt(&mut hand, &[0]);
        for _ in 0..20 {
            for request in hand.poll_synced() {
                assert!(request.batches.iter().all(|batch| batch.partition == 0));
                hand.answer(&request, 0);
            }
        }
        let stats = hand.stats();
        assert_eq!((stats.delivered, stats.buffered_rows, stats.outcome_unknown), (20, 0, 20));
        assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
    }
}

/// Cuts of the log are void, and their rows are cut again: a process in the new cluster sends those unchanged.
#[test]
fn finding_k1_cuts_in_the_log_are_void_in_another_cluster() {
    let mut hand = in_old(disk());
    hand.append("t", None);
    let sent = hand.poll_synced();
    assert_eq!(identities(&sent), [(7, 0, 1)]);
    hand.producer.on_failed(sent[0].id, true, hand.now);
    rebuilt(&mut hand, &[0]);
    let sent = hand.poll_synced();
    assert_eq!(identities(&sent), [(7, 0, 0)]);
    let cuts: Vec<_> = hand.log.state.cuts.values().map(|(cut, ..)| (cut.cluster.clone(), cut.sequence)).collect();
    assert_eq!(cuts, [("new".to_owned(), 0)]);
    let mut hand = hand.killed(disk(), 8);
    hand.producer.on_cluster("new", hand.now);
    hand.poll_synced();
    hand.producer.on_metadata(&[named(2, &[0])], hand.now);
    let sent = hand.poll_synced();
    assert_eq!(identities(&sent), [(7, 0, 0)]);
    hand.answer(&sent[0], 0);
    hand.poll_synced();
    assert_eq!((hand.stats().delivered, hand.stats().outcome_unknown), (1, 0));
    assert_eq!(told(&mut hand), []);
}

/// Rows of an earlier process are of the cluster that answered first; then the cluster is replaced.
#[test]
fn finding_k1_cuts_of_an_earlier_start_are_void_when_the_cluster_changes_behind_it() {
    for loaded in [false, true] {
        let mut hand = known(disk());
        hand.producer.on_cluster("old", hand.now);
        hand.poll_synced();
        let mut hand = hand.killed(disk(), 8);
        hand.producer.on_cluster("old", hand.now);
        hand.poll_synced();
        if loaded {
            hand.producer.on_metadata(&[named(1, &[0])], hand.now);
            let sent = hand.poll_synced();
            assert_eq!(identities(&sent), [(7, 0, 0)]);
            hand.producer.on_failed(sent[0].id, true, hand.now);
        }
        rebuilt(&mut hand, &[0]);
        let sent = hand.poll_synced();
        assert_eq!(identities(&sent), [(7, 0, 0)], "loaded: {loaded}");
        hand.answer(&sent[0], 0);
        hand.poll_synced();
        let stats = hand.stats();
        assert_eq!((stats.delivered, stats.outcome_unknown, stats.acknowledged_lost), (1, 1, 0), "loaded: {loaded}");
        assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty());
        assert_eq!(told(&mut hand), [other_cluster()]);
    }
}

#[test]
fn the_same_cluster_told_again_changes_nothing() {
    let mut hand = in_old(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.producer.on_cluster("old", hand.now);
    hand.answer(&request, 0);
    hand.append("t", None);
    assert_eq!(identity(&hand.one()), (7, 0, 2));
    assert_eq!(told(&mut hand), []);
}
