//! Keys of `[broker]`: messages of clients go through topics of Kafka.

use super::{GIB, Key, MIB, Word, word};
use crate::config::resolved::BrokerRoute;
use crate::config::setting::settings;

/// What decides on the partition of a route's record.
const PARTITION_BY: &[Word] = &[word("topic"), word("client")];

settings! {
    /// `[broker]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Broker in Broker {
        apart kafka = Text, From("the cluster, if there is only one"), shown "\"main\"",
            "NAME of a `[kafka.NAME]`.";
        restart name: String => Text, Is("\"forebay\""),
            "Name of this instance. Its consumer group, `forebay-broker-NAME`, remembers up to where subscribers have the records of the topics; with another name it \
             begins at their end.";
        restart messages: String => Text, Is("\"mqtt-messages\""),
            "Kafka topic of the messages that no `[[broker.route]]` takes. The MQTT topic is the record's key.";
        restart retained: String => Text, Is("\"mqtt-retained\""),
            "Kafka topic of retained messages, compacted: the newest record of a key is the retained message of that MQTT topic.";
        restart sessions: String => Text, Is("\"mqtt-sessions\""),
            "Kafka topic of kept sessions and of the messages that wait for them, compacted. One instance has it at a time: one that starts takes it over, and the one before it ends.";
        restart sessions_bytes_max: u64 = Size { min: 16 * MIB, max: 64 * GIB }, Is("\"256MiB\""),
            "Maximum size of what that topic holds, divided equally among the shards. An instance has it in memory, too, and reads it at a start. Beyond it no more sessions \
             are kept, and messages for kept sessions are dropped and counted.";
        restart create_topics: bool = Flag, Is("true"),
            "Whether missing topics are created. If false, the start waits for them.";
        restart partitions: u16 = Integer { min: 1, max: 10_000 }, Is("16"),
            "Partitions of the topics that are created.";
        restart replicas: u16 = Integer { min: 1, max: 100 }, Is("3"),
            "Replicas of the topics that are created, or as many as there are brokers, if these are fewer.";
        restart qos: u16 = Integer { min: 0, max: 2 }, Is("1"),
            "QoS of a record without the header `mqtt-qos`, as other programs write it.";
    }
    and {
        /// Index into [`crate::config::Config::clusters`].
        cluster: usize,
        /// The routes, in the order of the file.
        routes: Vec<BrokerRoute>,
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
