//! Tests that each setting has an effect: the same story differs with another value.

use std::time::Duration;

use super::world::{name, request, world_of};
use crate::client::Settings;
use crate::fake::{Mode, Seen};
use crate::types::ClientEvent;
use forebay_guard::outward::{self, News};

pub(super) fn settings() -> Settings {
    Settings { bootstrap: vec!["10.0.0.1:9092".into()], ..Settings::default() }
}

/// The story of a client as the network sees it, with times: requests answered, a quarter of an hour without requests, then a broker that
/// refuses connections, one that is silent on a request, one that cannot be reached.
fn story(settings: Settings) -> String {
    story_of(settings, None)
}

/// The story with other settings before its first step.
pub(super) fn story_of(settings: Settings, then: Option<Settings>) -> String {
    let mut world = world_of(settings);
    if let Some(then) = then {
        world.client.change(then, world.now);
    }
    let mut world = world.up();
    world.produce(request(1, 1, &[("b", 0)]));
    world.run(Duration::from_secs(900));
    let seen = world.cluster.broker(1).seen.len();
    world.cluster.broker(2).mode = Mode::Refuse;
    world.cut(2);
    world.produce(request(2, 2, &[("a", 1)]));
    world.run(Duration::from_secs(60));
    world.cluster.broker(1).mode = Mode::Frozen;
    world.produce(request(3, 1, &[("b", 0)]));
    world.run(Duration::from_secs(60));
    world.cluster.broker(1).mode = Mode::Blackhole;
    world.cut(1);
    world.run(Duration::from_secs(60));
    format!("{:?}\n{:?}\n{seen} requests\n{:?}", world.net, world.events, world.sent)
}

/// Another value of each setting.
pub(super) fn others() -> [(&'static str, Settings); 7] {
    let ms = Duration::from_millis;
    let with = |outward| Settings { outward, ..settings() };
    [
        ("bootstrap", Settings { bootstrap: vec!["10.0.0.2:9092".into()], ..settings() }),
        ("client_id", Settings { client_id: "another".into(), ..settings() }),
        ("request_timeout", Settings { request_timeout: ms(700), ..settings() }),
        ("connect_timeout", with(outward::Settings { connect_timeout: ms(700), ..settings().outward })),
        ("metadata_max_age", Settings { metadata_max_age: ms(30_000), ..settings() }),
        ("reconnect_backoff_min", with(outward::Settings { backoff_min: ms(400), ..settings().outward })),
        ("reconnect_backoff_max", with(outward::Settings { backoff_max: ms(9_000), ..settings().outward })),
    ]
}

#[test]
fn each_setting_is_used() {
    let told = story(settings());
    assert_eq!(told, story(settings()), "a story is told the same way twice");
    let unused: Vec<_> =
        others().into_iter().filter(|(_, other)| story(other.clone()) == told).map(|(name, _)| name).collect();
    assert!(unused.is_empty(), "without effect: {unused:?}");
}

/// Finding E86: how often a missing topic is requested within ten seconds.
#[test]
fn finding_e86_metadata_has_a_least_age() {
    let asked = |at_first: Settings, then: Option<Settings>| {
        let mut world = world_of(at_first).up();
        if let Some(then) = then {
            world.client.change(then, world.now);
        }
        world.client.want_metadata(&name("missing"), world.now);
        world.run(Duration::from_secs(10));
        let of_it =
            |seen: &&Seen| matches!(seen, Seen::Metadata(_, topics, _) if topics.contains(&"missing".to_owned()));
        world.cluster.broker(1).seen.iter().filter(of_it).count()
    };
    let older = Settings { metadata_min_age: Duration::from_secs(3), ..settings() };
    assert!((9..=14).contains(&asked(settings(), None)), "{}", asked(settings(), None));
    assert!((3..=4).contains(&asked(older.clone(), None)), "{}", asked(older.clone(), None));
    assert!((3..=4).contains(&asked(settings(), Some(older))));
}

/// Finding E105: how often brokers are probed while there are no other requests.
#[test]
fn finding_e105_a_broker_is_asked_whether_it_answers() {
    let asked = |settings: Settings| {
        let settings = Settings { metadata_max_age: Duration::from_secs(300), ..settings };
        let mut world = world_of(settings).up();
        let before = world.cluster.broker(1).seen.len();
        world.run(Duration::from_secs(100));
        let seen = world.cluster.broker(1).seen.split_off(before);
        seen.iter().filter(|seen| matches!(seen, Seen::Metadata(_, topics, _) if topics.is_empty())).count()
    };
    assert_eq!(asked(settings()), 6, "every 15 s");
    assert_eq!(asked(Settings { health_check_interval: Duration::from_secs(40), ..settings() }), 2);
}

/// A broker that froze without requests does not count as reachable.
#[test]
fn finding_e105_a_frozen_broker_is_noticed_while_nothing_is_sent() {
    let mut world = world_of(settings()).up();
    world.produce(request(1, 1, &[("b", 0)]));
    world.take_events();
    for node in [1, 2] {
        world.cluster.broker(node).mode = Mode::Frozen;
    }
    world.run(Duration::from_secs(20));
    assert!(world.take_events().iter().any(|event| matches!(event, ClientEvent::Outward(News::Reachable(false)))));
}
