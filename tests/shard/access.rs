//! What a client may touch and how much, at the shard: publishes, wills when they are left and when they are sent, what is
//! remembered of a rule, and rates.

use std::time::Duration;

use forebay::auth::password::sha512_of;
use forebay::broker::router::owner;
use forebay::limits::{COPIES_PER_TURN, COPIES_PER_WRITE};
use forebay::metrics::event::{Class, Field, Kind as EventKind};
use forebay::metrics::inspect::{Ask, NamedClient, Told};
use forebay::metrics::journal::Filter;
use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, SubscriptionOptions, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Shard as _};
use forebay::shard::mail::{Inspection, Mail, ToShard};

use super::dropped::told;
use super::process::{Process, packets};
use super::queues;
use super::retained::replayed;
use super::small;
use super::subscribe::{self, PLAIN, bytes_of, heard, message, subscribe, subscribe_packet};
use super::world::World;

const NOT_AUTHORIZED: u8 = 0x87;

/// A world with the user `ada`, these rules for her, and these limits.
fn world(dir: &tempfile::TempDir, rules: &str, limits: &str) -> World {
    world_with(dir, rules, limits, &small())
}

/// The same with these sinks.
fn world_with(dir: &tempfile::TempDir, rules: &str, limits: &str, sinks: &str) -> World {
    World::new(&config(dir, rules, limits, sinks))
}

fn config(dir: &tempfile::TempDir, rules: &str, limits: &str, sinks: &str) -> String {
    let password = sha512_of(b"ada").expect("random numbers");
    std::fs::write(dir.path().join("passwords"), format!("ada:{password}\n")).expect("written");
    write_rules(dir, rules);
    let path = |name: &str| dir.path().join(name).display().to_string();
    format!(
        "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'password'\npassword_file = '{}'\n\
         acl_file = '{}'\n[auth.a.limits]\n{limits}\n{sinks}",
        path("passwords"),
        path("acl")
    )
}

fn write_rules(dir: &tempfile::TempDir, rules: &str) {
    std::fs::write(dir.path().join("acl"), format!("user ada\n{rules}")).expect("written");
}

/// A 5.0 CONNECT of `ada`.
fn hello<'a>(client_id: &'a str, properties: Properties<'a>) -> Connect<'a> {
    Connect { username: Some("ada"), password: Some(b"ada"), properties, ..crate::hello::hello(Version::V5, client_id) }
}

fn send_connect(world: &mut World, connect: Connect<'_>) -> ConnId {
    let mut bytes = Vec::new();
    encode::packet(Version::V5, &Packet::Connect(connect), &mut bytes).expect("encoded");
    let conn = world.accept();
    world.bytes(conn, &bytes);
    conn
}

/// A connection that sends a CONNECT, and the reason code of its CONNACK.
fn connect_as(world: &mut World, connect: Connect<'_>) -> (ConnId, u8) {
    let conn = send_connect(world, connect);
    let connack = world.sent(conn);
    assert_eq!(connack[0], 0x20);
    (conn, connack[3])
}

/// The same for the client `c`, with a will for this topic.
fn connect(world: &mut World, will: Option<&str>) -> (ConnId, u8) {
    let will = will.map(|topic| Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        payload: b"will",
        properties: Properties::EMPTY,
    });
    connect_as(world, Connect { will, ..hello("c", Properties::EMPTY) })
}

/// The client goes.
fn hang_up(world: &mut World, conn: ConnId) {
    world.core.on_close(&mut world.table, conn, Closed::Peer);
    world.table.release(conn);
}

/// A QoS 1 PUBLISH of 5.0.
fn publish(topic: &str, id: u8) -> Vec<u8> {
    let len = u8::try_from(2 + topic.len() + 2 + 1).expect("short");
    [&[0x32, len, 0, topic.len() as u8][..], topic.as_bytes(), &[0, id, 0]].concat()
}

/// The reason code of the PUBACK of a message to this topic.
fn published(world: &mut World, conn: ConnId, topic: &str) -> u8 {
    world.bytes(conn, &publish(topic, 9));
    world.advance(Duration::from_millis(100));
    let puback = world.sent(conn);
    assert_eq!((puback[0], &puback[2..4]), (0x40, &[0, 9][..]), "{puback:?}");
    if puback[1] == 2 { 0 } else { puback[4] }
}

fn arrived(world: &World) -> usize {
    world.broker.records.len()
}

/// X41: what is not granted reaches no sink, and the client hears so.
#[test]
fn a_publish_that_is_not_granted_goes_nowhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine/#\ntopic read yours\n", "");
    let (conn, code) = connect(&mut world, None);
    assert_eq!(code, 0);
    for (topic, code) in [("mine/a", 0), ("yours", NOT_AUTHORIZED), ("other", NOT_AUTHORIZED), ("mine/b", 0)] {
        assert_eq!(published(&mut world, conn, topic), code, "{topic}");
    }
    assert_eq!(arrived(&world), 2);
    assert_eq!(world.number(ShardMetric::PublishesRefused), 2);
}

/// One event for what is denied, with the client, its auth, and the rule that says so or that there is none.
#[test]
fn finding_f14_a_denial_names_its_rule_and_is_told_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine/#\ntopic deny mine/secret\n", "");
    let (conn, _) = connect(&mut world, None);
    published(&mut world, conn, "mine/secret");
    published(&mut world, conn, "other");
    world.bytes(conn, &subscribe_packet(Version::V5, 0, &[("yours", PLAIN)]));
    world.sent(conn);
    world.journal.collect();
    let filter = Filter { class: Some(Class::Client), ..Filter::default() };
    let events: Vec<_> = world.journal.page(&filter).events.into_iter().map(|(_, event)| event).collect();
    let told: Vec<_> =
        events.iter().map(|event| (event.kind, event.text(Field::MqttTopic), event.text(Field::Auth))).collect();
    let denied = |topic| (EventKind::AclDenied, Some(topic), Some("a"));
    assert_eq!(told, [denied("mine/secret"), denied("other"), denied("yours")]);
    let rules: Vec<_> = events.iter().map(|event| event.text(Field::Rule).expect("a rule")).collect();
    assert!(rules[0].ends_with("acl:3: topic deny mine/secret"), "{rules:?}");
    assert!(rules[1].ends_with("acl: no rule in it grants it"), "{rules:?}");
    assert!(rules[2].contains("no rule grants"), "{rules:?}");
}

/// With `denied_reason = "unspecified"` publishes, subscriptions and wills are refused alike and without words; a reload changes it.
#[test]
fn a_client_need_not_learn_that_it_lacks_a_permission() {
    const UNSPECIFIED: u8 = 0x80;
    let dir = tempfile::tempdir().expect("a folder");
    let told = config(&dir, "topic mine\n", "", &small());
    let untold = told.replace("chain =", "denied_reason = 'unspecified'\nchain =");
    let will =
        |topic| Will { qos: QoS::AtMostOnce, retain: false, topic, payload: b"x", properties: Properties::EMPTY };
    let with_will = || Connect { will: Some(will("yours")), ..hello("w", Properties::EMPTY) };
    // PUBACK, SUBACK, and CONNACK for a will, as they come.
    let refusals = |world: &mut World, conn: ConnId| {
        world.bytes(conn, &publish("yours", 9));
        let mut all = vec![world.sent(conn)];
        world.bytes(conn, &subscribe_packet(Version::V5, 0, &[("mine", PLAIN), ("yours", PLAIN)]));
        all.push(world.sent(conn));
        let refused = send_connect(world, with_will());
        all.push(world.sent(refused));
        all
    };
    let mut world = World::new(&untold);
    let (conn, code) = connect(&mut world, None);
    assert_eq!(code, 0);
    let bare = [&[0x40, 3, 0, 9, UNSPECIFIED][..], &[0x90, 5, 0, 9, 0, 0, UNSPECIFIED], &[0x20, 3, 0, UNSPECIFIED, 0]];
    assert_eq!(refusals(&mut world, conn), bare);
    assert_eq!(world.told(EventKind::AclDenied), 2, "the operator is told");

    world.reload_as(&told);
    for (answer, at) in refusals(&mut world, conn).into_iter().zip([4, usize::MAX, 3]) {
        let code = answer.get(at).or(answer.last());
        assert_eq!(code, Some(&NOT_AUTHORIZED), "{answer:?}");
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains("not allowed") || text.contains("not authorized"), "{text}");
    }
    world.reload_as(&untold);
    assert_eq!(refusals(&mut world, conn), bare);
}

/// X45: what is remembered of a rule is forgotten with it.
#[test]
fn a_rule_that_is_taken_back_holds_no_longer_for_who_has_used_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine\n", "");
    let (conn, _) = connect(&mut world, None);
    assert_eq!(published(&mut world, conn, "mine"), 0);
    write_rules(&dir, "topic deny mine\n");
    world.reload();
    assert_eq!(published(&mut world, conn, "mine"), NOT_AUTHORIZED);
    write_rules(&dir, "topic write mine\n");
    world.reload();
    assert_eq!(published(&mut world, conn, "mine"), 0);
    assert!(!world.table.wire(conn).closed, "no client was revoked");
}

/// X44: a will is checked when it is left, and again when it is sent.
#[test]
fn a_will_that_is_not_granted_is_neither_taken_nor_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine\n", "");
    let (conn, code) = connect(&mut world, Some("yours"));
    assert_eq!(code, NOT_AUTHORIZED);
    assert!(world.table.wire(conn).closed);
    for (rules, sent) in [("topic write mine\n", 1), ("topic read mine\n", 1), ("topic write mine\n", 2)] {
        write_rules(&dir, "topic write mine\n");
        world.reload();
        let (conn, code) = connect(&mut world, Some("mine"));
        assert_eq!(code, 0);
        write_rules(&dir, rules);
        world.reload();
        hang_up(&mut world, conn);
        world.advance(Duration::from_secs(5));
        assert_eq!(arrived(&world), sent, "{rules}");
    }
    assert_eq!(world.number(ShardMetric::WillsDenied), 1);
}

/// Finding F14: a denied will names what denies it, and no rule that would have let it pass.
#[test]
fn finding_f14_a_denied_will_names_what_denies_it() {
    const ALL: &str = "topic readwrite #\ntopic readwrite $SYS/#\n";
    let not_admitted = "auth a would not admit the client any more";
    for (topic, rules, user, why) in [
        ("$SYS/broker/uptime", ALL, "ada", "topics that begin with $SYS/ are the service's own"),
        ("mine", ALL, "bob", not_admitted),
        ("mine", "topic deny mine\n", "ada", "acl:2: topic deny mine"),
        ("mine", "topic read mine\n", "ada", "acl: no rule in it grants it"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = world(&dir, ALL, "");
        let (conn, code) = connect(&mut world, Some(topic));
        assert_eq!(code, 0);
        write_rules(&dir, rules);
        if user != "ada" {
            write_users(&dir, &[(user, b"bob")]);
        }
        world.reload();
        hang_up(&mut world, conn);
        world.advance(Duration::from_secs(5));
        assert_eq!(world.number(ShardMetric::WillsDenied), 1, "{topic} {rules}");
        world.journal.collect();
        let events = world.journal.page(&Filter::default()).events;
        let denied: Vec<_> = events.iter().filter(|(_, event)| event.kind == EventKind::AclDenied).collect();
        let rule = denied[0].1.text(Field::Rule).expect("what denies it");
        assert!(denied.len() == 1 && rule.ends_with(why), "{topic}: {rule}");
    }
}

/// Ada's session is kept for an hour, with a will that is due after half of it, and a message waits for her. `spool`: it survives a crash.
fn kept_with_will(dir: &tempfile::TempDir, spool: bool) -> World {
    let sinks = if spool { queues::config() } else { small().replace("\"#\"", "\"to/kafka/#\"") };
    let mut world = world_with(dir, "topic readwrite #\n", "", &sinks);
    let mut delay = PropertyBuf::new();
    delay.push(Property::WillDelayInterval(1_800));
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "to/kafka/will",
        payload: b"will",
        properties: delay.as_properties(),
    };
    let (conn, code) = connect_kept(&mut world, Some(will));
    assert_eq!(code, 0);
    assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[("t", queues::QOS_1)]), [1]);
    hang_up(&mut world, conn);
    let (publisher, _) = connect_as(&mut world, hello("p", Properties::EMPTY));
    subscribe::publish(
        &mut world,
        publisher,
        Version::V5,
        Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message("t", "x") },
    );
    world.advance(Duration::from_millis(100));
    hang_up(&mut world, publisher);
    world.turn();
    assert_eq!([ShardMetric::Sessions, ShardMetric::CopiesQueued].map(|of| world.number(of)), [1, 1]);
    world
}

fn connect_kept(world: &mut World, will: Option<Will<'_>>) -> (ConnId, u8) {
    let mut expiry = PropertyBuf::new();
    expiry.push(Property::SessionExpiryInterval(3_600));
    let connect = Connect { will, clean_start: false, ..hello("c", expiry.as_properties()) };
    let conn = send_connect(world, connect);
    world.advance(Duration::from_millis(10));
    let connack = world.sent(conn);
    assert_eq!(connack[0], 0x20);
    (conn, connack[3])
}

fn write_users(dir: &tempfile::TempDir, users: &[(&str, &[u8])]) {
    let line = |(user, password): &(&str, &[u8])| format!("{user}:{}\n", sha512_of(password).expect("random numbers"));
    std::fs::write(dir.path().join("passwords"), users.iter().map(line).collect::<String>()).expect("written");
}

/// Finding S3, S11: with a user her kept sessions end, and her will is not published, then or when it is due.
#[test]
fn finding_s3_s11_sessions_of_a_removed_user_end_and_her_wills_are_not_published() {
    for (spool, restarts) in [(false, false), (true, false), (true, true)] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = kept_with_will(&dir, spool);
        write_users(&dir, &[("bob", b"bob")]);
        if restarts {
            world.power_cut();
        } else {
            world.reload();
        }
        world.advance(Duration::from_secs(1));
        let numbers = [ShardMetric::Sessions, ShardMetric::CopiesQueued, ShardMetric::StoredMessages];
        assert_eq!(numbers.map(|of| world.number(of)), [0; 3], "spool: {spool}, restarts: {restarts}");
        assert_eq!(world.told(EventKind::AccessRevoked), 1);
        assert_eq!(world.number(ShardMetric::AccessRevoked), 1);
        // Nor is there anything of it after another start.
        if spool {
            world.power_cut();
        }
        write_users(&dir, &[("ada", b"ada")]);
        world.reload();
        world.advance(Duration::from_secs(4_000));
        assert_eq!((world.number(ShardMetric::Wills), arrived(&world)), (0, 0));
        let (conn, code) = connect_kept(&mut world, None);
        assert_eq!((code, world.number(ShardMetric::Sessions), world.sent(conn)), (0, 1, Vec::new()));
    }
}

/// One who is connected is disconnected, and nothing is kept of her.
#[test]
fn finding_s3_s11_so_does_the_session_of_one_who_is_connected() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic readwrite #\n", "");
    let properties = Properties::EMPTY;
    let will = Will { qos: QoS::AtLeastOnce, retain: false, topic: "w", payload: b"will", properties };
    let (conn, _) = connect_kept(&mut world, Some(will));
    write_users(&dir, &[("bob", b"bob")]);
    world.reload();
    assert!(world.table.wire(conn).closed);
    hang_up(&mut world, conn);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.number(ShardMetric::Sessions), 0);
    assert_eq!((world.number(ShardMetric::WillsDenied), arrived(&world)), (1, 0));
}

/// One with another password keeps her session, and what was left with the old one is not published.
#[test]
fn finding_s3_s11_a_will_that_was_left_with_another_password_is_not_published() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = kept_with_will(&dir, false);
    write_users(&dir, &[("ada", b"other")]);
    world.reload();
    world.advance(Duration::from_secs(2_000));
    assert_eq!(world.number(ShardMetric::Sessions), 1);
    assert_eq!((world.number(ShardMetric::WillsDenied), arrived(&world)), (1, 0));
    let (_, code) = connect_kept(&mut world, None);
    assert_eq!(code, 0x86, "the old password");
}

/// Of one of an earlier start it is known that she is a user still.
#[test]
fn finding_s3_s11_a_will_of_an_earlier_start_is_published_if_its_user_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = kept_with_will(&dir, true);
    world.power_cut();
    world.advance(Duration::from_secs(2_000));
    assert_eq!([ShardMetric::Sessions, ShardMetric::CopiesQueued].map(|of| world.number(of)), [1, 1]);
    assert_eq!((world.number(ShardMetric::Wills), arrived(&world)), (1, 1));
}

/// B14: what a new subscription gets of three retained messages of `ada`, one of them a will, when she may publish one of them still; and
/// when she may publish all again.
pub(crate) fn retained_by_one_who_lost_a_right(rules: &'static dyn Rules) -> (Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().expect("a folder");
    let sinks = small().replace("\"#\"", "\"to/kafka/#\"");
    let mut world = World::under(rules, &config(&dir, READ_BOTH, "", &sinks));
    let (publisher, _) = connect_as(&mut world, hello("p", Properties::EMPTY));
    for topic in ["mine/a", "mine/b"] {
        subscribe::publish(&mut world, publisher, Version::V5, Publish { retain: true, ..message(topic, "x") });
    }
    let properties = Properties::EMPTY;
    let will = Will { qos: QoS::AtMostOnce, retain: true, topic: "mine/will", payload: b"x", properties };
    let (leaves, _) = connect_as(&mut world, Connect { will: Some(will), ..hello("w", Properties::EMPTY) });
    hang_up(&mut world, leaves);
    let (subscriber, _) = connect_as(&mut world, hello("s", Properties::EMPTY));
    let replay = |world: &mut World| replayed(world, subscriber, 0, &[("mine/#", PLAIN)]);
    assert_eq!(replay(&mut world), ALL_THREE);
    assert_eq!(world.number(ShardMetric::RetainedDenied), 0);

    write_rules(&dir, "topic read mine/#\ntopic write mine/b\n");
    world.reload();
    let some = replay(&mut world);
    let denied = ALL_THREE.len() - some.len();
    assert_eq!(world.number(ShardMetric::RetainedDenied), denied as u64);
    assert_eq!(world.told(EventKind::AclDenied), denied);
    write_rules(&dir, READ_BOTH);
    world.reload();
    (some, replay(&mut world))
}

const ALL_THREE: [&str; 3] = ["mine/a x retain", "mine/b x retain", "mine/will x retain"];

#[test]
fn a_retained_message_is_sent_while_its_publisher_may_publish_it() {
    let (some, all) = retained_by_one_who_lost_a_right(&KEPT);
    assert_eq!(some, ["mine/b x retain"]);
    assert_eq!(all, ALL_THREE, "it was not ended");
}

/// B14: the publisher is known on the shard that retains its message, and after a power failure.
#[test]
fn the_publisher_of_a_retained_message_is_known_elsewhere_and_later() {
    const SHARDS: usize = 3;
    let dir = tempfile::tempdir().expect("a folder");
    let acl = dir.path().join("acl");
    std::fs::write(&acl, "topic readwrite mine/#\n").expect("written");
    let acl_file = acl.display();
    let more = format!(
        "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'anonymous'\nacl_file = '{acl_file}'\n"
    );
    let mut process = Process::spooled_as("0ms", &more, &KEPT, SHARDS);
    let (shard, publisher, _) = process.connect("p");
    let topics: Vec<String> = (0..9).map(|number| format!("mine/{number}")).collect();
    for (topic, packet_id) in topics.iter().zip(1..) {
        let publish = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id, ..message(topic, "x") };
        process.say(shard, publisher, &bytes_of(Version::V5, &Packet::Publish(publish)));
    }
    assert_eq!(process.number(ShardMetric::RetainedMessages), 9);
    let elsewhere = topics.iter().filter(|topic| owner(topic, SHARDS) != shard).count();
    assert!((1..9).contains(&elsewhere), "some here and some elsewhere");

    std::fs::write(&acl, "topic read mine/#\ntopic write mine/3\ntopic write mine/8\n").expect("written");
    process.power_cut(0);
    process.settle();
    assert_eq!(process.number(ShardMetric::RetainedMessages), 9);
    let (shard, subscriber, _) = process.connect("s");
    process.say(shard, subscriber, &subscribe_packet(Version::V5, 0, &[("mine/+", PLAIN)]));
    let heard = process.heard(shard, subscriber);
    let topic = |packet: Packet<'_>| if let Packet::Publish(of) = packet { Some(of.topic.to_owned()) } else { None };
    let mut heard: Vec<String> = packets(&heard).filter_map(topic).collect();
    heard.sort();
    assert_eq!(heard, ["mine/3", "mine/8"]);
    assert_eq!(process.number(ShardMetric::RetainedDenied), 7);
}

/// Finding S3, S8: a will counts among the messages of its user, and a user connects so often and no more.
#[test]
fn finding_s3_s8_wills_are_bounded_by_the_rate_of_their_user() {
    const CONNECTION_RATE_EXCEEDED: u8 = 0x9F;
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write #\n", "messages_s = 10");
    let (device, _) = connect_as(&mut world, hello("device", Properties::EMPTY));
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..300 {
        let (conn, code) = connect(&mut world, Some("w"));
        match code {
            0 => taken += 1,
            CONNECTION_RATE_EXCEEDED => refused += 1,
            other => panic!("{other:#x}"),
        }
        hang_up(&mut world, conn);
        world.advance(Duration::from_millis(10));
    }
    assert!((30..=40).contains(&taken) && refused > 200, "{taken} taken in 3 s, {refused} refused");
    world.advance(Duration::from_millis(100));
    assert_eq!(world.number(ShardMetric::Wills), taken);
    assert_eq!(arrived(&world), usize::try_from(taken).expect("few"));
    // What its wills have used up is gone for the others of this user.
    let five: Vec<u8> = (1..=5).flat_map(|id| publish("mine", id)).collect();
    world.bytes(device, &five);
    assert!(world.table.wire(device).paused);
    world.advance(Duration::from_secs(2));
    assert!(!world.table.wire(device).paused);
    // Before 5.0 there is one code for it.
    for _ in 0..20 {
        let conn = world.accept();
        let old = Connect { version: Version::V311, ..hello("c", Properties::EMPTY) };
        let mut bytes = Vec::new();
        encode::packet(Version::V311, &Packet::Connect(old), &mut bytes).expect("encoded");
        world.bytes(conn, &bytes);
        let connack = world.sent(conn);
        assert!([0, 3].contains(&connack[3]), "{connack:?}");
        refused += u64::from(connack[3] == 3);
    }
    assert!(refused > 200);
}

/// Finding S3, S8: with a bound of its own for CONNECTs, and wills of clients that keep their sessions.
#[test]
fn finding_s3_s8_connects_have_a_bound_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write #\n", "connects_s = 100");
    let mut taken = 0;
    for _ in 0..1_000 {
        let (conn, code) = connect(&mut world, Some("w"));
        taken += u32::from(code == 0);
        hang_up(&mut world, conn);
        world.advance(Duration::from_millis(1));
    }
    assert!((100..=201).contains(&taken), "{taken} in a second");
}

/// X53: over its rate a user's connections are not read, all of them, until there is room; nothing is lost.
#[test]
fn a_user_above_its_rate_is_left_unread_for_a_while() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine\n", "messages_s = 10");
    let (conn, _) = connect(&mut world, None);
    let burst: Vec<u8> = (1..=30).flat_map(|id| publish("mine", id)).collect();
    world.bytes(conn, &burst);
    assert!(world.table.wire(conn).paused);
    assert_eq!(world.number(ShardMetric::RatePauses), 1);
    world.advance(Duration::from_millis(1_500));
    assert!(world.table.wire(conn).paused, "30 messages are the share of three seconds, one of which may come at once");
    world.advance(Duration::from_millis(1_000));
    assert!(!world.table.wire(conn).paused);
    assert_eq!((arrived(&world), world.sent(conn).len()), (30, 30 * 4));
}

/// Whatever else it waits for meanwhile: here for its next quantum.
#[test]
fn finding_s3_who_waits_for_something_else_owes_its_rate_still() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine\n", "messages_s = 10");
    world.table.quantum = Some(20);
    world.table.serve_next();
    let conn = world.accept();
    let connect = bytes_of(Version::V5, &Packet::Connect(hello("c", Properties::EMPTY)));
    let all = [connect, (1..=60).flat_map(|id| publish("mine", id)).collect()].concat();
    world.bytes(conn, &all);
    for tenths in 1..=80 {
        world.advance(Duration::from_millis(100));
        assert!(arrived(&world) <= 10 + tenths + 20, "{} after {tenths} tenths of a second", arrived(&world));
    }
    assert_eq!(arrived(&world), 60);
}

#[test]
fn finding_s3_filters_count_in_the_rate_of_a_user() {
    let dir = tempfile::tempdir().expect("a folder");
    for first in [0x82, 0xA2] {
        let mut world = world(&dir, "topic read mine/#\n", "messages_s = 10");
        let (conn, _) = connect(&mut world, None);
        let options: &[u8] = if first == 0x82 { &[0] } else { &[] };
        let filters = (0..30_u8).flat_map(|number| [b"\0\x06mine/", &[b'a' + number % 26][..], options].concat());
        let body: Vec<u8> = [0, 1, 0].into_iter().chain(filters).collect();
        let packet = [&[first, 0x80 | (body.len() % 128) as u8, (body.len() / 128) as u8], &body[..]].concat();
        world.bytes(conn, &packet);
        assert!(world.table.wire(conn).paused && !world.sent(conn).is_empty(), "{first:x}");
        assert_eq!(world.number(ShardMetric::RatePauses), 1);
    }
}

/// QoS 1 messages of this publisher to these topics, numbered from `id` on.
fn publish_all(world: &mut World, publisher: ConnId, id: u16, topics: &[&str]) {
    for (packet_id, topic) in (id..).zip(topics) {
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id, ..message(topic, "x") };
        subscribe::publish(world, publisher, Version::V5, publish);
    }
}

const READ_BOTH: &str = "topic write mine/#\ntopic read mine/#\n";
const READ_ONE: &str = "topic write mine/#\ntopic read mine/kept\n";
const AT_LEAST_ONCE: SubscriptionOptions = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };

/// Its session is kept.
fn kept() -> PropertyBuf {
    let mut kept = PropertyBuf::new();
    kept.extend([Property::SessionExpiryInterval(1_000)]);
    kept
}

/// A client with a kept session subscribes and goes. A publisher.
fn one_is_away(world: &mut World) -> ConnId {
    let (conn, _) = connect_as(world, hello("c", kept().as_properties()));
    assert_eq!(subscribe(world, conn, Version::V5, 0, &[("mine/+", AT_LEAST_ONCE)]), [1]);
    let (publisher, _) = connect_as(world, hello("p", Properties::EMPTY));
    hang_up(world, conn);
    publisher
}

/// X43: of what waits for a kept session while its client is away, the client gets what it may read when it comes back,
/// whether that was published before the rules changed or after.
#[test]
fn a_client_that_comes_back_gets_what_it_may_read_now() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, READ_BOTH, "");
    let publisher = one_is_away(&mut world);
    publish_all(&mut world, publisher, 1, &["mine/lost", "mine/kept"]);
    write_rules(&dir, READ_ONE);
    world.reload();
    publish_all(&mut world, publisher, 3, &["mine/lost", "mine/kept", "mine/lost"]);
    let conn = send_connect(&mut world, Connect { clean_start: false, ..hello("c", kept().as_properties()) });
    let all = heard(&mut world, conn, Version::V5);
    assert_eq!(all[1..], ["mine/kept x qos 1 id 2", "mine/kept x qos 1 id 4"], "{all:?}");
    assert_eq!(world.number(ShardMetric::CopiesDenied), 3);
    assert_eq!(told(&world), ["c, mine/lost, the client may not read its topic any more"]);
    // And from now on each message is looked at.
    publish_all(&mut world, publisher, 6, &["mine/lost", "mine/kept"]);
    assert_eq!(heard(&mut world, conn, Version::V5).len(), 1);
    assert_eq!(world.number(ShardMetric::CopiesDenied), 4);
}

/// Others are served between the pieces of it.
#[test]
fn finding_s3_a_long_queue_that_may_not_be_read_leaves_turns_to_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, READ_BOTH, "");
    let publisher = one_is_away(&mut world);
    let mut topics = vec!["mine/lost"; 700];
    topics.push("mine/kept");
    for (first, topics) in (1..).step_by(100).zip(topics.chunks(100)) {
        publish_all(&mut world, publisher, first, topics);
    }
    write_rules(&dir, READ_ONE);
    world.reload();
    let conn = world.accept();
    let kept = kept();
    let connect = Connect { clean_start: false, ..hello("c", kept.as_properties()) };
    world.table.serve_next();
    world.core.on_bytes(&mut world.table, conn, &bytes_of(Version::V5, &Packet::Connect(connect)));
    let (mut turns, mut denied) = (0, 0);
    while denied < 700 && turns < 10 {
        let now = world.table.now;
        while let Some(token) = world.table.next_timer(now) {
            world.core.on_timer(&mut world.table, token);
        }
        world.core.on_turn_end(&mut world.table);
        let more = world.number(ShardMetric::CopiesDenied) - denied;
        assert!((1..=512).contains(&more), "{more} in turn {turns}");
        (turns, denied) = (turns + 1, denied + more);
    }
    assert!((2..=4).contains(&turns) && denied == 700, "{turns} turns, {denied}");
    world.turn();
    let all = heard(&mut world, conn, Version::V5);
    assert_eq!(all[1..], ["mine/kept x qos 1 id 701"], "{all:?}");
}

/// What may be read is asked when a client comes back. A start does not know that yet, and drops nothing.
#[test]
fn what_waits_for_a_kept_session_outlives_a_start() {
    for (rules, share) in [("", ""), ("acl_file", ""), ("", "$share/g/")] {
        let dir = tempfile::tempdir().expect("a folder");
        let acl = dir.path().join("acl");
        std::fs::write(&acl, "topic readwrite mine/#\n").expect("written");
        let acl_file = if rules.is_empty() { String::new() } else { format!("acl_file = '{}'", acl.display()) };
        let more =
            format!("[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'anonymous'\n{acl_file}\n");
        let mut process = Process::spooled_as("0ms", &more, &KEPT, 1);
        let (shard, subscriber, _) = process.connect("s");
        let filter = format!("{share}mine/+");
        let two = SubscriptionOptions { qos: QoS::ExactlyOnce, ..PLAIN };
        process.say(shard, subscriber, &subscribe_packet(Version::V5, 0, &[(&filter, two)]));
        process.lose(shard, subscriber);
        let say = |process: &mut Process, packet_id, payload| {
            let (shard, publisher, _) = process.connect("p");
            let qos = if packet_id % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            let publish = Publish { qos, packet_id, ..message("mine/a", payload) };
            process.say(shard, publisher, &bytes_of(Version::V5, &Packet::Publish(publish)));
            let answer = process.heard(shard, publisher);
            assert_eq!(answer, [if packet_id % 2 == 0 { 0x50 } else { 0x40 }, 2, 0, packet_id as u8]);
        };
        say(&mut process, 1, "1");
        say(&mut process, 2, "2");
        process.power_cut(0);
        process.settle();
        say(&mut process, 3, "3");
        say(&mut process, 4, "4");
        let (shard, subscriber, mut behind) = process.connect("s");
        behind.extend(process.heard(shard, subscriber));
        let payload = |packet: Packet<'_>| match packet {
            Packet::Publish(of) => Some(String::from_utf8_lossy(of.payload).into_owned()),
            _ => None,
        };
        let got: Vec<_> = packets(&behind).filter_map(payload).collect();
        assert_eq!(got, ["1", "2", "3", "4"], "{filter} {rules}");
        assert_eq!(process.number(ShardMetric::CopiesDenied), 0);
    }
}

/// Rules that grant more hold for who is away as well.
#[test]
fn what_is_published_after_a_client_was_granted_more_waits_for_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, READ_ONE, "");
    let publisher = one_is_away(&mut world);
    write_rules(&dir, READ_BOTH);
    world.reload();
    publish_all(&mut world, publisher, 1, &["mine/lost", "mine/kept"]);
    let conn = send_connect(&mut world, Connect { clean_start: false, ..hello("c", kept().as_properties()) });
    let all = heard(&mut world, conn, Version::V5);
    assert_eq!(all[1..], ["mine/lost x qos 1 id 1", "mine/kept x qos 1 id 2"], "{all:?}");
    assert_eq!(world.number(ShardMetric::CopiesDenied), 0);
}

/// X43: the same for a client that is connected and has not acknowledged enough to be sent more.
#[test]
fn what_waits_for_an_acknowledgement_is_not_sent_once_it_may_not_be_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, READ_BOTH, "");
    let mut one = PropertyBuf::new();
    one.extend([Property::ReceiveMaximum(1)]);
    let (conn, _) = connect_as(&mut world, hello("c", one.as_properties()));
    assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[("mine/+", AT_LEAST_ONCE)]), [1]);
    let (publisher, _) = connect_as(&mut world, hello("p", Properties::EMPTY));
    publish_all(&mut world, publisher, 1, &["mine/lost", "mine/lost", "mine/kept"]);
    assert_eq!(heard(&mut world, conn, Version::V5), ["mine/lost x qos 1 id 1"], "sent while it might be read");
    write_rules(&dir, READ_ONE);
    world.reload();
    world.bytes(conn, &[0x40, 2, 0, 1]);
    assert_eq!(heard(&mut world, conn, Version::V5), ["mine/kept x qos 1 id 3"]);
    assert_eq!(world.number(ShardMetric::CopiesDenied), 1);
}

/// X43: the same for a message whose copies are made over several turns.
#[test]
fn copies_that_are_left_for_the_next_turn_are_made_by_its_rules() {
    let dir = tempfile::tempdir().expect("a folder");
    // No sink takes the message: each answer of Kafka would be another turn.
    let mut world = world_with(&dir, READ_BOTH, "", &small().replace("\"#\"", "\"other\""));
    let (publisher, _) = connect_as(&mut world, hello("p", Properties::EMPTY));
    let all = 2 * COPIES_PER_TURN / COPIES_PER_WRITE;
    for n in 0..all {
        let (conn, _) = connect_as(&mut world, hello(&format!("c{n}"), Properties::EMPTY));
        assert_eq!(subscribe(&mut world, conn, Version::V5, 0, &[("mine/+", PLAIN)]), [0]);
    }
    publish_all(&mut world, publisher, 1, &["mine/lost"]);
    let sent = world.number(ShardMetric::CopiesSent);
    assert!(sent < all as u64, "some are left");
    write_rules(&dir, READ_ONE);
    world.reload();
    world.advance(Duration::from_millis(1));
    assert_eq!(world.number(ShardMetric::CopiesSent), sent);
    assert_eq!(world.number(ShardMetric::CopiesDenied), all as u64 - sent);
}

/// What a shard says of a client.
fn asked(world: &mut World, ask: Ask) -> Told {
    let (said, heard) = std::sync::mpsc::channel();
    world.mail(Mail::Shard(ToShard::Inspect(Inspection { ask, answer: Box::new(move |told| drop(said.send(told))) })));
    world.turn();
    heard.try_recv().expect("an answer")
}

/// Finding S12: a client of another listener, also of an open one, does not touch a kept session by using its client identifier.
#[test]
fn finding_s12_a_client_of_another_listener_does_not_end_a_kept_session() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = "[[listener]]\nbind = '127.0.0.1:1884'\n";
    let text = config(&dir, "topic readwrite #", "", &small());
    let mut world = World::new(&text.replacen("[auth.a]", &format!("{open}[auth.a]"), 1));
    let mut kept = PropertyBuf::new();
    kept.extend([Property::SessionExpiryInterval(3_600)]);
    let ada = Connect { clean_start: false, ..hello("c", kept.as_properties()) };
    let (device, _) = connect_as(&mut world, ada.clone());
    subscribe(&mut world, device, Version::V5, 0, &[("t", SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN })]);
    hang_up(&mut world, device);
    // The same client identifier where everyone may connect, with a clean start; twice, so that it takes itself over.
    for _ in 0..2 {
        let conn = world.accept_at(ListenerId(1));
        let stranger = Connect { username: None, password: None, ..hello("c", kept.as_properties()) };
        world.bytes(conn, &bytes_of(Version::V5, &Packet::Connect(stranger)));
        assert_eq!(world.sent(conn)[3], 0);
        let waits = Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message("t", "waits") };
        subscribe::publish(&mut world, conn, Version::V5, waits);
    }
    let of = |auth: Option<&str>| NamedClient { client_id: "c".to_owned(), auth: auth.map(str::to_owned) };
    let Told::SeveralClients(auths) = asked(&mut world, Ask::Client(of(None))) else { panic!("two have it") };
    assert_eq!(auths, ["", "a"]);
    let Told::Client(Some(client)) = asked(&mut world, Ask::Client(of(Some("a")))) else { panic!("it is there") };
    assert_eq!((client.auth.as_deref(), client.queued.messages, client.subscriptions), (Some("a"), 2, 1));
    assert!(matches!(asked(&mut world, Ask::Forget(of(Some("")))), Told::Done(true)));
    let device = send_connect(&mut world, ada);
    let mut sent = world.sent(device);
    world.advance(Duration::from_millis(10));
    sent.extend(world.sent(device));
    let waited = packets(&sent).filter(|packet| matches!(packet, Packet::Publish(_))).count();
    assert_eq!(waited, 2, "its session is there with all that waited");
}
