//! Tests without failures, and of the small detours: negotiation, metadata, producer ids, Produce, throttling, age.

use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::world::{Net, World, name, request, world, world_of};
use crate::client::Settings;
use crate::fake::{FakeTopic, Fault, Mode, Seen};
use crate::types::{ClientEvent, NodeId, ProduceResult, TopicMetadata};
use forebay_guard::outward::News;
use forebay_runtime::seam::Monotonic;

fn metadata_events(events: &[ClientEvent]) -> Vec<TopicMetadata> {
    let topics = |event: &ClientEvent| match event {
        ClientEvent::Metadata(topics) => topics.clone(),
        _ => Vec::new(),
    };
    events.iter().flat_map(topics).collect()
}

fn asked(world: &mut World, node: i32) -> Vec<(Vec<String>, bool)> {
    let metadata = |seen: &Seen| match seen {
        Seen::Metadata(_, topics, create) => Some((topics.clone(), *create)),
        _ => None,
    };
    world.cluster.broker(node).seen.iter().filter_map(metadata).collect()
}

/// The fake's answer for each partition.
fn replicas(partitions: usize) -> Vec<Box<[NodeId]>> {
    vec![Box::new([NodeId(1), NodeId(2)]); partitions]
}

#[test]
fn from_bootstrap_to_an_answered_batch() {
    let mut world = world();
    assert_eq!(world.client.next_deadline(), Monotonic::NEVER, "nothing before start");
    world.client.start(world.now);
    world.settle();
    let told = world.take_events();
    assert!(
        matches!(&told[..], [ClientEvent::Outward(News::Reachable(true)), ClientEvent::Cluster(id)] if **id == *"fake"),
        "{told:?}"
    );
    assert_eq!(asked(&mut world, 1), [(vec![], false)], "the brokers alone");

    world.client.want_metadata(&name("a"), world.now);
    world.settle();
    let topics = metadata_events(&world.take_events());
    let leaders = vec![Some(NodeId(1)), Some(NodeId(2))];
    assert_eq!(topics, [TopicMetadata { name: name("a"), leaders, replicas: replicas(2), ..Default::default() }]);
    assert_eq!(asked(&mut world, 1)[1], (vec!["a".to_owned()], true));

    world.client.want_producer_id(77, world.now);
    world.settle();
    assert!(matches!(world.take_events()[..], [ClientEvent::ProducerId { token: 77, id: 0, epoch: 0 }]));

    world.produce(request(5, 2, &[("a", 1)]));
    let [ClientEvent::Produced { id: 5, results, throttle_ms: 0 }] = &world.take_events()[..] else { panic!() };
    assert!(matches!(&results[..], [ProduceResult { partition: 1, error: 0, base_offset: 0, .. }]));
    let seen = world.cluster.broker(2).seen.clone();
    let [Seen::ApiVersions(3), Seen::Metadata(12, topics, false), Seen::Produce(12, -1, batches)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert!(topics.is_empty(), "it is asked for its cluster alone");
    assert_eq!(batches[..], [("a".to_owned(), 1, 5u64.to_be_bytes().repeat(5).into())]);
}

#[test]
fn every_pair_of_versions_that_kafka_3_and_4_offer() {
    for (produce, metadata, init, api) in
        [(3, 4, 0, 0), (7, 8, 1, 2), (8, 9, 2, 3), (9, 11, 4, 3), (11, 12, 5, 4), (13, 13, 6, 4)]
    {
        let mut world = world();
        for node in [1, 2] {
            let speaks = &mut world.cluster.broker(node).speaks;
            for (key, high) in [(0, produce), (3, metadata), (22, init), (18, api)] {
                speaks.insert(key, (0, high));
            }
        }
        let mut world = world.up();
        world.client.want_producer_id(1, world.now);
        world.produce(request(1, 1, &[("a", 0), ("b", 0)]));
        let events = world.take_events();
        assert!(
            matches!(events[..], [ClientEvent::ProducerId { .. }, ClientEvent::Produced { id: 1, .. }]),
            "{events:?}"
        );
        let seen = &world.cluster.broker(1).seen;
        let expected =
            if api < 3 { vec![Seen::ApiVersions(3), Seen::ApiVersions(0)] } else { vec![Seen::ApiVersions(3)] };
        assert_eq!(seen[..expected.len()], expected[..]);
        assert!(seen.iter().any(|s| matches!(s, Seen::Produce(v, ..) if *v == produce.min(12))), "{seen:?}");
        assert!(seen.iter().any(|s| matches!(s, Seen::Metadata(v, ..) if *v == metadata.min(12))));
        assert!(seen.iter().any(|s| matches!(s, Seen::InitProducerId(v) if *v == init.min(5))));
    }
}

#[test]
fn answers_in_pieces_of_any_size() {
    for piece in 1..120 {
        let mut world = world();
        world.piece = piece;
        let mut world = world.up();
        world.produce(request(1, 1, &[("a", 0), ("b", 0)]));
        assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 1, .. }]), "pieces of {piece}");
    }
}

#[test]
fn results_stand_in_the_order_of_the_batches() {
    let mut world = world();
    world.cluster.add_topic("a", &[1, 1, 1]);
    let mut world = world.up();
    // The fake answers topics and partitions in reverse order.
    world.produce(request(9, 1, &[("a", 0), ("a", 2), ("a", 1), ("b", 0)]));
    let [ClientEvent::Produced { results, .. }] = &world.take_events()[..] else { panic!() };
    let order: Vec<_> = results.iter().map(|r| (&*r.topic, r.partition, r.base_offset)).collect();
    assert_eq!(order, [("a", 0, 0), ("a", 2, 1), ("a", 1, 2), ("b", 0, 3)]);
}

#[test]
fn pipelined_up_to_the_bound_and_in_order() {
    let settings = Settings { bootstrap: vec!["10.0.0.1:9092".into()], in_flight_max: 3, ..Settings::default() };
    let mut world = world_of(settings).up();
    world.cluster.broker(1).faults = vec![(ApiKey::Produce, Fault::Silence)];
    for id in 1..=8 {
        world.produce(request(id, 1, &[("b", 0)]));
    }
    // The first request is never answered, so the answers to later ones are out of order: the connection is closed.
    let events = world.take_events();
    let failed: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ClientEvent::ProduceFailed { id, sent } => Some((*id, *sent)),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [(1, true), (2, true)]);
    world.run(Duration::from_secs(2));
    let produced = |event: &ClientEvent| match event {
        ClientEvent::Produced { id, .. } => Some(*id),
        ClientEvent::Metadata(_)
        | ClientEvent::BrokerUnreachable(_)
        | ClientEvent::Outward(News::BrokerReachable(_)) => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(world.take_events().iter().filter_map(produced).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8]);
}

#[test]
fn no_more_in_flight_than_the_bound() {
    let settings = Settings { bootstrap: vec!["10.0.0.1:9092".into()], in_flight_max: 3, ..Settings::default() };
    let mut world = world_of(settings).up();
    world.produce(request(1, 1, &[("b", 0)]));
    world.cluster.broker(1).mode = Mode::Frozen;
    for id in 2..=9 {
        world.produce(request(id, 1, &[("b", 0)]));
    }
    world.take_events();
    world.cut(1);
    let failed: Vec<_> = world
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            ClientEvent::ProduceFailed { id, sent } => Some((id, sent)),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = (2..=9).map(|id| (id, id <= 4)).collect();
    assert_eq!(failed, expected, "three were sent, five never saw a socket, oldest first");
}

#[test]
fn acks_0_waits_for_nothing() {
    let mut world = world().up();
    for id in 1..=50 {
        let request = crate::types::ProduceRequest { acks: 0, ..request(id, 1, &[("b", 0)]) };
        world.produce(request);
    }
    let events = world.take_events();
    assert_eq!(events.len(), 50);
    assert!(events.iter().all(|event| matches!(event, ClientEvent::Produced { results, .. }
        if results.len() == 1 && results[0].error == 0 && results[0].base_offset == -1)));
    // A request with an answer follows: the correlation ids still agree.
    world.produce(request(51, 1, &[("b", 0)]));
    assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 51, .. }]));
    world.run(Duration::from_secs(60));
    assert!(world.take_events().iter().all(|event| !matches!(event, ClientEvent::ProduceFailed { .. })));
}

#[test]
fn a_topic_that_is_created_by_asking() {
    let mut world = world().up();
    world.cluster.creates = Some(3);
    world.client.want_metadata(&name("new"), world.now);
    world.settle();
    let topics = metadata_events(&world.take_events());
    assert_eq!(topics, [TopicMetadata { name: name("new"), error: 5, ..Default::default() }]);
    // The client requests it again automatically.
    world.run(Duration::from_millis(121));
    let topics = metadata_events(&world.take_events());
    let leaders = vec![Some(NodeId(1)); 3];
    assert_eq!(topics, [TopicMetadata { name: name("new"), leaders, replicas: replicas(3), ..Default::default() }]);
}

#[test]
fn questions_are_coalesced_and_spaced() {
    let mut world = world().up();
    let before = asked(&mut world, 1).len();
    for _ in 0..100 {
        world.client.want_metadata(&name("nowhere"), world.now);
        world.settle();
    }
    assert_eq!(asked(&mut world, 1).len(), before + 1);
    // The topic is wanted a thousand times a second for ten seconds: 0.1 s at first, doubling to 1 s.
    for _ in 0..10_000 {
        world.client.want_metadata(&name("nowhere"), world.now);
        world.run(Duration::from_millis(1));
    }
    let count = asked(&mut world, 1).len() - before;
    assert!((10..=20).contains(&count), "asked {count} times");
    // The topic is not wanted any more.
    world.client.forget_topic("nowhere");
    let before = asked(&mut world, 1).len();
    world.run(Duration::from_secs(60));
    assert!(!asked(&mut world, 1)[before..].iter().any(|(topics, _)| topics.contains(&"nowhere".to_owned())));
}

#[test]
fn a_topic_that_is_being_asked_is_not_asked_again() {
    let mut world = world().up();
    let before = asked(&mut world, 1).len();
    world.work = Duration::from_secs(1);
    for _ in 0..10 {
        world.client.want_metadata(&name("c"), world.now);
        world.client.refresh_metadata(world.now);
        world.run(Duration::from_millis(50));
    }
    let mut questions: Vec<String> =
        asked(&mut world, 1)[before..].iter().flat_map(|(topics, _)| topics.clone()).collect();
    questions.sort_unstable();
    assert_eq!(questions, ["a", "b", "c"]);
}

#[test]
fn a_refresh_creates_nothing_even_beside_a_topic_that_is_wanted() {
    let mut world = world();
    world.client.want_metadata(&name("a"), world.now);
    world.client.start(world.now);
    world.settle();
    world.run(Duration::from_secs(1));
    world.cluster.broker(1).mode = Mode::Refuse;
    world.cut(1);
    let before = asked(&mut world, 1).len();
    world.client.want_metadata(&name("new"), world.now);
    world.cluster.broker(1).mode = Mode::Serve;
    world.cluster.brokers.remove(&2);
    world.run(Duration::from_millis(200));
    let mut questions = asked(&mut world, 1).split_off(before);
    questions.truncate(2);
    questions.sort_unstable();
    assert_eq!(questions, [(vec!["a".to_owned()], false), (vec!["new".to_owned()], true)]);
}

#[test]
fn names_that_kafka_cannot_have_are_answered_here() {
    let mut world = world().up();
    let before = asked(&mut world, 1).len();
    for bad in [String::new(), "x".repeat(250), "x".repeat(70_000)] {
        world.client.want_metadata(&name(&bad), world.now);
    }
    world.settle();
    assert_eq!(metadata_events(&world.take_events()).iter().map(|topic| topic.error).collect::<Vec<_>>(), [17; 3]);
    assert_eq!(asked(&mut world, 1).len(), before);
}

#[test]
fn metadata_has_an_age() {
    let mut world = world().up();
    let before = asked(&mut world, 1).len();
    world.run(Duration::from_millis(47_900));
    // The probe asks the broker for the brokers alone.
    assert_eq!(asked(&mut world, 1)[before..], [const { (Vec::new(), false) }; 3]);
    world.run(Duration::from_millis(24_200));
    // Both topics in one request, and a refresh creates nothing.
    let mut asked = asked(&mut world, 1).split_off(before);
    asked.retain(|(topics, _)| !topics.is_empty());
    assert_eq!(asked, [(vec!["a".to_owned(), "b".to_owned()], false)]);
    assert_eq!(metadata_events(&world.take_events()).len(), 2);
}

#[test]
fn a_refresh_asks_for_all_and_again_until_there_is_a_leader() {
    let mut world = world().up();
    world.run(Duration::from_secs(1));
    world.cluster.add_topic("a", &[1, -1]);
    world.client.refresh_metadata(world.now);
    world.client.refresh_metadata(world.now);
    world.settle();
    let topics = metadata_events(&world.take_events());
    assert_eq!(topics[0].leaders, [Some(NodeId(1)), None]);
    assert_eq!(topics.len(), 2);
    world.cluster.add_topic("a", &[1, 1]);
    world.run(Duration::from_millis(125));
    let topics = metadata_events(&world.take_events());
    assert_eq!(topics.last().map(|topic| topic.leaders.clone()), Some(vec![Some(NodeId(1)); 2]));
}

#[test]
fn a_leader_that_is_not_alive_is_none() {
    let mut world = world();
    world.cluster.topics.insert("a".into(), FakeTopic { error: 0, leaders: vec![1, 9] });
    world.client.start(world.now);
    world.client.want_metadata(&name("a"), world.now);
    world.settle();
    assert_eq!(metadata_events(&world.take_events())[0].leaders, [Some(NodeId(1)), None]);
}

#[test]
fn producer_ids_are_asked_for_until_they_come() {
    let mut world = world();
    let errors = [14, 14, 15, 16, 31, 7, -1];
    world.cluster.broker(1).faults = errors.map(|error| (ApiKey::InitProducerId, Fault::Error(error))).to_vec();
    let mut world = world.up();
    for _ in 0..10 {
        world.client.want_producer_id(1, world.now);
    }
    world.settle();
    assert!(world.take_events().is_empty());
    world.run(Duration::from_secs(10));
    assert!(matches!(world.take_events()[..], [ClientEvent::ProducerId { token: 1, .. }]));
    let count = world.cluster.broker(1).seen.iter().filter(|s| matches!(s, Seen::InitProducerId(_))).count();
    assert_eq!(count, errors.len() + 1);
}

#[test]
fn a_throttled_connection_is_left_alone() {
    let mut world = world().up();
    world.cluster.broker(1).faults = vec![(ApiKey::Produce, Fault::Throttle(3000))];
    world.produce(request(1, 1, &[("b", 0)]));
    assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 1, throttle_ms: 3000, .. }]));
    world.produce(request(2, 1, &[("b", 0)]));
    world.produce(request(3, 2, &[("a", 1)]));
    assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 3, .. }]), "another broker");
    world.run(Duration::from_millis(2999));
    assert!(world.take_events().is_empty());
    world.run(Duration::from_millis(1));
    assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 2, .. }]));
}

#[test]
fn metadata_does_not_wait_behind_produce() {
    let mut world = world().up();
    world.cluster.broker(1).faults = vec![(ApiKey::Produce, Fault::Silence)];
    world.produce(request(1, 1, &[("b", 0)]));
    world.run(Duration::from_secs(1));
    world.client.refresh_metadata(world.now);
    world.settle();
    assert_eq!(metadata_events(&world.take_events()).len(), 2);
    assert_eq!(world.wires.len(), 2);
}

#[test]
fn names_are_resolved_and_addresses_tried_in_turn() {
    let settings = Settings { bootstrap: vec!["kafka.example:9092".into()], ..Settings::default() };
    let mut world = world_of(settings);
    let addresses = ["10.9.9.9:9092", "10.9.9.8:9092", "10.0.0.1:9092"];
    world.names.insert("kafka.example".into(), addresses.map(|a| a.parse().unwrap()).to_vec());
    let world = world.up();
    assert_eq!(world.net[0].1, Net::Resolve("kafka.example".into()));
    assert_eq!(world.connects().iter().map(|(_, to)| to.to_string()).collect::<Vec<_>>(), addresses);
    assert!(world.connects().iter().all(|(at, _)| *at == world.now), "without waiting");
}

#[test]
fn a_batch_meant_for_a_topic_that_was_made_anew_is_refused_by_id() {
    let mut world = world().up();
    let id = world.cluster.id_of("a");
    let by_id = |number: u64| {
        let mut request = request(number, 1, &[("a", 0)]);
        request.batches[0].topic_id = id;
        request
    };
    world.produce(by_id(1));
    let [ClientEvent::Produced { results, .. }] = &world.take_events()[..] else { panic!("no answer") };
    assert_eq!((&*results[0].topic, results[0].error), ("a", 0));
    let seen = world.cluster.broker(1).seen.clone();
    assert!(matches!(seen.last(), Some(Seen::Produce(13, -1, _))), "{seen:?}");
    world.cluster.life = 1;
    world.produce(by_id(2));
    let [ClientEvent::Produced { results, .. }] = &world.take_events()[..] else { panic!("no answer") };
    assert_eq!((&*results[0].topic, results[0].error), ("a", 100));
}

/// Finding K9: topics that do not exist become due separately, each by its own backoff, and still share requests.
#[test]
fn finding_k9_missing_topics_share_their_requests() {
    let mut world = world().up();
    for topic in 0..1_000 {
        world.client.want_metadata(&name(&format!("missing-{topic}")), world.now);
        world.run(Duration::from_micros(700));
    }
    world.run(Duration::from_secs(5));
    let before = asked(&mut world, 1).len();
    world.run(Duration::from_secs(10));
    let requests = asked(&mut world, 1).split_off(before);
    assert!(requests.len() <= 101, "{} requests in 10 s", requests.len());
    let topics: usize = requests.iter().map(|(topics, _)| topics.len()).sum();
    assert!((8_000..16_000).contains(&topics), "each about once a second: {topics}");
    // A topic that is wanted meanwhile waits only for the next request.
    world.client.want_metadata(&name("new"), world.now);
    world.run(Duration::from_millis(101));
    assert!(asked(&mut world, 1).iter().any(|(topics, _)| topics.contains(&"new".to_owned())));
}
