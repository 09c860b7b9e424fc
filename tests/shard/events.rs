//! What a shard tells of Kafka, and what it counts of it.

use std::time::Duration;

use forebay::metrics::event::{Event, Field, Kind};
use forebay::metrics::journal::Filter;
use forebay::metrics::spec::{ClusterMetric, KafkaError, Layout, SinkMetric};

use super::world::{World, publish};

const BY_TOPIC: &str = r##"
[kafka.main]
bootstrap = "127.0.0.1:9092"
[[sink]]
name = "other"
kafka = "main"
filters = ["nothing/of/this"]
topic = "other"
[[sink]]
name = "by-topic"
kafka = "main"
filters = ["#"]
topic = "${topic[0]}"
"##;

const LAYOUT: Layout = Layout { sinks: 2, clusters: 1, listeners: 1, sources: 0, rules: 0, bridges: 0 };

fn told(world: &World) -> Vec<Event> {
    world.journal.collect();
    world.journal.page(&Filter::default()).events.into_iter().map(|(_, event)| event).collect()
}

fn kinds(world: &World) -> Vec<Kind> {
    told(world).iter().map(|event| event.kind).collect()
}

fn send(world: &mut World, client_id: &str, topic: &str) {
    let device = world.device(client_id, 60);
    let mut bytes = Vec::new();
    publish(topic, 1, b"x", &mut bytes);
    world.bytes(device, &bytes);
}

#[test]
fn topics_that_are_not_there_or_not_ours_are_named_with_their_sink() {
    let mut world = World::new(BY_TOPIC);
    world.broker.unavailable.insert("dead".to_owned(), 3);
    world.broker.unavailable.insert("secret".to_owned(), 29);
    send(&mut world, "a", "dead/x");
    send(&mut world, "b", "secret/x");
    world.advance(Duration::from_secs(5));
    assert_eq!(kinds(&world), [Kind::KafkaReachable, Kind::TopicForbidden, Kind::TopicUnknown]);
    let (forbidden, unknown) = (&told(&world)[1], &told(&world)[2]);
    for (event, topic, code, error) in
        [(forbidden, "secret", 29, "TOPIC_AUTHORIZATION_FAILED"), (unknown, "dead", 3, "UNKNOWN_TOPIC_OR_PARTITION")]
    {
        assert_eq!((event.text(Field::Sink), event.text(Field::Topic)), (Some("by-topic"), Some(topic)));
        assert_eq!((event.number(Field::Code), event.text(Field::Error)), (Some(code), Some(error)));
    }
    let values = world.values();
    let of = |metric| values[LAYOUT.cluster(0, metric)];
    assert_eq!((of(ClusterMetric::TopicsUnknown), of(ClusterMetric::TopicsRefused)), (1, 1));
    world.broker.unavailable.clear();
    world.advance(Duration::from_secs(5));
    assert_eq!(kinds(&world)[3..], [Kind::TopicKnown]);
}

#[test]
fn a_cluster_that_goes_and_comes_is_told_of_and_its_errors_are_counted_by_code() {
    let mut world = World::new(BY_TOPIC);
    send(&mut world, "a", "t/x");
    world.advance(Duration::from_secs(1));
    world.broker.error = 19;
    send(&mut world, "b", "t/x");
    world.advance(Duration::from_secs(1));
    let values = world.values();
    let errors = values[LAYOUT.error(0, KafkaError::NotEnoughReplicas)];
    assert!(errors > 0 && errors == values[LAYOUT.sink(1, SinkMetric::KafkaErrors)], "{errors}");
    assert_eq!(values[LAYOUT.error(0, KafkaError::Other)], 0);
    world.broker.error = 0;
    world.kafka_down();
    world.advance(Duration::from_secs(5));
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    let gone = [Kind::BrokerUnreachable, Kind::KafkaUnreachable];
    let back = [Kind::KafkaReachable, Kind::BrokerReachable];
    assert_eq!(kinds(&world), [&[Kind::KafkaReachable][..], &gone, &back].concat());
    // Finding F14: for how long it was away.
    let told = told(&world);
    assert_eq!(told[0].number(Field::OutageMs), None);
    assert!(told[3].number(Field::OutageMs).is_some_and(|ms| (4_000..7_000).contains(&ms)), "{:?}", told[3]);
    let values = world.values();
    let of = |metric| values[LAYOUT.cluster(0, metric)];
    assert!(of(ClusterMetric::LinkFailures) > 0 && of(ClusterMetric::SentBytes) > 0);
    assert_eq!((of(ClusterMetric::RequestsInFlight), values[LAYOUT.sink(1, SinkMetric::Delivered)]), (0, 2));
}
