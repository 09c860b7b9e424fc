//! A seeded storm: brokers start, stop, freeze, lie, move and throttle while requests are sent. In every case each
//! request ends exactly once, batches of one partition never overtake each other on a broker, and the client never spins.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::world::{name, request, world_of};
use crate::client::Settings;
use crate::fake::{Fault, Mode, Seen};
use crate::types::{ClientEvent, ProduceRequest};
use forebay_guard::outward::News;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Open,
    Produced,
    Failed { sent: bool },
}

fn fault(rng: &mut fastrand::Rng) -> Fault {
    match rng.u8(..6) {
        0 => Fault::Silence,
        1 => Fault::Close(rng.bool()),
        2 => Fault::Bytes((0..rng.usize(..40)).map(|_| rng.u8(..)).collect()),
        3 => Fault::Error(*rng.choice(&[3i16, 5, 6, 7, 14, 35, 41]).unwrap()),
        _ => Fault::Throttle(rng.i32(0..3000)),
    }
}

fn storm(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let settings = Settings {
        bootstrap: vec!["10.0.0.1:9092".into(), "kafka.example:9092".into()],
        in_flight_max: rng.usize(1..6),
        queued_max: 20,
        ..Settings::default()
    };
    let mut world = world_of(settings);
    world
        .names
        .insert("kafka.example".into(), vec!["10.0.0.9:9092".parse().unwrap(), "10.0.0.2:9092".parse().unwrap()]);
    let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
    world.client.start(world.now);
    world.client.want_metadata(&name("a"), world.now);
    world.cluster.add_topic("c", &[1, 2]);
    world.client.want_metadata(&name("c"), world.now);
    world.client.want_producer_id(1, world.now);
    for id in 0..400 {
        world.piece = rng.usize(1..60);
        let node = rng.i32(1..=2);
        match rng.u8(..24) {
            0 => world.cluster.broker(node).mode = *rng.choice(&[Mode::Refuse, Mode::Blackhole, Mode::Frozen]).unwrap(),
            1..=3 => world.cluster.broker(node).mode = Mode::Serve,
            4 => world.cut(node),
            5 => world.cluster.add_topic("a", &[rng.i32(-1..=2), rng.i32(1..=2)]),
            6 => world.client.refresh_metadata(world.now),
            7 => world.resolver_hangs = rng.bool(),
            8 => {
                let key = *rng.choice(&[ApiKey::Produce, ApiKey::Metadata, ApiKey::ApiVersions]).unwrap();
                let fault = fault(&mut rng);
                world.cluster.broker(node).faults.push((key, fault));
            }
            9 => {
                let address = format!("10.0.{}.{node}:9092", rng.u8(0..2));
                let broker = world.cluster.broker(node);
                (broker.address, broker.host) = (address.parse().unwrap(), address.replace(":9092", ""));
                world.cut(node);
            }
            10 => world.run(Duration::from_secs(rng.u64(1..30))),
            11 => world.client.want_producer_id(id, world.now),
            _ => {
                fates.insert(id, Fate::Open);
                // There are two channels, each with a partition of its own, as with the producer.
                let slow = rng.u8(..4) == 0;
                let topic = if slow { "c" } else { "a" };
                let request = ProduceRequest { slow, ..request(id, node, &[(topic, node - 1)]) };
                world.client.produce(request, world.now);
            }
        }
        world.run(Duration::from_millis(rng.u64(..50)));
        take_fates(&mut fates, world.take_events());
    }
    // The storm is over: in the end everything is answered, and the client works.
    for node in [1, 2] {
        world.cluster.broker(node).mode = Mode::Serve;
        world.cluster.broker(node).faults.clear();
    }
    world.cluster.broker(1).address = "10.0.0.1:9092".parse().unwrap();
    world.cluster.broker(1).host = "10.0.0.1".into();
    world.cluster.add_topic("a", &[1, 2]);
    world.resolver_hangs = false;
    world.run(Duration::from_secs(120));
    take_fates(&mut fates, world.take_events());
    assert!(fates.values().all(|fate| *fate != Fate::Open), "seed {seed}: {fates:?}");
    world.client.refresh_metadata(world.now);
    world.run(Duration::from_secs(2));
    world.take_events();
    world.produce(request(1000, 2, &[("a", 1)]));
    world.run(Duration::from_secs(1));
    let mut events = world.take_events();
    events.retain(|event| !matches!(event, ClientEvent::Outward(News::BrokerReachable(_))));
    assert!(matches!(events[..], [ClientEvent::Produced { id: 1000, .. }]), "seed {seed}: {events:?}");
    for node in [1, 2] {
        for topic in ["a", "c"] {
            let arrived: Vec<u64> = arrivals(&world.cluster.broker(node).seen, topic);
            assert!(arrived.is_sorted(), "seed {seed}: overtaken on {node}: {arrived:?}");
            for id in arrived {
                assert_ne!(fates.get(&id), Some(&Fate::Failed { sent: false }), "seed {seed}: {id} was sent");
            }
        }
    }
}

/// The requests that a broker saw with this topic, in the order of arrival.
fn arrivals(seen: &[Seen], topic: &str) -> Vec<u64> {
    let id = |seen: &Seen| match seen {
        Seen::Produce(_, _, batches) if batches[0].0 == topic => {
            batches[0].2.first_chunk().map(|id| u64::from_be_bytes(*id))
        }
        _ => None,
    };
    seen.iter().filter_map(id).collect()
}

fn take_fates(fates: &mut BTreeMap<u64, Fate>, events: Vec<ClientEvent>) {
    for event in events {
        let (id, fate) = match event {
            ClientEvent::Produced { id, .. } => (id, Fate::Produced),
            ClientEvent::ProduceFailed { id, sent } => (id, Fate::Failed { sent }),
            _ => continue,
        };
        let old = fates.insert(id, fate);
        assert_eq!(old, Some(Fate::Open), "{id} ends twice");
    }
}

#[test]
fn every_request_ends_once_and_nothing_overtakes() {
    (0..60).for_each(storm);
}
