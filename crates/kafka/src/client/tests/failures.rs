//! Tests of failures: brokers that are unreachable, silent, lying, moved; and how long the client takes to notice.

use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::world::{Net, World, name, request, world, world_of};
use crate::client::{Client, Settings};
use crate::fake::{Fault, Mode, Seen};
use crate::types::ClientEvent;
use forebay_guard::outward::{Ended, News};
use forebay_runtime::seam::Monotonic;

/// (id, sent) of each failed request; `u64::MAX` stands for anything but failures and metadata.
fn failed(events: &[ClientEvent]) -> Vec<(u64, bool)> {
    let failed = |event: &ClientEvent| match event {
        ClientEvent::ProduceFailed { id, sent } => Some((*id, *sent)),
        ClientEvent::Metadata(_)
        | ClientEvent::Outward(News::Reachable(_))
        | ClientEvent::BrokerUnreachable(_)
        | ClientEvent::Outward(News::BrokerReachable(_))
        | ClientEvent::HungUp { .. } => None,
        _ => Some((u64::MAX, false)),
    };
    events.iter().filter_map(failed).collect()
}

fn reachable(events: &[ClientEvent]) -> Vec<bool> {
    let reachable = |event: &ClientEvent| match event {
        ClientEvent::Outward(News::Reachable(reachable)) => Some(*reachable),
        _ => None,
    };
    events.iter().filter_map(reachable).collect()
}

fn gaps(connects: &[(Monotonic, SocketAddr)]) -> Vec<Duration> {
    connects.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect()
}

#[test]
fn kafka_away_from_the_start() {
    let mut world = world();
    world.cluster.broker(1).mode = Mode::Refuse;
    world.client.start(world.now);
    world.client.want_metadata(&name("a"), world.now);
    world.client.want_producer_id(1, world.now);
    world.produce(request(1, 1, &[("a", 0)]));
    let events = world.take_events();
    assert_eq!(failed(&events), [(1, false)], "no broker is known yet");
    assert_eq!(brokers(&events), ["-1 at 10.0.0.1:9092: connection refused"]);
    world.run(Duration::from_secs(30));
    assert!(world.take_events().is_empty());
    let gaps = gaps(&world.connects());
    let mut expected = Duration::from_millis(50);
    for gap in &gaps {
        assert!(*gap >= expected.mul_f64(0.79) && *gap <= expected.mul_f64(1.21), "{gap:?} for {expected:?}");
        expected = (expected * 2).min(Duration::from_secs(1));
    }
    assert!(gaps.len() > 25, "{}", gaps.len());
    assert!(gaps[10] != gaps[11], "jitter");
    // The broker appears: everything wanted arrives with it.
    world.cluster.broker(1).mode = Mode::Serve;
    world.run(Duration::from_millis(1300));
    let events = world.take_events();
    assert_eq!(reachable(&events), [true]);
    assert!(events.iter().any(|event| matches!(event, ClientEvent::ProducerId { .. })));
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Metadata(topics) if topics[0].error == 0)));
}

#[test]
fn every_way_of_being_away_is_noticed_in_time() {
    let names = Settings { bootstrap: vec!["kafka.example:9092".into()], ..Settings::default() };
    let address = Settings { bootstrap: vec!["10.0.0.1:9092".into()], ..Settings::default() };
    // A connection that is established and then silent is given 1, 2, 4 s and then `connect_timeout`.
    for (settings, mode, hangs, first) in [
        (&names, Mode::Serve, true, 4_999),
        (&address, Mode::Blackhole, false, 4_999),
        (&address, Mode::Frozen, false, 999),
    ] {
        let mut world = world_of(settings.clone());
        (world.resolver_hangs, world.cluster.broker(1).mode) = (hangs, mode);
        world.client.start(world.now);
        world.run(Duration::from_millis(first));
        assert_eq!(world.net.len(), 1);
        world.run(Duration::from_secs(60));
        let again = world.net.iter().filter(|(_, net)| !matches!(net, Net::Close(_))).count();
        assert!((10..=16).contains(&again), "{mode:?}: {again}");
        let events = world.take_events();
        assert!(matches!(events[..], [ClientEvent::BrokerUnreachable(_)]), "{events:?}");
        (world.resolver_hangs, world.cluster.broker(1).mode) = (false, Mode::Serve);
        world.names.insert("kafka.example".into(), vec!["10.0.0.1:9092".parse().unwrap()]);
        world.run(Duration::from_secs(7));
        assert_eq!(reachable(&world.take_events()), [true]);
    }
}

/// Finding E88: an address that drops packets does not use up the others' time.
#[test]
fn finding_e88_the_addresses_of_a_name_share_the_time_of_an_attempt() {
    let mut world = world_of(Settings { bootstrap: vec!["kafka.example:9092".into()], ..Settings::default() });
    let addresses = ["10.0.0.1:9092", "10.0.0.2:9092"].map(|address| address.parse().unwrap());
    world.names.insert("kafka.example".into(), addresses.to_vec());
    world.cluster.broker(1).mode = Mode::Blackhole;
    world.client.start(world.now);
    world.run(Duration::from_millis(2_499));
    assert_eq!(world.connects().len(), 1);
    world.run(Duration::from_millis(2));
    assert_eq!(reachable(&world.take_events()), [true]);
}

/// Finding E88: a slow name lookup leaves less time for the rest.
#[test]
fn finding_e88_the_time_for_connecting_is_that_of_the_whole_attempt() {
    let mut world = world_of(Settings { bootstrap: vec!["kafka.example:9092".into()], ..Settings::default() });
    world.names.insert("kafka.example".into(), vec!["10.0.0.1:9092".parse().unwrap()]);
    (world.resolver_hangs, world.cluster.broker(1).mode) = (true, Mode::Blackhole);
    world.client.start(world.now);
    world.run(Duration::from_secs(4));
    world.client.on_resolved(0, Ok(world.names["kafka.example"].clone()), world.now);
    world.settle();
    assert_eq!(world.connects().len(), 1);
    world.run(Duration::from_millis(999));
    assert!(!world.net.iter().any(|(_, net)| matches!(net, Net::Close(_))));
    world.run(Duration::from_millis(2));
    assert!(world.net.iter().any(|(_, net)| matches!(net, Net::Close(_))), "given up after 5 s in all");
}

#[test]
fn goes_round_the_bootstrap_list() {
    let bootstrap = vec!["10.7.0.1:1".into(), "nowhere.example:1".into(), "10.0.0.2:9092".into(), "rubbish".into()];
    let mut starts = Vec::new();
    for seed in 0..20 {
        let mut world = world_of(Settings { bootstrap: bootstrap.clone(), ..Settings::default() });
        world.client = Client::new(Settings { bootstrap: bootstrap.clone(), ..Settings::default() }, seed);
        world.client.start(world.now);
        world.run(Duration::from_millis(200));
        assert_eq!(reachable(&world.take_events()), [true]);
        starts.push(world.net.len());
    }
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts, [1, 2, 3], "shards begin in different places");
}

#[test]
fn the_metadata_connection_moves_on_to_brokers_it_learned_of() {
    let mut world = world().up();
    world.cluster.broker(1).mode = Mode::Refuse;
    world.cut(1);
    world.run(Duration::from_millis(500));
    assert!(reachable(&world.take_events()).is_empty());
    assert!(
        world
            .cluster
            .broker(2)
            .seen
            .iter()
            .any(|seen| matches!(seen, Seen::Metadata(_, topics, _) if topics.len() == 2))
    );
}

#[test]
fn a_lost_connection_gives_everything_back_in_order() {
    let mut world = world().up();
    world.produce(request(1, 1, &[("b", 0)]));
    world.take_events();
    world.cluster.broker(1).faults = vec![(ApiKey::Produce, Fault::Silence), (ApiKey::Produce, Fault::Close(true))];
    world.client.produce(request(2, 1, &[("b", 0)]), world.now);
    world.client.produce(request(3, 1, &[("b", 0)]), world.now);
    world.settle();
    assert_eq!(failed(&world.take_events()), [(2, true), (3, true)]);
    // New requests wait for the new connection, and are answered.
    world.produce(request(4, 1, &[("b", 0)]));
    assert!(world.take_events().is_empty());
    world.run(Duration::from_millis(61));
    assert!(world.take_events().iter().any(|event| matches!(event, ClientEvent::Produced { id: 4, .. })));
}

#[test]
fn unsent_means_unsent() {
    let mut world = world().up();
    world.cluster.broker(2).mode = Mode::Refuse;
    world.produce(request(1, 2, &[("a", 1)]));
    assert_eq!(failed(&world.take_events()), [(1, false)]);
    world.cluster.broker(2).mode = Mode::Frozen;
    world.run(Duration::from_secs(1));
    world.produce(request(2, 2, &[("a", 1)]));
    world.run(Duration::from_secs(6));
    assert_eq!(failed(&world.take_events()), [(2, false)], "ApiVersions was never answered");
    assert!(world.cluster.broker(2).seen.is_empty());
}

#[test]
fn a_silent_broker_is_given_its_time_and_no_more() {
    let mut world = world().up();
    world.cluster.broker(1).faults = vec![(ApiKey::Produce, Fault::Silence)];
    world.produce(request(1, 1, &[("b", 0)]));
    // 1 s + timeout_ms 500 + a moment for the bytes
    world.run(Duration::from_millis(1_499));
    assert!(failed(&world.take_events()).is_empty());
    world.run(Duration::from_millis(10));
    assert_eq!(failed(&world.take_events()), [(1, true)]);
    assert!(world.net.iter().any(|(_, net)| matches!(net, Net::Close(_))));
}

#[test]
fn a_slow_broker_that_answers_is_not_a_silent_one() {
    let mut world = world().up();
    world.produce(request(0, 1, &[("b", 0)]));
    world.take_events();
    world.work = Duration::from_secs(1);
    for id in 1..=5 {
        world.produce(request(id, 1, &[("b", 0)]));
    }
    // The fifth answer arrives after 5 s, each of them within 1.5 s of the previous one.
    world.run(Duration::from_secs(6));
    let events = world.take_events();
    let produced = events.iter().filter(|event| matches!(event, ClientEvent::Produced { .. })).count();
    assert_eq!((produced, failed(&events).len()), (5, 5), "{events:?}");
    // Silence after an answer counts from that answer.
    world.produce(request(6, 1, &[("b", 0)]));
    world.cluster.broker(1).mode = Mode::Frozen;
    world.produce(request(7, 1, &[("b", 0)]));
    world.run(Duration::from_millis(1_000 + 1_499));
    assert!(failed(&world.take_events()).iter().all(|(id, _)| *id == u64::MAX));
    world.run(Duration::from_millis(10));
    assert_eq!(failed(&world.take_events()), [(7, true)]);
}

#[test]
fn a_throttled_request_is_given_that_time_too() {
    let mut world = world().up();
    world.produce(request(0, 1, &[("b", 0)]));
    world.take_events();
    world.work = Duration::from_secs(1);
    world.cluster.broker(1).faults =
        vec![(ApiKey::Produce, Fault::Throttle(15_000)), (ApiKey::Produce, Fault::Silence)];
    world.produce(request(1, 1, &[("b", 0)]));
    world.produce(request(2, 1, &[("b", 0)]));
    world.run(Duration::from_millis(1_000 + 15_000 + 1_499));
    assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 1, .. }]));
    world.run(Duration::from_millis(10));
    assert_eq!(failed(&world.take_events()), [(2, true)]);
}

#[test]
fn a_large_request_is_given_the_time_its_bytes_need() {
    let mut world = world().up();
    world.cluster.broker(1).faults = vec![(ApiKey::Produce, Fault::Silence)];
    let mut large = request(1, 1, &[("b", 0)]);
    large.batches[0].bytes = std::rc::Rc::new(vec![0; 1024 * 1024]);
    world.produce(large);
    world.run(Duration::from_millis(17_499));
    assert!(failed(&world.take_events()).is_empty());
    world.run(Duration::from_millis(50));
    assert_eq!(failed(&world.take_events()), [(1, true)]);
}

#[test]
fn lies_close_the_connection() {
    let frame = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    let mut wrong_correlation = 99i32.to_be_bytes().to_vec();
    wrong_correlation.extend([0; 30]);
    for lie in [
        vec![0xff, 0xff, 0xff, 0xff],
        vec![0x7f, 0xff, 0xff, 0xff],
        vec![0, 0, 0, 0],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        frame(&wrong_correlation),
        frame(&[0, 0, 0, 1, 0]),
        // Right correlation id, then an array of 2^32 - 2 topics.
        frame(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ] {
        let mut world = world().up();
        world.cluster.broker(1).faults = vec![(ApiKey::Produce, Fault::Bytes(lie.clone()))];
        world.produce(request(1, 1, &[("b", 0)]));
        assert_eq!(failed(&world.take_events()), [(1, true)], "{lie:x?}");
        world.run(Duration::from_millis(200));
        world.produce(request(2, 1, &[("b", 0)]));
        assert!(matches!(world.take_events()[..], [.., ClientEvent::Produced { id: 2, .. }]));
    }
}

#[test]
fn an_answer_that_nobody_asked_for_closes_the_connection() {
    let mut world = world().up();
    let link = *world.wires.keys().next().unwrap();
    world.client.on_bytes(link, &[0, 0, 0, 5, 0, 0, 0, 9, 0], world.now);
    world.settle();
    assert!(world.net.contains(&(world.now, Net::Close(link))));
    assert_eq!(reachable(&world.take_events()), [false]);
    // Late bytes of the connection are ignored.
    world.client.on_bytes(link, &[0, 0, 0, 5, 0, 0, 0, 9, 0], world.now);
    world.client.on_closed(link, &Ended::Lost("late".into()), world.now);
    world.settle();
    assert!(world.take_events().is_empty());
}

#[test]
fn a_partition_missing_from_the_answer_is_a_lie() {
    let mut world = world().up();
    // v12: correlation id 1, tags, one topic `b` with no partitions, throttle, tags.
    let body = [0, 0, 0, 1, 0, 2, 2, b'b', 1, 0, 0, 0, 0, 0, 0];
    let bytes = [&[0, 0, 0, body.len() as u8][..], &body].concat();
    world.cluster.broker(1).faults = vec![(ApiKey::Produce, Fault::Bytes(bytes))];
    world.produce(request(1, 1, &[("b", 0)]));
    assert_eq!(failed(&world.take_events()), [(1, true)]);
}

#[test]
fn a_broker_that_speaks_too_new_or_too_old_is_passed_over() {
    let bootstrap = vec!["10.0.0.1:9092".into(), "10.0.0.2:9092".into()];
    let mut world = world_of(Settings { bootstrap, ..Settings::default() });
    world.cluster.broker(1).speaks.insert(0, (13, 20));
    world.client.start(world.now);
    world.run(Duration::from_millis(300));
    assert_eq!(reachable(&world.take_events()), [true]);
    assert!(world.cluster.broker(2).seen.iter().any(|seen| matches!(seen, Seen::Metadata(..))));
    assert!(!world.cluster.broker(1).seen.iter().any(|seen| matches!(seen, Seen::Metadata(..))));
}

#[test]
fn what_waits_for_a_broker_goes_back_when_the_leader_moves() {
    let mut world = world().up();
    world.cluster.add_topic("a", &[2, 2]);
    world.run(Duration::from_secs(1));
    world.client.refresh_metadata(world.now);
    world.settle();
    world.take_events();
    world.cluster.broker(2).mode = Mode::Blackhole;
    world.run(Duration::from_secs(1));
    world.produce(request(1, 2, &[("a", 0), ("a", 1)]));
    world.produce(request(2, 2, &[("a", 0)]));
    assert!(world.take_events().is_empty());
    world.cluster.add_topic("a", &[2, 1]);
    world.client.refresh_metadata(world.now);
    world.settle();
    let events = world.take_events();
    assert!(matches!(events[0], ClientEvent::Metadata(_)), "the news first");
    assert_eq!(failed(&events), [(1, false), (2, false)], "all of it, or 2 would overtake 1");
}

#[test]
fn a_broker_that_moved_is_followed() {
    let mut world = world().up();
    world.cluster.broker(2).mode = Mode::Blackhole;
    world.run(Duration::from_secs(1));
    world.produce(request(1, 2, &[("a", 1)]));
    let broker = world.cluster.broker(2);
    (broker.address, broker.host, broker.mode) = ("10.0.0.22:9093".parse().unwrap(), "10.0.0.22".into(), Mode::Serve);
    world.client.refresh_metadata(world.now);
    world.settle();
    assert!(matches!(world.take_events()[..], [ClientEvent::Metadata(_), ClientEvent::Produced { id: 1, .. }]));
}

#[test]
fn a_broker_that_is_gone_lets_go_of_what_waits() {
    let mut world = world().up();
    world.produce(request(1, 2, &[("a", 1)]));
    world.run(Duration::from_secs(1));
    world.cluster.brokers.remove(&2);
    world.cluster.add_topic("a", &[1, 1]);
    world.client.refresh_metadata(world.now);
    world.take_events();
    world.settle();
    assert_eq!(world.wires.len(), 1, "nothing to wait for on that connection");
    world.produce(request(2, 2, &[("a", 1)]));
    assert_eq!(failed(&world.take_events()), [(2, false)]);
}

#[test]
fn no_brokers_is_no_answer() {
    let bootstrap = vec!["10.0.0.1:9092".into(), "10.0.0.2:9092".into()];
    let mut world = world_of(Settings { bootstrap, ..Settings::default() });
    // v12: correlation id 1, tags, throttle, no brokers, no cluster id, controller -1, no topics, tags.
    let body = [0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 1, 0];
    let bytes = [&[0, 0, 0, body.len() as u8][..], &body].concat();
    for node in [1, 2] {
        world.cluster.broker(node).faults = vec![(ApiKey::Metadata, Fault::Bytes(bytes.clone()))];
    }
    world.client.start(world.now);
    world.client.want_metadata(&name("a"), world.now);
    world.run(Duration::from_millis(400));
    let known = world.take_events().iter().filter(|event| matches!(event, ClientEvent::Metadata(_))).count();
    assert_eq!(known, 1);
    assert_eq!(world.connects().len(), 3);
}

#[test]
fn an_idle_connection_that_goes_is_not_news() {
    let mut world = world().up();
    world.produce(request(1, 2, &[("a", 1)]));
    world.take_events();
    world.cut(2);
    world.run(Duration::from_secs(30));
    assert!(world.take_events().is_empty());
    assert_eq!(world.wires.len(), 1, "opened again only when needed");
    world.produce(request(2, 2, &[("a", 1)]));
    assert!(matches!(world.take_events()[..], [ClientEvent::Produced { id: 2, .. }]));
}

#[test]
fn too_much_for_one_broker_fails_at_once() {
    let settings = Settings { bootstrap: vec!["10.0.0.1:9092".into()], queued_max: 4, ..Settings::default() };
    let mut world = world_of(settings).up();
    world.cluster.broker(2).mode = Mode::Blackhole;
    for id in 1..=6 {
        world.produce(request(id, 2, &[("a", 1)]));
    }
    assert_eq!(failed(&world.take_events()), [(5, false), (6, false)]);
}

#[test]
fn a_connect_storm_is_impossible() {
    // Brokers that accept a connection, negotiate, and close at the first real request: the worst case for a client
    // that counts an established connection as a success.
    let mut world = world().up();
    let connects = world.connects().len();
    for step in 0..2000u64 {
        for node in [1, 2] {
            world.cluster.broker(node).faults =
                vec![(ApiKey::Produce, Fault::Close(false)), (ApiKey::Metadata, Fault::Close(false))];
        }
        world.client.produce(request(step, 1, &[("b", 0)]), world.now);
        world.run(Duration::from_millis(10));
    }
    // 20 s. Produce: about one per second. Metadata: candidates every 50 ms, each round longer, up to 1 s.
    let connects = world.connects().len() - connects;
    assert!(connects < 100, "{connects} connections in 20 s");
    let World { events, .. } = world;
    assert!(failed(&events).iter().all(|(id, _)| *id != u64::MAX));
}

/// Events about brokers for an operator: unreachable ones with the reason, and those that work again.
fn brokers(events: &[ClientEvent]) -> Vec<String> {
    let broker = |event: &ClientEvent| match event {
        ClientEvent::BrokerUnreachable(broker) => {
            let advertised = if broker.is_advertised { ", advertised" } else { "" };
            let node = broker.node.map_or(-1, |node| node.0);
            Some(format!("{node} at {}{advertised}: {}", broker.broker, broker.reason))
        }
        ClientEvent::Outward(News::BrokerReachable(broker)) => Some(format!("{broker} again")),
        _ => None,
    };
    events.iter().filter_map(broker).collect()
}

/// Finding K6: brokers end idle connections. They are opened again, and nothing is reported.
#[test]
fn finding_k6_a_connection_that_is_ended_is_made_again_in_silence() {
    let mut world = world().up();
    world.produce(request(1, 1, &[("b", 0)]));
    world.take_events();
    for _ in 0..5 {
        world.cut(1);
        world.run(Duration::from_millis(500));
        let events = world.take_events();
        assert!(reachable(&events).is_empty() && brokers(&events).is_empty(), "{events:?}");
        world.produce(request(2, 1, &[("b", 0)]));
        world.run(Duration::from_millis(500));
        assert!(world.take_events().iter().any(|event| matches!(event, ClientEvent::Produced { id: 2, .. })));
    }
    assert_eq!(world.client.stats().failures, 0);
    // A failed attempt, in contrast, is reported.
    for node in [1, 2] {
        world.cluster.broker(node).mode = Mode::Refuse;
    }
    world.cut(1);
    world.cut(2);
    assert!(world.take_events().is_empty());
    world.run(Duration::from_millis(500));
    let events = world.take_events();
    assert_eq!(reachable(&events), [false]);
    assert_eq!(brokers(&events).len(), 2, "both were tried, each is told of once: {events:?}");
    // A broker that ends each connection at any request is unusable too.
    world.cluster.broker(1).mode = Mode::Serve;
    world.run(Duration::from_secs(2));
    assert_eq!(reachable(&world.take_events()), [true]);
    world.cluster.broker(1).faults = vec![(ApiKey::Metadata, Fault::Close(true)); 100];
    world.client.refresh_metadata(world.now);
    world.run(Duration::from_secs(5));
    let events = world.take_events();
    assert!(reachable(&events).starts_with(&[false]) && !brokers(&events).is_empty(), "{events:?}");
}

/// Finding R6: a cluster that freezes while it gets no requests.
#[test]
fn finding_r6_a_frozen_cluster_is_found_while_idle() {
    let mut world = world().up();
    world.run(Duration::from_secs(60));
    assert!(reachable(&world.take_events()).is_empty());
    for node in [1, 2] {
        world.cluster.broker(node).mode = Mode::Frozen;
    }
    world.run(Duration::from_secs(15 + 3));
    let events = world.take_events();
    assert_eq!(reachable(&events), [false]);
    assert!(!brokers(&events).is_empty());
    let asked = world.asked.iter().filter(|(_, api)| *api == ApiKey::Metadata as i16).count();
    assert!(asked < 15, "{asked} questions in 78 s");
}

/// Finding R6: new partitions are known a minute after their creation.
#[test]
fn finding_r6_new_partitions_are_known_within_72_seconds() {
    let mut world = world().up();
    world.cluster.add_topic("b", &[1, 2]);
    world.run(Duration::from_secs(73));
    let grown = |event: &ClientEvent| match event {
        ClientEvent::Metadata(topics) => topics.iter().any(|topic| &*topic.name == "b" && topic.leaders.len() == 2),
        _ => false,
    };
    assert!(world.take_events().iter().any(grown));
}

/// Finding K5: an unreachable address is reported with the broker and the reason, once, and so is the end of the trouble.
#[test]
fn finding_k5_a_broker_at_a_wrong_address_is_told_of() {
    let mut world = world();
    world.cluster.broker(2).host = "10.9.9.9".into();
    let mut world = world.up();
    world.produce(request(1, 2, &[("a", 1)]));
    world.run(Duration::from_secs(5));
    let events = world.take_events();
    assert_eq!(brokers(&events), ["2 at 10.9.9.9:9092, advertised: connection refused"]);
    assert!(reachable(&events).is_empty(), "the other one answers");
    world.cluster.broker(2).host = "10.0.0.2".into();
    world.client.refresh_metadata(world.now);
    world.run(Duration::from_secs(1));
    assert_eq!(brokers(&world.take_events()), ["10.9.9.9:9092 again"], "the cluster does not name it any more");
}
