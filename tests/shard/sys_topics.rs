//! `$SYS`: published by the service, and by no client.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Publish, QoS, SubscriptionOptions, Version};
use forebay::runtime::seam::Shard as _;
use forebay::shard::mail::{Mail, ToShard};

use super::retained::settled;
use super::subscribe::{PLAIN, message, publish, subscribe, subscribe_and_hear};
use super::world::World;

const RETAIN_AS_PUBLISHED: SubscriptionOptions = SubscriptionOptions { retain_as_published: true, ..PLAIN };

fn spooled() -> World {
    World::new(&super::spooled("", "acknowledge = \"stored\"").replace("\"#\"", "\"to/kafka/#\""))
}

fn say(world: &mut World, values: &[(&'static str, &str)]) {
    let values = values.iter().map(|(topic, value)| (*topic, (*value).to_owned())).collect();
    world.core.on_mail(&mut world.table, Mail::Shard(ToShard::SysTopics(values)));
    world.turn();
}

#[test]
fn subscribers_get_what_changes_and_new_ones_all_of_it() {
    let mut world = spooled();
    let (early, all) = (world.device_v5("early"), world.device_v5("all"));
    subscribe(&mut world, early, Version::V5, 0, &[("$SYS/broker/uptime", RETAIN_AS_PUBLISHED)]);
    subscribe(&mut world, all, Version::V5, 0, &[("#", PLAIN)]);
    say(&mut world, &[("$SYS/broker/uptime", "0 seconds"), ("$SYS/broker/version", "Forebay")]);
    say(&mut world, &[("$SYS/broker/uptime", "10 seconds")]);
    let live = ["$SYS/broker/uptime 0 seconds retain", "$SYS/broker/uptime 10 seconds retain"];
    assert_eq!(settled(&mut world, early), live);
    let late = world.device_v5("late");
    let (_, mut now) = subscribe_and_hear(&mut world, late, Version::V5, 0, &[("$SYS/#", PLAIN)]);
    now.extend(settled(&mut world, late));
    assert_eq!(now, ["$SYS/broker/uptime 10 seconds retain", "$SYS/broker/version Forebay retain"]);
    assert_eq!(settled(&mut world, all), [""; 0], "[MQTT-4.7.2-1]");
    // They count in no bound, and no log has them.
    assert_eq!((world.number(M::RetainedMessages), world.number(M::RetainedBytes)), (0, 0));
    world.power_cut();
    let late = world.device_v5("late");
    subscribe(&mut world, late, Version::V5, 0, &[("$SYS/#", PLAIN)]);
    assert_eq!(settled(&mut world, late), [""; 0]);
}

#[test]
fn a_client_does_not_publish_them() {
    let mut world = spooled();
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    subscribe(&mut world, subscriber, Version::V5, 0, &[("$SYS/#", PLAIN)]);
    let of = |topic| Publish { qos: QoS::AtLeastOnce, packet_id: 1, retain: true, ..message(topic, "x") };
    publish(&mut world, publisher, Version::V5, of("$SYS/broker/uptime"));
    let puback = world.sent(publisher);
    assert_eq!((puback[0], puback[4]), (0x40, 0x87), "not authorized");
    assert_eq!(world.number(M::PublishesDenied), 1);
    // What a bridge of mosquitto says of itself.
    publish(&mut world, publisher, Version::V5, of("$SYS/broker/connection/edge/state"));
    world.advance(Duration::from_millis(1));
    assert_eq!(world.sent(publisher), [0x40, 2, 0, 1]);
    assert_eq!(settled(&mut world, subscriber), ["$SYS/broker/connection/edge/state x"]);
    assert_eq!(world.number(M::RetainedMessages), 1);
}
