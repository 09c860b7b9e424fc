//! Remotes before 5.0, which cannot say what they take.

use forebay::bridge::Versions;
use forebay::config::Bridge;
use forebay::metrics::event::{Field, Kind as EventKind};
use forebay::metrics::journal::Filter;
use forebay::metrics::spec::BridgeMetric;
use forebay::mqtt::packet::{Packet, Publish, QoS, Version};

use super::remotes::{Remote, ack, bridge, connack, in_memory, qos, words_in};
use super::subscribe::{bytes_of, message};

const OLD: Version = Version::V311;

/// A bridge of 3.1.1.
fn old() -> Bridge {
    Bridge { version: Versions::V311, queue_messages_max: 100, ..bridge() }
}

impl Remote {
    fn says_old(&mut self, packets: &[Packet<'_>]) {
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| bytes_of(OLD, packet)).collect();
        self.world.bytes(self.conn, &bytes);
    }

    fn hears_old(&mut self) -> Vec<String> {
        words_in(OLD, &self.world.sent(self.conn))
    }

    /// CONNACK of a remote that knows the session, and what it is sent but for SUBSCRIBE.
    fn accepts_old(&mut self) -> Vec<String> {
        self.says_old(&[connack(true)]);
        self.hears_old().into_iter().filter(|word| !word.starts_with("subscribe")).collect()
    }
}

/// Finding Q42: as many messages are on their way as mosquitto takes; if the remote closes the connection while several of QoS 2 are, half as many from
/// then on, and the event says so. It is no takeover.
#[test]
fn finding_q42_a_remote_that_takes_fewer_messages_is_sent_fewer() {
    let mut remote = Remote::new(&in_memory(), old());
    let device = remote.world.device("d", 0);
    for id in 1..=30 {
        remote.world.bytes(device, &bytes_of(OLD, &qos(QoS::ExactlyOnce, id, "alarm/1", "a")));
    }
    assert_eq!(remote.accepts_old().len(), 20);
    for (cuts, most) in (1..).zip([10, 5, 2, 1, 1]) {
        remote.cut();
        remote.again();
        let sent = remote.accepts_old();
        assert_eq!(sent.len(), most, "{sent:?}");
        let halved = remote.world.told(EventKind::BridgeOverrun);
        assert_eq!(halved, cuts.min(4), "one that takes no message is another case");
    }
    assert_eq!(remote.world.told(EventKind::BridgeTakenOver), 0);
    // The event that blames another client names what may be too large for the remote as well.
    remote.cut();
    remote.again();
    remote.accepts_old();
    remote.world.journal.collect();
    let page = remote.world.journal.page(&Filter::default());
    let told = page.events.iter().find(|(_, event)| event.kind == EventKind::BridgeTakenOver).expect("an event");
    assert_eq!(told.1.text(Field::MqttTopic), Some("alarm/1"));
    // All of them come in the end, one by one.
    for id in 1..=30 {
        remote.says_old(&[Packet::PubRec(ack(id))]);
        remote.says_old(&[Packet::PubComp(ack(id))]);
    }
    assert_eq!((remote.number(BridgeMetric::Delivered), remote.number(BridgeMetric::Queued)), (30, 0));
}

/// Finding Q42: a remote before 5.0 that closes the connection for a message has refused it after ten connections, and is sent the ones after it.
#[test]
fn finding_q42_a_message_that_ends_each_connection_is_refused_in_the_end() {
    let mut remote = Remote::new(&in_memory(), old());
    let device = remote.world.device("d", 0);
    for (id, topic) in (1..).zip(["alarm/large", "alarm/1", "alarm/2", "alarm/3"]) {
        remote.world.bytes(device, &bytes_of(OLD, &qos(QoS::AtLeastOnce, id, topic, "a")));
    }
    assert_eq!(remote.accepts_old().len(), 4);
    for closes in 1..10 {
        remote.cut();
        remote.again();
        let sent = remote.accepts_old();
        assert!(sent[0].contains("alarm/large"), "{closes}: {sent:?}");
        assert_eq!(sent.len(), if closes < 3 { 4 } else { 1 }, "{closes}: {sent:?}");
        assert_eq!(remote.world.told(EventKind::BridgeRefusedMessage), 0);
    }
    remote.cut();
    assert_eq!(remote.world.told(EventKind::BridgeRefusedMessage), 1);
    remote.world.advance(std::time::Duration::from_secs(1));
    remote.again();
    let sent = remote.accepts_old();
    assert_eq!(sent.len(), 3, "{sent:?}");
    for id in 2..=4 {
        remote.says_old(&[Packet::PubAck(ack(id))]);
    }
    let numbers = [BridgeMetric::Delivered, BridgeMetric::Dropped, BridgeMetric::Queued, BridgeMetric::Open];
    assert_eq!(numbers.map(|metric| remote.number(metric)), [3, 1, 0, 0]);
}

/// Finding Q42: a remote that answers in the meantime has refused nothing, and is sent as many as before.
#[test]
fn finding_q42_a_remote_that_answers_has_refused_nothing() {
    let mut remote = Remote::new(&in_memory(), old());
    let device = remote.world.device("d", 0);
    for id in 1..=4 {
        remote.world.bytes(device, &bytes_of(OLD, &qos(QoS::AtLeastOnce, id, "alarm/1", "a")));
    }
    remote.accepts_old();
    for _ in 0..9 {
        remote.cut();
        remote.again();
        remote.accepts_old();
    }
    remote.says_old(&[Packet::PubAck(ack(1))]);
    assert_eq!(remote.hears_old().len(), 3, "the others come on the same connection");
    remote.cut();
    remote.again();
    assert_eq!((remote.accepts_old().len(), remote.world.told(EventKind::BridgeRefusedMessage)), (3, 0));
}

/// Finding Q42: an old connection that ends does not lower the number in flight.
#[test]
fn finding_q42_a_remote_that_restarts_is_sent_as_many_as_before() {
    let mut remote = Remote::new(&in_memory(), old());
    let device = remote.world.device("d", 0);
    for id in 1..=30 {
        remote.world.bytes(device, &bytes_of(OLD, &qos(QoS::ExactlyOnce, id, "alarm/1", "a")));
    }
    assert_eq!(remote.accepts_old().len(), 20);
    for _ in 0..3 {
        remote.world.advance(std::time::Duration::from_secs(30));
        remote.says_old(&[Packet::PingResp]);
    }
    remote.cut();
    remote.again();
    assert_eq!((remote.accepts_old().len(), remote.world.told(EventKind::BridgeOverrun)), (20, 0));
}

/// Finding Q56: a message that is longer than any is taken is answered, passed over and named with its length; the connection stays, and others come.
#[test]
fn finding_q56_a_message_that_is_too_long_is_passed_over() {
    let payload = "x".repeat(3 << 19);
    let long = |of, packet_id| {
        let publish = Publish { qos: of, packet_id, ..message("plant/long", &payload) };
        bytes_of(OLD, &Packet::Publish(publish))
    };
    for (of, piece) in
        [(QoS::AtLeastOnce, 64 << 10), (QoS::ExactlyOnce, 100_000), (QoS::AtMostOnce, 1 << 20), (QoS::AtLeastOnce, 7)]
    {
        let mut remote = Remote::new(&in_memory(), old());
        remote.accepts_old();
        // Its beginning comes byte by byte, and the next message with its end.
        let bytes = [long(of, 7), bytes_of(OLD, &qos(QoS::AtLeastOnce, 8, "plant/1", "short"))].concat();
        let (head, rest) = bytes.split_at(20);
        head.iter().for_each(|byte| remote.world.bytes(remote.conn, &[*byte]));
        rest.chunks(piece.max(rest.len() / 50)).for_each(|piece| remote.world.bytes(remote.conn, piece));
        remote.world.advance(std::time::Duration::from_secs(1));
        let answers = match of {
            QoS::AtMostOnce => vec!["puback 8"],
            QoS::AtLeastOnce => vec!["puback 7", "puback 8"],
            QoS::ExactlyOnce => vec!["pubrec 7", "puback 8"],
        };
        assert_eq!(remote.hears_old(), answers);
        let values: Vec<_> = remote.world.broker.records.iter().map(|(.., value)| value.clone()).collect();
        assert_eq!(values, [b"short"]);
        let numbers = [BridgeMetric::Received, BridgeMetric::Unfit, BridgeMetric::Connected, BridgeMetric::Unsettled];
        assert_eq!(numbers.map(|metric| remote.number(metric)), [1, 1, 1, 0]);
        assert_eq!(remote.world.told(EventKind::BridgeDropped), 1);
        if of == QoS::ExactlyOnce {
            remote.says_old(&[Packet::PubRel(ack(7))]);
            assert_eq!(remote.hears_old(), ["pubcomp 7"]);
        }
    }
}

/// Finding Q56: a remote of 5.0 knows the limit.
#[test]
fn finding_q56_a_remote_of_5_that_ignores_the_maximum_packet_size_is_left() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(true);
    remote.world.bytes(remote.conn, &[0x30, 0x80, 0x80, 0x80, 0x01]);
    assert_eq!((remote.number(BridgeMetric::Connected), remote.number(BridgeMetric::Malformed)), (0, 1));
}
