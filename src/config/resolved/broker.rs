//! Values of the keys of `[broker]`.

use crate::rule::record::RecordTemplate;

/// `[[broker.route]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRoute {
    /// Topic filters of the messages that it takes, if no route before it does.
    pub filters: Vec<String>,
    /// The Kafka topic.
    pub topic: String,
    /// Whether the publisher decides on the partition, and not the MQTT topic.
    pub by_client: bool,
    /// The MQTT topic of its records.
    pub mqtt_topic: RecordTemplate,
}
