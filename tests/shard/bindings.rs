//! Bindings on a shard: messages of a remote for the application, and of the application for the remote.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::bridge::Out;
use forebay::config::{Bridge, BridgeOut, Feed};
use forebay::dapr::{Answer, Ask, Binding, Call, Create, Gives, OnFailure, Outcome, Takes};
use forebay::limits::CALL_BYTES_MAX;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::BridgeMetric;
use forebay::mqtt::packet::{Ack, Packet, QoS, SubAck};
use forebay::mqtt::property::Properties;
use forebay::mqtt::reason::ReasonCode;
use forebay::shard::mail::Mail;

use crate::remotes::{Remote, ack, bridge, connack, in_memory, qos, template};
use crate::world::calls;

/// A binding to `plant/#`, both ways.
fn binding() -> Bridge {
    let gives = Gives { topic: Some("t".to_owned()), qos: 1, retain: false };
    let takes = Takes {
        route: "b".to_owned(),
        is_asked: true,
        retries: Some(0),
        concurrency: NonZeroUsize::MIN,
        on_failure: OnFailure::File,
    };
    let (component, kind) = ("b".to_owned(), "bindings.mqtt");
    let binding = Binding { component, kind, is_brought: false, gives: Some(gives), takes: Some(takes) };
    let all = |name: &str| template(&format!("${{{name}}}"));
    let gives = Out { topic: all("topic"), qos: all("qos"), retain: all("retain"), payload: all("payload") };
    let create = BridgeOut { name: "create".to_owned(), filters: Vec::new(), gives };
    let mut all = Bridge { binding: Some(Arc::new(binding)), outs: vec![create], ..bridge() };
    (all.ins[0].feeds, all.ins[0].takes.topic) = (Vec::new(), template("${topic}"));
    all
}

/// The remote of a binding that it has accepted; the application wants messages.
fn bound() -> Remote {
    bound_as(binding())
}

fn bound_as(binding: Bridge) -> Remote {
    let mut remote = Remote::new(&in_memory().replace("in/#", "#"), binding);
    remote.says(&[connack(false)]);
    assert!(remote.hears().is_empty(), "nobody wants its messages yet");
    remote.world.mail(Mail::Binding(Ask::Wanted { bridge: 0 }));
    assert_eq!(remote.hears(), ["subscribe plant/#"]);
    remote.says(&[Packet::SubAck(SubAck { packet_id: u16::MAX, codes: &[2], properties: Properties::EMPTY })]);
    remote
}

fn called(remote: &mut Remote, call: &Call, is_over: bool) {
    let Call { ticket, bytes, .. } = *call;
    remote.world.mail(Mail::Binding(Ask::Called { bridge: 0, ticket, bytes, is_over }));
}

type Said = Arc<Mutex<Option<Outcome>>>;

/// Publishes by the binding; what became of the message is said later.
fn create(remote: &mut Remote, number: u64, payload: &str, qos: u8) -> Said {
    let said = Said::default();
    let told = Arc::clone(&said);
    let answer = Answer::new(move |outcome| *told.lock().expect("whole") = Some(outcome));
    let (topic, payload) = ("site/a".to_owned(), payload.as_bytes().to_vec());
    let create = Create { bridge: 0, number, topic, payload, qos, retain: false, answer };
    remote.world.mail(Mail::Binding(Ask::Create(create)));
    said
}

fn said(said: &Said) -> Option<Outcome> {
    said.lock().expect("whole").clone()
}

/// D26, G19: the remote is told when the application has the message, in order, and not before.
#[test]
fn the_remote_is_answered_when_the_application_has_the_message() {
    let mut remote = bound();
    remote.says(&[qos(QoS::AtLeastOnce, 1, "plant/1", "a"), qos(QoS::ExactlyOnce, 2, "plant/2", "b")]);
    remote.says(&[qos(QoS::AtMostOnce, 0, "plant/3", "c")]);
    let all = calls();
    let shown: Vec<_> = all.iter().map(|call| (&*call.topic, &*call.payload, call.ticket.is_some())).collect();
    assert_eq!(shown, [("plant/1", &b"a"[..], true), ("plant/2", b"b", true), ("plant/3", b"c", false)]);
    assert!(remote.hears().is_empty());
    called(&mut remote, &all[1], true);
    assert!(remote.hears().is_empty(), "answers keep their order");
    called(&mut remote, &all[2], true);
    called(&mut remote, &all[0], true);
    assert_eq!(remote.hears(), ["puback 1", "pubrec 2"]);
    remote.says(&[Packet::PubRel(ack(2))]);
    assert_eq!(remote.hears(), ["pubcomp 2"]);
    assert_eq!(remote.number(BridgeMetric::Received), 3);
    assert!(remote.world.broker.records.is_empty(), "it is for no sink");
}

/// G19: a message that is kept is never acknowledged, and the next connection gets no answer for one of the last.
#[test]
fn what_is_kept_stays_with_the_remote() {
    let mut remote = bound();
    remote.says(&[qos(QoS::AtLeastOnce, 1, "plant/1", "a"), qos(QoS::AtLeastOnce, 2, "plant/1", "b")]);
    let all = calls();
    called(&mut remote, &all[0], false);
    assert!(remote.hears().is_empty());
    remote.cut();
    called(&mut remote, &all[1], true);
    remote.again();
    remote.says(&[connack(true)]);
    assert_eq!(remote.hears(), ["subscribe plant/#"]);
    remote.says(&[qos(QoS::AtLeastOnce, 1, "plant/1", "a")]);
    let again = calls();
    assert_eq!(again.len(), 1);
    called(&mut remote, &again[0], true);
    assert_eq!(remote.hears(), ["puback 1"]);
}

/// G20: messages that feed sinks as well are acknowledged when the application has them and Kafka, whichever is the later.
#[test]
fn an_acknowledgement_waits_for_the_application_and_for_the_sinks() {
    let mut fed = binding();
    fed.ins[0].feeds = vec![Feed::Sinks];
    let mut remote = bound_as(fed);
    remote.world.kafka_down();
    remote.says(&[qos(QoS::AtLeastOnce, 1, "plant/1", "a"), qos(QoS::ExactlyOnce, 2, "plant/2", "b")]);
    let all = calls();
    assert_eq!(all.iter().map(|call| &*call.topic).collect::<Vec<_>>(), ["plant/1", "plant/2"], "topics of the remote");
    called(&mut remote, &all[0], true);
    remote.world.advance(Duration::from_secs(1));
    assert!(remote.hears().is_empty(), "Kafka does not have the first");
    remote.world.kafka_up = true;
    remote.world.advance(Duration::from_secs(5));
    assert_eq!(remote.hears(), ["puback 1"], "the application does not have the second");
    // A repeat is no second call.
    remote.says(&[qos(QoS::ExactlyOnce, 2, "plant/2", "b")]);
    assert!(calls().is_empty());
    called(&mut remote, &all[1], true);
    assert_eq!(remote.hears(), ["pubrec 2"]);
    let mut values: Vec<_> = remote.world.broker.records.iter().map(|(.., value)| value.clone()).collect();
    values.sort();
    assert_eq!(values, [b"a", b"b"]);
    // What no sink takes waits for the application alone, and QoS 0 for nobody.
    remote.says(&[Packet::PubRel(ack(2)), qos(QoS::AtMostOnce, 0, "plant/3", "c")]);
    assert_eq!(calls().len(), 1);
    remote.world.advance(Duration::from_secs(1));
    assert_eq!((remote.world.broker.records.len(), remote.number(BridgeMetric::Received)), (3, 3));
}

/// G19: with `onFailure: keep` a binding that will stand still is warned of, once a connection.
#[test]
fn a_binding_that_keeps_many_messages_is_warned_of() {
    for (concurrency, warned_at) in [(5, 4), (1_000, 16)] {
        let mut kept = binding();
        let mut of = kept.binding.as_deref().cloned().expect("a binding");
        of.takes.as_mut().expect("an input").concurrency = NonZeroUsize::new(concurrency).expect("some");
        (kept.binding, kept.receive_maximum) = (Some(Arc::new(of)), 100);
        let mut remote = bound_as(kept);
        for connection in 1..=2 {
            for number in 1..=20 {
                remote.says(&[qos(QoS::AtLeastOnce, number, "plant/1", "a")]);
                let call = calls().remove(0);
                called(&mut remote, &call, false);
                let told = connection - 1 + usize::from(number >= warned_at);
                assert_eq!(remote.world.told(EventKind::BindingKeeps), told, "{concurrency} {connection} {number}");
            }
            remote.cut();
            remote.again();
            remote.says(&[connack(true)]);
        }
    }
}

/// G20: without room for more the remote's connection is not read, and nothing is lost.
#[test]
fn what_waits_for_the_application_is_bounded() {
    let mut remote = bound();
    const LARGE: usize = 3 << 18;
    let large: &'static str = "x".repeat(LARGE).leak();
    let fit = CALL_BYTES_MAX / (LARGE + 1_000);
    for _ in 0..fit + 2 {
        remote.says(&[qos(QoS::AtMostOnce, 0, "plant/1", large)]);
    }
    remote.says(&[qos(QoS::AtLeastOnce, 1, "plant/1", "last")]);
    let mut all = calls();
    assert_eq!(all.len(), fit, "one more would be too much");
    assert!(remote.world.table.wire(remote.conn).paused, "and is left unread");
    let mut count = 0;
    while !all.is_empty() {
        let call = all.remove(0);
        called(&mut remote, &call, true);
        all.extend(calls());
        count += 1;
        assert!(all.iter().filter(|call| call.bytes > LARGE).count() <= fit);
    }
    assert_eq!((count, remote.hears()), (fit + 3, vec!["puback 1".to_owned()]));
}

/// D27, G18: an application hears of its message what the remote says of it.
#[test]
fn what_is_created_is_answered_by_the_remote() {
    let mut remote = bound();
    let first = create(&mut remote, 1, "a", 1);
    let second = create(&mut remote, 2, "b", 2);
    let third = create(&mut remote, 3, "c", 0);
    assert_eq!(remote.hears(), ["site/a a qos1 1", "site/a b qos2 2", "site/a c qos0 0"]);
    remote.world.turn();
    assert_eq!((said(&first), said(&second), said(&third)), (None, None, Some(Outcome::Done)));
    remote.says(&[Packet::PubRec(ack(2)), Packet::PubAck(ack(1))]);
    assert_eq!((said(&first), said(&second)), (Some(Outcome::Done), Some(Outcome::Done)));
    assert_eq!(remote.hears(), ["pubrel 2"]);
    let refused = create(&mut remote, 4, "d", 1);
    remote.hears();
    let no = Ack { packet_id: 3, reason: ReasonCode::NOT_AUTHORIZED, properties: Properties::EMPTY };
    remote.says(&[Packet::PubAck(no)]);
    assert!(matches!(said(&refused), Some(Outcome::Failed(why)) if why.starts_with("the remote refuses the message")));
}

/// G18: what was not sent is withdrawn, and never sent; of what was sent the outcome is unknown, until the next connection has brought it.
#[test]
fn what_is_withdrawn_was_not_sent() {
    let mut remote = bound();
    let sent = create(&mut remote, 1, "a", 1);
    let lost = create(&mut remote, 2, "b", 1);
    assert_eq!(remote.hears(), ["site/a a qos1 1", "site/a b qos1 2"]);
    remote.cut();
    let waiting = create(&mut remote, 3, "c", 1);
    let none = create(&mut remote, 4, "d", 0);
    let withdraw = |remote: &mut Remote, number| remote.world.mail(Mail::Binding(Ask::Withdraw { bridge: 0, number }));
    for (number, of) in [(3, &waiting), (4, &none)] {
        assert_eq!(said(of), None);
        withdraw(&mut remote, number);
        assert!(
            matches!(said(of), Some(Outcome::Failed(why)) if why.ends_with("the message was not sent")),
            "{number}"
        );
    }
    withdraw(&mut remote, 2);
    assert!(matches!(said(&lost), Some(Outcome::Unknown(why)) if why.starts_with("outcome unknown")));
    remote.again();
    remote.says(&[connack(true)]);
    let heard = remote.hears();
    assert_eq!(heard, ["site/a a qos1 1 dup", "site/a b qos1 2 dup", "subscribe plant/#"], "and neither c nor d");
    remote.says(&[Packet::PubAck(ack(1)), Packet::PubAck(ack(2))]);
    assert_eq!(said(&sent), Some(Outcome::Done));
}
