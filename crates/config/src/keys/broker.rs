//! Keys of `[broker]`: messages of clients go through topics of Kafka.

use std::time::Duration;

use super::{GIB, Key, MIB, Word, s, word, yes};
use crate::resolved::{BrokerLink, BrokerRoute};
use crate::setting::settings;

/// The input for the partition of a route's record.
const PARTITION_BY: &[Word] = &[word("topic"), word("client")];

/// Whether a client of MQTT 5.0 is told which instance serves it.
const REDIRECT: &[Word] = &[word("never"), yes("v5")];

settings! {
    /// `[broker]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Broker in Broker {
        apart kafka = Text, From("the cluster, if there is only one"), shown "\"main\"",
            "NAME of a `[kafka.NAME]`.";
        restart name: String => Text, Is("\"forebay\""),
            "Name of this instance. Its consumer group, `forebay-broker-NAME`, or `forebay-broker-NAME@SESSIONS` where `sessions` is not `mqtt-sessions`, remembers up to where \
             subscribers have the records of the topics; with another name it begins at their end. With `[broker.link]` each instance needs a name of its own.";
        restart messages: String => Text, Is("\"mqtt-messages\""),
            "Kafka topic of the messages that no `[[broker.route]]` takes. The MQTT topic is the record's key.";
        restart retained: String => Text, Is("\"mqtt-retained\""),
            "Kafka topic of retained messages, compacted: the newest record of a key is the retained message of that MQTT topic.";
        restart sessions: String => Text, Is("\"mqtt-sessions\""),
            "Kafka topic of kept sessions and of the messages that wait for them, compacted. Without `[broker.link]` one instance has it at a time: one that starts takes it over, and the one before \
             it ends.";
        restart sessions_bytes_max: u64 = Size { min: 512 * MIB, max: 64 * GIB }, Is("\"1GiB\""),
            "Maximum size of what that topic holds, divided equally among its 64 partitions. An instance has it in memory, too, and reads it at a start. Beyond it no more sessions \
             are kept, and messages for kept sessions are dropped and counted.";
        restart create_topics: bool = Flag, Is("true"),
            "Whether missing topics are created. If false, the start waits for them.";
        restart partitions: u16 = Integer { min: 1, max: 10_000 }, Is("16"),
            "Partitions of the topics that are created.";
        restart replicas: u16 = Integer { min: 1, max: 100 }, Is("3"),
            "Replicas of the topics that are created, or as many as there are brokers, if these are fewer.";
        restart qos: u16 = Integer { min: 0, max: 2 }, Is("1"),
            "QoS of a record without the header `mqtt-qos`, as other programs write it.";
        restart server: Option<String> => Text, From("none"), shown "\"mqtt-1.example:1883\"",
            "With `[broker.link]`: where clients find this instance, `HOST:PORT`. Others tell it to clients of MQTT 5.0 that this instance serves.";
        restart redirect as redirects: bool => Word(REDIRECT), From("`\"v5\"` with `server`, otherwise `\"never\"`"), shown "\"never\"",
            "With `[broker.link]`: whether clients of MQTT 5.0 that another instance serves are told to connect there (0x9C), once a minute, or relayed as all others are.";
        restart session_timeout: Duration = Duration { min: s(6), max: s(300) }, Is("\"12s\""),
            "With `[broker.link]`: the other instances take over what this one serves when Kafka has heard nothing of it for this long. A second before, it says nothing more.";
    }
    and {
        /// The link between several instances of this broker; `None`: there is only this instance.
        link: Option<BrokerLink>,
        /// Index into [`crate::Config::clusters`].
        cluster: usize,
        /// The routes, in the order of the file.
        routes: Vec<BrokerRoute>,
        /// Bytes of a segment of a log of sessions, for tests; 0: as many as go with `sessions_bytes_max`.
        segment_bytes: u64,
        /// Slots, for tests; 0: [`forebay_base::limits::SLOTS`].
        test_slots: u16,
    }
}

pub(super) const ROUTE: &[Key] = keys! {
    BrokerRoute.filters: TextList, Required, shown "[\"place/+/device/#\"]",
        "Topic filters. A message goes to the first route with a filter that matches.";
    BrokerRoute.topic: Text, Required, shown "\"mqtt-devices\"",
        "Kafka topic; each route has its own.";
    BrokerRoute.partition_by: Word(PARTITION_BY), Is("\"topic\""),
        "What decides on the partition of a record, and so on what stays in order. `\"topic\"`: the MQTT topic. `\"client\"`: the publisher.";
    BrokerRoute.mqtt_topic: Template, Is("\"${key}\""), shown "\"place/${key}\"",
        "MQTT topic of the records, a [template](SOURCES.md#templates). What clients publish has its MQTT topic as the key.";
};

pub(super) const LINK: &[Key] = keys! {
    BrokerLink.bind: Address, Required, shown "\"10.0.0.1:1885\"",
        "Address that the other instances connect to, for clients that this one serves.";
    BrokerLink.address: Text, From("`bind`"), shown "\"10.0.0.1:1885\"",
        "Where they find it, `HOST:PORT`; without TLS `HOST` must be an IP address.";
    BrokerLink.cert_file: Text, From("no TLS"), shown "\"/etc/forebay/link.pem\"",
        "Certificate of this instance, for its host in `address`, as a server and a client. Without it everyone may connect who has the IP address of an instance, local users of its machine too, and so be any client; and nothing is encrypted.";
    BrokerLink.key_file: Text, From("no TLS"), shown "\"/etc/forebay/link.key\"",
        "Private key of that certificate, without a passphrase.";
    BrokerLink.ca_file: Text, From("no TLS"), shown "\"/etc/forebay/link-ca.pem\"",
        "CAs of the certificates of all instances: who has one of theirs may say which client it connects for.";
};
