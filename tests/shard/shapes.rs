//! Many forms of filters: no client takes away what others may subscribe to, and a restart ends nothing.

use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Publish, QoS, SubscriptionOptions, Version};
use forebay::runtime::seam::ConnId;

use super::queues::{QOS_1, config, lose};
use super::subscribe::{PLAIN, heard, message, publish, subscribe, world};
use super::world::World;

/// Filters of nine levels, each with a form of its own, that begin with this one.
fn forms(first: &str, count: usize) -> Vec<String> {
    let level = |number: usize, bit: usize| if number >> bit & 1 == 1 { "+" } else { "x" };
    let rest = |number| (0..8).map(|bit| level(number, bit)).collect::<Vec<_>>().join("/");
    (1..=count).map(|number| format!("{first}/{}", rest(number))).collect()
}

fn asked<T: AsRef<str>>(filters: &[T], options: SubscriptionOptions) -> Vec<(&str, SubscriptionOptions)> {
    filters.iter().map(|filter| (filter.as_ref(), options)).collect()
}

/// A client with a subscription of QoS 0 to each; the codes of the answer.
fn subscriber(world: &mut World, name: &str, filters: &[String]) -> (ConnId, Vec<u8>) {
    let conn = world.device_v5(name);
    let codes = subscribe(world, conn, Version::V5, 0, &asked(filters, PLAIN));
    (conn, codes)
}

#[test]
fn a_restart_ends_no_subscription_because_others_were_restored_first() {
    let mut world = World::new(&config());
    let kept = |world: &mut World, name: &str, filter: &str| {
        let conn = world.kept_v5(name).0;
        assert_eq!(subscribe(world, conn, Version::V5, 0, &[(filter, QOS_1)]), [1]);
        conn
    };
    let first: Vec<_> = (0..9).map(|number| kept(&mut world, &format!("first-{number}"), "z")).collect();
    let honest = kept(&mut world, "honest", "#");
    let deep = kept(&mut world, "deep", "+/+/+/+/+/+/+/+/+/deep");
    let (greedy, codes) = subscriber(&mut world, "greedy", &forms("g", 62));
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
    // Entered by what they begin with, as long as the others have all places.
    for (number, conn) in first.iter().enumerate() {
        let filters = &forms(&format!("b{number}"), 117)[number * 13..][..13];
        assert_eq!(subscribe(&mut world, *conn, Version::V5, 0, &asked(filters, QOS_1)), [1; 13]);
    }
    [greedy, honest, deep].into_iter().chain(first).for_each(|conn| lose(&mut world, conn));
    world.power_cut();
    assert_eq!(world.told(EventKind::SubscriptionEnded), 0);
    let publisher = world.device_v5("p");
    for (id, topic) in [(1, "some/topic"), (2, "1/2/3/4/5/6/7/8/9/deep"), (3, "b8/x/+/x/+/x/x/+/x")] {
        let topic = topic.replace('+', "any");
        publish(
            &mut world,
            publisher,
            Version::V5,
            Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message(&topic, "v") },
        );
    }
    world.turn();
    let mut back = |name: &str| {
        let behind = world.kept_v5(name).1;
        super::subscribe::in_words(&behind, Version::V5).len()
    };
    assert_eq!([back("honest"), back("deep")], [3, 1], "answered, and lost");
}

#[test]
fn no_client_takes_away_what_others_may_subscribe_to() {
    let mut world = world();
    for (number, first) in ["+", "g", "+", "+"].into_iter().enumerate() {
        subscriber(&mut world, &format!("greedy-{number}"), &forms(first, 200)[number * 50..]);
        let shares: Vec<_> = forms(first, 200).iter().map(|form| format!("$share/{number}/{form}")).collect();
        subscriber(&mut world, &format!("sharer-{number}"), &shares[number * 50..]);
    }
    let filters = ["#", "+/temp", "+/+", "+/+/#", "a/+/c", "+/+/+/+/+/+/+/+/+/+/deep", "$share/g/+/x/#", "$share/g/#"];
    let honest = world.device_v5("honest");
    assert_eq!(subscribe(&mut world, honest, Version::V5, 0, &asked(&filters, PLAIN)), [0; 8]);
    let publisher = world.device_v5("p");
    for (filter, topic) in [("+/temp", "hall/temp"), ("+/+/+/+/+/+/+/+/+/+/deep", "1/2/3/4/5/6/7/8/9/10/deep")] {
        let conn = world.device_v5(&format!("one-{}", filter.len()));
        assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[(filter, PLAIN)]), [0]);
        publish(&mut world, publisher, Version::V5, message(topic, "x"));
        publish(&mut world, publisher, Version::V5, message(&topic.replace("de", "no").replace("te", "no"), "x"));
        assert_eq!(heard(&mut world, conn, Version::V5), [format!("{topic} x")]);
    }
}

#[test]
fn a_session_has_so_many_filters_that_may_be_compared_with_every_message() {
    let mut world = World::new(&config());
    let conn = world.kept_v5("c").0;
    let filters: Vec<_> = forms("+", 40).into_iter().chain(forms("$share/s/+", 40)).collect();
    let all: Vec<_> = filters[..16].iter().chain(&filters[40..56]).chain([&filters[30], &filters[70]]).collect();
    let codes = subscribe(&mut world, conn, Version::V5, 0, &asked(&all, QOS_1));
    assert_eq!(codes, [vec![1; 32], vec![0x97; 2]].concat());
    assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &asked(&all[..1], QOS_1)), [1], "it has that one");
    for other in ["a/+/b/+/c/+/d", "+/a/b/c", "+/a/b/c/#", "#"] {
        assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[(other, QOS_1)]), [1], "{other}");
    }
    lose(&mut world, conn);
    world.power_cut();
    assert_eq!((world.told(EventKind::SubscriptionEnded), world.number(M::Subscriptions)), (0, 36));
    let conn = world.kept_v5("c").0;
    assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[(&filters[30], QOS_1)]), [0x97]);
    let unsubscribe = [&[0xA2, 22, 0, 8, 0, 0, 17][..], filters[0].as_bytes()].concat();
    world.bytes(conn, &unsubscribe);
    assert_eq!((filters[0].len(), world.sent(conn)), (17, vec![0xB0, 4, 0, 8, 0, 0]));
    assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[(&filters[30], QOS_1)]), [1]);
}
