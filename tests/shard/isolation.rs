//! A topic that Kafka does not have, or does not let us write to, costs those who publish to it, and no others.

use std::time::Duration;

use forebay::metrics::spec::{ClusterMetric, Layout, ShardMetric};
use forebay::runtime::seam::ConnId;

use super::world::{World, publish};

const BY_TOPIC: &str = r##"
[kafka.main]
bootstrap = "127.0.0.1:9092"
buffer_bytes = "16MiB"
[[sink]]
name = "all"
kafka = "main"
filters = ["#"]
topic = "${topic[0]}"
"##;

const PAYLOAD: usize = 8_000;

/// Publishes until the device is left unread; how many messages were taken.
fn fill(world: &mut World, device: ConnId, topic: &str, tag: u8) -> u16 {
    for id in 1..10_000 {
        if !send(world, device, topic, tag, id) {
            return id - 1;
        }
    }
    panic!("its part is never used up");
}

/// Whether it was read.
fn send(world: &mut World, device: ConnId, topic: &str, tag: u8, id: u16) -> bool {
    let mut payload = vec![b'x'; PAYLOAD];
    payload[0] = tag;
    payload[1..3].copy_from_slice(&id.to_be_bytes());
    let mut bytes = Vec::new();
    publish(topic, id, &payload, &mut bytes);
    world.bytes(device, &bytes);
    !world.table.wire(device).paused
}

fn acknowledged(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x40, 2, high, low]
}

fn check_bound(world: &World) {
    let layout = Layout { sinks: 1, clusters: 1, listeners: 1, sources: 0, rules: 0, bridges: 0 };
    let values = world.values();
    let of = |metric| values[layout.cluster(0, metric)];
    assert!(of(ClusterMetric::BufferBytes) <= of(ClusterMetric::BufferBytesMax));
}

/// Ids in the order in which a device's records stand in a topic.
fn arrived(world: &World, topic: &str, tag: u8) -> Vec<u16> {
    let of_topic = world.broker.records.iter().filter(|(name, ..)| name == topic);
    let values = of_topic.map(|(.., value)| value).filter(|value| value[0] == tag);
    values.map(|value| u16::from_be_bytes([value[1], value[2]])).collect()
}

#[test]
fn dead_topics_cost_only_their_own() {
    const DEAD: u8 = 10;
    let mut world = World::new(BY_TOPIC);
    let mut held = Vec::new();
    for number in 0..DEAD {
        let topic = format!("dead-{number}");
        world.broker.unavailable.insert(topic.clone(), 3);
        let device = world.device(&topic, 60);
        let taken = fill(&mut world, device, &format!("{topic}/x"), number);
        // Another of the same topic waits behind it.
        let second = world.device(&format!("{topic} too"), 60);
        assert!(!send(&mut world, second, &format!("{topic}/x"), number, 9_999), "full for it as well");
        held.push((device, second, taken));
    }
    assert!(held.iter().all(|(.., taken)| *taken > 3), "{held:?}");
    let alive = world.device("alive", 60);
    for id in 1..2_000 {
        assert!(send(&mut world, alive, "alive/x", 0, id), "message {id} is left unread");
        world.advance(Duration::from_millis(5));
        assert_eq!(world.sent(alive), acknowledged(id));
        check_bound(&world);
    }
    assert_eq!(world.number(ShardMetric::StalledConnections), 2 * u64::from(DEAD));
    // They come to be: all of it arrives, in order, and everybody is read again.
    world.broker.unavailable.clear();
    world.advance(Duration::from_secs(5));
    assert_eq!(world.number(ShardMetric::StalledConnections), 0);
    for (number, (device, second, taken)) in held.into_iter().enumerate() {
        let tag = u8::try_from(number).expect("few");
        let topic = format!("dead-{number}");
        let expected: Vec<u8> = (1..=taken + 1).flat_map(acknowledged).collect();
        assert_eq!(world.sent(device), expected, "{topic}: answers in order");
        assert_eq!(world.sent(second), acknowledged(9_999));
        let ids: Vec<u16> = arrived(&world, &topic, tag).into_iter().filter(|id| *id != 9_999).collect();
        assert_eq!(ids, (1..=taken + 1).collect::<Vec<_>>(), "{topic}: records in order");
    }
}

#[test]
fn a_forbidden_topic_refuses_what_it_holds_and_what_waits() {
    let mut world = World::new(BY_TOPIC);
    world.broker.unavailable.insert("secret".to_owned(), 3);
    let device = world.device("d", 60);
    let taken = fill(&mut world, device, "secret/x", 1);
    assert!(taken > 100);
    world.broker.unavailable.insert("secret".to_owned(), 29);
    world.advance(Duration::from_secs(3));
    // 3.1.1 has no word for a refusal: the connection is closed.
    assert!(world.table.wire(device).closed);
    assert_eq!(world.number(ShardMetric::StalledConnections), 0);
    let alive = world.device("alive", 60);
    assert!(send(&mut world, alive, "alive/x", 0, 1));
    world.advance(Duration::from_millis(5));
    assert_eq!(world.sent(alive), acknowledged(1));
    assert!(arrived(&world, "secret", 1).is_empty());
}

#[test]
fn who_waits_for_a_dead_topic_does_not_stand_before_others() {
    let mut world = World::new(BY_TOPIC);
    for topic in ["dead", "late"] {
        world.broker.unavailable.insert(topic.to_owned(), 3);
    }
    for number in 0..100 {
        let device = world.device(&format!("dead {number}"), 60);
        fill(&mut world, device, "dead/x", 1);
    }
    let late = world.device("late", 60);
    let taken = fill(&mut world, late, "late/x", 2);
    assert_eq!(world.number(ShardMetric::StalledConnections), 101);
    world.broker.unavailable.remove("late");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.number(ShardMetric::StalledConnections), 100);
    assert_eq!(world.sent(late), (1..=taken + 1).flat_map(acknowledged).collect::<Vec<_>>());
}
