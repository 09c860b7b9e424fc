//! Tests of settings that change while the client runs: they apply from the next step on, and requests in flight are unaffected.

use std::time::Duration;

use super::settings::{others, settings, story_of};
use super::world::{name, request, world_of};
use crate::client::Settings;
use crate::fake::{Mode, Seen};
use crate::types::{ClientEvent, LogSays};
use forebay_guard::outward;

fn at(bootstrap: &str) -> Settings {
    Settings { bootstrap: vec![bootstrap.into()], ..settings() }
}

/// Settings with this wait between attempts.
fn apart(wait: Duration) -> outward::Settings {
    outward::Settings { backoff_min: wait, backoff_max: wait, ..settings().outward }
}

/// Each setting has the effect that it has when given from the beginning.
#[test]
fn each_setting_can_be_changed() {
    for (name, other) in others() {
        let changed = story_of(settings(), Some(other.clone()));
        assert_ne!(changed, story_of(settings(), None), "{name} has no effect");
        // The client's place in the list is random only at the beginning.
        if name != "bootstrap" {
            assert_eq!(changed, story_of(other, None), "{name}");
        }
    }
}

/// A wrong address is corrected: the wait that it caused ends at once.
#[test]
fn a_corrected_bootstrap_list_is_tried_at_once() {
    let hour = Duration::from_secs(3600);
    for mode in [Mode::Refuse, Mode::Blackhole] {
        let wrong =
            Settings { outward: outward::Settings { connect_timeout: hour, ..apart(hour) }, ..at("10.0.0.2:9092") };
        let mut world = world_of(wrong.clone());
        world.cluster.broker(2).mode = mode;
        world.client.start(world.now);
        world.client.want_metadata(&name("b"), world.now);
        world.run(Duration::from_secs(10));
        assert!(world.take_events().iter().all(|event| matches!(event, ClientEvent::BrokerUnreachable(_))));
        world.client.change(Settings { bootstrap: vec!["10.0.0.1:9092".into()], ..wrong }, world.now);
        world.settle();
        let events = world.take_events();
        assert!(events.iter().any(|event| matches!(event, ClientEvent::Metadata(_))), "{mode:?}: {events:?}");
        world.produce(request(1, 1, &[("b", 0)]));
        assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 1, .. }]));
    }
}

/// Such a wait also ends at once on the way to the brokers for Produce.
#[test]
fn a_wait_ends_with_the_change_that_shortens_it() {
    let hour = Duration::from_secs(3600);
    let mut world = world_of(Settings { outward: apart(hour), ..settings() }).up();
    world.cluster.broker(2).mode = Mode::Refuse;
    world.produce(request(1, 2, &[("a", 1)]));
    world.cluster.broker(2).mode = Mode::Serve;
    world.produce(request(2, 2, &[("a", 1)]));
    world.run(Duration::from_secs(60));
    let answered = |event: &ClientEvent| matches!(event, ClientEvent::Produced { id: 2, .. });
    assert!(!world.take_events().iter().any(answered));
    world.client.change(settings(), world.now);
    world.settle();
    assert!(world.take_events().iter().any(answered));
}

/// Requests that were sent are answered, and waiting ones follow in order.
#[test]
fn requests_under_way_go_on() {
    let mut world = world_of(settings()).up();
    world.work = Duration::from_millis(50);
    (1..=40).for_each(|id| world.produce(request(id, 1, &[("b", 0)])));
    let other =
        Settings { client_id: "another".into(), request_timeout: Duration::from_secs(3), ..at("10.0.0.2:9092") };
    world.client.change(other, world.now);
    (41..=50).for_each(|id| world.produce(request(id, 1, &[("b", 0)])));
    world.run(Duration::from_secs(10));
    let answered = |event: &ClientEvent| match event {
        ClientEvent::Produced { id, .. } => Some(*id),
        ClientEvent::ProduceFailed { id, .. } => panic!("{id} failed"),
        _ => None,
    };
    let answered: Vec<u64> = world.take_events().iter().filter_map(answered).collect();
    assert_eq!(answered, (1..=50).collect::<Vec<_>>());
}

/// The place of the first event of a kind.
fn place(events: &[ClientEvent], is: impl Fn(&ClientEvent) -> bool) -> usize {
    events.iter().position(is).unwrap_or_else(|| panic!("there is none: {events:?}"))
}

fn produced(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| matches!(seen, Seen::Produce(..))).count()
}

/// The cluster is rebuilt under its addresses: requests for the old one fail before the event about the new one, and none of them is sent
/// there.
#[test]
fn finding_k1_nothing_meant_for_one_cluster_is_sent_to_another() {
    for acks in [-1, 1, 0] {
        let of = |id| crate::types::ProduceRequest { acks, ..request(id, 1, &[("b", 0)]) };
        let mut world = world_of(settings()).up();
        world.produce(of(1));
        let broker = world.cluster.broker(1);
        broker.mode = Mode::Refuse;
        broker.seen.clear();
        world.cut(1);
        world.take_events();
        world.cluster.others = [(1, "other"), (2, "other")].into();
        world.produce(of(2));
        world.cluster.broker(1).mode = Mode::Serve;
        world.run(Duration::from_secs(5));
        let events = world.take_events();
        let failed = place(&events, |event| matches!(event, ClientEvent::ProduceFailed { id: 2, sent: false }));
        let told = place(&events, |event| matches!(event, ClientEvent::Cluster(id) if **id == *"other"));
        let metadata = place(&events, |event| matches!(event, ClientEvent::Metadata(_)));
        assert!(failed < told && told < metadata, "{events:?}");
        assert_eq!(produced(&world.cluster.broker(1).seen), 0, "acks {acks}");
        world.produce(of(3));
        assert_eq!(produced(&world.cluster.broker(1).seen), 1, "acks {acks}");
    }
}

/// The leader is rebuilt while the connection for metadata stays: its own connection shows it.
#[test]
fn finding_k1_every_connection_says_which_cluster_it_leads_to() {
    let mut world = world_of(settings()).up();
    world.produce(request(1, 2, &[("a", 1)]));
    world.cluster.others.insert(2, "other");
    world.cluster.broker(2).seen.clear();
    world.cut(2);
    world.take_events();
    world.produce(request(2, 2, &[("a", 1)]));
    world.run(Duration::from_secs(5));
    assert_eq!(produced(&world.cluster.broker(2).seen), 0, "it belongs to another cluster than the one that is known");
    let events = world.take_events();
    assert!(!events.iter().any(|event| matches!(event, ClientEvent::Cluster(_))), "{events:?}");
    // The other brokers follow.
    world.cluster.others.insert(1, "other");
    world.produce(request(3, 2, &[("a", 1)]));
    world.run(Duration::from_secs(5));
    let events = world.take_events();
    place(&events, |event| matches!(event, ClientEvent::Cluster(id) if **id == *"other"));
    world.produce(request(4, 2, &[("a", 1)]));
    assert_eq!(produced(&world.cluster.broker(2).seen), 1);
}

/// A log of another cluster is not asked about the known one's batches either.
#[test]
fn finding_k1_no_log_of_another_cluster_is_asked() {
    let mut world = world_of(settings()).up();
    world.cluster.others.insert(1, "other");
    world.client.ask(super::ask::question(None), world.now);
    world.run(Duration::from_secs(5));
    let asked = |seen: &Seen| matches!(seen, Seen::DescribeProducers(_) | Seen::Fetch(..) | Seen::ListOffsets(_));
    assert!(!world.cluster.broker(1).seen.iter().any(asked));
    let events = world.take_events();
    place(&events, |event| matches!(event, ClientEvent::Asked { says: LogSays::Again, .. }));
}

/// A requested producer id is issued by the reported cluster.
#[test]
fn finding_k1_no_producer_id_comes_before_the_news_of_its_cluster() {
    let mut world = world_of(settings()).up();
    world.cut(1);
    world.cluster.others = [(1, "other"), (2, "other")].into();
    world.client.want_producer_id(0, world.now);
    world.run(Duration::from_secs(5));
    let events = world.take_events();
    let told = place(&events, |event| matches!(event, ClientEvent::Cluster(_)));
    assert!(told < place(&events, |event| matches!(event, ClientEvent::ProducerId { .. })), "{events:?}");
}

/// The new list leads to another cluster, which is used from then on.
#[test]
fn finding_k1_a_list_of_another_cluster_is_followed() {
    let mut world = world_of(settings()).up();
    world.cluster.others.insert(2, "other");
    world.client.change(at("10.0.0.2:9092"), world.now);
    world.run(Duration::from_secs(1));
    let events = world.take_events();
    place(&events, |event| matches!(event, ClientEvent::Cluster(id) if **id == *"other"));
}
