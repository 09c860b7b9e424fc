//! Each setting is used: the same story with another value goes another way.

use std::time::Duration;

use super::world::{request, world_of};
use crate::kafka::client::Settings;
use crate::kafka::fake::Mode;

pub(super) fn settings() -> Settings {
    Settings { bootstrap: vec!["10.0.0.1:9092".into()], ..Settings::default() }
}

/// What the network sees, and when: requests answered, a quarter of an hour of nothing to do, then a broker that refuses
/// connections, one that is silent on a request, one that cannot be reached.
fn story(settings: Settings) -> String {
    story_of(settings, None)
}

/// The same, with other settings before its first step.
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
pub(super) fn others() -> [(&'static str, Settings); 8] {
    let ms = Duration::from_millis;
    [
        ("bootstrap", Settings { bootstrap: vec!["10.0.0.2:9092".into()], ..settings() }),
        ("client_id", Settings { client_id: "another".into(), ..settings() }),
        ("request_timeout", Settings { request_timeout: ms(700), ..settings() }),
        ("connect_timeout", Settings { connect_timeout: ms(700), ..settings() }),
        ("metadata_max_age", Settings { metadata_max_age: ms(30_000), ..settings() }),
        ("metadata_min_age", Settings { metadata_min_age: ms(3_000), ..settings() }),
        ("reconnect_backoff_min", Settings { reconnect_backoff_min: ms(400), ..settings() }),
        ("reconnect_backoff_max", Settings { reconnect_backoff_max: ms(9_000), ..settings() }),
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
