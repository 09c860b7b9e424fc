//! What the control plane is told of bridges.

use std::time::Duration;

use forebay::config::Bridge;
use forebay::metrics::inspect::{Ask, BridgeOnShard, BridgeState, NamedClient, Told, WantedClients};
use forebay::metrics::spec::{BridgeMetric, ShardMetric};
use forebay::mqtt::packet::{ConnAck, Packet, QoS, SubAck, Version};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::shard::mail::{Inspection, Mail, ToShard};

use super::remotes::{Remote, bridge, connack, in_memory, outgoing, qos};
use super::subscribe::{PLAIN, bytes_of, subscribe};

pub(super) fn asked(remote: &mut Remote, ask: Ask) -> Told {
    let (said, heard) = std::sync::mpsc::channel();
    remote
        .world
        .mail(Mail::Shard(ToShard::Inspect(Inspection { ask, answer: Box::new(move |told| drop(said.send(told))) })));
    remote.world.turn();
    heard.try_recv().expect("an answer")
}

/// The bridge, which is the first.
fn shown(remote: &mut Remote) -> BridgeOnShard {
    let Told::Bridges(mut all) = asked(remote, Ask::Bridges { bridge: Some(0) }) else { panic!("of bridges") };
    assert_eq!(all.len(), 1);
    let on_board = BridgeState::of(remote.number(BridgeMetric::State));
    let shown = all.remove(0);
    assert_eq!(shown.state, on_board);
    shown
}

fn two_filters() -> Bridge {
    let mut bridge = bridge();
    bridge.ins[0].takes.filters = vec!["plant/#".into(), "secret/#".into()];
    bridge
}

fn suback(codes: &[u8]) -> Packet<'_> {
    Packet::SubAck(SubAck { packet_id: u16::MAX, codes, properties: Properties::EMPTY })
}

/// What the remote has granted is shown as it has said it, and each filter with its answer.
#[test]
fn a_remote_is_shown_with_what_it_grants_and_refuses() {
    let mut remote = Remote::new(&in_memory(), two_filters());
    let at_first = shown(&mut remote);
    assert_eq!((at_first.state, &at_first.reason, &at_first.granted), (BridgeState::Connecting, &None, &None));
    let mut properties = PropertyBuf::new();
    for property in [
        Property::ReceiveMaximum(7),
        Property::MaximumQoS(1),
        Property::ServerKeepAlive(30),
        Property::MaximumPacketSize(5_000),
        Property::SessionExpiryInterval(60),
        Property::RetainAvailable(false),
        Property::SharedSubscriptionAvailable(false),
    ] {
        properties.push(property);
    }
    let said = ConnAck { session_present: false, reason: ReasonCode::SUCCESS, properties: properties.as_properties() };
    remote.says(&[Packet::ConnAck(said)]);
    let filters = |of: &BridgeOnShard| of.filters.iter().map(|of| (of.qos, of.standing)).collect::<Vec<_>>();
    let before = shown(&mut remote);
    assert_eq!((before.state, filters(&before)), (BridgeState::Connected, vec![(2, None); 2]), "no SUBACK yet");
    remote.says(&[suback(&[1, 0x87])]);
    remote.world.advance(Duration::from_millis(900));
    remote.world.advance(Duration::from_millis(900));
    let after = shown(&mut remote);
    assert_eq!(after.state, BridgeState::Partial);
    assert_eq!(after.reason.as_deref(), Some("the remote refuses \"secret/#\" (Not authorized)"));
    assert_eq!(filters(&after), [(2, Some(Ok(1))), (2, Some(Err("Not authorized")))]);
    assert_eq!((&*after.filters[1].filter, after.since_s, &after.trouble), ("secret/#", 1, &None));
    let granted = after.granted.expect("it is connected");
    assert_eq!((granted.protocol, granted.session_present, granted.keep_alive_s), ("5.0", false, 30));
    assert_eq!((granted.in_flight_max, granted.maximum_qos, granted.packet_bytes_max), (7, 1, Some(5_000)));
    assert_eq!((granted.session_expiry_s, granted.is_bridge), (Some(60), false));
    assert_eq!((granted.retain_available, granted.wildcards_available, granted.shared_available), (false, true, false));
    assert_eq!(after.unacknowledged.messages_max, 7);
    // The list is without filters.
    let Told::Bridges(list) = asked(&mut remote, Ask::Bridges { bridge: None }) else { panic!("of bridges") };
    assert_eq!((list.len(), list[0].filters.len(), list[0].state), (1, 0, BridgeState::Partial));
    let Told::Bridges(none) = asked(&mut remote, Ask::Bridges { bridge: Some(7) }) else { panic!("of bridges") };
    assert!(none.is_empty());
}

/// A bridge without a connection says why, and for how long.
#[test]
fn a_bridge_without_a_connection_says_why() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    assert_eq!(shown(&mut remote).state, BridgeState::Connected);
    remote.cut();
    remote.world.advance(Duration::from_millis(10));
    let lost = shown(&mut remote);
    assert_eq!((lost.state, lost.granted, lost.since_s), (BridgeState::Connecting, None, 0), "nothing was tried");
    assert!(lost.reason.is_some() && lost.trouble.as_ref().map(|(why, _)| why) == lost.reason.as_ref());
    // The socket is not even connected.
    remote.world.advance(Duration::from_secs(5));
    remote.conn = outgoing(&remote.world);
    remote.cut();
    let away = shown(&mut remote);
    assert_eq!((away.state, away.since_s), (BridgeState::Unreachable, 5));
    remote.again();
    let reason = ReasonCode::BAD_USER_NAME_OR_PASSWORD;
    remote.says(&[Packet::ConnAck(ConnAck { session_present: false, reason, properties: Properties::EMPTY })]);
    let refused = shown(&mut remote);
    assert_eq!(refused.state, BridgeState::Refused);
    assert!(refused.reason.is_some_and(|why| why.contains("Bad User Name or Password")));
    remote.again();
    remote.accepts(false);
    remote.world.advance(Duration::from_secs(1));
    let back = shown(&mut remote);
    assert_eq!((back.state, back.reason), (BridgeState::Connected, None));
    assert!(back.trouble.is_some_and(|(why, ago)| why.contains("Bad User Name") && ago > 1), "it is remembered");
}

/// What waits for the remote, and what is on its way.
#[test]
fn what_waits_for_a_remote_is_shown_with_its_bounds() {
    let mut remote = Remote::new(&in_memory(), bridge());
    let device = remote.world.device("d", 0);
    let publish = |remote: &mut Remote, id| {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(QoS::AtLeastOnce, id, "alarm/1", "x")));
    };
    publish(&mut remote, 1);
    remote.world.advance(Duration::from_secs(3));
    publish(&mut remote, 2);
    let away = shown(&mut remote);
    assert_eq!((away.queued.messages, away.queued.messages_max, away.queued.oldest_s), (2, 3, Some(3)));
    assert_eq!((away.queued_bytes_max, away.unacknowledged.messages), (1 << 20, 0));
    assert!(away.queued_bytes > 0);
    remote.accepts(false);
    let sent = shown(&mut remote);
    assert_eq!((sent.queued.messages, sent.unacknowledged.messages, sent.queued_bytes), (0, 2, 0));
    assert_eq!(sent.unacknowledged.oldest_s, Some(3));
}

/// A remote is no client: it is in no list of clients and their subscriptions, it is not counted among them, and nobody ends it as one.
#[test]
fn the_session_of_a_bridge_is_no_clients() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.says(&[connack(true)]);
    assert_eq!((remote.world.number(ShardMetric::Sessions), remote.world.number(ShardMetric::Subscriptions)), (0, 0));
    let device = remote.world.device("d", 0);
    subscribe(&mut remote.world, device, Version::V311, 0, &[("alarm/#", PLAIN)]);
    assert_eq!((remote.world.number(ShardMetric::Sessions), remote.world.number(ShardMetric::Subscriptions)), (1, 1));
    let clients = Ask::Clients { from: 0, limit: 10, wanted: WantedClients::default() };
    let Told::Clients(clients) = asked(&mut remote, clients) else { panic!("of clients") };
    assert_eq!(clients.rows.iter().map(|of| &*of.client_id).collect::<Vec<_>>(), ["d"]);
    for (topic, filter) in [(None, None), (Some("alarm/1"), None), (None, Some("alarm/#"))] {
        let (topic, filter) = (topic.map(str::to_owned), filter.map(str::to_owned));
        let all = Ask::Subscriptions { from: 0, limit: 10, topic: topic.clone(), filter: filter.clone() };
        let Told::Subscriptions(all) = asked(&mut remote, all) else { panic!("of subscriptions") };
        let of: Vec<_> = all.rows.iter().map(|of| &*of.client_id).collect();
        assert_eq!(of, ["d"], "{topic:?} {filter:?}");
    }
    for auth in [None, Some("$bridges".to_owned())] {
        let named = NamedClient { client_id: "bridge/plant".to_owned(), auth };
        assert!(matches!(asked(&mut remote, Ask::Client(named.clone())), Told::Client(None)));
        assert!(matches!(asked(&mut remote, Ask::Disconnect(named.clone())), Told::Done(false)));
        assert!(matches!(asked(&mut remote, Ask::Forget(named)), Told::Done(false)));
    }
    assert_eq!(shown(&mut remote).state, BridgeState::Connected);
}
